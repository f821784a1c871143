//! A session's way through a job, on any system: VideoToolbox's place is taken by packets that are there already.

use std::collections::BTreeSet;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::adapter;
use crate::av::Received;
use crate::av::frame::Frame;
use crate::av::packet::Packet;
use crate::av::source::{Demuxer, OpenOptions};
use crate::cache::FrameCache;
use crate::frames::FrameList;
use crate::job::run::{outputs, run_over, targets};
use crate::job::{Job, JobRequest, RenditionRequest};
use crate::media::Rational;
use crate::plan::{Codec, Property, Request};
use crate::rate::{BitRate, Target};
use crate::session::Stopped;
use crate::session::videotoolbox::{Emission, Invalidate, Sample, Span, Time};
use crate::source::Input;

const RATE: Rational = Rational::new(30000, 1001);

/// H.264 with B-frames, two closed groups of 12 frames.
fn clip(folder: &Path) -> PathBuf {
    let path = folder.join("clip.mp4");
    let source = ["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=30000/1001", "-frames:v", "24"];
    let coded = ["-pix_fmt", "yuv420p", "-c:v", "libx264", "-g", "12", "-keyint_min", "12", "-bf", "2"];
    let closed = ["-x264-params", "scenecut=0:open-gop=0"];
    let status = Command::new("ffmpeg").args(source).args(coded).args(closed).arg(&path).status();
    assert!(status.expect("the ffmpeg program is installed").success());
    path
}

/// Gives out the packets of a file, for the frames that it is given, and asks for the second group again.
struct Canned {
    outbox: Arc<Outbox>,
    packets: Vec<(i64, Sample)>,
    given: BTreeSet<i64>,
    asks: bool,
}

struct Nothing;

impl Invalidate for Nothing {
    fn invalidate(&self) {}
}

impl Canned {
    fn open(path: &Path, outbox: Arc<Outbox>) -> Self {
        let mut demuxer = Demuxer::open(path, &OpenOptions::default(), &Cancel::new()).unwrap();
        let stream = demuxer.stream(0).unwrap();
        let (mut packet, mut packets) = (Packet::new().unwrap(), Vec::new());
        while demuxer.read(&mut packet).unwrap() == Received::Ready {
            packet.rescale(stream.time_base, RATE.inverse());
            let headers = stream.extradata().to_vec();
            let sample = Sample { data: packet.data().to_vec(), headers, is_key: packet.is_key() };
            packets.push((packet.pts().unwrap() * 1001, sample));
        }
        Canned { outbox, packets, given: BTreeSet::new(), asks: true }
    }
}

impl CompressionSession for Canned {
    fn supports(&self, property: &Property) -> bool {
        property.name() != "ExpectedFrameRate"
    }

    fn create_storage(&mut self) -> Result<(), Status> {
        Ok(())
    }

    fn set(&mut self, _: &Property) -> Result<(), Status> {
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), Status> {
        Ok(())
    }

    fn begin_pass(&mut self, _: bool) -> Result<(), Status> {
        Ok(())
    }

    fn encode_frame(&mut self, frame: &Frame, pts: Time, duration: Time) -> Result<(), Status> {
        assert_eq!((frame.width(), frame.height(), pts.scale, duration.value), (160, 90, 30000, 1001));
        self.given.insert(pts.value);
        Ok(())
    }

    fn complete_frames(&mut self) -> Result<(), Status> {
        for (pts, sample) in self.packets.iter().filter(|(pts, _)| self.given.contains(pts)) {
            self.outbox.put(Emission { pts: *pts, sample: Ok(Some(sample.clone())) });
        }
        self.given.clear();
        Ok(())
    }

    fn end_pass(&mut self, _: bool) -> Result<bool, Status> {
        Ok(std::mem::take(&mut self.asks))
    }

    fn time_ranges_for_next_pass(
        &mut self,
        read: &mut dyn FnMut(&mut dyn Iterator<Item = Span>),
    ) -> Result<(), Status> {
        let start = Time { value: 12 * 1001, scale: 30000 };
        read(&mut [Span { start, duration: Time { value: 60, scale: 1 } }].into_iter());
        Ok(())
    }

    fn invalidation(&self) -> Arc<dyn Invalidate> {
        Arc::new(Nothing)
    }

    fn close_storage(&mut self) -> Result<(), Status> {
        Ok(())
    }
}

/// Every decoded frame's hash.
fn decoded(path: &Path) -> Vec<String> {
    let output = Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(path).args(["-f", "framemd5", "-"]).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let frames = text.lines().filter(|line| !line.starts_with('#'));
    frames.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

#[test]
fn a_session_of_a_mac_goes_through_a_job_into_a_verified_file() {
    let folder = tempfile::tempdir().unwrap();
    let (clip, path) = (clip(folder.path()), folder.path().join("out.mp4"));
    let encoder = Request::new(adapter::named("libx264").unwrap(), Target::Average(BitRate(500_000)));
    let renditions = vec![RenditionRequest::new("out", &path, encoder)];
    let request = JobRequest { renditions, ..JobRequest::new(Input::file(&clip)) };
    let cancel = Cancel::new();
    let Job { mut plan, source, .. } = Job::prepare(&request, &cancel).unwrap();
    let properties = vec![(Property::AverageBitRate(500_000), true)];
    let own = NativePlan { codec: Codec::H264, most_passes: NonZeroU8::new(5).unwrap(), properties };
    plan.renditions[0].encoder.steps.truncate(1);
    plan.renditions[0].encoder.steps[0].output = true;
    plan.renditions[0].first_run = 2;
    plan.runs = 1;

    let mut opened = Opened { source, cache: FrameCache::new(plan.cache.clone()), list: FrameList::default() };
    let began = crate::job::run::Usage::now();
    let keep = |_| vec![true];
    // The first run of the job goes through the frames; a report there is none yet.
    let first = run_over(&plan, &mut opened, vec![None], &keep, &began, &cancel, &mut |_| {});
    assert!(matches!(first, Err(Error::Stopped)), "{first:?}");
    assert_eq!((opened.list.len(), opened.cache.len()), (24, 24));

    let mut targets = targets(&plan, vec![None], &cancel).unwrap();
    let output = outputs(&plan, 2, &mut targets, opened.source.as_ref(), &cancel).unwrap().pop().unwrap();
    let mut events = Vec::new();
    let open = |setup: &Setup, outbox| -> Result<Box<dyn CompressionSession>, Status> {
        assert_eq!((setup.width, setup.height, setup.pixels), (160, 90, u32::from_be_bytes(*b"y420")));
        Ok(Box::new(Canned::open(&clip, outbox)))
    };
    let mut observe = |event| events.push(event);
    let made = run(&plan, 0, &own, &mut opened, output, &cancel, &mut observe, open).unwrap();

    let frames: Vec<u64> = made.passes.iter().map(|pass| pass.frames).collect();
    assert_eq!((frames, made.report.stopped), (vec![24, 12], Stopped::Satisfied));
    assert_eq!(made.report.passes[1].ranges, [(12, 24)]);
    assert_eq!(made.passes[0].bytes, made.passes[1].bytes);
    assert_eq!(made.warnings.len(), 1, "{:?}", made.warnings);
    let done = |event: &Event| matches!(event, Event::PassDone { .. });
    assert_eq!(events.iter().filter(|event| done(event)).count(), 2);
    let finished = made.output.sink.finish().unwrap();
    assert_eq!((finished.path.as_deref(), finished.video_packets), (Some(path.as_path()), 24));
    assert_eq!(decoded(&path), decoded(&clip));
}
