//! Mail that leaves the service through the HTTP API of a provider, or SMTP.
//!
//! - [`Mail`] is what is sent: checked once, unchangeable, and free of anything that could end a
//!   header early. [`Templates`] makes its subject, text and HTML.
//! - [`provider`] is the seam to who sends it: [`provider::MailProvider`], the APIs of Postmark,
//!   SendGrid, Mailgun, Resend and Amazon SES, and a mailbox in memory for tests and for
//!   development.
//! - [`HttpTransport`] carries a request over the wire once, and says whether anything was sent.

mod actor;
mod address;
mod attachment;
mod builder;
mod content_hash;
mod core;
mod deliver;
mod error;
pub mod events;
mod handle;
mod header;
mod html_text;
mod lane;
mod listen;
mod mail;
mod mail_error;
mod mail_id;
mod messages;
mod pace;
mod phrase;
pub mod provider;
mod state;
mod store;
mod template;
mod transport;

#[cfg(test)]
mod tests;

pub use actor::MailerActor;
pub use address::{AddressError, EmailAddress, Mailbox};
pub use attachment::{Attachment, AttachmentError};
pub use builder::{MailerBuilder, Order};
pub use deliver::Deliver;
pub use error::MailerError;
pub use handle::{EnqueueMail, Mailer};
pub use header::{HeaderError, HeaderName, HeaderText};
pub use lane::ProviderSpec;

pub use mail::{Mail, MailBuilder};
pub use mail_error::MailError;
pub use mail_id::{MailId, NotAMailId};
pub use messages::{CancelMail, FindMail, MailEnqueued, MailStatus, RecordEvent, StoreMail};
pub use state::{Delivery, MailState, OnUnknown};
pub use store::Attempt;
pub use template::{Rendered, TemplateError, Templates};
pub use transport::{HttpTransport, HttpTransportBuilder};
