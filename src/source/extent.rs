//! How long a file says it is: the outermost boxes of the usual containers, walked without reading what is in them.
//!
//! A header that claims a length in seconds may lie (fragmented MP4 with 143166 s for one second of video), and files that
//! were cut claim nothing else than whole ones. But a box that reaches beyond the end of the file was cut, whatever its
//! header says of time; and where every box ends inside the file, a wrong length in seconds is only a wrong length.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// How many bytes the file's own boxes promise beyond its end; 0 for whole files, for formats that promise nothing (raw
/// streams, live Matroska) and for what is no regular file.
pub(super) fn missing_bytes(path: &Path) -> u64 {
    let Ok(mut file) = File::open(path) else { return 0 };
    let Ok(metadata) = file.metadata() else { return 0 };
    if !metadata.is_file() {
        return 0;
    }
    let end = promised_end(&mut file, metadata.len()).ok().flatten();
    end.map_or(0, |end| end.saturating_sub(metadata.len()))
}

/// Where the outermost box ends that the file begins, and perhaps does not hold, last.
fn promised_end(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<u64>> {
    let mut start = [0; 12];
    if file.read_exact(&mut start).is_err() {
        return Ok(None);
    }
    match &start {
        [0x1a, 0x45, 0xdf, 0xa3, ..] => matroska(file),
        [b'R', b'I', b'F', b'F', ..] => riff(file, length),
        [b'O', b'g', b'g', b'S', ..] => ogg(file, length),
        [0x47, ..] => transport_stream(file, length),
        [_, _, _, _, kind @ ..] if is_box(&kind[..4]) => boxes(file, length),
        _ => Ok(None),
    }
}

/// MP4 and QuickTime: boxes of a size and a kind, one after another.
fn boxes(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<u64>> {
    let mut at = 0;
    while at + 8 <= length {
        let header: [u8; 8] = read_at(file, at)?;
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
    Ok(None)
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
const SEGMENT: [u8; 4] = [0x18, 0x53, 0x80, 0x67];
/// A page of Ogg has a header of 27 bytes and at most 255 segments of at most 255 bytes, each counted in a byte.
const LARGEST_PAGE: u64 = 27 + 255 + 255 * 255;
const TS_PACKET: u64 = 188;

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
    }

    #[test]
    fn a_matroska_segment_has_a_size_or_is_live() {
        let header = b"\x1a\x45\xdf\xa3\x81x\x18\x53\x80\x67";
        assert_eq!(missing(&[&header[..], b"\x84four"].concat()), None);
        assert_eq!(missing(&[&header[..], b"\x88four"].concat()), Some(4));
        assert_eq!(missing(&[&header[..], b"\x01\xff\xff\xff\xff\xff\xff\xfffour"].concat()), None);
    }

    #[test]
    fn whatever_the_bytes_are_the_walk_ends() {
        let mut seed = 1_u64;
        let starts: [&[u8]; 5] = [b"\x1a\x45\xdf\xa3", b"RIFF", b"OggS", b"\0\0\0\x08ftyp", b"\x47"];
        for round in 0..2000 {
            let mut bytes = starts[round % starts.len()].to_vec();
            bytes.extend((0..round % 300).map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 56) as u8
            }));
            missing(&bytes);
        }
    }
}
