//! The command line: arguments to jobs, what a person sees meanwhile, and how it ends.
//!
//! Invariant: stdout carries the result alone (a summary, a plan, a table, JSON); everything else goes to stderr.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};
use serde::Serialize;
use serde_json::json;

use repass::adapter::{self, Adapter};
use repass::av;
use repass::batch::{part_of_budget, refuse_collisions};
use repass::error::Error;
use repass::event::{Cancel, Event};
use repass::job::{Analysis, AnalysisRequest, Job, JobRequest};

mod args;
mod batch;
mod bench;
mod doctor;
mod encoders;
mod eta;
mod isolate;
mod ladder;
mod measure;
mod pages;
mod plan;
mod profile;
mod progress;
mod summary;
mod text;
mod typed;

pub(crate) use args::Cli;
use args::{AnalyseArgs, Command, EncodeArgs, IsolationArgs, PlanArgs, ProgressChoice};
use batch::Files;
use progress::{Progress, Screen, Work};
use text::{Page, complain, print_json, printable};

impl Cli {
    /// Reads the arguments, and the profile that they name; `-ss` is understood as ffmpeg's users type it.
    ///
    /// # Errors
    /// Bad usage; and help or a version, which clap reports in the same way.
    pub(crate) fn read(typed: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let command = command();
        let typed = profile::filled_in(typed::spelled_out(typed), &command)?;
        let matches = command.try_get_matches_from(typed).map_err(with_encoder_names)?;
        let mut cli = Cli::from_arg_matches(&matches)?;
        if let Command::Encode(args) = &mut cli.command
            && args.output.isolation.alone.is_some()
        {
            // Its parent reads along, whatever a person was to see.
            (cli.json, args.output.progress) = (true, ProgressChoice::Json);
        }
        Ok(cli)
    }

