//! Pure: where a chunked body ends.
//!
//! actix-http decodes it, and refuses more than this does. INVARIANT: whatever it takes ends here
//! where it ends there. One that ended earlier here would have its rest held back while its reader
//! waits for it.

/// A place in a chunked body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chunks {
    /// In the length of a chunk.
    Length(u64),
    /// Behind it, on the same line.
    Extension(u64),
    /// In a chunk, or the line break after it.
    Chunk(u64),
    /// Behind the last chunk.
    Trailer {
        /// There is nothing on this line yet.
        empty: bool,
        /// The last byte was a CR. Alone, an LF ends no line here.
        cr: bool,
    },
    End,
}

impl Chunks {
    pub(super) const BEGIN: Self = Self::Length(0);

    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::End)
    }

    /// How many of these bytes belong to the body.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        loop {
            rest = match (*self, rest) {
                (Self::End, _) | (_, []) => return bytes.len() - rest.len(),
                (Self::Chunk(left), _) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
                    *self = if left == 0 { Self::BEGIN } else { Self::Chunk(left) };
                    rest.get(count..).unwrap_or_default()
                }
                (_, [byte, after @ ..]) => {
                    *self = self.after(*byte);
                    after
                }
            }
        }
    }

    /// Where it is behind a byte that is in no chunk.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Length(0) | Self::Extension(0), b'\n') => {
                Self::Trailer { empty: true, cr: false }
            }
            // With the line break after it.
            (Self::Length(length) | Self::Extension(length), b'\n') => {
                Self::Chunk(length.saturating_add(2))
            }
            (Self::Length(length), _) => match char::from(byte).to_digit(16) {
                Some(digit) => {
                    Self::Length(length.saturating_mul(16).saturating_add(u64::from(digit)))
                }
                None => Self::Extension(length),
            },
            (Self::Trailer { empty: true, cr: true }, b'\n') => Self::End,
            (Self::Trailer { cr: true, .. }, b'\n') => Self::Trailer { empty: true, cr: false },
            (Self::Trailer { empty, .. }, b'\r') => Self::Trailer { empty, cr: true },
            (Self::Trailer { .. }, _) => Self::Trailer { empty: false, cr: false },
            (same, _) => same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds the end of the body, however it is cut.
    #[track_caller]
    fn check(body: &str) {
        let wire = format!("{body}GET / HTTP/1.1\r\n\r\n0\r\n\r\n");
        for step in 1..wire.len() {
            let (mut chunks, mut found) = (Chunks::BEGIN, 0);
            for piece in wire.as_bytes().chunks(step) {
                found += chunks.pass(piece);
            }
            assert_eq!((found, chunks.is_over()), (body.len(), true), "{body:?} by {step}");
        }
    }

    #[test]
    fn a_body_ends_behind_its_last_chunk_and_not_in_one() {
        check("0\r\n\r\n");
        check("5\r\nhello\r\n0\r\n\r\n");
        check("8\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n");
        check("a\r\n0\r\n\r\n0\r\n\r\n\r\n0000\r\n\r\n");
        check("0A;name=0\r\n0123456789\r\n1 \r\n0\r\n000;0\r\n\r\n");
        check("1\r\na\r\n0\r\nexpires: never\r\n: 0\r\n\r\n");
        check("0\r\n\n\r\n\r\n");
        check("0\r\na: b\n\n\nc: d\r\n\r\n");
    }

    #[test]
    fn a_length_beyond_all_bounds_has_no_end() {
        let mut chunks = Chunks::BEGIN;
        assert_eq!(chunks.pass(b"fffffffffffffffffff\r\n0\r\n\r\n"), 26);
        assert!(!chunks.is_over());
    }
}
