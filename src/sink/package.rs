//! A package for streaming: an HLS or DASH manifest and the segments of several renditions, which appear whole or not at all.
//!
//! Invariants: until everything is written, measured and read back, all files are in a private sibling folder, locked while
//! its writer lives; then they are moved beside the manifest's final name, the manifest last, so that whoever finds it finds
//! the rest.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::{TempDir, TempPath};

use crate::av::AvError;
use crate::av::inspect::quoted;
use crate::av::muxer::{Container, Muxer, MuxerSetup, Tally, Written};
use crate::av::packet::Packet;
use crate::error::{Error, Refusal};
use crate::event::Cancel;
use crate::media::{Rational, StreamKind};
use crate::sink::layout::{LaidOut, Layout, can_name, is_plain};
use crate::sink::manifest::{self, Listed, Measured, Sound, Text, Variant};
use crate::sink::place::{
    create_locked_folder, final_name, folder_of, prefix_of, refused, remove_leftovers, sync_folder,
};
use crate::sink::{Finished, OutputStream, Sink, Streams, unless_stopped, verify};

/// Writes a manifest and its segments. Its video streams come first in [`Streams::streams`], one for each rendition.
pub struct PackageSink {
    /// The manifest's final name.
    manifest: PathBuf,
    container: Container,
    /// Names of the renditions.
    renditions: Vec<String>,
    segment_seconds: f64,
    overwrite: bool,
    options: Vec<(String, String)>,
    state: State,
    cancel: Cancel,
    temporary: TempDir,
    // Unlocked after the folder has gone.
    _lock: Option<File>,
    made: MadeFolder,
}

enum State {
    Created,
    Writing(Box<Writers>),
    /// Complete and verified: what was made, and the files to move, in their order.
    Sealed(Box<Finished>, Vec<String>),
    /// An error came in between: there is nothing to finish.
    Broken,
}

/// What writes a package: libavformat's muxer of it, and one of WebVTT for each stream of subtitles.
struct Writers {
    layout: Layout,
    /// What is known of each stream for the manifest, in the order of [`Streams::streams`].
    known: Vec<Known>,
    places: Vec<Place>,
    segments: Muxer,
    texts: Vec<Muxer>,
}

/// Who writes a stream, and as which of its own.
#[derive(Clone, Copy)]
enum Place {
    Segments(usize),
    Text(usize),
}

/// What was written.
struct Done {
    layout: Layout,
    known: Vec<Known>,
    places: Vec<Place>,
    segments: Written,
    texts: Vec<Written>,
}

/// What a manifest says of a stream and its segments do not.
struct Known {
    size: (u32, u32),
    frame_rate: Option<f64>,
    language: Option<String>,
}

/// Everything that is proven: the files to move, in their order, and the bytes of each stream's own.
struct Proven {
    files: Vec<String>,
    stream_bytes: Vec<u64>,
}

impl PackageSink {
    /// Makes the temporary folder beside `manifest`, and the folder around it where there is none. `renditions` are names for
    /// the video streams, `segment_seconds` is the distance of their key frames. With `overwrite`, files of the same names
    /// are replaced in the end.
    ///
    /// # Errors
    /// [`Refusal::Exists`] and [`Refusal::Output`] for names that cannot be used, [`Error::Write`] where the folder cannot be
    /// made for other reasons.
    pub fn create(
        manifest: &Path,
        container: Container,
        renditions: Vec<String>,
        segment_seconds: f64,
        overwrite: bool,
    ) -> Result<Self, Error> {
        let manifest = final_name(manifest, overwrite)?;
        refuse_names(&manifest, &container, &renditions)?;
        let folder = folder_of(&manifest);
        let fault = |source: io::Error| refused(&manifest, source);
        let made = MadeFolder::ensure(folder).map_err(fault)?;
        let prefix = prefix_of(&manifest);
        remove_leftovers(folder, &prefix).map_err(fault)?;
        let (temporary, lock) = create_locked_folder(folder, &prefix).map_err(fault)?;
        Ok(PackageSink {
            manifest,
            container,
            renditions,
            segment_seconds,
            overwrite,
            options: Vec::new(),
            state: State::Created,
            cancel: Cancel::new(),
            temporary,
            _lock: lock,
            made,
        })
    }

