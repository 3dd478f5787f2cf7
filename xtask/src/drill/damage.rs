//! Every object of a repository, harmed in several ways in turn. `verify` finds it and names it,
//! and a restore to any target is exact or refused: never wrong in silence (FAILURES 29).
//!
//! The repository is made by a watcher, with three snapshots, points, merged log, measured rates
//! and rehearsals; once plain and once encrypted.

use super::{Seed, Stage, judged, settle};
use crate::Result;
use crate::moments::Rng;
use crate::program::{CORRUPT, Program, UNREACHABLE};
use crate::verdict::{Verdict, commit, keep, today};
use crate::witness::Witness;
use crate::world::{World, files_below};
use pitr::codec::ObjectKind;
use pitr::objects::layout::{INDEX, ObjectName};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};

const HEAD: &str = "# Every object damaged in turn\n\nRuns of `cargo xtask drill damage`. A restore after each harm is exact or refused with an exit code.\n";

#[derive(Debug, clap::Args)]
pub(crate) struct Damage {
    /// How many transactions are committed
    #[arg(long, default_value_t = 180)]
    pub(crate) transactions: usize,
    /// Transactions that are restored after each harm, besides the latest state
    #[arg(long, default_value_t = 4)]
    pub(crate) targets: usize,
    #[command(flatten)]
    pub(crate) seed: Seed,
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    Flip,
    Cut,
    Empty,
    Remove,
    Swap,
}

impl Harm {
    const ALL: [Harm; 5] = [Harm::Flip, Harm::Cut, Harm::Empty, Harm::Remove, Harm::Swap];

    fn name(self) -> &'static str {
        match self {
            Harm::Flip => "one bit flipped",
            Harm::Cut => "one byte cut",
            Harm::Empty => "emptied",
            Harm::Remove => "removed",
            Harm::Swap => "swapped with another of its kind",
        }
    }
}

/// An object of the repository.
struct Object {
    kind: ObjectKind,
    name: String,
    path: PathBuf,
}

impl Object {
    /// True if the repository can't be opened without it.
    fn is_needed_to_open(&self) -> bool {
        matches!(self.kind, ObjectKind::Repository | ObjectKind::KeySlot | ObjectKind::KeyRing)
    }
}

/// Counts for one harm.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    objects: usize,
    named: usize,
    exact: usize,
    corrupt: usize,
    unreachable: usize,
    otherwise: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.objects += other.objects;
        self.named += other.named;
        self.exact += other.exact;
        self.corrupt += other.corrupt;
        self.unreachable += other.unreachable;
        self.otherwise += other.otherwise;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { objects, named, exact, corrupt, unreachable, otherwise } = self;
        write!(
            f,
            "{objects} objects, {named} named by verify; restores: {exact} exact, {corrupt} refused with 4, {unreachable} with 3, {otherwise} with another code"
        )
    }
}

