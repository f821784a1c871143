//! A measured quality as the target of a session: why it is not to be had.

use super::{Passes, Request};
use crate::error::Refusal;
use crate::probe::Capabilities;
use crate::quality::Metric;
use crate::rate::QualityTarget;

/// Why segments cannot be held to a measured quality.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotMeasured {
    /// A number of passes that is not a session's.
    #[error("segments that miss it are coded again, as often as it takes: leave out --passes")]
    Passes,
    /// This build, or the linked libavfilter, has no such metric.
    #[error("{0} cannot be measured here; it needs {needs}", needs = .0.needs())]
    Metric(Metric),
    /// The linked libavcodec cannot decode what the encoder makes.
    #[error(
        "the linked libavcodec has no decoder for {0} that works without hardware, and segments are measured by decoding them"
    )]
    Decoder(&'static str),
    /// A value that no picture has, or nobody wants.
    #[error("{metric}={value} is not from {least} to {greatest}", least = .metric.range().0, greatest = .metric.range().1)]
    Value {
        /// Of this metric.
        metric: Metric,
        /// As it was asked for.
        value: String,
    },
    /// A tolerance that nothing is within.
    #[error("a tolerance of {0} leaves nothing to be within; it takes a number above 0")]
    Tolerance(String),
}

impl NotMeasured {
    /// The same as a refusal.
    #[must_use]
    pub fn of(self, encoder: &str) -> Refusal {
        Refusal::NotMeasured { encoder: encoder.to_owned(), why: self }
    }
}

/// Whether segments of this request can be held to a quality.
pub(super) fn check(target: &QualityTarget, request: &Request, capabilities: &Capabilities) -> Result<(), NotMeasured> {
    let QualityTarget { metric, value, tolerance, .. } = *target;
    let (least, greatest) = metric.range();
    match () {
        () if request.passes_meant() != Passes::Session => Err(NotMeasured::Passes),
        () if !capabilities.metrics.contains(&metric) => Err(NotMeasured::Metric(metric)),
        () if capabilities.decoder.is_none() => Err(NotMeasured::Decoder(request.adapter.codec)),
        () if !(least..=greatest).contains(&value) => Err(NotMeasured::Value { metric, value: value.to_string() }),
        () if !(tolerance > 0.0 && tolerance.is_finite()) => Err(NotMeasured::Tolerance(tolerance.to_string())),
        () => Ok(()),
    }
}
