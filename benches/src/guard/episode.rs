//! One episode: a backlog, an overload, and what is left of it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use steadfast_actors::jobs::store::NewJob;
use steadfast_actors::jobs::{
    Class, Enqueued, GuardConfig, Job, JobCx, JobPolicy, Jobs, JobsError, Level, Overload,
    QueueSpec,
};
use steadfast_actors::kernel::Tree;
use steadfast_actors::store::{Durability, Store};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::jobs::{Failure, Place, Site, words};
use crate::measure::to_float;

/// How many workers call the slow dependency.
const WORKERS: u16 = 16;
/// How long each call takes: with all workers not quite 1,600 jobs a second.
const CALL: Duration = Duration::from_millis(10);
/// Jobs a second that come while there is too much, of each class: twice what can be done.
pub(super) const ARRIVALS: [u64; 4] = [150, 1_200, 650, 1_200];
/// And afterwards, when there is not: a third of what can be done.
pub(super) const CALM: [u64; 4] = [80, 200, 100, 120];
/// What waits when it begins, of each class, in percent.
const BACKLOG: [u64; 4] = [0, 20, 20, 60];
const SAMPLE: Duration = Duration::from_millis(250);
const TICK: Duration = Duration::from_millis(50);

/// What happens in an episode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    pub(super) backlog: u64,
    pub(super) overload: Duration,
    pub(super) watch: Duration,
}

/// How the queue was at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Since the episode began, in seconds.
    pub(super) at: f64,
    pub(super) ready: [u64; 4],
    pub(super) level: Level,
    /// Finished in all.
    pub(super) done: u64,
    pub(super) deferred: u64,
    /// How long, by the guard, a job of each class would wait that is enqueued now; seconds.
    pub(super) estimates: [Option<f64>; 4],
}

/// What became of what was enqueued, of one class.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fates {
    pub(super) accepted: u64,
    pub(super) deferred: u64,
    pub(super) turned_away: u64,
}

/// For each class, when jobs began and how old they were.
pub(super) type Ages = [Vec<(f64, f64)>; 4];

/// What an episode came to.
#[derive(Debug)]
pub(super) struct Episode {
    pub(super) guarded: bool,
    pub(super) moments: Vec<Moment>,
    /// Jobs enqueued in the episode, by class: when they began, and how old they were; seconds.
    pub(super) ages: Ages,
    pub(super) fates: [Fates; 4],
    /// How often the level rose, and how often it fell.
    pub(super) changes: [u64; 2],
    /// Given up by the guard after it had been stored.
    pub(super) shed: u64,
    /// Seconds from the end of the overload until no more waited than is done in one.
    pub(super) recovery: Option<f64>,
    /// What waited when the overload ended.
    pub(super) left: u64,
    /// Jobs a second that the workers did while there was enough to do.
    pub(super) pace: f64,
}

/// Calls the dependency.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Call {
    /// On the clock of the episode; below 0: part of the backlog.
    enqueued_at: f64,
    class: usize,
}

impl Job for Call {
    const KIND: &'static str = "call";

    fn policy() -> JobPolicy {
        JobPolicy::default().keep_done(false).on_overload(Overload::Reschedule { max: 5 })
    }
}

/// What handlers and callers write down.
#[derive(Debug, Default)]
struct Log {
    /// When the episode began.
    began: OnceLock<Instant>,
    done: AtomicU64,
    ages: Mutex<Ages>,
}

impl Log {
    fn now(&self) -> f64 {
        self.began.get_or_init(Instant::now).elapsed().as_secs_f64()
    }

    fn started(&self, call: &Call) {
        if call.enqueued_at < 0.0 {
            return;
        }
        let now = self.now();
        let mut ages = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ages) = ages.get_mut(call.class) {
            ages.push((now, now - call.enqueued_at));
        }
    }
}

/// The defaults scaled down, so that an episode fits a minute. Without a guard: the same looks,
/// but nothing is ever too much.
fn guard(guarded: bool) -> Result<GuardConfig, Failure> {
    let second = Duration::from_secs(1);
    let builder = GuardConfig::builder()
        .window(second)
        .memory(second * 2)
        .sustain(second / 2)
        .calm(second * 5)
        .defer_max(second * 60)
        .look_every(second / 5);
    let day = second * 86_400;
    let ages = if guarded { [second, second * 4, second * 15, second * 60] } else { [day; 4] };
    let classes = Class::ALL.into_iter().zip(ages);
    let builder = classes.fold(builder, |builder, (class, age)| builder.age_target(class, age));
    builder.build().map_err(words)
}

/// Runs one episode.
pub(super) async fn run(course: &Course, guarded: bool, folder: &Path) -> Result<Episode, Failure> {
    let site = Site::new(&Place::Sqlite(folder.to_owned(), Durability::Full));
    let store = site.open().await?;
    let (tree, log) = (Tree::new(), Arc::<Log>::default());
    let jobs = start(&store, &tree, &log, guarded).await?;
    jobs.pause("default").await.map_err(words)?;
    fill(&jobs, course.backlog).await?;
    let episode = watch(&jobs, &log, course, guarded).await?;
    let _report = jobs.drain(Duration::from_secs(1)).await;
    tree.stop(Duration::from_secs(2)).await;
    store.close().await;
    site.clear().await?;
    Ok(episode)
}

