//! A plan in words, for people: what `repass plan` prints. Stable, for snapshots are compared whole.

use std::fmt;

use super::{EncoderPlan, Origin, PassFlag, PassStep, PlannedSetting, SessionAim, SessionPlan, StatsUse};
use crate::adapter::StatsRoute;
use crate::probe::value::normal;
use crate::rate::QualityTarget;

impl fmt::Display for EncoderPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} towards {}", self.encoder, self.course(), self.target)?;
        if let Some(cap) = self.cap {
            write!(f, ", at most {} over a buffer of {} bits", cap.max, cap.buffer.0)?;
        }
        writeln!(f)?;
        if let Some(analysis) = &self.analysis {
            writeln!(f, "  analysis: {}", analysis.words)?;
        }
        if let Some(session) = &self.session {
            writeln!(f, "  session: {session}")?;
        }
        if let Some(native) = &self.native {
            writeln!(f, "  session: {native}")?;
        }
        if let Some(frames) = self.forced_keyframes {
            writeln!(f, "  key frames: every {frames} frames, each forced")?;
        }
        for step in &self.steps {
            if let Some(probe) = self.session.as_ref().and_then(|session| session.probe.as_ref()) {
                writeln!(f, "  probes, to tell segments from one another, by {} at half the size:", probe.encoder)?;
                probe.step.list(f)?;
            }
            if self.is_session() {
                writeln!(f, "  {}:", if self.native.is_some() { "in libavcodec's words" } else { "each segment" })?;
                step.list(f)?;
            } else {
                write!(f, "{step}")?;
            }
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "  warning: {warning}"))
    }
}

impl EncoderPlan {
    /// How it gets to its target, in two words.
    #[must_use]
    pub fn course(&self) -> &'static str {
        match (self.is_session(), self.two_pass()) {
            (true, _) => "a session",
            (false, true) => "two passes",
            (false, false) => "one pass",
        }
    }
}

impl fmt::Display for SessionPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SessionPlan { most_passes, aim, segment_frames, uneven, side_by_side, levels, .. } = self;
        let shorter = if *uneven { ", some of them shorter, " } else { ", " };
        write!(f, "at most {most_passes} passes, {aim}; segments of about {segment_frames} frames{shorter}")?;
        match side_by_side {
            Some(count) => write!(f, "{count} at a time, ")?,
            None => write!(f, "one per CPU at a time, ")?,
        }
        write!(
            f,
            "each closed and at a level from {} to {}; each pass after the first only over segments that miss",
            levels.least, levels.greatest
        )
    }
}

impl fmt::Display for SessionAim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionAim::Rate { tolerance } => write!(f, "to within {:.0} %", tolerance * 100.0),
            SessionAim::Quality(QualityTarget { metric, value, tolerance, at_most }) => {
                write!(f, "every segment decoded and measured, to within {tolerance} of {metric}={value}")?;
                at_most.map_or(Ok(()), |rate| write!(f, ", all of them less where the whole would be above {rate}"))
            }
        }
    }
}

impl fmt::Display for PassStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  pass {} of {}: {}", self.number, self.of, self.doing())?;
        self.list(f)
    }
}

impl PassStep {
    fn list(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.settings.iter().map(PlannedSetting::name).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        for (setting, name) in self.settings.iter().zip(names) {
            writeln!(f, "    {name:width$} = {}  ({})", setting.value, setting.origin)?;
        }
        Ok(())
    }
}

impl PassStep {
    fn doing(&self) -> String {
        let flag = match self.flag {
            PassFlag::None => "",
            PassFlag::First => ", flag pass1",
            PassFlag::Second => ", flag pass2",
        };
        let task = if self.output { "writes the output" } else { "analyses, its packets are dropped" };
        match self.stats {
            StatsUse::None => format!("{task}{flag}"),
            StatsUse::Write(route) => format!("{task}{flag}; writes statistics {}", by(route)),
            StatsUse::Read(route) => format!("{task}{flag}; reads statistics {}", by(route)),
        }
    }
}

impl PlannedSetting {
    /// Whether this is where it is set, by spellings that the encoder takes for one.
    pub(super) fn is_at(&self, option: &str, key: Option<&str>) -> bool {
        self.option == option && self.key.as_deref().map(normal) == key.map(normal)
    }

    pub(super) fn name(&self) -> String {
        match &self.key {
            None => self.option.clone(),
            Some(key) => format!("{}:{key}", self.option),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::You => "you",
            Origin::Target => "target",
            Origin::Adapter => "adapter",
            Origin::Pass => "pass",
            Origin::Source => "source",
        })
    }
}

fn by(route: StatsRoute) -> String {
    match route {
        StatsRoute::Context => "in memory".to_owned(),
        StatsRoute::File { option } => format!("in a file ({option})"),
        StatsRoute::Params { option, stats, .. } => format!("in a file ({option}:{stats})"),
    }
}
