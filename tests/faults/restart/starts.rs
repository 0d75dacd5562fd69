//! P12, P16: starts that cannot be, and end with one line.

use super::*;

#[test]
fn p12_a_bad_corefile_without_a_copy_ends_with_its_line() {
    for supervised in [false, true] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("Corefile");
        std::fs::write(&path, ". {\n    cahce 30\n}\n").unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg("-conf").arg(&path).arg("--state").arg(folder.path());
        command.args(supervised.then_some("--supervised"));
        let (code, log) = Process::run("p12 refused", &mut command, HANG);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("Corefile:2 - unknown directive \"cahce\""), "{log}");
    }
}

#[test]
fn p16_a_corefile_from_standard_input_cannot_be_supervised() {
    let mut command = Command::new(PROGRAM);
    command.env("MAINSTAY_SUPERVISED", "1").args(["-conf", "stdin"]);
    let (code, log) = Process::run("p16 stdin", &mut command, HANG);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("name a file with -conf, or leave out --supervised"), "{log}");
}
