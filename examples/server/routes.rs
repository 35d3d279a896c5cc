//! Which path is answered by whom.

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use steadfast::edge::{Ctx, Json};
use steadfast::jobs::{JobId, Jobs};
use steadfast::kernel::Code;
use steadfast::problem::Problem;

use crate::demo;
use crate::errors::no_product;
use crate::jobs::JobView;
use crate::orders::{NewOrder, Order, OrderChange, Orders};
use crate::products::Products;
use crate::rates::{Currency, Rate, Rates};
use crate::reports::{self, Report};

/// Mounts every route of the application.
pub(crate) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/products/{id}").get(product).head(product))
        .service(web::resource("/rates/{currency}").get(rate).head(rate))
        .service(web::resource("/orders").post(place_order))
        .service(web::resource("/orders/{id}").get(order).head(order).patch(change_order))
        .service(web::resource("/reports").post(request_report))
        .service(web::resource("/jobs/{id}").get(job).head(job))
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

async fn place_order(new: Json<NewOrder>, orders: Data<Orders>) -> Result<impl Responder, Problem> {
    let order = orders.place(new.into_inner()).await?;
    let location = (header::LOCATION, format!("/orders/{}", order.id));
    Ok(HttpResponse::Created().insert_header(location).json(order))
}

async fn order(id: Path<i64>, orders: Data<Orders>) -> Result<Json<Order>, Problem> {
    Ok(Json(orders.find(*id).await?))
}

async fn change_order(
    id: Path<i64>,
    change: Json<OrderChange>,
    orders: Data<Orders>,
) -> Result<Json<Order>, Problem> {
    Ok(Json(orders.change(*id, change.into_inner()).await?))
}

async fn request_report(report: Json<Report>, jobs: Data<Jobs>) -> Result<impl Responder, Problem> {
    let requested = reports::request(report.into_inner(), &jobs).await?;
    Ok(HttpResponse::Accepted().json(requested))
}

async fn job(id: Path<i64>, jobs: Data<Jobs>) -> Result<Json<JobView>, Problem> {
    let unknown = || Problem::new(Code::new("job.unknown"), StatusCode::NOT_FOUND, "No such job");
    Ok(Json(jobs.find(JobId(*id)).await?.ok_or_else(unknown)?.into()))
}
