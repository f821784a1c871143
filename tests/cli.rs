//! The program as people and scripts meet it: exit codes, what is printed where, what is left behind.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;
mod program;

use std::fs;
use std::process::Command;

use media::{ffprobe, text};
use program::Place;
use serde_json::Value;

#[test]
fn two_passes_are_done_and_verified() {
    let place = with_clip();
    let ended = place.run("encode in.mkv -o out.mp4 -c libx264 -b 300k");
    assert_eq!(ended.code, 0, "{ended}");
    for part in ["out.mp4", "two passes", "pass 1", "pass 2", "verified  50 frames", "of 300 kb/s", "libavcodec"] {
        assert!(ended.stdout.contains(part), "{part} is missing: {ended}");
    }
    assert_eq!(ended.stderr, "", "no terminal, no warnings: nothing to say");
    assert_eq!(frames(&place, "out.mp4"), 50);
    assert_eq!(place.names(), ["in.mkv", "out.mp4"]);
}

#[test]
fn every_line_of_a_summary_and_a_plan_fits_into_100_columns() {
    let place = with_clip();
    let encoded = place.run("encode in.mkv -o out.mp4 -c libx264 -b 300k");
    let planned = place.run("plan in.mkv -o other.mp4 -c libx265 --size 200k");
    let listed = place.run("encoders");
    for line in [encoded, planned, listed].iter().flat_map(|ended| ended.stdout.lines()) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn bad_usage_ends_with_2() {
    let place = Place::empty();
    for arguments in [
        "",
        "encode",
        "encode in.mkv -o out.mp4 -c libx264",
        "encode in.mkv -o out.mp4 -c libx264 -b 4Q",
        "encode in.mkv -o out.mp4 -c libx264 -b 1M --crf 20",
        "encode in.mkv -o out.mp4 -c libx264 -b 1M --maxrate 2M",
        "encode in.mkv -o out.mp4 -c libx264 -b 1M --passes 3",
        "encode in.mkv -o out.mp4 -c libx264 -b 1M -ss abc",
        "encode in.mkv -o out.mp4 -c libx264 -b 1M --audio mp7:1k",
        "encode in.mkv -o out.mp4 -c nonsense -b 1M",
        "encoders nonsense",
        "dance",
    ] {
        let ended = place.run(arguments);
        assert_eq!(ended.code, 2, "{arguments}: {ended}");
        assert_eq!(ended.stdout, "", "{arguments}");
    }
    assert!(place.names().is_empty());
}

#[test]
fn a_missing_encoder_is_asked_for_with_the_names() {
    let ended = Place::empty().run("encode in.mkv -o out.mp4 -b 1M");
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("-c takes one of libx264, libx265"), "{ended}");
}

#[test]
fn a_rate_that_cannot_be_read_is_explained_once() {
    let ended = Place::empty().run("encode in.mkv -o out.mp4 -c libx264 -b 4Q");
    assert!(ended.stderr.contains("invalid value '4Q'") && ended.stderr.contains("like 4M, 2500k"), "{ended}");
}

#[test]
fn what_the_plan_refuses_ends_with_3() {
    let place = with_clip();
    fs::write(place.path("there.mp4"), "precious").unwrap();
    for (arguments, reason) in [
        ("in.mkv -o out.mp4 -c libx264 --crf 20 --passes 2", "constant quality"),
        ("in.mkv -o out.mp4 -c libx264 -b 1M --opt nonsense=1", "nonsense"),
        ("in.mkv -o in.mkv -c libx264 -b 1M", "same file"),
        ("in.mkv -o there.mp4 -c libx264 -b 1M", "exists; -y"),
        ("in.mkv -o none/out.mp4 -c libx264 -b 1M", "no folder none"),
    ] {
        for command in ["encode", "plan"] {
            let ended = place.run(&format!("{command} {arguments}"));
            assert_eq!(ended.code, 3, "{command} {arguments}: {ended}");
            assert!(ended.stderr.starts_with("repass: ") && ended.stderr.contains(reason), "{arguments}: {ended}");
            assert_eq!(ended.stderr.lines().count(), 1, "one error, one line: {ended}");
        }
    }
    assert_eq!(fs::read_to_string(place.path("there.mp4")).unwrap(), "precious");
    assert_eq!(place.names(), ["in.mkv", "there.mp4"]);
}

