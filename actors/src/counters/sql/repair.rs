//! The statements of one batch: its window, what is wrong in it, and putting that right.
//!
//! A window is all parents whose key is above the cursor and up to a last key. Parameters: the
//! last key, then the cursor where there is one.
//!
//! ORDER: the window is repeated wherever the parent is named. Without that, PostgreSQL reads and
//! hashes the whole parent table for each batch.

use super::{Dialect, Kind, Level, Subject, tuple};
use crate::counters::spec::Maintain;

/// The last key of a window that is full. Parameters: how many parents it has beside the last, then
/// the cursor. No row: so many are not left.
///
/// It only walks along an index: to sort the keys or to count them, as [`rest`] does, takes longer
/// than to count the children of some.
pub(in crate::counters) fn window(subject: &Subject, has_cursor: bool) -> String {
    let parent = &subject.parent;
    let keys = subject.key.iter().map(|(name, kind)| subject.shown(&format!("k.{name}"), *kind));
    let keys = keys.collect::<Vec<_>>().join(", ");
    let (after, up) = (after(subject, has_cursor), order(subject, "k.", ""));
    let skipped = match subject.dialect {
        Dialect::Sqlite => "cast(?1 as integer)",
        Dialect::Postgres { .. } => "$1::text::bigint",
    };
    format!("select {keys} from {parent} k{after} order by {up} limit 1 offset {skipped}")
}

/// The last window of a run: the last key, and how many parents there are up to it. Parameters: how
/// many there may be, then the cursor. No row: there are none.
pub(in crate::counters) fn rest(subject: &Subject, has_cursor: bool) -> String {
    let Subject { parent, .. } = subject;
    let columns = subject.numbered().map(|(number, name, _)| format!("k.{name} as {number}"));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let after = after(subject, has_cursor);
    let shown =
        subject.numbered().map(|(number, _, kind)| subject.shown(&format!("x.{number}"), kind));
    let shown = shown.collect::<Vec<_>>().join(", ");
    let (limit, count) = match subject.dialect {
        Dialect::Sqlite => ("cast(?1 as integer)", "cast(count(*) over () as text)"),
        Dialect::Postgres { .. } => ("$1::text::bigint", "(count(*) over ())::text"),
    };
    let (up, down) = (order(subject, "k.", ""), numbered_order(subject, "x.", " desc"));
    format!(
        "select {shown}, {count}
   from (select {columns} from {parent} k{after} order by {up} limit {limit}) x
  order by {down} limit 1"
    )
}

/// That a parent has a key and comes after the cursor, which is the second parameter.
fn after(subject: &Subject, has_cursor: bool) -> String {
    let mut all = Vec::new();
    if has_cursor {
        all.push(format!("{} > {}", subject.key_of("k"), subject.key_at(2)));
    }
    // What is null comes after nothing; only a part of it may.
    if !has_cursor || subject.keys() > 1 {
        all.extend(has_key(subject, "k"));
    }
    format!(" where {}", all.join(" and "))
}

/// A unique key may be null: then no child refers to it, and no cursor gets past it.
fn has_key(subject: &Subject, row: &str) -> impl Iterator<Item = String> {
    subject.key.iter().map(move |(name, _)| format!("{row}.{name} is not null"))
}

/// What is wrong in a window. Rows: the key, what the counter is, what it should be, and the
/// difference where there is one; all as texts.
pub(in crate::counters) fn detect(subject: &Subject, has_cursor: bool) -> String {
    let seen = seen_in_window(subject, has_cursor, "");
    let shown = shown(subject, "");
    let by = numbered_order(subject, "", "");
    format!("with {seen}\nselect {shown} from wrong order by {by}")
}

/// Adds what is missing to each wrong counter of a window, on PostgreSQL. The difference comes of
/// one snapshot, in which children and counter agree but for the drift; added to whatever the
/// counter is by now, it leaves what others added meanwhile. Rows as those of [`detect`].
///
/// Those that are null are left to [`recount`]: what others add to them is lost.
pub(in crate::counters) fn add(subject: &Subject, has_cursor: bool) -> String {
    let Subject { parent, column, .. } = subject;
    let known =
        if subject.nullable { format!(" and k.{column} is not null") } else { String::new() };
    let seen = seen_in_window(subject, has_cursor, &known);
    let by = numbered_order(subject, "", "");
    let (touch, shown) = (subject.touched(), shown(subject, "s."));
    let (same, within) = (same(subject, "s"), range(subject, "p", has_cursor));
    format!(
        "with {seen},
s as materialized (select * from wrong order by {by})
update {parent} p set {column} = p.{column} + s.d{touch} from s
 where {same} and {within}
returning {shown}"
    )
}

/// The keys of a window whose counter is null, on PostgreSQL.
pub(in crate::counters) fn nulls(subject: &Subject, has_cursor: bool) -> String {
    let Subject { parent, column, .. } = subject;
    let keys = subject.key.iter().map(|(name, kind)| subject.shown(&format!("k.{name}"), *kind));
    let keys = keys.collect::<Vec<_>>().join(", ");
    let (within, by) = (range(subject, "k", has_cursor), order(subject, "k.", ""));
    format!("select {keys} from {parent} k where {within} and k.{column} is null order by {by}")
}

