//! Finds out who makes a call, and refuses the call if that caller may not make it.

use std::future::pending;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request};
use mesh_runtime::Tasks;
use mesh_token::Tokens;
use mesh_token::tokens::SKEW;
use tokio::time::sleep;
use tonic::Status;

use super::denials::Denials;
use super::denied::Denied;
use super::intentions::Intended;
use super::intentions::Intentions;
use super::passports::{self, Passports};
use super::rules::{decide, is_for_all};
use super::settings::{Mode, Settings};
use crate::call::{Call, Caller, Connection, Method};
use crate::telemetry::Metrics;

/// The gate that every call passes. Cheap to clone.
#[derive(Clone)]
pub struct Gate(Option<Arc<Required>>);

struct Required {
    tokens: Option<Tokens>,
    passports: Option<Passports>,
    shows_contracts: bool,
    intentions: Option<Intentions>,
    denials: Denials,
}

/// Who makes a call.
struct Known {
    caller: Caller,
    /// Whether a process passes on the call of nobody.
    passed_on: bool,
}

/// How long a stream may last.
pub(crate) struct Lasts {
    until: Option<SystemTime>,
    intended: Option<(Intentions, Intended)>,
}

impl Lasts {
    /// Waits until the stream has to end; the status says why.
    pub(crate) async fn over(self) -> Status {
        let expired = async {
            match self.until {
                Some(until) => sleep(until.duration_since(SystemTime::now()).unwrap_or_default()).await,
                None => pending().await,
            }
        };
        let revoked = async {
            match &self.intended {
                Some((intentions, intended)) => intentions.revoked(intended).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = expired => Denied::TokenExpired.status(),
            () = revoked => Denied::CallerNotAllowed.status(),
        }
    }
}

impl Gate {
    /// A gate that asks for what the settings say. `passports` are those of this process, if it has a certificate.
    pub fn new(settings: &Settings, passports: Option<Passports>, metrics: Metrics) -> Self {
        let (tokens, shows_contracts) = (settings.tokens.clone(), settings.shows_contracts);
        let intentions = settings.intentions.clone();
        let required = || {
            if let Some(tokens) = &tokens {
                metrics.issuers(tokens.clone());
            }
            let denials = Denials::new(metrics);
            Required { tokens, passports, shows_contracts, intentions, denials }
        };
        Self((settings.mode == Mode::Required).then(|| Arc::new(required())))
    }

    /// Asks nobody.
    pub fn open() -> Self {
        Self(None)
    }

    /// Keeps what it knows up to date, in `tasks`: the keys of issuers, and the file of intentions.
    pub fn keep_fresh(&self, tasks: &Tasks) {
        let Some(required) = &self.0 else { return };
        if let Some(intentions) = required.intentions.clone() {
            tasks.run(intentions.renew());
        }
        if let Some(tokens) = required.tokens.clone() {
            tasks.run(tokens.keep_fresh());
        }
    }

    /// Checks who would make a call with these headers, for a listener that reads the body before it makes the call.
    ///
    /// # Errors
    ///
    /// Those that the call would have for its caller.
    pub async fn check(
        &self,
        method: &'static Method,
        connection: &Connection,
        headers: &HeaderMap,
    ) -> Result<(), Status> {
        if self.0.is_none() {
            return Ok(());
        }
        let mut request = Request::new(());
        *request.headers_mut() = headers.clone();
        self.admit(&mut Call::new(method, Some(connection.clone()), request)).await.map(drop)
    }

