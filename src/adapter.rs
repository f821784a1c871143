//! Adapters: what an encoder is, as one row of data. The rows are below `adapter/`.
//!
//! Invariant: nothing else in the crate knows an encoder by its name. What differs between encoders is a field here.

use std::path::Path;

use serde::Serialize;

use crate::error::Refusal;

mod amf;
mod nvenc;
mod packages;
mod qsv;
mod software;
mod videotoolbox;

pub use packages::{Package, System};

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
    /// What brings an FFmpeg that has it, on systems whose packages are known.
    pub packages: &'static [Package],
    /// What brings the driver of its device, on systems whose packages are known; empty for software.
    pub drivers: &'static [Package],
    /// What must be known of some versions of the encoder library.
    pub known: &'static [Known],
    /// Where the encoder library's own version is to be found in the process.
    pub library: Library,
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
    /// Whether it takes pictures whose chroma planes do not come out even: an odd width or height in 4:2:0.
    pub odd_sizes: bool,
    /// Settings with which pictures of two fields are coded as such; empty: it codes them as if they were progressive.
    pub interlaced: &'static [Setting],
    /// Where the library reads memory that nobody wrote, so that its bits depend on what the process did before: at widths
    /// that are no multiple of this many pixels. `None`: nowhere.
    pub unwritten_unless: Option<u32>,
    /// How it analyses before it decides.
    pub passes: PassModel,
    /// How segments that it coded apart become one stream; `None`: they do not, so there are no sessions with it.
    pub sessions: Option<Sessions>,
    /// How its number of threads is set.
    pub threads: Threads,
    /// Settings for every pass and target; a person's own setting of the same name wins.
    pub always: &'static [Setting],
    /// Settings that keep the library from printing by itself; left out under `-v`.
    pub quiet: &'static [Setting],
    /// Options that belong to passes and targets, besides [`RESERVED`].
    pub reserved: &'static [Reserved],
    /// How HDR10 static metadata reaches the bit stream where libavcodec does not pass it on by itself.
    pub hdr10: Option<Hdr10>,
}

/// Where an encoder library tells its version: a symbol of the library, looked up in the running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// A function without arguments that returns a text.
    Function(&'static str),
    /// A variable that points to a text.
    Variable(&'static str),
    /// A function whose name ends with the number of the build (`x264_encoder_open_164`).
    Numbered(&'static str),
    /// Nowhere: a driver, or a part of libavcodec.
    Unknown,
}

/// Something that must be known of an encoder library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// How the versions begin that it holds for, without a `v`; empty: every version.
    pub version: &'static str,
    /// Whether it holds only where the program runs as root.
    pub as_root: bool,
    /// What it is, and what to do.
    pub what: &'static str,
    /// Whether jobs run in a process of their own because of it, for it may end the process.
    pub isolate: bool,
}

/// Whose encoder it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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

/// A place for a value: an AVOption, or one key inside an AVOption that is a parameter string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The AVOption.
    pub option: &'static str,
    /// The key inside it, where the option is a `key=value:key=value` string.
    pub key: Option<&'static str>,
}

impl Slot {
    /// A whole AVOption.
    #[must_use]
    pub const fn option(option: &'static str) -> Self {
        Slot { option, key: None }
    }
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
    /// Whether it is left out without a word where the linked libavcodec does not have the option.
    pub optional: bool,
}

impl Setting {
    /// `option=value`.
    #[must_use]
    pub const fn option(option: &'static str, value: &'static str) -> Self {
        Setting { option, key: None, value, optional: false }
    }

    /// `key=value` inside the parameter string `option`.
    #[must_use]
    pub const fn param(option: &'static str, key: &'static str, value: &'static str) -> Self {
        Setting { option, key: Some(key), value, optional: false }
    }

    /// The same, left out where the linked libavcodec does not have the option.
    #[must_use]
    pub const fn where_there(self) -> Self {
        Setting { optional: true, ..self }
    }
}

/// A constant-quality knob.
#[derive(Debug, Clone, Copy)]
pub struct Knob {
    /// The AVOption that takes the level.
    pub option: &'static str,
    /// Further AVOptions that take the same level where they exist (AMF: `qp_p`, `qp_b`).
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
    /// Whether `maxrate` and `bufsize` hold beside it.
    pub cap: Capping,
    /// Settings for analysis inside the run that takes effect beside it; empty: none does.
    pub analysis: &'static [Setting],
}

