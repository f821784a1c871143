//! Apple's compression session with several passes: what it is asked for, in which order, and what its answers mean.
//!
//! Every function of VideoToolbox is one method of [`CompressionSession`], and no method does more. So all of this runs on
//! every system, against an encoder that holds us to Apple's rules (`tests/videotoolbox.rs`); on a Mac the methods are the
//! calls themselves (`av::videotoolbox`).
//!
//! ```text
//!  create ─ supports? ─ set … ─ create_storage ─ set(storage) ─ prepare
//!    ┌──────────────────────────────────────────────────────────┘
//!    └▶ begin_pass ─ encode_frame … ─ complete_frames ─ end_pass ─ time_ranges, copied ─▶ begin_pass …
//!  invalidate ─ close_storage ─ release
//! ```
//!
//! Invariants: a session is invalidated once, before anything of it is released; what belongs to the session is read only
//! while nobody can invalidate it; no call is made after one of them was interrupted.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::av::frame::Frame;
use crate::av::packet::Packet;
use crate::error::Error;
use crate::event::Cancel;
use crate::media::Rational;
use crate::pipeline::watched;
use crate::plan::Property;
use crate::session::{
    Ask, EncodedPacket, Outcome, PassEncoder, PassKind, RangeSet, Replay, SessionError, Silo, SourceFrame, TimeRange,
    Verdict, run,
};

mod setup;

pub use setup::Setup;

/// The functions of VideoToolbox that several passes need, one method for each.
pub trait CompressionSession: Send {
    /// Whether `VTSessionCopySupportedPropertyDictionary` has the key of this property.
    fn supports(&self, property: &Property) -> bool;

    /// `VTMultiPassStorageCreate`, with a temporary file.
    ///
    /// # Errors
    /// VideoToolbox's status.
    fn create_storage(&mut self) -> Result<(), Status>;

    /// `VTSessionSetProperty`. The value of [`Property::MultiPassStorage`] is the storage created before.
    ///
    /// # Errors
    /// VideoToolbox's status.
    fn set(&mut self, property: &Property) -> Result<(), Status>;

    /// `VTCompressionSessionPrepareToEncodeFrames`.
    ///
    /// # Errors
    /// VideoToolbox's status.
    fn prepare(&mut self) -> Result<(), Status>;

    /// `VTCompressionSessionBeginPass`; `is_last`: with `BeginFinalPass`.
    ///
    /// # Errors
    /// VideoToolbox's status.
    fn begin_pass(&mut self, is_last: bool) -> Result<(), Status>;

    /// `VTCompressionSessionEncodeFrame`. What comes of it is put into the session's [`Outbox`] with the value of `pts`.
    ///
    /// # Errors
    /// VideoToolbox's status.
    fn encode_frame(&mut self, frame: &Frame, pts: Time, duration: Time) -> Result<(), Status>;

    /// `VTCompressionSessionCompleteFrames`, of all frames.
    ///
    /// # Errors
    /// VideoToolbox's status.
    fn complete_frames(&mut self) -> Result<(), Status>;

    /// `VTCompressionSessionEndPass`; whether further passes are wanted. Without `evaluate` nobody asks.
    ///
    /// # Errors
    /// VideoToolbox's status.
    fn end_pass(&mut self, evaluate: bool) -> Result<bool, Status>;

    /// `VTCompressionSessionGetTimeRangesForNextPass`. What `read` is given belongs to the session: it is to be copied, and
    /// nobody may invalidate the session meanwhile.
    ///
    /// # Errors
    /// VideoToolbox's status.
    fn time_ranges_for_next_pass(&mut self, read: &mut dyn FnMut(&mut dyn Iterator<Item = Span>))
    -> Result<(), Status>;

    /// What invalidates this session from another thread.
    fn invalidation(&self) -> Arc<dyn Invalidate>;

    /// `VTMultiPassStorageClose`, where there is one; it is released.
    ///
    /// # Errors
    /// VideoToolbox's status.
    fn close_storage(&mut self) -> Result<(), Status>;
}

/// `VTCompressionSessionInvalidate`: Apple's way to interrupt an `EndPass`, and the beginning of the end of every session.
pub trait Invalidate: Send + Sync {
    /// Invalidates the session: calls under way return, later ones fail.
    fn invalidate(&self);
}

/// An `OSStatus` that is not `noErr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub i32);

impl Status {
    /// `kVTPropertyNotSupportedErr`.
    pub const PROPERTY_NOT_SUPPORTED: Status = Status(-12900);
    /// `kVTParameterErr`.
    pub const PARAMETER: Status = Status(-12902);
    /// `kVTInvalidSessionErr`.
    pub const INVALID_SESSION: Status = Status(-12903);
    /// `kVTCouldNotFindVideoEncoderErr`.
    pub const NO_ENCODER: Status = Status(-12908);
    /// `kVTVideoEncoderMalfunctionErr`.
    pub const MALFUNCTION: Status = Status(-12912);
    /// `kVTVideoEncoderNotAvailableNowErr`.
    pub const NOT_AVAILABLE_NOW: Status = Status(-12915);

