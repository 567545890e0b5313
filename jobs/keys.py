"""Every Redis key as a constant or a function: its type, its fields, its life and who writes it.

Keys under `rq:` are RQ's (rq 2.12.0) and rq-scheduler's (0.14.0), written so that `rq info`,
rq-dashboard and a stock `rq worker` understand them. Keys under `turnstile:` are ours.
Scripts are given in KEYS what they are about; the indexes that every change of a job or an order moves
along are spelled out once, in the libraries push.lua and order.lua. None of it works on Redis Cluster, as RQ itself does not.

`<day>` is YYYY-MM-DD and `<minute>` YYYY-MM-DDTHH:MM, both UTC unless said otherwise.
"""

from collections.abc import Callable


def _each(template: str) -> Callable[[str], str]:
    """A key for each name or id: the function that puts it in."""
    return template.format


# --- RQ's own -------------------------------------------------------------------------------

QUEUES = "rq:queues"
"""set of queue keys; every script that pushes a job. Forever, one member a queue."""

WORKERS = "rq:workers"
"""set of worker keys; workers add and remove themselves, the scheduler drops dead ones."""

SUSPENDED = "rq:suspended"
"""string; `rq suspend` sets it, `rq resume` deletes it. Workers claim nothing while it exists."""

SCHEDULED_JOBS = "rq:scheduler:scheduled_jobs"
"""zset job id -> due_at; rq-scheduler's set: delayed orders, periodic definitions (`cron-<name>`)."""

job = _each("rq:job:{}")
"""hash; RQ's job fields plus ours: `failures` (attempts that failed), `crashes` (in a row), `begun` (the execution in which one
that has crashed twice began again; suspect.lua), `attempts` (JSON list of Attempt, the last 20), `acked` (execution that ended
it), `died_at`, `group` (fingerprint), `error_type`, `error`, `redrives` with the last one's `redriven_by` and `redriven_at`,
`progress` (JSON of Progress, at a run's reports; progress.lua), `last_job_id` (of a stock client's periodic job: its last run;
foreign.lua). Expires `result_ttl_s` after it finished; a dead letter never."""

queue = _each("rq:queue:{}")
"""list of job ids, pushed right and claimed left; every script that pushes, workers."""

intermediate = _each("rq:queue:{}:intermediate")
"""list; where a stock worker on one queue parks an id between pop and start. Swept by the scheduler."""

wip = _each("rq:wip:{}")
"""zset `job id:execution id` -> lease's end; claim adds, heartbeat.lua renews, the ending script removes: it is the fence."""

finished = _each("rq:finished:{}")
"""zset job id -> expiry; finish.lua, trimmed by it."""

failed = _each("rq:failed:{}")
"""zset job id -> +inf; the dead letters of a queue. bury.lua in, redrive.lua and discard.lua out."""

scheduled = _each("rq:scheduled:{}")
"""zset job id -> due_at (float seconds; RQ's are whole); retry.lua in, the scheduler's promote.lua out, or
delayed_move.lua when an operator does not wait."""

canceled = _each("rq:canceled:{}")
"""zset job id -> expiry, of jobs that were cancelled or expired; cancelled.lua, trimmed by it."""

results = _each("rq:results:{}")
"""stream of RQ results, at most 10; finish.lua and bury.lua. Expires with the job, deleted by redrive and discard."""

workers = _each("rq:workers:{}")
"""set of the keys of workers on a queue; workers, cleaned by the scheduler."""

worker = _each("rq:worker:{}")
"""hash, RQ's worker fields and `kind pool size min max busy memory_bytes`; its worker's heartbeat.lua, and the counts by the
ends of its jobs. Expires when the heartbeat stops."""

# Only stock workers, stock schedulers and clients that use RQ's own dependencies and groups write these.

deferred = _each("rq:deferred:{}")
"""zset job id -> expiry; jobs that wait for others, by RQ's `depends_on`."""

job_dependents = _each("rq:job:{}:dependents")
"""set of ids of the jobs that wait for this one; RQ's `depends_on`."""

job_dependencies = _each("rq:job:{}:dependencies")
"""set of ids of the jobs that this one waits for; RQ's `depends_on`."""

