"use strict";
/* The samples: unpacked, filtered, listed, shown. Whatever a model wrote is put on the page as text. */

const ROW = 74; /* height of a row in the list, as in the style sheet: 4.6rem */
const samples = []; /* one object a draft, as `report/rows.py` packs them, with its run */
const byId = runs.map(() => new Map()); /* by id, also by the ids that a draft carries further */
const named = runs.map((run) => new Map()); /* instructions of what the drafts speak of, by id */
const children = runs.map(() => new Map()); /* drafts by the id that they were made from */
const hooks = { keys: {}, load: async () => {}, actions: () => null }; /* what a review adds: review.js */
let found = [];
let chosen = null;

async function unpack(element) {
  const bytes = Uint8Array.from(atob(element.textContent), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  take(Number(element.dataset.run), JSON.parse(await new Response(stream).text()));
  element.remove();
}

function take(run, block) {
  const keys = Object.keys(block.rows);
  for (let place = 0; place < block.rows.id.length; place++) {
    const row = { run };
    for (const key of keys) row[key] = block.rows[key][place];
    samples.push(row);
    for (const id of [row.id, ...row.chain]) byId[run].set(id, row);
    if (row.parent) children[run].set(row.parent, [...(children[run].get(row.parent) || []), row]);
  }
  for (const [id, text] of Object.entries(block.named)) named[run].set(id, text);
}

/** In the order of the ledger: by job, then by place. */
function order(one, other) {
  const [a, b] = [one.id.split(".").map(Number), other.id.split(".").map(Number)];
  return one.run - other.run || a[0] - b[0] || a[1] - b[1];
}

/* -- elements ---------------------------------------------------------------------------------------------------- */

function make(tag, properties = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...inside.filter((one) => one !== null && one !== undefined));
  return element;
}

