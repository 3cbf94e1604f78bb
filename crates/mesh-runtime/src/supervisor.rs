//! Reports the state of the process to a supervisor that asks for it: systemd, for units with `Type=notify`.
//!
//! See: [sd_notify(3)](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)

/// A state of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Ready,
    /// It drains.
    Stopping,
}

/// Reports a state to the socket that `NOTIFY_SOCKET` names. Without the variable, or without anybody who reads there,
/// it does nothing.
#[cfg(unix)]
pub fn notify(state: State) {
    use std::os::unix::net::UnixDatagram;

    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let message: &[u8] = match state {
        State::Ready => b"READY=1",
        State::Stopping => b"STOPPING=1",
    };
    let sent = UnixDatagram::unbound().and_then(|from| match abstract_address(&socket) {
        Some(address) => from.send_to_addr(message, &address?),
        None => from.send_to(message, &socket),
    });
    // Nothing would be different if it failed: the supervisor notices by itself.
    drop(sent);
}

/// On Linux, `@` begins a name that is no file.
#[cfg(target_os = "linux")]
fn abstract_address(socket: &std::ffi::OsStr) -> Option<std::io::Result<std::os::unix::net::SocketAddr>> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;

    let name = socket.as_bytes().strip_prefix(b"@")?;
    Some(std::os::unix::net::SocketAddr::from_abstract_name(name))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn abstract_address(_: &std::ffi::OsStr) -> Option<std::io::Result<std::os::unix::net::SocketAddr>> {
    None
}

/// Does nothing: the system has no such supervisor.
#[cfg(not(unix))]
pub fn notify(_: State) {}
