//! Apple's calls, one method each; their order is [`crate::session::videotoolbox`]'s. Written against Apple's documentation
//! and checked by the compiler for both kinds of Mac; never run on one.
//!
//! Invariants: what the output callback points to outlives the session; a session is invalidated exactly once, and before
//! anything of it is released; nothing unwinds into VideoToolbox.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Once};

use objc2_core_foundation::{CFBoolean, CFData, CFDictionary, CFNumber, CFRetained, CFString, CFType, Type};
use objc2_core_media::{
    CMFormatDescription, CMSampleBuffer, CMTime, CMTimeFlags, CMTimeRange,
    kCMFormatDescriptionExtension_SampleDescriptionExtensionAtoms, kCMSampleAttachmentKey_NotSync, kCMTimeIndefinite,
    kCMTimeRangeInvalid, kCMVideoCodecType_H264, kCMVideoCodecType_HEVC,
};
use objc2_core_video::{
    CVColorPrimariesGetStringForIntegerCodePoint, CVPixelBuffer, CVPixelBufferGetBaseAddress,
    CVPixelBufferGetBaseAddressOfPlane, CVPixelBufferGetBytesPerRow, CVPixelBufferGetBytesPerRowOfPlane,
    CVPixelBufferGetHeight, CVPixelBufferGetHeightOfPlane, CVPixelBufferIsPlanar, CVPixelBufferLockBaseAddress,
    CVPixelBufferLockFlags, CVPixelBufferPool, CVPixelBufferUnlockBaseAddress,
    CVTransferFunctionGetStringForIntegerCodePoint, CVYCbCrMatrixGetStringForIntegerCodePoint,
    kCVImageBufferPixelAspectRatioHorizontalSpacingKey, kCVImageBufferPixelAspectRatioVerticalSpacingKey,
    kCVPixelBufferHeightKey, kCVPixelBufferIOSurfacePropertiesKey, kCVPixelBufferPixelFormatTypeKey,
    kCVPixelBufferWidthKey,
};
use objc2_video_toolbox as vt;
use objc2_video_toolbox::{
    VTCompressionSession, VTCompressionSessionOptionFlags, VTEncodeInfoFlags, VTMultiPassStorage,
    VTSessionCopySupportedPropertyDictionary, VTSessionSetProperty,
};

use crate::av::frame::Frame;
use crate::media::Rational;
use crate::plan::{Codec, Profile, Property};
use crate::session::videotoolbox::{
    CompressionSession, Emission, Invalidate, Outbox, Sample, Setup, Span, Status, Time,
};

/// A compression session of this Mac.
pub struct Native {
    owner: Arc<Owner>,
    /// What `VTSessionCopySupportedPropertyDictionary` gave.
    supported: CFRetained<CFDictionary>,
    storage: Option<CFRetained<VTMultiPassStorage>>,
}

// SAFETY: the owner is `Send`; the dictionary is never changed, the storage is only used through `&mut self`, and reference
// counts of Core Foundation are atomic.
unsafe impl Send for Native {}

/// The session, and what its callback points to: released in this order.
struct Owner {
    session: CFRetained<VTCompressionSession>,
    #[expect(dead_code, reason = "the callback reads it, through the pointer that the session was created with")]
    outbox: Arc<Outbox>,
    invalidated: Once,
}

// SAFETY: reference counts are atomic. Of the session's calls only `VTCompressionSessionInvalidate` is made through a shared
// owner; Apple documents it as the way to interrupt an `EndPass`, so from another thread. All others are `Native`'s, which
// has one user at a time.
unsafe impl Send for Owner {}
// SAFETY: as above.
unsafe impl Sync for Owner {}

