//! What is sent.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::address::{EmailAddress, Mailbox};
use super::attachment::Attachment;
use super::content_hash::content_hash;
use super::header::{HeaderName, HeaderText};
use super::mail_error::MailError;

/// A mail: complete, checked, and unchangeable. Cheap to clone but for its lists.
///
/// Whatever a mail holds can stand in a header where it belongs in one, and every provider here
/// can take it but for the limits that are the provider's own. It is stored as JSON; what is read
/// back is checked again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Draft")]
pub struct Mail {
    from: Mailbox,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reply_to: Vec<Mailbox>,
    to: Vec<Mailbox>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cc: Vec<Mailbox>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bcc: Vec<Mailbox>,
    subject: HeaderText,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(HeaderName, HeaderText)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<Arc<str>>,
}

impl Mail {
    /// LIMIT: recipients in `to`, `cc` and `bcc` together; what Postmark and SES take.
    pub const RECIPIENT_LIMIT: usize = 50;
    /// LIMIT: mailboxes in `reply_to`; more than one is rare.
    pub const REPLY_TO_LIMIT: usize = 10;
    /// LIMIT: the text and the HTML in bytes, each; what Postmark takes.
    pub const BODY_LIMIT: usize = 5 * 1024 * 1024;
    /// LIMIT: headers of one's own; SES takes 15.
    pub const HEADER_LIMIT: usize = 15;
    /// LIMIT: names and texts of one's own headers in bytes, together; with metadata and tag this
    /// stays below the 16 kB that Mailgun takes.
    pub const HEADER_BYTES_LIMIT: usize = 8 * 1024;
    /// LIMIT: files; a mail with more is better off with a link.
    pub const ATTACHMENT_LIMIT: usize = 20;
    /// LIMIT: entries of the metadata; Postmark takes 10, and the mailer adds one.
    pub const METADATA_LIMIT: usize = 9;
    /// LIMIT: a key of the metadata in characters; what Postmark takes.
    pub const METADATA_KEY_LIMIT: usize = 20;
    /// LIMIT: a value of the metadata in characters; what Postmark takes.
    pub const METADATA_VALUE_LIMIT: usize = 80;
    /// LIMIT: keys and values of the metadata in bytes, together. SES and Resend take them in a
    /// header, which SES allows 870 characters.
    pub const METADATA_BYTES_LIMIT: usize = 512;
    /// LIMIT: the tag in characters.
    pub const TAG_LIMIT: usize = 64;

    /// Begins a mail.
    #[must_use]
    pub fn builder(from: Mailbox, to: impl IntoIterator<Item = Mailbox>) -> MailBuilder {
        MailBuilder(Draft {
            from,
            reply_to: Vec::new(),
            to: to.into_iter().collect(),
            cc: Vec::new(),
            bcc: Vec::new(),
            subject: None,
            text: None,
            html: None,
            headers: Vec::new(),
            attachments: Vec::new(),
            metadata: BTreeMap::new(),
            tag: None,
        })
    }

    /// Who sends it.
    #[must_use]
    pub const fn from(&self) -> &Mailbox {
        &self.from
    }

    /// Who answers go to; the sender, if nobody is named.
    #[must_use]
    pub fn reply_to(&self) -> &[Mailbox] {
        &self.reply_to
    }

    /// Who it is for: one at least.
    #[must_use]
    pub fn to(&self) -> &[Mailbox] {
        &self.to
    }

    /// Who gets a copy that the others see.
    #[must_use]
    pub fn cc(&self) -> &[Mailbox] {
        &self.cc
    }

    /// Who gets a copy that nobody sees.
    #[must_use]
    pub fn bcc(&self) -> &[Mailbox] {
        &self.bcc
    }

    /// The subject.
    #[must_use]
    pub const fn subject(&self) -> &HeaderText {
        &self.subject
    }

    /// The text for programs that show no HTML; never empty.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The HTML; never empty.
    #[must_use]
    pub fn html(&self) -> Option<&str> {
        self.html.as_deref()
    }

    /// Headers of its own, each name once.
    #[must_use]
    pub fn headers(&self) -> &[(HeaderName, HeaderText)] {
        &self.headers
    }

