//! Doing what a plan says: runs, lanes, proofs, the report. Makes no choice of its own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::adapter::{PassModel, StatsRoute, TwoRuns};
use crate::av::encoder::EncoderSetup;
use crate::av::muxer::Container;
use crate::av::{versions, zero_fresh_memory};
use crate::cache::{CacheMode, CachePlan, FrameCache, has_room, needed_beside};
use crate::error::{Error, Refusal};
use crate::event::{Cancel, Event, Stage};
use crate::frames::{Damage, FrameList, FrameSource};
use crate::job::resume::Journals;
use crate::job::size::{self, Least, Others, Overhead, Tried};
use crate::job::{FirstPass, Plan, RenditionPlan, least_rate, session};
use crate::pipeline::encode::EncodeStage;
use crate::pipeline::feed::Analysed;
use crate::pipeline::mux::MuxStage;
use crate::pipeline::other::{OtherStage, Tally};
use crate::pipeline::{Lane, LaneResult, Output, OutputResult, Terms, between_runs, run as run_pipeline};
use crate::plan::{PassStep, StatsUse};
use crate::rate::{self, BitRate, ByteSize, Seconds};
use crate::report::{PassReport, QualityReport, RenditionReport, Report, RunReport, SessionReport};
use crate::session::Stopped;
use crate::sink::{FileSink, PackageSink, Sink};
use crate::stats::artefact::Artefact;
use crate::stats::{self, Stats, StatsStore, collect_leftovers};
use crate::timing::OutputTimes;

/// The caller's own sinks, one place for each rendition; `None`: a file.
pub(super) type Sinks = Vec<Option<Box<dyn Sink>>>;

/// What a rendition has come to.
#[derive(Default)]
struct Progress {
    stats: Option<Stats>,
    passes: Vec<PassReport>,
    made: Option<Made>,
    others: Option<Tally>,
    /// Whether all frames are known to be on the grid before the first run, from an earlier analysis.
    on_grid: bool,
    /// The bit rate of a size target, once measured.
    rate: Option<BitRate>,
    /// What second passes towards it came to.
    tried: Vec<Tried>,
    /// What came nearest to it so far, while a pass that should come nearer is run.
    nearest: Option<Nearest>,
    session: Option<SessionReport>,
}

/// What of an output is a rendition's.
struct Made {
    bytes: u64,
    /// Which of its passes made it, counted from 0.
    pass: usize,
    verified: bool,
}

/// A file or a package that is to be written. Made before the first run, so that a place that takes no file is known at once.
pub(super) struct Target {
    /// Its renditions; of a package in the order of its videos.
    renditions: Vec<usize>,
    container: Container,
    /// The run that writes it.
    run: u8,
    /// `None` once that run has begun.
    sink: Option<Box<dyn Sink>>,
}

/// A complete output that is not seen yet.
struct Nearest {
    output: OutputResult,
    /// Which of its rendition's passes made it, counted from 0.
    pass: usize,
}

pub(super) fn run(
    plan: &Plan,
    source: Box<dyn FrameSource>,
    sinks: Sinks,
    preparing: Spent,
    cancel: &Cancel,
    observe: &mut dyn FnMut(Event),
) -> Result<Report, Error> {
    let began = Usage::now().with(preparing);
    make_room(plan)?;
    let mut opened = Opened { source, cache: FrameCache::new(plan.cache.clone()), list: FrameList::default() };
    run_over(plan, &mut opened, sinks, &|run| wanted_after(plan, run), &began, cancel, observe)
}

/// Sees that there is memory for a job beside its cache, and that what killed runs left takes none.
pub(super) fn make_room(plan: &Plan) -> Result<(), Error> {
    let needed = needed_beside(plan.index_bytes());
    if !has_room(needed) {
        return Err(Error::Exhausted { doing: format!("a job like this takes {} beside its cache", ByteSize(needed)) });
    }
    collect_leftovers();
    Ok(())
}

/// Sees that there is so much memory: beyond it, having none would end the process and not the job.
pub(super) fn room_for(bytes: u64, doing: &str) -> Result<(), Error> {
    if has_room(bytes) { Ok(()) } else { Err(Error::Exhausted { doing: doing.to_owned() }) }
}

/// Makes the first frame ready.
pub(super) fn prime(plan: &Plan, source: &mut dyn FrameSource) -> Result<(), Error> {
    match source.prime()? {
        true => Ok(()),
        false => Err(Error::Input { path: plan.input.path.clone(), what: "holds no frame".to_owned(), source: None }),
    }
}

/// An open source, and what is kept of its frames.
pub(super) struct Opened {
    pub(super) source: Box<dyn FrameSource>,
    pub(super) cache: FrameCache,
    pub(super) list: FrameList,
}

/// Runs every pass of a plan; what was decoded before is not decoded again. `keep`: for each branch of the graph, whether
/// somebody needs its frames after a run.
pub(super) fn run_over(
    plan: &Plan,
    opened: &mut Opened,
    sinks: Sinks,
    keep: &dyn Fn(u8) -> Vec<bool>,
    began: &Usage,
    cancel: &Cancel,
    observe: &mut dyn FnMut(Event),
) -> Result<Report, Error> {
    let mut journals = Journals::of(plan, |rendition| sinks[rendition].is_none());
    let done = every_pass(plan, opened, sinks, keep, &mut journals, began, cancel, observe);
    journals.end(&done);
    done
}

