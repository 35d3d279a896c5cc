//! A queue, its workers and those who fill it, on a clock of numbers.

use std::collections::{BTreeMap, VecDeque};

use super::*;

/// How fine the time of the simulation is.
const STEP: Duration = Duration::from_millis(125);
/// How free workers are shared out among the classes.
const WEIGHTS: [f64; 4] = [8.0, 4.0, 2.0, 1.0];

/// What happens in one second, by what second it is: arrivals of each class, and service.
pub(super) struct Script {
    pub(super) arrivals: fn(u64) -> [f64; 4],
    pub(super) service: fn(u64) -> f64,
    pub(super) dependency_open: fn(u64) -> bool,
}

impl Script {
    pub(super) const IDLE: Self =
        Self { arrivals: |_| [0.0; 4], service: |_| 0.0, dependency_open: |_| false };
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) accepted: u64,
    pub(super) deferred: u64,
    pub(super) skipped: u64,
    pub(super) rejected: u64,
    pub(super) done: u64,
    pub(super) shed: u64,
}

pub(super) struct Simulation {
    pub(super) state: State,
    pub(super) guarded: bool,
    pub(super) now: Duration,
    pub(super) changes: Vec<LevelChanged>,
    pub(super) tally: [Tally; 4],
    /// The greatest wait of a job of each class that began.
    pub(super) slowest: [Duration; 4],
    pub(super) snapshot: GuardSnapshot,
    script: Script,
    ready: [VecDeque<Duration>; 4],
    deferred: BTreeMap<(Duration, u64), usize>,
    owed: [f64; 4],
    free: f64,
    credit: [f64; 4],
    next_look: Duration,
    serial: u64,
    enqueued: u64,
    held_back: u64,
    finished: u64,
    admitted: u64,
    random: u64,
}

impl Simulation {
    pub(super) fn new(config: GuardConfig, script: Script) -> Self {
        let state = State::new(config);
        Self {
            snapshot: state.snapshot(),
            state,
            script,
            guarded: true,
            now: Duration::ZERO,
            changes: Vec::new(),
            tally: Default::default(),
            slowest: Default::default(),
            ready: Default::default(),
            deferred: BTreeMap::new(),
            owed: [0.0; 4],
            free: 0.0,
            credit: [0.0; 4],
            next_look: Duration::ZERO,
            serial: 0,
            enqueued: 0,
            held_back: 0,
            finished: 0,
            admitted: 0,
            random: 0x9E37_79B9_7F4A_7C15,
        }
    }

    /// Puts jobs into the queue past the guard.
    pub(super) fn fill(&mut self, class: Class, jobs: u64) {
        self.ready[class.index()].extend((0..jobs).map(|_| self.now));
        self.enqueued += jobs;
    }

    pub(super) fn defer(&mut self, class: Class, jobs: u64, by: Duration) {
        for _ in 0..jobs {
            self.serial += 1;
            self.deferred.insert((self.now + by, self.serial), class.index());
        }
    }

    pub(super) fn run_until(&mut self, seconds: u64) {
        while self.now < Duration::from_secs(seconds) {
            self.step();
        }
    }

    pub(super) fn waiting(&self) -> u64 {
        self.ready.iter().map(|jobs| jobs.len() as u64).sum()
    }

    pub(super) fn left(&self) -> [usize; 4] {
        [0, 1, 2, 3].map(|class| self.ready[class].len())
    }

    pub(super) fn deferred(&self) -> u64 {
        self.deferred.len() as u64
    }

    pub(super) fn levels(&self) -> Vec<Level> {
        self.changes.iter().map(|change| change.to).collect()
    }

    pub(super) fn step(&mut self) {
        self.now += STEP;
        self.wake();
        self.arrive();
        self.work();
        if self.now >= self.next_look {
            self.look();
        }
    }

