//! What is replaced, what is refused, and what stays.

use std::{
    fs,
    os::{
        fd::AsFd as _,
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _, symlink},
            net::UnixListener,
        },
    },
    path::Path,
};

use nix::{
    sys::stat::Mode,
    unistd::{Gid, Uid, chown, fchownat, geteuid, mkfifo},
};

use super::{Destination, Error, temporary::Temporary};

const NOBODY: u32 = 65534;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn refused(path: &Path) -> String {
    Destination::new(path).unwrap_err().to_string()
}

#[test]
fn nothing_is_there_before_the_contents() {
    let directory = directory();
    let path = directory.path().join("file");
    let destination = Destination::new(&path).unwrap();
    assert!(names(directory.path()).is_empty());
    destination.replace(b"one").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"one");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    // Whoever had the old file open still reads all of it.
    let before = fs::File::open(&path).unwrap();
    destination.replace(b"another").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"another");
    assert_eq!((before.metadata().unwrap().len(), before.metadata().unwrap().nlink()), (3, 0));
    assert_eq!(names(directory.path()), ["file"]);
}

/// As on file systems without files that have no name.
#[test]
fn named_temporary_files() {
    let directory = directory();
    let destination = Destination::new(&directory.path().join("file")).unwrap();
    let new = || Temporary::named(&destination.directory).unwrap();
    let trial = new();
    let name = names(directory.path()).remove(0);
    assert!(name.starts_with(".memtrace-") && name.len() == 42, "{name}");
    assert_eq!(fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o7777, 0o600);
    drop(trial);
    assert!(names(directory.path()).is_empty());
    for contents in ["one", "two"] {
        destination.put(new(), contents.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("file")).unwrap(), contents);
        assert_eq!(names(directory.path()), ["file"]);
    }
    fs::remove_file(directory.path().join("file")).unwrap();
    fs::create_dir(directory.path().join("file")).unwrap();
    assert!(destination.put(new(), b"three").is_err());
    assert_eq!(names(directory.path()), ["file"]);
}

/// Where others may write they can exchange a file that has a name before it is in its place.
#[test]
fn exchanged_temporary_file() {
    let directory = directory();
    let destination = Destination::new(&directory.path().join("file")).unwrap();
    let new = Temporary::named(&destination.directory).unwrap();
    let name = directory.path().join(names(directory.path()).remove(0));
    fs::rename(&name, directory.path().join("away")).unwrap();
    fs::write(&name, "forged").unwrap();
    assert!(matches!(destination.put(new, b"true"), Err(Error::Gone { .. })));
}

#[test]
fn only_regular_files_are_replaced() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "old").unwrap();
    symlink(at("file"), at("link")).unwrap();
    symlink("nowhere", at("broken")).unwrap();
    mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    for (name, kind) in [("link", "link"), ("broken", "link"), ("fifo", "pipe"), ("socket", "socket")] {
        let message = refused(&at(name));
        assert!(message.contains(kind) && message.contains("name another file"), "{message}");
    }
    assert!(refused(Path::new("/dev/null")).contains("device"));
    let destination = Destination::new(&at("file")).unwrap();
    // What is put there meanwhile is neither followed nor replaced.
    fs::remove_file(at("file")).unwrap();
    fs::write(at("victim"), "old").unwrap();
    symlink(at("victim"), at("file")).unwrap();
    assert!(matches!(destination.replace(b"new"), Err(Error::NotRegular { .. })));
    assert_eq!(fs::read(at("victim")).unwrap(), b"old");
    assert_eq!(names(directory.path()), ["broken", "fifo", "file", "link", "socket", "victim"]);
}

#[test]
fn paths_without_a_name() {
    let directory = directory();
    for name in ["", ".", "..", "/", "/tmp/.", "new/"] {
        assert!(refused(Path::new(name)).contains("directory"), "{name:?}");
    }
    assert!(refused(directory.path()).contains("name a file in it"));
    let message = refused(&directory.path().join("none/file"));
    let missing = directory.path().join("none").display().to_string();
    assert!(message.contains(&format!("{missing}: name a file in an existing")), "{message}");
    // As a shell's `>(…)` is.
    assert!(refused(Path::new("/dev/fd/0")).contains("link"));
    fs::write(directory.path().join("file"), "").unwrap();
    assert!(matches!(Destination::new(&directory.path().join("file/file")), Err(Error::Open { .. })));
}

#[test]
fn own_links_between_directories() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("real")).unwrap();
    symlink("real/../real", at("relative")).unwrap();
    symlink(at("relative"), at("absolute")).unwrap();
    Destination::new(&at("absolute/file")).unwrap().replace(b"new").unwrap();
    assert_eq!(fs::read(at("real/file")).unwrap(), b"new");
    symlink("circle", at("circle")).unwrap();
    assert!(matches!(Destination::new(&at("circle/file")), Err(Error::Open { .. })));
}

#[test]
fn what_others_placed() {
    if !geteuid().is_root() {
        return;
    }
    let nobody = (Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY)));
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    let give = |name: &str| {
        let parent = fs::File::open(directory.path()).unwrap();
        fchownat(parent.as_fd(), name, nobody.0, nobody.1, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).unwrap();
    };
    fs::create_dir(at("real")).unwrap();
    symlink("real", at("link")).unwrap();
    fs::write(at("theirs"), "old").unwrap();
    give("link");
    give("theirs");
    assert!(matches!(Destination::new(&at("link/file")), Err(Error::ForeignLink { owner: NOBODY, .. })));
    assert!(matches!(Destination::new(&at("theirs")), Err(Error::Foreign { owner: NOBODY, .. })));
    assert!(names(&at("real")).is_empty());
    // In a directory of their own users place what they like.
    chown(directory.path(), nobody.0, nobody.1).unwrap();
    Destination::new(&at("link/file")).unwrap().replace(b"new").unwrap();
    assert_eq!(names(&at("real")), ["file"]);
}

#[test]
fn pieces_are_appended_whole() {
    let directory = directory();
    let path = directory.path().join("file");
    let mut placed = Destination::new(&path).unwrap().replace(b"one,").unwrap();
    placed.append(b"two,").unwrap();
    assert_eq!((placed.size().unwrap(), fs::read(&path).unwrap().as_slice()), (8, b"one,two,".as_slice()));
    fs::remove_file(&path).unwrap();
    assert!(matches!(placed.append(b"three"), Err(Error::Gone { .. })));
}
