//! Listing operations: filters and pages.

use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::{ListOperationsRequest, ListOperationsResponse};
use mesh_proto::mesh::operations::v1::OperationMetadata;
use tonic::{Code, Status};

use crate::fixture::{Echo, FAIL_FOR_GOOD, Fixture, HANG, SUCCEED, refused};

async fn list(fixture: &Fixture, filter: &str, page_size: i32, token: &str) -> Result<ListOperationsResponse, Status> {
    let (name, filter, page_token) = ("services/work".to_owned(), filter.to_owned(), token.to_owned());
    let request = ListOperationsRequest { name, filter, page_size, page_token };
    Ok(OperationsClient::new(fixture.channel.clone()).list_operations(request).await?.into_inner())
}

async fn names(fixture: &Fixture, filter: &str) -> Vec<String> {
    let answer = list(fixture, filter, 0, "").await.unwrap();
    answer.operations.into_iter().map(|operation| operation.name).collect()
}

on_both!(list_filter_selects_operations_newest_first);
async fn list_filter_selects_operations_newest_first(fixture: Fixture) {
    let succeeded = fixture.start(0, SUCCEED).await;
    let failed = fixture.start(0, FAIL_FOR_GOOD).await;
    let echo = fixture.start_kind::<Echo>(prost_types::Duration::default()).await;
    let running = fixture.start(0, HANG).await;
    for name in [&succeeded, &failed, &echo] {
        fixture.wait(name).await;
    }
    fixture.running(&running).await;

    for (filter, expected) in [
        ("", vec![&running, &echo, &failed, &succeeded]),
        ("done=true", vec![&echo, &failed, &succeeded]),
        ("done=false", vec![&running]),
        ("state=RUNNING", vec![&running]),
        ("state=SUCCEEDED", vec![&echo, &succeeded]),
        ("state=FAILED AND done=true", vec![&failed]),
        ("state=CANCELLED", vec![]),
        ("kind=Echo", vec![&echo]),
        ("kind=Steps AND state=SUCCEEDED", vec![&succeeded]),
        ("kind=Nothing", vec![]),
    ] {
        assert_eq!(names(&fixture, filter).await.iter().collect::<Vec<_>>(), expected, "{filter}");
    }
    let metadata = list(&fixture, "kind=Echo", 0, "").await.unwrap().operations.remove(0).metadata.unwrap();
    let metadata = metadata.to_msg::<OperationMetadata>().unwrap();
    assert_eq!((&*metadata.kind, &*metadata.causation_id), ("Echo", ""));
    let correlated = format!("correlation_id={}", metadata.correlation_id);
    for filter in [correlated.clone(), format!("{correlated} AND kind=Echo"), format!("kind=Echo AND {correlated}")] {
        assert_eq!(names(&fixture, &filter).await.iter().collect::<Vec<_>>(), [&echo], "{filter}: a cause of its own");
    }
    assert_eq!(names(&fixture, &format!("{correlated} AND kind=Steps")).await, [""; 0]);
    let answer = list(&fixture, "state=running", 0, "").await;
    assert!(
        answer.as_ref().unwrap_err().message().contains("PENDING"),
        "the message names the allowed values: {answer:?}"
    );
    assert_eq!(refused(answer), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
}

on_both!(list_page_token_is_valid_for_its_list_only);
async fn list_page_token_is_valid_for_its_list_only(fixture: Fixture) {
    let mut started = Vec::new();
    for _ in 0..5 {
        let name = fixture.start(0, SUCCEED).await;
        fixture.wait(&name).await;
        started.insert(0, name);
    }
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(&fixture, "done=true", 2, &token).await.unwrap();
        listed.extend(page.operations.into_iter().map(|operation| operation.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        for (filter, token) in [("", &*token), ("done=false", &*token), ("done=true", "bm90IG91cnM")] {
            let answer = list(&fixture, filter, 2, token).await;
            assert!(answer.as_ref().unwrap_err().message().contains("page_token"), "{filter}: {answer:?}");
            assert_eq!(refused(answer).0, Code::InvalidArgument);
        }
    }
    assert_eq!(listed, started);
}
