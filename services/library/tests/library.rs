//! Calls library with its typed client, beside a catalog that only publishes and a billing that keeps its charges in
//! memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contracts::billing::v1::billing_service_server::{BillingService, BillingServiceServer};
use contracts::billing::v1::{self as billing, *};
use contracts::catalog::v1 as catalog;
use contracts::google::longrunning::operation::Result as Done;
use contracts::google::longrunning::{CancelOperationRequest, Operation, operations_client::OperationsClient};
use contracts::library::v1::library_service_client::LibraryServiceClient;
use contracts::library::v1::*;
use futures_util::future::join_all;
use mesh::client::watch_until_done;
use mesh::events::Publish as _;
use mesh::testing::{Mesh, as_user, bounds};
use mesh::{Channel, Service, Store, error};
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc};
use tonic::{Code, Request, Response, Status, async_trait};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// In the place of billing: charges by their request_id; `None` is a refund.
#[derive(Clone)]
struct FakeBilling {
    charges: Arc<Mutex<HashMap<String, Option<i64>>>>,
    /// A charge waits for a permit, and keeps it.
    permits: Arc<Semaphore>,
}

#[async_trait]
impl BillingService for FakeBilling {
    async fn charge(&self, request: Request<ChargeRequest>) -> Result<Response<ChargeResponse>, Status> {
        let request = request.into_inner();
        let permit = self.permits.acquire().await.map_err(|_| Status::unavailable("closed"))?;
        permit.forget();
        if request.card == "test-declined" {
            return Err(error::status(Code::FailedPrecondition, "billing", "CARD_DECLINED", "declined"));
        }
        let mut charges = self.charges.lock().expect("no panic");
        match charges.entry(request.request_id).or_insert(Some(request.amount_cents)) {
            Some(_) => Ok(Response::new(ChargeResponse::default())),
            None => Err(error::status(Code::FailedPrecondition, "billing", "CHARGE_VOIDED", "refunded")),
        }
    }

    async fn refund(&self, request: Request<RefundRequest>) -> Result<Response<RefundResponse>, Status> {
        self.charges.lock().expect("no panic").insert(request.into_inner().request_id, None);
        Ok(Response::new(RefundResponse::default()))
    }

    async fn get_charge(&self, _: Request<GetChargeRequest>) -> Result<Response<GetChargeResponse>, Status> {
        Err(Status::unimplemented("library does not call it"))
    }
}

/// A mesh with library, and a client in memory.
struct Library {
    mesh: Mesh,
    client: LibraryServiceClient<Channel>,
    /// Of the catalog.
    titles: Store,
    billing: FakeBilling,
}

impl Library {
    async fn start() -> Self {
        let (sender, mut opened) = mpsc::unbounded_channel();
        let catalog = Service::new("catalog", contracts::FILE_DESCRIPTOR_SET).publishes(move |store: Store, _, _| {
            let _ = sender.send(store);
            async { Ok(Vec::<catalog::Event>::new()) }
        });
        let permits = Arc::new(Semaphore::new(1000));
        let billing = FakeBilling { charges: Arc::default(), permits };
        let fake = billing.clone();
        let publisher = Service::new("billing", contracts::FILE_DESCRIPTOR_SET)
            .publishes(|_, _, _| async { Ok(Vec::<billing::Event>::new()) })
            .serves(move |_| BillingServiceServer::new(fake));
        let mesh = Mesh::start([library::service(), catalog, publisher]).await;
        let client = LibraryServiceClient::new(mesh.channel("library"));
        Self { mesh, client, titles: opened.recv().await.expect("a follower"), billing }
    }

    /// Publishes an event of the catalog.
    async fn publish(&self, event: impl mesh::events::Event) {
        let mut tx = self.titles.begin().await.expect("a database");
        tx.publish(&event).expect("an event of the catalog");
        tx.commit().await.expect("a database");
    }

    /// Adds a title, and waits until the copy has it.
    async fn add(&self, price_cents: i64) -> String {
        let title = title("Metropolis", price_cents, 1);
        let title_id = title.title_id.clone();
        self.publish(catalog::TitleAdded { title: Some(title) }).await;
        self.until(&title_id, Ok(("Metropolis".to_owned(), price_cents, 1))).await;
        title_id
    }

