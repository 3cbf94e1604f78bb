//! A peer fails: what a caller of the service that called it sees. The hop returns any failure but NOT_FOUND as it
//! came.

use harness::Process;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::hops;
use super::load::{Kind, once};

/// The failure of a call through a hop, to a peer with this behaviour; and the log of the hop.
fn through_a_hop(does: &str) -> (Status, String) {
    let peer = Process::start("hop", &[("HOP_DOES", does)]);
    let hop = hops::to(&[peer.address]);
    let failed = once(hop.address, Kind::Create).expect_err("the peer fails");
    (failed, hop.log())
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[test]
fn peer_failure_is_not_passed_on_as_ones_own() {
    for code in [Code::Unimplemented, Code::InvalidArgument, Code::Unauthenticated, Code::PermissionDenied] {
        let (failed, log) = through_a_hop(&i32::from(code).to_string());
        assert_eq!((failed.code(), &*reason(&failed)), (Code::Internal, "PEER_FAILED"), "{code:?}: {failed:?}");
        assert!(failed.message().contains("catalog.v1.CatalogService/CreateTitle"), "{failed:?}");
        assert!(!failed.message().contains("on purpose"), "the peer's text: {failed:?}");
        assert!(!failed.metadata().contains_key("mesh-peer"), "{failed:?}");
        assert!(log.contains("on purpose"), "the log has no cause: {log}");
    }
}

#[test]
fn peer_failure_that_the_contract_promises_is_passed_on() {
    let (failed, _) = through_a_hop(&i32::from(Code::NotFound).to_string());
    assert_eq!((failed.code(), failed.message()), (Code::NotFound, "on purpose"));
}

#[test]
fn peer_that_cannot_answer_now_leaves_the_failure_retryable() {
    let (failed, log) = through_a_hop("refuse");
    assert_eq!((failed.code(), &*reason(&failed)), (Code::Unavailable, "PEER_UNAVAILABLE"), "{failed:?}");
    assert!(!failed.message().contains("on purpose") && log.contains("on purpose"), "{failed:?}, {log}");
}

#[test]
fn oversized_answer_of_a_peer_is_not_blamed_on_the_request() {
    let (failed, log) = through_a_hop("flood");
    assert_eq!((failed.code(), &*reason(&failed)), (Code::Internal, "PEER_FAILED"), "{failed:?}");
    assert!(log.contains("message length too large"), "the log has no cause: {log}");
}
