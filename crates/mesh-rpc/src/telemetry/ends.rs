//! The two ends of calls, their method and the side that measures: what makes two calls those of one edge.

use tonic::Code;

use crate::call::Method;

/// The side that has measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// The process served the calls.
    Served,
    /// The process made the calls.
    Made,
}

/// The calls of one method from one caller to one service, as one side measures them.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The side that measures.
    pub side: Measured,
    /// The service that calls, as it has proven; empty for a caller outside of the mesh.
    pub caller: &'static str,
    /// The service that an unproven caller within the mesh says it is, for display. A proven one has
    /// [`DASHBOARD`](super::DASHBOARD), if it says that.
    pub claimed: &'static str,
    /// The service that is called.
    pub callee: &'static str,
    /// The method.
    pub method: &'static Method,
    /// Whether the calls stay in memory.
    pub memory: bool,
}

impl Ends {
    /// Whether a call that has ended with this code has failed. A client may leave a stream when it has seen enough.
    pub(super) fn is_failure(&self, code: Code) -> bool {
        match code {
            Code::Ok => false,
            Code::Cancelled => !self.method.server_streaming,
            _ => true,
        }
    }

    /// The name of the method as messages and traces have it: `catalog.v1.CatalogService/GetTitle`, or `unknown`.
    pub fn method_name(&self) -> String {
        let Method { service, name, .. } = self.method;
        if self.method.is_known() { format!("{service}/{name}") } else { (*name).to_owned() }
    }

    /// Whether the method has this name.
    pub(super) fn is_of(&self, method: &str) -> bool {
        let Method { service, name, .. } = self.method;
        match method.split_once('/') {
            Some((of, named)) => self.method.is_known() && (of, named) == (*service, *name),
            None => !self.method.is_known() && method == *name,
        }
    }
}
