//! Quality of a coded stream against its original, frame by frame.
//!
//! Invariant: frames are paired by their number; what differs in size, format or number is an error and never scaled,
//! converted or passed over.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::av::Received;
use crate::av::filter::comparison::{Comparison, has_filter};
use crate::av::frame::Frame;
use crate::bench::statistics::{PSNR_CEILING, Pooled};
use crate::error::Error;
use crate::media::Rational;

/// A measure of how near a coded picture is to its original. More is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Peak signal-to-noise ratio in dB over all components: `psnr_avg` of libavfilter's `psnr`.
    Psnr,
    /// Structural similarity, 0 to 1, over all components: `All` of libavfilter's `ssim`.
    Ssim,
    /// Perceptually weighted PSNR of the luma in dB: `y` of libavfilter's `xpsnr` (FFmpeg 7.1 and later).
    Xpsnr,
    /// VMAF, 0 to 100, by the model `vmaf_v0.6.1`.
    Vmaf,
    /// VMAF by the model `vmaf_v0.6.1neg`, which does not reward sharpening.
    VmafNeg,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 5] = [Metric::Psnr, Metric::Ssim, Metric::Xpsnr, Metric::Vmaf, Metric::VmafNeg];

    /// As it is written on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// As it is written in tables and plots.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().title
    }

    /// Its unit; empty where it has none.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        self.row().unit
    }

    /// Decimals that mean something.
    #[must_use]
    pub const fn decimals(self) -> usize {
        self.row().decimals
    }

    /// The metrics that this build and the linked libavfilter have.
    #[must_use]
    pub fn available() -> Vec<Metric> {
        Metric::ALL.into_iter().filter(|metric| metric.unavailable().is_none()).collect()
    }

    /// Why it is not to be had here; `None` where it is.
    #[must_use]
    pub fn unavailable(self) -> Option<String> {
        match self.row().engine {
            Engine::Filter { name, .. } if has_filter(name) => None,
            Engine::Filter { name, .. } => {
                Some(format!("the linked libavfilter has no {name} (xpsnr came with FFmpeg 7.1)"))
            }
            Engine::Model(_) if cfg!(feature = "vmaf") => None,
            Engine::Model(_) => Some("repass was built without it: cargo build --features vmaf".to_owned()),
        }
    }

    const fn row(self) -> &'static Row {
        match self {
            Metric::Psnr => &PSNR,
            Metric::Ssim => &SSIM,
            Metric::Xpsnr => &XPSNR,
            Metric::Vmaf => &VMAF,
            Metric::VmafNeg => &VMAF_NEG,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Metric::ALL.into_iter().find(|metric| metric.name() == text).ok_or_else(|| Error::Usage {
            what: "metric",
            text: text.to_owned(),
            why: format!("expected one of {}", Metric::ALL.map(Metric::name).join(", ")),
        })
    }
}

/// What sets one metric apart from another.
struct Row {
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    decimals: usize,
    engine: Engine,
}

enum Engine {
    /// A filter of libavfilter, the key of its value, and whether the original is its first input.
    Filter { name: &'static str, key: &'static str, original_first: bool },
    /// A built-in model of libvmaf.
    Model(#[cfg_attr(not(feature = "vmaf"), expect(dead_code, reason = "read with the feature"))] &'static str),
}

const PSNR: Row = Row {
    name: "psnr",
    title: "PSNR",
    unit: "dB",
    decimals: 2,
    engine: Engine::Filter { name: "psnr", key: "lavfi.psnr.psnr_avg", original_first: false },
};
const SSIM: Row = Row {
    name: "ssim",
    title: "SSIM",
    unit: "",
    decimals: 4,
    engine: Engine::Filter { name: "ssim", key: "lavfi.ssim.All", original_first: false },
};
const XPSNR: Row = Row {
    name: "xpsnr",
    title: "XPSNR",
    unit: "dB",
    decimals: 2,
    // Activity and motion are those of its first input (vf_xpsnr.c, do_xpsnr).
    engine: Engine::Filter { name: "xpsnr", key: "lavfi.xpsnr.xpsnr.y", original_first: true },
};
const VMAF: Row =
    Row { name: "vmaf", title: "VMAF", unit: "", decimals: 2, engine: Engine::Model("vmaf_v0.6.1") };
const VMAF_NEG: Row = Row {
    name: "vmaf-neg",
    title: "VMAF NEG",
    unit: "",
    decimals: 2,
    engine: Engine::Model("vmaf_v0.6.1neg"),
};

/// One metric over a whole stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Which.
    pub metric: Metric,
    /// What the frames come to.
    pub pooled: Pooled,
    /// Its value of every frame; a frame without error has [`PSNR_CEILING`] dB.
    pub frames: Vec<f64>,
}

/// Where frames come from, one after another; `None` at the end.
pub type Frames<'f> = dyn FnMut() -> Result<Option<Frame>, Error> + Send + 'f;

/// Compares two streams. `rate`: frames per second. `threads`: in all. `tell` hears how many frames are done.
///
/// # Errors
/// [`Error::Mismatch`] where one stream ends before the other or a pair is not of one size and format; else the error of a
/// source or a filter.
pub fn compare(
    original: &mut Frames<'_>,
    coded: &mut Frames<'_>,
    metrics: &[Metric],
    rate: Rational,
    threads: u16,
    tell: &mut (dyn FnMut(u64) + Send),
) -> Result<Vec<Quality>, Error> {
    let mut pairs = Pairs { original, coded, taken: 0 };
    let mut chunk = pairs.next_chunk()?;
    let first = chunk.first().ok_or_else(|| mismatch("neither has a frame".to_owned()))?;
    let each = (usize::from(threads) / metrics.len().max(1)).clamp(1, usize::from(u16::MAX)) as u16;
    let judges = metrics.iter().map(|metric| Judge::open(*metric, &first.1, rate, each));
    let mut judges = judges.collect::<Result<Vec<_>, _>>()?;
    let mut done = 0;
    while !chunk.is_empty() {
        // The next frames are decoded while these are judged.
        let (next, judged) = rayon::join(
            || pairs.next_chunk(),
            || judges.par_iter_mut().try_for_each(|judge| judge.take(&chunk)),
        );
        judged?;
        done += chunk.len() as u64;
        tell(done);
        chunk = next?;
    }
    judges.into_par_iter().map(Judge::finish).collect()
}

