//! What a bench comes to: medians of every cell, and each mode against one pass.
//!
//! Invariant: computed from the journal's lines and nothing else, so a report can be made again at any time, also of a bench
//! that was interrupted.

use serde::{Deserialize, Serialize};

use crate::bench::bd::{Delta, Interpolation, Point, bd_quality, bd_rate, quality_at};
use crate::bench::quality::Quality;
use crate::bench::record::{Aim, Begun, Cell, ClipRecord, Entry, Mode, QualityRecord, RunRecord, Unavailable};
use crate::bench::statistics::{Ratio, Spread, median};
use crate::bench::verdict;
use crate::quality::Metric;

/// A whole bench.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Machine, versions and settings; `None` of an empty journal.
    pub begun: Option<Begun>,
    /// The footage.
    pub clips: Vec<ClipRecord>,
    /// Every cell that was encoded at least once.
    pub cells: Vec<CellResult>,
    /// Every mode against one pass, by clip, encoder and preset.
    pub comparisons: Vec<Comparison>,
    /// What was asked for and cannot be had here.
    pub unavailable: Vec<Unavailable>,
    /// Every encode as it was timed.
    pub runs: Vec<RunRecord>,
}

/// One cell over all its repetitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// Which.
    pub cell: Cell,
    /// Seconds of all passes.
    pub wall: Spread,
    /// CPU seconds of all passes, user and system.
    pub cpu: Option<Spread>,
    /// Of these, seconds in the kernel.
    pub system: Option<Spread>,
    /// Each pass.
    pub passes: Vec<PassResult>,
    /// Frames per second of wall time, all passes together.
    pub frames_per_second: f64,
    /// Average bit rate of the video, in bits per second.
    pub video_bps: f64,
    /// How far that is from the bit rate aimed at, as a share.
    pub bitrate_error: Option<f64>,
    /// Median of what encoding took of memory, in bytes.
    pub peak_bytes: Option<f64>,
    /// Whether every repetition made as many bytes.
    pub repeatable: bool,
    /// Every metric; empty where nothing was measured.
    pub qualities: Vec<Quality>,
    /// Bytes of each frame, in the order of showing.
    pub frame_bytes: Vec<u32>,
}

/// One pass over all repetitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassResult {
    /// Which, from 1.
    pub number: u8,
    /// Seconds from beginning to end.
    pub wall: Spread,
    /// CPU seconds, user and system.
    pub cpu: Option<Spread>,
    /// Bytes of statistics written.
    pub stats_bytes: Option<u64>,
}

/// A mode against one pass of the same encoder, preset and clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the clip.
    pub clip: String,
    /// libavcodec's name of the encoder.
    pub encoder: String,
    /// Its preset.
    pub preset: Option<String>,
    /// The mode that is compared with one pass.
    pub mode: Mode,
    /// Wall time over that of one pass.
    pub wall: Cost,
    /// CPU time over that of one pass.
    pub cpu: Option<Cost>,
    /// Share of pass 1 in the wall time of all passes.
    pub first_wall_share: Option<f64>,
    /// Share of pass 1 in the CPU time of all passes.
    pub first_cpu_share: Option<f64>,
    /// Mean distance from the bit rate aimed at, as a share: of one pass, and of this mode.
    pub bitrate_miss: Option<(f64, f64)>,
    /// What it brings, by each metric.
    pub gains: Vec<Gain>,
    /// Whether times differ so much from run to run that small differences mean nothing.
    pub noisy: bool,
    /// In words.
    pub verdict: String,
}

/// A ratio of costs, over all rates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Median of the rates' ratios: 1.4 is forty per cent more.
    pub ratio: f64,
    /// The least of them.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// Median of the ratios' deviations from run to run.
    pub deviation: Option<f64>,
}

/// What a mode brings by one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// The metric.
    pub metric: Metric,
    /// Mean gain over the rates, in the metric's unit.
    pub mean: Option<f64>,
    /// The same of the 5th percentile of frames.
    pub p5: Option<f64>,
    /// The same of the worst frame.
    pub worst: Option<f64>,
    /// Whether these compare at equal bit rates, by the curve of one pass; else as the files came out.
    pub at_equal_rate: bool,
    /// Bits at equal quality, by PCHIP: -0.05 is five per cent fewer.
    pub bd_rate: Option<Delta>,
    /// The same by one cubic.
    pub bd_rate_cubic: Option<Delta>,
    /// Quality at equal bit rate, by PCHIP.
    pub bd_quality: Option<Delta>,
    /// Why there are no such deltas.
    pub no_delta: Option<String>,
}

