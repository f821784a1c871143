//! Sessions: segments that are coded apart and again, until the whole has its bit rate, and that make up one valid stream.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;

use std::path::{Path, PathBuf};

use media::{clip, ffmpeg, ffprobe, frames, has_encoder, packets, text, within};
use repass::adapter;
use repass::cache::{CacheMode, CachePlan};
use repass::error::{Error, Refusal};
use repass::event::{Cancel, Event};
use repass::job::{Job, JobRequest, RenditionRequest};
use repass::plan::{LEVEL, Passes, Request, SessionRequest};
use repass::rate::{BitRate, ByteSize, Cap, Target};
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
        session: SessionRequest { segment_frames: Some(16), ..SessionRequest::default() },
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
        let trim = format!("trim=start_frame={from}:end_frame={to},setpts=PTS-STARTPTS");
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
