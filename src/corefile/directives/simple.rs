//! `loop`, `loadbalance` and `shed`: directives without options.

use super::Directive;
use crate::corefile::grammar::{Form, Grammar};

pub(super) const LOOP: Directive = Directive::new(
    &LOOP_GRAMMAR.line,
    || LOOP_GRAMMAR.rows(),
    |block, statement, findings| {
        LOOP_GRAMMAR.read((), statement, findings);
        block.loop_detection = true;
    },
);

pub(super) const LOADBALANCE: Directive = Directive::new(
    &LOADBALANCE_GRAMMAR.line,
    || LOADBALANCE_GRAMMAR.rows(),
    |block, statement, findings| {
        LOADBALANCE_GRAMMAR.read((), statement, findings);
        block.loadbalance = true;
    },
);

pub(super) const SHED: Directive = Directive::new(
    &SHED_GRAMMAR.line,
    || SHED_GRAMMAR.rows(),
    |block, statement, findings| {
        SHED_GRAMMAR.read((), statement, findings);
        block.shed = true;
    },
);

const LOOP_GRAMMAR: Grammar<()> = Grammar {
    line: Form {
        name: "loop",
        arguments: "",
        meaning: "Detects that queries come back to this server and leaves out the upstream that \
                  sends them.",
        repeats: false,
        read: |(), _| Ok(()),
    },
    options: &[],
    not_yet: &[],
};

const LOADBALANCE_GRAMMAR: Grammar<()> = Grammar {
    line: Form {
        name: "loadbalance",
        arguments: "[round_robin]",
        meaning: "Changes the order of A and AAAA records from answer to answer.",
        repeats: false,
        read: |(), arguments| match arguments.peek() {
            Some("weighted") => Err(arguments.problem(
                "weighted",
                "\"loadbalance weighted\" is not supported yet; write \"loadbalance\"",
            )),
            Some(_) => arguments.choice(&[("round_robin", ())]),
            None => Ok(()),
        },
    },
    options: &[],
    not_yet: &["prefer", "reload"],
};

const SHED_GRAMMAR: Grammar<()> = Grammar {
    line: Form {
        name: "shed",
        arguments: "",
        meaning: "Under overload, drops the UDP queries that have waited longest and answers the \
                  newest. Always on; the line says so.",
        repeats: false,
        read: |(), _| Ok(()),
    },
    options: &[],
    not_yet: &[],
};

#[cfg(test)]
mod tests {
    use crate::corefile::directives::testing::{check_problems, read};

    #[test]
    fn loop_and_loadbalance_are_switches() {
        let (block, _) = read("ready");
        assert!(!block.loop_detection && !block.loadbalance);
        let (block, _) = read("loop\nloadbalance");
        assert!(block.loop_detection && block.loadbalance);
        assert!(read("loadbalance round_robin").0.loadbalance);
    }

    #[test]
    fn shed_is_accepted_and_takes_nothing() {
        assert!(!read("ready").0.shed && read("shed").0.shed);
        check_problems(&[
            ("shed 1024", "2 - \"shed\" does not take \"1024\"; write \"shed\""),
            ("shed {\n depth 10\n}", "3 - unknown option \"depth\" of \"shed\""),
        ]);
    }

    #[test]
    fn what_they_do_not_take_is_told() {
        check_problems(&[
            ("loop strict", "2 - \"loop\" does not take \"strict\"; write \"loop\""),
            ("loop {\n a\n}", "3 - unknown option \"a\" of \"loop\""),
            (
                "loadbalance round_robbin",
                "2 - \"loadbalance\" does not take \"round_robbin\"; write \"loadbalance \
                 [round_robin]\"; did you mean \"round_robin\"?",
            ),
            (
                "loadbalance weighted file",
                "2 - \"loadbalance weighted\" is not supported yet; write \"loadbalance\"",
            ),
            (
                "loadbalance {\n prefer 10.0.0.0/8\n}",
                "3 - \"prefer\" is a CoreDNS option of \"loadbalance\" that Mainstay does not \
                 support yet",
            ),
        ]);
    }
}