    /// Files that go with it.
    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// What the provider gives back with events. Recipients may be able to see it.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What the provider's statistics are grouped by.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Everybody it goes to: `to`, `cc`, then `bcc`.
    pub fn recipients(&self) -> impl Iterator<Item = &EmailAddress> {
        self.to.iter().chain(&self.cc).chain(&self.bcc).map(|mailbox| &mailbox.address)
    }

    /// SHA-256 over everything in it, written so that no two different mails are written alike.
    /// It does not change with versions of this library.
    #[must_use]
    pub fn content_hash(&self) -> [u8; 32] {
        content_hash(self)
    }
}

/// Shows how much there is of what, and no address, name, subject or text.
impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail")
            .field("from_domain", &self.from.address.domain())
            .field("recipients", &self.recipients().count())
            .field("text_bytes", &self.text().map(str::len))
            .field("html_bytes", &self.html().map(str::len))
            .field("attachments", &self.attachments)
            .finish_non_exhaustive()
    }
}

/// A mail in the making. What is wrong with it, [`MailBuilder::build`] says.
#[derive(Clone)]
pub struct MailBuilder(Draft);

impl MailBuilder {
    /// The subject; required.
    #[must_use]
    pub fn subject(mut self, subject: HeaderText) -> Self {
        self.0.subject = Some(subject);
        self
    }

    /// The text for programs that show no HTML. An empty one is as none.
    #[must_use]
    pub fn text(mut self, text: impl Into<Arc<str>>) -> Self {
        self.0.text = Some(text.into());
        self
    }

    /// The HTML. An empty one is as none. Mail with HTML and no text is taken for spam more
    /// often: [`super::Templates`] makes both.
    #[must_use]
    pub fn html(mut self, html: impl Into<Arc<str>>) -> Self {
        self.0.html = Some(html.into());
        self
    }

    /// One more whom answers go to.
    #[must_use]
    pub fn reply_to(mut self, mailbox: Mailbox) -> Self {
        self.0.reply_to.push(mailbox);
        self
    }

    /// One more who gets a copy that the others see.
    #[must_use]
    pub fn cc(mut self, mailbox: Mailbox) -> Self {
        self.0.cc.push(mailbox);
        self
    }

    /// One more who gets a copy that nobody sees.
    #[must_use]
    pub fn bcc(mut self, mailbox: Mailbox) -> Self {
        self.0.bcc.push(mailbox);
        self
    }

    /// One more header of its own.
    #[must_use]
    pub fn header(mut self, name: HeaderName, text: HeaderText) -> Self {
        self.0.headers.push((name, text));
        self
    }

    /// One more file.
    #[must_use]
    pub fn attach(mut self, attachment: Attachment) -> Self {
        self.0.attachments.push(attachment);
        self
    }

    /// One more entry of the metadata, which the provider gives back with events; another of the
    /// same key is replaced. Recipients may be able to see it.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.into(), value.into());
        self
    }

    /// What the provider's statistics are grouped by: 1 to [`Mail::TAG_LIMIT`] letters, digits,
    /// `-` and `_`.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.0.tag = Some(tag.into());
        self
    }

    /// The mail.
    ///
    /// # Errors
    ///
    /// [`MailError`] says what to correct.
    pub fn build(self) -> Result<Mail, MailError> {
        self.0.try_into()
    }
}

impl fmt::Debug for MailBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailBuilder").finish_non_exhaustive()
    }
}

/// A mail that was not looked at yet.
// INVARIANT: unknown fields are refused. A process that is older than the row it reads must not
// send less than was asked for.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    from: Mailbox,
    #[serde(default)]
    reply_to: Vec<Mailbox>,
    to: Vec<Mailbox>,
    #[serde(default)]
    cc: Vec<Mailbox>,
    #[serde(default)]
    bcc: Vec<Mailbox>,
    subject: Option<HeaderText>,
    text: Option<Arc<str>>,
    html: Option<Arc<str>>,
    #[serde(default)]
    headers: Vec<(HeaderName, HeaderText)>,
    #[serde(default)]
    attachments: Vec<Attachment>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    tag: Option<Arc<str>>,
}

impl TryFrom<Draft> for Mail {
    type Error = MailError;

