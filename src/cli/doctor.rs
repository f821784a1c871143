//! What this machine has for encoding, for people and for scripts.

use std::process::ExitCode;

use anyhow::Result;

use repass::adapter::StatsRoute;
use repass::cache::Memory;
use repass::doctor::{EncoderState, Examination, Folder, Gravity, Presence, Threads, examine};
use repass::rate::ByteSize;

use super::text::{Page, print};

/// Shows it; the exit code is 1 where something is in the way.
///
/// # Errors
/// A stdout that cannot be written.
pub(crate) fn show(json: bool) -> Result<ExitCode> {
    let examination = examine();
    match json {
        true => print(&format!("{}\n", serde_json::to_string(&examination)?))?,
        false => page(&examination).print()?,
    }
    Ok(if examination.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn page(found: &Examination) -> Page {
    let mut page = Page::default();
    page.row("repass", found.repass);
    page.row("FFmpeg", &found.versions.ffmpeg);
    for library in &found.libraries {
        let built = if library.matches() { String::new() } else { format!(", but built with {}", library.built) };
        page.row(library.name, &format!("{}{built}", library.loaded));
    }
    page.row("system", &found.system.name);
    page.gap();
    found.encoders.iter().for_each(|state| encoder(&mut page, state));
    page.gap();
    page.row("memory", &memory(&found.memory, found.cache_budget));
    page.row("threads", &threads(found.threads));
    for folder in &found.stats_folders {
        page.path("statistics", &folder.path, &facts(folder));
    }
    page.path("spill", &found.spill_folder.path, &facts(&found.spill_folder));
    page.gap();
    findings(&mut page, found);
    page
}

/// A line for an encoder that is there; for one that is not, why, and what would bring it.
fn encoder(page: &mut Page, state: &EncoderState) {
    let library = state.library.as_ref().map_or_else(String::new, |file| format!("  {file}"));
    let passes = match (state.stats_route, &state.why) {
        (Some(StatsRoute::Context), _) => "two passes, statistics in memory",
        (Some(_), _) => "two passes, statistics in a file",
        (None, Some(_)) => "one pass here",
        (None, None) => "one pass",
    };
    let line = match state.state {
        Presence::Ready => format!("{:18}ready     {passes}{library}", state.encoder),
        Presence::NoDevice => format!("{:18}no device", state.encoder),
        Presence::NotCompiledIn => format!("{:18}not in this FFmpeg", state.encoder),
    };
    page.row("encoder", &line);
    let because = match state.state {
        Presence::NoDevice => state.why.as_deref(),
        Presence::Ready => state.why.as_deref(),
        Presence::NotCompiledIn => state.remedy.is_none().then_some(state.why.as_deref()).flatten(),
    };
    because.into_iter().chain(state.remedy.as_deref()).for_each(|words| page.row("", &format!("  {words}")));
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
