//! Containers, muxers and file sinks against what the ffmpeg command line writes of the same media, and under faults.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use repass::audio::AudioSpec;
use repass::av::Received;
use repass::av::audio::AudioTranscoder;
use repass::av::encoder::{Encoder, EncoderSetup};
use repass::av::frame::Frame;
use repass::av::muxer::{Container, Cut, Media as MediaWriter};
use repass::av::packet::Packet;
use repass::av::source::{Decoder, Demuxer, OpenOptions, StreamParameters};
use repass::error::{Error, Refusal};
use repass::event::Cancel;
use repass::media::StreamKind;
use repass::plan::PassFlag;
use repass::sink::{Digest, FileSink, Finished, OutputStream, Sink, Streams};
use serde_json::Value;

mod media;

use media::{deadline, names};

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

/// In addition to our own media: what is in the wild, where it is at hand.
#[test]
fn shared_clips_are_remuxed_as_by_the_command_line() -> Tested {
    let _deadline = deadline(300);
    let Some(clips) = media::footage() else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    for (name, extensions) in CLIPS {
        let source = clips.join(name);
        if !source.exists() {
            media::skipped(&format!("no {}", source.display()));
            continue;
        }
        for extension in *extensions {
            let what = format!("{name} to {extension}");
            let ours = folder.path().join("ours").with_extension(extension);
            let theirs = folder.path().join("theirs").with_extension(extension);
            let (_, mapped) = remux(&source, &ours, |sink| sink).map_err(|error| format!("{what}: {error}"))?;
            ffmpeg_copy(&source, &theirs, &mapped);
            same(&described(&ours), &described(&theirs), &what);
            std::fs::remove_file(ours)?;
            std::fs::remove_file(theirs)?;
        }
    }
    Ok(())
}

/// (Decoding times that Matroska does not keep are guessed, and not every FFmpeg rounds the guess alike: no MP4 from those.)
/// Many kinds of streams, HDR, rotation, edit lists, times that are missing, repeated or out of order, hidden VP9 frames.
const CLIPS: &[(&str, &[&str])] = &[
    ("bars_320x240_chapters.mkv", &["mkv"]),
    ("bbb_4k60_hevc10_hdr10_2s.mp4", &["mkv", "mp4"]),
    ("clip_256x256_h264_tmcd.mp4", &["mov", "mp4"]),
    ("count_2audio_ass_srt_chapters_attach.mkv", &["mkv"]),
    ("cup_640x480_h264_26777fps_audio_first.mp4", &["mkv", "ts"]),
    ("empty_edit_5s.mp4", &["mkv", "mp4"]),
    ("iibbibb_neg_ctts.mp4", &["mkv", "mp4"]),
    ("keyboard_568x320_h264_rot90.mov", &["mov", "mkv"]),
    ("man_1080x720_h264_overlapping_srt.mkv", &["mkv"]),
    ("man_1080x720_h264_pgs.mkv", &["mkv"]),
    ("nasa_2video_2audio_2subs.mp4", &["mkv", "mp4"]),
    ("phone_1080p120_h264_rot_1picture.mov", &["mov", "mp4"]),
    ("qr_3_edit_lists.mp4", &["mkv", "mp4"]),
    ("roadtrip_426x240_vp9p2_10bit_3s.webm", &["mkv"]),
    ("rooftop_1080p_hevc10_hlg_editlist_rot.mp4", &["mkv", "mp4"]),
    ("rtl_neg_first_pts.mp4", &["mkv", "mp4"]),
    ("sintel_captions_a53_h264.ts", &["ts", "mp4"]),
    ("timeline_screen_vfr_3026x1386.mp4", &["mkv"]),
    ("ts_duplicate_audio_dts.ts", &["ts", "mkv", "mp4"]),
    ("valley_1080p60_av1_hdr10_1s.mp4", &["mkv", "mp4"]),
];

#[test]
fn a_cover_stays_a_cover_in_matroska() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let ours = folder.path().join("ours.mkv");
    WITH_COVERS.set(true);
    for source in [&media().mp4, &media().matroska] {
        let covers = |path: &Path| -> Result<Vec<Vec<u8>>, Error> {
            let demuxer = Demuxer::open(path, &OpenOptions::default(), &Cancel::new())?;
            let covers = demuxer.info().streams.iter().filter(|stream| stream.kind == StreamKind::Cover);
            Ok(covers.map(|stream| demuxer.stream(stream.index).expect("it is there").picture).collect())
        };
        remux(source, &ours, |sink| sink)?;
        let expected = covers(source)?;
        println!("{}: {} covers", source.display(), expected.len());
        assert_eq!(covers(&ours)?, expected);
        std::fs::remove_file(&ours)?;
    }
    assert!(!covers_of_mp4_are_none());
    Ok(())
}

/// The test above would prove nothing if its source had no cover.
fn covers_of_mp4_are_none() -> bool {
    let demuxer = Demuxer::open(&media().mp4, &OpenOptions::default(), &Cancel::new()).expect("opens");
    !demuxer.info().streams.iter().any(|stream| stream.kind == StreamKind::Cover)
}

// --- containers ------------------------------------------------------------------------------------------------------

