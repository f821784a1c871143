//! Sessions towards a measured quality: every segment has it, by the ffmpeg program's own filters over the written file.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;

use std::path::Path;

use media::{clip, ffmpeg, has_encoder, packets, text, within};
use repass::adapter;
use repass::bench::measure::{MeasureRequest, measure};
use repass::cache::{CacheMode, CachePlan};
use repass::error::{Error, Refusal};
use repass::event::Cancel;
use repass::job::{Job, JobRequest, RenditionRequest};
use repass::plan::{NotMeasured, NotNative, Passes, Request, SessionRequest};
use repass::quality::Metric;
use repass::rate::{BitRate, ByteSize, GopLength, QualityTarget, Target};
use repass::report::{QualityReport, Report, SessionReport};
use repass::session::Stopped;
use repass::source::Input;

/// Encoder, its quickest useful preset, and a quality of the test clip that its levels reach.
const ENCODERS: [(&str, &str, &str); 5] = [
    ("libx264", "veryfast", "psnr=36"),
    ("libx265", "ultrafast", "psnr=34"),
    ("libvpx-vp9", "ultrafast", "psnr=35"),
    ("libaom-av1", "ultrafast", "psnr=35"),
    ("libsvtav1", "ultrafast", "ssim=0.94"),
];

fn request(input: &Path, output: &Path, encoder: &str, preset: &str, quality: &str) -> JobRequest {
    let encoder = Request {
        preset: Some(preset.to_owned()),
        threads: Some(2),
        session: SessionRequest {
            segment: Some(GopLength::Frames(16)),
            most_passes: std::num::NonZeroU8::new(12).unwrap(),
            ..SessionRequest::default()
        },
        ..Request::new(adapter::named(encoder).unwrap(), Target::Measured(quality.parse().unwrap()))
    };
    let renditions = vec![RenditionRequest { overwrite: true, ..RenditionRequest::new("whole", output, encoder) }];
    JobRequest { renditions, ..JobRequest::new(Input::file(input)) }
}

fn of_x264(input: &Path, output: &Path, quality: &str) -> JobRequest {
    request(input, output, "libx264", "veryfast", quality)
}

fn run(request: &JobRequest) -> Result<Report, Error> {
    // As the program does: x264's bits depend on memory that nobody wrote.
    repass::av::let_jobs_zero_memory();
    Job::prepare(request, &Cancel::new())?.run(|_| {})
}

fn session(report: &Report) -> &SessionReport {
    report.renditions[0].session.as_ref().unwrap()
}

fn quality(report: &Report) -> &QualityReport {
    session(report).quality.as_ref().unwrap()
}

fn qualities(report: &Report) -> Vec<f64> {
    session(report).segments.iter().map(|segment| segment.quality.unwrap()).collect()
}

fn capped(request: &mut JobRequest, at_most: Option<BitRate>) {
    let Target::Measured(quality) = &mut request.renditions[0].encoder.target else { panic!("another target") };
    quality.at_most = at_most;
}

/// The metric of every frame, as the ffmpeg program has it.
fn by_ffmpeg(coded: &Path, original: &Path, metric: Metric, folder: &Path) -> Vec<f64> {
    let stats = folder.join("stats.txt");
    let (name, key) = if metric == Metric::Ssim { ("ssim", "All:") } else { ("psnr", "psnr_avg:") };
    // Containers round times; frames are paired by their number.
    let graph = format!(
        "[0:v]settb=1/24,setpts=N[coded];[1:v]settb=1/24,setpts=N[original];[coded][original]{name}=stats_file={}",
        stats.display()
    );
    ffmpeg(&["-i", text(coded), "-i", text(original), "-lavfi", &graph, "-threads", "1", "-f", "null", "-"]);
    let lines = std::fs::read_to_string(stats).unwrap();
    let value = |line: &str| {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap();
        value.parse::<f64>().unwrap().min(100.0)
    };
    lines.lines().map(value).collect()
}

/// The same of every segment, as the mean of its frames.
fn of_segments(report: &Report, frames: &[f64]) -> Vec<f64> {
    let segments = session(report).segments.iter();
    let own = segments.map(|segment| &frames[segment.first_frame as usize..][..segment.frames as usize]);
    own.map(|frames| frames.iter().sum::<f64>() / frames.len() as f64).collect()
}

