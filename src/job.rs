//! Jobs: one source, its renditions, their passes. Prepared into a plan that can be printed, then run.
//!
//! Invariant: [`Job::prepare`] decides and refuses, [`Job::run`] only does; renditions of a job share one decode, and in
//! every run all renditions that have a pass left take part side by side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::adapter::Adapter;
use crate::av::frame::picture_bytes;
use crate::av::muxer::Container;
use crate::cache::{CacheMode, CachePlan};
use crate::error::{Error, Refusal};
use crate::event::{Cancel, Event};
use crate::frames::FrameSource;
use crate::media::SourceInfo;
use crate::plan::{EncoderPlan, PassStep, Request};
use crate::rate::{BitRate, GopLength, Seconds};
use crate::report::Report;
use crate::sink::{Sink, folder_of, known_as};
use crate::source::{DecodedFile, Graph, Input, OwnFrames, Preview};
use crate::stats::artefact::Unfinished;
use crate::timing::Timing;

mod analysis;
mod first_pass;
mod footage;
mod ladder;
mod naming;
mod native;
mod resume;
mod run;
mod rung;
mod session;
mod size;
mod streams;

pub use analysis::{Analysis, AnalysisRequest};
pub use first_pass::FirstPass;
pub use footage::Footage;
use ladder::{Built, Ladder};
pub use naming::{output_name, tells_renditions_apart};
pub use resume::Resume;
pub use rung::Size;
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
    /// How long a stage may make no progress before the job is ended; `None`: for ever, but for a call of VideoToolbox's own
    /// session, which gets 600 s.
    pub stall_timeout: Option<Seconds>,
    /// Whether renditions larger than the source are made; else they are left out, with a warning.
    pub enlarge: bool,
    /// What becomes of finished first passes when the job ends without a result. Nothing is kept of frames of your own, nor
    /// for sinks of your own.
    pub resume: Resume,
}

impl JobRequest {
    /// A job over this input with nothing to make yet, and everything else as `repass encode` has it.
    #[must_use]
    pub fn new(input: Input) -> Self {
        JobRequest {
            input,
            filters: None,
            renditions: Vec::new(),
            cache: CachePlan::default(),
            keep_damaged: false,
            decoder_threads: None,
            stall_timeout: None,
            enlarge: false,
            resume: Resume::default(),
        }
    }
}

/// One output of a job.
#[derive(Debug, Clone)]
pub struct RenditionRequest {
    /// Its name in plans, progress and reports.
    pub name: String,
    /// The file; its extension chooses the container. Renditions with the same `.m3u8` or `.mpd` are one package.
    pub output: PathBuf,
    /// libavformat's name of the container, where the extension does not tell.
    pub container: Option<String>,
    /// Whether an existing file is replaced.
    pub overwrite: bool,
    /// The encoder and what it aims at. Its `gop_frames` is filled in from `gop`.
    pub encoder: Request,
    /// Filters of this rendition alone, behind those of the job and before scaling. They keep every frame.
    pub filters: Option<String>,
    /// The size of its picture.
    pub size: Size,
    /// Fixed distance of key frames; `None`: the encoder's own choice, in a package two seconds.
    pub gop: Option<GopLength>,
    /// What to do with audio.
    pub audio: AudioChoice,
    /// What to do with subtitles.
    pub subtitles: SubtitleChoice,
    /// Options of the muxer, for instance `movflags=+faststart`.
    pub mux_options: Vec<(String, String)>,
}

