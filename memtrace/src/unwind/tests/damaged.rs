//! Damaged files: an error at worst.
//!
//! Everything random is the same in every run, so a failure comes back. The corpus is made here: a handmade file, the
//! machine's loader and one of its programs. More rounds: `MEMTRACE_DAMAGED_ROUNDS=1000000 cargo test damaged`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use memtrace_common::Row;

use super::super::Table;
use super::{CALL, Sample, cfa, generous};
use crate::elf::Image;
use crate::elf::fixture::{damaged, file_of};

fn rounds(usual: u32) -> u32 {
    std::env::var("MEMTRACE_DAMAGED_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// Whatever a file says, a table must be one that the programs in the kernel can search.
fn check(file: File) -> bool {
    let Ok(image) = Image::from_file(file) else { return false };
    let Ok(table) = Table::build(&image, generous()) else { return false };
    let rows = table.rows();
    assert_eq!(rows[0].pc, 0);
    assert!(rows.len() <= 4 << 20);
    assert!(rows.is_sorted_by(|left, right| left.pc < right.pc && left.rule() != right.rule()));
    assert!(rows.iter().all(|row| (Row::FP..=Row::LEAF).contains(&row.kind)));
    true
}

/// One of everything.
fn sample() -> Sample {
    let mut code = Vec::new();
    for _ in 0..20 {
        code.extend_from_slice(&CALL);
        code.extend_from_slice(&[0x90, 0xc3, 0x90]);
    }
    let mut sample = Sample::x86_64(&code);
    sample.build_id = vec![7; 20];
    let usual = sample.usual_cie();
    sample.fde(
        usual,
        0,
        7,
        &[cfa::DEF_CFA_OFFSET, 48, cfa::offset(6), 2, cfa::advance(5), cfa::DEF_CFA_OFFSET, 8],
    );
    sample.fde(usual, 8, 7, &[cfa::DEF_CFA_EXPRESSION, 3, 0x76, 0x78, 6, cfa::EXPRESSION, 6, 2, 0x76, 0]);
    sample.fde(
        usual,
        16,
        15,
        &[cfa::REMEMBER_STATE, cfa::advance(7), cfa::DEF_CFA, 6, 16, cfa::RESTORE_STATE],
    );
    let signal = sample.cie("zRS", 16, &[]);
    sample.fde(signal, 40, 7, &[cfa::DEF_CFA_EXPRESSION, 4, 0x77, 0xa0, 1, 6]);
    sample.fde(usual, 48, 7, &[cfa::UNDEFINED, 16]);
    sample
}

/// Damages one part of a file: overwrites bytes, copies some from elsewhere in the part, or swaps two pieces.
fn damage_part(bytes: &[u8], part: std::ops::Range<usize>, rounds: u32) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    let file = file_of(bytes);
    let mut sound = 0;
    for _ in 0..rounds {
        let mut piece = bytes[part.clone()].to_vec();
        for _ in 0..=random(6) {
            let (at, len) = (random(piece.len()), 1 + random(24));
            let end = (at + len).min(piece.len());
            match random(3) {
                0 => piece[at] = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)],
                1 => piece[at..end].fill(random(256) as u8),
                _ => {
                    let from = random(piece.len() - (end - at));
                    piece.copy_within(from..from + (end - at), at);
                }
            }
        }
        file.write_all_at(&piece, part.start as u64).unwrap();
        sound += u32::from(check(file.try_clone().unwrap()));
    }
    assert!(sound > 0, "all damage is found before it reaches the instructions");
}

fn part_of(bytes: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    let start = bytes.windows(part.len()).position(|window| window == part).unwrap();
    start..start + part.len()
}

#[test]
fn handmade_files() {
    let sample = sample();
    let bytes = sample.bytes();
    assert!(check(file_of(&bytes)));
    damage_part(&bytes, part_of(&bytes, &sample.eh_frame), rounds(20_000));
    damaged(&bytes, rounds(4000), |file| {
        check(file);
    });
    let stripped = Sample { stripped: true, ..sample }.bytes();
    damaged(&stripped, rounds(4000), |file| {
        check(file);
    });
}

#[test]
fn real_files() {
    for path in ["/bin/true", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"] {
        let Ok(bytes) = std::fs::read(path) else { continue };
        let image = Image::from_file(file_of(&bytes)).unwrap();
        let frames = image.section_data(".eh_frame", 1 << 20).unwrap().unwrap();
        damage_part(&bytes, part_of(&bytes, frames.bytes()), rounds(1000));
        damaged(&bytes, rounds(300), |file| {
            check(file);
        });
    }
}
