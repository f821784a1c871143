//! First passes that outlive a crash: taken up by the same job, said and run again where they are of another.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;
mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use media::{packets, within};
use program::{Ended, Place, quick, software_encoders};
use repass::event::{Cancel, Event};
use repass::job::{Job, JobRequest, RenditionRequest, Resume};
use repass::plan::{Passes, Request};
use repass::rate::{BitRate, Target};
use repass::source::Input;
use rustix::process::Signal;
use serde_json::{Value, json};

const JOURNAL: &str = ".out.mkv.repass-pass1";

#[test]
fn a_killed_second_pass_is_resumed_without_its_first_and_gives_the_same_bits() {
    within(280, || {
        for encoder in two_pass_encoders() {
            let place = with_clip("384x216", 4);
            let encode = format!("-c {encoder} -b 200k {}", quick(&encoder));
            assert_eq!(place.run(&format!("encode in.mkv -o whole.mkv {encode}")).code, 0);
            killed_in_pass_2(&place, &format!("encode in.mkv -o out.mkv {encode}"));
            let journal = fs::metadata(place.path(JOURNAL)).unwrap();
            assert_eq!(journal.permissions().mode() & 0o777, 0o600, "{encoder}");

            let planned = place.run(&format!("plan in.mkv -o out.mkv {encode} --resume"));
            assert!(planned.stdout.contains("not run: an earlier run of this job has finished it"), "{planned}");
            let report = resumed(&place, &format!("encode in.mkv -o out.mkv {encode}"));
            assert_eq!(passes(&report), json!([[2]]), "{encoder}");
            assert_eq!(report["renditions"][0]["first_pass"]["resumed"], true, "{encoder}");
            assert_eq!(report["runs"].as_array().unwrap().len(), 1, "{encoder}");
            assert_eq!(packets(&place.path("out.mkv")), packets(&place.path("whole.mkv")), "{encoder}");
            assert_eq!(place.names(), [".repass-journal.jsonl", "in.mkv", "out.mkv", "whole.mkv"], "{encoder}");
        }
    });
}

#[test]
fn a_killed_session_goes_on_from_its_segments_and_gives_the_same_bits() {
    within(120, || {
        let place = with_clip("384x216", 6);
        let encode = "-c libx264 --preset medium -b 300k --passes session --segment 12";
        assert_eq!(place.run(&format!("encode in.mkv -o whole.mkv {encode}")).code, 0);
        let arguments = format!("encode in.mkv -o out.mkv {encode} --progress json --in-child");
        let running = place.start(place.command(&arguments));
        let journal = place.path(".out.mkv.repass-segments");
        // Some segments are in it: its first line alone is shorter.
        while fs::metadata(&journal).map_or(0, |kept| kept.len()) < 30_000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let ended = running.signal(Signal::KILL).end();
        assert_eq!(ended.code, -9, "ended before it was killed: {ended}");
        assert_eq!(fs::metadata(&journal).unwrap().permissions().mode() & 0o777, 0o600);
        let report = resumed(&place, &format!("encode in.mkv -o out.mkv {encode}"));
        assert!(report["renditions"][0]["session"]["taken_up"].as_u64().unwrap() > 0, "{report}");
        assert_eq!(packets(&place.path("out.mkv")), packets(&place.path("whole.mkv")));
        assert_eq!(place.names(), [".repass-journal.jsonl", "in.mkv", "out.mkv", "whole.mkv"]);
    });
}

