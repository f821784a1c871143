//! From a request to a plan: what is refused, which course is taken, and every setting with its origin.

use super::measured;
use super::native::{self, NativePlan};
use super::{
    Analysis, Codec, EncoderPlan, FirstPassChoice, Hdr10Data, LEVEL, Levels, MasteringDisplay, NotMeasured, NotNative,
    OnUnsupported, Origin, PassFlag, PassStep, Passes, PlannedSetting, ProbePlan, Request, STATS_PATH, SessionAim,
    SessionPlan, SessionRequest, StatsUse,
};
use crate::adapter::{
    Adapter, Bitrate, Capping, Hdr10Style, Inside, Knob, PRESETS, PROBE, PassModel, Probe, Reserved, Sessions, Setting,
    Speed, StatsRoute, Threads, TwoRuns, all, named, nearest, with_sessions, with_two_passes,
};
use crate::error::Refusal;
use crate::probe::value::{self, normal};
use crate::probe::{Capabilities, OptionInfo, OptionKind, capabilities};
use crate::rate::{BitRate, Target};

/// One compilation: the request, what the linked libavcodec has, and what was found worth a warning so far.
pub(super) struct Compiler<'a> {
    request: &'a Request,
    adapter: &'static Adapter,
    capabilities: &'a Capabilities,
    warnings: Vec<String>,
}

/// How the rate target is asked for.
struct Aim {
    settings: Vec<PlannedSetting>,
    /// Settings of an analysis inside the run that takes effect beside it; empty: none does.
    analysis: &'static [Setting],
}

/// Which passes will run.
enum Course {
    One,
    /// One, with analysis inside; its settings are the aim's.
    OneWithAnalysis(Inside),
    Two(TwoRuns, StatsRoute),
    Session(SessionPlan, Sessions),
}

impl<'a> Compiler<'a> {
    pub(super) fn new(request: &'a Request, capabilities: &'a Capabilities) -> Self {
        Compiler { request, adapter: request.adapter, capabilities, warnings: Vec::new() }
    }

    pub(super) fn plan(mut self) -> Result<EncoderPlan, Refusal> {
        self.refuse_what_no_version_has()?;
        self.require_encoder()?;
        let own = self.own_options()?;
        let aim = self.aim()?;
        let course = self.course(&aim)?;
        let shared = self.shared(&course, aim, own)?;
        let native = self.native(&shared)?;
        Ok(EncoderPlan {
            encoder: self.adapter.name,
            row: self.adapter.row,
            libavcodec: self.capabilities.libavcodec.clone(),
            library: self.capabilities.library.clone(),
            target: self.request.target,
            cap: self.request.cap,
            analysis: course.analysis(),
            session: self.session_plan(&course),
            native,
            steps: self.steps(&course, &shared),
            forced_keyframes: self.request.gop_frames.filter(|_| !self.adapter.gop.exact),
            pixel_formats: self.pixel_formats(),
            warnings: self.warnings,
        })
    }

    /// Two passes that no build and no target would make possible: said before anything smaller.
    fn refuse_what_no_version_has(&self) -> Result<(), Refusal> {
        let Request { on_unsupported, .. } = self.request;
        let passes = self.request.passes_meant();
        match (self.request.target, self.native_codec()) {
            (Target::Measured(_), Some(_)) => return Err(NotNative::MeasuredQuality.of(self.adapter.name)),
            (_, Some(Err(why))) if passes == Passes::Session => return Err(why.of(self.adapter.name)),
            _ => {}
        }
        match self.adapter.passes {
            PassModel::Refused(because) if (passes, *on_unsupported) == (Passes::Two, OnUnsupported::Refuse) => {
                Err(self.adapter.refuses_two_passes(because, self.capabilities.videotoolbox))
            }
            PassModel::TwoRuns(_) | PassModel::Inside(_) | PassModel::Refused(_) => Ok(()),
        }
    }

    fn require_encoder(&self) -> Result<(), Refusal> {
        if self.capabilities.present {
            return Ok(());
        }
        Err(Refusal::NoEncoder {
            encoder: self.name(),
            libavcodec: self.capabilities.libavcodec.clone(),
            remedy: self.adapter.availability.to_owned(),
        })
    }

    // ---- the person's own options

