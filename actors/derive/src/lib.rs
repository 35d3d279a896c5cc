//! The derive macro of steadfast's schema-backed enums.
//!
//! Services do not name this crate: `steadfast::SchemaEnum` is the macro and the trait it
//! implements, and `steadfast::schema_enum` explains both.

mod attributes;
mod case;
mod expand;
mod model;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes an enum the values of a column: its `SchemaEnum`, its text, JSON, OpenAPI schema, and
/// its codecs for the databases' drivers.
///
/// On the enum, `#[schema_enum(…)]` takes:
///
/// | attribute | meaning | default |
/// |---|---|---|
/// | `table = "…", column = "…"` | the column that keeps it; with `nullable` and `array` | none |
/// | `bind(table = "…", column = "…", nullable, array)` | one more; any number | none |
/// | `repr = "text"` | as text, or as `"int2"` or `"int4"` by the variants' discriminants | `"text"` |
/// | `native = "…"` | as this enum type of PostgreSQL, and as text on SQLite | |
/// | `rename_all = "…"` | `snake_case`, `SCREAMING_SNAKE_CASE`, `kebab-case`, `camelCase`, `PascalCase`, `lowercase`, `UPPERCASE` | as written |
/// | `crate = "…"` | where `steadfast` is | `::steadfast` |
///
/// On a variant:
///
/// | attribute | meaning |
/// |---|---|
/// | `rename = "…"` | its label |
/// | `alias = "…"` | an older label, which is read and never written; any number |
/// | `unknown` | the catch-all, with one field that is `From<&str>` and `AsRef<str>`: reads whatever has no variant, and cannot be written |
#[proc_macro_derive(SchemaEnum, attributes(schema_enum))]
pub fn schema_enum(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    match model::Enum::read(&input) {
        Ok(model) => expand::expand(&model).into(),
        Err(error) => error.into_compile_error().into(),
    }
}
