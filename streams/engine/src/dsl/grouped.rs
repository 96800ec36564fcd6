//! Rows grouped by key, and by window: what aggregates start from.

use std::{cell::OnceCell, rc::Rc, sync::Arc};

use super::{
    stream::{KStream, Lineage},
    table::KTable,
};
use crate::{
    error::TopologyError,
    graph::{NodeKind, NodeName, TopicRef},
    operator::Operator,
    operators::{
        aggregate::{Aggregate, GroupCodec},
        source::Source,
        windowed::{WindowedAggregate, WindowedOptions},
    },
    options::{ErrorPolicy, Grouped, Materialized},
    row::{Data, Key},
    serdes,
    store::{StoreKind, StoreSpec},
    windows::{EmitStrategy, TimeWindows, Windowed},
};

const KEY_FIX: &str = "name it with Materialized::with_key(..) or Grouped::with(..)";
const VALUE_FIX: &str = "name it with Materialized::with_value(..)";
const ROW_FIX: &str =
    "group with group_by_key_with(Grouped::with(key, value)), or name the stream's serdes with with_serdes";

/// Rows grouped by key.
pub struct KGroupedStream<K, V> {
    stream: KStream<K, V>,
    grouped: Option<Grouped<K, V>>,
    /// The stream behind the repartition topic, made when the first aggregate needs it and shared by all (row 7).
    travelled: Rc<OnceCell<KStream<K, V>>>,
}

impl<K, V> std::fmt::Debug for KGroupedStream<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KGroupedStream")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl<K: Key, V: Data> KGroupedStream<K, V> {
    pub(crate) fn new(stream: KStream<K, V>, grouped: Option<Grouped<K, V>>) -> Self {
        Self {
            stream,
            grouped,
            travelled: Rc::new(OnceCell::new()),
        }
    }

    /// Cuts time into windows; each key then has one group per window.
    pub fn windowed_by(&self, windows: TimeWindows) -> TimeWindowedKStream<K, V> {
        TimeWindowedKStream {
            grouped: Self {
                stream: self.stream.clone(),
                grouped: None,
                travelled: Rc::new(OnceCell::from(self.keyed())),
            },
            windows,
            emit: EmitStrategy::OnUpdate,
        }
    }

    /// Counts the rows of each key.
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        let materialized = counted(materialized);
        self.grouped_table("count", materialized, |_, _| 1, |_, _, count| *count += 1)
    }

    /// Combines the values of each key: the first one starts, `combine` adds the others.
    pub fn reduce(
        &self,
        combine: impl Fn(&mut V, V) + Send + Sync + 'static,
        mut materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        materialized.value = materialized.value.or_else(|| self.value_serde());
        self.grouped_table(
            "reduce",
            materialized,
            |_, value| value,
            move |_, value, sum| combine(sum, value),
        )
    }

    /// Builds something of each key's rows: `initial` makes it, `add` is given the key, a row's value and the thing.
    pub fn aggregate<A: Data>(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        let add = Arc::new(add);
        let first = add.clone();
        let create = move |key: &K, value: V| {
            let mut aggregate = initial();
            first(key, value, &mut aggregate);
            aggregate
        };
        self.grouped_table("aggregate", materialized, create, move |key, value, aggregate| {
            add(key, value, aggregate);
        })
    }

    fn value_serde(&self) -> Option<serdes::DynSerde<V>> {
        let grouped = self.grouped.as_ref().map(|grouped| grouped.value.clone());
        grouped
            .or_else(|| self.stream.value.clone())
            .or_else(|| self.keyed().value)
    }

    fn grouped_table<A: Data>(
        &self,
        kind: &'static str,
        materialized: Materialized<K, A>,
        create: impl Fn(&K, V) -> A + Send + Sync + 'static,
        update: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let input = self.keyed();
        let (create, update) = (Arc::new(create), Arc::new(update));
        let max_cached_groups = materialized.max_cached_groups;
        let request = TableRequest {
            kind: kind.to_owned(),
            store_kind: StoreKind::KeyValue,
        };
        let Some(plan) = plan_table(&input, request, materialized) else {
            return KTable::broken(&input.graph, input.node);
        };
        let codec = plan.codec.clone();
        let node = plan.add(&input, move |codec| {
            Box::new(Aggregate::new(
                codec,
                create.clone(),
                update.clone(),
                max_cached_groups,
            ))
        });
        KTable {
            graph: input.graph.clone(),
            node,
            lineage: Lineage::new(codec.store.clone()),
            store: Some(codec.store),
            key: Some(codec.key),
            value: Some(codec.value),
        }
    }

    /// The stream whose partitions follow its keys, through a repartition topic if need be.
    fn keyed(&self) -> KStream<K, V> {
        if let Some(travelled) = self.travelled.get() {
            return travelled.clone();
        }
        if !self.stream.rekeyed {
            return self.stream.clone();
        }
        self.travelled.get_or_init(|| self.repartition()).clone()
    }

    fn repartition(&self) -> KStream<K, V> {
        let stream = &self.stream;
        let grouped = self.grouped.as_ref();
        let key = grouped
            .map(|grouped| grouped.key.clone())
            .or_else(|| stream.key.clone());
        let value = grouped
            .map(|grouped| grouped.value.clone())
            .or_else(|| stream.value.clone());
        let derived = stream.lineage.as_str();
        let name = grouped
            .and_then(|grouped| grouped.name.clone())
            .unwrap_or_else(|| derived.to_owned());
        let (Some(key), Some(value)) = (key, value) else {
            let operator = stream.graph.borrow().name(stream.node).to_owned();
            stream.complain(TopologyError::MissingSerde {
                operator,
                part: "row",
                fix: ROW_FIX,
            });
            return stream.clone();
        };
        let topic = TopicRef::Repartition {
            name: name.clone(),
            partitions: grouped.and_then(|grouped| grouped.partitions),
        };
        let sink_name = NodeName::Derived(format!("{name}-repartition.to"));
        stream.sink(sink_name, topic.clone(), key.clone(), value.clone());
        let (source_key, source_value) = (key.clone(), value.clone());
        let kind = NodeKind::Source {
            topics: vec![topic],
            make: Arc::new(move |topics| {
                let (key, value) = (source_key.clone(), source_value.clone());
                Box::new(Source::new(topics, key, value, ErrorPolicy::Fail, None))
            }),
        };
        let source_name = NodeName::Derived(format!("{name}-repartition"));
        let node = stream.graph.borrow_mut().add(source_name, Vec::new(), kind);
        KStream {
            graph: stream.graph.clone(),
            node,
            lineage: Lineage::new(name),
            key: Some(key),
            value: Some(value),
            rekeyed: false,
        }
    }
}

