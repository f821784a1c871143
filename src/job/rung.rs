//! Sizes of renditions: how they are spelled, what they come to for a picture, and which of them fit it.
//!
//! Invariant: a scaled picture has even sides, keeps its shape, and is never larger than its source unless that is asked for.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::av::filter::FilterOutput;
use crate::error::Error;
use crate::media::Rational;

/// A size, as it is asked for. Reads `720p`, `w1280`, `1280x720`, `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// As the picture comes.
    Source,
    /// This many rows of the upright picture; the width follows.
    Height(u32),
    /// This many columns of the upright picture; the height follows.
    Width(u32),
    /// Exactly this; pixels change their shape where the picture has another one.
    Exact(u32, u32),
}

/// What a size comes to for one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scaled {
    /// Width and height in pixels; `None`: nothing is scaled.
    pub(super) size: Option<(u32, u32)>,
    /// Shape of a pixel that is kept, where rounding to even sides alone would change it.
    pub(super) shape: Option<Rational>,
}

impl Size {
    /// What it comes to for `picture`; `None` where that is larger than the picture.
    ///
    /// # Errors
    /// [`Error::Usage`] for sides that no scaled picture has: odd, none, or beyond every codec.
    pub(super) fn of(self, picture: &FilterOutput, may_enlarge: bool) -> Result<Option<Scaled>, Error> {
        let (width, height) = (picture.width, picture.height);
        let wanted = match self {
            Size::Source => (width, height),
            // A side that the picture has already: nothing is scaled only to make the other one even.
            Size::Height(rows) if rows == height => (width, height),
            Size::Width(columns) if columns == width => (width, height),
            Size::Height(rows) => (even(f64::from(width) * f64::from(rows) / f64::from(height)), rows),
            Size::Width(columns) => (columns, even(f64::from(height) * f64::from(columns) / f64::from(width))),
            Size::Exact(columns, rows) => (columns, rows),
        };
        if wanted == (width, height) {
            return Ok(Some(Scaled { size: None, shape: None }));
        }
        let (larger, even) = match self {
            Size::Source => (false, true),
            Size::Height(rows) => (rows > height, is_side(rows)),
            Size::Width(columns) => (columns > width, is_side(columns)),
            Size::Exact(columns, rows) => (columns > width || rows > height, is_side(columns) && is_side(rows)),
        };
        if !even {
            return Err(unusable(&self.to_string()));
        }
        if larger && !may_enlarge {
            return Ok(None);
        }
        let exact = u64::from(wanted.0) * u64::from(height) == u64::from(wanted.1) * u64::from(width);
        let keeps_shape = matches!(self, Size::Height(_) | Size::Width(_)) && !exact;
        Ok(Some(Scaled { size: Some(wanted), shape: picture.sample_aspect_ratio.filter(|_| keeps_shape) }))
    }
}

/// The nearest even number, and at least 2: pictures with halved colour have even sides.
fn even(length: f64) -> u32 {
    ((length / 2.0).round() as u32 * 2).max(2)
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        read(text).ok_or_else(|| unusable(text))
    }
}

fn unusable(text: &str) -> Error {
    let why =
        format!("expected 720p (height), w1280 (width), 1280x720 or source, with even numbers up to {LONGEST_SIDE}");
    Error::Usage { what: "size", text: text.to_owned(), why }
}

fn read(text: &str) -> Option<Size> {
    if text == "source" {
        return Some(Size::Source);
    }
    if let Some(rows) = text.strip_suffix('p') {
        return side(rows).map(Size::Height);
    }
    if let Some(columns) = text.strip_prefix('w') {
        return side(columns).map(Size::Width);
    }
    let (columns, rows) = text.split_once('x')?;
    Some(Size::Exact(side(columns)?, side(rows)?))
}

fn side(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|side| plain && is_side(*side))
}

fn is_side(side: u32) -> bool {
    (2..=LONGEST_SIDE).contains(&side) && side.is_multiple_of(2)
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Source => f.write_str("source"),
            Size::Height(rows) => write!(f, "{rows}p"),
            Size::Width(columns) => write!(f, "w{columns}"),
            Size::Exact(columns, rows) => write!(f, "{columns}x{rows}"),
        }
    }
}

/// Above every level of every codec here.
const LONGEST_SIDE: u32 = 16384;

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, shape: Option<Rational>) -> FilterOutput {
        FilterOutput {
            width,
            height,
            pixel_format: "yuv420p".to_owned(),
            colour_range: None,
            time_base: Rational::new(1, 24),
            frame_rate: None,
            sample_aspect_ratio: shape,
        }
    }

    #[test]
    fn sizes_read_back_as_they_are_written() {
        for text in ["720p", "w1280", "1280x720", "source"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["", "p", "0p", "721p", "x", "1280x", "-2x720", "1280X720", "99999p", "w", "720", "1x1", "+720p"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_other_side_follows_and_is_even() {
        let of = |text: &str, width, height| {
            text.parse::<Size>()
                .unwrap()
                .of(&picture(width, height, None), false)
                .unwrap()
                .and_then(|scaled| scaled.size)
        };
        assert_eq!(of("480p", 1920, 1080), Some((854, 480)));
        assert_eq!(of("w640", 1920, 1080), Some((640, 360)));
        assert_eq!(of("480p", 1080, 1920), Some((270, 480)));
        assert_eq!(of("640x640", 1920, 1080), Some((640, 640)));
        assert_eq!(of("1080p", 1920, 1080), None, "nothing to scale");
        assert_eq!(of("480p", 853, 480), None, "the other side is the encoder's affair");
        assert_eq!(of("w854", 854, 481), None);
    }

    #[test]
    fn sides_that_no_scaled_picture_has_are_refused() {
        let odd = picture(853, 481, None);
        for size in [Size::Height(361), Size::Width(641), Size::Exact(641, 360), Size::Height(0), Size::Exact(640, 0)] {
            assert!(size.of(&odd, true).is_err(), "{size}");
        }
        for size in [Size::Height(481), Size::Width(853), Size::Exact(853, 481)] {
            assert_eq!(size.of(&odd, false).unwrap(), Some(Scaled { size: None, shape: None }), "{size}");
        }
    }

    #[test]
    fn nothing_is_enlarged_unless_asked_for() {
        let small = picture(854, 480, None);
        for text in ["720p", "w1280", "640x540"] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.of(&small, false).unwrap(), None, "{text}");
            assert!(size.of(&small, true).unwrap().is_some(), "{text}");
        }
        assert!(Size::Source.of(&small, false).unwrap().is_some());
    }

    #[test]
    fn the_shape_of_pixels_is_kept_where_only_a_side_is_given() {
        let shape = Rational::new(64, 45);
        let wide = picture(720, 576, Some(shape));
        let shape_of = |size: Size| size.of(&wide, false).unwrap().unwrap().shape;
        assert_eq!(shape_of(Size::Height(190)), Some(shape));
        assert_eq!(shape_of(Size::Height(288)), None, "scaling keeps it by itself");
        assert_eq!(shape_of(Size::Exact(640, 360)), None);
    }
}
