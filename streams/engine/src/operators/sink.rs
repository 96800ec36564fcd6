//! The end of a stream: rows become records of a topic.

use highwater_types::TopicName;

use crate::{
    error::ProcessError,
    operator::{Operator, OperatorContext, OutputRecord, Partitioning},
    row::{Chunk, Data, Row},
    serdes::DynSerde,
};

pub(crate) struct Sink<K, V> {
    pub(crate) topic: TopicName,
    pub(crate) key: DynSerde<K>,
    pub(crate) value: DynSerde<V>,
}

impl<K: Data, V: Data> Operator for Sink<K, V> {
    fn process(&mut self, chunk: Chunk, context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        let rows: Vec<Row<K, V>> = context.take(chunk)?;
        context.outputs.reserve(rows.len());
        for row in rows {
            let partition_bytes = self
                .key
                .partition_bytes(&row.key)
                .map_err(context.unwritable("key"))?;
            let record = OutputRecord {
                topic: self.topic.clone(),
                partitioning: partition_bytes.map_or(Partitioning::ByKey, Partitioning::ByBytes),
                key: self.key.serialize(&row.key).map_err(context.unwritable("key"))?,
                value: self
                    .value
                    .serialize(&row.value)
                    .map_err(context.unwritable("value"))?,
                timestamp: row.timestamp,
                headers: row.headers,
            };
            context.output(record);
        }
        Ok(())
    }
}
