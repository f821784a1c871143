//! What this machine has for encoding, for people and for scripts.

use std::process::ExitCode;

use anyhow::Result;

use repass::adapter::StatsRoute;
use repass::av::LinkedLibrary;
use repass::cache::Memory;
use repass::doctor::{EncoderState, Examination, Folder, Gravity, Presence, Threads, examine};
use repass::rate::ByteSize;

use super::text::{Page, print_json};

/// Shows it; the exit code is 1 where something is in the way.
///
/// # Errors
/// A stdout that cannot be written.
pub(crate) fn show(json: bool) -> Result<ExitCode> {
    let examination = examine();
    match json {
        true => print_json(&examination)?,
        false => page(&examination).print()?,
    }
    Ok(if examination.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn page(found: &Examination) -> Page {
    let mut page = Page::default();
    page.row("repass", &format!("{} on {}", found.repass, found.system.name));
    let version = |library: &LinkedLibrary| match library.matches() {
        true => format!("{} {}", library.name, library.loaded),
        false => format!("{} {} (built with {})", library.name, library.loaded, library.built),
    };
    let libraries: Vec<String> = found.libraries.iter().map(version).collect();
    page.row("FFmpeg", &format!("{}: {}", found.versions.ffmpeg, libraries.join(", ")));
    page.gap();
    found.encoders.iter().filter(|state| state.state == Presence::Ready).for_each(|state| ready(&mut page, state));
    absent(&mut page, found, Presence::NoDevice, "no device");
    absent(&mut page, found, Presence::NotCompiledIn, "missing");
    page.gap();
    page.row("memory", &memory(&found.memory, found.cache_budget));
    page.row("threads", &threads(found.threads));
    for folder in &found.stats_folders {
        page.path("stats", &folder.path, &facts(folder));
    }
    page.path("spill", &found.spill_folder.path, &facts(&found.spill_folder));
    page.gap();
    findings(&mut page, found);
    page
}

fn ready(page: &mut Page, state: &EncoderState) {
    let passes = match (state.stats_route, &state.why) {
        (Some(StatsRoute::Context), _) => "two passes, statistics in memory",
        (Some(_), _) => "two passes, statistics in a file",
        (None, Some(_)) => "one pass here",
        (None, None) => "one pass",
    };
    let library = state.library.as_deref().map_or_else(String::new, |version| format!("version {version}"));
    page.row("ready", &format!("{:18}{passes:34}{library}", state.encoder));
    if let Some(why) = &state.why {
        page.row("", why);
    }
}

/// Encoders that are not to be had, those together that share what would bring them.
fn absent(page: &mut Page, found: &Examination, presence: Presence, label: &str) {
    let mut groups: Vec<(Vec<&str>, &EncoderState)> = Vec::new();
    for state in found.encoders.iter().filter(|state| state.state == presence) {
        match groups.iter_mut().find(|(_, like)| (&like.why, &like.remedy) == (&state.why, &state.remedy)) {
            Some((names, _)) => names.push(state.encoder),
            None => groups.push((vec![state.encoder], state)),
        }
    }
    for (names, state) in groups {
        page.row(label, &names.join(", "));
        [&state.why, &state.remedy].into_iter().flatten().for_each(|words| page.row("", words));
    }
}

fn memory(memory: &Memory, budget: ByteSize) -> String {
    let amount = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| ByteSize(bytes).to_string());
    let cgroup = memory.cgroup_free.map(|bytes| format!(", {} left by the cgroup", ByteSize(bytes)));
    let free = format!("{} free of {}{}", amount(memory.free), amount(memory.machine), cgroup.unwrap_or_default());
    format!("{free}; frames for a second pass may take {budget}")
}

fn threads(threads: Threads) -> String {
    match threads.processors {
        Some(all) if all != threads.usable => {
            format!("{} of {all} processors may be used (affinity or a quota of the cgroup)", threads.usable)
        }
        _ => threads.usable.to_string(),
    }
}

fn facts(folder: &Folder) -> String {
    let kind = match folder.in_memory {
        Some(true) => "in memory",
        Some(false) => "on a disk",
        None => "of an unknown kind",
    };
    let free = folder.free_bytes.map(|bytes| format!(", {} free", ByteSize(bytes))).unwrap_or_default();
    let refuses = if folder.writable { "" } else { ", refuses files" };
    format!("{kind}{free}{refuses}")
}

fn findings(page: &mut Page, found: &Examination) {
    for finding in &found.findings {
        let label = match finding.gravity {
            Gravity::Problem => "problem",
            Gravity::Note => "note",
        };
        page.row(label, &finding.text);
    }
    if found.is_well() {
        page.row("all", "well: nothing is in the way of two passes");
    }
}
