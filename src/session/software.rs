//! Sessions with encoders on the CPU: segments, each with an encoder of its own, at levels of constant quality that are
//! corrected until the whole has its bit rate, or each its quality.
//!
//! Invariants: what is encoded does not depend on how many segments are in work at a time, for each has one thread, and a
//! level is chosen when exactly those so many places before it are known; a segment is in the stream as one whole version.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::kept::{KeptSegment, KeptSegments};
use super::law::{HeldTo, Law};
use super::meter::Meter;
use super::steering::Next;
use super::{
    Ask, EncodedPacket, PassEncoder, PassKind, RangeSet, Replay, SessionError, Silo, SourceFrame, TimeRange, Verdict,
};
use crate::adapter::Headers;
use crate::av::Received;
use crate::av::encoder::{Encoder, EncoderSetup};
use crate::av::filter::{FilterInput, VideoFilter};
use crate::av::frame::Frame;
use crate::av::muxer::EncodedStream;
use crate::av::packet::Packet;
use crate::error::Error;
use crate::event::{Cancel, Event};
use crate::pipeline::crew::Crew;
use crate::pipeline::watch::Pulse;
use crate::plan::{LEVEL, ProbePlan, SessionAim, SessionPlan};
use crate::quality::Metric;

mod measured;
mod probing;

/// What a session is about.
pub(crate) struct Work {
    pub(crate) rendition: usize,
    pub(crate) plan: SessionPlan,
    /// Of every segment's encoder; its level is yet to be filled in.
    pub(crate) setup: EncoderSetup,
    /// What tells segments from one another before they are coded; `None`: short stretches of them, by the segments' own setup.
    pub(crate) probe: Option<ProbeSetup>,
    /// The segments, and the frames of each.
    pub(crate) segments: Vec<(TimeRange, usize)>,
    /// Bytes that the whole is to have, or, where a quality is the target, may have; infinite without a cap.
    pub(crate) target_bytes: f64,
    /// Pixels of all its frames.
    pub(crate) pixels: f64,
    /// Frames that may wait for each segment's encoder.
    pub(crate) waiting_frames: usize,
    /// Where coded segments are kept, and an earlier run's are found.
    pub(crate) kept: Option<Arc<KeptSegments>>,
    pub(crate) cancel: Cancel,
}

/// A quick coding of smaller pictures.
pub(crate) struct ProbeSetup {
    pub(crate) plan: ProbePlan,
    /// Its level is yet to be filled in.
    pub(crate) setup: EncoderSetup,
    /// Bytes that the session's encoder commonly takes of pictures of this width, for each of the probe's.
    pub(crate) worth: f64,
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
    /// Segments in work that are coded before their turn.
    ahead: Vec<usize>,
    open: Option<OpenPass>,
    /// Pass 1, of which segments are coded before it is open.
    begun: Option<OpenPass>,
    current: Option<Current>,
    flight: Flight,
    /// What a muxer needs to know of the stream.
    stream: Option<EncodedStream>,
    pub(crate) passes: Vec<PassTaken>,
    /// How many segments an earlier run had coded.
    pub(crate) taken_up: u64,
    /// Frames that were coded for the first guess alone.
    pub(crate) probed_frames: u64,
}

struct OpenPass {
    number: u8,
    began: Instant,
    tally: Arc<Tally>,
}

impl OpenPass {
    fn new(number: u8) -> Self {
        OpenPass { number, began: Instant::now(), tally: Arc::default() }
    }
}

/// The segment that frames are handed to.
struct Current {
    segment: usize,
    /// `None` where an earlier version takes its place.
    frames: Option<Sender<Frame>>,
}

impl Work {
    /// A segment that an earlier run coded at this level.
    fn taken_up(&self, segment: usize, level: f64) -> Option<Version> {
        let KeptSegment { quality, headers, packets } = self.kept.as_ref()?.take(segment, level)?;
        let bytes = packets.iter().map(|packet| packet.data().len() as u64).sum();
        Some(Version { level, packets, bytes, quality, headers: headers.into(), stream: None })
    }
}

/// Segments in work.
struct Flight {
    begun: BTreeSet<usize>,
    landed: BTreeMap<usize, Version>,
    /// With room for a result of every segment.
    results: (Sender<Landed>, Receiver<Landed>),
}

/// A segment that was coded, by its number.
type Landed = (usize, Result<Version, Error>);

