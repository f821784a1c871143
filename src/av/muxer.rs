//! Muxers: packets into a container, through a writer of ours, with the times the ffmpeg command line would write.
//!
//! Invariants: a header is written once and before any packet; the operating system's own error wins over libav's; nothing is
//! finished (no trailer) unless [`Muxer::finish`] is called.

use std::ffi::{CString, c_int};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};

use ffmpeg_sys_next as ffi;

use crate::av::log::LogMark;
use crate::av::option::Dictionary;
use crate::av::packet::Packet;
use crate::av::side_data;
use crate::av::source::{Chapter, FileHeaders, StreamParameters};
use crate::av::{AvError, OUT_OF_MEMORY, c_string, check, dotted, initialise};
use crate::error::Error;
use crate::media::{Rational, StreamKind};

mod container;
mod encoded;
mod track;
mod writer;

pub use container::Container;
pub(crate) use container::codec_name;
pub use encoded::EncodedStream;
pub use track::Tally;
use track::Track;
pub use writer::Media;
use writer::{NO_CONTEXT, Writer};

/// The part of a source that an output keeps.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cut {
    /// What was subtracted from the source's times, in seconds: its own start, and what was skipped.
    pub from_seconds: f64,
    /// How much is kept, in seconds; `None`: all to the end.
    pub length_seconds: Option<f64>,
}

impl Cut {
    /// Start and end of a chapter in the output, in its ticks; `None` for one that is cut off. As the ffmpeg command line
    /// does (`copy_chapters`).
    fn chapter<'a>(&self, chapter: &'a Chapter) -> Option<(&'a Chapter, i64, i64)> {
        let ticks = |seconds: f64| (seconds / chapter.time_base.value()).round() as i64;
        let from = ticks(self.from_seconds);
        let length = self.length_seconds.map_or(i64::MAX, ticks);
        if chapter.end < from || chapter.start > length.saturating_add(from) {
            return None;
        }
        Some((chapter, (chapter.start - from).max(0), (chapter.end - from).min(length)))
    }
}

/// A muxer before its header: streams are added here, in the order of their indices.
pub struct MuxerSetup {
    context: NonNull<ffi::AVFormatContext>,
    /// `None` for a package, whose files libavformat opens itself.
    writer: Option<Writer>,
    container: Container,
    /// The final name, for errors.
    path: PathBuf,
    tracks: Vec<Track>,
}

// SAFETY: everything is owned by this value alone; libavformat keeps no state of a context outside it.
unsafe impl Send for MuxerSetup {}

impl MuxerSetup {
    /// A muxer that writes to `media`. `path` is the final name, for errors. `url` is where libavformat can read back what
    /// it wrote, which some options need (`movflags=faststart`); without it they fail.
    ///
    /// # Errors
    /// Out of memory, or a `url` with a NUL in it.
    pub fn create(
        container: &Container,
        path: &Path,
        url: Option<&Path>,
        media: Box<dyn Media>,
    ) -> Result<Self, Error> {
        let writer = Writer::new(media).map_err(|source| cannot_start(path, source))?;
        let mut setup = Self::allocate(container, path, url, Some(writer))?;
        let pb = setup.writer.as_mut().map_or(NO_CONTEXT, Writer::as_mut_ptr);
        let raw = setup.raw_mut();
        raw.pb = pb;
        raw.flags |= ffi::AVFMT_FLAG_CUSTOM_IO;
        Ok(setup)
    }

    /// A muxer of a package ([`Container::is_package`]) that makes its files itself, the manifest at `url` and the others
    /// beside it. `path` is the manifest's final name, for errors.
    ///
    /// # Errors
    /// Out of memory, or a `url` with a NUL in it.
    pub fn create_package(container: &Container, path: &Path, url: &Path) -> Result<Self, Error> {
        Self::allocate(container, path, Some(url), None)
    }

