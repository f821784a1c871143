//! An encoder that is not among the nineteen, as a row of one's own: MPEG-4 part 2, in two passes, whose statistics travel in
//! memory. `cargo run --example own_adapter -- in.mkv out.mp4`.

use std::error::Error;

use repass::adapter::{Adapter, Better, Bitrate, Capping, Knob, PassModel, Proof, Reuse, Setting, StatsRoute, TwoRuns};
use repass::event::Cancel;
use repass::job::{Job, JobRequest, RenditionRequest};
use repass::plan::Request;
use repass::probe::capabilities;
use repass::rate::{BitRate, Target};
use repass::source::Input;

/// Everything that the driver has to know of libavcodec's `mpeg4`, where it is not plain.
static MPEG4: Adapter = Adapter {
    name: "mpeg4",
    codec: "mpeg4",
    availability: "every FFmpeg has it",
    pixel_formats: &["yuv420p"],
    odd_sizes: true,
    quality: &[Knob {
        // A quantiser; libavcodec wants it times FF_QP2LAMBDA, and the flag beside it.
        option: "global_quality",
        also: &[],
        scale: 118,
        whole: true,
        better: Better::Lower,
        range: (1.0, 31.0),
        with: &[Setting::option("flags", "+qscale")],
        cap: Capping::Refused("a constant quantiser keeps to no rate"),
        analysis: &[],
    }],
    bitrate: Some(Bitrate { range: (4_000, 100_000_000), with: &[], cap: Capping::Buffer }),
    passes: PassModel::TwoRuns(TwoRuns {
        routes: &[StatsRoute::Context],
        no_quality: None,
        fast_first: &[],
        first: "codes every frame at the rate asked for, and notes what it cost",
        // ratecontrol.c writes "in:… out:… type:… …;" for every frame.
        proof: Proof::Lines("in:"),
        sidecar: None,
        bytes_per_frame: (160, 0),
        longest_path: 4095,
        without_route: "the linked libavcodec gives no statistics",
        reuse: Reuse::No,
        free: &[],
        least_side: 0,
        floor: None,
    }),
    ..Adapter::PLAIN
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = arguments.as_slice() else { return Err("give an input and an output".into()) };

    // What is there is found by asking: here by a trial of two frames.
    println!("statistics: {:?}", capabilities(&MPEG4).route);
    let encoder = Request::new(&MPEG4, Target::Average(BitRate(3_000_000)));
    let renditions = vec![RenditionRequest::new("out", output, encoder)];
    let request = JobRequest { renditions, ..JobRequest::new(Input::file(input)) };
    let report = Job::prepare(&request, &Cancel::new())?.run(|_| {})?;
    let done = &report.renditions[0];
    for pass in &done.passes {
        println!("pass {}: {} bytes, {:?} bytes of statistics", pass.number, pass.bytes, pass.stats_bytes);
    }
    println!("{:.0} bits per second", done.video_bps);
    Ok(())
}