#[test]
fn the_doctor_names_every_encoder_and_what_would_bring_the_missing_ones() {
    let place = Place::empty();
    let told = place.run("doctor");
    assert_eq!(told.code, 0, "{told}");
    for part in ["libavcodec", "memory", "threads", "stats", "spill", "version", "av1_videotoolbox", "all       well"] {
        assert!(told.stdout.contains(part), "{part} is missing: {told}");
    }
    assert_eq!(told.stderr, "", "drivers that are not there are told of once, in order");
    let found: Value = serde_json::from_str(&place.run("doctor --json").stdout).unwrap();
    assert_eq!(found["encoders"].as_array().map(Vec::len), Some(19));
    let state = |name: &str| found["encoders"].as_array().unwrap().iter().find(|row| row["encoder"] == name).unwrap();
    assert_eq!(state("libx264")["state"], "ready");
    assert_eq!(state("h264_videotoolbox")["state"], "not_compiled_in");
    assert!(place.names().is_empty());
}

#[test]
fn a_profile_says_what_was_not_typed() {
    let place = with_clip();
    let profiles =
        "[profile.small]\nencoder = \"libx264\"\nbitrate = \"200k\"\npreset = \"ultrafast\"\nopt = [\"tune=film\"]\n";
    fs::write(place.path("repass.toml"), profiles).unwrap();
    let plan = |arguments: &str| -> Value {
        let planned = place.run(&format!("plan in.mkv -o out.mp4 --json {arguments}"));
        assert_eq!(planned.code, 0, "{planned}");
        serde_json::from_str::<Value>(&planned.stdout).unwrap()["renditions"][0]["encoder"].clone()
    };
    let all = plan("--profile small");
    assert_eq!((&all["encoder"], &all["target"]["average"]), (&"libx264".into(), &200_000.into()), "{all}");
    let typed = plan("--profile small --crf 30 --preset slow --opt tune=grain").to_string();
    assert!(!typed.contains("200000") && !typed.contains("ultrafast"), "{typed}");
    let film = typed.find("\"film\"");
    assert!(film.is_none_or(|film| film < typed.find("\"grain\"").unwrap()), "what is typed comes last: {typed}");
}

#[test]
fn a_profile_that_makes_no_sense_is_bad_usage() {
    let place = Place::empty();
    fs::write(place.path("repass.toml"), "[profile.odd]\nbitrat = \"1M\"\n").unwrap();
    for (name, reason) in
        [("odd", "did you mean bitrate?"), ("none", "no profile \"none\"; there are odd (repass.toml)")]
    {
        let ended = place.run(&format!("encode in.mkv -o out.mp4 -c libx264 -b 1M --profile {name}"));
        assert_eq!(ended.code, 2, "{ended}");
        assert!(ended.stderr.contains(reason), "{ended}");
    }
    fs::write(place.path("repass.toml"), "profile = 3\n").unwrap();
    let ended = place.run("encode in.mkv -o out.mp4 -c libx264 -b 1M --profile odd");
    assert!(ended.code == 2 && ended.stderr.contains("repass.toml"), "{ended}");
}

#[test]
fn an_input_that_cannot_be_read_ends_with_4() {
    let place = Place::empty();
    fs::write(place.path("text.mkv"), "this is not video\n").unwrap();
    for input in ["absent.mkv", "text.mkv"] {
        let ended = place.run(&format!("encode {input} -o out.mp4 -c libx264 -b 1M"));
        assert_eq!(ended.code, 4, "{input}: {ended}");
        assert!(ended.stderr.contains(input), "{ended}");
    }
    assert_eq!(place.names(), ["text.mkv"]);
}

#[test]
fn a_start_behind_the_end_ends_with_4_and_plans_no_pass() {
    let place = with_clip();
    for command in ["encode", "plan"] {
        let ended = place.run(&format!("{command} in.mkv -o out.mp4 -c libx264 -b 1M -ss 60"));
        assert_eq!((ended.code, ended.stdout.as_str()), (4, ""), "{ended}");
        assert!(ended.stderr.contains("no frame in the part"), "{ended}");
    }
    assert_eq!(place.names(), ["in.mkv"]);
}

