//! Rate targets and their spelling: bit rates, sizes, times, and what an encode aims at.
//!
//! Invariant: `k`, `M` and `G` are decimal, as ffmpeg and the field read them; `Ki`, `Mi` and `Gi` are binary.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::quality::Metric;

/// What an encode aims at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A constant quality, on the encoder's own scale (x264: CRF 0 to 51, lower is better; see the adapter's knob).
    Quality(f64),
    /// An average bit rate of the video stream.
    Average(BitRate),
    /// A size of the whole file: audio, subtitles and container included.
    Size(ByteSize),
    /// A quality that every segment of a session is to have, as it is measured.
    Measured(QualityTarget),
}

impl Target {
    /// Whether rate control follows a bit rate: an average, or one computed from a size.
    #[must_use]
    pub fn is_bitrate(&self) -> bool {
        !matches!(self, Target::Quality(_) | Target::Measured(_))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Quality(level) => write!(f, "quality {level}"),
            Target::Average(rate) => write!(f, "{rate}"),
            Target::Size(size) => write!(f, "a file of {size}"),
            Target::Measured(quality) => write!(f, "{quality}"),
        }
    }
}

/// A quality as it is measured: the mean over a segment's frames. Reads `vmaf=95`, `psnr=40.5`, with the metric's own
/// tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct QualityTarget {
    /// By what.
    pub metric: Metric,
    /// The value, in the metric's unit.
    pub value: f64,
    /// How far from it is near enough, in the metric's unit; above 0.
    pub tolerance: f64,
    /// The average bit rate that the whole stays under, where it has one.
    pub at_most: Option<BitRate>,
}

impl FromStr for QualityTarget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused =
            || usage("quality", text, "expected a metric and a value, like vmaf=95, xpsnr=40, ssim=0.98 or psnr=42");
        let (metric, value) = text.split_once('=').ok_or_else(refused)?;
        let metric: Metric = metric.parse()?;
        let value = decimal(value).ok_or_else(refused)?;
        Ok(QualityTarget { metric, value, tolerance: metric.tolerance(), at_most: None })
    }
}

impl fmt::Display for QualityTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QualityTarget { metric, value, tolerance, at_most } = self;
        write!(f, "{} {value}", metric.title())?;
        if !metric.unit().is_empty() {
            write!(f, " {}", metric.unit())?;
        }
        write!(f, " ± {tolerance}")?;
        at_most.map_or(Ok(()), |rate| write!(f, ", at most {rate}"))
    }
}

/// A cap on the rate at every moment: the video buffering verifier's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cap {
    /// The peak rate.
    pub max: BitRate,
    /// The size of the decoder's buffer in bits; `--bufsize 8M` is 8,000,000 bits.
    pub buffer: BitRate,
}

/// Bits per second, or a number of bits (`bufsize`); at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct BitRate(pub u64);

impl FromStr for BitRate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        quantity(text)
            .filter(|bps| *bps >= 1)
            .map(BitRate)
            .ok_or_else(|| usage("bitrate", text, "expected bits per second, like 4M, 2500k or 800000"))
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bps if bps >= 10_000_000 => write!(f, "{:.1} Mb/s", bps as f64 / 1e6),
            bps if bps >= 10_000 => write!(f, "{:.0} kb/s", bps as f64 / 1e3),
            bps => write!(f, "{bps} b/s"),
        }
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        quantity(text.strip_suffix('B').unwrap_or(text))
            .map(ByteSize)
            .ok_or_else(|| usage("size", text, "expected bytes, like 700M (decimal), 4Gi (binary) or 1500000"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1_000_000_000 => write!(f, "{:.2} GB", bytes as f64 / 1e9),
            bytes if bytes >= 1_000_000 => write!(f, "{:.1} MB", bytes as f64 / 1e6),
            bytes if bytes >= 1_000 => write!(f, "{:.1} kB", bytes as f64 / 1e3),
            bytes => write!(f, "{bytes} B"),
        }
    }
}

/// A point in time or a length, in seconds; never negative, and at most a billion where it is read. Reads `90`, `1:30`, `0:01:30.5`, `1500ms`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Seconds(pub f64);

impl Seconds {
    /// The same as a length: none where it is below zero or no number, and at most [`LONGEST`].
    pub(crate) fn duration(self) -> Duration {
        Duration::try_from_secs_f64(self.0.clamp(0.0, LONGEST)).unwrap_or_default()
    }
}

impl FromStr for Seconds {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        clock(text)
            .map(Seconds)
            .ok_or_else(|| usage("time", text, "expected seconds or a clock, like 90, 12.5, 1:30 or 0:01:30.5"))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.0)
    }
}

/// Distance of key frames: a number of frames, or a time that becomes one at the video's frame rate. Reads `48`, `2s`,
/// `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GopLength {
    /// Frames; at least 1.
    Frames(u32),
    /// Seconds; above 0.
    Seconds(f64),
}

impl GopLength {
    /// The distance in frames at `fps` frames per second; at least 1.
    #[must_use]
    pub fn frames(self, fps: f64) -> u32 {
        match self {
            GopLength::Frames(frames) => frames.max(1),
            GopLength::Seconds(seconds) => (seconds * fps).round().max(1.0) as u32,
        }
    }
}

impl FromStr for GopLength {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let frames = text.parse::<u32>().ok().filter(|frames| *frames > 0).map(GopLength::Frames);
        let timed = || text.strip_suffix('s').and_then(|_| clock(text)).filter(|seconds| *seconds > 0.0);
        frames.or_else(|| timed().map(GopLength::Seconds)).ok_or_else(|| {
            usage("key frame distance", text, "expected a time, like 2s or 500ms, or a number of frames, like 48")
        })
    }
}