impl Native {
    /// `VTCompressionSessionCreate`; what it encodes is put into the outbox, from any thread.
    ///
    /// # Errors
    /// VideoToolbox's own status: no encoder of this codec, or none free.
    pub fn create(setup: &Setup, outbox: Arc<Outbox>) -> Result<Self, Status> {
        let codec = match setup.codec {
            Codec::H264 => kCMVideoCodecType_H264,
            Codec::Hevc => kCMVideoCodecType_HEVC,
        };
        let (width, height) = (setup.width as i32, setup.height as i32);
        // SAFETY: constants of the framework.
        let hardware = unsafe { vt::kVTVideoEncoderSpecification_EnableHardwareAcceleratedVideoEncoder };
        let wanted = dictionary(&[(hardware, CFBoolean::new(true))]);
        let source = source_attributes(setup);
        let mut session = ptr::null_mut();
        // SAFETY: both dictionaries hold what their keys ask for; the callback is `emitted` below, and its reference stays
        // valid because the owner releases the outbox after the session; `session` is written before it is read.
        check(unsafe {
            VTCompressionSession::create(
                None,
                width,
                height,
                codec,
                Some(&wanted),
                Some(&source),
                None,
                Some(emitted),
                Arc::as_ptr(&outbox).cast_mut().cast(),
                NonNull::from(&mut session),
            )
        })?;
        // SAFETY: a session by the create rule: ours to release.
        let session = unsafe { owned(session) }?;
        let owner = Arc::new(Owner { session, outbox, invalidated: Once::new() });
        let mut supported = ptr::null();
        // SAFETY: the session is live; the dictionary is written before it is read.
        check(unsafe { VTSessionCopySupportedPropertyDictionary(&owner.session, NonNull::from(&mut supported)) })?;
        // SAFETY: a dictionary by the copy rule: ours to release.
        let supported = unsafe { owned(supported.cast_mut()) }?;
        Ok(Native { owner, supported, storage: None })
    }

    fn session(&self) -> &VTCompressionSession {
        &self.owner.session
    }

    /// A buffer of the session's own pool with the frame's pixels.
    fn pixel_buffer(&self, frame: &Frame) -> Result<CFRetained<CVPixelBuffer>, Status> {
        // SAFETY: the session is live.
        let pool = unsafe { self.session().pixel_buffer_pool() }.ok_or(Status::INVALID_SESSION)?;
        let mut buffer = ptr::null_mut();
        // SAFETY: the pool is live; the buffer is written before it is read.
        check(unsafe { CVPixelBufferPool::create_pixel_buffer(None, &pool, NonNull::from(&mut buffer)) })?;
        // SAFETY: a buffer by the create rule: ours to release.
        let buffer = unsafe { owned(buffer) }?;
        fill(&buffer, frame)?;
        Ok(buffer)
    }
}

impl CompressionSession for Native {
    fn supports(&self, property: &Property) -> bool {
        // SAFETY: the keys of this dictionary are strings, by Apple's documentation.
        unsafe { self.supported.cast_unchecked::<CFString, CFType>() }.contains_key(&key_of(property))
    }

    fn create_storage(&mut self) -> Result<(), Status> {
        let mut storage = ptr::null_mut();
        // SAFETY: no file is named, so VideoToolbox takes a temporary one and deletes it; the time range is a hint, and this
        // constant says that there is none; `storage` is written before it is read.
        check(unsafe {
            VTMultiPassStorage::create(None, None, kCMTimeRangeInvalid, None, NonNull::from(&mut storage))
        })?;
        // SAFETY: a storage by the create rule: ours to release.
        self.storage = Some(unsafe { owned(storage) }?);
        Ok(())
    }

    fn set(&mut self, property: &Property) -> Result<(), Status> {
        let value = value_of(property, self.storage.as_deref())?;
        // SAFETY: the session is live, and the value is of the type that Apple documents for the key.
        check(unsafe { VTSessionSetProperty(self.session(), &key_of(property), Some(&value)) })
    }

    fn prepare(&mut self) -> Result<(), Status> {
        // SAFETY: the session is live.
        check(unsafe { self.session().prepare_to_encode_frames() })
    }

    fn begin_pass(&mut self, is_last: bool) -> Result<(), Status> {
        let flags = if is_last {
            VTCompressionSessionOptionFlags::BeginFinalPass
        } else {
            VTCompressionSessionOptionFlags::empty()
        };
        // SAFETY: the session is live; the reserved pointer must be null.
        check(unsafe { self.session().begin_pass(flags, ptr::null_mut()) })
    }

    fn encode_frame(&mut self, frame: &Frame, pts: Time, duration: Time) -> Result<(), Status> {
        let buffer = self.pixel_buffer(frame)?;
        // VideoToolbox hands the reference back with the coded frame, whatever it does to the times.
        let reference = ptr::without_provenance_mut(pts.value as usize);
        // SAFETY: the session is live and retains the buffer, which nobody changes any more; the reference is a number and
        // never followed; the flags are not asked for.
        check(unsafe {
            self.session().encode_frame(&buffer, numeric(pts), numeric(duration), None, reference, ptr::null_mut())
        })
    }

    fn complete_frames(&mut self) -> Result<(), Status> {
        // SAFETY: the session is live; this constant is not numeric, which means all frames.
        check(unsafe { self.session().complete_frames(kCMTimeIndefinite) })
    }

