//! Standard input and named pipes, read by ourselves: libav's own reads of them block in the kernel, where no
//! interrupt callback is asked, and so would a job that was told to stop. What is read is kept in a file without a name, so
//! that a pipe can be opened again and again.
//!
//! Invariant: whoever wants bytes that nobody has read yet reads them from the pipe itself, so no reader waits for another.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ffmpeg_sys_next as ffi;

use crate::av::{AvError, OUT_OF_MEMORY};
use crate::cache::nameless;
use crate::event::Cancel;

/// A pipe, and what was read from it so far. Shared by all who read it.
#[derive(Clone)]
pub struct Spool(Arc<Shared>);

struct Shared {
    input: Input,
    file: File,
    /// Bytes read from the pipe, all of them in the file while that is kept.
    bytes: AtomicU64,
    keeps: AtomicBool,
    filling: Mutex<Filling>,
}

/// Only one reads the pipe at a time.
#[derive(Default)]
struct Filling {
    ended: bool,
    /// Why nothing more could be kept.
    failed: Option<io::ErrorKind>,
}

impl Spool {
    /// The pipe at `path`, kept in a file of `folder`; `None` where there is none, and libav can do without us.
    pub(super) fn at(path: &Path, folder: &Path) -> Result<Option<Self>, AvError> {
        let failed = |error: io::Error| AvError(code(&error));
        let Some(input) = Input::at(path).map_err(failed)? else { return Ok(None) };
        Ok(Some(Spool::over(input, nameless(folder).map_err(failed)?)))
    }

    fn over(input: Input, file: File) -> Self {
        let (bytes, keeps) = (AtomicU64::new(0), AtomicBool::new(true));
        Spool(Arc::new(Shared { input, file, bytes, keeps, filling: Mutex::default() }))
    }

    /// Keeps nothing more: the one who reads it now is the last.
    pub(super) fn forget(&self) {
        self.0.keeps.store(false, Ordering::Relaxed);
    }

    /// Whether it can be read again from its beginning.
    pub(super) fn keeps(&self) -> bool {
        self.0.keeps.load(Ordering::Relaxed)
    }

    /// Why it could not be kept, where that is so: the disk is full, mostly.
    pub(super) fn failed(&self) -> Option<io::ErrorKind> {
        self.0.filling.lock().unwrap_or_else(PoisonError::into_inner).failed
    }

    /// Waits a moment for bytes at an offset and takes them; `None`: none yet, `Some(0)`: there will be no more.
    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let shared = &*self.0;
        let known = shared.bytes.load(Ordering::Acquire);
        if at < known {
            let wanted = buffer.len().min(usize::try_from(known - at).unwrap_or(usize::MAX));
            return read_at(&shared.file, &mut buffer[..wanted], at).map(Some);
        }
        // A reader that panicked has stored nothing by halves: the count comes last.
        let mut filling = shared.filling.lock().unwrap_or_else(PoisonError::into_inner);
        // What was read and could not be kept is lost: nothing may follow it.
        if let Some(kind) = filling.failed {
            return Err(kind.into());
        }
        if filling.ended {
            return Ok(Some(0));
        }
        if shared.bytes.load(Ordering::Acquire) > at {
            return Ok(None);
        }
        let Some(bytes) = shared.input.read(buffer)? else { return Ok(None) };
        filling.ended = bytes == 0;
        if self.keeps()
            && let Err(error) = write_at(&shared.file, &buffer[..bytes], at)
        {
            filling.failed = Some(error.kind());
            return Err(error);
        }
        shared.bytes.store(at + bytes as u64, Ordering::Release);
        Ok(Some(bytes))
    }
}

/// An AVIOContext over a pipe. Must outlive the format context that reads it.
pub(super) struct Pipe {
    io: NonNull<ffi::AVIOContext>,
    /// What `io` reads; boxed, so that its address stays.
    _reader: Box<Reader>,
}

