//! From what is asked of a job to its renditions: which fit the source, what feeds each, which belong together.
//!
//! Invariant: sizes and key frames are decided once, for the picture behind the common filters; renditions of one size and
//! pixel format share one branch of the graph.

use crate::adapter::{Adapter, PassModel, TwoRuns};
use crate::av::filter::FilterOutput;
use crate::av::frame::chroma_step;
use crate::av::muxer::Container;
use crate::error::{Error, Refusal};
use crate::job::rung::Scaled;
use crate::job::{
    Fate, FirstPass, JobRequest, PackagePlan, Picture, RenditionPlan, RenditionRequest, Size, StreamPlan, check_output,
    least_rate, size, streams,
};
use crate::media::{Rational, StreamKind};
use crate::plan::{NotNative, Passes, Request, compile};
use crate::probe::capabilities;
use crate::rate::{BitRate, ByteSize, GopLength, Target};
use crate::source::{Branch, Graph, Preview};
use crate::timing::Timing;

/// A job on its way from what is asked for to a plan.
pub(super) struct Ladder<'j> {
    request: &'j JobRequest,
    file: &'j dyn Preview,
    timing: Timing,
    /// What comes out of the filters that all renditions share; asked for only where it matters.
    picture: Option<FilterOutput>,
    graph: Graph,
    warnings: Vec<String>,
}

impl<'j> Ladder<'j> {
    pub(super) fn over(request: &'j JobRequest, file: &'j dyn Preview) -> Result<Self, Error> {
        let video = &file.info().video;
        let graph = Graph { rotation: video.rotation, trunk: request.filters.clone(), branches: Vec::new() };
        let matters = |rendition: &RenditionRequest| {
            rendition.size != Size::Source
                || [rendition.gop, rendition.encoder.session.segment]
                    .iter()
                    .any(|length| matches!(length, Some(GopLength::Seconds(_))))
                || is_package(rendition)
        };
        let picture = match request.renditions.iter().any(matters) {
            true => file.pictures(&Graph { branches: vec![AS_IT_COMES], ..graph.clone() })?.pop(),
            false => None,
        };
        Ok(Ladder { request, file, timing: Timing::of(video), picture, graph, warnings: Vec::new() })
    }

    /// The renditions that are not larger than the source, or all where that is allowed.
    pub(super) fn fitting(&mut self) -> Result<Vec<(&'j RenditionRequest, Scaled)>, Error> {
        let mut fitting = Vec::new();
        let mut above = Vec::new();
        for rendition in &self.request.renditions {
            let scaled = match &self.picture {
                Some(picture) => rendition.size.of(picture, self.request.enlarge)?,
                None => Some(Scaled { size: None, shape: None }),
            };
            match scaled {
                Some(scaled) => fitting.push((rendition, scaled)),
                None => above.push(rendition),
            }
        }
        let Some(picture) = &self.picture else { return Ok(fitting) };
        let source = format!("{}x{}", picture.width, picture.height);
        if fitting.is_empty() && !above.is_empty() {
            let names: Vec<&str> = above.iter().map(|rendition| rendition.name.as_str()).collect();
            return Err(Refusal::Ladder { renditions: names.join(", "), picture: source }.into());
        }
        let told = above.iter().map(|rendition| {
            let (name, size) = (&rendition.name, rendition.size);
            format!("{name} is left out: {size} is larger than the source ({source}); --allow-upscale makes it")
        });
        self.warnings.extend(told);
        Ok(fitting)
    }

    /// Plans one rendition.
    pub(super) fn rendition(&mut self, request: &RenditionRequest, scaled: Scaled) -> Result<RenditionPlan, Error> {
        let container = Container::for_path(&request.output, request.container.as_deref())?;
        check_output(request, container, &self.request.input.path)?;
        let adapter = request.encoder.adapter;
        let (streams, left_out) = self.streams(request, &container)?;
        let encoder_request = self.encoder_request(request, scaled, &container, &streams)?;
        let capabilities = capabilities(adapter);
        let mut encoder = compile(&encoder_request, &capabilities)?;
        if encoder.native.is_some() && request.encoder.session.segment.is_some() {
            return Err(NotNative::Segments.of(adapter.name).into());
        }
        encoder.warnings.extend(left_out);
        let branch = Branch {
            size: scaled.size,
            filters: request.filters.clone(),
            shape: scaled.shape,
            pixel_formats: encoder.pixel_formats.clone(),
            colour_ranges: capabilities.colour_ranges,
        };
        Ok(RenditionPlan {
            name: request.name.clone(),
            output: request.output.clone(),
            container: container.name().to_owned(),
            overwrite: request.overwrite,
            branch: self.branch(branch),
            first_run: 1,
            encoder,
            first_pass: FirstPass::Own,
            journal: None,
            streams,
            mux_options: request.mux_options.clone(),
            adapter,
        })
    }

