"""Reads the operations page as a browser without scripts does, and presses its buttons."""

from html.parser import HTMLParser

import httpx

MARKUP = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>\'"&'
"""What an attacker would like to see on the page as markup."""


class Page(HTMLParser):
    """A page's text, its elements, its forms' hidden fields, and the commands that it prints."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.forms: list[tuple[str, dict[str, str]]] = []
        self.commands: list[str] = []
        self._in_command = False
        self._words: list[str] = []
        self.feed(source)
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag == "pre":
            self._in_command = True
            self.commands.append("")
        elif tag == "form":
            self.forms.append((found["action"], {}))
        elif tag == "input":
            self.forms[-1][1][found["name"]] = found["value"]

    def handle_endtag(self, tag: str) -> None:
        self._in_command = self._in_command and tag != "pre"

    def handle_data(self, data: str) -> None:
        self._words.append(data)
        if self._in_command:
            self.commands[-1] += data

    def form(self, action: str, target: str) -> dict[str, str]:
        """The fields of a button."""
        return next(fields for path, fields in self.forms if path == f"/actions/{action}" and fields["target"] == target)

    def check_escaped(self) -> None:
        """Nothing that was planted is markup: the only scripts and images are our own files, and no attribute runs any."""
        for tag, attributes in self.elements:
            if tag in ("script", "img", "link"):
                source = attributes.get("src") or attributes.get("href", "")
                assert source.startswith("/static/"), (tag, attributes)
            assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
            assert not attributes.get("href", "").startswith("javascript:"), (tag, attributes)


def read(site: httpx.Client, path: str = "/", status: int = 200) -> Page:
    """The page at the path."""
    answer = site.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == status, answer.text
    return Page(answer.text)


def from_own_page(site: httpx.Client) -> dict[str, str]:
    """What a browser says of a form that our own page sent."""
    return {"Origin": str(site.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}


def press(site: httpx.Client, action: str, target: str, **more: str) -> httpx.Response:
    """Presses a button that is on the page."""
    fields = read(site).form(action, target) | more
    return site.post(f"/actions/{action}", data=fields, headers=from_own_page(site))
