//! First passes that serve more than one second pass: within a job, and kept in a file.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use media::{clip, ffmpeg, has_encoder, packets, text, within};
use repass::adapter::{self, PassModel, TwoRuns};
use repass::cache::{CacheMode, CachePlan};
use repass::error::{Error, Refusal};
use repass::event::Cancel;
use repass::job::{
    Analysis, AnalysisRequest, AudioChoice, FirstPass, Job, JobRequest, RenditionRequest, Size, SubtitleChoice,
};
use repass::plan::{FirstPassChoice, Passes, Request};
use repass::rate::{BitRate, ByteSize, Target};
use repass::report::Report;
use repass::source::Input;
use repass::stats::artefact::Artefact;

// ---- within a job

#[test]
fn a_shared_first_pass_gives_the_same_bits_where_statistics_do_not_depend_on_the_target() {
    for (encoder, frames, container) in [("libvpx-vp9", 48, "webm"), ("libaom-av1", 24, "mkv")] {
        if !has_encoder(encoder) {
            continue;
        }
        within(300, move || {
            let folder = tempfile::tempdir().unwrap();
            let input = clip(folder.path(), "in.mp4", "176x144", "24", frames);
            let targets = [rate(60), rate(240), Target::Quality(40.0)];
            let outputs = |name: &str| -> Vec<PathBuf> {
                (0..targets.len()).map(|number| folder.path().join(format!("{name}{number}.{container}"))).collect()
            };
            let encode = |choice: FirstPassChoice, outputs: &[PathBuf]| {
                let encoders = targets.map(|target| Request {
                    passes: Passes::Two,
                    first_pass: choice.clone(),
                    ..request(encoder, target)
                });
                run(&job(&input, encoders.into_iter().zip(outputs))).unwrap()
            };
            let (shared, own) = (outputs("shared"), outputs("own"));
            let report = encode(FirstPassChoice::Shared, &shared);
            assert_eq!(passes(&report), [1, 2, 1], "{encoder}: the greatest rate has the first pass");
            assert_eq!(passes(&encode(FirstPassChoice::Own, &own)), [2, 2, 2], "{encoder}");
            for (shared, own) in shared.iter().zip(&own) {
                assert_eq!(packets(shared), packets(own), "{encoder} {}", own.display());
            }
            assert_eq!(report.warnings, [""; 0], "{encoder}: nothing differs, so there is nothing to warn of");
        });
    }
}

#[test]
fn a_first_pass_serves_lower_bit_rates_and_the_plan_and_a_warning_say_so() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 72);
        let outputs: Vec<PathBuf> =
            [150, 600, 300].iter().map(|rate| folder.path().join(format!("{rate}.mkv"))).collect();
        let encoders = [150, 600, 300].map(|kilobits| request("libx264", rate(kilobits)));
        let request = job(&input, encoders.into_iter().zip(&outputs));
        let prepared = Job::prepare(&request, &Cancel::new()).unwrap();
        let from: Vec<&FirstPass> = prepared.plan().renditions.iter().map(|rendition| &rendition.first_pass).collect();
        let another = FirstPass::Another { rendition: 1 };
        assert_eq!(from, [&another, &FirstPass::Own, &another]);
        assert!(prepared.plan().warnings[0].contains("150 and 300 use the first pass of 600"));
        let report = prepared.run(|_| {}).unwrap();
        assert_eq!(passes(&report), [1, 2, 1]);
        for rendition in &report.renditions {
            assert!(rendition.bitrate_error.unwrap().abs() < 0.15, "{}: {:?}", rendition.name, rendition.bitrate_error);
        }
        let alone = folder.path().join("alone.mkv");
        run(&job(&input, [(self::request("libx264", rate(600)), &alone)])).unwrap();
        assert_eq!(packets(&outputs[1]), packets(&alone), "the one it was made for is as if alone");
    });
}

