//! The first guess of a session towards a bit rate: probes tell segments from one another, and about which level brings the
//! whole to its target. They are quick codings of smaller pictures, for what they are to tell is little: how much harder one
//! segment is than another. What they are worth in the session's own bytes, two segments tell that are coded before their turn.

use std::collections::BTreeMap;
use std::mem;

use crossbeam_channel::Sender;

use super::{Coding, Flight, OpenPass, ProbeSetup, Segmented, Version, Work, fresh};
use crate::adapter::Headers;
use crate::av::frame::Frame;
use crate::error::Error;
use crate::pipeline::crew::Crew;
use crate::plan::Levels;
use crate::session::law::Law;
use crate::session::steering::Steering;
use crate::session::{RangeSet, Replay, SessionError, TimeRange};

/// What probes say: bytes of each segment at a level.
struct Foreseen {
    level: f64,
    bytes: Vec<f64>,
    /// Frames that were coded.
    frames: u64,
}

/// Steers towards a bit rate from what probes say; and how many frames those took.
pub(super) fn rate_law(
    work: &Work,
    tolerance: f64,
    crew: &Crew,
    flight: &mut Flight,
    frames: &mut impl Replay,
) -> Result<(Law, u64), SessionError> {
    let Levels { least, greatest, step, .. } = work.plan.levels;
    let on_grid = |level: f64| ((level / step).round() * step).clamp(least, greatest);
    let mut prober = Prober { work, crew, flight, frames, taken: 0 };
    let Foreseen { level, bytes, frames } = foreseen(&mut prober, on_grid)?;
    let lengths = work.segments.iter().map(|(_, frames)| *frames);
    let segments: Vec<(usize, f64)> = lengths.zip(bytes).collect();
    let steering = Steering::new(work.target_bytes, tolerance, work.plan.levels, level, &segments);
    Ok((Law::Rate(steering), frames))
}

/// Probes a few short stretches at a level that is likely; then all that is affordable at the level which these suggest, or, where
/// the session's own settings are what probes have, the same stretches again if that level is far.
fn foreseen(prober: &mut Prober<'_, '_, impl Replay>, on_grid: impl Fn(f64) -> f64) -> Result<Foreseen, SessionError> {
    let work = prober.work;
    let Levels { usual, halving, .. } = work.plan.levels;
    let bits_per_pixel = work.target_bytes * 8.0 / work.pixels.max(1.0);
    let level = on_grid(usual + halving * (USUAL_BITS_PER_PIXEL / bits_per_pixel).log2());
    let likely = |bytes: &[f64], level: f64| on_grid(level + halving * (sum(bytes) / work.target_bytes).log2());
    let all: Vec<usize> = (0..work.segments.len()).collect();
    let rough = prober.probed(level, &spaced(&all, MOST_STRETCHES), stretch_frames)?;
    let nearer = likely(&rough, level);
    let bytes = match &work.probe {
        Some(_) => {
            let most = spaced(&all, MOST_PROBED_SEGMENTS);
            let each = (MOST_PROBED_FRAMES / most.len().max(1)).max(1) as i64;
            prober.probed(nearer, &most, |frames| each.min(frames))?
        }
        None if (nearer - level).abs() <= halving * PROBED_NEAR => {
            return Ok(Foreseen { level, bytes: rough, frames: prober.taken });
        }
        None => prober.probed(nearer, &spaced(&all, MOST_STRETCHES), stretch_frames)?,
    };
    Ok(Foreseen { level: nearer, bytes, frames: prober.taken })
}

fn sum(bytes: &[f64]) -> f64 {
    bytes.iter().sum()
}

/// About so many of these, evenly spaced.
pub(super) fn spaced(all: &[usize], most: usize) -> Vec<usize> {
    let stride = all.len().div_ceil(most);
    all.iter().copied().skip(stride / 2).step_by(stride).collect()
}

/// Codes stretches of segments.
pub(super) struct Prober<'p, 'w, F> {
    pub(super) work: &'p Work,
    pub(super) crew: &'w Crew,
    pub(super) flight: &'p mut Flight,
    pub(super) frames: &'p mut F,
    /// Frames that were coded.
    pub(super) taken: u64,
}

impl<F: Replay> Prober<'_, '_, F> {
    /// What every segment will take at a level of the session: by a stretch of its own where it is among `segments`, else by
    /// their mean. `long`: frames of the stretch of a segment with so many.
    fn probed(&mut self, level: f64, segments: &[usize], long: impl Fn(i64) -> i64) -> Result<Vec<f64>, SessionError> {
        for number in segments {
            let coding = match &self.work.probe {
                Some(probe) => self.work.quick(probe, level),
                None => Coding::new(self.work, self.work.setup.clone(), level, None),
            };
            self.start(*number, coding, &long)?;
        }
        let worth = self.work.probe.as_ref().map_or(1.0, |probe| probe.worth);
        let landed = self.flight.land(self.crew, |_| true)?.into_iter();
        let sizes: BTreeMap<usize, (f64, f64)> =
            landed.map(|(number, version)| (number, version.first_and_rest())).collect();
        let mean = |part: fn(&(f64, f64)) -> f64| sizes.values().map(part).sum::<f64>() / sizes.len().max(1) as f64;
        let usual = (mean(|sizes| sizes.0), mean(|sizes| sizes.1));
        let bytes = self.work.segments.iter().enumerate().map(|(number, (_, frames))| {
            let (first, each) = sizes.get(&number).unwrap_or(&usual);
            (first + each * (frames.saturating_sub(1)) as f64) * worth
        });
        Ok(bytes.collect())
    }

