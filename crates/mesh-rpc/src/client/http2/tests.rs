//! A connection against a server of h2 that does what each test needs.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, server};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use tonic::body::Body;

use super::line::KEEP_ALIVE;
use super::*;

type Called = (Request<RecvStream>, SendResponse<Bytes>);

type Working = JoinHandle<Result<(), Broken>>;
type Calling = JoinHandle<Result<Response<Received>, Broken>>;

/// A connection, the task that does its work, and the server's side of it.
async fn opened(pings: bool) -> (Arc<Http2>, Working, Connection<DuplexStream, Bytes>) {
    let (near, far) = duplex(1024 * 1024);
    open_over(near, far, pings).await
}

async fn open_over<I>(near: I, far: DuplexStream, pings: bool) -> (Arc<Http2>, Working, Connection<DuplexStream, Bytes>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (opened, server) = tokio::join!(Http2::open(near, pings), server::handshake(far));
    let (http2, work) = opened.unwrap();
    (Arc::new(http2), tokio::spawn(work), server.unwrap())
}

async fn connected(pings: bool) -> (Arc<Http2>, Connection<DuplexStream, Bytes>) {
    let (http2, _, server) = opened(pings).await;
    (http2, server)
}

/// The next request. The server's connection goes on in a task.
async fn next(mut server: Connection<DuplexStream, Bytes>) -> Called {
    let called = server.accept().await.unwrap().unwrap();
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    called
}

fn request(body: Body) -> Request<Body> {
    Request::post("http://peer/test.v1.Test/Get").body(body).unwrap()
}

fn message() -> Body {
    Body::new(Full::new(Bytes::from_static(b"message")).map_err(|never| match never {}))
}

/// A body of so many chunks, which counts those that were asked for.
fn chunks(count: usize, bytes: usize) -> (Body, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let chunks = stream::iter(0..count).map(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Status>(Frame::data(Bytes::from(vec![7; bytes])))
    });
    (Body::new(StreamBody::new(chunks)), asked)
}

/// A body whose first chunk is there, and whose rest never comes.
fn unfinished() -> Body {
    let first = stream::iter([Ok::<_, Status>(Frame::data(Bytes::from_static(b"first")))]);
    Body::new(StreamBody::new(first.chain(stream::pending())))
}

async fn send(http2: &Http2, body: Body) -> Result<Response<Received>, Broken> {
    http2.send(&mut request(body)).await
}

/// A call that a task makes.
fn begun(http2: &Arc<Http2>) -> Calling {
    let http2 = Arc::clone(http2);
    tokio::spawn(async move { send(&http2, message()).await })
}

fn head() -> Response<()> {
    Response::new(())
}

/// Reads a request to its end.
async fn read(mut body: RecvStream) -> Result<usize, h2::Error> {
    let mut length = 0;
    while let Some(data) = body.data().await.transpose()? {
        body.flow_control().release_capacity(data.len())?;
        length += data.len();
    }
    Ok(length)
}

/// Counts the writes to a stream.
struct Counting(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn head_and_message_of_a_request_are_one_write() {
    let (near, far) = duplex(1024 * 1024);
    let written = Arc::new(AtomicUsize::new(0));
    let (http2, _, mut server) = open_over(Counting(near, Arc::clone(&written)), far, true).await;
    let serving = tokio::spawn(async move {
        while let Some(Ok((request, mut respond))) = server.accept().await {
            assert_eq!(request.headers()[CONTENT_LENGTH], "7");
            // The bytes are there with the head.
            assert_eq!(request.into_body().data().await.unwrap().unwrap().len(), 7);
            respond.send_response(head(), true).unwrap();
        }
    });
    // The first call has the acknowledgement of settings beside it.
    send(&http2, message()).await.unwrap();
    let before = written.load(Ordering::Relaxed);
    for _ in 0..10 {
        send(&http2, message()).await.unwrap();
    }
    assert_eq!(written.load(Ordering::Relaxed) - before, 10);
    drop(http2);
    serving.await.unwrap();
}

#[tokio::test]
async fn response_arrives_with_its_trailers() {
    let (http2, server) = connected(true).await;
    let answered = tokio::spawn(async move {
        let (_, mut respond) = next(server).await;
        let mut body = respond.send_response(head(), false).unwrap();
        body.send_data(Bytes::from_static(b"answer"), false).unwrap();
        body.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(0))])).unwrap();
    });
    let response = send(&http2, message()).await.unwrap();
    assert_eq!(http2.calls(), 1);
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!((collected.to_bytes(), http2.calls()), (Bytes::from_static(b"answer"), 0));
    answered.await.unwrap();
}

