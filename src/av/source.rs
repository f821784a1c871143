//! Sources: a demuxer that can be interrupted at any time, the streams it finds, and decoders for them.
//!
//! Invariants: every blocking call of a demuxer watches its [`Cancel`]; only the protocols that were allowed are opened;
//! reading the same source again gives the same packets, because it is opened afresh.

use std::ffi::{CString, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use ffmpeg_sys_next as ffi;
use serde::Serialize;

use crate::av::log::LogMark;
use crate::av::option::{Dictionary, entries};
use crate::av::packet::{Packet, known};
use crate::av::side_data;
use crate::av::source::pipe::Pipe;
use crate::av::{AvError, OUT_OF_MEMORY, Received, c_string, check, initialise, received, text, versions};
use crate::error::Error;
use crate::event::{Cancel, Flag};
use crate::media::{Rational, SourceInfo, StreamKind, VideoInfo};
use crate::stats::in_memory;

mod decoder;
mod pipe;
mod stream;

pub use decoder::Decoder;
pub(crate) use decoder::decoder_of;
pub use pipe::Spool;
pub use stream::{SideData, StreamParameters};

/// How a source is opened. The default finds the format by itself and opens only files, pipes and file descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// libavformat's name of the demuxer; `None`: found by looking into the file.
    pub format: Option<String>,
    /// Options of the demuxer, for instance `framerate`, `video_size` and `pixel_format` of `rawvideo`.
    pub options: Vec<(String, String)>,
    /// Protocols that may be opened, also by what the file refers to.
    pub protocols: Vec<String>,
    /// Index of the video stream to encode; `None`: the best one by libavformat's judgement.
    pub video_stream: Option<usize>,
    /// Folder in which a pipe is kept for being read again; `None`: the system's temporary folder.
    pub spool_dir: Option<PathBuf>,
}

impl OpenOptions {
    fn spool_folder(&self) -> PathBuf {
        self.spool_dir.clone().unwrap_or_else(std::env::temp_dir)
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        let protocols = ["file", "pipe", "fd"].map(str::to_owned).to_vec();
        OpenOptions { format: None, options: Vec::new(), protocols, video_stream: None, spool_dir: None }
    }
}

/// What a container says of itself as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileHeaders {
    /// Tags in their order. Text that is not UTF-8 has replacement characters.
    pub metadata: Vec<(String, String)>,
    /// Chapters in their order.
    pub chapters: Vec<Chapter>,
}

/// A chapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chapter {
    /// The container's number for it.
    pub id: i64,
    /// Seconds per tick of start and end.
    pub time_base: Rational,
    /// First tick.
    pub start: i64,
    /// Tick after the last.
    pub end: i64,
    /// Tags, its `title` among them.
    pub metadata: Vec<(String, String)>,
}

/// An open source.
pub struct Demuxer {
    /// Closed first: closing may still ask whether to stop.
    context: Context,
    cancel: Cancel,
    path: PathBuf,
    options: OpenOptions,
    info: SourceInfo,
    /// Indices of the streams to read; `None`: all.
    wanted: Option<Vec<usize>>,
    /// After a seek: video is skipped up to its next key frame.
    seeks_key: bool,
    corrupt: u64,
}

impl Demuxer {
    /// Opens a source and looks at its streams. `path` is a file, whatever it looks like (`a:b.mkv`, `-x.mkv`), a pattern
    /// of image files (`frame_%04d.jpg`), `-` or `pipe:` for standard input, or a URL of an allowed protocol. `cancel`
    /// interrupts it for its whole life.
    ///
    /// # Errors
    /// [`Error::Input`]: it cannot be opened, does not know an option, or has no video that can be decoded;
    /// [`Error::Interrupted`]: `cancel` was stopped.
    pub fn open(path: &Path, options: &OpenOptions, cancel: &Cancel) -> Result<Self, Error> {
        Self::open_over(path, options, cancel, None)
    }