#[test]
fn the_ffmpeg_lines_of_a_shared_first_pass_run_in_their_order() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        clip(folder.path(), "in.mp4", "320x180", "24", 24);
        let arguments = ["plan", "in.mp4", "-o", "{name}.mkv", "-c", "libx264", "-b", "100k,300k,200k", "--argv"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_repass"));
        let planned = command.args(arguments).current_dir(folder.path()).output().unwrap();
        let page = String::from_utf8(planned.stdout).unwrap();
        let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("ffmpeg ")).collect();
        assert_eq!(lines.len(), 4, "{page}");
        let all = format!("set -e\n{}", lines.join(" </dev/null\n"));
        let ended = Command::new("sh").args(["-c", &all]).current_dir(folder.path()).output().unwrap();
        assert!(ended.status.success(), "{page}\n{}", String::from_utf8_lossy(&ended.stderr));
        assert!(["100k", "200k", "300k"].iter().all(|name| folder.path().join(format!("{name}.mkv")).exists()));
    });
}

#[test]
fn what_pass_1_would_do_otherwise_is_not_shared() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 24);
        let other_preset = Request { preset: Some("fast".to_owned()), ..request("libx264", rate(200)) };
        let other_option =
            Request { options: vec![("bf".to_owned(), "1".to_owned())], ..request("libx264", rate(200)) };
        let by_itself = Request { first_pass: FirstPassChoice::Own, ..request("libx264", rate(200)) };
        let sized = request("libx264", Target::Size(ByteSize(40_000)));
        let one = Request { passes: Passes::One, ..request("libx264", rate(200)) };
        for (number, other) in [other_preset, other_option, by_itself, sized, one].into_iter().enumerate() {
            let outputs = [folder.path().join("a.mkv"), folder.path().join("b.mkv")];
            let request = job(&input, [request("libx264", rate(400)), other].into_iter().zip(&outputs));
            let prepared = Job::prepare(&request, &Cancel::new()).unwrap();
            assert!(prepared.plan().renditions.iter().all(|plan| plan.first_pass == FirstPass::Own), "{number}");
        }
    });
}

// ---- kept in a file

#[test]
fn a_kept_first_pass_gives_the_bits_of_two_passes_in_one_job() {
    for encoder in ["libx264", "libx265", "libvpx-vp9"] {
        if !has_encoder(encoder) {
            continue;
        }
        within(200, move || {
            let place = Place::with_clip(encoder, 48);
            let (whole, second) = (place.path("whole.mkv"), place.path("second.mkv"));
            run(&job(&place.input, [(request(encoder, rate(300)), &whole)])).unwrap();
            let report = run(&place.second_pass(rate(300), &second)).unwrap();
            assert_eq!(packets(&second), packets(&whole), "{encoder}");
            assert_eq!((report.runs.len(), passes(&report)), (1, vec![1]), "{encoder}: pass 2 alone");
            assert!(matches!(report.renditions[0].first_pass, FirstPass::Kept { .. }));
        });
    }
}

#[test]
fn kept_statistics_serve_a_lower_rate_and_not_a_higher_one() {
    within(120, || {
        let place = Place::with_clip("libx264", 48);
        let lower = place.path("lower.mkv");
        let report = run(&place.second_pass(rate(200), &lower)).unwrap();
        assert!(report.renditions[0].bitrate_error.unwrap().abs() < 0.15);
        let refused = place.refused(&place.second_pass(rate(400), &lower));
        assert_eq!(refused, ["bit rate: 300000 b/s then, which serves that and less; 400000 now"]);
    });
}

#[test]
fn a_mismatch_is_refused_naming_what_differs() {
    within(120, || {
        let place = Place::with_clip("libx264", 24);
        let output = place.path("out.mkv");
        let with = |change: fn(&mut Request)| {
            let mut request = place.second_pass(rate(300), &output);
            change(&mut request.renditions[0].encoder);
            place.refused(&request)
        };
        let preset = with(|encoder| encoder.preset = Some("slow".to_owned()));
        assert_eq!(preset, ["preset: veryfast then, slow now"]);
        let option = with(|encoder| encoder.options.push(("bf".to_owned(), "1".to_owned())));
        assert_eq!(option, ["bf: not set then, 1 now"]);
        let encoder = with(|encoder| encoder.adapter = adapter::named("libx265").unwrap());
        assert_eq!(encoder[0], "encoder: libx264 then, libx265 now");
        assert!(with(|encoder| encoder.passes = Passes::One)[0].contains("one pass"));
        let mut filtered = place.second_pass(rate(300), &output);
        filtered.filters = Some("hflip".to_owned());
        assert_eq!(place.refused(&filtered), ["source: the first frame is another"]);
        filtered.filters = Some("scale=160:90".to_owned());
        assert_eq!(place.refused(&filtered), ["frames: 320x180 yuv420p then, 160x90 yuv420p now"]);
        filtered.filters = Some("fps=12".to_owned());
        assert_eq!(place.refused(&filtered), ["frame rate: 24/1 then, 12/1 now"]);
        assert!(!output.exists());
    });
}

