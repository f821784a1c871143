//! Typed errors: which encoder, which pass, which option, libav's own words, and a remedy where there is one.
//!
//! Invariant: a library error never ends the process and is never printed here; the binary prints it once and turns
//! [`Error::exit_code`] into its exit status.

use std::io;
use std::path::PathBuf;

use crate::av::{AvError, OUT_OF_MEMORY};
use crate::event::Stage;
use crate::plan::{NotMeasured, NotNative};
use crate::session::SessionError;

/// Everything that can go wrong, by place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request itself is malformed: a rate, a size or a time that cannot be read.
    #[error("{what} {text:?}: {why}")]
    Usage {
        /// What was being read, for instance `bitrate`.
        what: &'static str,
        /// The text as given.
        text: String,
        /// Why it cannot be read, with an example of what can.
        why: String,
    },
    /// The plan refuses: nothing has been run.
    #[error(transparent)]
    Plan(#[from] Refusal),
    /// The input cannot be opened, or holds nothing to encode.
    #[error("{}: {what}{}", path.display(), words(.source.as_ref()))]
    Input {
        /// The input.
        path: PathBuf,
        /// What was being done, for instance `cannot open`.
        what: String,
        /// libav's own words, where it was libav that refused.
        source: Option<AvError>,
    },
    /// The input was read to its end, but not whole: frames could not be decoded, or it ends early.
    #[error("{}: damaged: {what}; the encode was not kept (--keep-damaged keeps it)", path.display())]
    Damaged {
        /// The input.
        path: PathBuf,
        /// What is missing or broken, with counts.
        what: String,
    },
    /// A frame of the caller's own that could not be made, or is not as announced; any frame whose pixels cannot be read.
    #[error("frame {index}: {source}")]
    Frames {
        /// Its number, from 0.
        index: u64,
        /// The caller's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A filter string that libavfilter does not take, or a filter that failed while running.
    #[error("filters {graph:?}: {source}{}", said(.log))]
    Filter {
        /// The filter graph as it was given to libavfilter.
        graph: String,
        /// libav's own words.
        source: AvError,
        /// The last lines libavfilter logged.
        log: String,
    },
    /// An encoder that cannot be opened.
    #[error("{encoder}, pass {pass}: cannot open: {source}{}", said(.log))]
    Open {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The pass, from 1.
        pass: u8,
        /// libav's own words.
        source: AvError,
        /// The last lines the encoder logged.
        log: String,
    },
    /// An option that the encoder did not take when it was opened.
    #[error("{encoder}, pass {pass}: option {option}={value} was not taken: {source}{}", said(.log))]
    Option {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The pass, from 1.
        pass: u8,
        /// The option's name.
        option: String,
        /// The value as given.
        value: String,
        /// libav's own words.
        source: AvError,
        /// The last lines the encoder logged.
        log: String,
    },
    /// An encoder that failed while encoding.
    #[error("{encoder}, pass {pass}, frame {frame}: {source}{}", said(.log))]
    Encode {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The pass, from 1.
        pass: u8,
        /// How many frames it had been given.
        frame: u64,
        /// libav's own words.
        source: AvError,
        /// The last lines the encoder logged.
        log: String,
    },
    /// The statistics of a first pass are missing, cut short or not those of this encode.
    #[error("{encoder}: statistics of pass 1: {why}")]
    Stats {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// What is wrong with them.
        why: String,
    },
    /// A file of kept statistics that is not whole, or is no such file.
    #[error("{}: no statistics to be used: {why}", path.display())]
    Artefact {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The source is not the frames that kept statistics were made of.
    #[error("{}: statistics of other frames: {why}; analyse this source anew", path.display())]
    OtherFrames {
        /// The file of statistics.
        path: PathBuf,
        /// The first difference.
        why: String,
    },
    /// The two passes did not see the same frames.
    #[error("the passes saw different frames: {why}; does the input change while it is read?")]
    PassesDiffer {
        /// The first difference.
        why: String,
    },
    /// Two streams that cannot be compared frame by frame.
    #[error("cannot be compared: {why}")]
    Mismatch {
        /// The first difference.
        why: String,
    },
    /// Decoding failed in a way that leaves nothing to go on with.
    #[error("{}: {what}: {source}", path.display())]
    Decode {
        /// The input.
        path: PathBuf,
        /// What was being decoded.
        what: String,
        /// libav's own words.
        source: AvError,
    },
    /// An audio stream that could not be transcoded.
    #[error("audio stream {stream}: {what}: {source}")]
    Audio {
        /// The stream's index in the input.
        stream: usize,
        /// What was being done.
        what: String,
        /// libav's own words.
        source: AvError,
    },
    /// A stream of subtitles that could not be made WebVTT.
    #[error("subtitle stream {stream}: {what}: {source}")]
    Subtitle {
        /// The stream's index in the input.
        stream: usize,
        /// What was being done.
        what: String,
        /// libav's own words.
        source: AvError,
    },
    /// The output cannot be written.
    #[error("{}: cannot write: {source}", path.display())]
    Write {
        /// The output, by its final name.
        path: PathBuf,
        /// The operating system's words: disk full, no permission and the like.
        source: io::Error,
    },
    /// The muxer refused a stream or a packet.
    #[error("{}: {what}: {source}{}", path.display(), said(.log))]
    Mux {
        /// The output, by its final name.
        path: PathBuf,
        /// What was being done.
        what: String,
        /// libav's own words.
        source: AvError,
        /// The last lines the muxer logged.
        log: String,
    },
    /// What was written is not what was encoded; it was not given its final name.
    #[error("{}: written, but not whole: {why}; removed", path.display())]
    Verify {
        /// The output, by its final name.
        path: PathBuf,
        /// The first thing that does not match.
        why: String,
    },
    /// A file of our own (spill, statistics) could not be written or read.
    #[error("{what} in {}: {source}", path.display())]
    Scratch {
        /// What the file holds.
        what: &'static str,
        /// Its folder.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// A stage made no progress for as long as a stall may last.
    #[error("{stage} made no progress for {seconds:.0} s: {}", stage.remedy())]
    Stalled {
        /// The stage that is not waiting for another.
        stage: Stage,
        /// Seconds without progress.
        seconds: f64,
    },
    /// The system gave no memory, no thread or no process.
    #[error("the system has too little memory or too few threads left: {doing}; a smaller --cache-size needs less")]
    Exhausted {
        /// What was being done, in the words of the error that it led to.
        doing: String,
    },
    /// The child process in which an encoder was isolated was ended by a signal: the library killed it.
    #[error("{encoder}: its process was ended by {signal}; nothing is left under the output's name")]
    Died {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The signal.
        signal: String,
    },
    /// What a job in a process of its own ended with.
    #[error("{message}")]
    Elsewhere {
        /// The process's exit code.
        code: u8,
        /// Its own words.
        message: String,
    },
    /// The parties of a session do not keep to its rules.
    #[error("{encoder}: session: {source}")]
    Session {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// Which rule.
        source: SessionError,
    },
    /// The person or the caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// Another stage of the same job ended first; its error is the one to read.
    #[error("stopped because another stage ended")]
    Stopped,
}

impl Error {
    /// The exit status the binary ends with: documented in the README, stable.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage { .. } => 2,
            Error::Plan(_) => 3,
            Error::Input { .. }
            | Error::Damaged { .. }
            | Error::Decode { .. }
            | Error::Frames { .. }
            | Error::PassesDiffer { .. }
            | Error::Artefact { .. }
            | Error::OtherFrames { .. }
            | Error::Mismatch { .. } => 4,
            Error::Filter { .. }
            | Error::Open { .. }
            | Error::Option { .. }
            | Error::Encode { .. }
            | Error::Stats { .. }
            | Error::Audio { .. }
            | Error::Subtitle { .. }
            | Error::Mux { .. }
            | Error::Session { .. } => 5,
            Error::Exhausted { .. } | Error::Died { .. } => 5,
            Error::Write { .. } | Error::Verify { .. } | Error::Scratch { .. } => 6,
            Error::Stalled { stage: Stage::Feed | Stage::Other(_), .. } => 4,
            Error::Stalled { stage: Stage::Encode(_), .. } => 5,
            Error::Stalled { stage: Stage::Mux(_) | Stage::Keep(_), .. } => 6,
            Error::Elsewhere { code, .. } => *code,
            Error::Interrupted => 130,
            Error::Stopped => 1,
        }
    }
}

impl Error {
    /// The same, or [`Error::Exhausted`] where the cause is that there was no memory: what to do about it differs.
    #[must_use]
    pub fn or_exhausted(self) -> Self {
        let source = match &self {
            Error::Input { source, .. } => *source,
            Error::Filter { source, .. }
            | Error::Open { source, .. }
            | Error::Option { source, .. }
            | Error::Encode { source, .. }
            | Error::Decode { source, .. }
            | Error::Audio { source, .. }
            | Error::Subtitle { source, .. }
            | Error::Mux { source, .. } => Some(*source),
            _ => None,
        };
        if source == Some(OUT_OF_MEMORY) { Error::Exhausted { doing: self.to_string() } } else { self }
    }
}

impl Error {
    /// What libav's refusal becomes where it can only mean that there is no memory.
    pub(crate) fn no_memory(doing: &'static str) -> impl Fn(AvError) -> Error {
        move |source| Error::Exhausted { doing: format!("{doing}: {source}") }
    }
}

impl Stage {
    fn remedy(self) -> &'static str {
        match self {
            Stage::Feed | Stage::Other(_) => "does the input still deliver? --stall-timeout sets how long to wait",
            Stage::Encode(_) => "the encoder hangs or is very slow; --stall-timeout sets how long to wait",
            Stage::Mux(_) | Stage::Keep(_) => "does the disk still answer? --stall-timeout sets how long to wait",
        }
    }
}

