//! Reading one's own writes from the copies of others, by the header `mesh-consistency`.
//!
//! A caller that sends `want` gets a [`Token`] with the answer of a call that has published: how far the events of the
//! service then were. A service that follows them and gets the token waits until its copy is as far.
//!
//! Guarantees:
//! - A call without the header has no [`Consistency`].
//! - What a caller asks for goes on to the peers that are called for it, and their tokens come back.
//!
//! Does not: go on into work that a call starts, which outlives it.
//!
//! See: decision 0038, and docs/CONTRACTS.md, "Reading one's own writes"

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Code, Status};
use uuid::Uuid;

use super::error::{DOMAIN, status};

/// The header, of a request and of an answer.
pub const MESH_CONSISTENCY: HeaderName = HeaderName::from_static("mesh-consistency");
/// The member of a request's list that asks for a token.
const WANT: &str = "want";
/// The longest value, in bytes: about 40 sources.
const LONGEST: usize = 2048;
/// The longest name of a source, in bytes.
const LONGEST_SOURCE: usize = 63;

/// A place in the events of a service: `catalog=<epoch>.<position>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The service that publishes the events.
    pub source: String,
    /// The epoch of its database. Positions of another epoch say nothing.
    pub epoch: Uuid,
    /// The position of the last event.
    pub position: i64,
}

/// What a caller asks for, and the tokens for it. Clones share it.
#[derive(Clone, Debug)]
pub struct Consistency(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What is wrong with the header, if it is malformed.
    asked: Result<Asked, String>,
    found: Mutex<Found>,
}

/// A header of a request.
#[derive(Debug, Default)]
struct Asked {
    wants: bool,
    tokens: Vec<Token>,
}

/// What the call has done so far.
#[derive(Debug, Default)]
struct Found {
    /// The services of this process that have published.
    published: Vec<&'static str>,
    /// The tokens of peers.
    tokens: Vec<Token>,
}

impl Consistency {
    /// What the headers of a request ask for; `None` for nothing.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        headers.get(&MESH_CONSISTENCY)?;
        let asked = parse(headers);
        let is_asked = asked.as_ref().map_or(true, |asked| asked.wants || !asked.tokens.is_empty());
        is_asked.then(|| Self(Arc::new(Inner { asked, found: Mutex::default() })))
    }

    /// Checks the header.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT, `MALFORMED_CONSISTENCY`. The caller must not retry unchanged.
    pub fn check(&self) -> Result<(), Status> {
        let malformed = |problem: &String| status(Code::InvalidArgument, DOMAIN, "MALFORMED_CONSISTENCY", problem);
        self.0.asked.as_ref().map(|_| ()).map_err(malformed)
    }

    /// Whether the caller wants a token.
    pub fn wants(&self) -> bool {
        self.0.asked.as_ref().is_ok_and(|asked| asked.wants)
    }

    /// The tokens that the caller has.
    pub fn tokens(&self) -> &[Token] {
        self.0.asked.as_ref().map_or(&[], |asked| &asked.tokens)
    }

    /// Notes that the call has committed events of `service`, or has found that an earlier one did.
    pub fn note_published(&self, service: &'static str) {
        let mut found = self.found();
        if !found.published.contains(&service) {
            found.published.push(service);
        }
    }

    /// The services whose events the call has committed.
    pub fn published(&self) -> Vec<&'static str> {
        self.found().published.clone()
    }

    /// Writes into the request of a call that is made for the caller. A header that is there stays.
    pub(crate) fn write_request(&self, headers: &mut HeaderMap) {
        if headers.contains_key(&MESH_CONSISTENCY) {
            return;
        }
        let wants = self.wants().then(|| WANT.to_owned());
        let list: Vec<_> = wants.into_iter().chain(self.tokens().iter().map(Token::to_string)).collect();
        write(headers, &list);
    }

    /// Notes the tokens in the answer of a peer.
    pub(crate) fn note_answer(&self, headers: &HeaderMap) {
        if !self.wants() || !headers.contains_key(&MESH_CONSISTENCY) {
            return;
        }
        // The answer of a peer may have anything in it.
        let tokens = parse(headers).unwrap_or_default().tokens;
        let mut found = self.found();
        tokens.into_iter().for_each(|token| found.add(token));
    }

    /// Writes the tokens into an answer: those of this process, and those of peers.
    pub(crate) fn write_answer(&self, own: impl IntoIterator<Item = Token>, headers: &mut HeaderMap) {
        let mut found = self.found();
        own.into_iter().for_each(|token| found.add(token));
        let list: Vec<_> = found.tokens.iter().map(Token::to_string).collect();
        write(headers, &list);
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    /// Adds a token; of two of a source, the later one stays.
    fn add(&mut self, token: Token) {
        match self.tokens.iter_mut().find(|known| known.source == token.source) {
            Some(known) if known.epoch == token.epoch && known.position >= token.position => {}
            Some(known) => *known = token,
            None => self.tokens.push(token),
        }
    }
}

