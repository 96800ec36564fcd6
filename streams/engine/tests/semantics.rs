//! What topologies do, record by record, on the test driver. Test names carry the rows of the semantic checklist.

use std::time::Duration;

use bytes::Bytes;
use highwater_streams_engine::{
    Advance, Consumed, DropReason, EmitStrategy, ErrorPolicy, Grouped, HoppingWindows, Materialized,
    ProcessError, Produced, Row, StreamsBuilder, TopologyError, TopologyTestDriver, TumblingWindows,
    serdes::{i64, json, optional, string, windowed},
};
use highwater_types::{Timestamp, TopicName};

type TestResult = Result<(), Box<dyn std::error::Error>>;

const TEN_MS: Duration = Duration::from_millis(10);

/// Counts words per 10 ms window with 5 ms of grace.
fn windowed_count(emit: EmitStrategy) -> Result<TopologyTestDriver, Box<dyn std::error::Error>> {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(string(), string()))
        .group_by_key()
        .windowed_by(TumblingWindows::of(TEN_MS).grace(Duration::from_millis(5)))
        .emit_strategy(emit)
        .count(Materialized::as_store("counts"))
        .to_stream()
        .to("out", Produced::with(windowed(string(), TEN_MS), i64()));
    Ok(TopologyTestDriver::new(builder.build("app")?)?)
}

/// `key@start=count` of everything that came out.
fn counts(driver: &TopologyTestDriver) -> Vec<String> {
    let out = driver.output_topic("out", windowed(string(), TEN_MS), i64());
    let shown = out.read_key_values().into_iter();
    shown
        .map(|(at, count)| format!("{}@{}={count}", at.key, at.window.start))
        .collect()
}

fn pipe(driver: &TopologyTestDriver, key: &str, timestamp_ms: i64) -> Result<(), ProcessError> {
    let input = driver.input_topic("in", string(), string());
    input.pipe(key.to_owned(), "v".to_owned(), timestamp_ms)
}

#[test]
fn row_22_and_26_windows_are_half_open_and_close_by_stream_time_and_grace() -> TestResult {
    let driver = windowed_count(EmitStrategy::OnUpdate)?;
    for at in [0, 9, 10, 24, 9, 25, 9] {
        pipe(&driver, "a", at)?;
    }
    // At 24 the first window (end 10) is long past its grace; at 25 so is the second (end 20).
    assert_eq!(counts(&driver), ["a@0=1", "a@0=2", "a@10=1", "a@20=1", "a@20=2"]);
    assert_eq!(driver.dropped(DropReason::Late), 2);
    Ok(())
}

#[test]
fn row_26_a_late_record_within_grace_still_counts() -> TestResult {
    let driver = windowed_count(EmitStrategy::OnUpdate)?;
    for at in [5, 14, 5, 15, 5] {
        pipe(&driver, "a", at)?;
    }
    assert_eq!(
        counts(&driver),
        ["a@0=1", "a@10=1", "a@0=2", "a@10=2"],
        "closed exactly when 15 - 5 reaches 10"
    );
    assert_eq!(driver.dropped(DropReason::Late), 1);
    Ok(())
}

#[test]
fn row_29_final_results_come_once_in_window_order_and_not_again_after_a_restart() -> TestResult {
    let driver = windowed_count(EmitStrategy::on_window_close())?;
    for (key, at) in [("a", 1), ("b", 2), ("a", 3), ("a", 11)] {
        pipe(&driver, key, at)?;
    }
    assert!(counts(&driver).is_empty(), "nothing has closed");
    driver.restart()?;
    pipe(&driver, "a", 15)?;
    assert_eq!(counts(&driver), ["a@0=2", "b@0=1"]);
    driver.restart()?;
    pipe(&driver, "a", 16)?;
    assert!(counts(&driver).is_empty(), "the first window has spoken its last");
    pipe(&driver, "c", 40)?;
    assert_eq!(counts(&driver), ["a@10=3"]);
    Ok(())
}

#[test]
fn row_31_an_idle_input_does_not_hold_back_final_results_when_asked_not_to() -> TestResult {
    let driver = windowed_count(EmitStrategy::on_window_close_or_idle(Duration::from_millis(100)))?;
    pipe(&driver, "a", 3)?;
    driver.advance_wall_clock(Duration::from_millis(99))?;
    assert!(counts(&driver).is_empty());
    driver.advance_wall_clock(Duration::from_millis(1))?;
    assert_eq!(counts(&driver), ["a@0=1"]);
    pipe(&driver, "a", 4)?;
    pipe(&driver, "a", 12)?;
    assert_eq!(
        driver.dropped(DropReason::Late),
        1,
        "its window was closed by the wall clock"
    );
    driver.advance_wall_clock(Duration::from_secs(1))?;
    assert_eq!(counts(&driver), ["a@10=1"]);
    Ok(())
}

