//! Devices that fail: sectors that cannot be read, disks that fill up at any byte, writes that are torn, disks that hang, and
//! clocks that jump. A library put in front of libc (`program/fault.c`) lets them.
//!
//! The invariant of all: the final name is absent, or holds what an undisturbed run would have put there.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;
mod program;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use media::{names, within};
use program::{Ended, Place, shim};

/// A folder with clips in every container in which sound and pictures lie differently.
struct Bench {
    place: Place,
    shim: PathBuf,
}

const CLIPS: [(&str, &str); 6] = [
    ("in.mkv", "-c:v mpeg4 -c:a aac"),
    ("cues.webm", "-c:v libvpx -deadline realtime -c:a libopus"),
    ("moov_last.mp4", "-c:v mpeg4 -c:a aac"),
    // A second of pictures, then a second of sound: whoever reads the pictures jumps over the sound.
    ("apart.mov", "-c:v mpeg4 -g 48 -c:a pcm_s16le -ar 48000 -ac 2 -movflags frag_keyframe+empty_moov"),
    ("in.ts", "-c:v mpeg2video -c:a mp2"),
    ("in.avi", "-c:v mpeg4 -c:a mp2"),
];

const JOB: &str = "-c libx264 -b 400k --preset ultrafast --threads 1 --progress none";

impl Bench {
    fn new() -> Option<Self> {
        let place = Place::empty();
        let shim = shim(place.scratch.path())?;
        Some(Bench { place, shim })
    }

    fn make(&self, name: &str, codecs: &str) {
        self.place
            .make(name, &format!("-f lavfi -i testsrc2=s=96x64:r=24:d=2 -f lavfi -i sine=d=2 -shortest {codecs}"));
    }

    fn run(&self, fault: (&str, &str, u64), arguments: &str) -> Ended {
        self.place.start(self.place.faulty(&self.shim, fault, arguments)).end()
    }

    /// The packets of the output, and nothing else left in the folder but it and these.
    fn taken(&self, output: &str) -> (String, String) {
        let path = self.place.path(output);
        let taken = (media::packets(&path), sound(&path));
        fs::remove_file(path).unwrap();
        taken
    }

    fn holds_only(&self, held: &[&str], what: &str) {
        // What is hidden and no part of an output is kept on purpose: journals, first passes for a run to come.
        let found = self.place.names().into_iter().filter(|name| !name.starts_with('.') || name.ends_with(".part"));
        assert_eq!(found.collect::<Vec<_>>(), held, "{what}");
        let left: Vec<String> = names(self.place.scratch.path());
        assert_eq!(left, ["fault.so"], "{what}");
    }
}

fn sound(path: &std::path::Path) -> String {
    let output = media::ffmpeg(&["-i", media::text(path), "-map", "0:a?", "-c", "copy", "-f", "md5", "-"]);
    String::from_utf8(output.stdout).unwrap()
}

// --- reading -----------------------------------------------------------------------------------------------------------

/// One sector of 4 KiB, anywhere: also in the sound, which the reader of the pictures does not look at.
#[test]
fn a_sector_that_cannot_be_read_is_damage_wherever_it_is() {
    let Some(bench) = Bench::new() else { return };
    within(280, move || {
        for (input, codecs) in CLIPS {
            bench.make(input, codecs);
            let encode = format!("encode {input} -o out.mkv {JOB} --cache none");
            assert_eq!(bench.place.run(&encode).code, 0, "{input}");
            let whole = bench.taken("out.mkv");
            let bytes = bench.place.path(input).metadata().unwrap().len();
            let mut refused = 0;
            const POINTS: u64 = 16;
            for at in (0..POINTS).map(|part| bytes * part / POINTS).chain([bytes - 100]) {
                let what = format!("{input}, sector at {at} of {bytes}");
                let ended = bench.run(("read-error", input, at), &encode);
                match ended.code {
                    // An index that is not needed, or a part that nobody reads.
                    0 => assert!(bench.taken("out.mkv") == whole, "{what}: something is missing: {ended}"),
                    4 => refused += 1,
                    _ => panic!("{what}: {ended}"),
                }
                bench.holds_only(&[input], &what);
                let kept = bench.run(("read-error", input, at), &format!("{encode} --keep-damaged --json"));
                match kept.code {
                    0 if ended.code == 4 => {
                        let report: serde_json::Value = serde_json::from_str(&kept.stdout).unwrap();
                        assert!(report["damage"].is_object(), "{what}: {kept}");
                        bench.taken("out.mkv");
                    }
                    0 => drop(bench.taken("out.mkv")),
                    4 => {}
                    _ => panic!("{what}, kept: {kept}"),
                }
            }
            println!("{input}: {refused} of {} refused", POINTS + 1);
            assert!(refused > POINTS / 2, "{input}");
            fs::remove_file(bench.place.path(input)).unwrap();
        }
    });
}

