//! The shop in the PostgreSQL database that the library's schema is in.

use std::sync::Arc;

use steadfast::mailer::Mailer;
use steadfast::schema_enum::{Dialect, SchemaEnums};
use steadfast::store::{PgStore, StoreError, commit};
use tokio_postgres::Row;

use super::{PRODUCTS, Product, tables};
use crate::orders::{NewOrder, Order, OrderError, Status, confirm};
use crate::reviews::{NewReview, Review, ReviewError};

/// The library's schema when nobody names another.
pub(crate) const SCHEMA_DEFAULT: &str = "steadfast";

/// Under a lock, because `IF NOT EXISTS` alone lets two that start together collide.
const TABLES: &str = "\
SELECT pg_advisory_xact_lock(hashtext('steadfast example {shop}'));
{create_schema}
CREATE TABLE IF NOT EXISTS {shop}products (
    id            bigint  PRIMARY KEY,
    name          text    NOT NULL,
    price_cents   bigint  NOT NULL CHECK (price_cents >= 0),
    orders_count  bigint  NOT NULL DEFAULT 0 CHECK (orders_count >= 0),
    reviews_count bigint  NOT NULL DEFAULT 0 CHECK (reviews_count >= 0)
);
CREATE TABLE IF NOT EXISTS {shop}orders (
    id         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id bigint  NOT NULL REFERENCES {shop}products (id),
    quantity   bigint  NOT NULL CHECK (quantity BETWEEN 1 AND 1000),
    email      text    NOT NULL,
    status     text    NOT NULL DEFAULT 'pending',
    {status}
);
CREATE INDEX IF NOT EXISTS orders_of_product ON {shop}orders (product_id);
CREATE TABLE IF NOT EXISTS {shop}reviews (
    id         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id bigint  NOT NULL REFERENCES {shop}products (id),
    rating     bigint  NOT NULL CHECK (rating BETWEEN 1 AND 5),
    text       text    NOT NULL
);
CREATE INDEX IF NOT EXISTS reviews_of_product ON {shop}reviews (product_id);
INSERT INTO {shop}products (id, name, price_cents)
SELECT id, 'Product ' || id, 500 + 25 * id FROM generate_series(1, {products}) AS id
ON CONFLICT DO NOTHING;";

/// The shop's tables in PostgreSQL. Clones share the store.
#[derive(Debug, Clone)]
pub(crate) struct PostgresShop {
    store: PgStore,
    statements: Arc<Statements>,
}

/// What is asked, with the tables where they are.
#[derive(Debug)]
struct Statements {
    product: String,
    count_order: String,
    insert_order: String,
    order: String,
    lock_order: String,
    set_status: String,
    count_review: String,
    insert_review: String,
}

impl PostgresShop {
    pub(super) async fn open(store: PgStore) -> Result<Self, StoreError> {
        let shop = shop_of(store.schema());
        seed(&store, &shop).await?;
        let statements = Arc::new(Statements::in_schema(&shop));
        Ok(Self { store, statements })
    }

    pub(super) const fn store(&self) -> &PgStore {
        &self.store
    }

    pub(super) fn table(&self, name: &str) -> String {
        format!("{}{name}", shop_of(self.store.schema()))
    }

    pub(super) fn enums(&self) -> SchemaEnums {
        let enums = SchemaEnums::registered();
        match shop_of(self.store.schema()).strip_suffix('.') {
            Some(schema) => enums.in_schema(schema),
            None => enums,
        }
    }

    pub(super) async fn product(&self, id: u32) -> Result<Option<Product>, StoreError> {
        let sql = Arc::clone(&self.statements);
        let read = self.store.run(async move |client| {
            let statement = client.prepare_cached(&sql.product).await?;
            let row = client.query_opt(&statement, &[&i64::from(id)]).await?;
            Ok(row.map(|row| product_of(id, &row)).transpose()?)
        });
        read.await
    }

    pub(super) async fn place_order(
        &self,
        new: NewOrder,
        mailer: Mailer,
    ) -> Result<Order, OrderError> {
        let sql = Arc::clone(&self.statements);
        let placed = self.store.run(async move |mut client| {
            let tx = client.transaction().await?;
            let product = i64::from(new.product_id);
            let statement = tx.prepare_cached(&sql.count_order).await?;
            if tx.execute(&statement, &[&product]).await? == 0 {
                return Err(OrderError::UnknownProduct);
            }
            let statement = tx.prepare_cached(&sql.insert_order).await?;
            let quantity = i64::from(new.quantity.get());
            let email = new.email.as_str();
            let row = tx.query_one(&statement, &[&product, &quantity, &email]).await?;
            let order = order_of(&row)?;
            confirm(&mailer, &order, &new.email)?.in_postgres(&tx).await?;
            commit(tx).await?;
            Ok(order)
        });
        placed.await
    }

