//! Decoders: packets in, frames out; what cannot be decoded is counted, and decoding goes on.

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use ffmpeg_sys_next as ffi;

use crate::av::codec_parameters::CodecParameters;
use crate::av::frame::Frame;
use crate::av::log::Concealed;
use crate::av::muxer::EncodedStream;
use crate::av::packet::Packet;
use crate::av::source::StreamParameters;
use crate::av::{AvError, OUT_OF_MEMORY, Received, c_string, check, initialise, received, text};
use crate::media::Rational;

/// A decoder of one stream, of pictures or of sound.
///
/// Damage does not stop it: like the ffmpeg program it goes on with what it can decode, and [`Decoder::damaged`] says
/// how often that happened. Whether to accept the result is the caller's decision.
///
/// ```no_run
/// # use repass::av::{AvError, Received, frame::Frame, packet::Packet, source::{Decoder, Demuxer}};
/// # fn decode(demuxer: &mut Demuxer) -> Result<(), AvError> {
/// let video = demuxer.info().video.index;
/// demuxer.only(&[video]);
/// let mut decoder = Decoder::open(&demuxer.stream(video)?, None)?;
/// let (mut packet, mut frame) = (Packet::new()?, Frame::new()?);
/// loop {
///     match decoder.receive(&mut frame)? {
///         Received::Ready => println!("{:?}", frame.pts()),
///         Received::Done => return Ok(()),
///         Received::NeedInput => match demuxer.read(&mut packet)? {
///             Received::Ready => decoder.send(&packet)?,
///             Received::Done => decoder.send_end()?,
///             Received::NeedInput => {}
///         },
///     }
/// }
/// # }
/// ```
pub struct Decoder {
    context: NonNull<ffi::AVCodecContext>,
    packets: u64,
    frames: u64,
    damaged: u64,
    last_damage: Option<AvError>,
    concealed: Concealed,
}

// SAFETY: a decoder has no tie to the thread that opened it, and one owner; its own threads serve only calls on it.
unsafe impl Send for Decoder {}

impl Decoder {
    /// Opens libavcodec's default decoder for a stream. `threads`: at most so many; `None`: as many as there are
    /// processors.
    ///
    /// # Errors
    /// libavcodec has no decoder for it, or the decoder refuses the stream's parameters.
    pub fn open(stream: &StreamParameters, threads: Option<u16>) -> Result<Self, AvError> {
        Decoder::of(stream.codec_parameters(), stream.time_base, stream.average_rate, threads)
    }

    /// The same for a stream that an encoder of this process makes: it reads its packets as they come, on the thread that
    /// calls.
    ///
    /// # Errors
    /// As [`Decoder::open`].
    pub(crate) fn open_beside(stream: &EncodedStream) -> Result<Self, AvError> {
        Decoder::of(stream.parameters(), stream.time_base(), stream.frame_rate(), Some(1))
    }

    fn of(
        parameters: &CodecParameters,
        time_base: Rational,
        rate: Option<Rational>,
        threads: Option<u16>,
    ) -> Result<Self, AvError> {
        initialise();
        let parameters = parameters.as_ptr();
        // SAFETY: the parameters are borrowed; decoders are static.
        let codec = unsafe { ffi::avcodec_find_decoder((*parameters).codec_id) };
        if codec.is_null() {
            return Err(AvError(ffi::AVERROR_DECODER_NOT_FOUND));
        }
        // SAFETY: allocates for a static codec; null is out of memory.
        let context = NonNull::new(unsafe { ffi::avcodec_alloc_context3(codec) }).ok_or(OUT_OF_MEMORY)?;
        let concealed = Concealed::new();
        let mut decoder = Decoder { context, packets: 0, frames: 0, damaged: 0, last_damage: None, concealed };
        // SAFETY: both are live; everything is copied.
        check(unsafe { ffi::avcodec_parameters_to_context(context.as_ptr(), parameters) })?;
        let opaque = decoder.concealed.as_opaque();
        let raw = decoder.raw_mut();
        raw.opaque = opaque;
        raw.pkt_timebase = time_base.into();
        raw.framerate = rate.map_or(ffi::AVRational { num: 0, den: 1 }, Into::into);
        // libavcodec's default is one thread; 0 asks it to count the processors.
        raw.thread_count = threads.map_or(0, c_int::from);
        raw.thread_type = ffi::FF_THREAD_FRAME | ffi::FF_THREAD_SLICE;
        raw.max_pixels = MOST_PIXELS;
        // SAFETY: the context is live, was allocated for this codec and is not yet open.
        check(unsafe { ffi::avcodec_open2(context.as_ptr(), codec, ptr::null_mut()) })?;
        Ok(decoder)
    }

    /// Gives the decoder its next packet. Call it when [`Decoder::receive`] answered `NeedInput`.
    ///
    /// # Errors
    /// Out of memory, or called at the wrong time (`EAGAIN`, `EOF`). A packet that cannot be decoded is no error.
    pub fn send(&mut self, packet: &Packet) -> Result<(), AvError> {
        // An empty packet would end the stream. Some demuxers yield them for frames that were dropped.
        if packet.data().is_empty() && !packet.has_side_data() {
            return Ok(());
        }
        self.packets += u64::from(!packet.is_discarded());
        // SAFETY: both are live; libavcodec takes its own reference.
        let code = unsafe { ffi::avcodec_send_packet(self.context.as_ptr(), packet.as_ptr()) };
        self.survive(code)
    }

