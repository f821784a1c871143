//! Times: from a source's exact timestamps to the regular grid that encoders see, and back for the container.
//!
//! Encoders get one tick per frame period, as from the ffmpeg CLI: x264 writes the time base into its headers, libvpx and
//! libaom before FFmpeg 6 take a tick for a frame's length. A source with a constant rate keeps the grid in its output, so
//! the milliseconds of Matroska become exact again. A source without one gets its own timestamps back, and no frame is
//! dropped or doubled either way.
//!
//! Invariant: grid positions rise strictly; a packet's decoding time is never after its presentation time.

use std::collections::{BTreeMap, VecDeque};

use crate::media::{Rational, VideoInfo};

/// How the frames of one source are timed.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Timing {
    /// Frames per second of the grid.
    pub rate: Rational,
    /// Whether the container tells of a constant rate. What the frames really do is seen when they come.
    pub regular: bool,
}

impl Timing {
    /// Decides from what the container says: the nominal rate where it is plausible, else the average. Where neither is a
    /// frame rate, the exact times are kept, and rate control is told the commonest: 25 frames per second.
    #[must_use]
    pub fn of(video: &VideoInfo) -> Self {
        Timing::told(video).unwrap_or(Timing { rate: Rational::new(25, 1), regular: false })
    }

    /// The same; `None` where the container tells nothing that is a frame rate.
    pub(crate) fn told(video: &VideoInfo) -> Option<Self> {
        let nominal = video.frame_rate;
        let is_rate = |rate: &Rational| rate.num > 0 && rate.den > 0;
        let plausible = is_rate(&nominal) && nominal.value() <= FASTEST;
        let average = video.average_rate.filter(is_rate);
        let near = |average: Rational| (nominal.value() / average.value() - 1.0).abs() < NEAR;
        // A still picture of one tick has such a rate too.
        let counted = video.frames.is_none_or(|frames| frames >= COUNTED);
        if is_rate(&nominal) && nominal.value() <= FASTEST_AGREED && counted && average.is_some_and(near) {
            return Some(Timing { rate: nominal, regular: true });
        }
        match average.filter(|average| average.value() <= FASTEST) {
            Some(average) if !plausible || nominal.value() > average.value() * FAR => {
                Some(Timing { rate: simple(average), regular: false })
            }
            Some(average) => Some(Timing { rate: nominal, regular: near(average) }),
            None => plausible.then_some(Timing { rate: nominal, regular: true }),
        }
    }
}

/// Gives each frame its place on the grid and its exact time, both counted from the start of the output.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Seconds per tick of the exact times.
    time_base: Rational,
    rate: Rational,
    /// Exact ticks at which the output begins: 0, and elsewhere behind a break that was closed.
    start: i64,
    last: Option<Moment>,
}

/// One frame's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Moment {
    /// Position on the grid, in frame periods from the start of the output.
    pub grid: i64,
    /// Exact time, in ticks of the source's time base from the start of the output.
    pub exact: i64,
}

impl Clock {
    /// A clock for timestamps of `time_base` seconds a tick, counted from the start of the output.
    #[must_use]
    pub fn new(time_base: Rational, rate: Rational) -> Self {
        Clock { time_base, rate, start: 0, last: None }
    }

    /// The next frame's times. A missing timestamp follows the frame before; one that jumps back by more than a second is
    /// a break in the source's time line, which is closed.
    pub fn next(&mut self, pts: Option<i64>) -> Moment {
        let period = (self.rate.inverse().value() / self.time_base.value()).round().max(1.0) as i64;
        let second = (1.0 / self.time_base.value()).ceil() as i64;
        let following = self.last.map_or(0, |last| last.exact + period);
        let exact = match (pts.map(|pts| pts - self.start), self.last) {
            (None, _) => following,
            (Some(exact), Some(last)) if exact < last.exact - second => {
                self.start -= following - exact;
                following
            }
            (Some(exact), Some(last)) => exact.max(last.exact + 1),
            (Some(exact), None) => exact,
        };
        let nearest = (exact as f64 * self.time_base.value() * self.rate.value()).round() as i64;
        let moment = Moment { grid: self.last.map_or(nearest, |last| nearest.max(last.grid + 1)), exact };
        self.last = Some(moment);
        moment
    }
}