/// What becomes of `--maxrate` and `--bufsize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capping {
    /// Refused: the reason.
    Refused(&'static str),
    /// They are the limits of the video buffering verifier.
    Buffer,
    /// They are set, but bound something else: what, for a warning.
    Loose(&'static str),
    /// The peak is set as `b`, which bounds the average: what that means, for a warning.
    AsBitrate(&'static str),
}

/// Which way a knob turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
    /// What becomes of `maxrate` and `bufsize` beside it.
    pub cap: Capping,
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

/// Group of pictures: its length, and key frames at given times.
#[derive(Debug, Clone, Copy)]
pub struct Gop {
    /// Longest distance of key frames in frames, mostly the AVOption `g`; `None` for an intra-only codec.
    pub length: Option<Slot>,
    /// Shortest distance in frames, for groups of a fixed length; `None` where the encoder has none.
    pub least: Option<Slot>,
    /// The encoder's own longest distance in frames where none is set; `None` where it depends on the source.
    pub default_length: Option<u32>,
    /// Settings for groups that do not refer to each other, at a fixed distance, without scene-cut key frames.
    pub fixed: &'static [Setting],
    /// Settings with which a frame marked as a key frame becomes one that a player can start at.
    pub forced: &'static [Setting],
    /// Whether these lengths and `fixed` put every key frame exactly where it is expected; else each is forced as well.
    pub exact: bool,
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
    /// Longest path of a statistics file in bytes; longer ones are cut short by the library without a word.
    pub longest_path: usize,
    /// What to say where no route exists in the linked libavcodec.
    pub without_route: &'static str,
    /// Whether statistics serve other targets than the one that they were made for.
    pub reuse: Reuse,
    /// Slots on which the statistics do not depend: they may differ between the two runs.
    pub free: &'static [Slot],
    /// Pixels that a picture's shorter side must have: the library's analysis reads past the end of smaller ones, and the
    /// process dies of it. 0: none that is known.
    pub least_side: u32,
    /// How the statistics tell how far down a second pass can come; `None`: they do not.
    pub floor: Option<&'static FloorModel>,
}

/// Where a frame's line of statistics ([`Proof::Lines`]) says what it took, by the words before the numbers.
#[derive(Debug, Clone, Copy)]
pub struct FloorModel {
    /// Its quantizer.
    pub quantizer: &'static str,
    /// Bits of its texture.
    pub texture: &'static str,
    /// Bits of its motion.
    pub motion: &'static str,
    /// Bits that no quantizer makes fewer.
    pub rest: &'static str,
    /// The coarsest quantizer that a second pass takes. Some frames may not come down to it, so what follows is a least.
    pub coarsest: f64,
}

/// Whether the statistics of one first pass serve second passes with other targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reuse {
    /// They do not depend on the target: the result is the same, bit for bit.
    Exact,
    /// They serve bit rates at or below the one analysed; the result differs a little from one with its own first pass.
    AtOrBelow {
        /// Per cent of the rate analysed from which they are shared without being asked for: below it, the result has been
        /// seen to miss its rate.
        from_percent: u8,
    },
    /// Only the target that they were made for.
    No,
}

/// A file that an encoder writes beside its statistics.
#[derive(Debug, Clone, Copy)]
pub struct Sidecar {
    /// What is added to the name of the statistics file.
    pub suffix: &'static str,
}

/// How statistics get from pass 1 to pass 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "route")]
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
    /// JSON lines: a header line, then exactly one line per frame with this key.
    JsonLines(&'static str),
    /// Base64 of records of equal size: one per frame, and one for the whole.
    Records {
        /// Whether each begins with the frame's number as a double, and the last with their sum.
        numbered: bool,
    },
}

/// Analysis inside one run.
#[derive(Debug, Clone, Copy)]
pub struct Inside {
    /// Settings that switch it on beside a bit rate; a [`Knob`] has its own.
    pub settings: &'static [Setting],
    /// How far it looks.
    pub reach: Reach,
    /// What it is, in words: never called two passes.
    pub words: &'static str,
    /// Values of the speed option that switch it off again (NVENC: `medium`, `fast`).
    pub cancelled_by: &'static [&'static str],
}

/// How far an analysis inside one run looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Each frame is looked at twice, on its own.
    PerFrame,
    /// A window of frames ahead.
    LookAhead,
}

