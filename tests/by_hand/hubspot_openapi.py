"""Requests to HubSpot and answers of its double, held against HubSpot's own OpenAPI documents.

Usage: hubspot_openapi.py record URL FILE     a proxy in front of URL that writes each exchange to FILE; prints its address
       hubspot_openapi.py check SPECS FILE    validates them; status 1 where one does not hold"""
import collections
import http.server
import json
import pathlib
import re
import sys
import urllib.error
import urllib.request

DOCUMENTS = ["CRM/Calls/Rollouts/424/2026-03/calls.json", "CRM/Calls/Rollouts/424/v3/calls.json",
             "CRM/Contacts/Rollouts/424/2026-03/contacts.json", "CRM/Contacts/Rollouts/424/v3/contacts.json",
             "CRM/Properties/Rollouts/145899/2026-03/properties.json", "CRM/Associations/Rollouts/130902/v4/associations.json"]


def record(upstream, file):
    class Proxy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def exchange(self):
            sent = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "content-length", "connection")}
            request = urllib.request.Request(upstream + self.path, data=sent or None, headers=headers, method=self.command)
            try:
                answer = urllib.request.urlopen(request)
            except urllib.error.HTTPError as refused:
                answer = refused
            body = answer.read()
            with open(file, "a") as lines:
                lines.write(json.dumps({"method": self.command, "path": self.path, "sent": sent.decode(), "status": answer.status,
                                        "answered": body.decode()}) + "\n")
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = exchange

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def schema_of(document, schema):
    """An OpenAPI 3.0 schema as JSON Schema: with its components, and null where it is nullable."""
    def plain(node):
        if isinstance(node, list):
            return [plain(each) for each in node]
        if not isinstance(node, dict):
            return node
        made = {name: plain(value) for name, value in node.items() if name not in ("nullable", "example", "discriminator", "xml")}
        if "$ref" in made:
            return {"$ref": made["$ref"]}
        if node.get("nullable") and isinstance(made.get("type"), str):
            made["type"] = [made["type"], "null"]
        return made
    return {**plain(schema), "components": plain(document["components"])}


def check(specs, file):
    import jsonschema
    root = pathlib.Path(specs) / "PublicApiSpecs"
    operations = []
    for name in DOCUMENTS:
        document = json.loads((root / name).read_text())
        for template, methods in document["paths"].items():
            pattern = re.compile("^" + re.sub(r"\{[^}]+\}", "[^/]+", template) + "$")
            fixed = -template.count("{")
            operations += [(fixed, pattern, method.upper(), template, document, operation) for method, operation in methods.items()]
    # An address without a parameter is meant before one with.
    operations.sort(key=lambda o: -o[0])
    held, wrong = collections.Counter(), collections.Counter()
    for line in open(file):
        seen = json.loads(line)
        path = seen["path"].split("?")[0]
        if path.startswith("/oauth/"):
            continue
        found = next((o for o in operations if o[1].match(path) and o[2] == seen["method"]), None)
        if not found:
            wrong[f"{seen['method']} {path}: no document has it"] += 1
            continue
        _, _, method, template, document, operation = found
        what = f"{method} {template} {seen['status']}"

        def holds(side, content, text):
            schema = content.get("application/json", content.get("*/*", {})).get("schema")
            if schema is None:
                return
            # A property that was asked for and never set is null in HubSpot's own answers, whatever its documents say.
            unset = lambda object: {name: value for name, value in object.items() if value is not None} if "hs_object_id" in object else object
            faults = list(jsonschema.Draft7Validator(schema_of(document, schema)).iter_errors(json.loads(text, object_hook=unset)))
            for fault in faults:
                where = re.sub(r"\b\d+\b", "N", "/".join(map(str, fault.absolute_path)))
                wrong[f"{what}, {side} {where}: {fault.message[:160]}"] += 1
            held[f"{what}, {side}"] += not faults

        if "requestBody" in operation:
            holds("request", operation["requestBody"]["content"], seen["sent"])
        answers = operation["responses"]
        answer = answers.get(str(seen["status"]), answers.get("default", {}))
        if "$ref" in answer:
            answer = document["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
        holds("answer", answer.get("content", {}), seen["answered"])
    for what, count in sorted(held.items()):
        print(f"{count:6} hold   {what}")
    for what, count in sorted(wrong.items()):
        print(f"{count:6} WRONG  {what}")
    return 1 if wrong or not held else 0


if sys.argv[1] == "record":
    record(sys.argv[2], sys.argv[3])
else:
    sys.exit(check(sys.argv[2], sys.argv[3]))
