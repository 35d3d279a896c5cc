//! The example server as a child process.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

const READY_WITHIN: Duration = Duration::from_secs(30);
const EXIT_WITHIN: Duration = Duration::from_secs(30);
const LOGGED_WITHIN: Duration = Duration::from_secs(5);
/// LIMIT: how much of a server's log is kept for the report of a failed test.
const LOG_MAX: usize = 256 * 1024;

/// What becomes of a server's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogReader {
    /// Reads it all.
    Awake,
    /// Holds the pipe and never reads.
    Asleep,
    /// Has closed the pipe.
    Gone,
}

/// A running example server on free ports of its own. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// Base address of the application.
    pub(crate) app: String,
    /// Base address of the administration.
    pub(crate) admin: String,
    /// Base address of the fault simulator it uses.
    pub(crate) upstream: String,
    /// Where it puts its temporary files; goes away with this handle, however the server ends.
    pub(crate) temporary: TempDir,
    child: Child,
    log: Log,
    _unread_log: Option<ChildStderr>,
    client: reqwest::Client,
}

impl Server {
    /// Starts a server with its defaults, on free ports.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts a server whose command line or environment the test has changed.
    #[track_caller]
    pub(crate) fn start_with(change: impl FnOnce(&mut Command)) -> Self {
        Self::start_read_by(LogReader::Awake, change)
    }

    /// The same, with this reader at the other end of its log.
    #[track_caller]
    pub(crate) fn start_read_by(reader: LogReader, change: impl FnOnce(&mut Command)) -> Self {
        steadfast::tls::install_default_provider();
        let mut command = command();
        let temporary = tempfile::tempdir().unwrap();
        command.env("TMPDIR", temporary.path());
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        change(&mut command);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take();
        let log = match reader {
            LogReader::Awake => stderr.take().map(Log::drain).unwrap(),
            LogReader::Asleep => Log::default(),
            LogReader::Gone => {
                drop(stderr.take());
                Log::default()
            }
        };
        let ready = first_line(child.stdout.take().unwrap());
        let Some(ready) = ready else {
            // An unreadable exit status changes nothing about the report.
            let _killed = child.kill().and_then(|()| child.wait());
            panic!("the server did not become ready; its log:\n{}", log.text());
        };
        let address = |name: &str| {
            let found = ready.split(' ').find_map(|part| part.strip_prefix(name));
            found.unwrap_or_else(|| panic!("no {name} in {ready:?}")).to_owned()
        };
        assert!(ready.starts_with("ready app="), "not a ready line: {ready:?}");
        Self {
            app: address("app="),
            admin: address("admin="),
            upstream: address("upstream="),
            temporary,
            child,
            log,
            _unread_log: stderr,
            client: reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap(),
        }
    }

    /// A request to the application.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.app))
    }

    pub(crate) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.request(Method::POST, path)
    }

    /// The body of `GET /demo/stats`.
    pub(crate) async fn stats(&self) -> Value {
        self.get("/demo/stats").send().await.unwrap().json().await.unwrap()
    }

    /// Switches the fault simulator through the server, as a person would.
    pub(crate) async fn switch_upstream(&self, order: Value) {
        let answer = self.request(Method::PUT, "/demo/upstream").json(&order).send().await.unwrap();
        assert_eq!(answer.status(), 200, "switching to {order}");
    }

    /// The address of the application without its scheme, for a raw connection.
    pub(crate) fn address(&self) -> &str {
        self.app.trim_start_matches("http://")
    }

    /// What the server has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until a line of the log contains all of these; the whole log. A thread of the
    /// server's own writes it, so it may come after the answer.
    pub(crate) async fn logged(&self, parts: &[&str]) -> String {
        let complete = |line: &str| parts.iter().all(|part| line.contains(part));
        let told = async || (self.log().lines().any(complete), self.log().into());
        let log = super::eventually(LOGGED_WITHIN, told, &format!("a line with {parts:?}")).await;
        log.as_str().unwrap_or_default().to_owned()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.process().terminate();
    }

    /// Ends it as a crash does, at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its process, for whoever kills it while somebody else asks it.
    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Waits for the server to end by itself. Blocks; call it where nothing else must run.
    pub(crate) fn exit_status(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < EXIT_WITHIN, "still running after {EXIT_WITHIN:?}");
            pause();
        }
    }
}

/// A process that is not waited for until its [`Server`] is dropped, so that its number is its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    /// Ends it as a crash does.
    pub(crate) fn kill(self) {
        self.signal("KILL");
    }

    /// Tells it to leave.
    pub(crate) fn terminate(self) {
        self.signal("TERM");
    }

    /// Stops it where it is, until [`Process::go_on`].
    pub(crate) fn freeze(self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn go_on(self) {
        self.signal("CONT");
    }

    /// The most memory it has had in bytes, from Linux's own books.
    pub(crate) fn peak_memory(self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    fn signal(self, name: &str) {
        // The shell's own `kill`: the standard library has no safe way to send a signal.
        let order = format!("kill -{name} {}", self.0);
        let sent = Command::new("sh").args(["-c", &order]).status().unwrap();
        assert!(sent.success(), "could not send SIG{name}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill and the status is known.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- log of the server ---\n{}", self.log.text());
        }
    }
}

/// Runs the server with arguments that should make it end at once.
pub(crate) fn run_to_end(arguments: &[&str]) -> Output {
    let mut command = command();
    let child =
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_with_output(child)
}

fn wait_with_output(mut child: Child) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > EXIT_WITHIN {
            let _killed = child.kill();
            panic!("still running after {EXIT_WITHIN:?}");
        }
        pause();
    }
    child.wait_with_output().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "polls another process, no runtime is blocked")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// The server's command, free of the settings of whoever runs the tests.
fn command() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STEADFAST_")
            || name.to_string_lossy().starts_with("RUST_")
        {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// `target/<profile>/examples/server`, beside the folder of this test's own executable.
fn binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().and_then(|deps| deps.parent()).unwrap();
    let server = profile.join("examples").join(format!("server{}", std::env::consts::EXE_SUFFIX));
    assert!(
        server.exists(),
        "{} is missing: plain `cargo test` builds it, `cargo test --test it` does not; \
         run `cargo build --example server` with the same profile",
        server.display(),
    );
    server
}

/// The first line a process prints; `None` when it ends or stays silent for too long.
fn first_line(output: impl Read + Send + 'static) -> Option<String> {
    let (send, receive) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(output).lines();
        if let Some(Ok(line)) = lines.next() {
            // The test may have given up waiting.
            let _unheard = send.send(line);
        }
        // Keeps the pipe open and empty, so that the server could print more.
        for _line in lines {}
    });
    receive.recv_timeout(READY_WITHIN).ok()
}

/// The end of what a process writes to standard error.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn drain(output: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                kept.push(&line);
            }
        });
        log
    }

    fn push(&self, line: &str) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(line);
        text.push('\n');
        while text.len() > LOG_MAX {
            let first_line = text.find('\n').map_or(text.len(), |end| end + 1);
            text.drain(..first_line);
        }
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
