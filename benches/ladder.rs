//! A ladder of three rungs and two passes each: as six ffmpeg commands, as two with three outputs, and as one repass job.
//!
//! `cargo bench --bench ladder` runs all scenarios in turn, `-- 4K` those whose name contains `4K`. `REPASS_RUNS` is the number
//! of rounds (5), `REPASS_CLIPS` the folder of footage, as for `against_ffmpeg`. The outputs are compared packet by packet
//! with those of the six commands.

mod pairs;

use std::path::{Path, PathBuf};
use std::process::Command;

use pairs::{Cost, FILM, Source, UHD, encode, in_turn, packets, ratio, runs, source, text, timed, versions};

/// A ladder from one source.
struct Scenario {
    name: &'static str,
    source: Source,
    encoder: &'static str,
    preset: &'static str,
    rungs: &'static [Rung],
    /// Ratios of wall time to reach, against six commands and against two.
    goals: (f64, f64),
}

/// A size as both sides spell it, and a bit rate.
struct Rung {
    name: &'static str,
    scale: Option<&'static str>,
    rate: &'static str,
}

const LADDER: &[Rung] = &[
    Rung { name: "1080p", scale: Some("scale=1920:1080"), rate: "5M" },
    Rung { name: "720p", scale: Some("scale=1280:720"), rate: "3M" },
    Rung { name: "360p", scale: Some("scale=640:360"), rate: "800k" },
];

/// Three rates of one size: pass 1 is the same work three times.
const RATES: &[Rung] = &[
    Rung { name: "8M", scale: None, rate: "8M" },
    Rung { name: "4M", scale: None, rate: "4M" },
    Rung { name: "2M", scale: None, rate: "2M" },
];

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "x264 veryfast, 1080p H.264",
        source: FILM,
        encoder: "libx264",
        preset: "veryfast",
        rungs: LADDER,
        goals: (0.58, 0.80),
    },
    Scenario {
        name: "x264 fast, 1080p H.264",
        source: FILM,
        encoder: "libx264",
        preset: "fast",
        rungs: LADDER,
        goals: (0.58, 0.80),
    },
    Scenario {
        name: "x264 veryfast, 4K HEVC 10-bit",
        source: UHD,
        encoder: "libx264",
        preset: "veryfast",
        rungs: LADDER,
        goals: (0.37, 0.65),
    },
    Scenario {
        name: "x264 fast, three rates of 1080p",
        source: FILM,
        encoder: "libx264",
        preset: "fast",
        rungs: RATES,
        goals: (0.57, 0.80),
    },
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("{}", versions());
    println!("{} rounds each, in turn; ratios are repass / ffmpeg, median (least to greatest)\n", runs());
    println!(
        "| three renditions, two passes each | against | wall | CPU | peak memory | goal | packets, to the six commands' |"
    );
    println!("|---|---|---|---|---|---|---|");
    for scenario in SCENARIOS.iter().filter(|s| wanted.is_empty() || wanted.iter().any(|word| s.name.contains(word))) {
        measure(scenario, folder.path());
    }
}

fn measure(scenario: &Scenario, folder: &Path) {
    let input = source(&scenario.source, folder);
    let (mut against_six, mut against_two) = (Vec::new(), Vec::new());
    for round in 0..runs() {
        let two = two(scenario, &input, folder);
        let (ours, six) = in_turn(round, || ours(scenario, &input, folder), || six(scenario, &input, folder));
        against_six.push((ours, six));
        against_two.push((ours, two));
    }
    let same =
        scenario.rungs.iter().filter(|rung| packets(&at(folder, "ours", rung)) == packets(&at(folder, "six", rung)));
    let same = format!("{} of {} the same", same.count(), scenario.rungs.len());
    for (what, pairs, goal, packets) in [
        ("six commands", &against_six, scenario.goals.0, same.as_str()),
        ("two commands, three outputs", &against_two, scenario.goals.1, ""),
    ] {
        println!(
            "| {} | {what} | {} | {} | {} | {goal:.2} | {packets} |",
            scenario.name,
            ratio(pairs, |cost| cost.wall),
            ratio(pairs, |cost| cost.cpu),
            ratio(pairs, |cost| cost.peak),
        );
    }
}

fn ours(scenario: &Scenario, input: &Path, folder: &Path) -> Cost {
    let mut command = encode(input, &folder.join("ours_{name}.mp4"));
    command.args(["-c", scenario.encoder, "--preset", scenario.preset]);
    if scenario.rungs.iter().all(|rung| rung.scale.is_none()) {
        let rates: Vec<&str> = scenario.rungs.iter().map(|rung| rung.rate).collect();
        command.args(["-b", &rates.join(",")]);
    } else {
        command
            .args(scenario.rungs.iter().flat_map(|rung| ["--rung".to_owned(), format!("{}={}", rung.name, rung.rate)]));
    }
    timed(&mut command)
}

/// Two passes of each rung, one after the other.
fn six(scenario: &Scenario, input: &Path, folder: &Path) -> Cost {
    let mut all = Cost::default();
    for rung in scenario.rungs {
        for pass in ["1", "2"] {
            let mut command = ffmpeg(input);
            command.args(rung.scale.iter().flat_map(|scale| ["-vf", scale]));
            output(&mut command, scenario, rung, pass, "six", folder);
            all = all.then(timed(&mut command));
        }
    }
    all
}

/// One command for each pass, with a graph that splits.
fn two(scenario: &Scenario, input: &Path, folder: &Path) -> Cost {
    let mut all = Cost::default();
    let pads: String = (0..scenario.rungs.len()).map(|number| format!("[b{number}]")).collect();
    let branch = |(number, rung): (usize, &Rung)| format!("[b{number}]{}[o{number}]", rung.scale.unwrap_or("null"));
    let branches: Vec<String> = scenario.rungs.iter().enumerate().map(branch).collect();
    let graph = format!("[0:v:0]split={}{pads};{}", scenario.rungs.len(), branches.join(";"));
    for pass in ["1", "2"] {
        let mut command = ffmpeg(input);
        command.args(["-filter_complex", &graph]);
        for (number, rung) in scenario.rungs.iter().enumerate() {
            command.args(["-map", &format!("[o{number}]")]);
            output(&mut command, scenario, rung, pass, "two", folder);
        }
        all = all.then(timed(&mut command));
    }
    all
}

fn ffmpeg(input: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-i", text(input)]);
    command
}

fn output(command: &mut Command, scenario: &Scenario, rung: &Rung, pass: &str, side: &str, folder: &Path) {
    let stats = folder.join(format!("{side}-{}", rung.name));
    command.args([
        "-an",
        "-sn",
        "-fps_mode",
        "passthrough",
        "-c:v",
        scenario.encoder,
        "-preset",
        scenario.preset,
        "-b:v",
        rung.rate,
    ]);
    command.args(["-pass", pass, "-passlogfile", text(&stats)]);
    if pass == "2" {
        command.arg(at(folder, side, rung));
    } else {
        command.args(["-f", "null", "-"]);
    }
}

fn at(folder: &Path, side: &str, rung: &Rung) -> PathBuf {
    folder.join(format!("{side}_{}.mp4", rung.name))
}
