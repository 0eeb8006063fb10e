//! What a run for a CI comes to: rules that held, expectations that were met, as JUnit XML reads it.

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite, XmlString};

use super::{Report, expect::Difference};

/// JUnit XML: a suite a file, a case a call and rule, one for the expectation.
pub fn junit(name: &str, report: &Report, differences: Option<&[Difference]>) -> Result<String, quick_junit::SerializeError> {
    let mut suite = TestSuite::new(name);
    let case = |name: String, faults: &[String]| {
        let status = match faults {
            [] => TestCaseStatus::success(),
            faults => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(faults.first().cloned().unwrap_or_default()).set_description(XmlString::new(faults.join("\n")));
                status
            }
        };
        TestCase::new(name, status)
    };
    let unread = report.stopped.iter().map(|s| format!("read no further than frame {}, octet {}: {}", s.frame, s.offset, s.why));
    suite.add_test_case(case("the file is whole".into(), &unread.collect::<Vec<_>>()));
    for call in &report.calls {
        match &call.play {
            None => drop(suite.add_test_case(case(format!("{}: {}", call.call_id, call.ended_as), &[]))),
            Some(play) => {
                for rule in &play.rules {
                    let faults = if rule.ok { Vec::new() } else { vec![rule.detail.clone()] };
                    suite.add_test_case(case(format!("{}: {}", call.call_id, rule.name), &faults));
                }
            }
        }
    }
    if let Some(differences) = differences {
        suite.add_test_case(case("as expected".into(), &differences.iter().map(ToString::to_string).collect::<Vec<_>>()));
    }
    let mut all = quick_junit::Report::new("offhook replay");
    all.add_test_suite(suite);
    all.to_string()
}
