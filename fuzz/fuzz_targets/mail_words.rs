//! What people write as addresses, names and subjects. What is taken is taken again, and gives a
//! message of SMTP no other header. A byte that no text has, 0xFF, parts them: mailbox, subject, a
//! header's name, a file's.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use steadfast_actors::mailer::provider::{MailProvider, Smtp, SmtpSecurity};
use steadfast_actors::mailer::{
    Attachment, EmailAddress, HeaderName, HeaderText, Mail, MailId, Mailbox,
};

/// What may begin a line of the head, in lower case.
const HEAD: [&str; 11] = [
    "from",
    "to",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "x-words",
    "x-tag",
];

fn smtp() -> &'static Smtp {
    static SMTP: OnceLock<Smtp> = OnceLock::new();
    SMTP.get_or_init(|| Smtp::new("127.0.0.1", SmtpSecurity::None).unwrap())
}

/// In the message's head, every line that is not folded is one of ours.
fn check_head(message: &[u8], own: Option<&str>) {
    let text = std::str::from_utf8(message).expect("a message is ASCII");
    assert!(text.is_ascii(), "a message is ASCII");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']), "bare ends of lines");
    assert!(text.lines().all(|line| line.len() <= 998), "RFC 5322, 2.1.1");
    let (head, _) = text.split_once("\r\n\r\n").expect("a message has a body");
    for line in head.split("\r\n").filter(|line| !line.starts_with([' ', '\t'])) {
        let (name, _) = line.split_once(':').expect("a header has a colon");
        let name = name.to_ascii_lowercase();
        let is_own = own.is_some_and(|own| own.eq_ignore_ascii_case(&name));
        assert!(is_own || HEAD.contains(&name.as_str()), "{name} came from somewhere");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let parts: Result<Vec<&str>, _> =
        bytes.split(|byte| *byte == 0xFF).map(std::str::from_utf8).collect();
    let Ok(&[written, subject, name, file]) = parts.as_deref() else { return };
    if let Ok(address) = EmailAddress::parse(written) {
        assert_eq!(EmailAddress::parse(address.as_str()), Ok(address.clone()));
        assert!(address.as_str().is_ascii());
        assert!(address.as_str().len() <= EmailAddress::LIMIT);
        assert!(!address.as_str().contains([' ', ',', ';', '<', '>', '"', '\r', '\n']));
    }
    let subject = HeaderText::new(subject);
    let Ok(mailbox) = Mailbox::parse(written) else { return };
    // An encoded word is not decoded again, so a name in other letters comes back otherwise, and so
    // does one that looks like an encoded word.
    let is_encoded = |name: &str| !name.is_ascii() || name.contains("=?");
    if !mailbox.name.as_ref().is_some_and(|name| is_encoded(name.as_str())) {
        let again = Mailbox::parse(&mailbox.rfc5322());
        let again = again.expect("what was written can be read");
        assert_eq!(again.address, mailbox.address);
    }
    let Ok(subject) = subject else { return };
    let mut mail = Mail::builder(mailbox.clone(), [mailbox]).subject(subject.clone()).text("x");
    let name = HeaderName::new(name).ok();
    if let Some(name) = &name {
        mail = mail.header(name.clone(), subject);
    }
    if let Ok(file) = Attachment::new(file, "text/plain", *b"x") {
        mail = mail.attach(file);
    }
    let Ok(mail) = mail.build() else { return };
    if let Ok(request) = smtp().encode(MailId::from_bytes([1; 16]), &mail) {
        check_head(&request.body, name.as_ref().map(HeaderName::as_str));
    }
});
