//! Where second passes get their statistics from: their own first pass, that of another rendition, or a file.
//!
//! Invariant: the plan says it for every rendition; the runner makes no choice.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::adapter::{PassModel, Reuse};
use crate::av::versions;
use crate::error::{Error, Refusal};
use crate::frames::{FrameList, FrameSource};
use crate::job::{Picture, Plan, RenditionPlan};
use crate::plan::{FirstPassChoice, FirstPassOf, PlannedSetting, differences};
use crate::rate::{BitRate, Target};
use crate::source::DecodedFile;
use crate::stats::artefact::{Artefact, Header};
use crate::timing::Clock;

/// Where the statistics of a second pass come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum FirstPass {
    /// Its own first pass; also for a rendition that has one pass only.
    Own,
    /// The first pass of another rendition of the job.
    Another {
        /// That rendition's index.
        rendition: usize,
    },
    /// A file, kept by an [`crate::job::Analysis`], or by a job that did not come to its end.
    Kept {
        /// The file.
        #[serde(serialize_with = "crate::report::path_as_text")]
        stats: PathBuf,
        /// Its checksum when the plan was made, in hexadecimal.
        checksum: String,
        /// Whether it is of an earlier run of this very job.
        resumed: bool,
    },
}

/// Takes statistics from files where that is asked for; returns warnings where that changes the result.
///
/// # Errors
/// [`Refusal::OtherStats`] for statistics of another encode, [`Error::Artefact`] for a damaged file.
pub(super) fn take_kept(choices: &[&FirstPassChoice], renditions: &mut [RenditionPlan]) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    for (choice, rendition) in choices.iter().zip(renditions.iter_mut()) {
        if let FirstPassChoice::Kept(path) = choice {
            let artefact = kept(path, rendition)?;
            let made_for = bit_rate(&artefact.header().settings);
            if depends_on_rate(rendition) && made_for != rate(rendition) {
                let (name, made_for) = (&rendition.name, BitRate(made_for));
                let file = path.display();
                warnings.push(format!("{name} uses the first pass in {file}, made for {made_for}: {DIFFERS}"));
            }
            rendition.first_pass =
                FirstPass::Kept { stats: path.clone(), checksum: artefact.checksum(), resumed: false };
        }
    }
    Ok(warnings)
}

/// Lets first passes serve several renditions where they can; returns warnings where that changes the result.
pub(super) fn share(choices: &[&FirstPassChoice], renditions: &mut [RenditionPlan]) -> Vec<String> {
    let may_share =
        |index: &usize| *choices[*index] == FirstPassChoice::Shared && renditions[*index].encoder.two_pass();
    let mut order: Vec<usize> = (0..renditions.len()).filter(may_share).collect();
    // Statistics serve what is below them, so the greatest bit rates come first.
    order.sort_by_key(|index| Reverse(rate(&renditions[*index])));
    let mut leaders: Vec<usize> = Vec::new();
    for index in order {
        match leaders.iter().copied().find(|leader| serves(&renditions[*leader], &renditions[index])) {
            Some(rendition) => renditions[index].first_pass = FirstPass::Another { rendition },
            None => leaders.push(index),
        }
    }
    leaders.into_iter().filter_map(|leader| warning(leader, renditions)).collect()
}

/// Whether the first pass of `leader` gives statistics that `other` can take.
fn serves(leader: &RenditionPlan, other: &RenditionPlan) -> bool {
    // A size target measures the other streams during its own first pass.
    if matches!(other.encoder.target, Target::Size(_)) || leader.branch != other.branch {
        return false;
    }
    let (Some(made), Some(wanted)) = (leader.encoder.steps.first(), FirstPassOf::plan(&other.encoder, other.adapter))
    else {
        return false;
    };
    // Far below what was analysed, rates have been seen to be missed.
    let near = match wanted.model.reuse {
        Reuse::AtOrBelow { from_percent } => rate(other) * 100 >= rate(leader) * u64::from(from_percent),
        Reuse::Exact | Reuse::No => true,
    };
    let same_encoder = std::ptr::eq(leader.adapter, other.adapter) && made.stats == wanted.step.stats;
    near && same_encoder
        && leader.encoder.forced_keyframes == other.encoder.forced_keyframes
        && differences(&made.settings, &wanted).is_empty()
}

fn rate(rendition: &RenditionPlan) -> u64 {
    bit_rate(rendition.encoder.steps.first().map(|step| step.settings.as_slice()).unwrap_or_default())
}

