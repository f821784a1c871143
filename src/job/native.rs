//! A rendition that VideoToolbox's own session makes, in passes that it asks for itself, over frames that are known.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::av::frame::Frame;
use crate::av::muxer::EncodedStream;
use crate::error::Error;
use crate::event::{Cancel, Event, Stage};
use crate::job::run::{Opened, duration, terms};
use crate::job::session::{Kept, Made, report, timed};
use crate::job::{Plan, RenditionPlan};
use crate::pipeline::feed::Feeding;
use crate::pipeline::watch::Pulse;
use crate::pipeline::{Output, deliver};
use crate::plan::{EncoderPlan, NativePlan};
use crate::rate::Seconds;
use crate::report::PassReport;
use crate::session::videotoolbox::{CompressionSession, Encoded, Outbox, Setup, Status, encode};
use crate::session::{RangeSet, Replay, SessionError, Silo, SourceFrame, TimeRange};

/// Runs the session that `open` opens, and writes its output.
#[expect(clippy::too_many_arguments, reason = "the place where a plan, its frames and its output meet")]
pub(super) fn run(
    plan: &Plan,
    index: usize,
    own: &NativePlan,
    opened: &mut Opened,
    output: Output,
    cancel: &Cancel,
    observe: &mut dyn FnMut(Event),
    open: impl FnOnce(&Setup, Arc<Outbox>) -> Result<Box<dyn CompressionSession>, Status>,
) -> Result<Made, Error> {
    let rendition = &plan.renditions[index];
    let encoder = rendition.encoder.encoder;
    let Came { encoded, silo, passes, feeding, first } =
        encoded(plan, index, own, opened, cancel, &mut *observe, open)?;
    let Opened { source, list, .. } = opened;
    let source = source.as_ref();
    let seconds = duration(list, source);
    let (rate, shape) = (source.frame_rate(), source.sample_aspect_ratio(rendition.branch));
    let no_stream =
        |source| Error::Encode { encoder: encoder.to_owned(), pass: 1, frame: 0, source, log: String::new() };
    let codec = rendition.adapter.codec;
    let stream = EncodedStream::of_frames(encoder, codec, &encoded.headers, &first, rate, shape).map_err(no_stream)?;
    let (time_base, packets) = timed(silo.into_packets(), list, source);
    let in_stream = packets.len() as u64;
    let stream = stream.with_time_base(time_base).with_light_of(&first);
    let output = deliver(stream, packets, output, &terms(plan, Vec::new(), &[], cancel), observe)?;
    let target_bps = super::run::target_bps(&rendition.encoder.steps[0], None);
    let pass = |(number, pass): (u8, Pass)| pass.report(number, in_stream, target_bps, seconds);
    let not_taken =
        encoded.left_out.iter().map(|name| format!("the encoder at hand does not take the property {name}"));
    Ok(Made {
        output,
        passes: (1..).zip(passes).map(pass).collect(),
        report: report(&encoded.outcome, &[], list, 0),
        feeding,
        warnings: not_taken.collect(),
    })
}

/// What comes out of the passes.
struct Came {
    encoded: Encoded,
    silo: Silo,
    passes: Vec<Pass>,
    feeding: Feeding,
    /// The first frame, which the stream is described by.
    first: Frame,
}

