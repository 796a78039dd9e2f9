//! Every value comes back, as bytes that the Java client writes and reads where it has such a serializer.
//!
//! The bytes are what the serializers of kafka-clients 4.2.0 wrote for the same values.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use ottla::format::{Decode, Encode, Encoded, Encoding, FormatError};
use ottla_serde::{BigEndian, Json, Raw, Text, UuidText};

fn encoded<T: ?Sized>(format: &impl Encode<T>, value: &T) -> Vec<u8> {
    let mut out = b"before".to_vec();
    format.encode(value, &mut Encoding::value("t", &mut out)).expect("the value has an encoding");
    out.strip_prefix(b"before").expect("encoding only appends").to_vec()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `value` is written as the bytes of `expected` and read back from them.
fn check<T: PartialEq + Debug>(format: &(impl Encode<T> + Decode<T>), value: T, expected: &str) {
    let bytes = encoded(format, &value);
    assert_eq!(hexadecimal(&bytes), expected, "{value:?}");
    assert_eq!(format.decode(Encoded::value("t", &bytes)).expect("what was encoded decodes"), value);
}

/// The error for these bytes.
fn refused<T: Debug>(format: &impl Decode<T>, bytes: &[u8]) -> FormatError {
    format.decode(Encoded::value("t", bytes)).expect_err("the bytes are not of the format")
}

#[test]
fn integers_are_those_of_java() {
    for (value, bytes) in [(0, "0000"), (1, "0001"), (-2, "fffe"), (i16::MIN, "8000"), (i16::MAX, "7fff")] {
        check::<i16>(&BigEndian, value, bytes);
    }
    for (value, bytes) in
        [(0, "00000000"), (-2, "fffffffe"), (123_456_789, "075bcd15"), (i32::MIN, "80000000")]
    {
        check::<i32>(&BigEndian, value, bytes);
    }
    check::<i64>(&BigEndian, -2, "fffffffffffffffe");
    check::<i64>(&BigEndian, 1_234_567_890_123_456_789, "112210f47de98115");
    check::<i64>(&BigEndian, i64::MIN, "8000000000000000");
    check::<i64>(&BigEndian, i64::MAX, "7fffffffffffffff");
}

#[test]
fn integers_that_java_lacks_are_written_alike() {
    check::<i8>(&BigEndian, -2, "fe");
    check::<u8>(&BigEndian, 200, "c8");
    check::<u16>(&BigEndian, 0xfffe, "fffe");
    check::<u32>(&BigEndian, u32::MAX - 1, "fffffffe");
    check::<u64>(&BigEndian, 258, "0000000000000102");
}

#[test]
fn floating_point_numbers_are_those_of_java() {
    for (value, bytes) in [(0.0, "00000000"), (-0.0, "80000000"), (1.5, "3fc00000"), (-3.25e10, "d0f224d5")] {
        check::<f32>(&BigEndian, value, bytes);
    }
    check::<f32>(&BigEndian, f32::from_bits(1), "00000001");
    check::<f32>(&BigEndian, f32::INFINITY, "7f800000");
    check::<f64>(&BigEndian, -3.25e100, "d4cdb7b95d11bdab");
    check::<f64>(&BigEndian, f64::from_bits(1), "0000000000000001");
    check::<f64>(&BigEndian, f64::NEG_INFINITY, "fff0000000000000");
}

#[test]
fn not_a_number_stays_not_a_number() {
    let bytes = encoded::<f64>(&BigEndian, &f64::NAN);
    assert_eq!(hexadecimal(&bytes), "7ff8000000000000");
    let back: f64 = BigEndian.decode(Encoded::value("t", &bytes)).expect("it decodes");
    assert!(back.is_nan());
}

#[test]
fn booleans_are_those_of_java() {
    check(&BigEndian, true, "01");
    check(&BigEndian, false, "00");
    assert_eq!(refused::<bool>(&BigEndian, &[2]).to_string(), "expected 0 or 1 for bool, found another byte");
    assert_eq!(refused::<bool>(&BigEndian, &[]).to_string(), "expected 1 byte for bool, found 0");
}

#[test]
fn a_number_of_another_width_is_refused() {
    assert_eq!(refused::<i16>(&BigEndian, &[0]).to_string(), "expected 2 bytes for i16, found 1");
    assert_eq!(refused::<u32>(&BigEndian, &[0; 8]).to_string(), "expected 4 bytes for u32, found 8");
    assert_eq!(refused::<f64>(&BigEndian, &[]).to_string(), "expected 8 bytes for f64, found 0");
}

#[test]
fn text_is_that_of_java() {
    check(&Text, String::new(), "");
    check(&Text, "kafka".to_owned(), "6b61666b61");
    check(&Text, "Zürich 日本語 🦦".to_owned(), "5ac3bc7269636820e697a5e69cace8aa9e20f09fa6a6");
    assert_eq!(encoded::<str>(&Text, "kafka"), b"kafka");
}

#[test]
fn text_that_is_not_utf_8_is_refused_with_its_place() {
    assert_eq!(refused(&Text, b"caf\xe9").to_string(), "the text is not utf-8 at byte 3");
    assert_eq!(refused(&Text, b"\xf0\x9f\xa6").to_string(), "the text is not utf-8 at byte 0");
}

#[test]
fn bytes_are_left_alone() {
    check(&Raw, vec![0, 1, 255], "0001ff");
    check(&Raw, Bytes::from_static(b"\0\x01\xff"), "0001ff");
    check(&Raw, Vec::<u8>::new(), "");
    assert_eq!(encoded::<[u8]>(&Raw, &[0, 1, 255]), [0, 1, 255]);
}

#[test]
fn uuids_are_those_of_java() {
    let bytes = "35353065383430302d653239622d343164342d613731362d343436363535343430303030";
    check(&UuidText, 0x550e_8400_e29b_41d4_a716_4466_5544_0000, bytes);
    check(&UuidText, u128::MAX, &hexadecimal(b"ffffffff-ffff-ffff-ffff-ffffffffffff"));
    check(&UuidText, 1, &hexadecimal(b"00000000-0000-0000-0000-000000000001"));
    let upper = UuidText
        .decode(Encoded::value("t", b"550E8400-E29B-41D4-A716-446655440000"))
        .expect("upper case is read");
    assert_eq!(upper, 0x550e_8400_e29b_41d4_a716_4466_5544_0000);
}

#[test]
fn what_is_no_uuid_is_refused_with_its_place() {
    let check_refused = |text: &str, message: &str| {
        assert_eq!(refused(&UuidText, text.as_bytes()).to_string(), message, "{text}");
    };
    check_refused("", "expected 36 characters for a uuid, found 0");
    check_refused("550e8400e29b41d4a716446655440000", "expected 36 characters for a uuid, found 32");
    check_refused("550e8400-e29b-41d4-a716-44665544000g", "not a uuid at byte 35");
    check_refused("550e8400_e29b-41d4-a716-446655440000", "not a uuid at byte 8");
    check_refused("550e84000e29b-41d4-a716-446655440000", "not a uuid at byte 8");
    check_refused("550e840--e29b-41d4-a716-446655440000", "not a uuid at byte 7");
}

#[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
struct Order {
    id: u64,
    customer: String,
    note: Option<String>,
}

#[test]
fn json_round_trips_a_record() {
    let order = Order { id: u64::MAX, customer: "Ä \"B\"\n🦦".to_owned(), note: None };
    let bytes = encoded(&Json, &order);
    let expected = r#"{"id":18446744073709551615,"customer":"Ä \"B\"\n🦦","note":null}"#;
    assert_eq!(std::str::from_utf8(&bytes), Ok(expected));
    let back: Order = Json.decode(Encoded::value("t", &bytes)).expect("what was encoded decodes");
    assert_eq!(back, order);
}

/// The error says what is wrong and where, and shows nothing of the payload.
fn check_poison(json: &str, message: &str) {
    let error = refused::<Order>(&Json, json.as_bytes());
    assert_eq!(error.to_string(), message, "{json}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    assert!(std::error::Error::source(&error).is_none());
}

#[test]
fn a_poison_record_gives_an_error_without_its_payload() {
    check_poison(r#"{"id":"secret","customer":"c"}"#, "the json does not fit the type at line 1 column 14");
    check_poison(r#"{"id":1}"#, "the json does not fit the type at line 1 column 8");
    check_poison(r#"{"id":1,"customer":"secret"#, "the json ends too early at line 1 column 26");
    check_poison("secret", "the bytes are not json at line 1 column 1");
    check_poison("{\"id\":1,\n\"customer\":\"c\"} secret", "the bytes are not json at line 2 column 17");
    check_poison("", "the json ends too early at line 1 column 0");
}

#[test]
fn json_nested_too_deep_is_refused() {
    let deep = "[".repeat(100_000);
    let error = refused::<serde_json::Value>(&Json, deep.as_bytes());
    assert_eq!(error.to_string(), "the bytes are not json at line 1 column 128");
}

#[test]
fn a_value_that_is_no_json_gives_an_error_with_a_cause() {
    let value = BTreeMap::from([([1, 2], "a pair is no key")]);
    let error =
        Json.encode(&value, &mut Encoding::value("t", &mut Vec::new())).expect_err("keys must be text");
    assert_eq!(error.to_string(), "the value cannot be written as json");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn formats_can_be_chosen_at_run_time() {
    let formats: [Box<dyn Decode<String>>; 2] = [Box::new(Text), Box::new(Json)];
    let decoded = formats.map(|format| format.decode(Encoded::value("t", b"\"a\"")).expect("it is both"));
    assert_eq!(decoded, ["\"a\"", "a"]);
}
