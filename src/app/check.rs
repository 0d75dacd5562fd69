//! `mainstay check FILE`: every problem of a Corefile, with file and line and a suggestion.

use std::process::ExitCode;

use super::arguments::CheckArguments;
use super::start::origin;
use crate::corefile::{self, Options};

/// Checks a Corefile. Ends with 0 when it is right, with 1 when it is not.
pub fn run(arguments: &CheckArguments) -> ExitCode {
    let origin = match origin(Some(&arguments.file)) {
        Ok(origin) => origin,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match corefile::load(&origin, &Options::default()) {
        Ok(corefile) => {
            corefile.warnings.iter().for_each(|warning| println!("warning: {warning}"));
            println!("{}: right, {}", arguments.file.display(), summary(&corefile));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            problems.iter().for_each(|problem| println!("{problem}"));
            let count = problems.len();
            println!("{}: {count} problem{}", arguments.file.display(), plural(count));
            ExitCode::FAILURE
        }
    }
}

fn summary(corefile: &corefile::Corefile) -> String {
    let (blocks, warnings) = (corefile.blocks.len(), corefile.warnings.len());
    format!("{blocks} server block{}, {warnings} warning{}", plural(blocks), plural(warnings))
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
