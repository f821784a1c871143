//! Frames: decoded pictures (or sound), shared by reference and never written after decoding.

use std::ffi::{c_char, c_int, c_uint};
use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;
use xxhash_rust::xxh3::Xxh3;

use crate::av::colour::Colours;
use crate::av::packet::known;
use crate::av::{AvError, OUT_OF_MEMORY, check, positive, text};
use crate::media::Rational;
use crate::plan::{Hdr10Data, MasteringDisplay};

/// A decoded frame: a shell of properties over reference-counted buffers. Pixels are never written after decoding.
pub struct Frame(NonNull<ffi::AVFrame>);

// SAFETY: buffers are reference-counted with atomic counts, and the shell has one owner.
unsafe impl Send for Frame {}
// SAFETY: through `&Frame` the shell is only read and counts are only raised; nothing here hands out `&mut` pixels.
unsafe impl Sync for Frame {}

impl Frame {
    /// A frame without buffers.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new() -> Result<Self, AvError> {
        // SAFETY: allocates; null is out of memory.
        NonNull::new(unsafe { ffi::av_frame_alloc() }).map(Frame).ok_or(OUT_OF_MEMORY)
    }

    /// A frame of this size and pixel format with planes of its own, whose every byte is 0.
    ///
    /// # Errors
    /// An unknown pixel format, or out of memory.
    pub fn allocate(width: u32, height: u32, pixel_format: &str) -> Result<Self, AvError> {
        let mut frame = Frame::new()?;
        let raw = frame.raw_mut();
        raw.width = width as c_int;
        raw.height = height as c_int;
        raw.format = pixel_format_number(pixel_format)?;
        // SAFETY: size and format are set; libav allocates buffers of its own alignment.
        check(unsafe { ffi::av_frame_get_buffer(frame.as_mut_ptr(), 0) })?;
        for buffer in frame.raw().buf.iter().filter(|buffer| !buffer.is_null()) {
            // SAFETY: a non-null entry of `buf` is a live buffer of `size` bytes, just made and nobody else's.
            unsafe { std::ptr::write_bytes((**buffer).data, 0, (**buffer).size) };
        }
        Ok(frame)
    }

    /// Another shell over the same buffers and side data: the only "copy" of a frame there is.
    ///
    /// # Errors
    /// Out of memory.
    pub fn share(&self) -> Result<Self, AvError> {
        let mut shared = Frame::new()?;
        // SAFETY: both are owned; the source is only read and libav takes its own references.
        check(unsafe { ffi::av_frame_ref(shared.as_mut_ptr(), self.as_ptr()) })?;
        Ok(shared)
    }

    /// Properties and side data of this frame without its pixels: what a spilled frame keeps in memory.
    ///
    /// # Errors
    /// Out of memory.
    pub fn properties(&self) -> Result<Self, AvError> {
        let mut shell = Frame::new()?;
        // SAFETY: both are owned; size and format are not among the copied properties, so they follow by hand.
        check(unsafe { ffi::av_frame_copy_props(shell.as_mut_ptr(), self.as_ptr()) })?;
        let (width, height, format) = (self.raw().width, self.raw().height, self.raw().format);
        let raw = shell.raw_mut();
        (raw.width, raw.height, raw.format) = (width, height, format);
        Ok(shell)
    }

    /// Fresh planes under a copy of these properties, to be filled before anybody reads them: how a spilled frame comes back.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn with_fresh_planes(&self) -> Result<Self, AvError> {
        let mut frame = self.properties()?;
        // SAFETY: size and format are set, buffers are not.
        check(unsafe { ffi::av_frame_get_buffer(frame.as_mut_ptr(), 0) })?;
        Ok(frame)
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.raw().width.max(0) as u32
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.raw().height.max(0) as u32
    }

    /// libavutil's name of the pixel format.
    #[must_use]
    pub fn pixel_format(&self) -> String {
        pixel_format_name(self.raw().format)
    }

    /// Presentation time in ticks of the time base its holder knows; `None` where unknown.
    #[must_use]
    pub fn pts(&self) -> Option<i64> {
        known(self.raw().pts)
    }

    /// Sets the presentation time in ticks.
    pub fn set_pts(&mut self, pts: i64) {
        self.raw_mut().pts = pts;
    }

    /// Shape of a pixel, width to height; `None` where unknown.
    #[must_use]
    pub fn sample_aspect_ratio(&self) -> Option<Rational> {
        positive(self.raw().sample_aspect_ratio)
    }

    /// Length in ticks; `None` where unknown.
    #[must_use]
    pub fn duration(&self) -> Option<i64> {
        #[cfg(ffmpeg_6_1)]
        let ticks = self.raw().duration;
        #[cfg(not(ffmpeg_6_1))]
        let ticks = self.raw().pkt_duration;
        (ticks > 0).then_some(ticks)
    }

    /// Sound: samples per channel.
    #[must_use]
    pub fn samples(&self) -> u32 {
        self.raw().nb_samples.max(0) as u32
    }

    /// Sound: samples per second.
    #[must_use]
    pub fn sample_rate(&self) -> u32 {
        self.raw().sample_rate.max(0) as u32
    }

    /// Sound: libavutil's name of the channel layout, for instance `5.1(side)`.
    #[must_use]
    pub fn channel_layout(&self) -> String {
        // SAFETY: the layout belongs to the frame and is only read.
        unsafe { channel_layout_name(&raw const self.raw().ch_layout) }
    }

    /// What a filter noted on the frame under this key, for instance `lavfi.psnr.psnr_avg`.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<String> {
        let key = crate::av::c_string(key).ok()?;
        // SAFETY: the dictionary belongs to the frame (null is an empty one); the key is terminated.
        let entry = unsafe { ffi::av_dict_get(self.raw().metadata, key.as_ptr(), std::ptr::null(), 0).as_ref() }?;
        // SAFETY: values of a dictionary are terminated strings.
        unsafe { text(entry.value) }
    }

    /// Range of the sample values, where the stream says it: `tv` or `pc`.
    #[must_use]
    pub fn color_range(&self) -> Option<&'static str> {
        range_name(Colours::of_frame(self.raw()).range)
    }

    /// Primaries, transfer function and matrix as ITU-T H.273 numbers them; `None` where the stream does not say.
    #[must_use]
    pub fn colour_codes(&self) -> [Option<i32>; 3] {
        let Colours { primaries, transfer, matrix, .. } = Colours::of_frame(self.raw());
        let unspecified = ffi::AVColorPrimaries::AVCOL_PRI_UNSPECIFIED as i32;
        [primaries, transfer, matrix].map(|code| Some(code as i32).filter(|code| *code > 0 && *code != unspecified))
    }

    /// Lets go of buffers and side data, so that the shell can be filled again.
    pub fn clear(&mut self) {
        // SAFETY: owned and non-null; an empty frame is allowed.
        unsafe { ffi::av_frame_unref(self.as_mut_ptr()) };
    }

    /// Forgets the picture type that a decoder left, which encoders would otherwise repeat: every frame of an intra codec
    /// would become a key frame. With `key`, asks for a key frame.
    pub fn set_picture_type(&mut self, key: bool) {
        self.raw_mut().pict_type =
            if key { ffi::AVPictureType::AV_PICTURE_TYPE_I } else { ffi::AVPictureType::AV_PICTURE_TYPE_NONE };
    }

    /// How the picture was scanned, as the container is told it: libav's `AVFieldOrder`.
    pub(crate) fn field_order(&self) -> ffi::AVFieldOrder {
        match (self.is_interlaced(), self.is_top_field_first()) {
            (false, _) => ffi::AVFieldOrder::AV_FIELD_PROGRESSIVE,
            (true, true) => ffi::AVFieldOrder::AV_FIELD_TB,
            (true, false) => ffi::AVFieldOrder::AV_FIELD_BT,
        }
    }

    /// Whether the picture is two fields.
    #[must_use]
    pub fn is_interlaced(&self) -> bool {
        #[cfg(ffmpeg_6_1)]
        return self.raw().flags & ffi::AV_FRAME_FLAG_INTERLACED as c_int != 0;
        #[cfg(not(ffmpeg_6_1))]
        return self.raw().interlaced_frame != 0;
    }

    /// Whether the stream that it was decoded from has a key frame here.
    #[must_use]
    pub fn is_key(&self) -> bool {
        #[cfg(ffmpeg_6_1)]
        return self.raw().flags & ffi::AV_FRAME_FLAG_KEY as c_int != 0;
        #[cfg(not(ffmpeg_6_1))]
        return self.raw().key_frame != 0;
    }

    /// Whether the upper field comes first.
    #[must_use]
    pub fn is_top_field_first(&self) -> bool {
        #[cfg(ffmpeg_6_1)]
        return self.raw().flags & ffi::AV_FRAME_FLAG_TOP_FIELD_FIRST as c_int != 0;
        #[cfg(not(ffmpeg_6_1))]
        return self.raw().top_field_first != 0;
    }

    /// The transfer characteristics, as ITU-T H.273 numbers them: 16 is PQ, 18 HLG, 2 unspecified.
    #[must_use]
    pub fn transfer(&self) -> u32 {
        Colours::of_frame(self.raw()).transfer
    }

    /// HDR10 static metadata, where the frame carries any.
    #[must_use]
    pub fn hdr10(&self) -> Option<Hdr10Data> {
        let kind = ffi::AVFrameSideDataType::AV_FRAME_DATA_MASTERING_DISPLAY_METADATA;
        // SAFETY: libav's side data of this kind is this struct.
        let display = unsafe { self.side_data::<LavMasteringDisplay>(kind) };
        let display = display.filter(|display| display.has_primaries != 0 && display.has_luminance != 0).map(mastering);
        let kind = ffi::AVFrameSideDataType::AV_FRAME_DATA_CONTENT_LIGHT_LEVEL;
        // SAFETY: as above.
        let light = unsafe { self.side_data::<LavContentLight>(kind) };
        let light = light.map(|light| (whole_u16(light.max_cll), whole_u16(light.max_fall)));
        (display.is_some() || light.is_some()).then_some(Hdr10Data { display, light })
    }

    /// Side data of one kind.
    ///
    /// # Safety
    /// `T` is the struct that libav keeps in side data of this kind.
    unsafe fn side_data<T>(&self, kind: ffi::AVFrameSideDataType) -> Option<&T> {
        // SAFETY: the frame is owned; null where there is none of the kind.
        let found = unsafe { ffi::av_frame_get_side_data(self.as_ptr(), kind).as_ref() }?;
        // SAFETY: libav allocates the data with the alignment and at least the size of the kind's struct.
        (found.size >= size_of::<T>()).then(|| unsafe { &*found.data.cast::<T>() })
    }

    /// Bits per sample of the first component; 0 for an unknown format.
    pub(crate) fn bit_depth(&self) -> c_int {
        // SAFETY: a pure look-up; null for numbers that are no format.
        unsafe { ffi::av_pix_fmt_desc_get(pixel_format_value(self.raw().format)).as_ref() }
            .map_or(0, |descriptor| descriptor.comp[0].depth)
    }

    /// Gives a format that says "full range" by its name (`yuvj420p`) its plain one, with the range beside it: the same samples,
    /// as encoders are given them and as newer decoders spell them.
    pub(crate) fn spell_range_apart(&mut self) {
        let name = self.pixel_format();
        let plain = name.strip_prefix("yuvj").and_then(|rest| pixel_format_number(&format!("yuv{rest}")).ok());
        if let Some(plain) = plain {
            let raw = self.raw_mut();
            raw.format = plain;
            raw.color_range = ffi::AVColorRange::AVCOL_RANGE_JPEG;
        }
    }

    /// Sets the length in ticks, where libav's frames carry one that encoders read (from FFmpeg 6 on).
    pub fn set_duration(&mut self, ticks: i64) {
        #[cfg(ffmpeg_6_1)]
        {
            self.raw_mut().duration = ticks;
        }
        #[cfg(not(ffmpeg_6_1))]
        {
            self.raw_mut().pkt_duration = ticks;
        }
    }

    /// Bytes of all buffers the frame holds on to, padding included: what keeping it costs.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let buffers = self.raw().buf.iter().filter(|buffer| !buffer.is_null());
        // SAFETY: a non-null entry of `buf` is a live AVBufferRef owned by the frame.
        buffers.map(|buffer| unsafe { (**buffer).size } as u64).sum()
    }

    /// The rows of every plane, top down, without padding: `visit` gets one row of one plane at a time.
    ///
    /// # Errors
    /// A pixel format without planes in memory (hardware surfaces).
    pub fn for_each_row(&self, mut visit: impl FnMut(&[u8])) -> Result<(), AvError> {
        self.for_each_row_of_plane(|_, _, row| visit(row))
    }

    /// The same with the number of the plane and that of the row in it, both from 0.
    ///
    /// # Errors
    /// As for [`Frame::for_each_row`].
    pub fn for_each_row_of_plane(&self, mut visit: impl FnMut(usize, usize, &[u8])) -> Result<(), AvError> {
        for (plane, row_bytes, rows) in self.layout()? {
            for row in 0..rows {
                // SAFETY: `layout` gives only rows that lie inside the plane's buffer.
                visit(plane, row, unsafe { std::slice::from_raw_parts(self.row_pointer(plane, row), row_bytes) });
            }
        }
        Ok(())
    }

    /// Writes the rows of every plane of a frame just made: `fill` gets one row of one plane at a time.
    ///
    /// # Errors
    /// A frame whose buffers are shared already, one without planes in memory, or the error of `fill`.
    pub fn fill_rows<E: From<AvError>>(&mut self, mut fill: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<(), E> {
        self.each_row_mut(|_, _, row| fill(row))
    }

    /// Draws a frame just made: `draw` gets the number of a plane, that of a row in it from the top, and the row's bytes.
    ///
    /// # Errors
    /// A frame whose buffers are shared already, or one without planes in memory.
    pub fn draw(&mut self, mut draw: impl FnMut(usize, usize, &mut [u8])) -> Result<(), AvError> {
        self.each_row_mut(|plane, row, bytes| {
            draw(plane, row, bytes);
            Ok(())
        })
    }

    fn each_row_mut<E: From<AvError>>(
        &mut self,
        mut visit: impl FnMut(usize, usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // SAFETY: the frame is owned; the call only reads reference counts.
        if unsafe { ffi::av_frame_is_writable(self.as_mut_ptr()) } == 0 {
            return Err(AvError(ffi::AVERROR(ffi::EBUSY)).into());
        }
        for (plane, row_bytes, rows) in self.layout()? {
            for row in 0..rows {
                // SAFETY: inside the plane's buffer, and nobody else holds the buffer.
                let bytes = unsafe { std::slice::from_raw_parts_mut(self.row_pointer(plane, row), row_bytes) };
                visit(plane, row, bytes)?;
            }
        }
        Ok(())
    }

    /// A hash of size, format and every visible pixel; equal for equal pictures, whatever their padding.
    ///
    /// # Errors
    /// A pixel format without planes in memory.
    pub fn hash(&self) -> Result<u64, AvError> {
        let mut hash = Xxh3::new();
        for number in [self.raw().width, self.raw().height, self.raw().format] {
            hash.update(&number.to_le_bytes());
        }
        self.for_each_row(|row| hash.update(row))?;
        Ok(hash.digest())
    }

    /// (plane, visible bytes of a row, rows) of each plane.
    fn layout(&self) -> Result<Vec<(usize, usize, usize)>, AvError> {
        let raw = self.raw();
        let invalid = AvError::invalid();
        // SAFETY: a pure look-up; null for numbers that are no format.
        let descriptor = unsafe { ffi::av_pix_fmt_desc_get(pixel_format_value(raw.format)) };
        // SAFETY: non-null descriptors are static tables.
        let descriptor = unsafe { descriptor.as_ref() }.ok_or(invalid)?;
        // SAFETY: a pure look-up.
        let planes = check(unsafe { ffi::av_pix_fmt_count_planes(pixel_format_value(raw.format)) })?;
        if descriptor.flags & u64::from(ffi::AV_PIX_FMT_FLAG_HWACCEL as u32) != 0 {
            return Err(invalid);
        }
        (0..planes)
            .map(|plane| {
                // SAFETY: pure arithmetic on format, width and plane.
                let bytes = unsafe { ffi::av_image_get_linesize(pixel_format_value(raw.format), raw.width, plane) };
                let chroma = (plane == 1 || plane == 2) && planes > 1;
                let shift = if chroma { u32::from(descriptor.log2_chroma_h) } else { 0 };
                let rows = (raw.height + (1 << shift) - 1) >> shift;
                if raw.data[plane as usize].is_null() {
                    return Err(invalid);
                }
                Ok((plane as usize, check(bytes)? as usize, rows as usize))
            })
            .collect()
    }

    fn row_pointer(&self, plane: usize, row: usize) -> *mut u8 {
        let raw = self.raw();
        // SAFETY: libav lays a plane out as `height` rows that are `linesize` bytes apart (negative for bottom-up pictures).
        unsafe { raw.data[plane].offset(raw.linesize[plane] as isize * row as isize) }
    }

    pub(crate) fn as_ptr(&self) -> *const ffi::AVFrame {
        self.0.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut ffi::AVFrame {
        self.0.as_ptr()
    }

    pub(crate) fn raw(&self) -> &ffi::AVFrame {
        // SAFETY: owned and non-null for the frame's whole life.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn raw_mut(&mut self) -> &mut ffi::AVFrame {
        // SAFETY: as above, and borrowed mutably.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let mut frame = self.0.as_ptr();
        // SAFETY: owned, freed once; buffers go when their last reference goes.
        unsafe { ffi::av_frame_free(&raw mut frame) };
    }
}

/// `AVMasteringDisplayMetadata` (libavutil/mastering_display_metadata.h), which the bindings leave out. libav may add fields
/// at its end, never before.
#[repr(C)]
struct LavMasteringDisplay {
    display_primaries: [[ffi::AVRational; 2]; 3],
    white_point: [ffi::AVRational; 2],
    min_luminance: ffi::AVRational,
    max_luminance: ffi::AVRational,
    has_primaries: c_int,
    has_luminance: c_int,
}

/// `AVContentLightMetadata` of the same header.
#[repr(C)]
struct LavContentLight {
    max_cll: c_uint,
    max_fall: c_uint,
}

/// libav's mastering display, whose primaries are in the order red, green, blue, in the units of SMPTE ST 2086.
fn mastering(display: &LavMasteringDisplay) -> MasteringDisplay {
    let units = |value: ffi::AVRational, per_one: f64| (Rational::from(value).value() * per_one).round().max(0.0);
    let point = |xy: &[ffi::AVRational; 2]| (units(xy[0], 50_000.0) as u16, units(xy[1], 50_000.0) as u16);
    let [red, green, blue] = &display.display_primaries;
    MasteringDisplay {
        green: point(green),
        blue: point(blue),
        red: point(red),
        white: point(&display.white_point),
        brightest: units(display.max_luminance, 10_000.0) as u32,
        darkest: units(display.min_luminance, 10_000.0) as u32,
    }
}

fn whole_u16(value: u32) -> u16 {
    value.min(u32::from(u16::MAX)) as u16
}

/// Bytes of a picture of this size and pixel format in memory, without padding; `None` for an unknown format.
pub(crate) fn picture_bytes(width: u32, height: u32, pixel_format: &str) -> Option<u64> {
    let format = pixel_format_value(pixel_format_number(pixel_format).ok()?);
    // SAFETY: pure arithmetic on the three numbers.
    check(unsafe { ffi::av_image_get_buffer_size(format, width as c_int, height as c_int, 1) })
        .ok()
        .map(|bytes| bytes as u64)
}

/// How many pixels of this format share a chroma sample, across and down: 2 and 2 for 4:2:0; 1 and 1 where unknown.
pub(crate) fn chroma_step(pixel_format: &str) -> (u32, u32) {
    let Ok(number) = pixel_format_number(pixel_format) else { return (1, 1) };
    // SAFETY: a pure look-up; descriptors are static tables.
    let descriptor = unsafe { ffi::av_pix_fmt_desc_get(pixel_format_value(number)).as_ref() };
    descriptor.map_or((1, 1), |d| (1 << d.log2_chroma_w, 1 << d.log2_chroma_h))
}

/// The number of a pixel format, by libavutil's name.
pub(crate) fn pixel_format_number(name: &str) -> Result<c_int, AvError> {
    let name = crate::av::c_string(name)?;
    // SAFETY: the string is terminated; the call only looks it up.
    match unsafe { ffi::av_get_pix_fmt(name.as_ptr()) } {
        ffi::AVPixelFormat::AV_PIX_FMT_NONE => Err(AvError::invalid()),
        format => Ok(format as c_int),
    }
}

/// `tv` or `pc`; `None` for unspecified.
pub(crate) fn range_name(range: u32) -> Option<&'static str> {
    const LIMITED: u32 = ffi::AVColorRange::AVCOL_RANGE_MPEG as u32;
    const FULL: u32 = ffi::AVColorRange::AVCOL_RANGE_JPEG as u32;
    match range {
        LIMITED => Some("tv"),
        FULL => Some("pc"),
        _ => None,
    }
}

/// libavutil's name of a pixel format; `none` for a number that is none.
pub(crate) fn pixel_format_name(format: c_int) -> String {
    // SAFETY: the name is a static string, or null.
    unsafe { text(ffi::av_get_pix_fmt_name(pixel_format_value(format))) }.unwrap_or_else(|| "none".to_owned())
}

/// libavutil's name of a sample format; `none` for a number that is none.
pub(crate) fn sample_format_name(format: c_int) -> String {
    if !(0..ffi::AVSampleFormat::AV_SAMPLE_FMT_NB as c_int).contains(&format) {
        return "none".to_owned();
    }
    // SAFETY: the enum has this representation and a value for each number from 0 to its end mark.
    let format = unsafe { std::mem::transmute::<c_int, ffi::AVSampleFormat>(format) };
    // SAFETY: the name is a static string, or null.
    unsafe { text(ffi::av_get_sample_fmt_name(format)) }.unwrap_or_else(|| "none".to_owned())
}

/// libavutil's name of a channel layout.
///
/// # Safety
/// `layout` points to a live layout that is not changed during the call.
pub(crate) unsafe fn channel_layout_name(layout: *const ffi::AVChannelLayout) -> String {
    let mut name = [0 as c_char; 256];
    // SAFETY: the layout is live, as the caller promises; the buffer is writable and gets terminated.
    if unsafe { ffi::av_channel_layout_describe(layout, name.as_mut_ptr(), name.len()) } < 0 {
        return "unknown".to_owned();
    }
    // SAFETY: terminated by the call above.
    unsafe { text(name.as_ptr()) }.unwrap_or_default()
}

/// A pixel format's number as libav's enum; none for a number that the headers do not have.
pub(crate) fn pixel_format_value(format: c_int) -> ffi::AVPixelFormat {
    if !(0..ffi::AVPixelFormat::AV_PIX_FMT_NB as c_int).contains(&format) {
        return ffi::AVPixelFormat::AV_PIX_FMT_NONE;
    }
    // SAFETY: the enum has this representation and a value for each number from 0 to its end mark.
    unsafe { std::mem::transmute::<c_int, ffi::AVPixelFormat>(format) }
}
