//! The matrix: every clip by every encoder, preset, mode and rate, planned before anything runs.
//!
//! Invariant: what cannot be had here is listed with its reason; what was asked for wrongly is an error.

use std::collections::BTreeSet;
use std::path::Path;

use crate::adapter::{Adapter, Better, PassModel, Vendor};
use crate::bench::BenchRequest;
use crate::bench::record::{Aim, Cell, Mode, Unavailable};
use crate::cache::{CacheMode, CachePlan};
use crate::error::{Error, Refusal};
use crate::event::Cancel;
use crate::job::{AudioChoice, JobRequest, Plan, RenditionRequest, Resume, SubtitleChoice, plan_over};
use crate::plan::{OnUnsupported, Passes, Request};
use crate::probe::open_device;
use crate::rate::{BitRate, ByteSize, Target};
use crate::source::{DecodedFile, Input};

/// All that will be measured.
pub(crate) struct Matrix {
    pub(crate) clips: Vec<Clip>,
    pub(crate) unavailable: Vec<Unavailable>,
}

/// One clip and its encodes.
pub(crate) struct Clip {
    pub(crate) name: String,
    pub(crate) squares: Vec<Square>,
}

/// One cell, ready to be encoded.
pub(crate) struct Square {
    pub(crate) cell: Cell,
    pub(crate) plan: Plan,
    /// Which rate, encoder and preset of its clip, so that runs can be interleaved.
    pub(crate) turn: (usize, usize, usize),
}

impl Matrix {
    /// Plans every cell; outputs go into `folder`.
    pub(crate) fn plan(request: &BenchRequest, folder: &Path, cancel: &Cancel) -> Result<Self, Error> {
        let mut unavailable = Vec::new();
        let encoders = here(&request.encoders, &mut unavailable);
        let mut clips = Vec::new();
        let mut names = BTreeSet::new();
        for input in &request.clips {
            let name = clip_name(&input.path, &mut names);
            let file = DecodedFile::open(input.clone(), Some(request.threads), cancel)?;
            let mut planning = Planning { request, input, file, name: &name, folder, squares: Vec::new() };
            for (number, adapter) in encoders.iter().enumerate() {
                planning.encoder(number, adapter, &mut unavailable)?;
            }
            let squares = planning.squares;
            clips.push(Clip { name, squares });
        }
        if clips.iter().all(|clip| clip.squares.is_empty()) {
            return Err(nothing_left(&unavailable).into());
        }
        Ok(Matrix { clips, unavailable })
    }
}

