"""The CRM sandbox, spoken to by Microsoft's own client for Dataverse: what the gateway is tested against answers as that client expects.

Usage: dataverse_client.py URL_OF_SANDBOX; the sandbox has to speak HTTPS, since the client insists on it."""
import sys
import time

import requests
from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.client import DataverseClient
from PowerPlatform.Dataverse.models.upsert import UpsertItem

url = sys.argv[1]


class Secret:
    """Client credentials. Microsoft's own class asks Entra's directory of clouds first, which a sandbox has none of."""

    def get_token(self, *scopes, **_):
        form = {"grant_type": "client_credentials", "client_id": "sim-client", "client_secret": "sim-secret", "scope": scopes[0]}
        answer = requests.post(f"{url}/tenant/oauth2/v2.0/token", data=form).json()
        return AccessToken(answer["access_token"], int(time.time()) + answer["expires_in"])


client = DataverseClient(url, Secret())

client.tables.create_alternate_key("offhook_voicecall", "offhook_NameKey", ["offhook_name"])
while [key.status for key in client.tables.get_alternate_keys("offhook_voicecall")] != ["Active"]:
    time.sleep(0.2)

for _ in range(2):
    client.records.upsert("offhook_voicecall", [UpsertItem(alternate_key={"offhook_name": "ab12"}, record={"statuscode": 1})])
rows = list(client.records.list("offhook_voicecall", filter="offhook_name eq 'ab12'"))
assert len(rows) == 1, rows

contact = client.records.create("contact", {"lastname": "O'Hara", "telephone1": "+4930123456"})
client.records.update("contact", contact, {"telephone1": "+4930654321"})
read = client.records.retrieve("contact", contact, select=["lastname", "telephone1"])
assert read["telephone1"] == "+4930654321", read

batch = client.batch.new()
batch.records.update("contact", contact, {"lastname": "Doe"})
batch.records.update("contact", contact, {"lastname": "x" * 51})
result = batch.execute(continue_on_error=True)
assert [response.status_code for response in result.responses] == [204, 400], result
client.records.delete("contact", contact)
print("token, alternate key until it is active, upsert twice, list, create, update, read, batch with a refusal, delete: as Microsoft's client expects")
