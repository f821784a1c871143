//! Steering towards a quality: which level of constant quality each segment gets, from what was measured of it.
//!
//! Each segment is searched by itself. Between a level that meets the target and one that misses it, the next to try is where
//! the line through both crosses the target, or their middle. What a level is worth is told by probes, then by segments that
//! were tried at two levels. Under a cap on the bit rate all segments are searched for one lower quality.
//!
//! Invariants: pure arithmetic, without a look at clocks or threads; no level is tried twice, so passes come to an end; of a
//! segment that cannot have the quality this is told.

use super::law::HeldTo;
use super::steering::{Next, bisected};
use crate::plan::Levels;
use crate::rate::QualityTarget;

/// What a segment, or a stretch of it, came to at a level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measure {
    pub(super) level: f64,
    pub(super) bytes: f64,
    /// In the metric's unit.
    pub(super) quality: f64,
}

/// Segments on their way to a quality.
#[derive(Debug)]
pub(super) struct Steering {
    target: QualityTarget,
    levels: Levels,
    /// What the whole may take; infinite where there is no cap.
    most_bytes: f64,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone)]
struct Segment {
    frames: f64,
    /// What probes foresee of the whole segment; at two levels at most.
    probed: Vec<Measure>,
    /// Each at another level, in the order in which they were tried.
    tried: Vec<Measure>,
    /// The one that is in the stream, by its place among the tried ones.
    in_stream: usize,
}

/// How far the search for a segment's level has come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Search {
    /// There is a level within the tolerance, or none nearer on the side that meets.
    Ended,
    /// The least level misses.
    OutOfReach,
    /// This one is next.
    Next(f64),
}

/// What a level is worth.
#[derive(Debug, Clone, Copy, Default)]
struct Worth {
    levels: f64,
    /// Decibels lost over these levels.
    decibels: f64,
    /// Halvings of the bits over them.
    halvings: f64,
}

impl Steering {
    /// `segments`: frames of each, and what probes foresee of it.
    pub(super) fn new(
        target: QualityTarget,
        levels: Levels,
        most_bytes: f64,
        segments: impl Iterator<Item = (usize, Vec<Measure>)>,
    ) -> Self {
        let segment = |(frames, probed): (usize, Vec<Measure>)| Segment {
            frames: frames as f64,
            probed,
            tried: Vec::new(),
            in_stream: 0,
        };
        Steering { target, levels, most_bytes, segments: segments.map(segment).collect() }
    }

    /// Notes what a segment came to.
    pub(super) fn note(&mut self, segment: usize, measure: Measure) {
        let Segment { tried, in_stream, .. } = &mut self.segments[segment];
        match tried.iter().position(|known| known.level == measure.level) {
            Some(known) => *in_stream = known,
            None => {
                *in_stream = tried.len();
                tried.push(measure);
            }
        }
    }

    /// The level of a segment in pass 1.
    pub(super) fn level_of(&self, segment: usize) -> f64 {
        self.on_grid(self.level_for(segment, self.decibels(self.aim())))
    }

    /// The mean of those of all segments.
    pub(super) fn mean_level(&self) -> f64 {
        let aim = self.decibels(self.aim());
        let levels = (0..self.segments.len()).map(|segment| self.on_grid(self.level_for(segment, aim)));
        levels.sum::<f64>() / self.segments.len().max(1) as f64
    }

    /// Of these segments, puts into the stream what is nearest to the target of all that was tried; says at which levels.
    pub(super) fn settle(&mut self, segments: &[usize]) -> Vec<(usize, f64)> {
        let best = self.best(self.aim());
        for segment in segments {
            self.segments[*segment].in_stream = best[*segment];
        }
        segments.iter().filter_map(|segment| Some((*segment, self.segments[*segment].now()?.level))).collect()
    }

