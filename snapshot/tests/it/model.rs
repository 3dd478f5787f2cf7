//! A simple model of file contents, with what a log would know about the changes.

use crate::Noise;
use pitr_format::FileId;
use pitr_snapshot::{BlockSource, BoxError, Delta, EXTENT_BYTES, FileShape, ImageSink, Result};
use pitr_tracker::{BlockSize, ChangeSet};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;

#[derive(Debug, Clone)]
pub(crate) struct ModelFile {
    pub(crate) len: u64,
    pub(crate) block_bytes: u32,
    blocks: BTreeMap<u64, Vec<u8>>,
    dirty: BTreeSet<u64>,
    len_min: u64,
    len_before: u64,
    /// Extents that ever held data, and their neighbours.
    pub(crate) touched: BTreeSet<u64>,
}

impl ModelFile {
    pub(crate) fn new(block_bytes: u32) -> Self {
        ModelFile {
            len: 0,
            block_bytes,
            blocks: BTreeMap::new(),
            dirty: BTreeSet::new(),
            len_min: 0,
            len_before: 0,
            touched: BTreeSet::new(),
        }
    }

    /// A new file in place of one with the same number, which had this length at the last mark:
    /// that one was cut to nothing.
    pub(crate) fn in_place_of(len_before: u64, block_bytes: u32) -> Self {
        ModelFile { len_before, ..ModelFile::new(block_bytes) }
    }

    fn size(&self) -> u64 {
        u64::from(self.block_bytes)
    }

    pub(crate) fn blocks_in_len(&self) -> u64 {
        self.len.div_ceil(self.size())
    }

    /// Writes a whole block within the file's length.
    pub(crate) fn write(&mut self, block: u64, mut bytes: Vec<u8>) {
        let start = block * self.size();
        assert!(start < self.len);
        let within = (self.len - start).min(self.size()) as usize;
        bytes[within..].fill(0);
        self.blocks.insert(block, bytes);
        self.dirty.insert(block);
        let extent = start / EXTENT_BYTES;
        self.touched.extend(extent.saturating_sub(1)..=extent + 1);
    }

    pub(crate) fn set_len(&mut self, len: u64) {
        let size = self.size();
        if len < self.len {
            self.len_min = self.len_min.min(len);
            let first_gone = len.div_ceil(size);
            self.blocks.split_off(&first_gone);
            self.dirty.split_off(&first_gone);
            if let Some(cut) = self.blocks.get_mut(&(len / size)) {
                cut[(len % size) as usize..].fill(0);
            }
        }
        self.len = len;
        let extent = len / EXTENT_BYTES;
        self.touched.extend(extent.saturating_sub(1)..=extent + 1);
    }

    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) {
        buf.fill(0);
        let size = self.size();
        let end = offset + buf.len() as u64;
        for (block, bytes) in self.blocks.range(offset / size..end.div_ceil(size)) {
            let start = block * size;
            let (from, to) = (start.max(offset), (start + size).min(end));
            buf[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
        }
    }

    pub(crate) fn extent(&self, extent: u64) -> Vec<u8> {
        let start = extent * EXTENT_BYTES;
        let mut bytes = vec![0; self.len.saturating_sub(start).min(EXTENT_BYTES) as usize];
        self.read(start, &mut bytes);
        bytes
    }

    /// A snapshot was taken. Changes are counted from here.
    fn mark(&mut self) {
        self.dirty.clear();
        (self.len_min, self.len_before) = (self.len, self.len);
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) files: BTreeMap<FileId, ModelFile>,
}

impl Model {
    pub(crate) fn one(block_bytes: u32, len: u64) -> Self {
        let mut file = ModelFile::new(block_bytes);
        file.set_len(len);
        Model { files: [(crate::FILE, file)].into() }
    }

    pub(crate) fn file(&mut self) -> &mut ModelFile {
        self.files.get_mut(&crate::FILE).unwrap()
    }

    pub(crate) fn mark(&mut self) {
        self.files.values_mut().for_each(ModelFile::mark);
    }

