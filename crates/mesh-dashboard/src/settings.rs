//! The settings under `dashboard`.

use std::net::SocketAddr;
use std::path::PathBuf;

use mesh_runtime::settings::{self as read, Key, parse};

/// What the page may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// There is no page.
    Off,
    /// It shows.
    Read,
    /// It also makes calls for its reader, and cancels and retries long work.
    Call,
}

/// The settings of the page.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What it may do. `None`: everything on a loopback address, nothing elsewhere.
    pub mode: Option<Mode>,
    /// The address of a listener of its own. `None`: that of the admin pages.
    pub listen: Option<SocketAddr>,
    /// Host names by which readers reach it, beside those of the machine itself.
    pub hosts: Vec<String>,
    /// The file with the token that readers need. Required where others can reach the page.
    pub token_file: Option<PathBuf>,
}

impl Settings {
    /// Reads the settings under `dashboard`. `pages` is the address of the admin pages.
    pub fn take(pages: SocketAddr, settings: &mut read::Settings) -> Self {
        let mode = Key::new("dashboard.mode", "off, read or call");
        let listen = Key::new("dashboard.listen", parse::ADDRESS);
        let hosts = Key::new("dashboard.hosts", "host names separated by commas, such as mesh.internal");
        let token = Key::new("dashboard.token_file", "a file with a token of at least 32 characters");
        let source = settings.source("dashboard.mode").cloned();
        let taken = Self {
            mode: settings.optional(&mode, mode_of),
            listen: settings.optional(&listen, parse::address),
            hosts: settings.optional(&hosts, host_names).unwrap_or_default(),
            token_file: settings.optional(&token, parse::path),
        };
        let (at, shows) = (taken.listen.unwrap_or(pages), taken.mode.is_some_and(|mode| mode != Mode::Off));
        if let (true, false, None, Some(source)) = (shows, at.ip().is_loopback(), &taken.token_file, source) {
            let message = format!(
                "shows the mesh at {at}, which others can reach: set dashboard.token_file, or dashboard.listen to a loopback address"
            );
            settings.problem("dashboard.mode", source, message);
        }
        taken
    }

    /// What the page may do at `listen`, if it is there.
    pub fn mode_at(&self, listen: SocketAddr) -> Mode {
        self.mode.unwrap_or(if listen.ip().is_loopback() { Mode::Call } else { Mode::Off })
    }
}

fn mode_of(text: &str) -> Option<Mode> {
    Some(match text {
        "off" => Mode::Off,
        "read" => Mode::Read,
        "call" => Mode::Call,
        _ => return None,
    })
}

fn host_names(text: &str) -> Option<Vec<String>> {
    let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let is_name = |name: &String| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        !name.is_empty() && name.len() <= 253 && name.bytes().all(known)
    };
    names.iter().all(is_name).then_some(names)
}
