//! Names and texts of headers.

use super::*;

#[test]
fn names_that_a_mail_writes_itself_are_refused() {
    for name in ["Bcc", "to", "FROM", "Subject", "Reply-To", "Content-Type", "content-id", "Date"] {
        assert_eq!(HeaderName::new(name).unwrap_err(), HeaderError::Reserved, "{name}");
    }
    for name in ["X-Bcc", "References", "In-Reply-To", "List-Unsubscribe", "Auto-Submitted"] {
        assert_eq!(HeaderName::new(name).unwrap().as_str(), name);
    }
    for name in ["X Order", "X:Order", "X-Örder", " X", "X\r\nBcc", "X\0"] {
        assert_eq!(HeaderName::new(name).unwrap_err(), HeaderError::InvalidName, "{name}");
    }
    assert_eq!(HeaderName::new("").unwrap_err(), HeaderError::Empty);
    assert_eq!(HeaderName::new("x-order").unwrap(), HeaderName::new("X-Order").unwrap());
}

#[test]
fn names_and_texts_are_refused_one_past_their_limits() {
    assert!(HeaderName::new("x".repeat(76)).is_ok());
    let error = HeaderError::TooLong { bytes: 77, limit: 76 };
    assert_eq!(HeaderName::new("x".repeat(77)).unwrap_err(), error);
    assert!(HeaderText::new("x".repeat(998)).is_ok());
    let error = HeaderError::TooLong { bytes: 999, limit: 998 };
    assert_eq!(HeaderText::new("x".repeat(999)).unwrap_err(), error);
    // Bytes, not characters.
    assert!(HeaderText::new("ä".repeat(499)).is_ok());
    assert!(HeaderText::new("ä".repeat(500)).is_err());
}

#[test]
fn white_space_at_the_ends_is_taken_off_but_no_line_end_is() {
    assert_eq!(HeaderText::new("  a  b ").unwrap().as_str(), "a  b");
    assert_eq!(HeaderText::new("   ").unwrap_err(), HeaderError::Empty);
    for text in ["a\n", "\ra", "a\tb", "a\u{7f}", "a\u{85}b", "a\u{2028}b", "a\u{2029}"] {
        assert_eq!(HeaderText::new(text).unwrap_err(), HeaderError::ControlCharacter, "{text:?}");
    }
}
