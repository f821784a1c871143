//! Profiles: options under a name, in a file of the project's or of the person's. What is typed wins.
//!
//! Invariant: a profile can say nothing that could not have been typed, and a key that is no option is refused.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde::Deserialize;
use toml::Value;

/// Arguments with those of the profile they name, in front of the person's own; as they are where they name none.
///
/// # Errors
/// A profile that is nowhere, or that says something which is no option, as bad usage.
pub(crate) fn filled_in(typed: Vec<OsString>, command: &Command) -> Result<Vec<OsString>, clap::Error> {
    let found = command.clone().ignore_errors(true).try_get_matches_from(&typed);
    let Ok(matches) = found else { return Ok(typed) };
    let Some((verb, matches)) = matches.subcommand() else { return Ok(typed) };
    let Ok(Some(name)) = matches.try_get_one::<String>(PROFILE) else { return Ok(typed) };
    let wrong = |why: String| command.clone().error(clap::error::ErrorKind::InvalidValue, why);
    let profile = Profile::named(name, &files()).map_err(wrong)?;
    let verb_command = command.find_subcommand(verb).expect("it was just parsed");
    let arguments = profile.arguments(verb_command, matches).map_err(wrong)?;
    let at = typed.iter().position(|argument| argument == verb).map_or(typed.len(), |at| at + 1);
    let (before, after) = typed.split_at(at);
    let all = before.iter().cloned().chain(arguments.into_iter().map(OsString::from)).chain(after.iter().cloned());
    let all: Vec<OsString> = all.collect();
    // Whether the profile's own values can be read, with its name; what the person typed is told as ever.
    match command.clone().try_get_matches_from(&all) {
        Err(error) if error.exit_code() != 0 => Err(profile.blamed(error)),
        _ => Ok(all),
    }
}

/// The files that may hold profiles, the project's first: of two profiles with one name, its own counts.
fn files() -> Vec<PathBuf> {
    [Some(PathBuf::from("repass.toml")), user_file()].into_iter().flatten().collect()
}

/// `repass/profiles.toml` in `$XDG_CONFIG_HOME`, which is `~/.config` where it is not set; on Windows in `%APPDATA%`.
fn user_file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = match cfg!(windows) {
        true => variable("APPDATA"),
        // Paths in it must be absolute; others are to be ignored (XDG Base Directory Specification).
        false => variable("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| variable("HOME").map(|home| home.join(".config"))),
    };
    folder.map(|folder| folder.join("repass").join("profiles.toml"))
}

/// A file of profiles.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profiles {
    #[serde(default)]
    profile: BTreeMap<String, BTreeMap<String, Value>>,
}

/// One profile.
#[derive(Debug)]
struct Profile {
    name: String,
    file: PathBuf,
    options: BTreeMap<String, Value>,
}

impl Profile {
    /// Every file is read, so that a broken one is told whether or not the profile is in it.
    fn named(name: &str, files: &[PathBuf]) -> Result<Self, String> {
        let mut known = Vec::new();
        let mut found = None;
        for file in files {
            for (other, options) in read(file)?.profile {
                known.push(format!("{other} ({})", file.display()));
                if other == name && found.is_none() {
                    found = Some(Profile { name: other, file: file.clone(), options });
                }
            }
        }
        found.ok_or_else(|| {
            let places: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            match known.is_empty() {
                true => {
                    format!("no profile {name:?}: there is none at all; they are looked for in {}", places.join(", "))
                }
                false => format!("no profile {name:?}; there are {}", known.join(", ")),
            }
        })
    }

