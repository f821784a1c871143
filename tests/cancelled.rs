//! Encoders that are given up after some frames, in every pass, and statistics that are not theirs: the process lives on.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;

use media::within;
use repass::adapter;
use repass::av::encoder::{Encoder, EncoderSetup};
use repass::av::frame::Frame;
use repass::av::library;
use repass::av::packet::Packet;
use repass::av::{AvError, Received};
use repass::cache::{CacheMode, CachePlan};
use repass::error::Error;
use repass::event::Cancel;
use repass::job::{Job, JobRequest, RenditionRequest};
use repass::media::Rational;
use repass::plan::{PassStep, Passes, Request, compile};
use repass::probe::capabilities;
use repass::rate::{BitRate, ByteSize, Target};
use repass::source::{Input, OwnFrames, Shape};

const FRAMES: usize = 60;

fn picture(number: usize) -> Frame {
    let mut frame = Frame::allocate(128, 128, "yuv420p").unwrap();
    let mut next = number as u8;
    frame
        .fill_rows(|row| {
            row.fill_with(|| {
                next = next.wrapping_mul(5).wrapping_add(3 + number as u8);
                next / 2
            });
            Ok::<(), AvError>(())
        })
        .unwrap();
    frame.set_pts(number as i64);
    frame.set_duration(1);
    frame
}

fn setup(encoder: &str, step: &PassStep, path: &std::path::Path, stats: Option<&str>) -> EncoderSetup {
    EncoderSetup {
        encoder: encoder.to_owned(),
        pass: step.number,
        flag: step.flag,
        options: step.options(path.to_str()),
        stats: stats.map(str::to_owned),
        time_base: Rational::new(1, 24),
        frame_rate: Rational::new(24, 1),
        sample_aspect_ratio: None,
        global_header: step.output,
    }
}

/// Encodes so many frames and either ends or gives up; gives back the statistics.
fn encode(setup: EncoderSetup, frames: usize, to_the_end: bool) -> Result<String, Error> {
    let mut packet = Packet::new().unwrap();
    let mut encoder: Encoder = setup.open(picture(0))?;
    let mut drain = |encoder: &mut Encoder| -> Result<(), Error> {
        while encoder.receive(&mut packet)? == Received::Ready {}
        Ok(())
    };
    drain(&mut encoder)?;
    for number in 1..frames {
        encoder.send(picture(number))?;
        drain(&mut encoder)?;
    }
    if to_the_end {
        encoder.send_end()?;
        drain(&mut encoder)?;
    }
    Ok(encoder.into_stats())
}

/// Both passes of every encoder that is here, with statistics where it gives them.
fn every_pass(mut act: impl FnMut(&'static str, &PassStep, &std::path::Path, Option<&str>)) {
    for adapter in adapter::all().into_iter().filter(|adapter| adapter.vendor == adapter::Vendor::Software) {
        let capabilities = capabilities(adapter);
        if !capabilities.present {
            media::skipped(&format!("{} is not in this libavcodec", adapter.name));
            continue;
        }
        let request = Request {
            preset: Some("ultrafast".to_owned()),
            threads: Some(1),
            passes: Passes::Auto,
            ..Request::new(adapter, Target::Average(BitRate(200_000)))
        };
        let plan = compile(&request, &capabilities).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stats.log");
        let mut stats = String::new();
        for step in &plan.steps {
            act(adapter.name, step, &path, Some(stats.as_str()).filter(|stats| !stats.is_empty()));
            if step.number == 1 {
                stats = encode(setup(adapter.name, step, &path, None), FRAMES, true).unwrap();
            }
        }
    }
}

#[test]
fn an_encoder_can_be_given_up_after_any_number_of_frames_in_any_pass() {
    within(280, || {
        every_pass(|encoder, step, path, stats| {
            // None: a setup that is dropped has opened nothing.
            drop(setup(encoder, step, path, stats));
            for frames in [1, 2, 10, FRAMES - 1] {
                encode(setup(encoder, step, path, stats), frames, false)
                    .unwrap_or_else(|error| panic!("{encoder}, pass {}, {frames} frames: {error}", step.number));
            }
        });
    });
}

/// A stop that comes from outside, at any frame of any pass of a whole job, also before the first.
#[test]
fn a_job_can_be_stopped_after_any_number_of_frames_in_any_pass() {
    within(280, || {
        let folder = tempfile::tempdir().unwrap();
        for adapter in adapter::all().into_iter().filter(|adapter| adapter.vendor == adapter::Vendor::Software) {
            if !capabilities(adapter).present {
                media::skipped(&format!("{} is not in this libavcodec", adapter.name));
                continue;
            }
            for stop_at in [0, 1, 2, 10, FRAMES - 1, FRAMES, FRAMES + 1, FRAMES + 2, FRAMES + 10, 2 * FRAMES - 1] {
                let output = folder.path().join("out.mkv");
                let cancel = Cancel::new();
                let (mut drawn, stop) = (0, cancel.clone());
                let frames = OwnFrames::new(shape(), move |number| {
                    // Without a cache every pass draws anew; the first frame is drawn only when the job runs.
                    if drawn == stop_at {
                        stop.stop();
                    }
                    drawn += 1;
                    Ok::<_, AvError>((number < FRAMES as u64).then(|| picture(number as usize)))
                });
                let encoder = Request {
                    preset: Some("ultrafast".to_owned()),
                    threads: Some(1),
                    ..Request::new(adapter, Target::Average(BitRate(200_000)))
                };
                let request = JobRequest {
                    renditions: vec![RenditionRequest::new("out", &output, encoder)],
                    cache: CachePlan { mode: CacheMode::None, budget: ByteSize(0), spill_dir: None },
                    ..JobRequest::new(Input::file("pictures"))
                };
                let job = Job::from_frames(&request, frames, &cancel).unwrap();
                // A pass asks once more behind its last frame; behind that of the last pass there is nothing to stop.
                let all = usize::from(job.plan().runs) * (FRAMES + 1) - 1;
                match job.run(|_| {}) {
                    Err(Error::Interrupted) => {}
                    Ok(_) if stop_at >= all => {}
                    other => panic!("{}, stopped at {stop_at}: {other:?}", adapter.name),
                }
                let left = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name());
                assert_eq!(left.filter(|name| *name != "out.mkv").count(), 0, "{}, stopped at {stop_at}", adapter.name);
                let _ = std::fs::remove_file(output);
            }
        }
    });
}

