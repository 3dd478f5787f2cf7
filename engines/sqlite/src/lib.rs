//! Captures every committed transaction of an unmodified SQLite application.
