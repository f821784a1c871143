//! Several files: a line for each that is being worked on, a line for each in the summary, and the worst exit code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use indicatif::MultiProgress;
use serde_json::{Value, json};

use repass::batch::{self, BatchEvent, BatchRequest, Outcome};
use repass::cache::default_budget;
use repass::error::Error;
use repass::event::{Cancel, Event};
use repass::job::JobRequest;
use repass::rate::{BitRate, ByteSize};

use super::args::EncodeArgs;
use super::progress::{Progress, Screen, Work, bar};
use super::text::{Page, counted, deviation, lasting, print_json};
use super::{Cli, isolate};

/// Encodes every input, some side by side; the exit code is the worst of all.
///
/// # Errors
/// Arguments that make no sense together. What goes wrong with a file is told at once, and the others go on.
pub(super) fn encode(
    args: &EncodeArgs,
    inputs: &[PathBuf],
    screen: Screen,
    cli: &Cli,
    cancel: &Cancel,
) -> Result<ExitCode> {
    let began = Instant::now();
    let mut files = Files::new(args, inputs, cli.verbose > 0);
    let request = BatchRequest {
        jobs: std::mem::take(&mut files.jobs),
        side_by_side: usize::from(args.batch.jobs.unwrap_or(SIDE_BY_SIDE)),
        resume: args.batch.resume,
    };
    let mut board = Board::new(screen, &files, cancel);
    files.unprepared().for_each(|(file, error)| board.failed(file, error));
    let isolation = &args.output.isolation;
    let beside = request.side_by_side.min(request.jobs.len());
    let work = |job: &JobRequest, tell: &mut dyn FnMut(BatchEvent)| {
        let adapters: Vec<_> = job.renditions.iter().map(|rendition| rendition.encoder.adapter).collect();
        match isolate::needed(&adapters, isolation.isolate) {
            Some(adapter) => isolate::encode(job, adapter, beside, cancel, tell),
            None => batch::here(job, cancel, tell),
        }
    };
    let outcomes = batch::run_by(&request, cancel, work, |job, event| {
        board.take(files.of_job[job], event);
        if let BatchEvent::Job(Event::Stuck { stage, seconds }) = event {
            board.clear();
            cli.end_at_once(Error::Stalled { stage: *stage, seconds: *seconds });
        }
    })?;
    files.take(outcomes);
    let json_lines = matches!(board.screen, Screen::Json);
    if cli.json {
        print_json(&files.to_json())?;
    } else if !json_lines {
        files.page(began.elapsed().as_secs_f64(), request.side_by_side).print()?;
    }
    Ok(files.end())
}

/// The inputs, and what has become of each.
struct Files {
    inputs: Vec<PathBuf>,
    outcomes: Vec<Outcome>,
    jobs: Vec<JobRequest>,
    /// The file of each job: one whose request could not be made has none.
    of_job: Vec<usize>,
}

impl Files {
    fn new(args: &EncodeArgs, inputs: &[PathBuf], verbose: bool) -> Self {
        let mut files = Files { inputs: inputs.to_vec(), outcomes: Vec::new(), jobs: Vec::new(), of_job: Vec::new() };
        for (file, input) in inputs.iter().enumerate() {
            match args.request(input, verbose) {
                Ok(job) => {
                    files.jobs.push(job);
                    files.of_job.push(file);
                    files.outcomes.push(Outcome::NotStarted);
                }
                Err(error) => files.outcomes.push(Outcome::Failed(error)),
            }
        }
        // What is free is asked once for all of them.
        let budget = files.jobs.first().map_or_else(default_budget, |job| job.cache.budget);
        files.jobs.iter_mut().for_each(|job| job.cache.budget = budget);
        files
    }

    fn unprepared(&self) -> impl Iterator<Item = (usize, &Error)> {
        self.outcomes.iter().enumerate().filter_map(|(file, outcome)| match outcome {
            Outcome::Failed(error) => Some((file, error)),
            _ => None,
        })
    }

    fn take(&mut self, outcomes: Vec<Outcome>) {
        for (job, outcome) in outcomes.into_iter().enumerate() {
            self.outcomes[self.of_job[job]] = outcome;
        }
    }

    fn exit_code(&self) -> u8 {
        self.outcomes.iter().map(Outcome::exit_code).max().unwrap_or(0)
    }

    fn end(&self) -> ExitCode {
        let missing = self.outcomes.iter().filter(|outcome| outcome.exit_code() != 0).count();
        if missing > 0 {
            super::complain(&format!("repass: {missing} of {} not encoded", counted(self.inputs.len() as u64, "file")));
        }
        ExitCode::from(self.exit_code())
    }