    /// The options that were not typed, as arguments. What may be repeated adds up, the person's own behind.
    fn arguments(&self, verb: &Command, typed: &ArgMatches) -> Result<Vec<String>, String> {
        let mut arguments = Vec::new();
        for (key, value) in &self.options {
            let argument = self.option(verb, key)?;
            let values = self.values(argument, value)?;
            let adds_up = matches!(argument.get_action(), ArgAction::Append) && rivals(verb, argument).is_empty();
            if adds_up || !is_typed(verb, argument, typed) {
                arguments.extend(values.into_iter().map(|value| match value {
                    Some(value) => format!("--{key}={value}"),
                    None => format!("--{key}"),
                }));
            }
        }
        Ok(arguments)
    }

    fn option<'c>(&self, verb: &'c Command, key: &str) -> Result<&'c Arg, String> {
        let options = || verb.get_arguments().filter(|argument| argument.get_long().is_some_and(is_a_setting));
        options().find(|argument| argument.get_long() == Some(key)).ok_or_else(|| {
            let near = options().filter_map(Arg::get_long);
            let near = near.min_by_key(|name| strsim::damerau_levenshtein(name, key));
            let near = near.filter(|name| strsim::damerau_levenshtein(name, key) <= 3);
            let tip = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            format!("{}: {} has no option {key:?} that a profile can set{tip}", self.place(), verb.get_name())
        })
    }

    /// What is typed behind the option, once for each time; `None` for a switch.
    fn values(&self, argument: &Arg, value: &Value) -> Result<Vec<Option<String>>, String> {
        let takes = |what| format!("{}: {} takes {what}", self.place(), argument.get_long().unwrap_or_default());
        match (argument.get_action(), value) {
            (ArgAction::SetTrue, Value::Boolean(on)) => Ok(if *on { vec![None] } else { Vec::new() }),
            (ArgAction::SetTrue, _) => Err(takes("true or false")),
            (ArgAction::Append, Value::Array(values)) => {
                let text = |value| text(value).map(Some).ok_or_else(|| takes("a list of texts"));
                values.iter().map(text).collect()
            }
            (_, value) => text(value).map(|value| vec![Some(value)]).ok_or_else(|| takes("a text or a number")),
        }
    }

    fn place(&self) -> String {
        format!("profile {} in {}", self.name, self.file.display())
    }

    /// The error, with what the profile adds to what was typed.
    fn blamed(&self, mut error: clap::Error) -> clap::Error {
        let keys: Vec<&str> = self.options.keys().map(String::as_str).collect();
        let tip = format!("{} sets {}", self.place(), keys.join(", "));
        let mut tips = match error.remove(ContextKind::Suggested) {
            Some(ContextValue::StyledStrs(tips)) => tips,
            _ => Vec::new(),
        };
        tips.push(tip.into());
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        error
    }
}

fn read(file: &Path) -> Result<Profiles, String> {
    match fs::read_to_string(file) {
        Ok(text) => toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Profiles::default()),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

/// Whether the person gave this option, or another of a group of which only one may be given.
fn is_typed(verb: &Command, argument: &Arg, typed: &ArgMatches) -> bool {
    let ids = rivals(verb, argument).into_iter().chain([argument.get_id()]);
    ids.map(clap::Id::as_str).any(|id| typed.value_source(id) == Some(ValueSource::CommandLine))
}

/// The options of which only one may be given, where this is one of them.
fn rivals<'c>(verb: &'c Command, argument: &Arg) -> Vec<&'c clap::Id> {
    let groups = verb.get_groups().filter(|group| group.get_args().any(|member| member == argument.get_id()));
    // clap makes a group of every flattened struct too; those take several.
    groups.filter(|group| !(*group).clone().is_multiple()).flat_map(|group| group.get_args()).collect()
}

