//! A rendition that is made by a session: frames kept in the first run, passes over segments, then the file.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::av::encoder::EncoderSetup;
use crate::av::frame::Frame;
use crate::av::muxer::{Container, EncodedStream};
use crate::av::packet::Packet;
use crate::cache::FrameCache;
use crate::error::Error;
use crate::event::{Cancel, Event};
use crate::frames::{FrameList, FrameSource};
use crate::job::run::{Opened, duration, terms};
use crate::job::{Plan, RenditionPlan, native};
use crate::media::Rational;
use crate::pipeline::crew::{Crew, with_crew};
use crate::pipeline::feed::{Again, Feeding};
use crate::pipeline::watch::Pulse;
use crate::pipeline::{FRAMES_IN_FLIGHT, Output, OutputResult, Terms, deliver};
use crate::plan::{PassStep, ProbePlan, SessionAim, SessionPlan};
use crate::rate::Target;
use crate::report::{PassReport, QualityReport, SegmentReport, SessionPassReport, SessionReport};
use crate::session::{
    self, Division, KeptSegments, Outcome, ProbeSetup, RangeSet, Replay, Segmented, SessionError, Silo, SourceFrame,
    TimeRange, Work, decoding_times, videotoolbox,
};
use crate::timing::{LONGEST, Moment, OutputTimes};

/// What a session has come to.
pub(super) struct Made {
    pub(super) output: OutputResult,
    pub(super) passes: Vec<PassReport>,
    pub(super) report: SessionReport,
    /// How frames were had again.
    pub(super) feeding: Feeding,
    /// What deserves to be known.
    pub(super) warnings: Vec<String>,
}

/// Runs the session of a rendition over frames that were gone through before, and writes its output.
pub(super) fn run(
    plan: &Plan,
    index: usize,
    opened: &mut Opened,
    output: Output,
    kept: Option<Arc<KeptSegments>>,
    cancel: &Cancel,
    observe: &mut dyn FnMut(Event),
) -> Result<Made, Error> {
    let rendition = &plan.renditions[index];
    if let Some(own) = &rendition.encoder.native {
        return native::run(plan, index, own, opened, output, cancel, observe, videotoolbox::open);
    }
    let (Some(session), Some(step)) = (&rendition.encoder.session, rendition.encoder.steps.first()) else {
        return Err(Error::Stopped);
    };
    let keeping = kept.clone();
    let work = work(plan, index, session, step, opened, kept, cancel)?;
    let terms = terms(plan, Vec::new(), &[], cancel);
    let mut encoded = encode(work, rendition, session, opened, &terms, observe)?;
    let Opened { source, list, .. } = opened;
    let source = source.as_ref();
    let (time_base, packets) = timed(std::mem::take(&mut encoded.packets), list, source);
    let passes = passes(rendition, &encoded.passes, packets.len() as u64, duration(list, source));
    let report = SessionReport {
        quality: encoded.held_to.and_then(|held_to| quality(&session.aim, held_to, &encoded.segments)),
        taken_up: encoded.taken_up,
        ..report(&encoded.outcome, &encoded.segments, list, encoded.probed_frames)
    };
    let output = deliver(encoded.stream.with_time_base(time_base), packets, output, &terms, observe)?;
    Ok(Made { output, passes, report, feeding: encoded.feeding, warnings: unkept(rendition, keeping.as_deref()) })
}

/// What the session is about, over frames that are known by now.
fn work(
    plan: &Plan,
    index: usize,
    session: &SessionPlan,
    step: &PassStep,
    opened: &Opened,
    kept: Option<Arc<KeptSegments>>,
    cancel: &Cancel,
) -> Result<Work, Error> {
    let (rendition, Opened { source, cache, list }) = (&plan.renditions[index], opened);
    let source = source.as_ref();
    let division = Division {
        about: session.segment_frames,
        group: session.group_frames,
        places: &[list.cuts(), list.keys()],
        uneven: session.uneven,
    };
    let divided = division.of(list.len());
    let count = side_by_side(session, divided.len());
    Ok(Work {
        rendition: index,
        plan: session.clone(),
        setup: setup(rendition, step, source)?,
        probe: session.probe.as_ref().map(|probe| probe_setup(plan, rendition, probe, source)).transpose()?,
        segments: divided.iter().map(|frames| (range(list, frames), frames.len())).collect(),
        target_bytes: target_bytes(rendition, duration(list, source)),
        pixels: pixels(plan, rendition) * list.len() as f64,
        waiting_frames: waiting_frames(cache, list, session, count),
        kept,
        cancel: cancel.clone(),
    })
}