#[expect(clippy::too_many_arguments, reason = "what holds for a job, and what it leaves behind")]
fn every_pass(
    plan: &Plan,
    opened: &mut Opened,
    sinks: Sinks,
    keep: &dyn Fn(u8) -> Vec<bool>,
    journals: &mut Journals,
    began: &Usage,
    cancel: &Cancel,
    observe: &mut dyn FnMut(Event),
) -> Result<Report, Error> {
    if plan.reads_unwritten_memory() {
        zero_fresh_memory();
    }
    let files = sinks.iter().map(Option::is_none).collect();
    let targets = targets(plan, sinks, cancel)?;
    let mut progress: Vec<Progress> = plan.renditions.iter().map(|_| Progress::default()).collect();
    // A footage has its list, and its source is at its end.
    if opened.list.is_empty() {
        prime(plan, opened.source.as_mut())?;
    }
    let analysed = open_kept(plan, opened.source.as_ref(), &opened.list, &mut progress)?;
    let mut under_way = UnderWay {
        plan,
        files,
        targets,
        progress,
        analysed,
        journals,
        runs: Vec::new(),
        warnings: plan.warnings.clone(),
        cancel,
    };
    for number in 1..=plan.runs {
        match plan.session_in(number) {
            Some(index) => under_way.session(number, index, opened, observe)?,
            None if plan.is_idle(number) && !opened.list.is_empty() => {}
            None => under_way.passes_until_near(number, keep, opened, observe)?,
        }
    }
    let UnderWay { progress, runs, warnings, .. } = under_way;
    finish(plan, opened.source.as_ref(), &opened.cache, &opened.list, progress, runs, warnings, began)
}

/// A job between its runs.
struct UnderWay<'j> {
    plan: &'j Plan,
    /// For each rendition, whether its output is a file or package of ours.
    files: Vec<bool>,
    targets: Vec<Target>,
    progress: Vec<Progress>,
    analysed: Vec<Analysed>,
    journals: &'j mut Journals,
    runs: Vec<RunReport>,
    warnings: Vec<String>,
    cancel: &'j Cancel,
}