    /// What follows a pass.
    pub(super) fn next(&self) -> Next {
        let aim = self.aim();
        let all = 0..self.segments.len();
        let mut again: Vec<(usize, f64)> = all
            .clone()
            .filter_map(|segment| match self.search(segment, aim) {
                Search::Next(level) => Some((segment, level)),
                Search::Ended | Search::OutOfReach => None,
            })
            .collect();
        let best = self.best(aim);
        if again.is_empty() && self.bytes(&best) > self.most_bytes {
            again = self.lowered(aim, &best);
        }
        let known = all.clone().filter(|segment| best[*segment] != self.segments[*segment].in_stream);
        for segment in known.filter(|segment| again.iter().all(|(other, _)| other != segment)).collect::<Vec<_>>() {
            again.push((segment, self.segments[segment].tried[best[segment]].level));
        }
        again.sort_by_key(|(segment, _)| *segment);
        match again.is_empty() {
            false => Next::Again(again),
            true if self.bytes(&best) <= self.most_bytes
                && all.into_iter().all(|segment| self.is_met(segment, aim)) =>
            {
                Next::Satisfied
            }
            true => Next::Exhausted,
        }
    }

    /// What the segments in the stream are held to.
    pub(super) fn held_to(&self) -> HeldTo {
        let quality = self.aim();
        let missed = (0..self.segments.len()).filter(|segment| !self.is_met(*segment, quality)).collect();
        HeldTo { quality, missed }
    }

    /// The quality that all segments are searched for, in the metric's unit: the target, or less where the cap decides.
    fn aim(&self) -> f64 {
        let wanted = self.decibels(self.target.value);
        if self.most_bytes.is_infinite() || self.foreseen_of_all(wanted, true) <= self.most_bytes {
            return self.target.value;
        }
        let most = self.most_bytes * (1.0 - SPARED);
        // Of less quality there are fewer bytes: from the other end, this falls.
        let lower = bisected((0.0, DEEPEST), most, |less| self.foreseen_of_all(wanted - less, false));
        self.target.metric.of_decibels(wanted - lower)
    }

    /// Whether a segment is as near to this quality as its encoder's levels allow, and not on the side that misses.
    fn is_met(&self, segment: usize, aim: f64) -> bool {
        let Some(now) = self.segments[segment].now() else { return false };
        let is_lowered = aim < self.target.value;
        self.is_near(now, aim) || self.search(segment, aim) == Search::Ended && (is_lowered || now.quality > aim)
    }

    fn search(&self, segment: usize, aim: f64) -> Search {
        let tried = &self.segments[segment].tried;
        let Levels { least, greatest, step, .. } = self.levels;
        if tried.iter().any(|measure| self.is_near(measure, aim)) {
            return Search::Ended;
        }
        let by_level = |one: &&Measure, other: &&Measure| one.level.total_cmp(&other.level);
        let over = tried.iter().filter(|measure| measure.quality > aim).max_by(by_level);
        let is_above = |measure: &&Measure| over.is_none_or(|over| measure.level > over.level);
        let under = tried.iter().filter(|measure| measure.quality <= aim).filter(is_above).min_by(by_level);
        match (over, under) {
            (Some(over), Some(under)) if under.level - over.level < step * 1.5 => Search::Ended,
            (Some(over), Some(under)) => Search::Next(self.between(segment, over, under, aim)),
            (Some(over), None) if over.level >= greatest => Search::Ended,
            (Some(over), None) => Search::Next(self.beyond(segment, aim).max(self.on_grid(over.level + step))),
            (None, Some(under)) if under.level <= least => Search::OutOfReach,
            (None, Some(under)) => Search::Next(self.beyond(segment, aim).min(self.on_grid(under.level - step))),
            (None, None) => Search::Next(self.beyond(segment, aim)),
        }
    }

    /// A level on the grid between two that are more than a step apart.
    fn between(&self, segment: usize, over: &Measure, under: &Measure, aim: f64) -> f64 {
        let (high, low, aim) = (self.decibels(over.quality), self.decibels(under.quality), self.decibels(aim));
        let share = (high - aim) / (high - low).max(1e-9);
        let is_at_an_end = !(AT_AN_END..=1.0 - AT_AN_END).contains(&share);
        let is_stuck = is_at_an_end && self.segments[segment].tried.len() >= PATIENCE;
        let share = if is_stuck || !(0.0..=1.0).contains(&share) { 0.5 } else { share };
        let step = self.levels.step;
        let exact = over.level + share * (under.level - over.level);
        self.on_grid(exact.clamp(over.level + step, under.level - step))
    }

