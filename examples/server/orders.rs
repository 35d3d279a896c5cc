//! Orders: a row, a counter and a mail that become true together.

use std::fmt;

use serde::{Deserialize, Serialize};
use steadfast::jobs::Class;
use steadfast::kernel::{Code, Fault};
use steadfast::mailer::{EnqueueMail, MailError, Mailer, MailerError};
use steadfast::schema_enum::SchemaEnum;
use steadfast::store::StoreError;

use crate::database::Database;
use crate::mails::{self, Address};
use crate::products::Products;

/// An order, as a client sees it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Order {
    pub(crate) id: i64,
    pub(crate) product_id: i64,
    pub(crate) quantity: i64,
    pub(crate) email: String,
    pub(crate) status: Status,
}

/// How far an order is. Clients, rows and the table's constraint have it from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaEnum)]
#[schema_enum(table = "orders", column = "status", rename_all = "lowercase")]
pub(crate) enum Status {
    Pending,
    Paid,
    Shipped,
    Cancelled,
}

/// What a client orders.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NewOrder {
    pub(crate) product_id: u32,
    pub(crate) quantity: Quantity,
    pub(crate) email: Address,
}

/// What a client wants changed of an order.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct OrderChange {
    pub(crate) status: Status,
}

/// How many of a product: 1 to 1,000.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
pub(crate) struct Quantity(u32);

/// Why an order was not placed, found or changed. Variants are different reactions.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    /// Order something else.
    #[error("there is no such product")]
    UnknownProduct,
    /// Ask for another.
    #[error("there is no such order")]
    Unknown,
    /// Leave it as it is.
    #[error("an order cannot go from {from} to {to}")]
    IllegalTransition { from: Status, to: Status },
    /// As the store says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// As the mailer says.
    #[error(transparent)]
    Mailer(#[from] MailerError),
    /// The confirmation cannot be written.
    #[error(transparent)]
    Mail(#[from] MailError),
}

/// Places orders and looks after them. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    database: Database,
    mailer: Mailer,
    products: Products,
}

impl Orders {
    pub(crate) const fn new(database: Database, mailer: Mailer, products: Products) -> Self {
        Self { database, mailer, products }
    }

    /// Places an order; then the next read of its product counts it.
    ///
    /// # Errors
    ///
    /// [`OrderError::UnknownProduct`]; or the store or the mailer failed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on to its end: what is committed is also seen.
    pub(crate) async fn place(&self, new: NewOrder) -> Result<Order, OrderError> {
        let (product, database, mailer) =
            (new.product_id, self.database.clone(), self.mailer.clone());
        let placing = Box::pin(async move { database.place_order(new, mailer).await });
        self.products.change(product, placing).await
    }

    /// Reads an order.
    ///
    /// # Errors
    ///
    /// [`OrderError::Unknown`]; or the store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn find(&self, id: i64) -> Result<Order, OrderError> {
        self.database.order(id).await?.ok_or(OrderError::Unknown)
    }

    /// Changes an order; the order as it is then.
    ///
    /// # Errors
    ///
    /// [`OrderError::Unknown`], [`OrderError::IllegalTransition`]; or the store failed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub(crate) async fn change(&self, id: i64, change: OrderChange) -> Result<Order, OrderError> {
        self.database.move_order(id, change.status).await
    }
}

impl Order {
    /// The same order with another status; the same status again changes nothing.
    ///
    /// # Errors
    ///
    /// [`OrderError::IllegalTransition`].
    pub(crate) fn moved(self, to: Status) -> Result<Self, OrderError> {
        let from = self.status;
        if from == to || from.leads_to(to) {
            return Ok(Self { status: to, ..self });
        }
        Err(OrderError::IllegalTransition { from, to })
    }
}

/// Without the address, which is nobody's business.
impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("id", &self.id)
            .field("product_id", &self.product_id)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Status {
    const fn leads_to(self, to: Self) -> bool {
        match self {
            Self::Pending => matches!(to, Self::Paid | Self::Cancelled),
            Self::Paid => matches!(to, Self::Shipped | Self::Cancelled),
            Self::Shipped | Self::Cancelled => false,
        }
    }
}

impl Quantity {
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u64> for Quantity {
    type Error = &'static str;

    fn try_from(count: u64) -> Result<Self, Self::Error> {
        match u32::try_from(count) {
            Ok(count @ 1..=1000) => Ok(Self(count)),
            Ok(_) | Err(_) => Err("a quantity is from 1 to 1000"),
        }
    }
}

impl From<rusqlite::Error> for OrderError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<tokio_postgres::Error> for OrderError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Fault for OrderError {
    fn code(&self) -> Code {
        match self {
            Self::UnknownProduct => Code::new("product.unknown"),
            Self::Unknown => Code::new("order.unknown"),
            Self::IllegalTransition { .. } => Code::new("order.illegal_transition"),
            Self::Store(error) => error.code(),
            Self::Mailer(error) => error.code(),
            Self::Mail(error) => error.code(),
        }
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::UnknownProduct | Self::Unknown | Self::IllegalTransition { .. } => None,
            Self::Store(error) => error.retry_after(),
            Self::Mailer(error) => error.retry_after(),
            Self::Mail(error) => error.retry_after(),
        }
    }
}

/// Has an order confirmed to whoever placed it, once.
pub(crate) fn confirm<'a>(
    mailer: &'a Mailer,
    order: &Order,
    to: &Address,
) -> Result<EnqueueMail<'a>, MailError> {
    let mail = mails::confirmation(order.id, to)?;
    let enqueue = mailer.enqueue(mail).key(format!("order-{}-confirmation", order.id));
    Ok(enqueue.kind("order_confirmation").class(Class::Critical))
}