#[test]
fn short_reads_and_short_writes_change_nothing() {
    let Some(bench) = Bench::new() else { return };
    within(60, move || {
        bench.make("in.mkv", "-c:v mpeg4 -c:a aac");
        for output in ["out.mkv", "out.mp4"] {
            let encode = format!("encode in.mkv -o {output} {JOB} --cache disk --cache-size 64k");
            assert_eq!(bench.place.run(&encode).code, 0);
            let whole = bench.taken(output);
            for fault in [("read-short", "in.mkv", 0), ("read-short", "(deleted)", 0), ("write-short", output, 0)] {
                let ended = bench.run(fault, &encode);
                assert_eq!(ended.code, 0, "{fault:?}: {ended}");
                assert!(bench.taken(output) == whole, "{fault:?}");
            }
        }
    });
}

// --- writing -----------------------------------------------------------------------------------------------------------

#[test]
fn writing_that_fails_at_any_byte_is_said_and_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    within(200, move || {
        bench.make("in.mkv", "-c:v mpeg4 -c:a aac");
        for (output, part) in
            [("out.mkv", "out.mkv"), ("out.mp4", "out.mp4"), ("out.m3u8", ".m4s"), ("out.mpd", ".m4s")]
        {
            let encode = format!("encode in.mkv -o {output} {JOB}");
            for at in [0, 1, 100, 1000, 5000, 9000, 12_000] {
                for (fault, words) in [("write-full", "No space left"), ("write-error", "Input/output error")] {
                    let what = format!("{output}, {fault} at {at}");
                    let ended = bench.run((fault, part, at), &encode);
                    assert_eq!(ended.code, 6, "{what}: {ended}");
                    // libavformat writes segments by itself and passes over the error; that they are not whole is noticed.
                    let whole = part != output && ended.stderr.contains("written, but not whole");
                    assert!(whole || ended.stderr.contains(words), "{what}: {ended}");
                    bench.holds_only(&["in.mkv"], &what);
                }
            }
        }
        for output in ["out.mkv", "out.m3u8"] {
            let ended = bench.run(("sync-error", "out", 0), &format!("encode in.mkv -o {output} {JOB}"));
            assert_eq!(ended.code, 6, "{output}, which never reaches the disk: {ended}");
            bench.holds_only(&["in.mkv"], output);
        }
    });
}

#[test]
fn an_output_that_cannot_be_read_back_gets_no_name() {
    let Some(bench) = Bench::new() else { return };
    within(60, move || {
        bench.make("in.mkv", "-c:v mpeg4 -c:a pcm_s16le");
        for at in [0, 2000, 60_000, 150_000] {
            let ended = bench.run(("read-error", ".out.mkv.repass-", at), &format!("encode in.mkv -o out.mkv {JOB}"));
            assert_eq!(ended.code, 6, "{at}: {ended}");
            bench.holds_only(&["in.mkv"], &format!("sector at {at}"));
        }
    });
}

#[test]
fn frames_that_do_not_fit_on_disk_are_decoded_again_and_those_that_are_lost_are_told() {
    let Some(bench) = Bench::new() else { return };
    within(60, move || {
        bench.make("in.mkv", "-c:v mpeg4 -c:a aac");
        let encode = format!("encode in.mkv -o out.mkv {JOB} --cache disk --cache-size 64k");
        assert_eq!(bench.place.run(&encode).code, 0);
        let whole = bench.taken("out.mkv");
        for at in [0, 1, 9216, 100_000] {
            let ended = bench.run(("write-full", "(deleted)", at), &encode);
            assert_eq!(ended.code, 0, "full at {at}: {ended}");
            assert!(bench.taken("out.mkv") == whole, "full at {at}");
            for fault in ["write-error", "read-error"] {
                let ended = bench.run((fault, "(deleted)", at), &encode);
                assert_eq!(ended.code, 6, "{fault} at {at}: {ended}");
                bench.holds_only(&["in.mkv"], fault);
            }
        }
    });
}

