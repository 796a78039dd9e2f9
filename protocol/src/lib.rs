//! Skeleton.

pub mod records;
