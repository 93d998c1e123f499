//! What the tunnel shows over HTTP: pages for people, numbers for programs. Bytes and a time go in, bytes and the next
//! deadline come out; the sockets are in `event/http.rs`.
//!
//! `request` parses a request, or refuses it; `exchange` takes one connection from its request to its end; `respond` makes
//! the answer; `monitor` remembers the last minutes, and `limit` judges by them what holds the tunnel back. `text`, `json`, `metrics` and `page.html` are the forms that an answer can have.

pub mod exchange;
mod json;
pub mod limit;
mod metrics;
pub mod monitor;
pub mod request;
pub mod respond;
mod text;

pub use exchange::Exchange;
pub use limit::Limit;
pub use metrics::FAMILIES;
pub use monitor::{Monitor, Site};
pub(crate) use text::{role, tone};
