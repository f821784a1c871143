//! What sound is to become, and its spelling: `aac:160k`, `opus:128k`, `flac`. Knows no libav type.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::Error;
use crate::rate::BitRate;

/// One way to encode sound.
#[derive(Debug, PartialEq, Eq)]
struct AudioCodec {
    /// What people write: a codec, or one encoder of it.
    name: &'static str,
    /// libavcodec's name of the codec.
    codec: &'static str,
    /// libavcodec's names of its encoders, best first; the first that is linked is taken.
    encoders: &'static [&'static str],
    /// Bits per second and channel where nothing is asked for; `None` for lossless codecs, which take no rate.
    bps_per_channel: Option<u64>,
    /// libavutil's names of the channel layouts to choose from; empty: the encoder's own, or any where it has none.
    layouts: &'static [&'static str],
}

/// A codec for sound, and its bit rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioSpec {
    codec: &'static AudioCodec,
    bitrate: Option<BitRate>,
}

impl AudioSpec {
    /// libavcodec's name of the codec, for instance `opus`.
    #[must_use]
    pub fn codec(&self) -> &'static str {
        self.codec.codec
    }

    /// libavcodec's names of encoders for it, best first.
    #[must_use]
    pub fn encoders(&self) -> &'static [&'static str] {
        self.codec.encoders
    }

    /// Bits per second for so many channels: what was asked for, else the codec's default; `None` for lossless codecs.
    #[must_use]
    pub fn bitrate(&self, channels: u32) -> Option<BitRate> {
        self.bitrate.or_else(|| self.codec.bps_per_channel.map(|bps| BitRate(bps * u64::from(channels.max(1)))))
    }

    /// libavutil's names of the channel layouts to choose from; empty: the encoder's own, or any where it has none.
    #[must_use]
    pub fn layouts(&self) -> &'static [&'static str] {
        self.codec.layouts
    }
}

impl FromStr for AudioSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, rate) = text.split_once(':').map_or((text, None), |(name, rate)| (name, Some(rate)));
        let usage = |why: String| Error::Usage { what: "audio codec", text: text.to_owned(), why };
        let codec = CODECS.iter().find(|codec| codec.name == name).ok_or_else(|| {
            let names: Vec<&str> = CODECS.iter().map(|codec| codec.name).collect();
            usage(format!(
                "expected a codec and its rate, like aac:160k, opus:128k or flac; known are {}",
                names.join(", ")
            ))
        })?;
        let bitrate = rate.map(str::parse).transpose()?;
        if bitrate.is_some() && codec.bps_per_channel.is_none() {
            return Err(usage(format!("{name} is lossless and takes no bitrate")));
        }
        Ok(AudioSpec { codec, bitrate })
    }
}

impl fmt::Display for AudioSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.codec.name)?;
        match self.bitrate {
            Some(BitRate(bps)) if bps % 1000 == 0 => write!(f, ":{}k", bps / 1000),
            Some(BitRate(bps)) => write!(f, ":{bps}"),
            None => Ok(()),
        }
    }
}

impl Serialize for AudioSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const LOSSY: AudioCodec =
    AudioCodec { name: "", codec: "", encoders: &[], bps_per_channel: Some(64_000), layouts: &[] };

const LOSSLESS: AudioCodec = AudioCodec { bps_per_channel: None, ..LOSSY };

/// The layouts that AAC has a number for. Others (`5.1(side)`) need a description inside the stream that many players
/// ignore (`aacenc.c`: "Using a PCE").
const AAC_LAYOUTS: &[&str] = &["mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1(wide)"];

/// The layouts that Vorbis and Opus define, by number of channels.
const VORBIS_LAYOUTS: &[&str] = &["mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"];

const AAC: AudioCodec = AudioCodec { name: "aac", codec: "aac", encoders: &["aac"], layouts: AAC_LAYOUTS, ..LOSSY };

const OPUS: AudioCodec =
    AudioCodec { name: "opus", codec: "opus", encoders: &["libopus"], layouts: VORBIS_LAYOUTS, ..LOSSY };

const MP3: AudioCodec = AudioCodec {
    name: "mp3",
    codec: "mp3",
    encoders: &["libmp3lame", "libshine"],
    bps_per_channel: Some(96_000),
    ..LOSSY
};

const VORBIS: AudioCodec =
    AudioCodec { name: "vorbis", codec: "vorbis", encoders: &["libvorbis"], layouts: VORBIS_LAYOUTS, ..LOSSY };

static CODECS: &[AudioCodec] = &[
    AAC,
    AudioCodec { name: "libfdk_aac", encoders: &["libfdk_aac"], ..AAC },
    OPUS,
    AudioCodec { name: "libopus", ..OPUS },
    MP3,
    AudioCodec { name: "libmp3lame", encoders: &["libmp3lame"], ..MP3 },
    VORBIS,
    AudioCodec { name: "libvorbis", ..VORBIS },
    AudioCodec { name: "ac3", codec: "ac3", encoders: &["ac3", "ac3_fixed"], bps_per_channel: Some(96_000), ..LOSSY },
    AudioCodec { name: "eac3", codec: "eac3", encoders: &["eac3"], bps_per_channel: Some(96_000), ..LOSSY },
    AudioCodec { name: "flac", codec: "flac", encoders: &["flac"], ..LOSSLESS },
    AudioCodec { name: "alac", codec: "alac", encoders: &["alac"], ..LOSSLESS },
    AudioCodec { name: "pcm_s16le", codec: "pcm_s16le", encoders: &["pcm_s16le"], ..LOSSLESS },
    AudioCodec { name: "pcm_s24le", codec: "pcm_s24le", encoders: &["pcm_s24le"], ..LOSSLESS },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["aac:160k", "opus:128k", "flac", "libmp3lame:192k", "ac3", "pcm_s16le", "aac:127999"] {
            assert_eq!(text.parse::<AudioSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_rate_not_asked_for_grows_with_the_channels() {
        let rate = |text: &str, channels| text.parse::<AudioSpec>().unwrap().bitrate(channels);
        assert_eq!(rate("aac", 2), Some(BitRate(128_000)));
        assert_eq!(rate("aac", 6), Some(BitRate(384_000)));
        assert_eq!(rate("aac:96k", 6), Some(BitRate(96_000)));
        assert_eq!(rate("flac", 6), None);
    }

    #[test]
    fn what_cannot_be_is_refused_with_an_example() {
        for text in ["", "AAC", "aac:", "aac:fast", "flac:128k", "mp9", ":128k", "aac:128k:2"] {
            assert!(matches!(text.parse::<AudioSpec>(), Err(Error::Usage { .. })), "{text}");
        }
    }
}
