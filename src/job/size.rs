//! A size target: what is left for the video of a file of a given size.
//!
//! Invariant: pure arithmetic over what was measured; nothing here looks at a file.

use crate::error::Refusal;
use crate::rate::{BitRate, ByteSize};

/// Bytes that a container adds, by how many packets it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Overhead {
    /// Once per file.
    file: f64,
    /// Per video packet.
    video: f64,
    /// Per packet of another stream.
    other: f64,
}

impl Overhead {
    /// What a container of libavformat's name adds, as its muxers write it.
    pub(crate) fn of(container: &str) -> Self {
        match container {
            "mp4" | "mov" | "ipod" | "3gp" => Overhead { file: 1800.0, video: 13.0, other: 6.0 },
            "matroska" | "webm" => Overhead { file: 1500.0, video: 9.0, other: 8.0 },
            // 188-byte packets with 4 bytes of header, PES headers and, on average, half a packet of stuffing.
            "mpegts" => Overhead { file: 2000.0, video: 130.0, other: 110.0 },
            _ => Overhead { file: 500.0, video: 12.0, other: 8.0 },
        }
    }

    fn bytes(&self, video_packets: u64, others: &Others) -> f64 {
        self.file + self.video * video_packets as f64 + self.other * others.packets as f64
    }
}

/// What the other streams take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Others {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// The least bit rate of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Least {
    pub(crate) rate: BitRate,
    /// Whether it is this video's, as its first pass lets it be estimated, and not any video's.
    pub(crate) estimated: bool,
}

impl Least {
    /// What the encoder takes, whatever the video.
    pub(crate) fn of_any(rate: BitRate) -> Self {
        Least { rate, estimated: false }
    }

    /// The same, or more, where the first pass says so.
    pub(crate) fn or_estimated(self, bits: Option<f64>, seconds: f64) -> Self {
        let estimated = bits.map(|bits| BitRate((bits / seconds.max(1e-3)).ceil() as u64));
        estimated.filter(|rate| *rate > self.rate).map_or(self, |rate| Least { rate, estimated: true })
    }
}

/// The video bit rate with which the whole file has `size` bytes.
///
/// # Errors
/// [`Refusal::Size`] where nothing, or less than `least`, is left for the video.
pub(crate) fn video_rate(
    size: ByteSize,
    others: Others,
    overhead: Overhead,
    video_packets: u64,
    seconds: f64,
    least: Least,
) -> Result<BitRate, Refusal> {
    let around = others.bytes as f64 + overhead.bytes(video_packets, &others);
    let bps = ((size.0 as f64 - around) * 8.0 / seconds.max(1e-3)).floor();
    let Least { rate, estimated } = least;
    if bps >= rate.0 as f64 {
        return Ok(BitRate(bps as u64));
    }
    let smallest = (around + rate.0 as f64 * seconds / 8.0).ceil();
    let (by, about) = if estimated { (", as its first pass lets it be estimated", "about ") } else { ("", "") };
    Err(Refusal::Size {
        wanted: size.0,
        why: format!(
            "audio, subtitles and container take {around:.0} bytes, and the video needs at least {rate} for \
             {seconds:.1} s{by}: the smallest is {about}{smallest:.0} bytes"
        ),
    })
}

/// What a second pass came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tried {
    /// The bit rate that it was given.
    pub(crate) rate: BitRate,
    /// Bytes of its video.
    pub(crate) video: u64,
    /// Bytes of the whole file.
    pub(crate) made: u64,
}

/// The bit rate for one more second pass, by what the last ones came to; `None` where the last is near enough, where it has
/// been tried often enough, or where it is not the bit rate that decides.
pub(crate) fn corrected(size: ByteSize, tried: &[Tried]) -> Option<BitRate> {
    let (last, earlier) = tried.split_last()?;
    if miss(size, last.made).abs() <= NEAR_ENOUGH || earlier.len() >= MOST_CORRECTIONS {
        return None;
    }
    let wanted = last.video as f64 + size.0 as f64 - last.made as f64;
    let proportional = last.rate.0 as f64 * wanted / (last.video as f64).max(1.0);
    // With two points there is a line, for what an encoder makes of a bit rate may grow faster or slower than that.
    let along = earlier.last().and_then(|before| {
        let slope = (last.video as f64 - before.video as f64) / (last.rate.0 as f64 - before.rate.0 as f64);
        (slope.is_normal() && slope > 0.0).then(|| last.rate.0 as f64 + (wanted - last.video as f64) / slope)
    });
    let rate = along.unwrap_or(proportional);
    let near = 1.0 / FARTHEST..=FARTHEST;
    near.contains(&(rate / last.rate.0 as f64)).then_some(BitRate(rate.round() as u64))
}

