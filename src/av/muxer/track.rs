//! One stream on its way into a container: its times are made to fit, and what passed is counted.

use ffmpeg_sys_next as ffi;
use serde::Serialize;

use crate::av::muxer::Container;
use crate::av::packet::Packet;
use crate::media::{Rational, StreamKind};

/// What one stream was given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tally {
    /// What it carries.
    pub kind: StreamKind,
    /// libavcodec's name of its codec.
    pub codec: String,
    /// Whether its packets are those of the source, and not ours.
    pub copied: bool,
    /// Whether its header promises a mastering display or a content light level.
    pub hdr: bool,
    /// Packets.
    pub packets: u64,
    /// Bytes of their payload.
    pub bytes: u64,
    /// Whether the first packet is one that a decoder can start at; `None` before the first.
    pub starts_with_key: Option<bool>,
    /// The earliest presentation time in seconds; `None` where no packet has a time.
    pub first_seconds: Option<f64>,
    /// The latest presentation time in seconds.
    pub last_seconds: Option<f64>,
    /// When the packet presented last ends, in seconds.
    pub end_seconds: Option<f64>,
}

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub fn new(kind: StreamKind, codec: String) -> Self {
        Tally {
            kind,
            codec,
            copied: false,
            hdr: false,
            packets: 0,
            bytes: 0,
            starts_with_key: None,
            first_seconds: None,
            last_seconds: None,
            end_seconds: None,
        }
    }

    /// Counts a packet, its times in ticks of `time_base`. One without data does not count: it only brings news of the
    /// stream (the checksum that FLAC ends with), and containers do not keep it as a packet.
    pub fn add(&mut self, packet: &Packet, time_base: Rational) {
        if packet.data().is_empty() {
            return;
        }
        self.packets += 1;
        self.bytes += packet.data().len() as u64;
        self.starts_with_key.get_or_insert(packet.is_key());
        let Some(shown) = packet.pts().or(packet.dts()) else { return };
        let begin = shown as f64 * time_base.value();
        let end = shown.saturating_add(packet.duration().max(0)) as f64 * time_base.value();
        self.first_seconds = Some(self.first_seconds.map_or(begin, |first| first.min(begin)));
        self.last_seconds = Some(self.last_seconds.map_or(begin, |last| last.max(begin)));
        self.end_seconds = Some(self.end_seconds.map_or(end, |latest| latest.max(end)));
    }

    /// Seconds from the first presentation time to the end of what is presented last.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        Some(self.end_seconds? - self.first_seconds?)
    }

    /// Seconds from the first to the last presentation time.
    #[must_use]
    pub fn span_seconds(&self) -> Option<f64> {
        Some(self.last_seconds? - self.first_seconds?)
    }
}

/// A stream's clock and counters. Times are in ticks of the container's time base.
pub(super) struct Track {
    pub(super) tally: Tally,
    time_base: Rational,
    keeps_times: bool,
    /// How far a decoding time must be above its predecessor; `None` where it need not be.
    step: Option<i64>,
    /// In which sample the last audio packet began: `av_rescale_delta`'s memory.
    rescaled: i64,
    last_dts: Option<i64>,
    /// When the next packet is decoded if it does not say so itself, in ticks of its source.
    next_dts: Option<i64>,
    /// How long the codec holds a picture back to reorder it: how far the first decoding time is before its picture's.
    delay_seconds: f64,
}

impl Track {
    pub(super) fn new(tally: Tally) -> Self {
        Track {
            tally,
            time_base: Rational::new(1, 1),
            keeps_times: true,
            step: None,
            rescaled: ffi::AV_NOPTS_VALUE,
            last_dts: None,
            next_dts: None,
            delay_seconds: 0.0,
        }
    }

    pub(super) fn kind(&self) -> StreamKind {
        self.tally.kind
    }

    /// The header is written: this is the clock from here on.
    pub(super) fn start(&mut self, container: &Container, stream: &ffi::AVStream, parameters: &ffi::AVCodecParameters) {
        self.time_base = stream.time_base.into();
        let rate = stream.avg_frame_rate;
        if rate.num > 0 && rate.den > 0 {
            self.delay_seconds = f64::from(parameters.video_delay) / Rational::from(rate).value();
        }
        self.keeps_times = container.keeps_times();
        let timed = matches!(self.kind(), StreamKind::Video | StreamKind::Audio | StreamKind::Subtitle);
        // A hidden VP9 frame shares its time with the frame that shows it, and must keep it when copied (ffmpeg_mux.c).
        let hidden = self.tally.copied && parameters.codec_id == ffi::AVCodecID::AV_CODEC_ID_VP9;
        let may_repeat = container.flags() & ffi::AVFMT_TS_NONSTRICT != 0;
        self.step = (timed && self.keeps_times && !hidden).then_some(i64::from(!may_repeat));
    }

