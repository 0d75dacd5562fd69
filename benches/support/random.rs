//! In which order? The same random numbers in each run (xorshift64).

/// A sequence that its seed fixes.
pub struct Random(u64);

impl Random {
    /// A sequence; the seed 0, which would stay 0, is another one.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as usize * bound) >> 32
    }
}
