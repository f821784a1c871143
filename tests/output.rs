//! Containers, muxers and file sinks against what the ffmpeg command line writes of the same media, and under faults.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use repass::audio::AudioSpec;
use repass::av::Received;
use repass::av::audio::AudioTranscoder;
use repass::av::muxer::{Container, Cut};
use repass::av::packet::Packet;
use repass::av::source::{Demuxer, OpenOptions};
use repass::error::Error;
use repass::event::Cancel;
use repass::media::StreamKind;
use repass::sink::{FileSink, Finished, OutputStream, Sink, Streams};
use serde_json::Value;
use tempfile::TempDir;

type Tested = Result<(), Box<dyn std::error::Error>>;

// --- the same as the ffmpeg command line -----------------------------------------------------------------------------

#[test]
fn a_remux_is_what_a_stream_copy_of_the_command_line_is() -> Tested {
    let _deadline = deadline(120);
    let folder = tempfile::tempdir()?;
    for (source, extension) in [
        (&media().matroska, "mkv"),
        (&media().mp4, "mp4"),
        (&media().mp4, "mov"),
        (&media().mp4, "ts"),
        (&media().mp4, "mkv"),
        (&media().webm, "webm"),
        (&media().webm, "mkv"),
        (&media().ts, "ts"),
    ] {
        let what = format!("{} to {extension}", source.file_name().unwrap_or_default().display());
        let (ours, theirs) = (
            folder.path().join("ours").with_extension(extension),
            folder.path().join("theirs").with_extension(extension),
        );
        let (finished, mapped) = remux(source, &ours, |sink| sink)?;
        ffmpeg_copy(source, &theirs, &mapped);
        same(&described(&ours), &described(&theirs), &what);
        assert_eq!(finished.bytes, std::fs::metadata(&ours)?.len(), "{what}");
        std::fs::remove_file(ours)?;
        std::fs::remove_file(theirs)?;
    }
    Ok(())
}

// --- sound -----------------------------------------------------------------------------------------------------------

#[test]
fn transcoded_sound_has_the_packets_that_the_command_line_makes() -> Tested {
    let _deadline = deadline(120);
    let folder = tempfile::tempdir()?;
    for (source, track, spec, arguments, extension) in [
        (&media().mp4, 0, "aac:96k", &["-c:a", "aac", "-b:a", "96k"][..], "mp4"),
        (&media().mp4, 1, "aac:96k", &["-c:a", "aac", "-b:a", "96k"], "mkv"),
        (&media().mp4, 1, "opus:64k", &["-c:a", "libopus", "-b:a", "64k"], "mkv"),
        (&media().mp4, 0, "opus:64k", &["-c:a", "libopus", "-b:a", "64k"], "webm"),
        (&media().mp4, 1, "libmp3lame:192k", &["-c:a", "libmp3lame", "-b:a", "192k"], "mkv"),
        (&media().mp4, 0, "flac", &["-c:a", "flac"], "mkv"),
        (&media().mp4, 0, "vorbis:64k", &["-c:a", "libvorbis", "-b:a", "64k"], "webm"),
        (&media().surround, 0, "aac:384k", &["-c:a", "aac", "-b:a", "384k"], "mp4"),
        (&media().surround, 0, "opus:256k", &["-c:a", "libopus", "-b:a", "256k"], "mkv"),
        (&media().surround, 0, "ac3:384k", &["-c:a", "ac3", "-b:a", "384k"], "mkv"),
    ] {
        let what =
            format!("{} track {track} to {spec} in {extension}", source.file_name().unwrap_or_default().display());
        let ours = folder.path().join("ours").with_extension(extension);
        let theirs = folder.path().join("theirs").with_extension(extension);
        transcode(source, track, &spec.parse()?, &ours, None).map_err(|error| format!("{what}: {error}"))?;
        let map = format!("0:a:{track}");
        let maps = ["-map", &map, "-map_chapters", "-1", "-map_metadata", "-1"];
        ffmpeg(Command::new("ffmpeg").arg("-i").arg(source).args(maps).args(arguments).arg(&theirs));
        same(&sound(&ours), &sound(&theirs), &what);
        std::fs::remove_file(ours)?;
        std::fs::remove_file(theirs)?;
    }
    Ok(())
}

