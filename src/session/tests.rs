use std::sync::Arc;

use super::*;
use crate::av::packet::Packet;

type SpoilFrames = fn(u32, i64) -> Given;
type SpoilPackets = fn(u8, &mut Vec<(i64, u8)>);

/// An encoder that enforces the contract: order of calls, rising times, ranges. It reorders like one with B-frames, marks each
/// packet with the number of its pass, and asks for what its script says.
struct Strict<'s> {
    silo: &'s Silo,
    script: Vec<Verdict>,
    passes: u8,
    open: Option<PassKind>,
    ranges: RangeSet,
    group: Vec<i64>,
    /// Spoils the packets of a pass before they go into the silo.
    spoil: SpoilPackets,
}

impl<'s> Strict<'s> {
    fn new(silo: &'s Silo, script: &[Verdict]) -> Self {
        let script = script.to_vec();
        let ranges = RangeSet::everything();
        Strict { silo, script, passes: 0, open: None, ranges, group: Vec::new(), spoil: |_, _| {} }
    }

    /// Packets of the frames at hand: each third first, then the two before it.
    fn flush(&mut self) -> Result<(), SessionError> {
        let group = std::mem::take(&mut self.group);
        let coded = group.chunks(3).flat_map(|three| three.last().into_iter().chain(&three[..three.len() - 1]));
        let mut packets: Vec<(i64, u8)> = coded.map(|pts| (*pts, self.passes)).collect();
        (self.spoil)(self.passes, &mut packets);
        packets.into_iter().try_for_each(|(pts, pass)| self.silo.add(packet(pts, pass)))
    }
}

fn packet(pts: i64, mark: u8) -> EncodedPacket {
    let mut packet = Packet::copied_from(&[mark], true).unwrap();
    packet.set_times(Some(pts), Some(pts), 1);
    EncodedPacket { packet, headers: Arc::from(&b"headers"[..]) }
}

impl PassEncoder for Strict<'_> {
    fn begin_pass(&mut self, kind: PassKind, ranges: &RangeSet) -> Result<(), SessionError> {
        if self.open.replace(kind).is_some() {
            return Err(SessionError::PassOpen);
        }
        self.passes += 1;
        self.ranges = ranges.clone();
        Ok(())
    }

    fn encode(&mut self, frame: SourceFrame<'_>) -> Result<(), SessionError> {
        self.open.ok_or(SessionError::NotInPass)?;
        if !self.ranges.contains(frame.pts) {
            return Err(SessionError::OutsideRanges { pts: frame.pts });
        }
        let range = |pts: i64| self.ranges.ranges().iter().position(|range| range.contains(pts));
        if self.group.last().is_some_and(|last| range(*last) != range(frame.pts)) {
            self.flush()?;
        }
        self.group.push(frame.pts);
        Ok(())
    }

    fn end_pass(&mut self, ask: Ask) -> Result<Verdict, SessionError> {
        let kind = self.open.take().ok_or(SessionError::NotInPass)?;
        assert_eq!(kind == PassKind::Final, ask == Ask::CertainlyLast, "the last pass is begun and ended as such");
        self.flush()?;
        Ok(if self.script.is_empty() { Verdict::Satisfied } else { self.script.remove(0) })
    }
}

/// So many small frames at every other tick; `spoil` may change what a pass is given.
struct Frames {
    count: i64,
    replays: u32,
    spoil: SpoilFrames,
}

enum Given {
    AsItIs,
    Other,
    Longer,
    Missing,
}

