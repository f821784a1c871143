//! First passes that outlive a crash: kept beside the output while the job runs, and taken up by the same job later.
//!
//! Invariant: what is taken up was made of the same source by the same plan, and no frame reaches an encoder that the first
//! pass has not seen; anything else is said, and the first pass is run again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::av::versions;
use crate::error::Error;
use crate::frames::{FrameList, FrameSource};
use crate::job::size::Others;
use crate::job::{FirstPass, JobRequest, PackagePlan, Plan, RenditionPlan, first_pass};
use crate::plan::{FirstPassOf, Origin, PlannedSetting};
use crate::session::KeptSegments;
use crate::sink::{WholeFile, folder_of, hidden_beside};
use crate::source::{Fingerprint, Graph, Input};
use crate::stats::Stats;
use crate::stats::artefact::{self, Artefact, Header, Unfinished};

/// What becomes of a finished first pass when its job ends without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// It is lost; nothing is ever written beside the output.
    Never,
    /// It is kept beside the output while the job runs: a crash leaves it there, a stop or an error does not.
    #[default]
    Keep,
    /// The same, but a stop or an error leaves it too; and one that is there is taken up instead of run again.
    TakeUp,
}

/// What a later run of the job must find again; `None` where nothing is kept, or the source is no file.
pub(super) fn unfinished(request: &JobRequest, graph: &Graph) -> Option<Unfinished> {
    let source = match request.resume {
        Resume::Never => return None,
        Resume::Keep | Resume::TakeUp => Fingerprint::of(&request.input.path)?,
    };
    let input = Input { path: PathBuf::new(), ..request.input.clone() };
    let reading = format!("{input:?} {}", graph.describe());
    Some(Unfinished { source, reading, other_packets: 0, other_bytes: 0 })
}

/// Says where first passes are kept, and takes up those that an earlier run left; returns warnings of what is of no use.
pub(super) fn take_up(
    resume: Resume,
    unfinished: Option<&Unfinished>,
    packages: &[PackagePlan],
    renditions: &mut [RenditionPlan],
) -> Vec<String> {
    let Some(unfinished) = unfinished else {
        let asked =
            (resume == Resume::TakeUp).then(|| "the source is no file: there is nothing to resume by".to_owned());
        return asked.into_iter().collect();
    };
    let mut warnings = Vec::new();
    for index in 0..renditions.len() {
        let rendition = &mut renditions[index];
        if rendition.encoder.session.is_some() {
            rendition.journal = Some(hidden_beside(&rendition.output, SEGMENTS));
            continue;
        }
        if rendition.first_pass != FirstPass::Own || !rendition.encoder.two_pass() {
            continue;
        }
        let journal = journal(&rendition.output, place_in_package(index, packages));
        rendition.journal = Some(journal.clone());
        if resume != Resume::TakeUp {
            continue;
        }
        match left(&journal, unfinished, rendition) {
            Ok(None) => {}
            Ok(Some(checksum)) => {
                let kept = FirstPass::Kept { stats: journal, checksum, resumed: true };
                let served = FirstPass::Another { rendition: index };
                renditions.iter_mut().filter(|other| other.first_pass == served).for_each(|other| {
                    other.first_pass = kept.clone();
                });
                renditions[index].first_pass = kept;
            }
            Err(why) => warnings.push(format!(
                "{}: the first pass that an earlier run left is not used, and is run again: {why}",
                rendition.name
            )),
        }
    }
    warnings
}

/// The checksum of what an earlier run of this job left; `None` where there is nothing. The error says why it is of no use.
fn left(journal: &Path, unfinished: &Unfinished, rendition: &RenditionPlan) -> Result<Option<String>, String> {
    match fs::symlink_metadata(journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(metadata) if !is_ours(&metadata) => return Err("it is no file of this user's".to_owned()),
        Ok(_) => {}
    }
    let artefact = Artefact::open(journal).map_err(|error| match error {
        Error::Artefact { why, .. } => why,
        other => other.to_string(),
    })?;
    let found = differences(&artefact, unfinished, rendition);
    if found.is_empty() { Ok(Some(artefact.checksum())) } else { Err(found.join("; ")) }
}

