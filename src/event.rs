//! What the engine tells its observer, and the one thing an observer tells the engine: stop.
//!
//! Invariant: the engine never prints; everything a person sees comes through here or through the report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

/// A request to stop, shared by whoever may make it and every stage that must hear it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A request not yet made.
    #[must_use]
    pub fn new() -> Self {
        Cancel::default()
    }

    /// Asks every stage to stop; cannot be taken back.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn flag(&self) -> &Arc<AtomicBool> {
        &self.0
    }
}

/// What happens while a job runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Something deserves to be known; it is in the report too.
    Warning {
        /// In words.
        text: String,
    },
    /// A line that libav or an encoder logged.
    Log {
        /// libav's class of the object that spoke (`libx264`, `mov,mp4,…`).
        class: String,
        /// Severity: `error`, `warning`, `info`, `verbose`, `debug`.
        level: &'static str,
        /// The line.
        text: String,
    },
}
