//! The table of directives in the README is the one that the parser has.

#[test]
fn the_readme_lists_every_directive_and_option() {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let table = mainstay::corefile::directives_table();
    assert!(
        readme.contains(table.trim()),
        "README.md does not have this table; put it there:\n\n{table}"
    );
}
