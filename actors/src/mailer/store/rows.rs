//! Rows of mails and attempts.

use std::sync::Arc;

use serde::Serialize;

use crate::jobs::Class;
use crate::jobs::store::postgres::defect;
use crate::jobs::tx::Row;
use crate::mailer::state::{AMBIGUOUS, Delivery, MailState, OnUnknown};
use crate::mailer::{Mail, MailId};
use crate::store::{StoreError, Timestamp};

/// From how many bytes on a mail is read by who wants it: on PostgreSQL, all connections share a
/// thread.
const LARGE: usize = 64 * 1024;

/// A mail to be stored.
#[derive(Debug, Clone)]
pub(in crate::mailer) struct NewMail {
    pub(in crate::mailer) id: MailId,
    pub(in crate::mailer) tenant: Arc<str>,
    pub(in crate::mailer) key: Arc<str>,
    pub(in crate::mailer) kind: Arc<str>,
    pub(in crate::mailer) mail: Arc<Mail>,
    /// The mail as it is stored, and the hash of what is in it.
    pub(in crate::mailer) content: Vec<u8>,
    pub(in crate::mailer) content_hash: [u8; 32],
    pub(in crate::mailer) on_unknown: OnUnknown,
    pub(in crate::mailer) deadline: Option<Timestamp>,
    pub(in crate::mailer) run_at: Option<Timestamp>,
    pub(in crate::mailer) class: Class,
    pub(in crate::mailer) resend_of: Option<MailId>,
    /// Whether suppressed recipients get it all the same.
    pub(in crate::mailer) overrides_suppression: bool,
}

/// A mail that is stored.
#[derive(Debug, Clone)]
pub(in crate::mailer) struct StoredMail {
    pub(in crate::mailer) id: MailId,
    pub(in crate::mailer) tenant: Arc<str>,
    pub(in crate::mailer) kind: Arc<str>,
    pub(in crate::mailer) state: MailState,
    pub(in crate::mailer) delivery: Delivery,
    pub(in crate::mailer) on_unknown: OnUnknown,
    pub(in crate::mailer) deadline: Option<Timestamp>,
    pub(in crate::mailer) provider: Option<Arc<str>>,
    pub(in crate::mailer) provider_id: Option<Arc<str>>,
    pub(in crate::mailer) code: Option<Arc<str>>,
    pub(in crate::mailer) resend_of: Option<MailId>,
    pub(in crate::mailer) class: Class,
    pub(in crate::mailer) overrides_suppression: bool,
    /// Attempts up to this one cost none of those that it has.
    pub(in crate::mailer) attempts_forgiven: u32,
    pub(in crate::mailer) created_at: Timestamp,
    pub(in crate::mailer) updated_at: Timestamp,
}

/// What a run has to know of a mail.
pub(in crate::mailer) struct Opened {
    pub(in crate::mailer) mail: StoredMail,
    pub(in crate::mailer) attempts: Vec<Attempt>,
    pub(in crate::mailer) content: Content,
    /// Whether a recipient is on the list; `None`: nobody has looked.
    pub(in crate::mailer) is_suppressed: Option<bool>,
}

/// What is in a mail.
pub(in crate::mailer) enum Content {
    Forgotten,
    Read(Box<Mail>),
    /// Too much to read it where others wait for the thread.
    Large(Vec<u8>),
}

impl Content {
    pub(in crate::mailer) fn read(self) -> Result<Option<Mail>, StoreError> {
        match self {
            Self::Forgotten => Ok(None),
            Self::Read(mail) => Ok(Some(*mail)),
            Self::Large(json) => parse(&json).map(Some),
        }
    }
}

/// One attempt to send a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Attempt {
    /// Its number, from 1.
    pub n: u32,
    /// The run of the job that made it.
    #[serde(skip)]
    pub run: i32,
    /// Who was asked.
    pub provider: Arc<str>,
    /// What became of it; `None` while it is under way, or was cut off and is not settled yet.
    ///
    /// One of `accepted`, `duplicate`, `ambiguous`, `busy`, `throttled`, `quota`, `unavailable`,
    /// `misconfigured`, `not_sent`, `recipient_rejected`, `request_rejected`.
    pub outcome: Option<Arc<str>>,
    /// The status of the answer.
    pub http_status: Option<u16>,
    /// The provider's own code.
    pub code: Option<Arc<str>>,
    /// When it began: before the first byte left.
    pub started_at: Timestamp,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
}

