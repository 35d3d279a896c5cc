//! Asking PostgreSQL, from its catalogue: no right but to read is needed.

use std::collections::BTreeSet;
use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::facts::{Check, CheckKind, ColumnFacts, Facts};
use super::verdict::{must_look, sample};
use super::{Finding, Rows, SAMPLES_MAX, sentinels, tried};
use crate::schema_enum::spec::Target;
use crate::schema_enum::{ColumnSpec, Repr, SchemaEnumError};
use crate::store::{Identifier, PgStore, StoreError};

/// Where the values stand in the query of a probe; no column is likely to be named so.
const RAW: &str = "\"sf raw\"";

const TEXTS: [u32; 3] = [25, 1042, 1043];
const INT2: u32 = 21;
const INTS: [u32; 3] = [INT2, 23, 20];

pub(super) async fn find(
    store: &PgStore,
    spec: &ColumnSpec,
    target: &Target,
    count_within: Duration,
) -> Result<Finding, SchemaEnumError> {
    let (spec, target) = (spec.clone(), target.clone());
    let found = store.run(async move |mut client| {
        let mut tx = client.transaction().await?;
        tx.batch_execute("set transaction isolation level repeatable read read only").await?;
        let facts = Prober { spec: &spec, target: &target }.facts(&mut tx).await?;
        let rows = match must_look(&spec, &facts) {
            true => count(&mut tx, &spec, &target, count_within).await?,
            false => Rows::Vouched,
        };
        Ok::<_, StoreError>(Finding { facts, rows })
    });
    Ok(found.await?)
}

struct Prober<'a> {
    spec: &'a ColumnSpec,
    target: &'a Target,
}

/// A column as the catalogue has it.
struct Column {
    table: u32,
    number: i16,
    not_null: bool,
    /// What can be said about its type, from the outside to the inside.
    shape: Shape,
    shown_type: String,
    default: Option<String>,
}

/// A type without its domains.
#[derive(Debug, Clone, Default)]
struct Shape {
    /// The type of a value: of the elements, if it is a list.
    base: u32,
    /// As it is written in a cast.
    cast: String,
    is_list: bool,
    /// How many characters it takes.
    length: Option<usize>,
    not_null: bool,
    /// The domains over all of it, and those over its elements.
    domains: Vec<u32>,
    element_domains: Vec<u32>,
}