    /// What becomes of each stream in this container, and what is to be said of those that are left out.
    fn streams(
        &self,
        request: &RenditionRequest,
        container: &Container,
    ) -> Result<(Vec<StreamPlan>, Vec<String>), Error> {
        let codec = request.encoder.adapter.codec;
        if !container.holds(StreamKind::Video, codec) {
            return Err(Refusal::Container {
                container: container.name().to_owned(),
                what: format!("{codec} video"),
                remedy: "choose .mkv, or another encoder".to_owned(),
            }
            .into());
        }
        let holds = |kind, codec: &str| container.holds(kind, codec);
        let takes_text = |codec: &str| container.takes_text(codec);
        let holder = streams::Holder { name: container.name(), holds: &holds, takes_text: &takes_text };
        Ok(streams::decide(self.file.info(), &request.audio, request.subtitles, &holder)?)
    }

    /// What is asked of the encoder, with everything that only the source, the filters and the container tell.
    fn encoder_request(
        &self,
        request: &RenditionRequest,
        scaled: Scaled,
        container: &Container,
        streams: &[StreamPlan],
    ) -> Result<Request, Error> {
        // Filters and scaling may or may not know of fields; whoever gives them says by them what the fields become.
        let untouched = self.graph.trunk.is_none() && request.filters.is_none() && scaled.size.is_none();
        let mut encoder = Request {
            hdr10: self.file.hdr10(&self.filters_of(request))?,
            interlaced: self.file.is_interlaced() && untouched,
            gop_frames: self.gop_frames(request).or(request.encoder.gop_frames),
            ..request.encoder.clone()
        };
        let refused = |why: &str| -> Result<Request, Error> {
            Err(Refusal::Target { encoder: encoder.adapter.name.to_owned(), why: why.to_owned() }.into())
        };
        if let Target::Size(size) = encoder.target {
            if container.is_package() {
                return refused("a size is one of a file, and a package has many: use a bit rate");
            }
            encoder.provisional = Some(self.provisional(size, streams, container, encoder.adapter)?);
        }
        if encoder.passes_meant() == Passes::Session {
            if container.is_package() {
                return refused(
                    "no session: segments of a package need key frames at equal distances in all renditions; use --passes 2",
                );
            }
            let asked = encoder.session.segment.map(|length| length.frames(self.frame_rate()));
            encoder.session.uneven = asked.is_none();
            encoder.session.segment = asked.or_else(|| self.segment_frames()).map(GopLength::Frames);
        }
        Ok(encoder)
    }

    /// The video rate of a size target before anything is measured: from the length and rates that the container tells.
    fn provisional(
        &self,
        size: ByteSize,
        streams: &[StreamPlan],
        container: &Container,
        adapter: &Adapter,
    ) -> Result<BitRate, Error> {
        let (source, input) = (self.file.info(), &self.request.input);
        let seconds = source.seconds.and_then(|_| input.seconds_of(source)).ok_or_else(|| Refusal::Source {
            path: input.path.display().to_string(),
            why: "a size target needs the length, which this container does not tell: use -b".to_owned(),
        })?;
        let others: f64 = streams
            .iter()
            .map(|plan| match &plan.fate {
                Fate::Copy => plan.stream.bitrate.unwrap_or(0) as f64,
                Fate::Transcode(spec) => {
                    spec.bitrate(plan.stream.channels.unwrap_or(2)).map_or(0.0, |rate| rate.0 as f64)
                }
                _ => 0.0,
            })
            .sum();
        let others = size::Others { packets: 0, bytes: (others * seconds / 8.0) as u64 };
        let frames = (seconds * self.timing.rate.value()) as u64;
        let overhead = size::Overhead::of(container.name());
        let least = size::Least::of_any(least_rate(adapter));
        Ok(size::video_rate(size, others, overhead, frames, seconds, least)?)
    }

    /// The filters that a rendition's frames go through, without its scaling.
    fn filters_of(&self, request: &RenditionRequest) -> Graph {
        let branch = Branch { filters: request.filters.clone(), ..AS_IT_COMES };
        Graph { branches: vec![branch], ..self.graph.clone() }
    }

    fn branch(&mut self, branch: Branch) -> usize {
        let branches = &mut self.graph.branches;
        branches.iter().position(|known| *known == branch).unwrap_or_else(|| {
            branches.push(branch);
            branches.len() - 1
        })
    }

    /// Frames between key frames, where they are to be fixed.
    fn gop_frames(&self, request: &RenditionRequest) -> Option<u32> {
        let gop = request.gop.or(is_package(request).then_some(DEFAULT_SEGMENT))?;
        Some(gop.frames(self.frame_rate()))
    }