#[test]
fn sound_is_cut_to_the_sample() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("cut.mkv");
    transcode(&media().mp4, 0, &"flac".parse()?, &output, Some((0.5, 0.75)))?;
    let decoded =
        Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(&output).args(["-f", "s16le", "-"]).output()?;
    assert_eq!(decoded.stdout.len(), 36_000 * 2);
    Ok(())
}

/// Transcodes one audio track of a source into a file of its own; with a cut, only so much from there on.
fn transcode(
    source: &Path,
    track: usize,
    spec: &AudioSpec,
    output: &Path,
    cut: Option<(f64, f64)>,
) -> Result<Finished, Error> {
    let container = Container::for_path(output, None)?;
    let mut sink: Box<dyn Sink> = Box::new(FileSink::create(output, container, false)?);
    let mut demuxer = Demuxer::open(source, &OpenOptions::default(), &Cancel::new())?;
    let audio = demuxer.info().streams.iter().filter(|stream| stream.kind == StreamKind::Audio).nth(track);
    let index = audio.expect("a track").index;
    let begins = demuxer.info().start_seconds + cut.map_or(0.0, |(from, _)| from);
    demuxer.only(&[index]);
    let stream = demuxer.stream(index).expect("it is there");
    let offset = (begins / stream.time_base.value()).round() as i64;
    let transcoder = AudioTranscoder::open(&stream, spec, container.global_header())?;
    let mut transcoder = transcoder.until(cut.map(|(_, length)| length));
    let streams = vec![OutputStream::Encoded(transcoder.stream()?, None)];
    sink.start(&Streams { streams, ..Streams::default() })?;
    let mut packet = Packet::new().expect("memory");
    loop {
        let more = demuxer.read(&mut packet).expect("readable") == Received::Ready;
        if more {
            packet.set_times(packet.pts().map(|t| t - offset), packet.dts().map(|t| t - offset), packet.duration());
            transcoder.push(&packet)?;
        } else {
            transcoder.push_end()?;
        }
        loop {
            let mut encoded = Packet::new().expect("memory");
            match transcoder.pull(&mut encoded)? {
                Received::Ready => sink.write(encoded, 0, transcoder.time_base())?,
                Received::NeedInput => break,
                Received::Done => return sink.finish(),
            }
        }
    }
}

/// Packets of the first audio stream as ffprobe shows them, and what it is.
fn sound(path: &Path) -> Vec<String> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "a:0", "-of", "csv", "-show_entries"])
        .arg("stream=codec_name,sample_fmt,sample_rate,channels,initial_padding,start_time:packet=pts,dts,duration,flags,size")
        .arg(path)
        .output()
        .expect("ffprobe runs");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

// --- helpers ---------------------------------------------------------------------------------------------------------

