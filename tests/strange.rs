//! Strange media: mutated files, streams that change midway, times that make no sense, very few frames, very large ones.
//!
//! The invariant of all: the program ends in time, with a documented exit code, without a panic, and says why.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use media::{Dice, footage, within};
use program::{Ended, Place, quick, software_encoders};

/// Ends as documented: no signal, no panic, no code of nobody's.
fn documented(ended: &Ended, what: &str) {
    assert!([0, 2, 3, 4, 5, 6].contains(&ended.code), "{what}: {ended}");
    assert!(!ended.stderr.contains("panicked"), "{what}: {ended}");
    let errors = ended.stderr.lines().filter(|line| !line.starts_with("repass: warning: ")).count();
    // SVT-AV1 prints by itself, whatever it is told.
    assert!(errors == 0 || ended.code != 0 || ended.stderr.contains("Svt["), "{what}: {ended}");
    assert!(errors > 0 || ended.code == 0, "{what}: {ended}");
}

// --- mutations -------------------------------------------------------------------------------------------------------

/// A copy of a file with some bits flipped, a part cut out, a part doubled, or the end missing.
fn mutated(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let length = bytes.len() as u64;
    // Half of all in the first bytes, where headers are.
    let place = |dice: &mut Dice| match dice.below(2) {
        0 => dice.below(length.min(2000)) as usize,
        _ => dice.below(length) as usize,
    };
    match dice.below(8) {
        0 => bytes.truncate(place(dice)),
        1 => {
            let from = place(dice);
            let to = (from + dice.below(3000) as usize).min(bytes.len());
            bytes.drain(from..to);
        }
        2 => {
            let from = place(dice);
            let to = (from + dice.below(3000) as usize).min(bytes.len());
            let doubled = bytes[from..to].to_vec();
            bytes.splice(to..to, doubled);
        }
        flips => {
            for _ in 0..flips * flips {
                let at = place(dice);
                bytes[at] ^= 1 << dice.below(8);
            }
        }
    }
    bytes
}

/// The first second of a clip that is too large to be mutated often, as it is coded, or its first megabyte where the ffmpeg
/// program cannot cut it.
fn beginning(place: &Place, clip: PathBuf) -> PathBuf {
    if clip.metadata().unwrap().len() < 1_000_000 {
        return clip;
    }
    let short = place.path(&clip.file_name().unwrap().to_string_lossy());
    let mut ffmpeg = std::process::Command::new("ffmpeg");
    ffmpeg.args(["-v", "quiet", "-nostdin", "-y", "-t", "1", "-i"]).arg(&clip);
    let cut = ffmpeg.args(["-map", "0:v", "-map", "0:a?", "-c", "copy"]).arg(&short).status().unwrap();
    if !cut.success() || short.metadata().unwrap().len() > 2_000_000 {
        let bytes = fs::read(&clip).unwrap();
        fs::write(&short, &bytes[..bytes.len().min(1_000_000)]).unwrap();
    }
    short
}

