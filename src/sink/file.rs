//! A file that appears under its final name whole and verified, or not at all.
//!
//! Invariants: until then the bytes are in a private sibling, `.NAME.repass-XXXXXX.part`, locked while its writer lives; the
//! final name is touched once, by a rename; leftovers of killed runs are told by their missing lock and removed.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::av::AvError;
use crate::av::muxer::{Container, Media, Muxer, MuxerSetup};
use crate::av::packet::Packet;
use crate::error::{Error, Refusal};
use crate::media::Rational;
use crate::sink::{Finished, OutputStream, Sink, Streams, verify};

/// Writes a media file.
pub struct FileSink {
    /// The final name.
    path: PathBuf,
    container: Container,
    overwrite: bool,
    options: Vec<(String, String)>,
    temporary: NamedTempFile,
    /// The mode that the file gets with its name.
    permissions: Permissions,
    state: State,
    before_verify: Option<Act>,
}

type Act = Box<dyn FnOnce(&Path) + Send>;

enum State {
    Created(Box<dyn Media>),
    Writing(Box<Muxer>),
    /// An error came in between: there is nothing to finish.
    Broken,
}

impl FileSink {
    /// Makes the temporary file beside `path` and removes what killed runs left there. With `overwrite`, a file of that name
    /// is replaced in the end; a link to one is followed.
    ///
    /// # Errors
    /// [`Refusal::Exists`] and [`Refusal::Output`] for a name that cannot be used, [`Error::Write`] where the file cannot be
    /// made for other reasons.
    pub fn create(path: &Path, container: Container, overwrite: bool) -> Result<Self, Error> {
        let path = final_name(path, overwrite)?;
        let prefix = format!(".{}.repass-", shortened(path.file_name().unwrap_or_default()));
        let folder = folder_of(&path);
        let fault = |source: io::Error| refused(&path, source);
        remove_leftovers(folder, &prefix).map_err(fault)?;
        let (temporary, permissions) = create_locked(folder, &prefix, &path).map_err(fault)?;
        let media = temporary.as_file().try_clone().map_err(fault)?;
        Ok(FileSink {
            path,
            container,
            overwrite,
            options: Vec::new(),
            temporary,
            permissions,
            state: State::Created(Box::new(media)),
            before_verify: None,
        })
    }

    /// Sets options of the container (`movflags=faststart`).
    #[must_use]
    pub fn with_options(mut self, options: Vec<(String, String)>) -> Self {
        self.options = options;
        self
    }

    /// The container that is written.
    #[must_use]
    pub fn container(&self) -> Container {
        self.container
    }

    /// Where the bytes are until the file has its name.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        self.temporary.path()
    }

    /// Puts a writer in front of the temporary file, before the sink is started: for tests that let writing fail.
    #[doc(hidden)]
    #[must_use]
    pub fn through(mut self, wrap: impl FnOnce(Box<dyn Media>) -> Box<dyn Media>) -> Self {
        if let State::Created(media) = self.state {
            self.state = State::Created(wrap(media));
        }
        self
    }

    /// Does something to the temporary file after it is written and before it is verified: for tests of the verification.
    #[doc(hidden)]
    #[must_use]
    pub fn before_verify(mut self, act: impl FnOnce(&Path) + Send + 'static) -> Self {
        self.before_verify = Some(Box::new(act));
        self
    }

    fn open(&self, media: Box<dyn Media>, streams: &Streams) -> Result<Muxer, Error> {
        let mut setup = MuxerSetup::create(&self.container, &self.path, Some(self.temporary.path()), media)?;
        for stream in &streams.streams {
            match stream {
                OutputStream::Encoded { stream, like } => setup.add_encoded(stream, like.as_ref())?,
                OutputStream::Copied(stream) => setup.add_copied(stream)?,
            };
        }
        if !self.container.is_elementary() {
            setup.set_headers(&streams.headers, &streams.cut)?;
        }
        setup.write_header(&self.options)
    }

    /// Gives the verified file its name, and makes both last.
    fn publish(self) -> Result<PathBuf, Error> {
        let path = self.path;
        publish(self.temporary, self.permissions, &path, self.overwrite)
            .map_err(|source| Error::Write { path: path.clone(), source })?;
        Ok(path)
    }

    fn write_error(&self, source: io::Error) -> Error {
        Error::Write { path: self.path.clone(), source }
    }

    /// A call out of order, or after an error.
    fn out_of_order(&self, what: &str) -> Error {
        let source = AvError::invalid();
        Error::Mux { path: self.path.clone(), what: what.to_owned(), source, log: String::new() }
    }
}

