//! Servers, and clients that keep them busy.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process;
use crate::stacks::subject::{Subject, Trace, children, finish, wait_for};

pub(super) fn redis(_: &Path) -> Result<Subject> {
    let mut subject = Subject::new()?;
    let socket = subject.file("socket");
    let directory = subject.path().to_owned();
    let pid = subject.start(
        Command::new("redis-server")
            .args(["--port", "0", "--save", "60 1", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(directory),
    )?;
    wait_for("redis-server", || socket.exists().then_some(()))?;
    let tests = "set,get,incr,lpush,rpush,lpop,lrange_100,sadd,hset,zadd,spop,mset";
    for options in [
        &["-t", tests, "-r", "100000"][..],
        &["-r", "1000", "eval", "return {KEYS[1], string.rep('x', 99)}", "1", "k"],
    ] {
        subject.start(
            Command::new("redis-benchmark")
                .arg("-s")
                .arg(&socket)
                .args(["-q", "-l", "-c", "10", "-n", "20000"])
                .args(options),
        )?;
    }
    subject.trace(Trace::Attach(pid));
    Ok(subject)
}

/// The worker, not the master.
pub(super) fn nginx(_: &Path) -> Result<Subject> {
    let mut subject = Subject::new()?;
    fs::write(subject.file("page.html"), "<p>some text to compress</p>\n".repeat(2000))?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let directory = subject.path().display().to_string();
    let configuration = subject.file("nginx.conf");
    let text = format!(
        "daemon off; worker_processes 1; pid {directory}/pid; error_log /dev/null; user root;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; gzip on; gzip_types *; types {{ text/html html; }} root {directory};\n\
         client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fcgi;\n\
         uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;\n\
         server {{ listen 127.0.0.1:{port};\n\
         location /proxied/ {{ proxy_pass http://127.0.0.1:{port}/; }}\n\
         location /rewritten/ {{ rewrite ^/rewritten/(.*)$ /$1 last; }} }} }}\n"
    );
    fs::write(&configuration, text).with_context(|| configuration.display().to_string())?;
    let master = subject.start(Command::new("nginx").arg("-c").arg(&configuration))?;
    let worker = wait_for("nginx", || children(master).first().map(|(pid, _)| *pid))?;
    wait_for("nginx", || TcpStream::connect(("127.0.0.1", port)).ok())?;
    subject.load(move || {
        for path in ["/page.html", "/proxied/page.html", "/rewritten/page.html", "/absent"] {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            let head = "Accept-Encoding: gzip\r\nConnection: close";
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n")?;
            stream.read_to_end(&mut Vec::new())?;
        }
        Ok(())
    });
    subject.trace(Trace::Attach(worker));
    Ok(subject)
}

/// Sorts, hashes, joins and functions: small queries are served from memory that is kept.
const QUERIES: &str = "\
SELECT count(*) FROM (SELECT a.aid, md5(a.filler) AS h FROM pgbench_accounts a ORDER BY h LIMIT 20000) s;
SELECT string_agg(aid::text, ',') FROM pgbench_accounts WHERE aid < 20000;
SELECT b.bid, sum(a.abalance), count(DISTINCT a.aid % 1000) FROM pgbench_accounts a JOIN pgbench_branches b USING (bid) GROUP BY 1;
CREATE TEMP TABLE t AS SELECT g, g::text AS x FROM generate_series(1, 3000) g;
CREATE INDEX ON t (x);
SELECT jsonb_agg(t) FROM t WHERE x LIKE '%1%';
SELECT regexp_replace(x, '[13]+', 'z') FROM t LIMIT 100;
DROP TABLE t;
";

/// A backend that lives so long stays.
const SETTLED: Duration = Duration::from_secs(1);

/// A backend, as the user postgres.
pub(super) fn postgres(_: &Path) -> Result<Subject> {
    const BIN: &str = "/usr/lib/postgresql/15/bin";
    let mut subject = Subject::new()?;
    let ids = ["-u", "-g"].map(|option| process::capture(Command::new("id").args([option, "postgres"])));
    let [uid, gid] = ids.map(|id| id.and_then(|id| id.trim().parse::<u32>().context("the user postgres")));
    let (uid, gid) = (uid?, gid?);
    chown(subject.path(), Some(uid), Some(gid))?;
    fs::set_permissions(subject.path(), fs::Permissions::from_mode(0o755))?;
    let directory = subject.path().to_owned();
    let command = |program: &str| {
        let mut command = Command::new(program);
        command.uid(uid).gid(gid).current_dir(&directory);
        command
    };
    let data = subject.file("data");
    finish(command(&format!("{BIN}/initdb")).args(["--no-sync", "-A", "trust", "-D"]).arg(&data))?;
    let socket = subject.path().to_owned();
    let server = subject.start(
        command(&format!("{BIN}/postgres"))
            .args(["-c", "listen_addresses=", "-c", "jit=off", "-D"])
            .arg(&data)
            .arg("-k")
            .arg(&socket),
    )?;
    wait_for("postgres", || socket.join(".s.PGSQL.5432").exists().then_some(()))?;
    let pgbench = || {
        let mut command = command(&format!("{BIN}/pgbench"));
        command.arg("-h").arg(&socket).args(["-U", "postgres"]);
        command
    };
    wait_for("postgres", || finish(pgbench().args(["-i", "-q", "postgres"])).ok())?;
    let script = subject.file("queries.sql");
    fs::write(&script, QUERIES)?;
    let mut client = pgbench();
    client.args(["-n", "-c", "1", "-T", "3600", "-b", "tpcb-like@1", "-f"]).arg(&script).arg("postgres");
    subject.start(&mut client)?;
    let backends = || {
        let all = children(server).into_iter();
        all.filter(|(_, line)| line.contains("[local]")).map(|(pid, _)| pid).collect::<Vec<_>>()
    };
    // Clients connect for a question or two before they begin.
    let pid = wait_for("a backend of postgres", || {
        let before = backends();
        thread::sleep(SETTLED);
        backends().into_iter().find(|pid| before.contains(pid))
    })?;
    subject.trace(Trace::Attach(pid));
    Ok(subject)
}
