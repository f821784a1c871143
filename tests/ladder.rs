//! Many renditions from one decode: sizes, branches, mixed passes, memory, key frames at the same times, the same bits as
//! alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod media;

use std::path::{Path, PathBuf};

use media::{clip, ffmpeg, ffprobe, has_encoder, names, packets, text, within};
use repass::adapter;
use repass::cache::{CacheMode, CachePlan};
use repass::error::{Error, Refusal};
use repass::event::{Cancel, Event};
use repass::job::{Job, JobRequest, RenditionRequest, Size};
use repass::plan::{Passes, Request};
use repass::rate::{BitRate, ByteSize, GopLength, Target};
use repass::report::Report;
use repass::source::Input;

/// A rendition of an encoder at its quickest, named by its size.
fn rung(folder: &Path, encoder: &str, size: &str, target: Target) -> RenditionRequest {
    let request = Request {
        preset: Some(if encoder == "libsvtav1" { "12" } else { "ultrafast" }.to_owned()),
        ..Request::new(adapter::named(encoder).unwrap(), target)
    };
    let name = format!("{encoder}-{size}");
    let output = folder.join(format!("{name}.mkv"));
    RenditionRequest { size: size.parse().unwrap(), ..RenditionRequest::new(name, output, request) }
}

fn job(input: &Path, renditions: Vec<RenditionRequest>) -> JobRequest {
    let cache = CachePlan { mode: CacheMode::Ram, budget: ByteSize(1 << 30), spill_dir: None };
    JobRequest { renditions, cache, ..JobRequest::new(Input::file(input)) }
}

fn run(request: &JobRequest) -> Result<Report, Error> {
    Job::prepare(request, &Cancel::new())?.run(|_| {})
}

fn rate(bps: u64) -> Target {
    Target::Average(BitRate(bps))
}

fn three_rungs(folder: &Path) -> Vec<RenditionRequest> {
    vec![
        rung(folder, "libx264", "source", rate(400_000)),
        rung(folder, "libx264", "120p", rate(200_000)),
        rung(folder, "libx264", "w120", rate(100_000)),
    ]
}

fn size_of(path: &Path) -> String {
    let shown = "stream=width,height,sample_aspect_ratio";
    // Some releases put a comma behind the last value of a stream with side data.
    let shown = ffprobe(&["-select_streams", "v", "-show_entries", shown, "-of", "csv=p=0", text(path)]);
    shown.trim().trim_end_matches(',').to_owned()
}

/// Times of the key frames in seconds, a line each.
fn key_frames(path: &Path) -> Vec<String> {
    let shown = "packet=pts_time,flags";
    let all = ffprobe(&["-select_streams", "v", "-show_entries", shown, "-of", "csv=p=0", text(path)]);
    let keys = all.lines().filter(|line| line.contains('K'));
    keys.map(|line| line.split(',').next().unwrap().to_owned()).collect()
}

#[test]
fn every_rendition_has_the_bits_of_a_lone_encode() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 72);
        let mut rungs = three_rungs(folder.path());
        rungs[1].filters = Some("hqdn3d".to_owned());
        let alone: Vec<String> = rungs
            .iter()
            .map(|rung| {
                run(&job(&input, vec![rung.clone()])).unwrap();
                packets(&rung.output)
            })
            .collect();
        // All kept, a part kept, nothing kept.
        let all_frames = (320 * 180 + 214 * 120 + 120 * 68) * 3 / 2;
        for (budget, least, most) in [(1 << 30, 72, 72), (all_frames * 40, 10, 40), (0, 0, 0)] {
            rungs.iter_mut().for_each(|rung| rung.overwrite = true);
            let mut request = job(&input, rungs.clone());
            request.cache.budget = ByteSize(budget);
            let report = run(&request).unwrap();
            assert!((least..=most).contains(&report.runs[1].from_cache), "{:?}", report.runs[1]);
            for (rung, alone) in rungs.iter().zip(&alone) {
                assert_eq!(packets(&rung.output), *alone, "{} with a cache of {budget}", rung.name);
            }
        }
    });
}

