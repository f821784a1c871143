//! Quality in process is the ffmpeg program's, frame by frame; what cannot be compared is refused.

#![expect(clippy::unwrap_used, reason = "what a test's own steps run into fails the test")]

mod media;

use std::path::{Path, PathBuf};

use media::{clip, ffmpeg, referee, text, within};
use repass::bench::measure::{MeasureRequest, Measurement, measure};
use repass::error::Error;
use repass::event::Cancel;
use repass::quality::Metric;

fn request(reference: &Path, distorted: &Path, metrics: &[Metric]) -> MeasureRequest {
    MeasureRequest {
        reference: reference.to_owned(),
        distorted: distorted.to_owned(),
        metrics: metrics.to_vec(),
        pixel_format: None,
        threads: None,
    }
}

fn compared(reference: &Path, distorted: &Path, metrics: &[Metric]) -> Result<Measurement, Error> {
    measure(&request(reference, distorted, metrics), &Cancel::new(), &mut |_, _| ())
}

/// A clip and what x264 made of it; further arguments go to the second encode.
fn pair(folder: &Path, arguments: &[&str]) -> (PathBuf, PathBuf) {
    let with_sound = clip(folder, "with_sound.mkv", "176x144", "25", 50);
    // The program pairs frames by time, and sound that begins before the picture moves that by half a frame.
    let reference = folder.join("reference.mkv");
    ffmpeg(&["-i", text(&with_sound), "-map", "0:v", "-c", "copy", text(&reference)]);
    let distorted = folder.join("distorted.mkv");
    let mut all = vec!["-i", text(&reference), "-map", "0:v", "-c:v", "libx264", "-crf", "35"];
    all.extend(arguments);
    all.push(text(&distorted));
    ffmpeg(&all);
    (reference, distorted)
}

/// What a filter of the ffmpeg program notes on every frame under this key.
fn theirs(graph: &str, key: &str, first: &Path, second: &Path) -> Vec<f64> {
    let graph = format!("{graph},metadata=print:key={key}:file=-");
    // One thread, for the program's SSIM depends on how many there are.
    let threads = ["-filter_complex_threads", "1"];
    let output =
        ffmpeg(&[&threads[..], &["-i", text(first), "-i", text(second), "-lavfi", &graph, "-f", "null", "-"]].concat());
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')?.parse().ok()).collect()
}

fn frames(measurement: &Measurement, metric: Metric) -> &[f64] {
    &measurement.qualities.iter().find(|quality| quality.metric == metric).unwrap().frames
}

#[test]
fn psnr_and_ssim_are_the_filters_bit_by_bit() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        for depth in ["yuv420p", "yuv420p10le"] {
            let (reference, distorted) = pair(folder.path(), &["-pix_fmt", depth]);
            let reference = if depth == "yuv420p" { reference } else { deeper(&reference, depth) };
            let ours = compared(&reference, &distorted, &[Metric::Psnr, Metric::Ssim]).unwrap();
            assert_eq!(ours.frames, 50);
            let psnr = theirs("[0:v][1:v]psnr", "lavfi.psnr.psnr_avg", &distorted, &reference);
            assert_eq!(frames(&ours, Metric::Psnr), psnr, "{depth}");
            let ssim = theirs("[0:v][1:v]ssim", "lavfi.ssim.All", &distorted, &reference);
            assert_eq!(frames(&ours, Metric::Ssim), ssim, "{depth}");
            assert!(ours.qualities[0].pooled.mean > 20.0 && ours.qualities[0].pooled.mean < 60.0);
        }
    });
}

#[test]
fn ssim_does_not_depend_on_the_number_of_threads() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let (reference, distorted) = pair(folder.path(), &[]);
        let with = |threads| {
            let request = MeasureRequest {
                threads: Some(threads),
                ..request(&reference, &distorted, &[Metric::Ssim, Metric::Psnr])
            };
            measure(&request, &Cancel::new(), &mut |_, _| ()).unwrap().qualities
        };
        let one = with(1);
        assert!([2, 7, 20].into_iter().all(|threads| with(threads) == one));
    });
}

fn deeper(reference: &Path, format: &str) -> PathBuf {
    let path = reference.with_file_name("deeper.mkv");
    ffmpeg(&["-i", text(reference), "-map", "0:v", "-pix_fmt", format, "-c:v", "libx264", "-qp", "0", text(&path)]);
    path
}

