//! Metrics of quality, and the engines that measure by them: pairs of an original picture and a coded one.
//!
//! Invariant: what differs in size, format or range is an error and never scaled or converted; a value does not depend on the
//! number of threads.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::av::Received;
use crate::av::filter::comparison::{Comparison, has_filter};
use crate::av::frame::Frame;
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

    /// How far from a target of a session's segments is near enough where nobody says, in its unit: what nobody sees.
    #[must_use]
    pub const fn tolerance(self) -> f64 {
        self.row().tolerance
    }

    /// Least and greatest value that can be asked for, in its unit.
    #[must_use]
    pub const fn range(self) -> (f64, f64) {
        self.row().range
    }

    /// What a build and an FFmpeg need to have it.
    #[must_use]
    pub const fn needs(self) -> &'static str {
        self.row().needs
    }

    /// A value in decibels, on which the logarithm of the bits lies about in a straight line: it is one, or the share that is
    /// missing is made one.
    pub(crate) fn decibels(self, value: f64) -> f64 {
        match self.row().full {
            None => value,
            Some(full) => -10.0 * (1.0 - value / full).max(LEAST_MISSING).log10(),
        }
    }

    /// The value that has so many decibels.
    pub(crate) fn of_decibels(self, decibels: f64) -> f64 {
        match self.row().full {
            None => decibels,
            Some(full) => full * (1.0 - 10f64.powf(-decibels / 10.0)),
        }
    }

    /// The metrics that this build and the linked libavfilter have.
    #[must_use]
    pub fn available() -> Vec<Metric> {
        Metric::ALL.into_iter().filter(|metric| metric.unavailable().is_none()).collect()
    }

    /// Why it is not to be had here; `None` where it is.
    #[must_use]
    pub fn unavailable(self) -> Option<String> {
        match &self.row().engine {
            Engine::Filter(Filter { name, .. }) if has_filter(name) => None,
            Engine::Filter(Filter { name, .. }) => {
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
    tolerance: f64,
    range: (f64, f64),
    /// The value of a picture without error, where values are a share of it.
    full: Option<f64>,
    needs: &'static str,
    engine: Engine,
}

enum Engine {
    /// A filter of libavfilter.
    Filter(Filter),
    /// A built-in model of libvmaf.
    Model(#[cfg_attr(not(feature = "vmaf"), expect(dead_code, reason = "read with the feature"))] &'static str),
}

struct Filter {
    name: &'static str,
    /// The key of its value in a frame's metadata.
    key: &'static str,
    /// Whether the original is its first input.
    original_first: bool,
    /// Whether it looks at more than one frame at a time, so that a stream cannot be cut up.
    looks_back: bool,
}

const PSNR: Row = Row {
    name: "psnr",
    title: "PSNR",
    unit: "dB",
    decimals: 2,
    // About one step of x264's CRF; 0.5 dB is the least that viewers tell apart.
    tolerance: 0.3,
    range: (15.0, 70.0),
    full: None,
    needs: "libavfilter's psnr",
    engine: Engine::Filter(Filter {
        name: "psnr",
        key: "lavfi.psnr.psnr_avg",
        original_first: false,
        looks_back: false,
    }),
};
const SSIM: Row = Row {
    name: "ssim",
    title: "SSIM",
    unit: "",
    decimals: 4,
    // At 0.95, what 0.3 dB are of PSNR.
    tolerance: 0.003,
    range: (0.3, 0.9999),
    full: Some(1.0),
    needs: "libavfilter's ssim",
    engine: Engine::Filter(Filter { name: "ssim", key: "lavfi.ssim.All", original_first: false, looks_back: false }),
};
const XPSNR: Row = Row {
    name: "xpsnr",
    title: "XPSNR",
    unit: "dB",
    decimals: 2,
    tolerance: 0.3,
    range: (15.0, 70.0),
    full: None,
    needs: "libavfilter's xpsnr, which came with FFmpeg 7.1",
    // Activity and motion are those of its first input (vf_xpsnr.c, do_xpsnr).
    engine: Engine::Filter(Filter {
        name: "xpsnr",
        key: "lavfi.xpsnr.xpsnr.y",
        original_first: true,
        looks_back: true,
    }),
};
const VMAF: Row = Row {
    name: "vmaf",
    title: "VMAF",
    unit: "",
    decimals: 2,
    // A just noticeable difference is about 6; the score of one frame jumps by more than this.
    tolerance: 0.5,
    range: (10.0, 99.5),
    full: Some(100.0),
    needs: "libvmaf in repass itself: cargo build --features vmaf",
    engine: Engine::Model("vmaf_v0.6.1"),
};
const VMAF_NEG: Row = Row { name: "vmaf-neg", title: "VMAF NEG", engine: Engine::Model("vmaf_v0.6.1neg"), ..VMAF };

/// One metric at work.
pub(crate) struct Judge {
    metric: Metric,
    pairs: usize,
    work: Work,
}

enum Work {
    /// Graphs that take turns, a pair each.
    Graphs(&'static Filter, Vec<Graph>),
    #[cfg(feature = "vmaf")]
    Model(Box<crate::av::vmaf::Vmaf>),
}

impl Judge {
    /// For frames like `first`. `threads`: in all; 0: none beside the one that calls, for [`Judge::take_one`].
    pub(crate) fn open(metric: Metric, first: &Frame, rate: Rational, threads: u16) -> Result<Self, Error> {
        if let Some(why) = metric.unavailable() {
            return Err(Error::Usage { what: "metric", text: metric.name().to_owned(), why });
        }
        let work = match &metric.row().engine {
            Engine::Filter(filter) => {
                let count = if filter.looks_back { 1 } else { threads.max(1) };
                let graphs = (0..count).map(|_| Graph::open(filter, first, rate));
                Work::Graphs(filter, graphs.collect::<Result<_, _>>()?)
            }
            #[cfg(feature = "vmaf")]
            Engine::Model(model) => {
                let model = crate::av::vmaf::Vmaf::open(model, threads).map_err(|source| failed(metric, source))?;
                Work::Model(Box::new(model))
            }
            #[cfg(not(feature = "vmaf"))]
            Engine::Model(_) => return Err(failed(metric, crate::av::AvError::invalid())),
        };
        Ok(Judge { metric, pairs: 0, work })
    }

    pub(crate) fn take(&mut self, pairs: &[(Frame, Frame)]) -> Result<(), Error> {
        let first = self.pairs;
        self.pairs += pairs.len();
        match &mut self.work {
            Work::Graphs(filter, graphs) => {
                let count = graphs.len();
                let turn = |number: usize, pair: usize| (first + pair) % count == number;
                graphs.par_iter_mut().enumerate().try_for_each(|(number, graph)| {
                    let own = pairs.iter().enumerate().filter(|(pair, _)| turn(number, *pair));
                    own.map(|(_, pair)| pair).try_for_each(|(original, coded)| graph.take(filter, original, coded))
                })
            }
            #[cfg(feature = "vmaf")]
            Work::Model(model) => pairs.iter().try_for_each(|(original, coded)| {
                model.push(original, coded).map_err(|source| failed(self.metric, source))
            }),
        }
    }

    /// The next pair, on the thread that calls.
    pub(crate) fn take_one(&mut self, original: &Frame, coded: &Frame) -> Result<(), Error> {
        self.pairs += 1;
        match &mut self.work {
            Work::Graphs(filter, graphs) => graphs.iter_mut().try_for_each(|graph| graph.take(filter, original, coded)),
            #[cfg(feature = "vmaf")]
            Work::Model(model) => model.push(original, coded).map_err(|source| failed(self.metric, source)),
        }
    }

    pub(crate) fn finish(self) -> Result<Vec<f64>, Error> {
        match self.work {
            Work::Graphs(filter, graphs) => {
                let count = graphs.len();
                let values = graphs.into_iter().map(|graph| graph.finish(filter)).collect::<Result<Vec<_>, _>>()?;
                let value = |pair: usize| values[pair % count].get(pair / count).copied();
                let all = (0..self.pairs).map(value).collect::<Option<Vec<f64>>>();
                all.ok_or_else(|| failed(self.metric, crate::av::AvError::invalid()))
            }
            #[cfg(feature = "vmaf")]
            Work::Model(model) => model.finish().map_err(|source| failed(self.metric, source)),
        }
    }
}

/// A filter's graph, and the values that came out of it.
struct Graph {
    comparison: Comparison,
    compared: Frame,
    values: Vec<f64>,
}

impl Graph {
    /// With one thread, for libavfilter's SSIM drops the windows that lie across two threads' rows: its value depends on
    /// the number of threads (vf_ssim.c; `ssim_does_not_depend_on_the_number_of_threads`).
    fn open(filter: &Filter, first: &Frame, rate: Rational) -> Result<Self, Error> {
        let compared = Frame::new().map_err(|source| no_value(filter, source))?;
        Ok(Graph { comparison: Comparison::open(filter.name, first, rate, Some(1))?, compared, values: Vec::new() })
    }

    fn take(&mut self, filter: &Filter, original: &Frame, coded: &Frame) -> Result<(), Error> {
        let (first, second) = if filter.original_first { (original, coded) } else { (coded, original) };
        self.comparison.push(first, second)?;
        self.pull(filter)
    }

    /// Takes the values that are ready.
    fn pull(&mut self, filter: &Filter) -> Result<(), Error> {
        while self.comparison.pull(&mut self.compared)? == Received::Ready {
            let value = self.compared.metadata(filter.key).and_then(|text| text.parse::<f64>().ok());
            let value = value.ok_or_else(|| no_value(filter, crate::av::AvError::invalid()))?;
            self.values.push(value.min(PSNR_CEILING));
        }
        Ok(())
    }

    fn finish(mut self, filter: &Filter) -> Result<Vec<f64>, Error> {
        self.comparison.push_end()?;
        self.pull(filter)?;
        Ok(self.values)
    }
}

fn no_value(filter: &Filter, source: crate::av::AvError) -> Error {
    Error::Filter { graph: filter.name.to_owned(), source, log: String::new() }
}

fn failed(metric: Metric, source: crate::av::AvError) -> Error {
    Error::Filter { graph: metric.name().to_owned(), source, log: String::new() }
}

/// Whether a pair can be compared; `number`: which it is, from 0.
pub(crate) fn check_pair(original: &Frame, coded: &Frame, number: u64) -> Result<(), Error> {
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

/// What a frame without error counts as, in decibels: above any 8-bit or 10-bit picture that has one.
pub const PSNR_CEILING: f64 = 100.0;
/// The least share of a picture that is counted as missing: 60 dB.
const LEAST_MISSING: f64 = 1e-6;
