//! What the URL of a Postgres database names, and the commands that an operator needs for it.

use std::fmt::Write as _;

use sqlx::ConnectOptions as _;
use sqlx::any::AnyConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// The URL as the driver understands it; `None` unless it names a database. The driver resolves `[::1]`, with its
/// brackets, as a host name. Without a user it takes `anonymous` where psql takes the user of the operating system.
pub(super) fn normalized(text: &str) -> Option<String> {
    let mut url = text.parse::<AnyConnectOptions>().ok()?.database_url;
    let pguser = std::env::var_os("PGUSER").is_some_and(|value| !value.is_empty());
    let query = |name: &str| url.query_pairs().any(|(key, value)| key == name && !value.is_empty());
    let has_host = query("host") || query("hostaddr");
    let has_user = !url.username().is_empty() || query("user") || pguser;
    let names_database = !url.path().trim_matches('/').is_empty() || query("dbname");
    if !url.has_host() || !names_database {
        return None;
    }
    let bare = |host: &str| Some(host.strip_prefix('[')?.strip_suffix(']')?.to_owned());
    if let Some(address) = url.host_str().and_then(bare).filter(|_| !has_host) {
        url.query_pairs_mut().append_pair("host", &address);
    }
    if let Some(name) = user().filter(|_| !has_user) {
        // An error means that the URL cannot have a user.
        url.set_username(&name).ok()?;
    }
    Some(url.into())
}

/// The options of a connection. Poolers refuse the startup parameter that the driver sets for the digits of numbers;
/// since Postgres 12 it changes nothing.
pub(super) fn options(url: &str) -> sqlx::Result<PgConnectOptions> {
    Ok(url.parse::<PgConnectOptions>()?.extra_float_digits(None).disable_statement_logging())
}

/// The user of the operating system that runs this process.
#[cfg(unix)]
fn user() -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    name_in(&passwd, rustix::process::geteuid().as_raw()).map(str::to_owned)
}

#[cfg(not(unix))]
fn user() -> Option<String> {
    None
}

/// The name of a user in `/etc/passwd`.
#[cfg(any(unix, test))]
fn name_in(passwd: &str, id: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, found) = (fields.next()?, fields.next()?, fields.next()?);
        (found.parse() == Ok(id)).then_some(name)
    })
}

/// Where the server listens.
pub(super) fn address(to: &PgConnectOptions) -> String {
    match to.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{} port {}", to.get_host(), to.get_port()),
    }
}

/// The command that creates the database; `options` are more options of `createdb`.
pub(super) fn createdb(to: &PgConnectOptions, options: &str) -> String {
    let host = to.get_socket().map_or(to.get_host().into(), |socket| socket.to_string_lossy());
    let mut command = format!("createdb -h {} -p {} -U {}", word(&host), to.get_port(), word(to.get_username()));
    // Only a URL that names a database gets this far.
    let database = word(to.get_database().unwrap_or_default());
    // Writing to a string cannot fail.
    let _ = write!(command, "{options} {database}");
    command
}

/// A word of a shell.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_without_a_database_is_refused() {
        for text in ["postgres://me@host", "postgres://me@host/", "postgres://me@host:5432?sslmode=disable"] {
            assert_eq!(normalized(text), None, "{text}");
        }
        for text in ["postgres://me@host/one", "postgres://me@host?dbname=one"] {
            assert_eq!(normalized(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn url_with_an_ipv6_address_names_the_host_without_brackets() {
        let options: PgConnectOptions = normalized("postgres://me@[::1]:5433/one").unwrap().parse().unwrap();
        assert_eq!((options.get_host(), options.get_port()), ("::1", 5433));
        let options: PgConnectOptions = normalized("postgres://me@[::1]/one?host=other").unwrap().parse().unwrap();
        assert_eq!(options.get_host(), "other");
    }

    #[test]
    fn user_is_found_by_its_id() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nme:x:1000:1000::/home/me:/bin/sh\n";
        assert_eq!(name_in(passwd, 1000), Some("me"));
        assert_eq!(name_in(passwd, 7), None);
    }

    #[test]
    fn createdb_names_the_server_and_quotes() {
        let options: PgConnectOptions = "postgres://me@host:5433/it%27s".parse().unwrap();
        assert_eq!(createdb(&options, ""), r"createdb -h host -p 5433 -U me 'it'\''s'");
    }
}
