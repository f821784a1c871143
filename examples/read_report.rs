//! Reads a report that the program wrote: `repass --json encode … > report.json`, then
//! `cargo run --example read_report -- report.json`. In a program of one's own [`repass::report::Report`] has the same
//! fields as types.

use std::error::Error;
use std::fs;

use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("give a report")?;
    let report: Value = serde_json::from_str(&fs::read_to_string(path)?)?;

    let number = |value: &Value| value.as_f64().ok_or("not a report of repass");
    println!(
        "FFmpeg {}, {} frames, {:.1} s",
        report["versions"]["ffmpeg"],
        report["frames"],
        number(&report["seconds"])?
    );
    for run in list(&report, "runs") {
        // What could not be known is absent: cpu_seconds is, where the system does not tell.
        let cpu = run["cpu_seconds"].as_f64().map_or("unknown".to_owned(), |seconds| format!("{seconds:.1} s"));
        println!("run {}: {:.1} s, CPU {cpu}", run["number"], number(&run["wall_seconds"])?);
    }
    for rendition in list(&report, "renditions") {
        let miss =
            rendition["bitrate_error"].as_f64().map_or(String::new(), |miss| format!(" ({:+.1} %)", miss * 100.0));
        println!("{}: {:.0} bits per second{miss}", rendition["name"], number(&rendition["video_bps"])?);
        for pass in list(rendition, "passes") {
            println!("  pass {}: {:.1} s, {} bytes", pass["number"], number(&pass["wall_seconds"])?, pass["bytes"]);
        }
    }
    for warning in list(&report, "warnings") {
        println!("warning: {warning}");
    }
    Ok(())
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().into_iter().flatten()
}
