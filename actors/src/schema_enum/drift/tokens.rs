//! Just enough of SQL to find checks in `create table`, and literals in an expression.

/// One token, with what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name or a keyword without quotes.
    Word(&'a str),
    /// A name in quotes, without them.
    Quoted(String),
    /// A text, without quotes.
    Text(String),
    Number(&'a str),
    Mark(char),
}

impl Token<'_> {
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own.eq_ignore_ascii_case(word))
    }

    /// The name it may stand for.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) => Some(name),
            Self::Quoted(name) => Some(name),
            Self::Text(_) | Self::Number(_) | Self::Mark(_) => None,
        }
    }
}

/// A token and where it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed<'a> {
    pub(super) token: Token<'a>,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// All tokens; spaces and comments are left out.
pub(super) fn tokens(sql: &str) -> Vec<Placed<'_>> {
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(rest) = sql.get(start..).filter(|rest| !rest.is_empty()) {
        let (token, length) = next(rest);
        let end = start + length.max(1);
        if let Some(token) = token {
            found.push(Placed { token, start, end });
        }
        start = end;
    }
    found
}

/// The token that begins here, if it is one, and its bytes.
fn next(rest: &str) -> (Option<Token<'_>>, usize) {
    let first = rest.chars().next().unwrap_or(' ');
    let while_ = |test: fn(char) -> bool| rest.find(|letter| !test(letter)).unwrap_or(rest.len());
    if first.is_whitespace() {
        return (None, while_(char::is_whitespace));
    }
    if rest.starts_with("--") {
        return (None, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (None, rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if let Some(escaped) = rest.strip_prefix("E'").or_else(|| rest.strip_prefix("e'")) {
        let (text, length) = escaped_text(escaped);
        return (Some(Token::Text(text)), length + 2);
    }
    match first {
        '\'' => quoted(rest, '\'', Token::Text),
        '"' | '`' => quoted(rest, first, Token::Quoted),
        '[' => {
            let end = rest.find(']').unwrap_or(rest.len());
            let name = rest.get(1..end).unwrap_or_default().to_owned();
            // PostgreSQL's `[` and `]` are marks, and what is in them speaks for itself.
            match name.contains(['\'', ',', ':']) {
                true => (Some(Token::Mark('[')), 1),
                false => (Some(Token::Quoted(name)), end + 1),
            }
        }
        '0'..='9' => {
            let length = while_(|letter| letter.is_ascii_alphanumeric() || letter == '.');
            (Some(Token::Number(rest.get(..length).unwrap_or_default())), length)
        }
        letter if letter.is_alphabetic() || letter == '_' => {
            let length = while_(|letter| letter.is_alphanumeric() || "_$".contains(letter));
            (Some(Token::Word(rest.get(..length).unwrap_or_default())), length)
        }
        mark => (Some(Token::Mark(mark)), mark.len_utf8()),
    }
}

/// Two quotes in a row stand for one.
fn quoted(
    rest: &str,
    quote: char,
    token: fn(String) -> Token<'static>,
) -> (Option<Token<'static>>, usize) {
    let mut text = String::new();
    let mut letters = rest.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter != quote {
            text.push(letter);
        } else if letters.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return (Some(token(text)), at + 1);
        }
    }
    (Some(token(text)), rest.len())
}

/// As PostgreSQL prints a text with a backslash: that and the quote are doubled.
fn escaped_text(rest: &str) -> (String, usize) {
    let mut text = String::new();
    let mut letters = rest.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => text.extend(letters.next().map(|(_, escaped)| escaped)),
            '\'' if letters.next_if(|(_, next)| *next == '\'').is_some() => text.push('\''),
            '\'' => return (text, at + 1),
            letter => text.push(letter),
        }
    }
    (text, rest.len())
}

/// The texts and the whole numbers that an expression speaks of, as text.
pub(super) fn literals(sql: &str) -> impl Iterator<Item = String> {
    let mut is_negative = false;
    tokens(sql).into_iter().filter_map(move |placed| {
        let literal = match &placed.token {
            Token::Text(text) => Some(text.clone()),
            Token::Number(number) if is_negative => Some(format!("-{number}")),
            Token::Number(number) => Some((*number).to_owned()),
            Token::Word(_) | Token::Quoted(_) | Token::Mark(_) => None,
        };
        is_negative = placed.token == Token::Mark('-');
        literal
    })
}

