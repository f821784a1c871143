//! A first pass kept in one file: the statistics, and everything that must match before an encoder may see them again.
//!
//! ```text
//!  magic (16) │ length (4) │ header, JSON │ frames: times and hash (24 each) │ parts: chunks, LZ4 │ XXH3, 128 bits (16)
//! ```
//!
//! Invariant: nothing of a file is used before its checksum was seen to match, and nothing in it is a path or an option.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::adapter::TwoRuns;
use crate::av::frame::Frame;
use crate::av::versions;
use crate::error::Error;
use crate::frames::{FrameList, Listed};
use crate::media::Rational;
use crate::plan::{EncoderPlan, FirstPassOf, PassStep, PlannedSetting, differences};
use crate::sink::WholeFile;
use crate::source::Fingerprint;
use crate::stats::{Made, Stats, StatsStore};
use crate::timing::Moment;

/// What the statistics are of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// libavcodec's name of the encoder.
    pub encoder: String,
    /// Version of the adapter's row.
    pub row: u32,
    /// libavcodec's version.
    pub libavcodec: String,
    /// FFmpeg's version.
    pub ffmpeg: String,
    /// The encoder library's own version, or what shows it; `None` where it shows nothing.
    pub library: Option<String>,
    /// What was aimed at, in words.
    pub target: String,
    /// All settings of the pass.
    pub settings: Vec<PlannedSetting>,
    /// Distance in frames of those that were marked as key frames.
    pub forced_keyframes: Option<u32>,
    /// Width of the frames in pixels.
    pub width: u32,
    /// Height of the frames in pixels.
    pub height: u32,
    /// Their pixel format, by libavutil's name.
    pub pixel_format: String,
    /// Seconds per tick of their exact times.
    pub time_base: Rational,
    /// Frames per second, as the encoder was told.
    pub frame_rate: Rational,
    /// How many frames.
    pub frames: u64,
    /// Hash of the frame list: times and pixels.
    pub frames_hash: String,
    /// The file that was analysed, as a hint to people.
    pub source: String,
    /// Bytes of each part: the statistics, and then a sidecar where there is one.
    pub parts: Vec<u64>,
    /// For one that is kept while its job runs, so that a crash does not cost it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Unfinished>,
}

/// What a job must have in common with one that did not come to its end, to go on from its first pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The source.
    pub source: Fingerprint,
    /// What was read of it, and the filters of all renditions, in words.
    pub reading: String,
    /// Packets of the other streams, which a size target counts in its first pass.
    pub other_packets: u64,
    /// Bytes of these packets.
    pub other_bytes: u64,
}

/// A kept first pass, whole.
#[derive(Debug)]
pub struct Artefact {
    path: PathBuf,
    header: Header,
    frames: FrameList,
    checksum: u128,
}

impl Artefact {
    /// Reads a file to its end, and checks that it is whole.
    ///
    /// # Errors
    /// [`Error::Artefact`] for anything that is not a whole file of this format.
    pub fn open(path: &Path) -> Result<Self, Error> {
        read(path, |_, _| Ok(()))
    }

    /// What the statistics are of.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The frames that were analysed.
    pub(crate) fn frames(&self) -> &FrameList {
        &self.frames
    }

    /// The checksum over everything in the file, in hexadecimal.
    #[must_use]
    pub fn checksum(&self) -> String {
        format!("{:032x}", self.checksum)
    }

    /// Whether it is the file that a plan was made with.
    pub(crate) fn is_still(&self, checksum: &str) -> Result<(), Error> {
        if self.checksum() == checksum {
            return Ok(());
        }
        Err(damaged(&self.path, "is another file than when the plan was made"))
    }

