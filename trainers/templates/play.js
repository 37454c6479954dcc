"use strict";
// Everything that comes from a model or a person is put in as text, never as markup.

const SKETCH = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 300">
  <rect width="400" height="300" fill="white"/>

</svg>
`;
const PREVIEW_MS = 300, RETRY_MS = 2000;
const ROLES = ["proposer", "coder", "solver"];
const byId = (id) => document.getElementById(id);
let version = -1, asked = null, finished = null;

function el(tag, options, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options || {})) {
    if (name === "class") node.className = value;
    else if (name === "open") node.open = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

const words = (name) => name.replaceAll("_", " ");
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const sentence = (failure) => [words(failure.reason), failure.detail].filter(Boolean).join(": ");

async function call(name, body) {
  const response = await fetch(name, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  return { status: response.status, data: await response.json() };
}

/* The story so far ------------------------------------------------------------------------- */

function rewardOf(who, reward) {
  if (!reward) return null;
  const terms = reward.terms.map((term) => el("li",
    { class: term.value > 0 ? "pos" : term.value < 0 ? "neg" : "" }, words(term.name) + " ", el("b", {}, signed(term.value))));
  return el("div", { class: "small" }, `${who}’s reward `, el("b", {}, signed(reward.value)),
    el("ul", { class: "terms", "aria-label": `Terms of the ${who}’s reward` }, ...terms));
}

function questionLine(level, fields, truth) {
  const answer = fields[`${level}_answer`];
  const known = truth && truth[level];
  return [el("dt", {}, level), el("dd", {}, fields[`${level}_question`],
    answer === undefined ? null : el("span", { class: "soft" }, ` → ${answer}`),
    known ? el("span", { class: known.right ? "good" : "bad" }, ` (truth: ${known.answer})`) : null)];
}

function proposalCard(episode, player) {
  const { failure, fields, text } = episode.proposal;
  const body = failure ? [el("p", { class: "bad" }, sentence(failure))] : [
    fields.caption === undefined
      ? el("p", { class: "soft" }, "The caption, the answers and the code are shown once you have answered.")
      : el("p", { class: "text" }, fields.caption),
    el("dl", { class: "asked" }, ...questionLine("easy", fields, episode.truth), ...questionLine("hard", fields, episode.truth)),
  ];
  return el("article", { class: "card role-proposer" },
    el("header", {}, el("h3", {}, "Proposal"), el("span", { class: "soft" }, player + (fields ? ` · ${words(fields.content_type)}` : ""))),
    ...body, rewardOf("Proposer", episode.reward),
    text ? el("details", {}, el("summary", { class: "small" }, "what was written"), el("pre", {}, text)) : null);
}

function voteText(vote) {
  if (!vote) return "";
  if (!vote.valid) return `no vote: none of ${vote.total} counts`;
  return `vote ${vote.winner} (${Math.round(100 * vote.consistency)} % of ${vote.valid})`;
}

function answersOf(level, answers, vote) {
  const items = answers.map((answer) => el("li", {},
    el("b", {}, answer.answer === null ? "no answer in a box" : answer.answer || "an empty box"),
    answer.reward ? el("span", { class: "soft small" }, ` ${signed(answer.reward.value)} = ` +
      answer.reward.terms.map((term) => `${words(term.name)} ${signed(term.value)}`).join(", ")) : null,
    el("div", { class: "soft small" }, answer.reasoning)));
  const summary = el("summary", {}, `${level}: `, vote ? el("b", {}, voteText(vote)) : `${answers.length} ${answers.length === 1 ? "answer" : "answers"}`);
  return el("details", { class: "role-solver", open: true }, summary, el("ol", { class: "answers" }, ...items));
}

function codeCard(code, number, count) {
  const name = count > 1 ? `Picture ${number}` : "Picture";
  let picture = el("p", { class: "soft" }, "being drawn …");
  const flags = code.drawing ? code.drawing.flags : [];
  if (code.drawing && code.drawing.picture) {
    picture = el("div", { class: "frame" }, el("img", { src: code.drawing.picture, alt: `${name}, as the Solver sees it` }));
  } else if (code.drawing) {
    picture = el("div", { class: "blank" }, `Not drawn. ${sentence(code.drawing.failure)}`);
  }
  return el("article", { class: "card role-coder" },
    el("header", {}, el("h3", {}, name)),
    el("div", { class: "shown" },
      el("div", {}, picture,
        flags.length ? el("p", { class: "small soft" }, `changed before drawing: ${flags.join(", ")}`) : null),
      el("div", {}, rewardOf("Coder", code.reward),
        ...["easy", "hard"].filter((level) => code.answers[level])
          .map((level) => answersOf(level, code.answers[level], code.votes && code.votes[level])),
        code.text ? el("details", {}, el("summary", { class: "small" }, "code"), el("pre", {}, code.text)) : null)));
}

function unseenCard({ title, answers, votes }) {
  return el("article", { class: "card role-solver" }, el("header", {}, el("h3", {}, title)),
    ...["easy", "hard"].filter((level) => answers[level]).map((level) => answersOf(level, answers[level], (votes || {})[level])));
}

const drawnParts = new Map();

function part(parent, key, data, make) {
  // What did not change stays, with everything that was opened or scrolled in it.
  const text = JSON.stringify(data), old = drawnParts.get(key);
  if (old && old.text === text && old.node.isConnected) return old.node;
  const node = make();
  if (old && old.node.isConnected) old.node.replaceWith(node); else parent.append(node);
  drawnParts.set(key, { text, node });
  return node;
}

function tellStory(state) {
  const story = byId("story"), { episode, players } = state;
  if (story.dataset.id !== episode.id + "/" + episode.topic || !episode.proposal) {
    story.replaceChildren();
    drawnParts.clear();
    story.dataset.id = episode.id + "/" + episode.topic;
  }
  if (!episode.proposal) return;
  const hidden = Boolean(episode.hidden);
  part(story, "proposal", [episode.proposal, episode.reward, episode.truth, hidden], () => proposalCard(episode, players.proposer));
  const unseen = part(story, "unseen", 0, () => el("div", {}));
  for (const [name, card] of Object.entries(episode.unseen)) part(unseen, `unseen ${name}`, card, () => unseenCard(card));
  const grid = part(story, "pictures", episode.codes.length, () => el("div", { class: episode.codes.length > 1 ? "pictures" : "pictures alone" }));
  // The question below shows the picture itself.
  grid.hidden = Boolean(state.ask && state.ask.role === "solver");
  episode.codes.forEach((code, index) => part(grid, `code ${index}`, code, () => codeCard(code, index + 1, episode.codes.length)));
}

/* Where it stands ---------------------------------------------------------------------------- */

function showSteps(state) {
  const { episode, players } = state;
  const busy = new Set(state.thinking.map((each) => each.role));
  if (state.ask) busy.add(state.ask.role);
  const solved = state.phase === "finished" && episode.reward;
  const done = { proposer: episode.proposal, coder: episode.codes && episode.codes.length, solver: solved, rewards: solved };
  for (const step of [...ROLES, "rewards"]) {
    const item = byId(`step-${step}`);
    item.classList.toggle("done", Boolean(done[step]) && !busy.has(step));
    if (busy.has(step)) item.setAttribute("aria-current", "step"); else item.removeAttribute("aria-current");
    item.querySelector("span").textContent = players[step] || "";
  }
  byId("facts").textContent = episode.id
    ? `topic: ${episode.topic} · seed ${episode.seed} · reward design ${state.design}` : "";
}

function say(text, kind) {
  const status = byId("status");
  if (status.textContent !== text) status.textContent = text;
  status.className = kind || "";
}

function showStatus(state) {
  if (state.phase === "ended") {
    say(state.error ? `It stopped: ${state.error}` : "mmzero play has ended. Start it again to go on.", state.error ? "wrong" : "");
  } else if (state.thinking.length) {
    say(state.thinking.map((each) => `${capital(each.role)} (${each.agent}) is ${each.doing}`).join(", ") + " …", "busy");
  } else if (state.ask) {
    say("It is your turn.");
  } else if (state.phase === "finished") {
    const files = state.written.length ? ` Written: ${state.written.join(", ")}` : "";
    say((state.episode.reward ? "The episode is over." : "You gave the episode up.") + files);
  } else {
    say("One moment …", "busy");
  }
  document.title = (state.ask ? "Your turn · " : "") + "MM-Zero: one episode";
}

/* The person's turn ---------------------------------------------------------------------------- */

const draftKey = (id) => `draft ${id}`;
const fieldsOf = (form) => [...form.elements].filter((field) => field.name);
const valuesOf = (form) => Object.fromEntries(fieldsOf(form).map((field) => [field.name, field.value]));

function showMistakes(form, mistakes) {
  form.querySelectorAll(".mistake").forEach((node) => node.remove());
  let first = null;
  for (const field of fieldsOf(form)) {
    const mistake = mistakes[field.name];
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
    if (!mistake) continue;
    const id = `${field.id}-mistake`;
    field.after(el("p", { class: "mistake", id }, mistake));
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", id);
    first = first || field;
  }
  if (first) first.focus();
}

function turnTitle(ask) {
  const which = ask.of > 1 ? ` (${ask.number} of ${ask.of})` : "";
  if (ask.role === "proposer") return `You are the Proposer${which}`;
  if (ask.role === "coder") return `You are the Coder${which}`;
  return `You are the Solver: ${ask.level} question${ask.from}${which}`;
}

function showTurn(ask) {
  const turn = byId("turn");
  turn.hidden = !ask;
  if ((ask && ask.id) === asked) return;
  asked = ask && ask.id;
  for (const role of ROLES) byId(`form-${role}`).hidden = !ask || ask.role !== role;
  if (!ask) return;
  byId("turn-title").textContent = turnTitle(ask);
  const form = byId(`form-${ask.role}`);
  form.reset();
  showMistakes(form, {});
  if (ask.role === "coder") byId("svg").value = SKETCH;
  const draft = JSON.parse(sessionStorage.getItem(draftKey(ask.id)) || "{}");
  for (const field of fieldsOf(form)) if (field.name in draft) field.value = draft[field.name];
  if (ask.role === "proposer") form.querySelector(".topic").textContent = ask.topic;
  if (ask.role === "coder") {
    byId("preview").hidden = true;
    preview();
  }
  if (ask.role === "solver") {
    byId("seen").parentElement.hidden = !ask.picture;
    if (ask.picture) byId("seen").src = ask.picture;
    byId("read").hidden = Boolean(ask.picture);
    byId("read").textContent = ask.caption || "Neither picture nor caption: what would you guess?";
    byId("question").textContent = ask.question;
  }
  // The Coder needs the proposal beside the form.
  (ask.role === "coder" ? byId("story") : turn).scrollIntoView({ block: "start" });
  byId("turn-title").focus({ preventScroll: true });
}

let previews = 0, timer = 0;

async function preview() {
  const number = ++previews;
  const { status, data } = await call("preview", { svg: byId("svg").value }).catch(() => ({ status: 0, data: {} }));
  if (number !== previews) return;
  const image = byId("preview"), note = byId("preview-note");
  if (status !== 200) {
    note.textContent = data.error || "The preview cannot be drawn now.";
    note.className = "small bad";
    return;
  }
  if (data.picture) {
    image.src = data.picture;
    image.hidden = false;
    note.textContent = data.flags.length ? `changed before drawing: ${data.flags.join(", ")}` : "";
    note.className = "small soft";
  } else {
    note.textContent = `Not drawn. ${sentence(data.failure)}`;
    note.className = "small bad";
  }
  image.classList.toggle("old", !data.picture);
}

function send(form, name, extra) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const buttons = form.querySelectorAll("button");
    buttons.forEach((button) => { button.disabled = true; });
    try {
      const id = asked;
      const { data } = await call(name, { ...valuesOf(form), ...extra() });
      if (data.error) say(data.error, "wrong");
      if (!data.mistakes) return;
      showMistakes(form, data.mistakes);
      if (!Object.keys(data.mistakes).length && id) sessionStorage.removeItem(draftKey(id));
    } catch {
      say("mmzero play cannot be reached; what you typed is still here.", "wrong");
    } finally {
      buttons.forEach((button) => { button.disabled = false; });
    }
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

for (const role of ROLES) {
  const form = byId(`form-${role}`);
  send(form, "answer", () => ({ ask: asked }));
  form.addEventListener("input", () => sessionStorage.setItem(draftKey(asked), JSON.stringify(valuesOf(form))));
}
send(byId("form-next"), "next", () => ({}));
byId("svg").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(preview, PREVIEW_MS); });
if (byId("skip")) byId("skip").addEventListener("click", () => call("skip", {}).catch(() => {}));

/* The loop ------------------------------------------------------------------------------------- */

function show(state) {
  showSteps(state);
  if (state.episode.id) tellStory(state);
  showStatus(state);
  showTurn(state.ask);
  const over = state.phase === "finished" ? `${state.episode.id}/${state.version}` : null;
  byId("again").hidden = !over;
  if (over && over !== finished) byId("seed").value = String(BigInt(state.episode.seed) + 1n);
  finished = over;
}

async function follow() {
  for (;;) {
    let state = null;
    try {
      const response = await fetch(`state?after=${version}`);
      if (response.ok) state = await response.json();
    } catch {
      // Said below.
    }
    if (state === null) {
      say("mmzero play cannot be reached; if it has ended, start it again.", "wrong");
      await new Promise((done) => { setTimeout(done, RETRY_MS); });
      version = -1;
      continue;
    }
    if (state.version !== version) {
      version = state.version;
      show(state);
    }
    if (state.phase === "ended") return;
  }
}

follow();
