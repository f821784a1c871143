//! How far down a second pass can come, by what a first pass says that its frames took.
//!
//! Invariant: an estimate, by the encoder's own model of a frame: its texture and its motion shrink as its quantizer grows,
//! and the rest (headers, kinds of blocks) does not.

use crate::adapter::FloorModel;

/// What a second pass takes at least, in bits for the whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Floor {
    /// Below this the encoder does not open: what does not shrink.
    pub(crate) refused_below: f64,
    /// With every frame at the coarsest quantizer: an estimate.
    pub(crate) reachable: f64,
}

/// `None` where a line does not say what the model needs.
pub(super) fn of(content: &str, model: &FloorModel, frame: &str) -> Option<Floor> {
    let mut floor = Floor { refused_below: 0.0, reachable: 0.0 };
    for line in content.lines().filter(|line| line.starts_with(frame)) {
        let number = |key: &str| -> Option<f64> {
            line.split_whitespace().find_map(|word| word.strip_prefix(key))?.parse().ok()
        };
        let (texture, motion, rest) = (number(model.texture)?, number(model.motion)?, number(model.rest)?);
        // x264's qp2qscale and qscale2bits (ratecontrol.c), which x265 has too.
        let scale = |quantizer: f64| 0.85 * ((quantizer - 12.0) / 6.0).exp2();
        let (was, coarsest) = (scale(number(model.quantizer)?), scale(model.coarsest));
        let shrunk = (texture + 0.1) * (was / coarsest).powf(1.1) + motion * (was.max(1.0) / coarsest).sqrt();
        floor.refused_below += rest;
        floor.reachable += rest + shrunk;
    }
    Some(floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: FloorModel =
        FloorModel { quantizer: "q:", texture: "tex:", motion: "mv:", rest: "misc:", coarsest: 69.0 };

    #[test]
    fn what_does_not_shrink_is_the_least() {
        let text = "#options: x\nin:0 out:0 type:I q:28.00 aq:20.1 tex:40000 mv:1000 misc:200 ;\n\
                    in:1 out:1 type:P q:69.00 aq:30.0 tex:90 mv:10 misc:30 ;\n";
        let floor = of(text, &MODEL, "in:").unwrap();
        assert_eq!(floor.refused_below, 230.0);
        // The second is at the coarsest already; the first keeps less than a hundredth of its texture.
        assert!(floor.reachable > 230.0 + 100.0 && floor.reachable < 230.0 + 100.0 + 0.01 * 40_000.0 + 0.1 * 1000.0);
    }

    #[test]
    fn lines_that_do_not_say_it_give_no_estimate() {
        assert_eq!(of("in:0 out:0 type:I q:28 tex:1 mv:1 ;\n", &MODEL, "in:"), None);
    }
}
