//! Which cryptography TLS uses.

/// Makes ring this process's default provider of cryptography for rustls, unless there is one.
///
/// The mailer's HTTP client needs a feature of reqwest under which a client made elsewhere in the
/// process, with no TLS feature of its own, panics when there is no default. `Steadfast::builder`
/// and [`HttpTransport`](crate::mailer::HttpTransport) call this; call it yourself before you make
/// such a client without them. To choose another provider, install that first.
pub fn install_default_provider() {
    // The first one stays.
    drop(rustls::crypto::ring::default_provider().install_default());
}
