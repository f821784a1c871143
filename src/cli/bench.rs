//! `repass bench`: arguments to a bench, progress over the whole matrix, and its tables.

use std::path::PathBuf;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueHint};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde_json::json;

use repass::adapter::{self, Adapter};
use repass::bench::baseline::{self, Changes};
use repass::bench::bd::LEAST_POINTS;
use repass::bench::journal::Existing;
use repass::bench::record::Mode;
use repass::bench::results::{CellResult, Comparison, Results, series_name};
use repass::bench::verdict::{leading, signed};
use repass::bench::{BenchRequest, Doing, Progress, output, run as run_bench};
use repass::cache::{CacheMode, CachePlan, default_budget};
use repass::error::Error;
use repass::event::Cancel;
use repass::quality::Metric;
use repass::rate::{BitRate, ByteSize, Seconds};
use repass::source::Input;

use super::Cli;
use super::args::{IsolationArgs, ProgressChoice, bit_rate, byte_size, encoder_names, pair, quality, time};
use super::measure::{metric, metrics_or_default};
use super::progress::Screen;
use super::text::{Page, complain, counted, lasting, print_json};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The clips; a few seconds of what you really encode say most
    #[arg(value_name = "CLIP", required = true, value_hint = ValueHint::FilePath)]
    clips: Vec<PathBuf>,

    /// The encoders, by libavcodec's names (libx264,libx265,libsvtav1)
    #[arg(short = 'c', long = "encoder", value_name = "ENCODERS", required = true, value_delimiter = ',',
          value_parser = encoder_names(), hide_possible_values = true, help_heading = "Matrix")]
    encoders: Vec<String>,

    /// Their presets: x264's ten names with every encoder, or their own values [default: each encoder's own]
    #[arg(long, value_name = "PRESETS", value_delimiter = ',', help_heading = "Matrix")]
    preset: Vec<String>,

    /// Average bit rates of the video in bits per second (1M,2M,4M,8M); four or more give BD-rates
    #[arg(short = 'b', long, value_name = "RATES", required = true, value_delimiter = ',', value_parser = bit_rate,
          help_heading = "Matrix")]
    bitrate: Vec<BitRate>,

    /// How to encode: 1pass, 2pass, 2pass-fast, crf, inside; all are compared with 1pass
    #[arg(long, value_name = "MODES", value_delimiter = ',', default_value = "1pass,2pass", value_parser = mode_names(),
          hide_possible_values = true, help_heading = "Matrix")]
    modes: Vec<String>,

    /// Levels of constant quality for the mode crf [default: four over each encoder's scale]
    #[arg(long, value_name = "LEVELS", value_delimiter = ',', value_parser = quality, help_heading = "Matrix")]
    crf: Vec<f64>,

    /// Set an option of every encoder (tune=film); may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, help_heading = "Matrix")]
    opt: Vec<(String, String)>,

    /// Filter the frames first, in libavfilter's language (scale=1280:-2)
    #[arg(long, value_name = "FILTERS", help_heading = "Matrix")]
    vf: Option<String>,

    /// Begin here in every clip, also typed -ss: seconds or a clock
    #[arg(long, visible_alias = "ss", value_name = "TIME", value_parser = time, help_heading = "Matrix")]
    start: Option<Seconds>,

    /// Take at most this much of every clip: seconds or a clock
    #[arg(short = 't', long, value_name = "TIME", value_parser = time, help_heading = "Matrix")]
    length: Option<Seconds>,

    /// What to measure quality by: psnr, ssim, xpsnr, vmaf, vmaf-neg [default: all that are here, but vmaf-neg]
    #[arg(long, value_name = "METRICS", value_delimiter = ',', value_parser = metric, help_heading = "Measuring")]
    metrics: Vec<Metric>,

    /// How often to time every encode; medians are compared
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..),
          help_heading = "Measuring")]
    runs: u16,

    /// Threads of every encoder and of the metrics [default: one per CPU, 64 at most]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Measuring")]
    threads: Option<u16>,

    /// Memory for decoded frames; what does not fit goes into a temporary file [default: half of what is free]
    #[arg(long, value_name = "BYTES", value_parser = byte_size, help_heading = "Measuring")]
    cache_size: Option<ByteSize>,

    /// Folder of that temporary file [default: the system's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Measuring")]
    spill_dir: Option<PathBuf>,

    /// End the bench when a stage makes no progress for so long: seconds or a clock; 0: never
    #[arg(long, value_name = "TIME", default_value = "30:00", value_parser = time, help_heading = "Measuring")]
    stall_timeout: Seconds,

    /// Folder for the page, plots, CSV and JSON; made where it is not there
    #[arg(long, value_name = "DIR", required = true, value_hint = ValueHint::DirPath, help_heading = "Output")]
    report: PathBuf,

    /// Compare with an earlier bench, and say what changed beyond the noise
    #[arg(long, value_name = "RESULTS.JSON", value_hint = ValueHint::FilePath, help_heading = "Output")]
    baseline: Option<PathBuf>,

    /// Go on with the bench in the folder
    #[arg(long, conflicts_with = "overwrite", help_heading = "Output")]
    resume: bool,

    /// Replace a bench that is in the folder
    #[arg(short = 'y', long, help_heading = "Output")]
    overwrite: bool,

    /// Keep the encoded files, in encodes/ below the folder
    #[arg(long, help_heading = "Output")]
    keep: bool,

    #[command(flatten)]
    pub(super) isolation: IsolationArgs,

    /// Show progress: a bar where stderr is a terminal, a bar always, JSON lines on stdout, or nothing
    #[arg(long, value_name = "HOW", default_value = "auto", help_heading = "Output")]
    progress: ProgressChoice,
}