impl Results {
    /// Of these lines.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Self {
        let mut results = Results {
            begun: None,
            clips: Vec::new(),
            cells: Vec::new(),
            comparisons: Vec::new(),
            unavailable: Vec::new(),
            runs: Vec::new(),
        };
        let mut qualities = Vec::new();
        for entry in entries {
            match entry {
                Entry::Begun(begun) => results.begun = Some((**begun).clone()),
                Entry::Clip(clip) => results.clips.push(clip.clone()),
                Entry::Unavailable(lack) => results.unavailable.push(lack.clone()),
                Entry::Run(run) => results.runs.push(run.clone()),
                Entry::Quality(quality) => qualities.push(quality),
            }
        }
        results.cells = cells(&results.runs, &qualities);
        results.comparisons = comparisons(&results.cells);
        results
    }

    /// As JSON, indented.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data with text keys always serialises")
    }

    /// What quality was measured by.
    #[must_use]
    pub fn metrics(&self) -> &[Metric] {
        self.begun.as_ref().map_or(&[], |begun| &begun.settings.metrics)
    }

    /// Cells of one clip, encoder and preset.
    pub fn cells_of<'r>(&'r self, series: &'r Series) -> impl Iterator<Item = &'r CellResult> {
        self.cells.iter().filter(|result| series.has(&result.cell))
    }

    /// Every clip, encoder and preset that was encoded.
    #[must_use]
    pub fn series(&self) -> Vec<Series> {
        series(&self.cells)
    }
}

/// One encoder at one preset on one clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name of the clip.
    pub clip: String,
    /// libavcodec's name of the encoder.
    pub encoder: String,
    /// Its preset.
    pub preset: Option<String>,
}

impl Series {
    fn of(cell: &Cell) -> Self {
        Series { clip: cell.clip.clone(), encoder: cell.encoder.clone(), preset: cell.preset.clone() }
    }

    fn has(&self, cell: &Cell) -> bool {
        self.clip == cell.clip && self.encoder == cell.encoder && self.preset == cell.preset
    }

    /// Encoder and preset.
    #[must_use]
    pub fn name(&self) -> String {
        series_name(&self.encoder, self.preset.as_deref())
    }
}

/// Encoder and preset, as tables and plots name them.
#[must_use]
pub fn series_name(encoder: &str, preset: Option<&str>) -> String {
    preset.map_or_else(|| encoder.to_owned(), |preset| format!("{encoder} {preset}"))
}

impl CellResult {
    /// The values of one metric.
    #[must_use]
    pub fn quality(&self, metric: Metric) -> Option<&Quality> {
        self.qualities.iter().find(|quality| quality.metric == metric)
    }

    fn point(&self, value: impl Fn(&CellResult) -> Option<f64>) -> Option<Point> {
        Some(Point { rate: self.video_bps, quality: value(self)? })
    }
}

fn series(cells: &[CellResult]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for result in cells {
        let series = Series::of(&result.cell);
        if !all.contains(&series) {
            all.push(series);
        }
    }
    all
}

/// In the order of clip, encoder, preset, mode and rate, in which tables and plots have them.
fn cells(runs: &[RunRecord], qualities: &[&QualityRecord]) -> Vec<CellResult> {
    let mut distinct: Vec<&Cell> = Vec::new();
    for run in runs {
        if !distinct.contains(&&run.cell) {
            distinct.push(&run.cell);
        }
    }
    let first = |key: &dyn Fn(&Cell) -> String, cell: &Cell| runs.iter().position(|run| key(&run.cell) == key(cell));
    let level = |cell: &Cell| match cell.aim {
        Aim::Rate(bps) => bps as f64,
        Aim::Quality(level) => level,
    };
    distinct.sort_by(|one, other| {
        let place = |cell: &Cell| {
            let clip = first(&|cell| cell.clip.clone(), cell);
            let encoder = first(&|cell| cell.encoder.clone(), cell);
            (clip, encoder, cell.preset.clone(), cell.mode)
        };
        place(one).cmp(&place(other)).then(level(one).total_cmp(&level(other)))
    });
    distinct.into_iter().filter_map(|cell| cell_result(cell, runs, qualities)).collect()
}