/// Rows grouped by key and window.
#[derive(Debug)]
pub struct TimeWindowedKStream<K, V> {
    grouped: KGroupedStream<K, V>,
    windows: TimeWindows,
    emit: EmitStrategy,
}

impl<K: Key, V: Data> TimeWindowedKStream<K, V> {
    /// When results are forwarded; every commit unless told otherwise.
    #[must_use]
    pub fn emit_strategy(mut self, emit: EmitStrategy) -> Self {
        self.emit = emit;
        self
    }

    /// Counts the rows of each key and window.
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<Windowed<K>, i64> {
        let materialized = counted(materialized);
        self.windowed_table("count", materialized, |_, _| 1, |_, _, count| *count += 1)
    }

    /// Combines the values of each key and window: the first one starts, `combine` adds the others.
    pub fn reduce(
        &self,
        combine: impl Fn(&mut V, V) + Send + Sync + 'static,
        mut materialized: Materialized<K, V>,
    ) -> KTable<Windowed<K>, V> {
        materialized.value = materialized.value.or_else(|| self.grouped.value_serde());
        self.windowed_table(
            "reduce",
            materialized,
            |_, value| value,
            move |_, value, sum| combine(sum, value),
        )
    }

    /// Builds something of the rows of each key and window: `initial` makes it, `add` is given the key, a row's value
    /// and the thing.
    pub fn aggregate<A: Data>(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let add = Arc::new(add);
        let first = add.clone();
        let create = move |key: &K, value: V| {
            let mut aggregate = initial();
            first(key, value, &mut aggregate);
            aggregate
        };
        self.windowed_table("aggregate", materialized, create, move |key, value, aggregate| {
            add(key, value, aggregate);
        })
    }