// --- stages that stand still -------------------------------------------------------------------------------------------

/// Each hangs in the kernel or in a library, where nobody can be asked to stop.
#[test]
fn every_stage_that_hangs_is_named_and_the_process_ends() {
    let Some(bench) = Bench::new() else { return };
    within(200, move || {
        bench.make("in.mkv", "-c:v mpeg4 -c:a aac");
        for (fault, file, at, more, code, words) in [
            ("read-hang", "in.mkv", 20_000, "feed", 4, "reading and decoding made no progress"),
            ("read-hang", "in.mkv", 20_000, "other", 4, "reading sound and the like"),
            ("encode-hang", "", 10, "", 5, "encoding rendition 1 made no progress"),
            ("encode-hang", "", 60, "", 5, "encoding rendition 1 made no progress"),
            // One pass, which keeps no statistics beside the output.
            ("write-hang", "out.mkv", 0, "--passes 1", 6, "writing rendition 1 made no progress"),
            ("write-hang", "out.mkv", 5000, "--passes 1", 6, "writing rendition 1 made no progress"),
            ("write-hang", ".out.mkv.repass-", 0, "", 6, "keeping the first pass of rendition 1 made no progress"),
        ] {
            let what = format!("{fault} {more} {at}");
            // Which thread it is, or a word for the program.
            let (thread, passes) = if more.starts_with("--") { ("", more) } else { (more, "") };
            let encode = format!("encode in.mkv -o out.mkv {JOB} --stall-timeout 1s {passes}");
            let mut command = bench.place.faulty(&bench.shim, (fault, file, at), encode.trim_end());
            command.env("FAULT_THREAD", thread);
            let ended = bench.place.start(command).end_within(Duration::from_secs(40));
            assert_eq!(ended.code, code, "{what}: {ended}");
            assert!(ended.stderr.contains(words), "{what}: {ended}");
            assert!(!bench.place.path("out.mkv").exists(), "{what}");
            // What could not be removed goes with the next.
            let next = bench.place.run(&format!("encode in.mkv -o out.mkv {JOB}"));
            assert_eq!(next.code, 0, "{what}: {next}");
            bench.taken("out.mkv");
            bench.holds_only(&["in.mkv"], &what);
        }
    });
}

#[test]
fn a_bench_whose_encoder_hangs_ends_and_goes_on_with_what_was_measured() {
    let Some(bench) = Bench::new() else { return };
    within(120, move || {
        bench.make("in.mkv", "-c:v ffv1 -c:a aac");
        let measure = "bench in.mkv -c libx264 -b 100k,200k --modes 1pass --preset ultrafast --metrics psnr --runs 1 \
                       --threads 1 --report out --stall-timeout 1s";
        let faulty = bench.place.faulty(&bench.shim, ("encode-hang", "", 60), measure);
        let ended = bench.place.start(faulty).end_within(Duration::from_secs(40));
        assert_eq!(ended.code, 5, "{ended}");
        for words in ["encoding rendition 1 made no progress", "--resume goes on"] {
            assert!(ended.stderr.contains(words), "{words}: {ended}");
        }
        let journal = fs::read_to_string(bench.place.path("out/journal.jsonl")).unwrap();
        assert_eq!(journal.matches("\"line\":\"quality\"").count(), 1, "{journal}");
        let ended = bench.place.run(&format!("{measure} --resume --json"));
        assert_eq!(ended.code, 0, "{ended}");
        let results: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(results["cells"].as_array().map(Vec::len), Some(2));
        assert!(!bench.place.path("out/.repass-encodes").exists(), "what the hung one left goes with the next");
    });
}