    /// The same; a pipe that was opened before is read from its beginning through what was kept of it.
    pub(crate) fn open_over(
        path: &Path,
        options: &OpenOptions,
        cancel: &Cancel,
        spool: Option<&Spool>,
    ) -> Result<Self, Error> {
        initialise();
        let opening = Opening { path, cancel, log: LogMark::now() };
        let context = opening.context(options, spool)?;
        let streams = context.streams();
        let video = opening.video(&context, &streams, options.video_stream)?;
        let info = source_info(path, &context, &streams, video);
        let (path, cancel, options) = (path.to_owned(), cancel.clone(), options.clone());
        Ok(Demuxer { context, cancel, path, options, info, wanted: None, seeks_key: false, corrupt: 0 })
    }

    /// What the source holds.
    #[must_use]
    pub fn info(&self) -> &SourceInfo {
        &self.info
    }

    /// What is read of a pipe, for opening it again; `None` for what is none.
    #[must_use]
    pub fn spool(&self) -> Option<&Spool> {
        self.context.spool.as_ref()
    }

    /// Says of a pipe that it will not be read again, so that nothing more of it is kept.
    pub fn forget(&self) {
        self.context.spool.iter().for_each(Spool::forget);
    }

    /// Why a pipe could not be kept, where that is why reading it failed.
    pub(crate) fn keeping_failed(&self) -> Option<Error> {
        let source = self.context.spool.as_ref()?.failed()?.into();
        Some(Error::Scratch { what: "the input from a pipe", path: self.options.spool_folder(), source })
    }

    /// The folder in which a pipe is kept, where that is none on a disk: what is kept takes memory.
    pub(crate) fn keeps_in_memory(&self) -> Option<PathBuf> {
        let keeps = self.context.spool.as_ref().is_some_and(Spool::keeps);
        Some(self.options.spool_folder()).filter(|folder| keeps && in_memory(folder) == Some(true))
    }

    /// All that is known of one stream, as a copy that outlives the demuxer.
    ///
    /// # Errors
    /// There is no such stream (`EINVAL`), or out of memory.
    pub fn stream(&self, index: usize) -> Result<StreamParameters, AvError> {
        let streams = self.context.streams();
        let stream = streams.get(index).ok_or(AvError::invalid())?;
        // SAFETY: the stream belongs to the open context.
        unsafe { StreamParameters::of(self.context.open, *stream) }
    }

    /// Tags and chapters of the container.
    #[must_use]
    pub fn headers(&self) -> FileHeaders {
        let context = self.context.raw();
        let chapters = pointers(context.chapters, context.nb_chapters);
        // SAFETY: chapters and dictionaries belong to the open context and are only read.
        unsafe {
            FileHeaders {
                metadata: entries(context.metadata),
                chapters: chapters.iter().map(|chapter| Chapter::of(chapter.as_ref())).collect(),
            }
        }
    }

    /// Reads only these streams from here on; the others are skipped where the format allows it.
    pub fn only(&mut self, streams: &[usize]) {
        for (index, mut stream) in self.context.streams().into_iter().enumerate() {
            let wanted = streams.contains(&index);
            let discard = if wanted { ffi::AVDiscard::AVDISCARD_DEFAULT } else { ffi::AVDiscard::AVDISCARD_ALL };
            // SAFETY: the stream belongs to the open context, which is borrowed mutably.
            unsafe { stream.as_mut() }.discard = discard;
        }
        self.wanted = Some(streams.to_vec());
    }

