//! Finds the services that publish events.

use anyhow::anyhow;
use mesh_proto::mesh::events::v1::events_service_client::EventsServiceClient;
use mesh_proto::mesh::events::v1::{ListSourcesRequest, Source};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::shown;
use crate::target::{Process, Target};

/// The largest answer that is accepted: a page of 200 events of 256 KiB each.
pub(crate) const LARGEST: usize = 64 * 1024 * 1024;

/// The sources that answer, each with a process that has it, and an error for each service that does not answer.
pub(crate) async fn sources(target: &Target) -> anyhow::Result<(Vec<(Process, Source)>, Vec<String>)> {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    match target {
        Target::Process(process) => {
            let sources = sources_of(process).await?.map_err(|status| anyhow!(shown::status(&status)))?;
            found.extend(sources.into_iter().map(|source| (process.clone(), source)));
        }
        Target::Consul(consul) => {
            for service in consul.grpc_services().await? {
                match of_service(&service, target).await {
                    Ok(source) => found.extend(source),
                    Err(error) => errors.push(format!("{service}: {error:#}")),
                }
            }
        }
    }
    Ok((found, errors))
}

/// What one service publishes; `None` if it publishes nothing.
async fn of_service(service: &str, target: &Target) -> anyhow::Result<Option<(Process, Source)>> {
    let process = target.process(service).await?;
    let sources = sources_of(&process).await?.map_err(|status| anyhow!(shown::status(&status)))?;
    // The process may serve further services.
    Ok(sources.into_iter().find(|source| source.name == service).map(|source| (process, source)))
}

/// The sources of a process. One that does not serve the contract has none.
pub(crate) async fn sources_of(process: &Process) -> anyhow::Result<Result<Vec<Source>, Status>> {
    Ok(match process.answer(client(process).list_sources(ListSourcesRequest {})).await? {
        Ok(answer) => Ok(answer.sources),
        Err(status) if status.code() == Code::Unimplemented => Ok(Vec::new()),
        Err(status) => Err(status),
    })
}

pub(crate) fn client(process: &Process) -> EventsServiceClient<Channel> {
    EventsServiceClient::new(process.channel.clone()).max_decoding_message_size(LARGEST)
}