#[test]
fn other_frames_end_the_job_before_the_encoder_sees_them() {
    // libaom would end the process if it were flushed with fewer frames than its statistics.
    for encoder in ["libx264", "libaom-av1"] {
        if !has_encoder(encoder) {
            continue;
        }
        within(200, move || {
            let place = Place::with_clip(encoder, 24);
            let output = place.path("out.mkv");
            for (name, arguments, why) in [
                ("shorter", vec!["-frames:v", "16"], "there are 16 frames, and were 24"),
                ("longer", vec!["-vf", "tpad=stop=4"], "there are more than 24 frames"),
                ("other", vec!["-vf", "hflip=enable=eq(n\\,20)"], "frame 20 has other pixels"),
            ] {
                let input = place.path(&format!("{name}.mkv"));
                ffmpeg(&[&["-i", text(&place.input)], arguments.as_slice(), &["-c:v", "ffv1", text(&input)]].concat());
                let mut request = place.second_pass(rate(300), &output);
                request.input = Input::file(&input);
                match run(&request) {
                    Err(Error::OtherFrames { why: said, .. }) => assert_eq!(said, why, "{encoder}"),
                    other => panic!("{encoder} {name}: {other:?}"),
                }
                assert!(!output.exists(), "{encoder} {name}");
            }
        });
    }
}

#[test]
fn a_damaged_file_of_statistics_is_always_a_typed_error() {
    within(120, || {
        let place = Place::with_clip("libx264", 24);
        let whole = fs::read(&place.stats).unwrap();
        let damaged = place.path("damaged.stats");
        // A linear congruential generator: the same damage every time.
        let mut state = 0x5eed_u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for round in 0..600 {
            let mut bytes = whole.clone();
            match round % 3 {
                0 => bytes.truncate(next(whole.len())),
                1 => bytes[next(whole.len())] ^= 1 << next(8),
                _ => {
                    let at = next(whole.len());
                    bytes.insert(at, next(256) as u8);
                }
            }
            fs::write(&damaged, &bytes).unwrap();
            match Artefact::open(&damaged) {
                Err(Error::Artefact { why, .. }) => assert!(!why.is_empty()),
                other => panic!("round {round}: {other:?}"),
            }
        }
        let mut request = place.second_pass(rate(300), &place.path("out.mkv"));
        request.renditions[0].encoder.first_pass = FirstPassChoice::Kept(damaged);
        assert!(matches!(run(&request), Err(Error::Artefact { .. })));
        request.renditions[0].encoder.first_pass = FirstPassChoice::Kept(place.path("absent.stats"));
        assert!(matches!(run(&request), Err(Error::Artefact { .. })));
    });
}

#[test]
fn statistics_of_other_versions_are_refused() {
    within(120, || {
        let place = Place::with_clip("libx264", 24);
        let header = Artefact::open(&place.stats).unwrap().header().clone();
        assert!(header.library.unwrap().starts_with("build 1"));
        let whole = fs::read(&place.stats).unwrap();
        for (known, foreign) in [("\"library\":\"build 1", "\"library\":\"build 9"), ("\"row\":1", "\"row\":7")] {
            let other = place.path("other.stats");
            fs::write(&other, resealed(replaced(&whole, known.as_bytes(), foreign.as_bytes()))).unwrap();
            let mut request = place.second_pass(rate(300), &place.path("out.mkv"));
            request.renditions[0].encoder.first_pass = FirstPassChoice::Kept(other);
            let differences = place.refused(&request);
            assert_eq!(differences.len(), 1, "{differences:?}");
        }
        let next_format = place.path("next.stats");
        fs::write(&next_format, resealed(replaced(&whole, b"repass-stats 01", b"repass-stats 02"))).unwrap();
        let opened = Artefact::open(&next_format);
        assert!(opened.unwrap_err().to_string().contains("another version"));
    });
}

