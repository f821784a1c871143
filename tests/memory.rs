//! Memory: what the process takes stays within its budget and what is stated, however long the input and many the renditions;
//! the budget of its own choice within what the machine and its cgroup have.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;
mod program;

use std::fs;
use std::path::PathBuf;

use media::within;
use program::{Ended, Place, can_mount};
use serde_json::Value;

/// As the README states: what the process takes beside the budget,
const BESIDE: u64 = 128 * MIB;
/// for each rendition, and for so many of its pictures,
const PER_RENDITION: u64 = 16 * MIB;
const PICTURES: u64 = 64;
/// and for each frame and rendition: the list of frames, what the encoder knows of each in pass 2, properties of spilled ones.
const PER_FRAME: u64 = 1024;

const MIB: u64 = 1 << 20;

#[test]
fn an_hour_of_video_takes_no_more_than_its_budget_and_what_is_stated() {
    within(280, || {
        let place = Place::empty();
        let hour = hour(&place, 128, 72);
        let budget = 24 * MIB;
        // All frames of the hour would take 1.2 GB. What is slow in a test is a part of it, which tells as well.
        for (encoder, cache, minutes) in
            [("libx264", "ram", 60), ("libx264", "raw", 10), ("libx264", "lz4", 5), ("libvpx-vp9", "none", 5)]
        {
            if !media::has_encoder(encoder) {
                continue;
            }
            let report = encoded(&place.run(&format!(
                "encode {} -o out.mkv -y -c {encoder} -b 20k --preset ultrafast -t {minutes}:00 --cache {cache} --cache-size {budget} --json",
                hour.display(),
            )));
            let frames = report["frames"].as_u64().unwrap();
            assert_eq!(frames, minutes * 1500);
            let allowed = budget + BESIDE + rendition(128, 72, frames);
            println!("{encoder}, {cache}: {frames} frames, {} of {} MiB", peak(&report) / MIB, allowed / MIB);
            assert!(peak(&report) <= allowed, "{encoder} {cache}: {} of {allowed}", peak(&report));
        }
    });
}

#[test]
fn many_renditions_share_the_budget() {
    within(200, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=640x360:r=25:d=12 -c:v mpeg4 -q:v 4");
        let heights = [360_u32, 320, 288, 256, 224, 192, 160, 128, 96, 64];
        let rungs: String = heights.iter().map(|height| format!(" --rung {height}p={}k", height / 2)).collect();
        for budget in [16 * MIB, 128 * MIB] {
            let report = encoded(&place.run(&format!(
                "encode in.mkv -o {{name}}.mkv -y -c libx264 --preset veryfast{rungs} --cache ram --cache-size {budget} --json"
            )));
            assert_eq!(report["renditions"].as_array().unwrap().len(), 10);
            let frames = report["frames"].as_u64().unwrap();
            let each = heights.iter().map(|height| rendition(height * 16 / 9, *height, frames)).sum::<u64>();
            let allowed = budget + BESIDE + each;
            println!("10 renditions, {} MiB: {} of {} MiB", budget / MIB, peak(&report) / MIB, allowed / MIB);
            assert!(peak(&report) <= allowed, "{} of {allowed}", peak(&report));
        }
    });
}

#[test]
fn the_budget_of_its_own_choice_heeds_what_the_cgroup_leaves() {
    if !can_mount() {
        return;
    }
    within(60, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=24:d=1 -c:v mpeg4");
        // The files of version 1 and of version 2, with 200 MB allowed and 60 MB in use.
        for (folder, limit, usage) in
            [("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"), (".", "memory.max", "memory.current")]
        {
            let ended = place.shell_with_mounts(&format!(
                "mount -t tmpfs tmpfs /sys/fs/cgroup; there=/sys/fs/cgroup/{folder}; mkdir -p $there
                 echo 200000000 > $there/{limit}; echo 60000000 > $there/{usage}
                 $repass plan in.mkv -o out.mkv -c libx264 -b 100k --json"
            ));
            assert_eq!(ended.code, 0, "{ended}");
            let plan: Value = serde_json::from_str(&ended.stdout).unwrap();
            let uses_v1 = fs::read_to_string("/proc/self/cgroup").unwrap().contains(":memory:");
            if folder == "memory" && !uses_v1 {
                media::skipped("this process is in no cgroup of version 1");
                continue;
            }
            assert_eq!(plan["cache"]["budget"], 70_000_000, "{limit}");
        }
    });
}