#[test]
fn several_renditions_and_a_size_target_are_resumed_too() {
    within(200, || {
        let size = "-c libx264 --preset veryfast --size 150k";
        let shared = "-c libx264 --preset veryfast -b 100k,200k,300k";
        let rungs = "-c libx264 --preset veryfast --rung 216p=200k --rung w128=60k";
        for (encode, output, kept) in [(size, "out", 1), (shared, "{name}", 1), (rungs, "{name}", 2)] {
            let place = with_clip("384x216", 4);
            for folder in ["whole", "again"] {
                fs::create_dir(place.path(folder)).unwrap();
            }
            assert_eq!(place.run(&format!("encode in.mkv -o whole/{output}.mkv {encode}")).code, 0, "{encode}");
            killed_in_pass_2(&place, &format!("encode in.mkv -o again/{output}.mkv {encode}"));
            let names = media::names(&place.path("again"));
            assert_eq!(names.iter().filter(|name| name.ends_with(".repass-pass1")).count(), kept, "{names:?}");
            let report = resumed(&place, &format!("encode in.mkv -o again/{output}.mkv {encode}"));
            assert!(passes(&report).as_array().unwrap().iter().all(|passes| *passes == json!([2])), "{encode}");
            assert_eq!(report["runs"].as_array().unwrap().len(), 1, "{encode}");
            for name in media::names(&place.path("whole")) {
                let (whole, again) = (place.path("whole").join(&name), place.path("again").join(&name));
                assert_eq!(packets(&again), packets(&whole), "{encode}: {name}");
            }
            let left = media::names(&place.path("again"));
            assert!(!left.iter().any(|name| name.contains("repass-pass1")), "{left:?}");
        }
    });
}

#[test]
fn a_package_is_resumed_whole() {
    within(120, || {
        let place = with_clip("384x216", 4);
        let encode = |folder: &str| {
            format!(
                "encode in.mkv -o {folder}/m.m3u8 -c libx264 --preset veryfast --rung 216p=200k --rung w128=crf:40 --audio none"
            )
        };
        assert_eq!(place.run(&encode("whole")).code, 0);
        killed_in_pass_2(&place, &encode("again"));
        let report = resumed(&place, &encode("again"));
        assert_eq!(passes(&report), json!([[2], [1]]));
        for segment in ["m_216p_init.mp4", "m_216p_00000.m4s", "m_216p_00001.m4s"] {
            let read = |folder: &str| fs::read(place.path(folder).join(segment)).unwrap();
            assert!(read("whole") == read("again"), "{segment}");
        }
        // x264 165 is not repeatable at this width.
        assert!(place.path("again/m_w128_00001.m4s").exists());
    });
}

#[test]
fn what_is_stale_foreign_or_damaged_is_said_and_the_first_pass_is_run_again() {
    within(200, || {
        let place = with_clip("384x216", 2);
        let encode = "encode in.mkv -o out.mkv -c libx264 --preset veryfast";
        killed_in_pass_2(&place, &format!("{encode} -b 200k"));
        let journal = fs::read(place.path(JOURNAL)).unwrap();
        let source = fs::read(place.path("in.mkv")).unwrap();
        let written = fs::metadata(place.path("in.mkv")).unwrap().modified().unwrap();
        let untouched = || {
            fs::write(place.path("in.mkv"), &source).unwrap();
            fs::File::options().write(true).open(place.path("in.mkv")).unwrap().set_modified(written).unwrap();
        };
        let mut flipped = journal.clone();
        flipped[journal.len() / 2] ^= 4;
        let cases: [(&str, &[u8], &str, &str); 8] = [
            ("-b 150k", &journal, "", "target: 200 kb/s then, 150 kb/s now"),
            ("-b 200k --maxrate 300k --bufsize 300k", &journal, "", "the peak bit rate is another now"),
            ("-b 200k --opt bf=1", &journal, "", "bf: not set then, 1 now"),
            ("-b 200k --vf hflip", &journal, "", "what is read of the source, its filters or the sizes are others now"),
            ("-b 200k -t 1", &journal, "", "what is read of the source, its filters or the sizes are others now"),
            ("-b 200k", &journal, "touched", "the source is another file now"),
            ("-b 200k", &flipped, "", "the checksum does not match"),
            ("-b 200k", b"something else", "", "ends too early"),
        ];
        for (more, journal, source, why) in cases {
            untouched();
            if source == "touched" {
                let file = fs::File::options().write(true).open(place.path("in.mkv")).unwrap();
                file.set_modified(written + Duration::from_secs(1)).unwrap();
            }
            fs::write(place.path(JOURNAL), journal).unwrap();
            let report = resumed(&place, &format!("{encode} -y {more}"));
            assert_eq!(passes(&report), json!([[1, 2]]), "{more}");
            let warnings = report["warnings"].to_string();
            assert!(warnings.contains("is not used, and is run again") && warnings.contains(why), "{more}: {warnings}");
            assert!(!place.names().contains(&JOURNAL.to_owned()), "{more}");
            fs::remove_file(place.path(".repass-journal.jsonl")).unwrap();
        }
    });
}

