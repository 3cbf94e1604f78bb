//! Replicas of the catalog that share a database, so that each can answer for the others.

use std::net::SocketAddr;

use harness::{Consul, Postgres, Process, eventually, uuid};

/// Two replicas, with static addresses or registered in Consul.
pub(super) struct Catalogs {
    database: String,
    registry: String,
    pub(super) replicas: Vec<Process>,
}

impl Catalogs {
    /// Without an installed Postgres it prints a note and returns `None`.
    pub(super) fn start(consul: Option<&Consul>) -> Option<Self> {
        let database = Postgres::shared()?.database(&format!("catalog_{}", uuid().replace('-', "")));
        let registry = consul.map_or("local".to_owned(), Consul::registry);
        let mut catalogs = Self { database, registry, replicas: Vec::new() };
        catalogs.replicas = (0..2).map(|_| catalogs.replica("127.0.0.1:0")).collect();
        if let Some(consul) = consul {
            consul.passing("catalog", 2);
        }
        Some(catalogs)
    }

    fn replica(&self, listen: &str) -> Process {
        let environment = [
            ("MESH__REGISTRY", &*self.registry),
            ("MESH__LISTEN", listen),
            ("MESH__SERVICES__CATALOG__DATABASE_URL", &self.database),
        ];
        Process::start("catalog", &environment)
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(|replica| replica.address).collect()
    }

    /// Kills a replica without warning.
    pub(super) fn kill(&mut self, index: usize) {
        self.replicas[index].signal("KILL");
        self.replicas[index].ended();
    }

    /// Ends a replica by a drain.
    pub(super) fn end(&mut self, index: usize) {
        self.replicas[index].signal("TERM");
        let (status, _) = self.replicas[index].ended();
        assert_eq!(status.code(), Some(0), "the drain failed");
    }

    /// Starts a replica again at its address, and waits until it is called.
    pub(super) fn start_again(&mut self, index: usize) {
        self.replicas[index] = self.replica(&self.replicas[index].address.to_string());
        self.is_called(index);
    }

    /// Waits until the replica has answered a call.
    pub(super) fn is_called(&self, index: usize) {
        eventually("the replica is called", || {
            let metrics = self.replicas[index].http("/metrics");
            let called = |line: &str| line.contains(r#"grpc_method="GetTitle",grpc_code"#) && !line.ends_with(" 0");
            metrics.lines().any(called).then_some(())
        });
    }
}

/// A process that passes calls on to the catalogs that it finds in Consul.
pub(super) fn caller_through(consul: &Consul) -> Process {
    Process::start("hop", &[("MESH__REGISTRY", &consul.registry())])
}
