//! Passports: the users for whom this process calls others, and those for whom others call it.
//!
//! The process that has checked a user's token vouches for the user with its own certificate. Only services that
//! `auth.vouchers` names are believed.
//!
//! Guarantees:
//! - A passport that came with a call goes on with the calls that this one makes, while it lasts. A service that may vouch
//!   signs another one then.
//! - A gateway says that its caller is nobody, so that nobody's calls do not count as its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_token::passport::{self, LIFETIME};
use mesh_token::{Cache, Refused, User};

use crate::call::Caller;
use crate::identity::Source;

/// The header of a passport.
pub const HEADER: HeaderName = HeaderName::from_static("mesh-passport");
/// The value for a caller without an identity.
pub(super) const NOBODY: &str = "anonymous";

/// The least time that a passport has left when it goes on.
const LEFT: Duration = Duration::from_secs(10);
/// The users whose passports are kept, and the passports that are remembered.
const REMEMBERED: usize = 4096;

/// The passports of a process with certificates. Cheap to clone.
#[derive(Clone)]
pub struct Passports(Arc<Shared>);

struct Shared {
    source: Source,
    process: &'static str,
    /// The services whose passports count.
    vouchers: Vec<String>,
    /// By the name of the user.
    signed: Mutex<HashMap<String, Signed>>,
    read: Cache<Caller>,
    warned: AtomicBool,
}

#[derive(Clone)]
struct Signed {
    user: Arc<User>,
    text: HeaderValue,
    expires: SystemTime,
}

impl Passports {
    /// `process` has the first certificate of `source`. `vouchers` are the services whose passports count.
    pub fn new(source: Source, process: &'static str, vouchers: Vec<String>) -> Self {
        let (signed, read, warned) = (Mutex::default(), Cache::new(REMEMBERED), AtomicBool::new(false));
        Self(Arc::new(Shared { source, process, vouchers, signed, read, warned }))
    }

    /// Says in a request for whom this process makes it. `passes_on`: the process makes calls of others only, none of its
    /// own.
    pub(crate) fn write(&self, caller: &Caller, passes_on: bool, headers: &mut HeaderMap) {
        headers.remove(HEADER);
        let passport = caller.as_user().map(|user| self.of(caller, user));
        match passport {
            Some(Some(passport)) => headers.insert(HEADER, passport),
            // Calls for a user must not become those of the service.
            Some(None) => headers.insert(HEADER, HeaderValue::from_static(NOBODY)),
            None if passes_on => headers.insert(HEADER, HeaderValue::from_static(NOBODY)),
            None => None,
        };
    }

    /// A passport of a user that lasts long enough; `None`: there is none, as the log says.
    fn of(&self, caller: &Caller, user: &Arc<User>) -> Option<HeaderValue> {
        let now = SystemTime::now();
        if let Some((passport, expires)) = caller.passport()
            && *expires > now + LEFT
        {
            return Some(passport.clone());
        }
        let shared = &self.0;
        if !shared.vouchers.iter().any(|voucher| voucher == shared.process) {
            self.warn("auth.vouchers does not name it");
            return None;
        }
        let mut signed = shared.signed.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = signed.get(caller.name()).filter(|kept| kept.expires > now + LEFT && kept.user == *user);
        if let Some(kept) = kept {
            return Some(kept.text.clone());
        }
        let text = match self.sign(user) {
            Ok(text) => text,
            Err(why) => {
                self.warn(&why);
                return None;
            }
        };
        if signed.len() >= REMEMBERED {
            signed.retain(|_, kept| kept.expires > now + LEFT);
        }
        if signed.len() < REMEMBERED {
            let kept = Signed { user: Arc::clone(user), text: text.clone(), expires: now + LIFETIME };
            signed.insert(caller.name().to_owned(), kept);
        }
        Some(text)
    }

    fn sign(&self, user: &User) -> Result<HeaderValue, String> {
        let snapshot = self.0.source.current();
        let (id, own) = (snapshot.id().to_string(), snapshot.own());
        let text = passport::sign(user, snapshot.trust_domain(), &id, &own.cert, &*own.key)?;
        let mut value = HeaderValue::try_from(text).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn warn(&self, why: &str) {
        if !self.0.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                service = self.0.process,
                why,
                "the service cannot vouch for users: its calls for them are anonymous"
            );
        }
    }

    /// The user of a passport.
    ///
    /// # Errors
    ///
    /// It is not valid, or its signer may not vouch for users.
    pub(super) fn read(&self, passport: &HeaderValue) -> Result<Caller, Refused> {
        let text = passport.to_str().map_err(|_| Refused::Invalid("it is not ASCII".to_owned()))?;
        if let Some(caller) = self.0.read.get(text) {
            return Ok(caller);
        }
        let snapshot = self.0.source.current();
        let vouches = |service: &str| self.0.vouchers.iter().any(|voucher| voucher == service);
        let read = passport::read(text, snapshot.trust_domain(), |chain| {
            let id = snapshot.check_signer(chain)?;
            match snapshot.service_of(&id) {
                Some(service) if vouches(service) => Ok(id.to_string()),
                _ => Err(format!("{id} signed it, and auth.vouchers does not name that service")),
            }
        })?;
        let mut kept = passport.clone();
        kept.set_sensitive(true);
        let caller = Caller::vouched(read.user, kept, read.expires);
        self.0.read.put(text, caller.clone(), read.expires);
        Ok(caller)
    }
}
