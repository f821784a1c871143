//! Words and numbers as a person reads them, safe to print.
//!
//! Invariant: nothing that came from a file, a path or a log reaches a terminal with its control characters.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

/// Text without control characters, and without those that change the direction of writing: each is spelled out.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' => safe.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.extend(character.escape_unicode()),
            _ if character.is_control() => safe.extend(character.escape_default()),
            _ => safe.push(character),
        }
    }
    safe
}

/// A text of whole lines, each made printable.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// Adds one line; line breaks inside it are spelled out like all control characters.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        self.0.push_str(printable(line.as_ref()).trim_end());
        self.0.push('\n');
    }

    /// Adds a line under a label in the margin, broken at spaces where it is too long.
    pub(crate) fn row(&mut self, label: &str, text: &str) {
        for (number, part) in broken(text, WIDTH - MARGIN).into_iter().enumerate() {
            let label = if number == 0 { label } else { "" };
            self.line(format!("{label:MARGIN$}{part}"));
        }
    }

    /// Adds a path and what there is to say of it: on one line where both fit, else the path stands alone, to be copied.
    pub(crate) fn path(&mut self, label: &str, path: &Path, facts: &str) {
        let path = path.display().to_string();
        if path.chars().count() + facts.chars().count() + 2 <= WIDTH - MARGIN {
            return self.row(label, &format!("{path}  {facts}"));
        }
        self.line(format!("{label:MARGIN$}{path}"));
        self.row("", facts);
    }

    /// Adds text that has its own lines and indents, moved in by the margin and broken like rows.
    pub(crate) fn block(&mut self, text: &str) {
        for line in text.lines() {
            let indent = MARGIN + line.len() - line.trim_start().len();
            for (number, part) in broken(line.trim_start(), WIDTH.saturating_sub(indent)).into_iter().enumerate() {
                let indent = if number == 0 { indent } else { indent + 2 };
                self.line(format!("{:indent$}{part}", ""));
            }
        }
    }

    /// Adds an empty line.
    pub(crate) fn gap(&mut self) {
        self.0.push('\n');
    }

    /// Writes it to stdout.
    ///
    /// # Errors
    /// Whatever the system says, except that nobody is reading any more.
    pub(crate) fn print(&self) -> io::Result<()> {
        print(&self.0)
    }
}

/// Writes a value to stdout as JSON, on one line. What a terminal would obey is spelled out: in JSON it can only be in texts.
///
/// # Errors
/// As for [`print`].
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(value)?;
    let mut safe = String::with_capacity(line.len() + 1);
    for character in line.chars() {
        match character {
            '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => safe.push(character),
        }
    }
    safe.push('\n');
    print(&safe)
}

/// Writes to stdout; a reader that has gone away (`| head`) is no error.
///
/// # Errors
/// Anything else that the system says.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a line to stderr. There is no place left to say that this did not work.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(line));
}

/// Breaks text at spaces into parts of at most `width` characters; a longer word stays whole, so that paths can be copied.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut parts = vec![String::new()];
    for word in text.split(' ') {
        let part = parts.last_mut().expect("begins with one part, and never loses any");
        if part.is_empty() {
            part.push_str(word);
        } else if part.chars().count() + 1 + word.chars().count() <= width {
            part.push(' ');
            part.push_str(word);
        } else {
            parts.push(word.to_owned());
        }
    }
    parts
}

/// A length of time: `4.2 s`, `1:23`, `1:02:03`.
pub(crate) fn lasting(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 if seconds < 10.0 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

/// A rate of frames: three figures are enough.
pub(crate) fn fps(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1} fps") } else { format!("{rate:.0} fps") }
}

/// A share as a percentage, without a fraction.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A deviation as a percentage, with its sign.
pub(crate) fn deviation(share: f64) -> String {
    // A rounded zero has no sign.
    let tenths = (share * 1000.0).round() / 10.0;
    if tenths == 0.0 { "exact to 0.1 %".to_owned() } else { format!("{tenths:+.1} %") }
}

/// `1 frame`, `2 frames`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// Columns of the label at the left.
const MARGIN: usize = 10;

/// Columns of a line that we break ourselves.
const WIDTH: usize = 98;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(printable("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(printable("a\nb\rc\u{7}\u{9b}"), "a\\nb\\rc\\u{7}\\u{9b}");
        assert_eq!(printable("exe\u{202e}gpj"), "exe\\u{202e}gpj");
        assert_eq!(printable("Füße 映画"), "Füße 映画");
    }

    #[test]
    fn a_page_breaks_long_rows_at_spaces_and_keeps_words_whole() {
        let mut page = Page::default();
        page.row("label", &format!("{} {}", "word ".repeat(25).trim_end(), "x".repeat(120)));
        let lines: Vec<&str> = page.0.lines().collect();
        assert!(lines[0].starts_with("label     word"), "{lines:?}");
        assert!(lines[1].starts_with("          word"), "{lines:?}");
        assert_eq!(lines.last().map(|line| line.trim().len()), Some(120));
    }

    #[test]
    fn times_read_as_a_clock_from_a_minute_on() {
        for (seconds, text) in
            [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (59.7, "1:00"), (83.0, "1:23"), (3723.0, "1:02:03")]
        {
            assert_eq!(lasting(seconds), text);
        }
    }

    #[test]
    fn a_deviation_has_a_sign_unless_it_is_none() {
        assert_eq!(deviation(-0.0123), "-1.2 %");
        assert_eq!(deviation(0.05), "+5.0 %");
        assert_eq!(deviation(-0.0001), "exact to 0.1 %");
    }
}
