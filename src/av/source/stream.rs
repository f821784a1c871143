//! One stream of a source: what it is, as plain data, and its codec parameters as a copy of their own.

use std::ffi::{c_char, c_int};
use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use crate::av::codec_parameters::{CodecParameters, kind_of};
use crate::av::colour::Colours;
use crate::av::frame::pixel_format_name;
use crate::av::option::entries;
use crate::av::packet::known;
use crate::av::{AvError, positive, side_data, text};
use crate::media::{Rational, StreamInfo, StreamKind};

/// All that a source says of one stream. Owned: it outlives the demuxer and goes to any thread.
pub struct StreamParameters {
    codec: CodecParameters,
    /// Its index in the source.
    pub index: usize,
    /// What it carries.
    pub kind: StreamKind,
    /// Seconds per tick of its timestamps.
    pub time_base: Rational,
    /// Its first timestamp in ticks, where known.
    pub start: Option<i64>,
    /// Its length in ticks, where known.
    pub duration: Option<i64>,
    /// libavformat's disposition bits (`AV_DISPOSITION_DEFAULT` and so on).
    pub disposition: i32,
    /// Tags in their order. Text that is not UTF-8 has replacement characters.
    pub metadata: Vec<(String, String)>,
    /// The picture itself, for a cover picture; else empty.
    pub picture: Vec<u8>,
    /// What holds for the whole stream: display matrix, mastering display, content light level and the like.
    pub side_data: Vec<SideData>,
    /// Nominal frames per second as libavformat guesses them, where it can.
    pub frame_rate: Option<Rational>,
    /// Average frames per second, where known.
    pub average_rate: Option<Rational>,
    /// Lowest rate that has every timestamp on a frame (`r_frame_rate`), where known.
    pub base_rate: Option<Rational>,
    /// Shape of a pixel, width to height, where known; the container's word wins over the codec's.
    pub sample_aspect_ratio: Option<Rational>,
}

/// The bytes of a cover picture; empty for other streams.
fn attached_picture(stream: &ffi::AVStream) -> Vec<u8> {
    let packet = &stream.attached_pic;
    if packet.data.is_null() || packet.size <= 0 {
        return Vec::new();
    }
    // SAFETY: libavformat keeps `size` readable bytes at `data` while the stream lives.
    unsafe { std::slice::from_raw_parts(packet.data, packet.size as usize) }.to_vec()
}

impl StreamParameters {
    /// Copies all of a stream.
    ///
    /// # Safety
    /// `stream` belongs to the open `context`.
    pub(super) unsafe fn of(
        context: NonNull<ffi::AVFormatContext>,
        stream: NonNull<ffi::AVStream>,
    ) -> Result<Self, AvError> {
        // SAFETY: as the caller promises, here and below.
        let (raw, facts) = unsafe { (stream.as_ref(), Facts::of(stream)) };
        Ok(StreamParameters {
            // SAFETY: a stream has codec parameters, which are only read.
            codec: unsafe { CodecParameters::copy(raw.codecpar) }?,
            index: facts.info.index,
            kind: facts.info.kind,
            picture: attached_picture(raw),
            time_base: facts.time_base,
            start: known(raw.start_time),
            duration: known(raw.duration).filter(|ticks| *ticks > 0),
            disposition: raw.disposition,
            // SAFETY: the dictionary belongs to the stream and is only read.
            metadata: unsafe { entries(raw.metadata) },
            side_data: side_data::of_stream(raw),
            // SAFETY: as the caller promises, here and below.
            frame_rate: unsafe { frame_rate(context, stream) },
            average_rate: facts.average_rate,
            base_rate: positive(raw.r_frame_rate),
            // SAFETY: as above.
            sample_aspect_ratio: unsafe { sample_aspect_ratio(context, stream) },
        })
    }

    /// libavcodec's name of the codec; where it knows none, the container's four characters.
    #[must_use]
    pub fn codec(&self) -> String {
        // SAFETY: owned and only read.
        unsafe { codec_name(self.codec.get()) }
    }

    /// What the codec needs before its first packet: parameter sets and headers.
    #[must_use]
    pub fn extradata(&self) -> &[u8] {
        self.codec.extradata()
    }

    /// Clockwise rotation that the display needs, in degrees: 0, 90, 180 or 270.
    #[must_use]
    pub fn rotation(&self) -> u16 {
        self.side_data.iter().find_map(SideData::rotation).unwrap_or(0)
    }

    pub(crate) fn codec_parameters(&self) -> &CodecParameters {
        &self.codec
    }
}

/// One piece of side data of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideData {
    /// libavcodec's number of its type (`AVPacketSideDataType`), as the linked library counts.
    pub kind: i32,
    /// libavcodec's name of its type; empty where it has none.
    pub name: String,
    /// Its bytes, laid out as libav does for the type.
    pub bytes: Vec<u8>,
}

impl SideData {
    /// The 3x3 matrix (in 16.16 and 2.30 fixed point) that turns the picture upright, where this is one.
    #[must_use]
    pub fn display_matrix(&self) -> Option<[i32; 9]> {
        if self.kind != ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX as i32 || self.bytes.len() < 36 {
            return None;
        }
        let mut matrix = [0; 9];
        for (cell, bytes) in matrix.iter_mut().zip(self.bytes.chunks_exact(4)) {
            *cell = i32::from_ne_bytes(bytes.try_into().ok()?);
        }
        Some(matrix)
    }