    /// Short stretches of these segments, by the session's own settings.
    pub(super) fn coded(&mut self, level: f64, segments: &[usize]) -> Result<Vec<(usize, Version)>, SessionError> {
        for number in segments {
            let coding = Coding::new(self.work, self.work.setup.clone(), level, None);
            self.start(*number, coding, &stretch_frames)?;
        }
        self.flight.land(self.crew, |_| true)
    }

    /// Begins the coding of a stretch from the middle of a segment.
    fn start(&mut self, number: usize, coding: Coding, long: &impl Fn(i64) -> i64) -> Result<(), SessionError> {
        let (segment, frames) = self.work.segments[number];
        let long = long(frames as i64);
        // Where frames are lost, a segment lasts longer than it has frames.
        let stretch = if long < frames as i64 { stretch(segment, long) } else { segment };
        self.taken += self.work.code(number, stretch, coding, self.crew, self.flight, self.frames)?;
        Ok(())
    }
}

impl Work {
    /// The quick coding of a stretch that foresees what the session takes at this level.
    fn quick(&self, probe: &ProbeSetup, level: f64) -> Coding {
        let (own, its) = (self.plan.levels, probe.plan.levels);
        let level = its.usual + (level - own.usual) / own.halving * its.halving;
        let level = ((level / its.step).round() * its.step).clamp(its.least, its.greatest);
        let mut coding = Coding::new(self, probe.setup.clone(), level, None);
        coding.headers = Headers::H264;
        coding.filter = Some(probe.plan.filter.clone());
        coding
    }

    /// Begins to code a part of a segment and hands over its frames, of which there may be fewer than ticks, or none where the
    /// source has a gap; returns how many there were.
    pub(super) fn code(
        &self,
        segment: usize,
        part: TimeRange,
        coding: Coding,
        crew: &Crew,
        flight: &mut Flight,
        frames: &mut impl Replay,
    ) -> Result<u64, SessionError> {
        let mut coding = Some(coding);
        let mut begun: Option<(i64, Sender<Frame>)> = None;
        let mut count = 0;
        let given = frames.replay(&RangeSet::new(vec![part])?, &mut |given| {
            if let Some(mut coding) = coding.take() {
                coding.start = given.pts;
                begun = Some((given.pts, flight.start(crew, segment, coding, self.waiting_frames)?));
            }
            let Some((first, queue)) = &begun else { return Ok(()) };
            let frame = fresh(given.frame, given.pts - first)?;
            crew.pulse.while_waiting(|| queue.send(frame)).map_err(|_| Error::Stopped)?;
            count += 1;
            if self.cancel.is_stopped() { Err(SessionError::Cancelled) } else { Ok(()) }
        });
        drop(begun);
        match given {
            Ok(()) => Ok(count),
            // An encoder that has gone says why.
            Err(error) => flight.land(crew, |_| true).and(Err(error)),
        }
    }
}

impl Segmented<'_> {
    /// Codes a few segments before their turn, at the levels that are foreseen to be right: they tell what probes are worth here
    /// and there, and are in the stream as they are where their levels turn out to be near enough.
    pub(super) fn sample(&mut self, frames: &mut impl Replay) -> Result<(), SessionError> {
        for segment in self.steering.samples() {
            // Each but the first profits from the first, which may be far off.
            let before = mem::take(&mut self.ahead);
            self.land(|other| before.contains(&other))?;
            self.ahead.push(segment);
            let level = self.steering.level_of(segment);
            if let Some(version) = self.work.taken_up(segment, level) {
                self.flight.landed.insert(segment, version);
                self.taken_up += 1;
                continue;
            }
            let pass = self.begun.get_or_insert_with(|| OpenPass::new(1));
            let pass = OpenPass { tally: pass.tally.clone(), ..*pass };
            let coding = self.coding(segment, level, &pass);
            let whole = self.work.segments[segment].0;
            self.work.code(segment, whole, coding, self.crew, &mut self.flight, frames)?;
        }
        Ok(())
    }
}

/// From the middle of a segment.
fn stretch(segment: TimeRange, long: i64) -> TimeRange {
    let long = long.clamp(1, segment.end - segment.start);
    let start = segment.start + (segment.end - segment.start - long) / 2;
    TimeRange { start, end: start + long }
}

/// Frames of a short stretch of a segment with so many.
fn stretch_frames(frames: i64) -> i64 {
    (frames / STRETCH_SHARE).clamp(STRETCH_FRAMES.0, STRETCH_FRAMES.1).min(frames)
}

impl Version {
    /// Bytes of the first packet, and of each other one.
    pub(super) fn first_and_rest(&self) -> (f64, f64) {
        let first = self.packets.first().map_or(0, |packet| packet.data().len());
        let others = self.packets.len().saturating_sub(1);
        // Of a single frame it is not known what others would take.
        let rest =
            if others == 0 { first as f64 / LONE_FRAME } else { (self.bytes - first as u64) as f64 / others as f64 };
        (first as f64, rest)
    }
}

/// Where the first probe begins: see `usual` in the adapters' rows.
const USUAL_BITS_PER_PIXEL: f64 = 0.1;
/// Probes by the session's own settings within so many halvings of their target are near enough to count from.
pub(super) const PROBED_NEAR: f64 = 0.3;
/// How many segments have a short stretch probed.
pub(super) const MOST_STRETCHES: usize = 16;
/// Of a segment a short stretch is this part, within these bounds.
const STRETCH_SHARE: i64 = 16;
const STRETCH_FRAMES: (i64, i64) = (8, 24);
/// How much quick probes look at: all of a short film, and stretches of so many segments of a long one.
const MOST_PROBED_SEGMENTS: usize = 24;
const MOST_PROBED_FRAMES: usize = 1440;
/// What a key frame takes of what the frames behind it take.
const LONE_FRAME: f64 = 8.0;
