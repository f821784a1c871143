//! Filter graphs: one input and several outputs of pictures, or one of sound, with the bits of the ffmpeg program.
//!
//! Invariants: contexts of filters never leave the graph that owns them; a graph is configured by the first frame it will
//! get and takes only frames like it; what a graph yields is fixed by `format` and `aformat` filters at the end of its
//! chains, because options of the sinks do nothing from FFmpeg 8 on once a sink is initialised.

use std::ffi::{CStr, c_int};
use std::ptr::{self, NonNull};

use ffmpeg_sys_next as ffi;

#[cfg(ffmpeg_7_0)]
use crate::av::colour::Colours;
#[cfg(ffmpeg_7_1)]
use crate::av::frame::range_name;
use crate::av::frame::{Frame, channel_layout_name, pixel_format_name, sample_format_name};
use crate::av::log::LogMark;
use crate::av::{AvError, OUT_OF_MEMORY, Received, c_string, check, initialise, positive, received, text};
use crate::error::Error;
use crate::media::Rational;

pub mod comparison;

/// What the frames that go into a [`VideoFilter`] do not say themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterInput {
    /// Seconds per tick of the frames' times.
    pub time_base: Rational,
    /// Nominal frames per second, where known.
    pub frame_rate: Option<Rational>,
    /// Shape of a pixel as the stream has it; where known it wins over the frames' own, as in the ffmpeg program.
    pub sample_aspect_ratio: Option<Rational>,
}

/// What comes out of one output of a [`VideoFilter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterOutput {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// libavutil's name of the pixel format.
    pub pixel_format: String,
    /// Range of the sample values, `tv` or `pc`, where the graph settles it: from FFmpeg 7.1 on.
    pub colour_range: Option<&'static str>,
    /// Seconds per tick of the frames' times.
    pub time_base: Rational,
    /// Nominal frames per second, where known.
    pub frame_rate: Option<Rational>,
    /// Shape of a pixel, width to height, where known.
    pub sample_aspect_ratio: Option<Rational>,
}

/// A graph from one stream of pictures to one or more.
///
/// ```no_run
/// # use repass::av::{Received, filter::{FilterInput, VideoFilter}, frame::Frame};
/// # fn run(first: Frame, input: FilterInput) -> Result<(), Box<dyn std::error::Error>> {
/// let mut filter = VideoFilter::open(&first, &input, "[in]split[a][out0];[a]scale=640:360[out1]", 2, None)?;
/// filter.push(first)?;
/// filter.push_end()?;
/// let mut small = Frame::new()?;
/// while filter.pull(1, &mut small)? == Received::Ready {
///     println!("{}x{}", small.width(), small.height());
/// }
/// # Ok(()) }
/// ```
pub struct VideoFilter {
    graph: Graph,
    input: FilterInput,
    shape: Shape,
    /// Where the last frame pushed ends, in ticks: filters that fill gaps (`fps`) fill up to here.
    end: Option<i64>,
}

impl VideoFilter {
    /// Configures `graph` for frames like `first`, which is not pushed. The graph's input is labelled `[in]`, its
    /// `outputs` are `[out0]`, `[out1]` and so on; a chain with one input and one output needs no labels. `threads` is at
    /// most how many threads each filter uses; `None`: as many as there are processors.
    ///
    /// # Errors
    /// [`Error::Filter`]: a graph that libavfilter cannot parse or configure, or with other inputs and outputs.
    pub fn open(
        first: &Frame,
        input: &FilterInput,
        graph: &str,
        outputs: usize,
        threads: Option<u16>,
    ) -> Result<Self, Error> {
        let parameters = || video_parameters(first, input);
        let graph = Graph::open(graph, &VIDEO, parameters, outputs, threads)?;
        Ok(VideoFilter { graph, input: *input, shape: Shape::of(first), end: None })
    }

    /// Whether the graph was configured for frames like this one: of its size and pixel format and, from FFmpeg 7.0 on,
    /// of its colour space and range. Pixel shapes may differ, as in the ffmpeg program. For a frame that is not, end this
    /// graph, pull what is left, and open another.
    #[must_use]
    pub fn accepts(&self, frame: &Frame) -> bool {
        self.shape == Shape::of(frame)
    }

