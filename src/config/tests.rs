use std::path::Path;

use super::*;
use crate::{
    crm::mapping::signature::hash,
    shell::{files::tests::Scratch, net::Transport},
};

/// The least configuration of the contract, without the parts that need files.
const LEAST: &str = r#"
[sip]
listen = ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]

[[trunk]]
name = "carrier"
allow = ["127.0.0.0/8"]

[[target]]
name = "platform"
uri = "sip:127.0.0.3:5070;transport=udp"

[[route]]
trunk = "carrier"
number = "*"
targets = ["platform"]
"#;

fn faults(text: &str) -> Vec<String> {
    match Config::parse(Path::new("offhook.toml"), text) {
        Ok(_) => Vec::new(),
        Err(Error::Faults(faults)) => faults.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_least_configuration_has_the_contracts_defaults() {
    let config = Config::parse(Path::new("/etc/offhook/offhook.toml"), LEAST).expect("no fault");
    assert_eq!(config.sip.overload, Overload { status: 503, retry_after_s: None });
    assert_eq!(config.media.ports, 20_000..=29_999);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.data.directory, Path::new("/etc/offhook/data"));
    let [trunk] = config.trunks.as_slice() else { panic!("one trunk") };
    assert_eq!(trunk.peer.codecs.as_deref(), Some([Codec::Pcmu, Codec::Pcma, Codec::G722].as_slice()));
    assert_eq!(trunk.peer.dtmf, Dtmf::Auto);
    let [target] = config.targets.as_slice() else { panic!("one target") };
    assert_eq!((target.host.as_str(), target.port, target.transport), ("127.0.0.3", 5070, Transport::Udp));
    assert_eq!((target.peer.codecs.as_deref(), target.call_header.as_str()), (None, "X-Offhook-Call"));
    let [route] = config.routes.as_slice() else { panic!("one route") };
    assert_eq!((route.ring.as_millis(), route.record, route.secure_keys.as_ref()), (20_000, false, None));
    assert!(config.crms.is_empty() && config.webhooks.is_empty());
}

/// What is changed in [`LEAST`], and the whole of what is said about it.
const BROKEN: &[(&str, &str, &[&str])] = &[
    ("[sip]", "[sip]\nlisen = 1", &["offhook.toml:3:1: [sip] knows no key `lisen`: did you mean `listen`?"]),
    (
        "udp:127.0.0.1:5060",
        "udp:localhost:5060",
        &[
            "offhook.toml:3:11: `listen` holds \"udp:localhost:5060\": write udp:ADDRESS:PORT or tcp:ADDRESS:PORT, as in [\"udp:192.0.2.1:5060\", \
             \"tcp:192.0.2.1:5060\"]",
            "offhook.toml:11:7: the target is reached over udp, which no listener speaks: add \"udp:ADDRESS:PORT\" to `listen` of [sip]",
        ],
    ),
    (
        "udp:127.0.0.1:5060",
        "udp:0.0.0.0:5060",
        &[
            "offhook.toml:3:11: \"udp:0.0.0.0:5060\" binds every address, so peers cannot be told which to answer to: bind one address, or add \
             advertised = \"ADDRESS\" to [sip]",
        ],
    ),
    ("tcp:127.0.0.1:5060", "udp:127.0.0.1:5060", &["offhook.toml:3:33: `listen` holds \"udp:127.0.0.1:5060\" twice: take one of them out"]),
    (
        "targets = [\"platform\"]",
        "targets = [\"platfrom\", \"nowhere\"]",
        &[
            "offhook.toml:16:12: no [[target]] is named \"platfrom\": did you mean `platform`?",
            "offhook.toml:16:24: no [[target]] is named \"nowhere\": write one of \"platform\"",
        ],
    ),
    ("trunk = \"carrier\"", "trunk = \"carier\"", &["offhook.toml:14:9: no [[trunk]] is named \"carier\": did you mean `carrier`?"]),
    (
        "allow = [\"127.0.0.0/8\"]",
        "allow = [\"127.0.0.0/33\"]\ncodecs = [\"PCMUU\"]\ndtmf = \"rfc2833\"",
        &[
            "offhook.toml:7:10: `allow` holds \"127.0.0.0/33\": write an address or a network such as \"192.0.2.0/24\"",
            "offhook.toml:8:11: `codecs` holds \"PCMUU\": did you mean `PCMU`?",
            "offhook.toml:9:8: `dtmf` is \"rfc2833\": did you mean `rfc4733`?",
        ],
    ),
    ("number = \"*\"", "number = \"*\"\nring_ms = 20", &["offhook.toml:16:11: `ring_ms` is 20: write a whole number from 1000 to 300000"]),
    (
        "number = \"*\"",
        "number = \"*\"\nring_ms = \"20s\"",
        &["offhook.toml:16:11: `ring_ms` is a string: write a whole number from 1000 to 300000"],
    ),
    (
        "number = \"*\"",
        "number = \"*\"\nsecure_keys = { start = \"*7\", end = \"*\" }",
        &[
            "offhook.toml:16:37: `end` is \"*\": write 2 to 8 keys of 0-9, *, #, A-D, such as \"*8\"",
            "offhook.toml:16:37: `start` is \"*7\" and `end` is \"*\": one begins with the other: write two different sequences",
        ],
    ),
    ("number = \"*\"\n", "", &["offhook.toml:13:1: [[route]] has no `number`: add number = \"*\""]),
    (
        "transport=udp",
        "transport=sctp",
        &["offhook.toml:11:7: `uri` is \"sip:127.0.0.3:5070;transport=sctp\": `transport=sctp`: write transport=udp or transport=tcp"],
    ),
    (
        "[[trunk]]",
        "[http]\nlisten = \"0.0.0.0:8080\"\n[[trunk]]",
        &[
            "offhook.toml:6:10: [http] listens on 0.0.0.0:8080, beyond this machine, without TLS: add tls = { cert_file = \"…\", key_file = \"…\" }, or \
             listen on 127.0.0.1",
            "offhook.toml:6:10: [http] listens on 0.0.0.0:8080, beyond this machine, without tokens: add tokens_file = \"tokens\", a file with one token \
             a line, or tokens_env or tokens_command, or listen on 127.0.0.1",
        ],
    ),
    (
        "[[trunk]]",
        "[media]\nports = \"30000-20000\"\n[[trunk]]",
        &[
            "offhook.toml:6:9: `ports` is \"30000-20000\": write FIRST-LAST such as \"20000-29999\", ports from 1024 to 65535 and at least four of them: a \
             call takes two even ones",
        ],
    ),
    (
        "[[route]]",
        "[[webhook]]\nsource = \"platform\"\nsecret_file = \"missing\"\n[[route]]",
        &[
            "offhook.toml:15:15: `secret_file`: missing cannot be read (No such file or directory (os error 2)): see that it exists and belongs to the user \
             that runs offhook",
        ],
    ),
    (
        "[[route]]",
        "[[webhook]]\nsource = \"platform\"\nsignature = \"hmac-hex\"\ntimestamp_header = \"X-Time\"\nsignature_header = \"X Acme\"\nsecret_command = [\"echo\", \"raw:hush\"]\n[[route]]",
        &[
            "offhook.toml:16:20: `timestamp_header` with `signature` \"hmac-hex\", which has no header for the time of signing: take the key out, or write one of \
             standard-webhooks, hmac-hex-timestamp, hmac-base64-timestamp into `signature`",
            "offhook.toml:17:20: `signature_header` is \"X Acme\": write a header name of letters, digits, `-` and `_`, such as \"X-Acme-Signature\"",
        ],
    ),
    (
        "[[trunk]]",
        "[[crm]]\nname = \"own\"\nkind = \"http\"\nurl = \"https://crm.example.com/calls\"\nbody = '{\"fields\": {record}}'\nmapping = \"examples/mapping.toml\"\n[[trunk]]",
        &[
            "offhook.toml:9:8: neither `url` nor `body` has {key}: every call would be one record: write a body such as '{\"key\": \"{key}\", \"fields\": {record}}'",
        ],
    ),
    (
        "allow = [\"127.0.0.0/8\"]",
        "allow = [\"127.0.0.0/8\"]\noutcomes = { 480 = \"bussy\", 99 = \"busy\" }",
        &[
            "offhook.toml:8:20: `outcomes` holds \"bussy\": write busy, no_answer, rejected, invalid_number, congestion, cancelled or failed",
            "offhook.toml:8:34: `outcomes` has \"99\": write a final SIP status from 300 to 699",
        ],
    ),
    (
        "[[trunk]]",
        "[[webhook]]\nsource = \"..\"\nschema = \"generic\"\nsecret_file = \"/dev/null\"\n[[trunk]]",
        &[
            "offhook.toml:6:10: the webhook's name is \"..\": write letters, digits, `-`, `_` and `.`, which is not the first: it becomes part of metrics and paths",
            "offhook.toml:8:15: `secret_file`: /dev/null may be read by everybody (mode 0666): run `chmod 600 /dev/null`",
        ],
    ),
    ("[[route]]", "[[route]", &["offhook.toml:13:9: unclosed array table, expected `]`: this is not TOML, see https://toml.io"]),
];

#[test]
fn every_fault_is_named_with_its_place_and_what_to_write_instead() {
    for (from, to, expected) in BROKEN {
        assert!(LEAST.contains(from), "{from} is not in the least configuration");
        assert_eq!(faults(&LEAST.replacen(from, to, 1)), *expected, "with {to}");
    }
}

#[test]
fn the_examples_have_no_fault() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut seen = 0;
    for entry in fs::read_dir(&examples).expect("examples/").flatten() {
        let path = entry.path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        if path.extension().is_none_or(|e| e != "toml") || !text.contains("[sip]") {
            continue;
        }
        seen += 1;
        // The secret files that an example names are the reader's to make.
        let others = match Config::load(&path) {
            Ok(_) => Vec::new(),
            Err(Error::Faults(faults)) => faults.into_iter().filter(|f| !f.what.contains("_file`: ")).collect(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(others, [], "{}", path.display());
    }
    assert!(seen >= 2, "{seen} configurations in {}", examples.display());
}

#[test]
fn a_mapping_that_nobody_signed_is_refused_where_signatures_are_required() {
    let scratch = Scratch::new("signed");
    let mapping = include_str!("../../examples/mapping.toml");
    let write = |name: &str, text: &str| fs::write(scratch.0.join(name), text).expect("written");
    write("mapping.toml", mapping);
    let crm = "[[crm]]\nname = \"own\"\nkind = \"http\"\nurl = \"https://crm.example.com/{key}\"\nmapping = \"mapping.toml\"\nrequire_signed = true\n[[trunk]]";
    write("offhook.toml", &LEAST.replacen("[[trunk]]", crm, 1));
    let faults = || match Config::load(&scratch.0.join("offhook.toml")) {
        Ok(_) => Vec::new(),
        Err(Error::Faults(faults)) => faults.into_iter().map(|f| f.what).filter(|what| what.contains("signed")).collect(),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(faults().len(), 1, "{:?}", faults());
    let signature =
        |text: &str| format!("[{{\"version\": 1, \"sha256\": \"{}\", \"by\": \"ann\", \"at\": \"2026-01-05T10:00:00Z\"}}]", hash(text));
    write("mapping.toml.signatures.json", &signature("another content"));
    assert_eq!(faults().len(), 1);
    write("mapping.toml.signatures.json", &signature(mapping));
    assert_eq!(faults(), Vec::<String>::new());
}

#[test]
fn an_empty_file_is_told_what_it_lacks() {
    assert_eq!(
        faults(""),
        [
            "offhook.toml:1:1: [sip] has no `listen`: add listen = [\"udp:192.0.2.1:5060\", \"tcp:192.0.2.1:5060\"]",
            "offhook.toml:1:1: the file has no [[trunk]]: add one for each carrier or IVR that sends calls, with name and allow",
            "offhook.toml:1:1: the file has no [[target]]: add one for each platform or phone that calls can reach, with name and uri",
            "offhook.toml:1:1: the file has no [[route]]: add one with trunk, number and targets, or every call is refused",
        ]
    );
}

/// The blocks of a page that are whole configurations.
fn configurations(page: &str) -> impl Iterator<Item = &str> {
    page.split("```toml\n").skip(1).filter_map(|after| after.split("```").next())
}

#[test]
fn every_configuration_that_the_pages_show_is_without_a_fault() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).chain([root.join("README.md")]);
    let mut found = 0;
    for path in pages {
        let page = std::fs::read_to_string(&path).expect("a page");
        for text in configurations(&page) {
            assert_eq!(faults(text), [""; 0], "{}:\n{text}", path.display());
            found += 1;
        }
    }
    assert!(found >= 3, "{found}");
}

/// A Salesforce target's three grants, by the files that stand in its configuration.
#[test]
fn salesforce_signs_with_a_key_or_says_what_the_key_lacks() {
    use crate::shell::files::tests::Scratch;
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("salesforce");
    let write = |name: &str, text: &str| {
        let path = scratch.0.join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("private");
    };
    write("mapping.toml", include_str!("../../examples/mappings/collections-salesforce.toml"));
    write("server.key", include_str!("../crm/salesforce/testkey/private.pem"));
    write("other.key", include_str!("../crm/salesforce/testkey/public.pem"));
    write("secret", "hush");
    let crm = "[[crm]]\nname = \"s\"\nkind = \"salesforce\"\nbase_url = \"https://x.my.salesforce.com\"\n\
               token_url = \"https://x.my.salesforce.com/services/oauth2/token\"\nclient_id = \"key\"\nmapping = \"mapping.toml\"\n";
    let parse = |keys: &str| match Config::parse(&scratch.0.join("offhook.toml"), &format!("{LEAST}\n{crm}{keys}\n")) {
        Ok(config) => Ok(format!("{:?}", config.crms[0].api)),
        Err(Error::Faults(faults)) => Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        Err(other) => panic!("{other}"),
    };
    for (keys, grant) in [
        ("client_secret_file = \"secret\"", "ClientCredentials(..)"),
        ("client_secret_file = \"secret\"\nrefresh_token_file = \"secret\"", "RefreshToken(..)"),
        ("private_key_file = \"server.key\"\nusername = \"u@example.com\"", "Jwt(..)"),
        ("client_secret_file = \"secret\"\nmodel = \"batch\"\nbulk_from = 500", "ClientCredentials(..)"),
    ] {
        assert!(parse(keys).expect("no fault").contains(grant), "{keys}");
    }
    for (keys, said) in [
        ("private_key_file = \"server.key\"", "has no `username`"),
        ("private_key_file = \"other.key\"\nusername = \"u\"", "cannot sign"),
        ("private_key_file = \"server.key\"\nusername = \"u\"\nclient_secret_file = \"secret\"", "two ways to get a token"),
        ("private_key_file = \"server.key\"\nusername = \"u\"\naudience = \"https://x\"", "audience"),
    ] {
        let faults = parse(keys).expect_err("a fault");
        assert!(faults.contains(said), "{keys}: {faults}");
    }
}

/// A record bears its call's key, and no target's: two into one object by one field would write one record, each over the other.
#[test]
fn two_targets_write_no_record_together_and_shipped_mappings_stand_beside_each_other() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("overlap");
    let private = |name: &str, text: &str| {
        fs::write(scratch.0.join(name), text).expect("written");
        fs::set_permissions(scratch.0.join(name), fs::Permissions::from_mode(0o600)).expect("private");
    };
    private("secret", "hush");
    private("other", "of another account");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let target = |name: &str, kind: &str, mapping: &Path, token: &str| {
        let base = if kind == "http" { "url = \"https://x.example/{key}\"\n" } else { "base_url = \"https://x.example\"\n" };
        let grant = "token_url = \"https://x.example/token\"\nclient_id = \"c\"\nclient_secret_file = \"secret\"\n";
        let grant = if kind == "http" { "" } else { grant };
        let token = if kind == "hubspot" { format!("refresh_token_file = \"{token}\"\n") } else { String::new() };
        format!("[[crm]]\nname = \"{name}\"\nkind = \"{kind}\"\n{base}{grant}{token}mapping = \"{}\"\n", mapping.display())
    };
    let said = |targets: &str| match Config::parse(&scratch.0.join("offhook.toml"), &format!("{LEAST}\n{targets}")) {
        Ok(_) => String::new(),
        Err(Error::Faults(faults)) => faults.iter().map(|fault| format!("{fault}\n")).collect(),
        Err(other) => panic!("{other}"),
    };
    for (kind, first) in [("hubspot", "mapping.toml"), ("salesforce", "mapping-salesforce.toml"), ("dynamics", "mapping-dynamics.toml")] {
        let own = ["appointment", "callback", "collections", "qualification", "support"].map(|what| format!("mappings/{what}-{kind}.toml"));
        let all: Vec<_> = own.iter().map(String::as_str).chain([first]).collect();
        let together: String =
            all.iter().enumerate().map(|(n, file)| target(&format!("t{n}"), kind, &examples.join(file), "secret")).collect();
        assert_eq!(said(&together), "", "{kind}");
        let twice = target("a", kind, &examples.join(first), "secret") + &target("b", kind, &examples.join(first), "secret");
        let faults = said(&twice);
        assert!(faults.contains("\"b\" writes ") && faults.contains("a key field of its own"), "{kind}: {faults}");
    }
    // One address, and another account.
    let mapping = examples.join("mapping.toml");
    assert_eq!(said(&(target("a", "hubspot", &mapping, "secret") + &target("b", "hubspot", &mapping, "other"))), "");
    // The second record of one is the first of the other.
    let task = fs::read_to_string(examples.join("mappings/callback-salesforce.toml")).expect("a mapping");
    private("task.toml", &task.replacen("Offhook_Callback_Key__c", "offhook_key__c", 1));
    let beside = target("a", "salesforce", &examples.join("mapping-salesforce.toml"), "");
    let faults = said(&(beside + &target("b", "salesforce", Path::new("task.toml"), "")));
    assert!(faults.contains("\"b\" writes Task by `offhook_key__c`, as \"a\" does"), "{faults}");
}