#[test]
fn a_size_with_an_odd_side_is_refused_and_one_that_the_source_has_is_kept() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.mkv");
        let source = "color=s=642x362:r=24:d=0.5,format=yuv444p,crop=641:361,format=yuv420p";
        ffmpeg(&["-f", "lavfi", "-i", source, "-c:v", "ffv1", text(&input)]);
        let sized = |size: Size| {
            let rung = RenditionRequest { size, ..rung(folder.path(), "libx264", "source", Target::Quality(30.0)) };
            Job::prepare(&job(&input, vec![rung]), &Cancel::new()).map(Job::into_plan)
        };
        for size in [Size::Height(241), Size::Exact(321, 180), Size::Exact(320, 0)] {
            let refused = sized(size).err().unwrap();
            assert!(matches!(refused, Error::Usage { what: "size", .. }), "{size}: {refused}");
        }
        for size in [Size::Height(361), Size::Width(641), Size::Exact(641, 361)] {
            let plan = sized(size).unwrap();
            assert_eq!((plan.graph.branches[0].size, plan.pictures[0].width), (None, 640), "{size}");
        }
    });
}

#[test]
fn sizes_keep_the_picture_and_are_even() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.mkv");
        let graph = "testsrc2=s=320x182:r=24:d=0.5,setsar=4/3";
        ffmpeg(&["-f", "lavfi", "-i", graph, "-c:v", "libx264", text(&input)]);
        let mut rungs: Vec<RenditionRequest> = ["source", "120p", "w160", "100x100"]
            .iter()
            .map(|size| rung(folder.path(), "libx264", size, Target::Quality(30.0)))
            .collect();
        let report = run(&job(&input, rungs.clone())).unwrap();
        assert_eq!(report.renditions.len(), 4);
        let sizes: Vec<String> = rungs.iter().map(|rung| size_of(&rung.output)).collect();
        // With both sides given, pixels take the shape that keeps the picture's.
        assert_eq!(sizes, ["320,182,4:3", "210,120,4:3", "160,92,4:3", "100,100,640:273"]);
        // The size is that of the picture behind the common filters.
        rungs.truncate(2);
        rungs.iter_mut().for_each(|rung| rung.overwrite = true);
        let request = JobRequest { filters: Some("crop=200:150".to_owned()), ..job(&input, rungs) };
        run(&request).unwrap();
        assert_eq!(size_of(&request.renditions[1].output), "160,120,4:3");
    });
}

#[test]
fn rungs_above_the_source_are_left_out_with_a_warning_and_all_of_them_are_refused() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 12);
        let rungs = |sizes: &[&str]| {
            sizes.iter().map(|size| rung(folder.path(), "libx264", size, Target::Quality(30.0))).collect::<Vec<_>>()
        };
        let mut request = job(&input, rungs(&["240p", "90p"]));
        let report = run(&request).unwrap();
        assert_eq!(report.renditions.len(), 1);
        assert!(report.warnings.iter().any(|warning| warning.contains("240p is larger than the source (320x180)")));
        request.renditions = rungs(&["240p", "w400"]);
        let refusal = Job::prepare(&request, &Cancel::new()).err().unwrap();
        assert!(matches!(refusal, Error::Plan(Refusal::Ladder { .. })), "{refusal}");
        request.enlarge = true;
        run(&request).unwrap();
        assert_eq!(size_of(&request.renditions[0].output), "426,240,1:1");
    });
}

#[test]
fn renditions_of_one_size_and_format_share_a_branch() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 12);
        // x264 offers formats that SVT-AV1 has not; what counts is what both come to.
        let mut renditions = vec![
            rung(folder.path(), "libx264", "90p", rate(100_000)),
            rung(folder.path(), "libx264", "source", rate(100_000)),
        ];
        if has_encoder("libsvtav1") {
            renditions.push(rung(folder.path(), "libsvtav1", "90p", Target::Quality(40.0)));
        }
        if has_encoder("libvpx-vp9") {
            renditions.push(rung(folder.path(), "libvpx-vp9", "160x90", Target::Quality(40.0)));
        }
        let request = job(&input, renditions);
        let prepared = Job::prepare(&request, &Cancel::new()).unwrap();
        let branches: Vec<usize> = prepared.plan().renditions.iter().map(|rendition| rendition.branch).collect();
        let others = request.renditions.len() - 2;
        assert_eq!(branches, [vec![0, 1], vec![0; others]].concat()[..], "{:?}", prepared.plan().graph);
    });
}

