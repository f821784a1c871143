//! A media file as a source of frames: demux, decode, filter, one output per branch.
//!
//! Invariant: frames come out with times counted from the start of the output; what could not be read is counted, never
//! passed over in silence.

use std::collections::VecDeque;
use std::path::PathBuf;

use serde::Serialize;

use crate::av::Received;
use crate::av::filter::{FilterInput, FilterOutput, VideoFilter};
use crate::av::frame::Frame;
use crate::av::packet::Packet;
use crate::av::source::{Decoder, Demuxer, FileHeaders, OpenOptions, Spool, StreamParameters};
use crate::error::Error;
use crate::event::Cancel;
use crate::frames::{Damage, FrameSource};
use crate::media::{Rational, SourceInfo};
use crate::plan::Hdr10Data;
use crate::rate::Seconds;
use crate::timing::Timing;

mod extent;
mod identity;
mod own;
mod step;

pub use identity::{Fingerprint, Identity};
pub use own::{OwnFrames, Shape};
use step::InStep;

/// What a plan has to know of a source before its frames are filtered.
pub(crate) trait Preview {
    /// What there is to say of it.
    fn info(&self) -> &SourceInfo;

    /// What each branch of a graph makes of the first frame.
    fn pictures(&self, graph: &Graph) -> Result<Vec<FilterOutput>, Error>;

    /// HDR10 static metadata of the first frame, where it still holds behind the filters of a graph with one branch.
    fn hdr10(&self, graph: &Graph) -> Result<Option<Hdr10Data>, Error>;

    /// Whether the first frame is two fields.
    fn is_interlaced(&self) -> bool;
}

impl Preview for DecodedFile {
    fn info(&self) -> &SourceInfo {
        self.info()
    }

    fn pictures(&self, graph: &Graph) -> Result<Vec<FilterOutput>, Error> {
        self.pictures(graph)
    }

    fn hdr10(&self, graph: &Graph) -> Result<Option<Hdr10Data>, Error> {
        let (Some(data), Some(first)) = (self.hdr10(), self.unfiltered.front()) else { return Ok(None) };
        if graph.trunk.is_none() && graph.branches.iter().all(|branch| branch.filters.is_none()) {
            return Ok(Some(data));
        }
        // A tone map changes the transfer, and only a filtered frame tells.
        let mut filter = graph.open(first, &self.filter_input(), self.threads)?;
        let failed = |source| self.unreadable(source);
        filter.push(first.share().map_err(failed)?)?;
        filter.push_end()?;
        let mut filtered = Frame::new().map_err(failed)?;
        let lit_the_same = match filter.pull(0, &mut filtered)? {
            Received::Ready => filtered.transfer() == first.transfer(),
            _ => true,
        };
        Ok(lit_the_same.then_some(data))
    }

    fn is_interlaced(&self) -> bool {
        self.is_interlaced()
    }
}

/// What to read.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Input {
    /// The file; `-` is standard input.
    #[serde(serialize_with = "crate::report::path_as_text")]
    pub path: PathBuf,
    /// Demuxer, where it cannot be told from the file (`rawvideo`).
    pub format: Option<String>,
    /// Demuxer options, for instance `video_size=320x192`.
    pub options: Vec<(String, String)>,
    /// Protocols that are allowed besides files and pipes.
    pub protocols: Vec<String>,
    /// The video stream, by its index in the file; `None`: the best one.
    pub video_stream: Option<usize>,
    /// Where the output begins, from the start of the file.
    pub start: Option<Seconds>,
    /// How long the output is at most.
    pub length: Option<Seconds>,
    /// Folder in which a pipe is kept for being read again; `None`: that of the job's spill file.
    #[serde(skip)]
    pub spool_dir: Option<PathBuf>,
}

