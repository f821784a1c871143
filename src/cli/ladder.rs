//! Several renditions from one command line: rungs, several bit rates, and job files.
//!
//! Invariant: a key that a job file may not have is refused with its name and place.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

use repass::adapter;
use repass::av::muxer::Container;
use repass::error::{Error, Refusal};
use repass::job::{AudioChoice, RenditionRequest, Size, SubtitleChoice, output_name, tells_renditions_apart};
use repass::plan::{OnUnsupported, Request};
use repass::rate::{BitRate, ByteSize, Cap, GopLength, QualityTarget, Target};

use super::args::{self, reason};

/// One rung: `720p=3M`, `w640=crf:23`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rung {
    pub(crate) name: String,
    pub(crate) size: Size,
    pub(crate) target: Target,
}

impl FromStr for Rung {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (size, rate) = text.split_once('=').ok_or("expected a size and a rate, like 720p=3M or 720p=crf:23")?;
        let target = match rate.strip_prefix("crf:") {
            Some(level) => Target::Quality(args::quality(level)?),
            None => Target::Average(args::bit_rate(rate)?),
        };
        Ok(Rung { name: size.to_owned(), size: size.parse().map_err(reason)?, target })
    }
}

/// Gives rungs of one size names of their own, by what they aim at.
pub(crate) fn named_apart(rungs: &[Rung]) -> Vec<Rung> {
    let shared = |rung: &Rung| rungs.iter().filter(|other| other.name == rung.name).count() > 1;
    let named = |rung: &Rung| {
        let name = match (shared(rung), rung.target) {
            (false, _) => rung.name.clone(),
            (true, Target::Quality(level)) => format!("{}_crf{level}", rung.name),
            (true, Target::Average(rate)) => format!("{}_{}", rung.name, rate.0),
            (true, Target::Size(size)) => format!("{}_{}", rung.name, size.0),
            (true, Target::Measured(quality)) => format!("{}_{}{}", rung.name, quality.metric, quality.value),
        };
        Rung { name, ..rung.clone() }
    };
    rungs.iter().map(named).collect()
}

/// A bit rate as it was typed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TypedRate {
    pub(crate) text: String,
    pub(crate) rate: BitRate,
}

impl FromStr for TypedRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(TypedRate { text: text.to_owned(), rate: args::bit_rate(text)? })
    }
}

/// Fills in the outputs' names. Several files need a name each; a package needs one for all.
///
/// # Errors
/// [`Refusal::Output`] for a pattern that names one file for all, or leads to another folder.
pub(crate) fn name_outputs(renditions: &mut [RenditionRequest], input: &Path) -> Result<(), Refusal> {
    let several = renditions.len() > 1;
    for rendition in renditions {
        let container = Container::for_path(&rendition.output, rendition.container.as_deref());
        let package = container.is_ok_and(|container| container.is_package());
        if several && !package && !tells_renditions_apart(&rendition.output) {
            let why = "several renditions need {name} in the output, as in out_{name}.mp4".to_owned();
            return Err(Refusal::Output { path: rendition.output.display().to_string(), why });
        }
        rendition.output = output_name(&rendition.output, &rendition.name, input)?;
    }
    Ok(())
}

/// A job file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct JobFile {
    output: Option<PathBuf>,
    vf: Option<String>,
    gop: Option<Typed<GopLength>>,
    #[serde(default)]
    allow_upscale: bool,
    rendition: Vec<Rendition>,
}

/// One rendition of a job file: the words of the command line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rendition {
    name: String,
    encoder: String,
    size: Option<Typed<Size>>,
    bitrate: Option<Typed<BitRate>>,
    crf: Option<f64>,
    file_size: Option<Typed<ByteSize>>,
    quality: Option<Typed<QualityTarget>>,
    quality_tolerance: Option<f64>,
    max_bitrate: Option<Typed<BitRate>>,
    maxrate: Option<Typed<BitRate>>,
    bufsize: Option<Typed<BitRate>>,
    passes: Option<Text>,
    #[serde(default)]
    fast_first_pass: bool,
    #[serde(default)]
    own_first_pass: bool,
    stats: Option<PathBuf>,
    #[serde(default)]
    fallback: bool,
    preset: Option<Text>,
    threads: Option<u16>,
    gop: Option<Typed<GopLength>>,
    #[serde(default)]
    opt: BTreeMap<String, Text>,
    vf: Option<String>,
    audio: Option<String>,
    #[serde(default = "yes")]
    subs: bool,
    output: Option<PathBuf>,
    format: Option<String>,
    #[serde(default)]
    mux_opt: BTreeMap<String, Text>,
}

