//! An AVIOContext over a Rust writer: the operating system's errors come out as they went in, and nothing unwinds into C.
//!
//! Invariant: the first error is kept, and nothing is written after it.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::io::{self, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

use ffmpeg_sys_next as ffi;

use crate::av::{AvError, OUT_OF_MEMORY};

/// Where a muxer's bytes go: a file, memory, or anything else that can be written and sought.
pub trait Media: Write + Seek + Send {}

impl<T: Write + Seek + Send> Media for T {}

/// The AVIOContext and the writer below it. Neither moves while libavformat holds a pointer to them.
pub(super) struct Writer {
    context: NonNull<ffi::AVIOContext>,
    /// A box of ours, also known to the callbacks as their opaque pointer; touched only while no callback runs.
    target: NonNull<Target>,
}

// SAFETY: both are owned by this value alone, the writer inside is Send, and callbacks run only inside libav calls made by
// the owner.
unsafe impl Send for Writer {}

/// What the callbacks see.
struct Target {
    /// Told of every write, while somebody waits.
    moved: Option<NonNull<dyn Fn() + Sync>>,
    /// `None` once handed back.
    media: Option<Box<dyn Media>>,
    /// The first error, kept for whoever asks.
    error: Option<io::Error>,
    position: u64,
    size: u64,
}

impl Writer {
    /// A context that writes to `media` through a buffer of its own.
    pub(super) fn new(media: Box<dyn Media>) -> Result<Self, AvError> {
        let target = Box::new(Target { moved: None, media: Some(media), error: None, position: 0, size: 0 });
        // SAFETY: allocates; the context takes the buffer over.
        let buffer = unsafe { ffi::av_malloc(BUFFER_BYTES) };
        if buffer.is_null() {
            return Err(OUT_OF_MEMORY);
        }
        let target = NonNull::from(Box::leak(target));
        let opaque: *mut c_void = target.as_ptr().cast();
        // SAFETY: the buffer has the length given, the opaque pointer lives as long as the context (see `drop`), and the
        // callbacks have the types that libavformat calls.
        let context = unsafe {
            ffi::avio_alloc_context(buffer.cast(), BUFFER_BYTES as c_int, 1, opaque, None, Some(write), Some(seek))
        };
        let Some(context) = NonNull::new(context) else {
            // SAFETY: nobody took either over.
            unsafe {
                ffi::av_free(buffer);
                drop(Box::from_raw(target.as_ptr()));
            }
            return Err(OUT_OF_MEMORY);
        };
        Ok(Writer { context, target })
    }

    /// The context, for `AVFormatContext.pb`.
    pub(super) fn as_mut_ptr(&mut self) -> *mut ffi::AVIOContext {
        self.context.as_ptr()
    }

    /// Writes out what is buffered.
    pub(super) fn flush(&mut self) {
        // SAFETY: the context is owned; its callbacks borrow the target only during this call.
        unsafe { ffi::avio_flush(self.context.as_ptr()) };
    }

