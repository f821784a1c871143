//! Sessions: segments that are coded apart and again, until the whole has its bit rate, and that make up one valid stream.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;

use std::path::{Path, PathBuf};

use media::{clip, ffmpeg, ffprobe, frames, has_encoder, packets, text, within};
use repass::adapter;
use repass::cache::{CacheMode, CachePlan};
use repass::error::{Error, Refusal};
use repass::event::{Cancel, Event};
use repass::job::{Job, JobRequest, RenditionRequest, Resume};
use repass::plan::{LEVEL, Passes, Request, SessionRequest};
use repass::rate::{BitRate, ByteSize, Cap, GopLength, Target};
use repass::report::{Report, SessionReport};
use repass::session::Stopped;
use repass::source::Input;

/// Encoder, its quickest useful preset, bits per second for the test clip.
const ENCODERS: [(&str, &str, u64); 5] = [
    ("libx264", "veryfast", 300_000),
    ("libx265", "ultrafast", 250_000),
    ("libvpx-vp9", "ultrafast", 250_000),
    ("libaom-av1", "ultrafast", 200_000),
    ("libsvtav1", "ultrafast", 250_000),
];

fn request(input: &Path, output: &Path, encoder: &str, preset: &str, bps: u64) -> JobRequest {
    let encoder = Request {
        passes: Passes::Session,
        preset: Some(preset.to_owned()),
        threads: Some(2),
        session: SessionRequest { segment: Some(GopLength::Frames(16)), ..SessionRequest::default() },
        ..Request::new(adapter::named(encoder).unwrap(), Target::Average(BitRate(bps)))
    };
    let renditions = vec![RenditionRequest { overwrite: true, ..RenditionRequest::new("whole", output, encoder) }];
    JobRequest { renditions, ..JobRequest::new(Input::file(input)) }
}

fn run(request: &JobRequest) -> Result<Report, Error> {
    // As the program does: x264's bits depend on memory that nobody wrote.
    repass::av::let_jobs_zero_memory();
    Job::prepare(request, &Cancel::new())?.run(|_| {})
}

fn session(report: &Report) -> &SessionReport {
    report.renditions[0].session.as_ref().unwrap()
}

