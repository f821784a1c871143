//! The silo: the packets of all passes, merged into one stream.
//!
//! Invariant: a pass's packets take the place of those whose times lie in its ranges, as a whole, when the pass ends; until
//! then the stream is that of the passes before.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{RangeSet, SessionError, TimeRange};
use crate::av::packet::Packet;

/// A packet, and the headers that decoding it needs.
pub struct EncodedPacket {
    /// The packet; its times are in the session's ticks.
    pub packet: Packet,
    /// Its stream's headers, without what does not matter to a decoder; empty where there are none.
    pub headers: Arc<[u8]>,
}

/// Collects packets from any thread, each pass's in decoding order.
#[derive(Default)]
pub struct Silo(Mutex<Content>);

#[derive(Default)]
struct Content {
    /// The stream of all ended passes in decoding order, with presentation times.
    merged: Vec<(i64, Packet)>,
    /// Packets of the open pass as they come.
    fresh: Vec<(i64, Packet)>,
    pass: Option<RangeSet>,
    headers: Option<Arc<[u8]>>,
}

impl Silo {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Silo::default()
    }

    /// Opens a pass: packets of these ranges are awaited.
    ///
    /// # Errors
    /// [`SessionError::PassOpen`].
    pub fn begin_pass(&self, ranges: &RangeSet) -> Result<(), SessionError> {
        match self.content().pass.replace(ranges.clone()) {
            None => Ok(()),
            Some(_) => Err(SessionError::PassOpen),
        }
    }

    /// Takes the next packet of the pass, in decoding order.
    ///
    /// # Errors
    /// [`SessionError::NotInPass`], [`SessionError::OutsideRanges`], [`SessionError::HeaderMismatch`].
    pub fn add(&self, encoded: EncodedPacket) -> Result<(), SessionError> {
        let mut content = self.content();
        let EncodedPacket { packet, headers } = encoded;
        let ranges = content.pass.as_ref().ok_or(SessionError::NotInPass)?;
        let pts = packet.pts().unwrap_or(i64::MIN);
        if !ranges.contains(pts) {
            return Err(SessionError::OutsideRanges { pts });
        }
        if *content.headers.get_or_insert_with(|| headers.clone()) != headers {
            return Err(SessionError::HeaderMismatch { pts });
        }
        content.fresh.push((pts, packet));
        Ok(())
    }

    /// Ends the pass: its packets take their places. `frames`: the times of all frames of the stream, ascending.
    ///
    /// # Errors
    /// [`SessionError::NotInPass`]; [`SessionError::NoPacket`], [`SessionError::TwoPackets`] and [`SessionError::NoFrame`]
    /// where packets are not one for each frame; [`SessionError::NotClosed`] where packets of a range do not stand together.
    pub fn end_pass(&self, frames: impl Iterator<Item = i64>) -> Result<(), SessionError> {
        let mut content = self.content();
        let ranges = content.pass.take().ok_or(SessionError::NotInPass)?;
        // What stays must not lean on what goes, nor the other way round.
        ranges.ranges().iter().try_for_each(|range| closed(&content.merged, *range))?;
        let kept = mem::take(&mut content.merged).into_iter().filter(|(pts, _)| !ranges.contains(*pts)).collect();
        let fresh = mem::take(&mut content.fresh);
        content.merged = spliced(kept, fresh, ranges.ranges());
        one_for_each(content.merged.iter().map(|(pts, _)| *pts), frames)?;
        ranges.ranges().iter().try_for_each(|range| closed(&content.merged, *range))
    }

    /// How many bytes the packets of a range have.
    #[must_use]
    pub fn bytes(&self, range: TimeRange) -> u64 {
        let content = self.content();
        let inside = content.merged.iter().filter(|(pts, _)| range.contains(*pts));
        inside.map(|(_, packet)| packet.data().len() as u64).sum()
    }

    /// The stream in decoding order. What encoders say of decoding times does not survive the splicing (each session of an
    /// encoder invents its first ones): see [`decoding_times`].
    #[must_use]
    pub fn into_packets(self) -> Vec<Packet> {
        let content = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        content.merged.into_iter().map(|(_, packet)| packet).collect()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // A thread that panicked while it held this left whole packets behind, and the panic goes on where it is joined.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts packets of these ranges before the first kept one that is shown after their range.
fn spliced(kept: Vec<(i64, Packet)>, fresh: Vec<(i64, Packet)>, ranges: &[TimeRange]) -> Vec<(i64, Packet)> {
    let mut spliced = Vec::with_capacity(kept.len() + fresh.len());
    let (mut kept, mut fresh) = (kept.into_iter().peekable(), fresh.into_iter().peekable());
    for range in ranges {
        while let Some(packet) = kept.next_if(|(pts, _)| *pts < range.start) {
            spliced.push(packet);
        }
        while let Some(packet) = fresh.next_if(|(pts, _)| *pts < range.end) {
            spliced.push(packet);
        }
    }
    spliced.extend(fresh);
    spliced.extend(kept);
    spliced
}

fn one_for_each(packets: impl Iterator<Item = i64>, frames: impl Iterator<Item = i64>) -> Result<(), SessionError> {
    let mut packets: Vec<i64> = packets.collect();
    packets.sort_unstable();
    if let Some(twice) = packets.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(SessionError::TwoPackets { pts: twice[0] });
    }
    let mut packets = packets.into_iter().peekable();
    for frame in frames {
        match packets.next() {
            Some(pts) if pts == frame => {}
            Some(pts) if pts < frame => return Err(SessionError::NoFrame { pts }),
            _ => return Err(SessionError::NoPacket { pts: frame }),
        }
    }
    packets.next().map_or(Ok(()), |pts| Err(SessionError::NoFrame { pts }))
}

/// What is decoded before a range is shown before it, what is decoded after it is shown after it.
fn closed(stream: &[(i64, Packet)], range: TimeRange) -> Result<(), SessionError> {
    let start = range.start;
    let not_closed = |why| Err(SessionError::NotClosed { start, why });
    let Some(first) = stream.iter().position(|(pts, _)| range.contains(*pts)) else { return Ok(()) };
    let count = stream.iter().filter(|(pts, _)| range.contains(*pts)).count();
    let inside = &stream[first..first + count];
    match () {
        () if inside.iter().any(|(pts, _)| !range.contains(*pts)) => {
            not_closed("packets of other stretches stand among its own")
        }
        () if stream[..first].iter().any(|(pts, _)| *pts >= start) => {
            not_closed("a packet before it is shown after it")
        }
        () if stream[first + count..].iter().any(|(pts, _)| *pts < start) => {
            not_closed("a packet after it is shown before it")
        }
        () => Ok(()),
    }
}

/// Decoding times for packets that are shown at these times, given in decoding order: the n-th packet is decoded when the
/// frame is shown that comes `delay` places before the n-th one shown, where `delay` is the deepest reordering of the stream.
/// The first ones have no such frame; they precede the first by `period` ticks each.
#[must_use]
pub fn decoding_times(shown: &[i64], period: i64) -> Vec<i64> {
    let mut sorted = shown.to_vec();
    sorted.sort_unstable();
    let place = |pts: i64| sorted.partition_point(|other| *other < pts);
    let delay = shown.iter().enumerate().map(|(coded, pts)| coded.saturating_sub(place(*pts))).max().unwrap_or(0);
    let first = sorted.first().copied().unwrap_or(0);
    let before = (0..delay.min(sorted.len())).map(|number| first - (delay - number) as i64 * period);
    before.chain(sorted.iter().copied()).take(shown.len()).collect()
}
