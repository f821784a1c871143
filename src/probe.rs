//! What the linked libavcodec has of an adapter: option tables first, then a two-frame trial for statistics in memory.
//!
//! Invariant: versions are never compared; what is reported was found.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::adapter::{Adapter, PassModel, StatsRoute, Vendor};
use crate::av::encoder::EncoderSetup;
use crate::av::frame::Frame;
use crate::av::log::LogMark;
use crate::av::option::encoder_table;
use crate::av::packet::Packet;
use crate::av::source::decoder_of;
use crate::av::{self, AvError, Received};
use crate::error::{Error, Refusal};
use crate::media::Rational;
use crate::plan::PassFlag;
use crate::quality::Metric;

pub(crate) mod value;

/// What of an adapter the linked libavcodec has. Plain data: tests build it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capabilities {
    /// libavcodec's name of the encoder.
    pub encoder: &'static str,
    /// The linked libavcodec, as `major.minor.micro`.
    pub libavcodec: String,
    /// The encoder library's own version, where it can be asked.
    pub library: Option<String>,
    /// Whether the encoder is compiled in.
    pub present: bool,
    /// The route that statistics really take here; `None`: none works.
    pub route: Option<StatsRoute>,
    /// Options of the encoder, and the generic ones of libavcodec, by name.
    pub options: BTreeMap<String, OptionInfo>,
    /// Pixel formats of frames in memory that it takes, in libavcodec's order, by libavutil's names; empty where libavcodec
    /// lists none.
    pub pixel_formats: Vec<String>,
    /// Ranges of sample values that it takes (`tv`, `pc`), in libavcodec's order; empty where libavcodec lists none, as before
    /// FFmpeg 7.1.
    pub colour_ranges: Vec<String>,
    /// libavcodec's decoder of what it makes, for measuring it; `None` where there is none that needs no hardware.
    pub decoder: Option<String>,
    /// Metrics by which it can be measured here.
    pub metrics: Vec<Metric>,
    /// Whether this system has VideoToolbox, whose own sessions need nothing of libavcodec.
    pub videotoolbox: bool,
    /// Whether it drives hardware that may be absent (opened only when a job needs it).
    pub hardware: bool,
}

/// One AVOption.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OptionInfo {
    /// What it takes.
    pub kind: OptionKind,
    /// Least value, for numbers.
    pub min: f64,
    /// Greatest value, for numbers.
    pub max: f64,
    /// Default as text, where it has one.
    pub default: Option<String>,
    /// Named values and their numbers, in the table's order.
    pub named: Vec<(String, i64)>,
    /// libav's own help text.
    pub help: String,
    /// Whether it belongs to the encoder itself and not to all of libavcodec.
    pub private: bool,
}

/// What an AVOption takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionKind {
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// True or false.
    Bool,
    /// A set of named bits, `+a-b`.
    Flags,
    /// Free text.
    Text,
    /// `key=value:key=value`.
    Params,
    /// Anything else (ratio, colour, duration …): only libav can check it.
    Other,
}

/// What the linked libavcodec has of `adapter`, found once per process and row: rows of one encoder may differ in all but its
/// name.
#[must_use]
pub fn capabilities(adapter: &'static Adapter) -> Capabilities {
    static KNOWN: Mutex<Vec<(&'static Adapter, Capabilities)>> = Mutex::new(Vec::new());
    // A probe that panicked has inserted nothing, so what is there is whole.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, found)) = known.iter().find(|(row, _)| std::ptr::eq(*row, adapter)) {
        return found.clone();
    }
    let found = probe(adapter);
    known.push((adapter, found.clone()));
    found
}

fn probe(adapter: &'static Adapter) -> Capabilities {
    let table = encoder_table(adapter.name);
    let present = table.is_some();
    let (options, pixel_formats, colour_ranges) =
        table.map(|table| (table.options, table.pixel_formats, table.colour_ranges)).unwrap_or_default();
    let mut found = Capabilities {
        encoder: adapter.name,
        libavcodec: av::versions().libavcodec,
        library: av::library::version(adapter.library).filter(|_| present),
        present,
        route: None,
        options,
        pixel_formats,
        colour_ranges,
        decoder: decoder_of(adapter.codec),
        metrics: Metric::available(),
        videotoolbox: cfg!(target_os = "macos"),
        hardware: adapter.vendor != Vendor::Software,
    };
    if let (true, PassModel::TwoRuns(model)) = (present, &adapter.passes) {
        found.route = model.routes.iter().copied().find(|route| works(adapter, *route, &found));
    }
    found
}

/// Whether statistics really take this route in the linked libavcodec.
fn works(adapter: &Adapter, route: StatsRoute, found: &Capabilities) -> bool {
    match route {
        StatsRoute::File { option } | StatsRoute::Params { option, .. } => found.options.contains_key(option),
        StatsRoute::Context => statistics_come(adapter, found),
    }
}

