//! One mail's talk with the server, and what each way to end it means.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};

use super::{Smtp, SmtpSecurity};
use crate::mailer::EmailAddress;
use crate::mailer::provider::answer::{
    AmbiguousCause, Answer, NotSentCause, Outcome, RecipientOutcome, RecipientStatus,
    TransportError,
};
use crate::mailer::provider::{WireRequest, json};

/// The header of a stored request that has the sender.
pub(super) const FROM: &str = "envelope-from";
/// The header of a stored request that has the recipients, with commas between them.
pub(super) const TO: &str = "envelope-to";

/// LIMIT: how long a server that took the mail may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) async fn send(
    smtp: &Smtp,
    request: &WireRequest,
    timeout: Duration,
) -> Result<Answer, TransportError> {
    let talk = Talk { smtp, request, content_left: AtomicBool::new(false) };
    match tokio::time::timeout(timeout, talk.whole()).await {
        Ok(result) => result,
        Err(_elapsed) if talk.content_left.load(Ordering::Relaxed) => {
            Err(TransportError::Ambiguous(AmbiguousCause::Timeout))
        }
        // The server takes nothing before it has the end of the content.
        Err(_elapsed) => Ok(answer(Outcome::Unavailable { retry_after: None }, None)),
    }
}

struct Talk<'a> {
    smtp: &'a Smtp,
    request: &'a WireRequest,
    /// Whether some of the content may have left, and so its end may have too.
    content_left: AtomicBool,
}

/// Who or what a refusal is about.
#[derive(Clone, Copy)]
enum Step {
    /// The greeting, the key, or the sender.
    Us,
    /// The mail.
    Mail,
}

impl Talk<'_> {
    async fn whole(&self) -> Result<Answer, TransportError> {
        let (from, to) =
            envelope(self.request).ok_or(TransportError::NotSent(NotSentCause::Request))?;
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => return before_content(&error, Step::Us),
        };
        let ended = self.mail(&mut connection, from, to).await;
        if !connection.has_broken() {
            // The mail's fate is sealed; the goodbye is for the server's log.
            let _late = tokio::time::timeout(GOODBYE, connection.quit()).await;
        }
        ended
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let smtp = self.smtp;
        let at_once = smtp.tls.clone().filter(|_| smtp.security == SmtpSecurity::Tls);
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (&*smtp.host, smtp.port),
            Some(smtp.connect_timeout),
            &smtp.hello,
            at_once,
            None,
        )
        .await?;
        if let (SmtpSecurity::StartTls, Some(tls)) = (smtp.security, smtp.tls.clone()) {
            connection.starttls(tls, &smtp.hello).await?;
        }
        if let Some(credentials) = smtp.lettre_credentials() {
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
        }
        Ok(connection)
    }

    async fn mail(
        &self,
        connection: &mut AsyncSmtpConnection,
        from: Address,
        to: Vec<(EmailAddress, Address)>,
    ) -> Result<Answer, TransportError> {
        // The content is ASCII, and so are addresses: no extension is needed.
        if let Err(error) = connection.command(Mail::new(Some(from), Vec::new())).await {
            return before_content(&error, Step::Us);
        }
        let (count, mut refused, mut code) = (to.len(), Vec::new(), None);
        for (address, path) in to {
            match connection.command(Rcpt::new(path, Vec::new())).await {
                Ok(_taken) => {}
                Err(error) if error.is_permanent() => {
                    code = code.or_else(|| code_of(&error));
                    refused.push(RecipientOutcome { address, status: RecipientStatus::Invalid });
                }
                Err(error) => return before_content(&error, Step::Mail),
            }
        }
        if refused.len() == count {
            let outcome = Outcome::RecipientRejected { recipients: refused, suppress: false };
            return Ok(answer(outcome, code));
        }
        if let Err(error) = connection.command(Data).await {
            return before_content(&error, Step::Mail);
        }
        // ORDER: before the first byte of it leaves.
        self.content_left.store(true, Ordering::Relaxed);
        match connection.message(&self.request.body).await {
            Ok(response) => {
                let last = response.message().last().and_then(|line| line.rsplit(' ').next());
                let provider_id = last.and_then(json::provider_id);
                let outcome = Outcome::Accepted { provider_id, recipients: refused };
                Ok(answer(outcome, code))
            }
            Err(error) => after_content(&error),
        }
    }
}

fn answer(outcome: Outcome, code: Option<String>) -> Answer {
    let code = code.and_then(|code| json::code("smtp", &code));
    Answer { outcome, http_status: None, code, rate: None }
}

fn code_of(error: &Error) -> Option<String> {
    error.status().map(|code| code.to_string())
}

/// What a failure means while the server has taken nothing.
fn before_content(error: &Error, step: Step) -> Result<Answer, TransportError> {
    if error.is_transient() {
        return Ok(answer(Outcome::Unavailable { retry_after: None }, code_of(error)));
    }
    if error.is_permanent() {
        let outcome = match step {
            Step::Us => Outcome::Misconfigured,
            Step::Mail => Outcome::RequestRejected,
        };
        return Ok(answer(outcome, code_of(error)));
    }
    // The server does not offer what is demanded of it: STARTTLS, or a way to log in.
    if error.is_client() {
        return Ok(answer(Outcome::Misconfigured, None));
    }
    Err(TransportError::NotSent(if error.is_tls() {
        NotSentCause::Tls
    } else if error.is_timeout() {
        NotSentCause::ConnectTimeout
    } else {
        NotSentCause::Connect
    }))
}

/// What a failure means once the content has left: what the server says is certain, all else is
/// open.
fn after_content(error: &Error) -> Result<Answer, TransportError> {
    if error.is_transient() {
        return Ok(answer(Outcome::Unavailable { retry_after: None }, code_of(error)));
    }
    if error.is_permanent() {
        return Ok(answer(Outcome::RequestRejected, code_of(error)));
    }
    Err(TransportError::Ambiguous(if error.is_timeout() {
        AmbiguousCause::Timeout
    } else if error.is_response() {
        AmbiguousCause::Incomplete
    } else {
        AmbiguousCause::Reset
    }))
}

type Paths = (Address, Vec<(EmailAddress, Address)>);

fn envelope(request: &WireRequest) -> Option<Paths> {
    let path = |text: &str| -> Option<(EmailAddress, Address)> {
        let address = EmailAddress::parse(text).ok()?;
        let path = address.as_str().parse().ok()?;
        Some((address, path))
    };
    let (_, from) = path(request.header(FROM)?)?;
    let to: Vec<_> = request.header(TO)?.split(',').map(path).collect::<Option<_>>()?;
    Some((from, to))
}
