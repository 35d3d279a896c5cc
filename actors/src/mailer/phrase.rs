//! How a name or another text is written in a header: quoted, or in encoded words.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::address::is_atom;

/// LIMIT: an encoded word has 75 characters at most (RFC 2047, 2); `=?utf-8?B?` and `?=` are 12 of
/// them, and 60 characters of base64 hold 45 bytes.
const ENCODED_WORD_BYTES: usize = 45;

/// A display name as it stands before an address: atoms as they are, anything else in ASCII as a
/// quoted string, the rest in encoded words.
pub(super) fn phrase(name: &str) -> Cow<'_, str> {
    // What looks like an encoded word would be decoded.
    if !name.is_ascii() || name.contains("=?") {
        return Cow::Owned(encoded_words(name));
    }
    let atoms = name.bytes().all(|byte| is_atom(byte) || byte == b' ');
    if atoms { Cow::Borrowed(name) } else { Cow::Owned(quoted(name)) }
}

/// The value of a header that is free text: as it stands, or in encoded words when it is not
/// ASCII or could be taken for one.
pub(super) fn unstructured(text: &str) -> Cow<'_, str> {
    if text.is_ascii() && !text.contains("=?") {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(encoded_words(text))
    }
}

/// A quoted string (RFC 5322, 3.2.4).
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

/// Encoded words in base64 (RFC 2047, 4.1), none of which splits a character (5).
pub(super) fn encoded_words(text: &str) -> String {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, remaining) = rest.split_at(boundary(rest, ENCODED_WORD_BYTES));
        words.push(format!("=?utf-8?B?{}?=", BASE64.encode(word)));
        rest = remaining;
    }
    words.join(" ")
}

/// The last boundary between characters at or before `at`; `str::floor_char_boundary` is newer
/// than the oldest compiler that we promise.
fn boundary(text: &str, at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// Takes the quotes off a quoted string; a text without quotes is left as it is. [`None`] when it
/// begins or ends with a quote that is not closed or opened.
pub(super) fn unquote(text: &str) -> Option<Cow<'_, str>> {
    if !text.starts_with('"') {
        return (!text.ends_with('"')).then_some(Cow::Borrowed(text));
    }
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut unquoted = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => unquoted.push(characters.next()?),
            '"' => return None,
            other => unquoted.push(other),
        }
    }
    Some(Cow::Owned(unquoted))
}
