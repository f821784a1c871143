//! Bjøntegaard deltas: how two rate-quality curves differ on average, at equal quality and at equal bit rate.
//!
//! After G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001 (cubic), and F. Bossen,
//! "Common HM test conditions", JCTVC-L1100, 2013, whose spreadsheet interpolates piecewise ([`Interpolation::Pchip`]):
//! F. N. Fritsch and J. Butland, "A method for constructing local monotone piecewise cubic interpolants", SIAM J. Sci. Stat.
//! Comput. 5, 1984.
//!
//! Invariant: pure arithmetic; a delta is given only over what both curves cover, and says how much that is.

use serde::{Deserialize, Serialize};

/// One encode: what it took and what it brought.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Bits per second, or any other unit of rate that both curves share.
    pub rate: f64,
    /// Quality; more is better.
    pub quality: f64,
}

/// How a curve runs between its points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Piecewise cubic and monotone, through every point: what the standards' spreadsheets use.
    Pchip,
    /// One cubic for the whole curve, fitted by least squares: Bjøntegaard's own, which overshoots on steep curves.
    Cubic,
}

/// A delta between two curves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// For a rate, a share: -0.05 is five per cent fewer bits at equal quality. For a quality, in its own unit.
    pub value: f64,
    /// The part of the axis that both curves cover, of what either covers, from 0 to 1. Below 0.75 the literature warns.
    pub overlap: f64,
}

/// Why there is no delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoDelta {
    /// A cubic has four coefficients.
    #[error("fewer than four rates")]
    TooFewPoints,
    /// More bits did not bring more quality, so that neither is a function of the other.
    #[error("quality does not rise with the rate")]
    NotRising,
    /// No quality, or no rate, that both curves reach.
    #[error("the curves have nothing in common")]
    NoOverlap,
}

/// How many more bits `test` takes than `anchor` at equal quality, on average over the qualities both reach, as a share.
///
/// # Errors
/// [`NoDelta`].
pub fn bd_rate(anchor: &[Point], test: &[Point], interpolation: Interpolation) -> Result<Delta, NoDelta> {
    let log_rate = |point: &Point| (point.quality, point.rate.log10());
    let delta = mean_distance(&curve(anchor, log_rate)?, &curve(test, log_rate)?, interpolation)?;
    Ok(Delta { value: 10f64.powf(delta.value) - 1.0, ..delta })
}

/// How much more quality `test` has than `anchor` at equal bit rate, on average over the rates both have.
///
/// # Errors
/// [`NoDelta`].
pub fn bd_quality(anchor: &[Point], test: &[Point], interpolation: Interpolation) -> Result<Delta, NoDelta> {
    let quality = |point: &Point| (point.rate.log10(), point.quality);
    mean_distance(&curve(anchor, quality)?, &curve(test, quality)?, interpolation)
}

/// The quality of a curve at a rate between its points, or at most a tenth outside them along its end; `None` further
/// away, or where it has fewer than two points.
#[must_use]
pub fn quality_at(points: &[Point], rate: f64) -> Option<f64> {
    let (x, y) = sorted(points, |point| (point.rate.log10(), point.quality));
    if x.len() < 2 || !is_rising(&x) {
        return None;
    }
    let at = rate.log10();
    let outside = at - at.clamp(x[0], x[x.len() - 1]);
    let pieces = Pieces::pchip(&x, &y);
    let end = if outside < 0.0 { 0 } else { x.len() - 1 };
    match outside {
        0.0 => Some(pieces.value(at)),
        some if some.abs() <= EXTENSION.log10() => Some(y[end] + pieces.slopes[end] * some),
        _ => None,
    }
}

/// Abscissas in rising order, and their ordinates.
type Curve = (Vec<f64>, Vec<f64>);

fn curve(points: &[Point], axes: impl Fn(&Point) -> (f64, f64)) -> Result<Curve, NoDelta> {
    if points.len() < LEAST_POINTS {
        return Err(NoDelta::TooFewPoints);
    }
    let (x, y) = sorted(points, axes);
    // Both ways, for a curve that falls somewhere has two rates of one quality.
    if is_rising(&x) && is_rising(&y) { Ok((x, y)) } else { Err(NoDelta::NotRising) }
}

