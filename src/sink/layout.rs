//! How a package is laid out: the names of its files, and the options with which libavformat's muxers write them so.
//!
//! Invariant: what is written and the ffmpeg commands that a plan prints have one layout.

use std::path::Path;

use crate::av::muxer::Container;
use crate::media::StreamKind;

/// The files of a package.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    hls: bool,
    stem: String,
    manifest: String,
    segment_seconds: f64,
    streams: Vec<LaidOut>,
}

/// A stream of a package.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LaidOut {
    pub(super) kind: StreamKind,
    /// libavcodec's name of its codec.
    codec: String,
    /// The rendition's name; `audio`, `audio2` and so on; `text`, `text2` and so on.
    pub(super) name: String,
}

impl Layout {
    /// A package of these streams, by kind and libavcodec's name of the codec; the videos are named by `renditions`, in their
    /// order. `None` for a stream that no package holds, or a video without a name.
    #[must_use]
    pub fn of(
        manifest: &Path,
        container: &Container,
        segment_seconds: f64,
        renditions: &[String],
        streams: impl IntoIterator<Item = (StreamKind, String)>,
    ) -> Option<Self> {
        let mut laid: Vec<LaidOut> = Vec::new();
        for (kind, codec) in streams {
            let before = laid.iter().filter(|known| known.kind == kind).count();
            let numbered = |name: &str| if before == 0 { name.to_owned() } else { format!("{name}{}", before + 1) };
            let name = match kind {
                StreamKind::Video => renditions.get(before)?.clone(),
                StreamKind::Audio => numbered(AUDIO),
                StreamKind::Subtitle => numbered(TEXT),
                StreamKind::Cover | StreamKind::Attachment | StreamKind::Data => return None,
            };
            laid.push(LaidOut { kind, codec, name });
        }
        let stem = manifest.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Some(Layout {
            hls: container.name() == "hls",
            // Text that needs no escape in any manifest.
            stem: if is_plain(&stem) { stem } else { "media".to_owned() },
            manifest: manifest.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            segment_seconds,
            streams: laid,
        })
    }

    pub(super) fn is_hls(&self) -> bool {
        self.hls
    }

    pub(super) fn streams(&self) -> &[LaidOut] {
        &self.streams
    }

    pub(super) fn manifest(&self) -> &str {
        &self.manifest
    }

    pub(super) fn playlist(&self, name: &str) -> String {
        format!("{}_{name}.m3u8", self.stem)
    }

    /// The subtitles of this number, from 0, as one file of WebVTT: named as the other files are, after its stream in HLS and
    /// with the stream's index in DASH.
    #[must_use]
    pub fn text(&self, number: usize) -> Option<String> {
        let is_text = |(_, stream): &(usize, &LaidOut)| stream.kind == StreamKind::Subtitle;
        let (index, stream) = self.streams.iter().enumerate().filter(is_text).nth(number)?;
        let name = if self.hls { stream.name.clone() } else { index.to_string() };
        Some(format!("{}_{name}.vtt", self.stem))
    }

    /// What libavformat's muxer is told to write, in its folder: a pattern of playlists, or the manifest.
    #[must_use]
    pub fn url(&self) -> String {
        if self.hls { self.playlist("%v") } else { self.manifest.clone() }
    }

    /// Options of libavformat's muxer for all streams that are no text; `folder` is where it writes.
    #[must_use]
    pub fn options(&self, folder: &str) -> Vec<(String, String)> {
        let stem = &self.stem;
        let segment = self.segment();
        if self.hls {
            pairs(&[
                ("hls_segment_type", "fmp4"),
                ("hls_playlist_type", "vod"),
                ("hls_list_size", "0"),
                ("hls_flags", "independent_segments"),
                ("hls_time", &segment),
                ("hls_segment_filename", &format!("{folder}/{stem}_%v_%05d.m4s")),
                ("hls_fmp4_init_filename", &format!("{stem}_%v_init.mp4")),
                ("var_stream_map", &self.variants()),
            ])
        } else {
            pairs(&[
                ("dash_segment_type", "mp4"),
                ("use_template", "1"),
                ("use_timeline", "1"),
                ("seg_duration", &segment),
                ("init_seg_name", &format!("{stem}_$RepresentationID$_init.mp4")),
                ("media_seg_name", &format!("{stem}_$RepresentationID$_$Number%05d$.m4s")),
                ("adaptation_sets", &self.adaptation_sets()),
            ])
        }
    }

    fn variants(&self) -> String {
        let mut counts = [0, 0];
        let group = if self.muxed().any(|stream| stream.kind == StreamKind::Audio) { ",agroup:audio" } else { "" };
        let variants = self.muxed().map(|stream| {
            let (kind, count) = if stream.kind == StreamKind::Video { ("v", 0) } else { ("a", 1) };
            counts[count] += 1;
            format!("{kind}:{}{group},name:{}", counts[count] - 1, stream.name)
        });
        variants.collect::<Vec<_>>().join(" ")
    }

    /// One set for each codec, since a player switches only within a set; and one for each sound, which are no alternatives
    /// of one another.
    fn adaptation_sets(&self) -> String {
        let mut sets: Vec<(&str, Vec<String>)> = Vec::new();
        for (index, stream) in self.muxed().enumerate() {
            let is_video = stream.kind == StreamKind::Video;
            match sets.iter_mut().find(|(known, _)| is_video && *known == stream.codec) {
                Some((_, members)) => members.push(index.to_string()),
                None => sets.push((if is_video { &stream.codec } else { "" }, vec![index.to_string()])),
            }
        }
        let set = |(id, (_, members)): (usize, &(&str, Vec<String>))| format!("id={id},streams={}", members.join(","));
        sets.iter().enumerate().map(set).collect::<Vec<_>>().join(" ")
    }

    /// The streams that libavformat's muxer of the package writes.
    fn muxed(&self) -> impl Iterator<Item = &LaidOut> {
        self.streams.iter().filter(|stream| stream.kind != StreamKind::Subtitle)
    }

    /// A hair less than the distance of key frames: rounded up, every second one would be missed.
    fn segment(&self) -> String {
        format!("{}us", ((self.segment_seconds * 1e6).floor() as u64).saturating_sub(1).max(1))
    }
}

/// Whether a rendition can have this name in a package: text that needs no escape, and no name of sound or subtitles.
pub(super) fn can_name(rendition: &str) -> bool {
    is_plain(rendition) && !rendition.starts_with(AUDIO) && !rendition.starts_with(TEXT)
}

pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn pairs(options: &[(&str, &str)]) -> Vec<(String, String)> {
    options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const AUDIO: &str = "audio";
const TEXT: &str = "text";
