//! What is gained where work is shared: three bit rates from one first pass, and many short files in one process.
//!
//! `cargo bench --bench reuse` runs all, `-- rates` or `-- clips` a part; `REPASS_RUNS` is the number of pairs (5). The
//! program runs every pass as a command of its own, one after another; and, for the short files, two at a time (`xargs -P2`).
//! Peak memory is that of the largest process. Footage as for `against_ffmpeg`.

mod pairs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pairs::{Cost, Pairs, Source, packets, text, timed};
use repass::adapter;
use repass::cache::{CacheMode, CachePlan, default_budget};
use repass::event::Cancel;
use repass::job::{AudioChoice, Job, JobRequest, RenditionRequest, Size, SubtitleChoice};
use repass::plan::Request;
use repass::rate::{BitRate, Target};
use repass::source::Input;

/// One clip to three bit rates of one size.
struct Rates {
    name: &'static str,
    encoder: &'static str,
    preset: &'static str,
    /// The program's words for pass 1 and pass 2, less `-b:v`.
    passes: [&'static [&'static str]; 2],
    kilobits: [u64; 3],
    source: Source,
    extension: &'static str,
    goal: f64,
}

const FLAGS: [&[&str]; 2] = [&["-pass", "1", "-passlogfile", "{stats}"], &["-pass", "2", "-passlogfile", "{stats}"]];
const FILM: Source =
    Source { footage: "bbb_1080p24_h264_51aac_20s.mp4", part: ("4", "4"), made: ("1920x1080", "libx264") };

const RATES: &[Rates] = &[
    Rates {
        name: "three rates, x264 fast, 1080p",
        encoder: "libx264",
        preset: "fast",
        passes: FLAGS,
        kilobits: [2000, 4000, 8000],
        source: FILM,
        extension: "mp4",
        goal: 0.57,
    },
    Rates {
        name: "three rates, x265 fast, 1080p",
        encoder: "libx265",
        preset: "fast",
        passes: [
            &["-x265-params", "log-level=error:pass=1:stats={stats}"],
            &["-x265-params", "log-level=error:pass=2:stats={stats}"],
        ],
        kilobits: [1500, 3000, 6000],
        source: Source { part: ("4", "1"), ..FILM },
        extension: "mp4",
        goal: 0.57,
    },
    Rates {
        name: "three rates, VP9 cpu-used 4, 1080p",
        encoder: "libvpx-vp9",
        preset: "4",
        passes: FLAGS,
        kilobits: [1500, 3000, 6000],
        source: Source { part: ("4", "1"), ..FILM },
        extension: "webm",
        goal: 0.95,
    },
];

const CLIPS: usize = 8;

