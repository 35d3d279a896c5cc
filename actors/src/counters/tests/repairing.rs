//! What a run finds and puts right, when nobody else writes.

use super::*;

on_each_database! {
    drift_of_every_kind_is_put_right,
    a_report_writes_nothing,
    what_is_right_is_not_written,
    sums_and_extremes_are_put_right,
    counters_through_several_levels_are_put_right,
    keys_of_every_kind_are_put_right,
    composite_keys_are_put_right,
    parents_without_a_key_are_left_alone,
    whole_numbers_of_every_width_are_put_right,
    a_parent_whose_trigger_refuses_is_left_alone,
    names_that_need_quotes_are_put_right,
    each_parent_is_seen_once_whatever_the_size_of_batches,
    a_recount_comes_to_the_same,
    a_superseded_run_writes_nothing,
    a_run_goes_on_where_its_last_batch_ended,
    what_is_pending_is_no_drift,
}

async fn drift_of_every_kind_is_put_right(base: Base) {
    let shop = base.shop().await;
    shop.fill(10, 3).await;
    shop.execute(
        "update {}topics set posts_count = null where id = 1;
         update {}topics set posts_count = -7 where id = 2;
         update {}topics set posts_count = 2000 where id = 3;
         insert into {}topics (id, posts_count) values (11, 5), (12, 0), (13, null);
         update {}posts set deleted_at = 'now' where topic_id = 4;
         update {}posts set deleted_at = 'now' where id = 500001;
         update {}posts set topic_id = 6 where topic_id = 5;
         update {}posts set topic_id = null where id = 700001",
    )
    .await;
    // 1 null, 2 low, 3 high, 11 without children, 13 null without children, 4 soft deletes, 5 and
    // 6 a move of the two that are left (the third is deleted), 7 an orphan.
    let found = shop.survey(&shop.posts().touch("counted_at")).await;
    let totals = shop.repair(&shop.posts().touch("counted_at")).await;
    assert_eq!((totals.scanned, totals.drifted, totals.repaired), (13, 9, 9));
    assert_eq!((found.drifted, found.repaired), (9, 0));
    assert_eq!((&found.histogram, found.too_high), (&totals.histogram, totals.too_high));
    assert_eq!(totals.histogram.null, 2);
    assert_eq!(totals.samples.first().map(|sample| sample.drift), Some(Some(-1_997)));
    assert_eq!(shop.wrong().await, 0);
    let touched = "select count(*) as v from {}topics where counted_at > 1600000000000";
    assert_eq!(shop.number(touched).await, 9);
    assert_eq!(shop.repair(&shop.posts()).await.drifted, 0);
    shop.close().await;
}

async fn a_report_writes_nothing(base: Base) {
    let shop = base.shop().await;
    shop.fill(50, 2).await;
    shop.execute("update {}topics set posts_count = 0 where id > 20").await;
    let totals = shop.survey(&shop.posts()).await;
    assert_eq!((totals.drifted, totals.too_low, totals.samples.len()), (30, 60, 20));
    assert_eq!(shop.wrong().await, 30);
    shop.close().await;
}

async fn what_is_right_is_not_written(base: Base) {
    let shop = base.shop().await;
    shop.fill(2_000, 2).await;
    let Store::Postgres(store) = &shop.store else {
        let changes = "select total_changes() as v";
        let before = shop.number(changes).await;
        shop.repair(&shop.posts()).await;
        // Not a row of the topics: only that of the run, with each batch.
        assert!(shop.number(changes).await - before < 50);
        return shop.close().await;
    };
    shop.repair(&shop.posts()).await;
    let client = store.client().await.unwrap();
    let versions = shop.sql("select count(distinct xmin::text), max(ctid)::text from {}topics");
    let place = async || {
        let row = client.query_one(&versions, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, String>(1))
    };
    let before = place().await;
    shop.repair(&shop.posts()).await;
    assert_eq!(place().await, before, "no topic has a new version");
    drop(client);
    shop.close().await;
}