/// Runs the passes, with as many segments in work at a time as the plan has.
fn encode(
    work: Work,
    rendition: &RenditionPlan,
    session: &SessionPlan,
    opened: &mut Opened,
    terms: &Terms<'_>,
    observe: &mut dyn FnMut(Event),
) -> Result<Encoded, Error> {
    let Opened { source, cache, list } = opened;
    let (source, list, cancel) = (source.as_mut(), &*list, terms.cancel);
    let (index, count) = (work.rendition, side_by_side(session, work.segments.len()));
    let conduct = |crew: &Crew| {
        let (branch, feeding) = (rendition.branch, Feeding::default());
        let mut frames = Kept { source, cache, list, branch, at: None, cancel, pulse: &crew.pulse, feeding };
        conduct(work, session, crew, &mut frames, cancel).map_err(|error| error.of(rendition.encoder.encoder))
    };
    with_crew(count, index, terms, conduct, observe)
}

fn side_by_side(session: &SessionPlan, segments: usize) -> usize {
    session.side_by_side.map_or_else(cpus, usize::from).min(segments)
}

/// What each pass came to; `seconds` is the length of the film.
fn passes(rendition: &RenditionPlan, taken: &[session::PassTaken], packets: u64, seconds: f64) -> Vec<PassReport> {
    let target_bps = match rendition.encoder.target {
        Target::Average(rate) => Some(rate.0),
        _ => None,
    };
    let pass = |(number, taken): (u8, &session::PassTaken)| PassReport {
        number,
        frames: taken.frames,
        packets,
        bytes: taken.bytes,
        stats_bytes: None,
        target_bps,
        bps: Some(taken.bytes as f64 * 8.0 / seconds.max(1e-9)),
        wall_seconds: taken.wall.as_secs_f64(),
        starved_seconds: 0.0,
        blocked_seconds: 0.0,
    };
    (1..).zip(taken).map(pass).collect()
}

/// Why segments were not kept to the end.
fn unkept(rendition: &RenditionPlan, kept: Option<&KeptSegments>) -> Vec<String> {
    let why = kept.and_then(KeptSegments::failed);
    why.map(|why| format!("{}: coded segments were not kept any more: {why}", rendition.name)).into_iter().collect()
}

/// What comes out of the passes.
struct Encoded {
    outcome: Outcome,
    stream: EncodedStream,
    /// In decoding order, with presentation times on the grid.
    packets: Vec<Packet>,
    passes: Vec<session::PassTaken>,
    segments: Vec<session::InStream>,
    probed_frames: u64,
    taken_up: u64,
    held_to: Option<session::HeldTo>,
    feeding: Feeding,
}

fn conduct(
    work: Work,
    plan: &SessionPlan,
    crew: &Crew,
    frames: &mut Kept<'_>,
    cancel: &Cancel,
) -> Result<Encoded, SessionError> {
    let silo = Silo::new();
    let mut encoder = Segmented::open(work, &silo, crew, frames)?;
    let outcome =
        session::run(&mut encoder, &silo, frames, NonZeroU32::from(plan.most_passes), cancel, &mut |_, _| {})?;
    let segments = encoder.in_stream();
    let passes = std::mem::take(&mut encoder.passes);
    let Segmented { probed_frames, taken_up, .. } = encoder;
    let held_to = encoder.held_to();
    let stream = encoder.take_stream().ok_or(Error::Stopped)?;
    Ok(Encoded {
        outcome,
        stream,
        packets: silo.into_packets(),
        passes,
        segments,
        probed_frames,
        taken_up,
        held_to,
        feeding: frames.feeding,
    })
}

/// The frames of one branch, from the cache or decoded again.
pub(super) struct Kept<'k> {
    pub(super) source: &'k mut dyn FrameSource,
    pub(super) cache: &'k mut FrameCache,
    pub(super) list: &'k FrameList,
    pub(super) branch: usize,
    /// The frame that the source has next, where that is known.
    pub(super) at: Option<usize>,
    pub(super) cancel: &'k Cancel,
    pub(super) pulse: &'k Pulse,
    pub(super) feeding: Feeding,
}

impl Kept<'_> {
    pub(super) fn frame(&mut self, index: usize) -> Result<Frame, Error> {
        let began = Instant::now();
        let mut frames = if index < self.cache.len() {
            self.feeding.from_cache += 1;
            self.cache.frames(index, false)?
        } else {
            let Kept { source, list, at, cancel, pulse, .. } = self;
            Again { source: &mut **source, list, at, cancel, pulse }.frame(index)?
        };
        self.feeding.frames += 1;
        self.feeding.making += began.elapsed();
        Ok(frames.swap_remove(self.branch))
    }
}

