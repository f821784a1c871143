//! Plans: (adapter, capabilities, target, settings) to the passes that will run. Pure, printable, complete.
//!
//! Invariant: everything that can be refused before running is refused here, and the runner makes no choice of its own.

use std::num::NonZeroU8;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::adapter::{Adapter, Headers, Reach, StatsRoute, escaped};
use crate::error::Refusal;
use crate::probe::Capabilities;
use crate::quality::Metric;
use crate::rate::{BitRate, Cap, GopLength, QualityTarget, Target};

mod argv;
mod compile;
mod listing;
mod measured;
mod native;
mod reuse;

pub use argv::{CommandLine, argv, plain_name, shell_line};
pub use measured::NotMeasured;
pub use native::{Codec, NativePlan, NotNative, Profile, Property};
pub(crate) use reuse::{FirstPassOf, differences};

/// What is asked of one encoder.
#[derive(Debug, Clone)]
pub struct Request {
    /// The encoder.
    pub adapter: &'static Adapter,
    /// What it aims at.
    pub target: Target,
    /// How many passes.
    pub passes: Passes,
    /// What to do where two passes are asked for and not to be had.
    pub on_unsupported: OnUnsupported,
    /// A cap at every moment.
    pub cap: Option<Cap>,
    /// Speed: one of [`crate::adapter::PRESETS`], or the encoder's own name or number.
    pub preset: Option<String>,
    /// The person's own AVOptions, in the order given; a later one of the same name wins.
    pub options: Vec<(String, String)>,
    /// Threads of the encoder; `None`: as many as it likes.
    pub threads: Option<u16>,
    /// Fixed distance of key frames in frames, closed groups; `None`: the encoder's own choice.
    pub gop_frames: Option<u32>,
    /// Whether pass 1 may run with the adapter's quicker settings (it changes the result).
    pub fast_first: bool,
    /// Whether the encoder may print by itself (`-v`).
    pub verbose: bool,
    /// For a file size: the video bit rate that the plan starts from, until pass 1 has measured the rest.
    pub provisional: Option<BitRate>,
    /// Whether the encoder is given pictures of two fields.
    pub interlaced: bool,
    /// HDR10 static metadata of the source, for encoders that write it into the bit stream.
    pub hdr10: Option<Hdr10Data>,
    /// Where the statistics of a second pass are to come from.
    pub first_pass: FirstPassChoice,
    /// What holds for [`Passes::Session`].
    pub session: SessionRequest,
}

impl Request {
    /// What `repass encode` asks for where nothing else is said.
    #[must_use]
    pub fn new(adapter: &'static Adapter, target: Target) -> Self {
        Request {
            adapter,
            target,
            passes: Passes::Auto,
            on_unsupported: OnUnsupported::Refuse,
            cap: None,
            preset: None,
            options: Vec::new(),
            threads: None,
            gop_frames: None,
            fast_first: false,
            verbose: false,
            provisional: None,
            interlaced: false,
            hdr10: None,
            first_pass: FirstPassChoice::default(),
            session: SessionRequest::default(),
        }
    }

    /// The passes that are meant: a quality that is measured is what sessions are for.
    #[must_use]
    pub fn passes_meant(&self) -> Passes {
        match (self.passes, self.target) {
            (Passes::Auto, Target::Measured(_)) => Passes::Session,
            (passes, _) => passes,
        }
    }
}

/// What is asked of a session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SessionRequest {
    /// The greatest number of passes.
    pub most_passes: NonZeroU8,
    /// Length of a segment, about; `None`: a few seconds, by the length of the source. A job turns a time into frames by its
    /// frame rate.
    pub segment: Option<GopLength>,
    /// Whether segments may differ in length. A job says so, where no length is asked for.
    pub uneven: bool,
}

impl Default for SessionRequest {
    fn default() -> Self {
        SessionRequest { most_passes: MOST_PASSES, segment: None, uneven: false }
    }
}

/// Where the statistics of a second pass are to come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstPassChoice {
    /// From the first pass of another rendition of the job where one serves, else from its own.
    #[default]
    Shared,
    /// From its own.
    Own,
    /// From this file, kept by an [`crate::job::Analysis`].
    Kept(#[serde(serialize_with = "crate::report::path_as_text")] PathBuf),
}