/// Decoded frames without their times, a hash each.
fn pictures(path: &Path) -> Vec<String> {
    frames(path).lines().map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

/// What the ffmpeg program makes of each segment alone, with the settings of the plan and the level of the report, decoded.
fn coded_apart(input: &Path, request: &JobRequest, report: &Report, folder: &Path) -> Vec<String> {
    let plan = Job::prepare(request, &Cancel::new()).unwrap().into_plan();
    let encoder = &plan.renditions[0].encoder;
    let mut pictures_of_all = Vec::new();
    for (number, segment) in session(report).segments.iter().enumerate() {
        let part = folder.join(format!("part{number}.mkv"));
        let (from, to) = (segment.first_frame, segment.first_frame + segment.frames);
        // From FFmpeg 7.1 on, no frame rate comes out of setpts, and x265 takes it into account.
        let trim = format!("trim=start_frame={from}:end_frame={to},setpts=PTS-STARTPTS,fps=24");
        let mut arguments: Vec<String> =
            ["-i", text(input), "-vf", &trim, "-an", "-sn", "-fps_mode", "passthrough", "-c:v", encoder.encoder]
                .map(str::to_owned)
                .into();
        for (option, value) in encoder.steps[0].options(None) {
            arguments.extend([format!("-{option}:v"), value.replace(LEVEL, &segment.level.to_string())]);
        }
        arguments.push(text(&part).to_owned());
        ffmpeg(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        pictures_of_all.extend(pictures(&part));
    }
    pictures_of_all
}

#[test]
fn a_session_meets_its_rate_and_decodes_to_what_the_segments_encoders_made() {
    for (encoder, preset, bps) in ENCODERS {
        if !has_encoder(encoder) {
            continue;
        }
        within(300, move || {
            let folder = tempfile::tempdir().unwrap();
            let input = clip(folder.path(), "in.mp4", "192x144", "24", 96);
            let output = folder.path().join("out.mkv");
            let request = request(&input, &output, encoder, preset, bps);
            let report = run(&request).unwrap();
            let (rendition, session) = (&report.renditions[0], session(&report));
            let error = rendition.bitrate_error.unwrap();
            println!(
                "{encoder}: {:+.2} %, {:?}",
                error * 100.0,
                session.passes.iter().map(|pass| pass.frames).collect::<Vec<_>>()
            );
            let is_met = error.abs() <= 0.01;
            assert_eq!(session.stopped == Stopped::Satisfied, is_met, "{encoder}: {error}, {session:?}");
            // Six segments of a quarter of a second in whole steps may have no sum that is near enough.
            assert!(
                is_met || adapter::named(encoder).unwrap().quality[0].whole && error.abs() < 0.05,
                "{encoder}: {error}"
            );
            assert_eq!(session.segments.iter().map(|segment| segment.frames).sum::<u64>(), 96, "{encoder}");
            assert_eq!(session.passes[0].ranges, [(0, 96)], "{encoder}");
            assert!(rendition.verified && report.frames == 96, "{encoder}");
            let spliced = pictures(&output);
            assert_eq!(spliced.len(), 96, "{encoder}");
            assert_eq!(spliced, coded_apart(&input, &request, &report, folder.path()), "{encoder}: {session:?}");
            let sound = ffprobe(&[
                "-select_streams",
                "a",
                "-show_entries",
                "stream=codec_name",
                "-of",
                "csv=p=0",
                text(&output),
            ]);
            assert_eq!(sound.trim(), "aac", "{encoder}: other streams go along");
        });
    }
}

/// A session over footage that changes, with the cache and the threads as given.
fn as_given(folder: &Path, name: &str, cache: CachePlan, threads: u16) -> (PathBuf, Report) {
    let (input, output) = (folder.join("in.mp4"), folder.join(name));
    let mut request = request(&input, &output, "libx264", "veryfast", 300_000);
    request.cache = cache;
    request.renditions[0].encoder.threads = Some(threads);
    let report = run(&request).unwrap();
    (output, report)
}

#[test]
fn the_stream_is_the_same_whatever_is_cached_and_however_many_segments_are_in_work() {
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        clip(folder, "in.mp4", "192x144", "24", 120);
        let mode = |mode, budget| CachePlan { mode, budget: ByteSize(budget), spill_dir: None };
        let (first, report) = as_given(folder, "ram.mkv", mode(CacheMode::Ram, 1 << 30), 1);
        assert_eq!(report.cached_frames, 120);
        for (name, cache, threads) in [
            ("many.mkv", mode(CacheMode::Ram, 1 << 30), 7),
            ("part.mkv", mode(CacheMode::Ram, 3 << 20), 3),
            ("none.mkv", mode(CacheMode::None, 0), 2),
            ("disk.mkv", mode(CacheMode::Disk, 1 << 20), 4),
        ] {
            let (other, report) = as_given(folder, name, cache, threads);
            assert_eq!(packets(&other), packets(&first), "{name}");
            assert_eq!(session(&report).stopped, Stopped::Satisfied, "{name}");
            let run = &report.runs[1];
            assert_eq!(run.from_cache < run.frames, matches!(name, "part.mkv" | "none.mkv"), "{name}: {run:?}");
        }
    });
}

#[test]
fn later_passes_are_over_the_ranges_that_the_report_names() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        clip(folder.path(), "in.mp4", "192x144", "24", 120);
        let (_, report) = as_given(folder.path(), "out.mkv", CachePlan::default(), 2);
        let session = session(&report);
        let rendition = &report.renditions[0];
        assert_eq!(session.passes.len(), rendition.passes.len());
        for pass in &session.passes {
            assert_eq!(pass.ranges.iter().map(|(from, to)| to - from).sum::<u64>(), pass.frames);
        }
        assert!(session.passes[1..].iter().any(|pass| pass.frames < 120), "every pass was whole: {session:?}");
        assert_eq!(session.segments.iter().map(|segment| segment.bytes).sum::<u64>(), rendition.video_bytes);
        assert_eq!(rendition.passes.last().unwrap().bytes, rendition.video_bytes);
    });
}

