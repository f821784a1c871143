//! A comparison in words: what it costs, what it brings, and whether one would notice.
//!
//! Invariant: words follow from the numbers alone; a difference below the metric's threshold is called none.

use crate::bench::record::Mode;
use crate::bench::results::{Comparison, Cost, Gain};
use crate::quality::Metric;

/// The verdict of a comparison, in one to four sentences.
#[must_use]
pub fn words(comparison: &Comparison) -> String {
    let mut sentences = vec![first(comparison)];
    sentences.extend(leading(&comparison.gains).and_then(details));
    sentences.extend(accuracy(comparison));
    if comparison.noisy {
        sentences.push("Times vary from run to run: take the cost as rough".to_owned());
    }
    sentences.join(". ") + "."
}

/// The gain by the metric that says most of what a person sees.
#[must_use]
pub fn leading(gains: &[Gain]) -> Option<&Gain> {
    [Metric::Vmaf, Metric::VmafNeg, Metric::Xpsnr, Metric::Ssim, Metric::Psnr]
        .iter()
        .find_map(|metric| gains.iter().find(|gain| gain.metric == *metric))
}

/// The least difference of a metric that is worth a word: what two encodes of one setting may differ by, and a viewer never
/// sees. For VMAF a tenth of what Netflix calls noticeable (6 points) is still visible in a curve; half of that is not.
#[must_use]
pub const fn least_gain(metric: Metric) -> f64 {
    match metric {
        Metric::Psnr | Metric::Xpsnr => 0.05,
        Metric::Ssim => 0.0005,
        Metric::Vmaf | Metric::VmafNeg => 0.3,
    }
}

/// Whether a gain is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// Better.
    Gain,
    /// Neither.
    Nothing,
    /// Worse.
    Loss,
}

/// Judges by bits at equal quality where they are known, for a metric near its ceiling hardly moves; else, or where these say
/// nothing, by quality at equal bit rate.
#[must_use]
pub fn worth(gain: &Gain) -> Worth {
    let bits = gain.bd_rate.map(|delta| -delta.value).filter(|saved| saved.abs() >= LEAST_BITS);
    let quality = gain.mean.filter(|mean| mean.abs() >= least_gain(gain.metric));
    match bits.or(quality) {
        Some(value) if value > 0.0 => Worth::Gain,
        Some(_) => Worth::Loss,
        None => Worth::Nothing,
    }
}

/// Share of bits at equal quality that is worth a word.
const LEAST_BITS: f64 = 0.01;

/// A value with its sign and the metric's unit: `+0.62 VMAF`, `-0.10 dB PSNR`.
#[must_use]
pub fn signed(metric: Metric, value: f64) -> String {
    let unit = metric.unit();
    let space = if unit.is_empty() { "" } else { " " };
    format!("{value:+.*}{space}{unit} {}", metric.decimals(), metric.title())
}

fn first(comparison: &Comparison) -> String {
    let subject = comparison.mode.words();
    let subject = subject[..1].to_uppercase() + &subject[1..];
    let cost = match (&comparison.cpu, &comparison.wall) {
        (Some(cpu), wall) => format!("costs {} the CPU time ({} the wall time)", times(cpu), times(wall)),
        (None, wall) => format!("costs {} the wall time", times(wall)),
    };
    format!("{subject} {cost} {}", gained(comparison))
}

fn times(cost: &Cost) -> String {
    format!("{:.2}×", cost.ratio)
}

fn gained(comparison: &Comparison) -> String {
    let Some(gain) = leading(&comparison.gains) else { return "and its quality was not measured".to_owned() };
    let Some(mean) = gain.mean else { return "and has no bit rate in common with one pass".to_owned() };
    let where_ = if gain.at_equal_rate { "at equal bit rate" } else { "as the files came out" };
    let what = signed(gain.metric, mean);
    match worth(gain) {
        Worth::Nothing => format!("and brings nothing that shows {where_} ({what})"),
        _ if mean >= 0.0 => format!("and brings {what} {where_}"),
        _ => format!("and loses {} {where_}", signed(gain.metric, -mean).trim_start_matches('+')),
    }
}

/// BD-rate and worst frames, where known.
fn details(gain: &Gain) -> Option<String> {
    let bits = gain.bd_rate.map(|delta| {
        let percent = delta.value * 100.0;
        let partly = if delta.overlap < 0.75 { " over the part of the curves that overlaps" } else { "" };
        match percent {
            _ if percent.abs() < 0.05 => format!("at equal quality it takes as many bits (BD-rate{partly})"),
            _ if percent < 0.0 => {
                format!("at equal quality it takes {:.1}\u{a0}% fewer bits (BD-rate{partly})", -percent)
            }
            _ => format!("at equal quality it takes {percent:.1}\u{a0}% more bits (BD-rate{partly})"),
        }
    });
    let worst = gain.worst.filter(|worst| worst.abs() >= least_gain(gain.metric)).map(|worst| {
        let word = if worst > 0.0 { "better" } else { "worse" };
        format!("its worst frame is {:.*} {word}", gain.metric.decimals(), worst.abs())
    });
    let both: Vec<String> = bits.into_iter().chain(worst).collect();
    let text = both.join(", and ");
    (!text.is_empty()).then(|| text[..1].to_uppercase() + &text[1..])
}

