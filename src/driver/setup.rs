//! Sets an account up for a mapping: what it needs is looked for, made where it is missing, and waited for.

use std::{collections::BTreeMap, time::Duration};

use zeroize::Zeroizing;

use crate::{
    crm::{
        Connector, HttpAnswer, HttpRequest, Token, Verdict,
        setup::{Described, Field, Setup, fault},
    },
    shell::http::{self, Client},
    time::Wall,
};

/// Why nothing can be set up, or no more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing came back.
    #[error(transparent)]
    Unanswered(#[from] http::Failed),
    /// The CRM does not do it.
    #[error("{what}: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The CRM's reason.
        why: String,
    },
}

/// How a field stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there and does.
    There,
    /// It is not there, and was only looked for.
    Missing,
    /// It was made.
    Made,
    /// A person has to look.
    Wrong(String),
}

/// A field that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Object type.
    pub object: String,
    /// Field.
    pub field: String,
    /// How it stands.
    pub state: State,
}

/// Longest until a CRM answers: some take their time for a new field.
pub const ANSWER: Duration = Duration::from_secs(60);
/// Longest that a field which was made may take to be seen: Dataverse builds the index of a key in its own time.
const ACTIVE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Gets a token. The CRM may have rotated the refresh token: then [`Token::refresh`] has to be kept.
pub async fn sign_in(client: &Client, connector: &dyn Connector, refresh_token: &str, at: Wall) -> Result<Token, Error> {
    let Some(oauth) = connector.oauth() else { return Ok(Token::standing()) };
    oauth.token(&send(client, oauth.grant(refresh_token, at)).await?).map_err(|verdict| refused("a token", &verdict))
}

/// Makes a field; one that is there already is left as it is. False where nobody can make it.
pub async fn make(client: &Client, setup: &dyn Setup, token: &Token, object: &str, field: &Field) -> Result<bool, Error> {
    let Some(request) = setup.make(object, field, token) else { return Ok(false) };
    let made = setup.made(&send(client, request).await?);
    made.map(|()| true).map_err(|verdict| refused(&format!("{object}.{}", field.name), &verdict))
}

/// Makes those of the fields that an account does not have from the start.
pub async fn make_all(setup: &dyn Setup, access: &str, object: &str, fields: &[Field]) -> Result<(), Error> {
    let client = Client::new(ANSWER)?;
    let token = Token { access: Zeroizing::new(access.to_owned()), ..Token::standing() };
    for field in fields {
        make(&client, setup, &token, object, field).await?;
    }
    Ok(())
}

/// Looks for what each object needs, makes what is missing unless it is only looked for, and waits until it can be used.
pub async fn set_up(
    client: &Client,
    setup: &dyn Setup,
    token: &Token,
    needs: &[(&str, Vec<Field>)],
    only_look: bool,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for (object, fields) in needs {
        let there = describe(client, setup, token, object).await?;
        let mut made = Vec::new();
        for field in fields {
            let state = match there.iter().find(|d| d.name == field.name) {
                Some(found) => fault(field, found).map_or(State::There, State::Wrong),
                None if only_look && setup.make(object, field, token).is_some() => State::Missing,
                None if !only_look && make(client, setup, token, object, field).await? => {
                    made.push(field);
                    State::Made
                }
                None => State::Wrong("is not there, and no type of `custom` says what to make: see the mapping".into()),
            };
            findings.push(Finding { object: (*object).to_owned(), field: field.name.clone(), state });
        }
        let mut amiss = wait(client, setup, token, object, &made).await?;
        for finding in findings.iter_mut().filter(|f| f.object == *object) {
            if let Some(why) = amiss.remove(&finding.field) {
                finding.state = State::Wrong(why);
            }
        }
    }
    Ok(findings)
}

