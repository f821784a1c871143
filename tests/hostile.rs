//! Files that mean harm: names and tags that would speak to the terminal, become options or paths, and inputs that refer to
//! what they should not.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its media or read its output fails")]

mod media;
mod program;

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use media::within;
use program::Place;

/// Nothing that moves a cursor, rings, colours, or turns the direction of writing.
fn harmless(text: &str, what: &str) {
    let harm = text.chars().find(|c| {
        *c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(c) || ('\u{2066}'..='\u{2069}').contains(c))
    });
    assert!(harm.is_none(), "{what}: {harm:?} in {text:?}");
}

const EVIL: &str = "\u{1b}]0;owned\u{7}\u{9b}31m\nrepass: done\r\u{202e}";

// --- the terminal ------------------------------------------------------------------------------------------------------

#[test]
fn names_and_tags_do_not_speak_to_the_terminal() {
    within(120, || {
        let place = Place::empty();
        let name = format!("in{EVIL}.mkv");
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args([
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=96x64:r=24:d=1",
            "-f",
            "lavfi",
            "-i",
            "sine=d=1",
        ]);
        ffmpeg.args(["-c:v", "mpeg4", "-c:a", "aac", "-f", "matroska"]);
        for tag in ["-metadata", "-metadata:s:v", "-metadata:s:a"] {
            for key in ["title", "language", "encoder", "handler_name", "comment"] {
                ffmpeg.args([tag, &format!("{key}={EVIL}")]);
            }
        }
        assert!(ffmpeg.arg(place.path(&name)).status().unwrap().success());
        let bytes = fs::read(place.path(&name)).unwrap();
        let cut = format!("cut{EVIL}.mkv");
        fs::write(place.path(&cut), &bytes[..bytes.len() / 2]).unwrap();
        let other = format!("other{EVIL}.mkv");
        fs::copy(place.path(&name), place.path(&other)).unwrap();
        let out = format!("out{EVIL}.mkv");
        let [name, cut, other, out] = [&name, &cut, &other, &out].map(String::as_str);
        let quick = ["-c", "libx264", "-b", "50k", "--preset", "ultrafast"];
        let commands: [(&[&str], i32); 15] = [
            (&["encode", name, "-o", out], 0),
            (&["encode", name, "-o", out], 3),
            (&["encode", name, "-o", out, "-y", "--progress", "bar", "-vv"], 0),
            (&["encode", name, "-o", out, "-y", "--progress", "json", "--json", "-v"], 0),
            (&["encode", cut, "-o", out, "-y"], 4),
            (&["encode", name, other, cut, "-o", "{stem}.mp4"], 4),
            (&["encode", name, other, "-o", "{stem}.mp4", "-y", "--json"], 0),
            (&["encode", name, "-o", "a.mkv", "--vf", EVIL], 5),
            (&["encode", name, "-o", "a.mkv", "--opt", &format!("{EVIL}=1")], 3),
            (&["encode", name, "-o", "a.mkv", "--job", name], 2),
            (&["encode", name, "-o", "a.mkv", "--profile", EVIL], 2),
            (&["encode", name, "-o", "a.mkv", "--stats", name], 4),
            (&["plan", name, "-o", "a.mkv", "--argv"], 0),
            (&["plan", name, "-o", "a.mkv", "--json", "--argv"], 0),
            // A pattern of the shell's may make an option of a name.
            (&["plan", &format!("--{EVIL}"), "-o", "a.mkv"], 2),
        ];
        for (arguments, code) in commands {
            let ended = place.run_with(&[arguments, &quick].concat());
            let what = format!("{arguments:?}");
            assert_eq!(ended.code, code, "{what}: {ended}");
            harmless(&ended.stdout, &what);
            harmless(&ended.stderr, &what);
        }
        let bench =
            ["bench", name, "-c", "libx264", "-b", "50k", "--preset", "ultrafast", "--runs", "1", "--report", "r"];
        for arguments in [&bench[..], &["measure", name, out], &["measure", name, cut], &["doctor"]] {
            let ended = place.run_with(arguments);
            harmless(&format!("{}{}", ended.stdout, ended.stderr), &format!("{arguments:?}"));
        }
    });
}

