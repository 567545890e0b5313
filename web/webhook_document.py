"""What the API's document says of the webhook that we send: the notice of an order's change, to its `notify_url`."""

from typing import Any

from jobs.mall.webhooks import TELLING_STOPS, Event
from web.operation import Parameter

BODY = Event
HEADERS = (
    Parameter("webhook-id", "one for each change, the same at every attempt", "header", required=True),
    Parameter("webhook-timestamp", "Unix seconds of this attempt", "header", required=True),
    Parameter("webhook-signature", "`v1,<base64>` of HMAC-SHA-256, one for each secret", "header", required=True),
    Parameter("traceparent", "the trace that the order came with", "header"),
)


def webhooks() -> dict[str, Any]:
    """The `webhooks` of the document."""
    notice = {
        "summary": "An order's status has changed.",
        "description": "Signed in the form of Standard Webhooks. Sent in order, and again with the same webhook-id until it is "
        "answered well. For orders that came with a `notify_url`.",
        "operationId": "order_changed",
        "security": [],
        "parameters": list(HEADERS),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{BODY.__name__}"}}},
        },
        "responses": {
            "2XX": {"description": "The change is known."},
            str(TELLING_STOPS): {"description": "Tell of this order no more."},
            "default": {"description": "It is sent again later; 429 and 503 may say when, by Retry-After."},
        },
    }
    return {"order": {"post": notice}}