/// libx264 hangs at the sixtieth picture, in the second file, also where each is encoded in a process of its own.
#[test]
fn a_batch_with_a_file_that_hangs_says_what_is_done() {
    let Some(bench) = Bench::new() else { return };
    within(120, move || {
        for (name, frames) in [("a.mkv", 20), ("b.mkv", 40), ("c.mkv", 20)] {
            let source = format!("-f lavfi -i testsrc2=s=96x64:r=24 -frames:v {frames} -c:v ffv1");
            bench.place.make(name, &source);
        }
        let batch = format!("encode a.mkv b.mkv c.mkv {JOB} -o {{stem}}.mp4 --jobs 1 --stall-timeout 1s");
        for (more, last) in [("--json", "failed"), ("--json --isolate", "done"), ("", "")] {
            let faulty = bench.place.faulty(&bench.shim, ("encode-hang", "", 60), &format!("{batch} -y {more}"));
            let ended = bench.place.start(faulty).end_within(Duration::from_secs(40));
            assert_eq!(ended.code, 5, "{ended}");
            assert!(ended.stderr.contains("b.mkv: encoding rendition 1 made no progress"), "{ended}");
            assert!(bench.place.path("a.mp4").exists() && !bench.place.path("b.mp4").exists());
            if last.is_empty() {
                assert!(ended.stdout.contains("1 of 3 files done"), "{ended}");
                continue;
            }
            let told: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
            let states: Vec<_> = (0..3).map(|file| told["files"][file]["state"].as_str().unwrap()).collect();
            assert_eq!((states, &told["exit_code"]), (vec!["done", "failed", last], &5.into()), "{ended}");
        }
    });
}

#[test]
fn a_folder_that_cannot_be_searched_for_a_pattern_is_told() {
    let Some(bench) = Bench::new() else { return };
    within(60, move || {
        for folder in ["one", "two"] {
            fs::create_dir(bench.place.path(folder)).unwrap();
            bench.make(&format!("{folder}/in.mkv"), "-c:v mpeg4 -an");
        }
        let ended = bench.run(("folder-closed", "two", 0), &format!("encode */*.mkv -o {{stem}}.mp4 {JOB}"));
        assert_eq!(ended.code, 4, "{ended}");
        assert!(ended.stderr.contains("two: cannot search: Permission denied"), "{ended}");
        assert!(!bench.place.path("in.mp4").exists());
    });
}

// --- processes of their own ----------------------------------------------------------------------------------------------

