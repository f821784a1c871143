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
    /// What a container of libavformat's name adds. Measured with its muxers: files of counted packets, less their payload
    /// (`the_overhead_of_containers_is_what_muxers_add` in tests/encode.rs).
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
    least: BitRate,
) -> Result<BitRate, Refusal> {
    let around = others.bytes as f64 + overhead.bytes(video_packets, &others);
    let bps = ((size.0 as f64 - around) * 8.0 / seconds.max(1e-3)).floor();
    if bps >= least.0 as f64 {
        return Ok(BitRate(bps as u64));
    }
    let smallest = around + least.0 as f64 * seconds / 8.0;
    Err(Refusal::Size {
        wanted: size.0,
        why: format!(
            "audio, subtitles and container take {around:.0} bytes, and the video needs at least {least} for {seconds:.1} s: \
             the smallest is {smallest:.0} bytes"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_and_container_are_subtracted() {
        let others = Others { packets: 1000, bytes: 200_000 };
        let rate = video_rate(ByteSize(1_000_000), others, Overhead::of("mp4"), 240, 10.0, BitRate(1000)).unwrap();
        assert_eq!(rate, BitRate(((1_000_000 - 200_000 - 1800 - 240 * 13 - 6000) * 8 / 10) as u64));
    }

    #[test]
    fn a_size_below_audio_is_refused_with_the_smallest() {
        let others = Others { packets: 0, bytes: 900_000 };
        let refusal = video_rate(ByteSize(800_000), others, Overhead::of("mp4"), 240, 10.0, BitRate(1000)).unwrap_err();
        assert!(refusal.to_string().contains("the smallest is"), "{refusal}");
    }
}
