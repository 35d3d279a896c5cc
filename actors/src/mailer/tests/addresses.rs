//! What is an address, and how it stands in a header.

use super::*;
use crate::kernel::Fault as _;

#[test]
fn domains_of_any_script_are_kept_as_dns_takes_them() {
    for (given, kept) in [
        ("a@example.com", "a@example.com"),
        ("A.b+c@EXAMPLE.com", "A.b+c@example.com"),
        ("a@příklad.example.cz", "a@xn--pklad-zsa96e.example.cz"),
        ("a@PŘÍKLAD.example.cz", "a@xn--pklad-zsa96e.example.cz"),
        ("a@xn--pklad-zsa96e.example.cz", "a@xn--pklad-zsa96e.example.cz"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@例え.テスト", "a@xn--r8jz45g.xn--zckzah"),
        ("a@example。com", "a@example.com"),
        ("!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~@example.com"),
        ("root@localhost", "root@localhost"),
    ] {
        assert_eq!(EmailAddress::parse(given).unwrap().as_str(), kept, "{given}");
    }
}

#[test]
fn what_is_no_address_is_refused_with_the_reason() {
    for (given, error) in [
        ("", AddressError::Syntax),
        ("a", AddressError::Syntax),
        ("@example.com", AddressError::Syntax),
        ("a@", AddressError::Domain),
        ("a@b@example.com", AddressError::Local),
        (".a@example.com", AddressError::Local),
        ("a.@example.com", AddressError::Local),
        ("a..b@example.com", AddressError::Local),
        ("a b@example.com", AddressError::Local),
        ("\"a b\"@example.com", AddressError::Local),
        ("a(c)@example.com", AddressError::Local),
        ("a,b@example.com", AddressError::Local),
        ("a\r\nBcc: x@example.com", AddressError::Local),
        ("ä@example.com", AddressError::NonAsciiLocal),
        ("a@[127.0.0.1]", AddressError::Domain),
        ("a@127.0.0.1", AddressError::Domain),
        ("a@-example.com", AddressError::Domain),
        ("a@exa mple.com", AddressError::Domain),
        ("a@exa_mple.com", AddressError::Domain),
        ("a@example..com", AddressError::Domain),
        ("a@example.com.", AddressError::Domain),
        ("a@example.com\n", AddressError::Domain),
        ("a@example.com\0", AddressError::Domain),
        ("a@xn--a", AddressError::Domain),
    ] {
        assert_eq!(EmailAddress::parse(given), Err(error), "{given:?}");
    }
}

#[test]
fn an_address_is_refused_one_past_each_of_its_limits() {
    let local = |bytes: usize| format!("{}@example.com", "a".repeat(bytes));
    assert!(EmailAddress::parse(&local(64)).is_ok());
    let error = AddressError::TooLong { bytes: 65, limit: 64 };
    assert_eq!(EmailAddress::parse(&local(65)), Err(error));

    let whole = |last: usize| {
        let label = "d".repeat(63);
        format!("{}@{label}.{label}.{}", "a".repeat(64), "e".repeat(last))
    };
    assert_eq!(EmailAddress::parse(&whole(61)).unwrap().as_str().len(), 254);
    let error = AddressError::TooLong { bytes: 255, limit: 254 };
    assert_eq!(EmailAddress::parse(&whole(62)), Err(error));
    let label = format!("a@{}.com", "d".repeat(64));
    assert_eq!(EmailAddress::parse(&label), Err(AddressError::Domain));
    let huge = format!("a@{}", "d.".repeat(1_000_000));
    assert_eq!(EmailAddress::parse(&huge), Err(AddressError::Domain));
}

#[test]
fn addresses_that_differ_in_case_have_one_hash() {
    let one = EmailAddress::parse("Jane@example.com").unwrap();
    let other = EmailAddress::parse("jANE@Example.com").unwrap();
    assert_ne!(one, other);
    assert!(one.is_same_mailbox(&other));
    assert_eq!(one.hash(), other.hash());
    assert_ne!(one.hash(), EmailAddress::parse("jan@example.com").unwrap().hash());
}

#[test]
fn names_are_quoted_or_encoded_where_they_must_be() {
    for (given, header) in [
        ("jane@example.com", "jane@example.com"),
        ("<jane@example.com>", "jane@example.com"),
        ("\"\" <jane@example.com>", "\"\" <jane@example.com>"),
        ("Jane Doe <jane@example.com>", "Jane Doe <jane@example.com>"),
        ("  Jane   <jane@example.com> ", "Jane <jane@example.com>"),
        ("Doe, Jane <jane@example.com>", "\"Doe, Jane\" <jane@example.com>"),
        ("\"Doe, Jane\" <jane@example.com>", "\"Doe, Jane\" <jane@example.com>"),
        ("J. R. <jane@example.com>", "\"J. R.\" <jane@example.com>"),
        (r#""a \"b\" \\c" <jane@example.com>"#, r#""a \"b\" \\c" <jane@example.com>"#),
        ("a@b.example <jane@example.com>", "\"a@b.example\" <jane@example.com>"),
        ("Zoë <zoe@example.org>", "=?utf-8?B?Wm/Dqw==?= <zoe@example.org>"),
        ("=?utf-8?q?x?= <a@example.com>", "=?utf-8?B?PT91dGYtOD9xP3g/PQ==?= <a@example.com>"),
    ] {
        match Mailbox::parse(given) {
            Ok(mailbox) => assert_eq!(mailbox.rfc5322(), header, "{given}"),
            Err(AddressError::Name(HeaderError::Empty)) => assert!(given.starts_with("\"\"")),
            Err(error) => panic!("{given}: {error}"),
        }
    }
    for given in ["Jane jane@example.com>", "\"Jane <jane@example.com>", "Ja\"ne\" <j@example.com>"]
    {
        assert_eq!(Mailbox::parse(given), Err(AddressError::Syntax), "{given}");
    }
}

#[test]
fn a_quoted_name_is_read_back_as_it_was() {
    let name = r#"a "b" \ c, (d) <e@f>"#;
    let address = EmailAddress::parse("a@example.com").unwrap();
    let written = Mailbox::named(name, address).unwrap();
    let read = Mailbox::parse(&written.rfc5322()).unwrap();
    assert_eq!(read, written);
}

#[test]
fn encoded_words_stay_within_75_characters_and_split_no_character() {
    use base64::Engine as _;
    let name = "äöü€🎉".repeat(40);
    let header = Mailbox::named(&name, EmailAddress::parse("a@example.com").unwrap()).unwrap();
    let header = header.rfc5322();
    let words = header.strip_suffix(" <a@example.com>").unwrap();
    let mut decoded = String::new();
    for word in words.split(' ') {
        assert!(word.len() <= 75, "{word}");
        let inner = word.strip_prefix("=?utf-8?B?").unwrap().strip_suffix("?=").unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(inner).unwrap();
        decoded.push_str(&String::from_utf8(bytes).unwrap());
    }
    assert_eq!(decoded, name);
}

#[test]
fn nothing_but_the_domain_is_shown() {
    let mailbox = mailbox("Jane Doe <jane@example.com>");
    let shown = format!("{mailbox:?} {:?} {:?}", mailbox.address, mailbox.name);
    assert_eq!(shown, "Mailbox(…@example.com) …@example.com Some(HeaderText(8 bytes))");
    let shown = format!("{:?} {:#?}", awkward(), awkward().attachments());
    for hidden in ["jane", "Jane", "hidden", "Grüße", "Hällo", "repört", "logo", "welcome"] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
    assert!(!format!("{:?}", plain()).contains("example"));
}

#[test]
fn the_number_of_a_mail_is_read_in_both_forms() {
    let hyphens = "0192f0c1-a2b3-7c4d-8e5f-60718293a4b5";
    assert_eq!(hyphens.parse::<MailId>().unwrap(), id());
    assert_eq!(id().to_string(), ID);
    assert_eq!(serde_json::to_string(&id()).unwrap(), format!("\"{ID}\""));
    assert_eq!(serde_json::from_str::<MailId>(&format!("\"{hyphens}\"")).unwrap(), id());
    assert_eq!(MailId::from_bytes(*id().as_bytes()), id());
    for text in ["", "0192", &format!("{{{hyphens}}}"), &format!("urn:uuid:{hyphens}"), "é"] {
        assert!(text.parse::<MailId>().is_err(), "{text}");
    }
    let (one, other) = (MailId::fresh(), MailId::fresh());
    assert!(one < other);
}

#[test]
fn errors_have_codes_of_the_mailer() {
    assert_eq!(AddressError::Domain.code().as_str(), "mailer.address_domain");
    let name = AddressError::Name(HeaderError::ControlCharacter);
    assert_eq!(name.code().as_str(), "mailer.header_control_character");
    let mail = MailError::Attachment(AttachmentError::Empty);
    assert_eq!(mail.code().as_str(), "mailer.attachment_empty");
}