async fn sums_and_extremes_are_put_right(base: Base) {
    let shop = base.shop().await;
    shop.fill(6, 3).await;
    shop.execute(
        "update {}topics set cents = 1 where id <= 3;
         update {}topics set last_at = 99 where id = 1;
         update {}topics set last_at = 3 where id in (2, 7);
         insert into {}topics (id, last_at) values (7, 3), (8, null);
         update {}posts set cents = null where id = 400001",
    )
    .await;
    let sum = shop.posts().agg(Agg::Sum("cents".into())).column("cents");
    let totals = shop.repair(&sum).await;
    // 1 to 3, one that a null makes smaller, and two that were never set.
    assert_eq!((totals.drifted, totals.too_high, totals.too_low), (6, 5, 42));
    let wrong = "select count(*) as v from {}topics t where t.cents is distinct from
        (select coalesce(sum(p.cents), 0) from {}posts p where p.topic_id = t.id)";
    assert_eq!(shop.number(wrong).await, 0);
    let max = shop.posts().agg(Agg::Max("at".into())).column("last_at");
    let totals = shop.repair(&max).await;
    // All but 2, which is right, and 8, which has none.
    assert_eq!((totals.scanned, totals.drifted, totals.histogram.other), (8, 6, 6));
    let wrong = |what| {
        format!(
            "select count(*) as v from {{}}topics t where t.last_at is distinct from
               (select {what}(p.at) from {{}}posts p where p.topic_id = t.id)"
        )
    };
    assert_eq!(shop.number(&wrong("max")).await, 0);
    let min = shop.posts().agg(Agg::Min("at".into())).column("last_at");
    assert_eq!(shop.repair(&min).await.drifted, 6);
    assert_eq!(shop.number(&wrong("min")).await, 0);
    shop.close().await;
}

async fn counters_through_several_levels_are_put_right(base: Base) {
    let shop = base.shop().await;
    shop.fill(20, 3).await;
    shop.execute(
        "create table {}forums (id {key} primary key, posts_count integer not null default 0);
         alter table {}topics add column forum_id {key};
         alter table {}topics add column hidden integer not null default 0;
         create index topics_forum on {}topics (forum_id);
         insert into {}forums (id) values (1), (2), (3);
         update {}topics set forum_id = 1 + id % 2, hidden = case when id = 20 then 1 else 0 end;
         update {}posts set deleted_at = 'now' where id = 100001",
    )
    .await;
    let hop = Hop::new(&shop.sql("{}topics"), "id", "forum_id").filter("hidden = 0");
    let spec = CounterSpec::new("forum_posts")
        .parent(&shop.sql("{}forums"), "id")
        .column("posts_count")
        .child(&shop.sql("{}posts"), "topic_id")
        .filter("deleted_at is null")
        .through([hop]);
    let totals = shop.repair(&spec).await;
    assert_eq!((totals.scanned, totals.drifted), (3, 2));
    let counts = shop.read("select posts_count as v from {}forums order by id").await;
    assert_eq!(counts, ["27", "29", "0"].map(|count| Some(count.to_owned())));
    shop.close().await;
}

async fn keys_of_every_kind_are_put_right(base: Base) {
    let shop = base.shop().await;
    let (bytes, make, uuid) = match &shop.store {
        Store::Sqlite(_) => ("blob", "x'00ff'", "text"),
        Store::Postgres(_) => ("bytea", "'\\x00ff'::bytea", "uuid"),
    };
    let one = "'7f3c2f0e-6b0a-4c5e-9a39-0d8f4f1f2a10'";
    for (name, kind, values) in [
        ("of_text", "text", ["'it''s'", "'größe %'"]),
        ("of_uuid", uuid, [one, "'0f3c2f0e-6b0a-4c5e-9a39-0d8f4f1f2a10'"]),
        ("of_bytes", bytes, [make, &make.replace("ff", "01")]),
        ("of_numbers", "{key}", ["-9223372036854775808", "9223372036854775807"]),
    ] {
        let [first, second] = values;
        shop.execute(&format!(
            "create table {{}}{name} (id {kind} primary key, count integer not null default 4);
             create table {{}}{name}_child (parent {kind});
             create index {name}_child_parent on {{}}{name}_child (parent);
             insert into {{}}{name} (id) values ({first}), ({second});
             insert into {{}}{name}_child values ({first}), ({first}), ({second})"
        ))
        .await;
        let spec = CounterSpec::new(name)
            .parent(&shop.sql(&format!("{{}}{name}")), "id")
            .column("count")
            .child(&shop.sql(&format!("{{}}{name}_child")), "parent");
        // One parent in each batch: the cursor goes through its text each time.
        let totals = shop.run(&spec, Mode::Repair, 1..=1).await;
        assert_eq!((totals.scanned, totals.drifted, totals.too_high), (2, 2, 5), "{name}");
        let again = shop.run(&spec.strategy(Strategy::Recount), Mode::Repair, 1..=1).await;
        assert_eq!((again.scanned, again.drifted), (2, 0), "{name}");
    }
    shop.close().await;
}

