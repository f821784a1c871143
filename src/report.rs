//! What was done, as plain data: for the summary, for `--json`, for whoever builds on the crate.
//!
//! Invariant: what could not be known is absent, never zero.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::av::Versions;
use crate::cache::{CachePlan, SpillReport};
use crate::frames::Damage;
use crate::job::FirstPass;
use crate::plan::EncoderPlan;
use crate::rate::QualityTarget;
use crate::session::Stopped;
use crate::stats::artefact::Header;

/// A whole job.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The linked libraries.
    pub versions: Versions,
    /// The input.
    #[serde(serialize_with = "crate::report::path_as_text")]
    pub input: PathBuf,
    /// Frames that were encoded.
    pub frames: u64,
    /// Seconds of video.
    pub seconds: f64,
    /// Hash of the frame list: times and pixels of every frame, as the encoders saw them.
    pub frames_hash: String,
    /// What was damaged in the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// The runs, in order.
    pub runs: Vec<RunReport>,
    /// The renditions, in the job's order.
    pub renditions: Vec<RenditionReport>,
    /// The cache as it was planned.
    pub cache: CachePlan,
    /// Frames that it kept.
    pub cached_frames: u64,
    /// What became of those that memory had no room for; absent where there were none, or memory alone was allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spill: Option<SpillReport>,
    /// Seconds from beginning to end, with opening and planning. What the renditions would have taken one by one is not here:
    /// side by side they share decoder, caches and cores, and only running them tells (`benches/ladder.rs`).
    pub wall_seconds: f64,
    /// CPU seconds, user and system, of the whole process meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Greatest resident memory of the process in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Everything that deserves to be known.
    pub warnings: Vec<String>,
}

/// One run: all renditions' passes side by side.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// Which, from 1.
    pub number: u8,
    /// Frames handed out.
    pub frames: u64,
    /// Of these, frames that came from the cache.
    pub from_cache: u64,
    /// Seconds of making frames: reading, decoding, filtering, hashing.
    pub making_seconds: f64,
    /// Seconds of waiting for encoders to take frames.
    pub blocked_seconds: f64,
    /// Seconds from beginning to end.
    pub wall_seconds: f64,
    /// CPU seconds of the whole process meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Of these, seconds in the kernel, to the hundredth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_seconds: Option<f64>,
}

/// One rendition.
#[derive(Debug, Clone, Serialize)]
pub struct RenditionReport {
    /// Its name.
    pub name: String,
    /// The output.
    #[serde(serialize_with = "crate::report::path_as_text")]
    pub output: PathBuf,
    /// The plan as it was run; settings that the run filled in (paths, a size target's bit rate) are in the passes.
    pub plan: EncoderPlan,
    /// Where the statistics of its second pass came from.
    pub first_pass: FirstPass,
    /// The passes, in order; without a first one where its statistics came from elsewhere, and with a second one several
    /// times where a size was missed.
    pub passes: Vec<PassReport>,
    /// Bytes of the whole file; in a package, of the rendition's own segments.
    pub bytes: u64,
    /// Bytes of its video packets.
    pub video_bytes: u64,
    /// Average bit rate of the video in bits per second.
    pub video_bps: f64,
    /// How far the video is from the bit rate aimed at, as a share: 0.01 is one per cent over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitrate_error: Option<f64>,
    /// How far the file is from the size aimed at, as a share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_error: Option<f64>,
    /// Why that is more than one per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_missed: Option<String>,
    /// What its session did, where it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionReport>,
    /// Whether the file was read back and found whole.
    pub verified: bool,
}

/// A session.
#[derive(Debug, Clone, Serialize)]
pub struct SessionReport {
    /// Why there was no further pass; only `satisfied` is on target.
    pub stopped: Stopped,
    /// The passes, in order.
    pub passes: Vec<SessionPassReport>,
    /// Frames that were encoded for the first guess, and thrown away.
    pub probed_frames: u64,
    /// Codings of segments that were taken from an earlier run, which was interrupted.
    pub taken_up: u64,
    /// The quality that the segments were held to, where one is the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityReport>,
    /// The segments of the stream as it is.
    pub segments: Vec<SegmentReport>,
}