/// Why a plan is refused before anything runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No adapter has this name.
    #[error("no adapter named {name:?}{}", nearest(.near))]
    NoAdapter {
        /// The name as given.
        name: String,
        /// Names that look like it.
        near: Vec<String>,
    },
    /// The linked libavcodec does not have the encoder.
    #[error("{encoder}: not in the linked libavcodec {libavcodec}: {remedy}")]
    NoEncoder {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The linked libavcodec, as `major.minor.micro`.
        libavcodec: String,
        /// What would bring it, or what to use instead.
        remedy: String,
    },
    /// The encoder is compiled in, but does not open on this machine: no device, or no driver for it.
    #[error("{encoder}: does not open on this machine: {why}; {remedy}")]
    NoDevice {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// libav's words, and what it logged.
        why: String,
        /// What it needs.
        remedy: String,
    },
    /// Two passes through libavcodec's VideoToolbox wrapper, which opens no multi-pass session.
    #[error("{encoder}: two passes are not possible: {why}; for two passes use {}{}", .instead.join(", "), native_way_out(*.native))]
    VideoToolboxTwoPassUnsupported {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The reason: the wrapper, or a codec for which the notion does not apply.
        why: &'static str,
        /// Software encoders that do take two passes.
        instead: Vec<String>,
        /// Whether this system has Apple's own session, which does too.
        native: bool,
    },
    /// Apple's own session with several passes is not to be had for this.
    #[error("{encoder}: no session of VideoToolbox: {why}; software encoders with sessions: {}", .instead.join(", "))]
    NotNative {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The reason.
        why: NotNative,
        /// Software encoders that take sessions.
        instead: Vec<String>,
    },
    /// A pass that no encoder has: there are a single pass (0), a first (1) and a second (2).
    #[error("{encoder}: no pass {pass}; there are 1 and 2, and 0 for a single pass")]
    NoSuchPass {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The number as given.
        pass: u8,
    },
    /// A path of a statistics file that would not reach the encoder whole.
    #[error("{encoder}: statistics cannot be kept at {path:?}: {why}")]
    StatsPath {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The path.
        path: String,
        /// What would happen to it.
        why: String,
    },
    /// Two passes with an encoder that has them inside one run, or not at all.
    #[error("{encoder}: two passes are not possible: {why}; {remedy}")]
    NoTwoPass {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The reason.
        why: String,
        /// What is on offer instead.
        remedy: String,
    },
    /// A session with an encoder whose segments cannot be joined.
    #[error("{encoder}: no session: its segments cannot be joined into one stream; for a session use {}", .instead.join(", "))]
    NoSession {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// Encoders that take sessions.
        instead: Vec<String>,
    },
    /// A measured quality that segments cannot be held to.
    #[error("{encoder}: no --quality: {why}")]
    NotMeasured {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The reason, with what is needed.
        why: NotMeasured,
    },
    /// Two passes towards a constant quality, where the encoder forbids it.
    #[error("{encoder}: constant quality does not take two passes: {why}; use --passes 1, or a target of -b or --size")]
    QualityNeedsOnePass {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The encoder's own words.
        why: String,
    },
    /// A rate target that the encoder has no way to follow.
    #[error("{encoder}: {why}")]
    Target {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The reason, with what it does take.
        why: String,
    },
    /// An option that the encoder does not have.
    #[error("{encoder}: no option {option:?}{}", nearest(.near))]
    UnknownOption {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The option as given.
        option: String,
        /// Options of the encoder that look like it.
        near: Vec<String>,
    },
    /// An option's value that the encoder does not take.
    #[error("{encoder}: {option}={value}: {why}")]
    OptionValue {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The option.
        option: String,
        /// The value as given.
        value: String,
        /// The type, range or names it does take.
        why: String,
    },
    /// An option that would take passes or statistics out of our hands.
    #[error("{encoder}: {option} belongs to the passes and cannot be set: {why}")]
    Reserved {
        /// libavcodec's name of the encoder.
        encoder: String,
        /// The option, or the key inside a parameter string.
        option: String,
        /// Why it is kept.
        why: String,
    },
    /// A container that cannot hold a stream.
    #[error("{container} cannot hold {what}: {remedy}")]
    Container {
        /// The container's name in libavformat, or the extension when none fits.
        container: String,
        /// The stream: its kind, codec and index.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// The output is the input.
    #[error("{path}: output and input are the same file")]
    SameFile {
        /// The path as given.
        path: String,
    },
    /// The output exists and may not be overwritten.
    #[error("{path}: exists; -y overwrites it")]
    Exists {
        /// The path as given.
        path: String,
    },
    /// The output cannot be there: no such folder, or no permission.
    #[error("{path}: {why}")]
    Output {
        /// The path as given.
        path: String,
        /// The reason.
        why: String,
    },
    /// The input does not fit the request: no video, frames that come only once for two passes, a start behind the end.
    #[error("{path}: {why}")]
    Source {
        /// The input as given.
        path: String,
        /// The reason and the remedy.
        why: String,
    },
    /// Kept statistics that are not those of this encode.
    #[error("{}: statistics of another encode: {}", path.display(), .differences.join("; "))]
    OtherStats {
        /// The file of statistics.
        path: PathBuf,
        /// Everything that differs, as `preset: medium then, slow now`.
        differences: Vec<String>,
    },
    /// A bench in which nothing can be measured.
    #[error("{why}")]
    Bench {
        /// The reason.
        why: String,
    },
    /// Renditions of which none fits the source.
    #[error("no rendition fits the source of {picture}: {renditions} are larger; --allow-upscale makes them")]
    Ladder {
        /// Their names.
        renditions: String,
        /// The size of the source.
        picture: String,
    },
    /// Filters of one rendition that would give it other frames than the others have.
    #[error("filters {filters:?} change the frame rate of one rendition: use --vf, which all renditions share")]
    RenditionFilters {
        /// The filters.
        filters: String,
    },
    /// A job file that cannot be read.
    #[error("{path}: {why}")]
    JobFile {
        /// The file.
        path: String,
        /// The reason, with the place.
        why: String,
    },
    /// A file size that cannot be met.
    #[error("a file of {wanted} bytes cannot be met: {why}")]
    Size {
        /// The size asked for, in bytes.
        wanted: u64,
        /// The reason, with the smallest that can.
        why: String,
    },
}

fn words(source: Option<&AvError>) -> String {
    source.map(|source| format!(": {source}")).unwrap_or_default()
}

fn said(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(" ({log})") }
}

fn native_way_out(is_here: bool) -> &'static str {
    if is_here { ", or --passes session, which opens Apple's own" } else { "" }
}

fn nearest(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) }
}
