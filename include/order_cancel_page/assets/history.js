// Earlier settings: what returning to them changes, and the way back into the form.

import { address, askPage, say } from "./page.js";
import { keepDraft } from "./drafts.js";
import { drawChanges } from "./drawing.js";

const table = document.getElementById("history");
const dialog = document.getElementById("earlier");
let text = null;

table?.addEventListener("click", async (event) => {
  const { digest } = event.target.dataset;
  if (digest === undefined) return;
  try {
    const found = await askPage("GET", `flows/${encodeURIComponent(table.dataset.flow)}/settings/history/${digest}`);
    text = found.text;
    document.getElementById("earlier-changes").replaceChildren(drawChanges(found.changes));
    dialog.showModal();
  } catch (error) {
    say(error.message, "bad");
  }
});

document.getElementById("earlier-close").addEventListener("click", () => dialog.close());
document.getElementById("earlier-take")?.addEventListener("click", async () => {
  const flow = table.dataset.flow;
  const place = `flows/${encodeURIComponent(flow)}/settings`;
  const stored = await askPage("GET", `${place}/stored`);
  keepDraft(flow, stored.text, text);
  location.href = address(place);
});
