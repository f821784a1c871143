//! Steering towards a bit rate: which level of constant quality each segment gets, from what was measured.
//!
//! A level is worth the same everywhere, so bits go where a second pass of two would put them: to what is hard to code. What
//! a segment takes at a level is foreseen from a probe, corrected by how probes and whole segments have compared so far.
//! Pass 1 is corrected on its way; later passes move as few frames as bring the whole to its target.
//!
//! Invariants: pure arithmetic, without a look at clocks or threads; the same measures lead to the same levels.

use std::collections::BTreeSet;

use crate::plan::Levels;

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// The whole is near enough.
    Satisfied,
    /// These segments get another level.
    Again(Vec<(usize, f64)>),
    /// It is not, and every way that is foreseen to lead there was gone.
    Exhausted,
}

/// A whole on its way to a size.
#[derive(Debug)]
pub(super) struct Steering {
    target_bytes: f64,
    tolerance: f64,
    levels: Levels,
    /// Level of the probes.
    probed_at: f64,
    segments: Vec<Segment>,
    /// Levels of the whole that were had.
    had: BTreeSet<Vec<i64>>,
}

#[derive(Debug, Clone)]
struct Segment {
    frames: f64,
    /// Bytes that a probe foresees.
    probed: f64,
    /// Its level in pass 1, as soon as it has one.
    chosen: Option<f64>,
    /// Level and bytes of each try, the last one counts.
    tried: Vec<(f64, f64)>,
}

/// What all segments together tell of the bytes that levels take.
#[derive(Debug, Clone)]
struct Law {
    /// How whole segments have compared with what their probes foresaw, as it is near each segment.
    corrections: Vec<f64>,
    /// Levels that halve the bits of a segment that does not tell its own.
    halving: f64,
}

impl Steering {
    /// `segments`: frames of each, and the bytes that probes at the level `probed_at` foresee.
    pub(super) fn new(
        target_bytes: f64,
        tolerance: f64,
        levels: Levels,
        probed_at: f64,
        segments: &[(usize, f64)],
    ) -> Self {
        let segment = |(frames, probed): &(usize, f64)| Segment {
            frames: *frames as f64,
            probed: probed.max(1.0),
            chosen: None,
            tried: Vec::new(),
        };
        let segments = segments.iter().map(segment).collect();
        Steering { target_bytes, tolerance, levels, probed_at, segments, had: BTreeSet::new() }
    }

    /// Notes what a segment took; of several tries the last counts.
    pub(super) fn note(&mut self, segment: usize, level: f64, bytes: u64) {
        let tried = &mut self.segments[segment].tried;
        tried.retain(|(known, _)| *known != level);
        tried.push((level, bytes as f64));
    }

    /// Segments that are coded before their turn, because they tell what probes are worth: one in each half of the film, for that
    /// changes as the film goes on; of the shortest, for it may turn out to have been in vain; and of these the one that is
    /// most like the whole. None where there are too few segments for that.
    pub(super) fn samples(&self) -> Vec<usize> {
        let count = self.segments.len();
        if count < FEWEST_SAMPLED {
            return Vec::new();
        }
        let whole = |part: fn(&Segment) -> f64| self.segments.iter().map(part).sum::<f64>();
        let usual = whole(|segment| segment.probed) / whole(|segment| segment.frames);
        let unlike = |segment: usize| {
            let Segment { probed, frames, .. } = self.segments[segment];
            (probed / frames / usual).log2().abs()
        };
        let around = |place: usize| {
            let wide = (count / 8).max(1);
            let some = place - wide.min(place)..(place + wide + 1).min(count - UNTOLD);
            let shortest = self.segments[some.clone()].iter().map(|segment| segment.frames).fold(f64::MAX, f64::min);
            let short = some.filter(|segment| self.segments[*segment].frames <= shortest * NEARLY);
            short.min_by(|one, other| unlike(*one).total_cmp(&unlike(*other)))
        };
        [around(count / 4), around(count * 3 / 4)].into_iter().flatten().collect()
    }