/// The counts of a run, for each kind of repository, kind of object and harm.
type Table = BTreeMap<(&'static str, String, Harm), Counts>;

/// Writes the table of a run into the results.
fn keep_table(command: &str, table: &Table) -> Result<()> {
    let mut text = format!(
        "\n## {}, {}, `{command}`\n\n| repository | object | harm | objects | named by verify | restores exact | refused, 4 | refused, 3 | refused, other |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        today(),
        commit()
    );
    for ((repository, kind, harm), counts) in table {
        let Counts { objects, named, exact, corrupt, unreachable, otherwise } = counts;
        let harm = harm.name();
        text += &format!(
            "| {repository} | {kind} | {harm} | {objects} | {named} | {exact} | {corrupt} | {unreachable} | {otherwise} |\n"
        );
    }
    keep("damage.md", HEAD, &text)
}

impl Damage {
    pub(crate) fn run(&self) -> Result<bool> {
        let Damage { transactions, targets, seed: Seed { seed } } = self;
        let command = format!(
            "cargo xtask drill damage --transactions {transactions} --targets {targets} --seed {seed}"
        );
        judged(&command, |verdict| {
            let (mut mutations, mut table) = (0, Table::new());
            for encrypted in [false, true] {
                mutations += self.body(encrypted, verdict, &mut table)?;
            }
            let mut harms = BTreeMap::<Harm, Counts>::new();
            for ((.., harm), counts) in &table {
                *harms.entry(*harm).or_default() += *counts;
            }
            for (harm, counts) in harms {
                verdict.figure(format_args!("{}: {counts}", harm.name()));
            }
            keep_table(&command, &table)?;
            verdict.figure(format_args!("{mutations} mutations"));
            verdict.check(mutations >= 500, format_args!("{mutations} of 500 mutations"));
            Ok(())
        })
    }

    /// Harms each object of one repository in each way. Returns how often.
    fn body(&self, encrypted: bool, verdict: &mut Verdict, table: &mut Table) -> Result<usize> {
        let world = World::new("damage-repository")?;
        let (mut stage, mut witness) = self.repository(&world, encrypted)?;
        let log = stage.log()?;
        let numbers: Vec<(String, usize)> =
            log.iter().enumerate().map(|(no, entry)| (format!("tx:{}", entry["tx"]), no + 1)).collect();
        let mut rng = Rng(self.seed.seed);
        let mut targets = rng.sample(numbers, self.targets);
        targets.push(("latest".to_owned(), witness.commits()));
        let sound = stage.program.call(["verify"])?;
        verdict.check(sound.code == Some(0), format_args!("before any harm: {sound}"));

        let root = stage.program.repo().to_owned();
        let mut objects: BTreeMap<String, Vec<Object>> = BTreeMap::new();
        for path in files_below(&root)? {
            let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
            let Some(parsed) = ObjectName::parse(&name) else { continue };
            let kind = parsed.kind();
            if kind != ObjectKind::Lease {
                objects.entry(kind.to_string()).or_default().push(Object { kind, name, path });
            }
        }
        let repository = if encrypted { "encrypted" } else { "plain" };
        let mut mutations = 0;
        for (kind, of_kind) in &objects {
            for (no, object) in of_kind.iter().enumerate() {
                for harm in Harm::ALL {
                    let other = &of_kind[(no + 1) % of_kind.len()].path;
                    let Some(undo) = apply(harm, &object.path, other, &mut rng)? else { continue };
                    let counts = table.entry((repository, kind.clone(), harm)).or_default();
                    let (stage, witness) = (&mut stage, &mut witness);
                    let mut trial = Trial { stage, witness, verdict, counts, object, harm };
                    trial.verify()?;
                    trial.restore(&targets)?;
                    mutations += 1;
                    undo.into_iter().try_for_each(|(path, bytes)| fs::write(path, bytes))?;
                }
            }
        }
        let sound = stage.program.call(["verify"])?;
        verdict.check(sound.code == Some(0), format_args!("after all harm was undone: {sound}"));
        Ok(mutations)
    }

    /// A repository with objects of every kind, and copies of all its states.
    fn repository(&self, world: &World, encrypted: bool) -> Result<(Stage, Witness)> {
        let (seed, transactions) = (self.seed.seed.to_string(), self.transactions.to_string());
        let args = [seed.as_str(), transactions.as_str()];
        let (repository, key) = (world.path("repository"), world.path("key"));
        fs::write(&key, [7; 32])?;
        let program = match encrypted {
            false => Program::with_repository(&repository)?,
            true => Program::with_key(&repository, &key)?,
        };
        let mut stage = Stage::with("damage", "writer.py", &args, program)?;
        let mut witness = Witness::new(&stage.ready)?;
        let watch = stage.program.watch(&stage.database, &["--rpo", "200ms"])?;
        let before = stage.log()?.len();
        stage.application.send("go")?;
        let database = stage.database.as_os_str().to_owned();
        for _ in 0..2 {
            stage.program.call(["backup".as_ref(), database.as_os_str()])?.done()?;
        }
        witness.add(&stage.application.events_until("done")?)?;
        settle();
        stage.program.call(["point", "create", "a-point"])?.done()?;
        stage.program.call(["backup".as_ref(), database.as_os_str()])?.done()?;
        watch.stop()?;
        let rehearsed = stage.program.call(["verify", "--level", "restore"])?;
        rehearsed.done()?;
        if stage.log()?.len() - before != witness.commits() {
            return Err("the log lacks commits".into());
        }
        Ok((stage, witness))
    }
}

/// Files and the content that they had.
type Undo = Vec<(PathBuf, Vec<u8>)>;

/// Harms an object. Returns what undoes it; `None` if the harm does not apply.
fn apply(harm: Harm, path: &Path, other: &Path, rng: &mut Rng) -> Result<Option<Undo>> {
    let sound = fs::read(path)?;
    let mut undo = vec![(path.to_owned(), sound.clone())];
    match harm {
        Harm::Flip => {
            let mut bytes = sound;
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
            fs::write(path, bytes)?;
        }
        Harm::Cut => fs::write(path, &sound[..sound.len() - 1])?,
        Harm::Empty => fs::write(path, b"")?,
        Harm::Remove => fs::remove_file(path)?,
        Harm::Swap => {
            let of_other = fs::read(other)?;
            if of_other == sound {
                return Ok(None);
            }
            fs::write(path, &of_other)?;
            fs::write(other, &sound)?;
            undo.push((other.to_owned(), of_other));
        }
    }
    Ok(Some(undo))
}

/// One harmed object.
struct Trial<'a> {
    stage: &'a mut Stage,
    witness: &'a mut Witness,
    verdict: &'a mut Verdict,
    counts: &'a mut Counts,
    object: &'a Object,
    harm: Harm,
}

