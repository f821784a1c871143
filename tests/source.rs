//! Sources, decoders, filters and the log against what ffprobe and ffmpeg say of the same media.

#![expect(clippy::disallowed_methods, reason = "a test plays the person who stops, and the writer of a pipe")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use repass::av::filter::{AudioFilter, AudioTarget, FilterInput, VideoFilter};
use repass::av::frame::Frame;
use repass::av::log::{self, LogLevel, LogMark};
use repass::av::packet::Packet;
use repass::av::source::{Decoder, Demuxer, OpenOptions};
use repass::av::{AvError, Received};
use repass::error::Error;
use repass::event::Cancel;
use repass::frames::FrameSource;
use repass::media::{Rational, StreamKind};
use repass::source::{Branch, DecodedFile, Graph, Input};
use tempfile::TempDir;

mod media;

use media::{deadline, footage};

type Tested = Result<(), Box<dyn std::error::Error>>;

// --- whole sources ---------------------------------------------------------------------------------------------------

/// Frames and times of every clip, to its end, are those that ffprobe sees.
#[test]
fn every_clip_decodes_to_the_frames_that_ffprobe_sees() -> Tested {
    let _deadline = deadline(500);
    let Some(clips) = footage() else { return Ok(()) };
    let mut differing = Vec::new();
    for path in files(&clips) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (path, options, arguments) = how_to_open(&path);
        let Ok(mut demuxer) = Demuxer::open(&path, &options, &Cancel::new()) else {
            println!("{name}: does not open");
            continue;
        };
        let decoded = decode(&mut demuxer, None);
        let expected = ffprobe_times(&path, &arguments, demuxer.info().video.index);
        println!(
            "{name}: {} bytes missing, {} frames of {} packets, damage {} in packets, {} in frames ({:?}), ends with {:?}",
            demuxer.missing_bytes(),
            decoded.times.len(),
            decoded.packets,
            demuxer.damaged(),
            decoded.damaged,
            decoded.last_damage,
            decoded.end
        );
        // ffprobe 5.1 stops at the first error while it drains the decoder, and so misses the last frames of damaged clips.
        let cut = decoded.damaged > 0 && decoded.times.starts_with(&expected);
        if decoded.times != expected && !cut {
            let first = decoded.times.iter().zip(&expected).position(|(own, other)| own != other);
            differing.push(format!(
                "{name}: {} frames, ffprobe {}, from {first:?}",
                decoded.times.len(),
                expected.len()
            ));
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
    Ok(())
}

/// Damage is seen, each kind by its own sign.
#[test]
fn damage_shows() -> Tested {
    let _deadline = deadline(120);
    let Some(clips) = footage() else { return Ok(()) };
    let look = |name: &str| {
        let mut demuxer = Demuxer::open(&clips.join(name), &OpenOptions::default(), &Cancel::new()).expect("opens");
        let decoded = decode(&mut demuxer, None);
        (demuxer, decoded)
    };
    let (demuxer, whole) = look("flower_540p2997_h264_5s.mp4");
    assert_eq!((demuxer.missing_bytes(), demuxer.damaged(), whole.damaged), (0, 0, 0));
    assert_eq!(whole.packets, whole.times.len() as u64);

    let (_, corrupted) = look("corrupted_720p.mp4");
    assert!(corrupted.damaged > 0, "slices are damaged");
    assert!(corrupted.last_damage.is_some());

    let (demuxer, truncated) = look("flower_truncated.mp4");
    assert!(demuxer.missing_bytes() > 400_000, "the index promises {} bytes more", demuxer.missing_bytes());
    assert!(demuxer.damaged() > 0, "the last packet is cut");
    assert!((truncated.times.len() as u64) < demuxer.info().video.frames.unwrap_or(0));

    let (_, lost) = look("idr_lost_qcif.264");
    assert!(lost.packets > lost.times.len() as u64, "what refers to the lost picture is dropped in silence");

    // Matroska without cues: neither a packet nor a frame is marked, only the length in the headers tells.
    let (demuxer, tent) = look("tent_484i2997_h264_bff.mkv");
    let base = demuxer.info().video.time_base.value();
    let last = tent.times.iter().flatten().max().map_or(0.0, |pts| *pts as f64 * base);
    assert!(demuxer.info().seconds.unwrap_or(0.0) > last + 1.0);
    Ok(())
}

/// Facts of the headers, of clips made for them.
#[test]
fn headers_are_read() -> Tested {
    let _deadline = deadline(60);
    let Some(clips) = footage() else { return Ok(()) };
    let open = |name: &str| Demuxer::open(&clips.join(name), &OpenOptions::default(), &Cancel::new());
    for (name, rotation) in [
        ("dog_phone_720p30_h264_rot270_5s.mp4", 270),
        ("keyboard_568x320_h264_rot90.mov", 90),
        ("spices_720p_h264_33ms_10s.mp4", 0),
    ] {
        assert_eq!(open(name)?.info().video.rotation, rotation, "{name}");
    }
    for (name, ratio) in [("bbb_800x640_h264_sar64x45.mp4", (64, 45)), ("carphone_qcif_ref.mp4", (128, 117))] {
        let expected = Some(Rational::new(ratio.0, ratio.1));
        assert_eq!(open(name)?.info().video.sample_aspect_ratio, expected, "{name}");
    }
    let valley = open("valley_1080p60_av1_hdr10_1s.mp4")?;
    assert!(valley.info().video.hdr);
    let names: Vec<String> =
        valley.stream(valley.info().video.index)?.side_data.into_iter().map(|data| data.name).collect();
    println!("side data of the AV1 stream: {names:?}");
    assert!(names.iter().any(|name| name.contains("astering")), "{names:?}");

    let many = open("count_2audio_ass_srt_chapters_attach.mkv")?;
    let kinds: Vec<StreamKind> = many.info().streams.iter().map(|stream| stream.kind).collect();
    println!("{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == StreamKind::Cover).count(), 1);
    assert_eq!(kinds.iter().filter(|kind| **kind == StreamKind::Attachment).count(), 1);
    assert_eq!(kinds[many.info().video.index], StreamKind::Video);
    assert_eq!((many.headers().chapters.len(), many.info().chapters), (3, 3));
    let attachment = many.stream(kinds.iter().position(|kind| *kind == StreamKind::Attachment).unwrap_or(0))?;
    assert!(attachment.metadata.iter().any(|(key, _)| key == "filename"), "{:?}", attachment.metadata);
    assert!(attachment.extradata().len() > 1000, "the font is there");

    let nasa = open("nasa_2video_2audio_2subs.mp4")?;
    assert_eq!(nasa.info().video.width, 480, "the best video is not the first");
    let first = OpenOptions { video_stream: Some(0), ..OpenOptions::default() };
    let nasa = Demuxer::open(&clips.join("nasa_2video_2audio_2subs.mp4"), &first, &Cancel::new())?;
    assert_eq!(nasa.info().video.width, 320);
    Ok(())
}

/// What cannot be encoded is refused when it is opened, in words that say why.
#[test]
fn unusable_sources_are_refused_in_words() -> Tested {
    let _deadline = deadline(60);
    log::capture();
    let Some(clips) = footage() else { return Ok(()) };
    for (name, words) in [
        ("no_moov.mp4", "moov atom not found"),
        ("not_a_video.mp4", "Invalid data"),
        ("speech_audio_only.mp4", "no video stream; it has audio (aac)"),
        ("there_is_none.mp4", "No such file or directory"),
        ("http://127.0.0.1:9/a.mp4", "No such file or directory"),
        ("concat:a|b", "No such file or directory"),
    ] {
        let error = refusal(&clips.join(name), &OpenOptions::default());
        assert!(error.contains(words), "{name}: {error}");
    }
    // From a folder, a URL is a file's name; by itself too, where its protocol is not allowed.
    assert!(refusal(Path::new("http://127.0.0.1:9/a.mp4"), &OpenOptions::default()).contains("No such file"));
    let vvc = Demuxer::open(&clips.join("vvc_320x180.mp4"), &OpenOptions::default(), &Cancel::new());
    if let Err(error) = vvc {
        assert!(error.to_string().contains("vvc"), "{error}");
        assert!(error.to_string().contains("cannot decode it"), "{error}");
    }
    Ok(())
}

#[test]
fn options_must_be_those_of_the_format() -> Tested {
    let _deadline = deadline(60);
    let folder = TempDir::new()?;
    let clip = generate(&folder, "clip.mkv", "-f lavfi -i testsrc2=size=64x48:duration=1 -c:v ffv1");
    let with = |format: Option<&str>, key: &str| OpenOptions {
        format: format.map(str::to_owned),
        options: vec![(key.to_owned(), "1".to_owned())],
        ..OpenOptions::default()
    };
    let error = refusal(&clip, &with(None, "no_such_option"));
    assert!(error.contains("has no option \"no_such_option\""), "{error}");
    let error = refusal(&clip, &with(Some("no_such_format"), "x"));
    assert!(error.contains("no demuxer is named \"no_such_format\""), "{error}");
    let error = refusal(&clip, &OpenOptions { video_stream: Some(3), ..OpenOptions::default() });
    assert!(error.contains("stream 3 is no video; it has video (ffv1)"), "{error}");
    Ok(())
}

#[test]
fn a_file_is_a_file_whatever_its_name() -> Tested {
    let _deadline = deadline(60);
    let folder = TempDir::new()?;
    let clip = generate(&folder, "clip.mkv", "-f lavfi -i testsrc2=size=64x48:duration=0.2 -c:v ffv1");
    for name in ["a:b.mkv", "http:x.mkv", "-x.mkv", "pipe:1.mkv", "100%d.mkv", "\u{e9}.mkv"] {
        let odd = folder.path().join(name);
        fs::copy(&clip, &odd)?;
        let demuxer = Demuxer::open(&odd, &OpenOptions::default(), &Cancel::new());
        assert_eq!(demuxer?.info().video.width, 64, "{name}");
    }
    Ok(())
}

#[test]
fn metadata_need_not_be_utf_8() -> Tested {
    use std::os::unix::ffi::OsStrExt;
    let _deadline = deadline(60);
    let folder = TempDir::new()?;
    let clip = folder.path().join("latin.mkv");
    let status = Command::new("ffmpeg")
        .args("-v error -f lavfi -i testsrc2=size=64x48:duration=0.2 -c:v ffv1 -metadata".split(' '))
        .arg(OsStr::from_bytes(b"title=caf\xe9"))
        .arg(&clip)
        .status()?;
    assert!(status.success());
    let demuxer = Demuxer::open(&clip, &OpenOptions::default(), &Cancel::new())?;
    let title = demuxer.headers().metadata.into_iter().find(|(key, _)| key == "title");
    assert_eq!(title.map(|(_, value)| value).as_deref(), Some("caf\u{fffd}"));
    Ok(())
}

#[test]
fn rewinding_gives_the_same_packets_again() -> Tested {
    let _deadline = deadline(60);
    let folder = TempDir::new()?;
    let from = "-f lavfi -i testsrc2=size=160x120:rate=25:duration=2 -f lavfi -i sine=duration=2";
    for name in ["a.mkv", "a.mp4", "a.ts", "a.avi"] {
        let clip = generate(&folder, name, &format!("{from} -c:v mpeg4 -bf 2 -g 10 -c:a mp2"));
        let mut demuxer = Demuxer::open(&clip, &OpenOptions::default(), &Cancel::new())?;
        let video = demuxer.info().video.index;
        demuxer.only(&[video]);
        let first = packets(&mut demuxer)?;
        assert_eq!(first.len(), 50, "{name}: only video");
        demuxer.rewind()?;
        assert_eq!(packets(&mut demuxer)?, first, "{name}");
    }
    Ok(())
}

/// A seek ends at a key frame that is not later than the target: exactly the last such one where the format has an index.
#[test]
fn seeks_end_at_the_key_frame_before() -> Tested {
    let _deadline = deadline(120);
    let folder = TempDir::new()?;
    let from = "-f lavfi -i testsrc2=size=160x120:rate=25:duration=10 -f lavfi -i sine=duration=10";
    for (name, indexed) in
        [("a.mkv", true), ("a.mp4", true), ("a.ts", false), ("a.mpg", false), ("a.avi", false), ("a.mov", true)]
    {
        let codec = if name == "a.mpg" { "mpeg2video" } else { "mpeg4" };
        let coding = format!("-c:v {codec} -bf 2 -g 25 -sc_threshold 1000000000 -c:a mp2");
        let clip = generate(&folder, name, &format!("{from} {coding}"));
        let mut demuxer = Demuxer::open(&clip, &OpenOptions::default(), &Cancel::new())?;
        let info = demuxer.info().clone();
        let keys: Vec<f64> = key_times(&mut demuxer)?;
        for target in [9.99, 0.0, 5.0, 3.97, 4.0, 4.03, 0.02, 8.0] {
            demuxer.seek(target)?;
            let mut packet = Packet::new()?;
            while demuxer.read(&mut packet)? == Received::Ready && packet.stream() != info.video.index {}
            assert!(packet.is_key(), "{name} to {target}: no key frame");
            let reached = packet.pts().or(packet.dts()).unwrap_or(0) as f64 * info.video.time_base.value();
            let target = info.start_seconds + target;
            let best = keys.iter().copied().filter(|key| *key <= target + 1e-6).fold(keys[0], f64::max);
            println!("{name}: to {target}, reached {reached}, best {best}");
            assert!(reached <= best + 1e-6, "{name} to {target}: reached {reached}, best {best}");
            assert!(!indexed || (reached - best).abs() < 1e-6, "{name} to {target}: reached {reached}, best {best}");
        }
    }
    Ok(())
}

#[test]
fn a_stop_interrupts_a_blocked_read() -> Tested {
    let _deadline = deadline(60);
    let folder = TempDir::new()?;
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let cancel = Cancel::new();
    let stopping = cancel.clone();
    let stopper = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        stopping.stop();
    });
    // Nobody writes: not even opening returns by itself.
    let start = Instant::now();
    let opened = Demuxer::open(&pipe, &OpenOptions::default(), &cancel);
    assert!(matches!(opened, Err(Error::Interrupted)), "{:?}", opened.err());
    assert!(start.elapsed() < Duration::from_secs(2));
    stopper.join().map_err(|_| "stopper")?;

    // A writer that stops in the middle, and stays.
    let clip = generate(&folder, "a.ts", "-f lavfi -i testsrc2=size=320x240:duration=4 -c:v mpeg2video -q:v 2");
    let bytes = fs::read(clip)?;
    let (cancel, to) = (Cancel::new(), pipe.clone());
    let writer = thread::spawn(move || {
        use std::io::Write;
        let mut to = fs::File::create(to).expect("the pipe opens");
        let _ = to.write_all(&bytes[..bytes.len() / 2]);
        thread::sleep(Duration::from_secs(3));
    });
    let options = OpenOptions { format: Some("mpegts".to_owned()), ..OpenOptions::default() };
    let mut demuxer = Demuxer::open(&pipe, &options, &cancel)?;
    assert!(demuxer.info().rereadable && demuxer.info().piped);
    demuxer.forget();
    assert!(matches!(demuxer.rewind(), Err(Error::Input { .. })));
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        cancel.stop();
    });
    let mut packet = Packet::new()?;
    let start = Instant::now();
    let end = loop {
        match demuxer.read(&mut packet) {
            Ok(Received::Done) => break None,
            Ok(_) => {}
            Err(error) => break Some(error),
        }
    };
    assert_eq!(end.map(|error| error.to_string()).as_deref(), Some("Immediate exit requested"));
    assert!(start.elapsed() < Duration::from_secs(2));
    writer.join().map_err(|_| "writer")?;
    Ok(())
}

