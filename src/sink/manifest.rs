//! Manifests: which files they list, read back; and what libavformat leaves out of them, put in.
//!
//! Invariant: what a manifest says of bit rates and codecs is measured on the segments beside it.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::sink::codec_string::{Described, describe};

/// The names of all files of a package that stand beside its manifest, that itself included.
///
/// # Errors
/// A manifest or a playlist that cannot be read.
pub(crate) fn files(manifest: &Path) -> io::Result<Vec<String>> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(manifest)?;
    let mut files = vec![name(manifest)];
    if text.contains("<MPD") {
        for part in text.split("<Representation ").skip(1) {
            match part.split_once("<BaseURL>").and_then(|(_, rest)| rest.split_once("</BaseURL>")) {
                Some((file, _)) => files.push(file.to_owned()),
                None => files.extend(representation(part).map_err(io::Error::other)?.names()),
            }
        }
        return Ok(files);
    }
    for playlist in references(&text) {
        let listed = std::fs::read_to_string(manifest.with_file_name(&playlist))?;
        files.push(playlist);
        files.extend(references(&listed));
    }
    Ok(files)
}

/// The files that a playlist of HLS names and that are beside it.
fn references(playlist: &str) -> Vec<String> {
    let of_line = |line: &str| match line.starts_with('#') {
        true => attribute(line, "URI"),
        false => Some(line.trim().to_owned()).filter(|name| !name.is_empty()),
    };
    playlist.lines().filter_map(of_line).filter(|name| !name.contains(['/', '\\'])).collect()
}

/// One stream's files, as a manifest lists them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listed {
    pub(super) init: String,
    pub(super) segments: Vec<Segment>,
}

impl Listed {
    /// Its files, the initialisation segment first.
    pub(super) fn names(self) -> impl Iterator<Item = String> {
        std::iter::once(self.init).chain(self.segments.into_iter().map(|segment| segment.name))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) seconds: f64,
}

/// A stream of a package, measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    pub(super) described: Described,
    /// The greatest bit rate of a segment, in bits per second; ones shorter than half the longest do not count, as RFC 8216
    /// has it.
    pub(super) peak_bps: u64,
    /// Bits per second of the whole.
    pub(super) average_bps: u64,
    /// Bytes of all its files.
    pub(super) bytes: u64,
}

/// Looks at every file of a stream in `folder`.
///
/// # Errors
/// The first file that is not there or empty, in words.
pub(super) fn measure(listed: &Listed, folder: &Path) -> Result<Measured, String> {
    let length = |name: &str| match std::fs::metadata(folder.join(name)) {
        Ok(found) if found.is_file() && found.len() > 0 => Ok(found.len()),
        Ok(_) => Err(format!("segment {name} is empty")),
        Err(error) => Err(format!("segment {name}: {error}")),
    };
    let header = length(&listed.init)?;
    let lengths = listed.segments.iter().map(|segment| length(&segment.name)).collect::<Result<Vec<u64>, String>>()?;
    let init = std::fs::read(folder.join(&listed.init)).map_err(|error| format!("segment {}: {error}", listed.init))?;
    let longest = listed.segments.iter().map(|segment| segment.seconds).fold(0.0, f64::max);
    let rates = listed.segments.iter().zip(&lengths).filter(|(segment, _)| segment.seconds * 2.0 >= longest);
    let peak = rates.map(|(segment, bytes)| *bytes as f64 * 8.0 / segment.seconds.max(1e-3)).fold(0.0, f64::max);
    let seconds: f64 = listed.segments.iter().map(|segment| segment.seconds).sum();
    let bytes: u64 = lengths.iter().sum();
    Ok(Measured {
        described: describe(&init),
        peak_bps: peak.ceil() as u64,
        average_bps: (bytes as f64 * 8.0 / seconds.max(1e-3)).ceil() as u64,
        bytes: bytes + header,
    })
}

/// Reads a media playlist of HLS.
///
/// # Errors
/// What is missing, in words.
pub(super) fn read_playlist(text: &str) -> Result<Listed, String> {
    let init = text.lines().find_map(|line| attribute(line.strip_prefix("#EXT-X-MAP:")?, "URI"));
    let mut segments = Vec::new();
    let mut seconds = None;
    for line in text.lines() {
        if let Some(length) = line.strip_prefix("#EXTINF:") {
            seconds = length.split(',').next().and_then(|length| length.parse().ok());
        } else if !line.starts_with('#') && !line.is_empty() {
            let seconds = seconds.take().ok_or_else(|| format!("the playlist gives no length for {line}"))?;
            segments.push(Segment { name: line.to_owned(), seconds });
        }
    }
    if !text.contains("#EXT-X-ENDLIST") {
        return Err("the playlist has no end".to_owned());
    }
    listed(init, segments)
}

