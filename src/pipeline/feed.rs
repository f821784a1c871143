//! The stage that hands out frames: decoded in the first run, from the cache and decoded again in later ones.
//!
//! Invariant: a later run hands out exactly the frames of the list, or ends with [`Error::PassesDiffer`].

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::av::frame::Frame;
use crate::cache::{FrameCache, HEADROOM_BYTES, has_room};
use crate::error::Error;
use crate::event::{Cancel, Event};
use crate::frames::{FrameList, FrameSource, Listed};
use crate::pipeline::cut::CutFinder;
use crate::pipeline::watch::Pulse;
use crate::pipeline::{FRAMES_IN_FLIGHT, send_timed};
use crate::stats::artefact::Artefact;
use crate::timing::{Clock, Moment};

/// What an encode stage is fed. A queue that closes without `End` was cut off.
pub(crate) enum Fed {
    Frame(Frame, Moment),
    End,
}

/// What the stage did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Feeding {
    /// Frames handed out.
    pub(crate) frames: u64,
    /// Of these, frames that came from the cache.
    pub(crate) from_cache: u64,
    /// Time spent waiting for encoders.
    pub(crate) blocked: Duration,
    /// Time spent making frames: reading, decoding, filtering, hashing.
    pub(crate) making: Duration,
}

/// Frames of one branch as they were when statistics were made of them in an earlier job.
pub(crate) struct Analysed {
    /// `None`: of all branches together.
    pub(crate) branch: Option<usize>,
    /// Whether exact times can be compared: they are in the same ticks.
    pub(crate) same_ticks: bool,
    pub(crate) artefact: Artefact,
}

pub(crate) struct FeedStage<'r> {
    pub(crate) source: &'r mut dyn FrameSource,
    pub(crate) cache: &'r mut FrameCache,
    pub(crate) list: &'r mut FrameList,
    /// One for each lane.
    pub(crate) outlets: Vec<Outlet>,
    /// For each branch, whether a later run needs its frames.
    pub(crate) keep: &'r [bool],
    /// What was analysed in earlier jobs: the source must be the same frames.
    pub(crate) analysed: &'r [Analysed],
    /// The input's name, where its damage ends the run.
    pub(crate) refuses_damage: Option<&'r Path>,
    /// Notes in the list where scenes begin and where the source has key frames, where somebody asks.
    pub(crate) cuts: Option<CutFinder>,
    pub(crate) cancel: &'r Cancel,
    pub(crate) events: Sender<Event>,
    pub(crate) pulse: Arc<Pulse>,
}

/// Where frames go: to one encoder.
pub(crate) struct Outlet {
    /// The branch it wants.
    pub(crate) branch: usize,
    /// Distance in frames of those that are marked as key frames.
    pub(crate) forced_keyframes: Option<u32>,
    pub(crate) frames: Sender<Fed>,
}