/// What a session needs: segments from encoders of their own, which one decoder reads as one stream.
#[derive(Debug, Clone, Copy)]
pub struct Sessions {
    /// Settings of every segment: groups that do not refer to each other, headers that do not depend on the level, and one
    /// thread, for bits must not depend on how many segments are in work at a time.
    pub with: &'static [Setting],
    /// Options with which segments could not be joined.
    pub reserved: &'static [Reserved],
    /// Level that takes about a tenth of a bit for each pixel of common footage: where the first guess begins.
    pub usual: f64,
    /// Levels of the quality knob that halve the bits, before anything is measured.
    pub halving: f64,
    /// Least and greatest level; at the ends of a knob's range encoders change their headers (x264: lossless).
    pub levels: (f64, f64),
    /// Bytes that it commonly takes, for each that the [`Probe`] takes at the level that stands for its own.
    pub worth: f64,
    /// What its headers look like.
    pub headers: Headers,
}

/// A quick coding that foresees what others will take of one segment and of another.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// libavcodec's name of the encoder.
    pub encoder: &'static str,
    /// libavfilter's chain that frames go through first: to about half their width and half their height.
    pub filter: &'static str,
    /// Its settings.
    pub with: &'static [Setting],
    /// The option that takes the level.
    pub level: &'static str,
    /// Least and greatest level.
    pub levels: (f64, f64),
    /// Level that takes about a tenth of a bit for each pixel of common footage.
    pub usual: f64,
    /// Levels that halve the bits.
    pub halving: f64,
}

/// Of all that was tried (half and a quarter of the size, x264's and every encoder's own quickest presets, the sizes of the
/// source's packets), what foresees most for what it takes: see vendor-notes.md, "What sessions cost".
pub const PROBE: Probe = Probe {
    encoder: "libx264",
    // A width at which x264's bits depend on nothing but the pictures: see `unwritten_unless`.
    filter: "scale=max(128\\,round(iw/256)*128):max(16\\,trunc(ih/4)*2):flags=bilinear,format=yuv420p",
    with: &[
        Setting::option("preset", "ultrafast"),
        Setting::param("x264-params", "aq-mode", "1"),
        Setting::param("x264-params", "mbtree", "1"),
        Setting::param("x264-params", "rc-lookahead", "10"),
        Setting::option("threads", "1"),
    ],
    level: "crf",
    levels: (1.0, 51.0),
    usual: 19.0,
    halving: 6.0,
};

/// Headers of a coded stream that all its segments must have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// Sequence and picture parameter sets of H.264, after start codes.
    H264,
    /// Video, sequence and picture parameter sets of HEVC, after start codes.
    Hevc,
    /// The sequence header of AV1.
    Av1,
    /// None: each frame says everything.
    None,
}

/// Why an encoder has no analysis to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// libavcodec's VideoToolbox wrapper opens no multi-pass session; VideoToolbox itself does, on a Mac.
    VideoToolboxWrapper,
    /// VideoToolbox does not encode this codec.
    NoEncoder,
    /// Every frame stands alone at a fixed quality: the notion of a second pass does not apply.
    IntraOnly,
}

/// An option that a person may not set, because passes or targets own it.
#[derive(Debug, Clone, Copy)]
pub struct Reserved {
    /// The AVOption.
    pub option: &'static str,
    /// Keys inside a parameter string, or names inside a set of flags; a `*` at the end stands for any rest. Empty: the
    /// whole option.
    pub keys: &'static [&'static str],
    /// Who owns it, and what to use instead.
    pub why: &'static str,
}

/// Options that nobody may set by hand with any encoder.
pub const RESERVED: &[Reserved] = &[
    Reserved { option: "b", keys: &[], why: "use -b" },
    Reserved { option: "maxrate", keys: &[], why: "use --maxrate" },
    Reserved { option: "bufsize", keys: &[], why: "use --bufsize" },
    Reserved {
        option: "minrate",
        keys: &[],
        why: "a constant bit rate is not offered; --maxrate with --bufsize bounds it",
    },
    Reserved { option: "threads", keys: &[], why: "use --threads" },
    Reserved { option: "flags", keys: &["pass1", "pass2"], why: "the driver sets the pass; use --passes" },
    Reserved { option: "flags", keys: &["qscale"], why: "the target decides; use --crf" },
];

/// How HDR10 static metadata is written into the bit stream by parameters.
#[derive(Debug, Clone, Copy)]
pub struct Hdr10 {
    /// The AVOption that is a parameter string.
    pub option: &'static str,
    /// Key of the mastering display, as x265 writes it: `G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)`.
    pub display: &'static str,
    /// Key of the content light level, `max,average`.
    pub light: &'static str,
    /// How the values are written.
    pub style: Hdr10Style,
}

