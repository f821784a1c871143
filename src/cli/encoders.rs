//! The encoders for people and for scripts: a table of all, or one in full.

use anyhow::Result;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use repass::adapter::{self, Adapter, Better, Knob, PassModel, Reach, StatsRoute, Vendor};
use repass::plan::{EncoderPlan, Request, compile};
use repass::probe::{Capabilities, capabilities, open_device};
use repass::rate::{BitRate, Target};

use super::args::EncodersArgs;
use super::text::{Page, print_json};

/// Shows them as asked.
///
/// # Errors
/// An unknown name, or a stdout that cannot be written.
pub(crate) fn show(args: &EncodersArgs, json: bool) -> Result<()> {
    let adapters = match &args.encoder {
        Some(name) => vec![adapter::named(name)?],
        None => adapter::all(),
    };
    let rows: Vec<Row> = adapters.into_iter().map(|adapter| Row::of(adapter, args.probe_device)).collect();
    match (json, args.encoder.is_some()) {
        (true, false) => print_json(&rows)?,
        (true, true) => print_json(&Full::of(&rows[0]))?,
        (false, false) => table(&rows).print()?,
        (false, true) => full(&rows[0]).print()?,
    }
    Ok(())
}

/// What there is to know of one encoder on this machine.
#[derive(Serialize)]
struct Row {
    encoder: &'static str,
    row: u32,
    codec: &'static str,
    vendor: Vendor,
    libavcodec: String,
    present: bool,
    /// Whether its device opens; absent unless it was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    two_pass: bool,
    pass_model: &'static str,
    /// In words.
    passes: String,
    stats_route: Option<StatsRoute>,
    quality: Option<Quality>,
    bitrate_range: Option<(u64, u64)>,
    preset_option: Option<&'static str>,
    presets: Vec<String>,
    pixel_formats: Vec<String>,
    #[serde(skip)]
    adapter: &'static Adapter,
    #[serde(skip)]
    capabilities: Capabilities,
}

#[derive(Serialize)]
struct Device {
    opens: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Serialize)]
struct Quality {
    option: &'static str,
    least: f64,
    greatest: f64,
    better: Better,
}

/// One encoder with the options of its passes.
#[derive(Serialize)]
struct Full<'r> {
    #[serde(flatten)]
    row: &'r Row,
    availability: &'static str,
    plans: Vec<EncoderPlan>,
    refused: Vec<String>,
}

impl Row {
    fn of(adapter: &'static Adapter, probe_device: bool) -> Self {
        let capabilities = capabilities(adapter);
        let hardware = adapter.vendor != Vendor::Software;
        Row {
            encoder: adapter.name,
            row: adapter.row,
            codec: adapter.codec,
            vendor: adapter.vendor,
            libavcodec: capabilities.libavcodec.clone(),
            present: capabilities.present,
            device: (probe_device && hardware && capabilities.present).then(|| Device::of(adapter)),
            two_pass: capabilities.route.is_some(),
            pass_model: pass_model(&adapter.passes),
            passes: passes(&adapter.passes, &capabilities),
            stats_route: capabilities.route,
            quality: quality(adapter, &capabilities),
            bitrate_range: adapter.bitrate.map(|bitrate| bitrate.range),
            preset_option: adapter.speed.map(|speed| speed.option),
            presets: presets(adapter),
            pixel_formats: capabilities.pixel_formats.clone(),
            adapter,
            capabilities,
        }
    }

    fn here(&self) -> &'static str {
        match (self.present, &self.device, self.vendor) {
            (false, ..) => "no",
            (true, Some(device), _) => {
                if device.opens {
                    "yes"
                } else {
                    "no device"
                }
            }
            (true, None, Vendor::Software) => "yes",
            (true, None, _) => "untried",
        }
    }
}

impl Device {
    fn of(adapter: &'static Adapter) -> Self {
        let opened = open_device(adapter);
        Device { opens: opened.is_ok(), why: opened.err().map(|error| error.to_string()) }
    }
}

impl<'r> Full<'r> {
    fn of(row: &'r Row) -> Self {
        let (plans, refused) = example_plans(row);
        Full { row, availability: row.adapter.availability, plans, refused }
    }
}

fn pass_model(model: &PassModel) -> &'static str {
    match model {
        PassModel::TwoRuns(_) => "two_runs",
        PassModel::Inside(_) => "inside",
        PassModel::Refused(_) => "refused",
    }
}

fn passes(model: &PassModel, capabilities: &Capabilities) -> String {
    match model {
        PassModel::TwoRuns(_) if !capabilities.present || capabilities.route.is_some() => "two".to_owned(),
        PassModel::TwoRuns(_) => "one here".to_owned(),
        PassModel::Inside(inside) => match inside.reach {
            Reach::PerFrame => "one, per frame".to_owned(),
            Reach::LookAhead => "one, look-ahead".to_owned(),
        },
        PassModel::Refused(_) => "one".to_owned(),
    }
}

fn statistics(route: Option<StatsRoute>) -> String {
    match route {
        None => "–".to_owned(),
        Some(StatsRoute::Context) => "memory".to_owned(),
        Some(StatsRoute::File { .. } | StatsRoute::Params { .. }) => "file".to_owned(),
    }
}

fn place(route: StatsRoute) -> String {
    match route {
        StatsRoute::Context => "memory".to_owned(),
        StatsRoute::File { option } => format!("a file ({option})"),
        StatsRoute::Params { option, stats, .. } => format!("a file ({option}:{stats})"),
    }
}

