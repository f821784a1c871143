//! libvmaf, built from source: VMAF scores of frames that are already in memory.
//!
//! Invariant: pictures are copied into libvmaf's own planes, in order, in pairs of one size and format.

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use ffmpeg_sys_next as ffi;
use vmaf_head_sys as vmaf;

use crate::av::frame::{Frame, pixel_format_value};
use crate::av::{AvError, OUT_OF_MEMORY, c_string, check, text};

/// One model at work on one pair of streams.
pub struct Vmaf {
    context: Context,
    model: Model,
    pairs: u32,
}

// SAFETY: context and model have no tie to the thread that made them, and one owner; libvmaf's threads serve only them.
unsafe impl Send for Vmaf {}

impl Vmaf {
    /// A built-in model (`vmaf_v0.6.1`, `vmaf_v0.6.1neg`, `vmaf_4k_v0.6.1`), extracting its features on `threads` threads.
    ///
    /// # Errors
    /// libvmaf has no such model, or is out of memory.
    pub fn open(model: &str, threads: u16) -> Result<Self, AvError> {
        let model = Model::load(model)?;
        let context = Context::open(threads)?;
        // SAFETY: both are live; the context keeps what it needs of the model, which outlives it here all the same.
        check(unsafe { vmaf::vmaf_use_features_from_model(context.0.as_ptr(), model.0.as_ptr()) })?;
        Ok(Vmaf { context, model, pairs: 0 })
    }

    /// Gives libvmaf its next pair.
    ///
    /// # Errors
    /// Frames that are not planar YUV or grey, or unlike those before.
    pub fn push(&mut self, reference: &Frame, distorted: &Frame) -> Result<(), AvError> {
        let (mut reference, mut distorted) = (Picture::of(reference)?, Picture::of(distorted)?);
        // SAFETY: all are live. libvmaf takes the pictures over, also when it fails, so they are forgotten below.
        let code = unsafe {
            vmaf::vmaf_read_pictures(self.context.0.as_ptr(), &raw mut reference.0, &raw mut distorted.0, self.pairs)
        };
        std::mem::forget((reference, distorted));
        self.pairs += 1;
        check(code).map(drop)
    }

    /// The score of every pair.
    ///
    /// # Errors
    /// A feature that could not be extracted.
    pub fn finish(self) -> Result<Vec<f64>, AvError> {
        let context = self.context.0.as_ptr();
        // SAFETY: live; two nulls mean that no more pictures come.
        check(unsafe { vmaf::vmaf_read_pictures(context, ptr::null_mut(), ptr::null_mut(), 0) })?;
        (0..self.pairs)
            .map(|pair| {
                let mut score = 0.0;
                // SAFETY: both are live, and every pair has been read.
                check(unsafe { vmaf::vmaf_score_at_index(context, self.model.0.as_ptr(), &raw mut score, pair) })?;
                Ok(score)
            })
            .collect()
    }
}

/// libvmaf's own version, for instance `3.2.0`.
#[must_use]
pub fn version() -> String {
    // SAFETY: a static string.
    unsafe { text(vmaf::vmaf_version()) }.unwrap_or_default()
}

struct Context(NonNull<vmaf::VmafContext>);

impl Context {
    fn open(threads: u16) -> Result<Self, AvError> {
        let configuration = vmaf::VmafConfiguration {
            log_level: vmaf::VmafLogLevel_VMAF_LOG_LEVEL_NONE,
            n_threads: u32::from(threads),
            n_subsample: 1,
            cpumask: 0,
            gpumask: 0,
        };
        let mut context = ptr::null_mut();
        // SAFETY: allocates and hands the context out.
        check(unsafe { vmaf::vmaf_init(&raw mut context, configuration) })?;
        NonNull::new(context).map(Context).ok_or(OUT_OF_MEMORY)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: owned, closed once; joins libvmaf's threads.
        unsafe { vmaf::vmaf_close(self.0.as_ptr()) };
    }
}

struct Model(NonNull<vmaf::VmafModel>);