impl Input {
    /// This file, whole.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Input { path: path.into(), ..Input::default() }
    }

    /// Opens the demuxer.
    ///
    /// # Errors
    /// [`Error::Input`] in libav's words.
    pub fn open(&self, cancel: &Cancel) -> Result<Demuxer, Error> {
        self.open_over(cancel, None)
    }

    /// The same, of a pipe through what was kept of it since it was first opened.
    pub(crate) fn open_over(&self, cancel: &Cancel, spool: Option<&Spool>) -> Result<Demuxer, Error> {
        let mut options = OpenOptions {
            format: self.format.clone(),
            options: self.options.clone(),
            video_stream: self.video_stream,
            spool_dir: self.spool_dir.clone(),
            ..OpenOptions::default()
        };
        options.protocols.extend(self.protocols.iter().cloned());
        Demuxer::open_over(&self.path, &options, cancel, spool)
    }

    /// The file's own time at which the output begins, in seconds.
    #[must_use]
    pub fn begins(&self, info: &SourceInfo) -> f64 {
        info.start_seconds + self.start.map_or(0.0, |start| start.0)
    }

    /// Seconds of output; `None` where neither the source nor the request says how many.
    pub(crate) fn seconds_of(&self, info: &SourceInfo) -> Option<f64> {
        let after_start = info.seconds.map(|all| all - self.start.map_or(0.0, |start| start.0));
        match (after_start, self.length) {
            (Some(rest), Some(length)) => Some(rest.min(length.0)),
            (rest, None) => rest,
            (None, Some(length)) => Some(length.0),
        }
    }

    /// Whether only a part of the file is wanted.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.start.is_some_and(|start| start.0 > 0.0) || self.length.is_some()
    }
}

/// A filter graph: what every frame goes through, and a branch for each size that comes out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Graph {
    /// Clockwise rotation that turns the picture upright, in degrees.
    pub rotation: u16,
    /// The person's own filters.
    pub trunk: Option<String>,
    /// The outputs.
    pub branches: Vec<Branch>,
}

/// One output of a filter graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Branch {
    /// Width and height in pixels; `None`: as they come.
    pub size: Option<(u32, u32)>,
    /// Further filters of this branch alone, before it is scaled.
    pub filters: Option<String>,
    /// Shape of a pixel, width to height, that scaled frames are given; `None`: what scaling makes of it.
    pub shape: Option<Rational>,
    /// Pixel formats that may come out, in the encoder's order; empty: any.
    pub pixel_formats: Vec<String>,
    /// Ranges of sample values that may come out (`tv`, `pc`), in the encoder's order; empty: any, also none that is told.
    pub colour_ranges: Vec<String>,
}

impl Graph {
    /// The graph in libavfilter's language, from `[in]` to `[out0]`, `[out1]` and so on.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut trunk: Vec<&str> = match self.rotation {
            90 => vec!["transpose=clock"],
            180 => vec!["hflip", "vflip"],
            270 => vec!["transpose=cclock"],
            _ => Vec::new(),
        };
        trunk.extend(self.trunk.as_deref());
        let branch = |branch: &Branch| {
            let mut steps = branch.steps();
            let lists = [("pix_fmts", &branch.pixel_formats), ("color_ranges", &branch.colour_ranges)];
            let listed = lists.iter().filter(|(_, list)| !list.is_empty());
            let listed: Vec<String> = listed.map(|(name, list)| format!("{name}={}", list.join("|"))).collect();
            if !listed.is_empty() {
                steps.push(format!("format={}", listed.join(":")));
            }
            if steps.is_empty() { "null".to_owned() } else { steps.join(",") }
        };
        if let [only] = self.branches.as_slice() {
            let steps = branch(only);
            let steps: Vec<&str> = trunk.into_iter().chain([steps.as_str()]).collect();
            return format!("[in]{}[out0]", steps.join(","));
        }
        let split = format!("split={}", self.branches.len());
        trunk.push(&split);
        let pads: String = (0..self.branches.len()).map(|number| format!("[b{number}]")).collect();
        let branches: Vec<String> =
            self.branches.iter().enumerate().map(|(n, b)| format!("[b{n}]{}[out{n}]", branch(b))).collect();
        format!("[in]{}{pads};{}", trunk.join(","), branches.join(";"))
    }
}

/// A source's time line: where it jumps back by more than a second, as in joined transport streams, it goes on instead, and
/// so it does where a frame has no time, as in bare streams.
#[derive(Debug, Clone, Copy)]
struct TimeLine {
    /// The time of a first frame without one; `None` after a seek, which may have led anywhere.
    begins: Option<i64>,
    last: Option<i64>,
    shift: i64,
}