/// Encoders that are compiled in and whose device answers.
fn here(encoders: &[&'static Adapter], unavailable: &mut Vec<Unavailable>) -> Vec<&'static Adapter> {
    let is_here = |adapter: &&&'static Adapter| {
        if adapter.vendor == Vendor::Software {
            return true;
        }
        match open_device(adapter) {
            Ok(()) => true,
            Err(error) => {
                let name = format!("{}: ", adapter.name);
                let words = error.to_string();
                let words = words.strip_prefix(&name).unwrap_or(&words);
                let words = words.strip_prefix("does not open on this machine: ").unwrap_or(words);
                let why = format!("not on this machine: {words}");
                unavailable.push(Unavailable { encoder: adapter.name.to_owned(), mode: None, why });
                false
            }
        }
    };
    encoders.iter().filter(is_here).copied().collect()
}

fn nothing_left(unavailable: &[Unavailable]) -> Refusal {
    let reasons: BTreeSet<String> = unavailable.iter().map(|one| format!("{}: {}", one.encoder, one.why)).collect();
    let reasons: Vec<String> = reasons.into_iter().collect();
    Refusal::Bench { why: format!("nothing is left to measure: {}", reasons.join("; ")) }
}

/// The file's name without its ending; a number is added where two clips have one name.
fn clip_name(path: &Path, names: &mut BTreeSet<String>) -> String {
    let stem = path.file_stem().map_or_else(|| "clip".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let numbered = (2..).map(|number| format!("{stem}-{number}"));
    let free = std::iter::once(stem.clone()).chain(numbered).find(|name| !names.contains(name));
    let name = free.unwrap_or(stem);
    names.insert(name.clone());
    name
}

/// One clip being planned.
struct Planning<'p> {
    request: &'p BenchRequest,
    input: &'p Input,
    /// Opened once for all cells.
    file: DecodedFile,
    name: &'p str,
    folder: &'p Path,
    squares: Vec<Square>,
}

impl Planning<'_> {
    fn encoder(
        &mut self,
        number: usize,
        adapter: &'static Adapter,
        unavailable: &mut Vec<Unavailable>,
    ) -> Result<(), Error> {
        for mode in &self.request.modes {
            for why in self.mode(number, adapter, *mode)? {
                let one = Unavailable { encoder: adapter.name.to_owned(), mode: Some(*mode), why };
                if !unavailable.contains(&one) {
                    unavailable.push(one);
                }
            }
        }
        Ok(())
    }

    /// Plans one mode at every preset and rate; says why where it, or one of its rates, cannot be had.
    fn mode(&mut self, number: usize, adapter: &'static Adapter, mode: Mode) -> Result<Vec<String>, Error> {
        if let Some(why) = senseless(adapter, mode) {
            return Ok(vec![why.to_owned()]);
        }
        let mut lacks = Vec::new();
        let presets: Vec<Option<&String>> = match self.request.presets.as_slice() {
            [] => vec![None],
            some => some.iter().map(Some).collect(),
        };
        for (place, preset) in presets.into_iter().enumerate() {
            for (rate, aim) in self.aims(adapter, mode).into_iter().enumerate() {
                let encoder = self.encode(adapter, preset.cloned(), mode, aim);
                match self.square(mode, aim, (rate, number, place), encoder) {
                    Ok(square) => self.squares.push(square),
                    // One rate that an encoder does not take says nothing of the others.
                    Err(Error::Plan(refusal @ Refusal::Target { .. })) => lacks.push(refusal.to_string()),
                    Err(Error::Plan(refusal)) if is_lack(&refusal) => return Ok(vec![refusal.to_string()]),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(lacks)
    }

    fn aims(&self, adapter: &Adapter, mode: Mode) -> Vec<Aim> {
        if mode != Mode::Crf {
            return self.request.rates.iter().map(|rate| Aim::Rate(rate.0)).collect();
        }
        match self.request.qualities.as_slice() {
            [] => usual_levels(adapter).into_iter().map(Aim::Quality).collect(),
            some => some.iter().copied().map(Aim::Quality).collect(),
        }
    }

    fn encode(&self, adapter: &'static Adapter, preset: Option<String>, mode: Mode, aim: Aim) -> Request {
        let target = match aim {
            Aim::Rate(bps) => Target::Average(BitRate(bps)),
            Aim::Quality(level) => Target::Quality(level),
        };
        Request {
            passes: match mode {
                Mode::OnePass | Mode::Crf => Passes::One,
                Mode::TwoPass | Mode::TwoPassFast | Mode::Inside => Passes::Two,
            },
            on_unsupported: if mode == Mode::Inside { OnUnsupported::Fallback } else { OnUnsupported::Refuse },
            fast_first: mode == Mode::TwoPassFast,
            preset,
            threads: Some(self.request.threads),
            options: self.request.options.clone(),
            ..Request::new(adapter, target)
        }
    }

    fn square(&self, mode: Mode, aim: Aim, turn: (usize, usize, usize), encoder: Request) -> Result<Square, Error> {
        let cell = Cell {
            clip: self.name.to_owned(),
            encoder: encoder.adapter.name.to_owned(),
            preset: encoder.preset.clone(),
            mode,
            aim,
        };
        let output = self.folder.join(format!("{}-{:04}.mkv", self.name, self.squares.len()));
        let rendition = RenditionRequest {
            overwrite: true,
            audio: AudioChoice::None,
            subtitles: SubtitleChoice::None,
            ..RenditionRequest::new(cell.to_string(), output, encoder)
        };
        let job = JobRequest {
            filters: self.request.filters.clone(),
            renditions: vec![rendition],
            // The footage keeps the frames.
            cache: CachePlan { mode: CacheMode::None, budget: ByteSize(0), spill_dir: None },
            decoder_threads: Some(self.request.threads),
            stall_timeout: self.request.stall_timeout,
            // A bench has a journal of its own, and this one would be in the times.
            resume: Resume::Never,
            ..JobRequest::new(self.input.clone())
        };
        Ok(Square { cell, plan: plan_over(&job, &self.file)?, turn })
    }
}

/// Why a mode says nothing about an encoder; `None` where it does.
fn senseless(adapter: &Adapter, mode: Mode) -> Option<&'static str> {
    match (mode, &adapter.passes) {
        (Mode::TwoPassFast, PassModel::TwoRuns(model)) if model.fast_first.is_empty() => {
            Some("its first pass has no quicker settings than it takes by itself")
        }
        (Mode::Inside, PassModel::TwoRuns(_)) => Some("analyses in two runs, not inside one"),
        (Mode::Crf, _) if adapter.quality.is_empty() => Some("follows no constant quality"),
        _ => None,
    }
}

/// Whether a refusal says that something is not to be had, and not that it was asked for wrongly.
fn is_lack(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::NoEncoder { .. }
            | Refusal::NoTwoPass { .. }
            | Refusal::VideoToolboxTwoPassUnsupported { .. }
            | Refusal::QualityNeedsOnePass { .. }
    )
}

/// Four levels over the part of the scale that is used: x264's 18, 23, 28, 33.
fn usual_levels(adapter: &Adapter) -> Vec<f64> {
    let Some(knob) = adapter.quality.first() else { return Vec::new() };
    let (least, greatest) = knob.range;
    let at = |share: f64| match knob.better {
        Better::Lower => least + share * (greatest - least),
        Better::Higher => greatest - share * (greatest - least),
    };
    USUAL_SHARES.into_iter().map(|share| at(share).round()).collect()
}

/// Of a scale's length, from its better end.
const USUAL_SHARES: [f64; 4] = [0.36, 0.46, 0.55, 0.65];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter;

    #[test]
    fn usual_levels_are_those_that_people_use() {
        assert_eq!(usual_levels(adapter::named("libx264").unwrap()), [18.0, 23.0, 28.0, 33.0]);
        assert_eq!(usual_levels(adapter::named("libvpx-vp9").unwrap()), [23.0, 29.0, 35.0, 41.0]);
    }

    #[test]
    fn clips_of_one_name_are_told_apart() {
        let mut names = BTreeSet::new();
        let given: Vec<String> = ["a/clip.mkv", "b/clip.mp4", "clip.y4m"]
            .iter()
            .map(|path| clip_name(Path::new(path), &mut names))
            .collect();
        assert_eq!(given, ["clip", "clip-2", "clip-3"]);
    }
}
