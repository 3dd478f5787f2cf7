//! The file `SPARE`: copies of the pages of logical tables that a checkpoint writes.
//!
//! A power loss can tear a page while it is written. The log repairs a page of a physical table,
//! because it has an image of it. It has only rows of a logical table, which need a page to change.
//! So a checkpoint writes copies of these pages first, and syncs them. Opening the store takes a
//! copy if the page in the table's file is torn. A copy states its table and number, as every page.

use crate::error::{Error, Result};
use crate::page::{self, PAGE_BYTES, Page};
use crate::state::PageId;
use crate::store::TableId;
use pitr_format::FileId;
use pitr_vfs::{Access, FileSystem};
use std::collections::BTreeMap;
use std::path::Path;

const NAME: &str = "SPARE";

/// Writes the copies. Durable on return. The earlier copies are not needed any more: their pages
/// are durable in the tables.
pub(crate) fn write<'a>(
    fs: &dyn FileSystem,
    dir: &Path,
    pages: impl Iterator<Item = &'a Page>,
) -> Result<()> {
    let path = dir.join(NAME);
    let is_there = fs.exists(&path).map_err(Error::io("look for", &path))?;
    let file = if is_there { fs.open(&path, Access::ReadWrite) } else { fs.create_new(&path) };
    let file = file.map_err(Error::io("open", &path))?;
    let mut end = 0;
    for page in pages {
        file.write_all_at(page, end).map_err(Error::io("write", &path))?;
        end += PAGE_BYTES as u64;
    }
    file.set_len(end).and_then(|()| file.sync_all()).map_err(Error::io("sync", &path))?;
    match is_there {
        true => Ok(()),
        false => fs.sync_dir(dir).map_err(Error::io("sync", dir)),
    }
}

/// The valid copies.
pub(crate) fn read(fs: &dyn FileSystem, dir: &Path) -> Result<BTreeMap<PageId, Page>> {
    let path = dir.join(NAME);
    if !fs.exists(&path).map_err(Error::io("look for", &path))? {
        return Ok(BTreeMap::new());
    }
    let file = fs.open(&path, Access::Read).map_err(Error::io("open", &path))?;
    let pages = file.len().map_err(Error::io("measure", &path))? / PAGE_BYTES as u64;
    let mut found = BTreeMap::new();
    for copy in 0..pages {
        let mut page = vec![0; PAGE_BYTES];
        file.read_exact_at(&mut page, copy * PAGE_BYTES as u64).map_err(Error::io("read", &path))?;
        let (file, number) = page::place(&page);
        // A torn copy is not used: then the page itself is whole.
        if page::check(&page, file, number).is_ok() && file != FileId::new(0) {
            found.insert((TableId::new(file), number), page.into());
        }
    }
    Ok(found)
}