/// libx264 ends its process at the eightieth picture: only the long clip has so many in its two passes.
#[test]
fn an_encoder_that_dies_takes_one_file_of_a_batch_with_it() {
    let Some(bench) = Bench::new() else { return };
    within(120, move || {
        for (name, frames) in [("a.mkv", 20), ("-b.mkv", 60), ("c.mkv", 20)] {
            let source = format!("-f lavfi -i testsrc2=s=96x64:r=24 -frames:v {frames} -c:v ffv1");
            bench.place.make(&format!("./{name}"), &source);
        }
        let batch = format!("encode {JOB} -o {{stem}}.mp4 --isolate --jobs 2 --resume");
        let dying = ("encode-abort", "", 80);
        let ended = bench.run(dying, &format!("{batch} --json -- a.mkv -b.mkv c.mkv"));
        assert_eq!(ended.code, 5, "{ended}");
        assert!(ended.stderr.contains("libx264: its process was ended by SIGABRT"), "{ended}");
        let told: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let states: Vec<_> =
            told["files"].as_array().unwrap().iter().map(|file| file["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["done", "failed", "done"], "{ended}");
        assert_eq!(told["files"][0]["report"]["frames"], 20, "{ended}");
        bench.holds_only(&["-b.mkv", "a.mkv", "a.mp4", "c.mkv", "c.mp4"], "a batch");
        // The same bits as here, and what is done is not done again.
        let ended = bench.place.run(&format!("{batch} -- a.mkv -b.mkv c.mkv"));
        assert!(ended.code == 0 && ended.stdout.matches("skipped").count() == 2, "{ended}");
        let apart = bench.taken("-b.mp4");
        assert_eq!(bench.place.run(&format!("encode {JOB} -o ./{{stem}}.mp4 -- -b.mkv")).code, 0);
        assert!(bench.taken("-b.mp4") == apart);
        // What a child refuses or meets is told as if it had happened here.
        std::fs::write(bench.place.path("c.mkv"), "no video").unwrap();
        let ended = bench.place.run(&format!("{batch} -y -- a.mkv c.mkv"));
        assert!(ended.code == 4 && ended.stderr.contains("c.mkv"), "{ended}");
    });
}

#[test]
fn an_analysis_and_a_bench_are_isolated_too() {
    let Some(bench) = Bench::new() else { return };
    within(120, move || {
        bench.make("in.mkv", "-c:v ffv1 -c:a aac");
        let analyse = "analyse in.mkv -o in.stats -c libx264 -b 100k --preset ultrafast --isolate";
        let measure =
            "bench in.mkv -c libx264 -b 100k --preset ultrafast --metrics psnr --runs 1 --report out --isolate";
        for (command, made) in [(analyse, "in.stats"), (measure, "out")] {
            let ended = bench.run(("encode-abort", "", 20), command);
            assert_eq!(ended.code, 5, "{ended}");
            assert!(ended.stderr.contains("libx264: its process was ended by SIGABRT"), "{ended}");
            assert!(!bench.place.path(made).is_file(), "{ended}");
            let more = if made == "out" { " --resume" } else { "" };
            assert_eq!(bench.place.run(&format!("{command}{more}")).code, 0, "{command}");
        }
        bench.holds_only(&["in.mkv", "in.stats", "out"], "both");
    });
}

#[test]
fn what_a_child_says_is_said_once_and_a_pipe_stays_here() {
    let place = Place::empty();
    within(60, move || {
        for name in ["a.mkv", "b.mkv"] {
            place.make(name, "-f lavfi -i testsrc2=s=96x64:r=24:d=1 -c:v ffv1");
        }
        let job = "-o {stem}_{name}.mp4 -c libx264 --rung 2160p=1M --rung source=100k --isolate -v";
        let ended = place.run(&format!("encode a.mkv b.mkv {job}"));
        assert_eq!(ended.code, 0, "{ended}");
        assert_eq!(ended.stderr.matches("2160p is left out").count(), 2, "{ended}");
        assert!(ended.stderr.contains("a.mkv: libx264: info: "), "{ended}");
        let ended = place.shell(&format!("$repass encode - a.mkv {job} -y < b.mkv"));
        assert_eq!(ended.code, 3, "{ended}");
        assert!(ended.stderr.contains("is a pipe"), "{ended}");
        assert!(ended.stdout.contains("1 of 2 files done"), "{ended}");
    });
}

#[test]
fn a_stop_reaches_every_child_of_a_batch() {
    let Some(bench) = Bench::new() else { return };
    within(60, move || {
        for name in ["a.mkv", "b.mkv", "c.mkv"] {
            bench.place.make(name, "-f lavfi -i testsrc2=s=320x180:r=24:d=20 -c:v mpeg4");
        }
        let job =
            "encode a.mkv b.mkv c.mkv -o {stem}.mp4 -c libx264 -b 200k --preset placebo --isolate --progress json";
        let mut running = bench.place.start(bench.place.command(job));
        running.wait_for("\"event\":\"progress\"");
        let ended = running.signal(rustix::process::Signal::TERM).end_within(Duration::from_secs(20));
        assert_eq!(ended.code, 130, "{ended}");
        bench.holds_only(&["a.mkv", "b.mkv", "c.mkv"], "a batch that was stopped");
    });
}

// --- clocks ------------------------------------------------------------------------------------------------------------

/// By years, forwards and back, at every look: only a monotonic clock may say how long something took.
#[test]
fn a_wall_clock_that_jumps_changes_nothing() {
    let Some(bench) = Bench::new() else { return };
    within(60, move || {
        bench.make("in.mkv", "-c:v mpeg4 -c:a aac");
        let encode = format!("encode in.mkv -o out.mkv {JOB} --stall-timeout 20s --json");
        assert_eq!(bench.place.run(&encode).code, 0);
        let whole = bench.taken("out.mkv");
        let ended = bench.run(("clock", "", 0), &encode);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended}");
        assert!(bench.taken("out.mkv") == whole);
        let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let seconds = report["wall_seconds"].as_f64().unwrap();
        assert!((0.0..60.0).contains(&seconds), "{ended}");
        for number in 1..=3 {
            fs::copy(bench.place.path("in.mkv"), bench.place.path(&format!("{number}.mkv"))).unwrap();
        }
        let batch = format!("encode 1.mkv 2.mkv 3.mkv -o {{stem}}.mp4 --resume {JOB}");
        assert_eq!(bench.run(("clock", "", 0), &batch).code, 0);
        let again = bench.run(("clock", "", 0), &batch);
        assert!(again.code == 0 && again.stdout.matches("done by an earlier run").count() == 3, "{again}");
    });
}
