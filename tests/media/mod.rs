//! Media for tests: made with the real ffmpeg, read back with the real ffmpeg and ffprobe.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

/// Deadlines are for what hangs: a machine may be this many times as slow as the idle one on which they were chosen. Under
/// valgrind everything is slower still, and `REPASS_TEST_PATIENCE` says how much.
fn patience() -> u64 {
    std::env::var("REPASS_TEST_PATIENCE").ok().and_then(|times| times.parse().ok()).unwrap_or(4)
}

/// Ends the process with a message when what is returned lives longer: what hangs in libav cannot be stopped.
pub fn deadline(seconds: u64) -> Sender<()> {
    let (alive, watched) = bounded(0);
    let seconds = seconds * patience();
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    let watch = move || {
        if watched.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
            // Not by eprintln!, which the test harness keeps to itself when the process ends.
            let _ = writeln!(std::io::stderr(), "{name}: not done after {} s", seconds);
            std::process::abort();
        }
    };
    std::thread::Builder::new().name("deadline".to_owned()).spawn(watch).expect("a thread");
    alive
}

/// Runs `test` under a [`deadline`].
pub fn within(seconds: u64, test: impl FnOnce()) {
    let _deadline = deadline(seconds);
    test();
}

/// Runs the ffmpeg program; its failure fails the test with its words.
pub fn ffmpeg(arguments: &[&str]) -> Output {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y"])
        .args(arguments)
        // As `repass::av::let_jobs_zero_memory` does for us: x264's bits depend on memory that nobody wrote.
        .env("MALLOC_PERTURB_", "255")
        .output()
        .expect("the ffmpeg program is installed");
    assert!(output.status.success(), "ffmpeg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs ffprobe and returns what it prints.
pub fn ffprobe(arguments: &[&str]) -> String {
    let output = Command::new("ffprobe").args(["-v", "error"]).args(arguments).output().expect("ffprobe is installed");
    assert!(output.status.success(), "ffprobe {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Every packet of the first video stream: times, size and hash, a line each.
pub fn packets(path: &Path) -> String {
    let output = ffmpeg(&["-i", text(path), "-map", "0:v:0", "-c", "copy", "-f", "framemd5", "-"]);
    let lines = String::from_utf8(output.stdout).expect("text");
    // The header names the software; only the packets matter.
    lines.lines().filter(|line| !line.starts_with('#')).map(|line| line.to_owned() + "\n").collect()
}

/// Every decoded frame of the first video stream as ffmpeg decodes it: times and hash, a line each.
pub fn frames(path: &Path) -> String {
    let output = ffmpeg(&["-i", text(path), "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    let lines = String::from_utf8(output.stdout).expect("text");
    lines.lines().filter(|line| !line.starts_with('#')).map(|line| line.to_owned() + "\n").collect()
}

/// A moving picture with noise, a cut in the middle and a tone: `frames` frames of `size` at `rate`, as H.264 and AAC.
pub fn clip(folder: &Path, name: &str, size: &str, rate: &str, frames: u32) -> PathBuf {
    let path = folder.join(name);
    let half = frames / 2;
    let graph = format!(
        "testsrc2=s={size}:r={rate},noise=alls=12:allf=t:all_seed=7,trim=end_frame={half}[a];\
         mandelbrot=s={size}:r={rate}:end_pts=60,noise=alls=6:allf=t:all_seed=9,trim=end_frame={rest},setpts=PTS-STARTPTS[b];\
         [a][b]concat=n=2:v=1:a=0,format=yuv420p,settb=1/({rate})[v]",
        rest = frames - half,
    );
    ffmpeg(&[
        "-filter_complex",
        &graph,
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440:sample_rate=48000",
        "-map",
        "[v]",
        "-map",
        "0:a",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-crf",
        "12",
        "-c:a",
        "aac",
        "-b:a",
        "96k",
        "-shortest",
        "-frames:v",
        &frames.to_string(),
        text(&path),
    ]);
    path
}

/// Whether the ffmpeg program has this encoder; says so when not.
pub fn has_encoder(name: &str) -> bool {
    let output = Command::new("ffmpeg").args(["-hide_banner", "-encoders"]).output().expect("ffmpeg");
    let found = String::from_utf8_lossy(&output.stdout).split_whitespace().any(|word| word == name);
    if !found {
        skipped(&format!("{name} is not in this FFmpeg"));
    }
    found
}

/// The folder of real footage, where it is there; says so when not.
pub fn footage() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/clips");
    let folder = std::env::var_os("REPASS_CLIPS").map_or(beside, PathBuf::from);
    if !folder.is_dir() {
        skipped(&format!("no footage at {} (REPASS_CLIPS names another folder)", folder.display()));
        return None;
    }
    Some(folder)
}

/// A static ffmpeg program with libvmaf, libvvenc and what else distributions leave out: the one that `REPASS_REFEREE` names,
/// or that which `make referee` fetched; says so when there is none.
pub fn referee() -> Option<PathBuf> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/referee/ffmpeg");
    let program = std::env::var_os("REPASS_REFEREE").map_or(fetched, PathBuf::from);
    if !program.is_file() {
        skipped(&format!("no {} (make referee fetches one; REPASS_REFEREE names another)", program.display()));
        return None;
    }
    Some(program)
}

/// Names of everything in a folder, hidden files included.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Says that a test, or a part of one, was not run: past the test harness, which keeps what passing tests print to itself.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {}: {why}", std::thread::current().name().unwrap_or("test"));
}

/// Compares with a reference in tests/plans as a whole; `REPASS_BLESS=1` writes it anew.
pub fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans").join(name);
    if std::env::var_os("REPASS_BLESS").is_some() {
        std::fs::write(&path, text).expect("a file");
    }
    let reference = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = reference.lines().zip(text.lines()).position(|(old, new)| old != new);
    assert!(
        reference == text,
        "{name} differs from its reference from line {differs:?}; look, then REPASS_BLESS=1\n{text}"
    );
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// A generator of numbers that look random and are the same in every run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}
