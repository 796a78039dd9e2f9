//! Transactions of two phases (KIP-939): prepared by one producer, decided elsewhere, ended by whoever is there then.

use super::transactions::{Told, fill, judge};
use crate::backend::Backend;
use crate::random::Random;
use crate::{Failure, ensure, fail};
use ottla::{ErrorKind, PreparedState, ProducerBuilder, TransactionalProducer};
use std::time::Duration;

/// S6 while connections break, coordinators move and producers are lost with their transactions prepared or still open: what was
/// decided is what is seen. Brokers that have no such transactions say so.
pub(super) async fn prepared_transactions_end_as_they_were_decided(backend: &Backend) -> Result<(), Failure> {
    backend.set_transaction_version(2)?;
    let name = backend.topic("prepared", backend.random("partitions").choose(&[1, 3])).await?;
    let group = backend.group("reader");
    let id = backend.unique("tx");
    let client = backend.client().build()?;
    let builder = client.producer().linger(Duration::from_millis(5)).batch_size(600);
    let builder = builder.transactional_id(&id).two_phase_commit(true).max_block(Duration::from_secs(20));
    let Some(mut producer) = recover(backend, &builder, None).await? else { return Ok(()) };
    let mut random = backend.random("transactions");
    let mut told: Vec<Told> = Vec::new();
    let trouble = backend.trouble(&name);
    for number in 0..backend.scale(8) {
        let (end, decided) = transact(backend, &mut producer, (&name, &group), number, &mut random).await?;
        told.extend(end.map(|mut end| {
            end.committed = Some(decided.is_some());
            end
        }));
        // Whatever is still to be done for it, this producer does, or the next one.
        if random.percent(60) || !completes(&mut producer, decided).await? {
            drop(producer);
            let Some(next) = recover(backend, &builder, decided).await? else {
                fail!("brokers that had two phases have them no more")
            };
            producer = next;
        }
    }
    trouble.end().await?;
    producer.close(Duration::from_secs(30)).await;
    judge(backend, &name, &group, &told).await
}

/// Another producer, which ends what the one before has left. `None` if the brokers cannot.
async fn recover(
    backend: &Backend,
    builder: &ProducerBuilder,
    decided: Option<PreparedState>,
) -> Result<Option<TransactionalProducer>, Failure> {
    loop {
        let mut producer = builder.clone().build_recovering()?;
        backend.watch(producer.probe());
        match complete(&mut producer, decided).await {
            Ok(()) => return Ok(Some(producer)),
            Err(error) if error.kind() == ErrorKind::UnsupportedVersion => {
                ensure!(error.is_fatal(), "the producer is of no use, and does not say so: {error}");
                ensure!(error.to_string().contains("transactional id"), "does not say of whom: {error}");
                backend.tell(format_args!("not served: {error}"));
                return Ok(None);
            }
            Err(error) => is_fenced(&error)?,
        }
    }
}

/// A producer that is lost may still have had its name asked for, and that fences the next one when it arrives late.
fn is_fenced(error: &ottla::Error) -> Result<(), Failure> {
    ensure!(error.kind() == ErrorKind::Fenced, "a prepared transaction failed with {error}");
    Ok(())
}

/// Commits what is prepared if that was decided, and aborts it if not.
async fn complete(
    producer: &mut TransactionalProducer,
    decided: Option<PreparedState>,
) -> Result<(), ottla::Error> {
    loop {
        let completed = match producer.prepared().await {
            Ok(None) => return Ok(()),
            Ok(Some(prepared)) => match decided {
                Some(decided) => prepared.complete(decided).await.map(|_| ()),
                None => prepared.abort().await,
            },
            Err(error) => Err(error),
        };
        match completed {
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::CommitUnknown) => {}
            completed => completed?,
        }
    }
}

/// As [`complete`]; false if the producer is of no more use.
async fn completes(
    producer: &mut TransactionalProducer,
    decided: Option<PreparedState>,
) -> Result<bool, Failure> {
    let completed = complete(producer, decided).await;
    completed.map(|()| true).or_else(|error| is_fenced(&error).map(|()| false))
}

/// One transaction up to its decision, if it could begin: its state if it is to be committed.
async fn transact(
    backend: &Backend,
    producer: &mut TransactionalProducer,
    places: (&str, &str),
    writer: u32,
    random: &mut Random,
) -> Result<(Option<Told>, Option<PreparedState>), Failure> {
    let transaction = loop {
        match producer.begin().await {
            Ok(transaction) => break transaction,
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::CommitUnknown) => {}
            Err(error) => return is_fenced(&error).map(|()| (None, None)),
        }
    };
    let (told, fine) = fill(backend, &transaction, places, writer, random).await?;
    if random.percent(20) {
        // Lost while it is open, or while it is being prepared.
        let patience = Duration::from_millis(random.below(50));
        let _ = tokio::time::timeout(patience, transaction.prepare()).await;
        // One that got that far is found again, and nothing was decided about it.
        return Ok((Some(told), None));
    }
    let prepared = match transaction.prepare().await {
        Ok(prepared) => prepared,
        Err(error) => {
            if error.kind() != ErrorKind::Aborted {
                is_fenced(&error)?;
            }
            return Ok((Some(told), None));
        }
    };
    ensure!(fine, "a transaction was prepared although a part of it had failed (S6)");
    let decided = random.percent(70).then(|| prepared.state());
    backend.tell(format_args!(
        "transaction {writer} is prepared as {}, and decided {decided:?}",
        prepared.state()
    ));
    if random.percent(50) {
        let ended = match decided {
            Some(_) => prepared.commit().await,
            None => prepared.abort().await,
        };
        match ended {
            Err(error) if error.kind() != ErrorKind::CommitUnknown => is_fenced(&error)?,
            _ => {}
        }
    }
    Ok((Some(told), decided))
}