/// A trial of two frames, for an option table does not tell: whether a first pass gives statistics in memory. Anything
/// that goes wrong in it means that they do not come.
fn statistics_come(adapter: &Adapter, found: &Capabilities) -> bool {
    trial(adapter, found).is_ok_and(|statistics| !statistics.is_empty())
}

fn trial(adapter: &Adapter, found: &Capabilities) -> Result<String, Error> {
    let quickest = adapter.speed.map(|speed| (speed.option.to_owned(), speed.native[0].to_owned()));
    let options = quickest.into_iter().chain([("b".to_owned(), TRIAL_RATE.to_owned())]).collect();
    let setup = EncoderSetup { flag: PassFlag::First, options, ..setup(adapter) };
    let mut encoder = setup.open(flat(adapter, found, 0)?)?;
    let mut packet = Packet::new().map_err(|source| failed(adapter, source))?;
    // An encoder without delay takes no second frame before its first packet is out.
    while encoder.receive(&mut packet)? == Received::Ready {}
    encoder.send(flat(adapter, found, 1)?)?;
    encoder.send_end()?;
    while encoder.receive(&mut packet)? == Received::Ready {}
    Ok(encoder.into_stats())
}

/// Tries whether the encoder opens on this machine, with one frame. Only for hardware, and only when it matters: a
/// driver may take seconds, or print.
///
/// # Errors
/// [`Refusal::NoEncoder`] where it is not compiled in, [`Refusal::NoDevice`] where it does not open. The stage tells them
/// apart, for the code says little: a missing NVIDIA driver is `EPERM`, a missing Intel one `ENOSYS` or unknown (nvenc.c,
/// qsvenc.c).
pub fn open_device(adapter: &'static Adapter) -> Result<(), Error> {
    let found = capabilities(adapter);
    if !found.present {
        return Err(Refusal::NoEncoder {
            encoder: adapter.name.to_owned(),
            libavcodec: found.libavcodec,
            remedy: adapter.availability.to_owned(),
        }
        .into());
    }
    let frame = flat(adapter, &found, 0)?;
    let log = LogMark::now();
    setup(adapter).open(frame).map(drop).map_err(|error| no_device(adapter, &error, &log.lines()).into())
}

fn no_device(adapter: &Adapter, error: &Error, log: &str) -> Refusal {
    let words = match error {
        Error::Open { source, .. } | Error::Encode { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    let why = if log.is_empty() { words } else { format!("{words} ({log})") };
    Refusal::NoDevice { encoder: adapter.name.to_owned(), why, remedy: adapter.availability.to_owned() }
}

fn setup(adapter: &Adapter) -> EncoderSetup {
    EncoderSetup {
        encoder: adapter.name.to_owned(),
        pass: 1,
        flag: PassFlag::None,
        options: Vec::new(),
        stats: None,
        time_base: Rational::new(1, 25),
        frame_rate: Rational::new(25, 1),
        sample_aspect_ratio: None,
        global_header: false,
    }
}

/// A picture of one shade, large enough for every encoder.
fn flat(adapter: &Adapter, found: &Capabilities, number: i64) -> Result<Frame, Error> {
    let eight_bits = ["yuv420p", "nv12"];
    let listed = |name: &&&str| found.pixel_formats.iter().any(|format| format == **name);
    let first = found.pixel_formats.first().map_or(eight_bits[0], String::as_str);
    let format = eight_bits.iter().find(listed).copied().unwrap_or(first);
    let mut frame = Frame::allocate(320, 192, format).map_err(|source| failed(adapter, source))?;
    let shade = |row: &mut [u8]| -> Result<(), AvError> {
        row.fill(SHADE);
        Ok(())
    };
    frame.fill_rows(shade).map_err(|source| failed(adapter, source))?;
    frame.set_pts(number);
    frame.set_duration(1);
    Ok(frame)
}

fn failed(adapter: &Adapter, source: AvError) -> Error {
    Error::Open { encoder: adapter.name.to_owned(), pass: 1, source, log: String::new() }
}

/// Any rate will do.
const TRIAL_RATE: &str = "300000";
/// A byte that is a legal sample at every depth: nearly black, and 257 of 1023 where samples are 10 bits wide.
const SHADE: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::named;

    #[test]
    fn rows_of_one_encoder_are_probed_apart() {
        let row: &'static Adapter = named("libx264").unwrap();
        let plain: &'static Adapter =
            Box::leak(Box::new(Adapter { vendor: Vendor::Nvidia, passes: Adapter::PLAIN.passes, ..row.clone() }));
        let (two_runs, own) = (capabilities(row), capabilities(plain));
        assert_eq!(own.present, two_runs.present);
        assert!(own.route.is_none() && own.hardware && !two_runs.hardware, "{:?}", own.route);
        assert_eq!(two_runs.route.is_some(), two_runs.present);
    }
}
