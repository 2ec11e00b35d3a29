//! Where the kernel's modules are.

use std::{fs, io};

/// A loaded module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Address of its first byte of code.
    pub base: u64,
    /// Bytes.
    pub size: u64,
}

/// The loaded modules, in order of address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modules(Vec<Module>);

impl Modules {
    /// Those of the running kernel.
    ///
    /// # Errors
    /// They cannot be read. A kernel without modules has none: no error.
    pub fn read() -> io::Result<Self> {
        match fs::read_to_string("/proc/modules") {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// `name size uses users state address`.
    fn parse(text: &str) -> Self {
        let mut modules: Vec<Module> = text
            .lines()
            .filter_map(|line| {
                let mut fields = line.split_ascii_whitespace();
                let (name, size) = (fields.next()?, fields.next()?.parse().ok()?);
                let base = u64::from_str_radix(fields.nth(3)?.strip_prefix("0x")?, 16).ok()?;
                (base != 0).then(|| Module { name: name.to_owned(), base, size })
            })
            .collect();
        modules.sort_by_key(|module| module.base);
        Self(modules)
    }

    /// The module that contains an address.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<&Module> {
        let after = self.0.partition_point(|module| module.base <= address);
        let module = self.0.get(after.checked_sub(1)?)?;
        (address - module.base < module.size).then_some(module)
    }
}

#[cfg(test)]
mod tests {
    use super::Modules;

    #[test]
    fn an_address_is_in_one_module_or_none() {
        let modules = Modules::parse(
            "xfs 2097152 1 - Live 0xffffffffc0800000\n\
             nf_nat 65536 2 xt_nat,nft_nat, Live 0xffffffffc0500000 (E)\n\
             hidden 4096 0 - Live 0x0000000000000000\n",
        );
        let name = |address| modules.find(address).map(|module| module.name.as_str());
        assert_eq!(name(0xffff_ffff_c050_0000), Some("nf_nat"));
        assert_eq!(name(0xffff_ffff_c051_0000), None);
        assert_eq!(name(0xffff_ffff_c080_1234), Some("xfs"));
        assert_eq!(name(0x10), None);
    }
}
