//! Frames of the caller's own as a source: drawn when they are asked for, then filtered like those of a file.
//!
//! Invariant: frame `n` is shown at `n` divided by the frame rate, and every frame has the shape that was announced.

use std::path::{Path, PathBuf};

use crate::av::filter::{FilterInput, FilterOutput, VideoFilter};
use crate::av::frame::Frame;
use crate::error::Error;
use crate::frames::FrameSource;
use crate::media::{Rational, SourceInfo, StreamInfo, StreamKind, VideoInfo};
use crate::plan::Hdr10Data;
use crate::source::step::InStep;
use crate::source::{Graph, Preview};

/// What frames of the caller's own look like.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// libavutil's name of the pixel format, for instance `yuv420p`.
    pub pixel_format: String,
    /// Frames per second.
    pub rate: Rational,
    /// How many frames there will be, where that is known: for progress, and needed by a size target.
    pub frames: Option<u64>,
}

impl Shape {
    /// As a plan describes its source.
    fn info(&self) -> SourceInfo {
        let Shape { width, height, pixel_format, rate, frames } = self.clone();
        let video = VideoInfo {
            index: 0,
            width,
            height,
            pixel_format,
            frame_rate: rate,
            average_rate: Some(rate),
            time_base: rate.inverse(),
            sample_aspect_ratio: None,
            rotation: 0,
            hdr: false,
            frames,
        };
        let stream = StreamInfo {
            index: 0,
            kind: StreamKind::Video,
            codec: "rawvideo".to_owned(),
            language: None,
            bitrate: None,
            sample_rate: None,
            channels: None,
            decodable: true,
        };
        SourceInfo {
            path: PathBuf::new(),
            container: "frames".to_owned(),
            seconds: frames.map(|frames| frames as f64 / rate.value()),
            start_seconds: 0.0,
            bytes: None,
            video,
            streams: vec![stream],
            chapters: 0,
            rereadable: true,
            piped: false,
        }
    }
}

/// Makes a frame; see [`OwnFrames::new`].
type Draw = Box<dyn FnMut(u64) -> Drawn + Send>;
/// A frame, `None` behind the last, or whatever kept it from being made.
type Drawn = Result<Option<Frame>, Box<dyn std::error::Error + Send + Sync>>;

/// Frames of the caller's own: an animation, a simulation, pictures from a camera that were kept.
pub struct OwnFrames {
    shape: Shape,
    info: SourceInfo,
    draw: Draw,
    /// The frame to draw next.
    next: u64,
    /// Whether all are drawn and have gone through the filters.
    ended: bool,
    /// `None` until the plan is made.
    graph: Option<Graph>,
    filter: Option<VideoFilter>,
    filtered: InStep,
    threads: Option<u16>,
}

impl OwnFrames {
    /// Frames of `shape`, made by `draw`, which is given their number from 0 and answers `None` behind the last. Numbers
    /// rise by one; for a further pass they may begin anew at any number (where the cache does not hold all frames), and a
    /// number must give the same picture every time: that is checked.
    ///
    /// `draw` runs on a thread of the job's. It makes a frame with [`Frame::allocate`] and fills it with [`Frame::draw`];
    /// timestamps are set afterwards.
    #[must_use]
    pub fn new<E>(shape: Shape, mut draw: impl FnMut(u64) -> Result<Option<Frame>, E> + Send + 'static) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        OwnFrames {
            info: shape.info(),
            shape,
            draw: Box::new(move |number| draw(number).map_err(Into::into)),
            next: 0,
            ended: false,
            graph: None,
            filter: None,
            filtered: InStep::default(),
            threads: None,
        }
    }

    fn filter_input(&self) -> FilterInput {
        let rate = self.shape.rate;
        FilterInput { time_base: rate.inverse(), frame_rate: Some(rate), sample_aspect_ratio: None }
    }

    /// Decides what the frames go through. Before this, [`FrameSource::next`] gives nothing.
    pub(crate) fn set_graph(&mut self, graph: Graph, threads: Option<u16>) {
        self.filtered = InStep::of(graph.branches.len());
        self.graph = Some(graph);
        self.threads = threads;
    }

    /// The same frames under a name, which stands where a file has its path.
    pub(crate) fn named(mut self, name: &Path) -> Self {
        name.clone_into(&mut self.info.path);
        self
    }

    /// One step: a frame through the filters, or their end.
    fn advance(&mut self) -> Result<(), Error> {
        let index = self.next;
        let drawn = (self.draw)(index).map_err(|source| Error::Frames { index, source })?;
        let Some(mut frame) = drawn else {
            self.ended = true;
            return match (&mut self.filter, &self.graph) {
                (Some(filter), Some(graph)) => self.filtered.end(filter, graph),
                _ => Ok(()),
            };
        };
        self.check(&frame)?;
        frame.set_pts(index as i64);
        frame.set_duration(1);
        self.next += 1;
        let (input, Some(graph)) = (self.filter_input(), &self.graph) else { return Err(Error::Stopped) };
        let filter = match &mut self.filter {
            Some(filter) => filter,
            none => none.insert(graph.open(&frame, &input, self.threads)?),
        };
        filter.push(frame)?;
        self.filtered.collect(filter, graph)
    }

    fn check(&self, frame: &Frame) -> Result<(), Error> {
        let Shape { width, height, pixel_format, .. } = &self.shape;
        let is = (frame.width(), frame.height(), frame.pixel_format());
        if is == (*width, *height, pixel_format.clone()) {
            return Ok(());
        }
        let source = format!("is {}x{} {}, announced were {width}x{height} {pixel_format}", is.0, is.1, is.2).into();
        Err(Error::Frames { index: self.next, source })
    }

    fn go_to(&mut self, index: u64) {
        self.next = index;
        self.ended = false;
        self.filter = None;
        self.filtered.clear();
    }
}