/// What a job file asks for.
pub(crate) struct Asked {
    pub(crate) filters: Option<String>,
    pub(crate) enlarge: bool,
    pub(crate) renditions: Vec<RenditionRequest>,
}

/// Reads a job file; `output` is what the command line says, where it does.
///
/// # Errors
/// [`Refusal::JobFile`] for a file that cannot be read or understood, and what its renditions are refused for.
pub(crate) fn read(path: &Path, output: Option<&Path>, overwrite: bool, verbose: bool) -> Result<Asked, Error> {
    let refused = |why: String| Refusal::JobFile { path: path.display().to_string(), why };
    let text = fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let file: JobFile = toml::from_str(&text).map_err(|error| refused(placed(&error, &text)))?;
    if file.rendition.is_empty() {
        return Err(refused("has no [[rendition]]".to_owned()).into());
    }
    let output = output.map(Path::to_owned).or(file.output);
    let mut renditions = Vec::with_capacity(file.rendition.len());
    for rendition in file.rendition {
        let name = rendition.name.clone();
        let gop = file.gop.map(|gop| gop.0);
        let request = rendition.request(output.as_deref(), gop, overwrite, verbose).map_err(|error| match error {
            Error::Usage { what, text, why } => refused(format!("{name}: {what} {text:?}: {why}")).into(),
            other => other,
        });
        renditions.push(request?);
    }
    Ok(Asked { filters: file.vf, enlarge: file.allow_upscale, renditions })
}

/// One line: what is wrong, and where.
fn placed(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    match error.span() {
        Some(span) => format!("line {}: {message}", text[..span.start].matches('\n').count() + 1),
        None => message,
    }
}

impl Rendition {
    fn target(&self) -> Result<Target, Error> {
        if self.quality.is_none() && (self.quality_tolerance.is_some() || self.max_bitrate.is_some()) {
            return Err(usage("target", "", "quality-tolerance and max-bitrate are for quality"));
        }
        match (self.bitrate, self.crf, self.file_size, self.quality) {
            (Some(rate), None, None, None) => Ok(Target::Average(rate.0)),
            (None, Some(level), None, None) => Ok(Target::Quality(level)),
            (None, None, Some(size), None) => Ok(Target::Size(size.0)),
            (None, None, None, Some(Typed(quality))) => Ok(Target::Measured(QualityTarget {
                tolerance: self.quality_tolerance.unwrap_or(quality.tolerance),
                at_most: self.max_bitrate.map(|rate| rate.0),
                ..quality
            })),
            _ => Err(usage("target", "", "expected one of bitrate, crf, file-size and quality")),
        }
    }

    fn request(
        self,
        output: Option<&Path>,
        gop: Option<GopLength>,
        overwrite: bool,
        verbose: bool,
    ) -> Result<RenditionRequest, Error> {
        let (encoder, audio) = (self.encoder(verbose)?, self.audio()?);
        let output = self.output.as_deref().or(output);
        let output =
            output.ok_or_else(|| usage("output", &self.name, "give one here, for all, or with -o"))?.to_owned();
        Ok(RenditionRequest {
            container: self.format,
            overwrite,
            filters: self.vf,
            size: self.size.map_or(Size::Source, |size| size.0),
            gop: self.gop.map(|gop| gop.0).or(gop),
            audio,
            subtitles: if self.subs { SubtitleChoice::Copy } else { SubtitleChoice::None },
            mux_options: texts(self.mux_opt),
            ..RenditionRequest::new(self.name, output, encoder)
        })
    }