    /// Waits until the copy has a title: its name, price and revision.
    async fn until(&self, title_id: &str, expected: Result<(String, i64, i64), String>) {
        let start = Instant::now();
        loop {
            let request = GetTitleRequest { title_id: title_id.to_owned() };
            let found = self.client.clone().get_title(request).await;
            let found =
                found.map(|found| found.into_inner().title.expect("a title")).map_err(|status| reason(&status).1);
            let found = found.map(|title| (title.name, title.price_cents, title.revision));
            if found == expected {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{found:?} is not {expected:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn start_rent(&self, request: &RentTitleRequest) -> Result<Operation, Status> {
        Ok(self.client.clone().rent_title(request.clone()).await?.into_inner())
    }

    /// The end of a rental.
    async fn rent(&self, request: &RentTitleRequest) -> Result<Rental, (Code, String)> {
        let operation = self.start_rent(request).await.map_err(|status| reason(&status))?;
        self.end(&operation.name).await
    }

    async fn end(&self, name: &str) -> Result<Rental, (Code, String)> {
        let done = watch_until_done(self.mesh.channel("library"), name, |_| ()).await.expect("an operation");
        match done.result.expect("an end") {
            Done::Response(response) => {
                let response: RentTitleResponse = response.to_msg().expect("a response");
                Ok(response.rental.expect("a rental"))
            }
            Done::Error(error) => {
                Err(reason(&Status::with_details(error.code.into(), "", error.encode_to_vec().into())))
            }
        }
    }

    async fn rentals(&self, viewer_id: &str) -> Vec<Rental> {
        let request = ListRentalsRequest { viewer_id: viewer_id.to_owned(), ..ListRentalsRequest::default() };
        self.client.clone().list_rentals(request).await.expect("an answer").into_inner().rentals
    }

    fn charges(&self) -> Vec<Option<i64>> {
        self.billing.charges.lock().expect("no panic").values().copied().collect()
    }
}

/// A request of a viewer of its own.
fn request(title_id: &str, expected_price_cents: i64, card: &str) -> RentTitleRequest {
    let [request_id, viewer_id] = [(); 2].map(|()| Uuid::new_v4().to_string());
    RentTitleRequest {
        request_id,
        viewer_id,
        title_id: title_id.to_owned(),
        expected_price_cents,
        card: card.to_owned(),
    }
}

fn title(name: &str, price_cents: i64, revision: i64) -> catalog::Title {
    let title_id = Uuid::now_v7().to_string();
    catalog::Title { title_id, name: name.to_owned(), price_cents, revision, ..catalog::Title::default() }
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_error_details().error_info().expect("a reason").reason.clone())
}

fn failed<T>(code: Code, reason: &str) -> Result<T, (Code, String)> {
    Err((code, reason.to_owned()))
}

#[tokio::test]
async fn rent_title_reserves_charges_once_and_grants() {
    let library = Library::start().await;
    let request = request(&library.add(399).await, 399, "");
    let permits = library.billing.permits.forget_permits(1000);
    let started = library.start_rent(&request).await.unwrap();
    // The viewer is about to have the title.
    let start = Instant::now();
    let reserved = loop {
        match library.rentals(&request.viewer_id).await.pop() {
            Some(rental) => break rental,
            None => assert!(start.elapsed() < Duration::from_secs(30)),
        }
    };
    assert_eq!((reserved.state(), reserved.price_cents), (RentalState::Reserved, 399));
    let second = RentTitleRequest { request_id: Uuid::new_v4().to_string(), ..request.clone() };
    let refused = library.start_rent(&second).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::AlreadyExists, "ALREADY_RENTED".to_owned()));
    assert_eq!(refused.get_error_details().error_info().unwrap().metadata["operation"], started.name);
    assert_eq!(reserved.operation, started.name);

    library.billing.permits.add_permits(permits);
    let granted = library.end(&started.name).await.unwrap();
    assert_eq!((granted.state(), &granted.rental_id), (RentalState::Granted, &reserved.rental_id));
    assert_eq!(library.charges(), [Some(399)]);
    assert_eq!(library.rentals(&request.viewer_id).await, std::slice::from_ref(&granted));
    let get = GetRentalRequest { rental_id: granted.rental_id.to_uppercase() };
    assert_eq!(library.client.clone().get_rental(get).await.unwrap().into_inner().rental, Some(granted));
    // The same request is the same operation, and another one is still refused.
    let capitals = RentTitleRequest { title_id: request.title_id.to_uppercase(), ..request };
    assert_eq!(library.start_rent(&capitals).await.unwrap().name, started.name);
    assert_eq!(library.rent(&second).await, failed(Code::AlreadyExists, "ALREADY_RENTED"));
}

#[tokio::test]
async fn rent_title_with_a_declined_card_leaves_the_title_free() {
    let library = Library::start().await;
    let request = request(&library.add(399).await, 399, "test-declined");
    assert_eq!(library.rent(&request).await, failed(Code::FailedPrecondition, "CARD_DECLINED"));
    assert_eq!(library.rentals(&request.viewer_id).await[0].state(), RentalState::Released);
    assert!(!library.charges().iter().any(Option::is_some));

    let again = RentTitleRequest { request_id: Uuid::new_v4().to_string(), card: "test".to_owned(), ..request };
    assert_eq!(library.rent(&again).await.unwrap().state(), RentalState::Granted);
    assert_eq!(library.charges().into_iter().flatten().collect::<Vec<_>>(), [399]);
}

#[tokio::test]
async fn rent_title_cancelled_while_charging_is_released() {
    let library = Library::start().await;
    let request = request(&library.add(399).await, 399, "");
    library.billing.permits.forget_permits(1000);
    let name = library.start_rent(&request).await.unwrap().name;
    let start = Instant::now();
    while library.rentals(&request.viewer_id).await.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    let cancel = CancelOperationRequest { name: name.clone() };
    OperationsClient::new(library.mesh.channel("library")).cancel_operation(cancel).await.unwrap();
    assert_eq!(library.end(&name).await, failed(Code::Cancelled, "OPERATION_CANCELLED"));
    assert_eq!(library.rentals(&request.viewer_id).await[0].state(), RentalState::Released);
    assert_eq!(library.charges().into_iter().flatten().count(), 0);
}

#[tokio::test]
async fn rent_title_that_costs_nothing_is_not_charged() {
    let library = Library::start().await;
    let request = request(&library.add(0).await, 0, "");
    assert_eq!(library.rent(&request).await.unwrap().state(), RentalState::Granted);
    assert_eq!(library.charges(), []);
}

#[tokio::test]
async fn rent_title_at_once_by_one_viewer_grants_one_rental() {
    let library = Library::start().await;
    let first = request(&library.add(399).await, 399, "");
    let others = [(); 7].map(|()| RentTitleRequest { request_id: Uuid::new_v4().to_string(), ..first.clone() });
    let ends = join_all(std::iter::once(&first).chain(&others).map(|request| library.rent(request))).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1, "{ends:?}");
    let refused = failed(Code::AlreadyExists, "ALREADY_RENTED");
    assert_eq!(ends.iter().filter(|end| **end == refused).count(), 7, "{ends:?}");
    assert_eq!(library.charges(), [Some(399)]);
}

