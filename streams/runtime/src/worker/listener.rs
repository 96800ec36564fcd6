//! Rebalances: tasks that leave are committed first, tasks that come are opened and restored before they run.

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use highwater_client::{Consumer, RebalanceListener};
use highwater_types::TopicPartition;
use tokio::sync::Mutex;

use super::{commit::Committer, tasks::TaskSet};
use crate::{app::App, clock};

#[derive(Debug)]
pub(super) struct TaskListener {
    pub(super) app: Arc<App>,
    pub(super) tasks: Arc<Mutex<TaskSet>>,
    pub(super) committer: Arc<Committer>,
    pub(super) consumer: Arc<OnceLock<Weak<Consumer>>>,
}

#[async_trait]
impl RebalanceListener for TaskListener {
    async fn partitions_revoked(&self, partitions: &[TopicPartition]) {
        let mut set = self.tasks.lock().await;
        let leaving = set.reading(partitions);
        if leaving.is_empty() {
            return;
        }
        match self
            .committer
            .commit(&mut set, Some(&leaving), clock::wall_now())
            .await
        {
            Ok(_) => set.flush_stores_logged(self.app.id()),
            Err(error) => {
                let error = error.chain();
                tracing::warn!(
                    application = self.app.id(),
                    error,
                    "tasks leave without their last commit; it is repeated"
                );
                // What failed may be in doubt for the tasks that stay, too.
                if let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) {
                    set.start_over(&self.app, &consumer);
                }
            }
        }
        set.remove(&leaving);
        tracing::info!(application = self.app.id(), tasks = leaving.len(), "tasks left");
    }

    async fn partitions_assigned(&self, partitions: &[TopicPartition]) {
        let mut set = self.tasks.lock().await;
        if let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) {
            set.assigned(partitions, &self.app, &consumer);
        }
        tracing::info!(
            application = self.app.id(),
            partitions = partitions.len(),
            "partitions assigned"
        );
    }

    async fn partitions_lost(&self, partitions: &[TopicPartition]) {
        let mut set = self.tasks.lock().await;
        let lost = set.reading(partitions);
        set.remove(&lost);
        tracing::warn!(
            application = self.app.id(),
            tasks = lost.len(),
            "tasks lost; others have taken them over"
        );
    }
}
