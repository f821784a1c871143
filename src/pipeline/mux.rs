//! The stage that writes: video packets from one encoder or several, and the other streams up to the time of the video.
//!
//! Invariants: packets of different encoders leave in the order of their decoding times, and no encoder waits for another's;
//! a packet of another stream is asked for only when its time has come, so nothing piles up; output is completed only when
//! all sides have said End.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Select};

use crate::av::muxer::Cut;
use crate::av::packet::Packet;
use crate::av::source::{FileHeaders, StreamParameters};
use crate::error::Error;
use crate::frames::FrameSource;
use crate::job::{Fate, Plan, RenditionPlan};
use crate::media::Rational;
use crate::pipeline::encode::Coded;
use crate::pipeline::other::{Along, Other};
use crate::pipeline::watch::Pulse;
use crate::sink::{OutputStream, Sink, Streams};

pub(crate) struct MuxStage {
    sink: Box<dyn Sink>,
    /// Indices of the carried streams in the source, in the order in which the output has them. A file has its video among
    /// them, at the video's index; a package has all its videos first.
    order: Vec<usize>,
    /// The source's video stream, and what it says of itself; once for each encoder.
    video: usize,
    like: Vec<Option<StreamParameters>>,
    headers: FileHeaders,
    cut: Cut,
}

impl MuxStage {
    /// A stage that writes to `sink` what so many encoders make, the other streams as this rendition has them.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn new(
        plan: &Plan,
        rendition: &RenditionPlan,
        encoders: usize,
        sink: Box<dyn Sink>,
        source: &dyn FrameSource,
    ) -> Result<Self, Error> {
        let video = plan.source.video.index;
        let mut order = carried(rendition);
        if plan.packages.iter().any(|package| package.manifest == rendition.output) {
            // Stable: the others stay as they are.
            order.sort_by_key(|index| *index != video);
        }
        Ok(MuxStage {
            sink,
            order,
            video,
            like: (0..encoders).map(|_| source.stream()).collect::<Result<_, _>>()?,
            headers: source.headers(),
            cut: Cut {
                from_seconds: plan.input.begins(&plan.source),
                length_seconds: plan.input.length.map(|length| length.0),
            },
        })
    }

    /// Returns the sink complete, and not yet under its final name.
    pub(crate) fn run(
        self,
        coded: Vec<Receiver<Coded>>,
        along: Option<Receiver<Other>>,
        pulse: &Pulse,
    ) -> Result<Box<dyn Sink>, Error> {
        let mut muxing = self.start(coded, along, pulse)?;
        while !muxing.write_what_is_due()? {
            muxing.take_one()?;
        }
        muxing.others_until(None)?;
        muxing.sink.seal(&|| pulse.beat())?;
        Ok(muxing.sink)
    }

    /// Waits until every stream is known, and tells the sink. Every encoder opens on the first frame, which all get before
    /// any gets the second, so waiting for one after the other holds nobody up.
    fn start<'p>(
        self,
        coded: Vec<Receiver<Coded>>,
        along: Option<Receiver<Other>>,
        pulse: &'p Pulse,
    ) -> Result<Muxing<'p>, Error> {
        let mut known: Vec<(Place, OutputStream)> = Vec::new();
        for (number, (coded, like)) in coded.iter().zip(self.like).enumerate() {
            let first = pulse.while_waiting(|| coded.recv()).map_err(|_| Error::Stopped)?;
            let Coded::Start(stream) = first else { return Err(Error::Stopped) };
            known.push((Place::Video(number), OutputStream::Encoded { stream: *stream, like }));
        }
        let others = match along.as_ref().map(|along| pulse.while_waiting(|| along.recv())) {
            None => Vec::new(),
            Some(Ok(Other::Start(known))) => known,
            Some(_) => return Err(Error::Stopped),
        };
        known.extend(others.into_iter().map(|Along { input, stream }| (Place::Other(input), stream)));
        let input_of = |place: &Place| match place {
            Place::Video(_) => self.video,
            Place::Other(input) => *input,
        };
        known.sort_by_key(|(place, _)| self.order.iter().position(|input| *input == input_of(place)));
        let (places, streams) = known.into_iter().unzip();
        let streams = Streams { streams, headers: self.headers, cut: self.cut };
        let mut sink = self.sink;
        sink.start(&streams)?;
        let videos = coded.into_iter().map(|coded| Video { coded: Some(coded), waiting: VecDeque::new() }).collect();
        Ok(Muxing { sink, places, videos, along, other: None, pulse })
    }
}