async fn composite_keys_are_put_right(base: Base) {
    let shop = base.shop().await;
    shop.execute(
        "create table {}shelves (shop text not null, id {key} not null, books integer,
                                 primary key (shop, id));
         create table {}books (shop text, shelf {key});
         create index books_shelf on {}books (shop, shelf);
         insert into {}shelves values ('a', 1, 0), ('a', 2, 0), ('a', 10, 1), ('b', 1, 1), ('b', 2, 0);
         insert into {}books values ('a', 1), ('a', 10), ('b', 2), ('b', 2), (null, 1), ('b', null)",
    )
    .await;
    let spec = || {
        CounterSpec::new("shelf_books")
            .parent(&shop.sql("{}shelves"), ["shop", "id"])
            .column("books")
            .child(&shop.sql("{}books"), ["shop", "shelf"])
    };
    for strategy in [Strategy::Delta, Strategy::Recount] {
        shop.execute("update {}shelves set books = case when id = 10 then 1 else 0 end").await;
        let totals = shop.run(&spec().strategy(strategy), Mode::Repair, 1..=2).await;
        assert_eq!((totals.scanned, totals.drifted), (5, 2), "{strategy:?}");
        let books = shop.read("select books as v from {}shelves order by shop, id").await;
        let books: Vec<_> = books.into_iter().flatten().collect();
        assert_eq!(books, ["1", "0", "1", "0", "2"], "{strategy:?}");
    }
    let mut samples = shop.survey(&spec()).await.samples;
    assert!(samples.pop().is_none());
    shop.close().await;
}

async fn names_that_need_quotes_are_put_right(base: Base) {
    let shop = base.shop().await;
    shop.execute(
        "create table {}\"my parent\" (\"ID\" {key} primary key, \"select\" integer not null default 0);
         create table {}\"a\"\"b\" (\"order by\" {key}, \"where\" {key});
         create index odd on {}\"a\"\"b\" (\"order by\");
         insert into {}\"my parent\" (\"ID\") values (1);
         insert into {}\"a\"\"b\" values (1, 1), (1, 2)",
    )
    .await;
    let spec = CounterSpec::new("odd")
        .parent(&shop.sql("{}\"my parent\""), "ID")
        .column("select")
        .child(&shop.sql("{}\"a\"\"b\""), "order by")
        .filter("\"a\"\"b\".\"where\" = 2");
    assert_eq!(shop.repair(&spec).await.drifted, 1);
    assert_eq!(shop.number("select \"select\" as v from {}\"my parent\"").await, 1);
    shop.close().await;
}

async fn each_parent_is_seen_once_whatever_the_size_of_batches(base: Base) {
    let shop = base.shop().await;
    shop.fill(100, 1).await;
    // At the end of a batch, and one off.
    for size in [1, 7, 50, 99, 100, 101] {
        shop.execute("update {}topics set posts_count = 3").await;
        let totals = shop.run(&shop.posts(), Mode::Repair, size..=size).await;
        assert_eq!((totals.scanned, totals.repaired), (100, 100), "{size}");
        assert_eq!(shop.wrong().await, 0);
    }
    shop.execute("delete from {}posts; delete from {}topics").await;
    let totals = shop.repair(&shop.posts()).await;
    assert_eq!((totals.scanned, totals.batches), (0, 1));
    shop.close().await;
}

async fn a_recount_comes_to_the_same(base: Base) {
    let shop = base.shop().await;
    shop.fill(30, 2).await;
    shop.execute("update {}topics set posts_count = id where id > 10").await;
    let totals = shop.repair(&shop.posts().strategy(Strategy::Recount)).await;
    assert_eq!((totals.scanned, totals.drifted), (30, 20));
    assert_eq!(shop.wrong().await, 0);
    shop.close().await;
}

async fn a_superseded_run_writes_nothing(base: Base) {
    let shop = base.shop().await;
    shop.fill(10, 1).await;
    let repair = shop.repairer(&shop.posts(), 5..=5).await;
    let stale = shop.begin(&shop.posts(), Mode::Repair, 1).await;
    let moved = repair.one_batch(stale.clone(), 5).await.unwrap();
    assert_eq!((moved.step, moved.totals.scanned), (1, 5));
    shop.execute("update {}topics set posts_count = 9 where id = 1").await;
    let refused = repair.one_batch(stale, 5).await;
    assert!(matches!(refused, Err(CounterError::Superseded)), "{refused:?}");
    assert_eq!(shop.wrong().await, 1, "what it did was rolled back");
    assert_eq!(shop.found(1).await.totals.scanned, 5);
    shop.close().await;
}

