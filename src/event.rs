//! What the engine tells its observer, and the one thing an observer tells the engine: stop.
//!
//! Invariant: the engine never prints; everything a person sees comes through here or through the report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::av::log::LogLevel;

/// A request to stop, shared by whoever may make it and every stage that must hear it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Flag>);

/// What a [`Cancel`] shares. libav's interrupt callbacks look at it from any thread.
#[derive(Debug, Default)]
pub(crate) struct Flag {
    stopped: AtomicBool,
    parent: Option<Cancel>,
}

impl Cancel {
    /// A request not yet made.
    #[must_use]
    pub fn new() -> Self {
        Cancel::default()
    }

    /// One that hears this one's stop too, and can be stopped alone: for a job among others.
    #[must_use]
    pub fn child(&self) -> Self {
        Cancel(Arc::new(Flag { stopped: AtomicBool::new(false), parent: Some(self.clone()) }))
    }

    /// Asks every stage to stop; cannot be taken back.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }

    pub(crate) fn flag(&self) -> &Arc<Flag> {
        &self.0
    }
}

impl Flag {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.parent.as_ref().is_some_and(Cancel::is_stopped)
    }
}

/// A stage of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "stage", content = "rendition")]
pub enum Stage {
    /// Reads, decodes, filters, or takes frames out of the cache.
    Feed,
    /// Encodes this rendition.
    Encode(usize),
    /// Writes this rendition.
    Mux(usize),
    /// Reads this rendition's sound, subtitles and the like.
    Other(usize),
    /// Keeps this rendition's first pass for a run to come.
    Keep(usize),
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stage::Feed => f.write_str("reading and decoding"),
            Stage::Encode(rendition) => write!(f, "encoding rendition {}", rendition + 1),
            Stage::Mux(rendition) => write!(f, "writing rendition {}", rendition + 1),
            Stage::Keep(rendition) => write!(f, "keeping the first pass of rendition {}", rendition + 1),
            Stage::Other(rendition) => write!(f, "reading sound and the like for rendition {}", rendition + 1),
        }
    }
}

/// What happens while a job runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A run begins: every rendition that has a pass left takes part.
    Run {
        /// Which, from 1.
        run: u8,
        /// Of how many.
        of: u8,
    },
    /// A pass of one rendition has taken frames.
    Progress {
        /// The rendition's index.
        rendition: usize,
        /// The pass, from 1.
        pass: u8,
        /// Frames the encoder has been given.
        frames: u64,
        /// Frames in all, where known: exact from pass 2 on, else the container's word.
        total: Option<u64>,
        /// Frames per second since the pass began.
        fps: f64,
        /// Bytes of video written so far; 0 for a pass that only analyses.
        bytes: u64,
        /// Seconds of video that these bytes stand for.
        seconds: f64,
    },
    /// How full the frame cache is.
    Cache {
        /// Bytes held.
        bytes: u64,
        /// Bytes allowed.
        budget: u64,
        /// Frames held.
        frames: u64,
    },
    /// A pass of one rendition has ended.
    PassDone {
        /// The rendition's index.
        rendition: usize,
        /// The pass, from 1.
        pass: u8,
        /// Frames encoded.
        frames: u64,
        /// Seconds it took.
        seconds: f64,
    },
    /// A stage has made no progress for too long and was asked to end, and all others with it.
    Stalled {
        /// The stage that is not waiting for another.
        stage: Stage,
        /// Seconds since it last moved.
        seconds: f64,
    },
    /// The stage does not end, a while after it was asked to: it hangs inside a library. Nothing in this process can free
    /// it; whoever owns the process may end it. Nothing is under a final name.
    Stuck {
        /// The stage.
        stage: Stage,
        /// Seconds since it last moved.
        seconds: f64,
    },
    /// Something deserves to be known; it is in the report too.
    Warning {
        /// In words.
        text: String,
    },
    /// A line that libav or an encoder logged.
    Log {
        /// libav's class of the object that spoke (`libx264`, `mov,mp4,…`).
        class: String,
        /// Severity.
        level: LogLevel,
        /// The line.
        text: String,
    },
}
