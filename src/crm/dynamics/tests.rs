//! Answers of Dataverse, each with its verdict; the traps of its contract; the connector against the double.

use super::*;
use crate::crm::contact::Search;
use crate::{
    chance::Chance,
    crm::sandbox::{self, CLIENT_ID, CLIENT_SECRET, Double, Outcome},
    time::Now,
};

const LINK: &str = "regardingobjectid_contact_phonecall@odata.bind";

fn connector() -> Dynamics {
    Dynamics {
        base_url: "http://crm".into(),
        token_url: "http://crm/tenant/oauth2/v2.0/token".into(),
        client_id: CLIENT_ID.into(),
        client_secret: Zeroizing::new(CLIENT_SECRET.into()),
        version: VERSION.into(),
        set: "phonecalls".into(),
        key: "offhook_key".into(),
        link: Some(Link { to: LINK.into(), value: "/contacts({id})".into() }),
    }
}

fn fields(fields: &[(&str, Value)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn change(key: &str, new: &[(&str, Value)]) -> Change {
    Change { key: key.into(), id: None, fields: fields(new), written: Fields::new() }
}

/// The answer to a batch with these parts.
fn batch(outer: u16, parts: &[(u16, &str, &str)]) -> HttpAnswer {
    let mut text = String::new();
    for (status, header, body) in parts {
        text.push_str(&format!(
            "--x\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nHTTP/1.1 {status} Word\r\n"
        ));
        text.push_str(&format!("OData-Version: 4.0\r\n{header}\r\n{body}\r\n"));
    }
    text.push_str("--x--\r\n");
    HttpAnswer { status: outer, headers: vec![("content-type".into(), "multipart/mixed; boundary=x".into())], body: text.into_bytes() }
}

fn error(code: &str, message: &str) -> String {
    json!({"error": {"code": code, "message": message}}).to_string()
}

fn one(status: u16, header: &str, code: &str, message: &str, change: &Change) -> Verdict {
    connector().verdicts(std::slice::from_ref(change), &batch(200, &[(status, header, &error(code, message))])).remove(0)
}

#[test]
fn each_error_has_its_verdict() {
    let plain = change("k", &[("subject", json!("x"))]);
    for (status, code, message, word) in [
        (400, "0x8004431A", "outside the valid range", "rejected"),
        (400, "0x80044331", "exceeded the maximum allowed length", "rejected"),
        (400, "0x80040265", "a plug-in says no", "rejected"),
        (400, "0x80048d19", "Cannot convert the literal 'x'", "rejected"),
        (400, "0x80048d19", "undeclared property", "gone"),
        (400, "0x80060888", "not a defined key", "gone"),
        (412, "0x80060882", "the version does not match", "rejected"),
        (412, "0x80040333", "a duplicate detection rule", "rejected"),
        (401, "", "", "auth"),
        (403, "0x80040220", "missing prvCreateActivity", "gone"),
        (404, "0x80060891", "no such row", "gone"),
        (429, "0x80072322", "too many", "throttled"),
        (503, "", "", "retry"),
    ] {
        assert_eq!(one(status, "", code, message, &plain).name(), word, "{status} {code}");
    }
    let down = batch(200, &[(503, "", &error("", "")), (500, "", &error("", ""))]);
    let verdicts = connector().verdicts(&[plain.clone(), change("k2", &[("subject", json!("x"))])], &down);
    assert!(matches!(verdicts.as_slice(), [Verdict::Down { .. }, Verdict::Down { .. }]), "{verdicts:?}");
}

#[test]
fn who_loses_a_race_to_make_a_row_tries_again_at_once() {
    let verdict = one(412, "", "0x80060892", "Entity Key k violated.", &change("k", &[("subject", json!("x"))]));
    assert!(matches!(verdict, Verdict::Conflict { .. }), "{verdict:?}");
}

#[test]
fn the_wait_that_a_throttle_asks_for_is_kept() {
    let plain = change("k", &[("subject", json!("x"))]);
    let part = one(429, "Retry-After: 37\r\n", "0x80072322", "", &plain);
    assert!(matches!(part, Verdict::Throttled { after: Some(wait), .. } if wait.as_secs() == 37), "{part:?}");
    let until = batch(200, &[(429, "Retry-After: Mon, 05 Jan 2026 10:01:10 GMT\r\n", &error("0x80072322", ""))]);
    let headers = until.headers.iter().cloned().chain([("date".to_owned(), "Mon, 05 Jan 2026 10:00:00 GMT".to_owned())]).collect();
    let until = connector().verdicts(std::slice::from_ref(&plain), &HttpAnswer { headers, ..until });
    assert!(matches!(until.as_slice(), [Verdict::Throttled { after: Some(wait), .. }] if wait.as_secs() == 70), "{until:?}");
    let whole = HttpAnswer { status: 429, headers: vec![("retry-after".into(), "8".into())], body: error("0x80072326", "").into_bytes() };
    let both = connector().verdicts(&[plain.clone(), plain], &whole);
    assert!(both.iter().all(|v| matches!(v, Verdict::Throttled { after: Some(wait), .. } if wait.as_secs() == 8)), "{both:?}");
}

#[test]
fn each_record_of_a_batch_has_its_own_verdict() {
    let changes =
        [change("k1", &[("subject", json!("a"))]), change("k2", &[("subject", json!("b"))]), change("k3", &[("subject", json!("c"))])];
    let entity = "OData-EntityId: http://crm/api/data/v9.2/phonecalls(offhook_key='k3')\r\n";
    let row = json!({"@odata.etag": "W/\"1\"", "offhook_key": "k1", "activityid": "0a0b-1"}).to_string();
    let refusal = error("0x80044331", "too long");
    let verdicts = connector().verdicts(&changes, &batch(200, &[(201, "", &row), (400, "", &refusal), (204, entity, "")]));
    let wanted = [
        Verdict::Done { id: Some("0a0b-1".into()) },
        Verdict::Rejected { why: "too long (0x80044331)".into() },
        Verdict::Done { id: None },
    ];
    assert_eq!(verdicts, wanted, "an address that names the key tells no id");
    // A server that does not go on stops at the first refusal: the rest was not looked at.
    let stopped = connector().verdicts(&changes, &batch(400, &[(200, "", &row), (400, "", &refusal)]));
    assert_eq!(stopped.iter().map(Verdict::name).collect::<Vec<_>>(), ["done", "rejected", "retry"]);
    let cut = connector().verdicts(&changes, &batch(200, &[(200, "", &row)]));
    assert_eq!(cut.iter().map(Verdict::name).collect::<Vec<_>>(), ["done", "ambiguous", "ambiguous"]);
    let nothing = HttpAnswer { status: 200, headers: Vec::new(), body: Vec::new() };
    assert!(connector().verdicts(&changes, &nothing).iter().all(|v| v.name() == "ambiguous"));
    let large = HttpAnswer { status: 413, headers: Vec::new(), body: Vec::new() };
    assert!(connector().verdicts(&changes, &large).iter().all(|v| matches!(v, Verdict::Split { .. })));
}

#[test]
fn a_batch_goes_on_after_a_refusal_and_bears_no_key_in_its_bodies() {
    let sent = connector().upsert(&[change("ab12", &[("subject", json!("x"))])], &Token::standing());
    let header = |name: &str| sent.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!((header("prefer"), header("if-none-match")), (Some("odata.continue-on-error"), Some("null")));
    let body = String::from_utf8(sent.body).expect("text");
    assert!(body.contains("PATCH http://crm/api/data/v9.2/phonecalls(offhook_key='ab12')?$select=offhook_key HTTP/1.1\r\n"), "{body}");
    assert!(body.contains("\r\nPrefer: return=representation\r\n"), "{body}");
    assert!(body.contains("\r\n\r\n{\"subject\":\"x\"}\r\n"), "{body}");
    assert!(!body.replace("\r\n", "").contains('\n'), "every line ends with CRLF");
}

#[test]
fn a_row_that_is_made_although_it_was_acknowledged_is_made_anew() {
    let row = json!({"activityid": "0a0b-1"}).to_string();
    let verdict =
        |change: &Change, parts: &[(u16, &str, &str)]| connector().verdicts(std::slice::from_ref(change), &batch(200, parts)).remove(0);
    let id = Some("0a0b-1".to_owned());
    let first = change("k", &[("subject", json!("x"))]);
    assert_eq!(verdict(&first, &[(201, "", &row)]), Verdict::Done { id: id.clone() });
    let mut late = change("k", &[("description", json!("late"))]);
    late.written = first.fields;
    assert_eq!(verdict(&late, &[(200, "", &row)]), Verdict::Done { id: id.clone() });
    assert_eq!(verdict(&late, &[(201, "", &row)]), Verdict::Anew { id });
}

/// What a change takes, as words.
fn steps(change: &Change) -> Vec<String> {
    let word = |needed: &Needed| match needed.what {
        What::Reopen => "reopen".to_owned(),
        What::Upsert => format!("upsert {}", needed.body.keys().cloned().collect::<Vec<_>>().join(" ")),
        What::Close => format!("state {}", Value::Object(needed.body.clone())),
    };
    needs(change).iter().map(word).collect()
}

#[test]
fn a_phone_call_is_written_while_open_and_completed_last() {
    let done = [("subject", json!("x")), ("statecode", json!(1)), ("statuscode", json!(4))];
    let closes = r#"state {"statecode":1,"statuscode":4}"#;
    let open = change("k", &[("subject", json!("x")), ("statecode", json!(0))]);
    assert_eq!(steps(&open), ["upsert subject"], "an open state is what a new row has");
    let mut completed = change("k", &done[1..]);
    completed.written = fields(&[("subject", json!("x")), ("statecode", json!(0))]);
    assert_eq!(steps(&completed), [closes], "it is known to be open");
    assert_eq!(steps(&change("k", &done)), ["reopen", "upsert subject", closes], "an answer may have been lost that had closed it");
    let mut late = change("k", &[("description", json!("late"))]);
    late.written = fields(&done);
    assert_eq!(steps(&late), ["reopen", "upsert description", closes], "a late fact");
    let mut reopened = change("k", &[("statecode", json!(0))]);
    reopened.written = fields(&done);
    assert_eq!(steps(&reopened), [r#"state {"statecode":0,"statuscode":4}"#]);
}

#[test]
fn of_the_requests_of_a_record_the_first_refusal_counts() {
    let done = change("k", &[("subject", json!("x")), ("statecode", json!(1))]);
    let verdict = |parts: &[(u16, &str, &str)]| connector().verdicts(std::slice::from_ref(&done), &batch(200, parts)).remove(0).name();
    let (missing, refusal) = (error("", "Does Not Exist"), error("0x80044331", "too long"));
    assert_eq!(verdict(&[(404, "", &missing), (204, "", ""), (204, "", "")]), "done", "there was nothing to open");
    assert_eq!(verdict(&[(204, "", ""), (400, "", &refusal), (204, "", "")]), "rejected");
    assert_eq!(verdict(&[(204, "", ""), (204, "", ""), (503, "", "")]), "retry", "it is open still");
    assert_eq!(verdict(&[(429, "", ""), (204, "", ""), (204, "", "")]), "throttled");
}

#[test]
fn a_wrong_secret_is_told_by_its_word_not_by_its_number() {
    let refused = |status: u16, word: &str| {
        let body = json!({"error": word, "error_description": "AADSTS7000222: The provided client secret keys are expired.", "error_codes": [7_000_222]});
        let answer = HttpAnswer { status, headers: Vec::new(), body: body.to_string().into_bytes() };
        connector().token(&answer).expect_err("no token").name()
    };
    assert_eq!(refused(401, "invalid_client"), "auth");
    assert_eq!(refused(400, "unauthorized_client"), "auth");
    assert_eq!(refused(400, "temporarily_unavailable"), "retry");
    assert_eq!(refused(503, ""), "retry");
}

#[test]
fn texts_cannot_leave_their_quotation_marks() {
    let (fields, values) = (["telephone1".to_owned()], ["' or 1 eq 1".to_owned()]);
    let sent = connector().find(&Search { object: "contacts", fields: &fields, values: &values }, &Token::standing());
    assert!(sent.url.contains("%27%27%27%20or%201"), "{}", sent.url);
    assert_eq!((id_column("contacts"), id_column("opportunities")), ("contactid".to_owned(), "opportunityid".to_owned()));
}

/// The double, asked without a socket.
struct Crm {
    double: Double,
    token: Token,
    seconds: i64,
}

impl Crm {
    fn new() -> Self {
        let double = Double::of("dynamics", sandbox::Options::default(), Chance::from_seed(1)).expect("a double");
        let mut crm = Self { double, token: Token::standing(), seconds: 0 };
        crm.token = connector().token(&crm.send(connector().grant("", Wall::default()))).expect("a token");
        let column =
            json!({"@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata", "SchemaName": "offhook_Key", "MaxLength": 100});
        assert_eq!(crm.post("EntityDefinitions(LogicalName='phonecall')/Attributes", &column), 204);
        let key = json!({"SchemaName": "offhook_CallKey", "KeyAttributes": ["offhook_key"]});
        assert_eq!(crm.post("EntityDefinitions(LogicalName='phonecall')/Keys", &key), 204);
        crm
    }

    fn send(&mut self, request: HttpRequest) -> HttpAnswer {
        let (path, query) = request.url.strip_prefix("http://crm").map(|p| p.split_once('?').unwrap_or((p, ""))).expect("its address");
        let asked = sandbox::Request {
            method: request.method.into(),
            path: path.into(),
            query: query.into(),
            headers: request.headers.clone(),
            body: request.body.clone(),
        };
        let wall = Wall::from_millis(1_767_607_200_000 + self.seconds * 1000);
        match self.double.handle(Now { wall, ..Now::default() }, &asked) {
            Outcome::Answer(answer, _) => {
                let kind = answer.body.content_type().map(|kind| ("content-type".to_owned(), kind.to_owned()));
                HttpAnswer { status: answer.status, headers: kind.into_iter().collect(), body: answer.body.octets() }
            }
            Outcome::Drop(_) => panic!("no fault was planted"),
        }
    }

    fn post(&mut self, path: &str, body: &Value) -> u16 {
        let request = connector().request("POST", path, "application/json", body.to_string().into_bytes(), &self.token);
        self.send(request).status
    }

    fn write(&mut self, change: &Change) -> Verdict {
        let request = connector().upsert(std::slice::from_ref(change), &self.token);
        let answer = self.send(request);
        connector().verdicts(std::slice::from_ref(change), &answer).remove(0)
    }

    fn rows(&mut self) -> Vec<Value> {
        let request = connector().request("GET", "phonecalls", "application/json", Vec::new(), &self.token);
        let body: Value = serde_json::from_slice(&self.send(request).body).expect("json");
        body["value"].as_array().expect("rows").clone()
    }
}

#[test]
fn a_record_written_twice_is_one_row_and_late_facts_reach_it() {
    let mut crm = Crm::new();
    let done = change("ab12", &[("subject", json!("call")), ("statecode", json!(1)), ("statuscode", json!(4))]);
    assert_eq!(crm.write(&done).name(), "gone", "the index of its key is not built yet");
    crm.seconds = 10;
    let first = crm.write(&done);
    assert!(matches!(first, Verdict::Done { id: Some(_) }), "{first:?}");
    assert_eq!(crm.write(&done), first, "its answer was lost, and it is written again although it is closed");
    let mut late = change("ab12", &[("description", json!("late"))]);
    late.written = done.fields.clone();
    assert_eq!(crm.write(&late), first);
    let rows = crm.rows();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    let held = |name: &str| row[name].clone();
    assert_eq!((held("description"), held("statecode"), held("statuscode")), (json!("late"), json!(1), json!(4)));
    // A refused value leaves the row as it was, and closed.
    let mut long = change("ab12", &[("subject", json!("x".repeat(201)))]);
    long.written = done.fields.clone();
    assert_eq!(crm.write(&long).name(), "rejected");
    assert_eq!((&crm.rows()[0]["statecode"], &crm.rows()[0]["subject"]), (&json!(1), &json!("call")));
    let unborn = change("cd34", &[("subject", json!("x".repeat(201))), ("statecode", json!(1))]);
    assert_eq!(crm.write(&unborn).name(), "rejected");
    assert_eq!(crm.rows().len(), 1, "a change of state makes no empty row");
    // Which column it was the environment does not say.
    let odd = change("ef56", &[("subject", json!("x")), ("actualstart", json!("the first 'of May'")), ("leftvoicemail", json!(true))]);
    let Verdict::Rejected { why } = crm.write(&odd) else { panic!("not rejected") };
    assert!(why.starts_with("actualstart: Cannot convert the literal 'the first 'of May'' to"), "{why}");
}

#[test]
fn a_person_is_found_and_bound_and_one_who_is_gone_is_told() {
    let mut crm = Crm::new();
    crm.seconds = 10;
    assert_eq!(crm.post("contacts", &json!({"lastname": "Doe", "mobilephone": "+4930123456"})), 204);
    let (fields, values) = (["telephone1".to_owned(), "mobilephone".to_owned()], ["+4930123456".to_owned()]);
    let search = Search { object: "contacts", fields: &fields, values: &values };
    let answer = crm.send(connector().find(&search, &crm.token));
    let found = connector().found(&search, &answer).expect("people");
    let [person] = found.people.as_slice() else { panic!("{found:?}") };
    let linked = |id: &str| change("k1", &[("subject", json!("x")), (LINK, json!(format!("/contacts({id})")))]);
    assert_eq!(crm.write(&linked(&person.id)).name(), "done");
    assert_eq!(crm.rows()[0]["_regardingobjectid_value"], json!(person.id));
    let asked = connector().read(&["k1".to_owned()], &["subject".to_owned(), LINK.to_owned()], &crm.token);
    let answer = crm.send(asked);
    let held = connector().read_back(&answer).expect("rows");
    let [held] = held.as_slice() else { panic!("{held:?}") };
    assert_eq!((held.key.as_str(), &held.fields), ("k1", &linked(&person.id).fields), "it reads back as it was written");
    let gone = crm.write(&linked("d0000000-0000-4000-8000-00000000ffff"));
    assert!(matches!(gone, Verdict::PersonGone { .. }), "{gone:?}");
}

#[test]
fn people_are_changed_by_their_ids_and_nobody_is_made() {
    let change =
        |id: &str| Change { key: id.into(), id: Some(id.into()), fields: fields(&[("offhook_score", json!(1))]), written: Fields::new() };
    let changes = [change("00000000-0000-0000-0000-000000000001"), change("00000000-0000-0000-0000-000000000002")];
    let sent = connector().update("contacts", &changes, &Token::standing()).expect("a request");
    let body = String::from_utf8(sent.body).expect("text");
    assert!(body.contains("PATCH http://crm/api/data/v9.2/contacts(00000000-0000-0000-0000-000000000002) HTTP/1.1"), "{body}");
    assert_eq!(body.matches("If-Match: *").count(), 2);
    let boundary = "b";
    let part = |status: &str, body: &str| {
        format!(
            "--{boundary}\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n{body}\r\n"
        )
    };
    let gone = r#"{"error":{"code":"0x80040217","message":"Entity 'contact' Does Not Exist"}}"#;
    let text = format!("{}{}--{boundary}--\r\n", part("204 No Content", ""), part("404 Not Found", gone));
    let headers = vec![("content-type".to_owned(), format!("multipart/mixed; boundary={boundary}"))];
    let told = connector().updated(&changes, &HttpAnswer { status: 200, headers, body: text.into_bytes() });
    assert_eq!(told, [Verdict::Done { id: None }, Verdict::PersonGone { why: "Entity 'contact' Does Not Exist".into() }]);
}

#[test]
fn people_of_a_further_page_are_told_of() {
    let mut crm = Crm::new();
    let (fields, values) = (["mobilephone".to_owned()], ["+4930123456".to_owned()]);
    let search = Search { object: "contacts", fields: &fields, values: &values };
    let asked = connector().find(&search, &crm.token);
    for (made, more) in [(PAGE, false), (1, true)] {
        for _ in 0..made {
            crm.post("contacts", &json!({"lastname": "Doe", "mobilephone": "+4930123456"}));
        }
        let found = connector().found(&search, &crm.send(asked.clone())).expect("people");
        assert_eq!((found.people.len(), found.more), (PAGE, more));
    }
}

#[test]
fn a_choice_that_is_made_shows_people_words_and_not_its_numbers() {
    let text = include_str!("../../../examples/mappings/qualification-dynamics.toml");
    let mapping: crate::crm::mapping::Mapping = toml::from_str(text).expect("a shipped mapping");
    let needs = crate::crm::setup::needs(&mapping).expect("known types");
    let field = needs[0].1.iter().find(|field| field.name == "offhook_qualification").expect("the choice");
    let made = connector().make("phonecalls", field, &Token::standing()).expect("a request");
    let body = String::from_utf8(made.body).expect("text");
    for seen in ["QUALIFIED", "NURTURE", "DISQUALIFIED", "other or none"] {
        assert!(body.contains(&format!("\"Label\":\"{seen}\"")), "{seen}: {body}");
    }
    assert_eq!((body.matches("\"Value\":10000000").count(), body.matches("\"Label\":\"10000000").count()), (4, 0), "{body}");
}
