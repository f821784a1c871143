//! Sessions with encoders on the CPU: segments, each with an encoder of its own, at levels of constant quality that are
//! corrected until the whole has its bit rate, or each its quality.
//!
//! Invariants: what is encoded does not depend on how many segments are in work at a time, for each has one thread, and
//! levels are chosen when everything before a fixed segment is known; a segment is in the stream as one whole version.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::law::{HeldTo, Law};
use super::meter::Meter;
use super::steering::{Next, Steering};
use super::{
    Ask, EncodedPacket, PassEncoder, PassKind, RangeSet, Replay, SessionError, Silo, SourceFrame, TimeRange, Verdict,
};
use crate::adapter::Headers;
use crate::av::Received;
use crate::av::encoder::{Encoder, EncoderSetup};
use crate::av::frame::Frame;
use crate::av::muxer::EncodedStream;
use crate::av::packet::Packet;
use crate::error::Error;
use crate::event::{Cancel, Event};
use crate::pipeline::crew::Crew;
use crate::pipeline::watch::Pulse;
use crate::plan::{LEVEL, Levels, SessionAim, SessionPlan};
use crate::quality::Metric;

mod measured;

/// What a session is about.
pub(crate) struct Work {
    pub(crate) rendition: usize,
    pub(crate) plan: SessionPlan,
    /// Of every segment's encoder; its level is yet to be filled in.
    pub(crate) setup: EncoderSetup,
    /// The segments, and the frames of each.
    pub(crate) segments: Vec<(TimeRange, usize)>,
    /// Bytes that the whole is to have, or, where a quality is the target, may have; infinite without a cap.
    pub(crate) target_bytes: f64,
    /// Pixels of all its frames.
    pub(crate) pixels: f64,
    /// Frames that may wait for each segment's encoder.
    pub(crate) waiting_frames: usize,
    pub(crate) cancel: Cancel,
}

/// A segment as it is in the stream.
pub(crate) struct InStream {
    pub(crate) range: TimeRange,
    pub(crate) frames: usize,
    pub(crate) level: f64,
    pub(crate) bytes: u64,
    /// In the metric's unit, where it is measured.
    pub(crate) quality: Option<f64>,
    /// How many versions of it were made.
    pub(crate) versions: usize,
}

/// What a pass took.
#[derive(Clone, Copy)]
pub(crate) struct PassTaken {
    /// Frames that were encoded; those of a segment that got an earlier version of itself back were not.
    pub(crate) frames: u64,
    /// Of the whole stream as it was after the pass.
    pub(crate) bytes: u64,
    pub(crate) wall: Duration,
}

/// A session over segments.
pub(crate) struct Segmented<'s> {
    work: Work,
    silo: &'s Silo,
    crew: &'s Crew,
    steering: Law,
    /// Versions of each segment, the one in the stream last.
    versions: Vec<Vec<Version>>,
    /// Levels of the pass, by segment.
    chosen: BTreeMap<usize, f64>,
    open: Option<OpenPass>,
    current: Option<Current>,
    flight: Flight,
    pub(crate) passes: Vec<PassTaken>,
    /// Frames that probes took.
    pub(crate) probed_frames: u64,
}

struct OpenPass {
    number: u8,
    began: Instant,
    tally: Arc<Tally>,
}

/// The segment that frames are handed to.
struct Current {
    segment: usize,
    /// `None` where an earlier version takes its place.
    frames: Option<Sender<Frame>>,
}

/// Segments in work.
struct Flight {
    /// How many there may be.
    most: usize,
    count: usize,
    /// Where results come in; those in work hold the other end, and nobody else once they are waited for.
    results: Option<(Sender<Landed>, Receiver<Landed>)>,
}

/// A segment that was coded, by its number.
type Landed = (usize, Result<Version, Error>);

/// What a pass has come to, for progress.
#[derive(Default)]
struct Tally {
    frames: AtomicU64,
    bytes: AtomicU64,
}

/// One coding of a segment.
struct Version {
    level: f64,
    /// Times are the session's.
    packets: Vec<Packet>,
    bytes: u64,
    /// In the metric's unit, where it is measured.
    quality: Option<f64>,
    headers: Arc<[u8]>,
    stream: EncodedStream,
}

