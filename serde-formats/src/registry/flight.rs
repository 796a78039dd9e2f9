//! A cache that fetches what it lacks, once however many ask.
//!
//! It owns the number of its entries and the order in which they go. It refuses to know what it keeps. Invariant: an error is told to
//! all that have waited for it, and never kept.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::OnceCell;

use super::error::RegistryError;

/// One fetch. Whoever came first does it; if that task is dropped, the next that waits goes on in its place.
type Flight<V> = Arc<OnceCell<Result<V, RegistryError>>>;

pub(super) struct Flights<K, V> {
    most: usize,
    known: RwLock<Known<K, V>>,
}

struct Known<K, V> {
    flights: HashMap<K, Flight<V>>,
    order: VecDeque<K>,
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    pub(super) fn new(most: usize) -> Self {
        let known = RwLock::new(Known { flights: HashMap::new(), order: VecDeque::new() });
        Self { most: most.max(1), known }
    }

    /// What is known of a key. Never waits.
    pub(super) fn peek(&self, key: &K) -> Option<V> {
        self.known.read().flights.get(key)?.get()?.as_ref().ok().cloned()
    }

    /// What is known of a key, or what `fetch` brings.
    pub(super) async fn get<F>(&self, key: K, fetch: impl FnOnce() -> F) -> Result<V, RegistryError>
    where
        F: Future<Output = Result<V, RegistryError>>,
    {
        let flight = self.flight(&key);
        let result = flight.get_or_init(fetch).await.clone();
        if result.is_err() {
            self.forget(&key, &flight);
        }
        result
    }

    fn flight(&self, key: &K) -> Flight<V> {
        if let Some(flight) = self.known.read().flights.get(key) {
            return flight.clone();
        }
        let mut known = self.known.write();
        if let Some(flight) = known.flights.get(key) {
            return flight.clone();
        }
        if known.flights.len() >= self.most
            && let Some(oldest) = known.order.pop_front()
        {
            known.flights.remove(&oldest);
        }
        known.order.push_back(key.clone());
        known.flights.entry(key.clone()).or_default().clone()
    }

    fn forget(&self, key: &K, flight: &Flight<V>) {
        let mut known = self.known.write();
        if known.flights.get(key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            known.flights.remove(key);
            known.order.retain(|other| other != key);
        }
    }
}
