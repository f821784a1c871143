//! What becomes of the streams that are not encoded: copied, transcoded, left out, each said in the plan.
//!
//! Invariant: nothing that a person would miss is left out without being asked for: sound and subtitles that the container
//! cannot hold are a refusal, attachments and data are a warning.

use serde::Serialize;

use crate::audio::AudioSpec;
use crate::error::Refusal;
use crate::media::{SourceInfo, StreamInfo, StreamKind};

/// What to do with audio.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioChoice {
    /// Leave it out.
    None,
    /// Copy every stream as it is.
    #[default]
    Copy,
    /// Encode every stream anew.
    Transcode(AudioSpec),
}

/// What to do with subtitles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SubtitleChoice {
    /// Leave them out.
    None,
    /// Copy every stream as it is.
    #[default]
    Copy,
}

/// What becomes of one stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamPlan {
    /// The stream.
    pub stream: StreamInfo,
    /// Its fate.
    pub fate: Fate,
}

/// What becomes of a stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is the video that is encoded.
    Encode,
    /// Packets are taken over as they are.
    Copy,
    /// Decoded and encoded anew.
    Transcode(AudioSpec),
    /// Subtitles of text, written as WebVTT.
    WebVtt,
    /// Left out, because it was asked for.
    NotWanted,
    /// Left out, because the container cannot hold it.
    LeftOut,
}

impl Fate {
    /// Whether packets of it reach the output beside the video.
    #[must_use]
    pub fn is_carried(&self) -> bool {
        matches!(self, Fate::Copy | Fate::Transcode(_) | Fate::WebVtt)
    }
}

/// What the plan needs to know of a container.
pub(crate) struct Holder<'c> {
    pub(crate) name: &'c str,
    pub(crate) holds: &'c dyn Fn(StreamKind, &str) -> bool,
    /// Whether subtitles of this codec can be in it once they are WebVTT.
    pub(crate) takes_text: &'c dyn Fn(&str) -> bool,
}

/// Decides what becomes of each stream; also gives warnings for what is left out unasked.
///
/// # Errors
/// [`Refusal::Container`] for sound or subtitles that the container cannot hold.
pub(crate) fn decide(
    source: &SourceInfo,
    audio: &AudioChoice,
    subtitles: SubtitleChoice,
    container: &Holder<'_>,
) -> Result<(Vec<StreamPlan>, Vec<String>), Refusal> {
    let mut warnings = Vec::new();
    let mut plans = Vec::new();
    for stream in &source.streams {
        let fate =
            if stream.index == source.video.index { Fate::Encode } else { fate(stream, audio, subtitles, container)? };
        if fate == Fate::LeftOut {
            warnings.push(left_out(stream, container.name));
        }
        plans.push(StreamPlan { stream: stream.clone(), fate });
    }
    Ok((plans, warnings))
}

fn fate(
    stream: &StreamInfo,
    audio: &AudioChoice,
    subtitles: SubtitleChoice,
    container: &Holder<'_>,
) -> Result<Fate, Refusal> {
    let held = (container.holds)(stream.kind, &stream.codec);
    match (stream.kind, audio, subtitles) {
        (StreamKind::Audio, AudioChoice::None, _) | (StreamKind::Subtitle, _, SubtitleChoice::None) => {
            Ok(Fate::NotWanted)
        }
        (StreamKind::Audio, AudioChoice::Transcode(spec), _) => transcode(stream, spec, container),
        (StreamKind::Audio, ..) if !held => Err(refuse(
            stream,
            container,
            "encode it anew with --audio aac:160k or --audio opus:128k, leave it out with --audio none, or choose .mkv",
        )),
        (StreamKind::Subtitle, ..) if !held && stream.decodable && (container.takes_text)(&stream.codec) => {
            Ok(Fate::WebVtt)
        }
        (StreamKind::Subtitle, ..) if !held => {
            let other = if container.name == "matroska" { ".mp4" } else { ".mkv" };
            Err(refuse(stream, container, &format!("leave subtitles out with --subs none, or choose {other}")))
        }
        // One video is encoded; further ones would be copied unseen, so they are named and left out.
        (StreamKind::Video, ..) => Ok(Fate::LeftOut),
        _ if held => Ok(Fate::Copy),
        _ => Ok(Fate::LeftOut),
    }
}

fn transcode(stream: &StreamInfo, spec: &AudioSpec, container: &Holder<'_>) -> Result<Fate, Refusal> {
    if !stream.decodable {
        return Err(refuse(stream, container, "the linked libavcodec cannot decode it: --audio copy or --audio none"));
    }
    if (container.holds)(StreamKind::Audio, spec.codec()) {
        Ok(Fate::Transcode(spec.clone()))
    } else {
        Err(Refusal::Container {
            container: container.name.to_owned(),
            what: format!("{} audio", spec.codec()),
            remedy: "choose another --audio codec, or .mkv".to_owned(),
        })
    }
}

fn refuse(stream: &StreamInfo, container: &Holder<'_>, remedy: &str) -> Refusal {
    Refusal::Container {
        container: container.name.to_owned(),
        what: format!("{} stream {} ({})", stream.kind, stream.index, stream.codec),
        remedy: remedy.to_owned(),
    }
}

fn left_out(stream: &StreamInfo, container: &str) -> String {
    let what = format!("{} stream {} ({})", stream.kind, stream.index, stream.codec);
    match stream.kind {
        StreamKind::Video => format!("{what} is left out: one video stream is encoded (--video-stream chooses which)"),
        _ => format!("{what} is left out: {container} cannot hold it"),
    }
}
