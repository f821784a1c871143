//! `repass measure`: the quality of a file against its original, as a table or JSON.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueHint};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde_json::json;

use repass::bench::measure::{MeasureRequest, Measurement, measure};
use repass::error::Error;
use repass::event::Cancel;
use repass::quality::{Metric, PSNR_CEILING};

use super::Cli;
use super::args::{ProgressChoice, reason};
use super::bench::distinct;
use super::progress::Screen;
use super::text::{Page, counted, percent, print_json};

/// Two files and what to measure.
#[derive(Debug, Args)]
pub(crate) struct MeasureArgs {
    /// The original
    #[arg(value_name = "REF", value_hint = ValueHint::FilePath)]
    reference: PathBuf,

    /// What was made of it
    #[arg(value_name = "DIST", value_hint = ValueHint::FilePath)]
    distorted: PathBuf,

    /// What to measure by: psnr, ssim, xpsnr, vmaf, vmaf-neg [default: all that are here, but vmaf-neg]
    #[arg(long, value_name = "METRICS", value_delimiter = ',', value_parser = metric)]
    metrics: Vec<Metric>,

    /// Convert both to this pixel format first (yuv420p, yuv420p10le) [default: they must have the same]
    #[arg(long, value_name = "FORMAT")]
    pixel_format: Option<String>,

    /// Threads of decoders and metrics [default: one per CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,

    /// Show progress: a bar where stderr is a terminal, a bar always, JSON lines on stdout, or nothing
    #[arg(long, value_name = "HOW", default_value = "auto")]
    progress: ProgressChoice,
}

/// Measures and prints.
///
/// # Errors
/// Files that do not fit, or cannot be read.
pub(crate) fn run(args: &MeasureArgs, cli: &Cli, cancel: &Cancel) -> Result<()> {
    let request = MeasureRequest {
        reference: args.reference.clone(),
        distorted: args.distorted.clone(),
        metrics: metrics_or_default(&args.metrics),
        pixel_format: args.pixel_format.clone(),
        threads: args.threads,
    };
    let screen = cli.screen(args.progress);
    let mut told: Option<Instant> = None;
    let measurement = measure(&request, cancel, &mut |done, total| {
        if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            told = Some(Instant::now());
            show(&screen, done, total);
        }
    });
    screen.clear();
    let measurement = measurement?;
    cli.show(&screen, &measurement, || page(&measurement))
}

fn show(screen: &Screen, done: u64, total: Option<u64>) {
    let share = total.map_or(0.0, |total| done as f64 / total.max(1) as f64).min(1.0);
    match screen {
        // Who reads has gone: the result's own write will say so.
        Screen::Json => drop(print_json(&json!({ "event": "measure", "frames": done, "of": total }))),
        Screen::Lines => screen.line(&format!("measuring  {}  {}", percent(share), counted(done, "frame"))),
        _ => screen.advance(share, "measuring", &counted(done, "frame")),
    }
}

/// What was asked for; else all that are here but the model that only matters to encoders which sharpen.
pub(super) fn metrics_or_default(asked: &[Metric]) -> Vec<Metric> {
    let all = || Metric::available().into_iter().filter(|metric| *metric != Metric::VmafNeg).collect();
    distinct(if asked.is_empty() { all() } else { asked.to_vec() }, |metric| *metric)
}

pub(super) fn metric(text: &str) -> Result<Metric, String> {
    text.parse().map_err(|error: Error| reason(error))
}

fn page(measurement: &Measurement) -> Page {
    let mut page = Page::default();
    let rate = measurement.distorted_bps.map(|bps| format!("{:.0} kb/s with all streams", bps / 1e3));
    page.path("original", &measurement.reference, "");
    page.path("coded", &measurement.distorted, rate.as_deref().unwrap_or(""));
    page.row(
        "frames",
        &format!(
            "{}, {}x{} {}, {:.3} per second",
            measurement.frames, measurement.width, measurement.height, measurement.pixel_format, measurement.frame_rate
        ),
    );
    page.gap();
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["", "mean", "harmonic", "5 %", "1 %", "worst", "at frame"]);
    for quality in &measurement.qualities {
        let (metric, pooled) = (quality.metric, quality.pooled);
        let worst = quality.frames.iter().position(|value| *value <= pooled.worst).unwrap_or(0);
        let mut row = vec![format!("{} {}", metric.title(), metric.unit())];
        let values = [pooled.mean, pooled.harmonic_mean, pooled.p5, pooled.p1, pooled.worst];
        row.extend(values.map(|value| format!("{value:.*}", metric.decimals() + 1)));
        row.push(worst.to_string());
        table.add_row(row);
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    page.block(&table.to_string());
    let perfect = measurement.qualities.iter().filter(|quality| quality.metric == Metric::Psnr);
    for quality in perfect {
        let same = quality.frames.iter().filter(|value| **value >= PSNR_CEILING).count();
        if same > 0 {
            let share = percent(same as f64 / quality.frames.len() as f64);
            page.row("", &format!("{share} of the frames are without any error and count as 100 dB"));
        }
    }
    page
}

/// Often enough for a bar.
const TOLD_EVERY: Duration = Duration::from_millis(100);

pub(super) const EXAMPLES: &str = "\
Examples:
  repass measure original.mkv coded.mp4
      Every metric that is here, with the frames that came out worst.
  repass measure original.mov coded.mp4 --metrics vmaf,xpsnr --pixel-format yuv420p10le
      A coded file of fewer bits against a master: both are converted first.
  repass measure original.mkv coded.mp4 --json | jq '.qualities[0].frames'
      Every frame, for a script.";