/// A playlist may not make us fetch what nobody allowed.
#[test]
fn only_allowed_protocols_are_opened() -> Tested {
    let _deadline = deadline(60);
    let folder = TempDir::new()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let list = folder.path().join("list.m3u8");
    let url = format!("http://{}/a.ts", listener.local_addr()?);
    fs::write(&list, format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n"))?;
    assert!(Demuxer::open(&list, &OpenOptions::default(), &Cancel::new()).is_err());
    assert!(Demuxer::open(Path::new(&url), &OpenOptions::default(), &Cancel::new()).is_err());
    let asked = listener.accept();
    assert!(asked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "somebody connected");

    // The same list with the protocols allowed does connect, so the test would see it; nobody answers, so we stop it.
    let options =
        OpenOptions { protocols: ["file", "http", "tcp"].map(str::to_owned).to_vec(), ..OpenOptions::default() };
    let cancel = Cancel::new();
    let stopping = cancel.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        stopping.stop();
    });
    assert!(matches!(Demuxer::open(&list, &options, &cancel), Err(Error::Interrupted)));
    assert!(listener.accept().is_ok(), "nobody connected");
    Ok(())
}

#[test]
fn stages_can_live_on_threads_of_their_own() {
    fn may_move<T: Send>() {}
    may_move::<Demuxer>();
    may_move::<Decoder>();
    may_move::<VideoFilter>();
    may_move::<AudioFilter>();
    may_move::<repass::av::source::StreamParameters>();
}

