//! Where a bench runs: processor, libraries, memory.
//!
//! Invariant: what the system does not tell is absent.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::adapter::Adapter;
use crate::av::{Versions, versions};
use crate::bench::measure::cpus;
use crate::probe::capabilities;

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
    /// For each encoder, its library's own version, where it can be asked.
    pub libraries: BTreeMap<String, String>,
    /// libvmaf's version, where it is built in.
    pub libvmaf: Option<String>,
}

impl Machine {
    /// This one, and the libraries of these encoders.
    #[must_use]
    pub fn here(encoders: &[&'static Adapter]) -> Self {
        let library = |adapter: &&'static Adapter| Some((adapter.name.to_owned(), capabilities(adapter).library?));
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
        let libraries: Vec<String> =
            self.libraries.iter().map(|(encoder, version)| format!("{encoder} {version}")).collect();
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