    fn try_from(draft: Draft) -> Result<Self, MailError> {
        let mail = Self {
            from: draft.from,
            reply_to: draft.reply_to,
            to: draft.to,
            cc: draft.cc,
            bcc: draft.bcc,
            subject: draft.subject.ok_or(MailError::NoSubject)?,
            text: draft.text.filter(|text| !text.trim().is_empty()),
            html: draft.html.filter(|html| !html.trim().is_empty()),
            headers: draft.headers,
            attachments: draft.attachments,
            metadata: draft.metadata,
            tag: draft.tag,
        };
        check_recipients(&mail)?;
        check_bodies(&mail)?;
        check_headers(&mail)?;
        check_attachments(&mail)?;
        check_metadata(&mail.metadata)?;
        if mail.tag().is_some_and(|tag| !is_word(tag, Self::TAG_LIMIT)) {
            return Err(MailError::Tag);
        }
        Ok(mail)
    }
}

fn at_most(field: &'static str, found: usize, limit: usize) -> Result<(), MailError> {
    if found > limit { Err(MailError::TooMuch { field, found, limit }) } else { Ok(()) }
}

/// Whether nothing is in the list twice. For lists that were found short enough.
fn is_unique<T>(items: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    let mut rest = items;
    while let Some((first, others)) = rest.split_first() {
        if others.iter().any(|other| same(first, other)) {
            return false;
        }
        rest = others;
    }
    true
}

fn check_recipients(mail: &Mail) -> Result<(), MailError> {
    if mail.to.is_empty() {
        return Err(MailError::NoRecipient);
    }
    at_most("recipients", mail.recipients().count(), Mail::RECIPIENT_LIMIT)?;
    at_most("reply_to", mail.reply_to.len(), Mail::REPLY_TO_LIMIT)?;
    let recipients: Vec<_> = mail.recipients().collect();
    let unique = is_unique(&recipients, |one, other| one.is_same_mailbox(other));
    unique.then_some(()).ok_or(MailError::DuplicateRecipient)
}

fn check_bodies(mail: &Mail) -> Result<(), MailError> {
    let (text, html) = (mail.text().unwrap_or_default(), mail.html().unwrap_or_default());
    if text.is_empty() && html.is_empty() {
        return Err(MailError::NoBody);
    }
    at_most("text", text.len(), Mail::BODY_LIMIT)?;
    at_most("html", html.len(), Mail::BODY_LIMIT)?;
    if text.contains('\0') || html.contains('\0') {
        return Err(MailError::NulInBody);
    }
    Ok(())
}

fn check_headers(mail: &Mail) -> Result<(), MailError> {
    at_most("headers", mail.headers.len(), Mail::HEADER_LIMIT)?;
    let bytes = mail.headers.iter().map(|(name, text)| name.as_str().len() + text.len()).sum();
    at_most("header_bytes", bytes, Mail::HEADER_BYTES_LIMIT)?;
    let unique = is_unique(&mail.headers, |(one, _), (other, _)| one == other);
    unique.then_some(()).ok_or(MailError::DuplicateHeader)
}

fn check_attachments(mail: &Mail) -> Result<(), MailError> {
    at_most("attachments", mail.attachments.len(), Mail::ATTACHMENT_LIMIT)?;
    let bytes = mail.attachments.iter().map(|attachment| attachment.content().len()).sum();
    at_most("attachment_bytes", bytes, Attachment::CONTENT_LIMIT)?;
    let ids: Vec<_> = mail.attachments.iter().filter_map(Attachment::content_id).collect();
    let unique = is_unique(&ids, |one, other| one == other);
    unique.then_some(()).ok_or(MailError::DuplicateContentId)
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), MailError> {
    at_most("metadata", metadata.len(), Mail::METADATA_LIMIT)?;
    let bytes = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    at_most("metadata_bytes", bytes, Mail::METADATA_BYTES_LIMIT)?;
    for (key, value) in metadata {
        if !is_word(key, Mail::METADATA_KEY_LIMIT) || key == super::provider::MAIL_ID {
            return Err(MailError::MetadataKey);
        }
        let known = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        let fits = (1..=Mail::METADATA_VALUE_LIMIT).contains(&value.len());
        if !fits || !value.bytes().all(known) {
            return Err(MailError::MetadataValue);
        }
    }
    Ok(())
}

/// 1 to `limit` letters, digits, `-` and `_`: what every provider takes for a name.
fn is_word(text: &str, limit: usize) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=limit).contains(&text.len()) && text.bytes().all(known)
}
