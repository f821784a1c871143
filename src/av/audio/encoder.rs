//! An encoder of sound, and the choice of what it is given.

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use ffmpeg_sys_next as ffi;

use crate::audio::AudioSpec;
use crate::av::filter::AudioTarget;
use crate::av::frame::{Frame, channel_layout_name, sample_format_name};
use crate::av::log::LogMark;
use crate::av::muxer::EncodedStream;
#[cfg(ffmpeg_7_1)]
use crate::av::option::supported as listed;
use crate::av::packet::Packet;
use crate::av::source::StreamParameters;
use crate::av::{AvError, OUT_OF_MEMORY, Received, c_string, check, initialise, received};
use crate::media::Rational;

/// An open encoder.
pub(super) struct AudioEncoder {
    context: NonNull<ffi::AVCodecContext>,
    takes: AudioTarget,
    ended: bool,
}

// SAFETY: an encoder has no tie to the thread that opened it, and one owner.
unsafe impl Send for AudioEncoder {}

impl AudioEncoder {
    /// Opens the first encoder of `spec` that is linked, for sound as near to that of `stream` as it takes. The error comes
    /// with what the encoder logged, in brackets.
    pub(super) fn open(
        stream: &StreamParameters,
        spec: &AudioSpec,
        global_header: bool,
    ) -> Result<Self, (AvError, String)> {
        initialise();
        let log = LogMark::now();
        Self::try_open(stream, spec, global_header).map_err(|source| {
            let said = log.lines();
            (source, if said.is_empty() { said } else { format!(" ({said})") })
        })
    }

    fn try_open(stream: &StreamParameters, spec: &AudioSpec, global_header: bool) -> Result<Self, AvError> {
        let codec =
            spec.encoders().iter().find_map(|name| find(name)).ok_or(AvError(ffi::AVERROR_ENCODER_NOT_FOUND))?;
        let source = stream.codec_parameters().get();
        // SAFETY: allocates for a static codec; null is out of memory.
        let context = NonNull::new(unsafe { ffi::avcodec_alloc_context3(codec) }).ok_or(OUT_OF_MEMORY)?;
        let mut encoder = AudioEncoder { context, takes: AudioTarget::default(), ended: false };
        encoder.choose(codec, source, spec.layouts())?;
        let raw = encoder.raw_mut();
        raw.time_base = ffi::AVRational { num: 1, den: raw.sample_rate };
        let channels = raw.ch_layout.nb_channels.max(0) as u32;
        raw.bit_rate = spec.bitrate(channels).map_or(0, |rate| rate.0 as i64);
        if global_header {
            raw.flags |= ffi::AV_CODEC_FLAG_GLOBAL_HEADER as c_int;
        }
        // The last packet is then as long as its sound, and not as its padded frame.
        #[cfg(ffmpeg_6_1)]
        {
            raw.flags |= ffi::AV_CODEC_FLAG_FRAME_DURATION as c_int;
        }
        // SAFETY: the context was allocated for this codec and is not yet open.
        check(unsafe { ffi::avcodec_open2(encoder.context.as_ptr(), codec, ptr::null_mut()) })?;
        Ok(encoder)
    }

    /// Sets sample format, rate and channel layout.
    fn choose(
        &mut self,
        codec: *const ffi::AVCodec,
        source: &ffi::AVCodecParameters,
        layouts: &[&str],
    ) -> Result<(), AvError> {
        let (formats, rates, own_layouts) = supported(self.context.as_ptr(), codec);
        let raw = self.raw_mut();
        raw.sample_fmt = nearest_format(&formats, source.format);
        raw.sample_rate = nearest_rate(&rates, source.sample_rate);
        let own: Vec<&str> = own_layouts.iter().map(String::as_str).collect();
        // SAFETY: the source's layout is live; the context's is empty and ours to fill.
        unsafe {
            set_layout(&raw mut raw.ch_layout, &source.ch_layout, if layouts.is_empty() { &own } else { layouts })?
        };
        let takes = AudioTarget {
            sample_formats: vec![sample_format_name(raw.sample_fmt as c_int)],
            sample_rates: vec![raw.sample_rate.max(0) as u32],
            // SAFETY: the layout was just filled.
            channel_layouts: vec![unsafe { channel_layout_name(&raw const raw.ch_layout) }],
            frame_samples: 0,
        };
        self.takes = takes;
        Ok(())
    }

    /// What sound it takes; of any number of samples: see [`AudioEncoder::frame_samples`].
    pub(super) fn takes(&self) -> &AudioTarget {
        &self.takes
    }

