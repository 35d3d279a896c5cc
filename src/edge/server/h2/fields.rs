//! Pure: how many fields a head has.
//!
//! A field can take one byte, and many times that when it is unpacked. actix-http takes them over
//! in a time that grows with the square of their number. So they are counted on their way; what
//! is in them remains the business of `h2`. (RFC 7541, sections 5 and 6.)

/// Of a head, in pieces of any size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fields {
    count: usize,
    next: Next,
}

/// What the next byte belongs to. Texts are counted with the one that is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Field,
    /// The rest of a number, and so many texts after it.
    Number {
        texts: u8,
    },
    Length {
        texts: u8,
    },
    LongLength {
        texts: u8,
        length: u32,
        shift: u32,
    },
    Text {
        texts: u8,
        left: u32,
    },
}

impl Fields {
    pub(super) const fn count(self) -> usize {
        self.count
    }

    /// More of the head.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            bytes = rest;
            self.next = match self.next {
                Next::Field => self.field(*byte),
                Next::Number { texts } if byte & 0x80 == 0 => texts_of(texts),
                number @ Next::Number { .. } => number,
                Next::Length { texts } => match u32::from(byte & 0x7F) {
                    0x7F => Next::LongLength { texts, length: 0x7F, shift: 0 },
                    length => text(texts, length),
                },
                Next::LongLength { texts, length, shift } => {
                    // One that is too long is refused by `h2`.
                    let more = u32::from(byte & 0x7F).checked_shl(shift).unwrap_or(u32::MAX);
                    let length = length.saturating_add(more);
                    if byte & 0x80 == 0 {
                        text(texts, length)
                    } else {
                        Next::LongLength { texts, length, shift: shift.saturating_add(7) }
                    }
                }
                Next::Text { texts, left } => {
                    let skipped = usize::try_from(left - 1).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(skipped..).unwrap_or_default();
                    let skipped = u32::try_from(skipped).unwrap_or(u32::MAX);
                    text(texts, left - 1 - skipped)
                }
            };
        }
    }

    /// The first byte of one: how it is written, and a number, which may go on.
    fn field(&mut self, byte: u8) -> Next {
        let (prefix, literal) = match byte {
            0x80.. => (0x7F, false),
            0x40.. => (0x3F, true),
            // The size of the table, which is no field.
            0x20.. => (0x1F, false),
            _ => (0x0F, true),
        };
        self.count += usize::from(!(0x20..0x40).contains(&byte));
        let number = byte & prefix;
        // A name without a number is written out, before the value.
        let texts = u8::from(literal) + u8::from(literal && number == 0);
        if number == prefix { Next::Number { texts } } else { texts_of(texts) }
    }
}

const fn texts_of(texts: u8) -> Next {
    if texts == 0 { Next::Field } else { Next::Length { texts } }
}

const fn text(texts: u8, left: u32) -> Next {
    if left == 0 { texts_of(texts - 1) } else { Next::Text { texts, left } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(bytes: &[u8]) -> Fields {
        let mut fields = Fields::default();
        fields.take(bytes);
        fields
    }

    #[test]
    fn the_examples_of_the_specification_have_their_fields() {
        let examples: [(&[u8], usize); 6] = [
            (b"\x40\x0acustom-key\x0dcustom-header", 1),
            (b"\x04\x0c/sample/path", 1),
            (b"\x10\x08password\x06secret", 1),
            (b"\x82\x86\x84\x41\x0fwww.example.com", 4),
            (b"\x82\x86\x84\xbe\x58\x08no-cache", 5),
            (b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", 4),
        ];
        for (bytes, count) in examples {
            assert_eq!(of(bytes), Fields { count, next: Next::Field }, "{bytes:?}");
        }
        assert_eq!(of(b"\x3f\xe1\x1f\x82"), Fields { count: 1, next: Next::Field });
    }

    /// A number behind a prefix of so many bits, and what else is in its first byte.
    fn number(bits: u32, first: u8, value: u32) -> Vec<u8> {
        let most = (1_u32 << bits) - 1;
        if value < most {
            return vec![first | u8::try_from(value).unwrap()];
        }
        let mut bytes = vec![first | u8::try_from(most).unwrap()];
        let mut rest = value - most;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128).unwrap() | 0x80);
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).unwrap());
        bytes
    }

    fn written(kind: u8, index: u32, name: &[u8], value: &[u8]) -> (Vec<u8>, usize) {
        let text = |text: &[u8]| {
            // Half of them are packed, which makes no difference.
            let packed = if text.len().is_multiple_of(2) { 0x80 } else { 0 };
            [number(7, packed, u32::try_from(text.len()).unwrap()), text.to_vec()].concat()
        };
        let literal = |bits, first| {
            let named = if index == 0 { text(name) } else { Vec::new() };
            [number(bits, first, index), named, text(value)].concat()
        };
        match kind {
            0 => (number(7, 0x80, index), 1),
            1 => (literal(6, 0x40), 1),
            2 => (number(5, 0x20, index), 0),
            3 => (literal(4, 0x10), 1),
            _ => (literal(4, 0), 1),
        }
    }

    proptest! {
        /// However they are written, and wherever they are cut.
        #[test]
        fn all_fields_are_counted_and_nothing_else(
            fields in proptest::collection::vec(
                (0_u8..5, prop_oneof![Just(0), 1_u32..10_000],
                    proptest::collection::vec(any::<u8>(), 0..300),
                    proptest::collection::vec(any::<u8>(), 0..300)), 0..12),
            piece in 1_usize..50,
        ) {
            let mut counted = Fields::default();
            let (mut bytes, mut count) = (Vec::new(), 0);
            for (kind, index, name, value) in &fields {
                let (field, is_one) = written(*kind, *index, name, value);
                bytes.extend(field);
                count += is_one;
            }
            bytes.chunks(piece).for_each(|piece| counted.take(piece));
            prop_assert_eq!(counted, Fields { count, next: Next::Field });
        }

        #[test]
        fn garbage_is_taken_and_counts_no_more_than_its_bytes(bytes in any::<Vec<u8>>()) {
            prop_assert!(of(&bytes).count() <= bytes.len());
        }
    }
}
