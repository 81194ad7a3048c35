// New, copied and deleted flows: Airflow's Variables, written through its API as the user. And whose plans a flow has
// whose Connection points to another Omnitron: into the journal, through this page.

import { Refused, askAirflow, askPage, say } from "./page.js";

const INDEX = "order_cancel_flows";
const settingsOf = (flow) => `order_cancel_flow__${flow}`;
const NAME = /^[a-z][a-z0-9_]{0,39}$/;
const NEW = { omnitron: { channel_type: "", cancel_status: "waiting", next_state: "approved" }, erp: { cancellation_api_url: "" } };

async function read(key) {
  try {
    return (await askAirflow("GET", `variables/${encodeURIComponent(key)}`)).value;
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return null;
    throw error;
  }
}

async function write(key, value) {
  const body = { key, value };
  if ((await read(key)) === null) await askAirflow("POST", "variables", body);
  else await askAirflow("PATCH", `variables/${encodeURIComponent(key)}`, body);
}

async function names() {
  return JSON.parse((await read(INDEX)) ?? "[]");
}

async function create(flow, text) {
  if (!NAME.test(flow)) throw new Error("A name begins with a small letter and holds small letters, digits and _, at most 40.");
  const flows = await names();
  if (flows.includes(flow) || (await read(settingsOf(flow))) !== null) throw new Error(`There is a flow ${flow} already.`);
  await write(settingsOf(flow), text);
  await write(INDEX, JSON.stringify([...flows, flow]));
}

async function remove(flow) {
  await write(INDEX, JSON.stringify((await names()).filter((name) => name !== flow)));
  await askAirflow("DELETE", `variables/${encodeURIComponent(settingsOf(flow))}`);
}

const dialog = document.getElementById("name");
const part = (name) => document.getElementById(`name-${name}`);

function askName(title, words, button, carryOut) {
  part("title").textContent = title;
  part("words").textContent = words;
  part("go").textContent = button;
  part("field").value = "";
  part("problem").hidden = true;
  dialog.carryOut = carryOut;
  dialog.showModal();
}

part("cancel").addEventListener("click", () => dialog.close());
dialog.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await dialog.carryOut(part("field").value.trim());
    location.reload();
  } catch (error) {
    part("problem").textContent = error.message;
    part("problem").hidden = false;
  }
});

document.addEventListener("click", async (event) => {
  const { copy, open, delete: gone, new: fresh, flow: ofFlow, other, same } = event.target.dataset;
  if (fresh !== undefined) {
    const words = "It begins without a schedule and with settings that are still to be filled in; until then its runs fail and send nothing.";
    askName("New flow", words, "Create", (flow) => create(flow, JSON.stringify(NEW)));
  } else if (copy !== undefined) {
    askName(`Copy ${copy}`, "The copy has the same settings, but no schedule.", "Copy", async (flow) => {
      // Airflow's API would show stars for what stands under names such as `password`.
      const { text } = await askPage("GET", `flows/${encodeURIComponent(copy)}/settings/stored`);
      const settings = JSON.parse(text ?? "{}");
      await create(flow, JSON.stringify({ ...settings, schedule: null }));
    });
  } else if (gone !== undefined) {
    const waiting = Number(open) > 0 ? `It has ${open} open plans, which nobody will send any more. ` : "";
    askName(`Delete ${gone}`, `${waiting}Its settings are gone then; the journal keeps its plans. Write its name to delete it.`, "Delete", async (flow) => {
      if (flow !== gone) throw new Error(`Write ${gone} to delete it.`);
      await remove(gone);
      say(`${gone} is deleted.`);
    });
  } else if (same !== undefined) {
    const title = same === "yes" ? `${other} is the same Omnitron` : `${other} is another Omnitron`;
    const words =
      same === "yes"
        ? "All plans of it go on under the new address, and what was sent is not sent again."
        : "Its plans stay as they are and are not sent while the Connection points elsewhere; runs begin all the same.";
    askName(title, `${words} Write the flow's name to say so.`, "Say so", async (flow) => {
      if (flow !== ofFlow) throw new Error(`Write ${ofFlow} to say so.`);
      await askPage("POST", `flows/${encodeURIComponent(flow)}/omnitron`, { other, same: same === "yes" });
    });
  }
});
