//! Answers of Salesforce, each with its verdict, and the connector against the double.

use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};

use super::*;
use crate::{
    chance::Chance,
    crm::{
        Fields,
        bulk::{Ask, Standing},
        contact::Search,
        sandbox::{self, CLIENT_ID, CLIENT_SECRET, Double, Outcome},
    },
    time::Now,
};

pub(super) fn connector() -> Salesforce {
    Salesforce {
        base_url: "http://crm".into(),
        token_url: "http://crm/services/oauth2/token".into(),
        client_id: CLIENT_ID.into(),
        grant: Grant::ClientCredentials(Zeroizing::new(CLIENT_SECRET.into())),
        version: VERSION.into(),
        object: "Voice_Call__c".into(),
        key: "Key__c".into(),
        link: Some("Contact__c".into()),
        beside: None,
    }
}

fn answer(status: u16, body: &Value) -> HttpAnswer {
    HttpAnswer { status, headers: Vec::new(), body: body.to_string().into_bytes() }
}

fn change(key: &str, fields: &[(&str, Value)]) -> Change {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Change { key: key.into(), id: None, fields, written: Fields::new() }
}

#[test]
fn each_error_has_its_verdict() {
    let verdict = |status: u16, code: &str, fields: &[&str]| {
        let body = json!([{"errorCode": code, "message": "m", "fields": fields}]);
        connector().verdicts(&[change("k", &[])], &answer(status, &body)).remove(0)
    };
    for (status, code, word) in [
        (400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "rejected"),
        (400, "STRING_TOO_LONG", "rejected"),
        (400, "INVALID_FIELD", "gone"),
        (400, "DUPLICATE_VALUE", "retry"),
        (400, "DUPLICATES_DETECTED", "rejected"),
        (400, "UNABLE_TO_LOCK_ROW", "retry"),
        (401, "INVALID_SESSION_ID", "auth"),
        (403, "REQUEST_LIMIT_EXCEEDED", "throttled"),
        (403, "INSUFFICIENT_ACCESS", "gone"),
        (404, "NOT_FOUND", "gone"),
        (503, "SERVER_UNAVAILABLE", "retry"),
        (300, "", "rejected"),
    ] {
        assert_eq!(verdict(status, code, &[]).name(), word, "{status} {code}");
    }
    let over = |headers: Vec<(String, String)>| {
        let body = json!([{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "m", "fields": []}]).to_string().into_bytes();
        connector().verdicts(&[change("k", &[])], &HttpAnswer { status: 403, headers, body }).remove(0)
    };
    let after = |seconds: u64| Verdict::Throttled { after: Some(Duration::from_secs(seconds)), why: "m (REQUEST_LIMIT_EXCEEDED)".into() };
    assert_eq!((over(Vec::new()), over(vec![("retry-after".into(), "7".into())])), (after(300), after(7)));
    let person = verdict(400, "ENTITY_IS_DELETED", &["Contact__c"]);
    assert!(matches!(person, Verdict::PersonGone { .. }), "{person:?}");
    assert_eq!(verdict(400, "ENTITY_IS_DELETED", &["OwnerId"]).name(), "rejected");
}

/// Salesforce seldom says which field names somebody who is gone.
#[test]
fn a_refused_reference_without_a_field_is_that_of_the_person_whom_the_record_names() {
    let person = "003000000000042AAA";
    let refused = |code: &str, message: &str, fields: &[(&str, Value)]| {
        let error = json!({"statusCode": code, "message": message, "fields": []});
        let results = json!([{"success": false, "errors": [error]}]);
        connector().verdicts(&[change("k", fields)], &answer(200, &results)).remove(0)
    };
    let gone = |code: &str, message: &str| {
        let named = refused(code, message, &[("Contact__c", json!(person))]);
        assert!(!matches!(refused(code, message, &[("OwnerId", json!("005A"))]), Verdict::PersonGone { .. }), "{code}: it names nobody");
        matches!(named, Verdict::PersonGone { .. })
    };
    assert!(gone("ENTITY_IS_DELETED", "entity is deleted"));
    assert!(gone("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id"));
    let out_of_reach = "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY";
    assert!(gone(out_of_reach, "insufficient access rights on cross-reference id: 003000000000042"));
    assert!(!gone(out_of_reach, "insufficient access rights on cross-reference id: 001000000000007"), "another record");
    assert!(!gone("STRING_TOO_LONG", "data value too large"));
}

