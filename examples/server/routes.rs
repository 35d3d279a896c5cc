//! Which path is answered by whom.

use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use steadfast::edge::{Ctx, Json};
use steadfast::problem::Problem;

use crate::demo;
use crate::errors::no_product;
use crate::products::Products;
use crate::rates::{Currency, Rate, Rates};

/// Mounts every route of the application.
pub(crate) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/products/{id}").get(product).head(product))
        .service(web::resource("/rates/{currency}").get(rate).head(rate))
        .configure(demo::configure);
}

async fn product(id: Path<u32>, products: Data<Products>) -> Result<impl Responder, Problem> {
    let product = products.get(*id).await.map_err(no_product)?;
    let how = ("x-cache", product.served.as_str());
    Ok(HttpResponse::Ok().insert_header(how).json(&*product.value))
}

async fn rate(
    currency: Path<String>,
    request: Ctx,
    rates: Data<Rates>,
) -> Result<Json<Rate>, Problem> {
    let currency = Currency::parse(&currency)?;
    Ok(Json(rates.get(&currency, &request).await?))
}