/// Options that belong to one run stay out of profiles.
fn is_a_setting(long: &str) -> bool {
    !["help", "output", "json", "job", "in-child", "alone", "beside", PROFILE].contains(&long)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

const PROFILE: &str = "profile";

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(text: &str) -> Profile {
        let file: Profiles = toml::from_str(text).unwrap();
        let (name, options) = file.profile.into_iter().next().unwrap();
        Profile { name, file: PathBuf::from("repass.toml"), options }
    }

    /// What `encode` is given with a profile besides what is typed.
    fn added(text: &str, typed: &[&str]) -> Result<Vec<String>, String> {
        let command = crate::cli::command();
        let typed = ["repass", "encode", "in.mkv", "-o", "out.mp4"].iter().chain(typed);
        let matches = command.clone().ignore_errors(true).try_get_matches_from(typed).unwrap();
        let (verb, matches) = matches.subcommand().unwrap();
        profile(text).arguments(command.find_subcommand(verb).unwrap(), matches)
    }

    #[test]
    fn whatever_a_profile_says_it_is_refused_or_read() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let key = "(encoder|bitrate|opt|threads|overwrite|crf|preset|gop|isolate|in-child|alone|[ -~]{0,9})";
        let value = "('[ -~&&[^']]{0,9}'|-?[0-9]{1,20}|true|[0-9].[0-9]e9|\\['a=b', 'c'\\]|\\[1, true\\]|\\{ a = 1 \\}|[ -~]{0,9})";
        let lines = proptest::collection::vec((key, value), 1..4);
        let mut read = 0;
        for _ in 0..2000 {
            let lines = proptest::strategy::Strategy::new_tree(&lines, &mut runner).unwrap();
            let lines = proptest::strategy::ValueTree::current(&lines);
            let lines: String = lines.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            let text = format!("[profile.p]\n{lines}");
            let one = toml::from_str::<Profiles>(&text).is_ok_and(|file| file.profile.len() == 1);
            read += u32::from(one && added(&text, &[]).is_ok());
        }
        assert!(read > 20, "{read} were read");
    }

    #[test]
    fn what_is_typed_wins_and_what_adds_up_comes_first() {
        let web = "[profile.web]\nencoder = \"libx264\"\nbitrate = \"4M\"\nopt = [\"tune=film\"]\noverwrite = true\nthreads = 3";
        assert_eq!(
            added(web, &[]).unwrap(),
            ["--bitrate=4M", "--encoder=libx264", "--opt=tune=film", "--overwrite", "--threads=3"]
        );
        assert_eq!(
            added(web, &["-c", "libx265", "--opt", "a=b", "-y"]).unwrap(),
            ["--bitrate=4M", "--opt=tune=film", "--threads=3"]
        );
    }

    #[test]
    fn another_target_drives_out_the_profiles() {
        assert_eq!(added("[profile.web]\nbitrate = \"4M\"", &["--crf", "20"]).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_no_option_is_refused_with_its_neighbour() {
        for (text, reason) in [
            ("[profile.p]\nbitrat = \"4M\"", "did you mean bitrate?"),
            ("[profile.p]\noutput = \"x.mp4\"", "no option \"output\""),
            ("[profile.p]\noverwrite = \"yes\"", "true or false"),
            ("[profile.p]\nopt = [1, true]", "list of texts"),
            ("[profile.p]\nbitrate = true", "a text or a number"),
        ] {
            let why = added(text, &[]).unwrap_err();
            assert!(why.contains(reason) && why.contains("profile p in repass.toml"), "{why}");
        }
        assert!(toml::from_str::<Profiles>("[profiles.p]\nx = 1").is_err());
    }

    #[test]
    fn the_first_file_with_the_name_counts_and_a_missing_one_names_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["project.toml", "user.toml", "absent.toml"].map(|name| folder.path().join(name));
        fs::write(&files[0], "[profile.a]\npreset = \"slow\"").unwrap();
        fs::write(&files[1], "[profile.a]\npreset = \"fast\"\n[profile.b]\n").unwrap();
        assert_eq!(Profile::named("a", &files).unwrap().file, files[0]);
        assert_eq!(Profile::named("b", &files).unwrap().file, files[1]);
        assert!(Profile::named("c", &files).unwrap_err().contains("b ("));
    }
}
