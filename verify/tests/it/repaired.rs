//! Repair from a copy.

use crate::world::World;
use pitr_objects::{Location, Objects};
use pitr_testkit::{copy_folder, files_below};
use pitr_verify::{Options, Outcome, RepairOptions, Repaired, Report, repair, verify};
use std::fs;
use std::path::PathBuf;

fn report(world: &World) -> Report {
    verify(&world.open().unwrap(), Options::deep(), &|_| {}).unwrap()
}

fn repaired(world: &World, of_copy: Option<&Objects>, set_aside: bool, execute: bool) -> Vec<Repaired> {
    let options = RepairOptions { copy: of_copy, set_aside, execute };
    repair(&world.open().unwrap(), &report(world), options).unwrap()
}

#[test]
fn every_kind_of_object_heals_from_a_copy() {
    // FAILURES 29
    for encrypted in [false, true] {
        let world = World::new(encrypted);
        let replica = World::new(encrypted); // only its folder is used
        fs::remove_dir_all(replica.repository()).unwrap();
        copy_folder(&world.repository(), &replica.repository());
        let of_copy = replica.open().unwrap();
        let root = world.repository();
        let mut healed = 0;
        for path in files_below(&root) {
            let object = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            if object == "repository" || object.starts_with("keys/") || object.starts_with("leases/") {
                continue;
            }
            let sound = fs::read(&path).unwrap();
            let mut harmed = sound.clone();
            harmed[sound.len() / 2] ^= 4;
            fs::write(&path, &harmed).unwrap();
            let plan = repaired(&world, Some(&of_copy), false, false);
            let expected = [Repaired { object: object.clone(), outcome: Outcome::Healed }];
            assert_eq!(plan, expected, "{object}");
            assert!(fs::read(&path).unwrap() == harmed, "a dry run changes nothing");
            assert_eq!(repaired(&world, Some(&of_copy), false, true), expected);
            assert!(fs::read(&path).unwrap() == sound, "{object}");
            assert!(report(&world).is_sound());
            healed += 1;
            let kept: Vec<PathBuf> = files_below(&root.join("quarantine"));
            assert!(kept.len() == healed && kept.iter().any(|kept| fs::read(kept).unwrap() == harmed));
        }
        assert!(healed > 10, "{healed}");
        assert!((0..world.contents.len()).all(|no| world.reads(no)));
    }
}

#[test]
fn a_missing_pack_comes_back_and_a_damaged_copy_is_refused() {
    let world = World::new(false);
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    copy_folder(&world.repository(), &copy);
    let of_copy = Objects::open(&Location::Folder(copy.clone()), world.open().unwrap().env()).unwrap();
    of_copy.open_repository().unwrap();
    let path = files_below(&world.repository().join("packs")).remove(0);
    let object = path.strip_prefix(world.repository()).unwrap();
    let sound = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let in_copy = copy.join(object);
    let mut harmed = sound.clone();
    harmed[80] ^= 1;
    fs::write(&in_copy, harmed).unwrap();
    let outcome = |done: Vec<Repaired>| done.into_iter().map(|one| one.outcome).next();
    assert!(matches!(
        outcome(repaired(&world, Some(&of_copy), true, true)),
        Some(Outcome::CopyDamaged { .. })
    ));
    assert!(!path.exists());
    fs::write(&in_copy, &sound).unwrap();
    assert_eq!(outcome(repaired(&world, Some(&of_copy), false, true)), Some(Outcome::Healed));
    assert!(report(&world).is_sound() && fs::read(&path).unwrap() == sound);
}

#[test]
fn without_a_copy_only_data_is_set_aside() {
    let world = World::new(false);
    let pack = files_below(&world.repository().join("packs")).remove(0);
    let root = files_below(&world.repository().join("sources"));
    let root = root.into_iter().find(|path| path.to_string_lossy().contains("/snapshots/")).unwrap();
    for path in [&pack, &root] {
        let mut bytes = fs::read(path).unwrap();
        bytes[40] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let outcomes = |set_aside, execute| -> Vec<Outcome> {
        repaired(&world, None, set_aside, execute).into_iter().map(|one| one.outcome).collect()
    };
    assert_eq!(outcomes(false, true), [Outcome::NoCopy, Outcome::NoCopy]);
    assert!(pack.exists() && root.exists());
    assert_eq!(outcomes(true, true), [Outcome::SetAside, Outcome::NoCopy]);
    assert!(!pack.exists() && root.exists());
    assert_eq!(files_below(&world.repository().join("quarantine")).len(), 1);
}
