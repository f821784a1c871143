//! What sessions towards a quality need of segments: probes that are measured, and the version that is best put into the
//! stream.

use super::probing::{MOST_STRETCHES, PROBED_NEAR, Prober, spaced};
use super::{Flight, Segmented, Work};
use crate::pipeline::crew::Crew;
use crate::plan::Levels;
use crate::rate::QualityTarget;
use crate::session::law::{Coded, Law};
use crate::session::quality::{Measure, Steering};
use crate::session::{Replay, SessionError};

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
    let mut prober = Prober { work, crew, flight, frames, taken: 0 };
    let mut probes = vec![probed_at(&mut prober, levels.usual)?];
    let likely = law(work, target, &probes).mean_level();
    if (likely - levels.usual).abs() > levels.halving * PROBED_NEAR {
        probes.push(probed_at(&mut prober, likely)?);
    }
    let taken = prober.taken;
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
fn probed_at(prober: &mut Prober<'_, '_, impl Replay>, level: f64) -> Result<Probed, SessionError> {
    let work = prober.work;
    let Levels { least, greatest, step, .. } = work.plan.levels;
    let level = ((level / step).round() * step).clamp(least, greatest);
    let all: Vec<usize> = (0..work.segments.len()).collect();
    let landed = prober.coded(level, &spaced(&all, MOST_STRETCHES))?;
    let measured = landed.into_iter().filter_map(|(number, version)| {
        let (first, each) = version.first_and_rest();
        let bytes = first + each * (work.segments[number].1.saturating_sub(1)) as f64;
        Some((number, Measure { level, bytes, quality: version.quality? }))
    });
    Ok(measured.collect())
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
