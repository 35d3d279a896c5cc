//! A full mailbox does not keep its thread to itself. On the real clock, because what is
//! claimed is about real time.

use std::time::{Duration, Instant};

use actix::{Actor, Handler, Message};

use crate::kernel::{Context, Spec, Tree};

struct Busy;

impl Actor for Busy {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Spin;

impl Handler<Spin> for Busy {
    type Result = ();

    fn handle(&mut self, _: Spin, _: &mut Self::Context) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(2) {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn two_hundred_thousand_messages_do_not_delay_a_timer_by_much() {
    actix_rt::System::new().block_on(async {
        let tree = Tree::new();
        let busy = tree.start(Spec::new("busy", || Busy).capacity(200_000));
        for _ in 0..200_000 {
            assert_eq!(busy.tell(Spin), Ok(()));
        }
        let mut turns = 0;
        while busy.depth() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            turns += 1;
        }
        // 400 ms of work: without a budget the timer fires once, when all is done. How late
        // it fires at worst is measured in the bench; a loaded machine must not fail a test.
        assert!(turns > 20, "the timer fired {turns} times meanwhile");
    });
}
