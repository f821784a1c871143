//! A first pass by itself, kept in a file for second passes to come.
//!
//! Invariant: the encoder sees what it would see in a job with the same arguments; what is kept says everything that a later
//! job must have in common with this one.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::adapter::{Adapter, PassModel, TwoRuns};
use crate::av::encoder::EncoderSetup;
use crate::av::log;
use crate::av::versions;
use crate::cache::{CacheMode, CachePlan, FrameCache};
use crate::error::{Error, Refusal};
use crate::event::{Cancel, Event};
use crate::frames::{FrameList, FrameSource};
use crate::job::run::Usage;
use crate::job::{Picture, pictures};
use crate::media::SourceInfo;
use crate::pipeline::encode::{EncodeStage, Encoded};
use crate::pipeline::{Lane, Terms, run as run_pipeline};
use crate::plan::{EncoderPlan, FirstPassOf, Passes, Request, StatsUse, compile};
use crate::probe::capabilities;
use crate::rate::{ByteSize, Seconds, Target};
use crate::report::AnalysisReport;
use crate::sink::WholeFile;
use crate::source::{Branch, DecodedFile, Graph, Input};
use crate::stats::artefact::{self, Header};
use crate::stats::{Made, StatsStore, collect_leftovers};
use crate::timing::Timing;

/// What is asked for: one source, one encoder, and where its statistics are to be kept.
#[derive(Debug, Clone)]
pub struct AnalysisRequest {
    /// The source.
    pub input: Input,
    /// Filters that every frame goes through, in libavfilter's language.
    pub filters: Option<String>,
    /// The encoder, and what its second passes will aim at, at most.
    pub encoder: Request,
    /// The file for the statistics.
    pub output: PathBuf,
    /// Whether an existing file is replaced.
    pub overwrite: bool,
    /// Whether statistics of a damaged input are kept.
    pub keep_damaged: bool,
    /// Threads of the decoder and the filters; `None`: one per CPU.
    pub decoder_threads: Option<u16>,
    /// How long a stage may make no progress; `None`: for ever.
    pub stall_timeout: Option<Seconds>,
}

/// An analysis as it will be run.
#[derive(Debug, Clone, Serialize)]
pub struct AnalysisPlan {
    /// What is read.
    pub input: Input,
    /// What the demuxer says of it.
    pub source: SourceInfo,
    /// How frames are timed.
    pub timing: Timing,
    /// The filters.
    pub graph: Graph,
    /// What the filters give: one picture.
    pub pictures: Vec<Picture>,
    /// The passes of the encoder; the first is run.
    pub encoder: EncoderPlan,
    /// The file for the statistics.
    pub output: PathBuf,
    /// Whether an existing file is replaced.
    pub overwrite: bool,
    /// Whether statistics of a damaged input are kept.
    pub keep_damaged: bool,
    /// How long a stage may make no progress; `None`: for ever.
    pub stall_timeout: Option<Seconds>,
    /// Everything that deserves to be known.
    pub warnings: Vec<String>,
    /// The adapter's row.
    #[serde(skip)]
    pub adapter: &'static Adapter,
}

/// A prepared analysis.
pub struct Analysis {
    plan: AnalysisPlan,
    source: DecodedFile,
    cancel: Cancel,
}