    fn own_options(&self) -> Result<Vec<PlannedSetting>, Refusal> {
        let options = self.request.options.iter().map(|(option, value)| self.own_option(option, value));
        Ok(options.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// One option of the person's: one setting, or one for each key of a parameter string.
    fn own_option(&self, option: &str, value: &str) -> Result<Vec<PlannedSetting>, Refusal> {
        self.refuse_reserved(option, None)?;
        let info = self.info(option)?;
        info.check(value).map_err(|why| self.value_refused(option, value, why))?;
        if info.kind == OptionKind::Flags {
            value::flag_names(value).try_for_each(|name| self.refuse_reserved(option, Some(name)))?;
        }
        if info.kind != OptionKind::Params {
            return Ok(vec![planned(option, None, value, Origin::You)]);
        }
        let pairs = value::params(value).map_err(|why| self.value_refused(option, value, why))?;
        pairs.iter().try_for_each(|(key, _)| self.refuse_reserved(option, Some(key)))?;
        Ok(pairs.iter().map(|(key, value)| planned(option, Some(key), value, Origin::You)).collect())
    }

    fn info(&self, option: &str) -> Result<&'a OptionInfo, Refusal> {
        self.capabilities.options.get(option).ok_or_else(|| Refusal::UnknownOption {
            encoder: self.name(),
            option: option.to_owned(),
            near: nearest(option, self.capabilities.options.keys().map(String::as_str)),
        })
    }

    fn refuse_reserved(&self, option: &str, key: Option<&str>) -> Result<(), Refusal> {
        let of_session = self.adapter.sessions.filter(|_| self.request.passes_meant() == Passes::Session);
        let of_session = of_session.iter().flat_map(|sessions| sessions.reserved);
        match self.adapter.reserved().chain(of_session).find(|reserved| covers(reserved, option, key)) {
            None => Ok(()),
            Some(reserved) => Err(Refusal::Reserved {
                encoder: self.name(),
                option: key.map_or_else(|| option.to_owned(), |key| format!("{key} in {option}")),
                why: reserved.why.to_owned(),
            }),
        }
    }

    // ---- the rate target

    fn aim(&mut self) -> Result<Aim, Refusal> {
        match self.request.target {
            _ if self.request.passes_meant() == Passes::Session && self.native_codec().is_none() => {
                self.aim_of_segments()
            }
            Target::Quality(level) => self.aim_at_quality(level),
            Target::Measured(_) => Err(NotMeasured::Passes.of(self.adapter.name)),
            Target::Average(rate) => self.aim_at_rate(rate),
            Target::Size(_) => match self.request.provisional {
                Some(rate) => self.aim_at_rate(rate),
                None => Err(self.target_refused("a file size needs a length to be turned into a bit rate".to_owned())),
            },
        }
    }

    fn aim_at_quality(&mut self, level: f64) -> Result<Aim, Refusal> {
        let knob = self.knob()?;
        let value = self.level(knob, level)?;
        let mut settings = self.turned(knob, &value);
        settings.extend(self.capped(knob.cap)?);
        Ok(Aim { settings, analysis: knob.analysis })
    }

    /// Each segment has a level of constant quality; it is known when the session runs.
    fn aim_of_segments(&mut self) -> Result<Aim, Refusal> {
        self.sessions()?;
        match self.request.target {
            Target::Average(rate) => drop(self.bitrate(rate)?),
            Target::Measured(quality) => {
                measured::check(&quality, self.request, self.capabilities).map_err(|why| why.of(self.adapter.name))?
            }
            Target::Quality(_) => {
                return Err(self.no_session("with a constant quality there is nothing to correct: use --passes 1, or --quality for one that is measured"));
            }
            Target::Size(_) => return Err(self.no_session("a size is not among its targets: use -b, or --passes 2")),
        }
        if self.request.cap.is_some() {
            let why = "its segments know nothing of each other's buffers, so --maxrate would not hold over the whole: use --passes 2";
            return Err(self.no_session(why));
        }
        if self.request.first_pass != FirstPassChoice::Shared {
            return Err(self.no_session("it reads no statistics of a first pass"));
        }
        let knob = self.knob()?;
        Ok(Aim { settings: self.turned(knob, LEVEL), analysis: &[] })
    }

    fn sessions(&self) -> Result<Sessions, Refusal> {
        self.adapter.sessions.ok_or_else(|| Refusal::NoSession { encoder: self.name(), instead: with_sessions() })
    }

    /// A knob at this level, with everything that it needs.
    fn turned(&mut self, knob: &Knob, level: &str) -> Vec<PlannedSetting> {
        let mut settings = self.present(knob.with, Origin::Target);
        for option in [knob.option].iter().chain(knob.also).filter(|option| self.has(option)) {
            settings.push(planned(option, None, level, Origin::Target));
        }
        settings
    }

    /// The first knob whose options, and the settings it needs, the linked libavcodec has.
    fn knob(&self) -> Result<&'static Knob, Refusal> {
        let works = |knob: &&Knob| self.has(knob.option) && knob.with.iter().all(|setting| self.takes(setting));
        self.adapter
            .quality
            .iter()
            .find(works)
            .ok_or_else(|| self.target_refused("it has no constant quality; use a bit rate (-b)".to_owned()))
    }

