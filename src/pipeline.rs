//! The threads and queues of one run: spawned, joined and drawn here only.
//!
//! ```text
//!                 ┌──frames (8)──▶ encode ──packets (32)──▶ mux ──▶ sink     a file: rendition A
//!  feed ──────────┤                                          ▲
//!  (decode+filter │                            other ────────┘ packets (64): audio, subtitles, attachments
//!   or replay)    ├──frames (8)──▶ encode ──packets (32)──┐
//!    │            │                                       ├▶ mux ──▶ sink    a package: renditions B and C
//!    │            └──frames (8)──▶ encode ──packets (32)──┘   ▲
//!    │                               │         other ─────────┘ packets (64): audio, once
//!    └─ shares into FrameCache       └─ stats_out into StatsStore (pass 1)
//!
//!  start: mux, other, encode, feed.   end: feed says End; each stage drains, says End, and is joined.
//!  stop:  feed is told, nobody else.  fail: a queue that closes without End; the first error that is not Stopped wins.
//! ```
//!
//! The thread that spawned them listens, and watches that each stage moves or waits for another ([`watch`]).
//!
//! Every output has its own reader of the other streams, and its mux stage pulls them up to the time of its video; of
//! several encoders it takes what comes first. So no queue can fill up because another is waiting, whatever the encoders'
//! delays. Frames go to all encoders in step, so a slow one holds the others back and not their frames: each queue has at
//! most 8, shared with the cache and between lanes of one branch.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::av::muxer::EncodedStream;
use crate::av::packet::Packet;
use crate::cache::{FrameCache, has_room};
use crate::error::Error;
use crate::event::{Cancel, Event, Stage};
use crate::frames::{FrameList, FrameSource};
use crate::sink::Sink;

pub(crate) mod crew;
pub(crate) mod cut;
pub(crate) mod encode;
pub(crate) mod feed;
pub(crate) mod mux;
pub(crate) mod other;
pub(crate) mod watch;

use cut::CutFinder;
use encode::{Coded, EncodeStage, Encoded};
use feed::{Analysed, Fed, FeedStage, Feeding, Outlet};
use mux::MuxStage;
use other::{Other, OtherStage, Tally};
use watch::{Pulse, Watch};

/// What one rendition does in a run.
pub(crate) struct Lane {
    /// The rendition's index in the job.
    pub(crate) rendition: usize,
    /// Which output of the filter graph it encodes.
    pub(crate) branch: usize,
    /// Distance in frames of those that are marked as key frames.
    pub(crate) forced_keyframes: Option<u32>,
    /// Its encoder.
    pub(crate) encode: EncodeStage,
    /// The streams that would go along, counted for a size target in a pass without a way out.
    pub(crate) measure: Option<OtherStage>,
}

/// A way out: a file of one rendition, or a package of several.
pub(crate) struct Output {
    /// The renditions whose packets it takes, in the order of its video streams.
    pub(crate) renditions: Vec<usize>,
    pub(crate) mux: MuxStage,
    /// The streams that go along.
    pub(crate) other: Option<OtherStage>,
}

/// What a lane brought.
pub(crate) struct LaneResult {
    pub(crate) rendition: usize,
    pub(crate) encoded: Encoded,
    pub(crate) tally: Option<Tally>,
}

/// What a run brought.
pub(crate) struct RunResult {
    pub(crate) feeding: Feeding,
    pub(crate) lanes: Vec<LaneResult>,
    pub(crate) outputs: Vec<OutputResult>,
}

/// What an output has come to.
pub(crate) struct OutputResult {
    pub(crate) renditions: Vec<usize>,
    /// Complete, and not yet under its final name.
    pub(crate) sink: Box<dyn Sink>,
    /// What went along.
    pub(crate) tally: Option<Tally>,
}

/// What holds for a whole run.
pub(crate) struct Terms<'r> {
    /// For each branch of the graph, whether somebody needs its frames after this run.
    pub(crate) keep: Vec<bool>,
    /// What was analysed in earlier jobs: the source must be the same frames.
    pub(crate) analysed: &'r [Analysed],
    /// The input's name, where its damage ends the run before any output is finished.
    pub(crate) refuses_damage: Option<&'r Path>,
    /// Whether somebody asks where scenes begin.
    pub(crate) finds_cuts: bool,
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
    outputs: Vec<Output>,
    terms: &Terms<'_>,
    observe: &mut dyn FnMut(Event),
) -> Result<RunResult, Error> {
    // Beyond this, no memory would be the end of the process and not of a run.
    if !has_room(TO_START) {
        return Err(Error::Exhausted { doing: "starting a run".to_owned() });
    }
    let (events, heard) = bounded(EVENTS_IN_FLIGHT);
    let mut watch = Watch::new(terms.stall, terms.cancel);
    let failed = terms.cancel.child();
    let result = scope(|scope| {
        let mut spawning = Spawning { scope, events, watch: &mut watch, running: Running::default(), failed };
        let mut ways_out = BTreeMap::new();
        for output in outputs {
            spawning.output(output, &mut ways_out)?;
        }
        let mut outlets = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let (frames, taken) = bounded(FRAMES_IN_FLIGHT);
            outlets.push(Outlet { branch: lane.branch, forced_keyframes: lane.forced_keyframes, frames });
            let packets = ways_out.remove(&lane.rendition);
            spawning.lane(lane, taken, packets)?;
        }
        let Spawning { running, watch, events, .. } = spawning;
        let pulse = watch.pulse(Stage::Feed);
        let stage = FeedStage {
            source,
            cache,
            list,
            outlets,
            keep: &terms.keep,
            analysed: terms.analysed,
            refuses_damage: terms.refuses_damage,
            cuts: terms.finds_cuts.then(CutFinder::default),
            cancel: terms.cancel,
            // The last sender that is not a stage's: when all stages have ended, so has the listening.
            events,
            pulse: pulse.clone(),
        };
        let feed = spawn(scope, "feed".to_owned(), pulse, move || stage.run())?;
        watch.listen(heard, observe);
        join_all(feed, running)
    });
    watch.verdict().map_or(result, Err)
}

