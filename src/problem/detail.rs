//! What a client may read of a deserializer's message.
//!
//! serde's messages name what was found and what was expected. What was expected is often a Rust
//! type, and what was found is the client's own value, however long or secret. So the message is
//! taken apart, and only what is known to be harmless is put together again.

use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};
use steadfast_actors::kernel::Code;

use super::Problem;

/// LIMIT: a longer text was not written for a client to read.
const TEXT_MAX: usize = 200;

/// The problem of a JSON body that could not be read. `path` leads to the mistake, if known.
pub(crate) fn from_json(error: &serde_json::Error, path: Option<&Path>) -> Problem {
    let located = |problem: Problem| {
        let line = if error.line() == 0 { None } else { Some(error.line()) };
        match line {
            Some(line) => problem.with("line", line).with("column", error.column()),
            None => problem,
        }
    };
    match error.classify() {
        Category::Data => located(invalid_json(error, path)),
        Category::Syntax | Category::Eof => located(Problem::known(Code::new("json.syntax"))),
        Category::Io => Problem::known(Code::new("body.unreadable")),
    }
}

/// The problem of a body that is JSON, but not the JSON that was asked for.
pub(crate) fn invalid_json(error: &serde_json::Error, path: Option<&Path>) -> Problem {
    let text = readable(&error.to_string());
    let pointer = path.map(pointer).unwrap_or_default();
    let kind = kind(&text);
    let problem = Problem::known(Code::new("json.invalid")).with_detail(text.clone());
    problem.with_error(pointer, kind, text)
}

/// A JSON Pointer (RFC 6901).
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            // A variant is a part of its value, or a member that was already named.
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// A stable word for the kind of mistake.
fn kind(text: &str) -> &'static str {
    const KINDS: [(&str, &str); 7] = [
        ("missing field", "missing"),
        ("unknown field", "unknown"),
        ("duplicate field", "duplicate"),
        ("unknown variant", "not_one_of"),
        ("invalid type", "type"),
        ("invalid length", "length"),
        ("invalid value", "value"),
    ];
    let known = KINDS.iter().find(|(start, _)| text.starts_with(start));
    known.map_or("invalid", |(_, kind)| kind)
}

/// The message without Rust types, positions and the client's own value.
pub(crate) fn readable(message: &str) -> String {
    let message = match message.rfind(" at line ") {
        Some(end) => message.get(..end).unwrap_or(message),
        None => message,
    };
    for start in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some(rest) = message.strip_prefix(start) {
            return mismatch(start, rest);
        }
    }
    let harmless = message.len() <= TEXT_MAX
        && !message.contains("::")
        && !message.starts_with("can not parse")
        && !message.chars().any(char::is_control);
    if harmless { message.to_owned() } else { "not a valid value".to_owned() }
}

/// `found, expected wanted`, where `found` may quote the client and `wanted` may name a type.
fn mismatch(start: &str, rest: &str) -> String {
    let (found, wanted) = match rest.rfind(", expected ") {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let found = found.split(['"', '`']).next().unwrap_or_default().trim_end();
    let wanted = wanted.strip_prefix(", expected ").and_then(plain_words);
    match wanted {
        Some(wanted) => format!("{start}{found}, expected {wanted}"),
        None => format!("{start}{found}"),
    }
}

/// What a deserializer of the standard library wants, in words that are not Rust.
fn plain_words(wanted: &str) -> Option<&'static str> {
    Some(match wanted {
        "a string" | "a borrowed string" | "string" | "str" => "a string",
        "a boolean" | "bool" => "a boolean",
        "a character" => "a character",
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "an array",
        "a map" => "an object",
        "unit" => "null",
        _ if wanted.starts_with("struct ") => "an object",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SecretTypeName {
        #[serde(rename = "a/b~c", default)]
        _odd: u8,
        #[serde(default)]
        _list: Vec<Item>,
        #[serde(default)]
        _map: BTreeMap<String, bool>,
        _needed: String,
    }

    #[derive(Debug, Deserialize)]
    struct Item {
        _kind: HiddenEnum,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum HiddenEnum {
        One,
        Two,
    }

    #[track_caller]
    fn check(json: &str, code: &str, pointer: Option<&str>, detail: &str) {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let error = serde_path_to_error::deserialize::<_, SecretTypeName>(&mut deserializer);
        let error = error.unwrap_err();
        let path = error.path().clone();
        let problem = from_json(error.inner(), Some(&path));
        assert_eq!(problem.code().as_str(), code, "for {json}");
        let found = problem.errors().first().map(|error| error.pointer.as_str());
        assert_eq!(found, pointer, "for {json}");
        assert_eq!(problem.detail().unwrap_or_default(), detail, "for {json}");
    }

    #[test]
    fn a_mistake_in_the_data_is_pointed_at_without_rust_words() {
        let invalid = "json.invalid";
        check(
            r#"{"a/b~c":"x"}"#,
            invalid,
            Some("/a~1b~0c"),
            "invalid type: string, expected a whole number that is not negative",
        );
        check(
            r#"{"a/b~c":300}"#,
            invalid,
            Some("/a~1b~0c"),
            "invalid value: integer, expected a whole number that is not negative",
        );
        check(
            r#"{"_list":[{"_kind":"one"},{"_kind":"six"}]}"#,
            invalid,
            Some("/_list/1/_kind"),
            "unknown variant `six`, expected `one` or `two`",
        );
        check(
            r#"{"_list":[7]}"#,
            invalid,
            Some("/_list/0"),
            "invalid type: integer, expected an object",
        );
        check(
            r#"{"_map":{"x":"secret, expected u8"}}"#,
            invalid,
            Some("/_map/x"),
            "invalid type: string, expected a boolean",
        );
        check("{}", invalid, Some(""), "missing field `_needed`");
        check("7", invalid, Some(""), "invalid type: integer, expected an object");
    }

    #[test]
    fn what_is_not_json_is_a_matter_of_syntax() {
        for json in ["", "{", "{\"_needed\":", "x"] {
            check(json, "json.syntax", None, "");
        }
    }

    #[test]
    fn texts_that_were_not_written_for_clients_are_withheld() {
        let withheld = "not a valid value";
        assert_eq!(readable("can not parse \"abc\" to a u32"), withheld);
        assert_eq!(readable("shop::Money overflowed"), withheld);
        assert_eq!(readable("two\nlines"), withheld);
        assert_eq!(readable(&"x".repeat(TEXT_MAX)), "x".repeat(TEXT_MAX));
        assert_eq!(readable(&"x".repeat(TEXT_MAX + 1)), withheld);
        assert_eq!(readable("ms is at most 60000"), "ms is at most 60000");
    }

    #[test]
    fn each_kind_of_mistake_has_a_stable_word() {
        for (text, word) in [
            ("missing field `a`", "missing"),
            ("unknown variant `a`", "not_one_of"),
            ("invalid type: map", "type"),
            ("anything else", "invalid"),
        ] {
            assert_eq!(kind(text), word);
        }
    }
}
