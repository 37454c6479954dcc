"use strict";
(() => {
  const root = document.documentElement;
  const form = document.getElementById("filters");
  const cards = [...document.querySelectorAll("details.card")];
  const groups = [...document.querySelectorAll("section.group")];

  // Filters. Texts of models are only ever compared, as the data of a card.
  const matches = (card, wanted) => {
    const { iteration, stage, type, drawn, leaked, label, least, most } = wanted;
    const data = card.dataset;
    const reward = data.reward === "" ? NaN : Number(data.reward);
    return (
      (!iteration || data.iteration === iteration) &&
      (!stage || data.stage === stage) &&
      (!type || data.type === type) &&
      (!drawn || data.drawn === drawn) &&
      (!leaked || data.leaked === leaked) &&
      (!label || data.label.split(" ").includes(label)) &&
      (least === "" || reward >= Number(least)) &&
      (most === "" || reward <= Number(most))
    );
  };
  const filter = () => {
    const wanted = Object.fromEntries(new FormData(form));
    let shown = 0;
    for (const card of cards) {
      card.hidden = !matches(card, wanted);
      shown += card.hidden ? 0 : 1;
    }
    for (const group of groups) {
      group.hidden = !group.querySelector("details.card:not([hidden])");
    }
    document.getElementById("count").textContent = `${shown} of ${cards.length} shown`;
  };
  if (form) {
    form.hidden = false;
    form.addEventListener("input", filter);
    form.addEventListener("change", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(filter));
    filter();
  }

  // A link to an episode opens it, even one that is filtered out.
  const go = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || !target.matches("details.card")) return;
    if (target.hidden) {
      form.reset();
      filter();
    }
    target.open = true;
    target.scrollIntoView();
    target.querySelector("summary").focus({ preventScroll: true });
  };
  addEventListener("hashchange", go);

  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#e-"]');
    // The same link twice changes no hash.
    if (link && link.getAttribute("href") === location.hash) setTimeout(go);
  });
  document.addEventListener("keydown", (event) => {
    const card = event.key === "Escape" && event.target.closest("details.card[open]");
    if (!card) return;
    card.open = false;
    card.querySelector("summary").focus();
  });

  // While a run is watched the page loads itself anew and stays as it was left.
  const places = () => [...document.querySelectorAll("main section[id], details.card")];
  const keyed = () => {
    const found = new Map();
    const count = new Map();
    for (const each of document.querySelectorAll("details")) {
      const home = (each.closest("details.card") || each.closest("section[id]") || root).id;
      const number = count.get(home) || 0;
      count.set(home, number + 1);
      found.set(`${home}/${number}`, each);
    }
    return found;
  };
  const state = () => {
    const above = places().filter((each) => each.getClientRects().length && each.getBoundingClientRect().top < 80);
    const anchor = above.at(-1);
    return {
      open: [...keyed()].map(([key, each]) => [key, each.open]),
      filters: form ? [...new FormData(form)] : [],
      anchor: anchor ? [anchor.id, anchor.getBoundingClientRect().top] : ["", 0],
      top: scrollY,
    };
  };
  const restore = (kept) => {
    const found = keyed();
    for (const [key, open] of kept.open) if (found.has(key)) found.get(key).open = open;
    for (const [name, value] of kept.filters) if (form && form.elements[name]) form.elements[name].value = value;
    if (form) filter();
    const anchor = document.getElementById(kept.anchor[0]);
    if (!anchor || !anchor.getClientRects().length) {
      scrollTo(0, kept.top);
      return;
    }
    // What comes into view is laid out only then, and may move the rest: look again.
    let looks = 3;
    const align = () => {
      scrollBy(0, anchor.getBoundingClientRect().top - kept.anchor[1]);
      looks -= 1;
      if (looks) requestAnimationFrame(align);
    };
    align();
  };
  const every = Number(root.dataset.refresh);
  const left = history.state?.watched;
  history.scrollRestoration = every ? "manual" : "auto";
  if (left) {
    history.replaceState(null, "");
    restore(left);
  } else {
    go();
  }
  if (!every) return;
  let moved = 0;
  for (const kind of ["scroll", "keydown", "pointerdown"]) {
    addEventListener(kind, () => (moved = Date.now()), { passive: true });
  }
  setInterval(() => {
    // Not under the hands of a reader; a list of choices that is open needs longer.
    const pause = document.activeElement?.closest("#filters") ? 15000 : 2000;
    if (document.hidden || String(getSelection()) || Date.now() - moved < pause) return;
    history.replaceState({ watched: state() }, "");
    location.reload();
  }, every * 1000);
})();