#[test]
fn a_collection_is_told_record_by_record_in_its_order() {
    let results = json!([
        {"id": "a01", "success": true, "errors": [], "created": true},
        {"success": false, "errors": [{"statusCode": "STRING_TOO_LONG", "message": "too large", "fields": ["Name"]}]},
    ]);
    let batch = [change("k1", &[]), change("k2", &[])];
    let verdicts = connector().verdicts(&batch, &answer(200, &results));
    assert_eq!(verdicts, [Verdict::Done { id: Some("a01".into()) }, Verdict::Rejected { why: "Name: too large (STRING_TOO_LONG)".into() }]);
    let fewer = connector().verdicts(&batch, &answer(200, &json!([{"success": true}])));
    assert!(fewer.iter().all(|v| v.name() == "ambiguous"), "results that do not fit tell nothing");
}

/// A date that is none keeps the whole request from being read: each half goes by itself, until the one is found, whose field the message does not name.
#[test]
fn a_value_that_cannot_be_read_is_found_among_the_others() {
    let said = |kind: &str, value: &str, end: &str| {
        let message = format!("Cannot deserialize instance of date from {kind} value {value}{end}");
        answer(400, &json!([{"errorCode": "JSON_PARSER_ERROR", "message": message}]))
    };
    let odd = change("k1", &[("Name", json!("x")), ("Due__c", json!("soon or later")), ("Score__c", json!(7))]);
    let refused = said("VALUE_STRING", "soon or later", " or request may be missing a required field at [line:1, column:35]");
    let verdicts = connector().verdicts(&[odd.clone(), change("k2", &[])], &refused);
    assert!(verdicts.len() == 2 && verdicts.iter().all(|v| matches!(v, Verdict::Split { .. })), "{verdicts:?}");
    let alone = |refused: &HttpAnswer| match connector().verdicts(std::slice::from_ref(&odd), refused).remove(0) {
        Verdict::Rejected { why } => why,
        other => panic!("{other:?}"),
    };
    assert!(alone(&refused).starts_with("Due__c: Cannot deserialize"), "{}", alone(&refused));
    assert!(alone(&said("VALUE_NUMBER_INT", "7", " at [line:1, column:9]")).starts_with("Score__c: "));
    assert!(alone(&said("VALUE_STRING", "else", " at [line:1, column:9]")).starts_with("Cannot"), "no field holds it");
}

#[test]
fn a_refresh_beside_another_is_no_revoked_grant() {
    let refused = |error: &str, text: &str| {
        let body = json!({"error": error, "error_description": text});
        connector().token(&answer(400, &body)).expect_err("no token").name()
    };
    assert_eq!(refused("invalid_grant", "token request is already being processed"), "retry");
    let older = json!({"error": "invalid_grant", "error_description": "expired authorization code"});
    let by = |grant: Grant| Salesforce { grant, ..connector() }.token(&answer(400, &older)).expect_err("no token").name();
    assert_eq!(by(Grant::RefreshToken(Zeroizing::default())), "retry");
    assert_eq!(by(Grant::ClientCredentials(Zeroizing::default())), "auth", "there was no refresh that another could be beside");
    assert_eq!(refused("invalid_grant", "expired access/refresh token"), "auth");
    assert_eq!(refused("invalid_client", "invalid client credentials"), "auth");
    let token =
        connector().token(&answer(200, &json!({"access_token": "a", "instance_url": "https://x.my.salesforce.com/"}))).expect("a token");
    assert_eq!((token.base_url.as_deref(), token.expires), (Some("https://x.my.salesforce.com"), TOKEN_LIFE));
}

#[test]
fn texts_cannot_leave_their_quotation_marks() {
    let (fields, values) = (["Phone".to_owned()], ["+49') OR Name IN ('x".to_owned()]);
    let sent = connector().find(&Search { object: "Contact", fields: &fields, values: &values }, &Token::standing());
    assert!(sent.url.contains("%5C%27%29%20OR"), "{}", sent.url);
    // Nor end the line that a query is: the org would refuse it, and with it whoever else is looked for.
    assert_eq!(literal("C-1\r\n\\"), r"'C-1\r\n\\'");
}