    fn allocate(container: &Container, path: &Path, url: Option<&Path>, writer: Option<Writer>) -> Result<Self, Error> {
        let create = || {
            initialise();
            let url = url.map_or_else(|| Ok(CString::default()), c_path)?;
            let mut context = ptr::null_mut();
            // SAFETY: the description is static, the string terminated and copied.
            check(unsafe {
                ffi::avformat_alloc_output_context2(&raw mut context, container.as_ptr(), ptr::null(), url.as_ptr())
            })?;
            NonNull::new(context).ok_or(OUT_OF_MEMORY)
        };
        let context = create().map_err(|source| cannot_start(path, source))?;
        let mut setup =
            MuxerSetup { context, writer, container: *container, path: path.to_owned(), tracks: Vec::new() };
        setup.raw_mut().max_delay = MAX_DELAY_MICROSECONDS;
        Ok(setup)
    }

    /// Adds an encoder's stream and returns its index. `like` is the source's stream that it was made of: its tags, its
    /// disposition, and the side data that still holds (not its rotation, which was applied to the pixels).
    ///
    /// # Errors
    /// Out of memory.
    pub fn add_encoded(&mut self, stream: &EncodedStream, like: Option<&StreamParameters>) -> Result<usize, Error> {
        // Players of packages want HEVC's headers out of the stream, which they are, and want to be told so.
        let tag = if self.container.is_package() && stream.codec() == "hevc" { HVC1 } else { 0 };
        let add = |setup: &mut Self| {
            let raw = setup.new_stream(stream.parameters().as_ptr())?;
            raw.time_base = stream.time_base().into();
            raw.avg_frame_rate = stream.frame_rate().unwrap_or(UNKNOWN).into();
            raw.sample_aspect_ratio = stream.sample_aspect_ratio().unwrap_or(UNKNOWN).into();
            // SAFETY: a stream owns its parameters. A tag would be the encoder's; the container has its own.
            unsafe { (*raw.codecpar).codec_tag = tag };
            stream.side_data().iter().try_for_each(|entry| side_data::attach(raw, entry))?;
            if let Some(like) = like {
                raw.disposition = like.disposition;
                set_all(&mut raw.metadata, like.metadata.iter().filter(|(key, _)| survives_encoding(key)))?;
                stream.inherited(like).try_for_each(|entry| side_data::attach(raw, entry))?;
            }
            set(&mut raw.metadata, "encoder", &encoder_tag(stream.encoder()))
        };
        add(self).map_err(|source| self.fault("cannot add the encoded stream", source))?;
        Ok(self.track(Tally::new(stream.kind(), stream.codec())))
    }

    /// Adds a stream of the source whose packets are written as they are, and returns its index. A cover picture's packet
    /// and all others come through [`Muxer::write`]; an attachment has none.
    ///
    /// # Errors
    /// Out of memory.
    pub fn add_copied(&mut self, stream: &StreamParameters) -> Result<usize, Error> {
        let add = |setup: &mut Self| {
            let container = setup.container;
            let raw = setup.new_stream(stream.codec_parameters().as_ptr())?;
            // SAFETY: a stream owns its parameters.
            let parameters = unsafe { &mut *raw.codecpar };
            parameters.codec_tag = container.tag_for(parameters);
            forget_block_align(parameters);
            raw.time_base = stream.time_base.into();
            raw.disposition = stream.disposition;
            if parameters.codec_type == ffi::AVMediaType::AVMEDIA_TYPE_VIDEO {
                raw.avg_frame_rate = stream.average_rate.unwrap_or(UNKNOWN).into();
                raw.r_frame_rate = stream.base_rate.unwrap_or(UNKNOWN).into();
                raw.sample_aspect_ratio = stream.sample_aspect_ratio.unwrap_or(UNKNOWN).into();
                parameters.sample_aspect_ratio = raw.sample_aspect_ratio;
            }
            stream.side_data.iter().try_for_each(|entry| side_data::attach(raw, entry))?;
            set_all(&mut raw.metadata, stream.metadata.iter())?;
            if stream.kind == StreamKind::Cover && container.attaches_covers() {
                attach_cover(raw, stream)
            } else {
                Ok(())
            }
        };
        add(self).map_err(|source| self.fault(&format!("cannot add stream {}", stream.index), source))?;
        Ok(self.track(Tally { copied: true, ..Tally::new(stream.kind, stream.codec()) }))
    }