    /// What was put off and is due now waits like the rest.
    fn wake(&mut self) {
        while let Some(entry) = self.deferred.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let class = entry.remove();
            self.ready[class].push_back(self.now);
        }
    }

    fn arrive(&mut self) {
        let arrivals = (self.script.arrivals)(self.now.as_secs());
        for class in Class::ALL {
            let index = class.index();
            self.owed[index] += arrivals[index] * STEP.as_secs_f64();
            while self.owed[index] >= 1.0 {
                self.owed[index] -= 1.0;
                self.enqueue(class);
            }
        }
    }

    fn enqueue(&mut self, class: Class) {
        let candidate = Candidate {
            expires_in: None,
            class,
            overload: Overload::default(),
            cohort: self.next_random() >> 32,
            deferrals: 0,
            admitted_since: self.admitted,
            chance: (self.next_random() >> 11) as f64 / (1_u64 << 53) as f64,
        };
        let answer = if self.guarded { self.snapshot.admit(&candidate) } else { Admission::Accept };
        if answer != Admission::Accept && matches!(class, Class::Normal | Class::Sheddable) {
            self.held_back += 1;
        }
        let tally = &mut self.tally[class.index()];
        match answer {
            Admission::Accept => {
                tally.accepted += 1;
                self.enqueued += 1;
                self.admitted += 1;
                self.ready[class.index()].push_back(self.now);
            }
            Admission::Defer { by } => {
                tally.deferred += 1;
                self.admitted += 1;
                self.defer(class, 1, by);
            }
            Admission::Skip => tally.skipped += 1,
            Admission::Reject { .. } => tally.rejected += 1,
        }
    }

    fn work(&mut self) {
        self.free += (self.script.service)(self.now.as_secs()) * STEP.as_secs_f64();
        while self.free >= 1.0 {
            let Some(class) = self.pick() else {
                // Idle time is lost.
                self.free = 0.0;
                return;
            };
            self.free -= 1.0;
            let due = self.ready[class].pop_front().unwrap();
            self.slowest[class] = self.slowest[class].max(self.now - due);
            self.tally[class].done += 1;
            self.finished += 1;
        }
    }

    /// Smooth weighted round robin over the classes of which something waits.
    fn pick(&mut self) -> Option<usize> {
        let waiting: Vec<usize> = (0..4).filter(|class| !self.ready[*class].is_empty()).collect();
        let total: f64 = waiting.iter().map(|class| WEIGHTS[*class]).sum();
        for class in &waiting {
            self.credit[*class] += WEIGHTS[*class];
        }
        let best =
            waiting.into_iter().max_by(|a, b| self.credit[*a].total_cmp(&self.credit[*b]))?;
        self.credit[best] -= total;
        Some(best)
    }

    fn look(&mut self) {
        let age = |jobs: &VecDeque<Duration>| jobs.front().map(|due| self.now - *due);
        let reading = Reading {
            at: self.now,
            ready: [0, 1, 2, 3].map(|class| self.ready[class].len() as u64),
            oldest: [0, 1, 2, 3].map(|class| age(&self.ready[class])),
            running: 0,
            deferred: self.deferred.len() as u64,
            parked: 0,
            enqueued: self.enqueued,
            held_back: self.held_back,
            finished: self.finished,
            failed: 0,
            dependency_open: (self.script.dependency_open)(self.now.as_secs()),
            paused: false,
            nodes: 1,
        };
        self.changes.extend(self.state.observe(reading));
        self.snapshot = self.state.snapshot();
        self.admitted = 0;
        self.next_look = self.now + self.state.next_look();
        if self.guarded {
            self.pull();
            self.shed();
        }
    }

    fn pull(&mut self) {
        for _ in 0..self.state.pull_forward() {
            let (_, class) = self.deferred.pop_first().unwrap();
            self.ready[class].push_back(self.now);
        }
    }

    fn shed(&mut self) {
        let Some(Shed { class: Some(class), limit }) = self.state.shed() else {
            return;
        };
        let jobs = &mut self.ready[class.index()];
        let gone = jobs.len().min(limit as usize);
        jobs.drain(..gone);
        self.tally[class.index()].shed += gone as u64;
    }

    fn next_random(&mut self) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
