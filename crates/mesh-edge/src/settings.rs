//! The settings under `edge`.

use std::net::SocketAddr;
use std::time::Duration;

use crate::client::Network;
use crate::folder::{self, Folder};
use mesh_rpc::server::Tls;
use mesh_runtime::settings::{self as read, Key, Source, parse};

/// The settings of the edge.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the edge answers. `None`: if its address is a loopback address, because nothing authorizes calls yet.
    pub enabled: Option<bool>,
    /// The address of a listener of its own, with the public methods alone. `None`: the listener of the services.
    pub listen: Option<SocketAddr>,
    /// TLS of that listener. `None`: it speaks HTTP without TLS.
    pub tls: Option<Tls>,
    /// Host names by which clients reach this process, beside those of the machine itself.
    pub hosts: Vec<String>,
    /// Origins whose pages may read answers, such as `https://shop.example`.
    pub cors_origins: Vec<String>,
    /// The largest body that is read into memory, in bytes. 1 KiB to 256 MiB.
    pub max_body: u64,
    /// The requests that a client may send in a second. `None`: any number. 1 to 100000.
    pub rate: Option<u32>,
    /// The proxies whose `X-Forwarded-For` names the client.
    pub trusted_proxies: Vec<Network>,
    /// The open streams of a client. 1 to 100000.
    pub streams_per_client: usize,
    /// The page to read and try the API.
    pub docs: Docs,
    /// The folder with a page of the project's own. `None`: there is no such page.
    pub(crate) web: Option<Folder>,
    /// The longest deadline of a call, and the deadline of a unary call without one. 1 ms to 1 h.
    pub deadline: Duration,
}

/// The page to read and try the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Docs {
    /// `/docs` is this crate's page.
    On,
    /// There is no page.
    Off,
    /// `/docs` sends its reader to this URL.
    At(String),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: None,
            listen: None,
            tls: None,
            hosts: Vec::new(),
            cors_origins: Vec::new(),
            max_body: 4 * MIB,
            rate: None,
            trusted_proxies: Vec::new(),
            // Pages of one reader in many tabs, or readers behind one address.
            streams_per_client: 32,
            docs: Docs::On,
            web: None,
            deadline: Duration::from_secs(30),
        }
    }
}

const MIB: u64 = 1024 * 1024;
const HOUR: Duration = Duration::from_secs(3600);

impl Settings {
    /// Reads the settings under `edge`.
    pub fn take(settings: &mut read::Settings) -> Self {
        let default = Self::default();
        let enabled = Key::new("edge.enabled", "true or false");
        let listen = Key::new("edge.listen", parse::ADDRESS);
        let hosts = Key::new("edge.hosts", "host names separated by commas, such as shop.internal");
        let origins = Key::new("edge.cors_origins", "origins separated by commas, such as https://shop.example");
        let max_body = Key::new("edge.max_body", "a size from 1KiB to 256MiB, such as 4MiB");
        let rate = Key::new("edge.rate", "a number of requests from 1/s to 100000/s, such as 50/s");
        let proxies = Key::new("edge.trusted_proxies", "addresses or networks separated by commas, such as 10.0.0.0/8");
        let streams = Key::new("edge.streams_per_client", "a number from 1 to 100000");
        let page = Key::new("edge.docs", "true, false, or a URL such as https://docs.example");
        let deadline = Key::new("edge.deadline", "a time from 1ms to 1h, such as 30s");
        let enabled = settings.optional(&enabled, |text| text.parse().ok());
        let source = settings.source("edge.listen").cloned();
        let listen = settings.optional(&listen, parse::address);
        let is_meant = enabled.is_some() || listen.is_none_or(|listen| listen.ip().is_loopback());
        if let (false, Some(source)) = (is_meant, source) {
            let message =
                "is an address that others can reach, and nothing authorizes calls yet: set edge.enabled, too";
            settings.problem("edge.listen", source, message.to_owned());
        }
        let tls = tls(listen.is_some(), settings);
        Self {
            enabled,
            listen,
            tls,
            hosts: settings.optional(&hosts, |text| list(text, is_host)).unwrap_or_default(),
            cors_origins: settings.optional(&origins, |text| list(text, is_origin)).unwrap_or_default(),
            max_body: settings.take(&max_body, Size(default.max_body), size).0,
            rate: settings.optional(&rate, per_second),
            trusted_proxies: settings.optional(&proxies, networks).unwrap_or_default(),
            streams_per_client: settings.take(&streams, default.streams_per_client, parse::number(1, 100_000)),
            docs: settings.optional(&page, docs).unwrap_or(default.docs),
            web: web(enabled != Some(false), settings),
            deadline: settings.take(&deadline, default.deadline, parse::time(Duration::from_millis(1), HOUR)),
        }
    }