    /// Sets the container's tags and chapters: those of the source, as far as they hold for the part that `cut` keeps.
    ///
    /// # Errors
    /// Out of memory.
    pub fn set_headers(&mut self, headers: &FileHeaders, cut: &Cut) -> Result<(), Error> {
        let set = |setup: &mut Self| {
            let kept = headers.metadata.iter().filter(|(key, _)| {
                let duration_holds = cut.length_seconds.is_none() || !key.eq_ignore_ascii_case("duration");
                !is_any_of(key, OF_THE_OLD_FILE) && duration_holds
            });
            set_all(&mut setup.raw_mut().metadata, kept)?;
            headers
                .chapters
                .iter()
                .filter_map(|chapter| cut.chapter(chapter))
                .try_for_each(|(chapter, start, end)| setup.add_chapter(chapter, start, end))
        };
        set(self).map_err(|source| self.fault("cannot set tags and chapters", source))
    }

    fn add_chapter(&mut self, chapter: &Chapter, start: i64, end: i64) -> Result<(), AvError> {
        // SAFETY: zeroed memory is a valid chapter: numbers and a null dictionary.
        let fresh = unsafe { ffi::av_mallocz(size_of::<ffi::AVChapter>()) }.cast::<ffi::AVChapter>();
        // SAFETY: null or fresh and ours.
        let raw = unsafe { fresh.as_mut() }.ok_or(OUT_OF_MEMORY)?;
        (raw.id, raw.start, raw.end, raw.time_base) = (chapter.id, start, end, chapter.time_base.into());
        let context = self.raw_mut();
        let (list, mut count) = (&raw mut context.chapters, context.nb_chapters as c_int);
        // SAFETY: the list belongs to the context, which frees its chapters; `fresh` is taken over on success.
        if let Err(error) = check(unsafe { ffi::av_dynarray_add_nofree(list.cast(), &raw mut count, fresh.cast()) }) {
            // SAFETY: nobody took it over.
            unsafe { ffi::av_free(fresh.cast()) };
            return Err(error);
        }
        context.nb_chapters = count as u32;
        set_all(&mut raw.metadata, chapter.metadata.iter())
    }

    /// Writes the header. Options are the container's and libavformat's own (`movflags=faststart`).
    ///
    /// # Errors
    /// [`Error::Mux`] for a stream or an option that the container does not take, [`Error::Write`] where the writer fails.
    pub fn write_header(mut self, options: &[(String, String)]) -> Result<Muxer, Error> {
        let mut dictionary = Dictionary::new();
        for (name, value) in options {
            dictionary.set(name, value).map_err(|source| self.fault("options", source))?;
        }
        self.choose_defaults();
        let log = LogMark::now();
        // SAFETY: the context is owned, has its writer and its streams; leftovers come back in the dictionary.
        let code = unsafe { ffi::avformat_write_header(self.context.as_ptr(), dictionary.as_mut()) };
        self.outcome(code, format_args!("cannot write the header"), log)?;
        if let Some((name, value)) = dictionary.entries().into_iter().next() {
            let what = format!("{} has no option {name:?} (={value})", self.container.name());
            return Err(self.fault(&what, AvError(ffi::AVERROR_OPTION_NOT_FOUND)));
        }
        for index in 0..self.tracks.len() {
            // The header settles the time base that packets are written in.
            let (container, stream) = (self.container, ptr::from_ref(self.stream(index)));
            // SAFETY: a live stream owns its parameters; tracks are no part of either.
            let (stream, parameters) = unsafe { (&*stream, &*(*stream).codecpar) };
            self.tracks[index].start(&container, stream, parameters);
        }
        Ok(Muxer { setup: self, nudged: 0 })
    }

    /// Where a kind has several streams and none is the default, the first becomes it, as the ffmpeg command line does
    /// (`set_dispositions`).
    fn choose_defaults(&mut self) {
        for kind in [StreamKind::Video, StreamKind::Audio, StreamKind::Subtitle] {
            let of_kind: Vec<usize> =
                (0..self.tracks.len()).filter(|index| self.tracks[*index].kind() == kind).collect();
            let chosen = of_kind.iter().any(|index| self.stream(*index).disposition & ffi::AV_DISPOSITION_DEFAULT != 0);
            if let ([first, _, ..], false) = (of_kind.as_slice(), chosen) {
                self.stream(*first).disposition |= ffi::AV_DISPOSITION_DEFAULT;
            }
        }
    }

