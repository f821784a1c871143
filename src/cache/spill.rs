//! The spill file: frames stored raw, one after another, in a temporary file that has no name.
//!
//! Invariant: the file disappears with its last handle, also when the process is killed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::av::AvError;
use crate::av::frame::Frame;
use crate::error::Error;

/// Raw frames on disk.
pub(super) struct Spill {
    file: File,
    folder: PathBuf,
    end: u64,
    buffer: Vec<u8>,
}

/// One stored frame: its properties in memory, its pixels in the file.
pub(super) struct Spilled {
    shell: Frame,
    offset: u64,
    bytes: usize,
}

impl Spill {
    pub(super) fn create(folder: Option<&Path>) -> Result<Self, Error> {
        let folder = folder.map_or_else(std::env::temp_dir, Path::to_owned);
        match tempfile::tempfile_in(&folder).and_then(private) {
            Ok(file) => Ok(Spill { file, folder, end: 0, buffer: Vec::new() }),
            Err(source) => Err(Error::Scratch { what: "frames", path: folder, source }),
        }
    }

    /// Stores a frame; `None` where the disk is full: what does not fit is decoded again, so that is no error.
    pub(super) fn store(&mut self, frame: &Frame) -> Result<Option<Spilled>, Error> {
        self.buffer.clear();
        frame.for_each_row(|row| self.buffer.extend_from_slice(row)).map_err(|error| self.failed(invalid(error)))?;
        let shell = frame.properties().map_err(|error| self.failed(invalid(error)))?;
        let write = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(&self.buffer));
        match write {
            Ok(()) => {
                let spilled = Spilled { shell, offset: self.end, bytes: self.buffer.len() };
                self.end += spilled.bytes as u64;
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

    /// The frame as it was stored, in fresh planes.
    pub(super) fn load(&mut self, spilled: &Spilled) -> Result<Frame, Error> {
        self.buffer.resize(spilled.bytes, 0);
        self.file
            .seek(SeekFrom::Start(spilled.offset))
            .and_then(|_| self.file.read_exact(&mut self.buffer))
            .map_err(|error| self.failed(error))?;
        let mut frame = spilled.shell.with_fresh_planes().map_err(|error| self.failed(invalid(error)))?;
        let mut rest = self.buffer.as_slice();
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

    fn failed(&self, source: io::Error) -> Error {
        Error::Scratch { what: "frames", path: self.folder.clone(), source }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheMode, CachePlan, FrameCache};
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

    #[test]
    fn a_spilled_frame_comes_back_as_it_went_in() {
        let mut spill = Spill::create(None).unwrap();
        for format in ["yuv420p", "yuv422p10le", "yuv444p", "gray", "rgb24", "nv12"] {
            let stored: Vec<_> = (1..4).map(|seed| (noise(seed, format), seed)).collect();
            let spilled: Vec<_> = stored.iter().map(|(frame, _)| spill.store(frame).unwrap().unwrap()).collect();
            for ((frame, seed), spilled) in stored.iter().zip(&spilled) {
                let back = spill.load(spilled).unwrap();
                assert_eq!(back.hash().unwrap(), frame.hash().unwrap(), "{format}");
                assert_eq!(back.pts(), Some(i64::from(*seed) * 3), "{format}");
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