    /// Gives the graph its next frame. Nothing happens when all outputs have ended already.
    ///
    /// # Errors
    /// [`Error::Filter`]: a filter failed, or the frame is not one that the graph [accepts](VideoFilter::accepts).
    pub fn push(&mut self, mut frame: Frame) -> Result<(), Error> {
        if !self.accepts(&frame) {
            return Err(self.graph.error(AvError::invalid(), "frames changed their size or format"));
        }
        self.end = frame.pts().map(|pts| pts + self.duration(&frame)).max(self.end);
        let raw = frame.raw_mut();
        raw.time_base = self.input.time_base.into();
        if let Some(ratio) = self.input.sample_aspect_ratio {
            raw.sample_aspect_ratio = ratio.into();
        }
        self.graph.push(frame)
    }

    /// Says that no more frames will come.
    ///
    /// # Errors
    /// [`Error::Filter`]: a filter failed.
    pub fn push_end(&mut self) -> Result<(), Error> {
        self.graph.push_end(self.end)
    }

    /// Takes the next frame of one output, counted from 0, into `frame`, whose earlier content goes.
    ///
    /// # Errors
    /// [`Error::Filter`]: a filter failed.
    pub fn pull(&mut self, output: usize, frame: &mut Frame) -> Result<Received, Error> {
        self.graph.pull(output, frame)
    }

    /// What output number `n`, counted from 0, yields.
    #[must_use]
    pub fn output(&self, n: usize) -> FilterOutput {
        let sink = self.graph.sinks[n].as_ptr();
        // SAFETY: the sink is live and configured; these only read it.
        unsafe {
            FilterOutput {
                width: ffi::av_buffersink_get_w(sink).max(0) as u32,
                height: ffi::av_buffersink_get_h(sink).max(0) as u32,
                pixel_format: pixel_format_name(ffi::av_buffersink_get_format(sink)),
                #[cfg(ffmpeg_7_1)]
                colour_range: range_name(ffi::av_buffersink_get_color_range(sink) as u32),
                #[cfg(not(ffmpeg_7_1))]
                colour_range: None,
                time_base: ffi::av_buffersink_get_time_base(sink).into(),
                frame_rate: positive(ffi::av_buffersink_get_frame_rate(sink)),
                sample_aspect_ratio: positive(ffi::av_buffersink_get_sample_aspect_ratio(sink)),
            }
        }
    }

    fn duration(&self, frame: &Frame) -> i64 {
        let nominal = |rate: Rational| {
            // SAFETY: pure arithmetic.
            unsafe { ffi::av_rescale_q(1, rate.inverse().into(), self.input.time_base.into()) }
        };
        frame.duration().or_else(|| self.input.frame_rate.map(nominal)).unwrap_or(0)
    }
}

/// What sound has to be for an encoder to take it; an empty list takes anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AudioTarget {
    /// libavutil's names of sample formats (`fltp`, `s16`).
    pub sample_formats: Vec<String>,
    /// Samples per second.
    pub sample_rates: Vec<u32>,
    /// libavutil's names of channel layouts (`stereo`, `5.1`).
    pub channel_layouts: Vec<String>,
    /// Samples per channel of every frame but the last; 0: as they come.
    pub frame_samples: u32,
}

/// What comes out of an [`AudioFilter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioOutput {
    /// libavutil's name of the sample format.
    pub sample_format: String,
    /// Samples per second.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u32,
    /// libavutil's name of the channel layout.
    pub channel_layout: String,
    /// Seconds per tick of the frames' times.
    pub time_base: Rational,
}

/// A graph from one stream of sound to one that an encoder takes.
pub struct AudioFilter {
    graph: Graph,
    /// Seconds per tick of what goes in, and of what comes out.
    time_base: Rational,
    output_time_base: Rational,
    shape: AudioShape,
    /// What `av_rescale_delta` remembers, so that coarse container times become exact counts of samples.
    rescaled: i64,
    /// Where the last frame pushed ends, in samples.
    end: Option<i64>,
}

