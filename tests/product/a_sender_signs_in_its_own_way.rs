//! A sender that signs in its own way is taken by a scheme that the configuration describes: what he signed just now, octet for octet, and nothing else.

use hmac::{Hmac, KeyInit as _, Mac as _};
use offhook::shell::clock::Clock;
use serde_json::Value;
use sha2::Sha512;

use super::harness::{Bench, Setup};

const KEY: &str = "hush, a text of its own";

/// As the sender does it, who knows nothing of offhook.
fn signed(url: &str, id: &str, time: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha512>::new_from_slice(KEY.as_bytes()).expect("a key");
    mac.update(format!("v0:POST {url}:{id}:{time}:").as_bytes());
    mac.update(body);
    format!("v0={}", hex::encode(mac.finalize().into_bytes()))
}

#[test]
fn a_sender_that_signs_in_its_own_way_is_taken_by_a_scheme_of_the_configuration() {
    let url = "https://calls.example.com/v1/webhooks/acme";
    let more = format!(
        r#"[[scheme]]
name = "acme"
algorithm = "hmac-sha512"
signed = "v0:POST {{url}}:{{id}}:{{timestamp}}:{{body}}"
header = "X-Acme-Signature"
value = "v0={{signature}}"
id_header = "X-Acme-Id"
timestamp_header = "X-Acme-Timestamp"
tolerance_s = 60

[[webhook]]
source = "acme"
signature = "acme"
timestamp_header = "X-Acme-Sent"
public_url = "{url}"
secret_command = ["echo", "raw:{KEY}"]
"#
    );
    let bench = Bench::start("own-scheme", &Setup { more, ..Setup::to("sip:platform@127.0.0.1:9;transport=udp") });
    let now = Clock::new().wall().as_millis() / 1000;
    let post = |query: &str, time: i64, signature: &str, body: &[u8]| {
        let time = time.to_string();
        let headers = [("X-Acme-Signature", signature), ("X-Acme-Id", "m1"), ("X-Acme-Sent", time.as_str())];
        bench.post_octets(&format!("/v1/webhooks/acme{query}"), &headers, body)
    };
    // Two spaces, and octets that are no text: it is kept as it came.
    let body = b"{\"id\": \"m1\",  \"type\": \"custom.\xff\"}";
    let good = signed(&format!("{url}?tenant=a%20b"), "m1", now, body);
    let (status, answer) = post("?tenant=a%20b", now, &good, body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(post("?tenant=other", now, &good, body).0, 401, "the address is signed");
    assert_eq!(post("?tenant=a%20b", now, &good, &body[1..]).0, 401, "so is the body");
    assert_eq!(post("?tenant=a%20b", now + 1, &good, body).0, 401, "and the time");
    // A recording, however well it is signed.
    let old = signed(url, "m1", now - 90, body);
    let (status, answer) = post("", now - 90, &old, body);
    assert!(status == 401 && answer.contains("more than 60 are refused"), "{status} {answer}");
    let refused = serde_json::from_str::<Value>(&post("", now, "v0=00", body).1).expect("a problem");
    let detail = refused["detail"].as_str().expect("a detail");
    assert!(detail.contains("sign v0:POST {url}:{id}:{timestamp}:{body}") && !detail.contains(KEY), "{detail}");
    bench.wait("each is counted", || {
        let (_, text) = bench.get("/metrics");
        text.contains("offhook_webhooks_received_total{result=\"bad_signature\"} 5\n").then_some(())
    });
    // What stands in the journal beside the body says when it was signed and how it came, and not by which signature.
    let segments = std::fs::read_dir(bench.folder.join("data/journal")).expect("a journal");
    let journal = segments.flat_map(|file| std::fs::read(file.expect("a segment").path()).unwrap_or_default()).collect::<Vec<_>>();
    let holds = |octets: &[u8]| journal.windows(octets.len()).any(|window| window == octets);
    assert!(holds(body) && holds(format!("[\"x-acme-sent\",\"{now}\"]").as_bytes()) && holds(b"tenant=a%20b"));
    assert!(!holds(good.as_bytes()));
}
