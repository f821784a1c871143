//! The spill file: frames stored one after another, raw or packed, in a temporary file that has no name.
//!
//! Invariant: the file disappears with its last handle, also when the process is killed.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lz4_flex::block;

use crate::av::AvError;
use crate::av::frame::Frame;
use crate::cache::{Measured, Packing};
use crate::error::Error;

/// Frames on disk.
pub(super) struct Spill {
    file: File,
    folder: PathBuf,
    end: u64,
    at_most: u64,
    packing: Packing,
    /// A frame as it is, and packed.
    plain: Vec<u8>,
    packed: Vec<u8>,
}

/// One stored frame: its properties in memory, its pixels in the file.
pub(super) struct Spilled {
    shell: Frame,
    offset: u64,
    /// Bytes in the file; as many as `plain` where it is not packed.
    stored: usize,
    plain: usize,
}

impl Spill {
    pub(super) fn create(folder: &Path, at_most: u64) -> Result<Self, Error> {
        match nameless(folder) {
            Ok(file) => Ok(Spill {
                file,
                folder: folder.to_owned(),
                end: 0,
                at_most,
                packing: Packing::Raw,
                plain: Vec::new(),
                packed: Vec::new(),
            }),
            Err(source) => Err(Error::Scratch { what: "frames", path: folder.to_owned(), source }),
        }
    }

    pub(super) fn packing(self, packing: Packing) -> Self {
        Spill { packing, ..self }
    }

