//! The branches of a filter graph in step: one frame of each at a time.
//!
//! Invariant: frames leave together only where they are of the same moment, and none is left behind in silence.

use std::collections::VecDeque;

use crate::av::filter::VideoFilter;
use crate::av::frame::Frame;
use crate::av::{AvError, Received};
use crate::error::Error;
use crate::source::Graph;

/// What the filters gave and nobody has taken.
#[derive(Default)]
pub(super) struct InStep {
    /// For each branch, frames that wait for those of the others.
    waiting: Vec<VecDeque<Frame>>,
    /// Complete sets, one frame of every branch.
    ready: VecDeque<Vec<Frame>>,
}

impl InStep {
    /// Nothing yet, of so many branches.
    pub(super) fn of(branches: usize) -> Self {
        InStep { waiting: (0..branches).map(|_| VecDeque::new()).collect(), ready: VecDeque::new() }
    }

    /// The next set.
    pub(super) fn take(&mut self) -> Option<Vec<Frame>> {
        self.ready.pop_front()
    }

    /// The set that is next.
    pub(super) fn first(&self) -> Option<&[Frame]> {
        self.ready.front().map(Vec::as_slice)
    }

    pub(super) fn clear(&mut self) {
        self.waiting.iter_mut().for_each(VecDeque::clear);
        self.ready.clear();
    }

    /// Takes what the filters of `graph` have ready.
    ///
    /// # Errors
    /// [`Error::Filter`]: a filter failed, or the branches do not give the same frames.
    pub(super) fn collect(&mut self, filter: &mut VideoFilter, graph: &Graph) -> Result<(), Error> {
        for (branch, waiting) in self.waiting.iter_mut().enumerate() {
            loop {
                let mut frame = Frame::new().map_err(Error::no_memory("a filtered frame"))?;
                match filter.pull(branch, &mut frame)? {
                    Received::Ready => waiting.push_back(frame),
                    Received::NeedInput | Received::Done => break,
                }
            }
        }
        while self.waiting.iter().all(|waiting| !waiting.is_empty()) {
            let frames: Vec<Frame> = self.waiting.iter_mut().filter_map(VecDeque::pop_front).collect();
            if frames.iter().any(|frame| frame.pts() != frames[0].pts()) {
                return Err(out_of_step(graph));
            }
            self.ready.push_back(frames);
        }
        // A branch that drops frames would let those of the others pile up.
        if self.waiting.iter().any(|waiting| waiting.len() > MOST_OUT_OF_STEP) {
            Err(out_of_step(graph))
        } else {
            Ok(())
        }
    }

    /// Ends the filters and takes what was still in them.
    ///
    /// # Errors
    /// As for [`InStep::collect`]; also where one branch ended before another.
    pub(super) fn end(&mut self, filter: &mut VideoFilter, graph: &Graph) -> Result<(), Error> {
        filter.push_end()?;
        self.collect(filter, graph)?;
        if self.waiting.iter().all(VecDeque::is_empty) { Ok(()) } else { Err(out_of_step(graph)) }
    }
}

fn out_of_step(graph: &Graph) -> Error {
    let log =
        "the renditions' filters do not give the same frames; what drops or doubles frames belongs before them all";
    Error::Filter { graph: graph.describe(), source: AvError::invalid(), log: log.to_owned() }
}

/// How many frames one branch may be ahead of another: filters that look ahead hold some back.
const MOST_OUT_OF_STEP: usize = 256;
