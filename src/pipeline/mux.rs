//! The stage that writes: video packets from its encoder, and the other streams up to the time of the video.
//!
//! Invariant: a packet of another stream is asked for only when its time has come, so nothing piles up; output is finished
//! only when both sides have said End.

use crossbeam_channel::Receiver;

use crate::av::muxer::Cut;
use crate::av::packet::Packet;
use crate::av::source::{FileHeaders, StreamParameters};
use crate::error::Error;
use crate::job::{Fate, Plan, RenditionPlan};
use crate::media::Rational;
use crate::pipeline::encode::Coded;
use crate::pipeline::other::{Along, Other};
use crate::pipeline::watch::Pulse;
use crate::sink::{Finished, OutputStream, Sink, Streams};
use crate::source::DecodedFile;

/// What the stage did.
#[derive(Debug)]
pub(crate) struct Muxed {
    pub(crate) finished: Finished,
}

pub(crate) struct MuxStage {
    sink: Box<dyn Sink>,
    /// Indices of the carried streams in the source, in the order in which the output has them; the video is among them.
    order: Vec<usize>,
    /// The source's video stream, and what it says of itself.
    video: usize,
    like: StreamParameters,
    headers: FileHeaders,
    cut: Cut,
}

impl MuxStage {
    /// A stage that writes a rendition to `sink`.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn new(
        plan: &Plan,
        rendition: &RenditionPlan,
        sink: Box<dyn Sink>,
        source: &DecodedFile,
    ) -> Result<Self, Error> {
        Ok(MuxStage {
            sink,
            order: order(rendition),
            video: plan.source.video.index,
            like: source.stream()?,
            headers: source.headers(),
            cut: Cut {
                from_seconds: plan.input.begins(&plan.source),
                length_seconds: plan.input.length.map(|length| length.0),
            },
        })
    }

    #[expect(clippy::needless_pass_by_value, reason = "the queue closes when the stage ends")]
    pub(crate) fn run(
        self,
        coded: Receiver<Coded>,
        along: Option<Receiver<Other>>,
        pulse: &Pulse,
    ) -> Result<Muxed, Error> {
        let mut muxing = self.start(&coded, along, pulse)?;
        loop {
            match pulse.while_waiting(|| coded.recv()).map_err(|_| Error::Stopped)? {
                Coded::Packet(packet, time_base) => muxing.video(packet, time_base)?,
                Coded::Start(_) => return Err(Error::Stopped),
                Coded::End => break,
            }
        }
        muxing.rest()?;
        Ok(Muxed { finished: muxing.sink.finish()? })
    }

    /// Waits until every stream is known, and tells the sink.
    fn start<'p>(
        self,
        coded: &Receiver<Coded>,
        along: Option<Receiver<Other>>,
        pulse: &'p Pulse,
    ) -> Result<Muxing<'p>, Error> {
        let first = pulse.while_waiting(|| coded.recv()).map_err(|_| Error::Stopped)?;
        let Coded::Start(video) = first else { return Err(Error::Stopped) };
        let mut known: Vec<Along> = match along.as_ref().map(|along| pulse.while_waiting(|| along.recv())) {
            None => Vec::new(),
            Some(Ok(Other::Start(known))) => known,
            Some(_) => return Err(Error::Stopped),
        };
        let video = OutputStream::Encoded { stream: *video, like: Some(self.like) };
        known.push(Along { input: self.video, stream: video });
        known.sort_by_key(|along| self.order.iter().position(|input| *input == along.input));
        let inputs: Vec<usize> = known.iter().map(|along| along.input).collect();
        let streams = Streams {
            streams: known.into_iter().map(|along| along.stream).collect(),
            headers: self.headers,
            cut: self.cut,
        };
        let mut sink = self.sink;
        sink.start(&streams)?;
        Ok(Muxing { sink, inputs, video: self.video, along, waiting: None, pulse })
    }
}

struct Muxing<'p> {
    sink: Box<dyn Sink>,
    /// Index in the source of each of the output's streams.
    inputs: Vec<usize>,
    video: usize,
    along: Option<Receiver<Other>>,
    /// A packet of another stream whose time has not come.
    waiting: Option<(Packet, usize, Rational)>,
    pulse: &'p Pulse,
}

impl Muxing<'_> {
    fn video(&mut self, packet: Packet, time_base: Rational) -> Result<(), Error> {
        let seconds = seconds(&packet, time_base);
        self.others_until(seconds)?;
        let stream = self.output_of(self.video)?;
        self.sink.write(packet, stream, time_base)
    }

    /// Writes packets of the other streams that are due; waits for them, for theirs is the turn.
    fn others_until(&mut self, due: Option<f64>) -> Result<(), Error> {
        loop {
            if self.waiting.is_none() {
                self.waiting = self.next_other()?;
            }
            let Some((packet, _, time_base)) = &self.waiting else { return Ok(()) };
            if let (Some(at), Some(due)) = (seconds(packet, *time_base), due)
                && at > due
            {
                return Ok(());
            }
            if let Some((packet, input, time_base)) = self.waiting.take() {
                let stream = self.output_of(input)?;
                self.sink.write(packet, stream, time_base)?;
            }
        }
    }

    fn rest(&mut self) -> Result<(), Error> {
        self.others_until(None)
    }

    fn next_other(&mut self) -> Result<Option<(Packet, usize, Rational)>, Error> {
        let Some(along) = &self.along else { return Ok(None) };
        match self.pulse.while_waiting(|| along.recv()).map_err(|_| Error::Stopped)? {
            Other::Packet { packet, input, time_base } => Ok(Some((packet, input, time_base))),
            Other::End => {
                self.along = None;
                Ok(None)
            }
            Other::Start(_) => Err(Error::Stopped),
        }
    }

    fn output_of(&self, input: usize) -> Result<usize, Error> {
        self.inputs.iter().position(|known| *known == input).ok_or(Error::Stopped)
    }
}

/// When a packet is due, in seconds from the start of the output.
fn seconds(packet: &Packet, time_base: Rational) -> Option<f64> {
    packet.dts().or(packet.pts()).map(|ticks| ticks as f64 * time_base.value())
}

/// The carried streams and the video, in the source's order.
fn order(rendition: &RenditionPlan) -> Vec<usize> {
    let kept = |fate: &Fate| fate.is_carried() || *fate == Fate::Encode;
    rendition.streams.iter().filter(|plan| kept(&plan.fate)).map(|plan| plan.stream.index).collect()
}