/// What the connector signs, the double, which shares no code with it, takes for good; and nothing else.
#[test]
fn an_assertion_is_good_for_its_own_key_app_and_time() {
    let at = Wall::from_millis(1_767_607_200_000);
    let signer = |audience: &str| {
        Signer::new(include_str!("testkey/private.pem"), "integration@example.com".into(), audience.into()).expect("a key")
    };
    let public = SubjectPublicKeyInfoDer::from_pem_slice(include_bytes!("testkey/public.pem")).expect("a key");
    let asked = |trusted: Option<&[u8]>, connector: Salesforce, at: Wall| {
        let mut crm = Double::of("salesforce", sandbox::Options::default(), Chance::from_seed(1)).expect("a double");
        assert!(trusted.is_none_or(|key| crm.trust(key.to_vec())));
        let sent = connector.grant("", at);
        let path = sent.url.strip_prefix("http://crm").expect("its address").to_owned();
        let request = sandbox::Request { method: "POST".into(), path, query: String::new(), headers: sent.headers, body: sent.body };
        let now = Now { wall: Wall::from_millis(1_767_607_200_000), ..Now::default() };
        let Outcome::Answer(answer, _) = crm.handle(now, &request) else { panic!("no fault was planted") };
        let answer = HttpAnswer { status: answer.status, headers: Vec::new(), body: answer.body.octets() };
        connector.token(&answer).map(|_| "good").unwrap_or_else(|verdict| verdict.name())
    };
    let with = |audience: &str| Salesforce { grant: Grant::Jwt(Arc::new(signer(audience))), ..connector() };
    let other = {
        let mut key = public.as_ref().to_vec();
        let middle = key.len() / 2;
        key[middle] ^= 1;
        key
    };
    assert_eq!(asked(Some(&public), with(jwt::AUDIENCE), at), "good");
    assert_eq!(asked(Some(&other), with(jwt::AUDIENCE), at), "auth", "another key");
    assert_eq!(asked(None, with(jwt::AUDIENCE), at), "auth", "no key");
    assert_eq!(asked(Some(&public), with("https://example.com"), at), "auth", "for somebody else");
    assert_eq!(asked(Some(&public), Salesforce { client_id: "other".into(), ..with(jwt::AUDIENCE) }, at), "auth", "another app");
    for late in [Duration::from_secs(3600), Duration::from_secs(180)] {
        assert_eq!(
            asked(Some(&public), with(jwt::AUDIENCE), Wall::from_millis(at.as_millis() - i64::try_from(late.as_millis()).expect("short"))),
            "auth"
        );
    }
    for (bad, what) in [("", "PEM"), (include_str!("testkey/public.pem"), "PEM")] {
        let why = Signer::new(bad, String::new(), String::new()).expect_err("no private key").to_string();
        assert!(why.contains(what), "{why}");
    }
}