    /// A level on the grid where the quality is foreseen, which no level was tried beyond.
    fn beyond(&self, segment: usize, aim: f64) -> f64 {
        let exact = self.level_for(segment, self.decibels(aim));
        let reach = self.levels.halving * REACH;
        let near = self.segments[segment].nearest(|measure| (measure.quality - aim).abs());
        self.on_grid(near.map_or(exact, |near| exact.clamp(near.level - reach, near.level + reach)))
    }

    /// Those segments that have the most quality to give, and the levels at which they are foreseen to take so much less that
    /// the whole is under the cap.
    fn lowered(&self, aim: f64, best: &[usize]) -> Vec<(usize, f64)> {
        let mut off = self.bytes(best) - self.most_bytes * (1.0 - SPARED);
        let quality = |segment: &usize| self.segments[*segment].tried[best[*segment]].quality;
        let mut order: Vec<usize> = (0..self.segments.len()).collect();
        order.sort_by(|one, other| quality(other).total_cmp(&quality(one)));
        let mut again = Vec::new();
        for segment in order {
            if off <= 0.0 {
                break;
            }
            let Segment { tried, .. } = &self.segments[segment];
            let now = tried[best[segment]];
            let level = self.on_grid(self.level_for(segment, self.decibels(aim)).max(now.level + self.levels.step));
            if level > now.level && tried.iter().all(|known| known.level != level) {
                off -= now.bytes - self.bytes_at(segment, level);
                again.push((segment, level));
            }
        }
        again
    }

    /// For each segment, which of those tried is to be in the stream: within the tolerance the smallest, else the nearest on
    /// the side that meets, else the best. Where they take more than they may, some give way that lose least by it.
    fn best(&self, aim: f64) -> Vec<usize> {
        let mut best: Vec<usize> = self.segments.iter().map(|segment| self.best_of(segment, aim)).collect();
        while self.bytes(&best) > self.most_bytes {
            let smaller = (0..self.segments.len()).flat_map(|segment| self.smaller(segment, best[segment]));
            let Some((segment, tried, _)) = smaller.min_by(|one, other| one.2.total_cmp(&other.2)) else { break };
            best[segment] = tried;
        }
        best
    }

