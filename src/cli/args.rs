//! The command line as types, and jobs from them. The help texts are here: one line each, with units.

use std::num::{NonZeroU8, NonZeroU16};
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use glob::{GlobError, MatchOptions, glob_with};

use repass::adapter;
use repass::cache::{CacheMode, CachePlan, default_budget};
use repass::error::Error;
use repass::job::{
    AnalysisRequest, AudioChoice, JobRequest, RenditionRequest, Resume, Size, SubtitleChoice, tells_renditions_apart,
};
use repass::plan::{FirstPassChoice, OnUnsupported, Passes, Request, SessionRequest};
use repass::rate::{BitRate, ByteSize, Cap, GopLength, QualityTarget, Seconds, Target};
use repass::source::Input;

use super::ladder::{self, Asked, Rung, TypedRate};

/// Encodes video in one pass or two, in process: one decode feeds every pass.
#[derive(Debug, Parser)]
#[command(name = "repass", version, arg_required_else_help = true, after_long_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Print one JSON object on stdout, and nothing else there; errors too
    #[arg(long, global = true, help_heading = "Output", display_order = 900)]
    pub(crate) json: bool,

    /// Show what FFmpeg and the encoders log; twice: everything they can
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output", display_order = 901)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Encode a file
    ///
    /// Encode a file. With a bit rate or a size as target the video is encoded in two passes where the encoder has them:
    /// the first looks, the second spends the bits where they are needed. The file is decoded once; frames wait in memory
    /// for the second pass, and what does not fit there is decoded again. Sound, subtitles, chapters, metadata and
    /// attachments are copied.
    ///
    /// The output appears under its name only when it is complete and was read back.
    ///
    /// With several files, or a pattern in quotes, each is a job of its own, two of them at a time; one that fails does not
    /// stop the others.
    #[command(after_long_help = format!("{ENCODE_EXAMPLES}\n\n{JOB_FILE}"))]
    Encode(EncodeArgs),

    /// Run a first pass alone and keep its statistics
    ///
    /// Run a first pass alone and keep its statistics in a file, for second passes to come: `encode --stats FILE` with the same
    /// source, filters, encoder and options. Which other targets they serve depends on the encoder: with libvpx-vp9 and
    /// libaom-av1 all, bit for bit as with a first pass of their own; with libx264 and libx265 bit rates at or below the one
    /// analysed, with a result that differs a little.
    #[command(after_long_help = ANALYSE_EXAMPLES)]
    Analyse(AnalyseArgs),

    /// Show what `encode` would do with the same arguments, and do nothing
    ///
    /// Show what `encode` would do with the same arguments: every pass with every option and where it comes from, how
    /// statistics travel, what becomes of each stream, how much of the video the cache holds. Whatever can be refused
    /// before running is refused here. Nothing is encoded and no file is made.
    #[command(after_long_help = PLAN_EXAMPLES)]
    Plan(PlanArgs),

    /// List the encoders: which are here, how they analyse, how quality is asked for
    ///
    /// List the encoders that repass knows: whether the linked libavcodec has them, how they analyse before they decide,
    /// how statistics travel between two passes, the scale of their constant quality and their speed option. With a name:
    /// that encoder in full, with the options of each pass.
    Encoders(EncodersArgs),

    /// Look at this machine: libraries, encoders, memory, folders; and what would bring what is missing
    ///
    /// Look at this machine: the linked FFmpeg, each encoder's state and what to install for those that are missing, memory
    /// and threads, folders for statistics and frames. Hardware encoders that are compiled in are opened, to see whether
    /// their device is there. The exit code is 1 where something is in the way of two passes.
    Doctor,

    /// Measure what a second pass costs and what it brings, on your own footage
    ///
    /// Measure what a second pass costs and what it brings: every clip by every encoder, preset, mode and bit rate. Frames
    /// are decoded once and serve every encode and every metric, so times hold no decoding. Prints a table and a verdict
    /// for each encoder and clip; writes a page with plots, CSV and JSON.
    #[command(after_long_help = super::bench::EXAMPLES)]
    Bench(super::bench::BenchArgs),

    /// Measure the quality of a file against its original
    ///
    /// Measure the quality of a file against its original, frame by frame. Both must have the same size, pixel format,
    /// frame rate and number of frames, and show the same moments: anything else is an error that says what to do.
    #[command(after_long_help = super::measure::EXAMPLES)]
    Measure(super::measure::MeasureArgs),

    /// Print a completion script
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },

    /// Print the manual page, or write one for each command into a folder
    #[command(hide = true)]
    Man {
        /// The folder
        #[arg(value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// A job.
#[derive(Debug, Args)]
pub(crate) struct EncodeArgs {
    /// The files to encode, or patterns in quotes ('*.mov'), which match hidden files only where the dot is typed; `-` is
    /// standard input
    #[arg(value_name = "IN", value_hint = ValueHint::FilePath, required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,

    /// The encoder, by libavcodec's name (libx264, libx265, libsvtav1); `repass encoders` lists them
    #[arg(
        id = "encoder", short = 'c', long = "encoder", value_name = "ENCODER", value_parser = encoder_names(),
        hide_possible_values = true, required_unless_present = "job", help_heading = "Encoder"
    )]
    encoder_name: Option<String>,
    #[command(flatten)]
    encoder: EncoderArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    cap: CapArgs,
    #[command(flatten)]
    passes: PassArgs,
    #[command(flatten)]
    streams: StreamArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub(crate) batch: BatchArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// A first pass to keep.
