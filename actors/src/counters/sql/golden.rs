//! The statements as they are sent. A change here is a change of what runs in somebody's database.

use super::{Dialect, Kind, Level, Subject, flush, repair, triggers};
use crate::counters::spec::{Agg, Maintain};

fn subject(dialect: Dialect) -> Subject {
    Subject {
        name: "topic_posts".into(),
        parent: "\"topics\"".into(),
        key: vec![("\"id\"".into(), Kind::Integer)],
        column: "\"posts_count\"".into(),
        nullable: false,
        agg: Agg::Count,
        of: None,
        levels: vec![Level {
            table: "\"posts\"".into(),
            alias: "\"posts\"".into(),
            key: Vec::new(),
            foreign_key: vec!["\"topic_id\"".into()],
            filter: Some("(deleted_at is null)".into()),
        }],
        child_columns: vec!["\"topic_id\"".into(), "\"deleted_at\"".into()],
        touch: None,
        maintain: Maintain::App,
        adds: true,
        dialect,
    }
}

fn postgres() -> Subject {
    subject(Dialect::Postgres { schema: "steadfast".into() })
}

fn sqlite() -> Subject {
    subject(Dialect::Sqlite)
}

/// Compares without regard to how lines are broken.
#[track_caller]
fn check(found: &str, expected: &str) {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(found), words(expected), "\n{found}\n");
}

#[test]
fn a_full_window_is_found_along_the_key() {
    check(
        &repair::window(&postgres(), true),
        r#"select k."id"::text from "topics" k where k."id" > $2::text::bigint
          order by k."id" limit 1 offset $1::text::bigint"#,
    );
    check(
        &repair::window(&sqlite(), false),
        r#"select cast(k."id" as text) from "topics" k where k."id" is not null
          order by k."id" limit 1 offset cast(?1 as integer)"#,
    );
}

#[test]
fn the_last_window_is_the_next_parents_by_key() {
    check(
        &repair::rest(&postgres(), true),
        r#"select x.k1::text, (count(*) over ())::text
           from (select k."id" as k1 from "topics" k where k."id" > $2::text::bigint
                 order by k."id" limit $1::text::bigint) x
          order by x.k1 desc limit 1"#,
    );
    check(
        &repair::rest(&sqlite(), false),
        r#"select cast(x.k1 as text), cast(count(*) over () as text)
           from (select k."id" as k1 from "topics" k where k."id" is not null
                 order by k."id" limit cast(?1 as integer)) x
          order by x.k1 desc limit 1"#,
    );
}

#[test]
fn drift_is_added_in_one_statement_that_says_its_window_wherever_it_reads() {
    check(
        &repair::add(&postgres(), true),
        r#"with seen as (
             select k."id" as k1, k."posts_count" as had, coalesce(t.n, 0) as due
               from "topics" k left join
                 (select c."topic_id" as k1, count(*) as n
                   from (select * from "posts" as "posts" where (deleted_at is null)) c
                  where c."topic_id" <= $1::text::bigint and c."topic_id" > $2::text::bigint
                  group by c."topic_id") t on t.k1 = k."id"
              where k."id" <= $1::text::bigint and k."id" > $2::text::bigint),
           wrong as (select *, due - coalesce(had, 0) as d from seen where had is distinct from due),
           s as materialized (select * from wrong order by k1)
           update "topics" p set "posts_count" = p."posts_count" + s.d from s
            where p."id" = s.k1
              and p."id" <= $1::text::bigint and p."id" > $2::text::bigint
           returning s.k1::text, s.had::text, s.due::text,
             round(least(greatest(s.d, -9223372036854775808), 9223372036854775807))::bigint::text"#,
    );
}

#[test]
fn those_that_are_null_are_not_added_to() {
    let nullable = Subject { nullable: true, ..postgres() };
    assert!(repair::add(&nullable, false).contains("and k.\"posts_count\" is not null"));
    check(
        &repair::nulls(&nullable, false),
        r#"select k."id"::text from "topics" k
            where k."id" <= $1::text::bigint and k."posts_count" is null order by k."id""#,
    );
}

#[test]
fn a_recount_locks_first_and_counts_in_another_statement() {
    check(
        &repair::lock(&postgres()),
        r#"select 1 from "topics" p
            where p."id" in (select u.k1 from
              (select t.tk1::bigint as k1 from unnest($1::text[]) as t(tk1)) u)
            order by p."id" for no key update"#,
    );
    check(
        &repair::recount(&postgres()),
        r#"with seen as materialized (
             select k."id" as k1, k."posts_count" as had,
                    (select count(*)
                       from (select * from "posts" as "posts" where (deleted_at is null)) c
                      where c."topic_id" = k."id") as due
               from (select t.tk1::bigint as k1 from unnest($1::text[]) as t(tk1)) u
               join "topics" k on k."id" = u.k1),
           wrong as (select *, due - coalesce(had, 0) as d from seen where had is distinct from due)
           update "topics" p set "posts_count" = s.due from wrong s
            where p."id" = s.k1
           returning s.k1::text, s.had::text, s.due::text,
             round(least(greatest(s.d, -9223372036854775808), 9223372036854775807))::bigint::text"#,
    );
}