#[cfg(unix)]
fn is_ours(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    metadata.is_file() && metadata.uid() == rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_ours(metadata: &fs::Metadata) -> bool {
    metadata.is_file()
}

fn differences(artefact: &Artefact, unfinished: &Unfinished, rendition: &RenditionPlan) -> Vec<String> {
    let (header, plan) = (artefact.header(), &rendition.encoder);
    let Some(wanted) = FirstPassOf::plan(plan, rendition.adapter) else { return Vec::new() };
    let mut found = Vec::new();
    match &header.unfinished {
        None => found.push("it is not of a job".to_owned()),
        Some(then) if then.source != unfinished.source => found.push("the source is another file now".to_owned()),
        Some(then) if then.reading != unfinished.reading => {
            found.push("what is read of the source, its filters or the sizes are others now".to_owned());
        }
        Some(_) => {}
    }
    let now = plan.target.to_string();
    if header.target != now {
        found.push(format!("target: {} then, {now} now", header.target));
    } else if of_target(&header.settings) != of_target(&wanted.step.settings) {
        found.push("the peak bit rate is another now".to_owned());
    }
    found.extend(artefact.differences(plan, &wanted));
    found
}

fn of_target(settings: &[PlannedSetting]) -> Vec<&PlannedSetting> {
    settings.iter().filter(|setting| setting.origin == Origin::Target).collect()
}

/// Where a first pass is kept. The renditions of a package share one output, so they have numbers.
fn journal(output: &Path, place: Option<usize>) -> PathBuf {
    let number = place.map(|place| format!("-{place}")).unwrap_or_default();
    hidden_beside(output, &format!("{JOURNAL}{number}"))
}

fn place_in_package(rendition: usize, packages: &[PackagePlan]) -> Option<usize> {
    packages.iter().find_map(|package| package.renditions.iter().position(|index| *index == rendition))
}

/// The first passes that one run of a job keeps, and the places where an earlier one may have left some.
pub(super) struct Journals {
    resume: Resume,
    outputs: Vec<PathBuf>,
    written: Vec<PathBuf>,
    /// Folders that the job itself makes, for packages: they must be empty to be removed with it.
    made: Vec<PathBuf>,
}

impl Journals {
    /// To be called before anything is made. `is_file`: whether a rendition's output is a file, and not the caller's own sink.
    pub(super) fn of(plan: &Plan, is_file: impl Fn(usize) -> bool) -> Self {
        let outputs = plan.renditions.iter().enumerate().filter(|(index, _)| is_file(*index));
        let outputs: Vec<PathBuf> = match plan.resume {
            Resume::Never => Vec::new(),
            Resume::Keep | Resume::TakeUp => outputs.map(|(_, rendition)| rendition.output.clone()).collect(),
        };
        let folders = outputs.iter().map(|output| folder_of(output).to_owned());
        let made = folders.filter(|folder| !folder.exists()).collect();
        Journals { resume: plan.resume, outputs, written: Vec::new(), made }
    }

    /// Keeps a first pass that has just been finished and proven.
    pub(super) fn keep(
        &mut self,
        plan: &Plan,
        rendition: &RenditionPlan,
        source: &dyn FrameSource,
        list: &FrameList,
        stats: &Stats,
        others: Others,
    ) -> Result<(), Error> {
        let (Some(journal), Some(unfinished)) = (&rendition.journal, &plan.unfinished) else { return Ok(()) };
        let Others { packets: other_packets, bytes: other_bytes } = others;
        let unfinished = Unfinished { other_packets, other_bytes, ..unfinished.clone() };
        let header = Header { unfinished: Some(unfinished), ..first_pass::header(plan, rendition, source, list) };
        let file = WholeFile::private(journal, &rendition.output)?;
        artefact::write(file, header, list, stats)?;
        self.written.push(journal.clone());
        Ok(())
    }

    /// Where a session keeps its segments, with those that an earlier run of the job left. The text says why there are none.
    pub(super) fn segments(
        &mut self,
        plan: &Plan,
        rendition: &RenditionPlan,
        list: &FrameList,
    ) -> (Option<Arc<KeptSegments>>, Option<String>) {
        let (Some(path), Some(unfinished)) = (&rendition.journal, &plan.unfinished) else { return (None, None) };
        let found = session_of(unfinished, rendition, list).and_then(|of| kept(path, &of, self.resume));
        let name = &rendition.name;
        match found {
            Ok((kept, is_new)) => {
                self.written.push(path.clone());
                let why = (!is_new).then(|| {
                    format!("{name}: the segments that an earlier run left are of another session, and are coded again")
                });
                (Some(Arc::new(kept)), why)
            }
            Err(error) => (None, Some(format!("{name}: coded segments are not kept: {error}"))),
        }
    }

    /// The job has come to its end, so that what was kept is of no use, or may be of use to the next.
    pub(super) fn end<T>(&self, result: &Result<T, Error>) {
        match (result, self.resume) {
            (Ok(_), _) => self.outputs.iter().for_each(|output| remove_all(output)),
            (Err(Error::OtherFrames { path, .. }), Resume::TakeUp) => {
                let ours = self.outputs.iter().any(|output| is_journal_of(path, output));
                // It would end the next run in the same way.
                let _ = ours.then(|| fs::remove_file(path));
            }
            (Err(_), Resume::TakeUp) => {}
            (Err(_), _) => {
                self.written.iter().for_each(|journal| drop(fs::remove_file(journal)));
                // Only empty ones can be.
                self.made.iter().for_each(|folder| drop(fs::remove_dir(folder)));
            }
        }
    }
}

/// What segments must have in common to be of the same stream: everything but how many are in work at a time.
fn session_of(unfinished: &Unfinished, rendition: &RenditionPlan, list: &FrameList) -> io::Result<String> {
    let mut encoder = rendition.encoder.clone();
    if let Some(session) = &mut encoder.session {
        session.side_by_side = None;
    }
    Ok(serde_json::to_string(&(versions(), unfinished, encoder, list.len(), list.hash(), list.cuts(), list.keys()))?)
}

/// Opens or begins the file; whether what was there was of use, where anything was.
fn kept(path: &Path, of: &str, resume: Resume) -> io::Result<(KeptSegments, bool)> {
    let is_there = resume == Resume::TakeUp && fs::symlink_metadata(path).is_ok_and(|metadata| is_ours(&metadata));
    let found = if is_there { KeptSegments::go_on(path, of)? } else { None };
    match found {
        Some(found) => Ok((found, true)),
        None => Ok((KeptSegments::begin(path, of)?, !is_there)),
    }
}

/// Removes the first passes that are kept beside an output.
fn remove_all(output: &Path) {
    let Ok(entries) = fs::read_dir(folder_of(output)) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_journal_of(path, output)) {
        // Where it cannot be removed, a later job will tell that it is not its own.
        let _ = fs::remove_file(path);
    }
}