impl Model {
    fn load(name: &str) -> Result<Self, AvError> {
        let name = c_string(name)?;
        let mut configuration = vmaf::VmafModelConfig { name: ptr::null(), flags: 0 };
        let mut model = ptr::null_mut();
        // SAFETY: the name is terminated; the configuration is copied, and a null name stands for libvmaf's own.
        check(unsafe { vmaf::vmaf_model_load(&raw mut model, &raw mut configuration, name.as_ptr()) })?;
        NonNull::new(model).map(Model).ok_or(OUT_OF_MEMORY)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once.
        unsafe { vmaf::vmaf_model_destroy(self.0.as_ptr()) };
    }
}

/// A picture in libvmaf's own planes.
struct Picture(vmaf::VmafPicture);

impl Picture {
    fn of(frame: &Frame) -> Result<Self, AvError> {
        let (format, depth) = layout(frame).ok_or(AvError::invalid())?;
        // SAFETY: all zeroes is an empty picture, which the next call fills.
        let mut picture: vmaf::VmafPicture = unsafe { std::mem::zeroed() };
        // SAFETY: the picture is ours to fill.
        check(unsafe { vmaf::vmaf_picture_alloc(&raw mut picture, format, depth, frame.width(), frame.height()) })?;
        let mut picture = Picture(picture);
        picture.copy(frame)?;
        Ok(picture)
    }

    fn copy(&mut self, frame: &Frame) -> Result<(), AvError> {
        let (mut plane, mut row) = (0, 0);
        let picture = &self.0;
        frame.for_each_row(|bytes| {
            // Planes follow each other; a grey picture, and one with alpha, end before the fourth.
            if plane < 3 && row == picture.h[plane] {
                (plane, row) = (plane + 1, 0);
            }
            if plane < 3 && !picture.data[plane].is_null() {
                let width = bytes.len().min(picture.stride[plane].unsigned_abs());
                // SAFETY: row is below the plane's height, and the width within its stride.
                unsafe {
                    let target = picture.data[plane].cast::<u8>().offset(picture.stride[plane] * row as isize);
                    target.copy_from_nonoverlapping(bytes.as_ptr(), width);
                }
            }
            row += 1;
        })
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        // SAFETY: owned, and given back once.
        unsafe { vmaf::vmaf_picture_unref(&raw mut self.0) };
    }
}

/// libvmaf's pixel format and bits per sample; `None` for what it does not take.
fn layout(frame: &Frame) -> Option<(vmaf::VmafPixelFormat, u32)> {
    let format = pixel_format_value(frame.raw().format);
    // SAFETY: a pure look-up; descriptors are static.
    let descriptor = unsafe { ffi::av_pix_fmt_desc_get(format).as_ref() }?;
    let flag = |flag: c_int| descriptor.flags & flag as u64 != 0;
    let planar = flag(ffi::AV_PIX_FMT_FLAG_PLANAR as c_int) || descriptor.nb_components == 1;
    if !planar || flag(ffi::AV_PIX_FMT_FLAG_RGB as c_int) || flag(ffi::AV_PIX_FMT_FLAG_BE as c_int) {
        return None;
    }
    // Semi-planar formats hold two components in one plane.
    if descriptor.nb_components >= 3 && descriptor.comp[2].plane != 2 {
        return None;
    }
    let kind = match (descriptor.nb_components, descriptor.log2_chroma_w, descriptor.log2_chroma_h) {
        (1, ..) => vmaf::VmafPixelFormat_VMAF_PIX_FMT_YUV400P,
        (_, 1, 1) => vmaf::VmafPixelFormat_VMAF_PIX_FMT_YUV420P,
        (_, 1, 0) => vmaf::VmafPixelFormat_VMAF_PIX_FMT_YUV422P,
        (_, 0, 0) => vmaf::VmafPixelFormat_VMAF_PIX_FMT_YUV444P,
        _ => return None,
    };
    u32::try_from(descriptor.comp[0].depth).ok().filter(|depth| (8..=16).contains(depth)).map(|depth| (kind, depth))
}
