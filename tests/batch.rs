//! Many files at once: by the crate's own interface, and from the command line.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use media::{clip, packets, text, within};
use repass::adapter;
use repass::batch::{self, BatchEvent, BatchRequest, Outcome};
use repass::cache::{CacheMode, CachePlan};
use repass::error::{Error, Refusal};
use repass::event::{Cancel, Event};
use repass::job::{JobRequest, RenditionRequest};
use repass::plan::Request;
use repass::rate::{BitRate, ByteSize, Seconds, Target};
use repass::source::Input;
use serde_json::Value;

// ---- the crate

#[test]
fn jobs_side_by_side_give_the_bits_of_jobs_one_after_another() {
    within(120, || {
        let place = Place::with_clips(4);
        let alone = place.batch("alone", 1);
        let beside = place.batch("beside", 3);
        // A budget divided by three keeps less of each, and the rest is decoded again: no difference either.
        let scarce = place.batch("scarce", 3);
        let scarce = BatchRequest { jobs: scarce.jobs.into_iter().map(with_little_cache).collect(), ..scarce };
        for batch in [&alone, &beside, &scarce] {
            assert!(outcomes(batch).iter().all(|outcome| matches!(outcome, Outcome::Done(_))));
        }
        for (job, expected) in alone.jobs.iter().enumerate() {
            let expected = packets(&expected.renditions[0].output);
            assert_eq!(packets(&beside.jobs[job].renditions[0].output), expected, "{job}");
            assert_eq!(packets(&scarce.jobs[job].renditions[0].output), expected, "{job}");
        }
    });
}

#[test]
fn a_job_that_fails_stops_no_other_and_each_has_its_outcome() {
    within(120, || {
        let place = Place::with_clips(3);
        fs::write(place.path("1.mp4"), "no video").unwrap();
        let outcomes = outcomes(&place.batch("out", 2));
        let codes: Vec<u8> = outcomes.iter().map(Outcome::exit_code).collect();
        assert_eq!(codes, [0, 4, 0]);
        assert!(matches!(&outcomes[1], Outcome::Failed(Error::Input { path, .. }) if path.ends_with("1.mp4")));
    });
}

#[test]
fn two_jobs_really_run_at_a_time_and_no_more() {
    within(120, || {
        let place = Place::with_clips(4);
        let (mut running, mut most) = (0, 0);
        let batch = place.batch("out", 2);
        batch::run(&batch, &Cancel::new(), |_, event| match event {
            BatchEvent::Started(_) => {
                running += 1;
                most = most.max(running);
            }
            BatchEvent::Ended(_) => running -= 1,
            BatchEvent::Job(_) => {}
        })
        .unwrap();
        assert_eq!(most, 2);
    });
}

#[test]
fn jobs_side_by_side_share_the_threads_and_the_memory_that_were_asked_for() {
    within(120, || {
        let place = Place::with_clips(2);
        let mut batch = place.batch("out", 2);
        for job in &mut batch.jobs {
            (job.decoder_threads, job.renditions[0].encoder.threads) = (Some(5), Some(4));
        }
        let mut plans = Vec::new();
        batch::run(&batch, &Cancel::new(), |_, event| {
            if let BatchEvent::Started(plan) = event {
                plans.push(plan.clone());
            }
        })
        .unwrap();
        assert_eq!(plans.len(), 2);
        for plan in plans {
            assert_eq!((plan.cache.budget, plan.decoder_threads), (ByteSize(1 << 27), Some(2)));
            for step in &plan.renditions[0].encoder.steps {
                let threads = step.settings.iter().find(|setting| setting.option == "threads").unwrap();
                assert_eq!(threads.value, "2");
            }
        }
    });
}

#[test]
fn a_package_is_done_only_while_all_its_files_are_as_they_were() {
    within(200, || {
        let place = Place::with_clips(1);
        for name in ["out/a.m3u8", "out/b.mpd"] {
            let mut batch = place.batch("out", 1);
            batch.jobs[0].renditions[0].name = "one".to_owned();
            batch.jobs[0].renditions[0].output = place.path(name);
            batch.jobs[0].renditions[0].encoder.options = Vec::new();
            assert_eq!(states(&batch), ["done"], "{name}");
            let again = BatchRequest { resume: true, ..batch };
            assert_eq!(states(&again), ["before"], "{name}");
            let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "m4s");
            let mut files = fs::read_dir(place.path("out")).unwrap().map(|entry| entry.unwrap().path());
            let segment = files.find(|path| {
                is_segment(path) && text(path).contains(if name.ends_with("mpd") { "/b_" } else { "/a_" })
            });
            let segment = segment.unwrap();
            let mut bytes = fs::read(&segment).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(&segment, bytes).unwrap();
            assert_eq!(states(&again), ["exists"], "{name}: a segment was changed");
        }
    });
}