/// The level of a segment on the other side of the target, coded by the ffmpeg program alone, misses it.
fn next_level_misses(request: &JobRequest, report: &Report, segment: usize, input: &Path, folder: &Path) -> bool {
    let plan = Job::prepare(request, &Cancel::new()).unwrap().into_plan();
    let encoder = &plan.renditions[0].encoder;
    let levels = encoder.session.as_ref().unwrap().levels;
    let is = &session(report).segments[segment];
    if is.level >= levels.greatest {
        return true;
    }
    let (part, original) = (folder.join("part.mkv"), folder.join("original.mkv"));
    let trim = format!(
        "trim=start_frame={}:end_frame={},setpts=PTS-STARTPTS,fps=24",
        is.first_frame,
        is.first_frame + is.frames
    );
    let cut = ["-i", text(input), "-vf", &trim, "-an", "-fps_mode", "passthrough"];
    ffmpeg(&[&cut[..], &["-c:v", "ffv1", text(&original)]].concat());
    let mut arguments: Vec<String> = cut.map(str::to_owned).into();
    arguments.extend(["-c:v".to_owned(), encoder.encoder.to_owned()]);
    for (option, value) in encoder.steps[0].options(None) {
        let level = (is.level + levels.step).to_string();
        arguments.extend([format!("-{option}:v"), value.replace(repass::plan::LEVEL, &level)]);
    }
    arguments.push(text(&part).to_owned());
    ffmpeg(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let QualityTarget { metric, value, tolerance, .. } = quality(report).wanted;
    let frames = by_ffmpeg(&part, &original, metric, folder);
    frames.iter().sum::<f64>() / (frames.len() as f64) < value - tolerance
}

#[test]
fn every_segment_has_the_quality_by_the_ffmpeg_programs_own_filters() {
    for (encoder, preset, wanted) in ENCODERS {
        if !has_encoder(encoder) {
            continue;
        }
        within(400, move || {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            let input = clip(folder, "in.mp4", "192x144", "24", 96);
            let output = folder.join("out.mkv");
            let request = request(&input, &output, encoder, preset, wanted);
            let report = run(&request).unwrap();
            let (session, QualityTarget { metric, value, tolerance, .. }) = (session(&report), quality(&report).wanted);
            let frames: Vec<u64> = session.passes.iter().map(|pass| pass.frames).collect();
            println!("{encoder} {wanted}: {frames:?}, {:?}", qualities(&report));
            assert_eq!((session.stopped, session.segments.len()), (Stopped::Satisfied, 6), "{encoder}: {session:?}");
            assert!(quality(&report).missed.is_empty() && quality(&report).lowered_to.is_none(), "{encoder}");
            let measured = by_ffmpeg(&output, &input, metric, folder);
            assert_eq!(measured.len(), 96, "{encoder}");
            // What the filters print is rounded.
            let rounding = if metric == Metric::Ssim { 1e-5 } else { 0.006 };
            for (number, (is, told)) in of_segments(&report, &measured).into_iter().zip(qualities(&report)).enumerate()
            {
                assert!((is - told).abs() < rounding, "{encoder}, segment {number}: {told} told, {is} measured");
                let is_near = (told - value).abs() <= tolerance;
                let meets = || told > value && next_level_misses(&request, &report, number, &input, folder);
                assert!(is_near || meets(), "{encoder}, segment {number}: {told} for {value}");
            }
            assert!(session.passes[1..].iter().all(|pass| pass.frames <= 96), "{encoder}");
            assert_eq!(frames[0], 96, "{encoder}");
        });
    }
}

#[test]
fn the_stream_is_the_same_whatever_is_cached_and_however_many_segments_are_in_work() {
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let input = clip(folder, "in.mp4", "192x144", "24", 120);
        let made = |name: &str, mode, budget, threads, at_most| {
            let output = folder.join(name);
            let mut request = of_x264(&input, &output, "psnr=36");
            request.cache = CachePlan { mode, budget: ByteSize(budget), spill_dir: None };
            request.renditions[0].encoder.threads = Some(threads);
            capped(&mut request, at_most);
            let report = run(&request).unwrap();
            (packets(&output), qualities(&report))
        };
        for cap in [None, Some(BitRate(500_000))] {
            let first = made("one.mkv", CacheMode::Ram, 1 << 30, 1, cap);
            for (name, mode, budget, threads) in
                [("three.mkv", CacheMode::Ram, 1 << 30, 3), ("none.mkv", CacheMode::None, 0, 2)]
            {
                assert_eq!(made(name, mode, budget, threads, cap), first, "{name} {cap:?}");
            }
        }
    });
}