impl UnderWay<'_> {
    /// All passes of a run, and again those whose output missed its size.
    fn passes_until_near(
        &mut self,
        number: u8,
        keep: &dyn Fn(u8) -> Vec<bool>,
        opened: &mut Opened,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let all: Vec<usize> = (0..self.plan.renditions.len()).collect();
        let mut missed = self.passes(number, &all, keep(number), opened, observe)?;
        while !missed.is_empty() {
            missed = match self.again(number, &missed, keep(number), opened, observe) {
                Err(error) if self.has_all(&missed) && is_of_space(&error) => {
                    self.settle(&missed, &error, observe)?;
                    Vec::new()
                }
                missed => missed?,
            };
        }
        Ok(())
    }

    /// The last pass of renditions that missed their sizes, towards the bit rates that should meet them.
    fn again(
        &mut self,
        number: u8,
        missed: &[usize],
        keep: Vec<bool>,
        opened: &mut Opened,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Vec<usize>, Error> {
        for index in missed {
            self.targets.push(target(self.plan, *index, None, self.cancel)?);
        }
        self.passes(number, missed, keep, opened, observe)
    }

    fn has_all(&self, renditions: &[usize]) -> bool {
        renditions.iter().all(|index| self.progress[*index].nearest.is_some())
    }

    /// Lets what came nearest be seen, where there was no room to come nearer.
    fn settle(&mut self, missed: &[usize], why: &Error, observe: &mut dyn FnMut(Event)) -> Result<(), Error> {
        for index in missed {
            let name = &self.plan.renditions[*index].name;
            warn(&mut self.warnings, format!("{name}: no further pass towards the size could be run: {why}"), observe);
            let Some(nearest) = self.progress[*index].nearest.take() else { continue };
            publish(nearest.output, Some(nearest.pass), &mut self.progress)?;
        }
        Ok(())
    }

    /// All passes of a run, side by side, of the renditions that are left; gives those whose output missed its size, and
    /// which are to be run again.
    fn passes(
        &mut self,
        number: u8,
        left: &[usize],
        keep: Vec<bool>,
        opened: &mut Opened,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Vec<usize>, Error> {
        let outputs = self.begin(number, opened, observe)?;
        let usage = Usage::now();
        let Opened { source, cache, list } = opened;
        let source = source.as_mut();
        let lanes = lanes(self.plan, number, left, source, list, &self.progress, self.cancel)?;
        let terms = terms(self.plan, keep, &self.analysed, self.cancel);
        let result = run_pipeline(source, cache, list, lanes, outputs, &terms, observe)?;
        source.warnings().into_iter().for_each(|warning| warn(&mut self.warnings, warning, observe));
        self.runs.push(run_report(self.next_run(), &result.feeding, &usage));
        for lane in result.lanes {
            let index = lane.rendition;
            take(self.plan, number, lane, &mut self.progress, list, source)?;
            self.keep_first_pass(number, index, list, source, observe)?;
        }
        // Only now, when every output of the run is complete and proven, is any of them seen.
        let mut missed = Vec::new();
        for output in result.outputs {
            let index = output.renditions[0];
            let (rendition, progress) = (&self.plan.renditions[index], &mut self.progress[index]);
            let Some(size) = size_to_meet(rendition).filter(|_| self.files[index]) else {
                publish(output, None, &mut self.progress)?;
                continue;
            };
            let rate = nearer(size, rendition, &output, progress);
            let nearest = nearest_of(size, progress, output);
            match rate {
                Some(rate) => {
                    (progress.rate, progress.nearest) = (Some(rate), Some(nearest));
                    missed.push(index);
                }
                None => publish(nearest.output, Some(nearest.pass), &mut self.progress)?,
            }
        }
        Ok(missed)
    }

    /// A run that is one rendition's session.
    fn session(
        &mut self,
        number: u8,
        index: usize,
        opened: &mut Opened,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let output = self.begin(number, opened, observe)?.pop().ok_or(Error::Stopped)?;
        let usage = Usage::now();
        let (kept, unkept) = self.journals.segments(self.plan, &self.plan.renditions[index], &opened.list);
        unkept.into_iter().for_each(|warning| warn(&mut self.warnings, warning, observe));
        let made = session::run(self.plan, index, opened, output, kept, self.cancel, observe)?;
        self.runs.push(run_report(self.next_run(), &made.feeding, &usage));
        let not_met = not_met(&self.plan.renditions[index], &made);
        not_met.into_iter().chain(made.warnings).for_each(|warning| warn(&mut self.warnings, warning, observe));
        self.progress[index].passes = made.passes;
        self.progress[index].session = Some(made.report);
        publish(made.output, None, &mut self.progress)
    }

    /// The outputs that a run writes, once it is sure that the source is still the same.
    fn begin(&mut self, number: u8, opened: &Opened, observe: &mut dyn FnMut(Event)) -> Result<Vec<Output>, Error> {
        let run = self.next_run();
        observe(Event::Run { run, of: self.plan.runs + run - number });
        opened.source.unchanged()?;
        outputs(self.plan, number, &mut self.targets, opened.source.as_ref(), self.cancel)
    }

    /// Runs are numbered as they happen: one that is run again has a number of its own.
    fn next_run(&self) -> u8 {
        self.runs.len() as u8 + 1
    }

    /// A first pass that has just been proven is kept, so that a crash does not cost it.
    fn keep_first_pass(
        &mut self,
        run: u8,
        index: usize,
        list: &FrameList,
        source: &mut dyn FrameSource,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let (plan, progress, journals) = (self.plan, &self.progress[index], &mut *self.journals);
        let writes = plan.renditions[index].step_in(run).is_some_and(|step| matches!(step.stats, StatsUse::Write(_)));
        let (true, Some(stats)) = (writes, &progress.stats) else { return Ok(()) };
        let others = progress.others.map(|tally| tally.others).unwrap_or_default();
        // However slow a disk may be, as long as it moves.
        let more = Duration::from_secs(stats.bytes() / SLOWEST_DISK);
        let limit = plan.stall_timeout.map(|limit| limit.duration() + more);
        let work = move || journals.keep(plan, &plan.renditions[index], source, list, stats, others);
        if let Err(error) = between_runs(Stage::Keep(index), limit, self.cancel, work, observe)? {
            warn(&mut self.warnings, format!("the first pass cannot be kept for --resume: {error}"), observe);
        }
        Ok(())
    }
}

fn warn(warnings: &mut Vec<String>, text: String, observe: &mut dyn FnMut(Event)) {
    observe(Event::Warning { text: text.clone() });
    warnings.push(text);
}

/// What is to be said of a session that its encoder was not satisfied with, or whose quality a cap decided.
fn not_met(rendition: &RenditionPlan, made: &session::Made) -> Option<String> {
    let name = &rendition.name;
    let why = unfinished(made);
    if let Some(quality) = &made.report.quality {
        return quality_missed(name, quality, why, made);
    }
    let last = made.passes.last().and_then(|pass| Some((pass.bps?, pass.target_bps?)));
    let (is, wanted) = last.map(|(bps, target)| (BitRate(bps as u64), BitRate(target)))?;
    Some(format!("{name}: the target is not met: the session {}: {is} of {wanted}", why?))
}

/// Why a session ended without being satisfied.
fn unfinished(made: &session::Made) -> Option<String> {
    let passes = made.passes.len();
    match made.report.stopped {
        Stopped::Satisfied => None,
        Stopped::PassLimit => {
            Some(format!("stopped at the limit of {passes} passes before it was known to be on target"))
        }
        Stopped::Exhausted => Some(format!("has no level left that would bring it nearer, after {passes} passes")),
    }
}

/// What is to be said of a quality that was lowered, or missed, or whose cap does not hold.
fn quality_missed(name: &str, quality: &QualityReport, why: Option<String>, made: &session::Made) -> Option<String> {
    let QualityReport { wanted, lowered_to, missed, .. } = quality;
    let bps = made.passes.last().and_then(|pass| pass.bps).unwrap_or_default();
    let (is, decimals) = (BitRate(bps as u64), wanted.metric.decimals());
    let cap = wanted.at_most.map(|cap| match lowered_to {
        _ if bps > cap.0 as f64 => format!("the cap of {cap} is not met: {is}"),
        Some(lowered) => {
            format!(
                "the cap of {cap} decided, not the quality: {is} at {lowered:.decimals$} instead of {}",
                wanted.value
            )
        }
        None => String::new(),
    });
    let segments = made.report.segments.len();
    let missed = why.map(|why| match missed.len() {
        0 => format!("the session {why}"),
        some => format!("the target is not met by {some} of {segments} segments: the session {why}"),
    });
    let texts: Vec<String> = cap.into_iter().chain(missed).filter(|text| !text.is_empty()).collect();
    (!texts.is_empty()).then(|| format!("{name}: {}", texts.join("; ")))
}

/// The bit rate with which a second pass is run again, because the output missed its size by more than is promised.
fn nearer(
    size: ByteSize,
    rendition: &RenditionPlan,
    output: &OutputResult,
    progress: &mut Progress,
) -> Option<BitRate> {
    let (rate, video) = (progress.rate?, progress.passes.last()?.bytes);
    progress.tried.push(Tried { rate, video, made: output.sink.sealed_bytes()? });
    size::corrected(size, &progress.tried).filter(|rate| *rate >= least_rate(rendition.adapter))
}

/// Of an output and what is held of the passes before it, the one that is nearer to the size.
fn nearest_of(size: ByteSize, progress: &mut Progress, output: OutputResult) -> Nearest {
    let made = Nearest { output, pass: progress.passes.len().saturating_sub(1) };
    let miss = |one: &Nearest| one.output.sink.sealed_bytes().map(|bytes| size::miss(size, bytes).abs());
    match progress.nearest.take() {
        Some(held) if miss(&held) < miss(&made) => held,
        _ => made,
    }
}

/// Whether there was no room on a disk or in memory.
fn is_of_space(error: &Error) -> bool {
    matches!(error, Error::Write { .. } | Error::Scratch { .. } | Error::Exhausted { .. })
}

/// Bytes per second.
const SLOWEST_DISK: u64 = 10_000_000;

/// Lets an output be seen that was made in this one of its rendition's passes, counted from 0; `None`: the last.
fn publish(output: OutputResult, pass: Option<usize>, progress: &mut [Progress]) -> Result<(), Error> {
    let finished = output.sink.finish()?;
    for (number, rendition) in output.renditions.into_iter().enumerate() {
        let progress = &mut progress[rendition];
        let bytes = finished.stream_bytes.get(number).copied().unwrap_or(finished.bytes);
        let pass = pass.unwrap_or(progress.passes.len().saturating_sub(1));
        progress.made = Some(Made { bytes, pass, verified: finished.path.is_some() });
        progress.others = output.tally.or(progress.others.take());
    }
    Ok(())
}

/// The first pass of the only rendition, alone.
pub(super) fn first_pass(
    plan: &Plan,
    source: &mut dyn FrameSource,
    list: &mut FrameList,
    cancel: &Cancel,
    observe: &mut dyn FnMut(Event),
) -> Result<Stats, Error> {
    if plan.reads_unwritten_memory() {
        zero_fresh_memory();
    }
    let lanes = lanes(plan, 1, &[0], source, list, &[Progress::default()], cancel)?;
    let mut cache = FrameCache::new(CachePlan { mode: CacheMode::None, ..plan.cache.clone() });
    let terms = terms(plan, vec![false; plan.graph.branches.len()], &[], cancel);
    observe(Event::Run { run: 1, of: 1 });
    let result = run_pipeline(source, &mut cache, list, lanes, Vec::new(), &terms, observe)?;
    result.lanes.into_iter().find_map(|lane| lane.encoded.stats).ok_or(Error::Stopped)
}

/// What holds for a run of a plan.
pub(super) fn terms<'r>(plan: &'r Plan, keep: Vec<bool>, analysed: &'r [Analysed], cancel: &'r Cancel) -> Terms<'r> {
    Terms {
        keep,
        analysed,
        refuses_damage: (!plan.keep_damaged).then_some(plan.input.path.as_path()),
        finds_cuts: plan.renditions.iter().any(|rendition| rendition.encoder.session.is_some()),
        stall: plan.stall_timeout.map(Seconds::duration),
        cancel,
    }
}

