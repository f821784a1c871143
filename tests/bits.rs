//! The same bits as the ffmpeg program: two passes in one process against two invocations, packet by packet.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod media;

use std::path::{Path, PathBuf};

use media::{clip, ffmpeg, has_encoder, packets, text, within};
use repass::adapter::{self, StatsRoute};
use repass::cache::{CacheMode, CachePlan};
use repass::error::{Error, Refusal};
use repass::event::Cancel;
use repass::job::{AudioChoice, Job, JobRequest, RenditionRequest, SubtitleChoice};
use repass::plan::{Passes, Request};
use repass::rate::{BitRate, ByteSize, Target};
use repass::report::Report;
use repass::source::Input;

/// One comparison: an encoder, a target and settings, for us and for the program.
struct Case {
    encoder: &'static str,
    target: Target,
    passes: Passes,
    preset: Option<&'static str>,
    options: &'static [(&'static str, &'static str)],
    filters: Option<&'static str>,
    /// The program's spelling of target, preset and adapter settings.
    arguments: &'static [&'static str],
    /// What the program is given beside that in each pass; `{stats}` is a path.
    passes_arguments: [&'static [&'static str]; 2],
    output: &'static str,
    size: &'static str,
    frames: u32,
}

const FLAGS: [&[&str]; 2] = [&["-pass", "1", "-passlogfile", "{stats}"], &["-pass", "2", "-passlogfile", "{stats}"]];
const X265: [&[&str]; 2] = [
    &["-x265-params", "log-level=error:pass=1:stats={stats}"],
    &["-x265-params", "log-level=error:pass=2:stats={stats}"],
];

const BASE: Case = Case {
    encoder: "libx264",
    target: Target::Average(BitRate(300_000)),
    passes: Passes::Two,
    preset: None,
    options: &[],
    filters: None,
    arguments: &[],
    passes_arguments: FLAGS,
    output: "out.mkv",
    // A multiple of 128 wide: for other widths x264 with AVX-512 does not repeat itself (vendor-notes.md).
    size: "384x216",
    frames: 96,
};

fn request(case: &Case, input: &Path, output: &Path, cache: CachePlan) -> JobRequest {
    let encoder = Request {
        passes: case.passes,
        preset: case.preset.map(str::to_owned),
        options: case.options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Request::new(adapter::named(case.encoder).unwrap(), case.target)
    };
    let rendition = RenditionRequest {
        overwrite: true,
        audio: AudioChoice::None,
        subtitles: SubtitleChoice::None,
        ..RenditionRequest::new("out", output, encoder)
    };
    JobRequest {
        filters: case.filters.map(str::to_owned),
        renditions: vec![rendition],
        cache,
        ..JobRequest::new(Input::file(input))
    }
}

fn ram() -> CachePlan {
    CachePlan { mode: CacheMode::Ram, budget: ByteSize(1 << 30), spill_dir: None }
}

fn ours(case: &Case, input: &Path, output: &Path, cache: CachePlan) -> Report {
    let job = Job::prepare(&request(case, input, output, cache), &Cancel::new()).unwrap();
    job.run(|_| {}).unwrap()
}