    fn encoder(&self, verbose: bool) -> Result<Request, Error> {
        if self.stats.is_some() && self.own_first_pass {
            return Err(usage("stats", "", "either they are kept or it is its own"));
        }
        let passes = self.passes.as_ref().map(|text| spelled("passes", &text.0, args::passes)).transpose()?;
        Ok(Request {
            passes: args::passes_for(passes, self.stats.as_deref()),
            on_unsupported: if self.fallback { OnUnsupported::Fallback } else { OnUnsupported::Refuse },
            cap: self.cap()?,
            preset: self.preset.clone().map(|preset| preset.0),
            options: texts(self.opt.clone()),
            threads: self.threads.filter(|threads| *threads > 0),
            fast_first: self.fast_first_pass,
            first_pass: args::first_pass(self.stats.as_deref(), self.own_first_pass),
            verbose,
            ..Request::new(adapter::named(&self.encoder)?, self.target()?)
        })
    }

    fn cap(&self) -> Result<Option<Cap>, Error> {
        match (self.maxrate, self.bufsize) {
            (Some(max), Some(buffer)) => Ok(Some(Cap { max: max.0, buffer: buffer.0 })),
            (None, None) => Ok(None),
            _ => Err(usage("maxrate", "", "maxrate and bufsize go together")),
        }
    }

    fn audio(&self) -> Result<AudioChoice, Error> {
        self.audio.as_deref().map_or(Ok(AudioChoice::Copy), |text| spelled("audio", text, args::audio))
    }
}

fn usage(what: &'static str, text: &str, why: &str) -> Error {
    Error::Usage { what, text: text.to_owned(), why: why.to_owned() }
}

/// A value by the command line's own reader.
fn spelled<T>(what: &'static str, text: &str, read: fn(&str) -> Result<T, String>) -> Result<T, Error> {
    read(text).map_err(|why| usage(what, text, &why))
}

fn texts(options: BTreeMap<String, Text>) -> Vec<(String, String)> {
    options.into_iter().map(|(name, value)| (name, value.0)).collect()
}

/// A value that is spelled as on the command line; a bare number is read as its digits.
#[derive(Debug, Clone, Copy)]
struct Typed<T>(T);

impl<'de, T: FromStr<Err = Error>> Deserialize<'de> for Typed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        text.0.parse().map(Typed).map_err(|error: Error| serde::de::Error::custom(error))
    }
}

/// Text, or a number or truth value as its text.
#[derive(Debug, Clone)]
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsText).map(Text)
    }
}

struct AsText;