/// Writes a list that is not empty, unless a request with it would be refused for its length.
fn write(headers: &mut HeaderMap, list: &[String]) {
    let text = list.join(", ");
    if text.is_empty() || text.len() > LONGEST {
        return;
    }
    if let Ok(mut value) = HeaderValue::from_str(&text) {
        // It differs for each call: HTTP/2 does not index it then.
        value.set_sensitive(true);
        headers.insert(&MESH_CONSISTENCY, value);
    }
}

/// Reads the list, which may be on many lines. Empty members count for nothing, as in any list of HTTP.
fn parse(headers: &HeaderMap) -> Result<Asked, String> {
    let lines = headers.get_all(&MESH_CONSISTENCY);
    let length: usize = lines.iter().map(HeaderValue::len).sum();
    if length > LONGEST {
        return Err(format!("mesh-consistency has {length} bytes, and {LONGEST} are allowed"));
    }
    let mut asked = Asked::default();
    for line in lines {
        let line = line.to_str().map_err(|_| "mesh-consistency has other characters than visible ASCII".to_owned())?;
        for member in line.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            if member == WANT {
                asked.wants = true;
            } else {
                let token = token(member).map_err(|problem| {
                    let shown: String = member.chars().take(80).collect();
                    format!("mesh-consistency: `{shown}`: {problem}")
                })?;
                asked.tokens.push(token);
            }
        }
    }
    Ok(asked)
}