/// Whoever makes the checksum match again is held to the same proof as a first pass; values inside records are the encoder's
/// own, and pass it.
#[test]
fn a_resealed_file_of_nonsense_is_refused_as_such_or_holds_other_values() {
    within(120, || {
        let place = Place::with_clip("libvpx-vp9", 24);
        let whole = fs::read(&place.stats).unwrap();
        let mut state = 77_u64;
        for round in 0..300 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut bytes = whole.clone();
            let at = (state >> 33) as usize % (whole.len() - 16);
            bytes[at] ^= 1 << (state % 8);
            let other = place.path("other.stats");
            fs::write(&other, resealed(bytes)).unwrap();
            let mut request = place.second_pass(rate(300), &place.path("out.webm"));
            request.renditions[0].encoder.first_pass = FirstPassChoice::Kept(other.clone());
            if let Err(error) = Artefact::open(&other) {
                assert!(matches!(error, Error::Artefact { .. }), "round {round}: {error}");
            } else if let Err(error) = Job::prepare(&request, &Cancel::new()) {
                assert!(matches!(error, Error::Plan(Refusal::OtherStats { .. })), "round {round}: {error}");
            }
        }
    });
}

#[test]
fn an_existing_file_is_replaced_only_when_asked_for() {
    within(60, || {
        let place = Place::with_clip("libx264", 24);
        let request = place.analysis("libx264");
        let refused = Analysis::prepare(&request, &Cancel::new()).err();
        assert!(matches!(refused, Some(Error::Plan(Refusal::Exists { .. }))), "{refused:?}");
        fs::write(&place.stats, "another file").unwrap();
        let again = AnalysisRequest { overwrite: true, ..request };
        Analysis::prepare(&again, &Cancel::new()).unwrap().run(|_| {}).unwrap();
        assert!(Artefact::open(&place.stats).is_ok());
    });
}

#[test]
fn there_is_nothing_to_keep_of_an_encoder_without_a_first_pass() {
    within(60, || {
        let place = Place::with_clip("libx264", 24);
        let quality = AnalysisRequest {
            encoder: request("libx264", Target::Quality(23.0)),
            output: place.path("other.stats"),
            ..place.analysis("libx264")
        };
        let refused = Analysis::prepare(&quality, &Cancel::new()).err().unwrap();
        assert!(matches!(refused, Error::Plan(Refusal::QualityNeedsOnePass { .. })), "{refused}");
    });
}

#[test]
fn an_analysis_of_damaged_footage_says_so_and_one_of_no_frame_is_an_error() {
    within(60, || {
        let place = Place::with_clip("libx264", 48);
        let cut = place.path("cut.mkv");
        let whole = place.path("whole.mkv");
        media::ffmpeg(&["-i", media::text(&place.input), "-c", "copy", media::text(&whole)]);
        let bytes = fs::read(&whole).unwrap();
        fs::write(&cut, &bytes[..bytes.len() * 2 / 3]).unwrap();
        let damaged = AnalysisRequest {
            input: Input::file(&cut),
            keep_damaged: true,
            overwrite: true,
            ..place.analysis("libx264")
        };
        let report = Analysis::prepare(&damaged, &Cancel::new()).unwrap().run(|_| {}).unwrap();
        assert!(report.damage.is_some_and(|damage| damage.any()), "{:?}", report.damage);
        assert!(report.to_json().contains("missing_bytes"));
        let none = AnalysisRequest {
            filters: Some("trim=start=100".to_owned()),
            overwrite: true,
            ..place.analysis("libx264")
        };
        let error = Analysis::prepare(&none, &Cancel::new()).and_then(|analysis| analysis.run(|_| {})).unwrap_err();
        assert!(matches!(&error, Error::Input { what, .. } if what == "holds no frame"), "{error}");
    });
}

