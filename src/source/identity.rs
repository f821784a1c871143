//! Which file it is: a source that is another one later is told by what the file system says of it.

use std::path::Path;

use serde::{Deserialize, Serialize};

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