    /// The clockwise rotation of a display matrix in degrees, to the nearest quarter turn; 0 for one that is all zeroes.
    pub(super) fn rotation(&self) -> Option<u16> {
        let matrix = self.display_matrix()?;
        // SAFETY: nine cells, as the call reads. Not a number for a matrix that turns nothing.
        let anticlockwise = unsafe { ffi::av_display_rotation_get(matrix.as_ptr()) };
        let quarters = if anticlockwise.is_nan() { 0.0 } else { (-anticlockwise / 90.0).round() };
        Some((quarters as i32).rem_euclid(4) as u16 * 90)
    }
}

/// What a stream is, before anything is copied.
#[derive(Clone)]
pub(super) struct Facts {
    pub(super) info: StreamInfo,
    /// As in the info, but with the container's four characters where libavcodec has no name.
    pub(super) codec: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixel_format: String,
    pub(super) time_base: Rational,
    pub(super) average_rate: Option<Rational>,
    pub(super) frames: Option<u64>,
    pub(super) hdr: bool,
}

impl Facts {
    /// # Safety
    /// `stream` belongs to an open context.
    pub(super) unsafe fn of(stream: NonNull<ffi::AVStream>) -> Self {
        // SAFETY: as the caller promises; a stream has codec parameters.
        let (raw, codec) = unsafe { (stream.as_ref(), &*stream.as_ref().codecpar) };
        let kind = kind_of(codec, raw.disposition);
        // SAFETY: the codec parameters are live; decoders are static.
        let decoder = unsafe { ffi::avcodec_find_decoder(codec.codec_id) };
        let sound = kind == StreamKind::Audio;
        let count = |number: c_int| u32::try_from(number).ok().filter(|number| sound && *number > 0);
        let info = StreamInfo {
            index: raw.index.max(0) as usize,
            kind,
            codec: match codec.codec_id {
                ffi::AVCodecID::AV_CODEC_ID_NONE => "unknown".to_owned(),
                // SAFETY: the parameters are live.
                _ => unsafe { codec_name(codec) },
            },
            // SAFETY: the dictionary belongs to the stream and is only read.
            language: unsafe { entries(raw.metadata) }.into_iter().find_map(language),
            bitrate: u64::try_from(codec.bit_rate).ok().filter(|bps| *bps > 0),
            sample_rate: count(codec.sample_rate),
            channels: count(codec.ch_layout.nb_channels),
            decodable: !decoder.is_null(),
        };
        Facts {
            info,
            // SAFETY: the parameters are live.
            codec: unsafe { codec_name(codec) },
            width: codec.width.max(0) as u32,
            height: codec.height.max(0) as u32,
            pixel_format: pixel_format_name(if kind == StreamKind::Video { codec.format } else { -1 }),
            time_base: raw.time_base.into(),
            average_rate: positive(raw.avg_frame_rate),
            frames: u64::try_from(raw.nb_frames).ok().filter(|frames| *frames > 0),
            hdr: Colours::of_stream(codec).is_hdr(),
        }
    }
}

fn language((key, value): (String, String)) -> Option<String> {
    (key == "language" && value != "und").then_some(value)
}

/// libavcodec's name of the codec; where it knows none, the container's four characters.
///
/// # Safety
/// `codec` is live and not changed during the call.
unsafe fn codec_name(codec: &ffi::AVCodecParameters) -> String {
    if codec.codec_id != ffi::AVCodecID::AV_CODEC_ID_NONE {
        // SAFETY: a look-up whose answer is static.
        return unsafe { text(ffi::avcodec_get_name(codec.codec_id)) }.unwrap_or_default();
    }
    let mut tag = [0 as c_char; ffi::AV_FOURCC_MAX_STRING_SIZE as usize];
    // SAFETY: the buffer has the size that the call writes at most, terminated.
    unsafe { text(ffi::av_fourcc_make_string(tag.as_mut_ptr(), codec.codec_tag)) }.unwrap_or_default()
}

/// # Safety
/// `stream` belongs to the open `context`, here and below.
pub(super) unsafe fn frame_rate(
    context: NonNull<ffi::AVFormatContext>,
    stream: NonNull<ffi::AVStream>,
) -> Option<Rational> {
    // SAFETY: as the caller promises; without a frame only stream fields are read.
    positive(unsafe { ffi::av_guess_frame_rate(context.as_ptr(), stream.as_ptr(), std::ptr::null_mut()) })
}

/// # Safety
/// As above.
pub(super) unsafe fn sample_aspect_ratio(
    context: NonNull<ffi::AVFormatContext>,
    stream: NonNull<ffi::AVStream>,
) -> Option<Rational> {
    // SAFETY: as the caller promises; without a frame only stream fields are read.
    positive(unsafe { ffi::av_guess_sample_aspect_ratio(context.as_ptr(), stream.as_ptr(), std::ptr::null_mut()) })
}