execution = _each("rq:execution:{}")
"""hash of RQ's for one execution of a job by a stock worker. Expires with its lease."""

executions = _each("rq:executions:{}")
"""zset execution id -> lease's end, of one job; a stock worker. Expires with the lease."""

cleaning = _each("rq:clean_registries:{}")
"""string; a stock worker cleans the registries of the queue. Expires."""

rq_scheduler_lock = _each("rq:scheduler-lock:{}")
"""string, a process id; the scheduler of a stock worker started with `--with-scheduler`, for a queue. Expires."""

scheduler_instance = _each("rq:scheduler_instance:{}")
"""hash; a stock `rqscheduler` process. Expires."""

rq_scheduler = _each("rq:scheduler:{}")
"""hash; the scheduler of a stock worker started with `--with-scheduler`. Expires."""

CRON_SCHEDULERS = "rq:cron_schedulers"
"""zset name -> last heartbeat; stock `rq cron` processes, which also remove the dead ones."""

CRON_JOBS = "rq:cron_jobs"
"""zset name -> last enqueued_at; the functions that stock `rq cron` processes repeat."""

cron_scheduler = _each("rq:cron_scheduler:{}")
"""hash; a stock `rq cron` process. Expires."""

cron_history = _each("rq:cron_job:{}:jobs")
"""zset job id -> enqueued_at, of one function that a stock `rq cron` process repeats. Expires."""

GROUPS = "rq:groups"
"""set of names of RQ's groups; clients that use them."""

group = _each("rq:group:{}")
"""set of ids of the jobs of one of RQ's groups; clients that use them."""

# --- the queue's --------------------------------------------------------------------------

PROBE = "turnstile:probe"
"""string, empty; written by a worker whose job says that Redis is away, to find out whether it is. Expires after a second."""

bell = _each("turnstile:bell:{}")
"""list of at most 8; every pushing script rings it, idle workers block on it. No meaning beyond waking."""

paused = _each("turnstile:paused:{}")
"""string; exists while the queue is paused, with its priorities. POST /v1/queues/{name}/pause sets, resume deletes."""

POOLS = "turnstile:pools"
"""hash pool (a worker's queues, joined by `-`) -> `<min>..<max>`, the range that an operator gave it; pools.py. Forever."""

unique = _each("turnstile:unique:{}")
"""string: id of the job that has the lock of a unique call (a digest of task and arguments); enqueue.lua, redrive.lua.
Deleted when the job ends, or expires: after the time that was asked for, or 30 days after the job was to start."""

TASKS = "turnstile:tasks"
"""hash task name -> JSON of what a program without its code needs to call it; workers at their start. Forever, one a task."""


LIMITS = "turnstile:limits"
"""hash task -> `<rate>:<max_concurrent>`, either may be empty; workers publish what their tasks declare. Forever."""

LIMITS_OVERRIDE = "turnstile:limits:override"
"""hash like LIMITS that comes before it; POST /v1/tasks/{name}/limits sets, DELETE takes it back."""

unreadable = _each("turnstile:unreadable:{}")
"""string, or of any other type but a hash: what somebody had put in the place of a job's hash when the job was due. promote.lua;
expires after 30 days, the dead letter in its place does not."""

held = _each("turnstile:held:{}")
"""zset task -> time of the next look at its held jobs; claim.lua, deleted when none is held."""


def held_jobs(queue_name: str, task: str) -> str:
    """list of ids of queued jobs that their task's limits hold back; claim.lua, also out by cancel.lua and purge.lua."""
    return f"turnstile:held:{queue_name}:{task}"


rate_limit = _each("turnstile:rate_limit:{}")
"""string, of `<limit>:<client>`: when all of the client's tokens are back (Unix seconds). rate_limit.lua; expires then."""

rate = _each("turnstile:rate:{}")
"""string; when the task's next start is due at an even rate (Unix seconds). claim.lua; expires soon after that."""

running = _each("turnstile:running:{}")
"""zset `queue|job id:execution id` -> claimed at; the running jobs of a task with max_concurrent. claim.lua adds, and
removes those that have left rq:wip when it needs their slots: at most max_concurrent members."""

