//! The stage that encodes: opens its encoder on the first frame, gives it every frame, and seals the statistics.
//!
//! Invariant: an encoder is flushed only when it has had every frame it must have; else it is freed.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::adapter::TwoRuns;
use crate::av::Received;
use crate::av::encoder::{Encoder, EncoderSetup};
use crate::av::frame::Frame;
use crate::av::muxer::EncodedStream;
use crate::av::packet::Packet;
use crate::error::Error;
use crate::event::Event;
use crate::media::Rational;
use crate::pipeline::feed::Fed;
use crate::pipeline::watch::Pulse;
use crate::pipeline::{receive_timed, send_timed};
use crate::plan::PassStep;
use crate::stats::{Made, Stats, StatsStore};
use crate::timing::{Moment, OutputTimes, Retime};

/// What a mux stage is given. A queue that closes without `End` was cut off.
pub(crate) enum Coded {
    /// The encoder is open; packets of it follow.
    Start(Box<EncodedStream>),
    /// A packet, with times in ticks of this time base.
    Packet(Packet, Rational),
    End,
}

/// What the stage did.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) frames: u64,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Time spent waiting for frames.
    pub(crate) starved: Duration,
    /// Time spent waiting for the mux stage.
    pub(crate) blocked: Duration,
    pub(crate) wall: Duration,
    /// Statistics, sealed, where the pass writes them.
    pub(crate) stats: Option<Stats>,
}

pub(crate) struct EncodeStage {
    pub(crate) setup: EncoderSetup,
    pub(crate) step: PassStep,
    /// The pass model, for a pass that writes statistics, and where they go.
    pub(crate) stats: Option<(&'static TwoRuns, StatsStore)>,
    /// How many frames the pass must have: what pass 1 had.
    pub(crate) expected: Option<u64>,
    /// How many frames there probably are, for progress.
    pub(crate) total: Option<u64>,
    /// The output's own times; `None` where all frames are known to be on the grid.
    pub(crate) times: Option<OutputTimes>,
}

impl EncodeStage {
    #[expect(clippy::needless_pass_by_value, reason = "the queue closes when the stage ends")]
    pub(crate) fn run(
        self,
        rendition: usize,
        frames: Receiver<Fed>,
        packets: Option<Sender<Coded>>,
        events: &Sender<Event>,
        pulse: &Pulse,
    ) -> Result<Encoded, Error> {
        let EncodeStage { setup, step, stats, expected, total, times } = self;
        let mut pass = Pass {
            retime: times.map(|times| (Retime::new(times.period()), times)),
            grid: setup.time_base,
            out: packets,
            packet: Packet::new().map_err(Error::no_memory("a packet"))?,
            done: Encoded {
                frames: 0,
                packets: 0,
                bytes: 0,
                starved: Duration::ZERO,
                blocked: Duration::ZERO,
                wall: Duration::ZERO,
                stats: None,
            },
            progress: Progress { rendition, pass: step.number, total, began: Instant::now(), told: None, events },
            pulse,
        };
        let (encoder_name, pass_number) = (setup.encoder.clone(), step.number);
        let Some(mut encoder) = pass.open(setup, &frames)? else {
            return Err(Error::Stats { encoder: encoder_name, why: format!("pass {pass_number} had no frames") });
        };
        while let Some((frame, moment)) = pass.next(&frames)? {
            pass.send(&mut encoder, frame, moment)?;
        }
        // A count that differs must not be flushed: libaom ends the process over it.
        if let Some(expected) = expected.filter(|expected| *expected != pass.done.frames) {
            return Err(Error::PassesDiffer { why: format!("{} now, {expected} in pass 1", pass.done.frames) });
        }
        encoder.send_end()?;
        pass.drain(&mut encoder)?;
        if let Some(out) = &pass.out {
            send_timed(out, Coded::End, pulse, &mut pass.done.blocked)?;
        }
        let text = encoder.into_stats();
        if let Some((model, store)) = stats {
            let made = Made { encoder: &encoder_name, model, step: &step, frames: pass.done.frames };
            pass.done.stats = Some(store.seal(&made, text)?);
        }
        Ok(pass.end())
    }
}

/// One pass under way.
struct Pass<'p> {
    retime: Option<(Retime, OutputTimes)>,
    grid: Rational,
    out: Option<Sender<Coded>>,
    packet: Packet,
    done: Encoded,
    progress: Progress<'p>,
    pulse: &'p Pulse,
}

