//! The environment, asked as its clients do.

use super::{
    super::{Double, Outcome, SCHEME_HEADER},
    *,
};
use crate::time::{Instant, Now};

struct Environment {
    crm: Double,
    token: String,
    ms: i64,
}

impl Environment {
    fn new(dynamics: Dynamics) -> Self {
        let mut environment = Self { crm: Double::new(Box::new(dynamics), Vec::new()), token: String::new(), ms: 0 };
        let form =
            format!("grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}&scope=http%3A%2F%2Fcrm%2F.default");
        let answer = environment.raw("POST", "/tenant/oauth2/v2.0/token", &[], form.into_bytes());
        assert_eq!(answer.json()["expires_in"], 3599);
        environment.token = answer.json()["access_token"].as_str().expect("a token").to_owned();
        let column =
            json!({"@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata", "SchemaName": "offhook_Key", "MaxLength": 100});
        assert_eq!(environment.ask("POST", "EntityDefinitions(LogicalName='phonecall')/Attributes", &column).status, 204);
        let key = json!({"SchemaName": "offhook_CallKey", "KeyAttributes": ["offhook_key"]});
        assert_eq!(environment.ask("POST", "EntityDefinitions(LogicalName='phonecall')/Keys", &key).status, 204);
        environment
    }

    fn ready() -> Self {
        let mut environment = Self::new(Dynamics::new(Chance::from_seed(1)));
        environment.ms = 10_000;
        environment
    }

    fn raw(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut all = vec![("authorization".to_owned(), format!("Bearer {}", self.token))];
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let now = Now { wall: Wall::from_millis(1_767_607_200_000 + self.ms), mono: Instant::ORIGIN };
        match self.crm.handle(now, &Request { method: method.into(), path: path.into(), query: query.into(), headers: all, body }) {
            Outcome::Answer(answer, _) => answer,
            Outcome::Drop(_) => Answer::new(0, Value::Null),
        }
    }

    fn with(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.raw(method, &format!("/api/data/v9.2/{path}"), headers, body)
    }

    fn ask(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        self.with(method, path, &[], body)
    }

    fn code(&mut self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let answer = self.ask(method, path, body);
        (answer.status, answer.json().pointer("/error/code").and_then(Value::as_str).unwrap_or_default().to_owned())
    }
}

const ROW: &str = "phonecalls(offhook_key='ab12')";

#[test]
fn one_key_is_one_row_and_204_says_nothing_of_it() {
    let mut crm = Environment::ready();
    let made = crm.ask("PATCH", ROW, &json!({"subject": "a"}));
    let again = crm.ask("PATCH", "phonecalls(offhook_key='AB12')", &json!({"subject": "b"}));
    let entity = |answer: &Answer| answer.headers.iter().find(|(name, _)| *name == "OData-EntityId").map(|(_, address)| address.clone());
    let address = |key: &str| Some(format!("http://crm/api/data/v9.2/phonecalls(offhook_key='{key}')"));
    assert_eq!((made.status, entity(&made)), (204, address("ab12")), "its key again, not its id");
    assert_eq!((again.status, entity(&again)), (204, address("AB12")));
    let shown = crm.with("PATCH", ROW, &[("prefer", "return=representation")], &json!({"subject": "c"}));
    assert_eq!((shown.status, &shown.json()["subject"], &shown.json()["offhook_key"]), (200, &json!("c"), &json!("ab12")));
    assert_eq!(entity(&shown), None);
    let id = shown.json()["activityid"].as_str().expect("an id").to_owned();
    let by_id = crm.ask("PATCH", &format!("phonecalls({id})"), &json!({"subject": "c"}));
    assert_eq!(entity(&by_id), Some(format!("http://crm/api/data/v9.2/phonecalls({id})")));
    let key = crm.with("PATCH", &format!("{ROW}?$select=offhook_key"), &[("prefer", "return=representation")], &json!({"subject": "c"}));
    assert_eq!((&key.json()["activityid"], &key.json()["subject"]), (&json!(id), &Value::Null), "the id is shown always");
    assert_eq!(crm.ask("PATCH", &format!("{ROW}?$select=colour"), &json!({"subject": "x"})).status, 400);
    let other = crm.with("PATCH", "phonecalls(offhook_key='cd34')", &[("prefer", "return=representation")], &json!({"subject": "d"}));
    assert_eq!(other.status, 201);
    assert_eq!(crm.code("POST", "phonecalls", &json!({"subject": "e", "offhook_key": "cd34"})), (412, "0x80060892".into()));
    assert_eq!(crm.ask("GET", "phonecalls?$count=true", &Value::Null).json()["@odata.count"], 2);
}