/// Hundreds, as many as fit into the time; the same in every run.
#[test]
fn mutated_files_end_as_documented() {
    within(280, || {
        let place = Place::empty();
        let lavfi = "-f lavfi -i testsrc2=s=96x64:r=24:d=1 -f lavfi -i sine=d=1";
        let mut files: Vec<PathBuf> = [
            ("a.mkv", "-c:v libx264 -bf 2 -c:a aac"),
            ("b.mp4", "-c:v libx264 -bf 2 -c:a aac -movflags faststart"),
            ("c.mp4", "-c:v mpeg4 -c:a aac -movflags frag_keyframe+empty_moov"),
            ("d.ts", "-c:v mpeg2video -c:a mp2"),
            ("e.avi", "-c:v mpeg4 -c:a mp2"),
            ("f.webm", "-c:v libvpx-vp9 -c:a libopus -deadline realtime"),
            ("g.ogv", "-c:v libtheora -c:a libvorbis"),
            ("h.mkv", "-c:v ffv1 -c:a flac"),
            ("i.mov", "-c:v prores -c:a pcm_s16le"),
            ("j.y4m", "-an -pix_fmt yuv420p"),
        ]
        .into_iter()
        .map(|(name, codecs)| place.make(name, &format!("{lavfi} {codecs}")))
        .collect();
        if let Some(folder) = footage() {
            let clips = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let clips =
                clips.filter(|path| path.is_file() && path.extension().is_some_and(|extension| extension != "md"));
            files.extend(clips.map(|clip| beginning(&place, clip)));
        }
        files.sort();
        let (began, mut dice, mut codes, mut runs) = (Instant::now(), Dice::new(5), [0; 7], 0);
        while runs < 6 * files.len() && began.elapsed() < Duration::from_secs(200) {
            let file = &files[runs % files.len()];
            let bytes = mutated(&fs::read(file).unwrap(), &mut dice);
            let name = format!("mutated_{}", file.file_name().unwrap().to_string_lossy());
            fs::write(place.path(&name), &bytes).unwrap();
            let passes = ["--crf 40", "-b 50k"][runs % 2];
            let keep = ["", "--keep-damaged"][runs / 2 % 2];
            let ended = place.run(&format!(
                "encode {name} -o out.mkv -y -c libx264 {passes} --preset ultrafast -t 1 --vf scale=96:64 {keep} --json --stall-timeout 60s"
            ));
            if ![0, 3, 4, 5, 6].contains(&ended.code) {
                let kept = std::env::temp_dir().join(&name);
                fs::write(&kept, &bytes).unwrap();
                println!("kept as {}", kept.display());
            }
            documented(&ended, &format!("mutation {runs} of {}", file.display()));
            assert_eq!(ended.code == 0, place.path("out.mkv").exists(), "{}: {ended}", file.display());
            if ended.code == 0 {
                let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
                let decoded = video(&place.path("out.mkv"));
                assert!(
                    decoded.trim_end_matches(',').ends_with(&format!(",{}", report["frames"])),
                    "{}: {decoded}: {ended}",
                    file.display()
                );
            }
            codes[ended.code as usize] += 1;
            let _ = fs::remove_file(place.path("out.mkv"));
            fs::remove_file(place.path(&name)).unwrap();
            runs += 1;
        }
        println!("{runs} mutations of {} files; how often each exit code: {codes:?}", files.len());
        assert!(runs >= files.len(), "this machine is too slow for one of each");
        assert!(place.names().iter().all(|name| !name.ends_with(".part")));
    });
}

// --- changes midway ----------------------------------------------------------------------------------------------------

/// Two streams joined end to end.
fn joined(place: &Place, name: &str, parts: &[&str]) {
    let mut bytes = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        bytes.extend(fs::read(place.make(&format!("part{number}.{}", extension(name)), part)).unwrap());
    }
    fs::write(place.path(name), bytes).unwrap();
}

fn extension(name: &str) -> &str {
    name.rsplit('.').next().unwrap()
}

fn video(path: &Path) -> String {
    media::ffprobe(&[
        "-select_streams",
        "v:0",
        "-count_frames",
        "-show_entries",
        "stream=width,height,pix_fmt,nb_read_frames",
        "-of",
        "csv=p=0",
        media::text(path),
    ])
    .trim()
    .to_owned()
}

#[test]
fn a_stream_that_changes_midway_keeps_its_first_shape() {
    within(120, || {
        let place = Place::empty();
        let source = |size: &str, more: &str| format!("-f lavfi -i testsrc2=s={size}:r=25:d=1{more}");
        for (name, parts) in [
            ("size.h264", [source("128x96", "") + " -c:v libx264", source("64x48", "") + " -c:v libx264"]),
            (
                "format.h264",
                [
                    source("128x96", "") + " -c:v libx264 -pix_fmt yuv420p",
                    source("128x96", "") + " -c:v libx264 -pix_fmt yuv444p",
                ],
            ),
            (
                "colour.h264",
                [
                    source("128x96", "") + " -c:v libx264 -pix_fmt yuv420p -colorspace bt709",
                    source("128x96", "") + " -c:v libx264 -pix_fmt yuv420p -colorspace smpte170m -color_range pc",
                ],
            ),
            (
                "sound.ts",
                [
                    source("128x96", "") + " -f lavfi -i sine=r=48000:d=1 -c:v libx264 -pix_fmt yuv420p -c:a mp2",
                    source("64x48", "") + " -f lavfi -i sine=r=32000:d=1 -c:v libx264 -pix_fmt yuv420p -c:a mp2 -ac 2",
                ],
            ),
        ] {
            joined(&place, name, &[&parts[0], &parts[1]]);
            for (audio, target) in [("copy", "--crf 30"), ("aac:64k", "-b 100k")] {
                let ended =
                    place.run(&format!("encode {name} -o out.mkv -y -c libx264 {target} --audio {audio} --cache none"));
                documented(&ended, name);
                if ended.code == 0 {
                    let video = video(&place.path("out.mkv"));
                    assert!(video.starts_with("128,96,yuv420p,50"), "{name}: {video}");
                } else {
                    // What cannot be joined is said, and nothing is left.
                    assert!(!place.path("out.mkv").exists() && name == "sound.ts", "{name}: {ended}");
                    println!("{name}, {audio}: {}", ended.stderr);
                }
                let _ = fs::remove_file(place.path("out.mkv"));
            }
        }
    });
}

