//! `kill -9` in the midst of group commits.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use super::*;

const CHILD: &str = "STEADFAST_TEST_SQLITE_CHILD";

#[tokio::test]
async fn an_acknowledged_write_survives_kill_nine_and_none_is_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let mut all = Vec::new();
    // Each killed at another place.
    for after in [1, 40, 400, 1_500] {
        all.extend(acknowledged(&path, after));
        let store = SqliteStore::open(SqliteOptions::file(&path)).await.unwrap();
        let pairs = store.read(|c| Ok::<_, StoreError>(pairs(c)?)).await.unwrap();
        let halves: Vec<_> = pairs.iter().filter(|(_, count)| *count != 2).collect();
        assert!(halves.is_empty(), "{halves:?}");
        let stored: std::collections::HashSet<_> = pairs.iter().map(|(id, _)| id).collect();
        let lost: Vec<_> = all.iter().filter(|id| !stored.contains(id)).collect();
        assert!(lost.is_empty(), "{lost:?}");
        store.close().await;
    }
}

fn pairs(connection: &Connection) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut statement = connection.prepare("select id, count(*) from pair group by id")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Lets a child write, kills it after so many acknowledged writes, and says which these were.
fn acknowledged(path: &Path, after: usize) -> Vec<String> {
    let mut child = spawn_child(path);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    loop {
        let mut line = String::new();
        // A line that was cut off by the end of the child says nothing.
        if output.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
            break;
        }
        if let Some(id) = line.trim_end().strip_prefix("wrote ") {
            acknowledged.push(id.to_owned());
        }
        if acknowledged.len() == after {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= after);
    acknowledged
}

fn spawn_child(path: &Path) -> Child {
    let name = "store::sqlite::tests::crash::child_that_writes_until_it_is_killed";
    Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Not a test of its own: what the test above starts and kills.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(SqliteOptions::file(path)).await.unwrap();
        run(&store, "create table if not exists pair (id text, half integer)").await.unwrap();
        let writers = (0..64).map(|_| tokio::spawn(write_pairs(store.clone())));
        futures_util::future::join_all(writers).await;
    });
}

/// Writes until nobody reads what it says.
async fn write_pairs(store: SqliteStore) {
    loop {
        let id = uuid::Uuid::now_v7().to_string();
        let written = id.clone();
        let work = store.write(move |tx| -> Result<(), StoreError> {
            let mut insert = tx.prepare_cached("insert into pair values (?1, ?2)")?;
            insert.execute((&id, 1))?;
            insert.execute((&id, 2))?;
            Ok(())
        });
        work.await.unwrap();
        if writeln!(std::io::stdout(), "wrote {written}").is_err() {
            return;
        }
    }
}
