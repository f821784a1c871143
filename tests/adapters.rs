//! The rows: what holds for all of them, and that what they set exists in real option tables with the value they set.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod media;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use media::{compare, has_encoder, names, referee};
use repass::adapter::{self, Adapter, Capping, PRESETS, PassModel, Setting, StatsRoute, Vendor};
use repass::error::{Error, Refusal};
use repass::plan::{CommandLine, Request, argv, compile};
use repass::probe::{self, Capabilities};
use repass::rate::{BitRate, Target};

#[path = "tables/read.rs"]
mod tables;

use tables::Tables;

#[test]
fn there_are_nineteen_and_each_has_its_own_name() {
    let names: BTreeSet<&str> = adapter::all().iter().map(|row| row.name).collect();
    assert_eq!(names.len(), 19);
    assert_eq!(adapter::all().len(), 19);
}

#[test]
fn every_row_is_whole() {
    for row in adapter::all() {
        assert!(!row.name.is_empty() && !row.codec.is_empty() && row.row > 0, "{}", row.name);
        assert!(!row.availability.is_empty() && !row.pixel_formats.is_empty(), "{}", row.name);
        assert!(!row.quality.is_empty() || row.bitrate.is_some(), "{}: aims at nothing", row.name);
        for knob in row.quality {
            assert!(knob.range.0 < knob.range.1 && knob.scale > 0, "{}", row.name);
        }
        if let Some(bitrate) = row.bitrate {
            assert!(bitrate.range.0 > 0 && bitrate.range.0 < bitrate.range.1, "{}", row.name);
            assert!(!matches!(bitrate.cap, Capping::AsBitrate(_)), "{}: b is the rate already", row.name);
        }
        if let PassModel::TwoRuns(model) = &row.passes {
            assert!(!model.routes.is_empty() && model.longest_path > 0, "{}", row.name);
            assert!(!model.first.is_empty() && !model.without_route.is_empty(), "{}", row.name);
        }
    }
}

#[test]
fn two_passes_are_software() {
    for row in adapter::all() {
        assert_eq!(row.supports_two_pass(), row.vendor == Vendor::Software, "{}", row.name);
    }
}

#[test]
fn analysis_inside_is_never_called_two_passes() {
    for row in adapter::all() {
        if let PassModel::Inside(inside) = &row.passes {
            let words = inside.words.to_lowercase();
            assert!(
                !words.contains("two pass") && !words.contains("2-pass") && !words.contains("two-pass"),
                "{}",
                row.name
            );
        }
    }
}

#[test]
fn what_the_targets_set_nobody_else_may() {
    for row in adapter::all() {
        let owned = row.quality.iter().flat_map(|knob| [knob.option].into_iter().chain(knob.also.iter().copied()));
        for option in owned.chain(["b", "maxrate", "bufsize", "threads"]) {
            let is_reserved = row.reserved().any(|reserved| reserved.option == option && reserved.keys.is_empty());
            assert!(is_reserved, "{}: {option} is not reserved", row.name);
        }
    }
}

#[test]
fn what_the_passes_set_nobody_else_may() {
    for row in adapter::all() {
        let PassModel::TwoRuns(model) = &row.passes else { continue };
        for route in model.routes {
            let is_reserved = |option: &str, key: Option<&str>| {
                row.reserved().any(|reserved| {
                    let covers = key.map_or(reserved.keys.is_empty(), |key| reserved.keys.contains(&key));
                    reserved.option == option && covers
                })
            };
            match *route {
                StatsRoute::Context => {}
                StatsRoute::File { option } => assert!(is_reserved(option, None), "{}: {option}", row.name),
                StatsRoute::Params { option, pass, stats } => {
                    assert!(is_reserved(option, Some(pass)) && is_reserved(option, Some(stats)), "{}", row.name);
                }
            }
        }
    }
}

#[test]
fn every_setting_of_a_row_is_in_the_recorded_tables_with_a_value_they_take() {
    for tables in tables::all() {
        for row in adapter::all() {
            let found = tables.capabilities(row);
            if found.present {
                settings(row, &found).for_each(|setting| check(tables, &found, setting));
                speeds(row, &found);
            }
        }
    }
}