/// Reads the representations of a DASH manifest, in the order of their streams, as libavformat writes them: a template with a
/// time line. In the manifest they stand set by set.
///
/// # Errors
/// What is missing, in words.
pub(super) fn read_dash(text: &str) -> Result<Vec<Listed>, String> {
    let one = |text: &str| {
        let number = number(text).ok_or("a representation without the number of its stream")?;
        Ok((number, representation(text)?))
    };
    let mut all = text.split("<Representation ").skip(1).map(one).collect::<Result<Vec<(usize, Listed)>, String>>()?;
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, listed)| listed).collect())
}

/// libavformat's name of a representation: the index of its stream.
fn number(representation: &str) -> Option<usize> {
    attribute(representation, "id")?.parse().ok()
}

fn representation(text: &str) -> Result<Listed, String> {
    let text = text.split("</Representation>").next().unwrap_or_default();
    let missing = |what: &str| format!("a representation without {what}");
    let id = attribute(text, "id").ok_or_else(|| missing("id"))?;
    let number =
        |name: &str| attribute(text, name).and_then(|value| value.parse::<u64>().ok()).ok_or_else(|| missing(name));
    let (ticks, first) = (number("timescale")? as f64, number("startNumber")?);
    let media = attribute(text, "media").ok_or_else(|| missing("media"))?;
    let mut segments = Vec::new();
    for span in text.split("<S ").skip(1) {
        let length: f64 = attribute(span, "d").and_then(|value| value.parse().ok()).ok_or_else(|| missing("d"))?;
        let again: u64 = attribute(span, "r").and_then(|value| value.parse().ok()).unwrap_or(0);
        for _ in 0..=again {
            let number = format!("{:05}", first + segments.len() as u64);
            let name = media.replace("$RepresentationID$", &id).replace("$Number%05d$", &number);
            segments.push(Segment { name, seconds: length / ticks });
        }
    }
    let init = attribute(text, "initialization").map(|init| init.replace("$RepresentationID$", &id));
    listed(init, segments)
}

fn listed(init: Option<String>, segments: Vec<Segment>) -> Result<Listed, String> {
    let init = init.ok_or("the manifest names no initialisation segment")?;
    if segments.is_empty() {
        return Err("the manifest lists no segment".to_owned());
    }
    let leads_away = |name: &&String| name.contains(['/', '\\']);
    let away = segments.iter().map(|segment| &segment.name).chain([&init]).find(leads_away);
    if let Some(name) = away {
        return Err(format!("the manifest leads to another folder: {name}"));
    }
    Ok(Listed { init, segments })
}

/// The value of `name="value"`, where the name stands at a word's beginning.
fn attribute(text: &str, name: &str) -> Option<String> {
    let key = format!("{name}=\"");
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find(&key)?;
        let begins = at == 0 || !text.as_bytes()[at - 1].is_ascii_alphanumeric() && text.as_bytes()[at - 1] != b'-';
        if begins {
            return text[at + key.len()..].split('"').next().map(str::to_owned);
        }
        from = at + key.len();
    }
}

/// A rendition in HLS's master playlist.
pub(super) struct Variant {
    pub(super) playlist: String,
    pub(super) measured: Measured,
    pub(super) size: (u32, u32),
    pub(super) frame_rate: Option<f64>,
}

/// Sound in HLS's master playlist.
pub(super) struct Sound {
    pub(super) playlist: String,
    pub(super) name: String,
    pub(super) language: Option<String>,
    pub(super) measured: Measured,
}

/// Subtitles of a package.
pub(super) struct Text {
    /// The playlist of HLS.
    pub(super) playlist: String,
    /// All of it, as WebVTT.
    pub(super) file: String,
    pub(super) name: String,
    pub(super) language: Option<String>,
    pub(super) bps: u64,
}

/// The playlist of subtitles: one segment, as long as the video.
pub(super) fn text_playlist(file: &str, seconds: f64) -> String {
    let longest = seconds.ceil() as u64;
    format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{longest}\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n\
         #EXTINF:{seconds:.6},\n{file}\n#EXT-X-ENDLIST\n"
    )
}

