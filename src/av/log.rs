//! What libav and the encoders log: captured when asked, handed to one observer, and quoted in error messages.
//!
//! Invariant: nothing here changes libav's global state until [`capture`] is called, and no panic crosses into C.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, ThreadId};

use ffmpeg_sys_next as ffi;
use serde::{Deserialize, Serialize};

use crate::av::text;

/// How serious a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Something failed (libav's panic, fatal and error).
    Error,
    /// Something is not as it should be.
    Warning,
    /// What libav says by default.
    Info,
    /// More of it.
    Verbose,
    /// Everything (libav's debug and trace).
    Debug,
}

impl LogLevel {
    /// The level's name: `error`, `warning`, `info`, `verbose`, `debug`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warning => "warning",
            LogLevel::Info => "info",
            LogLevel::Verbose => "verbose",
            LogLevel::Debug => "debug",
        }
    }

    fn of(level: c_int) -> Self {
        // libav's numbers fall as things get serious, and leave gaps between levels.
        let levels = [
            (ffi::AV_LOG_ERROR, LogLevel::Error),
            (ffi::AV_LOG_WARNING, LogLevel::Warning),
            (ffi::AV_LOG_INFO, LogLevel::Info),
            (ffi::AV_LOG_VERBOSE, LogLevel::Verbose),
        ];
        levels.iter().find(|(at_most, _)| level <= *at_most).map_or(LogLevel::Debug, |(_, name)| *name)
    }
}

/// One whole line that was logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// libav's name of the object that spoke (`libx264`, `mov,mp4,…`, `Parsed_scale_0`); empty where none did.
    pub class: String,
    /// How serious it is.
    pub level: LogLevel,
    /// The line, without its line break.
    pub text: String,
}

/// Takes over libav's log from its default, which prints to stderr: from here on lines go to the observer and into error
/// messages, and nowhere else. The process keeps it for good. Only lines that libav's own level lets through arrive, but
/// warnings and errors always do.
pub fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the functions live as long as the process and never unwind.
        unsafe { repass_log_capture(on_fragment, on_concealed) };
    });
}

/// Sets libav's own level, for the whole process: how much is worth the formatting.
pub fn let_through(least: LogLevel) {
    let level = match least {
        LogLevel::Error => ffi::AV_LOG_ERROR,
        LogLevel::Warning => ffi::AV_LOG_WARNING,
        LogLevel::Info => ffi::AV_LOG_INFO,
        LogLevel::Verbose => ffi::AV_LOG_VERBOSE,
        LogLevel::Debug => ffi::AV_LOG_DEBUG,
    };
    // SAFETY: takes a number, which libav stores atomically.
    unsafe { ffi::av_log_set_level(level) };
}

/// Sets the one observer of all lines, in place of an earlier one. It is called on the thread that logged, which may be
/// one of an encoder's: it must be quick. It sees nothing before [`capture`].
pub fn set_observer(observer: Option<Box<dyn Fn(LogLine) + Send + Sync>>) {
    lock(&LOG).observer = observer.map(Arc::from);
}

/// A moment in the log. What was said since is what explains an error.
#[derive(Debug, Clone, Copy)]
pub struct LogMark {
    line: u64,
    thread: ThreadId,
}

impl LogMark {
    /// This moment, on this thread.
    #[must_use]
    pub fn now() -> Self {
        LogMark { line: LINES.load(Ordering::Acquire), thread: thread::current().id() }
    }

    /// The last lines since the mark, joined by `; `: errors, or else warnings; those of this thread, or else of any.
    /// Empty when there are none, or when [`capture`] was never called.
    #[must_use]
    pub fn lines(&self) -> String {
        self.said(|_| true)
    }

    /// As [`LogMark::lines`], but only what objects said whose name begins with `class`; anyone's lines when they said
    /// nothing.
    #[must_use]
    pub fn lines_of(&self, class: &str) -> String {
        let own = self.said(|line| line.class.starts_with(class));
        if own.is_empty() { self.lines() } else { own }
    }

    fn said(&self, by: impl Fn(&LogLine) -> bool) -> String {
        // The last words before an error need not end in a line break.
        BEGUN.try_with(RefCell::take).unwrap_or(None).iter().for_each(publish);
        lock(&LOG).said_since(self, by)
    }
}