/// Locks parents, on PostgreSQL. Parameters: an array of texts for each column of the key.
///
/// `no key`: children that refer to them may come meanwhile. In the order of their keys, as every
/// statement of ours locks them.
pub(in crate::counters) fn lock(subject: &Subject) -> String {
    let (listed, by) = (listed(subject), order(subject, "p.", ""));
    let (key, parent) = (subject.key_of("p"), &subject.parent);
    let numbers = subject.numbers("u.").join(", ");
    format!(
        "select 1 from {parent} p
 where {key} in (select {numbers} from {listed})
 order by {by} for no key update"
    )
}

/// Counts again for parents that are locked by an earlier statement of the transaction, on
/// PostgreSQL: whoever changed them has committed, and is seen; whoever will change them waits,
/// and adds to what is written here. Parameters as those of [`lock`], rows as those of [`detect`].
pub(in crate::counters) fn recount(subject: &Subject) -> String {
    let Subject { parent, column, .. } = subject;
    let from = format!("{} join {parent} k on {}", listed(subject), same_as(subject, "k", "u"));
    let seen = seen(subject, &from, &due(subject, "k"), "materialized ");
    let (touch, shown, same) = (subject.touched(), shown(subject, "s."), same(subject, "s"));
    format!(
        "with {seen}
update {parent} p set {column} = s.due{touch} from wrong s
 where {same}
returning {shown}"
    )
}

/// The keys of a window whose counter is wrong, and what it is, on SQLite. What it should be is told
/// by [`set`]: it would be counted twice here.
pub(in crate::counters) fn suspects(subject: &Subject, has_cursor: bool) -> String {
    let Subject { parent, column, .. } = subject;
    let keys = subject.key.iter().map(|(name, kind)| subject.shown(&format!("k.{name}"), *kind));
    let keys = keys.collect::<Vec<_>>().join(", ");
    let (within, due) = (range(subject, "k", has_cursor), due(subject, "k"));
    let by = order(subject, "k.", "");
    format!(
        "select {keys}, cast(k.{column} as text) from {parent} k
 where {within} and k.{column} is not {due} order by {by}"
    )
}

/// Sets one counter to what it should be, on SQLite, where nobody else writes meanwhile.
/// Parameters: the key, and what the counter is. A row: what it is now, and the difference where
/// there is one.
pub(in crate::counters) fn set(subject: &Subject) -> String {
    let Subject { parent, column, .. } = subject;
    let (due, touch) = (due(subject, "p"), subject.touched());
    let (key, at) = (subject.key_of("p"), subject.key_at(1));
    let difference = if subject.agg.is_additive() {
        format!("cast({column} - coalesce(cast(?{} as numeric), 0) as text)", 1 + subject.keys())
    } else {
        "null".to_owned()
    };
    format!(
        "update {parent} as p set {column} = {due}{touch} where {key} = {at}
returning cast({column} as text), {difference}"
    )
}

/// `seen` and `wrong` of the parents of a window of which `also` is true.
fn seen_in_window(subject: &Subject, has_cursor: bool, also: &str) -> String {
    let (parent, within) = (&subject.parent, range(subject, "k", has_cursor));
    match grouped(subject, has_cursor) {
        Some(join) => {
            let from = format!("{parent} k left join {join} where {within}{also}");
            let counted = if subject.agg.is_additive() { "coalesce(t.n, 0)" } else { "t.n" };
            let due = still_due(subject, "k", counted.to_owned());
            // What was counted is not counted again, however often it is named.
            seen(subject, &from, &due, "")
        }
        None => {
            let from = format!("{parent} k where {within}{also}");
            seen(subject, &from, &due(subject, "k"), "materialized ")
        }
    }
}

/// What the children of a window's parents come to, read along their index in one go, which takes
/// less than to look up those of one parent after the other. `None`: what follows from the keys of
/// the parents is not sure to hold for those of the children (texts have collations), or is no range
/// of an index (of several columns, or of several tables).
fn grouped(subject: &Subject, has_cursor: bool) -> Option<String> {
    let ([level], [(key, kind)]) = (subject.levels.as_slice(), subject.key.as_slice()) else {
        return None;
    };
    let [foreign_key] = level.foreign_key.as_slice() else { return None };
    if !subject.dialect.is_postgres() || !matches!(kind, Kind::Integer | Kind::Uuid) {
        return None;
    }
    let (rows, aggregate) = (level.rows(&level.table), subject.aggregate());
    let within = between(subject, &format!("c.{foreign_key}"), has_cursor);
    Some(format!(
        "(select c.{foreign_key} as k1, {aggregate} as n from {rows} c
       where {within} group by c.{foreign_key}) t on t.k1 = k.{key}"
    ))
}

