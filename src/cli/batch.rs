//! Several files: a line for each that is being worked on, a line for each in the summary, and the worst exit code.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use indicatif::MultiProgress;
use serde_json::{Value, json};

use repass::batch::{self, BatchEvent, BatchRequest, Outcome};
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
pub(super) fn encode(args: &EncodeArgs, mut files: Files, cli: &Cli, cancel: &Cancel) -> Result<ExitCode> {
    let began = Instant::now();
    let most = args.batch.jobs.unwrap_or(SIDE_BY_SIDE);
    let request = BatchRequest {
        jobs: std::mem::take(&mut files.jobs),
        side_by_side: usize::from(most.get()),
        resume: args.batch.resume,
    };
    let mut board = Board::new(cli.screen(args.output.progress), &files, cancel);
    files.unprepared().for_each(|(file, ended)| board.ended(file, ended));
    let isolation = &args.output.isolation;
    let jobs = u16::try_from(request.jobs.len()).unwrap_or(u16::MAX);
    let beside = NonZeroU16::new(jobs).map_or(most, |jobs| jobs.min(most));
    let show = |files: &Files, screen: &Screen| {
        cli.show(screen, &files.to_json(), || files.page(began.elapsed().as_secs_f64(), request.side_by_side))
    };
    let work = |job: &JobRequest, tell: &mut dyn FnMut(BatchEvent)| {
        let adapters: Vec<_> = job.renditions.iter().map(|rendition| rendition.encoder.adapter).collect();
        match isolate::needed(&adapters, isolation.isolate) {
            Some(adapter) => isolate::encode(job, adapter, beside, cancel, tell),
            None => batch::here(job, cancel, tell),
        }
    };
    batch::run_by(&request, cancel, work, |job, event| {
        let file = files.of_job[job];
        match event {
            BatchEvent::Ended(outcome) => files.ended[file] = Ended::of(outcome),
            BatchEvent::Job(Event::Stuck { stage, seconds }) => {
                files.give_up(file, &Error::Stalled { stage: *stage, seconds: *seconds });
            }
            _ => {}
        }
        board.take(file, event, &files.ended[file]);
        if let BatchEvent::Job(Event::Stuck { .. }) = event {
            // Nobody can end one thread, so the others go with it; who reads has gone where this cannot be printed.
            let _ = show(&files, &board.screen);
            std::process::exit(i32::from(files.end()));
        }
    })?;
    show(&files, &board.screen)?;
    Ok(ExitCode::from(files.end()))
}

/// The inputs, and what has become of each.
pub(super) struct Files {
    inputs: Vec<PathBuf>,
    ended: Vec<Ended>,
    jobs: Vec<JobRequest>,
    /// The file of each job: one whose request could not be made has none.
    of_job: Vec<usize>,
}

/// What has become of a file; a report is kept as it is written, for it may be another process's.
enum Ended {
    Done(Value),
    DoneBefore,
    Failed { error: String, exit_code: u8 },
    NotStarted,
}

impl Ended {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Done(report) => Ended::Done(serde_json::to_value(report).unwrap_or_default()),
            Outcome::DoneElsewhere(report) => Ended::Done(report.clone()),
            Outcome::DoneBefore => Ended::DoneBefore,
            Outcome::Failed(error) => Ended::failed(error),
            Outcome::NotStarted => Ended::NotStarted,
        }
    }

    fn failed(error: &Error) -> Self {
        Ended::Failed { error: error.to_string(), exit_code: error.exit_code() }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Ended::Done(_) | Ended::DoneBefore => 0,
            Ended::Failed { exit_code, .. } => *exit_code,
            Ended::NotStarted => Error::Interrupted.exit_code(),
        }
    }

    /// Its state, and what there is to know about it but the report.
    fn to_json(&self) -> Value {
        match self {
            Ended::Done(_) => json!({ "state": "done" }),
            Ended::DoneBefore => json!({ "state": "done_before" }),
            Ended::Failed { error, exit_code } => json!({ "state": "failed", "error": error, "exit_code": exit_code }),
            Ended::NotStarted => json!({ "state": "not_started" }),
        }
    }
}

impl Files {
    /// With what was asked for with each of the inputs.
    pub(super) fn new(inputs: Vec<PathBuf>, requests: Vec<Result<JobRequest, Error>>) -> Self {
        let mut files = Files { inputs, ended: Vec::new(), jobs: Vec::new(), of_job: Vec::new() };
        for (file, request) in requests.into_iter().enumerate() {
            match request {
                Ok(job) => {
                    files.jobs.push(job);
                    files.of_job.push(file);
                    files.ended.push(Ended::NotStarted);
                }
                Err(error) => files.ended.push(Ended::failed(&error)),
            }
        }
        files
    }