impl AudioFilter {
    /// Configures a graph for frames like `first`, which is not pushed. The frames' times count in `time_base`. `graph`
    /// is a chain of filters to run before the sound is brought to the target; `None`: none.
    ///
    /// # Errors
    /// [`Error::Filter`]: a graph that libavfilter cannot parse or configure.
    pub fn open(first: &Frame, time_base: Rational, target: &AudioTarget, graph: Option<&str>) -> Result<Self, Error> {
        let shape = AudioShape::of(first);
        let graph = format!("{}{}", graph.unwrap_or("anull"), converter(target));
        let graph = Graph::open(&graph, &AUDIO, || audio_parameters(first), 1, Some(1))?;
        if target.frame_samples > 0 {
            // SAFETY: the sink is live and configured.
            unsafe { ffi::av_buffersink_set_frame_size(graph.sinks[0].as_ptr(), target.frame_samples) };
        }
        // SAFETY: as above; the call only reads it.
        let output_time_base = unsafe { ffi::av_buffersink_get_time_base(graph.sinks[0].as_ptr()) }.into();
        Ok(AudioFilter { graph, time_base, output_time_base, shape, rescaled: ffi::AV_NOPTS_VALUE, end: None })
    }

    /// Whether the graph was configured for frames like this one: of its sample format, rate and channel layout.
    #[must_use]
    pub fn accepts(&self, frame: &Frame) -> bool {
        self.shape == AudioShape::of(frame)
    }

    /// Gives the graph its next frame. A frame without a time follows on the one before.
    ///
    /// # Errors
    /// [`Error::Filter`]: a filter failed, or the frame is not one that the graph [accepts](AudioFilter::accepts).
    pub fn push(&mut self, mut frame: Frame) -> Result<(), Error> {
        if !self.accepts(&frame) {
            return Err(self.graph.error(AvError::invalid(), "sound changed its format, rate or layout"));
        }
        let per_sample = Rational::new(1, frame.raw().sample_rate);
        let samples = frame.raw().nb_samples;
        let pts = frame.pts().map(|pts| {
            // SAFETY: pure arithmetic on a known time and on the memory that we keep for it.
            unsafe {
                ffi::av_rescale_delta(
                    self.time_base.into(),
                    pts,
                    per_sample.into(),
                    samples,
                    &raw mut self.rescaled,
                    per_sample.into(),
                )
            }
        });
        let pts = pts.or(self.end).unwrap_or(0);
        self.end = Some(pts + i64::from(samples));
        name_layout(&mut frame);
        frame.set_pts(pts);
        frame.raw_mut().time_base = per_sample.into();
        self.graph.push(frame)
    }

    /// Says that no more frames will come.
    ///
    /// # Errors
    /// [`Error::Filter`]: a filter failed.
    pub fn push_end(&mut self) -> Result<(), Error> {
        self.graph.push_end(self.end)
    }

    /// Takes the next frame into `frame`, whose earlier content goes.
    ///
    /// # Errors
    /// [`Error::Filter`]: a filter failed.
    pub fn pull(&mut self, frame: &mut Frame) -> Result<Received, Error> {
        self.graph.pull(0, frame)
    }

    /// Seconds per tick of the frames that come out.
    pub(crate) fn output_time_base(&self) -> Rational {
        self.output_time_base
    }

    /// What the graph yields.
    #[must_use]
    pub fn output(&self) -> AudioOutput {
        let sink = self.graph.sinks[0].as_ptr();
        let mut layout = Layout::empty();
        // SAFETY: the sink is live and configured; the layout is ours to fill, and stays empty where this fails.
        let named = unsafe { ffi::av_buffersink_get_ch_layout(sink, &raw mut layout.0) } >= 0;
        // SAFETY: these only read the sink, and the layout is live.
        unsafe {
            AudioOutput {
                sample_format: sample_format_name(ffi::av_buffersink_get_format(sink)),
                sample_rate: ffi::av_buffersink_get_sample_rate(sink).max(0) as u32,
                channels: ffi::av_buffersink_get_channels(sink).max(0) as u32,
                channel_layout: if named { channel_layout_name(&raw const layout.0) } else { "unknown".to_owned() },
                time_base: self.output_time_base,
            }
        }
    }
}

