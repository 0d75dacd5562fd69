//! DNS messages written octet by octet, right ones and wrong ones, for tests that read them.
//!
//! Nothing here shares code with the parsers under test.
#![allow(dead_code, reason = "each test uses what it needs")]

/// Record types by number.
pub mod rtype {
    #![allow(missing_docs)]
    pub const A: u16 = 1;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const NAPTR: u16 = 35;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const RRSIG: u16 = 46;
    pub const HTTPS: u16 = 65;
    pub const TSIG: u16 = 250;
    pub const IXFR: u16 = 251;
    pub const ANY: u16 = 255;
}

/// The pointer to the question's name.
pub const TO_QUESTION: &[u8] = b"\xc0\x0c";

/// A message under construction.
#[derive(Clone)]
pub struct Packet(pub Vec<u8>);

/// Where a record goes, by the offset of its count.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub enum Section {
    Answer = 6,
    Authority = 8,
    Additional = 10,
}

impl Packet {
    /// A request with RD set.
    pub fn query(name: &str, rtype: u16) -> Self {
        Self::asking(0x0100, &wire(name), rtype)
    }

    /// A NOERROR response with QR, RD and RA set.
    pub fn response(name: &str, rtype: u16) -> Self {
        Self::asking(0x8180, &wire(name), rtype)
    }

    /// A header with these flags, and one question of class IN.
    pub fn asking(flags: u16, name: &[u8], rtype: u16) -> Self {
        let mut octets = vec![0xBE, 0xEF];
        octets.extend(flags.to_be_bytes());
        octets.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        octets.extend(name);
        octets.extend(rtype.to_be_bytes());
        octets.extend([0, 1]);
        Self(octets)
    }

    /// Sets the response code.
    pub fn rcode(mut self, rcode: u8) -> Self {
        self.0[3] |= rcode;
        self
    }

    /// Appends a record of class IN, and counts it.
    pub fn record(
        self,
        section: Section,
        owner: &[u8],
        rtype: u16,
        ttl_s: u32,
        rdata: &[u8],
    ) -> Self {
        self.classed(section, owner, (rtype, 1), ttl_s, rdata)
    }

    /// Appends a record of any class.
    pub fn classed(
        mut self,
        section: Section,
        owner: &[u8],
        (rtype, class): (u16, u16),
        ttl_s: u32,
        rdata: &[u8],
    ) -> Self {
        self.count(section);
        self.0.extend(owner);
        self.0.extend(rtype.to_be_bytes());
        self.0.extend(class.to_be_bytes());
        self.0.extend(ttl_s.to_be_bytes());
        self.0.extend((rdata.len() as u16).to_be_bytes());
        self.0.extend(rdata);
        self
    }

    /// Appends an answer of the asked name.
    pub fn answer(self, rtype: u16, ttl_s: u32, rdata: &[u8]) -> Self {
        self.record(Section::Answer, TO_QUESTION, rtype, ttl_s, rdata)
    }

    /// Appends OPT with this payload size, TTL field and options.
    pub fn opt(self, payload_bytes: u16, ttl: u32, options: &[u8]) -> Self {
        self.classed(Section::Additional, &[0], (rtype::OPT, payload_bytes), ttl, options)
    }

    /// Appends the SOA of `owner` to the authority section.
    pub fn soa(self, owner: &str) -> Self {
        let rdata = [&wire("ns.example")[..], &wire("root.example"), &[0; 20]].concat();
        self.record(Section::Authority, &wire(owner), rtype::SOA, 900, &rdata)
    }

    /// Appends octets as they are.
    pub fn octets(mut self, octets: &[u8]) -> Self {
        self.0.extend(octets);
        self
    }

    /// Octets so far: where the next record begins.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn count(&mut self, section: Section) {
        let at = section as usize;
        let count = u16::from_be_bytes([self.0[at], self.0[at + 1]]) + 1;
        self.0[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }
}

/// A name of plain labels in wire form, spelled as it is.
pub fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

/// A pointer to this offset.
pub fn pointer(offset: usize) -> [u8; 2] {
    (0xC000 | offset as u16).to_be_bytes()
}

