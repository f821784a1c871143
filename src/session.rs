//! Passes that the encoder asks for: after each it says that it is satisfied, or which stretches it wants to see again.
//!
//! This is the general form of a second pass, as Apple's `VTCompressionSession` has it: begin a pass, encode frames, end the
//! pass, hear the verdict; then only the frames of the wanted ranges, and no others, go through once more. Packets of all
//! passes meet in a [`Silo`], where the last emission of a range takes the place of the one before.
//!
//! ```text
//!  Replay ──frames of the ranges──▶ PassEncoder ──packets──▶ Silo ──splice──▶ one stream
//!    ▲                                  │ end_pass
//!    └────────── Further(ranges) ◀──────┘   Satisfied, or the limit: done
//! ```
//!
//! Times are ticks of one time base that all three share; pass 1 is the pass over [`RangeSet::everything`], and no special
//! case. Invariants: a later pass sees the frames of the first, the same pixels at the same times, or the run ends with an
//! error; a run that ended at its limit is never reported as [`Stopped::Satisfied`].

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::Serialize;

use crate::av::AvError;
use crate::av::frame::Frame;
use crate::error::Error;
use crate::event::Cancel;

mod headers;
mod kept;
mod law;
mod meter;
mod quality;
mod range;
mod segment;
mod silo;
mod software;
mod steering;
pub mod videotoolbox;

pub(crate) use kept::KeptSegments;
pub(crate) use law::HeldTo;
pub use range::{RangeSet, TimeRange};
pub(crate) use segment::Division;
pub use silo::{EncodedPacket, Silo, decoding_times};
pub(crate) use software::{InStream, PassTaken, ProbeSetup, Segmented, Work};

/// Whether a pass may be followed by another. Of VideoToolbox: the flags of `BeginPass`, none or `BeginFinalPass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassKind {
    /// It may.
    Open,
    /// It is the last that is allowed.
    Final,
}

/// What is asked at the end of a pass. Of VideoToolbox: `EndPass` with, or without, a place for "further passes".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// To evaluate the pass, and say what is wanted.
    Evaluate,
    /// Nothing: no pass can follow, so an evaluation would be for nobody.
    CertainlyLast,
}

/// What an encoder says of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No further pass is wanted; also the answer to [`Ask::CertainlyLast`], where it says nothing.
    Satisfied,
    /// The frames of these ranges are wanted again, and no others.
    Further(RangeSet),
    /// It is not satisfied, and has nothing left to try.
    Exhausted,
}

/// A frame with its place in time.
#[derive(Clone, Copy)]
pub struct SourceFrame<'f> {
    /// The picture.
    pub frame: &'f Frame,
    /// Presentation time in ticks.
    pub pts: i64,
    /// Length in ticks.
    pub duration: i64,
}

/// An encoder that says itself which frames it wants again. It gives its packets to a [`Silo`], from whatever thread, until
/// `end_pass` returns.
pub trait PassEncoder {
    /// Begins a pass over these ranges: everything in pass 1, later what [`Verdict::Further`] asked for.
    ///
    /// # Errors
    /// [`SessionError`], for instance while a pass is open.
    fn begin_pass(&mut self, kind: PassKind, ranges: &RangeSet) -> Result<(), SessionError>;