#[tokio::test]
async fn bad_requests_name_every_field_and_what_the_viewer_can_mend() {
    let library = Library::start().await;
    let bad = RentTitleRequest { card: "\n".to_owned(), expected_price_cents: -1, ..RentTitleRequest::default() };
    let bad = library.start_rent(&bad).await.unwrap_err();
    let fields = bad.get_error_details().bad_request().unwrap().field_violations.clone();
    let fields: Vec<_> = fields.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["request_id", "title_id", "viewer_id", "expected_price_cents", "card"]);

    let title_id = library.add(399).await;
    let unknown = library.start_rent(&request(&Uuid::new_v4().to_string(), 399, "")).await.unwrap_err();
    assert_eq!(reason(&unknown), (Code::NotFound, "TITLE_NOT_FOUND".to_owned()));
    let changed = library.start_rent(&request(&title_id, 398, "")).await.unwrap_err();
    assert_eq!(reason(&changed), (Code::FailedPrecondition, "PRICE_CHANGED".to_owned()));
    assert_eq!(changed.get_error_details().error_info().unwrap().metadata["price_cents"], "399");
    let get = GetRentalRequest { rental_id: Uuid::new_v4().to_string() };
    let absent = library.client.clone().get_rental(get).await.unwrap_err();
    assert_eq!(reason(&absent), (Code::NotFound, "RENTAL_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn viewer_of_a_user_is_that_user() {
    let library = Library::start().await;
    let rent = RentTitleRequest { viewer_id: String::new(), ..request(&library.add(399).await, 399, "") };
    let name = as_user("alice", &[], library.start_rent(&rent)).await.unwrap().name;
    // The same request, with the viewer.
    let named = RentTitleRequest { viewer_id: "alice".to_owned(), ..rent.clone() };
    assert_eq!(as_user("alice", &[], library.start_rent(&named)).await.unwrap().name, name);
    let rental = as_user("alice", &[], library.end(&name)).await.unwrap();
    assert_eq!(rental.viewer_id, "alice");

    let refused = || failed(Code::PermissionDenied, "VIEWER_NOT_CALLER");
    let client = || library.client.clone();
    let rented = as_user("bob", &[], library.start_rent(&named)).await;
    assert_eq!(rented.map(drop).map_err(|status| reason(&status)), refused());
    let list = ListRentalsRequest { viewer_id: "alice".to_owned(), ..ListRentalsRequest::default() };
    let listed = as_user("bob", &[], client().list_rentals(list.clone())).await;
    assert_eq!(listed.map(drop).map_err(|status| reason(&status)), refused());
    let title_ids = vec![rental.title_id.clone()];
    let current = ListCurrentRentalsRequest { viewer_id: "alice".to_owned(), title_ids };
    let listed = as_user("bob", &[], client().list_current_rentals(current.clone())).await;
    assert_eq!(listed.map(drop).map_err(|status| reason(&status)), refused());

    let get = GetRentalRequest { rental_id: rental.rental_id.clone() };
    let got = as_user("bob", &[], client().get_rental(get.clone())).await;
    assert_eq!(got.map(drop).map_err(|status| reason(&status)), failed(Code::NotFound, "RENTAL_NOT_FOUND"));
    for (user, scopes) in [("alice", &[][..]), ("olga", &["mesh.operator"])] {
        let got = as_user(user, scopes, client().get_rental(get.clone())).await.unwrap().into_inner();
        assert_eq!(got.rental.as_ref(), Some(&rental), "{user}");
        let listed = as_user(user, scopes, client().list_rentals(list.clone())).await.unwrap().into_inner();
        assert_eq!(listed.rentals, std::slice::from_ref(&rental), "{user}");
        let listed = as_user(user, scopes, client().list_current_rentals(current.clone())).await.unwrap();
        assert_eq!(listed.into_inner().rentals, std::slice::from_ref(&rental), "{user}");
    }
    let own = as_user("bob", &[], client().list_rentals(ListRentalsRequest::default())).await.unwrap();
    assert_eq!(own.into_inner().rentals, []);
}

#[tokio::test]
async fn copy_follows_changes_and_removals_and_lists_titles() {
    let library = Library::start().await;
    let (first, second) = (library.add(1).await, library.add(2).await);
    let title = catalog::Title { title_id: first.clone(), ..title("M", 3, 2) };
    library.publish(catalog::TitleChanged { title: Some(title.clone()) }).await;
    library.until(&first, Ok(("M".to_owned(), 3, 2))).await;
    // Behind a snapshot, an event may be older than the row.
    library.publish(catalog::TitleChanged { title: Some(catalog::Title { revision: 1, ..title.clone() }) }).await;
    let list = |page_size, page_token| {
        let mut client = library.client.clone();
        async move {
            let request = ListTitlesRequest { page_size, page_token };
            client.list_titles(request).await.unwrap().into_inner()
        }
    };
    let page = list(1, String::new()).await;
    let next = list(1, page.next_page_token.clone()).await;
    assert_eq!([&*page.titles[0].title_id, &*next.titles[0].title_id, &*next.next_page_token], [&*first, &*second, ""]);

    library.publish(catalog::TitleRemoved { title: Some(title) }).await;
    library.until(&first, Err("TITLE_NOT_FOUND".to_owned())).await;
    library.until(&second, Ok(("Metropolis".to_owned(), 2, 1))).await;
}

#[tokio::test]
async fn calls_that_read_the_copy_are_unavailable_until_it_is_complete() {
    let mesh = Mesh::start(library::service()).await;
    let mut client = LibraryServiceClient::new(mesh.channel("library"));
    let title_id = Uuid::new_v4().to_string();
    let incomplete = (Code::Unavailable, "COPY_INCOMPLETE".to_owned());
    let rent = client.rent_title(request(&title_id, 1, "")).await.unwrap_err();
    assert_eq!(reason(&rent), incomplete);
    let get = client.get_title(GetTitleRequest { title_id }).await.unwrap_err();
    assert_eq!(reason(&get), incomplete);
    let list = client.list_titles(ListTitlesRequest::default()).await.unwrap_err();
    assert_eq!(reason(&list), incomplete);
}

#[tokio::test]
async fn bounds_of_the_contract_are_those_of_the_service() {
    let library = Library::start().await;
    let (set, client) = (contracts::FILE_DESCRIPTOR_SET, &library.client);
    let rent = request(&library.add(1).await, 1, "card");
    // An operator may name a viewer or not.
    let operator = &["mesh.operator"];
    bounds(set, &rent, &[], async |request| as_user("olga", operator, client.clone().rent_title(request)).await).await;
    let get = GetRentalRequest { rental_id: Uuid::new_v4().to_string() };
    bounds(set, &get, &[], async |request| client.clone().get_rental(request).await).await;
    let list = ListRentalsRequest { viewer_id: "a".to_owned(), ..ListRentalsRequest::default() };
    let call = async |request| as_user("olga", operator, client.clone().list_rentals(request)).await;
    bounds(set, &list, &["page_token"], call).await;
    let title_ids = vec![rent.title_id.clone()];
    let current = ListCurrentRentalsRequest { viewer_id: "a".to_owned(), title_ids };
    let call = async |request| as_user("olga", operator, client.clone().list_current_rentals(request)).await;
    bounds(set, &current, &[], call).await;
    let get = GetTitleRequest { title_id: rent.title_id };
    bounds(set, &get, &[], async |request| client.clone().get_title(request).await).await;
    let list = ListTitlesRequest::default();
    bounds(set, &list, &["page_token"], async |request| client.clone().list_titles(request).await).await;
}