    fn best_of(&self, segment: &Segment, aim: f64) -> usize {
        let rank = |measure: &Measure| match () {
            () if self.is_near(measure, aim) => (0, measure.bytes),
            () if measure.quality > aim => (1, -measure.level),
            () => (2, -measure.quality),
        };
        let ranks = segment.tried.iter().map(rank).enumerate();
        let first = ranks.min_by(|(_, one), (_, other)| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
        first.map_or(0, |(place, _)| place)
    }

    /// What of a segment would take less than the one given, with the decibels that are lost for each byte.
    fn smaller(&self, segment: usize, than: usize) -> Vec<(usize, usize, f64)> {
        let tried = &self.segments[segment].tried;
        let Some(now) = tried.get(than) else { return Vec::new() };
        let less = tried.iter().enumerate().filter(|(_, other)| other.bytes < now.bytes);
        let lost = |other: &Measure| self.decibels(now.quality) - self.decibels(other.quality);
        less.map(|(place, other)| (segment, place, lost(other) / (now.bytes - other.bytes))).collect()
    }

    /// What the whole takes with these of the tried ones.
    fn bytes(&self, of: &[usize]) -> f64 {
        let each = self.segments.iter().zip(of).filter_map(|(segment, place)| segment.tried.get(*place));
        each.map(|measure| measure.bytes).sum()
    }

    /// What the whole will take when all segments have so many decibels; with `staying`, those that are near enough as they
    /// are.
    fn foreseen_of_all(&self, decibels: f64, staying: bool) -> f64 {
        let aim = self.target.metric.of_decibels(decibels);
        let of = |(number, segment): (usize, &Segment)| {
            let best = segment.tried.get(self.best_of(segment, aim));
            let stays = best.filter(|_| staying && self.search(number, aim) == Search::Ended);
            let level = || self.level_for(number, decibels).clamp(self.levels.least, self.levels.greatest);
            stays.map_or_else(|| self.bytes_at(number, level()), |best| best.bytes)
        };
        self.segments.iter().enumerate().map(of).sum()
    }

    /// The level at which a segment is foreseen to have so many decibels.
    fn level_for(&self, segment: usize, decibels: f64) -> f64 {
        let far = |measure: &Measure| (self.decibels(measure.quality) - decibels).abs();
        let known = self.segments[segment].nearest(far).copied();
        let foreseen = self.segments[segment].probed.iter().map(|probed| self.corrected(*probed));
        let near = known.or_else(|| foreseen.min_by(|one, other| far(one).total_cmp(&far(other))));
        let Worth { levels, decibels: lost, .. } = self.worth(segment);
        near.map_or(self.levels.usual, |near| near.level + (self.decibels(near.quality) - decibels) * levels / lost)
    }

    /// Bytes that a segment is foreseen to take at a level.
    fn bytes_at(&self, segment: usize, level: f64) -> f64 {
        let far = |measure: &Measure| (measure.level - level).abs();
        let known = self.segments[segment].nearest(far).copied();
        let foreseen = self.segments[segment].probed.iter().map(|probed| self.corrected(*probed));
        let near = known.or_else(|| foreseen.min_by(|one, other| far(one).total_cmp(&far(other))));
        let Worth { levels, halvings, .. } = self.worth(segment);
        near.map_or(0.0, |near| near.bytes * ((near.level - level) * halvings / levels).exp2())
    }

    /// What a probe foresees, by how whole segments have compared with their probes so far.
    fn corrected(&self, probed: Measure) -> Measure {
        let (mut frames, mut decibels, mut halvings) = (0.0, 0.0, 0.0);
        for (number, segment) in self.segments.iter().enumerate() {
            let Some(now) = segment.now() else { continue };
            let far = |probed: &&Measure| (probed.level - now.level).abs();
            let near = segment.probed.iter().min_by(|one, other| far(one).total_cmp(&far(other)));
            let (Some(near), worth) = (near, self.worth(number)) else { continue };
            let apart = (now.level - near.level) / worth.levels;
            frames += segment.frames;
            let lost = self.decibels(near.quality) - self.decibels(now.quality);
            decibels += segment.frames * (lost - apart * worth.decibels);
            halvings += segment.frames * ((near.bytes / now.bytes).log2() - apart * worth.halvings);
        }
        let mean = |sum: f64| if frames > 0.0 { sum / frames } else { 0.0 };
        let quality = self.target.metric.of_decibels(self.decibels(probed.quality) - mean(decibels));
        Measure { quality, bytes: probed.bytes * (-mean(halvings)).exp2(), ..probed }
    }

    /// What a level is worth: by a segment's own tries, else by those of all, else by the probes, else as is usual.
    fn worth(&self, segment: usize) -> Worth {
        let told = |tried: &[Measure]| self.told(tried);
        let sum = |all: &mut dyn Iterator<Item = Worth>| all.reduce(Worth::plus);
        let usual = Worth { levels: self.levels.halving, decibels: USUAL_DECIBELS, halvings: 1.0 };
        told(&self.segments[segment].tried)
            .or_else(|| sum(&mut self.segments.iter().filter_map(|segment| told(&segment.tried))))
            .or_else(|| sum(&mut self.segments.iter().filter_map(|segment| told(&segment.probed))))
            .map_or(usual, |worth| worth.within(usual))
    }

    /// How far apart the last two of these are; `None` where that says more of noise.
    fn told(&self, measures: &[Measure]) -> Option<Worth> {
        let [.., one, other] = measures else { return None };
        let (one, other) = if one.level < other.level { (one, other) } else { (other, one) };
        let worth = Worth {
            levels: other.level - one.level,
            decibels: self.decibels(one.quality) - self.decibels(other.quality),
            halvings: (one.bytes / other.bytes).log2(),
        };
        (worth.levels >= self.levels.halving * TELLING).then_some(worth)
    }

    fn is_near(&self, measure: &Measure, aim: f64) -> bool {
        (measure.quality - aim).abs() <= self.target.tolerance
    }

    fn decibels(&self, quality: f64) -> f64 {
        self.target.metric.decibels(quality)
    }

    fn on_grid(&self, level: f64) -> f64 {
        let Levels { least, greatest, step, .. } = self.levels;
        // Fewer digits than a float's noise: 23.45, not 23.450000000000003.
        (((level / step).round() * step * 1e6).round() / 1e6).clamp(least, greatest)
    }
}

impl Segment {
    fn now(&self) -> Option<&Measure> {
        self.tried.get(self.in_stream)
    }

