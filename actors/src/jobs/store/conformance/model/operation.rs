//! The operations, and how they are chosen.

use proptest::prelude::*;

use crate::jobs::Class;
use crate::jobs::store::OnConflict;

/// One operation. What it is done to is told by its place among all that there ever was.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Insert(Draft),
    Claim { node: usize, each: u16, running_limit: Option<u32> },
    Settle { run: usize, end: End, delay: u64 },
    Begin { run: usize },
    Cancel { job: usize },
    Retry { job: usize },
    Park { limit: u32 },
    Release { limit: u32 },
    PullForward { limit: u32 },
    Shed { class: Option<Class> },
    Pause { paused: bool },
    Crash { node: usize },
    Replay { limit: u32 },
    Wait,
}

/// A job that may be stored.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(super) class: Class,
    pub(super) delay: u64,
    pub(super) expires: Option<u64>,
    pub(super) attempts: i16,
    pub(super) dependent: bool,
    pub(super) deferred: bool,
    pub(super) key: Option<(u8, OnConflict, Option<u64>)>,
    pub(super) depth_limit: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Done,
    Retry,
    Release,
    Park,
    PutOff,
    Dead,
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    let limit = 1..4_u32;
    let of_class = prop::sample::select(Class::ALL.to_vec());
    let ends = [End::Done, End::Retry, End::Release, End::Park, End::PutOff, End::Dead];
    let end = prop::sample::select(ends.to_vec());
    prop_oneof![
        6 => draft().prop_map(Operation::Insert),
        6 => (0..2_usize, 0..4_u16, prop::option::weighted(0.2, 1..5_u32)).prop_map(
            |(node, each, running_limit)| Operation::Claim { node, each, running_limit }),
        8 => (any::<usize>(), end, 0..3_u64)
            .prop_map(|(run, end, delay)| Operation::Settle { run, end, delay }),
        1 => any::<usize>().prop_map(|run| Operation::Begin { run }),
        1 => any::<usize>().prop_map(|job| Operation::Cancel { job }),
        2 => any::<usize>().prop_map(|job| Operation::Retry { job }),
        1 => limit.clone().prop_map(|limit| Operation::Park { limit }),
        1 => limit.clone().prop_map(|limit| Operation::Release { limit }),
        1 => limit.clone().prop_map(|limit| Operation::PullForward { limit }),
        1 => prop::option::of(of_class).prop_map(|class| Operation::Shed { class }),
        1 => prop::bool::weighted(0.3).prop_map(|paused| Operation::Pause { paused }),
        2 => (0..2_usize).prop_map(|node| Operation::Crash { node }),
        1 => limit.prop_map(|limit| Operation::Replay { limit }),
        3 => Just(Operation::Wait),
    ]
}

fn draft() -> impl Strategy<Value = Draft> {
    let conflicts = vec![OnConflict::Keep, OnConflict::Replace, OnConflict::ReplaceKeepTime];
    let key = (0..3_u8, prop::sample::select(conflicts), prop::option::weighted(0.3, 1..6_u64));
    let class = prop::sample::select(Class::ALL.to_vec());
    let times = (0..3_u64, prop::option::weighted(0.2, 0..5_u64));
    let limits = (1..4_i16, prop::option::weighted(0.2, 1..8_u32));
    let flags = (any::<bool>(), prop::bool::weighted(0.2));
    (class, times, limits, flags, prop::option::weighted(0.4, key)).prop_map(
        |(class, (delay, expires), (attempts, depth_limit), (dependent, deferred), key)| Draft {
            class,
            delay,
            expires,
            attempts,
            dependent,
            deferred,
            key,
            depth_limit,
        },
    )
}