struct Pairs<'p, 'f> {
    original: &'p mut Frames<'f>,
    coded: &'p mut Frames<'f>,
    taken: u64,
}

impl Pairs<'_, '_> {
    fn next_chunk(&mut self) -> Result<Vec<(Frame, Frame)>, Error> {
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            let (original, coded) = rayon::join(&mut *self.original, &mut *self.coded);
            match (original?, coded?) {
                (Some(original), Some(coded)) => {
                    check_pair(&original, &coded, self.taken)?;
                    chunk.push((original, coded));
                }
                (None, None) => break,
                (Some(_), None) => return Err(self.ended("the coded stream", "its original goes on")),
                (None, Some(_)) => return Err(self.ended("the original", "the coded stream goes on")),
            }
            self.taken += 1;
        }
        Ok(chunk)
    }

    fn ended(&self, which: &str, other: &str) -> Error {
        mismatch(format!("{which} ends after {} frames, and {other}", self.taken))
    }
}

fn check_pair(original: &Frame, coded: &Frame, number: u64) -> Result<(), Error> {
    let shape = |frame: &Frame| format!("{}x{} {}", frame.width(), frame.height(), frame.pixel_format());
    let (one, other) = (shape(original), shape(coded));
    if one != other {
        return Err(mismatch(format!("frame {number} is {one} in the original and {other} in the coded stream")));
    }
    match (original.color_range(), coded.color_range()) {
        (Some(one), Some(other)) if one != other => {
            Err(mismatch(format!("frame {number} has the range {one} in the original and {other} in the coded stream")))
        }
        _ => Ok(()),
    }
}

pub(crate) fn mismatch(why: String) -> Error {
    Error::Mismatch { why }
}

/// One metric at work.
struct Judge {
    metric: Metric,
    values: Vec<f64>,
    work: Work,
}

enum Work {
    Filter { filter: Comparison, key: &'static str, original_first: bool, compared: Frame },
    #[cfg(feature = "vmaf")]
    Model(Box<crate::av::vmaf::Vmaf>),
}

impl Judge {
    fn open(metric: Metric, first: &Frame, rate: Rational, threads: u16) -> Result<Self, Error> {
        if let Some(why) = metric.unavailable() {
            return Err(Error::Usage { what: "metric", text: metric.name().to_owned(), why });
        }
        let work = match metric.row().engine {
            Engine::Filter { name, key, original_first } => Work::Filter {
                filter: Comparison::open(name, first, rate, Some(threads))?,
                key,
                original_first,
                compared: Frame::new().map_err(|source| failed(metric, source))?,
            },
            #[cfg(feature = "vmaf")]
            Engine::Model(model) => {
                let model = crate::av::vmaf::Vmaf::open(model, threads).map_err(|source| failed(metric, source))?;
                Work::Model(Box::new(model))
            }
            #[cfg(not(feature = "vmaf"))]
            Engine::Model(_) => return Err(failed(metric, crate::av::AvError::invalid())),
        };
        Ok(Judge { metric, values: Vec::new(), work })
    }

    fn take(&mut self, pairs: &[(Frame, Frame)]) -> Result<(), Error> {
        for (original, coded) in pairs {
            match &mut self.work {
                Work::Filter { filter, original_first: true, .. } => filter.push(original, coded)?,
                Work::Filter { filter, .. } => filter.push(coded, original)?,
                #[cfg(feature = "vmaf")]
                Work::Model(model) => model.push(original, coded).map_err(|source| failed(self.metric, source))?,
            }
            self.pull()?;
        }
        Ok(())
    }

    /// Takes the values that are ready.
    fn pull(&mut self) -> Result<(), Error> {
        match &mut self.work {
            Work::Filter { filter, key, compared, .. } => {
                while filter.pull(compared)? == Received::Ready {
                    let value = compared.metadata(key).and_then(|text| text.parse::<f64>().ok());
                    let value = value.ok_or_else(|| failed(self.metric, crate::av::AvError::invalid()))?;
                    self.values.push(value.min(PSNR_CEILING));
                }
                Ok(())
            }
            #[cfg(feature = "vmaf")]
            Work::Model(_) => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Quality, Error> {
        if let Work::Filter { filter, .. } = &mut self.work {
            filter.push_end()?;
        }
        self.pull()?;
        let frames = match self.work {
            Work::Filter { .. } => self.values,
            #[cfg(feature = "vmaf")]
            Work::Model(model) => model.finish().map_err(|source| failed(self.metric, source))?,
        };
        let pooled = Pooled::of(&frames).ok_or_else(|| mismatch("there is no frame to compare".to_owned()))?;
        Ok(Quality { metric: self.metric, pooled, frames })
    }
}

fn failed(metric: Metric, source: crate::av::AvError) -> Error {
    Error::Filter { graph: metric.name().to_owned(), source, log: String::new() }
}

/// Enough for decoding to run ahead of the metrics; few enough not to matter beside the cache.
const CHUNK: usize = 8;
