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
use crate::av::muxer::{Container, Muxer, MuxerSetup, Written};
use crate::av::packet::Packet;
use crate::error::{Error, Refusal};
use crate::media::{Rational, StreamKind};
use crate::sink::manifest::{self, Listed, Measured, Sound, Variant};
use crate::sink::place::{
    create_locked_folder, final_name, folder_of, prefix_of, refused, remove_leftovers, sync_folder,
};
use crate::sink::{Finished, OutputStream, Sink, Streams, verify};

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
    /// What is known of each stream for the manifest.
    streams: Vec<Known>,
    state: State,
    temporary: TempDir,
    // Unlocked after the folder has gone.
    _lock: Option<File>,
    made: MadeFolder,
}

enum State {
    Created,
    Writing(Box<Muxer>),
    /// Complete and verified: what was made, and the files to move, in their order.
    Sealed(Box<Finished>, Vec<String>),
    /// An error came in between: there is nothing to finish.
    Broken,
}

/// What a manifest says of a stream and its segments do not.
struct Known {
    kind: StreamKind,
    /// The rendition's name, or `audio`.
    name: String,
    size: (u32, u32),
    frame_rate: Option<f64>,
    language: Option<String>,
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
            streams: Vec::new(),
            state: State::Created,
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

    fn open(&self, streams: &Streams) -> Result<Muxer, Error> {
        let folder = self.url()?;
        let url = Path::new(&folder).join(if self.is_hls() { self.playlist("%v") } else { self.manifest_name() });
        let mut setup = MuxerSetup::create_package(&self.container, &self.manifest, &url)?;
        for stream in &streams.streams {
            match stream {
                OutputStream::Encoded { stream, like } => setup.add_encoded(stream, like.as_ref())?,
                OutputStream::Copied(stream) => setup.add_copied(stream)?,
            };
        }
        let own = if self.is_hls() { self.hls_options(&folder) } else { self.dash_options(streams) };
        setup.write_header(&own.into_iter().chain(self.options.iter().cloned()).collect::<Vec<_>>())
    }

    fn hls_options(&self, folder: &str) -> Vec<(String, String)> {
        let stem = self.stem();
        let mut counts = [0, 0];
        let variants = self.streams.iter().map(|stream| {
            let (kind, count) = if stream.kind == StreamKind::Video { ("v", 0) } else { ("a", 1) };
            counts[count] += 1;
            format!("{kind}:{},name:{}", counts[count] - 1, stream.name)
        });
        let variants: Vec<String> = variants.collect();
        pairs(&[
            ("hls_segment_type", "fmp4"),
            ("hls_playlist_type", "vod"),
            ("hls_list_size", "0"),
            ("hls_flags", "independent_segments"),
            ("hls_time", &self.segment()),
            ("hls_segment_filename", &format!("{folder}/{stem}_%v_%05d.m4s")),
            ("hls_fmp4_init_filename", &format!("{stem}_%v_init.mp4")),
            ("var_stream_map", &variants.join(" ")),
        ])
    }

    fn dash_options(&self, streams: &Streams) -> Vec<(String, String)> {
        let stem = self.stem();
        pairs(&[
            ("dash_segment_type", "mp4"),
            ("use_template", "1"),
            ("use_timeline", "1"),
            ("seg_duration", &self.segment()),
            ("init_seg_name", &format!("{stem}_$RepresentationID$_init.mp4")),
            ("media_seg_name", &format!("{stem}_$RepresentationID$_$Number%05d$.m4s")),
            ("adaptation_sets", &adaptation_sets(streams)),
        ])
    }

    /// A hair less than the distance of key frames: rounded up, every second one would be missed.
    fn segment(&self) -> String {
        format!("{}us", ((self.segment_seconds * 1e6).floor() as u64).saturating_sub(1).max(1))
    }

    fn is_hls(&self) -> bool {
        self.container.name() == "hls"
    }

