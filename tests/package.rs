//! HLS and DASH: whole or not at all, and playable by others than us.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod media;

use std::path::Path;

use media::{clip, ffmpeg, ffprobe, has_encoder, text, within};
use repass::adapter;
use repass::cache::{CacheMode, CachePlan};
use repass::error::{Error, Refusal};
use repass::event::{Cancel, Event};
use repass::job::{AudioChoice, Job, JobRequest, RenditionRequest};
use repass::plan::Request;
use repass::rate::{BitRate, ByteSize, GopLength, Target};
use repass::report::Report;
use repass::source::Input;

fn rendition(manifest: &Path, encoder: &str, size: &str, target: Target) -> RenditionRequest {
    let preset = if encoder == "libsvtav1" { "12" } else { "ultrafast" };
    let request = Request { preset: Some(preset.to_owned()), ..Request::new(adapter::named(encoder).unwrap(), target) };
    RenditionRequest {
        size: size.parse().unwrap(),
        gop: Some(GopLength::Seconds(1.0)),
        ..RenditionRequest::new(format!("{encoder}-{size}"), manifest, request)
    }
}

fn job(input: &Path, renditions: Vec<RenditionRequest>) -> JobRequest {
    let cache = CachePlan { mode: CacheMode::Ram, budget: ByteSize(1 << 30), spill_dir: None };
    JobRequest { renditions, cache, ..JobRequest::new(Input::file(input)) }
}

fn run(request: &JobRequest) -> Result<Report, Error> {
    Job::prepare(request, &Cancel::new())?.run(|_| {})
}

/// A ladder of two passes and one, of the encoders that are here.
fn ladder(manifest: &Path) -> Vec<RenditionRequest> {
    let rate = |bps| Target::Average(BitRate(bps));
    let mut renditions = vec![
        rendition(manifest, "libx264", "source", rate(300_000)),
        rendition(manifest, "libx264", "90p", rate(100_000)),
    ];
    for (encoder, target) in
        [("libx265", rate(150_000)), ("libvpx-vp9", rate(120_000)), ("libsvtav1", Target::Quality(50.0))]
    {
        if has_encoder(encoder) {
            renditions.push(rendition(manifest, encoder, "120p", target));
        }
    }
    renditions
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// How many frames of stream `map` the ffmpeg program decodes, and that it has nothing to complain of.
fn decoded(path: &Path, map: &str) -> usize {
    let output = ffmpeg(&["-xerror", "-i", text(path), "-map", map, "-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn an_hls_package_is_played_by_ffmpeg_and_says_what_it_holds() {
    within(180, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 84);
        let manifest = folder.path().join("out/master.m3u8");
        let request = job(&input, ladder(&manifest));
        let report = run(&request).unwrap();
        assert!(report.renditions.iter().all(|rendition| rendition.verified && rendition.bytes > 1000), "{report:#?}");
        let text_of = std::fs::read_to_string(&manifest).unwrap();
        let streams = text_of.lines().filter(|line| line.starts_with("#EXT-X-STREAM-INF:"));
        for (line, rendition) in streams.clone().zip(&request.renditions) {
            let codec = match rendition.encoder.adapter.name {
                "libx264" => "avc1.",
                "libx265" => "hvc1.1.",
                "libvpx-vp9" => "vp09.00.",
                _ => "av01.0.",
            };
            for part in [&format!("CODECS=\"{codec}"), "mp4a.40.2\"", "BANDWIDTH=", "RESOLUTION=", "FRAME-RATE=24.000"]
            {
                assert!(line.contains(part), "{}: {line} has no {part}", rendition.name);
            }
        }
        assert_eq!(streams.count(), request.renditions.len());
        assert_eq!(text_of.matches("TYPE=AUDIO").count(), 1, "{text_of}");
        // Each rendition by itself, then the master as a whole.
        for rendition in &request.renditions {
            let playlist = folder.path().join(format!("out/master_{}.m3u8", rendition.name));
            assert_eq!(decoded(&playlist, "0:v"), 84, "{}", rendition.name);
        }
        let programs = ffprobe(&["-show_entries", "program=nb_streams", "-of", "csv=p=0", text(&manifest)]);
        assert_eq!(
            programs.lines().filter(|line| line.starts_with('2')).count(),
            request.renditions.len(),
            "{programs}"
        );
        assert_eq!(decoded(&manifest, "0:v:0"), 84);
        assert!(decoded(&manifest, "0:a:0") > 100);
        assert!(names(&folder.path().join("out")).iter().all(|name| name.starts_with("master")));
    });
}

#[test]
fn a_dash_package_is_played_by_ffmpeg_and_says_what_it_holds() {
    within(180, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 84);
        let manifest = folder.path().join("out/manifest.mpd");
        let request = job(&input, ladder(&manifest));
        run(&request).unwrap();
        let text_of = std::fs::read_to_string(&manifest).unwrap();
        assert_eq!(text_of.matches("<Representation ").count(), request.renditions.len() + 1);
        // A set for each codec, and one for the sound.
        let codecs: std::collections::BTreeSet<&str> =
            request.renditions.iter().map(|rendition| rendition.encoder.adapter.codec).collect();
        assert_eq!(text_of.matches("<AdaptationSet ").count(), codecs.len() + 1, "{text_of}");
        for codec in ["codecs=\"avc1.", "codecs=\"mp4a.40.2\""] {
            assert!(text_of.contains(codec), "{text_of}");
        }
        let demuxers = String::from_utf8(ffmpeg(&["-demuxers"]).stdout).unwrap();
        if !demuxers.contains(" dash ") {
            println!("skipped: this FFmpeg reads no DASH");
            return;
        }
        let all = ffprobe(&["-show_entries", "stream=index,codec_type", "-of", "csv=p=0", text(&manifest)]);
        // Each is listed twice, once under its program.
        let videos: std::collections::BTreeSet<&str> = all.lines().filter(|line| line.contains("video")).collect();
        let videos = videos.len();
        assert_eq!(videos, request.renditions.len(), "{all}");
        for video in 0..videos {
            assert_eq!(decoded(&manifest, &format!("0:v:{video}")), 84);
        }
        assert!(decoded(&manifest, "0:a:0") > 100);
    });
}