#[test]
fn a_pipe_is_read_to_its_end() -> Tested {
    let _deadline = deadline(60);
    let folder = TempDir::new()?;
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let clip = generate(&folder, "a.mkv", "-f lavfi -i testsrc2=size=320x240:duration=2 -c:v ffv1");
    let to = pipe.clone();
    let writer = thread::spawn(move || fs::copy(clip, to).is_ok());
    let mut demuxer = Demuxer::open(&pipe, &OpenOptions::default(), &Cancel::new())?;
    assert_eq!(decode(&mut demuxer, None).times.len(), 50);
    assert!(writer.join().is_ok_and(|written| written));
    Ok(())
}

// --- filters ---------------------------------------------------------------------------------------------------------

/// Every plane of every frame is what the ffmpeg program makes of it.
#[test]
fn a_pipe_is_kept_where_it_is_asked_for_and_memory_is_warned_of() -> Tested {
    let _deadline = deadline(60);
    let folder = TempDir::new()?;
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let nowhere = Input { spool_dir: Some(folder.path().join("none")), ..Input::file(&pipe) };
    assert!(matches!(nowhere.open(&Cancel::new()), Err(Error::Input { .. })));
    let clip = generate(&folder, "a.mkv", "-f lavfi -i testsrc2=size=160x120:duration=1 -c:v ffv1");
    let memory = PathBuf::from("/dev/shm");
    if !memory.is_dir() {
        println!("skipped: no /dev/shm");
        return Ok(());
    }
    for (spool_dir, warned) in [(memory, true), (PathBuf::from(env!("CARGO_TARGET_TMPDIR")), false)] {
        let (from, to) = (clip.clone(), pipe.clone());
        let writer = thread::spawn(move || fs::copy(from, to).is_ok());
        let input = Input { spool_dir: Some(spool_dir), ..Input::file(&pipe) };
        let mut file = DecodedFile::open(input, None, &Cancel::new())?;
        assert_eq!(file.warnings().iter().any(|warning| warning.contains("memory")), warned);
        assert!(file.warnings().is_empty(), "said once");
        file.set_graph(Graph { rotation: 0, trunk: None, branches: vec![branch(None)] });
        while file.next()?.is_some() {}
        assert!(writer.join().is_ok_and(|written| written));
    }
    Ok(())
}