#[test]
fn a_path_that_the_encoder_would_cut_short_is_refused_before_it_opens() {
    within(60, || {
        let place = Place::with_clip("libx264", 12);
        let row = adapter::named("libx264").unwrap();
        let PassModel::TwoRuns(model) = row.passes else { panic!("libx264 has two runs") };
        let short =
            adapter::Adapter { passes: PassModel::TwoRuns(TwoRuns { longest_path: 10, ..model }), ..row.clone() };
        let encoder = Request { adapter: Box::leak(Box::new(short)), ..request("libx264", rate(100)) };
        let refused = run(&job(&place.input, [(encoder, place.path("out.mkv"))])).unwrap_err();
        assert!(matches!(refused, Error::Plan(Refusal::StatsPath { .. })), "{refused}");
    });
}

// ---- material

/// A folder with a clip and the statistics of its first pass at 300 kb/s.
struct Place {
    folder: tempfile::TempDir,
    encoder: &'static str,
    input: PathBuf,
    stats: PathBuf,
}

impl Place {
    fn with_clip(encoder: &'static str, frames: u32) -> Self {
        repass::av::let_jobs_zero_memory();
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", frames);
        let stats = folder.path().join("in.stats");
        let place = Place { folder, encoder, input, stats };
        let report = Analysis::prepare(&place.analysis(encoder), &Cancel::new()).unwrap().run(|_| {}).unwrap();
        assert_eq!((report.analysed.frames, report.bytes), (u64::from(frames), place.stats.metadata().unwrap().len()));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn analysis(&self, encoder: &str) -> AnalysisRequest {
        AnalysisRequest {
            input: Input::file(&self.input),
            filters: None,
            size: Size::Source,
            encoder: request(encoder, rate(300)),
            gop: None,
            output: self.stats.clone(),
            overwrite: false,
            keep_damaged: false,
            decoder_threads: None,
            enlarge: false,
            stall_timeout: None,
        }
    }

    fn second_pass(&self, target: Target, output: &Path) -> JobRequest {
        let first_pass = FirstPassChoice::Kept(self.stats.clone());
        job(&self.input, [(Request { first_pass, ..request(self.encoder, target) }, output)])
    }

    /// What a plan refuses about the kept statistics.
    fn refused(&self, request: &JobRequest) -> Vec<String> {
        match Job::prepare(request, &Cancel::new()).err() {
            Some(Error::Plan(Refusal::OtherStats { differences, .. })) => differences,
            other => panic!("{other:?}"),
        }
    }
}

fn rate(kilobits: u64) -> Target {
    Target::Average(BitRate(kilobits * 1000))
}

fn request(encoder: &str, target: Target) -> Request {
    Request { preset: Some("veryfast".to_owned()), ..Request::new(adapter::named(encoder).unwrap(), target) }
}

fn job<P: AsRef<Path>>(input: &Path, renditions: impl IntoIterator<Item = (Request, P)>) -> JobRequest {
    let rendition = |(encoder, output): (Request, P)| RenditionRequest {
        overwrite: true,
        audio: AudioChoice::None,
        subtitles: SubtitleChoice::None,
        ..RenditionRequest::new(output.as_ref().file_stem().unwrap().to_string_lossy(), output.as_ref(), encoder)
    };
    JobRequest {
        renditions: renditions.into_iter().map(rendition).collect(),
        cache: CachePlan { mode: CacheMode::Ram, budget: ByteSize(1 << 30), spill_dir: None },
        ..JobRequest::new(Input::file(input))
    }
}

fn run(request: &JobRequest) -> Result<Report, Error> {
    repass::av::let_jobs_zero_memory();
    Job::prepare(request, &Cancel::new())?.run(|_| {})
}

/// How many passes each rendition ran by itself.
fn passes(report: &Report) -> Vec<usize> {
    report.renditions.iter().map(|rendition| rendition.passes.len()).collect()
}

/// With `from` in the place of `to`, of the same length.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// With a checksum that matches.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 16;
    let checksum = xxhash_rust::xxh3::xxh3_128(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&checksum);
    bytes
}
