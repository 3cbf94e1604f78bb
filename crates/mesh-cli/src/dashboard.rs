//! Serves the dashboard of a mesh, from outside of its processes.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;

use clap::Args;
use mesh_dashboard::{Channel, Channels, Dashboard, Listed, Member, Members, Mode, Own, Settings};
use mesh_rpc::discovery::{is_passing, is_service};
use mesh_rpc::server::{Limits, Loopback};
use mesh_runtime::Tasks;
use mesh_runtime::signals::Stop;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::credentials;
use crate::shown;
use crate::target::{Address, Consul, Target};

/// The default address.
pub(crate) const DEFAULT: &str = "127.0.0.1:8090";

/// Where the page is.
#[derive(Args)]
pub(crate) struct DashboardOptions {
    /// The address of the page; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT)]
    listen: SocketAddr,
    /// Take a free port if that of the address is taken
    #[arg(long, hide = true)]
    or_free: bool,
    /// Show only: make no calls, and change no long work
    #[arg(long)]
    read: bool,
    /// The file with a token of at least 32 characters, which readers need; required if others can reach the address
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A host name by which readers reach the page, beside those of this machine; several are given one by one
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Show this process, too, for a registry `static` or `dns`; several are given one by one
    #[arg(long = "at", value_name = "HOST:PORT")]
    pub(crate) at: Vec<Address>,
}

/// Serves the page until Ctrl-C.
pub(crate) async fn serve(options: DashboardOptions, target: Option<Target>) -> anyhow::Result<ExitCode> {
    let DashboardOptions { listen, or_free, read, token_file, hosts, at } = options;
    let mode = if read { Mode::Read } else { Mode::Call };
    let settings = Settings { mode: Some(mode), listen: Some(listen), hosts, token_file };
    if !listen.ip().is_loopback() && settings.token_file.is_none() {
        anyhow::bail!("others can reach {listen}: give --token-file FILE, or --listen with a loopback address");
    }
    let registry = match &target {
        Some(Target::Consul(_)) => "consul",
        _ => "static",
    };
    let own = Own {
        process: "mesh".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        registry: registry.to_owned(),
        links: Vec::new(),
    };
    let listener = match Loopback::bind(listen, "--listen").await {
        Err(_) if or_free => Loopback::bind(SocketAddr::new(listen.ip(), 0), "--listen").await?,
        bound => bound?,
    };
    let (address, draining, tasks) = (listener.address()?, CancellationToken::new(), Tasks::default());
    let members = Asked { target, at, channels: Channels::default() };
    let Some(page) =
        Dashboard::new(&settings, address, own, members, credentials::are_shown_at_all(), draining.clone())?
    else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut stop = Stop::listen()?;
    listener.accept(Limits::default(), &draining, &tasks, page.page().front);
    // `mesh up` reads this line.
    writeln!(io::stdout(), "dashboard at {}", page.url())?;
    io::stdout().flush()?;
    tokio::select! {
        () = page.run() => {}
        _ = stop.signal() => {}
    }
    draining.cancel();
    tokio::select! {
        () = tasks.finish() => {}
        () = sleep(std::time::Duration::from_secs(1)) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The processes that Consul lists, and those at addresses.
struct Asked {
    target: Option<Target>,
    at: Vec<Address>,
    channels: Channels,
}

impl Members for Asked {
    fn list(&self) -> Pin<Box<dyn Future<Output = Listed> + Send + '_>> {
        Box::pin(async {
            let mut listed = Listed::default();
            let mut found: BTreeMap<String, (Option<Address>, Vec<String>, String)> = BTreeMap::new();
            match &self.target {
                Some(Target::Consul(consul)) => {
                    let failed = registered(consul, &mut found).await;
                    listed.notes.extend(failed.iter().map(|error| shown::one_line(&format!("{error:#}"))));
                }
                Some(Target::Process(process)) => {
                    let address = process.address.clone();
                    found.insert(address.to_string(), (Some(address), Vec::new(), String::new()));
                }
                None => {}
            }
            for address in &self.at {
                found.entry(address.to_string()).or_insert((Some(address.clone()), Vec::new(), String::new()));
            }
            self.channels.retain(|id| found.contains_key(id));
            for (id, (address, services, why)) in found {
                let Some(address) = address else { continue };
                match self.channel(&id, &address, services.first()) {
                    Ok(channel) => listed.members.push(Member { id, services, why, channel }),
                    Err(error) => listed.notes.push(format!("{id}: {error:#}")),
                }
            }
            listed
        })
    }
}

impl Asked {
    fn channel(&self, id: &str, address: &Address, service: Option<&String>) -> anyhow::Result<Channel> {
        let service = service.map(String::as_str);
        self.channels.get(id, service.unwrap_or_default(), || {
            let channel = credentials::lazily(address.endpoint(), service)?;
            let channel = channel.map_response(|response| response.map(Body::new));
            let channel = channel.map_err(|error: tonic::transport::Error| Status::from_error(Box::new(error)));
            Ok(mesh_dashboard::channel(channel))
        })
    }
}

/// Adds the instances in Consul, by address. Returns why services could not be asked for.
async fn registered(
    consul: &Consul,
    found: &mut BTreeMap<String, (Option<Address>, Vec<String>, String)>,
) -> Vec<anyhow::Error> {
    let services = match consul.grpc_services().await {
        Ok(services) => services,
        Err(error) => return vec![error],
    };
    let mut failed = Vec::new();
    for service in services {
        let instances = match consul.instances(&service).await {
            Ok(instances) => instances,
            Err(error) => {
                failed.push(error);
                continue;
            }
        };
        for instance in instances.into_iter().filter(is_service) {
            let address = Address::of(&instance);
            let passes = is_passing(&instance);
            let why = if passes { String::new() } else { "its checks in Consul do not pass".to_owned() };
            let id = address.as_ref().map_or_else(|| instance.service.id.clone(), ToString::to_string);
            found.entry(id).or_insert((address, Vec::new(), why)).1.push(service.clone());
        }
    }
    failed
}
