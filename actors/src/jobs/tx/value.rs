//! Values that both databases have.

use std::fmt;

use crate::jobs::store::postgres::defect;
use crate::store::StoreError;

/// A value of a column or a parameter.
#[derive(Clone, Default, PartialEq)]
pub(crate) enum Value {
    #[default]
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// Without what is in it: a driver writes what is bound to its log.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Int(value) => value.fmt(f),
            Self::Text(text) => write!(f, "text({})", text.len()),
            Self::Blob(bytes) => write!(f, "blob({})", bytes.len()),
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Blob(value.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Self::Blob(value.to_vec())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row, with its columns counted from 0.
#[derive(Debug)]
pub(crate) struct Row(pub(super) Vec<Value>);

macro_rules! columns {
    ($($name:ident, $or_none:ident: $variant:ident($kind:ty),)+) => {
        impl Row {
            $(
                pub(crate) fn $name(&mut self, column: usize) -> Result<$kind, StoreError> {
                    self.$or_none(column)?.ok_or_else(|| defect("a column is null"))
                }

                /// Takes the value out.
                pub(crate) fn $or_none(
                    &mut self,
                    column: usize,
                ) -> Result<Option<$kind>, StoreError> {
                    let value = self.0.get_mut(column).map(std::mem::take);
                    match value {
                        Some(Value::$variant(value)) => Ok(Some(value)),
                        Some(Value::Null) => Ok(None),
                        _ => Err(defect("a column has another type")),
                    }
                }
            )+
        }
    };
}

columns! {
    int, int_or_none: Int(i64),
    text, text_or_none: Text(String),
    blob, blob_or_none: Blob(Vec<u8>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_does_not_tell_what_is_in_it() {
        let values = [Value::Null, 7.into(), "ada".into(), (&b"ada"[..]).into()];
        assert_eq!(format!("{values:?}"), "[null, 7, text(3), blob(3)]");
    }
}
