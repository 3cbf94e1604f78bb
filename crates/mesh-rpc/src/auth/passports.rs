//! Passports: the users for whom this process calls others, and those for whom others call it.
//!
//! The process that has checked a user's token vouches for the user with its own certificate. Only services that
//! `auth.vouchers` names are believed.
//!
//! Guarantees:
//! - A passport that came with a call goes on with the calls that this one makes, while it lasts. A service that may
//!   vouch signs another one then.
//! - A gateway says that its caller is nobody, so that nobody's calls do not count as its own.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_token::passport::{self, LIFETIME};
use mesh_token::{Cache, Refused, User};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::denied::Denied;
use super::settings::{Mode, Settings};
use crate::call::error::{DOMAIN, status};
use crate::call::{Access, Caller};
use crate::identity::{Source, Transport};

/// The header of a passport.
pub const HEADER: HeaderName = HeaderName::from_static("mesh-passport");
/// The value for a caller without an identity.
pub(super) const NOBODY: &str = "anonymous";

/// The least time that a passport has left when it is used for another call of this process: half of its life. A
/// process that passes it on may use it until its end.
const LEFT: Duration = Duration::from_secs(30);
/// The users whose passports are kept, and the passports that are remembered.
const REMEMBERED: usize = 4096;
/// The shortest time between two warnings.
const WARNING: Duration = Duration::from_secs(60);

/// The passports of a process with certificates. Cheap to clone.
#[derive(Clone)]
pub struct Passports {
    shared: Arc<Shared>,
    /// Whether a passport that ends soon is replaced by another one.
    renews: bool,
}

struct Shared {
    source: Source,
    process: &'static str,
    /// The services whose passports count.
    vouchers: Vec<String>,
    /// By user, with the end and the scopes of the token.
    signed: Cache<HeaderValue>,
    read: Cache<Caller>,
    warned: Mutex<Option<Instant>>,
}

/// Says in a request for whom this process makes it. `passes_on`: the process makes calls of others only, none of its
/// own.
///
/// # Errors
///
/// INTERNAL: the call is for a user, this process cannot vouch for it, and the method is not public. As a call of the
/// process itself, it could do what the user may not.
pub(crate) fn write(
    passports: Option<&Passports>,
    caller: &Caller,
    access: Access,
    passes_on: bool,
    headers: &mut HeaderMap,
) -> Result<(), Status> {
    headers.remove(HEADER);
    if passports.is_some() {
        // In memory it would not count either.
        headers.remove(AUTHORIZATION);
    }
    match (passports, caller.as_user()) {
        (Some(passports), Some(user)) => {
            let passport = match passports.of(caller, user) {
                Ok(passport) => passport,
                // It would be answered to anybody.
                Err(_) if access == Access::Public => HeaderValue::from_static(NOBODY),
                Err(why) => return Err(passports.refuse(&why)),
            };
            headers.insert(HEADER, passport);
        }
        // Also of a process that asks nobody: those that it calls may ask.
        _ if passes_on => _ = headers.insert(HEADER, HeaderValue::from_static(NOBODY)),
        _ => {}
    }
    Ok(())
}

impl Passports {
    /// The passports of a process that asks for identities and has one. `None` without either.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), as one line.
    pub fn of_process(
        settings: &Settings,
        transport: &Transport,
        process: &'static str,
    ) -> Result<Option<Self>, String> {
        let source = transport.source.clone().filter(|_| settings.mode == Mode::Required);
        let passports = source.map(|source| Self::new(source, process, settings.vouchers.clone())).transpose();
        passports.map_err(|why| format!("this process cannot vouch for users: {why}; replace identity.certificate"))
    }

    /// `process` has the first certificate of `source`. `vouchers` are the services whose passports count.
    ///
    /// # Errors
    ///
    /// The process is one of the vouchers, and its certificate cannot sign passports.
    pub fn new(source: Source, process: &'static str, vouchers: Vec<String>) -> Result<Self, String> {
        let (signed, read, warned) = (Cache::new(REMEMBERED), Cache::new(REMEMBERED), Mutex::default());
        let shared = Arc::new(Shared { source, process, vouchers, signed, read, warned });
        let passports = Self { shared, renews: true };
        if passports.vouches(process) {
            let (issuer, subject, scopes) = (String::new(), "trial".to_owned(), BTreeSet::new());
            passports.sign(&User { issuer, subject, scopes, until: SystemTime::now() })?;
        }
        Ok(passports)
    }