#[test]
fn conditions_keep_a_row_from_being_made_or_changed() {
    let mut crm = Environment::ready();
    assert_eq!(crm.with("PATCH", ROW, &[("if-match", "*")], &json!({"subject": "a"})).status, 404);
    assert_eq!(crm.with("PATCH", ROW, &[("if-none-match", "*")], &json!({"subject": "a"})).status, 204);
    assert_eq!(crm.with("PATCH", ROW, &[("if-none-match", "*")], &json!({"subject": "a"})).status, 412);
    let etag = crm.ask("GET", ROW, &Value::Null).json()["@odata.etag"].as_str().expect("an etag").to_owned();
    assert_eq!(crm.with("PATCH", ROW, &[("if-match", &etag)], &json!({"subject": "b"})).status, 204);
    assert_eq!(crm.with("PATCH", ROW, &[("if-match", &etag)], &json!({"subject": "c"})).status, 412);
    assert_eq!(crm.with("PATCH", ROW, &[("if-none-match", "null")], &json!({"subject": "c"})).status, 204, "as every client sends it");
}

#[test]
fn a_key_counts_once_its_index_is_built_and_takes_no_strange_characters() {
    let mut crm = Environment::new(Dynamics::new(Chance::from_seed(1)));
    let mut status = |ms: i64| {
        crm.ms = ms;
        let keys = crm.ask(
            "GET",
            "EntityDefinitions(LogicalName='phonecall')?$expand=Keys($select=KeyAttributes,EntityKeyIndexStatus)",
            &Value::Null,
        );
        keys.json()["Keys"][0]["EntityKeyIndexStatus"].as_str().expect("a status").to_owned()
    };
    assert_eq!([status(0), status(1000), status(2000)], ["Pending", "InProgress", "Active"]);
    crm.ms = 0;
    assert_eq!(crm.code("PATCH", ROW, &json!({"subject": "a"})), (400, "0x80060888".into()));
    crm.ms = 2000;
    for bad in ["a%2Fb", "a%3Ab", "a%2Bb", "sip%25x", ""] {
        assert_eq!(crm.code("PATCH", &format!("phonecalls(offhook_key='{bad}')"), &json!({"subject": "a"})).0, 400, "{bad}");
    }
}

#[test]
fn of_two_who_make_a_row_at_once_one_is_told() {
    let mut crm = Environment::ready();
    crm.crm.set_faults(serde_json::from_value(json!([{"match": {"nth": 1}, "action": {"delay_ms": 200}}])).expect("faults"));
    assert_eq!(crm.ask("PATCH", ROW, &json!({"subject": "a"})).status, 204);
    crm.ms += 100;
    assert_eq!(crm.code("PATCH", ROW, &json!({"subject": "b"})), (412, "0x80060892".into()));
    crm.ms += 100;
    assert_eq!(crm.ask("PATCH", ROW, &json!({"subject": "b"})).status, 204);
}

#[test]
fn a_completed_phone_call_is_read_only_and_none_is_made_completed() {
    let mut crm = Environment::ready();
    assert_eq!(crm.code("PATCH", ROW, &json!({"subject": "a", "statuscode": 4})).0, 400, "no reason of the open state");
    crm.ask("PATCH", ROW, &json!({"subject": "a", "statecode": 1}));
    assert_eq!(crm.ask("GET", ROW, &Value::Null).json()["statecode"], 0, "a state is not valid for create");
    assert_eq!(crm.ask("PATCH", ROW, &json!({"statecode": 1, "statuscode": 4})).status, 204);
    assert_eq!(crm.code("PATCH", ROW, &json!({"description": "late"})).0, 400);
    assert_eq!(crm.code("PATCH", ROW, &json!({"statecode": 0, "description": "late"})).0, 400);
    assert_eq!(crm.ask("PATCH", ROW, &json!({"statecode": 0})).status, 204);
    assert_eq!(crm.ask("PATCH", ROW, &json!({"description": "late"})).status, 204);
    let row = crm.ask("GET", ROW, &Value::Null);
    assert_eq!((&row.json()["statuscode"], &row.json()["description"]), (&json!(1), &json!("late")));
}