#[derive(Debug, Args)]
pub(crate) struct AnalyseArgs {
    /// The file to analyse
    #[arg(value_name = "IN", value_hint = ValueHint::FilePath)]
    input: PathBuf,
    #[command(flatten)]
    source: SourceArgs,

    /// The encoder, by libavcodec's name (libx264, libx265, libvpx-vp9); `repass encoders` lists them
    #[arg(
        id = "encoder", short = 'c', long = "encoder", value_name = "ENCODER", value_parser = encoder_names(),
        hide_possible_values = true, help_heading = "Encoder"
    )]
    encoder_name: String,
    #[command(flatten)]
    encoder: EncoderArgs,
    #[command(flatten)]
    target: AnalysisTargetArgs,
    #[command(flatten)]
    cap: CapArgs,

    /// Let the pass use quicker settings than the encoder's own choice; `encode` needs the same
    #[arg(long, help_heading = "Passes")]
    fast_first_pass: bool,

    /// End the pass when a stage makes no progress for so long: seconds or a clock; 0: never
    #[arg(long, value_name = "TIME", default_value = "30:00", value_parser = time, help_heading = "Output")]
    stall_timeout: Seconds,

    /// The file to keep the statistics in
    #[arg(short = 'o', long, value_name = "STATS", value_hint = ValueHint::FilePath, help_heading = "Output")]
    output: PathBuf,

    #[command(flatten)]
    pub(crate) isolation: IsolationArgs,

    /// Replace the file if it exists
    #[arg(short = 'y', long, help_heading = "Output")]
    overwrite: bool,

    /// Show progress: a bar where stderr is a terminal, a bar always, JSON lines on stdout, or nothing
    #[arg(long, value_name = "HOW", default_value = "auto", help_heading = "Output")]
    pub(crate) progress: ProgressChoice,
}

/// A job that is only shown.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) job: EncodeArgs,

    /// Also print ffmpeg command lines that do the same, to paste and run
    #[arg(long, help_heading = "Output")]
    pub(crate) argv: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Source")]
struct SourceArgs {
    /// Begin here, also typed -ss: seconds or a clock (90, 1:30, 0:01:30.5)
    #[arg(long, visible_alias = "ss", value_name = "TIME", value_parser = time)]
    start: Option<Seconds>,

    /// Encode at most this long: seconds or a clock
    #[arg(short = 't', long, value_name = "TIME", value_parser = time)]
    length: Option<Seconds>,

    /// Encode this video stream, by its index in the file, from 0 [default: the best one]
    #[arg(long, value_name = "INDEX")]
    video_stream: Option<usize>,

    /// Read the file as this, where its content does not tell (rawvideo)
    #[arg(long, value_name = "NAME")]
    input_format: Option<String>,

    /// Set an option of the demuxer (video_size=320x192); may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    input_opt: Vec<(String, String)>,

    /// Let the input be read through this protocol too (http, https); files and pipes always are; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_protocol: Vec<String>,

    /// Keep the output even if parts of the input could not be decoded; they are counted either way
    #[arg(long)]
    keep_damaged: bool,

    /// Threads of the decoder and of the filters [default: one per CPU]
    #[arg(long, value_name = "N")]
    decoder_threads: Option<u16>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Encoder")]
struct EncoderArgs {
    /// Speed against compression: ultrafast … medium … placebo with every encoder, or the encoder's own value
    #[arg(long, value_name = "PRESET")]
    preset: Option<String>,

    /// Set an option of the encoder (tune=film, x265-params=aq-mode=3); may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    opt: Vec<(String, String)>,

    /// Threads of the encoder [default: as many as it likes]
    #[arg(long, value_name = "N")]
    threads: Option<u16>,

    /// Put key frames at this fixed distance: a time (2s, 500ms) or a number of frames (48) [default: the encoder decides]
    #[arg(long, value_name = "LENGTH", value_parser = gop)]
    gop: Option<GopLength>,

