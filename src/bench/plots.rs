//! The plots of a bench: which lines are drawn of which figures.
//!
//! Invariant: only what was measured is drawn; a line of more points than the eye can tell apart is drawn in means, and its
//! axis says so.

use crate::bench::chart::{Bar, BarChart, Line, LineChart};
use crate::bench::record::{Aim, Mode};
use crate::bench::results::{CellResult, Comparison, Results, Series};
use crate::quality::Metric;

/// Quality over bit rate of every series of a clip: a colour for each encoder and preset, a pattern for each mode.
#[must_use]
pub fn rate_quality(results: &Results, clip: &str, metric: Metric) -> LineChart {
    let mut lines = Vec::new();
    for (colour, series) in of_clip(results, clip).iter().enumerate() {
        for mode in Mode::ALL {
            let mut cells: Vec<&CellResult> =
                results.cells_of(series).filter(|result| result.cell.mode == mode).collect();
            cells.sort_by(|one, other| one.video_bps.total_cmp(&other.video_bps));
            let point = |result: &&CellResult| {
                let value = result.quality(metric)?.pooled.mean;
                Some((result.video_bps, value, Some(rate_tip(result, metric, value))))
            };
            let points: Vec<(f64, f64, Option<String>)> = cells.iter().filter_map(point).collect();
            if !points.is_empty() {
                lines.push(Line { name: format!("{} {mode}", series.name()), colour, dash: dash(mode), points });
            }
        }
    }
    LineChart {
        title: format!("{} over bit rate", metric.title()),
        x: "bits per second of video".to_owned(),
        logarithmic: true,
        y: with_unit(metric),
        from_zero: false,
        lines,
    }
}

fn rate_tip(result: &CellResult, metric: Metric, value: f64) -> String {
    let quality = result.quality(metric).map(|quality| quality.pooled);
    let low = quality.map(|pooled| format!(", 5th percentile {:.*}", metric.decimals(), pooled.p5)).unwrap_or_default();
    let miss = result.bitrate_error.map(|error| format!(" ({:+.1} %)", error * 100.0)).unwrap_or_default();
    format!(
        "{}: {:.0} kb/s{miss}, {} {value:.*} {}{low}, {:.1} fps",
        result.cell,
        result.video_bps / 1e3,
        metric.title(),
        metric.decimals(),
        metric.unit(),
        result.frames_per_second
    )
}

/// CPU time of every mode of a clip's series over that of one pass, by pass; wall time where CPU time is unknown.
#[must_use]
pub fn overhead(results: &Results, clip: &str) -> BarChart {
    let mut bars = Vec::new();
    for series in of_clip(results, clip) {
        let of_series = |comparison: &&Comparison| {
            (&comparison.clip, &comparison.encoder, &comparison.preset)
                == (&series.clip, &series.encoder, &series.preset)
        };
        let compared: Vec<&Comparison> = results.comparisons.iter().filter(of_series).collect();
        if !compared.is_empty() {
            bars.push(Bar {
                label: format!("{} {}", series.name(), Mode::OnePass),
                parts: vec![1.0],
                tip: format!("{}: one pass, what the others are measured by", series.name()),
            });
        }
        bars.extend(compared.into_iter().map(|comparison| bar(comparison, &series)));
    }
    BarChart {
        title: "Cost against one pass".to_owned(),
        label: "CPU time, one pass = 1".to_owned(),
        parts: vec!["pass 1, or the only one".to_owned(), "pass 2".to_owned()],
        bars,
        mark: Some(1.0),
    }
}

fn bar(comparison: &Comparison, series: &Series) -> Bar {
    let cost = comparison.cpu.unwrap_or(comparison.wall);
    let share = comparison.first_cpu_share.or(comparison.first_wall_share);
    let parts = share.map_or_else(|| vec![cost.ratio], |share| vec![cost.ratio * share, cost.ratio * (1.0 - share)]);
    let first = share.map(|share| format!(", {:.0} % of it in pass 1", share * 100.0)).unwrap_or_default();
    let name = format!("{} {}", series.name(), comparison.mode);
    let tip =
        format!("{name}: {:.2}× one pass, {:.2} to {:.2} over the rates{first}", cost.ratio, cost.least, cost.greatest);
    Bar { label: name, parts, tip }
}

