//! One instance of a service, as discovery reports it.

use http::uri::Authority;

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Host and port.
    pub authority: Authority,
    /// Its share of the calls relative to other instances, from 1.
    pub weight: u32,
}
