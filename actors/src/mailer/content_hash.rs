//! Whether two mails are the same.

use sha2::{Digest, Sha256};

use super::address::Mailbox;
use super::mail::Mail;

/// SHA-256 over an unambiguous writing of a mail: every list begins with its length, every text
/// with its length in bytes, every option with whether it is there.
pub(super) fn content_hash(mail: &Mail) -> [u8; 32] {
    let mut writing = Writing(Sha256::new());
    // Names the writing: one that changes gets another name, and so another hash.
    writing.text("steadfast.mail.1");
    writing.mailbox(mail.from());
    for list in [mail.reply_to(), mail.to(), mail.cc(), mail.bcc()] {
        writing.list(list, |writing, mailbox| writing.mailbox(mailbox));
    }
    writing.text(mail.subject());
    writing.option(mail.text());
    writing.option(mail.html());
    writing.list(mail.headers(), |writing, (name, text)| {
        writing.text(name.as_str());
        writing.text(text);
    });
    writing.list(mail.attachments(), |writing, attachment| {
        writing.text(attachment.name());
        writing.text(attachment.content_type());
        writing.bytes(attachment.content());
        writing.option(attachment.content_id());
    });
    writing.count(mail.metadata().len());
    for (key, value) in mail.metadata() {
        writing.text(key);
        writing.text(value);
    }
    writing.option(mail.tag());
    writing.0.finalize().into()
}

struct Writing(Sha256);

impl Writing {
    fn count(&mut self, count: usize) {
        self.0.update((count as u64).to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn option(&mut self, text: Option<&str>) {
        self.0.update([u8::from(text.is_some())]);
        if let Some(text) = text {
            self.text(text);
        }
    }

    fn list<T>(&mut self, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.count(items.len());
        for item in items {
            each(self, item);
        }
    }

    fn mailbox(&mut self, mailbox: &Mailbox) {
        self.option(mailbox.name.as_deref());
        self.text(mailbox.address.as_str());
    }
}
