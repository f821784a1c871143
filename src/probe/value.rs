//! Values of options: what libav's own parser takes (libavutil/opt.c, dict.c, eval.c), checked before it is asked.

use crate::adapter::nearest;
use crate::probe::{OptionInfo, OptionKind};

impl OptionInfo {
    /// Whether libav would take `value`; text is left to libav.
    ///
    /// # Errors
    /// What it takes, in words.
    pub fn check(&self, value: &str) -> Result<(), String> {
        match self.kind {
            OptionKind::Int | OptionKind::Float => check_number(self, value),
            OptionKind::Bool => check_bool(self, value),
            OptionKind::Flags => check_flags(self, value),
            OptionKind::Params => params(value).map(drop),
            OptionKind::Text | OptionKind::Other => Ok(()),
        }
    }
}

fn check_number(info: &OptionInfo, value: &str) -> Result<(), String> {
    let is_named = info.named.iter().any(|(name, _)| name == value) || EVERYWHERE.contains(&value);
    if is_named || is_expression(value) {
        return Ok(());
    }
    match number(value) {
        Some(number) if (info.min..=info.max).contains(&number) => Ok(()),
        _ => Err(takes(info, value)),
    }
}

fn check_bool(info: &OptionInfo, value: &str) -> Result<(), String> {
    let is_word = BOOLEANS.contains(&value) || info.named.iter().any(|(name, _)| name == value);
    let is_number = number(value).is_some_and(|number| (info.min..=info.max).contains(&number));
    if is_word || is_number { Ok(()) } else { Err("takes true or false (1 or 0)".to_owned()) }
}

fn check_flags(info: &OptionInfo, value: &str) -> Result<(), String> {
    let unknown = flag_names(value).find(|name| {
        number(name).is_none() && !info.named.iter().any(|(known, _)| known == name) && !EVERYWHERE.contains(name)
    });
    match unknown {
        None => Ok(()),
        Some(name) => {
            let near = nearest(name, info.named.iter().map(|(known, _)| known.as_str()));
            let near = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
            Err(format!("no flag {name:?}{near}"))
        }
    }
}

/// The names in a set of flags such as `+cgop-loop`.
pub(crate) fn flag_names(value: &str) -> impl Iterator<Item = &str> {
    value.split(['+', '-', '|']).filter(|name| !name.is_empty())
}

/// What an option takes, with the names most like `value`.
fn takes(info: &OptionInfo, value: &str) -> String {
    let range = format!("a number from {} to {}", bound(info.min), bound(info.max));
    if info.named.is_empty() {
        return format!("takes {range}");
    }
    let near = nearest(value, info.named.iter().map(|(name, _)| name.as_str()));
    let names: Vec<&str> = match near.is_empty() {
        true => info.named.iter().map(|(name, _)| name.as_str()).take(MOST_NAMES).collect(),
        false => near.iter().map(String::as_str).collect(),
    };
    let more = if near.is_empty() && info.named.len() > MOST_NAMES { " …" } else { "" };
    format!("takes {range}, or {}{more}", names.join(", "))
}

/// A bound in words where it is one of C's limits.
fn bound(number: f64) -> String {
    match number {
        number if number >= f64::from(i32::MAX) => "any".to_owned(),
        number if number <= f64::from(i32::MIN) => "any".to_owned(),
        number => number.to_string(),
    }
}

/// A number as libav reads it: `-1.5`, `0x1F`, `1e6`, `4M`, `4Mi`, and `B` for bytes of 8 bits (`av_strtod`).
pub(crate) fn number(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok().map(|number| sign * number as f64);
    }
    let plain = digits.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (plain, suffix) = match digits.parse::<f64>() {
        Ok(_) if digits.contains(['e', 'E']) => (digits, ""),
        _ => (plain, &digits[plain.len()..]),
    };
    if !plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    Some(sign * plain.parse::<f64>().ok()? * factor(suffix)?)
}

