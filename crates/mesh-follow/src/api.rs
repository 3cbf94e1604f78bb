//! Serves `FollowersService`, once for all services of a process that follow others.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mesh_proto::mesh::events::v1::followers_service_server::{FollowersService, FollowersServiceServer, SERVICE_NAME};
use mesh_proto::mesh::events::v1::{
    ListFollowersRequest, ListFollowersResponse, ListParkedEventsRequest, ListParkedEventsResponse, RebuildCopyRequest,
    RebuildCopyResponse, RetryParkedEventsRequest, RetryParkedEventsResponse, SkipParkedEventsRequest,
    SkipParkedEventsResponse,
};
use mesh_rpc::call::error::{DOMAIN, invalid_fields, status};
use mesh_rpc::call::page::Page;
use mesh_rpc::call::{GrpcServices, Violations, add};
use tonic::{Code, Request, Response, Status, async_trait};

use super::follower::Follower;
use super::{parked, repair, state};

/// The full name of the gRPC service that [`serve`] adds.
pub const CONTRACT: &str = SERVICE_NAME;

/// Adds the contract of followers to `grpc`, for all followers of a process.
pub fn serve(all: &[Arc<Follower>], grpc: &mut GrpcServices) {
    let mut followers = all.to_vec();
    followers.sort_by_key(|follower| (follower.service, follower.source));
    add(grpc, FollowersServiceServer::new(Api { followers }));
}

struct Api {
    /// Sorted by service and source.
    followers: Vec<Arc<Follower>>,
}

impl Api {
    /// The follower that a request names, unless `bad` has violations.
    fn find(&self, service: &str, source: &str, mut bad: Violations) -> Result<&Follower, Status> {
        bad.check(!service.is_empty(), "service", "must name a service that follows");
        bad.check(!source.is_empty(), "source", "must name the service that it follows");
        bad.finish().map_err(|bad| invalid_fields(DOMAIN, bad))?;
        let found = self.followers.iter().find(|one| (one.service, one.source) == (service, source));
        found.map(|follower| &**follower).ok_or_else(|| {
            let message = format!("no service `{service}` of this process follows `{source}`");
            status(Code::NotFound, DOMAIN, "FOLLOWER_NOT_FOUND", message)
        })
    }
}

/// Records a key that is missing.
fn check_key(key: &str) -> Violations {
    let mut bad = Violations::default();
    bad.check(!key.is_empty(), "key", "must be a key with parked events");
    bad
}

fn not_parked(key: &str) -> Status {
    status(Code::NotFound, DOMAIN, "KEY_NOT_PARKED", format!("no event of the key `{key}` is parked"))
}

#[async_trait]
impl FollowersService for Api {
    async fn list_followers(
        &self,
        _: Request<ListFollowersRequest>,
    ) -> Result<Response<ListFollowersResponse>, Status> {
        let mut followers = Vec::new();
        for follower in &self.followers {
            followers.push(state::of(follower).await?);
        }
        Ok(Response::new(ListFollowersResponse { followers }))
    }

    async fn list_parked_events(
        &self,
        request: Request<ListParkedEventsRequest>,
    ) -> Result<Response<ListParkedEventsResponse>, Status> {
        let ListParkedEventsRequest { service, source, key, page_size, page_token } = request.into_inner();
        let mut bad = Violations::default();
        let page = Page::<Last>::read(page_size, &page_token, &mut bad);
        let follower = self.find(&service, &source, bad)?;
        let after = page.after.clone().unwrap_or_else(Last::none);
        let rows = parked::list(&follower.store, &source, &key, (&after.key, after.position), page.fetch()).await?;
        let (events, next_page_token) = page.cut(rows, |row| {
            let event = row.event.clone().unwrap_or_default();
            Last { position: event.position, key: event.key }
        });
        Ok(Response::new(ListParkedEventsResponse { events, next_page_token }))
    }

    async fn retry_parked_events(
        &self,
        request: Request<RetryParkedEventsRequest>,
    ) -> Result<Response<RetryParkedEventsResponse>, Status> {
        let RetryParkedEventsRequest { service, source, key } = request.into_inner();
        let follower = self.find(&service, &source, check_key(&key))?;
        Ok(Response::new(repair::retry(follower, &key).await?.ok_or_else(|| not_parked(&key))?))
    }

    async fn skip_parked_events(
        &self,
        request: Request<SkipParkedEventsRequest>,
    ) -> Result<Response<SkipParkedEventsResponse>, Status> {
        let SkipParkedEventsRequest { service, source, key } = request.into_inner();
        let follower = self.find(&service, &source, check_key(&key))?;
        match repair::skip(follower, &key).await? {
            0 => Err(not_parked(&key)),
            skipped => Ok(Response::new(SkipParkedEventsResponse { skipped })),
        }
    }

    async fn rebuild_copy(
        &self,
        request: Request<RebuildCopyRequest>,
    ) -> Result<Response<RebuildCopyResponse>, Status> {
        let RebuildCopyRequest { service, source } = request.into_inner();
        let follower = self.find(&service, &source, Violations::default())?;
        Ok(Response::new(RebuildCopyResponse { generation: repair::rebuild(follower).await? }))
    }
}

/// The last parked event of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    position: i64,
    key: String,
}

impl Last {
    /// Before the first event.
    fn none() -> Self {
        Self { position: 0, key: String::new() }
    }
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.position, self.key)
    }
}

impl FromStr for Last {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (position, key) = text.split_once('/').ok_or(())?;
        Ok(Self { position: position.parse().map_err(drop)?, key: key.to_owned() })
    }
}
