//! What a source holds, as plain data: streams, sizes, rates, times. Knows no libav type.
//!
//! Invariant: what the container does not say is `None`, never zero.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A rational number: a time base in seconds per tick, a frame rate in frames per second, an aspect ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rational {
    /// Numerator.
    pub num: i32,
    /// Denominator; never 0 in a value that this crate hands out.
    pub den: i32,
}

impl Rational {
    /// `num / den`.
    #[must_use]
    pub const fn new(num: i32, den: i32) -> Self {
        Rational { num, den }
    }

    /// `den / num`: the frame rate of a frame period and the other way round.
    #[must_use]
    pub const fn inverse(self) -> Self {
        Rational { num: self.den, den: self.num }
    }

    /// The value as a float.
    #[must_use]
    pub fn value(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

/// What kind of stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// Moving pictures.
    Video,
    /// A cover picture: one still image, carried as a video stream.
    Cover,
    /// Sound.
    Audio,
    /// Subtitles, as text or as pictures.
    Subtitle,
    /// A file carried along, for instance a font.
    Attachment,
    /// Anything else: timecode, telemetry.
    Data,
}

impl fmt::Display for StreamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StreamKind::Video => "video",
            StreamKind::Cover => "cover picture",
            StreamKind::Audio => "audio",
            StreamKind::Subtitle => "subtitle",
            StreamKind::Attachment => "attachment",
            StreamKind::Data => "data",
        })
    }
}

/// One stream of a source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamInfo {
    /// Its index in the source.
    pub index: usize,
    /// What it carries.
    pub kind: StreamKind,
    /// libavcodec's name of the codec (`h264`, `aac`); `unknown` where libavcodec does not know it.
    pub codec: String,
    /// ISO 639 language, where tagged.
    pub language: Option<String>,
    /// Bits per second, where the container says it.
    pub bitrate: Option<u64>,
    /// Audio: samples per second.
    pub sample_rate: Option<u32>,
    /// Audio: channels.
    pub channels: Option<u32>,
    /// Whether the linked libavcodec can decode it.
    pub decodable: bool,
}

/// The video stream that is encoded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VideoInfo {
    /// Its index in the source.
    pub index: usize,
    /// Width of the coded picture in pixels, before rotation.
    pub width: u32,
    /// Height of the coded picture in pixels, before rotation.
    pub height: u32,
    /// libavutil's name of the pixel format, for instance `yuv420p10le`.
    pub pixel_format: String,
    /// Nominal frames per second, as libavformat guesses them (`av_guess_frame_rate`).
    pub frame_rate: Rational,
    /// Average frames per second over the file, where known.
    pub average_rate: Option<Rational>,
    /// Seconds per tick of the stream's timestamps.
    pub time_base: Rational,
    /// Shape of a pixel, width to height, where known.
    pub sample_aspect_ratio: Option<Rational>,
    /// Clockwise rotation that the display needs, in degrees: 0, 90, 180 or 270.
    pub rotation: u16,
    /// Whether the colour transfer is PQ or HLG.
    pub hdr: bool,
    /// Number of frames, where the container says it.
    pub frames: Option<u64>,
}

/// A source as the demuxer describes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceInfo {
    /// Where it is.
    pub path: PathBuf,
    /// libavformat's name of the container.
    pub container: String,
    /// Length in seconds, where known.
    pub seconds: Option<f64>,
    /// The earliest timestamp of any stream in seconds; output times are counted from here.
    pub start_seconds: f64,
    /// Bytes of the whole file, where it is a file.
    pub bytes: Option<u64>,
    /// The video stream that is encoded.
    pub video: VideoInfo,
    /// All streams, the video one included.
    pub streams: Vec<StreamInfo>,
    /// Number of chapters.
    pub chapters: usize,
    /// Whether the source can be read again from its beginning: a file can, and a pipe that is kept meanwhile.
    pub rereadable: bool,
    /// Whether it is a pipe: what is to be read again is kept in a temporary file.
    pub piped: bool,
}