/// Filters see to it that this never happens in a job; who uses the encoder by itself may do it.
#[test]
fn a_frame_of_another_size_or_format_in_the_middle_is_an_error_and_no_end_of_the_process() {
    within(120, || {
        every_pass(|encoder, step, path, stats| {
            for (width, height, format) in [(48, 32, "yuv420p"), (192, 128, "yuv420p"), (96, 64, "yuv444p10le")] {
                let mut packet = Packet::new().unwrap();
                let mut open = setup(encoder, step, path, stats).open(picture(0)).unwrap();
                for number in 1..20 {
                    open.send(picture(number)).unwrap();
                    while open.receive(&mut packet).unwrap() == Received::Ready {}
                }
                let mut other = Frame::allocate(width, height, format).unwrap();
                other.set_pts(20);
                let error = open.send(other).unwrap_err();
                assert!(
                    matches!(error, Error::Encode { frame: 20, .. }),
                    "{encoder}, {width}x{height} {format}: {error}"
                );
            }
        });
    });
}

/// Every way to set passes or statistics behind the driver's back; some of them end the process.
#[test]
fn keys_of_passes_and_statistics_are_refused_in_every_parameter_string() {
    within(60, || {
        for (encoder, option, values) in [
            ("libx264", "x264-params", &["pass=2", "stats=x", "a=1:pass=1", "bframes=1:stats=/dev/null"][..]),
            ("libx264", "x264opts", &["pass=2", "stats=x"]),
            ("libx264", "stats", &["x"]),
            ("libx264", "passlogfile", &["x"]),
            ("libx265", "x265-params", &["pass=2", "stats=x", "pass=3:stats=y", "analysis-save=x"]),
            ("libsvtav1", "svtav1-params", &["pass=2", "passes=2", "stats=x", "preset=8:pass=1"]),
            ("libx264", "flags", &["+pass1", "pass2", "+global_header+pass2"]),
            ("libvpx-vp9", "flags", &["+pass2"]),
            ("libaom-av1", "flags", &["+pass2"]),
            ("libvvenc", "vvenc-params", &["pass=2", "rcstatsfile=x", "statsfile=x"]),
            ("libvvenc", "stats", &["x"]),
        ] {
            let adapter = adapter::named(encoder).unwrap();
            let capabilities = capabilities(adapter);
            if !capabilities.present {
                media::skipped(&format!("{encoder} is not in this libavcodec"));
                continue;
            }
            for value in values {
                let request = Request {
                    options: vec![(option.to_owned(), (*value).to_owned())],
                    ..Request::new(adapter, Target::Average(BitRate(200_000)))
                };
                let refused = compile(&request, &capabilities).map(|_| ());
                assert!(refused.is_err(), "{encoder}: {option}={value} passed");
                println!("{encoder}, {option}={value}: {}", refused.unwrap_err());
            }
        }
    });
}

fn shape() -> Shape {
    Shape {
        width: 128,
        height: 128,
        pixel_format: "yuv420p".to_owned(),
        rate: Rational::new(24, 1),
        frames: Some(FRAMES as u64),
    }
}

/// What became of a second pass.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Refused,
    Taken,
    Died,
}

/// What each version of a library does with statistics that are empty, nonsense, cut in half, and cut to half the records, as
/// `vendor-notes.md` has it.
const FOUND: [(&str, &str, [&[Fate]; 4]); 4] = [
    ("libx264", "build 164", [REFUSED, REFUSED, TAKEN, TAKEN]),
    // Where its memory happens to be mapped, it comes to itself at the frame whose line is missing.
    ("libx265", "3.5", [REFUSED, REFUSED, REFUSED_OR_DEAD, REFUSED_OR_DEAD]),
    ("libvpx-vp9", "v1.12.", [REFUSED; 4]),
    ("libaom-av1", "v3.6.", [REFUSED; 4]),
];
const REFUSED: &[Fate] = &[Fate::Refused];
const TAKEN: &[Fate] = &[Fate::Taken];
const REFUSED_OR_DEAD: &[Fate] = &[Fate::Refused, Fate::Died];

