//! A bench on a small clip: what is measured, what is kept, what is refused.

#![expect(clippy::unwrap_used, reason = "what a test's own steps run into fails the test")]

mod media;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use media::{clip, ffmpeg, has_encoder, names, text, within};
use repass::adapter;
use repass::bench::journal::{Existing, NAME};
use repass::bench::record::{Aim, Mode};
use repass::bench::results::Results;
use repass::bench::{BenchRequest, Doing, run};
use repass::cache::{CacheMode, CachePlan};
use repass::error::{Error, Refusal};
use repass::event::Cancel;
use repass::job::{Footage, Job, JobRequest, RenditionRequest};
use repass::plan::Request;
use repass::quality::Metric;
use repass::rate::{BitRate, ByteSize, Target};
use repass::source::Input;

fn request(clip: &Path, folder: &Path) -> BenchRequest {
    BenchRequest {
        clips: vec![Input::file(clip)],
        filters: None,
        encoders: vec![adapter::named("libx264").unwrap()],
        presets: vec!["veryfast".to_owned()],
        rates: [60_000, 120_000, 240_000, 480_000].map(BitRate).to_vec(),
        qualities: Vec::new(),
        modes: vec![Mode::OnePass, Mode::TwoPass],
        metrics: vec![Metric::Psnr, Metric::Ssim],
        runs: 2,
        threads: 2,
        options: Vec::new(),
        cache: CachePlan { mode: CacheMode::Disk, budget: ByteSize(64 << 20), spill_dir: None },
        stall_timeout: None,
        folder: folder.join("report"),
        existing: Existing::Refuse,
        keep_files: false,
    }
}

fn benched(request: &BenchRequest) -> Results {
    run(request, &Cancel::new(), &mut |_| ()).unwrap()
}

#[test]
fn a_bench_measures_every_cell_and_compares_it() {
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        // Eight macroblocks wide: at other widths x264 164 reads memory that it never wrote (macroblock tree), and its bytes vary.
        let clip = clip(folder.path(), "clip.mkv", "128x96", "25", 50);
        let results = benched(&request(&clip, folder.path()));
        assert_eq!((results.cells.len(), results.runs.len()), (8, 16));
        assert_eq!((results.clips[0].frames, results.clips[0].width), (50, 128));
        for result in &results.cells {
            let passes = if result.cell.mode == Mode::TwoPass { 2 } else { 1 };
            assert_eq!(result.passes.len(), passes, "{}", result.cell);
            assert!(result.passes.iter().all(|pass| pass.wall.median > 0.0 && pass.cpu.unwrap().median > 0.0));
            assert_eq!(result.passes[0].stats_bytes.is_some(), passes == 2, "{}", result.cell);
            assert!(result.repeatable, "{}", result.cell);
            assert_eq!(result.qualities.len(), 2);
            assert!(result.qualities.iter().all(|quality| quality.frames.len() == 50));
            let bytes: u64 = result.frame_bytes.iter().map(|bytes| u64::from(*bytes)).sum();
            let encoded = results.runs.iter().find(|run| run.cell == result.cell).unwrap().video_bytes;
            // Matroska spells start codes of three bytes as lengths of four.
            assert!(bytes.abs_diff(encoded) < 50, "{}: {bytes} and not {encoded}", result.cell);
            assert_eq!(result.frame_bytes.len(), 50);
        }
        let comparison = &results.comparisons[0];
        // How much, on a machine that runs other tests meanwhile, is nobody's to say.
        assert!(comparison.wall.ratio > 0.0 && (0.0..1.0).contains(&comparison.first_cpu_share.unwrap()));
        assert!(comparison.gains.iter().all(|gain| gain.bd_rate.is_some()), "{:?}", comparison.gains);
        assert!(comparison.verdict.starts_with("A second pass costs"), "{}", comparison.verdict);
        assert!(!folder.path().join("report/.repass-encodes").exists());
    });
}