    /// Does it, and calls `moved` after every write meanwhile.
    pub(super) fn telling<T>(&mut self, moved: &(dyn Fn() + Sync), act: impl FnOnce() -> T) -> T {
        let told = Told(self.target);
        // SAFETY: no callback runs now. The reference is forgotten before it ends, by `told`, also where `act` panics.
        unsafe {
            (*told.0.as_ptr()).moved =
                Some(std::mem::transmute::<NonNull<dyn Fn() + Sync + '_>, NonNull<_>>(NonNull::from(moved)))
        };
        act()
    }

    /// The writer's first error, as often as it is asked for.
    pub(super) fn error(&self) -> Option<io::Error> {
        self.target().error.as_ref().map(again)
    }

    /// Bytes from the beginning to the furthest byte written.
    pub(super) fn bytes(&self) -> u64 {
        self.target().size
    }

    /// Hands the writer back; what is written from here on is an error.
    pub(super) fn take(&mut self) -> Option<Box<dyn Media>> {
        // SAFETY: no callback runs now, so this is the only reference.
        unsafe { self.target.as_mut() }.media.take()
    }

    fn target(&self) -> &Target {
        // SAFETY: owned by this value, and no callback runs now.
        unsafe { self.target.as_ref() }
    }
}

/// Forgets whom a target tells.
struct Told(NonNull<Target>);

impl Drop for Told {
    fn drop(&mut self) {
        // SAFETY: made of a live writer's target, which outlives this; no callback runs now.
        unsafe { (*self.0.as_ptr()).moved = None };
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: owned and freed once. The buffer goes through the context, since libavformat may have replaced it; the
        // target goes last, when nothing can call back any more.
        unsafe {
            ffi::av_freep((&raw mut (*context).buffer).cast());
            ffi::avio_context_free(&raw mut context);
            drop(Box::from_raw(self.target.as_ptr()));
        }
    }
}

/// The type of libavformat's write callback: its data became const with libavformat 61.
#[cfg(ffmpeg_7_0)]
type Bytes = *const u8;
#[cfg(not(ffmpeg_7_0))]
type Bytes = *mut u8;

unsafe extern "C" fn write(opaque: *mut c_void, bytes: Bytes, length: c_int) -> c_int {
    // SAFETY: the opaque pointer is the box that `Writer::new` made; libavformat calls back only inside a call of ours, so
    // nothing else refers to it now.
    let target = unsafe { &mut *opaque.cast::<Target>() };
    if bytes.is_null() || length <= 0 {
        return 0;
    }
    // SAFETY: libavformat passes `length` readable bytes.
    let bytes = unsafe { std::slice::from_raw_parts(bytes, length as usize) };
    let moved = target.moved;
    let write = |media: &mut dyn Media| {
        media.write_all(bytes)?;
        // SAFETY: set only while the reference that it was made of lives.
        moved.iter().for_each(|moved| unsafe { moved.as_ref() }());
        Ok(())
    };
    match target.attempt(write) {
        Some(()) => {
            target.position += bytes.len() as u64;
            target.size = target.size.max(target.position);
            length
        }
        None => ffi::AVERROR(ffi::EIO),
    }
}

unsafe extern "C" fn seek(opaque: *mut c_void, offset: i64, whence: c_int) -> i64 {
    // SAFETY: as in `write`.
    let target = unsafe { &mut *opaque.cast::<Target>() };
    let to = match whence & !ffi::AVSEEK_FORCE {
        ffi::AVSEEK_SIZE => return target.size as i64,
        ffi::SEEK_SET => offset,
        ffi::SEEK_CUR => target.position as i64 + offset,
        ffi::SEEK_END => target.size as i64 + offset,
        _ => return i64::from(ffi::AVERROR(ffi::EINVAL)),
    };
    let Ok(to) = u64::try_from(to) else { return i64::from(ffi::AVERROR(ffi::EINVAL)) };
    match target.attempt(|media| media.seek(SeekFrom::Start(to))) {
        Some(position) => {
            target.position = position;
            position as i64
        }
        None => i64::from(ffi::AVERROR(ffi::EIO)),
    }
}

impl Target {
    /// Does it, unless something failed before; keeps the first error and turns a panic into one.
    fn attempt<T>(&mut self, act: impl FnOnce(&mut dyn Media) -> io::Result<T>) -> Option<T> {
        if self.error.is_some() {
            return None;
        }
        let Some(media) = self.media.as_deref_mut() else {
            self.error = Some(io::Error::from(io::ErrorKind::BrokenPipe));
            return None;
        };
        match catch_unwind(AssertUnwindSafe(|| act(media))).unwrap_or_else(|panic| Err(panicked(panic.as_ref()))) {
            Ok(done) => Some(done),
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> io::Error {
    let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    io::Error::other(format!("the writer panicked: {said}"))
}

/// The same error once more: `io::Error` does not clone.
fn again(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

/// A null context for a muxer that has let its writer go.
pub(super) const NO_CONTEXT: *mut ffi::AVIOContext = ptr::null_mut();

/// Few system calls for big packets; little beside one frame.
const BUFFER_BYTES: usize = 1 << 20;
