//! library is killed behind each commit of a rental: behind the begin of its charge, behind an answer that it never
//! got, behind the answer of the charge, and the same while it is undone. A rental is whole afterwards.
//!
//! Two kills at each place by default; SAGA_KILLS sets more. The tables of library and billing are the evidence.

use std::time::{Duration, Instant};

use contracts::catalog::v1::CreateTitleRequest;
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::google::longrunning::CancelOperationRequest;
use contracts::google::longrunning::operations_client::OperationsClient;
use contracts::library::v1::RentTitleRequest;
use contracts::library::v1::library_service_client::LibraryServiceClient;
use harness::{Process, Proxy, Session, eventually, uuid};
use sqlx::Row as _;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// The states of `charges.state`, `operations.state` and `rentals.state` that a whole rental ends with.
const CHARGED: i64 = 1;
const SUCCEEDED: i64 = 3;
const GRANTED: i64 = 2;
const RELEASED: i64 = 3;

/// Where library is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kill {
    /// Behind the commit that the charge begins; billing does not hear of it before the restart.
    ChargeBegun,
    /// Behind the commit of the charge at billing, whose answer library never reads.
    ChargeAnswerLost,
    /// Behind the commit of the answer, or of what follows it.
    Charged,
    /// Behind the commit that it is undone; billing does not hear of it before the restart.
    RefundBegun,
    /// Behind the commit of the refund, whose answer library never reads.
    RefundAnswerLost,
    /// Behind the commit that the charge is undone, or of what follows it.
    Refunded,
}

const KILLS: [Kill; 6] = [
    Kill::ChargeBegun,
    Kill::ChargeAnswerLost,
    Kill::Charged,
    Kill::RefundBegun,
    Kill::RefundAnswerLost,
    Kill::Refunded,
];

/// catalog, billing behind a network that stalls, and library, with the databases of the last two.
struct System {
    runtime: Runtime,
    _catalog: Process,
    _billing: Process,
    network: Proxy,
    library: Option<Process>,
    settings: Vec<(&'static str, String)>,
    charges: Session,
    rentals: Session,
    title_id: String,
}

fn channel(process: &Process) -> Channel {
    Endpoint::from_shared(format!("http://{}", process.address)).expect("an address").connect_lazy()
}

fn database(process: &Process, service: &str) -> Session {
    Session::open(&format!("sqlite://{}/data/{service}.db", process.folder.path().display()))
}

impl System {
    fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let [catalog, billing] = ["catalog", "billing"].map(|name| Process::start(name, &[]));
        let network = Proxy::to(billing.address);
        let mut settings = vec![("MESH__REGISTRY", "static".to_owned())];
        settings.push(("MESH__STATIC__CATALOG", catalog.address.to_string()));
        settings.push(("MESH__STATIC__BILLING", network.address.to_string()));
        let library = Process::start("library", &pairs(&settings));
        settings.push(("MESH__LISTEN", library.address.to_string()));
        let (charges, mut rentals) = (database(&billing, "billing"), database(&library, "library"));
        let title_id = runtime.block_on(async {
            let (request_id, name, synopsis) = (uuid(), "Metropolis".to_owned(), String::new());
            let title = CreateTitleRequest { request_id, name, year: 1927, price_cents: 399, synopsis };
            let created = CatalogServiceClient::new(channel(&catalog)).create_title(title).await;
            created.expect("a title").into_inner().title.expect("a title").title_id
        });
        eventually("the copy has the title", || (rentals.count("SELECT count(*) FROM titles") == 1).then_some(()));
        let (_catalog, _billing, library) = (catalog, billing, Some(library));
        Self { runtime, _catalog, _billing, network, library, settings, charges, rentals, title_id }
    }

    fn library(&self) -> &Process {
        self.library.as_ref().expect("it runs")
    }

    /// Starts a rental of a new viewer, and returns the id of its operation.
    fn rent(&self) -> String {
        let _context = self.runtime.enter();
        let mut client = LibraryServiceClient::new(channel(self.library()));
        let (title_id, card) = (self.title_id.clone(), "test".to_owned());
        let request =
            RentTitleRequest { request_id: uuid(), viewer_id: uuid(), title_id, expected_price_cents: 399, card };
        // The copy of titles may not be complete yet.
        let started = eventually("it starts", || match self.runtime.block_on(client.rent_title(request.clone())) {
            Err(status) if status.code() == Code::Unavailable => None,
            started => Some(started.expect("it starts").into_inner()),
        });
        started.name.rsplit('/').next().expect("an id").to_owned()
    }

    fn cancel(&self, id: &str) {
        let _context = self.runtime.enter();
        let mut client = OperationsClient::new(channel(self.library()));
        let name = format!("services/library/operations/{id}");
        self.runtime.block_on(client.cancel_operation(CancelOperationRequest { name })).expect("it is cancelled");
    }

    /// Waits until a query about the rental at library returns this number.
    fn until(&mut self, query: &str, expected: i64) {
        let rentals = &mut self.rentals;
        eventually(query, || (rentals.count(query) == expected).then_some(()));
    }