#[test]
fn variable_times_come_through_and_decoding_times_rise() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("vfr.mkv");
        // 40 ms frames, then 100 ms ones: what a segment's own encoder says of decoding times runs into the segment before.
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=192x144:r=25:d=4,noise=alls=20:allf=t:all_seed=3",
            "-vf",
            "settb=1/1000,setpts='if(lt(N,50),N*40,2000+(N-50)*100)'",
            "-fps_mode",
            "passthrough",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-crf",
            "10",
            text(&input),
        ]);
        for name in ["out.mkv", "out.mp4"] {
            let output = folder.path().join(name);
            let report = run(&request(&input, &output, "libx264", "medium", 400_000)).unwrap();
            assert_eq!(report.frames, 100, "{name}");
            let times = |path: &Path, entry: &str| -> Vec<f64> {
                let entries = format!("packet={entry}");
                let text = ffprobe(&["-select_streams", "v", "-show_entries", &entries, "-of", "csv=p=0", text(path)]);
                text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect()
            };
            let sorted = |mut times: Vec<f64>| {
                times.sort_by(f64::total_cmp);
                times
            };
            let (is, was) = (sorted(times(&output, "pts_time")), sorted(times(&input, "pts_time")));
            assert_eq!(is.len(), 100, "{name}");
            let shift = is[0] - was[0];
            assert!(is.iter().zip(&was).all(|(is, was)| (is - was - shift).abs() < 0.0011), "{name}: {is:?}");
            if name == "out.mp4" {
                let decoded = times(&output, "dts_time");
                assert!(decoded.windows(2).all(|pair| pair[0] < pair[1]), "{decoded:?}");
            }
            assert_eq!(pictures(&output).len(), 100, "{name}");
        }
    });
}

#[test]
fn a_segment_begins_with_a_scene_that_begins_near() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.mkv");
        let scenes = "testsrc2=s=192x144:r=24,negate=enable='gte(n,29)',noise=alls=10:allf=t:all_seed=3";
        ffmpeg(&["-f", "lavfi", "-i", scenes, "-frames:v", "64", "-c:v", "libx264", "-crf", "10", text(&input)]);
        let report = run(&request(&input, &folder.path().join("out.mkv"), "libx264", "veryfast", 300_000)).unwrap();
        let starts: Vec<u64> = session(&report).segments.iter().map(|segment| segment.first_frame).collect();
        assert_eq!(starts, [0, 16, 29, 48]);
    });
}

#[test]
fn a_segment_begins_with_a_key_frame_of_the_source_where_one_is_near() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.mkv");
        let source =
            ["-f", "lavfi", "-i", "testsrc2=s=192x144:r=24,noise=alls=10:allf=t:all_seed=3", "-frames:v", "80"];
        let coded = ["-c:v", "libx264", "-crf", "10", "-sc_threshold", "0", "-forced-idr", "1"];
        let keys = ["-force_key_frames", "expr:eq(n,18)+eq(n,30)+eq(n,55)"];
        ffmpeg(&[&source[..], &coded, &keys, &[text(&input)]].concat());
        let report = run(&request(&input, &folder.path().join("out.mkv"), "libx264", "veryfast", 300_000)).unwrap();
        let starts: Vec<u64> = session(&report).segments.iter().map(|segment| segment.first_frame).collect();
        // 55 is too far from 48 and from 64.
        assert_eq!(starts, [0, 18, 30, 48, 64]);
    });
}

#[test]
fn segments_of_no_asked_length_are_uneven_and_two_are_coded_before_their_turn() {
    for (encoder, preset, bps) in [ENCODERS[0], ENCODERS[4]] {
        if !has_encoder(encoder) {
            continue;
        }
        within(300, move || {
            let folder = tempfile::tempdir().unwrap();
            let input = clip(folder.path(), "in.mp4", "192x144", "24", 240);
            let output = folder.path().join("out.mkv");
            let mut request = request(&input, &output, encoder, preset, bps);
            request.renditions[0].encoder.session = SessionRequest::default();
            let mut frames = Vec::new();
            let progress = |event| {
                if let Event::Progress { pass: 1, frames: done, total, .. } = event {
                    frames.push((done, total));
                }
            };
            repass::av::let_jobs_zero_memory();
            let report = Job::prepare(&request, &Cancel::new()).unwrap().run(progress).unwrap();
            let session = session(&report);
            let lengths: Vec<u64> = session.segments.iter().map(|segment| segment.frames).collect();
            assert_eq!(lengths, [64, 32, 64, 32, 32, 16], "{encoder}");
            assert!(report.renditions[0].bitrate_error.unwrap().abs() <= 0.01, "{encoder}: {session:?}");
            assert_eq!(report.renditions[0].passes[0].frames, 240, "{encoder}: each is counted once");
            assert!(frames.iter().all(|(done, total)| *done <= 240 && *total == Some(240)), "{encoder}: {frames:?}");
            assert!(
                pictures(&output) == coded_apart(&input, &request, &report, folder.path()),
                "{encoder}: {session:?}"
            );
        });
    }
}

