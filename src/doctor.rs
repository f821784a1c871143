//! What this machine has for encoding, as plain data: libraries, encoders, memory, threads, folders; what is missing, and
//! what would bring it.
//!
//! Invariant: nothing is changed and nothing is installed; what cannot be found out is `None`.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::adapter::{self, Adapter, Package, StatsRoute, Vendor};
use crate::av::{self, LinkedLibrary, Versions};
use crate::cache::{Memory, default_budget};
use crate::error::{Error, Refusal};
use crate::probe::{capabilities, open_device};
use crate::rate::ByteSize;
use crate::stats;

mod system;

pub use system::SystemInfo;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Examination {
    /// Version of this crate.
    pub repass: &'static str,
    /// The linked FFmpeg.
    pub versions: Versions,
    /// Its libraries, as built and as loaded.
    pub libraries: Vec<LinkedLibrary>,
    /// The operating system.
    pub system: SystemInfo,
    /// Every adapter.
    pub encoders: Vec<EncoderState>,
    /// Memory in bytes.
    pub memory: Memory,
    /// Bytes of frames that are kept for a second pass where nobody says how many.
    pub cache_budget: ByteSize,
    /// Threads.
    pub threads: Threads,
    /// Folders for statistics that travel in files, best first.
    pub stats_folders: Vec<Folder>,
    /// The folder of frames that do not fit into memory, with `--cache disk`.
    pub spill_folder: Folder,
    /// What deserves to be known, gravest first.
    pub findings: Vec<Finding>,
}

/// One encoder on this machine.
#[derive(Debug, Clone, Serialize)]
pub struct EncoderState {
    /// libavcodec's name of the encoder.
    pub encoder: &'static str,
    /// Whether it can be used.
    pub state: Presence,
    /// The route of statistics between two passes here; `None`: one pass.
    pub stats_route: Option<StatsRoute>,
    /// The encoder library's own version, where it can be asked.
    pub library: Option<String>,
    /// Why it cannot be used, or not in two passes, where it should.
    pub why: Option<String>,
    /// What would bring what is missing, on this system.
    pub remedy: Option<String>,
}

/// Whether an encoder can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It is there.
    Ready,
    /// It is compiled in, and its device or driver is not there.
    NoDevice,
    /// The linked libavcodec does not have it.
    NotCompiledIn,
}

/// Threads that encoders and decoders can share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Threads {
    /// Processors that this process may use: affinity and the quota of its cgroup count.
    pub usable: usize,
    /// Processors of the machine; `None` where the system does not say.
    pub processors: Option<usize>,
}

/// A folder for temporary files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Folder {
    /// The folder.
    #[serde(serialize_with = "crate::report::path_as_text")]
    pub path: PathBuf,
    /// Whether it is memory; `None` where that cannot be asked.
    pub in_memory: Option<bool>,
    /// Bytes free; `None` where that cannot be asked.
    pub free_bytes: Option<u64>,
    /// Whether a file can be made there.
    pub writable: bool,
}

/// Something that deserves to be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How grave it is.
    pub gravity: Gravity,
    /// What it is, and what to do.
    pub text: String,
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gravity {
    /// Something will not work, or cannot be trusted.
    Problem,
    /// It works; this is good to know.
    Note,
}

/// Looks at everything. Encoders of hardware are opened where they are compiled in: drivers may take a second, and may
/// print unless [`crate::av::log::capture`] was called.
#[must_use]
pub fn examine() -> Examination {
    let system = SystemInfo::here();
    let encoders: Vec<EncoderState> =
        adapter::all().into_iter().map(|adapter| EncoderState::of(adapter, &system)).collect();
    let mut examination = Examination {
        repass: env!("CARGO_PKG_VERSION"),
        versions: av::versions(),
        libraries: av::linked_libraries(),
        system,
        encoders,
        memory: Memory::now(),
        cache_budget: default_budget(),
        threads: Threads::here(),
        stats_folders: stats::parents().iter().map(|path| Folder::at(path)).collect(),
        spill_folder: Folder::at(&std::env::temp_dir()),
        findings: Vec::new(),
    };
    examination.findings = examination.judge();
    examination
}

impl Examination {
    /// Whether nothing is in the way of two passes.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.gravity > Gravity::Problem)
    }

    fn judge(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.extend(self.libraries.iter().filter_map(mismatch));
        findings.extend(self.no_two_passes());
        findings.extend(self.folders());
        findings.extend(self.encoders.iter().filter_map(missing_software));
        findings.extend(self.encoders.iter().flat_map(|state| known(state, self.system.root)));
        findings.sort_by_key(|finding| finding.gravity);
        findings
    }

    fn no_two_passes(&self) -> Option<Finding> {
        let can = self.encoders.iter().any(|state| state.stats_route.is_some());
        (!can).then(|| problem("no encoder here takes two passes: this FFmpeg is built without all of them".to_owned()))
    }

    fn folders(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !self.stats_folders.iter().any(|folder| folder.writable) {
            let tried: Vec<String> =
                self.stats_folders.iter().map(|folder| folder.path.display().to_string()).collect();
            findings.push(problem(format!("statistics cannot be written: {} refuse files", tried.join(", "))));
        }
        let spill = &self.spill_folder;
        let place = spill.path.display();
        if !spill.writable {
            findings.push(problem(format!("{place} refuses files: set TMPDIR, or use --spill-dir with --cache disk")));
        } else if spill.in_memory == Some(true) {
            findings.push(note(format!("{place} is memory: with --cache disk, name a folder on a disk (--spill-dir)")));
        } else if spill.free_bytes.is_some_and(|free| free < self.cache_budget.0) {
            findings.push(note(format!("{place} has less free than memory: --cache disk needs --spill-dir here")));
        }
        findings
    }
}