/// How the values of a mastering display are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hdr10Style {
    /// `G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)` in units of 0.00002 and 0.0001 cd/m²: x265, x264.
    Units,
    /// The same in decimals: SVT-AV1.
    Decimals,
    /// The ten numbers of `Units` alone, with commas: VVenC.
    List,
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
    /// A software encoder of libavcodec that follows a bit rate in one pass and has nothing special: to begin a row of one's
    /// own with, whose `name`, `codec` and `pixel_formats` it must say.
    pub const PLAIN: Adapter = Adapter {
        name: "",
        row: 1,
        codec: "",
        vendor: Vendor::Software,
        availability: "an FFmpeg that is built with it",
        packages: &[],
        drivers: &[],
        known: &[],
        library: Library::Unknown,
        quality: &[],
        bitrate: Some(Bitrate { range: (1, i32::MAX as u64), with: &[], cap: Capping::Buffer }),
        speed: None,
        gop: Gop {
            length: Some(Slot { option: "g", key: None }),
            least: None,
            default_length: None,
            fixed: &[],
            forced: &[],
            exact: false,
        },
        pixel_formats: &[],
        odd_sizes: false,
        interlaced: &[],
        unwritten_unless: None,
        passes: PassModel::Inside(Inside {
            settings: &[],
            reach: Reach::PerFrame,
            words: "nothing beyond the frame at hand",
            cancelled_by: &[],
        }),
        sessions: None,
        threads: Threads::Context,
        always: &[],
        quiet: &[],
        reserved: &[],
        hdr10: None,
    };

    /// What must be known of its library in this version.
    pub fn known_of(&self, version: &str) -> impl Iterator<Item = &'static Known> {
        let version = version.trim_start_matches('v').to_owned();
        self.known.iter().filter(move |known| version.starts_with(known.version))
    }

    /// Whether two runs with statistics are its model; whether they can happen here is for [`crate::probe`] to say.
    #[must_use]
    pub fn supports_two_pass(&self) -> bool {
        matches!(self.passes, PassModel::TwoRuns(_))
    }

    /// The options nobody may set by hand, its own and those of all encoders.
    pub fn reserved(&self) -> impl Iterator<Item = &'static Reserved> {
        self.reserved.iter().chain(RESERVED)
    }

    /// The ffmpeg arguments of one pass, for people who spawn ffmpeg: 0 is a single pass and adds nothing.
    ///
    /// `stats_path` is the prefix that ffmpeg's `-passlogfile` takes, or the file for encoders with their own parameter.
    /// For libsvtav1 the arguments do nothing before FFmpeg 9 (`libsvtav1.c` reads no pass flag there); [`crate::probe`]
    /// tells. Analysis inside one run is the arguments of pass 1; pass 2 adds nothing. On Windows the path is escaped in
    /// the same way: `C:\x` becomes `C\:\\x` inside a parameter string.
    ///
    /// # Errors
    /// [`Refusal`] for any other number, for a path that cannot be passed, and for encoders without two passes at all.
    pub fn two_pass_args(&self, pass: u8, stats_path: &Path) -> Result<Vec<String>, Refusal> {
        match (pass, &self.passes) {
            (0, _) => Ok(Vec::new()),
            (3.., _) => Err(Refusal::NoSuchPass { encoder: self.name.to_owned(), pass }),
            (_, PassModel::TwoRuns(model)) => self.stats_args(model, pass, stats_path),
            (1, PassModel::Inside(inside)) => Ok(plain_args(inside.settings)),
            (_, PassModel::Inside(_)) => Ok(Vec::new()),
            (_, PassModel::Refused(because)) => Err(self.refuses_two_passes(*because, cfg!(target_os = "macos"))),
        }
    }

    /// Of several routes the parameter string, which works on every version; else ffmpeg's own two options.
    fn stats_args(&self, model: &TwoRuns, pass: u8, stats_path: &Path) -> Result<Vec<String>, Refusal> {
        let params = model.routes.iter().find_map(|route| match *route {
            StatsRoute::Params { option, pass, stats } => Some((option, pass, stats)),
            StatsRoute::Context | StatsRoute::File { .. } => None,
        });
        let longest = if params.is_some() { model.longest_path } else { LONGEST_PREFIX };
        let path = self.stats_path(stats_path, longest)?;
        Ok(match params {
            Some((option, pass_key, stats_key)) => {
                vec![format!("-{option}"), format!("{pass_key}={pass}:{stats_key}={}", escaped(path))]
            }
            None => vec!["-pass".to_owned(), pass.to_string(), "-passlogfile".to_owned(), path.to_owned()],
        })
    }

    /// The statistics file of a pass as text that reaches the encoder whole.
    ///
    /// # Errors
    /// [`Refusal::StatsPath`] for a path that the encoder would cut short.
    pub fn stats_file<'p>(&self, path: &'p Path) -> Result<&'p str, Refusal> {
        let longest = match &self.passes {
            PassModel::TwoRuns(model) => model.longest_path,
            PassModel::Inside(_) | PassModel::Refused(_) => 0,
        };
        self.stats_path(path, longest)
    }

    /// The path as text, of at most so many bytes.
    fn stats_path<'p>(&self, path: &'p Path, longest: usize) -> Result<&'p str, Refusal> {
        let refused =
            |why: String| Refusal::StatsPath { encoder: self.name.to_owned(), path: path.display().to_string(), why };
        let text = path.to_str().ok_or_else(|| refused("not UTF-8".to_owned()))?;
        match text.len() {
            0 => Err(refused("empty".to_owned())),
            length if length > longest => {
                Err(refused(format!("{length} bytes, of which only {longest} would be used")))
            }
            _ if text.contains('\0') => Err(refused("a NUL would cut it short".to_owned())),
            _ => Ok(text),
        }
    }

    /// The refusal of an encoder that has no analysis to offer; `on_a_mac`: where VideoToolbox itself can be asked.
    pub(crate) fn refuses_two_passes(&self, because: Because, on_a_mac: bool) -> Refusal {
        Refusal::VideoToolboxTwoPassUnsupported {
            encoder: self.name.to_owned(),
            why: because.words(),
            instead: with_two_passes(),
            native: because == Because::VideoToolboxWrapper && on_a_mac,
        }
    }
}