#[test]
fn a_pipe_is_encoded_as_the_file_in_it_with_sound_and_both_passes() {
    let place = with_clip();
    let streams = |name: &str| {
        let all = ["-v", "error", "-i", name, "-map", "0", "-c", "copy", "-f", "framemd5", "-"];
        let output = Command::new("ffmpeg").args(all).current_dir(place.folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for (number, (cat, arguments)) in [
        ("cat in.mkv", "-c libx264 --crf 30"),
        ("cat in.mkv", "-c libx264 -b 300k"),
        // What the cache does not keep is decoded again, out of what was kept of the pipe.
        ("cat in.mkv", "-c libx264 -b 300k --cache none"),
        ("cat in.mkv", "-c libx264 --size 100k --audio aac:64k"),
        ("cat in.mkv", "-c libx264 -b 300k -ss 0.5 -t 1"),
        // A writer that is slower than the encoder.
        ("(head -c 60000 in.mkv; sleep 0.5; tail -c +60001 in.mkv)", "-c libx264 -b 300k"),
    ]
    .iter()
    .enumerate()
    {
        let ours = format!("{number}.mkv");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{cat} | \"$0\" encode - -o {ours} {arguments} --progress none")]);
        command.arg(env!("CARGO_BIN_EXE_repass"));
        let done = place.start(command).end();
        assert_eq!(done.code, 0, "{arguments}: {done}");
        let done = place.run(&format!("encode in.mkv -o file-{ours} {arguments} --progress none"));
        assert_eq!(done.code, 0, "{arguments}: {done}");
        assert_eq!(streams(&ours), streams(&format!("file-{ours}")), "{cat} {arguments}");
    }
    let mut command = Command::new("sh");
    command.args(["-c", "cat in.mkv | \"$0\" plan - -o out.mp4 -c libx264 -b 300k"]);
    command.arg(env!("CARGO_BIN_EXE_repass"));
    let planned = place.start(command).end();
    assert!(planned.stdout.contains("kept in a temporary file"), "{planned}");
}

#[test]
fn a_filter_that_does_not_exist_ends_with_5() {
    let place = with_clip();
    let ended = place.run("encode in.mkv -o out.mp4 -c libx264 -b 300k --vf nonsense=1");
    assert_eq!(ended.code, 5, "{ended}");
    assert!(ended.stderr.contains("nonsense"), "{ended}");
    assert_eq!(place.names(), ["in.mkv"]);
}

#[test]
fn an_output_that_cannot_be_written_to_its_end_ends_with_6() {
    let place = with_clip();
    let mut shell = Command::new("sh");
    // A limit on the size of files is the full disk that needs no file system of its own.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$0\" encode in.mkv -o out.mp4 -c libx264 --crf 1"]);
    shell.arg(env!("CARGO_BIN_EXE_repass"));
    let ended = place.start(shell).end();
    assert_eq!(ended.code, 6, "{ended}");
    assert!(ended.stderr.contains("out.mp4: cannot write"), "{ended}");
    assert_eq!(place.names(), ["in.mkv"]);
}

#[test]
fn an_output_folder_that_takes_no_files_is_named() {
    // Root may write into a read-only folder, but nobody into a file system without files of one's own.
    let place = with_clip();
    let ended = place.run("encode in.mkv -o /proc/out.mp4 -c libx264 -b 300k");
    assert!([3, 6].contains(&ended.code), "{ended}");
    assert!(ended.stderr.contains("/proc/out.mp4"), "{ended}");
}

#[test]
fn an_interrupt_ends_with_130_and_leaves_nothing() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let place = Place::empty();
        clip(&place, "in.mkv", 60);
        let mut running =
            place.start(place.command("encode in.mkv -o out.mp4 -c libx264 -b 300k --preset placebo --progress json"));
        running.wait_for("\"event\":\"progress\"");
        let ended = running.signal(signal).end();
        assert_eq!(ended.code, 130, "{ended}");
        assert_eq!(ended.stderr, "repass: interrupted\n");
        assert_eq!(place.names(), ["in.mkv"]);
    }
}

#[test]
fn an_interrupt_in_the_last_pass_leaves_nothing_either() {
    let place = Place::empty();
    clip(&place, "in.mkv", 60);
    let mut running =
        place.start(place.command("encode in.mkv -o out.mp4 -c libx264 --crf 20 --preset placebo --progress json"));
    running.wait_for("\"event\":\"progress\"");
    let ended = running.signal(rustix::process::Signal::INT).end();
    assert_eq!(ended.code, 130, "{ended}");
    assert_eq!(place.names(), ["in.mkv"]);
}

