//! The names of all objects of a repository. No other module spells a path.
//!
//! ```text
//! repository                                        makes the folder a repository
//! keys/<repository>/slots/<id>                      the master key, wrapped; in clear
//! keys/<repository>/rings/<number>                  the data keys, encrypted by the master key
//! leases/<id>-<counter>                             a process that relies on objects
//! condemned/<id>-objects                            paths that are to be deleted
//! condemned/<id>-leases                             leases that must end before that
//! packs/<first two digits>/<digest>                 chunks
//! index/<digest>                                    which chunks some packs hold
//! probes/<id>                                       tests whether puts replace objects
//! rates/<number>                                    the measured rates of a restore
//! sources/<source>/name                             the source's name, where the folder hides it
//!                  timelines/<timeline>             a timeline's history
//!                  epochs/<epoch>-claim             a writer's claim
//!                  epochs/<epoch>-fence             where that writer's objects end
//!                  log/<timeline>/<epoch>/<from>-<to>
//!                                                   a range of the log
//!                  pruned/<timeline>/<from>-<to>    a range that retention deleted
//!                  origins/<epoch>                  host and path of the source from that epoch on
//!                  restored/<mark>/<timeline>-<lsn>
//!                                                   a restored state
//!                  points/<mark>                    a named recovery point
//!                  snapshots/<timeline>/<epoch>/<consistent_at>-<id>
//!                                                   the root of a snapshot
//! ```
//!
//! `<source>` is the source's name; in an encrypted repository, 32 digits of a keyed hash of it.
//! All other names are lower-case hexadecimal of a fixed width: digests 64 digits, repositories and
//! marks 32, timelines and the ids of roots 8, the rest 16. So names sort as their numbers do, and
//! each value has one name.
//!
//! - [`ObjectName`] is the name of any object, [`SourceObject`] of one below a source's
//!   [`SourceFolder`].
//! - [`ObjectName::parse`] is strict: it accepts only what this module writes. Everything else is a
//!   foreign file, which is reported and never trusted (FAILURES 59).
//! - Listings take a folder: the constants and functions of this module, and the methods of
//!   [`SourceFolder`].

mod digits;
mod folder;
mod name;
mod source;

pub use digits::ShortId;
pub use folder::{
    CONDEMNED, INDEX, LEASES, PACKS, PROBES, QUARANTINE, RATES, REPOSITORY, SOURCES, VERIFICATIONS, rings,
    slots,
};
pub use name::ObjectName;
pub use source::{LogName, MARK_BYTES, PrunedRange, RestoredName, RootName, SourceFolder, SourceObject};

pub(crate) use folder::may_hold_objects;