#[test]
fn columns_are_held_against_their_types() {
    let mut crm = Environment::ready();
    let mut code = |body: Value| crm.code("POST", "phonecalls", &body).1;
    assert_eq!(code(json!({"subject": "x".repeat(201)})), "0x80044331");
    assert_eq!(code(json!({"subject": "x", "prioritycode": 7})), "0x8004431a");
    assert_eq!(code(json!({"subject": "x", "actualdurationminutes": -1})), "0x8004431a");
    assert_eq!(code(json!({"subject": "x", "actualstart": "tomorrow"})), "0x80048d19");
    assert_eq!(code(json!({"subject": "x", "colour": "red"})), "0x80048d19");
    assert_eq!(code(json!({"description": "x"})), "0x80040203");
    let stranger =
        json!({"subject": "x", "regardingobjectid_contact_phonecall@odata.bind": "/contacts(d0000000-0000-4000-8000-00000000ffff)"});
    assert_eq!(code(stranger), "0x80040217");
    assert_eq!(code(json!({"subject": "x", "prioritycode": 2, "actualstart": "2026-01-05T10:00:00Z", "directioncode": false})), "");
}

#[test]
fn a_batch_stops_at_the_first_refusal_unless_it_is_told_to_go_on() {
    let part = |key: &str, body: Value| {
        format!(
            "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nPATCH /api/data/v9.2/phonecalls(offhook_key='{key}') HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{body}\r\n"
        )
    };
    let text = format!(
        "{}{}{}--b--\r\n",
        part("k1", json!({"subject": "a"})),
        part("k2", json!({"subject": 7})),
        part("k3", json!({"subject": "c"}))
    );
    let statuses = |answer: &Answer| {
        let text = String::from_utf8(answer.body.octets()).expect("text");
        text.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse::<u16>().ok()).collect::<Vec<_>>()
    };
    let kind = ("content-type", "multipart/mixed; boundary=b");
    let mut crm = Environment::ready();
    let stopped = crm.raw("POST", "/api/data/v9.2/$batch", &[kind], text.clone().into_bytes());
    assert_eq!((stopped.status, statuses(&stopped)), (400, vec![204, 400]));
    let went_on = crm.raw("POST", "/api/data/v9.2/$batch", &[kind, ("prefer", "odata.continue-on-error")], text.into_bytes());
    assert_eq!((went_on.status, statuses(&went_on)), (200, vec![204, 400, 204]));
}

#[test]
fn rows_are_found_page_by_page() {
    let mut crm = Environment::ready();
    for n in 0..5 {
        let name = if n == 2 { "O'Hara".to_owned() } else { format!("n{n}") };
        crm.ask("POST", "contacts", &json!({"lastname": name, "telephone1": "+49"}));
    }
    let found = crm.ask("GET", "contacts?$select=lastname&$filter=lastname%20eq%20'O''Hara'%20and%20statecode%20eq%200", &Value::Null);
    let rows = found.json()["value"].as_array().expect("rows");
    assert_eq!((rows.len(), &rows[0]["lastname"], &rows[0]["telephone1"]), (1, &json!("O'Hara"), &Value::Null));
    assert!(rows[0]["contactid"].is_string(), "the id is shown always");
    let mut address = "/api/data/v9.2/contacts?$filter=telephone1%20eq%20'%2B49'".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = crm.raw("GET", &address, &[("prefer", "odata.maxpagesize=2")], Vec::new());
        pages.push(page.json()["value"].as_array().expect("rows").len());
        let Some(next) = page.json()["@odata.nextLink"].as_str() else { break };
        address = next.trim_start_matches("http://crm").to_owned();
    }
    assert_eq!(pages, [2, 2, 1]);
    assert_eq!(crm.code("GET", "contacts?$filter=fax%20eq%20'1'", &Value::Null).0, 400);
}