#[test]
fn a_bench_removes_no_files_but_its_own() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let clip = clip(folder.path(), "clip.mkv", "128x96", "25", 12);
        let one = BenchRequest {
            rates: vec![BitRate(100_000)],
            modes: vec![Mode::OnePass],
            runs: 1,
            ..request(&clip, folder.path())
        };
        let encodes = one.folder.join("encodes");
        std::fs::create_dir_all(&encodes).unwrap();
        std::fs::write(encodes.join("mine.mkv"), "precious").unwrap();
        benched(&one);
        assert_eq!(names(&encodes), ["mine.mkv"]);
        benched(&BenchRequest { keep_files: true, existing: Existing::Replace, ..one.clone() });
        assert_eq!(names(&encodes), ["clip-0000.mkv", "mine.mkv"]);
        benched(&BenchRequest { existing: Existing::Resume, ..one });
        assert_eq!(names(&encodes), ["clip-0000.mkv", "mine.mkv"]);
    });
}

#[test]
fn an_aim_out_of_range_is_listed_and_the_others_are_measured() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let clip = clip(folder.path(), "clip.mkv", "128x96", "25", 12);
        let levels = BenchRequest {
            modes: vec![Mode::Crf],
            qualities: vec![60.0, 30.0],
            runs: 1,
            ..request(&clip, folder.path())
        };
        let results = benched(&levels);
        assert_eq!(results.cells.iter().map(|result| result.cell.aim).collect::<Vec<_>>(), [Aim::Quality(30.0)]);
        let whys: Vec<&str> = results.unavailable.iter().map(|lack| lack.why.as_str()).collect();
        assert!(whys.len() == 1 && whys[0].contains("quality 60 is not from"), "{whys:?}");
    });
}

#[test]
fn encoders_of_different_pixel_formats_share_a_bench() {
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let clip = folder.path().join("clip.mkv");
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=320x192:rate=24:duration=0.5,format=yuv422p",
            "-c:v",
            "ffv1",
            text(&clip),
        ]);
        // x264 takes 4:2:2 as it comes; SVT-AV1 does not.
        if !has_encoder("libsvtav1") {
            return println!("skipped: libsvtav1 is not here");
        }
        let request = BenchRequest {
            encoders: ["libx264", "libsvtav1"].map(|name| adapter::named(name).unwrap()).to_vec(),
            presets: vec!["ultrafast".to_owned()],
            rates: vec![BitRate(200_000)],
            modes: vec![Mode::OnePass],
            metrics: vec![Metric::Psnr],
            runs: 1,
            ..request(&clip, folder.path())
        };
        let results = benched(&request);
        assert_eq!(results.cells.len(), 2);
        assert!(results.cells.iter().all(|result| result.frame_bytes.len() == 12), "{:?}", results.cells);
    });
}

#[test]
fn a_footage_takes_no_plan_of_another_source_or_of_other_filters() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let clips = ["one.mkv", "other.mkv"].map(|name| clip(folder.path(), name, "128x96", "25", 5));
        let plan = |clip: &Path, filters: Option<&str>| {
            let encoder = Request::new(adapter::named("libx264").unwrap(), Target::Average(BitRate(100_000)));
            let request = JobRequest {
                filters: filters.map(str::to_owned),
                renditions: vec![RenditionRequest::new("out", folder.path().join("out.mkv"), encoder)],
                ..JobRequest::new(Input::file(clip))
            };
            Job::prepare(&request, &Cancel::new()).unwrap().into_plan()
        };
        let cache = || CachePlan { mode: CacheMode::Ram, budget: ByteSize(64 << 20), spill_dir: None };
        let one = plan(&clips[0], None);
        let mut footage = Footage::decode([&one].into_iter(), cache(), &Cancel::new(), |_| ()).unwrap();
        for other in [plan(&clips[1], None), plan(&clips[0], Some("hflip"))] {
            let refused = footage.run(&other, |_| ()).err();
            assert!(matches!(refused, Some(Error::Plan(Refusal::Source { .. }))), "{refused:?}");
            let both = Footage::decode([&one, &other].into_iter(), cache(), &Cancel::new(), |_| ()).err();
            assert!(matches!(both, Some(Error::Plan(Refusal::Source { .. }))), "{both:?}");
        }
        assert_eq!(footage.run(&one, |_| ()).unwrap().frames, 5);
    });
}

