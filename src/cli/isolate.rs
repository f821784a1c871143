//! Jobs in processes of their own: the same program with the same arguments, so that what an encoder library does to its
//! process is done to that one only.
//!
//! Invariant: a child hears every stop that this process hears, and on Linux dies with it; elsewhere a child whose parent is
//! killed ends its work alone. The only one of a command prints as this process would have; those of a batch tell this
//! process, which prints.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::{Child as Process, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering, fence};

use serde_json::Value;

use repass::adapter::Adapter;
use repass::av::library;
use repass::batch::{BatchEvent, Outcome};
use repass::error::{Error, Refusal};
use repass::event::{Cancel, Event};
use repass::job::{Job, JobRequest};
use repass::{sink, stats};

/// Signals for the only child, from the handler of our own; nothing is passed on before there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Child(Arc<AtomicI32>);

impl Child {
    /// Asks the child to stop; `false` where there is none. A stop is noted before, so that a child which begins meanwhile is
    /// stopped by [`run`].
    #[cfg(unix)]
    pub(crate) fn stop(&self) -> bool {
        fence(Ordering::SeqCst);
        let Some(child) = rustix::process::Pid::from_raw(self.0.load(Ordering::Relaxed)) else { return false };
        rustix::process::kill_process(child, rustix::process::Signal::INT).is_ok()
    }