#[test]
fn a_job_ends_well_within_a_cgroup_that_kills() {
    let Some(parent) = std::env::var_os("REPASS_CGROUP").map(PathBuf::from) else {
        media::skipped(
            "REPASS_CGROUP names no folder below /sys/fs/cgroup in which cgroups with memory limits may be made",
        );
        return;
    };
    within(120, move || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=640x360:r=25:d=60 -c:v mpeg4 -q:v 4");
        let cgroup = parent.join("repass-test");
        fs::create_dir(&cgroup).unwrap();
        let v2 = cgroup.join("memory.max").exists();
        fs::write(cgroup.join(if v2 { "memory.max" } else { "memory.limit_in_bytes" }), "300000000").unwrap();
        let ended = place.shell(&format!(
            "echo $$ > {}/cgroup.procs; exec $repass encode in.mkv -o out.mkv -c libx264 -b 300k --preset ultrafast --json",
            cgroup.display()
        ));
        let removed = fs::remove_dir(&cgroup);
        let report = encoded(&ended);
        // All frames would take 518 MB.
        assert!(report["cached_frames"].as_u64() < report["frames"].as_u64(), "{ended}");
        removed.unwrap();
    });
}

#[test]
fn a_job_ends_well_within_a_limit_of_its_address_space() {
    within(120, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=640x360:r=25:d=40 -c:v mpeg4 -q:v 4");
        // All frames would take 345 MB; libraries and threads take most of this.
        let ended = place.shell(
            "ulimit -v 1200000; exec $repass encode in.mkv -o out.mkv -c libx264 -b 300k --preset ultrafast --threads 2 --decoder-threads 1 --json",
        );
        let report = encoded(&ended);
        assert!(report["cache"]["budget"].as_u64().unwrap() < 600 << 20, "{ended}");
    });
}

#[test]
fn memory_a_file_and_decoding_again_together_give_the_same_output() {
    within(120, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=384x216:r=25:d=6 -c:v mpeg4 -q:v 3 -g 25");
        let encode = "encode in.mkv -y -c libx264 -b 200k --preset veryfast --json";
        encoded(&place.run(&format!("{encode} -o whole.mkv --cache ram --cache-size 1G")));
        // 150 frames of 124 KB: a few in memory, some in a file that may not grow beyond 4 MiB, the rest made again.
        let mut in_file = Vec::new();
        for cache in ["raw", "lz4", "disk", "auto"] {
            let ended = place.shell(&format!(
                "trap '' XFSZ; ulimit -f 8192; exec $repass {encode} -o out.mkv --cache {cache} --cache-size 2M"
            ));
            let report = encoded(&ended);
            let (kept, spilled) =
                (report["cached_frames"].as_u64().unwrap(), report["spill"]["frames"].as_u64().unwrap());
            println!("{cache}: {kept} of 150 kept, {spilled} of them in a file: {}", report["spill"]);
            assert!(kept < 150 && kept >= spilled && (spilled > 20 || cache == "auto"), "{cache}: {}", report["spill"]);
            assert_eq!(report["runs"][1]["from_cache"], kept, "{cache}");
            in_file.push(spilled);
            assert_eq!(media::packets(&place.path("out.mkv")), media::packets(&place.path("whole.mkv")), "{cache}");
        }
        assert!(in_file[1] > in_file[0], "packed, more frames have room: {in_file:?}");
    });
}

/// An hour of so large pictures, made from a minute that is copied.
fn hour(place: &Place, width: u32, height: u32) -> PathBuf {
    let graph = format!("-f lavfi -i testsrc2=s={width}x{height}:r=25:d=60 -c:v mpeg4 -q:v 8");
    let minute = place.make("minute.mp4", &graph);
    place.make("hour.mp4", &format!("-stream_loop 59 -i {} -c copy", minute.display()))
}

/// What is stated for a rendition.
fn rendition(width: u32, height: u32, frames: u64) -> u64 {
    let picture = u64::from(width * height) * 3 / 2;
    PER_RENDITION + PICTURES * picture + PER_FRAME * frames
}

fn encoded(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{ended}");
    serde_json::from_str(&ended.stdout).unwrap()
}

fn peak(report: &Value) -> u64 {
    report["peak_memory_bytes"].as_u64().unwrap()
}