#[test]
fn later_passes_are_over_those_segments_alone_that_miss() {
    within(200, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "192x144", "24", 120);
        let mut request = of_x264(&input, &folder.path().join("out.mkv"), "psnr=36");
        // Where everything is near enough there is one pass.
        let Target::Measured(quality) = &mut request.renditions[0].encoder.target else { panic!("another target") };
        quality.tolerance = 20.0;
        let wide = run(&request).unwrap();
        assert_eq!((session(&wide).stopped, session(&wide).passes.len()), (Stopped::Satisfied, 1));
        let Target::Measured(quality) = &mut request.renditions[0].encoder.target else { panic!("another target") };
        quality.tolerance = 0.1;
        let near = run(&request).unwrap();
        assert!(qualities(&near).iter().all(|quality| (quality - 36.0).abs() <= 0.1), "{:?}", session(&near));
        for (segment, before) in session(&near).segments.iter().zip(qualities(&wide)) {
            let passes = session(&near).passes.iter();
            let asked = passes.filter(|pass| pass.ranges.iter().any(|(from, _)| *from == segment.first_frame)).count();
            assert!(asked as u64 + 1 >= segment.versions, "{segment:?} {:?}", session(&near).passes);
            if (before - 36.0).abs() <= 0.1 {
                assert_eq!((segment.versions, segment.quality), (1, Some(before)), "it was near enough");
            }
        }
    });
}

#[test]
fn a_cap_holds_with_the_same_quality_everywhere_and_is_told() {
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let input = clip(folder, "in.mp4", "192x144", "24", 96);
        let output = folder.join("out.mkv");
        let mut request = of_x264(&input, &output, "psnr=40");
        let free = run(&request).unwrap();
        assert_eq!(session(&free).stopped, Stopped::Satisfied);
        let cap = BitRate((free.renditions[0].video_bps * 0.6) as u64);
        capped(&mut request, Some(cap));
        let report = run(&request).unwrap();
        let (bps, lowered) = (report.renditions[0].video_bps, quality(&report).lowered_to.unwrap());
        println!("{:.0} of {} b/s, at {lowered:.2} dB: {:?}", bps, cap.0, qualities(&report));
        assert!(bps <= cap.0 as f64 && bps > cap.0 as f64 * 0.9, "{bps} of {}", cap.0);
        assert!(lowered < 39.0 && session(&report).stopped == Stopped::Satisfied, "{:?}", session(&report));
        let measured = of_segments(&report, &by_ffmpeg(&output, &input, Metric::Psnr, folder));
        assert!(measured.iter().all(|quality| (quality - lowered).abs() <= 0.31), "{lowered}: {measured:?}");
        let said = &report.warnings;
        assert!(said.iter().any(|text| text.contains("the cap of") && text.contains("not the quality")), "{said:?}");
        // A cap that is never reached changes no bit.
        capped(&mut request, Some(BitRate(100_000_000)));
        let wide = run(&request).unwrap();
        assert_eq!(qualities(&wide), qualities(&free));
        assert!(quality(&wide).lowered_to.is_none() && wide.warnings.is_empty(), "{:?}", wide.warnings);
    });
}

#[test]
fn a_quality_that_cannot_be_had_is_told_and_never_satisfied() {
    within(200, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "192x144", "24", 96);
        let output = folder.path().join("out.mkv");
        // Coarser than any 8-bit picture of noise comes out of levels from 1 on.
        let report = run(&of_x264(&input, &output, "psnr=69")).unwrap();
        let (session, quality) = (session(&report), quality(&report));
        assert_eq!(session.stopped, Stopped::Exhausted, "{session:?}");
        assert_eq!(quality.missed, [0, 1, 2, 3, 4, 5]);
        assert!(session.segments.iter().all(|segment| segment.level == 1.0), "the best there is: {session:?}");
        let said = &report.warnings;
        assert!(said.iter().any(|text| text.contains("not met by 6 of 6 segments")), "{said:?}");
        // A cap that no level comes down to.
        let mut request = of_x264(&input, &output, "psnr=36");
        capped(&mut request, Some(BitRate(2_000)));
        let report = run(&request).unwrap();
        assert_eq!(self::session(&report).stopped, Stopped::Exhausted);
        let said = &report.warnings;
        assert!(said.iter().any(|text| text.contains("the cap of 2000 b/s is not met")), "{said:?}");
        // One pass is not enough to know.
        let mut request = of_x264(&input, &output, "psnr=36");
        request.renditions[0].encoder.session.most_passes = std::num::NonZeroU8::MIN;
        let report = run(&request).unwrap();
        assert_eq!(self::session(&report).stopped, Stopped::PassLimit);
        assert!(report.warnings.iter().any(|text| text.contains("limit of 1 passes")), "{:?}", report.warnings);
    });
}