/// Copies every stream that the container holds through a file sink; says which those were.
fn remux(
    source: &Path,
    output: &Path,
    adapt: impl FnOnce(FileSink) -> FileSink,
) -> Result<(Finished, Vec<usize>), Error> {
    let container = Container::for_path(output, None)?;
    let mut sink: Box<dyn Sink> = Box::new(adapt(FileSink::create(output, container, false)?));
    let mut demuxer = Demuxer::open(source, &OpenOptions::default(), &Cancel::new())?;
    let info = demuxer.info().clone();
    let mut streams = Streams { headers: demuxer.headers(), ..Streams::default() };
    streams.cut = Cut { from_seconds: info.start_seconds, length_seconds: None };
    let held: Vec<usize> =
        info.streams.iter().filter(|stream| container.holds(stream.kind, &stream.codec)).map(|s| s.index).collect();
    for index in &held {
        streams.streams.push(OutputStream::Copied(demuxer.stream(*index).expect("it is there")));
    }
    sink.start(&streams)?;
    let bases: Vec<_> = info.streams.iter().map(|s| demuxer.stream(s.index).expect("it is there").time_base).collect();
    let mut packet = Packet::new().expect("memory");
    while demuxer.read(&mut packet).expect("readable") == Received::Ready {
        let Some(index) = held.iter().position(|held| *held == packet.stream()) else { continue };
        let base = bases[packet.stream()];
        let offset = (info.start_seconds / base.value()).round() as i64;
        packet.set_times(packet.pts().map(|t| t - offset), packet.dts().map(|t| t - offset), packet.duration());
        sink.write(packet.share().expect("memory"), index, base)?;
    }
    Ok((sink.finish()?, held))
}

fn ffmpeg_copy(source: &Path, output: &Path, mapped: &[usize]) {
    let maps = mapped.iter().flat_map(|index| ["-map".to_owned(), format!("0:{index}")]);
    ffmpeg(Command::new("ffmpeg").arg("-i").arg(source).args(maps).args(["-c", "copy"]).arg(output));
}

fn ffmpeg(command: &mut Command) {
    let output = command.args(["-v", "error", "-y", "-nostdin"]).output().expect("ffmpeg runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What ffprobe says, one line for each thing, so that differences can be read.
fn described(path: &Path) -> Vec<String> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_format", "-show_streams", "-show_chapters", "-show_packets", "-of", "json"])
        .arg(path)
        .output()
        .expect("ffprobe runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for key in ["filename", "size", "bit_rate"] {
        found["format"].as_object_mut().expect("a format").remove(key);
    }
    for brand in
        ["major_brand", "minor_version", "compatible_brands", "MAJOR_BRAND", "MINOR_VERSION", "COMPATIBLE_BRANDS"]
    {
        if let Some(tags) = found["format"]["tags"].as_object_mut() {
            tags.remove(brand);
        }
    }
    for packet in found["packets"].as_array_mut().expect("packets") {
        packet.as_object_mut().expect("a packet").remove("pos");
    }
    let mut lines = vec![found["format"].to_string()];
    for part in ["streams", "chapters", "packets"] {
        lines.extend(found[part].as_array().expect("a list").iter().map(Value::to_string));
    }
    lines
}

#[track_caller]
fn same(ours: &[String], theirs: &[String], what: &str) {
    let differing = ours.iter().zip(theirs).filter(|(our, their)| our != their).take(8);
    let differing: Vec<String> = differing.map(|(our, their)| format!("ours   {our}\ntheirs {their}")).collect();
    assert!(
        ours == theirs,
        "{what}: {} lines, the command line has {}:\n{}",
        ours.len(),
        theirs.len(),
        differing.join("\n")
    );
}

/// Small files with every kind of stream, made once.
struct Media {
    _folder: TempDir,
    matroska: PathBuf,
    mp4: PathBuf,
    webm: PathBuf,
    ts: PathBuf,
    /// Sound with six channels.
    surround: PathBuf,
}

fn media() -> &'static Media {
    static MEDIA: OnceLock<Media> = OnceLock::new();
    MEDIA.get_or_init(|| Media::make().expect("media can be made"))
}

