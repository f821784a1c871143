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
    /// From which second on.
    pub from: &'static str,
    /// How much of it, in seconds.
    pub seconds: &'static str,
    /// The bit rate of H.264 that it is coded anew at; `None` takes its packets as they are, from the beginning.
    pub coded_at: Option<&'static str>,
    /// Size and encoder of the made one.
    pub made: (&'static str, &'static str),
}

/// 1080p24 animation, coded as densely as films are delivered: the clip itself has half the bit rate.
pub const FILM: Source = Source {
    footage: "bbb_1080p24_h264_51aac_20s.mp4",
    from: "8",
    seconds: "6",
    coded_at: Some("9M"),
    made: ("1920x1080", "libx264"),
};

/// 2160p60 HEVC, 10 bits, HDR10, as published.
pub const UHD: Source = Source {
    footage: "bbb_4k60_hevc10_hdr10_2s.mp4",
    from: "0",
    seconds: "2",
    coded_at: None,
    made: ("3840x2160", "libx265"),
};

/// Our side, video alone.
pub fn encode(input: &Path, output: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repass"));
    command.args(["encode", text(input), "-o", text(output), "-y", "--progress", "none"]);
    command.args(["--audio", "none", "--subs", "none"]);
    command
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

/// Both sides, every other round in the other order: memory that one side has just given back is warm for the next.
pub fn in_turn(round: usize, ours: impl FnOnce() -> Cost, theirs: impl FnOnce() -> Cost) -> (Cost, Cost) {
    if round.is_multiple_of(2) {
        return (ours(), theirs());
    }
    let theirs = theirs();
    (ours(), theirs)
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
    let footage = std::env::var_os("REPASS_CLIPS").map(|folder| Path::new(&folder).join(source.footage));
    let path = folder.join(format!("{}-{}-{}.mp4", source.from, source.seconds, source.footage));
    if path.exists() {
        return path;
    }
    if let Some(footage) = footage.filter(|footage| footage.is_file()) {
        let part = ["-ss", source.from, "-i", text(&footage), "-t", source.seconds, "-map", "0:v:0"];
        let coded: &[&str] = match &source.coded_at {
            Some(rate) => &["-c:v", "libx264", "-b:v", rate],
            None => &["-c", "copy"],
        };
        ffmpeg(&[&part, coded, &[text(&path)]].concat());
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
    // The header names the software, and side data behind the sixth column is the container's.
    let lines = printed.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#"));
    lines.flat_map(|line| line.split(|byte| *byte == b',').take(6)).flatten().copied().collect()
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