/// How far a file is from the size aimed at, as a share.
pub(crate) fn miss(size: ByteSize, made: u64) -> f64 {
    made as f64 / size.0 as f64 - 1.0
}

/// Why a size was missed, in words; `None` where it is near enough.
pub(crate) fn why_missed(size: ByteSize, made: u64, two_pass: bool, seconds: f64) -> Option<String> {
    let miss = miss(size, made);
    if miss.abs() <= NEAR_ENOUGH {
        return None;
    }
    let why = if !two_pass {
        "one pass spends its bits before it knows what comes; two passes meet a size"
    } else if seconds < SHORT_SECONDS {
        "a video as short as this gives the encoder little to even out"
    } else if miss > 0.0 {
        "the encoder did not come down to the bit rate that it was given: this is about the least it makes of this video"
    } else {
        "the encoder did not spend the bit rate that it was given: the video does not need this size"
    };
    let (percent, over) = (miss.abs() * 100.0, if miss > 0.0 { "over" } else { "under" });
    Some(format!("{percent:.1} % {over} what was asked for: {why}"))
}

/// A miss that is none.
const NEAR_ENOUGH: f64 = 0.01;
/// More are not worth their time: each comes much nearer, or none does.
const MOST_CORRECTIONS: usize = 3;
/// A video that took more than so many times its bits, or less than their part, does not follow its bit rate.
const FARTHEST: f64 = 2.0;
/// What is promised begins here.
const SHORT_SECONDS: f64 = 30.0;

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Least = Least { rate: BitRate(1000), estimated: false };

    #[test]
    fn audio_and_container_are_subtracted() {
        let others = Others { packets: 1000, bytes: 200_000 };
        let rate = video_rate(ByteSize(1_000_000), others, Overhead::of("mp4"), 240, 10.0, ANY).unwrap();
        assert_eq!(rate, BitRate(((1_000_000 - 200_000 - 1800 - 240 * 13 - 6000) * 8 / 10) as u64));
    }

    #[test]
    fn a_size_below_audio_is_refused_with_the_smallest() {
        let others = Others { packets: 0, bytes: 900_000 };
        let refusal = video_rate(ByteSize(800_000), others, Overhead::of("mp4"), 240, 10.0, ANY).unwrap_err();
        assert!(refusal.to_string().contains("the smallest is"), "{refusal}");
    }

    #[test]
    fn a_video_that_needs_more_is_refused_by_its_own_first_pass() {
        let least = ANY.or_estimated(Some(500_000.0), 10.0);
        assert_eq!(least, Least { rate: BitRate(50_000), estimated: true });
        assert_eq!(ANY.or_estimated(Some(500.0), 10.0), ANY);
        let refused = video_rate(ByteSize(50_000), Others::default(), Overhead::of("mp4"), 240, 10.0, least);
        let words = refused.unwrap_err().to_string();
        assert!(words.contains("estimated") && words.contains("the smallest is about 67420 bytes"), "{words}");
    }

    #[test]
    fn a_miss_is_corrected_by_what_the_video_can_give() {
        let size = ByteSize(1_000_000);
        let tried = |kilobits: u64, made: u64| Tried { rate: BitRate(kilobits * 1000), video: made - 200_000, made };
        assert_eq!(corrected(size, &[tried(800, 1_005_000)]), None);
        // 30 000 bytes too many, of 800 000 that the video took.
        let over = Tried { video: 800_000, ..tried(800, 1_030_000) };
        assert_eq!(corrected(size, &[over]), Some(BitRate(770_000)));
        assert_eq!(corrected(size, &[tried(800, 3_000_000)]), None, "it follows no bit rate");
        // A rate of 100 kb/s more gave 160 000 bytes more.
        let two = [tried(800, 880_000), tried(900, 1_040_000)];
        assert_eq!(corrected(size, &two), Some(BitRate(875_000)));
        let often = [tried(800, 880_000), tried(900, 1_040_000), tried(850, 950_000), tried(860, 960_000)];
        assert_eq!(corrected(size, &often), None);
    }
}