#[test]
fn row_22_hopping_windows_count_a_record_in_each_window_that_holds_it() -> TestResult {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(string(), string()))
        .group_by_key()
        .windowed_by(HoppingWindows::of(TEN_MS, Advance::by(Duration::from_millis(5))))
        .count(Materialized::as_store("counts"))
        .to_stream()
        .to("out", Produced::with(windowed(string(), TEN_MS), i64()));
    let driver = TopologyTestDriver::new(builder.build("app")?)?;
    pipe(&driver, "a", 7)?;
    assert_eq!(counts(&driver), ["a@0=1", "a@5=1"]);
    Ok(())
}

#[test]
fn rows_16_and_19_an_aggregate_carries_the_latest_time_of_its_rows() -> TestResult {
    let driver = windowed_count(EmitStrategy::OnUpdate)?;
    for at in [7, 3] {
        pipe(&driver, "a", at)?;
    }
    let out = driver.output_topic("out", windowed(string(), TEN_MS), i64());
    let times: Vec<i64> = std::iter::from_fn(|| out.read_raw())
        .map(|record| record.timestamp.get())
        .collect();
    assert_eq!(times, [7, 7]);
    Ok(())
}

#[test]
fn rows_18_19_66_and_91_drops_are_told_apart() -> TestResult {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(string(), i64()).on_error(ErrorPolicy::Skip))
        .to("out", Produced::with(string(), i64()));
    let driver = TopologyTestDriver::new(builder.build("app")?)?;
    let eight = || Some(Bytes::from_static(b"\0\0\0\0\0\0\0\x07"));
    let at = Timestamp::new(0);
    driver.pipe_raw("in", None, eight(), at)?;
    driver.pipe_raw("in", Some(Bytes::from_static(b"k")), None, at)?;
    driver.pipe_raw(
        "in",
        Some(Bytes::from_static(b"k")),
        Some(Bytes::from_static(b"bad")),
        at,
    )?;
    driver.pipe_raw("in", Some(Bytes::from_static(b"k")), eight(), at)?;
    for reason in [DropReason::NullKey, DropReason::NullValue, DropReason::Malformed] {
        assert_eq!(driver.dropped(reason), 1, "{reason}");
    }
    let out = driver.output_topic("out", string(), i64());
    assert_eq!(out.read_key_values(), [("k".to_owned(), 7)]);
    Ok(())
}

#[test]
fn rows_66_and_67_malformed_records_stop_the_task_or_go_to_the_dead_letter_topic() -> TestResult {
    let run = |policy| -> Result<TopologyTestDriver, Box<dyn std::error::Error>> {
        let builder = StreamsBuilder::new();
        builder
            .stream("in", Consumed::with(optional(string()), i64()).on_error(policy))
            .to("out", Produced::with(optional(string()), i64()));
        Ok(TopologyTestDriver::new(builder.build("app")?)?)
    };
    let pipe_bad = |driver: &TopologyTestDriver| {
        driver.pipe_raw("in", None, Some(Bytes::from_static(b"bad")), Timestamp::new(0))
    };
    let error = pipe_bad(&run(ErrorPolicy::Fail)?).expect_err("the policy is to stop");
    assert!(error.to_string().contains("in-0 at offset 0"), "{error}");

    let driver = run(ErrorPolicy::DeadLetter {
        topic: TopicName::new("dead")?,
    })?;
    pipe_bad(&driver)?;
    let dead = driver.output_topic("dead", optional(string()), string());
    let letter = dead.read_raw().expect("one letter");
    assert_eq!(letter.value, Some(Bytes::from_static(b"bad")));
    let names: Vec<_> = letter
        .headers
        .iter()
        .filter_map(|header| header.key_str())
        .collect();
    assert!(names.contains(&"__streams.errors.offset"), "{names:?}");
    Ok(())
}

#[test]
fn row_4_negative_timestamps_stop_the_task_unless_an_extractor_decides() -> TestResult {
    let builder = StreamsBuilder::new();
    let consumed = Consumed::with(string(), i64()).with_timestamp_extractor(|_, value, times| match value {
        0 => None,
        1 => times.partition,
        _ => Some(Timestamp::new(*value)),
    });
    builder
        .stream("in", consumed)
        .to("out", Produced::with(string(), i64()));
    let driver = TopologyTestDriver::new(builder.build("app")?)?;
    let input = driver.input_topic("in", string(), i64());
    for value in [500, 1, 0] {
        input.pipe("k".to_owned(), value, -1)?;
    }
    let out = driver.output_topic("out", string(), i64());
    let times: Vec<i64> = std::iter::from_fn(|| out.read_raw())
        .map(|record| record.timestamp.get())
        .collect();
    assert_eq!(times, [500, 500]);
    assert_eq!(driver.dropped(DropReason::NegativeTimestamp), 1);

    let plain = windowed_count(EmitStrategy::OnUpdate)?;
    assert!(matches!(
        pipe(&plain, "a", -1),
        Err(ProcessError::NegativeTimestamp { timestamp_ms: -1, .. })
    ));
    Ok(())
}