impl Prober<'_> {
    async fn facts(&self, tx: &mut Transaction<'_>) -> Result<Facts, StoreError> {
        let Some(table) = self.table(tx).await? else { return Ok(Facts::MissingTable) };
        let Some(column) = self.column(tx, table).await? else { return Ok(Facts::MissingColumn) };
        let (labels, type_id) = self.labels(tx).await?;
        let mut facts = ColumnFacts {
            wrong_type: (!self.fits(&column.shape, type_id)).then(|| column.shown_type.clone()),
            labels,
            not_null: column.not_null || column.shape.not_null,
            default: column.default.clone(),
            ..ColumnFacts::default()
        };
        if facts.wrong_type.is_some() {
            return Ok(Facts::Column(facts));
        }
        let found = self.checks(tx, &column).await?;
        facts.tried = tried(self.spec, found.iter().map(|found| &*found.expression));
        facts.sentinels = sentinels(self.spec, &facts.tried);
        let all: Vec<_> = facts.tried.union(&facts.sentinels).cloned().map(Some).collect();
        facts.checks.extend(self.length(&column.shape, &all));
        for found in found {
            let refused = self.probe(tx, &column.shape, &found, &facts, all.clone()).await?;
            facts.checks.push(found.refusing(refused));
        }
        Ok(Facts::Column(facts))
    }

    async fn table(&self, tx: &Transaction<'_>) -> Result<Option<u32>, StoreError> {
        let table = self.target.table.to_string();
        let sql = "select to_regclass($1)::oid";
        Ok(tx.query_one(sql, &[&table]).await?.get(0))
    }

    async fn column(&self, tx: &Transaction<'_>, table: u32) -> Result<Option<Column>, StoreError> {
        let sql = "select a.attnum, a.attnotnull, a.atttypid, a.atttypmod, \
                   format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid) \
                   from pg_attribute a \
                   left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
                   where a.attrelid = $1 and a.attname = $2 and a.attnum > 0 \
                   and not a.attisdropped";
        let row = tx.query_opt(sql, &[&table, &self.target.column.as_str()]).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Column {
            table,
            number: row.get(0),
            not_null: row.get(1),
            shape: shape(tx, row.get(2), row.get(3)).await?,
            shown_type: row.get(4),
            default: row.get(5),
        }))
    }

    /// The labels of the enum type, and what type that is.
    async fn labels(
        &self,
        tx: &Transaction<'_>,
    ) -> Result<(Option<Vec<String>>, Option<u32>), StoreError> {
        let Some(name) = &self.target.type_name else { return Ok((None, None)) };
        let sql = "select t.oid, array(select e.enumlabel::text from pg_enum e \
                   where e.enumtypid = t.oid order by e.enumsortorder) \
                   from pg_type t where t.oid = to_regtype($1) and t.typtype = 'e'";
        let row = tx.query_opt(sql, &[&name.to_string()]).await?;
        Ok(row.map_or((None, None), |row| (Some(row.get(1)), Some(row.get(0)))))
    }

    fn fits(&self, shape: &Shape, type_id: Option<u32>) -> bool {
        let fits = match &self.spec.repr {
            Repr::Text => TEXTS.contains(&shape.base),
            Repr::Int2 | Repr::Int4 => INTS.contains(&shape.base),
            Repr::Native(_) => type_id == Some(shape.base),
        };
        fits && shape.is_list == self.spec.array
    }

    async fn checks(
        &self,
        tx: &Transaction<'_>,
        column: &Column,
    ) -> Result<Vec<Found>, StoreError> {
        // `conenforced` is there from PostgreSQL 18 on.
        let sql = "select c.conname::text, c.convalidated, pg_get_expr(c.conbin, c.conrelid), \
                   c.contypid, c.conrelid <> 0 \
                   from pg_constraint c where c.contype = 'c' \
                   and coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true) \
                   and ((c.conrelid = $1 and c.conkey = array[$2::int2]) \
                   or c.contypid = any($3)) order by c.conname";
        let shape = &column.shape;
        let domains: Vec<u32> =
            shape.domains.iter().chain(&shape.element_domains).copied().collect();
        let rows = tx.query(sql, &[&column.table, &column.number, &domains]).await?;
        Ok(rows.iter().map(|row| Found::read(row, shape)).collect())
    }

    /// What does not fit into the type.
    fn length(&self, shape: &Shape, all: &[Option<String>]) -> Option<Check> {
        let is_small = self.spec.repr.is_number() && shape.base == INT2;
        let too_long = |value: &&String| {
            shape.length.is_some_and(|length| value.chars().count() > length)
                || (is_small && value.parse::<i16>().is_err())
        };
        let refused: BTreeSet<_> = all.iter().flatten().filter(too_long).cloned().collect();
        let name = Some(format!("the length of {}", shape.cast));
        let (kind, validated) = (CheckKind::Length, true);
        (!refused.is_empty()).then_some(Check {
            name,
            kind,
            validated,
            refused,
            refuses_null: false,
        })
    }

    /// What of all the values a check refuses.
    async fn probe(
        &self,
        tx: &mut Transaction<'_>,
        shape: &Shape,
        found: &Found,
        facts: &ColumnFacts,
        all: Vec<Option<String>>,
    ) -> Result<BTreeSet<Option<String>>, StoreError> {
        // Only labels are values of an enum type; the type refuses the others.
        let is_value = |value: &Option<String>| match (value, &facts.labels) {
            (Some(value), Some(labels)) => labels.contains(value),
            (Some(value), None) => fits_type(shape, value),
            (None, _) => true,
        };
        let values: Vec<_> = all.into_iter().chain([None]).filter(is_value).collect();
        let sql = self.probe_sql(shape, found);
        match refused(tx, &sql, &values).await {
            Ok(refused) => Ok(refused),
            // It does not apply to one of them: each alone tells which.
            Err(StoreError::Failed(_)) => {
                let mut refused_ones = BTreeSet::new();
                for value in values {
                    let one = std::slice::from_ref(&value);
                    match refused(tx, &sql, one).await {
                        Ok(refused) => refused_ones.extend(refused),
                        Err(StoreError::Failed(_)) => {
                            refused_ones.insert(value);
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(refused_ones)
            }
            Err(error) => Err(error),
        }
    }

    fn probe_sql(&self, shape: &Shape, found: &Found) -> String {
        let (cast, expression) = (&shape.cast, &found.expression);
        let value = match shape.is_list && !found.is_of_element {
            true => format!("case when u.v is null then null else array[u.v::{cast}] end"),
            false => format!("u.v::{cast}"),
        };
        // A domain calls what it checks `VALUE`.
        let domain = Identifier::with_suffix("value", "");
        let column = if found.is_of_table { &self.target.column } else { &domain };
        format!(
            "select {RAW}, ({expression}) from (select u.v as {RAW}, {value} as {column} \
             from unnest($1::text[]) as u(v)) as probe"
        )
    }
}

/// A check before it was asked.
struct Found {
    name: String,
    validated: bool,
    expression: String,
    is_of_table: bool,
    is_of_element: bool,
}

impl Found {
    fn read(row: &Row, shape: &Shape) -> Self {
        let domain: u32 = row.get(3);
        Self {
            name: row.get(0),
            validated: row.get(1),
            expression: row.get(2),
            is_of_table: row.get(4),
            is_of_element: shape.element_domains.contains(&domain),
        }
    }

    fn refusing(self, mut refused: BTreeSet<Option<String>>) -> Check {
        let refuses_null = refused.remove(&None);
        Check {
            name: Some(self.name),
            kind: if self.is_of_table { CheckKind::Constraint } else { CheckKind::Domain },
            validated: self.validated,
            refused: refused.into_iter().flatten().collect(),
            refuses_null,
        }
    }
}

/// Those that make the condition false; what makes it unknown passes, as it does in a check.
async fn refused(
    tx: &mut Transaction<'_>,
    sql: &str,
    values: &[Option<String>],
) -> Result<BTreeSet<Option<String>>, StoreError> {
    let attempt = tx.savepoint("probe").await?;
    let asked = attempt.query(sql, &[&values]).await;
    match asked {
        Ok(rows) => {
            attempt.commit().await?;
            let is_refused = |row: &&Row| row.get::<_, Option<bool>>(1) == Some(false);
            Ok(rows.iter().filter(is_refused).map(|row| row.get(0)).collect())
        }
        Err(error) => {
            attempt.rollback().await?;
            Err(error.into())
        }
    }
}

/// Whether a cast to the type can succeed at all.
fn fits_type(shape: &Shape, value: &str) -> bool {
    match shape.base {
        INT2 => value.parse::<i16>().is_ok(),
        base if INTS.contains(&base) => value.parse::<i32>().is_ok(),
        _ => true,
    }
}

/// Goes through domains and a list to what a value is.
async fn shape(tx: &Transaction<'_>, id: u32, modifier: i32) -> Result<Shape, StoreError> {
    let mut shape = Shape::default();
    let (mut id, mut modifier) = (id, modifier);
    loop {
        let sql = "select typtype::text, typbasetype, typtypmod, typelem, typcategory::text, \
                   typnotnull, format_type(oid, -1) from pg_type where oid = $1";
        let row = tx.query_one(sql, &[&id]).await?;
        let (kind, category): (String, String) = (row.get(0), row.get(4));
        shape.not_null |= !shape.is_list && row.get::<_, bool>(5);
        match (&*kind, &*category) {
            ("d", _) => {
                let domains =
                    if shape.is_list { &mut shape.element_domains } else { &mut shape.domains };
                domains.push(id);
                id = row.get(1);
                modifier = if modifier == -1 { row.get(2) } else { modifier };
            }
            (_, "A") if !shape.is_list => {
                shape.is_list = true;
                id = row.get(3);
            }
            _ => {
                shape.base = id;
                shape.cast = row.get(6);
                // Four bytes of the modifier are those of a header.
                let is_limited = TEXTS.contains(&id) && modifier >= 4;
                shape.length = is_limited.then(|| usize::try_from(modifier - 4).ok()).flatten();
                return Ok(shape);
            }
        }
    }
}

/// The rows with other values than the code writes.
async fn count(
    tx: &mut Transaction<'_>,
    spec: &ColumnSpec,
    target: &Target,
    within: Duration,
) -> Result<Rows, StoreError> {
    let Target { table, column, .. } = target;
    let values = match spec.array {
        false => format!("select {column}::text as v from {table}"),
        true => format!(
            "select e::text as v from {table} cross join lateral unnest({column}) as e \
             union all select null from {table} where {column} is null"
        ),
    };
    let null = if spec.nullable && !spec.array { "false" } else { "v is null" };
    let sql = format!(
        "select v, count(*) from ({values}) as rows where {null} or v <> all ($1::text[]) \
         group by v order by 2 desc, 1 limit {SAMPLES_MAX}"
    );
    let attempt = tx.savepoint("count").await?;
    attempt.batch_execute(&format!("set local statement_timeout = {}", within.as_millis())).await?;
    let counted = attempt.query(&sql, &[&spec.values]).await.map_err(StoreError::from);
    match counted {
        Ok(rows) => {
            let samples = rows.iter().map(|row| sample(spec, row.get(0), row.get(1)));
            Ok(Rows::Counted(samples.collect()))
        }
        Err(StoreError::Timeout) => Ok(Rows::NotCounted),
        Err(error) => Err(error),
    }
}
