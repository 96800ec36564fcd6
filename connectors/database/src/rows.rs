//! From records to rows: which table, which key, which fields.

use std::collections::{BTreeMap, BTreeSet};

use highwater_connect_api::{Data, RejectedRecord, SinkRecord};
use serde_json::{Map, Value};

use crate::dialect::ColumnType;
use crate::settings::{DatabaseSettings, PkMode};

/// What happens to a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// These fields are written.
    Write(Map<String, Value>),
    /// The row with this key goes.
    Delete(Map<String, Value>),
}

/// One row and the record it came from.
#[derive(Debug, Clone)]
pub(crate) struct Row<'a> {
    pub(crate) table: String,
    pub(crate) change: Change,
    pub(crate) record: &'a SinkRecord,
}

/// The rows of a batch, the last one of each key, in the order of those last ones; and what can be no row.
pub(crate) fn rows_of<'a>(
    records: &'a [SinkRecord],
    settings: &DatabaseSettings,
) -> (Vec<Row<'a>>, Vec<RejectedRecord>) {
    let mut rows: Vec<Option<Row<'a>>> = Vec::with_capacity(records.len());
    let mut last_of_key: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut rejected = Vec::new();
    for record in records {
        let row = match row_of(record, settings) {
            Ok(Some(row)) => row,
            Ok(None) => continue,
            Err(reason) => {
                rejected.push(rejection(record, reason));
                continue;
            }
        };
        if let Some(key) = key_text(&row, settings)
            && let Some(earlier) = last_of_key.insert((row.table.clone(), key), rows.len())
        {
            // The fields that only the earlier record has must survive, as they would one by one.
            let merged = match rows[earlier].take() {
                Some(earlier) => merge(earlier, row),
                None => row,
            };
            rows.push(Some(merged));
            continue;
        }
        rows.push(Some(row));
    }
    (rows.into_iter().flatten().collect(), rejected)
}

fn merge<'a>(earlier: Row<'a>, later: Row<'a>) -> Row<'a> {
    match (earlier.change, &later.change) {
        (Change::Write(mut fields), Change::Write(newer)) => {
            fields.extend(newer.clone());
            Row {
                change: Change::Write(fields),
                ..later
            }
        }
        _ => later,
    }
}

/// A record as the dead-letter topic will see it.
pub(crate) fn rejection(record: &SinkRecord, reason: String) -> RejectedRecord {
    RejectedRecord {
        topic_partition: record.topic_partition.clone(),
        offset: record.offset,
        reason,
    }
}

fn row_of<'a>(record: &'a SinkRecord, settings: &DatabaseSettings) -> Result<Option<Row<'a>>, String> {
    let table = settings.table_for(record.topic_partition.topic.as_str());
    let change = match &record.value {
        Data::Null if settings.delete_enabled => Change::Delete(key_fields_of_key(record, settings)?),
        Data::Null => return Ok(None),
        Data::Json(Value::Object(fields)) => Change::Write(written_fields(record, fields, settings)?),
        Data::Json(_) | Data::Text(_) | Data::Bytes(_) => {
            return Err("the value is no JSON object, so it has no fields to become columns".to_owned());
        }
    };
    Ok(Some(Row {
        table,
        change,
        record,
    }))
}

fn written_fields(
    record: &SinkRecord,
    fields: &Map<String, Value>,
    settings: &DatabaseSettings,
) -> Result<Map<String, Value>, String> {
    let wanted = |name: &String| {
        settings.fields.is_empty() || settings.fields.contains(name) || settings.pk_fields.contains(name)
    };
    let mut row: Map<String, Value> = fields
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    if settings.pk_mode == PkMode::RecordKey {
        row.extend(key_fields_of_key(record, settings)?);
    }
    match settings
        .pk_fields
        .iter()
        .find(|field| row.get(*field).is_none_or(Value::is_null))
    {
        Some(missing) if settings.pk_mode != PkMode::None => {
            Err(format!("the primary key's field `{missing}` is missing or null"))
        }
        _ => Ok(row),
    }
}

fn key_fields_of_key(record: &SinkRecord, settings: &DatabaseSettings) -> Result<Map<String, Value>, String> {
    let whole = |value: Value| match settings.pk_fields.as_slice() {
        [column] => Ok(Map::from_iter([(column.clone(), value)])),
        columns => Err(format!(
            "the key is one value, but pk_fields names {} columns",
            columns.len()
        )),
    };
    match &record.key {
        Data::Json(Value::Object(fields)) => settings
            .pk_fields
            .iter()
            .map(|name| match fields.get(name) {
                Some(value) if !value.is_null() => Ok((name.clone(), value.clone())),
                _ => Err(format!("the key has no field `{name}`")),
            })
            .collect(),
        Data::Json(Value::Null) | Data::Null => Err("the record has no key".to_owned()),
        Data::Json(value) => whole(value.clone()),
        Data::Text(text) => whole(text.clone().into()),
        Data::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => whole(text.into()),
            Err(_) => Err("the key is no text; choose key = \"json\" or \"string\"".to_owned()),
        },
    }
}