    fn unprepared(&self) -> impl Iterator<Item = (usize, &Ended)> {
        self.ended.iter().enumerate().filter(|(_, ended)| matches!(ended, Ended::Failed { .. }))
    }

    /// Ends every file that has not ended, with the one that hangs.
    fn give_up(&mut self, stuck: usize, error: &Error) {
        let others = format!("given up with {}, which hangs", self.inputs[stuck].display());
        for ended in self.ended.iter_mut().filter(|ended| matches!(ended, Ended::NotStarted)) {
            *ended = Ended::Failed { error: others.clone(), exit_code: error.exit_code() };
        }
        self.ended[stuck] = Ended::failed(error);
    }

    fn exit_code(&self) -> u8 {
        self.ended.iter().map(Ended::exit_code).max().unwrap_or(0)
    }

    /// Says how many are missing; gives the exit code.
    fn end(&self) -> u8 {
        let missing = self.ended.iter().filter(|ended| ended.exit_code() != 0).count();
        if missing > 0 {
            super::complain(&format!("repass: {missing} of {} not encoded", counted(self.inputs.len() as u64, "file")));
        }
        self.exit_code()
    }

    fn page(&self, seconds: f64, side_by_side: usize) -> Page {
        let mut page = Page::default();
        for (input, ended) in self.inputs.iter().zip(&self.ended) {
            match ended {
                Ended::Done(report) => done(&mut page, report),
                Ended::DoneBefore => page.path("skipped", input, "done by an earlier run, and still as it was"),
                Ended::Failed { error, .. } => page.path("failed", input, error),
                Ended::NotStarted => page.path("not begun", input, ""),
            }
        }
        let finished = self.ended.iter().filter(|ended| ended.exit_code() == 0).count();
        let all = counted(self.inputs.len() as u64, "file");
        let total = format!("{finished} of {all} done, {side_by_side} at a time, {}", lasting(seconds));
        page.row("total", &total);
        page
    }

    fn to_json(&self) -> Value {
        let file = |(input, ended): (&PathBuf, &Ended)| {
            let mut file = ended.to_json();
            file["input"] = json!(input.display().to_string());
            if let Ended::Done(report) = ended {
                file["report"] = report.clone();
            }
            file
        };
        let files: Vec<Value> = self.inputs.iter().zip(&self.ended).map(file).collect();
        json!({ "files": files, "exit_code": self.exit_code() })
    }
}

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

    /// Shows what happens with a file, and what has become of it where it has ended.
    fn take(&mut self, file: usize, event: &BatchEvent, ended: &Ended) {
        match event {
            BatchEvent::Started(plan) => {
                let work = Work { name: Some(self.names[file].clone()), ..Work::of(plan) };
                let screen = match &self.screen {
                    Screen::Bar(_) => Screen::Bar(self.lines.add(bar())),
                    other => other.clone(),
                };
                self.running.insert(file, Progress::new(screen, work, &self.cancel));
            }
            BatchEvent::Job(event) => {
                if let Screen::Json = self.screen {
                    line(file, serde_json::to_value(event).unwrap_or_default());
                } else if let Some(progress) = self.running.get_mut(&file) {
                    progress.take(event);
                }
                if let Event::Stuck { .. } = event {
                    self.running.values().for_each(Progress::end);
                    self.ended(file, ended);
                }
            }
            BatchEvent::Ended(_) => {
                if let Some(progress) = self.running.remove(&file) {
                    progress.end();
                }
                self.ended(file, ended);
            }
        }
    }

    /// Told at once, for the rest may take hours.
    fn ended(&self, file: usize, ended: &Ended) {
        if let Screen::Json = self.screen {
            let mut event = ended.to_json();
            event["event"] = json!("ended");
            line(file, event);
        }
        let Ended::Failed { error, .. } = ended else { return };
        let said = format!("repass: {}: {error}", self.names[file]);
        match &self.screen {
            Screen::Bar(_) => self.lines.suspend(|| super::complain(&said)),
            _ => super::complain(&said),
        }
    }
}

/// An event of a file as a line on stdout.
fn line(file: usize, mut event: Value) {
    event["file"] = json!(file);
    // Who reads has gone: the result's own write will say so.
    let _ = print_json(&event);
}

fn name(input: &Path) -> String {
    input.file_name().unwrap_or(input.as_os_str()).to_string_lossy().into_owned()
}

/// How many files are worked on at a time where nobody says: one encoder rarely keeps all cores busy all the time.
const SIDE_BY_SIDE: NonZeroU16 = NonZeroU16::new(2).expect("two is not zero");
