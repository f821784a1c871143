//! Completion scripts and manual pages, made from the command line itself.

use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

use super::text::print;

/// Prints a completion script.
///
/// # Errors
/// A stdout that cannot be written.
pub(crate) fn completions(shell: Shell, mut command: Command) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "repass", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints the manual page, or writes one for each command into a folder.
///
/// # Errors
/// A stdout or a folder that cannot be written.
pub(crate) fn manual(folder: Option<&Path>, command: Command) -> io::Result<()> {
    match folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            clap_mangen::generate_to(command, folder)
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            print(&String::from_utf8_lossy(&page))
        }
    }
}