impl<'s> Segmented<'s> {
    /// Probes the segments, and begins with the levels that this suggests.
    ///
    /// # Errors
    /// What the source or an encoder meets.
    pub(crate) fn open(
        work: Work,
        silo: &'s Silo,
        crew: &'s Crew,
        frames: &mut impl Replay,
    ) -> Result<Self, SessionError> {
        let mut flight = Flight { most: work.segments.len().max(1), count: 0, results: None };
        let (steering, probed_frames) = match work.plan.aim {
            SessionAim::Rate { tolerance } => rate_law(&work, tolerance, crew, &mut flight, frames)?,
            SessionAim::Quality(target) => measured::quality_law(&work, target, crew, &mut flight, frames)?,
        };
        let versions = work.segments.iter().map(|_| Vec::new()).collect();
        Ok(Segmented {
            work,
            silo,
            crew,
            steering,
            versions,
            chosen: BTreeMap::new(),
            open: None,
            current: None,
            flight,
            passes: Vec::new(),
            probed_frames,
        })
    }

    /// What a muxer needs to know of the stream.
    pub(crate) fn take_stream(&mut self) -> Option<EncodedStream> {
        self.versions.first_mut()?.pop().map(|version| version.stream)
    }

    /// The segments as they are in the stream.
    pub(crate) fn in_stream(&self) -> Vec<InStream> {
        let both = self.work.segments.iter().zip(&self.versions);
        let of = |(&(range, frames), versions): (&(TimeRange, usize), &Vec<Version>)| {
            let Version { level, bytes, quality, .. } = versions.last()?;
            Some(InStream { range, frames, level: *level, bytes: *bytes, quality: *quality, versions: versions.len() })
        };
        both.filter_map(of).collect()
    }

    /// The quality that segments were held to, where that is the target.
    pub(crate) fn held_to(&self) -> Option<HeldTo> {
        self.steering.held_to()
    }

    fn bytes(&self) -> u64 {
        self.versions.iter().filter_map(|versions| versions.last()).map(|version| version.bytes).sum()
    }

    /// Hands the frames that follow to this segment.
    fn enter(&mut self, segment: usize) -> Result<(), SessionError> {
        self.current = None;
        let is_first = self.passes.is_empty();
        if is_first && self.begins_wave(segment) {
            // Here, whatever is in work at a time, all that was before is known.
            self.land()?;
            let levels = self.steering.levels_from(segment);
            self.chosen.extend((segment..).zip(levels));
        }
        let level = *self
            .chosen
            .get(&segment)
            .ok_or(SessionError::OutsideRanges { pts: self.work.segments[segment].0.start })?;
        let versions = &mut self.versions[segment];
        if let Some(known) = versions.iter().position(|version| version.level == level) {
            let version = versions.remove(known);
            self.steering.note(segment, version.coded());
            versions.push(version);
            self.current = Some(Current { segment, frames: None });
            return Ok(());
        }
        let Some(open) = &self.open else { return Err(SessionError::NotInPass) };
        let (range, count) = self.work.segments[segment];
        let progress = Progress {
            rendition: self.work.rendition,
            pass: open.number,
            began: open.began,
            tally: open.tally.clone(),
            total: self.pass_frames(),
            tick: self.work.setup.time_base.value(),
            events: self.crew.events.clone(),
            told: Cell::new(None),
        };
        let coding = Coding::new(&self.work, level, range.start, count, Some(progress));
        let frames = self.flight.start(self.crew, segment, coding, self.work.waiting_frames)?;
        self.current = Some(Current { segment, frames: Some(frames) });
        Ok(())
    }

    /// Whether pass 1 waits here for what is in work, and corrects itself: behind the first segment, which says how well the
    /// probes foresaw, and some times later. This depends on the number of segments alone, or the result would depend on
    /// how many are in work.
    fn begins_wave(&self, segment: usize) -> bool {
        let wave = self.work.segments.len().div_ceil(WAVES).max(SHORTEST_WAVE);
        segment == 0 || (segment - 1).is_multiple_of(wave)
    }

    fn pass_frames(&self) -> u64 {
        let in_pass = |segment: &usize| self.passes.is_empty() || self.chosen.contains_key(segment);
        let all = (0..self.work.segments.len()).filter(in_pass);
        all.map(|segment| self.work.segments[segment].1 as u64).sum()
    }

    /// Waits for all that is in work.
    fn land(&mut self) -> Result<(), SessionError> {
        for (segment, version) in self.flight.land(self.crew)? {
            self.steering.note(segment, version.coded());
            self.versions[segment].push(version);
        }
        Ok(())
    }

