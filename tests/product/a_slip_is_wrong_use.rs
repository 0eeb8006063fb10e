//! A name that nothing bears, or none at all, is told to whoever wrote it: nothing was done, and no script takes that for success.

use std::process::Command;

use super::harness::{Bench, Setup};

#[test]
fn a_name_that_nothing_bears_and_one_that_is_empty_end_with_status_2() {
    let bench = Bench::start("slips", &Setup::to("sip:platform@127.0.0.1:9;transport=udp"));
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
        let out = command.args(arguments).current_dir(&bench.folder).env_remove("USER").output().expect("runs");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let typed = |target: &'static str, source: &'static str, kind: &'static str, by: &'static str| -> [Vec<&'static str>; 8] {
        [
            vec!["queue", "retry", "--all", "review", "--target", target, "--by", by],
            vec!["queue", "drop", "--all", "dead", "--target", target, "--by", by],
            vec!["recover", "--since", "2020-01-01", "--dry-run", "--target", target],
            vec!["webhooks", "quarantine", "list", "--source", source],
            vec!["webhooks", "quarantine", "release", "--source", source],
            vec!["journal", "cat", "--kind", kind],
            vec!["journal", "export", "--kind", kind],
            vec!["reconcile", "--repair", "--target", target, "--by", by],
        ]
    };
    for arguments in typed("hubspot", "platform", "retention", "anna") {
        assert_eq!(run(&arguments), (Some(0), String::new()), "{arguments:?}");
    }
    for arguments in typed("hubspto", "platfrom", "retnetion", "anna") {
        let (status, said) = run(&arguments);
        assert!(status == Some(2) && ["hubspot", "platform", "retention"].iter().any(|name| said.contains(name)), "{arguments:?}: {said}");
    }
    // Nobody decides nothing.
    let call = "01960000-0000-7000-8000-000000000001";
    for arguments in [
        &["queue", "retry", "--all", "review"][..],
        &["recover", "--since", "2020-01-01"],
        &["reconcile", "--repair", "--by", " "],
        &["review", "approve", call],
        &["batch", "run", "--target", "hubspot"],
        &["retention", "hold", call],
        &["mapping", "sign", "mapping.toml", "--by", ""],
    ] {
        let (status, said) = run(arguments);
        assert!(status == Some(2) && said.contains("--by NAME"), "{arguments:?}: {said}");
    }
    assert!(!bench.folder.join("mapping.toml.signatures.json").exists());
    // Who only looks needs no name.
    assert_eq!(run(&["reconcile"]).0, Some(0));
}