/// The knob that is used here: the first whose option the linked libavcodec has; the row's first where it has none.
fn quality(adapter: &Adapter, capabilities: &Capabilities) -> Option<Quality> {
    let here = |knob: &&Knob| capabilities.options.contains_key(knob.option);
    let knob = adapter.quality.iter().find(here).or(adapter.quality.first())?;
    Some(Quality { option: knob.option, least: knob.range.0, greatest: knob.range.1, better: knob.better })
}

fn presets(adapter: &Adapter) -> Vec<String> {
    adapter.speed.map(|speed| speed.native.iter().map(|name| (*name).to_owned()).collect()).unwrap_or_default()
}

impl Quality {
    fn words(&self) -> String {
        let Quality { option, least, greatest, better } = self;
        let (worst, best) = if *better == Better::Lower { (greatest, least) } else { (least, greatest) };
        format!("{option} {worst} to {best}")
    }
}

fn table(rows: &[Row]) -> Page {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["encoder", "here", "passes", "statistics", "quality, worst to best", "preset"]);
    for row in rows {
        table.add_row([
            row.encoder.to_owned(),
            row.here().to_owned(),
            row.passes.clone(),
            statistics(row.stats_route),
            row.quality.as_ref().map_or_else(|| "–".to_owned(), Quality::words),
            row.preset_option.unwrap_or("–").to_owned(),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut page = Page::default();
    table.to_string().lines().for_each(|line| page.line(line));
    page.gap();
    let versions = repass::av::versions();
    page.line(format!("here: in FFmpeg {}, libavcodec {}", versions.ffmpeg, versions.libavcodec));
    page.line("per frame, look-ahead: the encoder analyses inside its one pass");
    if rows.iter().any(|row| row.present && !row.two_pass && row.adapter.supports_two_pass()) {
        page.line("one here: two passes with another FFmpeg");
    }
    if rows.iter().any(|row| row.here() == "untried") {
        page.line("untried: compiled in; --probe-device tells whether the device is there");
    }
    page.line("`repass encoders NAME` shows one in full");
    page
}

fn full(row: &Row) -> Page {
    let mut page = Page::default();
    page.row("encoder", &format!("{} for {}", row.encoder, row.codec));
    let here = match &row.device {
        Some(Device { why: Some(why), .. }) => format!("no device: {why}"),
        _ if !row.present => format!("no: {}", row.adapter.availability),
        _ => row.here().to_owned(),
    };
    page.row("here", &format!("{here} (libavcodec {})", row.libavcodec));
    page.row("passes", &explained(row));
    let quality = row.quality.as_ref().map(|quality| format!("--crf sets {} (worst to best)", quality.words()));
    page.row("quality", &quality.unwrap_or_else(|| "no constant quality".to_owned()));
    if let Some((least, greatest)) = row.bitrate_range {
        page.row("bit rate", &format!("{} to {}", BitRate(least), BitRate(greatest)));
    }
    if let Some(speed) = row.adapter.speed {
        let pairs = adapter::PRESETS.iter().zip(speed.native);
        let mapped: Vec<String> = pairs
            .map(|(name, native)| if *name == native { native.to_owned() } else { format!("{name} = {native}") })
            .collect();
        page.row("--preset", &format!("sets {}: {}", speed.option, mapped.join(", ")));
    }
    if !row.pixel_formats.is_empty() {
        page.row("pixels", &row.pixel_formats.join(", "));
    }
    let (plans, refused) = example_plans(row);
    for plan in plans {
        page.gap();
        page.block(&plan.to_string());
    }
    refused.iter().for_each(|refusal| page.row("refused", refusal));
    page
}

/// The pass model in a sentence, and what it means here.
fn explained(row: &Row) -> String {
    match (&row.adapter.passes, row.stats_route) {
        (PassModel::TwoRuns(model), Some(route)) => {
            let quality = model.no_quality.map_or(String::new(), |why| format!("; not with --crf: {why}"));
            format!("two, statistics in {}; pass 1: {}{quality}", place(route), model.first)
        }
        (PassModel::TwoRuns(model), None) if row.present => format!("one: {}", model.without_route),
        (PassModel::TwoRuns(_), None) => "two, where it is compiled in".to_owned(),
        (PassModel::Inside(inside), _) => format!("one, with analysis inside it: {}", inside.words),
        (PassModel::Refused(because), _) => format!("one: {}", because.words()),
    }
}

/// What the encoder would be given, for a bit rate and for a constant quality; or why it would be given nothing.
fn example_plans(row: &Row) -> (Vec<EncoderPlan>, Vec<String>) {
    let bitrate = row.adapter.bitrate.map(|_| Target::Average(EXAMPLE_RATE));
    let quality =
        row.quality.as_ref().map(|quality| Target::Quality(((quality.least + quality.greatest) / 2.0).round()));
    let (mut plans, mut refused) = (Vec::new(), Vec::new());
    for target in [bitrate, quality].into_iter().flatten() {
        match compile(&Request::new(row.adapter, target), &row.capabilities) {
            Ok(plan) => plans.push(plan),
            Err(refusal) => refused.push(refusal.to_string()),
        }
    }
    refused.dedup();
    (plans, refused)
}

/// Every encoder with a bit rate takes it, for any picture.
const EXAMPLE_RATE: BitRate = BitRate(4_000_000);
