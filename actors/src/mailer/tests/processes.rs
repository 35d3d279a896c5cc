//! Real processes: killed while providers have their mails, and sharing the mails of a database.
//! The test binary runs itself as a child that sends.

use std::collections::HashSet;
use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::post_office::{Entry, Manner, PostOffice};
use super::stage::mail;
use super::*;
use crate::jobs::tests::{Base, on_each_database};
use crate::jobs::{Job as _, Jobs, QueueSpec};
use crate::kernel::Tree;
use crate::mailer::provider::{HttpProvider, Postmark, Resend};
use crate::store::{Durability, PgOptions, PgStore, SqliteOptions, SqliteStore, Store};

const CHILD: &str = "STEADFAST_TEST_MAILER_CHILD";
const DATABASE: &str = "STEADFAST_TEST_MAILER_DATABASE";
const SCHEMA: &str = "STEADFAST_TEST_MAILER_SCHEMA";
const OFFICE: &str = "STEADFAST_TEST_MAILER_OFFICE";

/// LIMIT: longer than a machine that is busy takes.
const WITHIN: Duration = Duration::from_secs(120);
/// Mails that a process sends at a time.
const AT_A_TIME: u16 = 16;

on_each_database! {
    a_provider_that_knows_keys_has_each_mail_once_after_a_hundred_kills,
    what_a_provider_without_keys_may_have_is_not_sent_again_after_a_hundred_kills,
    two_processes_lose_and_double_no_mail_of_a_provider_with_faults,
}

/// Which providers a process asks.
#[derive(Debug, Clone, Copy)]
enum Asks {
    Resend,
    Postmark,
    Both,
}

impl Asks {
    const fn word(self) -> &'static str {
        match self {
            Self::Resend => "resend",
            Self::Postmark => "postmark",
            Self::Both => "both",
        }
    }

    fn read(word: &str) -> Self {
        [Self::Resend, Self::Postmark, Self::Both]
            .into_iter()
            .find(|known| known.word() == word)
            .unwrap()
    }

    fn providers(self, office: &str) -> Vec<HttpProvider> {
        let base = format!("http://{office}");
        let transport = HttpTransport::new().unwrap();
        let resend = Resend::new("key").unwrap().base_url(&base).unwrap();
        let resend = HttpProvider::new(resend, transport.clone());
        let postmark = Postmark::new("token").unwrap().base_url(&base).unwrap();
        let postmark = HttpProvider::new(postmark, transport);
        match self {
            Self::Resend => vec![resend],
            Self::Postmark => vec![postmark],
            Self::Both => vec![resend, postmark],
        }
    }
}

/// A mailer and its queue, in this process or the child.
struct Post {
    mailer: Mailer,
    jobs: Jobs,
    store: Store,
    tree: Tree,
}

impl Post {
    async fn start(store: Store, asks: Asks, office: &str, workers: u16) -> Self {
        let tree = Tree::new();
        let builder = Mailer::builder(&store).max_attempts(1_000).order(Order::Weighted);
        let spec = |provider| ProviderSpec::new(provider).at_a_time(AT_A_TIME.into());
        let providers = asks.providers(office).into_iter().map(spec);
        let mailer = providers.fold(builder, MailerBuilder::provider).build(&tree).unwrap();
        let jobs = Jobs::builder(&store)
            .beat_every(Duration::from_millis(50))
            .poison_after(100)
            .queue(QueueSpec::new(Deliver::QUEUE).workers(workers));
        let jobs = mailer.declare(jobs).start(&tree).await.unwrap();
        drop(mailer.start(&jobs, &tree));
        Self { mailer, jobs, store, tree }
    }