#[test]
fn a_limit_that_is_too_low_is_told_as_such() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "192x144", "24", 96);
        let mut request = request(&input, &folder.path().join("out.mkv"), "libx264", "veryfast", 300_000);
        request.renditions[0].encoder.session.most_passes = std::num::NonZeroU8::MIN;
        let report = run(&request).unwrap();
        assert_eq!((session(&report).stopped, session(&report).passes.len()), (Stopped::PassLimit, 1));
        // Levels of the encoder that reach nothing of the kind.
        request.renditions[0].encoder.session =
            SessionRequest { segment: Some(GopLength::Frames(32)), ..SessionRequest::default() };
        request.renditions[0].encoder.target = Target::Average(BitRate(1_000));
        let report = run(&request).unwrap();
        assert_eq!(session(&report).stopped, Stopped::Exhausted);
        assert!(report.warnings.iter().any(|warning| warning.contains("not met")), "{:?}", report.warnings);
    });
}

type Change<'c> = &'c dyn Fn(&mut RenditionRequest);

#[test]
fn what_a_session_cannot_do_is_refused_before_anything_runs() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "64x64", "24", 24);
        let refused = |change: Change<'_>| {
            let mut request = request(&input, &folder.path().join("out.mkv"), "libx264", "veryfast", 300_000);
            change(&mut request.renditions[0]);
            match Job::prepare(&request, &Cancel::new()).map(|_| ()) {
                Err(Error::Plan(refusal)) => refusal,
                other => panic!("{other:?}"),
            }
        };
        let option = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let cases: [(Change<'_>, &str); 8] = [
            (&|r| r.encoder.target = Target::Quality(20.0), "nothing to correct"),
            (&|r| r.encoder.target = Target::Size(ByteSize(1 << 20)), "use -b"),
            (
                &|r| r.encoder.cap = Some(Cap { max: BitRate(400_000), buffer: BitRate(400_000) }),
                "--maxrate would not hold",
            ),
            (&|r| r.encoder.options = option("nal-hrd", "vbr"), "would not join"),
            (&|r| r.encoder.options = option("x264-params", "open-gop=1"), "would not join"),
            (&|r| r.encoder.options = option("flags", "-cgop"), "would not join"),
            (&|r| r.output = folder.path().join("out.m3u8"), "package"),
            (&|r| r.encoder.first_pass = repass::plan::FirstPassChoice::Own, "no statistics"),
        ];
        for (change, words) in cases {
            let refusal = refused(change).to_string();
            assert!(refusal.contains(words), "{words}: {refusal}");
        }
        let other = refused(&|r| r.encoder.adapter = adapter::named("hevc_nvenc").unwrap());
        assert!(matches!(other, Refusal::NoSession { .. } | Refusal::NoEncoder { .. }), "{other}");
    });
}

/// Stops a session when so many of its passes' progress was heard of, and leaves what it had coded.
fn interrupted(request: &JobRequest, after: usize) {
    let cancel = Cancel::new();
    let mut heard = 0;
    let ended = Job::prepare(request, &cancel).unwrap().run(|event| {
        heard += usize::from(matches!(event, Event::PassDone { pass: 1, .. }));
        heard += usize::from(matches!(event, Event::Progress { frames: 60.., .. }));
        if heard >= after {
            cancel.stop();
        }
    });
    assert!(matches!(ended, Err(Error::Interrupted)), "{:?}", ended.map(|_| ()));
}