impl Replay for Kept<'_> {
    fn replay(
        &mut self,
        ranges: &RangeSet,
        each: &mut dyn FnMut(SourceFrame<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        for range in ranges.ranges() {
            let list = self.list.entries();
            let from = list.partition_point(|listed| listed.moment.grid < range.start);
            let to = list.partition_point(|listed| listed.moment.grid < range.end);
            for index in from..to {
                let frame = self.frame(index)?;
                self.pulse.beat();
                each(SourceFrame { frame: &frame, pts: self.list.entries()[index].moment.grid, duration: 1 })?;
            }
        }
        Ok(())
    }
}

fn setup(rendition: &RenditionPlan, step: &PassStep, source: &dyn FrameSource) -> Result<EncoderSetup, Error> {
    let container = Container::for_path(&rendition.output, Some(&rendition.container))?;
    let rate = source.frame_rate();
    Ok(EncoderSetup {
        encoder: rendition.encoder.encoder.to_owned(),
        pass: step.number,
        flag: step.flag,
        options: step.options(None),
        stats: None,
        time_base: rate.inverse(),
        frame_rate: rate,
        sample_aspect_ratio: source.sample_aspect_ratio(rendition.branch),
        global_header: container.global_header(),
    })
}

fn probe_setup(
    plan: &Plan,
    rendition: &RenditionPlan,
    probe: &ProbePlan,
    source: &dyn FrameSource,
) -> Result<ProbeSetup, Error> {
    let own = setup(rendition, &probe.step, source)?;
    // Its headers stay in its packets, where they are looked for.
    let setup = EncoderSetup { encoder: probe.encoder.to_owned(), global_header: false, ..own };
    let width = plan.pictures[rendition.branch].width;
    Ok(ProbeSetup { plan: probe.clone(), setup, worth: probe.worth * f64::from(width) / 2.0 / probe_width(width) })
}

/// The width that the probe's chain makes of this one.
fn probe_width(width: u32) -> f64 {
    ((f64::from(width) / 256.0).round() * 128.0).max(128.0)
}

/// Where a segment lies on the grid. The last ends behind its last frame.
fn range(list: &FrameList, frames: &Range<usize>) -> TimeRange {
    let grid = |index: usize| list.entries().get(index).map(|listed| listed.moment.grid);
    let last = list.entries().last().map_or(0, |listed| listed.moment.grid + 1);
    TimeRange { start: grid(frames.start).unwrap_or(last), end: grid(frames.end).unwrap_or(last) }
}

fn target_bytes(rendition: &RenditionPlan, seconds: f64) -> f64 {
    match rendition.encoder.target {
        Target::Average(rate) => rate.0 as f64 * seconds / 8.0,
        // Refused in the plan.
        Target::Quality(_) | Target::Size(_) => 0.0,
        Target::Measured(quality) => quality.at_most.map_or(f64::INFINITY, |rate| rate.0 as f64 * seconds / 8.0),
    }
}

fn pixels(plan: &Plan, rendition: &RenditionPlan) -> f64 {
    let picture = &plan.pictures[rendition.branch];
    f64::from(picture.width) * f64::from(picture.height)
}

/// Frames that wait for an encoder beside the cache cost memory; those in it cost nothing, so a whole segment may wait.
fn waiting_frames(cache: &FrameCache, list: &FrameList, plan: &SessionPlan, segments: usize) -> usize {
    let all_cached = cache.len() == list.len() && cache.spilled().is_none_or(|spilled| spilled.frames == 0);
    if all_cached { plan.segment_frames as usize * 2 } else { FRAMES_IN_FLIGHT.max(WAITING_UNCACHED / segments.max(1)) }
}

/// Gives packets that are timed on the grid their times in the output.
pub(super) fn timed(mut packets: Vec<Packet>, list: &FrameList, source: &dyn FrameSource) -> (Rational, Vec<Packet>) {
    let times = OutputTimes::new(source.time_base(), source.frame_rate()).filter(|times| !list.is_on_grid(times));
    let (time_base, period) =
        times.map_or((source.frame_rate().inverse(), 1), |times| (times.time_base, times.period()));
    let mut times = times;
    let moments = list.entries().iter().map(|listed| listed.moment);
    let shown: Vec<i64> = moments.map(|moment| time(&mut times, moment)).collect();
    let place = |grid: i64| list.entries().partition_point(|listed| listed.moment.grid < grid);
    let places: Vec<usize> =
        packets.iter().map(|packet| place(packet.pts().unwrap_or(0)).min(shown.len() - 1)).collect();
    let coded: Vec<i64> = places.iter().map(|place| shown[*place]).collect();
    for ((packet, place), dts) in packets.iter_mut().zip(places).zip(decoding_times(&coded, period)) {
        let pts = shown[place];
        let following = shown.get(place + 1).map_or(period, |next| next - pts);
        packet.set_times(Some(pts), Some(dts), following.clamp(1, period * LONGEST));
    }
    (time_base, packets)
}

