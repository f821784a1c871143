//! What a handful of repeated measurements, or a quality per frame, come to.
//!
//! Invariant: pure arithmetic; an empty list has no statistics, and what is unknown is absent.

use serde::{Deserialize, Serialize};

use crate::quality::PSNR_CEILING;

/// Repeated measurements of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// Median absolute deviation from the median, times 1.4826: the standard deviation where errors are normal, and
    /// untouched by a single disturbed run. `None` of a single run.
    pub deviation: Option<f64>,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// How many.
    pub runs: usize,
}

impl Spread {
    /// Of these values; `None` of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let median = median(values)?;
        let distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        Some(Spread {
            median,
            deviation: (values.len() > 1).then(|| self::median(&distances).map(|mad| mad * TO_DEVIATION)).flatten(),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            greatest: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            runs: values.len(),
        })
    }

    /// The deviation as a share of the median: 0.02 is two per cent.
    #[must_use]
    pub fn relative(&self) -> Option<f64> {
        self.deviation.filter(|_| self.median > 0.0).map(|deviation| deviation / self.median)
    }

    /// Whether runs differ so much that a small difference between two of these means nothing: by [`NOISY`] in their
    /// deviation, or from least to greatest by four times that.
    #[must_use]
    pub fn is_noisy(&self) -> bool {
        let range = (self.greatest - self.least) / self.median.max(f64::MIN_POSITIVE);
        self.relative().is_some_and(|relative| relative > NOISY) || range > 4.0 * NOISY
    }

    /// The median of this over that of another, as a ratio, with its deviation where both have one.
    #[must_use]
    pub fn over(&self, other: &Spread) -> Option<Ratio> {
        if other.median <= 0.0 {
            return None;
        }
        let value = self.median / other.median;
        let deviation = self.relative().zip(other.relative()).map(|(one, two)| value * one.hypot(two));
        Some(Ratio { value, deviation })
    }

    /// Whether this differs from another by more than both their noise: by three deviations, and by half a per cent.
    #[must_use]
    pub fn differs_from(&self, other: &Spread) -> bool {
        let noise = self.deviation.unwrap_or(0.0).hypot(other.deviation.unwrap_or(0.0));
        let distance = (self.median - other.median).abs();
        distance > 3.0 * noise && distance > NEGLIGIBLE * other.median.abs()
    }
}

/// A ratio of two medians.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The ratio: 1.4 is forty per cent more.
    pub value: f64,
    /// Its deviation, where both sides were measured more than once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
}

/// What a quality per frame comes to over a clip.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pooled {
    /// Arithmetic mean; of PSNR, the mean of the frames' decibels.
    pub mean: f64,
    /// Harmonic mean, which bad frames pull down more; of `1 + v`, less 1, as libvmaf pools, so that a 0 is allowed.
    pub harmonic_mean: f64,
    /// 1st percentile: one frame of a hundred is worse.
    pub p1: f64,
    /// 5th percentile.
    pub p5: f64,
    /// The worst frame.
    pub worst: f64,
}

impl Pooled {
    /// Over these frames; `None` of none. A frame without error has infinite PSNR and counts as [`PSNR_CEILING`].
    #[must_use]
    pub fn of(frames: &[f64]) -> Option<Self> {
        let frames: Vec<f64> = frames.iter().map(|value| value.min(PSNR_CEILING)).collect();
        let count = frames.len() as f64;
        Some(Pooled {
            worst: frames.iter().copied().reduce(f64::min)?,
            mean: frames.iter().sum::<f64>() / count,
            harmonic_mean: count / frames.iter().map(|value| 1.0 / (value + 1.0)).sum::<f64>() - 1.0,
            p1: percentile(&frames, 0.01)?,
            p5: percentile(&frames, 0.05)?,
        })
    }
}

/// The value below which this share of the values lies, between neighbours in proportion (as numpy's `percentile`).
#[must_use]
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// The middle value, or the mean of the two in the middle.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    percentile(values, 0.5)
}

/// From a median absolute deviation to a standard deviation: 1 / Φ⁻¹(3/4).
const TO_DEVIATION: f64 = 1.4826;
/// Relative deviation of repeated runs from which on they are called noisy.
pub const NOISY: f64 = 0.03;
/// Relative difference that nobody would act upon.
const NEGLIGIBLE: f64 = 0.005;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_disturbed_run_does_not_move_the_median_but_is_noticed() {
        let calm = Spread::of(&[1.00, 1.01, 0.99, 1.00, 1.01]).unwrap();
        let disturbed = Spread::of(&[1.00, 1.01, 0.99, 1.00, 1.60]).unwrap();
        assert_eq!(disturbed.median, 1.00);
        assert!(!calm.is_noisy());
        assert!(disturbed.is_noisy());
        assert!(disturbed.deviation.unwrap() < 0.02);
    }

    #[test]
    fn a_single_run_has_no_deviation() {
        let spread = Spread::of(&[2.5]).unwrap();
        assert_eq!((spread.median, spread.deviation, spread.is_noisy()), (2.5, None, false));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_ratio_carries_the_noise_of_both_sides() {
        let (two, one) = (Spread::of(&[2.0, 2.02, 1.98]).unwrap(), Spread::of(&[1.0, 1.01, 0.99]).unwrap());
        let ratio = two.over(&one).unwrap();
        assert_eq!(ratio.value, 2.0);
        assert!((ratio.deviation.unwrap() - 2.0 * 0.014826 * 2f64.sqrt()).abs() < 1e-12);
        assert!(two.differs_from(&one) && !one.differs_from(&one));
    }

    #[test]
    fn percentiles_are_numpys() {
        let values = [15.0, 20.0, 35.0, 40.0, 50.0];
        // numpy.percentile(values, [5, 40, 50, 100])
        for (share, expected) in [(0.05, 16.0), (0.4, 29.0), (0.5, 35.0), (1.0, 50.0)] {
            assert!((percentile(&values, share).unwrap() - expected).abs() < 1e-12, "{share}");
        }
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn pooling_is_libvmafs() {
        let pooled = Pooled::of(&[90.0, 0.0]).unwrap();
        assert_eq!((pooled.mean, pooled.worst), (45.0, 0.0));
        // 2 / (1/91 + 1/1) - 1
        assert!((pooled.harmonic_mean - (2.0 / (1.0 / 91.0 + 1.0) - 1.0)).abs() < 1e-12);
        assert_eq!(Pooled::of(&[f64::INFINITY, 40.0]).unwrap().mean, 70.0);
    }
}
