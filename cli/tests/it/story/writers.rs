//! Two watchers of one source.

use std::fs;

use super::database::verify;
use crate::world::World;

/// FAILURES 21: a second watcher with the same local log is refused. One with a local log of its
/// own takes over, and so does one of a moved database. The watcher before it ends.
pub(super) fn two_watchers(mut world: World) {
    let mut app = world.application();
    let database = world.database().to_string_lossy().into_owned();
    let first = world.watch();
    app.sql("INSERT INTO t(x) VALUES('common')");
    world.done(&["backup", &database]);
    let common = world.copy(&mut app);
    for more in [&[][..], &["--adopt"]] {
        let refused = world.pitr(&[&["watch", &database], more].concat());
        assert_eq!((refused.code, &refused.json["error"]["code"]), (5, &"locked".into()), "{more:?}");
    }

    let state = world.path("state").to_string_lossy().into_owned();
    let second = world.watch_with(&["--rpo", "200ms", "--state", &state]);
    app.sql("INSERT INTO t(x) VALUES('of the second')");
    first.until_taken_over();
    world.done(&["backup", &database, "--state", &state]);
    let of_second = world.copy(&mut app);
    world.assert_exact("latest", &[], &of_second);

    let path = world.path("elsewhere.db");
    fs::rename(world.restored("latest", &[]), &path).unwrap();
    let third = world.watch_at(&path, &["--source", "app", "--rpo", "200ms", "--adopt"]);
    let mut elsewhere = world.application_on(&path);
    elsewhere.sql("INSERT INTO t(x) VALUES('of the third')");
    let of_third = world.copy(&mut elsewhere);
    app.sql("INSERT INTO t(x) VALUES('unaware')");
    second.until_taken_over();
    third.stop();
    world.assert_exact("latest", &[], &of_third);
    world.assert_exact("tx:1", &["--timeline", "1"], &common);
    world.assert_exact("latest", &["--timeline", "2"], &of_second);
    verify(&world);
}