impl Analysis {
    /// Opens the source, and plans the pass.
    ///
    /// # Errors
    /// [`Error::Input`] for a source that cannot be read, [`Error::Plan`] for everything that can be refused before running:
    /// encoders without a first pass to keep among it.
    pub fn prepare(request: &AnalysisRequest, cancel: &Cancel) -> Result<Self, Error> {
        log::capture();
        let adapter = request.encoder.adapter;
        if matches!(request.encoder.target, Target::Size(_)) {
            let why = "a size is known only with sound and container; analyse at a bit rate (-b)".to_owned();
            return Err(Refusal::Target { encoder: adapter.name.to_owned(), why }.into());
        }
        // One that stalls is stopped alone.
        let cancel = &cancel.child();
        let mut file = DecodedFile::open(request.input.clone(), request.decoder_threads, cancel)?;
        let foreseen = file.foreseen();
        if foreseen.any() && !request.keep_damaged {
            return Err(Error::Damaged { path: request.input.path.clone(), what: foreseen.to_string() });
        }
        let source = file.info().clone();
        let encoder = Request { hdr10: file.hdr10(), passes: Passes::Two, ..request.encoder.clone() };
        let encoder = compile(&encoder, &capabilities(adapter))?;
        if FirstPassOf::plan(&encoder, adapter).is_none() {
            let why = encoder.warnings.join("; ");
            let remedy = "there is no first pass to keep".to_owned();
            return Err(Refusal::NoTwoPass { encoder: adapter.name.to_owned(), why, remedy }.into());
        }
        let branch = Branch { size: None, filters: None, pixel_formats: encoder.pixel_formats.clone() };
        let rotation = source.video.rotation;
        let mut graph = Graph { rotation, trunk: request.filters.clone(), branches: vec![branch] };
        let mut warnings = encoder.warnings.clone();
        let pictures = pictures(&file, &mut graph, &[(0, adapter)], &mut warnings)?;
        file.set_graph(graph.clone());
        let plan = AnalysisPlan {
            input: request.input.clone(),
            timing: Timing::of(&source.video),
            source,
            graph,
            encoder,
            output: request.output.clone(),
            overwrite: request.overwrite,
            keep_damaged: request.keep_damaged,
            stall_timeout: request.stall_timeout,
            pictures,
            warnings,
            adapter,
        };
        Ok(Analysis { plan, source: file, cancel: cancel.clone() })
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &AnalysisPlan {
        &self.plan
    }

    /// Runs the pass and keeps its statistics; `observe` is called on this thread.
    ///
    /// # Errors
    /// The first thing that went wrong, with its place; there is no file then.
    pub fn run(mut self, mut observe: impl FnMut(Event)) -> Result<AnalysisReport, Error> {
        let began = Usage::now();
        collect_leftovers();
        let file = WholeFile::create(&self.plan.output, self.plan.overwrite)?;
        self.source.prime()?;
        let mut header = self.header();
        let mut list = FrameList::default();
        let mut encoded = self.encode(&mut list, &mut observe)?;
        let stats = encoded.stats.take().ok_or(Error::Stopped)?;
        header.frames = list.len() as u64;
        header.frames_hash = format!("{:016x}", list.hash());
        let bytes = artefact::write(file, header.clone(), &list, &stats)?;
        Ok(AnalysisReport {
            versions: versions(),
            input: self.plan.input.path.clone(),
            output: self.plan.output.clone(),
            analysed: header,
            bytes,
            stats_bytes: stats.bytes(),
            wall_seconds: began.wall(),
            cpu_seconds: began.cpu_since(),
            warnings: self.plan.warnings.iter().cloned().chain(self.source.warnings()).collect(),
        })
    }

    /// What the statistics will be of, as far as it is known before the pass.
    fn header(&self) -> Header {
        let encoder = &self.plan.encoder;
        let versions = versions();
        let Picture { width, height, pixel_format } = self.plan.pictures[0].clone();
        Header {
            encoder: encoder.encoder.to_owned(),
            row: encoder.row,
            libavcodec: versions.libavcodec,
            ffmpeg: versions.ffmpeg,
            library: encoder.library.clone(),
            target: encoder.target.to_string(),
            settings: encoder.steps.first().map(|step| step.settings.clone()).unwrap_or_default(),
            width,
            height,
            pixel_format,
            time_base: self.source.time_base(),
            frame_rate: self.source.frame_rate(),
            frames: 0,
            frames_hash: String::new(),
            source: self.plan.input.path.display().to_string(),
            parts: Vec::new(),
        }
    }

    fn encode(&mut self, list: &mut FrameList, observe: &mut dyn FnMut(Event)) -> Result<Encoded, Error> {
        let encode = self.stage()?;
        // Nobody comes after this run.
        let nothing = CachePlan { mode: CacheMode::None, budget: ByteSize(0), spill_dir: None };
        let mut cache = FrameCache::new(nothing);
        let terms = Terms {
            last: true,
            analysed: &[],
            refuses_damage: (!self.plan.keep_damaged).then_some(self.plan.input.path.as_path()),
            stall: self.plan.stall_timeout.map(|seconds| Duration::from_secs_f64(seconds.0)),
            cancel: &self.cancel,
        };
        observe(Event::Run { run: 1, of: 1 });
        let lanes = vec![Lane { rendition: 0, branch: 0, encode, mux: None, other: None }];
        let result = run_pipeline(&mut self.source, &mut cache, list, lanes, &terms, observe)?;
        result.lanes.into_iter().next().map(|lane| lane.encoded).ok_or(Error::Stopped)
    }

    fn stage(&self) -> Result<EncodeStage, Error> {
        let (step, model) = self.first_pass()?;
        let frames = self.plan.source.video.frames;
        let made = Made { encoder: self.plan.encoder.encoder, model, step, frames: frames.unwrap_or(0) };
        let picture = &self.plan.pictures[0];
        let store = StatsStore::for_route(made.route(), made.expected_bytes(picture.width, picture.height))?;
        let path = store.path();
        let rate = self.source.frame_rate();
        let setup = EncoderSetup {
            encoder: self.plan.encoder.encoder.to_owned(),
            pass: step.number,
            flag: step.flag,
            options: step.options(path.as_deref().map(std::path::Path::to_string_lossy).as_deref()),
            stats: None,
            time_base: rate.inverse(),
            frame_rate: rate,
            sample_aspect_ratio: self.source.sample_aspect_ratio(0),
            global_header: false,
        };
        let stats = Some((model, store));
        Ok(EncodeStage { setup, step: step.clone(), stats, expected: None, total: frames, times: None })
    }

    fn first_pass(&self) -> Result<(&crate::plan::PassStep, &'static TwoRuns), Error> {
        match (self.plan.encoder.steps.first(), &self.plan.adapter.passes) {
            (Some(step), PassModel::TwoRuns(model)) if matches!(step.stats, StatsUse::Write(_)) => Ok((step, model)),
            _ => Err(Error::Stopped),
        }
    }
}
