//! Adapters: what an encoder is, as one row of data. The rows are below `adapter/`.
//!
//! Invariant: nothing else in the crate knows an encoder by its name. What differs between encoders is a field here.

use std::path::Path;

use crate::error::Refusal;

mod amf;
mod nvenc;
mod qsv;
mod software;
mod videotoolbox;

/// One encoder of libavcodec and everything the driver needs to know of it.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// libavcodec's name of the encoder.
    pub name: &'static str,
    /// Version of this row; part of every key under which results or statistics are kept.
    pub row: u32,
    /// libavcodec's name of the codec it makes (`h264`, `hevc`, `vp9`, `av1`, `vvc`, `prores`).
    pub codec: &'static str,
    /// Whose encoder it is.
    pub vendor: Vendor,
    /// Where it comes from, and what to do when the linked libavcodec does not have it.
    pub availability: &'static str,
    /// How a constant quality is asked for: the first whose options the linked libavcodec has. Empty: it has none.
    pub quality: &'static [Knob],
    /// How an average bit rate is asked for, besides `b`; `None`: it follows no bit rate.
    pub bitrate: Option<Bitrate>,
    /// How speed is traded for compression.
    pub speed: Option<Speed>,
    /// Group of pictures and forced key frames.
    pub gop: Gop,
    /// Pixel formats it takes, best first, for when the linked libavcodec lists none (hardware without a device).
    pub pixel_formats: &'static [&'static str],
    /// How it analyses before it decides.
    pub passes: PassModel,
    /// How its number of threads is set.
    pub threads: Threads,
    /// Settings for every pass and target; a person's own setting of the same name wins.
    pub always: &'static [Setting],
    /// Settings that keep the library from printing by itself; left out under `-v`.
    pub quiet: &'static [Setting],
    /// Options that belong to passes and targets.
    pub reserved: &'static [Reserved],
    /// How HDR10 static metadata reaches the bit stream where libavcodec does not pass it on by itself.
    pub hdr10: Option<Hdr10>,
}

/// Whose encoder it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Vendor {
    /// Runs on the CPU.
    Software,
    /// NVENC.
    Nvidia,
    /// Quick Sync Video.
    Intel,
    /// AMF.
    Amd,
    /// VideoToolbox.
    Apple,
}

/// A setting of an encoder: an AVOption, or one key inside an AVOption that is a parameter string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The AVOption.
    pub option: &'static str,
    /// The key inside it, where the option is a `key=value:key=value` string.
    pub key: Option<&'static str>,
    /// The value.
    pub value: &'static str,
}

impl Setting {
    /// `option=value`.
    #[must_use]
    pub const fn option(option: &'static str, value: &'static str) -> Self {
        Setting { option, key: None, value }
    }

    /// `key=value` inside the parameter string `option`.
    #[must_use]
    pub const fn param(option: &'static str, key: &'static str, value: &'static str) -> Self {
        Setting { option, key: Some(key), value }
    }
}

/// A constant-quality knob.
#[derive(Debug, Clone, Copy)]
pub struct Knob {
    /// The AVOption that takes the level.
    pub option: &'static str,
    /// Further AVOptions that take the same level (AMF: `qp_i`, `qp_p`).
    pub also: &'static [&'static str],
    /// What the level is multiplied by before it is set (VideoToolbox: `FF_QP2LAMBDA`, 118).
    pub scale: u32,
    /// Whether the option takes whole numbers only.
    pub whole: bool,
    /// Which way is better.
    pub better: Better,
    /// Least and greatest level on the encoder's own scale; the AVOption table narrows it where it has a range.
    pub range: (f64, f64),
    /// Settings without which the knob does nothing.
    pub with: &'static [Setting],
}

/// Which way a knob turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Smaller numbers look better.
    Lower,
    /// Greater numbers look better.
    Higher,
}

