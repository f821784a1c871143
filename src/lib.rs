//! Drives video encoders in process, through libav*, over one pass or two: one decode feeds every pass and every rendition.
//!
//! # What a pass is
//!
//! An encoder that is given a bit rate for a whole film has to spend bits before it knows what comes. With *two passes* it
//! goes through the film twice: the first run looks, and leaves **statistics** (a line or a record for each frame); the
//! second run reads them and spends the bits where they are needed. Towards a constant quality a second pass mostly has
//! nothing to decide, and many encoders refuse it.
//!
//! Encoders do this in four ways. [`adapter::Adapter::passes`] says which, and [`probe::capabilities`] what of it is true of
//! the libav* that is linked, because versions differ:
//!
//! | model | whose | what happens |
//! |---|---|---|
//! | [`TwoRuns`](adapter::PassModel::TwoRuns) | x264, x265, VP9, AV1 and VVC on the CPU | statistics travel between two runs: in memory, or in a private file |
//! | [`Inside`](adapter::PassModel::Inside), [`PerFrame`](adapter::Reach::PerFrame) | NVENC's `multipass` | each frame is looked at twice, on its own, within one run |
//! | [`Inside`](adapter::PassModel::Inside), [`LookAhead`](adapter::Reach::LookAhead) | Quick Sync and AMF | a window of frames ahead is analysed within one run |
//! | [`Refused`](adapter::PassModel::Refused) | VideoToolbox | libavcodec's wrapper opens no multi-pass session; on a Mac, [`session::videotoolbox`] does |
//!
//! [`session`] is the general form: after each pass the encoder says which stretches it wants to see again. With
//! [`plan::Passes::Session`], encoders on the CPU do so over segments that miss their target.
//!
//! Asking for two passes where there are none is refused, with the reason and a way out; nothing falls back in silence.
//!
//! # From a request to a report
//!
//! A [`job::JobRequest`] says what is wanted. [`job::Job::prepare`] (a file) or [`job::Job::from_frames`] (frames of your own)
//! turns it into a [`job::Plan`]: every pass, option, route of statistics and warning, as plain data that can be printed and
//! tested; whatever can be refused is refused here. [`job::Job::run`] does what the plan says and makes no choice of its own:
//! it decodes once, keeps the frames under a budget of bytes, proves the statistics after pass 1, and gives a file its name
//! only after it was read back. The [`report::Report`] has what was done, again as plain data.
//!
//! ```
//! use repass::adapter;
//! use repass::av::frame::Frame;
//! use repass::event::{Cancel, Event};
//! use repass::job::{Job, JobRequest, RenditionRequest};
//! use repass::media::Rational;
//! use repass::plan::Request;
//! use repass::rate::{BitRate, Target};
//! use repass::source::{Input, OwnFrames, Shape};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let output = folder.path().join("bars.mkv");
//! // Two seconds of a bright bar that wanders over a grey ground. For a file: Input::file("in.mkv") and Job::prepare.
//! let rate = Rational::new(25, 1);
//! let shape = Shape { width: 256, height: 144, pixel_format: "yuv420p".to_owned(), rate, frames: Some(50) };
//! let frames = OwnFrames::new(shape, |number| {
//!     if number == 50 {
//!         return Ok(None);
//!     }
//!     let mut frame = Frame::allocate(256, 144, "yuv420p")?;
//!     frame.draw(|plane, row, pixels| match plane {
//!         0 if row / 12 == number as usize % 12 => pixels.fill(210),
//!         0 => pixels.fill(90),
//!         _ => pixels.fill(128),
//!     })?;
//!     Ok::<_, repass::av::AvError>(Some(frame))
//! });
//!
//! let encoder = Request::new(adapter::named("libx264")?, Target::Average(BitRate(200_000)));
//! let renditions = vec![RenditionRequest::new("bars", &output, encoder)];
//! let request = JobRequest { renditions, ..JobRequest::new(Input::file("bars")) };
//! let job = Job::from_frames(&request, frames, &Cancel::new())?;
//! assert_eq!(job.plan().runs, 2);
//! println!("{}", job.plan().renditions[0].encoder);
//!
//! let report = job.run(|event| {
//!     if let Event::PassDone { pass, frames, seconds, .. } = event {
//!         println!("pass {pass}: {frames} frames in {seconds:.1} s");
//!     }
//! })?;
//! let done = &report.renditions[0];
//! assert!(done.verified && done.passes.len() == 2 && report.frames == 50);
//! println!("{:.0} bits per second", done.video_bps);
//! # Ok(()) }
//! ```
//!
//! `examples/` has a file, a ladder, frames of your own, packets over a channel, an encoder of your own, and a report.
//!
//! # What the crate leaves alone
//!
//! It never prints, never ends the process, and changes nothing that the process shares unless it is asked to:
//! [`av::log::capture`] takes over libav's log, so that errors can quote it; [`av::quiet_svt_av1`] sets an environment
//! variable; [`av::let_jobs_zero_memory`] lets jobs set a number of the allocator where
//! an encoder's bits depend on it. Programs call them first thing in `main`, or not
//! at all. Encoder libraries may print by themselves; what can be switched off is, unless [`plan::Request::verbose`].
//!
//! Threads are its own, named and joined before [`job::Job::run`] returns. A [`event::Cancel`] stops a job from any thread.
#![deny(unsafe_code)]

pub mod adapter;
pub mod audio;
#[expect(unsafe_code, reason = "the border to libav*")]
pub mod av;
pub mod batch;
pub mod bench;
pub mod cache;
pub mod doctor;
pub mod error;
pub mod event;
pub mod frames;
pub mod job;
pub mod media;
mod pipeline;
pub mod plan;
pub mod probe;
pub mod quality;
pub mod rate;
pub mod report;
pub mod session;
pub mod sink;
pub mod source;
pub mod stats;
pub mod timing;