    fn of(self, call: &'static str) -> SessionError {
        SessionError::Os { call, status: self.0 }
    }
}

/// A `CMTime`: `value / scale` seconds where `scale` is positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// The value.
    pub value: i64,
    /// Ticks per second. 0: not numeric, that is without end.
    pub scale: i32,
}

/// A `CMTimeRange`: contains its start, not its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub start: Time,
    /// How long it is.
    pub duration: Time,
}

/// What the output callback was told of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emission {
    /// The value of the frame's presentation time, as it was given.
    pub pts: i64,
    /// The coded frame; `None`: it was dropped.
    pub sample: Result<Option<Sample>, Status>,
}

/// A `CMSampleBuffer`, copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// NAL units, each behind its length.
    pub data: Vec<u8>,
    /// The parameter sets: the content of an `avcC` or `hvcC` box.
    pub headers: Vec<u8>,
    /// Whether decoding can begin here.
    pub is_key: bool,
}

/// Where the output callback leaves what was coded, from any thread, in decoding order.
#[derive(Debug, Default)]
pub struct Outbox(Mutex<Vec<Emission>>);

impl Outbox {
    /// Adds the next.
    pub fn put(&self, emission: Emission) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(emission);
    }

    fn empty(&self) -> Vec<Emission> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a session of VideoToolbox has made.
#[derive(Debug)]
pub struct Encoded {
    /// What happened in its passes.
    pub outcome: Outcome,
    /// The parameter sets: the content of an `avcC` or `hvcC` box.
    pub headers: Arc<[u8]>,
    /// Properties that this encoder does not have, or not with the value wanted, by Apple's names.
    pub left_out: Vec<&'static str>,
}

/// `VTCompressionSessionCreate`.
///
/// # Errors
/// VideoToolbox's status.
#[cfg(target_os = "macos")]
pub fn open(setup: &Setup, outbox: Arc<Outbox>) -> Result<Box<dyn CompressionSession>, Status> {
    Ok(Box::new(crate::av::videotoolbox::Native::create(setup, outbox)?))
}

/// No session, for there is no VideoToolbox here; plans refuse it before.
///
/// # Errors
/// [`Status::NO_ENCODER`].
#[cfg(not(target_os = "macos"))]
pub fn open(_: &Setup, _: Arc<Outbox>) -> Result<Box<dyn CompressionSession>, Status> {
    Err(Status::NO_ENCODER)
}

/// Encodes `frames` in at most so many passes into `silo`. `create` is `VTCompressionSessionCreate`. A call that takes longer
/// than `patience` is interrupted, and so is one that a stop finds waiting.
///
/// # Errors
/// [`SessionError::Unsupported`] where this encoder has no further passes, or lacks a property that was asked for;
/// [`SessionError::Stalled`]; [`SessionError::Os`] with VideoToolbox's status; and those of [`run`].
#[expect(clippy::too_many_arguments, reason = "a session is where everything meets")]
pub fn encode(
    setup: &Setup,
    create: impl FnOnce(&Setup, Arc<Outbox>) -> Result<Box<dyn CompressionSession>, Status>,
    silo: &Silo,
    frames: &mut impl Replay,
    limit: NonZeroU32,
    cancel: &Cancel,
    patience: Duration,
    observe: &mut dyn FnMut(u32, &RangeSet),
) -> Result<Encoded, SessionError> {
    let outbox = Arc::new(Outbox::default());
    let native = create(setup, outbox.clone()).map_err(|status| status.of("VTCompressionSessionCreate"))?;
    let mut session = Session::new(native, setup.time_base, outbox, silo);
    let interrupt = session.interrupt.clone();
    watched(
        || interrupt.look(cancel, patience),
        move || {
            let left_out = session.configure(setup)?;
            let outcome = run(&mut session, silo, frames, limit, cancel, observe)?;
            let headers = session.headers.take().unwrap_or_else(|| Arc::from([]));
            Ok(Encoded { outcome, headers, left_out })
        },
    )?
}

/// A session under way.
struct Session<'s> {
    native: Box<dyn CompressionSession>,
    interrupt: Interrupt,
    time_base: Rational,
    outbox: Arc<Outbox>,
    silo: &'s Silo,
    /// Times of all frames: those of pass 1.
    times: BTreeSet<i64>,
    headers: Option<Arc<[u8]>>,
}

