//! The shop in the SQLite file that the library's tables are in.

use rusqlite::{Connection, OptionalExtension, Row, params};
use steadfast::mailer::Mailer;
use steadfast::schema_enum::{Dialect, SqliteStrategy};
use steadfast::store::{SqliteStore, SqliteTx, StoreError};

use super::{PRODUCTS, Product, tables};
use crate::orders::{NewOrder, Order, OrderError, Status, confirm};
use crate::reviews::{NewReview, Review, ReviewError};

const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS products (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL,
    price_cents   INTEGER NOT NULL CHECK (price_cents >= 0),
    orders_count  INTEGER NOT NULL DEFAULT 0 CHECK (orders_count >= 0),
    reviews_count INTEGER NOT NULL DEFAULT 0 CHECK (reviews_count >= 0)
) STRICT;
CREATE TABLE IF NOT EXISTS orders (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    product_id INTEGER NOT NULL REFERENCES products (id),
    quantity   INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 1000),
    email      TEXT    NOT NULL,
    status     TEXT    NOT NULL DEFAULT 'pending',
    {status}
) STRICT;
CREATE INDEX IF NOT EXISTS orders_of_product ON orders (product_id);
CREATE TABLE IF NOT EXISTS reviews (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    product_id INTEGER NOT NULL REFERENCES products (id),
    rating     INTEGER NOT NULL CHECK (rating BETWEEN 1 AND 5),
    text       TEXT    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS reviews_of_product ON reviews (product_id);";

/// The shop's tables in SQLite. Clones share the store.
#[derive(Debug, Clone)]
pub(crate) struct SqliteShop(SqliteStore);

impl SqliteShop {
    pub(super) async fn open(store: SqliteStore) -> Result<Self, StoreError> {
        store.write(|tx| Ok::<_, StoreError>(seed(tx)?)).await?;
        Ok(Self(store))
    }

    pub(super) const fn store(&self) -> &SqliteStore {
        &self.0
    }

    pub(super) async fn product(&self, id: u32) -> Result<Option<Product>, StoreError> {
        self.0.read(move |connection| Ok(read_product(connection, id)?)).await
    }

    pub(super) async fn place_order(
        &self,
        new: NewOrder,
        mailer: Mailer,
    ) -> Result<Order, OrderError> {
        self.0.write(move |tx| place(tx, &new, &mailer)).await
    }

    pub(super) async fn order(&self, id: i64) -> Result<Option<Order>, StoreError> {
        self.0.read(move |connection| Ok(read_order(connection, id)?)).await
    }

    pub(super) async fn move_order(&self, id: i64, to: Status) -> Result<Order, OrderError> {
        self.0.write(move |tx| change_status(tx, id, to)).await
    }

    pub(super) async fn write_review(
        &self,
        product: u32,
        new: NewReview,
    ) -> Result<Review, ReviewError> {
        self.0.write(move |tx| write_review(tx, product, &new)).await
    }

    pub(super) async fn damage_counters(&self) -> Result<u64, StoreError> {
        let sql = "UPDATE products SET orders_count = orders_count + 3, \
                   reviews_count = reviews_count + 1 + id % 7";
        self.0.write(move |tx| Ok(tx.execute(sql, [])?.try_into().unwrap_or(u64::MAX))).await
    }
}

fn seed(tx: &SqliteTx<'_>) -> rusqlite::Result<()> {
    tx.execute_batch(&tables(TABLES, Dialect::Sqlite(SqliteStrategy::Constraint)))?;
    let sql = "INSERT OR IGNORE INTO products (id, name, price_cents) VALUES (?1, ?2, ?3)";
    let mut insert = tx.prepare(sql)?;
    for id in 1..=PRODUCTS {
        insert.execute(params![id, format!("Product {id}"), 500 + 25 * id])?;
    }
    Ok(())
}

fn read_product(connection: &Connection, id: u32) -> rusqlite::Result<Option<Product>> {
    let sql = "SELECT id, name, price_cents, orders_count, reviews_count \
               FROM products WHERE id = ?1";
    let read = |row: &Row<'_>| {
        Ok(Product {
            id: row.get(0)?,
            name: row.get(1)?,
            price_cents: row.get(2)?,
            orders_count: row.get(3)?,
            reviews_count: row.get(4)?,
        })
    };
    connection.prepare_cached(sql)?.query_row([id], read).optional()
}

fn place(tx: &SqliteTx<'_>, new: &NewOrder, mailer: &Mailer) -> Result<Order, OrderError> {
    let sql = "UPDATE products SET orders_count = orders_count + 1 WHERE id = ?1";
    if tx.prepare_cached(sql)?.execute([new.product_id])? == 0 {
        return Err(OrderError::UnknownProduct);
    }
    let sql = "INSERT INTO orders (product_id, quantity, email) VALUES (?1, ?2, ?3) \
               RETURNING id, product_id, quantity, email, status";
    let values = params![new.product_id, new.quantity.get(), new.email.as_str()];
    let order = tx.prepare_cached(sql)?.query_row(values, order_of)?;
    confirm(mailer, &order, &new.email)?.in_sqlite(tx)?;
    Ok(order)
}

fn read_order(connection: &Connection, id: i64) -> rusqlite::Result<Option<Order>> {
    let sql = "SELECT id, product_id, quantity, email, status FROM orders WHERE id = ?1";
    connection.prepare_cached(sql)?.query_row([id], order_of).optional()
}

fn change_status(tx: &SqliteTx<'_>, id: i64, to: Status) -> Result<Order, OrderError> {
    let order = read_order(tx, id)?.ok_or(OrderError::Unknown)?.moved(to)?;
    let sql = "UPDATE orders SET status = ?2 WHERE id = ?1";
    tx.prepare_cached(sql)?.execute(params![id, order.status])?;
    Ok(order)
}

fn write_review(
    tx: &SqliteTx<'_>,
    product_id: u32,
    new: &NewReview,
) -> Result<Review, ReviewError> {
    let sql = "UPDATE products SET reviews_count = reviews_count + 1 WHERE id = ?1";
    if tx.prepare_cached(sql)?.execute([product_id])? == 0 {
        return Err(ReviewError::UnknownProduct);
    }
    let sql = "INSERT INTO reviews (product_id, rating, text) VALUES (?1, ?2, ?3) RETURNING id";
    let (rating, text) = (new.rating.get(), new.text.as_str());
    let values = params![product_id, rating, text];
    let id = tx.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
    Ok(Review { id, product_id, rating, text: text.to_owned() })
}

fn order_of(row: &Row<'_>) -> rusqlite::Result<Order> {
    Ok(Order {
        id: row.get(0)?,
        product_id: row.get(1)?,
        quantity: row.get(2)?,
        email: row.get(3)?,
        status: row.get(4)?,
    })
}