    /// Gives the versions of these ranges to the silo.
    fn deliver(&self, ranges: &RangeSet) -> Result<(), SessionError> {
        let both = self.work.segments.iter().zip(&self.versions).filter(|((range, _), _)| ranges.contains(range.start));
        for version in both.filter_map(|(_, versions)| versions.last()) {
            for packet in &version.packets {
                let packet = packet.share().map_err(|_| Error::Stopped)?;
                self.silo.add(EncodedPacket { packet, headers: version.headers.clone() })?;
            }
        }
        Ok(())
    }
}

impl PassEncoder for Segmented<'_> {
    fn begin_pass(&mut self, _kind: PassKind, _ranges: &RangeSet) -> Result<(), SessionError> {
        if self.open.is_some() {
            return Err(SessionError::PassOpen);
        }
        let number = u8::try_from(self.passes.len() + 1).unwrap_or(u8::MAX);
        self.open = Some(OpenPass { number, began: Instant::now(), tally: Arc::default() });
        Ok(())
    }

    fn encode(&mut self, given: SourceFrame<'_>) -> Result<(), SessionError> {
        let SourceFrame { frame, pts, .. } = given;
        let is_current = |current: &Current| self.work.segments[current.segment].0.contains(pts);
        if !self.current.as_ref().is_some_and(is_current) {
            let after = self.work.segments.partition_point(|(range, _)| range.start <= pts);
            self.enter(after.checked_sub(1).ok_or(SessionError::OutsideRanges { pts })?)?;
        }
        let Some(Current { segment, frames: Some(frames) }) = &self.current else { return Ok(()) };
        let start = self.work.segments[*segment].0.start;
        let frame = fresh(frame, pts - start)?;
        if self.crew.pulse.while_waiting(|| frames.send(frame)).is_ok() {
            return Ok(());
        }
        // The encoder has gone, and says why.
        self.current = None;
        self.land()?;
        Err(Error::Stopped.into())
    }

    fn end_pass(&mut self, ask: Ask) -> Result<Verdict, SessionError> {
        self.current = None;
        let open = self.open.take().ok_or(SessionError::NotInPass)?;
        self.land()?;
        self.settle();
        let ranges = if self.passes.is_empty() { RangeSet::everything() } else { self.ranges(&self.chosen)? };
        self.deliver(&ranges)?;
        let frames = open.tally.frames.load(Ordering::Relaxed);
        let taken = PassTaken { frames, bytes: self.bytes(), wall: open.began.elapsed() };
        self.passes.push(taken);
        let seconds = taken.wall.as_secs_f64();
        let _ = self.crew.events.send(Event::PassDone {
            rendition: self.work.rendition,
            pass: open.number,
            frames,
            seconds,
        });
        self.chosen.clear();
        if ask == Ask::CertainlyLast {
            return Ok(Verdict::Satisfied);
        }
        match self.steering.next() {
            Next::Satisfied => Ok(Verdict::Satisfied),
            Next::Exhausted => Ok(Verdict::Exhausted),
            Next::Again(again) => {
                self.chosen.extend(again);
                Ok(Verdict::Further(self.ranges(&self.chosen)?))
            }
        }
    }
}

impl Segmented<'_> {
    fn ranges(&self, segments: &BTreeMap<usize, f64>) -> Result<RangeSet, SessionError> {
        RangeSet::new(segments.keys().map(|segment| self.work.segments[*segment].0).collect())
    }
}

impl Flight {
    /// Begins a segment, and returns where its frames go.
    fn start(
        &mut self,
        crew: &Crew,
        number: usize,
        coding: Coding,
        waiting: usize,
    ) -> Result<Sender<Frame>, SessionError> {
        let (frames, taken) = bounded(waiting.min(coding.frames).max(1));
        let (results, _) = self.results.get_or_insert_with(|| bounded(self.most));
        let results = results.clone();
        crew.start(move |pulse| {
            let version = coding.run(&taken, pulse);
            // Frames that nobody takes any more are let go of before anybody is told.
            drop(taken);
            // There is room for a result of every segment.
            let _ = results.send((number, version));
        })?;
        self.count += 1;
        Ok(frames)
    }

