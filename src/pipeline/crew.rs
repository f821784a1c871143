//! A crew: so many threads for work that is given out piece by piece, by a conductor that has a thread of its own.
//!
//! ```text
//!  conductor ──start (waits until one of the crew is free)──▶ segment 0 … n
//!      ▲                                                         │
//!      └──────────────── results, by the piece's own queue ──────┘        events ──▶ the thread that called
//! ```

use std::sync::Arc;
use std::thread::scope;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::watch::{Pulse, Watch};
use super::{EVENTS_IN_FLIGHT, Terms, join, spawn};
use crate::error::Error;
use crate::event::{Event, Stage};

/// A piece of work.
type Task = Box<dyn FnOnce(&Arc<Pulse>) + Send>;

/// Threads that wait for work.
pub(crate) struct Crew {
    waiting: Sender<Task>,
    /// What the conductor tells, and its own sign of life.
    pub(crate) events: Sender<Event>,
    pub(crate) pulse: Arc<Pulse>,
}

impl Crew {
    /// Gives a piece of work to whoever is free; waits for that.
    ///
    /// # Errors
    /// [`Error::Stopped`]: the crew has gone.
    pub(crate) fn start(&self, task: impl FnOnce(&Arc<Pulse>) + Send + 'static) -> Result<(), Error> {
        self.pulse.while_waiting(|| self.waiting.send(Box::new(task))).map_err(|_| Error::Stopped)
    }
}

/// Lets `conduct` give out work to so many threads; `observe` is called on this thread.
///
/// # Errors
/// That of the conductor; a stall before all others; [`Error::Exhausted`] where the system has no thread left, while with some
/// fewer work.
pub(crate) fn with_crew<T: Send>(
    count: usize,
    rendition: usize,
    terms: &Terms<'_>,
    conduct: impl FnOnce(&Crew) -> Result<T, Error> + Send,
    observe: &mut dyn FnMut(Event),
) -> Result<T, Error> {
    let (events, heard) = bounded(EVENTS_IN_FLIGHT);
    let mut watch = Watch::new(terms.stall, terms.cancel);
    let result = scope(|scope| {
        // Without a place in between: what is given out is in work.
        let (waiting, taken) = bounded::<Task>(0);
        let mut workers = Vec::new();
        for number in 0..count.max(1) {
            let pulse = watch.pulse(Stage::Encode(rendition));
            let (taken, told, watched) = (taken.clone(), pulse.clone(), events.clone());
            match spawn(scope, format!("segment {number}"), pulse, move || work(&taken, &told, watched)) {
                Ok(worker) => workers.push(worker),
                Err(error) if workers.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        drop(taken);
        let pulse = watch.pulse(Stage::Feed);
        let crew = Crew { waiting, events, pulse: pulse.clone() };
        let conductor = spawn(scope, "session".to_owned(), pulse, move || conduct(&crew))?;
        watch.listen(heard, observe);
        let result = join(conductor);
        workers.into_iter().for_each(join);
        result
    });
    watch.verdict().map_or(result, Err)
}

/// While a sender of events is alive, the watch goes on.
fn work(taken: &Receiver<Task>, pulse: &Arc<Pulse>, _watched: Sender<Event>) {
    while let Ok(task) = pulse.while_waiting(|| taken.recv()) {
        task(pulse);
    }
}