    /// What keeps the statistics from serving this second pass, one line for each.
    pub(crate) fn differences(&self, plan: &EncoderPlan, wanted: &FirstPassOf<'_>) -> Vec<String> {
        let versions = versions();
        let said = |library: &Option<String>| library.clone().unwrap_or_else(|| "unknown".to_owned());
        let header = &self.header;
        let every = |frames: Option<u32>| frames.map_or("not set".to_owned(), |frames| format!("{frames} frames"));
        let pairs = [
            ("encoder", header.encoder.clone(), plan.encoder.to_owned()),
            ("repass's row of it", header.row.to_string(), plan.row.to_string()),
            ("libavcodec", header.libavcodec.clone(), versions.libavcodec),
            ("FFmpeg", header.ffmpeg.clone(), versions.ffmpeg),
            ("encoder library", said(&header.library), said(&plan.library)),
            ("forced key frames", every(header.forced_keyframes), every(plan.forced_keyframes)),
        ];
        let mut found = differing(pairs);
        // The settings of another encoder are all different; that would only hide what matters.
        if header.encoder == plan.encoder {
            found.extend(differences(&header.settings, wanted));
        }
        found
    }

    /// How the source differs from the one that was analysed, as far as one frame tells.
    pub(crate) fn source_differences(&self, frame: &Frame, rate: Rational) -> Vec<String> {
        let header = &self.header;
        let size = |width: u32, height: u32, format: &str| format!("{width}x{height} {format}");
        let then = size(header.width, header.height, &header.pixel_format);
        let now = size(frame.width(), frame.height(), &frame.pixel_format());
        differing([("frames", then, now), ("frame rate", header.frame_rate.to_string(), rate.to_string())])
    }

    /// Whether frame `index` is the one that was analysed. Encoders see the grid alone, and the same frames may come from a
    /// container with other ticks; so exact times are compared only where that is asked for.
    ///
    /// # Errors
    /// [`Error::OtherFrames`] where it is another, or one too many.
    pub(crate) fn has(&self, index: usize, moment: Moment, hash: u64, exactly: bool) -> Result<(), Error> {
        let Some(listed) = self.frames.entries().get(index) else {
            return Err(self.other(format!("there are more than {index} frames")));
        };
        let same_time = if exactly { listed.moment == moment } else { listed.moment.grid == moment.grid };
        match (same_time, listed.hash == hash) {
            (true, true) => Ok(()),
            (false, _) => Err(self.other(format!("frame {index} has another time"))),
            (true, false) => Err(self.other(format!("frame {index} has other pixels"))),
        }
    }

    /// Whether the frames may end here.
    ///
    /// # Errors
    /// [`Error::OtherFrames`] where some are missing.
    pub(crate) fn ends_with(&self, frames: usize) -> Result<(), Error> {
        match self.frames.len() {
            known if known == frames => Ok(()),
            known => Err(self.other(format!("there are {frames} frames, and were {known}"))),
        }
    }

    fn other(&self, why: String) -> Error {
        Error::OtherFrames { path: self.path.clone(), why }
    }

    /// Reads a file to its end as [`Artefact::open`] does, and lays the statistics where an encoder can read them, proven as
    /// they were at first.
    ///
    /// # Errors
    /// As for [`Artefact::open`]; [`Error::Stats`] where the content is not what the encoder writes.
    pub fn unpack(path: &Path, model: &TwoRuns, step: &PassStep) -> Result<(Self, Stats), Error> {
        // Not known to be whole yet; what it says is only which folder has room.
        let said =
            Reading::open(path).and_then(|mut reading| reading.begin()).map_err(|error| refused(path, &error))?;
        let made = Made { encoder: &said.encoder, model, step, frames: said.frames };
        let expected_bytes = said.parts.iter().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        let store = StatsStore::for_route(made.route(), expected_bytes)?;
        let mut text = String::new();
        let mut files = Files::default();
        let main = store.path();
        let read = read(path, |part, bytes| match &main {
            Some(main) => files.append(made.part(main, part), bytes),
            None => append(&mut text, bytes),
        });
        files.close().map_err(|source| Error::Scratch {
            what: "statistics",
            path: main.unwrap_or_default(),
            source,
        })?;
        let artefact = read?;
        let made = Made { encoder: &artefact.header.encoder, frames: artefact.header.frames, ..made };
        let stats = store.seal(&made, text)?;
        Ok((artefact, stats))
    }
}

