// The settings form: checked by the server as one types, reviewed before it is saved, saved through Airflow's API.

import { Refused, address, askAirflow, askPage, say } from "./page.js";
import { begin, forgetDraft, keepDraft } from "./drafts.js";
import { Editor, download, drawChanges, drawComparison, element } from "./drawing.js";

const here = document.getElementById("settings");
const flow = here.dataset.flow;
const editable = here.dataset.editable === "yes";
const place = `flows/${encodeURIComponent(flow)}/settings`;
const variable = `order_cancel_flow__${flow}`;
const INDEX = "order_cancel_flows";
const PAUSE = 300;
const PLANS = 20;

const byId = (id) => document.getElementById(id);
const form = byId("form");
const editors = new Map();
let state = { loaded: null, text: "", problems: [], changes: [] };
let asJson = false;
let typing = 0;
let asked = 0;

for (const area of document.querySelectorAll("[data-editor] textarea")) editors.set(area.id, new Editor(area));
const jsonEditor = editors.get("json-text");

// Values

function sourceParts(box) {
  return {
    forms: [...box.querySelectorAll("input[type=radio]")],
    text: editors.get(box.querySelector("textarea").id),
    file: box.querySelector("[data-form=file] input"),
  };
}

function showForm(box) {
  const chosen = sourceParts(box).forms.find((one) => one.checked)?.value;
  for (const part of box.querySelectorAll("[data-form]")) part.hidden = part.dataset.form !== chosen;
}

function fill(values) {
  for (const input of form.querySelectorAll("[data-path]")) {
    const value = values[input.dataset.path];
    if (input.dataset.kind === "source") {
      const { forms, text, file } = sourceParts(input);
      for (const one of forms) one.checked = one.value === value.form;
      text.text = value.text;
      file.value = value.file;
      showForm(input);
    } else if (input.type === "checkbox") input.checked = value;
    else if (input.tagName === "SELECT") choose(input, value);
    else input.value = value;
  }
  showInner();
}

function choose(select, value) {
  if (![...select.options].some((option) => option.value === value)) select.append(new Option(value, value));
  select.value = value;
}

function showInner() {
  for (const inner of form.querySelectorAll("[data-inner]")) {
    inner.hidden = !form.querySelector(`input[data-path="${inner.dataset.inner}"]`).checked;
  }
}

function values() {
  const found = {};
  for (const input of form.querySelectorAll("[data-path]")) {
    if (input.dataset.kind === "source") {
      const { forms, text, file } = sourceParts(input);
      const chosen = forms.find((one) => one.checked)?.value ?? "none";
      found[input.dataset.path] = { form: chosen, text: chosen === "text" ? text.text : "", file: chosen === "file" ? file.value : "" };
    } else found[input.dataset.path] = input.type === "checkbox" ? input.checked : input.value;
  }
  return found;
}

// Problems

function nearest(path) {
  for (let at = path; at; at = at.slice(0, Math.max(0, at.lastIndexOf(".")))) {
    const found = form.querySelector(`[data-problem="${CSS.escape(at)}"]`);
    if (found) return found;
  }
  return null;
}

function drawProblems() {
  for (const box of form.querySelectorAll("[data-problem]")) {
    box.hidden = true;
    box.textContent = "";
  }
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  for (const editor of editors.values()) editor.mark([]);
  for (const problem of state.problems) {
    const box = nearest(problem.path);
    if (box === null) continue;
    const words = box.dataset.problem === problem.path ? problem.message : `${problem.path}: ${problem.message}`;
    box.textContent = box.textContent ? `${box.textContent}\n${words}` : words;
    box.hidden = false;
    const input = form.querySelector(`[aria-describedby~="${box.id}"]`);
    if (box.id && input) {
      input.setAttribute("aria-invalid", "true");
      const line = /\bline (\d+)/.exec(problem.message);
      if (line) editors.get(input.id)?.mark([Number(line[1])]);
    }
  }
  for (const section of form.querySelectorAll("[data-section]")) {
    const count = section.querySelectorAll(".problem:not([hidden])").length;
    const badge = section.querySelector("summary [data-count]");
    badge.hidden = count === 0;
    badge.textContent = `${count} to mend`;
  }
}