/// Not every name is text. What can be encoded can be reported.
#[test]
fn names_that_are_no_text_are_encoded_and_reported() {
    within(60, || {
        let place = Place::empty();
        let names = [&b"in\xff\xfe.mkv"[..], b"out\xff\xfe.mkv", b"second\xff.mkv"].map(OsStr::from_bytes);
        place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=24:d=0.5 -c:v mpeg4");
        fs::copy(place.path("in.mkv"), place.folder.path().join(names[0])).unwrap();
        fs::rename(place.path("in.mkv"), place.folder.path().join(names[2])).unwrap();
        let quick = ["-c", "libx264", "-b", "50k", "--preset", "ultrafast"].map(OsStr::new);
        let said = |arguments: &[&OsStr]| {
            let ended = place.run_with(&[arguments, &quick].concat());
            assert_eq!(ended.code, 0, "{arguments:?}: {ended}");
            serde_json::from_str::<serde_json::Value>(ended.stdout.lines().last().unwrap()).unwrap()
        };
        let [encode, o, json] = ["encode", "-o", "--json"].map(OsStr::new);
        assert_eq!(said(&[encode, names[0], o, names[1], json])["frames"], 12);
        assert!(place.folder.path().join(names[1]).exists());
        assert_eq!(said(&[OsStr::new("plan"), names[0], o, OsStr::new("a.mkv"), json])["runs"], 2);
        let batch = [encode, names[0], names[2], o, OsStr::new("{stem}.mp4"), json];
        assert_eq!(said(&batch)["files"].as_array().unwrap().len(), 2);
    });
}

// --- options and paths -------------------------------------------------------------------------------------------------

#[test]
fn a_name_is_never_an_option_a_protocol_or_a_pattern() {
    within(120, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=24:d=0.5 -c:v mpeg4");
        for name in
            ["-y.mkv", "--json.mkv", "http:x.mkv", "concat:in.mkv", "pipe:0.mkv", "%d.mkv", "a[b]*?.mkv", "$(id).mkv"]
        {
            fs::copy(place.path("in.mkv"), place.path(name)).unwrap();
            let out = format!("out{name}");
            let ended = place.run_with(&["encode", "-o", &out, "-c", "libx264", "--crf", "40", "--", name]);
            assert_eq!(ended.code, 0, "{name}: {ended}");
            assert_eq!(media::packets(&place.path(&out)).lines().count(), 12, "{name}");
            // And the same as an output, and on the ffmpeg line that is shown.
            fs::remove_file(place.path(&out)).unwrap();
            let out = format!("-o={}", name.replace(".mkv", ".mp4"));
            let planned = place.run_with(&["plan", "--argv", "-c", "libx264", "--crf", "40", &out, "--", name]);
            let line = planned.stdout.lines().find(|line| line.starts_with("ffmpeg ")).unwrap();
            let shown = place.shell(line);
            assert_eq!(shown.code, 0, "{line}: {shown}");
            assert!(place.path(&name.replace(".mkv", ".mp4")).exists(), "{line}");
            fs::remove_file(place.path(&name.replace(".mkv", ".mp4"))).unwrap();
            let ended = place.run_with(&["encode", "-c", "libx264", "--crf", "40", &out, "--", name]);
            assert_eq!(ended.code, 0, "{name}: {ended}");
        }
    });
}

#[test]
fn the_lines_for_a_package_with_subtitles_take_any_name() {
    within(60, || {
        let place = Place::empty();
        fs::write(place.path("text.srt"), "1\n00:00:00,000 --> 00:00:00,500\ntext\n").unwrap();
        let text = place.path("text.srt");
        let streams = format!("-f lavfi -i testsrc2=s=96x64:r=24:d=2 -i {} -c:v mpeg4 -c:s srt", text.display());
        let name = "12:30 show.mkv";
        place.make(name, &streams);
        let job = ["-o", "m.m3u8", "-c", "libx264", "--crf", "40", "--argv"];
        let planned = place.run_with(&[&["plan", name], &job[..]].concat());
        let lines: Vec<&str> = planned.stdout.lines().filter(|line| line.starts_with("ffmpeg ")).collect();
        assert!(lines.iter().any(|line| line.contains("webvtt")), "{planned}");
        for line in lines {
            let shown = place.shell(line);
            assert_eq!(shown.code, 0, "{line}: {shown}");
        }
    });
}