impl TimeLine {
    /// A line whose first frame is shown at `begins`, where it does not say itself.
    fn from(begins: Option<i64>) -> Self {
        TimeLine { begins, last: None, shift: 0 }
    }

    /// A timestamp in ticks of `tick` seconds, on the closed line; `None`: nobody knows.
    fn closed(&mut self, pts: Option<i64>, tick: f64, rate: Rational) -> Option<i64> {
        let second = (1.0 / tick).ceil() as i64;
        let following = |last: i64| last + (rate.inverse().value() / tick).round().max(1.0) as i64;
        let closed = match (pts, self.last) {
            (Some(pts), Some(last)) if pts + self.shift < last - second => {
                self.shift = following(last) - pts;
                Some(following(last))
            }
            (Some(pts), _) => Some(pts + self.shift),
            (None, Some(last)) => Some(following(last)),
            (None, None) => self.begins,
        };
        self.last = closed;
        closed
    }
}

impl Graph {
    /// Configures the graph for frames like `first`, which is not pushed.
    fn open(&self, first: &Frame, input: &FilterInput, threads: Option<u16>) -> Result<VideoFilter, Error> {
        VideoFilter::open(first, input, &self.describe(), self.branches.len(), threads)
    }

    /// What each branch yields.
    fn outputs(&self, filter: &VideoFilter) -> Vec<FilterOutput> {
        (0..self.branches.len()).map(|number| filter.output(number)).collect()
    }

    /// What the frames of one branch go through, but for the rotation, which the ffmpeg program makes by itself, and the
    /// choice of a pixel format; `None`: nothing.
    #[must_use]
    pub fn filters_of(&self, branch: usize) -> Option<String> {
        let steps: Vec<String> = self.trunk.iter().cloned().chain(self.branches[branch].steps()).collect();
        (!steps.is_empty()).then(|| steps.join(","))
    }
}

impl Branch {
    /// Leaves no choice: what comes out is what came out of a graph.
    pub(crate) fn settle(&mut self, output: &FilterOutput) {
        self.pixel_formats = vec![output.pixel_format.clone()];
        if let (Some(range), false) = (output.colour_range, self.colour_ranges.is_empty()) {
            self.colour_ranges = vec![range.to_owned()];
        }
    }

    fn steps(&self) -> Vec<String> {
        let mut steps: Vec<String> = self.filters.iter().cloned().collect();
        steps.extend(self.size.map(|(width, height)| format!("scale={width}:{height}")));
        steps.extend(self.shape.map(|shape| format!("setsar={shape}")));
        steps
    }
}

/// The frames of a file.
pub struct DecodedFile {
    input: Input,
    /// `None` until the plan is made.
    graph: Option<Graph>,
    /// Decoded frames that have not gone through the filters: those that came before there was a plan.
    unfiltered: VecDeque<Frame>,
    timing: Timing,
    threads: Option<u16>,
    demuxer: Demuxer,
    stream: StreamParameters,
    decoder: Decoder,
    filter: Option<VideoFilter>,
    /// The first graph's outputs, which every later graph must have too.
    fixed: bool,
    time_base: Rational,
    frame_rate: Rational,
    filtered: InStep,
    packet: Packet,
    state: State,
    /// The worst of all readings before this one: what is met again is the same damage.
    before: Damage,
    /// What this reading met.
    reading: Reading,
    line: TimeLine,
    identity: Option<Identity>,
    /// Whether bytes of the file are not what its format asks for; known once its end was met.
    torn: Option<bool>,
    whole: bool,
    cancel: Cancel,
    warnings: Vec<String>,
    /// Whether it was said that what is kept of a pipe takes memory.
    told_of_memory: bool,
}

/// What one reading of the file has met.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    packets: u64,
    read_errors: u64,
    marked: Marked,
    /// What is missing behind the end of the file; `None` until that is met, and not only the end of the wanted part.
    missing_bytes: Option<u64>,
}

/// How far reading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There are packets left.
    Reading,
    /// Everything wanted is decoded; the filters may hold frames back.
    Decoded,
    /// Nothing more will come.
    Done,
}

