//! Frames of Apache Kafka 4.4.0, kept as files: we must read each of them to its end and write the same bytes again.
//!
//! `written` holds one request and one response of each API in each version, with every field set to something, as
//! Kafka's own message classes write them. `recorded` was taken off connections between Kafka's clients and a broker.
//! An entry is one byte (0 request, 1 response), the key, the version and a frame with its length.

use std::collections::BTreeSet;
use std::fmt::Debug;

use bytes::{Buf, Bytes};

use crate::api::{ApiKey, Request, Versions};
use crate::differential::{ONLY_OURS, UNSTABLE};
use crate::error_code::ErrorCode;
use crate::frame::{self, Frame};
use crate::messages::{self, ApiVersionsResponse, FetchResponse, ProduceRequest};
use crate::random::{Random, Visitor};
use crate::wire::{Decoder, Wire};

const WRITTEN: &[u8] = include_bytes!("../tests/golden/written-by-kafka-4.4.0.bin");
const RECORDED: &[u8] = include_bytes!("../tests/golden/recorded-from-kafka-4.4.0.bin");

/// One frame of a file.
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
    /// What was among them: whether it is a response, the key, the version.
    found: BTreeSet<(bool, i16, i16)>,
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
            } else {
                check_request::<R>(golden);
            }
            self.found.insert((golden.is_response, golden.key, version));
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

fn check(file: &'static [u8]) -> BTreeSet<(bool, i16, i16)> {
    let frames = read(file);
    let mut checked = Checked { frames: &frames, found: BTreeSet::new() };
    messages::visit(&mut checked);
    checked.found
}

#[test]
fn what_the_classes_of_kafka_write_is_read_and_written_alike_in_every_version() {
    let all = messages::APIS.iter().flat_map(|api| (api.min..=api.max).map(|version| (api.key.0, version)));
    let both = all.flat_map(|(key, version)| [(false, key, version), (true, key, version)]);
    assert_eq!(check(WRITTEN), both.collect());
}

#[test]
fn what_clients_and_brokers_of_kafka_said_to_each_other_is_read_and_written_alike() {
    let found = check(RECORDED);
    for (message, version) in ONLY_OURS.iter().filter(|it| **it != UNSTABLE) {
        let is_response = message.ends_with("Response");
        let name = message.trim_end_matches("Request").trim_end_matches("Response");
        let api = messages::APIS.iter().find(|api| api.name == name).expect("is one of ours");
        assert!(found.contains(&(is_response, api.key.0, *version)), "{message} v{version} was not recorded");
    }
}

/// The recorded answer of this API in this version.
fn recorded<T: Wire>(key: ApiKey, version: i16) -> T {
    let frames = read(RECORDED);
    let is_it = |golden: &&Golden| golden.is_response && golden.key == key.0 && golden.version == version;
    let mut body = frames.iter().find(is_it).expect("was recorded").frame.slice(4..);
    frame::decode_response_header(&mut body, key, true).expect("is a header");
    frame::decode(body, version, true).expect("is an answer")
}

#[test]
fn our_versions_are_those_that_a_broker_of_kafka_advertises() {
    let response: ApiVersionsResponse = recorded(ApiKey::API_VERSIONS, 5);
    assert_eq!(response.error_code, ErrorCode::NONE);
    let versions = Versions::from(&response);
    // A broker without a receiver of metrics does not offer to receive any.
    let telemetry = [ApiKey::GET_TELEMETRY_SUBSCRIPTIONS, ApiKey::PUSH_TELEMETRY];
    for api in messages::APIS.iter().filter(|api| !telemetry.contains(&api.key)) {
        // Unstable versions are advertised only when asked for (KIP-939).
        let max = if api.key == ApiKey::INIT_PRODUCER_ID { 5 } else { api.max };
        // A broker advertises Produce from 0, though it refuses what is below 3: librdkafka looks for that (KIP-896).
        let min = if api.key == ApiKey::PRODUCE { 0 } else { api.min };
        assert_eq!(versions.get(api.key), Some((min, max)), "{}", api.name);
    }
}

#[test]
fn recorded_batches_are_found_where_the_messages_say() {
    let frames = read(RECORDED);
    let request = frames.iter().find(|golden| golden.key == ApiKey::PRODUCE.0).expect("was recorded");
    let mut body = request.frame.slice(4..);
    frame::decode_request_header(&mut body).expect("is a header");
    let request: ProduceRequest = frame::decode(body, 13, true).expect("is a request");
    let response: FetchResponse = recorded(ApiKey::FETCH, 18);
    let produced = request.topic_data.iter().flat_map(|topic| &topic.partition_data).map(|of| &of.records);
    let fetched = response.responses.iter().flat_map(|topic| &topic.partitions).map(|of| &of.records);
    let sets: Vec<&Bytes> = produced.chain(fetched).filter_map(|records| records.as_ref()).collect();
    assert!(sets.len() > 2);
    for records in sets.iter().filter(|records| !records.is_empty()) {
        assert_eq!(records[16], 2, "the magic byte of a batch");
    }
}
