//! The report as one HTML page that needs nothing else: no network, no other file, light and dark.
//!
//! Invariant: names from outside (clips, presets, a processor's name) are escaped; the page says what every figure means.

use std::fmt::Write;

use crate::bench::chart::escaped;
use crate::bench::plots;
use crate::bench::quality::Metric;
use crate::bench::record::{Begun, ClipRecord};
use crate::bench::results::{CellResult, Comparison, Cost, Results, Series};
use crate::bench::statistics::Spread;
use crate::bench::verdict::{Worth, leading, worth};

/// The page; `changes` is what an earlier bench is told to differ in.
#[must_use]
pub fn html(results: &Results, changes: &[String]) -> String {
    let mut page = format!(
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>\
         <meta name='viewport' content='width=device-width,initial-scale=1'><meta name='color-scheme' content='light dark'>\
         <title>repass bench</title><style>{}{}</style></head><body><main>",
        include_str!("chart.css"),
        include_str!("page.css")
    );
    head(&mut page, results);
    verdicts(&mut page, &results.comparisons);
    changed(&mut page, changes);
    costs(&mut page, &results.comparisons);
    for clip in &results.clips {
        section(&mut page, results, clip);
    }
    unavailable(&mut page, results);
    method(&mut page, results);
    let _ = write!(
        page,
        "</main><div id='tip' role='status' hidden></div><script>{}</script></body></html>",
        include_str!("page.js")
    );
    page
}

fn head(page: &mut String, results: &Results) {
    page.push_str("<header><h1>What a second pass costs, and what it brings</h1>");
    let Some(Begun { machine, settings }) = &results.begun else {
        page.push_str("<p>Nothing has been measured.</p></header>");
        return;
    };
    let runs = if settings.runs == 1 { "once".to_owned() } else { format!("{} times", settings.runs) };
    let filters =
        settings.filters.as_ref().map(|text| format!(" Filters: <code>{}</code>.", escaped(text))).unwrap_or_default();
    let options: Vec<String> = settings.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let options = if options.is_empty() {
        String::new()
    } else {
        format!(" Options: <code>{}</code>.", escaped(&options.join(" ")))
    };
    let _ = write!(
        page,
        "<p class='soft'>{}</p><p class='soft'>{} clip{}, {} encodes, each timed {runs} with {} threads.{filters}{options} {}</p></header>",
        escaped(&machine.line()),
        results.clips.len(),
        if results.clips.len() == 1 { "" } else { "s" },
        results.cells.len(),
        settings.threads,
        results.runs.last().map(|run| format!("Last measured {}.", utc(run.at))).unwrap_or_default()
    );
}

fn verdicts(page: &mut String, comparisons: &[Comparison]) {
    if comparisons.is_empty() {
        page.push_str("<p>No mode was compared with one pass: that takes the mode 1pass and at least one other.</p>");
        return;
    }
    page.push_str("<h2>Verdicts</h2><div class='verdicts'>");
    for comparison in comparisons {
        let class = match leading(&comparison.gains).map(worth) {
            Some(Worth::Gain) => "gain",
            Some(Worth::Loss) => "loss",
            Some(Worth::Nothing) | None => "none",
        };
        let _ = write!(
            page,
            "<article class='{class}'><h3>{} <span class='soft'>{} · {}</span></h3><p>{}</p></article>",
            escaped(&series_name(comparison)),
            comparison.mode,
            escaped(&comparison.clip),
            escaped(&comparison.verdict)
        );
    }
    page.push_str("</div>");
}

fn changed(page: &mut String, changes: &[String]) {
    if changes.is_empty() {
        return;
    }
    page.push_str("<h2>Against the earlier bench</h2><ul>");
    for change in changes {
        let _ = write!(page, "<li>{}</li>", escaped(change));
    }
    page.push_str("</ul>");
}

fn series_name(comparison: &Comparison) -> String {
    match &comparison.preset {
        Some(preset) => format!("{} {preset}", comparison.encoder),
        None => comparison.encoder.clone(),
    }
}