    /// Samples per channel of every frame but the last; 0: any.
    pub(super) fn frame_samples(&self) -> u32 {
        self.raw().frame_size.max(0) as u32
    }

    pub(super) fn time_base(&self) -> Rational {
        self.raw().time_base.into()
    }

    pub(super) fn stream(&self) -> Result<EncodedStream, AvError> {
        // SAFETY: the context is live and open, and borrowed.
        unsafe { EncodedStream::from_context(self.context.as_ptr()) }
    }

    /// Gives it a frame, its time in ticks of `time_base`; `None` is the end.
    pub(super) fn send(&mut self, frame: Option<Frame>, time_base: Rational) -> Result<(), AvError> {
        let Some(mut frame) = frame else {
            if std::mem::replace(&mut self.ended, true) {
                return Ok(());
            }
            // SAFETY: the context is open; null is the end.
            return check(unsafe { ffi::avcodec_send_frame(self.context.as_ptr(), ptr::null()) }).map(drop);
        };
        if let Some(pts) = frame.pts() {
            // SAFETY: pure arithmetic.
            frame.set_pts(unsafe { ffi::av_rescale_q(pts, time_base.into(), self.raw().time_base) });
        }
        #[cfg(ffmpeg_6_1)]
        {
            // A filter that cuts frames leaves them the length of the frame they were cut from.
            let samples = i64::from(frame.raw().nb_samples);
            frame.raw_mut().duration = samples;
        }
        // SAFETY: both are live; libavcodec takes its own reference.
        check(unsafe { ffi::avcodec_send_frame(self.context.as_ptr(), frame.as_ptr()) }).map(drop)
    }

    pub(super) fn receive(&mut self, packet: &mut Packet) -> Result<Received, AvError> {
        // SAFETY: both are live; the call empties the packet first.
        received(unsafe { ffi::avcodec_receive_packet(self.context.as_ptr(), packet.as_mut_ptr()) })
    }

    fn raw(&self) -> &ffi::AVCodecContext {
        // SAFETY: owned and non-null.
        unsafe { self.context.as_ref() }
    }

    fn raw_mut(&mut self) -> &mut ffi::AVCodecContext {
        // SAFETY: as above, and borrowed mutably.
        unsafe { self.context.as_mut() }
    }
}

impl Drop for AudioEncoder {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: owned, freed once.
        unsafe { ffi::avcodec_free_context(&raw mut context) };
    }
}

fn find(name: &str) -> Option<*const ffi::AVCodec> {
    let name = c_string(name).ok()?;
    // SAFETY: the string is terminated; encoders are static.
    let codec = unsafe { ffi::avcodec_find_encoder_by_name(name.as_ptr()) };
    (!codec.is_null()).then_some(codec)
}

/// The source's format where the encoder takes it, packed or planar; else the smallest that loses nothing, else the largest.
fn nearest_format(formats: &[ffi::AVSampleFormat], source: c_int) -> ffi::AVSampleFormat {
    // SAFETY: pure look-ups in tables; the name is terminated.
    let source = c_string(&sample_format_name(source)).map(|name| unsafe { ffi::av_get_sample_fmt(name.as_ptr()) });
    let source = source.unwrap_or(ffi::AVSampleFormat::AV_SAMPLE_FMT_NONE);
    // SAFETY: as above.
    let packed = |format: ffi::AVSampleFormat| unsafe { ffi::av_get_packed_sample_fmt(format) };
    // SAFETY: as above.
    let bytes = |format: &ffi::AVSampleFormat| unsafe { ffi::av_get_bytes_per_sample(*format) };
    let same = formats.iter().find(|format| **format == source);
    let alike = || formats.iter().find(|format| packed(**format) == packed(source));
    let enough = || formats.iter().filter(|format| bytes(format) >= bytes(&source)).min_by_key(|format| bytes(format));
    let largest = || formats.iter().max_by_key(|format| bytes(format));
    let found = same.or_else(alike).or_else(enough).or_else(largest);
    found.copied().unwrap_or(ffi::AVSampleFormat::AV_SAMPLE_FMT_S16)
}

/// The source's rate, else the next higher, else the highest.
fn nearest_rate(rates: &[c_int], source: c_int) -> c_int {
    let source = if source > 0 { source } else { 48_000 };
    if rates.is_empty() {
        return source;
    }
    let higher = rates.iter().filter(|rate| **rate >= source).min();
    higher.or_else(|| rates.iter().max()).copied().unwrap_or(source)
}

