//! Asks what runs: each instance for the manifest of its service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select_ok};
use http::Request;
use mesh_proto::grpc::health::v1::HealthCheckRequest;
use mesh_proto::grpc::health::v1::health_check_response::ServingStatus;
use mesh_proto::grpc::health::v1::health_client::HealthClient;
use mesh_proto::mesh::release::v1::GetManifestRequest;
use mesh_proto::mesh::release::v1::release_service_client::ReleaseServiceClient;
use mesh_release::{Build, Running};
use mesh_rpc::client::connections::Dial;
use mesh_rpc::client::{Direct, Received};
use mesh_rpc::discovery::{Discovery, Seen};
use mesh_rpc::identity::Transport;
use mesh_rpc::telemetry::TlsMetrics;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::{Code, Status};

/// The limit for the answer of an instance, and for that of discovery.
const LIMIT: Duration = Duration::from_secs(2);
/// The largest manifest, in bytes.
const LARGEST: usize = 16 << 20;
/// So many services are asked at the same time. An agent of Consul serves 200 connections of one address, which all
/// processes of a machine share.
const AT_ONCE: usize = 32;
/// Of so many instances with one program, one answers.
const EQUAL: usize = 8;

/// Asks what runs. It keeps the answers of programs that it knows by their digest, while they run.
pub(super) struct Asks {
    pub(super) discovery: Discovery,
    pub(super) transport: Transport,
    pub(super) metrics: TlsMetrics,
    pub(super) known: Known,
}

/// A service, and the digest of its program.
type Program = (String, String);

/// The answers of programs that the last look and this one have found.
#[derive(Default)]
pub(super) struct Known {
    last: BTreeMap<Program, Answer>,
    this: BTreeMap<Program, Answer>,
}

impl Known {
    fn get(&self, program: &Program) -> Option<&Answer> {
        self.this.get(program).or_else(|| self.last.get(program))
    }

    fn add(&mut self, program: Program, answer: Answer) {
        self.this.insert(program, answer);
    }

    /// Forgets the programs that this look has not found.
    pub(super) fn end_look(&mut self) {
        self.last = std::mem::take(&mut self.this);
    }
}

/// What runs.
#[derive(Default)]
pub(super) struct Found {
    pub(super) running: Vec<Running>,
    /// What could not be asked, and may be later: a clause each.
    pub(super) silent: BTreeSet<String>,
    /// Services of other frameworks, which have no manifest.
    pub(super) foreign: BTreeSet<String>,
}

/// What an instance says.
#[derive(Clone)]
pub(super) enum Answer {
    Build(Box<Build>),
    /// It is of another framework.
    NoManifest,
}

/// The answer of equal instances.
pub(super) struct Asked {
    /// The service and the digest of the program, if that is known.
    program: Option<Program>,
    instances: usize,
    answer: Result<Answer, String>,
}

impl Asks {
    /// Asks the passing instances of `peers`, and of all other services that discovery lists, but for the services
    /// `own`. Of those that are `needed`, one must be there.
    pub(super) async fn others(&mut self, peers: BTreeSet<String>, needed: &BTreeSet<String>, own: &[String]) -> Found {
        let mut found = Found::default();
        let mut services = peers;
        match within(self.discovery.services()).await {
            Ok(listed) => services.extend(listed.into_iter().flatten()),
            Err(why) => _ = found.silent.insert(why),
        }
        services.retain(|service| !own.contains(service));
        let services: Vec<_> = services.into_iter().collect();
        for some in services.chunks(AT_ONCE) {
            let asked = some.iter().map(|service| async {
                let mut seen = within(self.discovery.look(service)).await?;
                seen.retain(|seen| seen.is_passing != Some(false));
                Ok::<_, String>((seen.is_empty(), self.ask(service, &seen).await))
            });
            let answers = join_all(asked).await;
            for (service, answers) in some.iter().zip(answers) {
                match answers {
                    Ok((true, _)) if needed.contains(service) => {
                        found.silent.insert(format!("{service} has no instance that passes"));
                    }
                    Ok((_, answers)) => self.keep(service, answers, &mut found),
                    Err(why) => _ = found.silent.insert(format!("{service}: {why}")),
                }
            }
        }
        found
    }