/** Control characters become their pictures, so that nothing is invisible and nothing is obeyed. */
const visible = (text) =>
  text
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (char) => String.fromCharCode(0x2400 + char.charCodeAt(0)))
    .replace(
      /[\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g,
      (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );

/** A text that a model wrote, in its own direction, with what is searched for marked. */
function words(text, kind = "words") {
  const element = make("p", { className: kind, dir: "auto" });
  const shown = visible(text),
    query = search.query.value.toLowerCase().trim();
  let from = 0;
  for (let at; query && (at = shown.toLowerCase().indexOf(query, from)) >= 0 && from < 1e5; from = at + query.length) {
    element.append(shown.slice(from, at), make("mark", {}, shown.slice(at, at + query.length)));
  }
  element.append(shown.slice(from));
  return element;
}

const plain = (name) => String(name).replaceAll("_", " ");
const isolated = (text) => make("bdi", {}, visible(String(text)));

/* -- filters ----------------------------------------------------------------------------------------------------- */

const search = { query: document.getElementById("query"), choices: {}, offered: [] };
const CHOICES = [
  ["run", "Run", (row) => (two ? runs[row.run].name : null)],
  ["verdict", "Verdict", (row) => verdict(row)],
  ["stage", "Stage", (row) => row.stage],
  ["category", "Category", (row) => row.category],
  ["filter", "Dropped by", (row) => (row.kept ? null : row.filter)],
  ["reason", "Reason", (row) => (row.kept ? null : row.reason)],
  [
    "review",
    "Reviewed",
    (row) => (row.review ? (row.review.keep ? (row.review.edited ? "edited" : "kept") : "dropped") : null),
  ],
];

/** The facets that drafts have, to choose by as by everything else. */
function facetChoices() {
  const names = new Set(samples.flatMap((row) => Object.keys(row.facets)));
  const known = new Set(CHOICES.map(([key]) => key));
  return [...names].filter((name) => !known.has(name)).map((name) => [name, titled(name), (row) => row.facets[name]]);
}

const titled = (name) => visible(plain(name)).replace(/^./u, (letter) => letter.toUpperCase());
const byNumber = new Intl.Collator("en", { numeric: true }).compare;
const verdict = (row) => ((row.review ? row.review.keep : row.kept) ? "kept" : "dropped");

function choices() {
  const place = document.getElementById("choices");
  const before = Object.fromEntries(Object.entries(search.choices).map(([key, select]) => [key, select.value]));
  place.replaceChildren();
  search.choices = {};
  const facets = facetChoices();
  search.offered = [...CHOICES, ...facets];
  for (const [key, label, of] of search.offered) {
    const counts = new Map();
    for (const row of samples) {
      const value = of(row);
      if (value !== null && value !== undefined) counts.set(value, (counts.get(value) || 0) + 1);
    }
    if (counts.size < (key === "reason" || key === "filter" || key === "review" ? 1 : 2)) continue;
    const named = facets.some(([facet]) => facet === key);
    const options = [...counts].sort((a, b) => (named ? byNumber(a[0], b[0]) : b[1] - a[1]));
    const select = make(
      "select",
      { name: key },
      make("option", { value: "" }, "all"),
      ...options.map(([value, count]) =>
        make("option", { value }, `${visible(plain(value))} (${number.format(count)})`),
      ),
    );
    select.value = before[key] || "";
    search.choices[key] = select;
    place.append(make("label", {}, label, select));
  }
}

function matches() {
  const query = search.query.value.toLowerCase().trim();
  const wanted = search.offered.filter(([key]) => search.choices[key]?.value).map(([key, , of]) => [
    of,
    search.choices[key].value,
  ]);
  return samples.filter(
    (row) => wanted.every(([of, value]) => String(of(row)) === value) && (!query || textOf(row).includes(query)),
  );
}

function textOf(row) {
  row.text ??= [row.id, row.instruction, ...row.instances.flatMap(said), row.answer || ""].join("\n").toLowerCase();
  return row.text;
}

/** All texts of an instance. */
function said([given, made, more = {}]) {
  const turns = (more.turns || []).flatMap((turn) => [turn.content, turn.reasoning || ""]);
  return [given, ...turns, more.reasoning || "", made, ...(more.rivals || []).map((rival) => rival.output)];
}

function filter() {
  found = matches();
  const all = found.length === samples.length ? "" : ` of ${number.format(samples.length)}`;
  document.getElementById("count").textContent = `${number.format(found.length)}${all} drafts`;
  list.sizer.style.height = `${found.length * ROW}px`;
  list.box.scrollTop = 0;
  choose(found.includes(chosen) ? chosen : found[0] || null);
}

/* -- the list ---------------------------------------------------------------------------------------------------- */

const list = { box: document.getElementById("list"), sizer: document.getElementById("sizer") };

/** Only the rows in view are on the page. */
function rows() {
  const first = Math.max(0, Math.floor(list.box.scrollTop / ROW) - 4);
  const last = Math.min(found.length, first + Math.ceil(list.box.clientHeight / ROW) + 8);
  list.sizer.replaceChildren(...found.slice(first, last).map((row, offset) => option(row, first + offset)));
  const active = found.indexOf(chosen);
  if (active >= first && active < last) list.box.setAttribute("aria-activedescendant", `row-${active}`);
  else list.box.removeAttribute("aria-activedescendant");
}

function option(row, place) {
  const head = make(
    "div",
    { className: "head" },
    two ? make("i", { className: `key run${row.run}` }) : null,
    make("span", {}, row.id),
    badge(row),
    make("span", {}, faceted(row) || row.stage),
  );
  const text = make(
    "div",
    { className: "text", dir: "auto" },
    visible((row.review?.instruction ?? row.instruction) || row.answer || "(no text)").slice(0, 300),
  );
  const element = make(
    "div",
    {
      role: "option",
      id: `row-${place}`,
      "aria-setsize": found.length,
      "aria-posinset": place + 1,
      "aria-selected": row === chosen,
    },
    head,
    text,
  );
  element.style.top = `${place * ROW}px`;
  element.style.height = `${ROW}px`;
  element.addEventListener("click", () => choose(row));
  return element;
}

const faceted = (row) => visible(Object.values(row.facets).map(plain).join(" · "));

function badge(row) {
  const by = row.review ? " by a person" : "";
  if (verdict(row) === "kept")
    return make("span", { className: "kept" }, (row.review?.edited ? "edited" : "kept") + by);
  return make("span", { className: "drop" }, row.review ? `dropped${by}` : plain(row.reason));
}

function choose(row) {
  chosen = row;
  const place = found.indexOf(row);
  if (place >= 0) {
    if (place * ROW < list.box.scrollTop) list.box.scrollTop = place * ROW;
    if ((place + 1) * ROW > list.box.scrollTop + list.box.clientHeight)
      list.box.scrollTop = (place + 1) * ROW - list.box.clientHeight;
  }
  rows();
  detail();
}

function move(by) {
  const place = found.indexOf(chosen) + by;
  if (found.length) choose(found[Math.min(found.length - 1, Math.max(0, place))]);
}

/* -- one sample -------------------------------------------------------------------------------------------------- */

function detail() {
  const place = document.getElementById("detail");
  place.scrollTop = 0;
  if (!chosen) return place.replaceChildren(make("p", { className: "note" }, "Nothing matches."));
  place.replaceChildren(
    ...[facts_of(chosen), hooks.actions(chosen), ...texts(chosen), why(chosen), lineage(chosen), family(chosen)].filter(
      Boolean,
    ),
  );
}

function facts_of(row) {
  const parts = [
    row.id,
    row.stage,
    row.category,
    ...Object.entries(row.facets).map(([name, value]) => `${plain(name)} ${plain(value)}`),
    row.tools.length && `tools ${row.tools.join(", ")}`,
  ].filter(Boolean);
  return make(
    "div",
    { className: "facts" },
    two ? isolated(runs[row.run].name) : null,
    badge(row),
    ...parts.map(isolated),
  );
}

function texts(row) {
  const now = row.review?.edited ? row.review : row;
  return [
    ...(row.system ? [label("system"), words(row.system)] : []),
    now.instruction ? words(now.instruction, "words instruction") : null,
    ...now.instances.map(instance),
    ...(row.answer ? [make("h3", {}, "What the model answered"), words(row.answer)] : []),
    ...(now === row
      ? []
      : [make("h3", {}, "As the model wrote it"), words(row.instruction), ...row.instances.map(instance)]),
  ];
}

const label = (text) => make("p", { className: "label" }, visible(text));
const part = (name, text) => (text ? [label(name), words(text)] : []);

/** What an instance has: input, what was said in between, thoughts, output, and what was held against it. */
function instance([given, made, more = {}]) {
  const scored = (one) => (one.score === undefined || one.score === null ? "" : ` · score ${one.score}`);
  return make(
    "div",
    { className: "instance" },
    ...part("input", given),
    ...(more.turns || []).flatMap(turn),
    ...part("thoughts", more.reasoning),
    ...(made || !more.turns?.length ? [label(`output${scored(more)}`), words(made)] : []),
    ...(more.rivals || []).flatMap((rival) => [
      label(`rival${rival.by ? ` by ${rival.by}` : ""}${scored(rival)}`),
      ...(rival.reasoning ? [words(rival.reasoning)] : []),
      words(rival.output),
    ]),
    ...(more.checks || []).flatMap((check) => part(`check: ${check.kind}`, check.text)),
  );
}

function turn(one) {
  const untrained = one.train === false ? " · not trained on" : "";
  const of = one.call ? ` · answers ${one.call}` : "";
  return [
    ...part(`${one.role}: thoughts`, one.reasoning),
    ...(one.content || !one.calls ? [label(one.role + of + untrained), words(one.content)] : []),
    ...(one.calls || []).flatMap(called),
  ];
}

const called = (call) =>
  part(`calls ${call.tool}${call.id ? ` as ${call.id}` : ""}`, JSON.stringify(call.arguments || {}, null, 2));

function why(row) {
  if (row.kept && !row.review) return null;
  const by = row.kept
    ? "The filters kept it."
    : `Dropped by ${row.filter}: ${plain(row.reason)}${row.detail ? ` (${row.detail})` : ""}.`;
  return make(
    "div",
    {},
    make("h3", {}, "Why"),
    make("p", { className: "words", dir: "auto" }, visible(by)),
    row.review?.note ? words(row.review.note) : null,
    nearest(row),
  );
}

function nearest(row) {
  if (!row.of) return null;
  const score = row.score === null ? "" : ` (ROUGE-L ${Number(row.score).toFixed(3)})`;
  return make("p", { className: "words" }, `Nearest${score}: `, reference(row.run, row.of));
}

/** Another draft or seed: a button where the page has it, else its text. */
function reference(run, id) {
  const row = byId[run].get(id);
  const text = row ? row.instruction : named[run].get(id);
  const shown = make("bdi", {}, text ? `${id} · ${visible(text).slice(0, 200)}` : id);
  if (!row || row === chosen) return shown;
  const button = make("button", { className: "link", type: "button" }, shown);
  button.addEventListener("click", () => choose(row));
  return button;
}

function lineage(row) {
  const items = [...row.chain].reverse().map((id) => make("li", {}, `kept before as ${id}`));
  if (row.from.length && !row.parent)
    items.unshift(
      make("li", {}, "its prompt showed ", ...row.from.flatMap((id, place) => [place ? ", " : "", short(row.run, id)])),
    );
  if (!items.length) return null;
  return make("div", {}, make("h3", {}, "How it came about"), make("ul", { className: "family" }, ...items));
}

function short(run, id) {
  const row = byId[run].get(id),
    shown = make("bdi", {}, id);
  if (!row) return shown;
  const button = make("button", { className: "link", type: "button" }, shown);
  button.addEventListener("click", () => choose(row));
  return button;
}

/** The tree that a draft stands in, from the source of its family. */
function family(row) {
  if (!row.family) return null;
  const branch = (id) => make("li", {}, reference(row.run, id), offspring(id));
  const offspring = (id) => {
    const ids = new Set((byId[row.run].get(id)?.chain || []).concat(id));
    const born = [...ids].flatMap((one) => children[row.run].get(one) || []);
    return born.length ? make("ul", {}, ...born.sort(order).map((child) => grown(child))) : null;
  };
  const grown = (child) =>
    make("li", {}, badge(child), ` ${faceted(child) || child.stage}: `, reference(row.run, child.id), offspring(child.id));
  return make("div", {}, make("h3", {}, "Its family"), make("ul", { className: "family" }, branch(row.family)));
}
