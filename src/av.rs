//! The border to libav*: the only unsafe code of the crate.
//!
//! Invariants: no raw pointer and no bound C type leaves this module; every owner has one constructor and one `Drop`, next
//! to each other; frames are shared by reference and never copied; `EAGAIN` and `EOF` are states, not errors.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ffmpeg_sys_next as ffi;

use crate::media::Rational;

pub mod audio;
mod codec_parameters;
mod colour;
pub mod encoder;
pub mod filter;
pub mod frame;
pub mod inspect;
pub mod library;
pub mod log;
pub mod muxer;
pub mod option;
pub mod packet;
mod side_data;
pub mod source;
pub(crate) mod subtitle;
#[cfg(target_os = "macos")]
pub mod videotoolbox;
#[cfg(feature = "vmaf")]
pub mod vmaf;

/// An error code of libav, printed in libav's own words.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AvError(pub i32);

impl AvError {
    /// What libav answers to arguments that make no sense.
    pub(crate) const fn invalid() -> Self {
        AvError(ffi::AVERROR(ffi::EINVAL))
    }

    /// The operating system's error, where the code is one.
    #[must_use]
    pub fn os(self) -> Option<io::Error> {
        // AVERROR(e) is -e for errno values; libav's own tags are far below any errno.
        (-4096..0).contains(&self.0).then(|| io::Error::from_raw_os_error(-self.0))
    }
}

impl fmt::Display for AvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0 as c_char; 128];
        // SAFETY: the buffer is writable for its whole length, and av_strerror always terminates it.
        unsafe { ffi::av_strerror(self.0, text.as_mut_ptr(), text.len()) };
        // SAFETY: terminated by the call above.
        f.write_str(&unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy())
    }
}

impl fmt::Debug for AvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AvError({}: {self})", self.0)
    }
}

impl std::error::Error for AvError {}

/// A libav return code: negative is an error.
pub(crate) fn check(code: c_int) -> Result<c_int, AvError> {
    if code < 0 { Err(AvError(code)) } else { Ok(code) }
}

/// `AVERROR(ENOMEM)`, for allocations that came back null.
pub(crate) const OUT_OF_MEMORY: AvError = AvError(ffi::AVERROR(ffi::ENOMEM));

/// What a blocked read answers when its interrupt callback asked it to stop.
pub(crate) const INTERRUPTED: AvError = AvError(ffi::AVERROR_EXIT);

/// Text for libav. A NUL inside would cut it short, so what follows one is an error of ours and not of libav.
pub(crate) fn c_string(text: &str) -> Result<CString, AvError> {
    CString::new(text).map_err(|_| AvError::invalid())
}

/// Text from libav, lossy: metadata need not be UTF-8.
///
/// # Safety
/// `text` is null or a NUL-terminated string that lives through the call.
pub(crate) unsafe fn text(text: *const c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

impl From<ffi::AVRational> for Rational {
    fn from(rational: ffi::AVRational) -> Self {
        Rational::new(rational.num, rational.den)
    }
}

/// A ratio that says something: libav's 0 over anything is "not known".
pub(crate) fn positive(ratio: ffi::AVRational) -> Option<Rational> {
    (ratio.num > 0 && ratio.den > 0).then(|| ratio.into())
}

impl From<Rational> for ffi::AVRational {
    fn from(rational: Rational) -> Self {
        ffi::AVRational { num: rational.num, den: rational.den }
    }
}

/// What an encoder, a decoder or a filter answers when asked for its next output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Here it is.
    Ready,
    /// It wants more input first (`EAGAIN`).
    NeedInput,
    /// There will be no more (`EOF`).
    Done,
}

/// Turns a receiving call's code into a state.
pub(crate) fn received(code: c_int) -> Result<Received, AvError> {
    match code {
        0.. => Ok(Received::Ready),
        ffi::AVERROR_EOF => Ok(Received::Done),
        code if code == ffi::AVERROR(ffi::EAGAIN) => Ok(Received::NeedInput),
        code => Err(AvError(code)),
    }
}

/// The linked libraries, as `major.minor.micro`, and the name of the FFmpeg release they came with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Versions {
    /// What `av_version_info` says, for instance `5.1.9-0+deb12u1`.
    pub ffmpeg: String,
    /// libavcodec.
    pub libavcodec: String,
    /// libavformat.
    pub libavformat: String,
    /// libavfilter.
    pub libavfilter: String,
    /// libavutil.
    pub libavutil: String,
}

