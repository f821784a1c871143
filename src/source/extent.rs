//! How long a file says it is: the outermost boxes of the usual containers and the pictures of YUV4MPEG2, walked without reading
//! what is in them.
//!
//! A header that claims a length in seconds may lie (fragmented MP4 with 143166 s for one second of video), and files that
//! were cut claim nothing else than whole ones. But a box that reaches beyond the end of the file was cut, whatever its
//! header says of time; and where every box ends inside the file, a wrong length in seconds is only a wrong length.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::Error;
use crate::event::Cancel;

/// How many bytes the file's own boxes promise beyond its end; 0 for whole files, for formats that promise nothing (raw
/// streams, live Matroska) and for what is no regular file.
pub(super) fn missing_bytes(path: &Path) -> u64 {
    let Ok(Some((mut file, length))) = regular(path) else { return 0 };
    let end = promised_end(&mut file, length).ok().flatten();
    end.map_or(0, |end| end.saturating_sub(length))
}

/// A regular file and its bytes; `None` for what is none: opening a pipe would wait for somebody to write.
fn regular(path: &Path) -> io::Result<Option<(File, u64)>> {
    let metadata = path.metadata()?;
    if metadata.is_file() { Ok(Some((File::open(path)?, metadata.len()))) } else { Ok(None) }
}