/// The connector against the double, without a socket between them.
#[test]
fn a_record_written_twice_is_one_record_and_names_its_person() {
    let mut crm = Double::of("salesforce", sandbox::Options::default(), Chance::from_seed(1)).expect("a double");
    let now = Now { wall: Wall::from_millis(1_767_607_200_000), ..Now::default() };
    let mut send = |request: HttpRequest| {
        let (path, query) = request.url.strip_prefix("http://crm").map(|p| p.split_once('?').unwrap_or((p, ""))).expect("its address");
        let asked = sandbox::Request {
            method: request.method.into(),
            path: path.into(),
            query: query.into(),
            headers: request.headers.clone(),
            body: request.body.clone(),
        };
        match crm.handle(now, &asked) {
            Outcome::Answer(answer, _) => HttpAnswer { status: answer.status, headers: Vec::new(), body: answer.body.octets() },
            Outcome::Drop(_) => panic!("no fault was planted"),
        }
    };
    let connector = connector();
    let token = connector.token(&send(connector.grant("", now.wall))).expect("a token");
    let wanted = [change("k1", &[("Name", json!("call"))])];
    assert_eq!(
        connector.verdicts(&wanted, &send(connector.upsert(&wanted, &token))).remove(0).name(),
        "gone",
        "the org has no such field yet"
    );
    for (name, kind) in
        [("Key__c", json!({"type": "Text", "length": 40, "externalId": true, "unique": true})), ("Contact__c", json!({"type": "Lookup"}))]
    {
        let body = json!({"FullName": format!("Voice_Call__c.{name}"), "Metadata": kind}).to_string().into_bytes();
        assert_eq!(send(connector.request("POST", "tooling/sobjects/CustomField", body, &token)).status, 201);
    }
    let first = connector.verdicts(&wanted, &send(connector.upsert(&wanted, &token)));
    assert_eq!(first, connector.verdicts(&wanted, &send(connector.upsert(&wanted, &token))));
    assert!(matches!(first.as_slice(), [Verdict::Done { id: Some(_) }]));

    let person = json!({"LastName": "Doe", "MobilePhone": "+4930123456"}).to_string().into_bytes();
    send(connector.request("POST", "sobjects/Contact", person, &token));
    let (fields, values) = (["Phone".to_owned(), "MobilePhone".to_owned()], ["+4930123456".to_owned()]);
    let search = Search { object: "Contact", fields: &fields, values: &values };
    let found = connector.found(&search, &send(connector.find(&search, &token))).expect("people");
    let [person] = found.people.as_slice() else { panic!("{found:?}") };
    let linked = [change("k1", &[("Contact__c", json!(person.id))])];
    assert_eq!(connector.verdicts(&linked, &send(connector.upsert(&linked, &token))).remove(0).name(), "done");
    let gone = [change("k1", &[("Contact__c", json!("003000000000099AAA"))])];
    assert!(matches!(connector.verdicts(&gone, &send(connector.upsert(&gone, &token))).remove(0), Verdict::PersonGone { .. }));
}

/// What the double says of a lock, of a second record with one key, and of a duplicate rule, record by record.
#[test]
fn the_doubles_refusals_of_single_records_are_read_one_by_one() {
    let asked = |faults: Value| {
        let faults = serde_json::from_value(faults).expect("faults");
        let mut crm =
            Double::of("salesforce", sandbox::Options { faults, ..sandbox::Options::default() }, Chance::from_seed(1)).expect("a double");
        let now = Now { wall: Wall::from_millis(1_767_607_200_000), ..Now::default() };
        let mut send = |request: HttpRequest| {
            let path = request.url.strip_prefix("http://crm").expect("its address").to_owned();
            let asked = sandbox::Request {
                method: request.method.into(),
                path,
                query: String::new(),
                headers: request.headers,
                body: request.body,
            };
            match crm.handle(now, &asked) {
                Outcome::Answer(answer, _) => HttpAnswer { status: answer.status, headers: Vec::new(), body: answer.body.octets() },
                Outcome::Drop(_) => panic!("no such fault was planted"),
            }
        };
        let connector = connector();
        let token = connector.token(&send(connector.grant("", now.wall))).expect("a token");
        let batch = [change("k1", &[]), change("k2", &[])];
        connector.verdicts(&batch, &send(connector.upsert(&batch, &token)))
    };
    let locked = asked(json!([{"match": {"path": "composite"}, "action": {"lock": true}}]));
    assert!(matches!(locked.as_slice(), [Verdict::Retry { after: None, .. }, Verdict::Retry { after: None, .. }]), "{locked:?}");
    let refused = |code: &str| json!({"success": false, "errors": [{"statusCode": code, "message": "m", "fields": []}]});
    let body = json!([refused("DUPLICATE_VALUE"), refused("DUPLICATES_DETECTED")]);
    let raced = asked(json!([{"match": {"path": "composite"}, "action": {"status": 200, "body": body}}]));
    assert!(matches!(raced.as_slice(), [Verdict::Conflict { .. }, Verdict::Rejected { .. }]), "{raced:?}");
}

#[test]
fn the_orgs_day_is_read_from_the_header_and_anything_else_tells_nothing() {
    let told = |header: &str| {
        let headers = vec![("sforce-limit-info".to_owned(), header.to_owned())];
        connector().budgets(&HttpAnswer { status: 200, headers, body: Vec::new() })
    };
    let day = vec![crate::crm::Budget::Day { used: 10_018, most: 100_000 }];
    assert_eq!(told("api-usage=10018/100000"), day);
    assert_eq!(told("api-bursts=1/750; api-usage=10018/100000; per-app-api-usage=17/250(appName=x)"), day);
    for none in ["", "api-usage=", "api-usage=a/b", "per-app-api-usage=17/250(appName=x)", "api-usage=99999999999999999999/1"] {
        assert_eq!(told(none), [], "{none}");
    }
}

