//! Kafka's primitive types, and how each is laid out in bytes.
//!
//! [`Encoder`] and [`Decoder`] carry the version of the message and whether that version is flexible (compact
//! lengths and tagged fields), so a type is described once and serves every version. This module knows no message,
//! no frame and no socket.
//!
//! Invariant: a number read from the wire never sizes an allocation before it was compared with the bytes at hand.

mod text;
mod uuid;

use std::ops::Deref;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

pub use text::Str;
pub use uuid::Uuid;

/// Why bytes could not be read as what they should have been. Positions count from the start of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("cut short at byte {at}: a value needs {needed} bytes and {left} are left")]
    Truncated {
        /// Where the value begins.
        at: usize,
        /// How many bytes it takes.
        needed: usize,
        /// How many there are.
        left: usize,
    },
    /// A length or count is negative or exceeds what follows it.
    #[error("the length at byte {at} claims {length} where {left} bytes are left")]
    Length {
        /// Where the length is written.
        at: usize,
        /// What it says.
        length: i64,
        /// How many bytes follow it.
        left: usize,
    },
    /// A variable-length integer does not end within its five bytes, or exceeds 32 bits.
    #[error("the varint at byte {at} does not fit into 32 bits")]
    Varint {
        /// Where the integer begins.
        at: usize,
    },
    /// A string is not UTF-8.
    #[error("the string at byte {at} is not UTF-8")]
    Utf8 {
        /// Where the text begins, behind its length.
        at: usize,
    },
    /// A value is null although this version does not allow it.
    #[error("null at byte {at} where a value is required")]
    Null {
        /// Where the null marker is.
        at: usize,
    },
    /// What is led by its version names one that cannot be.
    #[error("version {version} at byte {at} cannot be")]
    Version {
        /// Where the version is.
        at: usize,
        /// What it says.
        version: i16,
    },
}

/// Why a message could not be written. The caller is at fault: the message holds what the wire cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A string, byte sequence, array or frame is longer than its length prefix can say.
    #[error("{what} of length {length} exceeds the {limit} that the protocol can carry")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A value is absent although this version has no way to say so.
    #[error("{field} must be set in version {version}")]
    Null {
        /// The message and field, `Message.field`.
        field: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// The message does not exist in this version.
    #[error("{name} has versions {min} to {max}, not {version}")]
    Version {
        /// The API's name.
        name: &'static str,
        /// The version that was asked for.
        version: i16,
        /// The first version of the API.
        min: i16,
        /// The last version of the API.
        max: i16,
    },
}

/// Something with a layout on the wire. Message structs get theirs from their table.
pub trait Wire: Sized {
    /// Appends the value as the encoder's version lays it out.
    fn encode(&self, out: &mut Encoder<'_>) -> Result<(), EncodeError>;

    /// Takes the value from the front of what is left. Strings and byte sequences share the frame's memory.
    fn decode(input: &mut Decoder) -> Result<Self, DecodeError>;
}

/// A type whose prefix doubles as the null marker: `Option` of it costs no byte more.
pub trait Nullable: Sized {
    /// Appends the value, or null.
    fn encode_or_null(this: Option<&Self>, out: &mut Encoder<'_>) -> Result<(), EncodeError>;

    /// Takes the value, or null, from the front of what is left.
    fn decode_or_null(input: &mut Decoder) -> Result<Option<Self>, DecodeError>;
}

/// Writes one message of one version.
///
/// ```
/// use bytes::BytesMut;
/// use ottla_protocol::messages::Coordinator;
/// use ottla_protocol::wire::{Encoder, Wire};
/// let coordinator = Coordinator { key: "group".into(), host: "a".into(), ..Default::default() };
/// let mut bytes = BytesMut::new();
/// coordinator.encode(&mut Encoder::new(&mut bytes, 4, true))?;
/// assert_eq!(&bytes[..6], b"\x06group");
/// # Ok::<(), ottla_protocol::wire::EncodeError>(())
/// ```
#[derive(Debug)]
pub struct Encoder<'a> {
    buf: &'a mut BytesMut,
    gather: Option<&'a mut Vec<(usize, Bytes)>>,
    version: i16,
    flexible: bool,
}

impl<'a> Encoder<'a> {
    /// Appends to `buf` and copies everything into it, record sets too.
    pub fn new(buf: &'a mut BytesMut, version: i16, flexible: bool) -> Self {
        Self { buf, gather: None, version, flexible }
    }

