//! SIGHUP, or what stands for it: reads the configuration again, and applies what can change without ending sessions. Which keys can is in
//! `config::change`.

use super::Loop;
use super::report::reason;
use crate::config::{Change, Config};
use crate::http::Site;
use crate::logging;
use crate::platform::RELOAD;
use crate::time::Instant;
use log::{error, info, warn};

/// How the configuration is read again.
pub struct Reread {
    /// What is in effect.
    pub present: Config,
    /// Reads it. The error is one line.
    pub read: Box<dyn Fn() -> Result<Config, String>>,
}

impl Loop {
    pub(super) fn reload(&mut self, now: Instant) {
        if let Err(e) = logging::reopen() {
            let lost = "the log still goes to the file that was open";
            warn!("log: cannot open the file again: {}; {lost}", reason(&e));
        }
        let Some(reread) = &mut self.reread else {
            return warn!("{RELOAD}: there is no configuration to read again");
        };
        let outcome = (reread.read)().and_then(|new| reread.present.changed_to(&new));
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(e) => {
                let became = match &reread.present.user {
                    Some(user) => format!(" (kcptun runs as {user} now)"),
                    None => String::new(),
                };
                return error!("{RELOAD}: {e}{became}; nothing is changed");
            }
        };
        info!("{RELOAD}: the configuration was read again");
        let known = std::mem::replace(&mut reread.present, outcome.config).warnings;
        let config = reread.present.clone();
        self.take_over(now, &config);
        say(&outcome.changes);
        for warning in &config.warnings {
            if !known.contains(warning) {
                warn!("{warning}");
            }
        }
    }

    fn take_over(&mut self, now: Instant, config: &Config) {
        self.tunnel.reload(now, config.settings());
        self.tcp
            .dialler
            .reload(config.connect.clone(), config.tcp.clone());
        for listener in &self.tcp.listeners {
            listener.reload(&config.tcp);
        }
        if let (Some(http), Some(listen)) = (&mut self.http, &config.http_listen) {
            http.set_site(Site::new(config, listen));
        }
        logging::set_level(config.loglevel);
    }
}

fn say(changes: &[Change]) {
    if changes.is_empty() {
        info!("{RELOAD}: nothing has changed");
    }
    for change in changes {
        match change.refused {
            None => info!("{RELOAD}: {change}"),
            Some(_) => warn!("{RELOAD}: {change}"),
        }
    }
}
