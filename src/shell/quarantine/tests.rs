use super::*;
use crate::shell::files::tests::Scratch;

const FROM: i64 = 1_767_607_200_000;

fn held(at_ms: i64, body: &[u8]) -> Held {
    let headers = vec![("authorization".to_owned(), "Bearer hush".to_owned())];
    Held { head: Head { time: Wall::from_millis(FROM + at_ms), headers, query: "q=1".into() }, body: body.to_vec() }
}

fn open(scratch: &Scratch, bytes: u64) -> Quarantine {
    let data = scratch.0.join("data");
    fs::create_dir_all(&data).expect("a data directory");
    let key = Key::at(&scratch.0.join("key"), &data).expect("a key");
    Quarantine::open(&data, key, Limits { bytes, age: Duration::from_secs(60) }).expect("opened")
}

#[test]
fn what_is_kept_comes_back_as_it_came_and_is_sealed_on_disk() {
    let scratch = Scratch::new("quarantine");
    let mut quarantine = open(&scratch, 1 << 20);
    let (first, second) = (held(0, b"{\"card\": \"4111\"}"), held(1, b"\xff"));
    quarantine.keep("b", &second).expect("kept");
    quarantine.keep("a", &first).expect("kept");

    let mut again = open(&scratch, 1 << 20);
    let all = again.behind(None, None, 9);
    let [(a, id), (b, other)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((again.read(a, id).expect("read"), again.read(b, other).expect("read")), (first, second));
    assert_eq!(again.behind(None, Some((a, id)), 9), all[1..]);
    assert_eq!(again.behind(Some("b"), None, 9), all[1..]);
    let file = scratch.0.join(format!("data/quarantine/a/{id}.sealed"));
    let octets = fs::read(&file).expect("there");
    assert!(!octets.windows(4).any(|w| w == b"4111" || w == b"hush"));
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);

    // Under another name, in another source, with an octet changed, or with another key it is nothing.
    fs::copy(&file, scratch.0.join(format!("data/quarantine/b/{id}.sealed"))).expect("copied");
    assert!(matches!(again.read("b", id), Err(Error::Sealed(_))));
    for at in [0, 1, 30, octets.len() - 1] {
        let mut damaged = octets.clone();
        damaged[at] ^= 1;
        fs::write(&file, damaged).expect("written");
        assert!(matches!(again.read("a", id), Err(Error::Sealed(_))), "octet {at}");
    }
    fs::write(&file, &octets).expect("written");
    fs::remove_file(scratch.0.join("key")).expect("there");
    assert!(matches!(open(&scratch, 1 << 20).read("a", id), Err(Error::Sealed(_))));

    again.remove("a", id);
    assert_eq!((again.len(), list(&scratch.0.join("data")).expect("listed").iter().filter(|k| k.source == "a").count()), (1, 0));
}

#[test]
fn it_is_bounded_by_size_rate_and_age() {
    let scratch = Scratch::new("quarantine-bounds");
    let mut quarantine = open(&scratch, 3 * BLOCK);
    let gone: Vec<_> = (0..5).map(|n| quarantine.keep("a", &held(n, b"x")).expect("kept")).collect();
    assert_eq!((gone, quarantine.len()), (vec![0, 0, 0, 1, 1], 3));
    let oldest = list(&scratch.0.join("data")).expect("listed")[0].time;
    assert_eq!(oldest, Wall::from_millis(FROM + 2), "the oldest went");
    assert!(matches!(quarantine.keep("a", &held(5, &[0; 20_000])), Err(Error::TooLarge)));
    assert_eq!(quarantine.keep("b", &held(5, b"x")).expect("kept"), 0, "a source of its own");

    assert_eq!(quarantine.sweep(Wall::from_millis(FROM + 60_003)), 1);
    assert_eq!(quarantine.sweep(Wall::from_millis(FROM + 70_000)), 3);
    assert!(quarantine.is_empty() && list(&scratch.0.join("data")).expect("listed").is_empty());

    let admitted = (0..2000).filter(|_| quarantine.admit("c", Wall::from_millis(FROM)).is_ok()).count();
    assert_eq!(admitted, 1000);
    let admitted = (0..2000).filter(|_| quarantine.admit("c", Wall::from_millis(FROM + 2000)).is_ok()).count();
    assert_eq!(admitted, 100);
}

#[test]
fn its_key_is_made_once_is_private_and_lies_elsewhere() {
    let scratch = Scratch::new("quarantine-key");
    let data = scratch.0.join("data");
    fs::create_dir_all(data.join("secrets")).expect("a data directory");
    assert!(matches!(Key::at(&data.join("key"), &data), Err(Error::KeyInside(_))));
    assert!(matches!(Key::at(&data.join("secrets/key"), &data), Err(Error::KeyInside(_))));
    let path = scratch.0.join("key");
    Key::at(&path, &data).expect("made");
    let text = fs::read_to_string(&path).expect("there");
    Key::at(&path, &data).expect("read");
    assert_eq!(fs::read_to_string(&path).expect("there"), text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode set");
    assert!(matches!(Key::at(&path, &data), Err(Error::Public(_))));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode set");
    for wrong in ["", "c2hvcnQ=", "no base64!"] {
        fs::write(&path, wrong).expect("written");
        assert!(matches!(Key::at(&path, &data), Err(Error::Key(..))), "{wrong}");
    }
}
