//! The check of a body's JSON, beside serde_json's own, which keeps and ignores the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use steadfast_actors::inbox::{JsonLimits, RawJson, RawJsonError};

fuzz_target!(|body: &[u8]| {
    let found = RawJson::parse(Bytes::copy_from_slice(body), &JsonLimits::default());
    let is_json = serde_json::from_slice::<&RawValue>(body).is_ok();
    match found {
        Ok(json) => {
            assert!(is_json, "taken, and no JSON");
            assert_eq!(&json[..], body, "kept as it came");
            // Within the limits, whatever has a place for it can be read from it.
            let _may_fail = json.decode::<serde_json::Value>();
        }
        Err(RawJsonError::NotUtf8 { .. } | RawJsonError::Syntax { .. }) => {
            assert!(!is_json, "refused, and JSON");
        }
        // Found before the end is read.
        Err(_limit) => {}
    }
});
