// What people say about answers, on its way to the server: only with consent, which is asked once;
// kept in this browser until the server has it on disk. Each has an id, so sending twice does no harm.

import { sendFeedback } from "./api.js";
import { $, ask, newId, toast } from "./dom.js";
import { list, saveList, saveSettings, settings } from "./store.js";
import { t } from "./words.js";

const MOST_KNOWN = 10000; // judgements that this browser can take back

let sending = null; // promise of what is under way
let timer = 0;

// Whether opinions may be sent; asks if nobody has answered that yet.
export async function consented() {
  if (settings.consent === null) {
    const answer = await ask($("consent"));
    if (answer) saveSettings({ consent: answer === "yes" }); // else it was closed without one
  }
  if (!settings.consent) toast(t("notSent"));
  return settings.consent === true;
}

// Send a judgement in place of an older one, if there was one; its id, at once.
export function give(judgement, replaces) {
  const id = newId();
  queue({ id, consent: true, ...judgement, ...(replaces && { replaces }) });
  saveList("sent", [...list("sent"), id].slice(-MOST_KNOWN));
  flush().then((done) => toast(t(done ? "thanks" : "waiting")));
  return id;
}

// Let the server forget some judgements; those that still wait here are not sent at all.
export function takeBack(ids) {
  const gone = new Set(ids);
  saveList(
    "outbox",
    list("outbox").filter((one) => !gone.has(one.id)),
  );
  saveList(
    "sent",
    list("sent").filter((id) => !gone.has(id)),
  );
  for (let at = 0; at < ids.length; at += 1000) {
    queue({ kind: "withdrawal", id: newId(), forget: ids.slice(at, at + 1000) });
  }
  return flush();
}

export async function withdrawConsent() {
  saveSettings({ consent: false });
  saveList(
    "outbox",
    list("outbox").filter((one) => one.kind === "withdrawal"),
  );
  const sent = list("sent");
  if (!sent.length) return;
  $("withdraw-text").textContent = t("withdrawText", { n: sent.length });
  if ((await ask($("withdraw"))) === "yes") {
    await takeBack(sent);
    toast(t("withdrawn"));
  }
}

function queue(judgement) {
  saveList("outbox", [...list("outbox"), judgement]);
}

// Send what waits, one after another; whether all of it is gone.
export function flush() {
  clearTimeout(timer);
  sending ??= sendAll().finally(() => (sending = null));
  return sending;
}

async function sendAll() {
  for (let next; (next = list("outbox")[0]);) {
    if (!(await sent(next))) {
      timer = setTimeout(flush, 5000);
      return false;
    }
    saveList(
      "outbox",
      list("outbox").filter((one) => one.id !== next.id),
    );
  }
  return true;
}

// Whether it need not be sent again: the server has it, or will never take it.
async function sent(judgement) {
  try {
    await sendFeedback(judgement);
    return true;
  } catch (error) {
    const never =
      error.status >= 400 && error.status < 500 && ![401, 408, 429].includes(error.status);
    if (never || error.status === 507) toast(t("refusedFeedback", { why: error.message }));
    return never || error.status === 507;
  }
}
