//! What was done, for people: the last lines of `repass encode`.

use repass::av::Versions;
use repass::cache::{CacheMode, Measured, Packing, SpillReport};
use repass::job::FirstPass;
use repass::rate::{BitRate, ByteSize, Target};
use repass::report::{AnalysisReport, PassReport, QualityReport, RenditionReport, Report, SessionReport};
use repass::session::Stopped;

use super::text::{Page, counted, deviation, fps, lasting, percent};

/// The summary of a report; warnings only where they have not been seen on the same terminal.
pub(crate) fn summary(report: &Report, with_warnings: bool) -> Page {
    let mut page = Page::default();
    for rendition in &report.renditions {
        page.path("output", &rendition.output, &output(rendition, report));
        if report.renditions.len() > 1 {
            page.row("rendition", &rendition.name);
        }
        page.row("encoder", &encoder(rendition));
        if let Some(elsewhere) = first_pass(rendition, report) {
            page.row("pass 1", &elsewhere);
        }
        if let Some(session) = &rendition.session {
            page.row("session", &session_of(session));
            session.quality.iter().for_each(|quality| page.row("quality", &quality_of(quality, session)));
        }
        for pass in &rendition.passes {
            page.row(&format!("pass {}", pass.number), &doing(pass));
        }
        page.row("video", &rate(rendition));
        if let (Target::Size(size), Some(error)) = (rendition.plan.target, rendition.size_error) {
            page.row("size", &format!("{} of {size} ({})", ByteSize(rendition.bytes), deviation(error)));
            if let Some(why) = &rendition.size_missed {
                page.row("", why);
            }
        }
        page.row("verified", &verified(rendition));
    }
    if report.runs.len() > 1 {
        page.row("cache", &cache(report));
        if let Some(measured) = measured(report) {
            page.row("", &measured);
        }
    }
    if let Some(damage) = &report.damage {
        page.row("damaged", &format!("{damage}; kept because --keep-damaged was given"));
    }
    page.row("total", &total(report));
    let plans = report.renditions.iter().map(|rendition| &rendition.plan);
    let encoders = plans.map(|plan| (plan.encoder, plan.library.as_ref()));
    page.row("FFmpeg", &versions(&report.versions, encoders));
    if with_warnings {
        report.warnings.iter().for_each(|warning| page.row("warning", warning));
    }
    page
}

/// The summary of an analysis.
pub(crate) fn analysis(report: &AnalysisReport, with_warnings: bool) -> Page {
    let mut page = Page::default();
    let analysed = &report.analysed;
    let frames = counted(analysed.frames, "frame");
    page.path("stats", &report.output, &format!("{}, {frames}", ByteSize(report.bytes)));
    let picture = format!("{}x{} {}", analysed.width, analysed.height, analysed.pixel_format);
    page.row("encoder", &format!("{}, first pass of two, towards {}, {picture}", analysed.encoder, analysed.target));
    if let Some(damage) = &report.damage {
        page.row("damaged", &format!("{damage}; kept because --keep-damaged was given"));
    }
    let mut total = lasting(report.wall_seconds);
    if let Some(cpu) = report.cpu_seconds {
        total.push_str(&format!(", {} of CPU", lasting(cpu)));
    }
    page.row("total", &total);
    let encoder = (analysed.encoder.as_str(), analysed.library.as_ref());
    page.row("FFmpeg", &versions(&report.versions, std::iter::once(encoder)));
    if with_warnings {
        report.warnings.iter().for_each(|warning| page.row("warning", warning));
    }
    page
}

/// Where a first pass was that was not the rendition's own.
pub(super) fn first_pass(rendition: &RenditionReport, report: &Report) -> Option<String> {
    match &rendition.first_pass {
        FirstPass::Own => None,
        FirstPass::Another { rendition } => Some(format!("that of {}", report.renditions.get(*rendition)?.name)),
        FirstPass::Kept { resumed: true, .. } => Some("not run again: finished by an earlier run".to_owned()),
        FirstPass::Kept { stats, .. } => Some(format!("kept in {}", stats.display())),
    }
}

fn output(rendition: &RenditionReport, report: &Report) -> String {
    format!("{}, {}, {}", ByteSize(rendition.bytes), lasting(report.seconds), counted(report.frames, "frame"))
}

fn encoder(rendition: &RenditionReport) -> String {
    let passes = rendition.plan.course();
    let analysis = rendition.plan.analysis.as_ref().map(|analysis| format!(" with {}", analysis.words));
    format!("{}, {passes}{}, towards {}", rendition.plan.encoder, analysis.unwrap_or_default(), rendition.plan.target)
}

/// `on target after 3 passes: 359, 60 and 59 frames, and 48 probed; 6 segments, levels 24 to 26.5`.
fn session_of(session: &SessionReport) -> String {
    let stopped = match session.stopped {
        Stopped::Satisfied => "on target after",
        Stopped::PassLimit => "stopped at its limit of",
        Stopped::Exhausted => "not on target after",
    };
    let frames: Vec<String> = session.passes.iter().map(|pass| pass.frames.to_string()).collect();
    let passes = match session.passes.len() {
        1 => "1 pass".to_owned(),
        several => format!("{several} passes"),
    };
    let text = format!("{stopped} {passes}, over {} frames", frames.join(" + "));
    if session.segments.is_empty() {
        return text;
    }
    let levels = session.segments.iter().map(|segment| segment.level);
    let (least, greatest) =
        levels.fold((f64::MAX, f64::MIN), |(least, greatest), level| (least.min(level), greatest.max(level)));
    let (probed, segments) = (session.probed_frames, counted(session.segments.len() as u64, "segment"));
    let taken_up = match session.taken_up {
        0 => String::new(),
        some => format!("; {} from an earlier run", counted(some, "coded segment")),
    };
    format!("{text} after {probed} to probe; {segments} at levels from {least} to {greatest}{taken_up}")
}

