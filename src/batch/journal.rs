//! What batches have done, one line of JSON for each job, beside the outputs.
//!
//! Invariant: a line counts only while source, request and outputs are what they were; what is in it is compared, and never
//! used as a path or an option.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Display, Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::av::muxer::Container;
use crate::av::versions;
use crate::cache::{CacheMode, CachePlan};
use crate::job::{JobRequest, Resume};
use crate::rate::ByteSize;
use crate::sink::files_of_package;
use crate::source::Fingerprint;

/// The journal of one folder.
pub(super) struct Journal {
    path: PathBuf,
}

/// One job that was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    input: Fingerprint,
    request: String,
    outputs: Vec<Written>,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    name: String,
    bytes: u64,
    hash: String,
}

impl Journal {
    /// The journal of the folder that the job's first output goes to.
    pub(super) fn beside(job: &JobRequest) -> Self {
        let folder = job.renditions.first().and_then(|rendition| rendition.output.parent());
        Journal { path: folder.unwrap_or(Path::new("")).join(NAME) }
    }

    pub(super) fn path(&self) -> Display<'_> {
        self.path.display()
    }

    /// Whether the job was done of this very source, and its outputs are as they were written.
    pub(super) fn has(&self, job: &JobRequest, input: &Fingerprint) -> bool {
        let Ok(text) = fs::read(&self.path) else { return false };
        let request = fingerprint(job);
        // Whatever is not a line of ours, for instance one that a crash cut short, says nothing.
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let mut lines = lines.filter(|line| line.input == *input && line.request == request);
        lines.any(|line| outputs(job).is_ok_and(|outputs| outputs == line.outputs))
    }

    /// Notes that the job was done.
    pub(super) fn add(&self, job: &JobRequest, input: &Fingerprint) -> io::Result<()> {
        let line = Line { input: input.clone(), request: fingerprint(job), outputs: outputs(job)? };
        // In one piece, for others may be writing too; and on a line of its own, whatever a crash left before it.
        let start = if self.is_torn() { "\n" } else { "" };
        let text = format!("{start}{}\n", serde_json::to_string(&line)?);
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        // In a folder that others may write to, a link under this name would lead into a file of ours.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NOFOLLOW.bits() as i32);
        options.open(&self.path)?.write_all(text.as_bytes())
    }

    /// Whether the last line does not end.
    fn is_torn(&self) -> bool {
        let last = || -> io::Result<u8> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::End(-1))?;
            let mut byte = [0];
            file.read_exact(&mut byte)?;
            Ok(byte[0])
        };
        last().is_ok_and(|byte| byte != b'\n')
    }
}

/// Everything that decides what comes out, as one hash: the request as it was made, whatever part of the budget it gets, and
/// the versions that carry it out. Not where frames wait meanwhile, by how many threads they are decoded, how long a stage may
/// stand still, whether a file may be replaced, nor what an earlier run has done of it.
fn fingerprint(job: &JobRequest) -> String {
    let mut job = job.clone();
    job.cache = CachePlan { mode: CacheMode::None, budget: ByteSize(0), spill_dir: None };
    job.input.path = PathBuf::new();
    job.decoder_threads = None;
    job.stall_timeout = None;
    job.resume = Resume::default();
    for rendition in &mut job.renditions {
        rendition.overwrite = false;
        rendition.output = rendition.output.file_name().map(PathBuf::from).unwrap_or_default();
        rendition.encoder.verbose = false;
    }
    let all = format!("{} {:?} {job:?}", env!("CARGO_PKG_VERSION"), versions());
    format!("{:016x}", xxh3_64(all.as_bytes()))
}

/// Every file of every output; of renditions that are one package, its files once.
fn outputs(job: &JobRequest) -> io::Result<Vec<Written>> {
    let mut outputs: Vec<Written> = Vec::new();
    let mut packages: Vec<&Path> = Vec::new();
    for rendition in &job.renditions {
        let (path, format) = (rendition.output.as_path(), rendition.container.as_deref());
        if !Container::for_path(path, format).is_ok_and(|container| container.is_package()) {
            outputs.push(written(path)?);
        } else if !packages.contains(&path) {
            packages.push(path);
            for file in files_of_package(path)? {
                outputs.push(written(&path.with_file_name(file))?);
            }
        }
    }
    Ok(outputs)
}

fn written(path: &Path) -> io::Result<Written> {
    let mut file = File::open(path)?;
    let (mut hash, mut bytes, mut part) = (Xxh3::new(), 0, vec![0; 1 << 16]);
    loop {
        match file.read(&mut part)? {
            0 => break,
            length => {
                hash.update(&part[..length]);
                bytes += length as u64;
            }
        }
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Written { name, bytes, hash: format!("{:016x}", hash.digest()) })
}

const NAME: &str = ".repass-journal.jsonl";
