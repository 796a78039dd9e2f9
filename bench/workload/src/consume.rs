//! What a consumer has read, and how fast.
//!
//! The rate counts from the first record, so that one client's slow start does not hide its speed; processor time counts
//! from before the assignment.

use std::time::Instant;

use serde_json::json;

use crate::{Meter, Settings, fold};

/// Counts and checks records as they arrive.
#[derive(Default)]
pub struct Tally {
    records: u64,
    sum: u64,
    first: Option<Instant>,
}

impl Tally {
    /// How many records have arrived.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Takes one more value into account.
    #[inline]
    pub fn add(&mut self, value: &[u8]) {
        if self.records == 0 {
            self.first = Some(Instant::now());
        }
        self.records += 1;
        self.sum ^= fold(value);
    }

    /// Prints what the records cost.
    pub fn report(self, settings: &Settings, meter: Meter) {
        let seconds = self.first.map_or(f64::NAN, |first| first.elapsed().as_secs_f64());
        let more = vec![
            ("stream_per_s", json!(self.records as f64 / seconds)),
            ("checksum", json!(format!("{:016x}", self.sum))),
        ];
        meter.report(settings, self.records, 0, more);
    }
}
