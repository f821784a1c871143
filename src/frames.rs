//! Where frames come from, and the list of them that every pass is held to.
//!
//! Invariant: whatever the source, a later pass sees the frames of the first: same number, same times, same pixels.

use serde::Serialize;

use crate::av::frame::Frame;
use crate::av::source::{FileHeaders, Spool, StreamParameters};
use crate::error::Error;
use crate::media::Rational;
use crate::timing::{Moment, OutputTimes};

/// A stream of frames that can be read more than once: a decoded file, or frames of the caller's own.
pub trait FrameSource: Send {
    /// The next index: one frame for each branch of the filter graph, all of the same moment; `None` at the end.
    ///
    /// # Errors
    /// Whatever the source meets: unreadable input, a filter that fails, an interrupt.
    fn next(&mut self) -> Result<Option<Vec<Frame>>, Error>;

    /// Makes the first frame ready, so that time base, rate and pixel shape are known; `false` where there is none.
    ///
    /// # Errors
    /// As for [`FrameSource::next`].
    fn prime(&mut self) -> Result<bool, Error>;

    /// Goes back to the first frame.
    ///
    /// # Errors
    /// A source that cannot be read twice.
    fn rewind(&mut self) -> Result<(), Error>;

    /// Goes to a point from which the frame at `seconds` will come, perhaps with frames before it; `false` where only
    /// [`FrameSource::rewind`] can.
    ///
    /// # Errors
    /// As for [`FrameSource::rewind`].
    fn seek(&mut self, seconds: f64) -> Result<bool, Error>;

    /// Seconds per tick of the frames' timestamps; known once the first frame is out.
    fn time_base(&self) -> Rational;

    /// Frames per second that the encoder is told; known once the first frame is out.
    fn frame_rate(&self) -> Rational;

    /// Shape of a pixel of this branch, width to height, where known; known once the first frame is out.
    fn sample_aspect_ratio(&self, branch: usize) -> Option<Rational>;

    /// What a container says of the video stream; `None` for frames that come from none.
    ///
    /// # Errors
    /// Out of memory.
    fn stream(&self) -> Result<Option<StreamParameters>, Error> {
        Ok(None)
    }

    /// What a container says of itself: tags and chapters; none for frames that come from none.
    fn headers(&self) -> FileHeaders {
        FileHeaders::default()
    }

    /// What is read of a pipe, for opening it again; `None` for what is none.
    fn spool(&self) -> Option<Spool> {
        None
    }

    /// Whether the source is still what it was when it was opened.
    ///
    /// # Errors
    /// [`Error::PassesDiffer`]: it is another, or has grown.
    fn unchanged(&self) -> Result<(), Error> {
        Ok(())
    }

    /// What was damaged so far.
    fn damage(&self) -> Damage {
        Damage::default()
    }

    /// What deserves to be known, said once.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// What of an input could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Damage {
    /// Packets and frames that the decoder found broken.
    pub decode_errors: u64,
    /// Packets that the demuxer marked as damaged: cut short, or with a gap before them.
    pub corrupt_packets: u64,
    /// Packets that gave no frame, of a codec where each gives one.
    pub lost_frames: u64,
    /// Read errors of the demuxer.
    pub read_errors: u64,
    /// Packets that the container's header promised and the file does not hold.
    pub missing_packets: u64,
    /// Bytes that the container's index or its boxes promise beyond the end of the file: it was cut short.
    pub missing_bytes: u64,
    /// Packets of sound and other streams that were marked as damaged or could not be decoded.
    pub other_streams: u64,
}

impl Damage {
    /// Whether anything was damaged.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Damage::default()
    }

    /// Of each kind the greater count: two readings of one file meet the same damage.
    #[must_use]
    pub fn worst(self, other: Damage) -> Damage {
        Damage {
            decode_errors: self.decode_errors.max(other.decode_errors),
            corrupt_packets: self.corrupt_packets.max(other.corrupt_packets),
            lost_frames: self.lost_frames.max(other.lost_frames),
            read_errors: self.read_errors.max(other.read_errors),
            missing_packets: self.missing_packets.max(other.missing_packets),
            missing_bytes: self.missing_bytes.max(other.missing_bytes),
            other_streams: self.other_streams.max(other.other_streams),
        }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = [
            (self.missing_bytes, "byte", "missing at the end"),
            (self.missing_packets, "packet", "missing that the header promises"),
            (self.read_errors, "read error", ""),
            (self.corrupt_packets, "packet", "cut short or behind a gap"),
            (self.decode_errors, "decode error", ""),
            (self.lost_frames, "frame", "that could not be decoded"),
            (self.other_streams, "packet", "of sound or other streams damaged"),
        ];
        let said = counts.iter().filter(|(count, ..)| *count > 0).map(|(count, what, more)| {
            let plural = if *count == 1 { "" } else { "s" };
            format!("{count} {what}{plural} {more}").trim_end().to_owned()
        });
        f.write_str(&said.collect::<Vec<_>>().join(", "))
    }
}

/// Every frame that the first pass saw.
#[derive(Debug, Clone, Default)]
pub struct FrameList {
    entries: Vec<Listed>,
    cuts: Vec<usize>,
    keys: Vec<usize>,
}

/// One frame of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The source's own timestamp in ticks.
    pub pts: Option<i64>,
    /// Its times in the output.
    pub moment: Moment,
    /// Hash of the pixels of every branch.
    pub hash: u64,
}

impl FrameList {
    /// Adds the next frame.
    pub fn push(&mut self, listed: Listed) {
        self.entries.push(listed);
    }

    /// Notes that another scene begins with the frame that comes next.
    pub fn note_cut(&mut self) {
        self.cuts.push(self.entries.len());
    }

    /// The numbers of frames with which another scene begins, ascending; none where nobody asked for them.
    #[must_use]
    pub fn cuts(&self) -> &[usize] {
        &self.cuts
    }

    /// Notes that the frame that comes next is a key frame in the source.
    pub fn note_key(&mut self) {
        self.keys.push(self.entries.len());
    }

    /// The numbers of frames that are key frames in the source, ascending; none where nobody asked for them.
    #[must_use]
    pub fn keys(&self) -> &[usize] {
        &self.keys
    }

    /// All frames, in order.
    #[must_use]
    pub fn entries(&self) -> &[Listed] {
        &self.entries
    }

    /// How many frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether every frame is on the grid; `false` while there are none.
    #[must_use]
    pub fn is_on_grid(&self, times: &OutputTimes) -> bool {
        !self.is_empty() && self.entries.iter().all(|listed| times.is_on_grid(listed.moment))
    }

    /// A hash of the whole list: times and pixels.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for listed in &self.entries {
            hash.update(&listed.moment.grid.to_le_bytes());
            hash.update(&listed.moment.exact.to_le_bytes());
            hash.update(&listed.hash.to_le_bytes());
        }
        hash.digest()
    }
}
