//! Triggers and deltas keep counters true.

use super::*;

on_each_database! {
    triggers_keep_counts_true,
    triggers_keep_sums_true,
    triggers_of_composite_keys_keep_counts_true,
    deferred_deltas_are_folded,
    the_flusher_folds_by_itself,
    a_plan_is_shown_and_applied_only_when_asked,
    applying_twice_is_applying_once,
    what_triggers_cannot_see_is_repaired,
    a_fold_that_is_rolled_back_folds_nothing,
}

impl Shop {
    async fn applies(&self, spec: &CounterSpec) {
        let subject = self.subject(spec).await.unwrap();
        maintain::apply(&self.store, sql::triggers::make(&subject)).await.unwrap();
        assert!(catalog::is_installed(&self.store, &subject).await.unwrap());
    }

    /// Everything that can happen to children.
    async fn upheaval(&self) {
        for statement in [
            "insert into {}topics (id) values (1), (2), (3), (4)",
            "insert into {}posts (id, topic_id, cents) values (1, 1, 5), (2, 1, 7), (3, 2, null), (4, null, 9)",
            "insert into {}posts (id, topic_id, deleted_at) values (5, 1, 'then'), (6, 3, null)",
            "update {}posts set deleted_at = 'now' where id = 1",
            "update {}posts set deleted_at = null where id = 5",
            "update {}posts set topic_id = 2 where id in (2, 5)",
            "update {}posts set topic_id = null where id = 6",
            "update {}posts set topic_id = 4, cents = 11 where id = 4",
            "update {}posts set topic_id = 99 where id = 3",
            "update {}posts set at = 4, cents = cents + 1",
            "update {}posts set topic_id = 3, deleted_at = 'now' where id = 5",
            "delete from {}posts where id in (2, 3)",
            "insert into {}posts (id, topic_id, cents) values (7, 3, 100), (8, 3, 200)",
            "delete from {}posts where id = 8",
            "delete from {}topics where id = 4",
        ] {
            self.execute(statement).await;
        }
    }
}

async fn triggers_keep_counts_true(base: Base) {
    let shop = base.shop().await;
    let spec = shop.posts().maintain(Maintain::Trigger).touch("counted_at");
    shop.applies(&spec).await;
    shop.upheaval().await;
    assert_eq!(shop.wrong().await, 0);
    assert_eq!(shop.number("select posts_count as v from {}topics where id = 3").await, 1);
    let untouched = "select count(*) as v from {}topics where counted_at is null";
    assert_eq!(shop.number(untouched).await, 0);
    let still = "update {}topics set counted_at = null";
    shop.execute(still).await;
    shop.execute("update {}posts set at = 5").await;
    assert_eq!(shop.number(untouched).await, 3, "what changes no counter touches none");
    shop.close().await;
}

async fn triggers_keep_sums_true(base: Base) {
    let shop = base.shop().await;
    let spec = shop.posts().agg(Agg::Sum("cents".into())).column("cents");
    shop.applies(&spec.clone().maintain(Maintain::Trigger)).await;
    shop.upheaval().await;
    let totals = shop.survey(&spec).await;
    assert_eq!((totals.scanned, totals.drifted), (3, 0));
    assert_eq!(shop.number("select cents as v from {}topics where id = 3").await, 100);
    shop.close().await;
}

async fn triggers_of_composite_keys_keep_counts_true(base: Base) {
    let shop = base.shop().await;
    shop.execute(
        "create table {}shelves (shop text not null, id {key} not null,
                                 books integer not null default 0, primary key (shop, id));
         create table {}books (shop text, shelf {key});
         create index books_shelf on {}books (shop, shelf)",
    )
    .await;
    let spec = CounterSpec::new("shelf_books")
        .parent(&shop.sql("{}shelves"), ["shop", "id"])
        .column("books")
        .child(&shop.sql("{}books"), ["shop", "shelf"])
        .maintain(Maintain::Trigger);
    shop.applies(&spec).await;
    shop.execute(
        "insert into {}shelves (shop, id) values ('a', 1), ('a', 2), ('b', 1);
         insert into {}books values ('a', 1), ('a', 1), ('a', 2), ('b', 1), (null, 1), ('b', null);
         update {}books set shop = 'b' where shop = 'a' and shelf = 1;
         delete from {}books where shop = 'a'",
    )
    .await;
    assert_eq!(shop.survey(&spec).await.drifted, 0);
    assert_eq!(shop.number("select books as v from {}shelves where shop = 'b'").await, 3);
    shop.close().await;
}

async fn deferred_deltas_are_folded(base: Base) {
    let shop = base.shop().await;
    let spec = shop.posts().maintain(Maintain::Deferred);
    shop.applies(&spec).await;
    shop.upheaval().await;
    assert_eq!(shop.survey(&spec).await.drifted, 0, "what is pending is no drift");
    assert_eq!(shop.number("select sum(posts_count) as v from {}topics").await, 0);
    let subject = shop.subject(&spec).await.unwrap();
    assert!(maintain::fold(&shop.store, &subject).await.unwrap() > 0);
    assert_eq!(shop.wrong().await, 0);
    assert_eq!(shop.survey(&spec).await.drifted, 0);
    shop.close().await;
}

