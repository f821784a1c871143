//! What is damaged, and what only looks so: verdicts on real footage, and on generated files cut at many points.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;

use std::fs;
use std::path::Path;

use media::{ffmpeg, footage, text, within};
use repass::adapter;
use repass::cache::{CacheMode, CachePlan};
use repass::error::Error;
use repass::event::Cancel;
use repass::job::{AudioChoice, Job, JobRequest, RenditionRequest, SubtitleChoice};
use repass::plan::Request;
use repass::rate::{ByteSize, Target};
use repass::report::Report;
use repass::source::Input;

/// One pass: the output is finished in the run that meets the damage.
fn request(input: &Path, output: &Path) -> JobRequest {
    let encoder = Request {
        preset: Some("ultrafast".to_owned()),
        ..Request::new(adapter::named("libx264").unwrap(), Target::Quality(40.0))
    };
    let rendition = RenditionRequest {
        overwrite: true,
        subtitles: SubtitleChoice::None,
        ..RenditionRequest::new("out", output, encoder)
    };
    JobRequest {
        filters: Some("scale=64:48:flags=neighbor".to_owned()),
        renditions: vec![rendition],
        cache: CachePlan { mode: CacheMode::Ram, budget: ByteSize(1 << 28), spill_dir: None },
        ..JobRequest::new(Input::file(input))
    }
}

fn run(request: &JobRequest) -> Result<Report, Error> {
    // As the program does: what decoders log of patched pictures counts.
    repass::av::log::capture();
    Job::prepare(request, &Cancel::new())?.run(|_| {})
}

const DAMAGED: [&str; 6] = [
    "city_night_405p_mpeg2.mpg",
    "corrupted_720p.mp4",
    "empty_edit_5s.mp4",
    "flower_truncated.mp4",
    "idr_lost_qcif.264",
    "tent_484i2997_h264_bff.mkv",
];
const UNREADABLE: [&str; 4] = ["no_moov.mp4", "not_a_video.mp4", "speech_audio_only.mp4", "vvc_320x180.mp4"];

