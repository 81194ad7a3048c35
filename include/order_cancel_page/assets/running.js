// A flow's DAG: on or off, and a run now. Through Airflow's API as the user; the runs are ordinary ones.

import { Refused, askAirflow, say } from "./page.js";

const bar = document.getElementById("running");
const state = document.getElementById("running-state");
const dag = `dags/order_cancel__${encodeURIComponent(bar.dataset.flow)}`;
const [toggle, start] = ["running-switch", "running-start"].map((id) => document.getElementById(id));
const LOOK_AGAIN = 3000;
const LOOKS = 40;
let paused = null;

async function look(left) {
  try {
    ({ is_paused: paused } = await askAirflow("GET", dag));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    paused = null;
    if (error.status === 404 && left > 0) setTimeout(() => look(left - 1), LOOK_AGAIN);
  }
  draw();
}

function draw() {
  state.textContent = paused === null ? "no DAG yet" : paused ? "paused" : "on";
  state.className = `badge ${paused === null ? "" : paused ? "state-paused" : "state-done"}`;
  toggle.disabled = start.disabled = paused === null;
  toggle.textContent = paused === false ? "Switch off" : "Switch on";
}

async function act(what) {
  try {
    await what();
  } catch (error) {
    say(error.message, "bad");
  }
}

toggle.addEventListener("click", () =>
  act(async () => {
    ({ is_paused: paused } = await askAirflow("PATCH", dag, { is_paused: paused === false }));
    draw();
    say(paused ? "Switched off: no run starts by itself." : "Switched on: it runs by its schedule, and when somebody starts it.");
  }),
);

start.addEventListener("click", () =>
  act(async () => {
    await askAirflow("POST", `${dag}/dagRuns`, { logical_date: null, conf: {} });
    say(paused ? "A run is queued; it waits because the flow is switched off." : "A run has been started.");
  }),
);

look(LOOKS);