#[tokio::test]
async fn stream_is_reset_when_nobody_waits_for_it() {
    for (body, responds) in [(message(), false), (unfinished(), false), (message(), true), (unfinished(), true)] {
        let (http2, server) = connected(true).await;
        let mut calling = Box::pin(send(&http2, body));
        let (called, responded) = tokio::select! {
            called = next(server) => (called, None),
            _ = &mut calling => unreachable!("nobody has answered"),
        };
        let (_request, mut respond) = called;
        let stream = responds.then(|| respond.send_response(head(), false).unwrap());
        let responded = if responds {
            Some(calling.await.unwrap())
        } else {
            drop(calling);
            responded
        };
        drop(responded);
        let reset = async {
            match stream {
                Some(mut stream) => poll_fn(|cx| stream.poll_reset(cx)).await.unwrap(),
                None => poll_fn(|cx| respond.poll_reset(cx)).await.unwrap(),
            }
        };
        assert_eq!(timeout(KEEP_ALIVE, reset).await.expect("the stream is reset"), Reason::CANCEL);
    }
}

#[tokio::test]
async fn body_waits_for_room_and_arrives_whole() {
    let (http2, server) = connected(true).await;
    let (body, asked) = chunks(64, 64 * 1024);
    let calling = tokio::spawn(async move { send(&http2, body).await });
    let (request, mut respond) = next(server).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    // The window of a server of h2 is 64 KiB: one chunk fills it, and the next one is in hand.
    assert!(asked.load(Ordering::Relaxed) <= 3, "{asked:?}");
    assert_eq!(read(request.into_body()).await.unwrap(), 64 * 64 * 1024);
    respond.send_response(head(), true).unwrap();
    calling.await.unwrap().unwrap();
}

#[tokio::test]
async fn body_that_breaks_off_resets_its_stream() {
    let (http2, server) = connected(true).await;
    let broken = stream::iter([Ok(Frame::data(Bytes::from_static(b"first"))), Err(Status::internal("on purpose"))]);
    let (answered, called) = tokio::join!(send(&http2, Body::new(StreamBody::new(broken))), next(server));
    assert_eq!(read(called.0.into_body()).await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
    assert!(answered.is_err());
}

#[tokio::test]
async fn response_that_is_reset_before_its_end_is_none() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
        let (http2, server) = connected(true).await;
        tokio::spawn(async move {
            let (_request, mut respond) = next(server).await;
            let mut body = respond.send_response(head(), false).unwrap();
            body.send_data(Bytes::from_static(b"half"), false).unwrap();
            tokio::task::yield_now().await;
            body.send_reset(reason);
        });
        let response = send(&http2, unfinished()).await.unwrap();
        let broken = response.into_body().collect().await.unwrap_err();
        assert_eq!(matches!(broken, Broken::Cut), reason == Reason::NO_ERROR, "{broken:?}");
    }
}

#[tokio::test]
async fn response_before_the_end_of_its_request_is_whole() {
    let (http2, server) = connected(true).await;
    tokio::spawn(async move {
        // The drop of the request asks for no more of it.
        let (request, mut respond) = next(server).await;
        let mut body = respond.send_response(head(), false).unwrap();
        body.send_data(Bytes::from_static(b"whole"), true).unwrap();
        drop(request);
    });
    let response = send(&http2, unfinished()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "whole");
}

#[tokio::test]
async fn connection_takes_no_request_after_goaway_and_ends_with_its_calls() {
    let (http2, working, mut server) = opened(true).await;
    let calling = begun(&http2);
    let (_, mut respond) = server.accept().await.unwrap().unwrap();
    server.graceful_shutdown();
    let serving = tokio::spawn(async move { while server.accept().await.is_some() {} });
    let mut refused = request(message());
    while !matches!(http2.send(&mut refused).now_or_never(), Some(Err(Broken::Closed(_)))) {
        refused = request(message());
        tokio::task::yield_now().await;
    }
    assert!(http2.is_closed() && refused.method() == Method::POST, "another connection can take it");
    respond.send_response(head(), true).unwrap();
    calling.await.unwrap().unwrap();
    drop(http2);
    working.await.unwrap().unwrap();
    serving.await.unwrap();
}

#[tokio::test]
async fn connection_without_a_user_ends() {
    let (http2, working, server) = opened(true).await;
    let calling = begun(&http2);
    let (_, mut respond) = next(server).await;
    let mut body = respond.send_response(head(), false).unwrap();
    let response = calling.await.unwrap().unwrap();
    drop(http2);
    body.send_data(Bytes::from_static(b"last"), true).unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "last");
    working.await.unwrap().unwrap();
}