    fn end_pass(&mut self, evaluate: bool) -> Result<bool, Status> {
        let mut further = 0;
        let asked = if evaluate { &raw mut further } else { ptr::null_mut() };
        // SAFETY: the session is live; null says that nobody wants another pass; the reserved pointer must be null.
        check(unsafe { self.session().end_pass(asked, ptr::null_mut()) })?;
        Ok(further != 0)
    }

    fn time_ranges_for_next_pass(
        &mut self,
        read: &mut dyn FnMut(&mut dyn Iterator<Item = Span>),
    ) -> Result<(), Status> {
        let (mut count, mut ranges) = (0, ptr::null());
        // SAFETY: the session is live; both are written before they are read.
        check(unsafe {
            self.session().time_ranges_for_next_pass(NonNull::from(&mut count), NonNull::from(&mut ranges))
        })?;
        let ranges: &[CMTimeRange] = if ranges.is_null() || count <= 0 {
            &[]
        } else {
            // SAFETY: an array of that length which belongs to the session; it is valid until the next `EndPass`, which
            // `&mut self` keeps away, and until the session is invalidated, which the caller of this method does.
            unsafe { slice::from_raw_parts(ranges, count as usize) }
        };
        read(&mut ranges.iter().map(|range| Span { start: time(range.start), duration: time(range.duration) }));
        Ok(())
    }

    fn invalidation(&self) -> Arc<dyn Invalidate> {
        self.owner.clone()
    }

    fn close_storage(&mut self) -> Result<(), Status> {
        let Some(storage) = self.storage.take() else { return Ok(()) };
        // SAFETY: the storage is live; it is released next, as it must be all the same.
        check(unsafe { storage.close() })
    }
}

impl Invalidate for Owner {
    fn invalidate(&self) {
        // SAFETY: the session is live while its owner is.
        self.invalidated.call_once(|| unsafe { self.session.invalidate() });
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.invalidate();
    }
}

/// The output callback: copies what was coded into the outbox.
unsafe extern "C-unwind" fn emitted(
    outbox: *mut c_void,
    pts: *mut c_void,
    status: i32,
    flags: VTEncodeInfoFlags,
    sample: *mut CMSampleBuffer,
) {
    // SAFETY: the owner keeps the outbox until the session is invalidated, after which nothing is emitted.
    let outbox = unsafe { &*outbox.cast::<Outbox>() };
    let read = || {
        check(status)?;
        if flags.contains(VTEncodeInfoFlags::FrameDropped) {
            return Ok(None);
        }
        // SAFETY: null, or a sample that lives through this call.
        let Some(sample) = (unsafe { sample.as_ref() }) else { return Ok(None) };
        copied(sample).map(Some)
    };
    let sample = catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(Status::MALFUNCTION));
    outbox.put(Emission { pts: pts.addr() as i64, sample });
}

/// A coded frame, copied out of VideoToolbox's memory.
fn copied(sample: &CMSampleBuffer) -> Result<Sample, Status> {
    // SAFETY: the sample is live.
    let block = unsafe { sample.data_buffer() }.ok_or(Status::MALFUNCTION)?;
    // SAFETY: the block is live.
    let mut data = vec![0; unsafe { block.data_length() }];
    let into = NonNull::from(data.as_mut_slice()).cast();
    // SAFETY: the destination has room for the whole block, which need not be in one piece.
    check(unsafe { block.copy_data_bytes(0, data.len(), into) })?;
    // SAFETY: the sample is live.
    let format = unsafe { sample.format_description() }.ok_or(Status::MALFUNCTION)?;
    Ok(Sample { data, headers: headers(&format).ok_or(Status::MALFUNCTION)?, is_key: !is_not_sync(sample) })
}

/// The parameter sets, as the box of an MP4 has them: `avcC` or `hvcC`.
fn headers(format: &CMFormatDescription) -> Option<Vec<u8>> {
    // SAFETY: the description is live, and the key a constant of the framework.
    let atoms = unsafe { format.extension(kCMFormatDescriptionExtension_SampleDescriptionExtensionAtoms) }?;
    let atoms = atoms.downcast_ref::<CFDictionary>()?;
    // SAFETY: the keys are the boxes' names, by Apple's documentation; values are looked at before they are used.
    let atoms = unsafe { atoms.cast_unchecked::<CFString, CFType>() };
    let atom = ["avcC", "hvcC"].into_iter().find_map(|name| atoms.get(&CFString::from_static_str(name)))?;
    Some(atom.downcast_ref::<CFData>()?.to_vec())
}

