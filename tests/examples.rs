//! The examples do what they say. They are built with the tests; a run of this file alone finds those of an earlier build.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod media;

use std::path::PathBuf;
use std::process::Command;

use media::{clip, text, within};

/// Runs one; `None` where it was not built.
fn example(name: &str, arguments: &[&str]) -> Option<String> {
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples");
    let program: PathBuf = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    if !program.is_file() {
        media::skipped(&format!("{} is not built (cargo build --examples)", program.display()));
        return None;
    }
    let output = Command::new(&program).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {out}{err}");
    Some(out.into_owned())
}

/// What each prints, with a file of 48 frames in a folder of its own.
#[test]
fn every_example_does_what_it_says() {
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let input = clip(folder.path(), "in.mp4", "856x480", "24", 48);
        let out = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let says = |name: &str, arguments: &[&str], words: &[&str]| {
            if let Some(said) = example(name, arguments) {
                words.iter().for_each(|word| assert!(said.contains(word), "{name} does not say {word:?}: {said}"));
            }
        };
        says("encode_file", &[text(&input), &out("file.mp4"), "300k"], &["pass 1: 48 frames", "pass 2: 48 frames"]);
        says("own_frames", &[&out("ball.mp4")], &["120 frames"]);
        says("own_sink", &[text(&input)], &["a key frame", "48 frames"]);
        says("own_adapter", &[text(&input), &out("own.mp4")], &["statistics: Some(Context)", "pass 2"]);
        says(
            "ladder",
            &[text(&input), text(folder.path())],
            &["split=2", "720p is left out", "run 2: 48 frames, 48 of them from the cache"],
        );
        let program = Command::new(env!("CARGO_BIN_EXE_repass"))
            .args(["encode", text(&input), "-o", &out("report.mkv"), "-c", "libx264", "-b", "300k", "--json"])
            .output()
            .unwrap();
        std::fs::write(out("report.json"), program.stdout).unwrap();
        says("read_report", &[&out("report.json")], &["48 frames", "run 2:", "pass 2:", "bits per second ("]);
    });
}