/// Tells what became of a segment when it is dropped: also when whoever coded it panicked, with which the thread that joins
/// it goes on.
struct Landing {
    number: usize,
    result: Result<Version, Error>,
    results: Sender<Landed>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let _ = self.results.send((self.number, mem::replace(&mut self.result, Err(Error::Stopped))));
    }
}

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
    /// `None` where the stream has it, or an earlier run coded it.
    stream: Option<EncodedStream>,
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
        let mut flight = Flight::of(work.segments.len());
        let (steering, probed_frames) = match work.plan.aim {
            SessionAim::Rate { tolerance } => probing::rate_law(&work, tolerance, crew, &mut flight, frames)?,
            SessionAim::Quality(target) => measured::quality_law(&work, target, crew, &mut flight, frames)?,
        };
        let versions = work.segments.iter().map(|_| Vec::new()).collect();
        let mut session = Segmented {
            work,
            silo,
            crew,
            steering,
            versions,
            chosen: BTreeMap::new(),
            ahead: Vec::new(),
            open: None,
            begun: None,
            current: None,
            flight,
            stream: None,
            passes: Vec::new(),
            taken_up: 0,
            probed_frames,
        };
        session.sample(frames)?;
        Ok(session)
    }

    /// What a muxer needs to know of the stream.
    pub(crate) fn take_stream(&mut self) -> Option<EncodedStream> {
        self.stream.take()
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
        if is_first {
            let known = known(segment, self.work.segments.len());
            // While the first one is in work, so may be those that are coded before their turn.
            let are_due = segment > 0 || self.ahead.contains(&segment);
            let ahead = if are_due { mem::take(&mut self.ahead) } else { Vec::new() };
            self.land(|other| other < known || ahead.contains(&other))?;
            self.chosen.insert(segment, self.steering.level_of(segment));
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
        if is_first && !versions.is_empty() {
            // Coded before its turn in vain.
            let frames = self.work.segments[segment].1 as u64;
            if let Some(open) = &self.open {
                open.tally.frames.fetch_sub(frames, Ordering::Relaxed);
            }
            self.probed_frames += frames;
        }
        if let Some(version) = self.work.taken_up(segment, level) {
            // Steering hears of it when it would have heard of it had it been coded.
            self.flight.landed.insert(segment, version);
            self.taken_up += 1;
            self.current = Some(Current { segment, frames: None });
            return Ok(());
        }
        let Some(open) = &self.open else { return Err(SessionError::NotInPass) };
        let coding = self.coding(segment, level, open);
        let frames = self.flight.start(self.crew, segment, coding, self.work.waiting_frames)?;
        self.current = Some(Current { segment, frames: Some(frames) });
        Ok(())
    }

    /// The coding of a whole segment, for a pass.
    fn coding(&self, segment: usize, level: f64, pass: &OpenPass) -> Coding {
        let (range, count) = self.work.segments[segment];
        let progress = Progress {
            rendition: self.work.rendition,
            pass: pass.number,
            began: pass.began,
            tally: pass.tally.clone(),
            total: self.pass_frames(),
            tick: self.work.setup.time_base.value(),
            events: self.crew.events.clone(),
            told: Cell::new(None),
        };
        let mut coding = Coding::new(&self.work, self.work.setup.clone(), level, Some(progress));
        (coding.start, coding.frames) = (range.start, Some(count));
        coding.keep = self.work.kept.clone().map(|kept| (kept, segment));
        coding
    }

    fn pass_frames(&self) -> u64 {
        let in_pass = |segment: &usize| self.passes.is_empty() || self.chosen.contains_key(segment);
        let all = (0..self.work.segments.len()).filter(in_pass);
        all.map(|segment| self.work.segments[segment].1 as u64).sum()
    }

    /// Waits for those segments in work that are wanted.
    fn land(&mut self, wanted: impl Fn(usize) -> bool) -> Result<(), SessionError> {
        for (segment, mut version) in self.flight.land(self.crew, wanted)? {
            self.stream = self.stream.take().or(version.stream.take());
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
        self.open = Some(self.begun.take().unwrap_or_else(|| OpenPass::new(number)));
        Ok(())
    }

    fn encode(&mut self, given: SourceFrame<'_>) -> Result<(), SessionError> {
        let SourceFrame { frame, pts, .. } = given;
        let is_current = |current: &Current| self.work.segments[current.segment].0.contains(pts);
        if !self.current.as_ref().is_some_and(is_current) {
            let after = self.work.segments.partition_point(|(range, _)| range.start <= pts);
            self.enter(after.checked_sub(1).ok_or(SessionError::OutsideRanges { pts })?)?;
        }
        let Some(Current { segment, frames: Some(frames) }) = &self.current else {
            return self.know_stream(frame);
        };
        let start = self.work.segments[*segment].0.start;
        let frame = fresh(frame, pts - start)?;
        if self.crew.pulse.while_waiting(|| frames.send(frame)).is_ok() {
            return Ok(());
        }
        // The encoder has gone, and says why.
        self.current = None;
        self.land(|_| true)?;
        Err(Error::Stopped.into())
    }

    fn end_pass(&mut self, ask: Ask) -> Result<Verdict, SessionError> {
        self.current = None;
        let open = self.open.take().ok_or(SessionError::NotInPass)?;
        self.land(|_| true)?;
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
    /// Sees that the stream is known where nothing is coded: what was taken up has none.
    fn know_stream(&mut self, frame: &Frame) -> Result<(), SessionError> {
        if self.stream.is_some() || self.work.kept.is_none() {
            return Ok(());
        }
        let coding = Coding::new(&self.work, self.work.setup.clone(), self.work.plan.levels.usual, None);
        let first = fresh(frame, 0)?;
        let light = first.properties().map_err(|_| Error::Stopped)?;
        self.stream = Some(coding.setup.open(first)?.stream()?.with_light_of(&light));
        Ok(())
    }

    fn ranges(&self, segments: &BTreeMap<usize, f64>) -> Result<RangeSet, SessionError> {
        RangeSet::new(segments.keys().map(|segment| self.work.segments[*segment].0).collect())
    }
}

impl Flight {
    fn of(segments: usize) -> Self {
        Flight { begun: BTreeSet::new(), landed: BTreeMap::new(), results: bounded(segments.max(1)) }
    }

    /// Begins a segment, and returns where its frames go.
    fn start(
        &mut self,
        crew: &Crew,
        number: usize,
        coding: Coding,
        waiting: usize,
    ) -> Result<Sender<Frame>, SessionError> {
        let (frames, taken) = bounded(waiting.min(coding.frames.unwrap_or(usize::MAX)).max(1));
        let mut landing = Landing { number, result: Err(Error::Stopped), results: self.results.0.clone() };
        crew.start(move |pulse| {
            landing.result = coding.run(&taken, pulse);
            // Frames that nobody takes any more are let go of before anybody is told.
            drop(taken);
            drop(landing);
        })?;
        self.begun.insert(number);
        Ok(frames)
    }

    /// Waits for those that are wanted, and returns them in their order; whatever else has landed stays.
    ///
    /// # Errors
    /// The first error that is not merely the echo of another.
    fn land(&mut self, crew: &Crew, wanted: impl Fn(usize) -> bool) -> Result<Vec<(usize, Version)>, SessionError> {
        let mut errors = Vec::new();
        // Behind an error all the others are heard too.
        while self.begun.iter().any(|segment| wanted(*segment) || !errors.is_empty()) {
            let landed = crew.pulse.while_waiting(|| self.results.1.recv());
            let (number, result) = landed.map_err(|_| Error::Stopped)?;
            self.begun.remove(&number);
            match result {
                Ok(version) => drop(self.landed.insert(number, version)),
                Err(error) => errors.push((matches!(error, Error::Stopped), number, error)),
            }
        }
        errors.sort_by_key(|(echo, number, _)| (*echo, *number));
        if let Some((_, _, error)) = errors.into_iter().next() {
            return Err(error.into());
        }
        let (landed, others) = mem::take(&mut self.landed).into_iter().partition(|(segment, _)| wanted(*segment));
        self.landed = others;
        let landed: BTreeMap<usize, Version> = landed;
        Ok(landed.into_iter().collect())
    }
}

/// How many segments are known when this one gets its level: the same, however many are in work at a time. In the middle of a
/// long film enough may be in work for the largest machines; towards its end, where little is left to make good what was
/// spent wrongly, fewer and fewer, and the last one knows all others.
fn known(segment: usize, segments: usize) -> usize {
    let most = (segments / LAG_SHARE).clamp(LEAST_LAG, MOST_LAG);
    let behind = segments.saturating_sub(segment + 1);
    segment.saturating_sub(most.min(2 * behind))
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
    /// A chain that frames go through first.
    filter: Option<String>,
    level: f64,
    headers: Headers,
    /// Tick of the first.
    start: i64,
    /// How many there are, where only all of them will do.
    frames: Option<usize>,
    cancel: Cancel,
    progress: Option<Progress>,
    /// What its quality is measured by, where that matters.
    metric: Option<Metric>,
    /// Where it is kept, as which segment.
    keep: Option<(Arc<KeptSegments>, usize)>,
}

impl Coding {
    /// Of frames from tick 0 on.
    fn new(work: &Work, mut setup: EncoderSetup, level: f64, progress: Option<Progress>) -> Self {
        for (_, value) in setup.options.iter_mut().filter(|(_, value)| value == LEVEL) {
            *value = level.to_string();
        }
        Coding {
            setup,
            filter: None,
            level,
            headers: work.plan.headers,
            start: 0,
            frames: None,
            cancel: work.cancel.clone(),
            progress,
            metric: work.plan.aim.metric(),
            keep: None,
        }
    }

    fn run(self, frames: &Receiver<Frame>, pulse: &Pulse) -> Result<Version, Error> {
        let name = self.setup.encoder.clone();
        let first = pulse.while_waiting(|| frames.recv()).map_err(|_| Error::Stopped)?;
        let light = first.properties().map_err(|_| Error::Stopped)?;
        let mut filter = self.filter(&first)?;
        let first = filtered(&mut filter, first)?;
        let kept = self.kept(&first)?;
        let mut encoder = self.setup.clone().open(first)?;
        self.sent();
        let stream = encoder.stream()?.with_light_of(&light);
        let packets = Vec::with_capacity(self.frames.unwrap_or_default());
        let mut made = Made { packets, meter: self.meter(&stream, kept)? };
        self.receive(&mut encoder, &mut made, pulse)?;
        while let Ok(frame) = pulse.while_waiting(|| frames.recv()) {
            if self.cancel.is_stopped() {
                return Err(Error::Interrupted);
            }
            let frame = filtered(&mut filter, frame)?;
            let kept = self.kept(&frame)?;
            encoder.send(frame)?;
            made.meter.iter_mut().zip(kept).for_each(|(meter, kept)| meter.sent(kept));
            self.sent();
            self.receive(&mut encoder, &mut made, pulse)?;
        }
        // The queue closed: at the end of the segment, or because nobody wants it any more.
        if self.frames.is_some_and(|frames| encoder.frames() != frames as u64) {
            return Err(Error::Stopped);
        }
        encoder.send_end()?;
        while self.receive(&mut encoder, &mut made, pulse)? != Received::Done {}
        self.checked(made, stream).map_err(|error| error.of(&name))
    }

    /// The chain that frames go through first, where there is one.
    fn filter(&self, first: &Frame) -> Result<Option<VideoFilter>, Error> {
        let Some(chain) = &self.filter else { return Ok(None) };
        let EncoderSetup { time_base, frame_rate, sample_aspect_ratio, .. } = self.setup;
        let input = FilterInput { time_base, frame_rate: Some(frame_rate), sample_aspect_ratio };
        VideoFilter::open(first, &input, chain, 1, Some(1)).map(Some)
    }

    fn sent(&self) {
        if let Some(progress) = &self.progress {
            progress.sent();
        }
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
        if let Some((kept, segment)) = &self.keep {
            kept.add(*segment, self.level, quality, &headers, &packets);
        }
        Ok(Version { level: self.level, packets, bytes, quality, headers: headers.into(), stream: Some(stream) })
    }
}

/// What comes out of a chain that gives a frame for each.
fn filtered(filter: &mut Option<VideoFilter>, frame: Frame) -> Result<Frame, Error> {
    let Some(filter) = filter else { return Ok(frame) };
    filter.push(frame)?;
    let mut out = Frame::new().map_err(|_| Error::Stopped)?;
    match filter.pull(0, &mut out)? {
        Received::Ready => Ok(out),
        Received::NeedInput | Received::Done => Err(Error::Stopped),
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

const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// So many segments before a segment may still be in work when it gets its level: this part of all, within these bounds.
const LAG_SHARE: usize = 8;
const LEAST_LAG: usize = 2;
const MOST_LAG: usize = 32;
