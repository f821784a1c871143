//! The built program in a folder of its own: started, watched, killed, and looked at afterwards.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::media::{names, skipped};

/// A folder of its own for one test, with one for temporary files beside it.
pub struct Place {
    pub folder: TempDir,
    pub scratch: TempDir,
}

impl Place {
    pub fn empty() -> Self {
        Place { folder: tempfile::tempdir().expect("a folder"), scratch: tempfile::tempdir().expect("a folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a file with the ffmpeg program, from its arguments before the output's name.
    pub fn make(&self, name: &str, arguments: &str) -> PathBuf {
        let path = self.path(name);
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin", "-y"]).args(arguments.split_whitespace()).arg(&path);
        let output = command.output().expect("the ffmpeg program is installed");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        path
    }

    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_repass"));
        command.args(arguments.split_whitespace());
        command
    }

    pub fn run(&self, arguments: &str) -> Ended {
        self.start(self.command(arguments)).end()
    }

    /// The same with arguments that have spaces, or are no text.
    pub fn run_with<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ended {
        let mut command = self.command("");
        command.args(arguments);
        self.start(command).end()
    }

    /// A shell script in the folder; `$repass` is the program.
    pub fn shell(&self, script: &str) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("repass", env!("CARGO_BIN_EXE_repass"));
        self.start(command).end()
    }

    /// The same where nobody else sees what is mounted.
    pub fn shell_with_mounts(&self, script: &str) -> Ended {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-ec", script]).env("repass", env!("CARGO_BIN_EXE_repass"));
        self.start(command).end()
    }

    /// The program with a fault of `fault.c`: its name, part of the path of the file that has it, and from which byte on.
    pub fn faulty(&self, shim: &Path, (fault, file, at): (&str, &str, u64), arguments: &str) -> Command {
        let mut command = self.command(arguments);
        command.env("LD_PRELOAD", shim).env("FAULT", fault).env("FAULT_FILE", file).env("FAULT_AT", at.to_string());
        command
    }

    pub fn start(&self, mut command: Command) -> Running {
        let output = tempfile::tempdir().expect("a folder");
        let file = |name: &str| File::create(output.path().join(name)).expect("a file");
        command.current_dir(self.folder.path()).env("TMPDIR", self.scratch.path());
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        Running { child: command.spawn().expect("a process"), output, since: Instant::now() }
    }

    /// Names of everything in the folder, hidden files included.
    pub fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }
}

/// A process that is killed when it takes too long. What it prints goes to files, so that no pipe can fill up.
pub struct Running {
    child: Child,
    output: TempDir,
    since: Instant,
}

/// What became of it.
pub struct Ended {
    /// Exit code; the negative number of the signal that ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub after: Duration,
}

impl Running {
    pub fn printed(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.output.path().join(name)).expect("its output")).into_owned()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has printed `text`, or ended.
    pub fn wait_for(&mut self, text: &str) {
        while !self.printed("stdout").contains(text) {
            assert!(self.since.elapsed() < DEADLINE, "no {text}: {}", self.printed("stderr"));
            if self.child.try_wait().expect("a child").is_some() {
                return;
            }
            sleep(GLANCE);
        }
    }

    pub fn signal(self, signal: Signal) -> Self {
        let _ = kill_process(Pid::from_child(&self.child), signal);
        self
    }

    /// Kills it after this time, if it has not ended before.
    pub fn kill_after(mut self, time: Duration) -> Ended {
        while self.since.elapsed() < time && self.child.try_wait().expect("a child").is_none() {
            sleep(Duration::from_millis(1).min(time.saturating_sub(self.since.elapsed())));
        }
        let _ = self.child.kill();
        self.end()
    }

    pub fn end(self) -> Ended {
        self.end_within(DEADLINE)
    }

    pub fn end_within(mut self, deadline: Duration) -> Ended {
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if asked.elapsed() > deadline {
                let _ = self.child.kill();
                panic!("still running after {deadline:?}: {}", self.printed("stderr"));
            }
            sleep(GLANCE);
        };
        let code = status.code().unwrap_or_else(|| -status.signal().expect("code or signal"));
        Ended { code, stdout: self.printed("stdout"), stderr: self.printed("stderr"), after: self.since.elapsed() }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// Whether this machine lets us mount things; says so when not.
pub fn can_mount() -> bool {
    let tried = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        skipped("small file systems cannot be mounted here (needs root)");
    }
    can
}

/// `fault.c` as a library, built in this folder; says so where there is no compiler.
pub fn shim(folder: &Path) -> Option<PathBuf> {
    let library = folder.join("fault.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library);
    compiler.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/program/fault.c")).arg("-ldl");
    match compiler.output() {
        Ok(built) => assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr)),
        Err(error) => {
            skipped(&format!("no C compiler: {error}"));
            return None;
        }
    }
    Some(library)
}

/// Encoders of the linked libavcodec that code in software, as `repass encoders` lists them.
pub fn software_encoders() -> Vec<String> {
    let ended = Place::empty().run("encoders --json");
    let rows: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let rows = rows.as_array().expect("an array").iter();
    rows.filter(|row| row["present"] == true && row["vendor"] == "software")
        .map(|row| row["encoder"].as_str().expect("a name").to_owned())
        .collect()
}

/// The speed that makes an encoder bearable in a test.
pub fn quick(encoder: &str) -> &'static str {
    if encoder == "libaom-av1" { "--preset ultrafast --threads 1" } else { "--preset ultrafast" }
}

/// Long enough for a loaded machine, short enough for a test that hangs.
pub const DEADLINE: Duration = Duration::from_secs(400);
const GLANCE: Duration = Duration::from_millis(5);
