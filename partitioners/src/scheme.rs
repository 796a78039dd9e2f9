//! The partitioners of other clients by name, so that a migrated program keeps its keys where they are.
//!
//! A scheme is two facts: which hash a key goes through, and whether a record without a key, or with an empty one, is
//! hashed as well or free to go anywhere. Where a free record goes no consumer can rely on, so that part is not imitated:
//! but for round robin, free records are spread by [`Sticky`]. Invariant: a scheme's placement of keys never changes.

use std::sync::Arc;

use crate::{RoundRobin, Sticky, TopicView, crc32, fnv1a, kafkajs, murmur2};

/// How a producer places records that name no partition.
///
/// A partitioner that differs from that of the other writers of a topic breaks the order of keys and log compaction
/// without any error, and so does changing it on a topic that has records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// The default of the Java client, franz-go and kafka-python: murmur2; records without a key are free.
    #[default]
    Java,
    /// The Java client with `partitioner.ignore.keys`: all records are free.
    JavaIgnoreKeys,
    /// Java's `RoundRobinPartitioner`: all records are free, one to each partition in turn.
    RoundRobin,
    /// librdkafka's `random`: all records are free.
    LibrdkafkaRandom,
    /// librdkafka's `consistent`: CRC-32; a record without a key goes where the empty key does.
    LibrdkafkaConsistent,
    /// librdkafka's default, `consistent_random`: CRC-32; records without a key or with an empty one are free.
    LibrdkafkaConsistentRandom,
    /// librdkafka's `murmur2`: murmur2; a record without a key goes where the empty key does.
    LibrdkafkaMurmur2,
    /// librdkafka's `murmur2_random`, the same as [`Scheme::Java`].
    LibrdkafkaMurmur2Random,
    /// librdkafka's `fnv1a`: FNV-1a; a record without a key goes where the empty key does.
    LibrdkafkaFnv1a,
    /// librdkafka's `fnv1a_random`, the same as [`Scheme::Sarama`].
    LibrdkafkaFnv1aRandom,
    /// The default of kafkajs since 2.0, the same as [`Scheme::Java`].
    KafkaJs,
    /// The default of kafkajs before 2.0, its `LegacyPartitioner` since: a murmur2 of its own; records without a key are free.
    KafkaJsLegacy,
    /// Sarama's `NewHashPartitioner`: FNV-1a by its absolute value; records without a key are free.
    Sarama,
    /// Sarama's `NewReferenceHashPartitioner`: FNV-1a without its sign bit; records without a key are free.
    SaramaReference,
}

/// Values that configurations hold: librdkafka's for `partitioner`, Java's for `partitioner.class`.
const NAMES: [(&str, Scheme); 10] = [
    ("random", Scheme::LibrdkafkaRandom),
    ("consistent", Scheme::LibrdkafkaConsistent),
    ("consistent_random", Scheme::LibrdkafkaConsistentRandom),
    ("murmur2", Scheme::LibrdkafkaMurmur2),
    ("murmur2_random", Scheme::LibrdkafkaMurmur2Random),
    ("fnv1a", Scheme::LibrdkafkaFnv1a),
    ("fnv1a_random", Scheme::LibrdkafkaFnv1aRandom),
    ("org.apache.kafka.clients.producer.RoundRobinPartitioner", Scheme::RoundRobin),
    ("org.apache.kafka.clients.producer.UniformStickyPartitioner", Scheme::JavaIgnoreKeys),
    ("org.apache.kafka.clients.producer.internals.DefaultPartitioner", Scheme::Java),
];

