//! Continuous archiving of a log in LSN ranges: epochs, fences, catalog, restorable intervals.