    /// Does what was asked, and says how the process ends.
    ///
    /// # Errors
    /// Whatever was met first; a [`repass::error::Error`] inside it has the exit code.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        self.hush();
        let child = isolate::Child::default();
        let cancel = cancel_on_signals(&child)?;
        match &self.command {
            Command::Encode(args) => return self.encode(args, &child, &cancel),
            Command::Analyse(args) => {
                let request = args.request(self.verbose > 0)?;
                let around =
                    Around { adapters: &[request.encoder.adapter], outputs: &[], child: &child, cancel: &cancel };
                return around.apart_or_here(&args.isolation, || self.analyse(args, &request, &cancel));
            }
            Command::Plan(args) => self.plan(args, &cancel)?,
            Command::Encoders(args) => encoders::show(args, self.json)?,
            Command::Bench(args) => {
                let around = Around { adapters: &args.adapters()?, outputs: &[], child: &child, cancel: &cancel };
                return around.apart_or_here(&args.isolation, || bench::run(args, self, &cancel));
            }
            Command::Measure(args) => measure::run(args, self, &cancel)?,
            Command::Doctor => return doctor::show(self.json),
            Command::Completions { shell } => pages::completions(*shell, command())?,
            Command::Man { dir } => pages::manual(dir.as_deref(), command())?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Lets nobody but us print: libav's log is ours from here on, and libraries with logs of their own are quiet.
    fn hush(&self) {
        if self.verbose == 0 {
            av::quiet_svt_av1();
        }
        av::log::capture();
    }

    fn encode(&self, args: &EncodeArgs, child: &isolate::Child, cancel: &Cancel) -> Result<ExitCode> {
        let isolation = &args.output.isolation;
        let inputs = args.inputs()?;
        let mut requests = args.requests(&inputs, self.verbose > 0)?;
        match requests.len() {
            1 if !args.batch.resume || isolation.alone.is_some() => {
                let mut request = requests.remove(0)?;
                if let Some(beside) = isolation.beside {
                    request = part_of_budget(&request, beside);
                }
                let adapters: Vec<_> = request.renditions.iter().map(|rendition| rendition.encoder.adapter).collect();
                let outputs: Vec<_> = request.renditions.iter().map(|rendition| rendition.output.clone()).collect();
                let around = Around { adapters: &adapters, outputs: &outputs, child, cancel };
                around.apart_or_here(isolation, || self.encode_one(args, &request, cancel))
            }
            _ => batch::encode(args, Files::new(inputs, requests), self, cancel),
        }
    }

    fn encode_one(&self, args: &EncodeArgs, request: &JobRequest, cancel: &Cancel) -> Result<()> {
        let screen = &self.screen(args.output.progress);
        let job = Job::prepare(request, cancel)?;
        let mut progress = Progress::new(screen.clone(), Work::of(job.plan()), cancel);
        let report = job.run(|event| self.follow(&mut progress, &event));
        progress.end();
        let report = report?;
        self.show(screen, &report, || summary::summary(&report, !screen.shows_warnings_beside_stdout()))
    }

    fn analyse(&self, args: &AnalyseArgs, request: &AnalysisRequest, cancel: &Cancel) -> Result<()> {
        let screen = self.screen(args.progress);
        let analysis = Analysis::prepare(request, cancel)?;
        let mut progress = Progress::new(screen.clone(), Work::of_analysis(analysis.plan()), cancel);
        let report = analysis.run(|event| self.follow(&mut progress, &event));
        progress.end();
        let report = report?;
        self.show(&screen, &report, || summary::analysis(&report, !screen.shows_warnings_beside_stdout()))
    }

    /// Shows how far a job is. One that is stuck will not come back from its run.
    fn follow(&self, progress: &mut Progress, event: &Event) {
        progress.take(event);
        if let Event::Stuck { stage, seconds } = *event {
            progress.end();
            self.end_at_once(Error::Stalled { stage, seconds });
        }
    }

    /// Prints a report: as one object, as the last event of many, or as a page for people.
    fn show(&self, screen: &Screen, report: &impl Serialize, page: impl FnOnce() -> Page) -> Result<()> {
        match (screen, self.json) {
            (Screen::Json, true) => Ok(print_json(&tagged("report", report)?)?),
            (_, true) => Ok(print_json(report)?),
            (Screen::Json, false) => Ok(()),
            _ => Ok(page().print()?),
        }
    }

    /// A library hangs and hears no one: the process ends around it. Nothing is under a final name, and the next run removes
    /// what this one leaves.
    fn end_at_once(&self, error: Error) -> ! {
        let code = error.exit_code();
        end_of_run(Err(error.into()), self.json);
        std::process::exit(i32::from(code))
    }

    fn plan(&self, args: &PlanArgs, cancel: &Cancel) -> Result<()> {
        self.screen(args.job.output.progress);
        let requests = args.job.requests(&args.job.inputs()?, self.verbose > 0)?;
        let requests = requests.into_iter().collect::<Result<Vec<_>, _>>()?;
        refuse_collisions(&requests).map_err(Error::from)?;
        let mut values = Vec::new();
        for request in &requests {
            let plan = Job::prepare(request, cancel)?.into_plan();
            if self.json {
                let input = request.input.path.display().to_string();
                values.push(json!({ "input": input, "plan": plan::value(&plan, args.argv)? }));
            } else {
                plan::page(&plan, args.argv).print()?;
            }
        }
        match values.as_slice() {
            [] => Ok(()),
            [only] => Ok(print_json(&only["plan"])?),
            several => Ok(print_json(&json!({ "files": several }))?),
        }
    }

    /// The screen, with the log on it where it is wanted.
    fn screen(&self, choice: ProgressChoice) -> Screen {
        let screen = Screen::new(choice);
        if self.verbose > 0 {
            screen.show_log(self.verbose);
        }
        screen
    }
}

/// What a command that may run in a child process is about.
struct Around<'a> {
    adapters: &'a [&'static Adapter],
    /// Files that a child which dies may leave half made.
    outputs: &'a [PathBuf],
    child: &'a isolate::Child,
    cancel: &'a Cancel,
}

impl Around<'_> {
    /// In a child process where an encoder is not to be trusted with this one.
    fn apart_or_here(&self, isolation: &IsolationArgs, here: impl FnOnce() -> Result<()>) -> Result<ExitCode> {
        if isolation.in_child {
            isolate::begin();
        } else if let Some(adapter) = isolate::needed(self.adapters, isolation.isolate) {
            return Ok(ExitCode::from(isolate::run(self.outputs, adapter, self.child, self.cancel)?));
        }
        here().map(|()| ExitCode::SUCCESS)
    }
}

