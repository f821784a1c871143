//! Encodes frames of one's own, here a ball that bounces: `cargo run --example own_frames -- ball.mp4`.

use std::error::Error;

use repass::adapter;
use repass::av::AvError;
use repass::av::frame::Frame;
use repass::event::Cancel;
use repass::job::{Job, JobRequest, RenditionRequest};
use repass::media::Rational;
use repass::plan::Request;
use repass::rate::{BitRate, Target};
use repass::source::{Input, OwnFrames, Shape};

const WIDTH: usize = 640;
const HEIGHT: usize = 360;
const FRAMES: u64 = 120;

fn main() -> Result<(), Box<dyn Error>> {
    let output = std::env::args().nth(1).ok_or("give an output")?;
    let shape = Shape {
        width: WIDTH as u32,
        height: HEIGHT as u32,
        pixel_format: "yuv420p".to_owned(),
        rate: Rational::new(30, 1),
        frames: Some(FRAMES),
    };
    // Asked for frame after frame. They are kept for the second pass; those that do not fit are asked for once more.
    let frames = OwnFrames::new(shape, |number| (number < FRAMES).then(|| ball(number)).transpose());

    let encoder = Request::new(adapter::named("libx264")?, Target::Average(BitRate(500_000)));
    // The input has nothing but a name here.
    let renditions = vec![RenditionRequest::new("ball", &output, encoder)];
    let request = JobRequest { renditions, ..JobRequest::new(Input::file("a ball")) };
    let report = Job::from_frames(&request, frames, &Cancel::new())?.run(|_| {})?;
    println!("{output}: {} frames, {} bytes", report.frames, report.renditions[0].bytes);
    Ok(())
}

/// One picture: luma in plane 0, the two halved chroma planes behind it.
fn ball(number: u64) -> Result<Frame, AvError> {
    let time = number as f64 / 30.0;
    let (x, y) = (80.0 + 120.0 * time, 300.0 - 240.0 * (time * 3.0).sin().abs());
    let mut frame = Frame::allocate(WIDTH as u32, HEIGHT as u32, "yuv420p")?;
    frame.draw(|plane, row, pixels| {
        let scale = if plane == 0 { 1.0 } else { 2.0 };
        for (column, pixel) in pixels.iter_mut().enumerate() {
            let (dx, dy) = (column as f64 * scale - x, row as f64 * scale - y);
            let inside = dx * dx + dy * dy < 40.0 * 40.0;
            *pixel = match (plane, inside) {
                (0, true) => 180,
                (0, false) => 40 + (row * 60 / HEIGHT) as u8,
                (2, true) => 200,
                _ => 128,
            };
        }
    })?;
    Ok(frame)
}
