//! Statistics of a first pass: in memory, or in a private directory on RAM-backed storage; sealed once, checked at every use.
//!
//! Invariant: what pass 2 reads is what pass 1 wrote, whole, for exactly as many frames as were fed; never in the working
//! directory, never left behind, also not by a run that was killed (the next run collects it).

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::adapter::{Proof, Sidecar, StatsRoute, TwoRuns};
use crate::error::Error;
use crate::plan::{PassStep, StatsUse};
use crate::sink::{create_private_folder, remove_leftovers};

pub mod artefact;
mod floor;

pub(crate) use floor::Floor;

/// Where a first pass puts its statistics while it runs.
#[derive(Debug)]
pub enum StatsStore {
    /// In the encoder's context; handed over at its end.
    Memory,
    /// In files that the encoder writes by itself.
    Directory(StatsDirectory),
}

impl StatsStore {
    /// A store for this route. `expected_bytes` is what the statistics will take, so that a folder with room is chosen.
    ///
    /// # Errors
    /// [`Error::Scratch`] where no folder can hold them.
    pub fn for_route(route: StatsRoute, expected_bytes: u64) -> Result<Self, Error> {
        match route {
            StatsRoute::Context => Ok(StatsStore::Memory),
            StatsRoute::File { .. } | StatsRoute::Params { .. } => {
                StatsDirectory::create(parents(), expected_bytes).map(StatsStore::Directory)
            }
        }
    }

    /// The file that the encoder is to write; `None` in memory.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            StatsStore::Memory => None,
            StatsStore::Directory(directory) => Some(directory.file()),
        }
    }

    /// Closes the store and proves what is in it: there, whole, and of as many frames as were fed. Only after the encoder
    /// is gone, for x264 and x265 finish their files when they are freed.
    ///
    /// # Errors
    /// [`Error::Stats`] naming what is missing or wrong.
    pub fn seal(self, made: &Made<'_>, text: String) -> Result<Stats, Error> {
        match self {
            StatsStore::Memory => {
                made.prove(text.as_bytes())?;
                let (bytes, floor) = (text.len() as u64, made.floor(text.as_bytes()));
                Ok(Stats { frames: made.frames, bytes, floor, text: Some(text), directory: None, files: Vec::new() })
            }
            StatsStore::Directory(directory) => {
                let main = directory.file();
                let wrong = |path: &Path, why: &dyn Display| made.wrong(format!("{}: {why}", file_name(path)));
                let content = fs::read(&main).map_err(|error| wrong(&main, &error))?;
                made.prove(&content)?;
                let floor = made.floor(&content);
                let bytes = content.len() as u64;
                let mut files = vec![SealedFile { path: main.clone(), bytes, hash: xxh3_64(&content) }];
                if let Some(sidecar) = made.sidecar(&main) {
                    files.push(SealedFile::of(&sidecar).map_err(|why| wrong(&sidecar, &why))?);
                }
                let bytes = files.iter().map(|file| file.bytes).sum();
                Ok(Stats { frames: made.frames, bytes, floor, text: None, directory: Some(directory), files })
            }
        }
    }
}

/// Of what the statistics are: the encoder, its pass model, the settings of pass 1 and how many frames it was fed.
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    /// libavcodec's name of the encoder.
    pub encoder: &'a str,
    /// Its pass model.
    pub model: &'a TwoRuns,
    /// Pass 1 as it was planned.
    pub step: &'a PassStep,
    /// Frames fed.
    pub frames: u64,
}

