// What a person decides about plans. The journal is told through this page; what is due then is sent by an
// ordinary run, started through Airflow's API as the user.

import { Refused, askAirflow, askPage, say } from "./page.js";

const TITLES = {
  retry: ["Retry now", "A run tries these plans again."],
  arrived: ["It arrived", "You have looked it up: the ERP has it. Nothing is sent to the ERP again, Omnitron is told."],
  "not-arrived": ["It did not arrive", "You have looked it up: the ERP does not have it. It is sent again, with the same key."],
  release: ["Release", "The next run tries these plans once more."],
  resend: ["Resend", "These plans are sent AGAIN, as a new generation with a new key: the ERP cannot recognise a repeat."],
  dismiss: ["Dismiss", "Nothing more is sent or written for these plans, for good."],
};
const NEED_A_REASON = ["resend", "dismiss"];
const START_A_RUN = ["retry", "arrived", "not-arrived", "release", "resend"];

const dialog = document.getElementById("decision");
const part = (name) => document.getElementById(`decision-${name}`);

function byFlow(plans) {
  const flows = new Map();
  for (const plan of plans) flows.set(plan.flow, [...(flows.get(plan.flow) ?? []), plan]);
  return flows;
}

/** Starts a run for these plans of a flow; says whether it waits because the DAG is paused. */
export async function startRun(flow, pks) {
  const dag = `dags/order_cancel__${encodeURIComponent(flow)}`;
  const { is_paused: paused } = await askAirflow("GET", dag);
  await askAirflow("POST", `${dag}/dagRuns`, { logical_date: null, conf: { plan_ids: pks } });
  return paused ? `A run of ${flow} is queued; it waits because the DAG is paused.` : `A run of ${flow} has been started.`;
}

async function carryOut(word, plans, reason, withRun) {
  const lines = [];
  for (const [flow, chosen] of byFlow(plans)) {
    let pks = chosen.map((plan) => plan.pk);
    if (word !== "retry") {
      const rows = chosen.map((plan) => plan.row);
      const said = await askPage("POST", `flows/${encodeURIComponent(flow)}/decisions`, { rows, word, reason });
      pks = said.plans.filter((plan) => plan.done).map((plan) => plan.pk);
      lines.push(...said.plans.map((plan) => plan.message));
    }
    if (withRun && pks.length > 0) lines.push(await startRun(flow, pks));
  }
  return lines.join("\n");
}

function decide(word, plans) {
  const [title, words] = TITLES[word];
  part("title").textContent = `${title}: ${plans.length === 1 ? `plan ${plans[0].pk}` : `${plans.length} plans`}`;
  part("words").textContent = words;
  part("optional").textContent = NEED_A_REASON.includes(word) ? "" : "(if there is one)";
  part("reason").value = "";
  part("reason").closest("p").hidden = word === "retry";
  part("run-line").hidden = !START_A_RUN.includes(word) || word === "retry";
  part("run").checked = START_A_RUN.includes(word);
  part("problem").hidden = true;
  dialog.dataset.word = word;
  dialog.plans = plans;
  dialog.showModal();
}

function problem(place, error) {
  if (!(error instanceof Refused)) console.error(error);
  place.textContent = error.message;
  place.hidden = false;
}

function reloadWith(message) {
  sessionStorage.setItem("order-cancel-said", message);
  location.reload();
}

function chosen() {
  return [...document.querySelectorAll("input[data-plan]:checked")].map((box) => ({
    row: Number(box.value),
    flow: box.dataset.flow,
    pk: box.dataset.pk,
  }));
}

if (dialog !== null) {
  part("cancel").addEventListener("click", () => dialog.close());
  dialog.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    part("go").disabled = true;
    try {
      const withRun = part("run").checked;
      reloadWith(await carryOut(dialog.dataset.word, dialog.plans, part("reason").value, withRun));
    } catch (error) {
      problem(part("problem"), error);
    } finally {
      part("go").disabled = false;
    }
  });
}

const many = document.querySelector("[data-many]");
if (many !== null) {
  document.addEventListener("change", (event) => {
    if (event.target.matches("input[data-all]")) {
      for (const box of document.querySelectorAll("input[data-plan]")) box.checked = event.target.checked;
    }
    const number = chosen().length;
    many.hidden = number === 0;
    many.querySelector("[data-count]").textContent = `${number} chosen`;
  });
  many.addEventListener("click", (event) => {
    if (event.target.dataset.act) decide(event.target.dataset.act, chosen());
  });
}

const one = document.querySelector("[data-one]");
if (one !== null) {
  const plan = { row: Number(one.dataset.row), flow: one.dataset.flow, pk: one.dataset.pk };
  one.addEventListener("click", (event) => {
    if (event.target.dataset.act) decide(event.target.dataset.act, [plan]);
    if (event.target.dataset.edit !== undefined) document.getElementById("edit").showModal();
  });
}

const edit = document.getElementById("edit");
if (edit !== null) {
  const form = edit.querySelector("form");
  const field = (name) => document.getElementById(`edit-${name}`);
  field("cancel").addEventListener("click", () => edit.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { row, flow, pk } = form.dataset;
    const body = { content: field("body").value, reason: field("reason").value, despite_doubt: field("despite")?.checked ?? false };
    try {
      await askPage("POST", `flows/${encodeURIComponent(flow)}/plans/${row}/request`, body);
      reloadWith(`The edited request is kept.\n${await startRun(flow, [pk])}`);
    } catch (error) {
      problem(field("problem"), error);
    }
  });
}

const said = sessionStorage.getItem("order-cancel-said");
if (said !== null) {
  sessionStorage.removeItem("order-cancel-said");
  say(said);
}
