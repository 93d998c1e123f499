//! Systems whose word about the network is not listened to: `event::network` looks at the route itself.

use std::io;

/// Nobody tells this process when the network changes: it looks (`event::network`).
pub(crate) struct NetworkNews;

impl NetworkNews {
    /// None.
    pub(crate) fn open() -> Option<NetworkNews> {
        None
    }

    /// Never called.
    pub(crate) fn register(&mut self, _: &mio::Registry, _: mio::Token) -> io::Result<()> {
        Ok(())
    }

    /// Never called.
    pub(crate) fn note(&mut self) {}

    /// Never called.
    pub(crate) fn take(&mut self) -> bool {
        false
    }
}