fn cell_result(cell: &Cell, runs: &[RunRecord], qualities: &[&QualityRecord]) -> Option<CellResult> {
    let own: Vec<&RunRecord> = runs.iter().filter(|run| run.cell == *cell).collect();
    let spread = |value: &dyn Fn(&RunRecord) -> Option<f64>| {
        own.iter().map(|run| value(run)).collect::<Option<Vec<f64>>>().and_then(|values| Spread::of(&values))
    };
    let first = own.first()?;
    let wall = spread(&|run| Some(run.wall_seconds()))?;
    let pass = |index: usize| {
        Some(PassResult {
            number: first.passes[index].number,
            wall: spread(&|run| Some(run.passes.get(index)?.wall_seconds))?,
            cpu: spread(&|run| run.passes.get(index)?.cpu_seconds),
            stats_bytes: first.passes[index].stats_bytes,
        })
    };
    let quality = qualities.iter().find(|quality| quality.cell == *cell);
    let peaks: Vec<f64> = own.iter().filter_map(|run| run.peak_bytes).map(|bytes| bytes as f64).collect();
    Some(CellResult {
        cell: cell.clone(),
        cpu: spread(&RunRecord::cpu_seconds),
        system: spread(&|run| run.passes.iter().map(|pass| pass.system_seconds).sum()),
        passes: (0..first.passes.len()).filter_map(pass).collect(),
        frames_per_second: first.frames as f64 / wall.median.max(1e-9),
        wall,
        video_bps: first.video_bps,
        bitrate_error: first.bitrate_error,
        peak_bytes: median(&peaks),
        repeatable: own.iter().all(|run| run.video_bytes == first.video_bytes),
        qualities: quality.map(|record| record.qualities.clone()).unwrap_or_default(),
        frame_bytes: quality.map(|record| record.frame_bytes.clone()).unwrap_or_default(),
    })
}

fn comparisons(cells: &[CellResult]) -> Vec<Comparison> {
    let mut all = Vec::new();
    for series in series(cells) {
        let of = |mode: Mode| -> Vec<&CellResult> {
            cells.iter().filter(|result| series.has(&result.cell) && result.cell.mode == mode).collect()
        };
        let base = of(Mode::OnePass);
        for mode in Mode::ALL.into_iter().filter(|mode| *mode != Mode::OnePass) {
            all.extend(comparison(&series, mode, &base, &of(mode)));
        }
    }
    all
}

/// `None` where one side has not been measured.
fn comparison(series: &Series, mode: Mode, base: &[&CellResult], test: &[&CellResult]) -> Option<Comparison> {
    let share = |of: &dyn Fn(&PassResult) -> Option<f64>| {
        let shares: Vec<f64> = test.iter().filter_map(|result| first_share(result, of)).collect();
        median(&shares)
    };
    let miss = |side: &[&CellResult]| {
        let misses: Vec<f64> = side.iter().filter_map(|result| result.bitrate_error).map(f64::abs).collect();
        (!misses.is_empty()).then(|| misses.iter().sum::<f64>() / misses.len() as f64)
    };
    let metrics = test.first()?.qualities.iter().map(|quality| quality.metric);
    let mut comparison = Comparison {
        clip: series.clip.clone(),
        encoder: series.encoder.clone(),
        preset: series.preset.clone(),
        mode,
        wall: cost(base, test, |result| Some(result.wall))?,
        cpu: cost(base, test, |result| result.cpu),
        first_wall_share: share(&|pass| Some(pass.wall.median)),
        first_cpu_share: share(&|pass| pass.cpu.map(|cpu| cpu.median)),
        bitrate_miss: miss(base).zip(miss(test)),
        gains: metrics.map(|metric| gain(metric, base, test)).collect(),
        noisy: base.iter().chain(test).any(|result| result.cpu.unwrap_or(result.wall).is_noisy()),
        verdict: String::new(),
    };
    comparison.verdict = verdict::words(&comparison);
    Some(comparison)
}

