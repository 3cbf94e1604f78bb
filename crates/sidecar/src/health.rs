//! The health of the app: asked as `sidecar.health` says, and that of the service from then on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use mesh_proto::grpc::health::v1::HealthCheckRequest;
use mesh_proto::grpc::health::v1::health_check_response::ServingStatus;
use mesh_proto::grpc::health::v1::health_client::HealthClient;
use mesh_rpc::client::Direct;
use mesh_rpc::server::{Check, Readiness};
use mesh_runtime::settings::Shown;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;
use tonic::body::Body;

/// How the app is asked for its health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// By `grpc.health.v1.Health/Check` of the empty name.
    Grpc,
    /// By a connection.
    Tcp,
    /// By a GET of a path that answers with a code from 200 to 299.
    Path(String),
}

impl Asked {
    pub(crate) fn of(text: &str) -> Option<Self> {
        match text {
            "grpc" => Some(Self::Grpc),
            "tcp" => Some(Self::Tcp),
            path => (path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok())
                .then(|| Self::Path(path.to_owned())),
        }
    }
}

impl Shown for Asked {
    fn shown(&self) -> String {
        match self {
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Path(path) => path,
        }
        .to_owned()
    }
}

/// Asks an app for its health.
#[derive(Clone)]
pub(crate) struct Asks {
    asked: Asked,
    app: SocketAddr,
    direct: Arc<Direct>,
}

impl Asks {
    /// Asks over connections of its own: calls may use up the others.
    pub(crate) fn new(asked: Asked, app: SocketAddr) -> Self {
        Self { asked, app, direct: Arc::new(Direct::to(app)) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.app
    }

    /// The check of the service.
    pub(crate) fn check(self) -> Check {
        Box::new(move |limit| {
            let asks = self.clone();
            Box::pin(async move { asks.ask(limit).await })
        })
    }

    /// Whether the app can work. It has `limit` to answer.
    pub(crate) async fn ask(&self, limit: Duration) -> Readiness {
        let asked = async {
            match &self.asked {
                Asked::Grpc => self.by_grpc().await,
                Asked::Tcp => connect(self.app).await.map(drop),
                Asked::Path(path) => self.by_path(path).await,
            }
        };
        let late = || Err(format!("the app at {} does not answer within {limit:?}", self.app));
        match timeout(limit, asked).await.unwrap_or_else(|_| late()) {
            Ok(()) => Readiness::Ready,
            Err(why) => Readiness::NotReady(why),
        }
    }

    async fn by_grpc(&self) -> Result<(), String> {
        let direct = Arc::clone(&self.direct);
        let mut client = HealthClient::new(tower::service_fn(move |request: Request<Body>| {
            let direct = Arc::clone(&direct);
            async move { direct.send(request).await }
        }));
        match client.check(HealthCheckRequest::default()).await {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
            Ok(answer) => Err(format!("the app says {}", answer.get_ref().status().as_str_name())),
            Err(status) if status.code() == Code::Unimplemented => {
                Err("the app does not serve grpc.health.v1.Health; add it, or set sidecar.health to tcp".to_owned())
            }
            Err(status) => Err(format!("the app at {} does not answer: {}", self.app, cause(&status))),
        }
    }

    async fn by_path(&self, path: &str) -> Result<(), String> {
        let stream = connect(self.app).await?;
        let failed = |error: hyper::Error| format!("the app at {} does not answer {path}: {error}", self.app);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let answering = async {
            let request = Request::get(path).header(http::header::HOST, self.app.to_string());
            let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
            let response = sender.send_request(request).await.map_err(failed)?;
            let code = response.status();
            if code.is_success() { Ok(()) } else { Err(format!("the app answers {path} with {code}")) }
        };
        // The connection answers while it is polled.
        tokio::select! {
            answer = answering => answer,
            Err(error) = connection => Err(failed(error)),
        }
    }
}

async fn connect(app: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(app).await.map_err(|error| format!("no connection to the app at {app}: {error}"))
}

/// The innermost cause, which names the network's error.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// What is found of an app that answers each connection with `answer`.
    async fn found(asked: Asked, answer: &'static str) -> Readiness {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let found = Asks::new(asked, app).ask(Duration::from_secs(5)).await;
        serving.abort();
        found
    }

    #[tokio::test]
    async fn health_of_an_app_is_what_it_answers() {
        let path = || Asked::Path("/healthz".to_owned());
        let ok = "HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(found(path(), ok).await, Readiness::Ready);
        assert_eq!(found(Asked::Tcp, "").await, Readiness::Ready);
        for (asked, answer, why) in [
            (path(), "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "503"),
            (path(), "garbage\r\n\r\n", "does not answer /healthz"),
            (path(), "", "does not answer /healthz"),
            (Asked::Grpc, ok, "does not answer"),
            (Asked::Grpc, "", "does not answer"),
        ] {
            let Readiness::NotReady(found) = found(asked, answer).await else { panic!("ready after {answer:?}") };
            assert!(found.contains(why), "{found}");
        }
        let unused = SocketAddr::from(([127, 0, 0, 1], 1));
        let away = Asks::new(Asked::Tcp, unused).ask(Duration::from_secs(5)).await;
        assert!(matches!(away, Readiness::NotReady(why) if why.contains("no connection to the app")));
    }

    #[test]
    fn health_is_asked_by_a_protocol_or_a_path() {
        assert_eq!(Asked::of("grpc"), Some(Asked::Grpc));
        assert_eq!(Asked::of("/healthz?deep=1"), Some(Asked::Path("/healthz?deep=1".to_owned())));
        assert!(["", "http", "healthz", "/a b"].iter().all(|text| Asked::of(text).is_none()));
    }
}