#[test]
fn a_container_holds_what_the_command_line_can_copy_into_it() -> Tested {
    let _deadline = deadline(120);
    let folder = tempfile::tempdir()?;
    let mut differing = Vec::new();
    for (kind, codec, source) in media().by_codec(folder.path()) {
        for extension in ["mp4", "mov", "mkv", "webm", "ts", "ivf"] {
            let output = folder.path().join("copy").with_extension(extension);
            let held = Container::for_path(&output, None)?.holds(kind, codec);
            let copy = Command::new("ffmpeg")
                .args(["-v", "quiet", "-y", "-i"])
                .arg(&source)
                .args(["-map", "0", "-c", "copy"])
                .arg(&output)
                .output()?;
            // Some muxers take anything and write what nobody can read.
            let copied = copy.status.success() && codec_of(&output) == codec;
            if held != copied {
                differing.push(format!("{codec} in {extension}: we say {held}, the command line {copied}"));
            }
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
    Ok(())
}

#[test]
fn an_unknown_extension_is_refused_with_the_usual_ones() {
    let _deadline = deadline(60);
    for (name, format) in
        [("out.xyz", None), ("out", None), ("out.mp4", Some("nonsense")), ("out_%d.png", None), ("out.f4m", None)]
    {
        let refusal = Container::for_path(Path::new(name), format).expect_err(name).to_string();
        assert!(refusal.contains(".mp4, .mkv or .webm"), "{name}: {refusal}");
    }
    for (name, format, expected) in [
        ("a b.MKV", None, "matroska"),
        ("x.mp4", None, "mp4"),
        ("x.out", Some("matroska"), "matroska"),
        ("x.m4v", None, "ipod"),
        ("x.ts", None, "mpegts"),
        ("x.m3u8", None, "hls"),
    ] {
        assert_eq!(Container::for_path(Path::new(name), format).map(|found| found.name()), Ok(expected), "{name}");
    }
}

#[test]
fn bare_streams_hold_one_codec_and_nothing_else() -> Tested {
    let _deadline = deadline(60);
    for (name, codec) in
        [("x.h264", "h264"), ("x.hevc", "hevc"), ("x.ivf", "av1"), ("x.obu", "av1"), ("x.m2v", "mpeg2video")]
    {
        let container = Container::for_path(Path::new(name), None)?;
        assert!(container.is_elementary() && container.holds(StreamKind::Video, codec), "{name}");
        assert!(
            !container.holds(StreamKind::Audio, "aac") && !container.holds(StreamKind::Subtitle, "subrip"),
            "{name}"
        );
        assert!(
            !container.holds(StreamKind::Attachment, "ttf") && !container.holds(StreamKind::Cover, "mjpeg"),
            "{name}"
        );
    }
    for name in ["x.mp4", "x.mov", "x.mkv", "x.webm", "x.ts", "x.ogv", "x.avi", "x.nut"] {
        assert!(!Container::for_path(Path::new(name), None)?.is_elementary(), "{name}");
    }
    Ok(())
}

#[test]
fn covers_and_attachments_go_where_they_are_shown() -> Tested {
    let _deadline = deadline(60);
    let holds =
        |name: &str, kind, codec| Container::for_path(Path::new(name), None).map(|found| found.holds(kind, codec));
    for (name, cover, attachment) in [
        ("x.mp4", true, false),
        ("x.m4v", true, false),
        ("x.mkv", true, true),
        ("x.mov", false, false),
        ("x.webm", false, false),
    ] {
        assert_eq!(holds(name, StreamKind::Cover, "mjpeg")?, cover, "{name}");
        assert_eq!(holds(name, StreamKind::Attachment, "ttf")?, attachment, "{name}");
    }
    Ok(())
}

fn codec_of(path: &Path) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "quiet", "-show_entries", "stream=codec_name", "-of", "csv=p=0"])
        .arg(path)
        .output();
    let text = String::from_utf8_lossy(&output.expect("ffprobe runs").stdout).into_owned();
    text.lines().next().unwrap_or_default().trim_end_matches(',').to_owned()
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

/// libopus knows 5.1 with the speakers behind, AC-3 says they are at the sides; AAC would need a private description.
#[test]
fn speakers_at_the_sides_are_kept_as_six_channels() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("side.mkv");
    let surround = &media().surround;
    let side = ["-map", "0", "-c:v", "copy", "-channel_layout:a", "5.1(side)", "-c:a", "ac3"];
    ffmpeg(Command::new("ffmpeg").arg("-i").arg(surround).args(side).arg(&source));
    for (spec, extension) in
        [("opus:256k", "mkv"), ("aac:256k", "mp4"), ("vorbis", "mkv"), ("flac", "mkv"), ("ac3", "mkv")]
    {
        let output = folder.path().join(spec.replace(':', "_")).with_extension(extension);
        transcode(&source, 0, &spec.parse()?, &output, None).map_err(|error| format!("{spec}: {error}"))?;
        assert!(sound(&output).concat().contains(",48000,6,"), "{spec}: {:?}", sound(&output).last());
    }
    let stereo = folder.path().join("stereo.mkv");
    transcode(&source, 0, &"mp3".parse()?, &stereo, None)?;
    assert!(sound(&stereo).concat().contains(",48000,2,"));
    Ok(())
}