/// What a graph for pictures is configured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    width: c_int,
    height: c_int,
    format: c_int,
    /// Matrix and range.
    #[cfg(ffmpeg_7_0)]
    colours: (u32, u32),
}

impl Shape {
    fn of(frame: &Frame) -> Self {
        let raw = frame.raw();
        Shape {
            width: raw.width,
            height: raw.height,
            format: raw.format,
            #[cfg(ffmpeg_7_0)]
            colours: (Colours::of_frame(raw).matrix, Colours::of_frame(raw).range),
        }
    }
}

/// What a graph for sound is configured for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AudioShape {
    format: c_int,
    sample_rate: c_int,
    layout: String,
}

impl AudioShape {
    fn of(frame: &Frame) -> Self {
        let raw = frame.raw();
        AudioShape { format: raw.format, sample_rate: raw.sample_rate, layout: frame.channel_layout() }
    }
}

/// The filters at the ends of a graph.
struct Ends {
    source: &'static CStr,
    sink: &'static CStr,
}

const VIDEO: Ends = Ends { source: c"buffer", sink: c"buffersink" };
const AUDIO: Ends = Ends { source: c"abuffer", sink: c"abuffersink" };

/// A configured graph with its ends.
struct Graph {
    /// Owns every context below.
    _owner: GraphOwner,
    source: NonNull<ffi::AVFilterContext>,
    sinks: Vec<NonNull<ffi::AVFilterContext>>,
    text: String,
}

// SAFETY: a graph has no tie to the thread that made it, and one owner; its worker threads serve only calls on it.
unsafe impl Send for Graph {}

impl Graph {
    fn open(
        graph: &str,
        ends: &Ends,
        parameters: impl FnOnce() -> Result<SourceParameters, AvError>,
        outputs: usize,
        threads: Option<u16>,
    ) -> Result<Self, Error> {
        initialise();
        let log = LogMark::now();
        let built = GraphOwner::new(threads).map_err(Fault::from).and_then(|owner| {
            let source = owner.add_source(ends.source, &parameters()?)?;
            let (inputs, open_outputs) = owner.parse(graph)?;
            inputs.the_input()?.link_from(source)?;
            let open_outputs = open_outputs.in_order(outputs)?;
            let sinks = open_outputs.iter().enumerate().map(|(n, pad)| owner.add_sink(ends.sink, n, pad));
            let sinks = sinks.collect::<Result<_, _>>()?;
            owner.configure()?;
            Ok(Graph { _owner: owner, source, sinks, text: graph.to_owned() })
        });
        built.map_err(|fault| Error::Filter {
            graph: graph.to_owned(),
            source: fault.source,
            log: fault.why.unwrap_or_else(|| log.lines()),
        })
    }

    fn push(&mut self, mut frame: Frame) -> Result<(), Error> {
        let log = LogMark::now();
        // SAFETY: source and frame are live; the graph takes the frame's references, and the shell stays ours.
        let code = unsafe { ffi::av_buffersrc_add_frame_flags(self.source.as_ptr(), frame.as_mut_ptr(), PUSH) };
        self.unless_ended(code, log)
    }

    fn push_end(&mut self, end: Option<i64>) -> Result<(), Error> {
        let log = LogMark::now();
        let end = end.unwrap_or(ffi::AV_NOPTS_VALUE);
        // SAFETY: the source is live. As the ffmpeg program does: with the time at which the last frame ends.
        let code = unsafe { ffi::av_buffersrc_close(self.source.as_ptr(), end, PUSH as u32) };
        self.unless_ended(code, log)
    }

    /// Outputs that need no more input (`trim`) make pushing fail with EOF, which is no error.
    fn unless_ended(&self, code: c_int, log: LogMark) -> Result<(), Error> {
        match code {
            ffi::AVERROR_EOF => Ok(()),
            code => check(code).map(drop).map_err(|source| self.error(source, &log.lines())),
        }
    }