/// The statistics that were kept in files, unpacked; and the frames that they were made of, to hold the source to.
fn open_kept(
    plan: &Plan,
    source: &dyn FrameSource,
    list: &FrameList,
    progress: &mut [Progress],
) -> Result<Vec<Analysed>, Error> {
    let mut analysed = Vec::new();
    for (index, rendition) in plan.renditions.iter().enumerate().filter(|(index, _)| plan.maker(*index) == *index) {
        let (FirstPass::Kept { stats, checksum, resumed }, PassModel::TwoRuns(model)) =
            (&rendition.first_pass, &rendition.adapter.passes)
        else {
            continue;
        };
        if !list.is_empty() {
            let why = "frames that were decoded before cannot be held to it".to_owned();
            return Err(Refusal::OtherStats { path: stats.clone(), differences: vec![why] }.into());
        }
        let step = rendition.encoder.steps.first().ok_or(Error::Stopped)?;
        let (artefact, unpacked) = Artefact::unpack(stats, model, step)?;
        artefact.is_still(checksum)?;
        let same_ticks = artefact.header().time_base == source.time_base();
        let times = OutputTimes::new(source.time_base(), source.frame_rate());
        progress[index].on_grid = same_ticks && times.is_none_or(|times| artefact.frames().is_on_grid(&times));
        let then = artefact.header().unfinished.as_ref().filter(|_| *resumed);
        let others = then.map(|then| Others { packets: then.other_packets, bytes: then.other_bytes });
        for reader in (0..plan.renditions.len()).filter(|reader| plan.maker(*reader) == index) {
            let (Some(others), rendition) = (others, &plan.renditions[reader]) else { break };
            progress[reader].rate = rate_for_size(rendition, others, Some(&unpacked), artefact.frames(), source)?;
        }
        progress[index].stats = Some(unpacked);
        // A job keeps the frames of all its branches together.
        let branch = (!resumed).then_some(rendition.branch);
        analysed.push(Analysed { branch, same_ticks, artefact });
    }
    Ok(analysed)
}