    /// Frames of a session's segments where nobody says: enough segments to correct a few of them alone, and not more key
    /// frames than an encoder would have by itself.
    fn segment_frames(&self) -> Option<u32> {
        let frames = self.request.input.seconds_of(self.file.info())? * self.frame_rate();
        let (shortest, longest) = SEGMENT_SECONDS;
        let longest = (longest * self.frame_rate()).max(LONGEST_GROUP);
        Some((frames / FEWEST_SEGMENTS).clamp(shortest * self.frame_rate(), longest).round().max(1.0) as u32)
    }

    /// Frames per second that the encoders get.
    fn frame_rate(&self) -> f64 {
        let filtered = self.picture.as_ref().and_then(|picture| picture.frame_rate);
        filtered.unwrap_or(self.timing.rate).value()
    }

    /// Puts renditions with the same manifest together.
    pub(super) fn packages(
        &self,
        requests: &[(&RenditionRequest, Scaled)],
        renditions: &[RenditionPlan],
    ) -> Result<Vec<PackagePlan>, Refusal> {
        let mut packages: Vec<PackagePlan> = Vec::new();
        for (index, (rendition, (request, _))) in renditions.iter().zip(requests).enumerate() {
            let (true, Some(gop_frames)) = (is_package(request), self.gop_frames(request)) else { continue };
            if let Some(package) = packages.iter_mut().find(|package| package.manifest == rendition.output) {
                belongs(rendition, &renditions[package.renditions[0]], package, gop_frames)?;
                package.renditions.push(index);
                continue;
            }
            packages.push(PackagePlan {
                manifest: rendition.output.clone(),
                container: rendition.container.clone(),
                renditions: vec![index],
                gop_frames,
                segment_seconds: f64::from(gop_frames) / self.frame_rate(),
                by_default: request.gop.is_none(),
            });
        }
        Ok(packages)
    }

    /// The graph: cut where an encoder needs it, and with branches that come to the same made one.
    pub(super) fn build(mut self, renditions: &mut [RenditionPlan]) -> Result<Built, Error> {
        let mut outputs = self.file.pictures(&self.graph)?;
        if self.cut_odd_sides(&outputs, renditions)? {
            outputs = self.file.pictures(&self.graph)?;
        }
        in_step(&self.graph, &outputs)?;
        let follows_rate = self.request.renditions.iter().any(|rendition| rendition.encoder.target.is_bitrate());
        if follows_rate && !self.knows_rate(&outputs[0]) {
            self.warnings.push(UNTOLD_RATE.to_owned());
        }
        let mut pictures = Vec::new();
        if let [only] = outputs.as_slice() {
            pictures.push(picture(only));
        } else {
            let separate = std::mem::take(&mut self.graph.branches).into_iter().zip(&outputs);
            let mut numbers = Vec::new();
            for (mut branch, output) in separate {
                branch.settle(output);
                let number = self.branch(branch);
                if number == pictures.len() {
                    pictures.push(picture(output));
                }
                numbers.push(number);
            }
            renditions.iter_mut().for_each(|rendition| rendition.branch = numbers[rendition.branch]);
        }
        renditions.iter().try_for_each(|rendition| large_enough(rendition, &pictures[rendition.branch]))?;
        let mut warnings = self.warnings;
        warnings.extend(renditions.iter().flat_map(|rendition| rendition.encoder.warnings.clone()));
        Ok(Built { timing: self.timing, graph: self.graph, pictures, warnings })
    }

    /// Whether the frame rate is the container's or a filter's word.
    fn knows_rate(&self, output: &FilterOutput) -> bool {
        let filtered = |rate: Rational| rate != self.timing.rate || output.time_base == rate.inverse();
        Timing::told(&self.file.info().video).is_some() || output.frame_rate.is_some_and(filtered)
    }

    /// Where an encoder needs whole chroma samples and the picture has none for its last column or row, that is cut off and
    /// said. Says whether anything was.
    fn cut_odd_sides(&mut self, outputs: &[FilterOutput], renditions: &[RenditionPlan]) -> Result<bool, Refusal> {
        let mut cut = false;
        for (number, output) in outputs.iter().enumerate() {
            let strict = renditions.iter().find(|rendition| rendition.branch == number && !rendition.adapter.odd_sizes);
            let Some(rendition) = strict else { continue };
            let (across, down) = chroma_step(&output.pixel_format);
            let (width, height) = (output.width - output.width % across, output.height - output.height % down);
            if (width, height) == (output.width, output.height) {
                continue;
            }
            let encoder = rendition.encoder.encoder;
            let odd = format!("{}x{} in {}", output.width, output.height, output.pixel_format);
            if width == 0 || height == 0 {
                let why = format!("does not take pictures of {odd}; --vf scale=… makes them larger");
                return Err(Refusal::Target { encoder: encoder.to_owned(), why });
            }
            let branch = &mut self.graph.branches[number];
            let done = match &mut branch.size {
                Some(size) => {
                    *size = (width, height);
                    "scaled"
                }
                None => {
                    let crop = format!("crop={width}:{height}:0:0");
                    branch.filters = Some(branch.filters.take().map_or(crop.clone(), |own| format!("{own},{crop}")));
                    "cropped"
                }
            };
            self.warnings
                .push(format!("{encoder} does not take pictures of {odd}: they are {done} to {width}x{height}"));
            cut = true;
        }
        Ok(cut)
    }
}

