//! Autobahn's cases of the protocol, against sockets that send each message back.

use std::convert::Infallible;
use std::path::Path;
use std::process::Command;

use hyper::body::Incoming;
use hyper::service::service_fn;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// The largest message of a case has 16 MiB.
const MOST: usize = 16 << 20;
/// Results of cases that keep the protocol.
const KEPT: [&str; 3] = ["OK", "INFORMATIONAL", "NON-STRICT"];
/// The cases that are not strict: text that is not UTF-8 is refused when its frame is whole, not at its first bad byte.
const LATE: [&str; 2] = ["6.4.3", "6.4.4"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Autobahn: .ci/foreign"]
async fn sockets_pass_the_cases_of_autobahn() {
    let Ok(program) = std::env::var("AUTOBAHN") else {
        // As the harness skips a test whose program is missing.
        assert_ne!(std::env::var("CI").as_deref(), Ok("foreign"), "AUTOBAHN is not set: run .ci/autobahn");
        println!("SKIPPED: AUTOBAHN is not set; run .ci/autobahn");
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let spec = json!({
        "servers": [{"url": url}], "outdir": folder.path(), "cases": ["*"],
        // Compression is not offered.
        "exclude-cases": ["12.*", "13.*"], "exclude-agent-cases": {},
    });
    let file = folder.path().join("spec.json");
    std::fs::write(&file, spec.to_string()).unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream));
        }
    });
    let mut command = Command::new(program);
    command.args(["--mode", "fuzzingclient", "--spec"]).arg(file);
    let status = tokio::task::spawn_blocking(move || command.status()).await.unwrap();
    assert!(status.unwrap().success());
    serving.abort();
    report(folder.path());
}

/// Prints how the cases ended, and fails at those that broke the protocol.
fn report(folder: &Path) {
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let cases = index.as_object().unwrap().values().next().unwrap().as_object().unwrap();
    let mut broken = Vec::new();
    for (case, result) in cases {
        let kept = |key: &str| KEPT.contains(&result[key].as_str().unwrap());
        let is_late = result["behavior"] == "NON-STRICT";
        if !kept("behavior") || !kept("behaviorClose") || is_late != LATE.contains(&case.as_str()) {
            broken.push(format!("{case}: {} {}", result["behavior"], result["behaviorClose"]));
        }
    }
    println!("{} cases, {} failed", cases.len(), broken.len());
    assert!(cases.len() > 300 && broken.is_empty(), "{broken:#?}");
}

async fn connection(stream: TcpStream) {
    let answer = service_fn(|request: http::Request<Incoming>| async move {
        let (mut head, _) = request.into_parts();
        let accepted = accept(&mut head, &mut HeaderMap::new());
        Ok::<_, Infallible>(match accepted {
            Ok((response, upgrade)) => {
                tokio::spawn(echo(upgrade));
                response
            }
            Err(refusal) => panic!("{}", refusal.status.message()),
        })
    });
    let http = hyper::server::conn::http1::Builder::new();
    let _ = http.serve_connection(TokioIo::new(stream), answer).with_upgrades().await;
}

/// Sends each message back.
async fn echo(upgrade: OnUpgrade) {
    let mut socket = Socket::new(TokioIo::new(upgrade.await.unwrap()), MOST).await;
    let end = loop {
        match socket.receive().await {
            Ok(Some(message)) => {
                if let Err(end) = socket.write(message).await {
                    break end;
                }
            }
            Ok(None) => {}
            Err(end) => break end,
        }
    };
    socket.end(&end).await;
}
