//! Which field of a value could not be written.
//!
//! It owns a serializer that stands in front of a format's own, and notes the names of fields when an error comes back through them;
//! nothing is noted while all goes well. Names come from the program's types, so that no payload gets into a message: keys of maps
//! and places in lists are left out. Invariant: what is written is what the format writes alone.

use std::cell::RefCell;
use std::fmt::Display;

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// The way to an error, from the innermost field out.
#[derive(Default)]
pub(crate) struct Trail {
    fields: RefCell<Vec<&'static str>>,
    /// Whether numbers must be finite.
    finite: bool,
}

impl Trail {
    /// For formats that have no infinity and no NaN.
    #[cfg(feature = "json")]
    pub(crate) fn finite() -> Self {
        Self { finite: true, ..Self::default() }
    }

    #[cfg(feature = "json")]
    pub(crate) fn follow<S>(&self, inner: S) -> Traced<'_, S> {
        Traced { inner, trail: self }
    }

    /// A value that is followed wherever it is serialized.
    pub(crate) fn of<'a, T: ?Sized>(&'a self, value: &'a T) -> Of<'a, T> {
        Of { value, trail: self }
    }

    /// A message with the way to the field, if there was one.
    pub(crate) fn tell(&self, message: &str) -> String {
        let fields = self.fields.borrow();
        if fields.is_empty() {
            return message.to_owned();
        }
        let way: Vec<&str> = fields.iter().rev().copied().collect();
        format!("{message}: field {}", way.join("."))
    }

    fn note<E>(&self, field: &'static str) -> impl FnOnce(E) -> E + '_ {
        move |error| {
            self.fields.borrow_mut().push(field);
            error
        }
    }
}

pub(crate) struct Of<'a, T: ?Sized> {
    value: &'a T,
    trail: &'a Trail,
}

impl<T: Serialize + ?Sized> Serialize for Of<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Traced { inner, trail: self.trail })
    }
}

pub(crate) struct Traced<'a, S> {
    inner: S,
    trail: &'a Trail,
}

macro_rules! plain {
    ($($method:ident: $type:ty,)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

impl<'a, S: Serializer> Serializer for Traced<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Traced<'a, S::SerializeSeq>;
    type SerializeTuple = Traced<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Traced<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Traced<'a, S::SerializeTupleVariant>;
    type SerializeMap = Traced<'a, S::SerializeMap>;
    type SerializeStruct = Traced<'a, S::SerializeStruct>;
    type SerializeStructVariant = Traced<'a, S::SerializeStructVariant>;

    plain! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_char: char,
        serialize_str: &str,
        serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if self.trail.finite && !value.is_finite() {
            return Err(S::Error::custom("a number is infinite, or none"));
        }
        self.inner.serialize_f32(value)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if self.trail.finite && !value.is_finite() {
            return Err(S::Error::custom("a number is infinite, or none"));
        }
        self.inner.serialize_f64(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&self.trail.of(value))
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &self.trail.of(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_variant(name, index, variant, &self.trail.of(value))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Ok(Traced { inner: self.inner.serialize_seq(length)?, trail: self.trail })
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        Ok(Traced { inner: self.inner.serialize_tuple(length)?, trail: self.trail })
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        Ok(Traced { inner: self.inner.serialize_tuple_struct(name, length)?, trail: self.trail })
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let inner = self.inner.serialize_tuple_variant(name, index, variant, length)?;
        Ok(Traced { inner, trail: self.trail })
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Ok(Traced { inner: self.inner.serialize_map(length)?, trail: self.trail })
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeStruct, S::Error> {
        Ok(Traced { inner: self.inner.serialize_struct(name, length)?, trail: self.trail })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let inner = self.inner.serialize_struct_variant(name, index, variant, length)?;
        Ok(Traced { inner, trail: self.trail })
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! lists {
    ($($list:ident $method:ident,)*) => {$(
        impl<S: $list> $list for Traced<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                self.inner.$method(&self.trail.of(value))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )*};
}

lists! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

macro_rules! structs {
    ($($list:ident)*) => {$(
        impl<S: $list> $list for Traced<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), S::Error> {
                self.inner.serialize_field(name, &self.trail.of(value)).map_err(self.trail.note(name))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), S::Error> {
                self.inner.skip_field(name)
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )*};
}

structs! { SerializeStruct SerializeStructVariant }

impl<S: SerializeMap> SerializeMap for Traced<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.inner.serialize_key(&self.trail.of(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.inner.serialize_value(&self.trail.of(value))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}