    fn pull(&mut self, output: usize, frame: &mut Frame) -> Result<Received, Error> {
        let log = LogMark::now();
        frame.clear();
        // SAFETY: the sink is live and the frame empty; its references become ours.
        let code = unsafe { ffi::av_buffersink_get_frame(self.sinks[output].as_ptr(), frame.as_mut_ptr()) };
        received(code).map_err(|source| self.error(source, &log.lines()))
    }

    fn error(&self, source: AvError, log: &str) -> Error {
        Error::Filter { graph: self.text.clone(), source, log: log.to_owned() }
    }
}

/// Why a graph cannot be built, in our words where libavfilter has none.
struct Fault {
    source: AvError,
    why: Option<String>,
}

impl From<AvError> for Fault {
    fn from(source: AvError) -> Self {
        Fault { source, why: None }
    }
}

impl Fault {
    fn because(why: String) -> Self {
        Fault { source: AvError::invalid(), why: Some(why) }
    }
}

/// Owns an AVFilterGraph, and with it every filter inside.
struct GraphOwner(NonNull<ffi::AVFilterGraph>);

impl GraphOwner {
    fn new(threads: Option<u16>) -> Result<Self, AvError> {
        // SAFETY: allocates; null is out of memory.
        let owner = NonNull::new(unsafe { ffi::avfilter_graph_alloc() }).map(GraphOwner).ok_or(OUT_OF_MEMORY)?;
        let graph = owner.0.as_ptr();
        // SAFETY: the graph is live and has no filters yet, so that this holds for all of them.
        unsafe { (*graph).nb_threads = threads.map_or(0, c_int::from) };
        // The ffmpeg program asks for bicubic by name for every scaler, also those that libavfilter inserts.
        // SAFETY: the graph is live and has this option; both strings are terminated and copied.
        check(unsafe { ffi::av_opt_set(graph.cast(), c"scale_sws_opts".as_ptr(), c"flags=bicubic".as_ptr(), 0) })?;
        Ok(owner)
    }

    fn add_source(&self, kind: &CStr, parameters: &SourceParameters) -> Result<NonNull<ffi::AVFilterContext>, AvError> {
        // SAFETY: names are terminated; the new context belongs to the graph.
        let source = unsafe {
            ffi::avfilter_graph_alloc_filter(self.0.as_ptr(), ffi::avfilter_get_by_name(kind.as_ptr()), c"in".as_ptr())
        };
        let source = NonNull::new(source).ok_or(OUT_OF_MEMORY)?;
        // Parameters go in before the filter is initialised: it is the way that all versions share.
        // SAFETY: both are live; the filter copies what it needs and takes references of its own.
        check(unsafe { ffi::av_buffersrc_parameters_set(source.as_ptr(), parameters.0.as_ptr()) })?;
        // SAFETY: live and not yet initialised.
        check(unsafe { ffi::avfilter_init_str(source.as_ptr(), ptr::null()) })?;
        Ok(source)
    }

    fn parse(&self, graph: &str) -> Result<(Pads, Pads), AvError> {
        let graph = c_string(graph)?;
        let (mut inputs, mut outputs) = (Pads(ptr::null_mut()), Pads(ptr::null_mut()));
        // SAFETY: the graph is live, the text terminated; both lists become ours to free.
        check(unsafe {
            ffi::avfilter_graph_parse2(self.0.as_ptr(), graph.as_ptr(), &raw mut inputs.0, &raw mut outputs.0)
        })?;
        Ok((inputs, outputs))
    }

    fn add_sink(&self, kind: &CStr, n: usize, pad: &Pad) -> Result<NonNull<ffi::AVFilterContext>, Fault> {
        let name = c_string(&format!("out{n}"))?;
        let mut sink = ptr::null_mut();
        // SAFETY: names are terminated; the new context belongs to the graph.
        check(unsafe {
            ffi::avfilter_graph_create_filter(
                &raw mut sink,
                ffi::avfilter_get_by_name(kind.as_ptr()),
                name.as_ptr(),
                ptr::null(),
                ptr::null_mut(),
                self.0.as_ptr(),
            )
        })?;
        let sink = NonNull::new(sink).ok_or(OUT_OF_MEMORY)?;
        // SAFETY: both filters are in this graph, the pad is open, and a sink has one input.
        check(unsafe { ffi::avfilter_link(pad.filter, pad.index, sink.as_ptr(), 0) })?;
        Ok(sink)
    }