impl DecodedFile {
    /// Opens the file and decodes its first wanted frame, for some things are known only then. `threads`: of the decoder
    /// and the filters; `None` is one per CPU.
    ///
    /// # Errors
    /// [`Error::Input`] or [`Error::Decode`] in libav's words; [`Error::Input`] where no frame can be decoded.
    pub fn open(input: Input, threads: Option<u16>, cancel: &Cancel) -> Result<Self, Error> {
        let mut demuxer = input.open(cancel)?;
        let info = demuxer.info().clone();
        demuxer.only(&[info.video.index]);
        let failed = |source| Error::Decode { path: input.path.clone(), what: "video stream".to_owned(), source };
        let stream = demuxer.stream(info.video.index).map_err(failed)?;
        let decoder = Decoder::open(&stream, threads).map_err(failed)?;
        let timing = Timing::of(&info.video);
        let mut file = DecodedFile {
            packet: Packet::new().map_err(failed)?,
            filtered: InStep::default(),
            input,
            graph: None,
            unfiltered: VecDeque::new(),
            timing,
            threads,
            demuxer,
            stream,
            decoder,
            filter: None,
            fixed: false,
            time_base: info.video.time_base,
            frame_rate: timing.rate,
            state: State::Reading,
            before: Damage::default(),
            reading: Reading::default(),
            line: TimeLine::from(None),
            identity: None,
            torn: None,
            whole: true,
            cancel: cancel.clone(),
            warnings: Vec::new(),
            told_of_memory: false,
        };
        file.identity = Identity::of(&file.input.path);
        file.go_to_start()?;
        while file.unfiltered.is_empty() && file.state == State::Reading {
            file.advance()?;
        }
        if file.unfiltered.is_empty() { Err(file.no_frames()) } else { Ok(file) }
    }

    fn no_frames(&self) -> Error {
        let damage = self.damage();
        let what = match damage.any() {
            true => format!("no frame could be decoded: {damage}"),
            false => "holds no frame in the part asked for".to_owned(),
        };
        Error::Input { path: self.input.path.clone(), what, source: None }
    }

    /// HDR10 static metadata of the first frame, where it carries any.
    #[must_use]
    pub fn hdr10(&self) -> Option<Hdr10Data> {
        self.unfiltered.front().and_then(Frame::hdr10)
    }

    /// Whether the first frame is two fields.
    #[must_use]
    pub fn is_interlaced(&self) -> bool {
        self.unfiltered.front().is_some_and(Frame::is_interlaced)
    }

    /// What each branch of a graph makes of the first frame: nothing is filtered yet.
    ///
    /// # Errors
    /// [`Error::Filter`] for a graph that libavfilter does not take.
    pub fn pictures(&self, graph: &Graph) -> Result<Vec<FilterOutput>, Error> {
        let Some(first) = self.unfiltered.front() else { return Err(self.no_frames()) };
        Ok(graph.outputs(&graph.open(first, &self.filter_input(), self.threads)?))
    }

    fn filter_input(&self) -> FilterInput {
        FilterInput {
            time_base: self.stream.time_base,
            frame_rate: Some(self.timing.rate),
            sample_aspect_ratio: self.demuxer.info().video.sample_aspect_ratio,
        }
    }

    /// Decides what the frames go through. Before this, [`FrameSource::next`] gives nothing.
    pub fn set_graph(&mut self, graph: Graph) {
        self.filtered = InStep::of(graph.branches.len());
        self.graph = Some(graph);
    }

    /// Says of a pipe that it will not be read again, so that nothing more of it is kept.
    pub fn forget(&self) {
        self.demuxer.forget();
    }

    /// The first frames, one of each branch, once they are ready and while they are not taken.
    #[must_use]
    pub fn first_frames(&self) -> Option<&[Frame]> {
        self.filtered.first()
    }

    /// What the demuxer says of the file.
    #[must_use]
    pub fn info(&self) -> &SourceInfo {
        self.demuxer.info()
    }

    /// Goes to where the wanted part begins, from the beginning of the file.
    fn go_to_start(&mut self) -> Result<(), Error> {
        let seeks = self.input.start.filter(|start| start.0 > 0.0);
        self.whole = seeks.is_none();
        match seeks {
            Some(start) if self.demuxer.seek(start.0).is_ok() => Ok(()),
            Some(_) => self.go_to_beginning(),
            None => {
                self.line = TimeLine::from(Some(self.beginning()));
                Ok(())
            }
        }
    }