    fn new_stream(&mut self, parameters: *const ffi::AVCodecParameters) -> Result<&mut ffi::AVStream, AvError> {
        // SAFETY: the context is owned; the stream belongs to it.
        let stream = unsafe { ffi::avformat_new_stream(self.context.as_ptr(), ptr::null()).as_mut() };
        let stream = stream.ok_or(OUT_OF_MEMORY)?;
        // SAFETY: both are live, and the copy is deep.
        check(unsafe { ffi::avcodec_parameters_copy(stream.codecpar, parameters) })?;
        Ok(stream)
    }

    fn track(&mut self, mut tally: Tally) -> usize {
        let index = self.tracks.len();
        // SAFETY: the stream was just added, at this index.
        let stream = unsafe { &**self.raw_mut().streams.add(index) };
        tally.hdr = side_data::of_stream(stream).iter().any(side_data::is_hdr);
        self.tracks.push(Track::new(tally));
        index
    }

    /// Whether it is a file in the header, which takes no packets.
    fn stream_is_attached(&mut self, index: usize) -> bool {
        // SAFETY: a live stream owns its parameters.
        unsafe { (*self.stream(index).codecpar).codec_type == ffi::AVMediaType::AVMEDIA_TYPE_ATTACHMENT }
    }

    /// A stream that was added.
    fn stream(&mut self, index: usize) -> &mut ffi::AVStream {
        assert!(index < self.tracks.len(), "a stream that was added");
        // SAFETY: the context holds at least as many streams as were added, each live while it is.
        unsafe { &mut **self.raw_mut().streams.add(index) }
    }

    fn raw_mut(&mut self) -> &mut ffi::AVFormatContext {
        // SAFETY: owned and non-null for the muxer's whole life.
        unsafe { self.context.as_mut() }
    }

    /// A libav return code, unless the writer failed meanwhile: its error says more.
    fn outcome(&self, code: c_int, what: fmt::Arguments<'_>, since: LogMark) -> Result<(), Error> {
        let failed = self.writer.as_ref().and_then(Writer::error);
        match (failed, check(code)) {
            (Some(error), _) => Err(self.write_error(error)),
            // A package's files are libavformat's, and so are the system's errors about them.
            (None, Err(source)) if self.writer.is_none() && is_about_files(source) => {
                Err(self.write_error(source.os().unwrap_or_else(|| io::Error::other(source))))
            }
            (None, Err(source)) => {
                let (path, what) = (self.path.clone(), what.to_string());
                Err(Error::Mux { path, what, source, log: since.lines_of(self.container.name()) })
            }
            (None, Ok(_)) => Ok(()),
        }
    }

    fn write_error(&self, source: io::Error) -> Error {
        Error::Write { path: self.path.clone(), source }
    }

    fn fault(&self, what: &str, source: AvError) -> Error {
        Error::Mux { path: self.path.clone(), what: what.to_owned(), source, log: String::new() }
    }
}

impl Drop for MuxerSetup {
    fn drop(&mut self) {
        // libavformat would flush into the writer; the bytes of a muxer that was not finished are not wanted. A package has
        // none here.
        self.raw_mut().pb = NO_CONTEXT;
        // SAFETY: owned and freed once; the writer goes after it.
        unsafe { ffi::avformat_free_context(self.context.as_ptr()) };
    }
}

/// Makes a cover picture what it is in Matroska: an attached image, told by its name. As a stream of one packet it would come
/// back as a second video.
fn attach_cover(stream: &mut ffi::AVStream, cover: &StreamParameters) -> Result<(), AvError> {
    let (codec, bytes) = (cover.codec(), &cover.picture);
    let (kind, mime) =
        if codec == "mjpeg" { ("jpg", "image/jpeg".to_owned()) } else { (&*codec, format!("image/{codec}")) };
    let padded = bytes.len() + ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize;
    // SAFETY: allocates zeroed memory, or gives null.
    let copy = NonNull::new(unsafe { ffi::av_mallocz(padded) }.cast::<u8>()).ok_or(OUT_OF_MEMORY)?;
    // SAFETY: the copy has room for all bytes, and is new.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), copy.as_ptr(), bytes.len()) };
    // SAFETY: a stream owns its parameters, and these own their extradata.
    unsafe {
        ffi::av_freep((&raw mut (*stream.codecpar).extradata).cast());
        (*stream.codecpar).extradata = copy.as_ptr();
        (*stream.codecpar).extradata_size = bytes.len() as c_int;
        (*stream.codecpar).codec_type = ffi::AVMediaType::AVMEDIA_TYPE_ATTACHMENT;
    }
    let has = |key: &str| cover.metadata.iter().any(|(known, _)| known.eq_ignore_ascii_case(key));
    if !has("filename") {
        set(&mut stream.metadata, "filename", &format!("cover.{kind}"))?;
    }
    if has("mimetype") { Ok(()) } else { set(&mut stream.metadata, "mimetype", &mime) }
}

