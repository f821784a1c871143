//! Side data of output streams: what holds for a whole stream (HDR mastering display, rotation, encoder limits).
//!
//! Invariant: the only place that writes it, and so knows where: it moved from the stream to its parameters in FFmpeg 6.1.

use std::ffi::c_int;

use ffmpeg_sys_next as ffi;

use crate::av::source::SideData;
use crate::av::{AvError, OUT_OF_MEMORY, text};

/// Copies a list of libav's.
///
/// # Safety
/// `list` is null or points to `count` live entries.
pub(crate) unsafe fn copied(list: *const ffi::AVPacketSideData, count: c_int) -> Vec<SideData> {
    if list.is_null() || count <= 0 {
        return Vec::new();
    }
    // SAFETY: as the caller promises.
    let entries = unsafe { std::slice::from_raw_parts(list, count as usize) };
    entries.iter().map(copy).collect()
}

fn copy(entry: &ffi::AVPacketSideData) -> SideData {
    let none = entry.data.is_null() || entry.size == 0;
    // SAFETY: libav guarantees `size` readable bytes at `data`.
    let bytes = if none { &[] } else { unsafe { std::slice::from_raw_parts(entry.data, entry.size) } };
    named(entry.type_, bytes.to_vec())
}

/// An entry of this type.
pub(crate) fn named(kind: ffi::AVPacketSideDataType, bytes: Vec<u8>) -> SideData {
    // SAFETY: a look-up whose answer is static or null.
    let name = unsafe { text(ffi::av_packet_side_data_name(kind)) }.unwrap_or_default();
    SideData { kind: kind as i32, name, bytes }
}

/// What a stream has.
pub(crate) fn of_stream(stream: &ffi::AVStream) -> Vec<SideData> {
    #[cfg(ffmpeg_6_1)]
    // SAFETY: a live stream has parameters, and they own a list of that length.
    unsafe {
        copied((*stream.codecpar).coded_side_data, (*stream.codecpar).nb_coded_side_data)
    }
    #[cfg(not(ffmpeg_6_1))]
    // SAFETY: the stream owns a list of that length.
    unsafe {
        copied(stream.side_data, stream.nb_side_data)
    }
}

/// Gives a stream an entry, in place of one of the same kind.
pub(crate) fn attach(stream: &mut ffi::AVStream, entry: &SideData) -> Result<(), AvError> {
    let size = entry.bytes.len();
    // SAFETY: the number is one that the linked library gave out for side data, and the enum has its representation.
    let kind = unsafe { std::mem::transmute::<i32, ffi::AVPacketSideDataType>(entry.kind) };
    #[cfg(ffmpeg_6_1)]
    // SAFETY: a live stream has parameters, which own the list that grows here.
    let fresh = unsafe {
        let parameters = &mut *stream.codecpar;
        let list = &raw mut parameters.coded_side_data;
        ffi::av_packet_side_data_new(list, &raw mut parameters.nb_coded_side_data, kind, size, 0)
            .as_ref()
            .map_or(std::ptr::null_mut(), |fresh| fresh.data)
    };
    #[cfg(not(ffmpeg_6_1))]
    // SAFETY: the stream is live and owns what it is given.
    let fresh = unsafe { ffi::av_stream_new_side_data(stream, kind, size) };
    if fresh.is_null() {
        return Err(OUT_OF_MEMORY);
    }
    // SAFETY: fresh memory of `size` bytes that nobody else has.
    unsafe { fresh.copy_from_nonoverlapping(entry.bytes.as_ptr(), size) };
    Ok(())
}

/// Whether it is static HDR metadata: the mastering display or the content light level.
pub(crate) fn is_hdr(entry: &SideData) -> bool {
    entry.kind == ffi::AVPacketSideDataType::AV_PKT_DATA_MASTERING_DISPLAY_METADATA as i32
        || entry.kind == ffi::AVPacketSideDataType::AV_PKT_DATA_CONTENT_LIGHT_LEVEL as i32
}