    /// The level as the option takes it.
    fn level(&self, knob: &Knob, level: f64) -> Result<String, Refusal> {
        let (mut least, mut greatest) = knob.range;
        if let Some(info) = self.capabilities.options.get(knob.option).filter(|_| knob.scale == 1) {
            (least, greatest) = (least.max(info.min), greatest.min(info.max));
        }
        if !(least..=greatest).contains(&level) {
            return Err(
                self.target_refused(format!("quality {level} is not from {least} to {greatest} ({})", knob.option))
            );
        }
        if knob.whole && level.fract() != 0.0 {
            return Err(self.target_refused(format!("quality {level}: {} takes whole numbers only", knob.option)));
        }
        let scaled = level * f64::from(knob.scale);
        Ok(if knob.scale > 1 { scaled.round().to_string() } else { scaled.to_string() })
    }

    fn aim_at_rate(&mut self, rate: BitRate) -> Result<Aim, Refusal> {
        let bitrate = self.bitrate(rate)?;
        let mut settings = self.present(bitrate.with, Origin::Target);
        settings.push(planned("b", None, &rate.0.to_string(), Origin::Target));
        if let Some(cap) = self.request.cap.filter(|cap| cap.max < rate) {
            return Err(self.target_refused(format!("a peak of {} is below the average of {rate}", cap.max)));
        }
        settings.extend(self.capped(bitrate.cap)?);
        let analysis = match &self.adapter.passes {
            PassModel::Inside(inside) => inside.settings,
            PassModel::TwoRuns(_) | PassModel::Refused(_) => &[],
        };
        Ok(Aim { settings, analysis })
    }

    fn bitrate(&self, rate: BitRate) -> Result<Bitrate, Refusal> {
        let bitrate = self.adapter.bitrate.ok_or_else(|| {
            self.target_refused("it follows no bit rate: the profile decides; use a quality (--crf)".to_owned())
        })?;
        let (least, greatest) = bitrate.range;
        if (least..=greatest).contains(&rate.0) {
            return Ok(bitrate);
        }
        let (least, greatest) = (BitRate(least), BitRate(greatest));
        Err(self.target_refused(format!("{rate} is not from {least} to {greatest}, which it takes")))
    }

    /// The settings of the cap beside this target.
    fn capped(&mut self, capping: Capping) -> Result<Vec<PlannedSetting>, Refusal> {
        let Some(cap) = self.request.cap else { return Ok(Vec::new()) };
        let (max, buffer) = (cap.max.0.to_string(), cap.buffer.0.to_string());
        let limits =
            vec![planned("maxrate", None, &max, Origin::Target), planned("bufsize", None, &buffer, Origin::Target)];
        for limit in &limits {
            let info = self.info(&limit.option)?;
            info.check(&limit.value).map_err(|why| self.value_refused(&limit.option, &limit.value, why))?;
        }
        match capping {
            Capping::Refused(why) => Err(self.target_refused(format!("no --maxrate with this target: {why}"))),
            Capping::Buffer => Ok(limits),
            Capping::Loose(words) => {
                self.warn(format!("--maxrate: {words}"));
                Ok(limits)
            }
            Capping::AsBitrate(words) => {
                self.warn(format!("--maxrate is given as the bit rate: {words}"));
                Ok(vec![planned("b", None, &max, Origin::Target)])
            }
        }
    }

    // ---- the passes