/// Waits until all of these are there, and are keys where they are to be; what is wrong with those that cannot be used.
async fn wait(client: &Client, setup: &dyn Setup, token: &Token, object: &str, made: &[&Field]) -> Result<BTreeMap<String, String>, Error> {
    let until = tokio::time::Instant::now() + ACTIVE;
    loop {
        let there = if made.is_empty() { Vec::new() } else { describe(client, setup, token, object).await? };
        let find = |field: &Field| there.iter().find(|d| d.name == field.name);
        // A key becomes one a while after it was made; whatever else is wrong with a field stays so.
        let whole = made.iter().all(|field| find(field).is_some_and(|found| found.key || !field.unique));
        if whole || tokio::time::Instant::now() >= until {
            let why = |field: &Field| find(field).map_or_else(|| Some(UNSEEN.to_owned()), |found| fault(field, found));
            return Ok(made.iter().filter_map(|field| Some((field.name.clone(), why(field)?))).collect());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn describe(client: &Client, setup: &dyn Setup, token: &Token, object: &str) -> Result<Vec<Described>, Error> {
    let wrong = |verdict: Verdict| refused(&format!("the fields of {object}"), &verdict);
    let answer = send(client, setup.describe(object, token)).await?;
    let mut fields = setup.described(&answer).map_err(wrong)?;
    for request in setup.describe_more(object, token) {
        setup.described_more(&mut fields, &send(client, request).await?).map_err(wrong)?;
    }
    Ok(fields)
}

async fn send(client: &Client, HttpRequest { method, url, headers, body }: HttpRequest) -> Result<HttpAnswer, Error> {
    let http::Reply { status, headers, body } = client.send(http::Request { method: method.into(), url, headers, body }).await?;
    Ok(HttpAnswer { status, headers, body })
}

fn refused(what: &str, verdict: &Verdict) -> Error {
    let why = verdict.why().unwrap_or("no reason given").to_owned();
    Error::Refused { what: what.to_owned(), why }
}

/// What is wrong with a field that was made and is in no description.
const UNSEEN: &str =
    "was made and cannot be seen: permit it to the user of this token (in Salesforce by a permission set), then set up again";

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, path::Path};

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        chance::Chance,
        crm::{
            dynamics::{self, Dynamics},
            hubspot::{self, HubSpot},
            mapping::Mapping,
            salesforce::{self, Grant, Salesforce},
            sandbox::{CLIENT_ID, CLIENT_SECRET, Double, Fault, Options as Behaviour, REFRESH_TOKEN},
            setup::{Kind, Writes, needs},
        },
        shell::{
            clock::Clock,
            files::tests::Scratch,
            sandbox::{Options, Sandbox},
        },
    };

    async fn double(vendor: &str, faults: Value, ledger: &Path) -> Sandbox {
        let behaviour = Behaviour { faults: serde_json::from_value::<Vec<Fault>>(faults).expect("faults"), ..Behaviour::default() };
        let crm = Double::of(vendor, behaviour, Chance::from_seed(1)).expect("a double");
        let options = Options { listen: SocketAddr::from(([127, 0, 0, 1], 0)), crm, ledger: Some(ledger.to_owned()), tls: None };
        Sandbox::start(options, Clock::new()).await.expect("a sandbox")
    }

    fn connector(vendor: &str, url: &str) -> (Box<dyn Connector>, Mapping) {
        let text = match vendor {
            "hubspot" => include_str!("../../examples/mapping.toml"),
            "dynamics" => include_str!("../../examples/mapping-dynamics.toml"),
            _ => include_str!("../../examples/mapping-salesforce.toml"),
        };
        let mapping: Mapping = toml::from_str(text).expect("a shipped mapping");
        let (object, key) = (mapping.object.clone(), mapping.key.clone());
        let crm: Box<dyn Connector> = match vendor {
            "hubspot" => Box::new(HubSpot {
                base_url: url.into(),
                token_url: format!("{url}/oauth/v1/token"),
                client_id: CLIENT_ID.into(),
                client_secret: Zeroizing::new(CLIENT_SECRET.into()),
                version: hubspot::VERSION.into(),
                object,
                key,
            }),
            "dynamics" => Box::new(Dynamics {
                base_url: url.into(),
                token_url: format!("{url}/tenant/oauth2/v2.0/token"),
                client_id: CLIENT_ID.into(),
                client_secret: Zeroizing::new(CLIENT_SECRET.into()),
                version: dynamics::VERSION.into(),
                set: object,
                key,
                link: None,
            }),
            _ => Box::new(Salesforce {
                base_url: url.into(),
                token_url: format!("{url}/services/oauth2/token"),
                client_id: CLIENT_ID.into(),
                grant: Grant::ClientCredentials(Zeroizing::new(CLIENT_SECRET.into())),
                version: salesforce::VERSION.into(),
                object,
                key,
                link: None,
                beside: mapping.beside.clone(),
            }),
        };
        (crm, mapping)
    }

    /// An account whose token is in hand.
    struct Account {
        crm: Box<dyn Connector>,
        mapping: Mapping,
        client: Client,
        token: Token,
        ledger: std::path::PathBuf,
        _sandbox: Sandbox,
        _scratch: Scratch,
    }

    impl Account {
        async fn of(vendor: &str, faults: Value) -> Self {
            let scratch = Scratch::new("setup");
            let ledger = scratch.0.join("ledger");
            let sandbox = double(vendor, faults, &ledger).await;
            let (crm, mapping) = connector(vendor, &sandbox.url());
            let client = Client::new(ANSWER).expect("a client");
            let token = sign_in(&client, crm.as_ref(), REFRESH_TOKEN, Clock::new().wall()).await.expect("a token");
            Self { crm, mapping, client, token, ledger, _sandbox: sandbox, _scratch: scratch }
        }

        fn setup(&self) -> &dyn Setup {
            self.crm.setup().expect("a set-up")
        }

        /// What comes of setting up `needs`; of looking alone, where that is all.
        async fn set_up(&self, needs: &[(&str, Vec<Field>)], only_look: bool) -> Vec<Finding> {
            set_up(&self.client, self.setup(), &self.token, needs, only_look).await.expect("set up")
        }
    }

    fn lines(ledger: &Path, part: &str) -> usize {
        std::fs::read_to_string(ledger).expect("a ledger").lines().filter(|line| line.contains(part)).count()
    }

    #[tokio::test]
    async fn what_is_missing_is_made_once_and_only_when_it_shall_be() {
        for vendor in ["hubspot", "salesforce", "dynamics"] {
            let account = Account::of(vendor, json!([])).await;
            let (needs, ledger) = (needs(&account.mapping).expect("known types"), &account.ledger);
            let count = |findings: &[Finding], state: &State| findings.iter().filter(|f| f.state == *state).count();

            let looked = account.set_up(&needs, true).await;
            let missing = count(&looked, &State::Missing);
            assert!(missing > 10 && missing + count(&looked, &State::There) == looked.len(), "{vendor}: {looked:?}");
            assert_eq!(lines(ledger, "\"mutation\""), 0, "{vendor}: only looked");

            let made = account.set_up(&needs, false).await;
            assert_eq!((count(&made, &State::Made), count(&made, &State::Missing)), (missing, 0), "{vendor}: {made:?}");
            // Dataverse's key stands beside its column, and its index is waited for.
            let changes = missing + usize::from(vendor == "dynamics");
            assert_eq!(lines(ledger, "\"mutation\""), changes, "{vendor}");
            let again = account.set_up(&needs, false).await;
            assert_eq!(count(&again, &State::There), again.len(), "{vendor}: {again:?}");
            assert_eq!(lines(ledger, "\"mutation\""), changes, "{vendor}: made once");
        }
    }

    #[tokio::test]
    async fn a_key_that_is_no_unique_one_is_told_and_left_alone() {
        for (vendor, object, key) in [
            ("hubspot", "calls", "offhook_key"),
            ("salesforce", "Voice_Call__c", "Offhook_Key__c"),
            ("dynamics", "phonecalls", "offhook_key"),
        ] {
            let account = Account::of(vendor, json!([])).await;
            let plain = Field { name: key.into(), kind: Some(Kind::Text(40)), ..Field::default() };
            assert!(make(&account.client, account.setup(), &account.token, object, &plain).await.expect("made"));
            let findings = account.set_up(&needs(&account.mapping).expect("known types"), false).await;
            let found = findings.iter().find(|f| f.field == key).expect("the key");
            assert!(matches!(&found.state, State::Wrong(why) if why.contains("no unique key")), "{vendor}: {found:?}");
        }
    }

    #[tokio::test]
    async fn a_disposition_is_the_portals_id_and_not_the_name_that_people_see() {
        let account = Account::of("hubspot", json!([])).await;
        let mut found = Vec::new();
        for word in ["Connected", "f240bbac-87c9-4f6e-bf70-924b57d47db7", "Paid"] {
            let field = Field { name: "hs_call_disposition".into(), words: vec![word.into()], ..Field::default() };
            found.extend(account.set_up(&[("calls", vec![field])], true).await.into_iter().map(|finding| finding.state));
        }
        let [State::Wrong(label), State::There, State::Wrong(unknown)] = found.as_slice() else { panic!("{found:?}") };
        assert!(label.contains("write f240bbac-87c9-4f6e-bf70-924b57d47db7 for Connected"), "{label}");
        assert!(unknown.contains("lacks Paid"), "{unknown}");
    }

    /// The doubles describe fields as their vendors do: of the wrong type, too short, or written by the CRM alone.
    #[tokio::test]
    async fn a_field_that_cannot_hold_what_is_written_is_told() {
        for (vendor, object, fields) in [
            ("hubspot", "calls", [("hs_call_duration", "a number"), ("hs_timestamp", "a time"), ("hs_call_callee_object_id", "a number")]),
            ("salesforce", "Voice_Call__c", [("Id", "the CRM alone"), ("Name", "80 characters"), ("CreatedDate", "the CRM alone")]),
            ("dynamics", "phonecalls", [("actualdurationminutes", "a number"), ("statecode", "a number"), ("activityid", "the CRM alone")]),
        ] {
            let account = Account::of(vendor, json!([])).await;
            for (name, why) in fields {
                let writes = Some(Writes::Text(Some(32_000)));
                let field = Field { name: name.into(), writes, ..Field::default() };
                let found = account.set_up(&[(object, vec![field])], true).await;
                assert!(matches!(&found[0].state, State::Wrong(told) if told.contains(why)), "{vendor} {name}: {found:?}");
            }
        }
    }

    /// What no description of all fields tells: how long HubSpot's texts are, and Dataverse's, whose choices are as little told.
    #[tokio::test]
    async fn a_text_longer_than_its_field_and_a_choice_that_is_none_are_told_of_each_crm() {
        for (vendor, object, name, takes) in [
            ("hubspot", "tickets", "content", 65_536),
            ("salesforce", "Case", "Description", 32_000),
            ("dynamics", "phonecalls", "subject", 200),
            ("dynamics", "incidents", "description", 2000),
        ] {
            let account = Account::of(vendor, json!([])).await;
            let mut found = Vec::new();
            for chars in [takes, takes + 1] {
                let writes = Some(Writes::Text(Some(chars)));
                let field = Field { name: name.into(), writes, ..Field::default() };
                found.extend(account.set_up(&[(object, vec![field])], true).await.into_iter().map(|finding| finding.state));
            }
            let [State::There, State::Wrong(why)] = found.as_slice() else { panic!("{vendor} {name}: {found:?}") };
            assert!(why.contains(&format!("takes {takes} characters")), "{vendor} {name}: {why}");
        }
        let account = Account::of("dynamics", json!([])).await;
        for (name, word, lacks) in
            [("prioritycode", "2", false), ("prioritycode", "7", true), ("statuscode", "4", false), ("statuscode", "9", true)]
        {
            let writes = Some(Writes::Number);
            let field = Field { name: name.into(), words: vec![word.into()], writes, ..Field::default() };
            let found = account.set_up(&[("phonecalls", vec![field])], true).await;
            let is_told = matches!(&found[0].state, State::Wrong(why) if why.contains(&format!("lacks {word}")));
            assert_eq!((is_told, found[0].state == State::There), (lacks, !lacks), "{name}: {found:?}");
        }
    }

    /// The second description is of before the fields were made, as those of slow servers are.
    #[tokio::test]
    async fn what_was_made_is_waited_for() {
        let late = json!([{"match": {"path": "Voice_Call__c/describe", "nth": 2}, "action": {"status": 200, "body": {"fields": []}}}]);
        let account = Account::of("salesforce", late).await;
        let findings = account.set_up(&needs(&account.mapping).expect("known types"), false).await;
        assert!(findings.iter().all(|f| matches!(f.state, State::There | State::Made)), "{findings:?}");
        assert_eq!(lines(&account.ledger, "Voice_Call__c/describe"), 3, "before, too early, and when it was there");
    }

    /// A summary in a field of 255 characters, which is what the mapping has made.
    #[tokio::test]
    async fn what_was_made_and_holds_too_little_is_told_at_once() {
        for (vendor, object, name) in [("salesforce", "Voice_Call__c", "Short__c"), ("dynamics", "phonecalls", "new_short")] {
            let account = Account::of(vendor, json!([])).await;
            let mut mapping = account.mapping.clone();
            let rule = json!({"to": name, "from": "call_summary", "custom": "string"});
            mapping.rules = vec![serde_json::from_value(rule).expect("a rule")];
            let findings = account.set_up(&needs(&mapping).expect("known types"), false).await;
            let made = findings.iter().find(|f| f.field == name).expect("the field");
            assert!(matches!(&made.state, State::Wrong(why) if why.contains("takes 255 characters")), "{vendor} {object}: {made:?}");
        }
    }
}
