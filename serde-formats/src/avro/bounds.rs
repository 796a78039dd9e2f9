//! A look over the bytes of an Avro value before they are decoded.
//!
//! It owns what no decoder of Avro checks by itself: that each length is covered by bytes that are there, that nothing is left over,
//! and that a value of a recursive schema has an end. It keeps nothing of the value. Invariant: what passes can be decoded in
//! memory and stack in proportion to its bytes.

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, NamesRef, UuidSchema};
use ottla::format::FormatError;

/// Levels of records, arrays, maps and unions within each other.
const DEPTH_MAX: usize = 128;
/// Items of an array that take no bytes, such as nulls: of these a few bytes can claim any number.
const EMPTY_ITEMS_MAX: usize = 1 << 16;

/// Checks that `bytes` are one value of `schema`, and nothing else.
pub(super) fn check(schema: &Schema, names: &NamesRef<'_>, bytes: &[u8]) -> Result<(), FormatError> {
    let mut look = Look { names, bytes, at: 0, empty_items: 0 };
    look.pass(schema, 0)?;
    match bytes.len() - look.at {
        0 => Ok(()),
        left => Err(FormatError::new(format!("{left} bytes are left over behind the avro value"))),
    }
}

struct Look<'a> {
    names: &'a NamesRef<'a>,
    bytes: &'a [u8],
    at: usize,
    empty_items: usize,
}

impl<'a> Look<'a> {
    fn pass(&mut self, schema: &'a Schema, depth: usize) -> Result<(), FormatError> {
        if depth > DEPTH_MAX {
            return Err(self.error("is nested too deep"));
        }
        match schema {
            Schema::Null => Ok(()),
            Schema::Boolean => self.boolean(),
            Schema::Int | Schema::Date | Schema::TimeMillis => self.int(),
            Schema::Float => self.skip(4),
            Schema::Double => self.skip(8),
            Schema::Bytes | Schema::String | Schema::BigDecimal => self.counted(),
            Schema::Array(array) => self.blocks(depth, None, &array.items),
            Schema::Map(map) => self.blocks(depth, Some(&Schema::String), &map.types),
            Schema::Union(union) => {
                let branch = usize::try_from(self.long()?).ok().and_then(|at| union.variants().get(at));
                let branch =
                    branch.ok_or_else(|| self.error("names a branch that its union does not have"))?;
                self.pass(branch, depth + 1)
            }
            Schema::Record(record) => {
                record.fields.iter().try_for_each(|field| self.pass(&field.schema, depth + 1))
            }
            Schema::Enum(symbols) => match usize::try_from(self.long()?) {
                Ok(at) if at < symbols.symbols.len() => Ok(()),
                _ => Err(self.error("names a symbol that its enum does not have")),
            },
            Schema::Fixed(fixed) | Schema::Duration(fixed) => self.skip(fixed.size),
            Schema::Uuid(UuidSchema::Fixed(fixed)) => self.skip(fixed.size),
            Schema::Uuid(_) => self.counted(),
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => self.counted(),
                InnerDecimalSchema::Fixed(fixed) => self.skip(fixed.size),
            },
            Schema::Ref { name } => {
                let named = self.names.get(name).copied();
                self.pass(
                    named.ok_or_else(|| self.error("is of a type that its schema does not define"))?,
                    depth + 1,
                )
            }
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => self.long().map(|_| ()),
        }
    }

    /// The blocks of an array, or of a map, whose items have keys.
    fn blocks(&mut self, depth: usize, key: Option<&'a Schema>, item: &'a Schema) -> Result<(), FormatError> {
        loop {
            let count = self.long()?;
            if count < 0 {
                // The size of the block in bytes.
                self.long()?;
            }
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count.unsigned_abs() {
                let before = self.at;
                if let Some(key) = key {
                    self.pass(key, depth + 1)?;
                }
                self.pass(item, depth + 1)?;
                if self.at == before {
                    self.empty_items += 1;
                    if self.empty_items > EMPTY_ITEMS_MAX {
                        return Err(self.error("has too many items that take no bytes"));
                    }
                }
            }
        }
    }

    fn boolean(&mut self) -> Result<(), FormatError> {
        match self.bytes.get(self.at) {
            Some(0 | 1) => self.skip(1),
            Some(_) => Err(self.error("has a boolean that is neither 0 nor 1")),
            None => Err(self.error("ends too early")),
        }
    }

    fn int(&mut self) -> Result<(), FormatError> {
        match i32::try_from(self.long()?) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.error("has an int of more than 32 bits")),
        }
    }

    fn counted(&mut self) -> Result<(), FormatError> {
        let length = self.long()?;
        self.skip(usize::try_from(length).map_err(|_| self.error("has a negative length"))?)
    }

    fn skip(&mut self, count: usize) -> Result<(), FormatError> {
        if self.bytes.len() - self.at < count {
            return Err(self.error("ends too early"));
        }
        self.at += count;
        Ok(())
    }

    /// A zigzag number of at most ten bytes.
    fn long(&mut self) -> Result<i64, FormatError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let Some(byte) = self.bytes.get(self.at).copied() else {
                return Err(self.error("ends too early"));
            };
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(self.error("has a number of more than 64 bits"))
    }

    #[cold]
    fn error(&self, what: &str) -> FormatError {
        FormatError::new(format!("the avro value {what}, at byte {}", self.at))
    }
}