#[test]
fn a_session_is_told_in_the_plan_and_in_the_summary() {
    let place = with_clip();
    let asked = "in.mkv -o out.mp4 -c libx264 -b 300k --passes session --segment 10";
    let plan = place.run(&format!("plan {asked} --argv"));
    assert_eq!(plan.code, 0, "{plan}");
    for words in ["a session towards 300 kb/s", "segments of about 10", "{level}", "ffmpeg has nothing like a session"]
    {
        assert!(plan.stdout.contains(words), "{words}: {plan}");
    }
    let ended = place.run(&format!("encode {asked}"));
    assert_eq!(ended.code, 0, "{ended}");
    let said = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("5 segments at levels from"), "{ended}");
    for (arguments, words) in [
        ("-b 300k --segment 10", "are for --passes session"),
        ("-b 300k --passes sessions", "expected 1, 2 or session"),
        ("--crf 20 --passes session", "nothing to correct"),
    ] {
        let ended = place.run(&format!("encode in.mkv -o other.mp4 -c libx264 {arguments}"));
        assert!(ended.code != 0 && ended.stderr.contains(words), "{arguments}: {ended}");
    }
}

#[test]
fn a_measured_quality_is_told_in_the_plan_the_summary_and_the_report() {
    let place = with_clip();
    let asked = "in.mkv -c libx264 --preset ultrafast --quality psnr=38 --segment 10";
    let plan = place.run(&format!("plan {asked} -o out.mp4 --max-bitrate 9M --quality-tolerance 0.5 --argv"));
    assert_eq!(plan.code, 0, "{plan}");
    let said = plan.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in
        ["a session towards PSNR 38 dB ± 0.5, at most 9000 kb/s", "measured, to within 0.5 of psnr=38", "{level}"]
    {
        assert!(said.contains(words), "{words}: {plan}");
    }
    let ended = place.run(&format!("plan {asked} -o out.mp4 --json"));
    let plan: Value = serde_json::from_str(&ended.stdout).unwrap();
    let aim = &plan["renditions"][0]["encoder"]["session"]["aim"]["quality"];
    assert_eq!((aim["metric"].as_str(), aim["tolerance"].as_f64()), (Some("psnr"), Some(0.3)), "{ended}");
    let ended = place.run(&format!("encode {asked} -o out.mp4"));
    assert!(ended.code == 0 && ended.stdout.contains("PSNR 38 dB ± 0.3, in every segment: from"), "{ended}");
    let ended = place.run(&format!("encode {asked} -o capped.mp4 --max-bitrate 150k --json"));
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let session = &report["renditions"][0]["session"];
    assert!(session["quality"]["lowered_to"].as_f64().unwrap() < 38.0, "{ended}");
    assert!(session["segments"].as_array().unwrap().iter().all(|segment| segment["quality"].is_f64()), "{ended}");
    for (arguments, code, words) in [
        ("--quality psnr=38 --passes 2", 3, "leave out --passes"),
        ("--quality psnr=38 -b 1M", 2, "cannot be used with"),
        ("--quality psnr=38 --crf 20", 2, "cannot be used with"),
        ("--quality psnr=38 --size 1M", 2, "cannot be used with"),
        ("-b 1M --max-bitrate 2M", 2, "cannot be used with"),
        ("-b 1M --quality-tolerance 2", 2, "cannot be used with"),
        ("--quality psnr=38 --maxrate 2M --bufsize 2M", 3, "--maxrate would not hold"),
        ("--quality sharp=38", 2, "expected one of psnr, ssim"),
        ("--quality 38", 2, "like vmaf=95"),
    ] {
        let ended = place.run(&format!("encode in.mkv -o other.mp4 -c libx264 {arguments}"));
        assert!(ended.code == code && ended.stderr.contains(words), "{arguments}: {ended}");
    }
}