/// Only Salesforce writes two records in one request, and no job of its writes them.
#[test]
fn a_second_record_is_for_salesforce_and_for_no_jobs() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("beside");
    let mapping = "version = 1\nobject = \"Call__c\"\nkey = \"Key__c\"\n[[field]]\nto = \"Name\"\nfrom = \"intent\"\n\
                   [beside]\nobject = \"Task\"\nkey = \"Key__c\"\nlink = \"WhatId\"\n[[beside.field]]\nto = \"Subject\"\nfrom = \"intent\"\n";
    for (name, text) in [
        ("secret", "hush"),
        ("mapping.toml", mapping),
        ("odd.toml", &mapping.replace("[[beside.field]]\nto = \"Subject\"", "[[beside.field]]\nto = \"WhatId\"")),
    ] {
        fs::write(scratch.0.join(name), text).expect("written");
        fs::set_permissions(scratch.0.join(name), fs::Permissions::from_mode(0o600)).expect("private");
    }
    let parse = |keys: &str| match Config::parse(&scratch.0.join("offhook.toml"), &format!("{LEAST}\n[[crm]]\nname = \"s\"\n{keys}\n")) {
        Ok(_) => String::new(),
        Err(Error::Faults(faults)) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        Err(other) => panic!("{other}"),
    };
    let oauth = "base_url = \"https://x.example.com\"\ntoken_url = \"https://x.example.com/token\"\nclient_id = \"key\"\nclient_secret_file = \"secret\"\n";
    let salesforce = format!("kind = \"salesforce\"\n{oauth}");
    assert_eq!(parse(&format!("{salesforce}mapping = \"mapping.toml\"")), "");
    for kind in [
        format!("kind = \"dynamics\"\n{oauth}"),
        format!("kind = \"hubspot\"\n{oauth}refresh_token_file = \"secret\"\n"),
        "kind = \"http\"\nurl = \"https://x.example.com/{key}\"\n".to_owned(),
    ] {
        let faults = parse(&format!("{kind}mapping = \"mapping.toml\""));
        assert!(
            faults.contains("mapping.toml:7") && faults.contains("only Salesforce does") && faults.contains("a [[crm]] of its own"),
            "{faults}"
        );
    }
    let jobs = parse(&format!("{salesforce}mapping = \"mapping.toml\"\nmodel = \"batch\"\nbulk_from = 500"));
    assert!(jobs.contains("`bulk_from` stands beside a mapping with [beside]"), "{jobs}");
    let odd = parse(&format!("{salesforce}mapping = \"odd.toml\""));
    assert!(odd.contains("odd.toml:12") && odd.contains("`Task.WhatId` is the field that names the first record"), "{odd}");
}

