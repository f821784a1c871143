//! Jobs: one source, its renditions, their passes. Prepared into a plan that can be printed, then run.
//!
//! Invariant: [`Job::prepare`] decides and refuses, [`Job::run`] only does; renditions of a job share one decode, and in
//! every run all renditions that have a pass left take part side by side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::adapter::Adapter;
use crate::av::filter::FilterOutput;
use crate::av::frame::{chroma_step, picture_bytes};
use crate::av::log;
use crate::av::muxer::Container;
use crate::cache::CachePlan;
use crate::error::{Error, Refusal};
use crate::event::{Cancel, Event};
use crate::media::SourceInfo;
use crate::plan::{EncoderPlan, PassStep, Request, compile};
use crate::probe::capabilities;
use crate::rate::{BitRate, Seconds, Target};
use crate::report::Report;
use crate::source::{Branch, DecodedFile, Graph, Input};
use crate::timing::Timing;

mod analysis;
mod first_pass;
mod run;
mod size;
mod streams;

pub use analysis::{Analysis, AnalysisPlan, AnalysisRequest};
pub use first_pass::FirstPass;
pub(crate) use size::Others;
pub use streams::{AudioChoice, Fate, StreamPlan, SubtitleChoice};

/// What is asked for: one source and at least one rendition.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// The source.
    pub input: Input,
    /// Filters that every frame goes through, in libavfilter's language.
    pub filters: Option<String>,
    /// The outputs.
    pub renditions: Vec<RenditionRequest>,
    /// Where frames are kept for later passes.
    pub cache: CachePlan,
    /// Whether the output of a damaged input is kept.
    pub keep_damaged: bool,
    /// Threads of the decoder and the filters; `None`: one per CPU.
    pub decoder_threads: Option<u16>,
    /// How long a stage may make no progress before the job is ended; `None`: for ever.
    pub stall_timeout: Option<Seconds>,
}

/// One output of a job.
#[derive(Debug, Clone)]
pub struct RenditionRequest {
    /// Its name in plans, progress and reports.
    pub name: String,
    /// The file; its extension chooses the container.
    pub output: PathBuf,
    /// libavformat's name of the container, where the extension does not tell.
    pub container: Option<String>,
    /// Whether an existing file is replaced.
    pub overwrite: bool,
    /// The encoder and what it aims at.
    pub encoder: Request,
    /// Width and height in pixels; `None`: those of the source, upright.
    pub size: Option<(u32, u32)>,
    /// What to do with audio.
    pub audio: AudioChoice,
    /// What to do with subtitles.
    pub subtitles: SubtitleChoice,
    /// Options of the muxer, for instance `movflags=+faststart`.
    pub mux_options: Vec<(String, String)>,
}

/// A job as it will be run.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// What is read.
    pub input: Input,
    /// What the demuxer says of it.
    pub source: SourceInfo,
    /// How frames are timed.
    pub timing: Timing,
    /// The filters, with one output per branch.
    pub graph: Graph,
    /// What each branch gives its encoders.
    pub pictures: Vec<Picture>,
    /// The outputs.
    pub renditions: Vec<RenditionPlan>,
    /// How often the frames are gone through.
    pub runs: u8,
    /// Where frames are kept between the runs.
    pub cache: CachePlan,
    /// How much of the source the cache will probably hold, from 0 to 1; `None` where its length is unknown.
    pub cached_share: Option<f64>,
    /// Whether the output of a damaged input is kept.
    pub keep_damaged: bool,
    /// Threads of the decoder and the filters; `None`: one per CPU.
    pub decoder_threads: Option<u16>,
    /// How long a stage may make no progress, in seconds; `None`: for ever.
    pub stall_timeout: Option<Seconds>,
    /// Everything that deserves to be known.
    pub warnings: Vec<String>,
}

/// What a branch gives its encoders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// libavutil's name of the pixel format.
    pub pixel_format: String,
}

impl Picture {
    /// Bytes in memory, without padding.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        picture_bytes(self.width, self.height, &self.pixel_format)
    }
}

/// One output as it will be made.
#[derive(Debug, Clone, Serialize)]
pub struct RenditionPlan {
    /// Its name.
    pub name: String,
    /// The file.
    pub output: PathBuf,
    /// libavformat's name of the container.
    pub container: String,
    /// Whether an existing file is replaced.
    pub overwrite: bool,
    /// Which branch of the graph it encodes.
    pub branch: usize,
    /// The passes of its encoder.
    pub encoder: EncoderPlan,
    /// Where the statistics of its second pass come from.
    pub first_pass: FirstPass,
    /// What becomes of each stream.
    pub streams: Vec<StreamPlan>,
    /// Options of the muxer.
    pub mux_options: Vec<(String, String)>,
    /// The adapter's row.
    #[serde(skip)]
    pub adapter: &'static Adapter,
}

