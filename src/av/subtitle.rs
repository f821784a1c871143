//! Subtitles of text from any of their codecs to WebVTT.
//!
//! Invariant: a packet in is one packet out, or none where nothing is to be read; a cue holds no empty line, which would end it.

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use ffmpeg_sys_next as ffi;

use crate::av::muxer::EncodedStream;
use crate::av::packet::Packet;
use crate::av::source::StreamParameters;
use crate::av::{AvError, OUT_OF_MEMORY, check, initialise};
use crate::error::Error;
use crate::media::Rational;

/// Whether a codec, by libavcodec's name, is text that can become WebVTT.
pub(crate) fn is_text(codec: &str) -> bool {
    ["ass", "mov_text", "srt", "ssa", "subrip", "text", "webvtt"].contains(&codec)
}

/// Makes WebVTT of one stream.
pub(crate) struct TextTranscoder {
    /// Index of the stream in its source, for errors.
    stream: usize,
    decoder: Context,
    encoder: Context,
    damaged: u64,
}

impl TextTranscoder {
    /// Opens decoder and encoder for a stream.
    ///
    /// # Errors
    /// [`Error::Subtitle`]: no decoder, no encoder, or one that refuses.
    pub(crate) fn open(stream: &StreamParameters) -> Result<Self, Error> {
        initialise();
        let fault = |what: String| move |source| Error::Subtitle { stream: stream.index, what, source };
        let decoder = open_decoder(stream).map_err(fault(format!("cannot decode {}", stream.codec())))?;
        let encoder = open_encoder(&decoder).map_err(fault("cannot encode WebVTT".to_owned()))?;
        Ok(TextTranscoder { stream: stream.index, decoder, encoder, damaged: 0 })
    }

    /// What the encoder says of its stream.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn stream(&self) -> Result<EncodedStream, Error> {
        // SAFETY: the context is open and lives through the call, which copies what it needs.
        let stream = unsafe { EncodedStream::from_context(self.encoder.0.as_ptr()) };
        stream.map_err(|source| self.fault("cannot describe WebVTT", source))
    }

    /// Seconds per tick of the packets that come out.
    pub(crate) fn time_base(&self) -> Rational {
        MILLISECONDS
    }

    /// How many packets could not be decoded.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The cue of a packet, with times in [`TextTranscoder::time_base`]; `None` for one without text.
    ///
    /// # Errors
    /// [`Error::Subtitle`]: the encoder failed.
    pub(crate) fn convert(&mut self, mut packet: Packet, time_base: Rational) -> Result<Option<Packet>, Error> {
        let mut cue = Cue::empty();
        let mut got: c_int = 0;
        // SAFETY: decoder and packet are live; the cue is ours to fill, and is freed by its owner.
        let code = unsafe {
            ffi::avcodec_decode_subtitle2(self.decoder.0.as_ptr(), &raw mut cue.0, &raw mut got, packet.as_mut_ptr())
        };
        if code < 0 {
            self.damaged += 1;
            return Ok(None);
        }
        let milliseconds = |ticks: i64| (ticks as f64 * time_base.value() * 1000.0).round() as i64;
        let begins = milliseconds(packet.pts().unwrap_or(0)) + i64::from(cue.0.start_display_time);
        let shown = i64::from(cue.0.end_display_time) - i64::from(cue.0.start_display_time);
        let in_packet = milliseconds(packet.duration());
        let lasts = if (1..FOR_EVER).contains(&shown) && in_packet <= 0 { shown } else { in_packet };
        if got == 0 || cue.0.num_rects == 0 || begins + lasts <= 0 {
            return Ok(None);
        }
        // The encoder wants all times in the packet.
        (cue.0.end_display_time, cue.0.start_display_time) = (lasts.max(0) as u32, 0);
        let mut text = vec![0_u8; LONGEST_CUE];
        // SAFETY: encoder and cue are live, the buffer as long as said.
        let bytes = unsafe {
            ffi::avcodec_encode_subtitle(
                self.encoder.0.as_ptr(),
                text.as_mut_ptr(),
                text.len() as c_int,
                &raw const cue.0,
            )
        };
        let bytes = check(bytes).map_err(|source| self.fault("cannot encode WebVTT", source))? as usize;
        let text = without_empty_lines(&text[..bytes.min(LONGEST_CUE)]);
        if text.is_empty() {
            return Ok(None);
        }
        let mut made = Packet::holding(&text).map_err(|source| self.fault("a cue", source))?;
        made.set_times(Some(begins), Some(begins), lasts);
        Ok(Some(made))
    }

    fn fault(&self, what: &str, source: AvError) -> Error {
        Error::Subtitle { stream: self.stream, what: what.to_owned(), source }
    }
}

