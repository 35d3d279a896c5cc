//! What a page shows of a mail.

use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::header::HttpDate;
use serde::Serialize;
use steadfast_actors::mailer::provider::DevMail;
use steadfast_actors::mailer::{Mail, MailId, Mailbox};
use steadfast_actors::store::Timestamp;

/// A mail in the list.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    id: MailId,
    at: Timestamp,
    when: String,
    from: String,
    to: Vec<String>,
    subject: String,
    attachments: usize,
}

/// A mail on its own page.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    base: &'static str,
    id: MailId,
    at: Timestamp,
    when: String,
    from: String,
    /// By the name of their field.
    recipients: Vec<(&'static str, Vec<String>)>,
    subject: String,
    headers: Vec<(String, String)>,
    metadata: Vec<(String, String)>,
    tag: Option<String>,
    text: Option<String>,
    has_html: bool,
    html: Option<String>,
    attachments: Vec<File>,
}

#[derive(Debug, Serialize)]
struct File {
    name: String,
    content_type: String,
    content_id: Option<String>,
    bytes: usize,
    href: String,
}

impl Listed {
    pub(super) fn new(kept: &DevMail) -> Self {
        Self {
            id: kept.id,
            at: kept.at,
            when: when(kept.at),
            from: readable(kept.mail.from()),
            to: all(kept.mail.to()),
            subject: kept.mail.subject().to_string(),
            attachments: kept.mail.attachments().len(),
        }
    }
}

impl Shown {
    pub(super) fn new(kept: &DevMail, base: &'static str) -> Self {
        let DevMail { id, mail, at } = kept;
        let recipients = [
            ("To", mail.to()),
            ("Cc", mail.cc()),
            ("Bcc", mail.bcc()),
            ("Reply-To", mail.reply_to()),
        ];
        let headers = mail.headers().iter();
        let attachments = mail.attachments().iter().enumerate().map(|(number, file)| File {
            name: file.name().to_owned(),
            content_type: file.content_type().to_owned(),
            content_id: file.content_id().map(str::to_owned),
            bytes: file.content().len(),
            href: format!("{base}/{id}/attachments/{number}"),
        });
        Self {
            base,
            id: *id,
            at: *at,
            when: when(*at),
            from: readable(mail.from()),
            recipients: recipients.map(|(name, mailboxes)| (name, all(mailboxes))).to_vec(),
            subject: mail.subject().to_string(),
            headers: headers
                .map(|(name, text)| (name.as_str().to_owned(), text.to_string()))
                .collect(),
            metadata: mail.metadata().clone().into_iter().collect(),
            tag: mail.tag().map(str::to_owned),
            text: mail.text().map(str::to_owned),
            has_html: mail.html().is_some(),
            html: mail.html().map(str::to_owned),
            attachments: attachments.collect(),
        }
    }
}

fn when(at: Timestamp) -> String {
    let since = Duration::from_millis(u64::try_from(at.0).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).map(|at| HttpDate::from(at).to_string()).unwrap_or_default()
}

/// For people: names as they are, not as they stand in a header.
fn readable(mailbox: &Mailbox) -> String {
    match &mailbox.name {
        None => mailbox.address.as_str().to_owned(),
        Some(name) => format!("{} <{}>", name.as_str(), mailbox.address.as_str()),
    }
}

fn all(mailboxes: &[Mailbox]) -> Vec<String> {
    mailboxes.iter().map(readable).collect()
}

/// The HTML of a mail, with the pictures that it carries where it names them as `cid:…`.
pub(super) fn shown_html(mail: &Mail, place: &str) -> Option<String> {
    let files = mail.attachments().iter().enumerate();
    let mut pictures: Vec<_> =
        files.filter_map(|(n, file)| Some((file.content_id()?, n))).collect();
    // ORDER: `logo2` before `logo`, with which it begins.
    pictures.sort_by_key(|(content_id, _)| std::cmp::Reverse(content_id.len()));
    let show = |html: String, (content_id, n): (&str, usize)| {
        html.replace(&format!("cid:{content_id}"), &format!("{place}/attachments/{n}"))
    };
    mail.html().map(|html| pictures.into_iter().fold(html.to_owned(), show))
}

/// As what a file is sent. Only pictures are what they say, so that a mail can show them; no
/// browser takes anything else for a page or a script.
pub(super) fn media_type(claimed: &str) -> &'static str {
    let essence = claimed.split(';').next().unwrap_or_default().trim();
    let known = ["image/png", "image/jpeg", "image/gif", "image/webp"];
    known.into_iter().find(|known| essence.eq_ignore_ascii_case(known)).unwrap_or(BYTES)
}

const BYTES: &str = "application/octet-stream";

/// A download under this name (RFC 6266): in ASCII for old programs, and whole for all others
/// (RFC 8187).
pub(super) fn disposition(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    let ascii: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let mut whole = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            whole.push(char::from(byte));
        } else {
            whole += &format!("%{byte:02X}");
        }
    }
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{whole}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leaves_its_quotes_nowhere() {
        let name = "a\"; filename=\"evil.exe\r\n\u{202e}ä.pdf";
        let header = disposition(name);
        let (ascii, whole) = header.split_once("; filename*=UTF-8''").unwrap();
        assert_eq!(ascii, "attachment; filename=\"a__ filename__evil.exe____.pdf\"");
        assert_eq!(whole, "a%22%3B%20filename%3D%22evil.exe%0D%0A%E2%80%AE%C3%A4.pdf");
    }

    #[test]
    fn only_pictures_are_what_they_say() {
        assert_eq!(media_type("IMAGE/PNG; x=y"), "image/png");
        for claimed in ["text/html", "image/svg+xml", "application/javascript", "image/png2", ""] {
            assert_eq!(media_type(claimed), BYTES, "{claimed}");
        }
    }
}
