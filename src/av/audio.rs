//! Sound from one codec to another: decoder, filters, encoder, with the times kept.
//!
//! Invariants: the encoder is open before the first packet, so that a container can be told of its stream; the times of what
//! comes out are those of what went in, less the encoder's own priming, which stands before them.

use crate::audio::AudioSpec;
use crate::av::filter::{AudioFilter, AudioTarget};
use crate::av::frame::Frame;
use crate::av::muxer::EncodedStream;
use crate::av::packet::Packet;
use crate::av::source::{Decoder, StreamParameters};
use crate::av::{AvError, Received};
use crate::error::Error;
use crate::media::Rational;

mod encoder;

use encoder::AudioEncoder;

/// Transcodes one audio stream.
///
/// Packets go in with [`AudioTranscoder::push`]; after each, and after [`AudioTranscoder::push_end`], packets come out of
/// [`AudioTranscoder::pull`] until it answers something else than `Ready`.
pub struct AudioTranscoder {
    /// Index of the stream in its source, for errors.
    stream: usize,
    time_base: Rational,
    decoder: Decoder,
    /// Brings what is decoded to what the encoder takes; opened on the first frame, and anew when the sound changes its
    /// format, rate or layout.
    converter: Option<AudioFilter>,
    /// The first frame after such a change, while the old converter runs empty.
    changed: Option<Frame>,
    /// Cuts the converted sound into frames of the encoder's size.
    chunks: Option<AudioFilter>,
    encoder: AudioEncoder,
    /// No more packets are wanted.
    over: bool,
    end_seconds: Option<f64>,
}

impl AudioTranscoder {
    /// Opens decoder and encoder for a stream. `global_header` is the container's wish
    /// ([`Container::global_header`](crate::av::muxer::Container::global_header)).
    ///
    /// # Errors
    /// [`Error::Audio`]: no decoder, no encoder, or one that refuses.
    pub fn open(stream: &StreamParameters, spec: &AudioSpec, global_header: bool) -> Result<Self, Error> {
        let fault = |what: &str, source| Error::Audio { stream: stream.index, what: what.to_owned(), source };
        let decoder = Decoder::open(stream, Some(1))
            .map_err(|source| fault(&format!("cannot decode {}", stream.codec()), source))?;
        let encoder = AudioEncoder::open(stream, spec, global_header)
            .map_err(|(source, log)| fault(&format!("cannot encode {spec}{log}"), source))?;
        Ok(AudioTranscoder {
            stream: stream.index,
            time_base: stream.time_base,
            decoder,
            converter: None,
            changed: None,
            chunks: None,
            encoder,
            over: false,
            end_seconds: None,
        })
    }

    /// Cuts the sound off at this time, in seconds of the packets' own clock. What lies before 0 is cut off anyway.
    #[must_use]
    pub fn until(mut self, seconds: Option<f64>) -> Self {
        self.end_seconds = seconds;
        self
    }

    /// What the encoder says of its stream.
    ///
    /// # Errors
    /// Out of memory.
    pub fn stream(&self) -> Result<EncodedStream, Error> {
        self.encoder.stream().map_err(|source| self.fault("cannot describe the encoded stream", source))
    }

    /// Seconds per tick of the packets that come out.
    #[must_use]
    pub fn time_base(&self) -> Rational {
        self.encoder.time_base()
    }

    /// Gives it a packet of the stream, its times in ticks of the stream's time base, 0 where the output begins.
    ///
    /// # Errors
    /// [`Error::Audio`]: out of memory, or called although there was something to pull. A packet that cannot be decoded is
    /// counted instead.
    pub fn push(&mut self, packet: &Packet) -> Result<(), Error> {
        if self.over {
            return Ok(());
        }
        self.decoder.send(packet).map_err(|source| self.fault("cannot decode", source))
    }

    /// Says that no more packets will come.
    ///
    /// # Errors
    /// [`Error::Audio`]: said before.
    pub fn push_end(&mut self) -> Result<(), Error> {
        if self.over {
            return Ok(());
        }
        self.decoder.send_end().map_err(|source| self.fault("cannot decode the end", source))
    }

