//! SMTP: what is said to the server, and what each way it ends means.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::mailer::provider::{
    AmbiguousCause, Answer, MailProvider as _, NotSentCause, Outcome, ProviderError,
    RecipientOutcome, RecipientStatus, Smtp, SmtpSecurity, TransportError, WireRequest,
};

const PATIENCE: Duration = Duration::from_secs(300);
const CLOSE: &str = "close";
const STALL: &str = "stall";

/// A server that answers each command as it is told to, and yes to all others. The commands are
/// `greeting`, `EHLO`, `MAIL`, `RCPT <address>`, `DATA` and `end`.
struct Server {
    address: SocketAddr,
    heard: mpsc::Receiver<String>,
}

impl Server {
    async fn start(script: &[(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (said, heard) = mpsc::channel(1_000);
        let script: HashMap<_, _> = script.iter().copied().collect();
        tokio::spawn(async move {
            let (connection, _) = listener.accept().await.unwrap();
            let mut connection = BufReader::new(connection);
            let stalls = serve(&mut connection, &script, &said).await.is_none();
            if stalls {
                std::future::pending::<()>().await;
            }
        });
        Self { address, heard }
    }

    async fn heard(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.heard.recv().await {
            lines.push(line);
        }
        lines
    }

    async fn until(&mut self, line: &str) {
        while self.heard.recv().await.unwrap() != line {}
    }
}

/// [`None`] when it is to stay open and silent.
async fn serve(
    connection: &mut BufReader<TcpStream>,
    script: &HashMap<&str, &str>,
    said: &mpsc::Sender<String>,
) -> Option<()> {
    reply(connection, script.get("greeting").copied().unwrap_or("220 hi")).await?;
    let mut content = false;
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).await.unwrap_or(0) == 0 {
            return Some(());
        }
        let line = line.trim_end_matches("\r\n").to_owned();
        said.send(line.clone()).await.ok()?;
        let (command, yes) = match (content, line.as_str()) {
            (true, ".") => ("end".to_owned(), "250 2.0.0 Ok: queued as 4ABC12"),
            (true, _) => continue,
            (false, "DATA") => ("DATA".to_owned(), "354 go on"),
            (false, "QUIT") => ("QUIT".to_owned(), "221 bye"),
            (false, line) if line.starts_with("EHLO") => {
                ("EHLO".to_owned(), "250-hi\r\n250 AUTH PLAIN")
            }
            (false, line) => {
                let command = line.split(':').next().unwrap().split(' ').next().unwrap();
                let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                let command =
                    if command == "RCPT" { format!("RCPT {address}") } else { command.to_owned() };
                (command, "250 ok")
            }
        };
        let text = script.get(command.as_str()).copied().unwrap_or(yes);
        content = command == "DATA" && text == yes;
        reply(connection, text).await?;
    }
}

async fn reply(connection: &mut BufReader<TcpStream>, text: &str) -> Option<()> {
    match text {
        STALL => return None,
        CLOSE => connection.shutdown().await.unwrap(),
        text => connection.write_all(format!("{text}\r\n").as_bytes()).await.unwrap(),
    }
    Some(())
}

fn smtp(server: &Server) -> Smtp {
    Smtp::new("127.0.0.1", SmtpSecurity::None).unwrap().port(server.address.port())
}

async fn send(script: &[(&'static str, &'static str)]) -> Result<Answer, TransportError> {
    let server = Server::start(script).await;
    let smtp = smtp(&server);
    let request = smtp.encode(id(), &awkward()).unwrap();
    smtp.send(&request, PATIENCE).await
}

fn refused(address: &str) -> RecipientOutcome {
    let address = EmailAddress::parse(address).unwrap();
    RecipientOutcome { address, status: RecipientStatus::Invalid }
}

/// A server's script, what the mail became of with it, and its code.
type Case<'a> = (&'a [(&'static str, &'static str)], Outcome, Option<&'a str>);

const JANE: &str = "RCPT jane@example.com";

