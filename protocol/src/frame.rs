//! Frames: a length, a header, a message. Bytes in, bytes out; sockets belong to the caller.
//!
//! An encoded [`Frame`] does not copy record sets: they stay apart and meet the rest in a vectored write.
//!
//! Invariant: the length of an arriving frame is checked against a cap before anything is reserved for it.

use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::api::{Api, ApiKey, Request};
use crate::wire::{DecodeError, Decoder, EncodeError, Encoder, Str, Wire};

const LENGTH_BYTES: usize = 4;

/// Encoded frames on their way to a socket, with the record sets that belong between the bytes of `head`.
///
/// Several frames may be appended one behind the other. [`clear`](Self::clear) keeps the memory for the next ones.
///
/// ```
/// use ottla_protocol::frame::{Frame, encode_request};
/// use ottla_protocol::messages::HeartbeatRequest;
/// let mut frame = Frame::default();
/// encode_request(&HeartbeatRequest::default(), 0, 1, None, &mut frame)?;
///
/// // A socket took ten bytes; this is left to write.
/// assert_eq!(frame.slices(10).map(|slice| slice.len()).sum::<usize>(), frame.len() - 10);
/// # Ok::<(), ottla_protocol::wire::EncodeError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Everything but the record sets.
    pub head: BytesMut,
    /// Record sets, each with the position in `head` before which it belongs, in ascending order.
    pub bodies: Vec<(usize, Bytes)>,
}

impl Frame {
    /// How many bytes go to the socket.
    pub fn len(&self) -> usize {
        self.head.len() + self.bodies.iter().map(|(_, body)| body.len()).sum::<usize>()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// Forgets the content and keeps the memory of `head`.
    pub fn clear(&mut self) {
        self.head.clear();
        self.bodies.clear();
    }

    /// What a vectored write has to write after `skip` bytes were written already.
    pub fn slices(&self, skip: usize) -> impl Iterator<Item = IoSlice<'_>> {
        let positions = || self.bodies.iter().map(|(position, _)| *position);
        let starts = std::iter::once(0).chain(positions());
        let heads = starts.zip(positions().chain([self.head.len()])).map(|(from, to)| &self.head[from..to]);
        let bodies = self.bodies.iter().map(|(_, body)| &body[..]).chain([&[][..]]);
        let mut skip = skip;
        heads.zip(bodies).flat_map(|(head, body)| [head, body]).filter_map(move |part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            (skipped < part.len()).then(|| IoSlice::new(&part[skipped..]))
        })
    }

    /// The frames in one piece. Copies everything, so it is for tests and for peers in the same process.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.len());
        self.slices(0).for_each(|slice| bytes.put_slice(&slice));
        bytes.freeze()
    }

    /// Appends one frame and writes its length. An error leaves the frame as it was.
    fn append(
        &mut self,
        version: i16,
        flexible: bool,
        write: impl FnOnce(&mut Encoder<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let (start, bodies) = (self.head.len(), self.bodies.len());
        self.head.put_i32(0);
        let written = write(&mut Encoder::gathering(&mut self.head, &mut self.bodies, version, flexible))
            .and_then(|()| {
                let head = self.head.len() - start - LENGTH_BYTES;
                let length = head + self.bodies[bodies..].iter().map(|(_, body)| body.len()).sum::<usize>();
                let limit = i32::MAX as usize;
                i32::try_from(length).map_err(|_| EncodeError::TooLong { what: "a frame", length, limit })
            });
        match written {
            Ok(length) => {
                self.head[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
                Ok(())
            }
            Err(error) => {
                self.head.truncate(start);
                self.bodies.truncate(bodies);
                Err(error)
            }
        }
    }
}

/// Appends a request with its length and header to `frame`. An error leaves `frame` as it was.
pub fn encode_request<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    frame: &mut Frame,
) -> Result<(), EncodeError> {
    let api = Api::of::<R>();
    if !R::VERSIONS.contains(&version) {
        return Err(EncodeError::Version { name: R::NAME, version, min: api.min, max: api.max });
    }
    let flexible = version >= R::FLEXIBLE;
    frame.append(version, flexible, |out| {
        R::KEY.encode(out)?;
        version.encode(out)?;
        correlation_id.encode(out)?;
        out.header_string(client_id)?;
        if flexible {
            out.open_tags();
        }
        request.encode(out)
    })
}

/// Appends a response with its length and header to `frame`. An error leaves `frame` as it was.
pub fn encode_response<T: Wire>(
    key: ApiKey,
    flexible: bool,
    response: &T,
    version: i16,
    correlation_id: i32,
    frame: &mut Frame,
) -> Result<(), EncodeError> {
    frame.append(version, flexible, |out| {
        correlation_id.encode(out)?;
        if response_header_has_tags(key, flexible) {
            out.open_tags();
        }
        response.encode(out)
    })
}