#[test]
fn one_and_two_passes_and_several_encoders_mix_and_one_pass_ends_in_the_first_run() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 48);
        let mut renditions = vec![
            rung(folder.path(), "libx264", "source", rate(300_000)),
            rung(folder.path(), "libx264", "90p", Target::Quality(30.0)),
        ];
        if has_encoder("libsvtav1") {
            renditions.push(rung(folder.path(), "libsvtav1", "120p", Target::Quality(50.0)));
        }
        let request = job(&input, renditions);
        let prepared = Job::prepare(&request, &Cancel::new()).unwrap();
        assert_eq!(prepared.plan().runs, 2);
        let outputs: Vec<PathBuf> = request.renditions.iter().map(|rendition| rendition.output.clone()).collect();
        let mut seen_in_run_2 = None;
        let report = prepared
            .run(|event| {
                if let Event::Run { run: 2, .. } = event {
                    seen_in_run_2 = Some(outputs.iter().map(|path| path.exists()).collect::<Vec<bool>>());
                }
            })
            .unwrap();
        let seen = seen_in_run_2.unwrap();
        assert!(!seen[0] && seen[1..].iter().all(|seen| *seen), "{seen:?}");
        let passes: Vec<usize> = report.renditions.iter().map(|rendition| rendition.passes.len()).collect();
        assert_eq!(passes[..2], [2, 1]);
        assert!(report.renditions.iter().all(|rendition| rendition.verified && rendition.bytes > 0));
        // Run 2 encodes one rendition only, so only its frames were kept.
        assert_eq!(report.runs[1].from_cache, 48);
    });
}

#[test]
fn what_was_finished_before_another_failed_stays_and_nothing_else_appears() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 48);
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let request = job(
            &input,
            vec![
                rung(&out, "libx264", "90p", Target::Quality(30.0)),
                rung(&out, "libx264", "120p", rate(200_000)),
                rung(&out, "libx264", "source", rate(300_000)),
            ],
        );
        let cancel = Cancel::new();
        let stopped = Job::prepare(&request, &cancel).unwrap().run(|event| {
            if let Event::Progress { pass: 2, .. } = event {
                cancel.stop();
            }
        });
        assert!(matches!(stopped, Err(Error::Interrupted)));
        assert_eq!(names(&out), ["libx264-90p.mkv"]);
    });
}

#[test]
fn an_encoder_that_does_not_open_fails_the_job_and_no_output_of_its_run_appears() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 48);
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let mut bad = rung(&out, "libx264", "source", Target::Quality(20.0));
        // x264 has no such profile for this picture; only opening it tells.
        bad.encoder.options = vec![
            ("x264-params".to_owned(), "slices=1:level=0.1".to_owned()),
            ("profile".to_owned(), "none".to_owned()),
        ];
        let request = job(&input, vec![rung(&out, "libx264", "90p", Target::Quality(30.0)), bad]);
        let error = run(&request).unwrap_err();
        assert!(matches!(error, Error::Open { .. } | Error::Option { .. } | Error::Encode { .. }), "{error}");
        assert_eq!(names(&out), Vec::<String>::new());
    });
}

