//! Which operating system this is, as far as packages differ.

use std::fs;

use serde::Serialize;

use crate::adapter::System;

/// The operating system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SystemInfo {
    /// Its name for people.
    pub name: String,
    /// Whose packages it has; `None` where they are not known here.
    pub family: Option<System>,
    /// Whether this process runs as root.
    pub root: bool,
}

impl SystemInfo {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        let release = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| fs::read_to_string(path).ok());
        match release {
            Some(text) => SystemInfo::of_release(&text),
            None => SystemInfo {
                name: std::env::consts::OS.to_owned(),
                family: cfg!(target_os = "macos").then_some(System::MacOs),
                root: is_root(),
            },
        }
    }

    /// From the text of `os-release`: `ID` first, then what it is made from (`ID_LIKE`).
    fn of_release(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(|value| value.trim_matches(['"', '\'']).to_owned()).unwrap_or_default()
        };
        let (id, like) = (value("ID"), value("ID_LIKE"));
        let family = std::iter::once(id.as_str()).chain(like.split_whitespace()).find_map(family);
        let name = [value("PRETTY_NAME"), id].into_iter().find(|name| !name.is_empty());
        SystemInfo { name: name.unwrap_or_else(|| std::env::consts::OS.to_owned()), family, root: is_root() }
    }
}

fn family(id: &str) -> Option<System> {
    match id {
        "debian" => Some(System::Debian),
        "ubuntu" => Some(System::Ubuntu),
        "fedora" => Some(System::Fedora),
        "arch" => Some(System::Arch),
        _ => None,
    }
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_system_is_made_from_counts_where_its_own_name_is_unknown() {
        let family = |text: &str| SystemInfo::of_release(text).family;
        assert_eq!(family("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n"), Some(System::Debian));
        assert_eq!(family("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), Some(System::Ubuntu));
        assert_eq!(family("ID=manjaro\nID_LIKE=arch\n"), Some(System::Arch));
        assert_eq!(family("ID=gentoo\n"), None);
        assert_eq!(SystemInfo::of_release("ID=gentoo\n").name, "gentoo");
    }
}
