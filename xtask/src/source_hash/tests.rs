use std::fs;

use super::*;

const CARGO_LOCK: &str = r#"# made by hand
version = 4

[[package]]
name = "aya"
version = "0.14.0"
source = "registry+https://example.org"
checksum = "a0"
dependencies = [
 "libc",
]

[[package]]
name = "aya-ebpf"
version = "0.2.1"
source = "registry+https://example.org"
checksum = "e1"
dependencies = [
 "aya-ebpf-macros",
]

[[package]]
name = "aya-ebpf-macros"
version = "0.2.0"
source = "registry+https://example.org"
checksum = "e2"
dependencies = [
 "syn 2.0.0",
]

[[package]]
name = "libc"
version = "0.2.1"
checksum = "c1"

[[package]]
name = "memtrace-common"
version = "0.1.0"
dependencies = [
 "aya",
]

[[package]]
name = "memtrace-ebpf"
version = "0.1.0"
dependencies = [
 "aya-ebpf",
 "memtrace-common",
]

[[package]]
name = "syn"
version = "1.0.0"
checksum = "51"

[[package]]
name = "syn"
version = "2.0.0"
checksum = "52"
"#;

const MANIFEST: &str = r#"[workspace.package]
version = "0.1.0"
edition = "2024"

[workspace.dependencies]
memtrace-common = { path = "memtrace-common" }
libc = "0.2"

# of the agent
[profile.release]
debug = "line-tables-only"
incremental = false

[profile.bpf]
inherits = "release"
debug = 2
"#;

const COMMON_MANIFEST: &str =
    "[package]\nname = \"memtrace-common\"\n[dependencies]\naya = { workspace = true, optional = true }\n";

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.write("Cargo.toml", MANIFEST);
        tree.write("Cargo.lock", CARGO_LOCK);
        tree.write("memtrace-ebpf/Cargo.toml", "[dependencies]\naya-ebpf = \"=0.2.1\"\n");
        tree.write("memtrace-ebpf/src/main.rs", "mod probes;");
        tree.write("memtrace-ebpf/src/probes/mod.rs", "");
        tree.write("memtrace-common/Cargo.toml", COMMON_MANIFEST);
        tree.write("memtrace-common/src/lib.rs", "struct S;");
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn hash(&self) -> String {
        sources(self.0.path(), "x86_64").unwrap()
    }

    /// The hash with one replacement made in a file of the fresh tree.
    fn with(path: &str, from: &str, to: &str) -> String {
        let tree = Self::new();
        let old = fs::read_to_string(tree.0.path().join(path)).unwrap();
        assert!(old.contains(from), "{path} has no {from}");
        tree.write(path, &old.replacen(from, to, 1));
        tree.hash()
    }
}

#[test]
fn every_input_of_the_object_changes_the_hash() {
    let hash = Tree::new().hash();
    assert_eq!(hash, Tree::new().hash(), "the directory's own path is no input");
    for (path, from, to) in [
        ("memtrace-ebpf/src/main.rs", "probes", "maps"),
        ("memtrace-common/src/lib.rs", "S", "T"),
        ("memtrace-ebpf/Cargo.toml", "=0.2.1", "=0.2.2"),
        ("memtrace-common/Cargo.toml", "[package]", "[package]\nedition = \"2021\""),
        ("Cargo.toml", "debug = 2", "debug = 1"),
        ("Cargo.toml", "incremental = false", "incremental = true"),
        ("Cargo.toml", "edition = \"2024\"", "edition = \"2021\""),
        ("Cargo.toml", "{ path = \"memtrace-common\" }", "{ path = \"elsewhere\" }"),
        ("Cargo.lock", "checksum = \"e1\"", "checksum = \"ff\""),
        ("Cargo.lock", "checksum = \"52\"", "checksum = \"ff\""),
        (
            "Cargo.lock",
            "name = \"memtrace-ebpf\"\nversion = \"0.1.0\"",
            "name = \"memtrace-ebpf\"\nversion = \"0.2.0\"",
        ),
    ] {
        assert_ne!(hash, Tree::with(path, from, to), "{path}: {from}");
    }
    let tree = Tree::new();
    tree.write("memtrace-ebpf/src/probes/malloc.rs", "");
    assert_ne!(hash, tree.hash(), "a new file");
    assert_ne!(hash, sources(Tree::new().0.path(), "aarch64").unwrap(), "another architecture");
}

#[test]
fn what_only_the_agent_uses_leaves_the_hash_alone() {
    let hash = Tree::new().hash();
    for (path, from, to) in [
        ("Cargo.toml", "libc = \"0.2\"", "libc = \"0.3\"\nserde = \"1\""),
        ("Cargo.toml", "line-tables-only", "full"),
        ("Cargo.toml", "# of the agent", "# of somebody"),
        ("Cargo.lock", "checksum = \"c1\"", "checksum = \"ff\""),
        ("Cargo.lock", "checksum = \"a0\"", "checksum = \"ff\""),
        ("Cargo.lock", "checksum = \"51\"", "checksum = \"ff\""),
        ("Cargo.lock", "# made by hand", "\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\n"),
    ] {
        assert_eq!(hash, Tree::with(path, from, to), "{path}: {from}");
    }
    let tree = Tree::new();
    tree.write("memtrace-ebpf/prebuilt/memtrace.x86_64.bpf.o", "object");
    tree.write("memtrace-ebpf/LICENSE.md", "text");
    assert_eq!(hash, tree.hash());
}

#[test]
fn the_closure_follows_versions_and_leaves_optional_dependencies_out() {
    let optional = [("memtrace-common", optional_dependencies(COMMON_MANIFEST)), (EBPF, BTreeSet::new())];
    let closure = Packages::parse(CARGO_LOCK).closure(EBPF, &optional.into()).unwrap();
    let names: Vec<&str> = closure.text.lines().filter_map(|line| line.split("  ").next()).collect();
    assert!(closure.text.contains("syn 2.0.0  52\n") && !closure.text.contains("syn 1.0.0"), "{names:?}");
    assert!(!closure.text.contains("aya 0.14.0") && !closure.text.contains("libc"), "{names:?}");
    assert_eq!(closure.text.lines().count(), 5);
    assert_eq!(closure.direct, ["aya-ebpf", "memtrace-common", "memtrace-ebpf"].map(str::to_owned).into());
}

#[test]
fn unreadable_input_is_an_error_that_names_it() {
    let tree = Tree::new();
    tree.write("Cargo.lock", "version = 4\n");
    assert_eq!(
        sources(tree.0.path(), "x86_64").unwrap_err().to_string(),
        "Cargo.lock has no package memtrace-ebpf"
    );
    fs::remove_dir_all(tree.0.path().join("memtrace-common")).unwrap();
    assert!(sources(tree.0.path(), "x86_64").unwrap_err().to_string().contains("memtrace-common/Cargo.toml"));
}

#[test]
fn sha256_of_nothing_is_the_published_one() {
    assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
