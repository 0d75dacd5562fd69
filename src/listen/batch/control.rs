//! Control messages: what the kernel tells beside a packet, and is told beside a reply.

use std::mem::size_of;

/// Octets for two control messages: the larger of the two pktinfo structures, and the time that a
/// packet came.
pub const CONTROL_MAX: usize = 80;

/// Aligned as the kernel wants its control messages.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Control(pub [u8; CONTROL_MAX]);

/// One control message.
pub struct Message<'c> {
    pub level: libc::c_int,
    pub kind: libc::c_int,
    /// Where it begins.
    pub start: usize,
    pub content: &'c [u8],
}

/// The control messages of a packet.
pub fn messages(control: &Control, len: usize) -> impl Iterator<Item = Message<'_>> {
    let all = &control.0[..len.min(CONTROL_MAX)];
    let mut start = 0;
    std::iter::from_fn(move || {
        let here = start;
        let (header, _) = all.get(here..)?.split_at_checked(size_of::<libc::cmsghdr>())?;
        // SAFETY: `header` is as long as a cmsghdr, of which every pattern of bits is one.
        let header: libc::cmsghdr = unsafe { std::ptr::read_unaligned(header.as_ptr().cast()) };
        let end = here.checked_add(header.cmsg_len)?;
        let content = all.get(here + size_of::<libc::cmsghdr>()..end)?;
        start = end.next_multiple_of(size_of::<usize>());
        Some(Message { level: header.cmsg_level, kind: header.cmsg_type, start: here, content })
    })
}

/// Turns the pktinfo of a received packet into that of its reply: the same local address, any
/// interface, but for link-local addresses, which mean nothing without theirs. Answers how many
/// octets of control to send.
pub fn source_only(control: &mut Control, len: usize) -> usize {
    let header_len = size_of::<libc::cmsghdr>();
    let is_source = |message: &Message<'_>| {
        matches!(
            (message.level, message.kind),
            (libc::IPPROTO_IP, libc::IP_PKTINFO) | (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
        )
    };
    let Some(Message { level, start, .. }) = messages(control, len).find(is_source) else {
        return 0;
    };
    if start > 0 {
        control.0.copy_within(start.., 0);
    }
    if level == libc::IPPROTO_IP {
        // struct in_pktinfo { int ifindex; in_addr spec_dst; in_addr addr; }
        control.0[header_len..header_len + 4].fill(0);
        return control_space(12);
    }
    // struct in6_pktinfo { in6_addr addr; unsigned ifindex; }
    let is_link_local = control.0[header_len] == 0xFE && control.0[header_len + 1] & 0xC0 == 0x80;
    if !is_link_local {
        control.0[header_len + 16..header_len + 20].fill(0);
    }
    control_space(20)
}

/// CMSG_SPACE of so many octets.
fn control_space(len: u32) -> usize {
    // SAFETY: a pure computation.
    unsafe { libc::CMSG_SPACE(len) as usize }
}