    /// Moves to a key frame of the video at or before `seconds`, counted from the source's start: the next video packet is
    /// where a decoder can begin. Formats without an index (transport streams) are searched backwards until it is so, and
    /// what they have before the key frame is skipped. Moves to the start where no key frame is early enough.
    ///
    /// # Errors
    /// The source cannot seek, or reading failed.
    pub fn seek(&mut self, seconds: f64) -> Result<(), AvError> {
        self.seeks_key = false;
        // Demuxers try all the same, and lose what they read on the way.
        if self.context.spool.is_some() {
            return Err(AvError(ffi::AVERROR(ffi::ESPIPE)));
        }
        let start = self.info.start_seconds;
        let target = start + seconds.max(0.0);
        if !self.wants(self.info.video.index) {
            return self.seek_to(target).or_else(|_| self.seek_to_start());
        }
        for back in SECONDS_BACK {
            let from = target - back;
            if from <= start {
                break;
            }
            if self.seek_to(from).is_ok() && self.next_key()?.is_some_and(|key| key <= self.ticks(target)) {
                self.seek_to(from)?;
                self.seeks_key = true;
                return Ok(());
            }
        }
        self.seek_to_start()
    }

    /// Opens the source again, so that exactly the same packets come once more. The choice of [`Demuxer::only`] stays.
    ///
    /// # Errors
    /// As [`Demuxer::open`]; [`Error::Input`] too for a source that can be read only once.
    pub fn rewind(&mut self) -> Result<(), Error> {
        if !self.context.rereadable() {
            let what = "cannot be read again from its beginning".to_owned();
            let source = Some(AvError(ffi::AVERROR(ffi::ESPIPE)));
            return Err(Error::Input { path: self.path.clone(), what, source });
        }
        let corrupt = self.corrupt;
        let wanted = self.wanted.take();
        *self = Demuxer::open_over(&self.path, &self.options, &self.cancel, self.context.spool.as_ref())?;
        self.corrupt = corrupt;
        if let Some(wanted) = wanted {
            self.only(&wanted);
        }
        Ok(())
    }

    /// Reads the next packet of the wanted streams into `packet`, whose earlier content goes. `NeedInput` is a device that
    /// has nothing yet.
    ///
    /// # Errors
    /// An I/O error, also where the format would take it for the end; `AVERROR_EXIT` after a stop.
    pub fn read(&mut self, packet: &mut Packet) -> Result<Received, AvError> {
        loop {
            // SAFETY: the packet is live; unreferencing an empty one is allowed.
            unsafe { ffi::av_packet_unref(packet.as_mut_ptr()) };
            // SAFETY: context and packet are live and borrowed mutably.
            let code = unsafe { ffi::av_read_frame(self.context.open.as_ptr(), packet.as_mut_ptr()) };
            if code < 0 {
                return self.ended(code);
            }
            if self.seeks_key && packet.stream() == self.info.video.index {
                self.seeks_key = !packet.is_key();
                if self.seeks_key {
                    continue;
                }
            }
            if self.wants(packet.stream()) {
                self.corrupt += u64::from(packet.is_corrupt());
                return Ok(Received::Ready);
            }
        }
    }