    /// A source that knows the changes of some files since the last mark.
    pub(crate) fn reporting(&self, reports: impl Fn(FileId) -> bool) -> ReportingModel<'_> {
        let mut changes = ChangeSet::new();
        let reported: BTreeSet<FileId> = self.files.keys().copied().filter(|file| reports(*file)).collect();
        for (file, model) in self.files.iter().filter(|(file, _)| reported.contains(file)) {
            let size = BlockSize::new(model.block_bytes).unwrap();
            // The growth of a file need not be reported.
            let had = model.len_before.div_ceil(model.size());
            model.dirty.range(..had).for_each(|block| changes.mark(*file, size, *block));
            if model.len_min < model.len_before {
                changes.set_length(*file, model.len_min);
            }
        }
        let len_before = self.files.iter().map(|(file, model)| (*file, model.len_before)).collect();
        ReportingModel { model: self, changes, reported, len_before, read: Mutex::default() }
    }

    /// The changes since the last mark, in order or shuffled.
    pub(crate) fn delta(&self, shuffle: Option<u64>) -> ModelDelta<'_> {
        ModelDelta { model: self, shuffle }
    }
}

impl BlockSource for Model {
    fn files(&self) -> Vec<FileShape> {
        let shape = |(file, model): (&FileId, &ModelFile)| FileShape {
            file: *file,
            name: format!("file-{file}"),
            len: model.len,
            block_bytes: model.block_bytes,
        };
        self.files.iter().map(shape).collect()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let file = self.files.get(&file).ok_or("no such file")?;
        if offset + buf.len() as u64 > file.len {
            return Err("past the end".into());
        }
        file.read(offset, buf);
        Ok(())
    }
}

/// A model that reports changes, and records the reads of the files with known changes.
pub(crate) struct ReportingModel<'a> {
    model: &'a Model,
    changes: ChangeSet,
    reported: BTreeSet<FileId>,
    len_before: BTreeMap<FileId, u64>,
    read: Mutex<Vec<(FileId, u64, usize)>>,
}

impl ReportingModel<'_> {
    /// Panics if anything was read except changed blocks and extents of which at least half
    /// changed.
    pub(crate) fn check_read(&self) {
        for (file, offset, len) in self.read.lock().unwrap().iter() {
            let (model, end) = (&self.model.files[file], offset + *len as u64);
            let size = BlockSize::new(model.block_bytes).unwrap();
            let changed: BTreeSet<u64> = self.changes.blocks(*file, size, model.len).collect();
            let (grown, per_extent) = (self.len_before[file], EXTENT_BYTES / model.size());
            let missing = |blocks: Range<u64>| blocks.filter(|block| !changed.contains(block)).count() as u64;
            let blocks = offset / model.size()..end.div_ceil(model.size());
            let of_extent = |first: u64| first..(first + per_extent).min(model.blocks_in_len());
            if blocks.start % per_extent > 0 || blocks.end < of_extent(blocks.start).end {
                assert_eq!(missing(blocks.clone()), 0, "{file}: {blocks:?} of {changed:?}");
                let extent = of_extent(blocks.start / per_extent * per_extent);
                let there = extent.end - extent.start - missing(extent);
                assert!(there * 2 <= per_extent, "{file}: {blocks:?} of {changed:?}, by itself");
                continue;
            }
            for first in blocks.clone().step_by(per_extent as usize) {
                let of_extent = of_extent(first);
                let has_grown = of_extent.end * model.size() > grown;
                assert!(
                    has_grown || missing(of_extent) * 2 < per_extent,
                    "{file}: {blocks:?} of {changed:?}"
                );
            }
        }
    }
}

impl BlockSource for ReportingModel<'_> {
    fn files(&self) -> Vec<FileShape> {
        self.model.files()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        if self.reported.contains(&file) {
            self.read.lock().unwrap().push((file, offset, buf.len()));
        }
        self.model.read_at(file, offset, buf)
    }

    fn changes(&self, file: FileId) -> Option<&ChangeSet> {
        self.reported.contains(&file).then_some(&self.changes)
    }
}

pub(crate) struct ModelDelta<'a> {
    model: &'a Model,
    shuffle: Option<u64>,
}

impl Delta for ModelDelta<'_> {
    fn files(&self) -> Vec<FileShape> {
        BlockSource::files(self.model)
    }

    fn zeroed_from(&self, file: FileId) -> u64 {
        self.model.files[&file].len_min
    }

    fn for_each_image(&mut self, sink: ImageSink<'_>) -> Result<()> {
        let mut images: Vec<(FileId, u64)> = Vec::new();
        for (file, model) in &self.model.files {
            images.extend(model.dirty.iter().map(|block| (*file, *block)));
        }
        if let Some(seed) = self.shuffle {
            let mut noise = Noise::new(seed);
            for at in (1..images.len()).rev() {
                images.swap(at, noise.below(at as u64 + 1) as usize);
            }
        }
        images
            .into_iter()
            .try_for_each(|(file, block)| sink(file, block, &self.model.files[&file].blocks[&block]))
    }
}
