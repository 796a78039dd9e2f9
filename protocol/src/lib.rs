//! The Kafka wire format: message tables, record batches, compression, frames, error codes. Bytes in, bytes out.
//!
//! There is no I/O here, no clock and no task, and nothing knows whether it serves a client or a broker: every message
//! encodes and decodes, requests and answers alike.
//!
//! - [`wire`]: primitive types and their bounds.
//! - [`messages`]: every message, written down once as a table of fields and versions.
//! - [`api`]: keys, names, and which version two peers speak.
//! - [`frame`]: lengths and headers around messages; record sets are not copied.
//! - [`error_code`]: what a broker's error codes mean.
//! - [`records`]: record batches and their compression.
//!
//! ```
//! use ottla_protocol::api::Request;
//! use ottla_protocol::frame::{self, Frame};
//! use ottla_protocol::messages::{MetadataRequest, MetadataTopic};
//!
//! let topic = MetadataTopic { name: Some("orders".into()), ..Default::default() };
//! let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
//!
//! let mut sent = Frame::default();
//! frame::encode_request(&request, 12, 7, Some("doc"), &mut sent)?;
//!
//! // The other side finds the frame in what it received, and in the frame the header and the request.
//! let mut received = bytes::BytesMut::from(&sent.to_bytes()[..]);
//! let mut body = frame::next_frame(&mut received, 1 << 20)?.expect("the frame is complete");
//! let header = frame::decode_request_header(&mut body)?;
//! assert_eq!((header.api_key, header.api_version), (MetadataRequest::KEY, 12));
//! assert_eq!(frame::decode::<MetadataRequest>(body, 12, true)?, request);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
// The ground floor: no clock, no socket, no lock, no map of random order.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod api;
#[cfg(test)]
mod differential;
pub mod error_code;
pub mod frame;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;
pub mod messages;
#[cfg(test)]
mod random;
pub mod records;
mod table;
pub mod wire;
