//! Every fault of the failure list: one test for each row, named after it (`a7_…`, `p5_…`, `u3_…`).
//!
//! The server is the real program. The API server and the upstreams are scripted here, because real
//! ones cannot be made to lie on demand; where a real one will do, it is used.

#![allow(dead_code, reason = "rows use parts of what all tests share")]

mod api_server;
mod changes;
mod instruments;
mod keeping;
mod oracle;
mod resources;
mod restart;
mod rows;
mod snapshot;
mod soak;
mod upstreams;

#[path = "../support/api.rs"]
mod api;
#[path = "../support/asker.rs"]
mod asker;
#[path = "../support/evil.rs"]
mod evil;
#[path = "../support/fake_cluster/mod.rs"]
mod fake_cluster;
#[path = "../support/ports.rs"]
mod ports;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/query.rs"]
mod query;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/skip.rs"]
mod skip;
#[path = "../support/stand.rs"]
mod stand;
#[path = "../support/upstream.rs"]
mod upstream;