// --- times -------------------------------------------------------------------------------------------------------------

#[test]
fn times_that_make_no_sense_lose_no_frame() {
    within(120, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=25:d=2 -c:v libx264 -bf 0 -g 10");
        for (name, setts) in [
            ("duplicate.mkv", "setts=ts=floor(N/2)*80"),
            ("gap.mkv", "setts=ts=N*40+gt(N\\,25)*3600000"),
            ("late.mkv", "setts=ts=N*40+50000000"),
            ("backwards.nut", "setts=dts=N*40:pts=if(eq(mod(N\\,7)\\,3)\\,max(N-2\\,0)*40\\,N*40)"),
            ("none.h264", "null"),
        ] {
            let made = std::process::Command::new("ffmpeg")
                .args(["-v", "quiet", "-y", "-i"])
                .arg(place.path("in.mkv"))
                .args(["-c", "copy", "-bsf:v", setts])
                .arg(place.path(name))
                .status()
                .unwrap();
            if !made.success() {
                media::skipped(&format!("this ffmpeg cannot make {name}"));
                continue;
            }
            for target in ["--crf 40", "-b 50k"] {
                let ended = place.run(&format!("encode {name} -o out.mkv -y -c libx264 {target} --preset ultrafast"));
                documented(&ended, name);
                assert_eq!(ended.code, 0, "{name}: {ended}");
                let video = video(&place.path("out.mkv"));
                assert!(video.ends_with(",50"), "{name}, {target}: {video}");
            }
        }
    });
}

#[test]
fn a_pause_behind_the_first_frame_does_not_move_decoding_times() {
    within(60, || {
        let place = Place::empty();
        place.make(
            "in.mkv",
            "-f lavfi -i testsrc2=s=96x64:r=25:d=2 -f lavfi -i sine=d=12 -vf settb=1/1000,setpts=if(gt(N\\,0)\\,PTS+10.013/TB\\,PTS) \
             -fps_mode passthrough -enc_time_base 1/1000 -c:v mpeg4 -q:v 3 -c:a aac",
        );
        for target in ["--crf 40", "-b 50k"] {
            let ended = place.run(&format!("encode in.mkv -o out.mp4 -y -c libx264 {target} --preset medium"));
            assert_eq!(ended.code, 0, "{ended}");
            let entries = ["-select_streams", "v", "-show_entries", "packet=dts_time", "-of", "csv=p=0"];
            let told = media::ffprobe(&[&entries[..], &[media::text(&place.path("out.mp4"))]].concat());
            let times: Vec<f64> = told.lines().map(|line| line.trim_end_matches(',').parse().unwrap()).collect();
            assert_eq!(times.len(), 50);
            assert!(times[0] > -0.5, "{target}: {times:?}");
            assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{target}: {times:?}");
        }
    });
}

#[test]
fn a_rate_far_above_cinema_is_told_to_the_encoder_or_said_to_be_unknown() {
    within(60, || {
        let place = Place::empty();
        place.make("fast.mp4", "-f lavfi -i testsrc2=s=320x180:r=960:d=1 -c:v libx264 -preset ultrafast");
        let encode = |input: &str| place.run(&format!("encode {input} -o out.mp4 -y -c libx264 -b 400k --json"));
        let ended = encode("fast.mp4");
        let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let bps = report["renditions"][0]["video_bps"].as_f64().unwrap();
        assert!((300e3..500e3).contains(&bps), "{bps} of 400000 b/s");
        place.make("untold.y4m", "-f lavfi -i testsrc2=s=96x64:r=48000 -frames:v 30 -pix_fmt yuv420p");
        let ended = encode("untold.y4m");
        assert!(ended.code == 0 && ended.stderr.contains("tells no frame rate"), "{ended}");
    });
}

#[test]
fn numbers_beyond_measure_are_refused_or_bounded() {
    within(60, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=25:d=1 -c:v mpeg4");
        let refused = place.run("encode in.mkv -o out.mkv -c libx264 -b 50k --stall-timeout 99999999999999999999");
        assert!(refused.code == 2 && refused.stderr.contains("expected seconds"), "{refused}");
        let planned =
            place.run("plan in.mkv -o out.mkv -c libx264 -b 50k --passes session --segment 900000000s --gop 2s");
        documented(&planned, "segments");
        assert_eq!(planned.code, 0, "{planned}");
    });
}

// --- few frames, no frames, many streams, wild sizes -----------------------------------------------------------------------