impl Visitor<'_> for AsText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a number")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_bool<E>(self, truth: bool) -> Result<String, E> {
        Ok(u8::from(truth).to_string())
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use repass::plan::Passes;

    use super::*;

    fn job(text: &str) -> Result<Asked, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path(), None, false, false)
    }

    /// A file that is whole, with characters put in, taken out and replaced: an error with its place, or a job.
    #[test]
    fn broken_job_files_are_refused_or_read() {
        const WHOLE: &str = "output = 'o_{name}.mp4'\ngop = '2s'\n[[rendition]]\nname = 'a'\nencoder = 'libx264'\nsize = '720p'\n\
                             bitrate = '3M'\nopt = { tune = 'film', crf = 3 }\nthreads = 2\naudio = 'aac:96k'\nsubs = false\n";
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let edit = (0..=WHOLE.len(), 0..12_usize, "[ -~\\n\\PC]{0,6}");
        let edits = proptest::collection::vec(edit, 1..4);
        for _ in 0..2000 {
            let mut text: Vec<char> = WHOLE.chars().collect();
            let edits = proptest::strategy::Strategy::new_tree(&edits, &mut runner).unwrap();
            for (at, gone, new) in proptest::strategy::ValueTree::current(&edits) {
                let at = at.min(text.len());
                text.splice(at..(at + gone).min(text.len()), new.chars());
            }
            let text: String = text.into_iter().collect();
            if let Err(error) = job(&text) {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
            }
        }
    }

    #[test]
    fn a_rung_is_a_size_and_a_rate() {
        let rung: Rung = "720p=3M".parse().unwrap();
        assert_eq!((rung.size, rung.target), (Size::Height(720), Target::Average(BitRate(3_000_000))));
        assert_eq!("w640=crf:23.5".parse::<Rung>().unwrap().target, Target::Quality(23.5));
        for text in ["720p", "720=3M", "720p=", "720p=crf:", "720p=crf:NaN", "=3M", "720p=fast"] {
            assert!(text.parse::<Rung>().is_err(), "{text}");
        }
    }

    #[test]
    fn rungs_of_one_size_are_named_apart() {
        let rungs: Vec<Rung> = ["720p=3M", "720p=1M", "90p=1k"].iter().map(|text| text.parse().unwrap()).collect();
        let names: Vec<String> = named_apart(&rungs).into_iter().map(|rung| rung.name).collect();
        assert_eq!(names, ["720p_3000000", "720p_1000000", "90p"]);
    }

    #[test]
    fn a_job_file_says_what_the_command_line_says() {
        let text = "output = 'out_{name}.mkv'\nvf = 'hqdn3d'\ngop = '2s'\nallow-upscale = true\n\
            [[rendition]]\nname = 'hd'\nencoder = 'libx264'\nsize = '720p'\nbitrate = '3M'\nmaxrate = '5M'\nbufsize = '8M'\n\
            preset = 'slow'\nopt = { tune = 'film', bf = 3 }\naudio = 'aac:128k'\npasses = 2\n\
            [[rendition]]\nname = 'small'\nencoder = 'libsvtav1'\nsize = 'w640'\ncrf = 35\npreset = 8\ngop = 48\n\
            output = 'small.webm'\naudio = 'none'\nvf = 'unsharp'\n";
        let asked = job(text).unwrap();
        assert_eq!((asked.filters.as_deref(), asked.enlarge), (Some("hqdn3d"), true));
        let [hd, small] = asked.renditions.as_slice() else { panic!("two renditions") };
        assert_eq!((hd.size, hd.gop), (Size::Height(720), Some(GopLength::Seconds(2.0))));
        assert_eq!(hd.encoder.options, [("bf".to_owned(), "3".to_owned()), ("tune".to_owned(), "film".to_owned())]);
        assert_eq!((hd.encoder.passes, hd.encoder.cap.unwrap().max), (Passes::Two, BitRate(5_000_000)));
        assert_eq!(small.gop, Some(GopLength::Frames(48)));
        assert_eq!((small.encoder.preset.as_deref(), small.output.to_str()), (Some("8"), Some("small.webm")));
        assert_eq!((small.filters.as_deref(), &small.audio), (Some("unsharp"), &AudioChoice::None));
    }

    #[test]
    fn a_job_file_may_ask_for_a_measured_quality() {
        let text = "[[rendition]]\nname = 'a'\nencoder = 'libx264'\nquality = 'psnr=40'\nquality-tolerance = 0.5\n\
                    max-bitrate = '6M'\noutput = 'x.mkv'\n";
        let asked = job(text).unwrap();
        let Target::Measured(quality) = asked.renditions[0].encoder.target else { panic!("another target") };
        assert_eq!((quality.value, quality.tolerance, quality.at_most), (40.0, 0.5, Some(BitRate(6_000_000))));
        let error = job(&text.replace("quality = 'psnr=40'", "crf = 20")).err().unwrap().to_string();
        assert!(error.contains("are for quality"), "{error}");
    }

    #[test]
    fn what_a_job_file_may_not_hold_is_named_with_its_line() {
        let rendition = "[[rendition]]\nname = 'a'\nencoder = 'libx264'\n";
        for (text, said) in [
            (format!("{rendition}bitrat = '3M'\n"), "line 4: unknown field `bitrat`"),
            (format!("outptu = 'x'\n{rendition}crf = 20\n"), "line 1: unknown field `outptu`"),
            (format!("{rendition}bitrate = 'fast'\n"), "line 4: bitrate \"fast\""),
            (format!("{rendition}size = '720'\ncrf = 2\n"), "line 4: size \"720\""),
            (
                format!("{rendition}crf = 20\nbitrate = '1M'\noutput='x'\n"),
                "one of bitrate, crf, file-size and quality",
            ),
            (format!("{rendition}crf = 20\n"), "give one here"),
            (format!("{rendition}crf = 20\npasses = 3\n"), "expected 1, 2 or session"),
            ("x = [".to_owned(), "line 1"),
        ] {
            let error = job(&text).err().unwrap().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