/// Some of these end the process, so each is tried in one of its own. That the store does not let them through to an encoder
/// is proven in `a_damaged_store_is_refused_before_pass_2`.
#[test]
fn statistics_that_are_not_whole_do_to_an_encoder_what_is_written_down() {
    const NAME: &str = "statistics_that_are_not_whole_do_to_an_encoder_what_is_written_down";
    if let Some(encoder) = std::env::var_os(TRIED) {
        return within(60, move || try_bad_statistics(encoder.to_str().unwrap()));
    }
    within(250, || {
        for encoder in ["libx264", "libx265", "libvpx-vp9", "libaom-av1", "libsvtav1", "libvvenc"] {
            let version = library::version(adapter::named(encoder).unwrap().library).unwrap_or_default();
            let found = FOUND.iter().find(|(name, least, _)| *name == encoder && version.starts_with(least));
            if found.is_none() {
                media::skipped(&format!("nothing is written down of {encoder} {version}"));
            }
            for bad in 0..4 {
                let mut child = std::process::Command::new(std::env::current_exe().unwrap());
                child.args(["--exact", NAME, "--nocapture"]).env(TRIED, format!("{encoder} {bad}"));
                let output = child.output().unwrap();
                let text = String::from_utf8_lossy(&output.stdout);
                let told = text.lines().find_map(|line| line.strip_prefix("tried: "));
                let fate = match told {
                    Some("taken without a word") => Fate::Taken,
                    Some(_) => Fate::Refused,
                    None => Fate::Died,
                };
                println!("{encoder} {version}, bad statistics {bad}: {fate:?}: {told:?}, {}", output.status);
                assert!(
                    found.is_none_or(|(.., fates)| fates[bad].contains(&fate)),
                    "{encoder} {version}, {bad}: {fate:?}"
                );
            }
        }
    });
}

const TRIED: &str = "REPASS_TEST_BAD_STATISTICS";

fn try_bad_statistics(which: &str) {
    let (wanted, bad) = which.split_once(' ').unwrap();
    let bad: usize = bad.parse().unwrap();
    every_pass(|encoder, step, path, stats| {
        if step.number != 2 || encoder != wanted {
            return;
        }
        let whole = stats.map_or_else(|| std::fs::read(path).unwrap(), |stats| stats.as_bytes().to_vec());
        let bad = [&b""[..], b"nonsense", &whole[..whole.len() / 2], &whole[..whole.len() / 8 * 4]][bad].to_vec();
        let text = stats.map(|_| String::from_utf8(bad.clone()).unwrap());
        if text.is_none() {
            std::fs::write(path, &bad).unwrap();
        }
        let result = encode(setup(encoder, step, path, text.as_deref()), FRAMES, false);
        println!("tried: {}", result.map_or_else(|error| error.to_string(), |_| "taken without a word".to_owned()));
    });
}

/// Cut, emptied, replaced or removed after they were sealed: pass 2 is not opened with them.
#[test]
fn a_damaged_store_is_refused_before_pass_2() {
    use repass::stats::{Made, StatsStore};
    within(120, || {
        every_pass(|encoder, step, path, _| {
            let (repass::plan::StatsUse::Write(route), repass::adapter::PassModel::TwoRuns(model)) =
                (step.stats, adapter::named(encoder).unwrap().passes)
            else {
                return;
            };
            let store = || StatsStore::for_route(route, 0).unwrap();
            let made = Made { encoder, model: &model, step, frames: FRAMES as u64 };
            let Some(own) = store().path() else {
                let text = encode(setup(encoder, step, path, None), FRAMES, true).unwrap();
                for bad in ["", "A", "not base64!", &text[..text.len() / 2], &text[..text.len() / 8 * 4]] {
                    assert!(store().seal(&made, bad.to_owned()).is_err(), "{encoder}: {} bytes", bad.len());
                }
                return;
            };
            drop(own);
            for damage in 0..4 {
                let store = store();
                let file = store.path().unwrap();
                encode(setup(encoder, step, &file, None), FRAMES, true).unwrap();
                let whole = std::fs::read(&file).unwrap();
                if damage == 3 {
                    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
                    assert!(store.seal(&made, String::new()).is_err(), "{encoder}: cut before it is sealed");
                    continue;
                }
                let sealed = store.seal(&made, String::new()).unwrap();
                assert!(sealed.path(encoder).is_ok(), "{encoder}");
                match damage {
                    0 => std::fs::write(&file, &whole[..whole.len() / 2]).unwrap(),
                    1 => std::fs::write(&file, [&whole[1..], b"x"].concat()).unwrap(),
                    _ => std::fs::remove_file(&file).unwrap(),
                }
                assert!(sealed.path(encoder).is_err(), "{encoder}: damage {damage} after it is sealed");
            }
        });
    });
}