impl RenditionPlan {
    /// What it does in this run of the job; `None` where it waits for another's first pass, or is done.
    #[must_use]
    pub fn step_in(&self, run: u8) -> Option<&PassStep> {
        let number = match self.first_pass {
            FirstPass::Own => run,
            FirstPass::Another { .. } => Some(run).filter(|run| *run > 1)?,
            FirstPass::Kept { .. } => run + 1,
        };
        self.encoder.steps.iter().find(|step| step.number == number)
    }

    /// The run after which it is done.
    fn runs(&self) -> u8 {
        let passes = self.encoder.steps.len() as u8;
        if matches!(self.first_pass, FirstPass::Kept { .. }) { passes - 1 } else { passes }
    }
}

/// A prepared job.
pub struct Job {
    plan: Plan,
    source: DecodedFile,
    cancel: Cancel,
}

impl Job {
    /// Opens the source, asks the linked libav what it has, and plans everything.
    ///
    /// # Errors
    /// [`Error::Input`] for a source that cannot be read, [`Error::Plan`] for everything that can be refused before running.
    pub fn prepare(request: &JobRequest, cancel: &Cancel) -> Result<Self, Error> {
        log::capture();
        // A job that stalls is stopped alone.
        let cancel = &cancel.child();
        let mut file = DecodedFile::open(request.input.clone(), request.decoder_threads, cancel)?;
        let foreseen = file.foreseen();
        if foreseen.any() && !request.keep_damaged {
            return Err(Error::Damaged { path: request.input.path.clone(), what: foreseen.to_string() });
        }
        let source = file.info().clone();
        let timing = Timing::of(&source.video);
        let mut graph = Graph { rotation: source.video.rotation, trunk: request.filters.clone(), branches: Vec::new() };
        let mut renditions = request
            .renditions
            .iter()
            .map(|rendition| plan_rendition(rendition, &request.input, &file, timing, &mut graph))
            .collect::<Result<Vec<_>, Error>>()?;
        distinct_outputs(&renditions)?;
        let choices: Vec<_> = request.renditions.iter().map(|rendition| &rendition.encoder.first_pass).collect();
        let said = first_pass::assign(&choices, &mut renditions)?;
        let mut warnings: Vec<String> =
            renditions.iter().flat_map(|rendition| rendition.encoder.warnings.clone()).chain(said).collect();
        let encoders: Vec<_> = renditions.iter().map(|rendition| (rendition.branch, rendition.adapter)).collect();
        let pictures = pictures(&file, &mut graph, &encoders, &mut warnings)?;
        let runs = renditions.iter().map(RenditionPlan::runs).max().unwrap_or(1);
        if !source.rereadable {
            refuse_rereading(&source.path, runs, &renditions)?;
        }
        let mut plan = Plan {
            input: request.input.clone(),
            source,
            timing,
            graph,
            pictures,
            renditions,
            runs,
            cache: request.cache.clone(),
            cached_share: None,
            keep_damaged: request.keep_damaged,
            decoder_threads: request.decoder_threads,
            stall_timeout: request.stall_timeout,
            warnings,
        };
        plan.cached_share = plan.cached_share();
        file.set_graph(plan.graph.clone());
        first_pass::check_source(&plan, &mut file)?;
        Ok(Job { plan, source: file, cancel: cancel.clone() })
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs every pass; `observe` is called on this thread. Nothing is under a final name before its file is verified.
    ///
    /// # Errors
    /// The first thing that went wrong, with its place; see [`Error`].
    pub fn run(self, mut observe: impl FnMut(Event)) -> Result<Report, Error> {
        run::run(&self.plan, self.source, &self.cancel, &mut observe).map_err(Error::or_exhausted)
    }
}

impl Plan {
    /// Seconds of output; `None` where the source does not say how long it is.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        let after_start = self.source.seconds.map(|all| all - self.input.start.map_or(0.0, |start| start.0));
        match (after_start, self.input.length) {
            (Some(rest), Some(length)) => Some(rest.min(length.0)),
            (rest, None) => rest,
            (None, Some(length)) => Some(length.0),
        }
    }

