//! Three sizes of one film from one decode, each in two passes: `cargo run --example ladder -- in.mkv folder`.

use std::error::Error;
use std::path::Path;

use repass::adapter;
use repass::event::Cancel;
use repass::job::{Job, JobRequest, RenditionRequest};
use repass::plan::Request;
use repass::rate::Target;
use repass::source::Input;

/// Width and height in pixels, bits per second.
const RUNGS: [(u32, u32, &str); 3] = [(1280, 720, "2500k"), (854, 480, "1200k"), (640, 360, "700k")];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, folder] = arguments.as_slice() else { return Err("give an input and a folder".into()) };

    let renditions = RUNGS.iter().map(|(width, height, rate)| -> Result<RenditionRequest, Box<dyn Error>> {
        let mut encoder = Request::new(adapter::named("libx264")?, Target::Average(rate.parse()?));
        // Every rung begins its groups at the same frames, so that a player can change between them.
        encoder.gop_frames = Some(50);
        let output = Path::new(folder).join(format!("{height}p.mp4"));
        Ok(RenditionRequest { size: Some((*width, *height)), ..RenditionRequest::new(output, encoder) })
    });
    let request = JobRequest::new(Input::file(input), renditions.collect::<Result<_, _>>()?);

    let job = Job::prepare(&request, &Cancel::new())?;
    println!("filters: {}", job.plan().graph.describe());
    let report = job.run(|_| {})?;
    for run in &report.runs {
        println!("run {}: {} frames, {} of them from the cache", run.number, run.frames, run.from_cache);
    }
    for done in &report.renditions {
        println!("{}: {:.0} bits per second, {} bytes", done.name, done.video_bps, done.bytes);
    }
    Ok(())
}
