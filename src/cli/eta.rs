//! How far a job is and how long it still takes, over all runs: pure arithmetic over what the engine tells.
//!
//! Invariant: a run weighs its frames times what one of them costs; costs are learnt while the run goes on, and a run that
//! has not begun is assumed to cost [`LATER_COSTS`] times the first.

/// The progress of every run of a job.
#[derive(Debug, Clone)]
pub(crate) struct Eta {
    runs: Vec<Run>,
    current: usize,
}

/// One run: every rendition that has a pass left takes part, side by side.
#[derive(Debug, Clone, Default)]
struct Run {
    lanes: Vec<(usize, Lane)>,
    done: bool,
}

/// One rendition's pass.
#[derive(Debug, Clone, Copy, Default)]
struct Lane {
    frames: u64,
    total: Option<u64>,
    seconds: f64,
}

impl Eta {
    /// Before the first of `runs` runs; `frames` is the container's word on how many frames each goes through.
    pub(crate) fn new(runs: u8, frames: Option<u64>) -> Self {
        let lane = Lane { total: frames, ..Lane::default() };
        // Until a rendition reports, a nameless one stands for all of them.
        let run = Run { lanes: vec![(usize::MAX, lane)], done: false };
        Eta { runs: vec![run; usize::from(runs.max(1))], current: 0 }
    }

    /// A run begins, counted from 1; all before it are done. There may be more than was planned.
    pub(crate) fn begin(&mut self, run: u8) {
        let total = self.runs.iter().find_map(Run::total);
        let lane = Lane { total, ..Lane::default() };
        self.runs.resize(self.runs.len().max(usize::from(run)), Run { lanes: vec![(usize::MAX, lane)], done: false });
        self.current = usize::from(run).saturating_sub(1).min(self.runs.len() - 1);
        self.runs.iter_mut().take(self.current).for_each(|earlier| earlier.done = true);
    }

    /// A rendition's encoder has been given `frames` frames, `seconds` after its pass began.
    pub(crate) fn advance(&mut self, rendition: usize, frames: u64, total: Option<u64>, seconds: f64) {
        let lane = Lane { frames, total: total.map(|total| total.max(frames)), seconds };
        let lanes = &mut self.runs[self.current].lanes;
        lanes.retain(|(index, _)| *index != usize::MAX && *index != rendition);
        lanes.push((rendition, lane));
        // Later runs see the same frames; only now is their number known exactly.
        for later in self.runs.iter_mut().skip(self.current + 1) {
            later.lanes.iter_mut().for_each(|(_, later)| later.total = lane.total);
        }
    }

    /// The share of the whole job that is done, from 0 to 1; `None` while the number of frames is unknown.
    pub(crate) fn share(&self) -> Option<f64> {
        let (done, whole) = self.work()?;
        (whole > 0.0).then(|| (done / whole).clamp(0.0, 1.0))
    }

    /// Seconds that the job still takes; `None` while it is unknown how many frames there are or what one costs.
    pub(crate) fn seconds_left(&self) -> Option<f64> {
        self.first_cost()?;
        let (done, whole) = self.work()?;
        Some((whole - done).max(0.0))
    }

    /// What is done and what there is in all, in seconds; in units of the first run's cost while that is unknown.
    fn work(&self) -> Option<(f64, f64)> {
        let mut sums = (0.0, 0.0);
        for (number, run) in self.runs.iter().enumerate() {
            let cost = self.cost(number);
            let total = run.total()? as f64;
            let frames = if run.done { total } else { run.frames() as f64 };
            sums = (sums.0 + frames * cost, sums.1 + total * cost);
        }
        Some(sums)
    }

    /// Seconds per frame of a run: what was measured, held against what was expected while little is measured. Encoders
    /// swallow their first frames at once, to look ahead, so a beginning is no measure.
    fn cost(&self, run: usize) -> f64 {
        let first = self.first_cost().unwrap_or(1.0);
        if run == 0 {
            return first;
        }
        let (frames, seconds) = self.runs[run].measured();
        (first * LATER_COSTS * EXPECTED_FRAMES + seconds) / (EXPECTED_FRAMES + frames)
    }

    fn first_cost(&self) -> Option<f64> {
        let (frames, seconds) = self.runs[0].measured();
        (frames >= 1.0 && seconds > 0.0).then(|| seconds / frames)
    }
}

