//! The tree of statements → server blocks.

use std::collections::HashMap;
use std::iter::Peekable;
use std::vec::IntoIter;

use super::ServerBlock;
use super::directives;
use super::key::{Key, keys};
use super::parse::Statement;
use super::problem::{Findings, Location, Problem, shown};

/// Keys of one file, each network counted as often as it has zones.
const KEYS_MAX: usize = 10_000;

/// Reads all server blocks; tells every problem on the way.
pub(super) fn blocks(
    statements: Vec<Statement>,
    port_default: u16,
    findings: &mut Findings,
) -> Vec<ServerBlock> {
    let mut statements = statements.into_iter().peekable();
    let mut served = Served::default();
    let mut blocks = Vec::new();
    while let Some(draft) = next_draft(&mut statements, findings) {
        let mut block = ServerBlock::new(draft.at.clone());
        block.keys = read_keys(&draft, port_default, findings);
        served.claim(&block, findings);
        read_directives(&mut block, &draft, findings);
        blocks.push(block);
    }
    blocks
}

/// A block before its words are looked at.
struct Draft {
    at: Location,
    keys: Vec<String>,
    body: Vec<Statement>,
}

/// Collects the next block: keys, on several lines when one ends in a comma; then `{`, on a line
/// of its own if need be. Without a brace all that follows are its directives.
fn next_draft(
    statements: &mut Peekable<IntoIter<Statement>>,
    findings: &mut Findings,
) -> Option<Draft> {
    let Statement { at, words: mut keys, mut body } = statements.next()?;
    while body.is_none() && keys.last().is_some_and(|key| key.ends_with(',')) {
        let Some(next) = statements.next() else { break };
        keys.extend(next.words);
        body = next.body;
    }
    if body.is_none() {
        let stands_alone = |next: &Statement| next.words.is_empty() && next.body.is_some();
        body = statements.next_if(stands_alone).and_then(|next| next.body);
    }
    if let Some(body) = body {
        return Some(Draft { at, keys, body });
    }
    if directives::find(keys.first().map_or("", String::as_str)).is_some() {
        let text = format!(
            "{} stands where a zone is expected; begin with a zone, such as \".:53 {{\"",
            shown(&keys[0])
        );
        findings.problem(Problem::new(&at, &keys[0], text));
        statements.by_ref().for_each(drop);
        return None;
    }
    Some(Draft { at, keys, body: statements.collect() })
}

fn read_keys(draft: &Draft, port_default: u16, findings: &mut Findings) -> Vec<Key> {
    let mut read = Vec::new();
    let words = draft.keys.iter().flat_map(|word| word.split_terminator(','));
    for word in words {
        match keys(word, port_default, &draft.at) {
            Ok(keys) => read.extend(keys),
            Err(problem) => findings.problem(problem),
        }
    }
    if draft.keys.is_empty() {
        let text = "a server block has no zone; write one before \"{\", such as \".:53 {\"";
        findings.problem(Problem::new(&draft.at, "{", text));
    }
    read
}

fn read_directives(block: &mut ServerBlock, draft: &Draft, findings: &mut Findings) {
    let mut seen: HashMap<&str, &Location> = HashMap::new();
    for statement in &draft.body {
        if let Err(problem) = read_directive(block, statement, &mut seen, findings) {
            findings.problem(problem);
        }
    }
    directives::external::settle(block, &draft.body, findings);
    directives::check(block, &draft.body, findings);
    if draft.body.is_empty() {
        let text = "a server block without directives refuses every query";
        findings.warn(Problem::new(&draft.at, "", text));
    }
}

fn read_directive<'d>(
    block: &mut ServerBlock,
    statement: &'d Statement,
    seen: &mut HashMap<&'d str, &'d Location>,
    findings: &mut Findings,
) -> Result<(), Problem> {
    if statement.words.is_empty() {
        let text = "\"{\" must stand on the line of its directive";
        return Err(Problem::new(&statement.at, "{", text));
    }
    let name = statement.name();
    let directive = directives::find(name).ok_or_else(|| directives::unknown(statement))?;
    if let (Some(first), false) = (seen.insert(name, &statement.at), directive.repeats) {
        let text = format!("\"{name}\" is already given at {first}; a server block takes one");
        return Err(Problem::new(&statement.at, name, text));
    }
    (directive.apply)(block, statement, findings);
    Ok(())
}

/// Which block serves a key.
#[derive(Default)]
struct Served(HashMap<Key, Location>);

