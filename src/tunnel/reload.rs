//! What of a running tunnel can be changed: its spans, its limits and its key. Sessions go on. Which keys of the
//! configuration that are is said in `config::keys`, and sockets are not touched here.

use super::Tunnel;
use crate::message::Control;
use crate::settings::Settings;
use crate::time::Instant;
use std::net::SocketAddr;

impl Tunnel {
    /// Takes over what may change without ending sessions: `timeout`, `linger`, `keepalive`, `time_wait`, the limits of
    /// `rate` and the key and method of `sealing`, if its overhead is the same. The rest of `settings` is not looked at.
    /// Old keys are accepted for `timeout` more.
    pub fn reload(&mut self, now: Instant, settings: Settings) {
        self.settings.timeout = settings.timeout;
        self.meeting.set_lasts(settings.timeout);
        self.settings.linger = settings.linger;
        self.settings.keepalive = settings.keepalive;
        self.settings.time_wait = settings.time_wait;
        self.settings.rate.up = settings.rate.up;
        self.settings.rate.down = settings.rate.down;
        let limits = self.settings.rate.limits();
        for path in self.paths.ids() {
            self.paths[path].set_limits(limits);
        }
        let until = now.after(self.settings.timeout);
        let sealing = settings.sealing;
        if sealing.is_some_and(|sealing| self.packets.replace(sealing, until)) {
            self.announce(now);
            self.renew_keys(now);
        }
        for id in self.sessions.ids_of(|entry| !entry.session.state.is_over()) {
            self.drive(id, now);
        }
        for path in self.paths.ids() {
            self.scheduler.activate(path);
        }
    }

    /// Shows the other ends that they can use the new key.
    fn announce(&mut self, now: Instant) {
        let all = self.paths.iter().map(|(_, path)| path);
        let used = all.filter(|path| path.sessions > 0 || self.peer.is_at(path.addr));
        let addresses = used.map(|path| path.addr).collect();
        self.packets.announce(addresses, now);
    }

    /// When the keys need `advance_keys`.
    pub(super) fn keys_at(&self) -> Option<Instant> {
        let times = [self.packets.expires_at(), self.packets.announces_again_at()];
        times.into_iter().flatten().min()
    }

    pub(super) fn advance_keys(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.packets.announces_again_at()) {
            self.announce(now);
        }
        if due(self.packets.expires_at()) && self.packets.expire(now) {
            log::info!("the old key is not accepted any more");
        }
    }

    /// Writes a ping with the newest key, if somebody is to see that; for whom, and its length.
    pub(super) fn show_new_key(
        &mut self,
        now: Instant,
        out: &mut [u8],
    ) -> Option<(SocketAddr, usize)> {
        let addr = self.packets.next_to_announce_to()?;
        let ping = Control::Ping(super::clock(&self.settings, now).clock).to_wire();
        out[..ping.len()].copy_from_slice(&ping);
        let len = self.packets.seal_newly(out, ping.len(), ping.len());
        self.count_sent(len);
        Some((addr, len))
    }
}
