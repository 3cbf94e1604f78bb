//! Checks whether the processes of this project can listen on their addresses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use mesh_runtime::settings::toml_mistake;

use super::finding::{Finding, Need, State};
use super::holder::{self, Holder};

/// An address that a program of this project listens on.
#[derive(Debug)]
struct Wanted {
    /// The programs that are expected there.
    programs: Vec<String>,
    address: SocketAddr,
    need: Need,
    serves: String,
    remedy: String,
}

/// Checks the addresses of the monolith, of each service and of Consul.
pub(super) fn look() -> anyhow::Result<Vec<Finding>> {
    let settings = Settings::read(Path::new("mesh.toml"))?;
    let variable = |name: &str| std::env::var(name).ok();
    let wanted = wanted(&settings, &services(Path::new("services")), variable)?;
    // Port 0 means any free port.
    Ok(wanted.into_iter().filter(|wanted| wanted.address.port() != 0).map(Wanted::look).collect())
}

/// mesh.toml, read for addresses only; each process checks the rest itself.
struct Settings(toml::Table);

impl Settings {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("cannot read {}", file.display()))?,
        };
        text.parse().map(Self).map_err(|error| anyhow!("{}, {}", file.display(), toml_mistake(&text, &error)))
    }

    /// The address at a key; the environment overrides the file, as in the processes.
    fn get(&self, key: &str, variable: &impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<SocketAddr>> {
        let name = format!("MESH__{}", key.to_uppercase().replace('.', "__"));
        let mut parts = key.split('.');
        let first = parts.next().and_then(|part| self.0.get(part));
        let value = parts.fold(first, |found, part| found?.get(part));
        let value = variable(&name).or_else(|| value?.as_str().map(ToOwned::to_owned));
        value
            .map(|text| {
                text.parse().with_context(|| format!("`{key}` is `{text}`, expected IP:PORT, such as 127.0.0.1:8080"))
            })
            .transpose()
    }
}

/// The services of this project with their default ports, from their source code.
fn services(folder: &Path) -> Vec<(String, u16)> {
    let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut services: Vec<_> = folders
        .filter_map(|folder| {
            let source = std::fs::read_to_string(folder.path().join("src/lib.rs")).ok()?;
            Some((folder.file_name().to_string_lossy().into_owned(), default_port(&source)?))
        })
        .collect();
    services.sort();
    services
}

/// The number in the first `.port(50051)` of a source file.
fn default_port(source: &str) -> Option<u16> {
    source.split_once(".port(")?.1.split_once(')')?.0.trim().parse().ok()
}

fn wanted(
    settings: &Settings,
    services: &[(String, u16)],
    variable: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Vec<Wanted>> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let shared = settings.get("listen", &variable)?;
    let mut wanted = vec![
        Wanted {
            programs: vec!["monolith".to_owned(), "gateway".to_owned()],
            address: shared.unwrap_or(local(8080)),
            need: Need::Needed,
            serves: "cargo run, or the gateway of scripts/up".to_owned(),
            remedy: "end it, or: cargo run -- --listen 127.0.0.1:0".to_owned(),
        },
        Wanted {
            programs: vec!["consul".to_owned()],
            address: local(crate::up::DEFAULT_PORT),
            need: Need::Optional,
            serves: "Consul, as scripts/up starts it".to_owned(),
            remedy: "end it, or: scripts/up --consul-port 0".to_owned(),
        },
    ];
    for (service, port) in services {
        let key = format!("services.{service}.listen");
        wanted.push(Wanted {
            programs: vec![service.clone()],
            address: settings.get(&key, &variable)?.or(shared).unwrap_or(local(*port)),
            need: Need::Optional,
            serves: format!("{service} in a process of its own"),
            remedy: format!("end it, or set {key} in mesh.toml"),
        });
    }
    Ok(wanted)
}

impl Wanted {
    fn look(self) -> Finding {
        // Binds as a server does: std sets SO_REUSEADDR, so closed connections do not keep the port taken.
        match TcpListener::bind(self.address) {
            Ok(_) => self.judge(None, None),
            Err(error) => {
                let in_use = error.kind() == io::ErrorKind::AddrInUse;
                let holder = in_use.then(|| holder::of(self.address.port())).flatten();
                self.judge(Some(&error), holder)
            }
        }
    }

    /// `refused` is the error of binding, `holder` the process that listens already, if it is visible.
    fn judge(self, refused: Option<&io::Error>, holder: Option<Holder>) -> Finding {
        let (state, found) = match (refused, holder) {
            (None, _) => (State::Free, String::new()),
            (Some(_), Some(holder)) if self.programs.iter().any(|program| holder.is(program)) => {
                (State::Serving, format!("by {holder}"))
            }
            (Some(_), Some(holder)) => (State::Taken, format!("by {holder}")),
            (Some(error), None) if error.kind() == io::ErrorKind::AddrInUse => {
                (State::Taken, "by a process that this user cannot see".to_owned())
            }
            (Some(error), None) => (State::Taken, error.to_string()),
        };
        let Self { address, need, serves, remedy, .. } = self;
        Finding { what: address.to_string(), need, state, found, serves, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(file: &str, environment: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
        let services = [("catalog".to_owned(), 50051), ("film_reviews".to_owned(), 50053)];
        let find = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let wanted = wanted(&Settings(file.parse()?), &services, find)?;
        Ok(wanted.into_iter().map(|wanted| wanted.address.to_string()).collect())
    }

    #[test]
    fn configured_address_overrides_the_default_port() {
        let default = ["127.0.0.1:8080", "127.0.0.1:8500", "127.0.0.1:50051", "127.0.0.1:50053"];
        assert_eq!(addresses("", &[]).unwrap(), default);
        let file = "services.catalog.listen = '0.0.0.0:1'\nservices.film_reviews.listen = '[::1]:2'";
        let environment = [("MESH__SERVICES__FILM_REVIEWS__LISTEN", "127.0.0.1:3"), ("MESH__LISTEN", "127.0.0.1:4")];
        let configured = ["127.0.0.1:4", "127.0.0.1:8500", "0.0.0.0:1", "127.0.0.1:3"];
        assert_eq!(addresses(file, &environment).unwrap(), configured);
    }

    #[test]
    fn invalid_address_is_reported_with_its_key() {
        let refused = addresses("services.catalog.listen = 'here'", &[]).unwrap_err();
        assert!(refused.to_string().contains("services.catalog.listen"), "{refused}");
    }

    #[test]
    fn default_port_is_read_from_the_source() {
        assert_eq!(default_port("Service::new(\"catalog\")\n    .port(50051)\n    .owns(M)"), Some(50051));
        assert_eq!(default_port("Service::new(\"none\")"), None);
    }

    #[test]
    fn port_held_by_the_expected_program_is_serving() {
        let state = |holder: Option<&str>| {
            let wanted = wanted(&Settings(toml::Table::new()), &[], |_| None).unwrap().remove(0);
            let holder = holder.map(|name| Holder { name: name.to_owned(), process: 7 });
            wanted.judge(Some(&io::ErrorKind::AddrInUse.into()), holder).state
        };
        assert_eq!(
            [state(Some("monolith")), state(Some("gateway")), state(Some("mono")), state(None)],
            [State::Serving, State::Serving, State::Taken, State::Taken]
        );
    }
}
