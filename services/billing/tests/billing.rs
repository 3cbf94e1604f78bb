//! Calls billing with its typed client, over the network and in memory.

use contracts::billing::v1::billing_service_client::BillingServiceClient;
use contracts::billing::v1::{
    Charge, ChargeMade, ChargeRefunded, ChargeRequest, ChargeState, Event, GetChargeRequest, RefundRequest,
};
use contracts::mesh::events::v1::events_service_client::EventsServiceClient;
use contracts::mesh::events::v1::subscribe_response::Frame;
use contracts::mesh::events::v1::{SubscribeRequest, SubscribeResponse};
use mesh::Channel;
use mesh::events::Events as _;
use mesh::testing::{Mesh, bounds};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// A mesh with billing, and a client in memory.
struct Billing {
    mesh: Mesh,
    client: BillingServiceClient<Channel>,
}

impl Billing {
    async fn start() -> Self {
        let mesh = Mesh::start(billing::service()).await;
        let client = BillingServiceClient::new(mesh.channel("billing"));
        Self { mesh, client }
    }

    async fn charge(&self, request: &ChargeRequest) -> Result<Charge, (Code, String)> {
        let charged = self.client.clone().charge(request.clone()).await;
        charged.map(|response| response.into_inner().charge.expect("a charge")).map_err(reason)
    }

    async fn refund(&self, request_id: &str) -> ChargeState {
        let request = RefundRequest { request_id: request_id.to_owned() };
        self.client.clone().refund(request).await.expect("an answer").into_inner().charge.expect("a charge").state()
    }

    async fn get(&self, charge_id: &str) -> Result<Charge, (Code, String)> {
        let request = GetChargeRequest { charge_id: charge_id.to_owned() };
        let found = self.client.clone().get_charge(request).await;
        found.map(|response| response.into_inner().charge.expect("a charge")).map_err(reason)
    }
}

fn reason(status: Status) -> (Code, String) {
    (status.code(), status.get_error_details().error_info().expect("a reason").reason.clone())
}

fn failed<T>(reason: &str) -> Result<T, (Code, String)> {
    Err((Code::FailedPrecondition, reason.to_owned()))
}

fn request(card: &str) -> ChargeRequest {
    ChargeRequest { request_id: Uuid::new_v4().to_string(), card: card.to_owned(), amount_cents: 399 }
}

#[tokio::test]
async fn charge_repeated_charges_once_and_another_request_is_refused() {
    let billing = Billing::start().await;
    let request = request("card");
    let charged = billing.charge(&request).await.unwrap();
    assert_eq!((charged.state(), &charged.charge_id), (ChargeState::Charged, &request.request_id));
    let mut far = BillingServiceClient::connect(billing.mesh.url()).await.unwrap();
    let capitals = ChargeRequest { request_id: request.request_id.to_uppercase(), ..request.clone() };
    assert_eq!(far.charge(capitals).await.unwrap().into_inner().charge, Some(charged.clone()), "the same request");
    assert_eq!(billing.get(&request.request_id).await, Ok(charged));

    let reused = Err((Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()));
    assert_eq!(billing.charge(&ChargeRequest { amount_cents: 400, ..request.clone() }).await, reused);
    assert_eq!(billing.charge(&ChargeRequest { card: "other".to_owned(), ..request }).await, reused);
}

#[tokio::test]
async fn refund_is_ok_whatever_the_charge_is_and_no_charge_follows_it() {
    let billing = Billing::start().await;
    let [charged, declined, late] = [request("card"), request("test-declined"), request("card")];
    billing.charge(&charged).await.unwrap();
    assert_eq!(billing.charge(&declined).await, failed("CARD_DECLINED"));
    assert_eq!(billing.charge(&declined).await, failed("CARD_DECLINED"), "a repeat");
    // Twice: a repeat changes nothing.
    for _ in 0..2 {
        assert_eq!(billing.refund(&charged.request_id).await, ChargeState::Refunded);
        assert_eq!(billing.refund(&declined.request_id).await, ChargeState::Declined);
        assert_eq!(billing.refund(&late.request_id).await, ChargeState::Voided);
    }
    assert_eq!(billing.charge(&charged).await, failed("CHARGE_VOIDED"));
    assert_eq!(billing.charge(&declined).await, failed("CARD_DECLINED"));
    assert_eq!(billing.charge(&late).await, failed("CHARGE_VOIDED"));
    let voided = billing.get(&late.request_id).await.unwrap();
    assert_eq!((voided.state(), voided.amount_cents), (ChargeState::Voided, 0));
}