    fn windowed_table<A: Data>(
        &self,
        kind: &'static str,
        materialized: Materialized<K, A>,
        create: impl Fn(&K, V) -> A + Send + Sync + 'static,
        update: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let input = self.grouped.keyed();
        let (windows, emit) = (self.windows, self.emit);
        let needed_ms = windows.size_ms.saturating_add(windows.grace_ms);
        let retention_ms = materialized.retention_ms.unwrap_or(needed_ms);
        let max_cached_groups = materialized.max_cached_groups;
        let request = TableRequest {
            kind: format!("{kind}-{}", windows.label()),
            store_kind: StoreKind::Window { retention_ms },
        };
        let Some(plan) = plan_table(&input, request, materialized) else {
            return KTable::broken(&input.graph, input.node);
        };
        if windows.size_ms < 1 || windows.advance_ms < 1 || windows.advance_ms > windows.size_ms {
            input.complain(TopologyError::WindowBounds {
                operator: plan.codec.operator.clone(),
                size_ms: windows.size_ms,
                advance_ms: windows.advance_ms,
            });
        }
        if retention_ms < needed_ms {
            input.complain(TopologyError::RetentionTooShort {
                store: plan.codec.store.clone(),
                retention_ms,
                needed_ms,
            });
        }
        let (create, update) = (Arc::new(create), Arc::new(update));
        let codec = plan.codec.clone();
        let node = plan.add(&input, move |codec| {
            let options = WindowedOptions {
                codec,
                windows,
                emit,
                max_cached_groups,
            };
            Box::new(WindowedAggregate::new(options, create.clone(), update.clone()))
        });
        KTable {
            graph: input.graph.clone(),
            node,
            lineage: Lineage::new(codec.store.clone()),
            store: Some(codec.store),
            key: Some(Arc::new(serdes::windowed_shared(codec.key, windows.size()))),
            value: Some(codec.value),
        }
    }
}

fn counted<K>(mut materialized: Materialized<K, i64>) -> Materialized<K, i64> {
    materialized.value = materialized.value.or_else(|| Some(Arc::new(serdes::i64())));
    materialized
}

struct TableRequest {
    /// Kind of aggregate and window; the last part of a derived store name.
    kind: String,
    store_kind: StoreKind,
}

/// A table whose names and serdes are known.
struct TablePlan<K, A> {
    codec: GroupCodec<K, A>,
    store: StoreSpec,
}

/// Settles store name and serdes; what is missing is complained about and `None` returned.
fn plan_table<K: Key, V: Data, A: Data>(
    input: &KStream<K, V>,
    request: TableRequest,
    materialized: Materialized<K, A>,
) -> Option<TablePlan<K, A>> {
    let derived = || format!("{}-{}", input.lineage.as_str(), request.kind);
    let store = materialized.name.unwrap_or_else(derived);
    let missing = |part, fix| {
        input.complain(TopologyError::MissingSerde {
            operator: store.clone(),
            part,
            fix,
        });
    };
    let key = materialized.key.or_else(|| input.key.clone());
    if key.is_none() {
        missing("key", KEY_FIX);
    }
    if materialized.value.is_none() {
        missing("value", VALUE_FIX);
    }
    Some(TablePlan {
        codec: GroupCodec {
            operator: store.clone(),
            store: store.clone(),
            key: key?,
            value: materialized.value?,
        },
        store: StoreSpec {
            name: store,
            kind: request.store_kind,
            persistent: !materialized.in_memory,
            logged: materialized.logged,
            changelog_configs: materialized.changelog_configs,
        },
    })
}

impl<K: Key, A: Data> TablePlan<K, A> {
    fn add<V: Data>(
        self,
        input: &KStream<K, V>,
        make: impl Fn(GroupCodec<K, A>) -> Box<dyn Operator> + Send + Sync + 'static,
    ) -> usize {
        let Self { codec, store } = self;
        let name = NodeName::Derived(codec.operator.clone());
        let kind = NodeKind::Operator {
            stores: vec![store],
            make: Arc::new(move |operator| {
                let mut codec = codec.clone();
                codec.operator = operator.to_owned();
                make(codec)
            }),
        };
        input.graph.borrow_mut().add(name, vec![input.node], kind)
    }
}
