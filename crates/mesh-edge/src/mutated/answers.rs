use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use mesh_rpc::call::body::trailers;
use tonic::Status;
use tonic::body::Body;

use super::{begin, corpus, framed, mutate};
use crate::call::Messages;

#[tokio::test]
async fn answers_survive_mutation() {
    let (inputs, mut random) = begin();
    let corpus = corpus();
    let (mut whole, mut broken) = (0, 0);
    for _ in 0..inputs {
        let input = mutate(&mut random, &corpus);
        let (first, second) = input.split_at(random.usize(..=input.len()));
        let data = [first, second].map(|part| Frame::data(Bytes::copy_from_slice(part)));
        let frames = data.into_iter().chain([Frame::trailers(trailers(&Status::ok("")))]).map(Ok::<_, Status>);
        let mut messages = Messages::of(Response::new(Body::new(StreamBody::new(stream::iter(frames))))).unwrap();
        let mut read = Vec::new();
        let end = loop {
            match messages.next().await {
                Ok(Some(message)) => read.extend(framed(&[&message])),
                end => break end,
            }
        };
        // What was read is what was sent, and only all of it is a success.
        assert!(input.starts_with(&read), "{input:?} was read as {read:?}");
        assert_eq!(end.is_ok(), read.len() == input.len(), "{input:?}: {end:?} after {read:?}");
        *(if end.is_ok() { &mut whole } else { &mut broken }) += 1;
    }
    // Otherwise only the refusal of nonsense was tested.
    assert!(whole > inputs / 100 && broken > inputs / 100, "of {inputs}, {whole} were read and {broken} refused");
}