    /// All that was begun, in the order of the segments.
    ///
    /// # Errors
    /// The first error that is not merely the echo of another.
    fn land(&mut self, crew: &Crew) -> Result<Vec<(usize, Version)>, SessionError> {
        let (mut versions, mut errors) = (Vec::new(), Vec::new());
        let begun = mem::take(&mut self.count);
        let Some((own_end, landed)) = self.results.take() else { return Ok(versions) };
        drop(own_end);
        while let Ok((number, result)) = crew.pulse.while_waiting(|| landed.recv()) {
            match result {
                Ok(version) => versions.push((number, version)),
                Err(error) => errors.push((matches!(error, Error::Stopped), number, error)),
            }
        }
        if versions.len() + errors.len() < begun {
            // One panicked; whoever joins its thread goes on with that.
            return Err(Error::Stopped.into());
        }
        errors.sort_by_key(|(echo, number, _)| (*echo, *number));
        if let Some((_, _, error)) = errors.into_iter().next() {
            return Err(error.into());
        }
        versions.sort_by_key(|(number, _)| *number);
        Ok(versions)
    }
}

/// A frame as an encoder of its own segment gets it.
fn fresh(frame: &Frame, pts: i64) -> Result<Frame, SessionError> {
    let mut frame = frame.share().map_err(|_| Error::Stopped)?;
    frame.set_pts(pts);
    frame.set_duration(1);
    frame.set_picture_type(false);
    Ok(frame)
}

/// The coding of one segment, from its first frame on.
struct Coding {
    setup: EncoderSetup,
    level: f64,
    headers: Headers,
    start: i64,
    frames: usize,
    cancel: Cancel,
    progress: Option<Progress>,
    /// What its quality is measured by, where that matters.
    metric: Option<Metric>,
}

impl Coding {
    fn new(work: &Work, level: f64, start: i64, frames: usize, progress: Option<Progress>) -> Self {
        let mut setup = work.setup.clone();
        for (_, value) in setup.options.iter_mut().filter(|(_, value)| value == LEVEL) {
            *value = level.to_string();
        }
        let metric = work.plan.aim.metric();
        Coding {
            setup,
            level,
            headers: work.plan.headers,
            start,
            frames,
            cancel: work.cancel.clone(),
            progress,
            metric,
        }
    }

    fn run(self, frames: &Receiver<Frame>, pulse: &Pulse) -> Result<Version, Error> {
        let name = self.setup.encoder.clone();
        let first = pulse.while_waiting(|| frames.recv()).map_err(|_| Error::Stopped)?;
        let light = first.properties().map_err(|_| Error::Stopped)?;
        let kept = self.kept(&first)?;
        let mut encoder = self.setup.clone().open(first)?;
        let stream = encoder.stream()?.with_light_of(&light);
        let mut made = Made { packets: Vec::with_capacity(self.frames), meter: self.meter(&stream, kept)? };
        self.receive(&mut encoder, &mut made, pulse)?;
        while let Ok(frame) = pulse.while_waiting(|| frames.recv()) {
            if self.cancel.is_stopped() {
                return Err(Error::Interrupted);
            }
            let kept = self.kept(&frame)?;
            encoder.send(frame)?;
            made.meter.iter_mut().zip(kept).for_each(|(meter, kept)| meter.sent(kept));
            if let Some(progress) = &self.progress {
                progress.sent();
            }
            self.receive(&mut encoder, &mut made, pulse)?;
        }
        // The queue closed: at the end of the segment, or because nobody wants it any more.
        if encoder.frames() != self.frames as u64 {
            return Err(Error::Stopped);
        }
        encoder.send_end()?;
        while self.receive(&mut encoder, &mut made, pulse)? != Received::Done {}
        self.checked(made, stream).map_err(|error| error.of(&name))
    }

    /// A frame to compare with, where the quality is measured.
    fn kept(&self, frame: &Frame) -> Result<Option<Frame>, Error> {
        self.metric.map(|_| frame.share()).transpose().map_err(|_| Error::Stopped)
    }

    fn meter(&self, stream: &EncodedStream, first: Option<Frame>) -> Result<Option<Meter>, Error> {
        let (Some(metric), Some(first)) = (self.metric, first) else { return Ok(None) };
        let meter = Meter::open(metric, stream, self.setup.frame_rate);
        let mut meter = meter.map_err(|error| error.of(&self.setup.encoder))?;
        meter.sent(first);
        Ok(Some(meter))
    }

