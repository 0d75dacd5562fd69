//! The objects of an Index, as they are kept in a Snapshot.

use std::net::IpAddr;

use super::{HeldSlice, Index, Side};
use crate::cluster::object::{Kind, ObjectKey, Part, Service};

/// An object where it lies.
#[derive(Clone, Copy)]
pub enum Kept<'i> {
    Namespace(&'i str),
    /// A Service, or a ServiceImport.
    Service(&'i Service),
    Slice(KeptSlice<'i>),
    Pod(&'i ObjectKey, &'i [IpAddr]),
}

/// An EndpointSlice, put together again from what its Services hold of it.
#[derive(Clone, Copy)]
pub struct KeptSlice<'i> {
    pub namespace: &'i str,
    pub name: &'i str,
    pub service: Option<&'i str>,
    /// The imported Service, and the cluster of the endpoints.
    pub import: Option<(&'i str, &'i str)>,
    pub parts: &'i [Part],
}

/// How far the lists of a kind have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    /// Not one is complete: what is held is a part.
    Never,
    /// One was complete, and another is under way: what is held is right, but of no one version.
    Again,
    /// The last one is complete.
    Whole,
}

impl Index {
    /// How far the lists of a kind have come.
    pub fn listed(&self, kind: Kind) -> Listed {
        match self.lists.get(&kind) {
            Some(list) if !list.was_complete => Listed::Never,
            Some(list) if list.seen.is_some() => Listed::Again,
            Some(_) => Listed::Whole,
            None => Listed::Never,
        }
    }

    /// Visits all objects of a kind.
    pub fn each<'i>(&'i self, kind: Kind, visit: &mut dyn FnMut(Kept<'i>)) {
        match kind {
            Kind::Namespace => self.namespaces.iter().for_each(|name| visit(Kept::Namespace(name))),
            Kind::Service => self.local.each_service(visit),
            Kind::Import => self.imported.each_service(visit),
            Kind::Slice => self.each_slice(visit),
            Kind::Pod => self.pods.iter().for_each(|(key, at)| visit(Kept::Pod(key, at))),
        }
    }

    /// Visits the slices: those of Services, which may be imported too, and those of imports only.
    fn each_slice<'i>(&'i self, visit: &mut dyn FnMut(Kept<'i>)) {
        self.local.each_slice(&mut |owner, slice| {
            let import = self.import_of(&owner.namespace, &slice.name);
            visit(Kept::Slice(KeptSlice { import, ..slice.kept(owner, Some(&owner.name)) }));
        });
        self.imported.each_slice(&mut |owner, slice| {
            let key = ObjectKey { namespace: owner.namespace.clone(), name: slice.name.clone() };
            if !self.local.owners.contains_key(&key) {
                let import = Some((&*owner.name, &*slice.cluster));
                visit(Kept::Slice(KeptSlice { import, ..slice.kept(owner, None) }));
            }
        });
    }

    /// What a slice of a Service says of the cluster set.
    fn import_of(&self, namespace: &str, name: &str) -> Option<(&str, &str)> {
        if self.imported.owners.is_empty() {
            return None;
        }
        let key = ObjectKey { namespace: namespace.into(), name: name.into() };
        let service = self.imported.owners.get(&key)?;
        let owner = ObjectKey { namespace: key.namespace, name: service.clone() };
        let held = self.imported.services.get(&owner)?;
        let slice = held.slices.iter().find(|slice| *slice.name == *name)?;
        Some((service, &slice.cluster))
    }
}

impl Side {
    fn each_service<'i>(&'i self, visit: &mut dyn FnMut(Kept<'i>)) {
        let services = self.services.values().filter_map(|held| held.service.as_ref());
        services.for_each(|service| visit(Kept::Service(service)));
    }

    fn each_slice<'i>(&'i self, visit: &mut dyn FnMut(&'i ObjectKey, &'i HeldSlice)) {
        for (owner, held) in &self.services {
            held.slices.iter().for_each(|slice| visit(owner, slice));
        }
    }
}

impl HeldSlice {
    fn kept<'i>(&'i self, owner: &'i ObjectKey, service: Option<&'i str>) -> KeptSlice<'i> {
        let (namespace, name, parts) = (&*owner.namespace, &*self.name, &*self.parts);
        KeptSlice { namespace, name, service, import: None, parts }
    }
}
