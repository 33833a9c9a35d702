//! The two clocks: wall time for records, boot time for durations.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Wall-clock nanoseconds since 1970 (`CLOCK_REALTIME`). For records only: it may jump.
#[must_use]
pub fn wall_nanos() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.saturating_mul(NANOS_PER_SECOND).saturating_add(now.tv_nsec)
}

/// An instant that never jumps and goes on while the machine sleeps (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        // The kernel's boot time is never negative and its nanoseconds are below a second.
        Self(Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;
    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_order_and_subtract() {
        let first = Instant::now();
        let later = first + Duration::from_secs(2);
        assert!(later > first);
        assert_eq!(later.since(first), Duration::from_secs(2));
        assert_eq!(first.since(later), Duration::ZERO);
    }

    #[test]
    fn wall_time_is_after_2020() {
        assert!(wall_nanos() > 1_577_836_800 * NANOS_PER_SECOND);
    }
}
