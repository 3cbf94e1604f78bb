//! Every service of this project in a process of its own, and an agent of Consul through which they find each other.
//!
//! Each child leads a process group of its own, so that Ctrl-C reaches this process and nobody else: children that were
//! all told at once would find their agent gone before they could say goodbye to it. So services are asked to end
//! first, and the agent when they have.

mod child;
mod consul;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use consul_api_client::Client;
use consul_api_client::health::Query;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::shown;
use child::{Child, Event};

/// How long the agent, and then the services, may take until they are ready: databases are migrated meanwhile.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two questions whether they are.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// An agent without a disk has nothing to do before it ends.
const AGENT_ENDS_WITHIN: Duration = Duration::from_secs(3);

/// One Ctrl-C may arrive twice, from the terminal and from whatever this was started by.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

/// Who has something to say when it is not a child.
const OURSELVES: &str = "up";
const CONSUL: &str = "consul";
/// Where everybody looks for an agent who is not told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 8500;

/// Starts all, says when they are ready, and stays until it is asked to end.
pub(crate) async fn up(consul_port: u16) -> anyhow::Result<ExitCode> {
    let programs = programs(Path::new("services"))?;
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let mut up = Up::new(&programs);

    let started = tokio::select! {
        started = up.start(&programs, consul_port) => started,
        () = signals.next() => Ok(()),
    };
    if started.is_ok() && !signals.asked {
        tokio::select! {
            () = up.go_on() => up.say(OURSELVES, "nothing runs any more"),
            () = signals.next() => {}
        }
    }
    tokio::select! {
        () = up.stop() => {}
        // What has not ended yet is killed when it is dropped.
        () = signals.again() => {}
    }
    let asked = signals.asked;
    started.map(|()| if asked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The program of each service: one a folder, the monolith aside, beside this program.
fn programs(services: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let folders = std::fs::read_dir(services).context("there is no folder `services` here: run scripts/up")?;
    let beside = std::env::current_exe().context("cannot find this program")?;
    let mut programs = BTreeMap::new();
    for folder in folders {
        let folder = folder.context("cannot read the folder `services`")?;
        let name = folder.file_name().to_string_lossy().into_owned();
        if !folder.path().is_dir() || name == "monolith" {
            continue;
        }
        let program = beside.with_file_name(&name).with_extension(std::env::consts::EXE_EXTENSION);
        ensure!(program.is_file(), "`{name}` is not built: run scripts/up, or `cargo build --workspace --bins`");
        programs.insert(name, program);
    }
    ensure!(!programs.is_empty(), "there are no services in the folder `services`");
    Ok(programs)
}

/// What runs, and what it says.
struct Up {
    services: Vec<Child>,
    agent: Option<Child>,
    said: mpsc::UnboundedReceiver<Event>,
    sender: mpsc::UnboundedSender<Event>,
    /// How wide the names are in front of the lines.
    width: usize,
    stopping: bool,
}

impl Up {
    fn new(programs: &BTreeMap<String, PathBuf>) -> Self {
        let (sender, said) = mpsc::unbounded_channel();
        let width = programs.keys().map(String::len).chain([CONSUL.len()]).max().unwrap_or_default();
        Self { services: Vec::new(), agent: None, said, sender, width, stopping: false }
    }

    /// Until everybody can be found, or one of them has ended instead.
    async fn start(&mut self, programs: &BTreeMap<String, PathBuf>, port: u16) -> anyhow::Result<()> {
        let begun = Instant::now();
        let agent = consul::Agent::prepare(port)?;
        let client = Client::new(format!("http://{}", agent.address))?;
        self.agent = Some(Child::spawn(CONSUL, agent.command(), &self.sender)?);
        // Somebody else's may answer there, while ours ends because of it.
        let ours = async || {
            let node = client.agent().info().await.ok()?.node_name;
            client.status().leader().await.ok().flatten().filter(|_| node == agent.node)
        };
        self.until(CONSUL, ours).await?;

        for (name, program) in programs {
            let mut command = std::process::Command::new(program);
            command.env("MESH__REGISTRY", format!("consul://{}", agent.address));
            // What mesh.toml says of one process would be said of all of them.
            command.env("MESH__ADVERTISE", "127.0.0.1");
            if std::env::var_os("MESH__LOG__FORMAT").is_none() {
                command.env("MESH__LOG__FORMAT", "pretty");
            }
            self.services.push(Child::spawn(name, command, &self.sender)?);
        }
        let mut places = Vec::new();
        for name in programs.keys() {
            let query = Query::service(name.as_str()).passing();
            let passing = async || client.health().instances(&query, None).await.ok()?.value.into_iter().next();
            let instance = self.until(name, passing).await?;
            places.push((name, format!("{}:{}", instance.address(), instance.service.port)));
        }
        let took = begun.elapsed().as_secs_f64();
        self.say(OURSELVES, &format!("all services are passing in Consul, after {took:.1} s:"));
        for (name, place) in places {
            self.say(OURSELVES, &format!("  {name:width$}  {place}", width = self.width));
        }
        self.say(OURSELVES, &format!("  {CONSUL:width$}  {}", agent.address, width = self.width));
        if port != DEFAULT_PORT {
            self.say(
                OURSELVES,
                &format!("for others to find it: MESH__REGISTRY=consul://{0}, mesh --consul {0}", agent.address),
            );
        }
        self.say(OURSELVES, "in another terminal: target/debug/mesh services. Ctrl-C ends all of it.");
        Ok(())
    }

    /// Asks until there is an answer, and lets the children speak meanwhile.
    async fn until<T>(&mut self, whom: &str, ask: impl AsyncFn() -> Option<T>) -> anyhow::Result<T> {
        let begun = Instant::now();
        while begun.elapsed() < READY_WITHIN {
            if let Some(answer) = ask().await {
                return Ok(answer);
            }
            let pause = sleep(ASK_AGAIN);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some(event) = self.said.recv() => {
                        if let Some(gone) = self.hear(event) {
                            bail!("{gone} before it was ready");
                        }
                    }
                }
            }
        }
        bail!("{whom} is not ready after {READY_WITHIN:?}")
    }

    /// Lets them speak until none of them is left: services may end and be started by hand, agents, too.
    async fn go_on(&mut self) {
        while !self.services.is_empty() || self.agent.is_some() {
            // The channel never closes, for this has a sender of it.
            let Some(event) = self.said.recv().await else { return };
            if let Some(gone) = self.hear(event) {
                self.say(OURSELVES, &format!("{gone}; what else runs goes on"));
            }
        }
    }

    /// Services first, for they have to take leave of the agent.
    async fn stop(&mut self) {
        self.stopping = true;
        self.services.iter().for_each(Child::ask_to_end);
        while !self.services.is_empty() {
            let Some(event) = self.said.recv().await else { return };
            self.hear(event);
        }
        if let Some(agent) = &self.agent {
            agent.ask_to_end();
            let ended = async {
                while self.agent.is_some() {
                    let Some(event) = self.said.recv().await else { return };
                    self.hear(event);
                }
            };
            // Killed then.
            let _ = timeout(AGENT_ENDS_WITHIN, ended).await;
        }
        self.say(OURSELVES, "all ended");
    }

    /// Passes on what a child says; what there is to tell if it has ended.
    fn hear(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Line { name, line } => {
                // The last words of an agent of one are about others that it misses.
                if !(self.stopping && name == CONSUL) {
                    self.say(&name, &line);
                }
                None
            }
            Event::Ended { name, how } => {
                self.services.retain(|child| child.name != name);
                self.agent.take_if(|agent| agent.name == name);
                Some(format!("`{name}` has ended ({how})"))
            }
        }
    }

    fn say(&self, name: &str, line: &str) {
        // Nobody who listens any more is no reason to end what runs.
        let _ = writeln!(io::stdout().lock(), "{}", shown::labelled(name, self.width, line));
    }
}

/// The signals that ask this process to end; also that its terminal was closed.
struct Signals {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 3],
    asked: bool,
}

impl Signals {
    #[cfg(unix)]
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let signals =
            [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
        Ok(Self { signals, asked: false })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        self.asked = true;
    }

    /// Another one, from somebody who has lost patience.
    async fn again(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < ONE_SIGNAL {
            self.next().await;
        }
    }

    #[cfg(not(unix))]
    fn listen() -> io::Result<Self> {
        Ok(Self { asked: false })
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
        self.asked = true;
    }
}
