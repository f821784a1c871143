//! Two files compared: a coded one against its original.
//!
//! Invariant: a value stands for what was asked. Another size, pixel format, frame rate or number of frames, a frame that
//! comes at another time, or a picture that is shifted by some frames, is an error that says what to do.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::av::frame::Frame;
use crate::av::{Versions, versions};
use crate::bench::quality::{Quality, compare};
use crate::error::{Error, Refusal};
use crate::event::Cancel;
use crate::frames::FrameSource;
use crate::media::{Rational, SourceInfo};
use crate::quality::{Metric, mismatch};
use crate::source::{Branch, DecodedFile, Graph, Input};
use crate::timing::Timing;

/// What to compare.
#[derive(Debug, Clone)]
pub struct MeasureRequest {
    /// The original.
    pub reference: PathBuf,
    /// What was made of it.
    pub distorted: PathBuf,
    /// By what.
    pub metrics: Vec<Metric>,
    /// A pixel format that both are converted to; `None`: they must have the same.
    pub pixel_format: Option<String>,
    /// Threads of decoders and metrics; `None`: one per CPU.
    pub threads: Option<u16>,
}

/// What the comparison brought.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// The original.
    #[serde(serialize_with = "crate::report::path_as_text")]
    pub reference: PathBuf,
    /// What was made of it.
    #[serde(serialize_with = "crate::report::path_as_text")]
    pub distorted: PathBuf,
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// libavutil's name of the pixel format in which both were compared.
    pub pixel_format: String,
    /// Frames per second.
    pub frame_rate: f64,
    /// Frames compared.
    pub frames: u64,
    /// Bits per second of the distorted file, all streams, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distorted_bps: Option<f64>,
    /// The values.
    pub qualities: Vec<Quality>,
    /// Seconds it took.
    pub wall_seconds: f64,
    /// The linked libraries.
    pub versions: Versions,
}

/// Compares two files; `tell` hears how many frames are done, and how many there probably are.
///
/// # Errors
/// [`Refusal::Source`] for files whose headers already say that they do not fit, [`Error::Mismatch`] for what decoding
/// shows, [`Error::Input`] for what cannot be read.
pub fn measure(
    request: &MeasureRequest,
    cancel: &Cancel,
    tell: &mut (dyn FnMut(u64, Option<u64>) + Send),
) -> Result<Measurement, Error> {
    let began = Instant::now();
    let mut reference = Side::open(&request.reference, request, cancel)?;
    let mut distorted = Side::open(&request.distorted, request, cancel)?;
    let rate = check_headers(&reference, &distorted, request)?;
    let total = reference.info.video.frames;
    let threads = request.threads.unwrap_or_else(cpus);
    let qualities =
        compare(&mut || reference.next(), &mut || distorted.next(), &request.metrics, rate, threads, &mut |done| {
            tell(done, total)
        })?;
    check_times(&reference, &distorted)?;
    check_shift(&reference.signatures, &distorted.signatures)?;
    let (width, height) = upright(&reference.info);
    let seconds = distorted.signatures.len() as f64 / rate.value();
    Ok(Measurement {
        reference: request.reference.clone(),
        distorted: request.distorted.clone(),
        width,
        height,
        pixel_format: reference.pixel_format,
        frame_rate: rate.value(),
        frames: reference.signatures.len() as u64,
        distorted_bps: distorted.info.bytes.map(|bytes| bytes as f64 * 8.0 / seconds.max(1e-9)),
        qualities,
        wall_seconds: began.elapsed().as_secs_f64(),
        versions: versions(),
    })
}

/// As many threads as this process may run at once.
pub(crate) fn cpus() -> u16 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(usize::from(u16::MAX)) as u16)
}

/// One of the two files.
struct Side {
    source: DecodedFile,
    info: SourceInfo,
    pixel_format: String,
    /// Seconds from the first frame to each.
    times: Vec<Option<f64>>,
    first_pts: Option<i64>,
    signatures: Vec<Signature>,
}

impl Side {
    fn open(path: &Path, request: &MeasureRequest, cancel: &Cancel) -> Result<Self, Error> {
        let input = Input::file(path);
        let mut source = DecodedFile::open(input, request.threads, cancel)?;
        let info = source.info().clone();
        let pixel_formats: Vec<String> = request.pixel_format.iter().cloned().collect();
        let graph = Graph {
            rotation: info.video.rotation,
            trunk: None,
            branches: vec![Branch { size: None, filters: None, shape: None, pixel_formats, colour_ranges: Vec::new() }],
        };
        source.set_graph(graph);
        let pixel_format = request.pixel_format.clone().unwrap_or_else(|| info.video.pixel_format.clone());
        Ok(Side { source, info, pixel_format, times: Vec::new(), first_pts: None, signatures: Vec::new() })
    }

    fn next(&mut self) -> Result<Option<Frame>, Error> {
        let Some(frame) = self.source.next()?.and_then(|frames| frames.into_iter().next()) else {
            let damage = self.source.damage();
            let path = &self.info.path;
            return if damage.any() {
                Err(Error::Damaged { path: path.clone(), what: damage.to_string() })
            } else {
                Ok(None)
            };
        };
        let first = *self.first_pts.get_or_insert(frame.pts().unwrap_or_default());
        let tick = self.source.time_base().value();
        self.times.push(frame.pts().map(|pts| (pts - first) as f64 * tick));
        self.signatures.push(Signature::of(&frame));
        Ok(Some(frame))
    }
}