#[test]
fn sound_that_changes_its_rate_and_channels_goes_on_without_a_gap() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let mut joined = Vec::new();
    for (rate, channels, offset) in [("48000", "2", "0"), ("44100", "1", "1"), ("48000", "2", "2")] {
        let part = folder.path().join(offset).with_extension("ts");
        let mut make = Command::new("ffmpeg");
        make.args(["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1", "-f", "lavfi", "-i"]);
        make.arg(format!("sine=440:r={rate}:d=1")).args(["-ac", channels, "-output_ts_offset", offset]);
        ffmpeg(make.args(["-c:v", "mpeg2video", "-c:a", "mp2"]).arg(&part));
        joined.extend(std::fs::read(part)?);
    }
    let source = folder.path().join("joined.ts");
    std::fs::write(&source, joined)?;
    for (spec, extension) in [("aac:128k", "mp4"), ("flac", "mkv")] {
        let output = folder.path().join("out").with_extension(extension);
        let finished =
            transcode(&source, 0, &spec.parse()?, &output, None).map_err(|error| format!("{spec}: {error}"))?;
        let seconds = finished.streams[0].seconds().ok_or("no times")?;
        assert!((seconds - 3.0).abs() < 0.1, "{spec}: {seconds} s");
    }
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
    let streams = vec![OutputStream::Encoded { stream: transcoder.stream()?, like: None }];
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

// --- encoded video -----------------------------------------------------------------------------------------------------

