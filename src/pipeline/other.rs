//! The stage that reads the streams which are not encoded: copies or transcodes them, or only counts them for a size target.
//!
//! Invariant: it has a demuxer of its own, in which the video is skipped, so that it can wait without anybody waiting for it.

use crossbeam_channel::Sender;

use crate::audio::AudioSpec;
use crate::av::Received;
use crate::av::audio::AudioTranscoder;
use crate::av::packet::Packet;
use crate::av::source::{Demuxer, Spool, StreamParameters};
use crate::av::subtitle::TextTranscoder;
use crate::error::Error;
use crate::event::Cancel;
use crate::frames::Damage;
use crate::job::{Fate, Others, Plan, RenditionPlan};
use crate::media::{Rational, StreamKind};
use crate::pipeline::watch::Pulse;
use crate::sink::OutputStream;
use crate::source::{Input, Marked};

/// What a mux stage is given of the other streams. A queue that closes without `End` was cut off.
pub(crate) enum Other {
    /// Every stream, before its first packet.
    Start(Vec<Along>),
    /// A packet, its times in ticks of `time_base` from the start of the output.
    Packet {
        packet: Packet,
        /// Index of its stream in the source.
        input: usize,
        time_base: Rational,
    },
    End,
}

/// A stream that goes along.
pub(crate) struct Along {
    /// Its index in the source.
    pub(crate) input: usize,
    pub(crate) stream: OutputStream,
}

/// What went along.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) others: Others,
    /// Packets marked as damaged, and decode errors of transcoded audio.
    pub(crate) damaged: u64,
}

pub(crate) struct OtherStage {
    input: Input,
    /// Of a pipe, what was read of it.
    spool: Option<Spool>,
    /// Index in the source, and what becomes of it.
    streams: Vec<(usize, Fate)>,
    global_header: bool,
    keep_damaged: bool,
    cancel: Cancel,
}

impl OtherStage {
    /// `None` where nothing goes along.
    pub(crate) fn new(
        plan: &Plan,
        rendition: &RenditionPlan,
        global_header: bool,
        spool: Option<Spool>,
        cancel: Cancel,
    ) -> Option<Self> {
        let carried = rendition.streams.iter().filter(|plan| plan.fate.is_carried());
        let streams: Vec<_> = carried.map(|plan| (plan.stream.index, plan.fate.clone())).collect();
        (!streams.is_empty()).then(|| OtherStage {
            input: plan.input.clone(),
            spool,
            streams,
            global_header,
            keep_damaged: plan.keep_damaged,
            cancel,
        })
    }

    pub(crate) fn run(self, out: Option<Sender<Other>>, pulse: &Pulse) -> Result<Tally, Error> {
        let mut demuxer = self.input.open_over(&self.cancel, self.spool.as_ref())?;
        demuxer.only(&self.streams.iter().map(|(index, _)| *index).collect::<Vec<_>>());
        let tracks = self.tracks(&demuxer)?;
        let along = tracks.iter().map(|track| self.along(track, &demuxer)).collect::<Result<Vec<_>, Error>>()?;
        let mut reading = Reading { out, tracks, tally: Tally::default(), pulse };
        reading.send(Other::Start(along))?;
        self.go_to_start(&mut demuxer)?;
        self.read(&mut demuxer, &mut reading)?;
        reading.finish()?;
        // Before anybody is told of the end, or the output would be finished.
        if reading.tally.damaged > 0 && !self.keep_damaged {
            let damage = Damage { other_streams: reading.tally.damaged, ..Damage::default() };
            return Err(Error::Damaged { path: self.input.path.clone(), what: damage.to_string() });
        }
        reading.send(Other::End)?;
        Ok(reading.tally)
    }

    fn tracks(&self, demuxer: &Demuxer) -> Result<Vec<Track>, Error> {
        let begins = self.input.begins(demuxer.info());
        let open = |(index, fate): &(usize, Fate)| {
            let failed = |source| self.failed("stream", source);
            let parameters = demuxer.stream(*index).map_err(failed)?;
            let time_base = parameters.time_base;
            let route = match fate {
                Fate::Transcode(spec) => Route::Transcode(self.transcoder(&parameters, spec)?),
                Fate::WebVtt => Route::Text(Box::new(TextTranscoder::open(&parameters)?)),
                _ => Route::Copy,
            };
            let ticks = |seconds: f64| (seconds / time_base.value()).round() as i64;
            let preroll = if let Route::Transcode(_) = route { ticks(PREROLL_SECONDS) } else { 0 };
            let start = ticks(begins);
            let kind = demuxer.info().streams.iter().find(|stream| stream.index == *index).map(|stream| stream.kind);
            let still = matches!(kind, Some(StreamKind::Cover | StreamKind::Attachment));
            Ok(Track { input: *index, route, start, preroll, time_base, still, over: still, marked: Marked::default() })
        };
        self.streams.iter().map(open).collect()
    }

    fn along(&self, track: &Track, demuxer: &Demuxer) -> Result<Along, Error> {
        let parameters = demuxer.stream(track.input).map_err(|source| self.failed("stream", source))?;
        let stream = match &track.route {
            Route::Copy => OutputStream::Copied(parameters),
            Route::Transcode(transcoder) => {
                OutputStream::Encoded { stream: transcoder.stream()?, like: Some(parameters) }
            }
            Route::Text(transcoder) => OutputStream::Encoded { stream: transcoder.stream()?, like: Some(parameters) },
        };
        Ok(Along { input: track.input, stream })
    }

    fn transcoder(&self, parameters: &StreamParameters, spec: &AudioSpec) -> Result<Box<AudioTranscoder>, Error> {
        let transcoder = AudioTranscoder::open(parameters, spec, self.global_header)?;
        Ok(Box::new(transcoder.until(self.input.length.map(|length| length.0))))
    }

