//! The tables that the tests of the structure read. A new crate is a line, a new module a word.

/// The crates of the framework from the ground up, each with the crates of this workspace that it may depend on: crates
/// that stand above it in this list. What only tests depend on is free.
pub(crate) const LADDER: &[(&str, &[&str])] = &[
    ("consul-api-client", &[]),
    ("transcode", &[]),
    ("mesh-build", &[]),
    ("mesh-proto", &["mesh-build"]),
    ("contracts", &["mesh-build", "mesh-proto"]),
    ("mesh-release", &["mesh-proto"]),
    ("mesh-runtime", &[]),
    ("mesh-token", &["mesh-runtime"]),
    ("mesh-rpc", &["consul-api-client", "mesh-proto", "mesh-runtime", "mesh-token"]),
    ("mesh-edge", &["transcode", "mesh-runtime", "mesh-rpc"]),
    ("mesh-client", &["mesh-proto", "mesh-runtime"]),
    ("mesh-store", &["mesh-runtime", "mesh-rpc"]),
    ("mesh-feed", &["mesh-proto", "mesh-runtime", "mesh-rpc", "mesh-store"]),
    ("mesh-operations", &["mesh-proto", "mesh-runtime", "mesh-rpc", "mesh-store", "mesh-feed"]),
    ("mesh-events", &["mesh-proto", "mesh-runtime", "mesh-rpc", "mesh-store", "mesh-feed"]),
    ("mesh-follow", &["mesh-proto", "mesh-runtime", "mesh-rpc", "mesh-client", "mesh-store", "mesh-feed"]),
    ("mesh-carrier", &["mesh-proto", "mesh-runtime", "mesh-rpc", "mesh-store", "mesh-events"]),
    (
        "mesh",
        &[
            "consul-api-client",
            "mesh-build",
            "mesh-proto",
            "mesh-release",
            "mesh-runtime",
            "mesh-rpc",
            "mesh-edge",
            "mesh-client",
            "mesh-store",
            "mesh-feed",
            "mesh-operations",
            "mesh-events",
            "mesh-follow",
            "mesh-carrier",
        ],
    ),
    ("sidecar", &["contracts", "mesh-proto", "mesh-runtime", "mesh-rpc"]),
    (
        "mesh-cli",
        &["consul-api-client", "mesh-proto", "mesh-release", "mesh-runtime", "mesh-token", "mesh-rpc", "mesh-client"],
    ),
];

/// What a service may depend on, and the monolith in addition to the services.
pub(crate) const FOR_SERVICES: &[&str] = &["mesh", "contracts"];

/// Crates with the rows of their modules from the ground up. A module may use the modules of the rows before its own,
/// but no other module of its own row: `&["a", "b c"]` lets `b` and `c` use `a`, but not each other. `a::b` places a
/// module within another. Every module of a crate in this list needs a place.
pub(crate) const MODULES: &[(&str, &[&str])] = &[
    (
        "crates/consul-api-client",
        &[
            "address blocking error weights wire",
            "builder check",
            "registration tls",
            "transport",
            "agent catalog health kv session status",
            "client",
        ],
    ),
    (
        "crates/transcode",
        &[
            "nearest",
            "annotations bits code error field_mask json mask percent rule table template time",
            "bad_request normalise problem router wire",
            "entries scan",
            "field_path read write",
            "binding",
            "query route",
            "bind openapi",
        ],
    ),
    (
        "crates/mesh-release",
        &["descriptor options order", "view", "bounds manifest", "compare migrations", "pair", "plan", "gate"],
    ),
    (
        "crates/mesh-runtime",
        &["alarm backoff executable open_files settings signals supervisor tasks usage", "command_line"],
    ),
    (
        "crates/mesh-token",
        &[
            "cache json pem roca signature url user",
            "claims get jws",
            "development key",
            "jwks passport",
            "place vectors",
            "issuer",
            "keys",
            "tokens",
        ],
    ),
    ("crates/mesh-rpc", &["call reread", "telemetry", "identity", "auth", "client", "discovery server", "inspect"]),
    (
        "crates/mesh-edge",
        &[
            "chain client example folder given headers shape shares",
            "memory refusal settings",
            "contract",
            "body guard rate validators",
            "call",
            "cors document grpc_web request unary",
            "stream",
            "forward ndjson pages web websocket",
            "sse",
            "answer",
        ],
    ),
    ("crates/mesh-client", &["bearer channel operation resume", "resuming", "events subscription watch"]),
    (
        "crates/mesh-store",
        &[
            "condition dialect holders list server time",
            "postgres sightings",
            "connection error settings",
            "completion file migrate pool probe rows",
            "log",
            "group",
            "connections transaction",
            "reader",
            "store",
            "connect readiness requests sequencer settled",
        ],
    ),
    (
        "crates/mesh-feed",
        &["cursor encoded epoch log retention signal watchdog", "notifier recent", "stream", "reader"],
    ),
    (
        "crates/mesh-operations",
        &[
            "clock events failure filter ids name plan schema settings",
            "row schedule",
            "outcome storage",
            "records",
            "saga_steps",
            "leases list poll sources steps",
            "clean_ups ended",
            "changes",
            "batcher retention",
            "attempt",
            "journal work",
            "forward undo",
            "saga",
            "kind start",
            "operations",
            "past_deadline runner subscribe watch",
            "clean_up housekeeping",
            "api worker",
            "control",
        ],
    ),
    ("crates/mesh-events", &["log publish settings", "retention source", "list reader subscribe", "api"]),
    (
        "crates/mesh-follow",
        &[
            "failure parked place schema",
            "follow reached seen",
            "row stream",
            "batch copy",
            "follower",
            "applier repair state",
            "api holder",
            "run",
        ],
    ),
    ("crates/mesh-carrier", &["lease message settings", "carrier", "nats place seen", "relay"]),
    (
        "crates/mesh",
        &[
            "calls compose places resources schema",
            "follows",
            "service",
            "process",
            "release",
            "gate",
            "config",
            "inspect",
            "running",
            "announce testing",
            "run",
        ],
    ),
    ("crates/sidecar", &["child headers health", "settings", "config", "app inbound outbound", "running"]),
    (
        "crates/mesh-cli",
        &[
            "message programs shown sidecars token",
            "ca",
            "credentials",
            "target",
            "reflection up",
            "doctor operations services",
            "events release watch",
        ],
    ),
];

/// The rows of every service's modules. Other modules of a service are free.
pub(crate) const SERVICE: &[&str] = &["domain", "store wire", "work", "rpc"];
