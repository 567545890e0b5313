"""A real Chromium for tests, driven through the DevTools protocol over one websocket.

Playwright brings its own node, which does not run on a minimal Debian; this needs only a
`chromium` on PATH. Protocol: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
START_LIMIT_S = 30.0
COMMAND_LIMIT_S = 30.0
LOOK_EVERY_S = 0.05
FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--window-size=1280,900",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--use-mock-keychain",
)


class BrowserError(Exception):
    """Raised when the page threw, a page did not load, or a condition did not come true in time."""


class NavigatedError(BrowserError):
    """Raised when the page that was asked made room for another one before it answered: ask again."""


GONE = ("Inspected target navigated or closed", "Execution context was destroyed", "Cannot find context with specified id")
"""How DevTools says it."""


class Browser:
    """One headless Chromium with one page. Use as a context manager: leaving it ends every process of it."""

    def __init__(self, binary: str, profile: Path) -> None:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to start as root with it
        self._process = subprocess.Popen(
            [binary, *FLAGS, *sandbox, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._last_id = 0
        self._loaded = False
        self.console_errors: list[str] = []
        """Uncaught exceptions, console.error and what the browser itself reports (a CSP violation, a 404), since `open`."""
        self.dialogs: list[str] = []
        """Texts of alert(), confirm() and prompt() since `open`; each is dismissed at once."""
        self.requested: list[str] = []
        """Every URL that the page asked for since `open`."""
        self._exits = contextlib.ExitStack()
        try:
            self._socket = self._exits.enter_context(self._connect(profile / "DevToolsActivePort"))
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.command(f"{domain}.enable")
        except BaseException:
            self._kill()
            raise

    def open(self, url: str, limit_s: float = COMMAND_LIMIT_S) -> None:
        """Loads a page and returns after its load event."""
        self._navigate("about:blank", limit_s)  # what the page before still reports belongs to it
        self.console_errors, self.dialogs, self.requested = [], [], []
        self._navigate(url, limit_s)

    def _navigate(self, url: str, limit_s: float) -> None:
        self._loaded = False
        answer = self.command("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        deadline = time.monotonic() + limit_s
        while not self._loaded:
            self._take_one(deadline, f"{url} to load")

    def evaluate(self, js: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is awaited. `Any`: whatever JSON the page gives."""
        answer = self.command("Runtime.evaluate", expression=js, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{js}: {_thrown(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def wait_for(self, js_condition: str, limit_s: float = 10.0) -> None:
        """Returns once the condition holds; raises BrowserError with what the page shows when it does not in time."""
        deadline = time.monotonic() + limit_s
        while not self._holds(js_condition):
            if time.monotonic() > deadline:
                text = self.evaluate("document.body ? document.body.innerText.slice(0, 2000) : ''")
                raise BrowserError(f"not true after {limit_s:g} s: {js_condition}\n{self.console_errors}\n{text}")
            time.sleep(LOOK_EVERY_S)

    def _holds(self, js_condition: str) -> bool:
        try:
            return bool(self.evaluate(f"!!({js_condition})"))
        except NavigatedError:  # the next look asks the page that came after it
            return False

    def screenshot(self, path: Path) -> None:
        """Writes the whole page, not only what the window shows, as a PNG."""
        answer = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """One DevTools command and its result. Events that arrive in between are noted."""
        sent = self._send(method, params)
        deadline = time.monotonic() + COMMAND_LIMIT_S
        while True:
            message = self._take_one(deadline, method)
            if message.get("id") != sent:
                continue
            if "error" in message:
                reason = message["error"].get("message", "")
                raise (NavigatedError if reason in GONE else BrowserError)(f"{method}: {reason}")
            result: dict[str, Any] = message["result"]
            return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._exits.close()
        self._kill()

    def _connect(self, port_file: Path) -> ClientConnection:
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            if self._process.poll() is not None:
                raise BrowserError(f"Chromium ended at once with code {self._process.returncode}")
            if time.monotonic() > deadline:
                raise BrowserError(f"Chromium opened no DevTools port within {START_LIMIT_S:g} s")
            if port_file.exists() and (lines := port_file.read_text().splitlines()):
                with contextlib.suppress(httpx.TransportError):  # the port file may precede the listening socket
                    targets = httpx.get(f"http://127.0.0.1:{lines[0]}/json/list", trust_env=False).json()
                    pages = [target for target in targets if target["type"] == "page"]
                    if pages:
                        return connect(pages[0]["webSocketDebuggerUrl"], max_size=None, proxy=None)
            time.sleep(LOOK_EVERY_S)

    def _send(self, method: str, params: dict[str, Any]) -> int:
        self._last_id += 1
        self._socket.send(json.dumps({"id": self._last_id, "method": method, "params": params}))
        return self._last_id

    def _take_one(self, deadline: float, waiting_for: str) -> dict[str, Any]:
        try:
            message: dict[str, Any] = json.loads(self._socket.recv(timeout=max(0.0, deadline - time.monotonic())))
        except TimeoutError:
            raise BrowserError(f"waited in vain for {waiting_for}") from None
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Page.javascriptDialogOpening":
            self.dialogs.append(params["message"])
            self._send("Page.handleJavaScriptDialog", {"accept": False})
        elif event == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.console_errors.append(_thrown(params["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.console_errors.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.console_errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """A Chromium for the time of a fixture. Without one on PATH the test is skipped with the reason; in CI it fails."""
    binary = next((found for found in map(shutil.which, NAMES) if found), None)
    if binary is None:
        reason = f"no Chromium on PATH (looked for {', '.join(NAMES)})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, Browser(binary, Path(profile)) as browser:
        yield browser


def _thrown(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details.get("text", ""))