    /// Goes to the beginning of the file.
    fn go_to_beginning(&mut self) -> Result<(), Error> {
        self.demuxer.rewind()?;
        self.line = TimeLine::from(Some(self.beginning()));
        Ok(())
    }

    /// Ticks from the start of the output to the beginning of the file.
    fn beginning(&self) -> i64 {
        let start = self.input.start.map_or(0.0, |start| start.0);
        -(start / self.stream.time_base.value()).round() as i64
    }

    /// One step: a packet into the decoder, its frames through the filters.
    fn advance(&mut self) -> Result<(), Error> {
        if self.graph.is_some()
            && let Some(frame) = self.unfiltered.pop_front()
        {
            return self.filter(frame);
        }
        match self.state {
            State::Reading => self.read(),
            State::Decoded | State::Done => {
                self.state = State::Done;
                self.end_filter()
            }
        }
    }

    fn read(&mut self) -> Result<(), Error> {
        match self.demuxer.read(&mut self.packet) {
            Ok(Received::Ready) => {
                self.reading.note(&self.packet);
                self.decoder.send(&self.packet).map_err(|source| self.unreadable(source))?;
            }
            // Asked again, it looks whether to stop.
            Ok(Received::NeedInput) => return Ok(()),
            Err(error) if error == crate::av::INTERRUPTED => return Err(Error::Interrupted),
            end => {
                if let (Err(_), Some(error)) = (&end, self.demuxer.keeping_failed()) {
                    return Err(error);
                }
                // What the demuxer cannot go on from ends the stream; the damage is counted, and the policy is the job's.
                self.met_the_end(end.is_err())?;
                self.decoder.send_end().map_err(|source| self.unreadable(source))?;
            }
        }
        self.decode()
    }

    /// The end of the file: what is missing behind it is asked for once, and what is wrong before it once for all readings.
    fn met_the_end(&mut self, failed: bool) -> Result<(), Error> {
        let torn = match self.torn {
            Some(torn) => torn,
            None => *self.torn.insert(extent::is_torn(&self.input.path, &self.cancel)?),
        };
        self.reading.marked.end();
        self.reading.marked.count += u64::from(torn);
        self.reading.read_errors += u64::from(failed);
        self.reading.missing_bytes = Some(self.missing_bytes());
        Ok(())
    }

    /// Takes what the decoder has ready.
    fn decode(&mut self) -> Result<(), Error> {
        while self.state == State::Reading {
            let mut frame = Frame::new().map_err(|source| self.unreadable(source))?;
            match self.decoder.receive(&mut frame).map_err(|source| self.unreadable(source))? {
                Received::Ready => self.take(frame)?,
                Received::NeedInput => return Ok(()),
                Received::Done => self.state = State::Decoded,
            }
        }
        Ok(())
    }

    /// Closes breaks of the time line, cuts to the wanted part and moves times to the output's start.
    fn take(&mut self, mut frame: Frame) -> Result<(), Error> {
        let tick = self.stream.time_base.value();
        let start = (self.input.begins(self.demuxer.info()) / tick).round() as i64;
        let pts = frame.pts().map(|pts| pts - start);
        let Some(pts) = self.line.closed(pts, tick, self.timing.rate) else {
            // A seek led to a frame without a time: only from the beginning can be told where it belongs.
            self.restart()?;
            return self.go_to_beginning();
        };
        if self.input.start.is_some() && pts < 0 {
            return Ok(());
        }
        if self.input.length.is_some_and(|length| pts as f64 * tick >= length.0 - 1e-9) {
            // Frames come in presentation order, so this is the end of the part.
            self.whole = false;
            self.state = State::Decoded;
            return Ok(());
        }
        frame.set_pts(pts);
        self.unfiltered.push_back(frame);
        Ok(())
    }

    fn filter(&mut self, frame: Frame) -> Result<(), Error> {
        if self.filter.as_ref().is_some_and(|filter| !filter.accepts(&frame)) {
            self.rebuild(&frame)?;
        }
        let mut filter = match self.filter.take() {
            Some(filter) => filter,
            None => self.build(&frame)?,
        };
        filter.push(frame)?;
        let Some(graph) = &self.graph else { return Err(Error::Stopped) };
        self.filtered.collect(self.filter.insert(filter), graph)
    }

