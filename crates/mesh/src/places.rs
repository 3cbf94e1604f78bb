//! How far the events of the services of a process are, and the copies that they keep: what calls with tokens wait for.

use std::collections::BTreeMap;
use std::future::ready;

use mesh_events::Published;
use mesh_follow::Copied;
use mesh_rpc::call::Token;
use mesh_rpc::server;
use mesh_rpc::server::Pending;

/// What the services of a process publish and follow.
#[derive(Default)]
pub(crate) struct Places {
    /// By service.
    published: BTreeMap<&'static str, Published>,
    /// By service, then by source.
    copies: BTreeMap<&'static str, BTreeMap<&'static str, Copied>>,
}

impl Places {
    /// `service` publishes.
    pub(crate) fn publishes(&mut self, service: &'static str, published: Published) {
        self.published.insert(service, published);
    }

    /// `service` has copies of sources.
    pub(crate) fn follows(&mut self, service: &'static str, copies: BTreeMap<&'static str, Copied>) {
        self.copies.insert(service, copies);
    }
}

impl server::Places for Places {
    fn reached<'a>(&'a self, service: &'a str, token: &'a Token) -> Pending<'a, ()> {
        match self.copies.get(service).and_then(|copies| copies.get(&*token.source)) {
            Some(copy) => Box::pin(copy.reached(token.epoch, token.position)),
            None => Box::pin(ready(())),
        }
    }

    fn published<'a>(&'a self, service: &'a str) -> Pending<'a, Option<Token>> {
        Box::pin(async move {
            // A database that fails after the commit costs the token, and not the write.
            let (epoch, position) = self.published.get(service)?.settled().await.ok()?;
            Some(Token { source: service.to_owned(), epoch, position })
        })
    }
}
