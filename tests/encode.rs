//! Jobs as a person runs them: caches, parts of files, damaged input, sizes, times, streams.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod media;

use std::path::Path;

use media::{clip, ffmpeg, ffprobe, footage, frames, has_encoder, packets, text, within};
use repass::adapter;
use repass::cache::{CacheMode, CachePlan, Packing};
use repass::error::Error;
use repass::event::{Cancel, Event};
use repass::job::{AudioChoice, Job, JobRequest, RenditionRequest};
use repass::plan::{Passes, Request};
use repass::rate::{BitRate, ByteSize, Seconds, Target};
use repass::report::Report;
use repass::source::Input;

const BITRATE: Target = Target::Average(BitRate(300_000));

fn cache(mode: CacheMode, bytes: u64) -> CachePlan {
    CachePlan { mode, budget: ByteSize(bytes), spill_dir: None }
}

fn request(encoder: &str, target: Target, input: &Path, output: &Path) -> JobRequest {
    let encoder =
        Request { preset: Some("veryfast".to_owned()), ..Request::new(adapter::named(encoder).unwrap(), target) };
    let renditions = vec![RenditionRequest::new("out", output, encoder)];
    JobRequest { renditions, cache: cache(CacheMode::Ram, 1 << 30), ..JobRequest::new(Input::file(input)) }
}

fn run(request: &JobRequest) -> Result<Report, Error> {
    repass::av::let_jobs_zero_memory();
    repass::av::log::capture();
    Job::prepare(request, &Cancel::new())?.run(|_| {})
}

#[test]
fn every_cache_gives_the_same_output() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "384x216", "24", 72);
        let mut request = request("libx264", BITRATE, &input, &folder.path().join("ram.mp4"));
        // A temporal filter, so that decoding from the middle cannot be right by accident.
        request.filters = Some("hqdn3d".to_owned());
        let report = run(&request).unwrap();
        assert_eq!((report.frames, report.cached_frames, report.runs[1].from_cache), (72, 72, 72));
        let whole = packets(&request.renditions[0].output);
        let frame = 384 * 216 * 3 / 2;
        for (name, cache, least, most) in [
            ("none", cache(CacheMode::None, 0), 0, 0),
            ("part", cache(CacheMode::Ram, frame * 40), 10, 60),
            ("disk", cache(CacheMode::Disk, frame * 40), 72, 72),
            ("raw", cache(CacheMode::Raw, frame * 20), 72, 72),
            ("lz4", cache(CacheMode::Lz4, frame * 20), 72, 72),
            ("auto", cache(CacheMode::Auto, frame * 40), 10, 72),
        ] {
            request.cache = cache;
            request.renditions[0].output = folder.path().join(format!("{name}.mp4"));
            let report = run(&request).unwrap();
            let from_cache = report.runs[1].from_cache;
            assert!((least..=most).contains(&from_cache), "{name}: {from_cache} frames from the cache");
            assert_eq!(packets(&request.renditions[0].output), whole, "{name}");
            let spill = report.spill.as_ref();
            let packing = spill.and_then(|spill| spill.packing);
            match name {
                "none" | "part" => assert_eq!(spill, None, "{name}"),
                "raw" => assert_eq!(packing, Some(Packing::Raw)),
                "lz4" => assert_eq!(packing, Some(Packing::Lz4)),
                _ => {
                    let measured = spill.unwrap().measured;
                    println!("{name}: {packing:?}, {measured:?}");
                    // Auto takes no file where the folder is memory itself.
                    assert!(measured.is_some() || name == "auto", "{name}");
                }
            }
        }
    });
}