#[test]
fn the_cache_and_the_frames_in_flight_of_all_renditions_share_one_budget() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 96);
        // Two lanes on one branch cost its frames once.
        let mut renditions = three_rungs(folder.path());
        let twin = rung(folder.path(), "libx264", "source", rate(100_000));
        renditions.push(RenditionRequest { name: "twin".into(), output: folder.path().join("twin.mkv"), ..twin });
        let mut request = job(&input, renditions);
        let index_bytes = Job::prepare(&request, &Cancel::new()).unwrap().plan().frame_bytes().unwrap() / 96;
        let budget = index_bytes * 40;
        request.cache.budget = ByteSize(budget);
        let mut most = 0;
        let report = Job::prepare(&request, &Cancel::new())
            .unwrap()
            .run(|event| {
                if let Event::Cache { bytes, .. } = event {
                    most = most.max(bytes);
                }
            })
            .unwrap();
        // Nine of the forty may be in flight, whatever the number of lanes; frames are padded, so fewer than 31 fit.
        assert!((20..=31).contains(&report.cached_frames), "{}", report.cached_frames);
        assert!(most + 9 * index_bytes <= budget, "{most} of {budget}");
    });
}

#[test]
fn key_frames_are_at_the_same_times_in_every_encoder_and_size() {
    within(240, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "384x288", "24", 84);
        for encoder in ["libx264", "libx265", "libvpx-vp9", "libsvtav1", "libaom-av1"] {
            if !has_encoder(encoder) {
                continue;
            }
            let out = folder.path().join(encoder);
            std::fs::create_dir(&out).unwrap();
            let mut renditions =
                vec![rung(&out, encoder, "source", rate(200_000)), rung(&out, encoder, "144p", rate(60_000))];
            for rendition in &mut renditions {
                rendition.gop = Some(GopLength::Seconds(1.0));
                if encoder == "libaom-av1" {
                    rendition.encoder.preset = Some("8".to_owned());
                }
            }
            let request = job(&input, renditions);
            run(&request).unwrap();
            for rendition in &request.renditions {
                let times: Vec<f64> = key_frames(&rendition.output).iter().map(|time| time.parse().unwrap()).collect();
                let wanted = [0.0, 1.0, 2.0, 3.0];
                // Sound that begins before the picture shifts all times of a file.
                let near = |(is, wanted): (&f64, f64)| (is - times[0] - wanted).abs() < 0.002;
                let near = times.len() == 4 && times.iter().zip(wanted).all(near);
                assert!(near, "{}: {times:?}", rendition.name);
            }
        }
    });
}

#[test]
fn outputs_that_would_meet_are_refused() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 12);
        let one = rung(folder.path(), "libx264", "90p", Target::Quality(30.0));
        let mut other = rung(folder.path(), "libx264", "120p", Target::Quality(30.0));
        other.output = one.output.clone();
        let refusal = Job::prepare(&job(&input, vec![one.clone(), other]), &Cancel::new()).err().unwrap();
        assert!(refusal.to_string().contains("would both be written there"), "{refusal}");
        // The same folder by another spelling, and by a link.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        for other_folder in [folder.path().join("."), link] {
            let mut other = rung(folder.path(), "libx264", "120p", Target::Quality(30.0));
            other.output = other_folder.join(one.output.file_name().unwrap());
            let refusal = Job::prepare(&job(&input, vec![one.clone(), other]), &Cancel::new()).err();
            let words = refusal.map(|refusal| refusal.to_string()).unwrap_or_default();
            assert!(words.contains("would both be written there"), "{}: {words}", other_folder.display());
        }
        let refusal = Job::prepare(&job(&input, vec![one.clone(), one]), &Cancel::new()).err().unwrap();
        assert!(refusal.to_string().contains("two renditions are named"), "{refusal}");
    });
}

#[test]
fn filters_of_one_rendition_that_change_its_frames_are_refused() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 48);
        let mut rungs = three_rungs(folder.path());
        rungs[1].filters = Some("fps=12".to_owned());
        let refusal = Job::prepare(&job(&input, rungs.clone()), &Cancel::new()).err().unwrap();
        assert!(matches!(refusal, Error::Plan(Refusal::RenditionFilters { .. })), "{refusal}");
        // What no graph tells beforehand is met while running.
        rungs[1].filters = Some("select='mod(n,2)'".to_owned());
        let error = run(&job(&input, rungs)).unwrap_err();
        assert!(error.to_string().contains("do not give the same frames"), "{error}");
        assert_eq!(names(folder.path()), ["in.mp4"]);
    });
}

