//! What a request may ask for.

use futures_util::StreamExt as _;
use mesh::testing::bounds;
use mesh_proto::FILE_DESCRIPTOR_SET;
use mesh_proto::mesh::events::v1::SubscribeRequest;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::fixture::Fixture;

async fn refused(fixture: &Fixture, source: &str, cursor: &[u8], types: &[&str]) -> (Code, String, String) {
    let (source, cursor) = (source.to_owned(), cursor.to_vec());
    let types = types.iter().map(ToString::to_string).collect();
    let request = SubscribeRequest { source, cursor, types, heartbeat: None };
    let status: Status = fixture.client.clone().subscribe(request).await.unwrap_err();
    let details = status.get_error_details();
    let fields = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let fields: Vec<_> = fields.iter().map(|field| format!("{} {}", field.field, field.description)).collect();
    (status.code(), details.error_info().unwrap().reason.clone(), fields.join("; "))
}

on_both!(subscribe_refuses_what_does_not_exist);
async fn subscribe_refuses_what_does_not_exist(fixture: Fixture) {
    let (code, reason, _) = refused(&fixture, "nothing", b"", &["things.v1.Made"]).await;
    assert_eq!((code, reason.as_str()), (Code::NotFound, "SERVICE_NOT_FOUND"));

    let (code, reason, fields) = refused(&fixture, "things", b"", &["things.v1.Made", "things.v1.Lost"]).await;
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_FIELDS"));
    let expected =
        "types has `things.v1.Lost`, which the source does not publish: use things.v1.Made, things.v1.Removed";
    assert_eq!(fields, expected);

    fixture.make("one").await;
    let mut reader = fixture.follow(b"", &[]).await.unwrap();
    reader.next().await;
    let cursor = reader.copy.cursor;
    let of_operations = [0; 40];
    for bad in [b"nonsense".as_slice(), &cursor[..cursor.len() - 1], &of_operations[..24], &of_operations] {
        let (code, reason, fields) = refused(&fixture, "things", bad, &[]).await;
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_FIELDS"), "{bad:?}");
        assert!(fields.starts_with("cursor "), "{fields}");
    }
}

on_both!(bounds_of_subscribe_are_those_of_the_service);
async fn bounds_of_subscribe_are_those_of_the_service(fixture: Fixture) {
    let types = vec!["things.v1.Made".to_owned()];
    let request = SubscribeRequest { source: "things".to_owned(), types, ..SubscribeRequest::default() };
    let client = fixture.client.clone();
    let call = async |request| {
        let mut frames = client.clone().subscribe(request).await?.into_inner();
        frames.next().await.transpose()
    };
    bounds(FILE_DESCRIPTOR_SET, &request, &["cursor", "types"], call).await;
}
