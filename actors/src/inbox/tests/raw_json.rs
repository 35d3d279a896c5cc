//! What is JSON, what is too much of it, and what becomes of the bytes.

use std::borrow::Cow;

use bytes::Bytes;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::{JsonLimits, RawJson, RawJsonError};

#[track_caller]
fn check(text: impl AsRef<[u8]>, expected: Result<(), RawJsonError>) {
    let text = text.as_ref();
    let found = RawJson::parse(Bytes::copy_from_slice(text), &JsonLimits::default());
    match (found, expected) {
        (Ok(json), Ok(())) => assert_eq!(&json[..], text),
        (found, expected) => {
            assert_eq!(found.map(drop), expected, "for {:?}", Bytes::copy_from_slice(text));
        }
    }
}

const fn syntax(offset: usize) -> Result<(), RawJsonError> {
    Err(RawJsonError::Syntax { offset })
}

#[test]
fn everything_that_json_allows_is_kept_as_it_came() {
    for text in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1E400",
        "1e-7",
        "0.50",
        "12345678901234567890123",
        "\"\"",
        r#""\u0000""#,
        r#""\ud800""#,
        r#""\ud83d\ude00""#,
        r#""\"\\\/\b\f\n\r\t""#,
        "[]",
        "{}",
        " \t\r\n[ 1 , 2 ]\n ",
        r#"{"b":1,"a":{"x":1,"x":2}}"#,
        "[[],{},[{}]]",
        "\"\u{e9}\u{1f600}\"",
    ] {
        check(text, Ok(()));
    }
}

