//! One story on every store: what the program promises of a repository, from its creation to a
//! restore after a prune, plain and encrypted.
//!
//! It runs on a folder, and on real servers if `cargo xtask servers test` asks for them
//! (`pitr_testkit::servers`).

mod database;
mod folder;
mod requests;
mod writers;

use std::collections::BTreeMap;

use pitr::codec::Passphrase;
use pitr::objects::{Location, Objects};
use pitr::vfs::Env;
use pitr_testkit::servers::{Kind, Report, Server, locally, with};

use crate::world::World;
use database::Database;

const PASSPHRASE: &str = "correct horse battery";

/// Where the repositories of a story are.
struct Place {
    /// URL of a bucket. `None` is a folder of each world.
    bucket: Option<String>,
    /// Settings of the store for this process, and for the program.
    options: BTreeMap<String, String>,
    environment: Vec<(String, String)>,
}

impl Place {
    fn local() -> Place {
        Place { bucket: None, options: BTreeMap::new(), environment: Vec::new() }
    }

    fn at(server: &Server) -> Place {
        let bucket = Some(server.bucket("story").unwrap());
        Place { bucket, options: server.options(), environment: server.environment() }
    }

    /// A world with a new repository of this name.
    fn world(&self, name: &str, is_encrypted: bool) -> World {
        let mut environment = self.environment.clone();
        if is_encrypted {
            environment.push(("PITR_PASSPHRASE".to_owned(), PASSPHRASE.to_owned()));
        }
        let url = self.bucket.as_ref().map(|bucket| format!("{bucket}/{name}"));
        let world = World::at(url.as_deref(), environment);
        let args: &[&str] = if is_encrypted { &["init", "--encrypt"] } else { &["init"] };
        assert_eq!(world.done(args)["encrypted"], is_encrypted);
        let again = world.pitr(args);
        assert_eq!((again.code, &again.json["error"]["code"]), (2, &"repository-exists".into()));
        world
    }

    /// The objects of a world's repository, for this process.
    fn objects(&self, world: &World) -> Objects {
        let location = Location::parse(&world.repository).unwrap();
        let objects = Objects::open_with(&location, &self.options, &Env::system()).unwrap();
        let repository = objects.open_repository().unwrap();
        if repository.encrypted {
            objects.unlock(&repository, &[&Passphrase::new(PASSPHRASE)]).unwrap();
        }
        objects
    }
}

/// How much of the story is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Whole,
    /// Without what differs only by the engine or the encryption.
    Short,
}

/// Runs the story. Each repository is used by several chapters, in their order.
fn run(place: &Place, length: Length, report: &mut Report) {
    // Around the absences of the watcher, and a few.
    let all = [1, 5, 8, 9, 10, 11, 16, 17, 18, 23, 24];
    let (plain, encrypted) = (("plain", false, &all[..]), ("encrypted", true, &[1, 9, 24][..]));
    let told =
        if length == Length::Whole { vec![plain, encrypted] } else { vec![("plain", false, &[9, 24][..])] };
    for (name, is_encrypted, commits) in told {
        let mut database = None;
        report.run(&format!("{name}: watch and kill -9"), || {
            database = Some(Database::watched(place.world(name, is_encrypted)));
        });
        // Without the first chapter, the others have nothing to tell.
        let Some(mut database) = database else { continue };
        report.run(&format!("{name}: restore"), || database.restore(commits));
        report.run(&format!("{name}: points and prune"), || {
            database.prune(&place.objects(&database.world));
        });
        if length == Length::Short {
            return;
        }
        report.run(&format!("{name}: folder"), || folder::backed_up(&database.world));
        if is_encrypted {
            report.run("encrypted: nothing in clear", || assert_hidden(&place.objects(&database.world)));
        }
    }
    report.run("two watchers", || writers::two_watchers(place.world("writers", false)));
}

/// FAILURES 35: neither names nor content are stored in clear.
fn assert_hidden(objects: &Objects) {
    let entries = objects.list("").unwrap();
    assert!(entries.len() > 10, "{entries:?}");
    for entry in entries {
        assert!(!entry.path.split('/').any(|part| ["app", "photos"].contains(&part)), "{}", entry.path);
        let bytes = objects.get(&entry.path).unwrap();
        for clear in ["after the prune", "before the migration", "SQLite format 3", "photos", "sqlite"] {
            let found = bytes.windows(clear.len()).any(|window| window == clear.as_bytes());
            assert!(!found, "{clear:?} in {}", entry.path);
        }
    }
}

#[test]
fn in_a_folder() {
    // The other tests of this program use a folder too.
    locally("local", |report| run(&Place::local(), Length::Short, report));
}

#[test]
fn on_seaweedfs() {
    with(Kind::SeaweedFs, "story", |server, report| {
        run(&Place::at(server), Length::Whole, report);
        report.run("requests", || requests::counted(server));
    });
}

#[test]
fn on_moto() {
    with(Kind::Moto, "story", |server, report| run(&Place::at(server), Length::Short, report));
}

#[test]
fn on_azurite() {
    with(Kind::Azurite, "story", |server, report| run(&Place::at(server), Length::Short, report));
}