function drawState() {
  const { problems, warnings = [] } = state;
  const changed = editable && state.text !== (state.loaded ?? "");
  const parts = [];
  if (problems.length > 0) {
    const rest = problems.filter((problem) => nearest(problem.path) === null);
    const lines = rest.map((problem) => `${problem.path}: ${problem.message}`.replace(/^: /, "The text "));
    const count = problems.length === 1 ? "There is 1 thing to mend." : `There are ${problems.length} things to mend.`;
    parts.push(element("p", "notice bad", [count, ...lines].join("\n")));
  } else parts.push(element("p", "notice good", changed ? "These settings are valid and not saved yet." : "These settings are valid."));
  for (const warning of warnings) parts.push(element("p", "notice wait", warning));
  byId("state").replaceChildren(...parts);
  byId("draft").hidden = !changed;
  if (!editable) return;
  byId("save").disabled = !changed || problems.length > 0;
  byId("would-change").disabled = problems.length > 0;
}

function take(found) {
  state = { ...state, ...found };
  drawProblems();
  drawState();
}

// Checking

async function check(body) {
  const mine = ++asked;
  try {
    const found = await askPage("POST", `${place}/check`, { ...body, loaded: state.loaded ?? "" });
    if (mine !== asked) return null;
    take(found);
    keepOrForget();
    return found;
  } catch (error) {
    if (mine === asked) say(error.message, "bad");
    return null;
  }
}

function keepOrForget() {
  if (state.text === (state.loaded ?? "")) forgetDraft(flow);
  else keepDraft(flow, state.loaded, state.text);
}

// The form's values are laid over the text with which the form was filled, so that what it does not know stays.
let ground = "";

function checkNow() {
  clearTimeout(typing);
  typing = 0;
  return asJson ? check({ text: jsonEditor.text }) : check({ text: ground, values: values() });
}

function typed() {
  clearTimeout(typing);
  typing = setTimeout(checkNow, PAUSE);
  asked += 1;
  if (editable) byId("save").disabled = true;
}

async function replaceWith(text, words) {
  const found = await check({ text });
  if (found === null) return;
  ground = found.text;
  jsonEditor.text = found.text;
  fill(found.values);
  drawProblems();
  if (words) say(words);
}

async function showJson(wanted) {
  await checkNow();
  asJson = wanted;
  ground = state.text;
  if (wanted) jsonEditor.text = state.text;
  else fill(state.values);
  drawProblems();
  byId("json").hidden = !wanted;
  form.hidden = wanted;
  byId("as-json").setAttribute("aria-pressed", String(wanted));
}

// Saving

const touches = ["script", "mapping", "erp.http_method", "erp.cancellation_api_url"];

async function compare() {
  return askPage("POST", `${place}/compare`, { text: state.text, plans: PLANS });
}

async function review() {
  const found = await checkNow();
  if (found === null || found.problems.length > 0) return;
  drawReview(found);
  byId("review").showModal();
  if (!found.changes.some((change) => touches.some((path) => change.path === path || change.path.startsWith(`${path}.`)))) return;
  const box = byId("review-compare");
  box.replaceChildren(element("p", "muted", "Trying the change on the last plans."));
  try {
    box.replaceChildren(element("h3", "", "What would change"), drawComparison(await compare()));
  } catch (error) {
    box.replaceChildren(element("p", "notice wait", `What would change could not be told: ${error.message}`));
  }
}

let seen = null;

