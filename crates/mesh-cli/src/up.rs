//! Starts each service of this project in its own process, and a Consul agent for discovery. A service in another
//! language has a sidecar, which starts its program.
//!
//! Each child leads its own process group, so Ctrl-C reaches only this process. The services end first, because they
//! deregister from the agent; the agent ends last.

mod child;
mod consul;
mod program;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use consul_api_client::Client;
use consul_api_client::health::Query;
use mesh_token::development::{Development, FOLDER};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::{ca, shown};
use child::{Child, Event};
use program::{Found, GATEWAY, Program};

/// The limit for the agent, and then for each service, to become ready. It includes migrations.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The pause between two checks of readiness.
const POLL: Duration = Duration::from_millis(20);
/// The limit for the agent to end before it is killed.
const AGENT_ENDS_WITHIN: Duration = Duration::from_secs(3);
/// Signals within this time count as one: the terminal and the parent process may both send one for a single Ctrl-C.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

/// The label of lines that come from this process.
const OURSELVES: &str = "up";
/// The label of lines that come from the agent.
const CONSUL: &str = "consul";
/// The label of lines that come from the dashboard.
const DASHBOARD: &str = "dashboard";
/// The default port of Consul's HTTP API.
pub(crate) const DEFAULT_PORT: u16 = 8500;

