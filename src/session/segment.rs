//! Dividing a stream into segments.

use std::ops::Range;

/// Segments of about so many frames, as equal as can be, each but the first beginning at a multiple of `group`; by the
/// numbers of their frames. Each has at least two, where there are two. Where groups may begin anywhere, a segment begins
/// with the scene that begins near its place: a key frame costs nothing there.
pub(crate) fn divided(frames: usize, about: u32, group: u32, cuts: &[usize]) -> Vec<Range<usize>> {
    let (about, group) = (about.max(1) as usize, group.max(1) as usize);
    let count = ((frames + about / 2) / about).min(frames / FEWEST).max(1);
    let mut starts: Vec<usize> = (0..count).map(|number| number * frames / count).collect();
    for start in starts.iter_mut().skip(1) {
        let cut = cuts.iter().copied().min_by_key(|cut| cut.abs_diff(*start));
        let near = cut.filter(|cut| group == 1 && cut.abs_diff(*start) <= frames / count / NEAR);
        *start = near.unwrap_or((*start + group / 2) / group * group);
    }
    starts.dedup();
    starts.retain(|start| *start == 0 || start + FEWEST <= frames);
    let ends = starts.iter().skip(1).copied().chain([frames]).collect::<Vec<_>>();
    let long_enough = |(start, end): &(usize, usize)| end - start >= FEWEST || (*start, *end) == (0, frames);
    debug_assert!(starts.iter().copied().zip(ends.iter().copied()).all(|pair| long_enough(&pair) || group < FEWEST));
    starts.into_iter().zip(ends).map(|(start, end)| start..end).collect()
}

/// A cut is near within this part of a segment: no segment is less than half as long as the mean, nor much longer.
const NEAR: usize = 4;
/// Segments of one frame are two key frames in a row, to which H.264 encoders of their own give the same number.
const FEWEST: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_make_up_the_whole_and_are_nearly_equal() {
        for frames in [1, 2, 3, 17, 100, 249, 250, 251, 376, 1000, 12_345] {
            for about in [2, 48, 250] {
                let segments = divided(frames, about, 1, &[]);
                assert_eq!((segments[0].start, segments[segments.len() - 1].end), (0, frames));
                assert!(segments.windows(2).all(|pair| pair[0].end == pair[1].start));
                let lengths = segments.iter().map(Range::len);
                let (least, most) = (lengths.clone().min().unwrap(), lengths.max().unwrap());
                assert!(most - least <= 1 && (least >= 2 || frames == 1), "{frames} by {about}: {segments:?}");
            }
        }
    }

    #[test]
    fn segments_begin_with_scenes_that_begin_near_their_places() {
        let starts = |cuts: &[usize]| divided(240, 48, 1, cuts).iter().map(|segment| segment.start).collect::<Vec<_>>();
        assert_eq!(starts(&[]), [0, 48, 96, 144, 192]);
        assert_eq!(starts(&[1, 40, 60, 97, 120, 190, 204, 239]), [0, 40, 97, 144, 190]);
        for seed in 0..200usize {
            let cuts: Vec<usize> = (0..240).filter(|frame| (frame * 7919 + seed * 104_729) % 13 < seed % 13).collect();
            let segments = divided(240, 8, 1, &cuts);
            assert_eq!((segments[0].start, segments[segments.len() - 1].end), (0, 240));
            assert!(segments.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(segments.iter().all(|segment| (4..=12).contains(&segment.len())), "{segments:?}");
        }
    }

    #[test]
    fn segments_begin_where_groups_do() {
        for frames in [30, 100, 101, 145, 1000] {
            let segments = divided(frames, 48, 24, &[24, 47, 50]);
            assert!(segments.iter().all(|segment| segment.start % 24 == 0 && segment.len() >= 2), "{segments:?}");
            assert_eq!(segments.iter().map(Range::len).sum::<usize>(), frames);
        }
    }
}
