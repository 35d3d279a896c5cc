//! Declarations that do not fit are refused before anything is written.

use super::*;

on_each_database! {
    what_fits_is_taken,
    unknown_tables_and_columns_are_named,
    a_foreign_key_needs_an_index,
    an_index_of_some_rows_will_do_only_for_those,
    a_key_must_be_unique,
    types_that_cannot_be_right_are_refused,
    a_filter_that_the_database_does_not_understand_is_refused,
    a_refused_declaration_writes_nothing,
}

#[track_caller]
fn check(checked: Result<Subject, CounterError>, expected: &str) {
    let error = checked.expect_err(expected);
    let CounterError::InvalidSpec { fault, .. } = &error else { panic!("{error:?}") };
    let shown = fault.to_string();
    assert!(shown.contains(expected), "`{shown}` says nothing of `{expected}`");
}

async fn what_fits_is_taken(base: Base) {
    let shop = base.shop().await;
    shop.subject(&shop.posts()).await.unwrap();
    for spec in [
        shop.posts().agg(Agg::Sum("cents".into())).column("cents"),
        shop.posts().agg(Agg::Max("at".into())).column("last_at"),
        shop.posts().agg(Agg::Min("at".into())).column("last_at").touch("counted_at"),
        shop.posts().maintain(Maintain::Trigger),
        shop.posts().maintain(Maintain::Deferred),
    ] {
        shop.subject(&spec).await.unwrap();
    }
    shop.close().await;
}

async fn unknown_tables_and_columns_are_named(base: Base) {
    let shop = base.shop().await;
    let topics = shop.sql("{}topics");
    check(shop.subject(&shop.posts().parent(&shop.sql("{}nosuch"), "id")).await, "no table");
    check(shop.subject(&shop.posts().child(&shop.sql("{}nosuch"), "topic_id")).await, "nosuch");
    check(shop.subject(&shop.posts().column("nosuch")).await, "no column \"nosuch\"");
    check(shop.subject(&shop.posts().parent(&topics, "nosuch")).await, "no column");
    check(shop.subject(&shop.posts().child(&shop.sql("{}posts"), "nosuch")).await, "no column");
    check(shop.subject(&shop.posts().touch("nosuch")).await, "no column");
    check(shop.subject(&shop.posts().agg(Agg::Sum("nosuch".into()))).await, "no column");
    let injected = "posts_count\" = 0; drop table topics; --";
    check(shop.subject(&shop.posts().column(injected)).await, "no column");
    check(shop.subject(&shop.posts().column("")).await, "cannot be the name");
    check(shop.subject(&shop.posts().column(&"x".repeat(64))).await, "cannot be the name");
    shop.close().await;
}

async fn a_foreign_key_needs_an_index(base: Base) {
    let shop = base.shop().await;
    shop.execute("drop index {}posts_topic").await;
    check(shop.subject(&shop.posts()).await, "make it first: create index");
    // One that only has it somewhere is of no use, nor is one that was only begun.
    shop.execute("create index other on {}posts (at, topic_id)").await;
    check(shop.subject(&shop.posts()).await, "no index");
    shop.execute("create index good on {}posts (topic_id, at)").await;
    shop.subject(&shop.posts()).await.unwrap();
    shop.close().await;
}

async fn an_index_of_some_rows_will_do_only_for_those(base: Base) {
    let shop = base.shop().await;
    shop.execute(
        "drop index {}posts_topic;
         create index live on {}posts (topic_id) where deleted_at is null",
    )
    .await;
    shop.subject(&shop.posts()).await.unwrap();
    shop.subject(&shop.posts().filter("deleted_at IS NULL and at > 1")).await.unwrap();
    check(shop.subject(&shop.posts().filter("at > 1")).await, "no index");
    check(shop.subject(&shop.posts().filter("deleted_at is null or at > 1")).await, "no index");
    shop.close().await;
}

async fn a_key_must_be_unique(base: Base) {
    let shop = base.shop().await;
    let by_cents = shop.posts().parent(&shop.sql("{}topics"), "cents");
    check(shop.subject(&by_cents).await, "no unique index");
    shop.execute("create unique index few on {}topics (cents) where cents > 0").await;
    check(shop.subject(&by_cents).await, "no unique index");
    shop.execute("create unique index all_of_them on {}topics (cents)").await;
    shop.subject(&by_cents).await.unwrap();
    shop.close().await;
}