    fn course(&mut self, aim: &Aim) -> Result<Course, Refusal> {
        match (&self.adapter.passes, self.request.passes_meant()) {
            // Its passes are VideoToolbox's own.
            (PassModel::Refused(_), Passes::Session) => Ok(Course::One),
            (_, Passes::Session) => self.session(),
            (_, Passes::One) => Ok(Course::One),
            (PassModel::TwoRuns(model), passes) => self.two_runs(model, passes),
            (PassModel::Inside(_) | PassModel::Refused(_), Passes::Auto) => Ok(Course::One),
            (PassModel::Inside(inside), Passes::Two) => self.inside(inside, aim),
            (PassModel::Refused(because), Passes::Two) => {
                self.warn(format!("one pass instead of two: {}", because.words()));
                Ok(Course::One)
            }
        }
    }

    fn two_runs(&mut self, model: &TwoRuns, passes: Passes) -> Result<Course, Refusal> {
        let is_quality = !self.request.target.is_bitrate();
        match (self.capabilities.route, model.no_quality) {
            (_, _) if is_quality && passes == Passes::Auto => Ok(Course::One),
            (_, Some(words)) if is_quality => {
                let refusal = Refusal::QualityNeedsOnePass { encoder: self.name(), why: words.to_owned() };
                self.or_one_pass(refusal, "one pass instead of two", words)
            }
            (Some(route), _) => Ok(Course::Two(*model, route)),
            (None, _) if passes == Passes::Auto => {
                self.warn(format!("one pass instead of two: {}", model.without_route));
                Ok(Course::One)
            }
            (None, _) => {
                let refusal = self.no_two_passes(model.without_route, "use --passes 1");
                self.or_one_pass(refusal, "one pass instead of two", model.without_route)
            }
        }
    }

    /// What VideoToolbox's own session makes; `None` where another's passes are asked for.
    fn native_codec(&self) -> Option<Result<Codec, NotNative>> {
        native::codec(self.adapter, self.capabilities.videotoolbox)
    }

    fn native(&self, shared: &Settings<'_>) -> Result<Option<NativePlan>, Refusal> {
        let (Passes::Session, Some(codec)) = (self.request.passes_meant(), self.native_codec()) else {
            return Ok(None);
        };
        let Request { target, gop_frames, session, .. } = self.request;
        let plan =
            codec.and_then(|codec| NativePlan::new(codec, session.most_passes, *target, *gop_frames, &shared.list));
        plan.map(Some).map_err(|why| why.of(self.adapter.name))
    }

    fn session(&self) -> Result<Course, Refusal> {
        let knob = self.knob()?;
        let sessions = self.sessions()?;
        let SessionRequest { most_passes, segment, uneven } = self.request.session;
        // Groups of a fixed length begin anew with each segment.
        let group = self.request.gop_frames.unwrap_or(1).max(1);
        let frames = segment.map_or(SEGMENT_FRAMES, |length| length.frames(NOMINAL_RATE)).max(SHORTEST_SEGMENT);
        let step = if knob.whole { 1.0 } else { LEVEL_STEP };
        let (least, greatest) = sessions.levels;
        let aim = match self.request.target {
            Target::Measured(quality) => SessionAim::Quality(quality),
            Target::Average(_) | Target::Quality(_) | Target::Size(_) => SessionAim::Rate { tolerance: TOLERANCE },
        };
        let plan = SessionPlan {
            most_passes,
            aim,
            segment_frames: frames.div_ceil(group).checked_mul(group).unwrap_or(frames - frames % group),
            // Where each has a quality of its own, none makes good what others miss.
            uneven: uneven && aim.metric().is_none(),
            group_frames: group,
            side_by_side: self.request.threads.filter(|threads| *threads > 0),
            levels: Levels { least, greatest, step, usual: sessions.usual, halving: sessions.halving },
            probe: None,
            headers: sessions.headers,
        };
        Ok(Course::Session(plan, sessions))
    }

    fn session_plan(&self, course: &Course) -> Option<SessionPlan> {
        let Course::Session(plan, sessions) = course else { return None };
        // A measured quality is not foreseen from what another encoder does.
        let is_rate = matches!(plan.aim, SessionAim::Rate { .. });
        let probe = named(PROBE.encoder).ok().filter(|prober| is_rate && capabilities(prober).present);
        Some(SessionPlan { probe: probe.map(|_| quick(sessions.worth)), ..plan.clone() })
    }

    fn no_session(&self, why: &str) -> Refusal {
        self.target_refused(format!("no session: {why}"))
    }