    fn page(&self, seconds: f64, side_by_side: usize) -> Page {
        let mut page = Page::default();
        for (input, outcome) in self.inputs.iter().zip(&self.outcomes) {
            match outcome {
                Outcome::Done(report) => done(&mut page, &serde_json::to_value(report).unwrap_or_default()),
                Outcome::DoneElsewhere(report) => done(&mut page, report),
                Outcome::DoneBefore => page.path("skipped", input, "done by an earlier run, and still as it was"),
                Outcome::Failed(error) => page.path("failed", input, &error.to_string()),
                Outcome::NotStarted => page.path("not begun", input, ""),
            }
        }
        let count = |is: fn(&Outcome) -> bool| self.outcomes.iter().filter(|outcome| is(outcome)).count();
        let finished = count(|outcome| outcome.exit_code() == 0);
        let all = counted(self.inputs.len() as u64, "file");
        let total = format!("{finished} of {all} done, {side_by_side} at a time, {}", lasting(seconds));
        page.row("total", &total);
        page
    }

    fn to_json(&self) -> Value {
        let file = |(input, outcome): (&PathBuf, &Outcome)| {
            let input = input.display().to_string();
            match outcome {
                Outcome::Done(report) => json!({ "input": input, "state": "done", "report": report }),
                Outcome::DoneElsewhere(report) => json!({ "input": input, "state": "done", "report": report }),
                Outcome::DoneBefore => json!({ "input": input, "state": "done_before" }),
                Outcome::Failed(error) => json!({
                    "input": input, "state": "failed", "error": error.to_string(), "exit_code": error.exit_code(),
                }),
                Outcome::NotStarted => json!({ "input": input, "state": "not_started" }),
            }
        };
        let files: Vec<Value> = self.inputs.iter().zip(&self.outcomes).map(file).collect();
        json!({ "files": files, "exit_code": self.exit_code() })
    }
}

/// From a report as it is written: it may be another process's.
fn done(page: &mut Page, report: &Value) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    for rendition in list(&report["renditions"]) {
        let [bytes, bps] = [&rendition["bytes"], &rendition["video_bps"]].map(|value| number(value) as u64);
        let mut facts = format!("{}, {}", ByteSize(bytes), BitRate(bps));
        if let Some(error) = rendition["bitrate_error"].as_f64() {
            facts.push_str(&format!(" ({})", deviation(error)));
        }
        let frames = counted(number(&report["frames"]) as u64, "frame");
        facts.push_str(&format!(", {frames} in {}", lasting(number(&report["wall_seconds"]))));
        page.path("done", Path::new(rendition["output"].as_str().unwrap_or_default()), &facts);
        if rendition["first_pass"]["resumed"] == true {
            page.row("pass 1", "not run again: finished by an earlier run");
        }
    }
    let warnings = list(&report["warnings"]);
    warnings.iter().filter_map(Value::as_str).for_each(|text| page.row("", &format!("warning: {text}")));
}

/// What is seen meanwhile: one line for each file that is being worked on.
struct Board {
    screen: Screen,
    lines: MultiProgress,
    names: Vec<String>,
    running: BTreeMap<usize, Progress>,
    cancel: Cancel,
}

impl Board {
    fn new(screen: Screen, files: &Files, cancel: &Cancel) -> Self {
        let names = files.inputs.iter().map(|input| name(input)).collect();
        let lines = MultiProgress::new();
        if let Screen::Bar(bar) = &screen {
            // Never drawn itself; what is logged goes above all others through it.
            lines.add(bar.clone());
        }
        Board { screen, lines, names, running: BTreeMap::new(), cancel: cancel.clone() }
    }

    fn take(&mut self, file: usize, event: &BatchEvent) {
        match event {
            BatchEvent::Started(plan) => {
                let work = Work { name: Some(self.names[file].clone()), ..Work::of(plan) };
                let screen = match &self.screen {
                    Screen::Bar(_) => Screen::Bar(self.lines.add(bar())),
                    other => other.clone(),
                };
                self.running.insert(file, Progress::new(screen, work, &self.cancel));
            }
            BatchEvent::Job(event) if matches!(self.screen, Screen::Json) => {
                let mut line = serde_json::to_value(event).unwrap_or_default();
                line["file"] = json!(file);
                // Who reads has gone: the result's own write will say so.
                let _ = print_json(&line);
            }
            BatchEvent::Job(event) => {
                if let Some(progress) = self.running.get_mut(&file) {
                    progress.take(event);
                }
            }
            BatchEvent::Ended(outcome) => {
                if let Some(progress) = self.running.remove(&file) {
                    progress.end();
                }
                if let Outcome::Failed(error) = outcome {
                    self.failed(file, error);
                }
            }
        }
    }

    /// Takes all lines off the terminal.
    fn clear(&self) {
        self.running.values().for_each(Progress::end);
    }

    /// Told at once, for the rest may take hours.
    fn failed(&self, file: usize, error: &Error) {
        let line = format!("repass: {}: {error}", self.names[file]);
        match &self.screen {
            Screen::Json => {}
            Screen::Bar(_) => self.lines.suspend(|| super::complain(&line)),
            _ => super::complain(&line),
        }
    }
}

fn name(input: &Path) -> String {
    input.file_name().unwrap_or(input.as_os_str()).to_string_lossy().into_owned()
}

/// How many files are worked on at a time where nobody says: one encoder rarely keeps all cores busy all the time.
const SIDE_BY_SIDE: u16 = 2;
