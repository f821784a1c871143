//! Three sizes of one film from one decode, each in two passes: `cargo run --example ladder -- in.mkv folder`.

use std::error::Error;
use std::path::Path;

use repass::adapter;
use repass::event::Cancel;
use repass::job::{Job, JobRequest, RenditionRequest, Size};
use repass::plan::Request;
use repass::rate::{GopLength, Target};
use repass::source::Input;

/// Rows of the picture, bits per second.
const RUNGS: [(u32, &str); 3] = [(720, "2500k"), (480, "1200k"), (360, "700k")];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, folder] = arguments.as_slice() else { return Err("give an input and a folder".into()) };

    let renditions = RUNGS.iter().map(|(rows, rate)| -> Result<RenditionRequest, Box<dyn Error>> {
        let encoder = Request::new(adapter::named("libx264")?, Target::Average(rate.parse()?));
        let name = format!("{rows}p");
        let output = Path::new(folder).join(format!("{name}.mp4"));
        Ok(RenditionRequest {
            size: Size::Height(*rows),
            // Every rung begins its groups at the same frames, so that a player can change between them.
            gop: Some(GopLength::Seconds(2.0)),
            ..RenditionRequest::new(name, output, encoder)
        })
    });
    let renditions = renditions.collect::<Result<_, _>>()?;
    // Rungs above the source are left out, with a warning.
    let request = JobRequest { renditions, ..JobRequest::new(Input::file(input)) };

    let job = Job::prepare(&request, &Cancel::new())?;
    println!("filters: {}", job.plan().graph.describe());
    job.plan().warnings.iter().for_each(|warning| println!("warning: {warning}"));
    let report = job.run(|_| {})?;
    for run in &report.runs {
        println!("run {}: {} frames, {} of them from the cache", run.number, run.frames, run.from_cache);
    }
    for done in &report.renditions {
        println!("{}: {:.0} bits per second, {} bytes", done.name, done.video_bps, done.bytes);
    }
    Ok(())
}