    fn inside(&mut self, inside: &Inside, aim: &Aim) -> Result<Course, Refusal> {
        let refusal = self.no_two_passes(inside.words, "--on-unsupported fallback switches that on");
        if aim.analysis.is_empty() {
            return self.or_one_pass(refusal, "one pass instead of two", "no analysis takes effect beside this target");
        }
        self.or_one_pass(refusal, "one pass with analysis inside, instead of two", inside.words)?;
        Ok(Course::OneWithAnalysis(*inside))
    }

    /// The refusal, or one pass and a warning where the person said so.
    fn or_one_pass(&mut self, refusal: Refusal, instead: &str, why: &str) -> Result<Course, Refusal> {
        match self.request.on_unsupported {
            OnUnsupported::Refuse => Err(refusal),
            OnUnsupported::Fallback => {
                self.warn(format!("{instead}: {why}"));
                Ok(Course::One)
            }
        }
    }

    fn no_two_passes(&self, why: &str, remedy: &str) -> Refusal {
        let codec = self.adapter.codec;
        let is_other = |adapter: &&Adapter| adapter.codec == codec && adapter.name != self.adapter.name;
        let same: Vec<&str> = all()
            .into_iter()
            .filter(|adapter| adapter.supports_two_pass())
            .filter(is_other)
            .map(|adapter| adapter.name)
            .collect();
        let others = if same.is_empty() { with_two_passes().join(", ") } else { same.join(", ") };
        Refusal::NoTwoPass {
            encoder: self.name(),
            why: why.to_owned(),
            remedy: format!("{remedy}, or take {others} for two passes"),
        }
    }

    // ---- the settings of every pass