async fn the_flusher_folds_by_itself(base: Base) {
    let shop = base.shop().await;
    let spec = shop.posts().maintain(Maintain::Deferred);
    let declare =
        |counters: CountersBuilder| counters.counter(spec).flush_every(Duration::from_millis(10));
    let bench = Bench::start(&shop, |jobs| jobs, declare).await;
    bench.counters.apply("topic_posts").await.unwrap();
    shop.upheaval().await;
    let folded = async || (shop.wrong().await == 0).then_some(());
    eventually(folded, "deltas are folded").await;
    assert!(bench.tree.find::<CounterFlush>("counters.flush").is_some());
    bench.counters.flush().await.unwrap();
    bench.stop().await;
    shop.close().await;
}

async fn a_plan_is_shown_and_applied_only_when_asked(base: Base) {
    let shop = base.shop().await;
    let spec = shop.posts().maintain(Maintain::Trigger);
    let bench = Bench::start(&shop, |jobs| jobs, |counters| counters.counter(spec)).await;
    let plan = bench.counters.plan("topic_posts").await.unwrap();
    assert!(!plan.installed && !plan.make.is_empty());
    shop.upheaval().await;
    assert!(shop.wrong().await > 0, "nothing was made");
    shop.execute("delete from {}posts; delete from {}topics").await;
    // As a migration of the service's own would have it.
    shop.execute(&plan.to_string().replace("{}", "")).await;
    assert!(bench.counters.plan("topic_posts").await.unwrap().installed);
    shop.upheaval().await;
    assert_eq!(shop.wrong().await, 0);
    bench.counters.remove_triggers("topic_posts").await.unwrap();
    assert!(!bench.counters.plan("topic_posts").await.unwrap().installed);
    shop.execute("insert into {}posts (id, topic_id) values (50, 1)").await;
    assert_eq!(shop.wrong().await, 1);
    bench.stop().await;
    shop.close().await;
}

async fn applying_twice_is_applying_once(base: Base) {
    let shop = base.shop().await;
    let spec = shop.posts().maintain(Maintain::Trigger);
    shop.applies(&spec).await;
    shop.applies(&spec).await;
    shop.upheaval().await;
    assert_eq!(shop.wrong().await, 0);
    let app = shop.subject(&shop.posts()).await.unwrap();
    assert!(sql::triggers::make(&app).is_empty());
    shop.close().await;
}

async fn what_triggers_cannot_see_is_repaired(base: Base) {
    let shop = base.shop().await;
    let spec = shop.posts().maintain(Maintain::Trigger);
    shop.applies(&spec).await;
    shop.fill(10, 0).await;
    shop.execute("insert into {}posts (id, topic_id) values (1, 1), (2, 1), (3, 2)").await;
    let unseen = match &shop.store {
        Store::Sqlite(_) => "replace into {}posts (id, topic_id) values (1, 5)",
        Store::Postgres(_) => "truncate {}posts",
    };
    shop.execute(unseen).await;
    assert!(shop.wrong().await > 0);
    shop.repair(&spec).await;
    assert_eq!(shop.wrong().await, 0);
    shop.execute("insert into {}posts (id, topic_id) values (9, 2)").await;
    assert_eq!(shop.wrong().await, 0);
    shop.close().await;
}

async fn a_fold_that_is_rolled_back_folds_nothing(base: Base) {
    let shop = base.shop().await;
    let spec = shop.posts().maintain(Maintain::Deferred);
    shop.applies(&spec).await;
    shop.fill(3, 0).await;
    shop.execute("insert into {}posts (id, topic_id) values (1, 1), (2, 1), (3, 2)").await;
    // The counter refuses what is to be added: the deltas must not be gone.
    let subject = shop.subject(&spec).await.unwrap();
    match &shop.store {
        Store::Sqlite(_) => {
            let refuse = "create trigger refuse before update on topics
                          begin select raise(abort, 'no'); end";
            shop.execute(refuse).await;
            assert!(maintain::fold(&shop.store, &subject).await.is_err());
            shop.execute("drop trigger refuse").await;
        }
        Store::Postgres(_) => {
            shop.execute("alter table {}topics add constraint no check (posts_count < 1)").await;
            assert!(maintain::fold(&shop.store, &subject).await.is_err());
            shop.execute("alter table {}topics drop constraint no").await;
        }
    }
    assert_eq!(shop.survey(&spec).await.drifted, 0);
    // One for each statement and parent, or for each row.
    let deltas = if matches!(&shop.store, Store::Sqlite(_)) { 3 } else { 2 };
    assert_eq!(maintain::fold(&shop.store, &subject).await.unwrap(), deltas);
    assert_eq!(shop.wrong().await, 0);
    shop.close().await;
}
