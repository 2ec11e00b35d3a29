//! Differences whose cause is known: each was looked at, block by block.

/// Programs and why they differ.
const KNOWN: [(&str, &str); 7] = [
    (
        "register",
        "valgrind does not look at registers when a program calls exit_group itself; memtrace finds the pointer in one",
    ),
    ("tagged", "memtrace ignores the lowest three and highest 16 bits of a pointer to where a block begins"),
    (
        "cached",
        "glibc keeps the stacks of ended threads, the uppermost 16 KiB as they were: memtrace cannot tell what is stale there",
    ),
    (
        "python3",
        "_dlfo_mappings_segment_allocate (glibc) aligns within a block to 64 bytes, so that it depends on the block's address \
         whether the pointer is to its beginning",
    ),
    (
        "git status",
        "tsearch (glibc) marks red nodes in the lowest bit of pointers to them, which memtrace ignores",
    ),
    ("bash", "a variable holds the parent's pid in decimal digits, of which there can be one more or less"),
    (
        "awk",
        "realloc shrinks a block where it is, so that an old pointer to it still is one; valgrind's always moves it",
    ),
];

/// Why the two differ on a program.
pub(super) fn explanation(program: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(name, _)| *name == program).map(|(_, why)| *why)
}