impl FeedStage<'_> {
    pub(crate) fn run(mut self) -> Result<Feeding, Error> {
        let mut feeding = Feeding::default();
        if self.list.is_empty() {
            self.first(&mut feeding)?;
        } else {
            self.again(&mut feeding)?;
        }
        // Before anybody is told of the end, or the output would be finished.
        self.refuse_damage()?;
        self.source.unchanged()?;
        for outlet in &self.outlets {
            send_timed(&outlet.frames, Fed::End, &self.pulse, &mut feeding.blocked)?;
        }
        Ok(feeding)
    }

    /// Decodes, lists and keeps every frame.
    fn first(&mut self, feeding: &mut Feeding) -> Result<(), Error> {
        let mut clock = None;
        while let Some(frames) = self.made(feeding, |stage| stage.source.next())? {
            let clock = clock.get_or_insert_with(|| Clock::new(self.source.time_base(), self.source.frame_rate()));
            let pts = frames.first().and_then(Frame::pts);
            let hashes = self.made(feeding, |stage| hashes(&frames, stage.list.len()))?;
            let listed = Listed { pts, moment: clock.next(pts), hash: of_all(&hashes) };
            if let (Some(cuts), Some(frame)) = (&mut self.cuts, frames.first()) {
                if cuts.is_cut(frame) {
                    self.list.note_cut();
                }
                if frame.is_key() {
                    self.list.note_key();
                }
            }
            self.hold_to_analysis(self.list.len(), listed.moment, &hashes)?;
            self.list.push(listed);
            self.cache.note_cost(feeding.making.as_secs_f64() / self.list.len() as f64);
            // With nobody to come after, nothing is kept.
            if self.keep.contains(&true) && self.cache.keep(&frames, self.keep, IN_FLIGHT)? {
                self.tell_cache();
            }
            self.hand_out(&frames, listed.moment, feeding)?;
        }
        let frames = self.list.len();
        self.analysed.iter().try_for_each(|analysed| analysed.artefact.ends_with(frames))
    }

    /// Before an encoder sees a frame that its statistics do not know: libaom would end the process in the end.
    fn hold_to_analysis(&self, index: usize, moment: Moment, hashes: &[u64]) -> Result<(), Error> {
        self.analysed.iter().try_for_each(|analysed| {
            let hash = analysed.branch.map_or_else(|| of_all(hashes), |branch| hashes[branch]);
            analysed.artefact.has(index, moment, hash, analysed.same_ticks)
        })
    }

    /// Hands out what the cache keeps, then decodes the rest again and holds it to the list.
    fn again(&mut self, feeding: &mut Feeding) -> Result<(), Error> {
        let kept = self.cache.len();
        for index in 0..kept {
            let frames = self.cache.frames(index, !self.keep.contains(&true))?;
            self.hand_out(&frames, self.list.entries()[index].moment, feeding)?;
            feeding.from_cache += 1;
        }
        if kept == self.list.len() {
            return Ok(());
        }
        let mut at = None;
        for index in kept..self.list.len() {
            let frames = self.made(feeding, |stage| stage.again_at(&mut at).frame(index))?;
            self.hand_out(&frames, self.list.entries()[index].moment, feeding)?;
        }
        match self.made(feeding, |stage| stage.source.next())? {
            None => Ok(()),
            Some(_) => Err(Error::PassesDiffer { why: format!("there are more than {} now", self.list.len()) }),
        }
    }

    fn again_at<'a>(&'a mut self, at: &'a mut Option<usize>) -> Again<'a> {
        Again { source: self.source, list: self.list, at, cancel: self.cancel, pulse: &self.pulse }
    }

    /// Ends the run at the first damage: an hour of encoding for a file that is not kept helps nobody.
    fn refuse_damage(&self) -> Result<(), Error> {
        let Some(path) = self.refuses_damage else { return Ok(()) };
        let damage = self.source.damage();
        if !damage.any() {
            return Ok(());
        }
        let frames = self.list.len();
        // Decoders say the same of bad data and of no memory.
        if !has_room(HEADROOM_BYTES) {
            return Err(Error::Exhausted { doing: format!("decoding, after {frames} frames: {damage}") });
        }
        Err(Error::Damaged { path: path.to_owned(), what: format!("{damage}, seen after {frames} frames") })
    }

    fn hand_out(&mut self, frames: &[Frame], moment: Moment, feeding: &mut Feeding) -> Result<(), Error> {
        self.stop_if_asked()?;
        self.refuse_damage()?;
        for outlet in &self.outlets {
            let forced = outlet.forced_keyframes.is_some_and(|frames| feeding.frames.is_multiple_of(u64::from(frames)));
            let mut frame = frames[outlet.branch].share().map_err(Error::no_memory("a frame for an encoder"))?;
            frame.set_pts(moment.grid);
            frame.set_duration(1);
            frame.set_picture_type(forced);
            send_timed(&outlet.frames, Fed::Frame(frame, moment), &self.pulse, &mut feeding.blocked)?;
        }
        feeding.frames += 1;
        Ok(())
    }

    fn stop_if_asked(&self) -> Result<(), Error> {
        if self.cancel.is_stopped() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn made<T>(&mut self, feeding: &mut Feeding, make: impl FnOnce(&mut Self) -> T) -> T {
        let began = Instant::now();
        let made = make(self);
        self.pulse.beat();
        feeding.making += began.elapsed();
        made
    }

    fn tell_cache(&self) {
        if self.cache.len().is_multiple_of(CACHE_EVENT_EVERY) {
            let cache = Event::Cache {
                bytes: self.cache.held_bytes(),
                budget: self.cache.plan().budget.0,
                frames: self.cache.len() as u64,
            };
            let _ = self.events.try_send(cache);
        }
    }
}

