//! How a target's input is laid out, so that a seed can be read and written by hand:
//!
//! ```text
//! 3 200
//! retry-after: 7
//!
//! {"body": 1}
//! ```
//!
//! The first line has two numbers, whose meaning is the target's; then come headers, then the
//! body.

/// An input.
#[derive(Debug)]
pub struct Input<'a> {
    /// Which of the target's readers is meant.
    pub which: usize,
    /// A status, where there is one.
    pub status: u16,
    /// Names and values as they came.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// What comes after the first empty line.
    pub body: &'a [u8],
}

impl<'a> Input<'a> {
    /// `None` for bytes that are not laid out so.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (first, mut rest) = line(bytes)?;
        let (which, status) = std::str::from_utf8(first).ok()?.split_once(' ')?;
        let (which, status) = (which.parse().ok()?, status.parse().ok()?);
        let mut headers = Vec::new();
        loop {
            let (header, after) = line(rest)?;
            rest = after;
            if header.is_empty() {
                return Some(Self { which, status, headers, body: rest });
            }
            let colon = header.iter().position(|byte| *byte == b':')?;
            let name = std::str::from_utf8(&header[..colon]).ok()?;
            let value = &header[colon + 1..];
            headers.push((name, value.strip_prefix(b" ").unwrap_or(value)));
        }
    }
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}