#[test]
fn what_platforms_are_to_send_is_read_and_the_disposition_is_always_among_it() {
    let parse = |text: &str| Config::parse(std::path::Path::new("offhook.toml"), &format!("{LEAST}\n{text}"));
    let expects = |text: &str| {
        let config = parse(text).expect("no fault");
        config.expects.iter().map(|e| (e.what.clone(), e.outcomes.len(), e.within.as_secs())).collect::<Vec<_>>()
    };
    let disposition = |seconds| ("disposition_code".to_owned(), 0, seconds);
    assert_eq!(expects(""), [disposition(60)]);
    assert_eq!(expects("[writeback]\noutcome_wait_ms = 5000"), [disposition(5)]);
    let transcript = "[[expect]]\nwhat = \"transcription.complete\"\noutcomes = [\"answered\", \"machine\"]\nwithin_ms = 600000";
    assert_eq!(expects(transcript), [("transcription.complete".to_owned(), 2, 600), disposition(60)]);
    assert_eq!(expects("[[expect]]\nwhat = \"disposition_code\"\nwithin_ms = 1000"), [disposition(1)]);
    let faults = faults(&format!("{LEAST}\n[[expect]]\nwhat = \"transcript.done\"\noutcomes = [\"taken\"]\n{transcript}\n{transcript}"));
    let faults = faults.join("\n");
    for part in ["\"transcript.done\", which no webhook brings", "`outcomes` holds \"taken\"", "is expected twice"] {
        assert!(faults.contains(part), "{part}: {faults}");
    }
}

