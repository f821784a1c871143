//! A bench on a small clip: what is measured, what is kept, what is refused.

mod media;

use std::path::Path;

use media::{clip, within};
use repass::adapter;
use repass::bench::journal::{Existing, NAME};
use repass::bench::quality::Metric;
use repass::bench::record::Mode;
use repass::bench::results::Results;
use repass::bench::{BenchRequest, Doing, run};
use repass::cache::{CacheMode, CachePlan};
use repass::event::Cancel;
use repass::rate::{BitRate, ByteSize};
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
        assert!(comparison.wall.ratio > 1.0 && comparison.first_cpu_share.unwrap() > 0.1);
        assert!(comparison.gains.iter().all(|gain| gain.bd_rate.is_some()), "{:?}", comparison.gains);
        assert!(comparison.verdict.starts_with("A second pass costs"), "{}", comparison.verdict);
        assert!(!folder.path().join("report/encodes").exists());
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
            begun += usize::from(matches!(progress.doing, Doing::Encoding(..)));
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
            encoded += usize::from(matches!(progress.doing, Doing::Encoding(..)));
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
