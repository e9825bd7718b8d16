//! What a guest's kernel starts: the rig's own program, made anew for each run, with its libraries and the first modules.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::image::Image;
use crate::command::command;
use crate::installed;

/// Makes the archive in `directory`, and returns its path.
pub fn make(image: &Image, directory: &Path) -> Result<PathBuf> {
    let program = installed::rig_program("rig-guest")?;
    let mut files: Vec<(PathBuf, PathBuf)> = vec![(program.clone(), PathBuf::from("init"))];
    for library in libraries(&program)? {
        let place = library.strip_prefix("/").context("ldd named a library by a relative path")?.to_owned();
        files.push((library, place));
    }
    let modules = image.first_modules()?;
    let mut order = String::new();
    for module in modules {
        let name = module.file_name().context("a module has no name")?.to_owned();
        order += &format!("{}\n", name.to_string_lossy());
        files.push((module, Path::new("modules").join(name)));
    }
    let tree = directory.join("initramfs");
    let mut names = std::collections::BTreeSet::new();
    for (from, place) in &files {
        let to = tree.join(place);
        fs::create_dir_all(to.parent().context("a file has no directory")?)?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        // cpio(5) wants every directory before what is in it.
        names.extend(place.ancestors().filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned));
    }
    fs::write(tree.join("modules/order"), order)?;
    names.insert(PathBuf::from("modules/order"));
    let list: String = names.iter().map(|path| format!("{}\n", path.display())).collect();
    let archive = directory.join("initramfs.cpio");
    let cpio = command(["cpio", "--quiet", "--create", "--format=newc", "--owner=0:0", "--file"]);
    cpio.arg(&archive).stdin(list).directory(&tree).text()?;
    Ok(archive)
}

/// The libraries a program is linked with, the loader among them, by the names under which it looks for them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let answer = command(["ldd"]).arg(program).text()?;
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(answer.lines().filter_map(path).collect())
}
