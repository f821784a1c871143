//! What a segment's header says of its stream, in the words of a manifest: RFC 6381's codec string and the range of light.
//!
//! Invariant: read from the bytes that a player will read; what they do not tell is `None`, never guessed.

/// A stream, as its initialisation segment describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Described {
    /// The `CODECS` attribute: `avc1.64001f`, `mp4a.40.2`.
    pub(super) codec: Option<String>,
    /// HLS's `VIDEO-RANGE`: `PQ` or `HLG`; `None` for the ordinary range.
    pub(super) range: Option<&'static str>,
}

/// Reads an initialisation segment (`ftyp` and `moov` of ISO/IEC 14496-12) with one track.
pub(super) fn describe(init: &[u8]) -> Described {
    let path = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"];
    let table = path.iter().try_fold(init, |inside, name| child(inside, name));
    // Behind version, flags and the number of entries.
    let Some((kind, entry)) = table.and_then(|table| table.get(8..)).and_then(|entries| boxes(entries).next()) else {
        return Described::default();
    };
    let is_sound = SOUND.contains(kind);
    let Some(inside) = entry.get(if is_sound { SOUND_ENTRY } else { PICTURE_ENTRY }..) else {
        return Described::default();
    };
    let transfer = child(inside, b"colr").filter(|colr| colr.starts_with(b"nclx")).and_then(|colr| colr.get(7));
    let range = match transfer {
        Some(16) => Some("PQ"),
        Some(18) => Some("HLG"),
        _ => None,
    };
    Described { codec: codec(kind, inside), range }
}

fn codec(kind: &[u8; 4], inside: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(kind).ok()?;
    match kind {
        b"avc1" | b"avc3" => {
            let [_, profile, compatible, level, ..] = *child(inside, b"avcC")? else { return None };
            Some(format!("{name}.{profile:02x}{compatible:02x}{level:02x}"))
        }
        b"hvc1" | b"hev1" => hevc(name, child(inside, b"hvcC")?),
        b"vp08" | b"vp09" => {
            // Behind version and flags.
            let [_, _, _, _, profile, level, depth, ..] = *child(inside, b"vpcC")? else { return None };
            Some(format!("{name}.{profile:02}.{level:02}.{:02}", depth >> 4))
        }
        b"av01" => {
            let [_, profile_level, flags, ..] = *child(inside, b"av1C")? else { return None };
            let (profile, level) = (profile_level >> 5, profile_level & 31);
            let tier = if flags & 0x80 != 0 { 'H' } else { 'M' };
            let depth = match (flags & 0x40 != 0, flags & 0x20 != 0) {
                (false, _) => 8,
                (true, false) => 10,
                (true, true) => 12,
            };
            Some(format!("av01.{profile}.{level:02}{tier}.{depth:02}"))
        }
        b"mp4a" => mpeg_audio(child(inside, b"esds")?.get(4..)?),
        b"Opus" => Some("opus".to_owned()),
        b"fLaC" => Some("flac".to_owned()),
        b"ac-3" | b"ec-3" => Some(name.to_owned()),
        _ => None,
    }
}

/// ISO/IEC 14496-15, annex E: profile, compatibility in reverse bit order, tier and level, constraints without zeros at the
/// end.
fn hevc(name: &str, record: &[u8]) -> Option<String> {
    let record = record.get(..13)?;
    let space = ["", "A", "B", "C"][usize::from(record[1] >> 6)];
    let profile = record[1] & 31;
    let compatible = u32::from_be_bytes([record[2], record[3], record[4], record[5]]).reverse_bits();
    let tier = if record[1] & 0x20 != 0 { 'H' } else { 'L' };
    let level = record[12];
    let constraints = &record[6..12];
    let length = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let constraints: String = constraints[..length].iter().map(|byte| format!(".{byte:X}")).collect();
    Some(format!("{name}.{space}{profile}.{compatible:X}.{tier}{level}{constraints}"))
}