/// What the process remembers of its log. Encoders log from threads of their own, so one memory serves all threads.
struct Log {
    observer: Option<Arc<dyn Fn(LogLine) + Send + Sync>>,
    recent: VecDeque<Kept>,
}

impl Log {
    const fn empty() -> Self {
        Log { observer: None, recent: VecDeque::new() }
    }

    /// Keeps what an error message may quote.
    fn keep(&mut self, lines: &AtomicU64, thread: ThreadId, line: &LogLine) {
        if line.level > LogLevel::Warning {
            return;
        }
        // Under the log's lock, so that numbers rise as lines are kept.
        let number = lines.fetch_add(1, Ordering::Release);
        if self.recent.len() == RECENT_LINES {
            self.recent.pop_front();
        }
        self.recent.push_back(Kept { number, thread, line: line.clone() });
    }

    fn said_since(&self, mark: &LogMark, by: impl Fn(&LogLine) -> bool) -> String {
        let since = |kept: &&Kept| kept.number >= mark.line && by(&kept.line);
        for level in [LogLevel::Error, LogLevel::Warning] {
            for own in [true, false] {
                let matching = self.recent.iter().rev().filter(since).filter(|kept| kept.line.level == level);
                let mut last: Vec<&str> = matching
                    .filter(|kept| !own || kept.thread == mark.thread)
                    .map(|kept| kept.line.text.as_str())
                    .take(QUOTED_LINES)
                    .collect();
                if !last.is_empty() {
                    last.reverse();
                    // Decoders repeat themselves, once for every thread.
                    last.dedup();
                    return last.join("; ");
                }
            }
        }
        String::new()
    }
}

/// A warning or an error that an error message may quote.
struct Kept {
    number: u64,
    thread: ThreadId,
    line: LogLine,
}

static LOG: Mutex<Log> = Mutex::new(Log::empty());

/// Warnings and errors so far; numbers the next one. Beside the log, for a mark is made for every frame and packet.
static LINES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// A line that this thread has begun: libav and libvpx log in pieces.
    static BEGUN: RefCell<Option<LogLine>> = const { RefCell::new(None) };
}

unsafe extern "C" {
    /// Installs the C shim as libav's log callback; see log.c.
    fn repass_log_capture(
        sink: extern "C" fn(*const c_char, c_int, *const c_char),
        concealed: unsafe extern "C" fn(*mut c_void),
    );
}

/// Counts the pictures of one decoder that were not whole and have been patched. Frames are marked for it too, but of several
/// frame threads one may give a picture out while another is still decoding it, before the mark (h264dec.c, `output_frame`).
/// Counts nothing before [`capture`].
#[derive(Debug)]
pub(super) struct Concealed(Arc<AtomicU64>);

impl Concealed {
    pub(super) fn new() -> Self {
        let count = Arc::new(AtomicU64::new(0));
        counters().push(count.clone());
        Concealed(count)
    }

