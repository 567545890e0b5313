"""Webhooks: the receiver hears of every change of an order, in order, whatever is killed or fails; nobody else is called."""

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import docs_examples
import jsonschema_rs
import msgspec
import pytest
import redis
from carriers import Carrier
from hands import Hands
from killing import Killer
from mall_floor import Floor
from processes import ROOT, Processes, wait_for
from receivers_told import ENVIRON, SECRET, Receiver

from jobs import keys
from jobs import settings as settings_module
from jobs.errors import Permanent, ReceiverError
from jobs.mall import reports, webhook_call, webhooks
from jobs.mall.reconcile import reconcile
from jobs.mall.webhooks import Notice
from jobs.queue import breaker, dead_letters
from jobs.queue.calling import enqueue
from jobs.settings import Settings
from web.app import OPERATIONS
from web.openapi import document

STEPS = ("picking", "packing", "delivery")
ALL = (*STEPS, "notify")
NEVER = 10**9
DELIVERED = ["accepted", "picking", "packing", "delivering", "delivered"]


@pytest.fixture
def receiver(settings: Settings, monkeypatch: pytest.MonkeyPatch, processes: Processes, tmp_path: Path) -> Receiver:
    """A receiver near by, which the tasks that run in this process may call."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    settings_module.current.cache_clear()
    return Receiver(processes, tmp_path)


def in_turn(found: list[dict[str, Any]]) -> list[str]:
    """The statuses that were told, without what was told again."""
    return [line["event"]["data"]["status"] for line in {line["headers"]["webhook-id"]: line for line in found}.values()]


def test_every_change_is_told_once_in_order_with_the_order_as_it_was(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, receiver: Receiver
) -> None:
    order_id = floor.order(("A", 1), notify_url=f"{receiver.url}/shop", reference="Bücher 1")
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    redis_client.hset(keys.order(order_id), "trace", trace)
    hands.work_off(*STEPS)
    assert hands.work_off("notify") == 5
    told = receiver.told("shop")
    assert receiver.statuses("shop") == floor.history(order_id) == DELIVERED
    documented = msgspec.to_builtins(document(OPERATIONS))
    notice = documented["webhooks"]["order"]["post"]
    schema = notice["requestBody"]["content"]["application/json"]["schema"] | {"components": documented["components"]}
    for line in told:
        data, headers = line["event"]["data"], line["headers"]
        jsonschema_rs.validate(schema, line["event"])
        assert {parameter["name"] for parameter in notice["parameters"] if parameter["required"]} <= headers.keys()
        assert f"order.{data['status']}" == line["event"]["type"]
        assert (data["id"], data["reference"]) == (order_id, "Bücher 1")
        assert line["event"]["timestamp"].endswith("Z")
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{line['body']}".encode()
        digest = base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{digest}"
        assert abs(int(headers["webhook-timestamp"]) - line["at"]) < 20
        assert headers["traceparent"][:36] == trace[:36] and headers["traceparent"][36:52] != trace[36:52]
    assert len({line["headers"]["webhook-id"] for line in told}) == 5
    assert told[-1]["event"]["data"]["tracking_number"] == floor.view(order_id).tracking_number
    assert [len(line["event"]["data"]["attempts"]) for line in told] == [0, 0, 1, 2, 3]
    assert not redis_client.exists(keys.order_notices(order_id), keys.NOTICES)


def test_an_order_without_a_receiver_leaves_nothing_behind(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier
) -> None:
    order_id = floor.order(("A", 1))
    hands.work_off(*STEPS)
    assert floor.status(order_id) == "delivered"
    assert not redis_client.exists(keys.order_notices(order_id), keys.NOTICES, keys.queue("notify"))
    assert not redis_client.hexists(keys.order(order_id), "notify")


def test_rejection_cancelling_death_and_redrive_are_told_too(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, receiver: Receiver
) -> None:
    floor.put("none", 0)
    floor.order(("none", 1), notify_url=f"{receiver.url}/rejected")
    late = floor.order(("A", 1), countdown_s=60, notify_url=f"{receiver.url}/cancelled")
    floor.cancel(late)
    near_carrier.tell(mode="reject", status=422)
    dying = floor.order(("A", 1), notify_url=f"{receiver.url}/dying")
    hands.work_off(*ALL)
    near_carrier.tell(mode="ok")
    dead_letters.redrive(redis_client, f"{dying}-deliver", by="test")
    hands.work_off(*ALL)
    assert receiver.statuses("rejected") == ["accepted", "picking", "rejected"]
    assert receiver.told("rejected")[-1]["event"]["data"]["reason"] == "out of stock: none"
    assert receiver.statuses("cancelled") == ["scheduled", "cancelled"]
    assert receiver.told("cancelled")[0]["event"]["data"]["due_at"] > time.time()
    assert receiver.statuses("dying") == [*DELIVERED[:4], "dead", *DELIVERED[3:]]


@pytest.mark.parametrize(
    "fault", ["status=503", "status=404", "status=302&location=/elsewhere", "lose=1", "status=500&bytes=300000"]
)
def test_a_change_that_was_not_taken_is_told_again_under_the_same_id_and_none_overtakes_it(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, receiver: Receiver, fault: str
) -> None:
    order_id = floor.order(("A", 1), notify_url=f"{receiver.url}/shop?times=2&{fault}")
    for attempt in (1, 2):
        hands.work_off(*ALL)
        assert receiver.statuses("shop") == ["accepted"] * attempt
        [*_, last] = json.loads(redis_client.hget(keys.job(f"{order_id}-notify-1"), "attempts"))
        assert last["error"].startswith("receiver") and len(last["error"]) < 300
        hands.promote()
    hands.work_off(*ALL)
    assert receiver.statuses("shop") == ["accepted", "accepted", *DELIVERED]
    assert len({line["headers"]["webhook-id"] for line in receiver.told("shop")[:3]}) == 1
    assert receiver.told("elsewhere") == []


@pytest.mark.parametrize("status", [429, 503])
def test_the_receivers_wish_to_wait_is_kept(
    redis_client: redis.Redis, hands: Hands, floor: Floor, receiver: Receiver, status: int
) -> None:
    order_id = floor.order(notify_url=f"{receiver.url}/shop?status={status}&retry_after=400")
    asked_at = time.time()
    hands.work("notify")
    assert redis_client.zscore(keys.scheduled("notify"), f"{order_id}-notify-1") >= asked_at + 400


def test_a_receiver_that_is_gone_hears_no_more_of_the_order(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, receiver: Receiver
) -> None:
    order_id = floor.order(("A", 1), notify_url=f"{receiver.url}/shop?status=410")
    hands.work_off("picking")
    hands.work_off("notify")
    hands.work_off(*ALL)
    assert floor.status(order_id) == "delivered"
    assert receiver.statuses("shop") == ["accepted"]
    assert not redis_client.exists(keys.order_notices(order_id), keys.NOTICES)


def test_a_change_not_taken_for_a_day_is_a_dead_letter_the_next_is_told_and_a_redrive_tells_it(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, receiver: Receiver
) -> None:
    order_id = floor.order(("A", 1), notify_url=f"{receiver.url}/shop?status=500&times=1", now=time.time() - 90_000)
    hands.work_off(*ALL)
    letter = f"{order_id}-notify-1"
    assert redis_client.zscore(keys.DEAD, letter) is not None
    assert b"not told for a day: receiver answered 500" in redis_client.hget(keys.job(letter), "error")
    assert receiver.statuses("shop") == DELIVERED
    dead_letters.redrive(redis_client, letter, by="test")
    hands.work_off("notify")
    assert receiver.statuses("shop") == [*DELIVERED, "accepted"]
    assert receiver.told("shop")[0]["headers"]["webhook-id"] == receiver.told("shop")[-1]["headers"]["webhook-id"]
    assert not redis_client.exists(keys.order_notices(order_id), keys.NOTICES, keys.DEAD)


def test_a_discarded_letter_takes_its_notice_along_and_a_deleted_order_all_of_them(
    redis_client: redis.Redis, hands: Hands, floor: Floor, receiver: Receiver
) -> None:
    first, second = (
        floor.order(("A", 1), notify_url=f"{receiver.url}/{name}?status=500", now=time.time() - 400 * 86_400) for name in "ab"
    )
    hands.work_off("notify")
    dead_letters.discard(redis_client, f"{first}-notify-1", by="test")
    assert not redis_client.exists(keys.order_notices(first))
    floor.cancel(second)
    cancelled = keys.STATUS_PREFIX + "cancelled"
    reports.ARCHIVE(redis_client, [cancelled, keys.ORDERS, keys.ORDERS_ARCHIVED], ["cancelled", second])
    assert not redis_client.exists(keys.order(second), keys.order_notices(second))
    assert redis_client.zscore(keys.NOTICES, second) is None
    hands.work_off("notify")
    assert receiver.statuses("b") == ["accepted"]


@pytest.mark.parametrize("after", [False, True], ids=["before it is sent", "its reply lost"])
def test_a_kill_at_any_round_trip_loses_no_change_and_tells_none_under_another_id(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, receiver: Receiver, killer: Killer, after: bool
) -> None:
    for round_trip in range(100):
        order_id = floor.order(("A", 1), notify_url=f"{receiver.url}/{after}-{round_trip}")
        with killer.at(round_trip, after=after):
            hands.work_off(*ALL)
        for queue in ALL:
            hands.reclaim(queue)
        hands.work_off(*ALL)
        assert floor.status(order_id) == "delivered"
        told = receiver.told(f"{after}-{round_trip}")
        assert in_turn(told) == DELIVERED and len(told) <= 6
        assert not redis_client.exists(keys.order_notices(order_id), keys.NOTICES)
        if not killer.struck:
            break
    assert round_trip > 20


def test_what_lost_its_job_is_healed(redis_client: redis.Redis, hands: Hands, floor: Floor, receiver: Receiver) -> None:
    order_id = floor.order(("A", 1), notify_url=f"{receiver.url}/shop")
    job_id = f"{order_id}-notify-1"
    assert not [line for line in reconcile(redis_client, now=time.time() + 60, after_s=10) if "notice" in line]
    redis_client.delete(keys.job(job_id), keys.queue("notify"))
    [line] = [line for line in reconcile(redis_client, now=time.time() + 90, after_s=10) if "notice" in line]
    assert line == f"notice of order {order_id}: job"
    redis_client.delete(keys.queue("notify"))
    assert f"notice of order {order_id}: job" in reconcile(redis_client, now=time.time() + 120, after_s=10)
    hands.work_off("notify")
    assert receiver.statuses("shop") == ["accepted"]
    redis_client.zadd(keys.NOTICES, {order_id: 1})
    assert f"notice of order {order_id}: index" in reconcile(redis_client, now=time.time() + 150, after_s=10)
    redis_client.hset(keys.order(order_id), "telling", "7")
    redis_client.zadd(keys.NOTICES, {order_id: 1})
    assert f"notice of order {order_id}: job" in reconcile(redis_client, now=time.time() + 180, after_s=10)
    hands.work_off("notify")
    assert not redis_client.exists(keys.NOTICES)


def test_a_job_that_somebody_enqueued_by_hand_tells_nothing(
    redis_client: redis.Redis, hands: Hands, floor: Floor, receiver: Receiver
) -> None:
    order_id = floor.order(("A", 1), notify_url=f"{receiver.url}/shop")
    for job_id in ("x7", "by-hand-1", f"{order_id}-notify-", "ord_other-notify-1"):
        enqueue(redis_client, webhooks.notify.spec(order_id, job_id=job_id), now=time.time())
    hands.work_off("notify")
    assert receiver.statuses("shop") == ["accepted"]
    assert redis_client.zcard(keys.DEAD) == 0


def notice(redis_client: redis.Redis, floor: Floor, url: str) -> Notice:
    """The first notice of a new order."""
    order_id = floor.order(("A", 1), notify_url=url)
    found = webhooks._notice(redis_client, order_id, f"{order_id}-notify-1")
    if found is None:
        raise AssertionError("no notice")
    return found


def test_a_name_is_looked_up_once_and_the_connection_goes_where_it_led(
    redis_client: redis.Redis, floor: Floor, receiver: Receiver
) -> None:
    looked_up: list[str] = []

    def rebinding(host: str) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"] if len(looked_up) == 1 else ["10.0.0.1"]

    port = receiver.url.rpartition(":")[2]
    told = notice(redis_client, floor, f"http://hooks.example:{port}/shop")
    assert webhooks.tell(redis_client, told, settings_module.current(), resolve=rebinding).status == 204
    assert looked_up == ["hooks.example"]
    assert receiver.told("shop")[0]["headers"]["host"] == f"hooks.example:{port}"
    with pytest.raises(Permanent, match=r"hooks\.example: 10\.0\.0\.1 is not a public address"):
        webhooks.tell(redis_client, told, settings_module.current(), resolve=rebinding)
    with pytest.raises(Permanent, match=r"169\.254\.169\.254 is not a public address"):
        webhooks.tell(redis_client, told, settings_module.current(), resolve=lambda _host: ["127.0.0.1", "169.254.169.254"])
    assert len(receiver.told("shop")) == 1


def test_without_leave_the_own_network_is_not_called(redis_client: redis.Redis, floor: Floor, receiver: Receiver) -> None:
    told = notice(redis_client, floor, f"{receiver.url}/shop")
    strict = Settings(webhook_secrets=settings_module.current().webhook_secrets)
    with pytest.raises(Permanent, match=r"127\.0\.0\.1 is not a public address"):
        webhooks.tell(redis_client, told, strict)
    assert receiver.told("shop") == []


def test_of_two_addresses_the_one_that_answers_is_called(redis_client: redis.Redis, floor: Floor, receiver: Receiver) -> None:
    told = notice(redis_client, floor, f"http://hooks.example:{receiver.url.rpartition(':')[2]}/shop")
    answer = webhooks.tell(redis_client, told, settings_module.current(), resolve=lambda _host: ["127.0.0.9", "127.0.0.1"])
    assert answer.status == 204


def test_two_secrets_of_a_client_sign_both_and_no_other_clients_does(
    redis_client: redis.Redis, floor: Floor, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (base64.b64encode(letter * 24).decode() for letter in (b"o", b"n"))
    monkeypatch.setenv("TURNSTILE_WEBHOOK_SECRETS", f"{ENVIRON['TURNSTILE_WEBHOOK_SECRETS']},shop:whsec_{old},shop:whsec_{new}")
    settings = Settings.from_env()
    for sender, secrets in (("shop", [b"o" * 24, b"n" * 24]), ("other", [SECRET])):
        order_id = floor.order(("A", 1), notify_url=f"{receiver.url}/{sender}", sender=sender)
        found = webhooks._notice(redis_client, order_id, f"{order_id}-notify-1")
        assert found is not None
        webhooks.tell(redis_client, found, settings)
        [line] = receiver.told(sender)
        webhook_id, at = line["headers"]["webhook-id"], line["headers"]["webhook-timestamp"]
        wanted = [webhook_call.signature(secret, webhook_id, at, line["body"].encode()) for secret in secrets]
        assert line["headers"]["webhook-signature"].split() == wanted


def test_the_certificate_must_be_that_of_the_name(
    redis_client: redis.Redis,
    floor: Floor,
    receiver: Receiver,
    processes: Processes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on PATH to make a certificate with")
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    names = ["-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example", "-days", "2"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *names]
    subprocess.run(new, check=True, capture_output=True)
    folder = tmp_path / "tls"
    folder.mkdir()
    port = (secured := Receiver(processes, folder, certificate, key)).url.rpartition(":")[2]
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    webhook_call._certificates.cache_clear()
    try:
        for host, is_right in (("hooks.example", True), ("other.example", False)):
            told = notice(redis_client, floor, f"https://{host}:{port}/shop")
            if is_right:
                webhooks.tell(redis_client, told, settings_module.current(), resolve=lambda _host: ["127.0.0.1"])
            else:
                with pytest.raises(ReceiverError, match="certificate verify failed"):
                    webhooks.tell(redis_client, told, settings_module.current(), resolve=lambda _host: ["127.0.0.1"])
    finally:
        webhook_call._certificates.cache_clear()
    assert len(secured.told("shop")) == 1


def test_the_verifier_in_the_documents_takes_what_is_sent_and_nothing_else(
    redis_client: redis.Redis, floor: Floor, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = docs_examples.blocks(ROOT / "docs" / "front-door.md")
    [block] = [block for block in document if "def is_genuine(" in block.text]
    names: dict[str, Any] = {}
    exec(block.compiled(), names)
    is_genuine = names["is_genuine"]
    webhooks.tell(redis_client, notice(redis_client, floor, f"{receiver.url}/shop"), settings_module.current())
    [line] = receiver.told("shop")
    headers, body, secret = line["headers"], line["body"].encode(), ENVIRON["TURNSTILE_WEBHOOK_SECRETS"]
    assert is_genuine(headers, body, secret)
    assert not is_genuine(headers, body + b" ", secret)
    assert not is_genuine(headers, body, "whsec_" + base64.b64encode(b"x" * 24).decode())
    assert not is_genuine({**headers, "webhook-id": "another"}, body, secret)
    late = time.time() + 400
    monkeypatch.setattr(time, "time", lambda: late)
    assert not is_genuine(headers, body, secret)


LIMIT_S = 60.0


@pytest.fixture
def far(process_environ: dict[str, str], carrier: Carrier, receiver: Receiver) -> Receiver:
    """The receiver, for processes."""
    process_environ.update(ENVIRON, CARRIER_URL=carrier.url, TURNSTILE_WEBHOOK_TIMEOUT_S="2")
    return receiver


def test_receivers_that_hang_take_no_slot_from_deliveries_and_meet_an_open_circuit(
    redis_client: redis.Redis, floor: Floor, processes: Processes, far: Receiver
) -> None:
    for number in range(40):
        floor.order(("A", 1), notify_url=f"{far.url}/hangs-{number}?delay_s=100")
    command = ("rq", "worker", "-w", "jobs.queue.worker.IoWorker", "picking", "packing", "delivery", "notify")
    processes.start(*command, RQ_CONFIG="jobs.rq_config", TURNSTILE_WEBHOOK_TIMEOUT_S="8")
    wait_for(lambda: redis_client.zcard(keys.running("orders.notify")) == webhooks.MAX_AT_ONCE, LIMIT_S, "the receiver hangs")
    order_id = floor.order(("A", 1))
    wait_for(lambda: floor.status(order_id) == "delivered", LIMIT_S, "an order is delivered")
    assert redis_client.zcard(keys.running("orders.notify")) <= webhooks.MAX_AT_ONCE
    wait_for(lambda: _refused(redis_client), LIMIT_S, "the circuit opens, and puts the others off")
    told = floor.order(("A", 1), notify_url=f"{far.url}/fine".replace("127.0.0.1", "localhost"))  # a host of its own
    wait_for(lambda: far.statuses("fine") == floor.history(told) == DELIVERED, LIMIT_S, "another receiver is told meanwhile")


def _refused(client: redis.Redis) -> bool:
    found = [state for state in breaker.states(client, time.time()) if state.name.startswith("webhook.127.0.0.1.")]
    return any(state.opened and state.refused_total for state in found)


def test_a_killed_worker_loses_no_change_and_its_successor_tells_under_the_same_id(
    redis_client: redis.Redis, floor: Floor, processes: Processes, far: Receiver
) -> None:
    processes.start("python", "-m", "scheduler")
    command = ("rq", "worker", "-w", "jobs.queue.worker.IoWorker", "picking", "packing", "delivery", "notify")
    first = processes.start(*command, RQ_CONFIG="jobs.rq_config", TURNSTILE_WEBHOOK_TIMEOUT_S="20")
    floor.order(("A", 1), notify_url=f"{far.url}/shop?times=1&delay_s=100")
    wait_for(lambda: far.told("shop"), LIMIT_S, "the receiver acts and does not answer")
    first.kill()
    processes.start(*command, RQ_CONFIG="jobs.rq_config")
    wait_for(lambda: far.statuses("shop")[-1] == "delivered", LIMIT_S, "every change is told")
    assert far.statuses("shop") == ["accepted", *DELIVERED]
    assert in_turn(far.told("shop")) == DELIVERED


def test_a_stock_worker_tells_too(redis_client: redis.Redis, floor: Floor, processes: Processes, far: Receiver) -> None:
    floor.cancel(floor.order(("A", 1), notify_url=f"{far.url}/shop"))
    processes.stock_worker("notify", config="jobs.rq_config")
    wait_for(lambda: far.statuses("shop") == ["accepted", "cancelled"], LIMIT_S, "both changes are told")
    wait_for(lambda: not redis_client.exists(keys.NOTICES), LIMIT_S, "nothing is left")
