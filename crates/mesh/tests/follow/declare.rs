//! What a process refuses to start with.

use mesh::events::{Applying, Follow};
use mesh::{Config, Error, Migration, Process, Service};

use crate::fixture::CONTRACTS;
use crate::things::Thing;

/// A follower of the things that does nothing.
struct Blind;

impl Follow for Blind {
    const SOURCE: &'static str = "things";
    type Event = Thing;

    async fn apply(&self, _: &mut Applying<'_>, _: Thing) -> Result<(), Error> {
        Ok(())
    }

    async fn sweep(&self, _: &mut Applying<'_>, _: i64) -> Result<(), Error> {
        Ok(())
    }
}

const NOTES: &[Migration] = &[Migration::new(1, "notes", "CREATE TABLE notes (id BIGINT NOT NULL PRIMARY KEY);")];

async fn refused(service: Service) -> String {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::from(service);
    let data_dir = format!("--data-dir={}", folder.path().display());
    let arguments = ["test", "--listen=127.0.0.1:0", "--set=registry=local", &data_dir].map(Into::into);
    let config = Config::load(&process, arguments, []).unwrap();
    mesh::start(process, &config).await.err().unwrap().to_string()
}

#[tokio::test]
async fn process_refuses_followers_and_declared_calls_that_cannot_be() {
    let twice = Service::new("shelf", &[]).owns(NOTES).follows(|_| Blind).follows(|_| Blind);
    assert_eq!(refused(twice).await, "`shelf` follows `things` twice: join the two followers");
    let itself = Service::new("things", &[]).owns(NOTES).follows(|_| Blind);
    assert_eq!(refused(itself).await, "`things` follows itself: write in the transaction that publishes");
    let declared = |methods| Service::new("shelf", &CONTRACTS).calls("things.v1.Things", methods);
    assert_eq!(
        refused(declared(&["Mak"])).await,
        "`shelf` declares things.v1.Things/Mak, and there is no such method: expected one of Drop, Has, Make"
    );
    assert_eq!(refused(declared(&["Make", "Make"])).await, "`shelf` declares things.v1.Things/Make of `things` twice");
    let nowhere = Service::new("shelf", &[]).follows(|_| Blind);
    assert_eq!(
        refused(nowhere).await,
        "`shelf` follows `things` and has no database: declare its copy with Service::owns"
    );
}
