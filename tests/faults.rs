//! Faults from outside: kills, signals, full disks, inputs that change, places that vanish, no memory.
//!
//! The invariant of all: the final name is absent, or what was there before, or a file that was verified; what a dead run
//! leaves is removed by the next.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;
mod program;

use std::fs::{self, File};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use media::{Dice, names, within};
use program::{Ended, Place, can_mount, quick, software_encoders};
use repass::adapter;
use repass::cache::{CacheMode, CachePlan};
use repass::error::Error;
use repass::event::{Cancel, Event};
use repass::job::{Job, JobRequest, RenditionRequest};
use repass::plan::Request;
use repass::rate::{BitRate, ByteSize, Target};
use repass::report::Report;
use repass::source::Input;
use rustix::process::Signal;

// --- kills -----------------------------------------------------------------------------------------------------------

/// Two hundred in all, spread over the encoders that are here, at points that are random and the same in every run.
#[test]
fn a_killed_run_leaves_no_half_file_and_the_next_collects_the_rest() {
    within(280, || {
        let encoders = software_encoders();
        let rounds = 200_usize.div_ceil(encoders.len());
        for (seed, encoder) in encoders.iter().enumerate() {
            let fates = kill(encoder, rounds, seed as u64 + 1);
            println!("{encoder}: {fates:?}");
            assert_eq!(fates.killed as usize, rounds, "{encoder}: too many runs ended before their kill: {fates:?}");
        }
    });
}

/// What became of the runs that were to be killed.
#[derive(Debug, Default)]
struct Fates {
    killed: u32,
    ended: u32,
    left_part: u32,
    left_stats: u32,
}

fn kill(encoder: &str, rounds: usize, seed: u64) -> Fates {
    let place = Place::empty();
    place.make(
        "in.mkv",
        "-f lavfi -i testsrc2=s=192x128:r=24:d=1,noise=alls=20:all_seed=3 -f lavfi -i sine=d=1 -c:v ffv1 -c:a aac",
    );
    let arguments = format!(
        // As the child of an isolated job, so that it is the encoding process that is killed.
        "encode in.mkv -o out.mkv -y -c {encoder} -b 60k {} --cache disk --cache-size 64k --progress none --in-child",
        quick(encoder)
    );
    // The first only loads the libraries.
    let mut whole = [place.run(&arguments), place.run(&arguments)].map(|ended| {
        assert_eq!(ended.code, 0, "{encoder}: {ended}");
        ended.after
    })[1];
    let mut dice = Dice::new(seed);
    let mut fates = Fates::default();
    // Some end before their kill; three times as many are tried at most.
    for round in 0..3 * rounds {
        if fates.killed as usize == rounds {
            break;
        }
        // Every other time the name is taken by something precious.
        let before = round % 2 == 0;
        let output = place.path("out.mkv");
        if before {
            fs::write(&output, "precious").unwrap()
        } else {
            fs::remove_file(&output).unwrap_or(())
        }
        // Loading takes a third of it, in which there is nothing to break.
        let micros = whole.as_micros() as u64;
        let after = Duration::from_micros(micros / 3 + dice.below(micros * 2 / 3));
        let ended = place.start(place.command(&arguments)).kill_after(after);
        match ended.code {
            // How long a run takes is learnt as we go, for others use this machine too.
            -9 => (fates.killed, whole) = (fates.killed + 1, whole * 21 / 20),
            0 => (fates.ended, whole) = (fates.ended + 1, whole.min(ended.after) * 9 / 10),
            _ => panic!("{encoder} killed after {after:?}: {ended}"),
        }
        match fs::read(&output) {
            Ok(bytes) if before && bytes == b"precious" => assert_ne!(ended.code, 0, "{encoder}"),
            Ok(_) => assert_eq!(frames(&output), 24, "{encoder} killed after {after:?}"),
            Err(_) => assert!(!before && ended.code != 0, "{encoder} killed after {after:?}: the old file is gone"),
        }
        let parts = place.names().iter().filter(|name| name.ends_with(".part")).count();
        // The output, and the first pass that is about to be kept beside it.
        assert!(parts <= 2, "{encoder}: {:?}", place.names());
        fates.left_part += parts as u32;
        fates.left_stats += u32::from(!abandoned_stats(place.scratch.path()).is_empty());
    }
    let ended = place.run(&arguments);
    assert_eq!(ended.code, 0, "{encoder}: {ended}");
    assert_eq!(place.names(), ["in.mkv", "out.mkv"], "{encoder}");
    let left = abandoned_stats(place.scratch.path());
    assert!(left.is_empty(), "{encoder}: {left:?}");
    assert_eq!(names(place.scratch.path()), [""; 0], "{encoder}: a spill file has no name");
    fates
}

