//! Addresses and the names before them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::header::{HeaderError, HeaderText};
use super::phrase;
use crate::kernel::{Code, Fault};

/// Why a text is no address that mail can go to. Whoever gave it must correct it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It is not `local@domain`.
    #[error("an address has the form local@domain")]
    Syntax,
    /// What stands before the `@` is no dot-atom (RFC 5322, 3.2.3): it has a quote, a space, a
    /// control character, or a dot at an end or beside another.
    #[error("the part before the @ has a character that providers refuse, or misplaced dots")]
    Local,
    /// What stands before the `@` is not ASCII; no provider here can send to such an address.
    #[error("the part before the @ must be ASCII")]
    NonAsciiLocal,
    /// What stands behind the `@` is no domain name: also not an address in brackets.
    #[error("the part behind the @ is no domain name")]
    Domain,
    /// It is too long.
    #[error("an address has {bytes} bytes; {limit} are allowed")]
    TooLong {
        /// The length of the address or of the part before the `@`.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The name before the address cannot stand in a header.
    #[error(transparent)]
    Name(#[from] HeaderError),
}

impl Fault for AddressError {
    fn code(&self) -> Code {
        match self {
            Self::Syntax => Code::new("mailer.address_syntax"),
            Self::Local => Code::new("mailer.address_local"),
            Self::NonAsciiLocal => Code::new("mailer.address_non_ascii_local"),
            Self::Domain => Code::new("mailer.address_domain"),
            Self::TooLong { .. } => Code::new("mailer.address_too_long"),
            Self::Name(error) => error.code(),
        }
    }
}

/// An address that mail can go to: `local@domain`, in ASCII.
///
/// The domain may be given in any script; it is kept as providers and DNS take it (IDNA, UTS 46)
/// and in lower case. The part before the `@` keeps its case. Quoted local parts, comments and
/// addresses in brackets are refused: no provider takes them all.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress {
    address: Arc<str>,
    /// Where the `@` is.
    at: usize,
}

impl EmailAddress {
    /// LIMIT: an SMTP path has 256 octets with its brackets (RFC 5321, 4.5.3.1.3).
    pub const LIMIT: usize = 254;
    /// LIMIT: the part before the `@` (RFC 5321, 4.5.3.1.1).
    pub const LOCAL_LIMIT: usize = 64;

    /// Takes an address without a name.
    ///
    /// # Errors
    ///
    /// [`AddressError`] says what is wrong; ask whoever gave it for another.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::Syntax)?;
        check_local(local)?;
        let domain = ascii_domain(domain)?;
        let address = format!("{local}@{domain}");
        if address.len() > Self::LIMIT {
            return Err(AddressError::TooLong { bytes: address.len(), limit: Self::LIMIT });
        }
        Ok(Self { at: local.len(), address: address.into() })
    }

    /// `local@domain`, the domain in ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// What stands behind the `@`, in ASCII and lower case. May be logged.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.address.get(self.at + 1..).unwrap_or_default()
    }

    /// What names this address where the address itself must not be: SHA-256 of it in lower case.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.address.to_ascii_lowercase()).into()
    }

    /// Whether both reach the same mailbox, as far as anybody but its host can tell: equal but
    /// for case.
    #[must_use]
    pub fn is_same_mailbox(&self, other: &Self) -> bool {
        self.address.eq_ignore_ascii_case(&other.address)
    }
}

fn check_local(local: &str) -> Result<(), AddressError> {
    if local.is_empty() {
        return Err(AddressError::Syntax);
    }
    if local.len() > EmailAddress::LOCAL_LIMIT {
        let limit = EmailAddress::LOCAL_LIMIT;
        return Err(AddressError::TooLong { bytes: local.len(), limit });
    }
    if local.chars().any(|c| !c.is_ascii() && !super::header::breaks_lines(c)) {
        return Err(AddressError::NonAsciiLocal);
    }
    let atoms = local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atom));
    atoms.then_some(()).ok_or(AddressError::Local)
}

/// The characters of an atom (RFC 5322, 3.2.3).
pub(super) const fn is_atom(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'/'
                | b'='
                | b'?'
                | b'^'
                | b'_'
                | b'`'
                | b'{'
                | b'|'
                | b'}'
                | b'~'
        )
}

fn ascii_domain(domain: &str) -> Result<String, AddressError> {
    // LIMIT: no name that DNS can hold needs more; the mapping is not fed with megabytes.
    if domain.len() > 4 * 253 {
        return Err(AddressError::Domain);
    }
    // UTS 46 drops or maps some characters; what ends a line is never wanted.
    if domain.chars().any(super::header::breaks_lines) {
        return Err(AddressError::Domain);
    }
    let ascii = Uts46::new()
        .to_ascii(
            domain.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        )
        .map_err(|_invalid| AddressError::Domain)?;
    let last = ascii.rsplit('.').next().unwrap_or_default();
    // Four numbers are an address of a host, which would have to stand in brackets.
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError::Domain);
    }
    Ok(ascii.into_owned())
}

/// Shows the domain only.
impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "…@{}", self.domain())
    }
}

impl FromStr for EmailAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for EmailAddress {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::parse(&text)
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> Self {
        address.as_str().to_owned()
    }
}

/// An address, and the name of who is behind it.
///
/// ```
/// use steadfast_actors::mailer::{AddressError, Mailbox};
///
/// let mailbox: Mailbox = "Doe, Jane <jane@bücher.example>".parse()?;
/// assert_eq!(mailbox.rfc5322(), "\"Doe, Jane\" <jane@xn--bcher-kva.example>");
/// # Ok::<(), AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mailbox {
    /// The name that mail programs show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<HeaderText>,
    /// Where mail goes.
    pub address: EmailAddress,
}

impl Mailbox {
    /// An address with a name.
    ///
    /// # Errors
    ///
    /// [`AddressError::Name`], when the name cannot stand in a header.
    pub fn named(name: impl AsRef<str>, address: EmailAddress) -> Result<Self, AddressError> {
        Ok(Self { name: Some(HeaderText::new(name)?), address })
    }

    /// Takes `local@domain`, `<local@domain>`, `Name <local@domain>` or
    /// `"Name" <local@domain>`. A name is taken as it stands: one that is encoded already (RFC
    /// 2047) is not decoded.
    ///
    /// # Errors
    ///
    /// [`AddressError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        // ORDER: before the trim, which would take a line feed at an end away unseen.
        if text.chars().any(super::header::breaks_lines) {
            return Err(HeaderError::ControlCharacter.into());
        }
        let text = text.trim();
        let Some(inner) = text.strip_suffix('>') else {
            return EmailAddress::parse(text).map(Self::from);
        };
        let (name, address) = inner.rsplit_once('<').ok_or(AddressError::Syntax)?;
        let address = EmailAddress::parse(address)?;
        match name.trim() {
            "" => Ok(address.into()),
            name => Self::named(phrase::unquote(name).ok_or(AddressError::Syntax)?, address),
        }
    }

    /// As it stands in a header: the name quoted where it must be (RFC 5322), in encoded words
    /// where it is not ASCII (RFC 2047).
    #[must_use]
    pub fn rfc5322(&self) -> String {
        match &self.name {
            None => self.address.as_str().to_owned(),
            Some(name) => format!("{} <{}>", phrase::phrase(name), self.address.as_str()),
        }
    }
}

/// Shows the domain only.
impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({:?})", self.address)
    }
}

impl From<EmailAddress> for Mailbox {
    fn from(address: EmailAddress) -> Self {
        Self { name: None, address }
    }
}

impl FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Mailbox {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}
