//! The keys that say where services keep what they own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::settings::{Origin, Settings};

/// Where a service keeps what it owns.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// An embedded database: a file that one process at a time may open.
    Sqlite(PathBuf),
    /// A Postgres that replicas may share, by its URL.
    Postgres(String),
}

/// Never shows a URL, which may hold a password.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.debug_tuple("Postgres").finish_non_exhaustive(),
        }
    }
}

const DATABASE: &str = "sqlite://path/to/file.db or postgres://user@host/database";

/// Reads `services.NAME.database_url`.
pub(super) fn take(service: &str, settings: &mut Settings) -> Option<Database> {
    settings.take(&format!("services.{service}.database_url"), DATABASE, parse_database)
}

/// A service owns its data: two of them in one database would soon read each other's tables.
pub(super) fn refuse_shared(databases: &BTreeMap<String, Database>, settings: &mut Settings) {
    let names: Vec<_> = databases.keys().collect();
    for (i, first) in names.iter().enumerate() {
        for second in &names[i + 1..] {
            if databases[*first] == databases[*second] {
                settings.problem(
                    format!("services.{second}.database_url"),
                    Origin::default(),
                    format!("is the database of `{first}`, too; a service owns its data: give each its own"),
                );
            }
        }
    }
}

fn parse_database(text: &str) -> Option<Database> {
    if let Some(path) = text.strip_prefix("sqlite://") {
        let plain = !path.is_empty() && !path.contains(['?', '#']) && !path.contains(":memory:");
        return plain.then(|| Database::Sqlite(path.into()));
    }
    let postgres = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let parses = text.parse::<sqlx::any::AnyConnectOptions>().is_ok_and(|options| options.database_url.has_host());
    (postgres && parses).then(|| Database::Postgres(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::Error;
    use super::super::tests::{both, catalog, load};

    #[test]
    fn two_services_cannot_own_one_database() {
        let url = "postgres://host/one";
        let environment =
            [("MESH__SERVICES__CATALOG__DATABASE_URL", url), ("MESH__SERVICES__OTHER__DATABASE_URL", url)];
        let Err(Error::Invalid(problems)) = load(both(), &[], &environment) else { panic!() };
        assert!(problems[0].to_string().contains("owns its data"), "{problems:?}");
    }

    #[test]
    fn debug_output_holds_no_password() {
        let environment = [("MESH__SERVICES__CATALOG__DATABASE_URL", "postgres://me:secret@host/one")];
        let config = load(catalog(), &[], &environment).unwrap();
        assert!(!format!("{config:?}").contains("secret"));
    }
}