    /// Asks these instances of a service.
    pub(super) async fn ask(&self, service: &str, seen: &[Seen]) -> Vec<Asked> {
        let mut programs: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
        for seen in seen {
            programs.entry(seen.digest.as_deref().unwrap_or(seen.authority.as_str())).or_default().push(seen);
        }
        let asked = programs.into_values().map(|equal| async move {
            let program = equal[0].digest.clone().map(|digest| (service.to_owned(), digest));
            let answer = match program.as_ref().and_then(|program| self.known.get(program)) {
                Some(answer) => Ok(answer.clone()),
                None => {
                    let asked = equal.iter().take(EQUAL).map(|seen| Box::pin(self.manifest(service, seen)));
                    select_ok(asked).await.map(|(answer, _)| answer)
                }
            };
            Asked { program, instances: equal.len(), answer }
        });
        join_all(asked).await
    }

    /// Keeps the answers of a service.
    pub(super) fn keep(&mut self, service: &str, answers: Vec<Asked>, found: &mut Found) {
        for Asked { program, instances, answer } in answers {
            match answer {
                Ok(answer) => {
                    found.add(service, instances, &answer);
                    if let Some(program) = program {
                        self.known.add(program, answer);
                    }
                }
                Err(why) => _ = found.silent.insert(format!("{service}: {why}")),
            }
        }
    }

    async fn manifest(&self, service: &str, seen: &Seen) -> Result<Answer, String> {
        let at = &seen.authority;
        let mut client = ReleaseServiceClient::new(self.instance(service, seen)).max_decoding_message_size(LARGEST);
        let request = GetManifestRequest { service: service.to_owned() };
        let answer = match timeout(LIMIT, client.get_manifest(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) if status.code() == Code::Unimplemented => return Ok(Answer::NoManifest),
            Ok(Err(status)) => return Err(format!("{at} fails: {}", said(&status))),
            Err(_) => return Err(format!("{at} did not answer within {LIMIT:?}")),
        };
        let build =
            Build::read(&answer.manifest).map_err(|why| format!("{at} answers a manifest that is none: {why}"))?;
        if build.service() != service {
            return Err(format!("{at} answers for another service"));
        }
        Ok(Answer::Build(Box::new(build)))
    }

    /// Whether an instance says that it serves.
    pub(super) async fn serves(&self, service: &str, seen: &Seen) -> bool {
        let mut client = HealthClient::new(self.instance(service, seen));
        let answer = timeout(LIMIT, client.check(HealthCheckRequest::default())).await;
        answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving))
    }

    /// Calls one instance.
    fn instance(
        &self,
        service: &str,
        seen: &Seen,
    ) -> impl tower::Service<Request<Body>, Response = http::Response<Received>, Error = Status, Future: Send> + use<>
    {
        let (transport, metrics) = (self.transport.clone(), self.metrics.clone());
        let dial = Dial { service: service.into(), transport, metrics, ..Dial::default() };
        let direct = Arc::new(Direct::to_instance(seen.authority.clone(), dial));
        tower::service_fn(move |request: Request<Body>| {
            let direct = Arc::clone(&direct);
            async move { direct.send(request).await.map_err(|why| Status::unavailable(why.to_string())) }
        })
    }
}

impl Found {
    fn add(&mut self, service: &str, instances: usize, answer: &Answer) {
        let Answer::Build(build) = answer else {
            self.foreign.insert(service.to_owned());
            return;
        };
        match self.running.iter_mut().find(|running| running.build.is_same(build)) {
            Some(same) => same.instances += instances,
            None => self.running.push(Running { build: (**build).clone(), instances }),
        }
    }
}

/// The answer of discovery within the limit.
pub(super) async fn within<T>(answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(LIMIT, answer).await.unwrap_or_else(|_| Err(format!("discovery did not answer within {LIMIT:?}")))
}

/// A status in words. Its text is of another process.
fn said(status: &Status) -> String {
    let text: String = status.message().chars().filter(|char| !char.is_control()).take(200).collect();
    if text.is_empty() { status.code().to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_are_those_of_programs_that_still_run() {
        let program = |digest: &str| ("depot".to_owned(), digest.to_owned());
        let mut known = Known::default();
        for digest in ["1", "2", "3"] {
            known.add(program(digest), Answer::NoManifest);
            known.end_look();
        }
        let found = ["1", "2", "3"].map(|digest| known.get(&program(digest)).is_some());
        assert_eq!(found, [false, false, true]);
    }
}
