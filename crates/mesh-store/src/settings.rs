//! The settings of databases: `services.NAME.database_url`, where a service keeps its data, and `database`, the limits of
//! its connections, which `services.NAME.database` overrides.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::server;
use mesh_runtime::settings::{Key, Settings, Shown, Source, parse};

/// The database of a service.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// An embedded database: the path of a file, which one process at a time may open.
    Sqlite(PathBuf),
    /// The URL of a Postgres database, which replicas may share. It may hold a password.
    Postgres(String),
}

/// Hides the URL, which may hold a password.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.debug_tuple("Postgres").finish_non_exhaustive(),
        }
    }
}

const DATABASE: &str =
    "sqlite://path/to/file.db or postgres://user@host/database, which names the database that is to be migrated";

impl Database {
    /// Reads `services.SERVICE.database_url`. The default is a file in `data_dir`. `here` says that the service runs in
    /// this process, so that the key is in force.
    pub fn take(service: &str, data_dir: &Path, here: bool, settings: &mut Settings) -> Self {
        let key = Key::new(format!("services.{service}.database_url"), DATABASE).secret();
        let key = if here { key } else { key.elsewhere() };
        let default = Self::Sqlite(data_dir.join(format!("{service}.db")));
        settings.take(&key, default, parse_database)
    }

    /// Notes a problem for each pair of services that share a database (INV-1).
    pub fn refuse_shared(databases: &BTreeMap<String, Self>, settings: &mut Settings) {
        let names: Vec<_> = databases.keys().collect();
        for (i, first) in names.iter().enumerate() {
            for second in &names[i + 1..] {
                if databases[*first] == databases[*second] {
                    settings.problem(
                        format!("services.{second}.database_url"),
                        Source::Together,
                        format!(
                            "is the database of `{first}`, too; a service owns its data: give each service its own"
                        ),
                    );
                }
            }
        }
    }
}

/// The limits of the connections to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The connections of a service in one process to Postgres.
    pub connections: usize,
    /// The longest wait for a free connection, or for SQLite's writer.
    pub wait: Duration,
    /// The prepared statements that a connection to Postgres keeps. 0: none is named, for a pooler between.
    pub statement_cache: usize,
    /// The longest statement on Postgres. The deadline of a call is a limit, too.
    pub statement_timeout: Duration,
    /// The longest wait for a lock of another transaction on Postgres. The deadline of a call is a limit, too.
    pub lock_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10,
            wait: Duration::from_secs(3),
            statement_cache: 100,
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// Reads the keys under `database`.
    pub fn take(settings: &mut Settings) -> Self {
        Self::default().overridden("database", true, settings)
    }

    /// Reads the keys under `services.SERVICE.database`, which override these. `here` says that the service runs in this
    /// process, so that the keys are in force.
    #[must_use]
    pub fn of_service(self, service: &str, here: bool, settings: &mut Settings) -> Self {
        self.overridden(&format!("services.{service}.database"), here, settings)
    }

    fn overridden(self, table: &str, here: bool, settings: &mut Settings) -> Self {
        let key = |name: &str, allowed: &str| {
            let key = Key::new(format!("{table}.{name}"), allowed);
            if here { key } else { key.elsewhere() }
        };
        let (least, minute, hour) = (Duration::from_millis(10), Duration::from_secs(60), Duration::from_secs(3600));
        let connections = key("connections", "a number from 1 to 1000");
        let wait = key("wait", "a time from 10ms to 1min, such as 3s");
        let cache = key("statement_cache", "a number from 0 to 10000");
        let statement = key("statement_timeout", "a time from 10ms to 1h, such as 30s");
        let lock = key("lock_timeout", "a time from 10ms to 1h, such as 5s");
        Self {
            connections: settings.take(&connections, self.connections, parse::number(1, 1000)),
            wait: settings.take(&wait, self.wait, parse::time(least, minute)),
            statement_cache: settings.take(&cache, self.statement_cache, parse::number(0, 10_000)),
            statement_timeout: settings.take(&statement, self.statement_timeout, parse::time(least, hour)),
            lock_timeout: settings.take(&lock, self.lock_timeout, parse::time(least, hour)),
        }
    }
}

impl Shown for Database {
    fn shown(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
            Self::Postgres(url) => url.clone(),
        }
    }
}

fn parse_database(text: &str) -> Option<Database> {
    if let Some(path) = text.strip_prefix("sqlite://") {
        let plain = !path.is_empty() && !path.contains(['?', '#']) && !path.contains(":memory:");
        return plain.then(|| Database::Sqlite(path.into()));
    }
    let postgres = text.starts_with("postgres://") || text.starts_with("postgresql://");
    if postgres { server::normalized(text).map(Database::Postgres) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_runtime::settings::Error;

    #[test]
    fn database_of_two_services_is_refused() {
        let mut settings = Settings::default();
        for service in ["catalog", "other"] {
            settings.set(&format!("services.{service}.database_url"), "postgres://host/one", Source::Default);
        }
        let take = |service: &str, settings: &mut Settings| Database::take(service, Path::new("data"), true, settings);
        let databases = ["catalog", "other"].map(|service| (service.to_owned(), take(service, &mut settings)));
        Database::refuse_shared(&databases.into(), &mut settings);
        let Err(Error::Invalid(problems)) = settings.finish() else { panic!() };
        assert!(problems[0].to_string().contains("owns its data"), "{problems:?}");
    }

    #[test]
    fn database_url_is_never_shown() {
        let mut settings = Settings::default();
        settings.set("services.catalog.database_url", "postgres://me:hush@host/one", Source::Flag("--set".to_owned()));
        let database = Database::take("catalog", Path::new("data"), true, &mut settings);
        assert!(!format!("{database:?}").contains("hush"));
        assert!(!settings.finish().unwrap().to_string().contains("hush"));
    }
}
