//! The programs: ours, and those of the distribution.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Names of variables, and their values.
type Variables = &'static [(&'static str, &'static str)];

/// A command line.
pub(super) struct Program {
    pub(super) name: String,
    words: Vec<String>,
    environment: Variables,
}

impl Program {
    /// The command and its arguments.
    pub(super) fn words(&self) -> &[String] {
        &self.words
    }

    /// Variables that are set besides.
    pub(super) fn environment(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.environment.iter().copied()
    }

    /// Whether its command is there.
    pub(super) fn is_installed(&self) -> bool {
        self.words.first().is_some_and(|word| find(word).is_some())
    }
}

/// Where a command is.
fn find(word: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(word)).find(|file| file.is_file())
}

/// Of python3: the program itself, where a script of the same name starts it.
fn python() -> String {
    let line = "import sys; print(sys.executable)";
    let output = process::capture(Command::new("python3").args(["-c", line]));
    output.map_or_else(|_| "python3".to_owned(), |path| path.trim().to_owned())
}

/// Hash tables are to be the same in every process.
const PLAIN: Variables = &[("PYTHONHASHSEED", "0"), ("PERL_HASH_SEED", "0")];
/// Every object a block of its own.
const MALLOC: Variables = &[("PYTHONHASHSEED", "0"), ("PYTHONMALLOC", "malloc")];

/// A Python program: classes, cycles, containers, text, a module in C.
const PYTHON: &str = "
import json, re, collections
class Node:
    def __init__(self, other): self.other = other
nodes = [Node(None) for _ in range(200)]
for node in nodes: node.other = Node(node)
text = json.dumps({str(i): [i, str(i), {'x': i}] for i in range(300)})
words = collections.Counter(re.findall('[0-9]+', text))
print(len(json.loads(text)), words.most_common(3), ['%d' % i for i in range(100)][-1])
";

/// A Perl program: hashes, closures, a cycle, regular expressions.
const PERL: &str = "
use strict; my %h; $h{$_} = [1 .. $_ % 7] for 1 .. 500;
my $cycle = {}; $cycle->{self} = $cycle;
my @subs = map { my $n = $_; sub { $n++ } } 1 .. 50; $_->() for @subs;
my $text = join ' ', sort keys %h; my $n = () = $text =~ /(\\d+)5/g; print \"$n\\n\";
";

/// A shell script: functions, arrays, substitutions without other processes.
const SHELL: &str = "
f() { local n=$1; [ $n -le 0 ] || f $((n - 1)); }
f 20; for i in 1 2 3 4 5 6 7 8 9; do eval \"v$i=value$i\"; done; s=; for w in $v1 $v2 $v9; do s=\"$s-$w\"; done
case $s in *value*) echo \"${s%-*} ${s#-}\";; esac
";