/// Whether the analysis of a first pass can take pictures as small as these.
fn large_enough(rendition: &RenditionPlan, picture: &Picture) -> Result<(), Refusal> {
    let PassModel::TwoRuns(TwoRuns { least_side: least, .. }) = &rendition.adapter.passes else { return Ok(()) };
    if !rendition.encoder.two_pass() || picture.width.min(picture.height) >= *least {
        return Ok(());
    }
    let (encoder, width, height) = (rendition.encoder.encoder.to_owned(), picture.width, picture.height);
    let why = format!(
        "its first pass takes pictures of {least}x{least} and more, and dies of these of {width}x{height}: --passes 1, or \
         --vf scale=… makes them larger"
    );
    Err(Refusal::Target { encoder, why })
}

/// Lets the renditions of a package that have fewer passes to run wait for the others, so that all end in one run.
pub(super) fn wait_for_each_other(packages: &[PackagePlan], renditions: &mut [RenditionPlan]) {
    for package in packages {
        let last = package.renditions.iter().map(|index| renditions[*index].last_run()).max().unwrap_or(1);
        for index in &package.renditions {
            renditions[*index].first_run += last - renditions[*index].last_run();
        }
    }
}

/// What feeds the renditions.
pub(super) struct Built {
    pub(super) timing: Timing,
    pub(super) graph: Graph,
    pub(super) pictures: Vec<Picture>,
    pub(super) warnings: Vec<String>,
}

fn picture(output: &FilterOutput) -> Picture {
    Picture { width: output.width, height: output.height, pixel_format: output.pixel_format.clone() }
}

/// One clock for all: what changes the frame rate belongs before the branches.
fn in_step(graph: &Graph, outputs: &[FilterOutput]) -> Result<(), Refusal> {
    let rate = |output: &FilterOutput| (output.time_base, output.frame_rate);
    let other = outputs.iter().position(|output| rate(output) != rate(&outputs[0]));
    let Some(number) = other else { return Ok(()) };
    let culprit = [0, number].into_iter().find_map(|number| graph.branches[number].filters.clone()).unwrap_or_default();
    Err(Refusal::RenditionFilters { filters: culprit })
}

/// Whether a rendition can share a package with the first one of it.
fn belongs(one: &RenditionPlan, first: &RenditionPlan, package: &PackagePlan, gop_frames: u32) -> Result<(), Refusal> {
    let refused = |why: &str| {
        let why = format!("{} and {} {why}", first.name, one.name);
        Err(Refusal::Output { path: package.manifest.display().to_string(), why })
    };
    if package.gop_frames != gop_frames {
        return refused("have key frames at different distances, and a player switches only where both have one");
    }
    if one.streams != first.streams {
        return refused("differ in their sound or subtitles, which a package has once");
    }
    if one.container != first.container || one.mux_options != first.mux_options || one.overwrite != first.overwrite {
        return refused("differ in container, its options or overwriting");
    }
    Ok(())
}

fn is_package(request: &RenditionRequest) -> bool {
    Container::for_path(&request.output, request.container.as_deref()).is_ok_and(|container| container.is_package())
}

/// The length of a segment where nobody says: what HLS and DASH players are used to, and short enough to switch soon.
const DEFAULT_SEGMENT: GopLength = GopLength::Seconds(2.0);

/// Least and greatest length of a session's segments where nobody says, in seconds.
const SEGMENT_SECONDS: (f64, f64) = (2.0, 10.0);
/// What encoders put between key frames by themselves, in frames, whatever these last.
const LONGEST_GROUP: f64 = 250.0;
/// How many segments of the usual length a session has at least, where they do not come out too short.
const FEWEST_SEGMENTS: f64 = 4.0;

/// Where libavformat's guesses are time bases.
const UNTOLD_RATE: &str = "the source tells no frame rate: the encoder is told 25 frames per second, and the bit rate holds for \
                           that, whatever the frames' real distances; --vf fps=… gives one";

/// A branch that changes nothing.
const AS_IT_COMES: Branch =
    Branch { size: None, filters: None, shape: None, pixel_formats: Vec::new(), colour_ranges: Vec::new() };