/// Starts all processes, reports when they are ready, and runs until a signal or until all have ended.
pub(crate) async fn up(consul_port: u16, tls: bool) -> anyhow::Result<ExitCode> {
    let Found { programs, without } = Found::in_this_folder()?;
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let mut up = Up::new(&programs);
    without.iter().for_each(|line| up.say(OURSELVES, line));
    if tls {
        up.certificates = Some(Certificates::write(programs.iter().map(|program| program.service.clone()).collect())?);
    }

    let started = tokio::select! {
        started = up.start(&programs, consul_port) => started,
        () = signals.next() => Ok(()),
    };
    if started.is_ok() && !signals.asked {
        tokio::select! {
            () = up.run() => up.say(OURSELVES, "no process is running"),
            () = signals.next() => {}
        }
    }
    tokio::select! {
        () = up.stop() => {}
        // Dropping `up` kills the processes that still run.
        () = signals.again() => {}
    }
    let asked = signals.asked;
    started.map(|()| if asked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The path of this program, relative to the current folder if it is inside.
fn this_program() -> String {
    let Ok(path) = std::env::current_exe() else { return "mesh".to_owned() };
    let folder = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(folder).unwrap_or(&path).display().to_string()
}

/// The running processes and their output.
struct Up {
    services: Vec<Child>,
    agent: Option<Child>,
    events: mpsc::UnboundedReceiver<Event>,
    sender: mpsc::UnboundedSender<Event>,
    /// What the gateway and the dashboard have printed of where they are.
    printed: Arc<Mutex<BTreeMap<&'static str, String>>>,
    /// The width of the labels.
    width: usize,
    stopping: bool,
    /// Those of the services, if they speak TLS.
    certificates: Option<Certificates>,
}

/// The certificates of the services, which are written again before they end.
struct Certificates {
    folder: PathBuf,
    renewing: tokio::task::JoinHandle<()>,
}

impl Certificates {
    fn write(services: Vec<String>) -> anyhow::Result<Self> {
        let folder = std::env::current_dir().context("there is no current folder")?.join(FOLDER);
        ca::write(&folder, &services, ca::LIFETIME)?;
        // Services with `auth.mode = "required"` read its keys.
        Development::open(&folder).map_err(anyhow::Error::msg)?;
        let renewed = folder.clone();
        let renewing = tokio::spawn(async move {
            let mut written = SystemTime::now();
            loop {
                // By the clock of the calendar: a laptop that sleeps stops the other one.
                sleep(Duration::from_secs(60)).await;
                if written.elapsed().unwrap_or_default() < ca::LIFETIME / 2 {
                    continue;
                }
                match ca::write(&renewed, &services, ca::LIFETIME) {
                    Ok(()) => written = SystemTime::now(),
                    Err(error) => eprintln!("certificates are not renewed: {error:#}"),
                }
            }
        });
        Ok(Self { folder, renewing })
    }

    /// Configures a service to use them.
    fn configure(&self, command: &mut std::process::Command) {
        let file = |name: &str| self.folder.join(name);
        command.env("MESH__TLS__MODE", "mutual");
        command.env("MESH__IDENTITY__CERTIFICATE", file("{service}.pem"));
        command.env("MESH__IDENTITY__KEY", file("{service}.key"));
        command.env("MESH__IDENTITY__BUNDLE", file("ca.pem"));
        // The agent has no certificate.
        command.env("MESH__ADMIN__LISTEN", "127.0.0.1:0");
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Up {
    fn new(programs: &[Program]) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let names = programs.iter().map(|program| program.service.len());
        let width = names.chain([CONSUL.len(), DASHBOARD.len()]).max().unwrap_or_default();
        Self {
            services: Vec::new(),
            agent: None,
            events,
            sender,
            printed: Arc::default(),
            width,
            stopping: false,
            certificates: None,
        }
    }

    /// Starts all processes and waits until Consul lists each service as passing. Fails if one ends first.
    async fn start(&mut self, programs: &[Program], port: u16) -> anyhow::Result<()> {
        let started = Instant::now();
        let agent = consul::Agent::prepare(port)?;
        let client = Client::new(format!("http://{}", agent.address))?;
        self.agent = Some(Child::spawn(CONSUL, agent.command(), &self.sender)?);
        // Another agent may answer at this port; its node has another name.
        let ours = async || {
            let node = client.agent().info().await.ok()?.node_name;
            client.status().leader().await.ok().flatten().filter(|_| node == agent.node)
        };
        self.until(CONSUL, ours).await?;

        for program in programs {
            let mut command = program.command();
            command.env("MESH__REGISTRY", format!("consul://{}", agent.address));
            // `advertise` in mesh.toml is the address of one process; here each has its own.
            command.env("MESH__ADVERTISE", "127.0.0.1");
            // They get SIGTERM from this process, for a person who waits.
            command.env("MESH__DRAIN_DELAY", "0s");
            if let Some(certificates) = &self.certificates {
                certificates.configure(&mut command);
            }
            if std::env::var_os("MESH__LOG__FORMAT").is_none() {
                command.env("MESH__LOG__FORMAT", "pretty");
            }
            self.services.push(Child::spawn(&program.service, command, &self.sender)?);
        }
        let mut places = Vec::new();
        for name in programs.iter().map(|program| &program.service).filter(|name| *name != GATEWAY) {
            let query = Query::service(name.as_str()).passing();
            let passing = async || client.health().instances(&query, None).await.ok()?.value.into_iter().next();
            let instance = self.until(name, passing).await?;
            places.push((name, format!("{}:{}", instance.address(), instance.service.port)));
        }
        if let Some(name) = programs.iter().map(|program| &program.service).find(|name| *name == GATEWAY) {
            places.push((name, self.until_printed(GATEWAY).await?));
        }
        let took = started.elapsed().as_secs_f64();
        self.say(OURSELVES, &format!("all services are passing in Consul, after {took:.1} s:"));
        for (name, place) in places {
            self.say(OURSELVES, &format!("  {name:width$}  {place}", width = self.width));
        }
        self.say(OURSELVES, &format!("  {CONSUL:width$}  {}", agent.address, width = self.width));
        self.services.push(Child::spawn(DASHBOARD, self.dashboard(&agent.address.to_string())?, &self.sender)?);
        match self.until_printed(DASHBOARD).await {
            Ok(url) => self.say(OURSELVES, &format!("the dashboard shows it: {url}")),
            // The services go on without it.
            Err(error) => self.say(OURSELVES, &format!("there is no dashboard: {error:#}")),
        }
        if port != DEFAULT_PORT {
            self.say(
                OURSELVES,
                &format!("to use this agent: MESH__REGISTRY=consul://{0}, mesh --consul {0}", agent.address),
            );
        }
        self.say(OURSELVES, &format!("in another terminal: {} services. Ctrl-C ends all of it.", this_program()));
        Ok(())
    }

    /// The program that serves the dashboard, at its default address or at a free port.
    fn dashboard(&self, agent: &str) -> anyhow::Result<std::process::Command> {
        let mut command = std::process::Command::new(std::env::current_exe().context("this program has no path")?);
        command.args(["dashboard", "--consul", agent, "--or-free"]);
        if self.certificates.is_some() {
            command.arg("--tls");
        }
        Ok(command)
    }

    /// Waits until a program has printed where it is.
    async fn until_printed(&mut self, name: &'static str) -> anyhow::Result<String> {
        let printed = Arc::clone(&self.printed);
        let ask = async || printed.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        self.until(name, ask).await
    }

    /// Repeats `ask` until it has an answer, and prints the output of the children meanwhile.
    async fn until<T>(&mut self, name: &str, ask: impl AsyncFn() -> Option<T>) -> anyhow::Result<T> {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            if let Some(answer) = ask().await {
                return Ok(answer);
            }
            let pause = sleep(POLL);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some(event) = self.events.recv() => {
                        if let Some(ended) = self.handle(event) {
                            bail!("{ended} before it was ready: see its output above");
                        }
                    }
                }
            }
        }
        bail!("`{name}` is not ready after {READY_WITHIN:?}: see its output above")
    }

    /// Prints the output of the children until all have ended. The end of one child does not end the others: it can be
    /// started again by hand.
    async fn run(&mut self) {
        while !self.services.is_empty() || self.agent.is_some() {
            // The channel never closes: `self` holds a sender.
            let Some(event) = self.events.recv().await else { return };
            if let Some(ended) = self.handle(event) {
                self.say(OURSELVES, &format!("{ended}; the other processes go on"));
            }
        }
    }

    /// Ends the services, which deregister from the agent, and then the agent.
    async fn stop(&mut self) {
        self.stopping = true;
        self.services.iter().for_each(Child::terminate);
        while !self.services.is_empty() {
            let Some(event) = self.events.recv().await else { return };
            self.handle(event);
        }
        if let Some(agent) = &self.agent {
            agent.terminate();
            let ended = async {
                while self.agent.is_some() {
                    let Some(event) = self.events.recv().await else { return };
                    self.handle(event);
                }
            };
            // After the limit, dropping the agent kills it.
            let _ = timeout(AGENT_ENDS_WITHIN, ended).await;
        }
        self.say(OURSELVES, "all processes have ended");
    }

    /// Prints a line of a child, or returns a message that it has ended.
    fn handle(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Line { name, line } => {
                // Not the line of its admin pages.
                let printed = match line.split_once(" listening on ").or_else(|| line.split_once(" at ")) {
                    Some(("gateway", address)) if name == GATEWAY => Some((GATEWAY, address)),
                    Some(("dashboard", url)) if name == DASHBOARD => Some((DASHBOARD, url)),
                    _ => None,
                };
                if let Some((name, place)) = printed {
                    self.printed.lock().unwrap_or_else(PoisonError::into_inner).insert(name, place.to_owned());
                }
                // While it ends, an agent without peers logs errors about missing peers.
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
        // A closed standard output does not end the processes.
        let _ = writeln!(io::stdout().lock(), "{}", shown::labelled(name, self.width, line));
    }
}

/// The signals that end this process: SIGINT, SIGTERM and SIGHUP.
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

    /// Waits for a second signal, which ends all processes at once.
    async fn again(&mut self) {
        let started = Instant::now();
        while started.elapsed() < ONE_SIGNAL {
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