/// A muxer that has written its header. Dropped without [`Muxer::finish`], it leaves a file without a trailer.
pub struct Muxer {
    setup: MuxerSetup,
    nudged: u64,
}

impl Muxer {
    /// Writes a packet of the stream that [`Packet::stream`] says, its times in ticks of `time_base`.
    ///
    /// Decoding times that do not grow are moved up, as the ffmpeg command line does, and counted in [`Muxer::nudged`]. A
    /// copied stream begins with its first key packet.
    ///
    /// # Errors
    /// [`Error::Mux`] for a stream that was not added or a packet that the container refuses, [`Error::Write`] where the
    /// writer fails: at once, or up to a buffer (1 MiB) later.
    pub fn write(&mut self, mut packet: Packet, time_base: Rational) -> Result<(), Error> {
        let index = packet.stream();
        if index >= self.setup.tracks.len() {
            return Err(self.setup.fault(&format!("no stream {index}"), AvError::invalid()));
        }
        if self.setup.stream_is_attached(index) || self.setup.tracks[index].leaves_out(&packet) {
            return Ok(());
        }
        let parameters = self.setup.stream(index).codecpar;
        // SAFETY: a live stream owns its parameters, and libavformat is not running.
        if self.setup.tracks[index].fit(&mut packet, time_base, unsafe { &mut *parameters }) {
            self.nudged += 1;
        }
        let log = LogMark::now();
        // SAFETY: the header is written, the packet owned and of a stream that exists; libavformat takes its reference.
        let code = unsafe { ffi::av_interleaved_write_frame(self.setup.context.as_ptr(), packet.as_mut_ptr()) };
        self.setup.outcome(code, format_args!("a packet of stream {index}"), log)
    }

    /// How many packets had a decoding time that did not grow, or none at all.
    #[must_use]
    pub fn nudged(&self) -> u64 {
        self.nudged
    }

    /// Bytes from the beginning of the output to the furthest byte that has left the buffer; 0 for a package.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.setup.writer.as_ref().map_or(0, Writer::bytes)
    }

    /// What each stream was given so far.
    #[must_use]
    pub fn tallies(&self) -> Vec<Tally> {
        self.setup.tracks.iter().map(|track| track.tally.clone()).collect()
    }

    /// Writes what is still held back and the trailer, with which a whole file may be written anew (`movflags=faststart`):
    /// `moved` is called whenever that has come a bit further.
    ///
    /// # Errors
    /// [`Error::Mux`] or [`Error::Write`]: the first thing that failed since the last packet.
    pub fn finish(mut self, moved: &(dyn Fn() + Sync)) -> Result<Written, Error> {
        let setup = &mut self.setup;
        let (log, context) = (LogMark::now(), setup.context.as_ptr());
        // SAFETY: the header is written and no trailer yet, since this consumes the muxer.
        let write_trailer = || unsafe { ffi::av_write_trailer(context) };
        let code = match &mut setup.writer {
            Some(writer) => writer.telling(moved, write_trailer),
            None => write_trailer(),
        };
        if let Some(writer) = &mut setup.writer {
            writer.flush();
        }
        setup.outcome(code, format_args!("cannot write the trailer"), log)?;
        let mut media = setup.writer.as_mut().and_then(Writer::take);
        if let Some(media) = &mut media {
            media.flush().map_err(|source| setup.write_error(source))?;
        }
        Ok(Written { media, bytes: self.bytes(), tallies: self.tallies(), nudged: self.nudged })
    }
}

