//! Whether the statistics of one first pass serve another second pass: pure comparison of settings, by the adapter's row.
//!
//! Invariant: whatever is not known to be without effect must be equal.

use super::{EncoderPlan, Origin, PassStep, PlannedSetting, STATS_PATH};
use crate::adapter::{Adapter, PassModel, Reuse, TwoRuns};

/// The first pass that an encoder plan would run by itself.
#[derive(Clone, Copy)]
pub(crate) struct FirstPassOf<'p> {
    pub(crate) adapter: &'static Adapter,
    pub(crate) model: &'static TwoRuns,
    pub(crate) step: &'p PassStep,
}

impl<'p> FirstPassOf<'p> {
    /// `None` where there is no second pass.
    pub(crate) fn plan(plan: &'p EncoderPlan, adapter: &'static Adapter) -> Option<Self> {
        match (&adapter.passes, plan.steps.as_slice()) {
            (PassModel::TwoRuns(model), [step, _]) => Some(FirstPassOf { adapter, model, step }),
            _ => None,
        }
    }

    /// Whether the statistics depend on this setting, as far as is known.
    fn counts(&self, setting: &PlannedSetting) -> bool {
        let is_free = self.model.free.iter().any(|slot| setting.is_at(slot.option, slot.key));
        let is_quiet = self.adapter.quiet.iter().any(|quiet| setting.is_at(quiet.option, quiet.key));
        // Of a target only the kind must be the same, where the row says so.
        let is_target = setting.origin == Origin::Target && self.model.reuse != Reuse::No;
        !is_free && !is_quiet && !is_target && setting.value != STATS_PATH
    }
}

/// What keeps a first pass with the settings `made` from serving in the place of `wanted`: one line for each difference, as
/// `preset: medium then, slow now`. Empty: it serves.
pub(crate) fn differences(made: &[PlannedSetting], wanted: &FirstPassOf<'_>) -> Vec<String> {
    let counts = |setting: &&PlannedSetting| wanted.counts(setting);
    let mut all: Vec<&PlannedSetting> = made.iter().filter(counts).collect();
    for setting in wanted.step.settings.iter().filter(counts) {
        if !all.iter().any(|known| known.is_at(&setting.option, setting.key.as_deref())) {
            all.push(setting);
        }
    }
    let mut found: Vec<String> =
        all.into_iter().filter_map(|slot| difference(slot, made, &wanted.step.settings)).collect();
    if let Reuse::AtOrBelow { .. } = wanted.model.reuse {
        found.extend(above(made, &wanted.step.settings));
    }
    found
}

fn difference(slot: &PlannedSetting, made: &[PlannedSetting], wanted: &[PlannedSetting]) -> Option<String> {
    let (then, now) = (value(made, slot), value(wanted, slot));
    let said = |value: Option<&str>| value.unwrap_or("not set").to_owned();
    (then != now).then(|| format!("{}: {} then, {} now", slot.name(), said(then), said(now)))
}

/// For statistics that serve a bit rate and what is below: what of the target they do not serve.
fn above(made: &[PlannedSetting], wanted: &[PlannedSetting]) -> Vec<String> {
    let rate = |settings: &[PlannedSetting], option: &str| {
        let target = settings.iter().find(|setting| setting.option == option && setting.origin == Origin::Target);
        target.and_then(|setting| setting.value.parse::<u64>().ok())
    };
    let mut found = Vec::new();
    match (rate(made, "b"), rate(wanted, "b")) {
        (Some(then), Some(now)) if now <= then => {}
        (Some(then), Some(now)) => {
            found.push(format!("bit rate: {then} b/s then, which serves that and less; {now} now"))
        }
        (then, now) if then.is_some() != now.is_some() => found.push("target: a bit rate and a quality".to_owned()),
        _ => {}
    }
    let capped = |settings| if rate(settings, "maxrate").is_some() { "set" } else { "not set" };
    if capped(made) != capped(wanted) {
        found.push(format!("maxrate: {} then, {} now", capped(made), capped(wanted)));
    }
    found
}

fn value<'s>(settings: &'s [PlannedSetting], slot: &PlannedSetting) -> Option<&'s str> {
    let there = settings.iter().find(|setting| setting.is_at(&slot.option, slot.key.as_deref()));
    there.map(|setting| setting.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::named;
    use crate::plan::{PassFlag, StatsUse};

    fn setting(option: &str, value: &str, origin: Origin) -> PlannedSetting {
        PlannedSetting { option: option.to_owned(), key: None, value: value.to_owned(), origin }
    }

    fn between(encoder: &str, made: &[PlannedSetting], wanted: &[PlannedSetting]) -> Vec<String> {
        let adapter = named(encoder).unwrap();
        let PassModel::TwoRuns(model) = &adapter.passes else { panic!("{encoder} has two runs") };
        let settings = wanted.to_vec();
        let step = PassStep {
            number: 1,
            of: 2,
            flag: PassFlag::First,
            settings,
            stats: StatsUse::Write(model.routes[0]),
            output: false,
        };
        differences(made, &FirstPassOf { adapter, model, step: &step })
    }

    fn rate(bps: &str) -> PlannedSetting {
        setting("b", bps, Origin::Target)
    }

    #[test]
    fn lower_rates_are_served_and_higher_ones_are_not_where_the_result_depends_on_it() {
        for encoder in ["libx264", "libx265"] {
            assert_eq!(between(encoder, &[rate("4000")], &[rate("2000")]), [""; 0], "{encoder}");
            assert_eq!(between(encoder, &[rate("4000")], &[rate("5000")]).len(), 1, "{encoder}");
        }
        assert_eq!(between("libvpx-vp9", &[rate("4000")], &[rate("5000")]), [""; 0]);
        assert_eq!(between("libvvenc", &[rate("4000")], &[rate("2000")]), ["b: 4000 then, 2000 now"]);
        assert_eq!(between("libvvenc", &[rate("4000")], &[rate("4000")]), [""; 0]);
    }

    #[test]
    fn what_differs_is_named() {
        let (medium, slow) = (setting("preset", "medium", Origin::You), setting("preset", "slow", Origin::You));
        assert_eq!(between("libx264", std::slice::from_ref(&medium), &[slow]), ["preset: medium then, slow now"]);
        assert_eq!(between("libx264", &[], &[medium]), ["preset: not set then, medium now"]);
        let speed = |value| setting("cpu-used", value, Origin::You);
        assert_eq!(between("libvpx-vp9", &[speed("5")], &[speed("1")]), [""; 0]);
        assert_eq!(between("libaom-av1", &[speed("5")], &[speed("1")]), ["cpu-used: 5 then, 1 now"]);
    }

    #[test]
    fn keys_that_the_encoder_takes_for_one_are_one() {
        let mode = |key: &str, value| PlannedSetting {
            key: Some(key.to_owned()),
            ..setting("x264-params", value, Origin::You)
        };
        assert_eq!(between("libx264", &[mode("aq_mode", "1")], &[mode("aq-mode", "1")]), [""; 0]);
        let found = between("libx264", &[mode("aq_mode", "1")], &[mode("aq-mode", "2")]);
        assert_eq!(found, ["x264-params:aq_mode: 1 then, 2 now"]);
    }

    #[test]
    fn threads_never_matter() {
        let threads = |value| setting("threads", value, Origin::You);
        assert_eq!(between("libx264", &[threads("0")], &[threads("2")]), [""; 0]);
    }
}