#[test]
fn what_encoders_make_is_whole_in_every_container_that_holds_it() -> Tested {
    let _deadline = deadline(240);
    let folder = tempfile::tempdir()?;
    for (encoder, options, extensions) in [
        ("libx264", &[("preset", "ultrafast")][..], &["mp4", "mov", "mkv", "ts", "h264"][..]),
        (
            "libx265",
            &[("preset", "ultrafast"), ("x265-params", "log-level=error")],
            &["mp4", "mov", "mkv", "ts", "hevc"],
        ),
        ("libvpx-vp9", &[("cpu-used", "8"), ("auto-alt-ref", "1")], &["mp4", "mkv", "webm", "ivf"]),
        // Its headers come with the first packet, after the container's header is written.
        ("libaom-av1", &[("cpu-used", "8")], &["mp4", "mkv", "webm", "ivf", "obu"]),
        ("libsvtav1", &[("preset", "10")], &["mp4", "mkv", "webm", "ivf"]),
    ] {
        for extension in extensions {
            let output = folder.path().join(encoder).with_extension(extension);
            let finished = match encode(encoder, options, &media().mp4, None, &output) {
                Err(Error::Open { source, .. }) if source.0 == ENCODER_NOT_FOUND => {
                    media::skipped(&format!("this libavcodec has no {encoder}"));
                    break;
                }
                finished => finished.map_err(|error| format!("{encoder} in {extension}: {error}"))?,
            };
            assert_eq!((finished.video_packets, decodable_frames(&output)), (48, 48), "{encoder} in {extension}");
            let headers = probed(&output, "stream=extradata_size");
            let apart = !matches!(*extension, "ts" | "h264" | "hevc" | "ivf" | "obu");
            // VP9 in Matroska before FFmpeg 6 needs none.
            let none = encoder == "libvpx-vp9" || !apart;
            assert!(
                none || headers.parse::<u32>().is_ok_and(|bytes| bytes > 4),
                "{encoder} in {extension}: {headers:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn hdr_metadata_of_the_source_is_kept_while_the_light_stays_the_same() -> Tested {
    let _deadline = deadline(120);
    let Some(clips) = media::footage() else { return Ok(()) };
    let clip = clips.join("valley_1080p60_av1_hdr10_1s.mp4");
    let folder = tempfile::tempdir()?;
    for (transfer, extension, kept) in [("smpte2084", "mp4", true), ("smpte2084", "mkv", true), ("bt709", "mkv", false)]
    {
        let source = folder.path().join(format!("{transfer}.mkv"));
        let mut make = Command::new("ffmpeg");
        make.args(["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.4", "-vf"]);
        make.arg(format!("format=yuv420p10le,setparams=color_trc={transfer}"));
        ffmpeg(make.args(["-c:v", "ffv1"]).arg(&source));
        let output = folder.path().join(format!("out_{transfer}.{extension}"));
        let demuxer = Demuxer::open(&clip, &OpenOptions::default(), &Cancel::new())?;
        let like = demuxer.stream(demuxer.info().video.index)?;
        let quiet = &[("preset", "ultrafast"), ("x265-params", "log-level=error")];
        let finished = encode("libx265", quiet, &source, Some(like), &output)?;
        let shown = probed(&output, "stream_side_data=side_data_type");
        assert_eq!(finished.streams[0].hdr, kept, "{transfer} in {extension}");
        assert_eq!(shown.contains("Mastering display metadata"), kept, "{transfer} in {extension}: {shown}");
        assert_eq!(shown.contains("Content light level metadata"), kept, "{transfer} in {extension}: {shown}");
    }
    Ok(())
}

#[test]
fn hdr_metadata_that_only_frames_have_reaches_the_container() -> Tested {
    let _deadline = deadline(120);
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("source.hevc");
    let mut make = Command::new("ffmpeg");
    make.args(["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.4", "-pix_fmt", "yuv420p10le", "-c:v", "libx265"]);
    make.args(["-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc", "-x265-params"]);
    make.arg("log-level=error:max-cll=900,300:master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,1)");
    if !make.arg(&source).args(["-v", "error", "-y"]).output()?.status.success() {
        media::skipped("this ffmpeg has no libx265");
        return Ok(());
    }
    for extension in ["mp4", "mkv"] {
        let output = folder.path().join("out").with_extension(extension);
        encode("libx265", &[("preset", "ultrafast"), ("x265-params", "log-level=error")], &source, None, &output)?;
        let shown = probed(&output, "stream_side_data=max_content,max_average,max_luminance");
        assert!(shown.contains("900") && shown.contains("300") && shown.contains("1000"), "{extension}: {shown}");
    }
    Ok(())
}

/// Encodes the video of a source in one pass.
fn encode(
    encoder: &str,
    options: &[(&str, &str)],
    source: &Path,
    like: Option<StreamParameters>,
    output: &Path,
) -> Result<Finished, Error> {
    let container = Container::for_path(output, None)?;
    let mut sink = Box::new(FileSink::create(output, container, false)?);
    let mut demuxer = Demuxer::open(source, &OpenOptions::default(), &Cancel::new())?;
    let info = demuxer.info().video.clone();
    demuxer.only(&[info.index]);
    let mut decoder = Decoder::open(&demuxer.stream(info.index).expect("it is there"), Some(1)).expect("a decoder");
    let mut setup = Some(EncoderSetup {
        encoder: encoder.to_owned(),
        pass: 1,
        flag: PassFlag::None,
        options: options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        stats: None,
        time_base: info.frame_rate.inverse(),
        frame_rate: info.frame_rate,
        sample_aspect_ratio: None,
        global_header: container.global_header(),
    });
    let (mut open, mut like) = (None::<Encoder>, like);
    let (mut packet, mut number) = (Packet::new().expect("memory"), 0);
    loop {
        let mut frame = Frame::new().expect("memory");
        let state = decoder.receive(&mut frame).expect("decodable");
        match state {
            Received::NeedInput => {
                match demuxer.read(&mut packet).expect("readable") {
                    Received::Ready => decoder.send(&packet).expect("decodable"),
                    _ => decoder.send_end().expect("decodable"),
                }
                continue;
            }
            Received::Ready => {
                frame.set_pts(number);
                frame.set_picture_type(false);
                number += 1;
                match (&mut open, setup.take()) {
                    (Some(encoder), _) => encoder.send(frame)?,
                    (none, setup) => {
                        let first = frame.share().expect("memory");
                        let encoder = none.insert(setup.expect("opened once").open(frame)?);
                        let stream = encoder.stream()?.with_light_of(&first);
                        let streams = vec![OutputStream::Encoded { stream, like: like.take() }];
                        sink.start(&Streams { streams, ..Streams::default() })?;
                    }
                }
            }
            Received::Done => open.as_mut().expect("frames").send_end()?,
        }
        let encoder = open.as_mut().expect("frames");
        loop {
            let mut coded = Packet::new().expect("memory");
            match encoder.receive(&mut coded)? {
                Received::Ready => sink.write(coded, 0, info.frame_rate.inverse())?,
                Received::NeedInput => break,
                Received::Done => return sink.finish(),
            }
        }
    }
}

fn decodable_frames(path: &Path) -> usize {
    let mut decode = Command::new("ffmpeg");
    decode.args(["-v", "error", "-xerror", "-i"]).arg(path);
    let frames = decode.args(["-map", "0:v:0", "-f", "framecrc", "-"]).output().expect("ffmpeg runs");
    String::from_utf8_lossy(&frames.stdout).lines().filter(|line| !line.starts_with('#')).count()
}

fn probed(path: &Path, entries: &str) -> String {
    let mut probe = Command::new("ffprobe");
    probe.args(["-v", "error", "-select_streams", "v:0", "-of", "csv=p=0", "-show_entries", entries]).arg(path);
    String::from_utf8_lossy(&probe.output().expect("ffprobe runs").stdout).trim().trim_end_matches(',').to_owned()
}

/// libavcodec's `AVERROR_ENCODER_NOT_FOUND`.
const ENCODER_NOT_FOUND: i32 = -1_129_203_192;

// --- files that appear whole or not at all ---------------------------------------------------------------------------

#[test]
fn a_disk_that_fails_is_an_error_in_its_own_words_and_leaves_nothing() -> Tested {
    let _deadline = deadline(120);
    for name in ["out.mp4", "out.mkv"] {
        let size = plain_size(name)?;
        for code in [ENOSPC, EIO] {
            // Before, in and behind the first buffer, in the trailer, and at the last byte.
            for at in [0, 1, 5000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, size / 2, size - 20_000, size - 300, size - 1]
            {
                let folder = tempfile::tempdir()?;
                let faulty =
                    |sink: FileSink| sink.through(|media| Box::new(Faulty::new(media, at, Fault::Error(code))));
                let error = remux(&media().big, &folder.path().join(name), faulty).map(drop).expect_err("a full disk");
                assert!(
                    matches!(&error, Error::Write { source, .. } if source.raw_os_error() == Some(code)),
                    "{name}, {code} at {at} of {size}: {error}"
                );
                assert!(error.to_string().contains(name), "{error}");
                assert_eq!(names(folder.path()), [""; 0], "{name}, {code} at {at} of {size}");
            }
        }
    }
    Ok(())
}

#[test]
fn short_and_interrupted_writes_are_completed() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let (plain, slow) = (folder.path().join("plain.mp4"), folder.path().join("slow.mp4"));
    remux(&media().big, &plain, |sink| sink)?;
    remux(&media().big, &slow, |sink| sink.through(|media| Box::new(Faulty::new(media, 0, Fault::Short))))?;
    assert!(std::fs::read(plain)? == std::fs::read(slow)?);
    Ok(())
}

#[test]
fn a_writer_that_takes_nothing_more_or_panics_is_an_error() -> Tested {
    let _deadline = deadline(60);
    for (fault, said) in
        [(Fault::Nothing, "write zero"), (Fault::Panic, "the disk is on fire"), (Fault::NoSeek, "no way back")]
    {
        let folder = tempfile::tempdir()?;
        let faulty = |sink: FileSink| sink.through(|media| Box::new(Faulty::new(media, 70_000, fault)));
        let error = remux(&media().big, &folder.path().join("out.mp4"), faulty).map(drop).expect_err(said);
        let text = error.to_string();
        assert!(matches!(error, Error::Write { .. }) && (text.contains(said) || said == "write zero"), "{text}");
        assert_eq!(names(folder.path()), [""; 0], "{said}");
    }
    Ok(())
}

#[test]
fn a_file_that_is_not_what_was_written_gets_no_name() -> Tested {
    let _deadline = deadline(60);
    type Tamper = fn(&Path, u64);
    let tampers: [(&str, Tamper); 4] = [
        ("cut short", |path, size| open_for_write(path).set_len(size * 9 / 10).expect("can be cut")),
        ("empty", |path, _| open_for_write(path).set_len(0).expect("can be cut")),
        ("gone", |path, _| std::fs::remove_file(path).expect("can be removed")),
        ("overwritten", |path, _| std::fs::write(path, vec![0; 100_000]).expect("can be written")),
    ];
    for name in ["out.mp4", "out.mkv", "out.ts"] {
        for (what, tamper) in tampers {
            let folder = tempfile::tempdir()?;
            let size = plain_size(name)?;
            let adapt = |sink: FileSink| at_the_end(sink, move |path| tamper(path, size));
            let error = remux(&media().big, &folder.path().join(name), adapt).map(drop).expect_err(what);
            assert!(matches!(error, Error::Verify { .. }), "{name}, {what}: {error}");
            assert_eq!(names(folder.path()), [""; 0], "{name}, {what}");
        }
    }
    Ok(())
}

#[test]
fn a_file_that_is_written_anew_for_its_header_is_seen_to_move() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("out.mp4");
    let (moved, before_reading_back) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counted, noted) = (moved.clone(), before_reading_back.clone());
    let sink = FileSink::create(&output, Container::for_path(&output, None)?, false)?
        .with_options(vec![("movflags".to_owned(), "faststart".to_owned())]);
    let sink = at_the_end(sink, move |_| noted.store(counted.load(Ordering::Relaxed), Ordering::Relaxed));
    let (mut sink, _) = written(&media().big, Box::new(sink))?;
    sink.seal(&|| {
        moved.fetch_add(1, Ordering::Relaxed);
    })?;
    let mebibytes = sink.sealed_bytes().unwrap_or(0) >> 20;
    let seen = before_reading_back.load(Ordering::Relaxed);
    assert!(mebibytes > 1 && seen >= mebibytes, "{seen} times for {mebibytes} MiB");
    Ok(())
}

