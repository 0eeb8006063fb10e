"""The CRM sandbox, spoken to by HubSpot's own SDK: what the gateway is tested against answers as HubSpot's client expects.

Usage: hubspot_sdk.py URL_OF_SANDBOX"""
import sys

from hubspot import HubSpot
from hubspot.crm.objects import (BatchInputSimplePublicObjectBatchInputUpsert, BatchReadInputSimplePublicObjectId,
                                 SimplePublicObjectBatchInputUpsert, SimplePublicObjectId)
from hubspot.crm.objects.exceptions import ApiException
from hubspot.crm.properties import PropertyCreate
from hubspot.crm.properties.exceptions import ApiException as PropertyException

url = sys.argv[1]


def at(api):
    """Each part of the SDK has a configuration of its own."""
    api.api_client.configuration.host = url
    return api


client = HubSpot()
tokens = at(client.oauth.tokens_api).create(grant_type="refresh_token", refresh_token="sim-refresh", client_id="sim-client", client_secret="sim-secret")
assert tokens.access_token and tokens.expires_in > 0, tokens
client = HubSpot(access_token=tokens.access_token)

properties = at(client.crm.properties.core_api)
key = PropertyCreate(name="sdk_key", label="Key", group_name="callinformation", type="string", field_type="text", has_unique_value=True)
assert properties.create("calls", key).has_unique_value
try:
    properties.create("calls", key)
    raise AssertionError("the same property twice")
except PropertyException as refused:
    assert refused.status == 409, refused

batch = at(client.crm.objects.batch_api)


def upsert(title):
    one = SimplePublicObjectBatchInputUpsert(
        id="k1", id_property="sdk_key", object_write_trace_id="t1",
        properties={"hs_timestamp": "2026-01-05T10:00:00Z", "hs_call_title": title, "hs_call_duration": "6298"})
    return batch.upsert("calls", BatchInputSimplePublicObjectBatchInputUpsert(inputs=[one]))


first, second = upsert("one").results[0], upsert("two").results[0]
assert first.new and not second.new and first.id == second.id, (first, second)
read = batch.read("calls", BatchReadInputSimplePublicObjectId(
    inputs=[SimplePublicObjectId(id="k1")], id_property="sdk_key", properties=["hs_call_title"], properties_with_history=[]))
assert read.results[0].properties["hs_call_title"] == "two", read

try:
    upsert_bad = SimplePublicObjectBatchInputUpsert(id="k2", id_property="sdk_key", properties={"hs_call_status": "NO SUCH STATUS", "hs_timestamp": "1"})
    batch.upsert("calls", BatchInputSimplePublicObjectBatchInputUpsert(inputs=[upsert_bad]))
    raise AssertionError("an option that does not exist was taken")
except ApiException as refused:
    assert refused.status == 400 and "INVALID_OPTION" in refused.body, refused
print("token, property, conflict, upsert twice, read, invalid option: as the SDK expects")
