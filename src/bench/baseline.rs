//! A bench against an earlier one: what changed beyond the noise.
//!
//! Invariant: only cells that both have are compared, and only changes that the repetitions of both rule out as chance, or
//! that are larger than the metric's threshold, are told.

use std::path::Path;

use crate::bench::record::Cell;
use crate::bench::results::{CellResult, Results};
use crate::bench::statistics::Spread;
use crate::bench::verdict::{least_gain, signed};
use crate::error::{Error, Refusal};

/// What changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// Cells that both have.
    pub compared: usize,
    /// What differs of machine, versions and settings, in words: then times say little.
    pub conditions: Vec<String>,
    /// What changed beyond the noise, in words.
    pub changes: Vec<String>,
}

/// Reads results that an earlier bench wrote.
///
/// # Errors
/// [`Refusal::Source`] for what cannot be read or is something else.
pub fn read(path: &Path) -> Result<Results, Error> {
    let refused = |why: String| Error::from(Refusal::Source { path: path.display().to_string(), why });
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| refused(format!("is not the results.json of a bench: {error}")))
}

/// Compares results with earlier ones.
#[must_use]
pub fn changes(before: &Results, now: &Results) -> Changes {
    let partner = |cell: &Cell| before.cells.iter().find(|other| other.cell == *cell);
    let pairs: Vec<(&CellResult, &CellResult)> =
        now.cells.iter().filter_map(|result| Some((partner(&result.cell)?, result))).collect();
    Changes {
        compared: pairs.len(),
        conditions: conditions(before, now),
        changes: pairs.iter().flat_map(|(before, now)| cell_changes(before, now)).collect(),
    }
}

fn conditions(before: &Results, now: &Results) -> Vec<String> {
    let (Some(one), Some(other)) = (&before.begun, &now.begun) else { return Vec::new() };
    let mut differing = Vec::new();
    let mut differ = |what: &str, one: String, other: String| {
        if one != other {
            differing.push(format!("{what}: {one} before, {other} now"));
        }
    };
    let cpu = |machine: &crate::bench::machine::Machine| machine.cpu.clone().unwrap_or_default();
    differ("processor", cpu(&one.machine), cpu(&other.machine));
    differ("FFmpeg", one.machine.versions.ffmpeg.clone(), other.machine.versions.ffmpeg.clone());
    differ("repass", one.machine.repass.clone(), other.machine.repass.clone());
    differ("threads", one.settings.threads.to_string(), other.settings.threads.to_string());
    for (encoder, library) in &one.machine.libraries {
        if let Some(now) = other.machine.libraries.get(encoder) {
            differ(encoder, library.clone(), now.clone());
        }
    }
    for clip in &before.clips {
        if let Some(now) = now.clips.iter().find(|now| now.name == clip.name) {
            differ(&format!("frames of {}", clip.name), clip.hash.clone(), now.hash.clone());
        }
    }
    differing
}

fn cell_changes(before: &CellResult, now: &CellResult) -> Vec<String> {
    let name = format!("{}: {}", now.cell.clip, now.cell);
    let mut changes = Vec::new();
    let mut time = |what: &str, before: Option<Spread>, now: Option<Spread>| {
        if let (Some(before), Some(now)) = (before, now)
            && let Some(ratio) = now.over(&before).filter(|_| now.differs_from(&before))
        {
            changes
                .push(format!("{name}: {what} {:.2}× ({:.2} s, was {:.2} s)", ratio.value, now.median, before.median));
        }
    };
    time("CPU time", before.cpu, now.cpu);
    time("wall time", Some(before.wall), Some(now.wall));
    let rate = now.video_bps / before.video_bps - 1.0;
    if rate.abs() > LEAST_RATE {
        changes.push(format!("{name}: bit rate {:+.2} %", rate * 100.0));
    }
    for quality in &now.qualities {
        let Some(old) = before.quality(quality.metric) else { continue };
        let difference = quality.pooled.mean - old.pooled.mean;
        if difference.abs() >= least_gain(quality.metric) {
            changes.push(format!("{name}: {}", signed(quality.metric, difference)));
        }
    }
    changes
}

/// Relative change of a bit rate that is worth a line.
const LEAST_RATE: f64 = 0.005;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::record::{Entry, Mode};
    use crate::bench::verdict::tests::entries;

    fn results(seconds: f64, more: f64) -> Results {
        let mut entries = entries(Mode::OnePass, &[seconds], more);
        // Runs that differ by a per cent, as real ones do.
        for (number, entry) in entries.iter_mut().enumerate() {
            if let Entry::Run(run) = entry {
                run.passes[0].wall_seconds *= 1.0 + (number % 3) as f64 * 0.01;
            }
        }
        Results::of(&entries)
    }

    #[test]
    fn the_same_bench_has_not_changed() {
        let changes = changes(&results(1.0, 0.0), &results(1.0, 0.0));
        assert_eq!(changes, Changes { compared: 4, conditions: Vec::new(), changes: Vec::new() });
    }

    #[test]
    fn a_change_within_the_noise_is_not_told_and_one_beyond_is() {
        let before = results(1.0, 0.0);
        let slightly = changes(&before, &results(1.004, 0.1));
        assert_eq!(slightly.changes, Vec::<String>::new());
        let clearly = changes(&before, &results(1.3, 2.0));
        let told = clearly.changes.join("\n");
        assert_eq!(clearly.changes.len(), 3 * 4, "{told}");
        assert!(told.contains("clip: libx264 1pass 1 Mb/s: CPU time 1.30×") && told.contains("+2.00 VMAF"), "{told}");
    }
}
