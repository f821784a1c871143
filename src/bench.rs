//! What a second pass costs and what it brings, measured on one's own footage.
//!
//! Invariant: frames are decoded once and serve every encode and every metric, so no time here holds decoding.

pub mod bd;
pub mod measure;
pub mod quality;
pub mod statistics;