    /// How many packets read so far the demuxer marked as damaged: cut short, or with a gap before them. Both happen
    /// where a file ends early.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.corrupt
    }

    /// How many bytes the source's own index promises beyond the end of the file: more than none for a file that was cut
    /// short, known before anything is decoded. Formats without an index (transport streams, Matroska without cues) give
    /// 0; of them only the length in the headers tells.
    #[must_use]
    pub fn missing_bytes(&self) -> u64 {
        let Some(bytes) = self.info.bytes else { return 0 };
        let ends = self.context.streams().into_iter().filter_map(|stream| {
            // SAFETY: the stream belongs to the open context, here and below; the index is not changed meanwhile.
            let count = unsafe { ffi::avformat_index_get_entries_count(stream.as_ptr()) };
            // SAFETY: as above; every number below the count has an entry.
            let entry = |n| unsafe { ffi::avformat_index_get_entry(stream.as_ptr(), n).as_ref() };
            (0..count).filter_map(entry).map(|entry| entry.pos + i64::from(entry.size())).max()
        });
        ends.max().and_then(|end| u64::try_from(end).ok()).map_or(0, |end| end.saturating_sub(bytes))
    }

    fn wants(&self, stream: usize) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&stream))
    }

    /// What a code of `av_read_frame` means. Many demuxers turn any failed read into the end of the file.
    fn ended(&self, code: c_int) -> Result<Received, AvError> {
        if self.cancel.is_stopped() {
            return Err(AvError(ffi::AVERROR_EXIT));
        }
        // SAFETY: pb is null or live while the context is.
        let failed = unsafe { self.context.raw().pb.as_ref() }.map_or(0, |io| io.error);
        match code {
            ffi::AVERROR_EOF if failed < 0 && failed != ffi::AVERROR_EOF => Err(AvError(failed)),
            code => received(code),
        }
    }

    fn seek_to(&mut self, seconds: f64) -> Result<(), AvError> {
        let (target, video) = (self.ticks(seconds), self.info.video.index as c_int);
        // SAFETY: the context is live; the range ends at the target, so that a later key frame is never chosen.
        check(unsafe { ffi::avformat_seek_file(self.context.open.as_ptr(), video, i64::MIN, target, target, 0) })?;
        Ok(())
    }

    fn seek_to_start(&mut self) -> Result<(), AvError> {
        let (start, video) = (self.ticks(self.info.start_seconds), self.info.video.index as c_int);
        // SAFETY: the context is live; anything may be chosen, and the start is nearest.
        check(unsafe { ffi::avformat_seek_file(self.context.open.as_ptr(), video, i64::MIN, start, i64::MAX, 0) })?;
        Ok(())
    }

    /// The time of the next key frame of the video, in ticks; reads up to it.
    fn next_key(&mut self) -> Result<Option<i64>, AvError> {
        let mut packet = Packet::new()?;
        // What is read here is read again.
        let corrupt = self.corrupt;
        loop {
            match self.read(&mut packet)? {
                Received::Ready => self.corrupt = corrupt,
                Received::NeedInput => continue,
                Received::Done => return Ok(None),
            }
            if packet.stream() == self.info.video.index && packet.is_key() {
                // Without any time there is nothing to compare: take the demuxer's word.
                return Ok(Some(packet.pts().or(packet.dts()).unwrap_or(i64::MIN)));
            }
        }
    }

    /// Seconds in ticks of the video, downwards; a thousandth of a tick forgives what the float lost.
    fn ticks(&self, seconds: f64) -> i64 {
        (seconds / self.info.video.time_base.value() + 0.001).floor() as i64
    }
}

/// A source that is being opened: what its errors are made of.
struct Opening<'a> {
    path: &'a Path,
    cancel: &'a Cancel,
    log: LogMark,
}

