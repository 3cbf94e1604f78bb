//! Load-balancing weights.

use serde::{Deserialize, Serialize};

/// An instance's share of the traffic, relative to the other instances of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weights {
    /// Weight while all checks pass: 1 to 65535. Default: 1.
    pub passing: u32,
    /// Weight while a check warns: 0 to 65535. Default: 1.
    pub warning: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}
