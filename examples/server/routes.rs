//! Which path is answered by whom.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, Data, Path, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Responder};
use serde_json::json;
use steadfast::edge::{Admit, Ctx, Json, receive};
use steadfast::inbox::{Inbox, InboxId};
use steadfast::jobs::{JobId, Jobs};
use steadfast::kernel::{Code, Priority};
use steadfast::mailer::{MailId, Mailer};
use steadfast::problem::Problem;

use crate::demo;
use crate::errors::no_product;
use crate::jobs::JobView;
use crate::mails::{self, MailView, NewMail};
use crate::orders::{NewOrder, Order, OrderChange, Orders};
use crate::products::Products;
use crate::rates::{Currency, Rate, Rates};
use crate::reports::{self, Report};
use crate::reviews::{NewReview, Reviews};
use crate::webhooks::{EventView, Received};

/// Mounts every route of the application. The classes hold where `[admission]` sets a limit.
pub(crate) fn configure(app: &mut ServiceConfig) {
    let (precious, cheap) = (Admit::with(Priority::High), Admit::with(Priority::Sheddable));
    app.service(web::resource("/products/{id}").get(product).head(product))
        .service(web::resource("/products/{id}/reviews").post(write_review))
        .service(web::resource("/rates/{currency}").get(rate).head(rate))
        .service(web::resource("/orders").post(place_order).wrap(precious))
        .service(web::resource("/orders/{id}").get(order).head(order).patch(change_order))
        .service(web::resource("/mails").post(send_mail))
        .service(web::resource("/mails/{id}").get(mail).head(mail))
        .service(web::resource("/webhooks/{source}").post(webhook))
        .service(web::resource("/events/{id}").get(event).head(event))
        .service(web::resource("/events/{id}/raw").get(raw_event).head(raw_event))
        .service(web::resource("/reports").post(request_report).wrap(cheap))
        .service(web::resource("/jobs/{id}").get(job).head(job))
        .configure(demo::configure);
}

async fn product(id: Path<u32>, products: Data<Products>) -> Result<impl Responder, Problem> {
    let product = products.get(*id).await.map_err(no_product)?;
    let how = ("x-cache", product.served.as_str());
    Ok(HttpResponse::Ok().insert_header(how).json(&*product.value))
}

async fn write_review(
    product: Path<u32>,
    new: Json<NewReview>,
    reviews: Data<Reviews>,
) -> Result<impl Responder, Problem> {
    let review = reviews.write(*product, new.into_inner()).await?;
    Ok(HttpResponse::Created().json(review))
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

async fn send_mail(
    new: Json<NewMail>,
    request: HttpRequest,
    mailer: Data<Mailer>,
) -> Result<impl Responder, Problem> {
    let key = request.headers().get("idempotency-key").map(HeaderValue::to_str).transpose();
    let odd = "`Idempotency-Key` has 1 to 200 visible ASCII characters";
    let key =
        key.map_err(|_odd| Problem::known(Code::new("mailer.invalid_setting")).with_detail(odd))?;
    let id = mails::accept(&mailer, new.into_inner(), key).await?.id();
    let mail = mailer.find(id).await?.ok_or_else(no_mail)?;
    let location = (header::LOCATION, format!("/mails/{id}"));
    let body = json!({ "id": id, "state": mail.state });
    Ok(HttpResponse::Accepted().insert_header(location).json(body))
}

async fn mail(id: Path<String>, mailer: Data<Mailer>) -> Result<Json<MailView>, Problem> {
    let id: MailId = id.parse().map_err(|_no_number| no_mail())?;
    Ok(Json(mailer.find(id).await?.ok_or_else(no_mail)?.into()))
}

fn no_mail() -> Problem {
    Problem::new(Code::new("mail.unknown"), StatusCode::NOT_FOUND, "No such mail")
}

async fn webhook(
    source: Path<String>,
    request: HttpRequest,
    body: Payload,
    inbox: Data<Inbox>,
) -> Result<impl Responder, Problem> {
    let receipt = receive(&inbox, &source, &request, body).await?;
    // Both sources send one event at a time.
    let received = receipt.events.into_iter().next().map(|event| Received {
        id: event.id,
        event_id: event.event_id,
        duplicate: event.duplicate,
    });
    Ok(HttpResponse::Accepted().json(received))
}

async fn event(id: Path<i64>, inbox: Data<Inbox>) -> Result<Json<EventView>, Problem> {
    Ok(Json(inbox.find(InboxId(*id)).await?.ok_or_else(no_event)?.into()))
}

async fn raw_event(id: Path<i64>, inbox: Data<Inbox>) -> Result<impl Responder, Problem> {
    let body = inbox.raw(InboxId(*id)).await?.ok_or_else(no_event)?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").body(body))
}

fn no_event() -> Problem {
    Problem::new(Code::new("event.unknown"), StatusCode::NOT_FOUND, "No such event")
}

async fn request_report(report: Json<Report>, jobs: Data<Jobs>) -> Result<impl Responder, Problem> {
    let requested = reports::request(report.into_inner(), &jobs).await?;
    Ok(HttpResponse::Accepted().json(requested))
}

async fn job(id: Path<i64>, jobs: Data<Jobs>) -> Result<Json<JobView>, Problem> {
    let unknown = || Problem::new(Code::new("job.unknown"), StatusCode::NOT_FOUND, "No such job");
    Ok(Json(jobs.find(JobId(*id)).await?.ok_or_else(unknown)?.into()))
}
