//! The files of a report, all in one folder.
//!
//! Invariant: a file appears whole under its name, or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::bench::chart::{Kind, LineChart};
use crate::bench::results::Results;
use crate::bench::{csv, page, plots};
use crate::error::Error;

/// Writes everything there is to a bench into `folder`; returns the page. `changes` are told on the page.
///
/// # Errors
/// [`Error::Write`].
pub fn write(results: &Results, changes: &[String], folder: &Path) -> Result<PathBuf, Error> {
    let plots_folder = folder.join("plots");
    std::fs::create_dir_all(&plots_folder).map_err(|source| Error::Write { path: plots_folder.clone(), source })?;
    for (name, svg) in all_plots(results) {
        put(&plots_folder.join(format!("{name}.svg")), &svg)?;
    }
    put(&folder.join("passes.csv"), &csv::passes(results))?;
    put(&folder.join("qualities.csv"), &csv::qualities(results))?;
    put(&folder.join("frames.csv"), &csv::frames(results))?;
    put(&folder.join("results.json"), &results.to_json())?;
    let path = folder.join("report.html");
    put(&path, &page::html(results, changes))?;
    Ok(path)
}

/// Every plot of the page as a file, by its name.
fn all_plots(results: &Results) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for clip in &results.clips {
        let name = |parts: &[&str]| plain(&[&[clip.name.as_str()], parts].concat().join("-"));
        for metric in results.metrics() {
            let chart = plots::rate_quality(results, &clip.name, *metric);
            all.push((name(&["rate", metric.name()]), chart.draw(Kind::File)));
        }
        let overhead = plots::overhead(results, &clip.name);
        if !overhead.bars.is_empty() {
            all.push((name(&["overhead"]), overhead.draw(Kind::File)));
        }
        for series in plots::of_clip(results, &clip.name) {
            for aim in plots::aims(results, &series) {
                let per_frame = 1.0 / clip.frame_rate.max(1e-9);
                let mut add = |what: &str, chart: LineChart| {
                    all.push((name(&[&series.name(), &aim.to_string(), what]), chart.draw(Kind::File)));
                };
                for metric in results.metrics() {
                    add(metric.name(), plots::frames(results, &series, aim, *metric, per_frame));
                }
                add("bitrate", plots::bitrate(results, &series, aim, per_frame));
            }
        }
    }
    all
}

/// A name that every file system takes.
fn plain(name: &str) -> String {
    let allowed = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_' | '.');
    name.replace("Mb/s", "M")
        .replace("kb/s", "k")
        .replace(' ', "-")
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}

fn put(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    readable(file.as_file()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Temporary files are private; a report is to be shown.
#[cfg(unix)]
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_file: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}
