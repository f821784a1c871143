//! What a session of VideoToolbox is created with: its plan, and what its first frame adds.

use crate::av::frame::Frame;
use crate::media::Rational;
use crate::plan::{Codec, Hdr10Data, MasteringDisplay, NativePlan, NotNative, Property};

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

impl Setup {
    /// For frames like `first`.
    ///
    /// # Errors
    /// [`NotNative::PixelFormat`].
    pub fn new(
        plan: &NativePlan,
        first: &Frame,
        time_base: Rational,
        frame_rate: Rational,
        sample_aspect_ratio: Option<Rational>,
    ) -> Result<Self, NotNative> {
        let [primaries, transfer, matrix] = first.colour_codes();
        let Hdr10Data { display, light } = first.hdr10().unwrap_or(Hdr10Data { display: None, light: None });
        let of_frame = [
            Some(Property::ExpectedFrameRate(frame_rate.value())),
            sample_aspect_ratio.map(Property::PixelAspectRatio),
            primaries.map(Property::ColorPrimaries),
            transfer.map(Property::TransferFunction),
            matrix.map(Property::YCbCrMatrix),
            display.map(|display| Property::MasteringDisplay(display_payload(&display))),
            light.map(|light| Property::ContentLight(light_payload(light))),
        ];
        let optional = of_frame.into_iter().flatten().map(|property| (property, false));
        Ok(Setup {
            codec: plan.codec,
            width: first.width(),
            height: first.height(),
            pixels: pixels(first)?,
            time_base,
            properties: plan.properties.iter().copied().chain(optional).collect(),
        })
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