impl Made<'_> {
    /// How the statistics travel.
    pub(crate) fn route(&self) -> StatsRoute {
        match self.step.stats {
            StatsUse::Write(route) | StatsUse::Read(route) => route,
            StatsUse::None => StatsRoute::Context,
        }
    }

    /// Bytes that the statistics will probably take, for frames of this size in pixels.
    pub(crate) fn expected_bytes(&self, width: u32, height: u32) -> u64 {
        let macroblocks = u64::from(width.div_ceil(16)) * u64::from(height.div_ceil(16));
        let (each, per_macroblock) = self.model.bytes_per_frame;
        self.frames.saturating_mul(u64::from(each) + u64::from(per_macroblock) * macroblocks)
    }

    /// The file of a part: 0 is the statistics themselves, 1 the sidecar of encoders that write one.
    pub(crate) fn part(&self, main: &Path, number: usize) -> Option<PathBuf> {
        match number {
            0 => Some(main.to_owned()),
            1 => self.model.sidecar.map(|sidecar| beside(main, &sidecar)),
            _ => None,
        }
    }

    fn prove(&self, content: &[u8]) -> Result<(), Error> {
        if content.is_empty() {
            return Err(self.wrong("empty: the encoder ignored the pass".to_owned()));
        }
        let counted = match self.model.proof {
            Proof::Lines(start) => lines(content, start),
            Proof::JsonLines(key) => json_lines(content, key),
            Proof::Records { numbered } => records(content, self.frames, numbered),
        };
        match counted {
            Ok(frames) if frames == self.frames => Ok(()),
            Ok(frames) => Err(self.wrong(format!("of {frames} frames, where {} were fed", self.frames))),
            Err(why) => Err(self.wrong(why)),
        }
    }

    /// The sidecar that the encoder wrote. Presets and parameter strings switch it off in many ways, so one that is missing is
    /// pass 2's to complain of.
    fn sidecar(&self, main: &Path) -> Option<PathBuf> {
        self.part(main, 1).filter(|path| path.exists())
    }

    /// How far down a second pass can come, where the statistics tell.
    fn floor(&self, content: &[u8]) -> Option<Floor> {
        let (Some(how), Proof::Lines(frame)) = (&self.model.floor, self.model.proof) else { return None };
        floor::of(std::str::from_utf8(content).ok()?, how, frame)
    }

    fn wrong(&self, why: String) -> Error {
        Error::Stats { encoder: self.encoder.to_owned(), why }
    }
}

fn beside(main: &Path, sidecar: &Sidecar) -> PathBuf {
    let mut name = main.as_os_str().to_owned();
    name.push(sidecar.suffix);
    PathBuf::from(name)
}

/// Statistics, sealed: complete and checked.
#[derive(Debug)]
pub struct Stats {
    frames: u64,
    bytes: u64,
    floor: Option<Floor>,
    text: Option<String>,
    directory: Option<StatsDirectory>,
    files: Vec<SealedFile>,
}

impl Stats {
    /// How many frames they describe.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Their size in bytes, sidecars included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The text for `stats_in`; `None` for files. Each open makes its own copy of it.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// What they consist of, with the size of each in bytes: the statistics themselves, then a sidecar.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub(crate) fn parts(&self) -> io::Result<Vec<(u64, Box<dyn Read + '_>)>> {
        match &self.text {
            Some(text) => Ok(vec![(text.len() as u64, Box::new(text.as_bytes()))]),
            None => {
                let open = |sealed: &SealedFile| -> io::Result<(u64, Box<dyn Read + '_>)> {
                    Ok((sealed.bytes, Box::new(File::open(&sealed.path)?)))
                };
                self.files.iter().map(open).collect()
            }
        }
    }

    /// How far down a second pass can come, where the encoder's statistics tell.
    pub(crate) fn floor(&self) -> Option<Floor> {
        self.floor
    }

    /// The file for pass 2, checked to be the one that was sealed; `None` in memory.
    ///
    /// # Errors
    /// [`Error::Stats`] where a file is gone, shorter or other than it was.
    pub fn path(&self, encoder: &str) -> Result<Option<PathBuf>, Error> {
        for sealed in &self.files {
            let wrong = |why: String| Error::Stats { encoder: encoder.to_owned(), why };
            let name = file_name(&sealed.path);
            let now = SealedFile::of(&sealed.path).map_err(|why| wrong(format!("{name}: {why}")))?;
            if now != *sealed {
                return Err(wrong(format!(
                    "{name} was {} bytes when pass 1 ended and is another file now",
                    sealed.bytes
                )));
            }
        }
        Ok(self.directory.as_ref().map(StatsDirectory::file))
    }
}

/// One file of the statistics as it was when it was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SealedFile {
    path: PathBuf,
    bytes: u64,
    hash: u64,
}