    /// Whether there is a child: elsewhere the console tells it of a Ctrl-C by itself.
    #[cfg(not(unix))]
    pub(crate) fn stop(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

/// The encoder for whose sake a child process is needed: it was asked for, or the linked library is known to need it.
pub(crate) fn needed(adapters: &[&'static Adapter], asked: bool) -> Option<&'static Adapter> {
    let dies = |adapter: &&&'static Adapter| {
        let version = library::version(adapter.library).unwrap_or_default();
        adapter.known_of(&version).any(|known| known.isolate)
    };
    if asked { adapters.first().copied() } else { adapters.iter().find(dies).copied() }
}

/// Runs this process's own command line in a child and gives back its exit code. `outputs`: files that it may leave half
/// made.
///
/// # Errors
/// [`Error::Died`]: a signal ended it; [`Error::Interrupted`]: after a stop; [`Error::Exhausted`]: it could not be started.
pub(crate) fn run(outputs: &[PathBuf], adapter: &Adapter, child: &Child, cancel: &Cancel) -> Result<u8, Error> {
    let mut running = again(&[]).and_then(|mut command| command.spawn()).map_err(not_started)?;
    child.0.store(running.id() as i32, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if cancel.is_stopped() {
        // Asked for when there was no child yet.
        child.stop();
    }
    let status = running.wait().map_err(not_started);
    child.0.store(0, Ordering::Relaxed);
    code(status?, outputs, adapter, cancel)
}

/// Does one job of a batch in a child, `beside` of which run at a time.
///
/// # Errors
/// What can be told before running, and [`Error::Elsewhere`] with what the child ended with; else as for [`run`].
pub(crate) fn encode(
    request: &JobRequest,
    adapter: &Adapter,
    beside: NonZeroU16,
    cancel: &Cancel,
    tell: &mut dyn FnMut(BatchEvent),
) -> Result<Outcome, Error> {
    let plan = Job::prepare(request, cancel)?.into_plan();
    if plan.source.piped {
        let why = "is a pipe, which a process of its own cannot read anew: save it to a file, or encode it alone";
        return Err(Refusal::Source { path: request.input.path.display().to_string(), why: why.to_owned() }.into());
    }
    let warnings = plan.warnings.clone();
    tell(BatchEvent::Started(Box::new(plan)));
    let mut input = OsString::from("--alone=");
    input.push(&request.input.path);
    let mut command = again(&[OsStr::new(&format!("--beside={beside}")), &input]).map_err(not_started)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = command.spawn().map_err(not_started)?;
    let said = listen(&mut running, cancel, &mut |event| match event {
        // Told with the plan.
        Event::Warning { text } if warnings.contains(&text) => {}
        other => tell(BatchEvent::Job(other)),
    });
    let status = running.wait().map_err(not_started)?;
    let outputs: Vec<PathBuf> = request.renditions.iter().map(|rendition| rendition.output.clone()).collect();
    match (code(status, &outputs, adapter, cancel)?, said.map_err(not_started)?) {
        (0, Some(report)) => Ok(Outcome::DoneElsewhere(report)),
        (130, _) => Err(Error::Interrupted),
        (code, said) => {
            let message = said.and_then(|said| said["error"]["message"].as_str().map(str::to_owned));
            Err(Error::Elsewhere { code: code.max(1), message: message.unwrap_or_else(|| format!("{status}")) })
        }
    }
}

/// What the child does first: it must not outlive its parent.
pub(crate) fn begin() {
    #[cfg(target_os = "linux")]
    {
        // Where this cannot be asked for, a killed parent leaves its child to finish; nothing is wrong then but the time.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    }
}

/// This process's own command line, with more options behind the verb: what stands at the end may be behind a `--`.
fn again(more: &[&OsStr]) -> io::Result<Command> {
    let mut typed: Vec<OsString> = std::env::args_os().skip(1).collect();
    let verb = typed.iter().position(|argument| !argument.as_encoded_bytes().starts_with(b"-")).unwrap_or(typed.len());
    let own = std::iter::once(OsStr::new(IN_CHILD)).chain(more.iter().copied()).map(OsStr::to_owned);
    typed.splice((verb + 1).min(typed.len())..(verb + 1).min(typed.len()), own);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(typed);
    apart(&mut command);
    Ok(command)
}

/// Passes on what a child tells, line by line, and a stop to it; gives back its report, or its error.
fn listen(child: &mut Process, cancel: &Cancel, tell: &mut dyn FnMut(Event)) -> io::Result<Option<Value>> {
    let Some(pipe) = child.stdout.take() else { return Ok(None) };
    let (mut pipe, mut line, mut stopped) = (BufReader::new(pipe), String::new(), false);
    let mut last = None;
    loop {
        if pipe.buffer().is_empty() && !has_something(pipe.get_ref())? {
            if cancel.is_stopped() && !stopped {
                stopped = true;
                stop(child);
            }
            continue;
        }
        line.clear();
        if pipe.read_line(&mut line)? == 0 {
            return Ok(last);
        }
        let Ok(said) = serde_json::from_str::<Value>(&line) else { continue };
        match serde_json::from_value(said.clone()) {
            // It ends itself then, and that will be heard.
            Ok(Event::Stuck { .. }) => {}
            Ok(event) => tell(event),
            Err(_) => last = Some(said),
        }
    }
}

/// The exit code; an error for a process that a signal has ended, which could not tidy up.
fn code(status: ExitStatus, outputs: &[PathBuf], adapter: &Adapter, cancel: &Cancel) -> Result<u8, Error> {
    if let Some(code) = status.code() {
        return Ok(code as u8);
    }
    outputs.iter().for_each(|output| sink::collect_leftovers(output));
    stats::collect_leftovers();
    if cancel.is_stopped() {
        // A stop that came before it could listen.
        return Err(Error::Interrupted);
    }
    Err(Error::Died { encoder: adapter.name.to_owned(), signal: signal(status) })
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn not_started(error: io::Error) -> Error {
    Error::Exhausted { doing: format!("running a child process: {error}") }
}

/// Waits a tenth of a second for a child to say something, or to end.
#[cfg(unix)]
fn has_something(pipe: &ChildStdout) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let patience = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&patience)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Elsewhere reading waits, and the console tells the child of a Ctrl-C by itself.
#[cfg(not(unix))]
fn has_something(_: &ChildStdout) -> io::Result<bool> {
    Ok(true)
}

#[cfg(unix)]
fn stop(child: &Process) {
    // One that has ended meanwhile needs no stop.
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::INT);
}

#[cfg(not(unix))]
fn stop(_: &Process) {}

/// A group of its own, or a Ctrl-C would reach it twice: from the terminal and through us.
#[cfg(unix)]
fn apart(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn apart(_: &mut Command) {}

#[cfg(unix)]
fn signal(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(4) => "SIGILL".to_owned(),
        Some(6) => "SIGABRT, an assertion that failed".to_owned(),
        Some(8) => "SIGFPE".to_owned(),
        Some(9) => "SIGKILL, perhaps for lack of memory".to_owned(),
        Some(11) => "SIGSEGV".to_owned(),
        Some(other) => format!("signal {other}"),
        None => status.to_string(),
    }
}

#[cfg(not(unix))]
fn signal(status: ExitStatus) -> String {
    status.to_string()
}

/// The hidden option that tells a child that it is one.
const IN_CHILD: &str = "--in-child";