/// Statistics that nobody holds, where the program keeps them.
fn abandoned_stats(scratch: &Path) -> Vec<String> {
    let mut abandoned = Vec::new();
    for folder in [Path::new("/dev/shm"), scratch] {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap().to_string_lossy();
            let ours = name.starts_with("repass-stats-") && name.ends_with(".part");
            if ours && File::open(&path).is_ok_and(|lock| lock.try_lock().is_ok()) {
                abandoned.push(path.display().to_string());
            }
        }
    }
    abandoned
}

/// Whether nothing is abandoned for long: other tests kill runs at the same time, whose statistics go with the next run.
fn no_stats_stay(scratch: &Path) -> bool {
    let began = Instant::now();
    while !abandoned_stats(scratch).is_empty() {
        if began.elapsed() > Duration::from_secs(20) {
            return false;
        }
        sleep(Duration::from_millis(100));
    }
    true
}

fn frames(path: &Path) -> u64 {
    let counted = media::ffprobe(&[
        "-count_frames",
        "-select_streams",
        "v:0",
        "-show_entries",
        "stream=nb_read_frames",
        "-of",
        "csv=p=0",
        media::text(path),
    ]);
    counted.trim().trim_end_matches(',').parse().unwrap_or_else(|_| panic!("{}: {counted:?}", path.display()))
}

// --- signals ---------------------------------------------------------------------------------------------------------

#[test]
fn a_signal_in_any_pass_leaves_nothing() {
    within(120, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=320x180:r=25:d=20 -c:v mpeg4");
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            for event in ["\"pass\":1", "\"pass\":2"] {
                let arguments = "encode in.mkv -o out.mkv -c libx264 -b 200k --preset slower --progress json";
                let mut running = place.start(place.command(arguments));
                running.wait_for(event);
                let ended = running.signal(signal).end_within(Duration::from_secs(20));
                assert_eq!(ended.code, 130, "{signal:?} in {event}: {ended}");
                assert_eq!(ended.stderr, "repass: interrupted\n");
                assert_eq!(place.names(), ["in.mkv"], "{signal:?} in {event}");
                assert_eq!(names(place.scratch.path()), [""; 0]);
            }
        }
    });
}

#[test]
fn a_second_signal_ends_at_once_and_the_next_run_tidies_up() {
    within(60, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=640x360:r=25:d=20 -c:v mpeg4");
        let mut running =
            place.start(place.command("encode in.mkv -o out.mkv -c libx264 --crf 20 --preset placebo --progress json"));
        running.wait_for("\"event\":\"progress\"");
        let running = running.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(300));
        let ended = running.signal(Signal::INT).end_within(Duration::from_secs(10));
        assert_eq!(ended.code, 130, "{ended}");
        assert!(!place.path("out.mkv").exists());
        let next = place.run("encode in.mkv -o out.mkv -c libx264 --crf 50 --preset ultrafast -t 1");
        assert_eq!(next.code, 0, "{next}");
        assert_eq!(place.names(), ["in.mkv", "out.mkv"]);
    });
}

// --- disks -----------------------------------------------------------------------------------------------------------

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    if !can_mount() {
        return;
    }
    within(120, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=320x180:r=25:d=4,noise=alls=30 -c:v mpeg4 -q:v 3");
        for (kib, container) in [(4, "mkv"), (64, "mkv"), (300, "mkv"), (64, "mp4"), (300, "mp4")] {
            let ended = place.shell_with_mounts(&format!(
                "mkdir -p small; mount -t tmpfs -o size={kib}k tmpfs small; code=0
                 $repass encode in.mkv -o small/out.{container} -c libx264 -b 1M --preset ultrafast || code=$?
                 ls -A small; exit $code",
            ));
            assert_eq!(ended.code, 6, "{kib} KiB, {container}: {ended}");
            assert!(ended.stderr.contains("No space left on device"), "{ended}");
            assert_eq!(ended.stdout, "", "nothing is left there: {ended}");
        }
    });
}

