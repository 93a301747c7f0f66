//! The program `primacy`; all that it does is in the library, all that it says in [`cli`].

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used)]

mod cli;

/// Notes are written in any order, so the memory of old ones becomes free all over the heap. The system's allocator looks
/// for fitting pieces among them, a cache miss for each that it looks at: with many notes, most of a write's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