#[test]
fn how_a_platforms_api_is_asked_is_read_and_an_address_without_a_place_for_the_call_is_a_fault() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("pull");
    for (name, text) in [("key", "raw:hush"), ("api-key", "s3cret")] {
        fs::write(scratch.0.join(name), text).expect("written");
        fs::set_permissions(scratch.0.join(name), fs::Permissions::from_mode(0o600)).expect("private");
    }
    let parse = |keys: &str| {
        let webhook = format!("[[webhook]]\nsource = \"platform\"\nsecret_file = \"key\"\npull = {{ secret_file = \"api-key\", {keys} }}");
        match Config::parse(&scratch.0.join("offhook.toml"), &format!("{LEAST}\n{webhook}\n")) {
            Ok(mut config) => Ok(config.webhooks.remove(0).pull.expect("a pull")),
            Err(Error::Faults(faults)) => Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
            Err(other) => panic!("{other}"),
        }
    };
    let secret = |keys: &str| {
        let (header, value) = parse(keys).expect("no fault").secret;
        (header, value.to_string())
    };
    let own = "id = \"offhook\", url = \"https://api.example.com/call/{id}\"";
    let pull = parse(own).expect("no fault");
    assert_eq!((pull.url.as_str(), pull.attempts_max, pull.per_second), ("https://api.example.com/call/{id}", 4, 5));
    assert!(!format!("{pull:?}").contains("s3cret"));
    assert_eq!(secret(own), ("authorization".into(), "Bearer s3cret".into()));
    assert_eq!(secret(&format!("{own}, user = \"AC1\"")), ("authorization".into(), "Basic QUMxOnMzY3JldA==".into()));
    assert_eq!(secret(&format!("{own}, secret_header = \"X-Api-Key\"")), ("x-api-key".into(), "s3cret".into()));
    for (keys, said) in [
        (
            "id = \"offhook\", url = \"https://api.example.com/call\"",
            "write {id} where the API wants it, as in \"https://api.example.com/call/{id}\"",
        ),
        ("id = \"offhook\", url = \"http://api.example.com/{id}\"", "sends credentials over plain http"),
        ("id = \"offhook\"", "pull of [[webhook]] has no `url`"),
        ("url = \"https://api.example.com/call/{id}\"", "the schema \"generic\" does not say by which name"),
        ("id = \"offhook\", uri = \"https://x/{id}\"", "did you mean `url`?"),
    ] {
        let faults = parse(keys).expect_err("a fault");
        assert!(faults.contains(said), "{keys}: {faults}");
    }
}