function drawReview(found) {
  seen = found.stored;
  byId("review-problem").hidden = true;
  byId("review-compare").replaceChildren();
  const conflict = byId("review-conflict");
  conflict.replaceChildren();
  if ((found.stored ?? null) !== (state.loaded ?? null)) {
    conflict.append(
      element("p", "notice bad", "Somebody else has saved these settings since you opened them. This is what they changed:"),
      drawChanges(found.others),
      element("p", "", "Saving puts your settings, as shown below, in the place of theirs."),
    );
    byId("review-save").textContent = "Save over theirs";
  } else byId("review-save").textContent = "Save";
  byId("review-changes").replaceChildren(element("h3", "", "Your settings, against what is stored"), drawChanges(found.changes));
  byId("review-warnings").replaceChildren(...(found.warnings ?? []).map((one) => element("p", "notice wait", one)));
}

async function write(text) {
  const body = { key: variable, value: text };
  const path = `variables/${encodeURIComponent(variable)}`;
  if (seen === null) {
    await askAirflow("POST", "variables", body);
    await enlist();
  } else await askAirflow("PATCH", path, body);
}

async function enlist() {
  let names = [];
  try {
    names = JSON.parse((await askAirflow("GET", `variables/${INDEX}`)).value);
  } catch (error) {
    if (!(error instanceof Refused && error.status === 404)) throw error;
    await askAirflow("POST", "variables", { key: INDEX, value: JSON.stringify([flow]) });
    return;
  }
  if (!names.includes(flow)) await askAirflow("PATCH", `variables/${INDEX}`, { key: INDEX, value: JSON.stringify([...names, flow]) });
}

async function save() {
  const text = state.text;
  const button = byId("review-save");
  button.disabled = true;
  try {
    const now = await askPage("GET", `${place}/stored`);
    if ((now.text ?? null) !== (seen ?? null)) {
      const found = await check({ text });
      if (found !== null) drawReview(found);
      return;
    }
    await write(text);
    forgetDraft(flow);
    ground = text;
    take({ loaded: text, text, changes: [] });
    byId("review").close();
    say("Saved. The next run uses these settings.");
  } catch (error) {
    byId("review-problem").textContent = error.message;
    byId("review-problem").hidden = false;
  } finally {
    button.disabled = false;
  }
}

// What is clicked

form.addEventListener("input", (event) => {
  const source = event.target.closest("[data-kind=source]");
  if (source) showForm(source);
  showInner();
  typed();
});
form.addEventListener("submit", (event) => event.preventDefault());

document.addEventListener("click", async (event) => {
  const path = event.target.dataset?.bench;
  if (path === undefined) return;
  await checkNow();
  location.href = address(`flows/${encodeURIComponent(flow)}/bench?source=${encodeURIComponent(path)}`);
});

function on(id, act) {
  byId(id)?.addEventListener("click", act);
}

on("as-json", () => showJson(!asJson));
on("save", review);
on("review-save", save);
on("review-cancel", () => byId("review").close());
on("compared-close", () => byId("compared").close());
on("would-change", async () => {
  byId("would-change").disabled = true;
  try {
    await checkNow();
    byId("compared-found").replaceChildren(drawComparison(await compare()));
    byId("compared").showModal();
  } catch (error) {
    say(error.message, "bad");
  } finally {
    drawState();
  }
});
on("forget", async () => {
  forgetDraft(flow);
  location.reload();
});
on("export", async () => {
  const answer = await fetch(address(`${place}/export`), { credentials: "same-origin" });
  if (answer.ok) download(`${variable}.json`, await answer.text());
  else say("There is nothing to export.", "bad");
});
byId("import")?.addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  if (file.size > 1_000_000) say("The file is larger than 1 MB.", "bad");
  else await replaceWith(await file.text(), `${file.name} is in the form now, and not saved.`);
  event.target.value = "";
});
jsonEditor.area.addEventListener("input", typed);

try {
  const found = await begin(flow, askPage);
  ground = found.text ?? "";
  jsonEditor.text = ground;
  fill(found.values);
  take({ ...found, text: ground });
  form.hidden = false;
} catch (error) {
  byId("state").replaceChildren(element("p", "notice bad", error.message));
}
