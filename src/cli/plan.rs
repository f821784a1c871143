//! A plan for people: what is read, what every pass does, what becomes of each stream, and the same as ffmpeg commands.

use serde_json::Value;

use repass::av::muxer::Container;
use repass::cache::CacheMode;
use repass::job::{Fate, FirstPass, PackagePlan, Plan, RenditionPlan, StreamPlan};
use repass::media::{Rational, SourceInfo, StreamInfo, StreamKind};
use repass::plan::{CommandLine, argv, plain_name, shell_line};
use repass::rate::{ByteSize, Target};
use repass::sink::Layout;
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

/// A plan as JSON; with `with_argv`, the equivalent ffmpeg commands in it.
///
/// # Errors
/// Those of the serialiser.
pub(crate) fn value(plan: &Plan, with_argv: bool) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(plan)?;
    if with_argv {
        value["argv"] = plan.renditions.iter().map(|rendition| argv_of(plan, rendition)).collect();
        value["package_argv"] = plan.packages.iter().map(|package| argv_of_package(plan, package)).collect();
    }
    Ok(value)
}

/// Where a first pass is that is not the rendition's own, or whom it serves besides.
fn first_pass(plan: &Plan, rendition: &RenditionPlan) -> Option<String> {
    let name = |index: usize| plan.renditions.get(index).map(|other| other.name.as_str());
    match &rendition.first_pass {
        FirstPass::Another { rendition } => {
            Some(format!("not run: that of {} serves this output too", name(*rendition)?))
        }
        FirstPass::Kept { resumed: true, .. } => Some("not run: an earlier run of this job has finished it".to_owned()),
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
    let has = |kind| streams.iter().any(|plan| plan.stream.kind == kind && plan.fate.is_carried());
    let sound = match (has(StreamKind::Audio), has(StreamKind::Subtitle)) {
        (true, true) => " with one sound and one set of subtitles for all",
        (true, false) => " with one sound for all",
        (false, true) => " with one set of subtitles for all",
        (false, false) => "",
    };
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
    if plan.keeps_input {
        page.row("pipe", "kept in a temporary file as it comes, for what is read again");
    }
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
        Fate::WebVtt => "written as WebVTT".to_owned(),
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
    let file = format!("a temporary file in {}", plan.cache.spill_folder().display());
    let of = plan.frame_bytes().map_or_else(|| "frames".to_owned(), |bytes| ByteSize(bytes).to_string());
    match (plan.cache.mode, plan.cached_share) {
        (CacheMode::None, _) => "none: every pass decodes".to_owned(),
        (CacheMode::Disk, _) => {
            format!("{of}: up to {budget} in memory, the rest in {file}, raw or packed as is measured to be faster")
        }
        (CacheMode::Raw, _) => format!("{of}: up to {budget} in memory, the rest in {file}"),
        (CacheMode::Lz4, _) => format!("{of}: up to {budget} in memory, the rest in {file}, packed by LZ4"),
        (CacheMode::Ram | CacheMode::Auto, Some(share)) if share >= 1.0 => {
            format!("keeps all of {of} in memory (up to {budget}); decodes once")
        }
        (mode, share) => {
            let what = match share {
                Some(share) => format!("keeps about {} of {of} in memory (up to {budget})", percent(share)),
                None => format!("up to {budget} of frames in memory"),
            };
            match mode {
                CacheMode::Auto => format!(
                    "{what}; the rest goes to {file} (half of what is free there at most) or is decoded again, as is \
                     measured to be faster when memory is full"
                ),
                _ => format!("{what}; the rest is decoded again"),
            }
        }
    }
}

fn commands(page: &mut Page, plan: &Plan) {
    page.gap();
    page.line("# the same with ffmpeg:");
    remarks(plan).iter().for_each(|remark| page.line(format!("# {remark}")));
    for folder in plan.packages.iter().map(folder_of).filter(|folder| !std::path::Path::new(folder).exists()) {
        page.line(shell_line(&["mkdir".to_owned(), "-p".to_owned(), folder]));
    }
    // A second pass comes after the first whose statistics it reads.
    let (own, served): (Vec<&RenditionPlan>, Vec<&RenditionPlan>) =
        plan.renditions.iter().partition(|rendition| !matches!(rendition.first_pass, FirstPass::Another { .. }));
    for command in own.into_iter().chain(served).flat_map(|rendition| argv_of(plan, rendition)) {
        page.line(shell_line(&command));
    }
    for command in plan.packages.iter().flat_map(|package| argv_of_package(plan, package)) {
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
    if plan.renditions.iter().any(|rendition| rendition.encoder.is_session()) {
        remarks.push("ffmpeg has nothing like a session");
    }
    if plan.packages.iter().any(|package| package.container == "hls") {
        remarks.push("ffmpeg's master playlist says less: no subtitles, and rates and codecs not as measured");
    }
    if plan.packages.iter().any(|package| package.container == "dash") {
        remarks.push("ffmpeg's manifest says less: no subtitles, and rates and codecs not as measured");
    }
    if !plan.packages.is_empty() {
        remarks.push("files that are called .between.mp4 are in between: remove them afterwards");
    }
    if plan.keeps_input {
        remarks.push("ffmpeg reads a pipe only once: save it to a file, and name that");
    }
    if !plan.timing.regular {
        remarks.push("ffmpeg may time a variable frame rate differently in the two passes");
    }
    remarks
}

/// The ffmpeg commands that do the same as a rendition, one for each pass. A part of a package goes into a file of its own,
/// the first one with the sound, for the package's own command to take.
fn argv_of(plan: &Plan, rendition: &RenditionPlan) -> Vec<Vec<String>> {
    let package = plan.packages.iter().find(|package| package.manifest == rendition.output);
    let output = match package {
        Some(package) => between(package, rendition),
        None => rendition.output.display().to_string(),
    };
    let other_streams = match package {
        Some(package) if plan.renditions[package.renditions[0]].name != rendition.name => Vec::new(),
        Some(_) => other_streams(rendition, "mp4", &[]),
        None => other_streams(rendition, &rendition.container, &rendition.mux_options),
    };
    let earlier = |stream: &&StreamInfo| {
        matches!(stream.kind, StreamKind::Video | StreamKind::Cover) && stream.index < plan.source.video.index
    };
    let line = CommandLine {
        input: input_of(plan),
        output,
        start: plan.input.start,
        length: plan.input.length,
        video: plan.source.streams.iter().filter(earlier).count(),
        filters: plan.graph.filters_of(rendition.branch),
        // Of several formats ffmpeg chooses as we do.
        pixel_format: match rendition.encoder.pixel_formats.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        },
        other_streams,
        stats_prefix: format!("{}.repass", leader(plan, rendition).name),
    };
    let mut commands = argv(&rendition.encoder, &line);
    if let FirstPass::Another { .. } = rendition.first_pass {
        commands.remove(0);
    }
    commands
}

/// The input as ffmpeg takes it for a file, where it is one.
fn input_of(plan: &Plan) -> String {
    let name = plan.input.path.display().to_string();
    if plan.input.path.exists() { plain_name(&name) } else { name }
}

/// The rendition whose first pass serves.
fn leader<'p>(plan: &'p Plan, rendition: &'p RenditionPlan) -> &'p RenditionPlan {
    match rendition.first_pass {
        FirstPass::Another { rendition: leader } => plan.renditions.get(leader).unwrap_or(rendition),
        FirstPass::Own | FirstPass::Kept { .. } => rendition,
    }
}

/// Sound, subtitles and the container; the video is the output's stream 0.
fn other_streams(rendition: &RenditionPlan, container: &str, mux_options: &[(String, String)]) -> Vec<String> {
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
    arguments.extend(options(mux_options));
    arguments.extend(["-f".to_owned(), container.to_owned()]);
    arguments
}

fn options(pairs: &[(String, String)]) -> impl Iterator<Item = String> {
    pairs.iter().flat_map(|(option, value)| [format!("-{option}"), value.clone()])
}

/// The ffmpeg commands that make a package of its renditions' files: the package, and each of its subtitles.
fn argv_of_package(plan: &Plan, package: &PackagePlan) -> Vec<Vec<String>> {
    let renditions: Vec<&RenditionPlan> = package.renditions.iter().map(|index| &plan.renditions[*index]).collect();
    let streams = &renditions[0].streams;
    let of = |kind| streams.iter().filter(move |plan| plan.stream.kind == kind && plan.fate.is_carried());
    let videos = renditions.iter().map(|rendition| (StreamKind::Video, rendition.adapter.codec.to_owned()));
    let others = [StreamKind::Audio, StreamKind::Subtitle].into_iter().flat_map(of);
    let others = others.map(|plan| (plan.stream.kind, plan.stream.codec.clone()));
    let names: Vec<String> = renditions.iter().map(|rendition| rendition.name.clone()).collect();
    let Ok(container) = Container::for_path(&package.manifest, Some(&package.container)) else { return Vec::new() };
    let all = videos.chain(others);
    let Some(layout) = Layout::of(&package.manifest, &container, package.segment_seconds, &names, all) else {
        return Vec::new();
    };
    let folder = folder_of(package);
    let within = |name: &str| format!("{folder}/{name}");
    // Else each input would be moved to begin at 0, and sound and picture apart.
    let mut command: Vec<String> = ["ffmpeg", "-y", "-copyts"].map(str::to_owned).to_vec();
    let word = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    renditions.iter().for_each(|rendition| command.extend(["-i".to_owned(), between(package, rendition)]));
    (0..renditions.len()).for_each(|input| command.extend(["-map".to_owned(), format!("{input}:v")]));
    (0..of(StreamKind::Audio).count()).for_each(|sound| command.extend(["-map".to_owned(), format!("0:a:{sound}")]));
    command.extend(word(&["-c", "copy"]));
    for (number, _) in renditions.iter().enumerate().filter(|(_, rendition)| rendition.adapter.codec == "hevc") {
        command.extend([format!("-tag:v:{number}"), "hvc1".to_owned()]);
    }
    command.extend(options(&layout.options(&folder)));
    if package.container == "hls" {
        command.extend(["-master_pl_name".to_owned(), file_name(package)]);
    }
    command.extend(options(&renditions[0].mux_options));
    command.extend([word(&["-f", &package.container]), vec![within(&layout.url())]].concat());
    let text = |(number, plan_of): (usize, &StreamPlan)| {
        let input = input_of(plan);
        let mut command = word(&["ffmpeg", "-y"]);
        plan.input.start.iter().for_each(|start| command.extend(["-ss".to_owned(), start.0.to_string()]));
        plan.input.length.iter().for_each(|length| command.extend(["-t".to_owned(), length.0.to_string()]));
        command.extend(["-i".to_owned(), input, "-map".to_owned(), format!("0:{}", plan_of.stream.index)]);
        command.extend(word(&["-f", "webvtt"]));
        layout.text(number).map(|name| [command, vec![within(&name)]].concat())
    };
    let texts = of(StreamKind::Subtitle).enumerate().filter_map(text);
    std::iter::once(command).chain(texts).collect()
}

/// The file that holds a rendition of a package on its way.
fn between(package: &PackagePlan, rendition: &RenditionPlan) -> String {
    let stem = package.manifest.file_stem().unwrap_or_default().to_string_lossy();
    format!("{}/{stem}_{}.between.mp4", folder_of(package), rendition.name)
}

fn folder_of(package: &PackagePlan) -> String {
    let folder = package.manifest.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or_else(|| ".".to_owned(), |folder| folder.display().to_string())
}

fn file_name(package: &PackagePlan) -> String {
    package.manifest.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Encoders list a dozen and more; the first are the usual ones.
const SHOWN_FORMATS: usize = 3;