/// What a session towards a quality came to. Values are in the metric's unit.
#[derive(Debug, Clone, Serialize)]
pub struct QualityReport {
    /// What every segment was to have.
    pub wanted: QualityTarget,
    /// What all were held to instead, because the whole would have been above the cap: the cap decided, and not the quality.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lowered_to: Option<f64>,
    /// Mean over all frames.
    pub mean: f64,
    /// Segments that are not as near to it as they were to be, by their numbers, from 0. One that is better, where the next
    /// level of its encoder is too far on the other side, is not among them.
    pub missed: Vec<u64>,
}

/// One pass of a session.
#[derive(Debug, Clone, Serialize)]
pub struct SessionPassReport {
    /// The ranges it was over: the number of the first frame, from 0, and of the first that is not in it.
    pub ranges: Vec<(u64, u64)>,
    /// Frames in them.
    pub frames: u64,
}

/// One segment of a session's stream.
#[derive(Debug, Clone, Serialize)]
pub struct SegmentReport {
    /// The number of its first frame, from 0.
    pub first_frame: u64,
    /// How many it has.
    pub frames: u64,
    /// Its level of constant quality, on the encoder's own scale.
    pub level: f64,
    /// Bytes of its packets.
    pub bytes: u64,
    /// Mean over its frames in the metric's unit, where a quality is the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<f64>,
    /// How many versions of it were made.
    pub versions: u64,
}

/// One pass of one rendition.
#[derive(Debug, Clone, Serialize)]
pub struct PassReport {
    /// Which, from 1.
    pub number: u8,
    /// Frames encoded.
    pub frames: u64,
    /// Packets that came out; a first pass of libvpx or libaom has none. In a session, those of the whole stream.
    pub packets: u64,
    /// Bytes of these packets.
    pub bytes: u64,
    /// Bytes of statistics written, sidecars included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats_bytes: Option<u64>,
    /// Bit rate that the encoder was given, in bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bps: Option<u64>,
    /// Average bit rate of what came out in bits per second; absent for a pass that only analyses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bps: Option<f64>,
    /// Seconds from beginning to end.
    pub wall_seconds: f64,
    /// Seconds of waiting for frames: of the encoder for the decoder, the filters, or slower renditions.
    pub starved_seconds: f64,
    /// Seconds of waiting for the output.
    pub blocked_seconds: f64,
}

impl Report {
    /// The report as JSON, on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data with text keys always serialises")
    }
}

/// A path as text, with replacement characters for what is none: serde would refuse the whole report over it.
#[expect(clippy::ptr_arg, reason = "serde passes a reference to the field")]
pub(crate) fn path_as_text<S: Serializer>(path: &PathBuf, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

pub(crate) fn optional_path_as_text<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

/// A first pass that was kept.
#[derive(Debug, Clone, Serialize)]
pub struct AnalysisReport {
    /// The linked libraries.
    pub versions: Versions,
    /// The input.
    #[serde(serialize_with = "crate::report::path_as_text")]
    pub input: PathBuf,
    /// The file with the statistics.
    #[serde(serialize_with = "crate::report::path_as_text")]
    pub output: PathBuf,
    /// What was damaged in the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// What they are of.
    pub analysed: Header,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of the statistics as the encoder wrote them.
    pub stats_bytes: u64,
    /// Seconds from beginning to end.
    pub wall_seconds: f64,
    /// CPU seconds, user and system, of the whole process meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Everything that deserves to be known.
    pub warnings: Vec<String>,
}

impl AnalysisReport {
    /// The report as JSON, on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data with text keys always serialises")
    }
}
