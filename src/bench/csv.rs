//! Every raw figure as comma-separated values: one row for a pass, for a cell and metric, for a frame.
//!
//! Invariant: RFC 4180, with a header; what is unknown is empty.

use crate::bench::record::{Aim, Cell};
use crate::bench::results::Results;

/// Every pass of every encode as it was timed.
#[must_use]
pub fn passes(results: &Results) -> String {
    let mut table = Table::new(&[
        CELL,
        &["run", "pass", "wall_seconds", "cpu_seconds", "system_seconds", "stats_bytes"],
        &["frames", "video_bytes", "video_bps", "bitrate_error", "peak_bytes", "threads"],
    ]);
    let threads = results.begun.as_ref().map(|begun| begun.settings.threads);
    for run in &results.runs {
        for pass in &run.passes {
            let mut row = cell(&run.cell);
            row.extend([
                run.run.to_string(),
                pass.number.to_string(),
                pass.wall_seconds.to_string(),
                known(pass.cpu_seconds),
                known(pass.system_seconds),
                known(pass.stats_bytes),
                run.frames.to_string(),
                run.video_bytes.to_string(),
                run.video_bps.to_string(),
                known(run.bitrate_error),
                known(run.peak_bytes),
                known(threads),
            ]);
            table.add(&row);
        }
    }
    table.text
}

/// What every cell's quality comes to, by each metric.
#[must_use]
pub fn qualities(results: &Results) -> String {
    let mut table = Table::new(&[CELL, &["video_bps", "metric", "mean", "harmonic_mean", "p1", "p5", "worst"]]);
    for result in &results.cells {
        for quality in &result.qualities {
            let pooled = quality.pooled;
            let mut row = cell(&result.cell);
            row.extend([result.video_bps.to_string(), quality.metric.to_string()]);
            row.extend(
                [pooled.mean, pooled.harmonic_mean, pooled.p1, pooled.p5, pooled.worst].map(|value| value.to_string()),
            );
            table.add(&row);
        }
    }
    table.text
}

/// Bytes and quality of every frame.
#[must_use]
pub fn frames(results: &Results) -> String {
    let metrics = results.metrics();
    let names: Vec<&str> = metrics.iter().map(|metric| metric.name()).collect();
    let mut table = Table::new(&[CELL, &["frame", "bytes"], &names]);
    for result in &results.cells {
        let count = result.qualities.iter().map(|quality| quality.frames.len()).max().unwrap_or(0);
        for frame in 0..count {
            let mut row = cell(&result.cell);
            row.extend([frame.to_string(), known(result.frame_bytes.get(frame))]);
            let value = |metric| result.quality(metric).and_then(|quality| quality.frames.get(frame));
            row.extend(metrics.iter().map(|metric| known(value(*metric))));
            table.add(&row);
        }
    }
    table.text
}

const CELL: &[&str] = &["clip", "encoder", "preset", "mode", "target_bps", "target_quality"];

fn cell(cell: &Cell) -> Vec<String> {
    let (rate, quality) = match cell.aim {
        Aim::Rate(bps) => (bps.to_string(), String::new()),
        Aim::Quality(level) => (String::new(), level.to_string()),
    };
    let preset = cell.preset.clone().unwrap_or_default();
    vec![cell.clip.clone(), cell.encoder.clone(), preset, cell.mode.to_string(), rate, quality]
}

fn known(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

struct Table {
    text: String,
}

impl Table {
    fn new(columns: &[&[&str]]) -> Self {
        let mut table = Table { text: String::new() };
        table.add(&columns.concat().into_iter().map(str::to_owned).collect::<Vec<_>>());
        table
    }

    fn add(&mut self, row: &[String]) {
        let fields: Vec<String> = row.iter().map(|field| quoted(field)).collect();
        self.text.push_str(&fields.join(","));
        self.text.push_str("\r\n");
    }
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_commas_and_quotes_are_quoted() {
        assert_eq!(quoted("a clip, \"raw\""), "\"a clip, \"\"raw\"\"\"");
        assert_eq!(quoted("plain"), "plain");
    }
}
