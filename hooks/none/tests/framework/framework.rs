//! What mesh promises, tested with real binaries and grpcurl from outside. Each file's subject:

mod bad_start; // the errors of a process that cannot start
mod branches; // two branches that add a service each, and scripts in odd environments
mod dashboard; // the dashboard of a process
mod deploy; // the files of deploy/
mod doctor; // `mesh doctor`
mod drain; // the drain
mod frames; // malformed frames of HTTP/2
mod inspect; // what a dashboard reads of a process
mod metrics; // the formats of /metrics, and what is there from the start
mod releases; // deployments by the plan of `mesh release`, and against it
mod serving; // reflection, health, admin pages, deadlines
mod structure; // the ladder of crates, and no cycles among files
mod templates; // the templates of scripts/new-service
mod web; // a page of the project's own