    /// Appends to `buf`, but puts each record set aside in `bodies`, with the position in `buf` before which it
    /// belongs.
    pub fn gathering(
        buf: &'a mut BytesMut,
        bodies: &'a mut Vec<(usize, Bytes)>,
        version: i16,
        flexible: bool,
    ) -> Self {
        Self { buf, gather: Some(bodies), version, flexible }
    }

    /// The version being written.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether this version has compact lengths and tagged fields.
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    fn varint(&mut self, value: u32) {
        let mut rest = value;
        while rest >= 0x80 {
            self.buf.put_u8((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.buf.put_u8((rest & 0x7f) as u8);
    }

    /// A length prefix; `None` is null. Compact is the length plus one as a varint, classic is of fixed width.
    fn length(&mut self, what: &'static str, length: Option<usize>, width: Width) -> Result<(), EncodeError> {
        let limit = match width {
            Width::Two => i16::MAX as usize,
            Width::Four => i32::MAX as usize - 1,
        };
        if let Some(length) = length
            && length > limit
        {
            return Err(EncodeError::TooLong { what, length, limit });
        }
        // The limit proves the casts: a length fits into its width, and one more into a u32.
        match (self.flexible, width) {
            (true, _) => self.varint(length.map_or(0, |length| length as u32 + 1)),
            (false, Width::Four) => self.buf.put_i32(length.map_or(-1, |length| length as i32)),
            (false, Width::Two) => self.buf.put_i16(length.map_or(-1, |length| length as i16)),
        }
        Ok(())
    }

    /// The client id of a request header is a classic string in every version.
    pub(crate) fn header_string(&mut self, text: Option<&str>) -> Result<(), EncodeError> {
        let flexible = std::mem::replace(&mut self.flexible, false);
        let written = self.length("a client id", text.map(str::len), Width::Two);
        self.flexible = flexible;
        self.buf.put_slice(text.map_or(&[], str::as_bytes));
        written
    }

    /// Opens a section of tagged fields, empty so far, and returns where its count stands.
    pub(crate) fn open_tags(&mut self) -> usize {
        self.buf.put_u8(0);
        self.buf.len() - 1
    }

    /// Appends a tagged field to the section whose count stands at `count`. Tables keep tags in ascending order and
    /// far below 128, where the count would need a second byte.
    pub(crate) fn tagged(&mut self, count: usize, tag: u32, body: &impl Wire) -> Result<(), EncodeError> {
        let mut buf = BytesMut::new();
        body.encode(&mut Encoder::new(&mut buf, self.version, self.flexible))?;
        self.buf[count] += 1;
        self.varint(tag);
        let limit = i32::MAX as usize;
        let length = buf.len();
        let size = u32::try_from(length).ok().filter(|_| length <= limit);
        self.varint(size.ok_or(EncodeError::TooLong { what: "a tagged field", length, limit })?);
        self.buf.put_slice(&buf);
        Ok(())
    }
}

/// Reads one message of one version.
///
/// ```
/// use bytes::Bytes;
/// use ottla_protocol::wire::{DecodeError, Decoder, Str, Wire};
/// let mut input = Decoder::new(Bytes::from_static(b"\0\x02hi\0\x09?"), 0, false);
/// assert_eq!(Str::decode(&mut input)?, "hi");
/// assert_eq!(input.position(), 4);
/// assert_eq!(Str::decode(&mut input), Err(DecodeError::Length { at: 4, length: 9, left: 1 }));
/// # Ok::<(), DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    buf: Bytes,
    /// The position of the end of `buf` within the message, from which positions in errors follow.
    end: usize,
    version: i16,
    flexible: bool,
}

impl Decoder {
    /// Reads from the front of `buf`.
    pub fn new(buf: Bytes, version: i16, flexible: bool) -> Self {
        let end = buf.len();
        Self { buf, end, version, flexible }
    }

    /// The version being read.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether this version has compact lengths and tagged fields.
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// Goes on in another version, for what is led by its version.
    pub(crate) fn at_version(self, version: i16) -> Self {
        Self { version, ..self }
    }

    /// How many bytes were read so far.
    pub fn position(&self) -> usize {
        self.end - self.buf.len()
    }

    /// What was not read.
    pub fn into_rest(self) -> Bytes {
        self.buf
    }

    fn need(&self, needed: usize) -> Result<(), DecodeError> {
        let left = self.buf.len();
        if left < needed {
            return Err(DecodeError::Truncated { at: self.position(), needed, left });
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.need(length)?;
        Ok(self.buf.split_to(length))
    }

    fn varint(&mut self) -> Result<u32, DecodeError> {
        let at = self.position();
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            self.need(1)?;
            let byte = self.buf.get_u8();
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint { at })
    }

    /// A length prefix, refused when it claims more than the bytes that are left. Each element of an array takes a
    /// byte or more, so the rule serves counts as well.
    fn length(&mut self, width: Width) -> Result<Option<usize>, DecodeError> {
        let at = self.position();
        let length = match (self.flexible, width) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, Width::Four) => i64::from(i32::decode(self)?),
            (false, Width::Two) => i64::from(i16::decode(self)?),
        };
        if length == -1 {
            return Ok(None);
        }
        let left = self.buf.len();
        match usize::try_from(length) {
            Ok(length) if length <= left => Ok(Some(length)),
            _ => Err(DecodeError::Length { at, length, left }),
        }
    }