fn is_journal_of(path: &Path, output: &Path) -> bool {
    if path.file_name() == hidden_beside(output, SEGMENTS).file_name() {
        return true;
    }
    let prefix = hidden_beside(output, JOURNAL);
    let (Some(name), Some(prefix)) = (path.file_name(), prefix.file_name()) else { return false };
    let rest = name.to_string_lossy().strip_prefix(&*prefix.to_string_lossy()).map(str::to_owned);
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(|n| n.parse::<usize>().is_ok()))
}

/// What a journal's name ends with.
const JOURNAL: &str = "pass1";
/// And that of a session's segments.
const SEGMENTS: &str = "segments";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_journals_of_an_output_are_told_as_such() {
        let output = Path::new("folder/out.mkv");
        for (name, is) in [
            (".out.mkv.repass-pass1", true),
            (".out.mkv.repass-pass1-12", true),
            (".out.mkv.repass-pass1-x", false),
            (".out.mkv.repass-pass1.part", false),
            (".out.mkv.repass-segments", true),
            (".out.mkv.repass-segments-1", false),
            (".out.mkv2.repass-pass1", false),
            ("out.mkv", false),
        ] {
            assert_eq!(is_journal_of(&Path::new("folder").join(name), output), is, "{name}");
        }
        assert!(is_journal_of(&journal(output, None), output) && is_journal_of(&journal(output, Some(3)), output));
    }
}
