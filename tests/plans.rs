//! Plans: pure values, compared whole with references; laws that hold for every request; refusals, each with its remedy.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod media;

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use media::compare;
use proptest::prelude::*;
use repass::adapter::{self, Adapter, PRESETS, PassModel, StatsRoute};
use repass::error::Refusal;
use repass::plan::{
    self, CommandLine, EncoderPlan, Hdr10Data, MasteringDisplay, NotMeasured, NotNative, OnUnsupported, Origin,
    PassFlag, Passes, Property, Request, StatsUse,
};
use repass::probe::{self, Capabilities};
use repass::quality::Metric;
use repass::rate::{BitRate, ByteSize, Cap, Target};

#[path = "tables/read.rs"]
mod tables;

use tables::Tables;

// ---- references

#[test]
fn plans_are_as_recorded() {
    for row in adapter::all() {
        let mut text = String::new();
        for tables in tables::all() {
            let found = tables.capabilities(row);
            if !found.present {
                continue;
            }
            for (name, request) in requests(row) {
                let _ = writeln!(text, "== {}: {name}", tables.name);
                show(&mut text, plan::compile(&request, &found));
            }
        }
        if text.is_empty() {
            let nowhere = plan::compile(&Request::new(row, AVERAGE), &recorded("ffmpeg-9.0").capabilities(row));
            show(&mut text, nowhere);
        }
        compare(&format!("{}.txt", row.name), &text);
    }
}

/// What each adapter is asked in each reference.
fn requests(row: &'static Adapter) -> Vec<(&'static str, Request)> {
    let middle = row.quality.first().map_or(30.0, |knob| ((knob.range.0 + knob.range.1) / 2.0).round());
    let quality = Target::Quality(middle);
    let two = |request: Request| Request { passes: Passes::Two, ..request };
    let fallback = |request: Request| Request { on_unsupported: OnUnsupported::Fallback, ..two(request) };
    let capped = |request: Request| Request { cap: Some(CAP), ..request };
    vec![
        ("average", Request::new(row, AVERAGE)),
        ("average, two passes", two(Request::new(row, AVERAGE))),
        ("average, two passes or what there is", fallback(Request::new(row, AVERAGE))),
        ("average, capped", capped(Request::new(row, AVERAGE))),
        ("average, a session", Request { passes: Passes::Session, ..Request::new(row, AVERAGE) }),
        ("PSNR 40 dB", Request::new(row, Target::Measured("psnr=40".parse().unwrap()))),
        ("size", Request { provisional: Some(BitRate(3_456_789)), ..Request::new(row, SIZE) }),
        ("quality", Request::new(row, quality)),
        ("quality, two passes", two(Request::new(row, quality))),
        ("quality, two passes or what there is", fallback(Request::new(row, quality))),
        ("quality, capped", capped(Request::new(row, quality))),
        (
            "all the rest",
            Request {
                preset: Some("slow".to_owned()),
                threads: Some(4),
                gop_frames: Some(48),
                fast_first: true,
                hdr10: Some(HDR10),
                ..Request::new(row, AVERAGE)
            },
        ),
    ]
}

fn show(text: &mut String, plan: Result<EncoderPlan, Refusal>) {
    let plan = match plan {
        Ok(plan) => plan,
        Err(refusal) => return text.push_str(&format!("refused: {refusal}\n\n")),
    };
    let _ = write!(text, "{plan}");
    for command in plan::argv(&plan, &line()) {
        let _ = writeln!(text, "  $ {}", plan::shell_line(&command));
    }
    text.push('\n');
}

fn line() -> CommandLine {
    CommandLine { input: "in 1.mkv".to_owned(), output: "out.mkv".to_owned(), ..CommandLine::default() }
}

// ---- laws

