//! A mail as MIME.

use std::time::{Duration, SystemTime};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{
    Attachment as File, Mailbox as LettreMailbox, Message, MultiPart, SinglePart,
};
use lettre::{Address, address::Envelope};
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::mailer::phrase::unstructured;
use crate::mailer::provider::{EncodeError, json};
use crate::mailer::{Attachment, EmailAddress, Mail, MailId, Mailbox};

/// The same mail gives the same bytes: date, number and boundaries come from the mail. Nothing
/// names who gets a hidden copy.
pub(super) fn message(id: MailId, mail: &Mail) -> Result<Vec<u8>, EncodeError> {
    let to = mail.recipients().map(address).collect::<Result<_, _>>()?;
    let envelope =
        Envelope::new(Some(address(&mail.from().address)?), to).map_err(|_refused| REFUSED)?;
    let sent = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(id.created_ms()));
    let domain = mail.from().address.domain();
    let mut builder = Message::builder()
        .envelope(envelope)
        .from(mailbox(mail.from())?)
        .date(sent.unwrap_or(SystemTime::UNIX_EPOCH))
        .message_id(Some(format!("<{id}@{domain}>")))
        .raw_header(header("Subject", &unstructured(mail.subject()))?);
    for to in mail.to() {
        builder = builder.to(mailbox(to)?);
    }
    for cc in mail.cc() {
        builder = builder.cc(mailbox(cc)?);
    }
    for reply_to in mail.reply_to() {
        builder = builder.reply_to(mailbox(reply_to)?);
    }
    json::check_metadata_header(mail)?;
    for (name, value) in json::headers(mail) {
        builder = builder.raw_header(header(name, &value)?);
    }
    if let Some(metadata) = json::metadata_header(mail) {
        builder = builder.raw_header(header(json::METADATA_HEADER, &metadata)?);
    }
    if let Some(tag) = mail.tag() {
        builder = builder.raw_header(header("X-Tag", tag)?);
    }
    let message = match (Parts { id, mail }).whole()? {
        Part::Single(part) => builder.singlepart(part),
        Part::Multi(part) => builder.multipart(part),
    };
    Ok(message.map_err(|_refused| REFUSED)?.formatted())
}

/// What was checked here is refused by the writer of messages: a difference of opinion.
const REFUSED: EncodeError = EncodeError::Unsupported { what: "this mail as a message" };

fn address(address: &EmailAddress) -> Result<Address, EncodeError> {
    address
        .as_str()
        .parse()
        .map_err(|_refused| EncodeError::Unsupported { what: "one of the addresses" })
}

fn mailbox(mailbox: &Mailbox) -> Result<LettreMailbox, EncodeError> {
    let name = mailbox.name.as_deref().map(str::to_owned);
    Ok(LettreMailbox::new(name, address(&mailbox.address)?))
}

fn header(name: &str, value: &str) -> Result<HeaderValue, EncodeError> {
    let name = HeaderName::new_from_ascii(name.to_owned()).map_err(|_refused| REFUSED)?;
    Ok(HeaderValue::new(name, value.to_owned()))
}

enum Part {
    Single(SinglePart),
    Multi(MultiPart),
}

struct Parts<'a> {
    id: MailId,
    mail: &'a Mail,
}

impl Parts<'_> {
    /// Files beside the bodies, if there are any.
    fn whole(&self) -> Result<Part, EncodeError> {
        let bodies = self.bodies()?;
        let mut files = self.files(false).peekable();
        if files.peek().is_none() {
            return Ok(bodies);
        }
        let mixed = MultiPart::mixed().boundary(self.boundary("mixed"));
        let mixed = match bodies {
            Part::Single(part) => mixed.singlepart(part),
            Part::Multi(part) => mixed.multipart(part),
        };
        files.try_fold(mixed, |mixed, file| Ok(mixed.singlepart(file?))).map(Part::Multi)
    }

    /// The text, the HTML, or the choice between them.
    fn bodies(&self) -> Result<Part, EncodeError> {
        let text = self.mail.text().map(|text| SinglePart::plain(text.to_owned()));
        let html = self.mail.html().map(|html| self.html(html)).transpose()?;
        match (text, html) {
            (Some(text), None) => Ok(Part::Single(text)),
            (None, Some(html)) => Ok(html),
            (Some(text), Some(html)) => {
                let choice = MultiPart::alternative().boundary(self.boundary("alternative"));
                let choice = choice.singlepart(text);
                Ok(Part::Multi(match html {
                    Part::Single(part) => choice.singlepart(part),
                    Part::Multi(part) => choice.multipart(part),
                }))
            }
            (None, None) => Err(REFUSED),
        }
    }

    /// The HTML with the files that it shows.
    fn html(&self, html: &str) -> Result<Part, EncodeError> {
        let html = SinglePart::html(html.to_owned());
        let mut files = self.files(true).peekable();
        if files.peek().is_none() {
            return Ok(Part::Single(html));
        }
        let related = MultiPart::related().boundary(self.boundary("related")).singlepart(html);
        files.try_fold(related, |related, file| Ok(related.singlepart(file?))).map(Part::Multi)
    }

    /// Files that the HTML shows, or the others. Without HTML there are only others.
    fn files(&self, inline: bool) -> impl Iterator<Item = Result<SinglePart, EncodeError>> {
        let has_html = self.mail.html().is_some();
        let shown = move |file: &&Attachment| has_html && file.content_id().is_some();
        self.mail.attachments().iter().filter(move |file| shown(file) == inline).map(file)
    }

    /// A boundary that nobody who writes a part can have put there: a hash of all of it.
    fn boundary(&self, kind: &str) -> String {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(kind)
            .chain_update(self.id.as_bytes())
            .chain_update(self.mail.content_hash())
            .finalize()
            .into();
        format!("steadfast{}", hex(&hash[..24]))
    }
}

fn file(file: &Attachment) -> Result<SinglePart, EncodeError> {
    let content_type = ContentType::parse(file.content_type())
        .map_err(|_refused| EncodeError::Unsupported { what: "the content type of a file" })?;
    let name = file.name().to_owned();
    let part = match file.content_id() {
        Some(content_id) => File::new_inline_with_name(content_id.to_owned(), name),
        None => File::new(name),
    };
    Ok(part.body(file.content().to_vec(), content_type))
}