    /// Sets options of libavformat's muxer beside those that make the package.
    #[must_use]
    pub fn with_options(mut self, options: Vec<(String, String)>) -> Self {
        self.options = options;
        self
    }

    /// Ends reading the segments back when a stop is asked for.
    #[must_use]
    pub fn with_cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    fn open(&self, streams: &Streams, layout: Layout) -> Result<Writers, Error> {
        let folder = self.url()?;
        let mut setup =
            MuxerSetup::create_package(&self.container, &self.manifest, &Path::new(&folder).join(layout.url()))?;
        let (mut places, mut texts) = (Vec::new(), Vec::new());
        for stream in &streams.streams {
            if stream.kind() == StreamKind::Subtitle {
                places.push(Place::Text(texts.len()));
                texts.push(self.open_text(stream, &layout, texts.len())?);
            } else {
                places.push(Place::Segments(add(&mut setup, stream)?));
            }
        }
        let options = layout.options(&folder).into_iter().chain(self.options.iter().cloned());
        let segments = setup.write_header(&options.collect::<Vec<_>>())?;
        let known = streams.streams.iter().map(known).collect();
        Ok(Writers { layout, known, places, segments, texts })
    }

    fn open_text(&self, stream: &OutputStream, layout: &Layout, number: usize) -> Result<Muxer, Error> {
        let (Some(container), Some(name)) = (Container::of_text(), layout.text(number)) else {
            return Err(self.out_of_order("the linked libavformat has no WebVTT"));
        };
        let file = File::create_new(self.temporary.path().join(name)).map_err(|source| self.write_error(source))?;
        let mut setup = MuxerSetup::create(&container, &self.manifest, None, Box::new(file))?;
        add(&mut setup, stream)?;
        setup.write_header(&[])
    }

    /// The temporary folder as libavformat is told it: absolute, so that no part of it reads as a protocol.
    fn url(&self) -> Result<String, Error> {
        let absolute = std::path::absolute(self.temporary.path()).map_err(|source| self.write_error(source))?;
        let text = absolute.to_str().map(str::to_owned);
        let refusal = || Refusal::Output {
            path: self.manifest.display().to_string(),
            why: format!("{} takes no folder with % or $ in its path, or one that is not UTF-8", self.container.name()),
        };
        Ok(text.filter(|text| !text.contains(['%', '$'])).ok_or_else(refusal)?)
    }

    /// Measures and reads back every stream, and completes the manifest.
    fn prove(&self, done: &Done, go_on: &dyn Fn() -> bool) -> Result<Proven, String> {
        let layout = &done.layout;
        let listed = self.listed(done)?;
        let measured = self.measured(done, &listed, go_on)?;
        let seconds = listed[0].segments.iter().map(|segment| segment.seconds).sum();
        let texts = self.prove_texts(done, seconds, go_on)?;
        if layout.is_hls() {
            self.write_hls(done, &measured, &texts, seconds)?;
        } else {
            let text = manifest::with_measured(&self.read(layout.manifest())?, &measured);
            self.write_file(layout.manifest(), &manifest::with_texts(&text, &texts))?;
        }
        let muxed = done.muxed().map(|(laid, _)| layout.playlist(&laid.name));
        let playlists = muxed.chain(texts.iter().map(|text| text.playlist.clone())).filter(|_| layout.is_hls());
        let segments = listed.into_iter().flat_map(Listed::names);
        let files = texts.iter().map(|text| text.file.clone()).chain(segments).chain(playlists);
        let bytes = |place: &Place| match place {
            Place::Segments(number) => measured[*number].bytes,
            Place::Text(number) => done.texts[*number].bytes,
        };
        Ok(Proven {
            files: files.chain([layout.manifest().to_owned()]).collect(),
            stream_bytes: done.places.iter().map(bytes).collect(),
        })
    }