    /// Whether a packet can be left out: no decoder can start with it. As the ffmpeg command line begins a copy.
    pub(super) fn leaves_out(&self, packet: &Packet) -> bool {
        self.tally.copied && self.tally.packets == 0 && !packet.is_key()
    }

    /// Brings a packet's times into the container's clock, makes them grow, and counts the packet. Says whether a time had
    /// to be moved or made up.
    pub(super) fn fit(&mut self, packet: &mut Packet, from: Rational, parameters: &mut ffi::AVCodecParameters) -> bool {
        let made_up = self.keeps_times && self.make_up(packet, from);
        if self.tally.copied && self.kind() == StreamKind::Audio && parameters.sample_rate > 0 {
            self.rescale_sound(packet, from, parameters);
        } else {
            packet.rescale(from, self.time_base);
        }
        let moved = self.keeps_times && self.make_grow(packet);
        self.tally.add(packet, self.time_base);
        made_up || moved
    }

    /// Gives a packet without a decoding time the one that the ffmpeg command line guesses: Matroska keeps none. In ticks of
    /// its source, so that it is rounded as the other times are.
    fn make_up(&mut self, packet: &mut Packet, from: Rational) -> bool {
        let delay = (self.delay_seconds / from.value()).round() as i64;
        let missing = packet.dts().is_none();
        let dts = packet.dts().or(self.next_dts).unwrap_or(packet.pts().unwrap_or(0) - delay);
        self.next_dts = Some(dts.saturating_add(packet.duration().max(0)));
        if missing {
            packet.set_times(packet.pts(), Some(dts), packet.duration());
        }
        missing
    }

    /// As the ffmpeg command line rescales copied sound: a container with coarse times (Matroska's milliseconds) is made
    /// exact again by counting samples.
    fn rescale_sound(&mut self, packet: &mut Packet, from: Rational, parameters: &mut ffi::AVCodecParameters) {
        let Some(dts) = packet.dts().or(packet.pts()) else { return packet.rescale(from, self.time_base) };
        // SAFETY: live parameters, only read.
        let samples = unsafe { ffi::av_get_audio_frame_duration2(parameters, packet.data().len() as i32) };
        let samples = if samples > 0 { samples } else { parameters.frame_size };
        let (one_sample, to) = (Rational::new(1, parameters.sample_rate), self.time_base);
        // SAFETY: plain arithmetic; the memory is ours, and the time is known.
        let dts = unsafe {
            let memory = &raw mut self.rescaled;
            ffi::av_rescale_delta(from.into(), dts, one_sample.into(), samples, memory, to.into())
        };
        packet.rescale(from, to);
        packet.set_times(Some(dts), Some(dts), packet.duration());
    }

    /// What the ffmpeg command line does before it hands a packet to a muxer (`mux_fixup_ts`).
    fn make_grow(&mut self, packet: &mut Packet) -> bool {
        let given = (packet.pts(), packet.dts());
        let (mut pts, mut dts) = given;
        if let (Some(shown), Some(decoded)) = given
            && decoded > shown
        {
            let middle = middle(shown, decoded, self.last_dts.map_or(i64::MIN, |last| last + 1));
            (pts, dts) = (Some(middle), Some(middle));
        }
        if let (Some(step), Some(last), Some(decoded)) = (self.step, self.last_dts, dts)
            && decoded < last + step
        {
            pts = pts.map(|shown| if shown >= decoded { shown.max(last + step) } else { shown });
            dts = Some(last + step);
        }
        self.last_dts = dts.or(self.last_dts);
        if (pts, dts) == given {
            return false;
        }
        packet.set_times(pts, dts, packet.duration());
        true
    }
}

/// The middle one of three.
fn middle(a: i64, b: i64, c: i64) -> i64 {
    a.max(b).min(a.min(b).max(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_three_is_found_in_any_order() {
        for (a, b, c) in [(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1)] {
            assert_eq!(middle(a, b, c), 2, "{a} {b} {c}");
        }
        assert_eq!(middle(5, 9, i64::MIN), 5);
    }
}
