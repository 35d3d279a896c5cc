//! What a message inherits from the request it belongs to.

use std::time::Duration;

use actix::{Actor, Handler, Message};

use super::support::{Add, Hold, Journal, Sleep, Who, Worker, paused, start, worker};
use crate::kernel::{
    CallError, Context, CutShort, Ref, Refused, Reply, RequestContext, RequestId, Spec, Stopped,
};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn request(id: &str) -> RequestContext {
    RequestContext::new(RequestId::parse(id).expect("a valid id"))
}

/// Asks another actor three times, in each of the ways a handler can.
struct Asker(Ref<Worker>);

impl Actor for Asker {
    type Context = Context<Self>;
}

type Seen = (Option<RequestId>, Option<u128>);

#[derive(Message)]
#[rtype(result = "Result<Vec<Seen>, CallError>")]
struct AskThrice;

impl Handler<AskThrice> for Asker {
    type Result = Reply<Result<Vec<Seen>, CallError>>;

    fn handle(&mut self, _: AskThrice, _: &mut Self::Context) -> Self::Result {
        let worker = self.0.clone();
        Reply::task(async move {
            let first = worker.call(Who).await?;
            let second = worker.call(Who).deadline(seconds(60)).await?;
            let third = worker.call(Who).deadline(seconds(1)).await?;
            Ok(vec![first, second, third])
        })
    }
}

#[test]
fn nested_asks_inherit_id_and_deadline_without_naming_them() {
    paused(|| async {
        let (tree, worker) = start(worker("w", &Journal::default()));
        let asker = tree.start(Spec::new("asker", move || Asker(worker.clone())));
        let context = request("r-1").child(seconds(5));
        let seen = context.scope(async { asker.call(AskThrice).await }).await;
        let id = RequestId::parse("r-1").ok();
        let expected =
            vec![(id.clone(), Some(5_000)), (id.clone(), Some(5_000)), (id, Some(1_000))];
        assert_eq!(seen, Ok(Ok(expected)), "never later than the parent's, earlier if asked");
    });
}

#[test]
fn a_deadline_outside_of_a_request_is_inherited_too() {
    paused(|| async {
        let (tree, worker) = start(worker("w", &Journal::default()));
        let asker = tree.start(Spec::new("asker", move || Asker(worker.clone())));
        let seen =
            asker.call(AskThrice).deadline(seconds(5)).await.expect("asker").expect("worker");
        let left: Vec<_> = seen.iter().map(|(_, left)| *left).collect();
        assert_eq!(left, [Some(5_000), Some(5_000), Some(1_000)]);
    });
}

#[test]
fn without_a_request_there_is_none() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        assert_eq!(worker.call(Who).await, Ok((None, None)));
    });
}

#[test]
fn a_message_of_a_cancelled_request_is_skipped() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        let context = request("r-2");
        let held = worker.tell(Hold(seconds(1)));
        let told = context.clone().scope(async { worker.tell(Add(1)) }).await;
        assert_eq!((held, told), (Ok(()), Ok(())));
        context.cancel(Stopped::ClientGone);
        assert_eq!(worker.call(Add(0)).await, Ok(0));
        assert_eq!(worker.info().abandoned, 1);
    });
}

#[test]
fn a_caller_that_leaves_has_its_queued_message_skipped_and_its_task_dropped() {
    paused(|| async {
        let journal = Journal::default();
        let (_tree, worker) = start(worker("w", &journal));
        let busy = tokio::time::timeout(seconds(1), worker.call(Sleep(seconds(60)))).await;
        assert!(busy.is_err());
        tokio::task::yield_now().await;
        assert!(journal.lines().contains(&"sleep over".to_owned()), "the task was dropped");
        assert_eq!(worker.depth(), 0, "and its slot is free");

        assert_eq!(worker.tell(Hold(seconds(10))), Ok(()));
        let left = tokio::time::timeout(seconds(1), worker.call(Add(1))).await;
        assert!(left.is_err());
        assert_eq!(worker.call(Add(0)).await, Ok(0));
        assert_eq!(worker.info().abandoned, 1);
    });
}

#[test]
fn a_task_ends_as_soon_as_its_request_is_given_up() {
    paused(|| async {
        let journal = Journal::default();
        let (_tree, worker) = start(worker("w", &journal));
        let context = request("r-8");
        let told = context.clone().scope(async { worker.tell(Sleep(seconds(60))) }).await;
        assert_eq!(told, Ok(()));
        let give_up = async {
            tokio::time::sleep(seconds(1)).await;
            context.cancel(Stopped::ClientGone);
        };
        let asked = context.clone().scope(async { worker.call(Sleep(seconds(60))).await });
        let began = tokio::time::Instant::now();
        let (asked, ()) = tokio::join!(asked, give_up);
        assert_eq!(asked, Err(CallError::Cancelled(CutShort::GivenUp)));
        assert_eq!(began.elapsed(), seconds(1), "nobody polls the work but the cancellation");
        tokio::task::yield_now().await;
        assert_eq!(journal.lines().iter().filter(|line| *line == "sleep over").count(), 2);
        assert_eq!(worker.depth(), 0);
    });
}

