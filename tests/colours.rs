//! Colours as the ffmpeg program tells them: range, matrix, transfer and primaries of the output, for tagged and untagged sources.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod media;

use std::path::Path;

use media::{ffmpeg, ffprobe, has_encoder, text, within};
use repass::adapter;
use repass::event::Cancel;
use repass::frames::FrameSource;
use repass::job::{Job, JobRequest, RenditionRequest};
use repass::plan::Request;
use repass::rate::Target;
use repass::source::{Branch, DecodedFile, Graph, Input};

/// What a player is told of the colours, and what the frames themselves say.
fn colours(path: &Path) -> String {
    let tags = "color_range,color_space,color_transfer,color_primaries,pix_fmt";
    let entries = format!("stream={tags}:frame={tags}");
    ffprobe(&[
        "-select_streams",
        "v",
        "-read_intervals",
        "%+#1",
        "-show_entries",
        &entries,
        "-of",
        "compact",
        text(path),
    ])
}

/// The last frame's pixels.
fn pixels(path: &Path) -> String {
    media::frames(path).lines().last().unwrap().rsplit(',').next().unwrap().to_owned()
}

#[test]
fn colours_are_told_as_the_ffmpeg_program_tells_them() {
    const SOURCES: &[(&str, &str)] = &[
        ("untagged", "format=yuv420p"),
        ("untagged 10 bit", "format=yuv420p10le"),
        ("untagged 4:4:4", "format=yuv444p"),
        ("limited 709", "format=yuv420p,setparams=range=tv:colorspace=bt709:color_trc=bt709:color_primaries=bt709"),
        ("limited 601, nothing else", "format=yuv420p,setparams=range=tv:colorspace=smpte170m"),
        ("full 709", "format=yuv420p,setparams=range=pc:colorspace=bt709:color_trc=bt709:color_primaries=bt709"),
        ("range unknown, 709", "format=yuv420p,setparams=colorspace=bt709:color_trc=bt709:color_primaries=bt709"),
        ("PQ", "format=yuv420p10le,setparams=range=tv:colorspace=bt2020nc:color_trc=smpte2084:color_primaries=bt2020"),
        ("RGB", "format=gbrp"),
        ("grey", "format=gray"),
    ];
    for (encoder, arguments) in [
        ("libx264", &["-crf", "30", "-preset", "ultrafast"][..]),
        ("libx265", &["-crf", "30", "-preset", "ultrafast", "-x265-params", "log-level=error"]),
        ("libvpx-vp9", &["-crf", "40", "-b:v", "0", "-cpu-used", "8"]),
        ("libaom-av1", &["-crf", "40", "-b:v", "0", "-cpu-used", "8"]),
        ("libsvtav1", &["-crf", "50", "-preset", "12"]),
    ] {
        if !has_encoder(encoder) {
            continue;
        }
        within(240, move || {
            let folder = tempfile::tempdir().unwrap();
            for (what, filters) in SOURCES {
                let input = folder.path().join("in.mkv");
                let graph = format!("testsrc2=s=192x160:r=24:d=0.1,{filters}");
                ffmpeg(&["-f", "lavfi", "-i", &graph, "-c:v", "ffv1", text(&input)]);
                // What comes after the filters is the same for all, so one encoder shows it.
                let all = [("mp4", None), ("mkv", None), ("mp4", Some("scale=96:80")), ("mkv", Some("hqdn3d"))];
                for (extension, scale) in all.into_iter().take(if encoder == "libx264" { 4 } else { 1 }) {
                    let theirs = folder.path().join("theirs").with_extension(extension);
                    let filtered = scale.map(|scale| vec!["-vf", scale]).unwrap_or_default();
                    ffmpeg(
                        &[&["-i", text(&input)], &filtered[..], &["-c:v", encoder], arguments, &[text(&theirs)]]
                            .concat(),
                    );
                    let ours = folder.path().join("ours").with_extension(extension);
                    let quality = arguments[1].parse().unwrap();
                    let preset = if encoder == "libsvtav1" { "12" } else { "ultrafast" };
                    let encode = Request {
                        preset: Some(preset.to_owned()),
                        passes: repass::plan::Passes::One,
                        ..Request::new(adapter::named(encoder).unwrap(), Target::Quality(quality))
                    };
                    let rendition = RenditionRequest { overwrite: true, ..RenditionRequest::new("out", &ours, encode) };
                    let mut request = JobRequest::new(Input::file(&input));
                    request.renditions = vec![rendition];
                    request.filters = scale.map(str::to_owned);
                    Job::prepare(&request, &Cancel::new()).unwrap().run(|_| {}).unwrap();
                    let case = format!("{what}, {encoder} in {extension}, {scale:?}");
                    assert_eq!(colours(&ours), colours(&theirs), "{case}");
                    if encoder == "libx264" {
                        assert_eq!(pixels(&ours), pixels(&theirs), "{case}");
                    }
                }
            }
        });
    }
}

/// Matroska passes on whatever number a file says; libav has no name for 200.
#[test]
fn a_transfer_that_nobody_knows_is_carried_as_the_number_that_it_is() {
    within(60, || {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.mkv");
        let (source, pq) = ("testsrc2=s=160x96:r=25:d=0.4", "setparams=color_trc=smpte2084");
        ffmpeg(&["-f", "lavfi", "-i", source, "-vf", pq, "-c:v", "mpeg4", text(&input)]);
        let mut bytes = std::fs::read(&input).unwrap();
        let tag = [0x55, 0xba, 0x81, 16];
        let at = bytes.windows(4).position(|window| window == tag).expect("the header says PQ");
        bytes[at + 3] = 200;
        std::fs::write(&input, bytes).unwrap();
        let graph = Graph { rotation: 0, trunk: None, branches: vec![WHOLE] };
        let mut file = DecodedFile::open(Input::file(&input), None, &Cancel::new()).unwrap();
        assert!(!file.info().video.hdr);
        file.set_graph(graph);
        let frame = file.next().unwrap().unwrap().remove(0);
        assert_eq!((frame.transfer(), frame.colour_codes()[1]), (200, Some(200)));
        let output = folder.path().join("out.mkv");
        let request = Request::new(adapter::named("libx264").unwrap(), Target::Quality(30.0));
        let renditions = vec![RenditionRequest::new("out", &output, request)];
        let request = JobRequest { renditions, ..JobRequest::new(Input::file(&input)) };
        let report = Job::prepare(&request, &Cancel::new()).unwrap().run(|_| {}).unwrap();
        assert_eq!(report.frames, 10);
    });
}

const WHOLE: Branch =
    Branch { size: None, filters: None, shape: None, pixel_formats: Vec::new(), colour_ranges: Vec::new() };
