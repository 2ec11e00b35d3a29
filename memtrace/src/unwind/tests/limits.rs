//! Files over a limit, and the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use memtrace_common::Row;

use super::super::{Cache, Error, Limits, Table};
use super::{CALL, Sample, cfa, generous, row};
use crate::elf::{self, Image};

fn sound() -> Sample {
    let mut sample = Sample::x86_64(&CALL);
    let cie = sample.usual_cie();
    sample.fde(cie, 0, 5, &[]);
    sample
}

#[test]
fn files_without_frames_have_no_table() {
    assert!(matches!(Sample::x86_64(&CALL).error(), Error::NoFrames));
    let mut elsewhere = Sample::x86_64(&CALL);
    let cie = elsewhere.usual_cie();
    elsewhere.fde(cie, 5, 5, &[]);
    assert!(matches!(elsewhere.error(), Error::NoFrames));
    assert!(matches!(Sample::x86_64(&[]).error(), Error::NoCode));
}

#[test]
fn what_is_over_a_limit_has_no_table() {
    let sample = Sample { more_memory: (1 << 32) - 5, ..sound() };
    assert!(matches!(sample.error(), Error::Span { span: 0x1_0000_0000 }));
    assert!(Table::build(&Sample { more_memory: (1 << 32) - 6, ..sound() }.image(), generous()).is_ok());
    let nops = |count| vec![0; count];
    let mut sample = sound();
    sample.fde(0, 0, 5, &nops(256 << 10));
    assert!(
        matches!(sample.error(), Error::Limit { value: 262_172, limit: 262_144, .. }),
        "{:?}",
        sample.error()
    );
    let mut sample = Sample::x86_64(&CALL);
    let cie = sample.cie("zR", 16, &nops(1 << 10));
    sample.fde(cie, 0, 5, &[]);
    assert!(matches!(sample.error(), Error::Limit { limit: 1024, .. }));
    let mut sample = sound();
    sample.eh_frame[8] = 77;
    assert!(
        matches!(sample.error(), Error::Frames(gimli::Error::UnknownVersion(77))),
        "{:?}",
        sample.error()
    );
}

#[test]
fn time_is_up_at_once_where_there_is_none() {
    let none = Limits::within(Duration::ZERO);
    assert!(matches!(Table::build(&sound().image(), none), Err(Error::TooSlow)));
}

#[test]
fn a_state_that_is_remembered_without_end_is_unsupported() {
    let mut sample = Sample::x86_64(&CALL);
    let cie = sample.usual_cie();
    sample.fde(cie, 0, 5, &[cfa::REMEMBER_STATE; 100]);
    assert_eq!(sample.table().rows(), [row(0, Row::UNSUPPORTED, 0, 0)]);
}

