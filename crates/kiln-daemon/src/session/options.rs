//! What a client sets for its connection.

use kiln_protocol::worker::request::SetOptions;
use kiln_settings::client::apply_override;
use kiln_settings::{MaxJobs, Settings};

use super::Session;
use super::failure::Failure;

impl Session {
    /// Begins from the daemon's own settings. The numbers that have their place are anybody's to choose; the rest goes by
    /// what the table of settings says.
    pub(super) fn set_options(&mut self, options: &SetOptions) -> Result<(), Failure> {
        let daemon = &self.shared.settings;
        self.outbox.set_verbosity(options.verbosity());
        let mut settings = Settings {
            keep_failed: options.keep_failed,
            keep_going: options.keep_going,
            fallback: options.try_fallback,
            max_jobs: MaxJobs::Count(self.allowed_jobs(options.max_build_jobs)),
            max_silent_time: options.max_silent_time,
            cores: options.build_cores,
            substitute: options.use_substitutes,
            ..(**daemon).clone()
        };
        for (name, value) in &options.overrides {
            let Ok(value) = std::str::from_utf8(value) else {
                self.events.warn(format!("setting '{name}' has a value that is not UTF-8"));
                continue;
            };
            for refusal in
                apply_override(&mut settings, daemon, self.peer.trust, self.shared.cpus, name, value)
            {
                self.events.warn(refusal.to_string());
            }
        }
        // Then it keeps what it has.
        if settings != self.settings {
            self.engine = self.engine.with_settings(&settings, self.peer.user)?;
            self.settings = settings;
        }
        self.engine.set_verbosity(options.verbosity());
        Ok(())
    }

    /// As many builds may run for this client at once. Anybody may ask for more than the daemon itself would run, as with
    /// Nix, but without trust not for more than there are processors.
    fn allowed_jobs(&self, wanted: u64) -> u64 {
        let own = self.shared.settings.max_jobs.resolve(self.shared.cpus);
        if self.is_trusted() { wanted } else { wanted.min(own.max(self.shared.cpus)) }
    }
}
