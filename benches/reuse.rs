//! What is gained where work is shared: three bit rates from one first pass, and many short files in one process.
//!
//! `cargo bench --bench reuse` runs all, `-- rates` or `-- clips` a part; `REPASS_RUNS` is the number of pairs (5). The
//! program runs every pass as a command of its own, one after another; and, for the short files, two at a time (`xargs -P2`).
//! Peak memory is that of the largest process. Footage as for `against_ffmpeg`.

mod pairs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pairs::{Cost, FILM, Source, encode, in_turn, packets, ratio, runs, source, text, timed, versions};

/// One clip to three bit rates of one size.
struct Rates {
    name: &'static str,
    encoder: &'static str,
    preset: &'static str,
    /// The program's words for pass 1 and pass 2, less the bit rate.
    passes: [&'static [&'static str]; 2],
    rates: [&'static str; 3],
    source: Source,
    extension: &'static str,
    goal: f64,
}

const FLAGS: [&[&str]; 2] = [
    &["-preset", "{preset}", "-pass", "1", "-passlogfile", "{stats}"],
    &["-preset", "{preset}", "-pass", "2", "-passlogfile", "{stats}"],
];
const SHORT_FILM: Source = Source { seconds: "1", ..FILM };

const RATES: &[Rates] = &[
    Rates {
        name: "three rates, x264 fast, 1080p",
        encoder: "libx264",
        preset: "fast",
        passes: FLAGS,
        rates: ["2M", "4M", "8M"],
        source: FILM,
        extension: "mp4",
        goal: 0.57,
    },
    Rates {
        name: "three near rates, x265 fast, 1080p",
        encoder: "libx265",
        preset: "fast",
        passes: [
            &["-preset", "{preset}", "-x265-params", "log-level=error:pass=1:stats={stats}"],
            &["-preset", "{preset}", "-x265-params", "log-level=error:pass=2:stats={stats}"],
        ],
        rates: ["2250k", "2600k", "3M"],
        source: SHORT_FILM,
        extension: "mp4",
        goal: 0.57,
    },
    Rates {
        name: "three rates, VP9 cpu-used 4, 1080p",
        encoder: "libvpx-vp9",
        preset: "4",
        passes: [
            &["-cpu-used", "{preset}", "-row-mt", "1", "-pass", "1", "-passlogfile", "{stats}"],
            &["-cpu-used", "{preset}", "-row-mt", "1", "-pass", "2", "-passlogfile", "{stats}"],
        ],
        rates: ["1500k", "3M", "6M"],
        source: SHORT_FILM,
        extension: "webm",
        goal: 0.90,
    },
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word));
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("{}", versions());
    println!("{} pairs each, in turn; ratios are repass / ffmpeg, median (least to greatest)\n", runs());
    println!("| work shared | wall | CPU | peak memory | goal | packets |");
    println!("|---|---|---|---|---|---|");
    for rates in RATES.iter().filter(|rates| is_wanted(rates.name)) {
        measure_rates(rates, folder.path());
    }
    if is_wanted("eight clips") {
        measure_clips(folder.path());
    }
}

fn measure(name: &str, goal: f64, ours: impl Fn() -> Cost, theirs: impl Fn() -> Cost, same: impl FnOnce() -> String) {
    let pairs: Vec<(Cost, Cost)> = (0..runs()).map(|round| in_turn(round, &ours, &theirs)).collect();
    let more = pairs.iter().map(|(ours, theirs)| (ours.peak - theirs.peak) / 1024.0).fold(f64::MIN, f64::max);
    let (wall, cpu) = (ratio(&pairs, |cost| cost.wall), ratio(&pairs, |cost| cost.cpu));
    println!("| {name} | {wall} | {cpu} | {more:+.0} MiB | {goal:.2} | {} |", same());
}

// ---- three bit rates