#[test]
fn a_full_disk_for_statistics_is_said_before_the_second_pass() {
    if !can_mount() {
        return;
    }
    within(120, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=320x180:r=25:d=8 -c:v mpeg4");
        for encoder in software_encoders().iter().filter(|name| ["libx264", "libx265"].contains(&name.as_str())) {
            let ended = place.shell_with_mounts(&format!(
                "mkdir -p small; mount -t tmpfs -o size=16k tmpfs /dev/shm; mount -t tmpfs -o size=16k tmpfs small
                 export TMPDIR=$PWD/small; code=0
                 $repass encode in.mkv -o out.mkv -c {encoder} -b 100k --preset ultrafast --opt {encoder_mbtree} --progress json || code=$?
                 ls -A small /dev/shm; exit $code",
                encoder_mbtree = if encoder == "libx264" { "x264-params=mbtree=1" } else { "x265-params=cutree=1" },
            ));
            assert!([5, 6].contains(&ended.code), "{encoder}: {ended}");
            let words = ["statistics", "stats file"];
            assert!(words.iter().any(|words| ended.stderr.contains(words)), "{encoder}: {ended}");
            assert!(!ended.stdout.contains("\"run\":2,"), "{encoder}: {ended}");
            assert!(!ended.stdout.contains("repass-stats"), "{encoder}: {ended}");
            assert_eq!(place.names(), ["in.mkv", "small"], "{encoder}");
        }
    });
}

#[test]
fn a_full_disk_for_frames_only_means_decoding_again() {
    if !can_mount() {
        return;
    }
    within(120, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=320x180:r=25:d=4 -c:v mpeg4");
        let encode = "$repass encode in.mkv -c libx264 -b 300k --preset ultrafast --cache disk --cache-size 1M --json";
        let ended = place.shell_with_mounts(&format!(
            "mkdir -p small; mount -t tmpfs -o size=2m tmpfs small
             {encode} -o roomy.mkv --spill-dir $TMPDIR; {encode} -o full.mkv --spill-dir small; ls -A small",
        ));
        assert_eq!(ended.code, 0, "{ended}");
        let reports: Vec<serde_json::Value> =
            ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kept = |report: &serde_json::Value| report["cached_frames"].as_u64().unwrap();
        assert_eq!((kept(&reports[0]), reports.len()), (100, 2));
        assert!(kept(&reports[1]) > 10 && kept(&reports[1]) < 60, "{ended}");
        assert_eq!(media::packets(&place.path("roomy.mkv")), media::packets(&place.path("full.mkv")));
    });
}

#[test]
fn a_place_that_takes_no_files_is_known_before_the_first_pass() {
    if !can_mount() {
        return;
    }
    within(60, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=320x180:r=25:d=2 -c:v mpeg4");
        let ended = place.shell_with_mounts(
            "mkdir -p small; mount -t tmpfs -o ro tmpfs small
             $repass encode in.mkv -o small/out.mkv -c libx264 -b 1M --progress json",
        );
        assert_eq!(ended.code, 6, "{ended}");
        assert!(ended.stderr.contains("Read-only file system"), "{ended}");
        assert!(!ended.stdout.contains("progress"), "{ended}");
    });
}

// --- things that change while running ----------------------------------------------------------------------------------

fn request(encoder: &str, input: &Path, output: &Path, cache: CacheMode) -> JobRequest {
    let encoder = Request {
        preset: Some("ultrafast".to_owned()),
        threads: Some(1),
        ..Request::new(adapter::named(encoder).unwrap(), Target::Average(BitRate(60_000)))
    };
    let renditions = vec![RenditionRequest::new("out", output, encoder)];
    let cache = CachePlan { mode: cache, budget: ByteSize(1 << 28), spill_dir: None };
    JobRequest { renditions, cache, ..JobRequest::new(Input::file(input)) }
}

/// Runs a job and does something at the beginning of its second run.
fn run_and(request: &JobRequest, act: impl Fn()) -> Result<Report, Error> {
    Job::prepare(request, &Cancel::new())?.run(|event| {
        if matches!(event, Event::Run { run: 2, .. }) {
            act();
        }
    })
}