#[test]
fn a_part_that_is_decoded_again_is_equal() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("long.mkv");
        // A second between key frames, so that a seek lands before the wanted frame.
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=384x216:r=24:d=8",
            "-c:v",
            "libx264",
            "-g",
            "24",
            "-bf",
            "2",
            text(&long),
        ]);
        let mut request = request("libx264", BITRATE, &long, &folder.path().join("all.mkv"));
        run(&request).unwrap();
        let all = packets(&request.renditions[0].output);
        request.cache = cache(CacheMode::Ram, 384 * 216 * 3 / 2 * 120);
        request.renditions[0].output = folder.path().join("part.mkv");
        let report = run(&request).unwrap();
        assert!((80..150).contains(&report.runs[1].from_cache), "{:?}", report.runs[1]);
        assert_eq!(packets(&request.renditions[0].output), all);
    });
}

#[test]
fn two_passes_differ_from_one_and_land_nearer_the_bit_rate() {
    for encoder in ["libx264", "libx265", "libvpx-vp9"] {
        if !has_encoder(encoder) {
            continue;
        }
        within(120, move || {
            let folder = tempfile::tempdir().unwrap();
            let input = clip(folder.path(), "in.mp4", "384x216", "24", 120);
            let mut request =
                request(encoder, Target::Average(BitRate(250_000)), &input, &folder.path().join("two.mkv"));
            let two = run(&request).unwrap();
            request.renditions[0].encoder.passes = Passes::One;
            request.renditions[0].output = folder.path().join("one.mkv");
            let one = run(&request).unwrap();
            assert_ne!(packets(&folder.path().join("two.mkv")), packets(&folder.path().join("one.mkv")), "{encoder}");
            let miss = |report: &Report| report.renditions[0].bitrate_error.unwrap().abs();
            assert!(miss(&two) < miss(&one), "{encoder}: two passes miss by {}, one by {}", miss(&two), miss(&one));
            assert!(two.renditions[0].passes[0].stats_bytes.unwrap() > 1000, "{encoder}");
        });
    }
}

#[test]
fn a_variable_frame_rate_keeps_its_timestamps() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("vfr.mkv");
        // Every third and seventh frame is missing.
        let filter = "select='mod(n,3)*mod(n,7)'";
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=384x216:r=30:d=4",
            "-vf",
            filter,
            "-fps_mode",
            "vfr",
            "-c:v",
            "libx264",
            text(&input),
        ]);
        // Times from the first frame on, for the output begins at zero.
        let times = |path: &Path| -> Vec<i64> {
            let entry = "frame=best_effort_timestamp_time";
            let printed = ffprobe(&["-select_streams", "v", "-show_entries", entry, "-of", "csv=p=0", text(path)]);
            let seconds = printed.lines().filter_map(|line| line.trim_end_matches(',').parse::<f64>().ok());
            let milliseconds: Vec<i64> = seconds.map(|seconds| (seconds * 1000.0).round() as i64).collect();
            milliseconds.iter().map(|time| time - milliseconds[0]).collect()
        };
        for encoder in ["libx264", "libx265", "libvpx-vp9"] {
            if !has_encoder(encoder) {
                continue;
            }
            let output = folder.path().join(format!("{encoder}.mkv"));
            run(&request(encoder, BITRATE, &input, &output)).unwrap();
            let gaps: std::collections::BTreeSet<i64> =
                times(&input).windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(gaps.len() > 2, "the source is not variable: {gaps:?}");
            // A millisecond's rounding apart, for the frames lie on a grid that milliseconds do not.
            let (ours, source) = (times(&output), times(&input));
            assert_eq!(ours.len(), source.len(), "{encoder}");
            assert!(ours.iter().zip(&source).all(|(ours, source)| (ours - source).abs() <= 1), "{encoder}: {ours:?}");
        }
    });
}

#[test]
fn a_size_target_closes_with_sound_and_container() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 720);
        for name in ["out.mp4", "out.mkv"] {
            let wanted = 1_200_000;
            let request = request("libx264", Target::Size(ByteSize(wanted)), &input, &folder.path().join(name));
            let report = run(&request).unwrap();
            let size = std::fs::metadata(&request.renditions[0].output).unwrap().len();
            assert_eq!(size, report.renditions[0].bytes);
            assert!((size as f64 / wanted as f64 - 1.0).abs() < 0.02, "{name}: {size} of {wanted}");
        }
    });
}

