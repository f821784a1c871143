//! The frame cache: decoded frames kept for the next pass, by reference, under a budget of bytes.
//!
//! Invariant: a prefix of the stream is kept, in order; once a frame did not fit, none after it is kept, so that the rest
//! can be decoded again from one point. A frame comes back as it went in: same pixels, same side data, same times.

use std::path::PathBuf;

use serde::Serialize;

use crate::av::frame::Frame;
use crate::error::Error;
use crate::rate::ByteSize;
use crate::stats::{free_bytes, in_memory};

mod budget;
mod spill;

pub(crate) use budget::has_room;
pub use budget::{Memory, default_budget};
pub(crate) use spill::nameless;
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
    /// In memory, by reference; what does not fit goes to an unlinked temporary file or is decoded again, as is measured to be
    /// faster when memory is full. The file takes half of what its folder has free at most, and none in a folder that is
    /// memory itself.
    #[default]
    Auto,
    /// In memory; what does not fit is decoded again.
    Ram,
    /// In memory, and what does not fit there in the file: raw or packed, as is measured to be faster.
    Disk,
    /// The same, always raw.
    Raw,
    /// The same, always packed by LZ4.
    Lz4,
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
    /// Folder of the spill file; `None`: the system's temporary folder.
    #[serde(serialize_with = "crate::report::optional_path_as_text")]
    pub spill_dir: Option<PathBuf>,
}

impl Default for CachePlan {
    /// Memory, as much as [`default_budget`] allows, and for the rest what is measured to be faster.
    fn default() -> Self {
        CachePlan { mode: CacheMode::Auto, budget: default_budget(), spill_dir: None }
    }
}

impl CachePlan {
    /// Folder of the spill file.
    #[must_use]
    pub fn spill_folder(&self) -> PathBuf {
        self.spill_dir.clone().unwrap_or_else(std::env::temp_dir)
    }
}

/// How frames lie in the spill file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// As they are.
    Raw,
    /// Packed by LZ4.
    Lz4,
}

/// What became of the frames that memory had no room for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpillReport {
    /// Folder of the spill file.
    pub folder: PathBuf,
    /// How frames lie in it; `None`: there is no file, they are decoded again.
    pub packing: Option<Packing>,
    /// How many indices are in it: moments of the stream, each with a frame of every branch that was wanted.
    pub frames: u64,
    /// Its bytes.
    pub bytes: u64,
    /// What the choice was made from; `None` where there was none to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

/// Speeds at the moment when memory was full, and what each way costs for the frames of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// Bytes per second that the folder's disk takes, until they are on it.
    pub write_bps: f64,
    /// Bytes per second that it gives back.
    pub read_bps: f64,
    /// Bytes of frames per second that LZ4 packs.
    pub pack_bps: f64,
    /// Bytes of frames per second that it unpacks.
    pub unpack_bps: f64,
    /// What is left of a frame that it packed, as a share.
    pub packed_share: f64,
    /// Seconds to write and read back.
    pub raw_seconds: f64,
    /// Seconds to pack, write, read back and unpack.
    pub lz4_seconds: f64,
    /// Seconds that reading, decoding, filtering and hashing took so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_seconds: Option<f64>,
}

