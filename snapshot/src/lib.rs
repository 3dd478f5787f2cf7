//! Full and incremental block snapshots over a chunk store.
