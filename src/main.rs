//! The program `primacy`; all that it does is in the library, all that it says in [`cli`].

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
