//! Zone transfers and NOTIFY, over all directives.

use std::fmt;
use std::sync::atomic::Ordering;

use super::{Page, Value};
use crate::resolve::transfer::Shared;

/// Writes the families.
pub(super) fn write(page: &mut Page<'_, '_>, shared: &Shared) -> fmt::Result {
    let counters = &shared.counters;
    let sent = counters.sent().map(|(kind, count)| (vec![("kind", kind.into())], count));
    let sent = sent.map(|(labels, count)| (labels, Value::Counter(count)));
    page.family("mainstay_transfers", "Zone transfers begun", sent)?;
    let refused = counters.refused().map(|(why, count)| (vec![("reason", why.into())], count));
    let refused = refused.map(|(labels, count)| (labels, Value::Counter(count)));
    page.family("mainstay_transfers_refused", "Zone transfers refused", refused)?;
    for (name, help, counter) in [
        ("mainstay_transfers_cut", "Zone transfers that did not reach their end", &counters.cut),
        ("mainstay_transfer_versions_dropped", "Versions given up", &counters.forgotten),
        ("mainstay_notifies", "NOTIFY that were taken", &counters.notified),
        ("mainstay_notifies_refused", "NOTIFY that were refused", &counters.declined),
        ("mainstay_notifies_unanswered", "NOTIFY that nobody answered", &counters.unanswered),
    ] {
        let value = Value::Counter(counter.load(Ordering::Relaxed));
        page.family(name, help, [(vec![], value)])?;
    }
    let under_way = Value::Gauge(shared.under_way() as f64);
    page.family("mainstay_transfers_under_way", "Zone transfers", [(vec![], under_way)])
}
