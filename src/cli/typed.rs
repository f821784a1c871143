//! Options as ffmpeg's users type them: several letters behind one dash.
//!
//! Invariant: arguments behind `--`, and arguments that are not exactly such an option, pass through untouched.

use std::ffi::OsString;

/// Arguments as clap reads them: `-ss 5` becomes `--start 5`, and `-ss=5` becomes `--start=5`.
pub(crate) fn spelled_out(typed: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut verbatim = false;
    let respell = |argument: OsString| {
        verbatim |= argument == "--";
        match argument.to_str() {
            Some(text) if !verbatim => long(text).map_or(argument, OsString::from),
            _ => argument,
        }
    };
    typed.into_iter().map(respell).collect()
}

fn long(argument: &str) -> Option<String> {
    TYPED.iter().find_map(|(typed, long)| match argument.strip_prefix(typed)? {
        "" => Some((*long).to_owned()),
        rest => rest.starts_with('=').then(|| format!("{long}{rest}")),
    })
}

const TYPED: &[(&str, &str)] = &[("-ss", "--start")];

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(typed: &[&str]) -> Vec<OsString> {
        spelled_out(typed.iter().map(OsString::from))
    }

    #[test]
    fn ss_is_start_with_its_value_apart_or_attached() {
        assert_eq!(spelled(&["repass", "-ss", "5"]), ["repass", "--start", "5"]);
        assert_eq!(spelled(&["repass", "-ss=0:05"]), ["repass", "--start=0:05"]);
    }

    #[test]
    fn what_only_looks_like_ss_is_left_alone() {
        for other in ["-sso", "-s", "--ss", "ss", "-t", "-sv"] {
            assert_eq!(spelled(&[other]), [other]);
        }
        assert_eq!(spelled(&["--", "-ss"]), ["--", "-ss"]);
    }
}
