//! Pure: how long a peer may still keep us waiting.

use std::time::Duration;

use tokio::time::Instant;

use crate::edge::limits::Rate;

/// The credit of one peer in one direction. It is told what happens, and reads time only in
/// [`tick`](Self::tick): whatever happened between two ticks happened at the later one.
#[derive(Debug, Clone, Copy)]
pub(in crate::edge) struct Credit {
    rate: Rate,
    left: Duration,
    /// Bytes since the last tick.
    moved: u64,
    waiting: bool,
    /// When waiting was last paid for.
    since: Option<Instant>,
}

/// The credit is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::edge) struct Exhausted;

impl Credit {
    pub(in crate::edge) const fn new(rate: Rate) -> Self {
        Self { rate, left: rate.grace, moved: 0, waiting: false, since: None }
    }

    /// Goes on under another rate. What was already granted stays, up to what the new one grants.
    pub(in crate::edge) fn set_rate(&mut self, rate: Rate) {
        if rate != self.rate {
            self.left = if self.rate.idle < rate.idle { rate.grace } else { self.left };
            self.left = self.left.min(rate.idle);
            self.rate = rate;
        }
    }

    /// The peer has to do something before we can.
    pub(in crate::edge) const fn waits(&mut self) {
        self.waiting = true;
    }

    pub(in crate::edge) const fn is_waiting(&self) -> bool {
        self.waiting
    }

    pub(in crate::edge) const fn goes_on(&mut self) {
        self.waiting = false;
    }

    pub(in crate::edge) const fn moved(&mut self, bytes: u64) {
        self.moved = self.moved.saturating_add(bytes);
    }

    /// Settles the account. When the credit ends, if nothing moves until then.
    pub(in crate::edge) fn tick(&mut self, now: Instant) -> Result<Option<Instant>, Exhausted> {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(now.saturating_duration_since(since));
        }
        let moved = std::mem::take(&mut self.moved);
        if moved > 0 && self.left < self.rate.idle {
            self.left = self.left.saturating_add(self.rate.worth(moved)).min(self.rate.idle);
        }
        if !self.waiting {
            return Ok(None);
        }
        if self.left.is_zero() {
            return Err(Exhausted);
        }
        self.since = Some(now);
        Ok(Some(now + self.left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// 100 B/s, a second of grace, 3 seconds at most.
    fn credit() -> Credit {
        Credit::new(Rate::at_least(100).grace(ms(1000)).idle(ms(3000)))
    }

    #[test]
    fn who_does_nothing_is_cut_when_the_grace_is_over() {
        let (start, mut credit) = (Instant::now(), credit());
        credit.waits();
        assert_eq!(credit.tick(start), Ok(Some(start + ms(1000))));
        assert_eq!(credit.tick(start + ms(999)), Ok(Some(start + ms(1000))));
        assert_eq!(credit.tick(start + ms(1000)), Err(Exhausted));
    }

    #[test]
    fn time_we_do_not_wait_costs_nothing() {
        let (start, mut credit) = (Instant::now(), credit());
        credit.waits();
        assert!(credit.tick(start).is_ok());
        credit.goes_on();
        assert_eq!(credit.tick(start + ms(400)), Ok(None));
        assert_eq!(credit.tick(start + ms(60_000)), Ok(None));
        credit.waits();
        assert_eq!(credit.tick(start + ms(60_000)), Ok(Some(start + ms(60_600))));
    }

    #[test]
    fn a_burst_earns_a_pause_of_idle_and_no_longer() {
        let (start, mut credit) = (Instant::now(), credit());
        credit.waits();
        credit.moved(1_000_000);
        assert_eq!(credit.tick(start), Ok(Some(start + ms(3000))));
        credit.moved(1);
        assert_eq!(credit.tick(start + ms(2990)), Ok(Some(start + ms(3010))));
        assert_eq!(credit.tick(start + ms(3010)), Err(Exhausted));
    }

    #[test]
    fn without_a_rate_any_byte_gives_the_whole_pause_again() {
        let (start, mut credit) = (Instant::now(), Credit::new(Rate::at_least(0).idle(ms(500))));
        credit.waits();
        assert_eq!(credit.tick(start), Ok(Some(start + ms(500))));
        credit.moved(1);
        assert_eq!(credit.tick(start + ms(499)), Ok(Some(start + ms(999))));
        assert_eq!(credit.tick(start + ms(999)), Err(Exhausted));
    }

    #[test]
    fn another_rate_grants_what_it_grants_from_the_beginning() {
        let (start, mut credit) = (Instant::now(), credit());
        credit.waits();
        assert!(credit.tick(start).is_ok());
        credit.set_rate(Rate::none());
        let day = Rate::none().idle;
        assert_eq!(credit.tick(start + ms(900)), Ok(Some(start + ms(900) + (day - ms(900)))));
        credit.set_rate(Rate::at_least(1).idle(ms(200)));
        assert_eq!(credit.tick(start + ms(1000)).ok().flatten(), Some(start + ms(1100)));
    }

    proptest! {
        /// Whoever sends at the rate, in pieces that come more often than the grace ends, is
        /// never cut, whenever we look.
        #[test]
        fn who_keeps_the_rate_is_never_cut(gaps in proptest::collection::vec(1_u64..1000, 1..200)) {
            let (mut now, mut credit) = (Instant::now(), credit());
            credit.waits();
            prop_assert!(credit.tick(now).is_ok());
            for gap in gaps {
                now += ms(gap);
                // 100 B/s, rounded up.
                credit.moved(gap.div_ceil(10));
                prop_assert!(credit.tick(now).is_ok());
            }
        }

        /// Whoever sends at half of it is cut before it has used up the most it can have, twice.
        #[test]
        fn who_is_too_slow_is_cut(gap in 20_u64..1000) {
            let (mut now, mut credit) = (Instant::now(), credit());
            credit.waits();
            credit.moved(1_000_000);
            let start = now;
            loop {
                let due = credit.tick(now).ok().flatten().expect("the timer fires at the end");
                if due <= now + ms(gap) {
                    prop_assert_eq!(credit.tick(due), Err(Exhausted));
                    prop_assert!(due - start <= ms(2 * 3000 + 2 * gap));
                    break;
                }
                now += ms(gap);
                credit.moved(gap / 20);
            }
        }
    }
}