#[test]
fn a_template_stays_in_its_folder() {
    within(60, || {
        let place = Place::empty();
        fs::create_dir(place.path("out")).unwrap();
        let clip = place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=24:d=0.5 -c:v mpeg4");
        for name in ["...mkv", "..\\up.mkv", ".hidden", "{name}.mkv", "{stem}.mkv"] {
            fs::copy(&clip, place.path(name)).unwrap();
            let ended = place.run_with(&["encode", name, "-o", "out/{stem}.mp4", "-c", "libx264", "--crf", "40"]);
            println!("{name}: {} {}", ended.code, ended.stderr);
            assert!([0, 3].contains(&ended.code), "{name}: {ended}");
            fs::remove_file(place.path(name)).unwrap();
            assert_eq!(place.names(), ["in.mkv", "out"], "{name}");
        }
        for name in ["../x", "/etc/x", "a/b", "..", ".", "a\\b", ""] {
            let text = format!("[[rendition]]\nname = '{name}'\nencoder = 'libx264'\ncrf = 40\n");
            fs::write(place.path("job.toml"), text).unwrap();
            for output in ["out/{name}.mkv", "out/{name}/x.mkv", "out/m.m3u8"] {
                let ended = place.run_with(&["encode", "in.mkv", "-o", output, "--job", "job.toml"]);
                println!("{name:?}, {output}: {} {}", ended.code, ended.stderr);
                assert!([0, 3, 6].contains(&ended.code), "{name:?}, {output}: {ended}");
                assert_eq!(place.names(), ["in.mkv", "job.toml", "out"], "{name:?}, {output}");
                fs::remove_dir_all(place.path("out")).unwrap();
                fs::create_dir(place.path("out")).unwrap();
            }
        }
    });
}

// --- what an input refers to -------------------------------------------------------------------------------------------

/// A server that would notice.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn nothing_is_fetched_that_was_not_allowed() {
    within(120, || {
        let place = Place::empty();
        let (listener, address) = listener();
        place.make("real.ts", "-f lavfi -i testsrc2=s=96x64:r=24:d=1 -c:v mpeg2video");
        let secret = place.path("secret.txt");
        fs::copy(place.path("real.ts"), &secret).unwrap();
        let (secret, folder) = (secret.display(), place.folder.path().display());
        let hls = |segment: &str| {
            format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{segment}\n#EXT-X-ENDLIST\n")
        };
        let dash = |base: &str| {
            format!(
                "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" \
                 mediaPresentationDuration=\"PT1S\" profiles=\"urn:mpeg:dash:profile:isoff-on-demand:2011\"><Period>\
                 <AdaptationSet mimeType=\"video/mp4\"><Representation id=\"1\" bandwidth=\"1000\"><BaseURL>{base}</BaseURL>\
                 </Representation></AdaptationSet></Period></MPD>"
            )
        };
        let http = format!("http://{address}/x.ts");
        for (name, text) in [
            ("http.m3u8", hls(&http)),
            ("key.m3u8", hls(&format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{http}\"\n./real.ts"))),
            ("crypto.m3u8", hls(&format!("crypto+{http}"))),
            ("nested.m3u8", format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{http}.m3u8\n")),
            ("secret.m3u8", hls(&format!("file://{secret}"))),
            ("concat.m3u8", hls(&format!("concat:{secret}"))),
            ("subfile.m3u8", hls(&format!("subfile,,start,0,end,99999,,:{secret}"))),
            ("disguised.mp4", hls(&format!("{folder}/real.ts"))),
            ("http.ffconcat", format!("ffconcat version 1.0\nfile '{http}'\n")),
            ("disguised.mkv", format!("ffconcat version 1.0\nfile '{http}'\n")),
            ("absolute.ffconcat", format!("ffconcat version 1.0\nfile '{secret}'\n")),
            ("upwards.ffconcat", "ffconcat version 1.0\nfile '../secret.txt'\n".to_owned()),
            (
                "option.ffconcat",
                format!("ffconcat version 1.0\nfile real.ts\noption protocol_whitelist http\nfile '{http}'\n"),
            ),
            ("http.mpd", dash(&http)),
            (
                "http.sdp",
                format!(
                    "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
                    5004
                ),
            ),
            ("http.xspf", http.clone()),
        ] {
            fs::write(place.path(name), text).unwrap();
            let ended = place.run_with(&["encode", name, "-o", "out.mkv", "-c", "libx264", "--crf", "40"]);
            println!("{name}: {} {}", ended.code, ended.stderr.trim());
            assert_eq!(ended.code, 4, "{name}: {ended}");
            assert!(!place.path("out.mkv").exists(), "{name}");
        }
        for input in [
            http.clone(),
            // No patterns.
            format!("{http}?part=1&name=*"),
            "http://[::1]:1/x.ts".to_owned(),
            format!("tcp://{address}"),
            format!("async:{http}"),
            format!("cache:{http}"),
            format!("concat:{secret}|{secret}"),
            format!("subfile,,start,0,end,0,,:{secret}"),
            format!("data:video/mp4;base64,{}", "AAAA"),
        ] {
            let ended = place.run_with(&["encode", &input, "-o", "out.mkv", "-c", "libx264", "--crf", "40"]);
            assert_eq!(ended.code, 4, "{input}: {ended}");
        }
        assert!(listener.accept().is_err(), "somebody asked for what was not allowed");
        // What was allowed is asked for, so the listener would have noticed.
        let allowed = ["encode", &http, "-o", "out.mkv", "-c", "libx264", "--crf", "40", "--allow-protocol", "http"];
        let mut command = place.command("");
        command.args(allowed).args(["--allow-protocol", "tcp", "--stall-timeout", "1"]);
        let running = place.start(command);
        while listener.accept().is_err() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let ended = running.signal(rustix::process::Signal::INT).end();
        assert!([4, 130].contains(&ended.code), "{ended}");
    });
}

