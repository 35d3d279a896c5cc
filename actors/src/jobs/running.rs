//! The runs of this process that are under way, to tell them to stop.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::cx::JobCx;
use super::{JobId, RunKey};
use crate::kernel::Stopped;

/// The runs of this process that are under way. Cheap to clone; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<JobId, JobCx>>>);

impl Running {
    /// Notes a run until the returned guard is dropped.
    pub(super) fn enter(&self, cx: &JobCx) -> Entered {
        self.0.lock().insert(cx.id(), cx.clone());
        Entered { running: self.clone(), key: cx.run() }
    }

    /// Tells a run to stop. `false`: it does not run here.
    pub(super) fn stop(&self, id: JobId, why: Stopped) -> bool {
        let cx = self.0.lock().get(&id).cloned();
        cx.inspect(|cx| cx.request().cancel(why)).is_some()
    }

    /// Tells all runs to stop. How many.
    pub(super) fn stop_all(&self, why: Stopped) -> usize {
        let all: Vec<_> = self.0.lock().values().cloned().collect();
        all.iter().for_each(|cx| cx.request().cancel(why));
        all.len()
    }

    /// What handlers have said of their progress since the last time.
    pub(super) fn progress(&self) -> Vec<(RunKey, Arc<str>)> {
        let running = self.0.lock();
        let news = |cx: &JobCx| cx.take_progress().map(|words| (cx.run(), words));
        running.values().filter_map(news).collect()
    }
}

/// A run that is noted.
#[derive(Debug)]
pub(super) struct Entered {
    running: Running,
    key: RunKey,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut running = self.running.0.lock();
        // A later run of the same job may have been noted meanwhile.
        if running.get(&self.key.id).is_some_and(|cx| cx.run() == self.key) {
            running.remove(&self.key.id);
        }
    }
}