const BASH: &str = "
declare -A map; for i in {1..200}; do map[k$i]=$((i * i)); list+=(\"$i\"); done
f() { local -a copy=(\"${list[@]}\"); echo ${#copy[@]} ${map[k7]} ${!map[@]} | cat >/dev/null; }; f
[[ abc123 =~ ([a-z]+)([0-9]+) ]] && printf -v out '%s-%s' \"${BASH_REMATCH[@]:1}\"; echo $out
";

const SQL: &str = "create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 500) insert into t select i, 'row ' || i from n;
create index i on t(b); select count(*), max(b) from t where b like '%7%' group by a % 3 order by 1;";

/// Commands of the distribution. `@` is the directory of sample files, `#` the repository.
const COMMANDS: &[(&str, &[&str], Variables)] = &[
    ("sqlite3", &["sqlite3", ":memory:", SQL], PLAIN),
    ("python3", &["python3", "-c", PYTHON], PLAIN),
    ("python3 malloc", &["python3", "-c", PYTHON], MALLOC),
    ("git status", &["git", "-C", "#", "status"], PLAIN),
    ("git log", &["git", "--no-pager", "-C", "#", "log", "--stat", "-n", "20"], PLAIN),
    ("git diff", &["git", "--no-pager", "-C", "#", "diff", "HEAD~10", "HEAD"], PLAIN),
    ("git blame", &["git", "--no-pager", "-C", "#", "blame", "Cargo.toml"], PLAIN),
    ("bash", &["bash", "-c", BASH], PLAIN),
    ("dash", &["dash", "-c", SHELL], PLAIN),
    ("perl", &["perl", "-e", PERL], PLAIN),
    ("xmllint", &["xmllint", "--format", "@/sample.xml"], PLAIN),
    ("xmllint xpath", &["xmllint", "--xpath", "//item[@n > 50]/name", "@/sample.xml"], PLAIN),
    ("grep", &["grep", "-nE", "(pub|fn) [a-z_]+\\(", "@/text"], PLAIN),
    ("sed", &["sed", "-E", "s/([a-z]+) ([a-z]+)/\\2 \\1/g; 20,30d", "@/text"], PLAIN),
    ("awk", &["awk", "{ n[$1]++ } END { for (w in n) s += n[w]; print s }", "@/text"], PLAIN),
    ("sort", &["sort", "-u", "-k2", "@/text"], PLAIN),
    ("gzip", &["gzip", "-c", "@/text"], PLAIN),
    ("bzip2", &["bzip2", "-c", "@/text"], PLAIN),
    ("xz", &["xz", "-c", "-T1", "@/text"], PLAIN),
    ("tar", &["tar", "-cf", "@/archive", "-C", "@", "text", "sample.xml"], PLAIN),
    ("find", &["find", "#/xtask", "-name", "*.rs", "-size", "+2k", "-newer", "#/Cargo.toml"], PLAIN),
    ("ls", &["ls", "-lR", "#/xtask"], PLAIN),
    ("diff", &["diff", "-u", "@/text", "@/sample.xml"], PLAIN),
    ("make", &["make", "-f", "@/makefile", "-n"], PLAIN),
    ("file", &["file", "@/text", "/bin/ls"], PLAIN),
    ("jq", &["jq", "[.items[] | select(.n > 3) | {n, s: (.n | tostring)}]", "@/sample.json"], PLAIN),
    ("curl", &["curl", "-s", "file:///etc/passwd"], PLAIN),
    ("openssl", &["openssl", "dgst", "-sha256", "@/text"], PLAIN),
    ("bc", &["bc", "-q", "@/sums"], PLAIN),
    ("readelf", &["readelf", "-aW", "/bin/ls"], PLAIN),
    ("objdump", &["objdump", "-d", "--no-show-raw-insn", "/bin/true"], PLAIN),
    ("c++filt", &["c++filt", "_ZNSt6vectorIiSaIiEE9push_backERKi", "_ZN1a1bI1cE1dEv"], PLAIN),
];

/// The programs that `is_chosen`. `directory` is for what is compiled and read.
pub(super) fn all(root: &Path, directory: &Path, is_chosen: impl Fn(&str) -> bool) -> Result<Vec<Program>> {
    samples(root, directory)?;
    let mut programs = Vec::new();
    let corpus = root.join("tests/c/lost");
    let mut files: Vec<PathBuf> = fs::read_dir(&corpus)
        .with_context(|| corpus.display().to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension != "h"))
        .collect();
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if is_chosen(&name) {
            programs.push(Program {
                words: Vec::from([compile(&file, directory)?]),
                name,
                environment: PLAIN,
            });
        }
    }
    let (directory, root) = (directory.to_string_lossy(), root.to_string_lossy());
    for (name, words, environment) in COMMANDS.iter().filter(|(name, ..)| is_chosen(name)) {
        let word = |word: &&str| match *word {
            "python3" => python(),
            word if word.starts_with(['@', '#']) || word.starts_with("file:") => {
                word.replacen('@', &directory, 1).replacen('#', &root, 1)
            }
            word => word.to_owned(),
        };
        programs.push(Program {
            name: (*name).to_owned(),
            words: words.iter().map(word).collect(),
            environment,
        });
    }
    Ok(programs)
}

/// As the tests compile it.
fn compile(file: &Path, directory: &Path) -> Result<String> {
    let is_cpp = file.extension().is_some_and(|extension| extension == "cpp");
    let program = directory.join(file.file_stem().unwrap_or_default());
    process::run(
        Command::new(if is_cpp { "c++" } else { "cc" })
            .args(["-g", "-O0", "-w", if is_cpp { "-std=c++17" } else { "-std=gnu11" }, "-pthread", "-o"])
            .arg(&program)
            .arg(file),
    )?;
    Ok(program.to_string_lossy().into_owned())
}

/// Writes what the commands read.
fn samples(root: &Path, directory: &Path) -> Result<()> {
    let write = |name: &str, text: String| {
        fs::write(directory.join(name), text).with_context(|| format!("{name} in {}", directory.display()))
    };
    let items = |line: fn(u32) -> String, between: &str| -> String {
        (0..100).map(line).collect::<Vec<_>>().join(between)
    };
    write("text", fs::read_to_string(root.join("ARCHITECTURE.md"))?)?;
    let xml = items(|n| format!("<item n=\"{n}\"><name>item &amp; {n}</name><!-- {n} --></item>"), "\n");
    write("sample.xml", format!("<?xml version=\"1.0\"?>\n<items xmlns:x=\"urn:x\">{xml}</items>\n"))?;
    let json = items(|n| format!("{{\"n\": {n}, \"list\": [{n}, \"{n}\", null]}}"), ",\n");
    write("sample.json", format!("{{\"items\": [{json}]}}\n"))?;
    write("makefile", format!("all: {}\n{}\n", items(|n| format!("t{n}"), " "), items(target, "\n")))?;
    write(
        "sums",
        "define f(n) { if (n < 2) return 1; return n * f(n - 1) }\nf(50)\nscale=40; 4*a(1)\nquit\n"
            .to_owned(),
    )
}

fn target(n: u32) -> String {
    format!("t{n}:\n\techo $@ {n}")
}