/// Whether other frames are needed to decode it; without a word it is not so.
fn is_not_sync(sample: &CMSampleBuffer) -> bool {
    // SAFETY: the sample is live; attachments are not made where there are none.
    let Some(attachments) = (unsafe { sample.sample_attachments_array(false) }) else { return false };
    // SAFETY: one dictionary for each sample, by Apple's documentation, with strings as keys.
    let attachments = unsafe { attachments.cast_unchecked::<CFDictionary<CFString, CFType>>() };
    // SAFETY: a constant of the framework.
    let key = unsafe { kCMSampleAttachmentKey_NotSync };
    let value = attachments.get(0).and_then(|of_sample| of_sample.get(key));
    value.is_some_and(|value| value.downcast_ref::<CFBoolean>().is_some_and(CFBoolean::as_bool))
}

/// Writes the frame's rows into a buffer just made.
fn fill(buffer: &CVPixelBuffer, frame: &Frame) -> Result<(), Status> {
    // SAFETY: the buffer is live; no flag means that it will be written.
    check(unsafe { CVPixelBufferLockBaseAddress(buffer, CVPixelBufferLockFlags::empty()) })?;
    let planar = CVPixelBufferIsPlanar(buffer);
    let mut fits = true;
    let visited = frame.for_each_row_of_plane(|plane, row, bytes| {
        let (base, stride, rows) = if planar {
            (
                CVPixelBufferGetBaseAddressOfPlane(buffer, plane),
                CVPixelBufferGetBytesPerRowOfPlane(buffer, plane),
                CVPixelBufferGetHeightOfPlane(buffer, plane),
            )
        } else {
            (CVPixelBufferGetBaseAddress(buffer), CVPixelBufferGetBytesPerRow(buffer), CVPixelBufferGetHeight(buffer))
        };
        if base.is_null() || bytes.len() > stride || row >= rows {
            fits = false;
            return;
        }
        // SAFETY: the plane has `rows` rows that are `stride` bytes apart, and is locked for us alone.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), base.cast::<u8>().add(row * stride), bytes.len()) };
    });
    // SAFETY: locked above, with the same flags.
    check(unsafe { CVPixelBufferUnlockBaseAddress(buffer, CVPixelBufferLockFlags::empty()) })?;
    if fits && visited.is_ok() { Ok(()) } else { Err(Status::PARAMETER) }
}

/// What the buffers of the session's pool are to be.
fn source_attributes(setup: &Setup) -> CFRetained<CFDictionary> {
    let number = |value: u32| CFNumber::new_i64(i64::from(value));
    let (format, width, height) = (number(setup.pixels), number(setup.width), number(setup.height));
    let shared = CFDictionary::<CFString, CFType>::empty();
    // SAFETY: constants of the framework.
    unsafe {
        dictionary(&[
            (kCVPixelBufferPixelFormatTypeKey, &format),
            (kCVPixelBufferWidthKey, &width),
            (kCVPixelBufferHeightKey, &height),
            (kCVPixelBufferIOSurfacePropertiesKey, shared.as_opaque()),
        ])
    }
}

/// Apple's key of a property.
fn key_of(property: &Property) -> CFRetained<CFString> {
    // SAFETY: constants of the framework, the youngest of macOS 10.14.
    let key = unsafe {
        match property {
            // Of macOS 11: its constant would keep the program from starting on an older one.
            Property::PrioritizeSpeed(_) => return CFString::from_static_str(property.name()),
            Property::MultiPassStorage => vt::kVTCompressionPropertyKey_MultiPassStorage,
            Property::RealTime(_) => vt::kVTCompressionPropertyKey_RealTime,
            Property::AverageBitRate(_) => vt::kVTCompressionPropertyKey_AverageBitRate,
            Property::ExpectedFrameRate(_) => vt::kVTCompressionPropertyKey_ExpectedFrameRate,
            Property::MaxKeyFrameInterval(_) => vt::kVTCompressionPropertyKey_MaxKeyFrameInterval,
            Property::AllowFrameReordering(_) => vt::kVTCompressionPropertyKey_AllowFrameReordering,
            Property::AllowOpenGop(_) => vt::kVTCompressionPropertyKey_AllowOpenGOP,
            Property::ProfileLevel(_) => vt::kVTCompressionPropertyKey_ProfileLevel,
            Property::PixelAspectRatio(_) => vt::kVTCompressionPropertyKey_PixelAspectRatio,
            Property::ColorPrimaries(_) => vt::kVTCompressionPropertyKey_ColorPrimaries,
            Property::TransferFunction(_) => vt::kVTCompressionPropertyKey_TransferFunction,
            Property::YCbCrMatrix(_) => vt::kVTCompressionPropertyKey_YCbCrMatrix,
            Property::MasteringDisplay(_) => vt::kVTCompressionPropertyKey_MasteringDisplayColorVolume,
            Property::ContentLight(_) => vt::kVTCompressionPropertyKey_ContentLightLevelInfo,
        }
    };
    key.retain()
}

