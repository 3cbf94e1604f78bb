//! Deployments by the plan of `mesh release`, and against it, while calls arrive: real processes of several builds.
//!
//! The builds are copies of one program, whose file name says which (crates/mesh/examples/builds.rs).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::{Consul, Process, command, eventually, output};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Calls a second.
const RATE: u32 = 200;

/// A system that runs, and the builds that it is made of.
struct System {
    consul: Consul,
    builds: TempDir,
    running: Vec<(String, Process)>,
}

impl System {
    /// Starts a build of each service, and a front. Without Consul it prints a note and returns `None`.
    fn start(builds: &[&str]) -> Option<Self> {
        let consul = Consul::start()?;
        let mut system = Self { consul, builds: tempfile::tempdir().expect("a folder"), running: Vec::new() };
        for build in builds.iter().chain(&["front"]) {
            system.add(build);
        }
        Some(system)
    }

    fn program(&self, build: &str) -> PathBuf {
        program(&self.builds, build)
    }

    /// Starts an instance, and waits until Consul knows it.
    fn add(&mut self, build: &str) {
        let service = build.split('-').next().expect("a service");
        let mut program = std::process::Command::new(self.program(build));
        program.env("MESH__DRAIN_DELAY", "0s");
        let folder = tempfile::tempdir().expect("a folder");
        let process = Process::spawn(program, folder, service, &[("MESH__REGISTRY", &self.consul.registry())]);
        self.running.push((build.to_owned(), process));
        let count = self.running.iter().filter(|(build, _)| build.split('-').next() == Some(service)).count();
        self.consul.passing(service, count);
    }

    /// Ends an instance of a build.
    fn end(&mut self, build: &str) {
        let at = self.running.iter().position(|(running, _)| running == build).expect("it runs");
        let (_, mut process) = self.running.remove(at);
        process.signal("TERM");
        process.ended();
    }

    /// Replaces the builds of a service.
    fn deploy(&mut self, build: &str) {
        let service = build.split('-').next().expect("a service");
        let old = self.running.iter().map(|(old, _)| old.clone());
        let old: Vec<_> = old.filter(|old| old.split('-').next() == Some(service)).collect();
        self.add(build);
        old.iter().for_each(|old| self.end(old));
    }

    /// The exit code of `mesh release plan`, and its lines.
    fn plan(&self, builds: &[&str]) -> (Option<i32>, Vec<String>) {
        let consul = self.consul.address.to_string();
        let mut arguments = vec!["--consul".to_owned(), consul, "release".to_owned(), "plan".to_owned()];
        for build in builds {
            arguments.extend(["--deploy".to_owned(), self.program(build).display().to_string()]);
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let planned = output("mesh", &arguments, |_| ());
        let lines = String::from_utf8(planned.stdout).expect("UTF-8");
        (planned.status.code(), lines.lines().map(str::to_owned).collect())
    }

    /// Deploys in the order of a plan, and returns the services.
    fn follow(&mut self, builds: &[&str]) -> Vec<String> {
        let (code, lines) = self.plan(builds);
        assert_eq!(code, Some(0), "{lines:#?}");
        let steps =
            lines.iter().filter_map(|line| line.strip_prefix("step ")?.split_whitespace().nth(1).map(str::to_owned));
        let steps: Vec<_> = steps.collect();
        assert_eq!(steps.len(), builds.len(), "{lines:#?}");
        for service in &steps {
            let build = builds.iter().find(|build| build.split('-').next() == Some(service)).expect("a build");
            self.deploy(build);
        }
        steps
    }

    fn load(&self) -> Load {
        let (_, front) = self.running.iter().find(|(build, _)| build == "front").expect("a front");
        Load::begin(front.address)
    }
}

/// The program of a build.
fn program(builds: &TempDir, build: &str) -> PathBuf {
    let path = builds.path().join(build);
    if !path.exists() {
        let copied = path.with_extension("copied");
        std::fs::copy(command("builds").get_program(), &copied).expect("a copy");
        // Another program has another digest. The loader ignores what is behind the end.
        let mut bytes = std::fs::OpenOptions::new().append(true).open(&copied).expect("a copy");
        std::io::Write::write_all(&mut bytes, build.as_bytes()).expect("a file");
        drop(bytes);
        std::fs::rename(copied, &path).expect("a file");
    }
    path
}

/// Calls of the front, 200 a second.
struct Load {
    runtime: tokio::runtime::Runtime,
    over: CancellationToken,
    /// The calls that ended, and those that failed.
    ended: Arc<Mutex<(usize, Vec<String>)>>,
}

impl Load {
    fn begin(front: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (over, ended) = (CancellationToken::new(), Arc::new(Mutex::new((0, Vec::new()))));
        let (stop, counted) = (over.clone(), Arc::clone(&ended));
        let channel = Endpoint::from_shared(format!("http://{front}")).expect("an address");
        let channel = runtime.block_on(channel.connect()).expect("a connection");
        runtime.spawn(async move {
            let (mut ticks, mut calls) = (tokio::time::interval(Duration::from_secs(1) / RATE), JoinSet::new());
            while !stop.is_cancelled() {
                ticks.tick().await;
                let (channel, counted) = (channel.clone(), Arc::clone(&counted));
                calls.spawn(async move {
                    let failed = call(channel).await.err();
                    let mut ended = counted.lock().expect("no test panicked with it");
                    ended.0 += 1;
                    ended.1.extend(failed.map(|status| format!("{:?}: {}", status.code(), status.message())));
                });
            }
            calls.join_all().await;
        });
        let load = Self { runtime, over, ended };
        load.wait(RATE as usize / 4);
        load
    }

