//! The watch over the stages: which of them has stopped moving without waiting for another.
//!
//! Invariant: a stage that waits for a neighbour is never the culprit, however long it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::error::Error;
use crate::event::{Cancel, Event, Stage};

/// One stage's sign of life.
#[derive(Debug)]
pub(crate) struct Pulse {
    stage: Stage,
    began: Instant,
    /// Milliseconds from the beginning to the last progress.
    last: AtomicU64,
    /// Whether it waits for a neighbour, or has ended.
    excused: AtomicBool,
}

impl Pulse {
    /// One that nobody watches yet.
    pub(crate) fn new(stage: Stage) -> Self {
        Pulse { stage, began: Instant::now(), last: AtomicU64::new(0), excused: AtomicBool::new(false) }
    }

    /// Says that the stage has moved on.
    pub(crate) fn beat(&self) {
        self.last.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Waits for a neighbour.
    pub(crate) fn while_waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.excused.store(true, Ordering::Relaxed);
        let waited = wait();
        self.beat();
        // Whoever sees that the stage no longer waits sees this beat too.
        self.excused.store(false, Ordering::Release);
        waited
    }

    /// Says that the stage has ended.
    pub(super) fn end(&self) {
        self.excused.store(true, Ordering::Relaxed);
    }

    /// How long the stage has not moved, where it does not wait.
    fn still(&self) -> Option<Duration> {
        // In this order: what the stage does between two of these steps makes it look livelier, never stiller.
        let now = self.began.elapsed();
        let excused = self.excused.load(Ordering::Acquire);
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        (!excused).then(|| now.saturating_sub(last))
    }
}

/// All stages of a run, and how long one may not move.
pub(crate) struct Watch<'r> {
    limit: Option<Duration>,
    cancel: &'r Cancel,
    pulses: Vec<Arc<Pulse>>,
    stalled: Option<(usize, Duration)>,
    told: bool,
}

impl<'r> Watch<'r> {
    pub(super) fn new(limit: Option<Duration>, cancel: &'r Cancel) -> Self {
        Watch { limit, cancel, pulses: Vec::new(), stalled: None, told: false }
    }

    /// A pulse for this stage, which is watched from now on.
    pub(super) fn pulse(&mut self, stage: Stage) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new(stage));
        self.pulses.push(pulse.clone());
        pulse
    }

    /// Hears events until every stage has ended, and looks at the stages meanwhile. Whoever panics hearing them ends the job.
    ///
    /// Takes the receiving end, for nobody may wait to be heard by an observer that is gone.
    #[expect(clippy::needless_pass_by_value, reason = "the queue closes when the listening ends, by a panic too")]
    pub(super) fn listen(&mut self, heard: Receiver<Event>, observe: &mut dyn FnMut(Event)) {
        let _stops = StopsOnPanic(self.cancel);
        let Some(limit) = self.limit else { return heard.iter().for_each(observe) };
        let glance = (limit / 8).clamp(SHORTEST_GLANCE, LONGEST_GLANCE);
        loop {
            match heard.recv_timeout(glance) {
                Ok(event) => observe(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look(limit, observe);
        }
    }

    fn look(&mut self, limit: Duration, observe: &mut dyn FnMut(Event)) {
        let Some((number, _)) = self.stalled else {
            let mut still = self.pulses.iter().map(|pulse| pulse.still());
            if let Some(number) = still.position(|still| still.is_some_and(|still| still > limit)) {
                let seconds = self.pulses[number].still().unwrap_or(limit);
                self.stalled = Some((number, seconds));
                self.cancel.stop();
                observe(Event::Stalled { stage: self.pulses[number].stage, seconds: seconds.as_secs_f64() });
            }
            return;
        };
        let stuck = self.pulses[number].still().filter(|still| !self.told && *still > limit + GRACE);
        if let Some(still) = stuck {
            self.told = true;
            observe(Event::Stuck { stage: self.pulses[number].stage, seconds: still.as_secs_f64() });
        }
    }

    /// The stall, where there was one.
    pub(super) fn verdict(&self) -> Option<Error> {
        let (number, seconds) = self.stalled?;
        Some(Error::Stalled { stage: self.pulses[number].stage, seconds: seconds.as_secs_f64() })
    }
}

/// Asks for a stop where a panic comes by.
struct StopsOnPanic<'c>(&'c Cancel);

impl Drop for StopsOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

const SHORTEST_GLANCE: Duration = Duration::from_millis(5);
const LONGEST_GLANCE: Duration = Duration::from_secs(1);
/// What a stage may take to end after it was asked to, before it is called stuck.
const GRACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn an_observer_that_panics_stops_the_job_and_is_waited_for_by_nobody() {
        let (cancel, (events, heard)) = (Cancel::new(), bounded(1));
        let mut watch = Watch::new(None, &cancel);
        events.send(Event::Warning { text: String::new() }).unwrap();
        let listens = || watch.listen(heard, &mut |_| panic!("an observer's own"));
        assert!(catch_unwind(AssertUnwindSafe(listens)).is_err());
        assert!(cancel.is_stopped());
        assert!(events.send(Event::Warning { text: String::new() }).is_err());
    }
}
