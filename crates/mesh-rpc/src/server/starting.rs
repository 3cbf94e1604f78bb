//! The start of a process. Until its services are built, it answers health and refuses all other calls.
//!
//! See: docs/operate/health.md

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::health::Health;
use super::health_service;
use super::layers::dispatch;
use crate::call::error::{STARTING, unavailable};
use crate::call::{GrpcServices, Handler, handler};

/// The invited delay of a retry while the process starts.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A process that starts.
pub struct Starting(Arc<OnceLock<Handler>>);

impl Starting {
    /// The innermost handler for [`stack`](super::layers::stack). Health answers from the first moment. All other calls
    /// are UNAVAILABLE, `STARTING`, until [`serve`](Self::serve).
    pub fn new(health: &Health) -> (Handler, Self) {
        let mut early = GrpcServices::new();
        health_service::serve(health, &mut early);
        let early = dispatch(early, None);
        let refuse = handler(|_| async {
            let message = "the process starts: it opens and migrates its databases; retry later";
            unavailable(STARTING, message, RETRY_DELAY).into_http()
        });
        let built = Arc::new(OnceLock::<Handler>::new());
        let starting = Self(Arc::clone(&built));
        let innermost: Handler = Arc::new(move |call| match built.get() {
            Some(services) => services(call),
            None if call.method.service == health_service::NAME => early(call),
            None => refuse(call),
        });
        (innermost, starting)
    }

    /// Serves `services` from now on, also on open connections, and answers calls to others with `others`.
    pub fn serve(self, services: GrpcServices, others: Option<Handler>) {
        // It is empty: this takes the only value that can fill it.
        let _ = self.0.set(dispatch(services, others));
    }
}
