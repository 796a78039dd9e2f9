//! Frames of Apache Kafka 4.4.0, kept as files: we must read each of them to its end and write the same bytes again.
//!
//! `written` holds one request and one response of each API in each version, with every field set to something, as
//! Kafka's own message classes write them. `recorded` was taken off a connection between Kafka's clients and a broker.
//! An entry is one byte (0 request, 1 response), the key, the version and a frame with its length.

use std::collections::BTreeSet;
use std::fmt::Debug;

use bytes::{Buf, Bytes};

use crate::api::Request;
use crate::frame::{self, Frame};
use crate::messages;
use crate::random::{Random, Visitor};
use crate::wire::{Decoder, Wire};

/// One frame of a file. Ordered as the check finds them.
struct Golden {
    is_response: bool,
    key: i16,
    version: i16,
    frame: Bytes,
}

fn read(file: &'static [u8]) -> Vec<Golden> {
    let mut rest = Bytes::from_static(file);
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (is_response, key, version) = (rest.get_u8() == 1, rest.get_i16(), rest.get_i16());
        let length = usize::try_from(rest.slice(..4).get_i32()).expect("the file is sound");
        found.push(Golden { is_response, key, version, frame: rest.split_to(4 + length) });
    }
    found
}

struct Checked<'a> {
    frames: &'a [Golden],
    requests: BTreeSet<(i16, i16)>,
    responses: BTreeSet<(i16, i16)>,
}

impl Visitor for Checked<'_> {
    fn api<R>(&mut self)
    where
        R: Request + Random,
        R::Response: Random,
    {
        for golden in self.frames.iter().filter(|golden| golden.key == R::KEY.0) {
            let version = golden.version;
            assert!(R::VERSIONS.contains(&version), "{} v{version}", R::NAME);
            if golden.is_response {
                check_response::<R>(golden);
                self.responses.insert((golden.key, version));
            } else {
                check_request::<R>(golden);
                self.requests.insert((golden.key, version));
            }
        }
    }
}

fn check_request<R: Request>(golden: &Golden) {
    let context = format!("{}Request v{}", R::NAME, golden.version);
    let mut body = golden.frame.slice(4..);
    let header = frame::decode_request_header(&mut body).expect(&context);
    assert_eq!((header.api_key, header.api_version), (R::KEY, golden.version), "{context}");
    let request: R = decode_all(&context, body, golden.version, golden.version >= R::FLEXIBLE);
    let mut written = Frame::default();
    let client_id = header.client_id.as_deref();
    frame::encode_request(&request, golden.version, header.correlation_id, client_id, &mut written)
        .expect(&context);
    assert_eq!(written.to_bytes(), golden.frame, "{context}: {request:?}");
}

fn check_response<R: Request>(golden: &Golden) {
    let context = format!("{}Response v{}", R::NAME, golden.version);
    let mut body = golden.frame.slice(4..);
    let flexible = golden.version >= R::FLEXIBLE;
    let correlation_id = frame::decode_response_header(&mut body, R::KEY, flexible).expect(&context);
    let response: R::Response = decode_all(&context, body, golden.version, flexible);
    let mut written = Frame::default();
    frame::encode_response(R::KEY, flexible, &response, golden.version, correlation_id, &mut written)
        .expect(&context);
    assert_eq!(written.to_bytes(), golden.frame, "{context}: {response:?}");
}

fn decode_all<T: Wire + Debug>(context: &str, body: Bytes, version: i16, flexible: bool) -> T {
    let mut input = Decoder::new(body, version, flexible);
    let message = T::decode(&mut input).expect(context);
    let left = input.into_rest().len();
    assert_eq!(left, 0, "{context}: {left} bytes are left of {message:?}");
    message
}

fn check(file: &'static [u8]) -> (BTreeSet<(i16, i16)>, BTreeSet<(i16, i16)>) {
    let frames = read(file);
    let mut checked = Checked { frames: &frames, requests: BTreeSet::new(), responses: BTreeSet::new() };
    messages::visit(&mut checked);
    (checked.requests, checked.responses)
}

#[test]
fn what_the_classes_of_kafka_write_is_read_and_written_alike_in_every_version() {
    let (requests, responses) = check(include_bytes!("../tests/golden/written-by-kafka-4.4.0.bin"));
    let all = messages::APIS.iter().flat_map(|api| (api.min..=api.max).map(|version| (api.key.0, version)));
    let all: BTreeSet<(i16, i16)> = all.collect();
    assert_eq!(requests, all);
    assert_eq!(responses, all);
}