/// Those of `renditions` that have a pass in this run, set up for it.
fn lanes(
    plan: &Plan,
    run: u8,
    renditions: &[usize],
    source: &dyn FrameSource,
    list: &FrameList,
    progress: &[Progress],
    cancel: &Cancel,
) -> Result<Vec<Lane>, Error> {
    let mut lanes = Vec::new();
    for index in renditions.iter().copied() {
        let Some(step) = plan.renditions[index].step_in(run) else { continue };
        lanes.push(lane(plan, index, step, source, list, progress, cancel)?);
    }
    Ok(lanes)
}

/// For each branch of the graph, whether a later run encodes it.
fn wanted_after(plan: &Plan, run: u8) -> Vec<bool> {
    let later = |rendition: &RenditionPlan| {
        rendition.last_run() > run || rendition.last_run() == run && size_to_meet(rendition).is_some()
    };
    let wanted = |branch| plan.renditions.iter().any(|rendition| rendition.branch == branch && later(rendition));
    (0..plan.graph.branches.len()).map(wanted).collect()
}

/// The size for which its last pass may be run again.
fn size_to_meet(rendition: &RenditionPlan) -> Option<ByteSize> {
    match rendition.encoder.target {
        rate::Target::Size(size) if rendition.encoder.two_pass() => Some(size),
        _ => None,
    }
}

/// All files and packages of a plan, and what the caller takes instead of a file.
pub(super) fn targets(plan: &Plan, mut sinks: Sinks, cancel: &Cancel) -> Result<Vec<Target>, Error> {
    let mut targets = Vec::new();
    let in_package = |index: &usize| plan.packages.iter().any(|package| package.renditions.contains(index));
    for index in (0..plan.renditions.len()).filter(|index| !in_package(index)) {
        targets.push(target(plan, index, sinks[index].take(), cancel)?);
    }
    for package in &plan.packages {
        let container = Container::for_path(&package.manifest, Some(&package.container))?;
        let renditions: Vec<&RenditionPlan> = package.renditions.iter().map(|index| &plan.renditions[*index]).collect();
        let names = renditions.iter().map(|rendition| rendition.name.clone()).collect();
        let first = renditions[0];
        let sink = PackageSink::create(&package.manifest, container, names, package.segment_seconds, first.overwrite)?;
        let sink: Box<dyn Sink> = Box::new(sink.with_options(first.mux_options.clone()).with_cancel(cancel.clone()));
        let run = first.last_run();
        targets.push(Target { renditions: package.renditions.clone(), container, run, sink: Some(sink) });
    }
    Ok(targets)
}

/// A rendition's own file, or the caller's sink.
fn target(plan: &Plan, index: usize, own: Option<Box<dyn Sink>>, cancel: &Cancel) -> Result<Target, Error> {
    let rendition = &plan.renditions[index];
    let container = Container::for_path(&rendition.output, Some(&rendition.container))?;
    let sink = match own {
        Some(own) => own,
        None => {
            let file = FileSink::create(&rendition.output, container, rendition.overwrite)?;
            Box::new(file.with_options(rendition.mux_options.clone()).with_cancel(cancel.clone()))
        }
    };
    Ok(Target { renditions: vec![index], container, run: rendition.last_run(), sink: Some(sink) })
}

/// The files and packages that are written in a run.
pub(super) fn outputs(
    plan: &Plan,
    run: u8,
    targets: &mut [Target],
    source: &dyn FrameSource,
    cancel: &Cancel,
) -> Result<Vec<Output>, Error> {
    let mut outputs = Vec::new();
    for target in targets.iter_mut().filter(|target| target.run == run) {
        let Some(sink) = target.sink.take() else { continue };
        let first = &plan.renditions[target.renditions[0]];
        outputs.push(Output {
            renditions: target.renditions.clone(),
            mux: MuxStage::new(plan, first, target.renditions.len(), sink, source)?,
            other: OtherStage::new(plan, first, target.container.global_header(), source.spool(), cancel.clone()),
        });
    }
    Ok(outputs)
}

