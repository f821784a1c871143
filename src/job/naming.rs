//! Names of outputs: a pattern with `{name}`, `{stem}` and `{ext}`, filled in for each rendition.
//!
//! Invariant: what is filled in is one part of a file's name, so that no rung and no input can lead out of the folder that
//! the pattern names.

use std::path::{Component, Path, PathBuf};

use crate::error::Refusal;

/// Fills in a pattern: `{name}` is the rendition's name, `{stem}` and `{ext}` are those of the input's file name.
///
/// ```
/// # use std::path::Path;
/// let output = repass::job::output_name(Path::new("done/{stem}_{name}.mp4"), "720p", Path::new("a/film.mkv"))?;
/// assert_eq!(output, Path::new("done/film_720p.mp4"));
/// # Ok::<(), repass::error::Refusal>(())
/// ```
///
/// # Errors
/// [`Refusal::Output`] for a placeholder that does not exist, and for a name that would lead to another folder.
pub fn output_name(pattern: &Path, name: &str, input: &Path) -> Result<PathBuf, Refusal> {
    let refused = |why: String| Refusal::Output { path: pattern.display().to_string(), why };
    let Some(text) = pattern.to_str() else {
        // A pattern is text; anything else is a plain name.
        return Ok(pattern.to_owned());
    };
    let part =
        |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((placeholder, behind)) = after.split_once('}') else { break };
        filled.push_str(before);
        let value = match placeholder {
            "name" => name.to_owned(),
            "stem" => part(input.file_stem()),
            "ext" => part(input.extension()),
            other => {
                return Err(refused(format!("no placeholder {{{other}}}; there are {{name}}, {{stem}} and {{ext}}")));
            }
        };
        if !is_part_of_a_name(&value) {
            return Err(refused(format!("{{{placeholder}}} is {value:?}, which would lead to another folder")));
        }
        filled.push_str(&value);
        rest = behind;
    }
    filled.push_str(rest);
    let filled = PathBuf::from(filled);
    if upwards(&filled) > upwards(pattern) {
        return Err(refused(format!("{} would lead to another folder", filled.display())));
    }
    Ok(filled)
}

/// Whether a pattern gives each rendition a name of its own.
#[must_use]
pub fn tells_renditions_apart(pattern: &Path) -> bool {
    pattern.to_string_lossy().contains("{name}")
}

fn is_part_of_a_name(value: &str) -> bool {
    !value.contains(['/', '\\', '\0'])
}

fn upwards(path: &Path) -> usize {
    path.components().filter(|component| matches!(component, Component::ParentDir)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pattern: &str, name: &str, input: &str) -> Result<PathBuf, Refusal> {
        output_name(Path::new(pattern), name, Path::new(input))
    }

    #[test]
    fn names_are_filled_in() {
        assert_eq!(filled("out_{name}.mp4", "720p", "in.mkv").unwrap(), Path::new("out_720p.mp4"));
        assert_eq!(filled("{stem}/{stem}-{name}.{ext}", "a", "x/in.mkv").unwrap(), Path::new("in/in-a.mkv"));
        assert_eq!(filled("plain.mp4", "a", "in").unwrap(), Path::new("plain.mp4"));
        assert_eq!(filled("a{b.mp4", "a", "in").unwrap(), Path::new("a{b.mp4"));
    }

    #[test]
    fn nothing_leads_out_of_the_folder() {
        for name in ["../x", "a/b", "a\\b", "a\0"] {
            assert!(filled("out/{name}.mp4", name, "in.mkv").is_err(), "{name:?}");
        }
        assert!(filled("out/{name}/x.mp4", "..", "in.mkv").is_err());
        assert!(filled("out/{name}./x.mp4", ".", "in.mkv").is_err());
        assert_eq!(filled("../{stem}.mp4", "a", "b..c.mkv").unwrap(), Path::new("../b..c.mp4"));
    }

    #[test]
    fn a_placeholder_that_does_not_exist_is_named() {
        let refusal = filled("{nmae}.mp4", "a", "in.mkv").unwrap_err();
        assert!(refusal.to_string().contains("{nmae}"), "{refusal}");
    }
}