    /// The files of every stream that libavformat's muxer wrote, as its manifest lists them.
    fn listed(&self, done: &Done) -> Result<Vec<Listed>, String> {
        let layout = &done.layout;
        let listed = if layout.is_hls() {
            let playlist = |laid: &LaidOut| manifest::read_playlist(&self.read(&layout.playlist(&laid.name))?);
            done.muxed().map(|(laid, _)| playlist(laid)).collect::<Result<Vec<_>, _>>()?
        } else {
            manifest::read_dash(&self.read(layout.manifest())?)?
        };
        if listed.len() != done.muxed().count() {
            return Err(format!("the manifest has {} of {} streams", listed.len(), done.muxed().count()));
        }
        aligned(&listed.iter().zip(done.muxed().map(|(laid, _)| laid)).collect::<Vec<_>>())?;
        Ok(listed)
    }

    /// Measures these streams and reads them back.
    fn measured(&self, done: &Done, listed: &[Listed], go_on: &dyn Fn() -> bool) -> Result<Vec<Measured>, String> {
        let one = |(number, (listed, (laid, _))): (usize, (&Listed, (&LaidOut, &Known)))| {
            let named = |why: String| format!("{}: {why}", laid.name);
            let measured = manifest::measure(listed, self.temporary.path()).map_err(named)?;
            let list = self.list(listed).map_err(|error| named(error.to_string()))?;
            verify::verify_segments(&list, &done.segments.tallies[number], go_on).map_err(named)?;
            Ok(measured)
        };
        listed.iter().zip(done.muxed()).enumerate().map(one).collect()
    }

    /// Writes the master playlist in place of libavformat's, and those of the subtitles.
    fn write_hls(&self, done: &Done, measured: &[Measured], texts: &[Text], seconds: f64) -> Result<(), String> {
        let layout = &done.layout;
        let (mut variants, mut sounds) = (Vec::new(), Vec::new());
        for (measured, (laid, known)) in measured.iter().cloned().zip(done.muxed()) {
            let playlist = layout.playlist(&laid.name);
            if laid.kind == StreamKind::Video {
                variants.push(Variant { playlist, measured, size: known.size, frame_rate: known.frame_rate });
            } else {
                sounds.push(Sound { playlist, name: laid.name.clone(), language: known.language.clone(), measured });
            }
        }
        for text in texts {
            self.write_file(&text.playlist, &manifest::text_playlist(&text.file, seconds))?;
        }
        self.write_file(layout.manifest(), &manifest::master(&variants, &sounds, texts))
    }

    fn read(&self, name: &str) -> Result<String, String> {
        fs::read_to_string(self.temporary.path().join(name)).map_err(|error| format!("{name}: {error}"))
    }

    fn write_file(&self, name: &str, text: &str) -> Result<(), String> {
        fs::write(self.temporary.path().join(name), text).map_err(|error| format!("{name}: {error}"))
    }

    /// Reads back the subtitles.
    fn prove_texts(&self, done: &Done, seconds: f64, go_on: &dyn Fn() -> bool) -> Result<Vec<Text>, String> {
        let container = Container::of_text().ok_or("the linked libavformat has no WebVTT")?;
        let mut texts = Vec::new();
        for (number, (laid, known)) in done.of(|place| matches!(place, Place::Text(_))).enumerate() {
            let written = &done.texts[number];
            let file = done.layout.text(number).ok_or("subtitles without a name")?;
            verify::verify(&self.temporary.path().join(&file), &container, &written.tallies, go_on)
                .map_err(|why| format!("{}: {why}", laid.name))?;
            let (playlist, name) = (done.layout.playlist(&laid.name), laid.name.clone());
            let bps = (written.bytes as f64 * 8.0 / seconds.max(1e-3)).ceil() as u64;
            texts.push(Text { playlist, file, name, language: known.language.clone(), bps });
        }
        Ok(texts)
    }

    /// Writes the list of a stream's files, for reading them back as one.
    fn list(&self, listed: &Listed) -> io::Result<PathBuf> {
        let folder = std::path::absolute(self.temporary.path())?;
        let files = [&listed.init].into_iter().chain(listed.segments.iter().map(|segment| &segment.name));
        let lines: Vec<String> = files.map(|name| quoted(&folder.join(name).to_string_lossy())).collect();
        let path = folder.join("list");
        fs::write(&path, lines.join("\n"))?;
        Ok(path)
    }