/// Required settings of a row; those of a knob that the tables do not have do not count.
fn settings<'c>(row: &'static Adapter, found: &'c Capabilities) -> impl Iterator<Item = Setting> + use<'c> {
    let knobs = row.quality.iter().filter(|knob| found.options.contains_key(knob.option));
    let of_knobs = knobs.flat_map(|knob| knob.with.iter().chain(knob.analysis));
    let of_passes = match &row.passes {
        PassModel::TwoRuns(model) => model.fast_first,
        PassModel::Inside(inside) => inside.settings,
        PassModel::Refused(_) => &[],
    };
    let of_rate: &[Setting] = row.bitrate.map_or(&[], |bitrate| bitrate.with);
    let rest =
        row.always.iter().chain(row.quiet).chain(row.gop.fixed).chain(row.gop.forced).chain(of_passes).chain(of_rate);
    of_knobs.chain(rest).copied().filter(|setting| !setting.optional || found.options.contains_key(setting.option))
}

fn check(tables: &Tables, found: &Capabilities, setting: Setting) {
    let place = format!("{}, {}: {}={}", tables.name, found.encoder, setting.option, setting.value);
    let info = found.options.get(setting.option).unwrap_or_else(|| panic!("{place}: no such option"));
    let value = setting.key.map_or_else(|| setting.value.to_owned(), |key| format!("{key}={}", setting.value));
    info.check(&value).unwrap_or_else(|why| panic!("{place}: {why}"));
}

fn speeds(row: &Adapter, found: &Capabilities) {
    let Some(speed) = row.speed else { return };
    let info = &found.options[speed.option];
    for (preset, native) in PRESETS.iter().zip(speed.native) {
        info.check(native).unwrap_or_else(|why| panic!("{}: {preset} is {native}: {why}", row.name));
    }
}

#[test]
fn every_setting_of_a_row_is_in_the_tables_that_the_referee_prints() {
    let Some(referee) = referee() else { return };
    let tables = printed(&referee).expect("the referee prints its tables");
    let mut checked = Vec::new();
    for row in adapter::all() {
        let found = tables.capabilities(row);
        if found.present {
            settings(row, &found).for_each(|setting| check(&tables, &found, setting));
            speeds(row, &found);
            checked.push(row.name);
        }
    }
    println!("in the tables of {}: {}", tables.libavcodec, checked.join(", "));
    assert!(["libvvenc", "h264_nvenc", "h264_qsv", "h264_amf"].iter().all(|name| checked.contains(name)));
}