    /// Waits for so many further calls.
    fn wait(&self, more: usize) {
        let count = || self.ended.lock().expect("no test panicked with it").0;
        let until = count() + more;
        eventually("calls end", || (count() >= until).then_some(()));
    }

    /// The failures, behind some calls more.
    fn end(self) -> Vec<String> {
        self.wait(RATE as usize / 4);
        self.over.cancel();
        self.runtime.shutdown_timeout(Duration::from_secs(2));
        let (calls, failed) = std::mem::take(&mut *self.ended.lock().expect("no test panicked with it"));
        println!("{} of {calls} calls failed", failed.len());
        failed
    }
}

async fn call(mut channel: Channel) -> Result<(), Status> {
    std::future::poll_fn(|cx| tower::Service::poll_ready(&mut channel, cx))
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let request =
        http::Request::post("/front.v1.Front/Ask").header("content-type", "application/grpc").header("te", "trailers");
    let request = request.body(Body::empty()).expect("a request");
    let answer =
        tower::Service::call(&mut channel, request).await.map_err(|error| Status::unavailable(error.to_string()))?;
    match Status::from_header_map(answer.headers()) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn release_in_the_order_of_its_plan_fails_no_call_and_neither_does_its_way_back() {
    let Some(mut system) = System::start(&["depot-Get", "shop-Get"]) else { return };
    let load = system.load();
    assert_eq!(system.follow(&["shop-Sum", "depot-Get-Sum"]), ["depot", "shop"]);
    load.wait(RATE as usize / 2);
    assert_eq!(system.follow(&["depot-Get", "shop-Get"]), ["shop", "depot"]);
    // The same builds run: nothing is left to do.
    let (code, lines) = system.plan(&["depot-Get", "shop-Get"]);
    assert_eq!((code, lines.iter().filter(|line| line.contains("runs already")).count()), (Some(0), 2), "{lines:#?}");
    assert_eq!(load.end(), Vec::<String>::new());
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn release_against_its_plan_fails_as_the_plan_says() {
    let Some(mut system) = System::start(&["depot-Get", "shop-Get"]) else { return };
    let load = system.load();
    let (code, lines) = system.plan(&["shop-Sum", "depot-Get-Sum"]);
    let reason = lines.iter().find(|line| line.starts_with("step 2  shop")).expect("a reason");
    assert!(code == Some(0) && reason.contains("after depot: calls Depot/Sum, which depot"), "{lines:#?}");
    system.deploy("shop-Sum");
    load.wait(RATE as usize / 2);
    let failed = load.end();
    assert!(
        failed.len() > 50 && failed.iter().all(|failed| failed.contains("shop.v1.Shop/Ask")),
        "{:?}",
        failed.first()
    );
    assert!(
        system
            .running
            .iter()
            .any(|(build, shop)| build == "shop-Sum" && shop.log().contains("no such method in this build"))
    );
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn release_that_must_go_together_goes_apart_with_one_release_more() {
    let Some(mut system) = System::start(&["depot-Get", "shop-Get"]) else { return };
    let (code, lines) = system.plan(&["depot-Sum", "shop-Sum"]);
    assert_eq!((code, lines[1].split("  ").next()), (Some(4), Some("TOGETHER")), "{lines:#?}");
    let way = lines.iter().find(|line| line.contains("to part them: ")).expect("a way");
    assert!(
        way.contains("keep Depot/Get in depot")
            && way.contains("; deploy depot, shop; remove Depot/Get in the next depot"),
        "{way}"
    );
    let (code, lines) = system.plan(&["depot-Sum"]);
    assert_eq!((code, &*lines[1]), (Some(3), "BLOCKED"), "{lines:#?}");

    let load = system.load();
    system.follow(&["depot-Get-Sum", "shop-Sum"]);
    system.follow(&["depot-Sum"]);
    load.wait(RATE as usize / 2);
    assert_eq!(load.end(), Vec::<String>::new());

    // What was blocked breaks what it names.
    let load = system.load();
    system.deploy("depot-Get");
    load.wait(RATE as usize / 2);
    assert!(load.end().len() > 50);
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn release_that_is_half_done_has_two_builds_and_goes_on() {
    let Some(mut system) = System::start(&["depot-Get", "depot-Get", "shop-Get"]) else { return };
    let load = system.load();
    system.add("depot-Get-Sum");
    system.end("depot-Get");
    let (code, lines) = system.plan(&["shop-Sum", "depot-Get-Sum"]);
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(lines[0].matches("depot 0").count(), 2, "{lines:#?}");
    let steps: Vec<_> = lines.iter().filter(|line| line.starts_with("step ")).collect();
    assert!(steps[0].contains("  depot ") && steps[1].contains("after depot: calls Depot/Sum"), "{lines:#?}");
    // One of two instances lacks the method.
    let (blocked, lines) = system.plan(&["shop-Sum"]);
    assert_eq!(blocked, Some(3), "{lines:#?}");
    system.end("depot-Get");
    let (code, lines) = system.plan(&["shop-Sum"]);
    assert_eq!(code, Some(0), "{lines:#?}");
    system.deploy("shop-Sum");
    assert_eq!(load.end(), Vec::<String>::new());
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn release_of_an_optional_call_and_a_first_one_go_alone() {
    let Some(mut system) = System::start(&["depot-Get"]) else { return };
    let (code, lines) = system.plan(&["shop-Get-Sum-optional"]);
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(lines[1].contains("(new)  alone"), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.starts_with("degraded: shop") && line.contains("calls Depot/Sum, which depot")),
        "{lines:#?}"
    );
    system.add("shop-Get-Sum-optional");
    let load = system.load();
    // The soft order is the better one, and nothing fails before.
    system.follow(&["depot-Get-Sum", "shop-Get-Sum-optional"]);
    assert_eq!(load.end(), Vec::<String>::new());
}

/// The configuration of a build whose peer depot is at an address.
fn at(depot: SocketAddr) -> [(&'static str, String); 2] {
    [("MESH__REGISTRY", "static".to_owned()), ("MESH__STATIC__DEPOT", depot.to_string())]
}

/// Programs of builds, without a mesh that runs them.
struct Programs(TempDir);

impl Programs {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// Starts a build with a gate that does this.
    fn start(&self, build: &str, gate: &str, environment: &[(&'static str, String)]) -> Process {
        let service = build.split('-').next().expect("a service");
        let mut program = std::process::Command::new(program(&self.0, build));
        program.env("MESH__DRAIN_DELAY", "0s").env("MESH__RELEASE__GATE", gate);
        program.env("MESH__RELEASE__GATE_LIMIT", "3s");
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, &**value)).collect();
        Process::spawn(program, tempfile::tempdir().expect("a folder"), service, &environment)
    }
}

const UNMET: &str = r#"mesh_release_unmet{peer="depot",method="depot.v1.Depot/Sum"} 1"#;

/// Waits until `/readyz` has these words.
fn readiness(process: &Process, words: &str) {
    let mut last = String::new();
    eventually(&format!("/readyz says {words}"), || {
        last = process.http("/readyz");
        last.contains(words).then_some(())
    });
}

/// Checks that the process was held until this could be asked.
fn has_waited(process: &Process, what: &str) {
    let (log, words) = (process.log(), format!("release.gate waits for an answer: {what}"));
    assert!(log.lines().any(|line| line.contains("release.gate holds this process") && line.contains(&words)), "{log}");
}

/// Whether the process is ready.
fn is_ready(process: &Process) -> bool {
    process.http("/readyz").starts_with("HTTP/1.1 200")
}

#[test]
fn gate_holds_a_build_until_its_peer_has_what_it_calls() {
    let programs = Programs::new();
    let mut depot = programs.start("depot-Get", "hold", &[("MESH__REGISTRY", "static".to_owned())]);
    readiness(&depot, "depot: ready");
    let address = depot.address;
    // It is proven, so it holds also when the limit has passed.
    let [registry, depot_at] = at(address);
    let environment = [registry, depot_at, ("MESH__RELEASE__GATE_LIMIT", "0s".to_owned())];
    let shop = programs.start("shop-Sum", "hold", &environment);
    readiness(&shop, "held: shop 0");
    let why = shop.http("/readyz");
    assert!(why.starts_with("HTTP/1.1 503") && why.contains("calls Depot/Sum, which depot 0"), "{why}");
    let asked = serde_json::json!({"service": "shop.v1.Shop"});
    let health = shop.grpcurl().call("grpc.health.v1.Health/Check", &asked).text();
    assert!(health.contains("NOT_SERVING"), "{health}");
    assert!(shop.http("/metrics").contains(UNMET));

    depot.signal("TERM");
    depot.ended();
    let listen = [("MESH__REGISTRY", "static".to_owned()), ("MESH__LISTEN", address.to_string())];
    let _depot = programs.start("depot-Get-Sum", "hold", &listen);
    readiness(&shop, "shop: ready");
    assert!(!shop.http("/metrics").contains("mesh_release_unmet{"));
    assert!(shop.log().contains("release.gate passed"), "{}", shop.log());
}

#[test]
fn gate_that_warns_holds_nothing_and_says_what_does_not_fit() {
    let programs = Programs::new();
    let depot = programs.start("depot-Get", "warn", &[("MESH__REGISTRY", "static".to_owned())]);
    let shop = programs.start("shop-Sum", "warn", &at(depot.address));
    assert!(is_ready(&shop));
    eventually("the metric is there", || shop.http("/metrics").contains(UNMET).then_some(()));
    let log = shop.log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("does not fit what runs")).collect();
    assert!(said.len() == 1 && said[0].contains("calls Depot/Sum, which depot"), "{log}");
    assert!(is_ready(&shop));
    // What can do without fits.
    let shop = programs.start("shop-Get-Sum-optional", "hold", &at(depot.address));
    readiness(&shop, "shop: ready");
    let shop = programs.start("shop-Sum", "off", &at(depot.address));
    assert!(is_ready(&shop) && !shop.log().contains("does not fit"), "{}", shop.log());
}

#[test]
fn gate_passes_after_its_limit_if_nothing_can_be_asked() {
    let programs = Programs::new();
    let nowhere = "127.0.0.1:1".parse().expect("an address");
    let shop = programs.start("shop-Sum", "hold", &at(nowhere));
    readiness(&shop, "shop: ready");
    has_waited(&shop, "depot: 127.0.0.1:1 fails: Connection refused");
    assert!(shop.log().contains("has not compared this build with all that runs"), "{}", shop.log());
    // The agent is gone, too.
    let shop = programs.start("shop-Sum", "hold", &[("MESH__REGISTRY", "consul://127.0.0.1:1".to_owned())]);
    readiness(&shop, "shop: ready");
    has_waited(&shop, "");
    // Without other processes nothing is asked.
    let shop = programs.start("shop-Sum", "hold", &[("MESH__REGISTRY", "local".to_owned())]);
    assert!(is_ready(&shop));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn gate_registers_nothing_that_it_holds() {
    let Some(mut system) = System::start(&["depot-Get", "shop-Get"]) else { return };
    let registry = [("MESH__REGISTRY", system.consul.registry())];
    let gated = |build: &str| Programs(tempfile::tempdir().expect("a folder")).start(build, "hold", &registry);
    // Each needs the other one.
    let (mut depot, shop) = (gated("depot-Sum"), gated("shop-Sum"));
    readiness(&shop, "calls Depot/Sum, which depot 0");
    readiness(&depot, "does not serve Depot/Get, which shop 0");
    assert_eq!(["depot", "shop"].map(|service| system.consul.instances(service).len()), [1, 1]);
    // A drain ends one that is held.
    depot.signal("TERM");
    assert!(depot.ended().0.success());

    system.deploy("depot-Get-Sum");
    readiness(&shop, "shop: ready");
    system.consul.passing("shop", 2);
    // What serves already, and what it replaces, are not held.
    system.deploy("depot-Get");
    let again = gated("shop-Sum");
    readiness(&again, "shop: ready");
    assert!(again.log().contains("holds no build that serves already"), "{}", again.log());
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn gate_holds_no_rollback() {
    let Some(system) = System::start(&["depot-Get"]) else { return };
    let registry = [("MESH__REGISTRY", system.consul.registry())];
    let start = || Programs(tempfile::tempdir().expect("a folder")).start("shop-Sum", "hold", &registry);
    let held = start();
    readiness(&held, "held: shop");
    drop(held);
    let later = serde_json::json!({
        "Name": "shop", "ID": "later", "Address": "127.0.0.1", "Port": 1, "Tags": ["grpc"],
        "Meta": {"version": "99.0.0", "digest": "later"}, "Check": {"TTL": "1h", "Status": "critical"},
    });
    system.consul.put("/v1/agent/service/register", &later);
    let back = start();
    readiness(&back, "shop: ready");
    assert!(back.log().contains("holds no rollback"), "{}", back.log());
    assert!(back.http("/metrics").contains(UNMET), "it says what does not fit");
}
