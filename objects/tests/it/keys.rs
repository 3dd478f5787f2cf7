//! Encrypted repositories: keys, and changes by other processes.

use pitr_codec::{Codec, CodecError, KeyWrap, ObjectKind, RawKey, Secret};
use pitr_format::{SourceName, Timestamp};
use pitr_objects::object_store::memory::InMemory;
use pitr_objects::*;
use std::sync::Arc;

const NOW: Timestamp = Timestamp::from_micros(5);

fn key(byte: u8) -> RawKey {
    RawKey(Secret::new([byte; 32]))
}

fn open(shared: &Arc<InMemory>, by: &dyn KeyWrap) -> Result<Objects> {
    let objects = Objects::with_store(shared.clone())?;
    let repository = objects.open_repository()?;
    objects.unlock(&repository, &[by])?;
    Ok(objects)
}

fn made() -> (Arc<InMemory>, Objects) {
    let shared = Arc::new(InMemory::new());
    let objects = Objects::with_store(shared.clone()).unwrap();
    assert!(objects.init_encrypted(NOW, &key(1)).unwrap().encrypted);
    (shared, objects)
}

fn put(objects: &Objects, path: &str, footer: &[u8]) -> Result<()> {
    let builder = objects.builder(path, ObjectKind::Claim, Codec::None)?;
    objects.put_container(path, ObjectKind::Claim, builder.finish(footer).unwrap()).map(drop)
}

#[test]
fn a_key_made_by_another_process_is_found() {
    // FAILURES 35
    let (shared, ours) = made();
    let theirs = open(&shared, &key(1)).unwrap();
    assert_eq!(theirs.rotate_keys().unwrap(), 2);
    put(&theirs, "a", b"new key").unwrap();
    assert_eq!(ours.get_footer("a", ObjectKind::Claim).unwrap(), b"new key");
    // Both processes rotate without knowing the other's key.
    assert_eq!((ours.rotate_keys().unwrap(), theirs.rotate_keys().unwrap()), (3, 4));
    put(&ours, "b", b"third").unwrap();
    put(&theirs, "c", b"fourth").unwrap();
    for objects in [&ours, &theirs, &open(&shared, &key(1)).unwrap()] {
        assert_eq!(objects.get_footer("b", ObjectKind::Claim).unwrap(), b"third");
        assert_eq!(objects.get_footer("c", ObjectKind::Claim).unwrap(), b"fourth");
    }
}

#[test]
fn only_the_key_of_a_slot_opens_the_repository() {
    // FAILURES 35
    let (shared, objects) = made();
    let slot = objects.add_key_slot(NOW, &key(2)).unwrap();
    assert!(open(&shared, &key(2)).is_ok());
    let wrong = open(&shared, &key(3)).unwrap_err();
    assert!(matches!(&wrong, Error::Keys { source: CodecError::WrongKey { slots: 2 }, .. }), "{wrong}");
    assert_eq!(wrong.kind(), ErrorKind::Key);
    objects.remove_key_slot(&slot.to_string()).unwrap();
    assert!(open(&shared, &key(2)).is_err());
    let last = objects.key_slots().unwrap().remove(0).id;
    assert!(matches!(objects.remove_key_slot(&last.to_string()), Err(Error::LastSlot { .. })));
    assert!(matches!(objects.remove_key_slot(&slot.to_string()), Err(Error::NoSlot { .. })));
}

#[test]
fn nothing_is_written_unencrypted_by_mistake() {
    let (shared, _) = made();
    let locked = Objects::with_store(shared.clone()).unwrap();
    locked.open_repository().unwrap();
    assert!(matches!(put(&locked, "a", b"x"), Err(Error::Locked { .. })));
    // An object of a process without the key is refused.
    let outsider = Objects::with_store(shared.clone()).unwrap();
    put(&outsider, "forged", b"x").unwrap();
    let refused = open(&shared, &key(1)).unwrap().get_footer("forged", ObjectKind::Claim).unwrap_err();
    assert!(matches!(refused, Error::Object { source: CodecError::NotEncrypted { .. }, .. }), "{refused}");

    let plain = Objects::memory().unwrap();
    let repository = plain.init_repository(NOW).unwrap();
    assert!(matches!(plain.unlock(&repository, &[&key(1)]), Err(Error::NotEncrypted { .. })));
}

#[test]
fn an_object_is_valid_only_under_its_own_path() {
    // FAILURES 29: swapped objects.
    let (shared, objects) = made();
    put(&objects, "here", b"x").unwrap();
    let bytes = objects.get("here").unwrap();
    objects.put_new("there", bytes).unwrap();
    let refused = open(&shared, &key(1)).unwrap().get_footer("there", ObjectKind::Claim).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
}

#[test]
fn names_of_sources_are_listed_and_hidden() {
    let (shared, objects) = made();
    let names: Vec<SourceName> = ["shop", "users"].map(|name| SourceName::new(name).unwrap()).to_vec();
    for name in names.iter().chain(&names) {
        objects.register_source(name).unwrap();
    }
    let again = open(&shared, &key(1)).unwrap();
    assert_eq!(again.sources().unwrap(), names);
    assert_eq!(again.source_folder(&names[0]), objects.source_folder(&names[0]));
    let listed = again.list("").unwrap();
    assert!(listed.iter().all(|entry| !entry.path.contains("shop") && !entry.path.contains("users")));
    let (_, other) = made();
    assert_ne!(other.source_folder(&names[0]), objects.source_folder(&names[0]));
}

#[test]
fn keys_of_an_interrupted_init_open_nothing() {
    // FAILURES 23: slots and rings of one init, then the repository object of another.
    let (shared, first) = made();
    let store = Arc::new(InMemory::new());
    for entry in first.list("keys").unwrap() {
        let copy = Objects::with_store(store.clone()).unwrap();
        copy.put_new(&entry.path, first.get(&entry.path).unwrap()).unwrap();
    }
    let second = Objects::with_store(store.clone()).unwrap();
    second.init_encrypted(NOW, &key(9)).unwrap();
    assert!(open(&store, &key(9)).is_ok() && open(&store, &key(1)).is_err());
    assert_eq!(second.key_slots().unwrap().len(), 1);
    assert!(open(&shared, &key(1)).is_ok());
}