    /// Speed, the row's own, the target, the group of pictures, threads, analysis, the source's metadata, the person's.
    fn shared(&mut self, course: &Course, aim: Aim, own: Vec<PlannedSetting>) -> Result<Settings<'a>, Refusal> {
        let mut settings = Settings { list: Vec::new(), capabilities: self.capabilities };
        settings.extend(self.speed()?);
        settings.extend(self.present(self.adapter.always, Origin::Adapter));
        if !self.request.verbose {
            settings.extend(self.present(self.adapter.quiet, Origin::Adapter));
        }
        settings.extend(aim.settings);
        settings.extend(self.group_of_pictures()?);
        if !matches!(course, Course::Session(..)) {
            settings.extend(self.threads());
        }
        if let Course::OneWithAnalysis(_) = course {
            settings.extend(self.present(aim.analysis, Origin::Adapter));
        }
        settings.extend(self.hdr10());
        settings.extend(self.interlaced());
        settings.extend(own);
        // After the person's own, of which none is for the same place (see `own_option`), but for flags that add up.
        if let Course::Session(_, sessions) = course {
            settings.extend(self.present(sessions.with, Origin::Pass));
        }
        self.refuse_cancelled_analysis(&settings)?;
        self.refuse_impossible_groups(&settings)?;
        Ok(settings)
    }

    fn speed(&self) -> Result<Option<PlannedSetting>, Refusal> {
        let Some(preset) = &self.request.preset else { return Ok(None) };
        let speed = self
            .adapter
            .speed
            .filter(|speed| self.has(speed.option))
            .ok_or_else(|| self.value_refused("preset", preset, "the encoder has no speed to set".to_owned()))?;
        let value = match PRESETS.iter().position(|name| name == preset) {
            Some(index) => speed.native[index].to_owned(),
            None => self.native_speed(&speed, preset)?,
        };
        Ok(Some(planned(speed.option, None, &value, Origin::You)))
    }

    /// One of the encoder's own names, or a number in the option's range.
    fn native_speed(&self, speed: &Speed, preset: &str) -> Result<String, Refusal> {
        let info = self.info(speed.option)?;
        let is_text = info.kind == OptionKind::Text;
        let is_taken = if is_text { speed.names.contains(&preset) } else { info.check(preset).is_ok() };
        if is_taken {
            return Ok(preset.to_owned());
        }
        let own = if is_text { String::new() } else { own_speeds(speed.option, info) };
        Err(self.value_refused("preset", preset, format!("takes {}{own}", PRESETS.join(", "))))
    }

    fn group_of_pictures(&mut self) -> Result<Vec<PlannedSetting>, Refusal> {
        let Some(frames) = self.request.gop_frames else { return Ok(Vec::new()) };
        let gop = self.adapter.gop;
        let refused = |why: &str| Err(self.value_refused("gop", &frames.to_string(), why.to_owned()));
        let Some(length) = gop.length else { return refused("every frame is a key frame already") };
        if frames == 0 {
            return refused("takes 1 or more frames");
        }
        let lengths = [Some(length), gop.least].into_iter().flatten();
        let lengths = lengths.map(|slot| planned(slot.option, slot.key, &frames.to_string(), Origin::You));
        let mut settings: Vec<PlannedSetting> = lengths.collect();
        settings.extend(self.present(gop.fixed, Origin::Adapter));
        if !gop.exact {
            settings.extend(self.present(gop.forced, Origin::Adapter));
        }
        Ok(settings)
    }

    fn threads(&mut self) -> Option<PlannedSetting> {
        let asked = self.request.threads.filter(|threads| *threads > 0).map(|threads| threads.to_string());
        match (self.adapter.threads, asked) {
            (Threads::Context, Some(threads)) => Some(planned("threads", None, &threads, Origin::You)),
            // libavcodec's own default is one thread; ffmpeg's is this.
            (Threads::Context, None) => Some(planned("threads", None, "0", Origin::Adapter)),
            (Threads::Param(option, key), Some(threads)) => Some(planned(option, Some(key), &threads, Origin::You)),
            (Threads::Param(..) | Threads::None, None) => None,
            (Threads::None, Some(_)) => {
                self.warn("--threads changes nothing: the hardware encodes".to_owned());
                None
            }
        }
    }

    fn hdr10(&self) -> Vec<PlannedSetting> {
        let (Some(data), Some(route)) = (self.request.hdr10, self.adapter.hdr10) else { return Vec::new() };
        if !self.has(route.option) {
            return Vec::new();
        }
        let Hdr10Data { display, light } = data;
        let display = display.map(|display| (route.display, display_text(&display, route.style)));
        let light = light.map(|(greatest, average)| (route.light, format!("{greatest},{average}")));
        let values = [display, light].into_iter().flatten();
        values.map(|(key, value)| planned(route.option, Some(key), &value, Origin::Source)).collect()
    }

    /// Two fields stay two fields where the encoder can code them; else it is said, for the picture will show combs.
    fn interlaced(&mut self) -> Vec<PlannedSetting> {
        if !self.request.interlaced {
            return Vec::new();
        }
        let settings = self.present(self.adapter.interlaced, Origin::Source);
        if settings.is_empty() {
            let encoder = self.adapter.name;
            self.warn(format!(
                "the source is interlaced, and {encoder} codes it as if it were progressive: --vf bwdif deinterlaces it"
            ));
        }
        settings
    }

    /// An analysis that the speed switches off again would be one in name only.
    fn refuse_cancelled_analysis(&self, settings: &Settings<'_>) -> Result<(), Refusal> {
        let (PassModel::Inside(inside), Some(speed)) = (&self.adapter.passes, self.adapter.speed) else {
            return Ok(());
        };
        let is_on = |analysis: &Setting| settings.value(analysis.option, None).is_some_and(|value| value != "0");
        let cancels = settings.value(speed.option, None).filter(|value| inside.cancelled_by.contains(value));
        match cancels.filter(|_| inside.settings.iter().any(is_on)) {
            None => Ok(()),
            Some(value) => {
                let why = format!("it switches the analysis off again; take {}", speed.native[0]);
                Err(self.value_refused(speed.option, value, format!("{why} to {}", speed.native[9])))
            }
        }
    }

    /// x265 crashes where the least distance of key frames is above the greatest; with all others it is a mistake.
    fn refuse_impossible_groups(&self, settings: &Settings<'_>) -> Result<(), Refusal> {
        let gop = self.adapter.gop;
        let (Some(length), Some(least)) = (gop.length, gop.least) else { return Ok(()) };
        let set = |option, key| settings.value(option, key).and_then(value::number).filter(|number| *number >= 0.0);
        let longest = set(length.option, length.key).or(gop.default_length.map(f64::from));
        match (set(least.option, least.key), longest) {
            (Some(shortest), Some(longest)) if shortest > longest => {
                let why = format!("above the greatest distance of key frames, {longest}");
                Err(self.value_refused(least.option, &shortest.to_string(), why))
            }
            _ => Ok(()),
        }
    }

    // ---- the steps

    fn steps(&mut self, course: &Course, shared: &Settings<'a>) -> Vec<PassStep> {
        let Course::Two(model, route) = course else {
            if self.request.fast_first {
                self.warn("--fast-first-pass changes nothing: there is no first pass".to_owned());
            }
            return vec![only_step(shared.list.clone())];
        };
        let mut first = shared.clone();
        if self.request.fast_first && model.fast_first.is_empty() {
            self.warn(format!(
                "--fast-first-pass changes nothing: {} has no quicker settings for it",
                self.adapter.name
            ));
        }
        if self.request.fast_first {
            first.extend(self.present(model.fast_first, Origin::Pass));
        }
        [(1, first), (2, shared.clone())].map(|(number, settings)| step_of_two(number, *route, settings)).into()
    }

    fn pixel_formats(&self) -> Vec<String> {
        match self.capabilities.pixel_formats.is_empty() {
            true => self.adapter.pixel_formats.iter().map(|&format| format.to_owned()).collect(),
            false => self.capabilities.pixel_formats.clone(),
        }
    }

    // ---- helpers

    /// Those settings of a row that the linked libavcodec has; a required one that it lacks is warned of.
    fn present(&mut self, settings: &[Setting], origin: Origin) -> Vec<PlannedSetting> {
        let (present, missing): (Vec<&Setting>, Vec<&Setting>) =
            settings.iter().partition(|setting| self.has(setting.option));
        for setting in missing.into_iter().filter(|setting| !setting.optional) {
            self.warn(format!(
                "the linked libavcodec's {} has no option {}; left out",
                self.adapter.name, setting.option
            ));
        }
        present.into_iter().map(|setting| planned(setting.option, setting.key, setting.value, origin)).collect()
    }

    fn has(&self, option: &str) -> bool {
        self.capabilities.options.contains_key(option)
    }

    fn takes(&self, setting: &Setting) -> bool {
        self.capabilities.options.get(setting.option).is_some_and(|info| info.check(setting.value).is_ok())
    }

    fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    fn name(&self) -> String {
        self.adapter.name.to_owned()
    }

    fn target_refused(&self, why: String) -> Refusal {
        Refusal::Target { encoder: self.name(), why }
    }

    fn value_refused(&self, option: &str, value: &str, why: String) -> Refusal {
        Refusal::OptionValue { encoder: self.name(), option: option.to_owned(), value: value.to_owned(), why }
    }
}