/// A request for any adapter, of the kinds that people make.
fn any_request() -> impl Strategy<Value = Request> {
    let target = prop_oneof![
        (0.0..64.0_f64).prop_map(|level| Target::Quality(level.round())),
        (1..200_000_000_u64).prop_map(|bps| Target::Average(BitRate(bps))),
        Just(SIZE),
    ];
    let passes = prop_oneof![Just(Passes::Auto), Just(Passes::One), Just(Passes::Two)];
    let options = prop::collection::vec(
        prop::sample::select(
            &[("g", "60"), ("bf", "2"), ("flags", "+cgop"), ("flags", "qpel"), ("x265-params", "sao=0")][..],
        ),
        0..3,
    );
    let choices =
        (any::<bool>(), any::<bool>(), any::<bool>(), prop::option::of(0..10_usize), prop::option::of(1..300_u32));
    (0..19_usize, target, passes, options, choices).prop_map(|(row, target, passes, options, choices)| {
        let (fallback, fast_first, capped, preset, gop_frames) = choices;
        Request {
            passes,
            on_unsupported: if fallback { OnUnsupported::Fallback } else { OnUnsupported::Refuse },
            fast_first,
            cap: capped.then_some(CAP),
            preset: preset.map(|index| PRESETS[index].to_owned()),
            gop_frames,
            options: options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            provisional: Some(BitRate(2_000_000)),
            ..Request::new(adapter::all()[row], target)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_of_plans_hold(request in any_request(), set in 0..4_usize) {
        let found = tables::all()[set].capabilities(request.adapter);
        if let Ok(plan) = plan::compile(&request, &found) {
            outputs_come_from_the_last_step_alone(&plan)?;
            what_is_read_was_written_by_the_same_route(&plan)?;
            flags_are_for_the_routes_that_use_them(&plan)?;
            steps_differ_only_by_the_pass(&plan)?;
            every_slot_is_set_once(&plan)?;
            every_value_is_one_that_the_option_takes(&plan, &found)?;
        }
    }
}

fn outputs_come_from_the_last_step_alone(plan: &EncoderPlan) -> Result<(), TestCaseError> {
    let outputs: Vec<bool> = plan.steps.iter().map(|step| step.output).collect();
    prop_assert!(outputs == [true] || outputs == [false, true], "{:?}", outputs);
    for (index, step) in plan.steps.iter().enumerate() {
        prop_assert_eq!(usize::from(step.number), index + 1);
        prop_assert_eq!(usize::from(step.of), plan.steps.len());
    }
    Ok(())
}

fn what_is_read_was_written_by_the_same_route(plan: &EncoderPlan) -> Result<(), TestCaseError> {
    let stats: Vec<StatsUse> = plan.steps.iter().map(|step| step.stats).collect();
    match stats.as_slice() {
        [StatsUse::None] => Ok(()),
        [StatsUse::Write(written), StatsUse::Read(read)] if written == read => Ok(()),
        other => Err(TestCaseError::fail(format!("{other:?}"))),
    }
}

fn flags_are_for_the_routes_that_use_them(plan: &EncoderPlan) -> Result<(), TestCaseError> {
    for step in &plan.steps {
        let expected = match step.stats {
            StatsUse::None | StatsUse::Write(StatsRoute::Params { .. }) | StatsUse::Read(StatsRoute::Params { .. }) => {
                PassFlag::None
            }
            StatsUse::Write(_) => PassFlag::First,
            StatsUse::Read(_) => PassFlag::Second,
        };
        prop_assert_eq!(step.flag, expected);
    }
    Ok(())
}

fn steps_differ_only_by_the_pass(plan: &EncoderPlan) -> Result<(), TestCaseError> {
    let [first, second] = plan.steps.as_slice() else { return Ok(()) };
    let common = |step: &plan::PassStep| {
        step.settings.iter().filter(|setting| setting.origin != Origin::Pass).cloned().collect::<Vec<_>>()
    };
    prop_assert_eq!(common(first), common(second));
    Ok(())
}

fn every_slot_is_set_once(plan: &EncoderPlan) -> Result<(), TestCaseError> {
    for step in &plan.steps {
        let mut slots: Vec<_> = step.settings.iter().map(|setting| (&setting.option, &setting.key)).collect();
        slots.sort();
        let all = slots.len();
        slots.dedup();
        prop_assert_eq!(slots.len(), all);
    }
    Ok(())
}

fn every_value_is_one_that_the_option_takes(plan: &EncoderPlan, found: &Capabilities) -> Result<(), TestCaseError> {
    for step in &plan.steps {
        for (option, value) in step.options(Some("/a: b'c\\d")) {
            prop_assert!(found.options[&option].check(&value).is_ok(), "{}={}", option, value);
        }
    }
    Ok(())
}

// ---- settings

#[test]
fn a_persons_key_wins_over_the_adapters_and_joins_the_rest() {
    let plan = compiled("libx265", "ffmpeg-5.1", &[("x265-params", "log_level=info:sao=0")]);
    let options = plan.steps[0].options(Some("/tmp/a:b"));
    let (_, params) = options.iter().find(|(option, _)| option == "x265-params").unwrap();
    assert_eq!(params, r"log_level=info:sao=0:pass=1:stats=/tmp/a\:b");
}

#[test]
fn flags_add_up_and_an_absolute_set_comes_first() {
    let with_gop = |value: &str| {
        let request = Request {
            gop_frames: Some(48),
            options: vec![("flags".to_owned(), value.to_owned())],
            ..Request::new(adapter::named("libx264").unwrap(), AVERAGE)
        };
        let plan = plan::compile(&request, &on("ffmpeg-5.1", "libx264")).unwrap();
        plan.steps[0].settings.iter().find(|setting| setting.option == "flags").unwrap().value.clone()
    };
    assert_eq!(with_gop("+qpel"), "+cgop+qpel");
    assert_eq!(with_gop("qpel"), "qpel+cgop");
}

#[test]
fn a_preset_is_one_of_the_ten_names_or_the_encoders_own() {
    let preset = |name: &str, preset: &str| {
        let row = adapter::named(name).unwrap();
        let request = Request { preset: Some(preset.to_owned()), ..Request::new(row, AVERAGE) };
        plan::compile(&request, &on("ffmpeg-9.0", name)).map(|plan| plan.steps[0].settings[0].value.clone())
    };
    let takes = [
        ("libx264", "slow", "slow"),
        ("libsvtav1", "medium", "6"),
        ("libsvtav1", "13", "13"),
        ("h264_nvenc", "medium", "p4"),
        ("h264_nvenc", "p7", "p7"),
        ("av1_amf", "slow", "quality"),
        ("av1_amf", "70", "70"),
        ("libvvenc", "ultrafast", "faster"),
        ("libvpx-vp9", "-4", "-4"),
    ];
    for (name, given, native) in takes {
        assert_eq!(preset(name, given).as_deref(), Ok(native), "{name} {given}");
    }
    for (name, given) in [("libx264", "quick"), ("libsvtav1", "14"), ("h264_nvenc", "p8"), ("libx265", "5")] {
        let refusal = preset(name, given).unwrap_err();
        assert!(refusal.to_string().contains("medium"), "{name} {given}: {refusal}");
    }
}

#[test]
fn quiet_settings_stay_out_when_asked_to_speak() {
    let row = adapter::named("libx265").unwrap();
    let request = Request { verbose: true, ..Request::new(row, AVERAGE) };
    let plan = plan::compile(&request, &on("ffmpeg-5.1", "libx265")).unwrap();
    assert!(plan.steps[0].settings.iter().all(|setting| setting.key.as_deref() != Some("log-level")));
}

// ---- refusals

/// Tables, encoder, options, and words of the refusal.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

#[test]
fn what_cannot_be_is_refused_before_anything_runs() {
    let cases: &[Case] = &[
        ("ffmpeg-5.1", "libx264", &[("crff", "20")], "did you mean crf"),
        ("ffmpeg-5.1", "libx264", &[("crf", "20")], "use --crf"),
        ("ffmpeg-5.1", "libx264", &[("b", "4M")], "use -b"),
        ("ffmpeg-5.1", "libx264", &[("threads", "2")], "use --threads"),
        ("ffmpeg-5.1", "libx264", &[("stats", "x.log")], "--passes"),
        ("ffmpeg-5.1", "libx264", &[("passlogfile", "x")], "--passes"),
        ("ffmpeg-5.1", "libx264", &[("x264-params", "ref=3:PASS=2")], "pass"),
        ("ffmpeg-5.1", "libx264", &[("x264-params", "vbv_maxrate=3")], "--maxrate"),
        ("ffmpeg-5.1", "libx264", &[("x264opts", "pass=2")], "x264-params"),
        ("ffmpeg-5.1", "libx264", &[("flags", "+pass1")], "--passes"),
        ("ffmpeg-5.1", "libx264", &[("flags", "+cgup")], "did you mean cgop"),
        ("ffmpeg-5.1", "libx264", &[("qmax", "2000")], "from -1 to 1024"),
        ("ffmpeg-5.1", "libx264", &[("aq-mode", "varience")], "variance"),
        ("ffmpeg-5.1", "libx264", &[("mbtree", "perhaps")], "true or false"),
        ("ffmpeg-5.1", "libx264", &[("keyint_min", "300")], "250"),
        ("ffmpeg-5.1", "libx265", &[("g", "24"), ("keyint_min", "25")], "24"),
        ("ffmpeg-5.1", "libx265", &[("x265-params", "multi-pass-opt-analysis=1")], "--passes"),
        ("ffmpeg-5.1", "libx265", &[("x265-params", "analysis_save=x")], "--passes"),
        ("ffmpeg-5.1", "libx265", &[("x265-params", "no-sao")], "key=value"),
        ("ffmpeg-9.0", "libx265", &[("x265-stats", "x")], "--passes"),
        ("ffmpeg-9.0", "libsvtav1", &[("svtav1-params", "pass=2")], "--passes"),
        ("ffmpeg-9.0", "libvvenc", &[("vvenc-params", "RCStatsFile=x")], "--passes"),
        ("ffmpeg-9.0", "h264_nvenc", &[("rc", "cbr")], "-b or --crf"),
        ("ffmpeg-9.0", "h264_nvenc", &[("2pass", "1")], "multipass"),
        ("ffmpeg-9.0", "h264_nvenc", &[("multipass", "fullres"), ("preset", "medium")], "p1 to p7"),
    ];
    for (tables, name, options, words) in cases {
        let refusal = refused(tables, name, |request| Request { options: owned(options), ..request });
        assert!(refusal.to_string().contains(words), "{name} {options:?}: {refusal}");
    }
}

#[test]
fn targets_that_an_encoder_has_no_way_to_follow_are_refused() {
    let cases: &[(&str, &str, Target, &str)] = &[
        ("ffmpeg-5.1", "libx264", Target::Average(BitRate(999)), "1000 b/s"),
        ("ffmpeg-5.1", "libx264", Target::Quality(52.0), "from 0 to 51"),
        ("ffmpeg-5.1", "libsvtav1", Target::Quality(0.0), "from 1 to 63"),
        ("ffmpeg-5.1", "libsvtav1", Target::Average(BitRate(100_000_001)), "100.0 Mb/s"),
        ("ffmpeg-5.1", "libvpx-vp9", Target::Quality(20.5), "whole"),
        ("ffmpeg-5.1", "libx264", SIZE, "length"),
        ("videotoolbox", "prores_videotoolbox", AVERAGE, "--crf"),
        ("videotoolbox", "h264_videotoolbox", Target::Quality(101.0), "from 1 to 100"),
    ];
    for (tables, name, target, words) in cases {
        let refusal = refused(tables, name, |request| Request { target: *target, ..request });
        assert!(refusal.to_string().contains(words), "{name}: {refusal}");
    }
}

#[test]
fn sessions_of_videotoolbox_are_planned_where_it_is_and_refused_with_the_reason() {
    let session = |request: Request| Request { passes: Passes::Session, ..request };
    let planned = |name, options: &[(&str, &str)]| {
        let row = adapter::named(name).unwrap();
        let preset = Some("slow".to_owned());
        let request = Request { preset, options: owned(options), ..session(Request::new(row, AVERAGE)) };
        plan::compile(&request, &on("videotoolbox", name)).unwrap()
    };
    for (name, profile) in [("h264_videotoolbox", "high"), ("hevc_videotoolbox", "main10")] {
        let plan = planned(name, &[("profile", profile), ("realtime", "0")]);
        let native = plan.native.clone().unwrap();
        let names: Vec<&str> = native.properties.iter().map(|(property, _)| property.name()).collect();
        let wanted =
            ["RealTime", "AllowOpenGOP", "PrioritizeEncodingSpeedOverQuality", "AverageBitRate", "ProfileLevel"];
        assert_eq!(names, wanted, "{name}");
        assert!(native.properties.contains(&(Property::AverageBitRate(2_500_000), true)));
        assert!(plan.is_session() && !plan.two_pass() && plan.steps.len() == 1);
        assert!(plan::argv(&plan, &line()).is_empty());
        assert!(plan.to_string().contains("VideoToolbox's own, at most 6 passes"), "{plan}");
    }
    let h264 = "h264_videotoolbox";
    let with = |option: &str, value: &str| owned(&[(option, value)]);
    let cases: [(&str, &str, Request, NotNative); 10] = [
        ("ffmpeg-5.1", h264, request(h264), NotNative::OtherSystem),
        ("ffmpeg-5.1", "prores_videotoolbox", request("prores_videotoolbox"), NotNative::IntraOnly),
        ("videotoolbox", "prores_videotoolbox", request("prores_videotoolbox"), NotNative::IntraOnly),
        ("videotoolbox", "av1_videotoolbox", request("av1_videotoolbox"), NotNative::NoEncoder("av1")),
        ("videotoolbox", h264, Request { target: Target::Quality(50.0), ..request(h264) }, NotNative::ConstantQuality),
        (
            "videotoolbox",
            h264,
            Request { target: SIZE, provisional: Some(BitRate(1_000_000)), ..request(h264) },
            NotNative::Size,
        ),
        ("videotoolbox", h264, Request { cap: Some(CAP), ..request(h264) }, NotNative::Cap),
        ("videotoolbox", h264, Request { gop_frames: Some(48), ..request(h264) }, NotNative::FixedGroups),
        ("videotoolbox", h264, Request { options: with("realtime", "1"), ..request(h264) }, NotNative::RealTime),
        (
            "videotoolbox",
            h264,
            Request { options: with("frames_before", "1"), ..request(h264) },
            NotNative::Option("frames_before=1".to_owned()),
        ),
    ];
    for (tables, name, request, reason) in cases {
        let refusal = plan::compile(&session(request), &on(tables, name)).unwrap_err();
        let Refusal::NotNative { why, encoder, .. } = &refusal else { panic!("{name}: {refusal}") };
        assert!(refusal.to_string().contains("libx264"), "{refusal}");
        assert_eq!((why, encoder.as_str()), (&reason, name), "{refusal}");
    }
}

fn request(name: &str) -> Request {
    Request::new(adapter::named(name).unwrap(), AVERAGE)
}

#[test]
fn a_peak_below_the_average_is_refused() {
    let low = Cap { max: BitRate(1_000_000), buffer: BitRate(1_000_000) };
    let refusal = refused("ffmpeg-5.1", "libx264", |request| Request { cap: Some(low), ..request });
    assert!(refusal.to_string().contains("below the average"), "{refusal}");
}

#[test]
fn quality_in_two_passes_is_refused_in_the_encoders_own_words() {
    let cases = [
        ("ffmpeg-5.1", "libx264", "CRF/CQP is incompatible with 2pass."),
        ("ffmpeg-5.1", "libx265", "Constant rate-factor is incompatible with 2pass"),
        ("ffmpeg-9.0", "libsvtav1", "CRF does not support multi-pass. Use single pass."),
        ("ffmpeg-9.0", "libvvenc", "A bitrate must be set to use two pass mode."),
    ];
    for (tables, name, words) in cases {
        let quality = |request| Request { target: Target::Quality(30.0), passes: Passes::Two, ..request };
        let refusal = refused(tables, name, quality);
        assert!(matches!(refusal, Refusal::QualityNeedsOnePass { .. }), "{refusal:?}");
        assert!(refusal.to_string().contains(words), "{refusal}");
    }
    for name in ["libvpx-vp9", "libaom-av1"] {
        let row = adapter::named(name).unwrap();
        let request = Request { passes: Passes::Two, ..Request::new(row, Target::Quality(30.0)) };
        assert!(plan::compile(&request, &on("ffmpeg-5.1", name)).unwrap().two_pass(), "{name}");
    }
}

#[test]
fn a_quality_that_cannot_be_measured_is_refused_with_what_it_needs() {
    let request = Request::new(adapter::named("libx264").unwrap(), Target::Measured("vmaf=95".parse().unwrap()));
    let found = on("ffmpeg-7.1", "libx264");
    let refused = |found: &Capabilities| plan::compile(&request, found).unwrap_err();
    let of = |why: NotMeasured| why.of("libx264");
    assert_eq!(refused(&found), of(NotMeasured::Metric(Metric::Vmaf)));
    assert!(refused(&found).to_string().contains("cargo build --features vmaf"));
    let blind = Capabilities { decoder: None, metrics: vec![Metric::Vmaf], ..found.clone() };
    assert_eq!(refused(&blind), of(NotMeasured::Decoder("h264")));
    let seeing = Capabilities { metrics: vec![Metric::Vmaf], ..found };
    let plan = plan::compile(&request, &seeing).unwrap();
    assert_eq!(plan.session.unwrap().aim.metric(), Some(Metric::Vmaf));
}

#[test]
fn a_missing_encoder_says_what_would_bring_it() {
    for row in adapter::all() {
        let absent = Capabilities { present: false, ..recorded("ffmpeg-5.1").capabilities(row) };
        let refusal = plan::compile(&Request::new(row, AVERAGE), &absent).unwrap_err();
        assert!(refusal.to_string().contains(row.availability), "{refusal}");
    }
}

#[test]
fn falling_back_is_never_silent() {
    for tables in tables::all() {
        for row in adapter::all() {
            let fallback = OnUnsupported::Fallback;
            let request = Request { passes: Passes::Two, on_unsupported: fallback, ..Request::new(row, AVERAGE) };
            let Ok(plan) = plan::compile(&request, &tables.capabilities(row)) else { continue };
            assert!(plan.two_pass() || !plan.warnings.is_empty(), "{}", row.name);
            let inside = matches!(row.passes, PassModel::Inside(_));
            assert_eq!(plan.analysis.is_some(), inside, "{}", row.name);
        }
    }
}

#[test]
fn a_quicker_first_pass_that_there_is_not_is_said() {
    let says = |name: &str, passes| {
        let request = Request { fast_first: true, passes, ..request(name) };
        let plan = plan::compile(&request, &probe::capabilities(request.adapter)).unwrap();
        plan.warnings.iter().any(|warning| warning.starts_with("--fast-first-pass changes nothing"))
    };
    assert!(says("libx264", Passes::One), "one pass");
    assert!(says("libx264", Passes::Two), "x264's own first pass is quick by itself");
    if probe::capabilities(adapter::named("libx265").unwrap()).present {
        assert!(!says("libx265", Passes::Two));
    }
}

// ---- command lines

#[test]
fn ffmpeg_takes_the_command_lines() {
    let folder = std::env::temp_dir().join(format!("repass-argv-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for row in adapter::all().into_iter().filter(|row| row.supports_two_pass()) {
        let found = probe::capabilities(row);
        if !found.present {
            continue;
        }
        let request =
            Request { preset: Some("ultrafast".to_owned()), gop_frames: Some(5), ..Request::new(row, AVERAGE) };
        let plan = plan::compile(&request, &found).unwrap();
        let line = CommandLine {
            input: "testsrc2=s=320x192:r=25:d=0.4".to_owned(),
            output: folder.join(format!("{}: it's.mkv", row.name)).to_string_lossy().into_owned(),
            stats_prefix: folder.join("stats: it's").to_string_lossy().into_owned(),
            pixel_format: Some(plan.pixel_formats[0].clone()),
            ..CommandLine::default()
        };
        for command in plan::argv(&plan, &line) {
            // The input is a picture generator here, which a person's command line would not have.
            let text = plan::shell_line(&command).replacen("-i ", "-v error -nostdin -f lavfi -i ", 1);
            let output = Command::new("sh").arg("-c").arg(&text).env("SVT_LOG", "1").output().unwrap();
            assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        assert!(fs::metadata(&line.output).unwrap().len() > 500, "{}", row.name);
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn arguments_are_quoted_where_a_shell_would_read_them() {
    let words = ["ffmpeg", "a b", "it's", "", "x=1:y", "$HOME", "*"].map(str::to_owned);
    assert_eq!(plan::shell_line(&words), r"ffmpeg 'a b' 'it'\''s' '' x=1:y '$HOME' '*'");
}

// ---- helpers

fn recorded(name: &str) -> &'static Tables {
    tables::all().iter().find(|tables| tables.name == name).unwrap()
}

fn on(tables: &str, name: &str) -> Capabilities {
    recorded(tables).capabilities(adapter::named(name).unwrap())
}

fn compiled(name: &str, tables: &str, options: &[(&str, &str)]) -> EncoderPlan {
    let request = Request { options: owned(options), ..Request::new(adapter::named(name).unwrap(), AVERAGE) };
    plan::compile(&request, &on(tables, name)).unwrap()
}

fn refused(tables: &str, name: &str, change: impl FnOnce(Request) -> Request) -> Refusal {
    let request = change(Request::new(adapter::named(name).unwrap(), AVERAGE));
    plan::compile(&request, &on(tables, name)).unwrap_err()
}

fn owned(options: &[(&str, &str)]) -> Vec<(String, String)> {
    options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const AVERAGE: Target = Target::Average(BitRate(2_500_000));
const SIZE: Target = Target::Size(ByteSize(700_000_000));
const CAP: Cap = Cap { max: BitRate(4_000_000), buffer: BitRate(8_000_000) };
const HDR10: Hdr10Data = Hdr10Data {
    display: Some(MasteringDisplay {
        green: (13250, 34500),
        blue: (7500, 3000),
        red: (34000, 16000),
        white: (15635, 16450),
        brightest: 10_000_000,
        darkest: 1,
    }),
    light: Some((1000, 400)),
};