fn time(times: &mut Option<OutputTimes>, moment: Moment) -> i64 {
    times.as_mut().map_or(moment.grid, |times| times.of(moment))
}

pub(super) fn report(
    outcome: &Outcome,
    segments: &[session::InStream],
    list: &FrameList,
    probed_frames: u64,
) -> SessionReport {
    let index = |grid: i64| list.entries().partition_point(|listed| listed.moment.grid < grid) as u64;
    let frames = |range: &TimeRange| (index(range.start), index(range.end));
    SessionReport {
        stopped: outcome.stopped,
        passes: outcome
            .passes
            .iter()
            .map(|pass| SessionPassReport {
                ranges: pass.ranges.ranges().iter().map(frames).collect(),
                frames: pass.frames,
            })
            .collect(),
        probed_frames,
        taken_up: 0,
        quality: None,
        segments: segments
            .iter()
            .map(|segment| SegmentReport {
                first_frame: index(segment.range.start),
                frames: segment.frames as u64,
                level: segment.level,
                bytes: segment.bytes,
                quality: segment.quality,
                versions: segment.versions as u64,
            })
            .collect(),
    }
}

/// What a session towards a quality came to.
fn quality(aim: &SessionAim, held_to: session::HeldTo, segments: &[session::InStream]) -> Option<QualityReport> {
    let SessionAim::Quality(wanted) = *aim else { return None };
    let frames: usize = segments.iter().map(|segment| segment.frames).sum();
    let sum: f64 = segments.iter().filter_map(|segment| Some(segment.quality? * segment.frames as f64)).sum();
    Some(QualityReport {
        wanted,
        lowered_to: Some(held_to.quality).filter(|quality| *quality < wanted.value),
        mean: sum / frames.max(1) as f64,
        missed: held_to.missed.into_iter().map(|segment| segment as u64).collect(),
    })
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Frames that may wait beside the cache in all: fewer than encoders hold themselves.
const WAITING_UNCACHED: usize = 64;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::adapter::{self, PROBE};
    use crate::av::filter::{FilterInput, VideoFilter};
    use crate::job::{Job, JobRequest, RenditionRequest};
    use crate::plan::{Passes, Request};
    use crate::rate::BitRate;
    use crate::session::Stopped;
    use crate::source::Input;

    #[test]
    fn probes_have_widths_at_which_bits_depend_on_pictures_alone() {
        let unless = adapter::named(PROBE.encoder).unwrap().unwritten_unless.unwrap();
        let rate = Rational::new(24, 1);
        let input = FilterInput { time_base: rate.inverse(), frame_rate: Some(rate), sample_aspect_ratio: None };
        for width in [16, 176, 192, 320, 384, 400, 640, 720, 854, 960, 1080, 1280, 1366, 1920, 3026] {
            let frame = Frame::allocate(width, 90, "yuv420p10le").unwrap();
            let filter = VideoFilter::open(&frame, &input, PROBE.filter, 1, Some(1)).unwrap();
            let output = filter.output(0);
            assert!(output.width.is_multiple_of(unless) && output.width >= unless, "{width}: {output:?}");
            assert_eq!((f64::from(output.width), output.height), (probe_width(width), 44), "{width}");
        }
    }

    #[test]
    fn where_the_probes_encoder_is_missing_segments_are_foreseen_by_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in.y4m"), folder.path().join("out.mkv"));
        let source = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=160x96:r=24,noise=alls=20:allf=t:all_seed=3"];
        let coded = ["-frames:v", "192", "-pix_fmt", "yuv420p"];
        let made = Command::new("ffmpeg").args(source).args(coded).arg(&input).status();
        assert!(made.expect("the ffmpeg program is installed").success());
        let encoder = Request {
            passes: Passes::Session,
            preset: Some("ultrafast".to_owned()),
            ..Request::new(adapter::named("libx264").unwrap(), Target::Average(BitRate(400_000)))
        };
        let renditions = vec![RenditionRequest::new("whole", &output, encoder)];
        let request = JobRequest { renditions, ..JobRequest::new(Input::file(&input)) };
        let mut job = Job::prepare(&request, &Cancel::new()).unwrap();
        let session = job.plan.renditions[0].encoder.session.as_mut().unwrap();
        assert!(session.probe.take().is_some() && session.uneven, "{session:?}");
        let report = job.run(|_| {}).unwrap();
        let rendition = &report.renditions[0];
        let session = rendition.session.as_ref().unwrap();
        assert!(rendition.bitrate_error.unwrap().abs() <= 0.01 && session.stopped == Stopped::Satisfied, "{session:?}");
        // Stretches alone, and at most two samples that were in vain.
        assert!((1..192).contains(&session.probed_frames), "{session:?}");
    }
}