impl RenditionRequest {
    /// A file of the source's size, sound and subtitles copied.
    #[must_use]
    pub fn new(name: impl Into<String>, output: impl Into<PathBuf>, encoder: Request) -> Self {
        RenditionRequest {
            name: name.into(),
            output: output.into(),
            container: None,
            overwrite: false,
            encoder,
            filters: None,
            size: Size::Source,
            gop: None,
            audio: AudioChoice::Copy,
            subtitles: SubtitleChoice::Copy,
            mux_options: Vec::new(),
        }
    }
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
    /// Renditions that go into one HLS or DASH output together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackagePlan>,
    /// How often the frames are gone through.
    pub runs: u8,
    /// Whether the source is a pipe that is read more than once: what comes is kept in a temporary file.
    pub keeps_input: bool,
    /// Where frames are kept between the runs.
    pub cache: CachePlan,
    /// How much of the source the cache will probably hold, from 0 to 1, where it chooses by itself in memory alone; `None`
    /// where the source's length is unknown.
    pub cached_share: Option<f64>,
    /// Whether the output of a damaged input is kept.
    pub keep_damaged: bool,
    /// Threads of the decoder and the filters; `None`: one per CPU.
    pub decoder_threads: Option<u16>,
    /// How long a stage may make no progress, in seconds; `None`: for ever, but for a call of VideoToolbox's own session, which
    /// gets 600 s.
    pub stall_timeout: Option<Seconds>,
    /// What becomes of finished first passes when the job ends without a result.
    pub resume: Resume,
    /// What a later run of the job must find again.
    #[serde(skip)]
    pub(crate) unfinished: Option<Unfinished>,
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
    #[serde(serialize_with = "crate::report::path_as_text")]
    pub output: PathBuf,
    /// libavformat's name of the container.
    pub container: String,
    /// Whether an existing file is replaced.
    pub overwrite: bool,
    /// Which branch of the graph it encodes.
    pub branch: usize,
    /// The run in which its first pass happens, from 1: one pass of a package waits for the second passes of the others.
    pub first_run: u8,
    /// The passes of its encoder.
    pub encoder: EncoderPlan,
    /// Where the statistics of its second pass come from.
    pub first_pass: FirstPass,
    /// Where its own first pass is kept while the job runs, once it is finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<PathBuf>,
    /// What becomes of each stream.
    pub streams: Vec<StreamPlan>,
    /// Options of the muxer.
    pub mux_options: Vec<(String, String)>,
    /// The adapter's row.
    #[serde(skip)]
    pub adapter: &'static Adapter,
}

impl RenditionPlan {
    /// The run in which its last pass happens, from 1.
    #[must_use]
    pub fn last_run(&self) -> u8 {
        self.first_run + self.encoder.steps.len() as u8 - self.kept_passes() - 1
    }

    /// What it does in a run of the job; `None` where it waits, for its turn or for another's first pass, or is done.
    #[must_use]
    pub fn step_in(&self, run: u8) -> Option<&PassStep> {
        let number = run.checked_sub(self.first_run)? + self.kept_passes();
        let waits = number == 0 && matches!(self.first_pass, FirstPass::Another { .. });
        self.encoder.steps.get(usize::from(number)).filter(|_| !waits)
    }

    /// Passes that happened in an earlier job.
    fn kept_passes(&self) -> u8 {
        u8::from(matches!(self.first_pass, FirstPass::Kept { .. }))
    }
}

/// One HLS or DASH output: a manifest, and the segments of several renditions beside it.
#[derive(Debug, Clone, Serialize)]
pub struct PackagePlan {
    /// The manifest.
    #[serde(serialize_with = "crate::report::path_as_text")]
    pub manifest: PathBuf,
    /// libavformat's name of the muxer: `hls` or `dash`.
    pub container: String,
    /// Indices of its renditions, in the manifest's order.
    pub renditions: Vec<usize>,
    /// Frames of a segment: the distance of key frames in all renditions.
    pub gop_frames: u32,
    /// Seconds of a segment.
    pub segment_seconds: f64,
    /// Whether nobody asked for this distance.
    pub by_default: bool,
}

/// A prepared job.
pub struct Job {
    plan: Plan,
    source: Box<dyn FrameSource>,
    /// The caller's own sinks, one place for each rendition.
    sinks: run::Sinks,
    /// What opening, planning and looking at the first frames took.
    preparing: run::Spent,
    cancel: Cancel,
}

impl Job {
    /// Opens the source, asks the linked libav what it has, and plans everything. Errors quote what libav logged where
    /// [`crate::av::log::capture`] was called before.
    ///
    /// # Errors
    /// [`Error::Input`] for a source that cannot be read, [`Error::Plan`] for everything that can be refused before running,
    /// [`Error::Filter`] for filters that cannot be.
    pub fn prepare(request: &JobRequest, cancel: &Cancel) -> Result<Self, Error> {
        let began = run::Usage::now();
        // A job that stalls is stopped alone.
        let cancel = cancel.child();
        run::room_for(BEGINNING, "opening the input")?;
        let spool_dir = request.input.spool_dir.clone().or_else(|| request.cache.spill_dir.clone());
        let input = Input { spool_dir, ..request.input.clone() };
        let mut file = DecodedFile::open(input, request.decoder_threads, &cancel)?;
        let plan = plan_over(request, &file)?;
        file.set_graph(plan.graph.clone());
        if !plan.keeps_input {
            file.forget();
        }
        first_pass::check_source(&plan, &mut file)?;
        Ok(Job::new(plan, Box::new(file), began.spent(), cancel))
    }