/// Frames of one or more branches of a filter graph, kept index by index: an index is kept for every branch that is wanted
/// later, or for none.
pub struct FrameCache {
    plan: CachePlan,
    slots: Vec<Vec<Slot>>,
    spill: Option<Spill>,
    spilled: Option<SpillReport>,
    /// Seconds that a new index has taken, where that is known.
    making: Option<f64>,
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
        FrameCache { plan, slots: Vec::new(), spill: None, spilled: None, making: None, held: 0, closed }
    }

    /// Tells how many seconds an index has taken to make so far, on average: what decoding it again will cost.
    pub fn note_cost(&mut self, seconds: f64) {
        self.making = Some(seconds);
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
        } else {
            self.store(frames, wanted)?
        };
        match slots {
            Some(slots) => self.slots.push(slots),
            None => self.closed = true,
        }
        Ok(!self.closed)
    }

    fn store(&mut self, frames: &[Frame], wanted: &[bool]) -> Result<Option<Vec<Slot>>, Error> {
        if self.spilled.is_none() && self.plan.mode != CacheMode::Ram {
            let wanted = frames.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(frame, _)| frame);
            self.choose(&wanted.collect::<Vec<_>>())?;
        }
        let (Some(spill), Some(report)) = (&mut self.spill, &mut self.spilled) else { return Ok(None) };
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
        (report.frames, report.bytes) = (report.frames + 1, spill.bytes());
        Ok(Some(slots))
    }

    /// Memory is full: what becomes of the rest, by what is asked for or by what is measured with the frames at hand.
    fn choose(&mut self, frames: &[&Frame]) -> Result<(), Error> {
        let folder = self.plan.spill_folder();
        let report = SpillReport { folder: folder.clone(), packing: None, frames: 0, bytes: 0, measured: None };
        let report = self.spilled.insert(report);
        let is_auto = self.plan.mode == CacheMode::Auto;
        if is_auto && in_memory(&folder) == Some(true) {
            return Ok(());
        }
        let free = free_bytes(&folder).filter(|_| is_auto);
        let mut spill = match Spill::create(&folder, free.map_or(u64::MAX, |free| free / 2)) {
            Ok(spill) => spill,
            // Nobody asked for a file.
            Err(_) if is_auto => return Ok(()),
            Err(error) => return Err(error),
        };
        report.packing = match self.plan.mode {
            CacheMode::Raw => Some(Packing::Raw),
            CacheMode::Lz4 => Some(Packing::Lz4),
            CacheMode::Auto | CacheMode::Disk => {
                report.measured = spill.measure(frames, self.making)?;
                // A disk without room for a trial is still what was asked for.
                let unmeasured = (!is_auto).then_some(Packing::Raw);
                report.measured.map_or(unmeasured, |measured| measured.fastest(is_auto))
            }
            CacheMode::Ram | CacheMode::None => None,
        };
        self.spill = report.packing.map(|packing| spill.packing(packing));
        Ok(())
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

    /// What became of the frames that memory had no room for; `None` where there were none, or nothing else was allowed.
    #[must_use]
    pub fn spilled(&self) -> Option<&SpillReport> {
        self.spilled.as_ref()
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
                    frame.share().map_err(Error::no_memory("a kept frame"))?
                }
                Slot::Disk(spilled) => self.spill.as_mut().ok_or(Error::Stopped)?.load(spilled)?,
                Slot::Gone => Frame::new().map_err(Error::no_memory("a kept frame"))?,
            });
        }
        if last {
            *slots = Vec::new();
            self.held -= given.min(self.held);
        }
        Ok(frames)
    }
}

impl Measured {
    /// The way that costs least; `None`: decoding again, where that `may_win`.
    fn fastest(&self, may_win: bool) -> Option<Packing> {
        let (packing, seconds) = if self.raw_seconds <= self.lz4_seconds {
            (Packing::Raw, self.raw_seconds)
        } else {
            (Packing::Lz4, self.lz4_seconds)
        };
        let again = self.decode_seconds.filter(|_| may_win).is_some_and(|again| again < seconds);
        (!again).then_some(packing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(raw_seconds: f64, lz4_seconds: f64, decode_seconds: Option<f64>) -> Measured {
        Measured {
            write_bps: 1e9,
            read_bps: 1e9,
            pack_bps: 1e9,
            unpack_bps: 1e9,
            packed_share: 0.7,
            raw_seconds,
            lz4_seconds,
            decode_seconds,
        }
    }

    #[test]
    fn the_way_that_costs_least_is_taken() {
        assert_eq!(measured(1.0, 2.0, Some(3.0)).fastest(true), Some(Packing::Raw));
        assert_eq!(measured(2.0, 1.0, Some(3.0)).fastest(true), Some(Packing::Lz4));
        assert_eq!(measured(2.0, 1.0, Some(0.5)).fastest(true), None);
        assert_eq!(measured(2.0, 1.0, Some(0.5)).fastest(false), Some(Packing::Lz4), "a file was asked for");
        assert_eq!(measured(1.0, 2.0, None).fastest(true), Some(Packing::Raw));
    }
}