    pub(super) async fn order(&self, id: i64) -> Result<Option<Order>, StoreError> {
        let sql = Arc::clone(&self.statements);
        let read = self.store.run(async move |client| {
            let statement = client.prepare_cached(&sql.order).await?;
            let row = client.query_opt(&statement, &[&id]).await?;
            Ok(row.as_ref().map(order_of).transpose()?)
        });
        read.await
    }

    pub(super) async fn move_order(&self, id: i64, to: Status) -> Result<Order, OrderError> {
        let sql = Arc::clone(&self.statements);
        let moved = self.store.run(async move |mut client| {
            let tx = client.transaction().await?;
            let statement = tx.prepare_cached(&sql.lock_order).await?;
            let row = tx.query_opt(&statement, &[&id]).await?.ok_or(OrderError::Unknown)?;
            let order = order_of(&row)?.moved(to)?;
            let statement = tx.prepare_cached(&sql.set_status).await?;
            tx.execute(&statement, &[&id, &order.status]).await?;
            commit(tx).await?;
            Ok(order)
        });
        moved.await
    }

    pub(super) async fn write_review(
        &self,
        product_id: u32,
        new: NewReview,
    ) -> Result<Review, ReviewError> {
        let sql = Arc::clone(&self.statements);
        let written = self.store.run(async move |mut client| {
            let tx = client.transaction().await?;
            let product = i64::from(product_id);
            let statement = tx.prepare_cached(&sql.count_review).await?;
            if tx.execute(&statement, &[&product]).await? == 0 {
                return Err(ReviewError::UnknownProduct);
            }
            let statement = tx.prepare_cached(&sql.insert_review).await?;
            let (rating, text) = (new.rating.get(), new.text.as_str());
            let row = tx.query_one(&statement, &[&product, &i64::from(rating), &text]).await?;
            let review = Review { id: row.try_get(0)?, product_id, rating, text: text.to_owned() };
            commit(tx).await?;
            Ok(review)
        });
        written.await
    }

    pub(super) async fn damage_counters(&self) -> Result<u64, StoreError> {
        let sql = format!(
            "UPDATE {} SET orders_count = orders_count + 3, \
             reviews_count = reviews_count + 1 + id % 7",
            self.table("products")
        );
        self.store.run(async move |client| Ok(client.execute(&sql, &[]).await?)).await
    }
}

impl Statements {
    fn in_schema(shop: &str) -> Self {
        let columns = "id, product_id, quantity, email, status";
        let order = format!("SELECT {columns} FROM {shop}orders WHERE id = $1");
        Self {
            product: format!(
                "SELECT name, price_cents, orders_count, reviews_count \
                 FROM {shop}products WHERE id = $1"
            ),
            count_order: format!(
                "UPDATE {shop}products SET orders_count = orders_count + 1 WHERE id = $1"
            ),
            insert_order: format!(
                "INSERT INTO {shop}orders (product_id, quantity, email) VALUES ($1, $2, $3) \
                 RETURNING {columns}"
            ),
            lock_order: format!("{order} FOR UPDATE"),
            order,
            set_status: format!("UPDATE {shop}orders SET status = $2 WHERE id = $1"),
            count_review: format!(
                "UPDATE {shop}products SET reviews_count = reviews_count + 1 WHERE id = $1"
            ),
            insert_review: format!(
                "INSERT INTO {shop}reviews (product_id, rating, text) VALUES ($1, $2, $3) \
                 RETURNING id"
            ),
        }
    }
}

/// What comes before the name of a table: nothing where the library has its usual schema, else
/// a schema named after the library's. Its name was checked by the store.
fn shop_of(schema: &str) -> String {
    if schema == SCHEMA_DEFAULT { String::new() } else { format!("{schema}_shop.") }
}

async fn seed(store: &PgStore, shop: &str) -> Result<(), StoreError> {
    let create_schema = match shop.strip_suffix('.') {
        Some(schema) => format!("CREATE SCHEMA IF NOT EXISTS {schema};"),
        None => String::new(),
    };
    let tables = tables(TABLES, Dialect::Postgres)
        .replace("{create_schema}", &create_schema)
        .replace("{shop}", shop)
        .replace("{products}", &PRODUCTS.to_string());
    let seeded = store.run(async move |mut client| {
        let tx = client.transaction().await?;
        tx.batch_execute(&tables).await?;
        commit(tx).await
    });
    seeded.await
}

fn product_of(id: u32, row: &Row) -> Result<Product, tokio_postgres::Error> {
    Ok(Product {
        id,
        name: row.try_get(0)?,
        price_cents: row.try_get(1)?,
        orders_count: row.try_get(2)?,
        reviews_count: row.try_get(3)?,
    })
}

fn order_of(row: &Row) -> Result<Order, tokio_postgres::Error> {
    Ok(Order {
        id: row.try_get(0)?,
        product_id: row.try_get(1)?,
        quantity: row.try_get(2)?,
        email: row.try_get(3)?,
        status: row.try_get(4)?,
    })
}