#[test]
fn json_is_the_report_alone() {
    let place = with_clip();
    let ended = place.run("encode in.mkv -o out.mp4 -c libx264 -b 300k --json");
    assert_eq!(ended.code, 0, "{ended}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(ended.stdout.lines().count(), 1);
    assert_eq!(report["frames"], 50);
    assert_eq!(report["renditions"][0]["verified"], true);
    assert_eq!(report["renditions"][0]["passes"].as_array().unwrap().len(), 2);
    assert!(report["versions"]["libavcodec"].is_string());
}

#[test]
fn json_carries_errors_and_bad_usage_too() {
    let place = Place::empty();
    for (arguments, code, kind) in [
        ("encode absent.mkv -o out.mp4 -c libx264 -b 1M --json", 4, "input"),
        ("--json encode in.mkv -o out.mp4 -c libx264", 2, "usage"),
    ] {
        let ended = place.run(arguments);
        assert_eq!(ended.code, code, "{ended}");
        let value: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((&value["exit_code"], &value["error"]["kind"]), (&Value::from(code), &Value::from(kind)));
        assert!(value["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!(!ended.stderr.is_empty(), "people are told as well");
    }
}

#[test]
fn progress_as_json_is_one_event_a_line_and_the_report_last() {
    let place = with_clip();
    let ended = place.run("encode in.mkv -o out.mp4 -c libx264 -b 300k --progress json --json");
    let events: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.first().unwrap()["event"], "run");
    assert_eq!(events.last().unwrap()["event"], "report");
    assert!(events.iter().any(|event| event["event"] == "pass_done" && event["pass"] == 2), "{ended}");
}

#[test]
fn progress_can_be_forced_where_there_is_no_terminal_and_silenced() {
    let place = with_clip();
    let forced = place.run("encode in.mkv -o out.mp4 -c libx264 -b 300k --progress bar");
    assert!(forced.stderr.contains("pass 1/2"), "{forced}");
    let silent = place.run("encode in.mkv -o out.mp4 -y -c libx264 -b 300k --progress none");
    assert_eq!(silent.stderr, "");
}

#[test]
fn ss_and_t_cut_as_typed() {
    let place = with_clip();
    for start in ["-ss 1", "-ss=1", "--ss 1", "--start 0:01", "-ss 1000ms"] {
        let ended = place.run(&format!("encode in.mkv -o out.mp4 -y -c libx264 --crf 30 {start} -t 0.4"));
        assert_eq!(ended.code, 0, "{start}: {ended}");
        assert_eq!(frames(&place, "out.mp4"), 10, "{start}");
    }
}

#[test]
fn a_gop_in_seconds_is_counted_in_frames_of_the_source() {
    let place = with_clip();
    let ended = place.run("plan in.mkv -o out.mp4 -c libx264 -b 1M --gop 2s --json");
    let plan: Value = serde_json::from_str(&ended.stdout).unwrap();
    let settings = plan["renditions"][0]["encoder"]["steps"][0]["settings"].as_array().unwrap().clone();
    assert!(settings.iter().any(|setting| setting["option"] == "g" && setting["value"] == "50"), "{ended}");
}

#[test]
fn a_plan_says_everything_and_makes_no_file() {
    let place = with_clip();
    let ended = place.run("plan in.mkv -o out.mp4 -c libx264 -b 300k --preset fast --opt tune=film --vf hflip");
    assert_eq!(ended.code, 0, "{ended}");
    for part in [
        "320x180",
        "25 fps",
        "hflip",
        "two passes",
        "pass 1 of 2",
        "pass 2 of 2",
        "= film  (you)",
        "(target)",
        "audio aac",
        "copied",
        "keeps all of",
    ] {
        assert!(ended.stdout.contains(part), "{part} is missing: {ended}");
    }
    assert_eq!(place.names(), ["in.mkv"]);
}

#[test]
fn a_small_cache_is_told_in_the_plan_and_in_the_summary() {
    let place = with_clip();
    let job = "in.mkv -o out.mp4 -c libx264 -b 300k --cache ram --cache-size 2M";
    let planned = place.run(&format!("plan {job}"));
    assert!(planned.stdout.contains(" MB in memory (up to 2.0 MB); the rest is decoded again"), "{planned}");
    let encoded = place.run(&format!("encode {job}"));
    assert!(encoded.stdout.contains("the rest was decoded again"), "{encoded}");
}

#[test]
fn the_ffmpeg_lines_of_a_plan_really_run() {
    let place = Place::empty();
    clip(&place, "it's in.mkv", 2);
    let planned =
        place.run_with(&["plan", "it's in.mkv", "-o", "out put.mp4", "-c", "libx264", "-b", "300k", "--argv"]);
    let lines: Vec<&str> = planned.stdout.lines().filter(|line| line.starts_with("ffmpeg ")).collect();
    assert_eq!(lines.len(), 2, "{planned}");
    for line in lines {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        let ended = place.start(shell).end();
        assert_eq!(ended.code, 0, "{line}: {ended}");
    }
    assert_eq!(frames(&place, "out put.mp4"), 50);
}

#[test]
fn rungs_make_a_file_each_and_those_above_the_source_are_left_out() {
    let place = with_clip();
    let ended = place.run(
        "encode in.mkv -o out_{name}.mkv -c libx264 --preset ultrafast --rung 2160p=5M --rung source=300k --rung w100=50k",
    );
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(place.names(), ["in.mkv", "out_source.mkv", "out_w100.mkv"]);
    assert!(ended.stdout.contains("2160p is larger than the source"), "{ended}");
    assert!(ended.stdout.contains("rendition w100"), "{ended}");
}

#[test]
fn several_bit_rates_make_a_file_each_named_as_typed() {
    let place = with_clip();
    let ended = place.run("encode in.mkv -o {stem}-{name}.mp4 -c libx264 --preset ultrafast -b 200k,0.1M");
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(place.names(), ["in-0.1M.mp4", "in-200k.mp4", "in.mkv"]);
}

#[test]
fn outputs_of_several_renditions_need_names_that_stay_in_the_folder() {
    let place = with_clip();
    for (arguments, said) in [
        ("-o out.mp4 -c libx264 -b 1M,2M", "{name}"),
        ("-o out_{nme}.mp4 -c libx264 -b 1M", "{nme}"),
        ("-o out_{name}.mp4 -c libx264 --rung 4320p=9M", "no rendition fits the source"),
        ("-o {stem}.m3u8 -c libx264 --rung source=1M --rung source=1M", "two renditions are named"),
    ] {
        let ended = place.run(&format!("encode in.mkv {arguments}"));
        assert_eq!(ended.code, 3, "{arguments}: {ended}");
        assert!(ended.stderr.contains(said), "{arguments}: {ended}");
    }
    std::fs::write(place.path("up.toml"), "[[rendition]]\nname='../x'\nencoder='libx264'\ncrf=30\n").unwrap();
    let ended = place.run("encode in.mkv -o out_{name}.mp4 --job up.toml");
    assert!(ended.code == 3 && ended.stderr.contains("another folder"), "{ended}");
    for arguments in
        ["-o a.mp4 -c libx264 --rung 720p", "-o a.mp4 -c libx264 --rung 720p=1M -b 1M", "-o a.mp4 -c libx264"]
    {
        assert_eq!(place.run(&format!("encode in.mkv {arguments}")).code, 2, "{arguments}");
    }
}

#[test]
fn a_job_file_makes_what_it_says_and_its_mistakes_are_named() {
    let place = with_clip();
    let text = "output = '{name}.mkv'\n[[rendition]]\nname = 'a'\nencoder = 'libx264'\nbitrate = '200k'\n\
                [[rendition]]\nname = 'b'\nencoder = 'libx264'\ncrf = 30\nsize = 'w100'\naudio = 'none'\n";
    std::fs::write(place.path("ladder.toml"), text).unwrap();
    let ended = place.run("encode in.mkv --job ladder.toml");
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(place.names(), ["a.mkv", "b.mkv", "in.mkv", "ladder.toml"]);
    std::fs::write(place.path("ladder.toml"), text.replace("size", "sise")).unwrap();
    let ended = place.run("encode in.mkv --job ladder.toml -y");
    assert!(ended.code == 3 && ended.stderr.contains("unknown field `sise`"), "{ended}");
    assert_eq!(place.run("encode in.mkv --job ladder.toml -c libx264").code, 2);
}

#[test]
fn a_plan_of_a_package_says_how_long_its_segments_are() {
    let place = with_clip();
    let ended = place.run("plan in.mkv -o web/m.m3u8 -c libx264 --rung source=300k --rung w100=crf:30 --audio aac:64k");
    assert_eq!(ended.code, 0, "{ended}");
    let said = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["hls of 2 renditions", "2 s where --gop does not say", "beside the second passes of the others"] {
        assert!(said.contains(part), "{part} is missing: {ended}");
    }
    assert_eq!(place.names(), ["in.mkv"]);
}

#[test]
fn all_19_encoders_are_listed() {
    let place = Place::empty();
    let ended = place.run("encoders --json");
    let rows: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 19);
    let x264 = &rows[0];
    assert_eq!((&x264["encoder"], &x264["present"]), (&Value::from("libx264"), &Value::from(true)));
    assert_eq!((&x264["two_pass"], &x264["preset_option"]), (&Value::from(true), &Value::from("preset")));
    let table = place.run("encoders");
    for row in rows.as_array().unwrap() {
        assert!(table.stdout.contains(row["encoder"].as_str().unwrap()), "{row}");
    }
}

#[test]
fn one_encoder_is_shown_with_the_options_of_each_pass() {
    let ended = Place::empty().run("encoders libx264");
    for part in ["pass 1 of 2", "pass 2 of 2", "one pass towards quality", "crf", "ultrafast"] {
        assert!(ended.stdout.contains(part), "{part} is missing: {ended}");
    }
}

#[test]
fn the_long_version_names_the_linked_libraries() {
    let place = Place::empty();
    let long = place.run("--version");
    assert!(long.stdout.starts_with("repass ") && long.stdout.contains("libavcodec   "), "{long}");
    assert_eq!(place.run("-V").stdout, format!("repass {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_and_manual_pages_are_made() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        assert!(place.run(&format!("completions {shell}")).stdout.contains("libx265"), "{shell}");
    }
    assert!(place.run("man").stdout.contains(".TH repass"));
    assert_eq!(place.run("man pages").code, 0);
    assert!(place.path("pages/repass-encode.1").exists());
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let place = Place::empty();
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" encoders libx264 | true; \"$0\" man | true; \"$0\" --help | true"]);
    shell.arg(env!("CARGO_BIN_EXE_repass"));
    let ended = place.start(shell).end();
    assert_eq!(ended.stderr, "");
}

