//! A store with an empty repository, and the proxy in front of it.

use crate::Result;
use crate::world::World;
use pitr::codec::Codec;
use pitr::objects::{Location, Objects};
use pitr::vfs::Env;
use pitr::{Pitr, PitrConfig};
use pitr_reference::ReferenceEngine;
use pitr_testkit::proxy::{Counts, Faults, Proxy};
use pitr_testkit::servers::{Kind, Server};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Name of the bucket.
const BUCKET: &str = "drill";

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StoreKind {
    /// SeaweedFS, which speaks S3
    Seaweedfs,
    /// moto, which speaks S3
    Moto,
    /// Azurite, which speaks Azure
    Azurite,
    /// A folder, without a proxy
    Local,
}

impl StoreKind {
    fn server(self) -> Option<Kind> {
        match self {
            StoreKind::Seaweedfs => Some(Kind::SeaweedFs),
            StoreKind::Moto => Some(Kind::Moto),
            StoreKind::Azurite => Some(Kind::Azurite),
            StoreKind::Local => None,
        }
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.server().map_or("local", Kind::name))
    }
}

/// Whether requests go through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    ByProxy,
}

/// A store that runs.
pub(crate) struct Place {
    location: Location,
    // Dropped before the server.
    proxy: Option<Proxy>,
    server: Option<Server>,
}

impl Place {
    /// Starts the store, with its data in the drill's folder. A bucket is empty; a folder is
    /// missing.
    pub(crate) fn start(kind: StoreKind, world: &World, faults: Faults) -> Result<Place> {
        let Some(server) = kind.server() else {
            let location = Location::parse(world.path("repository"))?;
            return Ok(Place { location, proxy: None, server: None });
        };
        let server = Server::start(server, &world.path("server"))?;
        let location = Location::parse(server.bucket(BUCKET)?)?;
        let proxy = Proxy::start(server.address(), faults)?;
        Ok(Place { location, proxy: Some(proxy), server: Some(server) })
    }

    /// The argument `--repo`.
    pub(crate) fn url(&self) -> String {
        self.location.to_string()
    }

    /// The environment of a process that uses the store.
    pub(crate) fn environment(&self, way: Way) -> Vec<(String, String)> {
        match (&self.server, &self.proxy) {
            (Some(server), Some(proxy)) if way == Way::ByProxy => server.environment_at(proxy.address()),
            (Some(server), _) => server.environment(),
            _ => Vec::new(),
        }
    }

    /// The settings of `object_store`.
    pub(super) fn options(&self, way: Way) -> BTreeMap<String, String> {
        match (&self.server, &self.proxy) {
            (Some(server), Some(proxy)) if way == Way::ByProxy => server.options_at(proxy.address()),
            (Some(server), _) => server.options(),
            _ => BTreeMap::new(),
        }
    }

    /// Creates the repository, without the proxy.
    pub(crate) fn init(&self) -> Result<()> {
        let env = Env::system();
        match self.location.folder() {
            Some(folder) => drop(Pitr::init(&PitrConfig::at(folder))?),
            None => drop(self.objects(Way::Direct)?.init_repository(env.clock.now())?),
        }
        Ok(())
    }

    /// The objects.
    pub(crate) fn objects(&self, way: Way) -> Result<Objects> {
        self.objects_on(way, &Env::system())
    }

    /// The objects, on a machine with another clock.
    pub(crate) fn objects_on(&self, way: Way, env: &Env) -> Result<Objects> {
        Ok(Objects::open_with(&self.location, &self.options(way), env)?)
    }

    /// The repository, with the reference engine.
    pub(crate) fn pitr(&self, way: Way) -> Result<Pitr> {
        self.pitr_on(way, &Env::system())
    }

    /// The repository, with the reference engine, on a machine with another clock.
    pub(crate) fn pitr_on(&self, way: Way, env: &Env) -> Result<Pitr> {
        let mut pitr = Pitr::with_objects(self.objects_on(way, env)?, Codec::default())?;
        pitr.register_default(Arc::new(ReferenceEngine))?;
        Ok(pitr)
    }

    /// The proxy.
    pub(crate) fn proxy(&self) -> Result<&Proxy> {
        self.proxy.as_ref().ok_or_else(|| "this part needs a store behind the proxy, not `local`".into())
    }

    /// What the proxy has counted; nothing without a proxy.
    pub(crate) fn counts(&self) -> Counts {
        self.proxy.as_ref().map(Proxy::counts).unwrap_or_default()
    }
}