#[test]
fn a_part_begins_and_ends_where_it_was_asked_to() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "384x216", "24", 120);
        let mut request = request("libx264", Target::Quality(0.0), &input, &folder.path().join("part.mkv"));
        request.input.start = Some(Seconds(1.0));
        request.input.length = Some(Seconds(2.0));
        let report = run(&request).unwrap();
        assert_eq!(report.frames, 48);
        // At CRF 0 with this preset the picture is lossless: the part must be exactly those frames of the source.
        let hashes = |text: String| -> Vec<String> {
            text.lines().filter_map(|line| line.rsplit(',').next().map(str::to_owned)).collect()
        };
        assert_eq!(hashes(frames(&request.renditions[0].output)), hashes(frames(&input))[24..72]);
    });
}

#[test]
fn frames_without_times_are_cut_where_they_would_be_shown() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let made = clip(folder.path(), "in.mp4", "384x216", "25", 100);
        let input = folder.path().join("bare.264");
        ffmpeg(&["-i", text(&made), "-map", "0:v", "-c", "copy", text(&input)]);
        let hashes = |text: String| -> Vec<String> {
            text.lines().filter_map(|line| line.rsplit(',').next().map(str::to_owned)).collect()
        };
        let all = hashes(frames(&input));
        for (passes, start, length, kept) in [
            (Passes::One, Some(1.0), Some(2.0), 25..75),
            (Passes::One, Some(3.0), None, 75..100),
            (Passes::One, None, Some(0.4), 0..10),
            (Passes::Two, Some(1.0), Some(2.0), 25..75),
        ] {
            let output = folder.path().join("part.mkv");
            let target = if passes == Passes::One { Target::Quality(0.0) } else { BITRATE };
            let mut request = request("libx264", target, &input, &output);
            request.input.start = start.map(Seconds);
            request.input.length = length.map(Seconds);
            request.renditions[0].encoder.passes = passes;
            request.renditions[0].overwrite = true;
            // Decoded again for the second pass, from wherever a seek leads.
            request.cache = cache(CacheMode::Ram, 0);
            let report = run(&request).unwrap();
            assert_eq!(report.frames, kept.len() as u64, "{passes:?} {start:?} {length:?}");
            if passes == Passes::One {
                assert_eq!(hashes(frames(&output)), all[kept], "{start:?} {length:?}");
            }
        }
    });
}

#[test]
fn damaged_input_is_refused_and_kept_only_when_asked() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("whole.mkv");
        ffmpeg(&["-f", "lavfi", "-i", "testsrc2=s=384x216:r=24:d=4", "-c:v", "libx264", text(&whole)]);
        let mut bytes = std::fs::read(&whole).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 2000].fill(0x55);
        let input = folder.path().join("damaged.mkv");
        std::fs::write(&input, bytes).unwrap();
        let mut request = request("libx264", BITRATE, &input, &folder.path().join("out.mkv"));
        let error = run(&request).unwrap_err();
        assert_eq!(error.exit_code(), 4, "{error}");
        assert!(!request.renditions[0].output.exists());
        request.keep_damaged = true;
        let report = run(&request).unwrap();
        assert!(report.damage.is_some() && request.renditions[0].output.exists());
    });
}

#[test]
fn a_stop_leaves_nothing_behind() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "640x360", "24", 240);
        for wanted in [(1, 1), (1, 20), (2, 1), (2, 20)] {
            let output = folder.path().join("out.mp4");
            let cancel = Cancel::new();
            let job = Job::prepare(&request("libx264", BITRATE, &input, &output), &cancel).unwrap();
            let stopped = job.run(|event| {
                if let Event::Progress { pass, frames, .. } = event
                    && (pass, frames) >= wanted
                {
                    cancel.stop();
                }
            });
            assert!(matches!(stopped, Err(Error::Interrupted)), "{wanted:?}");
            let names: Vec<_> =
                std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["in.mp4"], "{wanted:?}");
        }
    });
}