impl<'s> Session<'s> {
    fn new(native: Box<dyn CompressionSession>, time_base: Rational, outbox: Arc<Outbox>, silo: &'s Silo) -> Self {
        let interrupt = Interrupt::new(native.invalidation());
        Session { native, interrupt, time_base, outbox, silo, times: BTreeSet::new(), headers: None }
    }

    /// Sets everything before the first pass. What the encoder need not take is left out where it does not; returned by name.
    fn configure(&mut self, setup: &Setup) -> Result<Vec<&'static str>, SessionError> {
        let lacks = |property: &Property| {
            let name = property.name();
            SessionError::Unsupported(format!("the encoder that VideoToolbox chose here has no property {name}"))
        };
        let mut left_out = Vec::new();
        if !self.native.supports(&Property::MultiPassStorage) {
            return Err(lacks(&Property::MultiPassStorage));
        }
        for (property, required) in &setup.properties {
            match (self.native.supports(property), required) {
                (true, true) => self.call(Call::SetProperty, |native| native.set(property))?,
                (false, true) => return Err(lacks(property)),
                (true, false) => match self.call(Call::SetProperty, |native| native.set(property)) {
                    // A value that it does not know, for instance of a colour.
                    Err(SessionError::Os { .. }) => left_out.push(property.name()),
                    set => set?,
                },
                (false, false) => left_out.push(property.name()),
            }
        }
        self.call(Call::CreateStorage, |native| native.create_storage())?;
        self.call(Call::SetProperty, |native| native.set(&Property::MultiPassStorage))?;
        self.call(Call::Prepare, |native| native.prepare())?;
        Ok(left_out)
    }

    /// Makes a call that whoever watches can see.
    fn call<T>(
        &mut self,
        call: Call,
        make: impl FnOnce(&mut dyn CompressionSession) -> Result<T, Status>,
    ) -> Result<T, SessionError> {
        self.interrupt.begin(call)?;
        let result = make(self.native.as_mut());
        self.interrupt.end()?;
        result.map_err(|status| status.of(call.name()))
    }

    /// Puts what the output callback has left into the silo.
    fn collect(&mut self) -> Result<(), SessionError> {
        for Emission { pts: value, sample } in self.outbox.empty() {
            let pts = value / i64::from(self.time_base.num);
            let sample = sample.map_err(|status| status.of("the output callback"))?;
            let Sample { data, headers, is_key } = sample.ok_or(SessionError::NoPacket { pts })?;
            let headers = match &self.headers {
                Some(same) if **same == *headers => same.clone(),
                _ => Arc::from(headers),
            };
            self.headers.get_or_insert_with(|| headers.clone());
            let no_memory = |_| SessionError::from(Error::Exhausted { doing: "copying a packet".to_owned() });
            let mut packet = Packet::copied_from(&data, is_key).map_err(no_memory)?;
            packet.set_times(Some(pts), None, 0);
            self.silo.add(EncodedPacket { packet, headers })?;
        }
        Ok(())
    }

    /// The ranges for the next pass, copied while nobody can invalidate the session. `None`: there is no frame in them.
    fn ranges(&mut self) -> Result<Option<RangeSet>, SessionError> {
        let mut spans = Vec::new();
        let held = self.interrupt.hold()?;
        let copied = self.native.time_ranges_for_next_pass(&mut |own| spans.extend(own));
        drop(held);
        copied.map_err(|status| status.of("VTCompressionSessionGetTimeRangesForNextPass"))?;
        let ranges = spans.iter().map(|span| span.in_ticks(self.time_base));
        let has_frames =
            |range: &TimeRange| range.start < range.end && self.times.range(range.start..range.end).next().is_some();
        let ranges: Vec<TimeRange> = ranges.filter(has_frames).collect();
        if ranges.is_empty() { Ok(None) } else { RangeSet::new(ranges).map(Some) }
    }
}

/// The order that Apple's objects need: the session's end, then the storage's, then their release.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.interrupt.invalidate();
        // Everything that was coded has been copied, and a storage that cannot be closed is released all the same.
        let _ = self.native.close_storage();
    }
}

impl PassEncoder for Session<'_> {
    fn begin_pass(&mut self, kind: PassKind, _: &RangeSet) -> Result<(), SessionError> {
        self.call(Call::BeginPass, |native| native.begin_pass(kind == PassKind::Final))
    }

    fn encode(&mut self, source: SourceFrame<'_>) -> Result<(), SessionError> {
        let SourceFrame { frame, pts, duration } = source;
        self.times.insert(pts);
        let (pts, duration) = (Time::of(pts, self.time_base), Time::of(duration, self.time_base));
        self.call(Call::EncodeFrame, |native| native.encode_frame(frame, pts, duration))?;
        self.collect()
    }

    fn end_pass(&mut self, ask: Ask) -> Result<Verdict, SessionError> {
        self.call(Call::CompleteFrames, |native| native.complete_frames())?;
        let further = self.call(Call::EndPass, |native| native.end_pass(ask == Ask::Evaluate))?;
        self.collect()?;
        let ranges = if further { self.ranges()? } else { None };
        Ok(ranges.map_or(Verdict::Satisfied, Verdict::Further))
    }
}