#[test]
fn an_interrupted_session_goes_on_from_the_segments_that_it_had_coded() {
    for (encoder, preset, bps) in ENCODERS {
        if !has_encoder(encoder) {
            continue;
        }
        within(300, move || {
            let folder = tempfile::tempdir().unwrap();
            let input = clip(folder.path(), "in.mp4", "192x144", "24", 96);
            let (whole, again) = (folder.path().join("whole.mp4"), folder.path().join("again.mp4"));
            run(&request(&input, &whole, encoder, preset, bps)).unwrap();
            let journal = folder.path().join(".again.mp4.repass-segments");
            let mut asked = JobRequest { resume: Resume::TakeUp, ..request(&input, &again, encoder, preset, bps) };
            interrupted(&asked, 1);
            assert!(journal.exists() && !again.exists(), "{encoder}");
            // Another number of segments in work changes nothing.
            asked.renditions[0].encoder.threads = Some(1);
            let report = run(&asked).unwrap();
            let taken_up = session(&report).taken_up;
            assert!(taken_up > 0 && report.warnings.is_empty(), "{encoder}: {taken_up}, {:?}", report.warnings);
            assert_eq!(packets(&again), packets(&whole), "{encoder}");
            assert_eq!(std::fs::read(&again).unwrap().len(), std::fs::read(&whole).unwrap().len(), "{encoder}");
            assert!(!journal.exists(), "{encoder}");
        });
    }
}

#[test]
fn segments_of_another_session_are_told_and_coded_again() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "192x144", "24", 96);
        let output = folder.path().join("out.mkv");
        let journal = folder.path().join(".out.mkv.repass-segments");
        let with = |bps| JobRequest { resume: Resume::TakeUp, ..request(&input, &output, "libx264", "veryfast", bps) };
        interrupted(&with(300_000), 1);
        let report = run(&with(200_000)).unwrap();
        assert_eq!(session(&report).taken_up, 0);
        assert!(report.warnings.iter().any(|warning| warning.contains("of another session")), "{:?}", report.warnings);
        // Who does not ask for it gets nothing from before, and a stop leaves nothing.
        let never = |resume| JobRequest { resume, ..request(&input, &output, "libx264", "veryfast", 300_000) };
        interrupted(&with(300_000), 1);
        assert_eq!(session(&run(&never(Resume::Keep)).unwrap()).taken_up, 0);
        assert!(!journal.exists());
        interrupted(&never(Resume::Keep), 1);
        assert!(!journal.exists());
        interrupted(&never(Resume::Never), 1);
        assert!(!journal.exists());
    });
}

#[test]
fn a_session_beside_two_passes_makes_both() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "192x144", "24", 96);
        let mut request = request(&input, &folder.path().join("session.mkv"), "libx264", "veryfast", 300_000);
        let encoder = Request::new(adapter::named("libx264").unwrap(), Target::Average(BitRate(300_000)));
        request.renditions.push(RenditionRequest::new("two", folder.path().join("two.mkv"), encoder));
        let report = run(&request).unwrap();
        assert_eq!(report.runs.len(), 3);
        assert!(report.renditions.iter().all(|rendition| rendition.verified));
        assert!(report.renditions[1].session.is_none() && report.renditions[1].passes.len() == 2);
    });
}

#[test]
fn a_session_can_be_stopped_anywhere() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "192x144", "24", 96);
        let output = folder.path().join("out.mkv");
        let request = request(&input, &output, "libx264", "veryfast", 300_000);
        let events = {
            let mut count = 0;
            Job::prepare(&request, &Cancel::new()).unwrap().run(|_| count += 1).unwrap();
            std::fs::remove_file(&output).unwrap();
            count
        };
        for stop_at in (1..events).step_by(2) {
            let cancel = Cancel::new();
            let mut heard = 0;
            let ended = Job::prepare(&request, &cancel).unwrap().run(|event: Event| {
                heard += 1;
                if heard == stop_at {
                    cancel.stop();
                }
                drop(event);
            });
            // An event may come when everything is done.
            assert!(matches!(ended, Err(Error::Interrupted) | Ok(_)), "{:?}", ended.map(|_| ()));
            if ended.is_err() {
                assert!(!output.exists());
            }
            let _ = std::fs::remove_file(&output);
        }
    });
}
