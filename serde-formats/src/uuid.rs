//! UUIDs as the text that people read.
//!
//! It knows UUIDs as 128-bit numbers, so that it needs no UUID crate and fits all of them (`Uuid::as_u128`). Invariant: it
//! writes lower case and reads both cases.

use ottla::format::{Decode, Encode, Encoded, Encoding, FormatError};

/// A UUID as 36 characters of text, as Java's `UUIDSerializer` writes it.
///
/// ```
/// use ottla::format::{Decode, Encode, Encoded, Encoding};
/// use ottla_serde::UuidText;
///
/// let mut out = Vec::new();
/// UuidText.encode(&0x550e8400_e29b_41d4_a716_446655440000, &mut Encoding::value("orders", &mut out))?;
/// assert_eq!(out, b"550e8400-e29b-41d4-a716-446655440000");
/// assert_eq!(UuidText.decode(Encoded::value("orders", &out))?, 0x550e8400_e29b_41d4_a716_446655440000);
/// # Ok::<(), ottla::format::FormatError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UuidText;

/// Where the text has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const LENGTH: usize = 36;

impl Encode<u128> for UuidText {
    fn encode(&self, value: &u128, to: &mut Encoding<'_>) -> Result<(), FormatError> {
        for (place, digit) in format!("{value:032x}").bytes().enumerate() {
            if matches!(place, 8 | 12 | 16 | 20) {
                to.bytes.push(b'-');
            }
            to.bytes.push(digit);
        }
        Ok(())
    }
}

impl Decode<u128> for UuidText {
    fn decode(&self, Encoded { bytes, .. }: Encoded<'_>) -> Result<u128, FormatError> {
        if bytes.len() != LENGTH {
            return Err(FormatError::new(format!(
                "expected {LENGTH} characters for a uuid, found {}",
                bytes.len()
            )));
        }
        let mut value = 0;
        for (place, &byte) in bytes.iter().enumerate() {
            let digit = char::from(byte).to_digit(16);
            match digit {
                Some(digit) if !HYPHENS.contains(&place) => value = value << 4 | u128::from(digit),
                None if HYPHENS.contains(&place) && byte == b'-' => {}
                _ => return Err(FormatError::new(format!("not a uuid at byte {place}"))),
            }
        }
        Ok(value)
    }
}
