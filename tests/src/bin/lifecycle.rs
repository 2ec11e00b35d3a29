//! Forks, spawns, executes, ends threads: `lifecycle WHAT`.

use std::{ffi::CString, hint::black_box};

use memtrace_tests::fixture::{perform, say, wait};

macro_rules! keepers {
    ($($name:ident)*) => {$(
        #[inline(never)]
        fn $name(count: usize, size: usize) -> Vec<*mut libc::c_void> {
            let mut blocks = Vec::with_capacity(count);
            for _ in 0..count {
                // SAFETY: malloc takes any size.
                blocks.push(black_box(unsafe { libc::malloc(size) }));
            }
            blocks
        }
    )*};
}

keepers! { keep_before keep_after keep_in_child keep_in_thread }

#[inline(never)]
fn free_all(blocks: &[*mut libc::c_void]) {
    for &block in blocks {
        // SAFETY: each block is live, and freed once in this process.
        unsafe { libc::free(block) };
    }
}

fn wait_for(child: libc::pid_t) {
    // SAFETY: the status is not asked for.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
}

/// The child frees its copies and allocates on its own account.
fn fork() {
    let blocks = keep_before(500, 60);
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        free_all(&blocks);
        keep_in_child(300, 70);
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    wait_for(child);
    keep_after(200, 80);
}

/// `posix_spawn`, and `Command`, which uses it too: vfork's semantics.
fn spawn() {
    keep_before(500, 60);
    for _ in 0..5 {
        let ended = std::process::Command::new("/bin/true").status().expect("/bin/true starts");
        assert!(ended.success());
    }
    keep_after(200, 80);
}

/// Another program in the same process, begun by a thread that is not the main one.
fn exec_by_thread() {
    say("ready");
    wait();
    let _ = std::thread::spawn(|| execute(c"executed-later")).join();
}

/// Another program in the same process.
fn exec() {
    say("ready");
    wait();
    keep_before(500, 60);
    execute(c"executed");
}

/// Another program with as many blocks: 8,000.
fn exec_with_many() {
    say("ready");
    wait();
    keep_before(8000, 60);
    execute(c"executed-with-many");
}

/// The same program again, after it has kept 200 blocks, until the 257th.
fn exec_again(time: u32) {
    keep_after(200, 80);
    if time == 257 {
        say("done");
        return wait();
    }
    let argument = CString::new(format!("again-{}", time + 1)).expect("a string without NUL");
    execute(&argument);
}

fn execute(argument: &std::ffi::CStr) {
    let program =
        CString::new(std::env::current_exe().expect("a path").into_os_string().into_encoded_bytes())
            .expect("a path without NUL");
    let arguments = [program.as_ptr(), argument.as_ptr(), std::ptr::null()];
    // SAFETY: the strings end with NUL, the list with a null pointer.
    unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) };
}

/// The program after `exec`: it does not wait, for probes have to be there from its first allocation on.
fn executed() {
    keep_after(200, 80);
    say("done");
    wait();
}

/// The same, but it waits.
fn executed_later() {
    say("executed");
    wait();
    executed();
}

fn threads() {
    for _ in 0..100 {
        let blocks = std::thread::spawn(|| {
            let blocks = keep_in_thread(10, 90);
            free_all(&blocks[1..]);
        });
        blocks.join().expect("a thread that does not panic");
    }
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("fork") => perform(fork),
        Some("spawn") => perform(spawn),
        Some("exec") => exec(),
        Some("exec-by-thread") => exec_by_thread(),
        Some("executed") => executed(),
        Some("exec-with-many") => exec_with_many(),
        Some("executed-with-many") => {
            keep_after(8000, 80);
            say("done");
            wait();
        }
        Some("exec-again-and-again") => {
            say("ready");
            wait();
            exec_again(1);
        }
        Some(again) if again.starts_with("again-") => {
            exec_again(again["again-".len()..].parse().expect("a number"));
        }
        Some("executed-later") => executed_later(),
        Some("threads") => perform(threads),
        Some("thread") => thread(),
        Some("many") => perform(|| drop(keep_before(5000, 60))),
        Some("busy") => busy(),
        other => panic!("no such case: {other:?}"),
    }
}

/// Prints the number of a thread that lives as long as the process.
fn thread() {
    say("ready");
    wait();
    std::thread::spawn(|| {
        // SAFETY: a system call without arguments.
        say(&format!("done {}", unsafe { libc::gettid() }));
        wait();
        std::process::exit(0);
    });
    loop {
        std::thread::park();
    }
}

/// Works until its standard input ends: a block kept for a thousand freed, a line for every thousand.
fn busy() {
    say("ready");
    wait();
    loop {
        free_all(&keep_in_thread(1000, 90));
        keep_before(1, 60);
        say("working");
        let mut poll = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry; no wait.
        if unsafe { libc::poll(&raw mut poll, 1, 0) } == 1 {
            return;
        }
    }
}
