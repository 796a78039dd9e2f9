//! Records whose whole content follows from who wrote them and which one it is, so that a reader can judge every byte.

use crate::random::{Random, mix};
use std::fmt;

/// Writer and number of a record; a writer numbers its records in the order in which it sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Who sent it.
    pub writer: u32,
    /// Which of the writer's records it is, from 0.
    pub number: u32,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}-{}", self.writer, self.number)
    }
}

impl RecordId {
    /// The id that the first word of a value spells.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (writer, number) = text.split(' ').next()?.strip_prefix('w')?.split_once('-')?;
        Some(RecordId { writer: writer.parse().ok()?, number: number.parse().ok()? })
    }

    /// One of seventeen keys, or for every fourth record none.
    pub fn key(self) -> Option<Vec<u8>> {
        match self.hash() % 4 {
            0 => None,
            _ => Some(format!("key-{}", self.hash() / 4 % 17).into_bytes()),
        }
    }

    /// The id as text and 0 to 300 letters that follow from it; one in fifty has up to 6,000.
    pub fn value(self) -> Vec<u8> {
        let mut random = Random::new(self.hash(), "value");
        let letters = match random.below(50) {
            0 => random.below(6_000),
            _ => random.below(300),
        };
        let mut value = format!("{self} ").into_bytes();
        value.extend((0..letters).map(|_| random.choose(b"abcdefgh")));
        value
    }

    /// Whether key and value are exactly the ones that were sent.
    pub fn is_intact(self, key: Option<&[u8]>, value: &[u8]) -> bool {
        self.key().as_deref() == key && self.value() == value
    }

    fn hash(self) -> u64 {
        mix(mix(0x0771_a1a5, u64::from(self.writer)), u64::from(self.number)) >> 8
    }
}