impl EncoderState {
    fn of(adapter: &'static Adapter, system: &SystemInfo) -> Self {
        let found = capabilities(adapter);
        let software = adapter.vendor == Vendor::Software;
        let mut state = EncoderState {
            encoder: adapter.name,
            state: Presence::Ready,
            stats_route: found.route,
            library: found.library,
            why: None,
            remedy: None,
        };
        if !found.present {
            state.state = Presence::NotCompiledIn;
            state.why = Some(adapter.availability.to_owned());
            state.remedy = system.package(adapter.packages);
        } else if let Some(why) = (!software).then(|| open_device(adapter).err()).flatten() {
            state.state = Presence::NoDevice;
            state.why = Some(match why {
                Error::Plan(Refusal::NoDevice { why, .. }) => why,
                other => other.to_string(),
            });
            state.remedy = system.package(adapter.drivers);
        } else if let (adapter::PassModel::TwoRuns(model), None) = (&adapter.passes, found.route) {
            state.why = Some(model.without_route.to_owned());
        }
        state
    }
}

impl Threads {
    fn here() -> Self {
        let usable = std::thread::available_parallelism().map_or(1, NonZero::get);
        let listed = fs::read_to_string("/proc/cpuinfo").ok();
        let listed = listed.map(|text| text.lines().filter(|line| line.starts_with("processor")).count());
        Threads { usable, processors: listed.filter(|count| *count > 0) }
    }
}

impl Folder {
    fn at(path: &Path) -> Self {
        Folder {
            path: path.to_owned(),
            in_memory: stats::in_memory(path),
            free_bytes: stats::free_bytes(path),
            writable: tempfile::tempfile_in(path).is_ok(),
        }
    }
}

fn mismatch(library: &LinkedLibrary) -> Option<Finding> {
    let LinkedLibrary { name, built, loaded } = library;
    let other = format!("{name} {loaded} is loaded, but this program was built with {built}: build it anew");
    (!library.matches()).then(|| problem(other))
}

fn missing_software(state: &EncoderState) -> Option<Finding> {
    let adapter = adapter::named(state.encoder).ok()?;
    let missing = state.state == Presence::NotCompiledIn && adapter.supports_two_pass();
    let remedy = state.remedy.as_deref().unwrap_or(adapter.availability);
    missing.then(|| note(format!("this FFmpeg is built without {}: {remedy}", state.encoder)))
}

/// What must be known of the library behind an encoder, in the version that is loaded.
fn known(state: &EncoderState, root: bool) -> Vec<Finding> {
    let (Ok(adapter), Some(version)) = (adapter::named(state.encoder), &state.library) else { return Vec::new() };
    let version = version.trim_start_matches('v');
    let holds = adapter.known_of(version).filter(|known| root || !known.as_root);
    holds.map(|known| note(format!("{} {version}: {}", state.encoder, known.what))).collect()
}

fn problem(text: String) -> Finding {
    Finding { gravity: Gravity::Problem, text }
}

fn note(text: String) -> Finding {
    Finding { gravity: Gravity::Note, text }
}

impl SystemInfo {
    /// What to do on this system, where its packages are known.
    fn package(&self, packages: &[Package]) -> Option<String> {
        let here = packages.iter().find(|package| Some(package.system) == self.family)?;
        Some(here.what.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_as_root_is_said_only_to_root_and_versions_are_told_apart() {
        let state = |encoder, version: &str| EncoderState {
            encoder,
            state: Presence::Ready,
            stats_route: None,
            library: Some(version.to_owned()),
            why: None,
            remedy: None,
        };
        assert_eq!(known(&state("libsvtav1", "v1.4.1"), true).len(), 1);
        assert_eq!(known(&state("libsvtav1", "v1.4.1"), false), []);
        assert_eq!(known(&state("libaom-av1", "v3.6.0"), false).len(), 1);
        assert_eq!(known(&state("libaom-av1", "3.12.1"), false), []);
    }

    #[test]
    fn headers_of_another_minor_version_are_a_problem() {
        let library = |loaded: &str| LinkedLibrary {
            name: "libavcodec",
            built: "59.37.100".to_owned(),
            loaded: loaded.to_owned(),
        };
        assert_eq!(mismatch(&library("59.37.101")), None);
        assert_eq!(mismatch(&library("59.54.100")).map(|finding| finding.gravity), Some(Gravity::Problem));
    }
}