/// How an average bit rate is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Bitrate {
    /// Least and greatest bit rate that the encoder takes, in bits per second.
    pub range: (u64, u64),
    /// Settings without which `b` does nothing.
    pub with: &'static [Setting],
    /// Whether `maxrate` and `bufsize` hold beside an average bit rate.
    pub cap: bool,
    /// Whether `maxrate` and `bufsize` hold beside a constant quality.
    pub quality_cap: bool,
}

/// The speed knob: one vocabulary (x264's ten names) mapped onto the encoder's own.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    /// The AVOption.
    pub option: &'static str,
    /// The encoder's value for each of [`PRESETS`], in that order.
    pub native: [&'static str; 10],
    /// The encoder's own names, where libav takes a free string; else they are read from the AVOption table.
    pub names: &'static [&'static str],
}

/// x264's preset names, fastest first; every adapter takes them.
pub const PRESETS: [&str; 10] =
    ["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"];

/// Group of pictures: the AVOptions for its length and for key frames at given times.
#[derive(Debug, Clone, Copy)]
pub struct Gop {
    /// Longest distance of key frames in frames, the AVOption `g`; `None` for an intra-only codec.
    pub length: Option<&'static str>,
    /// Shortest distance; `None` where the encoder has none.
    pub least: Option<&'static str>,
    /// Settings for groups that do not refer to each other, at a fixed distance, without scene-cut key frames.
    pub fixed: &'static [Setting],
    /// Settings with which a frame marked as a key frame becomes one that a player can start at.
    pub forced: &'static [Setting],
}

/// How the number of threads is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The generic `threads`; 0 is one per CPU, or what the encoder makes of it.
    Context,
    /// A key of the encoder's parameter string, because its wrapper ignores `threads`.
    Param(&'static str, &'static str),
    /// Hardware: threads do not matter.
    None,
}

/// How an encoder analyses before it decides.
#[derive(Debug, Clone, Copy)]
pub enum PassModel {
    /// Two runs, statistics between them.
    TwoRuns(TwoRuns),
    /// Analysis inside one run.
    Inside(Inside),
    /// No analysis to be had: a refusal.
    Refused(Because),
}

/// Two runs with statistics in between.
#[derive(Debug, Clone, Copy)]
pub struct TwoRuns {
    /// How statistics travel, best first; the probe takes the first that the linked libavcodec has.
    pub routes: &'static [StatsRoute],
    /// `None`: any target takes two passes. Else: constant quality does not, in the encoder's own words.
    pub no_quality: Option<&'static str>,
    /// Settings of pass 1 alone that make it quicker; chosen by a person, for they change the result.
    pub fast_first: &'static [Setting],
    /// What the encoder does by itself in pass 1, in words for the plan.
    pub first: &'static str,
    /// What the statistics hold, so that they can be checked against the frames.
    pub proof: Proof,
    /// Further files beside a statistics file, by the suffix that is added to its name (`.mbtree`).
    pub sidecar: Option<Sidecar>,
    /// Bytes of statistics per frame: a constant, and a number per 16×16 macroblock.
    pub bytes_per_frame: (u32, u32),
    /// What to say where no route exists in the linked libavcodec.
    pub without_route: &'static str,
}

/// A file that an encoder writes beside its statistics.
#[derive(Debug, Clone, Copy)]
pub struct Sidecar {
    /// What is added to the name of the statistics file.
    pub suffix: &'static str,
    /// Option, key and value with which it is not written (x264: `mbtree=0`), as the encoder spells it.
    pub unless: &'static [Setting],
}

/// How statistics get from pass 1 to pass 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatsRoute {
    /// In memory: `AVCodecContext.stats_out` to `stats_in`, with the pass flags.
    Context,
    /// In a file that an AVOption names, with the pass flags.
    File {
        /// The AVOption.
        option: &'static str,
    },
    /// In a file that a parameter string names; the pass flags are not read.
    Params {
        /// The AVOption that is a parameter string.
        option: &'static str,
        /// The key for the number of the pass.
        pass: &'static str,
        /// The key for the file.
        stats: &'static str,
    },
}

