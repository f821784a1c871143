//! Encoders: a setup that is opened by its first frame, so that an open encoder has always been fed.
//!
//! Invariants: a context is allocated for its codec; an option that is not taken is an error; pass and header bits are set
//! after every option; statistics are read at the only moments when they are there; dropping an encoder frees it and never
//! flushes it, which is safe in every pass of every encoder (flushing libaom early is not).

use std::ffi::{CStr, c_int};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ffmpeg_sys_next as ffi;

use crate::av::colour::Colours;
use crate::av::frame::Frame;
use crate::av::log::LogMark;
use crate::av::muxer::EncodedStream;
use crate::av::packet::Packet;
use crate::av::{AvError, OUT_OF_MEMORY, Received, c_string, check, initialise, received};
use crate::error::Error;
use crate::media::Rational;
use crate::plan::PassFlag;

/// What an encoder needs to know before its first frame; size, format and colours come from that frame.
#[derive(Debug, Clone)]
pub struct EncoderSetup {
    /// libavcodec's name of the encoder.
    pub encoder: String,
    /// The pass, from 1; for error messages.
    pub pass: u8,
    /// The pass flag for libavcodec.
    pub flag: PassFlag,
    /// AVOptions in the order in which they are set.
    pub options: Vec<(String, String)>,
    /// Statistics for a second pass that takes them from memory.
    pub stats: Option<String>,
    /// Seconds per tick of the frames' times: 1 / frame rate, or libvpx and libaom misjudge durations before FFmpeg 6.
    pub time_base: Rational,
    /// Frames per second.
    pub frame_rate: Rational,
    /// Shape of a pixel, width to height; `None`: the first frame's.
    pub sample_aspect_ratio: Option<Rational>,
    /// Whether the container wants headers apart from the stream. Off in a first pass, as with ffmpeg's null muxer, or
    /// x264 and x265 count other header bits and spend the rest differently.
    pub global_header: bool,
}

