//! From a value to its label, its number, and what drivers want; and back.
//!
//! The derive macro calls [`implement`](crate::__implement_schema_enum), which holds what does not
//! depend on the variants: so the features of this crate decide which drivers are served, and not
//! those of the crate that has the enum.

use std::borrow::Cow;
use std::error::Error;

use rusqlite::types::{FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type, WrongType};

use super::{LabelError, Repr, SchemaEnum};

type BoxError = Box<dyn Error + Sync + Send>;

/// The label of a value; the raw text of the catch-all.
pub fn label<E: SchemaEnum>(value: &E) -> &str {
    match value.ordinal() {
        Ok(ordinal) => E::SPEC.variants.get(ordinal).map_or("", |variant| variant.label),
        Err(raw) => raw,
    }
}

/// The value of a label or an alias, or the catch-all.
///
/// # Errors
///
/// [`LabelError::Unknown`] when there is no catch-all.
pub fn parse<E: SchemaEnum>(text: &str) -> Result<E, LabelError> {
    let known = E::SPEC.find(text).and_then(E::from_ordinal);
    known.or_else(|| E::unknown(text)).ok_or_else(|| LabelError::unknown(E::SPEC, text))
}

/// The value of a number.
///
/// # Errors
///
/// [`LabelError::Unknown`] when there is no catch-all.
pub fn from_number<E: SchemaEnum>(number: i64) -> Result<E, LabelError> {
    let is_it = |variant: &super::Variant| i64::from(variant.number) == number;
    let known = E::SPEC.variants.iter().position(is_it).and_then(E::from_ordinal);
    if let Some(known) = known {
        return Ok(known);
    }
    let text = number.to_string();
    E::unknown(&text).ok_or_else(|| LabelError::unknown(E::SPEC, &text))
}

/// What may be written of a value.
///
/// # Errors
///
/// [`LabelError::NotWritable`] for the catch-all.
fn writable<E: SchemaEnum>(value: &E) -> Result<&'static super::Variant, LabelError> {
    let variant = value.ordinal().ok().and_then(|ordinal| E::SPEC.variants.get(ordinal));
    variant.ok_or(LabelError::NotWritable { name: E::SPEC.name })
}

/// The label that a driver writes.
///
/// # Errors
///
/// As for [`writable_number`].
pub fn writable_label<E: SchemaEnum>(value: &E) -> Result<&'static str, LabelError> {
    writable(value).map(|variant| variant.label)
}

/// The number that a driver writes.
///
/// # Errors
///
/// [`LabelError::NotWritable`] for the catch-all.
pub fn writable_number<E: SchemaEnum>(value: &E) -> Result<&'static i32, LabelError> {
    writable(value).map(|variant| &variant.number)
}

/// The same for a column of 2 bytes, into which the derive macro has seen that it fits.
///
/// # Errors
///
/// As for [`writable_number`].
#[cfg(any(feature = "sqlx", feature = "diesel"))]
pub fn writable_small<E: SchemaEnum>(value: &E) -> Result<i16, LabelError> {
    let number = *writable_number(value)?;
    i16::try_from(number).map_err(|_too_large| LabelError::NotWritable { name: E::SPEC.name })
}

/// # Errors
///
/// The value is the catch-all.
pub fn to_sqlite<E: SchemaEnum>(value: &E) -> rusqlite::Result<ToSqlOutput<'_>> {
    let variant = writable(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    Ok(match E::SPEC.repr.is_number() {
        true => ToSqlOutput::from(variant.number),
        false => ToSqlOutput::from(variant.label),
    })
}

/// # Errors
///
/// The column has another kind of value, or one that the enum does not know.
pub fn from_sqlite<E: SchemaEnum>(value: ValueRef<'_>) -> FromSqlResult<E> {
    let read = match E::SPEC.repr.is_number() {
        true => from_number(value.as_i64()?),
        false => parse(value.as_str()?),
    };
    read.map_err(FromSqlError::other)
}

