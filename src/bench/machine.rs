//! Where a bench runs: processor, libraries, memory.
//!
//! Invariant: what the system does not tell is absent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::{Deserialize, Serialize};

use crate::av::{Versions, versions};
use crate::bench::measure::cpus;

/// A machine and the libraries that were linked on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's own name, where known.
    pub cpu: Option<String>,
    /// Threads that this process may run at once.
    pub cpus: u16,
    /// Operating system and architecture, for instance `linux x86_64`.
    pub system: String,
    /// Version of this crate.
    pub repass: String,
    /// The linked libav*.
    pub versions: Versions,
    /// For each encoder, the files of its library in this process, whose names carry its version (`libx264.so.164`).
    pub libraries: BTreeMap<String, String>,
    /// libvmaf's version, where it is built in.
    pub libvmaf: Option<String>,
}

impl Machine {
    /// This one, and the libraries of these encoders.
    #[must_use]
    pub fn here(encoders: &[&str]) -> Self {
        let files = loaded_files();
        let library = |encoder: &&str| Some(((*encoder).to_owned(), library_of(encoder, &files)?));
        Machine {
            cpu: processor(),
            cpus: cpus(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            repass: env!("CARGO_PKG_VERSION").to_owned(),
            versions: versions(),
            libraries: encoders.iter().filter_map(library).collect(),
            #[cfg(feature = "vmaf")]
            libvmaf: Some(crate::av::vmaf::version()),
            #[cfg(not(feature = "vmaf"))]
            libvmaf: None,
        }
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let cpu = self.cpu.as_deref().unwrap_or("unknown processor");
        let libraries: Vec<&str> = self.libraries.values().map(String::as_str).collect();
        let vmaf = self.libvmaf.as_ref().map(|version| format!(", libvmaf {version}")).unwrap_or_default();
        let ffmpeg = &self.versions.ffmpeg;
        let threads = self.cpus;
        format!("{cpu}, {threads} threads; FFmpeg {ffmpeg}; {}{vmaf}; repass {}", libraries.join(", "), self.repass)
    }
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name") || line.starts_with("Model"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Names of the shared objects in this process.
fn loaded_files() -> BTreeSet<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let name = |line: &str| Some(line.split_once('/')?.1.rsplit('/').next()?.to_owned());
    maps.lines().filter_map(name).filter(|name| name.contains(".so")).collect()
}

/// The library whose name holds that of the encoder: `libsvtav1` is in `libSvtAv1Enc.so.1.4.1`, `libvpx-vp9` in `libvpx.so.7`.
fn library_of(encoder: &str, files: &BTreeSet<String>) -> Option<String> {
    let stem = encoder.strip_prefix("lib")?.split('-').next()?;
    files.iter().find(|file| file.to_lowercase().contains(stem)).cloned()
}

/// How high memory rises while something runs.
pub struct MemoryPeak {
    before: Option<u64>,
}

impl MemoryPeak {
    /// From here on: Linux forgets the old peak when told to (`proc(5)`, clear_refs).
    #[must_use]
    pub fn begin() -> Self {
        let forgotten = fs::write("/proc/self/clear_refs", "5").is_ok();
        MemoryPeak { before: status("VmRSS:").filter(|_| forgotten) }
    }

    /// Greatest resident memory since, less what there was, in bytes.
    #[must_use]
    pub fn end(self) -> Option<u64> {
        Some(status("VmHWM:")?.saturating_sub(self.before?))
    }
}

fn status(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_found_by_its_encoders_name() {
        let files = ["libSvtAv1Enc.so.1.4.1", "libvpx.so.7.1.0", "libx264.so.164", "libc.so.6"];
        let files = files.into_iter().map(str::to_owned).collect();
        for (encoder, file) in [
            ("libsvtav1", Some("libSvtAv1Enc.so.1.4.1")),
            ("libvpx-vp9", Some("libvpx.so.7.1.0")),
            ("libx264", Some("libx264.so.164")),
            ("libx265", None),
            ("h264_nvenc", None),
        ] {
            assert_eq!(library_of(encoder, &files).as_deref(), file, "{encoder}");
        }
    }
}