    fn receive(&self, encoder: &mut Encoder, made: &mut Made, pulse: &Pulse) -> Result<Received, Error> {
        loop {
            let mut packet = Packet::new().map_err(|_| Error::Stopped)?;
            let received = encoder.receive(&mut packet)?;
            pulse.beat();
            if received != Received::Ready {
                return Ok(received);
            }
            let moved = |ticks: Option<i64>| ticks.map(|ticks| ticks + self.start);
            let (pts, dts, duration) = (moved(packet.pts()), moved(packet.dts()), packet.duration().max(1));
            packet.set_times(pts, dts, duration);
            if let Some(progress) = &self.progress {
                progress.received(packet.data().len());
            }
            if let Some(meter) = &mut made.meter {
                meter.coded(&packet).map_err(|error| error.of(&self.setup.encoder))?;
            }
            made.packets.push(packet);
        }
    }

    /// A whole version: it begins anew, and its headers are known.
    fn checked(self, made: Made, stream: EncodedStream) -> Result<Version, SessionError> {
        let Made { packets, meter } = made;
        let first = packets.first().ok_or(SessionError::NoPacket { pts: self.start })?;
        let not_closed = |why| SessionError::NotClosed { start: self.start, why };
        if first.pts() != Some(self.start) {
            return Err(not_closed("its first packet is not its first frame"));
        }
        if !first.is_key() || !self.headers.starts_anew(first.data()) {
            return Err(not_closed("it does not begin with a key frame at which a decoder can start"));
        }
        let apart = self.headers.among(stream.extradata());
        let headers = if apart.is_empty() { self.headers.among(first.data()) } else { apart };
        let bytes = packets.iter().map(|packet| packet.data().len() as u64).sum();
        let quality = meter.map(Meter::finish).transpose()?;
        Ok(Version { level: self.level, packets, bytes, quality, headers: headers.into(), stream })
    }
}

/// What has come of a segment so far.
struct Made {
    packets: Vec<Packet>,
    meter: Option<Meter>,
}

/// Says how far the pass is, from whatever segment, ten times a second at most for each and never waiting for the listener.
struct Progress {
    rendition: usize,
    pass: u8,
    began: Instant,
    tally: Arc<Tally>,
    total: u64,
    /// Seconds of a frame.
    tick: f64,
    events: Sender<Event>,
    told: Cell<Option<Instant>>,
}

impl Progress {
    fn sent(&self) {
        self.tally.frames.fetch_add(1, Ordering::Relaxed);
        let due = self.told.get().is_none_or(|told| told.elapsed() >= PROGRESS_EVERY);
        if !due {
            return;
        }
        self.told.set(Some(Instant::now()));
        let (frames, bytes) = (self.tally.frames.load(Ordering::Relaxed), self.tally.bytes.load(Ordering::Relaxed));
        let _ = self.events.try_send(Event::Progress {
            rendition: self.rendition,
            pass: self.pass,
            frames,
            total: Some(self.total),
            fps: frames as f64 / self.began.elapsed().as_secs_f64().max(1e-3),
            bytes,
            seconds: frames as f64 * self.tick,
        });
    }