    fn configure(&self) -> Result<(), AvError> {
        // SAFETY: the graph is live; the log context may be null.
        check(unsafe { ffi::avfilter_graph_config(self.0.as_ptr(), ptr::null_mut()) }).map(drop)
    }
}

impl Drop for GraphOwner {
    fn drop(&mut self) {
        let mut graph = self.0.as_ptr();
        // SAFETY: owned, freed once, and all contexts with it.
        unsafe { ffi::avfilter_graph_free(&raw mut graph) };
    }
}

/// The inputs or the outputs that a parsed graph leaves open.
struct Pads(*mut ffi::AVFilterInOut);

/// One of them.
struct Pad {
    label: Option<String>,
    filter: *mut ffi::AVFilterContext,
    index: u32,
}

impl Pads {
    fn list(&self) -> Vec<Pad> {
        let mut list = Vec::new();
        let mut next = self.0;
        // SAFETY: the list is ours and ends with null.
        while let Some(pad) = unsafe { next.as_ref() } {
            // SAFETY: a label is null or a terminated string.
            let label = unsafe { text(pad.name) };
            list.push(Pad { label, filter: pad.filter_ctx, index: pad.pad_idx as u32 });
            next = pad.next;
        }
        list
    }

    fn the_input(&self) -> Result<Pad, Fault> {
        let mut open = self.list();
        match (open.pop(), open.is_empty()) {
            (Some(pad), true) if pad.is("in") || pad.label.is_none() => Ok(pad),
            (last, _) => {
                open.extend(last);
                Err(Fault::because(format!("its inputs are {}, not [in]", labels(&open))))
            }
        }
    }

    fn in_order(&self, outputs: usize) -> Result<Vec<Pad>, Fault> {
        let open = self.list();
        let wanted: Vec<String> = (0..outputs).map(|n| format!("out{n}")).collect();
        if let ([Pad { label: None, .. }], 1) = (open.as_slice(), outputs) {
            return Ok(open);
        }
        if open.len() != outputs || !wanted.iter().all(|name| open.iter().any(|pad| pad.is(name))) {
            let wanted: String = wanted.iter().map(|name| format!("[{name}]")).collect();
            return Err(Fault::because(format!("its outputs are {}, not {wanted}", labels(&open))));
        }
        let place = |pad: &Pad| wanted.iter().position(|name| pad.is(name));
        let mut open = open;
        open.sort_by_key(place);
        Ok(open)
    }
}

impl Drop for Pads {
    fn drop(&mut self) {
        // SAFETY: owned; null is allowed.
        unsafe { ffi::avfilter_inout_free(&raw mut self.0) };
    }
}

impl Pad {
    fn is(&self, label: &str) -> bool {
        self.label.as_deref() == Some(label)
    }

    fn link_from(&self, source: NonNull<ffi::AVFilterContext>) -> Result<(), AvError> {
        // SAFETY: both filters are in the same graph, the pad is open, and a source has one output.
        check(unsafe { ffi::avfilter_link(source.as_ptr(), 0, self.filter, self.index) }).map(drop)
    }
}

fn labels(pads: &[Pad]) -> String {
    if pads.is_empty() {
        return "none".to_owned();
    }
    let mut labels: Vec<String> =
        pads.iter().map(|pad| format!("[{}]", pad.label.as_deref().unwrap_or("unnamed"))).collect();
    // Their order differs between versions.
    labels.sort();
    labels.concat()
}

/// Owns an AVBufferSrcParameters.
struct SourceParameters(NonNull<ffi::AVBufferSrcParameters>);

impl SourceParameters {
    fn new() -> Result<Self, AvError> {
        // SAFETY: allocates zeroed; null is out of memory.
        NonNull::new(unsafe { ffi::av_buffersrc_parameters_alloc() }).map(SourceParameters).ok_or(OUT_OF_MEMORY)
    }

