//! Packets: compressed data with its times, owned by one holder at a time.

use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use crate::av::{AvError, OUT_OF_MEMORY, check};
use crate::media::Rational;

/// A compressed packet. Times are in ticks of a time base that the holder knows.
pub struct Packet(NonNull<ffi::AVPacket>);

// SAFETY: an AVPacket is plain data and reference-counted buffers; libav's counts are atomic.
unsafe impl Send for Packet {}

impl Packet {
    /// An empty packet.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new() -> Result<Self, AvError> {
        // SAFETY: allocates; null is out of memory.
        NonNull::new(unsafe { ffi::av_packet_alloc() }).map(Packet).ok_or(OUT_OF_MEMORY)
    }

    /// A packet with these bytes and no times.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn holding(bytes: &[u8]) -> Result<Self, AvError> {
        let packet = Packet::new()?;
        let length = i32::try_from(bytes.len()).map_err(|_| OUT_OF_MEMORY)?;
        // SAFETY: the packet is owned and empty.
        check(unsafe { ffi::av_new_packet(packet.0.as_ptr(), length) })?;
        // SAFETY: it has that many writable bytes now, which are nobody else's.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (*packet.0.as_ptr()).data, bytes.len()) };
        Ok(packet)
    }

    /// A packet with a copy of these bytes and no times, which a decoder can start at or not.
    ///
    /// # Errors
    /// Out of memory.
    pub fn copied_from(bytes: &[u8], is_key: bool) -> Result<Self, AvError> {
        let mut packet = Packet::holding(bytes)?;
        packet.raw_mut().flags |= if is_key { ffi::AV_PKT_FLAG_KEY } else { 0 };
        Ok(packet)
    }

    /// Another packet over the same data.
    ///
    /// # Errors
    /// Out of memory.
    pub fn share(&self) -> Result<Self, AvError> {
        let shared = Packet::new()?;
        // SAFETY: both are owned and non-null; libav takes its own reference to the data.
        check(unsafe { ffi::av_packet_ref(shared.0.as_ptr(), self.0.as_ptr()) })?;
        Ok(shared)
    }

    /// The compressed bytes.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        let packet = self.raw();
        if packet.data.is_null() || packet.size <= 0 {
            return &[];
        }
        // SAFETY: libav guarantees `size` readable bytes at `data` while the packet holds its buffer.
        unsafe { std::slice::from_raw_parts(packet.data, packet.size as usize) }
    }

    /// Presentation time in ticks; `None` where unknown.
    #[must_use]
    pub fn pts(&self) -> Option<i64> {
        known(self.raw().pts)
    }

    /// Decoding time in ticks; `None` where unknown.
    #[must_use]
    pub fn dts(&self) -> Option<i64> {
        known(self.raw().dts)
    }

    /// Length in ticks; 0 where unknown.
    #[must_use]
    pub fn duration(&self) -> i64 {
        self.raw().duration
    }

    /// Whether a decoder can start here.
    #[must_use]
    pub fn is_key(&self) -> bool {
        self.raw().flags & ffi::AV_PKT_FLAG_KEY != 0
    }

    /// Whether the demuxer marked it as damaged, for instance cut short.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        self.raw().flags & ffi::AV_PKT_FLAG_CORRUPT != 0
    }

    /// Whether its frame is decoded only because others need it, and not shown: an edit list begins after it.
    #[must_use]
    pub fn is_discarded(&self) -> bool {
        self.raw().flags & ffi::AV_PKT_FLAG_DISCARD != 0
    }

    pub(crate) fn has_side_data(&self) -> bool {
        self.raw().side_data_elems > 0
    }

    /// All of `AVPacket.flags`.
    pub(crate) fn flags(&self) -> i32 {
        self.raw().flags
    }

    pub(crate) fn set_flags(&mut self, flags: i32) {
        self.raw_mut().flags = flags;
    }

    /// The index of the stream it belongs to.
    #[must_use]
    pub fn stream(&self) -> usize {
        self.raw().stream_index.max(0) as usize
    }

    /// Sets presentation and decoding time and length, all in ticks.
    pub fn set_times(&mut self, pts: Option<i64>, dts: Option<i64>, duration: i64) {
        let packet = self.raw_mut();
        packet.pts = pts.unwrap_or(ffi::AV_NOPTS_VALUE);
        packet.dts = dts.unwrap_or(ffi::AV_NOPTS_VALUE);
        packet.duration = duration;
    }

    /// Sets the index of the stream it belongs to.
    pub fn set_stream(&mut self, stream: usize) {
        self.raw_mut().stream_index = stream as i32;
    }

    /// Converts all times from ticks of one time base to ticks of another.
    pub fn rescale(&mut self, from: Rational, to: Rational) {
        // SAFETY: the packet is owned and non-null.
        unsafe { ffi::av_packet_rescale_ts(self.0.as_ptr(), from.into(), to.into()) };
    }

    pub(crate) fn as_ptr(&self) -> *const ffi::AVPacket {
        self.0.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut ffi::AVPacket {
        self.0.as_ptr()
    }

    fn raw(&self) -> &ffi::AVPacket {
        // SAFETY: owned and non-null for the packet's whole life.
        unsafe { self.0.as_ref() }
    }

    fn raw_mut(&mut self) -> &mut ffi::AVPacket {
        // SAFETY: as above, and borrowed mutably.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let mut packet = self.0.as_ptr();
        // SAFETY: owned, freed once.
        unsafe { ffi::av_packet_free(&raw mut packet) };
    }
}

/// libav's "no timestamp" as an absent value.
pub(crate) fn known(ticks: i64) -> Option<i64> {
    (ticks != ffi::AV_NOPTS_VALUE).then_some(ticks)
}
