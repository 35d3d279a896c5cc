//! A PostgreSQL server of a test's own, which it may take down.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{PgOptions, skip_or_panic};

/// Where Debian and others keep the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A server on a free port of loopback, ended and removed with this.
pub(crate) struct Cluster {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Cluster {
    /// `None`, and a line that says so, when its programs are not installed; a panic where
    /// services are required. Blocks for seconds.
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            skip_or_panic("no programs of a PostgreSQL server", "initdb was not found");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { programs, folder: tempfile::tempdir().unwrap(), port };
        cluster.give_away();
        let data = cluster.data();
        cluster.run("initdb", &["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync"]);
        let place = cluster.folder.path().display();
        let options = format!("-p {port} -k {place} -c listen_addresses=127.0.0.1");
        let log = format!("{place}/log");
        cluster.run("pg_ctl", &["-D", &data, "-w", "-l", &log, "-o", &options, "start"]);
        Some(cluster)
    }

    pub(crate) fn options(&self) -> PgOptions {
        let address = format!("postgres://postgres@127.0.0.1:{}/postgres", self.port);
        PgOptions::parse(&address).unwrap()
    }

    /// Ends all processes of the server at once, as a crash would, and starts it again. Blocks.
    pub(crate) fn crash_and_restart(&self) {
        let log = format!("{}/log", self.folder.path().display());
        let how = ["-D", &self.data(), "-w", "-m", "immediate", "-l", &log, "restart"];
        self.run("pg_ctl", &how);
    }

    fn data(&self) -> String {
        format!("{}/data", self.folder.path().display())
    }

    /// The server refuses to run as root.
    fn give_away(&self) {
        if is_root() {
            let given = Command::new("chown").arg("postgres").arg(self.folder.path()).status();
            assert!(given.unwrap().success());
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // What the server inherits stays open for as long as it runs.
        let quiet = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let ended = quiet.stderr(Stdio::null()).current_dir(self.folder.path()).status().unwrap();
        assert!(ended.success(), "{arguments:?}: {ended}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-m", "immediate", "stop"]);
    }
}

/// The folder of the newest version's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<_> = folders.chain(std::env::split_paths(&path)).collect();
    found.retain(|folder| folder.join("initdb").exists());
    found.into_iter().max()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;

    Path::new("/proc/self").metadata().is_ok_and(|process| process.uid() == 0)
}