/// The master playlist. libavformat's own gives no codecs for most of them, and the bit rates that were asked for.
pub(super) fn master(variants: &[Variant], sounds: &[Sound], texts: &[Text]) -> String {
    // RFC 8216: version 6 has maps of media without I-frame lists; libavformat calls its playlists 7.
    let mut text = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n".to_owned();
    for (number, Sound { playlist, name, language, .. }) in sounds.iter().enumerate() {
        let default = if number == 0 { "YES" } else { "NO" };
        text +=
            &media("AUDIO", "audio", name, &format!("DEFAULT={default},AUTOSELECT=YES"), language.as_deref(), playlist);
    }
    for Text { playlist, name, language, .. } in texts {
        let chosen = "DEFAULT=NO,AUTOSELECT=YES,FORCED=NO";
        text += &media("SUBTITLES", "text", name, chosen, language.as_deref(), playlist);
    }
    for variant in variants {
        text += &stream_inf(variant, sounds);
        if !sounds.is_empty() {
            text.push_str(",AUDIO=\"audio\"");
        }
        if !texts.is_empty() {
            text.push_str(",SUBTITLES=\"text\"");
        }
        let _ = writeln!(text, "\n{}", variant.playlist);
    }
    text
}

/// The line of a stream that goes with every rendition.
fn media(kind: &str, group: &str, name: &str, chosen: &str, language: Option<&str>, playlist: &str) -> String {
    let language = language.map(|language| format!(",LANGUAGE=\"{language}\"")).unwrap_or_default();
    format!("#EXT-X-MEDIA:TYPE={kind},GROUP-ID=\"{group}\",NAME=\"{name}\",{chosen}{language},URI=\"{playlist}\"\n")
}

/// What is said of a rendition, together with the loudest sound that may go with it.
fn stream_inf(variant: &Variant, sounds: &[Sound]) -> String {
    let measured = &variant.measured;
    let loudest = |rate: fn(&Measured) -> u64| sounds.iter().map(|sound| rate(&sound.measured)).max().unwrap_or(0);
    let peak = measured.peak_bps + loudest(|sound| sound.peak_bps);
    let average = measured.average_bps + loudest(|sound| sound.average_bps);
    let mut text = format!("#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average}");
    let mut codecs: Vec<&str> = Vec::new();
    for described in [&measured.described].into_iter().chain(sounds.iter().map(|sound| &sound.measured.described)) {
        codecs.extend(described.codec.as_deref().filter(|codec| !codecs.contains(codec)));
    }
    if measured.described.codec.is_some() {
        let _ = write!(text, ",CODECS=\"{}\"", codecs.join(","));
    }
    let _ = write!(text, ",RESOLUTION={}x{}", variant.size.0, variant.size.1);
    if let Some(rate) = variant.frame_rate {
        let _ = write!(text, ",FRAME-RATE={rate:.3}");
    }
    if let Some(range) = measured.described.range {
        let _ = write!(text, ",VIDEO-RANGE={range}");
    }
    text
}

/// A DASH manifest with the codecs and bit rates of its representations as measured.
pub(super) fn with_measured(text: &str, measured: &[Measured]) -> String {
    let mut parts = text.split("<Representation ");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (tag, rest) = part.split_once('>').unwrap_or((part, ""));
        let mut tag = tag.to_owned();
        if let Some(measured) = number(&tag).and_then(|number| measured.get(number)) {
            tag = with(&tag, "bandwidth", &measured.peak_bps.to_string());
            if let Some(codec) = &measured.described.codec {
                tag = with(&tag, "codecs", codec);
            }
        }
        let _ = write!(whole, "<Representation {tag}>{rest}");
    }
    whole
}

/// A DASH manifest with subtitles beside its segments: dashenc takes none.
pub(super) fn with_texts(text: &str, texts: &[Text]) -> String {
    let Some((before, after)) = text.rsplit_once("</Period>") else { return text.to_owned() };
    let mut whole = before.trim_end().to_owned();
    for subtitles in texts {
        let Text { file, name, language, bps, .. } = subtitles;
        let language = language.as_ref().map(|language| format!(" lang=\"{language}\"")).unwrap_or_default();
        let _ = write!(
            whole,
            "\n\t\t<AdaptationSet contentType=\"text\" mimeType=\"text/vtt\"{language}>\n\
             \t\t\t<Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"subtitle\"/>\n\
             \t\t\t<Representation id=\"{name}\" bandwidth=\"{bps}\">\n\t\t\t\t<BaseURL>{file}</BaseURL>\n\
             \t\t\t</Representation>\n\t\t</AdaptationSet>"
        );
    }
    format!("{whole}\n\t</Period>{after}")
}

