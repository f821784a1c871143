//! Packages in a browser: hls.js and Shaka Player in headless Chromium play every rendition of HLS and DASH.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod media;

use std::path::{Path, PathBuf};
use std::process::Command;

use media::{clip, ffmpeg, has_encoder, text, within};
use repass::adapter;
use repass::cache::{CacheMode, CachePlan};
use repass::event::Cancel;
use repass::job::{Job, JobRequest, RenditionRequest};
use repass::plan::Request;
use repass::rate::{BitRate, ByteSize, GopLength, Target};
use repass::source::Input;

/// What plays, pinned.
const PACKAGES: [&str; 3] = ["playwright-core@1.56.1", "hls.js@1.6.19", "shaka-player@4.16.50"];

/// The browser and a folder with the players; `None`, and why, where they cannot be had.
fn browser() -> Option<(PathBuf, PathBuf)> {
    let found = |name: &str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    let Some(chromium) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| found(name)) else {
        media::skipped("no chromium");
        return None;
    };
    if !found("node") || !found("npm") {
        media::skipped("no node with npm");
        return None;
    }
    let shown = Command::new("sh").args(["-c", &format!("command -v {chromium}")]).output().unwrap().stdout;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("players");
    std::fs::create_dir_all(&folder).unwrap();
    let install = ["install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", "--prefix", text(&folder)];
    let installed = Command::new("npm").args(install).args(PACKAGES).current_dir(&folder).status().unwrap();
    if !installed.success() {
        media::skipped(&format!("npm cannot fetch {PACKAGES:?}"));
        return None;
    }
    Some((PathBuf::from(String::from_utf8(shown).unwrap().trim()), folder))
}

/// Renditions of different heights, so that the picture tells which is played.
fn ladder(manifest: &Path) -> Vec<RenditionRequest> {
    let all = [("libx264", "source"), ("libx264", "90p"), ("libvpx-vp9", "120p"), ("libsvtav1", "150p")];
    let rendition = |(encoder, size): &(&str, &str)| {
        let target = if *encoder == "libsvtav1" { Target::Quality(50.0) } else { Target::Average(BitRate(150_000)) };
        let preset = if *encoder == "libsvtav1" { "12" } else { "ultrafast" };
        let request =
            Request { preset: Some(preset.to_owned()), ..Request::new(adapter::named(encoder).unwrap(), target) };
        RenditionRequest {
            size: size.parse().unwrap(),
            gop: Some(GopLength::Seconds(1.0)),
            ..RenditionRequest::new(format!("{encoder}-{size}"), manifest, request)
        }
    };
    all.iter().filter(|(encoder, _)| has_encoder(encoder)).map(rendition).collect()
}

#[test]
fn a_browser_plays_every_rendition_of_hls_and_dash() {
    within(400, || {
        let Some((chromium, players)) = browser() else { return };
        let folder = tempfile::tempdir().unwrap();
        let plain = clip(folder.path(), "plain.mp4", "320x180", "24", 96);
        let (subtitles, input) = (folder.path().join("a.srt"), folder.path().join("in.mkv"));
        std::fs::write(&subtitles, "1\n00:00:00,500 --> 00:00:01,500\nfirst cue\n").unwrap();
        ffmpeg(&[
            "-i",
            text(&plain),
            "-i",
            text(&subtitles),
            "-c",
            "copy",
            "-metadata:s:s",
            "language=eng",
            text(&input),
        ]);
        for name in ["a.m3u8", "a.mpd"] {
            let manifest = folder.path().join(name);
            let renditions = ladder(&manifest);
            let count = renditions.len();
            let cache = CachePlan { mode: CacheMode::Ram, budget: ByteSize(1 << 30), spill_dir: None };
            let request = JobRequest { renditions, cache, ..JobRequest::new(Input::file(&input)) };
            Job::prepare(&request, &Cancel::new()).unwrap().run(|_| {}).unwrap();
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/play.mjs");
            let output = Command::new("node")
                .args([text(&script), text(folder.path()), name, text(&chromium)])
                .current_dir(&players)
                .output()
                .unwrap();
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{name}: {words}");
            let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            println!("{name}: {said}");
            assert_eq!(said["errors"], serde_json::json!([]), "{name}: {said}");
            assert_eq!(said["promised"], count, "{name}: {said}");
            // Shaka offers the codec that it finds best and leaves the others out; hls.js offers all.
            let offered = said["offered"].as_u64().unwrap() as usize;
            assert!(if name == "a.m3u8" { offered == count } else { offered > 0 }, "{name}: {said}");
            for played in said["played"].as_array().unwrap() {
                assert_eq!(played["height"], played["wanted"], "{name}: {said}");
                assert!(played["seconds"].as_f64().unwrap() > 1.0, "{name}: {said}");
            }
            let cue = &said["cue"];
            assert_eq!(cue["text"], "first cue", "{name}: {said}");
            assert!(cue["language"].as_str().unwrap().starts_with("en"), "{name}: {said}");
            assert!((cue["begins"].as_f64().unwrap() - 0.5).abs() < 0.1, "{name}: {said}");
            assert!((said["duration"].as_f64().unwrap() - 4.0).abs() < 0.1, "{name}: {said}");
        }
    });
}