#[test]
fn a_tone_map_leaves_the_metadata_of_the_hdr_picture_behind() {
    let Some(folder) = footage() else { return };
    within(120, move || {
        let (input, out) = (folder.join("bbb_4k60_hevc10_hdr10_2s.mp4"), tempfile::tempdir().unwrap());
        let to_sdr = "scale=320:180,zscale=t=linear:npl=100,format=gbrpf32le,tonemap=hable,zscale=t=bt709:m=bt709,\
                      format=yuv420p";
        for (filters, carried) in [("scale=320:180", true), (to_sdr, false)] {
            let mut job = request("libx264", Target::Quality(30.0), &input, &out.path().join("out.mkv"));
            job.filters = Some(filters.to_owned());
            let job = Job::prepare(&job, &Cancel::new()).unwrap();
            let planned = format!("{:?}", job.plan().renditions[0].encoder.steps[0].settings);
            assert_eq!(planned.contains("mastering-display"), carried, "{filters}: {planned}");
        }
    });
}

/// SVT-AV1's own threads die of them; below FFmpeg 9 it has no two passes at all.
#[test]
fn two_passes_of_pictures_that_kill_an_encoder_are_refused() {
    if !has_encoder("libsvtav1") {
        return;
    }
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        for (size, small) in [("96x64", true), ("200x100", true), ("128x128", false)] {
            let input = clip(folder.path(), &format!("{size}.mkv"), size, "24", 30);
            let mut job = request("libsvtav1", BITRATE, &input, &folder.path().join(format!("{size}-out.mkv")));
            job.renditions[0].encoder.passes = Passes::Two;
            match run(&job) {
                Ok(_) => assert!(!small, "{size}"),
                Err(error) => {
                    assert_eq!(error.exit_code(), 3, "{size}: {error}");
                    let why = error.to_string();
                    assert!(small && why.contains("128x128 and more") || why.contains("libavcodec"), "{size}: {why}");
                }
            }
        }
    });
}

/// Every clip of real footage, with two passes of libx264: an output or a clear reason.
#[test]
fn all_footage_is_encoded_or_refused_with_a_reason() {
    let Some(folder) = footage() else { return };
    within(900, move || {
        let out = tempfile::tempdir().unwrap();
        let mut clips: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        clips.retain(|path| path.is_file() && path.extension().is_some_and(|extension| extension != "md"));
        clips.sort();
        for clip in clips {
            let name = clip.file_name().unwrap().to_string_lossy().into_owned();
            let mut request =
                request("libx264", Target::Average(BitRate(500_000)), &clip, &out.path().join(format!("{name}.mkv")));
            request.renditions[0].encoder.preset = Some("ultrafast".to_owned());
            request.filters = Some("scale='min(320,iw)':-2".to_owned());
            request.input.length = Some(Seconds(3.0));
            if name.ends_with(".yuv") {
                request.input.format = Some("rawvideo".to_owned());
                request.input.options =
                    vec![("video_size".into(), "320x192".into()), ("framerate".into(), "12".into())];
            }
            match run(&request) {
                Ok(report) => {
                    let warnings = if report.warnings.is_empty() {
                        String::new()
                    } else {
                        format!("; {}", report.warnings.join("; "))
                    };
                    println!("| {name} | {} frames, {:.2} s{warnings} |", report.frames, report.seconds);
                }
                Err(error) => {
                    // Said by x264 of a single frame, and by libavformat of sound that the ffmpeg program cannot copy either.
                    let said = ["is too low for these pictures", "Error parsing AAC extradata"];
                    let known = said.iter().any(|words| error.to_string().contains(words));
                    assert!([3, 4].contains(&error.exit_code()) || known, "{name}: {error}");
                    println!("| {name} | exit {}: {error} |", error.exit_code());
                }
            }
        }
    });
}

