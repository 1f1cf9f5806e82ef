"use strict";
/* Decisions: keep, drop, edit, undo. Each is sent at once; the page shows what the ledger says. */

const STEPS = []; /* what `undo` goes back through: [row, its review before] */
const here = (row) => row.stage === runs[row.run].stage && row.instances.length > 0 && !row.answer;
let editing = false;

async function send(row, review) {
  const answer = await fetch("reviews", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ draft: row.id, ...review }),
  }).catch((error) => ({
    ok: false,
    json: async () => ({ error: `${error.message}: is \`selfinstruct review\` still running?` }),
  }));
  const said = await answer.json().catch(() => ({ error: "refused" }));
  if (!answer.ok) return tell(said.error);
  row.review = said.keep === null ? null : known(said);
  row.text = undefined;
  choices();
  tell(`${row.id}: ${row.review ? (row.review.edited ? "edited" : verdict(row)) : "as the filters said"}`);
  return true;
}

/** A review as rows have it. */
function known(review) {
  const row = byId[0].get(review.draft);
  return {
    keep: review.keep,
    edited: review.instruction !== null || review.instances !== null,
    instruction: review.instruction ?? row.instruction,
    instances: review.instances ? review.instances.map(packed) : row.instances,
  };
}

/** An instance as rows have it, and as the ledger has it. */
const packed = ({ input, output, ...more }) => [input, output, more];
const unfolded = ([input, output, more = {}]) => ({ ...more, input, output });

function tell(line) {
  document.getElementById("said").textContent = line;
}

const edited = (review) =>
  review?.edited
    ? { instruction: review.instruction, instances: review.instances.map(unfolded) }
    : {};

async function decide(keep, edit) {
  const row = chosen;
  if (!row || !here(row)) return tell("Only complete tasks can be reviewed.");
  const before = row.review;
  if (!(await send(row, { keep, ...(keep ? edit || edited(before) : {}) }))) return;
  STEPS.push([row, before]);
  editing = false;
  if (edit) choose(row);
  else move(1);
  list.box.focus();
}

async function undo() {
  const step = STEPS.pop();
  if (!step) return tell("Nothing to undo.");
  const [row, before] = step;
  await send(row, before ? { keep: before.keep, ...edited(before) } : { keep: null });
  choose(row);
}

function edit() {
  if (!chosen || !here(chosen)) return tell("Only complete tasks can be reviewed.");
  editing = true;
  detail();
  document.querySelector("#detail textarea").focus();
}

function actions(row) {
  if (!here(row)) return make("p", { className: "note" }, "Not a complete task: it can be read, not reviewed.");
  if (editing) {
    editing = false;
    return form(row);
  }
  const button = (label, key, act) => {
    const one = make("button", { type: "button" }, label, " ", make("kbd", {}, key));
    one.addEventListener("click", act);
    return one;
  };
  return make(
    "div",
    { className: "actions" },
    button("Keep", "a", () => decide(true)),
    button("Drop", "d", () => decide(false)),
    button("Edit", "e", edit),
    button("Undo", "u", undo),
  );
}

function form(row) {
  const now = row.review?.edited ? row.review : row;
  const area = (label, value) => {
    const box = make("textarea", { value, dir: "auto", spellcheck: true });
    return [make("label", { className: "edit" }, label, box), box];
  };
  const [asked, instruction] = area("Instruction", now.instruction);
  const cases = now.instances.map((one) => editable(one, area));
  const save = () => decide(true, { instruction: instruction.value, instances: cases.map(([, read]) => read()) });
  const element = make(
    "form",
    { className: "editing", "aria-label": `Edit ${row.id}` },
    make("h3", {}, "Edit"),
    asked,
    ...cases.flatMap(([fields]) => fields),
    make(
      "div",
      { className: "actions" },
      make("button", { type: "submit" }, "Save ", make("kbd", {}, "Ctrl+Enter")),
      make("button", { type: "reset" }, "Cancel ", make("kbd", {}, "Esc")),
    ),
  );
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  element.addEventListener("reset", (event) => {
    event.preventDefault();
    detail();
    list.box.focus();
  });
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape") element.reset();
    if (event.key === "Enter" && event.ctrlKey) {
      event.preventDefault();
      save();
    }
  });
  return element;
}

/** The fields of an instance in the order in which it is read, and a function that reads them; calls stay. */
function editable(one, area) {
  const [given, made, { turns = [], ...more } = {}] = one;
  const [asked, input] = area("Input", given);
  const [told, output] = area("Output", made);
  const said = turns.map((turn) => area(`Turn of the ${turn.role}`, turn.content));
  const between = turns.flatMap((turn, place) => [said[place][0], ...(turn.calls || []).flatMap(called)]);
  const read = () => ({
    ...more,
    turns: turns.map((turn, place) => ({ ...turn, content: said[place][1].value })),
    input: input.value,
    output: output.value,
  });
  return [[asked, ...between, told], read];
}

const HELP = [
  ["j, k, ↓, ↑", "next, previous"],
  ["a", "keep"],
  ["d", "drop"],
  ["e", "edit"],
  ["Ctrl+Enter, Esc", "save, leave the edit"],
  ["u", "undo the last decision"],
  ["/", "search"],
  ["?", "this help"],
];

function help() {
  const dialog = document.getElementById("help");
  const close = make("button", { type: "button" }, "Close");
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(
    make("h2", { id: "help-title" }, "Keys"),
    make(
      "table",
      {},
      make(
        "tbody",
        {},
        ...HELP.map(([key, what]) => make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, what))),
      ),
    ),
    make(
      "p",
      {},
      "Decisions are in the run's ledger at once. Exports leave out what was dropped, and hold what was kept and edited;",
      " the run itself goes on as if nobody had looked.",
    ),
    close,
  );
  dialog.showModal();
}

/** What was decided before, then straight to the samples. */
async function load() {
  for (const review of await (await fetch("reviews")).json()) {
    const row = byId[0].get(review.draft);
    if (row) row.review = known(review);
  }
  document.getElementById("samples").scrollIntoView();
  list.box.focus({ preventScroll: true });
}

Object.assign(hooks, {
  actions,
  load,
  keys: { a: () => decide(true), d: () => decide(false), e: edit, u: undo, "?": help },
});
