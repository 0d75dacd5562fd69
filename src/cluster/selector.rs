//! Label selectors, as `kubectl -l` takes them: which objects count.

use std::fmt;

/// A label selector that makes sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selector(String);

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