#[test]
fn what_is_not_json_is_refused_where_it_ceases_to_be() {
    check("", syntax(0));
    check(" ", syntax(1));
    check("nul", syntax(3));
    check("tru1", syntax(3));
    check("01", syntax(1));
    check("-", syntax(1));
    check("1.", syntax(2));
    check("1e", syntax(2));
    check("+1", syntax(0));
    check("[1,]", syntax(3));
    check("[1 2]", syntax(3));
    check("[", syntax(1));
    check("]", syntax(0));
    check("[}", syntax(1));
    check("{,}", syntax(1));
    check("{1:2}", syntax(1));
    check(r#"{"a"}"#, syntax(4));
    check(r#"{"a":}"#, syntax(5));
    check(r#"{"a":1,}"#, syntax(7));
    check("1 2", syntax(2));
    check("\"a\nb\"", syntax(2));
    check("\"abc", syntax(4));
    check(r#""\x""#, syntax(2));
    check(r#""\u12g4""#, syntax(5));
    check("\u{feff}{}", syntax(0));
    check(b"\"\xff\"", Err(RawJsonError::NotUtf8 { offset: 1 }));
}

#[test]
fn a_name_that_comes_twice_is_found_under_every_spelling() {
    for text in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"b":2,"\u0061":3}"#,
        r#"{"\ud83d\ude00":1,"😀":2}"#,
        r#"{"\ud800":1,"\uD800":2}"#,
        r#"{"\/":1,"/":2}"#,
        r#"{"é":1,"\u00E9":2}"#,
        r#"{"":1,"":2}"#,
    ] {
        check(text, Err(RawJsonError::DuplicateName));
    }
    check(r#"{"a":1,"A":2,"\\u0061":3,"\ud83d":4,"\ude00":5}"#, Ok(()));
    check(r#"[{"a":1},{"a":2}]"#, Ok(()));
}

#[test]
fn limits_hold_at_the_limit_and_one_past_it() {
    let limits = JsonLimits::default().bytes(20).depth(3).tokens(5);
    let found =
        |text: &str| RawJson::parse(Bytes::copy_from_slice(text.as_bytes()), &limits).map(drop);
    assert_eq!(found("12345678901234567890"), Ok(()));
    assert_eq!(found("123456789012345678901"), Err(RawJsonError::TooLarge { limit: 20 }));
    assert_eq!(found("[[[]]]"), Ok(()));
    assert_eq!(found("[[[[]]]]"), Err(RawJsonError::TooDeep { limit: 3 }));
    assert_eq!(found("[1,2,3,4]"), Ok(()));
    assert_eq!(found("[1,2,3,4,5]"), Err(RawJsonError::TooManyTokens { limit: 5 }));
    assert_eq!(found(r#"{"a":1,"b":2}"#), Ok(()));
    assert_eq!(found(r#"{"a":1,"b":[2]}"#), Err(RawJsonError::TooManyTokens { limit: 5 }));
}

#[test]
fn a_document_100_000_deep_is_refused_after_64_of_them() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    check(&deep, Err(RawJsonError::TooDeep { limit: 64 }));
    // With the limit out of the way the pass still has no recursion to overflow.
    let limits = JsonLimits::default().depth(usize::MAX).tokens(usize::MAX).bytes(usize::MAX);
    assert!(RawJson::parse(Bytes::from(deep), &limits).is_ok());
    let half = "{\"a\":".repeat(100_000);
    let offset = half.len();
    let found = RawJson::parse(Bytes::from(half), &limits);
    assert_eq!(found, Err(RawJsonError::Syntax { offset }));
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[test]
fn a_part_shares_the_bytes_of_the_whole_and_another_documents_does_not() {
    let text = br#"{ "type":"a\u0062c", "data" : { "n" : 1E400, "n": 2 } }"#;
    let json = RawJson::parse(Bytes::from_static(text), &JsonLimits::default()).unwrap();
    let envelope: Envelope<'_> = json.decode().unwrap();
    assert_eq!(envelope.kind, "abc");
    let data = json.slice_of(envelope.data);
    assert_eq!(&data[..], br#"{ "n" : 1E400, "n": 2 }"#);
    assert!(json.as_ptr_range().contains(&data.as_ptr()), "no copy");
    let foreign = RawValue::from_string("[1]".into()).unwrap();
    assert_eq!(&json.slice_of(&foreign)[..], b"[1]");
}

#[test]
fn neither_the_document_nor_what_is_wrong_with_it_is_told_to_a_log() {
    let json = RawJson::parse(Bytes::from_static(b"{\"pin\":\"hush\"}"), &JsonLimits::default());
    let json = json.unwrap();
    #[derive(Debug, Deserialize)]
    struct Pin {
        #[serde(rename = "pin")]
        _pin: u32,
    }
    let error = json.decode::<Pin>().unwrap_err();
    assert!(error.details().contains("hush"), "otherwise this shows nothing");
    let told = format!("{json:?} {error} {error:?}");
    assert!(!told.contains("hush"), "{told}");
    assert_eq!((error.line(), error.column()), (1, 13));
}

#[test]
fn the_hash_is_that_of_the_bytes() {
    let json = RawJson::parse(Bytes::from_static(b"{}"), &JsonLimits::default()).unwrap();
    let hash = crate::hex::hex(&json.sha256());
    assert_eq!(hash, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
}

/// Text that is JSON more often than not, and otherwise nearly so.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"\\u0061\"",
        "1",
        "-0.5e+3",
        "true",
        "null",
        " ",
        "\n",
        "\"\\ud800\"",
        "\\",
        "\"",
        "0",
        "é",
        "\u{1}",
    ]);
    prop_oneof![
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()),
        super::corpus::document(),
    ]
}

proptest! {
    #[test]
    fn what_serde_json_takes_is_taken_and_nothing_else(text in nearly_json()) {
        let ours = RawJson::parse(Bytes::from(text.clone()), &JsonLimits::default());
        let theirs = serde_json::from_str::<&RawValue>(&text);
        match ours {
            Err(RawJsonError::DuplicateName) => prop_assert!(text.matches(':').count() > 1),
            ours => prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?}: {:?}", text, theirs),
        }
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let found = RawJson::parse(Bytes::from(bytes.clone()), &JsonLimits::default());
        if let Ok(json) = found {
            prop_assert_eq!(&json[..], &bytes[..]);
        }
    }
}
