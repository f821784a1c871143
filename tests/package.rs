//! HLS and DASH: whole or not at all, and playable by others than us.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod media;

use std::path::{Path, PathBuf};

use media::{clip, ffmpeg, ffprobe, footage, has_encoder, names, packets, text, within};
use repass::adapter;
use repass::cache::{CacheMode, CachePlan};
use repass::error::{Error, Refusal};
use repass::event::{Cancel, Event};
use repass::job::{AudioChoice, Job, JobRequest, RenditionRequest, SubtitleChoice};
use repass::plan::Request;
use repass::rate::{BitRate, ByteSize, GopLength, Seconds, Target};
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
            media::skipped("this FFmpeg reads no DASH");
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

/// As `clip`, with subtitles of text in two languages and, in Matroska, two codecs.
fn clip_with_subtitles(folder: &Path, name: &str, size: &str, frames: u32) -> PathBuf {
    let plain = clip(folder, "plain.mp4", size, "24", frames);
    let srt = folder.join("a.srt");
    let cues = "1\n00:00:00,500 --> 00:00:01,500\nfirst <i>cue</i>\n\n2\n00:00:02,000 --> 00:00:03,250\nsecond\ncue, two lines\n";
    std::fs::write(&srt, cues).unwrap();
    let path = folder.join(name);
    let codecs = if name.ends_with("mp4") { ["mov_text", "mov_text"] } else { ["copy", "ass"] };
    let streams = [
        "-map", "0:v", "-map", "0:a", "-map", "1", "-map", "1", "-c", "copy", "-c:s:0", codecs[0], "-c:s:1", codecs[1],
    ];
    let languages = ["-metadata:s:s:0", "language=eng", "-metadata:s:s:1", "language=deu"];
    ffmpeg(&[&["-i", text(&plain), "-i", text(&srt)], &streams[..], &languages[..], &[text(&path)]].concat());
    path
}

#[test]
fn subtitles_of_text_are_webvtt_beside_the_segments() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip_with_subtitles(folder.path(), "in.mkv", "320x180", 96);
        for name in ["out/a.m3u8", "out/b.mpd"] {
            let manifest = folder.path().join(name);
            let mut renditions = ladder(&manifest);
            renditions.truncate(2);
            let job = job(&input, renditions);
            let report = run(&job).unwrap();
            assert!(report.renditions.iter().all(|rendition| rendition.verified));
            let said = std::fs::read_to_string(&manifest).unwrap();
            let stem = manifest.file_stem().unwrap().to_str().unwrap();
            let srt = |arguments: &[&str]| {
                let path = folder.path().join("read.srt");
                ffmpeg(&[arguments, &[text(&path)]].concat());
                std::fs::read_to_string(path).unwrap().replace('\r', "")
            };
            // Behind two renditions and the sound.
            let files = if name.ends_with("m3u8") { ["text", "text2"] } else { ["3", "4"] };
            for (number, (file, language)) in files.into_iter().zip(["eng", "deu"]).enumerate() {
                let ours = srt(&["-i", text(&manifest.with_file_name(format!("{stem}_{file}.vtt")))]);
                assert_eq!(ours, srt(&["-i", text(&input), "-map", &format!("0:s:{number}")]), "{file}");
                assert!(ours.contains("first <i>cue</i>") && ours.contains("second\ncue, two lines"), "{ours}");
                assert!(said.contains(language), "{said}");
            }
            if name.ends_with("m3u8") {
                assert_eq!(said.matches("TYPE=SUBTITLES").count(), 2, "{said}");
                assert_eq!(said.matches(",SUBTITLES=\"text\"").count(), 2, "{said}");
                let playlist = std::fs::read_to_string(manifest.with_file_name("a_text.m3u8")).unwrap();
                let length = playlist.split("#EXTINF:").nth(1).unwrap().split(',').next().unwrap();
                assert!((length.parse::<f64>().unwrap() - 4.0).abs() < 0.01, "{playlist}");
                assert!(playlist.ends_with(",\na_text.vtt\n#EXT-X-ENDLIST\n"), "{playlist}");
                assert_eq!(decoded(&manifest, "0:v:0"), 96);
            } else {
                assert_eq!(said.matches("mimeType=\"text/vtt\"").count(), 2, "{said}");
            }
        }
    });
}

#[test]
fn subtitles_are_cut_with_the_picture_and_left_out_only_when_asked() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let with_sound = clip_with_subtitles(folder.path(), "in.mkv", "320x180", 96);
        // Sound that begins earlier would move everything.
        let input = folder.path().join("still.mkv");
        ffmpeg(&[
            "-i",
            text(&with_sound),
            "-map",
            "0",
            "-an",
            "-c",
            "copy",
            "-output_ts_offset",
            "-0.021",
            text(&input),
        ]);
        let manifest = folder.path().join("a.m3u8");
        let mut request = job(&input, vec![rendition(&manifest, "libx264", "90p", Target::Quality(30.0))]);
        request.input.start = Some(Seconds(1.0));
        request.input.length = Some(Seconds(1.5));
        run(&request).unwrap();
        let vtt = std::fs::read_to_string(folder.path().join("a_text.vtt")).unwrap();
        assert!(vtt.contains("00:00.000 --> 00:00.500\nfirst") && vtt.contains("00:01.000 --> "), "{vtt}");
        request.renditions[0].overwrite = true;
        request.renditions[0].subtitles = SubtitleChoice::None;
        request.renditions[0].output = folder.path().join("b.m3u8");
        run(&request).unwrap();
        assert!(!names(folder.path()).iter().any(|name| name.starts_with("b_text")));
    });
}

