//! A text from HTML, for mail programs that show none.
//!
//! It is for HTML of a mail's template: what is left out is how it looks, not what it says. HTML
//! is read as far as that needs, in one pass, and anything that is no HTML is taken for text.

/// The words of `html`, blocks on lines of their own, links behind their words.
pub(super) fn html_to_text(html: &str) -> String {
    let mut text = Text::default();
    let mut link = None;
    let mut rest = html;
    while let Some((before, from_tag)) = split_at_tag(rest) {
        text.words(before);
        rest = from_tag.skip;
        match from_tag.tag {
            None => {}
            Some(tag) if is_hidden(tag) => rest = behind_element(rest, tag.name),
            Some(tag) => apply(&mut text, &mut link, tag),
        }
    }
    text.words(rest);
    text.finish()
}

#[derive(Clone, Copy)]
struct Tag<'a> {
    name: &'a str,
    closes: bool,
    attributes: &'a str,
}

impl Tag<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn is_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.is(name))
    }
}

/// What begins with a `<`: a tag, or a comment or declaration, which say nothing.
struct FromTag<'a> {
    tag: Option<Tag<'a>>,
    /// What comes behind it.
    skip: &'a str,
}

/// The text before the next tag, and from there on; [`None`] when no tag comes any more.
fn split_at_tag(html: &str) -> Option<(&str, FromTag<'_>)> {
    let mut from = 0;
    loop {
        let at = from + html.get(from..)?.find('<')?;
        let (before, tag) = (html.get(..at)?, html.get(at + 1..)?);
        if let Some(comment) = tag.strip_prefix("!--") {
            let skip = comment.split_once("-->").map_or("", |(_, behind)| behind);
            return Some((before, FromTag { tag: None, skip }));
        }
        if tag.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
            let (inner, skip) = split_at_end(tag);
            return Some((before, FromTag { tag: parse_tag(inner), skip }));
        }
        // A `<` that begins no tag is a character.
        from = at + 1;
    }
}

/// The inside of a tag and what comes behind its `>`, which may also be in quotes.
fn split_at_end(tag: &str) -> (&str, &str) {
    let mut quote = None;
    for (at, character) in tag.char_indices() {
        match (quote, character) {
            (None, '>') => {
                let (inner, end) = tag.split_at(at);
                return (inner, end.strip_prefix('>').unwrap_or_default());
            }
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    (tag, "")
}

fn parse_tag(inner: &str) -> Option<Tag<'_>> {
    let (closes, inner) = match inner.strip_prefix('/') {
        Some(inner) => (true, inner),
        None => (false, inner),
    };
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
    let (name, attributes) = inner.split_at(end);
    (!name.is_empty()).then_some(Tag { name, closes, attributes })
}

/// Elements whose words are not for the reader.
fn is_hidden(tag: Tag<'_>) -> bool {
    !tag.closes && tag.is_one_of(&["head", "script", "style", "title", "template"])
}

/// What comes behind the end of an element whose words are left out.
fn behind_element<'a>(html: &'a str, name: &str) -> &'a str {
    let mut rest = html;
    while let Some((_, behind)) = rest.split_once("</") {
        let same = behind.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name));
        if same {
            return behind.split_once('>').map_or("", |(_, behind)| behind);
        }
        rest = behind;
    }
    ""
}

const PARAGRAPHS: [&str; 13] =
    ["article", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "table", "ul"];
const LINES: [&str; 8] = ["address", "div", "footer", "header", "hr", "li", "section", "tr"];

/// The target of a link, and where its words begin.
type Link = Option<(String, usize)>;

fn apply(text: &mut Text, link: &mut Link, tag: Tag<'_>) {
    if tag.is("br") {
        text.line();
    } else if tag.is_one_of(&PARAGRAPHS) {
        text.paragraph();
    } else if tag.is_one_of(&LINES) {
        text.end_line();
        if tag.is("li") && !tag.closes {
            text.words("- ");
        }
    } else if tag.is_one_of(&["td", "th"]) {
        text.space();
    } else if tag.is("img") {
        text.words(attribute(tag.attributes, "alt").unwrap_or_default());
    } else if tag.is("a") && !tag.closes {
        let target = attribute(tag.attributes, "href").map(unescape);
        *link = target.map(|target| (target, text.written.len()));
    } else if tag.is("a")
        && let Some((target, from)) = link.take()
    {
        text.target(&target, from);
    }
}

