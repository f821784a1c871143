//! Is what was written what was encoded? Compares a finished file with what its muxer was given.

use std::path::Path;

use crate::av::inspect::{Inspection, inspect, inspect_segments};
use crate::av::muxer::{Container, Tally};
use crate::event::Cancel;
use crate::media::StreamKind;

/// Reads the whole file back.
///
/// # Errors
/// The first thing that does not match, in words.
pub(super) fn verify(path: &Path, container: &Container, written: &[Tally], cancel: &Cancel) -> Result<(), String> {
    let found = inspect(path, container, cancel).map_err(|error| format!("cannot be read back: {error}"))?;
    for kind in KINDS {
        let of_kind = |tallies: &[Tally]| -> Vec<Tally> {
            tallies.iter().filter(|tally| shown_as(tally.kind, container) == kind).cloned().collect()
        };
        let (written, found) = (of_kind(written), of_kind(&found.streams));
        if found.len() < written.len() {
            return Err(format!("{} of {} {kind} streams are there", found.len(), written.len()));
        }
        for (index, (written, found)) in written.iter().zip(&found).enumerate() {
            compare(written, found, container).map_err(|why| format!("{kind} stream {index}: {why}"))?;
        }
    }
    length(&found, container, written)
}

/// Reads one stream of a package back from its segments, as `list` names them.
///
/// # Errors
/// As for [`verify`].
pub(super) fn verify_segments(list: &Path, written: &Tally, cancel: &Cancel) -> Result<(), String> {
    let found = inspect_segments(list, cancel).map_err(|error| format!("the segments cannot be read back: {error}"))?;
    let container = Container::of_segments().ok_or("the linked libavformat has no MP4")?;
    let [found] = found.streams.as_slice() else { return Err("the segments are not of one stream".to_owned()) };
    // Whether static HDR metadata gets into segments is libavformat's affair; the stream carries it itself.
    compare(&Tally { hdr: false, ..written.clone() }, found, &container)
}

/// As what a stream of this kind comes back.
fn shown_as(kind: StreamKind, container: &Container) -> StreamKind {
    match kind {
        StreamKind::Cover if !container.keeps_covers_apart() => StreamKind::Video,
        kind => kind,
    }
}

fn compare(written: &Tally, found: &Tally, container: &Container) -> Result<(), String> {
    let video = written.kind == StreamKind::Video;
    let exact = match written.kind {
        // Hidden VP9 frames of their own are joined with the frame that shows them (libavformat's vp9_superframe).
        StreamKind::Video => !(written.copied && written.codec == "vp9"),
        StreamKind::Audio => container.keeps_packets() && !written.codec.starts_with("pcm_"),
        // MP4 fills the gaps between text samples with empty ones.
        StreamKind::Subtitle => container.keeps_packets() && written.codec != "mov_text",
        _ => false,
    };
    if exact && found.packets != written.packets {
        return Err(format!("{} packets were written, {} are there", written.packets, found.packets));
    }
    if matches!(written.kind, StreamKind::Audio | StreamKind::Subtitle) && written.packets > 0 && found.packets == 0 {
        return Err(format!("{} packets were written, none is there", written.packets));
    }
    if !video {
        return Ok(());
    }
    if found.codec != written.codec {
        return Err(format!("{} was written, {} is there", written.codec, found.codec));
    }
    // Elsewhere only a parser knows key frames.
    let marks_keys = container.keeps_packets();
    if marks_keys && written.starts_with_key == Some(true) && found.starts_with_key != Some(true) {
        return Err("the first packet is no key frame".to_owned());
    }
    if written.hdr && !found.hdr && container.has_rich_header() {
        return Err("the HDR metadata is missing".to_owned());
    }
    times(written, found, container)
}

/// The shown times must span what they spanned, give or take two frames. Those of a copy may lie before 0, where not every
/// container can keep them.
fn times(written: &Tally, found: &Tally, container: &Container) -> Result<(), String> {
    let comparable = container.keeps_times() && !written.copied;
    let (Some(expected), true) = (written.span_seconds(), comparable) else { return Ok(()) };
    let Some(span) = found.span_seconds() else { return Err("the times are missing".to_owned()) };
    let tolerance = two_frames(written);
    if (span - expected).abs() > tolerance {
        return Err(format!("{expected:.3} s were written, {span:.3} s are there"));
    }
    Ok(())
}

/// The container's own word on its length must cover the video.
fn length(found: &Inspection, container: &Container, written: &[Tally]) -> Result<(), String> {
    // A copied stream may begin before 0, and such a part is not shown.
    let video = written.iter().find(|tally| tally.kind == StreamKind::Video && !tally.copied);
    let (Some(video), true) = (video, container.has_rich_header()) else { return Ok(()) };
    let (Some(expected), Some(says)) = (video.span_seconds(), found.seconds) else { return Ok(()) };
    if says + two_frames(video) < expected {
        return Err(format!("the header says {says:.3} s, {expected:.3} s were written"));
    }
    Ok(())
}

fn two_frames(video: &Tally) -> f64 {
    let frames = video.packets.saturating_sub(1).max(1) as f64;
    2.0 * video.span_seconds().unwrap_or(0.0) / frames + ROUNDING_SECONDS
}

/// Matroska counts milliseconds.
const ROUNDING_SECONDS: f64 = 0.002;

const KINDS: [StreamKind; 6] = [
    StreamKind::Video,
    StreamKind::Cover,
    StreamKind::Audio,
    StreamKind::Subtitle,
    StreamKind::Attachment,
    StreamKind::Data,
];