/// A client that does not know the version it will be answered in must still find the answer to ApiVersions
/// (KIP-511), so the header of that one never has tags.
fn response_header_has_tags(key: ApiKey, flexible: bool) -> bool {
    flexible && key != ApiKey::API_VERSIONS
}

/// What leads a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API that is asked.
    pub api_key: ApiKey,
    /// The version of the request, and of the answer that it wants.
    pub api_version: i16,
    /// Comes back in the answer.
    pub correlation_id: i32,
    /// Who asks, by a name of its own choosing.
    pub client_id: Option<Str>,
}

/// Takes the header off the front of a request and leaves the message in `frame`.
///
/// Of an API that this crate does not have, tags of the header are left in `frame`: nothing says whether there are any.
/// Its key and version are there all the same, so that it can be refused by name.
pub fn decode_request_header(frame: &mut Bytes) -> Result<RequestHeader, DecodeError> {
    let mut input = Decoder::new(frame.clone(), 0, false);
    let mut header = RequestHeader {
        api_key: ApiKey::decode(&mut input)?,
        api_version: i16::decode(&mut input)?,
        correlation_id: i32::decode(&mut input)?,
        client_id: None,
    };
    header.client_id = Option::decode(&mut input)?;
    if Api::find(header.api_key).is_some_and(|api| header.api_version >= api.flexible) {
        input.tags(|_, _| Ok(()))?;
    }
    *frame = input.into_rest();
    Ok(header)
}

/// Takes the header off the front of a response, leaves the message in `frame` and returns the correlation id.
pub fn decode_response_header(frame: &mut Bytes, key: ApiKey, flexible: bool) -> Result<i32, DecodeError> {
    let mut input = Decoder::new(frame.clone(), 0, flexible);
    let correlation_id = i32::decode(&mut input)?;
    if response_header_has_tags(key, flexible) {
        input.tags(|_, _| Ok(()))?;
    }
    *frame = input.into_rest();
    Ok(correlation_id)
}

/// Reads a message. Bytes behind it are tolerated, as Kafka does.
pub fn decode<T: Wire>(body: Bytes, version: i16, flexible: bool) -> Result<T, DecodeError> {
    T::decode(&mut Decoder::new(body, version, flexible))
}

/// The peer does not send Kafka frames, or one that is larger than we accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length is not that of a frame.
    #[error("a frame of length {length} cannot be{}", hint(*length))]
    Invalid {
        /// What the first four bytes say.
        length: i32,
    },
    /// The length exceeds the cap.
    #[error("a frame of {length} bytes exceeds the limit of {max}{}", hint(*length))]
    TooLarge {
        /// How long the frame is.
        length: i32,
        /// How long it may be.
        max: usize,
    },
}

/// What else four bytes may be that are no length.
fn hint(length: i32) -> &'static str {
    match length.to_be_bytes() {
        [b'H', b'T', b'T', b'P'] => ": an HTTP server answers at this address",
        [b'G', b'E', b'T', b' '] | [b'P', b'O', b'S', b'T'] => ": an HTTP client is calling",
        [0x15, 0x03, ..] | [0x16, 0x03, ..] => ": the peer speaks TLS",
        _ => "",
    }
}

/// Takes the next complete frame off the front of `buffer`, without its length. `None` means that bytes are missing.
///
/// ```
/// use bytes::BytesMut;
/// use ottla_protocol::frame::{make_room, next_frame};
/// let mut buffer = BytesMut::from(&[0, 0, 0, 2, b'h'][..]);
/// assert_eq!(next_frame(&mut buffer, 100), Ok(None));
/// make_room(&mut buffer); // For the next read.
/// buffer.extend_from_slice(b"i!");
/// assert_eq!(next_frame(&mut buffer, 100).unwrap().unwrap(), "hi");
/// assert_eq!(buffer, "!");
/// assert!(next_frame(&mut BytesMut::from("HTTP/1.1 400"), 100).is_err());
/// ```
pub fn next_frame(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(length) = announced(buffer) else {
        return Ok(None);
    };
    let Some(size) = usize::try_from(length).ok().filter(|size| *size > 0) else {
        return Err(FrameError::Invalid { length });
    };
    if size > max {
        return Err(FrameError::TooLarge { length, max });
    }
    if buffer.len() - LENGTH_BYTES < size {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(size).freeze()))
}