fn key_text(row: &Row<'_>, settings: &DatabaseSettings) -> Option<String> {
    if settings.pk_mode == PkMode::None {
        return None;
    }
    let (Change::Write(fields) | Change::Delete(fields)) = &row.change;
    let key: Vec<&Value> = settings
        .pk_fields
        .iter()
        .filter_map(|name| fields.get(name))
        .collect();
    serde_json::to_string(&key).ok()
}

/// The fields of the rows with the types their values ask for, in order of name.
pub(crate) fn field_types(rows: &[Row<'_>]) -> BTreeMap<String, ColumnType> {
    let mut types: BTreeMap<String, ColumnType> = BTreeMap::new();
    let mut untyped = BTreeSet::new();
    for row in rows {
        let Change::Write(fields) = &row.change else {
            continue;
        };
        for (name, value) in fields {
            match ColumnType::of(value) {
                Some(kind) => {
                    types
                        .entry(name.clone())
                        .and_modify(|t| *t = t.join(kind))
                        .or_insert(kind);
                }
                None => {
                    untyped.insert(name.clone());
                }
            }
        }
    }
    for name in untyped {
        // Only nulls were seen: text takes whatever comes later in words, and nothing narrower is known.
        types.entry(name).or_insert(ColumnType::Text);
    }
    types
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_connect_api::{Offset, PartitionId, Settings, Timestamp, TopicName, TopicPartition};
    use serde_json::json;

    fn settings(more: Value) -> DatabaseSettings {
        let mut all = json!({ "url": "sqlite::memory:" });
        for (key, value) in more.as_object().expect("an object") {
            all[key] = value.clone();
        }
        Settings::from_json(all).read().expect("valid settings")
    }

    fn record(offset: i64, key: &str, value: Data) -> SinkRecord {
        SinkRecord {
            topic_partition: TopicPartition::new(
                TopicName::new("btc.candles").expect("legal"),
                PartitionId::new(0),
            ),
            offset: Offset::new(offset),
            timestamp: Timestamp::new(0),
            key: Data::text(key),
            value,
            headers: Vec::new(),
        }
    }

    #[test]
    fn the_last_record_of_a_key_wins_and_keeps_fields_that_only_the_earlier_has() {
        let settings = settings(json!({ "pk_fields": ["id"] }));
        let records = [
            record(0, "", Data::Json(json!({ "id": 1, "a": 1, "b": 1 }))),
            record(1, "", Data::Json(json!({ "id": 2, "a": 5 }))),
            record(2, "", Data::Json(json!({ "id": 1, "a": 2 }))),
        ];
        let (rows, rejected) = rows_of(&records, &settings);
        assert!(rejected.is_empty());
        let written: Vec<String> = rows.iter().map(|row| format!("{:?}", row.change)).collect();
        assert_eq!(
            rows[1].change,
            Change::Write(json!({ "id": 1, "a": 2, "b": 1 }).as_object().expect("o").clone())
        );
        assert_eq!(written.len(), 2);
        assert_eq!(rows[0].table, "btc_candles");
    }

    #[test]
    fn a_tombstone_deletes_only_when_asked_to() {
        let keyed = json!({ "pk_mode": "record_key", "pk_fields": ["id"], "delete_enabled": true });
        let records = [
            record(0, "a", Data::Json(json!({ "v": 1 }))),
            record(1, "a", Data::Null),
        ];
        let (rows, _) = rows_of(&records, &settings(keyed));
        assert_eq!(rows.len(), 1);
        assert!(matches!(&rows[0].change, Change::Delete(key) if key["id"] == "a"));
        let (rows, _) = rows_of(
            &records,
            &settings(json!({ "pk_mode": "record_key", "pk_fields": ["id"] })),
        );
        assert!(matches!(rows[0].change, Change::Write(_)));
    }

    #[test]
    fn a_row_without_its_key_is_rejected_and_says_which_field() {
        let records = [
            record(0, "", Data::Json(json!({ "a": 1 }))),
            record(1, "", Data::text("no object")),
        ];
        let (rows, rejected) = rows_of(&records, &settings(json!({ "pk_fields": ["id"] })));
        assert!(rows.is_empty());
        assert_eq!(
            rejected[0].reason,
            "the primary key's field `id` is missing or null"
        );
        assert!(rejected[1].reason.contains("no JSON object"));
    }
}
