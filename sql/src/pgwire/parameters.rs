//! Values of `$1`, `$2` … from the wire's bytes, in text or binary form.

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use pgwire::{
    api::{Type, portal::Portal},
    error::PgWireResult,
};

use super::connection::user_error;

/// Microseconds from 1970 to 2000, where Postgres counts from.
const EPOCH_2000_US: i64 = 946_684_800_000_000;
/// Days from 1970 to 2000.
const EPOCH_2000_DAYS: i32 = 10_957;

/// The portal's parameters as the plan's types; `inferred` says which, as far as the plan tells.
pub(super) fn decode<S: Clone>(
    portal: &Portal<S>,
    inferred: &[Option<DataType>],
) -> PgWireResult<Vec<ScalarValue>> {
    let given = &portal.statement.parameter_types;
    let decoded = portal.parameters.iter().enumerate().map(|(index, bytes)| {
        let wanted = inferred.get(index).cloned().flatten();
        let Some(bytes) = bytes else {
            return ScalarValue::try_from(&wanted.unwrap_or(DataType::Utf8)).map_err(|e| invalid(index, e));
        };
        let value = if portal.parameter_format.is_binary(index) {
            let given = given.get(index).cloned().flatten();
            let told = given.or_else(|| {
                wanted
                    .as_ref()
                    .and_then(|t| arrow_pg::datatypes::into_pg_type(t).ok())
            });
            binary(index, &told.unwrap_or(Type::TEXT), bytes)?
        } else {
            let text = std::str::from_utf8(bytes).map_err(|error| invalid(index, error))?;
            ScalarValue::Utf8(Some(text.to_owned()))
        };
        match wanted {
            Some(wanted) if value.data_type() != wanted => {
                value.cast_to(&wanted).map_err(|error| invalid(index, error))
            }
            _ => Ok(value),
        }
    });
    decoded.collect()
}

fn binary(index: usize, told: &Type, bytes: &[u8]) -> PgWireResult<ScalarValue> {
    let exact = || -> Option<ScalarValue> {
        Some(match *told {
            Type::BOOL => ScalarValue::Boolean(Some(*bytes.first()? != 0)),
            Type::INT2 => ScalarValue::Int16(Some(i16::from_be_bytes(bytes.try_into().ok()?))),
            Type::INT4 => ScalarValue::Int32(Some(i32::from_be_bytes(bytes.try_into().ok()?))),
            Type::INT8 => ScalarValue::Int64(Some(i64::from_be_bytes(bytes.try_into().ok()?))),
            Type::FLOAT4 => ScalarValue::Float32(Some(f32::from_be_bytes(bytes.try_into().ok()?))),
            Type::FLOAT8 => ScalarValue::Float64(Some(f64::from_be_bytes(bytes.try_into().ok()?))),
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => {
                ScalarValue::Utf8(Some(std::str::from_utf8(bytes).ok()?.to_owned()))
            }
            Type::BYTEA => ScalarValue::Binary(Some(bytes.to_vec())),
            Type::DATE => {
                let days = i32::from_be_bytes(bytes.try_into().ok()?);
                ScalarValue::Date32(Some(days.checked_add(EPOCH_2000_DAYS)?))
            }
            Type::TIMESTAMP | Type::TIMESTAMPTZ => {
                let micros = i64::from_be_bytes(bytes.try_into().ok()?).checked_add(EPOCH_2000_US)?;
                let zone = (*told == Type::TIMESTAMPTZ).then(|| "UTC".into());
                ScalarValue::TimestampMicrosecond(Some(micros), zone)
            }
            _ => return None,
        })
    };
    exact().ok_or_else(|| {
        let message = format!(
            "parameter ${} of type {told} cannot be read in binary form; send it as text",
            index + 1
        );
        user_error("0A000", message)
    })
}

fn invalid(index: usize, problem: impl std::fmt::Display) -> pgwire::error::PgWireError {
    user_error(
        "22P02",
        format!(
            "parameter ${} is not of the type the statement needs: {problem}",
            index + 1
        ),
    )
}