/// Makes room in `buffer` for the next read: for what is missing of the frame at its front, but never for more than has
/// already come. What a peer claims is paid for by what it sends.
///
/// To be called after [`next_frame`] has checked the length against the cap.
pub fn make_room(buffer: &mut BytesMut) {
    const SMALL: usize = 8 << 10;
    const LARGE: usize = 64 << 10;
    let want = missing(buffer).min(buffer.len().max(LARGE)).max(SMALL);
    if buffer.capacity() - buffer.len() < want.min(LARGE) {
        buffer.reserve(want);
    }
}

/// How many more bytes the frame at the front of `buffer` needs to be complete, as far as its length is there yet.
fn missing(buffer: &BytesMut) -> usize {
    let size = announced(buffer).map_or(0, |length| usize::try_from(length).unwrap_or(0));
    size.saturating_add(LENGTH_BYTES).saturating_sub(buffer.len())
}

fn announced(buffer: &BytesMut) -> Option<i32> {
    buffer.first_chunk().map(|length| i32::from_be_bytes(*length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{
        ApiVersionsRequest, ApiVersionsResponse, HeartbeatRequest, HeartbeatResponse, ProducePartition,
        ProduceRequest, ProduceTopic,
    };
    use crate::wire::RecordSet;

    fn produce(records: &[&'static [u8]]) -> ProduceRequest {
        let partition = |records: &&'static [u8]| ProducePartition {
            records: RecordSet::from(Bytes::from_static(records)),
            ..Default::default()
        };
        let partition_data = records.iter().map(partition).collect();
        let topic_data = vec![ProduceTopic { name: "t".into(), partition_data, ..Default::default() }];
        ProduceRequest { topic_data, ..Default::default() }
    }

    fn received(frame: &Frame) -> Bytes {
        let mut buffer = BytesMut::from(&frame.to_bytes()[..]);
        let body =
            next_frame(&mut buffer, 1 << 20).expect("the length is right").expect("the frame is whole");
        assert!(buffer.is_empty());
        body
    }

    #[test]
    fn record_sets_are_written_between_the_other_bytes_and_never_copied() {
        let request = produce(&[b"first batch", b"", b"second"]);
        let mut frame = Frame::default();
        encode_request(&request, 9, 1, None, &mut frame).expect("is valid");
        assert_eq!(frame.bodies.len(), 2);
        let kept = request.topic_data[0].partition_data[0].records.as_ref().expect("is set");
        assert_eq!(frame.bodies[0].1.as_ptr(), kept.as_ptr());

        let mut body = received(&frame);
        let header = decode_request_header(&mut body).expect("is a header");
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (ApiKey::PRODUCE, 9, 1));
        assert_eq!(decode::<ProduceRequest>(body, 9, true), Ok(request));
    }

    #[test]
    fn a_write_may_stop_at_any_byte() {
        let mut frame = Frame::default();
        encode_request(&produce(&[b"first", b"second"]), 9, 1, Some("me"), &mut frame).expect("is valid");
        encode_request(&produce(&[b"third"]), 9, 2, Some("me"), &mut frame).expect("is valid");
        let all = frame.to_bytes();
        assert_eq!(frame.len(), all.len());
        for skip in 0..=all.len() {
            let slices: Vec<IoSlice<'_>> = frame.slices(skip).collect();
            assert!(slices.iter().all(|slice| !slice.is_empty()));
            let rest: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            assert_eq!(rest, all[skip..], "after {skip} bytes");
        }
    }

    #[test]
    fn frames_that_follow_each_other_are_taken_one_by_one() {
        let mut frame = Frame::default();
        encode_request(&HeartbeatRequest::default(), 4, 1, None, &mut frame).expect("is valid");
        encode_request(&HeartbeatRequest::default(), 3, 2, None, &mut frame).expect("is valid");
        let mut buffer = BytesMut::new();
        let mut found = Vec::new();
        for byte in frame.to_bytes() {
            buffer.put_u8(byte);
            while let Some(mut body) = next_frame(&mut buffer, 100).expect("lengths are right") {
                found.push(decode_request_header(&mut body).expect("is a header").correlation_id);
            }
        }
        assert_eq!(found, [1, 2]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_cannot_be_encoded_leaves_the_frame_as_it_was() {
        let mut frame = Frame::default();
        encode_request(&produce(&[b"kept"]), 9, 1, None, &mut frame).expect("is valid");
        let before = frame.to_bytes();
        let mut request = produce(&[b"dropped"]);
        request.topic_data.push(ProduceTopic { name: "x".repeat(40_000).into(), ..Default::default() });
        assert!(matches!(
            encode_request(&request, 9, 2, None, &mut frame),
            Err(EncodeError::TooLong { what: "a string", .. })
        ));
        let error = encode_request(&HeartbeatRequest::default(), 9, 3, None, &mut frame);
        assert_eq!(error, Err(EncodeError::Version { name: "Heartbeat", version: 9, min: 0, max: 4 }));
        assert_eq!((frame.to_bytes(), frame.bodies.len()), (before, 1));
    }

    #[test]
    fn a_flexible_response_has_tags_in_its_header_but_for_api_versions() {
        let mut frame = Frame::default();
        encode_response(ApiKey::HEARTBEAT, true, &HeartbeatResponse::default(), 4, 5, &mut frame)
            .expect("is valid");
        let mut body = received(&frame);
        assert_eq!(&body[..5], b"\0\0\0\x05\0");
        assert_eq!(decode_response_header(&mut body, ApiKey::HEARTBEAT, true), Ok(5));
        assert_eq!(decode(body, 4, true), Ok(HeartbeatResponse::default()));

        frame.clear();
        let response = ApiVersionsResponse { throttle_time_ms: 1, ..Default::default() };
        encode_response(ApiKey::API_VERSIONS, true, &response, 3, 6, &mut frame).expect("is valid");
        let mut body = received(&frame);
        assert_eq!(&body[..7], b"\0\0\0\x06\0\0\x01");
        assert_eq!(decode_response_header(&mut body, ApiKey::API_VERSIONS, true), Ok(6));
        assert_eq!(decode(body, 3, true), Ok(response));
    }

    #[test]
    fn a_request_of_an_unknown_api_or_version_is_still_named() {
        let mut frame = Bytes::from_static(b"\x03\x84\0\x02\0\0\0\x09\xff\xffrest");
        let header = decode_request_header(&mut frame).expect("is a header");
        assert_eq!((header.api_key, header.api_version, header.client_id), (ApiKey(900), 2, None));
        assert_eq!(frame, "rest");

        let mut future = Frame::default();
        encode_request(&ApiVersionsRequest::default(), 4, 3, None, &mut future).expect("is valid");
        let mut body = BytesMut::from(&received(&future)[..]);
        body[3] = 77;
        let header = decode_request_header(&mut body.freeze()).expect("is a header");
        assert_eq!((header.api_key, header.api_version), (ApiKey::API_VERSIONS, 77));
    }

    #[test]
    fn a_header_that_is_cut_short_is_an_error_and_leaves_the_frame() {
        let mut frame = Bytes::from_static(b"\0\x01\0\x04\0\0");
        assert!(decode_request_header(&mut frame).is_err());
        assert_eq!(frame.len(), 6);
    }

    #[track_caller]
    fn check_refused(bytes: &[u8], text: &str) {
        let error = next_frame(&mut BytesMut::from(bytes), 1000).expect_err("is no frame");
        assert_eq!(error.to_string(), text);
    }

    /// Fault 87, SEC1.
    #[test]
    fn a_length_that_cannot_be_is_refused_and_says_what_it_looks_like() {
        check_refused(&[0xff; 4], "a frame of length -1 cannot be");
        check_refused(&[0; 4], "a frame of length 0 cannot be");
        check_refused(&[0x7f, 0xff, 0xff, 0xff], "a frame of 2147483647 bytes exceeds the limit of 1000");
        check_refused(&[0, 0, 3, 0xe9], "a frame of 1001 bytes exceeds the limit of 1000");
        check_refused(
            b"HTTP/1.1 400 Bad Request",
            "a frame of 1213486160 bytes exceeds the limit of 1000: an HTTP server answers at this address",
        );
        check_refused(
            &[0x15, 3, 3, 0, 2, 2, 80],
            "a frame of 352518912 bytes exceeds the limit of 1000: the peer speaks TLS",
        );
    }

    #[test]
    fn room_is_made_by_what_has_come_and_not_by_what_is_claimed() {
        let mut buffer = BytesMut::from(&100_000_000_i32.to_be_bytes()[..]);
        make_room(&mut buffer);
        assert!((4 + (8 << 10)..256 << 10).contains(&buffer.capacity()), "{}", buffer.capacity());
        buffer.resize(1 << 20, 0);
        make_room(&mut buffer);
        assert!((2 << 20..=4 << 20).contains(&buffer.capacity()), "{}", buffer.capacity());
    }

    #[test]
    fn what_is_missing_is_known_once_the_length_is_there() {
        let missing = |bytes: &[u8]| super::missing(&BytesMut::from(bytes));
        assert_eq!(missing(b""), 4);
        assert_eq!(missing(b"\0\0"), 2);
        assert_eq!(missing(b"\0\0\0\x05"), 5);
        assert_eq!(missing(b"\0\0\0\x05abc"), 2);
        assert_eq!(missing(b"\0\0\0\x05abcdefg"), 0);
        assert_eq!(missing(&[0xff; 4]), 0);
    }
}