impl Opening<'_> {
    fn context(&self, options: &OpenOptions, spool: Option<&Spool>) -> Result<Context, Error> {
        let refuse = |source| self.error("cannot open", Some(source));
        let format = self.format(options)?;
        let url = url(self.path, format, options).map_err(refuse)?;
        let mut dictionary = Dictionary::new();
        for (key, value) in &options.options {
            dictionary.set(key, value).map_err(refuse)?;
        }
        dictionary.set("protocol_whitelist", &options.protocols.join(",")).map_err(refuse)?;
        let spool = match spool {
            Some(known) => Some(known.clone()),
            None if opens_itself(format) => None,
            None => Spool::at(self.path, &options.spool_folder()).map_err(refuse)?,
        };
        let pipe = spool.clone().map(|spool| Pipe::over(spool, self.cancel)).transpose().map_err(refuse)?;
        // SAFETY: allocates; null is out of memory.
        let mut context = unsafe { ffi::avformat_alloc_context() };
        // SAFETY: null or just allocated.
        let raw = unsafe { context.as_mut() }.ok_or_else(|| refuse(OUT_OF_MEMORY))?;
        raw.interrupt_callback.callback = Some(interrupted);
        raw.interrupt_callback.opaque = Arc::as_ptr(self.cancel.flag()).cast_mut().cast();
        raw.pb = pipe.as_ref().map_or(ptr::null_mut(), Pipe::as_ptr);
        // SAFETY: the context is ours until the call, which frees it on failure; the flag outlives the context, because
        // the demuxer holds it; url and dictionary are live.
        let code = unsafe { ffi::avformat_open_input(&raw mut context, url.as_ptr(), format, dictionary.as_mut()) };
        check(code).map_err(refuse)?;
        let open = NonNull::new(context).ok_or_else(|| refuse(OUT_OF_MEMORY))?;
        let context = Context { open, _pipe: pipe, spool };
        self.refuse_disguised(&context, options)?;
        if let Some((option, _)) = dictionary.entries().first() {
            let what = format!("{} has no option {option:?}", context.format_name());
            return Err(self.error(&what, None));
        }
        // SAFETY: the context is open; no options for the decoders that look into the streams.
        let code = unsafe { ffi::avformat_find_stream_info(context.open.as_ptr(), ptr::null_mut()) };
        check(code).map_err(|source| self.error("cannot find its streams", Some(source)))?;
        if self.cancel.is_stopped() { Err(Error::Interrupted) } else { Ok(context) }
    }

    /// A playlist opens the files that it names: whoever gives us a film must not make us encode another one.
    fn refuse_disguised(&self, context: &Context, options: &OpenOptions) -> Result<(), Error> {
        let name = context.format_name();
        let playlist = PLAYLISTS.iter().find(|(format, _)| name.split(',').any(|name| name == *format));
        let extension = self.path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match playlist {
            Some((format, extensions)) if options.format.is_none() && !extensions.contains(&extension.as_str()) => {
                let what = format!(
                    "is a playlist of other files, which its name does not say; to read it, give its format ({format})"
                );
                Err(self.error(&what, None))
            }
            _ => Ok(()),
        }
    }

    fn format(&self, options: &OpenOptions) -> Result<*const ffi::AVInputFormat, Error> {
        let Some(name) = &options.format else { return Ok(ptr::null()) };
        let text = c_string(name).map_err(|source| self.error("cannot open", Some(source)))?;
        // SAFETY: a look-up by a terminated name; what it finds is static.
        let format = unsafe { ffi::av_find_input_format(text.as_ptr()) };
        if format.is_null() { Err(self.error(&format!("no demuxer is named {name:?}"), None)) } else { Ok(format) }
    }

    /// The stream to encode.
    fn video(
        &self,
        context: &Context,
        streams: &[NonNull<ffi::AVStream>],
        wanted: Option<usize>,
    ) -> Result<stream::Facts, Error> {
        // SAFETY: the streams belong to the open context, and so for all below.
        let facts: Vec<stream::Facts> = streams.iter().map(|stream| unsafe { stream::Facts::of(*stream) }).collect();
        let videos = || facts.iter().filter(|facts| facts.info.kind == StreamKind::Video);
        let chosen = match wanted {
            Some(index) => facts.get(index).filter(|facts| facts.info.kind == StreamKind::Video),
            None => videos().find(|facts| facts.info.index == context.best_video()).or_else(|| videos().next()),
        };
        let Some(video) = chosen else {
            let what = wanted.map_or("no video stream".to_owned(), |index| format!("stream {index} is no video"));
            return Err(self.error(&format!("{what}; it has {}", list(&facts)), None));
        };
        let what = format!("video stream {}, {}", video.info.index, video.codec);
        if !video.info.decodable {
            let linked = versions().libavcodec;
            return Err(self.error(&format!("{what}: the linked libavcodec {linked} cannot decode it"), None));
        }
        if video.width == 0 || video.height == 0 {
            return Err(self.error(&format!("{what}: no size found in the stream"), None));
        }
        if i64::from(video.width) * i64::from(video.height) > decoder::MOST_PIXELS {
            let size = format!("{}x{}", video.width, video.height);
            return Err(self.error(&format!("{what}: {size} is more than repass decodes, for a header may lie"), None));
        }
        Ok(video.clone())
    }

    fn error(&self, what: &str, source: Option<AvError>) -> Error {
        if self.cancel.is_stopped() {
            return Error::Interrupted;
        }
        let said = if source.is_some() { self.log.lines() } else { String::new() };
        let what = if said.is_empty() { what.to_owned() } else { format!("{what} ({said})") };
        Error::Input { path: self.path.to_owned(), what, source }
    }
}

