//! What a person, or a script, sees while a job runs: one bar over all passes, JSON lines, or nothing.
//!
//! Invariant: nothing but JSON lines goes to stdout, and a bar never goes back.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use repass::av::log::{self, LogLevel, LogLine};
use repass::event::{Cancel, Event};
use repass::job::Plan;
use repass::rate::BitRate;

use super::args::ProgressChoice;
use super::eta::Eta;
use super::text::{complain, counted, fps, lasting, percent, print_json, printable};

/// Where lines and the bar go. Shared with the threads that log.
#[derive(Debug, Clone)]
pub(crate) enum Screen {
    /// A bar on a terminal; lines go above it.
    Bar(ProgressBar),
    /// A bar is wanted where there is no terminal: a line now and then.
    Lines,
    /// No bar; warnings only.
    Warnings,
    /// Events as JSON lines on stdout.
    Json,
    /// Nothing.
    Silent,
}

impl Screen {
    /// The screen for a choice, as stderr is.
    pub(crate) fn new(choice: ProgressChoice) -> Self {
        match (choice, io::stderr().is_terminal()) {
            (ProgressChoice::Json, _) => Screen::Json,
            (ProgressChoice::None, _) => Screen::Silent,
            (_, true) => Screen::Bar(bar()),
            (ProgressChoice::Bar, false) => Screen::Lines,
            (ProgressChoice::Auto, false) => Screen::Warnings,
        }
    }

    /// Whether warnings have been seen on the same terminal as the summary.
    pub(crate) fn shows_warnings_beside_stdout(&self) -> bool {
        matches!(self, Screen::Bar(_)) && io::stdout().is_terminal()
    }

    /// Shows what libav and the encoders log, on the threads that log.
    pub(crate) fn show_log(&self, verbose: u8) {
        let least = if verbose > 1 { LogLevel::Debug } else { LogLevel::Info };
        log::let_through(least);
        let screen = self.clone();
        log::set_observer(Some(Box::new(move |line| {
            if line.level <= least {
                screen.log(line);
            }
        })));
    }

    fn log(&self, LogLine { class, level, text }: LogLine) {
        match self {
            Screen::Json => json_line(&Event::Log { class, level, text }),
            _ => self.line(&logged(&class, level, &text)),
        }
    }

    /// Shows how far something is that is not a job: a share from 0 to 1, what is being done, and the rest.
    pub(crate) fn advance(&self, share: f64, doing: &str, rest: &str) {
        if let Screen::Bar(bar) = self {
            bar.set_prefix(printable(doing));
            bar.set_message(printable(rest));
            bar.set_position((share * f64::from(BAR_STEPS)) as u64);
        }
    }

    /// Takes the bar off the terminal.
    pub(crate) fn clear(&self) {
        if let Screen::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }

    pub(crate) fn warn(&self, text: &str) {
        match self {
            Screen::Json => json_line(&Event::Warning { text: text.to_owned() }),
            Screen::Silent => {}
            _ => self.line(&format!("repass: warning: {text}")),
        }
    }

    pub(crate) fn line(&self, line: &str) {
        match self {
            Screen::Bar(bar) => bar.suspend(|| complain(line)),
            _ => complain(line),
        }
    }
}

/// What a job is going to do, as far as progress shows it.
pub(crate) struct Work<'p> {
    /// What the job is called, where there are several.
    pub(crate) name: Option<String>,
    /// What its plan warns of.
    pub(crate) warnings: &'p [String],
    /// How often the frames are gone through.
    pub(crate) runs: u8,
    /// How many there are, by the container's word.
    pub(crate) frames: Option<u64>,
    /// The pass of each rendition that writes its output; packets of the others are thrown away.
    pub(crate) last_passes: Vec<usize>,
}

impl<'p> Work<'p> {
    /// What a plan is going to do.
    pub(crate) fn of(plan: &'p Plan) -> Self {
        Work {
            name: None,
            warnings: &plan.warnings,
            runs: plan.runs,
            frames: plan.frames(),
            last_passes: plan.renditions.iter().map(|rendition| rendition.encoder.steps.len()).collect(),
        }
    }

    /// What an analysis is going to do: one pass, whose packets are thrown away.
    pub(crate) fn of_analysis(plan: &'p Plan) -> Self {
        Work { runs: 1, ..Work::of(plan) }
    }
}

/// The progress of one job.
pub(crate) struct Progress {
    name: Option<String>,
    screen: Screen,
    cancel: Cancel,
    eta: Eta,
    last_passes: Vec<usize>,
    seen: Seen,
    /// When the last line was written, where there is no bar.
    told: Option<Instant>,
}

/// The last that was heard of everything.
#[derive(Debug, Default)]
struct Seen {
    run: u8,
    of: u8,
    frames: u64,
    fps: f64,
    /// Bits per second so far, of all renditions that write.
    rates: Vec<(usize, f64)>,
    cached: Option<(u64, u64)>,
    furthest: f64,
}

impl Progress {
    /// The progress of a job; the warnings of its plan are shown at once.
    pub(crate) fn new(screen: Screen, work: Work<'_>, cancel: &Cancel) -> Self {
        let Work { name, warnings, runs, frames, last_passes } = work;
        warnings.iter().for_each(|warning| screen.warn(&named(name.as_deref(), warning)));
        Progress {
            name,
            screen,
            cancel: cancel.clone(),
            eta: Eta::new(runs, frames),
            last_passes,
            seen: Seen { of: runs, ..Seen::default() },
            told: None,
        }
    }

