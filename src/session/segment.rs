//! Dividing a stream into segments.

use std::ops::Range;

/// How a stream is divided.
pub(crate) struct Division<'d> {
    /// Frames of a segment, about.
    pub(crate) about: u32,
    /// Each segment but the first begins at a multiple of so many frames.
    pub(crate) group: u32,
    /// Where groups may begin anywhere, a segment begins with the nearest of the first of these that is near its place: scenes,
    /// where a key frame costs nothing; then the source's own key frames, where the picture is renewed anyway.
    pub(crate) places: &'d [&'d [usize]],
    /// Segments are as equal as can be, or such that a rate is met with little coding in vain: two are short, to be coded
    /// before their turn and tell of the others, and the last ones are, because what they miss nobody makes good.
    pub(crate) uneven: bool,
}

impl Division<'_> {
    /// The segments of so many frames, by the numbers of their frames. Each has at least two, where there are two.
    pub(crate) fn of(&self, frames: usize) -> Vec<Range<usize>> {
        let (about, group) = (self.about.max(1) as usize, self.group.max(1) as usize);
        let lengths = lengths(frames, about, self.uneven);
        let (count, whole) = (lengths.len(), lengths.iter().sum::<usize>());
        let start = |number: usize| lengths[..number].iter().sum::<usize>() * frames / whole;
        let mut starts: Vec<usize> = (0..count).map(start).collect();
        for start in starts.iter_mut().skip(1) {
            let nearest = |places: &&[usize]| places.iter().copied().min_by_key(|place| place.abs_diff(*start));
            let is_near = |place: &usize| group == 1 && place.abs_diff(*start) <= about.min(frames / count) / NEAR;
            let near = self.places.iter().find_map(|places| nearest(places).filter(is_near));
            *start = near.unwrap_or((*start + group / 2) / group * group);
        }
        starts.sort_unstable();
        // Where two are too near to one another, the later one goes; so does one that is too near to the end.
        starts.dedup_by(|start, before| *start < *before + FEWEST);
        starts.retain(|start| *start == 0 || start + FEWEST <= frames);
        let ends: Vec<usize> = starts.iter().skip(1).copied().chain([frames]).collect();
        starts.into_iter().zip(ends).map(|(start, end)| start..end).collect()
    }
}

/// How long segments are, in whatever unit.
fn lengths(frames: usize, about: usize, uneven: bool) -> Vec<usize> {
    let others = frames as f64 / about as f64 - SHORT.iter().sum::<usize>() as f64 / USUAL as f64;
    let others = others.round() as usize;
    if !uneven || others < FEWEST_USUAL {
        return vec![USUAL; ((frames + about / 2) / about).min(frames / FEWEST).max(1)];
    }
    let (before, behind) = (others.div_ceil(4), others / 4);
    let between = others - before - behind;
    let [sample, other, last @ ..] = SHORT;
    [vec![USUAL; before], vec![sample], vec![USUAL; between], vec![other], vec![USUAL; behind], last.to_vec()].concat()
}

/// The usual length, those of two segments that are coded before their turn, and those of the last ones.
const USUAL: usize = 4;
const SHORT: [usize; 4] = [2, 2, 2, 1];
/// With fewer there is too little that one could tell of the others.
const FEWEST_USUAL: usize = 2;
/// A cut is near within this part of a segment: no segment is less than half as long as the mean, nor much longer.
const NEAR: usize = 4;
/// Segments of one frame are two key frames in a row, to which H.264 encoders of their own give the same number.
const FEWEST: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn divided(frames: usize, about: u32, group: u32, cuts: &[usize], uneven: bool) -> Vec<Range<usize>> {
        Division { about, group, places: &[cuts, &[]], uneven }.of(frames)
    }

    #[test]
    fn segments_make_up_the_whole_and_are_nearly_equal() {
        for frames in [1, 2, 3, 17, 100, 249, 250, 251, 376, 1000, 12_345] {
            for about in [2, 48, 250] {
                let segments = divided(frames, about, 1, &[], false);
                assert_eq!((segments[0].start, segments[segments.len() - 1].end), (0, frames));
                assert!(segments.windows(2).all(|pair| pair[0].end == pair[1].start));
                let lengths = segments.iter().map(Range::len);
                let (least, most) = (lengths.clone().min().unwrap(), lengths.max().unwrap());
                assert!(most - least <= 1 && (least >= 2 || frames == 1), "{frames} by {about}: {segments:?}");
            }
        }
    }

    #[test]
    fn uneven_segments_are_short_where_they_are_coded_first_and_last() {
        let lengths =
            |frames, about| -> Vec<usize> { divided(frames, about, 1, &[], true).iter().map(Range::len).collect() };
        assert_eq!(lengths(360, 90), [96, 48, 96, 48, 48, 24]);
        assert_eq!(lengths(1687, 250), [249, 250, 125, 250, 250, 125, 250, 125, 63]);
        // Too few to be told from one another.
        assert_eq!(lengths(90, 60), [45, 45]);
        for frames in [1, 2, 17, 100, 359, 12_345] {
            let lengths = lengths(frames, 48);
            assert!(
                lengths.iter().sum::<usize>() == frames && lengths.iter().all(|length| *length >= 2 || frames == 1)
            );
        }
    }

    #[test]
    fn segments_begin_with_scenes_that_begin_near_their_places() {
        let starts =
            |cuts: &[usize]| divided(240, 48, 1, cuts, false).iter().map(|segment| segment.start).collect::<Vec<_>>();
        assert_eq!(starts(&[]), [0, 48, 96, 144, 192]);
        assert_eq!(starts(&[1, 40, 60, 97, 120, 190, 204, 239]), [0, 40, 97, 144, 190]);
        let keys = [38, 96, 150, 191];
        let both = Division { about: 48, group: 1, places: &[&[60, 94], &keys], uneven: false }.of(240);
        assert_eq!(both.iter().map(|segment| segment.start).collect::<Vec<_>>(), [0, 60, 94, 150, 191]);
        for seed in 0..200usize {
            let cuts: Vec<usize> = (0..240).filter(|frame| (frame * 7919 + seed * 104_729) % 13 < seed % 13).collect();
            let segments = divided(240, 8, 1, &cuts, false);
            assert_eq!((segments[0].start, segments[segments.len() - 1].end), (0, 240));
            assert!(segments.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(segments.iter().all(|segment| (4..=12).contains(&segment.len())), "{segments:?}");
        }
    }

    #[test]
    fn segments_begin_where_groups_do() {
        for (frames, uneven) in
            [30, 100, 101, 145, 1000].into_iter().flat_map(|frames| [(frames, false), (frames, true)])
        {
            let segments = divided(frames, 48, 24, &[24, 47, 50], uneven);
            assert!(segments.iter().all(|segment| segment.start % 24 == 0 && segment.len() >= 2), "{segments:?}");
            assert_eq!(segments.iter().map(Range::len).sum::<usize>(), frames);
        }
    }
}