fn measure_rates(rates: &Rates, folder: &Path) {
    let input = source(&rates.source, folder);
    let ours = || timed(&mut three_in_one(rates, &input, folder));
    let theirs = || {
        let each = |rate: &&str| two_passes(rates, &input, rate, folder);
        rates.rates.iter().map(each).fold(Cost::default(), Cost::then)
    };
    let at = |side: &str, rate: &str| output(rates, side, rate, folder);
    let same = |rate: &&&str| packets(&at("ours", rate)) == packets(&at("theirs", rate));
    measure(rates.name, rates.goal, ours, theirs, || {
        format!("{} of 3 the same", rates.rates.iter().filter(same).count())
    });
}

fn three_in_one(rates: &Rates, input: &Path, folder: &Path) -> Command {
    let pattern = output(rates, "ours", "{name}", folder);
    let mut command = encode(input, &pattern);
    command.args(["-c", rates.encoder, "--preset", rates.preset, "-b", &rates.rates.join(",")]);
    command
}

fn two_passes(rates: &Rates, input: &Path, rate: &str, folder: &Path) -> Cost {
    let stats = folder.join("stats");
    let mut all = Cost::default();
    for (pass, words) in rates.passes.iter().enumerate() {
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-i", text(input), "-map", "0:v:0"]);
        command.args(["-fps_mode", "passthrough", "-c:v", rates.encoder, "-b:v", rate]);
        let word = |word: &&str| word.replace("{preset}", rates.preset).replace("{stats}", text(&stats));
        command.args(words.iter().map(word));
        let file = output(rates, "theirs", rate, folder);
        command.args(if pass == 1 { vec![text(&file)] } else { vec!["-f", "null", "-"] });
        all = all.then(timed(&mut command));
    }
    all
}

fn output(rates: &Rates, side: &str, rate: &str, folder: &Path) -> PathBuf {
    folder.join(format!("{side}-{rate}.{}", rates.extension))
}

// ---- many short files

fn measure_clips(folder: &Path) {
    let long = source(&Source { from: "2", seconds: "18", ..FILM }, folder);
    for part in ["clips", "ours", "theirs"] {
        fs::create_dir_all(folder.join(part)).expect("a folder");
    }
    for number in 0..CLIPS {
        let (from, clip) = ((number * 2).to_string(), folder.join(format!("clips/{number}.mp4")));
        let part = ["-ss", &from, "-t", "1", "-i", text(&long), "-vf", "scale=1280:720", "-c:v", "libx264"];
        pairs::ffmpeg(&[&part[..], &["-crf", "16", "-an", text(&clip)]].concat());
    }
    let sides = [("two at a time", &[][..]), ("two at a time, 1 thread each", &["--threads", "2"][..])];
    for (name, threads) in sides {
        let ours = || timed(&mut our_clips(folder, threads));
        let name = |theirs: &str| format!("eight clips {name} / {theirs}");
        measure(&name("in turn"), 0.50, ours, || timed(&mut their_clips(folder, 1)), String::new);
        measure(&name("two"), 0.65, ours, || timed(&mut their_clips(folder, 2)), String::new);
    }
}

fn our_clips(folder: &Path, threads: &[&str]) -> Command {
    let mut command = encode(Path::new("clips/*.mp4"), Path::new("ours/{stem}.mp4"));
    command.args(["-c", "libx264", "--preset", "fast", "-b", "2M"]).args(threads).current_dir(folder);
    command
}

/// The program over all clips, so many processes at a time.
fn their_clips(folder: &Path, at_a_time: usize) -> Command {
    let ffmpeg = "ffmpeg -hide_banner -nostdin -loglevel error -y -i clips/{}.mp4 -fps_mode passthrough -c:v libx264 -preset fast -b:v 2M";
    let first = format!("{ffmpeg} -pass 1 -passlogfile theirs/{{}} -f null -");
    let second = format!("{ffmpeg} -pass 2 -passlogfile theirs/{{}} theirs/{{}}.mp4");
    let all = format!("seq 0 {} | xargs -P{at_a_time} -I'{{}}' sh -c '{first} && {second}'", CLIPS - 1);
    let mut command = Command::new("sh");
    command.args(["-c", &all]).current_dir(folder);
    command
}

const CLIPS: usize = 8;
