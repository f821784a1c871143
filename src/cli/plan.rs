//! A plan for people: what is read, what every pass does, what becomes of each stream, and the same as ffmpeg commands.

use repass::cache::CacheMode;
use repass::job::{Fate, FirstPass, PackagePlan, Plan, RenditionPlan, StreamPlan};
use repass::media::{Rational, SourceInfo, StreamInfo, StreamKind};
use repass::plan::{CommandLine, argv, shell_line};
use repass::rate::{ByteSize, Target};
use repass::source::Graph;

use super::text::{Page, counted, lasting, percent};

/// A plan as a page; with `with_argv`, the equivalent ffmpeg commands behind it.
pub(crate) fn page(plan: &Plan, with_argv: bool) -> Page {
    let mut page = Page::default();
    source(&mut page, plan);
    page.row("filters", &filters(&plan.graph));
    for rendition in &plan.renditions {
        page.gap();
        page.path("output", &rendition.output, &rendition.container);
        if plan.renditions.len() > 1 {
            page.row("rendition", &named(plan, rendition));
        }
        page.block(&rendition.encoder.to_string());
        if let Some(elsewhere) = first_pass(plan, rendition) {
            page.row("pass 1", &elsewhere);
        }
        for stream in &rendition.streams {
            page.row("stream", &fate(stream));
        }
    }
    page.gap();
    plan.packages.iter().for_each(|package| page.row("package", &segments(plan, package)));
    page.row("cache", &cache(plan));
    let encoders = plan.renditions.iter().flat_map(|rendition| &rendition.encoder.warnings);
    let told: Vec<&String> = encoders.collect();
    plan.warnings.iter().filter(|warning| !told.contains(warning)).for_each(|warning| page.row("warning", warning));
    if with_argv {
        commands(&mut page, plan);
    }
    page
}

/// Where a first pass is that is not the rendition's own, or whom it serves besides.
fn first_pass(plan: &Plan, rendition: &RenditionPlan) -> Option<String> {
    let name = |index: usize| plan.renditions.get(index).map(|other| other.name.as_str());
    match &rendition.first_pass {
        FirstPass::Another { rendition } => {
            Some(format!("not run: that of {} serves this output too", name(*rendition)?))
        }
        FirstPass::Kept { stats, .. } => Some(format!("not run: its statistics are in {}", stats.display())),
        FirstPass::Own => {
            let serves = |other: &&RenditionPlan| {
                let FirstPass::Another { rendition: leader } = other.first_pass else { return false };
                name(leader) == Some(rendition.name.as_str())
            };
            let served: Vec<&str> = plan.renditions.iter().filter(serves).map(|other| other.name.as_str()).collect();
            (!served.is_empty()).then(|| format!("serves {} too", served.join(", ")))
        }
    }
}

/// `720p, 1280x720`, and when it runs where that is not in the first run.
fn named(plan: &Plan, rendition: &RenditionPlan) -> String {
    let picture = &plan.pictures[rendition.branch];
    let waits = if rendition.first_run > 1 { ", beside the second passes of the others" } else { "" };
    format!("{}, {}x{}{waits}", rendition.name, picture.width, picture.height)
}

fn segments(plan: &Plan, package: &PackagePlan) -> String {
    let PackagePlan { container, renditions, gop_frames, segment_seconds, .. } = package;
    let streams = &plan.renditions[renditions[0]].streams;
    let sound = if streams.iter().any(|plan| plan.fate.is_carried()) { " with one sound for all" } else { "" };
    let by_default = if package.by_default { "; 2 s where --gop does not say" } else { "" };
    format!(
        "{container} of {}{sound}, in fMP4 segments of {segment_seconds:.3} s, each from one key frame to the \
         next ({}{by_default})",
        counted(renditions.len() as u64, "rendition"),
        counted(u64::from(*gop_frames), "frame"),
    )
}