#[test]
fn subtitles_of_pictures_are_refused_with_the_remedy() {
    within(60, || {
        let Some(clips) = footage() else { return };
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("a.m3u8");
        let mut only = rendition(&manifest, "libx264", "90p", Target::Quality(30.0));
        only.audio = AudioChoice::None;
        let mut request = job(&clips.join("man_1080x720_h264_pgs.mkv"), vec![only]);
        let refusal = Job::prepare(&request, &Cancel::new()).err().unwrap();
        assert!(matches!(refusal, Error::Plan(Refusal::Container { .. })), "{refusal}");
        let words = refusal.to_string();
        assert!(words.contains("hdmv_pgs_subtitle") && words.contains("--subs none"), "{words}");
        request.renditions[0].subtitles = SubtitleChoice::None;
        assert!(Job::prepare(&request, &Cancel::new()).is_ok());
    });
}

#[test]
fn libaom_and_renditions_of_mixed_order_are_packaged_too() {
    within(200, || {
        if !has_encoder("libaom-av1") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "160x96", "24", 60);
        for name in ["a.m3u8", "b.mpd"] {
            let manifest = folder.path().join(name);
            let rate = |bps| Target::Average(BitRate(bps));
            // Renditions of one codec do not stand together, as they do in a DASH manifest.
            let mut renditions = vec![
                rendition(&manifest, "libaom-av1", "source", rate(80_000)),
                rendition(&manifest, "libx264", "source", rate(100_000)),
                rendition(&manifest, "libaom-av1", "72p", rate(40_000)),
            ];
            for aom in [0, 2] {
                renditions[aom].encoder.preset = Some("8".to_owned());
            }
            let report = run(&job(&input, renditions)).unwrap();
            assert!(report.renditions.iter().all(|rendition| rendition.verified && rendition.passes.len() == 2));
            assert!(report.renditions[2].bytes < report.renditions[0].bytes, "{report:#?}");
            let said = std::fs::read_to_string(&manifest).unwrap();
            assert_eq!(said.matches("av01.0.").count(), 2, "{said}");
            if name == "a.m3u8" {
                for (playlist, frames) in [("a_libaom-av1-source.m3u8", 60), ("a_libaom-av1-72p.m3u8", 60)] {
                    assert_eq!(decoded(&folder.path().join(playlist), "0:v"), frames);
                }
            }
        }
    });
}

#[test]
fn the_ffmpeg_lines_of_a_package_make_the_same_package() {
    within(200, || {
        let folder = tempfile::tempdir().unwrap();
        clip_with_subtitles(folder.path(), "in.mp4", "256x144", 60);
        for name in ["web/a.m3u8", "dash/b.mpd"] {
            let arguments =
                "in.mp4 -c libx264 --preset veryfast --rung source=300k --rung 72p=crf:30 --gop 1s --audio aac:96k";
            let repass = |command: &str, more: &[&str], within: &Path| {
                let output = std::process::Command::new(env!("CARGO_BIN_EXE_repass"))
                    .arg(command)
                    .args(arguments.split(' '))
                    .args(["-o", name])
                    .args(more)
                    .current_dir(within)
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                String::from_utf8(output.stdout).unwrap()
            };
            let page = repass("plan", &["--argv"], folder.path());
            let lines = page.lines().filter(|line| line.starts_with("ffmpeg ") || line.starts_with("mkdir "));
            let script = lines.map(|line| format!("{line} </dev/null\n")).collect::<String>();
            // Two passes, one pass, the package, and two of subtitles.
            assert_eq!(script.matches("ffmpeg ").count(), 6, "{page}");
            let theirs = folder.path().join("theirs");
            std::fs::create_dir_all(&theirs).unwrap();
            std::fs::copy(folder.path().join("in.mp4"), theirs.join("in.mp4")).unwrap();
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &format!("set -e\n{script}")]).env("MALLOC_PERTURB_", "255").current_dir(&theirs);
            let ended = shell.output().unwrap();
            assert!(ended.status.success(), "{page}\n{}", String::from_utf8_lossy(&ended.stderr));
            repass("encode", &["--progress", "none"], folder.path());
            let (ours, theirs) = (folder.path().join(name), theirs.join(name));
            let files = |manifest: &Path| -> Vec<String> {
                let of_package = |name: &String| {
                    let no_playlist_of_text = !name.contains("_text") || name.ends_with(".vtt");
                    !name.ends_with(".between.mp4") && no_playlist_of_text
                };
                names(manifest.parent().unwrap()).into_iter().filter(of_package).collect()
            };
            assert_eq!(files(&ours), files(&theirs), "{name}");
            for file in files(&ours) {
                let read = |manifest: &Path| std::fs::read(manifest.with_file_name(&file)).unwrap();
                if file.ends_with(".vtt") || file.ends_with("_source.m3u8") || file.ends_with("_72p.m3u8") {
                    assert_eq!(String::from_utf8(read(&ours)), String::from_utf8(read(&theirs)), "{file}");
                }
            }
            if name.ends_with("m3u8") {
                for rung in ["source", "72p"] {
                    let of = |manifest: &Path| packets(&manifest.with_file_name(format!("a_{rung}.m3u8")));
                    assert_eq!(of(&ours).lines().count(), 60, "{rung}");
                    assert_eq!(of(&ours), of(&theirs), "{rung}");
                }
            }
        }
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
