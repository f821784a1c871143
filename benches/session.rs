//! A session beside ffmpeg's two passes at equal bit rates: CPU and wall time, how the rate is met, and BD-rate over four rates.
//!
//! `cargo bench --bench session` runs all scenarios in turn, `-- x265 city` those whose name contains both words. `REPASS_CLIPS` is the
//! folder of footage, as for `against_ffmpeg`. Sources are gone through once for each rate. With the feature `vmaf`, VMAF is
//! measured beside PSNR; XPSNR where the linked libavfilter has it.

mod pairs;

use std::path::Path;
use std::process::Command;

use pairs::{Cost, Source, encode, ratio, source, text, timed, versions};
use repass::adapter;
use repass::bench::bd::{Interpolation, Point, bd_rate};
use repass::bench::measure::{MeasureRequest, measure};
use repass::bench::quality::Quality;
use repass::event::Cancel;
use repass::quality::Metric;

/// One encoder over one source.
struct Scenario {
    encoder: &'static str,
    /// ffmpeg's options of speed, which repass takes too.
    speed: (&'static str, &'static str),
    /// Ratio of CPU time to reach.
    goal: f64,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { encoder: "libx264", speed: ("preset", "medium"), goal: 0.85 },
    Scenario { encoder: "libx265", speed: ("preset", "medium"), goal: 0.65 },
    Scenario { encoder: "libvpx-vp9", speed: ("cpu-used", "4"), goal: 0.95 },
];

/// A source, its size for one that is made, its length, and four bit rates.
const SOURCES: &[(Source, [u64; 4])] = &[
    (made("crystal_480p30_h264_12s.mp4", "720x480"), [300_000, 600_000, 1_200_000, 2_400_000]),
    (made("cup_640x480_h264_26777fps_audio_first.mp4", "640x480"), [200_000, 400_000, 800_000, 1_600_000]),
    (made("foreman_remake_720p23976_hevc_10s.mp4", "1280x720"), [300_000, 600_000, 1_200_000, 2_400_000]),
    (made("cockatoo_720p20_h264_14s.mp4", "1280x720"), [300_000, 600_000, 1_200_000, 2_400_000]),
    (made("spices_720p_h264_33ms_10s.mp4", "1280x720"), [400_000, 800_000, 1_600_000, 3_200_000]),
    (made("person_768x432_h264_139s.mp4", "768x432"), [60_000, 120_000, 240_000, 480_000]),
    (made("city_aerial_1080p24_h264_12s.mp4", "1920x1080"), [1_500_000, 3_000_000, 6_000_000, 12_000_000]),
    (made("bbb_1080p24_h264_51aac_20s.mp4", "1920x1080"), [600_000, 1_200_000, 2_400_000, 4_800_000]),
];

const fn made(footage: &'static str, size: &'static str) -> Source {
    Source { footage, from: "0", seconds: "140", coded_at: None, made: (size, "libx264") }
}

/// One output.
struct Side {
    cost: Cost,
    bps: f64,
    qualities: Vec<Quality>,
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("{}", versions());
    println!("ratios are repass / ffmpeg: median (least to greatest) of four rates\n");
    for scenario in SCENARIOS {
        for (clip, rates) in SOURCES {
            let name = format!("{} {} {}, {}", scenario.encoder, scenario.speed.0, scenario.speed.1, clip.footage);
            if wanted.iter().all(|word| name.contains(word)) {
                compare(&name, scenario, &source(clip, folder.path()), rates, folder.path());
            }
        }
    }
}

