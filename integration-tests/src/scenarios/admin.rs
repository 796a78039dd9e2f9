//! The admin client: what it says agrees with what the others did.

use crate::backend::Backend;
use crate::checks::History;
use crate::traffic::{read, write};
use crate::{Failure, ensure, fail};
use ottla::{ErrorCode, ErrorKind, IsolationLevel, NewTopic, OffsetReset, OffsetSpec, When};
use std::time::Duration;

const CLOSE: Duration = Duration::from_secs(30);

/// Create, see, measure, delete; what is there already and what is not there are errors that say so.
pub(super) async fn topics_are_created_described_and_deleted(backend: &Backend) -> Result<(), Failure> {
    let client = backend.client().build()?;
    let admin = client.admin();
    let cluster = admin.describe_cluster().await?;
    ensure!(!cluster.nodes.is_empty(), "a cluster without nodes");

    let name = backend.unique("admin");
    admin.create_topics([NewTopic::new(&name).partitions(3)]).await.all()?;
    let again = admin.create_topics([NewTopic::new(&name).partitions(3)]).await.take(&name);
    let Err(error) = again else { fail!("{name} was created twice") };
    ensure!(error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS), "{error}");
    let described = admin.describe_topics([&name]).await.take(&name)?;
    ensure!(described.partitions.len() == 3, "{} partitions", described.partitions.len());

    let (history, group) = (History::default(), backend.group("admin"));
    let producer = client.producer().build()?;
    write(backend, &producer.topic(&name), &history, 0, 0..60).await?;
    producer.close(CLOSE).await;
    let mut consumer = client.consumer().group(&group).subscribe([&name]).build()?;
    read(backend, &mut consumer, &history, 0, || history.received_ids().len() == 60).await?;
    consumer.close(CLOSE).await?;

    let log = backend.log(&name).await?;
    let places = described.topic_partitions();
    let ends = admin.list_offsets(places, OffsetSpec::Latest, IsolationLevel::ReadUncommitted).await.all()?;
    let committed = admin.committed_offsets(&group).await?;
    for (partition, logged) in &log {
        let (place, end) = ((name.clone(), *partition), logged.last().map_or(0, |last| last.offset + 1));
        let listed = ends.get(&place).and_then(|listed| listed.offset);
        ensure!(listed == Some(end), "{partition} ends at {end}, listed is {listed:?}");
        let found = committed.get(&place).map(|committed| committed.offset);
        ensure!(end == 0 || found == Some(end), "{partition} was read to {end}, committed is {found:?}");
    }

    admin.delete_topics([&name]).await.all()?;
    let Err(error) = admin.delete_topics([&name]).await.take(&name) else {
        fail!("{name} was deleted twice")
    };
    ensure!(error.kind() == ErrorKind::UnknownTopic, "{error}");
    ensure!(error.to_string().contains(&name), "the topic is not in {error}");
    Ok(())
}

/// A group is led to other offsets while it has no members, and is left alone while it has some.
pub(super) async fn a_group_is_led_to_other_offsets(backend: &Backend) -> Result<(), Failure> {
    let (topic, group) = (backend.topic("reset", 1).await?, backend.group("reset"));
    let client = backend.client().build()?;
    let producer = client.producer().build()?;
    write(backend, &producer.topic(&topic), &History::default(), 0, 0..20).await?;
    producer.close(CLOSE).await;
    let (admin, partition) = (client.admin(), (topic.clone(), 0));
    let steps = [
        (OffsetReset::Latest, 20),
        (OffsetReset::Shift(-5), 15),
        (OffsetReset::To(3), 3),
        (OffsetReset::Earliest, 0),
    ];
    for (to, expected) in steps {
        let reset = admin.reset_offsets(&group, [partition.clone()], to).await.take(&partition)?;
        ensure!(reset == expected, "{to:?} led to {reset}");
        if expected == 20 {
            continue;
        }
        let mut consumer =
            client.consumer().group(&group).subscribe([&topic]).commit_when(When::Manual).build()?;
        let first = consumer.recv().await?.map(|record| record.offset());
        ensure!(first == Some(expected), "{to:?}: {first:?} came first");
        let refused = admin.alter_offsets(&group, [(&topic, 0, 1)]).await.take(&partition);
        let kind = refused.err().map(|error| error.kind());
        ensure!(kind == Some(ErrorKind::Superseded), "a group was moved under its members: {kind:?}");
        consumer.close(CLOSE).await?;
    }
    Ok(())
}
