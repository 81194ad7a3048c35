// Settings that a person has changed and not saved, kept in this tab while the screens of the flow are changed.

const key = (flow) => `order_cancel_draft__${flow}`;

/** `{loaded, text}`: the stored text that the person began with, and the changed one; null for none. */
export function draftOf(flow) {
  try {
    return JSON.parse(sessionStorage.getItem(key(flow)));
  } catch {
    return null;
  }
}

export function keepDraft(flow, loaded, text) {
  sessionStorage.setItem(key(flow), JSON.stringify({ loaded, text }));
}

export function forgetDraft(flow) {
  sessionStorage.removeItem(key(flow));
}

/** The draft, or what is stored, as the page shows it: `{loaded, text, values, problems, warnings, changes}`. */
export async function begin(flow, askPage) {
  const place = `flows/${encodeURIComponent(flow)}/settings`;
  const stored = await askPage("GET", `${place}/stored`);
  const draft = draftOf(flow);
  if (draft === null || draft.text === stored.text) return { ...stored, loaded: stored.text, isDraft: false };
  const checked = await askPage("POST", `${place}/check`, { text: draft.text, loaded: draft.loaded ?? "" });
  return { ...checked, loaded: draft.loaded, isDraft: true };
}