impl Because {
    /// The reason in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Because::VideoToolboxWrapper => {
                "FFmpeg's VideoToolbox encoder exposes no multi-pass session (Apple's own VTCompressionSession does)"
            }
            Because::NoEncoder => "VideoToolbox has no encoder for it",
            Because::IntraOnly => {
                "every ProRes frame stands alone at the quality of its profile, so there is nothing to analyse ahead"
            }
        }
    }
}

/// Names of the encoders that take two runs.
#[must_use]
pub fn with_two_passes() -> Vec<String> {
    all().into_iter().filter(|adapter| adapter.supports_two_pass()).map(|adapter| adapter.name.to_owned()).collect()
}

/// `-option value` for every setting that all encoders of the family have.
fn plain_args(settings: &[Setting]) -> Vec<String> {
    let common = settings.iter().filter(|setting| !setting.optional);
    common.flat_map(|setting| [format!("-{}", setting.option), setting.value.to_owned()]).collect()
}

/// A value inside a parameter string, as `av_dict_parse_string` reads it back (`av_get_token`, libavutil/avstring.c): it
/// would end at `:`, unquote at `'`, unescape at `\` and trim white space at both ends.
pub(crate) fn escaped(value: &str) -> String {
    let inner = value.trim_matches(WHITE_SPACE);
    let start = value.len() - value.trim_start_matches(WHITE_SPACE).len();
    let is_end = |index: usize| index < start || index >= start + inner.len();
    let mut text = String::with_capacity(value.len());
    for (index, character) in value.char_indices() {
        if matches!(character, ':' | '\\' | '\'') || is_end(index) {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

/// Names of the encoders that take sessions.
#[must_use]
pub fn with_sessions() -> Vec<String> {
    all().into_iter().filter(|adapter| adapter.sessions.is_some()).map(|adapter| adapter.name.to_owned()).collect()
}

/// The names most like this one, by edit distance; at most three.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut near: Vec<(usize, &str)> = names
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + name.len().max(candidate.len()) / 3)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, candidate)| candidate.to_owned()).collect()
}

/// Longest prefix of `-passlogfile` in bytes: ffmpeg makes the file's name in a buffer of 1024 (ffmpeg_mux_init.c).
const LONGEST_PREFIX: usize = 1000;

/// What `av_get_token` trims.
const WHITE_SPACE: [char; 4] = [' ', '\n', '\t', '\r'];
