//! Objects of the Index in octets, and back.

use super::octets::{Cursor, Writer};
use crate::cluster::index::{Kept, KeptSlice};
use crate::cluster::object::{
    Endpoints, External, Import, Kind, Object, ObjectKey, Part, Pod, Port, Protocol, Role, Service,
    Slice,
};
use crate::wire::Name;

/// How a Service is found.
const CLUSTER_IP: u8 = 0;
const HEADLESS: u8 = 1;
const EXTERNAL_NAME: u8 = 2;
/// Where it is outside of the cluster.
const ADDRESS: u8 = 0;
const HOST: u8 = 1;

/// Writes one object.
pub(super) fn write(writer: &mut Writer, object: Kept<'_>) {
    match object {
        Kept::Namespace(name) => writer.text(name),
        Kept::Service(service) => write_service(writer, service),
        Kept::Slice(slice) => write_slice(writer, slice),
        Kept::Pod(key, addresses) => {
            write_key(writer, &key.namespace, &key.name);
            writer.list(addresses, |writer, address| writer.address(*address));
        }
    }
}

/// Reads one object of a kind.
pub(super) fn read(kind: Kind, cursor: &mut Cursor<'_>) -> Option<Object> {
    Some(match kind {
        Kind::Namespace => Object::Namespace(cursor.text()?.into()),
        Kind::Service => Object::Service(read_service(cursor)?),
        Kind::Import => Object::Import(read_service(cursor)?),
        Kind::Slice => Object::Slice(read_slice(cursor)?),
        Kind::Pod => {
            let (key, addresses) = (read_key(cursor)?, cursor.list(Cursor::address)?.into());
            Object::Pod(Pod { key, addresses })
        }
    })
}

fn write_key(writer: &mut Writer, namespace: &str, name: &str) {
    writer.text(namespace);
    writer.text(name);
}

fn read_key(cursor: &mut Cursor<'_>) -> Option<ObjectKey> {
    Some(ObjectKey { namespace: cursor.text()?.into(), name: cursor.text()?.into() })
}

fn write_service(writer: &mut Writer, service: &Service) {
    write_key(writer, &service.key.namespace, &service.key.name);
    match &service.role {
        Role::ClusterIp(addresses) => {
            writer.octet(CLUSTER_IP);
            writer.list(addresses, |writer, address| writer.address(*address));
        }
        Role::Headless => writer.octet(HEADLESS),
        Role::ExternalName(name) => {
            writer.octet(EXTERNAL_NAME);
            writer.text(name);
        }
    }
    writer.list(&service.ports, write_port);
    writer.flag(service.has_selector);
    writer.list(&service.externals, |writer, external| match external {
        External::Address(address) => {
            writer.octet(ADDRESS);
            writer.address(*address);
        }
        External::Host(name) => {
            writer.octet(HOST);
            writer.octets(name.octets());
        }
    });
}

fn read_service(cursor: &mut Cursor<'_>) -> Option<Service> {
    let key = read_key(cursor)?;
    let role = match cursor.octet()? {
        CLUSTER_IP => Role::ClusterIp(cursor.list(Cursor::address)?),
        HEADLESS => Role::Headless,
        EXTERNAL_NAME => Role::ExternalName(cursor.text()?.into()),
        _ => return None,
    };
    let ports = cursor.list(read_port)?;
    let has_selector = cursor.flag()?;
    let externals = cursor.list(|cursor| match cursor.octet()? {
        ADDRESS => cursor.address().map(External::Address),
        HOST => Name::from_wire(cursor.octets()?).map(External::Host),
        _ => None,
    })?;
    Some(Service { key, role, ports, has_selector, externals: externals.into() })
}

fn write_slice(writer: &mut Writer, slice: KeptSlice<'_>) {
    write_key(writer, slice.namespace, slice.name);
    writer.option(slice.service);
    writer.flag(slice.import.is_some());
    if let Some((service, cluster)) = slice.import {
        writer.text(service);
        writer.text(cluster);
    }
    writer.list(slice.parts, |writer, part| {
        writer.octets(part.endpoints.octets());
        writer.list(&part.ports, write_port);
    });
}

fn read_slice(cursor: &mut Cursor<'_>) -> Option<Slice> {
    let key = read_key(cursor)?;
    let service = cursor.option()?.map(Into::into);
    let import = match cursor.flag()? {
        true => Some(Import { service: cursor.text()?.into(), cluster: cursor.text()?.into() }),
        false => None,
    };
    let parts = cursor.list(|cursor| {
        let endpoints = Endpoints::from_octets(cursor.octets()?)?;
        Some(Part { endpoints, ports: cursor.list(read_port)?.into() })
    })?;
    Some(Slice { key, service, import, parts: parts.into(), triggered_ms: None })
}

fn write_port(writer: &mut Writer, port: &Port) {
    writer.text(&port.name);
    writer.octet(match port.protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    });
    writer.number(port.number.into());
}

fn read_port(cursor: &mut Cursor<'_>) -> Option<Port> {
    let name = cursor.text()?.into();
    let protocol = match cursor.octet()? {
        0 => Protocol::Tcp,
        1 => Protocol::Udp,
        2 => Protocol::Sctp,
        _ => return None,
    };
    Some(Port { name, protocol, number: u16::try_from(cursor.number()?).ok()? })
}
