//! Two ways to do the same job, in turn: what each costs, and the ratio.

#![allow(dead_code, reason = "each bench uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use wait4::Wait4;

/// What a run took: seconds, seconds of CPU, KiB at most.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub wall: f64,
    pub cpu: f64,
    pub peak: f64,
}

impl Cost {
    /// One after the other.
    #[must_use]
    pub fn then(self, next: Cost) -> Cost {
        Cost { wall: self.wall + next.wall, cpu: self.cpu + next.cpu, peak: self.peak.max(next.peak) }
    }
}

/// Ours and theirs, as often as they were run.
pub struct Pairs(Vec<(Cost, Cost)>);

impl Pairs {
    /// Runs the two in turn.
    pub fn run(ours: impl Fn() -> Cost, theirs: impl Fn() -> Cost) -> Self {
        Pairs((0..runs()).map(|_| (ours(), theirs())).collect())
    }

    /// Ours by theirs: median, least to greatest.
    #[must_use]
    pub fn ratio(&self, part: fn(&Cost) -> f64) -> String {
        let mut ratios: Vec<f64> = self.0.iter().map(|(ours, theirs)| part(ours) / part(theirs)).collect();
        ratios.sort_by(f64::total_cmp);
        let (median, least, greatest) = (ratios[ratios.len() / 2], ratios[0], ratios[ratios.len() - 1]);
        format!("{median:.2} ({least:.2} to {greatest:.2})")
    }

    /// What we take more of memory, in MiB, at most.
    #[must_use]
    pub fn more_memory(&self) -> f64 {
        self.0.iter().map(|(ours, theirs)| (ours.peak - theirs.peak) / 1024.0).fold(f64::MIN, f64::max)
    }

    /// A line of the table; `words` say what else was seen.
    pub fn print(&self, name: &str, goal: f64, words: &str) {
        println!(
            "{name:<42} {:>20} {:>20} {:>+10.0} MiB  {goal:>5.2}  {words}",
            self.ratio(|cost| cost.wall),
            self.ratio(|cost| cost.cpu),
            self.more_memory(),
        );
    }
}

/// The head of the table.
pub fn print_head(last: &str) {
    println!("{}", versions());
    println!("{} pairs each, in turn; ratios are repass / ffmpeg, median (least to greatest)\n", runs());
    println!("{:<42} {:>20} {:>20} {:>14}  {:>5}  {last}", "", "wall", "CPU", "peak memory", "goal");
}

/// The words behind `--` that choose scenarios; none: all.
#[must_use]
pub fn is_wanted(name: &str) -> bool {
    let mut wanted = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    wanted.peek().is_none() || wanted.any(|word| name.contains(&word))
}

/// `REPASS_RUNS`, or 5.
#[must_use]
pub fn runs() -> usize {
    std::env::var("REPASS_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(5)
}

/// Runs a command to its end. Its children count where it waits for them.
pub fn timed(command: &mut Command) -> Cost {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("the command starts");
    let ended = child.wait4().expect("the command ends");
    assert!(ended.status.success(), "{command:?}");
    let used = ended.rusage;
    Cost {
        wall: began.elapsed().as_secs_f64(),
        cpu: (used.utime + used.stime).as_secs_f64(),
        // Linux counts in KiB, macOS in bytes.
        peak: used.maxrss as f64 / if cfg!(target_os = "macos") { 1024.0 } else { 1.0 },
    }
}

/// Where frames come from: footage of this name, or else a made clip of this size and encoder.
pub struct Source {
    pub footage: &'static str,
    /// Seconds at which the clip begins, and how long it is.
    pub part: (&'static str, &'static str),
    pub made: (&'static str, &'static str),
}

impl Source {
    /// The clip, made once in `folder`.
    #[must_use]
    pub fn clip(&self, folder: &Path) -> PathBuf {
        let (from, seconds) = self.part;
        let path = folder.join(format!("{from}-{seconds}-{}.mp4", self.footage));
        if path.exists() {
            return path;
        }
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/clips");
        let footage = std::env::var_os("REPASS_CLIPS").map_or(beside, PathBuf::from).join(self.footage);
        if footage.is_file() {
            let part = ["-ss", from, "-i", text(&footage), "-t", seconds, "-map", "0:v:0", "-c", "copy", text(&path)];
            ffmpeg(&part);
            return path;
        }
        println!("(no footage: {} is made)", self.footage);
        let graph = format!("testsrc2=s={}:r=24,noise=alls=8:allf=t", self.made.0);
        let encoder = ["-c:v", self.made.1, "-preset", "veryfast"];
        ffmpeg(&[&["-f", "lavfi", "-i", &graph, "-t", seconds], encoder.as_slice(), &[text(&path)]].concat());
        path
    }
}

/// A hash of every packet of the video.
#[must_use]
pub fn packets(path: &Path) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i", text(path), "-map", "0:v", "-c", "copy", "-f", "framehash", "-hash", "md5", "-"])
        .output();
    let printed = output.expect("ffmpeg").stdout;
    // The header names the software.
    printed.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#")).flatten().copied().collect()
}

/// Runs the ffmpeg program, which must succeed.
pub fn ffmpeg(arguments: &[&str]) {
    let status =
        Command::new("ffmpeg").args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y"]).args(arguments).status();
    assert!(status.expect("ffmpeg").success(), "ffmpeg {arguments:?}");
}

fn versions() -> String {
    let printed = Command::new(env!("CARGO_BIN_EXE_repass")).arg("--version").output().expect("repass").stdout;
    String::from_utf8_lossy(&printed).trim().to_owned()
}

/// A path as text.
#[must_use]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("bench paths are UTF-8")
}