    /// Filter the frames first, in libavfilter's language (scale=1280:-2,hqdn3d)
    #[arg(long, value_name = "FILTERS")]
    vf: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Target (one of these)")]
#[command(group = ArgGroup::new("target").args(TARGETS).required(true).multiple(false))]
#[group(skip)]
struct TargetArgs {
    /// Average bit rate of the video in bits per second (4M, 2500k, 800000): two passes by default. Several, with commas
    /// between, make as many renditions
    #[arg(short = 'b', long, value_name = "RATE", value_delimiter = ',')]
    bitrate: Vec<TypedRate>,

    /// Constant quality on the encoder's own scale (libx264: 0 to 51, lower is better): one pass
    #[arg(long, value_name = "LEVEL", value_parser = quality)]
    crf: Option<f64>,

    /// Quality of the decoded video (vmaf=95, xpsnr=40, ssim=0.98, psnr=42): the film is coded in segments, each is measured,
    /// and those that miss are coded again. Implies --passes session
    #[arg(long, value_name = "METRIC=VALUE", value_parser = measured)]
    quality: Option<QualityTarget>,

    /// How far from --quality every segment may be, in its unit [default: 0.5 for vmaf, 0.3 dB for psnr and xpsnr, 0.003 for
    /// ssim]
    #[arg(long, value_name = "VALUE", value_parser = quality, requires = "quality", conflicts_with_all = OTHER_TARGETS)]
    quality_tolerance: Option<f64>,

    /// Average bit rate that --quality may take in bits per second (4M, 2500k): above it, all segments get less quality
    #[arg(long, value_name = "RATE", value_parser = bit_rate, requires = "quality", conflicts_with_all = OTHER_TARGETS)]
    max_bitrate: Option<BitRate>,

    /// Bytes of the whole file, sound and container included (700M is decimal, 700Mi binary): two passes by default
    #[arg(long, value_name = "BYTES", value_parser = byte_size)]
    size: Option<ByteSize>,

    /// Make a rendition of this size and bit rate or quality (1080p=5M, w640=800k, 1280x720=crf:23, source=8M); may be
    /// repeated. Its name is its size. One above the source is left out
    #[arg(long, value_name = "SIZE=RATE")]
    rung: Vec<Rung>,

    /// Make the renditions that this file describes, each with its own encoder, size and target; its keys are below
    #[arg(
        long, value_name = "FILE", value_hint = ValueHint::FilePath,
        conflicts_with_all = ["encoder", "preset", "opt", "threads", "gop", "vf", "maxrate", "bufsize", "quality_tolerance", "max_bitrate", "passes", "max_passes", "segment",
            "on_unsupported", "fast_first_pass", "own_first_pass", "stats", "audio", "subs", "format", "mux_opt"]
    )]
    job: Option<PathBuf>,

    /// Also make renditions that are larger than the source
    #[arg(long)]
    allow_upscale: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Target (one of these)")]
#[group(id = "analysed", required = true, multiple = false)]
struct AnalysisTargetArgs {
    /// The greatest average bit rate that second passes will aim at, in bits per second (4M, 2500k, 800000)
    #[arg(short = 'b', long, value_name = "RATE", value_parser = bit_rate)]
    bitrate: Option<BitRate>,

