//! Where packets go: a file or a package that appears whole or not at all, a digest, nowhere, or a sink of your own.
//!
//! Invariants: a sink is started once, then written to, then sealed and finished; one that is dropped unfinished leaves
//! nothing behind; [`Finished`] is returned only for output that is complete and, for files, verified.

use std::path::PathBuf;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use crate::av::muxer::{Cut, EncodedStream, Tally};
use crate::av::packet::Packet;
use crate::av::source::{FileHeaders, StreamParameters};
use crate::error::Error;
use crate::event::Cancel;
use crate::media::{Rational, StreamKind};

mod codec_string;
mod file;
mod layout;
mod manifest;
mod package;
mod place;
mod verify;
mod whole;

pub use file::FileSink;
pub use layout::Layout;
pub(crate) use manifest::files as files_of_package;
pub use package::PackageSink;
pub use place::collect_leftovers;
pub(crate) use place::{create_private_folder, folder_of, hidden_beside, known_as, remove_leftovers};
pub(crate) use whole::WholeFile;

/// Takes the packets of one rendition's final pass.
///
/// Calls come in this order, from one thread at a time: [`Sink::start`] once, [`Sink::write`] for each packet,
/// [`Sink::seal`] once, and [`Sink::finish`] when every output of the run is sealed. A job that fails or is cancelled drops the sink instead of finishing it.
pub trait Sink: Send {
    /// Learns which streams are to come.
    ///
    /// # Errors
    /// What keeps the sink from taking them.
    fn start(&mut self, streams: &Streams) -> Result<(), Error>;

    /// Takes a packet of the stream at index `stream` of [`Streams::streams`], its times in ticks of `time_base`. Packets of
    /// one stream come in decoding order; those of different streams roughly in the order of their times.
    ///
    /// # Errors
    /// What keeps the sink from taking it.
    fn write(&mut self, packet: Packet, stream: usize, time_base: Rational) -> Result<(), Error>;

    /// Completes and proves the output, where it is not seen yet. `moved` is to be called whenever that has come a bit
    /// further, from any thread: a sink that stays still for too long is taken for one that hangs.
    ///
    /// # Errors
    /// What keeps the output from being complete; there is none then.
    fn seal(&mut self, _moved: &(dyn Fn() + Sync)) -> Result<(), Error> {
        Ok(())
    }

    /// Bytes of the output once it is sealed, where it knows.
    fn sealed_bytes(&self) -> Option<u64> {
        None
    }

    /// Lets the output be seen; seals it first where nobody has.
    ///
    /// # Errors
    /// As for [`Sink::seal`], and what keeps it from being seen.
    fn finish(self: Box<Self>) -> Result<Finished, Error>;
}

/// Everything a sink must know before the first packet.
#[derive(Default)]
pub struct Streams {
    /// The streams, in the order of their indices.
    pub streams: Vec<OutputStream>,
    /// Tags and chapters of the source.
    pub headers: FileHeaders,
    /// The part of the source that is kept.
    pub cut: Cut,
}

/// What went wrong, or that it ended because it was told to.
fn unless_stopped(cancel: &Cancel, error: Error) -> Error {
    if cancel.is_stopped() { Error::Interrupted } else { error }
}

/// One stream of an output.
pub enum OutputStream {
    /// What an encoder of ours makes.
    Encoded {
        /// What the encoder says of it.
        stream: EncodedStream,
        /// The source's stream that it is made of: tags, language, disposition, what is known of the scene.
        like: Option<StreamParameters>,
    },
    /// A stream of the source, its packets as they are.
    Copied(StreamParameters),
}

impl OutputStream {
    /// What it carries.
    #[must_use]
    pub fn kind(&self) -> StreamKind {
        match self {
            OutputStream::Encoded { stream, .. } => stream.kind(),
            OutputStream::Copied(stream) => stream.kind,
        }
    }

    /// libavcodec's name of its codec.
    #[must_use]
    pub fn codec(&self) -> String {
        match self {
            OutputStream::Encoded { stream, .. } => stream.codec(),
            OutputStream::Copied(stream) => stream.codec(),
        }
    }
}

/// What a sink has made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finished {
    /// The file, where it is one.
    #[serde(serialize_with = "crate::report::optional_path_as_text")]
    pub path: Option<PathBuf>,
    /// Bytes of the output: of the file, or of all packets where there is no file.
    pub bytes: u64,
    /// Packets of the first video stream.
    pub video_packets: u64,
    /// Bytes of the first video stream's packets.
    pub video_bytes: u64,
    /// Length of the first video stream in seconds; `None` where its packets have no times.
    pub duration_seconds: Option<f64>,
    /// Packets whose decoding time did not grow and was moved, or that had none.
    pub nudged: u64,
    /// What each stream was given, in the order of [`Streams::streams`].
    pub streams: Vec<Tally>,
    /// Bytes of each stream's own files in a package, in the same order; empty elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stream_bytes: Vec<u64>,
    /// xxh3 (64 bits, hexadecimal) of the video packets, from [`Digest`].
    pub digest: Option<String>,
}

impl Finished {
    /// A result of these streams, without a file; the fields are there to be filled.
    #[must_use]
    pub fn of(streams: Vec<Tally>) -> Self {
        let video = streams.iter().find(|stream| stream.kind == StreamKind::Video);
        Finished {
            path: None,
            bytes: streams.iter().map(|stream| stream.bytes).sum(),
            video_packets: video.map_or(0, |video| video.packets),
            video_bytes: video.map_or(0, |video| video.bytes),
            duration_seconds: video.and_then(Tally::seconds),
            nudged: 0,
            digest: None,
            stream_bytes: Vec::new(),
            streams,
        }
    }
}

/// Counts packets and lets them go.
#[derive(Debug, Default)]
pub struct Discard {
    tallies: Vec<Tally>,
}

impl Discard {
    /// A sink that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Discard::default()
    }
}

impl Sink for Discard {
    fn start(&mut self, streams: &Streams) -> Result<(), Error> {
        self.tallies = streams.streams.iter().map(|stream| Tally::new(stream.kind(), stream.codec())).collect();
        Ok(())
    }

    fn write(&mut self, packet: Packet, stream: usize, time_base: Rational) -> Result<(), Error> {
        self.tallies[stream].add(&packet, time_base);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Finished, Error> {
        Ok(Finished::of(self.tallies))
    }
}

/// Hashes times, key flags and data of all video packets: equal digests, equal video.
#[derive(Default)]
pub struct Digest {
    counts: Discard,
    hash: Xxh3,
}

impl Digest {
    /// A sink that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Digest::default()
    }
}

impl Sink for Digest {
    fn start(&mut self, streams: &Streams) -> Result<(), Error> {
        self.counts.start(streams)
    }

    fn write(&mut self, packet: Packet, stream: usize, time_base: Rational) -> Result<(), Error> {
        if self.counts.tallies[stream].kind == StreamKind::Video {
            for time in [packet.pts(), packet.dts()] {
                self.hash.update(&time.unwrap_or(i64::MIN).to_le_bytes());
            }
            self.hash.update(&[u8::from(packet.is_key())]);
            self.hash.update(&(packet.data().len() as u64).to_le_bytes());
            self.hash.update(packet.data());
        }
        self.counts.write(packet, stream, time_base)
    }

    fn finish(self: Box<Self>) -> Result<Finished, Error> {
        let digest = Some(format!("{:016x}", self.hash.digest()));
        Ok(Finished { digest, ..Finished::of(self.counts.tallies) })
    }
}