impl Media {
    fn make() -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("tags.txt"), TAGS)?;
        std::fs::write(
            at("sub.srt"),
            "1\n00:00:00,200 --> 00:00:00,900\nFirst\n\n2\n00:00:01,000 --> 00:00:01,500\nSecond\n",
        )?;
        std::fs::write(at("font.ttf"), vec![7; 3000])?;
        ffmpeg(
            Command::new("ffmpeg")
                .args(["-f", "lavfi", "-i", "testsrc=s=64x48:d=0.04", "-frames:v", "1"])
                .arg(at("cover.png")),
        );
        let inputs = |command: &mut Command| {
            command.args(["-f", "lavfi", "-i", "testsrc2=s=96x64:r=24000/1001:d=2"]);
            command.args(["-f", "lavfi", "-i", "sine=440:r=48000:d=2", "-f", "lavfi", "-i", "sine=880:r=44100:d=2"]);
            command.arg("-i").arg(at("sub.srt")).arg("-i").arg(at("tags.txt")).arg("-i").arg(at("cover.png"));
            command.args(["-map_metadata", "4", "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=ger"]);
            command.args(["-disposition:a:1", "default+dub", "-metadata:s:a:1", "title=Zweiter Ton"]);
        };
        let mut matroska = Command::new("ffmpeg");
        inputs(&mut matroska);
        matroska.args(["-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map", "3", "-c:v", "libx264", "-g", "12"]);
        matroska.args([
            "-c:a:0",
            "aac",
            "-c:a:1",
            "ac3",
            "-c:s:0",
            "srt",
            "-c:s:1",
            "ass",
            "-metadata:s:s:0",
            "language=fre",
        ]);
        matroska.args([
            "-disposition:s:1",
            "forced",
            "-metadata:s:t",
            "mimetype=application/x-truetype-font",
            "-attach",
        ]);
        ffmpeg(matroska.arg(at("font.ttf")).arg(at("all.mkv")));
        let mut mp4 = Command::new("ffmpeg");
        inputs(&mut mp4);
        mp4.args(["-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map", "5"]);
        mp4.args([
            "-c:v:0",
            "libx264",
            "-g",
            "12",
            "-c:v:1",
            "copy",
            "-disposition:v:1",
            "attached_pic",
            "-c:a",
            "aac",
        ]);
        ffmpeg(mp4.args(["-c:s", "mov_text"]).arg(at("all.mp4")));
        let mut webm = Command::new("ffmpeg");
        inputs(&mut webm);
        webm.args([
            "-map",
            "0",
            "-map",
            "1",
            "-map",
            "2",
            "-map",
            "3",
            "-c:v",
            "libvpx-vp9",
            "-cpu-used",
            "8",
            "-c:a:0",
            "libopus",
        ]);
        ffmpeg(webm.args(["-c:a:1", "libvorbis", "-c:s", "webvtt"]).arg(at("all.webm")));
        let mut ts = Command::new("ffmpeg");
        inputs(&mut ts);
        ts.args([
            "-map", "0", "-map", "1", "-map", "2", "-c:v", "libx264", "-g", "12", "-c:a:0", "aac", "-c:a:1", "mp2",
        ]);
        ffmpeg(ts.arg(at("all.ts")));
        let mut surround = Command::new("ffmpeg");
        surround.args(["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1", "-f", "lavfi", "-i"]);
        surround.arg("aevalsrc=sin(440*t)|sin(550*t)|sin(660*t)|sin(99*t)|sin(770*t)|sin(880*t):c=5.1:s=48000:d=1");
        ffmpeg(surround.args(["-c:v", "mpeg4", "-c:a", "flac"]).arg(at("surround.mkv")));
        Ok(Media {
            matroska: at("all.mkv"),
            mp4: at("all.mp4"),
            webm: at("all.webm"),
            ts: at("all.ts"),
            surround: at("surround.mkv"),
            _folder: folder,
        })
    }
}

const TAGS: &str = ";FFMETADATA1\ntitle=Alles\nartist=Jemand\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=800\ntitle=Eins\n\
                    [CHAPTER]\nTIMEBASE=1/1000\nSTART=800\nEND=2000\ntitle=Zwei\n";

/// Ends the process when a test that enters libav takes longer than `seconds`: such a test cannot be stopped from inside.
fn deadline(seconds: u64) -> Sender<()> {
    let (alive, watch) = channel();
    thread::spawn(move || {
        if watch.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("a test did not end within {seconds} s");
            std::process::exit(1);
        }
    });
    alive
}