impl Trial<'_> {
    /// `verify` fails and names the object. A loss that no other object shows can't be found.
    fn verify(&mut self) -> Result<()> {
        let Object { kind, name, .. } = self.object;
        let called = self.stage.program.call(["verify"])?;
        let failures = called.answer["failures"].as_array().map(Vec::as_slice).unwrap_or_default();
        // Nothing names an index object. Its folder is named, with the chunks that none lists.
        let is_lost_index = self.harm == Harm::Remove && *kind == ObjectKind::PackIndex;
        let named = if is_lost_index { INDEX } else { name };
        let names = |failure: &Value| failure["object"].as_str().is_some_and(|object| object == named);
        let named = match self.object.is_needed_to_open() {
            false => called.code == Some(CORRUPT) && failures.iter().any(names),
            true => called.code != Some(0),
        };
        self.counts.objects += 1;
        self.counts.named += usize::from(named);
        let is_shown = matches!(kind, ObjectKind::Pack | ObjectKind::PackIndex);
        let (code, harm) = (called.code, self.harm.name());
        if self.harm != Harm::Remove || is_shown {
            self.verdict.check(named, format_args!("{name}, {harm}: not named by verify ({code:?})"));
        }
        Ok(())
    }

    /// Each target is exact or refused.
    fn restore(&mut self, targets: &[(String, usize)]) -> Result<()> {
        let output = self.stage.world.path("restored.db");
        // A removed object may look as if it had never been there.
        let is_shown = self.harm != Harm::Remove && !self.object.is_needed_to_open();
        for (target, state) in targets {
            let called = self.stage.program.restore(target, &output, &[])?;
            let what = format!("{}, {}, {target}", self.object.name, self.harm.name());
            if called.code == Some(0) {
                match self.witness.exact(&output, *state)? {
                    Ok(()) => self.counts.exact += 1,
                    Err(found) => self.verdict.fail(format_args!("{what}: WRONG IN SILENCE: {found}")),
                }
                super::exact::remove(&output)?;
                continue;
            }
            match called.code {
                Some(CORRUPT) => self.counts.corrupt += 1,
                Some(UNREACHABLE) => self.counts.unreachable += 1,
                _ => self.counts.otherwise += 1,
            }
            self.verdict.check(!output.exists(), format_args!("{what}: refused, with an output"));
            let is_corrupt = called.code == Some(CORRUPT);
            self.verdict.check(is_corrupt || !is_shown, format_args!("{what}: {called}"));
        }
        Ok(())
    }
}