#[test]
fn an_input_that_changes_between_the_passes_is_refused_by_every_encoder() {
    within(200, || {
        let place = Place::empty();
        let clip = |name: &str, length: f64, more: &str| {
            place.make(name, &format!("-f lavfi -i testsrc2=s=192x128:r=24:d={length}{more} -c:v ffv1"))
        };
        let original = fs::read(clip("whole.mkv", 1.0, "")).unwrap();
        let others = [
            fs::read(clip("shorter.mkv", 0.5, "")).unwrap(),
            fs::read(clip("longer.mkv", 1.5, "")).unwrap(),
            fs::read(clip("other.mkv", 1.0, ",hflip")).unwrap(),
            b"not a video any more".to_vec(),
            original[..original.len() / 2].to_vec(),
        ];
        let (input, output) = (place.path("in.mkv"), place.path("out.mkv"));
        for encoder in software_encoders() {
            for (number, other) in others.iter().enumerate() {
                for cache in [CacheMode::None, CacheMode::Ram] {
                    fs::write(&input, &original).unwrap();
                    let result =
                        run_and(&request(&encoder, &input, &output, cache), || fs::write(&input, other).unwrap());
                    match result {
                        Err(Error::PassesDiffer { .. }) => {}
                        // One pass only, where this libavcodec gives it no statistics.
                        Ok(report) if report.runs.len() == 1 => fs::remove_file(&output).unwrap(),
                        other => panic!("{encoder}, change {number}, {cache:?}: {other:?}"),
                    }
                    assert!(!output.exists(), "{encoder}, change {number}");
                }
            }
        }
        fs::write(&input, &original).unwrap();
        let gone = run_and(&request("libx264", &input, &output, CacheMode::Ram), || fs::remove_file(&input).unwrap());
        assert_eq!(gone.unwrap_err().exit_code(), 4);
    });
}

/// The same where the file system says nothing: what is decoded tells. Every encoder gets other frames than it has
/// statistics of, or too few, and none may end the process over it.
#[test]
fn frames_that_differ_are_noticed_by_themselves() {
    within(200, || {
        let place = Place::empty();
        place.make("a.y4m", "-f lavfi -i testsrc2=s=192x128:r=24:d=1 -pix_fmt yuv420p");
        place.make("b.y4m", "-f lavfi -i testsrc2=s=192x128:r=24:d=1,hflip -pix_fmt yuv420p");
        let (first, other) = (fs::read(place.path("a.y4m")).unwrap(), fs::read(place.path("b.y4m")).unwrap());
        let frame = 192 * 128 * 3 / 2 + 6;
        let input = place.path("in.y4m");
        let output = place.path("out.mkv");
        for encoder in software_encoders() {
            for bytes in [&first[..first.len() - frame], &first[..first.len() - frame * 20], &other] {
                fs::write(&input, &first).unwrap();
                let written = fs::metadata(&input).unwrap().modified().unwrap();
                let result = run_and(&request(&encoder, &input, &output, CacheMode::None), || {
                    // In place, at the same time: only the number of bytes could tell, and it does not where none is lost.
                    let mut padded = bytes.to_vec();
                    padded.resize(first.len(), b'\n');
                    fs::write(&input, padded).unwrap();
                    File::options().write(true).open(&input).unwrap().set_modified(written).unwrap();
                });
                match result {
                    Err(error) => assert_eq!(error.exit_code(), 4, "{encoder}: {error}"),
                    Ok(report) if report.runs.len() == 1 => fs::remove_file(&output).unwrap(),
                    Ok(_) => panic!("{encoder}: {} bytes", bytes.len()),
                }
                assert!(!output.exists(), "{encoder}");
            }
        }
    });
}

#[test]
fn an_output_folder_that_is_removed_meanwhile_is_an_error_of_writing() {
    within(60, || {
        let place = Place::empty();
        let input = place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=24:d=1 -c:v ffv1");
        let folder = place.path("out");
        fs::create_dir(&folder).unwrap();
        let request = request("libx264", &input, &folder.join("out.mkv"), CacheMode::Ram);
        let error = run_and(&request, || fs::remove_dir_all(&folder).unwrap()).unwrap_err();
        assert_eq!(error.exit_code(), 6, "{error}");
        assert!(!folder.exists());
    });
}