#[test]
fn outputs_that_would_meet_are_refused_before_anything_runs() {
    within(60, || {
        let place = Place::with_clips(2);
        let mut same = place.batch("out", 2);
        fs::create_dir(place.path("other")).unwrap();
        same.jobs[1].renditions[0].output = place.path("other/../out/0.mp4");
        let mut read = place.batch("out", 2);
        read.jobs[1].renditions[0].output = place.path("0.mp4");
        for batch in [same, read] {
            let refused = batch::run(&batch, &Cancel::new(), |_, _| panic!("nothing runs")).unwrap_err();
            assert!(matches!(refused, Error::Plan(Refusal::Output { .. })), "{refused}");
        }
        assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 0);
    });
}

#[test]
fn a_stop_ends_what_runs_and_begins_nothing_more() {
    within(60, || {
        let place = Place::with_clips(4);
        let cancel = Cancel::new();
        let outcomes = batch::run(&place.batch("out", 2), &cancel, |_, event| {
            if let BatchEvent::Started(_) = event {
                cancel.stop();
            }
        })
        .unwrap();
        assert!(outcomes.iter().all(|outcome| outcome.exit_code() == 130), "{outcomes:?}");
        assert!(matches!(outcomes[3], Outcome::NotStarted));
        assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 0);
    });
}

#[test]
fn what_is_done_is_skipped_only_while_source_request_and_output_are_the_same() {
    within(200, || {
        let place = Place::with_clips(3);
        let first = place.batch("out", 2);
        assert_eq!(states(&first), ["done", "done", "done"]);
        let again = BatchRequest { resume: true, ..first };
        assert_eq!(states(&again), ["before", "before", "before"]);
        // An output that was touched, a source that changed, one that is gone: made anew, where they may be replaced.
        fs::write(place.path("out/0.mp4"), "cut short").unwrap();
        let changed = clip(place.folder.path(), "1.mp4", "176x144", "24", 20);
        assert_eq!(changed, place.path("1.mp4"));
        fs::remove_file(place.path("out/2.mp4")).unwrap();
        assert_eq!(states(&again), ["exists", "exists", "done"]);
        let replacing = BatchRequest { jobs: again.jobs.iter().cloned().map(replacing).collect(), ..again.clone() };
        assert_eq!(states(&replacing), ["done", "done", "before"]);
        assert_eq!(states(&again), ["before", "before", "before"]);
        let mut other = replacing;
        other.jobs[0].renditions[0].encoder.target = Target::Average(BitRate(100_000));
        assert_eq!(states(&other), ["done", "before", "before"]);
    });
}

#[test]
fn what_decides_nothing_of_the_result_does_not_undo_what_is_done() {
    within(120, || {
        let place = Place::with_clips(2);
        let mut first = place.batch("out", 2);
        first.jobs.iter_mut().for_each(|job| job.renditions[0].encoder.threads = Some(4));
        assert_eq!(states(&first), ["done", "done"]);
        let mut again = BatchRequest { resume: true, ..first };
        again.jobs[1].stall_timeout = Some(Seconds(600.0));
        assert_eq!(states(&again), ["before", "before"]);
        // Alone it has all threads, and is the same job.
        again.jobs.truncate(1);
        assert_eq!(states(&again), ["before"]);
    });
}

#[test]
fn a_torn_or_foreign_journal_is_no_reason_to_fail() {
    within(120, || {
        let place = Place::with_clips(2);
        let journal = place.path("out/.repass-journal.jsonl");
        fs::write(&journal, b"\xff\xfe nonsense\n{\"input\":").unwrap();
        let first = place.batch("out", 1);
        assert_eq!(states(&first), ["done", "done"]);
        assert_eq!(states(&BatchRequest { resume: true, ..first.clone() }), ["before", "before"]);
        // As a crash in the middle of the last line leaves it.
        let text = fs::read(&journal).unwrap();
        fs::write(&journal, &text[..text.len() - 9]).unwrap();
        assert_eq!(states(&BatchRequest { resume: true, ..first }), ["before", "exists"]);
    });
}

// ---- the command line

#[test]
fn a_pattern_and_a_template_encode_every_file_and_the_summary_lists_each() {
    within(120, || {
        let place = Place::with_clips(3);
        // As other systems leave beside a file.
        fs::write(place.path("._0.mp4"), "no video").unwrap();
        let ended = place.repass(&["encode", "*.mp4", "-o", "out/{stem}.mkv", "-c", "libx264", "-b", "200k"]);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let said = String::from_utf8(ended.stdout).unwrap();
        for name in ["out/0.mkv", "out/1.mkv", "out/2.mkv", "3 of 3 files done, 2 at a time"] {
            assert!(said.contains(name), "{said}");
        }
        assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
        assert!(place.path("out/2.mkv").exists());
    });
}