// --- files of our own --------------------------------------------------------------------------------------------------

#[test]
fn temporary_files_are_private_whatever_the_umask() {
    within(60, || {
        let place = Place::empty();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=320x180:r=24:d=20 -c:v mpeg4");
        // No room in /dev/shm can be taken for granted: statistics are wherever they are.
        let job =
            "encode in.mkv -o out.mkv -c libx264 -b 200k --preset placebo --cache disk --cache-size 1M --progress json";
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask 000; exec $repass {job} --spill-dir $TMPDIR")]);
        command.env("repass", env!("CARGO_BIN_EXE_repass"));
        let mut running = place.start(command);
        running.wait_for("\"pass\":1");
        running.wait_for("\"event\":\"cache\"");
        let mut seen = [0; 3];
        for file in fs::read_dir(format!("/proc/{}/fd", running.id())).unwrap().flatten() {
            let Ok(target) = fs::read_link(file.path()) else { continue };
            let Ok(found) = fs::metadata(file.path()) else { continue };
            let target = target.display().to_string();
            let kind = ["(deleted)", "repass-stats-", ".part"].iter().position(|kind| target.contains(kind));
            let Some(kind) = kind.filter(|_| !target.starts_with("/memfd")) else { continue };
            let private = if found.is_dir() { 0o700 } else { 0o600 };
            if kind == 1 {
                let folder = Path::new(&target).ancestors().find(|path| {
                    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("repass-stats-"))
                });
                assert_eq!(fs::metadata(folder.unwrap()).unwrap().mode() & 0o777, 0o700, "{target}");
            } else {
                assert_eq!(found.mode() & 0o777, private, "{target}");
            }
            seen[kind] += 1;
        }
        println!("deleted, statistics, part: {seen:?}");
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
        let ended = running.signal(rustix::process::Signal::INT).end();
        assert_eq!(ended.code, 130, "{ended}");
    });
}

/// Links with names like those of our own leftovers, and where our own files are to be.
#[test]
fn links_that_lie_in_wait_lead_nowhere() {
    within(60, || {
        let place = Place::empty();
        let precious = place.scratch.path().join("precious");
        fs::create_dir(&precious).unwrap();
        let kept = precious.join("lock");
        fs::write(&kept, "precious").unwrap();
        place.make("in.mkv", "-f lavfi -i testsrc2=s=96x64:r=24:d=0.5 -c:v mpeg4");
        for (name, target) in [
            (".out.mkv.repass-aaaaaa.part", &kept),
            (".out.mkv.repass-bbbbbb.part", &precious),
            (".m.m3u8.repass-aaaaaa.part", &precious),
        ] {
            symlink(target, place.path(name)).unwrap();
        }
        symlink(&precious, place.scratch.path().join("repass-stats-evil.part")).unwrap();
        symlink(&kept, place.path(".repass-journal.jsonl")).unwrap();
        // A link that leads nowhere yet is no output either: it is replaced, and what it names is not made.
        symlink(precious.join("made"), place.path("out.mkv")).unwrap();
        let quick = "-c libx264 -b 50k --preset ultrafast";
        for job in ["in.mkv -o out.mkv -y", "in.mkv -o m.m3u8", "in.mkv -o {stem}.mp4 --resume"] {
            let ended = place.run(&format!("encode {job} {quick}"));
            assert_eq!(ended.code, 0, "{job}: {ended}");
            assert_eq!(fs::read(&kept).unwrap(), b"precious", "{job}");
            assert_eq!(media::names(&precious), ["lock"], "{job}");
        }
        assert!(fs::symlink_metadata(place.path("out.mkv")).unwrap().is_file());
    });
}
