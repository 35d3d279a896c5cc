//! How the name of a variant becomes its label.

/// One of the styles of `rename_all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    AsWritten,
    Snake,
    ScreamingSnake,
    Kebab,
    Camel,
    Pascal,
    Lower,
    Upper,
}

/// The styles, with the names serde has for them.
pub(crate) const STYLES: [(&str, Case); 7] = [
    ("snake_case", Case::Snake),
    ("SCREAMING_SNAKE_CASE", Case::ScreamingSnake),
    ("kebab-case", Case::Kebab),
    ("camelCase", Case::Camel),
    ("PascalCase", Case::Pascal),
    ("lowercase", Case::Lower),
    ("UPPERCASE", Case::Upper),
];

impl Case {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        STYLES.iter().find(|(known, _)| *known == name).map(|(_, case)| *case)
    }

    /// The label of a variant, whose name is in `PascalCase` as Rust has it.
    pub(crate) fn label(self, variant: &str) -> String {
        match self {
            Self::AsWritten | Self::Pascal => variant.to_owned(),
            Self::Snake => separated(variant, '_'),
            Self::ScreamingSnake => separated(variant, '_').to_uppercase(),
            Self::Kebab => separated(variant, '-'),
            Self::Camel => {
                let mut letters = variant.chars();
                let first = letters.next().into_iter().flat_map(char::to_lowercase);
                first.chain(letters).collect()
            }
            Self::Lower => variant.to_lowercase(),
            Self::Upper => variant.to_uppercase(),
        }
    }
}

/// As serde does it: before every capital but the first.
fn separated(variant: &str, separator: char) -> String {
    let mut label = String::new();
    for (at, letter) in variant.chars().enumerate() {
        if letter.is_uppercase() && at > 0 {
            label.push(separator);
        }
        label.extend(letter.to_lowercase());
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_serde() {
        let labels = STYLES.map(|(_, case)| case.label("OnHold"));
        let expected = ["on_hold", "ON_HOLD", "on-hold", "onHold", "OnHold", "onhold", "ONHOLD"];
        assert_eq!(labels, expected);
        assert_eq!(Case::AsWritten.label("OnHold"), "OnHold");
        assert_eq!(Case::Snake.label("HTTPError"), "h_t_t_p_error");
    }
}