fn costs(page: &mut String, comparisons: &[Comparison]) {
    if comparisons.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Costs and gains against one pass</h2><div class='wide'><table><thead><tr><th>clip<th>encoder<th>mode\
         <th class='n'>CPU<th class='n'>wall<th class='n'>share of pass 1<th class='n'>gain<th class='n'>worst frame\
         <th class='n'>BD-rate<th class='n'>rate missed by<th class='n'>one pass</tr></thead><tbody>",
    );
    for comparison in comparisons {
        for (number, gain) in comparison.gains.iter().enumerate() {
            let decimals = gain.metric.decimals();
            let value = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:+.decimals$}"));
            let bd = gain.bd_rate.map_or_else(
                || format!("<span title='{}'>–</span>", escaped(gain.no_delta.as_deref().unwrap_or(""))),
                |delta| {
                    format!(
                        "<span title='{:.0} % of the curves overlap'>{:+.1} %</span>",
                        delta.overlap * 100.0,
                        delta.value * 100.0
                    )
                },
            );
            let first = number == 0;
            let once = |text: String| if first { text } else { String::new() };
            let miss = |of: fn(&(f64, f64)) -> f64| {
                comparison.bitrate_miss.as_ref().map_or("–".to_owned(), |both| format!("{:.1} %", of(both) * 100.0))
            };
            let _ = write!(
                page,
                "<tr{}><td>{}<td>{}<td>{}<td class='n'>{}<td class='n'>{}<td class='n'>{}<td class='n'>{} {}<td class='n'>{}\
                 <td class='n'>{bd}<td class='n'>{}<td class='n'>{}</tr>",
                if first { " class='first'" } else { "" },
                once(escaped(&comparison.clip)),
                once(escaped(&series_name(comparison))),
                once(comparison.mode.to_string()),
                once(comparison.cpu.as_ref().map_or("–".to_owned(), cost)),
                once(cost(&comparison.wall)),
                once(
                    comparison
                        .first_cpu_share
                        .or(comparison.first_wall_share)
                        .map_or("–".to_owned(), |share| format!("{:.0} %", share * 100.0))
                ),
                value(gain.mean),
                gain.metric.title(),
                value(gain.worst),
                once(miss(|both| both.1)),
                once(miss(|both| both.0)),
            );
        }
    }
    page.push_str("</tbody></table></div>");
}

fn cost(cost: &Cost) -> String {
    let deviation = cost.deviation.map(|deviation| format!(" ± {deviation:.2} from run to run;")).unwrap_or_default();
    format!(
        "<span title='{deviation} {:.2} to {:.2} over the rates'>{:.2}×</span>",
        cost.least, cost.greatest, cost.ratio
    )
}

fn section(page: &mut String, results: &Results, clip: &ClipRecord) {
    let _ = write!(
        page,
        "<section><h2>{}</h2><p class='soft'>{}×{} {}, {} frames at {:.3} per second, decoded once in {:.1} s.</p>",
        escaped(&clip.name),
        clip.width,
        clip.height,
        escaped(&clip.pixel_format),
        clip.frames,
        clip.frame_rate,
        clip.decode_seconds
    );
    page.push_str("<div class='charts'>");
    for metric in metrics(results) {
        let _ = write!(page, "<figure>{}</figure>", plots::rate_quality(results, &clip.name, metric).inline());
    }
    let overhead = plots::overhead(results, &clip.name);
    if !overhead.bars.is_empty() {
        let _ = write!(page, "<figure>{}</figure>", overhead.inline());
    }
    page.push_str("</div>");
    for series in plots::of_clip(results, &clip.name) {
        over_time(page, results, &series, clip);
    }
    table(page, results, &clip.name);
    page.push_str("</section>");
}

/// Plots over time of one series, at one rate at a time; all of them where there is no script.
fn over_time(page: &mut String, results: &Results, series: &Series, clip: &ClipRecord) {
    let aims = plots::aims(results, series);
    let Some(metric) = preferred(results).filter(|_| !aims.is_empty()) else { return };
    let _ = write!(
        page,
        "<details class='time'{}><summary>{} over time</summary><div class='rates' role='group' aria-label='bit rate'>",
        if aims.is_empty() { "" } else { " open" },
        escaped(&series.name())
    );
    for (number, aim) in aims.iter().enumerate() {
        let _ = write!(page, "<button type='button' data-rate='{number}'>{aim}</button>");
    }
    page.push_str("</div>");
    for (number, aim) in aims.iter().enumerate() {
        let per_frame = 1.0 / clip.frame_rate.max(1e-9);
        let _ = write!(
            page,
            "<div class='charts' data-at='{number}'><figure>{}</figure><figure>{}</figure></div>",
            plots::frames(results, series, *aim, metric, per_frame).inline(),
            plots::bitrate(results, series, *aim, per_frame).inline()
        );
    }
    page.push_str("</details>");
}

fn table(page: &mut String, results: &Results, clip: &str) {
    let metrics = metrics(results);
    page.push_str("<details><summary>Every encode</summary><div class='wide'><table><thead><tr><th>encoder<th>mode<th class='n'>aim<th class='n'>kb/s<th class='n'>missed by<th class='n'>CPU s<th class='n'>wall s<th class='n'>fps<th class='n'>statistics<th class='n'>memory");
    for metric in &metrics {
        let _ =
            write!(page, "<th class='n'>{0}<th class='n'>harmonic<th class='n'>5 %<th class='n'>1 %", metric.title());
    }
    page.push_str("</tr></thead><tbody>");
    for result in results.cells.iter().filter(|result| result.cell.clip == clip) {
        row(page, result, &metrics);
    }
    page.push_str("</tbody></table></div></details>");
}

