//! How much of the traffic an instance receives.

use serde::{Deserialize, Serialize};

/// How large a part of the calls an instance wants, compared with its siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weights {
    /// While all its checks pass; 1 to 65535.
    pub passing: u32,
    /// While one of them warns; 0 to 65535.
    pub warning: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}