#[test]
fn a_deadline_that_passes_while_the_handler_works_says_that_it_ran() {
    paused(|| async {
        let journal = Journal::default();
        let (_tree, worker) = start(worker("w", &journal));
        let late = worker.call(Sleep(seconds(60))).deadline(seconds(1)).await;
        assert_eq!(late, Err(CallError::Cancelled(CutShort::Deadline)));
        tokio::task::yield_now().await;
        assert!(journal.lines().contains(&"sleep over".to_owned()), "the work stops");
    });
}

#[test]
fn nothing_is_sent_once_the_deadline_has_passed() {
    paused(|| async {
        let (_tree, worker) = start(worker("w", &Journal::default()));
        let context = request("r-3").child(seconds(1));
        tokio::time::sleep(seconds(2)).await;
        let asked = context.clone().scope(async { worker.call(Add(1)).await }).await;
        let told = context.scope(async { worker.tell(Add(1)) }).await;
        assert_eq!((asked, told), (Err(CallError::Expired), Err(Refused::Expired)));
        assert_eq!(worker.info().sent, 0);
    });
}

#[test]
fn a_child_is_never_later_than_its_parent_and_is_cancelled_with_it() {
    paused(|| async {
        let parent = request("r-4").child(seconds(5));
        let child = parent.child(seconds(60));
        assert_eq!(child.remaining(), Some(seconds(5)));
        assert_eq!(parent.child(seconds(1)).remaining(), Some(seconds(1)));
        child.cancel(Stopped::ClientGone);
        assert_eq!(parent.stopped(), None, "not the other way round");
        let other = parent.child(seconds(60));
        parent.cancel(Stopped::Shutdown);
        assert_eq!(other.stopped(), Some(Stopped::Shutdown));
        assert_eq!(other.detached().stopped(), None);
        assert_eq!(other.detached().remaining(), None);
    });
}

#[test]
fn a_changed_copy_is_a_part_of_what_it_was_copied_from() {
    use crate::kernel::Priority;
    paused(|| async {
        let whole = request("r-10");
        let part = whole.clone().with_priority(Priority::Critical);
        assert_eq!((whole.priority(), part.priority()), (Priority::Normal, Priority::Critical));
        part.cancel(Stopped::ClientGone);
        assert_eq!(whole.stopped(), None, "a part is given up alone");
        let part = whole.clone().with_priority(Priority::High);
        let waiting = tokio::task::spawn_local({
            let part = part.clone();
            async move { part.cancelled().await }
        });
        tokio::task::yield_now().await;
        whole.cancel(Stopped::Shutdown);
        assert!(waiting.await.is_ok(), "who waits for the part is woken");
        assert_eq!(part.stopped(), Some(Stopped::Shutdown), "for the cause of the whole");
        let late = whole.child(seconds(1));
        assert_eq!(late.stopped(), Some(Stopped::Shutdown), "also a part made afterwards");
        late.cancelled().await;
    });
}

#[test]
fn run_drops_the_work_at_the_deadline_or_when_the_request_is_given_up() {
    paused(|| async {
        let context = request("r-5").child(seconds(5));
        let slow = tokio::time::sleep(seconds(60));
        assert_eq!(context.run(slow).await, Err(Stopped::Deadline));
        assert_eq!(request("r-6").run(async { 7 }).await, Ok(7));
        let given_up = request("r-7");
        given_up.cancel(Stopped::ClientGone);
        assert_eq!(given_up.run(std::future::pending::<()>()).await, Err(Stopped::ClientGone));
    });
}

#[test]
fn ids_from_outside_are_taken_only_if_they_are_harmless() {
    let taken = |id: &str| RequestId::parse(id).is_ok();
    assert!(taken("a"));
    assert!(taken("A-z_0.9"));
    assert!(taken(&"x".repeat(RequestId::MAX_LENGTH)));
    assert!(!taken(&"x".repeat(RequestId::MAX_LENGTH + 1)));
    for hostile in ["", " ", "a b", "a\r\nb", "a\0", "é", "../../x", "<script>", "a;b"] {
        assert!(!taken(hostile), "{hostile:?}");
    }
    assert!(taken(RequestId::generate().as_str()));
}

#[test]
fn a_traceparent_is_read_as_the_specification_says() {
    use crate::kernel::TraceParent;
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let read = TraceParent::parse(valid).expect("valid");
    assert_eq!(read.to_string(), valid);
    assert_eq!(read.child().trace_id(), read.trace_id());
    assert_ne!(read.child(), read);
    let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes";
    assert!(TraceParent::parse(later).is_some(), "a later version may have more fields");
    for invalid in [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        assert!(TraceParent::parse(invalid).is_none(), "{invalid}");
    }
}
