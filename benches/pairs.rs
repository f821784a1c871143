//! What the benchmarks share: two sides in turn, what each run took, ratios, sources.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use wait4::Wait4;

/// Where frames come from: footage of this name, or else a made clip of this size and length.
#[derive(Clone, Copy)]
pub struct Source {
    /// The file's name.
    pub footage: &'static str,
    /// How much of it.
    pub seconds: &'static str,
    /// Size and encoder of the made one.
    pub made: (&'static str, &'static str),
}

/// What a run took.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    /// Seconds.
    pub wall: f64,
    /// Seconds, user and system.
    pub cpu: f64,
    /// KiB.
    pub peak: f64,
}

impl Cost {
    /// This and then that.
    pub fn then(self, next: Cost) -> Cost {
        Cost { wall: self.wall + next.wall, cpu: self.cpu + next.cpu, peak: self.peak.max(next.peak) }
    }
}

/// How many pairs are run.
pub fn runs() -> usize {
    std::env::var("REPASS_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(5)
}

/// The ratios of one measure, ours to theirs: median (least to greatest).
pub fn ratio(pairs: &[(Cost, Cost)], part: fn(&Cost) -> f64) -> String {
    let mut ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| part(ours) / part(theirs)).collect();
    ratios.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2} to {:.2})", ratios[ratios.len() / 2], ratios[0], ratios[ratios.len() - 1])
}

/// Runs a command to its end.
pub fn timed(command: &mut Command) -> Cost {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("the command starts");
    let ended = child.wait4().expect("the command ends");
    assert!(ended.status.success(), "{command:?}");
    let used = ended.rusage;
    Cost {
        wall: began.elapsed().as_secs_f64(),
        cpu: (used.utime + used.stime).as_secs_f64(),
        // In bytes on every system, by the crate's word and code.
        peak: used.maxrss as f64 / 1024.0,
    }
}

/// The source as a file.
pub fn source(source: &Source, folder: &Path) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/clips");
    let footage = std::env::var_os("REPASS_CLIPS").map_or(beside, PathBuf::from).join(source.footage);
    let path = folder.join(format!("{}-{}.mp4", source.seconds, source.footage));
    if path.exists() {
        return path;
    }
    if footage.is_file() {
        ffmpeg(&["-i", text(&footage), "-t", source.seconds, "-map", "0:v:0", "-c", "copy", text(&path)]);
        return path;
    }
    println!("(no footage: {} is made)", source.footage);
    let graph = format!("testsrc2=s={}:r=24,noise=alls=8:allf=t", source.made.0);
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        &graph,
        "-t",
        source.seconds,
        "-c:v",
        source.made.1,
        "-preset",
        "veryfast",
        text(&path),
    ]);
    path
}

/// Every video packet of a file, hashed.
pub fn packets(path: &Path) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i", text(path), "-map", "0:v", "-c", "copy", "-f", "framehash", "-hash", "md5", "-"])
        .output();
    let printed = output.expect("ffmpeg").stdout;
    // The header names the software.
    printed.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#")).flatten().copied().collect()
}

/// Runs the ffmpeg program.
pub fn ffmpeg(arguments: &[&str]) {
    let status =
        Command::new("ffmpeg").args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y"]).args(arguments).status();
    assert!(status.expect("ffmpeg").success(), "ffmpeg {arguments:?}");
}

/// Our version and those of the linked libraries.
pub fn versions() -> String {
    let printed = Command::new(env!("CARGO_BIN_EXE_repass")).arg("--version").output().expect("repass").stdout;
    String::from_utf8_lossy(&printed).trim().to_owned()
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("bench paths are UTF-8")
}
