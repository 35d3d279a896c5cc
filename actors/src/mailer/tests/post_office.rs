//! Two providers in the test's own process, which outlive the processes that ask them, and what
//! they would have delivered.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::fault_server::read_request;

/// How requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Answers,
    /// Takes each mail, and says nothing.
    Silent,
    /// Answers, but for one request in a hundred: another fault each time.
    Faulty,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The connection is reset before the request is read.
    Reset,
    /// Says this, and takes nothing.
    Refuses(&'static str),
    /// Takes the mail, and says this.
    Garbles(&'static str),
}

const FAULTS: [Fault; 6] = [
    Fault::Reset,
    Fault::Refuses("502 Bad Gateway\r\ncontent-length: 0"),
    Fault::Refuses("503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0"),
    Fault::Refuses("429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0"),
    Fault::Garbles("200 OK\r\ncontent-length: 5\r\n\r\n<html"),
    Fault::Garbles("200 OK\r\ncontent-length: 500\r\n\r\n{\"id\":"),
];

/// What a provider has of a mail.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    /// Requests that were read to their end.
    pub(super) asked: u32,
    /// Times it would have been delivered.
    pub(super) delivered: u32,
    /// The first request under its key, where keys are known.
    first: Option<u64>,
    /// Whether another request came under the same key.
    pub(super) changed: bool,
}

#[derive(Debug)]
struct Book {
    manner: Manner,
    connections: usize,
    entries: HashMap<String, Entry>,
}

/// Resend's `POST /emails` and Postmark's `POST /email`. Ends when it is dropped.
pub(super) struct PostOffice {
    pub(super) address: SocketAddr,
    book: Arc<Mutex<Book>>,
    serves: JoinHandle<()>,
}

impl PostOffice {
    pub(super) async fn open(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let book = Book { manner, connections: 0, entries: HashMap::new() };
        let book = Arc::new(Mutex::new(book));
        let kept = Arc::clone(&book);
        let serves = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(connection, Arc::clone(&kept)));
            }
        });
        Self { address, book, serves }
    }

    pub(super) fn behave(&self, manner: Manner) {
        self.book.lock().manner = manner;
    }

    /// What it has, by the numbers of the mails.
    pub(super) fn entries(&self) -> HashMap<String, Entry> {
        self.book.lock().entries.clone()
    }
}

impl Drop for PostOffice {
    fn drop(&mut self) {
        self.serves.abort();
    }
}

impl Book {
    fn fault(&mut self) -> Option<Fault> {
        self.connections += 1;
        let is_due = self.manner == Manner::Faulty && self.connections.is_multiple_of(100);
        is_due.then(|| FAULTS[self.connections / 100 % FAULTS.len()])
    }

    fn asked(&mut self, mail: &str) -> &mut Entry {
        let entry = self.entries.entry(mail.to_owned()).or_default();
        entry.asked += 1;
        entry
    }

    /// As the provider of this request takes it; its answer.
    fn take(&mut self, request: &str) -> &'static str {
        let hash = |text: &str| {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            hasher.finish()
        };
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let entry = self.asked(number(request));
        if request.starts_with("POST /emails ") {
            let is_new = entry.first.is_none();
            let hash = hash(body);
            let first = *entry.first.get_or_insert(hash);
            entry.changed |= first != hash;
            entry.delivered += u32::from(is_new);
            "{\"id\":\"r-1\"}"
        } else {
            entry.delivered += 1;
            "{\"ErrorCode\":0,\"Message\":\"OK\",\"MessageID\":\"p-1\"}"
        }
    }
}

/// The mail's number: Resend's key, or what Postmark is told of it.
fn number(request: &str) -> &str {
    let key = request.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
    let told = || request.split("\"mail_id\":\"").nth(1)?.split('"').next();
    key.or_else(told).unwrap()
}

async fn serve(mut connection: TcpStream, book: Arc<Mutex<Book>>) -> Option<()> {
    let fault = book.lock().fault();
    if let Some(Fault::Reset) = fault {
        connection.set_zero_linger().unwrap();
        return None;
    }
    let request = read_request(&mut connection).await?;
    if let Some(Fault::Refuses(head)) = fault {
        book.lock().asked(number(&request));
        return say(connection, &format!("{head}\r\nconnection: close\r\n\r\n")).await;
    }
    let (answer, manner) = {
        let mut book = book.lock();
        (book.take(&request), book.manner)
    };
    if manner == Manner::Silent {
        // Until the process that waits for it is gone.
        while read_request(&mut connection).await.is_some() {}
        return None;
    }
    let head = "200 OK\r\ncontent-type: application/json\r\nconnection: close";
    let whole = format!("{head}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
    match fault {
        Some(Fault::Garbles(junk)) => say(connection, junk).await,
        _ => say(connection, &whole).await,
    }
}

async fn say(mut connection: TcpStream, answer: &str) -> Option<()> {
    connection.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.ok()?;
    connection.shutdown().await.ok()
}
