//! `mainstay load`: the room `load`, with a log and enough open files.

use std::process::ExitCode;

use super::limits::raise_open_files;
use crate::load::arguments::LoadArguments;
use crate::load::command;
use crate::ops::{self, log};

/// Runs the load, or what else the arguments say.
pub fn run(arguments: &LoadArguments) -> ExitCode {
    let counters = ops::Counters::default();
    let flush = match log::start_beside_output(&counters) {
        Ok(flush) => flush,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(command::NOT_MADE);
        }
    };
    raise_open_files();
    let code = command::run(arguments);
    drop(flush);
    code
}