/// `VMAF 95 ± 0.5 in every segment: from 94.71 to 95.38, mean 95.02`.
fn quality_of(quality: &QualityReport, session: &SessionReport) -> String {
    let QualityReport { wanted, lowered_to, mean, missed } = quality;
    let decimals = wanted.metric.decimals();
    let values = session.segments.iter().filter_map(|segment| segment.quality);
    let (least, greatest) =
        values.fold((f64::MAX, f64::MIN), |(least, greatest), value| (least.min(value), greatest.max(value)));
    let found = format!("from {least:.decimals$} to {greatest:.decimals$}, mean {mean:.decimals$}");
    let lowered = lowered_to.map(|lowered| format!(", lowered to {lowered:.decimals$} by the cap")).unwrap_or_default();
    let of = match missed.len() {
        0 => "in every segment".to_owned(),
        some => format!("missed by {some} of {}", counted(session.segments.len() as u64, "segment")),
    };
    format!("{wanted}{lowered}, {of}: {found}")
}

fn doing(pass: &PassReport) -> String {
    let rate = fps(pass.frames as f64 / pass.wall_seconds.max(1e-3));
    let mut text = format!("{}, {rate}", lasting(pass.wall_seconds));
    if let Some(bytes) = pass.stats_bytes {
        text.push_str(&format!(", {} of statistics", ByteSize(bytes)));
    }
    for (seconds, what) in [(pass.starved_seconds, "frames"), (pass.blocked_seconds, "the output")] {
        let waited = seconds / pass.wall_seconds.max(1e-3);
        if waited >= WORTH_SAYING {
            text.push_str(&format!(", {} of it waiting for {what}", percent(waited)));
        }
    }
    text
}

fn rate(rendition: &RenditionReport) -> String {
    let achieved = BitRate(rendition.video_bps as u64);
    let aimed = rendition.passes.last().and_then(|pass| pass.target_bps);
    match (aimed, rendition.bitrate_error) {
        (Some(aimed), Some(error)) => format!("{achieved} of {} ({})", BitRate(aimed), deviation(error)),
        _ => achieved.to_string(),
    }
}

fn verified(rendition: &RenditionReport) -> String {
    let frames = rendition.passes.last().map_or(0, |pass| pass.packets);
    if rendition.verified {
        format!("{}, read back from the file", counted(frames, "frame"))
    } else {
        "no: the output cannot be read back".to_owned()
    }
}

fn cache(report: &Report) -> String {
    if report.cache.mode == CacheMode::None {
        return "none: every pass decoded".to_owned();
    }
    let share = report.cached_frames as f64 / report.frames.max(1) as f64;
    let mut text = format!("{} of {} kept ({})", report.cached_frames, counted(report.frames, "frame"), percent(share));
    if let Some(SpillReport { packing: Some(packing), frames, bytes, .. }) = &report.spill {
        let packed = if *packing == Packing::Lz4 { ", packed by LZ4" } else { "" };
        text.push_str(&format!(", {frames} of them in a temporary file ({}{packed})", ByteSize(*bytes)));
    }
    if report.cached_frames < report.frames {
        text.push_str("; the rest was decoded again");
    }
    text
}

/// The figures by which frames went to a file or not.
fn measured(report: &Report) -> Option<String> {
    let spill = report.spill.as_ref()?;
    let Measured { write_bps, read_bps, raw_seconds, lz4_seconds, packed_share, decode_seconds, .. } = spill.measured?;
    let again = decode_seconds.map(|again| format!(", made again {:.2} ms", again * 1e3)).unwrap_or_default();
    Some(format!(
        "per frame: in a file {:.2} ms, packed {:.2} ms (to {}){again}; {} takes {:.0} MB/s and gives {:.0} MB/s",
        raw_seconds * 1e3,
        lz4_seconds * 1e3,
        percent(packed_share),
        spill.folder.display(),
        write_bps / 1e6,
        read_bps / 1e6,
    ))
}

fn total(report: &Report) -> String {
    let mut text = lasting(report.wall_seconds);
    if let Some(cpu) = report.cpu_seconds {
        text.push_str(&format!(", {} of CPU", lasting(cpu)));
    }
    if let Some(bytes) = report.peak_memory_bytes {
        text.push_str(&format!(", at most {} of memory", ByteSize(bytes)));
    }
    text
}

/// FFmpeg's version, and those of the encoders, each once.
fn versions<'p>(ffmpeg: &Versions, encoders: impl Iterator<Item = (&'p str, Option<&'p String>)>) -> String {
    let mut versions = vec![ffmpeg.ffmpeg.clone(), format!("libavcodec {}", ffmpeg.libavcodec)];
    versions.extend(encoders.filter_map(|(encoder, library)| Some(format!("{encoder} {}", library?))));
    versions.dedup();
    versions.join(", ")
}

/// A share of a pass's time below which waiting is not mentioned.
const WORTH_SAYING: f64 = 0.1;
