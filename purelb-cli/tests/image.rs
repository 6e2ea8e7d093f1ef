//! The container image, built of these programs, unpacked as a runtime does, and run with nothing but what is
//! in it.
//!
//! Needs `apt-get` and `dpkg-deb` (Debian and its descendants), and the right to mount.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use purelb_cli::lab::require;
use purelb_image::base::BaseError;
use purelb_image::debian::PackageError;
use purelb_image::digest::digest;
use purelb_image::elf::linkage;
use purelb_image::{BILL, BuildError, Built, PROGRAMS, Recipe, build};
use serde_json::Value;
use tempfile::TempDir;

/// Where this test's packages are kept from one run to the next.
const PACKAGES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/image-packages");

const BUILT: [&str; 3] = [
    env!("CARGO_BIN_EXE_allocator"),
    env!("CARGO_BIN_EXE_lbnodeagent"),
    env!("CARGO_BIN_EXE_purelb"),
];

/// The programs without what only a debugger reads, as a release has them.
fn stripped() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, program) in PROGRAMS.iter().zip(BUILT) {
        let stripped = folder.path().join(name);
        let status = Command::new("strip").arg("-o").arg(&stripped).arg(program).status().unwrap();
        assert!(status.success());
    }
    folder
}

/// Builds the image out of a folder of programs; nothing, and a word why, where packages are not to be had.
fn image(programs: &Path, output: &Path) -> Option<Built> {
    let recipe = Recipe {
        programs: programs.to_owned(),
        packages: PACKAGES.into(),
        output: output.to_owned(),
        name: "docker.io/library/purelb".to_owned(),
        created: 0,
    };
    match build(&recipe) {
        Err(BuildError::Package(error) | BuildError::Base(BaseError::Package(error)))
            if matches!(error, PackageError::Failed { .. } | PackageError::NoProgram { .. }) =>
        {
            require::skip_tier("image", &error.to_string());
            None
        }
        built => Some(built.unwrap()),
    }
}

/// What a runtime makes of an image.
struct Unpacked {
    root: TempDir,
    config: Value,
}

impl Unpacked {
    /// Follows the digests from the index to the layers, and believes none.
    fn new(layout: &Path) -> Self {
        let index = json(&fs::read(layout.join("index.json")).unwrap());
        let manifest = json(&blob(layout, &index["manifests"][0]));
        let config = json(&blob(layout, &manifest["config"]));
        let root = tempfile::tempdir().unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        let uncompressed = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(layers.len(), uncompressed.len());
        for (layer, expected) in layers.iter().zip(uncompressed) {
            let mut archive = Vec::new();
            GzDecoder::new(blob(layout, layer).as_slice()).read_to_end(&mut archive).unwrap();
            assert_eq!(digest(&archive), *expected);
            let mut archive = tar::Archive::new(archive.as_slice());
            archive.set_preserve_permissions(true);
            archive.unpack(root.path()).unwrap();
        }
        Self { root, config }
    }

    /// What a command says that runs with this root and this environment.
    fn run(&self, command: &[&str]) -> String {
        self.run_as(0, command)
    }

    /// The same of one that a user runs, if users other than root can be had here.
    fn run_as(&self, user: u64, command: &[&str]) -> String {
        let user = if has_users() { user } else { 0 }.to_string();
        let environment = self.config["config"]["Env"].as_array().unwrap().iter();
        let environment = environment.map(|it| it.as_str().unwrap().split_once('=').unwrap());
        let output = Command::new("unshare")
            .args(["--mount", "--wd=/", "--setgid", &user, "--setuid", &user, "--root"])
            .arg(self.root.path())
            .args(command)
            .env_clear()
            .envs(environment)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.root.path().join(path)).unwrap()
    }

    fn names(&self, folder: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.root.path().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// Whether there are more users than root; in a user namespace of one's own there are not.
fn has_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().nth(2) != Some("1")
}

/// What a descriptor leads to, which is what it says.
fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let wanted = descriptor["digest"].as_str().unwrap();
    let bytes = fs::read(layout.join("blobs").join(wanted.replace(':', "/"))).unwrap();
    assert_eq!(digest(&bytes), wanted);
    assert_eq!(bytes.len() as u64, descriptor["size"]);
    bytes
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// A container of a manifest.
struct Container {
    command: String,
    image: String,
    user: u64,
}

fn containers(manifest: &str) -> Vec<Container> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifest).unwrap();
    let pods = objects.iter().map(|object| &object["spec"]["template"]["spec"]);
    let containers = pods.flat_map(|pod| {
        let containers = pod["containers"].as_array().into_iter().flatten();
        containers.map(|container| {
            let user = [container, pod].map(|it| it["securityContext"]["runAsUser"].as_u64());
            Container {
                command: container["command"][0].as_str().unwrap().to_owned(),
                image: container["image"].as_str().unwrap().to_owned(),
                user: user.into_iter().flatten().next().expect("a manifest says whose it is"),
            }
        })
    });
    containers.collect()
}

fn deployed(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base");
    fs::read_to_string(folder.join(file)).unwrap()
}

