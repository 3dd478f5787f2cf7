//! The suite for any engine.

use crate::life::options;
use pitr::engine::Engine;
use pitr::snapshot::{BoxError, FuzzySource};
use pitr::wal::{Committed, Wal};
use pitr_engine_test::{Limits, Rows, Rule, Subject, Suite};
use pitr_reference::{Env, ReferenceEngine, Store, TableId, Transaction};
use std::path::Path;
use std::sync::Arc;

const VALUE_BYTES: usize = 300;

/// Stores of fixed rows, or stores of which one table is logical.
struct Reference {
    is_logical: bool,
}

/// A store with two tables. Keys alternate between them in pairs.
struct Opened {
    store: Store,
    tables: [TableId; 2],
}

struct Open<'s>(Transaction<'s>, [TableId; 2]);

fn place(tables: [TableId; 2], key: u64) -> (TableId, u64) {
    (tables[(key / 2 % 2) as usize], key)
}

impl pitr_engine_test::Transaction for Open<'_> {
    fn put(&mut self, key: u64, value: &[u8]) -> Result<(), BoxError> {
        let (table, row) = place(self.1, key);
        Ok(self.0.put(table, row, value)?)
    }

    fn delete(&mut self, key: u64) -> Result<(), BoxError> {
        let (table, row) = place(self.1, key);
        Ok(self.0.delete(table, row)?)
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        Ok(self.0.flush()?)
    }

    fn commit(self: Box<Self>) -> Result<Committed, BoxError> {
        Ok(self.0.commit()?)
    }

    fn abort(self: Box<Self>) -> Result<(), BoxError> {
        self.0.abort();
        Ok(())
    }
}

impl Subject for Reference {
    type Store = Opened;

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(ReferenceEngine)
    }

    fn limits(&self) -> Limits {
        Limits::default().keys(120).value_bytes(VALUE_BYTES).logical(self.is_logical)
    }

    fn create(&self, env: &Env, dir: &Path) -> Result<Opened, BoxError> {
        let store = Store::open(env, dir, &options())?;
        let table = |name, is_logical| match store.table(name)? {
            Some(table) => Ok(table),
            None if is_logical => store.create_table_of_rows_up_to(name, VALUE_BYTES),
            None => store.create_table(name, VALUE_BYTES),
        };
        Ok(Opened { tables: [table("a", false)?, table("b", self.is_logical)?], store })
    }

    fn open(&self, env: &Env, dir: &Path) -> Result<Opened, BoxError> {
        if !env.fs.exists(&dir.join("CONTROL"))? {
            return Err("no store is here".into());
        }
        let store = Store::open(env, dir, &options())?;
        let tables = [store.table("a")?, store.table("b")?].map(|table| table.ok_or("a table is missing"));
        let [a, b] = tables;
        Ok(Opened { tables: [a?, b?], store })
    }

    fn begin<'s>(&self, store: &'s Opened) -> Result<Box<dyn pitr_engine_test::Transaction + 's>, BoxError> {
        Ok(Box::new(Open(store.store.begin(), store.tables)))
    }

    fn rows(&self, store: &Opened) -> Result<Rows, BoxError> {
        let [a, b] = store.tables;
        let mut rows = store.store.rows(a)?;
        rows.extend(store.store.rows(b)?);
        Ok(rows)
    }

    fn checkpoint(&self, store: &Opened) -> Result<(), BoxError> {
        Ok(store.store.checkpoint()?)
    }

    fn wal<'s>(&self, store: &'s Opened) -> &'s Wal {
        store.store.wal()
    }

    fn begin_snapshot<'s>(&self, store: &'s Opened) -> Result<Box<dyn FuzzySource + 's>, BoxError> {
        Ok(Box::new(store.store.begin_snapshot()?))
    }
}

#[test]
fn the_reference_engine_passes_the_suite() {
    for is_logical in [false, true] {
        let report = Suite::new(&Reference { is_logical }).run();
        report.assert_passed();
        assert_eq!(report.passed, Rule::ALL);
    }
}
