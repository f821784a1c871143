//! A plan as ffmpeg command lines: for people who want to see, check or run the same encode without us.

use super::{EncoderPlan, PassFlag, PassStep, StatsUse};
use crate::adapter::StatsRoute;
use crate::rate::Seconds;

/// What surrounds the encoder on the command line.
#[derive(Debug, Clone, Default)]
pub struct CommandLine {
    /// The input.
    pub input: String,
    /// The output.
    pub output: String,
    /// Start in the input.
    pub start: Option<Seconds>,
    /// Length from the start.
    pub length: Option<Seconds>,
    /// Index of the video stream among the input's video streams.
    pub video: usize,
    /// The filter string.
    pub filters: Option<String>,
    /// libavutil's name of the pixel format that the encoder gets.
    pub pixel_format: Option<String>,
    /// Arguments for sound, subtitles, metadata and the container, as they are on the final command; empty: `-an -sn`.
    pub other_streams: Vec<String>,
    /// What ffmpeg's statistics files begin with; `repass` when empty.
    pub stats_prefix: String,
}

/// The equivalent ffmpeg command lines, one for each pass; none for a session, which ffmpeg has nothing like. Every planned
/// setting is on them, so that they make the same bits with the same FFmpeg and a constant frame rate.
#[must_use]
pub fn argv(plan: &EncoderPlan, line: &CommandLine) -> Vec<Vec<String>> {
    let steps = plan.steps.iter().filter(|_| !plan.is_session());
    steps.map(|step| command(plan, step, line)).collect()
}

/// One command as a line for a POSIX shell.
#[must_use]
pub fn shell_line(command: &[String]) -> String {
    command.iter().map(|argument| quoted(argument)).collect::<Vec<_>>().join(" ")
}

fn command(plan: &EncoderPlan, step: &PassStep, line: &CommandLine) -> Vec<String> {
    let mut command = Arguments(vec!["ffmpeg".to_owned(), "-y".to_owned()]);
    command.pair_if("-ss", line.start.map(|start| start.0.to_string()));
    command.pair_if("-t", line.length.map(|length| length.0.to_string()));
    command.pair("-i", &line.input);
    command.pair("-map", &format!("0:v:{}", line.video));
    command.pair_if("-vf", line.filters.clone());
    command.pair_if("-pix_fmt", line.pixel_format.clone());
    // Else frames are doubled and dropped as the muxer likes, and pass 1 has another muxer: x264 then sees other frames
    // in pass 2 and goes on at a constant quantiser, or crashes (ffmpeg 5.1, mp4 from a Matroska file with sound).
    command.pair("-fps_mode", "passthrough");
    command.pair("-c:v", plan.encoder);
    command.settings(step, line);
    command.pair_if("-force_key_frames:v", plan.forced_keyframes.map(|frames| format!("expr:not(mod(n,{frames}))")));
    command.rest(step, line);
    command.0
}

/// A command line that grows.
struct Arguments(Vec<String>);

impl Arguments {
    fn pair(&mut self, name: &str, value: &str) {
        self.0.extend([name.to_owned(), value.to_owned()]);
    }

    fn pair_if(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.pair(name, &value);
        }
    }

    /// The encoder's options, each for the video stream alone (`-b:v`), and the pass.
    fn settings(&mut self, step: &PassStep, line: &CommandLine) {
        let prefix = if line.stats_prefix.is_empty() { "repass" } else { line.stats_prefix.as_str() };
        let file = format!("{prefix}-0.log");
        for (option, value) in step.options(Some(&file)) {
            // ffmpeg's own -passlogfile sets this one, and its -stats is another thing.
            if step.names_file_by(&option) {
                continue;
            }
            self.pair(&format!("-{option}:v"), &value);
        }
        let number = match step.flag {
            PassFlag::None => return,
            PassFlag::First => "1",
            PassFlag::Second => "2",
        };
        self.pair("-pass", number);
        self.pair("-passlogfile", prefix);
    }

    fn rest(&mut self, step: &PassStep, line: &CommandLine) {
        match (step.output, line.other_streams.is_empty()) {
            (false, _) => self.0.extend(["-an", "-sn", "-f", "null", "-"].map(str::to_owned)),
            (true, true) => self.0.extend(["-an", "-sn"].map(str::to_owned)),
            (true, false) => self.0.extend(line.other_streams.iter().cloned()),
        }
        if step.output {
            self.0.push(plain_name(&line.output));
        }
    }
}

impl PassStep {
    fn names_file_by(&self, name: &str) -> bool {
        match self.stats {
            StatsUse::Write(StatsRoute::File { option }) | StatsUse::Read(StatsRoute::File { option }) => {
                option == name
            }
            StatsUse::Write(_) | StatsUse::Read(_) | StatsUse::None => false,
        }
    }
}

/// A file's name as ffmpeg takes it for one: with a dash in front it would be an option, with a colon a protocol.
#[must_use]
pub fn plain_name(name: &str) -> String {
    let is_special = name.starts_with('-') && name != "-" || name.contains(':') && !name.starts_with('/');
    if is_special { format!("./{name}") } else { name.to_owned() }
}

/// One argument for a POSIX shell: as it is where nothing in it is special, else in single quotes.
fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}