/// Measures, writes the report and prints its tables.
///
/// # Errors
/// What cannot be measured, and whatever goes wrong meanwhile; what was measured until then is kept.
pub(crate) fn run(args: &BenchArgs, cli: &Cli, cancel: &Cancel) -> Result<()> {
    let before = args.baseline.as_deref().map(baseline::read).transpose()?;
    let request = args.request()?;
    let screen = cli.screen(args.progress);
    let points = request.rates.len();
    if points < LEAST_POINTS {
        screen.warn(&format!("{} give no BD-rate; it takes {LEAST_POINTS}", counted(points as u64, "bit rate")));
    }
    let results = run_bench(&request, cancel, &mut |progress| {
        show(&screen, &progress);
        if let Doing::Stuck { stage, seconds } = progress.doing {
            let error = Error::Stalled { stage, seconds };
            screen.clear();
            say_resume(&error, args);
            cli.end_at_once(error);
        }
    });
    screen.clear();
    let results = results.inspect_err(|error| say_resume(error, args))?;
    let changes = before.map(|before| baseline::changes(&before, &results));
    let told = changes.as_ref().map(lines).unwrap_or_default();
    let page = output::write(&results, &told, &request.folder)?;
    cli.show(&screen, &results, || tables(&results, &told, &page))
}

fn say_resume(error: &Error, args: &BenchArgs) {
    if matches!(error, Error::Interrupted | Error::Stalled { .. }) {
        complain(&format!("repass: what was measured is kept in {}; --resume goes on", args.report.display()));
    }
}