impl EncoderSetup {
    /// Opens the encoder for frames like `first` and gives it that frame: an encoder that is open has been fed (SVT-AV1 1.4
    /// hangs when freed without ever having had a frame).
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Option`] or [`Error::Encode`], each with the encoder's own words.
    pub fn open(self, first: Frame) -> Result<Encoder, Error> {
        initialise();
        let log = LogMark::now();
        let words = |error: AvError| self.error(error, &log);
        let mut encoder = Encoder::allocate(&self, log).map_err(words)?;
        encoder.describe(&self, &first);
        for (option, value) in &self.options {
            encoder.set(&self, option, value)?;
        }
        encoder.set_bits(&self);
        encoder.clone_side_data(&first).map_err(words)?;
        if let Some(stats) = &self.stats {
            encoder.give_stats(stats).map_err(words)?;
        }
        let _alone = alone();
        // SAFETY: the context is allocated for this codec and not yet open; options were set above.
        check(unsafe { ffi::avcodec_open2(encoder.context.as_ptr(), ptr::null(), ptr::null_mut()) }).map_err(words)?;
        encoder.send(first)?;
        Ok(encoder)
    }

    fn error(&self, source: AvError, log: &LogMark) -> Error {
        Error::Open { encoder: self.encoder.clone(), pass: self.pass, source, log: log.lines_of(&self.encoder) }
    }
}

/// An open encoder that has been fed at least one frame.
pub struct Encoder {
    context: NonNull<ffi::AVCodecContext>,
    /// Ours, not libavcodec's: some encoders write into it, none frees it. Freed after the context.
    stats_in: *mut std::ffi::c_char,
    stats_out: String,
    name: String,
    pass: u8,
    flag: PassFlag,
    frames: u64,
    log: LogMark,
}

// SAFETY: an AVCodecContext may be used from any one thread at a time; it is owned here and not `Sync`.
unsafe impl Send for Encoder {}

impl Encoder {
    /// The one constructor: a context with the codec's own defaults. Without the codec, x264 refuses and x265 crashes.
    fn allocate(setup: &EncoderSetup, log: LogMark) -> Result<Self, AvError> {
        let name = c_string(&setup.encoder)?;
        // SAFETY: a look-up by a terminated string.
        let codec = unsafe { ffi::avcodec_find_encoder_by_name(name.as_ptr()) };
        if codec.is_null() {
            return Err(AvError(ffi::AVERROR_ENCODER_NOT_FOUND));
        }
        // SAFETY: the codec is a static table.
        let context = unsafe { ffi::avcodec_alloc_context3(codec) };
        Ok(Encoder {
            context: NonNull::new(context).ok_or(OUT_OF_MEMORY)?,
            stats_in: ptr::null_mut(),
            stats_out: String::new(),
            name: setup.encoder.clone(),
            pass: setup.pass,
            flag: setup.flag,
            frames: 0,
            log,
        })
    }

    /// Everything that ffmpeg's own CLI takes from the first frame and the stream, in its way (`enc_open`, ffmpeg_enc.c).
    fn describe(&mut self, setup: &EncoderSetup, first: &Frame) {
        let frame = first.raw();
        let ratio = setup.sample_aspect_ratio.map_or(frame.sample_aspect_ratio, Into::into);
        let depth = first.bit_depth();
        let context = self.raw_mut();
        (context.width, context.height) = (frame.width, frame.height);
        context.pix_fmt = crate::av::frame::pixel_format_value(frame.format);
        context.time_base = setup.time_base.into();
        context.framerate = setup.frame_rate.into();
        context.sample_aspect_ratio = ratio;
        Colours::of_frame(frame).tell_encoder(context);
        context.bits_per_raw_sample = depth;
        context.field_order = first.field_order();
        // libavcodec's own default is one thread.
        context.thread_count = 0;
    }

    fn set(&mut self, setup: &EncoderSetup, option: &str, value: &str) -> Result<(), Error> {
        let failed = |source| Error::Option {
            encoder: setup.encoder.clone(),
            pass: setup.pass,
            option: option.to_owned(),
            value: value.to_owned(),
            source,
            log: self.log.lines_of(&setup.encoder),
        };
        let (name, text) = (c_string(option).map_err(failed)?, c_string(value).map_err(failed)?);
        let search = ffi::AV_OPT_SEARCH_CHILDREN;
        // SAFETY: the context begins with an AVClass; both strings are terminated and copied. The search looks into the
        // encoder's private options before the generic ones.
        check(unsafe { ffi::av_opt_set(self.context.as_ptr().cast(), name.as_ptr(), text.as_ptr(), search) })
            .map(drop)
            .map_err(failed)
    }

    /// Pass and header bits, after the options: an absolute `flags=` among those would wipe them.
    fn set_bits(&mut self, setup: &EncoderSetup) {
        let context = self.raw_mut();
        context.flags |= match setup.flag {
            PassFlag::None => 0,
            PassFlag::First => ffi::AV_CODEC_FLAG_PASS1 as c_int,
            PassFlag::Second => ffi::AV_CODEC_FLAG_PASS2 as c_int,
        };
        if setup.global_header {
            context.flags |= ffi::AV_CODEC_FLAG_GLOBAL_HEADER as c_int;
        }
        #[cfg(ffmpeg_6_1)]
        {
            context.flags |= ffi::AV_CODEC_FLAG_FRAME_DURATION as c_int;
        }
    }

    /// HDR mastering data and the like, which encoders read from the context from FFmpeg 7.1 on.
    #[cfg(ffmpeg_7_1)]
    fn clone_side_data(&mut self, first: &Frame) -> Result<(), AvError> {
        let frame = first.raw();
        for index in 0..frame.nb_side_data.max(0) as usize {
            // SAFETY: side_data holds nb_side_data live entries; the descriptor is a static table or null.
            let global = unsafe {
                ffi::av_frame_side_data_desc((**frame.side_data.add(index)).type_)
                    .as_ref()
                    .is_some_and(|d| d.props & ffi::AVSideDataProps::AV_SIDE_DATA_PROP_GLOBAL as u32 != 0)
            };
            if !global {
                continue;
            }
            let context = self.raw_mut();
            // SAFETY: the context owns the array and frees it; libav clones by reference.
            check(unsafe {
                ffi::av_frame_side_data_clone(
                    &raw mut context.decoded_side_data,
                    &raw mut context.nb_decoded_side_data,
                    *frame.side_data.add(index),
                    ffi::AV_FRAME_SIDE_DATA_FLAG_UNIQUE as u32,
                )
            })?;
        }
        Ok(())
    }

    #[cfg(not(ffmpeg_7_1))]
    fn clone_side_data(&mut self, _first: &Frame) -> Result<(), AvError> {
        Ok(())
    }

    fn give_stats(&mut self, stats: &str) -> Result<(), AvError> {
        let stats = c_string(stats)?;
        // SAFETY: a terminated string, copied by libav's allocator because libav's rules ask for it.
        self.stats_in = unsafe { ffi::av_strdup(stats.as_ptr()) };
        if self.stats_in.is_null() {
            return Err(OUT_OF_MEMORY);
        }
        let text = self.stats_in;
        self.raw_mut().stats_in = text;
        Ok(())
    }

    /// Gives the encoder its next frame; its time must be greater than the one before, in ticks of the setup's time base.
    ///
    /// # Errors
    /// [`Error::Encode`] with the encoder's own words, and for a frame of another size or pixel format than the first.
    pub fn send(&mut self, mut frame: Frame) -> Result<(), Error> {
        let (context, raw) = (self.raw(), frame.raw());
        let shape = (raw.width, raw.height, crate::av::frame::pixel_format_value(raw.format));
        // libavcodec passes it on, and most encoders read beyond the planes.
        if shape != (context.width, context.height, context.pix_fmt) {
            return Err(self.error(AvError::invalid()));
        }
        frame.raw_mut().quality = self.raw().global_quality;
        // SAFETY: both are owned and non-null; libavcodec takes its own reference to the frame's buffers.
        let code = unsafe { ffi::avcodec_send_frame(self.context.as_ptr(), frame.as_ptr()) };
        check(code).map_err(|source| self.error(source))?;
        self.frames += 1;
        Ok(())
    }

    /// Says that there are no more frames. Only for an encoder that has had all of them: libaom aborts the process when its
    /// second pass is flushed with fewer frames than its statistics.
    ///
    /// # Errors
    /// [`Error::Encode`] with the encoder's own words.
    pub fn send_end(&mut self) -> Result<(), Error> {
        // SAFETY: a null frame is the end of the stream.
        let code = unsafe { ffi::avcodec_send_frame(self.context.as_ptr(), ptr::null()) };
        check(code).map(drop).map_err(|source| self.error(source))
    }

    /// Takes the next packet, with times in ticks of the setup's time base, into `packet`.
    ///
    /// # Errors
    /// [`Error::Encode`] with the encoder's own words.
    pub fn receive(&mut self, packet: &mut Packet) -> Result<Received, Error> {
        // SAFETY: both are owned and non-null; the packet's old content is released by the call.
        let code = unsafe { ffi::avcodec_receive_packet(self.context.as_ptr(), packet.as_mut_ptr()) };
        let state = received(code).map_err(|source| self.error(source))?;
        if self.flag == PassFlag::First && state != Received::NeedInput {
            self.collect_stats();
        }
        Ok(state)
    }

    // libavcodec blanks stats_out before each receive (encode.c), so this is the only moment to read it.
    fn collect_stats(&mut self) {
        let out = self.raw().stats_out;
        if out.is_null() {
            return;
        }
        // SAFETY: libavcodec keeps stats_out terminated.
        let text = unsafe { CStr::from_ptr(out) };
        self.stats_out.push_str(&text.to_string_lossy());
        // SAFETY: the first byte of a terminated string is writable; blanked so that the same text is not read twice, as
        // libavcodec does itself before its next packet.
        unsafe { *out = 0 };
    }

    /// Ends the encoder and hands over the statistics it gave through memory; empty for encoders that write files. Files of
    /// x264 and x265 are whole only after this.
    #[must_use]
    pub fn into_stats(mut self) -> String {
        std::mem::take(&mut self.stats_out)
    }

    /// How many frames it has been given.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// libavcodec's name of the encoder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a muxer needs to know of the stream that this encoder makes.
    ///
    /// # Errors
    /// [`Error::Encode`]: out of memory.
    pub fn stream(&self) -> Result<EncodedStream, Error> {
        // SAFETY: the context is open and lives through the call, which copies what it needs.
        unsafe { EncodedStream::from_context(self.context.as_ptr()) }.map_err(|source| self.error(source))
    }

    fn error(&self, source: AvError) -> Error {
        let log = self.log.lines_of(&self.name);
        Error::Encode { encoder: self.name.clone(), pass: self.pass, frame: self.frames, source, log }
    }

    fn raw(&self) -> &ffi::AVCodecContext {
        // SAFETY: owned and non-null for the encoder's whole life.
        unsafe { self.context.as_ref() }
    }

    fn raw_mut(&mut self) -> &mut ffi::AVCodecContext {
        // SAFETY: as above, and borrowed mutably.
        unsafe { self.context.as_mut() }
    }
}

/// Encoders are opened and closed one after another: libraries have state that all their encoders share, and libavcodec
/// guards the opening alone (avcodec.c, `ff_lock_avcodec`).
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // It guards nothing of ours that a panic could leave half done.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Encoder {
    fn drop(&mut self) {
        if self.flag == PassFlag::First {
            let context = self.raw_mut();
            // SAFETY: allocated by libav. libsvtav1 never frees it (libsvtav1.c of FFmpeg 9); the others free whatever is
            // left here, and null is nothing.
            unsafe { ffi::av_freep((&raw mut context.stats_out).cast()) };
        }
        let mut context = self.context.as_ptr();
        let _alone = alone();
        // SAFETY: owned, freed once, without a flush.
        unsafe { ffi::avcodec_free_context(&raw mut context) };
        // SAFETY: from av_strdup, or null; the context that pointed to it is gone.
        unsafe { ffi::av_free(self.stats_in.cast()) };
    }
}
