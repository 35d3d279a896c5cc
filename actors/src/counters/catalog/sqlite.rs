//! On SQLite.

use rusqlite::{Connection, OptionalExtension};

use super::{Class, Column, Index, Table};
use crate::counters::sql::{Subject, repair};
use crate::store::{QualifiedName, Source, SqliteStore, StoreError};

pub(super) async fn tables(
    store: &SqliteStore,
    names: Vec<QualifiedName>,
) -> Result<Vec<Option<Table>>, StoreError> {
    let read = move |connection: &Connection| {
        names.iter().map(|name| Ok(table(connection, name)?)).collect::<Result<_, StoreError>>()
    };
    store.read(read).await
}

fn table(connection: &Connection, name: &QualifiedName) -> rusqlite::Result<Option<Table>> {
    let schema = name.schema().map_or("main", |schema| schema.as_str());
    // Names of tables and columns have no case here; ours must be that of the table.
    let exists =
        "select 1 from pragma_table_list where schema = ?1 and name = ?2 and type = 'table'";
    let found = connection.query_row(exists, [schema, name.name().as_str()], |_| Ok(()));
    if found.optional()?.is_none() {
        return Ok(None);
    }
    let names = [name.name().as_str(), schema];
    let mut columns = connection.prepare(
        "select name, type, \"notnull\", pk from pragma_table_xinfo(?1, ?2) where hidden <> 1",
    )?;
    let columns: Vec<(Column, i64)> = columns
        .query_map(names, |row| Ok((column(row)?, row.get(3)?)))?
        .collect::<Result<_, _>>()?;
    let mut indexes = indexes(connection, name, schema)?;
    indexes.extend(row_id(&columns));
    let columns = columns.into_iter().map(|(column, _)| column).collect();
    Ok(Some(Table { name: name.to_string(), columns, indexes }))
}

/// An `integer primary key` is the table's own order, and in no list of indexes.
fn row_id(columns: &[(Column, i64)]) -> Option<Index> {
    let mut keys = columns.iter().filter(|(_, place)| *place > 0);
    let (key, _) = keys.next().filter(|(key, _)| key.shown.eq_ignore_ascii_case("integer"))?;
    let alone = keys.next().is_none();
    let index = Index { columns: vec![Some(key.name.clone())], unique: true, predicate: None };
    alone.then_some(index)
}

/// See <https://sqlite.org/datatype3.html#determination_of_column_affinity>.
fn column(row: &rusqlite::Row<'_>) -> rusqlite::Result<Column> {
    let shown: String = row.get(1)?;
    let upper = shown.to_uppercase();
    let has = |word| upper.contains(word);
    let class = if has("INT") {
        Class::Integer
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Class::Text
    } else if upper == "UUID" {
        // Its affinity would be that of a number; what is in it is text.
        Class::Other
    } else if has("BLOB") {
        Class::Bytes
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Class::Float
    } else if has("DATETIME") || has("TIMESTAMP") {
        Class::DateTime
    } else if has("NUMERIC") || has("DECIMAL") {
        Class::Numeric(None)
    } else {
        Class::Other
    };
    Ok(Column { name: row.get(0)?, shown, class, not_null: row.get(2)? })
}

fn indexes(
    connection: &Connection,
    name: &QualifiedName,
    schema: &str,
) -> rusqlite::Result<Vec<Index>> {
    let mut list =
        connection.prepare("select name, \"unique\", partial from pragma_index_list(?1, ?2)")?;
    let list: Vec<(String, bool, bool)> = list
        .query_map([name.name().as_str(), schema], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<_, _>>()?;
    let mut columns = connection
        .prepare("select name from pragma_index_xinfo(?1, ?2) where key = 1 order by seqno")?;
    let mut all = Vec::with_capacity(list.len());
    for (index, unique, partial) in list {
        let columns = columns.query_map([&*index, schema], |row| row.get(0))?;
        let columns = columns.collect::<Result<_, _>>()?;
        let predicate = if partial { Some(predicate(connection, &index)?) } else { None };
        all.push(Index { columns, unique, predicate });
    }
    Ok(all)
}

/// What follows `where` in the statement that made an index. Where that cannot be told, a text
/// that no filter implies.
fn predicate(connection: &Connection, index: &str) -> rusqlite::Result<String> {
    let select = "select sql from sqlite_master where type = 'index' and name = ?1";
    let sql: Option<String> = connection.query_row(select, [index], |row| row.get(0)).optional()?;
    let sql = sql.unwrap_or_default();
    let after = crate::counters::filter::after_where(&sql);
    Ok(after.unwrap_or("unknown").to_owned())
}

/// Has the database read the statement that finds drift, and run nothing.
pub(super) async fn refuses(
    store: &SqliteStore,
    subject: &Subject,
) -> Result<Option<Source>, StoreError> {
    let sql = repair::detect(subject, true);
    let read = move |connection: &Connection| {
        let Err(error) = connection.prepare(&sql) else { return Ok(None) };
        let error = StoreError::from(error);
        if let StoreError::Failed(source) = error { Ok(Some(source)) } else { Err(error) }
    };
    store.read(read).await
}

pub(super) async fn triggers(store: &SqliteStore, names: Vec<String>) -> Result<usize, StoreError> {
    let read = move |connection: &Connection| {
        let mut select = connection
            .prepare("select 1 from sqlite_master where type = 'trigger' and name = ?1")?;
        let mut found = 0;
        for name in &names {
            found += usize::from(select.exists([name])?);
        }
        Ok::<_, StoreError>(found)
    };
    store.read(read).await
}