/// Does one thing between runs, under the watch: what hangs there is named, as a stage is.
///
/// # Errors
/// [`Error::Stalled`] where it took longer than `limit`, [`Error::Exhausted`] where the system has no thread left.
pub(crate) fn between_runs<T: Send>(
    stage: Stage,
    limit: Option<Duration>,
    cancel: &Cancel,
    work: impl FnOnce() -> T + Send,
    observe: &mut dyn FnMut(Event),
) -> Result<T, Error> {
    let (alive, heard) = bounded(0);
    let mut watch = Watch::new(limit, cancel);
    let done = scope(|scope| {
        let pulse = watch.pulse(stage);
        let act = move || {
            let _alive = alive;
            work()
        };
        let worker = spawn(scope, "between".to_owned(), pulse, act)?;
        watch.listen(heard, observe);
        Ok(join(worker))
    });
    watch.verdict().map_or(done, Err)
}

/// Writes a stream that is coded already; `observe` is called on this thread. The packets are in decoding order, with times
/// in ticks of the stream's time base.
///
/// # Errors
/// As for [`run`].
pub(crate) fn deliver(
    stream: EncodedStream,
    packets: Vec<Packet>,
    output: Output,
    terms: &Terms<'_>,
    observe: &mut dyn FnMut(Event),
) -> Result<OutputResult, Error> {
    let (events, heard) = bounded(EVENTS_IN_FLIGHT);
    let mut watch = Watch::new(terms.stall, terms.cancel);
    let failed = terms.cancel.child();
    let result = scope(|scope| {
        let rendition = output.renditions[0];
        let mut spawning = Spawning { scope, events, watch: &mut watch, running: Running::default(), failed };
        let mut ways_out = BTreeMap::new();
        spawning.output(output, &mut ways_out)?;
        let coded = ways_out.remove(&rendition).ok_or(Error::Stopped)?;
        let feed = spawning.stage("coded", Stage::Feed, rendition, move |pulse| {
            let time_base = stream.time_base();
            let packets = packets.into_iter().map(|packet| Coded::Packet(packet, time_base));
            let all = std::iter::once(Coded::Start(Box::new(stream))).chain(packets).chain([Coded::End]);
            let mut blocked = Duration::ZERO;
            for one in all {
                if terms.cancel.is_stopped() {
                    return Err(Error::Interrupted);
                }
                send_timed(&coded, one, pulse, &mut blocked)?;
            }
            Ok(Feeding::default())
        })?;
        let Spawning { running, watch, events, .. } = spawning;
        drop(events);
        watch.listen(heard, observe);
        join_all(feed, running)
    });
    let result = watch.verdict().map_or(result, Err)?;
    result.outputs.into_iter().next().ok_or(Error::Stopped)
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
        // Consumed here: a panic of the observer's must leave nobody waiting to be heard.
        heard.into_iter().for_each(|(index, event)| observe(index, event));
        workers.into_iter().for_each(join);
        Ok(())
    })
}

/// Does `work` on this thread, while another looks after it all the time.
///
/// # Errors
/// [`Error::Exhausted`] where the system has no thread left; then nothing was done.
pub(crate) fn watched<T>(look: impl Fn() + Send, work: impl FnOnce() -> T) -> Result<T, Error> {
    let (working, ended) = bounded::<()>(0);
    scope(|scope| {
        let watch = move || {
            while ended.recv_timeout(BETWEEN_LOOKS) == Err(RecvTimeoutError::Timeout) {
                look()
            }
        };
        named(scope, "watchdog".to_owned(), watch)?;
        let done = work();
        drop(working);
        Ok(done)
    })
}

type Handle<'scope, T> = ScopedJoinHandle<'scope, Result<T, Error>>;

/// Everything that is spawned beside the feed.
#[derive(Default)]
struct Running<'scope> {
    lanes: Vec<RunningLane<'scope>>,
    outputs: Vec<RunningOutput<'scope>>,
}

