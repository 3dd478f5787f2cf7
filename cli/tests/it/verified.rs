//! `pitr verify`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

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
    // All frames of an object with several are more than one of them.
    assert!(read(&["--sample", "1000000"]).0 > sample.0 && (sample.1, footers.1) == (1, 1));

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

/// The findings of a run's rehearsals, as `check: what`.
fn findings(answer: &serde_json::Value) -> Vec<String> {
    let rehearsals = answer["rehearsals"].as_array().unwrap().iter();
    let found = rehearsals.flat_map(|rehearsal| rehearsal["findings"].as_array().unwrap());
    found
        .map(|found| format!("{}: {}", found["check"].as_str().unwrap(), found["what"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_rehearsal_restores_checks_and_is_noted() {
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(200000))");
    world.done(&["backup", &world.database().to_string_lossy()]);
    assert!(world.done(&["info"])["sources"][0].get("last_rehearsal").is_none());
    let sandbox = world.path("sandbox");
    fs::create_dir(&sandbox).unwrap();
    let place = ["--sandbox", &sandbox.to_string_lossy()].map(str::to_owned);
    let verify = |args: &[&str]| {
        let place = place.each_ref().map(String::as_str);
        world.pitr(&[&["verify", "--level", "restore"], &place[..], args].concat())
    };
    let sound = verify(&[]);
    assert_eq!(sound.code, 0, "{}", sound.stderr);
    let rehearsal = &sound.json["rehearsals"][0];
    assert_eq!(rehearsal["compared_bytes"], rehearsal["bytes"]);
    assert!(
        rehearsal["bytes"].as_u64().unwrap() > 200_000
            && rehearsal["restore_seconds"].as_f64().unwrap() > 0.0
    );
    assert_eq!((sound.json["checked_objects"].as_u64(), sound.json["ok"].as_bool()), (Some(0), Some(true)));
    assert_eq!(fs::read_dir(&sandbox).unwrap().count(), 0);
    let noted = world.done(&["info"])["sources"][0]["last_rehearsal"].clone();
    assert_eq!((&noted["bytes"], noted["findings"].as_u64()), (&rehearsal["bytes"], Some(0)));

    // SQLite does not enforce foreign keys unless the application asks for it.
    app.sql("PRAGMA foreign_keys=OFF");
    app.sql("CREATE TABLE parent(id INTEGER PRIMARY KEY); CREATE TABLE child(p REFERENCES parent)");
    app.sql("INSERT INTO child VALUES(999)");
    world.done(&["backup", &world.database().to_string_lossy()]);
    let found = verify(&[]);
    assert_eq!(found.code, 4, "{}", found.stderr);
    assert!(findings(&found.json)[0].starts_with("engine: foreign_key"), "{}", found.json);
    assert_eq!(world.done(&["info"])["sources"][0]["last_rehearsal"]["findings"], 1);
    // The state before is as sound as it was.
    let first = world.done(&["info"])["sources"][0]["snapshots"][0]["snapshot_id"].clone();
    assert_eq!(verify(&["--to", &format!("snapshot:{}", first.as_str().unwrap())]).code, 0);

    // Faults of objects are listed, also if they keep a copy from being restored.
    let objects = Objects::local(world.path("repo")).unwrap();
    let index = objects.list("index").unwrap().remove(0).path;
    let harmed = world.path("repo").join(&index);
    let content = fs::read(&harmed).unwrap();
    fs::write(&harmed, b"harmed").unwrap();
    let both =
        world.pitr(&["verify", "--level", "checksum,restore", "--sandbox", &sandbox.to_string_lossy()]);
    assert_eq!((both.code, &both.json["failures"][0]["object"]), (4, &index.into()), "{}", both.stderr);
    fs::write(&harmed, content).unwrap();

    assert_eq!(verify(&["--sandbox-max", "1kB"]).code, 1);
    assert_eq!(verify(&["--source", "other"]).code, 2);
    assert_eq!(verify(&["--workers", "2", "--to", "tx:999999"]).code, 3);
}

#[test]
fn queries_and_commands_of_the_user_decide() {
    let world = World::new();
    let mut app = world.application();
    app.sql("CREATE TABLE item(id INTEGER PRIMARY KEY, price INTEGER)");
    app.sql("INSERT INTO item VALUES(1, 5), (2, 7), (3, -1)");
    world.done(&["backup", &world.database().to_string_lossy()]);
    let verify = |args: &[&str]| world.pitr(&[&["verify", "--level", "functional"], args].concat());
    let (count, sum) = ("SELECT count(*) = 3 FROM item", "SELECT sum(price) FROM item");
    let negative = "SELECT count(*) = 0 FROM item WHERE price < 0";
    let good = verify(&["--sql", count, "--sql", sum, "--command", "test -s \"$PITR_COPY\""]);
    assert_eq!((good.code, findings(&good.json)), (0, vec![]), "{}", good.stderr);
    let wrong = verify(&["--sql", count, "--sql", negative, "--sql", sum, "--command", "echo no; exit 1"]);
    let expected =
        [format!("{negative}: answered 0"), "echo no; exit 1: ended with exit status: 1: no".to_owned()];
    assert_eq!((wrong.code, findings(&wrong.json)), (4, expected.to_vec()), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("2 findings in restored copies"), "{}", wrong.stderr);
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let hung = verify(&["--sql", endless, "--command", "sleep 600", "--limit", "200ms"]);
    let expected =
        [format!("{endless}: no answer within 0.2 s"), "sleep 600: did not end within 0.2 s".to_owned()];
    assert_eq!((hung.code, findings(&hung.json)), (4, expected.to_vec()), "{}", hung.stderr);

    for (args, says) in [
        (&["--sql", count][..], "belong to the level functional"),
        (&["--level", "functional"], "needs checks of your own"),
        (&["--sandbox", "/tmp"], "belongs to the levels restore and functional"),
        (&["--sandbox-max", "1GB"], "belongs to the levels"),
        (&["--to", "tx:1"], "belongs to the levels"),
    ] {
        let refused = world.pitr(&[&["verify"], args].concat());
        assert!(refused.code == 2 && refused.stderr.contains(says), "{args:?}: {}", refused.stderr);
    }
}

/// Takes one request, and answers it.
fn posted(listener: &TcpListener) -> String {
    let mut stream = listener.accept().unwrap().0;
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"}") {
        let len = stream.read(&mut part).unwrap();
        assert!(len > 0);
        request.extend_from_slice(&part[..len]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    String::from_utf8(request).unwrap()
}

#[test]
fn rounds_of_validation_end_with_their_findings_and_run_a_command() {
    let world = World::new();
    let mut app = world.application();
    for _ in 0..3 {
        app.sql("INSERT INTO t(x) VALUES(randomblob(20000))");
        world.done(&["backup", &world.database().to_string_lossy()]);
    }
    let sandbox = world.path("sandbox");
    fs::create_dir(&sandbox).unwrap();
    let told = world.path("told");
    let command = format!("printf %s \"$PITR_FINDINGS\" > {}", told.display());
    let place = sandbox.to_string_lossy().into_owned();
    let rounds = |more: &[&str]| {
        let usual = ["verify", "--every", "10ms", "--sandbox", &place, "--on-finding", &command];
        world.pitr(&[&usual[..], more].concat())
    };
    let sound = rounds(&["--rounds", "2", "--at-most", "2", "--strategy", "newest", "--rate", "1GB"]);
    let answer = &sound.json;
    assert_eq!(
        (sound.code, &answer["rounds"], &answer["findings"]),
        (0, &2.into(), &0.into()),
        "{}",
        sound.stderr
    );
    assert_eq!((answer["rehearsals"].as_u64(), told.exists()), (Some(4), false));
    let none = rounds(&["--rounds", "1", "--budget", "1ms", "--strategy", "full"]);
    assert!(none.json["rehearsals"].as_u64().unwrap() <= 1, "{}", none.json);
    let small = rounds(&["--rounds", "1", "--sandbox-max", "1kB", "--strategy", "random"]);
    assert_eq!((small.code, small.json["failed"].as_u64()), (0, Some(3)), "{}", small.stderr);

    let pack = Objects::local(world.path("repo")).unwrap().list("packs").unwrap().remove(0).path;
    fs::remove_file(world.path("repo").join(&pack)).unwrap();
    let found = rounds(&["--rounds", "1", "--strategy", "oldest"]);
    assert_eq!(found.code, 4, "{}", found.stderr);
    assert!(fs::read_to_string(&told).unwrap().contains(&pack));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let requests = std::thread::spawn(move || [(); 2].map(|()| posted(&listener)));
    assert_eq!(rounds(&["--rounds", "1", "--webhook", &url]).code, 4);
    let round = ["verify", "--every", "10ms", "--rounds", "1"];
    assert_eq!(world.pitr_with("PITR_WEBHOOK", &url, &round).code, 4);
    for request in requests.join().unwrap() {
        assert!(request.starts_with("POST / ") && request.contains(&pack), "{request}");
    }
    let wrong = rounds(&["--rounds", "1", "--webhook", "chat"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("the webhook is no URL"), "{}", wrong.stderr);
    for args in [
        &["--rounds", "1"][..],
        &["--at-most", "2"],
        &["--on-finding", "true"],
        &["--webhook", "http://localhost"],
        &["--strategy", "full"],
        &["--metrics", "m"],
    ] {
        assert_eq!(world.pitr(&[&["verify"], args].concat()).code, 2, "{args:?} without --every");
    }
    assert_eq!(rounds(&["--level", "checksum"]).code, 2);
}

#[test]
fn a_slow_restore_ends_with_6_and_info_compares_it_with_the_rto() {
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(20000))");
    world.done(&["backup", &world.database().to_string_lossy()]);
    let rehearse = |rto: &str| world.pitr(&["verify", "--level", "restore", "--rto", rto]);
    let last = || world.done(&["info"])["sources"][0]["last_rehearsal"].clone();
    assert_eq!((rehearse("10m").code, last()["rto_seconds"].as_f64()), (0, Some(600.0)));
    let slow = rehearse("1us");
    assert_eq!((slow.code, slow.json["ok"].as_bool()), (6, Some(true)), "{}", slow.stderr);
    assert!(slow.stderr.contains("more than the RTO of"), "{}", slow.stderr);
    world.done(&["verify", "--level", "restore"]);
    assert!(last()["rto_seconds"].is_null());
    assert_eq!(world.pitr(&["verify", "--rto", "1m"]).code, 2, "nothing is restored");

    let told = world.path("told");
    let command = format!("printf %s \"$PITR_FINDINGS\" > {}", told.display());
    let round = ["verify", "--every", "1ms", "--rounds", "1", "--on-finding", &command];
    assert_eq!((world.pitr(&round).code, told.exists()), (0, false));
    let late = world.pitr(&[&round[..], &["--rto", "1us"]].concat());
    assert_eq!((late.code, late.json["late"].as_u64()), (6, Some(1)), "{}", late.stderr);
    assert!(fs::read_to_string(&told).unwrap().contains("more than the RTO of"));
}

#[test]
fn metrics_of_a_round_replace_those_of_the_last_and_nothing_else() {
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(20000))");
    world.done(&["backup", &world.database().to_string_lossy()]);
    let path = world.path("pitr.prom");
    let place = path.to_string_lossy().into_owned();
    let round = || world.pitr(&["verify", "--every", "1ms", "--rounds", "1", "--metrics", &place]);
    for _ in 0..2 {
        assert_eq!(round().code, 0);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("pitr_verify_score{source=\"app\"} 100\n"), "{text}");
        assert!(text.contains("pitr_verify_object_faults 0\n"), "{text}");
    }
    // What can't be written is told, and the validation goes on.
    let beside = world.path("pitr.prom.pitr-new");
    fs::create_dir(&beside).unwrap();
    let told = round();
    assert!(told.code == 0 && told.stderr.contains("pitr.prom"), "{}", told.stderr);
    fs::remove_dir(&beside).unwrap();
    let nowhere = world.pitr(&["verify", "--every", "1ms", "--rounds", "1", "--metrics", "no-such/m.prom"]);
    assert!(nowhere.code == 2 && nowhere.stderr.contains("does not exist"), "{}", nowhere.stderr);
    fs::write(&path, "precious").unwrap();
    let refused = round();
    assert!(refused.code == 2 && refused.stderr.contains("holds something else"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_report_is_one_page_and_never_replaced() {
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(20000))");
    world.done(&["backup", &world.database().to_string_lossy()]);
    let path = world.path("report.html");
    let place = path.to_string_lossy().into_owned();
    world.done(&["verify", "--level", "checksum,metadata,restore", "--report", &place]);
    let page = fs::read_to_string(&path).unwrap();
    assert!(
        page.starts_with("<!DOCTYPE html>")
            && page.contains("Score 100 of 100. 1 of 1 snapshots were rehearsed"),
        "{page}"
    );
    assert!(!page.contains("http") && !page.contains("src="));
    let again = world.pitr(&["verify", "--report", &place]);
    assert!(again.code == 2 && again.stderr.contains("exists already"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), page);
}