/// The times that the container gets: the grid's, where a frame is on it as nearly as the source's ticks can tell, else the
/// source's own. So the milliseconds of Matroska become exact again, and what is uneven stays as it was.
#[derive(Debug, Clone, Copy)]
pub struct OutputTimes {
    /// Seconds per tick of the output: fine enough for both.
    pub time_base: Rational,
    per_period: i64,
    per_exact: i64,
    last: Option<i64>,
}

impl OutputTimes {
    /// For exact times of `time_base` seconds a tick and a grid of `rate`; `None` where one time base cannot hold both.
    #[must_use]
    pub fn new(time_base: Rational, rate: Rational) -> Option<Self> {
        let (period, tick) = (simplest(rate.inverse())?, simplest(time_base)?);
        let fine = lcm(period.den.into(), tick.den.into());
        let per = |unit: Rational| i64::from(unit.num) * (fine / i64::from(unit.den));
        let den = i32::try_from(fine).ok().filter(|den| *den <= FINEST)?;
        let (per_period, per_exact) = (per(period), per(tick));
        Some(OutputTimes { time_base: Rational::new(1, den), per_period, per_exact, last: None })
    }

    /// Whether a frame is on the grid.
    #[must_use]
    pub fn is_on_grid(&self, moment: Moment) -> bool {
        (moment.grid * self.per_period - moment.exact * self.per_exact).abs() <= self.per_exact
    }

    /// A frame's time in the output, in ticks of its time base; times rise strictly.
    pub fn of(&mut self, moment: Moment) -> i64 {
        let time = if self.is_on_grid(moment) { moment.grid * self.per_period } else { moment.exact * self.per_exact };
        let time = self.last.map_or(time, |last| time.max(last + 1));
        self.last = Some(time);
        time
    }

    /// Ticks of a frame period.
    #[must_use]
    pub fn period(&self) -> i64 {
        self.per_period
    }
}

fn simplest(rational: Rational) -> Option<Rational> {
    let (num, den) = (i64::from(rational.num), i64::from(rational.den));
    let divisor = gcd(num, den);
    (num > 0 && den > 0).then(|| Rational::new((num / divisor) as i32, (den / divisor) as i32))
}

fn gcd(one: i64, other: i64) -> i64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

fn lcm(one: i64, other: i64) -> i64 {
    one / gcd(one, other) * other
}

/// Gives packets their times in the output: what an encoder returns is on the grid, in coding order.
#[derive(Debug, Default)]
pub struct Retime {
    /// Time by grid position, and whether its packet has come: from the first frame on whose packet has not. Those that have
    /// are kept behind it, for a frame lasts until the next one shown, which may be coded before it.
    frames: BTreeMap<i64, (i64, bool)>,
    /// Times in presentation order, for decoding times; the front belongs to the next packet after the delay.
    order: VecDeque<i64>,
    delay: Option<i64>,
    packets: i64,
    first: i64,
    period: i64,
}

/// A packet's times in ticks of the output's time base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketTimes {
    /// Presentation.
    pub pts: i64,
    /// Decoding.
    pub dts: i64,
    /// Length.
    pub duration: i64,
}

impl Retime {
    /// For frames of about `period` ticks.
    #[must_use]
    pub fn new(period: i64) -> Self {
        Retime { period: period.max(1), ..Retime::default() }
    }

    /// Notes a frame that the encoder was given: its place on the grid, and its time in the output.
    pub fn sent(&mut self, grid: i64, time: i64) {
        if self.order.is_empty() && self.packets == 0 && self.frames.is_empty() {
            self.first = time;
        }
        self.frames.insert(grid, (time, false));
        self.order.push_back(time);
    }

    /// The times of the packet that came with these grid times; `None` for one that no frame was sent for.
    pub fn received(&mut self, pts: i64, dts: i64) -> Option<PacketTimes> {
        let delay = match self.delay {
            Some(delay) => delay,
            None => *self.delay.insert(self.reordering(pts, dts)),
        };
        let (exact, came) = self.frames.get_mut(&pts).filter(|(_, came)| !came)?;
        *came = true;
        let exact = *exact;
        let following = self.frames.range(pts + 1..).next().map(|(_, (next, _))| *next);
        while self.frames.first_key_value().is_some_and(|(_, (_, came))| *came) {
            self.frames.pop_first();
        }
        let duration = following.map_or(self.period, |next| (next - exact).clamp(1, self.period * LONGEST));
        let dts = if self.packets < delay {
            self.first - (delay - self.packets) * self.period
        } else {
            self.order.pop_front().unwrap_or(exact).min(exact)
        };
        self.packets += 1;
        Some(PacketTimes { pts: exact, dts, duration })
    }

