// What the screens of one flow draw alike: line differences, an editor's line numbers and marked lines, files.

/** An element with a class and a text. */
export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

const KINDS = { "+": "added", "-": "removed", "@": "skipped" };

/** Lines of a difference, coloured; the sign before each says the same without colour. */
export function drawDiff(lines) {
  const box = element("pre", "diff");
  box.tabIndex = 0;
  for (const line of lines) box.append(element("span", KINDS[line[0]] ?? "", line.startsWith("@@") ? "…" : line));
  return box;
}

/** Changes of settings, field by field. */
export function drawChanges(changes) {
  const box = element("div");
  for (const change of changes) {
    const one = element("section", "change");
    const words = change.before === null ? " (new)" : change.after === null ? " (left out)" : "";
    one.append(element("h3", "", `${change.path || "the settings"}${words}`), drawDiff(change.lines));
    box.append(one);
  }
  if (changes.length === 0) box.append(element("p", "muted", "Nothing differs."));
  return box;
}

/** What a change makes of the last plans' requests. */
export function drawComparison(found) {
  const box = element("div");
  const { compared, left, differing } = found;
  const late = left > 0 ? ` For ${left} more there was no time.` : "";
  const words = compared === 0 ? "The journal holds no plan to try this on." :
    `Of the last ${compared} plans, the ERP request of ${differing.length} would differ. Nothing was sent.`;
  box.append(element("p", "", words + late));
  for (const plan of differing) {
    const one = element("details", "section");
    one.append(element("summary", "", plan.name), drawDiff(plan.lines));
    one.open = differing.length <= 3;
    box.append(one);
  }
  return box;
}

/** Numbers the lines of an editor; `mark` shows which are meant, and moves to the last of them. */
export class Editor {
  constructor(textarea) {
    this.area = textarea;
    this.gutter = textarea.closest("[data-editor]").querySelector(".gutter");
    this.marked = [];
    textarea.addEventListener("input", () => {
      this.marked = [];
      this.draw();
    });
    textarea.addEventListener("scroll", () => (this.gutter.scrollTop = textarea.scrollTop));
    this.draw();
  }

  get text() {
    return this.area.value;
  }

  set text(text) {
    this.area.value = text;
    this.marked = [];
    this.draw();
  }

  mark(lines) {
    this.marked = lines;
    this.draw();
    const last = lines.at(-1);
    if (last === undefined) return;
    const height = Number.parseFloat(getComputedStyle(this.area).lineHeight);
    this.area.scrollTop = Math.max(0, (last - 5) * height);
    this.gutter.scrollTop = this.area.scrollTop;
  }

  draw() {
    const count = this.area.value.split("\n").length;
    const parts = [];
    let plain = "";
    for (let number = 1; number <= count; number += 1) {
      if (this.marked.includes(number)) {
        parts.push(plain, element("span", "marked", `▶ ${number}`), "\n");
        plain = "";
      } else plain += `${number}\n`;
    }
    this.gutter.replaceChildren(...parts, plain);
  }
}

/** Hands a text to the person as a file. Airflow's frame may not download: its outer document may. */
export function download(name, text) {
  let place = document;
  try {
    place = window.parent.document ?? document;
  } catch {
    place = document;
  }
  const link = place.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  place.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