fn bit_rate(settings: &[PlannedSetting]) -> u64 {
    let rate = settings.iter().find(|setting| setting.option == "b" && setting.key.is_none());
    rate.and_then(|setting| setting.value.parse().ok()).unwrap_or(0)
}

fn depends_on_rate(rendition: &RenditionPlan) -> bool {
    matches!(&rendition.adapter.passes, PassModel::TwoRuns(model) if model.reuse != Reuse::Exact)
}

fn warning(leader: usize, renditions: &[RenditionPlan]) -> Option<String> {
    let served = |other: &&RenditionPlan| {
        other.first_pass == FirstPass::Another { rendition: leader } && rate(other) != rate(&renditions[leader])
    };
    let names: Vec<&str> = renditions.iter().filter(served).map(|other| other.name.as_str()).collect();
    let use_it = if names.len() == 1 { "uses" } else { "use" };
    let (names, leader) = (names.join(" and "), &renditions[leader]);
    (depends_on_rate(leader) && !names.is_empty()).then(|| {
        format!(
            "{names} {use_it} the first pass of {}, made for a higher bit rate: {DIFFERS} (--own-first-pass)",
            leader.name
        )
    })
}

/// The statistics in a file, once it is known that they are whole and of this very first pass.
fn kept(path: &Path, rendition: &RenditionPlan) -> Result<Artefact, Error> {
    let refused = |why: &str| Refusal::OtherStats { path: path.to_owned(), differences: vec![why.to_owned()] };
    if matches!(rendition.encoder.target, Target::Size(_)) {
        return Err(refused("a size target measures sound and container during its own first pass; use -b").into());
    }
    let wanted = FirstPassOf::plan(&rendition.encoder, rendition.adapter)
        .ok_or_else(|| refused("this target takes one pass, which reads no statistics"))?;
    let artefact = Artefact::open(path)?;
    let differences = artefact.differences(&rendition.encoder, &wanted);
    if !differences.is_empty() {
        return Err(Refusal::OtherStats { path: path.to_owned(), differences }.into());
    }
    Ok(artefact)
}

/// What can be known of the source before anything runs: its rate, and its first frame.
pub(super) fn check_source(plan: &Plan, file: &mut DecodedFile) -> Result<(), Error> {
    for rendition in &plan.renditions {
        // A journal is known to be of this source, and a later difference ends the run before the encoder has seen it.
        let FirstPass::Kept { stats, resumed: false, .. } = &rendition.first_pass else { continue };
        file.prime()?;
        let Some(frames) = file.first_frames() else { return Ok(()) };
        let frame = &frames[rendition.branch];
        let artefact = Artefact::open(stats)?;
        let mut clock = Clock::new(file.time_base(), file.frame_rate());
        let moment = clock.next(frames[0].pts());
        let hash = frame.hash().map_err(|source| Error::Filter { graph: String::new(), source, log: String::new() })?;
        let mut differences = artefact.source_differences(frame, file.frame_rate());
        if differences.is_empty() && artefact.has(0, moment, hash, false).is_err() {
            differences.push("source: the first frame is another".to_owned());
        }
        if !differences.is_empty() {
            return Err(Refusal::OtherStats { path: stats.clone(), differences }.into());
        }
    }
    Ok(())
}

/// What a first pass was of.
pub(super) fn header(plan: &Plan, rendition: &RenditionPlan, source: &dyn FrameSource, list: &FrameList) -> Header {
    let encoder = &rendition.encoder;
    let versions = versions();
    let Picture { width, height, pixel_format } = plan.pictures[rendition.branch].clone();
    Header {
        encoder: encoder.encoder.to_owned(),
        row: encoder.row,
        libavcodec: versions.libavcodec,
        ffmpeg: versions.ffmpeg,
        library: encoder.library.clone(),
        target: encoder.target.to_string(),
        settings: encoder.steps.first().map(|step| step.settings.clone()).unwrap_or_default(),
        forced_keyframes: encoder.forced_keyframes,
        width,
        height,
        pixel_format,
        time_base: source.time_base(),
        frame_rate: source.frame_rate(),
        frames: list.len() as u64,
        frames_hash: format!("{:016x}", list.hash()),
        source: plan.input.path.display().to_string(),
        parts: Vec::new(),
        unfinished: None,
    }
}

const DIFFERS: &str = "the result differs a little from one with a first pass of its own";
