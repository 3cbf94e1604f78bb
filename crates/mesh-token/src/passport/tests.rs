use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;

use super::*;

const DOMAIN: &str = "dev.mesh";
const SIGNER: &str = "spiffe://dev.mesh/service/gateway";

/// The RSA key that RFC 7515, A.2 has published.
const RSA_KEY: &str = concat!(
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQCh+BYK4uPJtGXOjS1lYmM2K5J9vinh8CR3/BYlzJChNuOL2TSXxbbqY913Ee",
    "Z8dCn5VrD7io8ImtxLaYk8wTM/U+3QGbh3hCUv7JFP5IV3aVlL6kKA0ywPVb9ilE8TA5a8bpvfbr3SvaNnjuygxmj3AbONv/s4yDQs4v5tJ/re",
    "SlpIdJed1LnPmt7Ex1sFhSwsD174pcF1A5L5ROjtZMEQxrZHYJqkeDrrnGya11UxMFBji4NmXG9veoKjlnAqH2QbgtPr8jkiGUkftoaHLFcW9Q",
    "r4NY2ai50Xw0Byj3+H2JoY2PyrZ62EWQwuz3WTOTY8BwNNb2BvniHgVFbK5emhAgMBAAECggEAEq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZ",
    "D50LpXyWPEAeP88vLNO97IjlA7/GQ5sLKMgvfTeXZx9SE+7YwVol2NXOoAJe46sui395IW/GO+pWJ1O0BkTGoVEn2bKVRUCgu+GjBVaYLU6f3l",
    "9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M/V51gfpRLI9JYanrC4D4qAdGcopV/0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoF",
    "aFQT5Tw8bGUl/x/jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR/RQyGWSeWjnczT0QU91p1DhOVRuOopznQKBgQDgHMQQ60imZV1URk0KpL",
    "ttoLhyt3SmqdEf/kgHePDdtzEafpAu+cS191R2JiuoF2yzWXnwFDcqGigp5BNr0AHQfD8/Lk8l1Mk09jxxCfui5nYooNyac8YFjm3vItzVCVDn",
    "Ed3BbVWG8qf6deqElMGAg+C2V0L4oNXnP7LZcPAZRwKBgQC5A8R+CZW2MvRTLLHzwZkUXV866cff7tx6kqa0finGG0KgeqlaZPxgCZnFp7AeAc",
    "CMtiynVlJ7vMVgePsLq6XtON4tB5kP9jAPrq3rbAOal78eUH5OcED6eNuCV8ixEu1eWcPNCS/l1OW1EnXUEoEHKl54Xrrz2uNwkgMTP1FZ1wKB",
    "gAcCn1dwJKufzBWQxWQp1vsM5fggqPN1qGb5y0MAk3g7/Ls5bkUp5u9SN0Ai3Ya6hNnvWJMb7sXQX6U/zyO2M/hTip7tUeh7CXgwo59dkpN75g",
    "JLVds29+DAncu3KXU4f2Fa+7bLNrur53k8KwPOq2bbuTG69QtV7Jr5MR0AHWKNAoGBAIf/evpitUf+4JYbLpvNXWcY052Mpz22aR84mY3nh3F2",
    "LF2mjMJDpTg7FmuyPcVw6EcGyoAe9fa65iNqCq+jdw6PVNGo2hxfjSiZ8IIzHdsPXI89//pMjZcQK9r+CCoRjaZjOYiIDktVWZzmevJuv6WywU",
    "qd57LE3Zar3dLSIkx1AoGAIYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd+DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd/QJQ3ydy5",
    "cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp/gh6A5603k2+ZQwVK0JKSHuLFkuQ3U=",
);

/// A service that signs.
struct Service {
    chain: Vec<CertificateDer<'static>>,
    key: std::sync::Arc<dyn SigningKey>,
}

impl Service {
    fn new(pair: &KeyPair) -> Self {
        let certificate = CertificateParams::default().self_signed(pair).unwrap();
        let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        let key = default_provider().key_provider.load_private_key(key).unwrap();
        Self { chain: vec![certificate.der().clone()], key }
    }

    fn p256() -> Self {
        Self::new(&KeyPair::generate().unwrap())
    }