/// Runs the passes of the session over the kept frames.
fn encoded(
    plan: &Plan,
    index: usize,
    own: &NativePlan,
    opened: &mut Opened,
    cancel: &Cancel,
    observe: &mut dyn FnMut(Event),
    open: impl FnOnce(&Setup, Arc<Outbox>) -> Result<Box<dyn CompressionSession>, Status>,
) -> Result<Came, Error> {
    let RenditionPlan { branch, encoder: EncoderPlan { encoder, .. }, .. } = plan.renditions[index];
    let Opened { source, cache, list } = opened;
    let source = source.as_mut();
    let (rate, shape) = (source.frame_rate(), source.sample_aspect_ratio(branch));
    let pulse = Pulse::new(Stage::Feed);
    let feeding = Feeding::default();
    let mut kept = Kept { source, cache, list, branch, at: None, cancel, pulse: &pulse, feeding };
    let first = kept.frame(0)?;
    let setup = Setup::new(own, &first, rate.inverse(), rate, shape).map_err(|why| why.of(encoder))?;

    let silo = Silo::new();
    let patience = plan.stall_timeout.map_or(PATIENCE, Seconds::duration);
    let told = RefCell::new(Told { rendition: index, passes: Vec::new(), observe });
    let mut frames = Watched { kept, told: &told, total: list.len() as u64 };
    let mut begin = |_, _: &RangeSet| told.borrow_mut().begin(&silo);
    let passes = NonZeroU32::from(own.most_passes);
    let encoded = encode(&setup, open, &silo, &mut frames, passes, cancel, patience, &mut begin);
    let encoded = encoded.map_err(|error| error.of(encoder))?;
    let feeding = frames.kept.feeding;
    told.borrow_mut().end(&silo);
    let passes = told.into_inner().passes;
    Ok(Came { encoded, silo, passes, feeding, first })
}

/// What is told of a session, and what its report will say.
struct Told<'t> {
    rendition: usize,
    passes: Vec<Pass>,
    observe: &'t mut dyn FnMut(Event),
}

struct Pass {
    frames: u64,
    began: Instant,
    last_told: Instant,
    wall: Duration,
    /// Bytes of the whole stream after it.
    bytes: u64,
}

impl Told<'_> {
    /// Another pass begins.
    fn begin(&mut self, silo: &Silo) {
        self.end(silo);
        let now = Instant::now();
        self.passes.push(Pass { frames: 0, began: now, last_told: now, wall: Duration::ZERO, bytes: 0 });
    }

    /// The pass under way has ended.
    fn end(&mut self, silo: &Silo) {
        let number = self.passes.len() as u8;
        let Some(pass) = self.passes.last_mut() else { return };
        (pass.wall, pass.bytes) = (pass.began.elapsed(), silo.bytes(TimeRange { start: i64::MIN, end: i64::MAX }));
        let (frames, seconds) = (pass.frames, pass.wall.as_secs_f64());
        (self.observe)(Event::PassDone { rendition: self.rendition, pass: number, frames, seconds });
    }

    /// A frame was given to the encoder.
    fn frame(&mut self, total: u64, at_seconds: f64) {
        let number = self.passes.len() as u8;
        let Some(pass) = self.passes.last_mut() else { return };
        pass.frames += 1;
        if pass.last_told.elapsed() < BETWEEN_EVENTS {
            return;
        }
        pass.last_told = Instant::now();
        (self.observe)(Event::Progress {
            rendition: self.rendition,
            pass: number,
            frames: pass.frames,
            total: Some(total).filter(|_| number == 1),
            fps: pass.frames as f64 / pass.began.elapsed().as_secs_f64().max(1e-3),
            bytes: 0,
            seconds: at_seconds,
        });
    }
}

impl Pass {
    fn report(&self, number: u8, packets: u64, target_bps: Option<u64>, seconds: f64) -> PassReport {
        PassReport {
            number,
            frames: self.frames,
            packets,
            bytes: self.bytes,
            stats_bytes: None,
            target_bps,
            bps: Some(self.bytes as f64 * 8.0 / seconds.max(1e-9)),
            wall_seconds: self.wall.as_secs_f64(),
            starved_seconds: 0.0,
            blocked_seconds: 0.0,
        }
    }
}

/// The kept frames, each of them told.
struct Watched<'w, 'k, 't> {
    kept: Kept<'k>,
    told: &'w RefCell<Told<'t>>,
    total: u64,
}

impl Replay for Watched<'_, '_, '_> {
    fn replay(
        &mut self,
        ranges: &RangeSet,
        each: &mut dyn FnMut(SourceFrame<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let period = self.kept.source.frame_rate().inverse().value();
        self.kept.replay(ranges, &mut |frame| {
            each(frame)?;
            self.told.borrow_mut().frame(self.total, frame.pts as f64 * period);
            Ok(())
        })
    }
}

/// How long a call of VideoToolbox may take where nobody says: between passes it may think for long.
const PATIENCE: Duration = Duration::from_secs(600);
const BETWEEN_EVENTS: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