impl Scheme {
    /// The scheme that a value of librdkafka's `partitioner` or Java's `partitioner.class` names.
    ///
    /// ```
    /// use ottla_partitioners::Scheme;
    ///
    /// assert_eq!(Scheme::named("consistent_random"), Some(Scheme::LibrdkafkaConsistentRandom));
    /// assert_eq!(Scheme::named("org.apache.kafka.clients.producer.RoundRobinPartitioner"), Some(Scheme::RoundRobin));
    /// assert_eq!(Scheme::named("murmur3"), None);
    /// ```
    pub fn named(name: &str) -> Option<Scheme> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, scheme)| *scheme)
    }

    /// All that [`Scheme::named`] understands.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// The partition of a record with this key, or None when the record may go anywhere.
    ///
    /// An empty key is not the same as none. Equal keys have equal partitions as long as the topic's number of
    /// partitions stays.
    pub fn keyed(self, key: Option<&[u8]>, partitions: i32) -> Option<i32> {
        let place: fn(&[u8], i32) -> i32 = match self {
            Scheme::JavaIgnoreKeys | Scheme::RoundRobin | Scheme::LibrdkafkaRandom => return None,
            Scheme::Java | Scheme::LibrdkafkaMurmur2 | Scheme::LibrdkafkaMurmur2Random | Scheme::KafkaJs => {
                murmur2::keyed
            }
            Scheme::LibrdkafkaConsistent | Scheme::LibrdkafkaConsistentRandom => crc32::keyed,
            Scheme::LibrdkafkaFnv1a | Scheme::LibrdkafkaFnv1aRandom | Scheme::Sarama => fnv1a::keyed,
            Scheme::SaramaReference => fnv1a::reference_keyed,
            Scheme::KafkaJsLegacy => kafkajs::keyed,
        };
        let key = match self {
            Scheme::LibrdkafkaConsistent | Scheme::LibrdkafkaMurmur2 | Scheme::LibrdkafkaFnv1a => {
                key.unwrap_or_default()
            }
            Scheme::LibrdkafkaConsistentRandom => key.filter(|key| !key.is_empty())?,
            _ => key?,
        };
        Some(place(key, partitions))
    }

    /// What one topic needs to place the records that are free. `batch_bytes` is the producer's `batch.size`, `adaptive`
    /// its `partitioner.adaptive.partitioning.enable`.
    pub fn spread(self, batch_bytes: usize, adaptive: bool) -> Spread {
        match self {
            Scheme::RoundRobin => Spread::RoundRobin(RoundRobin::default()),
            _ => Spread::Sticky(Sticky::new(batch_bytes).adaptive(adaptive)),
        }
    }
}

/// Where the free records of one topic go: its methods are those of [`Sticky`], and round robin has no stays.
///
/// ```
/// use ottla_partitioners::{PartitionView, Scheme, TopicView};
///
/// let partitions = [0, 1].map(|id| PartitionView { id, leader: Some(1), ..Default::default() });
/// let topic = TopicView { name: "orders", partitions: &partitions };
/// let mut spread = Scheme::Java.spread(16_384, true);
/// let random = 42; // from the producer's random source
///
/// let partition = spread.current().unwrap_or_else(|| spread.choose(&topic, random));
/// spread.produced(40_000);
/// assert_eq!((partition, spread.current()), (0, None));
/// ```
#[derive(Clone, Debug)]
pub enum Spread {
    /// Batch by batch.
    Sticky(Sticky),
    /// Record by record.
    RoundRobin(RoundRobin),
}

impl Spread {
    /// Prefers partitions whose leader is in this rack, as [`Sticky::rack`] does; round robin leaves none out.
    pub fn rack(self, rack: Option<Arc<str>>) -> Spread {
        match self {
            Spread::Sticky(sticky) => Spread::Sticky(sticky.rack(rack)),
            Spread::RoundRobin(turn) => Spread::RoundRobin(turn),
        }
    }

    /// The partition for the next record, or None when one has to be chosen.
    pub fn current(&self) -> Option<i32> {
        match self {
            Spread::Sticky(sticky) => sticky.current(),
            Spread::RoundRobin(_) => None,
        }
    }

    /// Chooses the partition for the next record.
    pub fn choose(&mut self, topic: &TopicView<'_>, random: u64) -> i32 {
        match self {
            Spread::Sticky(sticky) => sticky.choose(topic, random),
            Spread::RoundRobin(turn) => turn.choose(topic),
        }
    }

    /// Counts a record appended where [`current`](Self::current) or [`choose`](Self::choose) said.
    pub fn produced(&mut self, bytes: usize) {
        if let Spread::Sticky(sticky) = self {
            sticky.produced(bytes);
        }
    }

    /// Says that a batch of `partition` takes no more records, and whether the next record did not fit into it.
    pub fn batch_sealed(&mut self, partition: i32, full: bool) {
        if let Spread::Sticky(sticky) = self {
            sticky.batch_sealed(partition, full);
        }
    }

    /// Leaves `partition`, for example because it lost its leader.
    pub fn leave(&mut self, partition: i32) {
        if let Spread::Sticky(sticky) = self {
            sticky.leave(partition);
        }
    }
}
