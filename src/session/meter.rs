//! The quality of a segment, measured on the thread that codes it: packets are decoded as they come, and compared with the
//! frames that they were made of.
//!
//! Invariants: pairs are compared in the order in which they are shown, one after the other on one thread; as many frames come
//! back as went in; what cannot be compared sample by sample is an error.

use std::collections::VecDeque;

use super::SessionError;
use crate::av::filter::{FilterInput, VideoFilter};
use crate::av::frame::{Frame, chroma_step};
use crate::av::muxer::EncodedStream;
use crate::av::packet::Packet;
use crate::av::source::Decoder;
use crate::av::{AvError, Received};
use crate::error::Error;
use crate::media::Rational;
use crate::quality::{Judge, Metric, check_pair};

/// A segment on its way through its encoder and back.
pub(super) struct Meter {
    metric: Metric,
    /// Frames per second.
    rate: Rational,
    decoder: Decoder,
    /// Frames that went in and have not come back.
    under_way: VecDeque<Frame>,
    back: Frame,
    comparison: Option<Judge>,
    layout: Option<VideoFilter>,
    sent: u64,
    compared: u64,
}

impl Meter {
    pub(super) fn open(metric: Metric, stream: &EncodedStream, rate: Rational) -> Result<Self, SessionError> {
        let decoder = Decoder::open_beside(stream).map_err(undecodable)?;
        let back = Frame::new().map_err(undecodable)?;
        let under_way = VecDeque::new();
        Ok(Meter { metric, rate, decoder, under_way, back, comparison: None, layout: None, sent: 0, compared: 0 })
    }

    /// The encoder was given this frame.
    pub(super) fn sent(&mut self, frame: Frame) {
        self.sent += 1;
        self.under_way.push_back(frame);
    }

    /// The encoder gave this packet.
    pub(super) fn coded(&mut self, packet: &Packet) -> Result<(), SessionError> {
        self.decoder.send(packet).map_err(undecodable)?;
        self.compare()
    }

    /// The mean over all frames, in the metric's unit.
    pub(super) fn finish(mut self) -> Result<f64, SessionError> {
        self.decoder.send_end().map_err(undecodable)?;
        self.compare()?;
        if let Some(damage) = self.decoder.last_damage() {
            return Err(undecodable(damage));
        }
        let comparison = self.comparison.take().filter(|_| self.sent == self.compared);
        let comparison = comparison.ok_or(SessionError::Decoded { frames: self.compared, sent: self.sent })?;
        let values = comparison.finish()?;
        Ok(values.iter().sum::<f64>() / values.len().max(1) as f64)
    }

    /// Compares what has come back.
    fn compare(&mut self) -> Result<(), SessionError> {
        while self.decoder.receive(&mut self.back).map_err(undecodable)? == Received::Ready {
            let more = SessionError::Decoded { frames: self.compared + 1, sent: self.sent };
            let mut original = self.under_way.pop_front().ok_or(more)?;
            original.spell_range_apart();
            self.back.spell_range_apart();
            let original = self.laid_out(original)?;
            check_pair(&original, &self.back, self.compared)?;
            let comparison = match &mut self.comparison {
                Some(comparison) => comparison,
                none => none.insert(Judge::open(self.metric, &self.back, self.rate, 0)?),
            };
            comparison.take_one(&original, &self.back)?;
            self.compared += 1;
        }
        Ok(())
    }

    /// The original with its samples laid out as the decoder lays them out (`nv12` as `yuv420p`), where they are the same ones.
    fn laid_out(&mut self, original: Frame) -> Result<Frame, SessionError> {
        let (from, to) = (original.pixel_format(), self.back.pixel_format());
        let is_same_kind = original.bit_depth() == self.back.bit_depth() && chroma_step(&from) == chroma_step(&to);
        if from == to || !is_same_kind {
            return Ok(original);
        }
        let layout = match &mut self.layout {
            Some(layout) => layout,
            none => {
                let time_base = self.rate.inverse();
                let input = FilterInput { time_base, frame_rate: Some(self.rate), sample_aspect_ratio: None };
                none.insert(VideoFilter::open(&original, &input, &format!("format={to}"), 1, Some(1))?)
            }
        };
        layout.push(original)?;
        let mut laid_out = Frame::new().map_err(undecodable)?;
        match layout.pull(0, &mut laid_out)? {
            Received::Ready => Ok(laid_out),
            Received::NeedInput | Received::Done => Err(Error::Stopped.into()),
        }
    }
}

fn undecodable(source: AvError) -> SessionError {
    SessionError::Undecodable { source }
}
