//! Whether the copy of a source is complete, for the calls that read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh_rpc::call::error::unavailable_with;
use mesh_store::{Error, Store};
use tonic::Status;

use super::row;

/// The delay before a caller retries.
const RETRY: Duration = Duration::from_secs(1);

/// The copy of a source. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Copied {
    source: &'static str,
    complete: Arc<AtomicBool>,
}

impl Copied {
    /// The copy of `source` in the database of a service. Its follower begins with it.
    ///
    /// # Errors
    ///
    /// As for any transaction.
    pub async fn open(store: &Store, source: &'static str) -> Result<Self, Error> {
        row::create(store, source).await?;
        let row = row::read(store.reader(), store.dialect(), source).await?;
        Ok(Self::new(source, row.place.whole > 0))
    }

    fn new(source: &'static str, complete: bool) -> Self {
        Self { source, complete: Arc::new(AtomicBool::new(complete)) }
    }

    /// Checks that the copy has once been complete. Call it before a read: what is not in an incomplete copy may exist. A
    /// rebuild serves the old rows, so a copy that was complete stays so.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE, `COPY_INCOMPLETE`, with `RetryInfo`: the first snapshot has not ended.
    pub fn complete(&self) -> Result<(), Status> {
        if self.complete.load(Ordering::Relaxed) {
            return Ok(());
        }
        let message = format!("the copy of `{}` is not complete yet; retry later", self.source);
        Err(unavailable_with("COPY_INCOMPLETE", message, RETRY, [("source", self.source.to_owned())]))
    }

    pub(super) fn set_complete(&self) {
        self.complete.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    #[test]
    fn copy_is_refused_until_it_is_complete() {
        let copied = Copied::new("catalog", false);
        let refused = copied.complete().unwrap_err();
        let details = refused.get_error_details();
        assert_eq!((refused.code(), &*details.error_info().unwrap().reason), (Code::Unavailable, "COPY_INCOMPLETE"));
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(RETRY));
        copied.clone().set_complete();
        copied.complete().unwrap();
    }
}
