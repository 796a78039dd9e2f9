//! Earthquakes: read from a file, and counted by the network of seismometers that saw them.
//!
//! It owns the layout of the file and the table at the end. It knows nothing of Kafka. Invariant: a row becomes an
//! event or a problem with its line, never nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Failure, grouped};

/// A row of the file, and the value of a record. What a row leaves empty is `None`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the file")]
pub struct Earthquake {
    pub time_ms: i64,
    pub id: String,
    pub network: String,
    pub magnitude: Option<f64>,
    pub magnitude_type: Option<String>,
    pub depth_km: Option<f64>,
    pub longitude: Option<f64>,
    pub latitude: Option<f64>,
    pub significance: Option<i64>,
    pub felt: Option<i64>,
    pub tsunami: Option<i64>,
    pub status: Option<String>,
    pub place: Option<String>,
}

/// The events of a file, and what is wrong with the rows that are none.
///
/// # Errors
/// A file that cannot be read.
pub fn read(path: impl AsRef<Path>) -> Result<(Vec<Earthquake>, Vec<String>), Failure> {
    let path = path.as_ref();
    let name = path.display();
    let mut reader = csv::Reader::from_path(path).map_err(|cause| format!("{name}: {cause}"))?;
    let (mut events, mut problems) = (Vec::new(), Vec::new());
    for row in reader.deserialize() {
        match row {
            Ok(event) => events.push(event),
            Err(cause) if cause.is_io_error() => return Err(format!("{name}: {cause}").into()),
            Err(cause) => problems.push(format!("{name}: {cause}")),
        }
    }
    Ok((events, problems))
}

/// How many events each network has, and the strongest of them. Printed, it is a table.
#[derive(Debug, Default)]
pub struct Networks(BTreeMap<String, Network>);

#[derive(Debug, Default)]
struct Network {
    events: u64,
    magnitude: Option<f64>,
    place: Option<String>,
}

impl Networks {
    /// Counts an event.
    pub fn add(&mut self, event: Earthquake) {
        self.count(event.network, Network { events: 1, magnitude: event.magnitude, place: event.place });
    }

    /// Counts what somebody else has counted.
    pub fn merge(&mut self, other: Networks) {
        other.0.into_iter().for_each(|(name, network)| self.count(name, network));
    }

    fn count(&mut self, name: String, other: Network) {
        let network = self.0.entry(name).or_default();
        network.events += other.events;
        if other.magnitude > network.magnitude {
            (network.magnitude, network.place) = (other.magnitude, other.place);
        }
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<_> = self.0.iter().collect();
        rows.sort_by_key(|(_, network)| std::cmp::Reverse(network.events));
        writeln!(f, "network     events  strongest")?;
        for (name, Network { events, magnitude, place }) in rows {
            let magnitude = magnitude.map_or_else(String::new, |magnitude| format!("{magnitude:.1}"));
            let place = place.as_deref().unwrap_or_default();
            writeln!(f, "{name:<7} {:>10}  {magnitude:>4}  {place}", grouped(*events))?;
        }
        Ok(())
    }
}