#[test]
fn rows_7_and_46_a_changed_key_travels_once_for_all_its_aggregates() -> TestResult {
    let builder = StreamsBuilder::new();
    let by_word = builder
        .stream("in", Consumed::with(string(), string()))
        .flat_map(|key, line: String| {
            let words: Vec<_> = line
                .split(' ')
                .map(|word| (word.to_owned(), key.clone()))
                .collect();
            words
        })
        .group_by_key_with(Grouped::with(string(), string()).named("words"));
    by_word
        .count(Materialized::as_store("counts"))
        .to_stream()
        .to("counts", Produced::with(string(), i64()));
    by_word
        .reduce(|all, one| all.push_str(&one), Materialized::as_store("keys"))
        .to_stream()
        .to("keys", Produced::with(string(), string()));
    let topology = builder.build("app")?;
    let plan = topology.plan(&[(TopicName::new("in")?, 3)].into())?;
    let internal: Vec<_> = plan
        .internal_topics
        .iter()
        .map(|topic| (topic.topic.as_str(), topic.partitions))
        .collect();
    assert_eq!(
        internal,
        [
            ("app-words-repartition", 3),
            ("app-counts-changelog", 3),
            ("app-keys-changelog", 3)
        ]
    );
    let driver = TopologyTestDriver::new(topology)?;
    let input = driver.input_topic("in", string(), string());
    input.pipe("1".to_owned(), "low tide".to_owned(), 0)?;
    input.pipe("2".to_owned(), "high tide".to_owned(), 1)?;
    let last = |topic| {
        driver
            .output_topic(topic, string(), string())
            .read_key_values()
            .pop()
    };
    assert_eq!(last("keys"), Some(("tide".to_owned(), "12".to_owned())));
    assert_eq!(
        driver.store("counts", string(), i64()).get(&"tide".to_owned()),
        Some(2)
    );
    Ok(())
}

#[test]
fn rows_8_and_9_branches_and_merges_lose_and_repeat_nothing() -> TestResult {
    let builder = StreamsBuilder::new();
    let numbers = builder.stream("in", Consumed::with(string(), i64()));
    let (even, odd) = numbers.branch(|_, number| number % 2 == 0);
    even.map_values(|number| number * 10)
        .merge(&odd.filter(|_, number| *number != 3))
        .to("out", Produced::with(string(), i64()));
    let driver = TopologyTestDriver::new(builder.build("app")?)?;
    let input = driver.input_topic("in", string(), i64());
    for number in 1..=4 {
        input.pipe("k".to_owned(), number, number)?;
    }
    let out = driver.output_topic("out", string(), i64()).read_key_values();
    assert_eq!(
        out.into_iter().map(|(_, number)| number).collect::<Vec<_>>(),
        [1, 20, 40]
    );
    Ok(())
}

#[test]
fn row_53_state_comes_back_whole_from_the_changelog() -> TestResult {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key()
        .aggregate(Vec::new, |_, number, seen: &mut Vec<i64>| seen.push(number), {
            Materialized::as_store("seen").with_value(json())
        })
        .to_stream()
        .to("out", Produced::with(string(), json()));
    let driver = TopologyTestDriver::new(builder.build("app")?)?;
    let input = driver.input_topic("in", string(), i64());
    let seen = driver.store("seen", string(), json::<Vec<i64>>());
    input.pipe("k".to_owned(), 1, 0)?;
    input.pipe("j".to_owned(), 2, 0)?;
    driver.restart()?;
    input.pipe("k".to_owned(), 3, 0)?;
    assert_eq!(seen.get(&"k".to_owned()), Some(vec![1, 3]));
    assert_eq!(seen.len(), 2);
    Ok(())
}

#[test]
fn row_27_windows_leave_the_store_after_their_retention_and_not_before() -> TestResult {
    let driver = windowed_count(EmitStrategy::OnUpdate)?;
    let store = driver.store("counts", string(), i64());
    pipe(&driver, "a", 5)?;
    pipe(&driver, "a", 15)?;
    assert_eq!(store.get_window(&"a".to_owned(), 0), Some(1));
    pipe(&driver, "a", 16)?;
    assert_eq!(
        store.get_window(&"a".to_owned(), 0),
        None,
        "16 - (10 + 5) is past its start"
    );
    assert_eq!(store.len(), 1);
    Ok(())
}