#[test]
fn a_stop_ends_the_reading_back_at_once() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("out.mkv");
    let cancel = Cancel::new();
    let stopping = cancel.clone();
    let stop = move |sink: FileSink| at_the_end(sink.with_cancel(cancel), move |_| stopping.stop());
    let stopped = remux(&media().mp4, &output, stop);
    assert!(matches!(stopped, Err(Error::Interrupted)), "{:?}", stopped.err());
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
    Ok(())
}

#[test]
fn another_file_of_the_same_length_is_noticed() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let other = media().mp4.clone();
    let swap = move |path: &Path| std::fs::copy(&other, path).map(drop).expect("can be copied");
    let error = remux(&media().big, &folder.path().join("out.mp4"), |sink| at_the_end(sink, swap)).map(drop);
    let error = error.expect_err("another file");
    assert!(matches!(error, Error::Verify { .. }) && error.to_string().contains("packets"), "{error}");
    Ok(())
}

#[test]
fn an_output_that_exists_is_replaced_only_when_allowed() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("out.mkv");
    std::fs::write(&output, "mine")?;
    let refused = remux(&media().mp4, &output, |sink| sink).map(drop).expect_err("it exists");
    assert!(matches!(refused, Error::Plan(Refusal::Exists { .. })), "{refused}");

    // One that turns up while we write is not ours to replace either.
    let late = folder.path().join("late.mkv");
    let name = late.clone();
    let appears = move |_: &Path| std::fs::write(&name, "theirs").expect("can be written");
    let refused = remux(&media().mp4, &late, |sink| at_the_end(sink, appears)).map(drop).expect_err("it appeared");
    assert!(matches!(&refused, Error::Write { source, .. } if source.kind() == ErrorKind::AlreadyExists), "{refused}");
    assert_eq!(std::fs::read_to_string(&late)?, "theirs");

    let name = output.clone();
    let still_there = move |_: &Path| assert_eq!(std::fs::read(&name).expect("readable"), b"mine");
    let sink = FileSink::create(&output, Container::for_path(&output, None)?, true)?;
    copy(&media().mp4, Box::new(at_the_end(sink, still_there)))?;
    assert_ne!(std::fs::read(&output)?, b"mine");
    assert_eq!(names(folder.path()), ["late.mkv", "out.mkv"]);
    Ok(())
}

