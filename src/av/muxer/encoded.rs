//! What an encoder says of its stream, as a copy that outlives it.

use std::slice;

use ffmpeg_sys_next as ffi;

use crate::av::codec_parameters::{CodecParameters, kind_of};
use crate::av::colour::Colours;
use crate::av::frame::Frame;
use crate::av::muxer::codec_name;
use crate::av::side_data;
use crate::av::source::{SideData, StreamParameters};
use crate::av::{AvError, OUT_OF_MEMORY, c_string, check, positive, text};
use crate::media::{Rational, StreamKind};

/// What an open encoder says about its stream: an owned copy that outlives the encoder and may go to another thread.
pub struct EncodedStream {
    parameters: CodecParameters,
    side_data: Vec<SideData>,
    encoder: String,
    time_base: Rational,
    frame_rate: Option<Rational>,
    sample_aspect_ratio: Option<Rational>,
}

impl EncodedStream {
    /// Copies what an open encoder says: codec parameters, extradata, side data, time base, rates and pixel shape.
    ///
    /// # Safety
    /// `context` is a live, open encoder that nobody changes meanwhile.
    pub(crate) unsafe fn from_context(context: *const ffi::AVCodecContext) -> Result<Self, AvError> {
        let mut parameters = CodecParameters::new()?;
        // SAFETY: both are live; everything is copied.
        check(unsafe { ffi::avcodec_parameters_from_context(parameters.as_mut_ptr(), context) })?;
        // SAFETY: live, as the caller promises.
        let context = unsafe { &*context };
        // SAFETY: the context owns a list of that length.
        let side_data = unsafe { side_data::copied(context.coded_side_data, context.nb_coded_side_data) };
        // SAFETY: an open encoder has its codec, whose name is a static string.
        let encoder = unsafe { context.codec.as_ref().and_then(|codec| text(codec.name)) };
        Ok(EncodedStream {
            parameters,
            side_data,
            encoder: encoder.unwrap_or_default(),
            time_base: context.time_base.into(),
            frame_rate: positive(context.framerate),
            sample_aspect_ratio: positive(context.sample_aspect_ratio),
        })
    }

    /// What an encoder outside libavcodec makes of frames like `frame`. `codec` is libavcodec's name of it, `headers` what a box
    /// of an MP4 would say of it (`avcC`, `hvcC`); its packets then have lengths before their NAL units.
    ///
    /// # Errors
    /// A codec that libavcodec does not know, or out of memory.
    pub fn of_frames(
        encoder: &str,
        codec: &str,
        headers: &[u8],
        frame: &Frame,
        frame_rate: Rational,
        sample_aspect_ratio: Option<Rational>,
    ) -> Result<Self, AvError> {
        let name = c_string(codec)?;
        // SAFETY: a look-up by a terminated string; descriptors are static tables.
        let descriptor = unsafe { ffi::avcodec_descriptor_get_by_name(name.as_ptr()).as_ref() };
        let mut parameters = CodecParameters::new()?;
        let (own, of) = (parameters.get_mut(), frame.raw());
        own.codec_id = descriptor.ok_or(AvError::invalid())?.id;
        own.codec_type = ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
        (own.width, own.height, own.format) = (of.width, of.height, of.format);
        Colours::of_frame(of).tell_stream(own);
        own.field_order = frame.field_order();
        own.sample_aspect_ratio = sample_aspect_ratio.map_or(of.sample_aspect_ratio, Into::into);
        let size = headers.len() + ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize;
        // SAFETY: allocates; the parameters free it.
        own.extradata = unsafe { ffi::av_mallocz(size) }.cast();
        if own.extradata.is_null() {
            return Err(OUT_OF_MEMORY);
        }
        // SAFETY: so many bytes were just allocated, and more.
        unsafe { std::ptr::copy_nonoverlapping(headers.as_ptr(), own.extradata, headers.len()) };
        own.extradata_size = headers.len() as i32;
        Ok(EncodedStream {
            sample_aspect_ratio: positive(own.sample_aspect_ratio),
            parameters,
            side_data: Vec::new(),
            encoder: encoder.to_owned(),
            time_base: frame_rate.inverse(),
            frame_rate: Some(frame_rate),
        })
    }

    /// Gives the stream the time base of its packets, where that is finer than the encoder's.
    #[must_use]
    pub(crate) fn with_time_base(mut self, time_base: Rational) -> Self {
        self.time_base = time_base;
        self
    }

