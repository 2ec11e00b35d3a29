//! Each test runs by every way to find pages.

mod mapped;

use std::{
    fs::File,
    io::Write as _,
    ops::Range,
    process::{Command, Stdio},
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use mapped::{Mapped, page};

use super::{Kind, Reader, Region, kernel_held, pages::Method, regions};

const METHODS: [Method; 3] = [Method::ScanWithGuards, Method::Scan, Method::Entries];

fn reader(method: Method) -> Reader {
    let mut reader = Reader::open(std::process::id()).unwrap();
    reader.pages.method = method;
    reader
}

/// What a pass over a region reads, joined, and the first words of the pages.
fn pass(reader: &mut Reader, region: &Region) -> (Vec<Range<u64>>, Vec<u64>) {
    let (mut parts, mut words) = (Vec::<Range<u64>>::new(), Vec::new());
    let mut buffer = vec![0; 3 * page() / 8];
    let mut at = region.range.start;
    while let Some(run) = reader.next_run(region, at) {
        let count = reader.read(run.start, &mut buffer);
        words.extend(buffer[..count / 8].iter().step_by(page() / 8));
        at = run.start + count as u64;
        match parts.last_mut() {
            Some(last) if last.end == run.start => last.end = at,
            _ => parts.push(run.start..at),
        }
    }
    parts.retain(|part| !part.is_empty());
    (parts, words)
}

#[test]
fn only_touched_pages_are_read_and_none_is_faulted_in() {
    for method in METHODS {
        let memory = Mapped::anonymous(64);
        memory.write(1..2);
        memory.write(8..20);
        let before = memory.present();
        let mut reader = reader(method);
        let (parts, words) = pass(&mut reader, &memory.region());
        assert_eq!(parts, [memory.range(1..2), memory.range(8..20)], "{method:?}");
        assert_eq!(words, [2, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
        assert_eq!(memory.present(), before);
        assert_eq!(before.iter().filter(|present| **present).count(), 13);
        let figures = reader.figures();
        assert_eq!(figures.bytes_read, 13 * page() as u64);
        assert_eq!(figures.bytes_untouched, 51 * page() as u64);
        assert_eq!((figures.bytes_swapped, figures.bytes_unreadable), (0, 0));
        assert!(!reader.is_gone() && !reader.is_refused());
    }
}

#[test]
fn zero_pages_need_no_reading() {
    let memory = Mapped::anonymous(4);
    memory.read(1);
    memory.write(2..3);
    let (parts, _) = pass(&mut reader(Method::ScanWithGuards), &memory.region());
    assert_eq!(parts, [memory.range(2..3)]);
}

#[test]
fn many_runs_are_found_in_several_calls() {
    for method in METHODS {
        let memory = Mapped::anonymous(5000);
        (0..2500).for_each(|index| memory.write(2 * index..2 * index + 1));
        let (parts, words) = pass(&mut reader(method), &memory.region());
        assert_eq!((parts.len(), words.len()), (2500, 2500), "{method:?}");
        assert!(words.iter().enumerate().all(|(index, word)| *word == 2 * index as u64 + 1));
    }
}

#[test]
fn of_a_private_file_only_modified_pages_are_read() {
    for method in METHODS {
        // One that was deleted would serve as memory.
        let named = tempfile::NamedTempFile::new().unwrap();
        let mut file = named.as_file();
        file.write_all(&vec![7; 8 * page()]).unwrap();
        let memory = Mapped::new(8, libc::MAP_PRIVATE, Some(file));
        (0..8).for_each(|index| memory.read(index));
        memory.write(3..5);
        let region = memory.region();
        assert_eq!((region.kind, region.writable, region.shared), (Kind::FilePrivate, true, false));
        assert_ne!(region.inode.1, 0);
        assert_eq!(pass(&mut reader(method), &region).0, [memory.range(3..5)], "{method:?}");
        let shared = Mapped::new(8, libc::MAP_SHARED, Some(file));
        shared.write(0..1);
        assert_eq!(shared.region().kind, Kind::FileShared);
        assert_eq!(pass(&mut reader(method), &shared.region()).0, []);
    }
}

#[test]
fn shared_memory_is_read() {
    // SAFETY: a valid name; the descriptor is new.
    let memfd = unsafe {
        let fd = libc::memfd_create(c"pages".as_ptr(), 0);
        <File as std::os::fd::FromRawFd>::from_raw_fd(fd)
    };
    memfd.set_len(4 * page() as u64).unwrap();
    for method in METHODS {
        let anonymous = Mapped::new(4, libc::MAP_SHARED | libc::MAP_ANONYMOUS, None);
        for memory in [Mapped::new(4, libc::MAP_SHARED, Some(&memfd)), anonymous] {
            memory.write(2..3);
            let region = memory.region();
            assert_eq!((region.kind, region.shared), (Kind::SharedMemory, true));
            assert_eq!(pass(&mut reader(method), &region), (vec![memory.range(2..3)], vec![3]), "{method:?}");
        }
    }
}

#[test]
fn what_the_target_may_not_read_is_read() {
    let memory = Mapped::anonymous(4);
    memory.write(0..4);
    memory.protect(0..2);
    let regions = regions(std::process::id()).unwrap();
    let hidden = regions.iter().find(|region| region.range.contains(&memory.address(1))).unwrap();
    assert_eq!(hidden.kind, Kind::Hidden);
    let hidden = Region { range: memory.range(0..2), ..hidden.clone() };
    for method in [Method::ScanWithGuards, Method::Scan] {
        assert_eq!(pass(&mut reader(method), &hidden), (vec![memory.range(0..2)], vec![1, 2]), "{method:?}");
    }
    let named = tempfile::NamedTempFile::new().unwrap();
    named.as_file().set_len(4 * page() as u64).unwrap();
    let anonymous = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    for (memory, modified) in
        [(Mapped::new(4, libc::MAP_PRIVATE, Some(named.as_file())), 1), (Mapped::new(4, anonymous, None), 2)]
    {
        memory.write(1..2);
        memory.read(0);
        if modified == 2 {
            memory.write(0..1);
        }
        memory.protect(0..4);
        let region = memory.region();
        assert_eq!(region.kind, Kind::Hidden);
        let first = 2 - modified;
        assert_eq!(pass(&mut reader(Method::ScanWithGuards), &region).0, [memory.range(first..2)]);
    }
    // Of memory that is only reserved there may be too much.
    assert_eq!(pass(&mut reader(Method::Entries), &hidden).0, []);
    let region = regions.iter().find(|region| region.range.start == memory.address(2)).unwrap();
    assert!(region.follows_guard && region.kind == Kind::Anonymous);
    assert!(regions.iter().any(|region| region.kind == Kind::MainStack));
    assert!(regions.is_sorted_by_key(|region| region.range.start));
    assert!(regions.iter().all(|region| !region.name.starts_with("[v")));
}

#[test]
fn guard_pages_are_not_called_swapped() {
    let memory = Mapped::anonymous(4);
    memory.write(0..4);
    // SAFETY: within the mapping; `MADV_GUARD_INSTALL` (include/uapi/asm-generic/mman-common.h).
    if unsafe { libc::madvise(memory.start.cast(), page(), 102) } != 0 {
        return;
    }
    for method in [Method::ScanWithGuards, Method::Entries] {
        let mut reader = reader(method);
        assert_eq!(pass(&mut reader, &memory.region()).0, [memory.range(1..4)]);
        // Only from Linux 6.15 the kernel tells the difference.
        assert_eq!(reader.figures().bytes_swapped + reader.figures().bytes_untouched, page() as u64);
    }
}

#[test]
fn a_hole_in_a_run_is_skipped() {
    // Unmapped, and still present but forbidden.
    for (method, forbid) in METHODS.iter().flat_map(|method| {
        [(*method, Mapped::forbid as fn(&Mapped, Range<usize>)), (*method, Mapped::protect as fn(&_, _))]
    }) {
        let memory = Mapped::anonymous(16);
        memory.write(0..16);
        let region = memory.region();
        let mut reader = reader(method);
        let run = reader.next_run(&region, region.range.start).unwrap();
        assert_eq!(run, memory.range(0..16));
        forbid(&memory, 5..8);
        let mut buffer = vec![0; 20 * page() / 8];
        assert_eq!(reader.read(run.start, &mut buffer), 5 * page());
        let (parts, words) = pass(&mut reader, &region);
        assert_eq!(parts, [memory.range(0..5), memory.range(8..16)], "{method:?}");
        assert_eq!(words, [1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14, 15, 16]);
        assert!((1..=4 * page() as u64).contains(&reader.figures().bytes_unreadable));
    }
}

#[test]
fn a_refused_region_ends_soon() {
    let memory = Mapped::anonymous(4096);
    memory.write(0..4096);
    let region = memory.region();
    memory.protect(0..4096);
    let mut reader = reader(Method::ScanWithGuards);
    let (mut at, mut calls) = (region.range.start, 0);
    while let Some(run) = reader.next_run(&region, at) {
        assert_eq!(reader.read(run.start, &mut [0; 512]), 0);
        (at, calls) = (run.start, calls + 1);
    }
    assert!(calls < 24, "{calls}");
    assert_eq!(reader.figures().bytes_unreadable, 4096 * page() as u64);
}

#[test]
fn a_read_ends_with_its_run() {
    let memory = Mapped::anonymous(4);
    memory.write(0..2);
    let mut reader = reader(Method::ScanWithGuards);
    let region = memory.region();
    let run = reader.next_run(&region, region.range.start).unwrap();
    let mut buffer = vec![0; 4 * page() / 8];
    assert_eq!(reader.read(run.start + 8, &mut buffer), 2 * page() - 8);
    assert_eq!(reader.next_run(&region, run.end), None);
    assert_eq!(reader.read(8, &mut buffer), 0);
    assert_eq!((reader.read(u64::MAX, &mut buffer), reader.read(run.start, &mut [])), (0, 0));
    assert_eq!(memory.present(), [true, true, false, false]);
    assert!(!reader.is_gone());
}

#[test]
fn a_target_that_exited_is_gone() {
    for method in METHODS {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut reader = Reader::open(child.id()).unwrap();
        reader.pages.method = method;
        let regions = regions(child.id()).unwrap();
        let stack = regions.iter().find(|region| region.kind == Kind::MainStack).unwrap();
        let run = reader.next_run(stack, stack.range.start).unwrap();
        let mut buffer = [0; 1];
        assert_eq!(reader.read(run.start, &mut buffer), 8);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(reader.read(run.start, &mut buffer), 0);
        assert!(reader.is_gone() && !reader.is_refused());
        assert_eq!(reader.next_run(stack, stack.range.start), None);
        assert!(super::regions(child.id()).is_err() && Reader::open(child.id()).is_err());
        assert!(kernel_held(child.id()).is_cut);
    }
}

#[test]
fn what_another_program_left_is_gone() {
    let mut child =
        Command::new("sh").args(["-c", "read line; exec sleep 60"]).stdin(Stdio::piped()).spawn().unwrap();
    let reader = Reader::open(child.id()).unwrap();
    assert!(!reader.is_gone());
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while !reader.is_gone() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(reader.is_gone() && child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn memory_that_changes_all_the_time_ends() {
    let memory = Mapped::anonymous(256);
    memory.write(0..256);
    let region = memory.region();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut index = 0;
            while !stop.load(Ordering::Relaxed) {
                memory.forbid(index..index + 7);
                index = (index + 31) % 249;
            }
        });
        let all_end_in_bounds = METHODS.into_iter().all(|method| {
            let mut reader = reader(method);
            let passes = (0..20).flat_map(|_| pass(&mut reader, &region).0).collect::<Vec<_>>();
            passes.iter().all(|part| part.end <= region.range.end)
                && !reader.is_gone()
                && !reader.is_refused()
        });
        stop.store(true, Ordering::Relaxed);
        assert!(all_end_in_bounds);
    });
}

#[test]
fn the_kernel_holds_pointers() {
    let (watched, timed) = (0x7f12_3456_78f0_u64, 0x7abc_def0_1230_u64);
    // SAFETY: the structures are valid, and all zeros is a valid `sigevent`. The descriptors are closed by nobody else.
    unsafe {
        let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        let mut event = libc::epoll_event { events: 1, u64: watched };
        let pipe = {
            let mut pipe = [0; 2];
            assert_eq!(libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC), 0);
            pipe
        };
        assert_eq!(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, pipe[0], &raw mut event), 0);
        let mut signal: libc::sigevent = std::mem::zeroed();
        signal.sigev_notify = libc::SIGEV_NONE;
        signal.sigev_value.sival_ptr = ptr::without_provenance_mut(timed as usize);
        let mut timer = ptr::null_mut();
        assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut signal, &raw mut timer), 0);
        let held = kernel_held(std::process::id());
        assert!(!held.is_cut && held.words.contains(&watched) && held.words.contains(&timed), "{held:x?}");
        libc::timer_delete(timer);
        for descriptor in [epoll, pipe[0], pipe[1]] {
            libc::close(descriptor);
        }
    }
}