#[test]
fn a_link_is_followed_and_what_is_no_file_is_refused() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let container = Container::for_path(Path::new("x.mkv"), None)?;
    let (target, link) = (folder.path().join("target.mkv"), folder.path().join("link.mkv"));
    std::fs::write(&target, "old")?;
    std::os::unix::fs::symlink(&target, &link)?;
    remux_over(&link)?;
    assert!(link.is_symlink() && std::fs::read(&target)? != b"old");
    // One that leads nowhere is refused before anything is encoded, or replaced itself.
    std::fs::remove_file(&target)?;
    let refused = FileSink::create(&link, container, false).map(drop).expect_err("the name is taken");
    assert!(matches!(refused, Error::Plan(Refusal::Exists { .. })), "{refused}");
    remux_over(&link)?;
    assert!(!link.is_symlink() && link.is_file() && !target.exists());
    for path in [folder.path(), Path::new("/dev/null")] {
        let refused = FileSink::create(path, container, true).map(drop).expect_err("no file");
        assert!(matches!(refused, Error::Plan(Refusal::Output { .. })), "{refused}");
    }
    let missing = folder.path().join("no/such/folder/out.mkv");
    let refused = FileSink::create(&missing, container, false).map(drop).expect_err("no folder");
    assert!(matches!(refused, Error::Plan(Refusal::Output { .. })) && refused.to_string().contains("no/such/folder"));
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o555))?;
    if std::fs::write(folder.path().join("probe"), "").is_ok() {
        media::skipped("this user may write anywhere");
        return Ok(());
    }
    let container = Container::for_path(Path::new("x.mkv"), None)?;
    let refused = FileSink::create(&folder.path().join("x.mkv"), container, false).map(drop).expect_err("read only");
    assert!(matches!(refused, Error::Plan(Refusal::Output { .. })), "{refused}");
    Ok(())
}

#[test]
fn the_file_is_private_until_it_is_whole() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let usual = folder.path().join("usual");
    std::fs::write(&usual, "")?;
    let output = folder.path().join("out.mp4");
    let check = move |path: &Path| assert_eq!(mode(path), 0o600);
    remux(&media().mp4, &output, |sink| at_the_end(sink, check))?;
    assert_eq!(mode(&output), mode(&usual));

    std::fs::set_permissions(&output, Permissions::from_mode(0o640))?;
    remux_over(&output)?;
    assert_eq!(mode(&output), 0o640, "a replaced file keeps its mode");
    Ok(())
}

#[test]
fn leftovers_of_dead_runs_are_removed_and_those_of_living_ones_stay() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    for name in
        [".out.mkv.repass-dead01.part", ".other.mkv.repass-dead02.part", ".out.mkv.repass-x.txt", "out.mkv.part"]
    {
        std::fs::write(at(name), "left")?;
    }
    let container = Container::for_path(Path::new("x.mkv"), None)?;
    let living = FileSink::create(&at("out.mkv"), container, false)?;
    let second = FileSink::create(&at("out.mkv"), container, false)?;
    assert!(living.temporary().exists() && second.temporary().exists());
    assert!(!at(".out.mkv.repass-dead01.part").exists());
    drop((living, second));
    assert_eq!(names(folder.path()), [".other.mkv.repass-dead02.part", ".out.mkv.repass-x.txt", "out.mkv.part"]);
    Ok(())
}

#[test]
fn a_sink_that_is_dropped_leaves_nothing() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let demuxer = Demuxer::open(&media().mp4, &OpenOptions::default(), &Cancel::new())?;
    for name in ["out.mp4", "out.mkv", "out.ts", "out.webm"] {
        let mut sink = FileSink::create(&folder.path().join(name), Container::for_path(Path::new(name), None)?, false)?;
        drop(FileSink::create(&folder.path().join(name), Container::for_path(Path::new(name), None)?, false)?);
        let streams = vec![OutputStream::Copied(demuxer.stream(0)?)];
        let started = sink.start(&Streams { streams, ..Streams::default() });
        assert_eq!(started.is_err(), name == "out.webm", "{name}");
    }
    assert_eq!(names(folder.path()), [""; 0]);
    Ok(())
}

#[test]
fn a_name_as_long_as_the_file_system_allows_works() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let output = folder.path().join(format!("{}.mkv", "ü".repeat(125)));
    remux(&media().mp4, &output, |sink| sink)?;
    assert!(output.exists());
    Ok(())
}

#[test]
fn options_of_the_container_are_taken_or_named_in_the_error() -> Tested {
    let _deadline = deadline(60);
    let folder = tempfile::tempdir()?;
    let option = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let fast = folder.path().join("fast.mp4");
    remux(&media().big, &fast, |sink| sink.with_options(option("movflags", "faststart")))?;
    let begin = std::fs::read(&fast)?;
    let position = |tag: &[u8]| begin.windows(4).position(|window| window == tag);
    assert!(position(b"moov") < position(b"mdat"));
    let output = folder.path().join("out.mp4");
    let error = remux(&media().mp4, &output, |sink| sink.with_options(option("movflag", "faststart"))).map(drop);
    let error = error.expect_err("no such option");
    assert!(matches!(error, Error::Mux { .. }) && error.to_string().contains("movflag"), "{error}");
    Ok(())
}

