//! Containers: which one a path means, and what it can hold.

use std::ffi::{CStr, c_int, c_uint};
use std::path::Path;
use std::ptr;

use ffmpeg_sys_next as ffi;

use crate::av::subtitle::is_text;
use crate::av::{c_string, initialise, text};
use crate::error::Refusal;
use crate::media::StreamKind;

/// A container that libavformat can write: one of its static descriptions.
#[derive(Clone, Copy)]
pub struct Container(&'static ffi::AVOutputFormat);

// SAFETY: a static description that is never written.
unsafe impl Send for Container {}
// SAFETY: as above.
unsafe impl Sync for Container {}

impl Container {
    /// The container that `format` names, else the one that the path's extension means.
    ///
    /// # Errors
    /// [`Refusal::Container`] where libavformat knows none, or one that is not a single file.
    pub fn for_path(path: &Path, format: Option<&str>) -> Result<Self, Refusal> {
        let called = || match (format, path.extension()) {
            (Some(format), _) => format.to_owned(),
            (None, Some(extension)) => format!(".{}", extension.display()),
            (None, None) => format!("{}", path.display()),
        };
        let refuse = |what: &str, remedy: &str| Refusal::Container {
            container: called(),
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        };
        let found =
            guess(path, format).ok_or_else(|| refuse("anything", "no such container; use .mp4, .mkv or .webm"))?;
        let several = found.flags() & (ffi::AVFMT_NOFILE | ffi::AVFMT_NEEDNUMBER) != 0 || found.is_any(SEVERAL_FILES);
        if several && !found.is_package() {
            return Err(refuse("a video in one file", "use .mp4, .mkv or .webm"));
        }
        Ok(found)
    }

    /// libavformat's name of it, for instance `mp4` or `matroska`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        // SAFETY: names of libavformat's static descriptions are static ASCII strings.
        unsafe { CStr::from_ptr(self.0.name) }.to_str().unwrap_or_default()
    }

    /// Whether it keeps an encoder's headers once, before the packets (`AV_CODEC_FLAG_GLOBAL_HEADER`).
    #[must_use]
    pub fn global_header(&self) -> bool {
        self.flags() & ffi::AVFMT_GLOBALHEADER != 0
    }

    /// Whether it is a manifest with segments beside it: HLS or DASH.
    #[must_use]
    pub fn is_package(&self) -> bool {
        self.is_any(PACKAGES)
    }

    /// The container of a package's segments.
    pub(crate) fn of_segments() -> Option<Container> {
        guess(Path::new("x.mp4"), None)
    }

    /// The container of a package's subtitles.
    pub(crate) fn of_text() -> Option<Container> {
        guess(Path::new("x.vtt"), None)
    }

    /// Whether subtitles of text can be in it once they are WebVTT.
    pub(crate) fn takes_text(&self, codec: &str) -> bool {
        self.is_package() && is_text(codec)
    }

    /// Whether it is one bare stream without structure (`.h264`, `.ivf`, `.obu`): no second stream, no metadata, mostly no
    /// times.
    #[must_use]
    pub fn is_elementary(&self) -> bool {
        let none = ffi::AVCodecID::AV_CODEC_ID_NONE;
        let one_default = (self.0.video_codec != none) != (self.0.audio_codec != none);
        self.is_any(ELEMENTARY) || one_default && self.0.codec_tag.is_null() && !self.is_any(SEVERAL_STREAMS)
    }

    /// Whether packets keep the times they are given.
    #[must_use]
    pub fn keeps_times(&self) -> bool {
        self.flags() & ffi::AVFMT_NOTIMESTAMPS == 0 && (!self.is_elementary() || self.is_any(&["ivf"]))
    }

    /// Whether a stream of this kind and codec (libavcodec's name) can be in it, as the ffmpeg command line would find out
    /// by trying.
    #[must_use]
    pub fn holds(&self, kind: StreamKind, codec: &str) -> bool {
        if self.is_package() {
            if kind == StreamKind::Subtitle {
                return codec == "webvtt";
            }
            let segments = Container::of_segments().filter(|_| matches!(kind, StreamKind::Video | StreamKind::Audio));
            return segments.is_some_and(|segments| segments.holds(kind, codec));
        }
        match kind {
            StreamKind::Attachment => self.is_any(&["matroska"]),
            StreamKind::Data => self.is_any(&["mpegts"]) && MPEGTS_DATA.contains(&codec),
            StreamKind::Cover => self.keeps_covers_apart() && COVER_CODECS.contains(&codec),
            StreamKind::Video => self.holds_codec(codec, ffi::AVMediaType::AVMEDIA_TYPE_VIDEO),
            StreamKind::Audio => self.holds_codec(codec, ffi::AVMediaType::AVMEDIA_TYPE_AUDIO),
            StreamKind::Subtitle => self.holds_codec(codec, ffi::AVMediaType::AVMEDIA_TYPE_SUBTITLE),
        }
    }

    fn holds_codec(&self, codec: &str, kind: ffi::AVMediaType) -> bool {
        let Some((id, its_kind)) = codec_id(codec) else { return false };
        let listed = |table: &[(&str, &[&str])]| {
            table.iter().any(|(format, codecs)| self.is_any(&[format]) && codecs.contains(&codec))
        };
        // SAFETY: takes nothing and returns a constant.
        let flac_is_experimental = unsafe { ffi::avformat_version() } >> 16 < FLAC_IN_MP4;
        if its_kind != kind || listed(REFUSED) || flac_is_experimental && self.name() == "mp4" && codec == "flac" {
            return false;
        }
        // libavformat answers "unknown" (an error code) for muxers that have neither a table nor a question of their own.
        // SAFETY: the description is static; the call only looks things up.
        match unsafe { ffi::avformat_query_codec(self.0, id, ffi::FF_COMPLIANCE_NORMAL) } {
            1.. => true,
            0 => listed(UNLISTED) || self.is_any(&["matroska"]) && in_riff(id),
            _ => listed(UNLISTED),
        }
    }

    /// The tag that a copied stream keeps: its own where the container has it for this codec, has none for it, or has no
    /// tags at all; else 0, which lets the container choose.
    pub(super) fn tag_for(&self, parameters: &ffi::AVCodecParameters) -> u32 {
        let tags = self.0.codec_tag;
        let kept = parameters.codec_tag;
        if tags.is_null() {
            return kept;
        }
        let mut other: c_uint = 0;
        // SAFETY: the tables are static and end with NONE; both calls only look things up.
        let takes = unsafe {
            ffi::av_codec_get_id(tags, kept) == parameters.codec_id
                || ffi::av_codec_get_tag2(tags, parameters.codec_id, &raw mut other) == 0
        };
        if takes { kept } else { 0 }
    }

    /// Whether packets come back from it as they were given, one for one: no parser has to find their borders again.
    #[must_use]
    pub fn keeps_packets(&self) -> bool {
        self.is_any(MOV_FAMILY) || self.is_any(&["matroska", "webm", "nut"])
    }

    /// Whether its header says how long it is, and carries static HDR metadata.
    #[must_use]
    pub fn has_rich_header(&self) -> bool {
        self.is_any(MOV_FAMILY) || self.is_any(&["matroska", "webm"])
    }

    /// Whether a cover picture comes back as a cover picture, and not as one more video stream.
    #[must_use]
    pub fn keeps_covers_apart(&self) -> bool {
        self.is_any(COVER_AS_PICTURE) || self.attaches_covers()
    }

    /// Whether a cover picture is a file that is attached, and not a stream with one packet.
    pub(super) fn attaches_covers(&self) -> bool {
        self.is_any(&["matroska"])
    }

    /// The demuxer that reads it; null where it must be probed.
    pub(crate) fn demuxer(&self) -> *const ffi::AVInputFormat {
        let name = match self.name() {
            _ if self.is_any(MOV_FAMILY) => "mov",
            "webm" => "matroska",
            name => name,
        };
        // SAFETY: terminated; the result is null or static.
        c_string(name).map_or(ptr::null(), |name| unsafe { ffi::av_find_input_format(name.as_ptr()) })
    }

    pub(super) fn is_any(&self, names: &[&str]) -> bool {
        names.contains(&self.name())
    }

    pub(super) fn flags(&self) -> c_int {
        self.0.flags
    }

    pub(super) fn as_ptr(&self) -> *const ffi::AVOutputFormat {
        self.0
    }
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Container").field(&self.name()).finish()
    }
}

