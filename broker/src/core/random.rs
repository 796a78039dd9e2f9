//! The random source that is handed to the machine, so that equal seeds give equal runs (SplitMix64).

use ottla_protocol::wire::Uuid;

#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A random (version 4) UUID.
    pub(crate) fn uuid(&mut self) -> Uuid {
        let random = u128::from(self.next()) << 64 | u128::from(self.next());
        let versioned = random & !(0xf << 76) | (4 << 76);
        Uuid(versioned & !(0b11 << 62) | (0b10 << 62))
    }

    /// A positive number.
    pub(crate) fn positive(&mut self) -> i32 {
        loop {
            let bits = u32::try_from(self.next() >> 33).unwrap_or_default();
            if let Ok(number @ 1..) = i32::try_from(bits) {
                return number;
            }
        }
    }
}

/// A UUID as text with hyphens, as it stands in member ids.
pub(crate) fn hyphenated(uuid: Uuid) -> String {
    let hex = format!("{:032x}", uuid.0);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_look_like_random_uuids_and_differ() {
        let mut random = Random::new(1);
        let (first, second) = (hyphenated(random.uuid()), hyphenated(random.uuid()));
        assert_ne!(first, second);
        assert_eq!((first.len(), &first[14..15]), (36, "4"), "{first}");
        assert!("89ab".contains(&first[19..20]), "{first}");
    }
}
