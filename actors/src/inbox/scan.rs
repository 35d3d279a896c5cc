//! One pass over the bytes of a JSON document: is it one, and is it within its limits?
//!
//! The grammar is that of RFC 8259. No recursion: the open containers are a list that is never
//! longer than the limit, so a hostile document costs its own length and nothing else.

use std::borrow::Cow;
use std::collections::HashSet;

use super::raw_json::{JsonLimits, RawJsonError};

/// Checks a whole document.
pub(super) fn scan(bytes: &[u8], limits: &JsonLimits) -> Result<(), RawJsonError> {
    if bytes.len() > limits.bytes {
        return Err(RawJsonError::TooLarge { limit: limits.bytes });
    }
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(RawJsonError::NotUtf8 { offset: error.valid_up_to() });
    }
    let open = Vec::with_capacity(limits.depth.min(64));
    Scanner { bytes, at: 0, tokens: 0, open, limits, names: HashSet::new() }.document()
}

/// A container that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Array,
    Object,
}

/// What may come next.
///
/// | state | a value | a name | `]` `}` | `,` | the end |
/// |---|---|---|---|---|---|
/// | `Value` | yes | | | | |
/// | `First` | in an array | in an object | yes | | |
/// | `Next` | in an array | in an object | | | |
/// | `After` | | | yes | yes, if open | yes, if none is open |
#[derive(Debug, Clone, Copy)]
enum Expect {
    Value,
    First,
    Next,
    After,
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    tokens: usize,
    open: Vec<Open>,
    limits: &'a JsonLimits,
    /// The names of the outermost object, unescaped.
    names: HashSet<Cow<'a, [u8]>>,
}

type Scanned<T> = Result<T, RawJsonError>;

impl<'a> Scanner<'a> {
    fn document(mut self) -> Scanned<()> {
        let mut expect = Expect::Value;
        loop {
            self.skip_blanks();
            expect = match (expect, self.open.last().copied()) {
                (Expect::After, None) => {
                    return if self.at == self.bytes.len() { Ok(()) } else { self.wrong() };
                }
                (Expect::After, Some(within)) => self.after(within)?,
                (Expect::First, Some(within)) if self.take(within.end()) => self.close(),
                (Expect::First | Expect::Next, Some(Open::Object)) => self.name()?,
                (Expect::Value | Expect::First | Expect::Next, _) => self.value()?,
            };
        }
    }

    fn after(&mut self, within: Open) -> Scanned<Expect> {
        if self.take(b',') {
            return Ok(Expect::Next);
        }
        if self.take(within.end()) { Ok(self.close()) } else { self.wrong() }
    }

    fn close(&mut self) -> Expect {
        self.open.pop();
        Expect::After
    }

    fn name(&mut self) -> Scanned<Expect> {
        if self.peek() != Some(b'"') {
            return self.wrong();
        }
        self.token()?;
        let (name, is_escaped) = self.string()?;
        if self.open.len() == 1 {
            let name = if is_escaped { Cow::Owned(unescape(name)) } else { Cow::Borrowed(name) };
            if !self.names.insert(name) {
                return Err(RawJsonError::DuplicateName);
            }
        }
        self.skip_blanks();
        if self.take(b':') { Ok(Expect::Value) } else { self.wrong() }
    }

    fn value(&mut self) -> Scanned<Expect> {
        self.token()?;
        match self.peek() {
            Some(b'{') => return self.enter(Open::Object),
            Some(b'[') => return self.enter(Open::Array),
            Some(b'"') => drop(self.string()?),
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) | None => return self.wrong(),
        }
        Ok(Expect::After)
    }

    fn enter(&mut self, container: Open) -> Scanned<Expect> {
        if self.open.len() >= self.limits.depth {
            return Err(RawJsonError::TooDeep { limit: self.limits.depth });
        }
        self.open.push(container);
        self.at += 1;
        Ok(Expect::First)
    }

    /// Counts a value or a name.
    fn token(&mut self) -> Scanned<()> {
        self.tokens += 1;
        if self.tokens > self.limits.tokens {
            return Err(RawJsonError::TooManyTokens { limit: self.limits.tokens });
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Scanned<()> {
        for byte in word {
            if !self.take(*byte) {
                return self.wrong();
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Scanned<()> {
        let _sign = self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Scanned<()> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.wrong();
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    /// What is between the quotes, and whether there is an escape in it.
    fn string(&mut self) -> Scanned<(&'a [u8], bool)> {
        self.at += 1;
        let (start, mut is_escaped) = (self.at, false);
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = self.bytes.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok((text, is_escaped));
                }
                Some(b'\\') => {
                    is_escaped = true;
                    self.escape()?;
                }
                Some(0..0x20) | None => return self.wrong(),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Scanned<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return self.wrong();
                    }
                    self.at += 1;
                }
            }
            Some(_) | None => return self.wrong(),
        }
        Ok(())
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    const fn wrong<T>(&self) -> Scanned<T> {
        Err(RawJsonError::Syntax { offset: self.at })
    }
}

impl Open {
    const fn end(self) -> u8 {
        match self {
            Self::Array => b']',
            Self::Object => b'}',
        }
    }
}

/// The text that an escaped string stands for, in a form that is the same for the same text.
///
/// A surrogate without its other half, which JSON allows and UTF-8 does not, is written as UTF-8
/// would write it.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    let mut high: Option<u32> = None;
    while let Some((byte, after)) = rest.split_first() {
        let unit = match (byte, after.split_first()) {
            (b'\\', Some((b'u', digits))) => {
                rest = digits.get(4..).unwrap_or_default();
                Some(hexadecimal(digits.get(..4).unwrap_or_default()))
            }
            (b'\\', Some((short, after))) => {
                rest = after;
                Some(u32::from(short_escape(*short)))
            }
            _ => {
                rest = after;
                None
            }
        };
        match (high.take(), unit) {
            (Some(first), Some(second @ 0xdc00..0xe000)) => {
                push(&mut plain, 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00));
            }
            (first, unit) => {
                if let Some(first) = first {
                    push(&mut plain, first);
                }
                match unit {
                    Some(unit @ 0xd800..0xdc00) => high = Some(unit),
                    Some(unit) => push(&mut plain, unit),
                    None => plain.push(*byte),
                }
            }
        }
    }
    if let Some(first) = high {
        push(&mut plain, first);
    }
    plain
}

const fn short_escape(byte: u8) -> u8 {
    match byte {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}

fn hexadecimal(digits: &[u8]) -> u32 {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(0);
    digits.iter().fold(0, |value, byte| value * 16 + digit(byte))
}

/// Writes a code point as UTF-8 does, a lone surrogate as well.
fn push(plain: &mut Vec<u8>, point: u32) {
    if let Some(character) = char::from_u32(point) {
        plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        return;
    }
    let part = |shift: u32, mask: u32| u8::try_from((point >> shift) & mask).unwrap_or(0);
    plain.extend([0xe0 | part(12, 0x0f), 0x80 | part(6, 0x3f), 0x80 | part(0, 0x3f)]);
}
