//! Encodes a file in two passes: `cargo run --example encode_file -- in.mkv out.mp4 4M`.

use std::error::Error;

use repass::adapter;
use repass::event::{Cancel, Event};
use repass::job::{Job, JobRequest, RenditionRequest};
use repass::plan::Request;
use repass::rate::Target;
use repass::source::Input;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, rate] = arguments.as_slice() else {
        return Err("give an input, an output and a bit rate".into());
    };

    // Errors can quote what libav logged, and libav does not print.
    repass::av::log::capture();

    let mut encoder = Request::new(adapter::named("libx264")?, Target::Average(rate.parse()?));
    encoder.preset = Some("fast".to_owned());
    let renditions = vec![RenditionRequest::new("out", output, encoder)];
    let request = JobRequest { renditions, ..JobRequest::new(Input::file(input)) };

    // Nothing has been encoded when this returns, and everything is decided.
    let job = Job::prepare(&request, &Cancel::new())?;
    println!("{}", job.plan().renditions[0].encoder);
    for warning in &job.plan().warnings {
        println!("warning: {warning}");
    }

    let report = job.run(|event| {
        if let Event::PassDone { pass, frames, seconds, .. } = event {
            println!("pass {pass}: {frames} frames in {seconds:.1} s");
        }
    })?;
    let done = &report.renditions[0];
    println!("{}: {} bytes, {:.0} bits per second of video", done.output.display(), done.bytes, done.video_bps);
    Ok(())
}
