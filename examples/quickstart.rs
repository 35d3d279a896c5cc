//! A supervised actor, a breaker, a cache and health in an actix-web app.
use actix_web::{App, HttpServer, web};
use steadfast::prelude::*;

struct Visits(u64);
impl actix::Actor for Visits {
    type Context = Context<Self>;
}
#[derive(actix::Message)]
#[rtype(u64)]
struct Visit;
impl actix::Handler<Visit> for Visits {
    type Result = u64;
    fn handle(&mut self, _: Visit, _: &mut Context<Self>) -> u64 {
        self.0 += 1;
        self.0
    }
}
async fn rate(bank: Breaker) -> Result<Loaded<f64>, BreakerError<std::io::Error>> {
    bank.call(|| async { Ok(Loaded::value(1.09)) }).await // your HTTP call goes here
}
type Parts = (Ref<Visits>, Cache<String, f64>);
async fn index(parts: web::Data<Parts>) -> Result<String, Problem> {
    let (visit, rate) = (parts.0.call(Visit).await?, parts.1.get("EUR").await?);
    Ok(format!("visit {visit}: one EUR is {} USD\n", rate.value))
}
#[actix_web::main]
async fn main() -> Result<Drained, Box<dyn std::error::Error>> {
    let mut runtime = Steadfast::builder();
    let visits = runtime.critical_actor(Spec::new("visits", || Visits(0)));
    let bank = runtime.breaker(Breaker::builder("bank"))?;
    let rates = runtime.cache(Cache::builder("rates", move |_: String, _| rate(bank.clone())))?;
    let (steadfast, parts) = (runtime.start()?, web::Data::new((visits, rates)));
    let (app, socket) = (steadfast.clone(), steadfast.listen("127.0.0.1:8080")?);
    let server = HttpServer::new(move || {
        let wired = App::new().configure(|c| app.configure(c)).app_data(parts.clone());
        wired.route("/", web::get().to(index)).wrap(app.edge())
    });
    Ok(steadfast.serve(server.listen(socket)?).await?)
}
