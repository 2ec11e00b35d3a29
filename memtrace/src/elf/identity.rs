//! Which file this is.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use super::{Error, Image};

/// Says that two open files are the same and unchanged in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device and inode.
    pub inode: (u64, u64),
    /// Size in bytes.
    pub size: u64,
    /// Last change of the contents: seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
    /// Last change of the contents or of the attributes. Unlike `modified`, the file's owner cannot set it.
    pub changed: (i64, i64),
}

impl Image {
    /// Which file this is.
    ///
    /// # Errors
    /// The file's attributes cannot be read.
    pub fn file_id(&self) -> Result<FileId, Error> {
        Ok(FileId::new(&self.source.metadata()?))
    }
}

impl FileId {
    /// Whether the contents are those of `earlier`, an identity that the same file had while it was held open, unless its
    /// owner has set the time back: attributes and links may have changed.
    #[must_use]
    pub fn has_contents_of(&self, earlier: &Self) -> bool {
        (self.inode, self.size, self.modified) == (earlier.inode, earlier.size, earlier.modified)
    }

    /// Which file has these attributes.
    #[must_use]
    pub fn new(metadata: &Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
