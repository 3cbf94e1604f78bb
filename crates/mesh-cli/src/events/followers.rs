//! Shows the copies that services keep of what others publish, and repairs them.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{anyhow, bail};
use mesh_proto::mesh::events::v1::followers_service_client::FollowersServiceClient;
use mesh_proto::mesh::events::v1::{
    Follower, ListFollowersRequest, ListParkedEventsRequest, ParkedEvent, RebuildCopyRequest, RetryParkedEventsRequest,
    SkipParkedEventsRequest,
};
use tonic::{Code, Status};

use super::sources::LARGEST;
use super::text::short;
use crate::credentials::Channel;
use crate::shown::{self, Table};
use crate::target::{Process, Target};

/// The parked events of one page.
const PAGE: i32 = 200;

/// A follower, and a process of the service that follows.
struct Found {
    process: Process,
    follower: Follower,
}

/// Prints each copy, and how far it is behind.
pub(crate) async fn lag(target: &Target) -> anyhow::Result<ExitCode> {
    let (found, errors) = followers(target).await?;
    let mut table = Table::new(["SERVICE", "SOURCE", "STATE", "POSITION", "HEAD", "LAG", "HEARD", "PARKED", "WHY"]);
    for Found { follower, .. } in found {
        let (state, heard) = (state(&follower), shown::age(follower.heard_time, SystemTime::now()));
        let numbers = [follower.position, follower.head, follower.lag].map(|number| number.to_string());
        let ([position, head, lag], parked) = (numbers, follower.parked_keys.to_string());
        table.row([follower.service, follower.source, state, position, head, lag, heard, parked, follower.error]);
    }
    if !table.is_empty() {
        write!(io::stdout(), "{table}")?;
    } else if errors.is_empty() {
        shown::note("no service follows another");
    }
    Ok(shown::reported(&errors))
}

/// Prints the parked events of all copies, or of those of one source.
pub(crate) async fn parked(source: Option<&str>, target: &Target) -> anyhow::Result<ExitCode> {
    let (mut found, mut errors) = followers(target).await?;
    found.retain(|found| source.is_none_or(|source| found.follower.source == source));
    if let Some(source) = source.filter(|_| found.is_empty() && errors.is_empty()) {
        return Err(not_followed(source));
    }
    let mut table = Table::new(["SERVICE", "SOURCE", "KEY", "POSITION", "TYPE", "PARKED", "WHY"]);
    for found in &found {
        match parked_in(found, "").await {
            Ok(parked) => parked.into_iter().for_each(|event| table.row(row(found, event))),
            Err(error) => errors.push(format!("{}: {error:#}", found.follower.service)),
        }
    }
    if !table.is_empty() {
        write!(io::stdout(), "{table}")?;
    } else if errors.is_empty() {
        shown::note("no events are parked");
    }
    Ok(shown::reported(&errors))
}