/// The versions of the linked libraries.
#[must_use]
pub fn versions() -> Versions {
    initialise();
    // SAFETY: these calls take nothing and return constants; av_version_info is a static string.
    unsafe {
        Versions {
            ffmpeg: text(ffi::av_version_info()).unwrap_or_default(),
            libavcodec: dotted(ffi::avcodec_version()),
            libavformat: dotted(ffi::avformat_version()),
            libavfilter: dotted(ffi::avfilter_version()),
            libavutil: dotted(ffi::avutil_version()),
        }
    }
}

/// One of the linked libraries: what this program was built with, and what it runs with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LinkedLibrary {
    /// Its name, for instance `libavcodec`.
    pub name: &'static str,
    /// Version of its headers when this program was built, as `major.minor.micro`.
    pub built: String,
    /// Version that is loaded now.
    pub loaded: String,
}

impl LinkedLibrary {
    /// Whether major and minor number are the same: else structs or named numbers may differ.
    #[must_use]
    pub fn matches(&self) -> bool {
        let minor = |version: &str| version.rsplit_once('.').map(|(minor, _)| minor.to_owned());
        minor(&self.built) == minor(&self.loaded)
    }
}

/// The linked libraries, with the versions of their headers at build time beside those that are loaded.
#[must_use]
pub fn linked_libraries() -> Vec<LinkedLibrary> {
    let of = |name, built: [i32; 3], loaded: u32| {
        let [major, minor, micro] = built;
        LinkedLibrary { name, built: format!("{major}.{minor}.{micro}"), loaded: dotted(loaded) }
    };
    // SAFETY: these calls take nothing and return constants.
    unsafe {
        vec![
            of(
                "libavcodec",
                [ffi::LIBAVCODEC_VERSION_MAJOR, ffi::LIBAVCODEC_VERSION_MINOR, ffi::LIBAVCODEC_VERSION_MICRO],
                ffi::avcodec_version(),
            ),
            of(
                "libavformat",
                [ffi::LIBAVFORMAT_VERSION_MAJOR, ffi::LIBAVFORMAT_VERSION_MINOR, ffi::LIBAVFORMAT_VERSION_MICRO],
                ffi::avformat_version(),
            ),
            of(
                "libavfilter",
                [ffi::LIBAVFILTER_VERSION_MAJOR, ffi::LIBAVFILTER_VERSION_MINOR, ffi::LIBAVFILTER_VERSION_MICRO],
                ffi::avfilter_version(),
            ),
            of(
                "libavutil",
                [ffi::LIBAVUTIL_VERSION_MAJOR, ffi::LIBAVUTIL_VERSION_MINOR, ffi::LIBAVUTIL_VERSION_MICRO],
                ffi::avutil_version(),
            ),
        ]
    }
}

pub(crate) fn dotted(version: u32) -> String {
    format!("{}.{}.{}", version >> 16, (version >> 8) & 0xff, version & 0xff)
}

/// Lets jobs make fresh memory of this process zero where an encoder's bits depend on it
/// ([`crate::adapter::Adapter::unwritten_unless`]): glibc's `M_PERTURB` at 0xff, for about one per cent of CPU. It changes
/// the whole process, so a library's caller decides; without it, or without glibc, such encodes are valid but may differ
/// from run to run.
pub fn let_jobs_zero_memory() {
    MAY_ZERO_MEMORY.store(true, Ordering::Relaxed);
}

/// Does so, where it is allowed.
pub(crate) fn zero_fresh_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if MAY_ZERO_MEMORY.load(Ordering::Relaxed) {
        // SAFETY: sets one number inside the allocator; allowed at any time.
        unsafe { libc::mallopt(libc::M_PERTURB, 0xff) };
    }
}

static MAY_ZERO_MEMORY: AtomicBool = AtomicBool::new(false);

/// Makes libav's demuxers and protocols ready; called by every constructor here, does its work once.
pub(crate) fn initialise() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: takes nothing; reference-counted inside libavformat.
        unsafe { ffi::avformat_network_init() };
    });
}

/// Keeps SVT-AV1 from printing: it logs to stderr by itself and hears no one but its environment (`SVT_LOG`, read when an
/// encoder is opened). What the person has set there holds. To be called first thing in `main`: in a process with more than one
/// thread, or where that cannot be told (elsewhere than on Linux), nothing is done, for others may read the environment.
pub fn quiet_svt_av1() {
    const VARIABLE: &str = "SVT_LOG";
    /// Errors only.
    const ERRORS: &str = "1";
    if is_the_only_thread() && std::env::var_os(VARIABLE).is_none() {
        // SAFETY: there is no other thread that could read the environment meanwhile.
        unsafe { std::env::set_var(VARIABLE, ERRORS) };
    }
}

fn is_the_only_thread() -> bool {
    cfg!(target_os = "linux") && std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}