/// Whose an output stream is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// The encoder's of this number.
    Video(usize),
    /// The source's stream of this index.
    Other(usize),
}

/// What comes from one encoder.
struct Video {
    /// `None` once it has said End.
    coded: Option<Receiver<Coded>>,
    /// Packets that wait for those of a slower encoder: as many as the two encoders' delays differ.
    waiting: VecDeque<(Packet, Rational)>,
}

struct Muxing<'p> {
    sink: Box<dyn Sink>,
    /// Whose each of the output's streams is.
    places: Vec<Place>,
    videos: Vec<Video>,
    along: Option<Receiver<Other>>,
    /// A packet of another stream whose time has not come.
    other: Option<(Packet, usize, Rational)>,
    pulse: &'p Pulse,
}

impl Muxing<'_> {
    /// Writes while every encoder has something to show; says whether all have ended.
    fn write_what_is_due(&mut self) -> Result<bool, Error> {
        while self.videos.iter().all(|video| video.coded.is_none() || !video.waiting.is_empty()) {
            let first = |video: &Video| video.waiting.front().and_then(|(packet, base)| seconds(packet, *base));
            let next = (0..self.videos.len()).filter(|number| !self.videos[*number].waiting.is_empty()).min_by(
                |one, other| {
                    let (one, other) = (first(&self.videos[*one]), first(&self.videos[*other]));
                    one.unwrap_or(f64::MIN).total_cmp(&other.unwrap_or(f64::MIN))
                },
            );
            let Some(number) = next else { return Ok(true) };
            if let Some((packet, time_base)) = self.videos[number].waiting.pop_front() {
                self.others_until(seconds(&packet, time_base))?;
                self.write(packet, Place::Video(number), time_base)?;
            }
        }
        Ok(false)
    }

    /// Waits for whichever encoder has something first.
    fn take_one(&mut self) -> Result<(), Error> {
        let number = if self.videos.len() == 1 { 0 } else { self.pulse.while_waiting(|| first_ready(&self.videos)) };
        let Some(coded) = &self.videos[number].coded else { return Err(Error::Stopped) };
        match self.pulse.while_waiting(|| coded.recv()).map_err(|_| Error::Stopped)? {
            Coded::Packet(packet, time_base) => self.videos[number].waiting.push_back((packet, time_base)),
            Coded::Start(_) => return Err(Error::Stopped),
            Coded::End => self.videos[number].coded = None,
        }
        Ok(())
    }

    /// Writes packets of the other streams that are due; waits for them, for theirs is the turn.
    fn others_until(&mut self, due: Option<f64>) -> Result<(), Error> {
        loop {
            if self.other.is_none() {
                self.other = self.next_other()?;
            }
            let Some((packet, _, time_base)) = &self.other else { return Ok(()) };
            if let (Some(at), Some(due)) = (seconds(packet, *time_base), due)
                && at > due
            {
                return Ok(());
            }
            if let Some((packet, input, time_base)) = self.other.take() {
                self.write(packet, Place::Other(input), time_base)?;
            }
        }
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

    fn write(&mut self, packet: Packet, place: Place, time_base: Rational) -> Result<(), Error> {
        let stream = self.places.iter().position(|known| *known == place).ok_or(Error::Stopped)?;
        self.sink.write(packet, stream, time_base)
    }
}

/// Which of several encoders has something, or has gone; one that has said End has nothing.
fn first_ready(videos: &[Video]) -> usize {
    let open = || videos.iter().enumerate().filter_map(|(number, video)| Some((number, video.coded.as_ref()?)));
    let mut select = Select::new();
    for (_, coded) in open() {
        select.recv(coded);
    }
    let ready = select.ready();
    open().nth(ready).map_or(0, |(number, _)| number)
}

/// When a packet is due, in seconds from the start of the output.
fn seconds(packet: &Packet, time_base: Rational) -> Option<f64> {
    packet.dts().or(packet.pts()).map(|ticks| ticks as f64 * time_base.value())
}

/// The carried streams and the video, in the source's order.
fn carried(rendition: &RenditionPlan) -> Vec<usize> {
    let kept = |fate: &Fate| fate.is_carried() || *fate == Fate::Encode;
    rendition.streams.iter().filter(|plan| kept(&plan.fate)).map(|plan| plan.stream.index).collect()
}
