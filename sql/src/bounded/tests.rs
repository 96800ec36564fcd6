//! Predictions against what DataFusion's functions really make.

use arrow::array::{ArrayRef, Int64Array, StringArray};
use datafusion::prelude::SessionContext;

use super::*;

fn texts(values: &[Option<&str>]) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(StringArray::from(values.to_vec())))
}

fn numbers(values: &[i64]) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(Int64Array::from(values.to_vec())))
}

fn text(value: &str) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Utf8(Some(value.to_owned())))
}

fn number(value: i64) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Int64(Some(value)))
}

/// What DataFusion's function makes of arguments for three rows.
fn made(name: &str, arguments: Vec<ColumnarValue>) -> ArrayRef {
    let function = SessionContext::new().udf(name).unwrap();
    let fields: Vec<FieldRef> = arguments
        .iter()
        .map(|argument| Arc::new(Field::new("argument", argument.data_type(), true)))
        .collect();
    let scalars: Vec<_> = arguments
        .iter()
        .map(|argument| match argument {
            ColumnarValue::Scalar(scalar) => Some(scalar),
            ColumnarValue::Array(_) => None,
        })
        .collect();
    let return_field = function
        .return_field_from_args(ReturnFieldArgs {
            arg_fields: &fields,
            scalar_arguments: &scalars,
        })
        .unwrap();
    let call = ScalarFunctionArgs {
        args: arguments,
        arg_fields: fields,
        number_rows: 3,
        return_field,
        config_options: Arc::default(),
    };
    function.invoke_with_args(call).unwrap().to_array(3).unwrap()
}

#[track_caller]
fn check_prediction(name: &str, arguments: Vec<ColumnarValue>) {
    let growth = growth_of(name).unwrap();
    let predicted = size::predict(growth, &arguments, 3);
    let made = made(name, arguments.clone());
    let bytes = size::bytes_of(&made);
    assert!(
        predicted.total >= bytes,
        "{name}{arguments:?} made {bytes} bytes, {predicted:?}"
    );
    assert!(
        predicted.total <= bytes * 8 + 2_000,
        "{name}{arguments:?} made {bytes} bytes only, {predicted:?}"
    );
    assert!(predicted.largest <= predicted.total);
}

#[test]
fn predictions_are_never_below_what_is_made_and_not_far_above() {
    let words = || {
        texts(&[
            Some("a rather long text, and another"),
            None,
            Some("\u{1F980}äöü"),
        ])
    };
    for count in [0, 1, 7, 1_000] {
        let counts = || [number(count), numbers(&[count, count * 2, 3])];
        for count in counts() {
            check_prediction("repeat", vec![words(), count.clone()]);
            check_prediction("repeat", vec![text("abc"), count.clone()]);
            check_prediction("lpad", vec![words(), count.clone()]);
            check_prediction("rpad", vec![words(), count.clone(), text("xy")]);
            check_prediction("lpad", vec![words(), count.clone(), text("\u{1F980}")]);
            check_prediction("range", vec![count.clone()]);
            check_prediction("generate_series", vec![number(-5), count.clone()]);
            check_prediction("generate_series", vec![number(-5), count.clone(), number(3)]);
        }
        check_prediction(
            "array_repeat",
            vec![text("abcdefgh"), numbers(&[count, count, count])],
        );
    }
    for (from, to) in [
        ("a", "bcdefghijk"),
        ("text", ""),
        ("zzz", "long long long"),
        ("", "-"),
    ] {
        check_prediction("replace", vec![words(), text(from), text(to)]);
    }
    check_prediction("concat", vec![words(), text("and"), words()]);
    check_prediction("concat_ws", vec![text(", "), words(), words(), text("x")]);
    check_prediction("overlay", vec![words(), text("XXXX"), number(2), number(1)]);
    let list = || ColumnarValue::Array(made("range", vec![numbers(&[3, 500, 0])]));
    check_prediction("array_to_string", vec![list(), text(" and then ")]);
    check_prediction("array_resize", vec![list(), number(800), number(7)]);
    check_prediction("array_replace_all", vec![list(), number(1), number(2)]);
    check_prediction("array_concat", vec![list(), list()]);
}

#[test]
fn predictions_of_absurd_arguments_saturate() {
    for arguments in [
        vec![text("abc"), number(i64::MAX)],
        vec![texts(&[Some("abc"); 3]), number(i64::MAX)],
    ] {
        let size = size::predict(Growth::Times, &arguments, 3);
        assert_eq!(size.total, u64::MAX, "{arguments:?}");
    }
    let all = vec![number(i64::MIN), number(i64::MAX), number(1)];
    assert_eq!(size::predict(Growth::Steps, &all, 1).total, u64::MAX);
    assert_eq!(
        size::predict(Growth::Times, &[text("abc"), number(-1)], 1).total,
        0
    );
    let null = ColumnarValue::Scalar(ScalarValue::Null);
    assert_eq!(size::predict(Growth::Times, &[text("abc"), null], 1).total, 0);
}
