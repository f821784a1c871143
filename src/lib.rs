//! An in-process, multi-pass video encoder driver over libav*.
#![deny(unsafe_code)]

pub mod adapter;
pub mod audio;
#[expect(unsafe_code, reason = "the border to libav*")]
pub mod av;
pub mod batch;
pub mod cache;
pub mod error;
pub mod event;
pub mod frames;
pub mod job;
pub mod media;
mod pipeline;
pub mod plan;
pub mod probe;
pub mod rate;
pub mod report;
pub mod sink;
pub mod source;
pub mod stats;
pub mod timing;