impl Course {
    fn analysis(&self) -> Option<Analysis> {
        match self {
            Course::OneWithAnalysis(inside) => Some(Analysis { reach: inside.reach, words: inside.words }),
            Course::One | Course::Two(..) | Course::Session(..) => None,
        }
    }
}

/// What tells segments from one another.
fn quick(worth: f64) -> ProbePlan {
    let Probe { encoder, filter, with, level, levels: (least, greatest), usual, halving } = PROBE;
    let settings = with.iter().map(|setting| planned(setting.option, setting.key, setting.value, Origin::Adapter));
    let level = planned(level, None, LEVEL, Origin::Target);
    ProbePlan {
        encoder,
        step: only_step(settings.chain([level]).collect()),
        filter: filter.to_owned(),
        levels: Levels { least, greatest, step: LEVEL_STEP, usual, halving },
        worth,
    }
}

/// The step of a run that is the only one.
fn only_step(settings: Vec<PlannedSetting>) -> PassStep {
    PassStep { number: 1, of: 1, flag: PassFlag::None, settings, stats: StatsUse::None, output: true }
}

/// Settings, each slot once: a later one takes the place of an earlier one, except that flags add up.
#[derive(Clone)]
struct Settings<'a> {
    list: Vec<PlannedSetting>,
    capabilities: &'a Capabilities,
}

impl Settings<'_> {
    fn extend(&mut self, settings: impl IntoIterator<Item = PlannedSetting>) {
        settings.into_iter().for_each(|setting| self.put(setting));
    }

    fn put(&mut self, mut setting: PlannedSetting) {
        let is_same = |other: &PlannedSetting| other.is_at(&setting.option, setting.key.as_deref());
        if let Some(index) = self.list.iter().position(is_same) {
            let earlier = self.list.remove(index);
            let is_flags =
                self.capabilities.options.get(&setting.option).is_some_and(|info| info.kind == OptionKind::Flags);
            if is_flags {
                setting.value = added(&earlier.value, &setting.value);
            }
        }
        self.list.push(setting);
    }

    fn value(&self, option: &str, key: Option<&str>) -> Option<&str> {
        self.list.iter().find(|setting| setting.is_at(option, key)).map(|setting| setting.value.as_str())
    }
}