fn first_share(result: &CellResult, of: &dyn Fn(&PassResult) -> Option<f64>) -> Option<f64> {
    let [first, _, ..] = result.passes.as_slice() else { return None };
    let all: f64 = result.passes.iter().map(of).sum::<Option<f64>>()?;
    Some(of(first)? / all)
}

/// Cells that aim at the same are compared with each other; a constant quality aims at nothing that one pass has, so there
/// the medians over all are.
fn cost(base: &[&CellResult], test: &[&CellResult], of: impl Fn(&CellResult) -> Option<Spread>) -> Option<Cost> {
    let partner = |result: &CellResult| base.iter().find(|other| other.cell.aim == result.cell.aim).copied();
    let mut ratios: Vec<Ratio> = test.iter().filter_map(|result| of(result)?.over(&of(partner(result)?)?)).collect();
    if ratios.is_empty() {
        let all = |side: &[&CellResult]| {
            Spread::of(&side.iter().filter_map(|result| of(result)).map(|spread| spread.median).collect::<Vec<f64>>())
        };
        let value = all(test)?.over(&all(base)?)?.value;
        ratios.push(Ratio { value, deviation: None });
    }
    let values: Vec<f64> = ratios.iter().map(|ratio| ratio.value).collect();
    let deviations: Vec<f64> = ratios.iter().filter_map(|ratio| ratio.deviation).collect();
    let spread = Spread::of(&values)?;
    Some(Cost { ratio: spread.median, least: spread.least, greatest: spread.greatest, deviation: median(&deviations) })
}

fn gain(metric: Metric, base: &[&CellResult], test: &[&CellResult]) -> Gain {
    let curve = |side: &[&CellResult], pool: fn(&Quality) -> f64| -> Vec<Point> {
        side.iter().filter_map(|result| result.point(|result| result.quality(metric).map(pool))).collect()
    };
    let (anchor, own) = (curve(base, |q| q.pooled.mean), curve(test, |q| q.pooled.mean));
    let at_equal_rate = own.iter().any(|point| quality_at(&anchor, point.rate).is_some());
    let pooled = |pool: fn(&Quality) -> f64| {
        if at_equal_rate {
            gain_at_equal_rate(&curve(base, pool), &curve(test, pool))
        } else {
            gain_as_they_are(metric, base, test, pool)
        }
    };
    let rate = bd_rate(&anchor, &own, Interpolation::Pchip);
    Gain {
        metric,
        mean: pooled(|quality| quality.pooled.mean),
        p5: pooled(|quality| quality.pooled.p5),
        worst: pooled(|quality| quality.pooled.worst),
        at_equal_rate,
        bd_rate: rate.ok(),
        bd_rate_cubic: bd_rate(&anchor, &own, Interpolation::Cubic).ok(),
        bd_quality: bd_quality(&anchor, &own, Interpolation::Pchip).ok(),
        no_delta: rate.err().map(|why| why.to_string()),
    }
}

/// Mean distance of a curve's points from another curve.
fn gain_at_equal_rate(anchor: &[Point], own: &[Point]) -> Option<f64> {
    let gains: Vec<f64> =
        own.iter().filter_map(|point| Some(point.quality - quality_at(anchor, point.rate)?)).collect();
    (!gains.is_empty()).then(|| gains.iter().sum::<f64>() / gains.len() as f64)
}

/// Mean difference of cells that aim at the same, whatever rate they came out with.
fn gain_as_they_are(
    metric: Metric,
    base: &[&CellResult],
    test: &[&CellResult],
    pool: fn(&Quality) -> f64,
) -> Option<f64> {
    let gain = |result: &&CellResult| {
        let partner = base.iter().find(|other| other.cell.aim == result.cell.aim)?;
        Some(pool(result.quality(metric)?) - pool(partner.quality(metric)?))
    };
    let gains: Vec<f64> = test.iter().filter_map(gain).collect();
    (!gains.is_empty()).then(|| gains.iter().sum::<f64>() / gains.len() as f64)
}
