use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, atomic::AtomicUsize},
};

use super::{FileStore, StoredFile};
use crate::{
    elf::{FileId, fixture::file_of},
    target::{Module, Modules, files::Regular},
};

fn stored(store: &FileStore, path: &Path) -> Arc<StoredFile> {
    store.file(&Regular::find(path.to_owned()).unwrap()).unwrap()
}

fn contents(file: &StoredFile) -> Vec<u8> {
    fs::read(file.path()).unwrap()
}

/// A directory with a file `a`.
fn with_file(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn a_file_is_held_once_by_whatever_name() {
    let (directory, path) = with_file(b"text");
    let link = directory.path().join("b");
    fs::hard_link(&path, &link).unwrap();
    let store = FileStore::default();
    let (first, second) = (stored(&store, &path), stored(&store, &link));
    assert!(Arc::ptr_eq(&first, &second) && store.len() == 1);
    let modules = ["/a", "/b", "/a"].map(|name| first.module(name, None));
    assert!(Arc::ptr_eq(&modules[0], &modules[2]) && !Arc::ptr_eq(&modules[0], &modules[1]));
    assert!(modules[0].is_same(&modules[1]));
}

#[test]
fn a_file_that_takes_the_name_of_another_is_another() {
    let (directory, path) = with_file(b"old");
    let store = FileStore::default();
    let old = stored(&store, &path);
    fs::write(directory.path().join("b"), "new").unwrap();
    fs::rename(directory.path().join("b"), &path).unwrap();
    let new = stored(&store, &path);
    assert_ne!(old.id().inode, new.id().inode);
    assert_eq!((contents(&old), contents(&new)), (b"old".to_vec(), b"new".to_vec()));
    assert!(Arc::ptr_eq(&new, &stored(&store, &path)));
}

#[test]
fn a_file_that_is_rewritten_in_place_is_another_even_with_its_time_set_back() {
    let (_directory, path) = with_file(b"old");
    let store = FileStore::default();
    let old = stored(&store, &path);
    assert!(old.is_as_parsed());
    let file = File::options().write(true).open(&path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    // Where the clock of the file system is coarse, a write may come too soon to show.
    let of = |path: &Path| FileId::new(&fs::metadata(path).unwrap());
    while of(&path).modified == old.id().modified {
        file.write_all_at(b"new", 0).unwrap();
    }
    assert!(!old.is_as_parsed());
    let new = stored(&store, &path);
    file.set_modified(modified).unwrap();
    let forged = stored(&store, &path);
    assert_eq!((forged.id().size, forged.id().modified), (old.id().size, old.id().modified));
    assert!(!Arc::ptr_eq(&old, &new) && !Arc::ptr_eq(&old, &forged) && !Arc::ptr_eq(&new, &forged));
    assert!(Arc::ptr_eq(&forged, &stored(&store, &path)));
}

#[test]
fn what_nobody_uses_is_closed_and_forgotten() {
    let store = FileStore::default();
    let (directory, path) = with_file(b"text");
    let kept = stored(&store, &path);
    for number in 0..1000 {
        let path = directory.path().join(number.to_string());
        fs::write(&path, "text").unwrap();
        let file = stored(&store, &path);
        let module = file.module("/a", None);
        assert_eq!(store.len(), 2);
        let descriptor = file.path();
        drop(file);
        assert_eq!(module.path(), Some(descriptor));
    }
    assert_eq!(store.len(), 1);
    assert!(super::lock(&store.files).entries.len() <= 64);
    assert!(Arc::ptr_eq(&kept, &stored(&store, &path)));
}

#[test]
fn findings_stay_with_the_file() {
    let (_directory, path) = with_file(b"text");
    let store = FileStore::default();
    let file = stored(&store, &path);
    file.findings::<AtomicUsize>().store(5, std::sync::atomic::Ordering::Relaxed);
    file.findings::<Mutex<Vec<u8>>>().lock().unwrap().push(7);
    let again = stored(&store, &path);
    assert_eq!(again.findings::<AtomicUsize>().load(std::sync::atomic::Ordering::Relaxed), 5);
    assert_eq!(*again.findings::<Mutex<Vec<u8>>>().lock().unwrap(), [7]);
    drop((file, again));
    let anew = stored(&store, &path);
    assert_eq!(anew.findings::<AtomicUsize>().load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn processes_share_the_modules_of_their_files() {
    let store = Arc::default();
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    writeln!(child.stdin.as_ref().unwrap(), "ready").unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let read = || Modules::read(child.id(), &store).unwrap();
    let (first, second) = (read(), read());
    let backed = |modules: &Modules| -> Vec<Arc<Module>> {
        modules.iter().filter(|module| module.file().is_some()).cloned().collect()
    };
    let shared = backed(&first);
    assert!(shared.len() > 1 && store.len() == shared.len());
    assert!(shared.iter().zip(backed(&second)).all(|(first, second)| Arc::ptr_eq(first, &second)));
    drop((first, second, shared));
    assert!(store.is_empty());
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// Files of a process that has a mount namespace of its own are the same files, but not their debug files.
#[test]
fn a_file_is_the_same_in_another_mount_namespace() {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", "echo ready; read line"]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return };
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line == "ready\n" {
        let store = Arc::default();
        let [own, theirs] = [std::process::id(), child.id()].map(|pid| {
            let modules = Modules::read(pid, &store).unwrap();
            modules.iter().find(|module| module.name.contains("/libc.so")).cloned()
        });
        if let (Some(own), Some(theirs)) = (own, theirs) {
            assert_eq!(own.name, theirs.name);
            assert!(own.is_same(&theirs) && !Arc::ptr_eq(&own, &theirs));
        }
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// A file mapped for execution, until it is dropped.
struct Executable(*mut libc::c_void, usize);

impl Executable {
    fn map(file: &File) -> Self {
        let size = file.metadata().unwrap().len() as usize;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE);
        // SAFETY: a new mapping, where there is none.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, file.as_raw_fd(), 0) };
        assert_ne!(place, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self(place, size)
    }

    fn module(&self, modules: &Modules) -> Arc<Module> {
        modules.locate(self.0 as u64, false, u64::MAX).unwrap().module
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nobody looks into it.
        assert_eq!(unsafe { libc::munmap(self.0, self.1) }, 0);
    }
}

#[test]
fn a_library_that_is_unloaded_is_closed_and_one_rewritten_meanwhile_is_read_anew() {
    let store = Arc::default();
    let mut modules = Modules::read(std::process::id(), &store).unwrap();
    let before = store.len();
    let file = file_of(&[0; 100]);
    let mapped = Executable::map(&file);
    modules.refresh(|| 0).unwrap();
    let module = mapped.module(&modules);
    assert_eq!(store.len(), before + 1);
    drop(mapped);
    let mapped = Executable::map(&file);
    modules.refresh(|| 1).unwrap();
    assert!(Arc::ptr_eq(&module, &mapped.module(&modules)));
    drop(mapped);
    file.set_len(200).unwrap();
    let mapped = Executable::map(&file);
    modules.refresh(|| 2).unwrap();
    let rewritten = mapped.module(&modules);
    assert!(!rewritten.is_same(&module) && rewritten.file().unwrap().id().size == 200);
    drop((mapped, module, rewritten));
    modules.refresh(|| 3).unwrap();
    assert_eq!(store.len(), before);
}
