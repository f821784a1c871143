//! Turns the linked libav* version facts into cfgs for `src/av`; builds the log shim; decides nothing else.

use std::env;

/// The FFmpeg releases at which a struct that `src/av` touches changed its layout.
const LAYOUTS: &[(&str, &str)] =
    &[("6_1", "ffmpeg_6_1"), ("7_0", "ffmpeg_7_0"), ("7_1", "ffmpeg_7_1"), ("9_0", "ffmpeg_9_0")];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (release, cfg) in LAYOUTS {
        println!("cargo::rustc-check-cfg=cfg({cfg})");
        // ffmpeg-sys-next compiles a probe against the headers and passes what it found to its direct dependents.
        if env::var(format!("DEP_FFMPEG_FFMPEG_{release}")).is_ok_and(|found| found == "true") {
            println!("cargo::rustc-cfg={cfg}");
        }
    }
    println!("cargo::rerun-if-changed=src/av/log.c");
    cc::Build::new().file("src/av/log.c").warnings(true).compile("repass_log");
}