impl Run {
    /// The slowest rendition's frames: the others wait for it, since they share one stream of frames.
    fn frames(&self) -> u64 {
        self.lanes.iter().map(|(_, lane)| lane.frames).min().unwrap_or(0)
    }

    /// Frames of the whole run; behind its end, as many as there were.
    fn total(&self) -> Option<u64> {
        let lanes = self.lanes.iter().map(|(_, lane)| lane);
        if self.done { lanes.map(|lane| lane.frames).max() } else { lanes.filter_map(|lane| lane.total).max() }
    }

    /// Frames and seconds of the rendition that costs most.
    fn measured(&self) -> (f64, f64) {
        let lanes = self.lanes.iter().map(|(_, lane)| (lane.frames as f64, lane.seconds));
        lanes.max_by(|one, other| (one.1 * other.0).total_cmp(&(other.1 * one.0))).unwrap_or((0.0, 0.0))
    }
}

/// What a frame of a later run is assumed to cost before it has begun, in frames of the first: first passes are lighter
/// (x264 and x265 turn their settings down, libvpx only looks), and the first run also pays for decoding.
const LATER_COSTS: f64 = 2.0;

/// How many frames' worth of belief that assumption has.
const EXPECTED_FRAMES: f64 = 60.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn near(is: Option<f64>, should: f64) {
        let is = is.unwrap();
        assert!((is - should).abs() < 1e-6 * should.max(1.0), "{is} is not {should}");
    }

    #[test]
    fn a_single_run_goes_by_its_frames() {
        let mut eta = Eta::new(1, Some(1000));
        near(eta.share(), 0.0);
        assert_eq!(eta.seconds_left(), None, "nothing is measured yet");
        eta.begin(1);
        eta.advance(0, 250, Some(1000), 5.0);
        near(eta.share(), 0.25);
        near(eta.seconds_left(), 15.0);
    }

    #[test]
    fn a_second_run_is_expected_to_cost_twice_the_first() {
        let mut eta = Eta::new(2, Some(1000));
        eta.begin(1);
        eta.advance(0, 500, Some(1000), 5.0);
        // 500 frames at 0.01 s are left of pass 1, and 1000 at 0.02 s of pass 2.
        near(eta.seconds_left(), 25.0);
        near(eta.share(), 5.0 / 30.0);
    }

    #[test]
    fn what_the_second_run_really_costs_is_learnt() {
        let mut eta = Eta::new(2, Some(10_000));
        eta.begin(1);
        eta.advance(0, 10_000, Some(10_000), 100.0);
        eta.begin(2);
        let expected = eta.seconds_left().unwrap();
        eta.advance(0, 5000, Some(10_000), 250.0);
        let learnt = eta.seconds_left().unwrap();
        near(Some(expected), 200.0);
        assert!((245.0..250.0).contains(&learnt), "measured 0.05 s a frame, so nearly 250 s: {learnt}");
    }

    #[test]
    fn a_few_quick_frames_do_not_overturn_the_expectation() {
        let mut eta = Eta::new(2, Some(1000));
        eta.begin(1);
        eta.advance(0, 1000, Some(1000), 10.0);
        eta.begin(2);
        eta.advance(0, 40, Some(1000), 0.001);
        assert!(eta.seconds_left().unwrap() > 10.0, "40 frames into the look-ahead say little");
    }

    #[test]
    fn renditions_side_by_side_go_as_the_slowest() {
        let mut eta = Eta::new(1, Some(100));
        eta.begin(1);
        eta.advance(0, 80, Some(100), 4.0);
        eta.advance(1, 50, Some(100), 4.0);
        near(eta.share(), 0.5);
        near(eta.seconds_left(), 4.0);
    }

    #[test]
    fn more_frames_than_the_container_said_are_no_more_than_all() {
        let mut eta = Eta::new(1, Some(100));
        eta.begin(1);
        eta.advance(0, 120, Some(100), 1.0);
        near(eta.share(), 1.0);
        near(eta.seconds_left(), 0.0);
    }

    #[test]
    fn an_unknown_length_has_neither_share_nor_time() {
        let mut eta = Eta::new(2, None);
        eta.begin(1);
        eta.advance(0, 120, None, 1.0);
        assert_eq!((eta.share(), eta.seconds_left()), (None, None));
        eta.begin(2);
        eta.advance(0, 10, Some(130), 1.0);
        assert!(eta.share().is_some(), "pass 2 knows the exact number");
    }
}