#[tokio::test]
async fn charge_and_refund_at_once_leave_nothing_charged() {
    let billing = Billing::start().await;
    for _ in 0..100 {
        let request = request("card");
        let (charged, refunded) = tokio::join!(billing.charge(&request), billing.refund(&request.request_id));
        match refunded {
            ChargeState::Refunded => {}
            ChargeState::Voided => assert_eq!(charged, failed("CHARGE_VOIDED")),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn bad_requests_name_every_field_and_unknown_charges_are_not_found() {
    let billing = Billing::start().await;
    let bad = billing.client.clone().charge(ChargeRequest::default()).await.unwrap_err();
    let fields = bad.get_error_details().bad_request().unwrap().field_violations.clone();
    let fields: Vec<_> = fields.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!((bad.code(), &fields[..]), (Code::InvalidArgument, &["request_id", "card", "amount_cents"][..]));
    let invalid = (Code::InvalidArgument, "INVALID_FIELDS".to_owned());
    for amount_cents in [-1, 0, 1_000_001] {
        assert_eq!(billing.charge(&ChargeRequest { amount_cents, ..request("card") }).await, Err(invalid.clone()));
    }
    let absent = billing.get(&Uuid::new_v4().to_string()).await;
    assert_eq!(absent, Err((Code::NotFound, "CHARGE_NOT_FOUND".to_owned())));
}

#[tokio::test]
async fn bounds_of_the_contract_are_those_of_the_service() {
    let Billing { mesh: _mesh, client } = Billing::start().await;
    let set = contracts::FILE_DESCRIPTOR_SET;
    bounds(set, &request("card"), &[], async |request| client.clone().charge(request).await).await;
    let [request_id, charge_id] = [(); 2].map(|()| Uuid::new_v4().to_string());
    bounds(set, &RefundRequest { request_id }, &[], async |request| client.clone().refund(request).await).await;
    bounds(set, &GetChargeRequest { charge_id }, &[], async |request| client.clone().get_charge(request).await).await;
}

/// The next event of a stream, or row of its snapshot; `None` when it has caught up.
async fn next(frames: &mut Streaming<SubscribeResponse>) -> Option<Event> {
    let frame = frames.message().await.expect("a stream").expect("a message").frame.expect("a frame");
    match frame {
        Frame::Event(event) | Frame::Snapshot(event) => {
            Some(Event::decode(event.data.expect("data")).expect("an event"))
        }
        _ => None,
    }
}

#[tokio::test]
async fn charges_and_refunds_publish_one_event_each() {
    let billing = Billing::start().await;
    let follow = async || {
        let request = SubscribeRequest { source: "billing".to_owned(), ..SubscribeRequest::default() };
        let mut client = EventsServiceClient::new(billing.mesh.channel("billing"));
        client.subscribe(request).await.unwrap().into_inner()
    };
    let mut frames = follow().await;
    assert_eq!(next(&mut frames).await, None);
    let (made, declined) = (request("card"), request("test-declined"));
    let charge = billing.charge(&made).await.unwrap();
    billing.charge(&made).await.unwrap();
    billing.charge(&declined).await.unwrap_err();
    for request_id in [&made.request_id, &made.request_id, &declined.request_id, &Uuid::new_v4().to_string()] {
        billing.refund(request_id).await;
    }
    let refunded = ChargeRefunded { charge: Some(billing.get(&made.request_id).await.unwrap()) };
    let last = ChargeMade { charge: Some(billing.charge(&request("card")).await.unwrap()) };

    let made = ChargeMade { charge: Some(charge) };
    for expected in [made.into(), refunded.clone().into(), Event::from(last.clone())] {
        assert_eq!(next(&mut frames).await, Some(expected));
    }
    // A new reader gets what is left of them, and nothing of charges that were never made.
    let mut frames = follow().await;
    let present = [next(&mut frames).await, next(&mut frames).await, next(&mut frames).await];
    let expected = [Some(Event::from(refunded)), Some(last.into())];
    assert!(expected.iter().all(|event| present.contains(event)) && present[2].is_none(), "{present:?}");
}
