//! Measures new connections: to the listener of mesh, and to one of tokio-rustls with the same certificates. A
//! connection counts once the server has let the client in, and has begun HTTP/2: in TLS 1.3, the handshake of a client
//! ends before the server has seen its certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::plan::Plan;
use super::site::{BEGIN, CLIENT, SERVICE, SETTINGS, Side, Site};
use crate::report::{Report, Samples};
use crate::server::{Server, cpu_time};

/// The handshakes at the same time.
const CLIENTS: usize = 16;

/// The results of a side: one number a turn.
#[derive(Default)]
struct Measured {
    rate: Samples,
    /// CPU time of the server for a handshake, in microseconds. Empty without /proc.
    server: Samples,
}

pub(super) async fn measure(site: &Site, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let config = Arc::new(site.source(CLIENT)?.current().client(SERVICE));
    let [own, bare] = [site.server(Side::Mesh).await?, site.server(Side::Rustls).await?];
    let (mut ours, mut theirs) = (Measured::default(), Measured::default());
    for server in [&own, &bare] {
        turn(server, &config, plan.handshakes, &mut Measured::default()).await?;
    }
    for _ in 0..plan.rounds {
        turn(&own, &config, plan.handshakes, &mut ours).await?;
        turn(&bare, &config, plan.handshakes, &mut theirs).await?;
    }
    let rows =
        [("handshakes/s", &ours.rate, &theirs.rate), ("µs of CPU a handshake, server", &ours.server, &theirs.server)];
    for (what, ours, theirs) in rows {
        let what = format!("{what}, at the same time: {CLIENTS}");
        match ours.len() {
            0 => report.missing(&what, "needs /proc"),
            _ => report.compare(&what, ours, "tokio-rustls", theirs, ""),
        }
    }
    Ok(())
}

/// Makes so many handshakes.
async fn turn(
    server: &Server,
    config: &Arc<ClientConfig>,
    handshakes: usize,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let (address, begun, mut connecting) = (server.address()?, Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let (before, begin) = (cpu_time(server.id()), Instant::now());
    for _ in 0..CLIENTS {
        let (begun, connector) = (Arc::clone(&begun), TlsConnector::from(Arc::clone(config)));
        connecting.spawn(async move {
            while begun.fetch_add(1, Ordering::Relaxed) < handshakes {
                connect(address, &connector).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(connected) = connecting.join_next().await {
        connected??;
    }
    let (took, after) = (begin.elapsed(), cpu_time(server.id()));
    measured.rate.push(handshakes as f64 / took.as_secs_f64());
    if let (Some(before), Some(after)) = (before, after) {
        measured.server.push((after - before).as_secs_f64() * 1e6 / handshakes as f64);
    }
    Ok(())
}

async fn connect(address: SocketAddr, connector: &TlsConnector) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = connector.connect(ServerName::try_from(SERVICE)?, stream).await?;
    stream.write_all(BEGIN).await?;
    stream.flush().await?;
    stream.read_exact(&mut [0; SETTINGS.len()]).await?;
    Ok(())
}
