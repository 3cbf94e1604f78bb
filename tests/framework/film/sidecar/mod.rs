//! The sidecar: a process beside an app, which makes the app a service of the mesh.
//!
//! - Outbound listens before the app starts; inbound refuses with `STARTING` until the app is healthy. The exit code is
//!   that of the app, and an app that ends takes the sidecar with it ([`life`]).
//! - An app that is not there, hangs, breaks off or speaks another protocol is told apart ([`apps`]).
//! - What a caller or an app writes of identities reaches nobody; an ambiguous request of HTTP reaches no app
//!   ([`http`]).
//! - Killed apps, sidecars, catalogs and agents fail no idempotent call, and a rolling restart fails no call
//!   ([`kills`]).
//! - The suites of catalog and artwork pass behind sidecars: `tests/blackbox/topologies.rs`.

mod apps; // apps that fail, each in its way
mod http; // plain HTTP, and raw bytes
mod kills; // somebody dies under load
mod life; // start, end, and exit codes

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use contracts::catalog::v1::GetTitleRequest;
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use harness::{LIMIT, Process, command};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_types::StatusExt as _;

/// The command of a catalog behind a sidecar, with its database in the folder of the sidecar.
pub(super) fn catalog() -> String {
    format!("exec {} --listen $SIDECAR_APP", command("catalog").get_program().display())
}

/// A sidecar of a service beside an app that listens at this address.
fn beside(app: SocketAddr, service: &str, more: &[(&str, &str)]) -> Process {
    let app = app.to_string();
    Process::start_sidecar(service, &[&[("MESH__SIDECAR__APP", &*app)], more].concat(), None)
}

/// An app of plain TCP: `answer` gets what a client has sent at once, and returns what it receives before the
/// connection is closed. It ends with the test process.
fn app(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (seen, answer) = (Arc::<Mutex<Vec<Vec<u8>>>>::default(), Arc::new(answer));
    let kept = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (answer, kept) = (Arc::clone(&answer), Arc::clone(&kept));
            std::thread::spawn(move || serve(stream, &*answer, &kept));
        }
    });
    (address, seen)
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&[u8]) -> Vec<u8>, kept: &Mutex<Vec<Vec<u8>>>) {
    let mut bytes = vec![0; 64 * 1024];
    let Ok(read @ 1..) = stream.read(&mut bytes) else { return };
    bytes.truncate(read);
    kept.lock().expect("no test panicked with it").push(bytes.clone());
    let _ = stream.write_all(&answer(&bytes));
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut bytes);
}

/// Sends bytes, and returns what comes until the server closes the connection.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream.write_all(bytes).expect("it reads");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The code and the reason of a read at a catalog that fails.
fn failure(address: SocketAddr) -> (Code, String) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let status = runtime.block_on(async {
        let to = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let request = GetTitleRequest { title_id: harness::uuid() };
        CatalogServiceClient::new(to.connect_lazy()).get_title(request).await.expect_err("it fails")
    });
    (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}
