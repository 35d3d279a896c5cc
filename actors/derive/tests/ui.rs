//! What the derive macro says about an enum that it refuses.

#[test]
fn an_enum_that_cannot_be_is_refused_and_told_why() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