fn sorted(points: &[Point], axes: impl Fn(&Point) -> (f64, f64)) -> Curve {
    let mut pairs: Vec<(f64, f64)> = points.iter().map(axes).collect();
    pairs.sort_by(|one, other| one.0.total_cmp(&other.0));
    pairs.into_iter().unzip()
}

fn is_rising(values: &[f64]) -> bool {
    values.iter().all(|value| value.is_finite()) && values.windows(2).all(|pair| pair[0] < pair[1])
}

fn mean_distance(anchor: &Curve, test: &Curve, interpolation: Interpolation) -> Result<Delta, NoDelta> {
    let ends = |curve: &Curve| (curve.0[0], curve.0[curve.0.len() - 1]);
    let ((a, b), (c, d)) = (ends(anchor), ends(test));
    let (low, high) = (a.max(c), b.min(d));
    if low >= high {
        return Err(NoDelta::NoOverlap);
    }
    let area = |curve: &Curve| match interpolation {
        Interpolation::Pchip => Pieces::pchip(&curve.0, &curve.1).integral(low, high),
        Interpolation::Cubic => Cubic::fit(&curve.0, &curve.1).integral(low, high),
    };
    let value = (area(test) - area(anchor)) / (high - low);
    Ok(Delta { value, overlap: (high - low) / (b.max(d) - a.min(c)) })
}

/// A piecewise cubic: between two points, the values and slopes at its ends decide.
struct Pieces<'c> {
    x: &'c [f64],
    y: &'c [f64],
    slopes: Vec<f64>,
}

impl<'c> Pieces<'c> {
    /// Slopes as Fritsch and Butland give them: a weighted harmonic mean of the neighbours' where these agree in sign, else
    /// none, so that the curve never overshoots.
    fn pchip(x: &'c [f64], y: &'c [f64]) -> Self {
        let widths: Vec<f64> = x.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let secants: Vec<f64> = y.windows(2).zip(&widths).map(|(pair, width)| (pair[1] - pair[0]) / width).collect();
        let last = secants.len() - 1;
        let mut slopes = vec![secants[0]; x.len()];
        if last > 0 {
            for k in 1..=last {
                slopes[k] = inner_slope((widths[k - 1], widths[k]), (secants[k - 1], secants[k]));
            }
            slopes[0] = end_slope((widths[0], widths[1]), (secants[0], secants[1]));
            slopes[last + 1] = end_slope((widths[last], widths[last - 1]), (secants[last], secants[last - 1]));
        }
        Pieces { x, y, slopes }
    }

    fn value(&self, at: f64) -> f64 {
        let piece = self.x.windows(2).position(|pair| at <= pair[1]).unwrap_or(self.x.len() - 2);
        let (c, t) = (self.coefficients(piece), at - self.x[piece]);
        ((c[3] * t + c[2]) * t + c[1]) * t + c[0]
    }

    fn integral(&self, low: f64, high: f64) -> f64 {
        let mut area = 0.0;
        for piece in 0..self.x.len() - 1 {
            let (from, to) = (low.max(self.x[piece]), high.min(self.x[piece + 1]));
            if from < to {
                let c = self.coefficients(piece);
                area += antiderivative(&c, to - self.x[piece]) - antiderivative(&c, from - self.x[piece]);
            }
        }
        area
    }

    /// Coefficients of a piece in powers of the distance from its left end (Hermite form).
    fn coefficients(&self, piece: usize) -> [f64; 4] {
        let width = self.x[piece + 1] - self.x[piece];
        let secant = (self.y[piece + 1] - self.y[piece]) / width;
        let (left, right) = (self.slopes[piece], self.slopes[piece + 1]);
        [
            self.y[piece],
            left,
            (3.0 * secant - 2.0 * left - right) / width,
            (left + right - 2.0 * secant) / (width * width),
        ]
    }
}

fn inner_slope(widths: (f64, f64), secants: (f64, f64)) -> f64 {
    if secants.0 * secants.1 <= 0.0 {
        return 0.0;
    }
    let (before, after) = (2.0 * widths.1 + widths.0, widths.1 + 2.0 * widths.0);
    (before + after) / (before / secants.0 + after / secants.1)
}

