//! One job in a process of its own: the same program with the same arguments, so that what an encoder library does to its
//! process is done to that one only.
//!
//! Invariant: the child prints as this process would have, hears every stop that this process hears, and dies with it.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use repass::adapter::Adapter;
use repass::av::library;
use repass::error::Error;
use repass::job::JobRequest;
use repass::{sink, stats};

/// Signals for the child, from the handler of our own; nothing is passed on before there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Child(Arc<AtomicI32>);

impl Child {
    /// Asks the child to stop; `false` where there is none.
    #[cfg(unix)]
    pub(crate) fn stop(&self) -> bool {
        let Some(child) = rustix::process::Pid::from_raw(self.0.load(Ordering::Relaxed)) else { return false };
        rustix::process::kill_process(child, rustix::process::Signal::INT).is_ok()
    }

    /// Whether there is a child: elsewhere the console tells it of a Ctrl-C by itself.
    #[cfg(not(unix))]
    pub(crate) fn stop(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

/// The encoder for whose sake this job runs in a child process: it was asked for, or the linked library is known to need it.
pub(crate) fn needed(request: &JobRequest, asked: bool) -> Option<&'static Adapter> {
    let mut adapters = request.renditions.iter().map(|rendition| rendition.encoder.adapter);
    let dies = |adapter: &&'static Adapter| {
        let version = library::version(adapter.library).unwrap_or_default();
        adapter.known.iter().any(|known| known.isolate && version.trim_start_matches('v').starts_with(known.version))
    };
    if asked { adapters.next() } else { adapters.find(dies) }
}

/// Runs this process's own command line in a child and gives back its exit code.
///
/// # Errors
/// [`Error::Died`]: a signal ended it; [`Error::Exhausted`]: it could not be started.
pub(crate) fn run(request: &JobRequest, adapter: &Adapter, child: &Child) -> Result<u8, Error> {
    let failed = |error: std::io::Error| Error::Exhausted { doing: format!("starting a child process: {error}") };
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(std::env::args_os().skip(1)).arg(OsStr::new(IN_CHILD));
    apart(&mut command);
    let mut running = command.spawn().map_err(failed)?;
    child.0.store(running.id() as i32, Ordering::Relaxed);
    let status = running.wait().map_err(failed);
    child.0.store(0, Ordering::Relaxed);
    let status = status?;
    if let Some(code) = status.code() {
        return Ok(code as u8);
    }
    // It could not remove its own.
    request.renditions.iter().for_each(|rendition| sink::collect_leftovers(&rendition.output));
    stats::collect_leftovers();
    Err(Error::Died { encoder: adapter.name.to_owned(), signal: signal(status) })
}

/// What the child does first: it must not outlive its parent.
pub(crate) fn begin() {
    #[cfg(target_os = "linux")]
    {
        // Where this cannot be asked for, a killed parent leaves its child to finish; nothing is wrong then but the time.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    }
}

/// A group of its own, or a Ctrl-C would reach it twice: from the terminal and through us.
#[cfg(unix)]
fn apart(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn apart(_: &mut Command) {}

#[cfg(unix)]
fn signal(status: std::process::ExitStatus) -> String {
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
fn signal(status: std::process::ExitStatus) -> String {
    status.to_string()
}

/// The hidden option that tells a child that it is one.
const IN_CHILD: &str = "--in-child";