fn main() {
    // A job of ours, run as a process of its own so that it can be measured like the program.
    if let Ok(number) = std::env::var(OURS) {
        return three_rates(&RATES[number.parse::<usize>().expect("a number")]);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    pairs::print_head("bits");
    for (number, rates) in RATES.iter().enumerate().filter(|(_, rates)| pairs::is_wanted(rates.name)) {
        measure_rates(number, rates, folder.path());
    }
    if pairs::is_wanted("eight clips") {
        measure_clips(folder.path());
    }
}

// ---- three bit rates

fn measure_rates(number: usize, rates: &Rates, folder: &Path) {
    let input = rates.source.clip(folder);
    let ours = || {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(OURS, number.to_string()).env(INPUT, &input).env(FOLDER, folder);
        timed(&mut command)
    };
    let theirs = || {
        let each = |kilobits: &u64| {
            let rate = format!("{kilobits}k");
            two_passes(rates, &input, &rate, folder, &theirs_at(rates, folder, *kilobits))
        };
        rates.kilobits.iter().map(each).fold(Cost::default(), Cost::then)
    };
    let pairs = Pairs::run(ours, theirs);
    let same = |kilobits: &&u64| {
        packets(&ours_at(rates, folder, **kilobits)) == packets(&theirs_at(rates, folder, **kilobits))
    };
    let same = rates.kilobits.iter().filter(same).count();
    pairs.print(rates.name, rates.goal, &format!("{same} of 3 the same"));
}

fn two_passes(rates: &Rates, input: &Path, rate: &str, folder: &Path, output: &Path) -> Cost {
    let stats = folder.join("stats");
    let speed = if rates.encoder == "libvpx-vp9" { "-cpu-used" } else { "-preset" };
    let mut all = Cost::default();
    for (pass, words) in rates.passes.iter().enumerate() {
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-i", text(input), "-map", "0:v:0"]);
        command.args(["-c:v", rates.encoder, speed, rates.preset, "-b:v", rate]);
        if rates.encoder == "libvpx-vp9" {
            command.args(["-row-mt", "1"]);
        }
        command.args(words.iter().map(|word| word.replace("{stats}", text(&stats))));
        command.args(if pass == 1 { vec![text(output)] } else { vec!["-f", "null", "-"] });
        all = all.then(timed(&mut command));
    }
    all
}

/// Our side, in the process that is measured.
fn three_rates(rates: &Rates) {
    repass::av::quiet_svt_av1();
    let path = |variable: &str| PathBuf::from(std::env::var_os(variable).expect("set by the measuring process"));
    let (input, folder) = (path(INPUT), path(FOLDER));
    let rendition = |kilobits: &u64| RenditionRequest {
        name: kilobits.to_string(),
        output: ours_at(rates, &folder, *kilobits),
        container: None,
        overwrite: true,
        encoder: Request {
            preset: Some(rates.preset.to_owned()),
            ..Request::new(adapter::named(rates.encoder).expect("a row"), Target::Average(BitRate(kilobits * 1000)))
        },
        filters: None,
        size: Size::Source,
        gop: None,
        audio: AudioChoice::None,
        subtitles: SubtitleChoice::None,
        mux_options: Vec::new(),
    };
    let request = JobRequest {
        input: Input::file(input),
        filters: None,
        renditions: rates.kilobits.iter().map(rendition).collect(),
        cache: CachePlan { mode: CacheMode::Ram, budget: default_budget(), spill_dir: None },
        keep_damaged: false,
        decoder_threads: None,
        enlarge: false,
        stall_timeout: None,
    };
    let job = Job::prepare(&request, &Cancel::new()).expect("a plan");
    job.run(|_| {}).expect("three outputs");
}

fn ours_at(rates: &Rates, folder: &Path, kilobits: u64) -> PathBuf {
    folder.join(format!("ours-{kilobits}.{}", rates.extension))
}

fn theirs_at(rates: &Rates, folder: &Path, kilobits: u64) -> PathBuf {
    folder.join(format!("theirs-{kilobits}.{}", rates.extension))
}

// ---- many short files

fn measure_clips(folder: &Path) {
    let clips = folder.join("clips");
    for part in ["clips", "ours", "theirs"] {
        fs::create_dir_all(folder.join(part)).expect("a folder");
    }
    for number in 0..CLIPS {
        let from = (number * 2).to_string();
        let long = Source { part: ("0", "20"), ..FILM }.clip(folder);
        let part =
            ["-ss", &from, "-t", "1", "-i", text(&long), "-vf", "scale=1280:720", "-c:v", "libx264", "-crf", "16"];
        pairs::ffmpeg(&[&part[..], &["-an", text(&clips.join(format!("{number}.mp4")))]].concat());
    }
    for (name, extra) in [("eight clips, two at a time", &[][..]), ("the same, 1 thread each", &["--threads", "2"])] {
        let ours = || timed(&mut our_clips(folder, extra));
        Pairs::run(ours, || timed(&mut their_clips(folder, 1))).print(name, 0.50, "of one after another");
        Pairs::run(ours, || timed(&mut their_clips(folder, 2))).print(name, 0.65, "of two at a time");
    }
}

fn our_clips(folder: &Path, extra: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repass"));
    let quietly = ["-y", "--progress", "none", "--audio", "none", "--subs", "none"];
    command.args(["encode", "clips/*.mp4", "-o", "ours/{stem}.mp4", "-c", "libx264", "--preset", "fast", "-b", "2M"]);
    command.args(quietly).args(extra).current_dir(folder);
    command
}

/// The program over all clips, so many processes at a time.
fn their_clips(folder: &Path, at_a_time: usize) -> Command {
    let ffmpeg = "ffmpeg -hide_banner -nostdin -loglevel error -y -i clips/{}.mp4 -c:v libx264 -preset fast -b:v 2M";
    let both = format!(
        "{ffmpeg} -pass 1 -passlogfile theirs/{{}} -f null - && {ffmpeg} -pass 2 -passlogfile theirs/{{}} theirs/{{}}.mp4"
    );
    let mut command = Command::new("sh");
    let all = format!("seq 0 {} | xargs -P{at_a_time} -I'{{}}' sh -c '{both}'", CLIPS - 1);
    command.args(["-c", &all]).current_dir(folder);
    command
}

const OURS: &str = "REPASS_BENCH_RATES";
const INPUT: &str = "REPASS_BENCH_INPUT";
const FOLDER: &str = "REPASS_BENCH_FOLDER";