impl Pass<'_> {
    /// Opens the encoder on the first frame; `None` where there is none.
    fn open(&mut self, setup: EncoderSetup, frames: &Receiver<Fed>) -> Result<Option<Encoder>, Error> {
        let Some((first, moment)) = self.next(frames)? else { return Ok(None) };
        self.note(moment);
        let light = first.properties().map_err(Error::no_memory("the first frame's properties"))?;
        let mut encoder = setup.open(first)?;
        if let Some(out) = &self.out {
            let time_base = self.retime.as_ref().map_or(self.grid, |(_, times)| times.time_base);
            let stream = encoder.stream()?.with_time_base(time_base).with_light_of(&light);
            send_timed(out, Coded::Start(Box::new(stream)), self.pulse, &mut self.done.blocked)?;
        }
        self.receive(&mut encoder)?;
        Ok(Some(encoder))
    }

    fn next(&mut self, frames: &Receiver<Fed>) -> Result<Option<(Frame, Moment)>, Error> {
        match receive_timed(frames, self.pulse, &mut self.done.starved)? {
            Fed::Frame(frame, moment) => Ok(Some((frame, moment))),
            Fed::End => Ok(None),
        }
    }

    fn note(&mut self, moment: Moment) {
        if let Some((retime, times)) = &mut self.retime {
            retime.sent(moment.grid, times.of(moment));
        }
        self.done.frames += 1;
    }

    fn send(&mut self, encoder: &mut Encoder, frame: Frame, moment: Moment) -> Result<(), Error> {
        self.note(moment);
        encoder.send(frame)?;
        self.receive(encoder)?;
        self.progress.tell(&self.done, self.grid, moment);
        Ok(())
    }

    /// Takes what the encoder has ready.
    fn receive(&mut self, encoder: &mut Encoder) -> Result<Received, Error> {
        loop {
            let received = encoder.receive(&mut self.packet)?;
            self.pulse.beat();
            match received {
                Received::Ready => self.pass_on()?,
                state => return Ok(state),
            }
        }
    }

    fn drain(&mut self, encoder: &mut Encoder) -> Result<(), Error> {
        while self.receive(encoder)? != Received::Done {}
        Ok(())
    }

    fn pass_on(&mut self) -> Result<(), Error> {
        self.done.packets += 1;
        self.done.bytes += self.packet.data().len() as u64;
        let Some(out) = &self.out else { return Ok(()) };
        let mut packet = std::mem::replace(&mut self.packet, Packet::new().map_err(Error::no_memory("a packet"))?);
        let time_base = match &mut self.retime {
            None => {
                let (pts, dts) = (packet.pts(), packet.dts());
                packet.set_times(pts, dts, packet.duration().max(1));
                self.grid
            }
            Some((retime, times)) => {
                let pts = packet.pts().unwrap_or_default();
                if let Some(times) = retime.received(pts, packet.dts().unwrap_or(pts)) {
                    packet.set_times(Some(times.pts), Some(times.dts), times.duration);
                }
                times.time_base
            }
        };
        send_timed(out, Coded::Packet(packet, time_base), self.pulse, &mut self.done.blocked)
    }

    fn end(mut self) -> Encoded {
        self.done.wall = self.progress.began.elapsed();
        self.progress.end(&self.done);
        self.done
    }
}

/// Says how far the pass is, ten times a second at most and never waiting for the listener.
struct Progress<'p> {
    rendition: usize,
    pass: u8,
    total: Option<u64>,
    began: Instant,
    told: Option<Instant>,
    events: &'p Sender<Event>,
}

impl Progress<'_> {
    fn tell(&mut self, done: &Encoded, grid: Rational, moment: Moment) {
        if self.told.is_some_and(|told| told.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let seconds = self.began.elapsed().as_secs_f64();
        let _ = self.events.try_send(Event::Progress {
            rendition: self.rendition,
            pass: self.pass,
            frames: done.frames,
            total: self.total,
            fps: done.frames as f64 / seconds.max(1e-3),
            bytes: done.bytes,
            seconds: moment.grid as f64 * grid.value(),
        });
    }

    fn end(&self, done: &Encoded) {
        let _ = self.events.send(Event::PassDone {
            rendition: self.rendition,
            pass: self.pass,
            frames: done.frames,
            seconds: done.wall.as_secs_f64(),
        });
    }
}

const PROGRESS_EVERY: Duration = Duration::from_millis(100);