    fn charge(&mut self, id: &str) -> String {
        let query = format!("SELECT charge_id FROM rentals WHERE rental_id = '{id}'");
        self.rentals.rows(&query, |row| row.get(0)).pop().expect("a rental")
    }

    fn kill(&mut self) -> TempDir {
        self.library.take().expect("it runs").kill()
    }

    /// Waits until the charge has begun, on a network that carries nothing.
    fn begin_to_charge(&mut self) -> String {
        self.network.stall();
        let id = self.rent();
        self.until(&step(&id, "charge", BEGUN), 1);
        id
    }

    /// Starts a rental, and kills library at a place.
    fn rent_and_kill(&mut self, kill: Kill) -> (String, TempDir) {
        let id = self.begin_to_charge();
        match kill {
            Kill::ChargeBegun => return (id, self.kill()),
            Kill::ChargeAnswerLost => {
                let charges = (0..20).any(|_| self.is_unread(&id, "1"));
                assert!(charges, "billing gets no charge");
                return (id, self.kill());
            }
            Kill::Charged => {
                self.network.heal();
                self.until(&step(&id, "charge", DONE), 1);
                return (id, self.kill());
            }
            Kill::RefundBegun | Kill::RefundAnswerLost | Kill::Refunded => {}
        }
        self.cancel(&id);
        self.until(&format!("SELECT count(*) FROM operations WHERE id = '{id}' AND phase = {UNDO}"), 1);
        match kill {
            Kill::RefundAnswerLost => {
                let refunds = (0..20).any(|_| self.is_unread(&id, "2, 4"));
                assert!(refunds, "billing gets no refund");
            }
            Kill::Refunded => {
                self.network.heal();
                self.until(&step(&id, "charge", UNDONE), 1);
            }
            _ => {}
        }
        (id, self.kill())
    }

    /// Lets library stand still on a network that works; whether billing then has what it was about to send, by the
    /// states of the charge. It may not have sent it yet.
    fn is_unread(&mut self, id: &str, states: &str) -> bool {
        self.library().signal("STOP");
        self.network.heal();
        let query =
            format!("SELECT count(*) FROM charges WHERE charge_id = '{}' AND state IN ({states})", self.charge(id));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            if self.charges.count(&query) == 1 {
                return true;
            }
            self.pause(5);
        }
        self.network.stall();
        self.library().signal("CONT");
        self.pause(200);
        false
    }

    fn pause(&self, millis: u64) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(millis)).await });
    }

    /// Starts library again on a network that works, and waits until the rental is whole: granted and charged once, or
    /// released, and not charged or refunded.
    fn check(&mut self, kill: Kill, id: &str, folder: TempDir) {
        // What the killed process had sent, and the network has not carried, is lost.
        self.network.cut();
        self.network.heal();
        self.library = Some(Process::start_in(folder, "library", &pairs(&self.settings)));
        self.until(&format!("SELECT count(*) FROM operations WHERE id = '{id}' AND state >= 3"), 1);
        let charge = self.charge(id);
        let mut end = |query: &str| self.rentals.count(&format!("SELECT state FROM {query} = '{id}'"));
        let ends = [end("operations WHERE id"), end("rentals WHERE rental_id")];
        let charged = self.charges.numbers(&format!("SELECT state FROM charges WHERE charge_id = '{charge}'"));
        let granted = ends == [SUCCEEDED, GRANTED] && charged == [CHARGED];
        let nothing = ends[0] > SUCCEEDED && ends[1] == RELEASED && !charged.contains(&CHARGED);
        let forward = matches!(kill, Kill::ChargeBegun | Kill::ChargeAnswerLost | Kill::Charged);
        assert!(if forward { granted } else { nothing }, "{kill:?}: {ends:?}, charges {charged:?}");
        let made = format!("SELECT count(*) FROM events WHERE key = '{charge}' AND type = 'billing.v1.ChargeMade'");
        assert!(self.charges.count(&made) <= 1, "{kill:?}: it was charged twice");
    }
}

fn pairs<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// The states of `saga_steps.state`.
const BEGUN: i64 = 1;
const DONE: i64 = 2;
const UNDONE: i64 = 5;
/// The phase of an operation that undoes its steps.
const UNDO: i64 = 3;

/// A query that returns 1 once a step has got to this state.
fn step(id: &str, name: &str, state: i64) -> String {
    format!("SELECT count(*) FROM saga_steps WHERE operation = '{id}' AND name = '{name}' AND state = {state}")
}

#[test]
fn kill_behind_each_commit_of_a_rental_leaves_it_whole() {
    let each = std::env::var("SAGA_KILLS").map_or(2, |each| each.parse().expect("a number"));
    let mut system = System::start();
    for _ in 0..each {
        for kill in KILLS {
            let (id, folder) = system.rent_and_kill(kill);
            system.check(kill, &id, folder);
        }
    }
    let open = "SELECT count(*) FROM rentals WHERE state = 1";
    assert_eq!(system.rentals.count(open), 0, "none is reserved for ever");
    let granted = system.rentals.count("SELECT count(*) FROM rentals WHERE state = 2");
    assert_eq!(system.charges.count("SELECT count(*) FROM charges WHERE state = 1"), granted);
}