#[test]
fn filters_make_the_pixels_that_the_ffmpeg_program_makes() -> Tested {
    let _deadline = deadline(120);
    let folder = TempDir::new()?;
    let sources = [
        ("8.mkv", "-f lavfi -i testsrc2=size=854x480:rate=25:duration=0.4,format=yuv420p -c:v ffv1"),
        ("10.mkv", "-f lavfi -i testsrc2=size=641x359:rate=30000/1001:duration=0.3,format=yuv422p10le -c:v ffv1"),
        ("rgb.mkv", "-f lavfi -i testsrc2=size=320x240:rate=24:duration=0.3,format=gbrp -c:v ffv1"),
        ("full.mkv", "-f lavfi -i testsrc2=size=320x240:rate=24:duration=0.3,format=yuvj420p -c:v mjpeg -q:v 2"),
        (
            "709.mkv",
            "-f lavfi -i testsrc2=size=320x240:rate=24:duration=0.3,format=yuv444p,setparams=colorspace=bt709:range=tv \
             -c:v ffv1",
        ),
        ("sar.mkv", "-f lavfi -i testsrc2=size=320x240:rate=24:duration=0.3,setsar=4/3 -c:v ffv1"),
    ];
    let graphs = [
        ("null", "yuv420p"),
        ("scale=640:360", "yuv420p"),
        ("scale=640:360:flags=lanczos", "yuv420p"),
        ("scale=iw/2:-2,hqdn3d", "yuv420p10le"),
        ("fps=50", "yuv420p"),
        ("yadif,crop=160:120", "yuv444p"),
        ("scale=w=iw*sar:h=ih,setsar=1", "yuv420p"),
        ("format=rgb24,transpose=1", "yuv420p"),
        ("sws_flags=bilinear;[in]scale=200:100[out0]", "yuv420p"),
    ];
    for (name, arguments) in sources {
        let clip = generate(&folder, name, arguments);
        for (graph, format) in graphs {
            let expected = Command::new("ffmpeg")
                .args("-v error -threads 1 -i".split(' '))
                .arg(&clip)
                .args(["-vf", graph, "-pix_fmt", format, "-fps_mode", "passthrough", "-f", "rawvideo", "-"])
                .output()?
                .stdout;
            let own = filtered(&clip, graph, format)?;
            assert!(!own.is_empty(), "{name} through {graph}");
            assert!(own == expected, "{name} through {graph} to {format}: {} and {}", own.len(), expected.len());
        }
    }
    Ok(())
}