/// One EDNS option.
pub fn option(code: u16, value: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// The longest name: 127 labels of one octet.
pub fn longest_of_labels() -> String {
    vec!["a"; 127].join(".")
}

/// The longest name in four labels.
pub fn longest_of_octets() -> String {
    let label = "x".repeat(63);
    [&label[..], &label, &label, &label[..61]].join(".")
}

/// Requests that a server must be able to read.
pub fn queries() -> Vec<(&'static str, Vec<u8>)> {
    use rtype::*;
    let web = || Packet::query("Web.Shop.svc.cluster.local", A);
    let cookie = option(10, &[7; 8]);
    let subnet = option(8, &[0, 1, 24, 0, 192, 0, 2]);
    let client_tags = [option(3, b""), cookie.clone(), subnet.clone(), option(12, &[0; 32])];
    let tsig = [&wire("hmac-sha256")[..], &[0; 6], &[1, 44], &[0, 4, 1, 2, 3, 4], &[0; 6]].concat();
    let soa = [&wire("ns.example")[..], &wire("root.example"), &[0; 20]].concat();
    let mut all = vec![
        ("plain", web()),
        ("AAAA", Packet::query("web.shop.svc.cluster.local", AAAA)),
        ("root NS", Packet::query(".", 2)),
        ("SRV", Packet::query("_http._tcp.web.shop.svc.cluster.local", SRV)),
        ("PTR", Packet::query("1.0.96.10.in-addr.arpa", PTR)),
        ("HTTPS", Packet::query("example.org", HTTPS)),
        ("ANY", Packet::query("example.org", ANY)),
        ("an unknown type", Packet::query("example.org", 65_280)),
        ("127 labels", Packet::query(&longest_of_labels(), A)),
        ("255 octets", Packet::query(&longest_of_octets(), A)),
        ("binary label", Packet::asking(0x0100, b"\x04\x00\xff.\\\x03com\x00", A)),
        ("no RD", Packet::asking(0, &wire("example.org"), A)),
        ("CD", Packet::asking(0x0110, &wire("example.org"), A)),
        ("AD", Packet::asking(0x0120, &wire("example.org"), A)),
        ("OPT", web().opt(1232, 0, b"")),
        ("OPT with DO", web().opt(4096, 0x8000, b"")),
        ("OPT with a tiny payload", web().opt(100, 0, b"")),
        ("OPT of version 1", web().opt(1232, 0x0001_0000, b"")),
        ("a cookie", web().opt(1232, 0, &cookie)),
        ("a client subnet", web().opt(1232, 0, &subnet)),
        ("many options", web().opt(1232, 0, &client_tags.concat())),
        ("TSIG", {
            web().classed(Section::Additional, &wire("key.example"), (TSIG, 255), 0, &tsig)
        }),
        ("OPT and TSIG", {
            let key = wire("key.example");
            web().opt(1232, 0, b"").classed(Section::Additional, &key, (TSIG, 255), 0, &tsig)
        }),
        ("IXFR", {
            let query = Packet::query("example", IXFR);
            query.record(Section::Authority, TO_QUESTION, SOA, 0, &soa)
        }),
    ];
    let mut chaos = Packet::query("version.bind", TXT);
    let end = chaos.len();
    chaos.0[end - 1] = 3;
    all.push(("CHAOS", chaos));
    all.into_iter().map(|(what, packet)| (what, packet.0)).collect()
}

/// Responses that are right, each with the octets of its question.
pub fn responses() -> Vec<(&'static str, Vec<u8>)> {
    use rtype::*;
    let ask = |rtype| Packet::response("www.example.org", rtype);
    let signature = |of: u16| {
        let fixed = [&of.to_be_bytes()[..], &[8, 3], &[0; 14]].concat();
        [fixed, wire("example.org"), vec![9; 64]].concat()
    };
    let chain = |hops: usize| {
        (0..hops).fold(ask(A), |packet, hop| {
            let owner = if hop == 0 { TO_QUESTION.to_vec() } else { wire(&format!("h{hop}.net")) };
            let target = wire(&format!("h{}.net", hop + 1));
            packet.record(Section::Answer, &owner, CNAME, 300, &target)
        })
    };
    let all = vec![
        ("one address", ask(A).answer(A, 60, &[192, 0, 2, 1])),
        ("thirty addresses", {
            (1..=30).fold(ask(A), |packet, n| packet.answer(A, 60, &[192, 0, 2, n]))
        }),
        ("AAAA", ask(AAAA).answer(AAAA, 60, &[0x20; 16]).answer(AAAA, 60, &[0x21; 16])),
        ("a chain", {
            let end = wire("h3.net");
            let chain = chain(3).record(Section::Answer, &end, A, 20, &[192, 0, 2, 1]);
            chain.record(Section::Answer, &end, A, 20, &[192, 0, 2, 2])
        }),
        ("a compressed chain", {
            let packet = ask(A);
            let target = packet.len() + 12;
            let rdata = [b"\x03cdn".to_vec(), pointer(12 + 4).to_vec()].concat();
            let packet = packet.answer(CNAME, 300, &rdata);
            packet.record(Section::Answer, &pointer(target), A, 60, &[192, 0, 2, 3])
        }),
        ("a dangling chain", chain(2)),
        ("NXDOMAIN", ask(A).rcode(3).soa("example.org")),
        ("NXDOMAIN behind a chain", chain(1).rcode(3).soa("net")),
        ("NODATA", ask(AAAA).soa("example.org")),
        ("SERVFAIL", ask(A).rcode(2)),
        ("MX", {
            let rdata = [&[0, 10, 4][..], b"mail", &pointer(12 + 4)].concat();
            let packet = ask(MX).answer(MX, 60, &rdata);
            packet.record(Section::Additional, &wire("mail.example.org"), A, 60, &[192, 0, 2, 9])
        }),
        ("SRV", ask(SRV).answer(SRV, 60, &[&[0, 0, 0, 5, 1, 187][..], &wire("a.b")].concat())),
        ("HTTPS", {
            ask(HTTPS).answer(HTTPS, 60, &[&[0, 1, 0][..], &[0, 1, 0, 3, 2], b"h2"].concat())
        }),
        ("TXT", ask(TXT).answer(TXT, 60, b"\x05hello\x00")),
        ("an unknown type", ask(65_280).answer(65_280, 60, &[0xC0; 9])),
        ("a signed address", {
            ask(A).answer(A, 60, &[192, 0, 2, 1]).answer(RRSIG, 60, &signature(A))
        }),
        ("a signed chain", {
            let packet = ask(A).answer(CNAME, 60, &wire("h1.net"));
            let packet = packet.answer(RRSIG, 60, &signature(CNAME));
            let packet = packet.record(Section::Answer, &wire("h1.net"), A, 60, &[192, 0, 2, 1]);
            packet.record(Section::Answer, &wire("h1.net"), RRSIG, 60, &signature(A))
        }),
        (
            "an extended error",
            ask(A).rcode(3).soa("example.org").opt(
                1232,
                0,
                &[option(10, &[1; 24]), option(15, b"\0\x0Fhttps://evil.com")].concat(),
            ),
        ),
        ("OPT", ask(A).answer(A, 60, &[192, 0, 2, 1]).opt(1232, 0x8000, &option(10, &[1; 24]))),
        ("different TTLs", ask(A).answer(A, 60, &[192, 0, 2, 1]).answer(A, 9, &[192, 0, 2, 2])),
        ("a TTL with the high bit", ask(A).answer(A, 0x8000_0001, &[192, 0, 2, 1])),
        ("glue and authority", {
            let packet = ask(A).answer(A, 60, &[192, 0, 2, 1]);
            let packet =
                packet.record(Section::Authority, &wire("example.org"), 2, 60, &wire("ns.a"));
            packet.record(Section::Additional, &wire("ns.a"), A, 60, &[192, 0, 2, 53])
        }),
        ("a stranger between", {
            let packet = ask(A).answer(A, 60, &[192, 0, 2, 1]);
            let packet = packet.record(Section::Answer, &wire("evil.com"), A, 60, &[6; 4]);
            packet.answer(A, 60, &[192, 0, 2, 2])
        }),
        ("a stranger before compressed names", {
            let packet = ask(MX).record(Section::Answer, &wire("evil.com"), A, 60, &[6; 4]);
            let target = packet.len() + 12 + 2;
            let packet = packet.answer(MX, 60, &[&[0, 10, 4][..], b"mail", &pointer(16)].concat());
            packet.answer(MX, 60, &[&[0, 20][..], &pointer(target)].concat())
        }),
        ("a stranger and a compressed SOA", {
            let packet = ask(A).rcode(3);
            let packet = packet.record(Section::Answer, &wire("evil.com"), A, 60, &[6; 4]);
            let rdata = [b"\x02ns", &pointer(16)[..], b"\x04root", &pointer(16), &[0; 20]].concat();
            packet.record(Section::Authority, &pointer(16), SOA, 900, &rdata)
        }),
        ("a name that holds its question", {
            Packet::response(&longest_of_labels(), A).answer(A, 60, &[192, 0, 2, 1])
        }),
    ];
    all.into_iter().map(|(what, packet)| (what, packet.0)).collect()
}

/// Responses that no parser may follow to the end.
pub fn hostile_responses() -> Vec<(&'static str, Vec<u8>)> {
    use rtype::*;
    let ask = || Packet::response("www.example.org", CNAME);
    let at = ask().len() + 12;
    let all = vec![
        ("a pointer to itself", ask().answer(CNAME, 60, &pointer(at))),
        ("two pointers in a ring", {
            let rdata = [pointer(at + 2), pointer(at)].concat();
            ask().answer(65_280, 60, &rdata).answer(CNAME, 60, &pointer(at))
        }),
        ("a pointer forwards", ask().answer(CNAME, 60, &pointer(at + 40)).octets(&[0; 60])),
        ("a pointer into the header", ask().answer(CNAME, 60, &pointer(2))),
        ("a reserved label type", ask().answer(CNAME, 60, b"\x41ab\x00")),
        ("a label that ends outside", ask().answer(CNAME, 60, b"\x3fab")),
        ("a chain that bites its tail", {
            let packet = ask().answer(CNAME, 60, &wire("b.net"));
            packet.record(Section::Answer, &wire("b.net"), CNAME, 60, TO_QUESTION)
        }),
        ("counts beyond the end", {
            let mut packet = ask();
            packet.0[6..12].fill(0xFF);
            packet
        }),
    ];
    all.into_iter().map(|(what, packet)| (what, packet.0)).collect()
}