/// A finished output.
pub struct Written {
    /// The writer, flushed but not synced; `None` for a package.
    pub media: Option<Box<dyn Media>>,
    /// Bytes of the whole output.
    pub bytes: u64,
    /// What each stream was given, in the order they were added.
    pub tallies: Vec<Tally>,
    /// Packets whose decoding time was moved or made up.
    pub nudged: u64,
}

fn cannot_start(path: &Path, source: AvError) -> Error {
    Error::Mux { path: path.to_owned(), what: "cannot start".into(), source, log: String::new() }
}

/// Whether the system said it of a file, and not libavformat of its arguments.
fn is_about_files(error: AvError) -> bool {
    use io::ErrorKind::{InvalidInput, OutOfMemory};
    error.os().is_some_and(|error| !matches!(error.kind(), InvalidInput | OutOfMemory))
}

/// What the ffmpeg command line writes as a stream's `encoder`: `Lavc59.37.100 libx264`.
fn encoder_tag(encoder: &str) -> String {
    // SAFETY: takes nothing and returns a constant.
    format!("Lavc{} {encoder}", dotted(unsafe { ffi::avcodec_version() }))
}

/// Sets an entry of a dictionary that libav owns.
fn set(dictionary: &mut *mut ffi::AVDictionary, key: &str, value: &str) -> Result<(), AvError> {
    let (key, value) = (c_string(key)?, c_string(value)?);
    // SAFETY: both strings are terminated and copied; the dictionary is null or live, and its owner sees the change.
    check(unsafe { ffi::av_dict_set(dictionary, key.as_ptr(), value.as_ptr(), 0) }).map(drop)
}

fn set_all<'a>(
    dictionary: &mut *mut ffi::AVDictionary,
    mut entries: impl Iterator<Item = &'a (String, String)>,
) -> Result<(), AvError> {
    entries.try_for_each(|(key, value)| set(dictionary, key, value))
}

/// Whether a tag of the source's stream is still true of what was encoded from it.
fn survives_encoding(key: &str) -> bool {
    // mkvmerge's statistics carry the language behind a dash.
    !is_any_of(key.split('-').next().unwrap_or_default(), OF_THE_OLD_STREAM) && !key.starts_with("_STATISTICS_")
}

/// libav's keys do not tell case apart.
fn is_any_of(key: &str, keys: &[&str]) -> bool {
    keys.iter().any(|other| key.eq_ignore_ascii_case(other))
}

/// Block sizes that some demuxers leave and muxers then trust, as the ffmpeg command line forgets them.
fn forget_block_align(parameters: &mut ffi::AVCodecParameters) {
    let mp3 =
        parameters.codec_id == ffi::AVCodecID::AV_CODEC_ID_MP3 && matches!(parameters.block_align, 1 | 576 | 1152);
    if mp3 || parameters.codec_id == ffi::AVCodecID::AV_CODEC_ID_AC3 {
        parameters.block_align = 0;
    }
}

#[cfg(unix)]
pub(crate) fn c_path(path: &Path) -> Result<CString, AvError> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| AvError::invalid())
}

#[cfg(not(unix))]
pub(crate) fn c_path(path: &Path) -> Result<CString, AvError> {
    c_string(&path.to_string_lossy())
}

/// `hvc1`: HEVC in MP4 with its headers in the sample description alone.
const HVC1: u32 = u32::from_le_bytes(*b"hvc1");

/// libav's "not known" for rates and ratios.
const UNKNOWN: Rational = Rational::new(0, 1);

/// The ffmpeg command line's `-muxdelay`: MPEG-TS and PS shift their times by it.
const MAX_DELAY_MICROSECONDS: c_int = 700_000;

/// Tags of a container that are about the file that was, not the one that is made. The ffmpeg command line drops all but the
/// brands.
const OF_THE_OLD_FILE: &[&str] = &[
    "creation_time",
    "company_name",
    "product_name",
    "product_version",
    "major_brand",
    "minor_version",
    "compatible_brands",
];

/// Tags of a stream that are about its old bytes.
const OF_THE_OLD_STREAM: &[&str] =
    &["BPS", "DURATION", "NUMBER_OF_BYTES", "NUMBER_OF_FRAMES", "SOURCE_ID", "encoder", "rotate", "vendor_id"];
