"""Bugs on purpose: textual changes of a copy of the product, which the harness has to catch.

Each substitution must match exactly once, so that a change of the product that makes a plant void fails loudly. Processes run
the copy through PYTHONPATH. test_planted_bugs.py shows each bug in a directed scene; `python tests/chaos/planted.py` sets a
whole fleet that has one before the random nemesis.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from processes import ROOT

PACKAGES = ("jobs", "web", "scheduler")
OTHERS = ("Procfile", "pyproject.toml")
ACCEPTED = "    found = await ACCEPT.run(client, places, args)\n"


@dataclass(frozen=True, slots=True)
class Edit:
    """One substitution in one file of the tree."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Bug:
    """A named mistake; `scene` is the one of planted_scenes.py in which it shows."""

    name: str
    scene: str
    edits: tuple[Edit, ...]


def _bug(name: str, scene: str, *edits: tuple[str, str, str]) -> Bug:
    return Bug(name, scene, tuple(Edit(*edit) for edit in edits))


def copy_tree(folder: Path) -> Path:
    """The product, compiled files included, in the folder."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package)
    for name in OTHERS:
        shutil.copy2(ROOT / name, folder / name)
    return folder


def plant(edits: Sequence[Edit], folder: Path) -> Path:
    """A copy of the product with the bug in it. Raises ValueError when it is not there to be made."""
    tree = copy_tree(folder)
    for edit in edits:
        path = tree / edit.file
        text = path.read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise ValueError(f"{edit.file} holds {text.count(edit.old)} times what the plant replaces:\n{edit.old}")
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
    return tree


NO_RECONCILIATION = Edit(
    "jobs/mall/reconcile.py",
    "    return [*_heal_orders(client, now, after_s), *batches.heal(client, now), *webhooks",
    "    return [] and [*_heal_orders(client, now, after_s), *batches.heal(client, now), *webhooks",
)
"""The second line of defence hides some mistakes in the first."""

HAND_OVER_OUTSIDE = (
    Edit(
        "jobs/mall/step_end.lua",
        "if ARGV[8] ~= '' then\n  enqueue(ARGV[8], ARGV[9], ARGV[10], tonumber(now))\nend\n",
        "",
    ),
    Edit(
        "jobs/mall/steps.py",
        '    return status.value if ended else "moved on"',
        "    from jobs.queue.calling import enqueue\n\n"
        "    if ended and following:\n"
        "        enqueue(connections.process_client(), following, now=now)\n"
        '    return status.value if ended else "moved on"',
    ),
)
"""The job of the next step is enqueued behind the state's write, not with it."""

ACCEPT_OUTSIDE = (
    Edit(
        "jobs/mall/accept.lua",
        "if #ready > 0 then\n"
        "  redis.call('RPUSH', 'turnstile:pick:buffer', unpack(ready))\n"
        "  batch_want('turnstile:pick:job', ARGV[3], ARGV[4], ARGV[5], tonumber(now))\n"
        "end\n",
        "",
    ),
    Edit(
        "jobs/mall/accepting.py",
        ACCEPTED,
        ACCEPTED + "    from jobs.queue.batches import NEXT\n\n"
        "    for record, before in zip(records, found, strict=True):\n"
        "        if before == 1:\n"
        "            await client.rpush(keys.PICK_BUFFER, record.split(b' ', 2)[1])\n"
        "    await NEXT.run(client, [keys.PICK_BUFFER, keys.PICK_JOB], ['', job.id, job.queue, job.fields, repr(now)])\n",
    ),
)

