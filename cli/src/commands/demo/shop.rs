//! A small shop on SQLite: customers, orders, order lines. It is independent of pitr.

use rusqlite::{Connection, Result, Transaction, params};

const SCHEMA: &str = "
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE);
    CREATE TABLE orders (
        id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers, status TEXT NOT NULL, note BLOB
    );
    CREATE INDEX orders_by_customer ON orders (customer_id);
    CREATE TABLE order_lines (
        order_id INTEGER NOT NULL REFERENCES orders, line INTEGER NOT NULL,
        article TEXT NOT NULL, quantity INTEGER NOT NULL, price_cents INTEGER NOT NULL,
        PRIMARY KEY (order_id, line)
    ) WITHOUT ROWID;
";
const FIRST_NAMES: [&str; 8] = ["Ada", "Edsger", "Grace", "Alan", "Barbara", "Donald", "Frances", "Tony"];
const LAST_NAMES: [&str; 8] =
    ["Byron", "Vliet", "Murray", "Mathis", "Huberman", "Ervin", "Elizabeth", "Richard"];
const ARTICLES: [&str; 8] = ["lamp", "desk", "chair", "shelf", "clock", "rug", "mirror", "vase"];
const CUSTOMERS_AT_FIRST: u32 = 40;

/// The shop's database and its random numbers.
#[derive(Debug)]
pub(super) struct Shop {
    database: Connection,
    dice: Dice,
}

impl Shop {
    /// Creates the tables and the first customers.
    pub(super) fn open(mut database: Connection, seed: u64) -> Result<Shop> {
        let mut dice = Dice(seed);
        let transaction = database.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        for _ in 0..CUSTOMERS_AT_FIRST {
            new_customer(&transaction, &mut dice)?;
        }
        transaction.commit()?;
        Ok(Shop { database, dice })
    }

    /// The connection.
    pub(super) fn database(&self) -> &Connection {
        &self.database
    }

    /// Commits one ordinary transaction and returns its label.
    pub(super) fn trade(&mut self) -> Result<&'static str> {
        let dice = &mut self.dice;
        let transaction = self.database.transaction()?;
        let label = match dice.below(10) {
            0 => new_customer(&transaction, dice)?,
            1..=2 => pay(&transaction)?,
            3 => change_quantity(&transaction, dice)?,
            _ => order(&transaction, dice)?,
        };
        transaction.commit()?;
        Ok(label)
    }

    /// A customer abandons a basket: a transaction that is rolled back.
    pub(super) fn abandon(&mut self) -> Result<()> {
        let transaction = self.database.transaction()?;
        order(&transaction, &mut self.dice)?;
        transaction.rollback()
    }

    /// A manual clean-up with an incomplete WHERE clause.
    pub(super) fn damage(&mut self) -> Result<&'static str> {
        let transaction = self.database.transaction()?;
        transaction.execute("UPDATE orders SET status = 'cancelled'", [])?;
        transaction.execute("DELETE FROM order_lines WHERE quantity > 1", [])?;
        transaction.commit()?;
        Ok("UPDATE orders without a WHERE, DELETE of the wrong order lines")
    }
}

fn new_customer(shop: &Transaction<'_>, dice: &mut Dice) -> Result<&'static str> {
    let (first, last) = (dice.pick(FIRST_NAMES), dice.pick(LAST_NAMES));
    shop.execute(
        "INSERT INTO customers (name, email) VALUES (?1, ?2)",
        params![format!("{first} {last}"), format!("{first}.{last}.{:016x}@example.org", dice.next())],
    )?;
    Ok("new customer")
}

fn order(shop: &Transaction<'_>, dice: &mut Dice) -> Result<&'static str> {
    let customers: u32 = shop.query_row("SELECT max(id) FROM customers", [], |row| row.get(0))?;
    let note = vec![dice.below(256) as u8; dice.below(600) as usize];
    shop.execute(
        "INSERT INTO orders (customer_id, status, note) VALUES (?1, 'open', ?2)",
        params![1 + dice.below(customers), note],
    )?;
    let id = shop.last_insert_rowid();
    for line in 0..=dice.below(4) {
        shop.execute(
            "INSERT INTO order_lines VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, line, dice.pick(ARTICLES), 1 + dice.below(5), 100 + dice.below(50_000)],
        )?;
    }
    Ok("order")
}

fn pay(shop: &Transaction<'_>) -> Result<&'static str> {
    let paid = shop.execute(
        "UPDATE orders SET status = 'paid' WHERE id = (SELECT min(id) FROM orders WHERE status = 'open')",
        [],
    )?;
    if paid == 0 {
        shop.execute("UPDATE customers SET email = email WHERE id = 1", [])?
    } else {
        paid
    };
    Ok("payment")
}

fn change_quantity(shop: &Transaction<'_>, dice: &mut Dice) -> Result<&'static str> {
    shop.execute(
        "UPDATE customers SET name = name || ?1 WHERE id = ?2",
        params![format!(" {}", dice.below(10)), 1 + dice.below(CUSTOMERS_AT_FIRST)],
    )?;
    shop.execute("UPDATE order_lines SET quantity = quantity + 1 WHERE line = ?1", params![dice.below(4)])?;
    Ok("change of an order")
}

/// Pseudo-random numbers from a seed (SplitMix64: Steele, Lea, Flood 2014).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound` - 1. `bound` must not be 0.
    fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound)) as u32
    }

    fn pick<const N: usize>(&mut self, from: [&'static str; N]) -> &'static str {
        from[self.below(N as u32) as usize]
    }
}