impl Served {
    /// Notes the keys of a block; each may be served once.
    fn claim(&mut self, block: &ServerBlock, findings: &mut Findings) {
        for key in &block.keys {
            if let Err(problem) = self.claim_key(key, &block.at) {
                findings.problem(problem);
            }
        }
    }

    fn claim_key(&mut self, key: &Key, at: &Location) -> Result<(), Problem> {
        let Key { zone, port } = key;
        if let Some(first) = self.0.get(key) {
            let text =
                format!("zone \"{zone}\" on port {port} is already served by the block at {first}");
            return Err(Problem::new(at, &zone.to_string(), text));
        }
        if self.0.len() == KEYS_MAX {
            return Err(Problem::new(at, "", format!("more than {KEYS_MAX} zones")));
        }
        self.0.insert(key.clone(), at.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Origin, load};

    /// The blocks, written as their keys and what `ready` says.
    fn read(text: &str) -> Result<Vec<String>, Vec<String>> {
        let options = Options { port: 1053, ..Options::default() };
        let texts = |problems: Vec<super::Problem>| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let corefile = load(&Origin::Stdin(text.into()), &options).map_err(texts)?;
        let write = |block: &super::ServerBlock| {
            let keys: Vec<String> =
                block.keys.iter().map(|key| format!("{}:{}", key.zone, key.port)).collect();
            format!("{} {}", keys.join(" "), if block.ready.is_some() { "ready" } else { "-" })
        };
        Ok(corefile.blocks.iter().map(write).collect())
    }

    #[test]
    fn blocks_have_keys_and_directives() {
        for (text, blocks) in [
            (".:53 {\n ready\n}", vec![".:53 ready"]),
            (".:53\nready", vec![".:53 ready"]),
            (".\n{\n ready\n}", vec![".:1053 ready"]),
            ("a b:53, c,d {\n}", vec!["a.:1053 b.:53 c.:1053 d.:1053 -"]),
            ("a,\n b:53,\n c {\n ready\n}", vec!["a.:1053 b.:53 c.:1053 ready"]),
            ("a {\n ready\n}\nb {\n}", vec!["a.:1053 ready", "b.:1053 -"]),
            ("a {\n}\nb\nready", vec!["a.:1053 -", "b.:1053 ready"]),
            ("a:53 a:54 {\n ready\n}", vec!["a.:53 a.:54 ready"]),
            ("dns://a:53 10.0.0.0/8 {\n}", vec!["a.:53 10.in-addr.arpa.:1053 -"]),
        ] {
            assert_eq!(read(text).unwrap(), blocks, "{text:?}");
        }
    }

    #[test]
    fn blocks_that_cannot_be_are_told() {
        for (text, problems) in [
            (
                "",
                vec![
                    "stdin - there is no server block in it; begin one with a zone, such as \".:53 \
                     {\"",
                ],
            ),
            (
                "# nothing\n(a) {\n ready\n}\n",
                vec![
                    "stdin - there is no server block in it; begin one with a zone, such as \".:53 \
                     {\"",
                ],
            ),
            (
                "errors\nready",
                vec![
                    "stdin:1 - \"errors\" stands where a zone is expected; begin with a zone, such \
                     as \".:53 {\"",
                ],
            ),
            (
                "{\n ready\n}",
                vec![
                    "stdin:1 - a server block has no zone; write one before \"{\", such as \".:53 \
                     {\"",
                ],
            ),
            (
                ". {\n health\n {\n }\n}",
                vec!["stdin:3 - \"{\" must stand on the line of its directive"],
            ),
            (
                ". {\n}\n. {\n}",
                vec!["stdin:3 - zone \".\" on port 1053 is already served by the block at stdin:1"],
            ),
            (
                "a:53 A.:53 {\n}",
                vec!["stdin:1 - zone \"a.\" on port 53 is already served by the block at stdin:1"],
            ),
            (
                ". {\n cache\n cache 30\n}",
                vec!["stdin:3 - \"cache\" is already given at stdin:2; a server block takes one"],
            ),
            (
                "tls://. {\n bnid\n hosts\n}",
                vec![
                    "stdin:1 - scheme \"tls\" is not supported yet; serve plain dns://",
                    "stdin:2 - unknown directive \"bnid\"",
                    "stdin:3 - \"hosts\" is a CoreDNS directive that Mainstay does not support yet",
                ],
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), problems, "{text:?}");
        }
    }
}
