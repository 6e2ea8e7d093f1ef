//! `docs/reference.md`, made of the types, the command lines and the registries of the programs.

mod commands;
mod fields;
pub(crate) mod source;

use std::collections::BTreeSet;

use purelb_cli::command::programs;
use purelb_cli::telemetry::agent;
use purelb_core::service::CLASSES;
use purelb_k8s::api;

use super::monitoring::exposed;

const HEAD: &str = "# Reference

Every field, annotation, label, metric, Event, flag and environment variable. This page is made by a test of what the
programs themselves say; `UPDATE_FIXTURES=1 cargo test -p purelb-cli --test docs` writes it.

";

/// Labels, taints and classes that the programs look at, and what each does. The test below looks for them in the
/// source.
const MARKS: [(&str, &str, &str); 4] = [
    (
        "`node.kubernetes.io/exclude-from-external-load-balancers`",
        "label of a Node",
        "its agent leaves: its local addresses go to other nodes, in order",
    ),
    ("`node.kubernetes.io/out-of-service`", "taint of a Node", "the same"),
    (
        "`app.kubernetes.io/name`: `purelb`",
        "label of our Pods and Leases",
        "`purelb` finds the programs by it",
    ),
    (
        "`app.kubernetes.io/component`",
        "label of our Pods and Leases",
        "`allocator` or `lbnodeagent`",
    ),
];

/// The whole page.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    for (_, definition) in api::definitions().iter().rev() {
        page.push_str(&fields::section(definition));
    }
    page.push_str(&annotations());
    page.push_str(&marks());
    page.push_str("## Metrics\n\n");
    page.push_str("Served by both programs under `/metrics`; [operating.md](operating.md) says what times are counted from.\n\n");
    page.push_str(&exposed::table());
    page.push('\n');
    page.push_str(&events());
    for program in programs() {
        page.push_str(&commands::section(program));
    }
    page.push_str(OTHER_VARIABLES);
    page
}

/// What the programs read beside what their command lines name.
const OTHER_VARIABLES: &str = "## Other environment variables

| variable | of | meaning |
|---|---|---|
| `HOME` | `purelb` | `.kube/config` in it is the kubeconfig if no other is named |
| `HOSTNAME` | `allocator` | the pod's name, for Events and the leader's Lease |
| `KUBERNETES_SERVICE_HOST`, `KUBERNETES_SERVICE_PORT` | both daemons | where the API is, inside a cluster; set by the kubelet |
| `NO_COLOR` | `purelb` | not empty: no colours |
| `SHELL` | `purelb lab exec` | what runs if no command is given |
| `XDG_RUNTIME_DIR` | `purelb lab` | where labs keep their files; without it, the folder for temporary files |
";

fn annotations() -> String {
    let mut section =
        "## Annotations\n\n| annotation | of | written by | meaning |\n|---|---|---|---|\n"
            .to_owned();
    let mut all = source::annotations();
    let of_users = |annotation: &source::Annotation| annotation.writer != "users";
    all.sort_by_key(|it| (it.object != "Service", of_users(it), it.name.clone()));
    for source::Annotation { name, object, writer, meaning } in all {
        section.push_str(&row(&[&format!("`{name}`"), &object, &writer, &meaning]));
    }
    section.push('\n');
    section
}

fn marks() -> String {
    let mut section =
        "## Labels, taints and classes\n\n| name | is a | meaning |\n|---|---|---|\n".to_owned();
    for (name, kind, meaning) in MARKS {
        section.push_str(&row(&[name, kind, meaning]));
    }
    for class in CLASSES {
        let meaning = "the Service is for PureLB, whatever `DEFAULT_ANNOUNCER` says";
        section.push_str(&row(&[
            &format!("`{class}`"),
            "`loadBalancerClass` of a Service",
            meaning,
        ]));
    }
    section.push('\n');
    section
}

fn events() -> String {
    let mut section = "## Events\n\n| reason | of | meaning |\n|---|---|---|\n".to_owned();
    let of_allocator = source::allocator_reasons().into_iter().map(|it| (it, "allocator"));
    let of_agent =
        agent::REASONS.map(|(reason, meaning)| ((reason.to_owned(), meaning.to_owned()), "agent"));
    let mut all: Vec<_> = of_allocator.chain(of_agent).collect();
    all.sort();
    for ((reason, meaning), of) in all {
        section.push_str(&row(&[&format!("`{reason}`"), of, meaning.trim_end_matches('.')]));
    }
    section.push('\n');
    section
}

/// A row of a table.
pub(crate) fn row(cells: &[&str]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Environment variables that are nobody's to set but a test's, and the path of programs.
const UNTOLD: [&str; 3] = ["PATH", "PURELB_REQUIRE", "UPDATE_FIXTURES"];

/// The environment variables that the programs read by name.
pub(crate) fn variables() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for text in ["purelb-cli/src", "purelb-k8s/src"].into_iter().flat_map(source::all) {
        let calls = text.split("env::var").skip(1);
        let arguments = calls.filter_map(|rest| rest.trim_start_matches("_os").strip_prefix("(\""));
        names.extend(arguments.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    names.retain(|name| !UNTOLD.contains(&name.as_str()));
    names
}

/// Whether all that is told of labels and taints is in the programs.
pub(crate) fn marks_are_looked_at() {
    let sources = [
        "purelb-core/src/config.rs",
        "purelb-k8s/src/convert/node.rs",
        "purelb-k8s/src/snapshot.rs",
    ];
    let sources = sources.map(source::read).concat();
    for (name, _, _) in MARKS {
        let name = name.split('`').nth(1).unwrap();
        assert!(sources.contains(&format!("\"{name}\"")), "nothing looks at {name}");
    }
}