outcomes = _each("turnstile:outcomes:{}")
"""hash `ok:<bucket>` and `failed:<bucket>` -> executions of a task in ten seconds, for a minute; budget.lua. Expires after 70
seconds."""

BREAKERS = "turnstile:breakers"
"""set of names of the circuit breakers that were asked within a day; breaker.lua adds, `breaker.states` removes."""

breaker = _each("turnstile:breaker:{}")
"""hash `retry_at opened_at streak passed opened calls failures refused bucket bucket_s`, `c<bucket>` and `f<bucket>` (calls
and failures in a tenth of the window) and `lease:<call>` -> its end; breaker.lua. Expires a day after it was last asked or
told."""


def stats(queue_name: str, minute: int) -> str:
    """hash `enqueued finished retried deferred expired dead reclaimed dangling` -> count in the minute (Unix seconds // 60).
    Expires after 10 minutes."""
    return f"turnstile:stats:{queue_name}:{minute}"


totals = _each("turnstile:totals:{}")
"""hash with the fields of `stats`, since the beginning. Forever, one a queue."""

DEAD = "turnstile:dead"
"""zset job id -> died_at over all queues; dead.lua, which bury.lua, redrive.lua and discard.lua share. The scheduler keeps it
true to RQ's failed registries, and discards the oldest beyond `dead_letters_max` and `dead_letters_max_age_s`."""

DEAD_GROUPS = "turnstile:dead:groups"
"""hash group -> `task error_type error` of its newest letter, one a line; dead.lua. Without groups that are empty."""

DEAD_SIZES = "turnstile:dead:sizes"
"""zset group -> how many letters; dead.lua."""

dead_group = _each("turnstile:dead:group:{}")
"""zset job id -> died_at, the letters of turnstile:dead in the group; dead.lua."""

REDRIVING = "turnstile:dead:redriving"
"""zset job id -> now, between redrive.lua and its effects; never seen outside their MULTI."""

REDRIVES = "turnstile:redrives"
"""zset id of a redrive of many -> ended_at, +inf while it is open; redrive_open.lua, redrive_end.lua. Left 7 days after
its end."""

redrive = _each("turnstile:redrive:{}")
"""hash `action group rate_per_s kwargs by requested_at next_at total done refused state ended_at`; redrive_open.lua,
redrive.lua and discard.lua as they work it off, redrive_end.lua. Expires 7 days after its end."""

redrive_letters = _each("turnstile:redrive:{}:letters")
"""zset job id -> died_at, what a redrive of many has still to do; redrive_open.lua, redrive.lua, discard.lua. Gone at its end."""

AUDIT = "turnstile:audit"
"""stream `at what who target`, about 10,000 entries; at every action of an operator and every trim of dead letters; trail.lua,
audit.py."""

CANVASES_OPEN = "turnstile:canvases:open"
"""zset canvas id -> updated_at, canvases that are neither finished nor cancelled; canvas.lua."""

canvas = _each("turnstile:canvas:{}")
"""hash `status total done failed outstanding nodes created_at ended_at result_ttl`, and for an open group `left:<node>`
(blocks of 100 children that are not done) and `left:<node>:<block>` (children of one that are); canvas.lua. This key and
the five beside it expire `result_ttl` after the canvas has finished or was cancelled."""

canvas_nodes = _each("turnstile:canvas:{}:nodes")
"""hash node -> its text as canvas.lua describes it, `t<n>` -> template (JSON); the launch."""

canvas_states = _each("turnstile:canvas:{}:states")
"""string, a byte for each node: NUL waits, o open, s started, d done, f failed; canvas.lua."""

canvas_results = _each("turnstile:canvas:{}:results")
"""hash node -> result (JSON) while another node waits for it, or the error of a failed one; 0 is the canvas' own;
`<node>:<block>` -> joined results of a group's children; canvas.lua."""

canvas_todo = _each("turnstile:canvas:{}:todo")
"""list of ranges `first:last` of nodes that may start, the next one left; canvas.lua."""

canvas_failed = _each("turnstile:canvas:{}:failed")
"""zset node -> failed_at; canvas.lua."""