#[test]
fn every_clip_gets_its_verdict() {
    let Some(folder) = footage() else { return };
    within(500, move || {
        let out = tempfile::tempdir().unwrap();
        let output = out.path().join("out.mkv");
        let mut wrong = Vec::new();
        for entry in fs::read_dir(&folder).unwrap() {
            let clip = entry.unwrap().path();
            let name = clip.file_name().unwrap().to_string_lossy().into_owned();
            if clip.is_dir() || name.ends_with(".md") || name.ends_with(".yuv") {
                continue;
            }
            let mut request = request(&clip, &output);
            if name.starts_with("spices") {
                // Matroska does not take its AAC.
                request.renditions[0].audio = AudioChoice::None;
            }
            let result = run(&request);
            match &result {
                Ok(_) => println!("{name}: whole"),
                Err(error) => println!("{name}: {error}"),
            }
            let right = match &result {
                // A newer libavcodec decodes what is refused here.
                Ok(_) => !DAMAGED.contains(&name.as_str()),
                Err(Error::Damaged { .. }) => DAMAGED.contains(&name.as_str()),
                Err(Error::Input { .. }) => UNREADABLE.contains(&name.as_str()),
                Err(_) => false,
            };
            if !right || output.exists() != result.is_ok() {
                wrong.push(format!("{name}: {:?}", result.map(|report| report.frames)));
            }
            let _ = fs::remove_file(&output);
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

#[test]
fn damage_is_counted_when_its_output_is_kept() {
    let Some(folder) = footage() else { return };
    within(120, move || {
        let out = tempfile::tempdir().unwrap();
        for name in DAMAGED {
            let output = out.path().join("out.mkv");
            let mut request = request(&folder.join(name), &output);
            request.keep_damaged = true;
            let report = run(&request).unwrap();
            let damage = report.damage.unwrap();
            println!("{name}: {damage}; {} frames kept", report.frames);
            assert!(damage.any() && output.exists() && report.frames > 0, "{name}");
        }
    });
}

/// Every container that repass is often given, cut at many points: an output only if nothing is missing.
#[test]
fn a_file_cut_anywhere_is_noticed() {
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.mkv");
        for (name, arguments) in [
            ("in.mkv", &["-c:v", "mpeg4", "-c:a", "aac"][..]),
            ("in.mp4", &["-c:v", "mpeg4", "-c:a", "aac"]),
            ("faststart.mp4", &["-c:v", "mpeg4", "-c:a", "aac", "-movflags", "faststart"]),
            ("fragmented.mp4", &["-c:v", "mpeg4", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov", "-g", "5"]),
            ("in.avi", &["-c:v", "mpeg4", "-c:a", "mp2"]),
            ("in.webm", &["-c:v", "libvpx", "-c:a", "libopus"]),
            ("in.ogv", &["-c:v", "libtheora", "-c:a", "libvorbis"]),
            ("in.y4m", &["-an"]),
        ] {
            let whole = folder.path().join(name);
            let mut command = vec!["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1", "-f", "lavfi", "-i"];
            command.extend(["sine=d=1", "-shortest"]);
            command.extend(arguments);
            command.push(text(&whole));
            ffmpeg(&command);
            let frames = run(&request(&whole, &output)).unwrap_or_else(|error| panic!("{name}: {error}")).frames;
            let bytes = fs::read(&whole).unwrap();
            let cut = folder.path().join(format!("cut_{name}"));
            let points = (1..24).map(|part| bytes.len() * part / 24).chain([bytes.len() - 1, bytes.len() - 200]);
            // Where nothing tells that there was more: between two pictures, or two fragments of a live file.
            let borders = match name {
                "in.y4m" => places(&bytes, b"FRAME\n"),
                "fragmented.mp4" => places(&bytes, b"moof").into_iter().map(|kind| kind - 4).collect(),
                _ => Vec::new(),
            };
            let beside = borders.iter().skip(1).take(2).flat_map(|border| [*border, border + 3, border + 9]);
            // A fragment whose samples are missing altogether.
            let hollow = places(&bytes, b"mdat").into_iter().skip(1).take(usize::from(name == "fragmented.mp4"));
            for point in points.chain(beside).chain(hollow.map(|kind| kind - 4)) {
                fs::write(&cut, &bytes[..point]).unwrap();
                let _ = fs::remove_file(&output);
                match run(&request(&cut, &output)) {
                    Ok(_) if borders.contains(&point) => {}
                    Ok(report) => {
                        panic!("{name} cut at {point} of {} passed: {} of {frames}", bytes.len(), report.frames)
                    }
                    Err(error) => {
                        assert_eq!(error.exit_code(), 4, "{name} cut at {point}: {error}");
                        assert!(!output.exists(), "{name} cut at {point}: {error}");
                    }
                }
            }
        }
    });
}

/// Where these bytes are.
fn places(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    bytes.windows(wanted.len()).enumerate().filter(|(_, found)| *found == wanted).map(|(at, _)| at).collect()
}

/// Nothing but the decoder can tell, and its frame threads mark a patched picture only if they are in luck.
#[test]
fn a_picture_that_is_not_whole_is_noticed_every_time() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("in.mp4");
        let lavfi = ["-f", "lavfi", "-i", "testsrc2=s=384x216:r=24:d=2,noise=alls=20", "-c:v", "libx264"];
        ffmpeg(&[&lavfi[..], &["-bf", "3", "-g", "100", text(&whole)]].concat());
        let mut bytes = fs::read(&whole).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 200].fill(0x55);
        let damaged = folder.path().join("damaged.mp4");
        fs::write(&damaged, bytes).unwrap();
        let mut request = request(&damaged, &folder.path().join("out.mkv"));
        request.decoder_threads = Some(6);
        for round in 0..60 {
            let result = run(&request);
            assert!(matches!(result, Err(Error::Damaged { .. })), "round {round}: {result:?}");
        }
    });
}

/// Sound that is damaged is damage too, copied or not.
#[test]
fn damaged_sound_is_damage() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("in.mkv");
        let lavfi = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=2", "-f", "lavfi", "-i", "sine=d=2"];
        ffmpeg(&[&lavfi[..], &["-c:v", "mpeg4", "-c:a", "flac", text(&whole)]].concat());
        let mut bytes = fs::read(&whole).unwrap();
        // FLAC frames begin with FFF8; the damage is inside one.
        let frames: Vec<usize> =
            bytes.windows(2).enumerate().filter(|(_, pair)| *pair == [0xff, 0xf8]).map(|(at, _)| at).collect();
        let frame = frames[frames.len() / 2];
        bytes[frame + 40..frame + 60].fill(0);
        let damaged = folder.path().join("damaged.mkv");
        fs::write(&damaged, bytes).unwrap();
        let output = folder.path().join("out.mkv");
        let mut request = request(&damaged, &output);
        request.renditions[0].audio = AudioChoice::Transcode("aac:64k".parse().unwrap());
        let error = run(&request).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }) && !output.exists(), "{error}");
        request.keep_damaged = true;
        assert!(run(&request).unwrap().damage.unwrap().other_streams > 0);
    });
}