/// Frames that are decoded again, and held to the list.
pub(crate) struct Again<'a> {
    pub(crate) source: &'a mut dyn FrameSource,
    pub(crate) list: &'a FrameList,
    /// The frame that comes next; `None` where the source may be anywhere.
    pub(crate) at: &'a mut Option<usize>,
    pub(crate) cancel: &'a Cancel,
    pub(crate) pulse: &'a Pulse,
}

impl Again<'_> {
    /// The frames of an index, from where the source is, or from where a seek leads.
    ///
    /// # Errors
    /// [`Error::PassesDiffer`] where they are not those of the list, [`Error::Interrupted`], or what the source meets.
    pub(crate) fn frame(&mut self, index: usize) -> Result<Vec<Frame>, Error> {
        if self.at.take() != Some(index)
            && let Some(frames) = self.go_to(index)?
        {
            *self.at = Some(index + 1);
            return Ok(frames);
        }
        let differs = |why| Err(Error::PassesDiffer { why });
        let listed = self.list.entries()[index];
        let Some(frames) = self.next()? else {
            return differs(format!("there are only {index} now, of {}", self.list.len()));
        };
        let pts = frames.first().and_then(Frame::pts);
        if pts != listed.pts {
            return differs(format!("frame {index} has the timestamp {pts:?} now, and had {:?}", listed.pts));
        }
        if hash(&frames, index)? != listed.hash {
            return differs(format!("frame {index} has other pixels now"));
        }
        *self.at = Some(index + 1);
        Ok(frames)
    }

    /// Puts the source before frame `index`; returns the frame that a seek found there, or `None` after decoding from the
    /// beginning. A decoder that joined in the middle may make other pixels, so what it makes is compared.
    fn go_to(&mut self, index: usize) -> Result<Option<Vec<Frame>>, Error> {
        let listed = self.list.entries()[index];
        let seconds = listed.pts.map(|pts| pts as f64 * self.source.time_base().value() - PREROLL_SECONDS);
        let seekable = seconds.filter(|seconds| index > 0 && *seconds > 0.0);
        if let Some(seconds) = seekable
            && self.source.seek(seconds)?
        {
            while let Some(frames) = self.next()? {
                let pts = frames.first().and_then(Frame::pts);
                if pts == listed.pts && hash(&frames, index)? == listed.hash {
                    return Ok(Some(frames));
                }
                if pts >= listed.pts {
                    break;
                }
            }
        }
        self.source.rewind()?;
        for skipped in 0..index {
            if self.next()?.is_none() {
                return Err(Error::PassesDiffer { why: format!("there are only {skipped} now") });
            }
        }
        Ok(None)
    }

    fn next(&mut self) -> Result<Option<Vec<Frame>>, Error> {
        if self.cancel.is_stopped() {
            return Err(Error::Interrupted);
        }
        self.pulse.beat();
        self.source.next()
    }
}

fn hash(frames: &[Frame], index: usize) -> Result<u64, Error> {
    Ok(of_all(&hashes(frames, index)?))
}

/// The hash of each branch's frame of this index.
fn hashes(frames: &[Frame], index: usize) -> Result<Vec<u64>, Error> {
    let unreadable = |frame: &Frame, error| {
        let source = format!("its pixels ({}) cannot be read: {error}", frame.pixel_format()).into();
        Error::Frames { index: index as u64, source }
    };
    frames.iter().map(|frame| frame.hash().map_err(|error| unreadable(frame, error))).collect()
}

fn of_all(hashes: &[u64]) -> u64 {
    hashes.iter().fold(0, |all, one| all.rotate_left(17) ^ one)
}

