//! Codec parameters: what a stream is, in libavcodec's words.

use std::ffi::c_int;
use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use crate::av::{AvError, OUT_OF_MEMORY, check};
use crate::media::StreamKind;

/// Codec parameters of our own.
pub(crate) struct CodecParameters(NonNull<ffi::AVCodecParameters>);

// SAFETY: plain data with one owner.
unsafe impl Send for CodecParameters {}
// SAFETY: through `&CodecParameters` the data is only read.
unsafe impl Sync for CodecParameters {}

impl CodecParameters {
    /// Parameters of nothing.
    pub(crate) fn new() -> Result<Self, AvError> {
        // SAFETY: allocates; null is out of memory.
        NonNull::new(unsafe { ffi::avcodec_parameters_alloc() }).map(CodecParameters).ok_or(OUT_OF_MEMORY)
    }

    /// # Safety
    /// `from` is live and not changed during the call.
    pub(crate) unsafe fn copy(from: *const ffi::AVCodecParameters) -> Result<Self, AvError> {
        let mut copy = CodecParameters::new()?;
        // SAFETY: both are live; everything inside is copied.
        check(unsafe { ffi::avcodec_parameters_copy(copy.as_mut_ptr(), from) })?;
        Ok(copy)
    }

    /// What the codec needs before its first packet.
    pub(crate) fn extradata(&self) -> &[u8] {
        let raw = self.get();
        if raw.extradata.is_null() || raw.extradata_size <= 0 {
            return &[];
        }
        // SAFETY: libav guarantees so many readable bytes for as long as the parameters live.
        unsafe { std::slice::from_raw_parts(raw.extradata, raw.extradata_size as usize) }
    }

    pub(crate) fn get(&self) -> &ffi::AVCodecParameters {
        // SAFETY: owned and non-null.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn get_mut(&mut self) -> &mut ffi::AVCodecParameters {
        // SAFETY: owned and non-null, and borrowed mutably.
        unsafe { self.0.as_mut() }
    }

    pub(crate) fn as_ptr(&self) -> *const ffi::AVCodecParameters {
        self.0.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut ffi::AVCodecParameters {
        self.0.as_ptr()
    }
}

impl Drop for CodecParameters {
    fn drop(&mut self) {
        let mut parameters = self.0.as_ptr();
        // SAFETY: owned, freed once.
        unsafe { ffi::avcodec_parameters_free(&raw mut parameters) };
    }
}

/// What a stream of this codec and libavformat's disposition bits carries.
pub(crate) fn kind_of(codec: &ffi::AVCodecParameters, disposition: c_int) -> StreamKind {
    match codec.codec_type {
        ffi::AVMediaType::AVMEDIA_TYPE_VIDEO if disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0 => {
            StreamKind::Cover
        }
        ffi::AVMediaType::AVMEDIA_TYPE_VIDEO => StreamKind::Video,
        ffi::AVMediaType::AVMEDIA_TYPE_AUDIO => StreamKind::Audio,
        ffi::AVMediaType::AVMEDIA_TYPE_SUBTITLE => StreamKind::Subtitle,
        ffi::AVMediaType::AVMEDIA_TYPE_ATTACHMENT => StreamKind::Attachment,
        _ => StreamKind::Data,
    }
}