fn open_decoder(stream: &StreamParameters) -> Result<Context, AvError> {
    let parameters = stream.codec_parameters().as_ptr();
    // SAFETY: the parameters live as long as the stream; decoders are static.
    let codec = unsafe { ffi::avcodec_find_decoder((*parameters).codec_id) };
    if codec.is_null() {
        return Err(AvError(ffi::AVERROR_DECODER_NOT_FOUND));
    }
    let mut decoder = Context::allocate(codec)?;
    // SAFETY: both are live; everything is copied.
    check(unsafe { ffi::avcodec_parameters_to_context(decoder.0.as_ptr(), parameters) })?;
    decoder.raw_mut().pkt_timebase = stream.time_base.into();
    decoder.open(codec)?;
    Ok(decoder)
}

fn open_encoder(decoder: &Context) -> Result<Context, AvError> {
    // SAFETY: a look-up by a static number.
    let codec = unsafe { ffi::avcodec_find_encoder(ffi::AVCodecID::AV_CODEC_ID_WEBVTT) };
    if codec.is_null() {
        return Err(AvError(ffi::AVERROR_ENCODER_NOT_FOUND));
    }
    let mut encoder = Context::allocate(codec)?;
    encoder.raw_mut().time_base = MILLISECONDS.into();
    let (header, bytes) = (decoder.raw().subtitle_header, decoder.raw().subtitle_header_size);
    if !header.is_null() && bytes > 0 {
        // SAFETY: the decoder owns that many bytes; the copy is the encoder's, which frees it, and ends with a zero.
        unsafe {
            let copy = ffi::av_mallocz(bytes as usize + 1).cast::<u8>();
            if copy.is_null() {
                return Err(OUT_OF_MEMORY);
            }
            ptr::copy_nonoverlapping(header.cast_const(), copy, bytes as usize);
            (encoder.raw_mut().subtitle_header, encoder.raw_mut().subtitle_header_size) = (copy, bytes);
        }
    }
    encoder.open(codec)?;
    Ok(encoder)
}

/// Owns an AVCodecContext.
struct Context(NonNull<ffi::AVCodecContext>);

// SAFETY: a context has no tie to the thread that opened it, and one owner.
unsafe impl Send for Context {}

impl Context {
    fn allocate(codec: *const ffi::AVCodec) -> Result<Self, AvError> {
        // SAFETY: allocates for a static codec; null is out of memory.
        NonNull::new(unsafe { ffi::avcodec_alloc_context3(codec) }).map(Context).ok_or(OUT_OF_MEMORY)
    }

    fn open(&mut self, codec: *const ffi::AVCodec) -> Result<(), AvError> {
        // SAFETY: the context was allocated for this codec and is not yet open.
        check(unsafe { ffi::avcodec_open2(self.0.as_ptr(), codec, ptr::null_mut()) }).map(drop)
    }

    fn raw(&self) -> &ffi::AVCodecContext {
        // SAFETY: owned and non-null.
        unsafe { self.0.as_ref() }
    }

    fn raw_mut(&mut self) -> &mut ffi::AVCodecContext {
        // SAFETY: as above, and borrowed mutably.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut context = self.0.as_ptr();
        // SAFETY: owned, freed once.
        unsafe { ffi::avcodec_free_context(&raw mut context) };
    }
}

/// Owns what a decoder put into an AVSubtitle.
struct Cue(ffi::AVSubtitle);

impl Cue {
    fn empty() -> Self {
        // SAFETY: zeroed memory is an empty subtitle: numbers and a null pointer.
        Cue(unsafe { std::mem::zeroed() })
    }
}

impl Drop for Cue {
    fn drop(&mut self) {
        // SAFETY: filled by libavcodec or empty; freed once.
        unsafe { ffi::avsubtitle_free(&raw mut self.0) };
    }
}

fn without_empty_lines(text: &[u8]) -> Vec<u8> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty() && **line != [0]);
    lines.collect::<Vec<_>>().join(&b'\n')
}

/// Beyond this a decoder means "until the next one".
const FOR_EVER: i64 = 1 << 31;

/// As the ffmpeg program has it.
const LONGEST_CUE: usize = 1 << 20;

const MILLISECONDS: Rational = Rational::new(1, 1000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cue_has_no_empty_lines() {
        assert_eq!(without_empty_lines(b"one\n\n \ntwo\n"), b"one\ntwo");
        assert_eq!(without_empty_lines(b"\n"), b"");
    }
}