/// # Errors
///
/// The value is the catch-all, or the number does not fit.
pub fn to_postgres<E: SchemaEnum>(
    value: &E,
    kind: &Type,
    out: &mut BytesMut,
) -> Result<IsNull, BoxError> {
    if !accepts::<E>(kind) {
        return Err(Box::new(WrongType::new::<E>(kind.clone())));
    }
    let variant = writable(value)?;
    if !E::SPEC.repr.is_number() {
        out.extend_from_slice(variant.label.as_bytes());
        return Ok(IsNull::No);
    }
    match *base(kind) {
        Type::INT2 => i16::try_from(variant.number)?.to_sql(&Type::INT2, out),
        Type::INT8 => i64::from(variant.number).to_sql(&Type::INT8, out),
        _ => variant.number.to_sql(&Type::INT4, out),
    }
}

/// # Errors
///
/// The enum does not know the value.
pub fn from_postgres<E: SchemaEnum>(kind: &Type, raw: &[u8]) -> Result<E, BoxError> {
    if !E::SPEC.repr.is_number() {
        let text = std::str::from_utf8(raw)?;
        // A `char(n)` comes padded with spaces that are not part of it.
        let is_padded = *base(kind) == Type::BPCHAR;
        return Ok(parse(if is_padded { text.trim_end_matches(' ') } else { text })?);
    }
    let number = match *base(kind) {
        Type::INT2 => i16::from_sql(&Type::INT2, raw)?.into(),
        Type::INT8 => i64::from_sql(&Type::INT8, raw)?,
        _ => i32::from_sql(&Type::INT4, raw)?.into(),
    };
    Ok(from_number(number)?)
}

/// Whether a column or a parameter of this type can hold the enum.
#[must_use]
pub fn accepts<E: SchemaEnum>(kind: &Type) -> bool {
    let base = base(kind);
    if E::SPEC.repr.is_number() {
        return matches!(*base, Type::INT2 | Type::INT4 | Type::INT8);
    }
    if matches!(*base, Type::TEXT | Type::VARCHAR | Type::BPCHAR) {
        return true;
    }
    match (base.kind(), E::SPEC.repr) {
        (Kind::Enum(_), Repr::Native(name)) => unqualified(name) == base.name(),
        _ => false,
    }
}

fn base(kind: &Type) -> &Type {
    if let Kind::Domain(inner) = kind.kind() { base(inner) } else { kind }
}

/// A type's name as its catalogue has it.
fn unqualified(name: &str) -> Cow<'_, str> {
    match crate::store::QualifiedName::parse(name) {
        Ok(parsed) => Cow::Owned(parsed.name().as_str().to_owned()),
        Err(_) => Cow::Borrowed(name),
    }
}

/// The name of the enum's own type.
#[cfg(feature = "sqlx")]
#[must_use]
pub const fn native_name<E: SchemaEnum>() -> &'static str {
    match E::SPEC.repr {
        Repr::Native(name) => name,
        Repr::Text | Repr::Int2 | Repr::Int4 => "",
    }
}