fn guess(path: &Path, format: Option<&str>) -> Option<Container> {
    initialise();
    let name = format.map(c_string).transpose().ok()?;
    // Only the extension counts, and it is the only part that must be text.
    let file = c_string(&format!("x.{}", path.extension().unwrap_or_default().display())).ok()?;
    let (name, file) = match &name {
        Some(name) => (name.as_ptr(), ptr::null()),
        None => (ptr::null(), file.as_ptr()),
    };
    // SAFETY: each is null or a terminated string; the result is null or static.
    unsafe { ffi::av_guess_format(name, file, ptr::null()).as_ref() }.map(Container)
}

/// The number and kind of a codec, by libavcodec's name.
fn codec_id(name: &str) -> Option<(ffi::AVCodecID, ffi::AVMediaType)> {
    let name = c_string(name).ok()?;
    // SAFETY: the string is terminated; the result is null or a static description.
    let descriptor = unsafe { ffi::avcodec_descriptor_get_by_name(name.as_ptr()).as_ref() }?;
    Some((descriptor.id, descriptor.type_))
}

/// Whether the codec has a RIFF tag: Matroska can then carry it as Windows did (`V_MS/VFW/FOURCC`, `A_MS/ACM`).
fn in_riff(id: ffi::AVCodecID) -> bool {
    // SAFETY: both return static tables.
    let tables = unsafe { [ffi::avformat_get_riff_video_tags(), ffi::avformat_get_riff_audio_tags(), ptr::null()] };
    // SAFETY: the list ends with null, the tables with NONE.
    unsafe { ffi::av_codec_get_tag(tables.as_ptr(), id) != 0 }
}