/// Frames of a branch that queues and encoders hold at most beside the cache, however many lanes share it: lanes get frames
/// in step, and sharing costs nothing.
const IN_FLIGHT: u64 = FRAMES_IN_FLIGHT as u64 + 1;
/// How far before a wanted frame a seek aims, so that its references and the pictures that lean over a key frame are there.
const PREROLL_SECONDS: f64 = 1.0;
const CACHE_EVENT_EVERY: usize = 8;

#[cfg(test)]
mod tests {
    use std::thread::scope;

    use crossbeam_channel::{Receiver, bounded};

    use super::*;
    use crate::cache::{CacheMode, CachePlan};
    use crate::event::Stage;
    use crate::media::Rational;
    use crate::pipeline::Terms;
    use crate::pipeline::watch::Watch;
    use crate::rate::ByteSize;

    /// So many small frames, and how many have been taken.
    struct Frames {
        all: i64,
        taken: i64,
    }

    impl FrameSource for Frames {
        fn next(&mut self) -> Result<Option<Vec<Frame>>, Error> {
            if self.taken == self.all {
                return Ok(None);
            }
            let mut frame = Frame::allocate(16, 16, "yuv420p").unwrap();
            frame.set_pts(self.taken);
            self.taken += 1;
            Ok(Some(vec![frame]))
        }

        fn prime(&mut self) -> Result<bool, Error> {
            Ok(true)
        }

        fn rewind(&mut self) -> Result<(), Error> {
            self.taken = 0;
            Ok(())
        }

        fn seek(&mut self, _seconds: f64) -> Result<bool, Error> {
            Ok(false)
        }

        fn time_base(&self) -> Rational {
            Rational::new(1, 25)
        }

        fn frame_rate(&self) -> Rational {
            Rational::new(25, 1)
        }

        fn sample_aspect_ratio(&self, _branch: usize) -> Option<Rational> {
            None
        }
    }

    /// Takes what comes within a moment; whether the end was among it.
    fn drained(frames: &Receiver<Fed>) -> (usize, bool) {
        let mut count = 0;
        while let Ok(fed) = frames.recv_timeout(Duration::from_millis(500)) {
            match fed {
                Fed::Frame(..) => count += 1,
                Fed::End => return (count, true),
            }
        }
        (count, false)
    }

    #[test]
    fn a_slow_lane_holds_the_others_back_and_not_their_frames() {
        let (fast, from_fast) = bounded(FRAMES_IN_FLIGHT);
        let (slow, from_slow) = bounded(FRAMES_IN_FLIGHT);
        let cancel = Cancel::new();
        let terms = Terms {
            keep: vec![false],
            analysed: &[],
            refuses_damage: None,
            finds_cuts: false,
            stall: None,
            cancel: &cancel,
        };
        let (mut source, mut list) = (Frames { all: 40, taken: 0 }, FrameList::default());
        let none = CachePlan { mode: CacheMode::None, budget: ByteSize(0), spill_dir: None };
        let mut cache = FrameCache::new(none);
        let outlet = |frames| Outlet { branch: 0, forced_keyframes: None, frames };
        let stage = FeedStage {
            source: &mut source,
            cache: &mut cache,
            list: &mut list,
            outlets: vec![outlet(fast), outlet(slow)],
            keep: &terms.keep,
            analysed: &[],
            refuses_damage: None,
            cuts: None,
            cancel: &cancel,
            events: bounded(1).0,
            pulse: Watch::new(terms.stall, terms.cancel).pulse(Stage::Feed),
        };
        scope(|scope| {
            let feed = scope.spawn(move || stage.run());
            let (count, ended) = drained(&from_fast);
            assert!(count <= FRAMES_IN_FLIGHT + 1 && !ended, "{count} frames while the other lane took none");
            // Both go on as the slow one takes its frames.
            let rest = scope.spawn(move || drained(&from_fast));
            assert_eq!(drained(&from_slow), (40, true));
            assert_eq!(rest.join().unwrap(), (40 - count, true));
            assert_eq!(feed.join().unwrap().unwrap().frames, 40);
        });
    }
}