#[test]
fn one_graph_feeds_several_outputs() -> Tested {
    let _deadline = deadline(60);
    let graph = "[in]split=3[a][b][out1];[a]scale=64:36,format=pix_fmts=gray[out0];[b]fps=50[out2]";
    let input = input_of(Rational::new(1, 25));
    let mut filter = VideoFilter::open(&grey(128, 72, 0)?, &input, graph, 3, Some(1))?;
    let first = filter.output(0);
    assert_eq!((first.width, first.height, first.pixel_format.as_str()), (64, 36, "gray"));
    assert_eq!(filter.output(1).time_base, Rational::new(1, 25));
    assert_eq!(filter.output(2).frame_rate, Some(Rational::new(50, 1)));
    let mut frames = [0; 3];
    for n in 0..10 {
        filter.push(grey(128, 72, n)?)?;
        for (output, frames) in frames.iter_mut().enumerate() {
            *frames += drain(&mut filter, output)?.0;
        }
    }
    filter.push_end()?;
    for (output, frames) in frames.iter_mut().enumerate() {
        let (more, last) = drain(&mut filter, output)?;
        *frames += more;
        assert_eq!(last, Received::Done, "output {output}");
    }
    assert_eq!(frames, [10, 10, 20]);
    Ok(())
}

#[test]
fn a_graph_may_end_before_its_input() -> Tested {
    let _deadline = deadline(60);
    let input = input_of(Rational::new(1, 25));
    let mut filter = VideoFilter::open(&grey(64, 48, 0)?, &input, "trim=end_frame=3", 1, None)?;
    let mut frames = 0;
    for n in 0..10 {
        filter.push(grey(64, 48, n)?)?;
        frames += drain(&mut filter, 0)?.0;
    }
    filter.push_end()?;
    assert_eq!(drain(&mut filter, 0)?.1, Received::Done);
    assert_eq!(frames, 3);
    Ok(())
}