    /// Takes the next frame; times rise strictly within a pass.
    ///
    /// # Errors
    /// [`SessionError`], for instance outside a pass.
    fn encode(&mut self, frame: SourceFrame<'_>) -> Result<(), SessionError>;

    /// Ends the pass: every packet of it is in the silo when this returns. May take long.
    ///
    /// # Errors
    /// [`SessionError`], for instance outside a pass.
    fn end_pass(&mut self, ask: Ask) -> Result<Verdict, SessionError>;
}

/// Frames that can be gone through again, whole or in part.
pub trait Replay {
    /// Hands out the frames of these ranges, in order, and no others.
    ///
    /// # Errors
    /// [`SessionError::Failed`] for a source that cannot be read; else what `each` returned.
    fn replay(
        &mut self,
        ranges: &RangeSet,
        each: &mut dyn FnMut(SourceFrame<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError>;
}

/// What happened in one pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PassOutcome {
    /// What it was over; pass 1 over everything.
    pub ranges: RangeSet,
    /// Frames that the encoder was given.
    pub frames: u64,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// The encoder wanted no further pass.
    Satisfied,
    /// No further pass was allowed. Whether another would have helped is not known.
    PassLimit,
    /// The encoder was not satisfied, and had nothing left to try.
    Exhausted,
}

/// What a session came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The passes, in order.
    pub passes: Vec<PassOutcome>,
    /// Why there is no further one.
    pub stopped: Stopped,
}

/// Runs passes until the encoder is satisfied, or so many were made. `observe` hears of each pass when it begins: its number,
/// from 1, and its ranges.
///
/// # Errors
/// [`SessionError::Cancelled`]; [`SessionError::FrameMismatch`] and [`SessionError::MissingFrames`] where a later pass sees
/// other frames than the first; [`SessionError::NoPacket`] and the silo's other errors where packets are not one for each
/// frame; else what the encoder or the source says.
pub fn run(
    encoder: &mut impl PassEncoder,
    silo: &Silo,
    frames: &mut impl Replay,
    limit: NonZeroU32,
    cancel: &Cancel,
    observe: &mut dyn FnMut(u32, &RangeSet),
) -> Result<Outcome, SessionError> {
    let mut seen = Seen::default();
    let mut passes = Vec::new();
    let mut ranges = RangeSet::everything();
    let stopped = loop {
        let number = passes.len() as u32 + 1;
        let is_last = number == limit.get();
        observe(number, &ranges);
        silo.begin_pass(&ranges)?;
        encoder.begin_pass(if is_last { PassKind::Final } else { PassKind::Open }, &ranges)?;
        let mut given = 0;
        frames.replay(&ranges, &mut |frame| {
            stop_if_asked(cancel)?;
            seen.check(number, &ranges, frame)?;
            given += 1;
            encoder.encode(frame)
        })?;
        stop_if_asked(cancel)?;
        seen.check_count(&ranges, given)?;
        let verdict = encoder.end_pass(if is_last { Ask::CertainlyLast } else { Ask::Evaluate })?;
        silo.end_pass(seen.times())?;
        passes.push(PassOutcome { ranges, frames: given });
        ranges = match verdict {
            _ if is_last => break Stopped::PassLimit,
            Verdict::Satisfied => break Stopped::Satisfied,
            Verdict::Exhausted => break Stopped::Exhausted,
            Verdict::Further(further) => further,
        };
    };
    Ok(Outcome { passes, stopped })
}

fn stop_if_asked(cancel: &Cancel) -> Result<(), SessionError> {
    if cancel.is_stopped() { Err(SessionError::Cancelled) } else { Ok(()) }
}

/// Every frame of pass 1 by its time: length and a hash of its pixels.
#[derive(Default)]
struct Seen(BTreeMap<i64, (i64, u64)>);

impl Seen {
    /// Notes a frame of pass 1, and holds one of a later pass to it.
    fn check(&mut self, pass: u32, ranges: &RangeSet, given: SourceFrame<'_>) -> Result<(), SessionError> {
        let SourceFrame { frame, pts, duration } = given;
        let is = (duration, frame.hash().map_err(|_| SessionError::FrameMismatch { pts })?);
        if !ranges.contains(pts) {
            return Err(SessionError::OutsideRanges { pts });
        }
        if pass > 1 {
            return if self.0.get(&pts) == Some(&is) { Ok(()) } else { Err(SessionError::FrameMismatch { pts }) };
        }
        if self.0.last_key_value().is_some_and(|(last, _)| pts <= *last) {
            return Err(SessionError::TimeNotRising { pts });
        }
        self.0.insert(pts, is);
        Ok(())
    }

    fn check_count(&self, ranges: &RangeSet, given: u64) -> Result<(), SessionError> {
        let wanted = self.times().filter(|pts| ranges.contains(*pts)).count() as u64;
        // Of frames whose times rise and that are all known, as many is the same ones.
        if wanted == given && given > 0 { Ok(()) } else { Err(SessionError::MissingFrames { given, wanted }) }
    }

