// Keeps the parts of a page that are marked `data-live` fresh: fetches the page itself and swaps the parts that differ,
// so that everything is rendered in one place. Focus and scrolling stay where they were.
"use strict";

(() => {
  const PERIOD_MS = 2000;
  const PERIOD_MS_MAX = 15000;
  let wait = PERIOD_MS;

  function swap(part, fresh) {
    if (!fresh || part.innerHTML === fresh.innerHTML) return;
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.replaceChildren(...fresh.childNodes);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  function selecting(part) {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  }

  async function refresh() {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(10000) });
    if (answer.status === 401) location.reload(); // the session is over: the page leads to the login
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (part.dataset.reloadWhen && fresh?.querySelector(part.dataset.reloadWhen)) {
        location.reload(); // the first series has come: now there is a chart to draw
        return;
      }
      if (!selecting(part)) swap(part, fresh);
    }
  }

  async function turn() {
    if (!document.hidden) {
      try {
        await refresh();
        wait = PERIOD_MS;
        document.body.classList.remove("stale");
      } catch {
        wait = Math.min(2 * wait, PERIOD_MS_MAX);
        document.body.classList.add("stale");
      }
    }
    setTimeout(turn, wait);
  }

  setTimeout(turn, PERIOD_MS);
})();