#[test]
fn a_file_that_appears_under_the_name_meanwhile_is_not_replaced() {
    within(60, || {
        let place = Place::empty();
        let input = place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=24:d=1 -c:v ffv1");
        let output = place.path("out.mkv");
        let request = request("libx264", &input, &output, CacheMode::Ram);
        let error = run_and(&request, || fs::write(&output, "precious").unwrap()).unwrap_err();
        assert_eq!(error.exit_code(), 6, "{error}");
        assert_eq!(fs::read(&output).unwrap(), b"precious");
    });
}

// --- memory and threads --------------------------------------------------------------------------------------------------

#[test]
fn too_little_memory_is_an_error_and_no_abort() {
    within(200, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=1280x720:r=25:d=6 -c:v mpeg4 -threads 1");
        let mut said = 0;
        for megabytes in [60, 90, 120, 160, 200, 240, 280, 320, 400, 1500] {
            let ended = place.shell(&format!(
                "ulimit -v {}; exec $repass encode in.mkv -o out.mkv -y -c libx264 -b 300k --preset ultrafast --threads 1 \
                 --decoder-threads 1 --cache-size 4G",
                megabytes * 1024
            ));
            println!("{megabytes} MB: {}", described(&ended));
            // 127: the loader itself found no room for the libraries.
            assert!([0, 4, 5, 6, 127].contains(&ended.code), "{megabytes} MB: {ended}");
            said += u32::from(ended.stderr.contains("memory"));
            assert_eq!(place.names().len(), if ended.code == 0 { 2 } else { 1 }, "{:?}", place.names());
            let _ = fs::remove_file(place.path("out.mkv"));
        }
        assert!(said > 0, "no run was told what it lacked");
    });
}

fn described(ended: &Ended) -> String {
    format!("exit code {}, {}", ended.code, ended.stderr.lines().last().unwrap_or_default())
}

// --- stalls --------------------------------------------------------------------------------------------------------------

#[test]
fn an_input_that_stops_delivering_is_named() {
    within(60, || {
        let place = Place::empty();
        place.make("in.y4m", "-f lavfi -i testsrc2=s=96x64:r=24:d=2 -pix_fmt yuv420p");
        let ended = place.shell(
            "mkfifo pipe; (head -c 200000 in.y4m; sleep 30) > pipe &
             writer=$!; code=0
             timeout 25 $repass encode pipe -o out.mkv -c libx264 --crf 30 --stall-timeout 1s || code=$?
             kill $writer; rm pipe; exit $code",
        );
        assert_eq!(ended.code, 4, "{ended}");
        assert!(ended.stderr.contains("reading and decoding made no progress for"), "{ended}");
        assert_eq!(place.names(), ["in.y4m"]);
    });
}

#[test]
fn an_error_is_told_before_the_rest_of_the_sound_has_come() {
    within(60, || {
        let place = Place::empty();
        place.make(
            "in.mkv",
            "-f lavfi -i testsrc2=s=640x360:r=24:d=8 -f lavfi -i sine=d=8 -c:v mpeg4 -q:v 2 -g 1 -c:a aac",
        );
        // For a size target the sound is counted beside a first pass, here from a pipe whose rest is a long time in coming.
        let ended = place.shell(
            "dd if=/dev/zero of=in.mkv bs=3000 seek=100 count=1 conv=notrunc 2> /dev/null
             mkfifo pipe; (head -c 2000000 in.mkv; sleep 30) > pipe &
             writer=$!; code=0
             timeout 25 $repass encode pipe -o out.mkv -c libx264 --preset ultrafast --size 300k || code=$?
             kill $writer; rm pipe; exit $code",
        );
        assert_eq!(ended.code, 4, "{ended}");
        assert!(ended.stderr.contains("damaged"), "{ended}");
    });
}

#[test]
fn a_child_that_is_stopped_stops_neither_its_parent_nor_its_siblings() {
    let all = Cancel::new();
    let (one, other) = (all.child(), all.child());
    one.stop();
    assert!(one.is_stopped() && !other.is_stopped() && !all.is_stopped());
    all.stop();
    assert!(other.is_stopped());
}

// --- processes of their own ----------------------------------------------------------------------------------------------

