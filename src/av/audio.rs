//! stub
use crate::av::{AvError, Received, muxer::EncodedStream, packet::Packet, source::StreamParameters};
use crate::{audio::AudioSpec, error::Error, media::Rational};
pub struct AudioTranscoder;
impl AudioTranscoder {
    pub fn open(_: usize, _: &StreamParameters, _: &AudioSpec, _: bool) -> Result<Self, Error> {
        unimplemented!()
    }
    pub fn stream(&self) -> Result<EncodedStream, Error> {
        unimplemented!()
    }
    pub fn push(&mut self, _: &Packet) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn push_end(&mut self) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn pull(&mut self, _: &mut Packet) -> Result<Received, Error> {
        unimplemented!()
    }
    pub fn damaged(&self) -> u64 {
        0
    }
    pub fn time_base(&self) -> Rational {
        unimplemented!()
    }
}
