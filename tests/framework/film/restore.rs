//! The steps after a backup was restored.

use contracts::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use contracts::mesh::operations::v1::{WatchRequest, WatchResponse, watch_response::Event};
use harness::film::{create, large_picture, render};
use harness::{Grpcurl, Process, output_in};
use serde_json::json;
use tonic::transport::Endpoint;

/// The first frame of a watch with this cursor.
fn first_frame(process: &Process, name: &str, cursor: Vec<u8>) -> WatchResponse {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = Endpoint::from_shared(format!("http://{}", process.address)).expect("an address").connect_lazy();
        let request = WatchRequest { name: name.to_owned(), cursor, ..WatchRequest::default() };
        let stream = OperationEventsServiceClient::new(channel).watch(request).await.expect("a stream");
        stream.into_inner().message().await.expect("a frame").expect("a frame")
    })
}

#[test]
fn new_epoch_restarts_streams() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let title_id = json!(create(&grpcurl, "Metropolis")["titleId"]);
    let name = render(&grpcurl, &title_id, &large_picture());
    let cursor = first_frame(&process, &name, Vec::new()).cursor;

    let folder = process.kill();
    let process = Process::start_in(folder, "monolith", &[]);
    let same = first_frame(&process, &name, cursor.clone());
    assert!(!matches!(same.event, Some(Event::Gap(_))), "{same:?}");

    let folder = process.kill();
    let renewed = output_in(&folder, "monolith", &["--renew-epoch"]);
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    let printed = String::from_utf8(renewed.stdout).expect("UTF-8");
    for service in ["catalog", "artwork"] {
        let line = format!("{service} begins the epoch ");
        assert_eq!(printed.lines().filter(|printed| printed.starts_with(&line)).count(), 1, "{printed}");
    }

    let process = Process::start_in(folder, "monolith", &[]);
    let other = first_frame(&process, &name, cursor);
    assert!(matches!(other.event, Some(Event::Gap(_))), "{other:?}");
}