/// Everything that follows from [`SchemaEnum`] alone.
#[doc(hidden)]
#[macro_export]
macro_rules! __implement_schema_enum {
    ($enum:ident, $repr:ident) => {
        const _: () = {
            use $crate::schema_enum::__private as private;

            impl ::core::fmt::Display for $enum {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.pad(private::codec::label(self))
                }
            }

            impl ::core::str::FromStr for $enum {
                type Err = $crate::schema_enum::LabelError;

                fn from_str(text: &str) -> ::core::result::Result<Self, Self::Err> {
                    private::codec::parse(text)
                }
            }

            impl private::serde::Serialize for $enum {
                fn serialize<S: private::serde::Serializer>(
                    &self,
                    serializer: S,
                ) -> ::core::result::Result<S::Ok, S::Error> {
                    serializer.serialize_str(private::codec::label(self))
                }
            }

            impl<'de> private::serde::Deserialize<'de> for $enum {
                fn deserialize<D: private::serde::Deserializer<'de>>(
                    deserializer: D,
                ) -> ::core::result::Result<Self, D::Error> {
                    private::from_serde(deserializer)
                }
            }

            impl private::rusqlite::types::ToSql for $enum {
                fn to_sql(
                    &self,
                ) -> private::rusqlite::Result<private::rusqlite::types::ToSqlOutput<'_>> {
                    private::codec::to_sqlite(self)
                }
            }

            impl private::rusqlite::types::FromSql for $enum {
                fn column_result(
                    value: private::rusqlite::types::ValueRef<'_>,
                ) -> private::rusqlite::types::FromSqlResult<Self> {
                    private::codec::from_sqlite(value)
                }
            }

            impl private::postgres::ToSql for $enum {
                fn to_sql(
                    &self,
                    kind: &private::postgres::Type,
                    out: &mut private::BytesMut,
                ) -> ::core::result::Result<private::postgres::IsNull, private::BoxError> {
                    private::codec::to_postgres(self, kind, out)
                }

                fn accepts(kind: &private::postgres::Type) -> bool {
                    private::codec::accepts::<Self>(kind)
                }

                fn to_sql_checked(
                    &self,
                    kind: &private::postgres::Type,
                    out: &mut private::BytesMut,
                ) -> ::core::result::Result<private::postgres::IsNull, private::BoxError> {
                    private::codec::to_postgres(self, kind, out)
                }
            }

            impl<'a> private::postgres::FromSql<'a> for $enum {
                fn from_sql(
                    kind: &private::postgres::Type,
                    raw: &'a [u8],
                ) -> ::core::result::Result<Self, private::BoxError> {
                    private::codec::from_postgres(kind, raw)
                }

                fn accepts(kind: &private::postgres::Type) -> bool {
                    private::codec::accepts::<Self>(kind)
                }
            }

            $crate::__schema_enum_sqlx!($enum, $repr);
            $crate::__schema_enum_diesel!($enum, $repr);
            $crate::__schema_enum_openapi!($enum);
            private::inventory::submit! {
                private::Registered(<$enum as $crate::schema_enum::SchemaEnum>::SPEC)
            }
        };
    };
}

#[cfg(not(feature = "sqlx"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __schema_enum_sqlx {
    ($($ignored:tt)*) => {};
}

#[cfg(not(feature = "diesel"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __schema_enum_diesel {
    ($($ignored:tt)*) => {};
}

#[cfg(not(feature = "openapi"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __schema_enum_openapi {
    ($($ignored:tt)*) => {};
}

