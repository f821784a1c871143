//! Sessions of VideoToolbox itself: which of Apple's properties a plan's settings stand for, or why there is none.

use std::fmt;
use std::num::NonZeroU8;

use serde::Serialize;

use super::{Origin, PlannedSetting};
use crate::adapter::{Adapter, Because, PassModel, with_sessions};
use crate::error::Refusal;
use crate::media::Rational;
use crate::rate::Target;

/// VideoToolbox's own session with several passes, around libavcodec.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NativePlan {
    /// What it makes.
    pub codec: Codec,
    /// The greatest number of passes.
    pub most_passes: NonZeroU8,
    /// Properties to be set before the first frame is known; with `true` those that the session must have.
    pub properties: Vec<(Property, bool)>,
}

/// A codec that VideoToolbox encodes in several passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// H.264.
    H264,
    /// HEVC.
    Hevc,
}

/// A property of a compression session, with its value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Property {
    /// The storage that was created before: switches further passes on.
    MultiPassStorage,
    /// Whether frames must not come out later than they come in.
    RealTime(bool),
    /// Bits per second over the whole.
    AverageBitRate(i64),
    /// Frames per second.
    ExpectedFrameRate(f64),
    /// Longest distance of key frames, in frames.
    MaxKeyFrameInterval(i32),
    /// Whether B-frames may be used.
    AllowFrameReordering(bool),
    /// Whether a group of pictures may lean on the one before.
    AllowOpenGop(bool),
    /// Whether speed comes before quality.
    PrioritizeSpeed(bool),
    /// The profile, at the level that the encoder chooses.
    ProfileLevel(Profile),
    /// Shape of a pixel, width to height.
    PixelAspectRatio(Rational),
    /// Colour primaries, as ITU-T H.273 numbers them.
    ColorPrimaries(i32),
    /// Transfer function, as ITU-T H.273 numbers them.
    TransferFunction(i32),
    /// Matrix, as ITU-T H.273 numbers them.
    YCbCrMatrix(i32),
    /// Mastering display: the payload of HEVC's SEI message.
    MasteringDisplay([u8; 24]),
    /// Content light level: the payload of HEVC's SEI message.
    ContentLight([u8; 4]),
}

/// A profile of H.264 or HEVC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// H.264 Baseline.
    Baseline,
    /// H.264 or HEVC Main.
    Main(Codec),
    /// H.264 High.
    High,
    /// HEVC Main 10.
    Main10,
}

impl Property {
    /// Apple's name of it, without `kVTCompressionPropertyKey_`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Property::MultiPassStorage => "MultiPassStorage",
            Property::RealTime(_) => "RealTime",
            Property::AverageBitRate(_) => "AverageBitRate",
            Property::ExpectedFrameRate(_) => "ExpectedFrameRate",
            Property::MaxKeyFrameInterval(_) => "MaxKeyFrameInterval",
            Property::AllowFrameReordering(_) => "AllowFrameReordering",
            Property::AllowOpenGop(_) => "AllowOpenGOP",
            Property::PrioritizeSpeed(_) => "PrioritizeEncodingSpeedOverQuality",
            Property::ProfileLevel(_) => "ProfileLevel",
            Property::PixelAspectRatio(_) => "PixelAspectRatio",
            Property::ColorPrimaries(_) => "ColorPrimaries",
            Property::TransferFunction(_) => "TransferFunction",
            Property::YCbCrMatrix(_) => "YCbCrMatrix",
            Property::MasteringDisplay(_) => "MasteringDisplayColorVolume",
            Property::ContentLight(_) => "ContentLightLevelInfo",
        }
    }
}

/// Why VideoToolbox's own session with several passes is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotNative {
    /// Another operating system.
    #[error("VideoToolbox is a part of macOS, and this is another system")]
    OtherSystem,
    /// VideoToolbox does not encode it.
    #[error("VideoToolbox has no encoder for {0}")]
    NoEncoder(&'static str),
    /// ProRes: every frame stands alone.
    #[error("every ProRes frame stands alone at the quality of its profile, so no pass has anything to say to another")]
    IntraOnly,
    /// A constant quality.
    #[error("its passes distribute bits, and a constant quality has none to distribute; use -b")]
    ConstantQuality,
    /// A measured quality.
    #[error("its encoder says itself what comes again, and knows of no quality that is measured; use -b")]
    MeasuredQuality,
    /// A cap on the data rate.
    #[error(
        "no document says that limits of the data rate hold over several passes; leave out --maxrate and --bufsize"
    )]
    Cap,
    /// A file size.
    #[error("its passes begin with the bit rate that they end with, and a file size settles it later; use -b")]
    Size,
    /// Segments of a given length.
    #[error("it chooses itself which stretches come again; leave out --segment")]
    Segments,
    /// Encoding in real time.
    #[error("an encoder in real time cannot look at a frame twice; leave out realtime=1")]
    RealTime,
    /// Key frames at a fixed distance.
    #[error("key frames at a fixed distance are not wired; leave out --gop")]
    FixedGroups,
    /// An option of libavcodec's encoder that means nothing here.
    #[error("{0} is an option of libavcodec's encoder, and its own session has nothing like it")]
    Option(String),
    /// A pixel format that is not wired.
    #[error(
        "frames of {0} cannot be given to it; --vf format=nv12 (8 bits) or format=p010le (10 bits, HEVC) converts them"
    )]
    PixelFormat(String),
}