    fn times(&self) -> impl Iterator<Item = i64> {
        self.0.keys().copied()
    }
}

/// What goes wrong between the parties of a session. Times are presentation times in ticks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A frame, or the end of a pass, while no pass is open.
    #[error("no pass is open")]
    NotInPass,
    /// A pass is begun while another is open.
    #[error("the pass before is still open")]
    PassOpen,
    /// Ranges that are empty, overlap, or do not ascend.
    #[error("ranges do not ascend, overlap or are empty, at {start}..{end}")]
    Ranges {
        /// Where the first bad range begins.
        start: i64,
        /// Where it ends.
        end: i64,
    },
    /// A frame or a packet that the pass is not over.
    #[error("time {pts} lies outside the ranges of the pass")]
    OutsideRanges {
        /// Its time.
        pts: i64,
    },
    /// A frame of a later pass is not the one that pass 1 had at this time, in pixels or length.
    #[error("the frame at {pts} is not the one of pass 1")]
    FrameMismatch {
        /// Its time.
        pts: i64,
    },
    /// A pass had fewer frames than its ranges hold, or its ranges hold none.
    #[error("{given} frames were given of {wanted} in the ranges of the pass")]
    MissingFrames {
        /// Frames given.
        given: u64,
        /// Frames of pass 1 in the ranges.
        wanted: u64,
    },
    /// Times do not rise.
    #[error("time {pts} is not after the one before")]
    TimeNotRising {
        /// The frame's time.
        pts: i64,
    },
    /// Two packets for one frame.
    #[error("two packets for the frame at {pts}")]
    TwoPackets {
        /// The frame's time.
        pts: i64,
    },
    /// A frame that no packet came for: the encoder dropped it.
    #[error("no packet for the frame at {pts}")]
    NoPacket {
        /// The frame's time.
        pts: i64,
    },
    /// A packet that no frame was sent for.
    #[error("a packet for {pts}, where there is no frame")]
    NoFrame {
        /// The packet's time.
        pts: i64,
    },
    /// Packets of one stretch of the stream have other headers than the rest, so that one decoder cannot read both.
    #[error("the headers of the packet at {pts} are not those of the rest of the stream")]
    HeaderMismatch {
        /// The packet's time.
        pts: i64,
    },
    /// A stretch that is not closed: decoding it needs what lies outside.
    #[error("the stretch that begins at {start} is not closed: {why}")]
    NotClosed {
        /// Where it begins.
        start: i64,
        /// In which way.
        why: &'static str,
    },
    /// A segment that libavcodec cannot decode again, so that its quality is not known.
    #[error("what the encoder made cannot be decoded again: {source}")]
    Undecodable {
        /// libav's own words.
        source: AvError,
    },
    /// A segment that gave another number of frames when it was decoded again.
    #[error("{frames} frames came back when what was made of {sent} was decoded again")]
    Decoded {
        /// Frames that came back.
        frames: u64,
        /// Frames that the encoder was given.
        sent: u64,
    },
    /// Support for further passes is not to be had: why.
    #[error("no further passes: {0}")]
    Unsupported(String),
    /// Whoever may have asked for a stop.
    #[error("cancelled")]
    Cancelled,
    /// The operating system's encoder refused: its status.
    #[error("{call}: status {status}")]
    Os {
        /// Which call.
        call: &'static str,
        /// Its `OSStatus`.
        status: i32,
    },
    /// A call of the operating system's encoder did not come back, and was interrupted.
    #[error(
        "{call} did not come back for {seconds:.0} s: --stall-timeout sets how long to wait; --passes 1, or a software encoder, \
         does without it"
    )]
    Stalled {
        /// Which call.
        call: &'static str,
        /// Seconds waited.
        seconds: f64,
    },
    /// What an encoder or the source met.
    #[error(transparent)]
    Failed(Box<Error>),
}

impl From<Error> for SessionError {
    fn from(error: Error) -> Self {
        match error {
            Error::Interrupted => SessionError::Cancelled,
            error => SessionError::Failed(Box::new(error)),
        }
    }
}

impl SessionError {
    /// The same among a job's errors; `encoder` is whose session it was.
    #[must_use]
    pub fn of(self, encoder: &str) -> Error {
        match self {
            SessionError::Cancelled => Error::Interrupted,
            SessionError::Failed(error) => *error,
            source => Error::Session { encoder: encoder.to_owned(), source },
        }
    }
}

#[cfg(test)]
mod tests;