struct RunningLane<'scope> {
    rendition: usize,
    encode: Handle<'scope, Encoded>,
    measure: Option<Handle<'scope, Tally>>,
}

struct RunningOutput<'scope> {
    renditions: Vec<usize>,
    mux: Handle<'scope, Box<dyn Sink>>,
    other: Option<Handle<'scope, Tally>>,
}

/// A run whose stages are being spawned.
struct Spawning<'scope, 'env, 'w, 'r> {
    scope: &'scope Scope<'scope, 'env>,
    events: Sender<Event>,
    watch: &'w mut Watch<'r>,
    running: Running<'scope>,
    /// Stopped when a stage fails: heard by those that no queue ties to the others.
    failed: Cancel,
}

impl<'scope> Spawning<'scope, '_, '_, '_> {
    fn output(&mut self, output: Output, ways_out: &mut BTreeMap<usize, Sender<Coded>>) -> Result<(), Error> {
        let Output { renditions, mux, other } = output;
        let number = renditions[0];
        let mut coded = Vec::with_capacity(renditions.len());
        for rendition in &renditions {
            let (packets, taken) = bounded(PACKETS_IN_FLIGHT);
            ways_out.insert(*rendition, packets);
            coded.push(taken);
        }
        let (others, along) = bounded::<Other>(OTHERS_IN_FLIGHT);
        let along = other.is_some().then_some(along);
        let mux = self.stage("mux", Stage::Mux(number), number, move |pulse| mux.run(coded, along, pulse))?;
        let other = other.map(|stage| {
            self.stage("other", Stage::Other(number), number, move |pulse| stage.run(Some(others), pulse))
        });
        self.running.outputs.push(RunningOutput { renditions, mux, other: other.transpose()? });
        Ok(())
    }

    fn lane(&mut self, lane: Lane, frames: Receiver<Fed>, packets: Option<Sender<Coded>>) -> Result<(), Error> {
        let Lane { rendition, encode, measure, .. } = lane;
        let measure = measure.map(|stage| {
            let stage = stage.unless(self.failed.clone());
            self.stage("measure", Stage::Other(rendition), rendition, move |pulse| stage.run(None, pulse))
        });
        let events = self.events.clone();
        let encode = self.stage("encode", Stage::Encode(rendition), rendition, move |pulse| {
            encode.run(rendition, frames, packets, &events, pulse)
        })?;
        self.running.lanes.push(RunningLane { rendition, encode, measure: measure.transpose()? });
        Ok(())
    }

    fn stage<T: Send + 'scope>(
        &mut self,
        name: &str,
        stage: Stage,
        number: usize,
        run: impl FnOnce(&Pulse) -> Result<T, Error> + Send + 'scope,
    ) -> Result<Handle<'scope, T>, Error> {
        let pulse = self.watch.pulse(stage);
        let (told, failed) = (pulse.clone(), self.failed.clone());
        // While a sender is alive, the watch goes on.
        let watched = self.events.clone();
        spawn(self.scope, format!("{name} {number}"), pulse, move || {
            let _watched = watched;
            run(&told).inspect_err(|_| failed.stop())
        })
    }
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

fn join_all(feed: Handle<'_, Feeding>, running: Running<'_>) -> Result<RunResult, Error> {
    let mut errors = Vec::new();
    let feeding = keep(join(feed), &mut errors);
    let mut lanes = Vec::new();
    for RunningLane { rendition, encode, measure } in running.lanes {
        let encoded = keep(join(encode), &mut errors);
        let tally = measure.and_then(|measure| keep(join(measure), &mut errors));
        lanes.extend(encoded.map(|encoded| LaneResult { rendition, encoded, tally }));
    }
    let mut outputs = Vec::new();
    for RunningOutput { renditions, mux, other } in running.outputs {
        let sink = keep(join(mux), &mut errors);
        let tally = other.and_then(|other| keep(join(other), &mut errors));
        outputs.extend(sink.map(|sink| OutputResult { renditions, sink, tally }));
    }
    // A stage that lost its neighbour says Stopped; the neighbour's own error is the one to read.
    errors.sort_by_key(|error| matches!(error, Error::Stopped));
    match (errors.into_iter().next(), feeding) {
        (Some(error), _) => Err(error),
        (None, Some(feeding)) => Ok(RunResult { feeding, lanes, outputs }),
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
/// What queues and threads of a run take, in bytes, and some more.
const TO_START: u64 = 16 << 20;
/// A stop is heard within this time while a call that cannot look for itself is waited for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn an_observer_that_panics_leaves_nobody_waiting_to_be_heard() {
        let talks = |_, tell: &mut dyn FnMut(usize)| (0..EVENTS_IN_FLIGHT * 4).for_each(tell);
        let ended =
            catch_unwind(AssertUnwindSafe(|| side_by_side(vec![(); 2], 2, talks, |_, _| panic!("an observer's own"))));
        assert!(ended.is_err());
    }
}