fn row(page: &mut String, result: &CellResult, metrics: &[Metric]) {
    let name = match &result.cell.preset {
        Some(preset) => format!("{} {preset}", result.cell.encoder),
        None => result.cell.encoder.clone(),
    };
    let stats: Option<u64> = result.passes.iter().filter_map(|pass| pass.stats_bytes).reduce(|one, other| one + other);
    let vary = if result.repeatable { "" } else { " <span title='the bytes differ from run to run'>≠</span>" };
    let _ = write!(
        page,
        "<tr><td>{}<td>{}<td class='n'>{}<td class='n'>{:.0}{vary}<td class='n'>{}<td class='n'>{}<td class='n'>{}<td class='n'>{:.1}<td class='n'>{}<td class='n'>{}",
        escaped(&name),
        result.cell.mode,
        result.cell.aim,
        result.video_bps / 1e3,
        result.bitrate_error.map_or("–".to_owned(), |error| format!("{:+.1} %", error * 100.0)),
        result.cpu.as_ref().map_or("–".to_owned(), seconds),
        seconds(&result.wall),
        result.frames_per_second,
        stats.map_or("–".to_owned(), |bytes| format!("{:.1} kB", bytes as f64 / 1e3)),
        result.peak_bytes.map_or("–".to_owned(), |bytes| format!("{:.0} MB", bytes / 1e6)),
    );
    for metric in metrics {
        let Some(quality) = result.quality(*metric) else {
            page.push_str("<td><td><td><td>");
            continue;
        };
        let pooled = quality.pooled;
        for value in [pooled.mean, pooled.harmonic_mean, pooled.p5, pooled.p1] {
            let _ = write!(page, "<td class='n'>{value:.*}", metric.decimals());
        }
    }
    page.push_str("</tr>");
}

fn seconds(spread: &Spread) -> String {
    let noisy = if spread.is_noisy() { " class='noisy'" } else { "" };
    let deviation = spread.deviation.map(|deviation| format!(", deviation {deviation:.3} s")).unwrap_or_default();
    format!(
        "<span{noisy} title='median of {}, {:.3} to {:.3} s{deviation}'>{:.2}</span>",
        spread.runs, spread.least, spread.greatest, spread.median
    )
}

fn unavailable(page: &mut String, results: &Results) {
    if results.unavailable.is_empty() {
        return;
    }
    page.push_str("<h2>Asked for, and not to be had here</h2><div class='wide'><table><tbody>");
    for lack in &results.unavailable {
        let mode = lack.mode.map(|mode| mode.to_string()).unwrap_or_default();
        let _ = write!(page, "<tr><td>{}<td>{mode}<td>{}</tr>", escaped(&lack.encoder), escaped(&lack.why));
    }
    page.push_str("</tbody></table></div>");
}

fn method(page: &mut String, results: &Results) {
    let metrics: Vec<&str> = metrics(results).into_iter().map(Metric::title).collect();
    let _ = write!(
        page,
        "<h2>How this was measured</h2><ul>\
         <li>Frames were decoded and filtered once, before anything was timed, and every encoder read them from memory. Times are encoding and, in the last pass, writing the file.</li>\
         <li>CPU is user and system time of the whole process. Modes of one rate ran one after another, and every other repetition went backwards. Times are medians; a time whose runs differ by more than 3 % is marked.</li>\
         <li>Ratios are medians over the bit rates. Memory is what resident memory rose by while encoding, decoded frames not counted.</li>\
         <li>Quality ({}) is of the decoded output against the frames that the encoder saw. Gains at equal bit rate are distances from the curve of one pass, interpolated over the logarithm of the rate. PSNR of a frame without error counts as 100 dB, and means of PSNR are means of the frames' decibels.</li>\
         <li>BD-rate is the Bjøntegaard delta over at least four rates, by piecewise cubic (PCHIP) interpolation as in JCTVC-L1100; results.json has the single cubic of VCEG-M33 beside it.</li>\
         <li>passes.csv, qualities.csv and frames.csv beside this page hold every raw figure; results.json holds all of them with all versions.</li></ul>",
        escaped(&metrics.join(", "))
    );
}

fn metrics(results: &Results) -> Vec<Metric> {
    results.begun.as_ref().map(|begun| begun.settings.metrics.clone()).unwrap_or_default()
}

/// The metric that plots over time show.
fn preferred(results: &Results) -> Option<Metric> {
    let all = metrics(results);
    [Metric::Vmaf, Metric::VmafNeg, Metric::Xpsnr, Metric::Psnr, Metric::Ssim]
        .into_iter()
        .find(|metric| all.contains(metric))
}

/// A moment as `2026-11-20 09:40 UTC`; days to dates after H. Hinnant, "chrono-compatible low-level date algorithms".
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_795_167_600), "2026-11-20 09:40 UTC");
    }

    #[test]
    fn an_empty_bench_makes_a_page() {
        let page = html(&Results::of(&[]), &[]);
        assert!(page.contains("Nothing has been measured") && page.ends_with("</html>"));
    }
}