    /// The address of a listener of its own, if the edge answers there.
    pub fn own_listener(&self) -> Option<SocketAddr> {
        self.listen.filter(|listen| self.answers_at(*listen))
    }

    /// Whether the edge answers at `listen`.
    pub fn answers_at(&self, listen: SocketAddr) -> bool {
        self.enabled.unwrap_or(listen.ip().is_loopback())
    }
}

/// Reads the folder that `edge.web` names, if the edge answers. The folder is beside the file that names it, or else
/// relative to the working directory.
fn web(answers: bool, settings: &mut read::Settings) -> Option<Folder> {
    let key = Key::new("edge.web", "PATH=FOLDER with a path of letters, digits and `-`, such as /app=web");
    let source = settings.source("edge.web").cloned();
    let value = settings.optional(&key, |text| folder::named(text).map(|_| text.to_owned()))?;
    let (path, folder) = folder::named(&value).filter(|_| answers)?;
    let beside = match &source {
        Some(Source::File(file)) => file.parent().map(|parent| parent.join(folder)),
        _ => None,
    };
    match Folder::read(path, &beside.unwrap_or_else(|| folder.into())) {
        Ok(folder) => Some(folder),
        Err(message) => {
            settings.problem("edge.web", source?, message);
            None
        }
    }
}

/// Reads the keys of TLS, and the files that they name.
fn tls(has_listener: bool, settings: &mut read::Settings) -> Option<Tls> {
    let mode = Key::new("edge.tls", "off or files");
    let source = settings.source("edge.tls").cloned();
    let on = settings.take(&mode, Mode::Off, mode_of) == Mode::Files;
    let mut path = |key: &'static str, names: &str| {
        let from = settings.source(key).cloned();
        let path = settings.optional(&Key::new(key, "a file"), parse::path);
        match (&source, &from) {
            (Some(source), None) if on => {
                settings.problem(key, source.clone(), format!("is not set: edge.tls needs {names}"));
            }
            (None, Some(from)) => {
                let message = "is set and edge.tls is not: set edge.tls to files, or to off".to_owned();
                settings.problem(key, from.clone(), message);
            }
            _ => {}
        }
        path.zip(from)
    };
    let certificate = path(CERTIFICATE, "a PEM file with the certificate, and its issuers behind it");
    let key = path(KEY, "a PEM file with the private key of the certificate");
    if let (true, false, Some(source)) = (on, has_listener, source) {
        let message =
            "is for the edge's own listener, and the port of the services has another: set edge.listen, too".to_owned();
        settings.problem("edge.tls", source, message);
    }
    let ((certificate, of_certificate), (key, of_key)) = certificate.zip(key).filter(|_| on)?;
    let mistakes = match Tls::read(&certificate, &key) {
        Ok(tls) => return Some(tls),
        Err(mistakes) => mistakes,
    };
    for mistake in mistakes {
        let (name, source): (_, &Source) = if mistake.of_key { (KEY, &of_key) } else { (CERTIFICATE, &of_certificate) };
        settings.problem(name, source.clone(), mistake.message);
    }
    None
}

const CERTIFICATE: &str = "edge.tls_certificate";
const KEY: &str = "edge.tls_key";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Off,
    Files,
}

impl read::Shown for Mode {
    fn shown(&self) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::Files => "files".to_owned(),
        }
    }
}

fn mode_of(text: &str) -> Option<Mode> {
    [Mode::Off, Mode::Files].into_iter().find(|mode| read::Shown::shown(mode) == text)
}

struct Size(u64);

impl read::Shown for Size {
    fn shown(&self) -> String {
        parse::show_bytes(self.0)
    }
}

fn size(text: &str) -> Option<Size> {
    parse::bytes(text).filter(|bytes| (1024..=256 * MIB).contains(bytes)).map(Size)
}

fn per_second(text: &str) -> Option<u32> {
    parse::number(1, 100_000)(text.strip_suffix("/s")?)
}

fn docs(text: &str) -> Option<Docs> {
    match text {
        "true" => Some(Docs::On),
        "false" => Some(Docs::Off),
        url => (url.starts_with("https://") || url.starts_with("http://")).then(|| Docs::At(url.to_owned())),
    }
}

fn networks(text: &str) -> Option<Vec<Network>> {
    text.split(',').map(|part| Network::parse(part.trim())).collect()
}

fn list(text: &str, valid: fn(&str) -> bool) -> Option<Vec<String>> {
    let parts = text.split(',').map(str::trim);
    parts.map(|part| valid(part).then(|| part.to_ascii_lowercase())).collect()
}

fn is_host(text: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text.bytes().all(valid)
}

