//! Coded segments that outlive a crash: a file to which each is added as soon as it is coded.
//!
//! ```text
//!  what it is of, a line of JSON
//!  a segment, a line of JSON │ the bytes of its packets      one after another
//! ```
//!
//! Invariants: what is read back was written whole, by the same session over the same frames, and takes the place of coding
//! it again bit for bit; a torn end is cut off. Whoever cannot keep segments goes on without.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::av::packet::Packet;

/// Coded segments in a file.
pub(crate) struct KeptSegments(Mutex<Content>);

struct Content {
    file: File,
    /// Where the next one is written.
    end: u64,
    /// Those of an earlier run, by segment and level, and where their bytes begin.
    known: BTreeMap<(usize, String), (Entry, u64)>,
    failed: Option<io::Error>,
}

/// A coded segment in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    segment: usize,
    level: String,
    /// In the metric's unit, where it is measured.
    quality: Option<f64>,
    headers: Vec<u8>,
    /// Length in bytes, presentation time in the session's ticks, and libavcodec's flags.
    packets: Vec<(u64, i64, i32)>,
    hash: u64,
}

/// A coded segment.
pub(crate) struct KeptSegment {
    pub(crate) quality: Option<f64>,
    pub(crate) headers: Vec<u8>,
    pub(crate) packets: Vec<Packet>,
}

impl KeptSegments {
    /// Begins a file, in the place of whatever file has its name.
    ///
    /// # Errors
    /// That of the system.
    pub(crate) fn begin(path: &Path, of: &str) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private(path)?;
        file.try_lock()?;
        writeln!(file, "{of}")?;
        let end = file.stream_position()?;
        Ok(KeptSegments(Mutex::new(Content { file, end, known: BTreeMap::new(), failed: None })))
    }

    /// Goes on with what an earlier run left; `None`: it is of something else.
    ///
    /// # Errors
    /// That of the system; [`ErrorKind::WouldBlock`] where another run is at it.
    pub(crate) fn go_on(path: &Path, of: &str) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        file.try_lock()?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::new(&file);
        let mut line = String::new();
        let mut end = reader.read_line(&mut line)? as u64;
        if line.strip_suffix('\n') != Some(of) {
            return Ok(None);
        }
        let mut known = BTreeMap::new();
        while let Some((entry, line)) = next_entry(&mut reader, length - end)? {
            let bytes = entry.bytes();
            known.insert((entry.segment, entry.level.clone()), (entry, end + line));
            end += line + bytes;
        }
        file.set_len(end)?;
        Ok(Some(KeptSegments(Mutex::new(Content { file, end, known, failed: None }))))
    }

    /// A segment that an earlier run coded at this level.
    pub(crate) fn take(&self, segment: usize, level: f64) -> Option<KeptSegment> {
        let mut content = self.content();
        let (entry, at) = content.known.remove(&(segment, level.to_string()))?;
        let mut bytes = vec![0; entry.bytes() as usize];
        content.file.seek(SeekFrom::Start(at)).ok()?;
        content.file.read_exact(&mut bytes).ok()?;
        let mut rest = bytes.as_slice();
        let mut packets = Vec::with_capacity(entry.packets.len());
        for (length, pts, flags) in &entry.packets {
            let (data, behind) = rest.split_at_checked(*length as usize)?;
            let mut packet = Packet::holding(data).ok()?;
            packet.set_times(Some(*pts), None, 1);
            packet.set_flags(*flags);
            packets.push(packet);
            rest = behind;
        }
        Some(KeptSegment { quality: entry.quality, headers: entry.headers, packets })
    }

    /// Adds a segment. What the system says against it is told by [`KeptSegments::failed`]; nothing is added then any more.
    pub(crate) fn add(&self, segment: usize, level: f64, quality: Option<f64>, headers: &[u8], packets: &[Packet]) {
        let mut content = self.content();
        if content.failed.is_some() {
            return;
        }
        let data: Vec<u8> = packets.iter().flat_map(|packet| packet.data().iter().copied()).collect();
        let entry = Entry {
            segment,
            level: level.to_string(),
            quality,
            headers: headers.to_owned(),
            packets: packets.iter().map(of_packet).collect(),
            hash: xxh3_64(&data),
        };
        content.failed = content.write(&entry, &data).err();
    }

    /// Why segments are not kept any more.
    pub(crate) fn failed(&self) -> Option<String> {
        self.content().failed.as_ref().map(io::Error::to_string)
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // Whoever panicked left a torn end at most, which is cut off.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn write(&mut self, entry: &Entry, data: &[u8]) -> io::Result<()> {
        let mut all = serde_json::to_vec(entry)?;
        all.push(b'\n');
        all.extend_from_slice(data);
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&all)?;
        self.file.sync_data()?;
        self.end += all.len() as u64;
        Ok(())
    }
}