fn lane(
    plan: &Plan,
    index: usize,
    step: &PassStep,
    source: &dyn FrameSource,
    list: &FrameList,
    progress: &[Progress],
    cancel: &Cancel,
) -> Result<Lane, Error> {
    let rendition = &plan.renditions[index];
    let store = store(plan, rendition, step)?;
    let maker = &progress[plan.maker(index)];
    let stats = maker.stats.as_ref();
    let on_grid = |times: &OutputTimes| maker.on_grid || list.is_on_grid(times);
    let times = OutputTimes::new(source.time_base(), source.frame_rate()).filter(|times| !on_grid(times));
    let mut step = step.clone();
    aim(&mut step, progress[index].rate);
    let container = Container::for_path(&rendition.output, Some(&rendition.container))?;
    let setup = encoder_setup(rendition, &step, &container, store.as_ref().map(|(_, store)| store), stats, source)?;
    let kept = matches!(rendition.first_pass, FirstPass::Kept { .. }).then(|| stats.map(Stats::frames)).flatten();
    let expected = (!list.is_empty()).then_some(list.len() as u64).or(kept);
    let measures = !step.output && matches!(rendition.encoder.target, rate::Target::Size(_));
    let measure = measures
        .then(|| OtherStage::new(plan, rendition, container.global_header(), source.spool(), cancel.clone()))
        .flatten();
    Ok(Lane {
        rendition: index,
        branch: rendition.branch,
        forced_keyframes: rendition.encoder.forced_keyframes,
        encode: EncodeStage { setup, step, stats: store, expected, total: expected.or(plan.frames()), times },
        measure,
    })
}

/// How the encoder of a pass is opened: with a place for its statistics, or with those that it reads. Each second pass reads
/// them with its own handle, or has its own copy.
fn encoder_setup(
    rendition: &RenditionPlan,
    step: &PassStep,
    container: &Container,
    store: Option<&StatsStore>,
    stats: Option<&Stats>,
    source: &dyn FrameSource,
) -> Result<EncoderSetup, Error> {
    let stats_path = match (store, stats, step.stats) {
        (Some(store), _, _) => store.path(),
        (None, Some(stats), StatsUse::Read(_)) => stats.path(rendition.encoder.encoder)?,
        _ => None,
    };
    let stats_path = stats_path.as_deref().map(|path| rendition.adapter.stats_file(path)).transpose()?;
    let reads_text = matches!(step.stats, StatsUse::Read(StatsRoute::Context));
    let rate = source.frame_rate();
    Ok(EncoderSetup {
        encoder: rendition.encoder.encoder.to_owned(),
        pass: step.number,
        flag: step.flag,
        options: step.options(stats_path),
        stats: stats.filter(|_| reads_text).and_then(|stats| stats.text().map(str::to_owned)),
        time_base: rate.inverse(),
        frame_rate: rate,
        sample_aspect_ratio: source.sample_aspect_ratio(rendition.branch),
        global_header: step.output && container.global_header(),
    })
}

/// Puts the bit rate of a size target, known only after pass 1, in the place of the provisional one.
fn aim(step: &mut PassStep, rate: Option<BitRate>) {
    let Some(rate) = rate else { return };
    for setting in step.settings.iter_mut().filter(|setting| setting.option == "b" && setting.key.is_none()) {
        setting.value = rate.0.to_string();
    }
}

fn store(
    plan: &Plan,
    rendition: &RenditionPlan,
    step: &PassStep,
) -> Result<Option<(&'static TwoRuns, StatsStore)>, Error> {
    let (StatsUse::Write(route), PassModel::TwoRuns(model)) = (step.stats, &rendition.adapter.passes) else {
        return Ok(None);
    };
    let picture = &plan.pictures[rendition.branch];
    let frames = plan.frames().unwrap_or(0);
    let made = stats::Made { encoder: rendition.encoder.encoder, model, step, frames };
    StatsStore::for_route(route, made.expected_bytes(picture.width, picture.height)).map(|store| Some((model, store)))
}

/// Takes over what a lane brought.
fn take(
    plan: &Plan,
    run: u8,
    lane: LaneResult,
    progress: &mut [Progress],
    list: &FrameList,
    source: &dyn FrameSource,
) -> Result<(), Error> {
    let rendition = &plan.renditions[lane.rendition];
    let progress = &mut progress[lane.rendition];
    let step = rendition.step_in(run).ok_or(Error::Stopped)?;
    let encoded = lane.encoded;
    progress.passes.push(PassReport {
        number: step.number,
        frames: encoded.frames,
        packets: encoded.packets,
        bytes: encoded.bytes,
        stats_bytes: encoded.stats.as_ref().map(Stats::bytes),
        target_bps: target_bps(step, progress.rate),
        bps: step.output.then(|| encoded.bytes as f64 * 8.0 / duration(list, source).max(1e-9)),
        wall_seconds: encoded.wall.as_secs_f64(),
        starved_seconds: encoded.starved.as_secs_f64(),
        blocked_seconds: encoded.blocked.as_secs_f64(),
    });
    progress.stats = encoded.stats.or(progress.stats.take());
    progress.others = lane.tally.or(progress.others.take());
    if !step.output {
        let others = progress.others.map(|tally| tally.others).unwrap_or_default();
        progress.rate = rate_for_size(rendition, others, progress.stats.as_ref(), list, source)?;
        // Times that go back and forth make a film short, and an encoder counts its frames then.
        let seconds = duration(list, source).max(list.len() as f64 * source.frame_rate().inverse().value());
        refuse_starving(plan, lane.rendition, progress.stats.as_ref(), seconds)?;
    }
    Ok(())
}

