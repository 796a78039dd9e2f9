//! Every scheme puts every key where the client that it is named after puts it (F28).

use ottla_partitioners::{Scheme, crc32, fnv1a, kafkajs, murmur2};

const PARTITIONS: i32 = 97;

/// A key and, by column, what other clients make of it.
struct Row {
    key: Vec<u8>,
    numbers: Vec<i32>,
}

const JAVA_HASH: usize = 0;
const KAFKAJS_LEGACY_HASH: usize = 5;

/// Each scheme beside the column that a client of that name filled.
const COLUMNS: [(Scheme, usize); 12] = [
    (Scheme::Java, 1),
    (Scheme::LibrdkafkaConsistent, 2),
    (Scheme::LibrdkafkaConsistentRandom, 2),
    (Scheme::LibrdkafkaMurmur2, 3),
    (Scheme::LibrdkafkaMurmur2Random, 3),
    (Scheme::LibrdkafkaFnv1a, 4),
    (Scheme::LibrdkafkaFnv1aRandom, 4),
    (Scheme::KafkaJsLegacy, 6),
    (Scheme::KafkaJs, 7),
    (Scheme::Sarama, 8),
    (Scheme::SaramaReference, 9),
    (Scheme::LibrdkafkaConsistent, 10),
];

fn rows() -> Vec<Row> {
    let lines = include_str!("placements.tsv").lines().filter(|line| !line.starts_with('#'));
    let rows: Vec<Row> = lines.map(row).collect();
    assert_eq!(rows.len(), 122);
    rows
}

fn row(line: &str) -> Row {
    let (key, numbers) = line.split_once('\t').expect("a key and its numbers");
    let byte = |place| u8::from_str_radix(&key[place..place + 2], 16).expect("two hexadecimal digits");
    let numbers: Vec<i32> = numbers.split('\t').map(|number| number.parse().expect("a number")).collect();
    assert_eq!(numbers.len(), 11);
    Row { key: (0..key.len()).step_by(2).map(byte).collect(), numbers }
}

#[test]
fn keys_are_placed_where_the_named_client_places_them() {
    for row in rows() {
        for (scheme, column) in COLUMNS {
            // Only this scheme has no place for an empty key: librdkafka's hash does, its producer does not ask it.
            if scheme == Scheme::LibrdkafkaConsistentRandom && row.key.is_empty() {
                continue;
            }
            let expected = Some(row.numbers[column]);
            assert_eq!(scheme.keyed(Some(&row.key), PARTITIONS), expected, "{scheme:?} of {:02x?}", row.key);
        }
    }
}

#[test]
fn hashes_have_the_bits_that_java_and_kafkajs_print() {
    for row in rows() {
        assert_eq!(murmur2::hash(&row.key).cast_signed(), row.numbers[JAVA_HASH], "{:02x?}", row.key);
        assert_eq!(
            kafkajs::hash(&row.key).cast_signed(),
            row.numbers[KAFKAJS_LEGACY_HASH],
            "{:02x?}",
            row.key
        );
    }
}

#[test]
fn murmur2_has_the_values_of_the_tests_of_apache_kafka() {
    let values = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    for (key, hash) in values {
        assert_eq!(murmur2::hash(key.as_bytes()).cast_signed(), hash, "{key}");
    }
}

/// Where a record without a key and one with an empty key go; None is anywhere.
fn check_no_key(scheme: Scheme, without: Option<i32>, empty: Option<i32>) {
    assert_eq!(scheme.keyed(None, PARTITIONS), without, "{scheme:?} without a key");
    assert_eq!(scheme.keyed(Some(b""), PARTITIONS), empty, "{scheme:?} with an empty key");
}

#[test]
fn an_empty_key_is_not_the_same_as_no_key() {
    check_no_key(Scheme::Java, None, Some(35));
    check_no_key(Scheme::KafkaJs, None, Some(35));
    check_no_key(Scheme::KafkaJsLegacy, None, Some(38));
    check_no_key(Scheme::LibrdkafkaMurmur2Random, None, Some(35));
    check_no_key(Scheme::LibrdkafkaFnv1aRandom, None, Some(68));
    check_no_key(Scheme::Sarama, None, Some(68));
    check_no_key(Scheme::SaramaReference, None, Some(95));
}

#[test]
fn schemes_of_librdkafka_that_treat_them_alike_do_so() {
    check_no_key(Scheme::LibrdkafkaConsistent, Some(0), Some(0));
    check_no_key(Scheme::LibrdkafkaConsistentRandom, None, None);
    check_no_key(Scheme::LibrdkafkaMurmur2, Some(35), Some(35));
    check_no_key(Scheme::LibrdkafkaFnv1a, Some(68), Some(68));
}

#[test]
fn schemes_that_ignore_keys_place_none() {
    for scheme in [Scheme::JavaIgnoreKeys, Scheme::RoundRobin, Scheme::LibrdkafkaRandom] {
        assert_eq!(scheme.keyed(Some(b"user-42"), PARTITIONS), None);
    }
}

#[test]
fn every_name_is_understood() {
    assert_eq!(Scheme::names().count(), 10);
    assert!(Scheme::names().all(|name| Scheme::named(name).is_some()));
}

#[test]
fn a_topic_without_partitions_or_with_a_wrong_count_does_not_panic() {
    for count in [0, -1, i32::MIN, 1] {
        for place in [murmur2::keyed, crc32::keyed, fnv1a::keyed, fnv1a::reference_keyed, kafkajs::keyed] {
            assert_eq!(place(b"key", count), 0);
        }
    }
}

#[test]
fn the_largest_topic_does_not_panic() {
    for row in rows() {
        for (scheme, _) in COLUMNS {
            let partition = scheme.keyed(Some(&row.key), i32::MAX);
            assert!(partition.is_none_or(|partition| (0..i32::MAX).contains(&partition)));
        }
    }
}

/// Where Kafka's Java client and librdkafka put the same 10,000 keys, as their own code said: `golden/Placements.java` and
/// `golden/placements.py` print the lines.
#[test]
fn ten_thousand_keys_are_placed_as_java_and_librdkafka_place_them() {
    const PARTITIONS: i32 = 61;
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let keys = keys();
    assert_eq!(keys.len(), 10_000);
    let lines = include_str!("golden/placements.txt").lines();
    let mut compared = 0;
    for (name, placed) in lines.filter_map(|line| line.split_once(' ')) {
        let scheme = if name == "java" { Scheme::Java } else { Scheme::named(name).expect("a scheme") };
        assert_eq!(placed.len(), keys.len(), "{name}");
        for (key, placed) in keys.iter().zip(placed.bytes()) {
            let expected = digits.iter().zip(0..).find(|(digit, _)| **digit == placed).map(|(_, n)| n);
            assert_eq!(scheme.keyed(Some(key), PARTITIONS), expected, "{name}: {key:02x?}");
        }
        compared += 1;
    }
    assert_eq!(compared, 4);
}

/// The keys that the programs in `golden` make: of 1 to 40 bytes, from a generator that every language can have.
fn keys() -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state
    };
    let mut key = || (0..1 + (next() >> 33) % 40).map(|_| next().to_be_bytes()[0]).collect();
    (0..10_000).map(|_| key()).collect()
}