    /// The level of a segment in pass 1, where all before it have theirs, or of one that is coded before its turn: with it the
    /// rest is foreseen to bring the whole to its target. Of those before it some may be known by now, and the others still be
    /// in work. One that was coded before its turn stays as it is where its level is near enough.
    pub(super) fn level_of(&mut self, segment: usize) -> f64 {
        let law = &self.law();
        let fair = self.fair(law);
        if self.stays(segment, fair) {
            return self.segments[segment].level();
        }
        let is_settled = |other: &usize| match &self.segments[*other] {
            Segment { tried, .. } if !tried.is_empty() => *other < segment || self.stays(*other, fair),
            Segment { chosen, .. } => chosen.is_some(),
        };
        let (settled, rest): (Vec<usize>, Vec<usize>) =
            (0..self.segments.len()).partition(|other| *other != segment && is_settled(other));
        let spent: f64 = settled.iter().map(|settled| self.spent(*settled, law)).sum();
        let foreseen = |level: f64| rest.iter().map(|segment| self.foreseen(*segment, level, law)).sum::<f64>();
        // What was spent wrongly so far is made good by the rest where that is hardly seen; else a later pass sets it right.
        let reach = self.levels.halving * REACH;
        let exact = self.solved(self.target_bytes - spent, foreseen).clamp(fair - reach, fair + reach);
        let level = self.level_among(segment, &rest, exact, foreseen(exact), law);
        self.segments[segment].chosen = Some(level);
        level
    }

    /// Whether a segment was coded, at a level that is near enough.
    fn stays(&self, segment: usize, fair: f64) -> bool {
        !self.segments[segment].tried.is_empty() && self.is_near(segment, fair, STAYING)
    }

    /// The level on the encoder's grid that a segment gets where these are foreseen to take so many bytes together.
    fn level_among(&self, segment: usize, rest: &[usize], exact: f64, bytes: f64, law: &Law) -> f64 {
        let place = rest.iter().position(|other| *other == segment).unwrap_or_default();
        self.rounded(
            &rest[place..],
            exact,
            bytes - rest[..place].iter().map(|other| self.foreseen(*other, exact, law)).sum::<f64>(),
            law,
        )[0]
    }

    /// Bytes of a segment that has its level: as it came out, or as it is foreseen to.
    fn spent(&self, segment: usize, law: &Law) -> f64 {
        let Segment { tried, chosen, .. } = &self.segments[segment];
        match (chosen, tried.last()) {
            (Some(level), Some((known, bytes))) if known == level => *bytes,
            (Some(level), _) => self.foreseen(segment, *level, law),
            (None, Some((_, bytes))) => *bytes,
            (None, None) => 0.0,
        }
    }

