//! AWS Signature Version 4, for one `POST` whose path needs no encoding and has no query.
//!
//! Written after AWS's reference, "Create a signed AWS API request".

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest, Sha256};

use crate::hex::hex;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What is signed.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// Begins with a slash; letters, digits, `-`, `_`, `.`, `~` and slashes.
    pub(super) path: &'a str,
    /// Names in lower case, sorted; values without white space at their ends.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
}

/// Whom and when a signature is for.
pub(super) struct Scope<'a> {
    /// `20150830T123600Z`; also the value of the header `x-amz-date`.
    pub(super) time: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl Scope<'_> {
    fn date(&self) -> &str {
        self.time.get(..8).unwrap_or_default()
    }

    fn text(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.date(), self.region, self.service)
    }
}

/// The value of the header `authorization`.
pub(super) fn authorization(
    request: &Request<'_>,
    scope: &Scope<'_>,
    access_key_id: &str,
    secret: &str,
) -> String {
    let signature = hex(&hmac(&signing_key(secret, scope), string_to_sign(request, scope)));
    format!(
        "{ALGORITHM} Credential={access_key_id}/{}, SignedHeaders={}, Signature={signature}",
        scope.text(),
        signed_headers(request),
    )
}

fn signed_headers(request: &Request<'_>) -> String {
    request.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";")
}

fn canonical_request(request: &Request<'_>) -> String {
    let mut canonical = format!("{}\n{}\n\n", request.method, request.path);
    for (name, value) in request.headers {
        // Writing to a string cannot fail.
        let _infallible = writeln!(canonical, "{name}:{value}");
    }
    let body = hex(&Sha256::digest(request.body));
    let _infallible = write!(canonical, "\n{}\n{body}", signed_headers(request));
    canonical
}

fn string_to_sign(request: &Request<'_>, scope: &Scope<'_>) -> String {
    let hash = hex(&Sha256::digest(canonical_request(request)));
    format!("{ALGORITHM}\n{}\n{}\n{hash}", scope.time, scope.text())
}

fn signing_key(secret: &str, scope: &Scope<'_>) -> [u8; 32] {
    let date = hmac(format!("AWS4{secret}").as_bytes(), scope.date());
    let region = hmac(&date, scope.region);
    let service = hmac(&region, scope.service);
    hmac(&service, "aws4_request")
}

fn hmac(key: &[u8], data: impl AsRef<[u8]>) -> [u8; 32] {
    let keyed = Hmac::<Sha256>::new_from_slice(key);
    // HMAC takes a key of any length.
    keyed.map(|mac| mac.chain_update(data).finalize().into_bytes().into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    /// The example of AWS's page about the signing key.
    #[test]
    fn the_signing_key_is_the_one_of_the_reference() {
        let scope = Scope { time: "20150830T123600Z", region: "us-east-1", service: "iam" };
        let key = hex(&signing_key(SECRET, &scope));
        assert_eq!(key, "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
        let scope = Scope { time: "20120215T000000Z", region: "us-east-1", service: "iam" };
        let key = hex(&signing_key(SECRET, &scope));
        assert_eq!(key, "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
    }

    /// `get-vanilla` and `post-vanilla` of AWS's test suite for Signature Version 4.
    #[test]
    fn signatures_are_those_of_the_test_suite() {
        let scope = Scope { time: "20150830T123600Z", region: "us-east-1", service: "service" };
        let headers = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
        for (method, signature) in [
            ("GET", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ] {
            let request = Request { method, path: "/", headers: &headers, body: b"" };
            assert_eq!(
                authorization(&request, &scope, "AKIDEXAMPLE", SECRET),
                format!(
                    "AWS4-HMAC-SHA256 \
                     Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders=host;x-amz-date, Signature={signature}"
                ),
            );
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_gives_another_signature() {
        let scope = Scope { time: "20150830T123600Z", region: "us-east-1", service: "ses" };
        let sign = |path, host, body, secret| {
            let request = Request { method: "POST", path, headers: &[("host", host)], body };
            authorization(&request, &scope, "AKIDEXAMPLE", secret)
        };
        let right = sign("/a", "example.com", b"body", SECRET);
        assert_ne!(right, sign("/b", "example.com", b"body", SECRET));
        assert_ne!(right, sign("/a", "example.net", b"body", SECRET));
        assert_ne!(right, sign("/a", "example.com", b"bodx", SECRET));
        assert_ne!(right, sign("/a", "example.com", b"body", "another"));
    }
}
