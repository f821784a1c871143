//! The report as one HTML page that needs nothing else: no network, no other file, light and dark.
//!
//! Invariant: names from outside (clips, presets, a processor's name) are escaped, by the template engine; the page says what
//! every figure means.

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use time::OffsetDateTime;

use crate::bench::chart::Kind;
use crate::bench::plots;
use crate::bench::record::{Begun, ClipRecord};
use crate::bench::results::{CellResult, Comparison, Gain, Results, Series, series_name};
use crate::bench::statistics::Spread;
use crate::bench::verdict::{Worth, leading, worth};
use crate::quality::Metric;

/// The page; `changes` is what an earlier bench is told to differ in.
///
/// # Panics
/// Never for results of this version: the template is a part of the program.
#[must_use]
pub fn html(results: &Results, changes: &[String]) -> String {
    let mut environment = Environment::new();
    environment.add_filter("fixed", fixed);
    environment.add_filter("signed", signed);
    environment.add_filter("percent", percent);
    let view = context! {
        style => concat!(include_str!("chart.css"), include_str!("page.css")),
        script => include_str!("page.js"),
        begun => results.begun.as_ref().map(|begun| head(begun, results)),
        encodes => results.cells.len(),
        comparisons => results.comparisons.iter().map(comparison).collect::<Vec<_>>(),
        changes => changes.to_vec(),
        clips => results.clips.iter().map(|clip| section(results, clip)).collect::<Vec<_>>(),
        metrics => results.metrics().iter().map(|metric| metric.title()).collect::<Vec<_>>(),
        unavailable => results.unavailable.iter().map(|lack| context! {
            encoder => lack.encoder.clone(),
            mode => lack.mode.map(|mode| mode.to_string()),
            why => lack.why.clone(),
        }).collect::<Vec<_>>(),
    };
    environment.render_named_str("page.html", include_str!("page.html"), view).expect("a template that fits")
}

fn head(begun: &Begun, results: &Results) -> Value {
    let Begun { machine, settings } = begun;
    let options: Vec<String> = settings.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    context! {
        machine => machine.line(),
        timed => timed(&results.cells),
        threads => settings.threads.to_string(),
        filters => settings.filters.clone(),
        options => options.join(" "),
        last => results.runs.last().and_then(|run| utc(run.at)),
    }
}

/// How often each encode was timed; a bench that went on with other runs has some of both.
fn timed(cells: &[CellResult]) -> String {
    let runs = || cells.iter().map(|result| result.wall.runs);
    match (runs().min().unwrap_or(0), runs().max().unwrap_or(0)) {
        (1, 1) => "once".to_owned(),
        (least, greatest) if least == greatest => format!("{least} times"),
        (least, greatest) => format!("{least} to {greatest} times"),
    }
}

fn comparison(comparison: &Comparison) -> Value {
    let gain = |gain: &Gain| {
        context! { title => gain.metric.title(), decimals => gain.metric.decimals(), ..Value::from(Serde(gain)) }
    };
    let class = match leading(&comparison.gains).map(worth) {
        Some(Worth::Gain) => "gain",
        Some(Worth::Loss) => "loss",
        Some(Worth::Nothing) | None => "none",
    };
    context! {
        name => series_name(&comparison.encoder, comparison.preset.as_deref()),
        mode => comparison.mode.to_string(),
        worth => class,
        first_share => comparison.first_cpu_share.or(comparison.first_wall_share),
        gains => comparison.gains.iter().map(gain).collect::<Vec<_>>(),
        ..Value::from(Serde(comparison))
    }
}

fn section(results: &Results, clip: &ClipRecord) -> Value {
    let mut charts: Vec<String> = results
        .metrics()
        .iter()
        .map(|metric| plots::rate_quality(results, &clip.name, *metric).draw(Kind::Inline))
        .collect();
    let overhead = plots::overhead(results, &clip.name);
    if !overhead.bars.is_empty() {
        charts.push(overhead.draw(Kind::Inline));
    }
    let series = plots::of_clip(results, &clip.name);
    let rows = results.cells.iter().filter(|result| result.cell.clip == clip.name);
    context! {
        charts,
        series => series.iter().filter_map(|series| over_time(results, series, clip)).collect::<Vec<_>>(),
        rows => rows.map(|result| row(result, results.metrics())).collect::<Vec<_>>(),
        ..Value::from(Serde(clip))
    }
}

/// Plots over time of one series; the page shows one rate at a time, and all of them where there is no script.
fn over_time(results: &Results, series: &Series, clip: &ClipRecord) -> Option<Value> {
    let aims = plots::aims(results, series);
    let metric = preferred(results).filter(|_| !aims.is_empty())?;
    let per_frame = 1.0 / clip.frame_rate.max(1e-9);
    let rates = aims.iter().map(|aim| {
        let quality = plots::frames(results, series, *aim, metric, per_frame).draw(Kind::Inline);
        let bits = plots::bitrate(results, series, *aim, per_frame).draw(Kind::Inline);
        context! { aim => aim.to_string(), charts => [quality, bits] }
    });
    Some(context! { name => series.name(), rates => rates.collect::<Vec<_>>() })
}

fn row(result: &CellResult, metrics: &[Metric]) -> Value {
    let quality = |metric: &Metric| {
        let pooled = result.quality(*metric).map(|quality| quality.pooled);
        context! {
            decimals => metric.decimals(),
            pooled => pooled.map(|pooled| [pooled.mean, pooled.harmonic_mean, pooled.p5, pooled.p1]),
        }
    };
    let stats: Option<u64> = result.passes.iter().filter_map(|pass| pass.stats_bytes).reduce(|one, other| one + other);
    context! {
        name => series_name(&result.cell.encoder, result.cell.preset.as_deref()),
        mode => result.cell.mode.to_string(),
        aim => result.cell.aim.to_string(),
        video_bps => result.video_bps,
        repeatable => result.repeatable,
        bitrate_error => result.bitrate_error,
        cpu => result.cpu.as_ref().map(spread),
        wall => spread(&result.wall),
        fps => result.frames_per_second,
        stats_bytes => stats,
        peak_bytes => result.peak_bytes,
        qualities => metrics.iter().map(quality).collect::<Vec<_>>(),
    }
}

fn spread(spread: &Spread) -> Value {
    context! { noisy => spread.is_noisy(), ..Value::from(Serde(spread)) }
}

/// The metric that plots over time show.
fn preferred(results: &Results) -> Option<Metric> {
    let all = results.metrics();
    [Metric::Vmaf, Metric::VmafNeg, Metric::Xpsnr, Metric::Psnr, Metric::Ssim]
        .into_iter()
        .find(|metric| all.contains(metric))
}

// ---- the template's filters: figures, or a dash where there is none

fn fixed(value: Option<f64>, decimals: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.decimals$}"))
}

fn signed(value: Option<f64>, decimals: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:+.decimals$}"))
}

fn percent(share: Option<f64>, decimals: usize) -> String {
    share.map_or("–".to_owned(), |share| format!("{:.decimals$} %", share * 100.0))
}

/// A moment in seconds since 1970 as `2026-11-20 09:40 UTC`.
fn utc(seconds: u64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    let (date, hour, minute) = (at.date(), at.hour(), at.minute());
    Some(format!("{date} {hour:02}:{minute:02} UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_to_the_minute() {
        assert_eq!(utc(1_795_167_600).unwrap(), "2026-11-20 09:40 UTC");
    }

    #[test]
    fn an_empty_bench_makes_a_page() {
        let page = html(&Results::of(&[]), &[]);
        assert!(page.contains("Nothing has been measured") && page.ends_with("</html>"), "{page}");
    }
}