    /// What follows a pass, from what all segments took.
    pub(super) fn next(&mut self) -> Next {
        let total: f64 = self.segments.iter().map(Segment::bytes).sum();
        let law = &self.law();
        let fair = self.fair(law);
        let is_even = (0..self.segments.len()).all(|segment| !self.is_outlier(segment, fair));
        let is_met = (total / self.target_bytes - 1.0).abs() <= self.tolerance;
        if is_met && is_even {
            return Next::Satisfied;
        }
        self.had.insert(self.state(&[]));
        // Half of the tolerance is left for what is foreseen wrongly; the way to its middle would take more frames.
        let miss = total / self.target_bytes - 1.0;
        let aim = self.target_bytes * (1.0 + miss.clamp(-self.tolerance * AIMED_INSIDE, self.tolerance * AIMED_INSIDE));
        let mut best: Option<(f64, Vec<(usize, f64)>)> = None;
        for some in self.choices(fair, total, law) {
            let Some(again) = self.moved(&some, fair, aim - total, law) else { continue };
            if again.is_empty() || self.had.contains(&self.state(&again)) {
                continue;
            }
            let change: f64 = again
                .iter()
                .map(|(segment, level)| self.foreseen(*segment, *level, law) - self.segments[*segment].bytes())
                .sum();
            let error = ((total + change) / self.target_bytes - 1.0).abs();
            if error <= self.tolerance * FORESEEN_INSIDE {
                return Next::Again(again);
            }
            if best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, again));
            }
        }
        best.map_or(Next::Exhausted, |(_, again)| Next::Again(again))
    }

    /// Which segments may be coded again, first those sets that take the fewest frames: those whose level is far from the fair
    /// one are in all of them; then ones and twos; then more and more.
    fn choices(&self, fair: f64, total: f64, law: &Law) -> Vec<Vec<usize>> {
        let (order, outliers) = self.order(fair, total, law);
        let (far, near) = order.split_at(outliers);
        let with = |more: &[usize]| [far, more].concat();
        let mut few: Vec<Vec<usize>> = if far.is_empty() { Vec::new() } else { vec![far.to_vec()] };
        few.extend(near.iter().map(|one| with(&[*one])));
        if near.len() <= FEW {
            let twos =
                near.iter().enumerate().flat_map(|(index, one)| near[..index].iter().map(|other| [*one, *other]));
            few.extend(twos.map(|two| with(&two)));
        }
        let frames = |some: &Vec<usize>| some.iter().map(|segment| self.segments[*segment].frames).sum::<f64>();
        few.sort_by(|one, other| frames(one).total_cmp(&frames(other)));
        few.extend(counts((outliers + 1).min(order.len()), order.len()).map(|count| order[..count].to_vec()));
        few
    }

    /// All segments, those first whose level is far from the fair one, and how many these are; then those that bring the whole
    /// nearest to its target, for each frame, when they get the fair level.
    fn order(&self, fair: f64, total: f64, law: &Law) -> (Vec<usize>, usize) {
        let missing = self.target_bytes - total;
        let is_near = |segment: usize| !self.is_outlier(segment, fair);
        let gain = |segment: usize| {
            let Segment { frames, .. } = self.segments[segment];
            (self.foreseen(segment, fair, law) - self.segments[segment].bytes()) * missing.signum() / frames
        };
        let mut order: Vec<usize> = (0..self.segments.len()).collect();
        order.sort_by(|one, other| is_near(*one).cmp(&is_near(*other)).then(gain(*other).total_cmp(&gain(*one))));
        let outliers = order.iter().filter(|segment| !is_near(**segment)).count();
        (order, outliers)
    }

    /// Whether a segment's quality may be seen to differ from that of the rest.
    fn is_outlier(&self, segment: usize, fair: f64) -> bool {
        !self.is_near(segment, fair, OUTLYING)
    }

    /// Whether a segment's level is within so many halvings of this one.
    fn is_near(&self, segment: usize, level: f64, halvings: f64) -> bool {
        // Nearer than a step there is nothing to choose.
        (self.segments[segment].level() - level).abs() <= (self.levels.halving * halvings).max(self.levels.step)
    }

    /// New levels with which these segments are foreseen to take so many bytes more than now; `None` where they would have to be
    /// too far from the fair one.
    fn moved(&self, segments: &[usize], fair: f64, missing: f64, law: &Law) -> Option<Vec<(usize, f64)>> {
        let all = segments.len() == self.segments.len();
        let now: f64 = segments.iter().map(|segment| self.segments[*segment].bytes()).sum();
        let bytes = now + missing;
        let level =
            self.solved(bytes, |level| segments.iter().map(|segment| self.foreseen(*segment, level, law)).sum());
        if !all && (level - fair).abs() > self.levels.halving * REACH {
            return None;
        }
        let levels = segments.iter().copied().zip(self.rounded(segments, level, bytes, law));
        Some(levels.filter(|(segment, level)| *level != self.segments[*segment].level()).collect())
    }

    /// Levels on the encoder's grid beside this one, that are foreseen to take so many bytes together.
    fn rounded(&self, segments: &[usize], exact: f64, bytes: f64, law: &Law) -> Vec<f64> {
        let Levels { least, greatest, step, .. } = self.levels;
        let on_grid = |level: f64| (level / step).floor() * step;
        // Fewer digits than a float's noise: 23.45, not 23.450000000000003.
        let tidy = |level: f64| ((level * 1e6).round() / 1e6).clamp(least, greatest);
        let mut levels = vec![tidy(on_grid(exact)); segments.len()];
        let foreseen = |segment: &usize, level: &f64| self.foreseen(*segment, *level, law);
        let mut off =
            segments.iter().zip(&levels).map(|(segment, level)| foreseen(segment, level)).sum::<f64>() - bytes;
        for (segment, level) in segments.iter().zip(&mut levels) {
            let higher = tidy(*level + step);
            let saved = foreseen(segment, level) - foreseen(segment, &higher);
            if (off - saved).abs() < off.abs() {
                *level = higher;
                off -= saved;
            }
        }
        levels
    }

    /// Bytes that a segment will take at a level: as it did, or by the nearest of its tries, or by its probe.
    fn foreseen(&self, segment: usize, level: f64, law: &Law) -> f64 {
        let Segment { probed, tried, .. } = &self.segments[segment];
        let near = |(known, _): &&(f64, f64)| (known - level).abs();
        match tried.iter().min_by(|one, other| near(one).total_cmp(&near(other))) {
            Some((known, bytes)) => bytes * ((known - level) / self.halving(segment, law)).exp2(),
            None => probed * law.corrections[segment] * ((self.probed_at - level) / self.levels.halving).exp2(),
        }
    }

    /// The level that would bring the whole to its target if all segments had it.
    fn fair(&self, law: &Law) -> f64 {
        let foreseen = |level| (0..self.segments.len()).map(|segment| self.foreseen(segment, level, law)).sum();
        self.solved(self.target_bytes, foreseen)
    }

    fn law(&self) -> Law {
        let told = (0..self.segments.len()).filter_map(|segment| self.told(segment));
        let told = told.reduce(|sums, one| (sums.0 + one.0, sums.1 + one.1));
        Law { corrections: self.corrections(), halving: told.map_or(self.levels.halving, |told| self.halving_of(told)) }
    }

    /// Levels that halve a segment's bits: by its own tries, else by those of the others, else what is usual.
    fn halving(&self, segment: usize, law: &Law) -> f64 {
        self.told(segment).map_or(law.halving, |told| self.halving_of(told))
    }

    fn halving_of(&self, (levels, halvings): (f64, f64)) -> f64 {
        let usual = self.levels.halving;
        (levels / halvings.max(1e-9)).clamp(usual / 3.0, usual * 3.0)
    }

    /// How far apart the last two tries of a segment are, in levels and in halvings; `None` where that says more of noise.
    fn told(&self, segment: usize) -> Option<(f64, f64)> {
        let [.., one, other] = self.segments[segment].tried.as_slice() else { return None };
        let levels = other.0 - one.0;
        (levels.abs() >= self.levels.halving * TELLING)
            .then(|| (levels.abs(), (one.1 / other.1).log2() * levels.signum()))
    }

    /// How segments compare with what their probes foresaw: as those nearby did, and, as far as these are few, as all did; a few
    /// say it less surely than many.
    fn corrections(&self) -> Vec<f64> {
        let known = self.segments.iter().map(|segment| {
            let (level, bytes) = segment.tried.last()?;
            let foreseen = segment.probed * ((self.probed_at - level) / self.levels.halving).exp2();
            Some((bytes.max(1.0) / foreseen).log2())
        });
        let known: Vec<Option<f64>> = known.collect();
        let (count, sum) =
            known.iter().flatten().fold((0.0, 0.0), |(count, sum), halvings| (count + 1.0, sum + halvings));
        let everywhere = sum / (count + DOUBT);
        let before = fading(known.iter());
        let mut behind = fading(known.iter().rev());
        behind.reverse();
        let both = before.iter().zip(&behind);
        both.map(|((count, sum), (more, other))| (sum + other + NEARBY * everywhere) / (count + more + NEARBY))
            .map(f64::exp2)
            .collect()
    }

    /// The level at which `foreseen` is so many bytes.
    fn solved(&self, bytes: f64, foreseen: impl Fn(f64) -> f64) -> f64 {
        bisected((self.levels.least, self.levels.greatest), bytes, foreseen)
    }

    /// The levels of all segments after a change, in steps.
    fn state(&self, again: &[(usize, f64)]) -> Vec<i64> {
        let mut levels: Vec<f64> = self.segments.iter().map(Segment::level).collect();
        again.iter().for_each(|(segment, level)| levels[*segment] = *level);
        levels.iter().map(|level| (level / self.levels.step).round() as i64).collect()
    }
}