#[test]
fn a_branch_that_ends_before_another_is_an_error_and_no_loss() -> Tested {
    let _deadline = deadline(60);
    let folder = TempDir::new()?;
    let clip = generate(&folder, "in.mp4", "-f lavfi -i testsrc2=size=160x120:rate=25:duration=2 -c:v mpeg4");
    for (one, other, whole) in [
        (None, None, true),
        (Some("trim=end_frame=40"), Some("trim=end_frame=40"), true),
        (None, Some("trim=end_frame=40"), false),
        (Some("trim=end_frame=40"), None, false),
        (None, Some("select=not(eq(n\\,3))"), false),
    ] {
        let mut file = DecodedFile::open(Input::file(&clip), None, &Cancel::new())?;
        file.set_graph(Graph { rotation: 0, trunk: None, branches: vec![branch(one), branch(other)] });
        let ended = loop {
            match file.next() {
                Ok(Some(_)) => {}
                ended => break ended,
            }
        };
        match ended {
            Ok(_) => assert!(whole, "{one:?} {other:?}"),
            Err(error) => assert!(!whole && error.to_string().contains("same frames"), "{one:?} {other:?}: {error}"),
        }
    }
    Ok(())
}

#[test]
fn wrong_graphs_are_refused_in_libavfilters_words() -> Tested {
    let _deadline = deadline(60);
    log::capture();
    let first = grey(64, 48, 0)?;
    let input = input_of(Rational::new(1, 25));
    for (graph, outputs, words) in [
        ("scale=640:360,nosuchfilter", 1, "nosuchfilter"),
        ("scale=w=nonsense:h=1", 1, "nonsense"),
        ("scale=no_such_option=1", 1, "no_such_option"),
        ("[in]split[out0][b]", 2, "its outputs are [b][out0], not [out0][out1]"),
        ("[in]split[out0][out1]", 1, "not [out0]"),
        ("[x]null[out0]", 1, "its inputs are [x], not [in]"),
        ("[in][y]overlay[out0]", 1, "its inputs are"),
        ("color=red[out0]", 1, "its inputs are none"),
        ("aresample", 1, ""),
    ] {
        match VideoFilter::open(&first, &input, graph, outputs, None) {
            Err(Error::Filter { log, .. }) => assert!(log.contains(words), "{graph}: {log}"),
            Err(other) => panic!("{graph}: {other}"),
            Ok(_) => panic!("{graph}: accepted"),
        }
    }
    Ok(())
}

#[test]
fn a_graph_takes_only_frames_like_the_first() -> Tested {
    let _deadline = deadline(60);
    let input = input_of(Rational::new(1, 25));
    let mut filter = VideoFilter::open(&grey(64, 48, 0)?, &input, "null", 1, None)?;
    let other = grey(32, 48, 0)?;
    assert!(filter.accepts(&grey(64, 48, 9)?));
    assert!(!filter.accepts(&other));
    assert!(matches!(filter.push(other), Err(Error::Filter { .. })));
    Ok(())
}

/// Sound is brought to what an encoder takes, in frames of its size, on the time line of the source.
#[test]
fn sound_is_brought_to_its_target() -> Tested {
    let _deadline = deadline(60);
    let folder = TempDir::new()?;
    let clip = generate(
        &folder,
        "a.mkv",
        "-f lavfi -i testsrc2=size=64x48:duration=2 -f lavfi -i sine=sample_rate=44100:duration=2 -c:v ffv1 -ac 2 -c:a flac",
    );
    let mut demuxer = Demuxer::open(&clip, &OpenOptions::default(), &Cancel::new())?;
    let stream = demuxer.stream(1)?;
    assert_eq!(stream.kind, StreamKind::Audio);
    demuxer.only(&[1]);
    let target = AudioTarget {
        sample_formats: vec!["fltp".to_owned()],
        sample_rates: vec![48_000],
        channel_layouts: vec!["5.1".to_owned(), "mono".to_owned()],
        frame_samples: 1024,
    };
    let (mut filter, mut sizes, mut times) = (None, Vec::new(), Vec::new());
    each_frame(&mut demuxer, &stream, |frame| {
        let filter = match &mut filter {
            Some(filter) => filter,
            none => none.insert(AudioFilter::open(&frame, stream.time_base, &target, Some("volume=0.5"))?),
        };
        filter.push(frame)?;
        pull_sound(filter, &mut sizes, &mut times)
    })?;
    let mut filter = filter.ok_or("no sound")?;
    filter.push_end()?;
    pull_sound(&mut filter, &mut sizes, &mut times)?;
    let output = filter.output();
    assert_eq!((output.sample_format.as_str(), output.sample_rate), ("fltp", 48_000));
    assert_eq!(output.time_base, Rational::new(1, 48_000));
    let last = sizes.pop().ok_or("no frames")?;
    assert!(sizes.iter().all(|samples| *samples == 1024), "{sizes:?}");
    let total = sizes.len() as u32 * 1024 + last;
    assert!(total.abs_diff(96_000) <= 32, "{total} samples in two seconds");
    let expected: Vec<i64> = (0..times.len() as i64).map(|n| n * 1024).collect();
    assert_eq!(times, expected, "no gaps although Matroska counts milliseconds");
    Ok(())
}

