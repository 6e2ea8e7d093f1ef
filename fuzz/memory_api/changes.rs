//! Small changes to objects: what is at a pointer, and what may stand there.

use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The number of a place that the object's kind has, and that of a value for it.
pub(crate) type Change = (u8, u8);

/// How many changes are made at once at most.
const MOST: usize = 4;

/// For each kind, and for `any` of them: pairs of a pointer and the values that come to mind.
static CHANGES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("changes.json")).expect("it is JSON"));

/// The places of a kind, its own ones first.
fn places(kinds: &[&str]) -> Vec<(&'static str, &'static [Value])> {
    let all = kinds.iter().flat_map(|kind| CHANGES[kind].as_array().into_iter().flatten());
    all.map(|place| {
        let values = place[1].as_array().expect("a list of values");
        (place[0].as_str().expect("a pointer"), values.as_slice())
    })
    .collect()
}

/// Makes changes that an object of this kind may see.
pub(crate) fn make(object: &mut Value, kind: &str, changes: &[Change]) {
    make_among(object, &places(&[kind, "any"]), changes);
}

/// The same with what only a strategic merge patch understands.
pub(crate) fn make_strategic(patch: &mut Value, kind: &str, changes: &[Change]) {
    make_among(patch, &places(&["strategic", kind, "any"]), changes);
}

fn make_among(object: &mut Value, places: &[(&str, &[Value])], changes: &[Change]) {
    for (place, value) in changes.iter().take(MOST) {
        let (pointer, values) = places[at(*place, places.len())];
        put(object, pointer, value_of(*value, values));
    }
}

/// Operations of a JSON patch (RFC 6902): the verb's number, the place's and the value's.
pub(crate) fn operations(kind: &str, operations: &[(u8, u8, u8)]) -> Value {
    const VERBS: [&str; 6] = ["replace", "add", "remove", "test", "move", "copy"];
    let places = places(&[kind, "any"]);
    let operation = |(verb, place, value): &(u8, u8, u8)| {
        let (pointer, values) = places[at(*place, places.len())];
        json!({
            "op": VERBS[at(*verb, VERBS.len())],
            "path": pointer,
            "from": places[at(*value, places.len())].0,
            "value": value_of(*value, values),
        })
    };
    operations.iter().take(MOST).map(operation).collect()
}

/// One of the values, or something that another place would have.
fn value_of(number: u8, values: &[Value]) -> Value {
    const MISFITS: [fn() -> Value; 8] = [
        || Value::Null,
        || json!("LoadBalancer"),
        || json!([{"port": 80}]),
        || json!(["x"]),
        || json!({}),
        || json!([]),
        || json!(-1),
        || json!(true),
    ];
    match number {
        ..0xf0 => in_time(&values[at(number, values.len())]),
        0xf0.. => MISFITS[at(number, MISFITS.len())](),
    }
}

/// A value, or the time so many seconds ago that it asks for.
fn in_time(value: &Value) -> Value {
    match value["$ago"].as_i64() {
        Some(seconds) => {
            let then = Timestamp::now() - SignedDuration::from_secs(seconds);
            json!(then.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        }
        None => value.clone(),
    }
}

/// Sets what a pointer names, making objects on the way where there are none.
pub(crate) fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for part in pointer.split('/').skip(1).map(|part| part.replace("~1", "/")) {
        let list = place.as_array().map(Vec::len);
        place = match (list, part.parse::<usize>()) {
            (Some(length), Ok(index)) if index < length => &mut place[index],
            (Some(_), _) => return,
            (None, _) => {
                if !place.is_object() {
                    *place = json!({});
                }
                &mut place[part]
            }
        };
    }
    *place = value;
}

/// A number as an index.
pub(crate) fn at(number: u8, count: usize) -> usize {
    usize::from(number) % count
}