#[test]
fn very_few_frames_are_encoded_by_every_encoder() {
    within(280, || {
        let place = Place::empty();
        for frames in [1, 2, 3, 12] {
            place.make(
                &format!("{frames}.mkv"),
                &format!("-f lavfi -i testsrc2=s=192x128:r=25 -frames:v {frames} -c:v ffv1"),
            );
        }
        for encoder in software_encoders() {
            for frames in [1, 2, 3, 12] {
                for target in ["-b 1M", "--crf 35"] {
                    let ended = place
                        .run(&format!("encode {frames}.mkv -o out.mkv -y -c {encoder} {target} {}", quick(&encoder)));
                    let what = format!("{encoder}, {frames} frames, {target}");
                    documented(&ended, &what);
                    assert_eq!(ended.code, 0, "{what}: {ended}");
                    assert!(video(&place.path("out.mkv")).ends_with(&format!(",{frames}")), "{what}");
                }
            }
        }
    });
}

#[test]
fn no_frames_and_no_video_are_refused_in_words() {
    within(60, || {
        let place = Place::empty();
        place.make("sound.mka", "-f lavfi -i sine=d=1 -c:a aac");
        place.make("video.y4m", "-f lavfi -i testsrc2=s=96x64:r=25:d=1 -pix_fmt yuv420p");
        let header: Vec<u8> =
            fs::read(place.path("video.y4m")).unwrap().split_inclusive(|byte| *byte == b'\n').next().unwrap().to_vec();
        fs::write(place.path("header.y4m"), header).unwrap();
        fs::write(place.path("empty.mkv"), "").unwrap();
        for (name, words) in [("sound.mka", "no video stream"), ("header.y4m", "frame"), ("empty.mkv", "cannot open")] {
            let ended = place.run(&format!("encode {name} -o out.mkv -c libx264 --crf 30"));
            assert_eq!(ended.code, 4, "{name}: {ended}");
            assert!(ended.stderr.contains(words), "{name}: {ended}");
        }
    });
}

#[test]
fn each_of_several_videos_can_be_chosen() {
    within(60, || {
        let place = Place::empty();
        place.make(
            "in.mkv",
            "-f lavfi -i testsrc2=s=96x64:r=25:d=1 -f lavfi -i testsrc2=s=160x96:r=25:d=0.4 -map 0 -map 1 -c:v ffv1",
        );
        for (stream, expected) in [("0", "96,64,yuv420p,25"), ("1", "160,96,yuv420p,10")] {
            let ended = place.run(&format!(
                "encode in.mkv -o out.mkv -y -c libx264 -b 100k --video-stream {stream} --vf format=yuv420p"
            ));
            assert_eq!(ended.code, 0, "{ended}");
            assert_eq!(video(&place.path("out.mkv")), expected, "stream {stream}");
        }
        let ended = place.run("encode in.mkv -o out.mkv -y -c libx264 -b 100k --video-stream 2");
        assert_eq!(ended.code, 4, "{ended}");
    });
}

/// A header of a few bytes may claim any size; believing it would cost gigabytes.
#[test]
fn a_huge_size_in_a_tiny_file_costs_nothing() {
    within(60, || {
        let place = Place::empty();
        fs::write(place.path("huge.y4m"), "YUV4MPEG2 W16384 H16384 F25:1 C420jpeg\nFRAME\nnothing").unwrap();
        let png = place.make("small.png", "-f lavfi -i color=s=16x16 -frames:v 1");
        let mut bytes = fs::read(png).unwrap();
        bytes[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
        fs::write(place.path("huge.png"), bytes).unwrap();
        for name in ["huge.y4m", "huge.png"] {
            let ended = place.shell(&format!(
                "ulimit -v 2000000; exec $repass encode {name} -o out.mkv -c libx264 --crf 30 --json --keep-damaged"
            ));
            assert_eq!(ended.code, 4, "{name}: {ended}");
            let words = ["16384x16384", "no size found"];
            assert!(words.iter().any(|words| ended.stderr.contains(words)), "{name}: {ended}");
        }
    });
}

#[test]
fn the_smallest_pictures_are_encoded_or_refused_in_words() {
    within(120, || {
        let place = Place::empty();
        place.make("tiny.mkv", "-f lavfi -i testsrc2=s=2x2:r=25:d=0.4 -c:v ffv1 -pix_fmt yuv420p");
        for encoder in software_encoders() {
            for target in ["-b 10k", "--crf 35"] {
                let ended =
                    place.run(&format!("encode tiny.mkv -o out.mkv -y -c {encoder} {target} {}", quick(&encoder)));
                documented(&ended, &encoder);
                println!("{encoder}, {target}: {} {}", ended.code, ended.stderr);
                assert!([0, 3, 5].contains(&ended.code), "{encoder}: {ended}");
            }
        }
    });
}
