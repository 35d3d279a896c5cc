//! Whether another process on this host lives, told by a lock that dies with it.
//!
//! A heartbeat that stays away may mean a slow process or a clock that jumped. A lock that is
//! free means that its process is gone, for certain and at once, also after `kill -9`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A locked file that says that this process lives. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct Presence {
    path: PathBuf,
    file: File,
}

impl Presence {
    /// Creates a file of its own in `folder`, which is made if there is none, and locks it.
    ///
    /// # Errors
    ///
    /// The folder or the file cannot be written, or its file system knows no locks: do without
    /// a presence then.
    pub(crate) fn take(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.canonicalize()?.join(format!("{}.lock", Uuid::now_v7()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, file }),
            Err(error) => {
                fs::remove_file(&path)?;
                Err(error.into())
            }
        }
    }

    /// The file and where it lies, for [`is_dead`] in another process. The device and the number
    /// of the file tell apart two containers that have the same path.
    pub(crate) fn describe(&self) -> String {
        let (device, number) = place_of(&self.file).unwrap_or_default();
        format!("{device}:{number}:{}", self.path.display())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // ORDER: while the lock is held, so that nobody finds a free one of a living process.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(error = %error, "store.presence_left_behind");
        }
    }
}

/// Whether the process that [`describe`](Presence::describe)d itself so is dead. `None`: it
/// cannot be told from here, because the file is not here or is another.
pub(crate) fn is_dead(described: &str) -> Option<bool> {
    let (path, place) = parse(described)?;
    let file = File::open(path).ok()?;
    if place_of(&file)? != place {
        return None;
    }
    // A shared lock: two that look at the same time must not take each other for the owner.
    match file.try_lock_shared() {
        Ok(()) => Some(true),
        Err(TryLockError::WouldBlock) => Some(false),
        Err(TryLockError::Error(_)) => None,
    }
}

/// Removes the file of a process that is dead. One that lives, or of which it cannot be told,
/// is left alone.
pub(crate) fn bury(described: &str) {
    if is_dead(described) != Some(true) {
        return;
    }
    let Some((path, _)) = parse(described) else { return };
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(error = %error, "store.presence_left_behind");
    }
}

/// Device and number of a file.
type Place = (u64, u64);

fn parse(described: &str) -> Option<(&Path, Place)> {
    let mut parts = described.splitn(3, ':');
    let device = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    Some((Path::new(parts.next()?), (device, number)))
}

#[cfg(unix)]
fn place_of(file: &File) -> Option<Place> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn place_of(_: &File) -> Option<Place> {
    None
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    const CHILD: &str = "STEADFAST_TEST_PRESENCE";

    #[track_caller]
    fn check(described: &str, expected: Option<bool>) {
        assert_eq!(is_dead(described), expected, "{described}");
    }

    fn lock_files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_process_that_lives_is_not_dead_and_cannot_be_buried() {
        let folder = tempfile::tempdir().unwrap();
        let presence = Presence::take(&folder.path().join("nodes")).unwrap();
        check(&presence.describe(), Some(false));
        bury(&presence.describe());
        check(&presence.describe(), Some(false));
        assert_eq!(lock_files(&folder.path().join("nodes")), 1);
    }

    #[test]
    fn one_that_ended_in_order_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let presence = Presence::take(folder.path()).unwrap();
        let described = presence.describe();
        drop(presence);
        check(&described, None);
        assert_eq!(lock_files(folder.path()), 0);
    }

    #[test]
    fn what_is_not_here_cannot_be_told() {
        let folder = tempfile::tempdir().unwrap();
        let presence = Presence::take(folder.path()).unwrap();
        let path = presence.path.display();
        let (device, number) = place_of(&presence.file).unwrap();
        check(&format!("{device}:{}:{path}", number + 1), None);
        check(&format!("{}:{number}:{path}", device + 1), None);
        check(&format!("{device}:{number}:{path}.other"), None);
        for nonsense in ["", "1", "1:2", "x:y:z", "::", "\u{1F980}"] {
            check(nonsense, None);
        }
    }

    #[test]
    fn two_that_look_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let presence = Presence::take(folder.path()).unwrap();
        let described = presence.describe();
        presence.file.unlock().unwrap();
        let other = File::open(&presence.path).unwrap();
        other.lock_shared().unwrap();
        check(&described, Some(true));
    }

    #[test]
    fn a_process_that_was_killed_is_dead_for_certain() {
        let folder = tempfile::tempdir().unwrap();
        let name = "store::presence::tests::child_that_waits_to_be_killed";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let described = lines.find_map(|line| line.unwrap().strip_prefix("here ").map(Into::into));
        let described: String = described.unwrap();
        check(&described, Some(false));
        child.kill().unwrap();
        child.wait().unwrap();
        check(&described, Some(true));
        bury(&described);
        check(&described, None);
        assert_eq!(lock_files(folder.path()), 0);
    }

    /// Not a test of its own: what the test above starts and kills.
    #[test]
    fn child_that_waits_to_be_killed() {
        let Some(folder) = std::env::var_os(CHILD) else { return };
        let presence = Presence::take(Path::new(&folder)).unwrap();
        println!("\nhere {}", presence.describe());
        // Ends when the parent does, should that not come to kill it.
        let _read = io::stdin().read_line(&mut String::new()).unwrap();
    }
}
