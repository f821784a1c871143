//! The same job with the ffmpeg program and with repass, in turn: ratios of wall time, CPU time and peak memory.
//!
//! `cargo bench --bench against_ffmpeg` runs all scenarios, `-- x264` those whose name contains `x264`. `REPASS_RUNS` is the
//! number of pairs (5). Both sides use the same libav*, the same encoder and the same options, and the outputs are compared
//! packet by packet where the encoder is deterministic. Real footage is taken from `REPASS_CLIPS` (or `../shared/clips`);
//! without it the sources are made with ffmpeg, and the table says so.

mod pairs;

use std::path::Path;
use std::process::Command;

use pairs::{Cost, Source, packets, ratio, runs, source, text, timed, versions};

/// One job, for both sides.
struct Scenario {
    name: &'static str,
    source: Source,
    encoder: &'static str,
    target: [&'static str; 2],
    filters: Option<&'static str>,
    /// The program's words for what our adapter sets, and ours.
    theirs: &'static [&'static str],
    ours: &'static [&'static str],
    passes: u8,
    output: &'static str,
    /// The ratio of wall and CPU time to reach.
    goal: f64,
}

const FILM: Source = Source { footage: "bbb_1080p24_h264_51aac_20s.mp4", seconds: "6", made: ("1920x1080", "libx264") };
const SHORT_FILM: Source = Source { seconds: "2", ..FILM };
const CITY: Source = Source { footage: "city_aerial_1080p24_h264_12s.mp4", ..FILM };
const UHD: Source = Source { footage: "bbb_4k60_hevc10_hdr10_2s.mp4", seconds: "2", made: ("3840x2160", "libx265") };

const TONEMAP: &str = "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,\
                       zscale=t=bt709:m=bt709:r=tv,scale=1920:1080,format=yuv420p";

const X264: Scenario = Scenario {
    name: "",
    source: FILM,
    encoder: "libx264",
    target: ["-b:v", "4M"],
    filters: None,
    theirs: &[],
    ours: &[],
    passes: 2,
    output: "out.mp4",
    goal: 0.90,
};

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "x264 fast, 1080p H.264", theirs: &["-preset", "fast"], ours: &["--preset", "fast"], ..X264 },
    Scenario { name: "x264 medium, 1080p H.264", ..X264 },
    Scenario { name: "x264 medium, 1080p aerial", source: CITY, ..X264 },
    Scenario {
        name: "x265 fast, 1080p H.264",
        source: SHORT_FILM,
        encoder: "libx265",
        target: ["-b:v", "2500k"],
        theirs: &["-preset", "fast", "-x265-params", "log-level=error:pass={pass}:stats={stats}"],
        ours: &["--preset", "fast"],
        goal: 0.95,
        ..X264
    },
    Scenario {
        name: "VP9 cpu-used 4, 1080p H.264",
        source: SHORT_FILM,
        encoder: "libvpx-vp9",
        target: ["-b:v", "2500k"],
        theirs: &["-cpu-used", "4", "-row-mt", "1"],
        ours: &["--preset", "4"],
        output: "out.webm",
        goal: 0.95,
        ..X264
    },
    Scenario {
        name: "libaom cpu-used 6, 1080p H.264",
        source: Source { seconds: "1", ..FILM },
        encoder: "libaom-av1",
        target: ["-b:v", "2M"],
        theirs: &["-cpu-used", "6", "-row-mt", "1"],
        ours: &["--preset", "6"],
        output: "out.mkv",
        goal: 0.95,
        ..X264
    },
    Scenario {
        name: "x264 fast, 4K HEVC 10-bit to 1080p",
        source: UHD,
        filters: Some("scale=1920:1080,format=yuv420p"),
        theirs: &["-preset", "fast"],
        ours: &["--preset", "fast"],
        goal: 0.70,
        ..X264
    },
    Scenario {
        name: "x264 fast, 4K HDR10 tonemapped to 1080p",
        source: UHD,
        filters: Some(TONEMAP),
        theirs: &["-preset", "fast"],
        ours: &["--preset", "fast"],
        goal: 0.73,
        ..X264
    },
    Scenario {
        name: "x264 fast, one pass",
        target: ["-crf", "23"],
        theirs: &["-preset", "fast"],
        ours: &["--preset", "fast"],
        passes: 1,
        goal: 1.0,
        ..X264
    },
    Scenario {
        name: "x264 fast, two passes, cache off",
        theirs: &["-preset", "fast"],
        ours: &["--preset", "fast", "--cache", "none"],
        goal: 1.0,
        ..X264
    },
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let runs = runs();
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("{}", versions());
    println!("{runs} pairs each, in turn; ratios are repass / ffmpeg, median (least to greatest)\n");
    println!("{:<42} {:>20} {:>20} {:>14}  {:>5}  bits", "", "wall", "CPU", "peak memory", "goal");
    for scenario in SCENARIOS.iter().filter(|s| wanted.is_empty() || wanted.iter().any(|word| s.name.contains(word))) {
        measure(scenario, runs, folder.path());
    }
}

fn measure(scenario: &Scenario, runs: usize, folder: &Path) {
    let input = source(&scenario.source, folder);
    let (one, two) = (folder.join(format!("theirs-{}", scenario.output)), folder.join(scenario.output));
    let mut pairs = Vec::new();
    for _ in 0..runs {
        pairs.push((ours(scenario, &input, &two), theirs(scenario, &input, folder, &one)));
    }
    let more = pairs.iter().map(|(ours, theirs)| (ours.peak - theirs.peak) / 1024.0).fold(f64::MIN, f64::max);
    let same = if packets(&one) == packets(&two) { "same" } else { "differ" };
    println!(
        "{:<42} {:>20} {:>20} {:>+10.0} MiB  {:>5.2}  {same}",
        scenario.name,
        ratio(&pairs, |cost| cost.wall),
        ratio(&pairs, |cost| cost.cpu),
        more,
        scenario.goal
    );
}

fn ours(scenario: &Scenario, input: &Path, output: &Path) -> Cost {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repass"));
    command.args([
        "encode",
        text(input),
        "-o",
        text(output),
        "-y",
        "--progress",
        "none",
        "--audio",
        "none",
        "--subs",
        "none",
    ]);
    let target = if scenario.target[0] == "-crf" { "--crf" } else { "-b" };
    command.args(["-c", scenario.encoder, target, scenario.target[1]]).args(scenario.ours);
    command.args(scenario.filters.iter().flat_map(|filters| ["--vf", filters]));
    timed(&mut command)
}

fn theirs(scenario: &Scenario, input: &Path, folder: &Path, output: &Path) -> Cost {
    let stats = folder.join("stats");
    let mut all = Cost::default();
    for pass in 1..=scenario.passes {
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-i", text(input), "-map", "0:v:0"]);
        command.args(["-c:v", scenario.encoder]).args(scenario.target);
        command.args(scenario.filters.iter().flat_map(|filters| ["-vf", filters]));
        let number = pass.to_string();
        command
            .args(scenario.theirs.iter().map(|word| word.replace("{pass}", &number).replace("{stats}", text(&stats))));
        if scenario.passes == 2 && scenario.encoder != "libx265" {
            command.args(["-pass", &number, "-passlogfile", text(&stats)]);
        }
        let last = pass == scenario.passes;
        command.args(if last { vec![text(output)] } else { vec!["-f", "null", "-"] });
        let cost = timed(&mut command);
        all = all.then(cost);
    }
    all
}