    fn nearest(&self, far: impl Fn(&Measure) -> f64) -> Option<&Measure> {
        self.tried.iter().min_by(|one, other| far(one).total_cmp(&far(other)))
    }
}

impl Worth {
    fn plus(self, other: Worth) -> Worth {
        Worth {
            levels: self.levels + other.levels,
            decibels: self.decibels + other.decibels,
            halvings: self.halvings + other.halvings,
        }
    }

    /// For each level not far from what is usual.
    fn within(self, usual: Worth) -> Worth {
        let clamped = |is: f64, usual_is: f64| {
            let usual_is = usual_is * self.levels / usual.levels;
            is.clamp(usual_is / UNUSUAL, usual_is * UNUSUAL)
        };
        let (decibels, halvings) = (clamped(self.decibels, usual.decibels), clamped(self.halvings, usual.halvings));
        Worth { decibels, halvings, ..self }
    }
}

/// Decibels that a halving of the bits takes, about.
const USUAL_DECIBELS: f64 = 2.5;
/// What was measured differs from the usual by this factor at most.
const UNUSUAL: f64 = 4.0;
/// Measures nearer than this, in halvings, say more of noise than of what a level is worth.
const TELLING: f64 = 0.05;
/// How far a search goes at once beyond what was tried, in halvings.
const REACH: f64 = 2.5;
/// Tries from which on a line that crosses this near to an end of its bracket is not believed.
const PATIENCE: usize = 4;
const AT_AN_END: f64 = 0.1;
/// Share of a cap that is left for what is foreseen wrongly.
const SPARED: f64 = 0.005;
/// Decibels by which a cap lowers the quality at most.
const DEEPEST: f64 = 60.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::Metric;
    use crate::rate::BitRate;

    /// A segment that follows a law which nobody tells the steering.
    #[derive(Clone, Copy)]
    struct Law {
        /// Quality in dB and bytes at level 20.
        quality: f64,
        bytes: f64,
        /// Decibels of a level, and by how much that grows with each.
        lost: f64,
        bent: f64,
        /// By how much every other step is worse than its neighbours.
        jagged: f64,
    }

    impl Law {
        fn at(self, level: f64) -> Measure {
            let up = level - 20.0;
            let jag = if (level * 2.0).round() as i64 % 2 == 0 { 0.0 } else { self.jagged };
            let quality = self.quality - up * (self.lost + self.bent * up) - jag;
            Measure { level, bytes: self.bytes * (-up / 6.0).exp2(), quality }
        }
    }

    fn world(count: usize) -> Vec<Law> {
        let law = |n: usize| Law {
            quality: 38.0 + (n * 5 % 7) as f64,
            bytes: 100_000.0 * (1.0 + (n * 3 % 5) as f64),
            lost: 0.35 + 0.1 * (n % 4) as f64,
            bent: 0.004,
            jagged: 0.0,
        };
        (0..count).map(law).collect()
    }

    fn levels(step: f64) -> Levels {
        Levels { least: 1.0, greatest: 51.0, step, usual: 23.0, halving: 6.0 }
    }

    fn target(value: f64) -> QualityTarget {
        QualityTarget { metric: Metric::Psnr, value, tolerance: 0.3, at_most: None }
    }

    /// A session: how many segments each pass had, and how it ended.
    struct Played {
        steering: Steering,
        passes: Vec<usize>,
        last: Next,
    }