#[test]
fn an_interrupted_bench_goes_on_where_it_stopped() {
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let clip = clip(folder.path(), "clip.mkv", "176x144", "25", 24);
        let request = request(&clip, folder.path());
        let cancel = Cancel::new();
        let mut begun = 0;
        let stopped = run(&request, &cancel, &mut |progress| {
            begun += usize::from(matches!(progress.doing, Doing::Encoding(..)) && progress.done.fract() == 0.0);
            if begun == 4 {
                cancel.stop();
            }
        });
        assert!(stopped.is_err());
        let journal = request.folder.join(NAME);
        let lines = std::fs::read_to_string(&journal).unwrap();
        // A line that was cut off is measured again.
        std::fs::write(&journal, &lines[..lines.len() - 20]).unwrap();
        let again = run(&request, &Cancel::new(), &mut |_| ()).unwrap_err();
        assert!(again.to_string().contains("--resume"), "{again}");
        let resume = BenchRequest { existing: Existing::Resume, ..request };
        let mut encoded = 0;
        let results = run(&resume, &Cancel::new(), &mut |progress| {
            encoded += usize::from(matches!(progress.doing, Doing::Encoding(..)) && progress.done.fract() == 0.0);
        })
        .unwrap();
        assert_eq!((results.cells.len(), results.runs.len()), (8, 16));
        assert!((12..=15).contains(&encoded), "{encoded} encodes were left");
        let other = BenchRequest { threads: 1, ..resume };
        let refused = run(&other, &Cancel::new(), &mut |_| ()).unwrap_err();
        assert!(refused.to_string().contains("other threads"), "{refused}");
    });
}

#[test]
fn what_is_not_on_this_machine_is_listed_with_its_reason() {
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let clip = clip(folder.path(), "clip.mkv", "176x144", "25", 12);
        let encoders =
            ["libx264", "h264_nvenc", "h264_videotoolbox"].map(|name| adapter::named(name).unwrap()).to_vec();
        let mut request = BenchRequest {
            encoders,
            modes: Mode::ALL.to_vec(),
            rates: vec![BitRate(200_000)],
            runs: 1,
            ..request(&clip, folder.path())
        };
        let results = benched(&request);
        let why = |encoder: &str, mode| {
            let lack = results.unavailable.iter().find(|lack| lack.encoder == encoder && lack.mode == mode);
            lack.map(|lack| lack.why.clone()).unwrap_or_default()
        };
        // A machine with an NVIDIA card measures it instead.
        if results.cells.iter().all(|result| result.cell.encoder == "libx264") {
            assert!(why("h264_nvenc", None).starts_with("not on this machine"), "{:?}", results.unavailable);
        }
        assert!(why("libx264", Some(Mode::Inside)).contains("two runs"), "{:?}", results.unavailable);
        let modes: Vec<Mode> = results.cells.iter().map(|result| result.cell.mode).collect();
        assert!(modes.contains(&Mode::Crf) && modes.contains(&Mode::TwoPass));
        request.presets = vec!["no_such_preset".to_owned()];
        request.existing = Existing::Replace;
        let refused = run(&request, &Cancel::new(), &mut |_| ()).unwrap_err();
        assert_eq!(refused.exit_code(), 3, "{refused}");
    });
}

/// A small bench through the program; returns the folder of its report and what it printed.
fn program(folder: &Path, clip: &Path, runs: &str, arguments: &[&str]) -> (PathBuf, Output) {
    let report = folder.join("program");
    let mut command = Command::new(env!("CARGO_BIN_EXE_repass"));
    command.args(["bench", text(clip), "-c", "libx264", "--preset", "veryfast", "-b", "60k,120k,240k,480k"]);
    command.args(["--metrics", "psnr,ssim", "--runs", runs, "--report", text(&report)]).args(arguments);
    (report, command.output().unwrap())
}