    /// Stores a frame; `None` where the disk is full: what does not fit is decoded again, so that is no error.
    pub(super) fn store(&mut self, frame: &Frame) -> Result<Option<Spilled>, Error> {
        self.plain.clear();
        self.gather(frame)?;
        let shell = frame.properties().map_err(|error| self.failed(invalid(error)))?;
        let packed = match self.packing {
            Packing::Raw => None,
            Packing::Lz4 => pack(&self.plain, &mut self.packed),
        };
        let bytes = packed.map_or(self.plain.as_slice(), |length| &self.packed[..length]);
        let (stored, plain) = (bytes.len(), self.plain.len());
        if self.end + stored as u64 > self.at_most {
            return Ok(None);
        }
        match self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(bytes)) {
            Ok(()) => {
                let spilled = Spilled { shell, offset: self.end, stored, plain };
                self.end += stored as u64;
                Ok(Some(spilled))
            }
            Err(error) if is_full(&error) => {
                // What was written of this frame is given back, for the output may share the disk.
                self.file.set_len(self.end).map_err(|error| self.failed(error))?;
                Ok(None)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn gather(&mut self, frame: &Frame) -> Result<(), Error> {
        let plain = &mut self.plain;
        frame.for_each_row(|row| plain.extend_from_slice(row)).map_err(|error| self.failed(invalid(error)))
    }

    /// The frame as it was stored, in fresh planes.
    pub(super) fn load(&mut self, spilled: &Spilled) -> Result<Frame, Error> {
        let is_packed = spilled.stored < spilled.plain;
        self.plain.resize(spilled.plain, 0);
        let into = if is_packed { &mut self.packed } else { &mut self.plain };
        into.resize(spilled.stored, 0);
        self.file
            .seek(SeekFrom::Start(spilled.offset))
            .and_then(|_| self.file.read_exact(into))
            .map_err(|error| self.failed(error))?;
        if is_packed {
            let unpacked = block::decompress_into(&self.packed, &mut self.plain);
            if unpacked.ok() != Some(spilled.plain) {
                return Err(self.failed(io::ErrorKind::InvalidData.into()));
            }
        }
        let mut frame = spilled.shell.with_fresh_planes().map_err(|error| self.failed(invalid(error)))?;
        let mut rest = self.plain.as_slice();
        frame
            .fill_rows(|row| {
                let (now, later) = rest.split_at(row.len());
                row.copy_from_slice(now);
                rest = later;
                Ok::<(), AvError>(())
            })
            .map_err(|error| self.failed(invalid(error)))?;
        Ok(frame)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// Measures what keeping the frames of one moment costs, with these frames, in this empty file; `None` where not even the
    /// trial has room, or there is nothing to try it with.
    pub(super) fn measure(&mut self, frames: &[&Frame], making: Option<f64>) -> Result<Option<Measured>, Error> {
        self.plain.clear();
        frames.iter().try_for_each(|frame| self.gather(frame))?;
        let bytes = self.plain.len() as f64;
        let Some((write_bps, read_bps)) = self.disk()? else { return Ok(None) };
        let mut packed_length = None;
        let pack_bps = speed(self.plain.len(), || packed_length = pack(&self.plain, &mut self.packed));
        let stored = packed_length.unwrap_or(self.plain.len());
        let packed_share = stored as f64 / bytes.max(1.0);
        let unpack_bps = match packed_length {
            Some(length) => speed(self.plain.len(), || {
                let _ = black_box(block::decompress_into(&self.packed[..length], &mut self.plain));
            }),
            None => pack_bps,
        };
        let through = 1.0 / write_bps + 1.0 / read_bps;
        Ok(Some(Measured {
            write_bps,
            read_bps,
            pack_bps,
            unpack_bps,
            packed_share,
            raw_seconds: bytes * through,
            lz4_seconds: bytes * (1.0 / pack_bps + packed_share * through + 1.0 / unpack_bps),
            decode_seconds: making,
        }))
    }

    /// Bytes per second that the disk takes and gives, by a trial of some megabytes and a quarter of a second each.
    fn disk(&mut self) -> Result<Option<(f64, f64)>, Error> {
        let mut piece = self.plain.clone();
        if piece.is_empty() {
            return Ok(None);
        }
        while piece.len() < PIECE {
            piece.extend_from_within(..piece.len().min(PIECE - piece.len()));
        }
        let (mut file, mut written) = (&self.file, 0_usize);
        let began = Instant::now();
        let mut write = || -> io::Result<()> {
            while written < TRIAL && began.elapsed() < TRIAL_TIME {
                file.write_all(&piece)?;
                // What only waits in memory was not written.
                file.sync_data()?;
                written += piece.len();
            }
            Ok(())
        };
        match write() {
            Err(error) if is_full(&error) => {
                self.file.set_len(0).map_err(|error| self.failed(error))?;
                return Ok(None);
            }
            other => other.map_err(|error| self.failed(error))?,
        }
        let write_bps = written as f64 / began.elapsed().as_secs_f64().max(1e-9);
        forget(&self.file);
        let (began, mut read) = (Instant::now(), 0_usize);
        let mut read_all = || -> io::Result<()> {
            file.seek(SeekFrom::Start(0))?;
            while read < written && began.elapsed() < TRIAL_TIME {
                file.read_exact(&mut piece)?;
                read += piece.len();
            }
            Ok(())
        };
        read_all().map_err(|error| self.failed(error))?;
        let read_bps = read as f64 / began.elapsed().as_secs_f64().max(1e-9);
        self.file.set_len(0).map_err(|error| self.failed(error))?;
        Ok(Some((write_bps, read_bps)))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Scratch { what: "frames", path: self.folder.clone(), source }
    }
}

/// Packs; `None` where that saves nothing.
fn pack(plain: &[u8], packed: &mut Vec<u8>) -> Option<usize> {
    packed.resize(block::get_maximum_output_size(plain.len()), 0);
    block::compress_into(plain, packed).ok().filter(|length| *length < plain.len())
}

/// Bytes per second of something done again and again to so many.
fn speed(bytes: usize, mut act: impl FnMut()) -> f64 {
    let (began, mut times) = (Instant::now(), 0_u32);
    while times == 0 || began.elapsed() < PACKING_TIME {
        act();
        times += 1;
    }
    bytes.max(1) as f64 * f64::from(times) / began.elapsed().as_secs_f64().max(1e-9)
}

/// Lets the system drop what it holds of the file in memory, so that reading is reading.
#[cfg(target_os = "linux")]
fn forget(file: &File) {
    // Where it does not, reading looks faster than it is.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn forget(_file: &File) {}

/// A temporary file without a name in this folder, for its owner alone.
pub(crate) fn nameless(folder: &Path) -> io::Result<File> {
    tempfile::tempfile_in(folder).and_then(private)
}

/// It has no name, but whoever may look into /proc could open it.
#[cfg(unix)]
fn private(file: File) -> io::Result<File> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(not(unix))]
fn private(file: File) -> io::Result<File> {
    Ok(file)
}

fn invalid(error: AvError) -> io::Error {
    io::Error::other(error)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Bytes that are written at once in a trial.
const PIECE: usize = 8 << 20;
/// Bytes of a trial: beyond what a disk's own cache swallows would be better, and take too long on a slow one.
const TRIAL: usize = 64 << 20;
const TRIAL_TIME: Duration = Duration::from_millis(250);
const PACKING_TIME: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheMode, CachePlan, FrameCache, in_memory};
    use crate::rate::ByteSize;

    fn noise(seed: u8, pixel_format: &str) -> Frame {
        let mut frame = Frame::allocate(37, 23, pixel_format).unwrap();
        let mut next = seed;
        frame
            .fill_rows(|row| {
                row.fill_with(|| {
                    next = next.wrapping_mul(29).wrapping_add(7);
                    next
                });
                Ok::<(), AvError>(())
            })
            .unwrap();
        frame.set_pts(i64::from(seed) * 3);
        frame
    }

    /// What packs well.
    fn plain(pixel_format: &str) -> Frame {
        let mut frame = Frame::allocate(37, 23, pixel_format).unwrap();
        frame
            .fill_rows(|row| {
                row.fill(7);
                Ok::<(), AvError>(())
            })
            .unwrap();
        frame.set_pts(12);
        frame
    }

    #[test]
    fn a_trial_measures_and_leaves_the_file_empty() {
        let mut spill = Spill::create(&std::env::temp_dir(), u64::MAX).unwrap();
        let measured = spill.measure(&[&plain("yuv420p"), &noise(1, "yuv420p")], Some(0.5)).unwrap().unwrap();
        let speeds = [measured.write_bps, measured.read_bps, measured.pack_bps, measured.unpack_bps];
        assert!(speeds.iter().all(|speed| *speed > 0.0 && speed.is_finite()), "{measured:?}");
        assert!(measured.packed_share < 1.0 && measured.decode_seconds == Some(0.5), "{measured:?}");
        assert_eq!((spill.file.metadata().unwrap().len(), spill.bytes()), (0, 0));
        assert_eq!(spill.measure(&[], None).unwrap(), None);
        let frame = noise(3, "yuv420p");
        let stored = spill.store(&frame).unwrap().unwrap();
        assert_eq!(spill.load(&stored).unwrap().hash().unwrap(), frame.hash().unwrap());
    }

    #[test]
    fn memory_file_and_nothing_are_used_one_after_another() {
        let one = noise(1, "yuv420p").held_bytes();
        for mode in [CacheMode::Disk, CacheMode::Raw, CacheMode::Lz4] {
            let plan = CachePlan { mode, budget: ByteSize(one * 2), spill_dir: None };
            let mut cache = FrameCache::new(plan);
            let mut kept = Vec::new();
            for seed in 0..8 {
                kept.push(cache.keep(&[noise(seed, "yuv420p")], &[true], 0).unwrap());
                if let Some(spill) = cache.spill.as_mut().filter(|_| seed == 4) {
                    spill.at_most = spill.end + 10;
                }
            }
            assert_eq!(kept, [true, true, true, true, true, false, false, false], "{mode:?}");
            let report = cache.spilled().unwrap();
            assert_eq!((report.frames, report.measured.is_some()), (3, mode == CacheMode::Disk));
            for seed in 0..5 {
                let back = cache.frames(usize::from(seed), false).unwrap();
                assert_eq!(back[0].hash().unwrap(), noise(seed, "yuv420p").hash().unwrap(), "{mode:?}");
            }
        }
    }

    #[test]
    fn what_is_cheap_to_make_again_is_not_kept_in_a_file_unless_asked_for() {
        if in_memory(&std::env::temp_dir()) == Some(true) {
            println!("skipped: the folder for temporary files is memory (TMPDIR=… names another)");
            return;
        }
        let one = noise(1, "yuv420p").held_bytes();
        for (mode, cost, kept) in [
            (CacheMode::Auto, 1e-12, 2),
            (CacheMode::Auto, 1e3, 6),
            (CacheMode::Disk, 1e-12, 6),
            (CacheMode::Ram, 1e3, 2),
        ] {
            let plan = CachePlan { mode, budget: ByteSize(one * 2), spill_dir: None };
            let mut cache = FrameCache::new(plan);
            cache.note_cost(cost);
            let mut keeps = |seed: &u8| cache.keep(&[noise(*seed, "yuv420p")], &[true], 0).unwrap();
            assert_eq!((0..6).filter(&mut keeps).count(), kept, "{mode:?} {cost}");
        }
    }

    #[test]
    fn a_spilled_frame_comes_back_as_it_went_in() {
        for packing in [Packing::Raw, Packing::Lz4] {
            let mut spill = Spill::create(&std::env::temp_dir(), u64::MAX).unwrap().packing(packing);
            for format in ["yuv420p", "yuv422p10le", "yuv444p", "gray", "rgb24", "nv12"] {
                let mut stored: Vec<_> = (1..4).map(|seed| (noise(seed, format), seed)).collect();
                stored.push((plain(format), 4));
                let spilled: Vec<_> = stored.iter().map(|(frame, _)| spill.store(frame).unwrap().unwrap()).collect();
                assert_eq!(spilled[3].stored < spilled[3].plain, packing == Packing::Lz4, "{format}");
                for ((frame, seed), spilled) in stored.iter().zip(&spilled) {
                    let back = spill.load(spilled).unwrap();
                    assert_eq!(back.hash().unwrap(), frame.hash().unwrap(), "{format}");
                    assert_eq!(back.pts(), Some(i64::from(*seed) * 3), "{format}");
                }
            }
        }
    }

    #[test]
    fn a_cache_keeps_a_prefix_within_its_budget() {
        let one = noise(1, "yuv420p").held_bytes();
        let plan = CachePlan { mode: CacheMode::Ram, budget: ByteSize(one * 5), spill_dir: None };
        let mut cache = FrameCache::new(plan);
        let kept: Vec<bool> = (0..10).map(|seed| cache.keep(&[noise(seed, "yuv420p")], &[true], 2).unwrap()).collect();
        assert_eq!(kept, [true, true, true, false, false, false, false, false, false, false]);
        assert_eq!(cache.held_bytes(), one * 3);
        assert_eq!(cache.frames(2, true).unwrap()[0].hash().unwrap(), noise(2, "yuv420p").hash().unwrap());
        assert_eq!(cache.held_bytes(), one * 2, "a frame given out for the last time is no longer held");
    }

    #[test]
    fn branches_that_nobody_wants_later_take_no_place_and_all_share_one_budget() {
        let (large, small) = (noise(1, "yuv444p"), noise(2, "yuv420p"));
        let (first, second) = (large.held_bytes(), small.held_bytes());
        let frames = [large, small];
        let budget = |bytes| CachePlan { mode: CacheMode::Ram, budget: ByteSize(bytes), spill_dir: None };
        // Nine of each in flight, and room for four.
        let mut both = FrameCache::new(budget((first + second) * 9 + (first + second) * 4));
        assert_eq!((0..9).filter(|_| both.keep(&frames, &[true, true], 9).unwrap()).count(), 4);
        let mut one = FrameCache::new(budget((first + second) * 9 + second * 4));
        assert_eq!((0..9).filter(|_| one.keep(&frames, &[false, true], 9).unwrap()).count(), 4);
        assert_eq!(one.held_bytes(), second * 4);
        let given = one.frames(0, true).unwrap();
        assert_eq!((given[0].held_bytes(), given[1].held_bytes()), (0, second));
    }

    #[test]
    fn what_does_not_fit_in_memory_goes_to_disk_when_asked() {
        let one = noise(1, "yuv420p").held_bytes();
        let plan = CachePlan { mode: CacheMode::Disk, budget: ByteSize(one * 2), spill_dir: None };
        let mut cache = FrameCache::new(plan);
        assert!((0..6).all(|seed| cache.keep(&[noise(seed, "yuv420p")], &[true], 0).unwrap()));
        assert_eq!((cache.len(), cache.held_bytes()), (6, one * 2));
        for seed in 0..6 {
            assert_eq!(
                cache.frames(usize::from(seed), false).unwrap()[0].hash().unwrap(),
                noise(seed, "yuv420p").hash().unwrap()
            );
        }
    }
}