    /// Takes the next encoded packet into `packet`, whose earlier content goes. `Done` comes only after
    /// [`AudioTranscoder::push_end`], or when the end of [`AudioTranscoder::until`] is reached.
    ///
    /// # Errors
    /// [`Error::Audio`] or [`Error::Filter`]: a stage failed.
    pub fn pull(&mut self, packet: &mut Packet) -> Result<Received, Error> {
        loop {
            match self.encoder.receive(packet).map_err(|source| self.fault("cannot encode", source))? {
                Received::NeedInput if self.advance()? => {}
                state => return Ok(state),
            }
        }
    }

    /// How often something could not be decoded, or only with errors.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.decoder.damaged()
    }

    /// Moves one frame one stage on, from the one nearest to the encoder that has any. False: all want input.
    fn advance(&mut self) -> Result<bool, Error> {
        let mut frame = Frame::new().map_err(|source| self.fault("frame", source))?;
        if let Some(chunks) = &mut self.chunks {
            match chunks.pull(&mut frame)? {
                Received::Ready => return self.encode(Some(frame)),
                Received::Done => return self.encode(None),
                Received::NeedInput => {}
            }
        }
        if let Some(converter) = &mut self.converter {
            match converter.pull(&mut frame)? {
                Received::Ready => return self.cut(frame),
                Received::Done => return self.converted(),
                Received::NeedInput => {}
            }
        }
        match self.decoder.receive(&mut frame).map_err(|source| self.fault("cannot decode", source))? {
            Received::Ready => self.convert(frame),
            Received::Done => self.decoded(),
            Received::NeedInput => Ok(false),
        }
    }

    fn convert(&mut self, frame: Frame) -> Result<bool, Error> {
        let converter = match &mut self.converter {
            Some(converter) if !converter.accepts(&frame) => {
                converter.push_end()?;
                self.changed = Some(frame);
                return Ok(true);
            }
            Some(converter) => converter,
            none => none.insert(AudioFilter::open(
                &frame,
                self.time_base,
                self.encoder.takes(),
                Some(&within(self.end_seconds)),
            )?),
        };
        converter.push(frame)?;
        Ok(true)
    }

    /// The decoder has given its last frame.
    fn decoded(&mut self) -> Result<bool, Error> {
        match &mut self.converter {
            Some(converter) => converter.push_end()?,
            None => return self.converted(),
        }
        Ok(true)
    }

    fn cut(&mut self, frame: Frame) -> Result<bool, Error> {
        let time_base = self.converter.as_ref().map_or(self.time_base, |converter| converter.output_time_base());
        let chunks = match &mut self.chunks {
            Some(chunks) => chunks,
            none => {
                let size = AudioTarget { frame_samples: self.encoder.frame_samples(), ..AudioTarget::default() };
                none.insert(AudioFilter::open(&frame, time_base, &size, None)?)
            }
        };
        chunks.push(frame)?;
        Ok(true)
    }

    /// The converter has given its last frame: because the sound changed, or because that was all.
    fn converted(&mut self) -> Result<bool, Error> {
        self.converter = None;
        if let Some(frame) = self.changed.take() {
            return self.convert(frame);
        }
        self.over = true;
        match &mut self.chunks {
            Some(chunks) => chunks.push_end()?,
            None => return self.encode(None),
        }
        Ok(true)
    }

    fn encode(&mut self, frame: Option<Frame>) -> Result<bool, Error> {
        let time_base = self.chunks.as_ref().map_or(self.time_base, |chunks| chunks.output_time_base());
        self.encoder.send(frame, time_base).map_err(|source| self.fault("cannot encode", source))?;
        Ok(true)
    }

    fn fault(&self, what: &str, source: AvError) -> Error {
        Error::Audio { stream: self.stream, what: what.to_owned(), source }
    }
}

/// The filter that keeps only what the output holds, to the sample.
fn within(end_seconds: Option<f64>) -> String {
    end_seconds.map_or_else(|| "atrim=start=0".to_owned(), |end| format!("atrim=start=0:end={end:.6}"))
}