#[test]
fn the_worst_exit_code_is_that_of_all() {
    within(120, || {
        let place = Place::with_clips(3);
        fs::write(place.path("1.mp4"), "no video").unwrap();
        fs::write(place.path("out/2.mp4"), "precious").unwrap();
        let arguments = ["encode", "0.mp4", "1.mp4", "2.mp4", "-o", "out/{stem}.mp4", "-c", "libx264", "-b", "200k"];
        let ended = place.repass(&arguments);
        assert_eq!(ended.status.code(), Some(4), "{ended:?}");
        let (said, told) = (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
        for part in ["done ", "failed ", "out/2.mp4: exists; -y overwrites it", "1 of 3 files done"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(told.contains("repass: 1.mp4: ") && told.ends_with("repass: 2 of 3 files not encoded\n"), "{told}");
        assert_eq!(fs::read_to_string(place.path("out/2.mp4")).unwrap(), "precious");
        let resumed = place.repass(&[&arguments[..], &["--resume", "-y", "--json"]].concat());
        assert_eq!(resumed.status.code(), Some(4));
        let value: Value = serde_json::from_slice(&resumed.stdout).unwrap();
        let states: Vec<&str> = (0..3).map(|file| value["files"][file]["state"].as_str().unwrap()).collect();
        assert_eq!((states, &value["exit_code"]), (vec!["done_before", "failed", "done"], &Value::from(4)));
    });
}

#[test]
fn events_as_json_say_how_each_file_ended() {
    within(120, || {
        let place = Place::with_clips(2);
        fs::write(place.path("1.mp4"), "no video").unwrap();
        let arguments = ["encode", "0.mp4", "1.mp4", "-o", "out/{stem}.mkv", "-y", "-c", "libx264", "-b", "200k"];
        for json in [&[][..], &["--json"]] {
            let ended = place.repass(&[&arguments[..], &["--progress", "json"], json].concat());
            assert_eq!(ended.status.code(), Some(4), "{ended:?}");
            let said = String::from_utf8(ended.stdout).unwrap();
            let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let of = |file: u8| {
                events.iter().find(|event| event["event"] == "ended" && event["file"] == file).unwrap().clone()
            };
            assert_eq!(of(0)["state"], "done", "{said}");
            assert!(of(1)["error"].as_str().unwrap().contains("1.mp4") && of(1)["exit_code"] == 4, "{said}");
            assert!(events.iter().all(|event| event["event"].is_string()), "{said}");
            assert_eq!(events.last().unwrap()["event"] == "report", !json.is_empty(), "{said}");
            assert!(String::from_utf8(ended.stderr).unwrap().contains("repass: 1.mp4: "));
        }
    });
}

#[test]
fn a_plan_of_several_files_refuses_what_encode_would_and_is_one_object() {
    within(60, || {
        let place = Place::with_clips(2);
        fs::create_dir(place.path("other")).unwrap();
        fs::copy(place.path("0.mp4"), place.path("other/0.mp4")).unwrap();
        let rest = ["-o", "out/{stem}.mkv", "-c", "libx264", "-b", "200k", "--json"];
        for command in ["plan", "encode"] {
            let refused = place.repass(&[&[command, "0.mp4", "other/0.mp4"], &rest[..]].concat());
            assert_eq!(refused.status.code(), Some(3), "{refused:?}");
            assert!(String::from_utf8(refused.stderr).unwrap().contains("would both be written there"));
        }
        let planned = place.repass(&[&["plan", "0.mp4", "1.mp4"], &rest[..]].concat());
        let value: Value = serde_json::from_slice(&planned.stdout).unwrap();
        assert_eq!((&value["files"][1]["input"], &value["files"][1]["plan"]["runs"]), (&"1.mp4".into(), &2.into()));
    });
}

#[test]
fn several_files_for_one_name_are_bad_usage() {
    within(60, || {
        let place = Place::with_clips(2);
        for (arguments, why) in [
            (vec!["0.mp4", "1.mp4", "-o", "out.mkv"], "need {stem}"),
            (vec!["0.mp4", "1.mp4", "-o", "{stem}.mkv", "--stats", "x.stats"], "they are of one file"),
            (vec!["*.nothing", "-o", "{stem}.mkv"], "no file matches"),
        ] {
            let ended = place.repass(&[&["encode", "-c", "libx264", "-b", "200k"], arguments.as_slice()].concat());
            assert_eq!(ended.status.code(), Some(2), "{ended:?}");
            assert!(String::from_utf8(ended.stderr).unwrap().contains(why), "{arguments:?}");
        }
    });
}

#[test]
fn an_interrupt_stops_all_running_jobs() {
    within(60, || {
        let place = Place::with_clips(3);
        let arguments =
            ["encode", "*.mp4", "-o", "out/{stem}.mkv", "-c", "libx264", "-b", "200k", "--progress", "json"];
        let mut command = place.command(&arguments);
        let mut child = command.args(["--preset", "placebo"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("\"file\":1")), "the second job began too");
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
        let rest = lines.count();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{rest} more events");
        let left: Vec<_> = fs::read_dir(place.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name == "2.mkv" || name.to_string_lossy().contains(".part")), "{left:?}");
    });
}

#[test]
fn a_first_pass_is_kept_and_used_from_the_command_line() {
    within(120, || {
        let place = Place::with_clips(1);
        let encode = ["encode", "0.mp4", "-c", "libx264", "--preset", "veryfast", "-b", "200k"];
        let kept =
            place.repass(&["analyse", "0.mp4", "-c", "libx264", "--preset", "veryfast", "-b", "200k", "-o", "0.stats"]);
        assert_eq!(kept.status.code(), Some(0), "{kept:?}");
        assert!(String::from_utf8(kept.stdout).unwrap().contains("24 frames"));
        let used = place.repass(&[&encode[..], &["-o", "out/second.mkv", "--stats", "0.stats"]].concat());
        let said = String::from_utf8(used.stdout).unwrap();
        assert!(said.contains("kept in 0.stats"), "{said}");
        place.repass(&[&encode[..], &["-o", "out/whole.mkv"]].concat());
        assert_eq!(packets(&place.path("out/second.mkv")), packets(&place.path("out/whole.mkv")));
        let other =
            place.repass(&[&encode[..], &["-o", "out/other.mkv", "--stats", "0.stats", "--opt", "bf=1"]].concat());
        assert_eq!(other.status.code(), Some(3));
        assert!(String::from_utf8(other.stderr).unwrap().contains("bf: not set then, 1 now"));
        let planned = place.repass(&[&["plan"], &encode[1..], &["-o", "out/p.mkv", "--stats", "0.stats"]].concat());
        assert!(String::from_utf8(planned.stdout).unwrap().contains("not run: its statistics are in 0.stats"));
    });
}

// ---- material

struct Place {
    folder: tempfile::TempDir,
    clips: Vec<PathBuf>,
}

impl Place {
    /// With `0.mp4`, `1.mp4` and so on, a second each, and an empty folder `out`.
    fn with_clips(count: usize) -> Self {
        repass::av::let_jobs_zero_memory();
        let folder = tempfile::tempdir().unwrap();
        let clips =
            (0..count).map(|number| clip(folder.path(), &format!("{number}.mp4"), "176x144", "24", 24)).collect();
        fs::create_dir(folder.path().join("out")).unwrap();
        Place { folder, clips }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A job for each clip, into a folder of that name.
    fn batch(&self, folder: &str, side_by_side: usize) -> BatchRequest {
        fs::create_dir_all(self.path(folder)).unwrap();
        let job = |input: &PathBuf| job(input, &self.path(folder).join(input.file_name().unwrap()));
        BatchRequest { jobs: self.clips.iter().map(job).collect(), side_by_side, resume: false }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_repass"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn repass(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn job(input: &Path, output: &Path) -> JobRequest {
    let target = Target::Average(BitRate(200_000));
    let encoder = Request {
        preset: Some("veryfast".to_owned()),
        // A number would be divided among the jobs, and the bits depend on it.
        threads: None,
        ..Request::new(adapter::named("libx264").unwrap(), target)
    };
    let renditions = vec![RenditionRequest::new(text(output), output, encoder)];
    let cache = CachePlan { mode: CacheMode::Ram, budget: ByteSize(1 << 28), spill_dir: None };
    JobRequest { renditions, cache, ..JobRequest::new(Input::file(input)) }
}

fn with_little_cache(job: JobRequest) -> JobRequest {
    JobRequest { cache: CachePlan { budget: ByteSize(176 * 144 * 3 / 2 * 60), ..job.cache }, ..job }
}

fn replacing(mut job: JobRequest) -> JobRequest {
    job.renditions[0].overwrite = true;
    job
}

fn outcomes(batch: &BatchRequest) -> Vec<Outcome> {
    let warned = RefCell::new(Vec::new());
    let outcomes = batch::run(batch, &Cancel::new(), |_, event| {
        if let BatchEvent::Job(Event::Warning { text }) = event {
            warned.borrow_mut().push(text.clone());
        }
    });
    assert_eq!(warned.into_inner(), [""; 0]);
    outcomes.unwrap()
}

fn states(batch: &BatchRequest) -> Vec<&'static str> {
    let state = |outcome: Outcome| match outcome {
        Outcome::Done(_) => "done",
        Outcome::DoneBefore => "before",
        Outcome::Failed(Error::Plan(Refusal::Exists { .. })) => "exists",
        other => panic!("{other:?}"),
    };
    outcomes(batch).into_iter().map(state).collect()
}
