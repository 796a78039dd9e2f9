//! The bytes by which a record names its schema, as Confluent's serializers write them.
//!
//! It owns magic bytes, numbers, GUIDs and the message indexes of Protobuf. It refuses to know what comes behind them. Invariant:
//! what it reads is checked, and a count from a peer sizes nothing.

use ottla::format::{Encoded, FormatError, Part};

/// In front of a number of four bytes.
const MAGIC_ID: u8 = 0;
/// In front of a GUID of sixteen bytes, in a header.
const MAGIC_GUID: u8 = 1;
/// Message types within each other.
const NESTED_MAX: usize = 64;

/// Where a record names its schema.
///
/// ```
/// assert_eq!(ottla_serde::Framing::default(), ottla_serde::Framing::Prefix);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// In front of the payload, by its number: a zero and four bytes. The default.
    #[default]
    Prefix,
    /// In the header `__key_schema_id` or `__value_schema_id`, by its GUID, so that the payload is bare.
    Header,
}

/// How a record names its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Named {
    Id(u32),
    Guid([u8; 16]),
}

/// What a reader finds in front of a payload.
pub(super) struct Framed<'a> {
    pub(super) named: Named,
    /// The message's place in its Protobuf schema; empty for other languages.
    pub(super) indexes: Vec<i32>,
    pub(super) payload: &'a [u8],
}

pub(super) fn header(part: Part) -> &'static str {
    match part {
        Part::Key => "__key_schema_id",
        Part::Value => "__value_schema_id",
    }
}

impl Named {
    /// The frame of a record: magic byte, name, and the message's place for Protobuf.
    pub(super) fn write(self, indexes: Option<&[i32]>, out: &mut Vec<u8>) {
        match self {
            Named::Id(id) => {
                out.push(MAGIC_ID);
                out.extend_from_slice(&id.to_be_bytes());
            }
            Named::Guid(guid) => {
                out.push(MAGIC_GUID);
                out.extend_from_slice(&guid);
            }
        }
        match indexes {
            None => {}
            // The first message of a file is so common that it has a short form.
            Some([0]) => out.push(0),
            Some(indexes) => {
                write_varint(i32::try_from(indexes.len()).unwrap_or(i32::MAX), out);
                indexes.iter().for_each(|index| write_varint(*index, out));
            }
        }
    }
}

/// Reads the frame of a record, with the message's place if the language has such.
pub(super) fn read<'a>(from: &Encoded<'a>, indexed: bool) -> Result<Framed<'a>, FormatError> {
    let in_header = from.header(header(from.part)).filter(|value| value.first() == Some(&MAGIC_GUID));
    if let Some(value) = in_header {
        let (guid, mut rest) = value[1..]
            .split_first_chunk::<16>()
            .ok_or_else(|| FormatError::new("the header of the schema has no guid of 16 bytes"))?;
        let indexes = if indexed { read_indexes(&mut rest)? } else { Vec::new() };
        return Ok(Framed { named: Named::Guid(*guid), indexes, payload: from.bytes });
    }
    let Some((&magic, rest)) = from.bytes.split_first() else {
        return Err(FormatError::new("the bytes are empty, and so they name no schema"));
    };
    if magic != MAGIC_ID {
        return Err(FormatError::new(format!(
            "the bytes begin with {magic}, not with 0 and the id of a schema"
        )));
    }
    let (id, mut payload) = rest
        .split_first_chunk::<4>()
        .ok_or_else(|| FormatError::new("the bytes end within the id of their schema"))?;
    let indexes = if indexed { read_indexes(&mut payload)? } else { Vec::new() };
    Ok(Framed { named: Named::Id(u32::from_be_bytes(*id)), indexes, payload })
}

fn read_indexes(bytes: &mut &[u8]) -> Result<Vec<i32>, FormatError> {
    let count = read_varint(bytes)?;
    match usize::try_from(count) {
        Ok(0) => Ok(vec![0]),
        Ok(count) if count <= NESTED_MAX => (0..count).map(|_| read_varint(bytes)).collect(),
        _ => Err(FormatError::new("the place of the protobuf message is no list of numbers")),
    }
}

fn write_varint(value: i32, out: &mut Vec<u8>) {
    let mut left = ((value << 1) ^ (value >> 31)).cast_unsigned();
    while left >= 0x80 {
        out.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Result<i32, FormatError> {
    let mut value = 0_u32;
    for shift in (0..32).step_by(7) {
        let (byte, rest) = bytes
            .split_first()
            .ok_or_else(|| FormatError::new("the bytes end within the place of their message"))?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(FormatError::new("the place of the protobuf message has a number that is too large"))
}

/// A GUID as its text has it.
pub(super) fn parse_guid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    (digits.len() == 32 && digits.is_ascii()).then_some(())?;
    Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes())
}

pub(super) fn guid_text(guid: &[u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(*guid));
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexes(indexes: &[i32], expected: &[u8]) {
        let mut out = Vec::new();
        Named::Id(1).write(Some(indexes), &mut out);
        assert_eq!(&out[5..], expected);
        let framed = read(&Encoded::value("t", &out), true).expect("what was written is read");
        assert_eq!((framed.indexes.as_slice(), framed.named), (indexes, Named::Id(1)));
        assert!(framed.payload.is_empty());
    }

    #[test]
    fn the_place_of_a_message_is_written_as_confluent_writes_it() {
        indexes(&[0], &[0]);
        indexes(&[1], &[2, 2]);
        indexes(&[2, 0, 70], &[6, 4, 0, 0x8c, 1]);
    }

    #[test]
    fn a_frame_that_is_none_is_refused() {
        let check = |bytes: &[u8], said: &str| {
            let error = read(&Encoded::value("t", bytes), true).err().expect("it is refused");
            assert!(error.to_string().contains(said), "{error}");
        };
        check(b"", "are empty");
        check(b"{}", "begin with 123");
        check(&[0, 0, 0], "within the id");
        check(&[0, 0, 0, 0, 1], "within the place");
        check(&[0, 0, 0, 0, 1, 1], "no list");
        check(&[0, 0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], "no list");
        check(&[0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "too large");
    }

    #[test]
    fn a_guid_is_its_text() {
        let text = "89791762-2336-4186-9674-299b90a802e2";
        let guid = parse_guid(text).expect("it is a guid");
        assert_eq!((guid[0], guid[15]), (0x89, 0xe2));
        assert_eq!(guid_text(&guid), text);
        assert_eq!(parse_guid("89791762"), None);
    }
}