impl Segment {
    fn level(&self) -> f64 {
        self.tried.last().map_or(0.0, |(level, _)| *level)
    }

    fn bytes(&self) -> f64 {
        self.tried.last().map_or(0.0, |(_, bytes)| *bytes)
    }
}

/// For each place, how many of those before it are known, and their sum; each half as much as the one behind it.
fn fading<'k>(known: impl Iterator<Item = &'k Option<f64>>) -> Vec<(f64, f64)> {
    known
        .scan((0.0, 0.0), |(count, sum), here| {
            let before = (*count, *sum);
            let (one, halvings) = here.map_or((0.0, 0.0), |halvings| (1.0, halvings));
            (*count, *sum) = ((*count + one) * FADING, (*sum + halvings) * FADING);
            Some(before)
        })
        .collect()
}

/// Where a falling function has this value; the nearer end where it has not.
pub(super) fn bisected((mut low, mut high): (f64, f64), value: f64, falling: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if falling(middle) > value { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// How many segments a pass may be over, from the fewest to all: each number while they are few, then in larger steps.
fn counts(fewest: usize, all: usize) -> impl Iterator<Item = usize> {
    let next = move |count: &usize| (*count < all).then(|| (count + 1 + count / FEW).min(all));
    std::iter::successors(Some(fewest.min(all)), next)
}

/// As many segments as the probes are worth that were coded like them.
const DOUBT: f64 = 0.25;
/// The last segments are not coded before their turn: they make good what the others miss.
const UNTOLD: usize = 2;
/// With fewer segments there is too little that one could tell of the others.
const FEWEST_SAMPLED: usize = 5;
/// Segments that are longer by this share are as short.
const NEARLY: f64 = 1.3;
/// Up to so many segments, each number is tried.
const FEW: usize = 16;
/// A segment tells of the next but one so much less than of the next.
const FADING: f64 = 0.5;
/// All segments together tell as much of one as so many neighbours.
const NEARBY: f64 = 0.5;
/// How far segments may be from the level that would be fair to all, in halvings, for the sake of the whole: an eighth of
/// their bits.
const REACH: f64 = 0.25;
/// A segment that was coded before its turn is coded again in its turn if it is farther from it.
const STAYING: f64 = 0.4;
/// A segment that is farther from it in the end is set right, whatever the whole takes.
const OUTLYING: f64 = 0.5;
/// Tries nearer than this, in halvings, say more of noise than of the slope.
const TELLING: f64 = 0.05;
/// What is foreseen misses a little, so the aim is within this share of the tolerance.
const AIMED_INSIDE: f64 = 0.4;
/// Levels on a coarse grid that are foreseen within this share of it are good enough.
const FORESEEN_INSIDE: f64 = 0.6;

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments whose bytes follow a law that nobody tells the steering: what each takes at level 20, and its halving.
    struct World(Vec<(f64, f64)>);

    impl World {
        fn bytes(&self, segment: usize, level: f64) -> u64 {
            let (at_20, halving) = self.0[segment];
            (at_20 * ((20.0 - level) / halving).exp2()).round() as u64
        }
    }

    fn levels(step: f64, halving: f64) -> Levels {
        Levels { least: 1.0, greatest: 51.0, step, usual: 23.0, halving }
    }

    /// Runs passes; what each was over, in segments, and the error in the end.
    fn played(world: &World, target: f64, levels: Levels, probes: f64, lag: usize) -> (Vec<usize>, f64, Next) {
        let mut steering = steering(world, target, levels, &vec![probes; world.0.len()]);
        let mut now = first_pass(world, &mut steering, lag);
        let mut passes = vec![now.len()];
        let last = loop {
            match steering.next() {
                Next::Again(again) if passes.len() < 8 => {
                    passes.push(again.len());
                    for (segment, level) in again {
                        now[segment] = world.bytes(segment, level);
                        steering.note(segment, level, now[segment]);
                    }
                }
                next => break next,
            }
        };
        (passes, now.iter().sum::<u64>() as f64 / target - 1.0, last)
    }

    /// What probes foresee is so many times what comes.
    fn steering(world: &World, target: f64, levels: Levels, probes: &[f64]) -> Steering {
        let probed = probes.iter().enumerate().map(|(segment, ratio)| (100, world.bytes(segment, 25.0) as f64 * ratio));
        Steering::new(target, 0.01, levels, 25.0, &probed.collect::<Vec<_>>())
    }

    /// Codes all segments in turn, each known when `lag` others have been begun; what they took.
    fn first_pass(world: &World, steering: &mut Steering, lag: usize) -> Vec<u64> {
        let count = world.0.len();
        let mut now = vec![0u64; count];
        let mut chosen = Vec::new();
        for segment in 0..count + lag {
            if let Some(landed) = segment.checked_sub(lag) {
                now[landed] = world.bytes(landed, chosen[landed]);
                steering.note(landed, chosen[landed], now[landed]);
            }
            if segment < count {
                chosen.push(steering.level_of(segment));
            }
        }
        now
    }

    /// Codes those before their turn that are to be.
    fn sample(world: &World, steering: &mut Steering) -> Vec<(usize, f64)> {
        let samples = steering.samples();
        let coded = |segment: usize| {
            let level = steering.level_of(segment);
            steering.note(segment, level, world.bytes(segment, level));
            (segment, level)
        };
        samples.into_iter().map(coded).collect()
    }

    fn world(count: usize) -> World {
        World((0..count).map(|n| (100_000.0 * (1.0 + (n * 7 % 5) as f64), 5.0 + (n % 3) as f64)).collect())
    }

    #[test]
    fn fine_levels_converge_with_little_beyond_the_first_pass() {
        for count in [1, 2, 5, 8, 40] {
            for probes in [0.7, 1.0, 1.4] {
                for target in [0.2, 1.0, 3.0] {
                    let world = world(count);
                    let target = target * world.0.iter().map(|(bytes, _)| bytes).sum::<f64>();
                    let (passes, error, last) = played(&world, target, levels(0.01, 6.0), probes, 2);
                    assert!(error.abs() <= 0.01 && last == Next::Satisfied, "{count} {probes}: {error} {passes:?}");
                    let again: usize = passes[1..].iter().sum();
                    assert!(passes.len() <= 4 && again <= count.max(4), "{count} {probes} {target}: {passes:?}");
                }
            }
        }
    }

    #[test]
    fn whole_levels_are_mixed() {
        for count in [5, 8, 40] {
            let world = world(count);
            let target = 0.77 * world.0.iter().map(|(bytes, _)| bytes).sum::<f64>();
            let (passes, error, last) = played(&world, target, levels(1.0, 6.0), 1.2, 2);
            assert!(error.abs() <= 0.01 && last == Next::Satisfied, "{count}: {error} {passes:?}");
        }
    }

    #[test]
    fn what_no_level_reaches_ends_as_exhausted() {
        let world = world(3);
        let (_, error, last) = played(&world, 10.0, levels(0.01, 6.0), 1.0, 2);
        assert!(error > 0.01 && last == Next::Exhausted, "{error} {last:?}");
        // One segment in steps of a sixth of its bits.
        let (passes, _, last) = played(&World(vec![(1000.0, 3.0)]), 900.0, levels(1.0, 3.0), 1.0, 1);
        assert!(last == Next::Exhausted && passes.len() < 8, "{passes:?}");
    }

    #[test]
    fn what_a_level_is_worth_is_learnt_from_other_segments() {
        let mut steering = Steering::new(1.0, 0.01, levels(1.0, 12.0), 25.0, &[(100, 100.0); 3]);
        (0..3).for_each(|segment| steering.note(segment, 30.0, 1000));
        assert!((steering.foreseen(1, 24.0, &steering.law()) - 1000.0 * 0.5f64.exp2()).abs() < 1e-6);
        steering.note(0, 27.0, 1414);
        assert!(
            (steering.foreseen(1, 24.0, &steering.law()) - 2000.0).abs() < 2.0,
            "{}",
            steering.foreseen(1, 24.0, &steering.law())
        );
    }

    #[test]
    fn what_was_coded_before_its_turn_stays_where_it_was_right() {
        let world = world(8);
        let target = 0.8 * (0..8).map(|segment| world.bytes(segment, 23.0)).sum::<u64>() as f64;
        for (ratio, stay) in [(1.0, 2), (0.9, 2), (0.5, 1)] {
            let mut steering = steering(&world, target, levels(0.01, 6.0), &[ratio; 8]);
            let samples = sample(&world, &mut steering);
            assert!(samples.len() == 2 && (1..4).contains(&samples[0].0) && samples[1].0 == 5, "{samples:?}");
            let stays = samples.iter().filter(|(segment, level)| steering.level_of(*segment) == *level).count();
            assert_eq!(stays, stay, "{ratio}: {samples:?}");
        }
        let few = steering(&World(vec![(1.0, 6.0); 4]), 1.0, levels(0.01, 6.0), &[1.0; 4]);
        assert!(few.samples().is_empty());
    }

    #[test]
    fn probes_that_are_worth_less_in_the_second_half_are_found_out_by_samples() {
        let world = World(vec![(100_000.0, 6.0); 12]);
        let target = 1_000_000.0;
        let probes: Vec<f64> = (0..12).map(|segment| if segment < 6 { 1.3 } else { 0.8 }).collect();
        let mut without = steering(&world, target, levels(0.01, 6.0), &probes);
        let without = first_pass(&world, &mut without, 2);
        let mut with = steering(&world, target, levels(0.01, 6.0), &probes);
        sample(&world, &mut with);
        let with = first_pass(&world, &mut with, 2);
        let error = |bytes: &[u64]| (bytes.iter().sum::<u64>() as f64 / target - 1.0).abs();
        assert!(error(&with) < 0.05 && error(&with) < error(&without) / 2.0, "{} {}", error(&with), error(&without));
    }

    #[test]
    fn the_shortest_segment_that_will_do_is_coded_again() {
        let lengths = [(200, 200.0), (100, 100.0), (30, 30.0), (100, 100.0), (60, 60.0)];
        let mut steering = Steering::new(490.0 * 1.018, 0.01, levels(0.01, 6.0), 25.0, &lengths);
        lengths.iter().enumerate().for_each(|(segment, (_, bytes))| steering.note(segment, 25.0, *bytes as u64));
        let Next::Again(again) = steering.next() else { panic!("nothing to do") };
        assert_eq!(again.iter().map(|(segment, _)| *segment).collect::<Vec<_>>(), [4], "{again:?}");
    }

    #[test]
    fn a_small_miss_moves_few_segments() {
        let mut steering = Steering::new(1000.0 * 1.02, 0.01, levels(0.01, 6.0), 25.0, &[(100, 100.0); 10]);
        (0..10).for_each(|segment| steering.note(segment, 25.0, 100 + (segment as u64 % 3)));
        let Next::Again(again) = steering.next() else { panic!("nothing to do") };
        assert!(again.len() <= 2, "{again:?}");
    }
}
