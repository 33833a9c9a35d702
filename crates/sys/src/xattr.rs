//! Extended attributes of entries in a tree that somebody else may control.
//!
//! The `*xattr` calls take a path or a readable descriptor. An entry is therefore named through its directory's
//! descriptor under /proc, with the calls that do not follow a link in the last place.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::root::{Dir, Result, RootError, proc_path, single};

/// The kernel's own bounds (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`): one try with a buffer of that size always suffices.
const LIST_MAX: usize = 65536;
const SIZE_MAX: usize = 65536;

/// An attribute's full name (`user.note`) and value.
pub type Xattr = (OsString, Vec<u8>);

fn entry_path(dir: &Dir, name: &OsStr, op: &'static str) -> Result<PathBuf> {
    single(name, op)?;
    Ok(PathBuf::from(proc_path(dir.as_fd())).join(name))
}

fn split(list: &[u8]) -> Vec<OsString> {
    list.split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect()
}

impl Dir {
    /// The names of an entry's attributes; none where the file system has no attributes.
    pub fn list_xattrs(&self, name: &OsStr) -> Result<Vec<OsString>> {
        let path = entry_path(self, name, "listxattr")?;
        let mut list = [0u8; 512];
        match rustix::fs::llistxattr(&path, &mut list) {
            Ok(length) => Ok(split(&list[..length])),
            Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
            Err(Errno::RANGE) => {
                let mut list = vec![0u8; LIST_MAX];
                rustix::fs::llistxattr(&path, &mut list[..])
                    .map(|length| split(&list[..length]))
                    .map_err(|errno| RootError::new("listxattr", name, errno))
            }
            Err(errno) => Err(RootError::new("listxattr", name, errno)),
        }
    }

    /// An attribute's value, `None` where the entry (or its file system) has no such attribute.
    pub fn get_xattr(&self, name: &OsStr, attribute: &OsStr) -> Result<Option<Vec<u8>>> {
        let path = entry_path(self, name, "getxattr")?;
        let mut small = [0u8; 256];
        match rustix::fs::lgetxattr(&path, attribute, &mut small) {
            Ok(length) => Ok(Some(small[..length].to_vec())),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(Errno::RANGE) => {
                let mut value = vec![0u8; SIZE_MAX];
                let length = rustix::fs::lgetxattr(&path, attribute, &mut value[..])
                    .map_err(|errno| RootError::new("getxattr", name, errno))?;
                value.truncate(length);
                Ok(Some(value))
            }
            Err(errno) => Err(RootError::new("getxattr", name, errno)),
        }
    }

    /// Sets an attribute of an entry.
    pub fn set_xattr(&self, name: &OsStr, attribute: &OsStr, value: &[u8]) -> Result<()> {
        let path = entry_path(self, name, "setxattr")?;
        rustix::fs::lsetxattr(&path, attribute, value, XattrFlags::empty())
            .map_err(|errno| RootError::new("setxattr", name, errno))
    }

    /// Removes an attribute of an entry; one that is not there is no error.
    pub fn remove_xattr(&self, name: &OsStr, attribute: &OsStr) -> Result<()> {
        let path = entry_path(self, name, "removexattr")?;
        match rustix::fs::lremovexattr(&path, attribute) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(errno) => Err(RootError::new("removexattr", name, errno)),
        }
    }

    /// Sets an attribute of the directory itself.
    pub fn set_xattr_self(&self, attribute: &OsStr, value: &[u8]) -> Result<()> {
        rustix::fs::setxattr(proc_path(self.as_fd()), attribute, value, XattrFlags::empty())
            .map_err(|errno| RootError::new("setxattr", ".", errno))
    }

    /// An attribute of the directory itself, `None` where it has none of that name.
    pub fn get_xattr_self(&self, attribute: &OsStr) -> Result<Option<Vec<u8>>> {
        let mut value = vec![0u8; SIZE_MAX];
        match rustix::fs::getxattr(proc_path(self.as_fd()), attribute, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                Ok(Some(value))
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(RootError::new("getxattr", ".", errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Root;

    #[test]
    fn attributes_of_files_and_links() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
        let top = Root::open(dir.path()).unwrap().top().unwrap();
        let long = vec![7u8; 1000];
        for entry in ["f", "l"].map(OsStr::new) {
            top.set_xattr(entry, OsStr::new("trusted.wharf"), &long).unwrap();
            assert_eq!(top.get_xattr(entry, OsStr::new("trusted.wharf")).unwrap(), Some(long.clone()));
            assert!(top.list_xattrs(entry).unwrap().contains(&OsString::from("trusted.wharf")));
            top.remove_xattr(entry, OsStr::new("trusted.wharf")).unwrap();
            top.remove_xattr(entry, OsStr::new("trusted.wharf")).unwrap();
            assert_eq!(top.get_xattr(entry, OsStr::new("trusted.wharf")).unwrap(), None);
        }
    }
}
