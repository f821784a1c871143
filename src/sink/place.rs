//! Where output is until it is complete: a private sibling of its final name, locked while its writer lives.
//!
//! Invariant: leftovers of killed runs are told by their missing lock and removed; what another run holds is left alone.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

use crate::error::{Error, Refusal};

/// The name to rename to: links to a file followed, and nothing but a regular file, or a link that leads nowhere, replaced.
pub(super) fn final_name(path: &Path, overwrite: bool) -> Result<PathBuf, Refusal> {
    let shown = || path.display().to_string();
    let name = match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            return Err(Refusal::Output { path: shown(), why: "is not a regular file".into() });
        }
        Ok(_) if !overwrite => return Err(Refusal::Exists { path: shown() }),
        Ok(_) => fs::canonicalize(path).map_err(|why| Refusal::Output { path: shown(), why: why.to_string() })?,
        Err(_) if !overwrite && fs::symlink_metadata(path).is_ok() => return Err(Refusal::Exists { path: shown() }),
        Err(_) => path.to_owned(),
    };
    if name.file_name().is_none() {
        return Err(Refusal::Output { path: shown(), why: "is not the name of a file".into() });
    }
    Ok(name)
}

/// A hidden file beside an output, for what belongs to it and is to outlive a crash.
pub(crate) fn hidden_beside(output: &Path, suffix: &str) -> PathBuf {
    folder_of(output).join(prefix_of(output) + suffix)
}

/// Why the temporary file cannot be made: about the place it is a refusal, else an error of writing.
pub(super) fn refused(path: &Path, source: io::Error) -> Error {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    match source.kind() {
        NotFound | NotADirectory | PermissionDenied | ReadOnlyFilesystem => {
            let folder = folder_of(path).display();
            Refusal::Output {
                path: path.display().to_string(),
                why: format!("cannot create a file in {folder}: {source}"),
            }
            .into()
        }
        _ => Error::Write { path: path.to_owned(), source },
    }
}

/// What temporary names beside this one begin with.
pub(super) fn prefix_of(path: &Path) -> String {
    format!(".{}.repass-", shortened(path.file_name().unwrap_or_default()))
}

/// A locked temporary folder. It is unlocked when the file is closed.
pub(super) fn create_locked_folder(folder: &Path, prefix: &str) -> io::Result<(TempDir, Option<File>)> {
    locked_folder(folder, Builder::new().prefix(prefix))
}

/// The same, for nobody but its owner (0700).
pub(crate) fn create_private_folder(folder: &Path, prefix: &str) -> io::Result<(TempDir, Option<File>)> {
    let mut builder = Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    locked_folder(folder, builder.prefix(prefix))
}

fn locked_folder(folder: &Path, builder: &mut Builder<'_, '_>) -> io::Result<(TempDir, Option<File>)> {
    builder.suffix(SUFFIX);
    loop {
        let temporary = builder.tempdir_in(folder)?;
        // Where folders cannot be opened or locked, nobody can take this one for a leftover.
        let Ok(handle) = File::open(temporary.path()) else { return Ok((temporary, None)) };
        if lock(&handle) && same_file(&handle, temporary.path())? {
            return Ok((temporary, Some(handle)));
        }
    }
}

/// A locked temporary file, and the mode it will have when it is renamed.
pub(super) fn create_locked(folder: &Path, prefix: &str, path: &Path) -> io::Result<(NamedTempFile, Permissions)> {
    loop {
        let mut builder = Builder::new();
        builder.prefix(prefix).suffix(SUFFIX);
        let temporary = private(&mut builder, folder)?;
        let locked = lock(temporary.0.as_file());
        // Between making and locking, another run may have taken the file for a leftover: only one that still has its name
        // is ours.
        if locked && same_file(temporary.0.as_file(), temporary.0.path())? {
            let mode = fs::metadata(path).map_or(temporary.1, |existing| existing.permissions());
            return Ok((temporary.0, mode));
        }
    }
}

/// Makes the file with the mode that anything made here would get, so that the kernel applies umask and default ACL; notes
/// it, and closes the file to others before the first byte is written.
#[cfg(unix)]
fn private(builder: &mut Builder<'_, '_>, folder: &Path) -> io::Result<(NamedTempFile, Permissions)> {
    use std::os::unix::fs::PermissionsExt;
    let temporary = builder.permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
    let permissions = temporary.as_file().metadata()?.permissions();
    temporary.as_file().set_permissions(Permissions::from_mode(0o600))?;
    Ok((temporary, permissions))
}

#[cfg(not(unix))]
fn private(builder: &mut Builder<'_, '_>, folder: &Path) -> io::Result<(NamedTempFile, Permissions)> {
    let temporary = builder.tempfile_in(folder)?;
    let permissions = temporary.as_file().metadata()?.permissions();
    Ok((temporary, permissions))
}

/// Whether the lock is ours, or there are no locks on this file system: nobody could take it for a leftover then.
fn lock(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let open = file.metadata()?;
    Ok(fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino())))
}

#[cfg(not(unix))]
fn same_file(_: &File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}

/// Removes what killed runs left beside this output.
pub fn collect_leftovers(path: &Path) {
    // Where the folder cannot be read there is nothing to collect.
    let _ = remove_leftovers(folder_of(path), &prefix_of(path));
}

/// Removes temporary files and folders of this name whose writer is gone. One that cannot be opened or locked is left alone.
pub(crate) fn remove_leftovers(folder: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type()?;
        if name.starts_with(prefix) && name.ends_with(SUFFIX) && !kind.is_symlink() {
            let abandoned = File::open(entry.path()).ok().filter(|file| file.try_lock().is_ok());
            if abandoned.is_some() {
                // Another run may be removing it too.
                let _ = if kind.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
            }
        }
    }
    Ok(())
}

/// Makes the rename last. Some file systems have no such notion for folders.
#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The path with all links followed, as far as there is something there already.
pub(crate) fn known_as(path: &Path) -> PathBuf {
    if let Ok(known) = path.canonicalize() {
        return known;
    }
    match (folder_of(path).canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name, cut so that the temporary one still fits into the 255 bytes that most file systems allow.
fn shortened(name: &OsStr) -> String {
    let name = name.to_string_lossy();
    let end = (0..=LONGEST_NAME).rev().find(|end| name.is_char_boundary(*end) && *end <= name.len());
    name[..end.unwrap_or(0)].to_owned()
}

const LONGEST_NAME: usize = 200;

const SUFFIX: &str = ".part";
