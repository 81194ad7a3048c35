// What every screen shares: requests to this page and to Airflow's API, messages, links out of the frame.

const root = new URL(document.body.dataset.root, location.href);

/** An address below the page's root. */
export function address(path) {
  return new URL(path, root);
}

/** An address of Airflow itself: the page is mounted one step below it. */
export function airflowAddress(path) {
  return new URL(`../${path}`, root);
}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(url, method, body) {
  const answer = await fetch(url, {
    method,
    credentials: "same-origin",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  let said = null;
  try {
    said = text ? JSON.parse(text) : null;
  } catch {
    said = null;
  }
  if (!answer.ok) {
    throw new Refused(answer.status, wordsOf(said) || text || `HTTP ${answer.status}`);
  }
  return said;
}

function wordsOf(said) {
  const detail = said?.error ?? said?.detail;
  if (detail === undefined || detail === null) return "";
  return typeof detail === "string" ? detail : JSON.stringify(detail);
}

/** A request to this page; gives its JSON. Throws Refused with the reason in words. */
export function askPage(method, path, body) {
  return ask(address(path), method, body);
}

/** A request to Airflow's API as the signed-in user, so that Airflow's rights and audit log hold. */
export function askAirflow(method, path, body) {
  return ask(airflowAddress(`api/v2/${path}`), method, body);
}

/** Say something in the corner of the page; screen readers hear it. */
export function say(message, kind = "good") {
  const place = document.getElementById("said");
  const line = document.createElement("p");
  line.className = `notice ${kind}`;
  line.textContent = message;
  place.replaceChildren(line);
}

// Airflow shows this page in a frame that may not navigate its top: a link of the outer document may.
function leave(url) {
  let outer = null;
  try {
    outer = window.parent === window ? null : window.parent.document;
  } catch {
    outer = null;
  }
  if (outer === null) {
    location.href = url;
    return;
  }
  const link = outer.createElement("a");
  link.href = url;
  outer.body.append(link);
  link.click();
  link.remove();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-airflow]");
  if (link === null || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  leave(link.href);
});