/// A bit rate that the encoder would refuse when its second pass opens, by what its first pass took.
fn refuse_starving(plan: &Plan, made_by: usize, stats: Option<&Stats>, seconds: f64) -> Result<(), Error> {
    let Some(floor) = stats.and_then(Stats::floor) else { return Ok(()) };
    let least = BitRate((floor.refused_below / seconds.max(1e-3)).ceil() as u64);
    let served = FirstPass::Another { rendition: made_by };
    let reads = |index: usize, other: &RenditionPlan| index == made_by || other.first_pass == served;
    for (_, other) in plan.renditions.iter().enumerate().filter(|(index, other)| reads(*index, other)) {
        let rate::Target::Average(asked) = other.encoder.target else { continue };
        if asked < least {
            let encoder = other.encoder.encoder.to_owned();
            // A first pass at another rate tells a few per cent more.
            let enough = (least.0 + least.0 / 10).div_ceil(1000);
            let why = format!(
                "{asked} is less than headers and motion of this video take: use -b {enough}k or more, --crf, or a smaller \
                 picture"
            );
            return Err(Refusal::Target { encoder, why }.into());
        }
    }
    Ok(())
}

/// The bit rate of a size target, once the other streams and the frames are counted; `None` for other targets.
fn rate_for_size(
    rendition: &RenditionPlan,
    others: Others,
    stats: Option<&Stats>,
    list: &FrameList,
    source: &dyn FrameSource,
) -> Result<Option<BitRate>, Error> {
    let rate::Target::Size(size) = rendition.encoder.target else { return Ok(None) };
    let seconds = duration(list, source);
    let overhead = Overhead::of(&rendition.container);
    let floor = stats.and_then(Stats::floor);
    let least = Least::of_any(least_rate(rendition.adapter));
    let least = least.or_estimated(floor.map(|floor| floor.reachable), seconds);
    Ok(Some(size::video_rate(size, others, overhead, list.len() as u64, seconds, least)?))
}

pub(super) fn target_bps(step: &PassStep, measured: Option<BitRate>) -> Option<u64> {
    let planned = step.settings.iter().find(|setting| setting.option == "b" && setting.key.is_none());
    let planned = planned.and_then(|setting| setting.value.parse().ok());
    measured.map(|rate| rate.0).filter(|_| step.number > 1).or(planned).filter(|bps| *bps > 0)
}

fn run_report(number: u8, feeding: &crate::pipeline::feed::Feeding, began: &Usage) -> RunReport {
    RunReport {
        number,
        frames: feeding.frames,
        from_cache: feeding.from_cache,
        making_seconds: feeding.making.as_secs_f64(),
        blocked_seconds: feeding.blocked.as_secs_f64(),
        wall_seconds: began.wall(),
        cpu_seconds: began.cpu_since(),
        system_seconds: began.system_since(),
    }
}

#[expect(clippy::too_many_arguments, reason = "a report is where everything of a job meets")]
fn finish(
    plan: &Plan,
    source: &dyn FrameSource,
    cache: &FrameCache,
    list: &FrameList,
    progress: Vec<Progress>,
    runs: Vec<RunReport>,
    warnings: Vec<String>,
    began: &Usage,
) -> Result<Report, Error> {
    let seconds = duration(list, source);
    let others = progress.iter().filter_map(|progress| progress.others).map(|tally| tally.damage);
    let damage = others.fold(source.damage(), Damage::worst);
    let mut renditions = Vec::new();
    for (rendition, progress) in plan.renditions.iter().zip(progress) {
        renditions.push(rendition_report(rendition, progress, seconds)?);
    }
    Ok(Report {
        versions: versions(),
        input: plan.input.path.clone(),
        frames: list.len() as u64,
        seconds,
        frames_hash: format!("{:016x}", list.hash()),
        damage: damage.any().then_some(damage),
        runs,
        renditions,
        cache: plan.cache.clone(),
        cached_frames: cache.len() as u64,
        spill: cache.spilled().cloned(),
        wall_seconds: began.wall(),
        cpu_seconds: began.cpu_since(),
        peak_memory_bytes: peak_memory(),
        warnings,
    })
}

/// Seconds of video: from the first frame to the end of the last.
pub(super) fn duration(list: &FrameList, source: &dyn FrameSource) -> f64 {
    let (Some(first), Some(last)) = (list.entries().first(), list.entries().last()) else { return 0.0 };
    let period = source.frame_rate().inverse().value();
    if OutputTimes::new(source.time_base(), source.frame_rate()).is_none_or(|times| list.is_on_grid(&times)) {
        return (last.moment.grid - first.moment.grid + 1) as f64 * period;
    }
    (last.moment.exact - first.moment.exact) as f64 * source.time_base().value() + period
}