    /// Moves every file to its final name and makes that last.
    fn publish(&self, files: &[String]) -> Result<(), Error> {
        let folder = folder_of(&self.manifest);
        let fault = |source| self.write_error(source);
        for file in files {
            File::open(self.temporary.path().join(file)).and_then(|file| file.sync_all()).map_err(fault)?;
        }
        if let Some(taken) = files.iter().map(|file| folder.join(file)).find(|path| !self.overwrite && path.exists()) {
            return Err(Refusal::Exists { path: taken.display().to_string() }.into());
        }
        for (number, file) in files.iter().enumerate() {
            if let Err(error) = self.move_out(file, folder) {
                // What stands there already belongs to a package that will not be; of replaced files nothing is left.
                files[..number].iter().for_each(|file| drop(fs::remove_file(folder.join(file))));
                return Err(fault(error));
            }
        }
        sync_folder(folder).map_err(fault)
    }

    fn move_out(&self, file: &str, folder: &Path) -> io::Result<()> {
        let (from, to) = (self.temporary.path().join(file), folder.join(file));
        if self.overwrite {
            return fs::rename(from, to);
        }
        TempPath::try_from_path(from)?.persist_noclobber(to).map_err(|error| error.error)
    }

    fn write_error(&self, source: io::Error) -> Error {
        Error::Write { path: self.manifest.clone(), source }
    }

    fn out_of_order(&self, what: &str) -> Error {
        let source = AvError::invalid();
        Error::Mux { path: self.manifest.clone(), what: what.to_owned(), source, log: String::new() }
    }
}

impl Sink for PackageSink {
    fn start(&mut self, streams: &Streams) -> Result<(), Error> {
        let State::Created = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(self.out_of_order("started twice"));
        };
        let kinds = streams.streams.iter().map(|stream| (stream.kind(), stream.codec()));
        let layout = Layout::of(&self.manifest, &self.container, self.segment_seconds, &self.renditions, kinds);
        let layout = layout.ok_or_else(|| self.out_of_order("a stream that a package does not hold"))?;
        self.state = State::Writing(Box::new(self.open(streams, layout)?));
        Ok(())
    }

    fn write(&mut self, packet: Packet, stream: usize, time_base: Rational) -> Result<(), Error> {
        let State::Writing(writers) = &mut self.state else { return Err(self.out_of_order("not started")) };
        let written = writers.write(packet, stream, time_base);
        if written.is_err() {
            self.state = State::Broken;
        }
        written
    }

    fn seal(&mut self, moved: &(dyn Fn() + Sync)) -> Result<(), Error> {
        let State::Writing(writers) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(self.out_of_order("nothing was written"));
        };
        let done = writers.finish(moved)?;
        let go_on = || {
            moved();
            !self.cancel.is_stopped()
        };
        let Proven { files, stream_bytes } = self
            .prove(&done, &go_on)
            .map_err(|why| unless_stopped(&self.cancel, Error::Verify { path: self.manifest.clone(), why }))?;
        let bytes = stream_bytes.iter().sum();
        let nudged = done.segments.nudged;
        let finished = Finished { bytes, nudged, stream_bytes, ..Finished::of(done.into_tallies()) };
        self.state = State::Sealed(Box::new(finished), files);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Finished, Error> {
        if let State::Writing(_) = self.state {
            self.seal(&|| ())?;
        }
        let State::Sealed(finished, files) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(self.out_of_order("nothing was written"));
        };
        self.publish(&files)?;
        self.made.keep();
        Ok(Finished { path: Some(self.manifest.clone()), ..*finished })
    }
}

impl Writers {
    fn write(&mut self, mut packet: Packet, stream: usize, time_base: Rational) -> Result<(), Error> {
        match self.places[stream] {
            Place::Segments(number) => {
                packet.set_stream(number);
                self.segments.write(packet, time_base)
            }
            Place::Text(number) => {
                packet.set_stream(0);
                // What began before the cut is shown from there.
                let begins = packet.pts().unwrap_or(0);
                packet.set_times(Some(begins.max(0)), Some(begins.max(0)), packet.duration() + begins.min(0));
                self.texts[number].write(packet, time_base)
            }
        }
    }

    fn finish(self, moved: &(dyn Fn() + Sync)) -> Result<Done, Error> {
        let Writers { layout, known, places, segments, texts } = self;
        let segments = segments.finish(moved)?;
        let texts = texts.into_iter().map(|text| text.finish(moved)).collect::<Result<_, _>>()?;
        Ok(Done { layout, known, places, segments, texts })
    }
}

