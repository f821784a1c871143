//! Many jobs, some of them side by side, under one budget of threads and memory.
//!
//! Invariant: a job that fails stops no other; every job has an outcome, in the order in which the jobs were given.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use crate::error::{Error, Refusal};
use crate::event::{Cancel, Event};
use crate::job::{Job, JobRequest, Plan};
use crate::pipeline;
use crate::rate::ByteSize;
use crate::report::Report;
use crate::sink::known_as;
use crate::source::Fingerprint;

mod journal;

use journal::Journal;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct BatchRequest {
    /// The jobs. Those that run side by side share what each of them asks for: bytes of its cache, threads of its decoder and
    /// encoders. Where nobody says how many threads, each encoder has its own number, on which its bits may depend.
    pub jobs: Vec<JobRequest>,
    /// How many run side by side; at least 1. With two, one job's encoder works while another's starts, decodes or drains.
    pub side_by_side: usize,
    /// Whether jobs are skipped that an earlier batch has done: by the journal beside their outputs
    /// (`.repass-journal.jsonl`), by the same source and request, and by outputs that are still what was written.
    pub resume: bool,
}

/// What became of a job.
#[derive(Debug)]
pub enum Outcome {
    /// Done and verified.
    Done(Box<Report>),
    /// Done and verified by another process: its report, as it wrote it.
    DoneElsewhere(serde_json::Value),
    /// Done by an earlier batch, and still as it was.
    DoneBefore,
    /// It ended with this error.
    Failed(Error),
    /// A stop was asked for before it began.
    NotStarted,
}

/// What happens while a batch runs.
#[derive(Debug)]
pub enum BatchEvent {
    /// A job is prepared and begins.
    Started(Box<Plan>),
    /// Something happened in it.
    Job(Event),
    /// It has ended.
    Ended(Outcome),
}

impl Outcome {
    /// The exit status that stands for it; 0 where it is done.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Outcome::Done(_) | Outcome::DoneElsewhere(_) | Outcome::DoneBefore => 0,
            Outcome::Failed(error) => error.exit_code(),
            Outcome::NotStarted => Error::Interrupted.exit_code(),
        }
    }
}

/// Runs all jobs; `observe` is called on this thread, with the index of the job. The outcomes are in the jobs' order.
///
/// # Errors
/// [`Error::Plan`], before anything runs, where two jobs would write the same file, or one would write what another reads;
/// [`Error::Exhausted`] where the system has no thread left.
/// What goes wrong in a job is its outcome.
pub fn run(
    request: &BatchRequest,
    cancel: &Cancel,
    observe: impl FnMut(usize, &BatchEvent),
) -> Result<Vec<Outcome>, Error> {
    run_by(request, cancel, |job, tell| here(job, cancel, tell), observe)
}

/// As [`run`], each job done by `work`, on one of several threads: with its part of the budget, and somebody to tell of what
/// happens in it.
///
/// # Errors
/// As for [`run`].
pub fn run_by(
    request: &BatchRequest,
    cancel: &Cancel,
    work: impl Fn(&JobRequest, &mut dyn FnMut(BatchEvent)) -> Result<Outcome, Error> + Sync,
    mut observe: impl FnMut(usize, &BatchEvent),
) -> Result<Vec<Outcome>, Error> {
    refuse_collisions(&request.jobs)?;
    let side_by_side = request.side_by_side.clamp(1, request.jobs.len().max(1));
    let parts = u16::try_from(side_by_side).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MAX);
    let work = |job: &JobRequest, tell: &mut dyn FnMut(BatchEvent)| work(&part_of_budget(job, parts), tell);
    let mut outcomes: Vec<Outcome> = request.jobs.iter().map(|_| Outcome::NotStarted).collect();
    let each = |job: &JobRequest, tell: &mut dyn FnMut(BatchEvent)| {
        let outcome = one(job, request.resume, cancel, &work, tell);
        tell(BatchEvent::Ended(outcome));
    };
    pipeline::side_by_side(request.jobs.iter().collect(), side_by_side, each, |index, event| {
        observe(index, &event);
        if let BatchEvent::Ended(outcome) = event {
            outcomes[index] = outcome;
        }
    })?;
    Ok(outcomes)
}

/// Does a job in this process.
///
/// # Errors
/// As for [`Job::prepare`] and [`Job::run`].
pub fn here(request: &JobRequest, cancel: &Cancel, tell: &mut dyn FnMut(BatchEvent)) -> Result<Outcome, Error> {
    let job = Job::prepare(request, cancel)?;
    tell(BatchEvent::Started(Box::new(job.plan().clone())));
    let report = job.run(|event| tell(BatchEvent::Job(event)))?;
    Ok(Outcome::Done(Box::new(report)))
}

fn one(
    request: &JobRequest,
    resume: bool,
    cancel: &Cancel,
    work: &impl Fn(&JobRequest, &mut dyn FnMut(BatchEvent)) -> Result<Outcome, Error>,
    tell: &mut dyn FnMut(BatchEvent),
) -> Outcome {
    if cancel.is_stopped() {
        return Outcome::NotStarted;
    }
    let journal = Journal::beside(request);
    let identity = Fingerprint::of(&request.input.path);
    if resume && identity.as_ref().is_some_and(|identity| journal.has(request, identity)) {
        return Outcome::DoneBefore;
    }
    let done = match work(request, tell) {
        Ok(done) => done,
        Err(error) => return Outcome::Failed(error),
    };
    // A source that changed meanwhile is not what was encoded.
    let same = identity.filter(|before| Fingerprint::of(&request.input.path).as_ref() == Some(before));
    if let Some(Err(error)) = same.map(|identity| journal.add(request, &identity)) {
        let text =
            format!("{}: cannot be written, so that --resume will not know of this file: {error}", journal.path());
        tell(BatchEvent::Job(Event::Warning { text }));
    }
    done
}

/// A job with its part of what all of them may take together.
#[must_use]
pub fn part_of_budget(job: &JobRequest, side_by_side: NonZeroU16) -> JobRequest {
    let mut job = job.clone();
    job.cache.budget = ByteSize(job.cache.budget.0 / u64::from(side_by_side.get()));
    let part = |threads: Option<u16>| threads.map(|threads| (threads / side_by_side).max(1));
    job.decoder_threads = part(job.decoder_threads);
    for rendition in &mut job.renditions {
        rendition.encoder.threads = part(rendition.encoder.threads);
    }
    job
}

/// Refuses jobs that are in each other's way, as [`run`] does before it begins.
///
/// # Errors
/// [`Refusal::Output`] where two would write the same file, or one would write what another reads.
pub fn refuse_collisions(jobs: &[JobRequest]) -> Result<(), Refusal> {
    let inputs: BTreeMap<PathBuf, &Path> =
        jobs.iter().map(|job| (known_as(&job.input.path), job.input.path.as_path())).collect();
    let mut outputs: BTreeMap<PathBuf, (usize, &Path)> = BTreeMap::new();
    for (number, job) in jobs.iter().enumerate() {
        for rendition in &job.renditions {
            let (input, output) = (job.input.path.as_path(), known_as(&rendition.output));
            let refused = |why| Err(Refusal::Output { path: rendition.output.display().to_string(), why });
            if let Some(other) = inputs.get(&output).filter(|other| **other != input) {
                return refused(format!("is read as {} by another job", other.display()));
            }
            // Within one job, a package has one name for many renditions, and the plan tells what is one.
            if let Some((_, other)) = outputs.insert(output, (number, input)).filter(|(other, _)| *other != number) {
                return refused(format!("{} and {} would both be written there", other.display(), input.display()));
            }
        }
    }
    Ok(())
}
