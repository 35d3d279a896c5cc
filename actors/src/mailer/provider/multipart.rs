//! `multipart/form-data` (RFC 7578), written so that the same fields give the same bytes.

use sha2::{Digest, Sha256};

use crate::hex::hex;

/// A form in the making.
pub(super) struct Form {
    boundary: String,
    body: Vec<u8>,
    /// Bytes of names and values of fields that are no file and that a limit counts.
    counted: usize,
}

impl Form {
    /// A form whose parts are parted by a text that comes from `seed` alone. It has 256 bits of
    /// a hash, so that nobody who writes a part can have put it there.
    pub(super) fn new(seed: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(seed).into();
        let boundary = format!("steadfast{}", hex(&digest[..24]));
        Self { boundary, body: Vec::new(), counted: 0 }
    }

    /// One field. Its name is one that is known, or of characters that need no quoting.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        self.open(&format!("name=\"{}\"", escaped(name)));
        self.body.extend_from_slice(b"\r\n");
        self.close(value.as_bytes());
    }

    /// One field that [`Form::counted`] counts.
    pub(super) fn counted_field(&mut self, name: &str, value: &str) {
        self.counted += name.len() + value.len();
        self.field(name, value);
    }

    /// One file.
    pub(super) fn file(&mut self, name: &str, file_name: &str, content_type: &str, content: &[u8]) {
        self.open(&format!("name=\"{name}\"; filename=\"{}\"", escaped(file_name)));
        self.body.extend_from_slice(format!("Content-Type: {content_type}\r\n\r\n").as_bytes());
        self.close(content);
    }

    /// The bytes of all counted fields.
    pub(super) const fn counted(&self) -> usize {
        self.counted
    }

    /// The content type and the body.
    pub(super) fn finish(mut self) -> (String, Vec<u8>) {
        self.body.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        (format!("multipart/form-data; boundary={}", self.boundary), self.body)
    }

    fn open(&mut self, parameters: &str) {
        let head =
            format!("--{}\r\nContent-Disposition: form-data; {parameters}\r\n", self.boundary);
        self.body.extend_from_slice(head.as_bytes());
    }

    fn close(&mut self, content: &[u8]) {
        self.body.extend_from_slice(content);
        self.body.extend_from_slice(b"\r\n");
    }
}

/// As the HTML standard writes names in a form: the three characters that end one in percents.
fn escaped(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}