impl Done {
    /// The streams that libavformat's muxer of packages wrote.
    fn muxed(&self) -> impl Iterator<Item = (&LaidOut, &Known)> {
        self.of(|place| matches!(place, Place::Segments(_)))
    }

    /// The streams whose place is such a one.
    fn of(&self, wanted: impl Fn(&Place) -> bool) -> impl Iterator<Item = (&LaidOut, &Known)> {
        let all = self.layout.streams().iter().zip(&self.known).zip(&self.places);
        all.filter(move |(_, place)| wanted(place)).map(|(stream, _)| stream)
    }

    /// What each stream was given.
    fn into_tallies(self) -> Vec<Tally> {
        let tally = |place: &Place| match place {
            Place::Segments(number) => self.segments.tallies[*number].clone(),
            Place::Text(number) => self.texts[*number].tallies[0].clone(),
        };
        self.places.iter().map(tally).collect()
    }
}

fn add(setup: &mut MuxerSetup, stream: &OutputStream) -> Result<usize, Error> {
    match stream {
        OutputStream::Encoded { stream, like } => setup.add_encoded(stream, like.as_ref()),
        OutputStream::Copied(stream) => setup.add_copied(stream),
    }
}

/// A player changes the rendition at the border of segments, so all videos must have the same ones.
fn aligned(listed: &[(&Listed, &LaidOut)]) -> Result<(), String> {
    let mut videos = listed.iter().filter(|(_, laid)| laid.kind == StreamKind::Video);
    let Some((first, known)) = videos.next() else { return Ok(()) };
    let lengths = |listed: &Listed| listed.segments.iter().map(|segment| segment.seconds).collect::<Vec<f64>>();
    let first = lengths(first);
    let differs = |other: &Listed| {
        let other = lengths(other);
        other.len() != first.len() || first.iter().zip(&other).any(|(one, other)| (one - other).abs() > SAME_SECONDS)
    };
    match videos.find(|(listed, _)| differs(listed)) {
        None => Ok(()),
        Some((_, other)) => {
            Err(format!("segments of {} and {} do not begin at the same times", known.name, other.name))
        }
    }
}

/// The folder around a package, if it was made for it. Removed again while nothing is in it.
struct MadeFolder(Option<PathBuf>);

impl MadeFolder {
    fn ensure(folder: &Path) -> io::Result<Self> {
        if folder.is_dir() {
            return Ok(MadeFolder(None));
        }
        fs::create_dir(folder)?;
        Ok(MadeFolder(Some(folder.to_owned())))
    }

    fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for MadeFolder {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            // Fails where somebody has put something into it meanwhile, which is then theirs.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn known(stream: &OutputStream) -> Known {
    let (size, frame_rate) = match stream {
        OutputStream::Encoded { stream, .. } => (stream.size(), stream.frame_rate().map(Rational::value)),
        OutputStream::Copied(_) => ((0, 0), None),
    };
    let source = match stream {
        OutputStream::Encoded { like, .. } => like.as_ref(),
        OutputStream::Copied(stream) => Some(stream),
    };
    let tags = source.into_iter().flat_map(|source| &source.metadata);
    let language = tags
        .filter(|(key, _)| key == "language")
        .map(|(_, value)| value.clone())
        .find(|value| is_plain(value) && value != "und");
    Known { size, frame_rate, language }
}

fn refuse_names(manifest: &Path, container: &Container, renditions: &[String]) -> Result<(), Refusal> {
    let refused = |why: String| Err(Refusal::Output { path: manifest.display().to_string(), why });
    if !container.is_package() {
        return refused(format!("{} is no package", container.name()));
    }
    if manifest.file_name().and_then(|name| name.to_str()).is_none() {
        return refused("is not UTF-8".to_owned());
    }
    match renditions.iter().find(|name| !can_name(name)) {
        Some(name) => refused(format!(
            "{name:?} cannot name a rendition of a package: letters, digits, . _ and - can; audio and text cannot"
        )),
        None => Ok(()),
    }
}

/// Seconds by which lengths in a playlist may differ through rounding.
const SAME_SECONDS: f64 = 0.002;
