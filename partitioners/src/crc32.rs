//! librdkafka's default hash of a key, and so that of confluent-kafka for Python, Go and .NET; also ruby-kafka's: the
//! CRC-32 of zlib and Ethernet, taken as unsigned.

/// The checksum's polynomial, lowest bit first.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// What each value of one byte adds to a checksum.
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 { rest >> 1 ^ POLYNOMIAL } else { rest >> 1 };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
}

/// The CRC-32 of `key`.
///
/// ```
/// assert_eq!(ottla_partitioners::crc32::hash(b"123456789"), 0xcbf4_3926);
/// ```
pub fn hash(key: &[u8]) -> u32 {
    !key.iter().fold(!0, |sum, byte| TABLE[usize::from(sum.to_le_bytes()[0] ^ byte)] ^ sum >> 8)
}

/// The partition of `key` as librdkafka's `consistent` and `consistent_random` place it.
///
/// ```
/// assert_eq!(ottla_partitioners::crc32::keyed(b"user-42", 97), 27);
/// ```
pub fn keyed(key: &[u8], partitions: i32) -> i32 {
    crate::remainder(hash(key), partitions)
}
