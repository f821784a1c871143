//! Quality of a coded stream against its original, frame by frame.
//!
//! Invariant: frames are paired by their number; what differs in size, format or number is an error and never scaled,
//! converted or passed over.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::av::frame::Frame;
use crate::bench::statistics::Pooled;
use crate::error::Error;
use crate::media::Rational;
use crate::quality::{Judge, Metric, check_pair, mismatch};

/// One metric over a whole stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Which.
    pub metric: Metric,
    /// What the frames come to.
    pub pooled: Pooled,
    /// Its value of every frame; a frame without error has [`PSNR_CEILING`](crate::quality::PSNR_CEILING) dB.
    pub frames: Vec<f64>,
}

impl Quality {
    fn of(metric: Metric, frames: Vec<f64>) -> Result<Self, Error> {
        let pooled = Pooled::of(&frames).ok_or_else(|| mismatch("there is no frame to compare".to_owned()))?;
        Ok(Quality { metric, pooled, frames })
    }
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
    let at_once = usize::from(threads).clamp(FEWEST_AT_ONCE, MOST_AT_ONCE);
    let mut pairs = Pairs { original, coded, taken: 0, at_once };
    let mut chunk = pairs.next_chunk()?;
    let first = chunk.first().ok_or_else(|| mismatch("neither has a frame".to_owned()))?;
    let each = (usize::from(threads) / metrics.len().max(1)).clamp(1, usize::from(u16::MAX)) as u16;
    let judges = metrics.iter().map(|metric| Judge::open(*metric, &first.1, rate, each));
    let mut judges = judges.collect::<Result<Vec<_>, _>>()?;
    let mut done = 0;
    while !chunk.is_empty() {
        // The next frames are decoded while these are judged.
        let (next, judged) =
            rayon::join(|| pairs.next_chunk(), || judges.par_iter_mut().try_for_each(|judge| judge.take(&chunk)));
        judged?;
        done += chunk.len() as u64;
        tell(done);
        chunk = next?;
    }
    let values: Vec<Vec<f64>> = judges.into_par_iter().map(Judge::finish).collect::<Result<_, _>>()?;
    metrics.iter().zip(values).map(|(metric, frames)| Quality::of(*metric, frames)).collect()
}

struct Pairs<'p, 'f> {
    original: &'p mut Frames<'f>,
    coded: &'p mut Frames<'f>,
    taken: u64,
    at_once: usize,
}

impl Pairs<'_, '_> {
    fn next_chunk(&mut self) -> Result<Vec<(Frame, Frame)>, Error> {
        let mut chunk = Vec::with_capacity(self.at_once);
        while chunk.len() < self.at_once {
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

/// Pairs that are decoded while as many are judged: enough to keep every thread busy; few enough not to matter beside the
/// cache.
const FEWEST_AT_ONCE: usize = 8;
const MOST_AT_ONCE: usize = 32;