impl Preview for OwnFrames {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn pictures(&self, graph: &Graph) -> Result<Vec<FilterOutput>, Error> {
        let Shape { width, height, pixel_format, .. } = &self.shape;
        let like = Frame::allocate(*width, *height, pixel_format)
            .map_err(|source| Error::Frames { index: 0, source: Box::new(source) })?;
        let filter = graph.open(&like, &self.filter_input(), self.threads)?;
        Ok(graph.outputs(&filter))
    }

    fn hdr10(&self, _graph: &Graph) -> Result<Option<Hdr10Data>, Error> {
        Ok(None)
    }

    fn is_interlaced(&self) -> bool {
        false
    }
}

impl FrameSource for OwnFrames {
    fn next(&mut self) -> Result<Option<Vec<Frame>>, Error> {
        self.prime()?;
        Ok(self.filtered.take())
    }

    fn prime(&mut self) -> Result<bool, Error> {
        while self.filtered.first().is_none() && !self.ended && self.graph.is_some() {
            self.advance()?;
        }
        Ok(self.filtered.first().is_some())
    }

    fn rewind(&mut self) -> Result<(), Error> {
        self.go_to(0);
        Ok(())
    }

    fn seek(&mut self, seconds: f64) -> Result<bool, Error> {
        self.go_to((seconds * self.shape.rate.value()).max(0.0) as u64);
        Ok(true)
    }

    fn time_base(&self) -> Rational {
        self.filter.as_ref().map_or(self.shape.rate.inverse(), |filter| filter.output(0).time_base)
    }

    fn frame_rate(&self) -> Rational {
        self.filter.as_ref().and_then(|filter| filter.output(0).frame_rate).unwrap_or(self.shape.rate)
    }

    fn sample_aspect_ratio(&self, branch: usize) -> Option<Rational> {
        self.filter.as_ref().and_then(|filter| filter.output(branch).sample_aspect_ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Branch;

    #[test]
    fn own_frames_that_the_branches_give_at_different_times_are_refused() {
        let shape =
            Shape { width: 16, height: 16, pixel_format: "gray".to_owned(), rate: Rational::new(25, 1), frames: None };
        let branch = |filters: Option<&str>| Branch {
            size: None,
            filters: filters.map(str::to_owned),
            shape: None,
            pixel_formats: Vec::new(),
            colour_ranges: Vec::new(),
        };
        for (filters, whole) in
            [(None, true), (Some("select=not(eq(n\\,3))"), false), (Some("trim=end_frame=5"), false)]
        {
            let draw = |number| (number < 9).then(|| Frame::allocate(16, 16, "gray")).transpose();
            let mut frames = OwnFrames::new(shape.clone(), draw);
            let graph = Graph { rotation: 0, trunk: None, branches: vec![branch(None), branch(filters)] };
            frames.set_graph(graph, Some(1));
            let mut count = 0;
            let ended = loop {
                match frames.next() {
                    Ok(Some(_)) => count += 1,
                    ended => break ended,
                }
            };
            assert_eq!((ended.is_ok(), whole && count == 9), (whole, whole), "{filters:?}: {count}");
        }
    }
}