    /// The same passports, which are passed on as they are while they last. For the calls of an app, which has its
    /// passports from this process.
    #[must_use]
    pub fn as_they_are(&self) -> Self {
        Self { renews: false, ..self.clone() }
    }

    fn vouches(&self, service: &str) -> bool {
        self.shared.vouchers.iter().any(|voucher| voucher == service)
    }

    /// A passport of a user.
    fn of(&self, caller: &Caller, user: &Arc<User>) -> Result<HeaderValue, String> {
        let now = SystemTime::now();
        let vouches = self.renews && self.vouches(self.shared.process);
        let came_with = caller.passport().filter(|(_, end)| *end > if vouches { now + LEFT } else { now });
        if let Some((passport, _)) = came_with {
            return Ok(passport.clone());
        }
        if !vouches {
            let what = if caller.passport().is_some() {
                "the passport of the call has ended"
            } else {
                "it has checked a token"
            };
            return Err(format!("{what}, and auth.vouchers does not name this service"));
        }
        let until = user.until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let scopes: Vec<_> = user.scopes.iter().map(String::as_str).collect();
        let key = format!("{}\n{until}\n{}", caller.name(), scopes.join(" "));
        if let Some(kept) = self.shared.signed.get(&key) {
            return Ok(kept);
        }
        let signed = self.sign(user)?;
        self.shared.signed.put(&key, signed.clone(), now + LIFETIME - LEFT);
        Ok(signed)
    }

    fn sign(&self, user: &User) -> Result<HeaderValue, String> {
        let snapshot = self.shared.source.current();
        let (id, own) = (snapshot.id().to_string(), snapshot.own());
        let text = passport::sign(user, snapshot.trust_domain(), &id, &own.cert, &*own.key)?;
        let mut value = HeaderValue::try_from(text).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn refuse(&self, why: &str) -> Status {
        let mut warned = self.shared.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|warned| warned.elapsed() > WARNING) {
            *warned = Some(Instant::now());
            tracing::warn!(
                service = self.shared.process,
                why,
                "a call for a user was not made: this service cannot vouch for it"
            );
        }
        status(
            Code::Internal,
            DOMAIN,
            "INTERNAL",
            "the service cannot call others for this user; its log has the cause",
        )
    }

    /// What an app beside this process is told of its caller, to send back with the calls that it makes for it: `None`
    /// if the caller is no user. A user that this process cannot vouch for has a value that
    /// [`from_app`](Self::from_app) refuses: as a call of the service, the app's call could do what the user may not.
    pub fn for_app(&self, caller: &Caller) -> Option<HeaderValue> {
        let user = caller.as_user()?;
        let passport = match caller.passport() {
            // No other one is signed in its place: an app that calls itself could renew it without end.
            Some((passport, end)) => (*end > SystemTime::now()).then(|| passport.clone()),
            None => self.of(caller, user).ok(),
        };
        Some(passport.unwrap_or(HeaderValue::from_static(NOBODY)))
    }

    /// The caller in a passport that an app sends back.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED: it is not valid, has ended, or its signer may not vouch for users. INTERNAL: this process could
    /// not vouch for the user.
    pub fn from_app(&self, passport: &HeaderValue) -> Result<Caller, Status> {
        if passport == NOBODY {
            return Err(self.refuse("it has checked a token, and auth.vouchers does not name this service"));
        }
        self.read(passport).map_err(|why| Denied::from(why).status())
    }

    /// The user of a passport.
    ///
    /// # Errors
    ///
    /// It is not valid, or its signer may not vouch for users.
    pub(super) fn read(&self, passport: &HeaderValue) -> Result<Caller, Refused> {
        let text = passport.to_str().map_err(|_| Refused::Invalid("it is not ASCII".to_owned()))?;
        if let Some(caller) = self.shared.read.get(text) {
            return Ok(caller);
        }
        let snapshot = self.shared.source.current();
        let read = passport::read(text, snapshot.trust_domain(), |chain| {
            let id = snapshot.check_chain(chain)?;
            match snapshot.service_of(&id) {
                Some(service) if self.vouches(service) => Ok(id.to_string()),
                _ => Err(format!("{id} signed it, and auth.vouchers does not name that service")),
            }
        })?;
        let mut kept = passport.clone();
        kept.set_sensitive(true);
        let caller = Caller::vouched(read.user, kept, read.expires);
        self.shared.read.put(text, caller.clone(), read.expires);
        Ok(caller)
    }
}
