//! An issuer of tokens for development: a key in a folder that git ignores.
//!
//! Guarantees:
//! - The key, `issuer.key`, is readable by its owner alone. `issuer.json` is its JWKS, and follows it.
//! - An issuer that exists is kept, also if two programs begin at once.
//!
//! Does not: ask for passwords, or know users. A program that can read the key can be any user, so no process that
//! others reach may trust the issuer.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use crate::claims::is_subject;
use crate::{jws, pem};

/// The `iss` of its tokens.
pub const ISSUER: &str = "https://issuer.dev.mesh";
/// The trust domain of the certificates of `mesh ca`, whose key lies beside that of the issuer.
pub const TRUST_DOMAIN: &str = "dev.mesh";
/// The `aud` of its tokens.
pub const AUDIENCE: &str = "mesh";
/// The folder of its files and of those of `mesh ca`, from that of the project.
pub const FOLDER: &str = ".mesh/ca";
/// Its JWKS, from the folder of the project.
pub const KEYS: &str = ".mesh/ca/issuer.json";
/// The longest time that a token is valid.
pub const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// An issuer of tokens for development.
#[derive(Debug)]
pub struct Development {
    pair: EcdsaKeyPair,
    kid: String,
}

impl Development {
    /// Opens the issuer of this folder, [`FOLDER`], and creates it first if there is none.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written, is not such a key, or is readable by others.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let (key, keys) = (folder.join("issuer.key"), folder.join("issuer.json"));
        let failed =
            |what: &str, path: &Path, error: std::io::Error| format!("cannot {what} {}: {error}", path.display());
        if !key.exists() {
            fs::create_dir_all(folder).map_err(|error| failed("create", folder, error))?;
            create(&key).map_err(|error| failed("write", &key, error))?;
        }
        check_mode(&key)?;
        let text = fs::read_to_string(&key).map_err(|error| failed("read", &key, error))?;
        let opened = Self::from_pem(&text).ok_or_else(|| {
            let path = key.display();
            format!("{path} is not a private key of P-256 in PEM (PKCS #8): delete it to get another")
        })?;
        let set = opened.key_set();
        if fs::read_to_string(&keys).ok().as_ref() != Some(&set) {
            replace(&keys, &set, 0o644).map_err(|error| failed("write", &keys, error))?;
        }
        Ok(opened)
    }

    fn from_pem(text: &str) -> Option<Self> {
        let der = pem::decode(text)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new()).ok()?;
        let [x, y] = coordinates(&pair);
        // RFC 7638: the members that are required, in the order of their names.
        let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = BASE64_URL.encode(digest::digest(&digest::SHA256, thumbprint.as_bytes()));
        Some(Self { pair, kid })
    }

    /// The set of its one key.
    pub(crate) fn key_set(&self) -> String {
        let [x, y] = coordinates(&self.pair);
        let key = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.kid, "use": "sig", "alg": "ES256" });
        format!("{:#}\n", json!({ "keys": [key] }))
    }

    /// A token of this user, for the processes of this project.
    ///
    /// # Errors
    ///
    /// The subject, a scope or the lifetime is not one that a token may have.
    pub fn sign(&self, subject: &str, scopes: &[String], lifetime: Duration) -> Result<String, String> {
        if !is_subject(subject) {
            return Err("the subject must have 1 to 255 bytes, and no control characters".to_owned());
        }
        // RFC 6749, 3.3.
        let may_have = |one: u8| one.is_ascii_graphic() && one != b'"' && one != b'\\';
        if let Some(scope) = scopes.iter().find(|scope| scope.is_empty() || !scope.bytes().all(may_have)) {
            return Err(format!(
                "`{}` is not a scope: expected visible ASCII without blanks and quotes",
                scope.escape_debug()
            ));
        }
        if lifetime < Duration::from_secs(1) || lifetime > MAX_LIFETIME {
            return Err("a token of this issuer must be valid for 1 s to 30 days".to_owned());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "scope": scopes.join(" "),
            "iat": now.as_secs(), "exp": (now + lifetime).as_secs(),
        });
        let token =
            self.compact(&json!({ "alg": "ES256", "typ": "JWT", "kid": self.kid }), claims.to_string().as_bytes())?;
        if token.len() > jws::MAX_LENGTH {
            return Err(format!(
                "the token has {} bytes, more than {}: give fewer scopes",
                token.len(),
                jws::MAX_LENGTH
            ));
        }
        Ok(token)
    }

    /// A token with this header and this payload, whatever they are.
    pub(crate) fn compact(&self, header: &serde_json::Value, payload: &[u8]) -> Result<String, String> {
        jws::compact(&header.to_string(), payload, |message| {
            let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| "cannot sign")?;
            Ok(signature.as_ref().to_vec())
        })
    }

    #[cfg(test)]
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }
}

