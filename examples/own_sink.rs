//! Takes the packets instead of a file, and hands them to another thread: `cargo run --example own_sink -- in.mkv`.

use std::error::Error as StdError;
use std::io;
use std::thread;

use crossbeam_channel::{Sender, bounded};

use repass::adapter;
use repass::av::muxer::Tally;
use repass::av::packet::Packet;
use repass::error::Error;
use repass::event::Cancel;
use repass::job::{AudioChoice, Job, JobRequest, RenditionRequest, SubtitleChoice};
use repass::media::Rational;
use repass::plan::Request;
use repass::rate::{BitRate, Target};
use repass::sink::{Finished, Sink, Streams};
use repass::source::Input;

/// Sends every packet away; a bounded channel, so that a slow receiver slows the encoder and memory stays small.
struct ToChannel {
    packets: Sender<(Packet, Rational)>,
    tallies: Vec<Tally>,
}

impl Sink for ToChannel {
    fn start(&mut self, streams: &Streams) -> Result<(), Error> {
        self.tallies = streams.streams.iter().map(|stream| Tally::new(stream.kind(), stream.codec())).collect();
        Ok(())
    }

    fn write(&mut self, packet: Packet, stream: usize, time_base: Rational) -> Result<(), Error> {
        self.tallies[stream].add(&packet, time_base);
        let gone = |_| Error::Write { path: "channel".into(), source: io::ErrorKind::BrokenPipe.into() };
        self.packets.send((packet, time_base)).map_err(gone)
    }

    fn finish(self: Box<Self>) -> Result<Finished, Error> {
        Ok(Finished::of(self.tallies))
    }
}

fn main() -> Result<(), Box<dyn StdError>> {
    let input = std::env::args().nth(1).ok_or("give an input")?;
    let encoder = Request::new(adapter::named("libx264")?, Target::Average(BitRate(500_000)));
    let rendition = RenditionRequest {
        audio: AudioChoice::None,
        subtitles: SubtitleChoice::None,
        // No file: raw H.264 means headers inside the stream, before every key frame.
        ..RenditionRequest::new("packets", "packets.h264", encoder)
    };
    let request = JobRequest { renditions: vec![rendition], ..JobRequest::new(Input::file(input)) };
    let job = Job::prepare(&request, &Cancel::new())?;
    let (packets, received) = bounded(16);
    let job = job.with_sink(0, Box::new(ToChannel { packets, tallies: Vec::new() }));

    let report = thread::scope(|scope| {
        // Here a server would send them.
        scope.spawn(|| {
            for (packet, time_base) in received {
                let at = packet.pts().unwrap_or_default() as f64 * time_base.value();
                let key = if packet.is_key() { ", a key frame" } else { "" };
                println!("{at:8.3} s: {} bytes{key}", packet.data().len());
            }
        });
        job.run(|_| {})
    })?;
    println!("{} frames, {:.0} bits per second", report.frames, report.renditions[0].video_bps);
    Ok(())
}