#[test]
fn row_73_a_topology_describes_itself_with_readable_names() -> TestResult {
    let builder = StreamsBuilder::new();
    builder
        .stream("prices", Consumed::with(string(), i64()))
        .filter(|_, price| *price > 0)
        .group_by(|_, price| price % 10, Grouped::with(i64(), i64()))
        .count(Materialized::unnamed())
        .to_stream()
        .to("counts", Produced::with(i64(), i64()));
    let expected = "\
Topologies:
   Sub-topology: 0
    Source: prices (topics: [prices])
      --> prices.filter
    Processor: prices.filter (stores: [])
      --> prices.filter.select_key
      <-- prices
    Processor: prices.filter.select_key (stores: [])
      --> prices-select_key-repartition.to
      <-- prices.filter
    Sink: prices-select_key-repartition.to (topic: app-prices-select_key-repartition)
      <-- prices.filter.select_key
   Sub-topology: 1
    Source: prices-select_key-repartition (topics: [app-prices-select_key-repartition])
      --> prices-select_key-count
    Processor: prices-select_key-count (stores: [prices-select_key-count])
      --> counts.to
      <-- prices-select_key-repartition
    Sink: counts.to (topic: counts)
      <-- prices-select_key-count
";
    assert_eq!(builder.build("app")?.describe(), expected);
    Ok(())
}

#[test]
fn derived_store_names_do_not_depend_on_steps_that_keep_keys_or_on_order() -> TestResult {
    let store = |extra_step: bool| {
        let builder = StreamsBuilder::new();
        if extra_step {
            builder
                .stream("other", Consumed::with(string(), i64()))
                .peek(|_, _| {});
        }
        let mut stream = builder.stream("prices", Consumed::with(string(), i64()));
        if extra_step {
            stream = stream.peek(|_, _| {}).filter(|_, _| true);
        }
        let table = stream.group_by_key().count(Materialized::unnamed());
        table.store_name().map(str::to_owned)
    };
    assert_eq!(store(false), Some("prices-count".to_owned()));
    assert_eq!(store(true), store(false));
    Ok(())
}

#[test]
fn mistakes_are_named_when_the_topology_is_built() {
    let error = |describe: &dyn Fn(&StreamsBuilder)| {
        let builder = StreamsBuilder::new();
        describe(&builder);
        builder.build("app").expect_err("the topology is wrong")
    };
    let stream = |builder: &StreamsBuilder| builder.stream("in", Consumed::with(string(), i64()));

    assert_eq!(error(&|_| {}), TopologyError::Empty);
    let twice = error(&|builder| {
        let grouped = stream(builder).group_by_key();
        grouped.count(Materialized::unnamed());
        grouped.count(Materialized::unnamed());
    });
    // Nodes are numbered apart, stores never.
    assert_eq!(
        twice,
        TopologyError::DuplicateStore {
            store: "in-count".to_owned()
        }
    );
    let unwritten = error(&|builder| {
        stream(builder)
            .map(|key, value| (value, key))
            .group_by_key()
            .count(Materialized::unnamed());
    });
    assert!(
        matches!(unwritten, TopologyError::MissingSerde { part: "row", .. }),
        "{unwritten}"
    );
    let short = error(&|builder| {
        stream(builder)
            .group_by_key()
            .windowed_by(TumblingWindows::of(TEN_MS))
            .count(Materialized::unnamed().retention(Duration::from_millis(9)));
    });
    assert!(
        matches!(short, TopologyError::RetentionTooShort { needed_ms: 10, .. }),
        "{short}"
    );
    let illegal = error(&|builder| stream(builder).to("no/slash", Produced::with(string(), i64())));
    assert!(matches!(illegal, TopologyError::TopicName { .. }), "{illegal}");
}

#[test]
fn whole_rows_can_be_changed_with_their_time() -> TestResult {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(string(), i64()))
        .map_rows(|row: Row<String, i64>| {
            (row.value > 0).then(|| Row {
                timestamp: Timestamp::new(row.value),
                ..row
            })
        })
        .to("out", Produced::with(string(), i64()));
    let driver = TopologyTestDriver::new(builder.build("app")?)?;
    let input = driver.input_topic("in", string(), i64());
    input.pipe("k".to_owned(), 0, 5)?;
    input.pipe("k".to_owned(), 9, 5)?;
    let out = driver.output_topic("out", string(), i64());
    let record = out.read_raw().expect("one row");
    assert_eq!(record.timestamp, Timestamp::new(9));
    assert!(out.read_raw().is_none());
    Ok(())
}
