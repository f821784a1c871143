//! The threads and queues of one run: spawned, joined and drawn here only.
//!
//! ```text
//!                 ┌──frames (8)──▶ encode ──packets (32)──▶ mux ──▶ sink     rendition A
//!  feed ──────────┤                                          ▲
//!  (decode+filter │                            other ────────┘ packets (64): audio, subtitles, attachments
//!   or replay)    └──frames (8)──▶ encode ──packets (32)──▶ mux ──▶ sink     rendition B
//!    │                               │
//!    └─ shares into FrameCache       └─ stats_out into StatsStore (pass 1)
//!
//!  start: mux, other, encode, feed.   end: feed says End; each stage drains, says End, and is joined.
//!  stop:  feed is told, nobody else.  fail: a queue that closes without End; the first error that is not Stopped wins.
//! ```
//!
//! The thread that spawned them listens, and watches that each stage moves or waits for another ([`watch`]).
//!
//! Every lane has its own reader of the other streams, and its mux stage pulls them up to the time of its video: so no
//! queue can fill up because another is waiting, whatever the encoders' delays.

use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::cache::FrameCache;
use crate::error::Error;
use crate::event::{Cancel, Event, Stage};
use crate::frames::{FrameList, FrameSource};

pub(crate) mod encode;
pub(crate) mod feed;
pub(crate) mod mux;
pub(crate) mod other;
pub(crate) mod watch;

use encode::{Coded, EncodeStage, Encoded};
use feed::{Analysed, Fed, FeedStage, Feeding};
use mux::{MuxStage, Muxed};
use other::{Other, OtherStage, Tally};
use watch::{Pulse, Watch};

/// What one rendition does in a run.
pub(crate) struct Lane {
    /// The rendition's index in the job.
    pub(crate) rendition: usize,
    /// Which output of the filter graph it encodes.
    pub(crate) branch: usize,
    /// Its encoder.
    pub(crate) encode: EncodeStage,
    /// Its way out, in the pass that has one.
    pub(crate) mux: Option<MuxStage>,
    /// The streams that go along; in a pass without a way out they are only counted, for a size target.
    pub(crate) other: Option<OtherStage>,
}

/// What a lane brought.
pub(crate) struct LaneResult {
    pub(crate) rendition: usize,
    pub(crate) encoded: Encoded,
    pub(crate) muxed: Option<Muxed>,
    pub(crate) tally: Option<Tally>,
}

/// What a run brought.
pub(crate) struct RunResult {
    pub(crate) feeding: Feeding,
    pub(crate) lanes: Vec<LaneResult>,
}

/// What holds for a whole run.
pub(crate) struct Terms<'r> {
    /// Whether nobody needs the frames after this run.
    pub(crate) last: bool,
    /// What was analysed in earlier jobs: the source must be the same frames.
    pub(crate) analysed: &'r [Analysed],
    /// The input's name, where its damage ends the run before any output is finished.
    pub(crate) refuses_damage: Option<&'r Path>,
    /// How long a stage may make no progress; `None`: for ever.
    pub(crate) stall: Option<Duration>,
    pub(crate) cancel: &'r Cancel,
}

/// Runs every lane over one stream of frames; `observe` is called on this thread.
///
/// # Errors
/// The first error of any stage that is not merely the echo of another's; a stall before all others.
pub(crate) fn run(
    source: &mut dyn FrameSource,
    cache: &mut FrameCache,
    list: &mut FrameList,
    lanes: Vec<Lane>,
    terms: &Terms<'_>,
    observe: &mut dyn FnMut(Event),
) -> Result<RunResult, Error> {
    let (events, heard) = bounded(EVENTS_IN_FLIGHT);
    let mut watch = Watch::new(terms);
    let result = scope(|scope| {
        let mut running = Vec::with_capacity(lanes.len());
        let mut outlets = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let (frames, taken) = bounded(FRAMES_IN_FLIGHT);
            outlets.push((lane.branch, frames));
            running.push(spawn_lane(scope, lane, taken, &events, &mut watch)?);
        }
        let pulse = watch.pulse(Stage::Feed);
        let stage = FeedStage {
            source,
            cache,
            list,
            outlets,
            last: terms.last,
            analysed: terms.analysed,
            refuses_damage: terms.refuses_damage,
            cancel: terms.cancel,
            events: events.clone(),
            pulse: pulse.clone(),
        };
        let feed = spawn(scope, "feed".to_owned(), pulse, move || stage.run())?;
        drop(events);
        watch.listen(&heard, observe);
        join_all(feed, running)
    });
    watch.verdict().map_or(result, Err)
}