/// One line for each of what was and is not the same.
fn differing<const N: usize>(pairs: [(&str, String, String); N]) -> Vec<String> {
    let differ = pairs.into_iter().filter(|(_, then, now)| then != now);
    differ.map(|(what, then, now)| format!("{what}: {then} then, {now} now")).collect()
}

/// Writes statistics and what they are of into one file, which appears whole or not at all. Returns its size in bytes.
///
/// # Errors
/// [`Error::Write`] in the system's words, [`Error::Plan`] for a name that cannot be used.
pub(crate) fn write(file: WholeFile, mut header: Header, frames: &FrameList, stats: &Stats) -> Result<u64, Error> {
    let path = file.path().to_owned();
    let failed = |source| Error::Write { path: path.clone(), source };
    let mut out = Hashing { inner: BufWriter::new(file.file()), hash: Xxh3::new(), bytes: 0 };
    let parts = stats.parts().map_err(failed)?;
    header.parts = parts.iter().map(|(bytes, _)| *bytes).collect();
    let body = || -> io::Result<()> {
        let text = serde_json::to_vec(&header)?;
        out.write_all(MAGIC)?;
        out.write_all(&(text.len() as u32).to_le_bytes())?;
        out.write_all(&text)?;
        for listed in frames.entries() {
            out.write_all(&listed.moment.grid.to_le_bytes())?;
            out.write_all(&listed.moment.exact.to_le_bytes())?;
            out.write_all(&listed.hash.to_le_bytes())?;
        }
        for (_, part) in parts {
            pack(part, &mut out)?;
        }
        let checksum = out.hash.digest128().to_le_bytes();
        out.write_all(&checksum)?;
        out.flush()
    };
    body().map_err(failed)?;
    let bytes = out.bytes;
    drop(out);
    file.publish()?;
    Ok(bytes)
}

/// Writes a part as chunks: packed length, length, bytes. Equal lengths: not packed.
fn pack(mut part: Box<dyn Read + '_>, out: &mut impl Write) -> io::Result<()> {
    let (mut plain, mut packed) = (vec![0; CHUNK], vec![0; lz4_flex::block::get_maximum_output_size(CHUNK)]);
    loop {
        let length = fill(&mut part, &mut plain)?;
        if length == 0 {
            return Ok(());
        }
        let chunk = &plain[..length];
        let size = lz4_flex::block::compress_into(chunk, &mut packed).unwrap_or(length);
        let stored = if size < length { &packed[..size] } else { chunk };
        out.write_all(&(stored.len() as u32).to_le_bytes())?;
        out.write_all(&(length as u32).to_le_bytes())?;
        out.write_all(stored)?;
    }
}

fn fill(from: &mut dyn Read, whole: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < whole.len() {
        match from.read(&mut whole[filled..])? {
            0 => break,
            some => filled += some,
        }
    }
    Ok(filled)
}

/// Reads a file through to its checksum; `take` is given the parts, piece by piece.
fn read(path: &Path, take: impl FnMut(usize, &[u8]) -> io::Result<()>) -> Result<Artefact, Error> {
    let (header, frames, checksum) =
        Reading::open(path).and_then(|reading| reading.whole(take)).map_err(|error| refused(path, &error))?;
    Ok(Artefact { path: path.to_owned(), header, frames, checksum })
}

fn refused(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(path, "ends too early"),
        _ => damaged(path, &error.to_string()),
    }
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::Artefact { path: path.to_owned(), why: why.to_owned() }
}

/// A file being read; every length in it is held against what can be there before memory is taken for it.
struct Reading<R> {
    input: Hashing<R>,
    length: u64,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

impl Reading<BufReader<File>> {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let input = Hashing { inner: BufReader::with_capacity(1 << 16, file), hash: Xxh3::new(), bytes: 0 };
        Ok(Reading { input, length, plain: Vec::new(), packed: Vec::new() })
    }
}