async fn a_run_goes_on_where_its_last_batch_ended(base: Base) {
    let shop = base.shop().await;
    shop.fill(20, 1).await;
    let spec = shop.posts();
    let repair = shop.repairer(&spec, 8..=8).await;
    let run = shop.begin(&spec, Mode::Repair, 1).await;
    repair.one_batch(run, 8).await.unwrap();
    // Behind the cursor: not for this run.
    shop.execute("update {}topics set posts_count = 0 where id in (1, 9, 20)").await;
    let again = shop.begin(&spec, Mode::Repair, 1).await;
    assert_eq!(again.cursor, Some(vec!["8".to_owned()]));
    assert_eq!(repair.run(again, &control()).await.unwrap(), End::Done);
    let totals = shop.found(1).await.totals;
    assert_eq!((totals.scanned, totals.repaired), (20, 2));
    assert_eq!(shop.wrong().await, 1);
    shop.close().await;
}

async fn what_is_pending_is_no_drift(base: Base) {
    let shop = base.shop().await;
    shop.fill(4, 2).await;
    let spec = shop.posts().maintain(Maintain::Deferred);
    let deltas = match &shop.store {
        Store::Sqlite(_) => "sf_counter_deltas",
        Store::Postgres(_) => "{}counter_deltas",
    };
    // Three posts that are to be counted later, and a drift of one.
    shop.execute(&format!(
        "insert into {{}}posts (id, topic_id) values (1, 1), (2, 1), (3, 2);
         insert into {deltas} (counter, key, delta)
            values ('topic_posts', '1', 2), ('topic_posts', '2', 1), ('other', '3', 40);
         update {{}}topics set posts_count = posts_count - 1 where id = 2"
    ))
    .await;
    for strategy in [Strategy::Recount, Strategy::Delta] {
        let totals = shop.survey(&spec.clone().strategy(strategy)).await;
        assert_eq!((totals.drifted, totals.too_low), (1, 1));
    }
    assert_eq!(shop.repair(&spec).await.repaired, 1);
    let subject = shop.subject(&spec).await.unwrap();
    assert_eq!(maintain::fold(&shop.store, &subject).await.unwrap(), 2);
    assert_eq!(shop.wrong().await, 0);
    assert_eq!(maintain::fold(&shop.store, &subject).await.unwrap(), 0);
    let left = format!("select count(*) as v from {deltas}");
    assert_eq!(shop.number(&left).await, 1, "the other counter's is not ours");
    shop.close().await;
}

/// On PostgreSQL, where much is written to its log.
mod log {
    use super::*;

    #[actix::test]
    async fn looking_at_what_is_right_writes_next_to_nothing() {
        let Some(base) = Base::postgres().await else { return };
        let shop = base.shop().await;
        shop.fill(20_000, 2).await;
        let Store::Postgres(store) = &shop.store else { return };
        let client = store.client().await.unwrap();
        let analyze = shop.sql("vacuum analyze {}topics; vacuum analyze {}posts");
        for one in analyze.split(';') {
            client.batch_execute(one).await.unwrap();
        }
        // The server's log is everybody's: what this transaction wrote is not told apart. So the
        // least of a few is taken.
        let mut least = i64::MAX;
        for _ in 0..5 {
            let at = "select pg_current_wal_insert_lsn()::text";
            let before: String = client.query_one(at, &[]).await.unwrap().get(0);
            let totals = shop.repair(&shop.posts()).await;
            assert_eq!((totals.scanned, totals.drifted), (20_000, 0));
            let since = "select (pg_current_wal_insert_lsn() - $1::text::pg_lsn)::bigint";
            least = least.min(client.query_one(since, &[&before]).await.unwrap().get(0));
        }
        // To lock or to write each parent would be a megabyte and more.
        assert!(least < 400_000, "{least} bytes");
        drop(client);
        shop.close().await;
    }
}