/// A tag with the attribute set, in its place or at the end.
fn with(tag: &str, name: &str, value: &str) -> String {
    let set = format!("{name}=\"{value}\"");
    match attribute(tag, name) {
        Some(old) => tag.replacen(&format!("{name}=\"{old}\""), &set, 1),
        None => format!("{} {set}", tag.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAYLIST: &str = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"m_a_init.mp4\"\n\
                            #EXTINF:2.000000,\nm_a_00000.m4s\n#EXTINF:1.500000,\nm_a_00001.m4s\n#EXT-X-ENDLIST\n";

    const MPD: &str = r#"<MPD><Period><AdaptationSet id="0">
<Representation id="0" mimeType="video/mp4" codecs="hev1" bandwidth="300000" width="320">
<SegmentTemplate timescale="12288" initialization="m_$RepresentationID$_init.mp4" media="m_$RepresentationID$_$Number%05d$.m4s" startNumber="1">
<SegmentTimeline><S t="0" d="24576" r="1" /><S d="12288" /></SegmentTimeline></SegmentTemplate></Representation>
</AdaptationSet></Period></MPD>"#;

    fn measured(codec: &str, peak_bps: u64) -> Measured {
        let described = Described { codec: Some(codec.to_owned()), range: None };
        Measured { described, peak_bps, average_bps: peak_bps / 2, bytes: 1 }
    }

    #[test]
    fn playlists_are_read_back() {
        let listed = read_playlist(PLAYLIST).unwrap();
        assert_eq!(listed.init, "m_a_init.mp4");
        assert_eq!(listed.segments[1], Segment { name: "m_a_00001.m4s".to_owned(), seconds: 1.5 });
        assert!(read_playlist(&PLAYLIST.replace("#EXT-X-ENDLIST", "")).is_err());
        assert!(read_playlist(&PLAYLIST.replace("m_a_00000", "../x")).is_err());
    }

    #[test]
    fn dash_time_lines_are_counted_out() {
        let [listed] = read_dash(MPD).unwrap().try_into().unwrap();
        let names: Vec<&str> = listed.segments.iter().map(|segment| segment.name.as_str()).collect();
        assert_eq!(names, ["m_0_00001.m4s", "m_0_00002.m4s", "m_0_00003.m4s"]);
        assert_eq!((listed.init.as_str(), listed.segments[2].seconds), ("m_0_init.mp4", 1.0));
    }

    #[test]
    fn what_was_measured_replaces_what_was_asked_for() {
        let text = with_measured(MPD, &[measured("hvc1.1.6.L93.90", 456)]);
        let tag =
            r#"<Representation id="0" mimeType="video/mp4" codecs="hvc1.1.6.L93.90" bandwidth="456" width="320">"#;
        assert!(text.contains(tag), "{text}");
        assert_eq!(read_dash(&text).unwrap(), read_dash(MPD).unwrap());
    }

    #[test]
    fn a_master_playlist_names_codecs_rates_and_sound_once() {
        let variant = |playlist: &str, peak| Variant {
            playlist: playlist.to_owned(),
            measured: measured("avc1.64001f", peak),
            size: (640, 360),
            frame_rate: Some(24000.0 / 1001.0),
        };
        let sound = Sound {
            playlist: "m_audio.m3u8".to_owned(),
            name: "audio".to_owned(),
            language: Some("eng".to_owned()),
            measured: measured("mp4a.40.2", 100),
        };
        let text = master(&[variant("m_a.m3u8", 1000), variant("m_b.m3u8", 500)], &[sound], &[]);
        let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"audio\",DEFAULT=YES,AUTOSELECT=YES,LANGUAGE=\"eng\",\
            URI=\"m_audio.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1100,AVERAGE-BANDWIDTH=550,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=640x360,\
            FRAME-RATE=23.976,AUDIO=\"audio\"\nm_a.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=600,AVERAGE-BANDWIDTH=300,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=640x360,\
            FRAME-RATE=23.976,AUDIO=\"audio\"\nm_b.m3u8\n";
        assert_eq!(text, expected);
    }
}