    /// Frames of output, as far as the container's word goes.
    #[must_use]
    pub fn frames(&self) -> Option<u64> {
        let rate = self.source.video.average_rate.unwrap_or(self.timing.rate);
        let whole = self.source.video.frames.filter(|_| !self.input.is_part());
        whole.or_else(|| self.seconds().map(|seconds| (seconds * rate.value()).round() as u64))
    }

    /// Bytes of all frames as the cache would keep them; `None` where their number is unknown.
    #[must_use]
    pub fn frame_bytes(&self) -> Option<u64> {
        let per_index: u64 = self.pictures.iter().filter_map(Picture::bytes).sum();
        Some(self.frames()? * per_index)
    }

    fn cached_share(&self) -> Option<f64> {
        let needed = self.frame_bytes()? as f64;
        match self.cache.mode {
            crate::cache::CacheMode::None => Some(0.0),
            crate::cache::CacheMode::Disk => Some(1.0),
            crate::cache::CacheMode::Ram => Some((self.cache.budget.0 as f64 / needed.max(1.0)).min(1.0)),
        }
    }
}

fn plan_rendition(
    request: &RenditionRequest,
    input: &Input,
    file: &DecodedFile,
    timing: Timing,
    graph: &mut Graph,
) -> Result<RenditionPlan, Error> {
    let source = file.info();
    check_output(request, &input.path)?;
    let container = Container::for_path(&request.output, request.container.as_deref())?;
    let adapter = request.encoder.adapter;
    let capabilities = capabilities(adapter);
    let holds = |kind, codec: &str| container.holds(kind, codec);
    let holder = streams::Holder { name: container.name(), holds: &holds };
    if !container.holds(crate::media::StreamKind::Video, adapter.codec) {
        return Err(Refusal::Container {
            container: container.name().to_owned(),
            what: format!("{} video", adapter.codec),
            remedy: "choose .mkv, or another encoder".to_owned(),
        }
        .into());
    }
    let (streams, left_out) = streams::decide(source, &request.audio, request.subtitles, &holder)?;
    // Filters and scaling may or may not know of fields; whoever gives them says by them what the fields become.
    let interlaced = file.is_interlaced() && graph.trunk.is_none() && request.size.is_none();
    let mut encoder_request = Request { hdr10: file.hdr10(), interlaced, ..request.encoder.clone() };
    if let Target::Size(size) = encoder_request.target {
        encoder_request.provisional = Some(provisional(size, input, source, &streams, &container, timing, adapter)?);
    }
    let mut encoder = compile(&encoder_request, &capabilities)?;
    encoder.warnings.extend(left_out);
    let branch = Branch { size: request.size, filters: None, pixel_formats: encoder.pixel_formats.clone() };
    let number = graph.branches.iter().position(|known| *known == branch).unwrap_or_else(|| {
        graph.branches.push(branch);
        graph.branches.len() - 1
    });
    Ok(RenditionPlan {
        name: request.name.clone(),
        output: request.output.clone(),
        container: container.name().to_owned(),
        overwrite: request.overwrite,
        branch: number,
        encoder,
        first_pass: FirstPass::Own,
        streams,
        mux_options: request.mux_options.clone(),
        adapter,
    })
}

/// The video rate of a size target before anything is measured: from the length and rates that the container tells.
fn provisional(
    size: crate::rate::ByteSize,
    input: &Input,
    source: &SourceInfo,
    streams: &[StreamPlan],
    container: &Container,
    timing: Timing,
    adapter: &Adapter,
) -> Result<BitRate, Error> {
    let unknown = || Refusal::Source {
        path: input.path.display().to_string(),
        why: "a size target needs the length, which this container does not tell: use -b".to_owned(),
    };
    let rest = source.seconds.ok_or_else(unknown)? - input.start.map_or(0.0, |start| start.0);
    let seconds = input.length.map_or(rest, |length| length.0.min(rest));
    let others: f64 = streams
        .iter()
        .map(|plan| match &plan.fate {
            Fate::Copy => plan.stream.bitrate.unwrap_or(0) as f64,
            Fate::Transcode(spec) => spec.bitrate(plan.stream.channels.unwrap_or(2)).map_or(0.0, |rate| rate.0 as f64),
            _ => 0.0,
        })
        .sum();
    let others = size::Others { packets: 0, bytes: (others * seconds / 8.0) as u64 };
    let frames = (seconds * timing.rate.value()) as u64;
    let overhead = size::Overhead::of(container.name());
    Ok(size::video_rate(size, others, overhead, frames, seconds, least_rate(adapter))?)
}

