//! The caller: the identity on whose behalf a call is made.
//!
//! A user is authenticated by a token, a service by its certificate. The name of a caller is what it owns things by:
//! `user/ISSUER/SUBJECT`, `service/NAME`, or `anonymous`. In a subject, `%` and `/` are `%25` and `%2F`: an issuer has
//! slashes, and the last one of a name begins the subject.
//!
//! Does not: authenticate (`auth` does), or read the caller from a field of a request.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;
use mesh_token::{User, fingerprint};

/// The scope of people who see and end the work of all owners.
pub const OPERATOR: &str = "mesh.operator";

/// The identity of a caller. Cheap to clone. Two callers are equal if they have the same name.
#[derive(Clone, Debug, Default)]
pub struct Caller(Option<Arc<Known>>);

#[derive(Debug)]
struct Known {
    name: String,
    user: Option<Arc<User>>,
    /// What another process has signed of the user, and its end.
    passport: Option<(HeaderValue, SystemTime)>,
}

impl Caller {
    /// Creates a caller from its name.
    pub fn named(name: &str) -> Self {
        if name == ANONYMOUS { Self::default() } else { Self::known(name.to_owned(), None, None) }
    }

    /// A user whose token has been checked.
    pub fn user(user: Arc<User>) -> Self {
        Self::known(name_of(&user), Some(user), None)
    }

    /// A user that another process vouches for, by a passport with an end.
    pub fn vouched(user: Arc<User>, passport: HeaderValue, end: SystemTime) -> Self {
        Self::known(name_of(&user), Some(user), Some((passport, end)))
    }

    /// A service that calls as itself.
    pub fn service(name: &str) -> Self {
        Self::known(format!("service/{name}"), None, None)
    }

    fn known(name: String, user: Option<Arc<User>>, passport: Option<(HeaderValue, SystemTime)>) -> Self {
        Self(Some(Arc::new(Known { name, user, passport })))
    }

    /// The name, as databases store it.
    pub fn name(&self) -> &str {
        self.0.as_deref().map_or(ANONYMOUS, |known| &known.name)
    }

    /// The name for logs, which are no list of people: a user has a fingerprint there.
    pub fn shown(&self) -> String {
        let name = self.name();
        if name.starts_with(USER) { format!("{USER}{}", fingerprint(name)) } else { name.to_owned() }
    }

    /// The user, if it is one whose token has been checked.
    pub fn as_user(&self) -> Option<&Arc<User>> {
        self.0.as_deref()?.user.as_ref()
    }

    /// The subject of the user. It means something only at the user's issuer. `None` for a service, and for a caller of
    /// whom nothing is known.
    pub fn subject(&self) -> Option<&str> {
        self.as_user().map(|user| &*user.subject)
    }

    /// Whether a request of the caller may be about the user with this subject. A user is that user; operators and
    /// callers that are no users, which the access of a method lets in or not, may name any.
    pub fn may_act_for(&self, subject: &str) -> bool {
        self.is_operator() || self.subject().is_none_or(|own| own == subject)
    }

    /// The passport that the user came with, and its end.
    pub fn passport(&self) -> Option<&(HeaderValue, SystemTime)> {
        self.0.as_deref()?.passport.as_ref()
    }

    /// Whether nothing is known of the caller.
    pub fn is_anonymous(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the caller sees and ends the work of all owners.
    pub fn is_operator(&self) -> bool {
        self.as_user().is_some_and(|user| user.scopes.contains(OPERATOR))
    }
}

fn name_of(user: &User) -> String {
    format!("{USER}{}/{}", user.issuer, user.subject.replace('%', "%25").replace('/', "%2F"))
}

/// The name of an unauthenticated caller.
const ANONYMOUS: &str = "anonymous";
/// The beginning of the names of users.
const USER: &str = "user/";

impl PartialEq for Caller {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Caller {}

impl PartialOrd for Caller {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Caller {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl Hash for Caller {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(issuer: &str, subject: &str, scope: &str) -> Caller {
        let (issuer, subject, scopes) = (issuer.to_owned(), subject.to_owned(), [scope.to_owned()].into());
        Caller::user(Arc::new(User { issuer, subject, scopes, until: SystemTime::now() }))
    }

    fn name(issuer: &str, subject: &str) -> String {
        user(issuer, subject, "").name().to_owned()
    }

    #[test]
    fn name_of_a_user_has_one_issuer_and_one_subject() {
        assert_eq!(name("https://a.test", "alice"), "user/https://a.test/alice");
        assert_eq!(name("https://a.test", "b/alice%"), "user/https://a.test/b%2Falice%25");
        assert_ne!(name("https://a.test", "b/alice"), name("https://a.test/b", "alice"));
        assert_ne!(name("https://a.test", "b/alice"), name("https://a.test", "b%2Falice"));
    }

    #[test]
    fn user_acts_for_itself_and_others_for_all() {
        let alice = user("https://a.test", "alice", "catalog.write");
        assert_eq!(
            (alice.subject(), alice.may_act_for("alice"), alice.may_act_for("bob")),
            (Some("alice"), true, false)
        );
        assert!(!alice.may_act_for(""));
        for other in [user("https://a.test", "olga", OPERATOR), Caller::service("tv"), Caller::default()] {
            assert!(other.may_act_for("alice"), "{other:?}");
        }
    }
}