#[test]
fn when_a_crm_is_written_is_read_and_a_rule_that_nothing_goes_by_is_a_fault() {
    use crate::{
        crm::mapping::Condition,
        pipeline::schedule::{Model, Runs},
        shell::files::tests::Scratch,
    };
    use std::time::Duration;
    let scratch = Scratch::new("schedule");
    std::fs::write(scratch.0.join("mapping.toml"), include_str!("../../examples/mapping.toml")).expect("written");
    let crm = "[[crm]]\nname = \"c\"\nkind = \"http\"\nurl = \"https://x.example.com/{key}\"\nmapping = \"mapping.toml\"\n";
    let parse = |keys: &str| match Config::parse(&scratch.0.join("offhook.toml"), &format!("{LEAST}\n{crm}{keys}\n")) {
        Ok(config) => Ok(config.crms[0].schedule.model.clone()),
        Err(Error::Faults(faults)) => Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        Err(other) => panic!("{other}"),
    };
    let hour = Duration::from_secs(3600);
    let rule = "[[crm.real_time]]\nfield = \"talk_ms\"\nat_least = 60000";
    assert_eq!(parse(""), Ok(Model::RealTime));
    assert_eq!(parse("model = \"batch\"\nbatch_at = \"02:30\""), Ok(Model::Batch(Runs { every: hour, at: hour * 5 / 2 })));
    let urgent = Condition { field: "talk_ms".into(), is: Vec::new(), at_least: Some(60_000.0) };
    let hybrid = Model::Hybrid(Runs { every: Duration::from_secs(60), at: Duration::ZERO }, vec![urgent]);
    assert_eq!(parse(&format!("model = \"hybrid\"\nbatch_every_ms = 60000\n{rule}")), Ok(hybrid));
    for (keys, said) in [
        ("batch_at = \"02:00\"", "`model` is \"real_time\""),
        (rule, "`model` is \"real_time\""),
        ("model = \"hybrid\"", "no rule says which calls"),
        ("bulk_from = 2000", "this target has none"),
        ("model = \"batch\"\nbulk_from = 2000", "this target has none"),
        (&format!("model = \"batch\"\n{rule}"), "write model = \"hybrid\""),
        ("model = \"batch\"\nbatch_at = \"25:00\"", "`batch_at` is \"25:00\""),
        ("model = \"hybrid\"\n[[crm.real_time]]\nfield = \"talk\"", "a call record has no `talk`"),
        ("model = \"hybrid\"\n[[crm.real_time]]\nfield = \"outcome\"\nis = [\"anwsered\"]", "`outcome` is never \"anwsered\""),
        ("model = \"hybrid\"\n[[crm.real_time]]\nfield = \"note\"\nat_least = 1", "at_least needs a number"),
    ] {
        let faults = parse(keys).expect_err("a fault");
        assert!(faults.contains(said), "{keys}: {faults}");
    }
}