async fn types_that_cannot_be_right_are_refused(base: Base) {
    let shop = base.shop().await;
    shop.execute(
        "create table {}odd (id real primary key, floats real, name text, counted {key} not null,
                             topic_id text);
         create index odd_topic on {}odd (topic_id)",
    )
    .await;
    let (odd, topics) = (shop.sql("{}odd"), shop.sql("{}topics"));
    check(shop.subject(&shop.posts().parent(&odd, "id")).await, "a whole number, a text");
    check(shop.subject(&shop.posts().child(&odd, "topic_id").filter("true")).await, "of the type");
    shop.execute("alter table {}posts add column weight real").await;
    let floats = shop.posts().agg(Agg::Sum("weight".into()));
    check(shop.subject(&floats).await, "sums of others depend on order");
    shop.execute("alter table {}topics add column title text").await;
    shop.execute("alter table {}topics add column ratio real").await;
    check(shop.subject(&shop.posts().column("title")).await, "a whole number");
    // On SQLite a time may be a text.
    check(shop.subject(&shop.posts().touch("ratio")).await, "a time");
    let max = shop.posts().agg(Agg::Max("at".into()));
    shop.execute("alter table {}topics add column newest {key} not null default 0").await;
    check(shop.subject(&max.clone().column("newest")).await, "nullable");
    check(shop.subject(&max.column("title")).await, "of the type of what is compared");
    let deltas = shop.posts().agg(Agg::Max("at".into())).strategy(Strategy::Delta);
    check(shop.subject(&deltas.column("last_at")).await, "only counts and sums");
    let triggers = shop.posts().agg(Agg::Max("at".into())).maintain(Maintain::Trigger);
    check(shop.subject(&triggers).await, "direct children only");
    check(shop.subject(&shop.posts().parent(&topics, ["id", "cents"])).await, "as many as");
    shop.close().await;
}

async fn a_filter_that_the_database_does_not_understand_is_refused(base: Base) {
    let shop = base.shop().await;
    check(shop.subject(&shop.posts().filter("nosuch is null")).await, "refuses its filter");
    check(shop.subject(&shop.posts().filter("deleted_at is is null")).await, "refuses its filter");
    check(shop.subject(&shop.posts().filter("true; drop table posts")).await, "without `;`");
    check(shop.subject(&shop.posts().filter("true) or (true")).await, "parentheses");
    shop.close().await;
}

async fn a_refused_declaration_writes_nothing(base: Base) {
    let shop = base.shop().await;
    shop.fill(3, 2).await;
    shop.execute("update {}topics set posts_count = 9; drop index {}posts_topic").await;
    let spec = shop.posts().maintain(Maintain::Trigger);
    let bench = Bench::start(&shop, |jobs| jobs, |counters| counters.counter(spec)).await;
    for refused in [
        bench.counters.repair("topic_posts").await.map(drop),
        bench.counters.survey("topic_posts").await.map(drop),
        bench.counters.apply("topic_posts").await,
        bench.counters.plan("topic_posts").await.map(drop),
    ] {
        assert!(matches!(refused, Err(CounterError::InvalidSpec { .. })), "{refused:?}");
    }
    assert!(matches!(bench.counters.repair("nosuch").await, Err(CounterError::Unknown)));
    assert_eq!(shop.wrong().await, 3);
    assert!(bench.counters.latest("topic_posts").await.unwrap().is_none());
    assert_eq!(bench.jobs.counts().await.unwrap().ready, 0);
    bench.stop().await;
    shop.close().await;
}

#[actix::test]
async fn names_and_settings_out_of_range_are_refused() {
    let base = Base::sqlite();
    let shop = base.shop().await;
    let refuses = |builder: CountersBuilder| {
        builder.register(Jobs::builder(&shop.store)).map(drop).unwrap_err()
    };
    let new = || Counters::builder(&shop.store);
    for name in ["", "Upper", "1a", "a-b", &"a".repeat(41)] {
        let spec = CounterSpec { name: name.into(), ..shop.posts() };
        let refused = refuses(new().counter(spec));
        assert!(matches!(refused, CounterError::InvalidSpec { fault: SpecFault::Name, .. }));
    }
    let longest = CounterSpec { name: "a".repeat(40).into(), ..shop.posts() };
    new().counter(longest).register(Jobs::builder(&shop.store)).map(drop).unwrap();
    let twice = new().counter(shop.posts()).counter(shop.posts());
    assert!(matches!(refuses(twice), CounterError::Taken(_)));
    let again = CounterSpec { name: "other".into(), ..shop.posts() };
    assert!(matches!(refuses(new().counter(shop.posts()).counter(again)), CounterError::Taken(_)));
    let hop = || Hop::new("topics", "id", "id");
    let deep = |levels| shop.posts().through((0..levels).map(|_| hop())).parse();
    assert!(deep(4).is_ok() && deep(5).is_err());
    let second = Duration::from_secs(1);
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let empty = 2..=1;
    for builder in [
        new().batch(0..=1),
        new().batch(1..=50_001),
        new().batch(empty),
        new().target_batch(second * 11),
        new().lock_timeout(Duration::from_millis(9)),
        new().statement_timeout(second * 11),
        new().turn(second / 2),
        new().flush_every(Duration::from_millis(9)),
        new().keep_for(second),
    ] {
        assert!(matches!(refuses(builder), CounterError::InvalidSetting { .. }));
    }
    shop.close().await;
}