/// The value of an attribute, as it is written.
fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = attributes;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '=' | '/'));
        let (found, behind) = rest.split_at(end.unwrap_or(rest.len()));
        if found.is_empty() && behind.is_empty() {
            return None;
        }
        let (value, behind) = match behind.trim_start().strip_prefix('=') {
            Some(behind) => split_value(behind.trim_start()),
            None => ("", behind),
        };
        if found.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = behind;
    }
}

fn split_value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(quoted) = text.strip_prefix(quote) {
            return quoted.split_once(quote).unwrap_or((quoted, ""));
        }
    }
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

/// The text so far.
#[derive(Default)]
struct Text {
    written: String,
    /// Line ends to write before the next word.
    lines: usize,
    /// Whether a space is due before the next word.
    space: bool,
}

impl Text {
    /// Words as HTML writes them: with entities, white space of any length for one space.
    fn words(&mut self, html: &str) {
        for character in unescape(html).chars() {
            if character.is_whitespace() && character != '\u{a0}' {
                self.space = true;
            } else if !super::header::breaks_lines(character) {
                self.put(if character == '\u{a0}' { ' ' } else { character });
            }
        }
    }

    fn put(&mut self, character: char) {
        if self.lines > 0 {
            self.written.extend(std::iter::repeat_n('\n', self.lines));
        } else if self.space && !self.written.is_empty() {
            self.written.push(' ');
        }
        (self.lines, self.space) = (0, false);
        self.written.push(character);
    }

    fn space(&mut self) {
        self.space = true;
    }

    /// A line end that was asked for: two of them leave a line empty.
    fn line(&mut self) {
        if !self.written.is_empty() {
            // LIMIT: no more than one line stays empty.
            self.lines = (self.lines + 1).min(2);
        }
    }

    /// The end of the line, if it is not over yet.
    fn end_line(&mut self) {
        if !self.written.is_empty() {
            self.lines = self.lines.max(1);
        }
    }

    /// An empty line, if there is none yet.
    fn paragraph(&mut self) {
        if !self.written.is_empty() {
            self.lines = 2;
        }
    }

    /// Where a link goes, behind its words, unless they say so themselves.
    fn target(&mut self, target: &str, from: usize) {
        let words = self.written.get(from..).unwrap_or_default().trim();
        let known = ["https://", "http://", "mailto:", "tel:"];
        let useful = known.iter().any(|scheme| target.starts_with(scheme));
        let told = words == target || words == target.split(':').nth(1).unwrap_or_default();
        if !useful || told || target.chars().any(super::header::breaks_lines) {
            return;
        }
        let target = if words.is_empty() { target.to_owned() } else { format!("({target})") };
        // The space that is due belongs behind the link, where the words of it end.
        let space = std::mem::replace(&mut self.space, !words.is_empty());
        target.chars().for_each(|character| self.put(character));
        self.space = space;
    }

    fn finish(self) -> String {
        self.written
    }
}

/// Text without character references. The named ones are those that mail has; any other is left
/// as it is written.
fn unescape(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some((before, from)) = rest.split_once('&') {
        text.push_str(before);
        // LIMIT: the longest reference that is known; a search to the end of the text for each
        // `&` would take quadratic time.
        let end = from.bytes().take(9).position(|byte| byte == b';');
        let name = end.and_then(|end| Some((from.get(..end)?, from.get(end + 1..)?)));
        match name.and_then(|(name, behind)| Some((character(name)?, behind))) {
            Some((character, behind)) => {
                text.push(character);
                rest = behind;
            }
            None => {
                text.push('&');
                rest = from;
            }
        }
    }
    text.push_str(rest);
    text
}

fn character(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let hexadecimal = number.strip_prefix(['x', 'X']);
        let number = match hexadecimal {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => number.parse(),
        };
        return char::from_u32(number.ok()?);
    }
    let known = [
        ("amp", '&'),
        ("lt", '<'),
        ("gt", '>'),
        ("quot", '"'),
        ("apos", '\''),
        ("nbsp", '\u{a0}'),
        ("bull", '•'),
        ("cent", '¢'),
        ("copy", '©'),
        ("deg", '°'),
        ("euro", '€'),
        ("hellip", '…'),
        ("laquo", '«'),
        ("ldquo", '“'),
        ("lsquo", '‘'),
        ("mdash", '—'),
        ("middot", '·'),
        ("ndash", '–'),
        ("pound", '£'),
        ("raquo", '»'),
        ("rdquo", '”'),
        ("reg", '®'),
        ("rsquo", '’'),
        ("times", '×'),
        ("trade", '™'),
    ];
    known.iter().find(|(known, _)| *known == name).map(|(_, character)| *character)
}
