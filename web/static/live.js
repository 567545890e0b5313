// Keeps the operations page current: fetches its main part every two seconds and changes only what differs,
// so that focus, scroll position, selection and a button that is being pressed stay as they are.
// The page works without this file; it then shows the state as of its loading.
"use strict";
(() => {
  const EVERY_MS = 2000;
  const LIMIT_MS = 8000;
  const STALE_MS = 6000;
  const REDIS_AWAY = "Redis does not answer";
  const main = document.getElementById("live");
  const state = document.getElementById("pulse-state");
  const age = document.getElementById("pulse-age");
  let answeredAt = performance.now();
  let problem = document.getElementById("queues") ? "" : REDIS_AWAY;
  let timer = 0;
  let asking = false;

  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);

  function morph(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    morphChildren(old, fresh);
  }

  // Rows carry a key: a row that comes or goes must not turn the one under the pointer into another.
  // What has none is matched by its place between its neighbours.
  function morphChildren(old, fresh) {
    const wanted = new Set([...fresh.childNodes].map(keyOf).filter(Boolean));
    const keyed = new Map([...old.childNodes].filter(keyOf).map((node) => [keyOf(node), node]));
    let cursor = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const key = keyOf(child);
      let match = keyed.get(key);
      while (cursor && cursor !== match && !wanted.has(keyOf(cursor)) && (match || keyOf(cursor))) cursor = drop(cursor);
      if (!key && cursor && !keyOf(cursor)) match = cursor;
      if (match && match.nodeName === child.nodeName) {
        if (match === cursor) cursor = cursor.nextSibling;
        else old.insertBefore(match, cursor);
        morph(match, child);
      } else {
        old.insertBefore(child, cursor);
        if (match && match === cursor) cursor = drop(cursor);
      }
    }
    while (cursor) cursor = drop(cursor);
  }

  function drop(node) {
    const next = node.nextSibling;
    node.remove();
    return next;
  }

  // While Redis is away the last known state stays on the page, below the new banners.
  function show(text, onlyBanners) {
    const fresh = new DOMParser().parseFromString(`<main>${text}</main>`, "text/html").querySelector("main");
    const focused = document.activeElement;
    if (onlyBanners) morph(main.querySelector(".banners"), fresh.querySelector(".banners"));
    else morphChildren(main, fresh);
    if (focused !== document.activeElement && main.contains(focused)) focused.focus({ preventScroll: true });
  }

  async function ask() {
    asking = true;
    try {
      const asked = new URLSearchParams(location.search); // what is searched for stays searched for
      asked.set("fragment", "1");
      const answer = await fetch(`/?${asked}`, { cache: "no-store", signal: AbortSignal.timeout(LIMIT_MS) });
      const away = answer.status === 503;
      if (answer.ok || away) show(await answer.text(), away);
      if (answer.ok) answeredAt = performance.now();
      problem = answer.ok ? "" : away ? REDIS_AWAY : `The web answers ${answer.status}`;
    } catch {
      problem = "The web does not answer";
    }
    asking = false;
    tell();
    plan();
  }

  function tell() {
    const since = performance.now() - answeredAt;
    const stale = since > STALE_MS || problem !== "";
    const words = stale ? problem || "Waiting for an answer" : "● Live";
    if (state.textContent !== words) state.textContent = words;
    age.textContent = stale ? `· last answer ${Math.round(since / 1000)} s ago` : "· updated every 2 s";
    document.body.classList.toggle("stale", stale);
  }

  function plan() {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(ask, EVERY_MS);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden && !asking) ask();
  });
  setInterval(() => document.hidden || tell(), 1000);
  tell();
  plan();
})();