// --- other sinks -----------------------------------------------------------------------------------------------------

#[test]
fn a_digest_tells_video_apart_and_nothing_else() -> Tested {
    let _deadline = deadline(60);
    let digest = |path: &Path, only_video: bool| -> Result<Finished, Error> {
        let mut demuxer = Demuxer::open(path, &OpenOptions::default(), &Cancel::new())?;
        if only_video {
            demuxer.only(&[demuxer.info().video.index]);
        }
        let mut sink: Box<dyn Sink> = Box::new(Digest::new());
        let all = 0..demuxer.info().streams.len();
        let streams = all.map(|index| OutputStream::Copied(demuxer.stream(index).expect("it is there"))).collect();
        sink.start(&Streams { streams, ..Streams::default() })?;
        let mut packet = Packet::new().expect("memory");
        while demuxer.read(&mut packet).expect("readable") == Received::Ready {
            let (stream, share) = (packet.stream(), packet.share().expect("memory"));
            sink.write(share, stream, demuxer.info().video.time_base)?;
        }
        sink.finish()
    };
    let all = digest(&media().mp4, false)?;
    assert_eq!(all.video_packets, 48);
    assert_eq!(all.digest, digest(&media().mp4, true)?.digest);
    assert_ne!(all.digest, digest(&media().big, true)?.digest);
    Ok(())
}

// --- helpers ---------------------------------------------------------------------------------------------------------

/// Copies every stream that the container holds into a new file; says which those were.
fn remux(
    source: &Path,
    output: &Path,
    adapt: impl FnOnce(FileSink) -> FileSink,
) -> Result<(Finished, Vec<usize>), Error> {
    copy(source, Box::new(adapt(FileSink::create(output, Container::for_path(output, None)?, false)?)))
}

thread_local! {
    static WITH_COVERS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn copy(source: &Path, sink: Box<FileSink>) -> Result<(Finished, Vec<usize>), Error> {
    let (sink, held) = written(source, sink)?;
    Ok((sink.finish()?, held))
}

/// Writes every packet that the container holds; nothing is sealed yet.
fn written(source: &Path, mut sink: Box<FileSink>) -> Result<(Box<FileSink>, Vec<usize>), Error> {
    let container = sink.container();
    let mut demuxer = Demuxer::open(source, &OpenOptions::default(), &Cancel::new())?;
    let info = demuxer.info().clone();
    let mut streams = Streams { headers: demuxer.headers(), ..Streams::default() };
    streams.cut = Cut { from_seconds: info.start_seconds, length_seconds: None };
    // A cover stays a cover in Matroska, where the command line makes it a second video: not compared, tested by itself.
    let compared = |kind| kind != StreamKind::Cover || container.name() != "matroska" || WITH_COVERS.get();
    let held = info.streams.iter().filter(|s| container.holds(s.kind, &s.codec) && compared(s.kind));
    let held: Vec<usize> = held.map(|s| s.index).collect();
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
    Ok((sink, held))
}

/// Remuxes the small file over an existing one.
fn remux_over(output: &Path) -> Result<Finished, Error> {
    let sink = FileSink::create(output, Container::for_path(output, None)?, true)?;
    copy(&media().mp4, Box::new(sink)).map(|(finished, _)| finished)
}

/// How big the file gets where nothing fails.
fn plain_size(name: &str) -> Result<u64, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    remux(&media().big, &folder.path().join(name), |sink| sink).map(|(finished, _)| finished.bytes)
}

fn open_for_write(path: &Path) -> File {
    File::options().write(true).open(path).expect("can be opened")
}

/// Does something to the temporary file when all is written and nothing is verified.
fn at_the_end(sink: FileSink, act: impl FnOnce(&Path) + Send + 'static) -> FileSink {
    let path = sink.temporary().to_owned();
    sink.through(|media| Box::new(AtTheEnd { media, act: Some(move || act(&path)) }))
}

struct AtTheEnd<F> {
    media: Box<dyn MediaWriter>,
    act: Option<F>,
}

impl<F: FnOnce()> Write for AtTheEnd<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.media.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.act.take().expect("flushed once")();
        self.media.flush()
    }
}

impl<F> Seek for AtTheEnd<F> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.media.seek(to)
    }
}

/// A writer that fails once the output would grow beyond so many bytes.
struct Faulty {
    media: Box<dyn MediaWriter>,
    at: u64,
    fault: Fault,
    calls: u64,
}

#[derive(Clone, Copy)]
enum Fault {
    /// The operating system's error of this number; what fits is written before.
    Error(i32),
    /// Never more than 1000 bytes at once, and every third call is interrupted.
    Short,
    /// Takes no more bytes.
    Nothing,
    Panic,
    /// Cannot go back.
    NoSeek,
}

impl Faulty {
    fn new(media: Box<dyn MediaWriter>, at: u64, fault: Fault) -> Self {
        Faulty { media, at, fault, calls: 0 }
    }
}