/// The least bit rate that the adapter's encoder takes.
pub(crate) fn least_rate(adapter: &Adapter) -> BitRate {
    BitRate(adapter.bitrate.map_or(1, |bitrate| bitrate.range.0))
}

fn check_output(request: &RenditionRequest, input: &Path) -> Result<(), Error> {
    let path = request.output.display().to_string();
    if same_file(&request.output, input) {
        return Err(Refusal::SameFile { path }.into());
    }
    if request.output.is_dir() {
        return Err(Refusal::Output { path, why: "is a folder".to_owned() }.into());
    }
    if request.output.exists() && !request.overwrite {
        return Err(Refusal::Exists { path }.into());
    }
    let folder = request.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Refusal::Output { path, why: format!("there is no folder {}", folder.display()) }.into());
    }
    writable(folder).map_err(|source| Error::Write { path: request.output.clone(), source })
}

/// Asked before an hour of analysis, not after it.
#[cfg(unix)]
fn writable(folder: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::access(folder, rustix::fs::Access::WRITE_OK)?)
}

#[cfg(not(unix))]
fn writable(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other || same_inode(&one, &other),
        _ => false,
    }
}

/// Hard links have different names and one content.
#[cfg(unix)]
fn same_inode(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    matches!((one.metadata(), other.metadata()), (Ok(one), Ok(other)) if one.dev() == other.dev() && one.ino() == other.ino())
}

#[cfg(not(unix))]
fn same_inode(_one: &Path, _other: &Path) -> bool {
    false
}

fn distinct_outputs(renditions: &[RenditionPlan]) -> Result<(), Refusal> {
    let mut seen = BTreeMap::new();
    for rendition in renditions {
        if let Some(other) = seen.insert(&rendition.output, &rendition.name) {
            let path = rendition.output.display().to_string();
            return Err(Refusal::Output {
                path,
                why: format!("{other} and {} would both be written there", rendition.name),
            });
        }
    }
    Ok(())
}

/// A pipe can be gone through only once, so only one pass without any stream beside it can come from one.
fn refuse_rereading(path: &Path, runs: u8, renditions: &[RenditionPlan]) -> Result<(), Refusal> {
    let carried = renditions.iter().flat_map(|rendition| &rendition.streams).any(|plan| plan.fate.is_carried());
    let remedy = match (runs, carried) {
        (1, false) => return Ok(()),
        (1, true) => "use --audio none --subs none",
        (_, false) => "use --passes 1",
        (_, true) => "use --passes 1 --audio none --subs none",
    };
    let why = format!("a pipe can be read only once: save it to a file first, or {remedy}");
    Err(Refusal::Source { path: path.display().to_string(), why })
}

/// What each branch gives; where an encoder needs whole chroma samples and the picture has none for its last column or row,
/// that is cut off and said.
fn pictures(
    file: &DecodedFile,
    graph: &mut Graph,
    encoders: &[(usize, &'static Adapter)],
    warnings: &mut Vec<String>,
) -> Result<Vec<Picture>, Error> {
    let outputs = file.pictures(graph)?;
    let mut cut = false;
    for (number, output) in outputs.iter().enumerate() {
        let strict = encoders.iter().find(|(branch, adapter)| *branch == number && !adapter.odd_sizes);
        let Some((_, adapter)) = strict else { continue };
        let (across, down) = chroma_step(&output.pixel_format);
        let (width, height) = (output.width - output.width % across, output.height - output.height % down);
        if (width, height) == (output.width, output.height) {
            continue;
        }
        let encoder = adapter.name;
        let odd = format!("{}x{} in {}", output.width, output.height, output.pixel_format);
        if width == 0 || height == 0 {
            let why = format!("does not take pictures of {odd}; --vf scale=… makes them larger");
            return Err(Refusal::Target { encoder: encoder.to_owned(), why }.into());
        }
        warnings.push(format!("{encoder} does not take pictures of {odd}: they are cropped to {width}x{height}"));
        graph.branches[number].filters = Some(format!("crop={width}:{height}:0:0"));
        cut = true;
    }
    let outputs = if cut { file.pictures(graph)? } else { outputs };
    let picture = |output: FilterOutput| {
        let FilterOutput { width, height, pixel_format, .. } = output;
        Picture { width, height, pixel_format }
    };
    Ok(outputs.into_iter().map(picture).collect())
}
