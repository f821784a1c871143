//! A first pass by itself, kept in a file for second passes to come.
//!
//! Invariant: it is planned as the job is that will read its statistics, so the encoder sees what it would see there; what is
//! kept says everything that such a job must have in common with this one.

use std::path::PathBuf;

use crate::av::versions;
use crate::cache::{CacheMode, CachePlan};
use crate::error::{Error, Refusal};
use crate::event::{Cancel, Event};
use crate::frames::FrameList;
use crate::job::run::{self, Usage};
use crate::job::{AudioChoice, Job, JobRequest, Plan, RenditionRequest, Resume, Size, SubtitleChoice, first_pass};
use crate::plan::{FirstPassChoice, FirstPassOf, Passes, Request};
use crate::rate::{ByteSize, GopLength, Seconds, Target};
use crate::report::AnalysisReport;
use crate::sink::WholeFile;
use crate::source::Input;
use crate::stats::artefact;

/// What is asked for: one source, one encoder, and where its statistics are to be kept.
#[derive(Debug, Clone)]
pub struct AnalysisRequest {
    /// The source.
    pub input: Input,
    /// Filters that every frame goes through, in libavfilter's language.
    pub filters: Option<String>,
    /// Size of the pictures.
    pub size: Size,
    /// Whether the size may be above the source's.
    pub enlarge: bool,
    /// The encoder, and what its second passes will aim at, at most.
    pub encoder: Request,
    /// Fixed distance of key frames; `None`: the encoder's own choice.
    pub gop: Option<GopLength>,
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

/// A prepared analysis.
pub struct Analysis(Job);

impl Analysis {
    /// Opens the source, and plans the pass.
    ///
    /// # Errors
    /// As for [`Job::prepare`]; [`Error::Plan`] for encoders and targets without a first pass to keep, too.
    pub fn prepare(request: &AnalysisRequest, cancel: &Cancel) -> Result<Self, Error> {
        let encoder = request.encoder.adapter.name.to_owned();
        if matches!(request.encoder.target, Target::Size(_)) {
            let why = "a size is known only with sound and container; analyse at a bit rate (-b)".to_owned();
            return Err(Refusal::Target { encoder, why }.into());
        }
        let job = Job::prepare(&request.job(), cancel)?;
        let plan = &job.plan().renditions[0].encoder;
        if FirstPassOf::plan(plan, request.encoder.adapter).is_none() {
            let why = plan.warnings.join("; ");
            return Err(Refusal::NoTwoPass { encoder, why, remedy: "there is no first pass to keep".to_owned() }.into());
        }
        Ok(Analysis(job))
    }

    /// The plan, of which the first pass of the only rendition is run.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        self.0.plan()
    }

    /// Runs the pass and keeps its statistics; `observe` is called on this thread.
    ///
    /// # Errors
    /// The first thing that went wrong, with its place; there is no file then.
    pub fn run(self, mut observe: impl FnMut(Event)) -> Result<AnalysisReport, Error> {
        self.kept(&mut observe).map_err(Error::or_exhausted)
    }

    fn kept(self, observe: &mut dyn FnMut(Event)) -> Result<AnalysisReport, Error> {
        let Job { plan, mut source, cancel, .. } = self.0;
        let began = Usage::now();
        run::make_room(&plan)?;
        let rendition = &plan.renditions[0];
        let file = WholeFile::create(&rendition.output, rendition.overwrite)?;
        run::prime(&plan, source.as_mut())?;
        let mut list = FrameList::default();
        let stats = run::first_pass(&plan, source.as_mut(), &mut list, &cancel, observe)?;
        let header = first_pass::header(&plan, rendition, source.as_ref(), &list);
        let bytes = artefact::write(file, header.clone(), &list, &stats)?;
        let mut warnings = plan.warnings.clone();
        warnings.extend(source.warnings());
        let damage = source.damage();
        Ok(AnalysisReport {
            versions: versions(),
            input: plan.input.path.clone(),
            damage: damage.any().then_some(damage),
            output: rendition.output.clone(),
            analysed: header,
            bytes,
            stats_bytes: stats.bytes(),
            wall_seconds: began.wall(),
            cpu_seconds: began.cpu_since(),
            warnings,
        })
    }
}

impl AnalysisRequest {
    /// The job whose first pass this is.
    fn job(&self) -> JobRequest {
        let encoder = Request { passes: Passes::Two, first_pass: FirstPassChoice::Own, ..self.encoder.clone() };
        let rendition = RenditionRequest {
            name: self.output.file_stem().unwrap_or(self.output.as_os_str()).to_string_lossy().into_owned(),
            output: self.output.clone(),
            // Nothing is muxed; this one would hold anything.
            container: Some("matroska".to_owned()),
            overwrite: self.overwrite,
            encoder,
            filters: None,
            size: self.size,
            gop: self.gop,
            audio: AudioChoice::None,
            subtitles: SubtitleChoice::None,
            mux_options: Vec::new(),
        };
        JobRequest {
            input: self.input.clone(),
            filters: self.filters.clone(),
            renditions: vec![rendition],
            // Nobody comes after this run.
            cache: CachePlan { mode: CacheMode::None, budget: ByteSize(0), spill_dir: None },
            keep_damaged: self.keep_damaged,
            decoder_threads: self.decoder_threads,
            enlarge: self.enlarge,
            stall_timeout: self.stall_timeout,
            resume: Resume::Never,
        }
    }
}