fn compare(name: &str, scenario: &Scenario, input: &Path, rates: &[u64; 4], folder: &Path) {
    let sides: Vec<(Side, Side)> = rates
        .iter()
        .map(|rate| (ours(scenario, input, *rate, folder), theirs(scenario, input, *rate, folder)))
        .collect();
    let costs: Vec<(Cost, Cost)> = sides.iter().map(|(ours, theirs)| (ours.cost, theirs.cost)).collect();
    println!("{name}");
    println!(
        "  CPU {}, goal {:.2}; wall {}",
        ratio(&costs, |cost| cost.cpu),
        scenario.goal,
        ratio(&costs, |cost| cost.wall)
    );
    let errors = |side: fn(&(Side, Side)) -> &Side| -> Vec<String> {
        let off =
            |(pair, rate): (&(Side, Side), &u64)| format!("{:+.2} %", (side(pair).bps / *rate as f64 - 1.0) * 100.0);
        sides.iter().zip(rates).map(off).collect()
    };
    println!("  bit rate: {}; ffmpeg's: {}", errors(|pair| &pair.0).join(", "), errors(|pair| &pair.1).join(", "));
    for (number, quality) in sides[0].0.qualities.iter().enumerate() {
        let points = |side: fn(&(Side, Side)) -> &Side, worst: bool| -> Vec<Point> {
            let point = |pair| {
                let Quality { pooled, .. } = &side(pair).qualities[number];
                Point { rate: side(pair).bps, quality: if worst { pooled.p5 } else { pooled.mean } }
            };
            sides.iter().map(point).collect()
        };
        let delta = |worst| {
            let (anchor, test) = (points(|pair| &pair.1, worst), points(|pair| &pair.0, worst));
            bd_rate(&anchor, &test, Interpolation::Pchip)
                .map_or_else(|why| why.to_string(), |delta| format!("{:+.2} %", delta.value * 100.0))
        };
        println!(
            "  BD-rate by {}: {} on average, {} by the 5th percentile of frames",
            quality.metric.title(),
            delta(false),
            delta(true)
        );
    }
}

fn ours(scenario: &Scenario, input: &Path, rate: u64, folder: &Path) -> Side {
    let output = folder.join("ours.mkv");
    let mut command = encode(input, &output);
    command.args(["-c", scenario.encoder, "-b", &rate.to_string(), "--passes", "session"]);
    command.args(["--preset", scenario.speed.1]);
    side(timed(&mut command), input, &output)
}

/// Two passes.
fn theirs(scenario: &Scenario, input: &Path, rate: u64, folder: &Path) -> Side {
    let output = folder.join("theirs.mkv");
    let encoder = adapter::named(scenario.encoder).expect("a row");
    let mut all = Cost::default();
    for pass in [1, 2] {
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-i", text(input), "-an", "-sn"]);
        command.args(["-fps_mode", "passthrough", "-c:v", scenario.encoder, "-b:v", &rate.to_string()]);
        command.args([&format!("-{}", scenario.speed.0), scenario.speed.1]);
        if encoder.always.iter().any(|setting| setting.option == "row-mt") {
            command.args(["-row-mt", "1"]);
        }
        command.args(encoder.two_pass_args(pass, &folder.join("stats")).expect("two passes"));
        match pass {
            1 => command.args(["-f", "null", "-"]),
            _ => command.arg(&output),
        };
        all = all.then(timed(&mut command));
    }
    side(all, input, &output)
}

fn side(cost: Cost, input: &Path, output: &Path) -> Side {
    let metrics =
        Metric::available().into_iter().filter(|metric| !matches!(metric, Metric::VmafNeg | Metric::Ssim)).collect();
    let request = MeasureRequest {
        reference: input.to_owned(),
        distorted: output.to_owned(),
        metrics,
        pixel_format: None,
        threads: None,
    };
    let measured = measure(&request, &Cancel::new(), &mut |_, _| {}).expect("the output can be compared");
    let seconds = measured.frames as f64 / measured.frame_rate;
    Side { cost, bps: video_bytes(output) as f64 * 8.0 / seconds, qualities: measured.qualities }
}

fn video_bytes(path: &Path) -> u64 {
    let entries = ["-v", "error", "-select_streams", "v", "-show_entries", "packet=size", "-of", "csv=p=0", text(path)];
    let printed = Command::new("ffprobe").args(entries).output().expect("ffprobe").stdout;
    String::from_utf8_lossy(&printed).lines().filter_map(|line| line.trim_end_matches(',').parse::<u64>().ok()).sum()
}
