//! Triggers that keep a counter, or write down what is to be added to it.
//!
//! On PostgreSQL one for each statement, over its transition tables: a statement of 100,000 rows
//! updates each parent once. On SQLite one for each row: it has no other.

use super::{Dialect, Subject, tuple};
use crate::counters::spec::{Agg, Maintain};

const EVENTS: [&str; 3] = ["insert", "update", "delete"];

/// What the triggers are called.
pub(in crate::counters) fn names(subject: &Subject) -> [String; 3] {
    EVENTS.map(|event| format!("sf_counter_{}_{event}", subject.name))
}

/// The statements that make the triggers, or make them anew. Empty where the service's own
/// statements keep the counter.
pub(in crate::counters) fn make(subject: &Subject) -> Vec<String> {
    match (subject.maintain, &subject.dialect) {
        (Maintain::App, _) => Vec::new(),
        (_, Dialect::Sqlite) => sqlite(subject),
        (_, Dialect::Postgres { schema }) => postgres(subject, schema),
    }
}

/// The statements that take the triggers away.
pub(in crate::counters) fn drop(subject: &Subject) -> Vec<String> {
    let table = &subject.child().table;
    let one = |(name, event): (String, &str)| match &subject.dialect {
        Dialect::Sqlite => vec![format!("drop trigger if exists \"{name}\"")],
        Dialect::Postgres { schema } => vec![
            format!("drop trigger if exists {name} on {table}"),
            format!("drop function if exists {}", function(subject, schema, event)),
        ],
    };
    names(subject).into_iter().zip(EVENTS).flat_map(one).collect()
}

fn function(subject: &Subject, schema: &str, event: &str) -> String {
    format!("{schema}.counter_{}_{event}()", subject.name)
}

fn postgres(subject: &Subject, schema: &str) -> Vec<String> {
    let table = &subject.child().table;
    let one = |(name, event): (String, &str)| {
        let function = function(subject, schema, event);
        let (tables, signed): (_, &[_]) = match event {
            "insert" => ("new table as sf_new", &[("", "sf_new")]),
            "delete" => ("old table as sf_old", &[("-", "sf_old")]),
            _ => ("old table as sf_old new table as sf_new", &[("", "sf_new"), ("-", "sf_old")]),
        };
        let act = act(subject, &changes(subject, signed));
        [
            format!(
                "create or replace function {function} returns trigger language plpgsql as $sf$
begin
{act};
  return null;
end $sf$"
            ),
            format!("drop trigger if exists {name} on {table}"),
            format!(
                "create trigger {name} after {event} on {table} referencing {tables}
  for each statement execute function {function}"
            ),
        ]
    };
    names(subject).into_iter().zip(EVENTS).flat_map(one).collect()
}

/// What a statement changes, by parent: `k1`… and `d`.
fn changes(subject: &Subject, signed: &[(&str, &str)]) -> String {
    let child = subject.child();
    let aggregate = subject.aggregate();
    let key = child.foreign_key.iter().zip(subject.numbers(""));
    let key = key.map(|(column, number)| format!("c.{column} as {number}")).collect::<Vec<_>>();
    let group = child.foreign_key.iter().map(|column| format!("c.{column}")).collect::<Vec<_>>();
    let half = |(sign, table): &(&str, &str)| {
        let rows = child.rows(table);
        let (key, group) = (key.join(", "), group.join(", "));
        format!("select {key}, {sign}{aggregate} as d from {rows} c group by {group}")
    };
    let halves = signed.iter().map(half).collect::<Vec<_>>().join("\n    union all\n    ");
    let numbers = subject.numbers("x.");
    let known = numbers.iter().map(|number| format!("{number} is not null")).collect::<Vec<_>>();
    let (numbers, known) = (numbers.join(", "), known.join(" and "));
    format!(
        "select {numbers}, sum(x.d) as d from (
    {halves}) x
   where {known} group by {numbers} having sum(x.d) <> 0"
    )
}

