//! Reviews: a row and a counter that become true together.

use serde::{Deserialize, Serialize};
use steadfast::store::StoreError;

use crate::database::Database;
use crate::products::Products;

/// LIMIT: characters of a review.
const TEXT_MAX: usize = 2_000;

/// What somebody thinks of a product.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NewReview {
    pub(crate) rating: Rating,
    pub(crate) text: Text,
}

/// A review, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Review {
    pub(crate) id: i64,
    pub(crate) product_id: u32,
    pub(crate) rating: u8,
    pub(crate) text: String,
}

/// From 1 to 5.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
pub(crate) struct Rating(u8);

impl Rating {
    pub(crate) const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u64> for Rating {
    type Error = &'static str;

    fn try_from(rating: u64) -> Result<Self, Self::Error> {
        match u8::try_from(rating) {
            Ok(rating @ 1..=5) => Ok(Self(rating)),
            Ok(_) | Err(_) => Err("a rating is from 1 to 5"),
        }
    }
}

/// 1 to 2,000 characters, none of them NUL, which PostgreSQL cannot keep.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Text(String);

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = (1..=TEXT_MAX).contains(&text.chars().count()) && !text.contains('\0');
        if fits { Ok(Self(text)) } else { Err("a text has 1 to 2000 characters, none of them NUL") }
    }
}

/// Why a review was not written. Variants are different reactions.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReviewError {
    /// Review something else.
    #[error("there is no such product")]
    UnknownProduct,
    /// As the store says.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for ReviewError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<tokio_postgres::Error> for ReviewError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Writes reviews. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Reviews {
    database: Database,
    products: Products,
}

impl Reviews {
    pub(crate) const fn new(database: Database, products: Products) -> Self {
        Self { database, products }
    }

    /// Writes a review; then the next read of its product counts it.
    ///
    /// # Errors
    ///
    /// [`ReviewError::UnknownProduct`]; or the store failed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on to its end.
    pub(crate) async fn write(&self, product: u32, new: NewReview) -> Result<Review, ReviewError> {
        let database = self.database.clone();
        let writing = Box::pin(async move { database.write_review(product, new).await });
        self.products.change(product, writing).await
    }
}