#[test]
fn control_characters_of_names_do_not_reach_the_terminal() {
    let place = Place::empty();
    let name = "evil\u{1b}[31m\u{7}.mkv";
    clip(&place, name, 1);
    let planned = place.run_with(&["plan", name, "-o", "out.mp4", "-c", "libx264", "-b", "300k", "--argv"]);
    let refused = place.run_with(&["plan", name, "-o", name, "-c", "libx264", "-b", "300k"]);
    assert_eq!((planned.code, refused.code), (0, 3));
    for text in [planned.stdout, refused.stderr] {
        assert!(text.contains("evil\\u{1b}[31m"), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text}");
    }
}

#[test]
fn the_log_is_shown_only_when_asked_for() {
    let place = with_clip();
    let quiet = place.run("encode in.mkv -o out.mp4 -c libx264 -b 300k");
    assert_eq!(quiet.stderr, "");
    let told = place.run("encode in.mkv -o out.mp4 -y -c libx264 -b 300k -v");
    assert!(told.stderr.contains("libx264: info: "), "{told}");
    assert!(!told.stderr.contains(": debug: "), "{told}");
}

/// A folder with `in.mkv`: two seconds, 320x180, 25 frames per second, with sound.
fn with_clip() -> Place {
    let place = Place::empty();
    clip(&place, "in.mkv", 2);
    place
}

fn clip(place: &Place, name: &str, seconds: u32) {
    let sources =
        format!("-f lavfi -i testsrc2=s=320x180:r=25:d={seconds} -f lavfi -i sine=frequency=330:duration={seconds}");
    place.make(name, &format!("{sources} -c:v mpeg2video -q:v 4 -c:a aac -f matroska"));
}

/// Frames of the first video stream, counted by decoding.
fn frames(place: &Place, name: &str) -> u64 {
    let counted =
        ["-count_frames", "-select_streams", "v:0", "-of", "csv=p=0", "-show_entries", "stream=nb_read_frames"];
    let printed = ffprobe(&[&counted[..], &[text(&place.path(name))]].concat());
    printed.trim().trim_end_matches(',').parse().unwrap()
}