#[test]
fn the_image_is_the_one_that_the_manifests_name_and_runs_with_what_is_in_it() {
    require::privileged(|| {
        let (programs, output) = (stripped(), tempfile::tempdir().unwrap());
        let Some(built) = image(programs.path(), output.path()) else { return };
        let unpacked = Unpacked::new(&built.folder);

        let kustomization: Value = serde_saphyr::from_str(&deployed("kustomization.yaml")).unwrap();
        let tag = kustomization["images"][0]["newTag"].as_str().unwrap();
        let mut started = 0;
        for file in ["allocator.yaml", "lbnodeagent.yaml"] {
            for Container { command, image, user } in containers(&deployed(file)) {
                assert_eq!(built.name, format!("docker.io/library/{image}:{tag}"));
                assert!(unpacked.run_as(user, &[&command, "--help"]).contains("Usage: "));
                let version = unpacked.run_as(user, &[&command, "--version"]);
                assert_eq!(version, format!("{command} {tag}\n"));
                started += 1;
            }
        }
        assert_eq!(started, 2);
        assert_eq!(unpacked.run(&["purelb", "--version"]), format!("purelb {tag}\n"));
        assert!(unpacked.run(&["ip", "-V"]).starts_with("ip utility, iproute2"));
        assert!(unpacked.run(&["ip", "address", "show", "dev", "lo"]).contains("lo:"));

        let usual = unpacked.config["config"]["Cmd"].as_array().unwrap();
        let usual: Vec<_> = usual.iter().map(|word| word.as_str().unwrap()).collect();
        assert!(unpacked.run(&usual).contains("Usage: "));
        is_accounted_for(&unpacked);
    });
}

/// Every program, package and crate is in the bill of materials, and every package and crate says who may
/// copy it.
fn is_accounted_for(unpacked: &Unpacked) {
    let bill = json(&unpacked.read(BILL));
    let components = bill["components"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |kind: &str| -> BTreeSet<String> {
        let those = components.iter().filter(|it| text(&it["bom-ref"]).starts_with(kind));
        those.map(|it| text(&it["name"])).collect()
    };
    let packages = unpacked.names("var/lib/dpkg/status.d");
    assert_eq!(of("pkg:deb/"), packages);
    for name in &packages {
        let copyright = unpacked.read(&format!("usr/share/doc/{name}/copyright"));
        assert!(!copyright.is_empty(), "{name}");
    }
    for program in PROGRAMS {
        let listed = components.iter().find(|it| it["bom-ref"] == format!("program/{program}"));
        let hash = text(&listed.unwrap()["hashes"][0]["content"]);
        assert_eq!(digest(&unpacked.read(&format!("usr/bin/{program}"))), format!("sha256:{hash}"));
    }
    let crates = of("pkg:cargo/");
    for linked in ["kube", "netlink-packet-route", "purelb-core", "tokio"] {
        assert!(crates.contains(linked), "{linked}");
    }
    for only_while_building in ["clap_derive", "proptest", "purelb-image", "tempfile"] {
        assert!(!crates.contains(only_while_building), "{only_while_building}");
    }
    let (ours, others): (Vec<_>, Vec<_>) =
        crates.iter().partition(|name| name.starts_with("purelb-"));
    assert_eq!(ours.len(), 4, "{ours:?}");
    let with_licences = unpacked.names("usr/share/doc/purelb/crates");
    for name in others {
        let folder = |folder: &&String| folder.starts_with(&format!("{name}-"));
        let folder = with_licences.iter().find(folder).expect("a folder with licences");
        assert!(!unpacked.names(&format!("usr/share/doc/purelb/crates/{folder}")).is_empty());
    }
}

/// Small programs under the names of ours.
fn stand_ins() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in PROGRAMS {
        fs::write(folder.path().join(name), fs::read("/bin/true").unwrap()).unwrap();
    }
    folder
}

#[test]
fn the_same_programs_and_packages_make_the_same_image() {
    let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let Some(one) = image(stand_ins().path(), first.path()) else { return };
    let programs = stand_ins();
    let other = image(programs.path(), second.path()).unwrap();
    assert_eq!(one.digest, other.digest);
    assert_eq!(fs::read(&one.archive).unwrap(), fs::read(&other.archive).unwrap());

    // Any change is another image, in the place of the last.
    let changed = programs.path().join("purelb");
    let mut bytes = fs::read(&changed).unwrap();
    bytes.push(0);
    fs::write(&changed, bytes).unwrap();
    assert_ne!(image(programs.path(), second.path()).unwrap().digest, one.digest);
}

#[test]
fn programs_need_nothing_but_the_c_library() {
    // GCC's part of it, which every package of the C library brings along.
    let may_be_needed = ["libc.so.6", "libgcc_s.so.1", "libm.so.6"];
    for program in BUILT.map(PathBuf::from) {
        let needed = linkage(&fs::read(&program).unwrap()).unwrap().needed;
        let of_libc =
            |name: &String| may_be_needed.contains(&name.as_str()) || name.starts_with("ld-linux");
        assert!(needed.iter().all(of_libc), "{} needs {needed:?}", program.display());
        assert!(needed.contains(&"libc.so.6".to_owned()), "{needed:?}");
    }
}

#[test]
fn daemons_hold_nothing_that_draws_in_a_terminal() {
    let programs = stripped();
    // What is linked names the files of its source, for panics.
    let holds = |program: &str| {
        let bytes = fs::read(programs.path().join(program)).unwrap();
        bytes.windows(8).any(|window| window == b"ratatui-")
    };
    assert!(holds("purelb"));
    assert!(!holds("allocator"));
    assert!(!holds("lbnodeagent"));
}