#[test]
fn an_isolated_job_is_the_same_job() {
    within(60, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=24:d=1 -c:v ffv1");
        let job = "encode in.mkv -c libx264 -b 60k --threads 1";
        let here = place.run(&format!("{job} -o here.mkv"));
        let apart = place.run(&format!("{job} -o apart.mkv --isolate"));
        assert_eq!((here.code, apart.code), (0, 0), "{apart}");
        assert!(apart.stdout.contains("verified  24 frames"), "{apart}");
        assert_eq!(media::packets(&place.path("here.mkv")), media::packets(&place.path("apart.mkv")));
        for (arguments, code) in
            [("absent.mkv -o out.mkv -c libx264 -b 1M", 4), ("in.mkv -o here.mkv -c libx264 -b 1M", 3)]
        {
            let ended = place.run(&format!("encode {arguments} --isolate --json"));
            assert_eq!(ended.code, code, "{ended}");
            assert_eq!((ended.stderr.lines().count(), ended.stdout.lines().count()), (1, 1), "{ended}");
        }
    });
}

#[test]
fn an_encoder_that_ends_its_process_is_an_error_in_ours() {
    within(120, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=320x180:r=24:d=20 -c:v mpeg4");
        for (signal, words) in [("ABRT", "SIGABRT"), ("KILL", "SIGKILL")] {
            // The child is ended as an assertion inside it would end it; the shell waits until it is encoding.
            let ended = place.shell(&format!(
                "$repass encode in.mkv -o out.mkv -c libx264 -b 200k --preset placebo --isolate --json --progress json > said &
                 job=$!
                 until grep -q '\"event\":\"progress\"' said; do kill -0 $job; sleep 0.05; done
                 kill -{signal} $(cat /proc/$job/task/$job/children); code=0; wait $job || code=$?; tail -1 said; rm said; exit $code"
            ));
            assert_eq!(ended.code, 5, "{ended}");
            assert!(
                ended.stderr.contains("libx264: its process was ended by") && ended.stderr.contains(words),
                "{ended}"
            );
            assert!(ended.stdout.contains("\"exit_code\":5"), "{ended}");
            assert_eq!(place.names(), ["in.mkv"], "{signal}");
            assert!(no_stats_stay(place.scratch.path()));
        }
    });
}

#[test]
fn a_stop_reaches_an_isolated_job_and_so_does_a_death() {
    within(120, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=320x180:r=24:d=20 -c:v mpeg4");
        let job = "encode in.mkv -o out.mkv -c libx264 -b 200k --preset placebo --isolate --progress json";
        let mut running = place.start(place.command(job));
        running.wait_for("\"event\":\"progress\"");
        let ended = running.signal(Signal::TERM).end_within(Duration::from_secs(20));
        assert_eq!((ended.code, ended.stderr.as_str()), (130, "repass: interrupted\n"), "{ended}");
        assert_eq!(place.names(), ["in.mkv"]);
        let mut running = place.start(place.command(job));
        running.wait_for("\"event\":\"progress\"");
        assert_eq!(running.signal(Signal::KILL).end().code, -9);
        // The child hears of it, stops and tidies up.
        let began = std::time::Instant::now();
        while place.names() != ["in.mkv"] {
            assert!(began.elapsed() < Duration::from_secs(30), "{:?}", place.names());
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn libraries_that_are_known_to_crash_are_isolated_without_being_asked() {
    if !media::has_encoder("libaom-av1") {
        return;
    }
    let version = repass::av::library::version(adapter::named("libaom-av1").unwrap().library).unwrap();
    within(60, move || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=24:d=0.5 -c:v ffv1");
        let ended = place.shell(
            "strace -f -e trace=execve -o trace $repass encode in.mkv -o out.mkv -c libaom-av1 --crf 40 --preset ultrafast
             code=$?; grep -c 'in-child' trace; rm trace; exit $code",
        );
        if ended.code == 127 || ended.stderr.contains("strace: ") {
            media::skipped("no strace");
            return;
        }
        assert_eq!(ended.code, 0, "{ended}");
        let isolated = ended.stdout.lines().last() != Some("0");
        assert_eq!(isolated, version.trim_start_matches('v').starts_with("3.6."), "libaom {version}: {ended}");
    });
}