fn rendition_report(rendition: &RenditionPlan, progress: Progress, seconds: f64) -> Result<RenditionReport, Error> {
    let made = progress.made.ok_or(Error::Stopped)?;
    let pass = progress.passes.get(made.pass);
    let video_bytes = pass.map_or(0, |pass| pass.bytes);
    let video_bps = video_bytes as f64 * 8.0 / seconds.max(1e-9);
    let aimed = pass.and_then(|pass| pass.target_bps);
    let share = |is: f64, aimed: f64| is / aimed - 1.0;
    let size = match rendition.encoder.target {
        rate::Target::Size(size) => Some(size),
        _ => None,
    };
    let two_pass = rendition.encoder.two_pass();
    Ok(RenditionReport {
        name: rendition.name.clone(),
        output: PathBuf::from(&rendition.output),
        plan: rendition.encoder.clone(),
        first_pass: rendition.first_pass.clone(),
        passes: progress.passes,
        bytes: made.bytes,
        video_bytes,
        video_bps,
        bitrate_error: aimed.filter(|_| rendition.encoder.target.is_bitrate()).map(|bps| share(video_bps, bps as f64)),
        size_error: size.map(|size| size::miss(size, made.bytes)),
        size_missed: size.and_then(|size| size::why_missed(size, made.bytes, two_pass, seconds)),
        session: progress.session,
        verified: made.verified,
    })
}

/// Time and CPU seconds that something took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    wall: Duration,
    cpu: Option<f64>,
}

/// Time and CPU at one moment.
pub(super) struct Usage {
    at: Instant,
    cpu: Option<f64>,
    system: Option<f64>,
}

impl Usage {
    pub(super) fn now() -> Self {
        Usage { at: Instant::now(), cpu: cpu_seconds(), system: system_seconds() }
    }

    /// A moment so much earlier: what was spent then counts as if it had been spent just now.
    pub(super) fn with(self, spent: Spent) -> Self {
        let at = self.at.checked_sub(spent.wall).unwrap_or(self.at);
        let cpu = self.cpu.zip(spent.cpu).map(|(now, spent)| now - spent);
        Usage { at, cpu, ..self }
    }

    pub(super) fn spent(&self) -> Spent {
        Spent { wall: self.at.elapsed(), cpu: self.cpu_since() }
    }

    /// Seconds since.
    pub(super) fn wall(&self) -> f64 {
        self.at.elapsed().as_secs_f64()
    }

    pub(super) fn cpu_since(&self) -> Option<f64> {
        Some(cpu_seconds()? - self.cpu?)
    }

    fn system_since(&self) -> Option<f64> {
        Some(system_seconds()? - self.system?)
    }
}

/// CPU seconds of the process, user and system.
#[cfg(unix)]
fn cpu_seconds() -> Option<f64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

#[cfg(not(unix))]
fn cpu_seconds() -> Option<f64> {
    None
}

/// CPU seconds of the process in the kernel: `stime` of Linux, the 15th field, in ticks; the 2nd may hold spaces.
fn system_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(12)?.parse().ok()?;
    Some(ticks / CLOCK_TICKS)
}

/// `USER_HZ`, which is 100 on every architecture that Rust knows of.
const CLOCK_TICKS: f64 = 100.0;

/// Greatest resident memory of the process in bytes: `VmHWM` of Linux.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::av::packet::Packet;
    use crate::media::Rational;
    use crate::sink::{Finished, Streams};

    /// Sealed, with so many bytes.
    struct Sealed(u64);

    impl Sink for Sealed {
        fn start(&mut self, _: &Streams) -> Result<(), Error> {
            Ok(())
        }

        fn write(&mut self, _: Packet, _: usize, _: Rational) -> Result<(), Error> {
            Ok(())
        }

        fn sealed_bytes(&self) -> Option<u64> {
            Some(self.0)
        }

        fn finish(self: Box<Self>) -> Result<Finished, Error> {
            Ok(Finished { bytes: self.0, ..Finished::of(Vec::new()) })
        }
    }

    fn pass_of(bytes: u64) -> PassReport {
        PassReport {
            number: 2,
            frames: 1,
            packets: 1,
            bytes,
            stats_bytes: None,
            target_bps: None,
            bps: None,
            wall_seconds: 0.0,
            starved_seconds: 0.0,
            blocked_seconds: 0.0,
        }
    }

    #[test]
    fn of_several_tries_the_nearest_is_seen_and_not_the_last() {
        for (tries, nearest) in [([900, 980, 1050], 1), ([980, 900, 1050], 0), ([1200, 900, 1001], 2)] {
            let mut progress = vec![Progress::default()];
            for bytes in tries {
                progress[0].passes.push(pass_of(bytes));
                let output = OutputResult { renditions: vec![0], sink: Box::new(Sealed(bytes)), tally: None };
                progress[0].nearest = Some(nearest_of(ByteSize(1000), &mut progress[0], output));
            }
            let Nearest { output, pass } = progress[0].nearest.take().unwrap();
            publish(output, Some(pass), &mut progress).unwrap();
            let made = progress[0].made.as_ref().unwrap();
            assert_eq!((made.pass, made.bytes), (nearest, tries[nearest]), "{tries:?}");
        }
    }
}