/// Of a type of the driver that stands for the same column: `&str`, `i16` or `i32`.
#[cfg(feature = "sqlx")]
#[doc(hidden)]
#[macro_export]
macro_rules! __schema_enum_sqlx {
    ($enum:ident, text) => {
        $crate::__schema_enum_sqlx!(@any $enum, String, |value| {
            private::codec::writable_label(value).map(ToOwned::to_owned)
        }, |text: String| private::codec::parse(text.trim_end_matches(' ')));
    };
    ($enum:ident, int2) => {
        $crate::__schema_enum_sqlx!(@any $enum, i16, |value| {
            private::codec::writable_small(value)
        }, |number: i16| private::codec::from_number(number.into()));
    };
    ($enum:ident, int4) => {
        $crate::__schema_enum_sqlx!(@any $enum, i32, |value| {
            private::codec::writable_number(value).copied()
        }, |number: i32| private::codec::from_number(number.into()));
    };
    ($enum:ident, native) => {
        impl private::sqlx::Type<private::sqlx::Postgres> for $enum {
            fn type_info() -> private::sqlx::postgres::PgTypeInfo {
                const NAME: &str = private::codec::native_name::<$enum>();
                private::sqlx::postgres::PgTypeInfo::with_name(NAME)
            }

            fn compatible(kind: &private::sqlx::postgres::PgTypeInfo) -> bool {
                *kind == <Self as private::sqlx::Type<private::sqlx::Postgres>>::type_info()
                    || <str as private::sqlx::Type<private::sqlx::Postgres>>::compatible(kind)
            }
        }

        impl private::sqlx::postgres::PgHasArrayType for $enum {
            fn array_type_info() -> private::sqlx::postgres::PgTypeInfo {
                private::sqlx::postgres::PgTypeInfo::array_of(private::codec::native_name::<Self>())
            }
        }

        impl<'q> private::sqlx::Encode<'q, private::sqlx::Postgres> for $enum {
            fn encode_by_ref(
                &self,
                out: &mut private::sqlx::postgres::PgArgumentBuffer,
            ) -> ::core::result::Result<private::sqlx::encode::IsNull, private::BoxError> {
                let label = private::codec::writable_label(self)?;
                private::sqlx::Encode::<private::sqlx::Postgres>::encode(label, out)
            }
        }

        impl<'r> private::sqlx::Decode<'r, private::sqlx::Postgres> for $enum {
            fn decode(
                value: private::sqlx::postgres::PgValueRef<'r>,
            ) -> ::core::result::Result<Self, private::BoxError> {
                let label = <&str as private::sqlx::Decode<private::sqlx::Postgres>>::decode(value)?;
                Ok(private::codec::parse(label)?)
            }
        }
    };
    (@any $enum:ident, $like:ty, $write:expr, $read:expr) => {
        impl<DB: private::sqlx::Database> private::sqlx::Type<DB> for $enum
        where
            $like: private::sqlx::Type<DB>,
        {
            fn type_info() -> DB::TypeInfo {
                <$like as private::sqlx::Type<DB>>::type_info()
            }

            fn compatible(kind: &DB::TypeInfo) -> bool {
                <$like as private::sqlx::Type<DB>>::compatible(kind)
            }
        }

        impl private::sqlx::postgres::PgHasArrayType for $enum {
            fn array_type_info() -> private::sqlx::postgres::PgTypeInfo {
                <$like as private::sqlx::postgres::PgHasArrayType>::array_type_info()
            }

            fn array_compatible(kind: &private::sqlx::postgres::PgTypeInfo) -> bool {
                <$like as private::sqlx::postgres::PgHasArrayType>::array_compatible(kind)
            }
        }

        impl<'q, DB: private::sqlx::Database> private::sqlx::Encode<'q, DB> for $enum
        where
            $like: private::sqlx::Encode<'q, DB>,
        {
            fn encode_by_ref(
                &self,
                out: &mut <DB as private::sqlx::Database>::ArgumentBuffer,
            ) -> ::core::result::Result<private::sqlx::encode::IsNull, private::BoxError> {
                let write = $write;
                let written: ::core::result::Result<$like, $crate::schema_enum::LabelError> =
                    write(self);
                <$like as private::sqlx::Encode<'q, DB>>::encode(written?, out)
            }
        }

        impl<'r, DB: private::sqlx::Database> private::sqlx::Decode<'r, DB> for $enum
        where
            $like: private::sqlx::Decode<'r, DB>,
        {
            fn decode(
                value: <DB as private::sqlx::Database>::ValueRef<'r>,
            ) -> ::core::result::Result<Self, private::BoxError> {
                let read = $read;
                let value = <$like as private::sqlx::Decode<'r, DB>>::decode(value)?;
                Ok(read(value)?)
            }
        }
    };
}