/// Where the outermost box ends that the file begins, and perhaps does not hold, last.
fn promised_end(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<u64>> {
    let mut start = [0; 12];
    if file.read_exact(&mut start).is_err() {
        return Ok(None);
    }
    match &start {
        _ if start.starts_with(&EBML) => matroska(file),
        [b'R', b'I', b'F', b'F', ..] => riff(file, length),
        [b'O', b'g', b'g', b'S', ..] => ogg(file, length),
        _ if start.starts_with(b"YUV4MPEG2 ") => y4m(file, length),
        [0x47, ..] => transport_stream(file, length),
        [_, _, _, _, kind @ ..] if is_box(&kind[..4]) => boxes(file, length),
        _ => Ok(None),
    }
}

/// MP4 and QuickTime: boxes of a size and a kind, one after another.
fn boxes(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<u64>> {
    let (mut at, mut fragmented) = (0, false);
    while at + 8 <= length {
        let header: [u8; 8] = read_at(file, at)?;
        fragmented |= header[4..] == *b"moof";
        // What follows the last box and is none was put there by somebody else.
        if !is_box(&header[4..]) {
            return Ok(None);
        }
        let size = match u32::from_be_bytes([header[0], header[1], header[2], header[3]]) {
            // To the end of the file.
            0 => return Ok(None),
            1 if at + 16 > length => return Ok(Some(at + 16)),
            1 => u64::from_be_bytes(read_at(file, at + 8)?),
            small => u64::from(small),
        };
        if size < 8 {
            return Ok(None);
        }
        match at.checked_add(size) {
            Some(end) if end > length => return Ok(Some(end)),
            Some(end) => at = end,
            None => return Ok(None),
        }
    }
    // A few bytes behind a film of one piece are somebody else's; behind a fragment the next one begins.
    Ok((fragmented && at < length).then_some(at + 8))
}

fn is_box(kind: &[u8]) -> bool {
    BOXES.iter().any(|known| kind == *known)
}

/// Matroska and WebM: a header, then one segment. One that was written live has no size.
fn matroska(file: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    let Some((body, Some(size))) = ebml_size(file, 4)? else { return Ok(None) };
    let at = body.saturating_add(size);
    if read_at::<4>(file, at)? != SEGMENT {
        return Ok(None);
    }
    Ok(ebml_size(file, at + 4)?.and_then(|(body, size)| body.checked_add(size?)))
}

/// Whether the bytes of a Matroska file, up to its end, are not the elements that they should be. libavformat then looks for
/// the next cluster, or takes that for the end of the file, and says so only in its log.
///
/// # Errors
/// [`Error::Interrupted`].
pub(super) fn is_torn(path: &Path, cancel: &Cancel) -> Result<bool, Error> {
    let walked = || {
        let Some((file, length)) = regular(path)? else { return Ok(false) };
        torn(BufReader::new(file), length, &|| !cancel.is_stopped())
    };
    // What cannot be read has been counted by who tried to.
    let torn = walked().unwrap_or(false);
    if cancel.is_stopped() { Err(Error::Interrupted) } else { Ok(torn) }
}

/// Walks the segment's elements and those of its clusters by their headers alone, while it may `go_on`.
fn torn(mut file: impl Read + Seek, length: u64, go_on: &dyn Fn() -> bool) -> io::Result<bool> {
    let mut start = [0; 4];
    if file.read_exact(&mut start).is_err() || start != EBML {
        return Ok(false);
    }
    let Some((body, Some(size))) = ebml_size(&mut file, 4)? else { return Ok(false) };
    let mut elements = Elements { at: file.stream_position()?, file, length };
    let Some(segment) = elements.at(body.saturating_add(size))?.filter(|segment| segment.id == SEGMENT_ID) else {
        return Ok(false);
    };
    // A size that is wrong is another damage, and told apart.
    let end = segment.end.unwrap_or(length).min(length);
    let mut at = segment.body;
    let mut cluster_end = 0;
    while at < end && go_on() {
        let Some(found) = elements.at(at)? else { return Ok(true) };
        let inside = at < cluster_end;
        let fits = found.end.is_some_and(|end| !inside || end <= cluster_end);
        at = match (found.id, found.end) {
            (CLUSTER_ID, ends) => {
                cluster_end = ends.unwrap_or(end);
                found.body
            }
            (id, Some(end)) if inside && fits && IN_CLUSTER.contains(&id) => end,
            (id, Some(end)) if IN_SEGMENT.contains(&id) => end,
            _ => return Ok(true),
        };
    }
    Ok(false)
}

/// The elements of a Matroska file.
struct Elements<F> {
    file: F,
    /// Where the file is.
    at: u64,
    length: u64,
}

struct Element {
    id: u32,
    body: u64,
    /// `None`: it goes on for as long as what follows belongs to it.
    end: Option<u64>,
}

impl<F: Read + Seek> Elements<F> {
    /// The element at `at`; `None` where there is none, or only a part of its header.
    fn at(&mut self, at: u64) -> io::Result<Option<Element>> {
        let mut header = [0; 12];
        let read = self.length.saturating_sub(at).min(12) as usize;
        // Relative, so that what is buffered stays.
        self.file.seek_relative(at.wrapping_sub(self.at) as i64)?;
        self.file.read_exact(&mut header[..read])?;
        self.at = at + read as u64;
        let id_bytes = header[0].leading_zeros() as usize + 1;
        let size_bytes = header[id_bytes.min(11)].leading_zeros() as usize + 1;
        if id_bytes > 4 || size_bytes > 8 || id_bytes + size_bytes > read {
            return Ok(None);
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let all = (1 << (7 * size_bytes)) - 1;
        let size = number(&header[id_bytes..id_bytes + size_bytes]) & all;
        let body = at + (id_bytes + size_bytes) as u64;
        let end = (size != all).then(|| body.saturating_add(size));
        Ok(Some(Element { id: number(&header[..id_bytes]) as u32, body, end }))
    }
}

/// Where the content begins whose size is written at `at`, and that size; `None` inside for an unknown size.
fn ebml_size(file: &mut (impl Read + Seek), at: u64) -> io::Result<Option<(u64, Option<u64>)>> {
    let [first] = read_at::<1>(file, at)?;
    let width = u64::from(first.leading_zeros()) + 1;
    if width > 8 {
        return Ok(None);
    }
    let mut rest = vec![0; width as usize - 1];
    file.read_exact(&mut rest)?;
    let begin = u64::from(first) & ((1 << (8 - width)) - 1);
    let size = rest.iter().fold(begin, |size, byte| size << 8 | u64::from(*byte));
    let unknown = (1 << (7 * width)) - 1;
    Ok(Some((at + width, (size != unknown).then_some(size))))
}

/// AVI: chunks `RIFF`, of which long files have several.
fn riff(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<u64>> {
    let mut at = 0;
    while at + 8 <= length {
        let header: [u8; 8] = read_at(file, at)?;
        let size = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        // Not filled in: written to a pipe, or by a recorder that was switched off; nothing is promised then.
        if &header[..4] != b"RIFF" || size == 0 || size == u32::MAX {
            return Ok(None);
        }
        let end = at + 8 + u64::from(size);
        if end > length {
            return Ok(Some(end));
        }
        at = end + u64::from(size % 2);
    }
    Ok(None)
}

/// Ogg: the last page must end with the file.
fn ogg(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<u64>> {
    let from = length.saturating_sub(LARGEST_PAGE);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(LARGEST_PAGE).read_to_end(&mut tail)?;
    let Some(page) = tail.windows(4).rposition(|window| window == b"OggS") else { return Ok(None) };
    let Some(segments) = tail.get(page + 26) else { return Ok(Some(length + 1)) };
    let table = tail.get(page + 27..page + 27 + usize::from(*segments));
    let Some(table) = table else { return Ok(Some(length + 1)) };
    let body: u64 = table.iter().map(|bytes| u64::from(*bytes)).sum();
    Ok(Some(from + page as u64 + 27 + table.len() as u64 + body))
}

/// Transport streams: packets of 188 bytes. One that ends within a packet was cut there; one that ends between two may
/// have been, and does not show it.
fn transport_stream(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<u64>> {
    let packets = length / TS_PACKET;
    for packet in [1, 2, packets.saturating_sub(1)] {
        if packet >= packets || read_at::<1>(file, packet * TS_PACKET)? != [0x47] {
            return Ok(None);
        }
    }
    Ok(Some(length.next_multiple_of(TS_PACKET)))
}

/// YUV4MPEG2: a line that says how large a picture is, then pictures, each behind a line of its own. libavformat drops a last
/// one that is not whole (yuv4mpegdec.c).
fn y4m(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<u64>> {
    let Some(header) = line_at(file, 0)? else { return Ok(None) };
    let Some(picture) = picture_bytes(&header) else { return Ok(None) };
    let mut at = header.len() as u64;
    while at < length {
        let line = line_at(file, at)?;
        match line {
            None if length - at < LONGEST_LINE => return Ok(Some(length + 1)),
            Some(line) if line.starts_with("FRAME") => at = at.saturating_add(line.len() as u64 + picture),
            _ => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Bytes of a picture, by the header's line; `None` for what is no such line.
fn picture_bytes(header: &str) -> Option<u64> {
    let of = |tag| header.split_ascii_whitespace().find_map(|word| word.strip_prefix(tag));
    let (width, height): (u64, u64) = (of('W')?.parse().ok()?, of('H')?.parse().ok()?);
    let colours = of('C').unwrap_or("420");
    let chroma = |across: u64, down: u64| width.div_ceil(across).checked_mul(height.div_ceil(down))?.checked_mul(2);
    let luma = width.checked_mul(height)?;
    let samples = match colours.get(..3)? {
        "420" => luma.checked_add(chroma(2, 2)?)?,
        "411" => luma.checked_add(chroma(4, 1)?)?,
        "422" => luma.checked_add(chroma(2, 1)?)?,
        "444" if colours == "444alpha" => luma.checked_mul(4)?,
        "444" => luma.checked_mul(3)?,
        "mon" => luma,
        _ => return None,
    };
    // `420p10`, `mono12`; but not `420paldv`.
    let depth =
        colours.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(|c: char| !c.is_ascii_digit());
    samples.checked_mul(if depth.parse::<u8>().is_ok_and(|bits| bits > 8) { 2 } else { 1 })
}

/// A line with its end; `None` where it is no short one of text.
fn line_at(file: &mut (impl Read + Seek), at: u64) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(LONGEST_LINE).read_to_end(&mut bytes)?;
    let end = bytes.iter().position(|byte| *byte == b'\n');
    Ok(end.and_then(|end| String::from_utf8(bytes[..=end].to_vec()).ok()))
}

fn read_at<const N: usize>(file: &mut (impl Read + Seek), at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The outermost boxes of MP4 and QuickTime.
const BOXES: [&[u8; 4]; 17] = [
    b"ftyp", b"moov", b"mdat", b"moof", b"mfra", b"sidx", b"ssix", b"styp", b"free", b"skip", b"wide", b"uuid",
    b"meta", b"pdin", b"emsg", b"prft", b"pnot",
];
const EBML: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];
const SEGMENT: [u8; 4] = [0x18, 0x53, 0x80, 0x67];
const SEGMENT_ID: u32 = u32::from_be_bytes(SEGMENT);
const CLUSTER_ID: u32 = 0x1f43_b675;
/// Void and checksum, which may be anywhere; seek head, info, tracks, cues, attachments, chapters and tags.
const IN_SEGMENT: [u32; 9] =
    [0xec, 0xbf, 0x114d_9b74, 0x1549_a966, 0x1654_ae6b, 0x1c53_bb6b, 0x1941_a469, 0x1043_a770, 0x1254_c367];
/// Time, position, size of the one before, simple block, block group, encrypted block, silent tracks.
const IN_CLUSTER: [u32; 7] = [0xe7, 0xa7, 0xab, 0xa3, 0xa0, 0xaf, 0x5854];
/// A page of Ogg has a header of 27 bytes and at most 255 segments of at most 255 bytes, each counted in a byte.
const LARGEST_PAGE: u64 = 27 + 255 + 255 * 255;
const TS_PACKET: u64 = 188;
/// libavformat takes none longer (yuv4mpegdec.c).
const LONGEST_LINE: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(bytes: &[u8]) -> Option<u64> {
        let length = bytes.len() as u64;
        let end = promised_end(&mut io::Cursor::new(bytes), length).ok().flatten();
        end.map(|end| end.saturating_sub(length)).filter(|missing| *missing > 0)
    }

    #[test]
    fn a_box_that_reaches_beyond_the_end_was_cut() {
        let whole = [&b"\0\0\0\x10ftypisom\0\0\0\0"[..], b"\0\0\0\x0cmdatabcd"].concat();
        assert_eq!(missing(&whole), None);
        assert_eq!(missing(&whole[..26]), Some(2));
        assert_eq!(missing(&[&whole[..], b"junk behind the end"].concat()), None);
        assert_eq!(missing(b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\0mdatto the end"), None);
        assert_eq!(missing(&[&whole[..], b"\0\0\x01"].concat()), None);
        assert_eq!(missing(b"\0\0\0\x08moof\0\0\0\x08mdat\0\0\x01"), Some(5));
    }

    #[test]
    fn pictures_of_yuv4mpeg2_are_as_large_as_the_header_says() {
        for (tag, bytes) in [
            ("", 43),
            (" C420jpeg", 43),
            (" C420paldv", 43),
            (" C420p10 XYSCSS=420P10", 86),
            (" C422", 55),
            (" C411", 45),
            (" C444p12", 150),
            (" C444alpha", 100),
            (" Cmono", 25),
            (" Cmono16", 50),
        ] {
            let header = format!("YUV4MPEG2 W5 H5 F25:1 Ip A1:1{tag}\n");
            let picture = [b"FRAME\n".to_vec(), vec![b'x'; bytes]].concat();
            let whole = [header.as_bytes(), &picture, &picture].concat();
            assert_eq!(missing(&whole), None, "{tag}");
            assert_eq!(missing(&whole[..whole.len() - 4]), Some(4), "{tag}");
            assert_eq!(missing(&whole[..whole.len() - bytes - 3]), Some(1), "{tag}: inside the line");
            assert_eq!(missing(&whole[..whole.len() - bytes - 6]), None, "{tag}: between two");
        }
        assert_eq!(missing(b"YUV4MPEG2 W99999999999 H99999999999 C420\nFRAME\n"), None);
    }

    #[test]
    fn a_matroska_segment_has_a_size_or_is_live() {
        let header = b"\x1a\x45\xdf\xa3\x81x\x18\x53\x80\x67";
        assert_eq!(missing(&[&header[..], b"\x84four"].concat()), None);
        assert_eq!(missing(&[&header[..], b"\x88four"].concat()), Some(4));
        assert_eq!(missing(&[&header[..], b"\x01\xff\xff\xff\xff\xff\xff\xfffour"].concat()), None);
    }

    #[test]
    fn matroska_is_walked_to_its_end() {
        let torn = |bytes: &[u8]| torn(io::Cursor::new(bytes), bytes.len() as u64, &|| true).unwrap();
        let segment =
            |body: &[u8]| [b"\x1a\x45\xdf\xa3\x81x\x18\x53\x80\x67", &[0x80 | body.len() as u8][..], body].concat();
        // A void, a cluster of a time and two blocks, one of unknown size, cues.
        let body = b"\xec\x80\x1f\x43\xb6\x75\x8a\xe7\x81\x00\xa3\x81a\xa3\x82ab\x1f\x43\xb6\x75\xff\xe7\x81\x01\xa0\x80\x1c\x53\xbb\x6b\x80";
        assert!(!torn(&segment(body)));
        for at in [2, 6, 7, 10, 13, 14, 20, 21, 26] {
            let mut broken = body.to_vec();
            broken[at] = 0x55;
            assert!(torn(&segment(&broken)), "{at}");
        }
        assert!(!torn(b"RIFF and so on") && !torn(b"\x1a"));
    }

    #[test]
    fn whatever_the_bytes_are_the_walk_ends() {
        let mut seed = 1_u64;
        let starts: [&[u8]; 6] =
            [b"\x1a\x45\xdf\xa3", b"RIFF", b"OggS", b"\0\0\0\x08ftyp", b"\x47", b"YUV4MPEG2 W2 H2\nFRAME\n"];
        for round in 0..2000 {
            let mut bytes = starts[round % starts.len()].to_vec();
            bytes.extend((0..round % 300).map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 56) as u8
            }));
            missing(&bytes);
            let _ = torn(io::Cursor::new(&bytes), bytes.len() as u64, &|| true);
        }
    }
}