impl Entry {
    fn bytes(&self) -> u64 {
        self.packets.iter().fold(0, |sum, (length, ..)| sum.saturating_add(*length))
    }
}

/// The next entry that is whole, and the length of its line; of what follows nothing is believed.
fn next_entry(reader: &mut impl BufRead, left: u64) -> io::Result<Option<(Entry, u64)>> {
    let mut line = Vec::new();
    let length = reader.by_ref().take(left).read_until(b'\n', &mut line)? as u64;
    let Some(entry) = serde_json::from_slice::<Entry>(&line).ok().filter(|_| line.ends_with(b"\n")) else {
        return Ok(None);
    };
    if entry.bytes() > left - length {
        return Ok(None);
    }
    let mut data = vec![0; entry.bytes() as usize];
    reader.read_exact(&mut data)?;
    Ok((xxh3_64(&data) == entry.hash).then_some((entry, length)))
}

fn of_packet(packet: &Packet) -> (u64, i64, i32) {
    (packet.data().len() as u64, packet.pts().unwrap_or(0), packet.flags())
}

/// A new file that only its owner reads.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(first: u8) -> Vec<Packet> {
        let packet = |number: u8| {
            let mut packet = Packet::copied_from(&[first, number, 3], number == 0).unwrap();
            packet.set_times(Some(i64::from(number) + 7), None, 1);
            packet
        };
        (0..3).map(packet).collect()
    }

    fn data(kept: &KeptSegment) -> Vec<(Vec<u8>, i64, bool)> {
        kept.packets.iter().map(|packet| (packet.data().to_vec(), packet.pts().unwrap(), packet.is_key())).collect()
    }

    #[test]
    fn what_was_added_is_read_back_and_a_torn_end_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let begun = KeptSegments::begin(&path, "this").unwrap();
        begun.add(0, 23.45, Some(38.1), b"head", &packets(1));
        begun.add(1, 20.0, None, b"head", &packets(2));
        assert!(begun.failed().is_none());
        // Another run is not let in.
        assert_eq!(KeptSegments::go_on(&path, "this").err().unwrap().kind(), ErrorKind::WouldBlock);
        drop(begun);
        let whole = std::fs::read(&path).unwrap();
        let go_on = |of: &str| loop {
            // A process that another test begins holds this one's locks until it runs its own program.
            match KeptSegments::go_on(&path, of) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                gone_on => break gone_on.unwrap(),
            }
        };
        let read = || {
            let kept = go_on("this").unwrap();
            let count = kept.content().known.len();
            (count, kept.take(0, 23.45), kept.take(1, 20.0), kept.take(1, 21.0).is_none(), kept)
        };
        let (count, first, second, is_none, kept) = read();
        let first = first.unwrap();
        assert_eq!(
            (count, first.quality, first.headers.as_slice(), is_none),
            (2, Some(38.1), b"head".as_slice(), true)
        );
        let expected = |all: Vec<Packet>| data(&KeptSegment { quality: None, headers: Vec::new(), packets: all });
        assert_eq!(data(&first), expected(packets(1)));
        assert_eq!(data(&second.unwrap()), expected(packets(2)));
        drop(kept);
        assert!(go_on("that").is_none());
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let Some(kept) = go_on("this") else { continue };
            assert!(kept.content().known.len() < 2 && kept.take(1, 20.0).is_none(), "{length}");
            kept.add(1, 20.0, None, b"head", &packets(2));
            drop(kept);
            assert!(read().2.is_some(), "{length}");
        }
        let mut spoilt = whole;
        *spoilt.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &spoilt).unwrap();
        assert_eq!(read().0, 1);
    }
}