#[test]
fn a_rate_that_no_quantizer_can_reach_is_an_error_that_says_which_can() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "384x216", "24", 8);
        let output = folder.path().join("out.mkv");
        let too_low = request("libx264", Target::Average(BitRate(1000)), &input, &output);
        let error = run(&too_low).unwrap_err();
        let words = error.to_string();
        let least = words.split("use -b ").nth(1).and_then(|rest| rest.split('k').next()?.parse::<u64>().ok());
        let least = BitRate(least.unwrap_or_else(|| panic!("{words}")) * 1000);
        assert_eq!((error.exit_code(), output.exists()), (3, false), "{words}");
        run(&request("libx264", Target::Average(least), &input, &output)).unwrap();
        assert_eq!(packets(&output).lines().count(), 8);
    });
}

/// The first tenth of a second as 16-bit samples.
fn first_samples(arguments: &[&str]) -> Vec<i16> {
    let raw = ["-map", "0:a:0", "-t", "0.1", "-f", "s16le", "-ac", "1", "-"];
    let bytes = ffmpeg(&[arguments, &raw[..]].concat()).stdout;
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// The greatest difference, where one begins so many samples after the other.
fn farthest(one: &[i16], other: &[i16], shift: isize) -> i32 {
    let at = |index: usize| other.get(index.checked_add_signed(shift)?);
    let pairs = one.iter().enumerate().filter_map(|(index, sample)| Some((i32::from(*sample), i32::from(*at(index)?))));
    pairs.map(|(one, other)| (one - other).abs()).max().unwrap_or(i32::MAX)
}

#[test]
fn sound_after_a_cut_is_what_was_there_from_its_first_sample_on() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain.mkv");
        // Never the same twice, so that a shift or a wrong start is heard; key frames every second, so that a seek lands on the
        // cut itself.
        let sound = "aevalsrc=0.3*sin(200*t*(1+t))+0.2*sin(1700*t*t):s=48000:d=4";
        let picture = "testsrc2=s=160x96:r=24:d=4";
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            picture,
            "-f",
            "lavfi",
            "-i",
            sound,
            "-c:v",
            "libx264",
            "-g",
            "24",
            "-c:a",
            "flac",
            text(&plain),
        ]);
        for (encoder, extension, rounding, tolerance) in [
            ("aac", "mp4", 0, 1),
            ("aac", "mkv", 48, 1),
            ("libmp3lame", "mkv", 48, 1),
            ("libopus", "mkv", 48, 24),
            ("ac3", "mp4", 0, 1),
        ] {
            let input = folder.path().join(format!("{encoder}.{extension}"));
            ffmpeg(&["-i", text(&plain), "-c:v", "copy", "-c:a", encoder, text(&input)]);
            for start in ["1", "2.5"] {
                let output = folder.path().join("cut.mkv");
                let mut request = request("libx264", Target::Quality(40.0), &input, &output);
                request.input.start = Some(start.parse().unwrap());
                request.renditions[0].audio = AudioChoice::Transcode("flac".parse().unwrap());
                request.renditions[0].overwrite = true;
                run(&request).unwrap();
                let ours = first_samples(&["-i", text(&output)]);
                // Decoded from the beginning, so that nothing is missing before the cut.
                let trim = format!("atrim=start={start},asetpts=PTS-STARTPTS");
                let whole = first_samples(&["-i", text(&input), "-af", &trim]);
                let sought = first_samples(&["-ss", start, "-i", text(&input)]);
                let best = |of: &[i16]| {
                    (-rounding..=rounding).map(|shift| (farthest(of, &whole, shift), shift)).min().unwrap()
                };
                println!(
                    "{encoder} in {extension} from {start}: {:?}, the ffmpeg program {:?}",
                    best(&ours),
                    best(&sought)
                );
                assert!(ours.len() >= 4790, "{} samples", ours.len());
                assert!(best(&ours).0 <= tolerance, "{encoder} in {extension} from {start}: {:?}", best(&ours));
            }
        }
    });
}