    /// How many frames the encoder reorders over, by its first packet, which is the first frame. x264 and x265 put its
    /// decoding time as far before it as the n-th frame lies behind it, which is further than n periods where there is a gap
    /// between them; NVENC and QSV by n periods.
    fn reordering(&self, pts: i64, dts: i64) -> i64 {
        let earlier = pts.saturating_sub(dts).max(0);
        let mirrored = pts.saturating_add(earlier);
        match self.frames.contains_key(&mirrored) {
            true => self.frames.range(pts..mirrored).count() as i64,
            false => earlier,
        }
    }
}

/// An average rate like 57600000/7977121 as a small fraction that encoders' headers can hold.
fn simple(rate: Rational) -> Rational {
    Rational::new((rate.value() * 1000.0).round().clamp(1.0, 1e9) as i32, 1000)
}

/// mp4 keeps time bases in 32 bits and multiplies small ones.
const FINEST: i32 = 100_000_000;
/// Above this a nominal rate is a time base, not a frame rate, unless the average agrees.
const FASTEST: f64 = 480.0;
/// Above this both are: no camera's file is played that fast.
const FASTEST_AGREED: f64 = 10_000.0;
/// From so many frames on an average says something.
const COUNTED: u64 = 24;
/// A nominal rate this many times the average is a time base, a field rate or the rate of the shortest gap.
const FAR: f64 = 1.5;
/// Rates this near are one: the last frame's length, a millisecond's rounding.
const NEAR: f64 = 0.01;
/// A gap longer than this many periods is a pause of the source, not a frame shown that long.
pub(crate) const LONGEST: i64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn video(frame_rate: (i32, i32), average: Option<(i32, i32)>) -> VideoInfo {
        VideoInfo {
            index: 0,
            width: 2,
            height: 2,
            pixel_format: "yuv420p".to_owned(),
            frame_rate: Rational::new(frame_rate.0, frame_rate.1),
            average_rate: average.map(|(num, den)| Rational::new(num, den)),
            time_base: Rational::new(1, 1000),
            sample_aspect_ratio: None,
            rotation: 0,
            hdr: false,
            frames: None,
        }
    }

    #[test]
    fn a_frame_lasts_until_the_next_one_shown_whatever_the_coding_order() {
        let mut retime = Retime::new(10);
        (0..5).for_each(|frame| retime.sent(frame, frame * 10));
        // I P B b b: the pyramid of x264.
        let coded = [(0, -2), (4, -1), (2, 0), (1, 1), (3, 2)];
        let lengths: Vec<i64> = coded.iter().map(|(pts, dts)| retime.received(*pts, *dts).unwrap().duration).collect();
        assert_eq!(lengths, [10; 5]);
        assert_eq!(retime.received(1, 3), None, "each packet comes once");
    }

    #[test]
    fn the_milliseconds_of_matroska_fall_on_the_grid() {
        let rate = Rational::new(24000, 1001);
        let mut clock = Clock::new(Rational::new(1, 1000), rate);
        let grid: Vec<i64> = [0, 42, 83, 125, 167, 209].iter().map(|ms| clock.next(Some(*ms)).grid).collect();
        assert_eq!(grid, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_gap_is_kept_and_a_burst_never_drops_a_frame() {
        let mut clock = Clock::new(Rational::new(1, 1000), Rational::new(10, 1));
        let grid: Vec<i64> = [0, 1, 2, 3, 1000].iter().map(|ms| clock.next(Some(*ms)).grid).collect();
        assert_eq!(grid, [0, 1, 2, 3, 10]);
    }

    #[test]
    fn a_missing_or_backward_timestamp_follows_the_frame_before() {
        let mut clock = Clock::new(Rational::new(1, 1000), Rational::new(10, 1));
        let stamps = [Some(0), None, Some(200), Some(-4000), Some(-3900)];
        let moments: Vec<_> = stamps.iter().map(|pts| clock.next(*pts)).collect();
        let exact: Vec<i64> = moments.iter().map(|moment| moment.exact).collect();
        assert_eq!(exact, [0, 100, 200, 300, 400], "the jump back closes up");
        assert!(moments.windows(2).all(|pair| pair[0].grid < pair[1].grid));
    }

    #[test]
    fn a_time_base_is_not_taken_for_a_frame_rate() {
        let screen = Timing::of(&video((57600, 1), Some((57_600_000, 7_977_121))));
        assert_eq!((screen.rate, screen.regular), (Rational::new(7221, 1000), false));
        let film = Timing::of(&video((24000, 1001), Some((24000, 1001))));
        assert_eq!((film.rate, film.regular), (Rational::new(24000, 1001), true));
        let still = VideoInfo { frames: Some(1), ..video((600, 1), Some((600, 1))) };
        for nothing in [still, video((90_000, 1), Some((90_000, 1))), video((600, 1), None)] {
            assert_eq!((Timing::told(&nothing), Timing::of(&nothing).rate), (None, Rational::new(25, 1)));
        }
        let phone = Timing::of(&video((30, 1), Some((2752, 100))));
        assert_eq!((phone.rate, phone.regular), (Rational::new(30, 1), false));
    }

    #[test]
    fn a_fast_rate_that_the_average_bears_out_is_one() {
        let slow_motion = VideoInfo { frames: Some(960), ..video((960, 1), Some((960, 1))) };
        assert_eq!(Timing::of(&slow_motion), Timing { rate: Rational::new(960, 1), regular: true });
    }

    #[test]
    fn the_output_has_the_grid_where_the_source_is_on_it_and_else_the_source() {
        // Matroska's milliseconds at 23.976 fps, then a frame 20 ms late, which the grid does not have.
        let rate = Rational::new(24000, 1001);
        let (mut clock, mut times) = (Clock::new(Rational::new(1, 1000), rate), None);
        let times = times.get_or_insert_with(|| OutputTimes::new(Rational::new(1, 1000), rate).unwrap());
        assert_eq!(times.time_base, Rational::new(1, 24000));
        let out: Vec<i64> = [0, 42, 83, 145, 167].iter().map(|ms| times.of(clock.next(Some(*ms)))).collect();
        assert_eq!(out, [0, 1001, 2002, 145 * 24, 4 * 1001]);
    }

    #[test]
    fn reordered_packets_get_their_exact_times_and_rising_decoding_times() {
        // Frames at uneven times; coded I P B B with two frames of reordering, as x264 does.
        let exact = [0, 7, 20, 31, 55];
        let mut retime = Retime::new(10);
        for (grid, exact) in exact.iter().enumerate() {
            retime.sent(grid as i64, *exact);
        }
        let coded = [(0, -2), (4, -1), (2, 0), (1, 1), (3, 2)];
        let times: Vec<_> = coded.iter().map(|(pts, dts)| retime.received(*pts, *dts).unwrap()).collect();
        assert_eq!(times.iter().map(|t| t.pts).collect::<Vec<_>>(), [0, 55, 20, 7, 31]);
        assert_eq!(times.iter().map(|t| t.dts).collect::<Vec<_>>(), [-20, -10, 0, 7, 20]);
        assert!(times.iter().all(|t| t.dts <= t.pts));
    }

    #[test]
    fn a_gap_among_the_first_frames_moves_no_decoding_time() {
        // Ten seconds of nothing behind the first frame; x264 mirrors the third, NVENC counts two periods.
        for first_dts in [-251, -2] {
            let mut retime = Retime::new(10);
            [0, 250, 251, 252, 253].iter().for_each(|grid| retime.sent(*grid, grid * 10));
            let coded = [(0, first_dts), (252, -250), (251, 0), (250, 250), (253, 251)];
            let times: Vec<_> = coded.iter().map(|(pts, dts)| retime.received(*pts, *dts).unwrap()).collect();
            assert_eq!(times.iter().map(|t| t.dts).collect::<Vec<_>>(), [-20, -10, 0, 2500, 2510], "{first_dts}");
            assert!(times.iter().all(|t| t.dts <= t.pts), "{first_dts}");
        }
    }

    proptest::proptest! {
        #[test]
        fn grid_positions_and_exact_times_rise_strictly(stamps in proptest::collection::vec(proptest::option::of(-5000i64..90_000), 1..60)) {
            let mut clock = Clock::new(Rational::new(1, 1000), Rational::new(30000, 1001));
            let moments: Vec<_> = stamps.into_iter().map(|pts| clock.next(pts)).collect();
            for pair in moments.windows(2) {
                proptest::prop_assert!(pair[0].grid < pair[1].grid && pair[0].exact < pair[1].exact);
            }
        }
    }
}
