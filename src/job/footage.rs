//! Footage: the frames of one source, decoded once for any number of jobs.
//!
//! Invariant: every job over a footage sees the same frames, and none of them decodes.

use crate::av::frame::{Frame, nearest_pixel_format};
use crate::cache::CachePlan;
use crate::error::{Error, Refusal};
use crate::event::{Cancel, Event};
use crate::frames::FrameSource;
use crate::job::run::{Footage as Open, Usage, run_over};
use crate::job::{Job, Plan};
use crate::media::{Rational, SourceInfo};
use crate::pipeline;
use crate::report::Report;
use crate::source::Branch;

/// The frames of a source, kept in every pixel format that its jobs' encoders take.
pub struct Footage {
    open: Open,
    branches: Vec<Branch>,
    info: SourceInfo,
    cancel: Cancel,
}

impl Footage {
    /// Decodes what `jobs` read, all the same source through the same filters, and keeps every frame where `cache` says.
    ///
    /// # Errors
    /// [`Refusal::Source`] where the frames do not fit; [`Error::Damaged`] for damaged input; whatever decoding meets.
    pub fn decode<'j>(
        jobs: impl Iterator<Item = &'j Job>,
        cache: CachePlan,
        cancel: &Cancel,
        mut observe: impl FnMut(Event),
    ) -> Result<Self, Error> {
        let mut jobs = jobs.peekable();
        let Some(first) = jobs.peek() else { return Err(Error::Stopped) };
        let mut plan = Plan { cache, ..first.plan.clone() };
        plan.graph.branches.clear();
        for job in jobs {
            let branch = branch_of(job);
            if !plan.graph.branches.contains(&branch) {
                plan.graph.branches.push(branch);
            }
        }
        let mut open = Open::open(&plan, cancel)?;
        let Open { source, cache, list } = &mut open;
        pipeline::run(source, cache, list, false, Vec::new(), cancel, &mut observe)?;
        let damage = open.source.damage();
        if damage.any() {
            return Err(Error::Damaged { path: plan.input.path.clone(), what: damage.to_string() });
        }
        if open.cache.len() < open.list.len() {
            return Err(Refusal::Source {
                path: plan.input.path.display().to_string(),
                why: format!("only {} of its {} frames could be kept", open.cache.len(), open.list.len()),
            }
            .into());
        }
        Ok(Footage { open, branches: plan.graph.branches, info: plan.source, cancel: cancel.clone() })
    }

    /// Runs every pass of a job that was among those the footage was decoded for.
    ///
    /// # Errors
    /// As [`Job::run`]; [`Error::Stopped`] for a job of another source or format.
    pub fn run(&mut self, job: &Job, mut observe: impl FnMut(Event)) -> Result<Report, Error> {
        let branch = branch_of(job);
        let number = self.branches.iter().position(|known| *known == branch).ok_or(Error::Stopped)?;
        let mut plan = job.plan.clone();
        plan.graph.branches.clone_from(&self.branches);
        plan.renditions.iter_mut().for_each(|rendition| rendition.branch = number);
        run_over(&plan, &mut self.open, false, &Usage::now(), &self.cancel, &mut observe)
    }

    /// Frame `index` as a job's encoder sees it; `None` behind the last.
    ///
    /// # Errors
    /// [`Error::Scratch`] where the spill file cannot be read.
    pub fn frame(&mut self, index: usize, job: &Job) -> Result<Option<Frame>, Error> {
        let branch = branch_of(job);
        let number = self.branches.iter().position(|known| *known == branch).ok_or(Error::Stopped)?;
        if index >= self.open.cache.len() {
            return Ok(None);
        }
        Ok(self.open.cache.frames(index, false)?.into_iter().nth(number))
    }

    /// How many frames.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.open.list.len() as u64
    }

    /// Hash of the times and pixels of all frames.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.open.list.hash()
    }

    /// Frames per second that encoders are told.
    #[must_use]
    pub fn frame_rate(&self) -> Rational {
        self.open.source.frame_rate()
    }

    /// Bytes of memory that the frames take.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.open.cache.held_bytes()
    }

    /// What the demuxer says of the source.
    #[must_use]
    pub fn info(&self) -> &SourceInfo {
        &self.info
    }
}

/// The one branch that a job of one rendition reads, in the pixel format it will get: said outright, so that encoders with
/// different lists share frames.
fn branch_of(job: &Job) -> Branch {
    let branch = &job.plan.graph.branches[job.plan.renditions[0].branch];
    let source = &job.plan.source.video.pixel_format;
    let formats = &branch.pixel_formats;
    let format = formats.iter().find(|format| *format == source).map(String::as_str);
    let format = format.or_else(|| nearest_pixel_format(formats, source)).unwrap_or(source);
    Branch { pixel_formats: vec![format.to_owned()], ..branch.clone() }
}