fn source(page: &mut Page, plan: &Plan) {
    let source = &plan.source;
    let video = &source.video;
    let codec = source.streams.iter().find(|stream| stream.index == video.index).map(|stream| stream.codec.as_str());
    page.path("source", &source.path, &container(source));
    let mut picture = format!(
        "stream {}, {}, {}x{}, {}, {}",
        video.index,
        codec.unwrap_or("unknown"),
        video.width,
        video.height,
        video.pixel_format,
        frame_rate(plan),
    );
    if video.hdr {
        picture.push_str(", HDR");
    }
    if video.rotation != 0 {
        picture.push_str(&format!(", turned by {}°", video.rotation));
    }
    page.row("video", &picture);
    if let Some(frames) = plan.frames() {
        let about = if source.video.frames.is_some() && !plan.input.is_part() { "" } else { "about " };
        let part = part(plan).unwrap_or_default();
        page.row("length", &format!("{about}{}{part}", counted(frames, "frame")));
    }
}

fn container(source: &SourceInfo) -> String {
    let mut text = source.container.clone();
    if let Some(bytes) = source.bytes {
        text.push_str(&format!(", {}", ByteSize(bytes)));
    }
    if let Some(seconds) = source.seconds {
        text.push_str(&format!(", {}", lasting(seconds)));
    }
    if source.chapters > 0 {
        text.push_str(&format!(", {}", counted(source.chapters as u64, "chapter")));
    }
    text
}

fn frame_rate(plan: &Plan) -> String {
    let rate = plan.timing.rate;
    if plan.timing.regular {
        return format!("{} fps", decimal(rate));
    }
    let average = plan.source.video.average_rate.unwrap_or(rate);
    format!("variable frame rate, {} fps on average", decimal(average))
}

/// `25`, `29.97`.
fn decimal(rate: Rational) -> String {
    let text = format!("{:.3}", rate.value());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The graph in libavfilter's language; of long lists of pixel formats only the beginning.
fn filters(graph: &Graph) -> String {
    let mut graph = graph.clone();
    for branch in &mut graph.branches {
        if branch.pixel_formats.len() > SHOWN_FORMATS {
            branch.pixel_formats.truncate(SHOWN_FORMATS);
            branch.pixel_formats.push("…".to_owned());
        }
    }
    graph.describe()
}

fn part(plan: &Plan) -> Option<String> {
    let from = plan.input.start.map(|start| format!(" from {start} on"));
    let long = plan.input.length.map(|length| format!(", {length} at most"));
    plan.input.is_part().then(|| from.unwrap_or_default() + &long.unwrap_or_default())
}

fn fate(plan: &StreamPlan) -> String {
    let stream = &plan.stream;
    let mut what = format!("{:>2} {} {}", stream.index, stream.kind, stream.codec);
    if let Some(language) = &stream.language {
        what.push_str(&format!(" ({language})"));
    }
    let becomes = match &plan.fate {
        Fate::Encode => "encoded".to_owned(),
        Fate::Copy => "copied".to_owned(),
        Fate::Transcode(spec) => format!("encoded as {spec}"),
        Fate::NotWanted => "left out, as asked".to_owned(),
        Fate::LeftOut => "left out".to_owned(),
    };
    format!("{what:26} {becomes}")
}

fn cache(plan: &Plan) -> String {
    if plan.runs < 2 {
        return "not needed for one pass".to_owned();
    }
    let budget = plan.cache.budget;
    let of = plan.frame_bytes().map_or_else(|| "frames".to_owned(), |bytes| ByteSize(bytes).to_string());
    match (plan.cache.mode, plan.cached_share) {
        (CacheMode::None, _) => "none: every pass decodes".to_owned(),
        (CacheMode::Disk, _) => format!("{of}: up to {budget} in memory, the rest in a temporary file"),
        (CacheMode::Ram, None) => format!("up to {budget} of frames in memory; what does not fit is decoded again"),
        (CacheMode::Ram, Some(share)) if share < 1.0 => {
            format!("keeps about {} of {of} in memory (up to {budget}); the rest is decoded again", percent(share))
        }
        (CacheMode::Ram, Some(_)) => format!("keeps all of {of} in memory (up to {budget}); decodes once"),
    }
}

fn commands(page: &mut Page, plan: &Plan) {
    page.gap();
    page.line("# the same with ffmpeg:");
    remarks(plan).iter().for_each(|remark| page.line(format!("# {remark}")));
    // A second pass comes after the first whose statistics it reads.
    let (own, served): (Vec<&RenditionPlan>, Vec<&RenditionPlan>) =
        plan.renditions.iter().partition(|rendition| !matches!(rendition.first_pass, FirstPass::Another { .. }));
    for command in own.into_iter().chain(served).flat_map(|rendition| argv_of(plan, rendition)) {
        page.line(shell_line(&command));
    }
}

/// Where the ffmpeg program cannot do the same.
fn remarks(plan: &Plan) -> Vec<&'static str> {
    let sized = plan.renditions.iter().any(|rendition| matches!(rendition.encoder.target, Target::Size(_)));
    let mut remarks = Vec::new();
    if sized {
        remarks.push("ffmpeg aims at no size; the bit rate is the estimate that repass starts from");
    }
    if plan.renditions.iter().any(|rendition| matches!(rendition.first_pass, FirstPass::Kept { .. })) {
        remarks.push("ffmpeg cannot read statistics that repass kept; it runs the first pass again");
    }
    if plan.renditions.iter().any(|rendition| rendition.encoder.session.is_some()) {
        remarks.push("ffmpeg has nothing like a session");
    }
    if !plan.packages.is_empty() {
        remarks.push("a package is one command for all its renditions, which is not spelled out here");
    }
    if !plan.timing.regular {
        remarks.push("ffmpeg may time a variable frame rate differently in the two passes");
    }
    remarks
}