#[test]
fn on_sqlite_what_is_wrong_is_set_by_its_key() {
    check(
        &repair::detect(&sqlite(), false),
        r#"with seen as materialized (
             select k."id" as k1, k."posts_count" as had,
                    (select count(*)
                       from (select * from "posts" as "posts" where (deleted_at is null)) c
                      where c."topic_id" = k."id") as due
               from "topics" k where k."id" <= cast(cast(?1 as text) as integer)),
           wrong as (select *, due - coalesce(had, 0) as d from seen where had is distinct from due)
           select cast(k1 as text), cast(had as text), cast(due as text), cast(d as text)
             from wrong order by k1"#,
    );
    check(
        &repair::set(&sqlite()),
        r#"update "topics" as p set "posts_count" = (select count(*)
             from (select * from "posts" as "posts" where (deleted_at is null)) c
            where c."topic_id" = p."id")
            where p."id" = cast(cast(?1 as text) as integer)
           returning cast("posts_count" as text),
             cast("posts_count" - coalesce(cast(?2 as numeric), 0) as text)"#,
    );
    check(
        &repair::suspects(&sqlite(), false),
        r#"select cast(k."id" as text), cast(k."posts_count" as text) from "topics" k
            where k."id" <= cast(cast(?1 as text) as integer)
              and k."posts_count" is not (select count(*)
                from (select * from "posts" as "posts" where (deleted_at is null)) c
               where c."topic_id" = k."id")
            order by k."id""#,
    );
}

#[test]
fn composite_keys_are_compared_as_rows() {
    let key = vec![("\"shop\"".into(), Kind::Text), ("\"id\"".into(), Kind::Uuid)];
    let subject = Subject { key, ..postgres() };
    let window = repair::rest(&subject, true);
    assert!(window.contains("(k.\"shop\", k.\"id\") > ($2::text, $3::text::uuid)"), "{window}");
    assert!(window.ends_with("order by x.k1 desc, x.k2 desc limit 1"), "{window}");
    let detect = repair::detect(&subject, true);
    let range = "(k.\"shop\", k.\"id\") <= ($1::text, $2::text::uuid)
                 and (k.\"shop\", k.\"id\") > ($3::text, $4::text::uuid)";
    let range = range.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(detect.contains(&range), "{detect}");
}

#[test]
fn levels_are_joined_from_the_parent_down() {
    let hop = Level {
        table: "\"boards\"".into(),
        alias: "\"boards\"".into(),
        key: vec!["\"id\"".into()],
        foreign_key: vec!["\"forum_id\"".into()],
        filter: None,
    };
    let mut subject = postgres();
    subject.levels.insert(0, hop);
    let detect = repair::detect(&subject, false);
    let joined = "from \"boards\" h1 join (select * from \"posts\" as \"posts\" \
                  where (deleted_at is null)) c on c.\"topic_id\" = h1.\"id\" \
                  where h1.\"forum_id\" = k.\"id\"";
    assert!(detect.contains(joined), "{detect}");
}

#[test]
fn a_trigger_changes_each_parent_once_in_the_order_of_keys() {
    let subject = Subject { maintain: Maintain::Trigger, ..postgres() };
    let [insert, _, make, ..] = &triggers::make(&subject)[..] else { panic!("three for each") };
    check(
        insert,
        r#"create or replace function steadfast.counter_topic_posts_insert()
           returns trigger language plpgsql as $sf$
           begin
             with s as materialized (
               select x.k1, sum(x.d) as d from (
                 select c."topic_id" as k1, count(*) as d
                   from (select * from sf_new as "posts" where (deleted_at is null)) c
                  group by c."topic_id") x
                where x.k1 is not null group by x.k1 having sum(x.d) <> 0),
             held as materialized (
               select p."id" as k1 from "topics" p join s on p."id" = s.k1
                order by p."id" for no key update of p)
             update "topics" p set "posts_count" = coalesce(p."posts_count", 0) + s.d
               from s join held on held.k1 = s.k1 where p."id" = s.k1;
             return null;
           end $sf$"#,
    );
    check(
        make,
        r#"create trigger sf_counter_topic_posts_insert after insert on "posts"
           referencing new table as sf_new
           for each statement execute function steadfast.counter_topic_posts_insert()"#,
    );
}

#[test]
fn on_sqlite_a_row_changes_its_parent() {
    let subject = Subject { maintain: Maintain::Trigger, ..sqlite() };
    let [_, insert, ..] = &triggers::make(&subject)[..] else { panic!("two for each") };
    let counts = r#"iif(exists (select 1 from
        (select new."topic_id" as "topic_id", new."deleted_at" as "deleted_at") as "posts"
         where (deleted_at is null)), 1, 0)"#;
    check(
        insert,
        &format!(
            r#"create trigger "sf_counter_topic_posts_insert" after insert on "posts" begin
                 update "topics" set "posts_count" = coalesce("posts_count", 0)
                    + iif("id" = new."topic_id", {counts}, 0)
                  where "id" = new."topic_id"
                    and (0 + iif("id" = new."topic_id", {counts}, 0)) <> 0;
               end"#
        ),
    );
}

#[test]
fn deltas_are_taken_and_added_in_one_statement() {
    let subject = Subject { maintain: Maintain::Deferred, ..postgres() };
    check(
        &flush::postgres(&subject),
        r#"with gone as (
             delete from steadfast.counter_deltas where id in (
               select id from steadfast.counter_deltas where counter = 'topic_posts'
                order by id limit $1::text::bigint for update skip locked)
             returning key, delta),
           sums as materialized (
             select gone.key::bigint as k1, sum(gone.delta) as d from gone
              group by 1 having sum(gone.delta) <> 0),
           held as materialized (
             select p."id" as k1 from "topics" p join sums on p."id" = sums.k1
              order by p."id" for no key update of p),
           added as (
             update "topics" p set "posts_count" = coalesce(p."posts_count", 0) + sums.d
               from sums join held on held.k1 = sums.k1 where p."id" = sums.k1)
           select count(*)::text from gone"#,
    );
}
