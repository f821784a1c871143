//! What a decoder must know before the first frame, picked out of a coded stream, so that segments can be compared.

use crate::adapter::Headers;

impl Headers {
    /// The headers among these bytes; empty where there are none.
    pub(crate) fn among(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Headers::H264 => of_units(bytes, |unit| matches!(unit[0] & 31, 7 | 8)),
            Headers::Hevc => of_units(bytes, |unit| matches!(unit[0] >> 1 & 63, 32..=34)),
            Headers::Av1 => sequence_header(bytes).unwrap_or_default().to_vec(),
            Headers::None => Vec::new(),
        }
    }

    /// Whether a packet that libavcodec marks as a key frame is one that a decoder can start at, with nothing behind it that
    /// refers to what is before it.
    pub(crate) fn starts_anew(self, packet: &[u8]) -> bool {
        match self {
            Headers::H264 => units(packet).any(|unit| unit[0] & 31 == 5),
            Headers::Hevc => units(packet).any(|unit| matches!(unit[0] >> 1 & 63, 19 | 20)),
            Headers::Av1 | Headers::None => true,
        }
    }
}

fn of_units(bytes: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut found = Vec::new();
    for unit in units(bytes).filter(|unit| wanted(unit)) {
        found.extend_from_slice(&[0, 0, 1]);
        found.extend_from_slice(unit);
    }
    found
}

/// The units between start codes, none of them empty, without the zeros that may follow.
fn units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(bytes);
    std::iter::from_fn(move || {
        loop {
            let unit = rest?;
            let end = unit.windows(3).position(|three| three == [0, 0, 1]);
            rest = end.map(|end| &unit[end + 3..]);
            let unit = &unit[..end.unwrap_or(unit.len())];
            let used = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if used > 0 {
                return Some(&unit[..used]);
            }
        }
    })
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    bytes.windows(3).position(|three| three == [0, 0, 1]).map(|at| &bytes[at + 3..])
}

/// The payload of the first sequence header of a temporal unit, or of the extradata that libavcodec's encoders give.
fn sequence_header(mut bytes: &[u8]) -> Option<&[u8]> {
    while let [header, rest @ ..] = bytes {
        let (kind, has_extension, has_size) = (header >> 3 & 15, header >> 2 & 1 == 1, header >> 1 & 1 == 1);
        let rest = rest.get(usize::from(has_extension)..)?;
        let (size, rest) = if has_size { leb128(rest)? } else { (rest.len(), rest) };
        let payload = rest.get(..size)?;
        if kind == SEQUENCE_HEADER {
            return Some(payload);
        }
        bytes = &rest[size..];
    }
    None
}

fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0usize;
    for (place, byte) in bytes.iter().enumerate().take(8) {
        value |= usize::from(byte & 127) << (7 * place);
        if byte & 128 == 0 {
            return Some((value, &bytes[place + 1..]));
        }
    }
    None
}

const SEQUENCE_HEADER: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_are_told_from_the_rest() {
        // SEI, SPS, PPS with a zero behind it, IDR slice.
        let stream = [0, 0, 0, 1, 6, 5, 9, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 1, 0x65, 7, 7];
        assert_eq!(Headers::H264.among(&stream), [0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3]);
        assert!(Headers::H264.starts_anew(&stream));
        assert!(!Headers::H264.starts_anew(&[0, 0, 1, 0x41, 7]));
        let hevc = [0, 0, 0, 1, 0x40, 1, 9, 0, 0, 1, 0x4e, 1, 5, 0, 0, 1, 0x2a, 1, 8];
        assert_eq!(Headers::Hevc.among(&hevc), [0, 0, 1, 0x40, 1, 9]);
        assert!(!Headers::Hevc.starts_anew(&hevc), "type 21 is a clean random access, which pictures may lean over");
    }

    #[test]
    fn the_sequence_header_of_av1_is_found_behind_a_temporal_delimiter() {
        let unit = [0x12, 0, 0x0a, 3, 1, 2, 3, 0x32, 2, 8, 8];
        assert_eq!(Headers::Av1.among(&unit), [1, 2, 3]);
        assert_eq!(Headers::Av1.among(&unit[2..7]), [1, 2, 3]);
        assert!(Headers::Av1.among(&[]).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(0u8..3, 0..40)) {
            for headers in [Headers::H264, Headers::Hevc, Headers::Av1, Headers::None] {
                let _ = (headers.among(&bytes), headers.starts_anew(&bytes));
            }
        }
    }
}