#[test]
fn the_address_that_twilio_signs_is_one() {
    let said = |address: &str| {
        let webhook = format!("[[webhook]]\nsource = \"twilio\"\nsignature = \"twilio\"\npublic_url = \"{address}\"\n");
        match Config::parse(Path::new("/nowhere/offhook.toml"), &format!("{LEAST}\n{webhook}")) {
            Err(Error::Faults(faults)) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            other => panic!("it has no secret: {other:?}"),
        }
    };
    for none in ["not a url", "calls.example.com/v1/webhooks/twilio", "ftp://calls.example.com"] {
        assert!(said(none).contains(&format!("`public_url` is \"{none}\"")), "{}", said(none));
    }
    assert!(!said("https://calls.example.com/v1/webhooks/twilio").contains("`public_url` is"));
}

/// Each starting point is read, has no fault, tells who reads what, and names fields that its CRM can be given.
#[test]
fn the_starting_points_are_good_mappings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mappings");
    let mut found = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(&folder).expect("examples/mappings") {
        let path = file.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a mapping");
        let mapping: crate::crm::mapping::Mapping = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(mapping.faults(), [""; 0], "{name}");
        assert!(!mapping.only.is_empty() && mapping.contact.is_some(), "{name}");
        assert!(mapping.rules.iter().any(|r| r.workflow.is_some() && r.owner.is_some()), "{name}");
        crate::crm::setup::needs(&mapping).unwrap_or_else(|why| panic!("{name}: {why}"));
        found.insert(name);
    }
    let every = ["collections", "appointment", "support", "qualification", "callback"]
        .iter()
        .flat_map(|what| ["salesforce", "hubspot", "dynamics"].map(|crm| format!("{what}-{crm}")))
        .collect();
    assert_eq!(found, every);
}