/// The ffmpeg commands that do the same as a rendition, one for each pass; none for a part of a package.
pub(crate) fn argv_of(plan: &Plan, rendition: &RenditionPlan) -> Vec<Vec<String>> {
    if plan.packages.iter().any(|package| package.manifest == rendition.output) {
        return Vec::new();
    }
    let earlier = |stream: &&StreamInfo| {
        matches!(stream.kind, StreamKind::Video | StreamKind::Cover) && stream.index < plan.source.video.index
    };
    let line = CommandLine {
        input: plan.input.path.display().to_string(),
        output: rendition.output.display().to_string(),
        start: plan.input.start,
        length: plan.input.length,
        video: plan.source.streams.iter().filter(earlier).count(),
        filters: plan.graph.filters_of(rendition.branch),
        // Of several formats ffmpeg chooses as we do.
        pixel_format: match rendition.encoder.pixel_formats.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        },
        other_streams: other_streams(rendition),
        stats_prefix: format!("{}.repass", leader(plan, rendition).name),
    };
    let mut commands = argv(&rendition.encoder, &line);
    if let FirstPass::Another { .. } = rendition.first_pass {
        commands.remove(0);
    }
    commands
}

/// The rendition whose first pass serves.
fn leader<'p>(plan: &'p Plan, rendition: &'p RenditionPlan) -> &'p RenditionPlan {
    match rendition.first_pass {
        FirstPass::Another { rendition: leader } => plan.renditions.get(leader).unwrap_or(rendition),
        FirstPass::Own | FirstPass::Kept { .. } => rendition,
    }
}

/// Sound, subtitles and the container; the video is the output's stream 0.
fn other_streams(rendition: &RenditionPlan) -> Vec<String> {
    let along = rendition.streams.iter().filter(|plan| matches!(plan.fate, Fate::Copy | Fate::Transcode(_)));
    let mut arguments = Vec::new();
    for (number, plan) in (1..).zip(along) {
        arguments.extend(["-map".to_owned(), format!("0:{}", plan.stream.index), format!("-c:{number}")]);
        match &plan.fate {
            Fate::Transcode(spec) => {
                arguments.push(spec.encoders().first().unwrap_or(&spec.codec()).to_string());
                if let Some(rate) = spec.bitrate(plan.stream.channels.unwrap_or(2)) {
                    arguments.extend([format!("-b:{number}"), rate.0.to_string()]);
                }
            }
            _ => arguments.push("copy".to_owned()),
        }
    }
    for (option, value) in &rendition.mux_options {
        arguments.extend([format!("-{option}"), value.clone()]);
    }
    arguments.extend(["-f".to_owned(), rendition.container.clone()]);
    arguments
}

/// Encoders list a dozen and more; the first are the usual ones.
const SHOWN_FORMATS: usize = 3;
