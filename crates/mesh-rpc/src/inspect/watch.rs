//! What has changed since the last message to a reader.
//!
//! A reader has a mark for each edge: reading those of edges without a call since then is a sum, and builds nothing.

use std::collections::BTreeMap;
use std::time::SystemTime;

use mesh_proto::mesh::inspect::v1::{Edge, Endpoint, Follower, ServiceHealth, WatchResponse};

use super::wire;
use crate::server::Health;
use crate::telemetry::Metrics;

/// What changes all the time.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) start_id: String,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
}

/// What a reader knows.
pub(super) struct Reader {
    live: Live,
    /// By the place of the edge among all.
    edges: Vec<(u64, u64, u64)>,
    services: Rows<ServiceHealth>,
    followers: Rows<Follower>,
    endpoints: Rows<Endpoint>,
}

/// The rows that a reader has, by their key.
type Rows<T> = BTreeMap<(String, String), T>;

impl Reader {
    pub(super) fn new(live: Live) -> Self {
        let (edges, services, followers, endpoints) = (Vec::new(), Rows::new(), Rows::new(), Rows::new());
        Self { live, edges, services, followers, endpoints }
    }

    /// The next message: the whole state at first, and later what has changed.
    pub(super) fn next(&mut self) -> WatchResponse {
        WatchResponse {
            start_id: self.live.start_id.clone(),
            measured_at: Some(wire::time(SystemTime::now())),
            edges: self.edges(),
            services: self.services(),
            followers: self.followers(),
            endpoints: self.endpoints(),
            draining: self.live.health.is_draining(),
            unmet: self.live.metrics.unmet(),
        }
    }

    fn edges(&mut self) -> Vec<Edge> {
        let all = self.live.metrics.edges.all();
        // An edge without a call has the first mark.
        self.edges.resize(all.len(), (0, 0, 0));
        let mut changed = Vec::new();
        for (edge, before) in all.iter().zip(&mut self.edges) {
            let mark = edge.mark();
            if mark != std::mem::replace(before, mark) {
                changed.push(wire::edge(edge));
            }
        }
        changed
    }

    fn services(&mut self) -> Vec<ServiceHealth> {
        let rows = self.live.health.services().into_iter().map(|(service, ready, why)| {
            let key = (service.to_owned(), String::new());
            (key, ServiceHealth { service: service.to_owned(), ready, why })
        });
        changed(rows.collect(), &mut self.services).0
    }

    fn followers(&mut self) -> Vec<Follower> {
        let rows = self.live.metrics.followers().into_iter().map(|(service, source, lag)| {
            ((service.to_owned(), source.to_owned()), wire::follower(service, source, lag))
        });
        changed(rows.collect(), &mut self.followers).0
    }

    fn endpoints(&mut self) -> Vec<Endpoint> {
        let rows = self.live.metrics.endpoints().into_iter();
        let rows = rows.map(|counts| ((counts.peer.to_owned(), counts.address.clone()), wire::endpoint(counts)));
        let (mut changed, gone) = changed(rows.collect(), &mut self.endpoints);
        changed.extend(gone.into_iter().map(|endpoint| Endpoint { gone: true, ..endpoint }));
        changed
    }
}

/// The rows of `now` that differ from those before, and those before that are there no more. `before` is `now` then.
fn changed<T: Clone + PartialEq>(now: Rows<T>, before: &mut Rows<T>) -> (Vec<T>, Vec<T>) {
    let changed = now.iter().filter(|(key, row)| before.get(*key) != Some(row)).map(|(_, row)| row.clone()).collect();
    let gone = before.iter().filter(|(key, _)| !now.contains_key(*key)).map(|(_, row)| row.clone()).collect();
    *before = now;
    (changed, gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Methods;
    use crate::telemetry::ClientCall;
    use mesh_proto::mesh::inspect::v1::{Side, UnmetCall};
    use tonic::body::Body;
    use tonic::{Code, Status};

    fn live() -> Live {
        let health = Health::starting([("film", vec!["film.v1.Film"])], []);
        Live { start_id: "1".to_owned(), metrics: Metrics::new(), health }
    }

    /// Makes a call that ends with a code.
    fn call(live: &Live, code: Code) {
        let method = Methods::of(&[]).find("/google.longrunning.Operations/GetOperation");
        let edge = live.metrics.edges.all().first().copied();
        let edge = edge.unwrap_or_else(|| live.metrics.edges.made("film", "artwork", method, false));
        let begun = ClientCall::begin(edge, &crate::call::Context::default(), &mut http::Request::new(()));
        drop(begun.respond(Status::new(code, "").into_http::<Body>()));
    }

    #[test]
    fn watch_sends_the_whole_and_then_what_has_changed() {
        let live = live();
        live.metrics.follower("film", "catalog");
        let endpoint = live.metrics.peer("artwork").endpoint("127.0.0.1:1");
        call(&live, Code::Ok);
        let mut reader = Reader::new(live.clone());
        let first = reader.next();
        let [edge] = &first.edges[..] else { panic!("{first:?}") };
        assert_eq!((edge.side(), &*edge.caller, &*edge.callee), (Side::Client, "film", "artwork"));
        assert_eq!((edge.method.as_str(), edge.codes[0].count), ("google.longrunning.Operations/GetOperation", 1));
        assert_eq!(edge.buckets.iter().map(|bucket| bucket.count).sum::<i64>(), 1);
        let rows = |message: &WatchResponse| {
            [message.edges.len(), message.services.len(), message.followers.len(), message.endpoints.len()]
        };
        assert_eq!(rows(&first), [1, 1, 1, 1]);
        assert_eq!((first.followers[0].lag, first.services[0].ready), (-1, false));
        assert_eq!(rows(&reader.next()), [0; 4]);

        call(&live, Code::NotFound);
        live.health.started();
        endpoint.picked();
        let next = reader.next();
        assert_eq!(rows(&next), [1, 1, 0, 1]);
        assert_eq!((next.edges[0].codes.len(), next.edges[0].last_failure.as_ref().unwrap().code), (2, 5));
        assert_eq!((next.services[0].ready, next.endpoints[0].picks, next.draining), (true, 1, false));

        drop(endpoint);
        live.health.drain();
        live.metrics.set_unmet(vec![UnmetCall { peer: "artwork".to_owned(), ..UnmetCall::default() }]);
        let last = reader.next();
        assert_eq!((rows(&last), last.draining, last.unmet.len()), ([0, 1, 0, 1], true, 1));
        assert!(last.endpoints[0].gone && !last.services[0].ready, "{last:?}");
        assert_eq!(rows(&reader.next()), [0; 4]);
        // Another reader has its own state.
        assert_eq!(rows(&Reader::new(live).next()), [1, 1, 1, 0]);
    }

    #[test]
    fn watch_has_no_edge_without_a_call() {
        let live = live();
        let method = Methods::of(&[]).find("/google.longrunning.Operations/GetOperation");
        live.metrics.edges.made("film", "artwork", method, false);
        assert!(Reader::new(live).next().edges.is_empty());
    }
}