/// The three-point formula, kept within what is monotone (Fritsch and Carlson, SIAM J. Numer. Anal. 17, 1980). Near comes
/// first in both pairs.
fn end_slope(widths: (f64, f64), secants: (f64, f64)) -> f64 {
    let slope = ((2.0 * widths.0 + widths.1) * secants.0 - widths.0 * secants.1) / (widths.0 + widths.1);
    if slope * secants.0 <= 0.0 {
        0.0
    } else if secants.0 * secants.1 <= 0.0 && slope.abs() > 3.0 * secants.0.abs() {
        3.0 * secants.0
    } else {
        slope
    }
}

/// One cubic for a whole curve, in powers of the distance from its middle, in units of its half width: so that the fit is
/// well conditioned.
struct Cubic {
    middle: f64,
    half: f64,
    coefficients: [f64; 4],
}

impl Cubic {
    fn fit(x: &[f64], y: &[f64]) -> Self {
        let (first, last) = (x[0], x[x.len() - 1]);
        let (middle, half) = ((first + last) / 2.0, (last - first) / 2.0);
        let mut normal = [[0.0; 5]; 4];
        for (x, y) in x.iter().zip(y) {
            let t = (x - middle) / half;
            let powers = [1.0, t, t * t, t * t * t];
            for (row, power) in normal.iter_mut().zip(powers) {
                for (cell, other) in row.iter_mut().zip(powers.into_iter().chain([*y])) {
                    *cell += power * other;
                }
            }
        }
        Cubic { middle, half, coefficients: solved(normal) }
    }

    fn integral(&self, low: f64, high: f64) -> f64 {
        let at = |x: f64| antiderivative(&self.coefficients, (x - self.middle) / self.half);
        (at(high) - at(low)) * self.half
    }
}

/// Solves four linear equations, the right side in the last column, by elimination with pivots.
fn solved(mut rows: [[f64; 5]; 4]) -> [f64; 4] {
    for k in 0..4 {
        let pivot = (k..4).max_by(|a, b| rows[*a][k].abs().total_cmp(&rows[*b][k].abs())).unwrap_or(k);
        rows.swap(k, pivot);
        let pivot_row = rows[k];
        for (_, row) in rows.iter_mut().enumerate().filter(|(number, _)| *number != k) {
            let factor = row[k] / pivot_row[k];
            for (cell, above) in row.iter_mut().zip(pivot_row) {
                *cell -= factor * above;
            }
        }
    }
    [0, 1, 2, 3].map(|k| rows[k][4] / rows[k][k])
}

fn antiderivative(c: &[f64; 4], t: f64) -> f64 {
    (((c[3] / 4.0 * t + c[2] / 3.0) * t + c[1] / 2.0) * t + c[0]) * t
}

/// How far a curve is followed beyond its ends, as a ratio of rates: rate control misses its target by some per cent.
const EXTENSION: f64 = 1.1;

