// The test bench: a script or mapping on one document, its result beside it.

import { address, askPage, say } from "./page.js";
import { begin, keepDraft } from "./drafts.js";
import { Editor, download, element } from "./drawing.js";

const here = document.getElementById("bench");
const flow = here.dataset.flow;
const place = `flows/${encodeURIComponent(flow)}`;
const byId = (id) => document.getElementById(id);
const [text, input, request] = ["text", "input", "request"].map((id) => new Editor(byId(id)));
const kinds = [...here.querySelectorAll("input[name=kind]")];
const INPUTS = {
  script: "Input: the plan's document (JSON)",
  mapping: "Input: the document before the mapping (JSON)",
  response: "Input: the ERP's answer",
  post: "Input: the ERP's answer",
};
const shipped = byId("shipped-script").content.textContent;

let settings = { loaded: null, text: "", values: {} };
let texts = {};
let kind = "script";
let stored = null;
let golden = null;

const sourceOf = (one) => kinds.find((input) => input.value === one).dataset.source;
const answers = () => kind === "response" || kind === "post";

function choose(wanted) {
  texts[kind] = text.text;
  kind = wanted;
  for (const one of kinds) one.checked = one.value === wanted;
  const title = kinds.find((one) => one.value === wanted).closest("label").textContent.trim();
  byId("text-title").textContent = title;
  byId("input-title").textContent = INPUTS[wanted];
  byId("request-part").hidden = !answers();
  byId("shipped").hidden = wanted !== "response";
  text.text = texts[wanted] ?? "";
  tellPlace();
  hideError();
  if (stored) fillFromJournal();
}

function tellPlace() {
  const source = settings.values[sourceOf(kind)];
  const file = source?.form === "file" ? source.file : null;
  byId("place").hidden = file === null;
  byId("place").textContent = file === null ? "" : `The settings take this from the file ${file}. What you keep here takes the file's place.`;
}

// Input

function fillFromJournal() {
  const { bodies, answer_attributes: status } = stored;
  const wanted = { script: bodies.document, mapping: bodies.script ?? bodies.document, response: bodies.response, post: bodies.response }[kind];
  if (wanted === null) say("The journal does not hold this of the plan (any more).", "wait");
  else input.text = indented(wanted);
  request.text = bodies.request === null ? "" : indented(bodies.request);
  if (kind === "response") for (const [name, value] of Object.entries(status)) attribute(name, value);
}

