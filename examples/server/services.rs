//! What the handlers work with: one handle per concern, made once.

use std::error::Error;

use actix_web::web::{Data, ServiceConfig};
use steadfast::counters::Counters;
use steadfast::inbox::Inbox;
use steadfast::jobs::Jobs;
use steadfast::kernel::Ref;
use steadfast::mailer::Mailer;
use steadfast::runtime::Builder;

use crate::connections::Connections;
use crate::counters;
use crate::database::Database;
use crate::flaky::Flaky;
use crate::jobs;
use crate::mails;
use crate::options::{Options, UpstreamUrl};
use crate::orders::Orders;
use crate::products::Products;
use crate::rates::{self, Rates};
use crate::reviews::Reviews;
use crate::slow::SlowWork;
use crate::upstream::UpstreamControl;
use crate::webhooks;

/// The handles of all concerns. Cheap to clone; every worker has one.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    database: Database,
    products: Products,
    orders: Orders,
    reviews: Reviews,
    jobs: Jobs,
    mailer: Mailer,
    inbox: Inbox,
    counters: Counters,
    rates: Rates,
    upstream: UpstreamControl,
    flaky: Ref<Flaky>,
    slow: SlowWork,
    pub(crate) connections: Connections,
}

impl Services {
    /// Declares the actors and the checks behind every handle.
    ///
    /// # Errors
    ///
    /// A setting is out of its range, an HTTP client could not be built, or the store failed.
    pub(crate) async fn declare(
        builder: &mut Builder,
        database: Database,
        upstream: &UpstreamUrl,
        options: &Options,
    ) -> Result<Self, Box<dyn Error>> {
        let breaker = builder.breaker(rates::breaker())?;
        let store = database.store();
        builder.store(&store);
        builder.check(database.enums().health_check(&store));
        let mailer = mails::declare(builder, &store, upstream)?;
        let jobs = jobs::declare(&store, &mailer)?;
        let (inbox, jobs) = webhooks::declare(&store, options)?.register(jobs)?;
        let (counters, jobs) = counters::declare(&store, &database).register(jobs)?;
        let jobs = builder.jobs(jobs).await?;
        builder.start_mailer(&mailer, &jobs);
        let products = Products::declare(builder, database.clone(), options.product_ttl())?;
        Ok(Self {
            orders: Orders::new(database.clone(), mailer.clone(), products.clone()),
            reviews: Reviews::new(database.clone(), products.clone()),
            database,
            inbox: builder.inbox(inbox, &jobs),
            counters: builder.counters(counters, &jobs),
            mailer,
            products,
            jobs,
            rates: Rates::new(upstream, breaker)?,
            upstream: UpstreamControl::new(upstream)?,
            flaky: builder.actor(Flaky::spec()),
            slow: SlowWork::default(),
            connections: Connections::default(),
        })
    }

    /// Hands every handle to the handlers of an app.
    pub(crate) fn configure(&self, app: &mut ServiceConfig) {
        app.app_data(Data::new(self.products.clone()))
            .app_data(Data::new(self.orders.clone()))
            .app_data(Data::new(self.reviews.clone()))
            .app_data(Data::new(self.jobs.clone()))
            .app_data(Data::new(self.mailer.clone()))
            .app_data(Data::new(self.inbox.clone()))
            .app_data(Data::new(self.counters.clone()))
            .app_data(Data::new(self.database.clone()))
            .app_data(Data::new(self.rates.clone()))
            .app_data(Data::new(self.upstream.clone()))
            .app_data(Data::new(self.flaky.clone()))
            .app_data(Data::new(self.slow.clone()))
            .app_data(Data::new(self.connections.clone()));
    }
}