#[test]
fn people_are_changed_by_their_ids_in_one_collection() {
    let change = |id: &str| Change { id: Some(id.into()), ..change(id, &[("Score__c", json!(1))]) };
    let changes = [change("003A"), change("003B")];
    let sent = connector().update("Contact", &changes, &Token::standing()).expect("a request");
    assert!(sent.method == "PATCH" && sent.url.ends_with("/composite/sobjects"), "{}", sent.url);
    let body: Value = serde_json::from_slice(&sent.body).expect("JSON");
    assert_eq!(body["records"][1], json!({"attributes": {"type": "Contact"}, "id": "003B", "Score__c": 1}));
    let gone = json!({"success": false, "errors": [{"statusCode": "ENTITY_IS_DELETED", "message": "entity is deleted", "fields": []}]});
    let told = connector().updated(&changes, &answer(200, &json!([{"id": "003A", "success": true, "errors": []}, gone])));
    assert!(matches!(told.as_slice(), [Verdict::Done { .. }, Verdict::PersonGone { .. }]), "{told:?}");
}

/// An external id that is not unique lets two upserts at once make two records.
#[test]
fn a_key_field_that_is_only_an_external_id_is_no_key() {
    use crate::crm::setup::Setup as _;
    let field =
        |name: &str, external: bool, unique: bool| json!({"name": name, "externalId": external, "unique": unique, "picklistValues": []});
    let body = json!({"fields": [field("Both__c", true, true), field("External__c", true, false), field("Unique__c", false, true)]});
    let described = connector().described(&answer(200, &body)).expect("fields");
    let keys: Vec<_> = described.iter().filter(|d| d.key).map(|d| d.name.as_str()).collect();
    assert_eq!(keys, ["Both__c"]);
}

fn body(request: &HttpRequest) -> String {
    String::from_utf8(request.body.clone()).expect("text")
}

fn results(csv: &str) -> Vec<(String, Verdict)> {
    let answer = HttpAnswer { status: 200, headers: Vec::new(), body: csv.into() };
    connector().results(&answer).expect("results")
}