impl Sink for FileSink {
    fn start(&mut self, streams: &Streams) -> Result<(), Error> {
        let State::Created(media) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(self.out_of_order("started twice"));
        };
        self.state = State::Writing(Box::new(self.open(media, streams)?));
        Ok(())
    }

    fn write(&mut self, mut packet: Packet, stream: usize, time_base: Rational) -> Result<(), Error> {
        let State::Writing(muxer) = &mut self.state else { return Err(self.out_of_order("not started")) };
        packet.set_stream(stream);
        let written = muxer.write(packet, time_base);
        if written.is_err() {
            self.state = State::Broken;
        }
        written
    }

    fn finish(mut self: Box<Self>) -> Result<Finished, Error> {
        let State::Writing(muxer) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(self.out_of_order("nothing was written"));
        };
        let written = muxer.finish()?;
        drop(written.media);
        self.temporary.as_file().sync_all().map_err(|source| self.write_error(source))?;
        if let Some(act) = self.before_verify.take() {
            act(self.temporary.path());
        }
        verify::verify(self.temporary.path(), &self.container, &written.tallies)
            .map_err(|why| Error::Verify { path: self.path.clone(), why })?;
        let path = self.publish()?;
        let (bytes, nudged) = (written.bytes, written.nudged);
        Ok(Finished { path: Some(path), bytes, nudged, ..Finished::of(written.tallies) })
    }
}

/// A file of our own that appears under its name whole or not at all, as [`FileSink`] makes media files.
pub(crate) struct WholeFile {
    path: PathBuf,
    overwrite: bool,
    temporary: NamedTempFile,
    permissions: Permissions,
}

impl WholeFile {
    /// As [`FileSink::create`].
    pub(crate) fn create(path: &Path, overwrite: bool) -> Result<Self, Error> {
        let path = final_name(path, overwrite)?;
        let prefix = format!(".{}.repass-", shortened(path.file_name().unwrap_or_default()));
        let fault = |source: io::Error| refused(&path, source);
        remove_leftovers(folder_of(&path), &prefix).map_err(fault)?;
        let (temporary, permissions) = create_locked(folder_of(&path), &prefix, &path).map_err(fault)?;
        Ok(WholeFile { path, overwrite, temporary, permissions })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Gives the file its name, and makes both last.
    pub(crate) fn publish(self) -> Result<(), Error> {
        let synced = self.temporary.as_file().sync_all();
        synced
            .and_then(|()| publish(self.temporary, self.permissions, &self.path, self.overwrite))
            .map_err(|source| Error::Write { path: self.path.clone(), source })
    }
}

fn publish(temporary: NamedTempFile, permissions: Permissions, path: &Path, overwrite: bool) -> io::Result<()> {
    temporary.as_file().set_permissions(permissions)?;
    let persisted = if overwrite { temporary.persist(path) } else { temporary.persist_noclobber(path) };
    persisted.map_err(|error| error.error)?;
    sync_folder(folder_of(path))
}

/// The name to rename to: links followed, and nothing but a regular file replaced.
fn final_name(path: &Path, overwrite: bool) -> Result<PathBuf, Refusal> {
    let shown = || path.display().to_string();
    let name = match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            return Err(Refusal::Output { path: shown(), why: "is not a regular file".into() });
        }
        Ok(_) if !overwrite => return Err(Refusal::Exists { path: shown() }),
        Ok(_) => fs::canonicalize(path).map_err(|why| Refusal::Output { path: shown(), why: why.to_string() })?,
        Err(_) => path.to_owned(),
    };
    if name.file_name().is_none() {
        return Err(Refusal::Output { path: shown(), why: "is not the name of a file".into() });
    }
    Ok(name)
}

/// Why the temporary file cannot be made: about the place it is a refusal, else an error of writing.
fn refused(path: &Path, source: io::Error) -> Error {
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

/// A locked temporary file, and the mode it will have when it is renamed.
fn create_locked(folder: &Path, prefix: &str, path: &Path) -> io::Result<(NamedTempFile, Permissions)> {
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

/// Removes temporary files of this name whose writer is gone. One that cannot be opened or locked is left alone.
fn remove_leftovers(folder: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(SUFFIX) && entry.file_type()?.is_file() {
            let abandoned = File::open(entry.path()).ok().filter(|file| file.try_lock().is_ok());
            if abandoned.is_some() {
                // Another run may be removing it too.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
    Ok(())
}

/// Makes the rename last. Some file systems have no such notion for folders.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
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
