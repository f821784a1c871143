//! What sessions towards a quality need of segments: probes that are measured, and the version that is best put into the
//! stream.

use super::{Coding, Flight, Segmented, Work, fresh, stretch};
use crate::pipeline::crew::Crew;
use crate::plan::Levels;
use crate::rate::QualityTarget;
use crate::session::law::{Coded, Law};
use crate::session::quality::{Measure, Steering};
use crate::session::{RangeSet, Replay, SessionError};

/// A probe of each segment that was probed, by its number.
type Probed = Vec<(usize, Measure)>;

/// Probes some segments at a level that is usual and at one that is likely, and says what to steer by and how many frames that
/// took.
pub(super) fn quality_law(
    work: &Work,
    target: QualityTarget,
    crew: &Crew,
    flight: &mut Flight,
    frames: &mut impl Replay,
) -> Result<(Law, u64), SessionError> {
    let levels = work.plan.levels;
    let (first, mut taken) = probed_at(work, crew, flight, frames, levels.usual)?;
    let mut probes = vec![first];
    let likely = law(work, target, &probes).levels_from(0);
    let middle = likely.iter().sum::<f64>() / likely.len().max(1) as f64;
    if (middle - levels.usual).abs() > levels.halving * PROBED_NEAR {
        let (again, more) = probed_at(work, crew, flight, frames, middle)?;
        probes.push(again);
        taken += more;
    }
    Ok((Law::Quality(law(work, target, &probes)), taken))
}

/// A segment that was not probed is like the nearest that was.
fn law(work: &Work, target: QualityTarget, probes: &[Probed]) -> Steering {
    let of = |(number, (_, frames)): (usize, &(_, usize))| {
        let nearest = |probed: &Probed| {
            let (other, measure) = probed.iter().min_by_key(|(other, _)| other.abs_diff(number))?;
            let share = *frames as f64 / work.segments[*other].1.max(1) as f64;
            Some(Measure { bytes: measure.bytes * share, ..*measure })
        };
        (*frames, probes.iter().filter_map(nearest).collect())
    };
    Steering::new(target, work.plan.levels, work.target_bytes, work.segments.iter().enumerate().map(of))
}

/// Codes and measures short stretches, from the middle of some segments.
fn probed_at(
    work: &Work,
    crew: &Crew,
    flight: &mut Flight,
    frames: &mut impl Replay,
    level: f64,
) -> Result<(Probed, u64), SessionError> {
    let Levels { least, greatest, step, .. } = work.plan.levels;
    let level = ((level / step).round() * step).clamp(least, greatest);
    let stride = work.segments.len().div_ceil(MOST_STRETCHES);
    let mut taken = 0;
    for number in (stride / 2..work.segments.len()).step_by(stride) {
        let (range, count) = work.segments[number];
        let mut of_stretch = Vec::new();
        let mut start = None;
        frames.replay(&RangeSet::new(vec![stretch(range, count)])?, &mut |given| {
            of_stretch.push(fresh(given.frame, given.pts - *start.get_or_insert(given.pts))?);
            if work.cancel.is_stopped() { Err(SessionError::Cancelled) } else { Ok(()) }
        })?;
        // Where the source has a gap, there may be none.
        let Some(start) = start else { continue };
        taken += of_stretch.len() as u64;
        let coding = Coding::new(work, level, start, of_stretch.len(), None);
        let queue = flight.start(crew, number, coding, of_stretch.len())?;
        // There is room for all of them.
        of_stretch.into_iter().for_each(|frame| drop(queue.send(frame)));
    }
    let landed = flight.land(crew)?.into_iter().filter_map(|(number, version)| {
        let (first, each) = version.first_and_rest();
        let bytes = first + each * (work.segments[number].1.saturating_sub(1)) as f64;
        Some((number, Measure { level, bytes, quality: version.quality? }))
    });
    Ok((landed.collect(), taken))
}

impl Segmented<'_> {
    /// Puts that version of each segment of the pass into the stream which is best of all that were made.
    pub(super) fn settle(&mut self) {
        let is_first = self.passes.is_empty();
        let in_pass = |segment: &usize| is_first || self.chosen.contains_key(segment);
        let segments: Vec<usize> = (0..self.work.segments.len()).filter(in_pass).collect();
        for (segment, level) in self.steering.settle(&segments) {
            let versions = &mut self.versions[segment];
            if let Some(best) = versions.iter().position(|version| version.level == level) {
                let version = versions.remove(best);
                versions.push(version);
            }
        }
    }
}

impl super::Version {
    /// As far as steering looks at it.
    pub(super) fn coded(&self) -> Coded {
        Coded { level: self.level, bytes: self.bytes, quality: self.quality }
    }
}

/// A level that is within so many halvings of the one probed is near enough to count from.
const PROBED_NEAR: f64 = 0.3;
const MOST_STRETCHES: usize = 16;
