//! What pictures say of their colours, as the numbers that they are.
//!
//! Invariant: no such field is ever read as the enum that the bindings make of it. A file may say any number (Matroska's are
//! passed on as they stand), and a Rust enum with a number that it does not have is undefined behaviour.

use ffmpeg_sys_next as ffi;

/// Colours of a picture or a stream, in libav's numbers: all but range and location are those of ITU-T H.273.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Colours {
    pub(crate) range: u32,
    pub(crate) primaries: u32,
    pub(crate) transfer: u32,
    pub(crate) matrix: u32,
    /// Where the chroma samples are.
    chroma_location: u32,
}

impl Colours {
    /// What a frame says.
    pub(crate) fn of_frame(frame: &ffi::AVFrame) -> Self {
        // SAFETY: live fields of 32 bits.
        unsafe {
            Colours {
                range: number(&raw const frame.color_range),
                primaries: number(&raw const frame.color_primaries),
                transfer: number(&raw const frame.color_trc),
                matrix: number(&raw const frame.colorspace),
                chroma_location: number(&raw const frame.chroma_location),
            }
        }
    }

    /// What a stream says.
    pub(crate) fn of_stream(codec: &ffi::AVCodecParameters) -> Self {
        // SAFETY: live fields of 32 bits.
        unsafe {
            Colours {
                range: number(&raw const codec.color_range),
                primaries: number(&raw const codec.color_primaries),
                transfer: number(&raw const codec.color_trc),
                matrix: number(&raw const codec.color_space),
                chroma_location: number(&raw const codec.chroma_location),
            }
        }
    }

    /// Tells them to an encoder that is not yet open.
    pub(crate) fn tell_encoder(self, context: &mut ffi::AVCodecContext) {
        // SAFETY: live fields of 32 bits, borrowed mutably.
        unsafe {
            set(&raw mut context.color_range, self.range);
            set(&raw mut context.color_primaries, self.primaries);
            set(&raw mut context.color_trc, self.transfer);
            set(&raw mut context.colorspace, self.matrix);
            set(&raw mut context.chroma_sample_location, self.chroma_location);
        }
    }

    /// Tells them of a stream.
    pub(crate) fn tell_stream(self, codec: &mut ffi::AVCodecParameters) {
        // SAFETY: live fields of 32 bits, borrowed mutably.
        unsafe {
            set(&raw mut codec.color_range, self.range);
            set(&raw mut codec.color_primaries, self.primaries);
            set(&raw mut codec.color_trc, self.transfer);
            set(&raw mut codec.color_space, self.matrix);
            set(&raw mut codec.chroma_location, self.chroma_location);
        }
    }

    /// Tells matrix and range to the beginning of a filter graph.
    #[cfg(ffmpeg_7_0)]
    pub(crate) fn tell_source(self, source: &mut ffi::AVBufferSrcParameters) {
        // SAFETY: live fields of 32 bits, borrowed mutably.
        unsafe {
            set(&raw mut source.color_space, self.matrix);
            set(&raw mut source.color_range, self.range);
        }
    }

    /// Gives a frame another matrix and range.
    #[cfg(ffmpeg_7_0)]
    pub(crate) fn repaint(frame: &mut ffi::AVFrame, matrix: u32, range: u32) {
        // SAFETY: live fields of 32 bits, borrowed mutably.
        unsafe {
            set(&raw mut frame.colorspace, matrix);
            set(&raw mut frame.color_range, range);
        }
    }

    /// Whether the transfer is one of HDR: PQ or HLG.
    pub(crate) fn is_hdr(self) -> bool {
        use ffi::AVColorTransferCharacteristic::{AVCOL_TRC_ARIB_STD_B67, AVCOL_TRC_SMPTE2084};
        [AVCOL_TRC_SMPTE2084 as u32, AVCOL_TRC_ARIB_STD_B67 as u32].contains(&self.transfer)
    }
}

/// A field that the bindings take for one of an enum's values, as a number.
///
/// # Safety
/// `field` can be read and has 32 bits, which any value of them may fill.
pub(crate) unsafe fn number<T>(field: *const T) -> u32 {
    const { assert!(size_of::<T>() == size_of::<u32>(), "libav's enums have 32 bits") };
    // SAFETY: as the caller promises; never read as a `T`.
    unsafe { field.cast::<u32>().read() }
}

/// # Safety
/// `field` can be written, has 32 bits, and is only ever read by libav or through [`number`].
unsafe fn set<T>(field: *mut T, number: u32) {
    const { assert!(size_of::<T>() == size_of::<u32>(), "libav's enums have 32 bits") };
    // SAFETY: as the caller promises; never written as a `T`.
    unsafe { field.cast::<u32>().write(number) };
}
