//! Ranges of time.

use serde::Serialize;

use super::SessionError;

/// A stretch of time: contains its start, not its end. Presentation time, in the session's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TimeRange {
    /// Where it begins.
    pub start: i64,
    /// Where it is over.
    pub end: i64,
}

impl TimeRange {
    /// Whether a time lies in it.
    #[must_use]
    pub fn contains(&self, pts: i64) -> bool {
        (self.start..self.end).contains(&pts)
    }
}

/// At least one range; all are non-empty and disjoint, and they ascend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RangeSet(Vec<TimeRange>);

impl RangeSet {
    /// These ranges. Ranges that touch stay apart.
    ///
    /// # Errors
    /// [`SessionError::Ranges`] where there is none, or one is empty or does not begin at the end of the one before or later.
    pub fn new(ranges: Vec<TimeRange>) -> Result<Self, SessionError> {
        let mut end = i64::MIN;
        for range in &ranges {
            if range.start >= range.end || range.start < end {
                return Err(SessionError::Ranges { start: range.start, end: range.end });
            }
            end = range.end;
        }
        if ranges.is_empty() { Err(SessionError::Ranges { start: 0, end: 0 }) } else { Ok(RangeSet(ranges)) }
    }

    /// All of time: what pass 1 is over.
    #[must_use]
    pub fn everything() -> Self {
        RangeSet(vec![TimeRange { start: i64::MIN, end: i64::MAX }])
    }

    /// The ranges, in order.
    #[must_use]
    pub fn ranges(&self) -> &[TimeRange] {
        &self.0
    }

    /// Whether a time lies in one of them.
    #[must_use]
    pub fn contains(&self, pts: i64) -> bool {
        let after = self.0.partition_point(|range| range.start <= pts);
        after > 0 && self.0[after - 1].contains(pts)
    }
}