#[test]
fn a_source_with_other_frames_never_reaches_the_encoder_and_the_next_run_begins_anew() {
    within(120, || {
        // Of the same size, time and ends: only the frames themselves tell.
        let place = Place::empty();
        let raw = "-f lavfi -i testsrc2=s=96x64:r=24:d=2 -f rawvideo -pix_fmt yuv420p";
        place.make("in.yuv", raw);
        let source = "--input-format rawvideo --input-opt video_size=96x64 --input-opt framerate=24";
        let encode = format!("encode in.yuv -o out.mkv -c libx264 -b 60k {source}");
        killed_in_pass_2(&place, &format!("{encode} --preset placebo"));
        let written = fs::metadata(place.path("in.yuv")).unwrap().modified().unwrap();
        let mut bytes = fs::read(place.path("in.yuv")).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(place.path("in.yuv"), bytes).unwrap();
        fs::File::options().write(true).open(place.path("in.yuv")).unwrap().set_modified(written).unwrap();
        let refused = place.run(&format!("{encode} --preset placebo --resume"));
        assert_eq!(refused.code, 4, "{refused}");
        assert!(refused.stderr.contains("has other pixels"), "{refused}");
        assert_eq!(place.names(), ["in.yuv"], "it would end the next run in the same way");
        assert_eq!(passes(&resumed(&place, &format!("{encode} --preset placebo"))), json!([[1, 2]]));
    });
}

#[test]
fn a_stop_leaves_a_first_pass_only_where_resuming_is_asked_for() {
    within(120, || {
        let place = with_clip("640x360", 8);
        let encode = "encode in.mkv -o out.mkv -c libx264 -b 200k --preset slower";
        for (more, left) in [("", vec!["in.mkv"]), ("--resume", vec![JOURNAL, "in.mkv"])] {
            let mut running = place.start(place.command(&format!("{encode} {more} --progress json")));
            running.wait_for("\"pass\":2");
            assert_eq!(running.signal(Signal::TERM).end().code, 130);
            assert_eq!(place.names(), left, "{more}");
        }
        assert_eq!(passes(&resumed(&place, encode)), json!([[2]]));
    });
}

#[test]
fn a_batch_skips_what_is_done_and_resumes_what_was_under_way() {
    within(120, || {
        let place = with_clip("384x216", 4);
        fs::copy(place.path("in.mkv"), place.path("more.mkv")).unwrap();
        fs::create_dir(place.path("done")).unwrap();
        let encode = "encode in.mkv more.mkv -o done/{stem}.mkv -c libx264 -b 200k --preset slower --jobs 1";
        let mut running = place.start(place.command(&format!("{encode} --progress json")));
        running.wait_for("\"event\":\"run\",\"file\":1,\"of\":2,\"run\":2");
        assert_eq!(running.signal(Signal::KILL).end().code, -9);
        let ended = place.run(&format!("{encode} --resume --json"));
        assert_eq!(ended.code, 0, "{ended}");
        let value: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(value["files"][0]["state"], "done_before", "{ended}");
        assert_eq!(passes(&value["files"][1]["report"]), json!([[2]]), "{ended}");
        assert_eq!(packets(&place.path("done/in.mkv")), packets(&place.path("done/more.mkv")));
        let again = place.run(&format!("{encode} --resume"));
        assert_eq!(again.stdout.matches("done by an earlier run").count(), 2, "{again}");
    });
}

#[test]
fn a_first_pass_that_cannot_be_kept_costs_nothing_but_a_warning() {
    within(60, || {
        let place = with_clip("384x216", 1);
        fs::create_dir(place.path(JOURNAL)).unwrap();
        let ended = place.run("encode in.mkv -o out.mkv -c libx264 -b 200k --json");
        assert_eq!(ended.code, 0, "{ended}");
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert!(report["warnings"].to_string().contains("cannot be kept for --resume"), "{report}");
    });
}

