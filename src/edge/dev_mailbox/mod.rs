//! Looking at the mails of a development mailbox in a browser.

mod view;

use actix_web::http::header::{self, HeaderName};
use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{Error, HttpRequest, HttpResponse, HttpResponseBuilder};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value};
use serde::Serialize;
use steadfast_actors::kernel::Code;
use steadfast_actors::mailer::provider::{DevMail, DevMailbox};
use steadfast_actors::mailer::{Attachment, MailId};

use self::view::{Listed, Shown, disposition, media_type, shown_html};
use crate::problem::Problem;

/// Where it is mounted.
const BASE: &str = "/dev/mailbox";
/// LIMIT: mails of the list.
const LISTED_MAX: usize = 200;

const LIST: &str = include_str!("list.html");
const MAIL: &str = include_str!("mail.html");

/// Of our own pages: no script at all, and nothing from elsewhere.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Of a mail's HTML: it runs nothing, sends nothing, and fetches nothing but the mail's own
/// pictures. `sandbox` holds where somebody opens it on its own, too.
const MAIL_POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; \
                           img-src 'self' data:; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'self'";
/// Of a file: whatever it is, it is not a page of ours.
const FILE_POLICY: &str = "sandbox; default-src 'none'";

/// Mounts `/dev/mailbox`: what a [`DevMailbox`] keeps, to be looked at in a browser.
///
/// **For development only.** Everybody who reaches the routes reads all mails, with their links to
/// log in or to set a new password. Mount them where the mailbox is in use, and nowhere else.
///
/// | `GET` | what |
/// |---|---|
/// | `/dev/mailbox` | the last 200 mails, the newest first |
/// | `/dev/mailbox/{id}` | one mail: headers, text, HTML and files; of one that was sent twice, the last |
/// | `/dev/mailbox/{id}/html` | its HTML alone, with the pictures that it carries |
/// | `/dev/mailbox/{id}/attachments/{n}` | a file, counted from 0, as a download |
///
/// The first two are HTML, or with `Accept: application/json` JSON. What is not there is 404
/// `http.not_found`. A mail's HTML is shown in a sandbox that runs no script and fetches nothing;
/// everything else is escaped.
///
/// ```
/// use actix_web::App;
/// use steadfast::edge::dev_mailbox;
/// use steadfast::mailer::provider::DevMailbox;
///
/// let mailbox = DevMailbox::new();
/// let app = App::new().configure(dev_mailbox(mailbox));
/// ```
pub fn dev_mailbox(mailbox: DevMailbox) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        let scope = web::scope(BASE)
            .app_data(Data::new(mailbox))
            .service(web::resource("").get(list).head(list))
            .service(web::resource("/{id}").get(show).head(show))
            .service(web::resource("/{id}/html").get(html).head(html))
            .service(web::resource("/{id}/attachments/{n}").get(attachment).head(attachment));
        app.service(scope);
    }
}

async fn list(request: HttpRequest, mailbox: Data<DevMailbox>) -> Result<HttpResponse, Error> {
    #[derive(Serialize)]
    struct List {
        base: &'static str,
        kept: usize,
        mails: Vec<Listed>,
    }
    let kept = mailbox.mails();
    let mails = kept.iter().rev().take(LISTED_MAX).map(Listed::new).collect();
    let list = List { base: BASE, kept: kept.len(), mails };
    answer(&request, LIST, &list, &list.mails)
}

async fn show(
    request: HttpRequest,
    mailbox: Data<DevMailbox>,
    id: Path<String>,
) -> Result<HttpResponse, Error> {
    let mail = find(&mailbox, &id)?;
    let shown = Shown::new(&mail, BASE);
    answer(&request, MAIL, &shown, &shown)
}

async fn html(mailbox: Data<DevMailbox>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let mail = find(&mailbox, &id)?;
    let html = shown_html(&mail.mail, &format!("{BASE}/{}", mail.id)).ok_or_else(not_found)?;
    Ok(ok(MAIL_POLICY).content_type("text/html; charset=utf-8").body(html))
}

async fn attachment(
    mailbox: Data<DevMailbox>,
    place: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (id, number) = place.into_inner();
    let mail = find(&mailbox, &id)?;
    let number: usize = number.parse().or(Err(not_found()))?;
    let file: &Attachment = mail.mail.attachments().get(number).ok_or_else(not_found)?;
    Ok(ok(FILE_POLICY)
        .content_type(media_type(file.content_type()))
        .insert_header((header::CONTENT_DISPOSITION, disposition(file.name())))
        .body(file.content().to_vec()))
}

/// The mail of this number; if it was sent again, the last.
fn find(mailbox: &DevMailbox, id: &str) -> Result<DevMail, Problem> {
    let id: MailId = id.parse().or(Err(not_found()))?;
    let found = mailbox.mails().into_iter().rev().find(|mail| mail.id == id);
    found.ok_or_else(not_found)
}

fn not_found() -> Problem {
    Problem::known(Code::new("http.not_found"))
}

/// A page, or the same as JSON.
fn answer(
    request: &HttpRequest,
    template: &str,
    page: &impl Serialize,
    json: &impl Serialize,
) -> Result<HttpResponse, Error> {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let mut response = ok(PAGE_POLICY);
    response.insert_header((header::VARY, "accept"));
    if accept.is_some_and(|accept| accept.contains("application/json")) {
        return Ok(response.json(json));
    }
    let page = render(template, page).map_err(actix_web::error::ErrorInternalServerError)?;
    Ok(response.content_type("text/html; charset=utf-8").body(page))
}

fn render(template: &str, page: &impl Serialize) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.render_named_str("page.html", template, Value::from(Serde(page)))
}

fn ok(policy: &'static str) -> HttpResponseBuilder {
    const HEADERS: [(HeaderName, &str); 3] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_SECURITY_POLICY, policy));
    for pair in HEADERS {
        response.insert_header(pair);
    }
    response
}