#[test]
fn the_program_prints_tables_of_a_hundred_columns_and_writes_every_file() {
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let clip = clip(folder.path(), "a clip <with> & a long name.mkv", "128x96", "25", 48);
        let (report, output) = program(folder.path(), &clip, "2", &[]);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let verdict = "A second pass costs";
        assert!(printed.contains(verdict) && printed.contains("BD-rate") && printed.contains("libx264 "), "{printed}");
        for line in printed.lines().filter(|line| !line.contains("report.html")) {
            assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
        }
        for name in ["report.html", "results.json", "passes.csv", "qualities.csv", "frames.csv", NAME] {
            assert!(report.join(name).metadata().unwrap().len() > 500, "{name}");
        }
        assert_eq!(std::fs::read_to_string(report.join("passes.csv")).unwrap().lines().count(), 1 + 4 * 2 + 4 * 2 * 2);
        let results: Results = serde_json::from_slice(&std::fs::read(report.join("results.json")).unwrap()).unwrap();
        assert_eq!(results.cells.len(), 8);
        let svg = std::fs::read_dir(report.join("plots")).unwrap().count();
        assert_eq!(svg, 2 + 1 + 4 * 3, "rate plots, overhead, and three plots over time for each rate");
        let baseline = report.join("results.json");
        let (_, output) = program(folder.path(), &clip, "2", &["--resume", "--json", "--baseline", text(&baseline)]);
        let again: Results = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(again, results, "nothing was left to measure");
        let page = std::fs::read_to_string(report.join("report.html")).unwrap();
        assert!(page.contains("nothing changed beyond the noise in 8 encodes"));
    });
}

#[test]
fn events_as_json_are_lines_and_the_results_the_last() {
    within(120, || {
        let folder = tempfile::tempdir().unwrap();
        let clip = clip(folder.path(), "clip.mkv", "128x96", "25", 12);
        let events = |printed: &[u8]| -> Vec<String> {
            let lines = std::str::from_utf8(printed).unwrap().lines().map(|line| {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                event["event"].as_str().unwrap().to_owned()
            });
            lines.collect()
        };
        let (report, output) = program(folder.path(), &clip, "1", &["--progress", "json", "-v"]);
        assert!(events(&output.stdout).iter().all(|event| event == "bench" || event == "log"), "{output:?}");
        assert!(events(&output.stdout).contains(&"log".to_owned()), "{output:?}");
        let (_, output) = program(folder.path(), &clip, "2", &["--resume", "--progress", "json", "--json"]);
        assert_eq!(events(&output.stdout).last().unwrap(), "report");
        let page = std::fs::read_to_string(report.join("report.html")).unwrap();
        assert!(page.contains("each timed\n2 times"), "both benches count");
        for (json, last) in [(&[][..], "measure"), (&["--json"], "report")] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_repass"));
            command.args(["measure", text(&clip), text(&clip), "--metrics", "psnr", "--progress", "json"]).args(json);
            let events = events(&command.output().unwrap().stdout);
            assert_eq!((events[0].as_str(), events.last().unwrap().as_str()), ("measure", last));
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_repass"));
        command.args(["measure", text(&clip), text(&clip), "--metrics", "psnr", "-vv"]);
        assert!(String::from_utf8_lossy(&command.output().unwrap().stderr).contains(": debug: "));
    });
}

