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
    /// What of it could not be read.
    pub(crate) damage: Damage,
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
    /// The other stages' failure, where no queue tells of it.
    failed: Option<Cancel>,
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
            failed: None,
        })
    }

    /// Ends early with [`Error::Stopped`] when `failed`, a child of the stage's own [`Cancel`], is stopped.
    pub(crate) fn unless(mut self, failed: Cancel) -> Self {
        self.failed = Some(failed);
        self
    }

    pub(crate) fn run(self, out: Option<Sender<Other>>, pulse: &Pulse) -> Result<Tally, Error> {
        let interrupt = self.failed.as_ref().unwrap_or(&self.cancel);
        let mut demuxer =
            self.input.open_over(interrupt, self.spool.as_ref()).map_err(|error| self.unless_failed(error))?;
        demuxer.only(&self.streams.iter().map(|(index, _)| *index).collect::<Vec<_>>());
        let tracks = self.tracks(&demuxer)?;
        let along = tracks.iter().map(|track| self.along(track, &demuxer)).collect::<Result<Vec<_>, Error>>()?;
        let mut reading = Reading { out, tracks, latest: 0.0, tally: Tally::default(), pulse };
        reading.send(Other::Start(along))?;
        self.go_to_start(&mut demuxer)?;
        self.read(&mut demuxer, &mut reading)?;
        reading.finish()?;
        // Before anybody is told of the end, or the output would be finished.
        let damage = reading.tally.damage;
        if damage.any() && !self.keep_damaged {
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
            let regular = kind == Some(StreamKind::Audio);
            let (over, marked) = (still, Marked::default());
            Ok(Track { input: *index, route, start, preroll, time_base, still, regular, over, marked })
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
        while self.input.length.is_none_or(|length| !reading.is_over(length.0)) {
            match demuxer.read(&mut packet) {
                Ok(Received::Ready) => reading.pulse.beat(),
                // Asked again, it looks whether to stop.
                Ok(Received::NeedInput) => continue,
                Ok(Received::Done) => return Ok(()),
                Err(error) if error == crate::av::INTERRUPTED => return Err(self.unless_failed(Error::Interrupted)),
                Err(_) => {
                    if let Some(error) = demuxer.keeping_failed() {
                        return Err(error);
                    }
                    // The video's reader may never come by here: in MP4 it skips what is not its own.
                    reading.tally.damage.read_errors += 1;
                    return Ok(());
                }
            }
            let next = Packet::new().map_err(|source| self.failed("packet", source))?;
            let packet = std::mem::replace(&mut packet, next);
            reading.take(packet, self.input.start.is_some(), self.input.length.map(|length| length.0))?;
        }
        Ok(())
    }

    /// The error, or that it is only the echo of another stage's.
    fn unless_failed(&self, error: Error) -> Error {
        let echo = self.failed.as_ref().is_some_and(Cancel::is_stopped) && !self.cancel.is_stopped();
        if echo { Error::Stopped } else { error }
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
    /// Whether its packets come without pauses, as sound's do.
    regular: bool,
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
    /// The latest time of a packet, in seconds of the output.
    latest: f64,
    tally: Tally,
    pulse: &'p Pulse,
}

impl Reading<'_> {
    /// Whether no packet of the first `length` seconds can come any more. Subtitles may be silent for the rest of the file:
    /// those that come now and then are over when the others are, and the file has gone on for a while.
    fn is_over(&self, length: f64) -> bool {
        let (mut regular, mut all) = (self.tracks.iter().filter(|track| track.regular), self.tracks.iter());
        all.all(|track| track.over) || regular.all(|track| track.over) && self.latest >= length + INTERLEAVED_SECONDS
    }

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
            let seconds = at as f64 * track.time_base.value();
            self.latest = self.latest.max(seconds);
            if length.is_some_and(|length| seconds >= length) {
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
            self.tally.damage.other_streams += track.marked.count;
            match &mut track.route {
                Route::Copy => {}
                Route::Text(transcoder) => self.tally.damage.other_streams += transcoder.damaged(),
                Route::Transcode(transcoder) => {
                    transcoder.push_end()?;
                    self.tally.damage.other_streams += transcoder.damaged();
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
            let mut packet = Packet::new().map_err(Error::no_memory("a packet"))?;
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

/// How far apart in time packets of different streams may stand in a file: what libavformat's own muxers hold back at most
/// (`max_interleave_delta`).
const INTERLEAVED_SECONDS: f64 = 10.0;

/// How long before a cut a decoder of sound joins in, for its first frames lean on earlier ones: the greatest that a codec asks
/// for is Opus's 80 ms, and MP3 keeps bits for up to ten frames. What it makes of them is cut off to the sample.
const PREROLL_SECONDS: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Stage;

    #[test]
    fn subtitles_that_are_silent_do_not_keep_a_part_from_ending() {
        let track = |regular, over| Track {
            input: 0,
            route: Route::Copy,
            start: 0,
            preroll: 0,
            time_base: Rational::new(1, 1000),
            still: false,
            regular,
            over,
            marked: Marked::default(),
        };
        let (sound, subtitles) = (true, false);
        for (tracks, latest, ends) in [
            (vec![track(sound, true), track(subtitles, true)], 60.0, true),
            (vec![track(sound, true), track(subtitles, false)], 60.0, false),
            (vec![track(sound, true), track(subtitles, false)], 70.0, true),
            // Subtitles may stand long before the sound of their time.
            (vec![track(sound, false), track(subtitles, true)], 3600.0, false),
            (vec![track(subtitles, false), track(subtitles, true)], 65.0, false),
            (vec![track(subtitles, false), track(subtitles, true)], 70.0, true),
        ] {
            let pulse = Pulse::new(Stage::Other(0));
            let reading = Reading { out: None, tracks, latest, tally: Tally::default(), pulse: &pulse };
            assert_eq!(reading.is_over(60.0), ends, "{latest}");
        }
    }
}
