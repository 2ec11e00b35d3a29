//! Array maps mapped into memory: the agent reads what the programs count without a system call per entry.

use std::{io, marker::PhantomData, num::NonZeroUsize, os::fd::BorrowedFd, ptr::NonNull};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

const PAGE: usize = 4096;

/// Writes `values` to an mmapable array map from element `first` on, through a mapping that ends with the call.
///
/// # Errors
/// Out of memory, or beyond the map's end.
pub(in crate::bpf) fn write<T: Copy>(map: BorrowedFd<'_>, first: usize, values: &[T]) -> io::Result<()> {
    let start = first * size_of::<T>();
    let end = start + size_of_val(values);
    let base = start / PAGE * PAGE;
    let Some(bytes) = NonZeroUsize::new((end - base).next_multiple_of(PAGE)).filter(|_| end > start) else {
        return Ok(());
    };
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice; the copy stays within it.
    unsafe {
        let mapping = mmap(None, bytes, protection, MapFlags::MAP_SHARED, map, base as libc::off_t)?;
        let place = mapping.cast::<u8>().add(start - base).cast::<T>();
        std::ptr::copy_nonoverlapping(values.as_ptr(), place.as_ptr(), values.len());
        munmap(mapping, bytes.get())?;
    }
    Ok(())
}

/// An mmapable array map, or a part of one, in memory.
///
/// Programs write to it all the time: elements are copied out word by word, never borrowed.
pub(in crate::bpf) struct Mapped<T> {
    base: NonNull<libc::c_void>,
    bytes: NonZeroUsize,
    length: usize,
    element: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone, wherever it is moved to; elements are read with volatile accesses.
unsafe impl<T: Send> Send for Mapped<T> {}

impl<T: Copy> Mapped<T> {
    /// Maps `length` elements from element `start` on, which must be on a page boundary.
    ///
    /// # Errors
    /// Out of memory, or beyond the map's end.
    pub(in crate::bpf) fn new(map: BorrowedFd<'_>, start: usize, length: usize) -> io::Result<Self> {
        Self::map(map, start, length, ProtFlags::PROT_READ)
    }

    /// Maps the first `length` elements for reading and writing through [`Mapped::pointer`].
    ///
    /// # Errors
    /// As [`Mapped::new`].
    pub(in crate::bpf) fn writable(map: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        Self::writable_from(map, 0, length)
    }

    /// The same from element `start` on.
    ///
    /// # Errors
    /// As [`Mapped::new`].
    pub(in crate::bpf) fn writable_from(
        map: BorrowedFd<'_>,
        start: usize,
        length: usize,
    ) -> io::Result<Self> {
        Self::map(map, start, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
    }

    fn map(map: BorrowedFd<'_>, start: usize, length: usize, protection: ProtFlags) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8) && size_of::<T>() > 0) };
        let offset = start * size_of::<T>();
        let bytes = NonZeroUsize::new((length * size_of::<T>()).next_multiple_of(PAGE))
            .filter(|_| offset.is_multiple_of(PAGE))
            .ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base =
            unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, map, offset as libc::off_t)? };
        Ok(Self { base, bytes, length, element: PhantomData })
    }

    /// Number of elements.
    pub(in crate::bpf) fn len(&self) -> usize {
        self.length
    }

    /// A pointer to an element, for volatile access.
    pub(in crate::bpf) fn pointer(&self, index: usize) -> Option<*const T> {
        // SAFETY: within the mapping, which holds `length` elements.
        (index < self.length).then(|| unsafe { self.base.cast::<T>().as_ptr().add(index).cast_const() })
    }

    /// A copy of an element. Each of its fields is read whole; together they may be from two moments.
    pub(in crate::bpf) fn get(&self, index: usize) -> Option<T> {
        // SAFETY: a valid, aligned element of plain integers.
        self.pointer(index).map(|pointer| unsafe { pointer.read_volatile() })
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`. A failure cannot be handled.
        let _ = unsafe { munmap(self.base, self.bytes.get()) };
    }
}