/// libavformat's default codec name of a number: `unknown` for none.
pub(crate) fn codec_name(id: ffi::AVCodecID) -> String {
    // SAFETY: always a static string.
    unsafe { text(ffi::avcodec_get_name(id)) }.unwrap_or_default()
}

/// Muxers that write a playlist and segments, or pass on to other muxers.
const SEVERAL_FILES: &[&str] = &[
    "dash",
    "fifo",
    "hds",
    "hls",
    "image2",
    "segment",
    "smoothstreaming",
    "ssegment",
    "stream_segment",
    "tee",
    "webm_chunk",
];

/// Of these, a manifest with segments.
const PACKAGES: &[&str] = &["hls", "dash"];

/// All that libavformat's mov muxer writes.
const MOV_FAMILY: &[&str] = &["mov", "mp4", "ipod", "3gp", "3g2", "psp", "ismv", "f4v"];

/// Bare streams that libavformat describes like containers.
const ELEMENTARY: &[&str] = &["ivf", "obu"];

/// Containers that libavformat describes like bare streams.
const SEVERAL_STREAMS: &[&str] = &["matroska", "mpegts", "nut", "ogg"];

/// Where a cover picture is stored as such; elsewhere it can only be a video track.
const COVER_AS_PICTURE: &[&str] = &["mp4", "ipod"];

const COVER_CODECS: &[&str] = &["mjpeg", "png", "bmp"];

const MPEGTS_DATA: &[&str] = &["klv", "timed_id3", "scte_35"];

/// What muxers have a tag for, and yet refuse when the header is written (`movenc.c`, `flvenc.c`).
const REFUSED: &[(&str, &[&str])] =
    &[("mov", &["av1", "vp8", "vp9", "opus", "flac", "truehd"]), ("mp4", &["truehd"]), ("flv", &["mpeg4", "h263"])];

/// The major version of libavformat from which FLAC in MP4 needs no `-strict experimental`.
const FLAC_IN_MP4: u32 = 60;

/// What muxers hold although `avformat_query_codec` has no answer, or a wrong one.
const UNLISTED: &[(&str, &[&str])] = &[
    (
        "mpegts",
        &[
            "mpeg1video",
            "mpeg2video",
            "mpeg4",
            "h264",
            "hevc",
            "vvc",
            "cavs",
            "avs2",
            "avs3",
            "dirac",
            "vc1",
            "mp1",
            "mp2",
            "mp3",
            "aac",
            "aac_latm",
            "ac3",
            "eac3",
            "dts",
            "truehd",
            "opus",
            "s302m",
            "dvb_subtitle",
            "dvb_teletext",
            "hdmv_pgs_subtitle",
            "arib_caption",
        ],
    ),
    ("matroska", &["dnxhd"]),
    ("ogg", &["theora", "vp8", "vorbis", "opus", "flac", "speex"]),
    ("mpeg", &["mpeg1video", "mpeg2video", "h264", "mp2", "mp3", "ac3", "dts", "dvd_subtitle"]),
    ("vob", &["mpeg1video", "mpeg2video", "mp2", "mp3", "ac3", "dts", "dvd_subtitle"]),
];
