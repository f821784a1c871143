//! What is written down while a bench runs: one line of JSON for each thing measured, in the order in which it was.
//!
//! Invariant: a line is whole or not there; everything in a report can be computed again from the lines alone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::bench::machine::Machine;
use crate::bench::quality::Quality;
use crate::error::Error;
use crate::quality::Metric;

/// One square of the matrix: what is encoded, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Name of the clip.
    pub clip: String,
    /// libavcodec's name of the encoder.
    pub encoder: String,
    /// Its preset; `None`: its own default.
    pub preset: Option<String>,
    /// How it goes about it.
    pub mode: Mode,
    /// What it aims at.
    pub aim: Aim,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let preset = self.preset.as_ref().map(|preset| format!(" {preset}")).unwrap_or_default();
        write!(f, "{}{preset} {} {}", self.encoder, self.mode, self.aim)
    }
}

/// How an encoder goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// One pass towards an average bit rate.
    #[serde(rename = "1pass")]
    OnePass,
    /// Two passes towards an average bit rate.
    #[serde(rename = "2pass")]
    TwoPass,
    /// The same, pass 1 with the adapter's quicker settings.
    #[serde(rename = "2pass-fast")]
    TwoPassFast,
    /// One pass at a constant quality.
    #[serde(rename = "crf")]
    Crf,
    /// One pass towards an average bit rate, with the encoder's analysis inside the run: `multipass`, `extbrc`,
    /// `preanalysis`.
    #[serde(rename = "inside")]
    Inside,
}

impl Mode {
    /// All of them; the first is what the others are compared with.
    pub const ALL: [Mode; 5] = [Mode::OnePass, Mode::TwoPass, Mode::TwoPassFast, Mode::Crf, Mode::Inside];

    /// As it is written on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::OnePass => "1pass",
            Mode::TwoPass => "2pass",
            Mode::TwoPassFast => "2pass-fast",
            Mode::Crf => "crf",
            Mode::Inside => "inside",
        }
    }

    /// As the subject of a sentence.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Mode::OnePass => "one pass",
            Mode::TwoPass => "a second pass",
            Mode::TwoPassFast => "a second pass after a quick first",
            Mode::Crf => "constant quality",
            Mode::Inside => "analysis inside the run",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Mode::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| Error::Usage {
            what: "mode",
            text: text.to_owned(),
            why: format!("expected one of {}", Mode::ALL.map(Mode::name).join(", ")),
        })
    }
}

/// What a cell aims at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// An average bit rate of the video, in bits per second.
    Rate(u64),
    /// A constant quality on the encoder's own scale.
    Quality(f64),
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aim::Rate(bps) if *bps >= 1_000_000 && bps % 100_000 == 0 => write!(f, "{} Mb/s", *bps as f64 / 1e6),
            Aim::Rate(bps) => write!(f, "{} kb/s", *bps as f64 / 1e3),
            Aim::Quality(level) => write!(f, "q{level}"),
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "line")]
pub enum Entry {
    /// A bench begins, or goes on after an interruption.
    Begun(Box<Begun>),
    /// A clip was decoded.
    Clip(ClipRecord),
    /// Something that was asked for cannot be had here.
    Unavailable(Unavailable),
    /// An encode was timed.
    Run(RunRecord),
    /// What an encode made was measured.
    Quality(QualityRecord),
}

/// What holds for all that follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// Where it runs.
    pub machine: Machine,
    /// What every encode has in common.
    pub settings: Settings,
}

/// What every encode has in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How often every encode was to be timed when the bench began.
    pub runs: u16,
    /// Threads that encoders are told to use.
    pub threads: u16,
    /// What quality is measured by.
    pub metrics: Vec<Metric>,
    /// Filters that every frame went through.
    pub filters: Option<String>,
    /// Options that every encoder was given.
    pub options: Vec<(String, String)>,
}

/// A clip, decoded once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClipRecord {
    /// Its name in this bench: the file's, without its ending.
    pub name: String,
    /// The file.
    pub path: String,
    /// Width in pixels, as encoded.
    pub width: u32,
    /// Height in pixels, as encoded.
    pub height: u32,
    /// libavutil's name of its pixel format.
    pub pixel_format: String,
    /// Frames per second.
    pub frame_rate: f64,
    /// Frames encoded.
    pub frames: u64,
    /// Seconds of video.
    pub seconds: f64,
    /// Hash of the times and pixels of all frames.
    pub hash: String,
    /// Seconds that decoding took, once, before anything was timed.
    pub decode_seconds: f64,
}

/// Something that was asked for and cannot be had here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// libavcodec's name of the encoder.
    pub encoder: String,
    /// The mode; `None`: none of them.
    pub mode: Option<Mode>,
    /// Why.
    pub why: String,
}

/// One encode, timed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// What was encoded.
    pub cell: Cell,
    /// Which repetition, from 1.
    pub run: u16,
    /// Its passes, in order.
    pub passes: Vec<PassRecord>,
    /// Frames encoded.
    pub frames: u64,
    /// Bytes of the video packets.
    pub video_bytes: u64,
    /// Average bit rate of the video, in bits per second.
    pub video_bps: f64,
    /// How far that is from the bit rate aimed at, as a share.
    pub bitrate_error: Option<f64>,
    /// Greatest resident memory of the process while it ran, less what it held before, in bytes.
    pub peak_bytes: Option<u64>,
    /// Seconds since 1970 when it ended.
    pub at: u64,
}

/// One pass, timed: encoding and, in the last, writing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassRecord {
    /// Which, from 1.
    pub number: u8,
    /// Seconds from beginning to end.
    pub wall_seconds: f64,
    /// CPU seconds, user and system.
    pub cpu_seconds: Option<f64>,
    /// Of these, seconds in the kernel.
    pub system_seconds: Option<f64>,
    /// Bytes of statistics written.
    pub stats_bytes: Option<u64>,
}

impl RunRecord {
    /// Seconds of all passes.
    #[must_use]
    pub fn wall_seconds(&self) -> f64 {
        self.passes.iter().map(|pass| pass.wall_seconds).sum()
    }

    /// CPU seconds of all passes, where known.
    #[must_use]
    pub fn cpu_seconds(&self) -> Option<f64> {
        self.passes.iter().map(|pass| pass.cpu_seconds).sum()
    }
}

/// What one encode made, measured against the frames it was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityRecord {
    /// What was encoded.
    pub cell: Cell,
    /// Every metric, frame by frame.
    pub qualities: Vec<Quality>,
    /// Bytes of each frame, in the order of showing.
    pub frame_bytes: Vec<u32>,
}