#[test]
fn a_file_is_built_once() {
    let twin = Sample { build_id: vec![1; 20], ..sound() };
    let (first, second) = (twin.image(), twin.image());
    let other = Sample { build_id: vec![2; 20], ..sound() }.image();
    let without_id = sound().image();
    let broken = Sample::x86_64(&CALL).image();
    let built = AtomicUsize::new(0);
    let mut cache = Cache::new();
    let images = [&first, &second, &other, &without_id, &broken, &without_id];
    let all = cache.build_all(images, generous(), |done, of| {
        assert!((1..=5).contains(&done) && of == 5);
        built.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(built.load(Ordering::Relaxed), 5);
    let table = |at: usize| all[at].as_ref().unwrap();
    // Equal tables are one, whatever their files say that they are.
    assert!([1, 2, 3, 5].into_iter().all(|at| Arc::ptr_eq(table(0), table(at))));
    assert!(matches!(all[4].as_deref().map_err(Arc::as_ref), Err(Error::NoFrames)));
    let again = cache.build_all([&broken, &second], generous(), |_, _| panic!("built again"));
    assert!(Arc::ptr_eq(again[1].as_ref().unwrap(), table(0)));
}

/// Whoever owns a file chooses its build id.
#[test]
fn a_file_with_the_build_id_and_size_of_another_has_a_table_of_its_own() {
    let mut forged = Sample { build_id: vec![1; 20], ..sound() };
    let sound = Sample { build_id: vec![1; 20], ..sound() };
    let last = forged.eh_frame.iter().rposition(|byte| *byte != 0).unwrap();
    forged.eh_frame[last] ^= 1;
    let (forged, sound) = (forged.image(), sound.image());
    assert_eq!(forged.build_id().unwrap(), sound.build_id().unwrap());
    assert_eq!(forged.file_id().unwrap().size, sound.file_id().unwrap().size);
    let mut cache = Cache::new();
    let first = cache.build_all([&forged], generous(), |_, _| ())[0].clone().ok();
    let second = cache.build_all([&sound], generous(), |_, _| ())[0].clone().ok();
    assert!(second.is_some() && first != second);
}

#[test]
fn files_of_which_there_are_too_many_are_forgotten() {
    let mut cache = Cache::new();
    cache.max_files = 10;
    let placed = cache.build_all([&sound().image()], generous(), |_, _| ())[0].clone().unwrap();
    let broken: Vec<Image> = (0..11).map(|_| Sample::x86_64(&CALL).image()).collect();
    cache.build_all(&broken[..10], generous(), |_, _| ());
    // The first one's table is still in use.
    let again = cache.build_all([&sound().image()], generous(), |_, _| ())[0].clone().unwrap();
    assert!(Arc::ptr_eq(&placed, &again));
    let built = AtomicUsize::new(0);
    cache.build_all(&broken, generous(), |_, _| {
        built.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(built.load(Ordering::Relaxed), 11);
}

#[test]
fn a_file_that_time_did_not_suffice_for_is_tried_again() {
    let image = sound().image();
    let mut cache = Cache::new();
    let late = cache.build_all([&image], Limits::within(Duration::ZERO), |_, _| ());
    assert!(matches!(late[0].as_deref().map_err(Arc::as_ref), Err(Error::TooSlow)));
    assert!(cache.build_all([&image], generous(), |_, _| ())[0].is_ok());
    assert!(cache.build_all([&image], Limits::within(Duration::ZERO), |_, _| ())[0].is_ok());
}

#[test]
fn a_file_that_takes_too_long_by_itself_is_not_tried_again() {
    let image = sound().image();
    let mut cache = Cache::new();
    cache.file_time = Duration::ZERO;
    let slow = cache.build_all([&image], generous(), |_, _| ());
    assert!(matches!(slow[0].as_deref().map_err(Arc::as_ref), Err(Error::Expensive { .. })));
    cache.file_time = Duration::from_secs(3600);
    let again = cache.build_all([&image], generous(), |_, _| panic!("built again"));
    assert!(again[0].is_err());
}

#[test]
fn a_file_that_becomes_shorter_is_an_error() {
    let file = elf::fixture::file_of(&sound().bytes());
    let image = Image::from_file(file.try_clone().unwrap()).unwrap();
    file.set_len(0x800).unwrap();
    assert!(matches!(Table::build(&image, generous()), Err(Error::Image(elf::Error::Read { .. }))));
}

#[test]
fn sections_and_files_are_found_as_headers_say() {
    let sample = sound();
    let image = sample.image();
    let frames = image.section_data(".eh_frame", 1 << 20).unwrap().unwrap();
    assert_eq!((frames.address, &frames.bytes()[..4]), (super::FRAMES + 8, &sample.eh_frame[..4]));
    let len = frames.bytes().len() as u64;
    assert!(matches!(image.section_data(".eh_frame", len - 1), Err(elf::Error::Limit { .. })));
    assert!(image.section_data(".eh", 1 << 20).unwrap().is_none());
    let header = image.frame_header().unwrap().unwrap();
    assert_eq!((header.address, header.bytes().len()), (super::FRAMES, 8));
    let rest = image.loaded_data(super::FRAMES + 8, len).unwrap().unwrap();
    assert_eq!((rest.address, rest.bytes()), (super::FRAMES + 8, frames.bytes()));
    assert!(matches!(image.loaded_data(super::FRAMES, len), Err(elf::Error::Limit { .. })));
    assert!(image.loaded_data(1, len).unwrap().is_none());
    assert_eq!(image.file_id().unwrap(), image.file_id().unwrap());
    assert_ne!(image.file_id().unwrap(), sample.image().file_id().unwrap());
}
