//! `pitr repair`.

use std::fs;

use crate::world::World;
use pitr::objects::Objects;
use pitr_testkit::copy_folder;

/// Inverts a bit of the largest pack. Returns its path in the repository.
fn harm(world: &World) -> String {
    let packs = Objects::local(world.path("repo")).unwrap().list("packs").unwrap();
    let pack = packs.into_iter().max_by_key(|entry| entry.size).unwrap().path;
    let path = world.path("repo").join(&pack);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    pack
}

#[test]
fn damage_heals_from_a_copy_and_the_restore_is_exact() {
    // FAILURES 29
    let mut world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(200000))");
    let state = world.copy(&mut app);
    world.done(&["backup", &world.database().to_string_lossy()]);
    let (at, other) = (world.path("copy"), World::new());
    copy_folder(&world.path("repo"), &at);
    let repair = |more: &[&str]| world.pitr(&[&["repair"], more].concat());
    let from = ["--from", &at.to_string_lossy()].map(str::to_owned);
    let from = from.each_ref().map(String::as_str);
    assert_eq!((repair(&from).code, repair(&from).json["faults"].as_u64()), (0, Some(0)));

    let pack = harm(&world);
    assert_eq!(world.pitr(&["verify"]).code, 4);
    let plan = repair(&from);
    assert_eq!((plan.code, plan.json["dry_run"].as_bool()), (0, Some(true)), "{}", plan.stderr);
    assert_eq!(plan.json["objects"][0]["object"], pack.as_str());
    assert_eq!(world.pitr(&["verify"]).code, 4, "a dry run changes nothing");
    let done = repair(&[&from[..], &["--execute"]].concat());
    assert_eq!(
        (done.code, done.json["objects"][0]["outcome"].as_str()),
        (0, Some("healed")),
        "{}",
        done.stderr
    );
    assert_eq!(world.done(&["verify", "--deep"])["strangers"].as_array().unwrap().len(), 0);
    world.assert_exact("latest", &[], &state);
    assert_eq!(fs::read_dir(world.path("repo/quarantine")).unwrap().count(), 1);

    let refused = repair(&["--from", &other.path("repo").to_string_lossy()]);
    assert!(refused.code == 2 && refused.stderr.contains("another repository"), "{}", refused.stderr);
    assert_eq!(repair(&[]).code, 2);
}

#[test]
fn without_a_copy_a_full_backup_of_the_live_database_heals() {
    let mut world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(200000))");
    let state = world.copy(&mut app);
    let database = world.database();
    world.done(&["backup", &database.to_string_lossy()]);
    let pack = harm(&world);
    assert_eq!(world.pitr(&["repair", "--set-aside"]).code, 4);
    assert!(world.path("repo").join(&pack).exists(), "a dry run changes nothing");
    let aside = world.pitr(&["repair", "--set-aside", "--execute"]);
    assert_eq!((aside.code, aside.json["objects"][0]["outcome"].as_str()), (4, Some("set-aside")));
    assert_eq!(aside.json["lost"][0]["object"], pack.as_str());
    assert!(aside.stderr.contains("backup --full"), "{}", aside.stderr);
    let out = world.path("refused.db");
    assert_eq!(world.pitr(&["restore", "--to", "latest", "--output", &out.to_string_lossy()]).code, 4);
    world.done(&["backup", "--full", &database.to_string_lossy()]);
    world.assert_exact("latest", &[], &state);
}