    /// Takes in what the engine tells, and shows it.
    pub(crate) fn take(&mut self, event: &Event) {
        if let Screen::Json = self.screen {
            json_line(event);
            return;
        }
        self.learn(event);
        match event {
            Event::Warning { text } => self.screen.warn(&named(self.name.as_deref(), text)),
            Event::Log { class, level, text } => {
                self.screen.line(&named(self.name.as_deref(), &logged(class, *level, text)));
            }
            _ => {}
        }
        match &self.screen {
            Screen::Bar(bar) => self.draw(bar),
            Screen::Lines => self.draw_line(),
            _ => {}
        }
    }

    /// Takes the bar off the terminal.
    pub(crate) fn end(&self) {
        if let Screen::Bar(bar) = &self.screen {
            bar.finish_and_clear();
        }
    }

    fn learn(&mut self, event: &Event) {
        match *event {
            Event::Run { run, of } => {
                self.eta.begin(run);
                self.seen = Seen { run, of, cached: self.seen.cached, furthest: self.seen.furthest, ..Seen::default() };
            }
            Event::Progress { rendition, pass, frames, total, fps, bytes, seconds } => {
                self.eta.advance(rendition, frames, total, frames as f64 / fps.max(1e-6));
                self.seen.frames = frames;
                self.seen.fps = fps;
                let writes = self.last_passes.get(rendition) == Some(&usize::from(pass));
                if writes && bytes > 0 && seconds > 0.0 {
                    self.seen.rates.retain(|(known, _)| *known != rendition);
                    self.seen.rates.push((rendition, bytes as f64 * 8.0 / seconds));
                }
            }
            Event::PassDone { rendition, frames, seconds, .. } => {
                self.eta.advance(rendition, frames, Some(frames), seconds);
            }
            Event::Cache { bytes, budget, .. } => self.seen.cached = Some((bytes, budget)),
            Event::Warning { .. } | Event::Log { .. } | Event::Stalled { .. } | Event::Stuck { .. } => {}
        }
        // What is learnt about costs can make the rest longer; a bar that goes back only confuses.
        self.seen.furthest = self.eta.share().unwrap_or(0.0).max(self.seen.furthest);
    }

    fn draw(&self, bar: &ProgressBar) {
        bar.set_prefix(self.heading());
        bar.set_message(self.message());
        bar.set_position((self.seen.furthest * f64::from(BAR_STEPS)) as u64);
    }

    /// Once every few seconds, for logs.
    fn draw_line(&mut self) {
        if self.told.is_none_or(|told| told.elapsed() >= LINE_EVERY) {
            self.told = Some(Instant::now());
            complain(&format!("{}  {}  {}", self.heading(), percent(self.seen.furthest), self.message()));
        }
    }

    fn heading(&self) -> String {
        let pass = self.seen.pass();
        self.name.as_ref().map_or(pass.clone(), |name| format!("{}  {pass}", printable(name)))
    }

    fn message(&self) -> String {
        if self.cancel.is_stopped() {
            return "stopping; Ctrl-C again ends at once".to_owned();
        }
        let mut parts: Vec<String> =
            self.eta.seconds_left().map(|seconds| format!("{} left", lasting(seconds))).into_iter().collect();
        parts.push(fps(self.seen.fps));
        let bps: f64 = self.seen.rates.iter().map(|(_, bps)| bps).sum();
        if bps > 0.0 {
            parts.push(BitRate(bps as u64).to_string());
        }
        if let Some((bytes, budget)) = self.seen.cached.filter(|(_, budget)| *budget > 0) {
            parts.push(format!("cache {}", percent(bytes as f64 / budget as f64)));
        }
        parts.push(counted(self.seen.frames, "frame"));
        parts.join("  ")
    }
}

impl Seen {
    fn pass(&self) -> String {
        if self.of > 1 { format!("pass {}/{}", self.run, self.of) } else { "one pass".to_owned() }
    }
}

/// With the job's name before it, where it has one.
fn named(name: Option<&str>, text: &str) -> String {
    name.map_or_else(|| text.to_owned(), |name| format!("{name}: {text}"))
}

fn logged(class: &str, level: LogLevel, text: &str) -> String {
    format!("{class}: {}: {text}", level.name())
}

/// A bar that nobody draws yet.
pub(super) fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:16} {percent:>3} %  {wide_msg}")
        .expect("the template is a constant that parses")
        .progress_chars("━━─");
    let target = ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND);
    ProgressBar::with_draw_target(Some(u64::from(BAR_STEPS)), target).with_style(style)
}

fn json_line(event: &Event) {
    // Who reads has gone, or the disk is full: the report's own write will say so.
    let _ = print_json(event);
}

/// Finer than any terminal's bar.
const BAR_STEPS: u32 = 10_000;
const DRAWN_PER_SECOND: u8 = 10;
const LINE_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bar_says_has_no_control_characters() {
        let bar = ProgressBar::hidden();
        Screen::Bar(bar.clone()).advance(0.5, "1/2", "1 s left  evil\u{1b}[31m.mkv");
        assert_eq!(bar.message(), "1 s left  evil\\u{1b}[31m.mkv");
    }
}