/// A unique key may be null, and then no child refers to it.
async fn parents_without_a_key_are_left_alone(base: Base) {
    let shop = base.shop().await;
    shop.execute(
        "create table {}shelves (id {key} unique, books integer);
         create table {}racks (shop {key}, id {key}, books integer, unique (shop, id));
         create table {}rack_books (shop {key}, id {key});
         create index rack_books_rack on {}rack_books (shop, id);
         insert into {}racks values (1, null, 7), (1, 1, 0), (2, 1, 1), (null, 1, 7), (2, null, 7);
         insert into {}rack_books values (1, 1), (1, null), (null, 1), (2, 1);
         create table {}books (shelf {key});
         create index books_shelf on {}books (shelf);
         insert into {}shelves values (null, 7), (1, 0), (null, 7), (2, 9), (3, 1), (null, 7);
         insert into {}books values (1), (1), (3), (null)",
    )
    .await;
    let spec = CounterSpec::new("shelf_books")
        .parent(&shop.sql("{}shelves"), "id")
        .column("books")
        .child(&shop.sql("{}books"), "shelf");
    for (size, drifted) in [(1, 2), (2, 0), (3, 0), (4, 0), (100, 0)] {
        let totals = shop.run(&spec, Mode::Repair, size..=size).await;
        assert_eq!((totals.scanned, totals.drifted), (3, drifted), "{size}");
    }
    let books = shop.read("select books as v from {}shelves order by books").await;
    let books: Vec<_> = books.into_iter().flatten().collect();
    assert_eq!(books, ["0", "1", "2", "7", "7", "7"]);
    let spec = CounterSpec::new("rack_books")
        .parent(&shop.sql("{}racks"), ["shop", "id"])
        .column("books")
        .child(&shop.sql("{}rack_books"), ["shop", "id"]);
    for (size, drifted) in [(1, 1), (2, 0), (3, 0), (4, 0)] {
        let totals = shop.run(&spec, Mode::Repair, size..=size).await;
        assert_eq!((totals.scanned, totals.drifted), (2, drifted), "{size}");
    }
    shop.close().await;
}

async fn whole_numbers_of_every_width_are_put_right(base: Base) {
    let shop = base.shop().await;
    let widths = match &shop.store {
        Store::Sqlite(_) => ["integer"; 3],
        Store::Postgres(_) => {
            shop.execute("create domain {}number as smallint").await;
            ["{}number", "int", "bigint"]
        }
    };
    for (place, (own, theirs)) in
        widths.iter().flat_map(|own| widths.map(|theirs| (own, theirs))).enumerate()
    {
        let (parent, child) = (format!("p{place}"), format!("c{place}"));
        shop.execute(&format!(
            "create table {{}}{parent} (id {own} primary key, books integer);
             create table {{}}{child} (id {theirs});
             create index {child}_id on {{}}{child} (id);
             insert into {{}}{parent} values (-32768, 1), (-1, 1), (0, null), (7, 1), (32767, 1);
             insert into {{}}{child} values (-32768), (-32768), (0), (0), (3), (32767), (null)"
        ))
        .await;
        let spec = CounterSpec::new(&parent)
            .parent(&shop.sql(&format!("{{}}{parent}")), "id")
            .column("books")
            .child(&shop.sql(&format!("{{}}{child}")), "id");
        let totals = shop.run(&spec, Mode::Repair, 1..=2).await;
        assert_eq!((totals.scanned, totals.drifted), (5, 4), "{own} {theirs}");
        let books = shop.read(&format!("select books as v from {{}}{parent} order by id")).await;
        let books: Vec<_> = books.into_iter().flatten().collect();
        assert_eq!(books, ["2", "0", "2", "0", "1"], "{own} {theirs}");
    }
    shop.close().await;
}

async fn a_parent_whose_trigger_refuses_is_left_alone(base: Base) {
    let shop = base.shop().await;
    shop.fill(4, 2).await;
    shop.execute("update {}topics set posts_count = 7").await;
    shop.execute(match &shop.store {
        Store::Sqlite(_) => {
            "create trigger frozen before update on topics when old.id = 2
             begin select raise(ignore); end"
        }
        Store::Postgres(_) => {
            "create function {}refuse() returns trigger language plpgsql as 'begin return null; end';
             create trigger frozen before update on {}topics for each row when (old.id = 2)
             execute function {}refuse()"
        }
    })
    .await;
    let totals = shop.run(&shop.posts(), Mode::Repair, 1..=2).await;
    assert_eq!((totals.scanned, totals.drifted), (4, 3));
    let counts = shop.read("select posts_count as v from {}topics order by id").await;
    assert_eq!(counts, ["2", "7", "2", "2"].map(|count| Some(count.to_owned())));
    shop.close().await;
}
