//! What is laid on a disk before something runs from it: files, programs, directories, symbolic links.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};

/// A thing with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Absolute.
    pub path: String,
    /// What is there.
    pub kind: Kind,
}

/// What an [`Item`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of root with this content and these permission bits.
    File(String, u32),
    /// A directory of root, 0755.
    Directory,
    /// A symbolic link to this, which need not exist.
    Link(String),
}

impl Item {
    /// A file that everybody may read.
    pub fn file(path: impl Into<String>, content: impl Into<String>) -> Self {
        Self { path: path.into(), kind: Kind::File(content.into(), 0o644) }
    }

    /// A script that everybody may run.
    pub fn program(path: impl Into<String>, content: impl Into<String>) -> Self {
        Self { path: path.into(), kind: Kind::File(content.into(), 0o755) }
    }

    /// A directory; those of the other items need not be named.
    pub fn directory(path: impl Into<String>) -> Self {
        Self { path: path.into(), kind: Kind::Directory }
    }

    /// A symbolic link.
    pub fn link(path: impl Into<String>, target: impl Into<String>) -> Self {
        Self { path: path.into(), kind: Kind::Link(target.into()) }
    }

    fn lay_down(&self, root: &Path) -> Result<()> {
        let path = root.join(self.path.trim_start_matches('/'));
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match &self.kind {
            Kind::File(content, mode) => {
                fs::write(&path, content)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
            }
            Kind::Directory => fs::create_dir_all(&path)?,
            Kind::Link(target) => {
                if path.is_symlink() {
                    fs::remove_file(&path)?;
                }
                symlink(target, &path)?;
            }
        }
        Ok(())
    }
}

/// Lays everything down below `root`: `/` for this process's own files, [`crate::node::Node::path`] for a node's. What is
/// there already is replaced.
pub fn lay_down(root: &Path, items: &[Item]) -> Result<()> {
    items.iter().try_for_each(|item| {
        item.lay_down(root).with_context(|| format!("cannot lay down {} below {}", item.path, root.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::{Item, lay_down};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn everything_is_laid_down_and_laid_down_again() {
        let root = std::env::temp_dir().join(format!("cts-tests-disk-{}", std::process::id()));
        let items =
            [Item::program("/a/run", "#!/bin/sh\n"), Item::directory("/b/empty"), Item::link("/scan/a", "/nowhere")];
        for _ in 0..2 {
            lay_down(&root, &items).unwrap();
            assert_eq!(fs::metadata(root.join("a/run")).unwrap().permissions().mode() & 0o777, 0o755);
            assert!(root.join("b/empty").is_dir());
            assert_eq!(fs::read_link(root.join("scan/a")).unwrap().to_str(), Some("/nowhere"));
        }
        fs::remove_dir_all(&root).unwrap();
    }
}
