//! Folding deltas into the counters they are for.

use super::Subject;

/// Takes up to so many deltas and adds them, in one statement, on PostgreSQL. Parameter: how
/// many. One row: how many there were. Deltas that another flusher has in hand are passed over.
pub(in crate::counters) fn postgres(subject: &Subject) -> String {
    let Subject { name, parent, column, .. } = subject;
    let (deltas, touch) = (subject.dialect.deltas(), subject.touched());
    let Some((key, kind)) = subject.key.first() else { return String::new() };
    let read = subject.read("gone.key", *kind);
    format!(
        "with gone as (
  delete from {deltas} where id in (
    select id from {deltas} where counter = '{name}' order by id limit $1::text::bigint
       for update skip locked)
  returning key, delta),
sums as materialized (
  select {read} as k1, sum(gone.delta) as d from gone group by 1 having sum(gone.delta) <> 0),
held as materialized (
  select p.{key} as k1 from {parent} p join sums on p.{key} = sums.k1
   order by p.{key} for no key update of p),
added as (
  update {parent} p set {column} = coalesce(p.{column}, 0) + sums.d{touch}
    from sums join held on held.k1 = sums.k1 where p.{key} = sums.k1)
select count(*)::text from gone"
    )
}

/// The same on SQLite, in three statements: which is the last delta, and how many there are up to
/// it (parameter: how many there may be); adding them; and taking them away (parameter: the last).
pub(in crate::counters) fn sqlite(subject: &Subject) -> [String; 3] {
    let Subject { name, parent, column, .. } = subject;
    let (deltas, touch) = (subject.dialect.deltas(), subject.touched());
    let Some((key, kind)) = subject.key.first() else { return Default::default() };
    let (shown, read) = (subject.shown(&format!("p.{key}"), *kind), subject.read("g.key", *kind));
    let up_to = format!("counter = '{name}' and id <= cast(?1 as integer)");
    [
        format!(
            "select cast(max(id) as text), cast(count(*) as text) from (
  select id from {deltas} where counter = '{name}' order by id limit cast(?1 as integer))"
        ),
        format!(
            "update {parent} as p set {column} = coalesce(p.{column}, 0) + (
  select sum(d.delta) from {deltas} d where d.{up_to} and d.key = {shown}){touch}
 where p.{key} in (
  select {read} from {deltas} g where g.{up_to} group by g.key having sum(g.delta) <> 0)"
        ),
        format!("delete from {deltas} where {up_to}"),
    ]
}