/// A connection whose server allows one stream, a call that has it, and its response.
async fn full() -> (Arc<Http2>, Calling, SendResponse<Bytes>, Connection<DuplexStream, Bytes>) {
    let (near, far) = duplex(1024 * 1024);
    let mut settings = server::Builder::new();
    settings.max_concurrent_streams(1);
    let (opened, server) = tokio::join!(Http2::open(near, true), settings.handshake(far));
    let ((http2, work), mut server) = (opened.unwrap(), server.unwrap());
    tokio::spawn(work);
    let http2 = Arc::new(http2);
    let first = begun(&http2);
    let (_, respond) = server.accept().await.unwrap().unwrap();
    assert_eq!(http2.streams(), 1);
    (http2, first, respond, server)
}

/// Answers all requests that are still to come, and counts them.
async fn answered(mut server: Connection<DuplexStream, Bytes>) -> usize {
    let mut called = 0;
    while let Some(Ok((_, mut respond))) = server.accept().await {
        called += 1;
        let _ = respond.send_response(head(), true);
    }
    called
}

#[tokio::test]
async fn requests_wait_for_a_stream_and_leave_when_they_are_dropped() {
    let (http2, first, mut answer, server) = full().await;
    let waiting: Vec<_> = (0..50).map(|_| begun(&http2)).collect();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(http2.calls(), 51);
    waiting.iter().for_each(JoinHandle::abort);
    let last = begun(&http2);
    let serving = tokio::spawn(answered(server));
    answer.send_response(head(), true).unwrap();
    first.await.unwrap().unwrap();
    last.await.unwrap().unwrap();
    drop(http2);
    assert_eq!(serving.await.unwrap(), 1, "the server sees nothing of those that were dropped");
}

#[tokio::test(start_paused = true)]
async fn call_that_nobody_polls_holds_up_no_other() {
    let (http2, first, mut answer, server) = full().await;
    let mut asked = request(message());
    let mut unpolled = Box::pin(http2.send(&mut asked));
    assert!(unpolled.as_mut().now_or_never().is_none());
    let other = begun(&http2);
    tokio::spawn(answered(server));
    answer.send_response(head(), true).unwrap();
    first.await.unwrap().unwrap();
    timeout(Duration::from_secs(5), other).await.unwrap().unwrap().unwrap();
    timeout(Duration::from_secs(5), unpolled).await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_that_wait_for_a_stream_leave_a_closed_connection() {
    let (http2, first, answer, server) = full().await;
    let waiting = begun(&http2);
    tokio::task::yield_now().await;
    drop((answer, server));
    assert!(matches!(first.await.unwrap(), Err(Broken::Http2(_))));
    assert!(matches!(waiting.await.unwrap(), Err(Broken::Closed(_))));
}

#[tokio::test]
async fn length_of_an_empty_body_is_sent_where_the_method_has_one() {
    for (method, length) in [(Method::POST, Some("0")), (Method::GET, None)] {
        let (http2, server) = connected(true).await;
        let mut request = Request::builder().method(method).uri("http://peer/").body(Body::empty()).unwrap();
        let calling = tokio::spawn(async move { http2.send(&mut request).await });
        let (request, mut respond) = next(server).await;
        assert_eq!(request.headers().get(CONTENT_LENGTH).map(|length| length.to_str().unwrap()), length);
        respond.send_response(head(), true).unwrap();
        calling.await.unwrap().unwrap();
    }
}

/// A server that reads nothing after the first request.
async fn hung() -> (Arc<Http2>, Calling, impl Sized) {
    let (http2, mut server) = connected(true).await;
    let calling = begun(&http2);
    let called = server.accept().await.unwrap().unwrap();
    (http2, calling, (server, called))
}

#[tokio::test(start_paused = true)]
async fn silent_peer_of_a_call_is_gone() {
    let (http2, calling, _server) = hung().await;
    let begin = Instant::now();
    assert!(matches!(timeout(KEEP_ALIVE * 10, calling).await.unwrap().unwrap(), Err(Broken::Silent)));
    assert!((KEEP_ALIVE..=KEEP_ALIVE * 3).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert!(http2.is_closed() && matches!(send(&http2, message()).await, Err(Broken::Closed(_))));
}

#[tokio::test(start_paused = true)]
async fn peer_that_answers_pings_or_has_no_call_is_there() {
    // It answers pings, and not the call.
    let (http2, server) = connected(true).await;
    let calling = begun(&http2);
    let called = next(server).await;
    sleep(Duration::from_secs(600)).await;
    assert!(!calling.is_finished() && !http2.is_closed());
    drop(called);

    // It reads nothing, and nobody waits for it.
    let (http2, calling, _server) = hung().await;
    calling.abort();
    sleep(Duration::from_secs(600)).await;
    assert!(!http2.is_closed());
}

#[tokio::test(start_paused = true)]
async fn program_that_is_not_pinged_may_be_silent() {
    let (http2, mut server) = connected(false).await;
    let calling = begun(&http2);
    // Nobody reads: a ping would not be answered.
    let _called = server.accept().await.unwrap().unwrap();
    sleep(Duration::from_secs(600)).await;
    assert!(!calling.is_finished());
}