/// A check of a table, as `create table` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableCheck<'a> {
    pub(super) name: Option<String>,
    /// What is between its parentheses.
    pub(super) expression: &'a str,
    /// The names in it, keywords and functions among them.
    pub(super) names: Vec<String>,
}

/// The checks of a table, and the collation of one of its columns.
pub(super) fn checks<'a>(create: &'a str, column: &str) -> (Vec<TableCheck<'a>>, Option<String>) {
    let tokens = tokens(create);
    let (mut checks, mut collation) = (Vec::new(), None);
    let (mut depth, mut begins_item, mut in_column) = (0_usize, false, false);
    let mut name = None;
    let mut at = 0;
    while let Some(placed) = tokens.get(at) {
        at += 1;
        let (token, following) = (&placed.token, tokens.get(at).map(|next| &next.token));
        let begun = std::mem::take(&mut begins_item);
        if *token == Token::Mark('(') {
            depth += 1;
            begins_item = depth == 1;
        } else if *token == Token::Mark(')') {
            depth = depth.saturating_sub(1);
        } else if depth == 1 && *token == Token::Mark(',') {
            begins_item = true;
            name = None;
        } else if depth == 1 {
            if begun {
                in_column = token.name().is_some_and(|own| own.eq_ignore_ascii_case(column));
            }
            if token.is_word("constraint") {
                name = following.and_then(Token::name).map(str::to_owned);
                at += 1;
            } else if token.is_word("check") && following == Some(&Token::Mark('(')) {
                at = take_check(create, &tokens, at, name.take(), &mut checks);
            } else if token.is_word("collate") && in_column {
                collation = following.and_then(Token::name).map(str::to_owned);
            }
        }
    }
    (checks, collation)
}

/// Takes the check whose parenthesis is at `open`; where it goes on after that.
fn take_check<'a>(
    create: &'a str,
    tokens: &[Placed<'a>],
    open: usize,
    name: Option<String>,
    checks: &mut Vec<TableCheck<'a>>,
) -> usize {
    let (mut depth, mut names) = (0_usize, Vec::new());
    for (at, placed) in tokens.iter().enumerate().skip(open) {
        if placed.token == Token::Mark('(') {
            depth += 1;
        } else if placed.token == Token::Mark(')') {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                let start = tokens.get(open).map_or(0, |open| open.end);
                let expression = create.get(start..placed.start).unwrap_or_default();
                checks.push(TableCheck { name, expression, names });
                return at + 1;
            }
        } else {
            names.extend(placed.token.name().map(str::to_owned));
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_found_as_each_database_prints_them() {
        let found = |sql| literals(sql).collect::<Vec<_>>();
        assert_eq!(found("(s = ANY (ARRAY['a'::text, 'it''s'::text]))"), ["a", "it's"]);
        assert_eq!(found(r"(s = E'a\\b''c'::text)"), [r"a\b'c"]);
        assert_eq!(
            found("n IN (1, -2, 30) -- 4\n /* 5 */ and n <> '-6'::integer"),
            ["1", "-2", "30", "-6"]
        );
        assert_eq!(found("x ~ 'unended"), ["unended"]);
    }

    #[track_caller]
    fn check(create: &str, expected: &[(Option<&str>, &str)]) {
        let (found, _) = checks(create, "s");
        let found: Vec<_> =
            found.iter().map(|one| (one.name.as_deref(), one.expression.trim())).collect();
        assert_eq!(found, expected, "{create}");
    }

    #[test]
    fn checks_are_found_wherever_they_stand() {
        check(
            "CREATE TABLE t (s TEXT CHECK (s IN ('a', ')')), b INT)",
            &[(None, "s IN ('a', ')')")],
        );
        check("create table t (s text, check(s <> ''))", &[(None, "s <> ''")]);
        check(
            "create table t (s text constraint one check (s > 'a') constraint two not null check (b), \
             constraint \"th ree\" check ((s) = 'x'))",
            &[(Some("one"), "s > 'a'"), (Some("two"), "b"), (Some("th ree"), "(s) = 'x'")],
        );
        check("create table \"check (\" ([s] text default 'check (1)' -- check (2)\n)", &[]);
        check("create table t (s text, \"check\" text, c default (check))", &[]);
        check("create table t (s text check (", &[]);
    }

    #[test]
    fn a_collation_is_that_of_its_column() {
        let create = "create table t (a text collate rtrim, S text not null COLLATE nocase, b)";
        assert_eq!(checks(create, "s").1.as_deref(), Some("nocase"));
        assert_eq!(checks(create, "b").1, None);
    }
}
