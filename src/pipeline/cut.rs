//! Scene cuts, found while frames go by.
//!
//! The measure is that of libavfilter's `scdet` (vf_scdet.c), over a grid of samples instead of all: the mean difference to
//! the frame before, and how much that differs from the one before it, whichever is less, as a share of the full range.

use crate::av::frame::Frame;

/// Compares each frame with the one before.
#[derive(Default)]
pub(crate) struct CutFinder {
    /// Samples of the frame before.
    before: Vec<u16>,
    /// Mean difference of the frame before to the one before it.
    change: f64,
}

impl CutFinder {
    /// Whether another scene begins with this frame. Frames without planes in memory show none.
    pub(crate) fn is_cut(&mut self, frame: &Frame) -> bool {
        let (bits, wide) = (frame.bit_depth().clamp(8, 16), frame.bit_depth() > 8);
        let mut samples = Vec::with_capacity(self.before.len());
        let seen = frame.for_each_row_of_plane(|plane, row, bytes| {
            if plane == 0 && row % DISTANCE == 0 {
                match wide {
                    true => samples.extend(
                        bytes.chunks_exact(2).step_by(DISTANCE).map(|pair| u16::from_le_bytes([pair[0], pair[1]])),
                    ),
                    false => samples.extend(bytes.iter().step_by(DISTANCE).map(|byte| u16::from(*byte))),
                }
            }
        });
        if seen.is_err() || samples.is_empty() {
            return false;
        }
        let same_size = samples.len() == self.before.len();
        let pairs = samples.iter().zip(&self.before);
        let sum: u64 = pairs.map(|(is, was)| u64::from(is.abs_diff(*was))).sum();
        let change = sum as f64 / samples.len() as f64 / f64::from((1u32 << bits) - 1);
        let score = change.min((change - self.change).abs());
        self.before = samples;
        self.change = if same_size { change } else { 0.0 };
        same_size && score >= CUT
    }
}

/// Rows and columns from one sample to the next.
const DISTANCE: usize = 8;
/// The default threshold of `scdet`: a tenth of the full range.
const CUT: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(format: &str, shade: u8, shift: u8) -> Frame {
        let mut frame = Frame::allocate(64, 48, format).unwrap();
        let draw = |plane: usize, row: usize, bytes: &mut [u8]| {
            let step = if format.ends_with("le") { 2 } else { 1 };
            for (column, byte) in bytes.iter_mut().enumerate() {
                let is_low = step == 2 && column % 2 == 0;
                let value = shade.wrapping_add((column / step) as u8).wrapping_add(row as u8).wrapping_add(shift) / 2;
                // Ten bits: the high byte has two of them.
                *byte = match (plane, step, is_low) {
                    (0, 1, _) => value,
                    (0, _, true) => value << 2,
                    (0, _, false) => value >> 6,
                    _ => 0,
                };
            }
        };
        frame.draw(draw).unwrap();
        frame
    }

    #[test]
    fn a_change_of_scene_is_a_cut_and_motion_is_none() {
        for format in ["yuv420p", "yuv420p10le", "gray"] {
            let mut finder = CutFinder::default();
            let frames = (0..12).map(|number| picture(format, if number < 6 { 0 } else { 120 }, number));
            let cuts: Vec<bool> = frames.map(|frame| finder.is_cut(&frame)).collect();
            let expected: Vec<bool> = (0..12).map(|number| number == 6).collect();
            assert_eq!(cuts, expected, "{format}");
        }
    }
}