/// As many as a cubic has coefficients.
pub const LEAST_POINTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    struct Example {
        name: &'static str,
        anchor: &'static [(f64, f64)],
        test: &'static [(f64, f64)],
        /// BD-rate in per cent and BD-quality, by PCHIP and by one cubic.
        pchip: (f64, f64),
        cubic: (f64, f64),
    }

    /// Points as published; what they give by the Python package `bjontegaard` 1.3.0, whose PCHIP its authors compared with
    /// the spreadsheet of JVET-T2010 to ten places.
    const EXAMPLES: &[Example] = &[
        Example {
            name: "x265 presets, from the package's README",
            anchor: &[(9487.76, 40.037), (4593.60, 38.615), (2486.44, 36.845), (1358.24, 34.851)],
            test: &[(9787.80, 40.121), (4469.00, 38.651), (2451.52, 36.970), (1356.24, 34.987)],
            pchip: (-4.417485350589045, 0.11969278542479489),
            cubic: (-4.420462706125383, 0.12040941911451103),
        },
        // Netflix's VMAF has the PCHIP rates of these two in its tests: -0.00465215420752807 and -0.018779823450567612.
        Example {
            name: "JCTVC-E137, first",
            anchor: &[(108048.8736, 43.6471), (61279.976, 40.3953), (33905.6656, 37.247), (18883.6928, 34.2911)],
            test: &[(108061.2784, 43.6768), (61299.9936, 40.4232), (33928.7472, 37.2761), (18910.912, 34.3147)],
            pchip: (-0.4652154207524628, 0.02505021125935584),
            cubic: (-0.46441542003275993, 0.025059986247512576),
        },
        Example {
            name: "JCTVC-E137, second",
            anchor: &[(40433.8848, 37.5761), (7622.7456, 35.3756), (2394.488, 33.8977), (1017.6184, 32.0603)],
            test: &[(40370.12, 37.5982), (7587.0024, 35.4025), (2390.0944, 33.9194), (1017.0984, 32.0822)],
            pchip: (-1.8779823450566169, 0.028471891040305668),
            cubic: (-1.9101686785261807, 0.02870381233133287),
        },
        Example {
            name: "five points, made up",
            anchor: &[(500.0, 60.1), (1000.0, 74.3), (2000.0, 85.2), (4000.0, 92.9), (8000.0, 96.8)],
            test: &[(480.0, 62.0), (950.0, 75.5), (2100.0, 87.0), (3900.0, 93.5), (8200.0, 97.3)],
            pchip: (-10.406666184906577, 1.4107365923909532),
            cubic: (-10.543581898859856, 1.404706294526762),
        },
    ];

    fn points(pairs: &[(f64, f64)]) -> Vec<Point> {
        pairs.iter().map(|(rate, quality)| Point { rate: *rate, quality: *quality }).collect()
    }

    #[test]
    fn published_examples_come_out() {
        for example in EXAMPLES {
            let (anchor, test) = (points(example.anchor), points(example.test));
            for (how, (rate, quality)) in [(Interpolation::Pchip, example.pchip), (Interpolation::Cubic, example.cubic)]
            {
                let ours = bd_rate(&anchor, &test, how).unwrap().value * 100.0;
                assert!((ours - rate).abs() < 1e-7, "{}, {how:?}: {ours} and not {rate}", example.name);
                let ours = bd_quality(&anchor, &test, how).unwrap().value;
                assert!((ours - quality).abs() < 1e-9, "{}, {how:?}: {ours} and not {quality}", example.name);
            }
        }
    }

    #[test]
    fn a_curve_does_not_differ_from_itself() {
        let curve = points(EXAMPLES[0].anchor);
        for how in [Interpolation::Pchip, Interpolation::Cubic] {
            assert_eq!(bd_rate(&curve, &curve, how), Ok(Delta { value: 0.0, overlap: 1.0 }));
            assert_eq!(bd_quality(&curve, &curve, how), Ok(Delta { value: 0.0, overlap: 1.0 }));
        }
    }

    #[test]
    fn half_the_rate_at_every_quality_is_minus_fifty_per_cent() {
        let anchor = points(EXAMPLES[0].anchor);
        let test: Vec<Point> = anchor.iter().map(|point| Point { rate: point.rate / 2.0, ..*point }).collect();
        assert!((bd_rate(&anchor, &test, Interpolation::Pchip).unwrap().value + 0.5).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let curve = points(EXAMPLES[0].anchor);
        let higher: Vec<Point> = curve.iter().map(|point| Point { quality: point.quality + 20.0, ..*point }).collect();
        let falling = points(&[(1.0, 30.0), (2.0, 31.0), (3.0, 30.5), (4.0, 33.0)]);
        let delta = |test| bd_rate(&curve, test, Interpolation::Pchip);
        assert_eq!(delta(&higher), Err(NoDelta::NoOverlap));
        assert_eq!(delta(&falling), Err(NoDelta::NotRising));
        assert_eq!(delta(&curve[..3]), Err(NoDelta::TooFewPoints));
    }

    #[test]
    fn a_curve_passes_through_its_points() {
        let curve = points(EXAMPLES[0].anchor);
        for point in &curve {
            assert!((quality_at(&curve, point.rate).unwrap() - point.quality).abs() < 1e-12);
        }
        let beyond = quality_at(&curve, 9487.76 * 1.05).unwrap();
        assert!(beyond > 40.037 && beyond < 40.2, "{beyond}");
        assert_eq!(quality_at(&curve, 100.0), None);
        assert_eq!(quality_at(&curve[..1], 9487.76), None);
    }
}
