//! Arguments → one of: serve, demo, check, load.

use std::process::ExitCode;

use mainstay::app::{arguments::Arguments, check, demo, load, serve};

/// glibc's and musl's allocators keep memory that many threads freed; mimalloc gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    use mainstay::app::arguments::Command;
    let arguments = Arguments::read(std::env::args_os());
    match arguments.command {
        None => serve::run(&arguments.serve),
        Some(Command::Serve(serve)) => serve::run(&serve),
        Some(Command::Demo(demo)) => demo::run(&demo),
        Some(Command::Check(check)) => check::run(&check),
        Some(Command::Load(load)) => load::run(&load),
    }
}
