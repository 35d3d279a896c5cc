//! An enum that was read and found right.

use std::collections::HashMap;

use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Expr, ExprLit, Fields, Ident, Lit, LitStr, Path, Result};
use syn::{UnOp, Variant as Syntax, Visibility};

use crate::attributes::{Binding, OfEnum, OfVariant, Repr};

/// LIMIT: bytes of a label of an enum type of PostgreSQL (`NAMEDATALEN - 1`).
const NATIVE_LABEL_MAX: usize = 63;

pub(crate) struct Enum {
    pub(crate) krate: Path,
    pub(crate) visibility: Visibility,
    pub(crate) name: Ident,
    pub(crate) repr: Repr,
    pub(crate) variants: Vec<Variant>,
    /// The catch-all.
    pub(crate) unknown: Option<Ident>,
    pub(crate) bindings: Vec<Binding>,
}

pub(crate) struct Variant {
    pub(crate) name: Ident,
    pub(crate) label: String,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) number: i32,
}

impl Enum {
    /// Reads the enum; the error has one message for each thing that is wrong.
    pub(crate) fn read(input: &DeriveInput) -> Result<Self> {
        let Data::Enum(data) = &input.data else {
            return Err(Error::new(input.span(), "a schema-backed enum must be an enum"));
        };
        if !input.generics.params.is_empty() {
            let message =
                "a schema-backed enum cannot be generic: its values are those of a column";
            return Err(Error::new(input.generics.span(), message));
        }
        let OfEnum { krate, repr, case, bindings } = OfEnum::read(&input.attrs)?;
        let mut read = Self {
            krate,
            visibility: input.vis.clone(),
            name: input.ident.clone(),
            repr,
            variants: Vec::new(),
            unknown: None,
            bindings,
        };
        let mut errors = Errors::default();
        for syntax in &data.variants {
            errors.take(OfVariant::read(&syntax.attrs).and_then(|attributes| {
                if attributes.unknown {
                    return read.take_unknown(syntax, &attributes);
                }
                let label = match &attributes.rename {
                    Some(label) => label.value(),
                    None => case.label(&plain(&syntax.ident)),
                };
                read.take(syntax, label, attributes)
            }));
        }
        errors.take(read.check_labels());
        errors.none()?;
        if read.variants.is_empty() {
            let message = format!("`{}` has no variant that could be written", read.name);
            return Err(Error::new(input.ident.span(), message));
        }
        Ok(read)
    }

    fn take(&mut self, syntax: &Syntax, label: String, attributes: OfVariant) -> Result<()> {
        let name = syntax.ident.clone();
        if !matches!(syntax.fields, Fields::Unit) {
            let message = format!(
                "`{name}` has fields, which a column cannot keep; only the variant with \
                 `#[schema_enum(unknown)]` has one"
            );
            return Err(Error::new(syntax.fields.span(), message));
        }
        let number = match self.repr {
            Repr::Text | Repr::Native(_) => 0,
            Repr::Int2 => number(syntax, "int2", i16::MIN.into(), i16::MAX.into())?,
            Repr::Int4 => number(syntax, "int4", i32::MIN, i32::MAX)?,
        };
        self.variants.push(Variant { name, label, aliases: attributes.aliases, number });
        Ok(())
    }

    fn take_unknown(&mut self, syntax: &Syntax, attributes: &OfVariant) -> Result<()> {
        let name = &syntax.ident;
        if let Some(first) = &self.unknown {
            let message = format!("`{name}` cannot be the catch-all too: `{first}` is");
            return Err(Error::new(name.span(), message));
        }
        if attributes.rename.is_some() || !attributes.aliases.is_empty() {
            let message = format!("`{name}` is the catch-all: it has no label of its own");
            return Err(Error::new(name.span(), message));
        }
        let carries_text =
            matches!(&syntax.fields, Fields::Unnamed(fields) if fields.unnamed.len() == 1);
        if !carries_text {
            let message = format!("`{name}` must carry the raw text: `{name}(Box<str>)`");
            return Err(Error::new(name.span(), message));
        }
        self.unknown = Some(name.clone());
        Ok(())
    }

    fn check_labels(&self) -> Result<()> {
        let mut errors = Errors::default();
        let mut owners: HashMap<String, &Ident> = HashMap::new();
        for variant in &self.variants {
            let aliases = variant.aliases.iter().map(LitStr::value);
            for label in std::iter::once(variant.label.clone()).chain(aliases) {
                errors.take(self.check_label(variant, &label));
                if let Some(first) = owners.insert(label.clone(), &variant.name) {
                    let message =
                        format!("`{}` has the label {label:?}, which `{first}` has", variant.name);
                    errors.take(Err(Error::new(variant.name.span(), message)));
                }
            }
        }
        errors.none()
    }

    fn check_label(&self, variant: &Variant, label: &str) -> Result<()> {
        if matches!(self.repr, Repr::Native(_)) && label.len() > NATIVE_LABEL_MAX {
            let message = format!(
                "`{}` has a label of {} bytes; those of an enum type of PostgreSQL have at most \
                 {NATIVE_LABEL_MAX}",
                variant.name,
                label.len()
            );
            return Err(Error::new(variant.name.span(), message));
        }
        Ok(())
    }
}

/// The number of a variant, which must be written out: one that is counted would change with the
/// order of the variants, and what is stored would not.
fn number(syntax: &Syntax, repr: &str, least: i32, most: i32) -> Result<i32> {
    let name = &syntax.ident;
    let Some((_, expression)) = &syntax.discriminant else {
        let message = format!(
            "`{name}` needs its number written out, as in `{name} = 1`: a counted one would change \
             with the order of the variants"
        );
        return Err(Error::new(name.span(), message));
    };
    let Some(number) = literal(expression) else {
        let message = format!("the number of `{name}` must be a literal");
        return Err(Error::new(expression.span(), message));
    };
    let fits = i32::try_from(number).ok().filter(|number| (least..=most).contains(number));
    fits.ok_or_else(|| {
        let message = format!("the number of `{name}` does not fit in an {repr}");
        Error::new(expression.span(), message)
    })
}

fn literal(expression: &Expr) -> Option<i64> {
    if let Expr::Unary(unary) = expression
        && matches!(unary.op, UnOp::Neg(_))
    {
        return literal(&unary.expr).map(|number| -number);
    }
    if let Expr::Group(inner) = expression {
        return literal(&inner.expr);
    }
    let Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) = expression else { return None };
    number.base10_parse().ok()
}

/// `r#Type` is `Type`.
fn plain(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map_or_else(|| text.clone(), str::to_owned)
}

/// Everything that is wrong, so that it can be corrected in one go.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn take(&mut self, result: Result<()>) {
        if let Err(error) = result {
            match &mut self.0 {
                Some(errors) => errors.combine(error),
                None => self.0 = Some(error),
            }
        }
    }

    fn none(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
