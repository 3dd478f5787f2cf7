//! Encodes footers.

use super::{CutRecord, FileImages, Footer, MarkKind, RECORD_HEAD_BYTES, zigzag};
use pitr_format::Lsn;
use pitr_format::bytes::Put;

impl Footer {
    /// The footer's bytes: sorted columns as differences, so that they compress well.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.image_count() * 5 + self.commits.len() * 12);
        out.put_u16(super::FOOTER_VERSION);
        let flags = [
            self.gap,
            self.cut.is_some(),
            self.before.is_some(),
            self.step_before.is_some(),
            !self.logical.is_empty(),
            !self.checkpoints.is_empty(),
            self.checkpoint_before.is_some(),
        ];
        out.put_u8(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)));
        out.put_u8(self.segment_size.bytes().trailing_zeros() as u8);
        out.put_varint(self.timeline.get().into());
        out.put_varint(self.epoch.get());
        out.put_varint(self.from.get());
        out.put_varint(self.to.since(self.from));
        out.put(&self.log_id);
        out.put_i64(self.watermark.micros());
        if let Some(before) = &self.before {
            out.put_varint(before.tx.get());
            out.put_varint(before.lsn.get());
            out.put_i64(before.time.micros());
        }
        if let Some(step) = self.step_before {
            out.put_varint(step.get());
        }
        if let Some(checkpoint) = self.checkpoint_before {
            out.put_varint(checkpoint.get());
        }
        self.put_frames(&mut out);
        self.put_commits(&mut out);
        out.put_varint(self.files.len() as u64);
        self.files.iter().for_each(|file| put_images(&mut out, self.from, file));
        self.put_spans(&mut out);
        self.put_set_lengths(&mut out);
        self.put_marks(&mut out);
        out.put_varint(self.partitions.len() as u64);
        self.partitions.iter().for_each(|p| out.put_varint(p.get().into()));
        self.put_open(&mut out);
        if let Some(cut) = &self.cut {
            put_cut(&mut out, self.to, cut);
        }
        if !self.logical.is_empty() {
            self.put_logical(&mut out);
        }
        if !self.checkpoints.is_empty() {
            self.put_checkpoints(&mut out);
        }
        out
    }

    fn put_frames(&self, out: &mut Vec<u8>) {
        out.put_varint(self.frames.len() as u64);
        let mut before = self.from;
        for frame in &self.frames {
            out.put_varint(frame.lsn.since(before));
            out.put_varint(frame.incarnation.get().into());
            before = frame.lsn;
        }
    }

    fn put_commits(&self, out: &mut Vec<u8>) {
        out.put_varint(self.commits.len() as u64);
        let (mut tx, mut lsn, mut time) = (0, self.from, 0);
        for commit in &self.commits {
            out.put_varint(zigzag(commit.tx.get().wrapping_sub(tx) as i64));
            out.put_varint(commit.lsn.since(lsn));
            out.put_varint(zigzag(commit.time.micros().wrapping_sub(time)));
            out.put_varint(commit.time.micros().wrapping_sub(commit.earliest.micros()) as u64);
            out.put_varint(commit.lsn.since(commit.first_lsn));
            out.put_varint(commit.blocks);
            out.put_varint(commit.bytes);
            (tx, lsn, time) = (commit.tx.get(), commit.lsn, commit.time.micros());
        }
    }

    fn put_spans(&self, out: &mut Vec<u8>) {
        out.put_varint(self.spans.len() as u64);
        for span in &self.spans {
            out.put_varint(self.to.since(span.end));
            out.put_varint(span.end.since(span.lsn));
        }
    }

    fn put_set_lengths(&self, out: &mut Vec<u8>) {
        out.put_varint(self.set_lengths.len() as u64);
        for entry in &self.set_lengths {
            out.put_varint(self.to.since(entry.lsn));
            out.put_varint(entry.file.get().into());
            out.put_varint(entry.len);
            out.put_varint(entry.tx.get());
        }
    }

    fn put_marks(&self, out: &mut Vec<u8>) {
        out.put_varint(self.marks.len() as u64);
        for mark in &self.marks {
            out.put_varint(self.to.since(mark.lsn));
            let (kind, a, b) = match mark.what {
                MarkKind::ClockStep { from, to } => (0, from, to),
                MarkKind::Gap { reason, since, until } => (reason as u8, since, until),
            };
            out.put_u8(kind);
            out.put_i64(a.micros());
            out.put_i64(b.micros());
        }
    }

    fn put_logical(&self, out: &mut Vec<u8>) {
        out.put_varint(self.logical.len() as u64);
        for entry in &self.logical {
            out.put_varint(self.to.since(entry.lsn));
            out.put_varint(entry.tx.get());
            out.put_varint(entry.partition.get().into());
        }
    }

    fn put_checkpoints(&self, out: &mut Vec<u8>) {
        out.put_varint(self.checkpoints.len() as u64);
        for entry in &self.checkpoints {
            out.put_varint(self.to.since(entry.end));
            out.put_varint(entry.end.since(entry.lsn));
            out.put_varint(entry.lsn.since(entry.redo_from));
            out.put_varint(entry.bytes);
        }
    }

    fn put_open(&self, out: &mut Vec<u8>) {
        out.put_varint(self.open.len() as u64);
        for open in &self.open {
            out.put_varint(open.tx.get());
            out.put_varint(self.to.since(open.first_lsn));
            out.put_varint(open.blocks);
            out.put_varint(open.bytes);
        }
    }
}

fn put_images(out: &mut Vec<u8>, from: Lsn, file: &FileImages) {
    out.put_varint(file.file.get().into());
    out.put_varint(file.block_bytes.into());
    out.put_varint(file.images.len() as u64);
    let (mut block, mut lsn, mut tx) = (0u64, from.get(), 0u64);
    for image in &file.images {
        out.put_varint(image.block.wrapping_sub(block));
        out.put_varint(zigzag(image.lsn.get().wrapping_sub(lsn) as i64));
        out.put_varint(zigzag(image.tx.get().wrapping_sub(tx) as i64));
        (block, lsn, tx) = (image.block, image.lsn.get(), image.tx.get());
    }
}

fn put_cut(out: &mut Vec<u8>, to: Lsn, cut: &CutRecord) {
    out.put_varint(to.since(cut.lsn));
    out.put_u8(cut.kind);
    out.put_varint(cut.partition.get().into());
    out.put_varint(cut.tx.get());
    out.put_varint(cut.total_len.into());
    out.put_varint(cut.seen.into());
    let head = RECORD_HEAD_BYTES.min(cut.seen as usize);
    out.put(&cut.head[..head]);
}