/// An ES descriptor (ISO/IEC 14496-1): object type, and for AAC the audio object type.
fn mpeg_audio(es: &[u8]) -> Option<String> {
    let es = descriptor(es, 3)?;
    let flags = *es.get(2)?;
    // Behind the flags may stand a dependency, a URL and a clock, which libavformat never writes.
    let config = descriptor(es.get(3..).filter(|_| flags & 0xe0 == 0)?, 4)?;
    let object = *config.first()?;
    if object != 0x40 {
        return Some(format!("mp4a.{object:02X}"));
    }
    let specific = descriptor(config.get(13..)?, 5)?;
    let [first, second, ..] = *specific else { return None };
    let kind = match first >> 3 {
        31 => 32 + (((first & 7) << 3) | (second >> 5)),
        kind => kind,
    };
    Some(format!("mp4a.40.{kind}"))
}

/// The content of a descriptor with this tag at the beginning of `bytes`.
fn descriptor(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (found, mut rest) = bytes.split_first()?;
    let mut length = 0;
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        length = (length << 7) | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    if *found == tag { rest.get(..length) } else { None }
}

/// The content of the first box of this name.
fn child<'b>(inside: &'b [u8], name: &[u8; 4]) -> Option<&'b [u8]> {
    boxes(inside).find(|(kind, _)| *kind == name).map(|(_, content)| content)
}

/// The boxes in a row of bytes, up to the first that does not fit.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (size, after) = rest.split_first_chunk::<4>()?;
        let (kind, _) = after.split_first_chunk::<4>()?;
        let size = u32::from_be_bytes(*size) as usize;
        let content = rest.get(8..size)?;
        rest = &rest[size..];
        Some((kind, content))
    })
}

const SOUND: &[[u8; 4]] = &[*b"mp4a", *b"Opus", *b"fLaC", *b"ac-3", *b"ec-3"];
/// Bytes of a sample entry before the boxes in it, without the entry's own header.
const SOUND_ENTRY: usize = 28;
const PICTURE_ENTRY: usize = 78;

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32 + 8).to_be_bytes(), kind.as_slice(), content].concat()
    }

    fn init(kind: &[u8; 4], header: usize, inside: &[u8]) -> Vec<u8> {
        let entry = boxed(kind, &[vec![0; header], inside.to_vec()].concat());
        let table = boxed(b"stsd", &[vec![0; 8], entry].concat());
        [b"stbl", b"minf", b"mdia", b"trak", b"moov"].iter().fold(table, |inside, kind| boxed(kind, &inside))
    }

    #[test]
    fn codec_strings_are_those_of_rfc_6381() {
        let hvcc = [1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93];
        let esds = [
            0, 0, 0, 0, 3, 0x80, 0x80, 0x80, 22, 0, 1, 0, 4, 17, 0x40, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 2,
            0x12, 0x10,
        ];
        for (kind, header, record, content, said) in [
            (b"avc1", PICTURE_ENTRY, b"avcC", [1, 0x64, 0, 0x1f].as_slice(), "avc1.64001f"),
            (b"hvc1", PICTURE_ENTRY, b"hvcC", &hvcc, "hvc1.1.6.L93.90"),
            (b"vp09", PICTURE_ENTRY, b"vpcC", &[1, 0, 0, 0, 0, 21, 0x82], "vp09.00.21.08"),
            (b"av01", PICTURE_ENTRY, b"av1C", &[0x81, 0x08, 0x40, 0], "av01.0.08M.10"),
            (b"mp4a", SOUND_ENTRY, b"esds", &esds, "mp4a.40.2"),
        ] {
            let described = describe(&init(kind, header, &boxed(record, content)));
            assert_eq!(described.codec.as_deref(), Some(said));
        }
    }

    #[test]
    fn hdr_is_told_from_its_transfer() {
        let colr = boxed(b"colr", &[b"nclx".as_slice(), &[0, 9, 0, 16, 0, 9, 0]].concat());
        let inside = [boxed(b"vpcC", &[1, 0, 0, 0, 2, 51, 0xa2]), colr].concat();
        let described = describe(&init(b"vp09", PICTURE_ENTRY, &inside));
        assert_eq!((described.codec.as_deref(), described.range), (Some("vp09.02.51.10"), Some("PQ")));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = describe(&bytes);
            for kind in [b"avc1", b"hvc1", b"vp09", b"av01", b"mp4a"] {
                let _ = describe(&init(kind, SOUND_ENTRY, &bytes));
                let _ = codec(kind, &bytes);
            }
        }
    }
}
