//! Graphs that compare two streams of pictures frame by frame: PSNR, SSIM, XPSNR, as the ffmpeg program's filters do.
//!
//! Invariant: frames are paired by their number, whatever their times, and both sides are of one size and format; so
//! libavfilter inserts no conversion, and a value is that of the filter itself.

use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use super::{FilterInput, GraphOwner, PUSH, Shape, VIDEO, video_parameters};
#[cfg(ffmpeg_7_0)]
use crate::av::colour::Colours;
use crate::av::frame::Frame;
use crate::av::log::LogMark;
use crate::av::{AvError, Received, c_string, check, initialise, received};
use crate::error::Error;
use crate::media::Rational;

/// A filter of libavfilter that compares two streams.
///
/// ```no_run
/// # use repass::av::{Received, filter::comparison::Comparison, frame::Frame};
/// # use repass::media::Rational;
/// # fn run(original: Frame, coded: Frame) -> Result<(), Box<dyn std::error::Error>> {
/// let mut psnr = Comparison::open("psnr", &coded, Rational::new(25, 1), None)?;
/// psnr.push(&coded, &original)?;
/// psnr.push_end()?;
/// let mut compared = Frame::new()?;
/// while psnr.pull(&mut compared)? == Received::Ready {
///     println!("{:?} dB", compared.metadata("lavfi.psnr.psnr_avg"));
/// }
/// # Ok(()) }
/// ```
pub struct Comparison {
    /// Owns every context below.
    _owner: GraphOwner,
    sources: [NonNull<ffi::AVFilterContext>; 2],
    sink: NonNull<ffi::AVFilterContext>,
    filter: String,
    shape: Shape,
    pushed: i64,
}

// SAFETY: a graph has no tie to the thread that made it, and one owner; its worker threads serve only calls on it.
unsafe impl Send for Comparison {}

/// Whether the linked libavfilter has a filter of this name.
#[must_use]
pub fn has_filter(name: &str) -> bool {
    // SAFETY: the name is terminated; filters are static.
    c_string(name).is_ok_and(|name| !unsafe { ffi::avfilter_get_by_name(name.as_ptr()) }.is_null())
}

impl Comparison {
    /// A graph for frames like `first`. `rate`: frames per second, which XPSNR weighs motion by. `threads`: at most so many;
    /// `None`: as many as there are processors.
    ///
    /// # Errors
    /// [`Error::Filter`]: libavfilter does not have the filter, or it does not take such frames.
    pub fn open(filter: &str, first: &Frame, rate: Rational, threads: Option<u16>) -> Result<Self, Error> {
        initialise();
        let log = LogMark::now();
        Comparison::build(filter, first, rate, threads).map_err(|source| Error::Filter {
            graph: filter.to_owned(),
            source,
            log: log.lines(),
        })
    }

    fn build(filter: &str, first: &Frame, rate: Rational, threads: Option<u16>) -> Result<Self, AvError> {
        let owner = GraphOwner::new(threads)?;
        let input = FilterInput {
            time_base: rate.inverse(),
            frame_rate: Some(rate),
            sample_aspect_ratio: Some(Rational::new(1, 1)),
        };
        let source = || owner.add_source(VIDEO.source, &video_parameters(first, &input)?);
        let sources = [source()?, source()?];
        let (inputs, outputs) = owner.parse(&format!("[in0][in1]{filter}[out0]"))?;
        for (number, source) in sources.iter().enumerate() {
            let label = format!("in{number}");
            let pad = inputs.list().into_iter().find(|pad| pad.is(&label)).ok_or(AvError::invalid())?;
            pad.link_from(*source)?;
        }
        let open = outputs.list();
        let pad = open.first().ok_or(AvError::invalid())?;
        let sink = owner.add_sink(VIDEO.sink, 0, pad).map_err(|fault| fault.source)?;
        owner.configure()?;
        Ok(Comparison { _owner: owner, sources, sink, filter: filter.to_owned(), shape: Shape::of(first), pushed: 0 })
    }

    /// Gives the graph its next pair: the filter's first input, and its second.
    ///
    /// # Errors
    /// [`Error::Filter`]: a frame unlike the first, or the filter failed.
    pub fn push(&mut self, first: &Frame, second: &Frame) -> Result<(), Error> {
        let log = LogMark::now();
        let pushed = self.push_one(0, first).and_then(|()| self.push_one(1, second));
        self.pushed += 1;
        pushed.map_err(|source| self.error(source, &log))
    }

    fn push_one(&mut self, input: usize, frame: &Frame) -> Result<(), AvError> {
        if !self.shape.fits(&Shape::of(frame)) {
            return Err(AvError::invalid());
        }
        let mut frame = frame.share()?;
        frame.set_pts(self.pushed);
        frame.set_duration(1);
        frame.raw_mut().sample_aspect_ratio = ffi::AVRational { num: 1, den: 1 };
        self.shape.paint(&mut frame);
        // SAFETY: source and frame are live; the graph takes the frame's references, and the shell stays ours.
        check(unsafe { ffi::av_buffersrc_add_frame_flags(self.sources[input].as_ptr(), frame.as_mut_ptr(), PUSH) })
            .map(drop)
    }

    /// Says that no more pairs will come.
    ///
    /// # Errors
    /// [`Error::Filter`]: the filter failed.
    pub fn push_end(&mut self) -> Result<(), Error> {
        let log = LogMark::now();
        for source in self.sources {
            // SAFETY: the source is live.
            let code = unsafe { ffi::av_buffersrc_close(source.as_ptr(), self.pushed, PUSH as u32) };
            if code != ffi::AVERROR_EOF {
                check(code).map_err(|source| self.error(source, &log))?;
            }
        }
        Ok(())
    }

    /// Takes the next compared frame; the values are in its [metadata](Frame::metadata).
    ///
    /// # Errors
    /// [`Error::Filter`]: the filter failed.
    pub fn pull(&mut self, frame: &mut Frame) -> Result<Received, Error> {
        let log = LogMark::now();
        frame.clear();
        // SAFETY: the sink is live and the frame empty; its references become ours.
        let code = unsafe { ffi::av_buffersink_get_frame(self.sink.as_ptr(), frame.as_mut_ptr()) };
        received(code).map_err(|source| self.error(source, &log))
    }

    fn error(&self, source: AvError, log: &LogMark) -> Error {
        Error::Filter { graph: self.filter.clone(), source, log: log.lines() }
    }
}

impl Shape {
    /// Whether frames of the other shape have the same size and format; what they say of their colours does not matter to
    /// a comparison of samples.
    fn fits(&self, other: &Shape) -> bool {
        (self.width, self.height, self.format) == (other.width, other.height, other.format)
    }

    /// Gives a frame the colours of this shape, so that FFmpeg 7 and later do not convert between two spellings of "unknown".
    #[cfg(ffmpeg_7_0)]
    fn paint(&self, frame: &mut Frame) {
        let (matrix, range) = self.colours;
        Colours::repaint(frame.raw_mut(), matrix, range);
    }

    #[cfg(not(ffmpeg_7_0))]
    #[expect(clippy::unused_self, reason = "earlier versions do not look at colours")]
    fn paint(&self, _frame: &mut Frame) {}
}