impl SealedFile {
    fn of(path: &Path) -> Result<Self, String> {
        let read = || -> io::Result<SealedFile> {
            let mut file = File::open(path)?;
            let (mut hash, mut bytes, mut part) = (Xxh3::new(), 0, vec![0; 1 << 16]);
            loop {
                match file.read(&mut part)? {
                    0 => return Ok(SealedFile { path: path.to_owned(), bytes, hash: hash.digest() }),
                    some => {
                        hash.update(&part[..some]);
                        bytes += some as u64;
                    }
                }
            }
        };
        match read() {
            Ok(sealed) if sealed.bytes == 0 => Err("empty".to_owned()),
            Ok(sealed) => Ok(sealed),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A private directory (0700), locked while its owner lives and removed with it.
#[derive(Debug)]
pub struct StatsDirectory {
    directory: TempDir,
    // Held open: the lock on it is what tells a living owner from a dead one. `None` where folders cannot be locked.
    _lock: Option<File>,
}

impl StatsDirectory {
    /// In the first of these folders that has room and takes it, else in the last that takes it.
    fn create(parents: Vec<PathBuf>, expected_bytes: u64) -> Result<Self, Error> {
        let has_room = |parent: &PathBuf| free_bytes(parent).is_none_or(|free| free / 2 > expected_bytes);
        let (roomy, full): (Vec<_>, Vec<_>) = parents.into_iter().partition(has_room);
        let mut refused = Error::Stopped;
        for parent in roomy.into_iter().chain(full.into_iter().rev()) {
            match create_private_folder(&parent, PREFIX) {
                Ok((directory, lock)) => return Ok(StatsDirectory { directory, _lock: lock }),
                Err(source) => refused = Error::Scratch { what: "statistics", path: parent, source },
            }
        }
        Err(refused)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("stats.log")
    }
}

/// Whether the file system of `path` is memory; `None` where that cannot be asked.
#[cfg(target_os = "linux")]
pub(crate) fn in_memory(path: &Path) -> Option<bool> {
    // TMPFS_MAGIC and RAMFS_MAGIC of linux/magic.h.
    const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    rustix::fs::statfs(path).ok().map(|file_system| IN_MEMORY.contains(&(file_system.f_type as u64)))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn in_memory(_path: &Path) -> Option<bool> {
    None
}

/// Folders for statistics, best first: RAM-backed ones, then the system's own.
pub(crate) fn parents() -> Vec<PathBuf> {
    let candidates = [Some(PathBuf::from("/dev/shm")), std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)];
    let mut parents: Vec<PathBuf> = candidates.into_iter().flatten().filter(|path| path.is_dir()).collect();
    parents.push(std::env::temp_dir());
    parents
}

/// Bytes free for us on the file system of `path`; `None` where that cannot be asked.
#[cfg(unix)]
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|file_system| file_system.f_bavail * file_system.f_frsize)
}

#[cfg(not(unix))]
pub(crate) fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

/// Removes statistics that killed runs left, wherever they may be.
pub fn collect_leftovers() {
    // Where a folder cannot be read there is nothing to collect.
    parents().iter().for_each(|parent| drop(remove_leftovers(parent, PREFIX)));
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Frames described by a text of one line per frame (x264, x265: `in:… out:… type:… …;`).
fn lines(content: &[u8], start: &str) -> Result<u64, String> {
    if content.last() != Some(&b'\n') {
        return Err("cut short: the last line does not end".to_owned());
    }
    Ok(content.split(|byte| *byte == b'\n').filter(|line| line.starts_with(start.as_bytes())).count() as u64)
}

/// Frames described by JSON lines (vvenc), each of them whole; the first is a header.
fn json_lines(content: &[u8], key: &str) -> Result<u64, String> {
    let text = std::str::from_utf8(content).map_err(|_| "not text".to_owned())?;
    let mut frames = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let value: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("cut short: {error}"))?;
        frames += u64::from(value.get(key).is_some());
    }
    Ok(frames)
}

/// Frames described by base64 of equal records, one per frame and one for the whole (libvpx, libaom, SVT-AV1). The number of
/// bytes alone proves little: half of them may be as many records of half the size.
fn records(content: &[u8], frames: u64, numbered: bool) -> Result<u64, String> {
    let bytes = base64(content).ok_or("not whole base64")?;
    let (length, count) = (bytes.len() as u64, frames + 1);
    let record = length / count;
    if !length.is_multiple_of(count) || record < SMALLEST_RECORD || !record.is_multiple_of(4) {
        return Err(format!("{length} bytes are not {frames} equal records and their sum"));
    }
    let numbers: Vec<f64> = bytes
        .chunks_exact(record as usize)
        .map(|record| f64::from_le_bytes(record.first_chunk::<8>().copied().unwrap_or_default()))
        .collect();
    // libaom counts anew from a forced key frame on; the record for the whole holds the sum of all numbers.
    let (sum, each) = numbers.split_last().ok_or("empty")?;
    let follows = |place: usize| each[place] == 0.0 || place > 0 && each[place] == each[place - 1] + 1.0;
    let wrong = (0..each.len()).find(|place| !follows(*place));
    let wrong = wrong.or_else(|| (*sum != each.iter().sum::<f64>()).then_some(each.len()));
    match wrong.filter(|_| numbered) {
        Some(place) => Err(format!("record {place} of {count} has another number")),
        None => Ok(frames),
    }
}