    fn raw_mut(&mut self) -> &mut ffi::AVBufferSrcParameters {
        // SAFETY: owned, non-null and borrowed mutably.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for SourceParameters {
    fn drop(&mut self) {
        // SAFETY: owned; the layout is our copy, references in it are the frame's and not counted.
        unsafe { ffi::av_channel_layout_uninit(&raw mut self.raw_mut().ch_layout) };
        // SAFETY: owned, freed once.
        unsafe { ffi::av_free(self.0.as_ptr().cast()) };
    }
}

fn video_parameters(first: &Frame, input: &FilterInput) -> Result<SourceParameters, AvError> {
    let unknown = ffi::AVRational { num: 0, den: 1 };
    let frame = first.raw();
    let mut parameters = SourceParameters::new()?;
    let raw = parameters.raw_mut();
    (raw.width, raw.height, raw.format) = (frame.width, frame.height, frame.format);
    raw.time_base = input.time_base.into();
    raw.frame_rate = input.frame_rate.map_or(unknown, Into::into);
    raw.sample_aspect_ratio = input.sample_aspect_ratio.or(first.sample_aspect_ratio()).map_or(unknown, Into::into);
    // Lent for the call that sets the parameters, which takes its own reference.
    raw.hw_frames_ctx = frame.hw_frames_ctx;
    #[cfg(ffmpeg_7_0)]
    Colours::of_frame(frame).tell_source(raw);
    #[cfg(ffmpeg_9_0)]
    {
        raw.alpha_mode = frame.alpha_mode;
    }
    Ok(parameters)
}

fn audio_parameters(first: &Frame) -> Result<SourceParameters, AvError> {
    let mut first = first.share()?;
    name_layout(&mut first);
    let frame = first.raw();
    let mut parameters = SourceParameters::new()?;
    let raw = parameters.raw_mut();
    (raw.format, raw.sample_rate) = (frame.format, frame.sample_rate);
    raw.time_base = ffi::AVRational { num: 1, den: frame.sample_rate };
    // SAFETY: both layouts are live; the copy is freed with the parameters.
    check(unsafe { ffi::av_channel_layout_copy(&raw mut raw.ch_layout, &raw const frame.ch_layout) })?;
    Ok(parameters)
}

/// Gives sound that only says how many channels it has the usual layout for so many, as the ffmpeg program does: without
/// one it cannot be converted to any.
fn name_layout(frame: &mut Frame) {
    let layout = &raw mut frame.raw_mut().ch_layout;
    // SAFETY: the layout is live; setting a default frees nothing that an unspecified one would own.
    unsafe {
        if (*layout).order == ffi::AVChannelOrder::AV_CHANNEL_ORDER_UNSPEC {
            ffi::av_channel_layout_default(layout, (*layout).nb_channels);
        }
    }
}

/// The end of a chain that brings sound to its target.
fn converter(target: &AudioTarget) -> String {
    let rates: Vec<String> = target.sample_rates.iter().map(u32::to_string).collect();
    let lists = [
        ("sample_fmts", &target.sample_formats),
        ("sample_rates", &rates),
        ("channel_layouts", &target.channel_layouts),
    ];
    let options: Vec<String> = lists
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(option, names)| format!("{option}={}", names.join("|")))
        .collect();
    if options.is_empty() { String::new() } else { format!(",aformat={}", options.join(":")) }
}

/// A channel layout of our own.
struct Layout(ffi::AVChannelLayout);

impl Layout {
    fn empty() -> Self {
        // SAFETY: all zeroes is libav's documented empty layout (order unspecified, no channels).
        Layout(unsafe { std::mem::zeroed() })
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: owned; an empty one is allowed.
        unsafe { ffi::av_channel_layout_uninit(&raw mut self.0) };
    }
}

/// Frames run through the graph as they are pushed, so that all outputs have theirs.
const PUSH: c_int = ffi::AV_BUFFERSRC_FLAG_PUSH as c_int;