    fn go_to_start(&self, demuxer: &mut Demuxer) -> Result<(), Error> {
        let transcodes = self.streams.iter().any(|(_, fate)| matches!(fate, Fate::Transcode(_)));
        let earlier = if transcodes { PREROLL_SECONDS } else { 0.0 };
        match self.input.start {
            Some(start) if start.0 > 0.0 => demuxer.seek(start.0 - earlier).or_else(|_| demuxer.rewind()),
            _ => Ok(()),
        }
    }

    fn read(&self, demuxer: &mut Demuxer, reading: &mut Reading<'_>) -> Result<(), Error> {
        let mut packet = Packet::new().map_err(|source| self.failed("packet", source))?;
        while !reading.tracks.iter().all(|track| track.over) || self.input.length.is_none() {
            reading.pulse.beat();
            match demuxer.read(&mut packet) {
                Ok(Received::Ready) => {}
                Err(error) if error == crate::av::INTERRUPTED => return Err(Error::Interrupted),
                // A read error was met by the video's reader too, which counts it.
                Ok(_) | Err(_) => return Ok(()),
            }
            let next = Packet::new().map_err(|source| self.failed("packet", source))?;
            let packet = std::mem::replace(&mut packet, next);
            reading.take(packet, self.input.start.is_some(), self.input.length.map(|length| length.0))?;
        }
        Ok(())
    }

    fn failed(&self, what: &str, source: crate::av::AvError) -> Error {
        Error::Decode { path: self.input.path.clone(), what: what.to_owned(), source }
    }
}

/// One stream under way.
struct Track {
    input: usize,
    route: Route,
    /// Ticks at which the output begins.
    start: i64,
    /// Ticks before that from which on packets are wanted.
    preroll: i64,
    time_base: Rational,
    /// A cover picture or an attachment: no place in time.
    still: bool,
    /// Whether the end of the wanted part has passed.
    over: bool,
    marked: Marked,
}

enum Route {
    Copy,
    Transcode(Box<AudioTranscoder>),
    Text(Box<TextTranscoder>),
}

struct Reading<'p> {
    out: Option<Sender<Other>>,
    tracks: Vec<Track>,
    tally: Tally,
    pulse: &'p Pulse,
}

impl Reading<'_> {
    /// Moves a packet to the output's time, cuts what lies outside the wanted part, and passes it on.
    fn take(&mut self, mut packet: Packet, cut_before: bool, length: Option<f64>) -> Result<(), Error> {
        let Some(track) = self.tracks.iter_mut().find(|track| track.input == packet.stream()) else { return Ok(()) };
        if !track.still {
            let moved = |ticks: Option<i64>| ticks.map(|ticks| ticks - track.start);
            let (pts, dts, duration) = (moved(packet.pts()), moved(packet.dts()), packet.duration());
            let at = pts.or(dts).unwrap_or(0);
            if cut_before && at + duration.max(1) <= -track.preroll {
                return Ok(());
            }
            if length.is_some_and(|length| at as f64 * track.time_base.value() >= length) {
                track.over = true;
                return Ok(());
            }
            track.marked.note(&packet);
            packet.set_times(pts, dts, duration);
        }
        let (input, time_base) = (track.input, track.time_base);
        match &mut track.route {
            Route::Copy => self.pass_on(packet, input, time_base),
            Route::Transcode(transcoder) => {
                transcoder.push(&packet)?;
                self.pull(input)
            }
            Route::Text(transcoder) => {
                let made = transcoder.convert(packet, time_base)?;
                let time_base = transcoder.time_base();
                made.map_or(Ok(()), |cue| self.pass_on(cue, input, time_base))
            }
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        for index in 0..self.tracks.len() {
            let track = &mut self.tracks[index];
            track.marked.end();
            self.tally.damaged += track.marked.count;
            match &mut track.route {
                Route::Copy => {}
                Route::Text(transcoder) => self.tally.damaged += transcoder.damaged(),
                Route::Transcode(transcoder) => {
                    transcoder.push_end()?;
                    self.tally.damaged += transcoder.damaged();
                    let input = track.input;
                    self.pull(input)?;
                }
            }
        }
        Ok(())
    }

    /// Passes on what the transcoder of this stream has ready.
    fn pull(&mut self, input: usize) -> Result<(), Error> {
        loop {
            let Some(Track { route: Route::Transcode(transcoder), .. }) =
                self.tracks.iter_mut().find(|track| track.input == input)
            else {
                return Ok(());
            };
            let mut packet = Packet::new().map_err(|_| Error::Stopped)?;
            if transcoder.pull(&mut packet)? != Received::Ready {
                return Ok(());
            }
            let time_base = transcoder.time_base();
            self.pass_on(packet, input, time_base)?;
        }
    }

    fn pass_on(&mut self, packet: Packet, input: usize, time_base: Rational) -> Result<(), Error> {
        self.tally.others.packets += 1;
        self.tally.others.bytes += packet.data().len() as u64;
        self.send(Other::Packet { packet, input, time_base })
    }

    fn send(&self, other: Other) -> Result<(), Error> {
        match &self.out {
            Some(out) => self.pulse.while_waiting(|| out.send(other)).map_err(|_| Error::Stopped),
            None => Ok(()),
        }
    }
}

/// How long before a cut a decoder of sound joins in, for its first frames lean on earlier ones: the greatest that a codec asks
/// for is Opus's 80 ms, and MP3 keeps bits for up to ten frames. What it makes of them is cut off to the sample.
const PREROLL_SECONDS: f64 = 0.5;
