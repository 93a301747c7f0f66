//! The command line: what to do, what to print, which exit code.

mod args;
mod banner;
mod bench;
mod call;
mod monitor;
mod ping;
mod run;
mod signals;
mod status;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::Args;
use call::CallError;
use run::Failure;

/// Does what the command line asks for. Usage errors, `--help` and `--version` end the process within.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    match run::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where stderr is gone too, the exit code says it alone.
            let _ = writeln!(io::stderr(), "primacy: {failure}");
            ExitCode::from(exit_code(&failure))
        }
    }
}

/// 1 where something failed, 2 where the user can put it right: usage, configuration, addresses; 3 where a threshold was
/// missed. Clap's usage errors are 2 as well.
fn exit_code(failure: &Failure) -> u8 {
    match failure {
        Failure::Config(_) | Failure::NoSuchReplica { .. } | Failure::Bind(_) | Failure::RustLog(_) => 2,
        Failure::Cluster(error) if error.is_usage() => 2,
        Failure::Call(CallError::Length(_) | CallError::Endless) => 2,
        Failure::Bench(error) if error.is_usage() => 2,
        Failure::Missed(_) => 3,
        Failure::Log(_)
        | Failure::Cluster(_)
        | Failure::Start(_)
        | Failure::Stdout(_)
        | Failure::NobodyAnswers
        | Failure::Bench(_)
        | Failure::WrongData
        | Failure::Call(_) => 1,
    }
}
