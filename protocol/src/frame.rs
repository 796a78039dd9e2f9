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

    /// Appends to `out` what a vectored write has to write after `skip` bytes were written already.
    pub fn slices<'a>(&'a self, skip: usize, out: &mut Vec<IoSlice<'a>>) {
        let mut skip = skip;
        let mut push = |part: &'a [u8]| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            if skipped < part.len() {
                out.push(IoSlice::new(&part[skipped..]));
            }
        };
        let mut written = 0;
        for (position, body) in &self.bodies {
            push(&self.head[written..*position]);
            push(body);
            written = *position;
        }
        push(&self.head[written..]);
    }

    /// The frames in one piece. Copies everything, so it is for tests and for peers in the same process.
    pub fn to_bytes(&self) -> Bytes {
        let mut slices = Vec::new();
        self.slices(0, &mut slices);
        let mut bytes = BytesMut::with_capacity(self.len());
        slices.iter().for_each(|slice| bytes.put_slice(slice));
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
/// use ottla_protocol::frame::{missing, next_frame};
/// let mut buffer = BytesMut::from(&[0, 0, 0, 2, b'h'][..]);
/// assert_eq!(next_frame(&mut buffer, 100), Ok(None));
/// assert_eq!(missing(&buffer), 1);
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

/// How many more bytes the frame at the front of `buffer` needs to be complete, as far as its length is there yet.
/// To be asked after [`next_frame`] has checked that length against the cap.
pub fn missing(buffer: &BytesMut) -> usize {
    let size = announced(buffer).map_or(0, |length| usize::try_from(length).unwrap_or(0));
    size.saturating_add(LENGTH_BYTES).saturating_sub(buffer.len())
}

fn announced(buffer: &BytesMut) -> Option<i32> {
    buffer.first_chunk().map(|length| i32::from_be_bytes(*length))
}
