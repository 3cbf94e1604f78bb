//! A balancer that probes: it checks the gRPC health of each backend every second, and after two failures sends no call
//! there until a check succeeds. It never repeats a call.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::time::{interval, timeout};

/// The interval of the checks, and the limit of one.
const INTERVAL: Duration = Duration::from_secs(1);
/// The failures in a row after which a backend is unhealthy.
const FAILURES: u32 = 2;

/// A running balancer. It ends when this is dropped.
pub struct Balancer {
    /// The address that it balances.
    pub address: SocketAddr,
    backends: Arc<Backends>,
    _runtime: Runtime,
}

struct Backends {
    all: Vec<Backend>,
    next: AtomicUsize,
}

struct Backend {
    address: SocketAddr,
    healthy: AtomicBool,
    connection: Mutex<Option<SendRequest<Bytes>>>,
}

/// A whole message in either direction: its head, its body, and its trailers.
type Message<Head> = (Head, Vec<Bytes>, Option<HeaderMap>);

impl Balancer {
    /// Balances over `backends`, which are healthy at first.
    pub fn to(backends: &[SocketAddr]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let backend =
            |address: &SocketAddr| Backend { address: *address, healthy: true.into(), connection: Mutex::default() };
        let backends = Arc::new(Backends { all: backends.iter().map(backend).collect(), next: AtomicUsize::new(0) });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        for index in 0..backends.all.len() {
            let backends = Arc::clone(&backends);
            runtime.spawn(async move { backends.all[index].probe().await });
        }
        runtime.spawn(serve(listener, Arc::clone(&backends)));
        Self { address, backends, _runtime: runtime }
    }

    /// Whether the balancer sends calls to a backend.
    pub fn is_healthy(&self, backend: SocketAddr) -> bool {
        self.backends.all.iter().any(|other| other.address == backend && other.healthy.load(Ordering::Relaxed))
    }
}

impl Backends {
    /// The next healthy backend, in turn.
    fn pick(&self) -> Option<&Backend> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let turns = (0..self.all.len()).map(|turn| &self.all[(start + turn) % self.all.len()]);
        turns.into_iter().find(|backend| backend.healthy.load(Ordering::Relaxed))
    }
}

impl Backend {
    async fn probe(&self) {
        let (mut ticks, mut failures) = (interval(INTERVAL), 0);
        loop {
            ticks.tick().await;
            let serving = timeout(INTERVAL, self.check()).await.is_ok_and(|serving| serving);
            failures = if serving { 0 } else { failures + 1 };
            if serving || failures >= FAILURES {
                self.healthy.store(serving, Ordering::Relaxed);
            }
        }
    }

    /// Whether `grpc.health.v1.Health/Check` answers SERVING.
    async fn check(&self) -> bool {
        let request = Request::post(format!("http://{}/grpc.health.v1.Health/Check", self.address));
        let request = request.header(header::CONTENT_TYPE, "application/grpc").header("te", "trailers");
        let request = request.body(()).expect("a request");
        // An empty message, and the status SERVING.
        let empty = Bytes::from_static(&[0; 5]);
        let answer = self.send(request, vec![empty]).await;
        answer.is_ok_and(|(_, body, _)| body.concat() == [0, 0, 0, 0, 2, 8, 1])
    }

    async fn send(&self, request: Request<()>, body: Vec<Bytes>) -> Result<Message<Response<()>>, h2::Error> {
        let (response, mut stream) = self.connection().await?.send_request(request, body.is_empty())?;
        send_all(&mut stream, body, None)?;
        let (head, body) = response.await?.into_parts();
        let (body, trailers) = receive(body).await?;
        Ok((Response::from_parts(head, ()), body, trailers))
    }

    /// The open connection, or a new one after GOAWAY or an error.
    async fn connection(&self) -> Result<SendRequest<Bytes>, h2::Error> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.take()
            && let Ok(ready) = open.ready().await
        {
            *connection = Some(ready.clone());
            return Ok(ready);
        }
        let stream = TcpStream::connect(self.address).await.map_err(|_| h2::Reason::CONNECT_ERROR)?;
        let (client, task) = h2::client::handshake(stream).await?;
        tokio::spawn(task);
        *connection = Some(client.clone());
        client.ready().await
    }
}

async fn serve(listener: TcpListener, backends: Arc<Backends>) {
    while let Ok((stream, _)) = listener.accept().await {
        let backends = Arc::clone(&backends);
        tokio::spawn(async move {
            let Ok(mut client) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, respond))) = client.accept().await {
                let backends = Arc::clone(&backends);
                tokio::spawn(async move { drop(forward(&backends, request, respond).await) });
            }
        });
    }
}

/// Sends a call to a healthy backend, and its answer back. A failure becomes UNAVAILABLE.
async fn forward(
    backends: &Backends,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, body) = request.into_parts();
    let (body, _) = receive(body).await?;
    let answer = match backends.pick() {
        Some(backend) => backend.send(Request::from_parts(head, ()), body).await.map_err(|error| error.to_string()),
        None => Err("no backend is healthy".to_owned()),
    };
    let (head, body, trailers) = answer.unwrap_or_else(|error| {
        let failed = Response::builder().header(header::CONTENT_TYPE, "application/grpc");
        let failed = failed.header("grpc-status", "14").header("grpc-message", error.replace(' ', "%20"));
        (failed.body(()).expect("a response"), Vec::new(), None)
    });
    let ended = body.is_empty() && trailers.is_none();
    let mut stream = respond.send_response(head, ended)?;
    if !ended {
        send_all(&mut stream, body, Some(trailers.unwrap_or_default()))?;
    }
    Ok(())
}

/// Sends a body, and ends it with trailers or with its last part.
fn send_all(
    stream: &mut SendStream<Bytes>,
    body: Vec<Bytes>,
    trailers: Option<HeaderMap<HeaderValue>>,
) -> Result<(), h2::Error> {
    let parts = body.len();
    for (index, part) in body.into_iter().enumerate() {
        stream.send_data(part, trailers.is_none() && index + 1 == parts)?;
    }
    trailers.map_or(Ok(()), |trailers| stream.send_trailers(trailers))
}

async fn receive(mut stream: RecvStream) -> Result<(Vec<Bytes>, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part?;
        stream.flow_control().release_capacity(part.len())?;
        body.push(part);
    }
    Ok((body, stream.trailers().await?))
}
