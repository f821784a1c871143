//! A file of our own, that is no media: under its name whole or not at all.

use std::fs::{File, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Error;
use crate::sink::place::{create_locked, final_name, folder_of, prefix_of, refused, remove_leftovers, sync_folder};

/// A file that is being written. Dropped unpublished, it leaves nothing.
pub(crate) struct WholeFile {
    path: PathBuf,
    overwrite: bool,
    temporary: NamedTempFile,
    /// The mode that the file gets with its name.
    permissions: Permissions,
}

impl WholeFile {
    /// As [`crate::sink::FileSink::create`].
    pub(crate) fn create(path: &Path, overwrite: bool) -> Result<Self, Error> {
        let path = final_name(path, overwrite)?;
        let (folder, prefix) = (folder_of(&path), prefix_of(&path));
        let fault = |source: io::Error| refused(&path, source);
        remove_leftovers(folder, &prefix).map_err(fault)?;
        let (temporary, permissions) = create_locked(folder, &prefix, &path).map_err(fault)?;
        Ok(WholeFile { path, overwrite, temporary, permissions })
    }

    /// A file that only its owner reads, also under its name, where it takes the place of whatever is there. Until then its
    /// name is like a temporary one of `beside`, so that who makes that finds what a killed run left.
    pub(crate) fn private(path: &Path, beside: &Path) -> Result<Self, Error> {
        let made = create_locked(folder_of(path), &prefix_of(beside), path).and_then(|(temporary, _)| {
            let permissions = temporary.as_file().metadata()?.permissions();
            Ok(WholeFile { path: path.to_owned(), overwrite: true, temporary, permissions })
        });
        made.map_err(|source| refused(path, source))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Gives the file its name, and makes both last.
    pub(crate) fn publish(self) -> Result<(), Error> {
        let WholeFile { path, overwrite, temporary, permissions } = self;
        let publish = || -> io::Result<()> {
            temporary.as_file().set_permissions(permissions)?;
            temporary.as_file().sync_all()?;
            let persisted = if overwrite { temporary.persist(&path) } else { temporary.persist_noclobber(&path) };
            persisted.map_err(|error| error.error)?;
            sync_folder(folder_of(&path))
        };
        publish().map_err(|source| Error::Write { path: path.clone(), source })
    }
}