// Through the text, not through JSON.parse: numbers stay as they were written.
function indented(content) {
  if (!/^\s*[{[]/.test(content) || content.includes("\n")) return content;
  let depth = 0;
  let made = "";
  let quoted = false;
  for (let at = 0; at < content.length; at += 1) {
    const sign = content[at];
    if (quoted) {
      made += sign;
      if (sign === "\\") made += content[++at] ?? "";
      else if (sign === '"') quoted = false;
    } else if (sign === '"') {
      quoted = true;
      made += sign;
    } else if (sign === "{" || sign === "[") {
      const empty = /^[{[]\s*[}\]]/.exec(content.slice(at, at + 20));
      if (empty) {
        made += empty[0].replace(/\s/g, "");
        at += empty[0].length - 1;
      } else made += `${sign}\n${"  ".repeat(++depth)}`;
    } else if (sign === "}" || sign === "]") made += `\n${"  ".repeat(--depth)}${sign}`;
    else if (sign === ",") made += `,\n${"  ".repeat(depth)}`;
    else if (sign === ":") made += ": ";
    else if (sign.trim()) made += sign;
  }
  return made;
}

function attribute(name = "", value = "") {
  const same = [...byId("attributes").children].find((row) => name && row.children[0].value === name);
  if (same) {
    same.children[1].value = value;
    return;
  }
  const row = element("div", "attribute");
  const [nameField, valueField] = [element("input"), element("input")];
  nameField.setAttribute("aria-label", "Attribute's name");
  valueField.setAttribute("aria-label", "Attribute's value");
  nameField.placeholder = "name";
  valueField.placeholder = "value";
  nameField.value = name;
  valueField.value = value;
  const gone = element("button", "", "Remove");
  gone.type = "button";
  gone.addEventListener("click", () => {
    row.remove();
    byId("add").focus();
  });
  row.append(nameField, valueField, gone);
  byId("attributes").append(row);
  if (!name) nameField.focus();
}

function attributes() {
  const found = {};
  for (const row of byId("attributes").children) {
    const [name, value] = row.children;
    if (name.value.trim()) found[name.value.trim()] = value.value;
  }
  return found;
}

// Trying

function hideError() {
  byId("error").hidden = true;
  text.mark([]);
}

async function tryIt() {
  const button = byId("try");
  button.disabled = true;
  hideError();
  try {
    const body = { kind, text: text.text, input: input.text || (answers() ? "" : "{}"), request: answers() ? request.text : "", attributes: attributes() };
    draw(await askPage("POST", `${place}/bench/try`, body));
  } catch (error) {
    byId("error").textContent = error.message;
    byId("error").hidden = false;
  } finally {
    button.disabled = false;
  }
}

function block(title, content) {
  const part = element("section");
  const shown = element("pre", "", content);
  shown.tabIndex = 0;
  part.append(element("h3", "", title), shown);
  return part;
}

function draw(found) {
  golden = found.case;
  byId("case").disabled = false;
  byId("nothing").hidden = true;
  const columns = element("div", "columns");
  if (found.error) {
    byId("error").textContent = found.error;
    byId("error").hidden = false;
    text.mark(found.lines);
    columns.append(block("Error", found.error));
  }
  if (found.relation !== null) columns.append(block("Relation", found.reason ? `${found.relation}: ${found.reason}` : found.relation));
  if (found.result_data !== null) columns.append(block("result_data", found.result_data));
  columns.append(block("attributes", JSON.stringify(found.attributes, null, 2)));
  if (found.log.length > 0) columns.append(block("Log", found.log.join("\n")));
  const parts = [columns];
  if (found.steps.length > 0) {
    parts.push(element("h3", "", "The document after each operation"));
    found.steps.forEach(({ operation, document: after }, index) => {
      const step = element("details", "section");
      step.append(element("summary", "", `${index + 1}. ${operation}`), element("pre", "", after));
      parts.push(step);
    });
  }
  byId("result").replaceChildren(...parts);
  if (!found.error) byId("result-title").scrollIntoView({ block: "center" }); // the editors fill most windows
}

// What is clicked

for (const one of kinds) one.addEventListener("change", () => choose(one.value));
byId("try").addEventListener("click", tryIt);
byId("add").addEventListener("click", () => attribute());
byId("shipped").addEventListener("click", () => {
  text.text = shipped;
});
byId("case").addEventListener("click", () => download(`${flow}_${kind}.json`, `${golden}\n`));
byId("keep").addEventListener("click", async () => {
  const source = { form: text.text.trim() ? "text" : "none", text: text.text, file: "" };
  try {
    const body = { text: settings.text ?? "", values: { ...settings.values, [sourceOf(kind)]: source }, loaded: settings.loaded ?? "" };
    const found = await askPage("POST", `${place}/settings/check`, body);
    keepDraft(flow, settings.loaded, found.text);
    location.href = address(`${place}/settings`);
  } catch (error) {
    say(error.message, "bad");
  }
});
byId("plan").addEventListener("change", async (event) => {
  if (!event.target.value) return;
  try {
    stored = await askPage("GET", `${place}/bench/plans/${event.target.value}`);
    fillFromJournal();
  } catch (error) {
    say(error.message, "bad");
  }
});
byId("live").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const found = await askPage("POST", `${place}/bench/live`, { pk: byId("pk").value });
    stored = null;
    byId("plan").value = "";
    input.text = found.document;
  } catch (error) {
    say(error.message, "bad");
  }
});

async function open() {
  const source = new URLSearchParams(location.search).get("source");
  const wanted = kinds.find((one) => one.dataset.source === source)?.value ?? "script";
  const [begun, listed] = await Promise.all([begin(flow, askPage), askPage("GET", `${place}/bench/plans`)]);
  settings = { ...begun, text: begun.text ?? "" };
  texts = Object.fromEntries(kinds.map((one) => [one.value, settings.values[one.dataset.source]?.text ?? ""]));
  kind = wanted;
  text.text = texts[wanted];
  for (const plan of listed.plans) byId("plan").append(new Option(`${plan.name} (${plan.state})`, plan.row));
  choose(wanted);
}

open().catch((error) => say(error.message, "bad"));
