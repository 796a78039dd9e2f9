//! Random records from a seed.

use crate::Owned;

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// Bytes that repeat themselves somewhat, so that every codec finds something; often short, at times long.
    fn bytes(&mut self) -> Vec<u8> {
        let length = match self.below(8) {
            0 => 0,
            1..=4 => self.below(64),
            5 | 6 => self.below(300),
            _ => self.below(20_000),
        };
        let letters = 2 + self.below(200);
        (0..length).map(|_| self.below(letters) as u8).collect()
    }

    fn maybe_bytes(&mut self) -> Option<Vec<u8>> {
        (!self.chance(4)).then(|| self.bytes())
    }

    pub(crate) fn record(&mut self, offset: i64) -> Owned {
        let timestamp = match self.below(8) {
            0 => -1,
            1 => self.next() as i64,
            _ => 1_700_000_000_000 + self.below(5_000) as i64,
        };
        let headers = if self.chance(3) { self.below(5) } else { 0 };
        let headers = (0..headers).map(|i| (format!("ключ-{i}"), self.maybe_bytes())).collect();
        Owned { offset, timestamp, key: self.maybe_bytes(), value: self.maybe_bytes(), headers }
    }

    pub(crate) fn records(&mut self, base_offset: i64) -> Vec<Owned> {
        let count = if self.chance(10) { 1 + self.below(400) } else { 1 + self.below(20) };
        (0..count).map(|i| self.record(base_offset + i as i64)).collect()
    }
}
