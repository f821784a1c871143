//! Footage: the frames of one source, decoded once for any number of jobs.
//!
//! Invariant: every job over a footage sees the same frames, and none of them decodes.

use crate::av::frame::Frame;
use crate::cache::{CacheMode, CachePlan, FrameCache};
use crate::error::{Error, Refusal};
use crate::event::{Cancel, Event};
use crate::frames::FrameList;
use crate::job::run::{Opened, Usage, run_over, terms};
use crate::job::{Picture, Plan};
use crate::media::{Rational, SourceInfo};
use crate::pipeline;
use crate::report::Report;
use crate::source::{Branch, DecodedFile, Graph, Input};
use crate::stats::collect_leftovers;

/// The frames of a source, kept in every pixel format that its jobs' encoders take.
pub struct Footage {
    opened: Opened,
    input: Input,
    graph: Graph,
    /// What each branch of the graph gives.
    pictures: Vec<Picture>,
    info: SourceInfo,
    cancel: Cancel,
}

impl Footage {
    /// Decodes what `plans` read, all the same source through the same filters, and keeps every frame where `cache` says.
    ///
    /// # Errors
    /// [`Refusal::Source`] where the frames do not fit, or the plans are of several sources; [`Error::Damaged`] for damaged
    /// input; whatever decoding meets.
    pub fn decode<'p>(
        plans: impl Iterator<Item = &'p Plan>,
        cache: CachePlan,
        cancel: &Cancel,
        mut observe: impl FnMut(Event),
    ) -> Result<Self, Error> {
        let mut plans = plans.peekable();
        let first = *plans.peek().ok_or(Error::Stopped)?;
        let mut graph = first.graph.clone();
        graph.branches.clear();
        let mut pictures = Vec::new();
        for plan in plans {
            same_source(plan, &first.input, &graph)?;
            let (branch, picture) = branch_of(plan);
            if !graph.branches.contains(&branch) {
                graph.branches.push(branch);
                pictures.push(picture);
            }
        }
        collect_leftovers();
        // Decoding again is none of its ways.
        let mode = if cache.mode == CacheMode::Auto { CacheMode::Disk } else { cache.mode };
        let cache = CachePlan { mode, ..cache };
        // A footage that stalls is stopped alone.
        let cancel = &cancel.child();
        let mut source = DecodedFile::open(first.input.clone(), first.decoder_threads, cancel)?;
        source.set_graph(graph.clone());
        let mut opened = Opened { source: Box::new(source), cache: FrameCache::new(cache), list: FrameList::default() };
        let Opened { source, cache, list } = &mut opened;
        let terms = terms(first, vec![true; pictures.len()], &[], cancel);
        pipeline::run(source.as_mut(), cache, list, Vec::new(), Vec::new(), &terms, &mut observe)?;
        check_whole(&opened, first)?;
        let (input, info, cancel) = (first.input.clone(), first.source.clone(), cancel.clone());
        Ok(Footage { opened, input, graph, pictures, info, cancel })
    }

    /// Runs every pass of a plan that was among those the footage was decoded for.
    ///
    /// # Errors
    /// As [`crate::job::Job::run`]; [`Refusal::Source`] for a plan of another source, other filters or another format.
    pub fn run(&mut self, plan: &Plan, mut observe: impl FnMut(Event)) -> Result<Report, Error> {
        let number = self.number(plan)?;
        let mut plan = plan.clone();
        plan.graph.branches.clone_from(&self.graph.branches);
        plan.pictures.clone_from(&self.pictures);
        plan.renditions.iter_mut().for_each(|rendition| rendition.branch = number);
        let keep = |_| vec![true; self.pictures.len()];
        let files = plan.renditions.iter().map(|_| None).collect();
        run_over(&plan, &mut self.opened, files, &keep, &Usage::now(), &self.cancel, &mut observe)
    }

    /// Frame `index` as a plan's encoder sees it; `None` behind the last.
    ///
    /// # Errors
    /// [`Error::Scratch`] where the spill file cannot be read, [`Refusal::Source`] as for [`Footage::run`].
    pub fn frame(&mut self, index: usize, plan: &Plan) -> Result<Option<Frame>, Error> {
        let number = self.number(plan)?;
        if index >= self.opened.cache.len() {
            return Ok(None);
        }
        Ok(self.opened.cache.frames(index, false)?.into_iter().nth(number))
    }

    /// How many frames.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.opened.list.len() as u64
    }

    /// Hash of the times and pixels of all frames.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.opened.list.hash()
    }

    /// Frames per second that encoders are told.
    #[must_use]
    pub fn frame_rate(&self) -> Rational {
        self.opened.source.frame_rate()
    }

    /// What the demuxer says of the source.
    #[must_use]
    pub fn info(&self) -> &SourceInfo {
        &self.info
    }

    /// The branch that a plan's encoder reads.
    fn number(&self, plan: &Plan) -> Result<usize, Error> {
        same_source(plan, &self.input, &self.graph)?;
        let (branch, picture) = branch_of(plan);
        self.graph.branches.iter().position(|known| *known == branch).ok_or_else(|| {
            let Picture { width, height, pixel_format } = picture;
            refused(plan, format!("its frames were not kept as {pixel_format} of {width}x{height}"))
        })
    }
}

fn check_whole(opened: &Opened, plan: &Plan) -> Result<(), Error> {
    let damage = opened.source.damage();
    if damage.any() {
        return Err(Error::Damaged { path: plan.input.path.clone(), what: damage.to_string() });
    }
    if opened.cache.len() < opened.list.len() {
        let (kept, all) = (opened.cache.len(), opened.list.len());
        return Err(refused(plan, format!("only {kept} of its {all} frames could be kept")));
    }
    Ok(())
}

fn same_source(plan: &Plan, input: &Input, graph: &Graph) -> Result<(), Error> {
    let same_frames = plan.graph.trunk == graph.trunk && plan.graph.rotation == graph.rotation;
    if plan.input == *input && same_frames {
        return Ok(());
    }
    Err(refused(
        plan,
        format!("is read or filtered otherwise than the frames that were kept of {}", input.path.display()),
    ))
}

fn refused(plan: &Plan, why: String) -> Error {
    Refusal::Source { path: plan.input.path.display().to_string(), why }.into()
}

/// The branch that the one rendition of a plan reads, in the pixel format it will get: said outright, so that encoders with
/// different lists share frames. And what it gives.
fn branch_of(plan: &Plan) -> (Branch, Picture) {
    let number = plan.renditions[0].branch;
    let picture = plan.pictures[number].clone();
    let pixel_formats = vec![picture.pixel_format.clone()];
    (Branch { pixel_formats, ..plan.graph.branches[number].clone() }, picture)
}