#[test]
fn vvenc_takes_the_arguments_of_both_passes() {
    let Some(referee) = referee() else { return };
    let row = adapter::named("libvvenc").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(&referee)
            .args(["-hide_banner", "-v", "error", "-nostdin", "-y"])
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let frames =
        |file: &str| run(&["-i", file, "-f", "framecrc", "-"]).lines().filter(|line| !line.starts_with('#')).count();
    let source = ["-f", "lavfi", "-i", "testsrc2=s=128x96:r=24:d=0.5,format=yuv420p10le"];
    run(&[&source[..], &["-c:v", "ffv1", "in.mkv"]].concat());

    // What is given to people who spawn ffmpeg.
    let stats = folder.path().join("some stats: one, two");
    for (pass, output) in [(1, &["-f", "null", "-"][..]), (2, &["two.mp4"])] {
        let own = row.two_pass_args(pass, &stats).unwrap();
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let encode = ["-i", "in.mkv", "-c:v", "libvvenc", "-preset", "faster", "-b:v", "100k"];
        run(&[&encode[..], &own, output].concat());
    }
    assert_eq!(frames("two.mp4"), 12);
    let written = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(
        written.into_iter().any(|name| name.starts_with("some stats: one, two")),
        "pass 1 wrote its statistics there"
    );

    // What a plan would do, as command lines.
    let found = printed(&referee).unwrap().capabilities(row);
    let request = Request { preset: Some("faster".to_owned()), ..Request::new(row, Target::Average(BitRate(100_000))) };
    let plan = compile(&request, &found).unwrap();
    let line = CommandLine {
        input: "in.mkv".to_owned(),
        output: "plan.mp4".to_owned(),
        pixel_format: Some("yuv420p10le".to_owned()),
        ..CommandLine::default()
    };
    for command in argv(&plan, &line) {
        run(&command[1..].iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert_eq!(frames("plan.mp4"), 12);
}

/// Prints which rows this very machine proves, and how far.
#[test]
fn every_row_in_software_is_in_some_option_table_or_runs_here() {
    let elsewhere = referee().map(|referee| printed(&referee).expect("the referee prints its tables"));
    for row in adapter::all() {
        let here = probe::capabilities(row);
        let opens = here.present && (row.vendor == Vendor::Software || probe::open_device(row).is_ok());
        let tables = tables::all().iter().filter(|tables| tables.name != "videotoolbox");
        let tables: Vec<&str> =
            tables.filter(|tables| tables.capabilities(row).present).map(|tables| tables.name.as_str()).collect();
        let by_referee =
            row.vendor == Vendor::Software && elsewhere.as_ref().is_some_and(|tables| tables.capabilities(row).present);
        let proof = match (opens, by_referee, tables.is_empty()) {
            (true, _, _) => format!("by execution, linked libavcodec {}", here.libavcodec),
            (false, true, _) => "by execution, in the referee program".to_owned(),
            (false, false, false) => format!("by option table: {}", tables.join(", ")),
            (false, false, true) => "by source only".to_owned(),
        };
        println!("{:20} {proof}", row.name);
        assert!(row.vendor != Vendor::Software || proof != "by source only", "{}", row.name);
    }
}

#[test]
fn the_probe_reads_the_tables_that_ffmpeg_prints() {
    let Some(tables) = printed(Path::new("ffmpeg")) else { return media::skipped("no ffmpeg to compare with") };
    for row in adapter::all() {
        let (found, printed) = (probe::capabilities(row), tables.capabilities(row));
        if found.libavcodec != printed.libavcodec {
            return media::skipped(&format!(
                "ffmpeg is of libavcodec {}, linked is {}",
                printed.libavcodec, found.libavcodec
            ));
        }
        assert_eq!(found.present, printed.present, "{}", row.name);
        assert_eq!(found.pixel_formats, printed.pixel_formats, "{}", row.name);
        let names = |capabilities: &Capabilities| capabilities.options.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&printed), "{}", row.name);
        for (name, info) in &found.options {
            let other = &printed.options[name];
            let values = |named: &[(String, i64)]| named.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>();
            assert_eq!(info.kind, other.kind, "{}: {name}", row.name);
            assert_eq!(info.private, other.private, "{}: {name}", row.name);
            assert!(values(&other.named).is_subset(&values(&info.named)), "{}: {name}", row.name);
        }
    }
}

/// The tables as an ffmpeg program prints them.
fn printed(program: &Path) -> Option<Tables> {
    let script = tables::folder().join("record.sh");
    let output = Command::new("sh").arg(script).env("CONTEXT", "").env("FFMPEG", program).output().ok()?;
    output.status.success().then(|| Tables::read("ffmpeg printed", &String::from_utf8_lossy(&output.stdout)))
}

#[test]
fn statistics_take_the_route_that_is_there() {
    for row in adapter::all() {
        let found = probe::capabilities(row);
        match (&row.passes, found.route) {
            (PassModel::TwoRuns(model), Some(route)) => assert!(model.routes.contains(&route), "{}", row.name),
            (_, None) => {}
            (_, Some(route)) => panic!("{}: {route:?}", row.name),
        }
        if found.present && row.supports_two_pass() && row.codec != "av1" {
            assert!(found.route.is_some(), "{}: every version of it has a route", row.name);
        }
    }
}

