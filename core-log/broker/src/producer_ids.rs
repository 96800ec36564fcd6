//! Producer ids: taken from the metadata quorum a block at a time, handed out one by one.

use std::ops::Range;

use highwater_types::ProducerId;
use tokio::sync::Mutex;

/// What is left of the block this node holds. A restart forgets the rest of it: ids are plenty, and
/// none is ever given twice.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    /// The next id; `refill` fetches a new block when this one is used up. Callers take turns, so that
    /// one block is fetched for all who wait.
    pub(crate) async fn next<E>(
        &self,
        refill: impl AsyncFnOnce() -> Result<Range<i64>, E>,
    ) -> Result<ProducerId, E> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = refill().await?;
        }
        let id = block.start;
        block.start += 1;
        Ok(ProducerId::new(id))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn a_new_block_is_fetched_only_when_the_old_one_is_used_up() {
        let ids = ProducerIds::default();
        let mut given = Vec::new();
        for block in [10..12, 0..0, 40..41] {
            let refill = async || Ok::<_, Infallible>(block);
            given.push(ids.next(refill).await.unwrap().get());
        }
        assert_eq!(given, [10, 11, 40]);
    }
}
