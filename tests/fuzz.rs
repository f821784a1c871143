//! Everything that repass reads and did not just write itself, given thousands of broken versions of it: an error or a value,
//! never a panic, and never an encoder that is handed what nobody vouched for.
//!
//! The rounds are the same in every run; `REPASS_FUZZ_SEED` and `REPASS_FUZZ_ROUNDS` make others and more.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;
mod program;

use std::fs;
use std::path::Path;

use media::{Dice, within};
use program::{Place, software_encoders};
use repass::audio::AudioSpec;
use repass::bench::baseline;
use repass::job::{Size, output_name};
use repass::rate::{BitRate, ByteSize, GopLength, Seconds};
use repass::stats::artefact::Artefact;
use xxhash_rust::xxh3::xxh3_128;

fn rounds(usual: u64) -> (u64, Dice) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (rounds, seed) = (number("REPASS_FUZZ_ROUNDS").unwrap_or(usual), number("REPASS_FUZZ_SEED").unwrap_or(7));
    println!("{rounds} rounds, seed {seed}");
    (rounds, Dice::new(seed))
}

/// Bits flipped, bytes replaced by ones that mean something, parts cut out, doubled, or moved.
fn broken(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    const TELLING: &[u8] = b"\0\xff0123456789-+.:,=eE[]{}()'\"\\/%kMGiBsfpNaN\n\t ";
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len() as u64 + 1) as usize;
        let end = (at + dice.below(8) as usize).min(bytes.len());
        match dice.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = TELLING[dice.below(TELLING.len() as u64) as usize],
            2 => bytes.insert(at, TELLING[dice.below(TELLING.len() as u64) as usize]),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                let to = dice.below(bytes.len() as u64 + 1) as usize;
                bytes.splice(to..to, part);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// As a new file: some file systems write the old one out first where it is overwritten, thousands of times.
fn replace(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

#[test]
fn rates_sizes_times_and_names_are_read_or_refused() {
    within(60, || {
        let (rounds, mut dice) = rounds(20_000);
        const WHOLE: [&str; 16] = [
            "4M",
            "2500k",
            "800000",
            "1.5Mi",
            "4GiB",
            "700M",
            "1:02:03.5",
            "90",
            "1500ms",
            "2s",
            "48",
            "720p",
            "1280x720",
            "w640",
            "aac:160k",
            "out_{name}.{ext}",
        ];
        for _ in 0..rounds {
            let whole = WHOLE[dice.below(WHOLE.len() as u64) as usize];
            let bytes = broken(whole.as_bytes(), &mut dice);
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(rate) = text.parse::<BitRate>() {
                assert!(rate.0 >= 1, "{text:?}");
            }
            let _ = text.parse::<ByteSize>().map(|size| size.to_string());
            if let Ok(time) = text.parse::<Seconds>() {
                assert!(time.0.is_finite() && time.0 >= 0.0, "{text:?}: {time}");
            }
            if let Ok(gop) = text.parse::<GopLength>() {
                assert!(gop.frames(23.976) >= 1, "{text:?}");
            }
            let _ = text.parse::<Size>();
            let _ = text.parse::<AudioSpec>();
            if let Ok(path) = output_name(Path::new("out/{name}.mkv"), &text, Path::new("in.mp4")) {
                assert!(path.starts_with("out") && path.components().count() == 2, "{text:?}: {}", path.display());
            }
            let _ = output_name(Path::new(&*text), &text, Path::new(&*text));
        }
    });
}

#[test]
fn broken_results_of_a_bench_are_refused() {
    within(120, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=24:d=1 -c:v ffv1");
        let bench = "bench in.mkv -c libx264 -b 50k,100k --preset ultrafast --runs 2 --metrics psnr --report out";
        assert_eq!(place.run(bench).code, 0);
        let whole = fs::read(place.path("out/results.json")).unwrap();
        let now = baseline::read(&place.path("out/results.json")).unwrap();
        let (rounds, mut dice) = rounds(4000);
        let (path, mut read) = (place.path("broken.json"), 0);
        for _ in 0..rounds {
            replace(&path, &broken(&whole, &mut dice));
            if let Ok(before) = baseline::read(&path) {
                read += 1;
                let _ = baseline::changes(&before, &now);
                let _ = baseline::changes(&now, &before);
            }
        }
        println!("{read} could be read all the same");
        // The journal too: by the program, for it is not ours to read.
        let journal = fs::read(place.path("out/journal.jsonl")).unwrap();
        for _ in 0..rounds / 100 {
            fs::write(place.path("out/journal.jsonl"), broken(&journal, &mut dice)).unwrap();
            let ended = place.run(&format!("{bench} --resume"));
            assert!([0, 3, 4, 6].contains(&ended.code), "{ended}");
        }
    });
}

/// A kept first pass goes to encoders that die of half a file. One whose checksum was made right again is held to the proof of
/// a first pass; values that this lets through are the encoder's own, and the process ends as documented.
#[test]
fn broken_statistics_are_refused_and_resealed_ones_end_no_process() {
    within(280, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=24:d=1 -c:v ffv1");
        let (rounds, mut dice) = rounds(2000);
        let quick = "--preset ultrafast --threads 1";
        for encoder in software_encoders() {
            let analysed = place.run(&format!("analyse in.mkv -o whole.stats -y -c {encoder} -b 60k {quick}"));
            if analysed.code == 3 {
                media::skipped(&format!("{encoder} has no first pass here"));
                continue;
            }
            assert_eq!(analysed.code, 0, "{analysed}");
            let whole = fs::read(place.path("whole.stats")).unwrap();
            let path = place.path("broken.stats");
            for _ in 0..rounds {
                let bytes = broken(&whole, &mut dice);
                replace(&path, &bytes);
                assert!(Artefact::open(&path).is_err() || bytes == whole, "{encoder}");
            }
            // With a checksum that is right again, so that only the content can tell.
            let (mut codes, mut open) = ([0; 7], 0);
            for round in 0..rounds {
                let mut bytes = broken(&whole[..whole.len() - 16], &mut dice);
                bytes.extend(xxh3_128(&bytes).to_le_bytes());
                replace(&path, &bytes);
                open += u64::from(Artefact::open(&path).is_ok());
                if round < rounds / 40 {
                    let encode =
                        format!("encode in.mkv -o out.mkv -y -c {encoder} -b 60k {quick} --stats broken.stats");
                    let ended = place.run(&encode);
                    assert!([0, 3, 4, 5].contains(&ended.code), "{encoder}, round {round}: {ended}");
                    codes[ended.code as usize] += 1;
                }
            }
            println!("{encoder}: {open} of {rounds} are whole but for their content; exit codes {codes:?}");
        }
    });
}
