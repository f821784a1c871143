//! A file that appears under its final name whole and verified, or not at all.
//!
//! Invariants: until then the bytes are in a private sibling, `.NAME.repass-*.part`, locked while its writer lives; the
//! final name is touched once, by a rename; leftovers of killed runs are told by their missing lock and removed.

use std::fs::Permissions;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::av::AvError;
use crate::av::muxer::{Container, Media, Muxer, MuxerSetup};
use crate::av::packet::Packet;
use crate::error::{Error, Refusal};
use crate::event::Cancel;
use crate::media::Rational;
use crate::pipeline::watched;
use crate::sink::place::{create_locked, final_name, folder_of, prefix_of, refused, remove_leftovers, sync_folder};
use crate::sink::{Finished, OutputStream, Sink, Streams, unless_stopped, verify};

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
    cancel: Cancel,
}

enum State {
    Created(Box<dyn Media>),
    Writing(Box<Muxer>),
    /// Complete and verified, under its temporary name.
    Sealed(Box<Finished>),
    /// An error came in between: there is nothing to finish.
    Broken,
}

impl FileSink {
    /// Makes the temporary file beside `path` and removes what killed runs left there. With `overwrite`, a file of that name
    /// is replaced in the end; a link to one is followed, one that leads nowhere is replaced itself.
    ///
    /// # Errors
    /// [`Refusal::Exists`] and [`Refusal::Output`] for a name that cannot be used, [`Error::Write`] where the file cannot be
    /// made for other reasons.
    pub fn create(path: &Path, container: Container, overwrite: bool) -> Result<Self, Error> {
        if container.is_package() {
            let why = format!("{} is several files, which a package writes", container.name());
            return Err(Refusal::Output { path: path.display().to_string(), why }.into());
        }
        let path = final_name(path, overwrite)?;
        let prefix = prefix_of(&path);
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
            cancel: Cancel::new(),
        })
    }

    /// Sets options of the container (`movflags=faststart`).
    #[must_use]
    pub fn with_options(mut self, options: Vec<(String, String)>) -> Self {
        self.options = options;
        self
    }

    /// Ends reading the file back when a stop is asked for.
    #[must_use]
    pub fn with_cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
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

    /// Puts a writer in front of the temporary file, before the sink is started: one that counts, throttles or fails. It is
    /// flushed once, when all is written and nothing is verified.
    #[must_use]
    pub fn through(mut self, wrap: impl FnOnce(Box<dyn Media>) -> Box<dyn Media>) -> Self {
        if let State::Created(media) = self.state {
            self.state = State::Created(wrap(media));
        }
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
        let fault = |source| Error::Write { path: path.clone(), source };
        self.temporary.as_file().set_permissions(self.permissions).map_err(fault)?;
        let persisted = match self.overwrite {
            true => self.temporary.persist(&path),
            false => self.temporary.persist_noclobber(&path),
        };
        persisted.map_err(|error| fault(error.error))?;
        sync_folder(folder_of(&path)).map_err(fault)?;
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

    fn seal(&mut self, moved: &(dyn Fn() + Sync)) -> Result<(), Error> {
        let State::Writing(muxer) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(self.out_of_order("nothing was written"));
        };
        let written = muxer.finish(moved)?;
        drop(written.media);
        // However slow the disk, it cannot be asked how far it is.
        watched(moved, || self.temporary.as_file().sync_all())?.map_err(|source| self.write_error(source))?;
        let go_on = || {
            moved();
            !self.cancel.is_stopped()
        };
        verify::verify(self.temporary.path(), &self.container, &written.tallies, &go_on)
            .map_err(|why| unless_stopped(&self.cancel, Error::Verify { path: self.path.clone(), why }))?;
        let (bytes, nudged) = (written.bytes, written.nudged);
        self.state = State::Sealed(Box::new(Finished { bytes, nudged, ..Finished::of(written.tallies) }));
        Ok(())
    }

    fn sealed_bytes(&self) -> Option<u64> {
        match &self.state {
            State::Sealed(finished) => Some(finished.bytes),
            _ => None,
        }
    }

    fn finish(mut self: Box<Self>) -> Result<Finished, Error> {
        if let State::Writing(_) = self.state {
            self.seal(&|| ())?;
        }
        let State::Sealed(finished) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(self.out_of_order("nothing was written"));
        };
        let path = self.publish()?;
        Ok(Finished { path: Some(path), ..*finished })
    }
}
