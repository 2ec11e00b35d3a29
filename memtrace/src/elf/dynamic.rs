//! The dynamic section: a file's own name.

use object::LittleEndian as LE;
use object::elf;

use super::source::until_nul;
use super::{Error, Image, Section};

/// A dynamic section has some thirty entries of 16 bytes.
const MAX_DYNAMIC: u64 = 64 << 10;
/// NAME_MAX and its NUL.
const MAX_SONAME: u64 = 256;

impl Image {
    /// The name that other files load this one by (`DT_SONAME`), as a lossy string; shared objects only.
    ///
    /// # Errors
    /// The dynamic section or the name is over its limit, malformed, or outside the file.
    pub fn soname(&self) -> Result<Option<String>, Error> {
        let Some(section) = self.section_by_kind(elf::SHT_DYNAMIC) else { return Ok(None) };
        let Some(name) = self.dynamic_value(section, elf::DT_SONAME)? else { return Ok(None) };
        let strings = self.linked(section)?;
        let rest = strings.size.checked_sub(name).ok_or(Error::Malformed("soname outside its table"))?;
        let offset = strings.offset.checked_add(name).ok_or(Error::Malformed("soname outside its table"))?;
        let block = self.source.read("soname", offset, rest.min(MAX_SONAME), MAX_SONAME)?;
        let name = until_nul(block.bytes()).ok_or(Error::Malformed("soname is not terminated"))?;
        Ok(Some(String::from_utf8_lossy(name).into_owned()))
    }

    /// Whether this is a program rather than a library: at a fixed address, or position independent and marked
    /// as such (`DF_1_PIE`), or with a loader but without a soname (glibc's libc.so.6 has both).
    ///
    /// # Errors
    /// As [`Image::soname`].
    pub fn is_executable(&self) -> Result<bool, Error> {
        if self.fixed_address {
            return Ok(true);
        }
        if self.soname()?.is_some() {
            return Ok(false);
        }
        let flags = match self.section_by_kind(elf::SHT_DYNAMIC) {
            Some(section) => self.dynamic_value(section, elf::DT_FLAGS_1)?.unwrap_or(0),
            None => 0,
        };
        Ok(flags & u64::from(elf::DF_1_PIE) != 0 || self.interpreter()?.is_some())
    }

    fn dynamic_value(&self, section: &Section, tag: i64) -> Result<Option<u64>, Error> {
        let block = self.source.read("dynamic section", section.offset, section.size, MAX_DYNAMIC)?;
        let entries = block.entries::<elf::Dyn64<LE>>();
        let used = entries.iter().take_while(|entry| entry.d_tag.get(LE) != elf::DT_NULL);
        Ok(used.filter(|entry| entry.d_tag.get(LE) == tag).map(|entry| entry.d_val.get(LE)).next())
    }
}
