//! Apple's session with several passes, on any system: its control logic against an encoder that enforces Apple's rules.
//!
//! What a Mac would do is not tested here, nor anywhere: the calls themselves are only type-checked (`tests/macos.sh`).
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use media::within;
use proptest::prelude::*;
use repass::av::Received;
use repass::av::frame::Frame;
use repass::av::muxer::{Container, EncodedStream};
use repass::av::packet::Packet;
use repass::av::source::{Demuxer, OpenOptions};
use repass::event::Cancel;
use repass::media::Rational;
use repass::plan::{Codec, Property};
use repass::session::videotoolbox::{
    CompressionSession, Emission, Encoded, Invalidate, Outbox, Sample, Setup, Span, Status, Time, encode,
};
use repass::session::{EncodedPacket, RangeSet, Replay, SessionError, Silo, SourceFrame, Stopped, decoding_times};
use repass::sink::{FileSink, OutputStream, Sink, Streams};

/// 29.97 frames per second, so that ticks are not Apple's units.
const TIME_BASE: Rational = Rational::new(1001, 30000);
const FRAMES: i64 = 24;
/// Frames of a group: coded as the third, the first, the second.
const GROUP: i64 = 3;

// ---- the strict encoder

/// VideoToolbox as it is documented: what it forbids is noted and answered with an error.
struct Strict {
    shared: Arc<Shared>,
    worker: Option<(Sender<Work>, JoinHandle<()>)>,
    script: Script,
    has_storage: bool,
    storage_is_set: bool,
    passes: u32,
    pass: Option<Pass>,
    after_last: bool,
    /// Whether the pass that ended last asked for more.
    further: Option<Vec<Span>>,
    /// What pass 1 had at each time: its length and a hash of its pixels.
    first: BTreeMap<i64, (Time, u64)>,
}

struct Pass {
    is_last: bool,
    ranges: Option<Vec<Span>>,
    times: Vec<i64>,
    completed: bool,
}