/// They stand beside each other on one account: a field that two of them write is made once, and has to do for both.
#[test]
fn the_shipped_mappings_make_no_field_that_another_of_them_makes_otherwise() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files: Vec<_> = ["mapping.toml", "mapping-salesforce.toml", "mapping-dynamics.toml"].map(|name| examples.join(name)).into();
    files.extend(std::fs::read_dir(examples.join("mappings")).expect("the mappings").map(|file| file.expect("an entry").path()));
    let mut made = std::collections::BTreeMap::new();
    for path in files {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let crm = name.rsplit_once('-').map_or("hubspot", |(_, crm)| crm).to_owned();
        let mapping: crate::crm::mapping::Mapping = toml::from_str(&std::fs::read_to_string(&path).expect("a mapping")).expect("a mapping");
        for (object, fields) in crate::crm::setup::needs(&mapping).expect("known types") {
            for field in fields.into_iter().filter(|field| field.kind.is_some()) {
                let place = (crm.clone(), object.to_owned(), field.name.clone());
                let is = (field.kind, field.unique, field.words);
                let (other, before) = made.entry(place.clone()).or_insert_with(|| (name.clone(), is.clone()));
                assert_eq!(*before, is, "{place:?} of {other} and {name}");
            }
        }
    }
    assert!(made.len() > 100, "{} fields", made.len());
}

