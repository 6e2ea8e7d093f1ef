//! Node election against winners that were computed independently of this code.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::net::IpAddr;

use purelb_core::election::{digest, winner, winner_of_key};
use purelb_core::name::NodeName;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vectors {
    vectors: Vec<Vector>,
    preference_vectors: Vec<Preference>,
    candidate_vectors: Vec<Candidates>,
    key_canonicalisation: Vec<Canonical>,
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    candidates: Vec<NodeText>,
    key: String,
    winner: Option<NodeText>,
    order: Vec<NodeText>,
    digests: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Preference {
    id: String,
    effective_candidates: Vec<NodeText>,
    key: String,
    winner: Option<NodeText>,
}

#[derive(Deserialize)]
struct Candidates {
    id: String,
    candidates: Vec<NodeText>,
    key: String,
    winner: Option<NodeText>,
    order: Vec<NodeText>,
}

#[derive(Deserialize)]
struct Canonical {
    raw: String,
    key: String,
}

type NodeText = String;

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors/election.json")).unwrap()
}

fn names(texts: &[String]) -> Vec<NodeName> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn winner_text(key: &str, candidates: &[String]) -> Option<String> {
    let nodes = names(candidates);
    winner_of_key(key, &nodes).map(ToString::to_string).filter(|name| !name.is_empty())
}

/// Takes the winner away again and again.
fn order(key: &str, candidates: &[String]) -> Vec<String> {
    let mut left = names(candidates);
    let mut order = Vec::new();
    while let Some(next) = winner_of_key(key, &left).cloned() {
        left.retain(|node| *node != next);
        order.push(next.to_string());
    }
    order
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn winners_orders_and_digests_are_those_of_the_vectors() {
    let vectors = vectors().vectors;
    assert!(vectors.len() >= 20);
    for vector in vectors {
        let (id, key) = (&vector.id, &vector.key);
        let wanted = vector.winner.filter(|winner| !winner.is_empty());
        assert_eq!(winner_text(key, &vector.candidates), wanted, "{id}");
        assert_eq!(order(key, &vector.candidates), vector.order, "{id}");
        for (node, wanted) in &vector.digests {
            assert_eq!(hex(digest(&node.as_str().into(), key)), *wanted, "{id} {node}");
        }
    }
}

#[test]
fn preferred_candidates_elect_among_themselves() {
    for vector in vectors().preference_vectors {
        let wanted = vector.winner.filter(|winner| !winner.is_empty());
        let winner = winner_text(&vector.key, &vector.effective_candidates);
        assert_eq!(winner, wanted, "{}", vector.id);
    }
}

#[test]
fn the_candidates_of_leases_elect_the_same() {
    for vector in vectors().candidate_vectors {
        let wanted = vector.winner.filter(|winner| !winner.is_empty());
        assert_eq!(winner_text(&vector.key, &vector.candidates), wanted, "{}", vector.id);
        assert_eq!(order(&vector.key, &vector.candidates), vector.order, "{}", vector.id);
    }
}

#[test]
fn addresses_are_hashed_in_canonical_text() {
    let nodes = names(&["node-a".into(), "node-b".into(), "node-c".into(), "node-d".into()]);
    for Canonical { raw, key } in vectors().key_canonicalisation {
        let ip: IpAddr = raw.parse().unwrap();
        assert_eq!(winner(ip, &nodes), winner_of_key(&key, &nodes), "{raw}");
        assert_eq!(ip.to_canonical().to_string(), key, "{raw}");
    }
}
