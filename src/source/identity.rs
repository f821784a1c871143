//! Which file it is: while it is open, by what the file system says of it; in a later run, by what stays when it is moved.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// What tells a file from another that has taken its name, and from itself when it is written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Bytes.
    pub bytes: u64,
    /// Nanoseconds from 1970 to its last change; `None` where the file system does not tell.
    pub changed: Option<u128>,
    /// Device and inode; `None` where there is no such thing.
    pub place: Option<(u64, u64)>,
}

impl Identity {
    /// Of a regular file; pipes, patterns and addresses have none.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let changed = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Some(Identity { bytes: metadata.len(), changed: changed.map(|time| time.as_nanos()), place: place(&metadata) })
    }

    /// In words, how it differs from what is there now.
    pub(super) fn differs(&self, now: Option<&Identity>) -> String {
        match now {
            None => "the input is gone".to_owned(),
            Some(now) if now.place != self.place => "another file has taken the input's name".to_owned(),
            Some(now) if now.bytes != self.bytes => {
                format!("the input has {} bytes now, and had {} when it was opened", now.bytes, self.bytes)
            }
            Some(_) => "the input was written to since it was opened".to_owned(),
        }
    }
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there is none")]
fn place(metadata: &std::fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn place(_: &std::fs::Metadata) -> Option<(u64, u64)> {
    None
}

/// What a file is known by in a later run: it may have been moved, and inodes and devices have other numbers after a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Bytes.
    pub bytes: u64,
    /// Nanoseconds from 1970 to its last change; `None` where the file system does not tell.
    pub modified: Option<u64>,
    /// Hash of the first and last part, in hexadecimal.
    pub ends: String,
}

impl Fingerprint {
    /// `None` for what is no file, or cannot be read.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        // Asked first, for opening a pipe would wait for somebody to write.
        let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let mut file = File::open(path).ok()?;
        let bytes = metadata.len();
        let mut hash = Xxh3::new();
        for start in [0, bytes.saturating_sub(END)] {
            file.seek(SeekFrom::Start(start)).ok()?;
            let mut end = Vec::new();
            (&mut file).take(END).read_to_end(&mut end).ok()?;
            hash.update(&end);
        }
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        let modified = metadata.modified().ok().and_then(since).map(|since| since.as_nanos() as u64);
        Some(Fingerprint { bytes, modified, ends: format!("{:016x}", hash.digest()) })
    }
}

/// Bytes at either end that are hashed: headers are at one of them.
const END: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_source_is_known_by_size_time_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in");
        fs::write(&path, vec![1; 200_000]).unwrap();
        let before = Fingerprint::of(&path).unwrap();
        assert_eq!(Fingerprint::of(&path), Some(before.clone()));
        let mut changed = vec![1; 200_000];
        changed[199_999] = 2;
        fs::write(&path, changed).unwrap();
        assert_ne!(Fingerprint::of(&path).unwrap().ends, before.ends);
        assert_eq!(Fingerprint::of(folder.path()), None);
        assert_eq!(Fingerprint::of(Path::new("-")), None);
    }
}
