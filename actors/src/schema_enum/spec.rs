//! What an enum says of itself, and what that means for one column.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::store::{Identifier, InvalidIdentifier, QualifiedName};

/// An enum whose values are those of columns. Derive it: [`crate::schema_enum`] shows how.
pub trait SchemaEnum: Sized + Send + Sync + 'static {
    /// What the enum says of itself.
    const SPEC: &'static EnumSpec;

    /// The variant at this position of [`EnumSpec::variants`].
    fn from_ordinal(ordinal: usize) -> Option<Self>;

    /// Its position in [`EnumSpec::variants`]; `Err` with the raw text for the catch-all.
    ///
    /// # Errors
    ///
    /// It is the catch-all, which has no position.
    fn ordinal(&self) -> Result<usize, &str>;

    /// The catch-all with this text; `None` if the enum has none.
    fn unknown(raw: &str) -> Option<Self>;
}

/// What an enum says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnumSpec {
    /// The name of the Rust type.
    pub name: &'static str,
    /// How a column keeps it.
    pub repr: Repr<&'static str>,
    /// Its variants in order, without the catch-all.
    pub variants: &'static [Variant],
    /// The columns that keep it.
    pub bindings: &'static [Binding],
    /// Whether it has a catch-all, and so can read what it does not list.
    pub open: bool,
}

impl EnumSpec {
    /// For the derive macro.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        name: &'static str,
        repr: Repr<&'static str>,
        variants: &'static [Variant],
        bindings: &'static [Binding],
        open: bool,
    ) -> Self {
        Self { name, repr, variants, bindings, open }
    }

    /// What is asked of each column, in the order of the bindings.
    pub fn columns(&self) -> impl Iterator<Item = ColumnSpec> {
        self.bindings.iter().map(|binding| ColumnSpec::new(self, binding))
    }

    /// The position of a label, or of an alias.
    #[must_use]
    pub fn find(&self, label: &str) -> Option<usize> {
        let is_named = |variant: &Variant| variant.label == label;
        let is_alias = |variant: &Variant| variant.aliases.contains(&label);
        let variants = || self.variants.iter();
        variants().position(is_named).or_else(|| variants().position(is_alias))
    }
}

/// One variant of an enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Its label: in text, in JSON, and in columns of text.
    pub label: &'static str,
    /// Older labels, which are read and never written.
    pub aliases: &'static [&'static str],
    /// Its number, for columns of integers; 0 for others.
    pub number: i32,
}

/// A column that keeps an enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The table, with its schema if need be: `shop.orders`.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// Whether it may be `NULL`.
    pub nullable: bool,
    /// Whether it keeps a list of values. PostgreSQL alone has such columns.
    pub array: bool,
}

/// How a column keeps the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "the derive macro writes them out")]
pub enum Repr<Name> {
    /// As text, with a `CHECK`.
    Text,
    /// As an integer of 2 bytes, with a `CHECK`.
    Int2,
    /// As an integer of 4 bytes, with a `CHECK`.
    Int4,
    /// As an enum type of PostgreSQL with this name; on SQLite as [`Text`](Self::Text).
    Native(Name),
}

impl<Name> Repr<Name> {
    /// Whether columns hold numbers.
    #[must_use]
    pub const fn is_number(&self) -> bool {
        matches!(self, Self::Int2 | Self::Int4)
    }
}

/// What the code asks of one column. This is what the lock file records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ColumnSpec {
    /// The table, as the binding names it.
    pub table: String,
    /// The column.
    pub column: String,
    /// How it keeps the values.
    pub repr: Repr<String>,
    /// What the code writes, as text: labels, or numbers.
    pub values: Vec<String>,
    /// What it reads beside that, and what that has become.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renamed: Vec<Renamed>,
    /// Whether the column may be `NULL`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub nullable: bool,
    /// Whether it keeps a list.
    #[serde(default, skip_serializing_if = "is_false")]
    pub array: bool,
    /// Whether the code reads whatever is there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub open: bool,
}

/// A value that has another name now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Renamed {
    /// What it was: an alias.
    pub from: String,
    /// What it is.
    pub to: String,
}

impl ColumnSpec {
    fn new(spec: &EnumSpec, binding: &Binding) -> Self {
        let is_number = spec.repr.is_number();
        let value = |variant: &Variant| match is_number {
            true => variant.number.to_string(),
            false => variant.label.to_owned(),
        };
        let renamed = |variant: &'static Variant| {
            let to = variant.label;
            variant.aliases.iter().map(move |from| Renamed { from: (*from).into(), to: to.into() })
        };
        // The number of a variant does not change with its label.
        let renames = spec.variants.iter().filter(|_| !is_number).flat_map(renamed);
        Self {
            table: binding.table.to_owned(),
            column: binding.column.to_owned(),
            repr: match spec.repr {
                Repr::Text => Repr::Text,
                Repr::Int2 => Repr::Int2,
                Repr::Int4 => Repr::Int4,
                Repr::Native(name) => Repr::Native(name.to_owned()),
            },
            values: spec.variants.iter().map(value).collect(),
            renamed: renames.collect(),
            nullable: binding.nullable,
            array: binding.array,
            open: spec.open,
        }
    }

    pub(super) fn in_schema(mut self, schema: &str) -> Self {
        let place = |name: &mut String| {
            let names_none =
                QualifiedName::parse(name).is_ok_and(|parsed| parsed.schema().is_none());
            if names_none {
                *name = format!("{schema}.{name}");
            }
        };
        place(&mut self.table);
        if let Repr::Native(name) = &mut self.repr {
            place(name);
        }
        self
    }

    pub(super) fn target(&self) -> Result<Target, InvalidIdentifier> {
        let type_name = match &self.repr {
            Repr::Native(name) => Some(QualifiedName::parse(name)?),
            Repr::Text | Repr::Int2 | Repr::Int4 => None,
        };
        let table = QualifiedName::parse(&self.table)?;
        Ok(Target { table, column: Identifier::new(&self.column)?, type_name })
    }

    /// What of `value` the column becomes, if it is an alias.
    pub(super) fn becomes(&self, value: &str) -> Option<&str> {
        self.renamed.iter().find(|renamed| renamed.from == value).map(|renamed| &*renamed.to)
    }
}

impl fmt::Display for ColumnSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.column)
    }
}

/// The names of a [`ColumnSpec`], fit for statements.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) table: QualifiedName,
    pub(super) column: Identifier,
    pub(super) type_name: Option<QualifiedName>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
