//! What the code of the derive macro needs, so that a service needs no other dependency. Not an
//! API: it changes without notice.

pub use super::codec;
pub use super::registry::Registered;
pub use crate::__implement_schema_enum as implement;

#[cfg(feature = "diesel")]
pub use diesel::{self, internal::derives::as_expression::Bound};
pub use inventory;
pub use rusqlite;
pub use serde;
#[cfg(feature = "sqlx")]
pub use sqlx;
pub use tokio_postgres::types as postgres;
pub use tokio_postgres::types::private::BytesMut;
#[cfg(feature = "openapi")]
pub use utoipa;

use std::fmt;
use std::marker::PhantomData;

use super::SchemaEnum;

/// The error of a driver's codec.
pub type BoxError = Box<dyn std::error::Error + Sync + Send>;

/// Reads a label without making a text of its own of it.
///
/// # Errors
///
/// It is no label of the enum.
pub fn from_serde<'de, E, D>(deserializer: D) -> Result<E, D::Error>
where
    E: SchemaEnum,
    D: serde::Deserializer<'de>,
{
    struct Label<E>(PhantomData<E>);

    impl<E: SchemaEnum> serde::de::Visitor<'_> for Label<E> {
        type Value = E;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let mut labels = E::SPEC.variants.iter().map(|variant| variant.label);
            f.write_str(labels.next().unwrap_or_default())?;
            labels.try_for_each(|label| write!(f, ", {label}"))
        }

        fn visit_str<Error: serde::de::Error>(self, text: &str) -> Result<E, Error> {
            let unknown = |_| Error::invalid_value(serde::de::Unexpected::Str(text), &self);
            codec::parse(text).map_err(unknown)
        }
    }

    deserializer.deserialize_str(Label(PhantomData))
}

/// The number that diesel writes into a column of 2 bytes: it wants one that stays where it is.
///
/// # Errors
///
/// The value is the catch-all.
#[cfg(feature = "diesel")]
pub fn small_number<E: SchemaEnum>(value: &E) -> Result<&'static i16, super::LabelError> {
    use std::collections::BTreeMap;

    static NUMBERS: parking_lot::Mutex<BTreeMap<i16, &'static i16>> =
        parking_lot::Mutex::new(BTreeMap::new());

    let number = codec::writable_small(value)?;
    // LIMIT: at most 65,536 numbers of 2 bytes, once per process.
    Ok(NUMBERS.lock().entry(number).or_insert_with(|| Box::leak(Box::new(number))))
}

/// The schema of its labels; of an open enum that of any text.
#[cfg(feature = "openapi")]
#[must_use]
pub fn open_api(spec: &super::EnumSpec) -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
    use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

    let labels = spec.variants.iter().map(|variant| variant.label);
    let labels = (!spec.open).then_some(labels);
    let object = ObjectBuilder::new().schema_type(Type::String).enum_values(labels).build();
    utoipa::openapi::RefOr::T(Schema::Object(object))
}