// --- the log ---------------------------------------------------------------------------------------------------------

#[test]
fn an_observer_gets_whole_lines_and_errors_are_quoted_from_a_mark_on() -> Tested {
    let _deadline = deadline(60);
    log::capture();
    let (sender, lines) = channel();
    let sender = std::sync::Mutex::new(sender);
    log::set_observer(Some(Box::new(move |line| {
        // A panic here must not reach libav.
        let panics = line.text.contains("panic_please");
        sender.lock().expect("the observer's lock").send(line).expect("the test waits");
        assert!(!panics, "asked for");
    })));
    let input = input_of(Rational::new(1, 25));
    let before = LogMark::now();
    assert!(VideoFilter::open(&grey(64, 48, 0)?, &input, "panic_please", 1, None).is_err());
    let after = LogMark::now();
    log::set_observer(None);
    let line = lines.try_iter().find(|line| line.text.contains("panic_please")).ok_or("not observed")?;
    assert_eq!(line.level, LogLevel::Error);
    assert!(!line.text.ends_with('\n'));
    assert!(before.lines().contains("panic_please"), "{}", before.lines());
    assert!(!after.lines().contains("panic_please"), "{}", after.lines());
    assert!(before.lines_of(&line.class).contains("panic_please"));
    Ok(())
}

// --- helpers ---------------------------------------------------------------------------------------------------------

/// What came out of a whole source.
struct Decoded {
    times: Vec<Option<i64>>,
    packets: u64,
    damaged: u64,
    last_damage: Option<AvError>,
    /// How reading ended, where it was not at the end.
    end: Option<AvError>,
}

fn decode(demuxer: &mut Demuxer, threads: Option<u16>) -> Decoded {
    let video = demuxer.info().video.index;
    demuxer.only(&[video]);
    let stream = demuxer.stream(video).expect("the stream is there");
    let mut decoder = Decoder::open(&stream, threads).expect("decoder opens");
    let (mut packet, mut frame) = (Packet::new().expect("memory"), Frame::new().expect("memory"));
    let mut decoded = Decoded { times: Vec::new(), packets: 0, damaged: 0, last_damage: None, end: None };
    loop {
        match decoder.receive(&mut frame).expect("decoding goes on") {
            Received::Ready => decoded.times.push(frame.pts()),
            Received::Done => break,
            Received::NeedInput => match demuxer.read(&mut packet) {
                Ok(Received::Ready) => decoder.send(&packet).expect("decoder takes the packet"),
                Ok(Received::NeedInput) => {}
                Ok(Received::Done) => decoder.send_end().expect("decoder takes the end"),
                Err(error) => {
                    decoded.end = Some(error);
                    decoder.send_end().expect("decoder takes the end");
                }
            },
        }
    }
    decoded.packets = decoder.packets_and_frames().0;
    decoded.damaged = decoder.damaged();
    decoded.last_damage = decoder.last_damage();
    decoded
}

fn each_frame(
    demuxer: &mut Demuxer,
    stream: &repass::av::source::StreamParameters,
    mut visit: impl FnMut(Frame) -> Tested,
) -> Tested {
    let mut decoder = Decoder::open(stream, Some(1))?;
    let (mut packet, mut frame) = (Packet::new()?, Frame::new()?);
    loop {
        match decoder.receive(&mut frame)? {
            Received::Ready => visit(frame.share()?)?,
            Received::Done => return Ok(()),
            Received::NeedInput => match demuxer.read(&mut packet)? {
                Received::Ready => decoder.send(&packet)?,
                _ => decoder.send_end()?,
            },
        }
    }
}

/// All pixels of a clip behind a graph, as `-f rawvideo` writes them.
fn filtered(clip: &Path, graph: &str, format: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut demuxer = Demuxer::open(clip, &OpenOptions::default(), &Cancel::new())?;
    let video = demuxer.info().video.clone();
    let stream = demuxer.stream(video.index)?;
    let input = FilterInput {
        time_base: video.time_base,
        frame_rate: Some(video.frame_rate),
        sample_aspect_ratio: stream.sample_aspect_ratio,
    };
    let graph = match graph.strip_suffix("[out0]") {
        Some(labelled) => format!("{labelled}[x];[x]format=pix_fmts={format}[out0]"),
        None => format!("{graph},format=pix_fmts={format}"),
    };
    let (mut filter, mut pixels) = (None, Vec::new());
    each_frame(&mut demuxer, &stream, |frame| {
        let filter = match &mut filter {
            Some(filter) => filter,
            none => none.insert(VideoFilter::open(&frame, &input, &graph, 1, None)?),
        };
        filter.push(frame)?;
        pull_pixels(filter, &mut pixels)
    })?;
    let mut filter = filter.ok_or("no frames")?;
    filter.push_end()?;
    pull_pixels(&mut filter, &mut pixels)?;
    Ok(pixels)
}