impl BenchArgs {
    /// The encoders.
    ///
    /// # Errors
    /// [`NoAdapter`](repass::error::Refusal::NoAdapter).
    pub(super) fn adapters(&self) -> Result<Vec<&'static Adapter>, Error> {
        let encoders = self.encoders.iter().map(|name| adapter::named(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(distinct(encoders, |adapter| adapter.name))
    }

    fn request(&self) -> Result<BenchRequest, Error> {
        let input = |path: &PathBuf| Input { start: self.start, length: self.length, ..Input::file(path) };
        let modes = self.modes.iter().map(|name| name.parse()).collect::<Result<Vec<Mode>, Error>>()?;
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(MOST_THREADS) as u16);
        Ok(BenchRequest {
            clips: self.clips.iter().map(input).collect(),
            filters: self.vf.clone(),
            encoders: self.adapters()?,
            presets: distinct(self.preset.clone(), String::clone),
            rates: distinct(self.bitrate.clone(), |rate| rate.0),
            qualities: distinct(self.crf.clone(), |level| *level),
            modes: distinct(modes, |mode| *mode),
            metrics: metrics_or_default(&self.metrics),
            runs: self.runs,
            threads: self.threads.unwrap_or(cpus),
            options: self.opt.clone(),
            cache: CachePlan {
                // Packing would be in the times.
                mode: CacheMode::Raw,
                budget: self.cache_size.unwrap_or_else(default_budget),
                spill_dir: self.spill_dir.clone(),
            },
            stall_timeout: Some(self.stall_timeout).filter(|limit| limit.0 > 0.0),
            folder: self.report.clone(),
            existing: match (self.resume, self.overwrite) {
                (true, _) => Existing::Resume,
                (_, true) => Existing::Replace,
                _ => Existing::Refuse,
            },
            keep_files: self.keep,
        })
    }
}

/// Each once, in the order given: a cell that is asked for twice is one cell.
pub(super) fn distinct<T, K: PartialEq>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = Vec::new();
    let mut all = Vec::new();
    for item in items {
        let key = key(&item);
        if !seen.contains(&key) {
            seen.push(key);
            all.push(item);
        }
    }
    all
}

fn mode_names() -> PossibleValuesParser {
    PossibleValuesParser::new(Mode::ALL.map(Mode::name))
}

fn show(screen: &Screen, progress: &Progress) {
    let doing = match &progress.doing {
        Doing::Decoding(clip) => format!("decoding {clip}"),
        Doing::Encoding(cell, run) => format!("{}: {cell}, run {run}", cell.clip),
        Doing::Measuring(cell) => format!("{}: {cell}, quality", cell.clip),
        Doing::Stuck { stage, .. } => format!("{stage} hangs"),
    };
    let left = progress.rest_seconds.map(|seconds| format!("{} left", lasting(seconds)));
    match screen {
        Screen::Json => {
            let line = json!({
                "event": "bench", "doing": doing, "done": progress.done, "of": progress.of,
                "rest_seconds": progress.rest_seconds,
            });
            // Who reads has gone: the results' own write will say so.
            let _ = print_json(&line);
        }
        Screen::Lines => {
            let left = left.map(|left| format!(", {left}")).unwrap_or_default();
            // A line for each step, not for every share of one.
            if progress.done.fract() == 0.0 {
                screen.line(&format!("{}/{}{left}  {doing}", progress.done, progress.of));
            }
        }
        _ => {
            let share = progress.done / progress.of.max(1) as f64;
            screen.advance(
                share,
                &format!("{}/{}", progress.done, progress.of),
                &format!("{}  {doing}", left.unwrap_or_default()),
            );
        }
    }
}

/// What changed, a line each; or that nothing did.
fn lines(changes: &Changes) -> Vec<String> {
    let mut lines: Vec<String> = changes.conditions.iter().map(|what| format!("other conditions: {what}")).collect();
    lines.extend(changes.changes.iter().cloned());
    if changes.changes.is_empty() {
        lines.push(format!("nothing changed beyond the noise in {}", counted(changes.compared as u64, "encode")));
    }
    lines
}

