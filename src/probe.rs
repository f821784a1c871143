//! What the linked libavcodec has of an adapter: option tables first, then a two-frame trial for statistics in memory.
//!
//! Invariant: versions are never compared; what is reported was found.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::adapter::{Adapter, StatsRoute};

/// What of an adapter the linked libavcodec has. Plain data: tests build it.
#[derive(Debug, Clone, PartialEq)]
pub struct Capabilities {
    /// libavcodec's name of the encoder.
    pub encoder: &'static str,
    /// The linked libavcodec, as `major.minor.micro`.
    pub libavcodec: String,
    /// Whether the encoder is compiled in.
    pub present: bool,
    /// The route that statistics really take here; `None`: none works.
    pub route: Option<StatsRoute>,
    /// Options of the encoder, and the generic ones of libavcodec, by name.
    pub options: BTreeMap<String, OptionInfo>,
    /// Pixel formats it takes, in libavcodec's order, by libavutil's names; empty where libavcodec lists none.
    pub pixel_formats: Vec<String>,
    /// Whether it drives hardware that may be absent (opened only when a job needs it).
    pub hardware: bool,
}

/// One AVOption.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OptionInfo {
    /// What it takes.
    pub kind: OptionKind,
    /// Least value, for numbers.
    pub min: f64,
    /// Greatest value, for numbers.
    pub max: f64,
    /// Default as text, where it has one.
    pub default: Option<String>,
    /// Named values and their numbers, in the table's order.
    pub named: Vec<(String, i64)>,
    /// libav's own help text.
    pub help: String,
    /// Whether it belongs to the encoder itself and not to all of libavcodec.
    pub private: bool,
}

/// What an AVOption takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionKind {
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// True or false.
    Bool,
    /// A set of named bits, `+a-b`.
    Flags,
    /// Free text.
    Text,
    /// `key=value:key=value`.
    Params,
    /// Anything else (ratio, colour, duration …): only libav can check it.
    Other,
}

/// What the linked libavcodec has of `adapter`, found once per process and encoder.
#[must_use]
pub fn capabilities(adapter: &'static Adapter) -> Capabilities {
    let _ = adapter;
    unimplemented!()
}