/// A scheme, a host and perhaps a port, as a browser sends it.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let host = rest.rsplit_once(':').map_or(rest, |(host, port)| if port.parse::<u16>().is_ok() { host } else { "" });
    ["http", "https"].contains(&scheme) && is_host(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_runtime::settings::{Error, Source};

    fn read(set: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let mut settings = read::Settings::default();
        set.iter().for_each(|(key, value)| settings.set(key, value, Source::Flag("--set".to_owned())));
        let taken = Settings::take(&mut settings);
        let problems = match settings.finish() {
            Err(Error::Invalid(problems)) => problems.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        (taken, problems)
    }

    #[test]
    fn edge_answers_on_loopback_unless_a_key_says_otherwise() {
        let answers = |set: &[(&str, &str)], listen: &str| read(set).0.answers_at(listen.parse().unwrap());
        assert!(answers(&[], "127.0.0.1:1") && answers(&[], "[::1]:1"));
        assert!(!answers(&[], "0.0.0.0:1") && !answers(&[], "10.0.0.7:1"));
        assert!(answers(&[("edge.enabled", "true")], "0.0.0.0:1"));
        assert!(!answers(&[("edge.enabled", "false")], "127.0.0.1:1"));
    }

    #[test]
    fn own_listener_that_others_can_reach_has_to_be_meant() {
        let (settings, problems) = read(&[("edge.listen", "127.0.0.1:0")]);
        assert!(problems.is_empty() && settings.own_listener().is_some(), "{problems:?}");
        assert_eq!(read(&[("edge.listen", "0.0.0.0:0")]).1.len(), 1);
        let meant = read(&[("edge.listen", "0.0.0.0:0"), ("edge.enabled", "true")]);
        assert!(meant.1.is_empty() && meant.0.own_listener().is_some(), "{:?}", meant.1);
        assert!(read(&[("edge.listen", "127.0.0.1:0"), ("edge.enabled", "false")]).0.own_listener().is_none());
    }

    #[test]
    fn tls_needs_a_listener_and_two_files() {
        let tls = ("edge.tls", "files");
        let own = ("edge.listen", "127.0.0.1:0");
        let files = [("edge.tls_certificate", "no/certificate.pem"), ("edge.tls_key", "no/key.pem")];
        let found = |set: &[(&str, &str)], wanted: &[&[&str]]| {
            let (settings, problems) = read(set);
            assert!(settings.tls.is_none());
            assert_eq!(problems.len(), wanted.len(), "{set:?}: {problems:#?}");
            for (problem, wanted) in problems.iter().zip(wanted) {
                assert!(wanted.iter().all(|text| problem.contains(text)), "{wanted:?} not in {problem}");
            }
        };
        let (certificate, key) = ("`edge.tls_certificate` is not set", "`edge.tls_key` is not set");
        found(&[tls, own], &[&[certificate], &[key]]);
        found(&[tls, own, files[0]], &[&[key]]);
        found(&[tls], &[&[certificate], &[key], &["`edge.tls`", "edge.listen"]]);
        let unreadable = &[&["`edge.tls_certificate`", "no/certificate.pem"][..], &["`edge.tls_key`", "no/key.pem"]];
        found(&[tls, own, files[0], files[1]], unreadable);
        let ignored = &[&["`edge.tls_certificate`", "edge.tls is not"][..], &["`edge.tls_key`", "edge.tls is not"]];
        found(&[own, files[0], files[1]], ignored);
        found(&[("edge.tls", "off"), own, files[0], files[1]], &[]);
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let (settings, problems) =
            read(&[("edge.hosts", "a, B.internal"), ("edge.cors_origins", "https://a.example,http://localhost:3000")]);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(settings.hosts, ["a", "b.internal"]);
        assert_eq!(settings.cors_origins, ["https://a.example", "http://localhost:3000"]);
    }

    #[test]
    fn settings_out_of_range_are_rejected() {
        for (key, wrong) in [
            ("edge.enabled", ["maybe", "1", ""]),
            ("edge.tls", ["on", "true", ""]),
            ("edge.hosts", ["a:1", "http://a", "a,,b"]),
            ("edge.cors_origins", ["*", "a.example", "https://a.example/path"]),
            ("edge.max_body", ["1", "1GiB", "many"]),
            ("edge.rate", ["50", "0/s", "1/min"]),
            ("edge.trusted_proxies", ["proxy", "10.0.0.0/33", ""]),
            ("edge.streams_per_client", ["0", "100001", "many"]),
            ("edge.docs", ["maybe", "docs.example", ""]),
            ("edge.web", ["/app", "/docs=src", "/app=no/folder"]),
            ("edge.deadline", ["0s", "2h", "30"]),
        ] {
            for value in wrong {
                let (_, found) = read(&[(key, value)]);
                assert!(found.len() == 1 && found[0].contains(key), "{key}={value}: {found:?}");
            }
        }
    }
}
