//! Whether a call is retried, and after which pause.
//!
//! A server asks for a pause by `RetryInfo`, or by a [`Pushback`].
//!
//! Guarantees:
//! - A retry is never earlier than the server asks. A random share of a fifth on top spreads the callers that were
//!   refused together.
//! - A pushback that is negative or malformed forbids retries. A valid one starts the backoff again.

use std::time::Duration;

use http::Response;
use mesh_runtime::Backoff;
use tonic::Code;
use tonic::body::Body;
use tonic_types::StatusExt as _;

use super::connections::Unanswered;
use super::failure;
use crate::call::body::failure_of;
use crate::call::pushback::Pushback;

/// The pause between attempts, with full jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(1));
/// A longer `RetryInfo` is returned to the caller instead.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// The pauses of one call.
#[derive(Default)]
pub(super) struct Pauses {
    /// Retries since the last pushback.
    retries: u32,
}

impl Pauses {
    /// The pause before a retry; `None` if the call must not be retried.
    pub(super) fn after(&mut self, result: &Result<Response<Body>, Unanswered>, idempotent: bool) -> Option<Duration> {
        let (asked, pushback) = asked(result, idempotent)?;
        self.retries = if pushback { 1 } else { self.retries + 1 };
        Some(asked.mul_f64(1.0 + 0.2 * fastrand::f64()) + BACKOFF.pause(self.retries))
    }
}

/// The least pause, and whether a pushback asks for it; `None` if the call must not be retried.
fn asked(result: &Result<Response<Body>, Unanswered>, idempotent: bool) -> Option<(Duration, bool)> {
    let response = match result {
        Err(Unanswered::Lost(_)) => return idempotent.then_some((Duration::ZERO, false)),
        Err(_) => return Some((Duration::ZERO, false)),
        Ok(response) => response,
    };
    let status = failure_of(response.headers()).filter(|status| idempotent || failure::is_unbegun(status))?;
    let info = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let pushback = Pushback::of_headers(response.headers());
    let asked = match pushback {
        Pushback::Never => return None,
        Pushback::After(delay) => Some(info.unwrap_or_default().max(delay)),
        Pushback::Unspecified => info,
    };
    let pause = match status.code() {
        Code::Unavailable if !failure::is_propagated(&status) => Some(asked.unwrap_or_default()),
        Code::ResourceExhausted => asked,
        _ => None,
    };
    let pause = pause.filter(|pause| *pause <= MAX_RETRY_DELAY)?;
    Some((pause, pushback != Pushback::Unspecified))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::error;
    use crate::call::pushback::RETRY_PUSHBACK;
    use tonic::Status;

    type Answer = Result<Response<Body>, Unanswered>;

    fn answer(status: Status, pushback: Option<&str>) -> Answer {
        let mut response = status.into_http();
        if let Some(pushback) = pushback {
            response.headers_mut().insert(RETRY_PUSHBACK, pushback.parse().unwrap());
        }
        Ok(response)
    }

    fn refused(pushback: &str) -> Answer {
        answer(Status::unavailable(""), Some(pushback))
    }

    fn pause(answer: &Answer) -> Option<Duration> {
        Pauses::default().after(answer, true)
    }

    #[test]
    fn pushback_that_is_negative_or_malformed_forbids_retries() {
        assert!(pause(&answer(Status::unavailable(""), None)).is_some());
        for pushback in ["-1", "", "soon", "1.5", "+5", "99999999999"] {
            assert_eq!(pause(&refused(pushback)), None, "{pushback:?}");
        }
    }

    #[test]
    fn pushback_is_the_least_pause() {
        for _ in 0..100 {
            let pause = pause(&refused("400")).unwrap();
            assert!((Duration::from_millis(400)..Duration::from_millis(506)).contains(&pause), "{pause:?}");
        }
        assert!(pause(&refused("0")).unwrap() < Duration::from_millis(26));
        assert_eq!(pause(&refused("6000")), None, "the caller learns of a longer one");
    }

    #[test]
    fn pushback_starts_the_backoff_again() {
        let mut pauses = Pauses { retries: 10 };
        assert!(pauses.after(&refused("0"), true).unwrap() < Duration::from_millis(26));
    }

    #[test]
    fn pushback_makes_resource_exhausted_retryable() {
        let exhausted = |pushback| pause(&answer(Status::resource_exhausted(""), pushback));
        assert_eq!(exhausted(None), None);
        assert!(exhausted(Some("10")).is_some());
        // No other code.
        assert_eq!(pause(&answer(Status::internal(""), Some("10"))), None);
    }

    #[test]
    fn retry_delay_spreads_the_callers_that_were_refused_together() {
        let refused = answer(error::overloaded("", Duration::from_secs(1)), None);
        let pauses: Vec<_> = (0..100).map(|_| pause(&refused).unwrap()).collect();
        let (first, last) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*first >= Duration::from_secs(1) && *last - *first > Duration::from_millis(100), "{first:?} {last:?}");
    }

    #[test]
    fn retry_of_a_call_that_must_not_be_repeated_needs_an_unsent_request() {
        let cause = || std::sync::Arc::new(std::io::Error::other("on purpose"));
        let after = |answer: Answer| Pauses::default().after(&answer, false);
        assert!(after(Err(Unanswered::Refused(cause()))).is_some());
        assert_eq!(after(Err(Unanswered::Lost(cause()))), None);
        assert_eq!(after(refused("10")), None);
        let unavailable = |reason| answer(error::unavailable(reason, "", Duration::ZERO), None);
        assert!(after(unavailable(error::STARTING)).is_some(), "no handler has begun");
        assert_eq!(after(unavailable("DATABASE_UNAVAILABLE")), None);
    }
}