#[test]
fn addresses_in_answers_have_the_scheme_and_host_that_were_asked() {
    for scheme in ["http", "https"] {
        let mut crm = Environment::ready();
        let of_socket = [("host", "localhost:7"), (SCHEME_HEADER, scheme)];
        let own = format!("{scheme}://localhost:7/");
        let body = json!({"lastname": "a"}).to_string();
        let mut made = || {
            let answer = crm.raw("POST", "/api/data/v9.2/contacts", &of_socket, body.clone().into_bytes());
            answer.headers.into_iter().find(|(name, _)| *name == "OData-EntityId").expect("an address").1
        };
        assert!([made(), made()].iter().all(|address| address.starts_with(&own)));
        let wanted = [&of_socket[..], &[("prefer", "odata.maxpagesize=1")]].concat();
        let page = crm.raw("GET", "/api/data/v9.2/contacts", &wanted, Vec::new());
        for address in ["@odata.nextLink", "@odata.context"] {
            assert!(page.json()[address].as_str().expect("an address").starts_with(&own), "{page:?}");
        }
        let part = format!(
            "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nPOST /api/data/v9.2/contacts HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{body}\r\n--b--\r\n"
        );
        let batch = [&of_socket[..], &[("content-type", "multipart/mixed; boundary=b")]].concat();
        let answer = crm.raw("POST", "/api/data/v9.2/$batch", &batch, part.into_bytes()).body.octets();
        let text = String::from_utf8(answer).expect("text");
        assert!(text.contains(&format!("OData-EntityId: {own}")), "{text}");
        let openid = crm.raw("GET", "/tenant/v2.0/.well-known/openid-configuration", &of_socket, Vec::new());
        assert!(openid.json()["token_endpoint"].as_str().expect("an address").starts_with(&own), "{openid:?}");
    }
}

#[test]
fn who_keeps_on_over_the_limit_waits_longer() {
    let mut crm = Environment::new(Dynamics::new(Chance::from_seed(1)).with_requests_max(4));
    let wait = |answer: &Answer| answer.headers.iter().find(|(name, _)| *name == "retry-after").map(|(_, wait)| wait.clone());
    let mut ask = |ms: i64| {
        crm.ms = ms;
        let answer = crm.ask("GET", "WhoAmI", &Value::Null);
        (answer.status, wait(&answer))
    };
    assert_eq!([ask(0).0, ask(1000).0], [200, 200]);
    assert_eq!([ask(2000), ask(3000)], [(429, Some("1".into())), (429, Some("2".into()))]);
    assert_eq!(ask(300_000).0, 200, "the window moves on");
}

#[test]
fn entra_refuses_in_its_own_form_and_tokens_end() {
    let mut crm = Environment::ready();
    let form = format!("grant_type=client_credentials&client_id={CLIENT_ID}&client_secret=wrong&scope=x%2F.default");
    let refused = crm.raw("POST", "/tenant/oauth2/v2.0/token", &[], form.into_bytes());
    assert_eq!(
        (refused.status, &refused.json()["error"], &refused.json()["error_codes"]),
        (401, &json!("invalid_client"), &json!([7_000_215]))
    );
    crm.ms += 4_000_000;
    assert_eq!(crm.ask("GET", "WhoAmI", &Value::Null).status, 401);
}

#[test]
fn a_day_is_a_day_only_where_the_column_behaves_so() {
    let mut crm = Environment::ready();
    for (name, more) in [("offhook_day", json!({"DateTimeBehavior": {"Value": "DateOnly"}})), ("offhook_time", json!({}))] {
        let mut column =
            json!({"@odata.type": "Microsoft.Dynamics.CRM.DateTimeAttributeMetadata", "SchemaName": name, "Format": "DateOnly"});
        column.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        assert_eq!(crm.ask("POST", "EntityDefinitions(LogicalName='phonecall')/Attributes", &column).status, 204);
    }
    let day = json!({"subject": "a", "offhook_day": "2026-01-05", "offhook_time": "2026-01-05"});
    assert_eq!(crm.ask("PATCH", ROW, &day).status, 204);
    let row = crm.ask("GET", ROW, &Value::Null);
    // Midnight in UTC is the evening before in New York.
    assert_eq!((&row.json()["offhook_day"], &row.json()["offhook_time"]), (&json!("2026-01-05"), &json!("2026-01-05T00:00:00Z")));
    assert_eq!(crm.code("PATCH", ROW, &json!({"offhook_day": "2026-01-05T10:00:00Z"})), (400, "0x80048d19".to_owned()));
}

#[test]
fn a_case_is_somebodys() {
    let mut crm = Environment::ready();
    let told = crm.ask("POST", "incidents", &json!({"title": "a"}));
    assert!(told.status == 400 && told.json()["error"]["message"].as_str().is_some_and(|m| m.contains("parent contact or account")));
    crm.ask("POST", "contacts", &json!({"lastname": "Doe"}));
    let id = crm.ask("GET", "contacts", &Value::Null).json()["value"][0]["contactid"].as_str().expect("an id").to_owned();
    let case = json!({"title": "a", "customerid_contact@odata.bind": format!("/contacts({id})")});
    assert_eq!(crm.ask("POST", "incidents", &case).status, 204);
}