/// HDR10 static metadata: SMPTE ST 2086 and the content light level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Hdr10Data {
    /// The mastering display, where known.
    pub display: Option<MasteringDisplay>,
    /// Greatest and greatest average content light level in cd/m², where known.
    pub light: Option<(u16, u16)>,
}

/// A mastering display. Chromaticities are pairs x, y in units of 0.00002, luminances in units of 0.0001 cd/m².
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MasteringDisplay {
    /// Green primary.
    pub green: (u16, u16),
    /// Blue primary.
    pub blue: (u16, u16),
    /// Red primary.
    pub red: (u16, u16),
    /// White point.
    pub white: (u16, u16),
    /// Greatest luminance.
    pub brightest: u32,
    /// Least luminance.
    pub darkest: u32,
}

/// How many passes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Passes {
    /// Two where the target is a bit rate and the encoder has them, a session where it is a measured quality, else one.
    #[default]
    Auto,
    /// One.
    One,
    /// Two, or a refusal.
    Two,
    /// As many as it takes, each over those stretches alone that miss the target, a bit rate or a measured quality; or a
    /// refusal.
    Session,
}

/// What to do where two passes are asked for and not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnsupported {
    /// Refuse, with the reason.
    #[default]
    Refuse,
    /// One pass, with the encoder's own analysis where it has one; the plan and the report say so.
    Fallback,
}

/// The passes of one encoder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncoderPlan {
    /// libavcodec's name of the encoder.
    pub encoder: &'static str,
    /// Version of the adapter's row.
    pub row: u32,
    /// The linked libavcodec, as `major.minor.micro`.
    pub libavcodec: String,
    /// The encoder library's own version, where it can be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
    /// What it aims at.
    pub target: Target,
    /// The cap, where one is asked for.
    pub cap: Option<Cap>,
    /// Analysis inside the run, where it is switched on.
    pub analysis: Option<Analysis>,
    /// The session, where it is one. Its step then has the settings of each segment's encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionPlan>,
    /// VideoToolbox's own session, where it is one. Its step then has the options that it was made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native: Option<NativePlan>,
    /// The passes, in order; at least one.
    pub steps: Vec<PassStep>,
    /// Distance in frames of those that are marked as key frames, for encoders whose own groups may fall elsewhere; `None`:
    /// the settings alone decide.
    pub forced_keyframes: Option<u32>,
    /// What differs from the request, or deserves to be known.
    pub warnings: Vec<String>,
    /// Pixel formats to offer to the filter graph, in order; empty: whatever comes.
    pub pixel_formats: Vec<String>,
}

impl EncoderPlan {
    /// Whether statistics travel between two runs.
    #[must_use]
    pub fn two_pass(&self) -> bool {
        self.steps.len() > 1
    }

    /// Whether later passes go through a part of the frames only, which are known by then.
    #[must_use]
    pub fn is_session(&self) -> bool {
        self.session.is_some() || self.native.is_some()
    }
}

/// Passes over segments, each with an encoder of its own and a level of constant quality of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionPlan {
    /// The greatest number of passes.
    pub most_passes: NonZeroU8,
    /// What the levels are corrected towards.
    pub aim: SessionAim,
    /// Frames of a segment, about; together they make up the whole.
    pub segment_frames: u32,
    /// Whether one segment in the middle and the last ones are shorter than that, with which a rate is met with less coding in
    /// vain; else all are equally long.
    pub uneven: bool,
    /// Segments begin at multiples of so many frames: the fixed distance of key frames, or 1.
    pub group_frames: u32,
    /// Segments in work at a time; `None`: one per CPU. Bits do not depend on it.
    pub side_by_side: Option<u16>,
    /// What the levels are.
    pub levels: Levels,
    /// What tells segments from one another before they are coded; `None`: short stretches of them, with their own settings.
    pub probe: Option<ProbePlan>,
    /// What the headers look like that all segments must have in common.
    #[serde(skip)]
    pub headers: Headers,
}

/// Quick codings that foresee what a session's segments will take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbePlan {
    /// libavcodec's name of the encoder, which need not be the session's.
    pub encoder: &'static str,
    /// Its settings.
    pub step: PassStep,
    /// libavfilter's chain that frames go through first.
    pub filter: String,
    /// What its levels are. One that is so many halvings from what is usual stands for the session's level that is as many from
    /// what is usual there.
    pub levels: Levels,
    /// Bytes that the session's encoder commonly takes, for each of the probe's where that has pictures of half the width.
    pub worth: f64,
}

