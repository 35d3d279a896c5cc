//! A mail as SES takes it.

use serde::Serialize;

use crate::mailer::provider::{EncodeError, MAIL_ID, json};
use crate::mailer::{Attachment, Mail, MailId, Mailbox};

/// LIMIT: the value of a header in characters, which are visible ASCII and spaces.
const HEADER_VALUE_LIMIT: usize = 870;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Body<'a> {
    from_email_address: String,
    destination: Destination,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reply_to_addresses: Vec<String>,
    content: Content<'a>,
    email_tags: Vec<Pair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration_set_name: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Destination {
    to_addresses: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cc_addresses: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bcc_addresses: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Content<'a> {
    simple: Simple<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Simple<'a> {
    subject: Text<'a>,
    body: Parts<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<Pair>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<File<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Parts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<Text<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Text<'a> {
    data: &'a str,
    charset: &'static str,
}

impl<'a> Text<'a> {
    const fn new(data: &'a str) -> Self {
        Self { data, charset: "UTF-8" }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    name: String,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct File<'a> {
    file_name: &'a str,
    raw_content: String,
    content_type: &'a str,
    content_transfer_encoding: &'static str,
    content_disposition: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_id: Option<&'a str>,
}

pub(super) fn body<'a>(
    id: MailId,
    mail: &'a Mail,
    configuration_set_name: Option<&'a str>,
) -> Result<Body<'a>, EncodeError> {
    let all = |mailboxes: &[Mailbox]| mailboxes.iter().map(Mailbox::rfc5322).collect();
    Ok(Body {
        from_email_address: mail.from().rfc5322(),
        destination: Destination {
            to_addresses: all(mail.to()),
            cc_addresses: all(mail.cc()),
            bcc_addresses: all(mail.bcc()),
        },
        reply_to_addresses: all(mail.reply_to()),
        content: Content {
            simple: Simple {
                subject: Text::new(mail.subject()),
                body: Parts { text: mail.text().map(Text::new), html: mail.html().map(Text::new) },
                headers: headers(mail)?,
                attachments: mail.attachments().iter().map(file).collect(),
            },
        },
        email_tags: tags(id, mail),
        configuration_set_name,
    })
}

fn headers(mail: &Mail) -> Result<Vec<Pair>, EncodeError> {
    json::check_metadata_header(mail)?;
    let own = json::headers(mail)
        .map(|(name, value)| Pair { name: name.to_owned(), value: value.into_owned() });
    let metadata = json::metadata_header(mail)
        .map(|value| Pair { name: json::METADATA_HEADER.to_owned(), value });
    let headers: Vec<_> = own.chain(metadata).collect();
    if headers.len() > Mail::HEADER_LIMIT {
        return Err(EncodeError::Unsupported { what: "metadata beside 15 headers" });
    }
    if headers.iter().any(|pair| pair.value.len() > HEADER_VALUE_LIMIT) {
        return Err(EncodeError::Unsupported { what: "a header of more than 870 characters" });
    }
    Ok(headers)
}

fn tags(id: MailId, mail: &Mail) -> Vec<Pair> {
    let number = Pair { name: MAIL_ID.to_owned(), value: id.to_string() };
    let tag = mail.tag().map(|tag| Pair { name: "tag".to_owned(), value: tag.to_owned() });
    std::iter::once(number).chain(tag).collect()
}

fn file(attachment: &Attachment) -> File<'_> {
    let content_id = attachment.content_id();
    File {
        file_name: attachment.name(),
        raw_content: attachment.base64(),
        content_type: attachment.content_type(),
        content_transfer_encoding: "BASE64",
        content_disposition: if content_id.is_some() { "INLINE" } else { "ATTACHMENT" },
        content_id,
    }
}