impl NotNative {
    /// The same as a refusal.
    #[must_use]
    pub fn of(self, encoder: &str) -> Refusal {
        Refusal::NotNative { encoder: encoder.to_owned(), why: self, instead: with_sessions() }
    }
}

/// What VideoToolbox can make of this adapter in several passes; `here`: whether this system has VideoToolbox. `None` for
/// encoders that are not VideoToolbox's.
pub(super) fn codec(adapter: &Adapter, here: bool) -> Option<Result<Codec, NotNative>> {
    let PassModel::Refused(because) = adapter.passes else { return None };
    Some(match (because, adapter.codec) {
        (Because::IntraOnly, _) => Err(NotNative::IntraOnly),
        (Because::VideoToolboxWrapper, "h264" | "hevc") if !here => Err(NotNative::OtherSystem),
        (Because::VideoToolboxWrapper, "h264") => Ok(Codec::H264),
        (Because::VideoToolboxWrapper, "hevc") => Ok(Codec::Hevc),
        (Because::VideoToolboxWrapper | Because::NoEncoder, codec) => Err(NotNative::NoEncoder(codec)),
    })
}

impl NativePlan {
    /// What this plan's settings stand for.
    pub(super) fn new(
        codec: Codec,
        most_passes: NonZeroU8,
        target: Target,
        group: Option<u32>,
        settings: &[PlannedSetting],
    ) -> Result<Self, NotNative> {
        match (target, group) {
            (Target::Quality(_), _) => return Err(NotNative::ConstantQuality),
            (Target::Size(_), _) => return Err(NotNative::Size),
            (Target::Measured(_), _) => return Err(NotNative::MeasuredQuality),
            (Target::Average(_), Some(_)) => return Err(NotNative::FixedGroups),
            (Target::Average(_), None) => {}
        }
        // Apple recommends the first for files. The second keeps a stretch that comes again apart from its neighbours.
        let mut properties = vec![(Property::RealTime(false), false), (Property::AllowOpenGop(false), false)];
        for setting in settings {
            properties.extend(property(codec, setting)?.map(|property| (property, setting.origin != Origin::Adapter)));
        }
        Ok(NativePlan { codec, most_passes, properties })
    }
}

impl fmt::Display for NativePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.properties.iter().map(|(property, _)| property.name()).collect();
        write!(
            f,
            "VideoToolbox's own, at most {} passes, each after the first only over the time ranges that it asks for; sets {}",
            self.most_passes,
            names.join(", ")
        )
    }
}

/// The property that an option of libavcodec's encoder stands for; `None`: what the session does anyway.
fn property(codec: Codec, setting: &PlannedSetting) -> Result<Option<Property>, NotNative> {
    let PlannedSetting { option, value, .. } = setting;
    let meaningless = || NotNative::Option(format!("{option}={value}"));
    let number = || value.parse::<i64>().map_err(|_| meaningless());
    let is_on = || matches!(value.as_str(), "1" | "true" | "y" | "yes" | "on" | "enable" | "enabled");
    Ok(Some(match option.as_str() {
        "b" => Property::AverageBitRate(number()?),
        "g" => Property::MaxKeyFrameInterval(i32::try_from(number()?).map_err(|_| meaningless())?),
        "bf" => Property::AllowFrameReordering(number()? != 0),
        "prio_speed" => Property::PrioritizeSpeed(is_on()),
        "profile" => Property::ProfileLevel(profile(codec, value).ok_or_else(meaningless)?),
        "flags" if value == "+cgop" => return Ok(None),
        "realtime" | "constant_bit_rate" | "allow_sw" | "require_sw" if !is_on() => return Ok(None),
        "realtime" => return Err(NotNative::RealTime),
        "maxrate" | "bufsize" => return Err(NotNative::Cap),
        _ => return Err(meaningless()),
    }))
}

/// A profile by libavcodec's name.
fn profile(codec: Codec, name: &str) -> Option<Profile> {
    match (codec, name) {
        (Codec::H264, "baseline") => Some(Profile::Baseline),
        (Codec::H264, "high") => Some(Profile::High),
        (codec, "main") => Some(Profile::Main(codec)),
        (Codec::Hevc, "main10") => Some(Profile::Main10),
        _ => None,
    }
}