#[test]
fn a_package_without_sound_and_with_one_rendition_works_too() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 60);
        for name in ["one.m3u8", "one.mpd"] {
            let manifest = folder.path().join(name);
            let mut only = rendition(&manifest, "libx264", "90p", Target::Quality(30.0));
            only.audio = AudioChoice::None;
            run(&job(&input, vec![only])).unwrap();
            if name == "one.m3u8" {
                assert_eq!(decoded(&manifest, "0:v"), 60);
            }
        }
    });
}

#[test]
fn segments_are_two_seconds_where_nobody_says_and_end_at_key_frames() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "30000/1001", 150);
        let manifest = folder.path().join("a.m3u8");
        let mut only = rendition(&manifest, "libx264", "90p", Target::Quality(30.0));
        only.gop = None;
        let prepared = Job::prepare(&job(&input, vec![only]), &Cancel::new()).unwrap();
        let package = &prepared.plan().packages[0];
        assert_eq!((package.gop_frames, package.by_default), (60, true));
        prepared.run(|_| {}).unwrap();
        let playlist = std::fs::read_to_string(folder.path().join("a_libx264-90p.m3u8")).unwrap();
        let lengths: Vec<&str> = playlist.lines().filter_map(|line| line.strip_prefix("#EXTINF:")).collect();
        assert_eq!(lengths, ["2.002000,", "2.002000,", "1.001000,"]);
    });
}

#[test]
fn a_stop_leaves_no_package_behind() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 600);
        for (name, wanted) in [("out/a.m3u8", 1), ("out/a.m3u8", 2), ("a.mpd", 2)] {
            let cancel = Cancel::new();
            let renditions = ladder(&folder.path().join(name)).into_iter().take(2).collect();
            let stopped = Job::prepare(&job(&input, renditions), &cancel).unwrap().run(|event| {
                if let Event::Progress { pass, frames: 30.., .. } = event
                    && pass == wanted
                {
                    cancel.stop();
                }
            });
            assert!(matches!(stopped, Err(Error::Interrupted)), "{name}");
            assert_eq!(names(folder.path()), ["in.mp4"], "{name}");
        }
    });
}

#[test]
fn an_existing_package_is_replaced_only_when_asked() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 48);
        let manifest = folder.path().join("a.m3u8");
        let mut request = job(&input, vec![rendition(&manifest, "libx264", "90p", Target::Quality(30.0))]);
        run(&request).unwrap();
        let refusal = run(&request).unwrap_err();
        assert!(matches!(refusal, Error::Plan(Refusal::Exists { .. })), "{refusal}");
        // Segments of somebody else's package are no less somebody's.
        std::fs::remove_file(&manifest).unwrap();
        let refusal = run(&request).unwrap_err();
        assert!(matches!(refusal, Error::Plan(Refusal::Exists { .. })), "{refusal}");
        assert!(!manifest.exists());
        request.renditions[0].overwrite = true;
        run(&request).unwrap();
        assert_eq!(decoded(&manifest, "0:v"), 48);
    });
}

#[test]
fn what_a_package_cannot_be_is_refused_beforehand() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 12);
        let manifest = folder.path().join("a.m3u8");
        let refused = |change: &dyn Fn(&mut Vec<RenditionRequest>)| {
            let mut renditions = ladder(&manifest);
            renditions.truncate(2);
            change(&mut renditions);
            run(&job(&input, renditions)).err().map(|error| error.to_string()).unwrap_or_default()
        };
        let gop = refused(&|renditions| renditions[1].gop = Some(GopLength::Frames(7)));
        assert!(gop.contains("key frames at different distances"), "{gop}");
        let sound = refused(&|renditions| renditions[1].audio = AudioChoice::None);
        assert!(sound.contains("differ in their sound"), "{sound}");
        let size = refused(&|renditions| renditions[1].encoder.target = Target::Size(ByteSize(1_000_000)));
        assert!(size.contains("use a bit rate"), "{size}");
        let name = refused(&|renditions| renditions[1].name = "a b".to_owned());
        assert!(name.contains("cannot name a rendition"), "{name}");
        assert_eq!(names(folder.path()), ["in.mp4"]);
    });
}
