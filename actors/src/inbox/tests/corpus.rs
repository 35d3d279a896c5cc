//! Random JSON documents, with everything that a reader and writer of values would lose.

use proptest::prelude::*;

/// A document with odd white space, names that come twice, numbers no machine type holds, and
/// escapes that no text holds.
pub(super) fn document() -> BoxedStrategy<String> {
    let scalar = prop::sample::select(vec![
        "null",
        "true",
        "1E400",
        "-0.0",
        "12345678901234567890123",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "\"\\u00e9\"",
        "\"\u{1f600}\"",
        "\"a\\/b\"",
        "1.10",
        "\"\"",
    ]);
    let value = scalar.prop_map(str::to_owned).prop_recursive(4, 32, 4, |inner| {
        let array = (blank(), prop::collection::vec(inner.clone(), 0..4));
        let array = array.prop_map(|(blank, items)| {
            format!("[{blank}{}{blank}]", items.join(&format!("{blank},")))
        });
        prop_oneof![array, object(inner)]
    });
    (blank(), value, blank()).prop_map(|(before, value, after)| before + &value + &after).boxed()
}

fn object(inner: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    let name = prop::sample::select(vec!["\"a\"", "\"b\"", "\"\\u0061\"", "\"\"", "\"é\""]);
    let member = (name, blank(), inner)
        .prop_map(|(name, blank, value)| format!("{name}{blank}:{blank}{value}"));
    prop::collection::vec(member, 0..4).prop_map(|all| format!("{{{}}}", all.join(", "))).boxed()
}

fn blank() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", " ", "\n\t", "\r\n  "]).prop_map(str::to_owned)
}