/// Fills `layout`: the source's own where it is among `names` (none: any), else one with as many channels, else the one
/// with the most channels below.
///
/// # Safety
/// `layout` is an initialised layout that may be replaced.
unsafe fn set_layout(
    layout: *mut ffi::AVChannelLayout,
    source: &ffi::AVChannelLayout,
    names: &[&str],
) -> Result<(), AvError> {
    let channels = source.nb_channels.max(1);
    let unnamed = source.order == ffi::AVChannelOrder::AV_CHANNEL_ORDER_UNSPEC;
    // SAFETY: the layout is live.
    let own = unsafe { channel_layout_name(source) };
    if names.is_empty() && !unnamed {
        // SAFETY: both are live; the copy is deep.
        return check(unsafe { ffi::av_channel_layout_copy(layout, source) }).map(drop);
    }
    if names.is_empty() {
        // SAFETY: the layout is ours to fill.
        unsafe { ffi::av_channel_layout_default(layout, channels) };
        return Ok(());
    }
    let exact = names.iter().find(|name| **name == own);
    let alike = || names.iter().find(|name| channels_of(name) == channels);
    let fewer = || names.iter().filter(|name| channels_of(name) < channels).max_by_key(|name| channels_of(name));
    let chosen = exact.or_else(alike).or_else(fewer).or(names.first()).copied().unwrap_or("stereo");
    let chosen = c_string(chosen)?;
    // SAFETY: the layout is ours to fill, the string terminated.
    check(unsafe { ffi::av_channel_layout_from_string(layout, chosen.as_ptr()) }).map(drop)
}

/// Number of channels of a layout, by libavutil's name; 0 for a name it does not know.
fn channels_of(name: &str) -> c_int {
    let Ok(name) = c_string(name) else { return 0 };
    // SAFETY: zeroed memory is an empty layout.
    let mut layout: ffi::AVChannelLayout = unsafe { std::mem::zeroed() };
    // SAFETY: the layout is ours to fill, the string terminated.
    let code = unsafe { ffi::av_channel_layout_from_string(&raw mut layout, name.as_ptr()) };
    let channels = if code < 0 { 0 } else { layout.nb_channels };
    // SAFETY: filled or empty, and ours.
    unsafe { ffi::av_channel_layout_uninit(&raw mut layout) };
    channels
}

/// Sample formats, rates and names of channel layouts that an encoder takes; an empty list takes any.
type Supported = (Vec<ffi::AVSampleFormat>, Vec<c_int>, Vec<String>);

#[cfg(ffmpeg_7_1)]
fn supported(context: *const ffi::AVCodecContext, codec: *const ffi::AVCodec) -> Supported {
    use ffi::AVCodecConfig::{
        AV_CODEC_CONFIG_CHANNEL_LAYOUT, AV_CODEC_CONFIG_SAMPLE_FORMAT, AV_CODEC_CONFIG_SAMPLE_RATE,
    };
    // SAFETY: the context is live, and each list's values are of the type that libavcodec documents for the configuration.
    unsafe {
        (
            listed(context, codec, AV_CODEC_CONFIG_SAMPLE_FORMAT).to_vec(),
            listed(context, codec, AV_CODEC_CONFIG_SAMPLE_RATE).to_vec(),
            listed::<ffi::AVChannelLayout>(context, codec, AV_CODEC_CONFIG_CHANNEL_LAYOUT)
                .iter()
                .map(|layout| channel_layout_name(layout))
                .collect(),
        )
    }
}

#[cfg(not(ffmpeg_7_1))]
fn supported(_: *const ffi::AVCodecContext, codec: *const ffi::AVCodec) -> Supported {
    // SAFETY: encoders are static, and so are their lists, each of which is null or ends as told.
    unsafe {
        let codec = &*codec;
        (
            until(codec.sample_fmts, |format| *format == ffi::AVSampleFormat::AV_SAMPLE_FMT_NONE).copied().collect(),
            until(codec.supported_samplerates, |rate| *rate == 0).copied().collect(),
            until(codec.ch_layouts, |layout| layout.nb_channels == 0)
                .map(|layout| channel_layout_name(layout))
                .collect(),
        )
    }
}

/// The values of a static list up to its end mark.
///
/// # Safety
/// `list` is null, or lives for good and ends with a value for which `ends` is true.
#[cfg(not(ffmpeg_7_1))]
unsafe fn until<T: 'static>(list: *const T, ends: impl Fn(&T) -> bool) -> impl Iterator<Item = &'static T> {
    let mut next = list;
    std::iter::from_fn(move || {
        // SAFETY: null, or at a value that is not behind the end mark.
        let value = unsafe { next.as_ref() }.filter(|value| !ends(value))?;
        // SAFETY: the end mark was not reached, so there is a next one.
        next = unsafe { next.add(1) };
        Some(value)
    })
}
