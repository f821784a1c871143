//! Sources, decoders, filters and the log against what ffprobe and ffmpeg say of the same media.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use repass::av::filter::{AudioFilter, AudioTarget, FilterInput, VideoFilter};
use repass::av::frame::Frame;
use repass::av::log::{self, LogLevel, LogMark};
use repass::av::packet::Packet;
use repass::av::source::{Decoder, Demuxer, OpenOptions};
use repass::av::{AvError, Received};
use repass::error::Error;
use repass::event::Cancel;
use repass::media::{Rational, StreamKind};
use tempfile::TempDir;

type Tested = Result<(), Box<dyn std::error::Error>>;

// --- whole sources ---------------------------------------------------------------------------------------------------

/// Frames and times of every clip, to its end, are those that ffprobe sees.
#[test]
fn every_clip_decodes_to_the_frames_that_ffprobe_sees() -> Tested {
    let _deadline = deadline(500);
    let Some(clips) = clips() else { return Ok(()) };
    let mut differing = Vec::new();
    for path in files(&clips) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (path, options, arguments) = how_to_open(&path);
        let Ok(mut demuxer) = Demuxer::open(&path, &options, &Cancel::new()) else {
            println!("{name}: does not open");
            continue;
        };
        let decoded = decode(&mut demuxer, None);
        let expected = ffprobe_times(&path, &arguments, demuxer.info().video.index);
        println!(
            "{name}: {} frames, damage {} in packets, {} in frames ({:?}), ends with {:?}",
            decoded.times.len(),
            demuxer.damaged(),
            decoded.damaged,
            decoded.last_damage,
            decoded.end
        );
        if decoded.times != expected {
            let first = decoded.times.iter().zip(&expected).position(|(own, other)| own != other);
            differing.push(format!(
                "{name}: {} frames, ffprobe {}, from {first:?}",
                decoded.times.len(),
                expected.len()
            ));
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
    Ok(())
}

// --- helpers ---------------------------------------------------------------------------------------------------------

/// What came out of a whole source.
struct Decoded {
    times: Vec<Option<i64>>,
    damaged: u64,
    last_damage: Option<AvError>,
    /// How reading ended, where it was not at the end.
    end: Option<AvError>,
}

fn decode(demuxer: &mut Demuxer, threads: Option<u16>) -> Decoded {
    let video = demuxer.info().video.index;
    demuxer.only(&[video]);
    let stream = demuxer.stream(video).expect("the stream is there");
    let mut decoder = Decoder::open(&stream, threads).expect("decoder opens");
    let (mut packet, mut frame) = (Packet::new().expect("memory"), Frame::new().expect("memory"));
    let mut decoded = Decoded { times: Vec::new(), damaged: 0, last_damage: None, end: None };
    loop {
        match decoder.receive(&mut frame).expect("decoding goes on") {
            Received::Ready => decoded.times.push(frame.pts()),
            Received::Done => break,
            Received::NeedInput => match demuxer.read(&mut packet) {
                Ok(Received::Ready) => decoder.send(&packet).expect("decoder takes the packet"),
                Ok(Received::NeedInput) => {}
                Ok(Received::Done) => decoder.send_end().expect("decoder takes the end"),
                Err(error) => {
                    decoded.end = Some(error);
                    decoder.send_end().expect("decoder takes the end");
                }
            },
        }
    }
    decoded.damaged = decoder.damaged();
    decoded.last_damage = decoder.last_damage();
    decoded
}

fn ffprobe_times(path: &Path, arguments: &[&str], stream: usize) -> Vec<Option<i64>> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-threads", "2", "-select_streams", &stream.to_string()])
        .args(["-show_entries", "frame=best_effort_timestamp", "-of", "csv=p=0"])
        .args(arguments)
        .arg(path)
        .output()
        .expect("ffprobe runs");
    let text = String::from_utf8_lossy(&output.stdout);
    // A trailing comma stands where ffprobe found side data.
    text.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end_matches(',').parse().ok()).collect()
}

/// The clips that developers share, where they are.
fn clips() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/clips");
    let clips = std::env::var_os("REPASS_CLIPS").map_or(beside, PathBuf::from);
    if !clips.is_dir() {
        println!("skipped: no clips in {}", clips.display());
        return None;
    }
    Some(clips)
}

fn files(clips: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(clips).expect("the folder can be listed");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    files.retain(|path| path.extension() != Some(OsStr::new("md")));
    files.sort();
    files
}

/// Path, options and ffprobe's arguments for the few clips that need them.
fn how_to_open(path: &Path) -> (PathBuf, OpenOptions, Vec<&'static str>) {
    let mut options = OpenOptions::default();
    if path.is_dir() {
        return (path.join("frame_%04d.jpg"), options, Vec::new());
    }
    if path.extension() != Some(OsStr::new("yuv")) {
        return (path.to_owned(), options, Vec::new());
    }
    options.format = Some("rawvideo".to_owned());
    let pairs = [("framerate", "12"), ("video_size", "320x192"), ("pixel_format", "yuv420p")];
    options.options = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let arguments = "-f rawvideo -framerate 12 -video_size 320x192 -pixel_format yuv420p";
    (path.to_owned(), options, arguments.split(' ').collect())
}

/// Ends the process when a test takes longer: a call into libav that hangs cannot be stopped otherwise.
fn deadline(seconds: u64) -> Sender<()> {
    let (alive, watched): (Sender<()>, Receiver<()>) = channel();
    let name = thread::current().name().unwrap_or("test").to_owned();
    thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{name}: not done after {seconds} s");
            std::process::abort();
        }
    });
    alive
}
