//! A listener beyond this machine has TLS and asks for a token: the operator's commands reach it all the same.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, process::Command};

use super::harness::{Bench, Setup};

const TOKEN: &str = "a-token-of-sixteen-characters";

#[test]
fn commands_reach_a_gateway_that_listens_everywhere_with_its_own_certificate() {
    let mut bench = Bench::start("tls", &Setup::to("sip:platform@127.0.0.1:9;transport=udp"));
    bench.stop();
    // For a host name, as a certificate is: no address is in it.
    let made = rcgen::generate_simple_self_signed(vec!["gateway.example".into()]).expect("a certificate");
    let files = [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem()), ("tokens", format!("{TOKEN}\n"))];
    for (file, text) in files {
        fs::write(bench.folder.join(file), text).expect("written");
        fs::set_permissions(bench.folder.join(file), fs::Permissions::from_mode(0o600)).expect("a secret");
    }
    let config = bench.folder.join("offhook.toml");
    let plain = fs::read_to_string(&config).expect("a configuration");
    let everywhere = SocketAddr::new("0.0.0.0".parse().expect("an address"), bench.http.port());
    let listen = |at: SocketAddr| format!("[http]\nlisten = \"{at}\"\n");
    let more = "tls = { cert_file = \"cert.pem\", key_file = \"key.pem\" }\ntokens_file = \"tokens\"\n";
    assert!(plain.contains(&listen(bench.http)));
    fs::write(&config, plain.replace(&listen(bench.http), &format!("{}{more}", listen(everywhere)))).expect("written");
    bench.start_gateway_unseen();
    let run = |token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook"));
        command.args(["reconcile", "--token", token, "--config"]).arg(&config).output().expect("runs")
    };
    bench.wait("reconcile ends well", || run(TOKEN).status.success().then_some(()));
    // Who is refused is told what to do.
    let refused = run("another-token-of-as-many");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("401 the bearer token is not known: use a token that"), "{said}");
}
