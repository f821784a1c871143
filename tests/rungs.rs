//! Renditions of a ladder against lone encodes of the same settings, in every encoder, and against the frames that the ffmpeg
//! program scales.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod media;

use std::path::Path;

use media::{clip, ffmpeg, frames, has_encoder, packets, text, within};
use repass::adapter::{self, StatsRoute};
use repass::cache::{CacheMode, CachePlan};
use repass::event::Cancel;
use repass::job::{AudioChoice, FirstPass, Job, JobRequest, RenditionRequest};
use repass::plan::{FirstPassChoice, Request};
use repass::rate::{BitRate, ByteSize, Target};
use repass::report::Report;
use repass::source::Input;

/// A rendition of an encoder at its quickest that repeats itself.
fn rung(folder: &Path, encoder: &'static str, size: &str, target: Target) -> RenditionRequest {
    let (preset, options) = match encoder {
        "libsvtav1" => ("12", vec![("svtav1-params".to_owned(), "lp=1".to_owned())]),
        "libaom-av1" => ("8", Vec::new()),
        _ => ("veryfast", Vec::new()),
    };
    let request =
        Request { preset: Some(preset.to_owned()), options, ..Request::new(adapter::named(encoder).unwrap(), target) };
    let name = format!("{encoder}-{size}-{target}").replace([' ', '/'], "");
    let output = folder.join(format!("{name}.mkv"));
    RenditionRequest {
        size: size.parse().unwrap(),
        audio: AudioChoice::None,
        overwrite: true,
        ..RenditionRequest::new(name, output, request)
    }
}

fn job(input: &Path, renditions: Vec<RenditionRequest>) -> JobRequest {
    let cache = CachePlan { mode: CacheMode::Ram, budget: ByteSize(1 << 30), spill_dir: None };
    JobRequest { renditions, cache, ..JobRequest::new(Input::file(input)) }
}

fn run(request: &JobRequest) -> Report {
    // x264 reads memory that nobody wrote.
    repass::av::let_jobs_zero_memory();
    Job::prepare(request, &Cancel::new()).unwrap().run(|_| {}).unwrap()
}

fn rate(bps: u64) -> Target {
    Target::Average(BitRate(bps))
}

/// The packets of a lone encode.
fn alone(input: &Path, rung: &RenditionRequest) -> String {
    run(&job(input, vec![rung.clone()]));
    packets(&rung.output)
}

/// Runs the renditions together and holds each to a lone encode of itself. An encoder that does not repeat itself is shown to
/// be so by two lone encodes, and said.
fn as_if_alone(input: &Path, rungs: &[RenditionRequest]) -> Report {
    let lone: Vec<[String; 2]> = rungs.iter().map(|rung| [alone(input, rung), alone(input, rung)]).collect();
    let report = run(&job(input, rungs.to_vec()));
    for (rung, [one, two]) in rungs.iter().zip(&lone) {
        if one == two {
            assert_eq!(packets(&rung.output), *one, "{} differs from a lone encode", rung.name);
        } else {
            println!("{}: not compared, two lone encodes differ from one another", rung.name);
        }
    }
    report
}

/// Two passes, where the encoder has them here, else constant quality.
fn two_passes(encoder: &'static str, bps: u64) -> Target {
    match repass::probe::capabilities(adapter::named(encoder).unwrap()).route {
        Some(_) => rate(bps),
        None => {
            println!("{encoder}: no two passes here, so one at constant quality");
            Target::Quality(45.0)
        }
    }
}

#[test]
fn every_rendition_of_every_encoder_has_the_bits_of_a_lone_encode() {
    for encoder in ["libx264", "libx265", "libvpx-vp9", "libaom-av1", "libsvtav1"] {
        if !has_encoder(encoder) {
            continue;
        }
        within(300, move || {
            let folder = tempfile::tempdir().unwrap();
            // No side below the 128 pixels that the first pass of SVT-AV1 takes.
            let input = clip(folder.path(), "in.mp4", "384x288", "24", 36);
            let rungs = [("source", 200_000), ("144p", 80_000)]
                .map(|(size, bps)| rung(folder.path(), encoder, size, two_passes(encoder, bps)));
            let report = as_if_alone(&input, &rungs);
            let passes = report.renditions.iter().map(|rendition| rendition.passes.len());
            let wanted = if matches!(rungs[0].encoder.target, Target::Average(_)) { 2 } else { 1 };
            assert!(passes.eq([wanted, wanted]), "{encoder}: sizes share no first pass");
        });
    }
}