#[test]
fn a_secret_comes_of_a_file_the_environment_or_a_program_and_of_one_of_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("secret-keys");
    for (name, text, mode) in [("token", "hush-of-a-file-16\n", 0o600), ("vault", "#!/bin/sh\necho \"raw:$1\"\necho leak >&2\n", 0o700)] {
        fs::write(scratch.0.join(name), text).expect("written");
        fs::set_permissions(scratch.0.join(name), fs::Permissions::from_mode(mode)).expect("mode set");
    }
    let path = scratch.0.join("offhook.toml");
    let parse = |http: &str, webhook: &str| {
        let text = format!("{LEAST}\n[http]\n{http}\n[[webhook]]\nsource = \"platform\"\n{webhook}\n");
        fs::write(&path, &text).expect("written");
        match Config::load(&path) {
            Ok(config) => Ok(config),
            Err(Error::Faults(faults)) => {
                Err(faults.iter().map(|f| format!("{}: {}: {}", f.line, f.what, f.instead)).collect::<Vec<_>>().join("\n"))
            }
            Err(other) => panic!("{other}"),
        }
    };
    let vault = "secret_command = [\"./vault\", \"hush of a program\"]";
    let config = parse("tokens_file = \"token\"", &format!("{vault}\nold_secret_command = [\"echo\", \"raw:old\"]")).expect("no fault");
    assert_eq!(config.http.tokens[0].reveal(), "hush-of-a-file-16");
    assert_eq!(config.webhooks[0].secrets.iter().map(|s| s.reveal()).collect::<Vec<_>>(), ["raw:hush of a program", "raw:old"]);
    let debug = format!("{config:?}");
    assert!(!debug.contains("hush") && !debug.contains("leak"), "{debug}");
    // A variable that each process has; changing the environment would reach the other tests.
    let config = parse("tokens_env = \"PATH\"", vault).expect("no fault");
    assert_eq!(config.http.tokens[0].reveal(), std::env::var("PATH").expect("a path").trim());

    let file = "tokens_file = \"token\"";
    for (http, webhook, said) in [
        (file, "", "[[webhook]] has no `secret_file`: add secret_file = \"FILE\", secret_env = \"NAME\" or secret_command = "),
        (file, "secret_env = \"PATH\"\nsecret_command = [\"echo\"]", "23: `secret_command` stands beside `secret_env`"),
        (
            file,
            "secret_env = \"OFFHOOK_NO_SUCH_VARIABLE\"",
            "22: `secret_env`: the environment variable OFFHOOK_NO_SUCH_VARIABLE is not set",
        ),
        (file, "secret_command = [\"false\"]", "`secret_command`: false failed (status 1): run it by hand"),
        (file, "secret_command = [\"true\"]", "`secret_command`: true printed nothing"),
        (file, "secret_command = [\"no-such-program-of-offhook\"]", "cannot be started"),
        (file, "secret_command = \"echo raw:x\"", "`secret_command` is a string: write [\"PROGRAM\", \"ARGUMENT\"]"),
        (file, "secret_command = [\"echo\", \"no key\"]", "the key in `secret_command` is none"),
        ("tokens_command = [\"echo\", \"short\"]", vault, "a token of `tokens_command` has 5 characters"),
        (file, &format!("{vault}\nsecret_comand = \"x\""), "did you mean `secret_command`?"),
    ] {
        let faults = parse(http, webhook).expect_err("a fault");
        assert!(faults.contains(said), "{webhook}: {faults}");
    }

    // Who talks to nobody runs nothing.
    parse(file, "secret_command = [\"false\"]").expect_err("a fault");
    Config::load_without_secrets(&path).expect("no program was asked");
}

#[test]
fn licences_add_to_what_a_day_allows_and_one_figure_of_the_two_is_a_fault() {
    let scratch = Scratch::new("licences");
    fs::write(scratch.0.join("mapping.toml"), include_str!("../../examples/mapping.toml")).expect("written");
    let crm = "[[crm]]\nname = \"c\"\nkind = \"http\"\nurl = \"https://x.example.com/{key}\"\nmapping = \"mapping.toml\"\n";
    let parse = |keys: &str| match Config::parse(&scratch.0.join("offhook.toml"), &format!("{LEAST}\n{crm}{keys}\n")) {
        Ok(config) => Ok(config.crms[0].pace.per_day),
        Err(Error::Faults(faults)) => Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(parse(""), Ok(None));
    assert_eq!(parse("per_day = 100000"), Ok(Some(100_000)));
    assert_eq!(parse("licences = 40\nper_licence = 1000"), Ok(Some(40_000)));
    assert_eq!(parse("per_day = 100000\nlicences = 40\nper_licence = 1000"), Ok(Some(140_000)));
    for (keys, said) in [
        ("licences = 40", "`licences` stands without `per_licence`: add per_licence = NUMBER"),
        ("per_day = 5\nper_licence = 1000", "`per_licence` stands without `licences`"),
        ("licences = 0\nper_licence = 1000", "`licences` is 0: write a whole number from 1 to 1000000"),
    ] {
        let faults = parse(keys).expect_err("a fault");
        assert!(faults.contains(said), "{keys}: {faults}");
    }
}