impl Replay for Frames {
    fn replay(
        &mut self,
        ranges: &RangeSet,
        each: &mut dyn FnMut(SourceFrame<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        self.replays += 1;
        for pts in (0..self.count).map(|number| number * 2).filter(|pts| ranges.contains(*pts)) {
            let mut frame = Frame::allocate(16, 16, "gray").unwrap();
            let (luma, duration) = match (self.spoil)(self.replays, pts) {
                Given::AsItIs => (pts as u8, 2),
                Given::Other => (pts as u8 + 1, 2),
                Given::Longer => (pts as u8, 3),
                Given::Missing => continue,
            };
            frame.draw(|_, _, row| row.fill(luma)).unwrap();
            each(SourceFrame { frame: &frame, pts, duration })?;
        }
        Ok(())
    }
}

fn frames(spoil: SpoilFrames) -> Frames {
    Frames { count: 12, replays: 0, spoil }
}

fn ranges(pairs: &[(i64, i64)]) -> RangeSet {
    RangeSet::new(pairs.iter().map(|(start, end)| TimeRange { start: *start, end: *end }).collect()).unwrap()
}

fn further(pairs: &[(i64, i64)]) -> Verdict {
    Verdict::Further(ranges(pairs))
}

fn passes(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

/// Runs a script; the stream as (time, pass) in decoding order.
fn played(script: &[Verdict], limit: u32) -> (Outcome, Vec<(i64, u8)>) {
    let silo = Silo::new();
    let mut encoder = Strict::new(&silo, script);
    let mut source = frames(|_, _| Given::AsItIs);
    let outcome = run(&mut encoder, &silo, &mut source, passes(limit), &Cancel::new(), &mut |_, _| {}).unwrap();
    let stream = silo.into_packets();
    (outcome, stream.iter().map(|packet| (packet.pts().unwrap(), packet.data()[0])).collect())
}

fn refused(script: &[Verdict], spoil: SpoilFrames, packets: SpoilPackets) -> String {
    let silo = Silo::new();
    let mut encoder = Strict { spoil: packets, ..Strict::new(&silo, script) };
    let result = run(&mut encoder, &silo, &mut frames(spoil), passes(5), &Cancel::new(), &mut |_, _| {});
    result.unwrap_err().to_string()
}

#[test]
fn a_satisfied_encoder_sees_every_frame_once() {
    let (outcome, stream) = played(&[], 5);
    assert_eq!((outcome.stopped, outcome.passes.len(), outcome.passes[0].frames), (Stopped::Satisfied, 1, 12));
    let times: Vec<i64> = stream.iter().map(|(pts, _)| *pts).collect();
    assert_eq!(times, [4, 0, 2, 10, 6, 8, 16, 12, 14, 22, 18, 20]);
}

#[test]
fn only_wanted_ranges_go_through_again_and_the_last_emission_wins() {
    let script = [further(&[(6, 12), (18, 24)]), further(&[(18, 24)])];
    let (outcome, stream) = played(&script, 5);
    assert_eq!(outcome.stopped, Stopped::Satisfied);
    let given: Vec<u64> = outcome.passes.iter().map(|pass| pass.frames).collect();
    assert_eq!(given, [12, 6, 3]);
    let by_pass: Vec<u8> = stream.iter().map(|(_, pass)| *pass).collect();
    assert_eq!(by_pass, [1, 1, 1, 2, 2, 2, 1, 1, 1, 3, 3, 3]);
    let times: Vec<i64> = stream.iter().map(|(pts, _)| *pts).collect();
    assert_eq!(times, [4, 0, 2, 10, 6, 8, 16, 12, 14, 22, 18, 20]);
}

#[test]
fn ranges_at_both_ends_and_odd_ones_find_their_places() {
    for pairs in [&[(0, 6)][..], &[(-100, 6), (18, 1000)], &[(0, 6), (6, 12), (12, 18), (18, 24)], &[(5, 11), (17, 24)]]
    {
        let (outcome, stream) = played(&[further(pairs)], 5);
        assert_eq!(outcome.stopped, Stopped::Satisfied, "{pairs:?}");
        let wanted = ranges(pairs);
        assert!(stream.iter().all(|(pts, pass)| *pass == 1 + u8::from(wanted.contains(*pts))), "{pairs:?}: {stream:?}");
    }
}

#[test]
fn a_run_that_stops_at_its_limit_is_not_satisfied() {
    let script: Vec<Verdict> = (0..9).map(|_| further(&[(0, 6)])).collect();
    for limit in 1..5 {
        let (outcome, _) = played(&script, limit);
        assert_eq!((outcome.stopped, outcome.passes.len()), (Stopped::PassLimit, limit as usize));
    }
    // Nobody asked it in the end, so its contentment is not known.
    assert_eq!(played(&[further(&[(0, 6)])], 2).0.stopped, Stopped::PassLimit);
}

#[test]
fn frames_that_differ_from_pass_1_are_refused() {
    let again = [further(&[(6, 12)])];
    let spoiled: [(SpoilFrames, &str); 3] = [
        (|replay, pts| if (replay, pts) == (2, 8) { Given::Other } else { Given::AsItIs }, "the frame at 8 is not"),
        (|replay, pts| if (replay, pts) == (2, 8) { Given::Longer } else { Given::AsItIs }, "the frame at 8 is not"),
        (
            |replay, pts| if (replay, pts) == (2, 8) { Given::Missing } else { Given::AsItIs },
            "2 frames were given of 3",
        ),
    ];
    for (spoil, words) in spoiled {
        let error = refused(&again, spoil, |_, _| {});
        assert!(error.contains(words), "{error}");
    }
    let error = refused(&[further(&[(100, 200)])], |_, _| Given::AsItIs, |_, _| {});
    assert!(error.contains("0 frames were given of 0"), "{error}");
}

#[test]
fn packets_are_one_for_each_frame() {
    let all = |_, _| Given::AsItIs;
    let spoiled: [(SpoilPackets, &str); 4] = [
        (|_, packets| packets.retain(|(pts, _)| *pts != 8), "no packet for the frame at 8"),
        (|_, packets| packets.push((8, 1)), "two packets for the frame at 8"),
        (|_, packets| packets.push((9, 1)), "a packet for 9, where there is no frame"),
        (
            |pass, packets| {
                if pass == 2 {
                    packets.push((14, 2))
                }
            },
            "time 14 lies outside",
        ),
    ];
    for (spoil, words) in spoiled {
        let error = refused(&[further(&[(6, 12)])], all, spoil);
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_stretch_that_leans_on_another_is_not_closed() {
    // Pass 1 coded 10 before 6 and 8: a range that begins at 8 splits them.
    let error = refused(&[further(&[(8, 12)])], |_, _| Given::AsItIs, |_, _| {});
    assert!(error.contains("not closed"), "{error}");
}

#[test]
fn other_headers_are_refused() {
    let silo = Silo::new();
    silo.begin_pass(&RangeSet::everything()).unwrap();
    silo.add(packet(0, 1)).unwrap();
    let other = EncodedPacket { headers: Arc::from(&b"others"[..]), ..packet(1, 1) };
    assert!(matches!(silo.add(other), Err(SessionError::HeaderMismatch { pts: 1 })));
}

#[test]
fn calls_out_of_order_are_errors() {
    let silo = Silo::new();
    assert!(matches!(silo.add(packet(0, 1)), Err(SessionError::NotInPass)));
    assert!(matches!(silo.end_pass([0].into_iter()), Err(SessionError::NotInPass)));
    silo.begin_pass(&RangeSet::everything()).unwrap();
    assert!(matches!(silo.begin_pass(&RangeSet::everything()), Err(SessionError::PassOpen)));
}

#[test]
fn ranges_that_do_not_ascend_are_refused() {
    let range = |start, end| TimeRange { start, end };
    for bad in
        [vec![], vec![range(3, 3)], vec![range(4, 3)], vec![range(3, 5), range(4, 6)], vec![range(3, 5), range(0, 2)]]
    {
        assert!(RangeSet::new(bad.clone()).is_err(), "{bad:?}");
    }
    let set = ranges(&[(0, 2), (2, 4), (6, 8)]);
    let inside: Vec<i64> = (-1..10).filter(|pts| set.contains(*pts)).collect();
    assert_eq!(inside, [0, 1, 2, 3, 6, 7]);
}

#[test]
fn a_cancelled_session_ends_at_the_next_frame() {
    let (silo, cancel) = (Silo::new(), Cancel::new());
    cancel.stop();
    let mut encoder = Strict::new(&silo, &[]);
    let mut source = frames(|_, _| Given::AsItIs);
    let ended = run(&mut encoder, &silo, &mut source, passes(2), &cancel, &mut |_, _| {}).unwrap_err();
    assert!(matches!(ended.of("fake"), Error::Interrupted));
}

#[test]
fn decoding_times_rise_and_never_follow_presentation() {
    assert_eq!(decoding_times(&[0, 1, 2], 1), [0, 1, 2]);
    assert_eq!(decoding_times(&[0, 3, 1, 2, 4], 1), [-1, 0, 1, 2, 3]);
    // 40 ms frames, then a segment of 100 ms ones: what its own encoder would say is before what was.
    let shown = [0, 120, 40, 80, 160, 460, 260, 360];
    let coded = decoding_times(&shown, 40);
    assert_eq!(coded, [-40, 0, 40, 80, 120, 160, 260, 360]);
    proptest::proptest!(|(order in proptest::collection::vec(0i64..500, 1..40))| {
        let mut times = order;
        times.sort_unstable();
        times.dedup();
        // Swaps within groups of four: a reordering of some depth.
        for four in times.chunks_mut(4) {
            four.rotate_right(1);
        }
        let coded = decoding_times(&times, 7);
        proptest::prop_assert!(coded.windows(2).all(|pair| pair[0] < pair[1]));
        proptest::prop_assert!(coded.iter().zip(&times).all(|(dts, pts)| dts <= pts));
        proptest::prop_assert_eq!(coded.len(), times.len());
    });
}
