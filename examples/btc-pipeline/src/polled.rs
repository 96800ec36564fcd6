//! A source plugin around another one: every record gets a header that says when it was polled.
//!
//! Records carry the exchange's time, which says nothing about how fast the pipeline is. This header does.

use std::collections::BTreeMap;

use async_trait::async_trait;
use highwater_connect_api::{
    ConfigDef, ConfigProblem, Header, Settings, SourceContext, SourceOffset, SourcePartition, SourcePlugin,
    SourceRecord, SourceTask, TaskError,
};
use highwater_types::record::Record;

use crate::utc;

/// The header: microseconds since the epoch, as text.
const POLLED_AT_US: &str = "polled_at_us";

/// The plugin of the same name and settings, with the header.
pub(crate) struct Polled<P>(pub(crate) P);

/// When a record was polled, in microseconds since the epoch.
pub(crate) fn polled_at_us(record: &Record) -> Option<u64> {
    let header = record
        .headers
        .iter()
        .find(|it| it.key_str() == Some(POLLED_AT_US))?;
    std::str::from_utf8(header.value.as_ref()?).ok()?.parse().ok()
}

#[async_trait]
impl<P: SourcePlugin> SourcePlugin for Polled<P> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn about(&self) -> &'static str {
        self.0.about()
    }

    fn config(&self) -> ConfigDef {
        self.0.config()
    }

    fn check(&self, settings: &Settings) -> Vec<ConfigProblem> {
        self.0.check(settings)
    }

    async fn task_settings(&self, settings: &Settings, tasks_max: usize) -> Result<Vec<Settings>, TaskError> {
        self.0.task_settings(settings, tasks_max).await
    }

    fn task(&self) -> Box<dyn SourceTask> {
        Box::new(PolledTask(self.0.task()))
    }
}

struct PolledTask(Box<dyn SourceTask>);

#[async_trait]
impl SourceTask for PolledTask {
    async fn start(&mut self, context: SourceContext, settings: &Settings) -> Result<(), TaskError> {
        self.0.start(context, settings).await
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>, TaskError> {
        let mut records = self.0.poll().await?;
        let now = utc::now_us().to_string();
        for record in &mut records {
            record
                .headers
                .push(Header::new(POLLED_AT_US, Some(now.clone().into())));
        }
        Ok(records)
    }

    async fn committed(
        &mut self,
        offsets: &BTreeMap<SourcePartition, SourceOffset>,
    ) -> Result<(), TaskError> {
        self.0.committed(offsets).await
    }

    async fn stop(&mut self) {
        self.0.stop().await;
    }
}
