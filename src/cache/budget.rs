//! How much memory frames may take when nobody says: a share of what the machine, or the cgroup it is confined to, has free.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::rate::ByteSize;

/// What there is of memory, in bytes; `None` where the system does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Of the machine in all.
    pub machine: Option<u64>,
    /// Of the machine, what can be had without swapping.
    pub free: Option<u64>,
    /// What the tightest limit of the cgroup leaves; `None`: there is no limit.
    pub cgroup_free: Option<u64>,
}

impl Memory {
    /// As it is now.
    #[must_use]
    pub fn now() -> Self {
        Memory { machine: meminfo("MemTotal:"), free: meminfo("MemAvailable:"), cgroup_free: cgroup_free() }
    }
}

/// The default budget: half of what is free now, for encoders and the page cache need the rest.
#[must_use]
pub fn default_budget() -> ByteSize {
    let Memory { free, cgroup_free, .. } = Memory::now();
    let free = [free, cgroup_free, address_space_free()].into_iter().flatten().min();
    ByteSize(share(free))
}

fn share(free: Option<u64>) -> u64 {
    free.map_or(FALLBACK, |free| free / 2)
}

/// Whether `ulimit -v` leaves so much to this process; without a limit it always does.
pub(crate) fn has_room(bytes: u64) -> bool {
    address_space_free().is_none_or(|free| free >= bytes)
}

/// What `ulimit -v` leaves; `None` where there is no limit.
#[cfg(target_os = "linux")]
fn address_space_free() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmSize:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(limit.saturating_sub(kib * 1024))
}

#[cfg(not(target_os = "linux"))]
fn address_space_free() -> Option<u64> {
    None
}

fn meminfo(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The tightest limit of the cgroup and its parents, less what is used there and cannot be given back at once; v2 and v1.
fn cgroup_free() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    membership.lines().filter_map(|line| free_in_hierarchy(Path::new("/sys/fs/cgroup"), line)).min()
}

/// `line` is one of `/proc/self/cgroup`: `0::/path` for v2, `N:controllers:/path` for v1.
fn free_in_hierarchy(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
    let (base, limit, usage, reclaimable) = match controllers {
        "" => (root.to_owned(), "memory.max", "memory.current", "inactive_file"),
        some if some.split(',').any(|controller| controller == "memory") => {
            (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        }
        _ => return None,
    };
    let read = |folder: &PathBuf, name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    // Inside a container the path may name a place that is mounted as the root itself, so the root is asked too.
    let mut folders = vec![base];
    for part in Path::new(path).components() {
        folders.push(folders[folders.len() - 1].join(part));
    }
    // "max" and v1's huge default do not parse, or are no limit at all.
    let free = |folder: &PathBuf| {
        let limit = read(folder, limit).filter(|limit| *limit < NO_LIMIT)?;
        // What was read of files counts as used until somebody needs the memory.
        let cached = statistic(&folder.join("memory.stat"), reclaimable).unwrap_or(0);
        Some(limit.saturating_sub(read(folder, usage).unwrap_or(0).saturating_sub(cached)))
    };
    folders.iter().filter_map(free).min()
}

/// A number of `memory.stat`, in bytes.
fn statistic(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(known, _)| *known == name)?.1.trim().parse().ok()
}

/// Where the system says nothing (other than Linux).
const FALLBACK: u64 = 2 << 30;
/// cgroup v1 writes an unset limit as the greatest page-aligned 63-bit number.
const NO_LIMIT: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(name), text).unwrap();
    }

    #[test]
    fn half_of_what_is_free_is_taken_and_never_more_than_there_is() {
        assert_eq!(share(Some(8 << 30)), 4 << 30);
        assert_eq!(share(Some(100 << 20)), 50 << 20);
        assert_eq!(share(Some(40 << 20)), 20 << 20);
        assert_eq!(share(Some(0)), 0);
    }

    #[test]
    fn the_tightest_limit_of_a_v2_cgroup_and_its_parents_holds() {
        let root = tempfile::tempdir().unwrap();
        let (parent, child) = (root.path().join("a"), root.path().join("a/b"));
        write(&parent, "memory.max", "1000000\n");
        write(&parent, "memory.current", "400000\n");
        write(&child, "memory.max", "max\n");
        assert_eq!(free_in_hierarchy(root.path(), "0::/a/b"), Some(600_000));
    }

    #[test]
    fn what_the_page_cache_holds_is_free() {
        let root = tempfile::tempdir().unwrap();
        let (v2, v1) = (root.path().join("job"), root.path().join("memory/job"));
        write(&v2, "memory.max", "1000000\n");
        write(&v2, "memory.current", "990000\n");
        write(&v2, "memory.stat", "anon 90000\nfile 900000\ninactive_file 800000\nactive_file 100000\n");
        assert_eq!(free_in_hierarchy(root.path(), "0::/job"), Some(810_000));
        write(&v1, "memory.limit_in_bytes", "1000000");
        write(&v1, "memory.usage_in_bytes", "990000");
        write(&v1, "memory.stat", "inactive_file 7\ntotal_inactive_file 500000\n");
        assert_eq!(free_in_hierarchy(root.path(), "7:memory:/job"), Some(510_000));
    }

    #[test]
    fn a_v1_memory_cgroup_is_read_and_an_unset_one_is_no_limit() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("memory/job");
        write(&folder, "memory.limit_in_bytes", "5000000");
        write(&folder, "memory.usage_in_bytes", "1000000");
        write(&root.path().join("memory"), "memory.limit_in_bytes", "9223372036854771712");
        assert_eq!(free_in_hierarchy(root.path(), "7:memory:/job"), Some(4_000_000));
        assert_eq!(free_in_hierarchy(root.path(), "3:cpu:/job"), None);
    }
}
