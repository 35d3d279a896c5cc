//! On PostgreSQL.

use tokio_postgres::Row;

use super::{Class, Column, Index, Table};
use crate::counters::sql::{Subject, repair};
use crate::store::{PgClient, PgStore, QualifiedName, Source, StoreError};

const TABLE: &str = "select c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
   from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.oid = to_regclass($1) and c.relkind in ('r', 'p')";

/// Of a domain, the type it is made of.
const COLUMNS: &str = "select a.attname::text, format_type(a.atttypid, a.atttypmod),
        case when t.typtype = 'd' then t.typbasetype::regtype::text else t.typname::text end,
        case when t.typtype = 'd' then t.typtypmod else a.atttypmod end, a.attnotnull
   from pg_attribute a join pg_type t on t.oid = a.atttypid
  where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped order by a.attnum";

/// Only such as keep an order: of a hash nothing begins with anything.
const INDEXES: &str = "select i.indisunique, pg_get_expr(i.indpred, i.indrelid),
        array(select a.attname::text from unnest(i.indkey[0:i.indnkeyatts - 1])
                with ordinality k(attnum, place)
                left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
               order by k.place)
   from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam
  where i.indrelid = $1 and i.indisvalid and i.indisready and m.amname = 'btree'";

const TRIGGERS: &str = "select count(*) from pg_trigger
  where tgrelid = to_regclass($1) and tgname::text = any($2) and tgenabled in ('O', 'A')";

pub(super) async fn tables(
    store: &PgStore,
    names: Vec<QualifiedName>,
) -> Result<Vec<Option<Table>>, StoreError> {
    let reading = store.run(async move |client| {
        let mut all = Vec::with_capacity(names.len());
        for name in &names {
            all.push(table(&client, &name.to_string()).await?);
        }
        Ok(all)
    });
    reading.await
}

async fn table(client: &PgClient, name: &str) -> Result<Option<Table>, StoreError> {
    let Some(found) = client.query_opt(TABLE, &[&name]).await? else { return Ok(None) };
    let oid: u32 = found.try_get(0)?;
    let columns = client.query(COLUMNS, &[&oid]).await?;
    let indexes = client.query(INDEXES, &[&oid]).await?;
    Ok(Some(Table {
        name: found.try_get(1)?,
        columns: columns.iter().map(column).collect::<Result<_, _>>()?,
        indexes: indexes.iter().map(index).collect::<Result<_, _>>()?,
    }))
}

fn column(row: &Row) -> Result<Column, StoreError> {
    let (base, modifier): (String, i32) = (row.try_get(2)?, row.try_get(3)?);
    let class = match base.as_str() {
        "int2" | "int4" | "int8" | "smallint" | "integer" | "bigint" => Class::Integer,
        // Its modifier: (precision << 16 | scale) + 4, or -1.
        "numeric" => {
            Class::Numeric(u16::try_from((modifier - 4) & 0x7ff).ok().filter(|_| modifier >= 4))
        }
        "float4" | "float8" | "real" | "double precision" => Class::Float,
        "text" | "varchar" | "character varying" => Class::Text,
        "uuid" => Class::Uuid,
        "bytea" => Class::Bytes,
        "timestamptz" | "timestamp with time zone" => Class::Instant,
        "timestamp" | "timestamp without time zone" => Class::DateTime,
        _ => Class::Other,
    };
    Ok(Column { name: row.try_get(0)?, shown: row.try_get(1)?, class, not_null: row.try_get(4)? })
}

fn index(row: &Row) -> Result<Index, StoreError> {
    let (unique, predicate, columns) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(Index { columns, unique, predicate })
}

/// Has the server read the statement that finds drift, and run nothing.
pub(super) async fn refuses(
    store: &PgStore,
    subject: &Subject,
) -> Result<Option<Source>, StoreError> {
    let sql = repair::detect(subject, true);
    let reading = store.run(async move |client| match client.prepare(&sql).await {
        Ok(_) => Ok(None),
        Err(error)
            if error.as_db_error().is_some_and(|error| error.code().code().starts_with("42")) =>
        {
            Ok(Some(StoreError::source(error)))
        }
        Err(error) => Err(error.into()),
    });
    reading.await
}

pub(super) async fn triggers(
    store: &PgStore,
    table: String,
    names: Vec<String>,
) -> Result<usize, StoreError> {
    let reading = store.run(async move |client| {
        let row = client.query_one(TRIGGERS, &[&table, &names]).await?;
        Ok::<i64, StoreError>(row.try_get(0)?)
    });
    Ok(usize::try_from(reading.await?).unwrap_or(0))
}