/// What the headers say must agree; returns the frame rate of both.
fn check_headers(reference: &Side, distorted: &Side, request: &MeasureRequest) -> Result<Rational, Refusal> {
    let refused = |why: String| Refusal::Source { path: request.distorted.display().to_string(), why };
    let ((width, height), (w, h)) = (upright(&reference.info), upright(&distorted.info));
    if (width, height) != (w, h) {
        return Err(refused(format!(
            "{w}x{h} pixels, but the reference has {width}x{height}: scale one of them first, for instance with \
             repass encode --vf scale={width}:{height}"
        )));
    }
    if reference.pixel_format != distorted.pixel_format {
        return Err(refused(format!(
            "{}, but the reference is {}: --pixel-format {} converts both before they are compared",
            distorted.pixel_format, reference.pixel_format, reference.pixel_format
        )));
    }
    let (rate, other) = (Timing::of(&reference.info.video).rate, Timing::of(&distorted.info.video).rate);
    if (rate.value() / other.value() - 1.0).abs() > SAME_RATE {
        return Err(refused(format!(
            "{:.3} frames per second, but the reference has {:.3}: frames cannot be paired",
            other.value(),
            rate.value()
        )));
    }
    Ok(rate)
}

/// Width and height after rotation.
fn upright(source: &SourceInfo) -> (u32, u32) {
    let (width, height) = (source.video.width, source.video.height);
    if source.video.rotation % 180 == 90 { (height, width) } else { (width, height) }
}

/// A frame that comes earlier or later by half a frame was dropped, repeated or inserted somewhere before it.
fn check_times(reference: &Side, distorted: &Side) -> Result<(), Error> {
    let half = 0.5 / Timing::of(&reference.info.video).rate.value();
    for (number, (one, other)) in reference.times.iter().zip(&distorted.times).enumerate() {
        if let (Some(one), Some(other)) = (one, other)
            && (one - other).abs() > half
        {
            return Err(mismatch(format!(
                "frame {number} comes {one:.3} s after the first in the reference, and {other:.3} s in the distorted file"
            )));
        }
    }
    Ok(())
}

/// Whether the pictures fit better when one file is shifted by some frames: then one of them lost frames at its beginning,
/// and every value would be wrong.
fn check_shift(reference: &[Signature], distorted: &[Signature]) -> Result<(), Error> {
    let here = distance(reference, distorted, 0);
    let best = (-LONGEST_SHIFT..=LONGEST_SHIFT)
        .filter(|shift| *shift != 0 && reference.len() > 4 * LONGEST_SHIFT as usize)
        .map(|shift| (shift, distance(reference, distorted, shift)))
        .min_by(|one, other| one.1.total_cmp(&other.1));
    match best {
        Some((shift, there)) if there < here * CLEARLY_NEARER && here > LEAST_DISTANCE => Err(mismatch(format!(
            "the pictures of the distorted file are those of the reference {} frames {}: one of them lost its beginning",
            shift.abs(),
            if shift > 0 { "later" } else { "earlier" }
        ))),
        _ => Ok(()),
    }
}

/// Mean distance of frame `n` of the distorted file to frame `n + shift` of the reference, in steps of an 8-bit sample.
fn distance(reference: &[Signature], distorted: &[Signature], shift: i64) -> f64 {
    let from = shift.unsigned_abs() as usize;
    let (reference, distorted) =
        if shift > 0 { (reference.get(from..), Some(distorted)) } else { (Some(reference), distorted.get(from..)) };
    let (Some(reference), Some(distorted)) = (reference, distorted) else { return f64::INFINITY };
    let pairs = reference.len().min(distorted.len());
    let sum: f64 = reference.iter().zip(distorted).map(|(one, other)| one.distance(other)).sum();
    if pairs == 0 { f64::INFINITY } else { sum / pairs as f64 }
}

/// A picture in a few bytes: samples of its first plane on a coarse raster.
struct Signature(Vec<u8>);

impl Signature {
    fn of(frame: &Frame) -> Self {
        let rows = frame.height() as usize;
        let every = (rows / RASTER).max(1);
        let depth = frame.bit_depth().max(8) as u32;
        let (mut samples, mut row) = (Vec::with_capacity(RASTER * RASTER), 0);
        // Hardware surfaces have no rows; they have no signature then.
        let _ = frame.for_each_row(|bytes| {
            if row < rows && row.is_multiple_of(every) {
                // An even number, so that samples of two bytes stay whole.
                let stretch = (bytes.len() / RASTER).next_multiple_of(2).max(2);
                samples.extend(bytes.chunks(stretch).map(|stretch| sample(stretch, depth)));
            }
            row += 1;
        });
        Signature(samples)
    }

    fn distance(&self, other: &Signature) -> f64 {
        let sum: u64 = self.0.iter().zip(&other.0).map(|(one, other)| u64::from(one.abs_diff(*other))).sum();
        sum as f64 / self.0.len().max(1) as f64
    }
}

/// The first sample of a stretch of a row, in eight bits.
fn sample(bytes: &[u8], depth: u32) -> u8 {
    match bytes {
        [low, high, ..] if depth > 8 => (u16::from_le_bytes([*low, *high]) >> (depth - 8).min(8)).min(255) as u8,
        [byte, ..] => *byte,
        [] => 0,
    }
}

/// Frame rates nearer than this are spellings of one: containers round, and 24 differs from 23.976 by a thousandth.
const SAME_RATE: f64 = 0.0005;
/// Frames that an encoder or an edit may drop at a beginning.
const LONGEST_SHIFT: i64 = 4;
/// A shifted file fits this many times better when shifted back, even after coarse coding.
const CLEARLY_NEARER: f64 = 0.5;
/// Below this the picture hardly moves, and a shift cannot be seen; in steps of an 8-bit sample.
const LEAST_DISTANCE: f64 = 1.0;
/// Rows, and samples of a row, in a signature.
const RASTER: usize = 24;