#[tokio::test]
async fn what_the_server_says_decides() {
    let accepted =
        |recipients| Outcome::Accepted { provider_id: Some("4ABC12".into()), recipients };
    let unavailable = Outcome::Unavailable { retry_after: None };
    let all = ["jane@example.com", "zoe@example.org", "copy@example.com", "hidden@example.net"];
    let no = "550 5.1.1 jane@example.com: no such user";
    let nobody: &[_] = &[
        (JANE, no),
        ("RCPT zoe@example.org", no),
        ("RCPT copy@example.com", no),
        ("RCPT hidden@example.net", no),
    ];
    let cases: &[Case<'_>] = &[
        (&[], accepted(vec![]), None),
        (&[("greeting", "421 busy")], unavailable.clone(), Some("smtp.421")),
        (&[("greeting", "554 go away")], Outcome::Misconfigured, Some("smtp.554")),
        (&[("MAIL", "550 not you")], Outcome::Misconfigured, Some("smtp.550")),
        (&[("MAIL", "451 later")], unavailable.clone(), Some("smtp.451")),
        (&[(JANE, no)], accepted(vec![refused("jane@example.com")]), Some("smtp.550")),
        (&[(JANE, "450 greylisted")], unavailable.clone(), Some("smtp.450")),
        (
            nobody,
            Outcome::RecipientRejected { recipients: all.map(refused).to_vec(), suppress: false },
            Some("smtp.550"),
        ),
        (&[("DATA", "451 later")], unavailable.clone(), Some("smtp.451")),
        (&[("DATA", "554 no")], Outcome::RequestRejected, Some("smtp.554")),
        (&[("end", "452 full")], unavailable, Some("smtp.452")),
        (&[("end", "552 too big")], Outcome::RequestRejected, Some("smtp.552")),
        (&[("QUIT", CLOSE)], accepted(vec![]), None),
    ];
    for (script, outcome, code) in cases {
        let answer = send(script).await.unwrap();
        assert_eq!(answer.outcome, *outcome, "{script:?}");
        assert_eq!(answer.code.as_deref(), *code, "{script:?}");
        assert_eq!(answer.http_status, None);
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_the_content_is_not_sent_and_after_it_leaves_it_open() {
    for place in ["greeting", "EHLO", "MAIL", JANE, "DATA"] {
        let result = send(&[(place, CLOSE)]).await;
        assert!(matches!(result, Err(TransportError::NotSent(_))), "{place}: {result:?}");
    }
    let result = send(&[("end", CLOSE)]).await;
    assert_eq!(result, Err(TransportError::Ambiguous(AmbiguousCause::Incomplete)));
    let result = send(&[("end", "what?")]).await;
    assert!(matches!(result, Err(TransportError::Ambiguous(_))), "{result:?}");
    // A port that is held and that nobody listens on.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let smtp = Smtp::new("127.0.0.1", SmtpSecurity::None).unwrap().port(port);
    let request = smtp.encode(id(), &awkward()).unwrap();
    let result = smtp.send(&request, PATIENCE).await;
    assert_eq!(result, Err(TransportError::NotSent(NotSentCause::Connect)));
}

async fn stalls(at: &'static str, heard: &str) -> Result<Answer, TransportError> {
    let mut server = Server::start(&[(at, STALL)]).await;
    let smtp = smtp(&server);
    let request = smtp.encode(id(), &awkward()).unwrap();
    let asks = tokio::spawn(async move { smtp.send(&request, PATIENCE).await });
    server.until(heard).await;
    tokio::time::pause();
    tokio::time::advance(PATIENCE).await;
    asks.await.unwrap()
}

#[tokio::test]
async fn a_server_that_says_nothing_once_it_has_the_content_leaves_it_open() {
    let timeout = Err(TransportError::Ambiguous(AmbiguousCause::Timeout));
    assert_eq!(stalls("end", ".").await, timeout);
}

#[tokio::test]
async fn a_server_that_says_nothing_before_it_has_the_content_is_unavailable() {
    let answer = stalls("DATA", "DATA").await.unwrap();
    assert_eq!(answer.outcome, Outcome::Unavailable { retry_after: None });
}

#[tokio::test]
async fn the_server_hears_the_mail_and_nothing_of_hidden_copies_in_it() {
    let mut server = Server::start(&[]).await;
    let smtp = smtp(&server).credentials("user", "s3cret").hello_name("mx.example.com").unwrap();
    let request = smtp.encode(id(), &awkward()).unwrap();
    smtp.send(&request, PATIENCE).await.unwrap();
    let heard = server.heard().await;
    let (commands, content) = heard.split_at(heard.iter().position(|line| line == "DATA").unwrap());
    assert_eq!(
        commands,
        [
            "EHLO mx.example.com",
            "AUTH PLAIN AHVzZXIAczNjcmV0",
            "MAIL FROM:<shop@xn--pklad-zsa96e.example.cz>",
            "RCPT TO:<jane@example.com>",
            "RCPT TO:<zoe@example.org>",
            "RCPT TO:<copy@example.com>",
            "RCPT TO:<hidden@example.net>",
        ]
    );
    assert!(!content.iter().any(|line| line.contains("hidden")));
    assert!(!format!("{smtp:?} {request:?}").contains("s3cret"));
    assert!(!serde_json::to_string(&request).unwrap().contains("s3cret"));
}

fn encoded(mail: &Mail) -> WireRequest {
    Smtp::new("localhost", SmtpSecurity::None).unwrap().encode(id(), mail).unwrap()
}

#[test]
fn a_message_is_the_same_each_time_and_ascii() {
    let request = encoded(&awkward());
    assert_eq!(request, encoded(&awkward()));
    let message = String::from_utf8(request.body).unwrap();
    assert!(message.is_ascii());
    assert!(!message.replace("\r\n", "").contains(['\r', '\n']));
    assert!(message.lines().all(|line| line.len() <= 998), "RFC 5322, 2.1.1");
    let (head, body) = message.split_once("\r\n\r\n").unwrap();
    let unfolded = head.replace("\r\n ", " ");
    for line in [
        "From: =?utf-8?b?TcO8bGxlciAmIENv?= <shop@xn--pklad-zsa96e.example.cz>",
        "Cc: copy@example.com",
        "To: =?utf-8?b?RG9lLCBKYW5l?= <jane@example.com>, =?utf-8?b?Wm/Dqw==?= <zoe@example.org>",
        "Reply-To: =?utf-8?b?SGVscDsgRGVzaw==?= <help@example.com>",
        "Subject: =?utf-8?B?R3LDvMOfZSwg4oSWMQ==?=",
        "X-Order: =?utf-8?B?4oSWIDc=?=",
        "X-Metadata: {\"order\":\"7\"}",
        "X-Tag: welcome",
        // When the number was made.
        "Date: Sun, 03 Nov 2024 06:41:14 +0000",
    ] {
        assert!(unfolded.lines().any(|found| found == line), "{line} in {unfolded}");
    }
    assert!(unfolded.contains(&format!("Message-ID: <{ID}@xn--pklad-zsa96e.example.cz>")));
    assert!(!head.to_ascii_lowercase().lines().any(|line| line.starts_with("bcc")));
    for part in [
        "multipart/alternative",
        "multipart/related",
        "Content-ID: <logo@shop>",
        "Content-Disposition: inline",
        "Content-Disposition: attachment",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert!(head.contains("multipart/mixed"));
}

#[test]
fn no_quote_in_a_file_name_ends_it() {
    let file = Attachment::new("a\"; x=\"b.txt", "text/plain", *b"x").unwrap();
    let message = encoded(&plain().attach(file).build().unwrap()).body;
    let message = String::from_utf8(message).unwrap();
    let line = message.lines().find(|line| line.contains("attachment")).unwrap();
    assert!(line.contains(r#"filename="a\"; x=\"b.txt""#), "{line}");
}

#[test]
fn nothing_crosses_a_network_in_the_clear() {
    for host in ["127.0.0.1", "::1", "localhost"] {
        assert!(Smtp::new(host, SmtpSecurity::None).is_ok());
    }
    for (host, security, setting) in [
        ("mail.example.com", SmtpSecurity::None, "smtp.security"),
        ("10.0.0.1", SmtpSecurity::None, "smtp.security"),
        ("", SmtpSecurity::Tls, "smtp.host"),
        ("a b", SmtpSecurity::Tls, "smtp.host"),
        ("a\r\nb", SmtpSecurity::StartTls, "smtp.host"),
    ] {
        match Smtp::new(host, security) {
            Err(ProviderError::InvalidSetting { setting: found, .. }) => assert_eq!(found, setting),
            other => panic!("{other:?}"),
        }
    }
    assert!(Smtp::new("mail.example.com", SmtpSecurity::StartTls).is_ok());
    assert!(
        Smtp::new("mail.example.com", SmtpSecurity::Tls).unwrap().hello_name("a\r\nb").is_err()
    );
}

#[tokio::test]
async fn nothing_is_said_to_a_server_without_the_tls_that_is_demanded() {
    let mut server = Server::start(&[]).await;
    let smtp = Smtp::new("127.0.0.1", SmtpSecurity::StartTls).unwrap().port(server.address.port());
    let smtp = smtp.credentials("user", "s3cret");
    let request = smtp.encode(id(), &awkward()).unwrap();
    let answer = smtp.send(&request, PATIENCE).await.unwrap();
    assert_eq!(answer.outcome, Outcome::Misconfigured);
    assert_eq!(server.heard().await, ["EHLO localhost"]);
}