fn usage(what: &'static str, text: &str, why: &str) -> Error {
    Error::Usage { what, text: text.to_owned(), why: why.to_owned() }
}

/// Reads `1.5M`, `700k`, `4Gi`; `None` for anything else, including what overflows 64 bits.
fn quantity(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: f64 = match &text[digits.len()..] {
        "" => 1.0,
        "k" | "K" => 1e3,
        "m" | "M" => 1e6,
        "g" | "G" => 1e9,
        "t" | "T" => 1e12,
        "Ki" | "ki" => f64::from(1 << 10),
        "Mi" => f64::from(1 << 20),
        "Gi" => f64::from(1 << 30),
        "Ti" => 1024.0 * f64::from(1 << 30),
        _ => return None,
    };
    let number = decimal(digits)? * factor;
    (number.round() < u64::MAX as f64).then(|| number.round() as u64)
}

/// A plain non-negative decimal: digits and at most one point. `f64::from_str` alone also takes `inf`, `1e9` and signs.
fn decimal(digits: &str) -> Option<f64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (plain && digits.bytes().any(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

fn clock(text: &str) -> Option<f64> {
    seconds(text).filter(|seconds| *seconds <= LONGEST)
}

fn seconds(text: &str) -> Option<f64> {
    if let Some(milliseconds) = text.strip_suffix("ms") {
        return decimal(milliseconds).map(|number| number / 1e3);
    }
    let text = text.strip_suffix('s').unwrap_or(text);
    let parts: Vec<f64> = text.split(':').map(decimal).collect::<Option<_>>()?;
    let (smaller, larger) = parts.split_last()?;
    if parts.len() > 3 || (parts.len() > 1 && *smaller >= 60.0) || larger.iter().skip(1).any(|part| *part >= 60.0) {
        return None;
    }
    Some(larger.iter().fold(0.0, |sum, part| (sum + part) * 60.0) + smaller)
}

/// Thirty years of seconds: what is more is a mistake, and would overflow where it is counted in something smaller.
const LONGEST: f64 = 1e9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_ffmpeg_reads_them() {
        for (text, bps) in [("4M", 4_000_000), ("2.5M", 2_500_000), ("800k", 800_000), ("1234", 1234), ("1Mi", 1 << 20)]
        {
            assert_eq!(text.parse::<BitRate>().unwrap(), BitRate(bps), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_an_example() {
        for text in ["", "M", "4Q", "-1", "1e6", "inf", "NaN", "0", "4 M", "99999999999999G", "٣k", "1.2.3"] {
            let error = text.parse::<BitRate>().unwrap_err();
            assert!(error.to_string().contains("like 4M"), "{text}: {error}");
        }
    }

    #[test]
    fn a_quality_is_a_metric_and_a_value() {
        let quality: QualityTarget = "vmaf=95".parse().unwrap();
        assert_eq!((quality.metric, quality.value, quality.tolerance), (Metric::Vmaf, 95.0, 0.5));
        assert_eq!("psnr=40.5".parse::<QualityTarget>().unwrap().to_string(), "PSNR 40.5 dB ± 0.3");
        for text in ["95", "vmaf", "vmaf=", "vmaf=high", "vmaf=-3", "mse=4", "=95"] {
            assert!(text.parse::<QualityTarget>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_read_as_seconds_or_a_clock() {
        for (text, seconds) in
            [("90", 90.0), ("12.5", 12.5), ("1:30", 90.0), ("0:01:30.5", 90.5), ("1500ms", 1.5), ("5s", 5.0)]
        {
            assert_eq!(text.parse::<Seconds>().unwrap(), Seconds(seconds), "{text}");
        }
        for text in ["", ":", "1:2:3:4", "1:75", "-3", "1:-3", "abc", "99999999999999999999", "300000:00:00"] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_length_that_is_none_does_not_panic() {
        for (seconds, length) in [(-1.0, 0), (f64::NEG_INFINITY, 0), (2.0, 2), (f64::INFINITY, 1_000_000_000)] {
            assert_eq!(Seconds(seconds).duration(), Duration::from_secs(length), "{seconds}");
        }
        assert_eq!(Seconds(f64::NAN).duration(), Duration::ZERO);
    }

    #[test]
    fn a_gop_is_a_time_only_with_a_unit() {
        for (text, gop) in
            [("48", GopLength::Frames(48)), ("2s", GopLength::Seconds(2.0)), ("500ms", GopLength::Seconds(0.5))]
        {
            assert_eq!(text.parse::<GopLength>().unwrap(), gop, "{text}");
        }
        for text in ["0", "0s", "", "s", "2.5", "-1", "1:30"] {
            assert!(text.parse::<GopLength>().is_err(), "{text}");
        }
        assert_eq!(GopLength::Seconds(2.0).frames(24000.0 / 1001.0), 48);
    }

    #[test]
    fn sizes_are_decimal_unless_they_say_binary() {
        assert_eq!("700M".parse::<ByteSize>().unwrap(), ByteSize(700_000_000));
        assert_eq!("4GiB".parse::<ByteSize>().unwrap(), ByteSize(4 << 30));
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,12}") {
            let _ = text.parse::<BitRate>();
            let _ = text.parse::<ByteSize>();
            let _ = text.parse::<Seconds>();
        }
    }
}
