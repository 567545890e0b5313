"""The buttons of the operations page: what they do, what they leave in the audit trail, and whom they refuse."""

import time
from collections.abc import Iterator

import enrolled
import httpx
import page_reader
import pytest
import redis
import sample_tasks
from hands import Hands
from mall_floor import Floor
from page_reader import from_own_page, press
from snapshots import changes, snapshot
from web_site import serving

from jobs import keys
from jobs.errors import Permanent
from jobs.queue import dead_letters, overview, pools, redrives
from jobs.queue.calling import enqueue
from jobs.setting_values import ApiKey, Range, hash_api_key
from jobs.settings import Settings
from web import actions

KEY = "a-key-of-24-characters-x"
OTHER_TOKEN = "x" * 43
ALL_ACTIONS = sorted(actions.ACTIONS)


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


def bury(hands: Hands, *job_ids: str, reason: str = "no such street") -> None:
    """Makes dead letters."""
    for job_id in job_ids:
        enqueue(hands.client, sample_tasks.fail.spec("x", job_id=job_id), now=time.time())
        hands.fail(hands.must_claim("default"), Permanent(reason))


def trail(client: redis.Redis) -> list[tuple[str, str, str]]:
    """The audit trail, the oldest entry first."""
    entries = [fields for _id, fields in client.xrange(keys.AUDIT)]
    return [(entry[b"what"].decode(), entry[b"who"].decode(), entry[b"target"].decode()) for entry in entries]


def queue(client: redis.Redis) -> overview.QueueInfo:
    return overview.queues(client, time.time())[0]


def test_a_queue_is_paused_and_resumed(site: httpx.Client, redis_client: redis.Redis) -> None:
    enqueue(redis_client, sample_tasks.add.spec(1, 2), now=time.time())
    answer = press(site, "pause-queue", "default")
    assert (answer.status_code, answer.headers["location"]) == (303, "/#queues")
    assert queue(redis_client).paused
    assert "Paused: default" in page_reader.read(site).text
    assert press(site, "resume-queue", "default").status_code == 303
    assert not queue(redis_client).paused
    assert trail(redis_client) == [("pause queue", "local", "default"), ("resume queue", "local", "default")]
    assert "pause queue default by local" in page_reader.read(site).text


def test_a_pool_is_scaled_and_brought_back(site: httpx.Client, redis_client: redis.Redis) -> None:
    enrolled.beat(redis_client, "w1", "packing")
    answer = press(site, "scale-pool", "packing", range="2..6")
    assert (answer.status_code, answer.headers["location"]) == (303, "/#workers")
    assert pools.ranges(redis_client) == {"packing": Range(2, 6)}
    for wrong in ("", "0..2", "6..2", "many", "1..1001"):
        answer = press(site, "scale-pool", "packing", range=wrong)
        assert answer.status_code == 409 and "the smaller one first" in answer.text
    assert press(site, "unscale-pool", "packing").status_code == 303
    assert pools.ranges(redis_client) == {}
    said = [("scale pool to 2..6", "local", "packing"), ("scale pool to its default", "local", "packing")]
    assert trail(redis_client) == said


def test_a_worker_is_told_to_stop_and_to_restart_but_a_stock_one_only_to_stop(
    site: httpx.Client, redis_client: redis.Redis
) -> None:
    enrolled.beat(redis_client, "w1", "packing")
    enrolled.stock(redis_client, "plain")
    for action, target in (("restart-worker", "w1"), ("stop-worker", "w1"), ("stop-worker", "plain")):
        answer = press(site, action, target)
        assert (answer.status_code, answer.headers["location"]) == (303, "/#workers")
    told = [("restart worker", "local", "w1"), ("stop worker", "local", "w1"), ("stop worker", "local", "plain")]
    assert trail(redis_client) == told
    shown = page_reader.read(site)
    with pytest.raises(StopIteration):
        shown.form("restart-worker", "plain")
    fields = shown.form("stop-worker", "plain")
    assert site.post("/actions/restart-worker", data=fields, headers=from_own_page(site)).status_code == 409
    assert trail(redis_client) == told


