//! The content of a simulated file, in pages that copies share until one is written.

use std::sync::Arc;

/// Size of a sector, the unit that a disk writes atomically, bytes.
pub const SECTOR_BYTES: usize = 512;

const PAGE_BYTES: usize = 4096;
type Page = [u8; PAGE_BYTES];

/// The content of a file. Pages of zeros take no memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    len: u64,
    pages: Vec<Option<Arc<Page>>>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Copies bytes at `offset` into `buf`. Returns their number.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let len = buf.len().min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        for (place, part) in parts(offset, len) {
            let to = &mut buf[part];
            match self.pages.get(place.page) {
                Some(Some(page)) => to.copy_from_slice(&page[place.from..place.from + to.len()]),
                _ => to.fill(0),
            }
        }
        len
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.len = self.len.max(offset + bytes.len() as u64);
        for (place, part) in parts(offset, bytes.len()) {
            let from = &bytes[part];
            if self.pages.len() <= place.page {
                self.pages.resize(place.page + 1, None);
            }
            let page = &mut self.pages[place.page];
            if page.is_none() && from.iter().all(|byte| *byte == 0) {
                continue;
            }
            let page = Arc::make_mut(page.get_or_insert_with(|| Arc::new([0; PAGE_BYTES])));
            page[place.from..place.from + from.len()].copy_from_slice(from);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (page, from) = ((len / PAGE_BYTES as u64) as usize, (len % PAGE_BYTES as u64) as usize);
            self.pages.truncate(page + usize::from(from > 0));
            if let (true, Some(Some(last))) = (from > 0, self.pages.get_mut(page)) {
                Arc::make_mut(last)[from..].fill(0);
            }
        }
        self.len = len;
    }
}

struct Place {
    page: usize,
    from: usize,
}

/// Splits a range by pages. Returns for each page the place in it and the part of the range.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (Place, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let place =
            Place { page: (at / PAGE_BYTES as u64) as usize, from: (at % PAGE_BYTES as u64) as usize };
        let part = done..len.min(done + PAGE_BYTES - place.from);
        done = part.end;
        (!part.is_empty()).then_some((place, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_content_behaves_like_a_vector(ops in prop::collection::vec((0u64..20_000, prop::collection::vec(any::<u8>(), 0..9_000), any::<bool>()), 0..12)) {
            let (mut content, mut model) = (Content::default(), Vec::new());
            for (offset, bytes, cut) in ops {
                let before = content.clone();
                if cut {
                    content.set_len(offset);
                    model.resize(offset as usize, 0);
                } else if !bytes.is_empty() {
                    content.write(&bytes, offset);
                    model.resize(model.len().max(offset as usize + bytes.len()), 0);
                    model[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
                }
                let mut read = vec![1; model.len() + 10];
                prop_assert_eq!(content.read(&mut read, 0), model.len());
                prop_assert_eq!(&read[..model.len()], &model[..]);
                drop(before);
            }
        }
    }
}