impl Pipe {
    /// Reads a pipe from its beginning.
    pub(super) fn over(spool: Spool, cancel: &Cancel) -> Result<Self, AvError> {
        let mut reader = Box::new(Reader { spool, at: 0, cancel: cancel.clone() });
        // SAFETY: allocates; null is out of memory.
        let buffer = NonNull::new(unsafe { ffi::av_malloc(BUFFER_BYTES) }).ok_or(OUT_OF_MEMORY)?;
        let (opaque, bytes) = ((&raw mut *reader).cast(), BUFFER_BYTES as c_int);
        // SAFETY: the buffer becomes the context's; the reader lives as long as the context, in the same struct.
        let io = unsafe { ffi::avio_alloc_context(buffer.as_ptr().cast(), bytes, 0, opaque, Some(read), None, None) };
        let Some(io) = NonNull::new(io) else {
            // SAFETY: still ours, freed once.
            unsafe { ffi::av_free(buffer.as_ptr()) };
            return Err(OUT_OF_MEMORY);
        };
        Ok(Pipe { io, _reader: reader })
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::AVIOContext {
        self.io.as_ptr()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut io = self.io.as_ptr();
        // SAFETY: owned; libav may have put another buffer in place of ours, and leaves freeing either to us.
        unsafe {
            ffi::av_freep((&raw mut (*io).buffer).cast());
            ffi::avio_context_free(&raw mut io);
        }
    }
}

struct Reader {
    spool: Spool,
    at: u64,
    cancel: Cancel,
}

/// libav's read callback; like it, waits for at least one byte.
unsafe extern "C" fn read(reader: *mut c_void, buffer: *mut u8, bytes: c_int) -> c_int {
    // SAFETY: set to a reader that the pipe keeps alive longer than the context.
    let reader = unsafe { &mut *reader.cast::<Reader>() };
    // SAFETY: libav passes that many writable bytes. They may be uninitialised, but are only written.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, bytes.max(0) as usize) };
    while !reader.cancel.is_stopped() {
        match reader.spool.read(reader.at, buffer) {
            Ok(Some(0)) => return ffi::AVERROR_EOF,
            Ok(Some(bytes)) => {
                reader.at += bytes as u64;
                return bytes as c_int;
            }
            Ok(None) => {}
            Err(error) => return code(&error),
        }
    }
    ffi::AVERROR_EXIT
}

fn code(error: &io::Error) -> c_int {
    ffi::AVERROR(error.raw_os_error().unwrap_or(ffi::EIO))
}

/// Where the bytes come from.
#[cfg_attr(not(unix), expect(dead_code, reason = "libav reads pipes itself there"))]
enum Input {
    Standard,
    Named(File),
}

#[cfg(unix)]
impl Input {
    fn at(path: &Path) -> io::Result<Option<Self>> {
        use rustix::fs::{Mode, OFlags, open};
        use std::os::unix::fs::FileTypeExt;

        if ["-", "pipe:", "pipe:0"].iter().any(|name| path.as_os_str() == *name) {
            return Ok(Some(Input::Standard));
        }
        if !path.metadata().is_ok_and(|file| file.file_type().is_fifo()) {
            return Ok(None);
        }
        // Not blocking, or the kernel would wait here for somebody to write.
        let file = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Some(Input::Named(file.into())))
    }

    /// Waits a moment for bytes and takes them; `None`: none yet, `Some(0)`: there will be no more.
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use rustix::io::Errno;
        use std::os::fd::AsFd;

        let standard = io::stdin();
        let input = match self {
            Input::Standard => standard.as_fd(),
            Input::Named(file) => file.as_fd(),
        };
        let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE_NANOSECONDS };
        match poll(&mut [PollFd::from_borrowed_fd(input, PollFlags::IN)], Some(&patience)) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::io::read(input, buffer) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(not(unix))]
impl Input {
    /// Here libav reads pipes itself, and a stop waits for their next bytes.
    fn at(_path: &Path) -> io::Result<Option<Self>> {
        Ok(None)
    }

    fn read(&self, _buffer: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(Some(0))
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

// No pipe is ours there.
#[cfg(not(unix))]
fn read_at(_file: &File, _buffer: &mut [u8], _at: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(unix))]
fn write_at(_file: &File, _bytes: &[u8], _at: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Bytes read ahead: what a pipe holds on Linux.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long a stop may go unheard: a tenth of a second.
#[cfg(unix)]
const PATIENCE_NANOSECONDS: i64 = 100_000_000;

#[cfg(all(test, unix))]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn nothing_follows_bytes_that_could_not_be_kept() {
        let mut from = tempfile::NamedTempFile::new().unwrap();
        from.write_all(&[7; 100]).unwrap();
        let read_only = || File::open(from.path()).unwrap();
        let (mut taken, mut buffer) = (read_only(), [0; 10]);
        let spool = Spool::over(Input::Named(taken.try_clone().unwrap()), read_only());
        for _ in 0..2 {
            assert!(spool.read(0, &mut buffer).is_err());
            assert!(spool.failed().is_some());
        }
        assert_eq!(taken.stream_position().unwrap(), 10, "nothing more is taken from the pipe");
    }
}
