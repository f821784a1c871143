//! From a plan's settings and the first frame to what a session of VideoToolbox is created with, or a refusal.

use crate::adapter::{Adapter, Because, PassModel};
use crate::av::frame::Frame;
use crate::error::Refusal;
use crate::media::Rational;
use crate::plan::{EncoderPlan, Hdr10Data, MasteringDisplay, Origin, PlannedSetting};
use crate::rate::Target;

/// What a session is created with.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// What it makes.
    pub codec: Codec,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Apple's four letters for the pixel format.
    pub pixels: u32,
    /// Seconds per tick of the frames' times.
    pub time_base: Rational,
    /// Properties to be set; with `true` those that the session must have.
    pub properties: Vec<(Property, bool)>,
}

/// A codec that VideoToolbox encodes in several passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// H.264.
    H264,
    /// HEVC.
    Hevc,
}

/// A property of a compression session, with its value.
#[derive(Debug, Clone, Copy, PartialEq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// A cap on the data rate.
    #[error(
        "no document says that limits of the data rate hold over several passes; leave out --maxrate and --bufsize"
    )]
    Cap,
    /// A file size.
    #[error("its passes begin with the bit rate that they end with, and a file size settles it later; use -b")]
    Size,
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
    #[error("pixel format {0} cannot be given to it; use nv12 (8 bits) or p010le (10 bits, HEVC)")]
    PixelFormat(String),
}

impl NotNative {
    fn of(self, encoder: &str) -> Refusal {
        Refusal::NotNative { encoder: encoder.to_owned(), why: self }
    }
}

/// The codec, where a session with several passes can be had for this adapter on some Mac.
///
/// # Errors
/// [`NotNative::IntraOnly`] for ProRes, [`NotNative::NoEncoder`] for all else.
pub fn codec(adapter: &Adapter) -> Result<Codec, NotNative> {
    match (&adapter.passes, adapter.codec) {
        (PassModel::Refused(Because::VideoToolboxWrapper), "h264") => Ok(Codec::H264),
        (PassModel::Refused(Because::VideoToolboxWrapper), "hevc") => Ok(Codec::Hevc),
        (PassModel::Refused(Because::IntraOnly), _) => Err(NotNative::IntraOnly),
        (_, codec) => Err(NotNative::NoEncoder(codec)),
    }
}

impl Setup {
    /// Refuses what can be refused before a frame is there.
    ///
    /// # Errors
    /// [`Refusal::NotNative`].
    pub fn check(adapter: &Adapter, plan: &EncoderPlan) -> Result<(), Refusal> {
        settled(adapter, plan).map(drop).map_err(|why| why.of(adapter.name))
    }

    /// What a session for this plan is created with, for frames like `first`.
    ///
    /// # Errors
    /// [`Refusal::NotNative`].
    pub fn new(
        adapter: &Adapter,
        plan: &EncoderPlan,
        first: &Frame,
        time_base: Rational,
        frame_rate: Rational,
        sample_aspect_ratio: Option<Rational>,
    ) -> Result<Self, Refusal> {
        let whole = || {
            let (codec, mut properties) = settled(adapter, plan)?;
            let pixels = pixels(first)?;
            let optional = |property| (property, false);
            properties.push(optional(Property::ExpectedFrameRate(frame_rate.value())));
            properties.extend(sample_aspect_ratio.map(Property::PixelAspectRatio).map(optional));
            let [primaries, transfer, matrix] = first.colour_codes();
            properties.extend(primaries.map(Property::ColorPrimaries).map(optional));
            properties.extend(transfer.map(Property::TransferFunction).map(optional));
            properties.extend(matrix.map(Property::YCbCrMatrix).map(optional));
            let Hdr10Data { display, light } = first.hdr10().unwrap_or(Hdr10Data { display: None, light: None });
            properties.extend(display.map(|display| optional(Property::MasteringDisplay(display_payload(&display)))));
            properties.extend(light.map(|light| optional(Property::ContentLight(light_payload(light)))));
            let (width, height) = (first.width(), first.height());
            Ok(Setup { codec, width, height, pixels, time_base, properties })
        };
        whole().map_err(|why: NotNative| why.of(adapter.name))
    }
}

