//! Every line that the programs log in a whole life of a lab, in both formats: each has its level, and none a
//! timestamp, which Kubernetes adds (`kubectl logs --timestamps`).
//!
//! Needs the right to make network namespaces.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeSet;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use purelb_cli::lab::client::ObjectPath;
use purelb_cli::lab::cluster::{Blueprint, Cluster};
use purelb_cli::lab::ip::ip;
use purelb_cli::telemetry::log::Format;
use serde_json::Value;

mod common;

use common::lab::{beside_others, eventually, holder, holders, serve};

/// What an address and a node can go through.
fn live(cluster: &mut Cluster) {
    const ADDRESS: &str = "192.0.2.245";
    serve(cluster, "web", &[ADDRESS, "2001:db8:1::245"]);
    let first = holder(cluster, ADDRESS);
    cluster.kill_agent(first).unwrap();
    let second = eventually(|| match holders(cluster, ADDRESS.parse().unwrap())[..] {
        [holder] if holder != first => Ok(holder),
        ref holders => Err(format!("held by {holders:?}")),
    });
    cluster.start_agent(first).unwrap();
    // Without a way out of its own the second one has no local interface.
    let another = "route add default via 192.0.2.1 dev eth0 metric 77";
    ip(cluster.node(second), another).unwrap();
    eventually(|| match holders(cluster, ADDRESS.parse().unwrap())[..] {
        [holder] if holder != second => Ok(()),
        ref holders => Err(format!("held by {holders:?}")),
    });
    cluster.start_allocator().unwrap();
    cluster.api().client().delete(&ObjectPath::service("web")).unwrap();
    eventually(|| match holders(cluster, ADDRESS.parse().unwrap())[..] {
        [] => Ok(()),
        ref holders => Err(format!("held by {holders:?}")),
    });
    assert_eq!(cluster.end_programs(), [""; 0]);
}

/// All that was logged, with the name of each file, read by `read`, which returns a line's level.
fn inspect(cluster: &Cluster, read: fn(&str) -> Result<String, String>) {
    let mut levels = BTreeSet::new();
    let mut files = 0;
    for file in fs::read_dir(cluster.logs()).unwrap() {
        let file = file.unwrap().path();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.lines().count() > 3, "{} is as good as empty", file.display());
        for line in text.lines() {
            if let Some(time) = timestamp(line) {
                panic!("{}: {time:?} is a timestamp: {line}", file.display());
            }
            let level = read(line);
            levels.insert(level.unwrap_or_else(|why| panic!("{}: {why}: {line}", file.display())));
        }
        files += 1;
    }
    assert_eq!(files, 4, "the allocator and three agents");
    let known = ["DEBUG", "ERROR", "INFO", "WARN"].map(str::to_owned);
    assert!(levels.iter().all(|level| known.contains(level)), "{levels:?}");
    for level in ["DEBUG", "ERROR", "INFO"] {
        assert!(levels.contains(level), "nothing was said at {level}");
    }
}

#[test]
fn no_line_of_text_bears_a_timestamp() {
    let blueprint = Blueprint { debug: true, ..Blueprint::default() };
    beside_others("text", blueprint, "", |cluster| {
        live(cluster);
        inspect(cluster, |line| {
            let level = line.split_whitespace().next().ok_or("an empty line")?;
            if line.contains('\x1b') { Err("colours in a file".into()) } else { Ok(level.into()) }
        });
    });
}

#[test]
fn no_line_of_json_bears_a_timestamp() {
    let blueprint = Blueprint { debug: true, log_format: Format::Json, ..Blueprint::default() };
    beside_others("json", blueprint, "", |cluster| {
        live(cluster);
        inspect(cluster, |line| {
            let line: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            let fields = line.as_object().ok_or("no object")?;
            for field in ["time", "timestamp", "ts", "@timestamp", "datetime"] {
                if fields.contains_key(field) {
                    return Err(format!("a field {field}"));
                }
            }
            line["message"].as_str().ok_or("no message")?;
            Ok(line["level"].as_str().ok_or("no level")?.to_owned())
        });
    });
}

/// The first thing in a text that tells a moment: a date, a time of day, or a number of seconds since 1970
/// (or thousandths of those, and so on) that is within a year of now.
fn timestamp(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find_map(|start| {
        let rest = &bytes[start..];
        let before = start.checked_sub(1).map(|before| bytes[before]);
        let length =
            date(rest, before).or_else(|| time(rest, before)).or_else(|| epoch(rest, before));
        text.get(start..start + length?)
    })
}

/// Whether a text begins with this, where `0` stands for any digit.
fn begins(text: &[u8], pattern: &str) -> Option<usize> {
    let fits = |(letter, pattern): (&u8, u8)| match pattern {
        b'0' => letter.is_ascii_digit(),
        other => *letter == other,
    };
    let is_long_enough = text.len() >= pattern.len();
    (is_long_enough && text.iter().zip(pattern.bytes()).all(fits)).then_some(pattern.len())
}

fn date(text: &[u8], before: Option<u8>) -> Option<usize> {
    begins(text, "0000-00-00").filter(|_| !before.is_some_and(|b| b.is_ascii_digit()))
}

/// Two digits and a colon are in MAC addresses and in IPv6 ones too.
fn time(text: &[u8], before: Option<u8>) -> Option<usize> {
    let is_of_an_address = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
    let length = begins(text, "00:00:00")?;
    let after = text.get(length).copied();
    [before, after].iter().all(|byte| !byte.is_some_and(is_of_an_address)).then_some(length)
}

fn epoch(text: &[u8], before: Option<u8>) -> Option<usize> {
    const YEAR: u64 = 366 * 24 * 3600;
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let per_second = match length {
        10 => 1,
        13 => 1_000,
        16 => 1_000_000,
        19 => 1_000_000_000,
        _ => return None,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let number: u64 = std::str::from_utf8(&text[..length]).unwrap().parse().ok()?;
    let is_whole = !before.is_some_and(|byte| byte.is_ascii_digit());
    (is_whole && (number / per_second).abs_diff(now) < YEAR).then_some(length)
}

#[test]
fn timestamps_are_told_from_addresses_and_numbers() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for text in [
        "2026-01-02T03:04:05Z INFO text",
        "text on 2026-01-02",
        "INFO 03:04:05.678 text",
        r#"{"when":"03:04:05","level":"INFO"}"#,
        &format!("INFO text at={}", now.as_secs()),
        &format!("{{\"ts\":{}.5}}", now.as_secs()),
        &format!("INFO text at={}", now.as_millis()),
        &format!("INFO text at={}", now.as_nanos()),
    ] {
        assert!(timestamp(text).is_some(), "{text}");
    }
    for text in [
        "INFO text",
        "192.0.2.240 is at 00:00:5e:00:53:0d, 00:11:22:33:44:55",
        "2001:db8:1::240 and 10:20:30::1 and fd00:96:10:20:30:40:50:60",
        "version=1234 uid=12345678-1234-1234-1234-123456789012 renewed within 1.667s",
        "1234567890123456789012",
    ] {
        assert_eq!(timestamp(text), None, "{text}");
    }
}
