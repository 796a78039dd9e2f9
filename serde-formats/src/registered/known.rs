//! What a format knows already of topics and schemas.
//!
//! It owns how much of it is kept. Reading takes a lock that readers share. Invariant: that a schema does not exist is believed for
//! [`ABSENT_FOR`] and no longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla::format::Part;
use parking_lot::RwLock;

use super::Writing;
use super::frame::Named;

/// How long a schema that does not exist is not asked for again.
const ABSENT_FOR: Duration = Duration::from_secs(60);
/// Topics of keys or of values, and schemas; when there are more, all are asked for again.
const KEPT_MAX: usize = 1_000;

pub(super) struct Known<C> {
    keys: RwLock<HashMap<String, Arc<Writing<C>>>>,
    values: RwLock<HashMap<String, Arc<Writing<C>>>>,
    read: RwLock<HashMap<Named, Found<C>>>,
}

/// A schema that can be read, or why not.
type Codec<C> = Arc<Result<C, String>>;

struct Found<C> {
    codec: Codec<C>,
    since: Instant,
}

impl<C> Default for Known<C> {
    fn default() -> Self {
        Self { keys: RwLock::default(), values: RwLock::default(), read: RwLock::default() }
    }
}

impl<C> Known<C> {
    fn topics(&self, part: Part) -> &RwLock<HashMap<String, Arc<Writing<C>>>> {
        match part {
            Part::Key => &self.keys,
            Part::Value => &self.values,
        }
    }

    pub(super) fn writing(&self, topic: &str, part: Part) -> Option<Arc<Writing<C>>> {
        self.topics(part).read().get(topic).cloned()
    }

    pub(super) fn write(&self, topic: String, part: Part, writing: Writing<C>) {
        let mut topics = self.topics(part).write();
        if topics.len() >= KEPT_MAX {
            topics.clear();
        }
        topics.insert(topic, Arc::new(writing));
    }

    pub(super) fn reading(&self, named: Named) -> Option<Codec<C>> {
        let read = self.read.read();
        let found = read.get(&named)?;
        (found.codec.is_ok() || found.since.elapsed() < ABSENT_FOR).then(|| found.codec.clone())
    }

    pub(super) fn read(&self, named: Named, codec: Result<C, String>) {
        let mut read = self.read.write();
        if read.len() >= KEPT_MAX {
            read.clear();
        }
        read.insert(named, Found { codec: Arc::new(codec), since: Instant::now() });
    }
}
