//! What a second pass costs and what it brings, measured on one's own footage.
//!
//! ```text
//!  clip ─decode once─▶ Footage ─┬─▶ encode, timed ─▶ file ─▶ decode ─┐
//!                               └────────────────────────────────────┴─▶ metrics ─▶ journal ─▶ results ─▶ pages, tables
//! ```
//!
//! Invariant: frames are decoded once and serve every encode and every metric, so no time here holds decoding. Everything
//! measured is in the journal before the next thing begins.

use std::path::{Path, PathBuf};

use crate::adapter::Adapter;
use crate::av::frame::Frame;
use crate::av::packet::Packet;
use crate::bench::eta::Eta;
use crate::bench::journal::{Existing, Journal};
use crate::bench::machine::{Machine, MemoryPeak};
use crate::bench::matrix::{Clip, Matrix, Square};
use crate::bench::quality::compare;
use crate::bench::record::{Begun, Cell, ClipRecord, Entry, Mode, PassRecord, QualityRecord, RunRecord, Settings};
use crate::bench::results::Results;
use crate::cache::CachePlan;
use crate::error::Error;
use crate::event::{Cancel, Event, Stage};
use crate::frames::FrameSource;
use crate::job::Footage;
use crate::quality::Metric;
use crate::rate::{BitRate, Seconds};
use crate::report::Report;
use crate::source::{Branch, DecodedFile, Graph, Input};

pub mod baseline;
pub mod bd;
pub mod chart;
pub mod csv;
mod eta;
pub mod journal;
pub mod machine;
mod matrix;
pub mod measure;
pub mod output;
pub mod page;
mod plots;
pub mod quality;
pub mod record;
pub mod results;
pub mod statistics;
pub mod verdict;

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchRequest {
    /// The footage.
    pub clips: Vec<Input>,
    /// Filters that every frame goes through before it is encoded or compared.
    pub filters: Option<String>,
    /// The encoders.
    pub encoders: Vec<&'static Adapter>,
    /// Their presets; empty: their own defaults.
    pub presets: Vec<String>,
    /// The bit rates; four or more give BD-rates.
    pub rates: Vec<BitRate>,
    /// Levels for [`Mode::Crf`]; empty: four of each encoder's scale.
    pub qualities: Vec<f64>,
    /// How the encoders go about it.
    pub modes: Vec<Mode>,
    /// What quality is measured by.
    pub metrics: Vec<Metric>,
    /// How often every encode is timed.
    pub runs: u16,
    /// Threads of each encoder, and of the metrics.
    pub threads: u16,
    /// Options that every encoder is given.
    pub options: Vec<(String, String)>,
    /// Where decoded frames are kept.
    pub cache: CachePlan,
    /// How long a stage may make no progress before the bench ends; `None`: for ever.
    pub stall_timeout: Option<Seconds>,
    /// Where the report goes.
    pub folder: PathBuf,
    /// What to do with a bench that is there.
    pub existing: Existing,
    /// Whether the encoded files are kept, in `encodes` below the folder.
    pub keep_files: bool,
}

/// How far a bench is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What is being done.
    pub doing: Doing,
    /// Encodes that are done, all repetitions counted; the current one by its share.
    pub done: f64,
    /// Encodes in all.
    pub of: usize,
    /// Seconds that the rest will probably take, once something has been measured.
    pub rest_seconds: Option<f64>,
}

/// What is being done.
#[derive(Debug, Clone)]
pub enum Doing {
    /// A clip is being decoded.
    Decoding(String),
    /// A cell is being timed, for the so-manieth time.
    Encoding(Cell, u16),
    /// What came out of a cell is being measured.
    Measuring(Cell),
    /// A stage hangs inside a library, and [`run`] will not come back: whoever owns the process may end it. What was measured
    /// is in the journal.
    Stuck {
        /// The stage.
        stage: Stage,
        /// Seconds since it last moved.
        seconds: f64,
    },
}

/// Runs the whole matrix, or what is left of it; `tell` is called on this thread.
///
/// # Errors
/// [`crate::error::Refusal`] before anything runs; then the first thing that went wrong. What was measured until then is in
/// the journal.
pub fn run(request: &BenchRequest, cancel: &Cancel, tell: &mut dyn FnMut(Progress)) -> Result<Results, Error> {
    for metric in &request.metrics {
        if let Some(why) = metric.unavailable() {
            return Err(Error::Usage { what: "metric", text: metric.name().to_owned(), why });
        }
    }
    let encodes = Encodes::within(request)?;
    let matrix = Matrix::plan(request, &encodes.folder, cancel)?;
    let mut journal = Journal::open(&request.folder, request.existing, &begun(request))?;
    for lack in matrix.unavailable {
        let entry = Entry::Unavailable(lack);
        if !journal.entries().contains(&entry) {
            journal.add(entry)?;
        }
    }
    let eta = Eta::of(matrix.clips.iter().flat_map(|clip| &clip.squares).map(|square| &square.cell), request.runs);
    let mut bench = Bench { request, cancel, journal, eta, tell };
    for clip in &matrix.clips {
        bench.clip(clip)?;
    }
    Ok(Results::of(bench.journal.entries()))
}

