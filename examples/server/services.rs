//! What the handlers work with: one handle per concern, made once.

use std::error::Error;
use std::time::Duration;

use actix_web::web::{Data, ServiceConfig};
use steadfast::jobs::Jobs;
use steadfast::kernel::Ref;
use steadfast::runtime::Builder;

use crate::connections::Connections;
use crate::database::Database;
use crate::flaky::Flaky;
use crate::jobs;
use crate::options::UpstreamUrl;
use crate::orders::Orders;
use crate::products::Products;
use crate::rates::{self, Rates};
use crate::slow::SlowWork;
use crate::upstream::UpstreamControl;

/// The handles of all concerns. Cheap to clone; every worker has one.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    products: Products,
    orders: Orders,
    jobs: Jobs,
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
        product_ttl: Duration,
    ) -> Result<Self, Box<dyn Error>> {
        let breaker = builder.breaker(rates::breaker())?;
        let store = database.store();
        builder.store(&store);
        let jobs = jobs::declare(builder, &store).await?;
        let products = Products::declare(builder, database.clone(), product_ttl)?;
        Ok(Self {
            orders: Orders::new(database, jobs.clone(), products.clone()),
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
            .app_data(Data::new(self.jobs.clone()))
            .app_data(Data::new(self.rates.clone()))
            .app_data(Data::new(self.upstream.clone()))
            .app_data(Data::new(self.flaky.clone()))
            .app_data(Data::new(self.slow.clone()))
            .app_data(Data::new(self.connections.clone()));
    }
}