    fn build(&mut self, first: &Frame) -> Result<VideoFilter, Error> {
        let input = self.filter_input();
        let Some(graph) = &mut self.graph else { return Err(Error::Stopped) };
        let filter = graph.open(first, &input, self.threads)?;
        if !self.fixed {
            let output = filter.output(0);
            self.time_base = output.time_base;
            self.frame_rate = output.frame_rate.unwrap_or(self.timing.rate);
            for (number, branch) in graph.branches.iter_mut().enumerate() {
                let output = filter.output(number);
                // An encoder keeps its first size and format for good, so later graphs are made to give the same.
                branch.size.get_or_insert((output.width, output.height));
                branch.settle(&output);
            }
            self.fixed = true;
        }
        Ok(filter)
    }

    /// The stream changed its size or format: what is in the filters comes out, and a new graph scales to the first size.
    fn rebuild(&mut self, frame: &Frame) -> Result<(), Error> {
        self.end_filter()?;
        self.filter = None;
        let now = format!("{}x{} {}", frame.width(), frame.height(), frame.pixel_format());
        let warning = format!("the video changes to {now} midway; it is scaled to the size it began with");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
        Ok(())
    }

    fn end_filter(&mut self) -> Result<(), Error> {
        match (&mut self.filter, &self.graph) {
            (Some(filter), Some(graph)) => self.filtered.end(filter, graph),
            _ => Ok(()),
        }
    }

    fn restart(&mut self) -> Result<(), Error> {
        self.before = self.damage();
        self.reading = Reading::default();
        self.decoder = Decoder::open(&self.stream, self.threads).map_err(|source| self.unreadable(source))?;
        self.filter = None;
        self.unfiltered.clear();
        self.filtered.clear();
        self.state = State::Reading;
        self.line = TimeLine::from(None);
        Ok(())
    }

    /// How many bytes the file's index or its own boxes promise beyond its end.
    fn missing_bytes(&self) -> u64 {
        self.demuxer.missing_bytes().max(extent::missing_bytes(&self.input.path))
    }

    /// What can be told before anything is decoded: a file that was cut short, where it is wanted to its end.
    #[must_use]
    pub fn foreseen(&self) -> Damage {
        let missing_bytes = if self.input.length.is_none() { self.missing_bytes() } else { 0 };
        Damage { missing_bytes, ..Damage::default() }
    }

    fn unreadable(&self, source: crate::av::AvError) -> Error {
        out_of_memory(&self.input, source)
    }
}

impl Reading {
    fn note(&mut self, packet: &Packet) {
        self.packets += 1;
        self.marked.note(packet);
    }
}

/// Counts the packets of one stream that the demuxer marked as damaged.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marked {
    pub(crate) count: u64,
    /// Marked packets of which it is not yet known whether another stream was joined on behind them.
    suspects: u64,
    /// How many packets ago the last of them was.
    since: u8,
    last_dts: Option<i64>,
}

impl Marked {
    /// Where transport streams are joined the last packet of the first is marked, for its counters do not go on. That the
    /// times begin again right there tells it from a loss; and what is lost there all the same the decoder meets too.
    pub(crate) fn note(&mut self, packet: &Packet) {
        let joined = packet.is_key() && matches!((self.last_dts, packet.dts()), (Some(last), Some(dts)) if dts < last);
        if joined {
            self.suspects = 0;
        }
        if self.since >= PARSER_LAG {
            self.end();
        }
        self.since = self.since.saturating_add(1);
        if packet.is_corrupt() {
            self.suspects += 1;
            self.since = 0;
        }
        self.last_dts = packet.dts().or(self.last_dts);
    }

    /// Nothing was joined on.
    pub(crate) fn end(&mut self) {
        self.count += std::mem::take(&mut self.suspects);
    }
}

/// libavformat's parsers give a packet's mark to the picture that it completes, which is the one before.
const PARSER_LAG: u8 = 2;

fn out_of_memory(input: &Input, source: crate::av::AvError) -> Error {
    Error::Decode { path: input.path.clone(), what: "video".to_owned(), source }
}

impl FrameSource for DecodedFile {
    fn next(&mut self) -> Result<Option<Vec<Frame>>, Error> {
        loop {
            if let Some(frames) = self.filtered.take() {
                return Ok(Some(frames));
            }
            if self.state == State::Done {
                return Ok(None);
            }
            self.advance()?;
        }
    }