#[test]
fn a_jobs_rows_say_what_changed_and_leave_the_rest_as_it_is() {
    let changes = [
        change("k1", &[("Name", json!("a, \"b\"\nc")), ("Paid__c", json!(true)), ("Seconds__c", json!(7))]),
        change("k2", &[("Code__c", json!(null)), ("Name", json!(""))]),
    ];
    let token = Token::standing();
    let request = connector().ask(Ask::Fill("750J", &changes), &token);
    assert_eq!((request.method, request.url.as_str()), ("PUT", "http://crm/services/data/v62.0/jobs/ingest/750J/batches"));
    assert!(request.headers.contains(&("content-type".into(), "text/csv".into())), "{:?}", request.headers);
    // An empty column changes nothing; what is to be emptied has a sign of its own.
    assert_eq!(body(&request), "Key__c,Code__c,Name,Paid__c,Seconds__c\nk1,,\"a, \"\"b\"\"\nc\",true,7\nk2,#N/A,#N/A,,\n");
    assert!(changes.iter().all(|change| connector().takes(change)));
    for unsayable in [json!("#N/A"), json!("x".repeat(32_001)), json!(["a"])] {
        assert!(!connector().takes(&change("k", &[("Name", unsayable.clone())])), "{unsayable}");
    }
    let made = connector().ask(Ask::Make, &token);
    let job: Value = serde_json::from_slice(&made.body).expect("JSON");
    assert_eq!(
        (&job["operation"], &job["externalIdFieldName"], &job["object"]),
        (&json!("upsert"), &json!("Key__c"), &json!("Voice_Call__c"))
    );
    assert_eq!(body(&connector().ask(Ask::Close("750J"), &token)), r#"{"state":"UploadComplete"}"#);
    assert_eq!(body(&connector().ask(Ask::Abort("750J"), &token)), r#"{"state":"Aborted"}"#);
}

#[test]
fn results_are_matched_by_key_in_whatever_order_they_come() {
    let written =
        results("\"sf__Id\",\"sf__Created\",\"Name\",\"Key__c\"\n\"a02\",\"true\",\"x\ny\",\"k2\"\n\"a01\",\"false\",\"\",\"k1\"\n");
    let done = |id: &str| Verdict::Done { id: Some(id.into()) };
    assert_eq!(written, [("k2".to_owned(), done("a02")), ("k1".to_owned(), done("a01"))]);
    assert_eq!(results(""), []);
    assert_eq!(results("\"sf__Id\",\"sf__Created\",\"Key__c\"\n"), []);
    // Cut off in a row.
    assert_eq!(results("\"sf__Id\",\"sf__Created\",\"Key__c\"\n\"a01\",\"true\",\"k1\"\n\"a02\",\"tr"), [("k1".to_owned(), done("a01"))]);
}

#[test]
fn a_refused_row_is_told_as_a_refused_record_is() {
    let one = |error: &str| results(&format!("sf__Id,sf__Error,Key__c\n,\"{error}\",k1\n")).remove(0).1;
    assert_eq!(
        one("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST:bad value for restricted picklist field: Amazing:Rating__c --"),
        Verdict::Rejected {
            why: "Rating__c: bad value for restricted picklist field: Amazing (INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST)".into()
        }
    );
    let locked = one("UNABLE_TO_LOCK_ROW:unable to obtain exclusive access to this record:--");
    assert_eq!(locked, Verdict::Retry { after: None, why: "unable to obtain exclusive access to this record (UNABLE_TO_LOCK_ROW)".into() });
    assert_eq!(one("DUPLICATE_VALUE:duplicate value found: Key__c duplicates value on record with id: a01:--").name(), "retry");
    assert_eq!(one("INVALID_CROSS_REFERENCE_KEY:invalid cross reference id:Contact__c --").name(), "gone");
    assert!(matches!(one("ENTITY_IS_DELETED:entity is deleted:Contact__c --"), Verdict::PersonGone { .. }));
    let naming = |person: &str| {
        results(&format!("sf__Id,sf__Error,Contact__c,Key__c\n,ENTITY_IS_DELETED:entity is deleted:--,{person},k1\n")).remove(0).1
    };
    assert!(matches!(naming("003A"), Verdict::PersonGone { .. }));
    assert!(["", "#N/A"].iter().all(|nobody| naming(nobody).name() == "rejected"));
    assert_eq!(one("who: knows"), Verdict::Rejected { why: "who: knows ()".into() });
    assert_eq!(one("").name(), "ambiguous");
}

#[test]
fn a_job_stands_as_its_state_says() {
    let stands = |status, body: Value| connector().standing(&answer(status, &body));
    for (state, standing) in [
        ("Open", Standing::Open),
        ("UploadComplete", Standing::Running),
        ("InProgress", Standing::Running),
        ("JobComplete", Standing::Over),
        ("Failed", Standing::Failed { why: "the job failed: InvalidBatch".into() }),
        ("Aborted", Standing::Lost { why: "the job was aborted".into() }),
    ] {
        assert_eq!(stands(200, json!({"state": state, "errorMessage": "InvalidBatch"})), Ok(standing), "{state}");
    }
    assert!(matches!(stands(404, json!([{"errorCode": "NOT_FOUND"}])), Ok(Standing::Lost { .. })));
    assert_eq!(stands(200, json!({"state": "Sleeping"})).expect_err("nothing known").name(), "retry");
    assert_eq!(stands(401, json!([{"errorCode": "INVALID_SESSION_ID"}])).expect_err("no session").name(), "auth");
    assert_eq!(connector().begun(&answer(200, &json!({"id": "750J"}))), Ok("750J".into()));
    assert_eq!(connector().begun(&answer(200, &json!({}))).expect_err("no id").name(), "ambiguous");
    let uploaded = HttpAnswer { status: 201, headers: Vec::new(), body: Vec::new() };
    assert_eq!(connector().taken(&uploaded), Ok(()));
    assert_eq!(connector().taken(&answer(400, &json!([{"errorCode": "INVALIDJOBSTATE"}]))).expect_err("refused").name(), "rejected");
}