#[test]
fn layouts_and_ranges_of_samples_do_not_change_what_is_measured() {
    within(200, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "192x144", "24", 64);
        let measured = |filters: &str| {
            let mut request = of_x264(&input, &folder.path().join("out.mkv"), "psnr=36");
            request.filters = Some(filters.to_owned());
            let report = run(&request).unwrap();
            (qualities(&report), session(&report).segments.iter().map(|segment| segment.bytes).collect::<Vec<_>>())
        };
        let plain = measured("format=yuv420p");
        assert_eq!(measured("format=nv12"), plain, "the same samples in another layout");
        let (full, _) = measured("scale=out_range=pc,format=yuvj420p");
        assert!(full.iter().all(|quality| (quality - 36.0).abs() <= 0.3), "{full:?}");
        let (deep, _) = measured("format=yuv420p10le");
        assert!(deep.iter().all(|quality| (quality - 36.0).abs() <= 0.3), "{deep:?}");
    });
}

#[test]
fn metrics_that_look_at_motion_are_nearly_what_a_measurement_of_the_whole_file_has() {
    // What a segment's first frame is compared with is not known to it.
    for (metric, value, nearly) in [(Metric::Vmaf, 85.0, 0.7), (Metric::Xpsnr, 36.0, 0.7)] {
        if let Some(why) = metric.unavailable() {
            println!("skipped: {metric}: {why}");
            continue;
        }
        within(300, || {
            let folder = tempfile::tempdir().unwrap();
            let input = clip(folder.path(), "in.mp4", "192x144", "24", 96);
            let output = folder.path().join("out.mkv");
            let report = run(&of_x264(&input, &output, &format!("{metric}={value}"))).unwrap();
            assert_eq!(session(&report).stopped, Stopped::Satisfied, "{:?}", session(&report));
            let request = MeasureRequest {
                reference: input,
                distorted: output,
                metrics: vec![metric],
                pixel_format: None,
                threads: Some(1),
            };
            let whole = measure(&request, &Cancel::new(), &mut |_, _| {}).unwrap();
            let measured = of_segments(&report, &whole.qualities[0].frames);
            println!("{metric}: {:?} told, {measured:?} measured", qualities(&report));
            for (told, is) in qualities(&report).into_iter().zip(measured) {
                assert!((told - value).abs() <= metric.tolerance(), "{metric}: {told}");
                assert!((told - is).abs() <= nearly, "{metric}: {told} told, {is} measured");
            }
        });
    }
}

type Change<'c> = &'c dyn Fn(&mut RenditionRequest);

#[test]
fn what_cannot_be_measured_is_refused_before_anything_runs() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "64x64", "24", 24);
        let refused = |change: Change<'_>| {
            let mut request = of_x264(&input, &folder.path().join("out.mkv"), "psnr=36");
            change(&mut request.renditions[0]);
            match Job::prepare(&request, &Cancel::new()).map(|_| ()) {
                Err(Error::Plan(refusal)) => refusal,
                other => panic!("{other:?}"),
            }
        };
        let not_measured = |change: Change<'_>| match refused(change) {
            Refusal::NotMeasured { why, .. } => why,
            other => panic!("{other:?}"),
        };
        let aimed = |quality: &str| Target::Measured(quality.parse().unwrap());
        assert_eq!(not_measured(&|r| r.encoder.passes = Passes::One), NotMeasured::Passes);
        assert_eq!(not_measured(&|r| r.encoder.passes = Passes::Two), NotMeasured::Passes);
        let value = NotMeasured::Value { metric: Metric::Psnr, value: "7".to_owned() };
        assert_eq!(not_measured(&|r| r.encoder.target = aimed("psnr=7")), value);
        let none = |r: &mut RenditionRequest| {
            r.encoder.target = Target::Measured(QualityTarget { tolerance: 0.0, .."psnr=36".parse().unwrap() });
        };
        assert!(matches!(not_measured(&none), NotMeasured::Tolerance(_)));
        for metric in Metric::ALL.into_iter().filter(|metric| metric.unavailable().is_some()) {
            let value = if metric == Metric::Xpsnr { 36 } else { 90 };
            let why = not_measured(&|r| r.encoder.target = aimed(&format!("{metric}={value}")));
            assert_eq!(why, NotMeasured::Metric(metric));
            assert!(why.to_string().contains(metric.needs()), "{why}");
        }
        let package = refused(&|r| r.output = folder.path().join("out.m3u8")).to_string();
        assert!(package.contains("no session: segments of a package"), "{package}");
        let of = |name: &'static str| refused(&move |r| r.encoder.adapter = adapter::named(name).unwrap());
        assert!(matches!(of("hevc_nvenc"), Refusal::NoSession { .. } | Refusal::NoEncoder { .. }));
        assert!(matches!(of("h264_videotoolbox"), Refusal::NotNative { why: NotNative::MeasuredQuality, .. }));
    });
}
