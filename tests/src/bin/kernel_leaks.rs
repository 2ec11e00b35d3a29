//! Makes the kernel hold memory by ordinary system calls, or has it allocate and free a lot: `kernel_leaks KIND COUNT`.
//!
//! Preparation (descriptors to watch, files) is done before "ready", so that the work allocates what it should
//! show and little else.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
};

use memtrace_tests::fixture::perform;
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
    inotify::{AddWatchFlags, InitFlags, Inotify},
    resource::{Resource, getrlimit, setrlimit},
    socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socket, socketpair},
};

/// Datagrams to one socket: more do not fit into its buffer.
const DATAGRAMS: u64 = 8;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().expect("a kind");
    let count: u64 = arguments.next().and_then(|count| count.parse().ok()).expect("a count");
    raise_limits();
    match kind.as_str() {
        "datagrams" => datagrams(count),
        "epoll" => epoll(count),
        "inotify" => inotify(count),
        "pipes" => keep(count, || nix::unistd::pipe().expect("a pipe")),
        "timers" => keep(count, timer),
        "keys" => keys(count),
        "inodes" => keep(count, || {
            nix::sys::memfd::memfd_create(c"leak", nix::sys::memfd::MFdFlags::empty()).expect("a memory file")
        }),
        "sockets" => keep(count, || {
            socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).expect("a socket")
        }),
        "epoll-churn" => epoll_churn(count),
        "file-churn" => file_churn(count),
        "tcp-storm" => tcp_storm(count),
        "tmpfs" => tmpfs(count),
        "segments" => segments(count),
        "full-pipes" => full_pipes(count),
        "unread" => unread(count),
        other => panic!("no such kind: {other}"),
    }
}

/// Descriptors and timers are limited per process.
fn raise_limits() {
    for resource in [Resource::RLIMIT_NOFILE, Resource::RLIMIT_SIGPENDING] {
        // Not always allowed, even for root: then as far as it goes, and the counts asked for must fit.
        if setrlimit(resource, 1 << 18, 1 << 18).is_err() {
            let (_, most) = getrlimit(resource).expect("a limit");
            let _ = setrlimit(resource, most, most);
        }
    }
}

/// Makes so many and keeps them. Room for them is taken beforehand.
fn keep<T>(count: u64, make: impl Fn() -> T) {
    let mut kept = Vec::with_capacity(count as usize);
    perform(|| kept.extend((0..count).map(|_| make())));
}

/// Unread datagrams, each with a descriptor in it.
fn datagrams(count: u64) {
    let null = File::open("/dev/null").expect("/dev/null");
    let pairs: Vec<(OwnedFd, OwnedFd)> = (0..count.div_ceil(DATAGRAMS))
        .map(|_| {
            socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::empty()).expect("a pair")
        })
        .collect();
    perform(|| {
        for number in 0..count {
            let (sender, _) = &pairs[(number / DATAGRAMS) as usize];
            let passed = [null.as_raw_fd()];
            sendmsg::<()>(
                sender.as_raw_fd(),
                &[io::IoSlice::new(b"x")],
                &[ControlMessage::ScmRights(&passed)],
                MsgFlags::empty(),
                None,
            )
            .expect("a datagram");
        }
    });
}

/// Descriptors of one file, which `epoll` distinguishes.
fn duplicates(count: u64) -> Vec<OwnedFd> {
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    std::mem::forget(writer);
    (0..count).map(|_| reader.try_clone().expect("a descriptor")).collect()
}

fn add(epoll: &Epoll, fd: &OwnedFd) {
    epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0)).expect("added");
}

fn epoll(count: u64) {
    let watched = duplicates(count);
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll instance");
    perform(|| watched.iter().for_each(|fd| add(&epoll, fd)));
}

fn epoll_churn(count: u64) {
    let watched = duplicates(1);
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll instance");
    perform(|| {
        for _ in 0..count {
            add(&epoll, &watched[0]);
            epoll.delete(&watched[0]).expect("deleted");
        }
    });
}

