//! Skeleton.

pub mod format;