    fn received(&self, bytes: usize) {
        self.tally.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// ---- the first guess

/// What a probe says: bytes of each segment at a level.
struct Probe {
    level: f64,
    bytes: Vec<f64>,
    frames: u64,
    /// How many levels halve the bits: measured where there were two probes, else what is usual.
    halving: f64,
}

/// Steers towards a bit rate from what probes say; and how many frames those took.
fn rate_law(
    work: &Work,
    tolerance: f64,
    crew: &Crew,
    flight: &mut Flight,
    frames: &mut impl Replay,
) -> Result<(Law, u64), SessionError> {
    let probe = probed(work, crew, flight, frames)?;
    let lengths = work.segments.iter().map(|(_, frames)| *frames);
    let segments: Vec<(usize, f64)> = lengths.zip(probe.bytes).collect();
    let levels = Levels { halving: probe.halving, ..work.plan.levels };
    let steering = Steering::new(work.target_bytes, tolerance, levels, probe.level, &segments);
    Ok((Law::Rate(steering), probe.frames))
}

/// Encodes short stretches out of some segments, at a level that is likely, and again where that was far off.
fn probed(work: &Work, crew: &Crew, flight: &mut Flight, frames: &mut impl Replay) -> Result<Probe, SessionError> {
    let Levels { least, greatest, step, usual, halving } = work.plan.levels;
    let on_grid = |level: f64| ((level / step).round() * step).clamp(least, greatest);
    let bits_per_pixel = work.target_bytes * 8.0 / work.pixels.max(1.0);
    let likely = usual + halving * (USUAL_BITS_PER_PIXEL / bits_per_pixel).log2();
    let probe = probed_at(work, crew, flight, frames, on_grid(likely))?;
    let shift = halving * (probe.bytes.iter().sum::<f64>() / work.target_bytes).log2();
    if shift.abs() <= halving * PROBED_NEAR {
        return Ok(probe);
    }
    let again = probed_at(work, crew, flight, frames, on_grid(probe.level + shift))?;
    let sum = |probe: &Probe| probe.bytes.iter().sum::<f64>();
    let measured = (again.level - probe.level) / (sum(&probe) / sum(&again)).log2();
    let halving = if measured.is_finite() { measured.clamp(halving / 3.0, halving * 2.0) } else { halving };
    Ok(Probe { frames: probe.frames + again.frames, halving, ..again })
}

fn probed_at(
    work: &Work,
    crew: &Crew,
    flight: &mut Flight,
    frames: &mut impl Replay,
    level: f64,
) -> Result<Probe, SessionError> {
    let stride = work.segments.len().div_ceil(MOST_STRETCHES);
    let probed: Vec<usize> = (stride / 2..work.segments.len()).step_by(stride).collect();
    let mut count = 0;
    for number in &probed {
        let stretch = stretch(work.segments[*number].0, work.segments[*number].1);
        let mut taken = Vec::new();
        let mut first = None;
        frames.replay(&RangeSet::new(vec![stretch])?, &mut |given| {
            taken.push(fresh(given.frame, given.pts - *first.get_or_insert(given.pts))?);
            if work.cancel.is_stopped() { Err(SessionError::Cancelled) } else { Ok(()) }
        })?;
        // Where the source has a gap, there may be none.
        let Some(first) = first else { continue };
        count += taken.len() as u64;
        let coding = Coding::new(work, level, first, taken.len(), None);
        let queue = flight.start(crew, *number, coding, taken.len())?;
        // There is room for all of them.
        taken.into_iter().for_each(|frame| drop(queue.send(frame)));
    }
    let sizes: BTreeMap<usize, (f64, f64)> =
        flight.land(crew)?.into_iter().map(|(number, version)| (number, version.first_and_rest())).collect();
    let mean = |part: fn(&(f64, f64)) -> f64| sizes.values().map(part).sum::<f64>() / sizes.len().max(1) as f64;
    let usual = (mean(|sizes| sizes.0), mean(|sizes| sizes.1));
    let bytes = work.segments.iter().enumerate().map(|(number, (_, frames))| {
        let (first, each) = sizes.get(&number).unwrap_or(&usual);
        first + each * (frames.saturating_sub(1)) as f64
    });
    Ok(Probe { level, bytes: bytes.collect(), frames: count, halving: work.plan.levels.halving })
}

/// From the middle of a segment.
fn stretch(segment: TimeRange, frames: usize) -> TimeRange {
    let long =
        (frames as i64 / STRETCH_SHARE).clamp(STRETCH_FRAMES.0, STRETCH_FRAMES.1).min(segment.end - segment.start);
    let start = segment.start + (segment.end - segment.start - long) / 2;
    TimeRange { start, end: start + long }
}

impl Version {
    /// Bytes of the first packet, and of each other one.
    fn first_and_rest(&self) -> (f64, f64) {
        let first = self.packets.first().map_or(0, |packet| packet.data().len());
        let others = self.packets.len().saturating_sub(1);
        // Of a single frame it is not known what others would take.
        let rest =
            if others == 0 { first as f64 / LONE_FRAME } else { (self.bytes - first as u64) as f64 / others as f64 };
        (first as f64, rest)
    }
}

const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// How often pass 1 corrects itself, about: each time, those who are done first wait for the last.
const WAVES: usize = 4;
const SHORTEST_WAVE: usize = 2;
/// Where the first probe begins: see `usual` in the adapters' rows.
const USUAL_BITS_PER_PIXEL: f64 = 0.1;
/// A probe within so many halvings of its target is near enough to count from.
const PROBED_NEAR: f64 = 0.3;
const MOST_STRETCHES: usize = 16;
/// Of a segment a stretch is this part, within these bounds.
const STRETCH_SHARE: i64 = 16;
const STRETCH_FRAMES: (i64, i64) = (8, 24);
/// What a key frame takes of what the frames behind it take.
const LONE_FRAME: f64 = 8.0;