fn begun(request: &BenchRequest) -> Begun {
    Begun {
        machine: Machine::here(&request.encoders),
        settings: Settings {
            runs: request.runs,
            threads: request.threads,
            metrics: request.metrics.clone(),
            filters: request.filters.clone(),
            options: request.options.clone(),
        },
    }
}

/// Folder of the encoded files: one of our own, which goes with the bench, unless they are to be kept.
struct Encodes {
    folder: PathBuf,
    kept: bool,
}

impl Encodes {
    fn within(request: &BenchRequest) -> Result<Self, Error> {
        let kept = request.keep_files;
        let folder = request.folder.join(if kept { KEPT } else { PRIVATE });
        std::fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
        Ok(Encodes { folder, kept })
    }
}

impl Drop for Encodes {
    fn drop(&mut self) {
        if !self.kept {
            // Nobody else's files have this name; a report beside what is left of them is still a report.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A bench under way.
struct Bench<'b> {
    request: &'b BenchRequest,
    cancel: &'b Cancel,
    journal: Journal,
    eta: Eta,
    tell: &'b mut dyn FnMut(Progress),
}

impl Bench<'_> {
    fn clip(&mut self, clip: &Clip) -> Result<(), Error> {
        let runs = self.request.runs;
        for square in &clip.squares {
            let done = (1..=runs).filter(|run| self.journal.has_run(&square.cell, *run)).count();
            self.eta.skip(&square.cell, done, self.journal.has_quality(&square.cell));
        }
        let is_whole = |square: &Square| {
            self.journal.has_quality(&square.cell) && (1..=runs).all(|run| self.journal.has_run(&square.cell, run))
        };
        if clip.squares.is_empty() || clip.squares.iter().all(is_whole) {
            return Ok(());
        }
        let mut footage = self.decode(clip)?;
        for run in 1..=runs {
            for square in in_turn(&clip.squares, run) {
                self.square(square, run, &mut footage)?;
            }
        }
        Ok(())
    }

    fn decode(&mut self, clip: &Clip) -> Result<Footage, Error> {
        self.say(Doing::Decoding(clip.name.clone()));
        let began = std::time::Instant::now();
        let plans = clip.squares.iter().map(|square| &square.plan);
        let (cache, cancel) = (self.request.cache.clone(), self.cancel);
        let mut footage = Footage::decode(plans, cache, cancel, |event| self.hear_hang(&event))?;
        let first = &clip.squares[0].plan;
        let frame = footage.frame(0, first)?.ok_or(Error::Stopped)?;
        let rate = footage.frame_rate().value();
        let record = ClipRecord {
            name: clip.name.clone(),
            path: footage.info().path.display().to_string(),
            width: frame.width(),
            height: frame.height(),
            pixel_format: frame.pixel_format(),
            frame_rate: rate,
            frames: footage.frames(),
            seconds: footage.frames() as f64 / rate,
            hash: format!("{:016x}", footage.hash()),
            decode_seconds: began.elapsed().as_secs_f64(),
        };
        match self.journal.clip(&clip.name) {
            None => self.journal.add(Entry::Clip(record))?,
            Some(before) if before.hash == record.hash => {}
            Some(_) => {
                let why = format!("{} has other frames now than in the bench that is to go on", clip.name);
                return Err(Error::PassesDiffer { why });
            }
        }
        Ok(footage)
    }

    /// Times a cell once and, the first time, measures what came out.
    fn square(&mut self, square: &Square, run: u16, footage: &mut Footage) -> Result<(), Error> {
        let measured = self.journal.has_quality(&square.cell);
        if self.journal.has_run(&square.cell, run) && measured {
            return Ok(());
        }
        let began = std::time::Instant::now();
        let record = self.encode(square, run, footage)?;
        self.eta.took(&square.cell, began.elapsed().as_secs_f64());
        if !self.journal.has_run(&square.cell, run) {
            self.journal.add(Entry::Run(record))?;
        }
        if !measured {
            self.say(Doing::Measuring(square.cell.clone()));
            let began = std::time::Instant::now();
            let record = self.measure(square, footage)?;
            self.journal.add(Entry::Quality(record))?;
            self.eta.measured(began.elapsed().as_secs_f64());
        }
        if !self.request.keep_files {
            // The next repetition writes it again, so what is left over is only space.
            let _ = std::fs::remove_file(output(square));
        }
        Ok(())
    }

    /// Compares what a cell made with the frames that its encoder saw.
    fn measure(&self, square: &Square, footage: &mut Footage) -> Result<QualityRecord, Error> {
        let path = output(square);
        let whole =
            Branch { size: None, filters: None, shape: None, pixel_formats: Vec::new(), colour_ranges: Vec::new() };
        let graph = Graph { rotation: 0, trunk: None, branches: vec![whole] };
        let threads = self.request.threads;
        let mut decoded = DecodedFile::open(Input::file(path), Some(threads), self.cancel)?;
        decoded.set_graph(graph);
        let mut next = || decoded.next().map(|frames| frames.and_then(|frames| frames.into_iter().next()));
        let rate = footage.frame_rate();
        let mut index = 0;
        let mut original = || -> Result<Option<Frame>, Error> {
            index += 1;
            footage.frame(index - 1, &square.plan)
        };
        let metrics = &self.request.metrics;
        let qualities = compare(&mut original, &mut next, metrics, rate, threads, &mut |_| ())?;
        let frame_bytes = frame_bytes(&Input::file(path), self.cancel)?;
        Ok(QualityRecord { cell: square.cell.clone(), qualities, frame_bytes })
    }

    fn encode(&mut self, square: &Square, run: u16, footage: &mut Footage) -> Result<RunRecord, Error> {
        self.say(Doing::Encoding(square.cell.clone(), run));
        let passes = f64::from(square.plan.runs);
        let memory = MemoryPeak::begin();
        let report = footage.run(&square.plan, |event| {
            self.hear_hang(&event);
            if let Event::Progress { pass, frames, total: Some(total), .. } = event {
                let share = (f64::from(pass) - 1.0 + frames as f64 / total.max(1) as f64) / passes;
                self.say_within(Doing::Encoding(square.cell.clone(), run), share);
            }
        })?;
        let peak_bytes = memory.end();
        let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Ok(RunRecord {
            passes: passes_of(&report),
            cell: square.cell.clone(),
            run,
            frames: report.frames,
            video_bytes: report.renditions[0].video_bytes,
            video_bps: report.renditions[0].video_bps,
            bitrate_error: report.renditions[0].bitrate_error,
            peak_bytes,
            at: at.map_or(0, |since| since.as_secs()),
        })
    }

    fn hear_hang(&mut self, event: &Event) {
        if let Event::Stuck { stage, seconds } = *event {
            self.say(Doing::Stuck { stage, seconds });
        }
    }

    fn say(&mut self, doing: Doing) {
        self.say_within(doing, 0.0);
    }

    /// Says how far the bench is, with this share of the current encode.
    fn say_within(&mut self, doing: Doing, share: f64) {
        let (done, of) = self.eta.counts();
        let rest_seconds = match &doing {
            Doing::Encoding(cell, _) => self.eta.rest_within(cell, share),
            _ => self.eta.rest(),
        };
        (self.tell)(Progress { doing, done: done as f64 + share, of, rest_seconds });
    }
}

/// Modes of one rate follow each other, so that they meet the same disturbances; every other repetition goes backwards, so
/// that a machine that grows warmer or calmer favours nobody.
fn in_turn(squares: &[Square], run: u16) -> Vec<&Square> {
    let mut turn: Vec<&Square> = squares.iter().collect();
    turn.sort_by_key(|square| square.turn);
    if run.is_multiple_of(2) {
        turn.reverse();
    }
    turn
}

fn output(square: &Square) -> &Path {
    &square.plan.renditions[0].output
}

/// With one rendition, a run of the job is a pass, and what the process spent meanwhile is what the pass cost.
fn passes_of(report: &Report) -> Vec<PassRecord> {
    let pass = |(run, pass): (&crate::report::RunReport, &crate::report::PassReport)| PassRecord {
        number: pass.number,
        wall_seconds: run.wall_seconds,
        cpu_seconds: run.cpu_seconds,
        system_seconds: run.system_seconds,
        stats_bytes: pass.stats_bytes,
    };
    report.runs.iter().zip(&report.renditions[0].passes).map(pass).collect()
}

/// Bytes of every frame of a file, in the order of showing.
fn frame_bytes(input: &Input, cancel: &Cancel) -> Result<Vec<u32>, Error> {
    let failed =
        |source| Error::Input { path: input.path.clone(), what: "cannot read".to_owned(), source: Some(source) };
    let mut demuxer = input.open(cancel)?;
    demuxer.only(&[demuxer.info().video.index]);
    let mut packet = Packet::new().map_err(failed)?;
    let mut sizes = Vec::new();
    while demuxer.read(&mut packet).map_err(failed)? == crate::av::Received::Ready {
        sizes.push((packet.pts(), u32::try_from(packet.data().len()).unwrap_or(u32::MAX)));
    }
    sizes.sort_by_key(|(pts, _)| *pts);
    Ok(sizes.into_iter().map(|(_, bytes)| bytes).collect())
}

/// Where encoded files are kept, below the report's folder.
const KEPT: &str = "encodes";

/// Where they are while they are measured. The next bench there removes what one that was killed leaves.
const PRIVATE: &str = ".repass-encodes";