/// Owns an open AVFormatContext.
struct Context {
    open: NonNull<ffi::AVFormatContext>,
    /// What it reads where that is a pipe; freed after closing.
    _pipe: Option<Pipe>,
    spool: Option<Spool>,
}

// SAFETY: a demuxer has no tie to the thread that opened it, and one owner; the flag that it reads is atomic.
unsafe impl Send for Context {}

impl Context {
    fn raw(&self) -> &ffi::AVFormatContext {
        // SAFETY: owned and non-null for the context's whole life.
        unsafe { self.open.as_ref() }
    }

    fn streams(&self) -> Vec<NonNull<ffi::AVStream>> {
        pointers(self.raw().streams, self.raw().nb_streams)
    }

    /// libavformat's judgement; an index that no stream has where it finds none.
    fn best_video(&self) -> usize {
        let video = ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
        // SAFETY: the context is open; no decoder is asked for.
        let index = unsafe { ffi::av_find_best_stream(self.open.as_ptr(), video, -1, -1, ptr::null_mut(), 0) };
        usize::try_from(index).unwrap_or(usize::MAX)
    }

    fn format_name(&self) -> String {
        // SAFETY: an open context has a format, whose name is static.
        unsafe { text((*self.raw().iformat).name) }.unwrap_or_default()
    }

    /// Bytes of the file; `None` for pipes and sequences.
    fn bytes(&self) -> Option<u64> {
        let io = self.raw().pb;
        if io.is_null() {
            return None;
        }
        // SAFETY: live while the context is; an error where it has no size.
        u64::try_from(unsafe { ffi::avio_size(io) }).ok().filter(|bytes| *bytes > 0)
    }

    fn rereadable(&self) -> bool {
        if let Some(spool) = &self.spool {
            return spool.keeps();
        }
        // SAFETY: pb is null or live while the context is. A format without one opens its files itself.
        unsafe { self.raw().pb.as_ref() }.is_none_or(|io| io.seekable & ffi::AVIO_SEEKABLE_NORMAL != 0)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut context = self.open.as_ptr();
        // SAFETY: owned, closed and freed once, and all streams with it.
        unsafe { ffi::avformat_close_input(&raw mut context) };
    }
}

impl Chapter {
    fn of(chapter: &ffi::AVChapter) -> Self {
        Chapter {
            id: chapter.id,
            time_base: chapter.time_base.into(),
            start: chapter.start,
            end: chapter.end,
            // SAFETY: the dictionary belongs to the chapter and is only read.
            metadata: unsafe { entries(chapter.metadata) },
        }
    }
}

fn source_info(path: &Path, context: &Context, streams: &[NonNull<ffi::AVStream>], video: stream::Facts) -> SourceInfo {
    let raw = context.raw();
    let seconds = |ticks: i64| known(ticks).map(|ticks| ticks as f64 / f64::from(ffi::AV_TIME_BASE));
    // SAFETY: the streams belong to the open context.
    let infos = streams.iter().map(|stream| unsafe { stream::Facts::of(*stream) }.info).collect();
    SourceInfo {
        path: path.to_owned(),
        container: context.format_name(),
        seconds: seconds(raw.duration).filter(|seconds| *seconds > 0.0),
        start_seconds: seconds(raw.start_time).unwrap_or(0.0),
        bytes: context.bytes(),
        video: video_info(context, streams[video.info.index], video),
        streams: infos,
        chapters: raw.nb_chapters as usize,
        rereadable: context.rereadable(),
        piped: context.spool.is_some(),
    }
}

