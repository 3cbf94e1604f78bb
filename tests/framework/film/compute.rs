//! The drain of a process whose calls compute without an await.

use std::time::Duration;

use harness::{Process, RawCall, eventually};

use super::calls::hops::{NEVER, attempts};

#[test]
fn drain_limit_holds_while_every_worker_computes() {
    let environment =
        [("HOP_DOES", "compute"), ("HOP_TAKES", NEVER), ("TOKIO_WORKER_THREADS", "1"), ("MESH__DRAIN_LIMIT", "1s")];
    let mut hop = Process::start("hop", &environment);
    let mut call = RawCall::begin(hop.address, "/catalog.v1.CatalogService/GetTitle", &[]);
    call.send(b"");
    eventually("the call computes", || (attempts(&hop, "GetTitle") == 1).then_some(()));

    hop.signal("TERM");
    let (status, took) = hop.ended();
    assert_eq!(status.code(), Some(0));
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&took), "took {took:?}");
    assert!(hop.log().contains("drain limit reached"), "{}", hop.log());
}
