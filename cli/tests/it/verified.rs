//! `pitr verify`.

use std::fs;

use crate::world::World;
use pitr::codec::{Codec, ObjectKind};
use pitr::dedup::{ChunkId, PieceSum};
use pitr::objects::Objects;

#[test]
fn a_fault_ends_with_4_and_names_the_affected_snapshots() {
    // FAILURES 29
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(200000))");
    let taken = world.done(&["backup", &world.database().to_string_lossy()]);
    let sound = world.done(&["verify", "--deep"]);
    assert_eq!((sound["ok"].as_bool(), sound["failures"].as_array().map(Vec::len)), (Some(true), Some(0)));
    let stored = world.done(&["info"])["stored_bytes"].clone();
    assert_eq!(sound["checked_bytes"], stored);

    let objects = Objects::local(world.path("repo")).unwrap();
    let pack = objects.list("packs").unwrap().remove(0).path;
    let path = world.path("repo").join(&pack);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found = world.pitr(&["verify"]);
    assert_eq!((found.code, found.json["ok"].as_bool()), (4, Some(false)), "{}", found.stderr);
    let failure = &found.json["failures"][0];
    assert_eq!(failure["object"], pack.as_str());
    assert_eq!(failure["snapshots"][0]["snapshot_id"], taken["snapshot_id"]);
    assert!(found.stderr.lines().last().unwrap().starts_with("pitr: 1 faults found"), "{}", found.stderr);
}

#[test]
fn each_level_finds_what_it_reads() {
    // FAILURES 29
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(3000000))");
    world.done(&["backup", &world.database().to_string_lossy()]);
    let read = |args: &[&str]| {
        let verified = world.done(&[&["verify"], args].concat());
        (verified["checked_bytes"].as_u64().unwrap(), verified["snapshots"].as_u64().unwrap())
    };
    let whole = read(&[]);
    assert_eq!((read(&["--level", "checksum"]), whole.1), ((whole.0, 0), 1));
    let (sample, footers) = (read(&["--sample"]), read(&["--level", "metadata"]));
    assert!(footers.0 < sample.0 && sample.0 < whole.0, "{footers:?} {sample:?} {whole:?}");
    assert!(read(&["--sample", "2"]).0 > sample.0 && (sample.1, footers.1) == (1, 1));

    let objects = Objects::local(world.path("repo")).unwrap();
    let pack = objects.list("packs").unwrap().into_iter().max_by_key(|entry| entry.size).unwrap().path;
    let path = world.path("repo").join(&pack);
    let sound = fs::read(&path).unwrap();
    let mut harmed = sound.clone();
    harmed[100] ^= 1;
    let code = |args: &[&str]| world.pitr(&[&["verify"], args].concat()).code;
    fs::write(&path, harmed).unwrap();
    assert_eq!(code(&["--level", "metadata"]), 0, "no frame is read");
    for args in [&["--level", "checksum"][..], &["--level", "checksum,metadata"], &["--sample", "1000000"]] {
        assert_eq!(code(args), 4, "{args:?}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!((code(&["--level", "checksum"]), code(&["--level", "metadata"])), (0, 4));
    fs::write(&path, sound).unwrap();
    for args in [&["--level", "metadata", "--deep"][..], &["--level", "metadata", "--sample"]] {
        let refused = world.pitr(&[&["verify"], args].concat());
        assert!(refused.code == 2 && refused.stderr.contains("belong to the level checksum"), "{args:?}");
    }
    assert_eq!(
        (code(&["--sample", "0"]), code(&["--level", "all"]), code(&["--deep", "--sample"])),
        (2, 2, 2)
    );
}

#[test]
fn only_verify_deep_finds_a_chunk_under_a_wrong_name() {
    // Every hash of the object is correct, but the chunk has another ID (FAILURES 30).
    let world = World::new();
    let objects = Objects::local(world.path("repo")).unwrap();
    objects.open_repository().unwrap();
    let content = b"not what was meant";
    let (id, sum) = (ChunkId::of(content), PieceSum::of(content));
    let put = |id: &[u8; 32], sum: &[u8; 16]| {
        let mut pack = objects.builder("", ObjectKind::Pack, Codec::None).unwrap();
        pack.append(Codec::None, content).unwrap();
        let bytes = pack.finish(&[&id[..], sum].concat()).unwrap();
        let digest = objects.index_of("", ObjectKind::Pack, &bytes).unwrap().digest;
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        objects.put_new(&format!("packs/{}/{name}", &name[..2]), bytes).unwrap();
    };
    put(id.as_bytes(), sum.as_bytes());
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
    put(&[7; 32], sum.as_bytes());
    put(id.as_bytes(), &[7; 16]);
    assert_eq!(world.done(&["verify"])["ok"], true);
    let deep = world.pitr(&["verify", "--deep"]);
    assert_eq!(deep.code, 4, "{}", deep.stderr);
    let failures = deep.json["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 2, "{}", deep.json);
    assert!(failures.iter().all(|failure| failure["what"].as_str().unwrap().contains("is not that chunk")));
}