fn pull_pixels(filter: &mut VideoFilter, pixels: &mut Vec<u8>) -> Tested {
    let mut frame = Frame::new()?;
    while filter.pull(0, &mut frame)? == Received::Ready {
        frame.for_each_row(|row| pixels.extend_from_slice(row))?;
    }
    Ok(())
}

fn pull_sound(filter: &mut AudioFilter, sizes: &mut Vec<u32>, times: &mut Vec<i64>) -> Tested {
    let mut frame = Frame::new()?;
    while filter.pull(&mut frame)? == Received::Ready {
        sizes.push(frame.samples());
        times.extend(frame.pts());
    }
    Ok(())
}

/// How many frames one output has now, and what it answers then.
fn drain(filter: &mut VideoFilter, output: usize) -> Result<(u64, Received), Error> {
    let (mut frame, mut frames) = (Frame::new().expect("memory"), 0);
    loop {
        match filter.pull(output, &mut frame)? {
            Received::Ready => frames += 1,
            other => return Ok((frames, other)),
        }
    }
}

fn branch(filters: Option<&str>) -> Branch {
    Branch {
        size: None,
        filters: filters.map(str::to_owned),
        shape: None,
        pixel_formats: Vec::new(),
        colour_ranges: Vec::new(),
    }
}

fn grey(width: u32, height: u32, pts: i64) -> Result<Frame, AvError> {
    let mut frame = Frame::allocate(width, height, "yuv420p")?;
    frame.fill_rows::<AvError>(|row| {
        row.fill(128);
        Ok(())
    })?;
    frame.set_pts(pts);
    Ok(frame)
}

fn input_of(time_base: Rational) -> FilterInput {
    FilterInput { time_base, frame_rate: Some(time_base.inverse()), sample_aspect_ratio: None }
}

/// A packet's stream, times and data.
type Read = (usize, Option<i64>, Option<i64>, Vec<u8>);

/// Every packet.
fn packets(demuxer: &mut Demuxer) -> Result<Vec<Read>, AvError> {
    let (mut packet, mut all) = (Packet::new()?, Vec::new());
    while demuxer.read(&mut packet)? == Received::Ready {
        all.push((packet.stream(), packet.pts(), packet.dts(), packet.data().to_vec()));
    }
    Ok(all)
}

fn key_times(demuxer: &mut Demuxer) -> Result<Vec<f64>, AvError> {
    let video = demuxer.info().video.clone();
    let (mut packet, mut keys) = (Packet::new()?, Vec::new());
    while demuxer.read(&mut packet)? == Received::Ready {
        if packet.stream() == video.index && packet.is_key() {
            keys.push(packet.pts().or(packet.dts()).unwrap_or(0) as f64 * video.time_base.value());
        }
    }
    Ok(keys)
}

/// The words with which a source is refused.
fn refusal(path: &Path, options: &OpenOptions) -> String {
    match Demuxer::open(path, options, &Cancel::new()) {
        Ok(_) => format!("{} opens", path.display()),
        Err(error) => error.to_string(),
    }
}

/// Makes a clip with the ffmpeg program.
fn generate(folder: &TempDir, name: &str, arguments: &str) -> PathBuf {
    let path = folder.path().join(name);
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(arguments.split_whitespace())
        .arg(&path)
        .status()
        .expect("ffmpeg runs");
    assert!(status.success(), "ffmpeg {arguments}");
    path
}

fn ffprobe_times(path: &Path, arguments: &[&str], stream: usize) -> Vec<Option<i64>> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-threads", "2", "-select_streams", &stream.to_string()])
        .args(["-show_entries", "frame=best_effort_timestamp", "-of", "csv=p=0"])
        .args(arguments)
        .arg(path)
        .output()
        .expect("ffprobe runs");
    let text = String::from_utf8_lossy(&output.stdout);
    // A trailing comma stands where ffprobe found side data.
    text.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end_matches(',').parse().ok()).collect()
}

fn files(clips: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(clips).expect("the folder can be listed");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    files.retain(|path| path.extension() != Some(OsStr::new("md")));
    files.sort();
    files
}

/// Path, options and ffprobe's arguments for the few clips that need them.
fn how_to_open(path: &Path) -> (PathBuf, OpenOptions, Vec<&'static str>) {
    let mut options = OpenOptions::default();
    if path.is_dir() {
        return (path.join("frame_%04d.jpg"), options, Vec::new());
    }
    if path.extension() != Some(OsStr::new("yuv")) {
        return (path.to_owned(), options, Vec::new());
    }
    options.format = Some("rawvideo".to_owned());
    let pairs = [("framerate", "12"), ("video_size", "320x192"), ("pixel_format", "yuv420p")];
    options.options = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let arguments = "-f rawvideo -framerate 12 -video_size 320x192 -pixel_format yuv420p";
    (path.to_owned(), options, arguments.split(' ').collect())
}
