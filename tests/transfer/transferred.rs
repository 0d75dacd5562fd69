//! What `dig` gets of a zone.

use std::process::Command;

/// The records of a transfer, in their order.
#[derive(Debug)]
pub struct Transferred {
    /// As presented, fields parted by one space.
    pub records: Vec<String>,
    /// All that was printed.
    pub text: String,
}

/// Asks for a zone over TCP.
pub fn transfer(port: u16, zone: &str, rtype: &str) -> Transferred {
    transfer_from(port, zone, rtype, &["+tcp"])
}

/// The same with more arguments.
pub fn transfer_from(port: u16, zone: &str, rtype: &str, more: &[&str]) -> Transferred {
    let mut command = Command::new("dig");
    command.args(["@127.0.0.1", "-p", &port.to_string(), "+tries=1", "+time=20", "+nosearch"]);
    command.args(more).args([zone, "-t", rtype]);
    let output = command.output().expect("dig was there before");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_record = |line: &&str| !line.starts_with(';') && line.contains(" IN ");
    let spaced = text.replace('\t', " ");
    let records = spaced.lines().filter(is_record).map(one_spaced).collect();
    Transferred { records, text }
}

fn one_spaced(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Transferred {
    /// The records in order of their text, each once.
    pub fn sorted(&self) -> Vec<&String> {
        let mut sorted: Vec<&String> = self.records.iter().collect();
        sorted.sort();
        sorted.dedup();
        sorted
    }

    /// Whether there is a record, written with one space between fields.
    pub fn has(&self, record: &str) -> bool {
        self.records.iter().any(|it| it == record)
    }

    /// The serials of all SOA, in their order.
    pub fn serials(&self) -> Vec<u32> {
        let fields = self.records.iter().map(|it| it.split(' ').collect::<Vec<_>>());
        fields.filter(|it| it[3] == "SOA").map(|it| it[6].parse().unwrap()).collect()
    }

    /// The serial.
    pub fn serial(&self) -> Option<u32> {
        self.serials().first().copied()
    }
}
