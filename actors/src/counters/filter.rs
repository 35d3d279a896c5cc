//! Pure: whether a text can be one condition, and whether an index has all rows that it lets in.

use std::fmt;

/// LIMIT: bytes of a condition.
const FILTER_MAX: usize = 1_000;

/// A condition over the columns of one table. Shown, it is in parentheses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter(String);

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({})", self.0)
    }
}

/// What is wrong with a text that should be a condition.
pub(super) type Why = &'static str;

/// Takes a text that stays one condition wherever it is put in parentheses.
pub(super) fn parse(text: &str) -> Result<Filter, Why> {
    let text = text.trim();
    if text.is_empty() || text.len() > FILTER_MAX {
        return Err("1 to 1,000 bytes");
    }
    let mut depth = 0_usize;
    for piece in pieces(text) {
        match piece {
            Piece::Open => depth += 1,
            Piece::Close => depth = depth.checked_sub(1).ok_or("with parentheses that pair")?,
            Piece::Unended => return Err("with quotes that pair"),
            Piece::Forbidden => return Err("without `;`, comments, `$`, `?`, `\\` and NUL"),
            Piece::Text(_) | Piece::Quoted(_) => {}
        }
    }
    if depth > 0 {
        return Err("with parentheses that pair");
    }
    Ok(Filter(text.to_owned()))
}

impl Filter {
    /// Whether every row that it lets in meets `predicate` too, as far as their texts show it:
    /// each condition of the predicate is one of its own. A `false` may be wrong, a `true` not.
    pub(super) fn implies(&self, predicate: &str) -> bool {
        let own = conjuncts(&self.0);
        let theirs = conjuncts(predicate);
        !theirs.is_empty() && theirs.iter().all(|one| own.contains(one))
    }
}

/// What follows the last `where` of a statement that makes an index.
pub(super) fn after_where(sql: &str) -> Option<&str> {
    let mut at = 0;
    let mut found = None;
    for piece in pieces(sql) {
        let rest = sql.get(at..)?;
        let is_where = matches!(piece, Piece::Text(_))
            && rest.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("where"))
            && rest.get(5..)?.starts_with(|next: char| !next.is_alphanumeric() && next != '_');
        let stands_alone =
            sql.get(..at)?.ends_with(|last: char| !last.is_alphanumeric() && last != '_');
        if is_where && stands_alone {
            found = rest.get(5..);
        }
        at += match piece {
            Piece::Open | Piece::Close => 1,
            Piece::Text(text) | Piece::Quoted(text) => text.len(),
            Piece::Unended | Piece::Forbidden => return None,
        };
    }
    found
}

enum Piece<'a> {
    Open,
    Close,
    Text(&'a str),
    /// With its quotes.
    Quoted(&'a str),
    Unended,
    /// What has no place in a condition.
    Forbidden,
}

/// Takes a text apart where quotes and parentheses are.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let (piece, length) = match first {
            '(' => (Piece::Open, 1),
            ')' => (Piece::Close, 1),
            '\'' | '"' => match quoted(rest, first) {
                Some(length) => (Piece::Quoted(rest.get(..length)?), length),
                None => (Piece::Unended, rest.len()),
            },
            ';' | '$' | '?' | '\\' | '\0' => (Piece::Forbidden, 1),
            '-' if rest.starts_with("--") => (Piece::Forbidden, 2),
            '/' if rest.starts_with("/*") => (Piece::Forbidden, 2),
            other => {
                let length = other.len_utf8();
                (Piece::Text(rest.get(..length)?), length)
            }
        };
        rest = rest.get(length..)?;
        Some(piece)
    })
}

/// The bytes of a quoted text at the beginning, quotes included. A backslash in it is refused
/// too: not every setting reads it the same.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' || letter == '\0' {
            return None;
        }
        if letter == quote && letters.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + letter.len_utf8());
        }
    }
    None
}

/// The conditions that a text joins with `and`, each as its words and signs: without spaces, case,
/// casts to text, and parentheses around the whole.
fn conjuncts(text: &str) -> Vec<Vec<String>> {
    let words = words(text);
    let mut all = Vec::new();
    let (mut begin, mut depth, mut between) = (0, 0_usize, false);
    let whole = unwrapped(&words);
    for (at, word) in whole.iter().enumerate() {
        match word.as_str() {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            // It binds less than `and`: then the whole is one condition.
            "or" if depth == 0 => return vec![whole.to_vec()],
            "between" if depth == 0 => between = true,
            "and" if depth == 0 && between => between = false,
            "and" if depth == 0 => {
                all.extend(whole.get(begin..at).map(|one| unwrapped(one).to_vec()));
                begin = at + 1;
            }
            _ => {}
        }
    }
    all.extend(whole.get(begin..).map(|one| unwrapped(one).to_vec()));
    all
}