/// Reads a token, or says what is wrong with it.
fn token(text: &str) -> Result<Token, &'static str> {
    let parts = text.split_once('=').and_then(|(source, place)| Some((source, place.split_once('.')?)));
    let (source, (epoch, position)) = parts.ok_or("must be `want` or SOURCE=EPOCH.POSITION, as an answer had it")?;
    let is_name = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    if !(1..=LONGEST_SOURCE).contains(&source.len()) || !source.bytes().all(is_name) {
        return Err("its source must be the name of a service");
    }
    let epoch = Uuid::try_parse(epoch).ok().filter(|_| epoch.len() == 36).ok_or("its epoch must be a UUID")?;
    let digits = Some(position).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let position = digits.and_then(|digits| digits.parse().ok()).ok_or("its position must be a number")?;
    Ok(Token { source: source.to_owned(), epoch, position })
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}.{}", self.source, self.epoch, self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt as _;

    const EPOCH: &str = "4bf92f35-77b3-4da6-a3ce-929d0e0e4736";

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (MESH_CONSISTENCY.clone(), HeaderValue::from_str(line).unwrap())).collect()
    }

    fn asked(lines: &[&str]) -> Option<Consistency> {
        Consistency::from_headers(&headers(lines))
    }

    fn of(source: &str, position: i64) -> Token {
        Token { source: source.to_owned(), epoch: EPOCH.parse().unwrap(), position }
    }

    #[test]
    fn consistency_is_a_list_of_want_and_tokens_on_any_number_of_lines() {
        assert!(asked(&[]).is_none());
        assert!(asked(&[""]).is_none() && asked(&[" , "]).is_none(), "an empty list asks for nothing");
        let want = asked(&["want"]).unwrap();
        assert!(want.check().is_ok() && want.wants() && want.tokens().is_empty());

        let last = of("a-b_9", i64::MAX);
        let both = asked(&[&format!("catalog={EPOCH}.0,want"), &format!(" {last} ,")]).unwrap();
        assert!(both.check().is_ok() && both.wants());
        assert_eq!(both.tokens(), [of("catalog", 0), last]);
        assert!(!asked(&[&of("catalog", 7).to_string()]).unwrap().wants());
    }

    #[test]
    fn consistency_that_is_malformed_is_refused_with_what_is_wrong() {
        let shape = "must be `want` or SOURCE=EPOCH.POSITION";
        let (source, epoch, position) = ("its source must be", "its epoch must be a UUID", "its position must be");
        for (bad, problem) in [
            ("Want".to_owned(), shape),
            ("catalog".to_owned(), shape),
            (format!("catalog={EPOCH}"), shape),
            (format!("={EPOCH}.7"), source),
            (format!("cata log={EPOCH}.7"), source),
            (format!("{}={EPOCH}.7", "c".repeat(64)), source),
            ("catalog=.7".to_owned(), epoch),
            (format!("catalog={}.7", &EPOCH[1..]), epoch),
            (format!("catalog={}.7", EPOCH.replace('-', "")), epoch),
            (format!("catalog={EPOCH}."), position),
            (format!("catalog={EPOCH}.-1"), position),
            (format!("catalog={EPOCH}.+1"), position),
            (format!("catalog={EPOCH}.7.7"), position),
            (format!("catalog={EPOCH}.9223372036854775808"), position),
            (format!("want, catalog={EPOCH}.x"), position),
            ("x".repeat(2049), "mesh-consistency has 2049 bytes, and 2048 are allowed"),
        ] {
            let malformed = asked(&[&bad]).unwrap();
            let status = malformed.check().unwrap_err();
            assert!(status.message().contains(problem), "{bad}: {status}");
            let reason = status.get_details_error_info().unwrap().reason;
            assert_eq!((status.code(), &*reason), (Code::InvalidArgument, "MALFORMED_CONSISTENCY"));
            assert!(!malformed.wants() && malformed.tokens().is_empty());
        }
        let bytes = HeaderMap::from_iter([(MESH_CONSISTENCY.clone(), HeaderValue::from_bytes(b"w\xe4nt").unwrap())]);
        assert!(Consistency::from_headers(&bytes).unwrap().check().is_err());
    }

    #[test]
    fn consistency_goes_on_to_peers_as_it_came() {
        let mut sent = HeaderMap::new();
        asked(&[&format!("{}, want", of("catalog", 7))]).unwrap().write_request(&mut sent);
        assert_eq!(sent[&MESH_CONSISTENCY], format!("want, {}", of("catalog", 7)));
        asked(&["want"]).unwrap().write_request(&mut sent);
        assert_eq!(sent[&MESH_CONSISTENCY], format!("want, {}", of("catalog", 7)), "a handler asks for itself");
    }

    #[test]
    fn consistency_answers_with_the_latest_token_of_each_source() {
        let want = asked(&["want"]).unwrap();
        let mut answer = HeaderMap::new();
        want.write_answer([], &mut answer);
        assert!(answer.is_empty(), "nothing was published");

        for position in [7, 9, 8] {
            want.note_answer(&headers(&[&of("catalog", position).to_string()]));
        }
        want.note_answer(&headers(&["no token"]));
        let other = Token { epoch: Uuid::nil(), ..of("billing", 1) };
        want.note_answer(&headers(&[&of("billing", 5).to_string()]));
        want.write_answer([other.clone()], &mut answer);
        assert_eq!(answer[&MESH_CONSISTENCY], format!("{}, {other}", of("catalog", 9)));

        let sent = asked(&[&of("catalog", 7).to_string()]).unwrap();
        let mut answer = HeaderMap::new();
        sent.note_answer(&headers(&[&of("catalog", 9).to_string()]));
        sent.write_answer([], &mut answer);
        assert!(answer.is_empty(), "the caller wants none");
    }

    #[test]
    fn consistency_answers_without_tokens_that_no_request_could_carry() {
        let want = asked(&["want"]).unwrap();
        let mut answer = HeaderMap::new();
        want.write_answer((0..50).map(|number| of(&format!("service{number}"), 1)), &mut answer);
        assert!(answer.is_empty());
    }
}