#[test]
fn hardware_that_is_not_there_is_told_from_an_encoder_that_is_not_compiled_in() {
    for row in adapter::all().into_iter().filter(|row| row.vendor != Vendor::Software) {
        let opened = probe::open_device(row);
        match (probe::capabilities(row).present, opened) {
            (true, Ok(())) => eprintln!("{}: there is a device", row.name),
            (true, Err(Error::Plan(Refusal::NoDevice { encoder, .. }))) => assert_eq!(encoder, row.name),
            (false, Err(Error::Plan(Refusal::NoEncoder { encoder, .. }))) => assert_eq!(encoder, row.name),
            (present, opened) => panic!("{}: present: {present}, {opened:?}", row.name),
        }
    }
}

#[test]
fn arguments_of_two_passes_are_as_recorded() {
    let path = Path::new("/tmp/some stats: one, two");
    let mut text = String::new();
    for row in adapter::all() {
        for pass in 0..=3 {
            let arguments = match row.two_pass_args(pass, path) {
                Ok(arguments) => format!("{arguments:?}"),
                // What a Mac has more is in the recorded plans.
                Err(refusal) => {
                    format!("refused: {refusal}").replace(", or --passes session, which opens Apple's own", "")
                }
            };
            text.push_str(&format!("{} {pass}: {arguments}\n", row.name));
        }
    }
    compare("two_pass_args.txt", &text);
}

#[test]
fn videotoolbox_refuses_with_its_own_error_and_names_the_way_out() {
    for row in adapter::all().into_iter().filter(|row| row.vendor == Vendor::Apple) {
        for pass in [1, 2] {
            let refusal = row.two_pass_args(pass, Path::new("stats")).unwrap_err();
            assert!(matches!(refusal, Refusal::VideoToolboxTwoPassUnsupported { .. }), "{refusal:?}");
            for name in [row.name, "libx264", "libx265", "libsvtav1", "libaom-av1", "libvvenc"] {
                assert!(refusal.to_string().contains(name), "{refusal}");
            }
        }
    }
}

#[test]
fn a_path_that_the_encoder_would_cut_short_is_refused() {
    let long = "d/".repeat(130);
    for (name, path) in [("libx265", long.as_str()), ("libx265", ""), ("libx264", ""), ("libx264", &"d/".repeat(600))] {
        let refusal = adapter::named(name).unwrap().two_pass_args(1, Path::new(path)).unwrap_err();
        assert!(matches!(refusal, Refusal::StatsPath { .. }), "{name}: {refusal:?}");
    }
}

#[test]
fn paths_survive_the_parameter_string_of_x265() {
    if !has_encoder("libx265") {
        return;
    }
    let row = adapter::named("libx265").unwrap();
    for name in ["plain", "a b", "a:b", "a,b", "a'b", "a\\b", "a=b", "trail ", " lead", "a\\'b:c d,é\"", "#%d[]"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        let arguments = row.two_pass_args(1, &file).unwrap();
        assert!(ffmpeg_encodes(&arguments), "{name:?}: {arguments:?}");
        let written = fs::metadata(&file).map(|metadata| metadata.len()).unwrap_or_default();
        assert!(written > 0, "{name:?} became {:?} by {arguments:?}", names(folder.path()));
    }
}

fn ffmpeg_encodes(arguments: &[String]) -> bool {
    let input =
        ["-v", "quiet", "-nostdin", "-f", "lavfi", "-i", "color=s=64x64:r=25:d=0.1", "-c:v", "libx265", "-b:v", "50k"];
    let output = ["-preset", "ultrafast", "-f", "null", "-"];
    let mut command = Command::new("ffmpeg");
    command.args(input).args(output.iter().take(2)).args(arguments).args(output.iter().skip(2));
    command.output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_name_that_is_no_adapter_gets_its_neighbours() {
    let Err(Refusal::NoAdapter { near, .. }) = adapter::named("libx246") else { panic!("found") };
    assert_eq!(near.first().map(String::as_str), Some("libx264"));
    assert!(adapter::named("mpeg2video").is_err());
}