def test_a_dead_letter_is_redriven_and_its_order_goes_on(
    site: httpx.Client, redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    order_id = floor.order(("A", 1))
    hands.work_off("picking")
    claim = hands.must_claim("packing")
    hands.fail(claim, Permanent("torn box"))
    assert floor.status(order_id) == "dead"
    answer = press(site, "redrive", claim.id)
    assert (answer.status_code, answer.headers["location"]) == (303, "/#dead-letters")
    assert floor.status(order_id) == "packing"
    assert (dead_letters.count(redis_client), redis_client.llen(keys.queue("packing"))) == (0, 1)
    floor.check_books()


def test_a_group_is_asked_for_whole_and_no_other(site: httpx.Client, redis_client: redis.Redis, hands: Hands) -> None:
    bury(hands, "a1", "a2", "a3")
    bury(hands, "b1", reason="no stamp")
    group = dead_letters.get(redis_client, "a1").group
    assert press(site, "redrive-group", group).status_code == 303
    (asked,) = redrives.still_open(redis_client)
    assert (asked.action, asked.group, asked.total, asked.by) == ("redrive", group, 3, "local")
    assert trail(redis_client) == [("redrive group", "local", group)]


def test_what_the_present_state_forbids_is_said_in_words(site: httpx.Client, redis_client: redis.Redis, hands: Hands) -> None:
    bury(hands, "lost")
    for _ in range(redrives.MAX_OPEN):
        redrives.request(redis_client, "redrive", by="ann", rate_per_s=0.001)
    answer = press(site, "redrive-group", dead_letters.get(redis_client, "lost").group)
    assert answer.status_code == 409 and "wait for one to end" in answer.text


def test_discarding_asks_first_and_then_deletes(site: httpx.Client, redis_client: redis.Redis, hands: Hands) -> None:
    bury(hands, "lost", "kept")
    before = snapshot(redis_client)
    asked = page_reader.read(site, "/actions/discard?target=lost")
    assert "Discard this dead letter?" in asked.text and "no such street" in asked.text
    fields = asked.form("discard", "lost")
    unconfirmed = {name: value for name, value in fields.items() if name != "confirmed"}
    answer = site.post("/actions/discard", data=unconfirmed, headers=from_own_page(site))
    assert (answer.status_code, answer.headers["location"]) == (303, "/actions/discard?target=lost")
    assert changes(before, snapshot(redis_client)) == {}
    assert site.post("/actions/discard", data=fields, headers=from_own_page(site)).status_code == 303
    assert [letter.id for letter in dead_letters.page(redis_client, group=None, cursor=None, limit=9)[0]] == ["kept"]
    assert trail(redis_client) == [("discard", "local", "lost")]


@pytest.mark.parametrize("action", ALL_ACTIONS)
def test_what_is_not_there_any_more_answers_404_and_leaves_no_trace(
    site: httpx.Client, redis_client: redis.Redis, action: str
) -> None:
    page_reader.read(site)
    form = {"token": site.cookies["turnstile_form"], "target": "gone", "confirmed": "yes", "range": "1..2"}
    before = snapshot(redis_client)
    answer = site.post(f"/actions/{action}", data=form, headers=from_own_page(site))
    assert answer.status_code == 404 and "somebody else was first" in answer.text
    assert changes(before, snapshot(redis_client)) == {}


def test_pressed_twice_the_second_says_that_nothing_is_left(site: httpx.Client, redis_client: redis.Redis, hands: Hands) -> None:
    bury(hands, "lost")
    fields = page_reader.read(site).form("redrive", "lost")
    answers = [site.post("/actions/redrive", data=fields, headers=from_own_page(site)).status_code for _ in range(2)]
    assert answers == [303, 404]
    assert redis_client.llen(keys.queue("default")) == 1


FORGED: dict[str, dict[str, str | None]] = {
    "no word of where it came from": {"Origin": None, "Sec-Fetch-Site": None},
    "another origin": {"Origin": "https://evil.example"},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "an opaque origin": {"Origin": "null"},
    "another site": {"Origin": None, "Sec-Fetch-Site": "cross-site"},
    "a sibling": {"Origin": None, "Sec-Fetch-Site": "same-site"},
    "a typed address": {"Origin": None, "Sec-Fetch-Site": "none"},
    "no cookie": {"Cookie": ""},
    "another cookie": {"Cookie": f"turnstile_form={OTHER_TOKEN}"},
    "an empty cookie": {"Cookie": "turnstile_form="},
}


@pytest.mark.parametrize("case", FORGED)
def test_a_form_that_our_page_did_not_send_changes_nothing(
    site: httpx.Client, redis_client: redis.Redis, hands: Hands, case: str
) -> None:
    bury(hands, "lost")
    fields = page_reader.read(site).form("redrive", "lost")
    before = snapshot(redis_client)
    headers = {**from_own_page(site), **FORGED[case]}
    answer = httpx.post(
        str(site.base_url.join("/actions/redrive")),
        data=fields,
        headers={"Cookie": f"turnstile_form={fields['token']}"}
        | {name: value for name, value in headers.items() if value is not None},
        trust_env=False,
    )
    assert answer.status_code == 403, answer.text
    assert changes(before, snapshot(redis_client)) == {}


@pytest.mark.parametrize("token", ["", OTHER_TOKEN, "\udcff", "é"])
def test_a_wrong_token_changes_nothing(site: httpx.Client, redis_client: redis.Redis, hands: Hands, token: str) -> None:
    bury(hands, "lost")
    page_reader.read(site)
    before = snapshot(redis_client)
    body = {"target": "lost", "token": token.encode(errors="surrogateescape")}
    assert site.post("/actions/redrive", data=body, headers=from_own_page(site)).status_code == 403
    assert changes(before, snapshot(redis_client)) == {}


@pytest.mark.parametrize("body", [b"\xff\xfe", b"&".join(b"a=1" for _ in range(99)), b"token", b""])
def test_a_form_that_cannot_be_read_changes_nothing(site: httpx.Client, redis_client: redis.Redis, body: bytes) -> None:
    page_reader.read(site)
    headers = from_own_page(site) | {"Content-Type": "application/x-www-form-urlencoded"}
    assert site.post("/actions/redrive", content=body, headers=headers).status_code == 403
    assert redis_client.xlen(keys.AUDIT) == 0


def test_no_get_changes_anything(site: httpx.Client, redis_client: redis.Redis, hands: Hands) -> None:
    bury(hands, "lost")
    token = page_reader.read(site).form("redrive", "lost")["token"]
    enrolled.beat(redis_client, "w1", "packing")
    before = snapshot(redis_client)
    for action in (*ALL_ACTIONS, "nothing"):
        for target in ("lost", "default", "w1", "packing"):
            fields = {"target": target, "token": token, "confirmed": "yes", "range": "1..2"}
            site.get(f"/actions/{action}", params=fields, headers=from_own_page(site))
    assert changes(before, snapshot(redis_client)) == {}


def test_a_button_works_in_every_web_process(redis_client: redis.Redis, settings: Settings, hands: Hands) -> None:
    bury(hands, "lost")
    with serving(settings) as one, serving(settings) as other:
        fields = page_reader.read(one).form("redrive", "lost")
        other.cookies = one.cookies
        assert other.post("/actions/redrive", data=fields, headers=from_own_page(other)).status_code == 303
    assert dead_letters.count(redis_client) == 0


def test_the_trail_names_the_client_whose_key_it_was(redis_client: redis.Redis, settings: Settings, hands: Hands) -> None:
    bury(hands, "lost")
    keyed = Settings(redis_url=settings.redis_url, api_keys=(ApiKey("night-shift", hash_api_key(KEY)),))
    with serving(keyed) as site:
        assert site.get("/").status_code == 401
        site.auth = ("operator", KEY)
        assert press(site, "redrive", "lost").status_code == 303
    assert trail(redis_client) == [("redrive", "night-shift", "lost")]