/// What statistics look like inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Text: one line per frame, beginning with this.
    Lines(&'static str),
    /// JSON lines: a header line, then at least one line per frame with this key.
    JsonLines(&'static str),
    /// Base64 of records of equal size: one per frame, and one for the whole.
    Records,
}

/// Analysis inside one run.
#[derive(Debug, Clone, Copy)]
pub struct Inside {
    /// Settings that switch it on; one that the linked libavcodec does not have is left out if `optional` names it.
    pub settings: &'static [Setting],
    /// Options among `settings` that only some of the family's encoders have.
    pub optional: &'static [&'static str],
    /// How far it looks.
    pub reach: Reach,
    /// Whether it works beside a constant quality.
    pub with_quality: bool,
    /// What it is, in words: never called two passes.
    pub words: &'static str,
    /// Values of the speed option that switch it off again (NVENC: `medium`, `fast`).
    pub cancelled_by: &'static [&'static str],
}

/// How far an analysis inside one run looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Each frame is looked at twice, on its own.
    PerFrame,
    /// A window of frames ahead.
    LookAhead,
}

/// Why an encoder has no analysis to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// libavcodec's VideoToolbox wrapper opens no multi-pass session.
    VideoToolboxWrapper,
    /// Every frame stands alone at a fixed quality: the notion of a second pass does not apply.
    IntraOnly,
}

/// An option that a person may not set, because passes or targets own it.
#[derive(Debug, Clone, Copy)]
pub struct Reserved {
    /// The AVOption.
    pub option: &'static str,
    /// Keys inside it; empty: the whole option.
    pub keys: &'static [&'static str],
    /// Who owns it.
    pub why: &'static str,
}

/// How HDR10 static metadata is written into the bit stream by parameters.
#[derive(Debug, Clone, Copy)]
pub struct Hdr10 {
    /// The AVOption that is a parameter string.
    pub option: &'static str,
    /// Key of the mastering display, as x265 writes it: `G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)`.
    pub display: &'static str,
    /// Key of the content light level, `max,average`.
    pub light: &'static str,
    /// Whether chromaticities and luminances are decimals (SVT-AV1) instead of x265's integers of 0.00002 and 0.0001 cd/m².
    pub decimal: bool,
}

/// All adapters, software first.
#[must_use]
pub fn all() -> Vec<&'static Adapter> {
    [software::ALL, nvenc::ALL, qsv::ALL, amf::ALL, videotoolbox::ALL].into_iter().flatten().collect()
}

/// The adapter of this name.
///
/// # Errors
/// [`Refusal::NoAdapter`] with the names that look like it.
pub fn named(name: &str) -> Result<&'static Adapter, Refusal> {
    all().into_iter().find(|adapter| adapter.name == name).ok_or_else(|| Refusal::NoAdapter {
        name: name.to_owned(),
        near: nearest(name, all().into_iter().map(|adapter| adapter.name)),
    })
}

impl Adapter {
    /// The ffmpeg arguments of one pass, for people who spawn ffmpeg: 0 is a single pass and adds nothing.
    ///
    /// `stats_path` is the prefix that ffmpeg's `-passlogfile` takes, or the file for encoders with their own parameter.
    /// For libsvtav1 the arguments do nothing before FFmpeg 9 (`libsvtav1.c` reads no pass flag there); [`crate::probe`]
    /// tells. Analysis inside one run is the arguments of pass 1; pass 2 adds nothing.
    ///
    /// # Errors
    /// [`Refusal`] for any other number, for a path that cannot be passed, and for encoders without two passes at all.
    pub fn two_pass_args(&self, pass: u8, stats_path: &Path) -> Result<Vec<String>, Refusal> {
        let _ = (pass, stats_path);
        Ok(Vec::new())
    }
}

/// The names most like this one, by edit distance; at most three.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let _ = (name, names.count());
    Vec::new()
}
