//! Finds the services that publish events.

use anyhow::bail;
use mesh_proto::mesh::events::v1::events_service_client::EventsServiceClient;
use mesh_proto::mesh::events::v1::{ListSourcesRequest, Source};
use tonic::Code;

use crate::credentials::Channel;
use crate::shown;
use crate::target::{Process, Target};

/// The largest answer that is accepted: a page of 200 events of 256 KiB each.
pub(crate) const LARGEST: usize = 64 * 1024 * 1024;

/// The sources that answer, each with a process that has it, and an error for each service that does not answer.
pub(crate) async fn sources(target: &Target) -> anyhow::Result<(Vec<(Process, Source)>, Vec<String>)> {
    target.of_each_service(sources_of, |source| &source.name).await
}

/// The sources of a process. One that does not serve the contract has none.
pub(crate) async fn sources_of(process: &Process) -> anyhow::Result<Vec<Source>> {
    match process.answer(client(process).list_sources(ListSourcesRequest {})).await? {
        Ok(answer) => Ok(answer.sources),
        Err(status) if status.code() == Code::Unimplemented => Ok(Vec::new()),
        Err(status) => bail!(shown::status(&status)),
    }
}

pub(crate) fn client(process: &Process) -> EventsServiceClient<Channel> {
    EventsServiceClient::new(process.channel.clone()).max_decoding_message_size(LARGEST)
}
