//! How many requests the commands make.

use pitr_testkit::proxy::{Counts, Faults, Kind, Proxy};
use pitr_testkit::servers::Server;

use super::Place;
use crate::world::{World, pause};

/// Commits that are archived one by one.
const SHIPPED: u64 = 10;

struct Table<'a> {
    proxy: &'a Proxy,
    before: Counts,
}

impl Table<'_> {
    /// Prints and returns what was counted since the last row, divided by `times`.
    fn row(&mut self, what: &str, times: u64) -> Counts {
        let now = self.proxy.counts();
        let since = now.since(&self.before);
        self.before = now;
        print!("{what:<32}");
        for kind in [Kind::Get, Kind::Head, Kind::Put, Kind::List, Kind::Delete, Kind::Other] {
            print!(" {:>7.1}", since.of(kind).requests as f64 / times as f64);
        }
        println!();
        since
    }
}

/// Counts the requests of commands, and prints them as a table. Commands that read leave nothing.
pub(super) fn counted(server: &Server) {
    let proxy = Proxy::start(server.address(), Faults::none(1)).unwrap();
    let bucket = Some(server.bucket("requests").unwrap());
    let place = Place {
        bucket,
        options: server.options_at(proxy.address()),
        environment: server.environment_at(proxy.address()),
    };
    println!(
        "{:<32} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "", "GET", "HEAD", "PUT", "LIST", "DELETE", "other"
    );
    let mut table = Table { proxy: &proxy, before: proxy.counts() };
    let world = place.world("counted", false);
    table.row("init, and init again", 1);
    watched(&world, &mut table);
    let database = world.database().to_string_lossy().into_owned();
    let output = world.path("out.db").to_string_lossy().into_owned();
    let dry_run = ["restore", "--to", "latest", "--output", &output, "--dry-run"];
    world.done(&["backup", &database]);
    table.row("backup", 1);
    world.done(&["backup", &database]);
    table.row("backup, unchanged", 1);
    for args in [&["info"][..], &["log"], &dry_run, &["point", "list"]] {
        world.done(args);
        let counts = table.row(&args.join(" ").replace(&output, "OUT"), 1);
        let (puts, deletions) = (counts.of(Kind::Put).requests, counts.of(Kind::Delete).requests);
        assert!(puts <= deletions, "{args:?} leaves nothing: {counts}");
    }
    world.done(&dry_run[..5]);
    table.row("restore --to latest", 1);
    world.done(&["verify", "--deep"]);
    table.row("verify --deep", 1);
    world.done(&["prune", "--keep-snapshots", "1"]);
    table.row("prune, plan only", 1);
    world.done(&["prune", "--keep-snapshots", "1", "--execute"]);
    table.row("prune --execute", 1);
}

fn watched(world: &World, table: &mut Table<'_>) {
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES('before')");
    let mut watcher = world.watch_with(&["--rpo", "100ms"]);
    watcher.until("snapshot");
    pause(500);
    table.row("watch, until its first snapshot", 1);
    for number in 0..SHIPPED {
        app.sql(&format!("INSERT INTO t(x) VALUES({number})"));
        pause(400);
    }
    let counts = table.row("watch, for each archived commit", SHIPPED);
    assert!(counts.of(Kind::Put).requests >= SHIPPED, "each commit was archived by itself: {counts}");
    pause(4_000);
    table.row("watch, for each idle second", 4);
    watcher.stop();
    table.row("watch, its end", 1);
}
