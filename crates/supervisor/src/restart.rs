//! Docker's restart policies, as a calculation.

use std::time::Duration;

use wharf_shim::protocol::RestartPolicy;

/// The first wait.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// A process that ran this long starts over with the shortest wait.
const SETTLED: Duration = Duration::from_secs(10);

/// A policy and how far it has got.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    count: u32,
    wait: Duration,
    stop_intended: bool,
}

impl Restarts {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        Self { policy, count: 0, wait: Duration::ZERO, stop_intended: false }
    }

    /// How often the policy has started the process again.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn set_count(&mut self, count: u32) {
        self.count = count;
    }

    pub(crate) fn set_policy(&mut self, policy: RestartPolicy) {
        self.policy = policy;
    }

    /// A person wants it to stop: whatever the policy, it is not started again.
    pub(crate) fn intend_stop(&mut self) {
        self.stop_intended = true;
    }

    /// The process ended after `ran` with `code` (`None`: nobody knows): how long to wait before it is
    /// started again; `None`: it is not.
    pub(crate) fn after_end(&mut self, code: Option<i32>, ran: Duration) -> Option<Duration> {
        let again = !self.stop_intended
            && match self.policy {
                RestartPolicy::No => false,
                RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
                RestartPolicy::OnFailure { maximum_retry_count: most } => {
                    code != Some(0) && (most == 0 || self.count < most)
                }
            };
        if !again {
            return None;
        }
        let settled = ran >= SETTLED || self.wait.is_zero();
        self.wait = if settled { SHORTEST } else { (self.wait * 2).min(LONGEST) };
        self.count = self.count.saturating_add(1);
        Some(self.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIEF: Duration = Duration::from_millis(5);

    #[test]
    fn waits_double_up_to_a_minute_and_start_over_when_settled() {
        let mut restarts = Restarts::new(RestartPolicy::Always);
        let waits: Vec<u128> =
            (0..12).map(|_| restarts.after_end(Some(0), BRIEF).unwrap().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(restarts.after_end(Some(0), SETTLED), Some(SHORTEST));
        assert_eq!(restarts.count(), 13);
    }

    #[test]
    fn on_failure_counts_and_looks_at_the_code() {
        let mut restarts = Restarts::new(RestartPolicy::OnFailure { maximum_retry_count: 2 });
        assert!(restarts.after_end(Some(1), BRIEF).is_some());
        assert!(restarts.after_end(None, BRIEF).is_some());
        assert_eq!(restarts.after_end(Some(1), BRIEF), None);
        assert_eq!(restarts.count(), 2);
        let mut endless = Restarts::new(RestartPolicy::OnFailure { maximum_retry_count: 0 });
        assert_eq!(endless.after_end(Some(0), BRIEF), None);
        assert!(endless.after_end(Some(137), BRIEF).is_some());
    }

    #[test]
    fn a_person_is_stronger_than_any_policy() {
        for policy in [RestartPolicy::Always, RestartPolicy::UnlessStopped] {
            let mut restarts = Restarts::new(policy);
            restarts.intend_stop();
            assert_eq!(restarts.after_end(Some(1), BRIEF), None);
        }
        assert_eq!(Restarts::new(RestartPolicy::No).after_end(Some(1), BRIEF), None);
    }
}