    impl Played {
        fn in_stream(&self) -> Vec<Measure> {
            self.steering.segments.iter().map(|segment| *segment.now().unwrap()).collect()
        }

        fn bytes(&self) -> f64 {
            self.in_stream().iter().map(|measure| measure.bytes).sum()
        }
    }

    /// Runs passes over segments; probes are taken to be better by `bias` dB than the whole segment.
    fn played(world: &[Law], target: QualityTarget, levels: Levels, most_bytes: f64, bias: f64) -> Played {
        let biased = |measure: Measure| Measure { quality: measure.quality + bias, ..measure };
        let segments = world.iter().map(|law| (100, vec![biased(law.at(23.0)), biased(law.at(27.0))]));
        let mut steering = Steering::new(target, levels, most_bytes, segments);
        let mut in_pass: Vec<usize> = (0..world.len()).collect();
        for wave in in_pass.chunks(2) {
            let chosen: Vec<f64> = wave.iter().map(|segment| steering.level_of(*segment)).collect();
            wave.iter().zip(chosen).for_each(|(segment, level)| steering.note(*segment, world[*segment].at(level)));
        }
        let mut passes = Vec::new();
        loop {
            passes.push(in_pass.len());
            steering.settle(&in_pass);
            match steering.next() {
                Next::Again(again) if passes.len() < 40 => {
                    for (segment, level) in &again {
                        let tried = &steering.segments[*segment].tried;
                        let is_other = tried[steering.segments[*segment].in_stream].level != *level;
                        assert!(is_other, "{segment}: {level} again");
                        steering.note(*segment, world[*segment].at(*level));
                    }
                    in_pass = again.into_iter().map(|(segment, _)| segment).collect();
                }
                last => return Played { steering, passes, last },
            }
        }
    }

    #[test]
    fn every_segment_comes_within_the_tolerance_in_few_passes() {
        for count in [1, 2, 7, 40] {
            for (value, bias) in [(36.0, 0.0), (40.0, 0.8), (42.0, -1.5)] {
                let played = played(&world(count), target(value), levels(0.01), f64::INFINITY, bias);
                let near = |measure: &Measure| (measure.quality - value).abs() <= 0.3;
                assert!(played.in_stream().iter().all(near), "{count} {value} {bias}: {:?}", played.in_stream());
                assert_eq!(played.last, Next::Satisfied);
                assert!(played.passes.len() <= 4, "{count} {value} {bias}: {:?}", played.passes);
                assert_eq!(played.steering.held_to(), HeldTo { quality: value, missed: Vec::new() });
            }
        }
    }

    #[test]
    fn only_segments_outside_the_tolerance_are_asked_for_again() {
        let mut steering = Steering::new(target(40.0), levels(0.01), f64::INFINITY, (0..3).map(|_| (100, Vec::new())));
        for (segment, quality) in [40.2, 41.0, 39.8].into_iter().enumerate() {
            steering.note(segment, Measure { level: 23.0, bytes: 1000.0, quality });
        }
        let Next::Again(again) = steering.next() else { panic!("nothing to do") };
        assert_eq!(again.iter().map(|(segment, _)| *segment).collect::<Vec<_>>(), [1]);
        assert!(again[0].1 > 23.0, "{again:?}");
    }

    #[test]
    fn of_two_neighbours_on_a_coarse_grid_the_one_that_meets_stays() {
        // Steps of 1.1 dB and more: hardly a level is within 0.3 dB.
        let steep: Vec<Law> = world(7).into_iter().map(|law| Law { lost: law.lost + 0.8, ..law }).collect();
        let played = played(&steep, target(40.0), levels(1.0), f64::INFINITY, 0.5);
        assert_eq!(played.last, Next::Satisfied, "{:?}", played.passes);
        for (law, measure) in steep.iter().zip(played.in_stream()) {
            let next = law.at(measure.level + 1.0).quality;
            assert!(measure.quality >= 39.7 && (measure.quality <= 40.3 || next < 39.7), "{measure:?}, then {next}");
        }
    }