/// What base64 stands for; `None` where it is not whole.
fn base64(content: &[u8]) -> Option<Vec<u8>> {
    if !content.len().is_multiple_of(4) {
        return None;
    }
    let body = content.strip_suffix(b"==").or(content.strip_suffix(b"=")).unwrap_or(content);
    let value = |byte: &u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(body.len() / 4 * 3 + 3);
    for four in body.chunks(4) {
        let mut bits = 0_u32;
        for digit in four {
            bits = bits << 6 | u32::from(value(digit)?);
        }
        bits <<= 6 * (4 - four.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len().max(1)]);
    }
    Some(bytes)
}

const PREFIX: &str = "repass-stats-";
/// SVT-AV1 4.2 has the smallest records, of 56 bytes; libvpx and libaom keep 26 to 30 doubles.
const SMALLEST_RECORD: u64 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_a_cut_one_is_seen() {
        assert_eq!(lines(b"#options: x\nin:0 out:0 type:I;\nin:1 out:1 type:P;\n", "in:"), Ok(2));
        assert!(lines(b"#options: x\nin:0 out:0 type:I;\nin:1 out:", "in:").is_err());
    }

    #[test]
    fn records_must_divide_into_frames_and_a_sum() {
        let three_records = "A".repeat(3 * 208 * 4 / 3);
        assert_eq!(records(three_records.as_bytes(), 2, false), Ok(2));
        assert!(records(three_records.as_bytes(), 4, false).is_err());
        assert!(records(&three_records.as_bytes()[..100], 2, false).is_err());
        let newline = format!("{three_records}\n");
        assert!(records(newline.as_bytes(), 2, false).is_err(), "a trailing newline makes libvpx refuse");
    }

    #[test]
    fn numbered_records_must_be_those_of_the_frames() {
        assert_eq!(base64(b"cmVwYXNz").as_deref(), Some(&b"repass"[..]));
        assert_eq!(base64(b"cmVwYXM=").as_deref(), Some(&b"repas"[..]));
        assert_eq!(base64(b"cmVwYQ==").as_deref(), Some(&b"repa"[..]));
        // 0, 1 and their sum, each followed by zeroes: 3 records of 48 bytes, of which 24 are zero when it is read by halves.
        let zeroes = "A".repeat(64 - 11);
        let (zero, one) = (format!("{:A<64}", ""), format!("AAAAAAAA8D8{zeroes}"));
        let text = format!("{zero}{one}{one}");
        assert_eq!(records(text.as_bytes(), 2, true), Ok(2));
        let swapped = format!("{one}{zero}{one}");
        assert!(records(swapped.as_bytes(), 2, true).is_err());
    }

    #[test]
    fn leftovers_of_a_dead_owner_are_collected_and_those_of_a_living_one_are_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = StatsDirectory::create(vec![parent.path().to_owned()], 0).unwrap();
        let dead = parent.path().join(format!("{PREFIX}dead.part"));
        fs::create_dir(&dead).unwrap();
        remove_leftovers(parent.path(), PREFIX).unwrap();
        assert!(living.directory.path().exists());
        assert!(!dead.exists());
    }

    #[test]
    fn a_folder_that_takes_nothing_is_passed_over() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        File::create(&file).unwrap();
        for parents in [vec![file.clone(), parent.path().to_owned()], vec![parent.path().to_owned(), file.clone()]] {
            for expected_bytes in [0, u64::MAX] {
                let made = StatsDirectory::create(parents.clone(), expected_bytes).unwrap();
                assert_eq!(made.directory.path().parent(), Some(parent.path()));
            }
        }
        let refused = StatsDirectory::create(vec![file], 0).unwrap_err();
        assert!(matches!(refused, Error::Scratch { what: "statistics", .. }), "{refused}");
    }
}
