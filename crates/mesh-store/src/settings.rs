//! The settings of databases: `services.NAME.database_url`, where a service keeps its data, with `database.url` for the
//! services that have none, and `database`, the limits of its connections, which `services.NAME.database` overrides.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
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

const PATTERN: &str = "sqlite:// or postgres:// with {service} in it, such as postgres://user@host/{service}";

/// What stands for the name of a service in `database.url`.
const SERVICE: &str = "{service}";

/// The place of the databases of services that have no `services.NAME.database_url`.
pub struct Databases {
    data_dir: PathBuf,
    /// `database.url`, if it is set.
    pattern: Option<(String, Source)>,
}

impl Databases {
    /// Reads `database.url`. Without it, the databases are files in `data_dir`.
    pub fn take(data_dir: PathBuf, settings: &mut Settings) -> Self {
        let key = Key::new("database.url", PATTERN).secret();
        let source = settings.source("database.url").cloned();
        let pattern = settings.optional(&key, |text| {
            let names_each = text.contains(SERVICE) && parse_database(&text.replace(SERVICE, "service")).is_some();
            names_each.then(|| text.to_owned())
        });
        Self { data_dir, pattern: pattern.zip(source) }
    }

    /// Reads `services.SERVICE.database_url`. `here` says that the service runs in this process, so that the key is in
    /// force.
    pub fn of_service(&self, service: &str, here: bool, settings: &mut Settings) -> Database {
        let key = Key::new(format!("services.{service}.database_url"), DATABASE).secret();
        let key = if here { key } else { key.elsewhere() };
        let derived = self
            .pattern
            .as_ref()
            .and_then(|(pattern, source)| Some((parse_database(&pattern.replace(SERVICE, service))?, source.clone())));
        let Some((derived, source)) = derived else {
            let default = Database::Sqlite(self.data_dir.join(format!("{service}.db")));
            return settings.take(&key, default, parse_database);
        };
        let is_set = settings.source(&format!("services.{service}.database_url")).is_some();
        let own = settings.optional(&key, parse_database);
        if !is_set {
            settings.list(&key, derived.shown(), source);
        }
        own.unwrap_or(derived)
    }
}

impl Database {
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

    /// Reads the keys under `services.SERVICE.database`, which override these. `here` says that the service runs in
    /// this process, so that the keys are in force.
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
        let places = Databases::take(PathBuf::from("data"), &mut settings);
        let take = |service: &str, settings: &mut Settings| places.of_service(service, true, settings);
        let databases = ["catalog", "other"].map(|service| (service.to_owned(), take(service, &mut settings)));
        Database::refuse_shared(&databases.into(), &mut settings);
        let Err(Error::Invalid(problems)) = settings.finish() else { panic!() };
        assert!(problems[0].to_string().contains("owns its data"), "{problems:?}");
    }

    #[test]
    fn database_url_is_never_shown() {
        for (key, url) in [
            ("services.catalog.database_url", "postgres://me:hush@host/one"),
            ("database.url", "postgres://me:hush@host/{service}"),
            ("database.url", "postgres://me:hush@host/one"),
        ] {
            let mut settings = Settings::default();
            settings.set(key, url, Source::Flag("--set".to_owned()));
            let places = Databases::take(PathBuf::from("data"), &mut settings);
            let database = places.of_service("catalog", true, &mut settings);
            assert!(!format!("{database:?}").contains("hush"));
            let shown = match settings.finish() {
                Ok(listing) => listing.to_string(),
                Err(Error::Invalid(problems)) => problems[0].to_string(),
                Err(other) => panic!("{other:?}"),
            };
            assert!(!shown.contains("hush") && shown.contains(key), "{shown}");
        }
    }

    #[test]
    fn url_of_all_services_names_each_one() {
        let take = |url: &str, own: Option<&str>| {
            let mut settings = Settings::default();
            settings.set("database.url", url, Source::Flag("--set".to_owned()));
            if let Some(own) = own {
                settings.set("services.catalog.database_url", own, Source::Flag("--set".to_owned()));
            }
            let places = Databases::take(PathBuf::from("data"), &mut settings);
            (places.of_service("catalog", true, &mut settings), settings.finish().map(|listing| listing.to_string()))
        };
        let (database, listing) = take("sqlite:///srv/{service}.db", None);
        assert_eq!(database, Database::Sqlite("/srv/catalog.db".into()));
        assert!(listing.unwrap().contains("# services.catalog.database_url is set, and secret"));
        let (database, _) = take("postgres://mesh@host/{service}", None);
        assert!(matches!(database, Database::Postgres(url) if url.contains("/catalog")));
        let (database, _) = take("postgres://mesh@host/{service}", Some("sqlite://own.db"));
        assert_eq!(database, Database::Sqlite("own.db".into()));
        for wrong in ["postgres://mesh@host/one", "mysql://host/{service}", "", "sqlite://{service}.db?mode=memory"] {
            let Err(Error::Invalid(problems)) = take(wrong, None).1 else { panic!("{wrong} is taken") };
            assert!(problems[0].to_string().contains("{service}"), "{problems:?}");
        }
    }
}
