//! Who may see the page: readers by the machine's own names, and elsewhere those with a token.
//!
//! - A name of an attacker that resolves to this machine is refused by `Host` (DNS rebinding), a page of another site by
//!   `Origin` and `Sec-Fetch-Site`.
//! - A token opens the page by `Authorization: Bearer`, or by a link that is good once and sets a cookie. The token itself is
//!   never in an address: logs keep those.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use mesh_edge::Site;
use ring::rand::{SecureRandom as _, SystemRandom};
use tonic::Code;
use tonic::body::Body;

use crate::answer::refusal;

/// The shortest token, in characters.
const SHORTEST: usize = 32;
/// The readers with a cookie: the first ones have to sign in again.
const SESSIONS: usize = 64;
/// The beginning of the name of the cookie.
const NAME: &str = "mesh_dashboard";
/// The header that the page sends with all that changes something. No form of another site can.
const OWN: &str = "x-dashboard";

/// Refuses requests that are not its readers'.
pub(crate) struct Guard {
    site: Site,
    /// The name of the cookie.
    cookie: String,
    sessions: Option<Mutex<Sessions>>,
}

struct Sessions {
    token: String,
    /// The keys of links that were not used yet.
    links: VecDeque<String>,
    cookies: VecDeque<String>,
}

impl Guard {
    /// With a token, a reader needs it.
    pub(crate) fn new(site: Site, token: Option<String>) -> Self {
        // Cookies are of a host, and not of a port.
        let cookie = format!("{NAME}_{}", site.port());
        let sessions =
            token.map(|token| Mutex::new(Sessions { token, links: VecDeque::new(), cookies: VecDeque::new() }));
        Self { site, cookie, sessions }
    }

    /// The refusal of a request, if it is refused.
    pub(crate) fn refuse_site(&self, head: &Parts) -> Option<Response<Body>> {
        if !self.site.is_own(&head.uri, &head.headers) {
            let message = "this server has another name: dashboard.hosts lists those that it has";
            return Some(refusal(StatusCode::MISDIRECTED_REQUEST, Code::PermissionDenied, "HOST_NOT_ALLOWED", message));
        }
        // A link to the page is no danger: the page is framed by no other, and shows nothing to it.
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let follows_a_link = head.method == Method::GET
            && head.uri.path() == "/dashboard/"
            && header("sec-fetch-mode") == Some("navigate")
            && header("sec-fetch-dest") == Some("document");
        if !follows_a_link && self.site.is_foreign(&head.uri, &head.headers) {
            let message = "a page of another site may not read this one";
            return Some(refusal(StatusCode::FORBIDDEN, Code::PermissionDenied, "ORIGIN_NOT_ALLOWED", message));
        }
        None
    }

    /// The refusal of a reader who shows no token, if one is needed.
    pub(crate) fn refuse_reader(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        let sessions = self.sessions.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies = cookies.flat_map(|all| all.split(';')).filter_map(|one| one.trim().split_once('='));
        let is_known = bearer.is_some_and(|token| equal(token, &sessions.token))
            || cookies
                .any(|(name, value)| name == self.cookie && sessions.cookies.iter().any(|known| equal(known, value)));
        let message = "the page needs a token: open the link that the process has printed, or make another one with the token of \
                       dashboard.token_file: `curl -X POST -H \"authorization: Bearer TOKEN\" ADDRESS/dashboard/link`";
        (!is_known).then(|| refusal(StatusCode::UNAUTHORIZED, Code::Unauthenticated, "TOKEN_MISSING", message))
    }

    /// The refusal of a request that changes something, if it does not come from the page.
    pub(crate) fn refuse_form(headers: &HeaderMap) -> Option<Response<Body>> {
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if media_type.split(';').next().map(str::trim) != Some("application/json") {
            let message = "the body is JSON, with content-type: application/json";
            return Some(refusal(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Code::InvalidArgument,
                "WRONG_MEDIA_TYPE",
                message,
            ));
        }
        let message = "a request that changes something has the header x-dashboard: 1";
        let own = headers.get(OWN).is_some_and(|value| value == "1");
        (!own).then(|| refusal(StatusCode::FORBIDDEN, Code::PermissionDenied, "HEADER_MISSING", message))
    }

    /// Whether readers need a token.
    pub(crate) fn has_token(&self) -> bool {
        self.sessions.is_some()
    }

    /// The path of a link that is good once; `None` if none is needed.
    pub(crate) fn link(&self) -> Option<String> {
        let mut sessions = self.sessions.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let key = random()?;
        keep(&mut sessions.links, key.clone());
        Some(format!("/dashboard/open?key={key}"))
    }

    /// Uses a link up, and returns the cookie of its reader; `None` if it is not good.
    pub(crate) fn open(&self, key: &str) -> Option<String> {
        let mut sessions = self.sessions.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let at = sessions.links.iter().position(|known| equal(known, key))?;
        sessions.links.remove(at);
        let cookie = random()?;
        keep(&mut sessions.cookies, cookie.clone());
        let name = &self.cookie;
        Some(format!("{name}={cookie}; Path=/dashboard/; HttpOnly; SameSite=Strict"))
    }
}

/// Reads a token.
///
/// # Errors
///
/// The file cannot be read, or holds no token: one line.
pub(crate) fn token(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("dashboard.token_file: {} cannot be read: {error}", file.display()))?;
    let token = text.trim();
    if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "dashboard.token_file: {} has no token of at least {SHORTEST} characters without spaces: write one with \
             `openssl rand -hex 32`",
            file.display()
        ));
    }
    Ok(token.to_owned())
}

fn keep(all: &mut VecDeque<String>, one: String) {
    if all.len() == SESSIONS {
        all.pop_front();
    }
    all.push_back(one);
}

pub(crate) fn random() -> Option<String> {
    let mut bytes = [0; 24];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Compares in a time that does not depend on how much is right.
fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}
