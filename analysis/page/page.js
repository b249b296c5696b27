"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const runs = data.runs;
const form = document.getElementById("filter");
const dialog = document.getElementById("run");
let opener = null;

// ---- elements: text always goes in as text, never as HTML

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null).map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

function table(caption, headings, rows, kind = "") {
  const head = make("tr", {}, ...headings.map((name, i) => make("th", { scope: "col", class: i ? null : "label" }, name)));
  const body = rows.map((cells) =>
    make("tr", {}, make("th", { scope: "row" }, cells[0]), ...cells.slice(1).map((cell) => (cell instanceof Node ? cell : make("td", {}, cell ?? "–")))),
  );
  const whole = make("table", { class: kind }, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body));
  return make("div", { class: "box", tabindex: 0, role: "region", "aria-label": caption }, whole);
}

// ---- numbers

const count = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en-US"));
const plain = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(3)).toLocaleString("en-US", { maximumSignificantDigits: 3 }));
const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`);
const isShare = (metric) => /^(DSR|over-refusal|reasoning)/.test(metric);

function measured(metric, cell) { // a string says why there is no number
  if (typeof cell === "string") return make("td", { class: "gap why" }, `– (${cell})`);
  const [value, low, high, n] = cell;
  const show = isShare(metric) ? percent : plain;
  const bounds = low === null ? "" : ` [${show(low)}, ${show(high)}]`.replaceAll(" %", "");
  return make("td", { title: `n = ${count(n)}` }, show(value) + bounds);
}

// ---- sorting: each block of a table by itself, so that means stay below the runs

const number = (text) => {
  const found = text.split("→").pop().trim().replace(/,/g, "").replace("−", "-").match(/^[<≈]?\s*([+-]?\d*\.?\d+)(?:\/(\d*\.?\d+))?/);
  return found ? Number(found[1]) / Number(found[2] ?? 1) : NaN;
};

function sortBy(heading, column) {
  const whole = heading.closest("table");
  const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of whole.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const isText = heading.classList.contains("label");
  for (const body of whole.tBodies) {
    const keyed = [...body.rows].map((row) => {
      const text = row.cells[column].textContent.trim();
      return { row, text, value: number(text) };
    });
    const numeric = !isText && keyed.some(({ value }) => !isNaN(value));
    keyed.sort((a, b) => {
      if (!numeric) return sign * a.text.localeCompare(b.text, "en", { numeric: true });
      if (isNaN(a.value) || isNaN(b.value)) return isNaN(a.value) - isNaN(b.value); // gaps last, in both orders
      return sign * (a.value - b.value);
    });
    body.append(...keyed.map(({ row }) => row));
  }
}

for (const heading of document.querySelectorAll("table.sortable thead th:not([data-fixed])")) {
  const button = make("button", { type: "button", onclick: () => sortBy(heading, heading.cellIndex) }, ...heading.childNodes);
  heading.append(button);
}

// ---- filtering: rows of runs by all fields, rows of means by what is known of them

const words = runs.map((run) => [run.pair, run.family, run.granularity, run.search, run.dataset, run.state, run.sweep, run.identity, run.folder, ...(run.units ?? [])].join(" ").toLowerCase());

function matches(run, wanted) {
  return ["sweep", "family", "granularity"].every((name) => !wanted[name] || runs[run][name] === wanted[name]) && wanted.text.every((word) => words[run].includes(word));
}

function filter() {
  const value = (name) => form.elements[name]?.value ?? "";
  const wanted = { sweep: value("sweep"), family: value("family"), granularity: value("granularity"), text: value("text").toLowerCase().split(/\s+/).filter(Boolean) };
  const kept = runs.map((_, i) => matches(i, wanted));
  for (const row of document.querySelectorAll("main tbody tr")) {
    const { run, family, granularity } = row.dataset;
    row.hidden = run !== undefined ? !kept[run] : Boolean((family && wanted.family && family !== wanted.family) || (granularity && wanted.granularity && granularity !== wanted.granularity));
  }
  const shown = kept.filter(Boolean).length;
  document.getElementById("shown").textContent = shown === runs.length ? `${shown} runs` : `${shown} of ${runs.length} runs`;
}

window.addEventListener("beforeprint", () => document.querySelectorAll("main details").forEach((part) => (part.open = true)));
for (const kind of ["input", "change"]) form.addEventListener(kind, filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", (event) => {
  event.preventDefault();
  for (const field of form.elements) if (field.name) field.value = "";
  filter();
});

// ---- a run

const PARTS = ["attention", "mlp.router", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];

function map(run) {
  const needed = new Map(run.certificate.map(([unit, , , dsr]) => [unit, dsr]));
  const holds = (unit, layer, part) => {
    const whole = `layers.${layer}.${part}`;
    return whole === unit || whole.startsWith(`${unit}.`);
  };
  const parts = PARTS.filter((part) => part !== "mlp.router" || run.units.some((unit) => unit.endsWith(".router")));
  const layers = [...Array(run.layers).keys()];
  const rows = parts.map((part) => [
    part.replace("mlp.", ""),
    ...layers.map((layer) => {
      const unit = run.units.find((name) => holds(name, layer, part));
      if (!unit) return make("td", {}, "");
      const without = needed.has(unit) ? `; without it at most ${percent(needed.get(unit))}` : "";
      return make("td", { class: "found", title: unit + without }, "●");
    }),
  ]);
  return table("Units found (●), by layer and part", ["layer", ...layers], rows, "map");
}

function settings(run) {
  const own = Object.entries(data.varying).map(([key, values], i) => [key, values[run.settings[i]], true]);
  const all = [...own, ...Object.entries(data.shared).map(([key, value]) => [key, value, false])].filter(([, value]) => value !== "");
  const rows = all.map(([key, value, varies]) => [key, make("td", { class: "wide" }, value), varies ? "varies" : "the same"]);
  return make("details", {}, make("summary", {}, "Config: every setting that can change the result"), rows.length ? table("Config", ["key", "value", "between the runs of this page"], rows) : make("p", {}, "not recorded"));
}

function answers(run) {
  if (!run.answers) return null;
  const toggle = make("button", { type: "button", "aria-pressed": "false", onclick: () => {
    const clear = toggle.getAttribute("aria-pressed") === "false";
    toggle.setAttribute("aria-pressed", String(clear));
    for (const text of whole.querySelectorAll(".answer-text")) text.classList.toggle("clear", clear);
  } }, "Show the answers unblurred");
  const samples = run.answers.flatMap(([prompt, ...given]) => [
    make("h4", {}, prompt),
    ...given.map((answer, i) => answer && make("div", {}, make("span", { class: "dim" }, `${data.subjects[i]} (${answer[1]})`), make("div", { class: "answer-text" }, answer[0]))),
  ]);
  const whole = make("details", {}, make("summary", {}, "Sample answers to harmful prompts (blurred)"), toggle, ...samples);
  return whole;
}

function details(run) {
  if (run.state !== "done") return [make("p", {}, `This run is ${run.state}: ${run.reason}`), settings(run)];
  const [moved, differing, total] = run.parameters;
  const [k, mean, draws, p] = run.random;
  const found = run.units.length ? run.units.join(", ") : "none";
  const metric = (row) => [row[0], ...row.slice(1).map((cell) => measured(row[0], cell))];
  const change = ([name, against, cell, p]) => [`${name}, hybrid − ${against}`, measured(name === "perplexity" ? "" : name, cell), p === null ? "–" : p < 0.001 ? "< .001" : plain(p)];
  const ledger = run.ledger;
  const versions = data.provenances[run.provenance];
  return [
    make("p", {}, `${run.title}: teacher ${run.teacher}, student ${run.student} (${run.model_type}, ${run.layers} layers).${run.made_here ? " Made here: no evidence about real models." : ""}`),
    make("h3", {}, "What was transplanted"),
    make("p", {}, `${run.units.length} of ${run.units_total} units (${run.granularity}): ${found}. ${count(moved)} of ${count(total)} parameters (${plain(run.percent)} %)${differing === null ? "" : `, of which ${count(differing)} differ`}; method ${run.method}.`),
    map(run),
    make("h3", {}, "What was measured"),
    table("Metrics, with 95 % intervals", ["metric", ...data.subjects], run.metrics.map(metric)),
    table("Hybrid compared on the same rows", ["comparison", "difference [95 %]", "p"], run.changes.map(change)),
    table("Verdicts on the answers to report prompts", ["verdict", ...data.subjects], run.outcomes),
    make("p", {}, mean === null ? "Random sets: not measured in this run." : `${draws} random sets of ${k} units: DSR ${percent(mean)} on average${p === null ? "" : `; p = ${plain(p)} that one does as well`}.`),
    make("h3", {}, "Certificate"),
    run.certificate.length
      ? table(`Each unit is needed: without it, the set failed the bar of ${percent(run.bar)}`, ["without", "DSR at most", "prompts asked", "query"], run.certificate.map(([unit, query, prompts, dsr]) => [unit, percent(dsr), prompts, query]))
      : make("p", {}, `None: ${run.status.replace("_", " ")}${run.stopped_by ? `, stopped by ${run.stopped_by}` : ""}.`),
    make("h3", {}, "Cost"),
    make("p", {}, `Search (${run.search}): ${count(ledger.queries)} queries, ${count(ledger.cache_hits)} repeated sets, ${count(ledger.prompts)} prompts, ${count(ledger.tokens)} tokens, ${plain(ledger.seconds)} s.${run.prior ? ` Prior ${run.prior[0]}: ${plain(run.prior[1])} s.` : ""}`),
    table("Cost by stage", ["stage", "seconds", "tokens generated", "peak memory, MB"], run.cost.map(([stage, seconds, tokens, bytes]) => [stage, plain(seconds), count(tokens), count(Math.round(bytes / 1e6))])),
    answers(run),
    make("h3", {}, "Provenance"),
    settings(run),
    make("p", { class: "dim" }, `Identity `, make("code", {}, run.identity)),
    make("p", { class: "dim" }, `Folder ${run.sweep}/${run.folder}. Recorded ${run.created}. ${software(versions)}`),
  ];
}

function software(about) {
  const versions = Object.entries(about.versions).map(([name, version]) => `${name} ${version}`);
  const judges = Object.entries(about.judges).map(([name, version]) => `judge ${name} version ${version}`);
  return [...versions, ...judges, about.platform, `seed ${about.seed}`, about.git ? `commit ${about.git}` : "commit not known"].join(", ") + ".";
}

function open(index) {
  const run = runs[index];
  const visible = [...document.querySelectorAll("#table-runs tbody tr:not([hidden])")].map((row) => Number(row.dataset.run));
  const at = visible.indexOf(index);
  const step = (to, text) => make("button", { type: "button", disabled: to === undefined, onclick: () => show(to) }, text);
  const title = [run.pair, run.granularity, run.search].filter(Boolean).join(" · ");
  dialog.replaceChildren(
    make("div", { class: "bar" }, make("h2", { id: "run-title", tabindex: -1 }, title), make("div", {}, step(visible[at - 1], "‹ previous"), " ", step(visible[at + 1], "next ›"), " ", make("button", { type: "button", onclick: () => dialog.close() }, "Close"))),
    ...details(run).filter(Boolean),
  );
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  document.getElementById("run-title").focus();
}

const name = (run) => `run-${runs[run].identity.slice(0, 8) || run}`;

function show(index) {
  history.replaceState(null, "", `#${name(index)}`);
  open(index);
}

function fromAddress() {
  const index = runs.findIndex((_, i) => `#${name(i)}` === location.hash);
  if (index >= 0) open(index);
}

dialog.addEventListener("close", () => {
  history.replaceState(null, "", "#runs");
  opener?.focus();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.open");
  if (!button) return;
  opener = button;
  show(Number(button.dataset.run));
});
window.addEventListener("hashchange", fromAddress);

document.getElementById("software").append(make("ul", {}, ...data.provenances.map((about, i) => make("li", {}, `${runs.filter((run) => run.provenance === i).length} runs: ${software(about)}`))));
filter();
fromAddress();