fn theirs(case: &Case, input: &Path, folder: &Path, output: &Path) {
    let stats = folder.join("cli-stats");
    let runs = if case.passes == Passes::Two { 2 } else { 1 };
    for run in 0..runs {
        let last = run + 1 == runs;
        let mut arguments: Vec<String> = vec!["-i".into(), text(input).into(), "-map".into(), "0:v:0".into()];
        arguments.extend(["-c:v".into(), case.encoder.into()]);
        arguments.extend(case.arguments.iter().map(|word| (*word).to_owned()));
        arguments.extend(case.filters.iter().flat_map(|filters| ["-vf".to_owned(), (*filters).to_owned()]));
        let pass = if runs == 2 { case.passes_arguments[run] } else { &[] };
        arguments.extend(pass.iter().map(|word| word.replace("{stats}", text(&stats))));
        arguments.extend(case.options.iter().flat_map(|(name, value)| [format!("-{name}"), (*value).to_owned()]));
        if last {
            arguments.push(text(output).into());
        } else {
            arguments.extend(["-f".into(), "null".into(), "-".into()]);
        }
        ffmpeg(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

fn compare(case: &'static Case) {
    if !has_encoder(case.encoder) {
        return;
    }
    within(300, move || {
        // x264 reads memory that nobody wrote; both sides are given zeros (`media::ffmpeg` for the program).
        repass::av::let_jobs_zero_memory();
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", case.size, "24", case.frames);
        let (one, two): (PathBuf, PathBuf) =
            (folder.path().join("theirs").join(case.output), folder.path().join(case.output));
        std::fs::create_dir(folder.path().join("theirs")).unwrap();
        theirs(case, &input, folder.path(), &one);
        let report = ours(case, &input, &two, ram());
        assert_eq!(report.frames, u64::from(case.frames));
        assert_eq!(packets(&two), packets(&one), "{} differs from the ffmpeg program", case.encoder);
    });
}

macro_rules! same_bits {
    ($($name:ident: $case:expr;)*) => {
        $(#[test]
        fn $name() {
            static CASE: Case = $case;
            compare(&CASE);
        })*
    };
}

same_bits! {
    x264_two_passes_to_matroska: Case { arguments: &["-b:v", "300k"], ..BASE };
    x264_two_passes_to_mp4_with_a_preset_and_filter: Case {
        preset: Some("fast"),
        filters: Some("scale=256:-2,hqdn3d"),
        arguments: &["-b:v", "300k", "-preset", "fast"],
        output: "out.mp4",
        ..BASE
    };
    x264_one_pass_at_constant_quality: Case {
        target: Target::Quality(23.0), passes: Passes::One, arguments: &["-crf", "23"], ..BASE
    };
    x265_two_passes: Case {
        encoder: "libx265",
        preset: Some("veryfast"),
        options: &[],
        arguments: &["-b:v", "300k", "-preset", "veryfast"],
        passes_arguments: X265,
        frames: 48,
        ..BASE
    };
    vp9_two_passes: Case {
        encoder: "libvpx-vp9",
        preset: Some("veryfast"),
        arguments: &["-b:v", "300k", "-cpu-used", "5", "-row-mt", "1"],
        output: "out.webm",
        frames: 48,
        ..BASE
    };
    vp9_two_passes_at_constant_quality: Case {
        encoder: "libvpx-vp9",
        target: Target::Quality(40.0),
        preset: Some("veryfast"),
        arguments: &["-crf", "40", "-cpu-used", "5", "-row-mt", "1"],
        output: "out.webm",
        frames: 48,
        ..BASE
    };
    aom_two_passes: Case {
        encoder: "libaom-av1",
        preset: Some("8"),
        arguments: &["-b:v", "200k", "-cpu-used", "8", "-row-mt", "1"],
        target: Target::Average(BitRate(200_000)),
        output: "out.mp4",
        size: "176x144",
        frames: 32,
        ..BASE
    };
    svt_one_pass_at_constant_quality: Case {
        encoder: "libsvtav1",
        target: Target::Quality(40.0),
        passes: Passes::One,
        preset: Some("10"),
        arguments: &["-crf", "40", "-preset", "10"],
        output: "out.mkv",
        frames: 48,
        ..BASE
    };
}

/// As `BASE`, where libavcodec takes the pass from its flags: libx265 after FFmpeg 7.1.
static X265_BY_FLAGS: Case = Case {
    encoder: "libx265",
    preset: Some("veryfast"),
    arguments: &["-b:v", "300k", "-preset", "veryfast", "-x265-params", "log-level=error"],
    frames: 48,
    ..BASE
};

#[test]
fn x265_takes_its_passes_from_flags_where_libavcodec_reads_them() {
    match route("libx265") {
        Some(route @ StatsRoute::File { .. }) => {
            println!("libx265: {route:?}");
            compare(&X265_BY_FLAGS);
        }
        other => media::skipped(&format!("this libx265.c reads no pass flags ({other:?})")),
    }
}

/// One thread, or SVT-AV1 does not repeat itself everywhere: see the test below.
static SVT: Case = Case {
    encoder: "libsvtav1",
    target: Target::Average(BitRate(200_000)),
    preset: Some("10"),
    options: &[("svtav1-params", "lp=1")],
    arguments: &["-b:v", "200k", "-preset", "10"],
    frames: 48,
    ..BASE
};

#[test]
fn svt_av1_makes_two_passes_through_memory_or_they_are_refused_with_the_way_out() {
    if !has_encoder(SVT.encoder) {
        return;
    }
    match route(SVT.encoder) {
        Some(StatsRoute::Context) => compare(&SVT),
        other => {
            assert_eq!(other, None);
            within(60, || {
                let folder = tempfile::tempdir().unwrap();
                let input = clip(folder.path(), "in.mp4", SVT.size, "24", 8);
                let request = request(&SVT, &input, &folder.path().join("out.mkv"), ram());
                let refused = Job::prepare(&request, &Cancel::new()).err().expect("a refusal");
                assert!(matches!(refused, Error::Plan(Refusal::NoTwoPass { .. })), "{refused}");
                let words = refused.to_string();
                for part in
                    ["libsvtav1: two passes are not possible", "ignores the pass flags", "FFmpeg 9", "libaom-av1"]
                {
                    assert!(words.contains(part), "{part:?} is missing: {words}");
                }
                println!("refused here: {words}");
            });
        }
    }
}

#[test]
fn svt_av1_repeats_itself_on_one_thread() {
    if route(SVT.encoder) != Some(StatsRoute::Context) {
        return media::skipped("no two passes with libsvtav1 here");
    }
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", SVT.size, "24", SVT.frames);
        let twice = |case: &Case| {
            ["one.mkv", "two.mkv"].map(|name| {
                let output = folder.path().join(name);
                theirs(case, &input, folder.path(), &output);
                packets(&output)
            })
        };
        let [one, two] = twice(&SVT);
        assert_eq!(one, two, "the ffmpeg program, lp=1");
        let [one, two] = twice(&Case { options: &[], ..SVT });
        println!(
            "the ffmpeg program with SVT-AV1's own number of threads: {}",
            if one == two { "equal" } else { "not equal" }
        );
    });
}

/// How statistics travel here.
fn route(encoder: &str) -> Option<StatsRoute> {
    repass::probe::capabilities(adapter::named(encoder).unwrap()).route
}
