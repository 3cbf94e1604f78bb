//! Listing operations: by what they are, a page at a time.

use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::{ListOperationsRequest, ListOperationsResponse};
use tonic::{Code, Status};

use crate::bench::{Bench, Echo, FAIL_FOR_GOOD, HANG, SUCCEED, refused};

async fn list(bench: &Bench, filter: &str, page_size: i32, token: &str) -> Result<ListOperationsResponse, Status> {
    let (name, filter, page_token) = ("services/work".to_owned(), filter.to_owned(), token.to_owned());
    let request = ListOperationsRequest { name, filter, page_size, page_token };
    Ok(OperationsClient::new(bench.channel.clone()).list_operations(request).await?.into_inner())
}

async fn names(bench: &Bench, filter: &str) -> Vec<String> {
    let answer = list(bench, filter, 0, "").await.unwrap();
    answer.operations.into_iter().map(|operation| operation.name).collect()
}

on_both!(a_filter_gives_what_it_says_the_newest_first);
async fn a_filter_gives_what_it_says_the_newest_first(bench: Bench) {
    let succeeded = bench.begin(0, SUCCEED).await;
    let failed = bench.begin(0, FAIL_FOR_GOOD).await;
    let echo = bench.begin_a::<Echo>(prost_types::Duration::default()).await;
    let running = bench.begin(0, HANG).await;
    for name in [&succeeded, &failed, &echo] {
        bench.wait(name).await;
    }
    bench.running(&running).await;

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
        assert_eq!(names(&bench, filter).await.iter().collect::<Vec<_>>(), expected, "{filter}");
    }
    let answer = list(&bench, "state=running", 0, "").await;
    assert!(answer.as_ref().unwrap_err().message().contains("PENDING"), "it says what is allowed: {answer:?}");
    assert_eq!(refused(answer), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
}

on_both!(a_page_token_is_good_for_its_list_and_no_other);
async fn a_page_token_is_good_for_its_list_and_no_other(bench: Bench) {
    let mut begun = Vec::new();
    for _ in 0..5 {
        let name = bench.begin(0, SUCCEED).await;
        bench.wait(&name).await;
        begun.insert(0, name);
    }
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(&bench, "done=true", 2, &token).await.unwrap();
        listed.extend(page.operations.into_iter().map(|operation| operation.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        for (filter, token) in [("", &*token), ("done=false", &*token), ("done=true", "bm90IG91cnM")] {
            let answer = list(&bench, filter, 2, token).await;
            assert!(answer.as_ref().unwrap_err().message().contains("page_token"), "{filter}: {answer:?}");
            assert_eq!(refused(answer).0, Code::InvalidArgument);
        }
    }
    assert_eq!(listed, begun);
}