    /// For `AVCodecContext.opaque`, which every thread's copy of the context has; looked up, never followed.
    pub(super) fn as_opaque(&self) -> *mut c_void {
        Arc::as_ptr(&self.0).cast_mut().cast()
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Concealed {
    fn drop(&mut self) {
        counters().retain(|count| !Arc::ptr_eq(count, &self.0));
    }
}

static COUNTERS: Mutex<Vec<Arc<AtomicU64>>> = Mutex::new(Vec::new());

fn counters() -> MutexGuard<'static, Vec<Arc<AtomicU64>>> {
    COUNTERS.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" fn on_concealed(object: *mut c_void) {
    // SAFETY: what logs begins with a pointer to its class, and codec contexts are all of one.
    let is_codec = unsafe { *object.cast::<*const ffi::AVClass>() == ffi::avcodec_get_class() };
    if is_codec {
        // SAFETY: of that class are codec contexts alone; this one is being used by the thread that logs.
        let opaque = unsafe { (*object.cast::<ffi::AVCodecContext>()).opaque };
        if let Some(count) = counters().iter().find(|count| Arc::as_ptr(count).cast() == opaque.cast_const()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

extern "C" fn on_fragment(class: *const c_char, level: c_int, fragment: *const c_char) {
    // A panic (an observer's, most likely) must not unwind into C; whoever panicked has been told by the panic hook.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the shim passes terminated strings that live through this call.
        let (class, fragment) = unsafe { (text(class), text(fragment)) };
        add(class.unwrap_or_default(), LogLevel::of(level), &fragment.unwrap_or_default());
    }));
}

fn add(class: String, level: LogLevel, fragment: &str) {
    // The thread may be ending, its locals gone: then a fragment is a line.
    let begun = BEGUN.try_with(RefCell::take).unwrap_or(None);
    let mut line = match begun {
        Some(begun) if begun.class == class => begun,
        other => {
            other.iter().for_each(publish);
            LogLine { class, level, text: String::new() }
        }
    };
    line.text.push_str(fragment);
    let whole = fragment.ends_with(['\n', '\r']) || line.text.len() > LONGEST_LINE;
    if whole {
        publish(&line);
    } else if let Err(_ending) = BEGUN.try_with(|begun| begun.replace(Some(line.clone()))) {
        publish(&line);
    }
}

/// Hands on what was said, line by line: some say several at once.
fn publish(said: &LogLine) {
    for text in said.text.split(['\n', '\r']).map(str::trim_end).filter(|text| !text.is_empty()) {
        publish_one(LogLine { text: text.to_owned(), ..said.clone() });
    }
}

fn publish_one(line: LogLine) {
    let mut log = lock(&LOG);
    log.keep(&LINES, thread::current().id(), &line);
    let observer = log.observer.clone();
    // Called without the lock, so that an observer may log and read the log.
    drop(log);
    if let Some(observer) = observer {
        observer(line);
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enough to outlast the chatter of other threads between an error and its message.
const RECENT_LINES: usize = 256;

/// Lines that an error message quotes.
const QUOTED_LINES: usize = 3;

/// Bytes at which a line without an end is one.
const LONGEST_LINE: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// An error of this thread, which wins over whatever other tests say at the same time.
    fn say(fragment: &str) {
        add("libtest".to_owned(), LogLevel::Error, fragment);
    }

    #[test]
    fn fragments_become_lines_and_lines_stay_apart() {
        let mark = LogMark::now();
        say("one ");
        say("half\n");
        say("two\r\nthree\n");
        assert_eq!(mark.lines_of("libtest"), "one half; two; three");
    }

    #[test]
    fn the_last_three_lines_are_quoted_also_one_without_an_end() {
        let mark = LogMark::now();
        for line in ["1\n", "2\n", "3\n", "4"] {
            say(line);
        }
        assert_eq!(mark.lines(), "2; 3; 4");
    }

    // On a log of its own: in that of the process, other tests speak at the same time.
    #[test]
    fn errors_win_over_warnings_and_this_thread_over_others() {
        let (mut log, lines, this) = (Log::empty(), AtomicU64::new(0), thread::current().id());
        let other = thread::scope(|scope| scope.spawn(|| thread::current().id()).join()).expect("no panic");
        let line = |level, text: &str| LogLine { class: "libtest".to_owned(), level, text: text.to_owned() };
        let mark = LogMark { line: 0, thread: this };
        let said = |log: &Log| log.said_since(&mark, |_| true);
        log.keep(&lines, this, &line(LogLevel::Warning, "a warning"));
        log.keep(&lines, this, &line(LogLevel::Info, "by the way"));
        assert_eq!(said(&log), "a warning");
        log.keep(&lines, other, &line(LogLevel::Error, "from an encoder's thread"));
        assert_eq!(said(&log), "from an encoder's thread");
        log.keep(&lines, this, &line(LogLevel::Error, "an error"));
        assert_eq!(said(&log), "an error");
        assert_eq!(log.said_since(&mark, |line| line.class == "another"), "");
        assert_eq!(log.said_since(&LogMark { line: lines.into_inner(), ..mark }, |_| true), "");
    }

    #[test]
    fn another_object_ends_a_line() {
        let mark = LogMark::now();
        say("half of");
        add("other".to_owned(), LogLevel::Error, "whole\n");
        assert_eq!(mark.lines(), "half of; whole");
        assert_eq!(mark.lines_of("oth"), "whole");
    }
}