/// Two sets of flags as one: an absolute one first, for it wipes what is before it.
fn added(earlier: &str, later: &str) -> String {
    match later.starts_with(['+', '-']) {
        true => format!("{earlier}{later}"),
        false if earlier.starts_with(['+', '-']) => format!("{later}{earlier}"),
        false => later.to_owned(),
    }
}

fn step_of_two(number: u8, route: StatsRoute, mut settings: Settings<'_>) -> PassStep {
    let is_first = number == 1;
    match route {
        StatsRoute::Context => {}
        StatsRoute::File { option } => settings.put(planned(option, None, STATS_PATH, Origin::Pass)),
        StatsRoute::Params { option, pass, stats } => {
            settings.put(planned(option, Some(pass), &number.to_string(), Origin::Pass));
            settings.put(planned(option, Some(stats), STATS_PATH, Origin::Pass));
        }
    }
    let flag = match route {
        StatsRoute::Params { .. } => PassFlag::None,
        StatsRoute::Context | StatsRoute::File { .. } if is_first => PassFlag::First,
        StatsRoute::Context | StatsRoute::File { .. } => PassFlag::Second,
    };
    let stats = if is_first { StatsUse::Write(route) } else { StatsUse::Read(route) };
    PassStep { number, of: 2, flag, settings: settings.list, stats, output: !is_first }
}

fn covers(reserved: &Reserved, option: &str, key: Option<&str>) -> bool {
    let matches = |pattern: &str, key: &str| match pattern.strip_suffix('*') {
        Some(start) => key.starts_with(start),
        None => key == pattern,
    };
    reserved.option == option
        && match key.map(normal) {
            None => reserved.keys.is_empty(),
            Some(key) => reserved.keys.iter().any(|pattern| matches(pattern, &key)),
        }
}

fn planned(option: &str, key: Option<&str>, value: &str, origin: Origin) -> PlannedSetting {
    PlannedSetting { option: option.to_owned(), key: key.map(str::to_owned), value: value.to_owned(), origin }
}

fn own_speeds(option: &str, info: &OptionInfo) -> String {
    match info.named.is_empty() {
        true => format!(", or {option} from {} to {}", info.min, info.max),
        false => {
            let names: Vec<&str> = info.named.iter().map(|(name, _)| name.as_str()).collect();
            format!(", or the encoder's own: {}", names.join(", "))
        }
    }
}

fn display_text(display: &MasteringDisplay, style: Hdr10Style) -> String {
    let points = [display.green, display.blue, display.red, display.white];
    let light = (display.brightest, display.darkest);
    let framed = |points: [String; 4], light: String| {
        let [green, blue, red, white] = points;
        format!("G({green})B({blue})R({red})WP({white})L({light})")
    };
    let units = points.map(|(x, y)| format!("{x},{y}"));
    let steps = format!("{},{}", light.0, light.1);
    match style {
        Hdr10Style::Units => framed(units, steps),
        Hdr10Style::List => format!("{},{steps}", units.join(",")),
        Hdr10Style::Decimals => {
            let part = |number: u16| f64::from(number) / 50_000.0;
            let candela = |number: u32| f64::from(number) / 10_000.0;
            let decimals = points.map(|(x, y)| format!("{},{}", part(x), part(y)));
            framed(decimals, format!("{},{}", candela(light.0), candela(light.1)))
        }
    }
}

/// Frames of a segment where the job does not say: about what encoders make between key frames by themselves.
const SEGMENT_FRAMES: u32 = 250;
/// Frames per second where there is no job to tell.
const NOMINAL_RATE: f64 = 25.0;
/// Two segments of one frame would be two key frames with the same number in a row, which H.264 forbids.
const SHORTEST_SEGMENT: u32 = 2;
/// Steps of a level that need not be whole; an eighth of a per cent of the bits.
const LEVEL_STEP: f64 = 0.01;
/// How far from the target is near enough, as a share.
const TOLERANCE: f64 = 0.01;