    /// Plans a job whose frames are the caller's own. The path of the request's input is their name in plans and reports,
    /// and nothing is read from there.
    ///
    /// # Errors
    /// [`Error::Plan`] for everything that can be refused before running, [`Error::Filter`] for filters that cannot be.
    pub fn from_frames(request: &JobRequest, frames: OwnFrames, cancel: &Cancel) -> Result<Self, Error> {
        let began = run::Usage::now();
        let name = &request.input.path;
        if request.input != Input::file(name) {
            let why = "frames of the caller's own are taken whole: an input has nothing but a name here".to_owned();
            return Err(Refusal::Source { path: name.display().to_string(), why }.into());
        }
        let mut frames = frames.named(name);
        let plan = plan(&JobRequest { resume: Resume::Never, ..request.clone() }, &frames)?;
        frames.set_graph(plan.graph.clone(), request.decoder_threads);
        Ok(Job::new(plan, Box::new(frames), began.spent(), cancel.child()))
    }

    fn new(plan: Plan, source: Box<dyn FrameSource>, preparing: run::Spent, cancel: Cancel) -> Self {
        let sinks = plan.renditions.iter().map(|_| None).collect();
        Job { plan, source, sinks, preparing, cancel }
    }

    /// Sends the packets of a rendition, by its index in the plan, to `sink`, and makes no file. The rendition's output then
    /// only says which container's rules hold: what it can carry, and whether headers stand apart from the stream.
    ///
    /// # Panics
    /// Where the plan has no such rendition, or it is part of a package.
    #[must_use]
    pub fn with_sink(mut self, rendition: usize, sink: Box<dyn Sink>) -> Self {
        let in_package = self.plan.packages.iter().any(|package| package.renditions.contains(&rendition));
        assert!(!in_package, "rendition {rendition} is part of a package, which is one output");
        self.sinks[rendition] = Some(sink);
        self.plan.renditions[rendition].journal = None;
        self
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The plan alone; the source is closed.
    #[must_use]
    pub fn into_plan(self) -> Plan {
        self.plan
    }

    /// Runs every pass; `observe` is called on this thread. Nothing is under a final name before its file is verified.
    ///
    /// # Errors
    /// The first thing that went wrong, with its place; see [`Error`].
    pub fn run(self, mut observe: impl FnMut(Event)) -> Result<Report, Error> {
        let done = run::run(&self.plan, self.source, self.sinks, self.preparing, &self.cancel, &mut observe);
        done.map_err(Error::or_exhausted)
    }
}

/// Plans a job over its file, which several jobs may share.
pub(crate) fn plan_over(request: &JobRequest, file: &DecodedFile) -> Result<Plan, Error> {
    let foreseen = file.foreseen();
    if foreseen.any() && !request.keep_damaged {
        return Err(Error::Damaged { path: request.input.path.clone(), what: foreseen.to_string() });
    }
    plan(request, file)
}

/// Decides everything.
fn plan(request: &JobRequest, subject: &dyn Preview) -> Result<Plan, Error> {
    let mut ladder = Ladder::over(request, subject)?;
    let fitting = ladder.fitting()?;
    let mut renditions = Vec::with_capacity(fitting.len());
    for (rendition, scaled) in &fitting {
        renditions.push(ladder.rendition(rendition, *scaled)?);
    }
    let choices: Vec<_> = fitting.iter().map(|(rendition, _)| &rendition.encoder.first_pass).collect();
    let said = first_pass::take_kept(&choices, &mut renditions)?;
    let packages = ladder.packages(&fitting, &renditions)?;
    distinct_outputs(&renditions, &packages)?;
    let source = subject.info().clone();
    let Built { timing, graph, pictures, mut warnings } = ladder.build(&mut renditions)?;
    warnings.extend(said);
    warnings.extend(first_pass::share(&choices, &mut renditions));
    let unfinished = resume::unfinished(request, &graph);
    warnings.extend(resume::take_up(request.resume, unfinished.as_ref(), &packages, &mut renditions));
    ladder::wait_for_each_other(&packages, &mut renditions);
    sessions_last(&mut renditions);
    let runs = renditions.iter().map(RenditionPlan::last_run).max().unwrap_or(1);
    let rereads = runs > 1 || carries(&renditions);
    if rereads && !source.rereadable {
        let why = "can be read only once, and this takes more: save it to a file first".to_owned();
        return Err(Refusal::Source { path: source.path.display().to_string(), why }.into());
    }
    let keeps_input = rereads && source.piped;
    let mut plan = Plan {
        input: request.input.clone(),
        source,
        timing,
        graph,
        pictures,
        renditions,
        packages,
        runs,
        keeps_input,
        cache: request.cache.clone(),
        cached_share: None,
        keep_damaged: request.keep_damaged,
        decoder_threads: request.decoder_threads,
        stall_timeout: request.stall_timeout,
        resume: request.resume,
        unfinished,
        warnings,
    };
    plan.cached_share = plan.cached_share();
    Ok(plan)
}

/// A session begins when every frame is known, and has the machine to itself.
fn sessions_last(renditions: &mut [RenditionPlan]) {
    let is_session = |rendition: &&mut RenditionPlan| rendition.encoder.is_session();
    let others = renditions.iter().filter(|rendition| !rendition.encoder.is_session());
    let before = others.map(RenditionPlan::last_run).max().unwrap_or(1);
    for (rendition, run) in renditions.iter_mut().filter(is_session).zip(before + 1..) {
        rendition.first_run = run;
    }
}

impl Plan {
    /// Seconds of output; `None` where the source does not say how long it is.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        self.input.seconds_of(&self.source)
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
        Some(self.frames()?.saturating_mul(self.index_bytes()))
    }

