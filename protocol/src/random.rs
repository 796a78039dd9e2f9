//! Random messages for tests. What a version does not carry keeps its default, so that every message survives the wire.

use bytes::Bytes;

use crate::api::{ApiKey, Request};
use crate::error_code::ErrorCode;
use crate::wire::{RecordSet, Str, Uuid};

/// SplitMix64, and the version that values are made for.
pub(crate) struct Source {
    state: u64,
    /// How many arrays the value being made is inside of; the deeper, the shorter they are.
    depth: u32,
    pub(crate) version: i16,
    pub(crate) flexible: bool,
}

/// Something that tests make up.
pub(crate) trait Random: Sized {
    fn random(source: &mut Source) -> Self;
}

/// What wants to see every API.
pub(crate) trait Visitor {
    fn api<R>(&mut self)
    where
        R: Request + Random,
        R::Response: Random;
}

impl Source {
    pub(crate) fn new(seed: u64, version: i16, flexible: bool) -> Self {
        Self { state: seed, depth: 0, version, flexible }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A length: short as a rule, but now and then one whose compact prefix takes two bytes.
    fn length(&mut self) -> usize {
        if self.one_in(20) { 120 + self.below(20) } else { self.below(12) }
    }
}

macro_rules! number {
    ($($ty:ty)*) => { $(
        impl Random for $ty {
            fn random(source: &mut Source) -> Self {
                match source.below(8) {
                    0 => <$ty>::MIN,
                    1 => <$ty>::MAX,
                    2 => 0,
                    _ => source.next() as $ty,
                }
            }
        }
    )* }
}

number! { i8 i16 i32 i64 u16 }

impl Random for bool {
    fn random(source: &mut Source) -> Self {
        source.one_in(2)
    }
}

impl Random for f64 {
    fn random(source: &mut Source) -> Self {
        f64::from(i32::random(source)) / 7.0
    }
}

impl Random for Uuid {
    fn random(source: &mut Source) -> Self {
        Self(u128::from(source.next()) << 64 | u128::from(source.next()))
    }
}

impl Random for ErrorCode {
    fn random(source: &mut Source) -> Self {
        Self(i16::random(source))
    }
}

impl Random for ApiKey {
    fn random(source: &mut Source) -> Self {
        Self(i16::random(source))
    }
}

impl Random for Str {
    fn random(source: &mut Source) -> Self {
        const ALPHABET: [char; 8] = ['a', 'Z', '0', '.', '-', 'ß', '水', '🦀'];
        let length = source.length();
        (0..length).map(|_| ALPHABET[source.below(ALPHABET.len())]).collect::<String>().into()
    }
}

impl Random for Bytes {
    fn random(source: &mut Source) -> Self {
        let length = source.length();
        (0..length).map(|_| source.next() as u8).collect()
    }
}

impl Random for RecordSet {
    fn random(source: &mut Source) -> Self {
        Option::random(source).into()
    }
}

impl<T: Random> Random for Option<T> {
    fn random(source: &mut Source) -> Self {
        if source.one_in(4) { None } else { Some(T::random(source)) }
    }
}

impl<T: Random> Random for Vec<T> {
    fn random(source: &mut Source) -> Self {
        let longest = if source.depth == 0 { 4 } else { 3 };
        let long = source.depth > 1 && source.one_in(200);
        let length = if long { 130 } else { source.below(longest) };
        source.depth += 1;
        let items = (0..length).map(|_| T::random(source)).collect();
        source.depth -= 1;
        items
    }
}