    /// Reads a section of tagged fields. `known` gets each tag with its bytes and ignores what it does not know.
    /// As in Kafka, order is not checked and of a repeated tag the last one counts.
    pub(crate) fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Decoder) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let at = self.position();
            let size = self.varint()?;
            let left = self.buf.len();
            let length = i64::from(size);
            let size = usize::try_from(size).map_err(|_| DecodeError::Length { at, length, left })?;
            let buf = self.take(size)?;
            let end = self.position();
            known(tag, &mut Decoder { buf, end, version: self.version, flexible: self.flexible })?;
        }
        Ok(())
    }
}

/// How wide a classic length prefix is. Strings have the narrow one.
#[derive(Debug, Clone, Copy)]
enum Width {
    Two,
    Four,
}

macro_rules! fixed {
    ($($ty:ty, $get:ident, $put:ident;)*) => { $(
        impl Wire for $ty {
            fn encode(&self, out: &mut Encoder<'_>) -> Result<(), EncodeError> {
                out.buf.$put(*self);
                Ok(())
            }
            fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
                input.need(size_of::<$ty>())?;
                Ok(input.buf.$get())
            }
        }
    )* }
}

fixed! {
    i8, get_i8, put_i8;
    i16, get_i16, put_i16;
    i32, get_i32, put_i32;
    i64, get_i64, put_i64;
    u16, get_u16, put_u16;
    f64, get_f64, put_f64;
    u128, get_u128, put_u128;
}

impl Wire for bool {
    fn encode(&self, out: &mut Encoder<'_>) -> Result<(), EncodeError> {
        i8::from(*self).encode(out)
    }

    fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(i8::decode(input)? != 0)
    }
}

impl Nullable for Bytes {
    fn encode_or_null(this: Option<&Self>, out: &mut Encoder<'_>) -> Result<(), EncodeError> {
        out.length("a byte sequence", this.map(Bytes::len), Width::Four)?;
        out.buf.put_slice(this.map_or(&[], |bytes| bytes));
        Ok(())
    }

    fn decode_or_null(input: &mut Decoder) -> Result<Option<Self>, DecodeError> {
        match input.length(Width::Four)? {
            Some(length) => input.take(length).map(Some),
            None => Ok(None),
        }
    }
}

impl<T: Wire> Nullable for Vec<T> {
    fn encode_or_null(this: Option<&Self>, out: &mut Encoder<'_>) -> Result<(), EncodeError> {
        out.length("an array", this.map(Vec::len), Width::Four)?;
        this.into_iter().flatten().try_for_each(|item| item.encode(out))
    }

    fn decode_or_null(input: &mut Decoder) -> Result<Option<Self>, DecodeError> {
        let Some(length) = input.length(Width::Four)? else {
            return Ok(None);
        };
        // No more memory at once than the bytes that are left would fill, and never more than the count needs: whoever
        // wants a large array sends it.
        let affordable = input.buf.len() / size_of::<T>().max(1);
        let mut items = Vec::with_capacity(length.min(affordable));
        for done in 0..length {
            if done == items.capacity() {
                items.reserve_exact(done.clamp(1, length - done));
            }
            items.push(T::decode(input)?);
        }
        Ok(Some(items))
    }
}

impl<T: Nullable> Wire for Option<T> {
    fn encode(&self, out: &mut Encoder<'_>) -> Result<(), EncodeError> {
        T::encode_or_null(self.as_ref(), out)
    }

    fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
        T::decode_or_null(input)
    }
}

macro_rules! never_null {
    ($([$($parameter:ident)?] $ty:ty;)*) => { $(
        impl<$($parameter: Wire)?> Wire for $ty {
            fn encode(&self, out: &mut Encoder<'_>) -> Result<(), EncodeError> {
                Nullable::encode_or_null(Some(self), out)
            }
            fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
                let at = input.position();
                <Self as Nullable>::decode_or_null(input)?.ok_or(DecodeError::Null { at })
            }
        }
    )* }
}

never_null! {
    [] Str;
    [] Bytes;
    [T] Vec<T>;
}

/// Record batches as they travel: nullable bytes that an [`Encoder`] may put aside instead of copying, and that a
/// [`Decoder`] slices out of the frame. Their inside belongs to [`records`](crate::records).
///
/// ```
/// use bytes::Bytes;
/// use ottla_protocol::wire::RecordSet;
/// let records = RecordSet::from(Bytes::from_static(b"batch"));
/// assert_eq!(records.as_ref().map(Bytes::len), Some(5));
/// assert_eq!(*RecordSet::default(), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordSet(pub Option<Bytes>);

impl Deref for RecordSet {
    type Target = Option<Bytes>;

    fn deref(&self) -> &Option<Bytes> {
        &self.0
    }
}

impl From<Bytes> for RecordSet {
    fn from(records: Bytes) -> Self {
        Self(Some(records))
    }
}

impl From<Option<Bytes>> for RecordSet {
    fn from(records: Option<Bytes>) -> Self {
        Self(records)
    }
}

impl Wire for RecordSet {
    fn encode(&self, out: &mut Encoder<'_>) -> Result<(), EncodeError> {
        out.length("a record set", self.as_ref().map(Bytes::len), Width::Four)?;
        let records = self.iter().filter(|records| !records.is_empty());
        match &mut out.gather {
            Some(bodies) => bodies.extend(records.map(|records| (out.buf.len(), records.clone()))),
            None => records.for_each(|records| out.buf.put_slice(records)),
        }
        Ok(())
    }

    fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
        Option::decode(input).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    fn written<T: Wire>(value: &T, flexible: bool) -> Bytes {
        let mut buf = BytesMut::new();
        value.encode(&mut Encoder::new(&mut buf, 0, flexible)).expect("fits");
        buf.freeze()
    }

    fn read<T: Wire>(bytes: &'static [u8], flexible: bool) -> Result<T, DecodeError> {
        T::decode(&mut Decoder::new(Bytes::from_static(bytes), 0, flexible))
    }

    #[track_caller]
    fn check<T: Wire + PartialEq + fmt::Debug>(value: T, flexible: bool, bytes: &'static [u8]) {
        assert_eq!(written(&value, flexible), bytes);
        assert_eq!(read::<T>(bytes, flexible), Ok(value));
    }

    #[test]
    fn classic_and_compact_prefixes_are_those_of_kafka() {
        check(Str::from_static("né"), false, b"\0\x03n\xc3\xa9");
        check(Str::from_static("né"), true, b"\x04n\xc3\xa9");
        check(None::<Str>, false, b"\xff\xff");
        check(None::<Str>, true, b"\0");
        check(Bytes::from_static(b"ab"), false, b"\0\0\0\x02ab");
        check(None::<Bytes>, false, b"\xff\xff\xff\xff");
        check(vec![1i16, 2], false, b"\0\0\0\x02\0\x01\0\x02");
        check(vec![1i16, 2], true, b"\x03\0\x01\0\x02");
        check(None::<Vec<i16>>, true, b"\0");
        check(true, true, b"\x01");
        check(-2i64, true, b"\xff\xff\xff\xff\xff\xff\xff\xfe");
    }

    #[test]
    fn a_length_of_128_or_more_takes_a_second_byte() {
        let text = "x".repeat(127);
        assert_eq!(&written(&Str::from(text.as_str()), true)[..3], b"\x80\x01x");
        let text = "x".repeat(126);
        assert_eq!(&written(&Str::from(text.as_str()), true)[..2], b"\x7fx");
    }