/// Does `work` for every item, so many of them at a time; what it tells is heard on this thread, with the item's index.
///
/// # Errors
/// [`Error::Exhausted`] where the system has no thread left; with some, fewer run at a time.
pub(crate) fn side_by_side<I: Send, E: Send>(
    items: Vec<I>,
    at_a_time: usize,
    work: impl Fn(I, &mut dyn FnMut(E)) + Sync,
    mut observe: impl FnMut(usize, E),
) -> Result<(), Error> {
    let (waiting, taken) = bounded(items.len());
    for item in items.into_iter().enumerate() {
        waiting.send(item).expect("there is room for every item, and the other end is here");
    }
    drop(waiting);
    let (events, heard) = bounded(EVENTS_IN_FLIGHT);
    scope(|scope| {
        let mut workers = Vec::new();
        for number in 0..at_a_time {
            let (taken, events, work) = (taken.clone(), events.clone(), &work);
            // Whoever hears outlives the workers.
            let each = move |(index, item)| work(item, &mut |event| drop(events.send((index, event))));
            match named(scope, format!("job {number}"), move || taken.into_iter().for_each(each)) {
                Ok(worker) => workers.push(worker),
                Err(error) if workers.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        drop(events);
        heard.iter().for_each(|(index, event)| observe(index, event));
        workers.into_iter().for_each(join);
        Ok(())
    })
}

struct Running<'scope> {
    rendition: usize,
    encode: ScopedJoinHandle<'scope, Result<Encoded, Error>>,
    mux: Option<ScopedJoinHandle<'scope, Result<Muxed, Error>>>,
    other: Option<ScopedJoinHandle<'scope, Result<Tally, Error>>>,
}

fn spawn_lane<'scope>(
    scope: &'scope Scope<'scope, '_>,
    lane: Lane,
    frames: Receiver<Fed>,
    events: &Sender<Event>,
    watch: &mut Watch<'_>,
) -> Result<Running<'scope>, Error> {
    let Lane { rendition, encode, mux, other, .. } = lane;
    let name = |stage: &str| format!("{stage} {rendition}");
    let (packets, coded) = bounded::<Coded>(PACKETS_IN_FLIGHT);
    let (others, along) = bounded::<Other>(OTHERS_IN_FLIGHT);
    let with_mux = mux.is_some();
    let mux = mux.map(|stage| {
        let along = other.is_some().then_some(along);
        let (pulse, told) = (watch.pulse(Stage::Mux(rendition)), watch.pulse_of_last());
        let watched = events.clone();
        spawn(scope, name("mux"), pulse, move || {
            // While a sender is alive, the watch goes on.
            let _watched = watched;
            stage.run(coded, along, &told)
        })
    });
    let other = other.map(|stage| {
        let out = with_mux.then_some(others);
        let (pulse, told) = (watch.pulse(Stage::Other(rendition)), watch.pulse_of_last());
        let watched = events.clone();
        spawn(scope, name("other"), pulse, move || {
            let _watched = watched;
            stage.run(out, &told)
        })
    });
    let events = events.clone();
    let packets = with_mux.then_some(packets);
    let (pulse, told) = (watch.pulse(Stage::Encode(rendition)), watch.pulse_of_last());
    let encode = spawn(scope, name("encode"), pulse, move || encode.run(rendition, frames, packets, &events, &told))?;
    Ok(Running { rendition, encode, mux: mux.transpose()?, other: other.transpose()? })
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: String,
    pulse: Arc<Pulse>,
    stage: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, Error> {
    let watched = move || {
        let result = stage();
        pulse.end();
        result
    };
    named(scope, name, watched)
}

fn named<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: String,
    act: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, Error> {
    let doing = format!("starting the thread {name:?}");
    // Linux shows 15 bytes of a thread's name.
    let spawned = Builder::new().name(name).spawn_scoped(scope, act);
    spawned.map_err(|error| Error::Exhausted { doing: format!("{doing}: {error}") })
}

fn join_all(feed: ScopedJoinHandle<'_, Result<Feeding, Error>>, running: Vec<Running<'_>>) -> Result<RunResult, Error> {
    let mut errors = Vec::new();
    let feeding = keep(join(feed), &mut errors);
    let mut lanes = Vec::new();
    for lane in running {
        let encoded = keep(join(lane.encode), &mut errors);
        let muxed = lane.mux.map(|mux| keep(join(mux), &mut errors));
        let tally = lane.other.map(|other| keep(join(other), &mut errors));
        if let Some(encoded) = encoded {
            lanes.push(LaneResult {
                rendition: lane.rendition,
                encoded,
                muxed: muxed.flatten(),
                tally: tally.flatten(),
            });
        }
    }
    // A stage that lost its neighbour says Stopped; the neighbour's own error is the one to read.
    errors.sort_by_key(|error| matches!(error, Error::Stopped));
    match (errors.into_iter().next(), feeding) {
        (Some(error), _) => Err(error),
        (None, Some(feeding)) => Ok(RunResult { feeding, lanes }),
        (None, None) => Err(Error::Stopped),
    }
}

fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn keep<T>(result: Result<T, Error>, errors: &mut Vec<Error>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

/// Receives, and adds the time spent waiting.
pub(crate) fn receive_timed<T>(from: &Receiver<T>, pulse: &Pulse, waited: &mut Duration) -> Result<T, Error> {
    let began = Instant::now();
    let received = pulse.while_waiting(|| from.recv()).map_err(|_| Error::Stopped);
    *waited += began.elapsed();
    received
}

/// Sends, and adds the time spent waiting.
pub(crate) fn send_timed<T>(to: &Sender<T>, item: T, pulse: &Pulse, waited: &mut Duration) -> Result<(), Error> {
    let began = Instant::now();
    let sent = pulse.while_waiting(|| to.send(item)).map_err(|_| Error::Stopped);
    *waited += began.elapsed();
    sent
}

/// Enough for decode and encode to overlap; few enough not to matter beside the cache.
pub(crate) const FRAMES_IN_FLIGHT: usize = 8;
/// Packets are small; this rides out one slow write.
const PACKETS_IN_FLIGHT: usize = 32;
/// Packets of the other streams wait for their turn here.
const OTHERS_IN_FLIGHT: usize = 64;
/// The observer may be a slow terminal; progress is dropped rather than waited for.
const EVENTS_IN_FLIGHT: usize = 256;