    #[test]
    fn jagged_laws_come_to_an_end_on_the_side_that_meets() {
        let jagged: Vec<Law> = world(9).into_iter().map(|law| Law { jagged: 0.9, ..law }).collect();
        for step in [0.5, 1.0] {
            let played = played(&jagged, target(40.0), levels(step), f64::INFINITY, 0.0);
            assert_eq!(played.last, Next::Satisfied, "{:?}", played.passes);
            assert!(played.in_stream().iter().all(|measure| measure.quality >= 39.7), "{:?}", played.in_stream());
            assert!(played.passes.len() <= 12, "{:?}", played.passes);
        }
    }

    #[test]
    fn a_segment_that_cannot_have_the_quality_is_told() {
        let mut world = world(4);
        world[2] = Law { quality: 30.0, lost: 0.3, bent: 0.0, ..world[2] };
        let played = played(&world, target(42.0), levels(0.5), f64::INFINITY, 0.0);
        assert_eq!((played.last.clone(), played.steering.held_to().missed), (Next::Exhausted, vec![2]));
        assert_eq!(played.in_stream()[2].level, 1.0, "the best that there is stays");
    }

    #[test]
    fn a_segment_that_is_always_better_takes_the_greatest_level() {
        let black = Law { quality: 90.0, bytes: 500.0, lost: 0.0, bent: 0.0, jagged: 0.0 };
        let played = played(&[black; 2], target(40.0), levels(1.0), f64::INFINITY, 0.0);
        assert_eq!((played.last.clone(), played.in_stream()[0].level), (Next::Satisfied, 51.0));
    }

    #[test]
    fn under_a_cap_all_segments_give_the_same() {
        for (count, step) in [(1, 0.01), (6, 0.01), (6, 0.5), (20, 1.0)] {
            let world = world(count);
            let free = played(&world, target(42.0), levels(step), f64::INFINITY, 0.4);
            let most = free.bytes() * 0.6;
            let capped =
                played(&world, QualityTarget { at_most: Some(BitRate(1)), ..target(42.0) }, levels(step), most, 0.4);
            let qualities: Vec<f64> = capped.in_stream().iter().map(|measure| measure.quality).collect();
            assert!(capped.bytes() <= most, "{count} {step}: {} of {most}", capped.bytes());
            assert!(
                capped.bytes() > most * if step > 0.4 { 0.85 } else { 0.95 },
                "{count} {step}: {}",
                capped.bytes() / most
            );
            let aim = capped.steering.held_to().quality;
            assert!(aim < 41.5, "{count} {step}: {aim}");
            let even = 0.3 + step;
            assert!(
                qualities.iter().all(|quality| (quality - aim).abs() <= even),
                "{count} {step}: {aim}: {qualities:?}"
            );
            assert!(capped.passes.len() <= 8, "{count} {step}: {:?}", capped.passes);
        }
    }

    #[test]
    fn a_cap_that_does_not_bind_changes_nothing() {
        let world = world(6);
        let free = played(&world, target(40.0), levels(0.01), f64::INFINITY, 0.4);
        let wide = played(&world, target(40.0), levels(0.01), free.bytes() * 1.2, 0.4);
        assert_eq!(wide.in_stream(), free.in_stream());
        assert_eq!(wide.steering.held_to().quality, 40.0);
    }

    #[test]
    fn a_cap_that_no_level_holds_is_told() {
        let world = world(3);
        let played = played(&world, target(40.0), levels(1.0), 100.0, 0.0);
        assert_eq!(played.last, Next::Exhausted, "{:?}", played.passes);
    }

    #[test]
    fn shares_are_searched_for_by_what_is_missing() {
        assert!((Metric::Vmaf.decibels(90.0) - 10.0).abs() < 1e-9 && Metric::Psnr.decibels(41.0) == 41.0);
        for metric in Metric::ALL {
            let (least, greatest) = metric.range();
            for value in [least, f64::midpoint(least, greatest), greatest] {
                let back = metric.of_decibels(metric.decibels(value));
                assert!((back - value).abs() < 1e-6, "{metric}: {value} {back}");
            }
        }
    }
}
