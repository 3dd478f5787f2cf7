//! A restore takes another way to the same state if something on its way is damaged (FAILURES 29).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pitr::archive::{Archive, CompactOptions, Compactor, LogName, SourceObject, Writer};
use pitr::format::{SourceName, TimelineId, Timestamp};
use pitr::objects::Objects;
use serde_json::Value;

use crate::world::{World, pause};

fn packs(world: &World) -> BTreeSet<String> {
    let listed = Objects::local(world.path("repo")).unwrap().list("packs").unwrap();
    listed.into_iter().map(|entry| entry.path).collect()
}

/// Flips a bit in the middle of a file.
fn harm(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Merges what a watcher stored, as it does itself after a minute. Returns the paths of what was
/// merged.
fn merge(world: &World) -> Vec<String> {
    let objects = Objects::local(world.path("repo")).unwrap();
    let archive = Archive::new(objects, SourceName::new("app").unwrap());
    let writer = Writer::claim(&archive, Timestamp::MIN).unwrap();
    let catalog = archive.catalog().unwrap();
    // All but the first, which nothing comes before: so the log ends with the merged object.
    let count = catalog.logs(TimelineId::FIRST).len() - 1;
    let options = CompactOptions { count, ..CompactOptions::default() };
    let compactor = Compactor::new(writer, &catalog, TimelineId::FIRST, options);
    assert_eq!(compactor.compact().unwrap().unwrap().objects, count);
    let of = |(name, _): &(LogName, u64)| archive.folder().path(&SourceObject::Log(*name));
    archive.catalog().unwrap().replaced().iter().map(of).filter(|path| path.contains("/log/")).collect()
}

fn avoided(answer: &Value) -> Vec<&str> {
    answer["avoided"].as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_str).collect()
}

#[test]
fn an_older_snapshot_and_more_log_lead_to_the_same_state() {
    let mut world = World::new();
    let mut app = world.application();
    let database = world.database().to_string_lossy().into_owned();
    let mut taken = Vec::new();
    for _ in 0..3 {
        app.sql("INSERT INTO t(x) VALUES(randomblob(200000))");
        let before = packs(&world);
        let id = world.done(&["backup", &database])["snapshot_id"].clone();
        taken.push((id, &packs(&world) - &before));
    }
    let copy = world.copy(&mut app);
    let [(first, of_first), (second, of_second), (third, of_third)] = taken.as_slice() else { panic!() };
    let plain = world.restore("latest", &[]).0.json;
    assert_eq!((&plain["snapshot_id"], avoided(&plain)), (third, vec![]));

    let went_around = |from: &Value, packs: &BTreeSet<String>| {
        world.assert_exact("latest", &[], &copy);
        let (answer, _) = world.restore("latest", &[]);
        assert_eq!((answer.code, &answer.json["snapshot_id"]), (0, from), "{}", answer.stderr);
        let last = *avoided(&answer.json).last().unwrap();
        assert!(packs.iter().any(|pack| last.contains(pack)) && answer.stderr.contains(last), "{last}");
    };
    // The newest is damaged, then something that both others need is missing.
    of_third.iter().for_each(|pack| harm(&world.path("repo").join(pack)));
    went_around(second, of_third);
    for way in [&["--delta"][..], &["--delta", "--in-place"]] {
        // Over an earlier state.
        let earlier = world.restored("tx:1", &[]);
        let output = earlier.to_string_lossy().into_owned();
        let answer = world.done(&[&["restore", "--to", "latest", "--output", &output][..], way].concat());
        assert_eq!(avoided(&answer).len(), 1, "{answer}");
        assert_eq!(pitr::exact::compare(&earlier, &copy).unwrap(), None, "{way:?}");
    }
    of_second.iter().for_each(|pack| fs::remove_file(world.path("repo").join(pack)).unwrap());
    went_around(first, of_second);

    // A verification goes around nothing.
    assert_eq!(world.pitr(&["verify", "--level", "restore"]).code, 4);
    // Without another way, the first damage is told.
    of_first.iter().for_each(|pack| harm(&world.path("repo").join(pack)));
    let (refused, output) = world.restore("latest", &[]);
    assert!(refused.code == 4 && !output.exists(), "{}", refused.stderr);
    assert!(refused.stderr.lines().last().unwrap().starts_with("pitr: packs/"), "{}", refused.stderr);
}

#[test]
fn the_parts_of_a_damaged_merged_object_are_read() {
    let mut world = World::new();
    let mut app = world.application();
    let watcher = world.watch();
    for _ in 0..3 {
        app.sql("INSERT INTO t(x) VALUES(randomblob(20000))");
        pause(250);
    }
    let copy = world.copy(&mut app);
    watcher.stop();
    let parts = merge(&world);
    let names = |folder: &str| -> Vec<String> {
        let prefix = format!("sources/app/{folder}");
        let listed = Objects::local(world.path("repo")).unwrap().list(&prefix).unwrap();
        listed.into_iter().map(|entry| entry.path).collect()
    };
    let merged = names("compacted");
    assert!(!merged.is_empty() && parts.len() > 1, "{merged:?} {parts:?}");
    let restorable = || world.done(&["info"])["sources"][0]["restorable"].clone();
    let all = restorable();
    for way in ["a flipped bit", "no footer"] {
        let sound: Vec<_> =
            merged.iter().map(|path| fs::read(world.path("repo").join(path)).unwrap()).collect();
        for path in &merged {
            let path = world.path("repo").join(path);
            match way {
                "no footer" => fs::write(&path, b"cut").unwrap(),
                _ => harm(&path),
            }
        }
        world.assert_exact("latest", &[], &copy);
        let (answer, _) = world.restore("latest", &[]);
        let went_around = avoided(&answer.json);
        assert!(!went_around.is_empty() && went_around.iter().all(|what| what.contains("compacted")));
        assert_eq!(restorable(), all, "{way}");
        let validated = world.pitr(&["restore", "--validate", "--to", "latest"]);
        assert_eq!(validated.code, 4, "a validation goes around nothing");
        // After a prune the parts are gone.
        let aside = world.path("aside");
        fs::create_dir(&aside).unwrap();
        let pruned: Vec<_> = parts
            .iter()
            .zip(0..)
            .map(|(path, number)| (world.path("repo").join(path), aside.join(number.to_string())))
            .collect();
        pruned.iter().for_each(|(path, aside)| fs::rename(path, aside).unwrap());
        let (refused, output) = world.restore("latest", &[]);
        assert!(refused.code == 4 && !output.exists(), "{way}: {}", refused.stderr);
        assert!(merged.iter().any(|path| refused.stderr.contains(path)), "{}", refused.stderr);
        assert_eq!(world.restore("latest", &["--or-before"]).0.code, 4, "not an earlier state");
        pruned.iter().for_each(|(path, aside)| fs::rename(aside, path).unwrap());
        fs::remove_dir(&aside).unwrap();
        for (path, bytes) in merged.iter().zip(sound) {
            fs::write(world.path("repo").join(path), bytes).unwrap();
        }
    }
}