fn coordinates(pair: &EcdsaKeyPair) -> [String; 2] {
    // 4, x, y.
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    [x, y].map(|coordinate| BASE64_URL.encode(coordinate))
}

/// Creates a key, unless there is one.
fn create(path: &Path) -> std::io::Result<()> {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    let der = der.map_err(|_| std::io::Error::other("no random numbers"))?;
    let new = write_beside(path, &pem::encode("PRIVATE KEY", der.as_ref()), 0o600)?;
    // A link, and no name that replaces another: the first of two programs wins.
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    linked.or_else(|error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
}

/// Replaces a file as a whole.
fn replace(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let new = write_beside(path, text, mode)?;
    fs::rename(new, path)
}

fn write_beside(path: &Path, text: &str, mode: u32) -> std::io::Result<std::path::PathBuf> {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}.{}.new", std::process::id(), fastrand::u32(..)));
    let new = std::path::PathBuf::from(new);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options.open(&new)?.write_all(text.as_bytes())?;
    Ok(new)
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(format!("{path} is readable by other users of this machine: run `chmod 600 {path}`, or delete it"))
}

#[cfg(not(unix))]
fn check_mode(_: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn development_issuer_is_kept_and_its_set_follows_it() {
        let folder = tempfile::tempdir().unwrap();
        let kid = Development::open(folder.path()).unwrap().kid;
        fs::remove_file(folder.path().join("issuer.json")).unwrap();
        assert_eq!(Development::open(folder.path()).unwrap().kid, kid);
        assert!(fs::read_to_string(folder.path().join("issuer.json")).unwrap().contains(&kid));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn development_issuer_is_one_if_many_begin_at_once() {
        for _ in 0..20 {
            let (folder, barrier) = (tempfile::tempdir().unwrap(), Barrier::new(4));
            let open = || {
                barrier.wait();
                Development::open(folder.path()).unwrap().kid
            };
            let kids: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(kids.iter().all(|kid| *kid == kids[0]), "{kids:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn development_key_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        Development::open(folder.path()).unwrap();
        let key = folder.path().join("issuer.key");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Development::open(folder.path()).unwrap_err().contains("chmod 600"));
    }

    #[test]
    fn development_key_of_another_kind_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("issuer.key");
        drop(replace(&key, "something else", 0o600));
        assert!(Development::open(folder.path()).unwrap_err().contains("issuer.key"));
    }

    #[test]
    fn development_token_refuses_what_no_token_may_have() {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Development::open(folder.path()).unwrap();
        let hour = Duration::from_secs(3600);
        assert!(issuer.sign("alice", &["catalog.write".to_owned()], hour).is_ok());
        assert!(issuer.sign("", &[], hour).is_err());
        assert!(issuer.sign("a\nb", &[], hour).is_err());
        assert!(issuer.sign("alice", &["two words".to_owned()], hour).is_err());
        assert!(issuer.sign("alice", &[String::new()], hour).is_err());
        assert!(issuer.sign("alice", &[], Duration::ZERO).is_err());
        assert!(issuer.sign("alice", &[], MAX_LIFETIME * 2).is_err());
        assert!(issuer.sign("alice", &["x".repeat(jws::MAX_LENGTH)], hour).is_err());
    }
}
