//! What a session steers by: the bit rate of the whole, or the quality of its segments.

use super::quality::{self, Measure};
use super::steering::{self, Next};

/// Which level each segment gets.
pub(super) enum Law {
    Rate(steering::Steering),
    Quality(quality::Steering),
}

/// A version of a segment, as far as steering looks at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coded {
    pub(super) level: f64,
    pub(super) bytes: u64,
    /// In the metric's unit; `None` where it is not measured.
    pub(super) quality: Option<f64>,
}

impl Law {
    /// Notes what a segment came to.
    pub(super) fn note(&mut self, segment: usize, coded: Coded) {
        let Coded { level, bytes, quality } = coded;
        match (self, quality) {
            (Law::Rate(steering), _) => steering.note(segment, level, bytes),
            (Law::Quality(steering), Some(quality)) => {
                steering.note(segment, Measure { level, bytes: bytes as f64, quality });
            }
            (Law::Quality(_), None) => {}
        }
    }

    /// Segments that are to be coded before their turn.
    pub(super) fn samples(&self) -> Vec<usize> {
        match self {
            Law::Rate(steering) => steering.samples(),
            Law::Quality(_) => Vec::new(),
        }
    }

    /// The level of a segment in pass 1, where those before it have theirs, or of one that is coded before its turn.
    pub(super) fn level_of(&mut self, segment: usize) -> f64 {
        match self {
            Law::Rate(steering) => steering.level_of(segment),
            Law::Quality(steering) => steering.level_of(segment),
        }
    }

    /// Where another version than the last is to be in the stream: of which of these segments, and its level.
    pub(super) fn settle(&mut self, segments: &[usize]) -> Vec<(usize, f64)> {
        match self {
            Law::Rate(_) => Vec::new(),
            Law::Quality(steering) => steering.settle(segments),
        }
    }

    /// What follows a pass.
    pub(super) fn next(&mut self) -> Next {
        match self {
            Law::Rate(steering) => steering.next(),
            Law::Quality(steering) => steering.next(),
        }
    }

    /// What segments are held to, and which of them miss it; `None` where their bytes are what matters.
    pub(super) fn held_to(&self) -> Option<HeldTo> {
        let Law::Quality(steering) = self else { return None };
        Some(steering.held_to())
    }
}

/// The quality that all segments are held to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeldTo {
    /// In the metric's unit: the target, or less where the cap decides.
    pub(crate) quality: f64,
    /// Segments that are not near enough.
    pub(crate) missed: Vec<usize>,
}