#[test]
fn one_pass_of_a_damaged_file_is_not_kept_either() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.mkv");
        ffmpeg(&["-f", "lavfi", "-i", "testsrc2=s=320x180:r=24:d=4", "-c:v", "libx264", text(&input)]);
        let mut bytes = std::fs::read(&input).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 2000].fill(0x55);
        std::fs::write(&input, bytes).unwrap();
        let mut rendition = rung(folder.path(), "libx264", "90p", Target::Quality(30.0));
        rendition.encoder.passes = Passes::One;
        let error = run(&job(&input, vec![rendition])).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert_eq!(names(folder.path()), ["in.mkv"]);
    });
}

#[test]
fn sizes_of_a_rotated_picture_are_those_of_the_upright_one() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let flat = clip(folder.path(), "flat.mp4", "320x180", "24", 12);
        let input = folder.path().join("in.mp4");
        // How a rotation is asked for has changed with FFmpeg 6.0.
        let turned = |arguments: &[&str]| std::process::Command::new("ffmpeg").args(arguments).output().unwrap();
        let path = (text(&flat), text(&input));
        let new = ["-v", "error", "-y", "-display_rotation:v:0", "90", "-i", path.0, "-c", "copy", path.1];
        if !turned(&new).status.success() {
            turned(&["-v", "error", "-y", "-i", path.0, "-c", "copy", "-metadata:s:v", "rotate=90", path.1]);
        }
        let request = job(&input, vec![rung(folder.path(), "libx264", "160p", Target::Quality(30.0))]);
        assert_eq!(request.renditions[0].size, Size::Height(160));
        run(&request).unwrap();
        assert_eq!(size_of(&request.renditions[0].output), "90,160,1:1");
    });
}

/// Peak of resident memory of the program over a job file, in bytes, and its report.
fn peak_of(folder: &Path, cache: &[&str]) -> (u64, serde_json::Value) {
    let arguments = ["encode", "in.mp4", "--job", "ladder.toml", "--json", "--progress", "none", "-y"];
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_repass"));
    let output = command.args(arguments).args(cache).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    (report["peak_memory_bytes"].as_u64().unwrap_or(0), report)
}

#[test]
fn a_slow_rendition_holds_no_more_frames_than_the_budget_allows() {
    within(300, || {
        if !cfg!(target_os = "linux") {
            return media::skipped("resident memory is known on Linux only");
        }
        let folder = tempfile::tempdir().unwrap();
        const FRAMES: u64 = 200;
        clip(folder.path(), "in.mp4", "640x352", "24", FRAMES as u32);
        let job = "output = '{name}.mkv'\n\
                   [[rendition]]\nname = 'slow'\nencoder = 'libx264'\nbitrate = '400k'\npreset = 'medium'\nthreads = 1\n\
                   [[rendition]]\nname = 'quick'\nencoder = 'libx264'\nsize = '88p'\nbitrate = '100k'\npreset = 'ultrafast'\nthreads = 1\naudio = 'none'\n";
        std::fs::write(folder.path().join("ladder.toml"), job).unwrap();
        let index = (640 * 352 + 160 * 88) * 3 / 2;
        let budget = index * 60;
        let (without, _) = peak_of(folder.path(), &["--cache", "none"]);
        let (with, report) = peak_of(folder.path(), &["--cache", "ram", "--cache-size", &budget.to_string()]);
        let kept = report["cached_frames"].as_u64().unwrap();
        println!("{without} bytes without a cache, {with} with {kept} of {FRAMES} frames in a budget of {budget}");
        // Nine of each branch may be in flight beside the cache.
        assert!((30..=51).contains(&kept), "{kept}");
        assert!((kept + 9) * index <= budget);
        assert!(with <= without + budget + (16 << 20), "{with} bytes, {without} without a cache");
        assert!(without + FRAMES * index / 2 > with, "all frames would be {} bytes", FRAMES * index);
    });
}