pub(super) const MAIL: &str = "select id, tenant, kind, state, delivery, on_unknown, deadline_at,
    provider, provider_id, last_code, resend_of, created_at, updated_at, class,
    overrides_suppression, attempts_forgiven from {mail} where id = ?1";

/// The same, and then what is in it.
pub(super) const MAIL_AND_CONTENT: &str = "select id, tenant, kind, state, delivery, on_unknown,
    deadline_at, provider, provider_id, last_code, resend_of, created_at, updated_at, class,
    overrides_suppression, attempts_forgiven, content from {mail} where id = ?1";

pub(super) fn content(row: &mut Row) -> Result<Content, StoreError> {
    match row.blob_or_none(16)? {
        None => Ok(Content::Forgotten),
        Some(json) if json.len() > LARGE => Ok(Content::Large(json)),
        Some(json) => Ok(Content::Read(Box::new(parse(&json)?))),
    }
}

fn parse(json: &[u8]) -> Result<Mail, StoreError> {
    serde_json::from_slice(json).map_err(super::unwritable)
}

pub(super) fn mail(mut row: Row) -> Result<StoredMail, StoreError> {
    Ok(StoredMail {
        id: mail_id(row.blob(0)?)?,
        tenant: row.text(1)?.into(),
        kind: row.text(2)?.into(),
        state: word(MailState::parse(&row.text(3)?))?,
        delivery: word(Delivery::parse(&row.text(4)?))?,
        on_unknown: word(OnUnknown::parse(&row.text(5)?))?,
        deadline: row.int_or_none(6)?.map(Timestamp),
        provider: row.text_or_none(7)?.map(Into::into),
        provider_id: row.text_or_none(8)?.map(Into::into),
        code: row.text_or_none(9)?.map(Into::into),
        resend_of: row.blob_or_none(10)?.map(mail_id).transpose()?,
        created_at: Timestamp(row.int(11)?),
        updated_at: Timestamp(row.int(12)?),
        class: class(row.int(13)?)?,
        overrides_suppression: row.int(14)? != 0,
        attempts_forgiven: number(row.int(15)?),
    })
}

pub(super) const ATTEMPTS: &str = "select n, run, provider, outcome, http_status, code, started_at,
    finished_at from {mail_attempt} where mail_id = ?1 order by n";

pub(super) fn attempt(mut row: Row) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        n: number(row.int(0)?),
        run: i32::try_from(row.int(1)?).unwrap_or(i32::MAX),
        provider: row.text(2)?.into(),
        outcome: row.text_or_none(3)?.map(Into::into),
        http_status: row.int_or_none(4)?.and_then(|status| u16::try_from(status).ok()),
        code: row.text_or_none(5)?.map(Into::into),
        started_at: Timestamp(row.int(6)?),
        finished_at: row.int_or_none(7)?.map(Timestamp),
    })
}

impl Attempt {
    /// Whether it may have been accepted.
    pub(in crate::mailer) fn is_open_question(&self) -> bool {
        self.outcome.as_deref().is_none_or(|word| word == AMBIGUOUS || word == "busy")
    }
}

pub(super) fn class(number: i64) -> Result<Class, StoreError> {
    Class::from_number(number).ok_or_else(|| defect("a mail has a class that is not known"))
}

fn number(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The number of a mail in its column.
pub(super) fn mail_id(bytes: Vec<u8>) -> Result<MailId, StoreError> {
    let bytes = bytes.try_into().map_err(|_other: Vec<u8>| defect("a mail has no number"))?;
    Ok(MailId::from_bytes(bytes))
}

fn word<T>(known: Option<T>) -> Result<T, StoreError> {
    known.ok_or_else(|| defect("a mail has a state that is not known"))
}
