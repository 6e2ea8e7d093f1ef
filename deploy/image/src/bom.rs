//! The bill of materials, as CycloneDX writes it (version 1.6, JSON).

use serde_json::{Value, json};

use crate::crates::{Linked, Source};
use crate::debian::Package;
use crate::digest::hex;

/// What a bill of materials tells of.
#[derive(Debug)]
pub(crate) struct Materials<'a> {
    /// When the image is made, by RFC 3339.
    pub(crate) created: &'a str,
    /// The programs, by name.
    pub(crate) programs: Vec<(&'a str, &'a [u8])>,
    /// The crates in them.
    pub(crate) source: &'a Source,
    /// The Debian packages.
    pub(crate) packages: Vec<&'a Package>,
}

/// The reference of the image itself.
const IMAGE: &str = "purelb";

/// The whole bill.
pub(crate) fn bill(materials: &Materials<'_>) -> Value {
    let Materials { created, programs, source, packages } = materials;
    let crates: Vec<Value> = source.crates.iter().map(linked).collect();
    let debian: Vec<Value> = packages.iter().map(|package| debian(package)).collect();
    let programs: Vec<Value> = programs.iter().map(|it| program(it, &source.version)).collect();
    let references = |components: &[Value]| -> Vec<Value> {
        components.iter().map(|component| component["bom-ref"].clone()).collect()
    };
    let in_image = [references(&programs), references(&debian)].concat();
    let mut dependencies = vec![json!({"ref": IMAGE, "dependsOn": in_image})];
    let of_program = |name| json!({"ref": name, "dependsOn": references(&crates)});
    dependencies.extend(references(&programs).into_iter().map(of_program));
    let components = [programs, crates, debian].concat();
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "component": {
                "bom-ref": IMAGE,
                "type": "container",
                "name": "purelb",
                "version": source.version,
                "licenses": [{"expression": "Apache-2.0"}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    })
}

fn program((name, bytes): &(&str, &[u8]), version: &str) -> Value {
    json!({
        "bom-ref": format!("program/{name}"),
        "type": "application",
        "name": name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": hex(bytes)}],
    })
}

fn linked(linked: &Linked) -> Value {
    let Linked { name, version, license, repository, checksum, .. } = linked;
    let url = format!("pkg:cargo/{}@{}", escape(name), escape(version));
    let mut component = json!({
        "bom-ref": url,
        "type": "library",
        "name": name,
        "version": version,
        "purl": url,
    });
    if let Some(license) = license {
        component["licenses"] = json!([{"expression": license}]);
    }
    if let Some(repository) = repository {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
}

fn debian(package: &Package) -> Value {
    let Package { name, version, architecture, .. } = package;
    let url = format!("pkg:deb/debian/{}@{}?arch={architecture}", escape(name), escape(version));
    json!({
        "bom-ref": url,
        "type": "library",
        "name": name,
        "version": version,
        "purl": url,
        "properties": [
            {"name": "debian:source", "value": package.source()},
            {"name": "debian:copyright", "value": format!("/usr/share/doc/{name}/copyright")},
        ],
    })
}

/// Text as it may stand in a package URL.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_url_holds_versions_with_epoch_and_plus() {
        assert_eq!(escape("1:2.66-4+deb12u2~rc1"), "1%3A2.66-4%2Bdeb12u2~rc1");
    }
}