def canvas_laid(canvas_id: str, launch: str) -> str:
    """hash like `canvas_nodes`, while a launch is laying them ready; renamed by it. Expires after 10 minutes."""
    return f"turnstile:canvas:{canvas_id}:laid:{launch}"


SCHEDULER = "turnstile:scheduler"
"""hash `heartbeat_at name pid epoch` and counts since the beginning: `promoted dangling unreadable fired skipped missed late
paused cancelled unknown reclaimed quarantined ghosts requeued reconciled adopted redriven discarded refused trimmed`; the
leading scheduler."""

SCHEDULER_EPOCH = "turnstile:scheduler:epoch"
"""string `<number>:<token>` of the scheduler that took the lease last; what it moves, it moves only while this stands. lead.lua.
Forever."""

SCHEDULER_LOCK = "rq:scheduler_lock"
"""string `token`; rq-scheduler's own lock is the leader's lease: a stock `rqscheduler` stands aside. lead.lua; expires."""

PERIODIC = "turnstile:periodic"
"""set of names of the periodic jobs that are registered; the scheduler at boot."""

periodic = _each("turnstile:periodic:{}")
"""hash `cron timezone every_s overlap missed_policy jitter_s next_fire_at paused_at resumed_at waiting last_fire_at last_job_id
runs skipped missed`; `waiting` holds the fire times that wait for the end of the last run. register.lua, fire.lua,
run_waiting.lua, steer_periodic.lua. Deleted when the job leaves the table."""

periodic_runs = _each("turnstile:periodic:{}:runs")
"""list of JSON of Run, the newest left, the last 20; launch.lua, and follow.lua what became of them. Deleted with the record."""

batch = _each("turnstile:batch:{}")
"""list of items that wait for a batch, `id JSON`; batch_add.lua, out by batch_done.lua when an item's outcome is written."""

batch_ids = _each("turnstile:batch:{}:ids")
"""set of the ids of the same items, so that one is added once; batch_add.lua, batch_done.lua."""

batch_due = _each("turnstile:batch:{}:job")
"""string; id of the batch job that is due to take them. Set by batch_add.lua, moved on by batch_done.lua."""

SAMPLE_CRASH_PREFIX = "turnstile:samples:crash:"
"""prefix of `samples:crash:<key>`: string, how often a crash sample was started; the sample. Expires after an hour."""

# --- access ----------------------------------------------------------------------------------

API_KEYS = "turnstile:api-keys"
"""hash id -> JSON of Key (jobs/access/api_keys.py); create_key.lua, revoke_key.lua, which deletes it. Forever, two of a kind
for each client at most."""

API_KEYS_USED = "turnstile:api-keys:used"
"""hash id -> when the key was last used (Unix seconds); web processes, once a minute a key. Deleted with the key."""


def signed(key_id: str, message_id: str) -> str:
    """string, random: a signed request that was taken, so that it is taken once. The web; expires when its signature does, after
    10 minutes at most."""
    return f"turnstile:signed:{key_id}:{message_id}"


# --- entries ---------------------------------------------------------------------------------

ENTRIES = "turnstile:entries"
"""hash `accepted counted` (events) and `alerts` (how many); ingest.lua and count.lua. accepted = counted + what the buffer
stands for."""

ENTRIES_BUFFER = "turnstile:entries:buffer"
"""list of sums of accepted events not yet counted, `<accepted_at>|<events>|<people>|<minute>|<local day>|<1 if the mall is
open>|<direction>|<gate>`; ingest.lua pushes, count.lua removes what it applied."""

ENTRIES_JOB = "turnstile:entries:job"
"""string; id of the count job that is due to empty the buffer. Set by ingest.lua, moved on by count.lua."""

ENTRIES_WINDOWS = "turnstile:entries:windows"
"""zset of the windows that events were noted in, by when each ends to be looked into, which is its name too. ingest.lua adds
them and takes out those that have ended."""

SEEN_IDS_PREFIX = "turnstile:seen:e:"
"""prefix of `seen:e:<window>:<bucket>`: set of 64 bit digests of event_ids, so that a repeated one is a duplicate. ingest.lua;
the windows are as long as events are taken, and expire when the next one ends."""