    fn sign(&self, now: SystemTime, user: &User) -> Result<String, String> {
        sign_at(now, user, DOMAIN, SIGNER, &self.chain, &*self.key)
    }

    /// A passport whose header and claims `change` has changed before they were signed.
    fn forge(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let valid = self.sign(SystemTime::now(), &alice()).unwrap();
        let part = |at: usize| BASE64_URL.decode(valid.split('.').nth(at).unwrap()).unwrap();
        let [mut header, mut claims] = [0, 1].map(|at| serde_json::from_slice(&part(at)).unwrap());
        change(&mut header, &mut claims);
        let signer = self.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
        jws::compact(&header.to_string(), claims.to_string().as_bytes(), |message| {
            signature::of_token(&signer.sign(message).unwrap(), 32).ok_or(())
        })
        .unwrap()
    }
}

fn alice() -> User {
    User {
        issuer: "https://issuer.example.org".to_owned(),
        subject: "alice".to_owned(),
        scopes: ["catalog.write".to_owned()].into(),
        until: time(seconds(SystemTime::now() + Duration::from_secs(3600)) as f64).unwrap(),
    }
}

fn trust(_: &[CertificateDer<'_>]) -> Result<String, String> {
    Ok(SIGNER.to_owned())
}

fn invalid(read: Result<Passport, Refused>) -> String {
    match read {
        Err(Refused::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn passport_carries_the_user_by_each_kind_of_key() {
    let rsa = BASE64_STANDARD.decode(RSA_KEY).unwrap();
    let rsa = KeyPair::from_pkcs8_der_and_sign_algo(&rsa.as_slice().into(), &PKCS_RSA_SHA256).unwrap();
    for (pair, algorithm) in [
        (KeyPair::generate().unwrap(), "ES256"),
        (KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(), "ES384"),
        (rsa, "PS256"),
        (KeyPair::generate_for(&PKCS_ED25519).unwrap(), "EdDSA"),
    ] {
        let service = Service::new(&pair);
        // The numbers of a signature have other lengths now and then.
        let user = alice();
        for _ in 0..50 {
            let passport = service.sign(SystemTime::now(), &user).unwrap();
            assert_eq!(Jws::parse(&passport).unwrap().header.alg, algorithm);
            let read = read(&passport, DOMAIN, |chain| {
                assert_eq!(chain, service.chain);
                trust(chain)
            });
            let read = read.unwrap();
            assert_eq!((&*read.user, read.signer.as_str()), (&user, SIGNER));
            let left = read.expires.duration_since(SystemTime::now()).unwrap();
            assert!(left <= LIFETIME && left > LIFETIME / 2, "{left:?}");
        }
    }
}

#[test]
fn passport_of_another_signer_is_refused() {
    let (service, other) = (Service::p256(), Service::p256());
    let passport = service.sign(SystemTime::now(), &alice()).unwrap();
    let billing = |_: &[CertificateDer<'_>]| Ok("spiffe://dev.mesh/service/billing".to_owned());
    assert!(invalid(read(&passport, DOMAIN, billing)).contains("not of the service"));
    assert_eq!(invalid(read(&passport, DOMAIN, |_| Err("unknown authority".to_owned()))), "unknown authority");
    assert!(invalid(read(&passport, "prod.mesh", trust)).contains("another trust domain"));
    let stolen = other.forge(|header, _| header["x5c"] = json!([BASE64_STANDARD.encode(&service.chain[0])]));
    assert!(invalid(read(&stolen, DOMAIN, trust)).contains("signature"));
    // The certificate of the signer is the first.
    let both = [&other.chain[0], &service.chain[0]].map(|certificate| BASE64_STANDARD.encode(certificate));
    let second = service.forge(|header, _| header["x5c"] = json!(both));
    assert!(invalid(read(&second, DOMAIN, trust)).contains("signature"));
}

#[test]
fn passport_that_is_changed_is_refused() {
    let service = Service::p256();
    let valid = service.sign(SystemTime::now(), &alice()).unwrap();
    assert!(read(&service.forge(|_, _| {}), DOMAIN, trust).is_ok(), "without a change it is valid");
    let [header, claims, signature] = valid.split('.').collect::<Vec<_>>()[..] else { panic!("{valid}") };
    // The same two numbers, with a zero before each.
    let numbers = BASE64_URL.decode(signature).unwrap();
    let longer = [&[0], &numbers[..32], &[0], &numbers[32..]].concat();
    let mut bob: Value = serde_json::from_slice(&BASE64_URL.decode(claims).unwrap()).unwrap();
    bob["sub"] = json!("bob");
    let bob = BASE64_URL.encode(bob.to_string());
    for passport in [
        format!("{header}.{bob}.{signature}"),
        format!("{header}.{claims}.{}", BASE64_URL.encode(longer)),
        format!("{header}.{claims}."),
        format!("{header}.{claims}.{}", BASE64_URL.encode([0; 64])),
        format!("{header}.{claims}.{}", BASE64_URL.encode([1; 63])),
        format!("{valid}.{signature}"),
        String::new(),
    ] {
        invalid(read(&passport, DOMAIN, trust));
    }
    for (name, value) in [
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!("ES384")),
        ("alg", json!("PS256")),
        ("typ", json!("JWT")),
        ("typ", Value::Null),
        ("crit", json!(["x5c"])),
        ("x5c", Value::Null),
        ("x5c", json!([])),
        ("x5c", json!("MIIB")),
        ("x5c", json!(["not base64"])),
        ("x5c", json!(["AAAA"])),
        ("x5c", json!(vec![BASE64_STANDARD.encode(&service.chain[0]); 10])),
    ] {
        invalid(read(&service.forge(|header, _| header[name] = value), DOMAIN, trust));
    }
    for name in ["iss", "uiss", "sub", "scopes", "aud", "tok_exp", "iat", "exp", "jti"] {
        invalid(read(&service.forge(|_, claims| drop(claims.as_object_mut().unwrap().remove(name))), DOMAIN, trust));
        invalid(read(&service.forge(|_, claims| claims[name] = json!([{}])), DOMAIN, trust));
    }
    for (name, value) in [("sub", ""), ("sub", "a\nb"), ("uiss", ""), ("iss", ""), ("aud", "")] {
        invalid(read(&service.forge(|_, claims| claims[name] = json!(value)), DOMAIN, trust));
    }
}

#[test]
fn passport_is_short_lived() {
    let service = Service::p256();
    let second = Duration::from_secs(1);
    let begin = SystemTime::now();
    let passport = service.sign(begin, &alice()).unwrap();
    let at = |now| read_at(now, &passport, DOMAIN, trust).map(|_| ());
    assert_eq!(at(begin + LIFETIME + SKEW - 2 * second), Ok(()));
    let ended = at(begin + LIFETIME + SKEW + second);
    assert!(matches!(ended, Err(Refused::Invalid(_))), "the token of the user may be good: {ended:?}");
    assert_eq!(at(begin - SKEW + 2 * second), Ok(()));
    assert!(matches!(at(begin - SKEW - 2 * second), Err(Refused::Invalid(_))));

    let forged = service.forge(|_, claims| claims["exp"] = json!(claims["iat"].as_u64().unwrap() + 61));
    assert!(invalid(read(&forged, DOMAIN, trust)).contains("60 s"));
    let forged = service.forge(|_, claims| claims["exp"] = json!(u64::MAX));
    invalid(read(&forged, DOMAIN, trust));

    let ended = User { until: SystemTime::now() - SKEW - second, ..alice() };
    let passport = service.sign(SystemTime::now(), &ended).unwrap();
    assert_eq!(read(&passport, DOMAIN, trust), Err(Refused::Expired));
}

#[test]
fn passport_fits_into_a_header() {
    let service = Service::p256();
    let many = User { scopes: (0..1000).map(|n| format!("scope-{n}")).collect(), ..alice() };
    assert!(service.sign(SystemTime::now(), &many).unwrap_err().contains("8192"));
    let long = Service { chain: vec![service.chain[0].clone(); 10], key: Arc::clone(&service.key) };
    assert!(long.sign(SystemTime::now(), &alice()).unwrap_err().contains("3072"));
}
