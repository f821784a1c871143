//! The program: parse, run, print one error, exit code.

mod cli;

use std::ffi::OsString;
use std::process::ExitCode;

use cli::Cli;

fn main() -> ExitCode {
    repass::av::let_jobs_zero_memory();
    let typed: Vec<OsString> = std::env::args_os().collect();
    match Cli::read(typed.iter().cloned()) {
        Ok(cli) => cli::end_of_run(cli.run(), cli.json),
        Err(usage) => cli::end_of_usage(&usage, &typed),
    }
}