impl Write for Faulty {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.calls += 1;
        let room = self.at.saturating_sub(self.media.stream_position()?) as usize;
        match self.fault {
            Fault::Short if self.calls.is_multiple_of(3) => Err(ErrorKind::Interrupted.into()),
            Fault::Short => self.media.write(&bytes[..bytes.len().min(1000)]),
            Fault::NoSeek => self.media.write(bytes),
            _ if room > 0 => self.media.write(&bytes[..bytes.len().min(room)]),
            Fault::Error(code) => Err(std::io::Error::from_raw_os_error(code)),
            Fault::Nothing => Ok(0),
            Fault::Panic => panic!("the disk is on fire"),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.media.flush()
    }
}

impl Seek for Faulty {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        match self.fault {
            Fault::NoSeek => Err(std::io::Error::other("no way back")),
            _ => self.media.seek(to),
        }
    }
}

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

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
    matroska: PathBuf,
    mp4: PathBuf,
    webm: PathBuf,
    ts: PathBuf,
    /// More than any buffer holds: some megabytes of video and uncompressed sound.
    big: PathBuf,
    /// Sound with six channels.
    surround: PathBuf,
}

fn media() -> &'static Media {
    static MEDIA: OnceLock<Media> = OnceLock::new();
    MEDIA.get_or_init(|| Media::make().expect("media can be made"))
}

impl Media {
    fn make() -> std::io::Result<Self> {
        // Under the build folder, where the next run replaces it: a static is never dropped.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("output");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let at = |name: &str| folder.join(name);
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
        let mut big = Command::new("ffmpeg");
        big.args(["-f", "lavfi", "-i", "nullsrc=s=640x360:r=25:d=1,geq=random(1)*255:128:128"]);
        big.args(["-f", "lavfi", "-i", "sine=d=1", "-c:v", "mpeg4", "-q:v", "2", "-g", "10", "-c:a", "aac"]);
        ffmpeg(big.arg(at("big.mp4")));
        let mut surround = Command::new("ffmpeg");
        surround.args(["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1", "-f", "lavfi", "-i"]);
        surround.arg("aevalsrc=sin(440*t)|sin(550*t)|sin(660*t)|sin(99*t)|sin(770*t)|sin(880*t):c=5.1:s=48000:d=1");
        ffmpeg(surround.args(["-c:v", "mpeg4", "-c:a", "flac"]).arg(at("surround.mkv")));
        Ok(Media {
            matroska: at("all.mkv"),
            mp4: at("all.mp4"),
            webm: at("all.webm"),
            ts: at("all.ts"),
            big: at("big.mp4"),
            surround: at("surround.mkv"),
        })
    }
}

impl Media {
    /// One small file for each of the usual codecs.
    fn by_codec(&self, folder: &Path) -> Vec<(StreamKind, &'static str, PathBuf)> {
        let mut made = Vec::new();
        for (kind, codec, encoder) in BY_CODEC {
            let file = folder.join(codec).with_extension("nut");
            let file = if *kind == StreamKind::Subtitle { file.with_extension("mkv") } else { file };
            let file = if *codec == "mov_text" { file.with_extension("mp4") } else { file };
            let mut make = Command::new("ffmpeg");
            match kind {
                StreamKind::Video => {
                    make.args(["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.2", "-cpu-used", "8", "-c:v"])
                }
                StreamKind::Audio => make.args(["-f", "lavfi", "-i", "sine=r=48000:d=0.2", "-strict", "-2", "-c:a"]),
                _ => make.arg("-i").arg(self.matroska.with_file_name("sub.srt")).arg("-c:s"),
            };
            if make.arg(encoder).args(["-v", "quiet", "-y"]).arg(&file).output().is_ok_and(|made| made.status.success())
            {
                made.push((*kind, *codec, file));
            } else {
                media::skipped(&format!("this ffmpeg has no {encoder}"));
            }
        }
        made
    }
}

const BY_CODEC: &[(StreamKind, &str, &str)] = &[
    (StreamKind::Video, "h264", "libx264"),
    (StreamKind::Video, "hevc", "libx265"),
    (StreamKind::Video, "av1", "libaom-av1"),
    (StreamKind::Video, "vp9", "libvpx-vp9"),
    (StreamKind::Video, "vp8", "libvpx"),
    (StreamKind::Video, "mpeg2video", "mpeg2video"),
    (StreamKind::Video, "prores", "prores_ks"),
    (StreamKind::Audio, "aac", "aac"),
    (StreamKind::Audio, "opus", "libopus"),
    (StreamKind::Audio, "vorbis", "libvorbis"),
    (StreamKind::Audio, "mp3", "libmp3lame"),
    (StreamKind::Audio, "ac3", "ac3"),
    (StreamKind::Audio, "flac", "flac"),
    (StreamKind::Audio, "truehd", "truehd"),
    (StreamKind::Audio, "pcm_s16le", "pcm_s16le"),
    (StreamKind::Subtitle, "subrip", "srt"),
    (StreamKind::Subtitle, "ass", "ass"),
    (StreamKind::Subtitle, "webvtt", "webvtt"),
    (StreamKind::Subtitle, "mov_text", "mov_text"),
];

const TAGS: &str = ";FFMETADATA1\ntitle=Alles\nartist=Jemand\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=800\ntitle=Eins\n\
                    [CHAPTER]\nTIMEBASE=1/1000\nSTART=800\nEND=2000\ntitle=Zwei\n";