#[test]
fn the_page_shows_its_plots_in_a_browser_without_a_network() {
    within(300, || {
        let Some(browser) = browser() else { return };
        let folder = tempfile::tempdir().unwrap();
        let clip = clip(folder.path(), "a clip <with> & a long name.mkv", "128x96", "25", 24);
        let (report, output) = program(folder.path(), &clip, "1", &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let page = std::fs::read_to_string(report.join("report.html")).unwrap();
        let addresses = page.matches("://").count() - page.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(addresses, 0, "the page names something outside itself");
        let dom = |page: &Path, width: u32| {
            let profile = format!("--user-data-dir={}", text(&folder.path().join("profile")));
            let (size, address) = (format!("--window-size={width},900"), format!("file://{}", text(page)));
            let flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", &profile, &size, &address];
            String::from_utf8(Command::new(browser).args(flags).output().unwrap().stdout).unwrap()
        };
        let shown = dom(&report.join("report.html"), 1200);
        // Two metrics, the overhead, and two plots over time for each of four rates.
        assert_eq!(shown.matches("<svg").count(), 2 + 1 + 4 * 2, "{shown:.500}");
        // Every line, and its sample in the legend; the overhead's legend has two samples too.
        assert_eq!(shown.matches("stroke=\"var(--c").count(), 2 * (2 * 2 + 4 * 2 * 2) + 2);
        // The script ran: one rate is chosen, the others are out of sight.
        assert_eq!(shown.matches("aria-pressed=\"true\"").count(), 1);
        assert_eq!(shown.matches("display: none").count(), 3);
        assert!(shown.contains("a clip &lt;with&gt; &amp; a long name"));
        let hovered = report.join("hovered.html");
        std::fs::write(&hovered, page.replace("</body>", &format!("<script>{HOVER}</script></body>"))).unwrap();
        let results: Results = serde_json::from_slice(&std::fs::read(report.join("results.json")).unwrap()).unwrap();
        let measured: Vec<f64> =
            results.cells.iter().flat_map(|cell| &cell.qualities).flat_map(|quality| quality.frames.clone()).collect();
        for width in [1200, 500] {
            let shown = dom(&hovered, width);
            let read: Vec<&str> = shown.split("<pre class=\"read\">").skip(1).collect();
            assert_eq!(read.len(), 2 + 1 + 4 * 2, "{shown:.800}");
            let read: Vec<&str> = read.into_iter().map(|tip| tip.split("</pre>").next().unwrap()).collect();
            assert!(read.iter().all(|tip| tip.contains(|c: char| c.is_ascii_digit())), "{read:?}");
            // Of the plots over time, those of quality say what was measured of one frame, for each mode.
            let is_measured = |value: f64| measured.iter().any(|frame| (frame - value).abs() <= 0.000_051);
            let values = |tip: &str| -> Vec<f64> {
                tip.lines().skip(1).filter_map(|line| line.rsplit_once(": ")?.1.parse().ok()).collect()
            };
            let exact = |tip: &&&str| values(tip).len() == 2 && values(tip).into_iter().all(is_measured);
            assert_eq!(read.iter().filter(exact).count(), 4, "{read:?}");
            assert!(shown.contains("data-overflow=\"0\""), "{width} pixels are not enough");
        }
    });
}

/// Points at the middle of every plot, or at its first mark, and keeps what is then read there.
const HOVER: &str = r#"
for (const details of document.querySelectorAll('details')) details.open = true;
const overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.body.dataset.overflow = Math.max(0, overflow);
const tip = document.getElementById('tip');
for (const svg of document.querySelectorAll('svg')) {
  for (let part = svg; part; part = part.parentElement) if (part.style.display === 'none') part.style.display = '';
  const target = svg.dataset.hover ? svg : svg.querySelector('.tip');
  const box = target.getBoundingClientRect();
  tip.textContent = '';
  const at = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
  target.dispatchEvent(new PointerEvent('pointermove', at));
  const read = document.createElement('pre');
  read.className = 'read';
  read.textContent = tip.hidden ? '' : tip.textContent;
  document.body.append(read);
}
"#;

/// A Chromium, where there is one; says so when not.
fn browser() -> Option<&'static str> {
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()));
    if found.is_none() {
        media::skipped("no chromium");
    }
    found
}

#[test]
fn the_program_measures_two_files() {
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let one = clip(folder.path(), "one.mkv", "128x96", "25", 24);
        let other = clip(folder.path(), "other.mkv", "160x128", "25", 24);
        let measure = |arguments: &[&str]| {
            Command::new(env!("CARGO_BIN_EXE_repass")).arg("measure").args(arguments).output().unwrap()
        };
        let output = measure(&[text(&one), text(&one), "--metrics", "psnr,ssim"]);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.contains("PSNR dB") && printed.contains("1.00000"), "{printed}");
        let output = measure(&[text(&one), text(&one), "--metrics", "ssim", "--json"]);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["qualities"][0]["frames"].as_array().unwrap().len(), 24);
        let output = measure(&[text(&one), text(&other)]);
        assert_eq!(output.status.code(), Some(3));
        let hint = "scale one of them first, for instance with repass encode --vf scale=128:96\n";
        assert!(String::from_utf8(output.stderr).unwrap().ends_with(hint));
    });
}
