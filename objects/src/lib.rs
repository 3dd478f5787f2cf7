//! Create-only, verified access to a repository's objects over object_store.
