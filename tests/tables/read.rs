//! Reads the recorded option tables, so that tests of plans do not depend on the linked FFmpeg.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use repass::adapter::{Adapter, PassModel, StatsRoute, Vendor};
use repass::probe::{Capabilities, OptionInfo, OptionKind};
use repass::quality::Metric;

/// The options and pixel formats of one encoder.
type Table = (BTreeMap<String, OptionInfo>, Vec<String>);

/// The tables of one FFmpeg.
pub struct Tables {
    pub name: String,
    pub libavcodec: String,
    pub context: Vec<String>,
    pub encoders: BTreeMap<String, Table>,
}

/// All that were recorded, by file name; `videotoolbox` is written by hand from videotoolboxenc.c.
pub fn all() -> &'static [Tables] {
    static ALL: LazyLock<Vec<Tables>> = LazyLock::new(|| NAMES.into_iter().map(read).collect());
    &ALL
}

fn read(name: &str) -> Tables {
    let text = fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
    Tables::read(name, &text)
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables")
}

impl Tables {
    pub fn read(name: &str, text: &str) -> Self {
        let mut tables =
            Tables { name: name.to_owned(), libavcodec: String::new(), context: Vec::new(), encoders: BTreeMap::new() };
        let (mut encoder, mut option) = (String::new(), String::new());
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (line.starts_with("     "), line.starts_with("  -"), words.as_slice()) {
                (true, _, [name, number @ ..]) => {
                    let number = number.first().and_then(|number| number.parse().ok()).unwrap_or_default();
                    let (options, _) = tables.encoders.get_mut(&encoder).unwrap();
                    options.get_mut(&option).unwrap().named.push(((*name).to_owned(), number));
                }
                (false, true, [name, kind, ..]) => {
                    option = name.trim_start_matches('-').to_owned();
                    let info = info(kind, line, encoder != "generic");
                    tables.encoders.get_mut(&encoder).unwrap().0.insert(option.clone(), info);
                }
                (_, _, ["libavcodec", version]) => tables.libavcodec = (*version).to_owned(),
                (_, _, ["context", names @ ..]) => {
                    tables.context = names.iter().map(|name| (*name).to_owned()).collect()
                }
                (_, _, ["encoder", name]) => {
                    encoder = (*name).to_owned();
                    tables.encoders.insert(encoder.clone(), (BTreeMap::new(), Vec::new()));
                }
                (_, _, ["formats", formats @ ..]) => {
                    let in_memory = formats.iter().filter(|format| !SURFACES.contains(format));
                    tables.encoders.get_mut(&encoder).unwrap().1 =
                        in_memory.map(|format| (*format).to_owned()).collect();
                }
                _ => panic!("{name}: {line:?}"),
            }
        }
        // ffmpeg prints no flag of `flags` that is not marked for encoding, but libav takes them.
        if let Some(flags) = tables.encoders.get_mut("generic").and_then(|(options, _)| options.get_mut("flags")) {
            flags.named.extend(["pass1", "pass2", "qscale"].map(|name| (name.to_owned(), 0)));
        }
        tables
    }

    /// What the probe would have found with this FFmpeg.
    pub fn capabilities(&self, adapter: &Adapter) -> Capabilities {
        let own = self.encoders.get(adapter.name);
        let (mut options, mut pixel_formats) = (BTreeMap::new(), Vec::new());
        if let Some((own, formats)) = own {
            options.clone_from(&self.encoders["generic"].0);
            options.extend(own.clone());
            pixel_formats.clone_from(formats);
        }
        let works = |route: &StatsRoute| match route {
            StatsRoute::Context => self.context.iter().any(|name| name == adapter.name),
            StatsRoute::File { option } | StatsRoute::Params { option, .. } => options.contains_key(*option),
        };
        let route = match &adapter.passes {
            PassModel::TwoRuns(model) if own.is_some() => model.routes.iter().copied().find(works),
            _ => None,
        };
        Capabilities {
            encoder: adapter.name,
            libavcodec: self.libavcodec.clone(),
            library: None,
            present: own.is_some(),
            route,
            options,
            pixel_formats,
            colour_ranges: Vec::new(),
            decoder: Some(adapter.codec.to_owned()),
            metrics: vec![Metric::Psnr, Metric::Ssim],
            videotoolbox: self.name == "videotoolbox",
            hardware: adapter.vendor != Vendor::Software,
        }
    }
}

fn info(kind: &str, line: &str, private: bool) -> OptionInfo {
    let kind = match kind {
        "<int>" | "<int64>" | "<uint64>" => OptionKind::Int,
        "<float>" | "<double>" => OptionKind::Float,
        "<boolean>" => OptionKind::Bool,
        "<flags>" => OptionKind::Flags,
        "<string>" => OptionKind::Text,
        "<dictionary>" => OptionKind::Params,
        _ => OptionKind::Other,
    };
    let between = |start: &str, end: char| {
        let from = line.find(start)? + start.len();
        let to = from + line[from..].rfind(end)?;
        Some(&line[from..to])
    };
    let range = between("(from ", ')').map(|text| text.split(')').next().unwrap().to_owned());
    let (min, max) = match (range, kind) {
        (Some(range), _) => {
            let (min, max) = range.split_once(" to ").unwrap();
            (bound(min), bound(max))
        }
        (None, OptionKind::Bool) => (-1.0, 1.0),
        (None, _) => (f64::MIN, f64::MAX),
    };
    let default = between("(default ", ')').map(str::to_owned);
    OptionInfo { kind, min, max, default, named: Vec::new(), help: String::new(), private }
}

fn bound(text: &str) -> f64 {
    match text {
        "INT_MAX" => f64::from(i32::MAX),
        "INT_MIN" => f64::from(i32::MIN),
        "UINT32_MAX" => f64::from(u32::MAX),
        "I64_MAX" => i64::MAX as f64,
        "I64_MIN" => i64::MIN as f64,
        "FLT_MAX" => f64::from(f32::MAX),
        "-FLT_MAX" => f64::from(f32::MIN),
        "DBL_MAX" => f64::MAX,
        "-DBL_MAX" => f64::MIN,
        number => number.parse().unwrap_or_else(|_| panic!("{number:?} is no bound")),
    }
}

const NAMES: [&str; 4] = ["ffmpeg-5.1", "ffmpeg-7.1", "ffmpeg-9.0", "videotoolbox"];
/// Formats of frames that live in a device.
const SURFACES: [&str; 4] = ["cuda", "qsv", "amf", "videotoolbox_vld"];
