//! The programs are in `examples/`: `cargo run --release --example quickstart`. This library has nothing but the
//! snippets of README.md, which compile and run as documentation tests.

/// README.md.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