    /// Sets the caller of a call, and returns how long a stream of it may last; `None`: as long as it likes.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED, PERMISSION_DENIED or, if the keys of an issuer or the intentions are not known, UNAVAILABLE.
    pub(crate) async fn admit<B>(&self, call: &mut Call<B>) -> Result<Option<Lasts>, Status> {
        let Some(required) = self.0.as_ref().filter(|_| !is_for_all(call.method)) else {
            // What a peer says of its caller is for processes that ask.
            call.request.headers_mut().remove(passports::HEADER);
            return Ok(None);
        };
        let known = required.authenticate(call).await;
        let caller = known.as_ref().map(|known| known.caller.clone()).unwrap_or_default();
        let decided = known.and_then(|known| required.decide(call, &known));
        if let Err(denied) = decided {
            required.denials.note(&denied, call.method, &caller, call.service());
            return Err(denied.status());
        }
        let until = caller.as_user().map(|user| user.until + SKEW);
        let intended = required.intentions.clone().zip(call.service());
        let intended = intended.map(|(intentions, service)| (intentions, Intended::of(call, service)));
        call.context.caller = caller;
        Ok((until.is_some() || intended.is_some()).then_some(Lasts { until, intended }))
    }
}

impl Required {
    /// Who makes a call. Its headers no longer say it.
    async fn authenticate<B>(&self, call: &mut Call<B>) -> Result<Known, Denied> {
        let headers = call.request.headers_mut();
        let (passport, token) = (headers.remove(passports::HEADER), token(headers));
        headers.remove(AUTHORIZATION);
        let Some(connection) = &call.connection else {
            let caller = in_memory(&call.context.caller, call.service());
            return in_time(caller).map(|caller| Known { caller, passed_on: false });
        };
        let passed_on = passport.as_ref().is_some_and(|passport| passport == passports::NOBODY);
        let caller = match (connection.service(), passport, token?) {
            (Some(_), Some(_), _) if passed_on => Caller::default(),
            (Some(service), Some(passport), _) => in_time(self.vouched(&passport, service)?)?,
            (_, _, Some(token)) => self.user(&token).await?,
            (Some(service), None, None) => Caller::service(service),
            (None, _, None) => Caller::default(),
        };
        Ok(Known { caller, passed_on: passed_on && connection.service().is_some() })
    }

    fn decide<B>(&self, call: &Call<B>, known: &Known) -> Result<(), Denied> {
        let service = call.service();
        if let (Some(service), Some(intentions)) = (service, &self.intentions)
            && !intentions.allow(&Intended::of(call, service))
        {
            return Err(intentions.missing().map_or(Denied::CallerNotAllowed, Denied::IntentionsUnavailable));
        }
        // A gateway lends its identity to nobody.
        let service = service.filter(|_| !known.passed_on);
        decide(call.method, &known.caller, service, self.shows_contracts)
    }

    /// The user of a token.
    async fn user(&self, token: &str) -> Result<Caller, Denied> {
        let none = || Denied::TokenInvalid("auth.issuers names no issuer".to_owned());
        let tokens = self.tokens.as_ref().ok_or_else(none)?;
        Ok(Caller::user(tokens.check(token).await.map_err(Denied::from)?))
    }

    /// The caller that another process vouches for.
    fn vouched(&self, passport: &HeaderValue, service: &str) -> Result<Caller, Denied> {
        let own = "this process has no certificates to check a passport with".to_owned();
        let passports = self.passports.as_ref().ok_or(Denied::TokenInvalid(own))?;
        passports.read(passport).map_err(|why| match Denied::from(why) {
            Denied::TokenInvalid(why) => Denied::TokenInvalid(format!("of the passport from {service}: {why}")),
            other => other,
        })
    }
}

/// The caller of a call in memory: the user for whom the service works, or the service.
fn in_memory(caller: &Caller, service: Option<&str>) -> Caller {
    match caller.as_user() {
        Some(_) => caller.clone(),
        None => service.map(Caller::service).unwrap_or_default(),
    }
}

/// A caller whose token has not expired since it was checked.
fn in_time(caller: Caller) -> Result<Caller, Denied> {
    let is_over = caller.as_user().is_some_and(|user| user.until + SKEW <= SystemTime::now());
    if is_over { Err(Denied::TokenExpired) } else { Ok(caller) }
}

/// The bearer token of a call ([RFC 6750](https://www.rfc-editor.org/rfc/rfc6750#section-2.1)), if it has one.
fn token(headers: &HeaderMap) -> Result<Option<String>, Denied> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Denied::TokenInvalid("the header authorization is there more than once".to_owned()));
    }
    let token = value.to_str().ok().and_then(|value| value.split_once(' '));
    let token = token.filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty());
    token.map(|(_, token)| Some(token.trim().to_owned())).ok_or(Denied::NotBearer)
}