/// `seen`: parents, what their counter is and what it should be, in one snapshot; `wrong`: those
/// where these differ.
fn seen(subject: &Subject, from: &str, due: &str, materialized: &str) -> String {
    let columns = subject.numbered().map(|(number, name, _)| format!("k.{name} as {number}"));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let column = &subject.column;
    let difference = match subject.agg.is_additive() {
        true => "due - coalesce(had, 0)",
        false => "null",
    };
    format!(
        "seen as {materialized}(
  select {columns}, k.{column} as had, {due} as due
    from {from}),
wrong as (select *, {difference} as d from seen where had is distinct from due)"
    )
}

/// What the counter of a parent should be: what its children come to, less what is still to be
/// folded into it.
fn due(subject: &Subject, parent: &str) -> String {
    still_due(subject, parent, truth(subject, parent))
}

fn still_due(subject: &Subject, parent: &str, truth: String) -> String {
    match (subject.maintain, subject.key.first()) {
        (Maintain::Deferred, Some((name, kind))) => {
            let key = subject.shown(&format!("{parent}.{name}"), *kind);
            let (deltas, counter) = (subject.dialect.deltas(), &subject.name);
            format!(
                "({truth} - coalesce((select sum(d.delta) from {deltas} d
       where d.counter = '{counter}' and d.key = {key}), 0))"
            )
        }
        (Maintain::App | Maintain::Trigger | Maintain::Deferred, _) => truth,
    }
}

/// What the children of a parent come to.
fn truth(subject: &Subject, parent: &str) -> String {
    let name = |place: usize| {
        if place + 1 == subject.levels.len() { "c".to_owned() } else { format!("h{}", place + 1) }
    };
    let mut from = String::new();
    let mut top = String::new();
    let mut above: Option<(&Level, String)> = None;
    for (place, level) in subject.levels.iter().enumerate() {
        let (alias, rows) = (name(place), level.rows(&level.table));
        let own = tuple(level.foreign_key.iter().map(|column| format!("{alias}.{column}")));
        match &above {
            None => {
                from = format!("{rows} {alias}");
                top = format!("{own} = {}", subject.key_of(parent));
            }
            Some((upper, upper_alias)) => {
                let theirs =
                    tuple(upper.key.iter().map(|column| format!("{upper_alias}.{column}")));
                from = format!("{from} join {rows} {alias} on {own} = {theirs}");
            }
        }
        above = Some((level, alias));
    }
    format!("(select {} from {from} where {top})", subject.aggregate())
}

/// The window, as a condition on the parent.
fn range(subject: &Subject, row: &str, has_cursor: bool) -> String {
    let within = between(subject, &subject.key_of(row), has_cursor);
    if subject.keys() == 1 {
        return within;
    }
    let has_key: Vec<_> = has_key(subject, row).collect();
    format!("{within} and {}", has_key.join(" and "))
}

fn between(subject: &Subject, key: &str, has_cursor: bool) -> String {
    let last = subject.key_at(1);
    if has_cursor {
        format!("{key} <= {last} and {key} > {}", subject.key_at(1 + subject.keys()))
    } else {
        format!("{key} <= {last}")
    }
}

/// Keys that are given as arrays of texts, as the rows `u`.
fn listed(subject: &Subject) -> String {
    let texts = (1..=subject.keys()).map(|number| format!("${number}::text[]"));
    let texts = texts.collect::<Vec<_>>().join(", ");
    let raw = subject.numbers("t").join(", ");
    let read = subject.numbered().map(|(number, _, kind)| {
        format!("{} as {number}", subject.read(&format!("t.t{number}"), kind))
    });
    let read = read.collect::<Vec<_>>().join(", ");
    format!("(select {read} from unnest({texts}) as t({raw})) u")
}

/// That the parent `p` is the one of this row.
fn same(subject: &Subject, row: &str) -> String {
    same_as(subject, "p", row)
}

fn same_as(subject: &Subject, parent: &str, row: &str) -> String {
    let same =
        subject.numbered().map(|(number, name, _)| format!("{parent}.{name} = {row}.{number}"));
    same.collect::<Vec<_>>().join(" and ")
}

fn order(subject: &Subject, row: &str, direction: &str) -> String {
    let columns = subject.key.iter().map(|(name, _)| format!("{row}{name}{direction}"));
    columns.collect::<Vec<_>>().join(", ")
}

fn numbered_order(subject: &Subject, row: &str, direction: &str) -> String {
    let columns = subject.numbers(row).into_iter().map(|number| format!("{number}{direction}"));
    columns.collect::<Vec<_>>().join(", ")
}

/// The columns that are read of what is wrong. A difference beyond 64 bits is shown as the
/// farthest number.
fn shown(subject: &Subject, row: &str) -> String {
    let keys =
        subject.numbered().map(|(number, _, kind)| subject.shown(&format!("{row}{number}"), kind));
    let keys = keys.collect::<Vec<_>>().join(", ");
    match subject.dialect {
        Dialect::Sqlite => {
            format!("{keys}, cast({row}had as text), cast({row}due as text), cast({row}d as text)")
        }
        Dialect::Postgres { .. } => {
            let d = if subject.agg.is_additive() {
                format!(
                    "round(least(greatest({row}d, -9223372036854775808), 9223372036854775807))::bigint::text"
                )
            } else {
                "null::text".to_owned()
            };
            format!("{keys}, {row}had::text, {row}due::text, {d}")
        }
    }
}
