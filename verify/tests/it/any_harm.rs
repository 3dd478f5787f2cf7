//! A law: whatever one change does to one object of a random repository, it is found.

use crate::world::World;
use pitr_testkit::{files_below, noise};
use pitr_verify::{Options, verify};
use proptest::prelude::*;
use proptest::sample::Index;
use std::fs;
use std::path::Path;

/// What happens to an object.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// One bit of a byte changes.
    Flip(Index, u8),
    /// The end is lost.
    Cut(Index),
    /// The object is lost.
    Remove,
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        4 => (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        3 => any::<Index>().prop_map(Harm::Cut),
        2 => Just(Harm::Remove),
    ]
}

fn inflict(harm: Harm, path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    assert!(!bytes.is_empty(), "no object is empty");
    match harm {
        Harm::Flip(at, bit) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Harm::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Harm::Remove => return fs::remove_file(path).unwrap(),
    }
    fs::write(path, bytes).unwrap();
}

fn is_sound(world: &World, deep: bool) -> bool {
    // A repository that can't be opened is found too.
    let opened = world.open().ok();
    opened.is_some_and(|objects| {
        let options = if deep { Options::deep() } else { Options::default() };
        verify(&objects, options, &|_| {}).is_ok_and(|report| report.is_sound())
    })
}

/// True if the rest of the repository tells nothing of this object: then its loss is not visible.
/// The last object of a log and the root of a snapshot are such objects, and chunks never are.
fn may_go_unnoticed(object: &str, all: &[String]) -> bool {
    let is_of_chunks = object.starts_with("packs/") || object.starts_with("index/");
    let folder = object.rsplit_once('/').map_or("", |(folder, _)| folder);
    let is_within_a_log = object.contains("/log/")
        && all.iter().any(|other| other.starts_with(folder) && other.as_str() > object);
    !is_of_chunks && !is_within_a_log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn one_change_of_any_object_is_found(
        encrypted: bool, deep: bool,
        contents in prop::collection::vec((0_u64..1000, 0_usize..24), 1..4),
        transactions in 0_u64..9, which: Index, harm in harm(),
    ) {
        // FAILURES 29, FAILURES 55
        let contents: Vec<Vec<u8>> =
            contents.into_iter().map(|(seed, blocks)| noise(seed, blocks * 4096)).collect();
        let world = World::of(encrypted, &contents, transactions);
        prop_assert!(is_sound(&world, deep), "before");
        let root = world.repository();
        let paths = files_below(&root);
        let names: Vec<String> = paths.iter()
            .map(|path| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned()).collect();
        let which = which.index(paths.len());
        inflict(harm, &paths[which]);
        let (object, found) = (&names[which], !is_sound(&world, deep));
        let is_silent = matches!(harm, Harm::Remove) && may_go_unnoticed(object, &names);
        prop_assert!(found || is_silent, "{object}: {harm:?} is not found");
        // What is not found spoils no snapshot, except that it may be the root of one.
        if !found {
            for (no, (_, manifest, _)) in world.contents.iter().enumerate() {
                let is_its_root = *object == manifest.snapshot.path(&world.open().unwrap());
                prop_assert!(world.reads(no) || is_its_root, "{object} spoils snapshot {no}");
            }
        }
    }
}