fn video_info(context: &Context, stream: NonNull<ffi::AVStream>, facts: stream::Facts) -> VideoInfo {
    VideoInfo {
        index: facts.info.index,
        width: facts.width,
        height: facts.height,
        pixel_format: facts.pixel_format,
        // SAFETY: the stream belongs to the open context, and so below.
        frame_rate: unsafe { stream::frame_rate(context.open, stream) }.unwrap_or(RATE_WHERE_UNKNOWN),
        average_rate: facts.average_rate,
        time_base: facts.time_base,
        // SAFETY: as above.
        sample_aspect_ratio: unsafe { stream::sample_aspect_ratio(context.open, stream) },
        // SAFETY: as above.
        rotation: side_data::of_stream(unsafe { stream.as_ref() }).iter().find_map(SideData::rotation).unwrap_or(0),
        hdr: facts.hdr,
        frames: facts.frames,
    }
}

/// What libav is to open. Plain names would be taken for a protocol where they contain a colon.
fn url(path: &Path, format: *const ffi::AVInputFormat, options: &OpenOptions) -> Result<CString, AvError> {
    let name = path.as_os_str().as_encoded_bytes();
    let protocol = name.split(|byte| *byte == b':').next().unwrap_or_default();
    let allowed = options.protocols.iter().any(|allowed| allowed.as_bytes() == protocol);
    let prefix: &[u8] = match name {
        b"-" => return Ok(c"pipe:0".to_owned()),
        _ if path.exists() => b"file:",
        _ if opens_itself(format) || !name.contains(&b':') || allowed => b"",
        _ => b"file:",
    };
    CString::new([prefix, name].concat()).map_err(|_| AvError::invalid())
}

/// Whether a format opens its files itself, or has none: image sequences, devices, generated sources.
fn opens_itself(format: *const ffi::AVInputFormat) -> bool {
    // SAFETY: null, or found by libavformat and static.
    unsafe { format.as_ref() }.is_some_and(|format| format.flags & ffi::AVFMT_NOFILE != 0)
}

fn list(streams: &[stream::Facts]) -> String {
    if streams.is_empty() {
        return "no streams".to_owned();
    }
    let names: Vec<String> = streams.iter().map(|facts| format!("{} ({})", facts.info.kind, facts.codec)).collect();
    names.join(", ")
}

/// The members of an array of pointers as libav keeps them.
fn pointers<T>(first: *mut *mut T, count: u32) -> Vec<NonNull<T>> {
    // SAFETY: libav keeps `count` non-null pointers there; the array is not changed during the call.
    (0..count as usize).filter_map(|n| NonNull::new(unsafe { *first.add(n) })).collect()
}

extern "C" fn interrupted(flag: *mut c_void) -> c_int {
    // SAFETY: set to what the demuxer's own Cancel shares, which lives longer than the context.
    let flag = unsafe { &*flag.cast::<Flag>() };
    c_int::from(flag.is_stopped())
}

/// Formats that open the files they name, and what they are called.
const PLAYLISTS: [(&str, &[&str]); 3] =
    [("hls", &["m3u8", "m3u"]), ("dash", &["mpd"]), ("concat", &["ffconcat", "ffcat", "concat", "txt"])];

/// How far before a target to look for a key frame, in seconds, one after the other.
const SECONDS_BACK: [f64; 6] = [0.0, 0.5, 2.0, 6.0, 20.0, 60.0];

/// What the ffmpeg program assumes where a source says nothing of its frame rate.
const RATE_WHERE_UNKNOWN: Rational = Rational::new(25, 1);
