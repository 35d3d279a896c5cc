//! What the macro writes. What does not depend on the variants is in a macro of the library,
//! which also knows what features it has.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use crate::attributes::{Binding, Repr};
use crate::model::{Enum, Variant};

pub(crate) fn expand(model: &Enum) -> TokenStream {
    let Enum { krate, name, .. } = model;
    let spec = spec(model);
    let conversions = conversions(model);
    let inherent = inherent(model);
    let repr = match model.repr {
        Repr::Text => quote!(text),
        Repr::Int2 => quote!(int2),
        Repr::Int4 => quote!(int4),
        Repr::Native(_) => quote!(native),
    };
    quote! {
        #[automatically_derived]
        impl #krate::schema_enum::SchemaEnum for #name {
            const SPEC: &'static #krate::schema_enum::EnumSpec = &#spec;
            #conversions
        }
        #inherent
        #krate::schema_enum::__private::implement!(#name, #repr);
    }
}

fn spec(model: &Enum) -> TokenStream {
    let Enum { krate, name, variants, bindings, .. } = model;
    let text = name.to_string();
    let repr = match &model.repr {
        Repr::Text => quote!(Text),
        Repr::Int2 => quote!(Int2),
        Repr::Int4 => quote!(Int4),
        Repr::Native(name) => quote!(Native(#name)),
    };
    let variants = variants.iter().map(|Variant { label, aliases, number, .. }| {
        let number = Literal::i32_suffixed(*number);
        quote! {
            #krate::schema_enum::Variant { label: #label, aliases: &[#(#aliases),*], number: #number }
        }
    });
    let bindings = bindings.iter().map(|Binding { table, column, nullable, array }| {
        quote! {
            #krate::schema_enum::Binding {
                table: #table, column: #column, nullable: #nullable, array: #array,
            }
        }
    });
    let open = model.unknown.is_some();
    quote! {
        #krate::schema_enum::EnumSpec::new(
            #text, #krate::schema_enum::Repr::#repr, &[#(#variants),*], &[#(#bindings),*], #open,
        )
    }
}

fn conversions(model: &Enum) -> TokenStream {
    let names: Vec<_> = model.variants.iter().map(|variant| &variant.name).collect();
    let ordinals: Vec<_> = (0..names.len()).map(Literal::usize_unsuffixed).collect();
    let (of_unknown, unknown) = match &model.unknown {
        Some(unknown) => (
            quote! {
                Self::#unknown(raw) => ::core::result::Result::Err(
                    ::core::convert::AsRef::<str>::as_ref(raw)
                ),
            },
            quote! {
                ::core::option::Option::Some(Self::#unknown(::core::convert::From::from(raw)))
            },
        ),
        None => (
            quote!(),
            quote!({
                let _ = raw;
                ::core::option::Option::None
            }),
        ),
    };
    quote! {
        fn from_ordinal(ordinal: usize) -> ::core::option::Option<Self> {
            match ordinal {
                #(#ordinals => ::core::option::Option::Some(Self::#names),)*
                _ => ::core::option::Option::None,
            }
        }
        fn ordinal(&self) -> ::core::result::Result<usize, &str> {
            match self {
                #(Self::#names => ::core::result::Result::Ok(#ordinals),)*
                #of_unknown
            }
        }
        fn unknown(raw: &str) -> ::core::option::Option<Self> {
            #unknown
        }
    }
}

fn inherent(model: &Enum) -> TokenStream {
    let Enum { visibility, name, unknown, variants, .. } = model;
    let names: Vec<_> = variants.iter().map(|variant| &variant.name).collect();
    let labels = variants.iter().map(|variant| &variant.label);
    let as_str = match unknown {
        None => quote! {
            /// Its label.
            #[must_use]
            #visibility const fn as_str(&self) -> &'static str {
                match self {
                    #(Self::#names => #labels,)*
                }
            }
        },
        Some(unknown) => quote! {
            /// Its label; of the catch-all the raw text.
            #[must_use]
            #visibility fn as_str(&self) -> &str {
                match self {
                    #(Self::#names => #labels,)*
                    Self::#unknown(raw) => ::core::convert::AsRef::<str>::as_ref(raw),
                }
            }
        },
    };
    quote! {
        #[automatically_derived]
        #[allow(dead_code, reason = "not every enum needs all of it")]
        impl #name {
            /// Every value that can be written, in the order of the variants.
            #visibility const VALUES: &'static [Self] = &[#(Self::#names),*];
            #as_str
        }
    }
}
