//! A test program of steps that share what is slow to start: it tells what each step does, how long
//! it took, and what it measured; nothing is asserted of times. A step that fails ends the run.

use std::time::Instant;

#[path = "skip.rs"]
pub mod skip;

use skip::skip;

/// Whether cargo asks for the test of this name: it passes the filter on to every test program.
pub fn is_wanted(test: &str) -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("{test}: test");
        return false;
    }
    let is_skipped = |pair: &[String]| pair[0] == "--skip" && test.contains(&pair[1]);
    if arguments.windows(2).any(is_skipped) {
        return false;
    }
    let is_filter = |at: &usize| {
        !arguments[*at].starts_with('-') && (*at == 0 || arguments[*at - 1] != "--skip")
    };
    let mut filters = (0..arguments.len()).filter(is_filter).peekable();
    filters.peek().is_none() || filters.any(|at| test.contains(&arguments[at]))
}

/// What the steps need, or `None` with the reason told aloud.
///
/// # Panics
/// In CI, where nothing may be skipped.
pub fn or_skipped<T>(needed: Result<T, String>) -> Option<T> {
    match needed {
        Ok(needed) => Some(needed),
        Err(why) => {
            skip(&why);
            None
        }
    }
}

/// Runs a step, and says which one it was when it fails.
pub fn step<T>(name: &'static str, run: impl FnOnce() -> T) -> T {
    struct Named(&'static str, Instant);
    impl Drop for Named {
        fn drop(&mut self) {
            let took = self.1.elapsed();
            let verdict = if std::thread::panicking() { "FAILED" } else { "ok" };
            println!("{verdict:>6}  {}  ({:.1} s)", self.0, took.as_secs_f64());
        }
    }
    let _named = Named(name, Instant::now());
    run()
}

/// Tells what was measured.
pub fn measured(what: &str, value: impl std::fmt::Debug) {
    println!("        {what}: {value:?}");
}
