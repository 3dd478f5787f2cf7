//! Frames and the object container: how pitr's bytes are compressed, bounded and checked.