    /// Constant quality, where the encoder has two passes towards it (libvpx-vp9, libaom-av1)
    #[arg(long, value_name = "LEVEL", value_parser = quality)]
    crf: Option<f64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct CapArgs {
    /// Peak bit rate in bits per second, over the buffer of --bufsize
    #[arg(long, value_name = "RATE", value_parser = bit_rate, requires = "bufsize")]
    maxrate: Option<BitRate>,

    /// The player's buffer in bits; twice --maxrate gives the encoder two seconds to even out
    #[arg(long, value_name = "BITS", value_parser = bit_rate, requires = "maxrate")]
    bufsize: Option<BitRate>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Passes")]
struct PassArgs {
    /// How many passes [default: 2 for -b and --size where the encoder has them, 1 for --crf, a session for --quality]. `session`: the film is
    /// coded in segments of constant quality, and those are coded again that keep it from the bit rate of -b, or that miss
    /// --quality; with
    /// VideoToolbox, on macOS, its own encoder says what it wants again
    #[arg(long, value_name = "1|2|session", value_parser = passes)]
    passes: Option<Passes>,

    /// The greatest number of passes of a session [default: 6]
    #[arg(long, value_name = "N")]
    max_passes: Option<NonZeroU8>,

    /// Length of a session's segments, as a time or a number of frames (4s, 96) [default: by the length of the source, from 2s
    /// to 10s or 250 frames, whichever is longer; for a bit rate, some are shorter]
    #[arg(long, value_name = "LENGTH", value_parser = gop)]
    segment: Option<GopLength>,

    /// Where two passes are asked for and not to be had: refuse, or run one with the encoder's own analysis
    #[arg(long, value_name = "WHAT", default_value = "refuse")]
    on_unsupported: Unsupported,

    /// Let pass 1 use quicker settings than the encoder's own choice; the result differs a little
    #[arg(long)]
    fast_first_pass: bool,

    /// Run the second pass alone, with the statistics that `analyse` kept in this file
    #[arg(long, value_name = "STATS", value_hint = ValueHint::FilePath)]
    stats: Option<PathBuf>,

    /// Give every output a first pass of its own, also where another's would serve
    #[arg(long, conflicts_with = "stats")]
    own_first_pass: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Several files, and several runs")]
pub(crate) struct BatchArgs {
    /// How many files to work on at a time; they share --cache-size, --threads and
    /// --decoder-threads [default: 2]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroU16>,

    /// Go on after an interruption: skip files that an earlier run has done, going by its journal (.repass-journal.jsonl,
    /// beside the outputs), and do not repeat a first pass that it has finished. Those are kept beside the output until it is
    /// done; with this, also when the run is stopped or fails
    #[arg(long)]
    pub(crate) resume: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Other streams")]
struct StreamArgs {
    /// Sound: none, copy, or a codec and its bits per second for each stream (aac:160k, opus:128k)
    #[arg(long, value_name = "WHAT", default_value = "copy", value_parser = audio)]
    audio: AudioChoice,

    /// Subtitles: none or copy; in HLS and DASH text becomes WebVTT
    #[arg(long, value_name = "WHAT", default_value = "copy")]
    subs: Subs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Cache (frames between two passes)")]
struct CacheArgs {
    /// Where to keep frames
    #[arg(long, value_name = "WHERE", default_value = "auto")]
    cache: Where,

    /// Memory for frames in bytes (4G, 512Mi) [default: half of what is free]
    #[arg(long, value_name = "BYTES", value_parser = byte_size)]
    cache_size: Option<ByteSize>,

    /// Folder of the temporary file; best a fast disk with room [default: the system's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    spill_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Take the options of this profile too; what is typed wins. They are in ./repass.toml and in the file for all
    /// projects, ~/.config/repass/profiles.toml, under [profile.NAME], by their long names
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,

    /// The file to write; its extension chooses the container. {name}, {stem} and {ext} stand for the rendition's name and
    /// the input's; .m3u8 and .mpd are HLS and DASH of all renditions together
    #[arg(short = 'o', long, value_name = "OUT", value_hint = ValueHint::FilePath, required_unless_present = "job")]
    output: Option<PathBuf>,

    /// Replace the output if it exists
    #[arg(short = 'y', long)]
    overwrite: bool,

    /// The container, by libavformat's name (mp4, matroska), where the extension does not tell
    #[arg(long, value_name = "NAME")]
    format: Option<String>,

    /// Set an option of the muxer (movflags=+faststart); may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    mux_opt: Vec<(String, String)>,

    #[command(flatten)]
    pub(crate) isolation: IsolationArgs,

    /// End the job when a stage makes no progress for so long: seconds or a clock; 0: never. One that hangs inside a library
    /// ends the whole process, and with it all other files, unless each has one of its own (--isolate)
    #[arg(long, value_name = "TIME", default_value = "30:00", value_parser = time)]
    stall_timeout: Seconds,

    /// Show progress: a bar where stderr is a terminal, a bar always, JSON lines on stdout, or nothing
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) progress: ProgressChoice,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct IsolationArgs {
    /// Run the encoders in a process of their own, one for each file, so that one that crashes or hangs takes nothing else with
    /// it; with libraries that are known to crash it is always done
    #[arg(long)]
    pub(crate) isolate: bool,

    /// This is that process
    #[arg(long, hide = true)]
    pub(crate) in_child: bool,

    /// The only file that this process does
    #[arg(long, hide = true, value_name = "FILE", requires = "beside")]
    pub(crate) alone: Option<PathBuf>,

    /// Of how many, side by side, it is one
    #[arg(long, hide = true, value_name = "N")]
    pub(crate) beside: Option<NonZeroU16>,
}

/// Which encoders to show.
#[derive(Debug, Args)]
pub(crate) struct EncodersArgs {
    /// Show only this one, in full
    #[arg(value_name = "ENCODER", value_parser = encoder_names(), hide_possible_values = true)]
    pub(crate) encoder: Option<String>,

    /// Open each hardware encoder that is compiled in, to see whether its device is there
    #[arg(long)]
    pub(crate) probe_device: bool,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressChoice {
    Auto,
    Bar,
    Json,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Unsupported {
    Refuse,
    Fallback,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Subs {
    None,
    Copy,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Where {
    /// In memory; what does not fit in a temporary file or decoded again, as is measured to be faster
    Auto,
    /// In memory; what does not fit is decoded again
    Ram,
    /// In memory and a temporary file, there raw or packed, as is measured to be faster
    Disk,
    /// In memory and a temporary file, there raw
    Raw,
    /// In memory and a temporary file, there packed by LZ4
    Lz4,
    /// Nowhere: decode for every pass
    None,
}

impl EncodeArgs {
    /// The files to read, patterns filled in.
    ///
    /// # Errors
    /// [`Error::Usage`] for a pattern without a match, and for arguments that make no sense with several files.
    pub(crate) fn inputs(&self) -> Result<Vec<PathBuf>, Error> {
        if let Some(alone) = &self.output.isolation.alone {
            return Ok(vec![alone.clone()]);
        }
        let found = self.inputs.iter().map(|input| matching(input)).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<PathBuf> = found.into_iter().flatten().collect();
        let usage = |what, text: &Path, why: &str| {
            Err(Error::Usage { what, text: text.display().to_string(), why: why.to_owned() })
        };
        let output = self.output.output.as_deref().filter(|output| !output.to_string_lossy().contains("{stem}"));
        match (&self.passes.stats, output) {
            (Some(stats), _) if inputs.len() > 1 => {
                usage("statistics", stats, "they are of one file, and there are several")
            }
            (None, Some(output)) if inputs.len() > 1 => {
                usage("output", output, "several files need {stem} in its name, like 'done/{stem}.mp4'")
            }
            _ => Ok(inputs),
        }
    }

    /// The jobs that these arguments ask for, one with each of the inputs; one whose outputs cannot be named stops no other.
    ///
    /// # Errors
    /// [`NoAdapter`](repass::error::Refusal::NoAdapter), and as for [`ladder::read`].
    pub(crate) fn requests(&self, inputs: &[PathBuf], verbose: bool) -> Result<Vec<Result<JobRequest, Error>>, Error> {
        let asked = match &self.target.job {
            Some(file) => ladder::read(file, self.output.output.as_deref(), self.output.overwrite, verbose)?,
            None => Asked {
                filters: self.encoder.vf.clone(),
                enlarge: self.target.allow_upscale,
                renditions: self.renditions(verbose)?,
            },
        };
        // What is free is asked once for all of them.
        let cache = self.cache.plan();
        Ok(inputs.iter().map(|input| self.request(input, &asked, &cache)).collect())
    }

    fn request(&self, input: &Path, asked: &Asked, cache: &CachePlan) -> Result<JobRequest, Error> {
        let input = self.source.input(input);
        let mut renditions = asked.renditions.clone();
        ladder::name_outputs(&mut renditions, &input.path)?;
        Ok(JobRequest {
            filters: asked.filters.clone(),
            renditions,
            cache: cache.clone(),
            keep_damaged: self.source.keep_damaged,
            decoder_threads: self.source.decoder_threads.filter(|threads| *threads > 0),
            stall_timeout: Some(self.output.stall_timeout).filter(|limit| limit.0 > 0.0),
            enlarge: asked.enlarge || self.target.allow_upscale,
            resume: if self.batch.resume { Resume::TakeUp } else { Resume::Keep },
            ..JobRequest::new(input)
        })
    }

    /// One rendition for each rung or bit rate.
    fn renditions(&self, verbose: bool) -> Result<Vec<RenditionRequest>, Error> {
        let output = self.output.output.clone().unwrap_or_default();
        let alone = |name: String| match tells_renditions_apart(&output) {
            true => name,
            false => output.file_stem().unwrap_or(output.as_os_str()).to_string_lossy().into_owned(),
        };
        let source = |name, target| Rung { name, size: Size::Source, target };
        let target = &self.target;
        let rungs = match (target.bitrate.as_slice(), target.crf, target.size) {
            _ if !target.rung.is_empty() => ladder::named_apart(&target.rung),
            _ if target.quality.is_some() => {
                target.measured().map(|(name, target)| source(alone(name), target)).into_iter().collect()
            }
            ([only], ..) => vec![source(alone(only.text.clone()), Target::Average(only.rate))],
            ([], Some(level), _) => vec![source(alone(format!("crf{level}")), Target::Quality(level))],
            ([], _, Some(size)) => vec![source(alone(size.0.to_string()), Target::Size(size))],
            (several, ..) => {
                several.iter().map(|typed| source(typed.text.clone(), Target::Average(typed.rate))).collect()
            }
        };
        rungs.into_iter().map(|rung| self.rendition(rung, &output, verbose)).collect()
    }

    fn rendition(&self, rung: Rung, output: &Path, verbose: bool) -> Result<RenditionRequest, Error> {
        let encoder = Request {
            passes: passes_for(self.passes.passes, self.passes.stats.as_deref()),
            on_unsupported: self.passes.on_unsupported.into(),
            cap: self.cap.cap(),
            fast_first: self.passes.fast_first_pass,
            first_pass: first_pass(self.passes.stats.as_deref(), self.passes.own_first_pass),
            session: self.passes.session(self.target.quality.is_some())?,
            ..self.encoder.request(self.encoder_name.as_deref().unwrap_or_default(), rung.target, verbose)?
        };
        Ok(RenditionRequest {
            container: self.output.format.clone(),
            overwrite: self.output.overwrite,
            size: rung.size,
            gop: self.encoder.gop,
            audio: self.streams.audio.clone(),
            subtitles: self.streams.subs.into(),
            mux_options: self.output.mux_opt.clone(),
            ..RenditionRequest::new(rung.name, output, encoder)
        })
    }
}

impl AnalyseArgs {
    /// The analysis that these arguments ask for.
    ///
    /// # Errors
    /// [`NoAdapter`](repass::error::Refusal::NoAdapter).
    pub(crate) fn request(&self, verbose: bool) -> Result<AnalysisRequest, Error> {
        let bitrate = self.target.bitrate.map(Target::Average);
        let target = bitrate.or(self.target.crf.map(Target::Quality)).expect("clap requires one of the group");
        let encoder = Request {
            cap: self.cap.cap(),
            fast_first: self.fast_first_pass,
            ..self.encoder.request(&self.encoder_name, target, verbose)?
        };
        Ok(AnalysisRequest {
            input: self.source.input(&self.input),
            filters: self.encoder.vf.clone(),
            size: Size::Source,
            enlarge: false,
            encoder,
            gop: self.encoder.gop,
            output: self.output.clone(),
            overwrite: self.overwrite,
            keep_damaged: self.source.keep_damaged,
            decoder_threads: self.source.decoder_threads.filter(|threads| *threads > 0),
            stall_timeout: Some(self.stall_timeout).filter(|limit| limit.0 > 0.0),
        })
    }
}

impl TargetArgs {
    /// The quality that is asked for, with its name.
    fn measured(&self) -> Option<(String, Target)> {
        let quality = self.quality?;
        let tolerance = self.quality_tolerance.unwrap_or(quality.tolerance);
        let target = Target::Measured(QualityTarget { tolerance, at_most: self.max_bitrate, ..quality });
        Some((format!("{}{}", quality.metric, quality.value), target))
    }
}

impl EncoderArgs {
    fn request(&self, name: &str, target: Target, verbose: bool) -> Result<Request, Error> {
        Ok(Request {
            preset: self.preset.clone(),
            options: self.opt.clone(),
            threads: self.threads.filter(|threads| *threads > 0),
            verbose,
            ..Request::new(adapter::named(name)?, target)
        })
    }
}

impl PassArgs {
    fn session(&self, has_quality: bool) -> Result<SessionRequest, Error> {
        let usual = SessionRequest::default();
        let most_passes = self.max_passes.unwrap_or(usual.most_passes);
        let asked = SessionRequest { most_passes, segment: self.segment, ..usual };
        let is_session = has_quality || self.passes == Some(Passes::Session);
        if !is_session && (self.max_passes.is_some() || self.segment.is_some()) {
            let why = "--max-passes and --segment are for --passes session and --quality".to_owned();
            let text = self.max_passes.map_or_else(|| "--segment".to_owned(), |count| format!("--max-passes {count}"));
            return Err(Error::Usage { what: "option", text, why });
        }
        Ok(asked)
    }
}

/// How many passes, where statistics may be kept of the first.
pub(super) fn passes_for(asked: Option<Passes>, stats: Option<&Path>) -> Passes {
    asked.unwrap_or(if stats.is_some() { Passes::Two } else { Passes::Auto })
}

/// Where the first pass comes from: these statistics, or its own run.
pub(super) fn first_pass(stats: Option<&Path>, own: bool) -> FirstPassChoice {
    match (stats, own) {
        (Some(stats), _) => FirstPassChoice::Kept(stats.to_owned()),
        (None, true) => FirstPassChoice::Own,
        (None, false) => FirstPassChoice::Shared,
    }
}

impl SourceArgs {
    fn input(&self, path: &Path) -> Input {
        Input {
            path: path.to_owned(),
            format: self.input_format.clone(),
            options: self.input_opt.clone(),
            protocols: self.allow_protocol.clone(),
            video_stream: self.video_stream,
            start: self.start,
            length: self.length,
            spool_dir: None,
        }
    }
}

impl CapArgs {
    fn cap(&self) -> Option<Cap> {
        Some(Cap { max: self.maxrate?, buffer: self.bufsize? })
    }
}

impl CacheArgs {
    fn plan(&self) -> CachePlan {
        let mode = match self.cache {
            Where::Auto => CacheMode::Auto,
            Where::Ram => CacheMode::Ram,
            Where::Disk => CacheMode::Disk,
            Where::Raw => CacheMode::Raw,
            Where::Lz4 => CacheMode::Lz4,
            Where::None => CacheMode::None,
        };
        let budget = self.cache_size.unwrap_or_else(default_budget);
        CachePlan { mode, budget, spill_dir: self.spill_dir.clone() }
    }
}

impl From<Unsupported> for OnUnsupported {
    fn from(choice: Unsupported) -> Self {
        match choice {
            Unsupported::Refuse => OnUnsupported::Refuse,
            Unsupported::Fallback => OnUnsupported::Fallback,
        }
    }
}

impl From<Subs> for SubtitleChoice {
    fn from(choice: Subs) -> Self {
        match choice {
            Subs::None => SubtitleChoice::None,
            Subs::Copy => SubtitleChoice::Copy,
        }
    }
}

/// The files that a pattern means, as a shell takes it: a dot that begins a name is typed. What exists is a name, whatever
/// is in it.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>, Error> {
    let text = pattern.to_string_lossy();
    if pattern.exists() || is_address(&text) || !text.contains(['*', '?', '[']) {
        return Ok(vec![pattern.to_owned()]);
    }
    let usage = |why: &str| Error::Usage { what: "pattern", text: text.clone().into_owned(), why: why.to_owned() };
    let shell = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    let found = glob_with(&text, shell).map_err(|error| usage(error.msg))?;
    let unreadable = |error: GlobError| Error::Input {
        path: error.path().to_owned(),
        what: format!("cannot search: {}", error.error()),
        source: None,
    };
    let paths = found.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let files: Vec<PathBuf> = paths.into_iter().filter(|path| path.is_file()).collect();
    if files.is_empty() { Err(usage("no file matches")) } else { Ok(files) }
}

/// Whether it begins with a protocol, as in `https://[::1]/a.mp4?x=1`; a single letter is a drive.
fn is_address(text: &str) -> bool {
    let is_protocol =
        |name: &str| name.len() > 1 && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-.,".contains(c));
    text.split_once(':').is_some_and(|(name, _)| is_protocol(name))
}

pub(super) fn encoder_names() -> PossibleValuesParser {
    PossibleValuesParser::new(adapter::all().into_iter().map(|adapter| adapter.name))
}

pub(super) fn bit_rate(text: &str) -> Result<BitRate, String> {
    text.parse().map_err(reason)
}

pub(super) fn byte_size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(reason)
}

pub(super) fn time(text: &str) -> Result<Seconds, String> {
    text.parse().map_err(reason)
}

/// clap says which option and which text it was; only the reason is new.
pub(super) fn reason(error: Error) -> String {
    match error {
        Error::Usage { why, .. } => why,
        other => other.to_string(),
    }
}

pub(super) fn quality(text: &str) -> Result<f64, String> {
    let level = text.parse::<f64>().ok().filter(|level| level.is_finite());
    level.ok_or_else(|| "expected a number, like 23 or 20.5".to_owned())
}

fn measured(text: &str) -> Result<QualityTarget, String> {
    text.parse().map_err(reason)
}

pub(super) fn passes(text: &str) -> Result<Passes, String> {
    match text {
        "1" => Ok(Passes::One),
        "2" => Ok(Passes::Two),
        "session" => Ok(Passes::Session),
        _ => Err("expected 1, 2 or session".to_owned()),
    }
}

fn gop(text: &str) -> Result<GopLength, String> {
    text.parse().map_err(reason)
}

pub(super) fn audio(text: &str) -> Result<AudioChoice, String> {
    match text {
        "none" => Ok(AudioChoice::None),
        "copy" => Ok(AudioChoice::Copy),
        codec => codec.parse().map(AudioChoice::Transcode).map_err(reason),
    }
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected key=value".to_owned()),
    }
}

const ANALYSE_EXAMPLES: &str = "\
Examples:
  repass analyse in.mkv -o in.stats -c libx264 -b 6M
  repass encode in.mkv -o out.mp4 -c libx264 -b 3M --stats in.stats
      The second pass alone, at the rate analysed or below.
  repass analyse in.mkv -o in.stats -c libvpx-vp9 -b 2M";

const ENCODE_EXAMPLES: &str = "\
Examples:
  repass encode in.mkv -o out.mp4 -c libx264 -b 4M
      Two passes towards 4 Mb/s of video; sound and the rest are copied.
  repass encode in.mkv -o out.mkv -c libx265 --size 700M --preset slow
      A file of 700 MB: sound and container are measured, the video gets what is left.
  repass encode in.mkv -o out.mkv -c libsvtav1 --crf 30
      One pass of constant quality.
  repass encode in.mkv -o out.mp4 -c libx264 -b 3M --maxrate 5M --bufsize 8M --audio aac:160k
      With a ceiling for streaming, and sound that every player takes.
  repass encode in.mkv -o part.mp4 -c libx264 --crf 20 -ss 1:30 -t 20 --vf scale=1280:-2
      Twenty seconds from 1:30 on, scaled to 720p.
  repass encode in.mkv -o 'out_{name}.mp4' -c libx264 --rung 1080p=5M --rung 720p=3M --rung 480p=1200k --gop 2s
      Three renditions of two passes each from one decode, with key frames at the same times.
  repass encode in.mkv -o 'out_{name}.mp4' -c libx264 -b 2M,4M,8M
      Three bit rates at the source's size.
  repass encode in.mkv -o web/master.m3u8 -c libx264 --rung 720p=3M --rung 360p=800k --audio aac:128k
      HLS with fMP4 segments of two seconds; manifest.mpd makes it DASH.
  repass encode in.mkv --job ladder.toml
      What the file says.
  repass encode in.mkv -o out.mkv -c libx265 -b 4M --passes session
      Segments of constant quality, side by side; those that keep the whole from 4 Mb/s are coded again.
  repass encode in.mkv -o out.mp4 -c libx264 --quality vmaf=95 --max-bitrate 6M
      Every segment at VMAF 95, measured while it is coded; at less, all alike, where that would be above 6 Mb/s.
  repass encode in.mkv -o out.mp4 -c hevc_nvenc -b 4M --passes 2 --on-unsupported fallback
      NVENC has no second pass: one pass with its own analysis, and the report says so.
  repass encode *.mov -o 'done/{stem}.mp4' -c libx264 -b 3M
      Every file, two at a time; with --resume those that are not done yet.";

/// Of these there is exactly one.
const TARGETS: [&str; 6] = ["bitrate", "crf", "quality", "size", "rung", "job"];

/// Those that are no measured quality. clap does not require what the target at hand excludes, so these exclude its companions.
const OTHER_TARGETS: [&str; 4] = ["bitrate", "crf", "size", "rung"];

/// The keys of a job file.
const JOB_FILE: &str = "\
Job file (--job), in TOML:
  output = 'out_{name}.mp4'    for renditions that have none of their own; -o wins
  vf = 'hqdn3d'                filters for all
  gop = '2s'                   for renditions that have none of their own
  allow-upscale = false
  [[rendition]]                one for each
  name = '720p'                encoder = 'libx264'
  size = '720p'                bitrate = '3M', or crf = 23, or file-size = '700M', or quality = 'vmaf=95'
  quality-tolerance = 0.5      max-bitrate = '6M'
  maxrate = '5M'               bufsize = '8M'
  passes = 2, or 'session'     fallback = false, fast-first-pass = false, own-first-pass = false
  preset = 'slow'              threads = 4
  gop = '2s'                   vf = 'unsharp'
  opt = { tune = 'film' }      mux-opt = { movflags = '+faststart' }
  audio = 'aac:160k'           subs = true
  output = 'x.mkv'             format = 'matroska', stats = 'in.stats'";

const PLAN_EXAMPLES: &str = "\
Examples:
  repass plan in.mkv -o out.mp4 -c libx264 -b 4M
  repass plan in.mkv -o out.mp4 -c libx264 -b 4M --argv
      With the ffmpeg command lines that do the same.
  repass plan in.mkv -o out.mkv -c libx265 --size 700M --json | jq .renditions[0].encoder";

const EXIT_CODES: &str = "\
Exit codes:
  0    done and verified
  1    anything not listed here
  2    bad usage
  3    refused by the plan, before anything ran; or a size or bit rate that the first pass shows to be too low
  4    the input is unreadable or damaged
  5    the encoder or libav failed
  6    writing failed: disk full, no permission
  130  interrupted; nothing is left under the output's name";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_option_keeps_what_follows_its_first_equals_sign() {
        assert_eq!(pair("x265-params=a=1:b=2").unwrap(), ("x265-params".to_owned(), "a=1:b=2".to_owned()));
        assert!(pair("=x").is_err() && pair("x").is_err());
    }

    #[test]
    fn a_quality_is_a_finite_number() {
        assert_eq!(quality("20.5").unwrap(), 20.5);
        assert!(quality("inf").is_err() && quality("NaN").is_err() && quality("low").is_err());
    }
}
