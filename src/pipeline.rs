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
//! Every output has its own reader of the other streams, and its mux stage pulls them up to the time of its video; of
//! several encoders it takes what comes first. So no queue can fill up because another is waiting, whatever the encoders'
//! delays. Frames go to all encoders in step, so a slow one holds the others back and not their frames: each queue has at
//! most 8, shared with the cache and between lanes of one branch.

use std::collections::BTreeMap;
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::cache::FrameCache;
use crate::error::Error;
use crate::event::{Cancel, Event};
use crate::frames::{FrameList, FrameSource};
use crate::sink::Sink;

pub(crate) mod encode;
pub(crate) mod feed;
pub(crate) mod mux;
pub(crate) mod other;

use encode::{Coded, EncodeStage, Encoded};
use feed::{Fed, FeedStage, Feeding, Outlet};
use mux::MuxStage;
use other::{Other, OtherStage, Tally};

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
    /// The outputs' sinks, complete and not yet under their final names, with their renditions.
    pub(crate) outputs: Vec<(Vec<usize>, Box<dyn Sink>)>,
}

/// Runs every lane over one stream of frames; `observe` is called on this thread.
///
/// # Errors
/// The first error of any stage that is not merely the echo of another's.
#[expect(clippy::too_many_arguments, reason = "a run is where everything of a job meets")]
pub(crate) fn run(
    source: &mut dyn FrameSource,
    cache: &mut FrameCache,
    list: &mut FrameList,
    keep: &[bool],
    lanes: Vec<Lane>,
    outputs: Vec<Output>,
    cancel: &Cancel,
    observe: &mut dyn FnMut(Event),
) -> Result<RunResult, Error> {
    let (events, heard) = bounded(EVENTS_IN_FLIGHT);
    scope(|scope| {
        let mut running = Running::default();
        let mut ways_out = BTreeMap::new();
        for (number, output) in outputs.into_iter().enumerate() {
            spawn_output(scope, number, output, &mut ways_out, &mut running);
        }
        let mut outlets = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let (frames, taken) = bounded(FRAMES_IN_FLIGHT);
            outlets.push(Outlet { branch: lane.branch, forced_keyframes: lane.forced_keyframes, frames });
            let packets = ways_out.remove(&lane.rendition);
            spawn_lane(scope, lane, taken, packets, &events, &mut running);
        }
        let stage = FeedStage { source, cache, list, outlets, keep, cancel, events: events.clone() };
        let feed = spawn(scope, "feed".to_owned(), move || stage.run());
        drop(events);
        heard.iter().for_each(observe);
        join_all(feed, running)
    })
}

type Handle<'scope, T> = ScopedJoinHandle<'scope, Result<T, Error>>;

/// Everything that is spawned beside the feed.
#[derive(Default)]
struct Running<'scope> {
    lanes: Vec<(usize, Handle<'scope, Encoded>, Option<Handle<'scope, Tally>>)>,
    outputs: Vec<(Vec<usize>, Handle<'scope, Box<dyn Sink>>, Option<Handle<'scope, Tally>>)>,
}

fn spawn_output<'scope>(
    scope: &'scope Scope<'scope, '_>,
    number: usize,
    output: Output,
    ways_out: &mut BTreeMap<usize, Sender<Coded>>,
    running: &mut Running<'scope>,
) {
    let Output { renditions, mux, other } = output;
    let mut coded = Vec::with_capacity(renditions.len());
    for rendition in &renditions {
        let (packets, taken) = bounded(PACKETS_IN_FLIGHT);
        ways_out.insert(*rendition, packets);
        coded.push(taken);
    }
    let (others, along) = bounded::<Other>(OTHERS_IN_FLIGHT);
    let along = other.is_some().then_some(along);
    let mux = spawn(scope, format!("mux {number}"), move || mux.run(coded, along));
    let other = other.map(|stage| spawn(scope, format!("other {number}"), move || stage.run(Some(others))));
    running.outputs.push((renditions, mux, other));
}

fn spawn_lane<'scope>(
    scope: &'scope Scope<'scope, '_>,
    lane: Lane,
    frames: Receiver<Fed>,
    packets: Option<Sender<Coded>>,
    events: &Sender<Event>,
    running: &mut Running<'scope>,
) {
    let Lane { rendition, encode, measure, .. } = lane;
    let measure = measure.map(|stage| spawn(scope, format!("measure {rendition}"), move || stage.run(None)));
    let events = events.clone();
    let encode = spawn(scope, format!("encode {rendition}"), move || encode.run(rendition, frames, packets, &events));
    running.lanes.push((rendition, encode, measure));
}

#[expect(clippy::disallowed_methods, reason = "the one place where threads are spawned")]
fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: String,
    stage: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    // Linux shows 15 bytes of a thread's name.
    Builder::new().name(name).spawn_scoped(scope, stage).expect("the system has a thread left")
}

fn join_all(feed: Handle<'_, Feeding>, running: Running<'_>) -> Result<RunResult, Error> {
    let mut errors = Vec::new();
    let feeding = keep(join(feed), &mut errors);
    let mut lanes = Vec::new();
    for (rendition, encode, measure) in running.lanes {
        let encoded = keep(join(encode), &mut errors);
        let tally = measure.and_then(|measure| keep(join(measure), &mut errors));
        lanes.extend(encoded.map(|encoded| LaneResult { rendition, encoded, tally }));
    }
    let mut outputs = Vec::new();
    for (renditions, mux, other) in running.outputs {
        let sink = keep(join(mux), &mut errors);
        other.and_then(|other| keep(join(other), &mut errors));
        outputs.extend(sink.map(|sink| (renditions, sink)));
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
pub(crate) fn receive_timed<T>(from: &Receiver<T>, waited: &mut std::time::Duration) -> Result<T, Error> {
    let began = Instant::now();
    let received = from.recv().map_err(|_| Error::Stopped);
    *waited += began.elapsed();
    received
}

/// Sends, and adds the time spent waiting.
pub(crate) fn send_timed<T>(to: &Sender<T>, item: T, waited: &mut std::time::Duration) -> Result<(), Error> {
    let began = Instant::now();
    let sent = to.send(item).map_err(|_| Error::Stopped);
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