fn factor(suffix: &str) -> Option<f64> {
    let (suffix, bits) = match suffix.strip_suffix('B') {
        Some(rest) => (rest, 8.0),
        None => (suffix, 1.0),
    };
    let (prefix, base) = match suffix.strip_suffix('i') {
        Some(rest) => (rest, 1024_f64),
        None => (suffix, 1000_f64),
    };
    let exponent = match prefix {
        "" if base > 1000.0 => return None,
        "" => 0,
        "k" | "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return None,
    };
    Some(base.powi(exponent) * bits)
}

/// Whether it is a formula, which only libav can work out.
fn is_expression(text: &str) -> bool {
    text.contains(['*', '/', '(', '^']) && text.chars().any(|c| c.is_ascii_digit())
}

/// The keys and values of a parameter string, as `av_dict_parse_string` with `=` and `:` reads them.
pub(crate) fn params(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut rest = text;
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let (key, after) = token(rest, '=');
        let Some(after) = after.strip_prefix('=').filter(|_| !key.is_empty()) else {
            return Err(format!("takes key=value:key=value; {rest:?} has no value"));
        };
        let (value, after) = token(after, ':');
        pairs.push((key, value));
        rest = after.strip_prefix(':').unwrap_or(after);
    }
    Ok(pairs)
}

/// `av_get_token` (libavutil/avstring.c): up to `end`, with `\` and `'…'` undone and white space around it trimmed.
fn token(text: &str, end: char) -> (String, &str) {
    let text = text.trim_start_matches(WHITE_SPACE);
    let (mut token, mut kept) = (String::new(), 0);
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            character if character == end => {
                token.truncate(kept.max(token.trim_end_matches(WHITE_SPACE).len()));
                return (token, &text[index..]);
            }
            '\\' => token.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' => token.extend(characters.by_ref().map(|(_, quoted)| quoted).take_while(|quoted| *quoted != '\'')),
            other => {
                token.push(other);
                continue;
            }
        }
        // What was escaped or quoted is not trimmed.
        kept = token.len();
    }
    token.truncate(kept.max(token.trim_end_matches(WHITE_SPACE).len()));
    (token, "")
}

/// A key without the differences that the encoders' own parsers do not make: case, and `_` for `-`.
pub(crate) fn normal(key: &str) -> String {
    key.to_ascii_lowercase().replace('_', "-")
}

/// Values that libav takes for every number (`set_string_number`, opt.c).
const EVERYWHERE: [&str; 5] = ["default", "max", "min", "none", "all"];
/// Values that libav takes for every boolean (`set_string_bool`, opt.c).
const BOOLEANS: [&str; 13] =
    ["auto", "true", "y", "yes", "enable", "enabled", "on", "false", "n", "no", "disable", "disabled", "off"];
const WHITE_SPACE: [char; 4] = [' ', '\n', '\t', '\r'];
/// Names shown where none looks like the value.
const MOST_NAMES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::escaped;

    #[test]
    fn numbers_read_as_libav_reads_them() {
        for (text, expected) in [
            ("4", 4.0),
            ("-1.5", -1.5),
            ("4M", 4e6),
            ("4Mi", 4194304.0),
            ("1kB", 8000.0),
            ("0x1F", 31.0),
            ("1e3", 1000.0),
        ] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for text in ["", "M", "4Q", "4Mii", "abc", "inf", "nan", "1 2"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn parameter_strings_come_apart_as_in_libav() {
        let pairs = |text| params(text).unwrap();
        assert_eq!(pairs("a=1:b=2"), [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        assert_eq!(pairs(r"stats=/a\:b\'c d"), [("stats".to_owned(), "/a:b'c d".to_owned())]);
        assert_eq!(
            pairs("stats='/a:b  ' :x= 1 "),
            [("stats".to_owned(), "/a:b  ".to_owned()), ("x".to_owned(), "1".to_owned())]
        );
        assert!(params("no-sao").is_err());
        assert!(params("=1").is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_escaped_comes_back_whole(value in "[ -~\\n\\tü]{1,24}") {
            let text = format!("a={}:b=1", escaped(&value));
            let pairs = params(&text).unwrap();
            proptest::prop_assert_eq!(&pairs[0].1, &value);
            proptest::prop_assert_eq!(pairs.len(), 2);
        }
    }
}