    fn prime(&mut self) -> Result<bool, Error> {
        while self.filtered.first().is_none() && self.state != State::Done {
            self.advance()?;
        }
        Ok(self.filtered.first().is_some())
    }

    fn rewind(&mut self) -> Result<(), Error> {
        self.restart()?;
        match self.input.start {
            Some(start) if start.0 > 0.0 => self.go_to_start(),
            _ => {
                self.whole = true;
                self.go_to_beginning()
            }
        }
    }

    fn seek(&mut self, seconds: f64) -> Result<bool, Error> {
        self.restart()?;
        self.whole = false;
        Ok(self.demuxer.seek(seconds + self.input.start.map_or(0.0, |start| start.0)).is_ok())
    }

    fn time_base(&self) -> Rational {
        self.time_base
    }

    fn frame_rate(&self) -> Rational {
        self.frame_rate
    }

    fn sample_aspect_ratio(&self, branch: usize) -> Option<Rational> {
        self.filter.as_ref().and_then(|filter| filter.output(branch).sample_aspect_ratio)
    }

    fn stream(&self) -> Result<Option<StreamParameters>, Error> {
        self.demuxer.stream(self.demuxer.info().video.index).map(Some).map_err(|source| self.unreadable(source))
    }

    fn headers(&self) -> FileHeaders {
        self.demuxer.headers()
    }

    fn spool(&self) -> Option<Spool> {
        self.demuxer.spool().cloned()
    }

    fn unchanged(&self) -> Result<(), Error> {
        match (&self.identity, Identity::of(&self.input.path)) {
            (Some(then), Some(now)) if *then == now => Ok(()),
            (None, _) => Ok(()),
            (Some(then), now) => Err(Error::PassesDiffer { why: then.differs(now.as_ref()) }),
        }
    }

    fn damage(&self) -> Damage {
        let whole = self.whole && self.reading.missing_bytes.is_some() && self.state != State::Reading;
        let (sent, received) = self.decoder.packets_and_frames();
        let one_to_one = whole && self.decoder.gives_a_frame_for_each_packet();
        // Two fields in packets of their own are one frame.
        let in_fields = sent == 2 * received && received > 4;
        let lost = if in_fields { 0 } else { sent.saturating_sub(received) };
        let promised = self.demuxer.info().video.frames.filter(|_| whole);
        let now = Damage {
            decode_errors: self.decoder.damaged(),
            corrupt_packets: self.reading.marked.count,
            lost_frames: if one_to_one { lost } else { 0 },
            read_errors: self.reading.read_errors,
            missing_packets: promised.map_or(0, |frames| frames.saturating_sub(self.reading.packets)),
            missing_bytes: self.reading.missing_bytes.unwrap_or(0),
            other_streams: 0,
        };
        self.before.worst(now)
    }

    fn warnings(&mut self) -> Vec<String> {
        let in_memory = self.demuxer.keeps_in_memory().filter(|_| !std::mem::replace(&mut self.told_of_memory, true));
        self.warnings.extend(in_memory.map(|folder| {
            let folder = folder.display();
            format!("what is read of the pipe is kept in {folder}, which is memory; --spill-dir names another folder")
        }));
        std::mem::take(&mut self.warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_reads_as_ffmpeg_would_write_it() {
        let branch = |size, formats: &[&str]| Branch {
            size,
            filters: None,
            shape: None,
            pixel_formats: formats.iter().map(|format| (*format).to_owned()).collect(),
            colour_ranges: Vec::new(),
        };
        let one = Graph { rotation: 90, trunk: Some("hqdn3d".to_owned()), branches: vec![branch(None, &["yuv420p"])] };
        assert_eq!(one.describe(), "[in]transpose=clock,hqdn3d,format=pix_fmts=yuv420p[out0]");
        let two = Graph {
            rotation: 0,
            trunk: None,
            branches: vec![branch(Some((1280, 720)), &["yuv420p", "nv12"]), branch(None, &[])],
        };
        assert_eq!(
            two.describe(),
            "[in]split=2[b0][b1];[b0]scale=1280:720,format=pix_fmts=yuv420p|nv12[out0];[b1]null[out1]"
        );
    }
}