/// Bad usage, help or a version, as clap prints it; with `--json`, bad usage also as an object.
pub(crate) fn end_of_usage(error: &clap::Error, typed: &[OsString]) -> ExitCode {
    let code = error.exit_code() as u8;
    // clap repeats what was typed as it was typed, and a shell's pattern types names.
    let safe = || Cli::read(typed.iter().map(|argument| printable(&argument.to_string_lossy()).into()));
    let again = if code == 0 { None } else { safe().err() };
    let error = again.as_ref().unwrap_or(error);
    let told = error.to_string();
    if code == 0 || told.lines().all(|line| printable(line) == line) {
        // There is no place left to say that this did not work.
        let _ = error.print();
    } else {
        told.lines().for_each(complain);
    }
    if code != 0 && typed.iter().any(|argument| argument == "--json") {
        let first = error.to_string();
        let message = first.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let _ = print_json(&failure(code, &message));
    }
    ExitCode::from(code)
}

/// The one error of a run, and its exit code.
pub(crate) fn end_of_run(result: Result<ExitCode>, json: bool) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    // Our own errors say everything in one line; of others the causes are worth reading.
    let (code, message) = match error.downcast_ref::<Error>() {
        Some(error) => (error.exit_code(), error.to_string()),
        None => (1, format!("{error:#}")),
    };
    complain(&format!("repass: {message}"));
    if json {
        let _ = print_json(&failure(code, &message));
    }
    ExitCode::from(code)
}

fn failure(code: u8, message: &str) -> serde_json::Value {
    let kind = match code {
        2 => "usage",
        3 => "refused",
        4 => "input",
        5 => "encoder",
        6 => "output",
        130 => "interrupted",
        _ => "other",
    };
    json!({ "error": { "kind": kind, "message": message }, "exit_code": code })
}

fn tagged(event: &str, value: &impl Serialize) -> Result<serde_json::Value> {
    let mut value = serde_json::to_value(value)?;
    value["event"] = json!(event);
    Ok(value)
}

/// The command line, with the versions of the linked libraries behind `--version`.
fn command() -> clap::Command {
    let versions = av::versions();
    let long = format!(
        "{}\nFFmpeg       {}\nlibavcodec   {}\nlibavformat  {}\nlibavfilter  {}\nlibavutil    {}",
        env!("CARGO_PKG_VERSION"),
        printable(&versions.ffmpeg),
        versions.libavcodec,
        versions.libavformat,
        versions.libavfilter,
        versions.libavutil,
    );
    Cli::command().long_version(long)
}

/// Whoever forgets -c wants to know what could stand there.
fn with_encoder_names(mut error: clap::Error) -> clap::Error {
    let names_encoder = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(missing)) => missing.iter().any(|argument| argument.contains("--encoder")),
        _ => false,
    };
    if error.kind() == ErrorKind::MissingRequiredArgument && names_encoder {
        let names: Vec<&str> = adapter::all().into_iter().map(|adapter| adapter.name).collect();
        let tip = format!("-c takes one of {}", names.join(", "));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// SIGINT, SIGTERM and SIGHUP: the first stops the job cleanly, the second ends the process at once.
fn cancel_on_signals(child: &isolate::Child) -> Result<Cancel> {
    let cancel = Cancel::new();
    let (asked, child) = (cancel.clone(), child.clone());
    let mut first: Option<Instant> = None;
    let on_signal = move || {
        asked.stop();
        if child.stop() {
            return;
        }
        // One Ctrl-C, and one death of a parent process, may come as two signals.
        if first.get_or_insert_with(Instant::now).elapsed() > SAME_SIGNAL {
            std::process::exit(i32::from(Error::Interrupted.exit_code()));
        }
    };
    ctrlc::set_handler(on_signal).context("cannot listen for Ctrl-C")?;
    Ok(cancel)
}

/// Signals that come so close together were one wish.
const SAME_SIGNAL: Duration = Duration::from_millis(200);