SEEN_SEQS_PREFIX = "turnstile:seen:s:"
"""prefix of `seen:s:<window>:<seq // 1024>|<sensor>`: bitmap of the sequence numbers seen. ingest.lua; expires like the
digests."""

GATES_PREFIX = "turnstile:gates:"
"""prefix of `gates:<local day>`: hash `in|<gate>`, `out|<gate>` -> people, the mall's own day.
count.lua; expires after 8 days."""

MINUTES_PREFIX = "turnstile:footfall:minute:"
"""prefix of `footfall:minute:<day>`: hash `HH:MM|in|<gate>` -> people. count.lua; cleanup deletes old days once rolled up."""

HOURS_PREFIX = "turnstile:footfall:hour:"
"""prefix of `footfall:hour:<day>`: hash `HH|in|<gate>` -> people, absolute sums. The hourly roll-up; forever."""

ALERTS = "turnstile:alerts"
"""stream `kind gate at people capacity`, about 1,000 entries; count.lua."""

ALERTS_DAY_PREFIX = "turnstile:alerts:"
"""prefix of `alerts:<local day>`: hash `over|<gate>` while the gate, or without one the mall, holds too many, and
`closed|<UTC hour>|<gate>` once somebody has entered while the mall was closed. count.lua; expires after 8 days."""

DIRTY_DAYS = "turnstile:footfall:dirty"
"""set of days counted into since they were last rolled up. count.lua adds, the roll-up removes."""

REPORTS_PREFIX = "turnstile:report:"
"""prefix of `report:<local day>`: string, the daily report as JSON. The nightly report job; expires after 400 days."""

# --- orders ----------------------------------------------------------------------------------

order = _each("turnstile:order:{}")
"""hash `reference status step version body created_at updated_at tracking_number reason slip reserved dead_job trace`
(jobs/trace.py), and with a `notify_url` also `client`, `notify` (queue and fields of the jobs that tell its receiver) and
`telling` (the version that is being told); the order scripts. Deleted by cleanup `order_keep_days` after its end."""

order_attempts = _each("turnstile:order:{}:attempts")
"""list of JSON attempts, the last 100; the order scripts. Lives as long as the order."""

order_notices = _each("turnstile:order:{}:notices")
"""zset JSON array of strings (`version status step updated_at tracking_number reason due_at attempts`) -> version, the changes
that the receiver at the order's `notify_url` has not been told of; order.lua, out by told.lua. Lives as long as the order."""

NOTICES = "turnstile:notices"
"""zset order id -> last looked at, orders of which a receiver is being told; order.lua, told.lua, heal_notice.lua."""

ORDERS = "turnstile:orders"
"""zset order id -> created_at, every order kept; accept.lua, cleanup."""

ORDERS_OPEN = "turnstile:orders:open"
"""zset order id -> updated_at, orders that have not ended; the order scripts. The reconciler walks it."""

ORDERS_ARCHIVED = "turnstile:orders:archived"
"""hash status -> orders that cleanup has deleted, so that orders in = sum of all states stays true."""

PICK_BUFFER = "turnstile:pick:buffer"
"""list of order ids that wait for picking; accept.lua, start.lua, out by pick_end.lua, cancel.lua."""

PICK_JOB = "turnstile:pick:job"
"""string; id of the batch job that is due to empty the pick buffer."""

EVENTS = "turnstile:events"
"""stream `order status at step`, about 10,000 entries; every change of an order. Read by the event streams."""

STATUS_PREFIX = "turnstile:orders:status:"
"""prefix of `orders:status:<status>`: zset order id -> updated_at; the order scripts."""

STOCK_PREFIX = "turnstile:stock:"
"""prefix of `stock:<sku>`: hash `on_hand reserved`; PUT /v1/stock, pick_end.lua reserves, the ends of an order release
or consume. A SKU without the key is not tracked."""

IDEMPOTENCY_PREFIX = "turnstile:idempotency:"
"""prefix of `idempotency:<sha256 of client and key>`: string `<fingerprint of the body> <order id> <answer>`; accept.lua.
Expires after `idempotency_ttl_s`."""
