//! Compressing and decompressing batch bodies, within limits.

/// How far a body may grow when it is decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// No body may be larger than this once decompressed.
    pub max_decompressed_bytes: usize,
    /// No body may grow by more than this factor, once it passes [`RATIO_FREE_BYTES`]: real data compresses by a
    /// factor of 2 to 50, repeated lines by a few hundred, bombs by thousands.
    pub max_ratio: usize,
}

/// Below this size the ratio is not looked at: a batch of many equal small records is no bomb.
pub const RATIO_FREE_BYTES: usize = 1024 * 1024;

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            max_decompressed_bytes: 64 * 1024 * 1024,
            max_ratio: 1024,
        }
    }
}