#[test]
fn xpsnr_is_the_filters_where_there_is_one() {
    within(120, || {
        if let Some(why) = Metric::Xpsnr.unavailable() {
            media::skipped(&why);
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (reference, distorted) = pair(folder.path(), &[]);
        let ours = compared(&reference, &distorted, &[Metric::Xpsnr]).unwrap();
        let xpsnr = theirs("[0:v][1:v]xpsnr", "lavfi.xpsnr.xpsnr.y", &reference, &distorted);
        assert_eq!(frames(&ours, Metric::Xpsnr), xpsnr);
    });
}

#[test]
fn vmaf_is_that_of_a_real_ffmpeg() {
    within(300, || {
        if let Some(why) = Metric::Vmaf.unavailable() {
            media::skipped(&format!("VMAF: {why}"));
            return;
        }
        let Some(program) = referee() else { return };
        let folder = tempfile::tempdir().unwrap();
        let (reference, distorted) = pair(folder.path(), &[]);
        let ours = compared(&reference, &distorted, &[Metric::Vmaf, Metric::VmafNeg]).unwrap();
        for (metric, model) in [(Metric::Vmaf, "vmaf_v0.6.1"), (Metric::VmafNeg, "vmaf_v0.6.1neg")] {
            let theirs = libvmaf(&program, model, &reference, &distorted);
            let ours = frames(&ours, metric);
            assert_eq!(ours.len(), theirs.len());
            for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                // The log has six decimals.
                assert!((ours - theirs).abs() < 1e-6, "{metric}, frame {number}: {ours} and not {theirs}");
            }
        }
    });
}

/// VMAF of every frame by the libvmaf filter of another ffmpeg program.
fn libvmaf(program: &Path, model: &str, reference: &Path, distorted: &Path) -> Vec<f64> {
    let log = reference.with_file_name("vmaf.json");
    let graph = format!("[0:v][1:v]libvmaf=model=version={model}:log_fmt=json:log_path={}", text(&log));
    let arguments = ["-v", "error", "-i", text(distorted), "-i", text(reference), "-lavfi", &graph, "-f", "null", "-"];
    let status = std::process::Command::new(program).args(arguments).status().unwrap();
    assert!(status.success());
    let log: serde_json::Value = serde_json::from_slice(&std::fs::read(log).unwrap()).unwrap();
    let frames = log["frames"].as_array().unwrap();
    frames.iter().map(|frame| frame["metrics"]["vmaf"].as_f64().unwrap()).collect()
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        // Arguments of the second encode, a word of the message, and the exit code.
        let cases: [(&[&str], &str, u8); 6] = [
            (&["-vf", "scale=160:128"], "160x128 pixels, but the reference has 176x144", 3),
            (&["-pix_fmt", "yuv444p"], "--pixel-format yuv420p converts both", 3),
            (&["-r", "24"], "24.000 frames per second", 3),
            (&["-frames:v", "40"], "the coded stream ends after 40 frames", 4),
            // Shown again at the end so that the number is right.
            (&["-vf", "trim=start_frame=2,tpad=stop=9,setpts=N/25/TB", "-frames:v", "50"], "2 frames later", 4),
            (&["-vf", "setpts=PTS+gte(N\\,30)/25/TB", "-fps_mode", "passthrough"], "comes 1.200 s after the first", 4),
        ];
        for (arguments, words, code) in cases {
            let (reference, distorted) = pair(folder.path(), arguments);
            let error = compared(&reference, &distorted, &[Metric::Psnr]).unwrap_err();
            assert!(error.to_string().contains(words), "{arguments:?}: {error}");
            assert_eq!(error.exit_code(), code, "{arguments:?}: {error}");
        }
    });
}

#[test]
fn another_pixel_format_is_compared_where_asked() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let (reference, distorted) = pair(folder.path(), &["-pix_fmt", "yuv444p"]);
        let request = MeasureRequest {
            pixel_format: Some("yuv420p".to_owned()),
            ..request(&reference, &distorted, &[Metric::Psnr])
        };
        let ours = measure(&request, &Cancel::new(), &mut |_, _| ()).unwrap();
        let graph = "[0:v]format=yuv420p[d];[1:v]format=yuv420p[r];[d][r]psnr";
        assert_eq!(ours.qualities[0].frames, theirs(graph, "lavfi.psnr.psnr_avg", &distorted, &reference));
    });
}

#[test]
fn a_file_is_without_error_against_itself() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let (reference, _) = pair(folder.path(), &[]);
        let ours = compared(&reference, &reference, &[Metric::Psnr, Metric::Ssim]).unwrap();
        assert!(frames(&ours, Metric::Psnr).iter().all(|value| *value == 100.0));
        assert!(frames(&ours, Metric::Ssim).iter().all(|value| *value == 1.0));
    });
}