fn tables(results: &Results, changes: &[String], report: &std::path::Path) -> Page {
    let mut page = Page::default();
    for clip in &results.clips {
        page.line(format!(
            "{}  {}x{} {}, {} at {:.3} per second",
            clip.name,
            clip.width,
            clip.height,
            clip.pixel_format,
            counted(clip.frames, "frame"),
            clip.frame_rate
        ));
        page.gap();
        add(&mut page, &encodes(results, &clip.name));
        let mut own = results.cells.iter().filter(|result| result.cell.clip == clip.name);
        if own.any(|result| result.cpu.unwrap_or(result.wall).is_noisy() || result.wall.is_noisy()) {
            page.line(" ~ differs by more than 3 % from run to run");
        }
        let comparisons: Vec<&Comparison> =
            results.comparisons.iter().filter(|comparison| comparison.clip == clip.name).collect();
        if !comparisons.is_empty() {
            page.gap();
            add(&mut page, &against_one_pass(&comparisons));
            page.gap();
            for comparison in comparisons {
                page.line(format!(
                    "{} {}",
                    series_name(&comparison.encoder, comparison.preset.as_deref()),
                    comparison.mode
                ));
                page.row("", &comparison.verdict);
            }
        }
        page.gap();
    }
    for lack in &results.unavailable {
        let mode = lack.mode.map(|mode| format!(" {mode}")).unwrap_or_default();
        page.row("not here", &format!("{}{mode}: {}", lack.encoder, lack.why));
    }
    for (number, change) in changes.iter().enumerate() {
        page.row(if number == 0 { "changes" } else { "" }, change);
    }
    if let Some(begun) = &results.begun {
        page.row("machine", &begun.machine.line());
    }
    page.path("report", report, "");
    page
}

fn add(page: &mut Page, table: &Table) {
    for line in table.to_string().lines() {
        page.line(line);
    }
}

