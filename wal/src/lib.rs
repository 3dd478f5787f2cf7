//! A write-ahead log with group commit, fixed segments and an exact answer to a torn tail.