async fn start(store: &Store, tree: &Tree, log: &Arc<Log>, guarded: bool) -> Result<Jobs, Failure> {
    let log = Arc::clone(log);
    let handler = move |call: Call, _: JobCx| {
        let log = Arc::clone(&log);
        async move {
            log.started(&call);
            sleep(CALL).await;
            log.done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    };
    let queue = QueueSpec::new("default").workers(WORKERS).guard(guard(guarded)?);
    Jobs::builder(store).queue(queue).handle(handler).start(tree).await.map_err(words)
}

/// Stores the backlog, past the guard: it is there already when the episode begins.
async fn fill(jobs: &Jobs, backlog: u64) -> Result<(), Failure> {
    let store = jobs.store();
    for (class, percent) in Class::ALL.into_iter().zip(BACKLOG) {
        let now = jobs.clock().now();
        let call = Call { enqueued_at: -1.0, class: class.index() };
        let job = NewJob {
            queue: "default".into(),
            kind: Call::KIND.into(),
            class,
            run_at: now,
            expires_at: None,
            max_attempts: 10,
            dependency: None,
            unique: None,
            args: serde_json::to_vec(&call).map_err(words)?.into(),
            args_format: 0,
            meta: None,
            deferred: false,
            depth_limit: None,
        };
        let mut left = usize::try_from(backlog * percent / 100).unwrap_or(usize::MAX);
        while left > 0 {
            let some = left.min(1000);
            store.insert(vec![job.clone(); some], now).await.map_err(words)?;
            left -= some;
        }
    }
    Ok(())
}

async fn watch(
    jobs: &Jobs,
    log: &Arc<Log>,
    course: &Course,
    guarded: bool,
) -> Result<Episode, Failure> {
    jobs.resume("default").await.map_err(words)?;
    log.now();
    let fates = Arc::<Mutex<[Fates; 4]>>::default();
    let arrivals = arrive(jobs.clone(), Arc::clone(log), Arc::clone(&fates), course.overload);
    let arrivals = actix_rt::spawn(arrivals);
    let seen = observe(jobs, log, course).await;
    arrivals.abort();
    let (moments, changes) = seen?;
    let overload = course.overload.as_secs_f64();
    let ended = moments.iter().position(|moment| moment.at >= overload);
    let (before, after) = moments.split_at(ended.unwrap_or(moments.len()));
    let pace = before.last().map_or(0.0, |last| to_float(last.done) / last.at);
    let waits = |moment: &Moment| moment.ready.iter().sum::<u64>() + moment.deferred;
    let calm = after.iter().find(|moment| to_float(waits(moment)) <= pace);
    let counts = jobs.counts().await.map_err(words)?;
    let fates = *fates.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Episode {
        guarded,
        changes,
        fates,
        shed: counts.dead,
        ages: std::mem::take(&mut *log.ages.lock().unwrap_or_else(PoisonError::into_inner)),
        recovery: calm.map(|moment| moment.at - overload),
        left: after.first().map_or(0, waits),
        pace,
        moments,
    })
}

/// Looks at the queue until it is calm again, or for as long as the course says.
async fn observe(
    jobs: &Jobs,
    log: &Log,
    course: &Course,
) -> Result<(Vec<Moment>, [u64; 2]), Failure> {
    let (mut moments, mut changes, mut level) = (Vec::<Moment>::new(), [0, 0], Level::Normal);
    let mut ticks = interval(SAMPLE);
    loop {
        ticks.tick().await;
        let (store, now) = (jobs.store(), jobs.clock().now());
        let depths = store.depths("default".into(), 1_000_000, now).await.map_err(words)?;
        let guard = jobs.guard("default").ok_or("the queue has no guard")?;
        let moment = Moment {
            at: log.now(),
            ready: depths.ready,
            deferred: depths.deferred,
            level: guard.level,
            done: log.done.load(Ordering::Relaxed),
            estimates: guard.drain.0.map(|drain| drain.map(|drain| drain.as_secs_f64())),
        };
        changes[0] += u64::from(guard.level > level);
        changes[1] += u64::from(guard.level < level);
        level = guard.level;
        let quiet = depths.ready.iter().sum::<u64>() + depths.deferred < 500;
        moments.push(moment);
        let over = moment.at > course.overload.as_secs_f64() + 10.0;
        if moment.at > course.watch.as_secs_f64() || (over && quiet && level == Level::Normal) {
            return Ok((moments, changes));
        }
    }
}

/// Enqueues jobs of all classes, too many until `overload` is over.
async fn arrive(jobs: Jobs, log: Arc<Log>, fates: Arc<Mutex<[Fates; 4]>>, overload: Duration) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut due = [0; 4];
    loop {
        ticks.tick().await;
        let is_over = log.now() >= overload.as_secs_f64();
        let rates = if is_over { CALM } else { ARRIVALS };
        for (class, rate) in Class::ALL.into_iter().zip(rates) {
            let Some(due) = due.get_mut(class.index()) else { continue };
            *due += rate * 50;
            let count = *due / 1000;
            *due %= 1000;
            for _ in 0..count {
                let one = enqueue(jobs.clone(), Arc::clone(&log), Arc::clone(&fates), class);
                drop(actix_rt::spawn(one));
            }
        }
    }
}

async fn enqueue(jobs: Jobs, log: Arc<Log>, fates: Arc<Mutex<[Fates; 4]>>, class: Class) {
    let call = Call { enqueued_at: log.now(), class: class.index() };
    let answer = jobs.enqueue(call).class(class).await;
    let mut fates = fates.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(fates) = fates.get_mut(class.index()) else { return };
    match answer {
        Ok(Enqueued::Deferred { .. }) => fates.deferred += 1,
        Ok(Enqueued::Skipped) | Err(JobsError::Rejected { .. }) => fates.turned_away += 1,
        Ok(_) => fates.accepted += 1,
        // The end of the episode.
        Err(_) => {}
    }
}
