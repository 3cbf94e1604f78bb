//! What a process prints once it serves: its addresses, and first calls to paste into a terminal.
//!
//! Guarantees:
//! - With `auth.mode = "required"`, a call that needs a token has one, and a line before says how to get it. Calls that
//!   need none come first. What no token allows is left out.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use mesh_client::TOKEN;
use mesh_edge::Edge;
use mesh_rpc::auth::Mode;
use mesh_rpc::call::{Access, Method};

use crate::config::Config;
use crate::running::Running;
use crate::service::Example;

/// The calls that a process without examples prints, at most.
const SHOWN: usize = 5;

/// Prints the addresses, and first calls.
pub(crate) fn announce(config: &Config, running: &Running, examples: &[Example]) {
    let mut out = io::stdout().lock();
    // A closed standard output does not stop the process.
    let _ = addresses(&mut out, config, running);
    let (asks, is_service) = (config.auth.mode == Mode::Required, config.inbound.is_mutual_at(running.address));
    let _ = Calls { config, running, asks, is_service }.print(examples, &mut out);
    let _ = out.flush();
}

fn addresses(out: &mut impl Write, config: &Config, running: &Running) -> io::Result<()> {
    writeln!(out, "{} listening on {}", config.process, running.address)?;
    if let Some(admin) = running.admin_address {
        writeln!(out, "{} admin listening on {admin}", config.process)?;
    }
    if let Some(edge) = running.edge_address {
        // An address alone is one without TLS, as for the other listeners.
        let scheme = if config.edge.tls.is_some() { "https://" } else { "" };
        writeln!(out, "{} edge listening on {scheme}{edge}", config.process)?;
    }
    if let Some(dashboard) = &running.dashboard {
        writeln!(out, "{} dashboard at {}", config.process, dashboard.url())?;
    }
    writeln!(out)
}

/// The first calls of a process.
struct Calls<'a> {
    config: &'a Config,
    running: &'a Running,
    /// Whether callers are asked who they are.
    asks: bool,
    /// Whether grpcurl shows the certificate of this process, and is a service of the mesh so.
    is_service: bool,
}

/// A command that makes a call.
struct Line {
    method: &'static Method,
    sends_token: bool,
    text: String,
}

impl Calls<'_> {
    fn print(&self, examples: &[Example], out: &mut impl Write) -> io::Result<()> {
        let (config, address) = (self.config, self.running.address);
        let fill = |request: &str| request.replace("{uuid}", &uuid::Uuid::new_v4().to_string());
        let find = |path: &str| self.running.methods.find(&format!("/{path}"));
        let examples = examples.iter().map(|Example { method, request }| (find(method), *method, fill(request)));
        let examples: Vec<_> = examples.collect();
        let (grpcurl, options) = (grpcurl(), config.inbound.grpcurl_options(address, config.process));
        let by_grpcurl = examples.iter().map(|(method, path, request)| {
            let sends_token = !self.is_service && self.needs_token(method);
            let text = format!("{grpcurl} {options}{} -d '{request}' {address} {path}", header(sends_token));
            Line { method, sends_token, text }
        });
        let by_grpcurl = self.in_order(by_grpcurl.collect(), self.is_service);
        let by_http = self.edge().map(|(edge, at)| (edge, at, self.by_curl(edge, at, &examples)));

        let all = by_grpcurl.iter().chain(by_http.iter().flat_map(|(_, _, lines)| lines));
        if let Some(token) = self.token(all) {
            writeln!(out, "  {token}")?;
        }
        if !self.asks || self.is_service || config.auth.shows_contracts {
            writeln!(out, "  {grpcurl} {options} {address} list")?;
        }
        by_grpcurl.iter().try_for_each(|line| writeln!(out, "  {}", line.text))?;
        if let Some((edge, at, lines)) = by_http {
            writeln!(out, "\n  {}/docs shows and tries the API over HTTP", edge.url(at))?;
            edge.page(at).map_or(Ok(()), |page| writeln!(out, "  {page} uses it"))?;
            lines.iter().try_for_each(|line| writeln!(out, "  {}", line.text))?;
        }
        writeln!(out)
    }

    /// The edge, where clients reach it: behind mutual TLS no browser does, unless it has a listener of its own.
    fn edge(&self) -> Option<(&Edge, SocketAddr)> {
        let at = self.running.edge_address;
        let reachable = at.is_some() || !self.config.inbound.is_mutual_at(self.running.address);
        self.running.edge.as_ref().filter(|_| reachable).zip(at.or(Some(self.running.address)))
    }

    fn by_curl(&self, edge: &Edge, at: SocketAddr, examples: &[(&'static Method, &str, String)]) -> Vec<Line> {
        let line = |method: &'static Method, command: &dyn Fn(&str) -> Option<String>| {
            let sends_token = self.needs_token(method);
            Some(Line { method, sends_token, text: command(header(sends_token))? })
        };
        let own = examples
            .iter()
            .filter_map(|(method, path, request)| line(method, &|header| edge.curl(at, path, request, header)));
        let reads = edge.reads().filter_map(|(method, path)| line(method, &|header| Some(edge.get(at, path, header))));
        let lines = if examples.is_empty() { reads.collect() } else { own.collect() };
        let mut lines = self.in_order(lines, false);
        lines.truncate(if examples.is_empty() { SHOWN } else { usize::MAX });
        lines
    }

    fn needs_token(&self, method: &Method) -> bool {
        self.asks && method.access == Access::Authenticated
    }

    /// The lines that work, those without a token first. `is_service`: a service calls.
    fn in_order(&self, mut lines: Vec<Line>, is_service: bool) -> Vec<Line> {
        if self.asks {
            lines.retain(|line| is_service || line.method.access.is_public());
            lines.sort_by_key(|line| match line.method.access {
                Access::Public => 0,
                Access::Authenticated => 1,
                Access::Internal => 2,
            });
        }
        lines
    }

    /// The line that gets a token for these calls; `None` if they need none.
    fn token<'a>(&self, lines: impl Iterator<Item = &'a Line>) -> Option<String> {
        let methods: Vec<_> = lines.filter(|line| line.sends_token).map(|line| line.method).collect();
        let scopes: BTreeSet<_> = methods.iter().flat_map(|method| method.scopes).map(String::as_str).collect();
        let scopes: Vec<_> = scopes.into_iter().collect();
        let with = |before: &str, between: &str| match scopes.is_empty() {
            true => String::new(),
            false => format!("{before}{}", scopes.join(between)),
        };
        if methods.is_empty() {
            None
        } else if self.config.auth.is_development {
            let scopes = with(" --scope ", ",");
            Some(format!("export {TOKEN}=$(cargo run -q --bin mesh -- token --sub alice{scopes})"))
        } else {
            let scopes = with(", with the scopes ", " and ");
            Some(format!("# {TOKEN} is a token of an issuer that auth.issuers names{scopes}"))
        }
    }
}

/// The header of a call, in the words of grpcurl and of curl.
fn header(sends_token: bool) -> &'static str {
    if sends_token { r#" -H "authorization: Bearer $MESH_TOKEN""# } else { "" }
}

fn grpcurl() -> &'static str {
    if Path::new(".tools/bin/grpcurl").exists() { ".tools/bin/grpcurl" } else { "grpcurl" }
}