/// What the levels of a session's segments are corrected towards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionAim {
    /// The bit rate of the whole.
    Rate {
        /// How far from it is near enough, as a share of it.
        tolerance: f64,
    },
    /// The quality of every segment.
    Quality(QualityTarget),
}

impl SessionAim {
    /// What segments are measured by; `None` where their bytes are enough.
    #[must_use]
    pub fn metric(&self) -> Option<Metric> {
        match self {
            SessionAim::Rate { .. } => None,
            SessionAim::Quality(target) => Some(target.metric),
        }
    }
}

/// Levels of constant quality that segments may have; smaller ones take more bits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Levels {
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// Their distance.
    pub step: f64,
    /// About which of them takes a tenth of a bit for each pixel, before anything is measured.
    pub usual: f64,
    /// How many of them halve the bits, before anything is measured.
    pub halving: f64,
}

/// Analysis inside one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Analysis {
    /// How far it looks.
    pub reach: Reach,
    /// What it is, in words.
    pub words: &'static str,
}

/// One pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PassStep {
    /// Which, from 1.
    pub number: u8,
    /// Of how many.
    pub of: u8,
    /// The pass flag that libavcodec is given.
    pub flag: PassFlag,
    /// All settings, in the order in which libav gets them; parameter strings by key.
    pub settings: Vec<PlannedSetting>,
    /// What happens to statistics.
    pub stats: StatsUse,
    /// Whether packets go to the output; a pass that only analyses discards them, and opens without global headers, as
    /// ffmpeg's null muxer does.
    pub output: bool,
}

impl PassStep {
    /// The AVOptions in the order in which libav gets them, parameter strings put together and escaped. `stats` is the
    /// statistics file; without it, [`STATS_PATH`] stays in its place.
    #[must_use]
    pub fn options(&self, stats: Option<&str>) -> Vec<(String, String)> {
        let mut options: Vec<(String, String)> = Vec::new();
        for setting in &self.settings {
            let value = if setting.value == STATS_PATH { stats.unwrap_or(STATS_PATH) } else { &setting.value };
            let Some(key) = &setting.key else {
                options.push((setting.option.clone(), value.to_owned()));
                continue;
            };
            let pair = format!("{}={}", escaped(key), escaped(value));
            match options.iter_mut().find(|(option, _)| *option == setting.option) {
                Some((_, params)) => *params = format!("{params}:{pair}"),
                None => options.push((setting.option.clone(), pair)),
            }
        }
        options
    }
}

/// The pass flag of `AVCodecContext.flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PassFlag {
    /// Neither.
    None,
    /// `AV_CODEC_FLAG_PASS1`.
    First,
    /// `AV_CODEC_FLAG_PASS2`.
    Second,
}

/// What a pass does with statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "use")]
pub enum StatsUse {
    /// Nothing.
    None,
    /// Writes them by this route.
    Write(StatsRoute),
    /// Reads them by this route.
    Read(StatsRoute),
}

/// One setting and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedSetting {
    /// The AVOption.
    pub option: String,
    /// The key inside it, where it is a parameter string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value; [`STATS_PATH`] stands for the file that is known only when the pass runs.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Stands in a plan for the path of the statistics file, which is made when the pass runs.
pub const STATS_PATH: &str = "{stats}";

/// Stands in the plan of a session for the level of constant quality, which each segment has its own of.
pub const LEVEL: &str = "{level}";

/// Enough for three corrections after the second pass, which is mostly the last.
const MOST_PASSES: NonZeroU8 = NonZeroU8::new(6).expect("it is not 0");

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The person asked for it.
    You,
    /// The rate target.
    Target,
    /// The adapter's row.
    Adapter,
    /// The pass.
    Pass,
    /// The source (HDR10 metadata).
    Source,
}

/// Compiles a request into passes.
///
/// # Errors
/// [`Refusal`]: a missing encoder, two passes where there are none, an option or value that does not exist, a bit rate
/// out of range, pass or target options set by hand.
pub fn compile(request: &Request, capabilities: &Capabilities) -> Result<EncoderPlan, Refusal> {
    compile::Compiler::new(request, capabilities).plan()
}
