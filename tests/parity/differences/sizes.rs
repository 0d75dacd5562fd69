//! What is told of sizes, and what is left out where a reply does not fit.

use crate::questions::Question;
use crate::reply::{EDE, Edns, Reply, TC};

use super::SRV;

/// Largest reply of Mainstay over UDP, and the payload size that it tells (RFC 9715 §3).
const UDP_MAX: usize = 1232;

type OfEdns = fn(&Question, &Edns, &Edns) -> bool;
type OfCut = fn(&Cut<'_>) -> bool;

/// All that differs has to be explained by one each.
pub const OF_EDNS: [(&str, OfEdns); 2] =
    [("own-payload-size", own_payload_size), ("extended-error", extended_error)];
pub const OF_CUTS: [(&str, OfCut); 2] = [
    ("udp-reply-of-1232", udp_reply_of_1232),
    ("srv-without-glue-is-whole", srv_without_glue_is_whole),
];

/// Both replies without OPT: as they came, and as they are over TCP.
pub struct Cut<'c> {
    pub question: &'c Question,
    pub theirs: (&'c Reply, &'c Reply),
    pub ours: (&'c Reply, &'c Reply),
}

impl Cut<'_> {
    /// What explains the difference of what was left out; nothing, if both left out records and say
    /// so.
    pub fn explain(&self) -> Option<Vec<&'static str>> {
        let (theirs, ours) = (self.theirs, self.ours);
        if !is_cut_of(ours.0, ours.1) || ours.0.len.0 > self.question.size_max() {
            return None;
        }
        let are_whole = theirs.0 == theirs.1 && ours.0 == ours.1;
        if theirs.0.has(TC) && ours.0.has(TC) || are_whole {
            return Some(Vec::new());
        }
        OF_CUTS.iter().find(|(_, rule)| rule(self)).map(|(id, _)| vec![*id])
    }
}

/// Whether a reply has no record and no flag that the whole one has not, and says so when records
/// of the answer are missing.
fn is_cut_of(cut: &Reply, whole: &Reply) -> bool {
    let is_part = |part: &[_], whole: &[_]| part.iter().all(|record| whole.contains(record));
    cut.rcode == whole.rcode
        && cut.flags & !TC == whole.flags
        && is_part(&cut.answer, &whole.answer)
        && is_part(&cut.authority, &whole.authority)
        && is_part(&cut.additional, &whole.additional)
        && (cut.has(TC) || cut.answer == whole.answer && cut.authority == whole.authority)
}

fn own_payload_size(question: &Question, theirs: &Edns, ours: &Edns) -> bool {
    let (size, _) = question.edns.expect("they have OPT because the question has");
    theirs.payload_bytes == size
        && theirs.payload_bytes != ours.payload_bytes
        && usize::from(ours.payload_bytes) == UDP_MAX
}

/// One option of RFC 8914, with a code and a text.
fn extended_error(_: &Question, theirs: &Edns, ours: &Edns) -> bool {
    let [(EDE, value)] = &ours.options[..] else { return false };
    theirs.options.is_empty() && value.len() >= 2 && std::str::from_utf8(&value[2..]).is_ok()
}

fn udp_reply_of_1232(cut: &Cut<'_>) -> bool {
    cut.question.size_max() > UDP_MAX
        && !cut.theirs.0.has(TC)
        && cut.theirs.0.len.0 > UDP_MAX
        && cut.ours.0.has(TC)
        && cut.ours.0.len.0 <= UDP_MAX
}

/// All SRV records are there, and glue is missing in one of the replies.
fn srv_without_glue_is_whole(cut: &Cut<'_>) -> bool {
    let (theirs, ours) = (cut.theirs, cut.ours);
    let has_less_glue = ours.0.additional.len() < ours.1.additional.len();
    cut.question.rtype == SRV
        && !ours.0.has(TC)
        && ours.0.answer == ours.1.answer
        && (has_less_glue || theirs.0.has(TC))
}