fn accuracy(comparison: &Comparison) -> Option<String> {
    let (base, own) = comparison.bitrate_miss.filter(|_| comparison.mode != Mode::Crf)?;
    Some(format!("The bit rate is missed by {:.1}\u{a0}%, by one pass by {:.1}\u{a0}%", own * 100.0, base * 100.0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::quality::Quality;
    use crate::bench::record::{Aim, Cell, Entry, PassRecord, QualityRecord, RunRecord};
    use crate::bench::results::Results;
    use crate::bench::statistics::Pooled;

    /// Encodes of four rates, three runs each: seconds of each pass, and what is added to VMAF.
    pub(crate) fn entries(mode: Mode, passes: &[f64], more: f64) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (step, bps) in [1_000_000, 2_000_000, 4_000_000, 8_000_000].into_iter().enumerate() {
            let cell = Cell {
                clip: "clip".to_owned(),
                encoder: "libx264".to_owned(),
                preset: None,
                mode,
                aim: Aim::Rate(bps),
            };
            for run in 1..=3 {
                let pass = |(number, seconds): (usize, &f64)| PassRecord {
                    number: number as u8 + 1,
                    wall_seconds: *seconds,
                    cpu_seconds: Some(*seconds * 2.0),
                    system_seconds: None,
                    stats_bytes: None,
                };
                entries.push(Entry::Run(RunRecord {
                    cell: cell.clone(),
                    run,
                    passes: passes.iter().enumerate().map(pass).collect(),
                    frames: 100,
                    video_bytes: bps / 2,
                    video_bps: bps as f64,
                    bitrate_error: Some(0.0),
                    peak_bytes: None,
                    at: 0,
                }));
            }
            let frames: Vec<f64> =
                (0..100).map(|frame| 60.0 + 10.0 * step as f64 + f64::from(frame % 5) + more).collect();
            let pooled = Pooled::of(&frames).unwrap();
            let qualities = vec![Quality { metric: Metric::Vmaf, pooled, frames }];
            entries.push(Entry::Quality(QualityRecord { cell, qualities, frame_bytes: vec![100; 100] }));
        }
        entries
    }

    fn compared(passes: &[f64], more: f64) -> Comparison {
        let entries = [entries(Mode::OnePass, &[1.0], 0.0), entries(Mode::TwoPass, passes, more)].concat();
        let results = Results::of(&entries);
        assert_eq!((results.cells.len(), results.comparisons.len()), (8, 1));
        results.comparisons[0].clone()
    }

    #[test]
    fn two_identical_encodes_cost_and_bring_nothing() {
        let same = compared(&[1.0], 0.0);
        assert_eq!((same.wall.ratio, same.cpu.unwrap().ratio), (1.0, 1.0));
        assert_eq!(same.gains[0].mean, Some(0.0));
        assert_eq!(same.gains[0].bd_rate.unwrap().value, 0.0);
        assert_eq!(
            same.verdict,
            "A second pass costs 1.00× the CPU time (1.00× the wall time) and brings nothing that shows at equal bit rate \
             (+0.00 VMAF). At equal quality it takes as many bits (BD-rate). The bit rate is missed by 0.0\u{a0}%, by one \
             pass by 0.0\u{a0}%."
        );
    }

    #[test]
    fn what_a_second_pass_costs_and_brings_is_said() {
        let comparison = compared(&[0.4, 1.0], 1.5);
        assert_eq!(comparison.wall.ratio, 1.4);
        assert!((comparison.first_wall_share.unwrap() - 0.4 / 1.4).abs() < 1e-12);
        assert!((comparison.gains[0].mean.unwrap() - 1.5).abs() < 1e-9);
        // Ten points a doubling: one and a half are 2^-0.15 of the bits.
        assert!((comparison.gains[0].bd_rate.unwrap().value - (2f64.powf(-0.15) - 1.0)).abs() < 1e-9);
        let begins = "A second pass costs 1.40× the CPU time (1.40× the wall time) and brings +1.50 VMAF at equal bit rate. \
                      At equal quality it takes 9.9\u{a0}% fewer bits (BD-rate), and its worst frame is 1.50 better.";
        assert!(comparison.verdict.starts_with(begins), "{}", comparison.verdict);
    }

    #[test]
    fn a_loss_is_called_one() {
        let comparison = compared(&[1.0, 1.0], -2.0);
        assert!(comparison.verdict.contains("loses 2.00 VMAF"), "{}", comparison.verdict);
    }
}