/// Quality of every frame of a series at one rate: a line for each mode.
#[must_use]
pub fn frames(results: &Results, series: &Series, aim: Aim, metric: Metric, seconds_per_frame: f64) -> LineChart {
    let mut every = 1;
    let lines = at(results, series, aim).filter_map(|result| {
        let values = &result.quality(metric)?.frames;
        every = values.len().div_ceil(MOST_POINTS).max(1);
        Some(line(result, means(values, every, seconds_per_frame)))
    });
    let lines: Vec<Line> = lines.collect();
    let what = if every > 1 { format!(", mean of {every} frames") } else { String::new() };
    LineChart {
        title: format!("{} of every frame at {aim}{what}", metric.title()),
        x: "seconds".to_owned(),
        logarithmic: false,
        y: with_unit(metric),
        from_zero: false,
        lines,
    }
}

/// Bit rate of a series at one target over time: a line for each mode.
#[must_use]
pub fn bitrate(results: &Results, series: &Series, aim: Aim, seconds_per_frame: f64) -> LineChart {
    let mut window = 1.0;
    let lines = at(results, series, aim).filter(|result| !result.frame_bytes.is_empty()).map(|result| {
        let bits: Vec<f64> = result.frame_bytes.iter().map(|bytes| f64::from(*bytes) * 8.0).collect();
        let whole = bits.len() as f64 * seconds_per_frame;
        // A second, but some twenty windows of a short clip and at most as many as the eye can tell apart.
        window = 1f64.min(whole / 20.0).max(whole / MOST_POINTS as f64);
        let every = ((window / seconds_per_frame).round() as usize).max(1);
        window = every as f64 * seconds_per_frame;
        let rates = means(&bits, every, seconds_per_frame).into_iter();
        line(result, rates.map(|(at, bits, tip)| (at, bits / seconds_per_frame / 1e3, tip)).collect())
    });
    let lines: Vec<Line> = lines.collect();
    LineChart {
        title: format!("Bit rate over time at {aim}, in windows of {window:.2} s"),
        x: "seconds".to_owned(),
        logarithmic: false,
        y: "kb/s".to_owned(),
        from_zero: true,
        lines,
    }
}

/// The bit rates that a series aims at, from the least.
#[must_use]
pub fn aims(results: &Results, series: &Series) -> Vec<Aim> {
    let mut rates: Vec<u64> = results
        .cells_of(series)
        .filter_map(|result| match result.cell.aim {
            Aim::Rate(bps) => Some(bps),
            Aim::Quality(_) => None,
        })
        .collect();
    rates.sort_unstable();
    rates.dedup();
    rates.into_iter().map(Aim::Rate).collect()
}

/// Series of one clip.
#[must_use]
pub fn of_clip(results: &Results, clip: &str) -> Vec<Series> {
    results.series().into_iter().filter(|series| series.clip == clip).collect()
}

fn at<'r>(results: &'r Results, series: &'r Series, aim: Aim) -> impl Iterator<Item = &'r CellResult> {
    results.cells_of(series).filter(move |result| result.cell.aim == aim)
}

fn line(result: &CellResult, points: Vec<(f64, f64, Option<String>)>) -> Line {
    let mode = result.cell.mode;
    Line { name: mode.to_string(), colour: place(mode), dash: 0, points }
}

/// Means over so many frames, each at the time of its middle.
fn means(values: &[f64], every: usize, seconds_per_frame: f64) -> Vec<(f64, f64, Option<String>)> {
    let mean = |(number, chunk): (usize, &[f64])| {
        let middle = number * every;
        let middle = middle as f64 + (chunk.len() as f64 - 1.0) / 2.0;
        (middle * seconds_per_frame, chunk.iter().sum::<f64>() / chunk.len() as f64, None)
    };
    values.chunks(every).enumerate().map(mean).collect()
}

fn place(mode: Mode) -> usize {
    Mode::ALL.iter().position(|known| *known == mode).unwrap_or(0)
}

/// Two passes are solid, for they are the subject; one pass is dashed.
fn dash(mode: Mode) -> usize {
    match mode {
        Mode::TwoPass => 0,
        Mode::OnePass => 1,
        Mode::TwoPassFast => 2,
        Mode::Crf => 3,
        Mode::Inside => 4,
    }
}

fn with_unit(metric: Metric) -> String {
    if metric.unit().is_empty() { metric.title().to_owned() } else { format!("{} ({})", metric.title(), metric.unit()) }
}

/// More points than this are closer than the eye can tell apart.
const MOST_POINTS: usize = 600;