/// A directory that is gone with the value.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("memtrace-kernel-leaks-{}", std::process::id()));
        fs::create_dir(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn inotify(count: u64) {
    let directory = Directory::new();
    let files: Vec<PathBuf> = (0..count).map(|number| directory.0.join(number.to_string())).collect();
    for file in &files {
        File::create(file).expect("a file");
    }
    let instance = Inotify::init(InitFlags::empty()).expect("an inotify instance");
    perform(|| {
        for file in &files {
            instance.add_watch(file, AddWatchFlags::IN_MODIFY).expect("a watch");
        }
    });
}

fn file_churn(count: u64) {
    let directory = Directory::new();
    perform(|| {
        for number in 0..count {
            // A name at a time: a directory's own blocks are not what this is about.
            let file = directory.0.join((number % 64).to_string());
            File::create(&file).expect("a file");
            fs::remove_file(&file).expect("removed");
        }
    });
}

fn timer() -> libc::c_int {
    // SAFETY: all zeros is a valid event; SIGEV_NONE asks for no signal.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_NONE;
    let mut timer: libc::c_int = 0;
    // SAFETY: the kernel's own call writes an int; libc's wrapper would allocate.
    let result = unsafe {
        libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer)
    };
    assert_eq!(result, 0, "timer_create: {}", io::Error::last_os_error());
    timer
}

/// Keys in a keyring of this process's own, gone with it.
fn keys(count: u64) {
    let names: Vec<std::ffi::CString> =
        (0..count).map(|number| std::ffi::CString::new(format!("leak{number}")).expect("no zero")).collect();
    const PROCESS_KEYRING: libc::c_int = -2;
    let add = |name: &std::ffi::CStr| {
        // SAFETY: strings end in zero bytes, the payload has one byte.
        let key = unsafe {
            libc::syscall(
                libc::SYS_add_key,
                c"user".as_ptr(),
                name.as_ptr(),
                b"x".as_ptr(),
                1usize,
                PROCESS_KEYRING,
            )
        };
        assert!(key > 0, "add_key: {}", io::Error::last_os_error());
    };
    perform(|| names.iter().for_each(|name| add(name)));
}

/// So many MiB in a file of tmpfs that nobody maps.
fn tmpfs(count: u64) {
    let mut file = File::from(
        nix::sys::memfd::memfd_create(c"leak", nix::sys::memfd::MFdFlags::empty()).expect("a file"),
    );
    let block = vec![7; 1 << 20];
    perform(|| (0..count).for_each(|_| file.write_all(&block).expect("written")));
}

/// System V segments of 1 MiB that are filled and detached. They are removed in the end.
fn segments(count: u64) {
    const SIZE: usize = 1 << 20;
    let mut kept = Vec::with_capacity(count as usize);
    perform(|| {
        for _ in 0..count {
            // SAFETY: these calls take numbers and addresses of the kernel's own; the segment is as large as is written.
            unsafe {
                let id = libc::shmget(libc::IPC_PRIVATE, SIZE, libc::IPC_CREAT | 0o600);
                assert!(id >= 0, "shmget: {}", io::Error::last_os_error());
                let at = libc::shmat(id, std::ptr::null(), 0);
                at.cast::<u8>().write_bytes(3, SIZE);
                libc::shmdt(at);
                kept.push(id);
            }
        }
    });
    for id in kept {
        // SAFETY: removes a segment of this process's making.
        unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// Pipes of 64 KiB that nobody reads: the data is in pages.
fn full_pipes(count: u64) {
    let data = vec![5; 64 << 10];
    let mut kept = Vec::with_capacity(count as usize);
    perform(|| {
        for _ in 0..count {
            let (reader, writer) = nix::unistd::pipe().expect("a pipe");
            let mut writer = File::from(writer);
            writer.write_all(&data).expect("written");
            kept.push((reader, writer));
        }
    });
}

/// Connections over loopback with 64 KB each that nobody reads.
fn unread(count: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let data = vec![5; 64_000];
    let mut kept = Vec::with_capacity(count as usize);
    perform(|| {
        for _ in 0..count {
            let mut client = TcpStream::connect(address).expect("connected");
            let (server, _) = listener.accept().expect("accepted");
            client.write_all(&data).expect("written");
            kept.push((client, server));
        }
    });
}

/// Connections over loopback, each with some data both ways.
fn tcp_storm(count: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    perform(|| {
        let mut buffer = [0; 4096];
        for _ in 0..count {
            let mut client = TcpStream::connect(address).expect("connected");
            let (mut server, _) = listener.accept().expect("accepted");
            for _ in 0..4 {
                client.write_all(&buffer).expect("written");
                server.read_exact(&mut buffer).expect("read");
                server.write_all(&buffer).expect("written");
                client.read_exact(&mut buffer).expect("read");
            }
            // Closed by a reset: thousands of sockets that wait for late segments would be memory in use.
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            // SAFETY: a valid descriptor, and an option of this size.
            unsafe {
                libc::setsockopt(
                    client.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_LINGER,
                    (&raw const linger).cast(),
                    size_of::<libc::linger>() as libc::socklen_t,
                )
            };
        }
    });
}