BUGS = (
    _bug(
        "finish without its fence",
        "zombie_job",
        ("jobs/queue/finish.lua", "  elseif score then\n    odd_streams", "  elseif true then\n    odd_streams"),
    ),
    _bug(
        "the end of a step compares nothing",
        "zombie_order",
        ("jobs/mall/step_end.lua", "if status ~= BEFORE[ARGV[4]] or version ~= ARGV[2] then", "if not status then"),
    ),
    _bug(
        "the end of picking compares nothing",
        "zombie_order",
        ("jobs/mall/pick_end.lua", "if status ~= 'picking' or version ~= ARGV[2] then", "if not status then"),
    ),
    _bug(
        "a heartbeat renews leases that were lost",
        "zombie_heartbeat",
        ("jobs/queue/heartbeat.lua", "    if score then\n      renewed", "    if true then\n      renewed"),
    ),
    _bug(
        "a claim leaves no lease",
        "killed_job",
        (
            "jobs/queue/claim.lua",
            "      call('ZADD', KEYS[1 + 3 * n_queues + i], unpack(leases, 2 * leased + 1, 2 * n_claimed))",
            "      call('ZADD', KEYS[1 + 3 * n_queues + i], 'XX', unpack(leases, 2 * leased + 1, 2 * n_claimed))",
        ),
    ),
    _bug(
        "the ack comes before the result",
        "killed_job",
        ("jobs/queue/finish.lua", "  elseif score then\n    odd_streams", "  elseif true then\n    odd_streams"),
        (
            "jobs/queue/ending.py",
            "    first, last = batch[0][0], batch[-1][1]\n",
            "    first, last = batch[0][0], batch[-1][1]\n"
            "    from jobs import connections\n\n"
            "    connections.process_client().zrem(keys.wip(first.queue), *(claim.member for claim, _ in batch))\n",
        ),
    ),
    _bug(
        "a reclaim puts nothing back",
        "killed_job",
        ("jobs/queue/reclaim.lua", "      push(id, queue, now, true)\n", ""),
    ),
    _bug(
        "a reclaim leaves the fence to the one that lost it",
        "zombie_job",
        (
            "jobs/queue/reclaim.lua",
            "      redis.call('ZREM', KEYS[1], member)\n      redis.call('LREM'",
            "      redis.call('LREM'",
        ),
    ),
    _bug(
        "a crash is an attempt",
        "failing_job",
        (
            "jobs/queue/reclaim.lua",
            "      redis.call('HSET', job_key, 'crashes', crashes)\n",
            "      redis.call('HSET', job_key, 'crashes', crashes)\n      redis.call('HINCRBY', job_key, 'failures', 1)\n",
        ),
    ),
    _bug(
        "a warm stop gives nothing back",
        "warm_stop",
        ("jobs/queue/release.lua", "if ARGV[5] == '' then\n  push(id, queue, now, true)\nelse", "if ARGV[5] ~= '' then"),
    ),
    _bug(
        "a dead letter stands in no registry",
        "dead_letter",
        ("jobs/queue/bury.lua", "redis.call('ZADD', KEYS[3], '+inf', id)\n", ""),
    ),
    _bug(
        "a redrive leaves the letter",
        "redrive",
        (
            "jobs/queue/redrive.lua",
            "redis.call('ZREM', KEYS[2], id)\nleave(id)\nredis.call('HSET', KEYS[1], 'failures'",
            "redis.call('HSET', KEYS[1], 'failures'",
        ),
    ),
    _bug(
        "due jobs are moved in three commands",
        "delayed_job",
        (
            "scheduler/promote.py",
            "            promoted, dangling, more,",
            "            for due in self._client.zrangebyscore(keys.SCHEDULED_JOBS, '-inf', now):\n"
            "                if not due.startswith(b'cron-'):\n"
            "                    queue = self._client.hget(keys.job(due.decode()), 'origin') or b'default'\n"
            "                    self._client.rpush(keys.queue(queue.decode()), due)\n"
            "                    self._client.hset(keys.job(due.decode()), 'status', 'queued')\n"
            "                    self._client.zrem(keys.SCHEDULED_JOBS, due)\n"
            "            promoted, dangling, more,",
        ),
    ),
    _bug(
        "a fire is noted behind its run, which has no id of its own",
        "periodic_job",
        (
            "scheduler/fire.lua",
            "  local id = definition .. '-' .. at\n",
            "  local id = definition .. '-' .. string.gsub(ARGV[2], '%.', '')\n",
        ),
        (
            "scheduler/fire.lua",
            "redis.call('ZADD', KEYS[4], ARGV[5], definition)\nredis.call('HSET', KEYS[2], 'next_fire_at', ARGV[4])\n",
            "",
        ),
        (
            "scheduler/fires.py",
            "        if refusal:\n",
            "        self._client.hset(keys.periodic(name), 'next_fire_at', f'{planned.next_at:.0f}')\n"
            "        self._client.zadd(keys.SCHEDULED_JOBS, {definition: due_at})\n"
            "        if refusal:\n",
        ),
    ),
    _bug(
        "the slice leaves the buffer before its sums are added",
        "killed_count",
        ("jobs/mall/count.lua", "  return {0, 0, {}}\n", "  return {0, 0, {}, {}}\n"),
        (
            "jobs/mall/count.lua",
            "      redis.call('HINCRBY', key, field, people)\n",
            "      later[#later + 1] = {key, field, people}\n",
        ),
        (
            "jobs/mall/count.lua",
            "local minutes, gates, dirty, applied = {}, {}, {}, 0",
            "local minutes, gates, dirty, applied, later = {}, {}, {}, 0, {}",
        ),
        ("jobs/mall/count.lua", "return {applied, left, alerts}", "return {applied, left, alerts, later}"),
        ("jobs/mall/counting.py", "        taken, waiting, alerts = COUNT(", "        taken, waiting, alerts, sums = COUNT("),
        (
            "jobs/mall/counting.py",
            "        applied += taken\n",
            "        applied += taken\n        for key, field, people in sums:\n            client.hincrby(key, field, people)\n",
        ),
    ),
    _bug(
        "an event is forgotten at once",
        "repeated_entry",
        (
            "jobs/mall/ingest.lua",
            "  if call('SCARD', key) == 1 then\n    call('EXPIRE', key, kept)\n  end\n",
            "  call('DEL', key)\n",
        ),
    ),
    _bug(
        "the key of a request is noted behind its order",
        "accepted_order",
        (
            "jobs/mall/accept.lua",
            "  if redis.call('SET', KEYS[n], ARGV[i + 1], 'NX', 'EX', ttl) then\n",
            "  if redis.call('EXISTS', KEYS[n]) == 0 then\n",
        ),
        (
            "jobs/mall/accepting.py",
            ACCEPTED,
            ACCEPTED + "    for place, record, before in zip(places[1:], records, found, strict=True):\n"
            "        if before == 1:\n"
            "            await client.set(place, record, ex=settings.idempotency_ttl_s)\n",
        ),
    ),
    Bug("an accepted order is pushed outside the script", "accepted_order", (*ACCEPT_OUTSIDE, NO_RECONCILIATION)),
    Bug("the next step is enqueued outside the script", "killed_order", (*HAND_OVER_OUTSIDE, NO_RECONCILIATION)),
    _bug(
        "the carrier's key is made of the attempt",
        "lost_booking",
        (
            "jobs/mall/carrier.py",
            'f"{shipment.order_id}:deliver"',
            'f"{shipment.order_id}:deliver:{running_job().attempt}"',
        ),
        (
            "jobs/mall/carrier.py",
            "from jobs.queue.breaker import Breaker\n",
            "from jobs.queue.breaker import Breaker\nfrom jobs.queue.running import running_job\n",
        ),
    ),
    _bug(
        "a cancelled order keeps its stock",
        "cancelled_order",
        ("jobs/mall/cancel.lua", "settle_stock(id, 'release')\n", ""),
    ),
    _bug(
        "an order is cancelled in mid-delivery",
        "cancelled_delivery",
        ("jobs/mall/cancel.lua", "if ENDED[status] or status == 'delivering' then", "if ENDED[status] then"),
    ),
)