    /// Says that no more packets will come; the frames still inside come out, then `Done`.
    ///
    /// # Errors
    /// Out of memory, or said before (`EOF`).
    pub fn send_end(&mut self) -> Result<(), AvError> {
        // SAFETY: the context is live; null is the end of the stream.
        let code = unsafe { ffi::avcodec_send_packet(self.context.as_ptr(), ptr::null()) };
        self.survive(code)
    }

    /// Takes the next frame into `frame`, whose earlier content goes. Its time is libav's best guess: the container's
    /// where that makes sense, else one derived from the decoding times.
    ///
    /// # Errors
    /// Out of memory, or nothing but damage many times in a row.
    pub fn receive(&mut self, frame: &mut Frame) -> Result<Received, AvError> {
        for _ in 0..DAMAGE_IN_A_ROW {
            // SAFETY: both are live; the call empties the frame first.
            let code = unsafe { ffi::avcodec_receive_frame(self.context.as_ptr(), frame.as_mut_ptr()) };
            match received(code) {
                Ok(Received::Ready) => {
                    self.accept(frame);
                    return Ok(Received::Ready);
                }
                Ok(state) => return Ok(state),
                Err(_) => self.survive(code)?,
            }
        }
        Err(self.last_damage.unwrap_or(AvError(ffi::AVERROR_INVALIDDATA)))
    }

    /// How often something could not be decoded, or only with errors: packets and frames together.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        // A patched picture is marked as well, if all goes well.
        self.damaged.max(self.concealed.count())
    }

    /// The latest error among them; `None` where the decoder only marked frames.
    #[must_use]
    pub fn last_damage(&self) -> Option<AvError> {
        self.last_damage
    }

    /// How many packets were sent whose frames are to be shown (an edit list hides the others), and how many frames came
    /// out. Codecs with one frame in a packet (not VP8, VP9 and AV1, which hide some) should have as many: libavcodec drops
    /// what refers to missing pictures without an error or a mark.
    #[must_use]
    pub fn packets_and_frames(&self) -> (u64, u64) {
        (self.packets, self.frames)
    }

    /// Whether every packet of this codec gives one frame: all that code pictures by themselves, H.264 and HEVC. VP8, VP9
    /// and AV1 hide pictures, and MPEG-2 may begin with pictures that lean on ones before the beginning.
    #[must_use]
    pub fn gives_a_frame_for_each_packet(&self) -> bool {
        // SAFETY: owned, non-null; the descriptor is static or null.
        let (id, descriptor) = unsafe {
            let id = self.context.as_ref().codec_id;
            (id, ffi::avcodec_descriptor_get(id).as_ref())
        };
        let intra = descriptor.is_some_and(|descriptor| descriptor.props & ffi::AV_CODEC_PROP_INTRA_ONLY as c_int != 0);
        intra || matches!(id, ffi::AVCodecID::AV_CODEC_ID_H264 | ffi::AVCodecID::AV_CODEC_ID_HEVC)
    }

    /// Forgets everything inside, for going on elsewhere after a seek, or again after the end. Counts stay.
    pub fn flush(&mut self) {
        // SAFETY: the context is live and open.
        unsafe { ffi::avcodec_flush_buffers(self.context.as_ptr()) };
    }

    fn accept(&mut self, frame: &mut Frame) {
        self.frames += 1;
        let raw = frame.raw_mut();
        raw.pts = raw.best_effort_timestamp;
        let marked = raw.decode_error_flags != 0 || raw.flags & ffi::AV_FRAME_FLAG_CORRUPT != 0;
        self.damaged += u64::from(marked);
    }

    /// Counts damage; gives back what is none.
    fn survive(&mut self, code: c_int) -> Result<(), AvError> {
        let eagain = ffi::AVERROR(ffi::EAGAIN);
        match code {
            0.. => Ok(()),
            ffi::AVERROR_EOF | ffi::AVERROR_EXIT => Err(AvError(code)),
            code if code == eagain || code == OUT_OF_MEMORY.0 => Err(AvError(code)),
            // Decoders say more than AVERROR_INVALIDDATA of bad data: libdav1d EINVAL, others EXTERNAL or PATCHWELCOME.
            code => {
                self.damaged += 1;
                self.last_damage = Some(AvError(code));
                Ok(())
            }
        }
    }

    fn raw_mut(&mut self) -> &mut ffi::AVCodecContext {
        // SAFETY: owned, non-null and borrowed mutably.
        unsafe { self.context.as_mut() }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: owned, freed once; its threads are joined.
        unsafe { ffi::avcodec_free_context(&raw mut context) };
    }
}

/// The name of libavcodec's decoder of a codec, by the codec's name; `None` where it has none that works without hardware.
pub(crate) fn decoder_of(codec: &str) -> Option<String> {
    initialise();
    let name = c_string(codec).ok()?;
    // SAFETY: look-ups by a terminated string and a number; descriptors and decoders are static tables or null.
    let decoder = unsafe {
        let descriptor = ffi::avcodec_descriptor_get_by_name(name.as_ptr()).as_ref()?;
        ffi::avcodec_find_decoder(descriptor.id).as_ref()?
    };
    // SAFETY: a decoder's name is a static string.
    unsafe { text(decoder.name) }.filter(|name| !HARDWARE_ONLY.contains(&name.as_str()))
}

/// Decoders that only parse, and leave pictures to hardware (av1dec.c).
const HARDWARE_ONLY: &[&str] = &["av1"];

/// 16K (15360x8640) and a little more: a header of a few bytes may claim anything, and every claim costs memory.
pub(super) const MOST_PIXELS: i64 = 1 << 27;

/// Errors without a frame or a wish for input between them at which a decoder is taken to be stuck.
const DAMAGE_IN_A_ROW: usize = 1000;