/// Applies the parked events of one key, in order, and prints how many.
pub(crate) async fn retry(copy: &Copy, key: &str, target: &Target) -> anyhow::Result<ExitCode> {
    let found = copy.find(target).await?;
    let mut applied = 0;
    loop {
        let Follower { service, source, .. } = found.follower.clone();
        let request = RetryParkedEventsRequest { service, source, key: key.to_owned() };
        let answer = found.process.answer(client(&found.process).retry_parked_events(request)).await?;
        let done = answer.map_err(|status| refused(&status, copy))?;
        applied += done.applied;
        if !done.error.is_empty() {
            bail!("applied {applied} events, and {} are still parked: {}", done.parked, done.error);
        }
        // One call applies a limited number.
        if done.parked == 0 || done.applied == 0 {
            writeln!(io::stdout(), "applied {applied} events; {} are parked", done.parked)?;
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Deletes the parked events of one key, after two questions, and prints how many.
pub(crate) async fn skip(copy: &Copy, key: &str, yes: bool, target: &Target) -> anyhow::Result<ExitCode> {
    let found = copy.find(target).await?;
    let parked = parked_in(&found, key).await?;
    if parked.is_empty() {
        return Err(nothing_parked(&format!("no event of the key `{key}` is parked"), copy));
    }
    let service = &found.follower.service;
    if !yes && !confirmed(&format!("{} parked events of `{key}`", parked.len()), service, key)? {
        bail!("nothing was skipped");
    }
    let Follower { service, source, .. } = found.follower.clone();
    let request = SkipParkedEventsRequest { service, source, key: key.to_owned() };
    let answer = found.process.answer(client(&found.process).skip_parked_events(request)).await?;
    let skipped = answer.map_err(|status| refused(&status, copy))?.skipped;
    writeln!(io::stdout(), "skipped {skipped} events; the copy lacks them until `mesh events rebuild`")?;
    Ok(ExitCode::SUCCESS)
}

/// Has a copy built again.
pub(crate) async fn rebuild(copy: &Copy, target: &Target) -> anyhow::Result<ExitCode> {
    let found = copy.find(target).await?;
    let Follower { service, source, .. } = found.follower.clone();
    let answer =
        found.process.answer(client(&found.process).rebuild_copy(RebuildCopyRequest { service, source })).await?;
    let generation = answer.map_err(|status| refused(&status, copy))?.generation;
    writeln!(io::stdout(), "build {generation} begins; `mesh events lag` shows when it is complete")?;
    Ok(ExitCode::SUCCESS)
}

/// A copy, as the command line names it: by its source, and by the service if several follow it.
pub(crate) struct Copy {
    pub(crate) source: String,
    pub(crate) service: Option<String>,
}

impl Copy {
    async fn find(&self, target: &Target) -> anyhow::Result<Found> {
        let (mut found, errors) = followers(target).await?;
        found.retain(|Found { follower, .. }| {
            follower.source == self.source && self.service.as_ref().is_none_or(|service| follower.service == *service)
        });
        if let (Some(error), true) = (errors.first(), found.is_empty()) {
            bail!("{error}");
        }
        if found.len() > 1 {
            let services = found.iter().map(|found| found.follower.service.as_str()).collect::<Vec<_>>().join(", ");
            bail!("several services follow `{}`: give --service, one of {services}", self.source);
        }
        found.pop().ok_or_else(|| match &self.service {
            Some(service) => {
                anyhow!("`{service}` does not follow `{}`: `mesh events lag` lists the copies", self.source)
            }
            None => not_followed(&self.source),
        })
    }
}

/// The followers that answer, and an error for each service that does not answer.
async fn followers(target: &Target) -> anyhow::Result<(Vec<Found>, Vec<String>)> {
    let (found, errors) = target.of_each_service(followers_of, |follower| &follower.service).await?;
    Ok((found.into_iter().map(|(process, follower)| Found { process, follower }).collect(), errors))
}

/// The followers of a process. One that does not serve the contract has none.
async fn followers_of(process: &Process) -> anyhow::Result<Vec<Follower>> {
    match process.answer(client(process).list_followers(ListFollowersRequest {})).await? {
        Ok(answer) => Ok(answer.followers),
        Err(status) if status.code() == Code::Unimplemented => Ok(Vec::new()),
        Err(status) => bail!(shown::status(&status)),
    }
}

/// The parked events of a follower, or those of one key, from all pages.
async fn parked_in(found: &Found, key: &str) -> anyhow::Result<Vec<ParkedEvent>> {
    let (Follower { service, source, .. }, key) = (found.follower.clone(), key.to_owned());
    let mut request =
        ListParkedEventsRequest { service, source, key, page_size: PAGE, ..ListParkedEventsRequest::default() };
    let (mut client, mut parked) = (client(&found.process), Vec::new());
    loop {
        let page = found.process.answer(client.list_parked_events(request.clone())).await?;
        let page = page.map_err(|status| anyhow!(shown::status(&status)))?;
        parked.extend(page.events);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(parked);
        }
    }
}

/// A parked event as a row. One behind another has no reason of its own.
fn row(found: &Found, parked: ParkedEvent) -> [String; 7] {
    let Follower { service, source, .. } = found.follower.clone();
    let event = parked.event.unwrap_or_default();
    let kind = event.data.as_ref().map(|data| short(&data.type_url).to_owned()).unwrap_or_default();
    let age = shown::age(parked.park_time, SystemTime::now());
    let why = if parked.error.is_empty() { "behind an earlier one".to_owned() } else { parked.error };
    [service, source, event.key, event.position.to_string(), kind, age, why]
}

/// Asks twice whether to skip. Without a terminal nobody answers.
fn confirmed(what: &str, service: &str, key: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("skipping deletes {what} from the copy of `{service}`: give --yes to do it without a terminal");
    }
    let asked = |question: &str| -> io::Result<String> {
        write!(io::stderr(), "{question} ")?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    };
    let agreed = asked(&format!("Delete {what}? The copy of `{service}` will lack them. [y/N]"))?;
    Ok(agreed.eq_ignore_ascii_case("y") && asked("Repeat the key to delete them for good:")? == key)
}

/// What a follower does, in lower case.
fn state(follower: &Follower) -> String {
    follower.state().as_str_name().trim_start_matches("STATE_").to_lowercase()
}

fn not_followed(source: &str) -> anyhow::Error {
    anyhow!("no service follows `{source}`: `mesh events lag` lists the copies")
}

fn refused(status: &Status, copy: &Copy) -> anyhow::Error {
    match status.code() {
        Code::NotFound => nothing_parked(status.message(), copy),
        _ => anyhow!(shown::status(status)),
    }
}

fn nothing_parked(said: &str, copy: &Copy) -> anyhow::Error {
    anyhow!("{said}: `mesh events parked {}` lists the parked events", copy.source)
}

fn client(process: &Process) -> FollowersServiceClient<Channel> {
    FollowersServiceClient::new(process.channel.clone()).max_decoding_message_size(LARGEST)
}
