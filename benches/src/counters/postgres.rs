//! On PostgreSQL.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use super::ours::Ours;
use super::{Bed, Failure, Size, Taken, Way};
use crate::jobs::Site;

/// Parents that are read and written at a time, as `counter_culture` has it.
const BATCH: usize = 1_000;

/// The larger database.
#[derive(Debug)]
pub(super) struct Postgres {
    client: Client,
    schema: String,
    ours: Ours,
}

impl Postgres {
    pub(super) async fn make(site: &Site, url: &str, size: Size) -> Result<Self, Failure> {
        let store = site.open().await?;
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        drop(tokio::spawn(connection));
        let schema = site.name().to_owned();
        let Size { parents, children } = size;
        client
            .batch_execute(&format!(
                "create table {schema}.topics (id bigint primary key, posts_count integer not null);
                 create table {schema}.posts (id bigint, topic_id bigint not null, deleted_at timestamptz);
                 insert into {schema}.topics select i, {children} from generate_series(1, {parents}) i;
                 insert into {schema}.posts
                   select (t::bigint - 1) * {children} + c, t, null
                     from generate_series(1, {parents}) t, generate_series(1, {children}) c;
                 create index on {schema}.posts (topic_id) where deleted_at is null"
            ))
            .await?;
        for table in ["topics", "posts"] {
            client.batch_execute(&format!("vacuum analyze {schema}.{table}")).await?;
        }
        let ours = Ours::start(store, &format!("{schema}.")).await?;
        Ok(Self { client, schema, ours })
    }

    async fn log(&self) -> Result<u64, Failure> {
        let sql = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
        let bytes: i64 = self.client.query_one(sql, &[]).await?.try_get(0)?;
        Ok(bytes.unsigned_abs())
    }

    /// All of it, and every lock until its end.
    async fn one_shot(&self) -> Result<Duration, Failure> {
        let Self { client, schema, .. } = self;
        let begun = Instant::now();
        let update = format!(
            "update {schema}.topics t set posts_count = x.n from (
               select t.id, coalesce(c.n, 0) as n from {schema}.topics t left join (
                 select topic_id, count(*) n from {schema}.posts where deleted_at is null
                  group by topic_id) c on c.topic_id = t.id
                where t.posts_count is distinct from coalesce(c.n, 0)) x
              where x.id = t.id"
        );
        client.batch_execute(&update).await?;
        Ok(begun.elapsed())
    }

    async fn read_then_write(&mut self) -> Result<Duration, Failure> {
        let schema = &self.schema;
        let read = format!(
            "select t.id, count(p.topic_id) from {schema}.topics t
               left join {schema}.posts p on p.topic_id = t.id and p.deleted_at is null
              where t.id > $1 group by t.id, t.posts_count
             having count(p.topic_id) <> t.posts_count order by t.id limit 1000"
        );
        let read = self.client.prepare(&read).await?;
        let write = format!("update {schema}.topics set posts_count = $2 where id = $1");
        let write = self.client.prepare(&write).await?;
        let (mut last, mut longest) = (0_i64, Duration::ZERO);
        loop {
            let rows = self.client.query(&read, &[&last]).await?;
            let begun = Instant::now();
            let tx = self.client.transaction().await?;
            for row in &rows {
                let (id, count): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                tx.execute(&write, &[&id, &i32::try_from(count)?]).await?;
                last = id;
            }
            tx.commit().await?;
            longest = longest.max(begun.elapsed());
            if rows.len() < BATCH {
                return Ok(longest);
            }
        }
    }
}

impl Bed for Postgres {
    async fn drift(&mut self, one_of: u32) -> Result<(), Failure> {
        let Self { client, schema, .. } = self;
        if one_of > 0 {
            let update = format!(
                "update {schema}.topics set posts_count = posts_count + 3 where id % {one_of} = 0"
            );
            client.batch_execute(&update).await?;
        }
        // Each contender finds the table alike, and no full pages to be written to the log.
        client.batch_execute(&format!("vacuum {schema}.topics")).await?;
        Ok(())
    }

    async fn repair(&mut self, way: Way) -> Result<Taken, Failure> {
        let before = self.log().await?;
        let begun = Instant::now();
        let lock = match way {
            Way::OneShot => self.one_shot().await?,
            Way::ReadThenWrite => self.read_then_write().await?,
            Way::Ours => {
                let (_, report) = self.ours.repair().await?;
                Duration::from_millis(report.totals.slowest_batch_ms)
            }
        };
        let time = begun.elapsed();
        Ok(Taken { time, lock, wal: Some(self.log().await? - before) })
    }

    async fn wrong(&mut self) -> Result<u64, Failure> {
        let Self { client, schema, .. } = self;
        let sql = format!(
            "select count(*) from {schema}.topics t where t.posts_count <>
               (select count(*) from {schema}.posts p where p.topic_id = t.id and p.deleted_at is null)"
        );
        let wrong: i64 = client.query_one(&sql, &[]).await?.try_get(0)?;
        Ok(wrong.unsigned_abs())
    }

    async fn end(self) {
        self.ours.stop().await;
    }
}