/// What becomes of the changes.
fn act(subject: &Subject, changes: &str) -> String {
    let Subject { name, parent, column, .. } = subject;
    if let (Maintain::Deferred, Some((_, kind))) = (subject.maintain, subject.key.first()) {
        let (deltas, key) = (subject.dialect.deltas(), subject.shown("s.k1", *kind));
        return format!(
            "  insert into {deltas} (counter, key, delta)
  select '{name}', {key}, s.d from (
  {changes}) s"
        );
    }
    let matches = |left: &str, right: &str| {
        let pairs = subject.numbered().map(|(number, name, _)| {
            let left = if left == "p" { format!("p.{name}") } else { format!("{left}.{number}") };
            format!("{left} = {right}.{number}")
        });
        pairs.collect::<Vec<_>>().join(" and ")
    };
    let own = subject.numbered().map(|(number, name, _)| format!("p.{name} as {number}"));
    let own = own.collect::<Vec<_>>().join(", ");
    let order =
        subject.key.iter().map(|(name, _)| format!("p.{name}")).collect::<Vec<_>>().join(", ");
    let touch = subject.touched();
    format!(
        "  with s as materialized (
  {changes}),
  held as materialized (
    select {own} from {parent} p join s on {on} order by {order} for no key update of p)
  update {parent} p set {column} = coalesce(p.{column}, 0) + s.d{touch}
    from s join held on {held} where {same}",
        on = matches("p", "s"),
        held = matches("held", "s"),
        same = matches("p", "s"),
    )
}

fn sqlite(subject: &Subject) -> Vec<String> {
    let table = &subject.child().table;
    let one = |(name, event): (String, &str)| {
        let body = match subject.maintain {
            Maintain::Deferred => sqlite_note(subject, event),
            Maintain::App | Maintain::Trigger => sqlite_add(subject, event),
        };
        [
            format!("drop trigger if exists \"{name}\""),
            format!("create trigger \"{name}\" after {event} on {table} begin\n{body}\nend"),
        ]
    };
    names(subject).into_iter().zip(EVENTS).flat_map(one).collect()
}

/// What a row adds to its parent: 0 if it does not count.
fn weight(subject: &Subject, row: &str) -> String {
    let child = subject.child();
    let weight = match (&subject.agg, &subject.of) {
        (Agg::Sum(_), Some(of)) => format!("coalesce({row}.{of}, 0)"),
        (Agg::Count | Agg::Sum(_) | Agg::Max(_) | Agg::Min(_), _) => "1".to_owned(),
    };
    let Some(filter) = &child.filter else { return weight };
    // The filter names columns as the table does.
    let columns = subject.child_columns.iter().map(|column| format!("{row}.{column} as {column}"));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let alias = &child.alias;
    format!("iif(exists (select 1 from (select {columns}) as {alias} where {filter}), {weight}, 0)")
}

/// That a row's parent is the one that is updated.
fn is_parent(subject: &Subject, row: &str) -> String {
    let own = tuple(subject.key.iter().map(|(name, _)| name.clone()));
    let theirs = tuple(subject.child().foreign_key.iter().map(|column| format!("{row}.{column}")));
    format!("{own} = {theirs}")
}

fn sqlite_add(subject: &Subject, event: &str) -> String {
    let Subject { parent, column, .. } = subject;
    let term = |sign: &str, row: &str| {
        format!("{sign} iif({}, {}, 0)", is_parent(subject, row), weight(subject, row))
    };
    let (change, who) = match event {
        "insert" => (term("+", "new"), is_parent(subject, "new")),
        "delete" => (term("-", "old"), is_parent(subject, "old")),
        _ => (
            format!("{} {}", term("+", "new"), term("-", "old")),
            format!("({} or {})", is_parent(subject, "new"), is_parent(subject, "old")),
        ),
    };
    let touch = subject.touched();
    format!(
        "  update {parent} set {column} = coalesce({column}, 0) {change}{touch}
   where {who} and (0 {change}) <> 0;"
    )
}

fn sqlite_note(subject: &Subject, event: &str) -> String {
    let (Some((_, kind)), Some(foreign)) =
        (subject.key.first(), subject.child().foreign_key.first())
    else {
        return String::new();
    };
    let (name, deltas) = (&subject.name, subject.dialect.deltas());
    let note = |sign: &str, row: &str, unless: &str| {
        let key = subject.shown(&format!("{row}.{foreign}"), *kind);
        let weight = weight(subject, row);
        format!(
            "  insert into {deltas} (counter, key, delta)
  select '{name}', {key}, {sign}{weight} where {row}.{foreign} is not null and {weight} <> 0{unless};"
        )
    };
    match event {
        "insert" => note("", "new", ""),
        "delete" => note("-", "old", ""),
        _ => {
            let (new, old) = (weight(subject, "new"), weight(subject, "old"));
            let unless = format!(" and (new.{foreign} is not old.{foreign} or {new} <> {old})");
            format!("{}\n{}", note("", "new", &unless), note("-", "old", &unless))
        }
    }
}