/// A native enum of PostgreSQL has a type of its own in diesel's schema, so it gets no codec here.
#[cfg(feature = "diesel")]
#[doc(hidden)]
#[macro_export]
macro_rules! __schema_enum_diesel {
    ($enum:ident, native) => {};
    ($enum:ident, text) => {
        $crate::__schema_enum_diesel!(
            @codec $enum, Text, str, String,
            private::codec::writable_label,
            |text: String| private::codec::parse(text.trim_end_matches(' '))
        );
    };
    ($enum:ident, int2) => {
        $crate::__schema_enum_diesel!(
            @codec $enum, SmallInt, i16, i16,
            private::small_number,
            |number: i16| private::codec::from_number(number.into())
        );
    };
    ($enum:ident, int4) => {
        $crate::__schema_enum_diesel!(
            @codec $enum, Integer, i32, i32,
            private::codec::writable_number,
            |number: i32| private::codec::from_number(number.into())
        );
    };
    (@codec $enum:ident, $sql:ident, $borrowed:ty, $owned:ty, $write:expr, $read:expr) => {
        impl<DB: private::diesel::backend::Backend>
            private::diesel::serialize::ToSql<private::diesel::sql_types::$sql, DB> for $enum
        where
            $borrowed: private::diesel::serialize::ToSql<private::diesel::sql_types::$sql, DB>,
        {
            fn to_sql<'b>(
                &'b self,
                out: &mut private::diesel::serialize::Output<'b, '_, DB>,
            ) -> private::diesel::serialize::Result {
                let write = $write;
                let written: &'static $borrowed = write(self)?;
                private::diesel::serialize::ToSql::<private::diesel::sql_types::$sql, DB>::to_sql(
                    written, out,
                )
            }
        }

        impl<DB: private::diesel::backend::Backend>
            private::diesel::deserialize::FromSql<private::diesel::sql_types::$sql, DB> for $enum
        where
            $owned: private::diesel::deserialize::FromSql<private::diesel::sql_types::$sql, DB>,
        {
            fn from_sql(raw: DB::RawValue<'_>) -> private::diesel::deserialize::Result<Self> {
                let read = $read;
                let value = <$owned as private::diesel::deserialize::FromSql<
                    private::diesel::sql_types::$sql,
                    DB,
                >>::from_sql(raw)?;
                Ok(read(value)?)
            }
        }

        impl<ST, DB> private::diesel::deserialize::Queryable<ST, DB> for $enum
        where
            DB: private::diesel::backend::Backend,
            ST: private::diesel::sql_types::SingleValue,
            Self: private::diesel::deserialize::FromSql<ST, DB>,
        {
            type Row = Self;

            fn build(row: Self) -> private::diesel::deserialize::Result<Self> {
                Ok(row)
            }
        }

        $crate::__schema_enum_diesel!(@expression $sql, $enum);
        $crate::__schema_enum_diesel!(@expression $sql, &'expr $enum);
    };
    (@expression $sql:ident, $($of:tt)+) => {
        impl<'expr> private::diesel::expression::AsExpression<private::diesel::sql_types::$sql>
            for $($of)+
        {
            type Expression = private::Bound<private::diesel::sql_types::$sql, Self>;

            fn as_expression(self) -> Self::Expression {
                private::Bound::new(self)
            }
        }

        impl<'expr>
            private::diesel::expression::AsExpression<
                private::diesel::sql_types::Nullable<private::diesel::sql_types::$sql>,
            > for $($of)+
        {
            type Expression =
                private::Bound<private::diesel::sql_types::Nullable<private::diesel::sql_types::$sql>, Self>;

            fn as_expression(self) -> Self::Expression {
                private::Bound::new(self)
            }
        }
    };
}

#[cfg(feature = "openapi")]
#[doc(hidden)]
#[macro_export]
macro_rules! __schema_enum_openapi {
    ($enum:ident) => {
        impl private::utoipa::PartialSchema for $enum {
            fn schema() -> private::utoipa::openapi::RefOr<private::utoipa::openapi::schema::Schema>
            {
                private::open_api(<Self as $crate::schema_enum::SchemaEnum>::SPEC)
            }
        }

        impl private::utoipa::ToSchema for $enum {
            fn name() -> ::std::borrow::Cow<'static, str> {
                <Self as $crate::schema_enum::SchemaEnum>::SPEC.name.into()
            }
        }
    };
}