/// The value, of the type that Apple documents for the key.
fn value_of(property: &Property, storage: Option<&VTMultiPassStorage>) -> Result<CFRetained<CFType>, Status> {
    let boolean = |value| CFBoolean::new(value).retain().into();
    let named = |name: Option<CFRetained<CFString>>| name.map(Into::into).ok_or(Status::PARAMETER);
    Ok(match *property {
        Property::MultiPassStorage => storage.ok_or(Status::PARAMETER)?.retain().into(),
        Property::RealTime(on)
        | Property::AllowFrameReordering(on)
        | Property::AllowOpenGop(on)
        | Property::PrioritizeSpeed(on) => boolean(on),
        Property::AverageBitRate(bps) => CFNumber::new_i64(bps).into(),
        Property::ExpectedFrameRate(fps) => CFNumber::new_f64(fps).into(),
        Property::MaxKeyFrameInterval(frames) => CFNumber::new_i32(frames).into(),
        Property::ProfileLevel(profile) => profile_level(profile).retain().into(),
        Property::PixelAspectRatio(shape) => pixel_shape(shape).into(),
        Property::ColorPrimaries(code) => named(CVColorPrimariesGetStringForIntegerCodePoint(code))?,
        Property::TransferFunction(code) => named(CVTransferFunctionGetStringForIntegerCodePoint(code))?,
        Property::YCbCrMatrix(code) => named(CVYCbCrMatrixGetStringForIntegerCodePoint(code))?,
        Property::MasteringDisplay(payload) => CFData::from_bytes(&payload).into(),
        Property::ContentLight(payload) => CFData::from_bytes(&payload).into(),
    })
}

fn profile_level(profile: Profile) -> &'static CFString {
    // SAFETY: constants of the framework.
    unsafe {
        match profile {
            Profile::Baseline => vt::kVTProfileLevel_H264_Baseline_AutoLevel,
            Profile::Main(Codec::H264) => vt::kVTProfileLevel_H264_Main_AutoLevel,
            Profile::High => vt::kVTProfileLevel_H264_High_AutoLevel,
            Profile::Main(Codec::Hevc) => vt::kVTProfileLevel_HEVC_Main_AutoLevel,
            Profile::Main10 => vt::kVTProfileLevel_HEVC_Main10_AutoLevel,
        }
    }
}

fn pixel_shape(shape: Rational) -> CFRetained<CFDictionary> {
    let (across, down) = (CFNumber::new_i32(shape.num), CFNumber::new_i32(shape.den));
    // SAFETY: constants of the framework.
    unsafe {
        dictionary(&[
            (kCVImageBufferPixelAspectRatioHorizontalSpacingKey, &across),
            (kCVImageBufferPixelAspectRatioVerticalSpacingKey, &down),
        ])
    }
}

fn dictionary(entries: &[(&CFString, &CFType)]) -> CFRetained<CFDictionary> {
    let (keys, values): (Vec<&CFString>, Vec<&CFType>) = entries.iter().copied().unzip();
    let dictionary = CFDictionary::<CFString, CFType>::from_slices(&keys, &values);
    // SAFETY: strings and any values are what an untyped dictionary may hold.
    unsafe { CFRetained::cast_unchecked(dictionary) }
}

fn numeric(time: Time) -> CMTime {
    CMTime { value: time.value, timescale: time.scale, flags: CMTimeFlags::Valid, epoch: 0 }
}

fn time(time: CMTime) -> Time {
    let CMTime { value, timescale, flags, .. } = time;
    let is_numeric = flags & (CMTimeFlags::Valid | CMTimeFlags::ImpliedValueFlagsMask) == CMTimeFlags::Valid;
    Time { value, scale: if is_numeric { timescale } else { 0 } }
}

/// Takes over what a function created or copied for its caller.
///
/// # Safety
/// `object` is null, or a reference that is ours to release.
unsafe fn owned<T: Type>(object: *mut T) -> Result<CFRetained<T>, Status> {
    // SAFETY: as the caller promises.
    NonNull::new(object).map(|object| unsafe { CFRetained::from_raw(object) }).ok_or(Status::MALFUNCTION)
}

fn check(status: i32) -> Result<(), Status> {
    if status == 0 { Ok(()) } else { Err(Status(status)) }
}
