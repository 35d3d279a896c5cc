//! Names of tables and columns, and texts, as they are written into statements.

use std::fmt;

use super::migrations::checksum;

/// LIMIT: bytes of a name. PostgreSQL cuts longer ones off, and would then name something else.
const NAME_MAX: usize = 63;

/// Digits of the hash in the name of an enum's constraint.
const HASH: usize = 8;

/// The name of a column, a constraint, a type: as the database has it, case and all.
///
/// Shown, it is quoted, so that it can stand in a statement whatever it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identifier(Box<str>);

impl Identifier {
    /// Takes a name of 1 to 63 bytes without NUL.
    ///
    /// # Errors
    ///
    /// [`InvalidIdentifier`] shows the name.
    pub fn new(name: &str) -> Result<Self, InvalidIdentifier> {
        if name.is_empty() || name.len() > NAME_MAX || name.contains('\0') {
            return Err(InvalidIdentifier(name.into()));
        }
        Ok(Self(name.into()))
    }

    /// `sf_TABLE_COLUMN_HASH` and the like: `stem` is cut so that the whole fits.
    #[must_use]
    pub(crate) fn with_suffix(stem: &str, suffix: &str) -> Self {
        let mut end = stem.len().min(NAME_MAX.saturating_sub(suffix.len()));
        while !stem.is_char_boundary(end) {
            end -= 1;
        }
        Self(format!("{}{suffix}", stem.get(..end).unwrap_or_default()).into())
    }

    /// The constraint that holds a column to an enum: `sf_TABLE_COLUMN_HASH`, where the hash is
    /// that of what it means. Whoever sees a write refused knows it by this name.
    #[must_use]
    pub(crate) fn of_enum(table: &str, column: &str, meaning: &str) -> Self {
        let hash: String = checksum(meaning).chars().take(HASH).collect();
        Self::with_suffix(&format!("sf_{table}_{column}"), &format!("_{hash}"))
    }

    /// The name without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// The name of a table or a type, in a schema or wherever the database looks for it first.
///
/// Shown, it is quoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QualifiedName {
    schema: Option<Identifier>,
    name: Identifier,
}

impl QualifiedName {
    /// Reads `name`, `schema.name`, and either part in double quotes where it has a dot:
    /// `shop."orders.2026"`. Case is kept.
    ///
    /// # Errors
    ///
    /// [`InvalidIdentifier`] shows what cannot be read.
    pub fn parse(text: &str) -> Result<Self, InvalidIdentifier> {
        let invalid = || InvalidIdentifier(text.into());
        let (first, rest) = part(text).ok_or_else(invalid)?;
        let first = Identifier::new(&first)?;
        let Some(rest) = rest else { return Ok(Self { schema: None, name: first }) };
        let (second, None) = part(rest).ok_or_else(invalid)? else { return Err(invalid()) };
        Ok(Self { schema: Some(first), name: Identifier::new(&second)? })
    }

    /// The schema, where one was given.
    #[must_use]
    pub const fn schema(&self) -> Option<&Identifier> {
        self.schema.as_ref()
    }

    /// The name without the schema.
    #[must_use]
    pub const fn name(&self) -> &Identifier {
        &self.name
    }

    /// Another name in the same schema.
    #[must_use]
    pub fn sibling(&self, name: Identifier) -> Self {
        Self { schema: self.schema.clone(), name }
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// One part of a name, and what follows its dot.
fn part(text: &str) -> Option<(String, Option<&str>)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return Some(match text.split_once('.') {
            Some((part, rest)) => (part.to_owned(), Some(rest)),
            None => (text.to_owned(), None),
        });
    };
    let mut name = String::new();
    let mut letters = quoted.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' if letters.next_if(|(_, next)| *next == '"').is_some() => name.push('"'),
            '"' => {
                return match quoted.get(at + 1..)? {
                    "" => Some((name, None)),
                    rest => Some((name, Some(rest.strip_prefix('.')?))),
                };
            }
            letter => name.push(letter),
        }
    }
    None
}

/// A name that no database takes: empty, longer than 63 bytes, with NUL, or with quotes that do
/// not end. Correct it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be the name of a table, a column or a type")]
pub struct InvalidIdentifier(Box<str>);

/// Whether a constraint of this name holds a column to an enum.
pub(crate) fn is_of_enum(name: &str) -> bool {
    let hash =
        name.strip_prefix("sf_").and_then(|rest| rest.rsplit_once('_')).map(|(_, hash)| hash);
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    hash.is_some_and(|hash| hash.len() == HASH && hash.bytes().all(is_digit))
}

/// A text as a literal that every setting of PostgreSQL and SQLite reads the same. It must not
/// have NUL.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Literal<'a> {
    Postgres(&'a str),
    Sqlite(&'a str),
}

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // With standard_conforming_strings off, a backslash escapes in a plain literal too.
            Self::Postgres(text) if text.contains('\\') => {
                write!(f, "E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
            }
            Self::Postgres(text) | Self::Sqlite(text) => {
                write!(f, "'{}'", text.replace('\'', "''"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: Option<&str>) {
        let parsed = QualifiedName::parse(text).map(|name| name.to_string());
        assert_eq!(parsed.ok().as_deref(), shown, "{text}");
    }

    #[test]
    fn a_name_is_read_as_the_database_has_it() {
        check("orders", Some(r#""orders""#));
        check("Shop.Orders", Some(r#""Shop"."Orders""#));
        check(r#"shop."orders.2026""#, Some(r#""shop"."orders.2026""#));
        check(r#""a""b""#, Some(r#""a""b""#));
        check("größe; drop", Some(r#""größe; drop""#));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        check("", None);
        check("a.", None);
        check(".a", None);
        check("a.b.c", None);
        check(r#""a"#, None);
        check(r#""a"b"#, None);
        check("a\0b", None);
        check(&"x".repeat(63), Some(&format!("\"{}\"", "x".repeat(63))));
        check(&"x".repeat(64), None);
    }

    #[test]
    fn a_suffix_stays_whole_when_the_stem_is_cut() {
        let name = Identifier::with_suffix(&"ö".repeat(40), "_0123abcd");
        assert_eq!(name.as_str(), format!("{}_0123abcd", "ö".repeat(27)));
        assert_eq!(Identifier::with_suffix("a", "_b").as_str(), "a_b");
    }

    #[test]
    fn the_constraint_of_an_enum_is_known_by_its_name() {
        let name = Identifier::of_enum("orders", "status", "'a','b'");
        assert!(name.as_str().starts_with("sf_orders_status_") && is_of_enum(name.as_str()));
        assert_ne!(name, Identifier::of_enum("orders", "status", "'a'"));
        assert!(is_of_enum(Identifier::of_enum(&"x".repeat(80), "y", "").as_str()));
        let others =
            ["sf_job_state", "orders_status_0123abcd", "sf_orders_0123ABCD", "sf_x_0123abc"];
        assert!(others.iter().all(|name| !is_of_enum(name)));
    }

    #[test]
    fn a_literal_ends_only_where_it_should() {
        assert_eq!(Literal::Postgres("it's").to_string(), "'it''s'");
        assert_eq!(Literal::Postgres(r"a\'b").to_string(), r"E'a\\''b'");
        assert_eq!(Literal::Sqlite(r"a\'b").to_string(), r"'a\''b'");
    }
}