#[test]
fn encoders_and_numbers_of_passes_mix_and_change_no_bits() {
    within(400, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "256x144", "24", 36);
        let all = [
            ("libx264", "source", rate(200_000)),
            ("libx264", "72p", Target::Quality(28.0)),
            ("libx265", "72p", rate(80_000)),
            ("libx265", "source", Target::Quality(32.0)),
            ("libvpx-vp9", "source", rate(150_000)),
            ("libaom-av1", "72p", rate(60_000)),
            ("libsvtav1", "source", Target::Quality(45.0)),
        ];
        let here = all.into_iter().filter(|(encoder, ..)| has_encoder(encoder));
        let rungs: Vec<_> = here.map(|(encoder, size, target)| rung(folder.path(), encoder, size, target)).collect();
        let report = as_if_alone(&input, &rungs);
        assert_eq!(report.runs.len(), 2);
        let counts: Vec<usize> = report.renditions.iter().map(|rendition| rendition.passes.len()).collect();
        let wanted = rungs.iter().map(|rung| if matches!(rung.encoder.target, Target::Quality(_)) { 1 } else { 2 });
        assert!(wanted.eq(counts.iter().copied()) || !has_encoder("libvpx-vp9"), "{counts:?}");
    });
}

/// Statistics of x264 and x265 are made for a rate: another one's give other bits, by design. The plan warns, and
/// `--own-first-pass` gives the bits of a lone encode.
#[test]
fn a_shared_first_pass_changes_bits_where_it_says_so_and_one_of_its_own_changes_none() {
    for encoder in ["libx264", "libx265"] {
        if !has_encoder(encoder) {
            continue;
        }
        within(300, move || {
            let folder = tempfile::tempdir().unwrap();
            let input = clip(folder.path(), "in.mp4", "256x144", "24", 36);
            let mut rungs = [200_000, 160_000].map(|bps| rung(folder.path(), encoder, "source", rate(bps)));
            let lone = rungs.each_ref().map(|rung| alone(&input, rung));
            let report = run(&job(&input, rungs.to_vec()));
            assert_eq!(report.renditions[1].first_pass, FirstPass::Another { rendition: 0 });
            assert!(report.warnings.iter().any(|warning| warning.contains("--own-first-pass")), "{report:#?}");
            assert_eq!(packets(&rungs[0].output), lone[0], "{encoder}: the one that it was made for");
            assert_ne!(packets(&rungs[1].output), lone[1], "{encoder}: the warning would be for nothing");
            rungs.iter_mut().for_each(|rung| rung.encoder.first_pass = FirstPassChoice::Own);
            let report = as_if_alone(&input, &rungs);
            assert_eq!(report.warnings, [""; 0], "{encoder}");
        });
    }
}

#[test]
fn the_frames_of_a_rung_are_those_that_the_ffmpeg_program_scales() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "320x180", "24", 24);
        let sizes = [("source", "320:180"), ("120p", "214:120"), ("w120", "120:68"), ("100x100", "100:100")];
        // libx264 at 0 is lossless: what comes out is what the encoder saw.
        let rungs: Vec<_> =
            sizes.iter().map(|(size, _)| rung(folder.path(), "libx264", size, Target::Quality(0.0))).collect();
        run(&job(&input, rungs.clone()));
        let pixels = |all: &str| -> Vec<String> {
            all.lines().map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
        };
        for (rung, (_, size)) in rungs.iter().zip(sizes) {
            let scale = format!("scale={size},format=yuv420p");
            let scaled = ["-i", text(&input), "-map", "0:v:0", "-vf", &scale, "-f", "framemd5", "-"];
            let theirs = String::from_utf8(ffmpeg(&scaled).stdout).unwrap();
            let theirs: String =
                theirs.lines().filter(|line| !line.starts_with('#')).map(|line| line.to_owned() + "\n").collect();
            let ours = pixels(&frames(&rung.output));
            assert_eq!(ours.len(), 24);
            assert_eq!(ours, pixels(&theirs), "{}", rung.name);
        }
    });
}

#[test]
fn svt_av1_takes_part_with_two_passes_where_it_has_them() {
    let route = repass::probe::capabilities(adapter::named("libsvtav1").unwrap()).route;
    if route != Some(StatsRoute::Context) {
        return media::skipped(&format!("no two passes with libsvtav1 here ({route:?})"));
    }
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "256x144", "24", 36);
        let rungs = [
            rung(folder.path(), "libsvtav1", "source", rate(150_000)),
            rung(folder.path(), "libx264", "72p", rate(80_000)),
        ];
        as_if_alone(&input, &rungs);
    });
}