    async fn enqueue(&self, count: usize) -> Vec<MailId> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let some = (0..(count - ids.len()).min(100))
                .map(|_| self.mailer.enqueue(mail("hello")).into_future());
            ids.extend(join_all(some).await.into_iter().map(|one| one.unwrap().id()));
        }
        ids
    }

    async fn status(&self, id: MailId) -> MailStatus {
        self.mailer.find(id).await.unwrap().unwrap()
    }

    /// All of them, when none is open any more.
    async fn settled(&self, ids: &[MailId]) -> Vec<MailStatus> {
        let (begun, mut all) = (Instant::now(), Vec::with_capacity(ids.len()));
        while all.len() < ids.len() {
            let status = self.status(ids[all.len()]).await;
            if status.state.is_open() {
                assert!(begun.elapsed() < WITHIN, "{} of {}: {status:?}", all.len(), ids.len());
                sleep(Duration::from_millis(20)).await;
            } else {
                all.push(status);
            }
        }
        all
    }

    async fn stop(self) {
        self.jobs.drain(Duration::from_secs(5)).await;
        self.tree.stop(Duration::from_secs(5)).await;
        self.store.close().await;
    }
}

/// A child process that sends.
struct Sender(Child);

impl Sender {
    fn start(base: &Base, office: &PostOffice, asks: Asks) -> Self {
        let (database, schema) = match base {
            Base::Sqlite(folder) => (folder.path().join("jobs.db").display().to_string(), ""),
            Base::Postgres(schema) => (schema.address(), schema.name()),
        };
        let name = "mailer::tests::processes::child_that_sends_until_it_is_killed";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([name, "--exact", "--nocapture"]);
        command.env(CHILD, asks.word()).env(OFFICE, office.address.to_string());
        command.env(DATABASE, database).env(SCHEMA, schema);
        // It ends when this pipe does, should nobody come to kill it.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

/// With `kill -9`.
impl Drop for Sender {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        self.0.wait().unwrap();
    }
}

/// Not a test of its own: what the tests here start and kill.
#[actix::test]
async fn child_that_sends_until_it_is_killed() {
    let Ok(asks) = std::env::var(CHILD) else { return };
    let variable = |name| std::env::var(name).unwrap();
    let store = match variable(SCHEMA).as_str() {
        "" => {
            let options = SqliteOptions::file(variable(DATABASE)).durability(Durability::Normal);
            Store::from(SqliteStore::open(options).await.unwrap())
        }
        schema => {
            let options = PgOptions::parse(&variable(DATABASE)).unwrap().schema(schema);
            Store::from(PgStore::connect(options).await.unwrap())
        }
    };
    std::thread::spawn(|| {
        let _read = std::io::stdin().lock().read_line(&mut String::new());
        std::process::abort();
    });
    let _sends = Post::start(store, Asks::read(&asks), &variable(OFFICE), AT_A_TIME).await;
    std::future::pending::<()>().await;
}

/// Kills processes while the provider has mails of theirs and has said nothing, until that was
/// so of a hundred. All mails there are, and those whose answer was cut off.
async fn hundred_kills(
    base: &Base,
    post: &Post,
    office: &PostOffice,
    asks: Asks,
) -> (Vec<MailId>, HashSet<MailId>) {
    let (mut all, mut cut_off, mut kills) = (Vec::new(), HashSet::new(), 0);
    while kills < 100 {
        all.extend(post.enqueue(12).await);
        let before = office.entries();
        let asked_now = || {
            let entries = office.entries();
            let times = |entries: &std::collections::HashMap<String, Entry>, id: &MailId| {
                entries.get(&id.to_string()).map_or(0, |entry| entry.asked)
            };
            all.iter().filter(|id| times(&entries, id) > times(&before, id)).copied().collect()
        };
        let sender = Sender::start(base, office, asks);
        let (begun, mut asked): (_, Vec<MailId>) = (Instant::now(), Vec::new());
        while asked.len() < 10 {
            assert!(begun.elapsed() < WITHIN, "{} mails are on their way", asked.len());
            sleep(Duration::from_millis(2)).await;
            asked = asked_now();
        }
        drop(sender);
        for id in asked_now().into_iter().collect::<Vec<MailId>>() {
            let open = |attempt: &Attempt| attempt.finished_at.is_none();
            let status = post.status(id).await;
            assert!(status.attempts.iter().any(open), "the attempt is written down: {status:?}");
            cut_off.insert(id);
            kills += 1;
        }
    }
    (all, cut_off)
}

async fn a_provider_that_knows_keys_has_each_mail_once_after_a_hundred_kills(base: Base) {
    let office = PostOffice::open(Manner::Silent).await;
    let address = office.address.to_string();
    let post = Post::start(base.open().await, Asks::Resend, &address, 0).await;
    let (all, cut_off) = hundred_kills(&base, &post, &office, Asks::Resend).await;
    office.behave(Manner::Answers);
    let sender = Sender::start(&base, &office, Asks::Resend);
    let settled = post.settled(&all).await;
    drop(sender);
    let entries = office.entries();
    for mail in settled {
        let entry = entries[&mail.id.to_string()];
        assert_eq!((mail.state, entry.delivered), (MailState::Accepted, 1), "{mail:?}");
        assert!(!entry.changed, "each time the same bytes");
        if cut_off.contains(&mail.id) {
            assert!(entry.asked >= 2, "its answer never came: it was asked again");
        }
    }
    assert_eq!(entries.len(), all.len());
    post.stop().await;
}

async fn what_a_provider_without_keys_may_have_is_not_sent_again_after_a_hundred_kills(base: Base) {
    let office = PostOffice::open(Manner::Silent).await;
    let address = office.address.to_string();
    let post = Post::start(base.open().await, Asks::Postmark, &address, 0).await;
    let (all, cut_off) = hundred_kills(&base, &post, &office, Asks::Postmark).await;
    office.behave(Manner::Answers);
    let sender = Sender::start(&base, &office, Asks::Postmark);
    let settled = post.settled(&all).await;
    drop(sender);
    let entries = office.entries();
    for mail in settled {
        let entry = entries.get(&mail.id.to_string()).copied().unwrap_or_default();
        assert!(entry.asked <= 1, "never sent again: {entry:?}");
        if mail.state == MailState::Accepted {
            assert_eq!(entry.delivered, 1, "{mail:?}");
        } else {
            // Also one whose first byte had not left: nobody knows.
            assert_eq!((mail.state, mail.attempts.len()), (MailState::Unknown, 1), "{mail:?}");
        }
        assert!(!cut_off.contains(&mail.id) || mail.state == MailState::Unknown, "{mail:?}");
    }
    assert!(cut_off.len() >= 100);
    post.stop().await;
}

async fn two_processes_lose_and_double_no_mail_of_a_provider_with_faults(base: Base) {
    const MAILS: usize = 10_000;
    let office = PostOffice::open(Manner::Faulty).await;
    let address = office.address.to_string();
    let post = Post::start(base.open().await, Asks::Both, &address, 0).await;
    let all = post.enqueue(MAILS).await;
    let both = [(); 2].map(|()| Sender::start(&base, &office, Asks::Both));
    let settled = post.settled(&all).await;
    drop(both);
    let (entries, mut unknown, mut runs) = (office.entries(), 0, HashSet::new());
    for mail in settled {
        let entry = entries.get(&mail.id.to_string()).copied().unwrap_or_default();
        assert!(entry.delivered <= 1 && !entry.changed, "{entry:?}: {mail:?}");
        if mail.state == MailState::Accepted {
            assert_eq!(entry.delivered, 1, "{mail:?}");
        } else {
            assert_eq!(mail.state, MailState::Unknown, "{mail:?}");
            unknown += 1;
        }
        runs.insert(mail.id);
    }
    assert_eq!(runs.len(), MAILS);
    // Every hundredth request fails, and half of them are of the provider without keys.
    assert!((1..=MAILS / 50).contains(&unknown), "{unknown} are unknown");
    post.stop().await;
}