    /// Adds the static HDR metadata of a frame that the encoder was given, where the stream has none yet and its transfer is
    /// one of HDR. Before FFmpeg 6.1 encoders do not pass it on themselves; sources often have it only in their frames.
    #[must_use]
    pub fn with_light_of(mut self, frame: &Frame) -> Self {
        use ffi::{AVFrameSideDataType as OfFrame, AVPacketSideDataType as OfStream};
        let hdr = Colours::of_stream(self.parameters.get()).is_hdr();
        // For both kinds, streams keep the same structure as frames.
        for (from, to) in [
            (OfFrame::AV_FRAME_DATA_MASTERING_DISPLAY_METADATA, OfStream::AV_PKT_DATA_MASTERING_DISPLAY_METADATA),
            (OfFrame::AV_FRAME_DATA_CONTENT_LIGHT_LEVEL, OfStream::AV_PKT_DATA_CONTENT_LIGHT_LEVEL),
        ] {
            let missing = hdr && !self.side_data.iter().any(|own| own.kind == to as i32);
            // SAFETY: the frame is live; the result is null or belongs to it.
            let found = unsafe { ffi::av_frame_get_side_data(frame.as_ptr(), from).as_ref() };
            if let Some(found) = found.filter(|_| missing) {
                // SAFETY: libav guarantees `size` readable bytes at `data`.
                let bytes = unsafe { slice::from_raw_parts(found.data, found.size) }.to_vec();
                self.side_data.push(side_data::named(to, bytes));
            }
        }
        self
    }

    /// What it carries: video or audio.
    #[must_use]
    pub fn kind(&self) -> StreamKind {
        kind_of(self.parameters.get(), 0)
    }

    /// libavcodec's name of the codec, for instance `hevc`.
    #[must_use]
    pub fn codec(&self) -> String {
        codec_name(self.parameters.get().codec_id)
    }

    /// libavcodec's name of the encoder, for instance `libx265`.
    #[must_use]
    pub fn encoder(&self) -> &str {
        &self.encoder
    }

    /// Seconds per tick of the encoder's packets.
    #[must_use]
    pub fn time_base(&self) -> Rational {
        self.time_base
    }

    /// Nominal frames per second of a video stream, where the encoder was told.
    #[must_use]
    pub fn frame_rate(&self) -> Option<Rational> {
        self.frame_rate
    }

    /// Shape of a pixel, width to height, where known.
    #[must_use]
    pub fn sample_aspect_ratio(&self) -> Option<Rational> {
        self.sample_aspect_ratio
    }

    /// Width and height of the picture in pixels; zeros for sound.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        (self.parameters.get().width.max(0) as u32, self.parameters.get().height.max(0) as u32)
    }

    /// Side data of the source's stream that holds for this one too, and that the encoder did not give itself.
    pub(super) fn inherited<'a>(&'a self, like: &'a StreamParameters) -> impl Iterator<Item = &'a SideData> {
        // A tone map changes the transfer; what described the old picture would then be false.
        let transfer = |codec: &CodecParameters| Colours::of_stream(codec.get()).transfer;
        let same_light = transfer(&self.parameters) == transfer(like.codec_parameters());
        like.side_data.iter().filter(move |entry| {
            let own = self.side_data.iter().any(|own| own.kind == entry.kind);
            let holds = ABOUT_THE_SCENE.contains(&entry.name.as_str())
                || same_light && (side_data::is_hdr(entry) || ABOUT_THE_LIGHT.contains(&entry.name.as_str()));
            holds && !own
        })
    }

    /// The codec's headers, where the encoder keeps them apart from the packets; empty otherwise.
    #[must_use]
    pub fn extradata(&self) -> &[u8] {
        self.parameters.extradata()
    }

    pub(in crate::av) fn parameters(&self) -> &CodecParameters {
        &self.parameters
    }

    pub(super) fn side_data(&self) -> &[SideData] {
        &self.side_data
    }
}

/// Side data (by libavcodec's name) that says what is seen or heard, whatever the codec.
const ABOUT_THE_SCENE: &[&str] = &["Stereo 3D", "Spherical Mapping", "Audio Service Type", "Replay Gain"];

/// Side data that holds while the colours mean the same.
const ABOUT_THE_LIGHT: &[&str] = &["ICC Profile", "Ambient viewing environment"];
