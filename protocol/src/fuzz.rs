//! Bytes that lie, given to every decoder: nothing panics, and memory stays in proportion to what was sent.

use bytes::{Bytes, BytesMut};

use crate::api::Request;
use crate::frame;
use crate::messages::{self, MetadataResponse};
use crate::random::{Random, Source, Visitor};
use crate::wire::{DecodeError, Encoder, Wire};

/// How many times its bytes a message may take in memory while it is read: an element of one byte becomes a struct, and
/// a vector that grows holds its old and its new room for a moment.
const MEMORY_PER_BYTE: usize = 112;

/// What is allocated whatever the bytes are, most of it for sharing the frame.
const MEMORY_ALWAYS: usize = 1024;

/// A property of each message in each version.
trait Property {
    fn check<T: Wire + Random>(context: &str, source: &mut Source);
}

struct Everywhere<P>(std::marker::PhantomData<P>);

impl<P: Property> Visitor for Everywhere<P> {
    fn api<R>(&mut self)
    where
        R: Request + Random,
        R::Response: Random,
    {
        for version in R::VERSIONS {
            let seed = u64::from(R::KEY.0.unsigned_abs()) << 16 | u64::from(version.unsigned_abs());
            let mut source = Source::new(seed, version, version >= R::FLEXIBLE);
            P::check::<R>(&format!("{}Request v{version}", R::NAME), &mut source);
            P::check::<R::Response>(&format!("{}Response v{version}", R::NAME), &mut source);
        }
    }
}

fn check_everywhere<P: Property>() {
    messages::visit(&mut Everywhere::<P>(std::marker::PhantomData));
}

fn encode(value: &impl Wire, source: &Source) -> BytesMut {
    let mut bytes = BytesMut::new();
    value.encode(&mut Encoder::new(&mut bytes, source.version, source.flexible)).expect("random values fit");
    bytes
}

fn decode<T: Wire>(bytes: Bytes, source: &Source) -> Result<T, DecodeError> {
    frame::decode(bytes, source.version, source.flexible)
}

struct CutShort;

impl Property for CutShort {
    fn check<T: Wire + Random>(context: &str, source: &mut Source) {
        for _ in 0..4 {
            let bytes = encode(&T::random(source), source).freeze();
            assert!(decode::<T>(bytes.clone(), source).is_ok(), "{context}");
            for length in (0..bytes.len()).step_by(1 + bytes.len() / 100) {
                let cut = decode::<T>(bytes.slice(..length), source);
                assert!(cut.is_err(), "{context}: read from {length} bytes of {}", bytes.len());
            }
        }
    }
}

#[test]
fn every_message_that_is_cut_short_is_an_error() {
    check_everywhere::<CutShort>();
}

struct Lie;

impl Property for Lie {
    fn check<T: Wire + Random>(context: &str, source: &mut Source) {
        for _ in 0..60 {
            let mut bytes = encode(&T::random(source), source);
            lie(&mut bytes, source);
            let allowed = MEMORY_ALWAYS + MEMORY_PER_BYTE * bytes.len();
            let (length, bytes) = (bytes.len(), bytes.freeze());
            let memory = allocation_counter::measure(|| drop(decode::<T>(bytes, source)));
            assert!(memory.bytes_max <= allowed as u64, "{context}: {memory:?} for {length} bytes");
        }
    }
}

/// Turns bytes of a message into bytes that only look like one.
fn lie(bytes: &mut BytesMut, source: &mut Source) {
    let pattern = [0, 1, 2, 3, 4, 0x7f, 0x80, 0xff][source.below(8)];
    let at = source.below(bytes.len() + 1);
    match source.below(5) {
        0 => bytes[at..].fill(pattern),
        // A count, compact or classic, of as many elements as there are bytes.
        1 => {
            bytes.truncate(at);
            bytes.extend([0xfe, 0x1f]);
            bytes.resize(at + 4096, pattern);
        }
        2 => {
            bytes.truncate(at);
            bytes.extend([0, 0, 0x0f, 0xfc]);
            bytes.resize(at + 4096, pattern);
        }
        // A length or count that is negative or enormous.
        3 => {
            bytes.truncate(at);
            bytes.extend([source.next() as u8 | 0x70, 0xff, 0xff, 0xff, 0xff]);
            bytes.resize(at + 64, pattern);
        }
        _ => {
            for _ in 0..4.min(bytes.len()) {
                let at = source.below(bytes.len());
                bytes[at] = source.next() as u8;
            }
        }
    }
}

#[test]
fn no_lie_makes_a_decoder_panic_or_take_more_memory_than_its_bytes_allow() {
    check_everywhere::<Lie>();
}

/// The crate that we are compared with asks for 206 GB here.
#[test]
fn a_count_of_two_billion_is_refused_before_anything_is_reserved() {
    let bytes = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    let memory = allocation_counter::measure(|| {
        let error = frame::decode::<MetadataResponse>(bytes, 0, false).expect_err("no such bytes follow");
        assert_eq!(error, DecodeError::Length { at: 0, length: 0x7fff_ffff, left: 0 });
    });
    assert_eq!(memory.bytes_total, 0);
}
