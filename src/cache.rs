//! The frame cache: decoded frames kept for the next pass, by reference, under a budget of bytes.
//!
//! Invariant: a prefix of the stream is kept, in order; once a frame did not fit, none after it is kept, so that the rest
//! can be decoded again from one point. A frame comes back as it went in: same pixels, same side data, same times.

use std::path::PathBuf;

use serde::Serialize;

use crate::av::frame::Frame;
use crate::error::Error;
use crate::rate::ByteSize;

mod budget;
mod spill;

pub(crate) use budget::has_room;
pub use budget::{Memory, default_budget};
use spill::{Spill, Spilled};

/// What a process must still be able to have for encoders, threads and queues: less, and nothing more is kept.
pub(crate) const HEADROOM_BYTES: u64 = 64 << 20;

/// Pictures that an encoder and its look-ahead hold: of 1080p the measured ones take 85 (x265) to 190 (SVT-AV1).
const ENCODER_PICTURES: u64 = 200;

/// Bytes that a job needs beside its cache for pictures of so many bytes: encoders, their look-ahead, threads and queues.
pub(crate) fn needed_beside(picture_bytes: u64) -> u64 {
    HEADROOM_BYTES + ENCODER_PICTURES * picture_bytes
}

/// Where frames for later passes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheMode {
    /// In memory, by reference; what does not fit is decoded again.
    #[default]
    Ram,
    /// In memory, and what does not fit there raw in an unlinked temporary file.
    Disk,
    /// Nowhere: every pass decodes.
    None,
}

/// What a cache may hold and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CachePlan {
    /// Where frames are kept.
    pub mode: CacheMode,
    /// Bytes of memory, frames in flight between stages included.
    pub budget: ByteSize,
    /// Folder of the spill file, for [`CacheMode::Disk`]; `None`: the system's temporary folder.
    #[serde(serialize_with = "crate::report::optional_path_as_text")]
    pub spill_dir: Option<PathBuf>,
}

impl Default for CachePlan {
    /// Memory alone, as much as [`default_budget`] allows.
    fn default() -> Self {
        CachePlan { mode: CacheMode::Ram, budget: default_budget(), spill_dir: None }
    }
}

/// Frames of one or more branches of a filter graph, kept index by index: an index is kept for every branch that is wanted
/// later, or for none.
pub struct FrameCache {
    plan: CachePlan,
    slots: Vec<Vec<Slot>>,
    spill: Option<Spill>,
    held: u64,
    closed: bool,
}

enum Slot {
    Ram(Frame),
    Disk(Spilled),
    /// Of a branch that nobody wants later.
    Gone,
}

impl FrameCache {
    /// An empty cache.
    #[must_use]
    pub fn new(plan: CachePlan) -> Self {
        let closed = plan.mode == CacheMode::None;
        FrameCache { plan, slots: Vec::new(), spill: None, held: 0, closed }
    }

    /// Keeps the next index: the frames of those branches that are `wanted` later. `in_flight` is how many frames of each
    /// branch queues hold at most beside it. Returns whether it was kept; after the first refusal nothing is kept any more.
    ///
    /// # Errors
    /// [`Error::Scratch`] where the spill file cannot be written.
    pub fn keep(&mut self, frames: &[Frame], wanted: &[bool], in_flight: u64) -> Result<bool, Error> {
        if self.closed {
            return Ok(false);
        }
        let all: u64 = frames.iter().map(Frame::held_bytes).sum();
        // A budget may be more than there is: what is left is for those who cannot do without.
        if !has_room(needed_beside(all)) {
            self.closed = true;
            return Ok(false);
        }
        let kept: u64 =
            frames.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(frame, _)| frame.held_bytes()).sum();
        let slots = if self.held + kept + all * in_flight <= self.plan.budget.0 {
            self.held += kept;
            let share = |(frame, wanted): (&Frame, &bool)| match wanted {
                true => frame.share().map(Slot::Ram),
                false => Ok(Slot::Gone),
            };
            frames.iter().zip(wanted).map(share).collect::<Result<Vec<_>, _>>().ok()
        } else if self.plan.mode == CacheMode::Disk {
            self.store(frames, wanted)?
        } else {
            None
        };
        match slots {
            Some(slots) => self.slots.push(slots),
            None => self.closed = true,
        }
        Ok(!self.closed)
    }

    fn store(&mut self, frames: &[Frame], wanted: &[bool]) -> Result<Option<Vec<Slot>>, Error> {
        if self.spill.is_none() {
            self.spill = Some(Spill::create(self.plan.spill_dir.as_deref())?);
        }
        let Some(spill) = &mut self.spill else { return Ok(None) };
        let mut slots = Vec::with_capacity(frames.len());
        for (frame, wanted) in frames.iter().zip(wanted) {
            if !wanted {
                slots.push(Slot::Gone);
                continue;
            }
            match spill.store(frame)? {
                Some(spilled) => slots.push(Slot::Disk(spilled)),
                None => return Ok(None),
            }
        }
        Ok(Some(slots))
    }

    /// How many indices are kept, from 0.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held
    }

    /// Bytes in the spill file.
    #[must_use]
    pub fn spilled_bytes(&self) -> u64 {
        self.spill.as_ref().map_or(0, Spill::bytes)
    }

    /// What it may hold and where.
    #[must_use]
    pub fn plan(&self) -> &CachePlan {
        &self.plan
    }

    /// The frames of an index, shared; an empty one for a branch that was not wanted. With `last` their memory is given up,
    /// for nobody comes after.
    ///
    /// # Errors
    /// [`Error::Scratch`] where the spill file cannot be read; [`Error::Stopped`] for an index that is not kept.
    pub fn frames(&mut self, index: usize, last: bool) -> Result<Vec<Frame>, Error> {
        let slots = self.slots.get_mut(index).ok_or(Error::Stopped)?;
        let mut given = 0;
        let mut frames = Vec::with_capacity(slots.len());
        for slot in slots.iter() {
            frames.push(match slot {
                Slot::Ram(frame) => {
                    given += frame.held_bytes();
                    frame.share().map_err(|_| Error::Stopped)?
                }
                Slot::Disk(spilled) => self.spill.as_mut().ok_or(Error::Stopped)?.load(spilled)?,
                Slot::Gone => Frame::new().map_err(|_| Error::Stopped)?,
            });
        }
        if last {
            *slots = Vec::new();
            self.held -= given.min(self.held);
        }
        Ok(frames)
    }
}