/// A call that may be waited for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    SetProperty,
    CreateStorage,
    Prepare,
    BeginPass,
    EncodeFrame,
    CompleteFrames,
    EndPass,
}

impl Call {
    const fn name(self) -> &'static str {
        match self {
            Call::SetProperty => "VTSessionSetProperty",
            Call::CreateStorage => "VTMultiPassStorageCreate",
            Call::Prepare => "VTCompressionSessionPrepareToEncodeFrames",
            Call::BeginPass => "VTCompressionSessionBeginPass",
            Call::EncodeFrame => "VTCompressionSessionEncodeFrame",
            Call::CompleteFrames => "VTCompressionSessionCompleteFrames",
            Call::EndPass => "VTCompressionSessionEndPass",
        }
    }

    /// Whether a stop is worth an interruption: the others return soon, and Apple promises the interruption for these.
    const fn takes_long(self) -> bool {
        matches!(self, Call::CompleteFrames | Call::EndPass)
    }
}

/// What the thread that encodes shares with the one that may interrupt it.
#[derive(Clone)]
struct Interrupt(Arc<Life>);

struct Life {
    session: Arc<dyn Invalidate>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    call: Option<(Call, Instant)>,
    stop: Option<Stop>,
    invalidated: bool,
}

/// Why a session was interrupted.
#[derive(Clone, Copy)]
enum Stop {
    Cancelled,
    Stalled(Call, Duration),
}

impl Interrupt {
    fn new(session: Arc<dyn Invalidate>) -> Self {
        Interrupt(Arc::new(Life { session, state: Mutex::default() }))
    }

    /// Says that a call begins.
    fn begin(&self, call: Call) -> Result<(), SessionError> {
        self.hold()?.call = Some((call, Instant::now()));
        Ok(())
    }

    /// Says that it came back, of itself or because it was interrupted.
    fn end(&self) -> Result<(), SessionError> {
        self.state().call = None;
        self.hold().map(drop)
    }

    /// Keeps everybody from invalidating the session while the result lives.
    fn hold(&self) -> Result<MutexGuard<'_, State>, SessionError> {
        let state = self.state();
        match state.stop {
            None => Ok(state),
            Some(Stop::Cancelled) => Err(SessionError::Cancelled),
            Some(Stop::Stalled(call, waited)) => {
                Err(SessionError::Stalled { call: call.name(), seconds: waited.as_secs_f64() })
            }
        }
    }

    /// Interrupts a call that a stop finds waiting, or that has not come back for too long.
    fn look(&self, cancel: &Cancel, patience: Duration) {
        let mut state = self.state();
        let Some((call, since)) = state.call.filter(|_| state.stop.is_none()) else { return };
        let waited = since.elapsed();
        state.stop = match () {
            () if waited > patience => Some(Stop::Stalled(call, waited)),
            () if cancel.is_stopped() && call.takes_long() => Some(Stop::Cancelled),
            () => return,
        };
        self.invalidate_in(state);
    }

    fn invalidate(&self) {
        self.invalidate_in(self.state());
    }

    fn invalidate_in(&self, mut state: MutexGuard<'_, State>) {
        if !std::mem::replace(&mut state.invalidated, true) {
            self.0.session.invalidate();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Time {
    /// So many ticks.
    fn of(ticks: i64, time_base: Rational) -> Self {
        Time { value: ticks * i64::from(time_base.num), scale: time_base.den }
    }
}

impl Span {
    /// The ticks in it; one between two ticks begins or ends at the later. What is not numeric has no end.
    fn in_ticks(&self, time_base: Rational) -> TimeRange {
        let ticks = |value: i128, scale: i128| {
            let (value, one) = (value * i128::from(time_base.den), scale * i128::from(time_base.num));
            (-(-value).div_euclid(one)).clamp(i64::MIN.into(), i64::MAX.into()) as i64
        };
        let [(start, per_start), (length, per_length)] =
            [self.start, self.duration].map(|time| (i128::from(time.value), i128::from(time.scale)));
        match (per_start, per_length) {
            (1.., 1..) => TimeRange {
                start: ticks(start, per_start),
                end: ticks(start * per_length + length * per_start, per_start * per_length),
            },
            (1.., _) => TimeRange { start: ticks(start, per_start), end: i64::MAX },
            _ => TimeRange { start: i64::MIN, end: i64::MAX },
        }
    }
}