/// The codec, and the properties that the plan's settings stand for.
fn settled(adapter: &Adapter, plan: &EncoderPlan) -> Result<(Codec, Vec<(Property, bool)>), NotNative> {
    let codec = codec(adapter)?;
    if matches!(plan.target, Target::Size(_)) {
        return Err(NotNative::Size);
    }
    if plan.forced_keyframes.is_some() {
        return Err(NotNative::FixedGroups);
    }
    // Apple recommends the first for encoding files. The second keeps a stretch that comes again apart from its neighbours.
    let mut properties = vec![(Property::RealTime(false), false), (Property::AllowOpenGop(false), false)];
    for setting in plan.steps.iter().flat_map(|step| &step.settings) {
        let property = property(codec, setting)?;
        properties.extend(property.map(|property| (property, setting.origin != Origin::Adapter)));
    }
    Ok((codec, properties))
}

/// The property that an option of libavcodec's encoder stands for; `None`: what the session does anyway.
fn property(codec: Codec, setting: &PlannedSetting) -> Result<Option<Property>, NotNative> {
    let PlannedSetting { option, value, .. } = setting;
    let meaningless = || NotNative::Option(format!("{option}={value}"));
    let number = || value.parse::<i64>().map_err(|_| meaningless());
    let is_on = || matches!(value.as_str(), "1" | "true" | "yes" | "on");
    Ok(Some(match option.as_str() {
        "b" => Property::AverageBitRate(number()?),
        "g" => Property::MaxKeyFrameInterval(i32::try_from(number()?).map_err(|_| meaningless())?),
        "bf" => Property::AllowFrameReordering(number()? != 0),
        "prio_speed" => Property::PrioritizeSpeed(is_on()),
        "profile" => Property::ProfileLevel(profile(codec, value).ok_or_else(meaningless)?),
        "flags" if value == "+cgop" => return Ok(None),
        "realtime" | "constant_bit_rate" | "allow_sw" | "require_sw" if !is_on() => return Ok(None),
        "realtime" => return Err(NotNative::RealTime),
        "global_quality" | "flags" if setting.origin == Origin::Target => return Err(NotNative::ConstantQuality),
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

/// Apple's four letters for a frame's pixel format.
fn pixels(frame: &Frame) -> Result<u32, NotNative> {
    let name = frame.pixel_format();
    let row = PIXELS.iter().find(|(format, ..)| *format == name).ok_or(NotNative::PixelFormat(name))?;
    Ok(u32::from_be_bytes(if frame.color_range() == Some("pc") { *row.2 } else { *row.1 }))
}

/// libavutil's name, Apple's four letters, and those for the full range (CVPixelBuffer.h).
const PIXELS: &[(&str, &[u8; 4], &[u8; 4])] = &[
    ("nv12", b"420v", b"420f"),
    ("yuv420p", b"y420", b"f420"),
    ("p010le", b"x420", b"xf20"),
    ("bgra", b"BGRA", b"BGRA"),
];

/// `mastering_display_colour_volume` of HEVC's SEI messages: green, blue, red, white, greatest and least luminance.
fn display_payload(display: &MasteringDisplay) -> [u8; 24] {
    let points = [display.green, display.blue, display.red, display.white];
    let points = points.iter().flat_map(|(x, y)| [x.to_be_bytes(), y.to_be_bytes()]).flatten();
    let luminance = [display.brightest.to_be_bytes(), display.darkest.to_be_bytes()].into_iter().flatten();
    let mut payload = [0; 24];
    payload.iter_mut().zip(points.chain(luminance)).for_each(|(into, byte)| *into = byte);
    payload
}

/// `content_light_level_info` of HEVC's SEI messages.
fn light_payload((max, average): (u16, u16)) -> [u8; 4] {
    let ([a, b], [c, d]) = (max.to_be_bytes(), average.to_be_bytes());
    [a, b, c, d]
}
