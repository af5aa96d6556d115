"""The page of the API is made of its document alone, and nothing in that is markup."""

from hpscan.dashboards.reference import reference_page

SCHEMA = {
    "Kind": {"enum": [f"k{n}" for n in range(14)]},
    "Body": {"properties": {"text": {"type": "string", "description": "A <b>spec</b>."}}},
}


def document(parameters=(), **operation):
    return {
        "info": {"title": "An <i>API</i>", "description": "About"},
        "components": {"schemas": SCHEMA},
        "paths": {"/v1/x": {operation.pop("method", "get"): {
            "operationId": "x", "tags": ["Things"], "parameters": list(parameters),
            "responses": {"404": {"description": "None"}, "200": {"description": "Good", "content": {"text/csv": {}}}}, **operation,
        }}},
    }  # fmt: skip


def parameter(schema, **more):
    return {"name": "p", "in": "query", "schema": schema, **more}


def test_the_reference_lists_every_operation_and_loads_nothing(client):
    page = client.get("/api/docs")
    document = client.get("/api/openapi.json").json()
    assert page.headers["content-type"].startswith("text/html")
    for path, methods in document["paths"].items():
        assert page.text.count(f"<code>/api{path}</code>") == len(methods)
    assert "<script" not in page.text
    assert "src=" not in page.text
    assert client.get("/api").headers["location"] == "/api/docs"


def test_text_of_the_document_is_no_markup():
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}}}
    page = reference_page(document(method="post", summary="<script>1</script>", requestBody=body), "/api")
    assert "<script" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "string: A &lt;b&gt;spec&lt;/b&gt;." in page
    assert "-X POST --json" in page


def test_types_are_told_in_words_whatever_refers_to_them():
    def cell(schema):
        return (
            reference_page(document([parameter(schema)]), "/api")
            .split("<td>query</td><td><code>")[1]
            .split("</code>")[0]
        )

    assert cell({"$ref": "#/components/schemas/Kind"}) == " | ".join([*(f"k{n}" for n in range(12)), "…"])
    assert cell({"anyOf": [{"type": "integer"}, {"type": "null"}]}) == "integer"
    assert cell({"type": "array", "items": {"const": "a"}}) == "a, repeatable"
    assert cell({}) == "any"


def test_a_default_is_told_beside_what_a_parameter_is():
    page = reference_page(document([parameter({"type": "integer", "default": 0}, description="How many.")]), "/api")
    assert "How many. 0 by default." in page
    assert "by default" not in reference_page(document([parameter({"default": None})]), "/api")


def test_answers_are_in_the_order_of_their_status():
    page = reference_page(document(), "/base")
    assert page.index("<code>200</code>") < page.index("<code>404</code>")
    assert "http://127.0.0.1:8050/base/v1/x" in page
