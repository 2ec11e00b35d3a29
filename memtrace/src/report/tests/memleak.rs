use jiff::tz::TimeZone;

use super::{Recorded, assert_harmless, empty, hostile, losses, report, trace_lines as lines, with_blocks};
use crate::profile::Remark;
use crate::report::{Memleak, MemleakOptions};

fn options() -> MemleakOptions {
    MemleakOptions {
        top: 10,
        show_allocs: false,
        combined_only: false,
        zone: TimeZone::fixed(jiff::tz::offset(2)),
    }
}

fn memleak(options: MemleakOptions, report: Recorded) -> String {
    report.written(Memleak::new(options))
}

#[test]
fn ordinary() {
    insta::assert_snapshot!(memleak(options(), report()), @r#"
    [05:04:05] Top 10 stacks with outstanding allocations:
    	640 bytes in 1 allocations from stack
    		[unknown] [libplugin.so]
    	65536 bytes in 64 allocations from stack
    		handle<'_> [api-server]
    		leak_small+0x1e [api-server]
    		main+0x6d [api-server]
    "#);
}

#[test]
fn blocks_are_listed_smallest_first() {
    insta::assert_snapshot!(memleak(MemleakOptions { show_allocs: true, ..options() }, with_blocks()), @r#"
    [05:04:05] Top 10 stacks with outstanding allocations:
    	addr = 9490f0 size = 48
    	addr = 7fff00001000 size = 640
    	addr = 948cd0 size = 1024
    	640 bytes in 1 allocations from stack
    		[unknown] [libplugin.so]
    	65536 bytes in 64 allocations from stack
    		handle<'_> [api-server]
    		leak_small+0x1e [api-server]
    		main+0x6d [api-server]
    "#);
}

#[test]
fn blocks_are_listed_only_when_asked_for() {
    let plain = memleak(options(), report());
    assert_eq!(memleak(options(), with_blocks()), plain);
    let combined = MemleakOptions { show_allocs: true, combined_only: true, ..options() };
    assert_eq!(memleak(combined, with_blocks()), plain);
}

#[test]
fn nothing_outstanding() {
    assert_eq!(memleak(options(), empty()), "[05:04:05] Top 10 stacks with outstanding allocations:\n");
    let combined = MemleakOptions { combined_only: true, ..options() };
    assert_eq!(memleak(combined, empty()), "[05:04:05] Top 10 stacks with outstanding allocations:\n\n");
}

/// How bcc's own test, and scripts like it, read the size of the largest leak.
#[test]
fn scripts_find_the_largest_stack_in_the_last_line_with_bytes() {
    let mut report = Recorded { losses: losses(), last: true, ..with_blocks() };
    report.remarks = vec![Remark::WindowOpen { watch: std::time::Duration::from_secs(1) }];
    report.stacks[1].frames.clear();
    let text = memleak(MemleakOptions { show_allocs: true, ..options() }, report);
    let line = text.lines().rfind(|line| line.contains("byte")).unwrap();
    assert_eq!(line.split_whitespace().next().unwrap().parse(), Ok(65_536));
    assert!(text.contains("\t\tstack information lost\n"), "{text}");
}

#[test]
fn hostile_names() {
    let text = memleak(options(), hostile());
    assert_harmless(&text);
    insta::assert_snapshot!(text, @r#"
    Note: process 4123 called exec after 1.0 s and is now evil\x1b[2J\x1b]0;owned\x07\x0d\x0aroot# \u{202e}txt\u{2066}\u{9b}31m\x7f\u{2028}\u{e0041}: its count was restarted
    [05:04:05] Top 10 stacks with outstanding allocations:
    	65536 bytes in 64 allocations from stack
    		evil\x1b[2J\x1b]0;owned\x07\x0d\x0aroot# \u{202e}txt\u{2066}\u{9b}31m\x7f\u{2028}\u{e0041}+0x0 [evil\x1b[2J\x1b]0;owned\x07\x0d\x0aroot# \u{202e}txt\u{2066}\u{9b}31m\x7f\u{2028}\u{e0041}]
    		[unknown] [evil\x1b[2J\x1b]0;owned\x07\x0d\x0aroot# \u{202e}txt\u{2066}\u{9b}31m\x7f\u{2028}\u{e0041}]
    "#);
}

#[test]
fn modules_in_brackets_are_not_bracketed_twice() {
    let mut report = report();
    report.stacks[0].frames.truncate(2);
    report.stacks[0].frames[0].module = "[vdso]".into();
    report.stacks[0].frames[0].inlined = false;
    report.stacks[0].frames[1].module = "".into();
    let text = memleak(options(), report);
    assert!(text.ends_with("\t\thandle<'_>+0x1e [vdso]\n\t\tleak_small+0x1e\n"), "{text}");
}

#[test]
fn trace_lines() {
    insta::assert_snapshot!(lines(Memleak::new(options())).concat(), @r#"
    (4125, 0.004213, 'alloc exited, size = 16, result = 948cd0')
    (4125, 94769.000000, 'free entered, address = 948cd0, size = 16')
    "#);
}
