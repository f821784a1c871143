//! The same job with the ffmpeg program and with repass, in turn: ratios of wall time, CPU time and peak memory.
//!
//! `cargo bench --bench against_ffmpeg` runs all scenarios, `-- x264` those whose name contains `x264`. `REPASS_RUNS` is the
//! number of pairs (5). Both sides use the same libav*, the same encoder and the same options, and the outputs are compared
//! packet by packet where the encoder is deterministic. Real footage is taken from the folder `REPASS_CLIPS`;
//! without it the sources are made with ffmpeg, and the table says so.

mod pairs;

use std::path::Path;
use std::process::Command;

use pairs::{Cost, FILM, Source, UHD, encode, in_turn, packets, ratio, runs, source, text, timed, versions};

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
    /// How many times less than the program we decode.
    decodes_spared: u8,
    output: &'static str,
    /// The ratio of wall and CPU time to reach.
    goal: f64,
}

const SHORT_FILM: Source = Source { seconds: "2", ..FILM };
const CITY: Source = Source { footage: "city_aerial_1080p24_h264_12s.mp4", from: "0", coded_at: None, ..FILM };
const TONEMAP: &str = "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,\
                       zscale=t=bt709:m=bt709:r=tv,scale=1920:1080,format=yuv420p";

const HDR10: &str =
    "mastering-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):cll=1000,400";

const X264: Scenario = Scenario {
    name: "",
    source: FILM,
    encoder: "libx264",
    target: ["-b:v", "4M"],
    filters: None,
    theirs: &[],
    ours: &[],
    passes: 2,
    decodes_spared: 1,
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
        // The source's HDR10 metadata, which we carry by ourselves: as `plan --argv` prints it.
        theirs: &["-preset", "fast", "-x264-params", HDR10],
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
        decodes_spared: 0,
        goal: 1.0,
        ..X264
    },
    Scenario {
        name: "x264 fast, two passes, cache off",
        theirs: &["-preset", "fast"],
        ours: &["--preset", "fast", "--cache", "none"],
        decodes_spared: 0,
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
    println!("| two passes, video only | wall | CPU | goal | CPU / (decode + passes) | peak memory | packets |");
    println!("|---|---|---|---|---|---|---|");
    for scenario in SCENARIOS.iter().filter(|s| wanted.is_empty() || wanted.iter().any(|word| s.name.contains(word))) {
        measure(scenario, runs, folder.path());
    }
}

fn measure(scenario: &Scenario, runs: usize, folder: &Path) {
    let input = source(&scenario.source, folder);
    let (one, two) = (folder.join(format!("theirs-{}", scenario.output)), folder.join(scenario.output));
    let (mut pairs, mut least) = (Vec::new(), Vec::new());
    for round in 0..runs {
        let decoded = decode(scenario, &input).cpu;
        let (ours, theirs) = in_turn(round, || ours(scenario, &input, &two), || theirs(scenario, &input, folder, &one));
        // What any driver has to spend: every pass, and one decode and filtering for all of them.
        let spared = f64::from(scenario.decodes_spared) * decoded;
        least.push((ours, Cost { cpu: theirs.cpu - spared, ..theirs }));
        pairs.push((ours, theirs));
    }
    let more = pairs.iter().map(|(ours, theirs)| (ours.peak - theirs.peak) / 1024.0).fold(f64::MIN, f64::max);
    let same = if packets(&one) == packets(&two) { "same" } else { "differ" };
    println!(
        "| {} | {} | {} | {:.2} | {} | {:+.0} MiB | {same} |",
        scenario.name,
        ratio(&pairs, |cost| cost.wall),
        ratio(&pairs, |cost| cost.cpu),
        scenario.goal,
        ratio(&least, |cost| cost.cpu),
        more,
    );
}

fn ours(scenario: &Scenario, input: &Path, output: &Path) -> Cost {
    let mut command = encode(input, output);
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
        // Without it, pass 1 can see other frames than pass 2: the null muxer takes timestamps as they are, mp4 does not.
        command.args(["-fps_mode", "passthrough", "-c:v", scenario.encoder]).args(scenario.target);
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

/// Decoding and filtering alone.
fn decode(scenario: &Scenario, input: &Path) -> Cost {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-i", text(input), "-map", "0:v:0"]);
    command.args(scenario.filters.iter().flat_map(|filters| ["-vf", filters]));
    timed(command.args(["-fps_mode", "passthrough", "-f", "null", "-"]))
}