fn encodes(results: &Results, clip: &str) -> Table {
    let metrics = results.metrics();
    // More than three do not fit; the page has them all.
    let shown = &metrics[metrics.len().saturating_sub(3)..];
    let mut table = table();
    let mut header = vec!["encoder".to_owned(), "mode".to_owned()];
    header.extend(["aim", "kb/s", "missed", "CPU s", "wall s", "fps"].map(str::to_owned));
    header.extend(shown.iter().map(|metric| metric.title().to_owned()));
    table.set_header(header);
    for result in results.cells.iter().filter(|result| result.cell.clip == clip) {
        table.add_row(encode(result, shown));
    }
    table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn encode(result: &CellResult, metrics: &[Metric]) -> Vec<String> {
    let time = |spread: &repass::bench::statistics::Spread| {
        format!("{:.2}{}", spread.median, if spread.is_noisy() { "~" } else { "" })
    };
    let mut row = vec![
        series_name(&result.cell.encoder, result.cell.preset.as_deref()),
        result.cell.mode.to_string(),
        result.cell.aim.to_string(),
        format!("{:.0}", result.video_bps / 1e3),
        result.bitrate_error.map_or(String::new(), |error| format!("{:+.1} %", error * 100.0)),
        result.cpu.as_ref().map_or(String::new(), time),
        time(&result.wall),
        format!("{:.0}", result.frames_per_second),
    ];
    let value = |metric: &Metric| {
        result
            .quality(*metric)
            .map_or(String::new(), |quality| format!("{:.*}", metric.decimals(), quality.pooled.mean))
    };
    row.extend(metrics.iter().map(value));
    row
}

fn against_one_pass(comparisons: &[&Comparison]) -> Table {
    let mut table = table();
    table.set_header(["against one pass", "mode", "CPU", "wall", "pass 1", "gain", "worst", "BD-rate"]);
    for comparison in comparisons {
        let gain = leading(&comparison.gains);
        let share = comparison.first_cpu_share.or(comparison.first_wall_share);
        table.add_row([
            series_name(&comparison.encoder, comparison.preset.as_deref()),
            comparison.mode.to_string(),
            comparison.cpu.map_or(String::new(), |cost| format!("{:.2}x", cost.ratio)),
            format!("{:.2}x", comparison.wall.ratio),
            share.map_or(String::new(), |share| format!("{:.0} %", share * 100.0)),
            gain.and_then(|gain| Some(signed(gain.metric, gain.mean?))).unwrap_or_default(),
            gain.and_then(|gain| Some(format!("{:+.*}", gain.metric.decimals(), gain.worst?))).unwrap_or_default(),
            gain.and_then(|gain| gain.bd_rate).map_or(String::new(), |delta| format!("{:+.1} %", delta.value * 100.0)),
        ]);
    }
    table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// libvpx and libaom take no more (MAX_NUM_THREADS).
const MOST_THREADS: usize = 64;

pub(super) const EXAMPLES: &str = "\
Examples:
  repass bench clip.mkv -c libx264,libx265 -b 1M,2M,4M,8M --report out
      One pass against two, at four rates; out/report.html has the plots.
  repass bench *.mkv -c libx265 --preset medium,slow -b 1M,2M,4M,8M --modes 1pass,2pass,2pass-fast,crf --report out
      Two presets and four ways to encode, on several clips.
  repass bench clip.mkv -c libx264 -b 1M,2M,4M,8M --report new --baseline old/results.json
      What changed since an earlier bench, beyond the noise.
  repass bench clip.mkv -c libx264 -b 1M,2M,4M,8M --report out --resume
      Go on after an interruption.";

#[cfg(test)]
mod tests {
    use repass::bench::record::{Aim, Cell, ClipRecord, Entry, PassRecord, RunRecord};

    use super::super::args::Command;
    use super::*;

    fn clip(name: &str) -> Entry {
        Entry::Clip(ClipRecord {
            name: name.to_owned(),
            path: String::new(),
            width: 16,
            height: 16,
            pixel_format: "yuv420p".to_owned(),
            frame_rate: 25.0,
            frames: 25,
            seconds: 1.0,
            hash: String::new(),
            decode_seconds: 1.0,
        })
    }

    fn run(clip: &str, run: u16, wall_seconds: f64) -> Entry {
        let (encoder, clip) = ("libx264".to_owned(), clip.to_owned());
        let cell = Cell { clip, encoder, preset: None, mode: Mode::OnePass, aim: Aim::Rate(1000) };
        let pass = PassRecord { number: 1, wall_seconds, cpu_seconds: None, system_seconds: None, stats_bytes: None };
        let (video_bytes, video_bps) = (100, 800.0);
        let (bitrate_error, peak_bytes, passes) = (None, None, vec![pass]);
        Entry::Run(RunRecord {
            cell,
            run,
            passes,
            frames: 25,
            video_bytes,
            video_bps,
            bitrate_error,
            peak_bytes,
            at: 0,
        })
    }

    #[test]
    fn what_is_asked_for_twice_is_measured_once() {
        let typed = "repass bench a.mkv -c libx264,libx264 -b 1M,1M --crf 23,23,20 --metrics psnr,psnr --report r";
        let cli = Cli::read(typed.split(' ').map(Into::into)).unwrap();
        let Command::Bench(args) = cli.command else { panic!("another command") };
        let request = args.request().unwrap();
        assert_eq!((request.encoders.len(), request.rates.len(), request.metrics.len()), (1, 1, 1));
        assert_eq!(request.qualities, [23.0, 20.0]);
    }

    #[test]
    fn noise_is_said_of_the_clip_that_has_it() {
        let of = |name: &str, seconds: [f64; 3]| {
            let runs = (1..).zip(seconds).map(|(number, seconds)| run(name, number, seconds));
            std::iter::once(clip(name)).chain(runs).collect::<Vec<_>>()
        };
        let entries = [of("calm", [1.0, 1.0, 1.0]), of("noisy", [1.0, 2.0, 3.0])].concat();
        let page = format!("{:?}", tables(&Results::of(&entries), &[], "report.html".as_ref()));
        assert_eq!(page.matches("~ differs").count(), 1, "{page}");
        assert!(page.find("noisy") < page.find("~ differs"), "{page}");
    }
}
