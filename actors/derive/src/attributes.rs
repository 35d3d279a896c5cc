//! Reading `#[schema_enum(…)]`.

use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, Error, LitStr, Path, Result, parse_quote};

use crate::case::{Case, STYLES};

/// How columns keep the enum.
#[derive(Clone)]
pub(crate) enum Repr {
    Text,
    Int2,
    Int4,
    Native(LitStr),
}

#[derive(Default)]
pub(crate) struct Binding {
    pub(crate) table: Option<LitStr>,
    pub(crate) column: Option<LitStr>,
    pub(crate) nullable: bool,
    pub(crate) array: bool,
}

/// What stands on the enum.
pub(crate) struct OfEnum {
    pub(crate) krate: Path,
    pub(crate) repr: Repr,
    pub(crate) case: Case,
    pub(crate) bindings: Vec<Binding>,
}

/// What stands on a variant.
#[derive(Default)]
pub(crate) struct OfVariant {
    pub(crate) rename: Option<LitStr>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) unknown: bool,
}

impl OfEnum {
    pub(crate) fn read(attributes: &[Attribute]) -> Result<Self> {
        let (krate, repr, case) = (parse_quote!(::steadfast), Repr::Text, Case::AsWritten);
        let mut read = Self { krate, repr, case, bindings: Vec::new() };
        let mut own = Binding::default();
        for attribute in ours(attributes) {
            attribute.parse_nested_meta(|meta| {
                if own.take(&meta)? {
                    return Ok(());
                }
                read.take(&meta)
            })?;
            own.finish(attribute, &mut read.bindings)?;
        }
        Ok(read)
    }

    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("bind") {
            let mut binding = Binding::default();
            meta.parse_nested_meta(|inner| match binding.take(&inner)? {
                true => Ok(()),
                false => Err(inner.error("`bind` takes `table`, `column`, `nullable` and `array`")),
            })?;
            if binding.table.is_none() {
                return Err(meta.error("`bind` needs a table: `table = \"…\", column = \"…\"`"));
            }
            return binding.finish(&meta.path, &mut self.bindings);
        }
        if meta.path.is_ident("repr") {
            let name: LitStr = text(meta)?;
            self.repr = match &*name.value() {
                "text" => Repr::Text,
                "int2" => Repr::Int2,
                "int4" => Repr::Int4,
                _ => return Err(Error::new(name.span(), "`repr` is text, int2 or int4")),
            };
        } else if meta.path.is_ident("native") {
            self.repr = Repr::Native(text(meta)?);
        } else if meta.path.is_ident("rename_all") {
            let name: LitStr = text(meta)?;
            self.case = Case::parse(&name.value()).ok_or_else(|| {
                let known = STYLES.map(|(known, _)| known).join(", ");
                Error::new(name.span(), format!("`rename_all` is one of {known}"))
            })?;
        } else if meta.path.is_ident("crate") {
            self.krate = text(meta)?.parse()?;
        } else {
            return Err(unknown(
                meta,
                "table, column, nullable, array, bind, repr, native, rename_all and crate",
            ));
        }
        Ok(())
    }
}

impl Binding {
    /// Takes what is of a binding; `false`: it is something else.
    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<bool> {
        if meta.path.is_ident("table") {
            self.table = Some(name(meta)?);
        } else if meta.path.is_ident("column") {
            self.column = Some(name(meta)?);
        } else if meta.path.is_ident("nullable") {
            self.nullable = true;
        } else if meta.path.is_ident("array") {
            self.array = true;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Adds itself, if there is anything of it, once it is whole.
    fn finish(&mut self, at: &impl Spanned, bindings: &mut Vec<Self>) -> Result<()> {
        match std::mem::take(self) {
            Self { table: Some(table), column: Some(column), nullable, array } => {
                let pair = (table.value(), column.value());
                let is_same = |one: &Self| {
                    let texts = one.table.as_ref().zip(one.column.as_ref());
                    texts.is_some_and(|(table, column)| (table.value(), column.value()) == pair)
                };
                if bindings.iter().any(is_same) {
                    let twice = format!("`{}.{}` is bound twice", pair.0, pair.1);
                    return Err(Error::new(table.span(), twice));
                }
                bindings.push(Self { table: Some(table), column: Some(column), nullable, array });
                Ok(())
            }
            Self { table: None, column: None, nullable: false, array: false } => Ok(()),
            Self { table: Some(table), .. } => {
                Err(Error::new(table.span(), "a table needs a column: `column = \"…\"`"))
            }
            Self { .. } => Err(Error::new(
                at.span(),
                "`column`, `nullable` and `array` need a table: `table = \"…\"`",
            )),
        }
    }
}

impl OfVariant {
    pub(crate) fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut read = Self::default();
        for attribute in ours(attributes) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("rename") {
                    read.rename = Some(text(&meta)?);
                } else if meta.path.is_ident("alias") {
                    read.aliases.push(text(&meta)?);
                } else if meta.path.is_ident("unknown") {
                    read.unknown = true;
                } else {
                    return Err(unknown(&meta, "rename, alias and unknown"));
                }
                Ok(())
            })?;
        }
        Ok(read)
    }
}

fn ours(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("schema_enum"))
}

/// A text; databases cannot keep NUL in one.
fn text(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let text: LitStr = meta.value()?.parse()?;
    if text.value().contains('\0') {
        return Err(Error::new(text.span(), "PostgreSQL has no text with NUL"));
    }
    Ok(text)
}

fn name(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let name = text(meta)?;
    if name.value().is_empty() {
        return Err(Error::new(name.span(), "a name is not empty"));
    }
    Ok(name)
}

fn unknown(meta: &ParseNestedMeta<'_>, known: &str) -> Error {
    meta.error(format!("unknown attribute; here `schema_enum` takes {known}"))
}
