//! Measures what the layer of access does with a call: it reads the token or the passport, checks it or remembers it,
//! and decides. The numbers include a copy of the headers, which the layer does not make.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{anyhow, ensure};
use http::{HeaderMap, HeaderValue, header};
use mesh_rpc::auth::{Gate, Mode, Passports, Settings, passports};
use mesh_rpc::call::{Connection, Method, Methods};
use mesh_rpc::identity::Source;
use mesh_rpc::telemetry::Metrics;
use mesh_token::development::{AUDIENCE, Development, ISSUER};
use mesh_token::{Issuer, Tokens, User, passport};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use super::site::{CLIENT, SERVICE, Site};
use crate::report::{Report, Samples};

/// A method for callers with an identity.
const METHOD: &str = "/google.longrunning.Operations/GetOperation";
const HOUR: Duration = Duration::from_secs(3600);

pub(super) async fn measure(site: &Site, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let issuer = Development::open(site.folder()).map_err(|error| anyhow!(error))?;
    let (source, signer) = (site.source(SERVICE)?, Signer::of(site)?);
    let method = Methods::of(&[]).find(METHOD);
    let client = Connection::default();
    let service = || Some(CLIENT.to_owned());
    let peer = Connection::of_service(CancellationToken::new(), None, service(), CancellationToken::new());
    let mut samples: [Samples; 4] = Default::default();
    for _ in 0..plan.rounds {
        // It remembers nothing of the rounds before.
        let gate = gate(site, source.clone())?;
        let token = |number: usize| issuer.sign(&format!("user {number}"), &["bench.read".to_owned()], HOUR);
        let tokens: Result<Vec<_>, _> = (0..=plan.checks).map(token).collect();
        let tokens = headers(header::AUTHORIZATION, tokens.map_err(|error| anyhow!(error))?, "Bearer ")?;
        let passports = (0..=plan.checks).map(|number| signer.sign(number)).collect::<anyhow::Result<_>>()?;
        let passports = headers(passports::HEADER, passports, "")?;
        for (kind, connection, headers) in [(0, &client, tokens), (2, &peer, passports)] {
            // The first one waits for the keys of the issuer.
            let (first, others) = headers.split_first().ok_or_else(|| anyhow!("no checks"))?;
            check(&gate, method, connection, first).await?;
            for kind in [kind, kind + 1] {
                let begin = Instant::now();
                for headers in others {
                    check(&gate, method, connection, headers).await?;
                }
                samples[kind].push(begin.elapsed().as_secs_f64() * 1e6 / others.len() as f64);
            }
        }
    }
    let [token, known_token, passport, known_passport] = samples;
    report.alone("µs a call: a token that was checked before", &known_token, "2 µs");
    report.alone("µs a call: a token", &token, "60 µs");
    report.alone("µs a call: a passport that was checked before", &known_passport, "");
    report.alone("µs a call: a passport", &passport, "60 µs");
    Ok(())
}

async fn check(gate: &Gate, method: &'static Method, from: &Connection, headers: &HeaderMap) -> anyhow::Result<()> {
    gate.check(method, from, headers).await.map_err(|status| anyhow!("a caller was refused: {status}"))
}

/// The gate of a process that asks.
fn gate(site: &Site, source: Source) -> anyhow::Result<Gate> {
    let keys = site.folder().join("issuer.json");
    let issuer = Issuer::new(ISSUER, AUDIENCE, keys.to_str()).map_err(|mistakes| anyhow!(mistakes.join("; ")))?;
    let tokens = Tokens::new(vec![issuer]).map_err(|mistakes| anyhow!(mistakes.join("; ")))?;
    let vouchers = vec![CLIENT.to_owned()];
    let settings = Settings {
        mode: Mode::Required,
        tokens: Some(tokens),
        vouchers: vouchers.clone(),
        shows_contracts: false,
        intentions: None,
        is_development: true,
    };
    let passports = Passports::new(source, SERVICE, vouchers).map_err(|error| anyhow!(error))?;
    Ok(Gate::new(&settings, Some(passports), Metrics::new()))
}

/// The headers of calls, one of each text.
fn headers(name: header::HeaderName, texts: Vec<String>, before: &str) -> anyhow::Result<Vec<HeaderMap>> {
    let one =
        |text: String| Ok(HeaderMap::from_iter([(name.clone(), HeaderValue::try_from(format!("{before}{text}"))?)]));
    texts.into_iter().map(one).collect()
}

/// The service that vouches.
struct Signer {
    id: String,
    trust_domain: String,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn rustls::sign::SigningKey>,
}

impl Signer {
    fn of(site: &Site) -> anyhow::Result<Self> {
        let current = site.source(CLIENT)?.current();
        let file = |name: &str| site.folder().join(format!("{CLIENT}.{name}"));
        let chain = CertificateDer::pem_file_iter(file("pem"))?.collect::<Result<Vec<_>, _>>()?;
        let key = any_supported_type(&PrivateKeyDer::from_pem_file(file("key"))?)?;
        ensure!(!chain.is_empty(), "the certificate of {CLIENT} is empty");
        Ok(Self { id: current.id().to_string(), trust_domain: current.trust_domain().to_owned(), chain, key })
    }

    fn sign(&self, number: usize) -> anyhow::Result<String> {
        let scopes = BTreeSet::from(["bench.read".to_owned()]);
        let (issuer, subject) = (ISSUER.to_owned(), format!("user {number}"));
        let user = User { issuer, subject, scopes, until: SystemTime::now() + HOUR };
        let signed = passport::sign(&user, &self.trust_domain, &self.id, &self.chain, &*self.key);
        signed.map_err(|error| anyhow!(error))
    }
}
