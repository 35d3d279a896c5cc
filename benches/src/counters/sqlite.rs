//! On SQLite.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use steadfast_actors::store::Store;

use super::ours::Ours;
use super::{Bed, Failure, Size, Taken, Way};
use crate::jobs::Site;

const BATCH: usize = 1_000;

/// The smaller database. The other ways have a connection of their own, set up as the store's.
#[derive(Debug)]
pub(super) struct Sqlite {
    connection: Connection,
    ours: Ours,
}

impl Sqlite {
    pub(super) async fn make(site: &Site, size: Size) -> Result<Self, Failure> {
        let store: Store = site.open().await?;
        let connection = Connection::open(site.path().unwrap_or_default())?;
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.pragma_update(None, "synchronous", "full")?;
        let Size { parents, children } = size;
        connection.execute_batch(&format!(
            "begin immediate;
             create table topics (id integer primary key, posts_count integer not null);
             create table posts (id integer primary key, topic_id integer not null, deleted_at text);
             insert into topics
               with recursive s(i) as (select 1 union all select i + 1 from s where i < {parents})
               select i, {children} from s;
             insert into posts (topic_id)
               with recursive s(i) as (select 1 union all select i + 1 from s where i < {children})
               select t.id from topics t cross join s;
             create index posts_topic on posts (topic_id) where deleted_at is null;
             analyze;
             commit"
        ))?;
        let ours = Ours::start(store, "").await?;
        Ok(Self { connection, ours })
    }

    fn one_shot(&self) -> Result<Duration, Failure> {
        let begun = Instant::now();
        let count =
            "(select count(*) from posts p where p.topic_id = topics.id and p.deleted_at is null)";
        let update =
            format!("update topics set posts_count = {count} where posts_count is not {count}");
        self.connection.execute_batch(&update)?;
        Ok(begun.elapsed())
    }

    fn read_then_write(&mut self) -> Result<Duration, Failure> {
        let (mut last, mut longest) = (0_i64, Duration::ZERO);
        loop {
            let mut read = self.connection.prepare_cached(
                "select t.id, count(p.topic_id) from topics t
                   left join posts p on p.topic_id = t.id and p.deleted_at is null
                  where t.id > ?1 group by t.id
                 having count(p.topic_id) <> t.posts_count order by t.id limit 1000",
            )?;
            let rows = read.query_map([last], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<(i64, i64)> = rows.collect::<Result<_, _>>()?;
            drop(read);
            let begun = Instant::now();
            let tx = self.connection.transaction()?;
            for (id, count) in &rows {
                tx.prepare_cached("update topics set posts_count = ?2 where id = ?1")?
                    .execute([id, count])?;
                last = *id;
            }
            tx.commit()?;
            longest = longest.max(begun.elapsed());
            if rows.len() < BATCH {
                return Ok(longest);
            }
        }
    }
}

impl Bed for Sqlite {
    async fn drift(&mut self, one_of: u32) -> Result<(), Failure> {
        if one_of > 0 {
            let update = "update topics set posts_count = posts_count + 3 where id % ?1 = 0";
            self.connection.execute(update, [one_of])?;
        }
        Ok(())
    }

    async fn repair(&mut self, way: Way) -> Result<Taken, Failure> {
        let begun = Instant::now();
        let lock = match way {
            Way::OneShot => self.one_shot()?,
            Way::ReadThenWrite => self.read_then_write()?,
            Way::Ours => {
                let (_, report) = self.ours.repair().await?;
                Duration::from_millis(report.totals.slowest_batch_ms)
            }
        };
        Ok(Taken { time: begun.elapsed(), lock, wal: None })
    }

    async fn wrong(&mut self) -> Result<u64, Failure> {
        let sql = "select count(*) from topics t where t.posts_count <>
            (select count(*) from posts p where p.topic_id = t.id and p.deleted_at is null)";
        let wrong: i64 = self.connection.query_row(sql, [], |row| row.get(0))?;
        Ok(wrong.unsigned_abs())
    }

    async fn end(self) {
        self.ours.stop().await;
    }
}