/// What it asks for, and what goes wrong.
#[derive(Default, Clone)]
struct Script {
    /// The ranges of each further pass.
    further: Vec<Vec<Span>>,
    /// Whether it asks for the last of them over and over.
    insatiable: bool,
    fault: Fault,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Fault {
    #[default]
    None,
    /// The dictionary of properties lacks this one.
    Lacks(&'static str),
    /// A call answers with a status.
    Fails(&'static str, Status),
    /// A call comes back only when the session is invalidated, once so many passes have begun.
    Hangs(&'static str, u32),
    /// The frame at this time is dropped.
    Drops(i64),
    /// The callback reports an error for this frame.
    Spoils(i64),
    /// This frame comes twice.
    Repeats(i64),
    /// The second pass has other headers.
    OtherHeaders,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Rules that were broken.
    broken: Vec<String>,
    calls: Vec<String>,
    /// For each pass, whether it was begun as the last and ended without an evaluation.
    passes: Vec<(bool, bool)>,
    invalidated: u32,
    /// Whether somebody reads the array of ranges, which is the session's.
    lent: bool,
    storage_closed: bool,
    released: bool,
    /// Whether a call hangs.
    waiting: bool,
}

enum Work {
    Frame(i64, u32),
    Complete(Sender<()>),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn broken(&self, rule: &str) -> Status {
        self.state().broken.push(rule.to_owned());
        Status::PARAMETER
    }

    fn wait_for(&self, condition: impl Fn(&State) -> bool) {
        let state = self.state();
        drop(self.changed.wait_while(state, |state| !condition(state)).unwrap());
    }
}

impl Invalidate for Shared {
    fn invalidate(&self) {
        let mut state = self.state();
        state.calls.push("invalidate".to_owned());
        state.invalidated += 1;
        if state.invalidated > 1 {
            state.broken.push("invalidated twice".to_owned());
        }
        if state.lent {
            state.broken.push("invalidated while its ranges were read".to_owned());
        }
        self.changed.notify_all();
    }
}

impl Strict {
    fn create(script: &Script, outbox: Arc<Outbox>, shared: Arc<Shared>) -> Result<Self, Status> {
        if let Fault::Fails("create", status) = script.fault {
            return Err(status);
        }
        let (work, todo) = bounded(4);
        let fault = script.fault;
        // The output callback runs on a thread of VideoToolbox's own.
        let worker = Builder::new().spawn(move || {
            let mut group = Vec::new();
            let emit = |group: &mut Vec<(i64, u32)>| {
                if !group.is_empty() {
                    group.rotate_right(1);
                }
                group.drain(..).for_each(|(value, pass)| emit_to(&outbox, value, pass, fault));
            };
            for work in todo {
                match work {
                    Work::Frame(value, pass) => {
                        group.push((value, pass));
                        if group.len() as i64 == GROUP {
                            emit(&mut group);
                        }
                    }
                    Work::Complete(done) => {
                        emit(&mut group);
                        done.send(()).unwrap();
                    }
                }
            }
        });
        Ok(Strict {
            shared,
            worker: Some((work, worker.unwrap())),
            script: script.clone(),
            has_storage: false,
            storage_is_set: false,
            passes: 0,
            pass: None,
            after_last: false,
            further: None,
            first: BTreeMap::new(),
        })
    }

    /// What every call has to go through.
    fn enter(&self, call: &'static str) -> Result<(), Status> {
        self.shared.state().calls.push(call.to_owned());
        if self.shared.state().invalidated > 0 {
            return Err(Status::INVALID_SESSION);
        }
        match self.script.fault {
            Fault::Fails(failing, status) if failing == call => Err(status),
            Fault::Hangs(hanging, passes) if hanging == call && self.passes >= passes => {
                self.shared.state().waiting = true;
                self.shared.changed.notify_all();
                self.shared.wait_for(|state| state.invalidated > 0);
                Err(Status::INVALID_SESSION)
            }
            _ => Ok(()),
        }
    }

    fn broken<T>(&self, rule: &str) -> Result<T, Status> {
        Err(self.shared.broken(rule))
    }
}

fn emit_to(outbox: &Outbox, value: i64, pass: u32, fault: Fault) {
    let frame = value / i64::from(TIME_BASE.num);
    let headers = if fault == Fault::OtherHeaders && pass == 2 { b"others" } else { b"avcC.." };
    let sample = Sample { data: vec![pass as u8, frame as u8], headers: headers.to_vec(), is_key: frame % GROUP == 2 };
    let sample = match fault {
        Fault::Drops(dropped) if dropped == frame => Ok(None),
        Fault::Spoils(spoilt) if spoilt == frame => Err(Status::MALFUNCTION),
        _ => Ok(Some(sample)),
    };
    if fault == Fault::Repeats(frame) {
        outbox.put(Emission { pts: value, sample: sample.clone() });
    }
    outbox.put(Emission { pts: value, sample });
}

/// Whether a time lies in one of the ranges: exactly, in Apple's units.
fn lies_in(time: Time, spans: &[Span]) -> bool {
    let at = |time: Time| time.value as f64 / f64::from(time.scale);
    spans.iter().any(|span| {
        let end = if span.duration.scale > 0 { at(span.start) + at(span.duration) } else { f64::INFINITY };
        // The tests keep ranges at least a microsecond away from frames, except where they are equal.
        at(time) >= at(span.start) - 1e-9 && at(time) < end - 1e-9
    })
}

impl CompressionSession for Strict {
    fn supports(&self, property: &Property) -> bool {
        self.script.fault != Fault::Lacks(property.name())
    }

    fn create_storage(&mut self) -> Result<(), Status> {
        self.enter("create_storage")?;
        self.has_storage = true;
        Ok(())
    }

    fn set(&mut self, property: &Property) -> Result<(), Status> {
        self.enter("set")?;
        if !self.supports(property) {
            self.shared.broken("a property is set that the dictionary does not have");
            return Err(Status::PROPERTY_NOT_SUPPORTED);
        }
        match property {
            _ if self.passes > 0 => self.broken("a property is set after the first pass began"),
            Property::MultiPassStorage if !self.has_storage => self.broken("a storage is set that was never created"),
            Property::RealTime(true) => self.broken("several passes in real time"),
            property => {
                self.storage_is_set |= *property == Property::MultiPassStorage;
                Ok(())
            }
        }
    }

    fn prepare(&mut self) -> Result<(), Status> {
        self.enter("prepare")
    }

    fn begin_pass(&mut self, is_last: bool) -> Result<(), Status> {
        self.enter("begin_pass")?;
        match () {
            () if !self.storage_is_set => self.broken("a pass begins without storage"),
            () if self.pass.is_some() => self.broken("a pass begins in a pass"),
            () if self.after_last => self.broken("a pass begins after the last"),
            () if self.passes > 0 && self.further.is_none() => self.broken("a pass begins that nobody asked for"),
            () => {
                self.passes += 1;
                let (ranges, times) = (self.further.take(), Vec::new());
                self.pass = Some(Pass { is_last, ranges, times, completed: false });
                Ok(())
            }
        }
    }

    fn encode_frame(&mut self, frame: &Frame, pts: Time, duration: Time) -> Result<(), Status> {
        self.enter("encode_frame")?;
        let is = (duration, frame.hash().unwrap());
        let known = self.first.get(&pts.value).copied();
        let number = self.passes;
        let Some(pass) = &mut self.pass else { return self.broken("a frame outside a pass") };
        let outside = pass.ranges.as_ref().is_some_and(|ranges| !lies_in(pts, ranges));
        match () {
            () if pass.completed => self.broken("a frame after all frames were completed"),
            () if pass.times.last().is_some_and(|last| pts.value <= *last) => self.broken("a time that does not rise"),
            () if outside => self.broken("a frame outside the ranges of the pass"),
            () if number > 1 && known != Some(is) => self.broken("a frame that is not the one of pass 1"),
            () => {
                pass.times.push(pts.value);
                self.first.entry(pts.value).or_insert(is);
                self.worker.as_ref().unwrap().0.send(Work::Frame(pts.value, number)).unwrap();
                Ok(())
            }
        }
    }

    fn complete_frames(&mut self) -> Result<(), Status> {
        self.enter("complete_frames")?;
        let (done, wait) = bounded(1);
        self.worker.as_ref().unwrap().0.send(Work::Complete(done)).unwrap();
        wait.recv().unwrap();
        if let Some(pass) = &mut self.pass {
            pass.completed = true;
        }
        Ok(())
    }

    fn end_pass(&mut self, evaluate: bool) -> Result<bool, Status> {
        self.enter("end_pass")?;
        let Some(pass) = self.pass.take() else { return self.broken("a pass ends that did not begin") };
        self.shared.state().passes.push((pass.is_last, !evaluate));
        if !pass.completed {
            return self.broken("a pass ends before its frames are completed");
        }
        if pass.is_last && evaluate {
            return self.broken("an evaluation of the pass that must be the last");
        }
        if let Some(ranges) = &pass.ranges {
            let time = |value: &i64| Time { value: *value, scale: TIME_BASE.den };
            let wanted: Vec<i64> = self.first.keys().filter(|value| lies_in(time(value), ranges)).copied().collect();
            if wanted != pass.times {
                return self.broken("a pass without every frame of its ranges");
            }
        }
        self.after_last = pass.is_last;
        self.further = None;
        if evaluate && !self.script.further.is_empty() {
            let over_and_over = self.script.insatiable && self.script.further.len() == 1;
            let next = self.script.further[0].clone();
            if !over_and_over {
                self.script.further.remove(0);
            }
            self.further = Some(next);
        }
        Ok(self.further.is_some())
    }

    fn time_ranges_for_next_pass(
        &mut self,
        read: &mut dyn FnMut(&mut dyn Iterator<Item = Span>),
    ) -> Result<(), Status> {
        self.enter("time_ranges")?;
        let Some(ranges) = self.further.clone() else { return self.broken("ranges of a pass that nobody asked for") };
        self.shared.state().lent = true;
        // Time for somebody to invalidate the session meanwhile.
        std::thread::sleep(Duration::from_millis(2));
        read(&mut ranges.into_iter());
        self.shared.state().lent = false;
        Ok(())
    }

    fn invalidation(&self) -> Arc<dyn Invalidate> {
        self.shared.clone()
    }

    fn close_storage(&mut self) -> Result<(), Status> {
        self.shared.state().calls.push("close_storage".to_owned());
        if self.has_storage && self.shared.state().invalidated == 0 {
            return self.broken("a storage is closed under a live session");
        }
        self.has_storage = false;
        self.shared.state().storage_closed = true;
        Ok(())
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        let (work, worker) = self.worker.take().unwrap();
        drop(work);
        worker.join().unwrap();
        let mut state = self.shared.state();
        if state.invalidated == 0 {
            state.broken.push("released without being invalidated".to_owned());
        }
        if self.has_storage {
            state.broken.push("released with an open storage".to_owned());
        }
        state.released = true;
    }
}

// ---- the frames, and a run

/// So many small frames; a later replay may spoil one.
struct Frames {
    replays: u32,
    spoil: Option<(i64, Spoilt)>,
}

#[derive(Clone, Copy, Debug)]
enum Spoilt {
    Pixels,
    Length,
    Missing,
}

fn picture(number: i64) -> Frame {
    let mut frame = Frame::allocate(16, 16, "nv12").unwrap();
    frame.draw(|_, row, bytes| bytes.fill(number as u8 * 9 + row as u8)).unwrap();
    frame
}

impl Replay for Frames {
    fn replay(
        &mut self,
        ranges: &RangeSet,
        each: &mut dyn FnMut(SourceFrame<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        self.replays += 1;
        for pts in (0..FRAMES).filter(|pts| ranges.contains(*pts)) {
            let spoilt = self.spoil.filter(|(at, _)| self.replays > 1 && *at == pts).map(|(_, how)| how);
            let (frame, duration) = match spoilt {
                None => (picture(pts), 1),
                Some(Spoilt::Pixels) => (picture(pts + 1), 1),
                Some(Spoilt::Length) => (picture(pts), 2),
                Some(Spoilt::Missing) => continue,
            };
            each(SourceFrame { frame: &frame, pts, duration })?;
        }
        Ok(())
    }
}

fn setup() -> Setup {
    let properties = vec![
        (Property::RealTime(false), false),
        (Property::AllowOpenGop(false), false),
        (Property::AverageBitRate(1_000_000), true),
    ];
    let pixels = u32::from_be_bytes(*b"420v");
    Setup { codec: Codec::H264, width: 16, height: 16, pixels, time_base: TIME_BASE, properties }
}

struct Ran {
    result: Result<Encoded, SessionError>,
    /// The stream as (time, pass) in decoding order.
    stream: Vec<(i64, u8)>,
    shared: Arc<Shared>,
    passes: Vec<RangeSet>,
}

impl Ran {
    /// The error in words; no rule was broken on the way, and nothing was left open.
    fn error(self) -> String {
        let error = self.result.unwrap_err().to_string();
        assert_kept(&self.shared, &error);
        error
    }
}

fn assert_kept(shared: &Shared, context: &str) {
    let state = shared.state();
    assert!(state.broken.is_empty(), "{context}: {:?}", state.broken);
    // Where nothing could be created, nothing is there to be released.
    assert!(state.calls.is_empty() || state.released && state.invalidated == 1, "{context}: {:?}", state.calls);
}

fn ran(script: &Script, limit: u32, spoil: Option<(i64, Spoilt)>) -> Ran {
    ran_with(script, limit, spoil, &Cancel::new(), Duration::from_secs(600), Arc::default())
}

fn ran_with(
    script: &Script,
    limit: u32,
    spoil: Option<(i64, Spoilt)>,
    cancel: &Cancel,
    patience: Duration,
    shared: Arc<Shared>,
) -> Ran {
    let (silo, mut frames, mut passes) = (Silo::new(), Frames { replays: 0, spoil }, Vec::new());
    let create = |_: &Setup, outbox| -> Result<Box<dyn CompressionSession>, Status> {
        Ok(Box::new(Strict::create(script, outbox, shared.clone())?))
    };
    let limit = NonZeroU32::new(limit).unwrap();
    let result = encode(&setup(), create, &silo, &mut frames, limit, cancel, patience, &mut |_, ranges| {
        passes.push(ranges.clone());
    });
    let stream = silo.into_packets();
    let stream = stream.iter().map(|packet| (packet.pts().unwrap(), packet.data()[0])).collect();
    Ran { result, stream, shared, passes }
}

/// From the frame `from` up to the frame `to`, in units of 1/30000 s.
fn span(from: i64, to: i64) -> Span {
    let time = |frames: i64| Time { value: frames * 1001, scale: 30000 };
    Span { start: time(from), duration: time(to - from) }
}

fn asking(further: &[Vec<Span>]) -> Script {
    Script { further: further.to_vec(), ..Script::default() }
}

fn faulty(further: &[Vec<Span>], fault: Fault) -> Script {
    Script { fault, ..asking(further) }
}

/// The stream where these frames came from these passes and all others from the first.
fn expected(pass_of: impl Fn(i64) -> u8) -> Vec<(i64, u8)> {
    let groups = (0..FRAMES / GROUP).map(|group| group * GROUP);
    groups.flat_map(|first| [first + 2, first, first + 1]).map(|pts| (pts, pass_of(pts))).collect()
}

// ---- what it does

#[test]
fn a_satisfied_session_has_one_pass() {
    within(60, || {
        let ran = ran(&asking(&[]), 5, None);
        let encoded = ran.result.unwrap();
        assert_eq!((encoded.outcome.stopped, encoded.outcome.passes.len()), (Stopped::Satisfied, 1));
        assert_eq!((&*encoded.headers, encoded.left_out), (&b"avcC.."[..], Vec::new()));
        assert_eq!(ran.stream, expected(|_| 1));
        assert_kept(&ran.shared, "one pass");
        let calls = ran.shared.state().calls.clone();
        let frames = vec!["encode_frame"; FRAMES as usize];
        let before = ["set", "set", "set", "create_storage", "set", "prepare", "begin_pass"];
        let after = ["complete_frames", "end_pass", "invalidate", "close_storage"];
        assert_eq!(calls, [&before[..], &frames, &after].concat());
    });
}

#[test]
fn only_the_ranges_asked_for_go_through_again() {
    within(60, || {
        let ran = ran(&asking(&[vec![span(3, 9), span(21, 24)], vec![span(6, 9)]]), 5, None);
        let encoded = ran.result.unwrap();
        assert_eq!(encoded.outcome.stopped, Stopped::Satisfied);
        let frames: Vec<u64> = encoded.outcome.passes.iter().map(|pass| pass.frames).collect();
        assert_eq!(frames, [24, 9, 3]);
        assert_eq!(
            ran.stream,
            expected(|pts| match pts {
                6..9 => 3,
                3..6 | 21.. => 2,
                _ => 1,
            })
        );
        assert_kept(&ran.shared, "three passes");
    });
}

#[test]
fn the_last_pass_is_begun_and_ended_as_such() {
    within(60, || {
        for limit in 1..5 {
            let script = Script { insatiable: true, ..asking(&[vec![span(0, FRAMES)]]) };
            let ran = ran(&script, limit, None);
            let outcome = ran.result.unwrap().outcome;
            assert_eq!((outcome.stopped, outcome.passes.len()), (Stopped::PassLimit, limit as usize));
            assert_eq!(ran.stream, expected(|_| limit as u8));
            let last: Vec<(bool, bool)> = (1..=limit).map(|pass| (pass == limit, pass == limit)).collect();
            assert_eq!(ran.shared.state().passes, last);
            assert_kept(&ran.shared, "an encoder that is never satisfied");
        }
    });
}

#[test]
fn odd_ranges_become_the_frames_in_them() {
    let at = |value, scale| Time { value, scale };
    let endless = at(0, 0);
    // A frame lasts 33.37 ms: 100.1 ms are three of them.
    let odd: [(&str, Vec<Span>, std::ops::Range<i64>); 7] = [
        ("another scale", vec![Span { start: at(1001, 10000), duration: at(1001, 10000) }], 3..6),
        ("two scales", vec![Span { start: at(1001, 10000), duration: at(3003, 30000) }], 3..6),
        ("between frames", vec![Span { start: at(80, 1000), duration: at(110, 1000) }], 3..6),
        ("before the beginning", vec![Span { start: at(-5, 1), duration: at(51, 10) }], 0..3),
        ("beyond the end", vec![Span { start: at(21 * 1001, 30000), duration: at(3600, 1) }], 21..24),
        ("without end", vec![Span { start: at(18 * 1001, 30000), duration: endless }], 18..24),
        ("touching", vec![span(3, 6), span(6, 9)], 3..9),
    ];
    within(60, move || {
        for (name, spans, again) in odd {
            let ran = ran(&asking(&[spans]), 5, None);
            let outcome = ran.result.unwrap_or_else(|error| panic!("{name}: {error}")).outcome;
            assert_eq!((outcome.passes.len(), outcome.stopped), (2, Stopped::Satisfied), "{name}");
            assert_eq!(ran.stream, expected(|pts| 1 + u8::from(again.contains(&pts))), "{name}: {:?}", ran.passes);
            assert_kept(&ran.shared, name);
        }
        // Apple allows to disregard the request; a pass over no frame is none.
        let nothing = Span { start: at(1002, 30000), duration: at(5, 30000) };
        for spans in [vec![], vec![nothing], vec![span(FRAMES, FRAMES + 5)]] {
            let ran = ran(&asking(&[spans]), 5, None);
            assert_eq!(ran.result.unwrap().outcome.passes.len(), 1);
            assert_kept(&ran.shared, "ranges without a frame");
        }
        let error = ran(&asking(&[vec![span(6, 12), span(9, 15)]]), 5, None).error();
        assert!(error.contains("overlap"), "{error}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whatever_is_asked_for_is_what_is_coded_again(
        passes in prop::collection::vec(prop::collection::vec((0..8i64, 1..4i64, -900..1i64), 1..4), 0..6),
        limit in 1..8u32,
    ) {
        let mut further = Vec::new();
        for pass in &passes {
            let (mut spans, mut free): (Vec<Span>, i64) = (Vec::new(), 0);
            for (group, groups, early) in pass {
                let (from, to) = (group * GROUP, (group + groups) * GROUP);
                if from > free || spans.is_empty() {
                    let mut span = span(from, to);
                    span.start.value += early;
                    spans.push(span);
                    free = to;
                }
            }
            further.push(spans);
        }
        let asked = further.clone();
        within(60, move || {
            let ran = ran(&asking(&further), limit, None);
            let outcome = ran.result.unwrap().outcome;
            let made = asked.len().min(limit as usize - 1);
            assert_eq!(outcome.passes.len(), made + 1);
            let stopped = if made + 1 == limit as usize { Stopped::PassLimit } else { Stopped::Satisfied };
            assert_eq!(outcome.stopped, stopped);
            let pass_of = |pts: i64| {
                let time = Time { value: pts * 1001, scale: 30000 };
                asked[..made].iter().rposition(|spans| lies_in(time, spans)).map_or(1, |pass| pass as u8 + 2)
            };
            assert_eq!(ran.stream, expected(pass_of));
            assert_kept(&ran.shared, "random ranges");
        });
    }
}

// ---- what goes wrong

#[test]
fn an_encoder_without_further_passes_is_refused_before_any_frame() {
    within(60, || {
        for name in ["MultiPassStorage", "AverageBitRate"] {
            let ran = ran(&faulty(&[], Fault::Lacks(name)), 5, None);
            assert!(!ran.shared.state().calls.contains(&"begin_pass".to_owned()));
            let error = ran.error();
            assert!(error.contains(name), "{error}");
        }
        let ran = ran(&faulty(&[], Fault::Lacks("AllowOpenGOP")), 5, None);
        assert_eq!(ran.result.unwrap().left_out, ["AllowOpenGOP"]);
    });
}

#[test]
fn every_status_is_an_error_that_names_its_call() {
    within(60, || {
        for (call, name) in [
            ("create", "VTCompressionSessionCreate"),
            ("set", "VTSessionSetProperty"),
            ("create_storage", "VTMultiPassStorageCreate"),
            ("prepare", "VTCompressionSessionPrepareToEncodeFrames"),
            ("begin_pass", "VTCompressionSessionBeginPass"),
            ("encode_frame", "VTCompressionSessionEncodeFrame"),
            ("complete_frames", "VTCompressionSessionCompleteFrames"),
            ("end_pass", "VTCompressionSessionEndPass"),
            ("time_ranges", "VTCompressionSessionGetTimeRangesForNextPass"),
        ] {
            let error = ran(&faulty(&[vec![span(0, 3)]], Fault::Fails(call, Status::NO_ENCODER)), 5, None).error();
            assert!(error.contains(name) && error.contains("-12908"), "{call}: {error}");
        }
    });
}

#[test]
fn frames_in_and_frames_out_are_the_same_ones() {
    within(60, || {
        for (fault, words) in [
            (Fault::Drops(7), "no packet for the frame at 7"),
            (Fault::Spoils(7), "the output callback: status -12912"),
            (Fault::Repeats(7), "two packets for the frame at 7"),
            (Fault::OtherHeaders, "the headers of the packet at"),
        ] {
            let error = ran(&faulty(&[vec![span(6, 12)]], fault), 5, None).error();
            assert!(error.contains(words), "{words}: {error}");
        }
    });
}

#[test]
fn a_later_pass_gets_the_frames_of_the_first_or_none() {
    within(60, || {
        for spoilt in [Spoilt::Pixels, Spoilt::Length, Spoilt::Missing] {
            let ran = ran(&asking(&[vec![span(6, 12)]]), 5, Some((8, spoilt)));
            let error = ran.result.unwrap_err().to_string();
            assert!(error.contains("frame"), "{spoilt:?}: {error}");
            assert_kept(&ran.shared, "a frame that differs never gets there");
        }
    });
}

#[test]
fn a_call_that_hangs_is_interrupted_and_named_with_a_way_out() {
    within(60, || {
        for (call, name) in [
            ("prepare", "PrepareToEncodeFrames"),
            ("encode_frame", "EncodeFrame"),
            ("complete_frames", "CompleteFrames"),
            ("end_pass", "EndPass"),
        ] {
            let script = faulty(&[], Fault::Hangs(call, 0));
            let ran = ran_with(&script, 5, None, &Cancel::new(), Duration::from_millis(150), Arc::default());
            assert!(matches!(ran.result, Err(SessionError::Stalled { .. })), "{call}");
            let error = ran.error();
            assert!(error.contains(name) && error.contains("--passes 1"), "{call}: {error}");
        }
    });
}

#[test]
fn a_stop_interrupts_the_end_of_a_pass() {
    within(60, || {
        for call in ["complete_frames", "end_pass"] {
            let (cancel, shared) = (Cancel::new(), Arc::<Shared>::default());
            let (asked, seen) = (cancel.clone(), shared.clone());
            let person = Builder::new().spawn(move || {
                seen.wait_for(|state| state.waiting);
                asked.stop();
            });
            let script = faulty(&[], Fault::Hangs(call, 0));
            let ran = ran_with(&script, 5, None, &cancel, Duration::from_secs(600), shared);
            person.unwrap().join().unwrap();
            assert!(matches!(ran.result, Err(SessionError::Cancelled)), "{call}");
            assert_kept(&ran.shared, call);
        }
    });
}

#[test]
fn what_the_passes_before_made_survives_an_interrupted_one() {
    within(60, || {
        let script = faulty(&[vec![span(6, 12)], vec![span(0, 3)]], Fault::Hangs("end_pass", 3));
        let ran = ran_with(&script, 5, None, &Cancel::new(), Duration::from_millis(150), Arc::default());
        assert!(matches!(ran.result, Err(SessionError::Stalled { .. })));
        assert_eq!(ran.stream, expected(|pts| 1 + u8::from((6..12).contains(&pts))));
        assert_kept(&ran.shared, "a third pass that hangs");
    });
}

// ---- its packets in a file

/// Packets as VideoToolbox makes them, with lengths before NAL units and headers apart, from a file that ffmpeg wrote.
#[test]
fn what_comes_of_a_session_is_a_file_that_decodes() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        for (encoder, codec, tag) in [("libx264", "h264", "avc1"), ("libx265", "hevc", "hvc1")] {
            let made = folder.path().join(format!("{codec}.mp4"));
            let clip = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=30000/1001:d=1.5", "-pix_fmt", "yuv420p"];
            let coded = ["-c:v", encoder, "-tag:v", tag, "-g", "12", "-bf", "2", media::text(&made)];
            media::ffmpeg(&[&clip[..], &coded].concat());
            let mut demuxer = Demuxer::open(&made, &OpenOptions::default(), &Cancel::new()).unwrap();
            let stream = demuxer.stream(0).unwrap();
            let (silo, headers) = (Silo::new(), Arc::<[u8]>::from(stream.extradata()));
            silo.begin_pass(&RangeSet::everything()).unwrap();
            let (mut packet, mut times) = (Packet::new().unwrap(), Vec::new());
            while demuxer.read(&mut packet).unwrap() == Received::Ready {
                packet.rescale(stream.time_base, TIME_BASE);
                let mut copy = Packet::copied_from(packet.data(), packet.is_key()).unwrap();
                copy.set_times(packet.pts(), None, 0);
                times.push(packet.pts().unwrap());
                silo.add(EncodedPacket { packet: copy, headers: headers.clone() }).unwrap();
            }
            let decoding = decoding_times(&times, 1);
            times.sort_unstable();
            silo.end_pass(times.into_iter()).unwrap();
            let packets = silo.into_packets();

            let frame = Frame::allocate(320, 180, "yuv420p").unwrap();
            let rate = TIME_BASE.inverse();
            let encoded = EncodedStream::of_frames("a Mac's", codec, &headers, &frame, rate, None).unwrap();
            assert_eq!(
                (encoded.codec(), encoded.extradata(), encoded.size()),
                (codec.to_owned(), &*headers, (320, 180))
            );
            for extension in ["mp4", "mkv", "ts"] {
                let path = folder.path().join(format!("{codec}-ours.{extension}"));
                let container = Container::for_path(&path, None).unwrap();
                let mut sink = Box::new(FileSink::create(&path, container, false).unwrap());
                let encoded = EncodedStream::of_frames("a Mac's", codec, &headers, &frame, rate, None).unwrap();
                let streams = vec![OutputStream::Encoded { stream: encoded, like: None }];
                sink.start(&Streams { streams, ..Streams::default() }).unwrap();
                for (packet, dts) in packets.iter().zip(&decoding) {
                    let mut packet = packet.share().unwrap();
                    packet.set_times(packet.pts(), Some(*dts), 1);
                    sink.write(packet, 0, TIME_BASE).unwrap();
                }
                sink.finish().unwrap();
                let hashes = |path| -> Vec<String> {
                    let lines = media::frames(path);
                    lines.lines().map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
                };
                assert_eq!(hashes(&path), hashes(&made), "{codec} in {extension}");
            }
        }
    });
}

// ---- the encoder is really that strict

#[test]
fn the_strict_encoder_notices_every_broken_rule() {
    type Act = fn(&mut Strict);
    fn ready(session: &mut Strict) {
        session.create_storage().unwrap();
        session.set(&Property::MultiPassStorage).unwrap();
    }
    fn frame(session: &mut Strict, number: i64) -> Result<(), Status> {
        frame_like(session, number, number)
    }
    fn frame_like(session: &mut Strict, number: i64, picture_of: i64) -> Result<(), Status> {
        let time = |frames: i64| Time { value: frames * 1001, scale: 30000 };
        session.encode_frame(&picture(picture_of), time(number), time(1))
    }
    fn passed(session: &mut Strict) {
        ready(session);
        session.begin_pass(false).unwrap();
        (0..FRAMES).for_each(|number| frame(session, number).unwrap());
        session.complete_frames().unwrap();
        session.end_pass(true).unwrap();
    }
    let rules: &[(&str, Act)] = &[
        ("a property is set that the dictionary does not have", |session| {
            session.script.fault = Fault::Lacks("RealTime");
            session.set(&Property::RealTime(false)).unwrap_err();
        }),
        ("several passes in real time", |session| {
            session.set(&Property::RealTime(true)).unwrap_err();
        }),
        ("a storage is set that was never created", |session| {
            session.set(&Property::MultiPassStorage).unwrap_err();
        }),
        ("a property is set after the first pass began", |session| {
            passed(session);
            session.set(&Property::AverageBitRate(1)).unwrap_err();
        }),
        ("a pass begins without storage", |session| {
            session.begin_pass(false).unwrap_err();
        }),
        ("a pass begins in a pass", |session| {
            ready(session);
            session.begin_pass(false).unwrap();
            session.begin_pass(false).unwrap_err();
        }),
        ("a pass begins after the last", |session| {
            ready(session);
            session.begin_pass(true).unwrap();
            session.complete_frames().unwrap();
            session.end_pass(false).unwrap();
            session.begin_pass(false).unwrap_err();
        }),
        ("a pass begins that nobody asked for", |session| {
            session.script.further.clear();
            passed(session);
            session.begin_pass(false).unwrap_err();
        }),
        ("a frame outside a pass", |session| {
            ready(session);
            frame(session, 0).unwrap_err();
        }),
        ("a frame after all frames were completed", |session| {
            ready(session);
            session.begin_pass(false).unwrap();
            session.complete_frames().unwrap();
            frame(session, 0).unwrap_err();
        }),
        ("a time that does not rise", |session| {
            ready(session);
            session.begin_pass(false).unwrap();
            frame(session, 1).unwrap();
            frame(session, 1).unwrap_err();
        }),
        ("a frame outside the ranges of the pass", |session| {
            passed(session);
            session.begin_pass(false).unwrap();
            frame(session, 12).unwrap_err();
        }),
        ("a frame that is not the one of pass 1", |session| {
            passed(session);
            session.begin_pass(false).unwrap();
            frame_like(session, 6, 7).unwrap_err();
        }),
        ("a pass ends that did not begin", |session| {
            ready(session);
            session.end_pass(true).unwrap_err();
        }),
        ("a pass ends before its frames are completed", |session| {
            ready(session);
            session.begin_pass(false).unwrap();
            session.end_pass(true).unwrap_err();
        }),
        ("an evaluation of the pass that must be the last", |session| {
            ready(session);
            session.begin_pass(true).unwrap();
            session.complete_frames().unwrap();
            session.end_pass(true).unwrap_err();
        }),
        ("a pass without every frame of its ranges", |session| {
            passed(session);
            session.begin_pass(false).unwrap();
            frame(session, 6).unwrap();
            session.complete_frames().unwrap();
            session.end_pass(true).unwrap_err();
        }),
        ("ranges of a pass that nobody asked for", |session| {
            ready(session);
            session.time_ranges_for_next_pass(&mut |_| ()).unwrap_err();
        }),
        ("invalidated while its ranges were read", |session| {
            passed(session);
            let shared = session.shared.clone();
            session.time_ranges_for_next_pass(&mut |_| shared.invalidate()).unwrap();
        }),
        ("invalidated twice", |session| {
            session.shared.invalidate();
            session.shared.invalidate();
        }),
        ("a storage is closed under a live session", |session| {
            ready(session);
            session.close_storage().unwrap_err();
        }),
        ("released without being invalidated", |_| ()),
        ("released with an open storage", |session| {
            ready(session);
            session.shared.invalidate();
        }),
    ];
    within(60, move || {
        for (rule, act) in rules {
            let shared = Arc::<Shared>::default();
            let mut session = Strict::create(&asking(&[vec![span(6, 12)]]), Arc::default(), shared.clone()).unwrap();
            act(&mut session);
            drop(session);
            assert!(shared.state().broken.iter().any(|broken| broken == rule), "{rule}: {:?}", shared.state().broken);
        }
        let shared = Arc::<Shared>::default();
        let mut session = Strict::create(&asking(&[]), Arc::default(), shared.clone()).unwrap();
        shared.invalidate();
        assert_eq!(session.prepare(), Err(Status::INVALID_SESSION), "nothing works after the end");
    });
}
