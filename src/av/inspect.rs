//! Reads a finished file once from end to end and says what is in it: how a sink proves what it wrote.
//!
//! Invariant: nothing is decoded or repaired; packets are counted as the container holds them, or, where it holds none (bare
//! streams, MPEG-TS), as libavformat's parsers find them.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr::{self, NonNull};

use ffmpeg_sys_next as ffi;

use crate::av::codec_parameters::kind_of;
use crate::av::muxer::{Container, Tally, c_path, codec_name};
use crate::av::option::Dictionary;
use crate::av::packet::Packet;
use crate::av::side_data;
use crate::av::{AvError, INTERRUPTED, OUT_OF_MEMORY, check, initialise};

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Length in seconds as the container's header says it; `None` where it does not.
    pub seconds: Option<f64>,
    /// What each stream holds, in the container's order.
    pub streams: Vec<Tally>,
}

/// Opens `path` as a file of `container` and reads every packet.
///
/// # Errors
/// libav's own: a file that is not of this container, without an index, or that ends early; `AVERROR_EXIT` where `go_on`,
/// which is asked before each packet, says no.
pub fn inspect(path: &Path, container: &Container, go_on: &dyn Fn() -> bool) -> Result<Inspection, AvError> {
    read(Input::open(&c_path(path)?, container)?, go_on)
}

/// The same of one stream's segments, as if they were one MP4 file. `list` is a file with the path of each on a line of its
/// own, the initialisation segment first, as [`crate::av::inspect::quoted`] spells it.
///
/// # Errors
/// As for [`inspect`].
pub(crate) fn inspect_segments(list: &Path, go_on: &dyn Fn() -> bool) -> Result<Inspection, AvError> {
    let container = Container::of_segments().ok_or(AvError(ffi::AVERROR_DEMUXER_NOT_FOUND))?;
    let url = [b"concatf:", c_path(list)?.as_bytes()].concat();
    let url = CString::new(url).map_err(|_| AvError::invalid())?;
    read(Input::open(&url, &container)?, go_on)
}

/// A path as libavformat's concatf reads it from a line.
pub(crate) fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''"))
}

fn read(mut input: Input, go_on: &dyn Fn() -> bool) -> Result<Inspection, AvError> {
    let seconds = input.raw().duration;
    let seconds = (seconds > 0).then(|| seconds as f64 / f64::from(ffi::AV_TIME_BASE));
    let mut streams = Vec::new();
    loop {
        if !go_on() {
            return Err(INTERRUPTED);
        }
        let packet = input.read()?;
        // Streams may turn up while reading (MPEG-TS), so the list is brought up to date each time.
        while streams.len() < input.raw().nb_streams as usize {
            streams.push(input.describe(streams.len()));
        }
        let Some(packet) = packet else { return Ok(Inspection { seconds, streams }) };
        let time_base = input.stream(packet.stream()).time_base.into();
        streams[packet.stream()].add(&packet, time_base);
    }
}

struct Input(NonNull<ffi::AVFormatContext>);

impl Input {
    fn open(url: &CStr, container: &Container) -> Result<Self, AvError> {
        initialise();
        let mut options = Dictionary::new();
        // Nothing but these files, whatever they refer to; every sample, also those that an edit list hides.
        options.set("protocol_whitelist", "file,concatf")?;
        options.set("ignore_editlist", "1")?;
        if container.keeps_packets() {
            options.set("fflags", "+noparse+nofillin")?;
        }
        let mut context = ptr::null_mut();
        // SAFETY: the string is terminated, the demuxer null or static; on failure the context stays null.
        check(unsafe {
            ffi::avformat_open_input(&raw mut context, url.as_ptr(), container.demuxer(), options.as_mut())
        })?;
        NonNull::new(context).map(Input).ok_or(OUT_OF_MEMORY)
    }

    /// The next packet; `None` at the end.
    fn read(&mut self) -> Result<Option<Packet>, AvError> {
        let mut packet = Packet::new()?;
        // SAFETY: both are owned and open.
        match unsafe { ffi::av_read_frame(self.0.as_ptr(), packet.as_mut_ptr()) } {
            ffi::AVERROR_EOF => Ok(None),
            code => check(code).map(|_| Some(packet)),
        }
    }

    fn describe(&self, index: usize) -> Tally {
        let stream = self.stream(index);
        // SAFETY: a live stream owns its parameters.
        let parameters = unsafe { &*stream.codecpar };
        let mut tally = Tally::new(kind_of(parameters, stream.disposition), codec_name(parameters.codec_id));
        tally.hdr = side_data::of_stream(stream).iter().any(side_data::is_hdr);
        tally
    }

    fn stream(&self, index: usize) -> &ffi::AVStream {
        assert!(index < self.raw().nb_streams as usize, "a stream that the demuxer announced");
        // SAFETY: the context owns that many streams.
        unsafe { &**self.raw().streams.add(index) }
    }

    fn raw(&self) -> &ffi::AVFormatContext {
        // SAFETY: owned and non-null.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let mut context = self.0.as_ptr();
        // SAFETY: owned and closed once.
        unsafe { ffi::avformat_close_input(&raw mut context) };
    }
}