fn words(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for piece in pieces(text) {
        let is_part = |letter: &str| letter.chars().all(|one| one.is_alphanumeric() || one == '_');
        match piece {
            Piece::Text(letter) if is_part(letter) => {
                if let Some(word) = all.last_mut() {
                    word.push_str(&letter.to_lowercase());
                }
                continue;
            }
            Piece::Text(sign) if !sign.trim().is_empty() => all.push(sign.to_owned()),
            Piece::Quoted(quoted) => all.push(quoted.to_owned()),
            Piece::Open => all.push("(".to_owned()),
            Piece::Close => all.push(")".to_owned()),
            Piece::Text(_) | Piece::Unended | Piece::Forbidden => {}
        }
        all.push(String::new());
    }
    all.retain(|word| !word.is_empty());
    without_casts(&all)
}

/// PostgreSQL shows `state = 'paid'` as `state = 'paid'::text`.
fn without_casts(words: &[String]) -> Vec<String> {
    let mut plain = Vec::with_capacity(words.len());
    let mut rest = words;
    while let [first, tail @ ..] = rest {
        rest = match rest {
            [one, two, text, tail @ ..] if one == ":" && two == ":" && text == "text" => tail,
            _ => {
                plain.push(first.clone());
                tail
            }
        };
    }
    plain
}

/// Without parentheses around the whole.
fn unwrapped(words: &[String]) -> &[String] {
    let [first, inner @ .., last] = words else { return words };
    if first != "(" || last != ")" {
        return words;
    }
    let mut depth = 0_i32;
    for word in inner {
        depth += i32::from(word == "(") - i32::from(word == ")");
        if depth < 0 {
            return words;
        }
    }
    unwrapped(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_taken_as_it_stands() {
        for text in
            ["deleted_at is null", "a = 'it''s; fine' and (b > 1 or \"c;\" < 2)", "größe > 1"]
        {
            assert_eq!(parse(text).map(|filter| filter.to_string()), Ok(format!("({text})")));
        }
    }

    #[test]
    fn what_could_be_more_than_a_condition_is_refused() {
        for text in [
            "",
            "  ",
            "true; drop table t",
            "a = 1 -- b",
            "a /* b */ = 1",
            "a = $1",
            "a = ?",
            "a) or (b",
            "(a",
            "a = 'b",
            "a = \"b",
            r"a = E'\'",
            "a = 'b\\'",
            "a\0",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"a".repeat(1_000)).is_ok());
        assert!(parse(&"a".repeat(1_001)).is_err());
    }

    #[test]
    fn the_predicate_of_an_index_is_found_in_its_statement() {
        let sql = "CREATE INDEX \"where\" ON t (a, where_b) WHERE deleted_at is null";
        assert_eq!(after_where(sql), Some(" deleted_at is null"));
        assert_eq!(after_where("create index a on t (b)"), None);
    }

    #[track_caller]
    fn check(filter: &str, predicate: &str, expected: bool) {
        assert_eq!(parse(filter).unwrap().implies(predicate), expected, "{filter} → {predicate}");
    }

    #[test]
    fn an_index_is_used_only_where_its_predicate_is_one_of_the_conditions() {
        check("deleted_at is null", "(deleted_at IS NULL)", true);
        check("deleted_at is null and state = 'paid'", "(deleted_at IS NULL)", true);
        check(
            "state='paid' AND deleted_at IS NULL",
            "((deleted_at IS NULL) AND (state = 'paid'::text))",
            true,
        );
        check("deleted_at is null", "(deleted_at IS NOT NULL)", false);
        check("deleted_at is null", "((deleted_at IS NULL) AND (state = 'paid'::text))", false);
        check("deleted_at is null or state = 'paid'", "(deleted_at IS NULL)", false);
        check("state = 'PAID'", "(state = 'paid'::text)", false);
        check("a between 1 and 2", "(a between 1 and 2)", true);
        check("a between 1 and 2 and b", "b", true);
        check("not a and b", "a", false);
        check("a or b", "(b or a)", false);
        check("a or b", "(a OR b)", true);
        check("(a) and (b or c)", "(b OR c)", true);
        check("a = 'x and y'", "y'", false);
    }
}