#[test]
fn a_session_beside_a_resumed_first_pass_waits_for_nobody() {
    within(120, || {
        let place = with_clip("128x96", 2);
        let adapter = repass::adapter::named("libx264").unwrap();
        let encoder = |bps, passes| Request {
            passes,
            preset: Some("ultrafast".to_owned()),
            ..Request::new(adapter, Target::Average(BitRate(bps)))
        };
        let rendition = |name: &str, encoder| RenditionRequest::new(name, place.path(&format!("{name}.mkv")), encoder);
        let request = JobRequest {
            renditions: vec![
                rendition("two", encoder(200_000, Passes::Two)),
                rendition("session", encoder(150_000, Passes::Session)),
            ],
            resume: Resume::TakeUp,
            ..JobRequest::new(Input::file(place.path("in.mkv")))
        };
        let cancel = Cancel::new();
        let stopped = Job::prepare(&request, &cancel).unwrap().run(|event| {
            if matches!(event, Event::Run { run: 2, .. }) {
                cancel.stop();
            }
        });
        assert!(stopped.is_err());
        let job = Job::prepare(&request, &Cancel::new()).unwrap();
        assert_eq!(job.plan().runs, 2);
        let report = job.run(|_| {}).unwrap();
        assert_eq!(report.runs.len(), 2);
        assert!(report.renditions.iter().all(|rendition| rendition.verified));
    });
}

// --- material

fn two_pass_encoders() -> Vec<String> {
    let known = ["libx264", "libx265", "libvpx-vp9", "libaom-av1"];
    let here = software_encoders();
    let (run, missing): (Vec<&str>, Vec<&str>) = known.iter().partition(|name| here.contains(&(**name).to_owned()));
    missing.iter().for_each(|name| media::skipped(&format!("{name} is not in this FFmpeg")));
    run.into_iter().map(str::to_owned).collect()
}

/// With `in.mkv`: so many seconds of moving picture and a tone.
fn with_clip(size: &str, seconds: u32) -> Place {
    let place = Place::empty();
    let graph = format!(
        "-f lavfi -i testsrc2=s={size}:r=24:d={seconds},noise=alls=20:all_seed=3 -f lavfi -i sine=d={seconds} -c:v ffv1 -c:a aac"
    );
    place.make("in.mkv", &graph);
    place
}

/// Kills a job as soon as its second pass has begun.
fn killed_in_pass_2(place: &Place, arguments: &str) {
    // As the child of an isolated job, so that it is the encoding process that is killed.
    let mut running = place.start(place.command(&format!("{arguments} --progress json --in-child")));
    running.wait_for("\"run\":2,");
    let ended = running.signal(Signal::KILL).end();
    assert_eq!(ended.code, -9, "{arguments} ended before it was killed: {ended}");
}

/// The report of the same job, gone on with.
fn resumed(place: &Place, arguments: &str) -> Value {
    let ended: Ended = place.run(&format!("{arguments} --resume --json"));
    assert_eq!(ended.code, 0, "{arguments}: {ended}");
    let value: Value = serde_json::from_str(&ended.stdout).unwrap();
    value["files"][0]["report"].clone()
}

/// The passes of each rendition that were run.
fn passes(report: &Value) -> Value {
    let numbers = |rendition: &Value| -> Value {
        rendition["passes"].as_array().unwrap().iter().map(|pass| pass["number"].clone()).collect()
    };
    report["renditions"].as_array().unwrap_or_else(|| panic!("{report}")).iter().map(numbers).collect()
}

#[test]
fn a_link_or_the_file_of_another_is_not_taken_up() {
    within(60, || {
        let place = with_clip("384x216", 1);
        let encode = "encode in.mkv -o out.mkv -c libx264 -b 200k";
        killed_in_pass_2(&place, encode);
        fs::rename(place.path(JOURNAL), place.path("elsewhere")).unwrap();
        std::os::unix::fs::symlink(place.path("elsewhere"), place.path(JOURNAL)).unwrap();
        let report = resumed(&place, encode);
        assert!(report["warnings"].to_string().contains("no file of this user's"), "{report}");
        let journal: &Path = &place.path(JOURNAL);
        assert!(fs::symlink_metadata(journal).is_err() && place.path("elsewhere").exists());
    });
}