    /// What the names of all files but the manifest begin with; text that needs no escape in any manifest.
    fn stem(&self) -> String {
        let stem = self.manifest.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if is_plain(&stem) { stem } else { "media".to_owned() }
    }

    fn playlist(&self, name: &str) -> String {
        format!("{}_{name}.m3u8", self.stem())
    }

    fn manifest_name(&self) -> String {
        self.manifest.file_name().unwrap_or_default().to_string_lossy().into_owned()
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

    /// Measures and reads back every stream, and completes the manifest. Gives the files to move, in their order, and the
    /// bytes of each stream's.
    fn prove(&self, written: &Written) -> Result<(Vec<String>, Vec<u64>), String> {
        let folder = self.temporary.path();
        let read = |name: &str| fs::read_to_string(folder.join(name)).map_err(|error| format!("{name}: {error}"));
        let playlists: Vec<String> = match self.is_hls() {
            true => self.streams.iter().map(|stream| self.playlist(&stream.name)).collect(),
            false => Vec::new(),
        };
        let listed = match self.is_hls() {
            true => {
                playlists.iter().map(|name| manifest::read_playlist(&read(name)?)).collect::<Result<Vec<_>, _>>()?
            }
            false => manifest::read_dash(&read(&self.manifest_name())?)?,
        };
        if listed.len() != self.streams.len() {
            return Err(format!("the manifest has {} of {} streams", listed.len(), self.streams.len()));
        }
        self.aligned(&listed)?;
        let mut measured = Vec::with_capacity(listed.len());
        for ((listed, stream), tally) in listed.iter().zip(&self.streams).zip(&written.tallies) {
            let named = |why: String| format!("{}: {why}", stream.name);
            measured.push(manifest::measure(listed, folder).map_err(named)?);
            let list = self.list(listed).map_err(|error| named(error.to_string()))?;
            verify::verify_segments(&list, tally).map_err(named)?;
        }
        let bytes = measured.iter().map(|measured| measured.bytes).collect();
        let text = match self.is_hls() {
            true => self.master(&playlists, measured),
            false => manifest::with_measured(&read(&self.manifest_name())?, &measured),
        };
        fs::write(folder.join(self.manifest_name()), text).map_err(|error| error.to_string())?;
        let segments = listed.into_iter().flat_map(|listed| {
            let segments = listed.segments.into_iter().map(|segment| segment.name);
            [listed.init].into_iter().chain(segments)
        });
        Ok((segments.chain(playlists).chain([self.manifest_name()]).collect(), bytes))
    }

    /// A player changes the rendition at the border of segments, so all videos must have the same ones.
    fn aligned(&self, listed: &[Listed]) -> Result<(), String> {
        let videos: Vec<(&Listed, &Known)> =
            listed.iter().zip(&self.streams).filter(|(_, stream)| stream.kind == StreamKind::Video).collect();
        let Some(((first, known), others)) = videos.split_first() else { return Ok(()) };
        let lengths = |listed: &Listed| listed.segments.iter().map(|segment| segment.seconds).collect::<Vec<f64>>();
        let first = lengths(first);
        let differs = |other: &Listed| {
            let other = lengths(other);
            other.len() != first.len()
                || first.iter().zip(&other).any(|(one, other)| (one - other).abs() > SAME_SECONDS)
        };
        match others.iter().find(|(listed, _)| differs(listed)) {
            None => Ok(()),
            Some((_, other)) => {
                Err(format!("segments of {} and {} do not begin at the same times", known.name, other.name))
            }
        }
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

    fn master(&self, playlists: &[String], measured: Vec<Measured>) -> String {
        let (mut variants, mut sounds) = (Vec::new(), Vec::new());
        for ((playlist, measured), stream) in playlists.iter().cloned().zip(measured).zip(&self.streams) {
            if stream.kind == StreamKind::Video {
                variants.push(Variant { playlist, measured, size: stream.size, frame_rate: stream.frame_rate });
            } else {
                let (name, language) = (stream.name.clone(), stream.language.clone());
                sounds.push(Sound { playlist, name, language, measured });
            }
        }
        manifest::master(&variants, &sounds)
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
        let mut names = self.renditions.iter();
        let mut sounds = 0;
        for stream in &streams.streams {
            let name = match stream.kind() {
                StreamKind::Video => names.next().cloned(),
                StreamKind::Audio => {
                    sounds += 1;
                    Some(if sounds == 1 { "audio".to_owned() } else { format!("audio{sounds}") })
                }
                _ => None,
            };
            let Some(name) = name else { return Err(self.out_of_order("a stream that a package does not hold")) };
            self.streams.push(known(name, stream));
        }
        self.state = State::Writing(Box::new(self.open(streams)?));
        Ok(())
    }

    fn write(&mut self, mut packet: Packet, stream: usize, time_base: Rational) -> Result<(), Error> {
        let State::Writing(muxer) = &mut self.state else { return Err(self.out_of_order("not started")) };
        packet.set_stream(stream);
        let written = muxer.write(packet, time_base);
        if written.is_err() {
            self.state = State::Broken;
        }
        written
    }

    fn seal(&mut self) -> Result<(), Error> {
        let State::Writing(muxer) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(self.out_of_order("nothing was written"));
        };
        let written = muxer.finish()?;
        let proved = self.prove(&written);
        let (files, stream_bytes) = proved.map_err(|why| Error::Verify { path: self.manifest.clone(), why })?;
        let bytes = stream_bytes.iter().sum();
        let finished = Finished { bytes, nudged: written.nudged, stream_bytes, ..Finished::of(written.tallies) };
        self.state = State::Sealed(Box::new(finished), files);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Finished, Error> {
        if let State::Writing(_) = self.state {
            self.seal()?;
        }
        let State::Sealed(finished, files) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(self.out_of_order("nothing was written"));
        };
        self.publish(&files)?;
        self.made.keep();
        Ok(Finished { path: Some(self.manifest.clone()), ..*finished })
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

fn known(name: String, stream: &OutputStream) -> Known {
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
    Known { kind: stream.kind(), name, size, frame_rate, language }
}

/// One set for each codec, since a player switches only within a set; and one for each sound, which are no alternatives of
/// one another.
fn adaptation_sets(streams: &Streams) -> String {
    let mut sets: Vec<(String, Vec<usize>)> = Vec::new();
    for (index, stream) in streams.streams.iter().enumerate() {
        let codec = stream.codec();
        match sets.iter_mut().find(|(known, _)| stream.kind() == StreamKind::Video && *known == codec) {
            Some((_, members)) => members.push(index),
            None => sets.push((if stream.kind() == StreamKind::Video { codec } else { String::new() }, vec![index])),
        }
    }
    let set = |(id, (_, members)): (usize, &(String, Vec<usize>))| {
        let members: Vec<String> = members.iter().map(usize::to_string).collect();
        format!("id={id},streams={}", members.join(","))
    };
    sets.iter().enumerate().map(set).collect::<Vec<_>>().join(" ")
}

fn refuse_names(manifest: &Path, container: &Container, renditions: &[String]) -> Result<(), Refusal> {
    let refused = |why: String| Err(Refusal::Output { path: manifest.display().to_string(), why });
    if !container.is_package() {
        return refused(format!("{} is no package", container.name()));
    }
    if manifest.file_name().and_then(|name| name.to_str()).is_none() {
        return refused("is not UTF-8".to_owned());
    }
    match renditions.iter().find(|name| !is_plain(name) || name.starts_with("audio")) {
        Some(name) => refused(format!(
            "{name:?} cannot name a rendition of a package: letters, digits, . _ and - can, audio cannot"
        )),
        None => Ok(()),
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn pairs(options: &[(&str, &str)]) -> Vec<(String, String)> {
    options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Seconds by which lengths in a playlist may differ through rounding.
const SAME_SECONDS: f64 = 0.002;