    /// Bytes of one frame of every branch.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.pictures.iter().filter_map(Picture::bytes).sum()
    }

    /// The rendition whose session happens in this run, alone.
    pub(crate) fn session_in(&self, run: u8) -> Option<usize> {
        let is_session = |rendition: &RenditionPlan| rendition.encoder.is_session() && rendition.first_run == run;
        self.renditions.iter().position(is_session)
    }

    /// Whether no rendition has a pass in this run.
    pub(crate) fn is_idle(&self, run: u8) -> bool {
        self.renditions.iter().all(|rendition| rendition.step_in(run).is_none())
    }

    /// The rendition that has the statistics which a rendition's second pass reads: itself, the one whose first pass made
    /// them, or the first of those that read one file.
    pub(crate) fn maker(&self, rendition: usize) -> usize {
        let reader = &self.renditions[rendition];
        let same_file = |other: &RenditionPlan| {
            let same_frames = other.branch == reader.branch && std::ptr::eq(other.adapter, reader.adapter);
            same_frames && other.first_pass == reader.first_pass
        };
        match reader.first_pass {
            FirstPass::Own => rendition,
            FirstPass::Another { rendition: leader } => leader,
            FirstPass::Kept { .. } => self.renditions.iter().position(same_file).unwrap_or(rendition),
        }
    }

    /// Whether some encoder's bits would depend on what this process did before.
    pub(crate) fn reads_unwritten_memory(&self) -> bool {
        self.renditions.iter().any(|rendition| {
            let width = self.pictures[rendition.branch].width;
            rendition.adapter.unwritten_unless.is_some_and(|multiple| !width.is_multiple_of(multiple))
        })
    }

    fn cached_share(&self) -> Option<f64> {
        let needed = self.frame_bytes()? as f64;
        match self.cache.mode {
            CacheMode::None => Some(0.0),
            CacheMode::Disk | CacheMode::Raw | CacheMode::Lz4 => Some(1.0),
            CacheMode::Auto | CacheMode::Ram => Some((self.cache.budget.0 as f64 / needed.max(1.0)).min(1.0)),
        }
    }
}

/// The least bit rate that the adapter's encoder takes.
pub(crate) fn least_rate(adapter: &Adapter) -> BitRate {
    BitRate(adapter.bitrate.map_or(1, |bitrate| bitrate.range.0))
}

fn check_output(request: &RenditionRequest, container: Container, input: &Path) -> Result<(), Error> {
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
    let mut folder = folder_of(&request.output);
    if container.is_package() && !folder.exists() {
        // A package has a folder of its own mostly, which is made in the one around it.
        folder = folder_of(folder);
    }
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

fn distinct_outputs(renditions: &[RenditionPlan], packages: &[PackagePlan]) -> Result<(), Refusal> {
    let together = |one: usize, other: usize| {
        packages.iter().any(|package| package.renditions.contains(&one) && package.renditions.contains(&other))
    };
    let mut seen: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (index, rendition) in renditions.iter().enumerate() {
        let path = || rendition.output.display().to_string();
        if renditions[..index].iter().any(|other| other.name == rendition.name) {
            return Err(Refusal::Output { path: path(), why: format!("two renditions are named {}", rendition.name) });
        }
        if let Some(other) = seen.insert(known_as(&rendition.output), index).filter(|other| !together(*other, index)) {
            let (one, other) = (&renditions[other].name, &rendition.name);
            return Err(Refusal::Output {
                path: path(),
                why: format!("{one} and {other} would both be written there"),
            });
        }
    }
    Ok(())
}

/// Whether any stream goes along beside the video, for which a source is opened again.
fn carries(renditions: &[RenditionPlan]) -> bool {
    renditions.iter().flat_map(|rendition| &rendition.streams).any(|plan| plan.fate.is_carried())
}

/// What demuxers and decoders take before the first frame, in bytes.
const BEGINNING: u64 = 16 << 20;
