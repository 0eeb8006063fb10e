"""The CRM sandbox, spoken to by simple-salesforce: what the gateway is tested against answers as a client of Salesforce's own API expects.

Usage: salesforce_client.py URL_OF_SANDBOX CERTIFICATE PRIVATE_KEY_OF_APP"""
import sys
from urllib.parse import urlparse

import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import (SalesforceAuthenticationFailed, SalesforceExpiredSession, SalesforceMalformedRequest,
                                          SalesforceResourceNotFound)

url, certificate, key = sys.argv[1:]


class Org(HTTPAdapter):
    """The client knows token addresses below salesforce.com only: those are the sandbox."""

    def send(self, request, **settings):
        asked = urlparse(request.url)
        if asked.hostname.endswith(".salesforce.com"):
            request.url = url + asked.path
        return super().send(request, **{**settings, "verify": certificate})


session = requests.Session()
session.trust_env = False
session.mount("https://", Org())


def refused(error, call):
    try:
        call()
    except error as why:
        return why
    raise AssertionError(f"{error.__name__} was expected")


app = {"consumer_key": "sim-client", "session": session, "version": "62.0"}
refused(SalesforceAuthenticationFailed, lambda: Salesforce(consumer_secret="wrong", domain="sim.my", **app))
refused(SalesforceAuthenticationFailed, lambda: Salesforce(username="u@example.com", privatekey_file=certificate.replace(".pem", ".key"), domain="login", **app))
Salesforce(username="u@example.com", privatekey_file=key, domain="login", **app).limits()
client = Salesforce(consumer_secret="sim-secret", domain="sim.my", **app)
assert client.sf_instance == urlparse(url).netloc, client.sf_instance


def make(name, **metadata):
    return client.toolingexecute("sobjects/CustomField", method="POST", data={"FullName": f"Voice_Call__c.{name}", "Metadata": metadata})


assert make("Key__c", label="Key", type="Text", length=40, externalId=True, unique=True)["success"]
twice = refused(SalesforceMalformedRequest, lambda: make("Key__c", label="Key", type="Text", length=40))
assert twice.content[0]["errorCode"] == "DUPLICATE_DEVELOPER_NAME", twice
described = {field["name"]: field for field in client.Voice_Call__c.describe()["fields"]}
assert described["Key__c"]["externalId"] and described["Key__c"]["unique"], described

assert client.Voice_Call__c.upsert("Key__c/k1", {"Name": "one"}) == 201
assert client.Voice_Call__c.upsert("Key__c/k1", {"Name": "two"}) == 200
assert client.Voice_Call__c.get_by_custom_id("Key__c", "k1")["Name"] == "two"
refused(SalesforceResourceNotFound, lambda: client.Voice_Call__c.upsert("Name/k1", {}))

records = [{"attributes": {"type": "Voice_Call__c"}, "Key__c": key, "Name": name} for key, name in (("k1", "three"), ("k2", "x" * 81), ("k3", "four"))]
results = client.restful("composite/sobjects/Voice_Call__c/Key__c", method="PATCH", json={"allOrNone": False, "records": records})
assert [(r["success"], r.get("created")) for r in results] == [(True, False), (False, None), (True, True)], results
assert results[1]["errors"][0]["statusCode"] == "STRING_TOO_LONG", results

# A Task's fields are those of all activities.
key = {"label": "Key", "type": "Text", "length": 40, "externalId": True, "unique": True}
assert client.toolingexecute("sobjects/CustomField", method="POST", data={"FullName": "Activity.Key__c", "Metadata": key})["success"]


def composite(parts, all_or_none=False):
    asked = [{"method": "PATCH", "url": f"/services/data/v62.0/sobjects/{at}", "referenceId": name, "body": body} for at, name, body in parts]
    answer = client.restful("composite", method="POST", json={"allOrNone": all_or_none, "compositeRequest": asked})
    return {result["referenceId"]: result for result in answer["compositeResponse"]}


pairs = [("Voice_Call__c/Key__c/k5", "call", {"Name": "five"}), ("Task/Key__c/k5", "task", {"Subject": "five", "WhatId": "@{call.id}"}),
         ("Voice_Call__c/Key__c/k6", "bad", {"Name": "x" * 81}), ("Task/Key__c/k6", "left_out", {"WhatId": "@{bad.id}"})]
results = composite(pairs)
assert {name: result["httpStatusCode"] for name, result in results.items()} == {"call": 201, "task": 201, "bad": 400, "left_out": 400}, results
assert results["left_out"]["body"][0]["errorCode"] == "PROCESSING_HALTED", results
assert client.Task.get_by_custom_id("Key__c", "k5")["WhatId"] == results["call"]["body"]["id"]
rolled_back = composite([("Voice_Call__c/Key__c/k7", "innocent", {"Name": "seven"}), pairs[2]], all_or_none=True)
assert rolled_back["innocent"]["body"][0]["errorCode"] == "PROCESSING_HALTED", rolled_back
refused(SalesforceResourceNotFound, lambda: client.Voice_Call__c.get_by_custom_id("Key__c", "k7"))
refused(SalesforceMalformedRequest, lambda: composite(pairs[:1] * 26))

person = client.Contact.create({"LastName": "Doe", "Phone": "+4930123456"})["id"]
found = client.query("SELECT Id, Phone FROM Contact WHERE Phone IN ('+4930123456')")
assert (found["totalSize"], found["records"][0]["Id"]) == (1, person), found
assert refused(SalesforceMalformedRequest, lambda: client.query("SELECT Fax FROM Contact")).content[0]["errorCode"] == "INVALID_FIELD"
assert refused(SalesforceMalformedRequest, lambda: client.Contact.create({"Phone": "+49"})).content[0]["errorCode"] == "REQUIRED_FIELD_MISSING"
assert client.Contact.update(person, {"Phone": None}) == 204
assert client.Contact.delete(person) == 204
refused(SalesforceResourceNotFound, lambda: client.Contact.get(person))

usage = client.api_usage["api-usage"]
assert 0 < usage.used < usage.total, usage
stale = Salesforce(session_id="stale", instance_url=url, session=session, version="62.0")
refused(SalesforceExpiredSession, stale.limits)
print("client credentials, signed assertion, custom field, describe, upsert by key, collection, composite, query, limits, expired session: as the client expects")