impl<R: Read> Reading<R> {
    fn whole(mut self, mut take: impl FnMut(usize, &[u8]) -> io::Result<()>) -> io::Result<(Header, FrameList, u128)> {
        let header = self.begin()?;
        let frames = self.frames(header.frames)?;
        for (number, bytes) in header.parts.iter().enumerate() {
            self.part(*bytes, |piece| take(number, piece))?;
        }
        let sum = self.input.hash.digest128();
        let mut stored = [0; 16];
        self.input.read_exact(&mut stored)?;
        if u128::from_le_bytes(stored) != sum || self.input.bytes != self.length {
            return Err(invalid("damaged: the checksum does not match"));
        }
        Ok((header, frames, sum))
    }

    fn begin(&mut self) -> io::Result<Header> {
        let mut magic = [0; MAGIC.len()];
        self.input.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(invalid("not statistics of repass, or of another version of it"));
        }
        let length = self.number()?;
        if length > LONGEST_HEADER {
            return Err(invalid("damaged: the header is too long"));
        }
        let mut text = vec![0; length as usize];
        self.input.read_exact(&mut text)?;
        let header: Header =
            serde_json::from_slice(&text).map_err(|error| invalid(&format!("damaged header: {error}")))?;
        match header.parts.len() {
            1 | 2 => Ok(header),
            _ => Err(invalid("damaged: it has not one or two parts")),
        }
    }

    fn frames(&mut self, count: u64) -> io::Result<FrameList> {
        let mut frames = FrameList::default();
        for _ in 0..count {
            let mut number = || -> io::Result<[u8; 8]> {
                let mut bytes = [0; 8];
                self.input.read_exact(&mut bytes)?;
                Ok(bytes)
            };
            let (grid, exact) = (i64::from_le_bytes(number()?), i64::from_le_bytes(number()?));
            let hash = u64::from_le_bytes(number()?);
            frames.push(Listed { pts: None, moment: Moment { grid, exact }, hash });
        }
        Ok(frames)
    }

    fn part(&mut self, bytes: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            let (packed, plain) = (self.number()? as usize, self.number()? as usize);
            if plain == 0 || plain > CHUNK || plain as u64 > left || packed > plain {
                return Err(invalid("damaged: a chunk of impossible length"));
            }
            self.packed.resize(packed, 0);
            self.input.read_exact(&mut self.packed)?;
            if packed == plain {
                take(&self.packed)?;
            } else {
                self.plain.resize(plain, 0);
                let unpacked = lz4_flex::block::decompress_into(&self.packed, &mut self.plain);
                if unpacked.ok() != Some(plain) {
                    return Err(invalid("damaged: a chunk cannot be unpacked"));
                }
                take(&self.plain)?;
            }
            left -= plain as u64;
        }
        Ok(())
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.input.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Everything that goes through it is in the checksum.
struct Hashing<I> {
    inner: I,
    hash: Xxh3,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.hash.update(&into[..length]);
        self.bytes += length as u64;
        Ok(length)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.hash.update(&bytes[..length]);
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The files that are being unpacked, one after another. Pieces are large, so that nothing needs to be gathered.
#[derive(Default)]
struct Files {
    open: Option<(PathBuf, File)>,
    failed: Option<io::Error>,
}

impl Files {
    fn append(&mut self, path: Option<PathBuf>, bytes: &[u8]) -> io::Result<()> {
        let path = path.ok_or_else(|| invalid("damaged: the encoder has no such part"))?;
        self.write(path, bytes).map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            kind.into()
        })
    }

    fn write(&mut self, path: PathBuf, bytes: &[u8]) -> io::Result<()> {
        let (_, file) = match self.open.take() {
            Some(open) if open.0 == path => self.open.insert(open),
            _ => {
                let file = File::create(&path)?;
                self.open.insert((path, file))
            }
        };
        file.write_all(bytes)
    }

    /// What kept a file from being written.
    fn close(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

fn append(text: &mut String, bytes: &[u8]) -> io::Result<()> {
    text.push_str(std::str::from_utf8(bytes).map_err(|_| invalid("damaged: not text"))?);
    Ok(())
}

/// The number is the version of the format.
const MAGIC: &[u8; 16] = b"repass-stats 01\n";
/// Bytes of a part that are packed at once.
const CHUNK: usize = 1 << 20;
/// Settings and names take some kilobytes.
const LONGEST_HEADER: u32 = 1 << 20;