    /// Fault 90.
    #[test]
    fn an_overlong_varint_is_an_error() {
        let error = DecodeError::Varint { at: 0 };
        assert_eq!(read::<Str>(b"\x80\x80\x80\x80\x80\x01", true), Err(error));
        assert_eq!(read::<Str>(b"\xff\xff\xff\xff\x1f", true), Err(error));
        // The largest that fits is a length too large for what follows.
        let error = DecodeError::Length { at: 0, length: 0xffff_fffe, left: 1 };
        assert_eq!(read::<Str>(b"\xff\xff\xff\xff\x0fx", true), Err(error));
    }

    /// Fault 88, SEC2.
    #[test]
    fn a_lying_length_is_refused_with_its_place() {
        let error = DecodeError::Length { at: 0, length: -2, left: 3 };
        assert_eq!(read::<Str>(b"\xff\xfeabc", false), Err(error));
        // Two strings: the first is empty, the second lies.
        let error = DecodeError::Length { at: 6, length: 4, left: 3 };
        assert_eq!(read::<Vec<Str>>(b"\0\0\0\x02\0\0\0\x04abc", false), Err(error));
        assert_eq!(error.to_string(), "the length at byte 6 claims 4 where 3 bytes are left");
    }

    /// Fault 94.
    #[test]
    fn null_is_refused_where_a_value_is_required() {
        assert_eq!(read::<Str>(b"\xff\xff", false), Err(DecodeError::Null { at: 0 }));
        assert_eq!(read::<Vec<i32>>(b"\0", true), Err(DecodeError::Null { at: 0 }));
    }

    /// Fault 94.
    #[test]
    fn text_that_is_not_utf8_is_refused() {
        assert_eq!(read::<Str>(b"\0\x02\xc3\x28", false), Err(DecodeError::Utf8 { at: 2 }));
    }

    #[test]
    fn a_string_longer_than_its_prefix_can_say_is_not_written() {
        let text = Str::from("x".repeat(32_768));
        for flexible in [false, true] {
            let mut buf = BytesMut::new();
            let error = text.encode(&mut Encoder::new(&mut buf, 0, flexible));
            assert_eq!(error, Err(EncodeError::TooLong { what: "a string", length: 32_768, limit: 32_767 }));
        }
    }

    #[test]
    fn a_position_inside_of_a_tag_counts_from_the_start_of_the_message() {
        let mut input = Decoder::new(Bytes::from_static(b"\x01\x07\x03\0\x05a!"), 0, true);
        let mut found = None;
        let read = input.tags(|tag, body| {
            found = Some((tag, i8::decode(body)?));
            Str::decode(body).map(drop)
        });
        assert_eq!(found, Some((7, 0)));
        assert_eq!(read, Err(DecodeError::Length { at: 4, length: 4, left: 1 }));
    }

    /// Fault 89.
    #[test]
    fn unknown_tags_are_skipped_and_their_sizes_are_bounded() {
        let mut input = Decoder::new(Bytes::from_static(b"\x02\x01\x02ab\x09\x00rest"), 0, true);
        input.tags(|_, _| Ok(())).expect("both are skipped");
        assert_eq!(input.into_rest(), "rest");
        let mut input = Decoder::new(Bytes::from_static(b"\x01\x01\x7fab"), 0, true);
        let cut = input.tags(|_, _| Ok(()));
        assert_eq!(cut, Err(DecodeError::Truncated { at: 3, needed: 127, left: 2 }));
        // Two billion tags end with the bytes.
        let mut input = Decoder::new(Bytes::from_static(b"\xff\xff\xff\xff\x07\0\0"), 0, true);
        assert_eq!(input.tags(|_, _| Ok(())), Err(DecodeError::Truncated { at: 7, needed: 1, left: 0 }));
    }

    #[test]
    fn a_gathered_record_set_stays_where_it_is() {
        let records = Bytes::from_static(b"batch");
        let (mut buf, mut bodies) = (BytesMut::new(), Vec::new());
        let mut out = Encoder::gathering(&mut buf, &mut bodies, 0, false);
        RecordSet::from(records.clone()).encode(&mut out).expect("fits");
        RecordSet(None).encode(&mut out).expect("fits");
        RecordSet::from(Bytes::new()).encode(&mut out).expect("fits");
        7i8.encode(&mut out).expect("fits");
        assert_eq!(buf, &b"\0\0\0\x05\xff\xff\xff\xff\0\0\0\0\x07"[..]);
        assert_eq!(bodies, [(4, records.clone())]);
        assert_eq!(bodies[0].1.as_ptr(), records.as_ptr());
    }
}
